"""Many files open at once: what each costs in memory and in time, beside its pages."""

from __future__ import annotations

import gc
import os
import tracemalloc
import weakref
from typing import Any

import pytest
from tests.file.sources import Bytes

from pagein import PageCache
from pagein.mm.mapping import AddressSpace
from pagein.stores import MemoryStore
from pagein.stores.source import Opened

FILES, FILE_BYTES = 400, 48 << 10
BYTES_A_FILE_MAX = 4600
"""13,562 of them take 60 MiB.  (3.7 KB is what was measured; Python 3.11.)"""


def test_an_open_file_that_was_read_costs_little_beside_its_pages() -> None:
    data = os.urandom(FILE_BYTES)
    store = MemoryStore({f"file-{number}": data for number in range(FILES + 1)})
    sources = [(store, f"file-{number}") for number in range(FILES + 1)]
    with PageCache("4 MiB") as cache:  # less than the files have
        with cache.open(sources.pop()) as file:
            file.read()
        gc.collect()
        tracemalloc.start()
        try:
            files = [cache.open(source) for source in sources]
            for file in files:  # as Parquet is read: the end, then what it says
                file.seek(-8, os.SEEK_END)
                assert file.read(8) == data[-8:]
                assert file.pread(FILE_BYTES, 0) == data
            del file
            gc.collect()
            took_bytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert cache.stats().open_files == FILES
        assert cache.stats().resident_bytes <= 4 << 20
        assert took_bytes / FILES <= BYTES_A_FILE_MAX


class Head(bytearray):
    """Bytes that can be asked whether somebody still has them."""


class ComesWithHead:
    """A source of which all comes with the open, as of a small object in a bucket."""

    key = name = "head"

    def __init__(self) -> None:
        self.given: weakref.ref[Head] | None = None

    def open(self) -> Opened:
        raise AssertionError("it is not known yet")

    def open_with_head(self) -> Opened:
        head = Head(b"x" * FILE_BYTES)
        self.given = weakref.ref(head)
        return Opened(Bytes(b""), FILE_BYTES, "1", head=head)


def test_what_came_with_the_open_is_in_the_cache_and_nowhere_else(
    cache: PageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ComesWithHead()
    monkeypatch.setattr("pagein.stores.source_of", lambda *_: source)
    with cache.open("anything") as file:
        gc.collect()
        assert source.given is not None
        assert source.given() is None
        assert file.read() == b"x" * FILE_BYTES


class NotToBeWalked(weakref.WeakSet[AddressSpace]):
    def __iter__(self) -> Any:
        raise AssertionError("a miss has looked at every file of the cache")


def test_a_miss_with_memory_to_spare_looks_at_no_other_file(cache: PageCache) -> None:
    data = os.urandom(FILE_BYTES)
    with cache.open((MemoryStore({"file": data}), "file")) as file:
        mappings = cache._zone.mappings
        cache._zone.mappings = NotToBeWalked()
        try:
            assert file.read() == data
        finally:
            cache._zone.mappings = mappings
