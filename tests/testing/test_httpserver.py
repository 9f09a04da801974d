"""RangeServer without faults: what it answers, which version of an object, what it counts, how it ends."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.testing.httpclient import TIMEOUT_S, Reply, ask, connected, exchange, random_bytes

from pagein.testing.httpserver import RangeServer

DATA = random_bytes(100_000)
MIB = 1024 * 1024


@pytest.fixture(params=["mapping", "directory"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RangeServer]:
    """The same objects from memory and from files."""
    objects = {"a.bin": DATA, "empty": b"", "sub/ü 100%?#.bin": b"umlaut"}
    if request.param == "directory":
        for name, data in objects.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
    with RangeServer(objects if request.param == "mapping" else tmp_path) as server:
        yield server


class TestAnswers:
    def test_get_brings_the_whole_object_and_its_validators(self, server: RangeServer) -> None:
        reply = ask(server, "a.bin")
        assert reply.status == 200
        assert reply.body == DATA
        assert reply.headers["Content-Length"] == str(len(DATA))
        assert reply.headers["Accept-Ranges"] == "bytes"
        assert reply.headers["ETag"].startswith('"')
        modified = parsedate_to_datetime(reply.headers["Last-Modified"])
        assert modified <= parsedate_to_datetime(reply.headers["Date"])

    @pytest.mark.parametrize(
        ("header", "start", "stop"),
        [
            ("bytes=0-0", 0, 1),
            ("bytes=4096-8191", 4096, 8192),
            ("bytes=99999-", 99_999, 100_000),
            ("bytes=-7", 99_993, 100_000),
            ("bytes=10-99999999", 10, 100_000),  # longer than one write, so by way of sendfile
        ],
    )
    def test_a_range_is_answered_with_206(self, server: RangeServer, header: str, start: int, stop: int) -> None:
        reply = ask(server, "a.bin", range=header)
        assert reply.status == 206
        assert reply.body == DATA[start:stop]
        assert reply.headers["Content-Range"] == f"bytes {start}-{stop - 1}/100000"
        assert reply.headers["Content-Length"] == str(stop - start)

    @pytest.mark.parametrize("header", ["bytes=9-5", "lines=1-2", "bytes=0-1,5-6", "bytes=-"])
    def test_a_range_that_cannot_be_read_is_ignored(self, server: RangeServer, header: str) -> None:
        reply = ask(server, "a.bin", range=header)
        assert (reply.status, reply.body) == (200, DATA)
        assert "Content-Range" not in reply.headers

    @pytest.mark.parametrize(
        ("name", "header", "size_bytes"),
        [("a.bin", "bytes=100000-", 100_000), ("a.bin", "bytes=-0", 100_000), ("empty", "bytes=0-", 0)],
    )
    def test_a_range_past_the_end_is_416_with_the_size(
        self, server: RangeServer, name: str, header: str, size_bytes: int
    ) -> None:
        reply = ask(server, name, range=header)
        assert reply.status == 416
        assert reply.headers["Content-Range"] == f"bytes */{size_bytes}"

    def test_an_empty_object_is_an_answer_too(self, server: RangeServer) -> None:
        reply = ask(server, "empty")
        assert (reply.status, reply.body, reply.headers["Content-Length"]) == (200, b"", "0")

    def test_head_says_what_get_says_without_the_body(self, server: RangeServer) -> None:
        with connected(server) as connection:
            head = exchange(connection, "/a.bin", method="HEAD", range="bytes=0-9")
            get = exchange(connection, "/a.bin")
        assert (head.status, head.body) == (200, b"")  # RFC 9110, 14.2: Range is for GET only
        del head.headers["Date"], get.headers["Date"]
        assert head.headers.items() == get.headers.items()

    def test_names_are_quoted_in_urls(self, server: RangeServer) -> None:
        assert ask(server, "sub/ü 100%?#.bin").body == b"umlaut"
        assert server.url("sub/ü 100%?#.bin").endswith("/sub/%C3%BC%20100%25%3F%23.bin")
        assert server.stats().by_path["sub/ü 100%?#.bin"].get_count == 1

    def test_a_query_in_the_url_does_not_change_the_object(self, server: RangeServer) -> None:
        with connected(server) as connection:
            assert exchange(connection, "/a.bin?signature=x/y").body == DATA

    @pytest.mark.parametrize("name", ["missing", "a.bin/x", "sub", "", "sub/", "x" * 300])
    def test_what_is_not_there_is_404(self, server: RangeServer, name: str) -> None:
        assert ask(server, name).status == 404

    def test_one_connection_serves_many_requests_of_every_outcome(self, server: RangeServer) -> None:
        with connected(server) as connection:
            exchange(connection, "/a.bin")
            socket_before = connection.sock
            for _ in range(3):
                assert exchange(connection, "/a.bin", range="bytes=5-9").body == DATA[5:10]
                assert exchange(connection, "/missing").status == 404
                assert exchange(connection, "/a.bin", method="HEAD").status == 200
                assert exchange(connection, "/a.bin", range="bytes=100000-").status == 416
                assert exchange(connection, "/a.bin", if_match='"other"').status == 412
                assert exchange(connection, "/a.bin", if_none_match="*").status == 304
            assert connection.sock is socket_before

    def test_preconditions_reach_the_answer(self, server: RangeServer) -> None:
        told = ask(server, "a.bin").headers
        etag, modified = told["ETag"], told["Last-Modified"]
        good = ask(server, "a.bin", range="bytes=0-9", if_match=etag, if_unmodified_since=modified)
        assert (good.status, good.body) == (206, DATA[:10])
        assert ask(server, "a.bin", range="bytes=0-9", if_match='"other"').status == 412
        not_modified = ask(server, "a.bin", if_none_match=etag)
        assert (not_modified.status, not_modified.body) == (304, b"")
        assert not_modified.headers["ETag"] == etag
        assert ask(server, "a.bin", if_modified_since=modified).status == 304
        assert ask(server, "a.bin", range="bytes=0-9", if_range=etag).status == 206
        assert ask(server, "a.bin", range="bytes=0-9", if_range='"other"').status == 200

    def test_a_request_with_a_body_does_not_spoil_the_next(self, server: RangeServer) -> None:
        with connected(server) as connection:
            connection.request("GET", "/a.bin", body=b"GET /missing HTTP/1.1\r\n\r\n")
            with connection.getresponse() as response:
                assert response.read() == DATA
            assert exchange(connection, "/a.bin").body == DATA
        assert server.stats().request_count == 2

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
    def test_other_methods_are_refused_and_not_counted(self, server: RangeServer, method: str) -> None:
        assert ask(server, "a.bin", method=method).status in (405, 501)
        assert server.stats().request_count == 0

    def test_http_1_0_gets_its_answer_and_the_end_of_the_connection(self, server: RangeServer) -> None:
        address = ("127.0.0.1", urlsplit(server.base_url).port)
        with socket.create_connection(address, TIMEOUT_S) as raw:
            raw.sendall(b"GET /a.bin HTTP/1.0\r\n\r\n")
            head, _, body = b"".join(iter(lambda: raw.recv(65536), b"")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert body == DATA


class TestDirectory:
    @pytest.mark.parametrize(
        "target", ["/../secret", "/sub/../../secret", "/%2e%2e/secret", "//secret", "/..%5csecret", "/a%00b"]
    )
    def test_nothing_outside_is_served(self, tmp_path: Path, target: str) -> None:
        (tmp_path / "root" / "sub").mkdir(parents=True)
        (tmp_path / "secret").write_bytes(b"secret")
        with RangeServer(tmp_path / "root") as server, connected(server) as connection:
            absolute = target.replace("//secret", "//" + str(tmp_path / "secret"))
            assert exchange(connection, absolute).status == 404

    def test_a_fifo_is_not_an_object_and_does_not_block(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        with RangeServer(tmp_path) as server:
            assert ask(server, "fifo").status == 404

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_file_that_may_not_be_read_is_403(self, tmp_path: Path) -> None:
        (tmp_path / "a.bin").touch(mode=0)
        with RangeServer(tmp_path) as server:
            assert ask(server, "a.bin").status == 403

    def test_a_renamed_file_of_the_same_size_and_time_is_another_version(self, tmp_path: Path) -> None:
        path, other = tmp_path / "a.bin", tmp_path / "b.bin"
        path.write_bytes(b"one")
        other.write_bytes(b"two")
        os.utime(path, ns=(1, 1))
        os.utime(other, ns=(1, 1))
        with RangeServer(tmp_path) as server:
            before = ask(server, "a.bin")
            other.replace(path)
            after = ask(server, "a.bin")
        assert (before.body, after.body) == (b"one", b"two")
        assert before.headers["ETag"] != after.headers["ETag"]

    def test_a_file_that_is_cut_while_it_is_sent_ends_the_connection(self, tmp_path: Path) -> None:
        path = tmp_path / "a.bin"
        with path.open("wb") as file:
            file.truncate(256 * MIB)  # sparse, and more than the sockets buffer
        with RangeServer(tmp_path) as server, connected(server) as connection:
            connection.request("GET", "/a.bin")
            with connection.getresponse() as response:
                os.truncate(path, MIB)
                with pytest.raises(http.client.IncompleteRead):
                    response.read()
            assert server.stats().sent_bytes < 128 * MIB  # what was not sent is not counted

    def test_a_missing_directory_or_a_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(FileNotFoundError):
            RangeServer(tmp_path / "missing")
        with pytest.raises(NotADirectoryError):
            RangeServer(tmp_path / "file")


class TestChangingMapping:
    def test_another_value_is_another_version(self) -> None:
        objects = {"a": b"one"}
        with RangeServer(objects) as server:
            first = ask(server, "a")
            objects["a"] = b"two!"
            second = ask(server, "a")
            assert second.body == b"two!"
            assert second.headers["ETag"] != first.headers["ETag"]
            modified = [parsedate_to_datetime(reply.headers["Last-Modified"]) for reply in (first, second)]
            assert modified[0] < modified[1]
            assert ask(server, "a", if_match=first.headers["ETag"]).status == 412
            assert ask(server, "a", if_unmodified_since=first.headers["Last-Modified"]).status == 412

    def test_equal_bytes_are_the_same_version(self) -> None:
        objects = {"a": bytes(bytearray(b"one"))}
        with RangeServer(objects) as server:
            first = ask(server, "a")
            objects["a"] = bytes(bytearray(b"one"))
            second = ask(server, "a")
        assert first.headers["ETag"] == second.headers["ETag"]
        assert first.headers["Last-Modified"] == second.headers["Last-Modified"]

    def test_an_object_can_shrink_grow_vanish_and_appear(self) -> None:
        objects = {"a": DATA}
        with RangeServer(objects) as server:
            objects["a"] = DATA[:5]
            assert ask(server, "a", range="bytes=5-9").status == 416
            objects["a"] = DATA + DATA
            assert ask(server, "a", range="bytes=100000-100004").body == DATA[:5]
            del objects["a"]
            assert ask(server, "a").status == 404
            objects["b"] = b"new"
            assert ask(server, "b").body == b"new"

    def test_one_answer_is_one_version(self) -> None:
        old, new = random_bytes(32 * MIB, seed=2), b"\0" * (32 * MIB)
        objects = {"a": old}
        with RangeServer(objects) as server, connected(server) as connection:
            connection.request("GET", "/a")
            with connection.getresponse() as response:
                objects["a"] = new
                assert response.read() == old
            assert exchange(connection, "/a").body == new


class TestStats:
    def test_sums_paths_and_log(self, server: RangeServer) -> None:
        ask(server, "a.bin")
        ask(server, "a.bin", range="bytes=10-19")
        ask(server, "a.bin", range="bytes=-5")
        ask(server, "a.bin", method="HEAD")
        ask(server, "empty")
        not_found_bytes = len(ask(server, "missing").body)
        stats = server.stats()
        sent_bytes = len(DATA) + 10 + 5
        assert stats.request_count == 6
        assert (stats.get_count, stats.head_count) == (5, 1)
        assert stats.sent_bytes == sent_bytes + not_found_bytes
        assert set(stats.by_path) == {"a.bin", "empty", "missing"}
        assert stats.by_path["a.bin"].request_count == 4
        assert stats.by_path["a.bin"].sent_bytes == sent_bytes
        assert [record[:4] for record in stats.log] == [
            ("GET", "a.bin", None, None),
            ("GET", "a.bin", 10, 20),
            ("GET", "a.bin", -5, None),
            ("HEAD", "a.bin", None, None),
            ("GET", "empty", None, None),
            ("GET", "missing", None, None),
        ]
        assert [record.status for record in stats.log] == [200, 206, 206, 200, 200, 404]

    def test_times_are_those_of_the_request(self, server: RangeServer) -> None:
        before_s = time.monotonic()
        ask(server, "a.bin")
        (record,) = server.stats().log
        assert record.t_end_s is not None
        assert before_s <= record.t_start_s <= record.t_end_s <= time.monotonic()

    def test_whoever_has_the_answer_finds_it_counted_and_is_alone(self, server: RangeServer) -> None:
        """New connections have threads of their own; were books closed after sending, these would overlap."""
        for request_count in range(1, 201):
            ask(server, "a.bin", range="bytes=0-9")
            stats = server.stats()
            assert stats.sent_bytes == 10 * request_count
            assert stats.log[-1].t_end_s is not None
        assert stats.max_concurrent == 1

    def test_the_control_url_answers_the_same_and_is_not_counted(self, server: RangeServer) -> None:
        ask(server, "a.bin", range="bytes=10-19")
        reply = ask(server, "-/stats")
        assert reply.headers["Content-Type"] == "application/json"
        document = json.loads(reply.body)
        stats = server.stats()
        assert document["request_count"] == stats.request_count == 1
        assert document["by_path"]["a.bin"]["sent_bytes"] == 10
        assert [tuple(record) for record in document["log"]] == list(stats.log)

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_reset_begins_anew(self, server: RangeServer, method: str) -> None:
        ask(server, "a.bin")
        assert ask(server, "-/reset", method=method).status == 200
        stats = server.stats()
        assert (stats.request_count, stats.sent_bytes, stats.max_concurrent) == (0, 0, 0)
        assert not stats.by_path
        assert not stats.log

    def test_a_request_from_before_a_reset_is_forgotten_but_still_concurrent(self) -> None:
        with RangeServer({"a": DATA, "b": b"b"}) as server, ThreadPoolExecutor() as pool:
            server.hold("a")
            held = pool.submit(ask, server, "a")
            server.wait_for_requests(1)
            server.reset()
            assert server.stats().max_concurrent == 1
            ask(server, "b")
            server.release("a")
            assert held.result(TIMEOUT_S).body == DATA
            stats = server.stats()
        assert (stats.request_count, stats.sent_bytes, stats.max_concurrent) == (1, 1, 2)
        assert set(stats.by_path) == {"b"}


class TestWaitingAndHolding:
    def test_held_requests_have_arrived_and_wait_until_released(self) -> None:
        objects = {"a": b"old", "b": b"b"}
        with RangeServer(objects) as server, ThreadPoolExecutor(3) as pool:
            server.hold("a")
            futures = [pool.submit(ask, server, "a") for _ in range(3)]
            server.wait_for_requests(3, path="a")
            assert ask(server, "b").body == b"b"  # others are not held
            stats = server.stats()
            assert not any(future.done() for future in futures)
            assert [record.t_end_s for record in stats.log[:3]] == [None] * 3
            assert stats.max_concurrent == 4
            objects["a"] = b"new"  # content is looked up after the hold
            server.faults.set("a", "no-etag")  # and so are faults
            server.release("a")
            replies = [future.result(TIMEOUT_S) for future in futures]
            assert {reply.body for reply in replies} == {b"new"}
            assert not any("ETag" in reply.headers for reply in replies)
            assert ask(server, "a").body == b"new"  # released for good

    def test_only_the_first_requests_are_held(self) -> None:
        with RangeServer({"a": b"a"}) as server, ThreadPoolExecutor(1) as pool:
            server.hold("a", times=1)
            first = pool.submit(ask, server, "a")
            server.wait_for_requests(1)
            assert ask(server, "a").body == b"a"
            assert not first.done()
            server.release("a")
            assert first.result(TIMEOUT_S).body == b"a"

    def test_every_object_can_be_held(self) -> None:
        with RangeServer({"a": b"a", "b": b"b"}) as server, ThreadPoolExecutor(2) as pool:
            server.hold("*")
            futures = [pool.submit(ask, server, name) for name in "ab"]
            server.wait_for_requests(2)
            assert not any(future.done() for future in futures)
            server.release("*")
            assert [future.result(TIMEOUT_S).body for future in futures] == [b"a", b"b"]

    def test_misuse_is_an_error(self) -> None:
        with RangeServer({"a": b"a"}) as server:
            with pytest.raises(ValueError, match="'a' is not held"):
                server.release("a")
            server.hold("a")
            with pytest.raises(ValueError, match="'a' is held already"):
                server.hold("a")
            with pytest.raises(ValueError, match="times must be at least 1"):
                server.hold("b", times=0)

    def test_waiting_in_vain_says_how_many_arrived(self) -> None:
        with RangeServer({"a": b"a"}) as server:
            ask(server, "a")
            server.wait_for_requests(1)
            with pytest.raises(TimeoutError, match=r"1 of 2 requests for 'a' arrived in 0\.01 s"):
                server.wait_for_requests(2, path="a", timeout_s=0.01)

    def test_latency_delays_every_answer(self) -> None:
        with RangeServer({"a": b"a"}, latency_s=0.02) as server, connected(server) as connection:
            for _ in range(2):
                began_s = time.monotonic()
                exchange(connection, "/a")
                assert time.monotonic() - began_s >= 0.02
            assert all(record.t_end_s - record.t_start_s >= 0.02 for record in server.stats().log)  # type: ignore[operator]

    @pytest.mark.parametrize("size_bytes", [10_000, 100_000])  # in one write, and in pieces
    def test_bandwidth_bounds_the_flow(self, size_bytes: int) -> None:
        with RangeServer({"a": DATA[:size_bytes]}, bandwidth_bytes_s=size_bytes * 20) as server:
            began_s, received_bytes = time.monotonic(), 0
            with urllib.request.urlopen(server.url("a"), timeout=TIMEOUT_S) as response:
                while piece := response.read1():
                    received_bytes += len(piece)
                    assert received_bytes <= (time.monotonic() - began_s) * size_bytes * 20
        assert received_bytes == size_bytes


class TestEnd:
    def test_stop_ends_idle_held_delayed_and_slow_connections_and_every_thread(self) -> None:
        server = RangeServer({"a": DATA, "b": DATA}, latency_s=0.0)
        slow = RangeServer({"a": DATA}, latency_s=3600)
        trickle = RangeServer({"a": DATA[:1000]}, bandwidth_bytes_s=0.1)
        with server, slow, trickle, ThreadPoolExecutor(3) as pool, connected(server) as idle:
            exchange(idle, "/b")
            server.hold("a")
            futures = [pool.submit(ask, each, "a") for each in (server, slow, trickle)]
            for each, request_count in ((server, 2), (slow, 1), (trickle, 1)):
                each.wait_for_requests(request_count)
                each.stop()
            for future in futures:
                assert isinstance(future.exception(TIMEOUT_S), (http.client.HTTPException, OSError))
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("RangeServer")]

    def test_the_port_is_closed_and_stop_is_idempotent(self) -> None:
        with RangeServer({"a": b"a"}) as server:
            address = ("127.0.0.1", urlsplit(server.base_url).port)
        server.stop()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)

    def test_a_client_that_goes_away_is_no_error(self) -> None:
        with RangeServer({"a": bytes(64 * MIB)}) as server:
            with connected(server) as connection:
                connection.request("GET", "/a")
                connection.getresponse().close()  # 64 MiB unread
            assert ask(server, "a", range="bytes=0-0").body == b"\0"

    def test_an_error_of_the_server_is_raised_at_the_end(self) -> None:
        objects: Mapping[str, bytes] = {"a": "text"}  # type: ignore[dict-item]
        server = RangeServer(objects)
        server.start()
        with pytest.raises(http.client.RemoteDisconnected):
            ask(server, "a")
        with pytest.raises(TypeError, match="object 'a' must be bytes, not str"):
            server.stop()
        server.stop()  # raised once

    def test_it_does_not_hide_what_failed_in_the_block(self) -> None:
        objects: Mapping[str, bytes] = {"a": "text"}  # type: ignore[dict-item]
        with pytest.raises(http.client.RemoteDisconnected) as raised, RangeServer(objects) as server:
            ask(server, "a")
        assert "object 'a' must be bytes" in raised.value.__notes__[0]

    def test_it_starts_only_once_and_has_no_url_before(self) -> None:
        server = RangeServer({})
        with pytest.raises(RuntimeError, match="has not been started"):
            server.url("a")
        server.stop()
        with server, pytest.raises(RuntimeError, match="starts only once"):
            server.start()

    @pytest.mark.parametrize(
        ("build", "match"),
        [
            (lambda: RangeServer({}, latency_s=-1), "latency_s must be"),
            (lambda: RangeServer({}, latency_s=float("nan")), "latency_s must be"),
            (lambda: RangeServer({}, latency_s=float("inf")), "latency_s must be"),
            (lambda: RangeServer({}, bandwidth_bytes_s=0), "bandwidth_bytes_s must be"),
        ],
    )
    def test_a_pace_that_cannot_be_is_refused(self, build: Callable[[], RangeServer], match: str) -> None:
        with pytest.raises(ValueError, match=match):
            build()


def test_many_clients_at_once_get_their_own_bytes() -> None:
    """8 threads, 100 ranges each, every byte compared; every request counted once."""

    def read_ranges(first: int) -> list[Reply]:
        with connected(shared) as connection:
            return [
                exchange(connection, "/a", range=f"bytes={start}-{start + 999}") for start in range(first, first + 100)
            ]

    with RangeServer({"a": DATA}) as shared, ThreadPoolExecutor(8) as pool:
        for first, replies in zip(range(8), pool.map(read_ranges, range(8)), strict=True):
            for start, reply in enumerate(replies, first):
                assert reply.body == DATA[start : start + 1000]
        stats = shared.stats()
    assert stats.request_count == 800
    assert stats.sent_bytes == 800 * 1000
    assert 1 <= stats.max_concurrent <= 8
