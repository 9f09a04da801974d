"""Thousands of reads on one loop, several loops, other processes, and a real server."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable

import pytest
from tests.aio.sources import LaterBytes, Place, in_time, open_file, page_at, read_page, turns
from tests.forking import CHILD_TIMEOUT_S, in_child

import pagein
from pagein import PageCache
from pagein.aio import AsyncFile
from pagein.mm.aops import AddressSpaceOperations
from pagein.stores import MemoryStore
from pagein.testing.stores import ScriptedOps, ScriptedRunOps, pattern
from pagein.units import PAGE_SIZE, page_count_for

MANY = 5000
PAGES = 1000


def blocking() -> ScriptedOps:
    ops = ScriptedOps()
    ops.blocking = True
    return ops


def later() -> LaterBytes:
    return LaterBytes(held=False)


KINDS: dict[str, Callable[[], ScriptedOps | LaterBytes]] = {
    "at hand": ScriptedOps,
    "in runs": ScriptedRunOps,
    "that blocks": blocking,
    "that answers later": later,
}


def pages_of(offset: int, size: int) -> range:
    return range(offset // PAGE_SIZE, page_count_for(offset + size) if size else offset // PAGE_SIZE)


def fetched(ops: ScriptedOps | LaterBytes) -> Counter[int]:
    """How often each page came."""
    if isinstance(ops, LaterBytes):
        return Counter(index for offset, size in ops.fetches for index in pages_of(offset, size))
    return Counter(index for _, first, count in ops.asked() for index in range(first, first + count))


@pytest.mark.parametrize("kind", KINDS)
def test_five_thousand_reads_get_their_bytes_and_each_page_is_fetched_once(
    make_cache: Callable[[int], PageCache], kind: str
) -> None:
    """Some hit, some miss, some wait for a page that another asked for; all at once."""
    cache, ops = make_cache(2 * PAGES), KINDS[kind]()

    async def main() -> None:
        rng = random.Random(3)
        async with await open_file(cache, ops, page_count=PAGES) as file:
            await asyncio.gather(*(read_page(file, index) for index in range(0, PAGES, 10)))
            places = [(rng.randrange(2 * PAGE_SIZE), rng.randrange(PAGES * PAGE_SIZE)) for _ in range(MANY)]
            found = await in_time(asyncio.gather(*(file.pread(size, offset) for size, offset in places)))
            for (size, offset), data in zip(places, found, strict=True):
                assert data == pattern(offset, min(size, PAGES * PAGE_SIZE - offset))
            wanted = {index for size, offset in places for index in pages_of(offset, size) if index < PAGES}
            assert fetched(ops) == Counter(wanted | set(range(0, PAGES, 10)))

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_more_readers_than_a_small_cache_has_room_for_all_get_their_bytes(
    make_cache: Callable[[int], PageCache], kind: str
) -> None:
    """They wait for memory, and none is told that there is none."""
    cache = make_cache(16)

    async def main() -> None:
        rng = random.Random(4)
        async with await open_file(cache, KINDS[kind](), page_count=64) as file:
            pages = rng.choices(range(64), k=300)
            found = await in_time(asyncio.gather(*(read_page(file, index) for index in pages)))
            assert found == [page_at(index) for index in pages]

    asyncio.run(main())


def test_tasks_that_read_a_stream_each_read_ahead(make_cache: Callable[[int], PageCache]) -> None:
    cache, ops = make_cache(512), later()
    place = Place(ops, 100 * PAGE_SIZE)

    async def stream() -> bytes:
        async with await pagein.aio.open((place, "path"), cache=cache) as file:
            pieces = []
            while piece := await file.read(1000):
                pieces.append(piece)
            return b"".join(pieces)

    async def main() -> None:
        assert set(await in_time(asyncio.gather(*(stream() for _ in range(8))))) == {page_at(0, 100)}
        assert set(fetched(ops).values()) == {1}
        assert len(ops.fetches) < 50

    asyncio.run(main())


# -- other loops, other threads ----------------------------------------------------------------------------------


def test_loops_in_several_threads_share_the_pages_of_one_object(make_cache: Callable[[int], PageCache]) -> None:
    cache, ops = make_cache(256), later()
    place = Place(ops, 64 * PAGE_SIZE)
    failures: list[BaseException] = []
    start = threading.Barrier(5)

    async def main(seed: int) -> None:
        order = random.Random(seed).sample(range(64), 64)
        async with await pagein.aio.open((place, "path"), cache=cache) as file:
            file.advise("random")
            start.wait(CHILD_TIMEOUT_S)
            for at in range(0, 64, 8):
                found = await in_time(asyncio.gather(*(read_page(file, index) for index in order[at : at + 8])))
                assert found == [page_at(index) for index in order[at : at + 8]]

    def run(seed: int) -> None:
        try:
            asyncio.run(main(seed))
        except BaseException as error:
            failures.append(error)

    def read_without_a_loop() -> None:
        try:
            with cache.open((place, "path")) as file:
                start.wait(CHILD_TIMEOUT_S)
                assert [file.pread(PAGE_SIZE, index * PAGE_SIZE) for index in range(64)] == [*map(page_at, range(64))]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    threads.append(threading.Thread(target=read_without_a_loop))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(CHILD_TIMEOUT_S)
    assert not failures
    assert fetched(ops) == Counter(range(64))


def test_one_loop_after_another_may_use_a_file(cache: PageCache) -> None:
    file = asyncio.run(open_file(cache, ScriptedOps()))

    async def main() -> list[bytes]:
        return await in_time(asyncio.gather(*(read_page(file, index) for index in range(8))))

    for _ in range(3):
        cache.drop()
        assert asyncio.run(main()) == [page_at(index) for index in range(8)]
    asyncio.run(file.close())


# -- another process ----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
@pytest.mark.parametrize("make_ops", [ScriptedOps, later], ids=["at hand", "later"])
def test_a_forked_child_reads_on_a_loop_of_its_own(
    cache: PageCache, make_ops: Callable[[], AddressSpaceOperations]
) -> None:
    """A file that its parent has opened and read from, and one that it opens itself."""

    async def read_all(file: AsyncFile) -> None:
        async with file:
            found = await in_time(asyncio.gather(*(read_page(file, index) for index in range(8))))
            assert found == [page_at(index) for index in range(8)]

    async def begin() -> AsyncFile:
        file = await open_file(cache, make_ops())
        assert await file.pread(PAGE_SIZE, 3 * PAGE_SIZE) == page_at(3)
        return file

    def check() -> None:
        assert cache.stats().resident_bytes == 0
        asyncio.run(read_all(file))

        async def own() -> None:
            await read_all(await open_file(cache, make_ops()))

        asyncio.run(own())

    file = asyncio.run(begin())
    in_child(check)
    asyncio.run(read_all(file))


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_child_that_is_forked_while_tasks_wait_waits_for_none_of_them(cache: PageCache) -> None:
    async def own(file: AsyncFile) -> None:
        assert await in_time(file.pread(PAGE_SIZE, 6 * PAGE_SIZE)) == page_at(6)
        assert await in_time(file.pread(PAGE_SIZE, 3 * PAGE_SIZE)) == page_at(3)

    async def main() -> None:
        ops = LaterBytes()
        async with await open_file(cache, ops) as file:
            waiting = read_page(file, 3)
            await turns()
            ops.wait_for_fetches(1)

            def check() -> None:
                asyncio.events._set_running_loop(None)
                ops._held = False
                asyncio.new_event_loop().run_until_complete(own(file))

            in_child(check)
            assert not waiting.done()
            ops.release()
            assert await in_time(waiting) == page_at(3)
            assert len(ops.fetches) == 1

    asyncio.run(main())


def test_the_default_cache_serves_who_names_none(monkeypatch: pytest.MonkeyPatch, cache: PageCache) -> None:
    monkeypatch.setattr("pagein.aio.default_cache", lambda: cache)

    async def main() -> None:
        async with await pagein.aio.open((MemoryStore({"a": b"bytes"}), "a")) as file:
            assert await file.read() == b"bytes"
            assert cache.stats().open_files == 1

    asyncio.run(main())
