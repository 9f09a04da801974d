"""What `CachedStore` costs its store: requests, and what happens while they are under way."""

from __future__ import annotations

import asyncio
import errno
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from obstore import exceptions
from obstore.store import HTTPStore, MemoryStore, S3Store
from tests.forking import in_child
from tests.stores.moto import moto_server

import pagein
from pagein.integrations.obspec import CachedStore
from pagein.mm.sync import SYSTEM, run_steps
from pagein.testing.httpserver import RangeServer

MIB = 1 << 20
DATA = random.Random(1).randbytes(3 * MIB + 1234)
OTHER = random.Random(2).randbytes(3 * MIB + 77)


@pytest.fixture
def objects() -> dict[str, bytes]:
    return {"a": DATA, "small": DATA[:1000], "empty": b""}


@pytest.fixture
def server(objects: dict[str, bytes]) -> Iterator[RangeServer]:
    with RangeServer(objects) as server:
        yield server


@pytest.fixture
def cache() -> Iterator[pagein.PageCache]:
    with pagein.PageCache("64 MiB", debug=True) as cache:
        yield cache


@pytest.fixture
def bare(server: RangeServer) -> HTTPStore:
    return HTTPStore.from_url(server.base_url, client_options={"allow_http": True})


@pytest.fixture
def store(bare: HTTPStore, cache: pagein.PageCache) -> CachedStore:
    return CachedStore(bare, cache=cache)


def asked(server: RangeServer) -> list[tuple[str, int | None, int | None]]:
    """(method, start, stop) of the requests since the last time."""
    log = [(record.method, record.range_start, record.range_stop) for record in server.stats().log]
    server.reset()
    return log


def in_threads(calls: Sequence[Callable[[], Any]], meanwhile: Callable[[], object]) -> list[Any]:
    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(call) for call in calls]
        meanwhile()
        return [future.result() for future in futures]


def test_of_an_unknown_object_the_wanted_bytes_and_all_about_it_are_one_request(
    store: CachedStore, server: RangeServer
) -> None:
    assert store.get("small").bytes() == DATA[:1000]
    assert asked(server) == [("GET", 0, 8 * MIB)]
    assert store.get_range("a", start=5000, length=10_000) == DATA[5000:15_000]
    assert asked(server) == [("GET", 4096, 16384)]
    assert store.get("a", options={"range": {"offset": 4096}}).meta["size"] == len(DATA)
    server.reset()
    store.forget("a")
    tail = store.get("a", options={"range": {"suffix": 10_000}})
    assert (tail.bytes(), tail.range) == (DATA[-10_000:], (len(DATA) - 10_000, len(DATA)))
    assert len(asked(server)) == 1
    assert store.get("empty").bytes() == b""


def test_a_second_pass_costs_no_request(store: CachedStore, server: RangeServer) -> None:
    def read() -> None:
        assert store.get("a").bytes() == DATA
        assert store.get_range("small", start=1, end=999) == DATA[1:999]
        assert store.get_ranges("a", starts=[9, MIB, 3 * MIB], lengths=[1, 1 << 18, 5]) == [
            DATA[9:10],
            DATA[MIB : MIB + (1 << 18)],
            DATA[3 * MIB : 3 * MIB + 5],
        ]
        assert store.head("a")["size"] == len(DATA)

    async def read_async() -> None:
        assert await (await store.get_async("a")).bytes_async() == DATA
        assert await store.get_range_async("small", start=1, end=999) == DATA[1:999]
        assert (await store.head_async("a"))["size"] == len(DATA)

    read()
    assert server.stats().sent_bytes == len(DATA) + 1000, "each byte once"
    server.reset()
    read()
    asyncio.run(read_async())
    assert asked(server) == []


def test_missing_ranges_are_fetched_side_by_side_and_neighbours_as_one(
    store: CachedStore, server: RangeServer, objects: dict[str, bytes]
) -> None:
    objects["b"] = data = random.Random(3).randbytes(12 * MIB)
    store.head("b")
    server.reset()
    starts = [0, 100_000, 4 * MIB, 4 * MIB + 9, 8 * MIB]
    calls = [lambda: store.get_ranges("b", starts=starts, lengths=[100] * 5)]
    server.hold("b")

    def meanwhile() -> None:
        server.wait_for_requests(3)  # before any of them is answered
        server.release("b")

    (found,) = in_threads(calls, meanwhile)
    assert found == [data[start : start + 100] for start in starts]
    assert len(asked(server)) == 3


@pytest.mark.parametrize("face", ["threads", "tasks"])
def test_many_who_want_an_object_at_once_cause_one_download(
    face: str, store: CachedStore, server: RangeServer, cache: pagein.PageCache
) -> None:
    server.hold("small")

    def meanwhile() -> None:
        server.wait_for_requests(1)
        server.release("small")

    async def get_all() -> list[bytes]:
        tasks = [asyncio.create_task(store.get_range_async("small", start=i, end=1000)) for i in range(4)]
        await asyncio.to_thread(meanwhile)
        return await asyncio.gather(*tasks)

    if face == "tasks":
        found = asyncio.run(get_all())
    else:
        calls = [partial(store.get_range, "small", start=i, end=1000) for i in range(4)]
        found = in_threads(calls, meanwhile)
    assert found == [DATA[i:1000] for i in range(4)]
    assert len(asked(server)) == 1


def test_who_comes_to_look_when_another_has_just_looked_asks_nothing(store: CachedStore, server: RangeServer) -> None:
    store.head("small")
    server.reset()
    looking = store._known.look_steps("small", None, SYSTEM.waiter)
    assert run_steps(looking).known is store._known.find("small") is not None
    assert asked(server) == []


def test_a_look_at_what_is_known_is_conditional_and_brings_nothing(
    bare: HTTPStore, cache: pagein.PageCache, server: RangeServer, objects: dict[str, bytes]
) -> None:
    store = CachedStore(bare, cache=cache, revalidate="always")
    assert store.get("small").bytes() == store.get("small").bytes() == DATA[:1000]
    statuses = [record.status for record in server.stats().log]
    assert statuses == [206, 304]
    assert server.stats().sent_bytes == 1000
    objects["small"] = OTHER[:900]
    assert store.get("small").bytes() == OTHER[:900]
    assert store.head("small")["size"] == 900
    server.faults.set("small", "no-etag")
    assert store.get("small").bytes() == store.get("small").bytes() == OTHER[:900]


LITTLE = [
    ("no-range",),
    ("no-range", "no-head"),
    ("no-head",),
    ("weak-etag", "no-head"),
    ("no-etag",),
    ("no-etag", "no-head"),
]


@pytest.mark.parametrize("revalidate", [60, "always"])
@pytest.mark.parametrize("faults", LITTLE)
def test_a_server_may_know_little(
    faults: tuple[str, ...], revalidate: Any, bare: HTTPStore, cache: pagein.PageCache, server: RangeServer
) -> None:
    store = CachedStore(bare, cache=cache, revalidate=revalidate)
    server.faults.set("*", *faults)
    assert [store.head(path)["size"] for path in ("a", "empty")] == [len(DATA), 0]
    assert store.get("small").bytes() == DATA[:1000]
    assert store.get_range("a", start=MIB, length=99_999) == DATA[MIB : MIB + 99_999]
    assert store.get("a").bytes() == DATA
    assert store.get("empty").bytes() == b""
    assert store.get("a", options={"range": {"suffix": 9}}).bytes() == DATA[-9:]
    assert asyncio.run(store.get_range_async("a", start=5, length=9)) == DATA[5:14]


def test_an_object_that_changes_between_two_pages_is_never_a_mixture(
    store: CachedStore, server: RangeServer, objects: dict[str, bytes]
) -> None:
    assert store.get_range("a", start=0, length=100) == DATA[:100]
    objects["a"] = OTHER
    assert store.get("a").bytes() == OTHER
    objects["a"] = DATA
    store.cache.drop()
    assert asyncio.run(store.get_ranges_async("a", starts=[0, MIB], lengths=[10, 10])) == [DATA[:10], DATA[MIB:][:10]]
    del objects["a"]
    store.cache.drop()
    with pytest.raises(FileNotFoundError):
        store.get_range("a", start=0, length=100)


def test_a_failed_fetch_is_an_oserror_and_the_next_call_tries_again(
    bare: HTTPStore, server: RangeServer, cache: pagein.PageCache
) -> None:
    no_retries: Any = {"max_retries": 0}
    once = HTTPStore.from_url(server.base_url, client_options={"allow_http": True}, retry_config=no_retries)
    store = CachedStore(once, cache=cache)
    store.head("a")
    server.faults.set("a", "status:503")
    with pytest.raises(OSError, match="503") as raised:
        store.get_range("a", start=0, length=10)
    assert raised.value.errno == errno.EIO
    assert isinstance(raised.value.__cause__, exceptions.BaseError)
    server.faults.clear("a")
    assert store.get_range("a", start=0, length=10) == DATA[:10]
    store.forget("a")
    server.faults.set("a", "status:503", times=1)
    with pytest.raises(exceptions.BaseError, match="503"):  # a look fails as the store does
        store.get_range("a", start=0, length=10)
    assert store.get_range("a", start=0, length=10) == DATA[:10]


def test_who_asks_after_a_write_is_not_answered_by_a_look_from_before(
    store: CachedStore, server: RangeServer, objects: dict[str, bytes]
) -> None:
    server.hold("small", times=1)
    found: list[bytes] = []

    def meanwhile() -> None:
        server.wait_for_requests(1)
        objects["small"] = OTHER[:500]  # as by a put
        store.forget("small")
        found.append(store.get("small").bytes())
        server.release("small")

    (early,) = in_threads([lambda: store.get("small").bytes()], meanwhile)
    assert early in (DATA[:1000], OTHER[:500])
    assert found == [OTHER[:500]]
    assert store.get("small").bytes() == OTHER[:500]


def test_a_task_that_is_cancelled_leaves_the_look_to_the_others(store: CachedStore, server: RangeServer) -> None:
    server.hold("small")

    async def main() -> bytes:
        first = asyncio.create_task(store.get_range_async("small", start=0, end=9))
        await asyncio.to_thread(server.wait_for_requests, 1)
        second = asyncio.create_task(store.get_range_async("small", start=0, end=9))
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        server.release("small")
        return await second

    assert asyncio.run(main()) == DATA[:9]
    assert store.get("small").bytes() == DATA[:1000]


def test_a_hit_does_not_leave_the_event_loop(store: CachedStore) -> None:
    async def main() -> None:
        turns = 0

        def turn() -> None:
            nonlocal turns
            turns += 1
            asyncio.get_running_loop().call_soon(turn)

        await store.get_async("small")
        turn()
        assert await store.get_range_async("small", start=1, end=5) == DATA[1:5]
        assert await (await store.get_async("small")).bytes_async() == DATA[:1000]
        assert await store.get_ranges_async("small", starts=[1], ends=[5]) == [DATA[1:5]]
        assert (await store.head_async("small"))["size"] == 1000
        assert turns == 1, "nobody else had a turn"

    asyncio.run(main())


def test_a_forked_child_does_not_wait_for_its_parents_threads(store: CachedStore, server: RangeServer) -> None:
    store.get("small")
    server.hold("a")
    thread = threading.Thread(target=lambda: store.get("a"))
    thread.start()
    server.wait_for_requests(2)

    def check() -> None:
        for path in ("small", "a"):
            with pytest.raises(OSError, match="fork") as raised:
                store.get_range(path, start=0, end=10)
            assert raised.value.errno == errno.EDEADLK

    try:
        in_child(check)
    finally:
        server.release("a")
        thread.join()


def test_s3_is_answered_right_by_few_requests_and_then_by_none(cache: pagein.PageCache) -> None:
    with moto_server() as url:
        config: Any = {"access_key_id": "x", "secret_access_key": "y", "region": "us-east-1", "endpoint": url}
        bare = S3Store("bucket", client_options={"allow_http": True}, **config)
        bare.put("k/a", DATA, attributes={"Content-Type": "x/y"})
        bare.put("empty", b"")
        store = CachedStore(bare, cache=cache)
        assert store.get("empty").bytes() == b""
        result = store.get("k/a", options={"range": {"suffix": 100}})
        assert (result.bytes(), result.attributes) == (DATA[-100:], {"Content-Type": "x/y"})
        assert result.meta == bare.head("k/a")
        assert store.get("k/a").bytes() == DATA
        always = CachedStore(bare, cache=cache, revalidate="always")
        assert always.get("k/a").bytes() == always.get("k/a").bytes() == DATA
        store.put("k/a", OTHER)
        assert store.get("k/a").bytes() == OTHER
        bare.put("k/a", DATA)
        assert always.get("k/a").bytes() == DATA
        cache.drop()
        assert store.get("k/a").bytes() == DATA
        with pytest.raises(FileNotFoundError):
            store.get_range("none", start=0, end=1)
        store.head("k/a")
    assert store.get("k/a").bytes() == DATA, "the server has gone"
    assert store.get_range("k/a", start=MIB, length=5) == DATA[MIB : MIB + 5]


def test_memory_stays_bounded_however_large_what_is_read(cache: pagein.PageCache) -> None:
    bare = MemoryStore()
    data = random.Random(4).randbytes(5 * MIB)
    for number in range(4):
        bare.put(f"{number}", data)
    with pagein.PageCache("2 MiB", debug=True) as small:
        store = CachedStore(bare, cache=small)
        for number in range(4):
            assert store.get(f"{number}").bytes() == data
            starts = range(0, 5 * MIB - 100, MIB // 3)
            assert store.get_ranges(f"{number}", starts=list(starts), lengths=[100] * len(starts)) == [
                data[start : start + 100] for start in starts
            ]
            assert small.stats().resident_bytes <= 2 * MIB
