"""A task that is cancelled leaves nothing locked, wherever it was, and its fetch goes on for the others."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Callable

import pytest
from tests.aio.sources import (
    LaterBytes,
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

from pagein import PageCache, aio
from pagein.aio import AsyncFile
from pagein.testing.stores import (
    Gate,
    ScriptedOps,
    ScriptedRunOps,
    failing,
    gated,
    run_started,
    started,
    updated,
)
from pagein.units import PAGE_SIZE

HERE = 3


async def cancelled(task: asyncio.Task[bytes]) -> None:
    """Cancel a task that waits, and see it end at once."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await in_time(task)


def test_before_what_it_misses_is_handed_over(cache: PageCache) -> None:
    async def main() -> None:
        ops = ScriptedOps()
        async with await open_file(cache, ops) as file:
            reader = read_page(file, HERE)
            await turns(1)
            assert not ops.calls
            await cancelled(reader)
            assert await in_time(read_page(file, HERE)) == page_at(HERE)
            assert len(ops.calls_of(HERE)) == 1
            assert_at_rest(cache)

    asyncio.run(main())


@pytest.mark.parametrize("blocking", [False, True])
def test_before_the_store_answers(cache: PageCache, blocking: bool) -> None:
    async def main() -> None:
        gate = Gate()
        ops = ScriptedOps({HERE: [gated(gate, updated) if blocking else started]})
        ops.blocking = blocking
        async with await open_file(cache, ops) as file:
            reader = read_page(file, HERE)
            await turns()
            ops.wait_for_calls(1)
            await cancelled(reader)
            assert mapping_of(file).in_flight[HERE].locked, "the store has not answered, and the fetch goes on"
            other = read_page(file, HERE)
            await turns()
            gate.open()
            if not blocking:
                ops.complete(HERE)
            assert await in_time(other) == page_at(HERE)
            assert len(ops.calls_of(HERE)) == 1
            assert_at_rest(cache)

    asyncio.run(main())


@pytest.mark.parametrize("which", [0, 1, 2], ids=["whose fetch it is", "in the middle", "the last"])
@pytest.mark.parametrize("fails", [False, True], ids=["comes", "fails"])
def test_one_of_several_that_wait_for_one_page(cache: PageCache, which: int, fails: bool) -> None:
    async def main() -> None:
        ops = ScriptedOps({HERE: [started]})
        async with await open_file(cache, ops) as file:
            readers = []
            for count in range(3):
                readers.append(read_page(file, HERE))
                await until(lambda count=count: waiting_for(file, HERE) == count + 1)  # type: ignore[misc]
            await cancelled(readers.pop(which))
            ops.complete(HERE, OSError(errno.EIO, "bad sector") if fails else None)
            outcomes = await in_time(asyncio.gather(*readers, return_exceptions=True))
            if fails and which:
                assert isinstance(outcomes.pop(0), OSError), "his fetch it was"
            assert set(map(bytes, outcomes)) == {page_at(HERE)}  # type: ignore[arg-type]
            assert len(ops.calls_of(HERE)) == 1 + fails
            assert_at_rest(cache)

    asyncio.run(main())


@pytest.mark.parametrize("blocking", [False, True])
def test_those_that_give_up_while_the_store_hangs_leave_the_line_at_once(cache: PageCache, blocking: bool) -> None:
    """Who retries with a time-out would fill it."""

    async def main() -> None:
        gate = Gate()
        ops = ScriptedOps({HERE: [gated(gate, updated) if blocking else started]})
        ops.blocking = blocking
        async with await open_file(cache, ops) as file:
            first = read_page(file, HERE)
            await until(lambda: waiting_for(file, HERE) == 1)
            for turns_before in (1, 2, 100):  # not handed over; perhaps begun; in line, mostly
                others = [read_page(file, HERE) for _ in range(20)]
                await turns(turns_before)
                for other in others:
                    await cancelled(other)
            stays = read_page(file, HERE)
            await until(lambda: waiting_for(file, HERE) == 2)
            gate.open()
            if not blocking:
                ops.complete(HERE)
            assert list(await in_time(asyncio.gather(first, stays))) == [page_at(HERE)] * 2
            assert len(ops.calls_of(HERE)) == 1
            assert_at_rest(cache)

    asyncio.run(main())


def test_those_that_give_up_after_another_s_fetch_has_failed_leave_no_reservation_and_no_request(
    cache: PageCache,
) -> None:
    """They stand in line for the lock by then, to ask the store one after the other, with a page of the cache each."""

    async def main() -> None:
        gates = Gate(), Gate()
        ops = ScriptedOps({HERE: [gated(gates[0], failing(OSError(errno.EIO, "failed"))), gated(gates[1], updated)]})
        ops.blocking = True
        async with await open_file(cache, ops) as file:
            first = read_page(file, HERE)
            await until(lambda: waiting_for(file, HERE) == 1)
            others = [read_page(file, HERE) for _ in range(40)]
            await until(lambda: waiting_for(file, HERE) == 41)
            gates[0].open()
            with pytest.raises(OSError, match="failed"):
                await in_time(first)
            await until(lambda: cache._zone.reserved_pages == 39)  # and one has asked once more
            stays = others.pop()
            for other in others:
                await cancelled(other)
            await until(lambda: cache._zone.reserved_pages <= 1)
            assert waiting_for(file, HERE) <= 2
            gates[1].open()
            assert await in_time(stays) == page_at(HERE)
            assert len(ops.calls_of(HERE)) == 2
            assert_at_rest(cache)

    asyncio.run(main())


def test_in_the_line_before_the_store(cache: PageCache) -> None:
    """He has not been asked for yet; who wants the page still has it, with one request."""

    async def main() -> None:
        ops = ScriptedOps({0: [started]})
        ops.requests_max = 1
        async with await open_file(cache, ops) as file:
            first = read_page(file, 0)
            await turns()
            ops.started_page(0)
            alone, shared, sharing = (read_page(file, index) for index in (2, 5, 5))
            await until(lambda: mapping_of(file).device.queued_count == 2)
            await cancelled(alone)
            await cancelled(shared)
            assert len(ops.calls) == 1
            ops.complete(0)
            assert list(await in_time(asyncio.gather(first, sharing))) == [page_at(0), page_at(5)]
            assert_at_rest(cache)
            assert len(ops.calls_of(5)) == 1
            assert await in_time(read_page(file, 2)) == page_at(2)
            assert len(ops.calls_of(2)) == 1

    asyncio.run(main())


def test_in_line_with_the_page_s_lock_in_hand(cache: PageCache) -> None:
    """After another's fetch of it has failed, he asks for it himself, and has to wait for his turn."""

    async def main() -> None:
        ops = ScriptedOps({0: [started], 6: [started]})
        ops.requests_max = 1
        async with await open_file(cache, ops) as file:
            first = read_page(file, 0)
            await turns()
            ops.started_page(0)
            again, ahead = read_page(file, 0), read_page(file, 6)
            await until(lambda: waiting_for(file, 0) == 2 and waiting_for(file, 6) == 1)
            ops.complete(0, OSError(errno.EIO, "bad sector", "place"))
            with pytest.raises(OSError, match="bad sector"):
                await in_time(first)
            await until(lambda: mapping_of(file).device.queued_count == 1)
            await cancelled(again)
            ops.complete(6)
            assert await in_time(ahead) == page_at(6)
            assert_at_rest(cache)
            assert await in_time(read_page(file, 0)) == page_at(0)

    asyncio.run(main())


def test_while_waiting_for_memory(make_cache: Callable[[int], PageCache]) -> None:
    cache = make_cache(1)

    async def main() -> None:
        ops = ScriptedOps({0: [started]})
        async with await open_file(cache, ops) as file:
            file.advise("willneed", 0, PAGE_SIZE)
            ops.started_page(0)
            reader = read_page(file, HERE)
            await until(lambda: len(cache._zone.memory_waiters) == 1)
            await cancelled(reader)
            ops.complete(0)
            assert_at_rest(cache)
            assert cache._zone.charged_pages == 1

    asyncio.run(main())


def test_between_the_answer_and_the_task_s_next_turn(cache: PageCache, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        ops = ScriptedOps({HERE: [started]})
        async with await open_file(cache, ops) as file:
            readers = [read_page(file, HERE), asyncio.ensure_future(viewed(file, HERE)), read_page(file, HERE)]
            settle = aio._Answer._settle_here
            cut = readers[:2]

            def settle_and_cancel(answer: aio._Answer[object], *outcome: object) -> None:
                settle(answer, *outcome)  # type: ignore[arg-type]
                while cut:
                    cut.pop().cancel()

            monkeypatch.setattr(aio._Answer, "_settle_here", settle_and_cancel)
            await until(lambda: waiting_for(file, HERE) == 3)
            ops.complete(HERE)
            assert await in_time(readers[2]) == page_at(HERE)
            for reader in readers[:2]:
                with pytest.raises(asyncio.CancelledError):
                    await in_time(reader)
            assert not mapping_of(file).arena.pins.spans()
            assert_at_rest(cache)

    asyncio.run(main())


async def viewed(file: AsyncFile, index: int) -> bytes:
    async with file.view(PAGE_SIZE, index * PAGE_SIZE) as data:
        return bytes(data)


def test_a_run_of_pages_comes_whole_for_those_that_are_left(cache: PageCache) -> None:
    async def main() -> None:
        ops = ScriptedRunOps(runs=[run_started])
        async with await open_file(cache, ops) as file:
            whole = asyncio.ensure_future(file.read())
            await turns()
            ops.started_page(0)
            other = read_page(file, 7)
            await until(lambda: waiting_for(file, 7) >= 1)
            await cancelled(whole)
            assert file.tell() == 0
            ops.complete(0)
            assert await in_time(other) == page_at(7)
            assert await in_time(file.read()) == page_at(0, 8)
            assert ops.asked() == [("readahead", 0, 8)]
            assert_at_rest(cache)

    asyncio.run(main())


def test_a_buffer_is_its_owner_s_again_and_nothing_is_written_to_it_any_more(cache: PageCache) -> None:
    async def main() -> None:
        ops = ScriptedOps({HERE: [started]})
        async with await open_file(cache, ops) as file:
            buffer = bytearray(PAGE_SIZE)
            reader = asyncio.ensure_future(file.preadinto(buffer, HERE * PAGE_SIZE))
            await turns()
            ops.started_page(HERE)
            reader.cancel()
            with pytest.raises(asyncio.CancelledError):
                await in_time(reader)
            buffer += b"resized"  # a BufferError if it were still exported
            ops.complete(HERE)
            assert_at_rest(cache)
            await turns()
            assert buffer == bytes(PAGE_SIZE) + b"resized"

    asyncio.run(main())


def test_a_time_out_is_a_cancellation(cache: PageCache) -> None:
    async def main() -> None:
        ops = LaterBytes()
        async with await open_file(cache, ops) as file:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(read_page(file, HERE), 0.001)
            ops.release()
            assert await in_time(read_page(file, HERE)) == page_at(HERE)
            assert len(ops.fetches) == 1
            assert_at_rest(cache)

    asyncio.run(main())


def test_of_hundreds_that_are_cancelled_anywhere_the_others_get_their_bytes(
    make_cache: Callable[[int], PageCache],
) -> None:
    """A small cache, a short line, and a cancellation after any number of turns."""
    cache = make_cache(16)

    async def main() -> None:
        rng = random.Random(5)
        async with await open_file(cache, LaterBytes(requests_max=3, held=False), page_count=64) as file:
            readers = [(index, read_page(file, index)) for index in rng.choices(range(64), k=400)]
            victims = {number for number in range(400) if rng.random() < 0.5}
            for number in rng.sample(sorted(victims), len(victims)):
                await turns(rng.randrange(3))
                readers[number][1].cancel()
            outcomes = await in_time(asyncio.gather(*(task for _, task in readers), return_exceptions=True))
            for number, ((index, _), outcome) in enumerate(zip(readers, outcomes, strict=True)):
                if isinstance(outcome, asyncio.CancelledError):
                    assert number in victims
                else:
                    assert outcome == page_at(index)
            assert_at_rest(cache)

    asyncio.run(main())
