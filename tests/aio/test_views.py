"""A view of the asynchronous face pins its pages while it is open, and not a moment longer."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable

import pytest
from tests.aio.sources import (
    assert_at_rest,
    in_time,
    mapping_of,
    open_file,
    page_at,
    turns,
    until,
    waiting_for,
)

from pagein import PageCache
from pagein.aio import AsyncFile
from pagein.testing.stores import ScriptedOps, failing, pattern, started
from pagein.units import PAGE_SIZE


def pinned(file: AsyncFile) -> list[tuple[int, int]]:
    base = mapping_of(file).base
    return [(first - base, stop - base) for first, stop in mapping_of(file).arena.pins.spans()]


def test_its_pages_stay_while_all_others_go(make_cache: Callable[[int], PageCache]) -> None:
    cache = make_cache(16)

    async def main() -> None:
        ops = ScriptedOps()
        async with await open_file(cache, ops, page_count=64) as file:
            async with file.view(3 * PAGE_SIZE, PAGE_SIZE) as data:
                assert pinned(file) == [(1, 4)]
                for index in range(8, 64):
                    await file.pread(1, index * PAGE_SIZE)
                cache.drop()
                assert file.resident() == [(1, 3)]
                assert data == page_at(1, 3)
                assert data.readonly
            assert not pinned(file)
            assert cache.drop() == 3

    asyncio.run(main())


def test_awaited_it_is_the_memoryview_and_is_the_user_s_to_release(cache: PageCache) -> None:
    async def main() -> None:
        async with await open_file(cache, ScriptedOps()) as file:
            data = await file.view(100, 50)
            assert data == pattern(50, 100)
            assert pinned(file)
            data.release()
            assert not pinned(file)
            data = await file.view(100, 50)
            assert pinned(file)
            del data
            assert not pinned(file)

    asyncio.run(main())


@pytest.mark.parametrize("is_hit", [False, True])
def test_it_is_released_when_its_body_raises(cache: PageCache, is_hit: bool) -> None:
    async def main() -> None:
        async with await open_file(cache, ScriptedOps()) as file:
            if is_hit:
                await file.pread(PAGE_SIZE, 0)
            kept = None
            with pytest.raises(ZeroDivisionError):
                async with file.view(100, 0) as data:
                    kept = data
                    raise ZeroDivisionError
            assert not pinned(file)
            assert kept is not None
            with pytest.raises(ValueError, match="released"):
                bytes(kept)

    asyncio.run(main())


def test_it_is_released_when_its_body_is_cancelled(cache: PageCache) -> None:
    async def main() -> None:
        async with await open_file(cache, ScriptedOps()) as file:
            is_inside = asyncio.Event()

            async def body() -> None:
                async with file.view(100, 0):
                    is_inside.set()
                    await asyncio.Event().wait()

            task = asyncio.ensure_future(body())
            await in_time(is_inside.wait())
            assert pinned(file)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await in_time(task)
            assert not pinned(file)

    asyncio.run(main())


def test_one_that_is_cancelled_before_its_pages_have_come_pins_nothing(cache: PageCache) -> None:
    async def main() -> None:
        ops = ScriptedOps({3: [started]})
        async with await open_file(cache, ops) as file:
            task = asyncio.ensure_future(file._view(2 * PAGE_SIZE, 2 * PAGE_SIZE))
            await turns()
            ops.started_page(3)
            await until(lambda: waiting_for(file, 3) == 1)
            assert pinned(file) == [(2, 4)]
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await in_time(task)
            assert not pinned(file)
            ops.complete(3)
            assert_at_rest(cache)
            cache.drop()
            assert file.resident() == []

    asyncio.run(main())


def test_one_whose_page_cannot_be_had_raises_that_error_and_pins_nothing(cache: PageCache) -> None:
    async def main() -> None:
        error = OSError(errno.EIO, "bad sector", "place")
        async with await open_file(cache, ScriptedOps({2: [failing(error)] * 9})) as file:
            with pytest.raises(OSError, match="bad sector") as raised:
                async with file.view(4 * PAGE_SIZE, 0):
                    pass
            assert raised.value is error
            assert not pinned(file)

    asyncio.run(main())


def test_when_all_is_pinned_a_miss_is_enomem_and_heals(make_cache: Callable[[int], PageCache]) -> None:
    cache = make_cache(4)

    async def main() -> None:
        async with await open_file(cache, ScriptedOps()) as file:
            with pytest.raises(OSError, match=r"20 KiB .* do not fit into a cache of 16 KiB") as raised:
                await in_time(file._view(5 * PAGE_SIZE, 0))
            assert raised.value.errno == errno.ENOMEM
            async with file.view(4 * PAGE_SIZE, 0) as data:
                with pytest.raises(OSError, match="pinned") as raised:
                    await in_time(file.pread(1, 5 * PAGE_SIZE))
                assert raised.value.errno == errno.ENOMEM
                assert await file.pread(10, 3) == pattern(3, 10), "what is here can be read"
                assert data == page_at(0, 4)
            assert await in_time(file.pread(1, 5 * PAGE_SIZE)) == pattern(5 * PAGE_SIZE, 1)

    asyncio.run(main())


def test_one_that_is_entered_twice_at_once_says_so_and_keeps_no_page(cache: PageCache) -> None:
    """Also by a task that comes while the first still waits for its pages."""

    async def main() -> None:
        ops = ScriptedOps({3: [started]})
        async with await open_file(cache, ops) as file:
            view = file.view(100, 3 * PAGE_SIZE)
            first = asyncio.ensure_future(view.__aenter__())
            await turns()
            ops.started_page(3)
            with pytest.raises(RuntimeError, match="entered"):
                await in_time(view.__aenter__())
            ops.complete(3)
            assert await in_time(first) == pattern(3 * PAGE_SIZE, 100)
            with pytest.raises(RuntimeError, match="entered"):
                async with view:
                    pass
            await view.__aexit__(None, None, None)
            assert not pinned(file)
            async with view as data:
                assert data == pattern(3 * PAGE_SIZE, 100), "one after the other it may be"
            assert not pinned(file)

    asyncio.run(main())


def test_one_that_could_not_be_entered_may_be_tried_again(cache: PageCache) -> None:
    async def main() -> None:
        ops = ScriptedOps({2: [failing(OSError(errno.EIO, "bad sector", "place"))]})
        async with await open_file(cache, ops) as file:
            view = file.view(100, 2 * PAGE_SIZE)
            with pytest.raises(OSError, match="bad sector"):
                await in_time(view.__aenter__())
            async with view as data:
                assert data == pattern(2 * PAGE_SIZE, 100)

    asyncio.run(main())


def test_many_at_once_each_show_their_own_bytes(make_cache: Callable[[int], PageCache]) -> None:
    """At most 8 are open at once, so that their pages fit."""
    cache = make_cache(32)

    async def main() -> None:
        async with await open_file(cache, ScriptedOps(), page_count=64) as file:
            few = asyncio.Semaphore(8)

            async def look(number: int) -> None:
                offset, size = number * 977 % (60 * PAGE_SIZE), number * 131 % (2 * PAGE_SIZE) + 1
                async with few, file.view(size, offset) as data:
                    await asyncio.sleep(0)
                    assert data == pattern(offset, size)

            await in_time(asyncio.gather(*map(look, range(300))))
            assert not pinned(file)
            assert cache.stats().evictions

    asyncio.run(main())


def test_it_outlives_its_file_and_its_cache() -> None:
    async def main() -> memoryview:
        cache = PageCache(16 * PAGE_SIZE)
        async with await open_file(cache, ScriptedOps()) as file:
            data = await file.view(2 * PAGE_SIZE, PAGE_SIZE)
        cache.close()
        return data

    with asyncio.run(main()) as data:
        assert data == page_at(1, 2)
