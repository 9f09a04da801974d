"""The asynchronous face, as in production and with the contract asserted: every test leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from tests.aio.sources import assert_at_rest

from pagein import PageCache
from pagein.testing.stores import PATIENCE_S
from pagein.units import PAGE_SIZE

KEPT_FOR_EVER = ("pagein-loop", "asyncio_")
"""The event loop of asynchronous stores, one for each process; asyncio's own executor is ended by `asyncio.run`."""


@pytest.fixture(autouse=True)
def no_thread_and_no_file_is_left() -> Iterator[None]:
    files, threads = open_files(), set(threading.enumerate())
    yield
    deadline_s = time.monotonic() + PATIENCE_S
    while begun := [each for each in threading.enumerate() if is_to_end(each) and each not in threads]:
        assert time.monotonic() < deadline_s, f"{begun} go on after the test"
        if begun[0].ident is not None:  # else it is about to start
            begun[0].join(PATIENCE_S)
    if not open_files() <= files:
        gc.collect()  # event loops are cycles
        assert open_files() <= files


def is_to_end(thread: threading.Thread) -> bool:
    return not thread.name.startswith(KEPT_FOR_EVER)


def open_files() -> set[tuple[str, str]]:
    """(descriptor, what it is) of all files; not of sockets, which the loop and obstore keep, nor of caches' memory,
    which goes with the last object that shows it."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:  # that of listdir() itself
            continue
        if target.startswith("/") and not target.startswith("/memfd:pagein-"):
            found.add((fd, target))
    return found


@pytest.fixture(params=[False, True], ids=["plain", "debug"])
def debug(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def make_cache(debug: bool) -> Iterator[Callable[[int], PageCache]]:
    """Caches of so many pages, at rest before they are closed."""
    made: list[PageCache] = []

    def make(cap_pages: int) -> PageCache:
        made.append(PageCache(cap_pages * PAGE_SIZE, debug=debug))
        return made[-1]

    yield make
    for cache in made:
        try:
            assert_at_rest(cache)
        finally:
            cache.close()


@pytest.fixture
def cache(make_cache: Callable[[int], PageCache]) -> PageCache:
    return make_cache(64)


@pytest.fixture(autouse=True)
def no_loop_is_left() -> Iterator[None]:
    yield
    assert asyncio._get_running_loop() is None
