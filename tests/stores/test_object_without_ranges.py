"""Objects on servers without ranges: fetched once, whole, into a temporary file, while others are read."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from obstore.store import HTTPStore
from tests.forking import in_child
from tests.stores.reading import DATA, MIB, ONE_TRY, OTHER, fill, opened, raises_errno

import pagein
from pagein.stores import http as http_store
from pagein.testing.httpserver import RangeServer

PATIENCE_S = 10.0
MANY = 20


@pytest.fixture
def objects() -> dict[str, bytes]:
    return {"a": DATA}


def test_an_object_is_fetched_once_whole_from_a_server_without_ranges(server: RangeServer) -> None:
    server.faults.set("a", "no-range")
    with opened(server.url("a")) as version, ThreadPoolExecutor(8) as pool:
        offsets = range(0, len(DATA) - 1000, 100_000)
        for offset, data in zip(offsets, pool.map(lambda offset: fill(version, 1000, offset), offsets), strict=True):
            assert data == DATA[offset : offset + 1000]
        whole = [record for record in server.stats().log if record[:3] == ("GET", "a", None)]
        assert len(whole) == 1
        server.reset()
        assert fill(version, 1000, 5) == DATA[5:1005]
        assert not server.stats().request_count


def test_an_object_too_large_for_that_is_refused_and_said_so(
    server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_store, "WHOLE_BYTES_MAX", len(DATA) - 1)
    server.faults.set("a", "no-range")
    with opened(server.url("a")) as version, raises_errno(errno.EOPNOTSUPP, "no support for byte ranges"):
        fill(version, 1000, 5)


def test_a_child_does_not_wait_for_a_download_of_its_parent(server: RangeServer) -> None:
    with opened(server.url("a")) as version:
        server.faults.set("a", "no-range")
        with version.ops._whole_lock:  # type: ignore[attr-defined]  # as it is while another thread downloads it
            in_child(lambda: assert_equal(fill(version, 1000, 5), DATA[5:1005]))


def assert_equal(got: bytes, wanted: bytes) -> None:
    assert got == wanted


def test_a_whole_object_that_broke_off_is_fetched_again_by_the_next(server: RangeServer) -> None:
    with opened(server.url("a"), **ONE_TRY) as version:
        server.faults.set("a", "no-range")
        server.faults.set("a", "truncate", times=2)  # the answer to the range, and the whole one
        with raises_errno(errno.EIO, "broke off"):
            fill(version, 1000, 5)
        assert fill(version, 1000, 5) == DATA[5:1005]


def test_a_changed_object_is_not_fetched_whole(server: RangeServer, objects: dict[str, bytes]) -> None:
    server.faults.set("a", "no-range", "weak-etag")
    with opened(server.url("a")) as version:
        objects["a"] = OTHER
        with raises_errno(errno.ESTALE):
            fill(version, len(DATA), 0)
        with raises_errno(errno.ESTALE):
            fill(version, 1000, 5)


# -- while it is on its way --------------------------------------------------------------------------


@pytest.fixture
def slow(objects: dict[str, bytes]) -> Iterator[RangeServer]:
    """Takes minutes for "a", and no time for what is small; knows no ranges."""
    with RangeServer(objects, bandwidth_bytes_s=20_000.0, faults={"*": "no-range"}) as server:
        yield server


def test_however_many_wait_for_one_object_others_are_read_meanwhile(
    slow: RangeServer, objects: dict[str, bytes]
) -> None:
    objects["small"] = OTHER[:2000]
    with (
        opened(slow.url("a"), **ONE_TRY) as large,
        opened(slow.url("small")) as small,
        ThreadPoolExecutor(MANY + 1) as pool,
    ):
        waiting = [pool.submit(fill, large, 1000, count * 1000) for count in range(MANY)]
        slow.wait_for_requests(1 + MANY + 1, path="a")  # the open, a range for each of them, and the whole
        assert pool.submit(fill, small, 1000, 5).result(PATIENCE_S) == OTHER[5:1005]
        assert not any(fetch.done() for fetch in waiting)
        slow.stop()
        assert all(isinstance(fetch.exception(PATIENCE_S), OSError) for fetch in waiting)


def test_the_interpreter_does_not_wait_for_it(slow: RangeServer) -> None:
    program = """
import sys, threading, pagein
file = pagein.open(sys.argv[1])
file.advise("random")
def read():
    try:
        file.pread(1, 0)
    except RuntimeError:  # "... the interpreter is shutting down"
        pass
threading.Thread(target=read, daemon=True).start()
sys.stdin.read()
"""
    command = [sys.executable, "-X", "dev", "-W", "ignore", "-c", program, slow.url("a")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reader:
        try:
            slow.wait_for_requests(4, path="a")  # the first bytes, the open, a range, and the whole
            _, complaints = reader.communicate("", PATIENCE_S)
        finally:
            reader.kill()
    assert (reader.returncode, complaints) == (0, "")


def test_a_reader_leaves_a_server_without_ranges_to_the_loop(server: RangeServer) -> None:
    """Of obstore: he asks once for the range himself; what the server says to it is no error."""
    server.faults.set("a", "no-range")
    store = HTTPStore.from_url(server.base_url, client_options={"allow_http": True})
    with pagein.PageCache("16M") as cache, cache.open((store, "a")) as file:
        file.advise("random")
        assert file.pread(1000, 2 * MIB) == DATA[2 * MIB : 2 * MIB + 1000]
        assert file.pread(1000, MIB) == DATA[MIB : MIB + 1000]
        assert not file._file.mapping.ops.readers_call
        whole = [record for record in server.stats().log if record[:3] == ("GET", "a", None)]
        assert len(whole) == 1
