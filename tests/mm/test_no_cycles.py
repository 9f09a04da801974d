"""What is let go is gone at once, without the garbage collector's help: a pin that waits for it is memory lost.

The tests read in a thread that gets no signals, where a fetch runs on the stack of its reader: an error of the fetch
that is kept keeps, by its traceback, that whole stack.
"""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import pytest
from tests.torture.world import FetchError, World

from pagein.units import PAGE_SIZE

T = TypeVar("T")


@pytest.fixture(autouse=True)
def no_garbage_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def in_a_thread(run: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(run).result()


@pytest.mark.parametrize("run_pages", [0, 2])
def test_a_view_whose_readahead_failed_ends_with_its_block(run_pages: int) -> None:
    with World() as world:
        file, _ = world.open(pages=2, run_pages=run_pages, failures=1)

        def view() -> None:
            with file.view(2 * PAGE_SIZE, 0):
                pass

        in_a_thread(view)
        world.assert_idle()


@pytest.mark.parametrize("run_pages", [0, 2])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_error_that_was_handled_keeps_nothing_of_its_reader_alive(run_pages: int, asynchronous: bool) -> None:
    class Local:
        pass

    with World() as world:
        file, _ = world.open(pages=2, run_pages=run_pages, failures=3, asynchronous=asynchronous)

        def read() -> weakref.ref[Local]:
            local = Local()
            try:
                file.pread(2 * PAGE_SIZE, 0)
            except FetchError:
                return weakref.ref(local)
            raise AssertionError("the fetch was to fail")

        assert in_a_thread(read)() is None
        world.assert_idle()


@pytest.mark.parametrize("run_pages", [0, 2])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_was_read_keeps_nothing_of_its_file(run_pages: int, asynchronous: bool) -> None:
    """A large one has descriptors, too, which it would keep until the collector comes by."""
    with World() as world:
        file, _ = world.open(pages=2, run_pages=run_pages, asynchronous=asynchronous)
        in_a_thread(partial(file.pread, 2 * PAGE_SIZE, 0))
        mapping = weakref.ref(file._file.mapping)
        file.close()
        del file
        world.cache.stats()  # sweeps
        world.assert_idle()
        assert mapping() is None


def test_a_cache_that_is_dropped_without_being_closed_gives_its_memory_back() -> None:
    """A memory file that stays open keeps all its pages."""
    before = set(os.listdir("/proc/self/fd"))
    file = World().open()[0]
    file.pread(PAGE_SIZE, 0)
    del file
    gc.collect()
    assert set(os.listdir("/proc/self/fd")) <= before
