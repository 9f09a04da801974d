"""What the tests of stores share: data, reading through the operations alone, and impatient clients."""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

import pagein
from pagein import File
from pagein.mm.device import BackingDevice
from pagein.stores import AsyncRangeOperations, Opened, Source, object as object_store, read_range, source_of

MIB = 1 << 20
DATA = random.Random(1).randbytes(3 * MIB + 1234)
OTHER = random.Random(2).randbytes(len(DATA))

IMPATIENT: dict[str, Any] = {
    "retry_config": {
        "max_retries": 2,
        "retry_timeout": timedelta(seconds=5),
        "backoff": {
            "init_backoff": timedelta(milliseconds=1),
            "max_backoff": timedelta(milliseconds=2),
            "base": 2,
        },
    },
}
DEADLINE_S = 20.0
ONE_TRY: dict[str, Any] = {"retry_config": {"max_retries": 0}}


client, fetches_here = "ours", False
"""Who reads a URL of HTTP, and whether obstore is called by who waits for it: what the fixture `each_client` sets."""


def source(url: Any, **options: Any) -> Source:
    """What `source_of` makes of it, but for HTTP, which is read by the client whose turn it is."""
    if client == "obstore" and isinstance(url, str) and url.startswith("http"):
        return object_store.source_of_url(url, options)
    return source_of(url, **options)


@contextmanager
def opened(what: Any, **options: Any) -> Iterator[Opened]:
    """One version of a source, or of what `source` makes of it."""
    found: Source = what if hasattr(what, "open") and hasattr(what, "key") else source(what, **options)
    version = found.open()
    try:
        yield version
    finally:
        version.close()


def fill(version: Opened, size_bytes: int, offset_bytes: int) -> bytes:
    """A fetch, without a cache; by the calling thread itself, if that is `fetches_here`."""
    if fetches_here and isinstance(version.ops, AsyncRangeOperations):
        data = version.ops.fetch_here(offset_bytes, size_bytes)
        if data is not None:
            return bytes(data)
    return read_range(version.ops, offset_bytes, size_bytes)


def read_whole(cache: pagein.PageCache, source: Any, **options: Any) -> bytes:
    """All of a file."""
    with cache.open(source, **options) as file:
        data = file.read()
    assert isinstance(data, bytes)
    return data


def read_in_order(file: File, size: int) -> bytes:
    """All of a file, so much at a time."""
    return b"".join(iter(lambda: file.read(size), b""))


def device_of(file: File) -> BackingDevice:
    """Its store, as the cache has it."""
    return file._file.mapping.device


def wait_until(is_so: Callable[[], bool]) -> None:
    """What others are about to do."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline_s
        os.sched_yield()


@contextmanager
def raises_errno(number: int, words: str | None = None) -> Iterator[pytest.ExceptionInfo[OSError]]:
    """An OSError with that errno, which names what it is about."""
    with pytest.raises(OSError, match=words) as raised:
        yield raised
    assert errno.errorcode[raised.value.errno or 0] == errno.errorcode[number], raised.value
    assert raised.value.filename
