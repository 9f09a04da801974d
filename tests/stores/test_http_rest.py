"""What comes behind the first bytes of a file over HTTP: by the same answer, for who reads on, and for nobody else."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from tests.forking import in_child
from tests.stores.reading import (
    DATA,
    DEADLINE_S,
    IMPATIENT,
    MIB,
    OTHER,
    device_of,
    raises_errno,
    read_in_order,
    wait_until,
)
from tests.wire import UNREAD_BYTES_MAX

import pagein
from pagein import aio
from pagein.mm import known, rest
from pagein.mm.known import known_of
from pagein.mm.pipe import PIECE_BYTES_MAX, Pipe
from pagein.stores.http import HEAD_BYTES, REQUESTS_MAX, HTTPOperations, HTTPSource
from pagein.stores.http_options import HTTPOptions
from pagein.testing.httpserver import RangeServer
from pagein.units import PAGE_SIZE


@pytest.fixture
def objects() -> dict[str, bytes]:
    return {"a": DATA, "b": OTHER}


@pytest.fixture
def more_objects(objects: dict[str, bytes]) -> None:
    objects.update({str(number): DATA for number in range(80)})


@pytest.fixture
def cache() -> Iterator[pagein.PageCache]:
    with pagein.PageCache("16M", debug=True) as cache:
        yield cache


def ranges(server: RangeServer) -> list[tuple[int | None, int | None]]:
    return [(record.range_start, record.range_stop) for record in server.stats().log]


@pytest.mark.parametrize("size", [PAGE_SIZE, 100_000, 128 << 10, MIB, 1_000_000, len(DATA)])
def test_who_reads_a_file_in_order_asks_once(server: RangeServer, cache: pagein.PageCache, size: int) -> None:
    with cache.open(server.url("a")) as file:
        assert read_in_order(file, size) == DATA
        assert server.stats().request_count == 1
        assert server.stats().sent_bytes == len(DATA)
        assert cache.stats().fetched_bytes == len(DATA)
        assert cache.stats().requests == 1
        wait_until(lambda: not device_of(file).rests)
    with cache.open(server.url("b")) as file:  # and the connection is used again
        assert read_in_order(file, size) == OTHER


def test_of_several_who_read_a_file_each_page_comes_once(server: RangeServer, cache: pagein.PageCache) -> None:
    with cache.open(server.url("a")) as file, ThreadPoolExecutor(4) as pool:

        def read(number: int) -> bytes:
            size = 50_000 * (number + 1)
            return b"".join(file.pread(size, at) for at in range(0, len(DATA), size))

        assert list(pool.map(read, range(4))) == [DATA] * 4
        assert cache.stats().fetched_bytes == len(DATA)
        assert server.stats().sent_bytes == len(DATA)


def test_in_asyncio_too(server: RangeServer) -> None:
    async def read(cache: pagein.PageCache) -> bytes:
        async with await aio.open(server.url("a"), cache=cache) as file:
            return b"".join([await file.pread(100_000, at) for at in range(0, len(DATA), 100_000)])

    with pagein.PageCache("16M", debug=True) as cache:
        assert asyncio.run(read(cache)) == DATA
    assert server.stats().request_count == 1


@pytest.mark.usefixtures("more_objects")
def test_who_reads_elsewhere_costs_what_is_on_its_way_once(server: RangeServer, cache: pagein.PageCache) -> None:
    """From then on no more than the first bytes are asked for, until somebody has read on again, twice."""
    with cache.open(server.url("a")) as file:
        file.advise("random")
        assert file.pread(100, 2 * MIB) == DATA[2 * MIB :][:100]
        assert file.pread(100, MIB) == DATA[MIB:][:100]
        wait_until(lambda: server.stats().log[0].t_end_s is not None)
        assert server.stats().sent_bytes <= HEAD_BYTES + UNREAD_BYTES_MAX + 2 * PAGE_SIZE
    for number, is_likely in enumerate([False, False, True]):
        server.reset()
        with cache.open(server.url(str(number))) as file:
            assert (ranges(server)[0][1] != HEAD_BYTES) is is_likely
            assert file.read() == DATA


@pytest.mark.usefixtures("more_objects")
def test_who_reads_no_more_than_the_first_bytes_is_not_one_who_reads_on(
    server: RangeServer, cache: pagein.PageCache
) -> None:
    """Though the marker within them has had more asked for."""
    for number in range(20):
        with cache.open(server.url(str(number))) as file:
            assert file.read(100 << 10) == DATA[: 100 << 10]
    assert ranges(server)[-1] != ranges(server)[0]
    assert sum(stop != HEAD_BYTES for start, stop in ranges(server) if start == 0) <= 2


def test_where_one_connection_is_as_good_as_several_a_file_comes_by_one_answer(
    server: RangeServer, objects: dict[str, bytes]
) -> None:
    """And where it is not, no more than comes until several bring more."""
    objects.update({name: bytes(MIB) + DATA * 20 for name in ("c", "d", "e")})
    size = len(objects["c"])
    for name, stream_bytes_s, several_bytes_s, rest_bytes in (
        ("c", 0.0, 0.0, known.REST_BYTES_START),
        ("d", 0.5e9, 1e9, (5_000_000 + PIECE_BYTES_MAX) & -PAGE_SIZE),
        ("e", 0.5e9, 0.5e9, 250_000_000 & -PAGE_SIZE),
    ):
        with pagein.PageCache("256M", debug=True) as cache:
            source = HTTPSource(server.url(name), HTTPOptions())
            store = known_of((source.device_key, source.device_name))
            store._stream_bytes_s, store._pipe = stream_bytes_s, Pipe()
            store._pipe.answered(0.0, 0.01)
            store._pipe.several_bytes_s = several_bytes_s
            server.reset()
            with cache.open(server.url(name)) as file:
                assert read_in_order(file, MIB) == objects[name]
            assert ranges(server)[0] == (0, HEAD_BYTES + rest_bytes)
            assert (server.stats().request_count == 1) is (rest_bytes > size)
            assert server.stats().sent_bytes == size


def test_nobody_holds_an_answer_for_long(
    server: RangeServer, cache: pagein.PageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may have nobody else to answer; and what is read later is what is there then."""
    monkeypatch.setattr(rest, "REST_S", 0.02)
    with cache.open(server.url("a")) as file, cache.open(server.url("b")) as other:
        wait_until(lambda: not device_of(file).rests)
        wait_until(lambda: all(record.t_end_s is not None for record in server.stats().log))
        assert file.read() == DATA
        server.faults.set("b", "status:412")
        with raises_errno(errno.ESTALE):
            other.read()


@pytest.mark.usefixtures("more_objects")
def test_however_many_are_opened_at_once_the_others_are_served(server: RangeServer, cache: pagein.PageCache) -> None:
    count = REQUESTS_MAX + 8
    with ThreadPoolExecutor(count) as pool, ExitStack() as stack:
        files = list(pool.map(lambda number: cache.open(server.url(str(number))), range(count)))
        for file in files:
            stack.enter_context(file)
        assert device_of(files[0]).rests <= rest.RESTS_MAX
        assert list(pool.map(lambda file: file.pread(10, 2 * MIB), files)) == [DATA[2 * MIB :][:10]] * count
    assert not device_of(files[0]).rests


@pytest.mark.parametrize("fault", ["truncate", "die-after-headers", "no-range", "wrong-length:+5"])
def test_what_does_not_come_with_the_opening_is_asked_for(
    server: RangeServer, cache: pagein.PageCache, fault: str
) -> None:
    server.faults.set("a", fault, times=1)
    with cache.open(server.url("a")) as file:
        assert read_in_order(file, 100_000) == DATA


def test_an_answer_that_stands_still_is_given_up(server: RangeServer, cache: pagein.PageCache) -> None:
    server.hold("a", after_bytes=MIB, times=1)
    options: dict[str, Any] = {"client_options": {"read_timeout": timedelta(seconds=0.2)}}
    with cache.open(server.url("a"), **options) as file:
        assert read_in_order(file, 100_000) == DATA
        assert len(ranges(server)) > 1
    server.release("a")


def test_what_broke_off_is_asked_for_by_no_more_requests_than_the_server_takes(
    server: RangeServer, cache: pagein.PageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in (HTTPSource, HTTPOperations):
        monkeypatch.setattr(one, "requests_max", 4)
    server.faults.set("a", "truncate", times=1)
    with cache.open(server.url("a")) as file, ThreadPoolExecutor(8) as pool:
        file.advise("random")  # so that each asks for itself
        pages = range(HEAD_BYTES, 3 * MIB, PAGE_SIZE)
        read = pool.map(lambda at: file.pread(PAGE_SIZE, at) == DATA[at : at + PAGE_SIZE], pages)
        assert all(read)
    assert server.stats().max_concurrent <= 4


def test_however_many_wait_for_their_part_each_hears_that_the_cache_is_closed(server: RangeServer) -> None:
    async def main(cache: pagein.PageCache) -> None:
        file = await aio.open(server.url("a"), cache=cache)
        file.advise("random")
        reads = [asyncio.ensure_future(file.pread(PAGE_SIZE, HEAD_BYTES + at * PAGE_SIZE)) for at in range(400)]
        await asyncio.to_thread(wait_until, lambda: bool(cache._zone.locked))
        closing = asyncio.ensure_future(asyncio.to_thread(cache.close))
        await asyncio.to_thread(wait_until, lambda: cache._zone.closed)
        server.release("a")
        outcomes = await asyncio.wait_for(asyncio.gather(*reads, return_exceptions=True), DEADLINE_S)
        assert {type(outcome) for outcome in outcomes} <= {bytes, ValueError}
        await closing

    server.hold("a", after_bytes=HEAD_BYTES + 100)
    asyncio.run(main(pagein.PageCache("16M", debug=True)))


@pytest.mark.parametrize("status", [413, 502])
def test_a_server_that_refuses_so_much_is_asked_for_the_first_bytes(
    server: RangeServer, cache: pagein.PageCache, status: int
) -> None:
    server.faults.set("a", f"status:{status}", times=1)
    with cache.open(server.url("a"), **IMPATIENT) as file, cache.open(server.url("b"), **IMPATIENT):
        assert [stop == HEAD_BYTES for _, stop in ranges(server)] == [False, True, True]
        assert file.read() == DATA


def test_an_object_that_changes_before_it_is_read_on_is_as_it_was_or_stale(
    server: RangeServer, cache: pagein.PageCache, objects: dict[str, bytes]
) -> None:
    objects["a"] = DATA * 4  # more than what comes with the opening
    with cache.open(server.url("a")) as file:
        objects["a"] = OTHER * 4
        read = bytearray()
        with raises_errno(errno.ESTALE):
            while piece := file.read(100_000):
                read += piece
        assert read == (DATA * 4)[: len(read)]


def test_a_child_of_a_fork_reads_nothing_of_its_parents_answer(server: RangeServer, cache: pagein.PageCache) -> None:
    with cache.open(server.url("a")) as file:

        def read() -> None:
            assert read_in_order(file, 100_000) == DATA

        in_child(read)
        read()
        assert server.stats().request_count > 1


@pytest.mark.usefixtures("more_objects")
@pytest.mark.parametrize("size", [0, 100, 70_000, 200_000, MIB])
def test_nothing_is_left_of_files_that_were_closed_early(
    server: RangeServer, cache: pagein.PageCache, objects: dict[str, bytes], size: int
) -> None:
    objects.update({str(number): DATA[: 200 << 10 if number % 2 else MIB] for number in range(40)})
    for number in range(40):
        with cache.open(server.url(str(number))) as file:
            file.read(size)
            device = device_of(file)
    wait_until(lambda: not (device.rests or device.rests_asked or device.in_flight))


def test_a_small_cache_asks_for_no_more_than_it_can_hold(server: RangeServer) -> None:
    with pagein.PageCache("256K", debug=True) as cache, cache.open(server.url("a")) as file:
        assert ranges(server) == [(0, HEAD_BYTES)]
        assert file.read() == DATA


def test_a_cache_that_has_no_room_for_the_first_bytes_reads_right(server: RangeServer) -> None:
    """All but a few pages are shown by views."""
    with pagein.PageCache("4M", debug=True) as cache, cache.open(server.url("b")) as other, ExitStack() as stack:
        for at in range(0, 4 * MIB - 20 * PAGE_SIZE, PAGE_SIZE):
            stack.enter_context(other.view(at % (3 * MIB), PAGE_SIZE))
        with cache.open(server.url("a")) as file:
            assert file.pread(MIB, 0) == DATA[:MIB]


def test_of_two_who_read_one_file_far_apart_neither_is_brought_what_lies_between(
    server: RangeServer, objects: dict[str, bytes]
) -> None:
    objects["far"] = bytes(60 * MIB)
    with pagein.PageCache("128M", debug=True) as cache, cache.open(server.url("far")) as file:
        far = 50 * MIB
        for at in range(3):  # which leaves a marker ahead of him
            file.pread(PAGE_SIZE, far + at * PAGE_SIZE)
        file.pread(72 << 10, 0)  # comes to the marker within the first bytes: the last window is his
        for at in range(3, 40):
            file.pread(PAGE_SIZE, far + at * PAGE_SIZE)
        cache.sync()
        assert cache.stats().fetched_bytes < 8 * MIB
