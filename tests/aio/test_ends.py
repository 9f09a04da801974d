"""Closing a file, a cache or a loop while tasks wait: they end, nothing hangs, nothing stays locked."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable

import pytest
from tests.aio.sources import (
    LaterBytes,
    Place,
    assert_at_rest,
    in_time,
    mapping_of,
    open_file,
    page_at,
    read_page,
    turns,
    until,
    waiting_for,
)

import pagein
from pagein import PageCache, aio
from pagein.testing.stores import Gate, ScriptedOps, gated, started, updated
from pagein.units import PAGE_SIZE

SIZE = 8 * PAGE_SIZE


# -- a file ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocking", [False, True])
def test_a_file_that_is_closed_does_not_wait_for_its_readers_who_get_no_bytes(
    make_cache: Callable[[int], PageCache], blocking: bool
) -> None:
    cache = make_cache(64)

    async def main() -> None:
        gate = Gate()
        ops = ScriptedOps({3: [gated(gate, updated) if blocking else started]})
        ops.blocking = blocking
        file = await open_file(cache, ops)
        buffer = bytearray(10)
        readers = [
            read_page(file, 3),
            asyncio.ensure_future(file.preadinto(buffer, 3 * PAGE_SIZE)),
            asyncio.ensure_future(file._view(10, 3 * PAGE_SIZE)),
        ]
        await turns()
        ops.wait_for_calls(1)
        await in_time(file.close())
        assert file.closed
        await turns()
        assert not any(reader.done() for reader in readers)
        gate.open()
        if not blocking:
            ops.complete(3)
        for reader in readers:
            with pytest.raises(ValueError, match="closed file"):
                await in_time(reader)
        assert not mapping_of(file).arena.pins.spans()
        assert_at_rest(cache)

    asyncio.run(main())


def test_the_store_is_let_go_with_the_last_file_and_twice_does_no_harm(cache: PageCache) -> None:
    async def main() -> None:
        place = Place(ScriptedOps(), SIZE)
        async with await pagein.aio.open((place, "path"), cache=cache) as first:
            second = await pagein.aio.open((place, "path"), cache=cache)
            assert place.is_closed(), "what was opened a second time: the first is used for both"
        assert first.closed
        assert not place.is_closed()
        await in_time(second.close())
        assert place.is_closed()
        await in_time(second.close())
        assert place.opened_count == 2
        assert not place.is_closed()

    asyncio.run(main())


# -- a cache -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("from_a_thread", [False, True])
def test_a_cache_that_is_closed_ends_all_that_wait_with_a_value_error(
    make_cache: Callable[[int], PageCache], from_a_thread: bool
) -> None:
    """Who waits for an answer, who stands in line for one, and who waits because the cache is full."""
    cache = make_cache(4)

    async def main() -> None:
        ops = LaterBytes(requests_max=1)
        file = await open_file(cache, ops, page_count=16)
        readers = [read_page(file, index) for index in range(0, 16, 2)]
        await turns()
        ops.wait_for_fetches(1)
        await until(lambda: mapping_of(file).device.queued_count)
        if cache._zone.checks:
            with pytest.raises(AssertionError, match="before the cache is closed"):
                await _close(cache, from_a_thread)
        else:
            await _close(cache, from_a_thread)
        await until(lambda: sum(reader.done() for reader in readers) == 7)  # all but the one that was asked for
        ops.release()
        for reader in readers:
            with pytest.raises(ValueError, match="closed"):
                await in_time(reader)
        with pytest.raises(ValueError, match="closed"):
            await in_time(file.pread(1, 0))
        await in_time(file.close())
        with pytest.raises(ValueError, match="closed"):
            await in_time(pagein.aio.open((Place(ops, SIZE), "path"), cache=cache))

    asyncio.run(main())


async def _close(cache: PageCache, from_a_thread: bool) -> None:
    if from_a_thread:
        await in_time(asyncio.to_thread(cache.close))
    else:
        cache.close()


def test_what_is_missed_in_the_turn_in_which_the_cache_is_closed_is_a_value_error() -> None:
    async def main() -> None:
        cache = PageCache(4 * PAGE_SIZE)
        file = await open_file(cache, ScriptedOps())
        readers = [read_page(file, index) for index in range(3)]
        await turns(1)
        cache.close()
        for reader in readers:
            with pytest.raises(ValueError, match="closed"):
                await in_time(reader)

    asyncio.run(main())


# -- a loop -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns_before", [1, 2, 4])
def test_a_loop_that_ends_while_tasks_wait_leaves_nothing_locked(cache: PageCache, turns_before: int) -> None:
    ops = LaterBytes(requests_max=1)
    tasks: list[asyncio.Task[bytes]] = []

    async def main() -> aio.AsyncFile:
        file = await open_file(cache, ops)
        tasks.extend(read_page(file, index) for index in (0, 2, 4, 4))
        await turns(turns_before)
        return file

    file = asyncio.run(main())
    assert all(task.cancelled() for task in tasks)
    ops.release()
    assert_at_rest(cache)
    assert asyncio.run(_read_and_close(file)) == [page_at(index) for index in range(8)]


async def _read_and_close(file: aio.AsyncFile) -> list[bytes]:
    async with file:
        return [await in_time(read_page(file, index)) for index in range(8)]


def test_tasks_that_a_loop_leaves_behind_without_cancelling_them_pin_nothing(cache: PageCache) -> None:
    ops = ScriptedOps({3: [started]})
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)  # "Task was destroyed but it is pending!"
    file = loop.run_until_complete(open_file(cache, ops))

    async def begin() -> None:
        for read in (file.pread(1, 3 * PAGE_SIZE), file._view(1, 3 * PAGE_SIZE)):
            kept.append(asyncio.ensure_future(read))
        await until(lambda: waiting_for(file, 3) == 2)

    kept: list[asyncio.Task[object]] = []
    loop.run_until_complete(begin())
    loop.close()
    ops.complete(3)
    kept.clear()
    gc.collect()
    assert_at_rest(cache)
    assert asyncio.run(_read_and_close(file)) == [page_at(index) for index in range(8)]


def test_a_loop_that_has_ended_is_not_kept(cache: PageCache) -> None:
    async def main() -> weakref.ref[asyncio.AbstractEventLoop]:
        async with await open_file(cache, ScriptedOps()) as file:
            assert await file.pread(PAGE_SIZE, 0) == page_at(0)
        return weakref.ref(asyncio.get_running_loop())

    kept = [asyncio.run(main()) for _ in range(3)]
    assert_at_rest(cache)  # a worker lets go of what he has told a loop a moment later
    gc.collect()
    assert [one() for one in kept] == [None, None, None]
