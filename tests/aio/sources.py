"""What the tests of the asynchronous face read, and how they wait: by turns of the loop, never by the clock.

Not here: the answers of scripted stores (pagein.testing.stores).
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, TypeVar

import pagein
from pagein import PageCache
from pagein.aio import AsyncFile
from pagein.mm.aops import AddressSpaceOperations
from pagein.mm.mapping import AddressSpace
from pagein.mm.workqueue import Workqueue
from pagein.stores.ranges import AsyncRangeOperations
from pagein.stores.source import Opened
from pagein.testing import leaks
from pagein.testing.stores import PATIENCE_S, pattern
from pagein.units import PAGE_SIZE

T = TypeVar("T")


class Place:
    """A store with one object, of the given operations."""

    name = "place"

    def __init__(self, ops: AddressSpaceOperations, size_bytes: int) -> None:
        self.ops = ops
        self.size_bytes = size_bytes
        self.key = ("place", id(self))
        self.opened_count = 0
        self.closed = threading.Semaphore(0)
        """Once for each time that it was opened."""

    def source(self, path: str) -> Place:
        return self

    def open(self) -> Opened:
        self.opened_count += 1
        return Opened(self.ops, self.size_bytes, version="1", close=self.close)

    def close(self) -> None:
        self.closed.release()

    def is_closed(self) -> bool:
        """Whether it has been closed once more since this was last found to be so."""
        return self.closed.acquire(blocking=False)


class LaterBytes(AsyncRangeOperations):
    """The usual pattern, once the test has let it come; no thread waits for it."""

    def __init__(self, *, requests_max: int = 64, held: bool = True) -> None:
        self.requests_max = requests_max
        self.fetches: list[tuple[int, int]] = []
        self._held = held
        self._waiting: list[asyncio.Future[None]] = []
        self._changed = threading.Condition()

    async def fetch(self, offset_bytes: int, size_bytes: int) -> bytes:
        arrival = asyncio.get_running_loop().create_future()
        with self._changed:
            self.fetches.append((offset_bytes, size_bytes))
            if self._held:
                self._waiting.append(arrival)
            else:
                arrival.set_result(None)
            self._changed.notify_all()
        await arrival
        return pattern(offset_bytes, size_bytes)

    def release(self) -> None:
        """Let all come, also those that are asked for later."""
        with self._changed:
            self._held = False
            waiting, self._waiting = self._waiting, []
        for arrival in waiting:
            arrival.get_loop().call_soon_threadsafe(arrival.set_result, None)

    def wait_for_fetches(self, count: int) -> None:
        """Blocks the calling thread, and its loop, until the store has been asked so often."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.fetches) >= count, PATIENCE_S), "the store was not asked"


async def open_file(
    cache: PageCache, ops: AddressSpaceOperations, *, page_count: int = 8, random: bool = True
) -> AsyncFile:
    """A file of so many pages; one page a miss, unless *random* is false."""
    file = await pagein.aio.open((Place(ops, page_count * PAGE_SIZE), "path"), cache=cache)
    if random:
        file.advise("random")
    return file


def mapping_of(file: AsyncFile) -> AddressSpace:
    return file._reader._mapping


def waiting_for(file: AsyncFile, index: int) -> int:
    """How many stand in line for a page."""
    page = mapping_of(file).in_flight.get(index)
    return page.waiter_count if page else 0


def page_at(index: int, page_count: int = 1) -> bytes:
    """What is in these pages."""
    return pattern(index * PAGE_SIZE, page_count * PAGE_SIZE)


def read_page(file: AsyncFile, index: int) -> asyncio.Task[bytes]:
    """A task that reads a page."""
    return asyncio.ensure_future(file.pread(PAGE_SIZE, index * PAGE_SIZE))


async def turns(count: int = 4) -> None:
    """Let what is ready go on: tasks that were just made come to their wait, and what they miss is handed over."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(predicate: Callable[[], object]) -> None:
    """Let others run until *predicate* is true."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + PATIENCE_S
    while not predicate():
        assert loop.time() < deadline_s, f"waited {PATIENCE_S:g} s for what did not happen"
        await asyncio.sleep(0)


def in_time(awaitable: Awaitable[T]) -> Coroutine[Any, Any, T]:
    """The same, which fails instead of hanging."""
    return asyncio.wait_for(awaitable, PATIENCE_S)


def result_at_once(awaitable: Awaitable[T]) -> T:
    """The result of what never suspends."""
    steps: Generator[Any, Any, T] = awaitable.__await__()
    try:
        steps.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    steps.close()
    raise AssertionError("it has left the event loop")


def assert_at_rest(cache: PageCache) -> None:
    """Nothing is locked, waited for, pinned or reserved, once what was begun has ended."""
    for _ in range(2):
        _wait_for_workers(cache)  # what was handed over has begun; what has come was taken
        leaks.settle(cache._zone, PATIENCE_S)
    _wait_for_workers(cache)
    leaks.assert_nothing_left(cache._zone)


def _is_busy(queue: Workqueue) -> bool:
    return bool(queue.queued_count) or len(queue._idle) + len(queue._vacancies) < queue._workers_max


def _wait_for_workers(cache: PageCache) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while any(map(_is_busy, (cache._zone.workqueue, cache._zone.io))):
        assert time.monotonic() < deadline_s, "a worker is busy"
        os.sched_yield()
