"""Every fault of RangeServer's table: what a client sees of it, how often, for which requests."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from tests.testing.httpclient import TIMEOUT_S, ask, connected, exchange, random_bytes

from pagein.testing.httpserver import KINDS, Faults, RangeServer

DATA = random_bytes(100_000)
SMALL = DATA[:1000]


@pytest.fixture
def server() -> Iterator[RangeServer]:
    with RangeServer({"a": DATA, "small": SMALL, "one": b"1", "empty": b""}) as server:
        yield server


def no_range(server: RangeServer) -> None:
    server.faults.set("a", "no-range")
    reply = ask(server, "a", range="bytes=5-9")
    assert (reply.status, reply.body) == (200, DATA)
    assert "Accept-Ranges" not in reply.headers
    assert "Content-Range" not in reply.headers
    assert "Accept-Ranges" not in ask(server, "a", method="HEAD").headers


def ignore_range_lie(server: RangeServer) -> None:
    server.faults.set("*", "ignore-range-lie")
    for name, asked, start, stop, size_bytes in (
        ("a", "5-9", 0, 5, 100_000),
        ("a", "0-9", 99_990, 100_000, 100_000),
        ("a", "50000-", 0, 50_000, 100_000),
        ("small", "0-", 1, 1000, 1000),
    ):
        reply = ask(server, name, range=f"bytes={asked}")
        assert (reply.status, reply.body) == (206, DATA[start:stop])
        assert reply.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{size_bytes}"
    assert ask(server, "one", range="bytes=0-0").body == b"1"
    assert ask(server, "a").body == DATA


def truncate(server: RangeServer) -> None:
    server.faults.set("*", "truncate")
    for name, data in (("a", DATA), ("small", SMALL)):
        with connected(server) as connection, pytest.raises(http.client.IncompleteRead) as raised:
            exchange(connection, "/" + name)
        assert raised.value.partial == data[: len(data) // 2]
        assert raised.value.expected == len(data) - len(data) // 2
        assert server.stats().by_path[name].sent_bytes == len(data) // 2
    with pytest.raises(http.client.IncompleteRead) as raised:
        ask(server, "a", range="bytes=10-29")
    assert raised.value.partial == DATA[10:20]


def die(server: RangeServer) -> None:
    server.faults.set("a", "die")
    for method in ("GET", "HEAD"):
        with pytest.raises(http.client.RemoteDisconnected):
            ask(server, "a", method=method)
    assert [record.status for record in server.stats().log] == [None, None]
    assert server.stats().sent_bytes == 0


def die_after_headers(server: RangeServer) -> None:
    server.faults.set("a", "die-after-headers")
    with pytest.raises(http.client.IncompleteRead) as raised:
        ask(server, "a")
    assert (raised.value.partial, raised.value.expected) == (b"", len(DATA))


def wrong_length(server: RangeServer) -> None:
    server.faults.set("a", "wrong-length:+7")
    with pytest.raises(http.client.IncompleteRead) as raised:
        ask(server, "a")
    assert (raised.value.partial, raised.value.expected) == (DATA, 7)
    assert ask(server, "a", method="HEAD").headers["Content-Length"] == str(len(DATA) + 7)
    server.faults.set("a", "wrong-length")
    with connected(server) as connection:
        reply = exchange(connection, "/a", range="bytes=0-9")
        assert reply.headers["Content-Length"] == "9"
        assert reply.headers["Content-Range"] == "bytes 0-9/100000"
        assert reply.body == DATA[:9]
        assert exchange(connection, "/a").body == DATA[:-1]  # the surplus byte was not taken for an answer


def redirect(server: RangeServer) -> None:
    for status in ("301", "302", "303", "307", "308"):
        server.faults.set("a", f"redirect:{status}")
        assert ask(server, "a").status == int(status)
    server.faults.set("a", "redirect")
    server.reset()
    with urllib.request.urlopen(server.url("a"), timeout=TIMEOUT_S) as response:
        assert response.read() == DATA
        assert response.url == server.base_url + "/-/real/a"
    assert [(record.path, record.status) for record in server.stats().log] == [("a", 302), ("-/real/a", 200)]
    server.faults.set("a", "status:503")  # other faults are met behind the redirect
    with pytest.raises(urllib.error.HTTPError, match="503") as raised:
        urllib.request.urlopen(server.url("a"), timeout=TIMEOUT_S)
    raised.value.close()


def redirect_loop(server: RangeServer) -> None:
    server.faults.set("a", "redirect-loop")
    with pytest.raises(urllib.error.HTTPError, match="infinite loop") as raised:
        urllib.request.urlopen(server.url("a"), timeout=TIMEOUT_S)
    raised.value.close()


def status(server: RangeServer) -> None:
    for code in (400, 403, 404, 416, 429, 500, 503):
        server.faults.set("a", f"status:{code}")
        with connected(server) as connection:
            reply = exchange(connection, "/a", range="bytes=0-9")
            assert reply.status == code
            assert "ETag" not in reply.headers
            head = exchange(connection, "/a", method="HEAD")
            assert (head.status, head.body) == (code, b"")


def no_etag(server: RangeServer) -> None:
    server.faults.set("a", "no-etag")
    reply = ask(server, "a", if_match='"other"')
    assert (reply.status, reply.body) == (200, DATA)
    assert "ETag" not in reply.headers
    assert "Last-Modified" in reply.headers


def weak_etag(server: RangeServer) -> None:
    strong = ask(server, "a").headers["ETag"]
    server.faults.set("a", "weak-etag")
    weak = ask(server, "a").headers["ETag"]
    assert weak == f"W/{strong}"
    assert ask(server, "a", if_match=weak).status == 412
    assert ask(server, "a", if_none_match=weak).status == 304
    server.faults.set("a", "no-etag")  # the greater lack wins
    assert "ETag" not in ask(server, "a").headers


def no_last_modified(server: RangeServer) -> None:
    modified = ask(server, "a").headers["Last-Modified"]
    server.faults.set("a", "no-last-modified")
    reply = ask(server, "a", if_modified_since=modified)
    assert reply.status == 200
    assert "Last-Modified" not in reply.headers


def no_length(server: RangeServer) -> None:
    server.faults.set("*", "no-length")
    for name, data in (("a", DATA), ("small", SMALL), ("empty", b"")):
        with connected(server) as connection:
            reply = exchange(connection, "/" + name)
            assert reply.headers["Transfer-Encoding"] == "chunked"
            assert "Content-Length" not in reply.headers
            assert reply.body == data
            head = exchange(connection, "/" + name, method="HEAD")
            assert "Content-Length" not in head.headers
            assert exchange(connection, "/" + name).body == data
        assert server.stats().by_path[name].sent_bytes == 2 * len(data)
    reply = ask(server, "a", range="bytes=10-29")
    assert (reply.status, reply.body) == (206, DATA[10:30])
    assert reply.headers["Content-Range"] == "bytes 10-29/100000"


def no_head(server: RangeServer) -> None:
    server.faults.set("a", "no-head")
    head = ask(server, "a", method="HEAD")
    assert (head.status, head.headers["Allow"]) == (405, "GET")
    assert ask(server, "a").body == DATA


EFFECTS: dict[str, Callable[[RangeServer], None]] = {
    "die": die,
    "die-after-headers": die_after_headers,
    "ignore-range-lie": ignore_range_lie,
    "no-etag": no_etag,
    "no-head": no_head,
    "no-last-modified": no_last_modified,
    "no-length": no_length,
    "no-range": no_range,
    "redirect": redirect,
    "redirect-loop": redirect_loop,
    "status": status,
    "truncate": truncate,
    "weak-etag": weak_etag,
    "wrong-length": wrong_length,
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_client_sees_of(kind: str, server: RangeServer) -> None:
    EFFECTS[kind](server)


def test_every_effect_is_of_a_kind() -> None:
    assert set(EFFECTS) == set(KINDS)


class TestWhichRequests:
    def test_a_fault_heals_after_so_many_requests(self, server: RangeServer) -> None:
        server.faults.set("a", "status:503", times=2)
        assert [ask(server, "a").status for _ in range(4)] == [503, 503, 200, 200]

    def test_a_fault_may_be_for_one_method(self, server: RangeServer) -> None:
        server.faults.set("a", "status:403", method="HEAD")
        assert ask(server, "a", method="HEAD").status == 403
        assert ask(server, "a").status == 200

    def test_a_request_that_a_fault_does_not_concern_does_not_use_it_up(self, server: RangeServer) -> None:
        server.faults.set("a", "truncate", times=1)
        assert ask(server, "a", method="HEAD").status == 200
        with pytest.raises(http.client.IncompleteRead):
            ask(server, "a")
        server.faults.set("a", "ignore-range-lie", times=1)
        assert ask(server, "a").body == DATA
        assert ask(server, "a", range="bytes=5-9").body == DATA[:5]
        assert ask(server, "a", range="bytes=5-9").body == DATA[5:10]
        server.faults.set("a", "no-etag", times=1)
        server.faults.set("a", "status:500", times=1)
        assert ask(server, "a").status == 500
        assert "ETag" not in ask(server, "a").headers
        assert "ETag" in ask(server, "a").headers

    def test_faults_are_by_object_or_for_all_the_object_first(self, server: RangeServer) -> None:
        server.faults.set("*", "status:500")
        server.faults.set("a", "status:503", times=1)
        assert [ask(server, name).status for name in ("a", "small", "missing")] == [503, 500, 500]
        # What is armed for the object stands in front of what is armed for all, even when it has healed.
        assert ask(server, "a").status == 200

    def test_several_faults_at_once(self, server: RangeServer) -> None:
        server.faults.set("a", "no-head", "no-range", "no-etag", "truncate", "no-length")
        assert ask(server, "a", method="HEAD").status == 405
        with connected(server) as connection:
            connection.request("GET", "/a", headers={"Range": "bytes=5-9"})
            with connection.getresponse() as response, pytest.raises(http.client.IncompleteRead) as raised:
                response.read()
        assert response.status == 200
        assert response.headers["ETag"] is None
        assert raised.value.partial == DATA[: len(DATA) // 2]

    def test_faults_come_and_go_while_the_server_runs(self, server: RangeServer) -> None:
        server.faults.set("a", "status:500")
        server.faults.set("small", "status:500")
        server.faults.clear("a")
        assert [ask(server, name).status for name in ("a", "small")] == [200, 500]
        server.faults.clear()
        assert ask(server, "small").status == 200
        server.faults.clear("never set")

    def test_faults_may_be_given_at_the_start(self) -> None:
        with RangeServer({"a": DATA}, faults={"a": "no-etag", "*": ["no-range", "no-head"]}) as server:
            assert ask(server, "a", method="HEAD").status == 405
            reply = ask(server, "a", range="bytes=0-9")
        assert reply.status == 200
        assert "ETag" not in reply.headers

    def test_control_is_never_faulty(self, server: RangeServer) -> None:
        server.faults.set("*", "status:500")
        server.faults.hold("*")
        assert ask(server, "-/stats").status == 200


def test_nothing_is_held_once_the_server_ends() -> None:
    faults = Faults()
    faults.end()
    faults.hold("a")
    faults.wait_while_held("a")  # does not block


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        ("no-such", "no fault 'no-such'; known are die, "),
        ("", "no fault ''"),
        ("status", "fault 'status': accepted is status:"),
        ("status:200", "accepted is status:"),
        ("status:499", "499 is not a valid HTTPStatus"),
        ("redirect:304", "accepted is redirect:"),
        ("wrong-length:7", "accepted is wrong-length:"),
        ("truncate:7", "accepted is truncate without an argument"),
    ],
)
def test_a_fault_that_cannot_be_read_says_what_is_accepted(fault: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        RangeServer({}, faults={"a": fault})


def test_other_arguments_that_cannot_be(server: RangeServer) -> None:
    with pytest.raises(ValueError, match="times must be at least 1, not 0"):
        server.faults.set("a", "die", times=0)
    with pytest.raises(ValueError, match="method must be 'GET' or 'HEAD', not 'PUT'"):
        server.faults.set("a", "die", method="PUT")
