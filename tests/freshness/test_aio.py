"""The asynchronous face obeys the same policy, and its looks keep no event loop waiting."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest
from tests.aio.sources import in_time, turns, until
from tests.freshness.places import AGE_S, SIZE, Clock, Place, cache_with, content

import pagein
from pagein import PageCache
from pagein.aio import AsyncFile
from pagein.reader import PageReader
from pagein.testing.stores import Gate
from pagein.units import PAGE_SIZE

POLICIES = ["open", "always", "never", AGE_S]


async def open_place(cache: PageCache, place: Place) -> AsyncFile:
    return await in_time(pagein.aio.open((place, ""), cache=cache))


async def errno_of(reading: Any) -> str:
    with pytest.raises(OSError) as raised:  # the caller tests the errno
        await in_time(reading)
    return errno.errorcode[raised.value.errno or 0]


@pytest.mark.parametrize("revalidate", POLICIES)
def test_what_is_asked_and_what_a_reader_sees(revalidate: Any) -> None:
    async def main() -> None:
        place, clock = Place(), Clock()
        with cache_with(revalidate, clock) as cache:
            async with await open_place(cache, place) as file:
                assert await in_time(file.pread(SIZE, 0)) == content(0)
                looks = place.looks
                for _ in range(3):
                    assert await in_time(file.pread(10, 0)) == content(0, 10)
                assert place.looks == looks + (3 if revalidate == "always" else 0)
                async with file.view(10, 0) as view:
                    place.put()
                    clock.time_s += AGE_S
                    for reading in (file.pread(1, 0), file.read(1), file.readinto(bytearray(1)), file._view(1, 0)):
                        if revalidate in ("always", AGE_S):
                            assert await errno_of(reading) == "ESTALE"
                        else:
                            await in_time(reading)
                    assert bytes(view) == content(0, 10)
            async with await open_place(cache, place) as file:
                assert await in_time(file.pread(10, 0)) == content(0 if revalidate == "never" else 1, 10)

    asyncio.run(main())


def test_a_look_keeps_no_loop_waiting_and_who_looks_at_one_time_shares_it() -> None:
    async def main() -> None:
        place, gate = Place(), Gate()
        with cache_with("always") as cache:
            async with await open_place(cache, place) as file:
                await in_time(file.pread(SIZE, 0))
                looks = place.looks
                place.gate = gate
                first = asyncio.ensure_future(file.pread(10, 0))
                await turns()
                gate.wait_for_arrivals()
                others = [asyncio.ensure_future(file.pread(10, 0)) for _ in range(20)]
                others[0].cancel()
                (look,) = cache._table.looks._under_way.values()
                await until(lambda: len(look.waiters) == 1 + 19)
                assert not first.done(), "the loop goes on while the store is asked"
                gate.open()
                assert await in_time(first) == content(0, 10)
                assert await in_time(asyncio.gather(*others[1:])) == [content(0, 10)] * 19
                assert place.looks == looks + 2, "all who came while the first was under way have the second"

    asyncio.run(main())


def test_a_look_that_fails_is_the_readers_error() -> None:
    async def main() -> None:
        place = Place()
        with cache_with("always") as cache:
            async with await open_place(cache, place) as file:
                await in_time(file.pread(SIZE, 0))
                place.error = OSError(errno.ETIMEDOUT, "the server is down", "place")
                assert await errno_of(file.pread(1, 0)) == "ETIMEDOUT"
                place.error = None
                assert await in_time(file.pread(PAGE_SIZE, 0)) == content(0, PAGE_SIZE)

    asyncio.run(main())


def test_a_cache_that_is_closed_while_a_task_looks_tells_it() -> None:
    async def main() -> None:
        place, gate = Place(), Gate()
        cache = cache_with("always")
        file = await open_place(cache, place)
        await in_time(file.pread(SIZE, 0))
        place.gate = gate
        reading = asyncio.ensure_future(file.pread(1, 0))
        await turns()
        gate.wait_for_arrivals()
        await asyncio.to_thread(cache.close)
        gate.open()
        with pytest.raises(ValueError, match="closed"):
            await in_time(reading)

    asyncio.run(main())


@pytest.mark.parametrize("revalidate", ["open", "never"])
def test_where_reads_never_look_the_flags_are_the_plain_ones(revalidate: Any) -> None:
    async def main() -> None:
        with cache_with(revalidate) as cache:
            async with await open_place(cache, Place()) as file:
                assert type(file._reader).__mro__[1] is PageReader
                assert file._reader._uptodate is file._reader._mapping.arena.uptodate

    asyncio.run(main())


def test_who_opens_keeps_no_worker_waiting_for_a_look_that_stands_in_line_behind_him(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All I/O workers are busy when several open what is read, and a reader has to look behind them."""
    monkeypatch.setattr("pagein.mm.zone.IO_WORKERS_MAX", 2)

    async def main() -> None:
        place, others, gate = Place(), [Place(), Place()], Gate()
        with cache_with("always") as cache:
            file = await open_place(cache, place)
            await in_time(file.pread(SIZE, 0))
            for other in others:
                other.gate = gate
            busy = [asyncio.ensure_future(open_place(cache, other)) for other in others]
            await turns()
            gate.wait_for_arrivals(2)
            opening = [asyncio.ensure_future(open_place(cache, place)) for _ in range(4)]
            await until(lambda: cache._zone.io.queued_count >= 1)
            await turns()
            reading = asyncio.ensure_future(file.pread(10, 0))
            await until(lambda: place.key in cache._lookup._looks._under_way)
            gate.open()
            assert await in_time(reading) == content(0, 10)
            for opened in (*await in_time(asyncio.gather(*busy, *opening)), file):
                await in_time(opened.close())

    asyncio.run(main())
