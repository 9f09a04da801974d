"""A miss awaits its page without a thread, whatever the store is like; and its error is its own."""

from __future__ import annotations

import asyncio
import errno
import gc
import threading
import weakref
from collections.abc import Callable

import pytest
from tests.aio.sources import (
    LaterBytes,
    in_time,
    mapping_of,
    open_file,
    page_at,
    read_page,
    result_at_once,
    turns,
    until,
    waiting_for,
)

from pagein import PageCache
from pagein.testing.stores import (
    Gate,
    ScriptedOps,
    ScriptedRunOps,
    completed,
    completed_with,
    failing,
    gated,
    pattern,
    run_failing,
    run_started,
    started,
    truncated,
    updated,
)
from pagein.units import PAGE_SIZE

WAITING = 2000
THREADS_FEW = 4
"""The store's event loop, the worker that begins what was missed, and one or two that were told meanwhile."""


def test_item_22_who_does_not_wait_asks_for_what_is_not_here_and_holds_no_lock(cache: PageCache) -> None:
    """NOWAIT, as users have it: the loop's thread goes on at once, with the page on its way for whoever asks next.
    And NOIO, as it is made of: a look that misses starts nothing."""

    async def main() -> None:
        gate = Gate()
        ops = ScriptedOps({3: [gated(gate, updated)]})
        async with await open_file(cache, ops) as file:
            assert file._hit(PAGE_SIZE, 3 * PAGE_SIZE) is None
            assert file._hit_view(PAGE_SIZE, 3 * PAGE_SIZE) is None
            assert (ops.calls, dict(mapping_of(file).in_flight), cache.stats().misses) == ([], {}, 0)
            reads = [read_page(file, 3), read_page(file, 3)]
            await turns()
            gate.wait_for_arrivals()
            page = mapping_of(file).in_flight[3]
            assert page.owner != threading.get_ident()
            assert file._hit(PAGE_SIZE, 3 * PAGE_SIZE) is None, "also of what is on its way"
            assert not any(read.done() for read in reads)
            gate.open()
            assert await in_time(asyncio.gather(*reads)) == [page_at(3)] * 2
            assert len(ops.calls_of(3)) == 1

    asyncio.run(main())


@pytest.mark.parametrize("requests_max", [WAITING, 16], ids=["all asked for", "most in line"])
def test_thousands_of_misses_wait_without_a_thread(make_cache: Callable[[int], PageCache], requests_max: int) -> None:
    cache = make_cache(2 * WAITING)

    async def main() -> None:
        ops = LaterBytes(requests_max=requests_max)
        async with await open_file(cache, ops, page_count=2 * WAITING) as file:
            before = threading.active_count()
            # Every second page, so that no two of them are one request.
            reads = [read_page(file, index) for index in range(0, 2 * WAITING, 2)]
            await turns()
            ops.wait_for_fetches(requests_max)
            await until(lambda: len(mapping_of(file).in_flight) == WAITING)
            assert threading.active_count() - before <= THREADS_FEW, [each.name for each in threading.enumerate()]
            assert len(ops.fetches) == requests_max
            assert not any(read.done() for read in reads)
            ops.release()
            for index, data in enumerate(await in_time(asyncio.gather(*reads))):
                assert data == page_at(2 * index)
            assert len(ops.fetches) == WAITING

    asyncio.run(main())


def test_what_is_missed_side_by_side_in_one_turn_is_one_request(cache: PageCache) -> None:
    async def main() -> None:
        ops = ScriptedRunOps()
        async with await open_file(cache, ops, page_count=32) as file:
            pages = [5, 3, 4, 20, 21, 9, 6]
            assert await asyncio.gather(*(read_page(file, index) for index in pages)) == [page_at(at) for at in pages]
            assert sorted(call[1:] for call in ops.asked()) == [(3, 4), (9, 1), (20, 2)]

    asyncio.run(main())


def test_readers_of_one_page_share_one_fetch(cache: PageCache) -> None:
    async def main() -> None:
        ops = ScriptedOps({3: [started]})
        async with await open_file(cache, ops) as file:
            reads = [read_page(file, 3) for _ in range(20)]
            await turns()
            ops.started_page(3)
            late = read_page(file, 3)
            await until(lambda: waiting_for(file, 3) == 21)
            ops.complete(3)
            assert set(await in_time(asyncio.gather(*reads, late))) == {page_at(3)}
            assert len(ops.calls_of(3)) == 1

    asyncio.run(main())


@pytest.mark.parametrize("answer", [updated, completed, truncated])
def test_every_answer_of_an_operation_ends_in_the_page(cache: PageCache, answer: Callable[..., int]) -> None:
    async def main() -> None:
        async with await open_file(cache, ScriptedOps({3: [answer]})) as file:
            assert await in_time(read_page(file, 3)) == page_at(3)

    asyncio.run(main())


@pytest.mark.parametrize("is_in_view", [False, True])
def test_an_operation_that_blocks_does_not_block_the_loop(cache: PageCache, is_in_view: bool) -> None:
    """The gate is opened by the loop itself, which must get there."""

    async def main() -> None:
        gate = Gate()
        ops = ScriptedOps({3: [gated(gate, updated)]})
        ops.blocking = True
        async with await open_file(cache, ops) as file:
            assert await file.pread(10, 0) == pattern(0, 10)
            read = file._view if is_in_view else file.pread
            miss: asyncio.Future[bytes | memoryview] = asyncio.ensure_future(read(PAGE_SIZE, 3 * PAGE_SIZE))
            await turns()
            gate.wait_for_arrivals()
            await turns(100)
            assert result_at_once(file.pread(10, 0)) == pattern(0, 10)
            assert await file.pread(10, PAGE_SIZE) == pattern(PAGE_SIZE, 10), "another miss of the same store"
            assert not miss.done()
            gate.open()
            with memoryview(await in_time(miss)) as data:
                assert data == page_at(3)
            del miss

    asyncio.run(main())


# -- errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [failing, completed_with])
def test_the_store_s_error_is_its_reader_s_unchanged_and_the_next_read_asks_again(
    cache: PageCache, answer: Callable[[OSError], Callable[..., int]]
) -> None:
    async def main() -> None:
        error = OSError(errno.EIO, "bad sector", "place")
        ops = ScriptedOps({3: [answer(error)]})
        async with await open_file(cache, ops) as file:
            with pytest.raises(OSError, match="bad sector") as raised:
                await in_time(read_page(file, 3))
            assert raised.value is error
            assert await in_time(read_page(file, 3)) == page_at(3)
            assert len(ops.calls_of(3)) == 2

    asyncio.run(main())


def test_an_error_comes_to_whose_fetch_it_was_and_the_others_try_for_themselves(cache: PageCache) -> None:
    async def main() -> None:
        error = OSError(errno.EIO, "bad sector", "place")
        ops = ScriptedOps({3: [started]})
        async with await open_file(cache, ops) as file:
            first = read_page(file, 3)
            await turns()
            ops.started_page(3)
            others = [read_page(file, 3) for _ in range(10)]
            await until(lambda: waiting_for(file, 3) == 11)
            ops.complete(3, error)
            with pytest.raises(OSError, match="bad sector") as raised:
                await in_time(first)
            assert raised.value is error
            assert set(await in_time(asyncio.gather(*others))) == {page_at(3)}
            assert len(ops.calls_of(3)) == 2

    asyncio.run(main())


def test_of_those_that_were_asked_for_with_one_request_only_the_bad_page_s_reader_hears(cache: PageCache) -> None:
    async def main() -> None:
        error = OSError(errno.EIO, "bad sector", "place")
        ops = ScriptedRunOps({3: [failing(error)]}, runs=[run_failing(OSError(errno.EIO, "a run"))] * 2)
        async with await open_file(cache, ops) as file:
            outcomes = await in_time(
                asyncio.gather(*(read_page(file, index) for index in (2, 3, 4)), return_exceptions=True)
            )
            assert outcomes == [page_at(2), error, page_at(4)]
            asked_alone = [("readpage", index, 1) for index in (2, 3, 4)]
            assert sorted(ops.asked()) == [("readahead", 2, 3), ("readahead", 3, 2), *asked_alone]

    asyncio.run(main())


def test_a_read_that_is_short_before_a_bad_page_is_asked_again_and_raises(cache: PageCache) -> None:
    async def main() -> None:
        error = OSError(errno.EIO, "bad sector", "place")
        buffer = bytearray(4 * PAGE_SIZE)
        async with await open_file(cache, ScriptedOps({2: [failing(error)] * 99})) as file:
            for read in (file.pread(4 * PAGE_SIZE, 0), file.preadinto(buffer, 0), file.read(), file.view(10_000, 0)):
                with pytest.raises(OSError, match="bad sector") as raised:
                    await in_time(read)
                assert raised.value is error
            assert file.tell() == 0
            assert await in_time(file.pread(2 * PAGE_SIZE, 0)) == page_at(0, 2)

    asyncio.run(main())


def test_who_misses_while_no_memory_can_be_had_waits_for_it(make_cache: Callable[[int], PageCache]) -> None:
    cache = make_cache(1)

    async def main() -> None:
        ops = ScriptedOps({0: [started]})
        async with await open_file(cache, ops) as file:
            file.advise("willneed", 0, PAGE_SIZE)
            ops.started_page(0)
            reader = read_page(file, 3)
            await until(lambda: len(cache._zone.memory_waiters) == 1)
            ops.complete(0)
            assert await in_time(reader) == page_at(3)

    asyncio.run(main())


def test_an_error_that_was_handled_keeps_nothing_of_its_reader_alive(cache: PageCache) -> None:
    """Its traceback refers to the frames, and they to whatever the reader has at hand: views, say."""

    class Local:
        pass

    async def read(file: object) -> weakref.ref[Local]:
        local = Local()
        try:
            await file.pread(PAGE_SIZE, 3 * PAGE_SIZE)  # type: ignore[attr-defined]
        except OSError:
            return weakref.ref(local)
        raise AssertionError("the fetch was to fail")

    async def main() -> None:
        async with await open_file(cache, ScriptedOps({3: [_new_failure]})) as file:
            gc.collect()
            gc.disable()
            try:
                kept = await in_time(read(file))
                await until(lambda: kept() is None)  # the worker that brought the error may be about to let go of it
            finally:
                gc.enable()

    asyncio.run(main())


def _new_failure(ops: ScriptedOps, page: object) -> int:
    raise OSError(errno.EIO, "bad sector", "place")


def test_a_run_that_is_under_way_serves_whoever_wants_a_page_of_it(cache: PageCache) -> None:
    async def main() -> None:
        ops = ScriptedRunOps(runs=[run_started])
        async with await open_file(cache, ops) as file:
            whole = asyncio.ensure_future(file.read())
            await turns()
            ops.started_page(0)
            single = [read_page(file, index) for index in range(8)]
            await until(lambda: waiting_for(file, 0) == 9)
            ops.complete(0)
            assert await in_time(whole) == page_at(0, 8)
            assert await in_time(asyncio.gather(*single)) == [page_at(index) for index in range(8)]
            assert ops.asked() == [("readahead", 0, 8)]

    asyncio.run(main())
