"""What comes behind the first bytes of an object through obstore: by the same answer, for who reads on."""

from __future__ import annotations

import errno
import gc
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import obstore
import pytest
from obstore.store import HTTPStore, MemoryStore, S3Store
from tests.forking import in_child
from tests.stores.moto import moto_server
from tests.stores.reading import DATA, DEADLINE_S, MIB, OTHER, device_of, raises_errno, read_in_order, wait_until
from tests.stores.scripted import ScriptedServer, response

import pagein
from pagein.mm import known, rest
from pagein.stores import object_rest
from pagein.stores.object import HEAD_BYTES
from pagein.testing.httpserver import RangeServer
from pagein.units import PAGE_SIZE


@pytest.fixture
def objects() -> dict[str, bytes]:
    return {"a": DATA, "b": OTHER}


@pytest.fixture
def store(server: RangeServer) -> HTTPStore:
    return HTTPStore.from_url(server.base_url, client_options={"allow_http": True}, retry_config={"max_retries": 0})


@pytest.fixture
def cache() -> Iterator[pagein.PageCache]:
    with pagein.PageCache("16M", debug=True) as cache:
        yield cache


@pytest.mark.parametrize("size", [PAGE_SIZE, 100_000, 128 << 10, MIB, len(DATA)])
def test_who_reads_an_object_in_order_asks_once(
    server: RangeServer, store: HTTPStore, cache: pagein.PageCache, size: int
) -> None:
    with cache.open((store, "a")) as file:
        assert read_in_order(file, size) == DATA
        assert server.stats().request_count == cache.stats().requests == 1
        assert server.stats().sent_bytes == cache.stats().fetched_bytes == len(DATA)
        wait_until(lambda: not device_of(file).rests)
    with cache.open((store, "b")) as file:
        assert read_in_order(file, size) == OTHER
    wait_until(lambda: not object_rest._streams)


@pytest.mark.parametrize("size", [1, HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 1, HEAD_BYTES + PAGE_SIZE])
def test_what_is_little_more_than_the_first_bytes_comes_with_them(
    server: RangeServer, store: HTTPStore, cache: pagein.PageCache, objects: dict[str, bytes], size: int
) -> None:
    objects["a"] = DATA[:size]
    with cache.open((store, "a")) as file:
        assert file.read() == DATA[:size]
        assert server.stats().request_count == 1


def test_who_reads_elsewhere_costs_what_is_on_its_way(
    server: RangeServer, store: HTTPStore, cache: pagein.PageCache, objects: dict[str, bytes]
) -> None:
    objects["a"] = DATA * 4
    with cache.open((store, "a")) as file:
        file.advise("random")
        assert file.pread(100, 8 * MIB) == (DATA * 4)[8 * MIB :][:100]
        assert file.pread(100, MIB) == DATA[MIB:][:100]
        wait_until(lambda: server.stats().log[0].t_end_s is not None)
        # obstore reads some hundred KiB that it has not been asked for, so the system's buffer grows further.
        assert server.stats().sent_bytes <= HEAD_BYTES + known.REST_BYTES_START // 2 + 2 * PAGE_SIZE
        wait_until(lambda: not object_rest._streams)


def test_nobody_holds_an_answer_for_long(
    server: RangeServer, store: HTTPStore, cache: pagein.PageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "REST_S", 0.02)
    with cache.open((store, "a")) as file:
        wait_until(lambda: not object_rest._streams and server.stats().log[0].t_end_s is not None)
        assert file.read() == DATA


@pytest.mark.parametrize("fault", ["truncate", "die-after-headers", "no-range", "no-etag", "wrong-length:+5"])
def test_what_does_not_come_with_the_opening_is_asked_for(
    server: RangeServer, store: HTTPStore, cache: pagein.PageCache, fault: str
) -> None:
    server.faults.set("a", fault, times=1)
    with cache.open((store, "a")) as file:
        assert read_in_order(file, 100_000) == DATA
    wait_until(lambda: not object_rest._streams)


@pytest.mark.parametrize("gives_less", [True, False])
def test_a_server_that_does_not_give_so_much_at_once_is_asked_for_the_first_bytes(
    cache: pagein.PageCache, *, gives_less: bool
) -> None:
    size = 200_000

    def part(start: int, stop: int) -> bytes:
        return response(206, DATA[start:stop], content_range=f"bytes {start}-{stop - 1}/{size}", etag='"1"')

    refusal = part(0, 150_000) if gives_less else response(413)
    with ScriptedServer(refusal, part(0, HEAD_BYTES), part(HEAD_BYTES, size)) as server:
        store = HTTPStore.from_url(server.url(""), client_options={"allow_http": True}, retry_config={"max_retries": 0})
        with cache.open((store, "a")) as file:
            assert file.read() == DATA[:size]
        assert len(server.requests) == 3


def test_an_answer_that_breaks_off_is_not_gone_on_with_by_another_version(
    server: RangeServer, cache: pagein.PageCache, objects: dict[str, bytes]
) -> None:
    """obstore asks for what is left of it: it may be another object's by now."""
    store = HTTPStore.from_url(server.base_url, client_options={"allow_http": True})
    objects["a"] = DATA * 4
    server.hold("a", after_bytes=2 * MIB, times=1)
    server.faults.set("a", "truncate", times=1)
    with cache.open((store, "a")) as file:
        objects["a"] = OTHER * 4
        server.release("a")
        read = bytearray()
        with raises_errno(errno.ESTALE):
            while piece := file.read(100_000):
                read += piece
        assert read == (DATA * 4)[: len(read)]


def test_a_child_of_a_fork_reads_nothing_of_its_parents_answer_and_lets_go_of_none(
    server: RangeServer, store: HTTPStore
) -> None:
    cache = pagein.PageCache("16M", debug=True)
    file = cache.open((store, "a"))

    def read() -> None:
        nonlocal cache, file
        with raises_errno(errno.EDEADLK):
            read_in_order(file, 100_000)
        file.close()
        cache.close()
        del file, cache
        gc.collect()
        assert len(object_rest._streams) == 1

    with cache, file:
        in_child(read)
        assert read_in_order(file, 100_000) == DATA
        assert server.stats().request_count == 1
    wait_until(lambda: not object_rest._streams)


def test_a_program_may_end_while_a_part_is_on_its_way(server: RangeServer) -> None:
    program = """
import os, sys, pagein
from obstore.store import HTTPStore
store = HTTPStore.from_url(sys.argv[1], client_options={"allow_http": True})
file = pagein.open((store, "a"))
file.advise("willneed")  # it comes with the opening
while not file._file.mapping.in_flight: os.sched_yield()
print("ends")
"""
    server.hold("a", after_bytes=MIB)
    command = [sys.executable, "-X", "dev", "-W", "ignore", "-c", program, server.base_url]
    ended = subprocess.run(command, timeout=DEADLINE_S, capture_output=True, text=True, check=False)
    server.release("a")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "ends\n", "")


def test_what_is_at_hand_has_no_rest(cache: pagein.PageCache) -> None:
    store = MemoryStore()
    obstore.put(store, "a", DATA)
    with cache.open((store, "a")) as file:
        assert file._file.mapping.rest is None
        assert file.read() == DATA


def test_who_reads_an_object_of_s3_in_order_asks_once(cache: pagein.PageCache) -> None:
    with moto_server() as url:
        options: dict[str, Any] = {
            "endpoint": url,
            "region": "us-east-1",
            "access_key_id": "id",
            "secret_access_key": "not-told",
        }
        obstore.put(S3Store("bucket", client_options={"allow_http": True}, **options), "a", DATA)
        with cache.open("s3://bucket/a", "rb", **options) as file:
            assert read_in_order(file, 100_000) == DATA
            assert cache.stats().requests == 1
