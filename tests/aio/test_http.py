"""The asynchronous face over a real HTTP server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
from tests.aio.sources import in_time, turns

import pagein
from pagein import PageCache
from pagein.testing.httpserver import RangeServer
from pagein.units import PAGE_SIZE


def test_over_http_hundreds_of_reads_share_the_connection_pool_and_their_pages(
    make_cache: Callable[[int], PageCache],
) -> None:
    pytest.importorskip("obstore")
    data = random.Random(1).randbytes(4 << 20)
    cache = make_cache(4096)

    async def main(url: str) -> None:
        async with await in_time(pagein.aio.open(url, cache=cache)) as file:
            file.advise("random")
            rng = random.Random(2)
            places = [(rng.randrange(1, 3 * PAGE_SIZE), rng.randrange(len(data))) for _ in range(600)]
            found = await in_time(asyncio.gather(*(file.pread(size, offset) for size, offset in places)))
            for (size, offset), piece in zip(places, found, strict=True):
                assert piece == data[offset : offset + size]
            assert cache.stats().fetched_bytes <= len(data)

    with RangeServer({"a": data}) as server:
        asyncio.run(main(server.url("a")))
        assert server.stats().sent_bytes <= len(data)


def test_over_http_a_reader_that_is_cancelled_leaves_the_page_to_the_others(cache: PageCache) -> None:
    pytest.importorskip("obstore")
    data = random.Random(1).randbytes(1 << 20)

    async def main(server: RangeServer) -> None:
        async with await in_time(pagein.aio.open(server.url("a"), cache=cache)) as file:
            file.advise("random")
            offset = 700_000
            server.hold("a")
            first, second = (asyncio.ensure_future(file.pread(1000, offset)) for _ in range(2))
            await turns()
            server.wait_for_requests(2)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await in_time(first)
            server.release("a")
            assert await in_time(second) == data[offset : offset + 1000]
            assert server.stats().request_count == 2, "the first bytes with the open, and these"

    with RangeServer({"a": data}) as server:
        asyncio.run(main(server))
