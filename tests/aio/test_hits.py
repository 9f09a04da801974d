"""A hit never leaves the event loop: no turn, no thread, no worker, not even a loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.aio.sources import LaterBytes, mapping_of, open_file, page_at, read_page, result_at_once, turns, until

from pagein import PageCache
from pagein.aio import AsyncFile
from pagein.mm import filemap
from pagein.mm.workqueue import Workqueue
from pagein.testing.stores import PATIENCE_S, Gate, ScriptedOps, gated, pattern, updated
from pagein.units import PAGE_SIZE

SIZE = 8 * PAGE_SIZE


async def read_ahead_of_time(cache: PageCache, ops: ScriptedOps | None = None) -> AsyncFile:
    """A file whose first four pages are here."""
    file = await open_file(cache, ops or ScriptedOps())
    assert await file.pread(4 * PAGE_SIZE, 0) == page_at(0, 4)
    return file


@contextmanager
def nothing_may_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No thread may be started, no worker told, no callback put on the running loop."""

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a hit asks nobody")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", forbidden)
        for name in ("start", "put", "kick", "shielded", "run_detached"):
            patched.setattr(Workqueue, name, forbidden)
        for name in ("call_soon", "call_soon_threadsafe", "call_later", "call_at", "create_future", "run_in_executor"):
            patched.setattr(asyncio.get_running_loop(), name, forbidden)
        yield


def test_a_hit_ends_at_its_first_step_and_asks_nobody(cache: PageCache, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with await read_ahead_of_time(cache) as file:
            buffer = bytearray(PAGE_SIZE)
            with nothing_may_be_asked_for(monkeypatch):
                assert result_at_once(file.pread(100, 5)) == pattern(5, 100)
                assert result_at_once(file.pread(3 * PAGE_SIZE, 50)) == pattern(50, 3 * PAGE_SIZE)
                assert result_at_once(file.preadinto(buffer, PAGE_SIZE)) == PAGE_SIZE
                assert buffer == page_at(1)
                assert result_at_once(file.read(10)) == pattern(0, 10)
                assert result_at_once(file.readinto(buffer)) == PAGE_SIZE
                assert buffer == pattern(10, PAGE_SIZE)
                with result_at_once(file.view(2 * PAGE_SIZE, 7)) as data:
                    assert data == pattern(7, 2 * PAGE_SIZE)
                with result_at_once(_entered(file)) as data:
                    assert data == page_at(3)

    asyncio.run(main())


async def _entered(file: AsyncFile) -> memoryview:
    return await file.view(PAGE_SIZE, 3 * PAGE_SIZE).__aenter__()


@pytest.mark.parametrize(("size", "offset"), [(0, 0), (0, 7 * PAGE_SIZE), (1, SIZE), (1000, 1 << 60)])
def test_what_needs_no_page_ends_at_its_first_step_too(cache: PageCache, size: int, offset: int) -> None:
    async def main() -> None:
        ops = ScriptedOps()
        async with await open_file(cache, ops) as file:
            assert result_at_once(file.pread(size, offset)) == b""
            assert result_at_once(file.preadinto(bytearray(size), offset)) == 0
            with result_at_once(file.view(size, offset)) as data:
                assert bytes(data) == b""
            assert not ops.calls

    asyncio.run(main())


def test_a_hit_needs_no_loop_at_all(cache: PageCache) -> None:
    file = asyncio.run(read_ahead_of_time(cache))
    assert result_at_once(file.pread(100, 5)) == pattern(5, 100)
    with result_at_once(file.view(100, 5)) as data:
        assert data == pattern(5, 100)
    asyncio.run(file.close())


def test_hits_are_served_while_the_store_keeps_others_waiting(cache: PageCache) -> None:
    """And in the same turn: a thousand hits after a miss, before anything else has run."""

    async def main() -> None:
        gate = Gate()
        async with await read_ahead_of_time(cache, ScriptedOps({5: [gated(gate, updated)]})) as file:
            miss = read_page(file, 5)
            await turns()
            gate.wait_for_arrivals()
            for at in range(1000):
                assert result_at_once(file.pread(7, at)) == pattern(at, 7)
            assert not miss.done()
            gate.open()
            assert await miss == page_at(5)

    asyncio.run(main())


def test_a_read_that_hits_in_part_waits_only_for_the_rest(cache: PageCache) -> None:
    async def main() -> None:
        ops = LaterBytes()
        async with await open_file(cache, ops) as file:
            first = read_page(file, 1)
            await turns()
            ops.wait_for_fetches(1)
            whole = asyncio.ensure_future(file.pread(3 * PAGE_SIZE, 0))
            await turns()
            ops.release()
            assert await first == page_at(1)
            assert await whole == page_at(0, 3)
            assert sorted(ops.fetches) == [(index * PAGE_SIZE, PAGE_SIZE) for index in range(3)]

    asyncio.run(main())


def test_hits_and_misses_are_counted_as_those_of_a_file(cache: PageCache) -> None:
    async def main() -> None:
        async with await open_file(cache, ScriptedOps()) as file:
            await file.pread(10, 0)
            before = cache.stats()
            assert (before.hits, before.misses) == (0, 1)
            for _ in range(5):
                await file.pread(10, 0)
            await file.preadinto(bytearray(10), 0)
            async with file.view(10, 0):
                pass
            after = cache.stats()
            assert (after.hits, after.misses, after.requests) == (7, 1, 1)

    asyncio.run(main())


def test_no_advice_waits_for_a_lock(cache: PageCache) -> None:
    """Somebody has the zone's lock, for as long as the loop's thread takes; what is not needed goes afterwards, though
    the file is closed by then."""

    async def main() -> None:
        file = await read_ahead_of_time(cache)
        mapping = mapping_of(file)
        with cache._zone.lock:
            for advice in ("sequential", "random", "normal", "willneed", "dontneed"):
                offset, length = (3 * PAGE_SIZE, PAGE_SIZE) if advice == "willneed" else (0, 3 * PAGE_SIZE)
                advising = threading.Thread(target=file.advise, args=(advice, offset, length))
                advising.start()
                advising.join(PATIENCE_S)
                assert not advising.is_alive(), f"{advice} waits"
            assert file.resident() == [(0, 4)]
        await file.close()
        await until(lambda: list(mapping.resident()) == [(3, 1)])

    asyncio.run(main())


def test_a_hit_that_lost_its_race_waits_for_no_lock(cache: PageCache) -> None:
    """Who evicts has the zone's lock, and what the loop's thread has touched is given back by another."""

    async def main() -> None:
        async with await read_ahead_of_time(cache) as file:
            arena, read = mapping_of(file).arena, []
            memory = arena.memory

            class Spoilt:
                """Memory that an eviction takes from under the reader, the first time."""

                def __getitem__(self, where: slice) -> bytes:
                    file._reader._memory = memory
                    arena.bump_generation(mapping_of(file).base, 1)
                    return memory[where]

            async def read_at_once() -> None:
                read.append(result_at_once(file.pread(100, 5)))

            file._reader._memory = Spoilt()
            with cache._zone.lock:
                reading = threading.Thread(target=lambda: asyncio.run(read_at_once()))
                reading.start()
                reading.join(PATIENCE_S)
                assert read == [pattern(5, 100)], "it waits"
            await until(lambda: cache.stats().lost_races == 1)

    asyncio.run(main())


def test_advice_is_given_up_where_too_much_of_it_is_in_line(cache: PageCache, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with await read_ahead_of_time(cache) as file:
            with monkeypatch.context() as patched:
                patched.setattr(filemap, "ADVICE_MAX", 0)
                with nothing_may_be_asked_for(monkeypatch):
                    file.advise("dontneed")
            assert file.resident() == [(0, 4)]

    asyncio.run(main())
