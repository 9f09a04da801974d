"""Our own HTTP client: connections that are kept, redirects, proxies, TLS, forks, and what it costs to end."""

from __future__ import annotations

import datetime
import errno
import math
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import pytest
from tests.stores.reading import DATA, IMPATIENT, MIB, ONE_TRY, fill, opened, raises_errno
from tests.stores.scripted import ScriptedServer, response

import pagein
from pagein import process
from pagein.stores import http_connections, policy, source_of
from pagein.testing.httpserver import RangeServer

TIMEOUT_S = 30.0
BODY = bytes(range(100))
ETAG = '"one"'
OPEN = response(200, length=100, etag=ETAG)
PART = response(206, BODY[10:30], etag=ETAG, content_range="bytes 10-29/100")
MORE = bytes(20_000)  # than a buffer holds
CLOSES = b"Connection: close\r\n"
KEPT = PART.replace(CLOSES, b"")


pytestmark = pytest.mark.usefixtures("pools")


@pytest.fixture
def objects() -> dict[str, bytes]:
    return {"a": DATA}


def connection_count(pools: http_connections._Pools) -> int:
    return sum(len(pool._idle) for pool in pools._pools.values())


# -- connections that are kept -----------------------------------------------------------------------


def test_one_after_the_other_share_a_connection(server: RangeServer, pools: http_connections._Pools) -> None:
    with opened(server.url("a")) as version:
        for offset in range(0, MIB, MIB // 8):
            assert fill(version, 1000, offset) == DATA[offset : offset + 1000]
    assert len(pools._made) == connection_count(pools) == 1


def test_many_at_once_have_one_each_and_no_more_are_kept_than_may_be(
    server: RangeServer, pools: http_connections._Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connections, "IDLE_MAX", 2)
    with opened(server.url("a")) as version, ThreadPoolExecutor(4) as pool:
        server.reset()
        server.hold("a")
        reads = [pool.submit(fill, version, 100, offset) for offset in range(4)]
        server.wait_for_requests(4)
        server.release("a")
        assert [read.result(TIMEOUT_S) for read in reads] == [DATA[at : at + 100] for at in range(4)]
    assert connection_count(pools) == 2


def test_what_was_idle_for_long_is_closed_when_the_next_comes_back(
    server: RangeServer, pools: http_connections._Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(server.url("a")):
        monkeypatch.setattr(http_connections, "IDLE_S", -1.0)
    with opened(server.url("a")):
        assert connection_count(pools) == 0


def test_what_was_idle_for_long_is_not_used_again(server: RangeServer, pools: http_connections._Pools) -> None:
    """Who reads again after an hour does not try one dead connection after the other."""
    with opened(server.url("a"), **ONE_TRY) as version:
        (pool,) = pools._pools.values()
        while len(pool._idle) < 3:
            with opened_aside(pool):
                assert fill(version, 100, 5) == DATA[5:105]
        old = [connection for connection, _ in pool._idle]
        pool._idle = deque((connection, since_s - http_connections.IDLE_S) for connection, since_s in pool._idle)
        assert fill(version, 100, 5) == DATA[5:105]
        assert [connection.sock for connection in old] == [None] * 3
        assert connection_count(pools) == 1


@contextmanager
def opened_aside(pool: http_connections._Pool) -> Iterator[None]:
    """Whoever asks meanwhile finds no connection, and leaves one more."""
    aside, pool._idle = pool._idle, deque()
    yield
    pool._idle = aside + pool._idle


BRIEF = {"client_options": {"read_timeout": datetime.timedelta(milliseconds=200)}}


def test_a_kept_connection_that_says_nothing_is_no_error_and_no_retry() -> None:
    """A firewall has forgotten it, say, and the server never hears of what is asked on it."""
    kept = OPEN.replace(CLOSES, b"")
    with ScriptedServer(kept, b"", KEPT, keeps=True) as server:
        with opened(server.url("a"), **ONE_TRY, **BRIEF) as version:
            assert fill(version, 20, 10) == BODY[10:30]
            assert len(server.requests) == 3
        http_connections.close_idle()


def test_one_that_has_begun_to_answer_is_not_asked_on_twice() -> None:
    kept = OPEN.replace(CLOSES, b"")
    with ScriptedServer(kept, b"HTTP/1.1 206", KEPT, keeps=True) as server:
        with opened(server.url("a"), **ONE_TRY, **BRIEF) as version:
            with raises_errno(errno.ETIMEDOUT, "timed out"):
                fill(version, 20, 10)
            assert len(server.requests) == 2
        http_connections.close_idle()


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("kind", ["server", "tls_server"])
def test_with_one_that_says_nothing_those_are_given_up_that_were_kept_as_long(
    kind: str, pools: http_connections._Pools, request: pytest.FixtureRequest
) -> None:
    """And the try goes on with a new one, not the next with another of them."""
    server: RangeServer = request.getfixturevalue(kind)
    with opened(server.url("a"), **IMPATIENT, **BRIEF) as version:
        (pool,) = pools._pools.values()
        while len(pool._idle) < 5:
            with opened_aside(pool):
                assert fill(version, 100, 5) == DATA[5:105]
        kept = [connection for connection, _ in pool._idle]
        server.reset()
        server.hold("a")
        with raises_errno(errno.ETIMEDOUT, "timed out"):
            fill(version, 100, 5)
        assert server.stats().request_count == 1 + 3, "on one that was kept; on a new one in each try"
        assert [connection.sock for connection in kept] == [None] * len(kept)


def test_one_that_was_used_since_is_not_given_up() -> None:
    pool = http_connections._Pool(http_connections.Origin("http", "host", None, "", 1.0, 1.0), WeakSet())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connections = [pool.make() for _ in range(3)]
        for connection in connections:
            connection.sock = socket.create_connection(listener.getsockname())
            pool.give_back(connection, may_be_taken_blindly=True)
        pool.give_up(pool._idle[2][1])
        assert [connection.sock is None for connection in connections] == [True, True, False]
        assert pool.take() is connections[2]
        connections[2].close()
        pool.give_up(math.inf)  # nothing is left: no error


def test_a_kept_connection_that_was_closed_is_no_error_and_no_retry(
    pools: http_connections._Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the server closes it at the very moment at which it is used again: the look before that is left out."""
    monkeypatch.setattr(http_connections, "_is_quiet", lambda connection: True)
    kept = OPEN.replace(b"Connection: close\r\n", b"")
    with ScriptedServer(kept, PART) as server, opened(server.url("a"), **ONE_TRY) as version:
        assert connection_count(pools) == 1
        assert fill(version, 20, 10) == BODY[10:30]


def test_a_kept_connection_that_has_ended_is_seen_to_have(
    server: RangeServer, pools: http_connections._Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless it was used a moment ago."""
    monkeypatch.setattr(http_connections, "FRESH_S", 0.0)
    with opened(server.url("a"), **ONE_TRY) as version:
        (pool,) = pools._pools.values()
        ((connection, _),) = pool._idle
        connection.sock.shutdown(socket.SHUT_RDWR)
        server.faults.set("a", "die", times=1)  # a request on it would have been the one that is repeated
        with raises_errno(errno.EIO, "without an answer"):
            fill(version, 1000, 5)


@pytest.mark.parametrize(
    "answers",
    [(OPEN.replace(CLOSES, b"") + MORE, KEPT), (OPEN, KEPT + MORE, KEPT)],
    ids=["to HEAD", "longer than it said"],
)
def test_what_comes_behind_an_answer_is_not_taken_for_the_next_one(answers: tuple[bytes, ...]) -> None:
    with ScriptedServer(*answers, keeps=True) as server, opened(server.url("a"), **ONE_TRY) as version:
        for _ in answers[1:]:
            assert fill(version, 20, 10) == BODY[10:30]
        http_connections.close_idle()


def test_a_connection_on_which_no_body_was_to_come_is_looked_at_before_it_is_used(
    server: RangeServer, pools: http_connections._Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However lately it was used: one may come all the same."""
    monkeypatch.setattr(http_connections, "_is_quiet", lambda connection: False)
    made = http_connections._Pool.make
    count = iter(range(100))
    monkeypatch.setattr(http_connections._Pool, "make", lambda pool: (next(count), made(pool))[1])
    with opened(server.url("a")) as version:  # a HEAD
        assert fill(version, 100, 5) == DATA[5:105]
        assert fill(version, 100, 5) == DATA[5:105]
    assert next(count) == 2


def test_the_last_cache_that_is_closed_closes_the_connections(
    server: RangeServer, pools: http_connections._Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "open_caches", WeakSet())  # the default cache of another test is none of ours
    with pagein.PageCache(4 * MIB) as first:
        with pagein.PageCache(4 * MIB) as second, second.open(server.url("a")) as file:
            assert file.pread(1000, MIB) == DATA[MIB : MIB + 1000]
        connections = list(pools._made)
        assert connections
        assert connection_count(pools) == len(connections), "another cache is open"
        with first.open(server.url("a")) as file:
            assert file.pread(1000, 0) == DATA[:1000]
        assert set(pools._made) == set(connections)
    assert connection_count(pools) == 0
    assert all(connection.sock is None for connection in connections)


def test_one_that_is_in_use_then_is_closed_when_it_is_given_back(
    server: RangeServer, pools: http_connections._Pools
) -> None:
    with opened(server.url("a")) as version, ThreadPoolExecutor(1) as pool:
        server.hold("a")
        read = pool.submit(fill, version, 100, 5)
        server.wait_for_requests(2)
        http_connections.close_idle()
        server.release("a")
        assert read.result(TIMEOUT_S) == DATA[5:105]
        assert connection_count(pools) == 0
        assert fill(version, 100, 5) == DATA[5:105]
        assert connection_count(pools) == 1


def test_an_answer_that_is_not_read_to_its_end_costs_its_connection(
    server: RangeServer, pools: http_connections._Pools
) -> None:
    server.faults.set("a", "no-range")
    with opened(server.url("a")) as version:
        assert fill(version, 1000, 5) == DATA[5:1005]
        assert len(pools._made) >= connection_count(pools)
        assert fill(version, 1000, MIB) == DATA[MIB : MIB + 1000]


# -- redirects ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(server: RangeServer, status: int) -> None:
    server.faults.set("a", f"redirect:{status}")
    with opened(server.url("a")) as version:
        assert fill(version, 1000, 5) == DATA[5:1005]


def test_what_authorizes_is_sent_to_no_other_host() -> None:
    """And that may be any header that the user has given."""
    with ScriptedServer(OPEN, PART) as there:
        away = response(302, location=there.url("b"))
        with ScriptedServer(away, away) as here:
            url = here.url("a").replace("//", "//me:secret@")
            given = {"Cookie": "c", "X-Token": "secret", "user-agent": "mine", "Accept-Language": "la"}
            with opened(url, client_options={"default_headers": given}) as version:
                assert fill(version, 20, 10) == BODY[10:30]
        for request in here.requests:
            assert "Authorization: Basic" in request
            assert "Cookie: c" in request
            assert "X-Token: secret" in request
        for request in there.requests:
            assert "Authorization" not in request
            assert "Cookie" not in request
            assert "X-Token" not in request
            assert "Accept-Language: la" in request
            assert "user-agent: mine" in request
        assert "Range: bytes=10-29" in there.requests[1]


def test_what_was_taken_away_is_not_sent_when_a_redirect_leads_back() -> None:
    """The other host has chosen what is asked for."""
    with ScriptedServer() as here, ScriptedServer(response(302, location=here.url("b"))) as there:
        here._answers += [response(302, location=there.url("a")), OPEN]
        with opened(here.url("a"), client_options={"default_headers": {"X-Token": "secret"}}):
            pass
        assert ["X-Token" in request for request in here.requests] == [True, False]


@pytest.mark.parametrize(
    "options",
    [
        {"default_headers": {"user-agent": "mine"}},
        {"user_agent": "mine"},
        {"user_agent": "theirs", "default_headers": {"user-agent": "mine"}},
    ],
)
def test_one_user_agent_is_told(options: dict[str, Any]) -> None:
    with ScriptedServer(OPEN) as server, opened(server.url("a"), client_options=options):
        told = [line for line in server.requests[0].split("\r\n") if line.lower().startswith("user-agent")]
        assert [line.partition(": ")[2] for line in told] == ["mine"]


def test_a_redirect_is_followed_to_the_bytes_that_it_has_named() -> None:
    away = response(302, location="/d/" + "é".encode().decode("latin-1"))
    with ScriptedServer(away, OPEN) as server, opened(server.url("a")):
        assert server.requests[1].startswith("HEAD /d/%C3%A9 HTTP/1.1\r\n")


def test_more_redirects_than_may_be_are_an_error(server: RangeServer) -> None:
    server.faults.set("a", "redirect-loop")
    with raises_errno(errno.ELOOP, f"more than {http_connections.REDIRECTS_MAX} redirects"):
        source_of(server.url("a")).open()
    assert server.stats().request_count == http_connections.REDIRECTS_MAX + 1


def test_a_redirect_to_a_host_that_cannot_be_is_an_error() -> None:
    with ScriptedServer(response(302, location=f"http://{'a' * 70}/")) as server, raises_errno(errno.EIO, "host"):
        source_of(server.url("a"), **ONE_TRY).open()


@pytest.mark.parametrize("location", ["ftp://host/a", "http://host:x/"])
def test_a_redirect_to_what_is_no_http_url_is_an_error(location: str) -> None:
    away = response(302, location=location)
    with ScriptedServer(away) as server, raises_errno(errno.ELOOP, "cannot be followed"):
        source_of(server.url("a")).open()


# -- addresses ---------------------------------------------------------------------------------------


def test_an_ipv6_address_without_a_port_is_asked_at_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last group is none."""
    connect, asked = socket.create_connection, []
    with ScriptedServer(OPEN) as server:
        host, _, port = server.host.partition(":")

        def connect_to_server(address: tuple[str, int], *args: Any, **options: Any) -> socket.socket:
            asked.append(address)
            return connect((host, int(port)), *args, **options)

        monkeypatch.setattr(socket, "create_connection", connect_to_server)
        with opened("http://[2001:db8::443]/a", **ONE_TRY):
            pass
    assert asked == [("2001:db8::443", 80)]
    assert "\r\nHost: [2001:db8::443]\r\n" in server.requests[0]


@pytest.mark.parametrize(("scheme", "port"), [("http", 80), ("https", 443)])
def test_each_scheme_has_a_port_of_its_own(scheme: str, port: int) -> None:
    origin = http_connections.Origin(scheme, "2001:db8::abcd", None, "", 1, 1)
    direct = http_connections._make_connection(origin)
    assert (direct.host, direct.port) == ("2001:db8::abcd", port)


def test_a_tunnel_leads_to_the_port_of_https() -> None:
    origin = http_connections.Origin("https", "2001:db8::abcd", None, "http://proxy:3128", 1, 1)
    tunnelled: Any = http_connections._make_connection(origin)
    assert (tunnelled.host, tunnelled.port) == ("proxy", 3128)
    assert (tunnelled._tunnel_host, tunnelled._tunnel_port) == ("2001:db8::abcd", 443)


# -- proxies -----------------------------------------------------------------------------------------


def test_http_goes_by_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(OPEN, PART) as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:p%40ss@{proxy.host}")
        with opened("http://far.example:81/d/a?x=1") as version:
            assert fill(version, 20, 10) == BODY[10:30]
    assert proxy.requests[0].startswith("HEAD http://far.example:81/d/a?x=1 HTTP/1.1\r\n")
    assert proxy.requests[1].startswith("GET http://far.example:81/d/a?x=1 HTTP/1.1\r\n")
    for request in proxy.requests:
        assert "Host: far.example:81" in request
        assert "Proxy-Authorization: Basic bWU6cEBzcw==" in request  # me:p@ss


def test_not_to_hosts_that_the_environment_excepts(server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with opened(server.url("a")) as version:
        assert fill(version, 10, 5) == DATA[5:15]


def test_a_proxy_of_another_kind_is_refused_and_said_so(server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1")
    with raises_errno(errno.EPROTONOSUPPORT, "socks5.*accepted is http:"):
        source_of(server.url("a")).open()


def test_a_client_has_the_proxies_of_its_making(server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be made while the environment names others than when it first asks."""
    http_connections._client.cache_clear()
    first = source_of(server.url("a"), **ONE_TRY)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with opened(first), raises_errno(errno.ECONNREFUSED):
        source_of(server.url("a"), **ONE_TRY).open()
    monkeypatch.setenv("http_proxy", "")  # counts, as it is written small
    with opened(server.url("a"), **ONE_TRY):
        monkeypatch.delenv("http_proxy")
    monkeypatch.setenv("REQUEST_METHOD", "GET")  # then it is what a script's client has sent
    http_connections._client.cache_clear()
    with opened(server.url("a"), **ONE_TRY):
        pass


def test_urllib_request_is_imported_only_for_a_proxy(server: RangeServer) -> None:
    program = "import sys, pagein; assert pagein.open(sys.argv[1]).read(9); assert 'urllib.request' not in sys.modules"
    run(program, server.url("a"))


# -- time-outs, options ------------------------------------------------------------------------------


def test_an_answer_that_never_ends_is_given_up(objects: dict[str, bytes]) -> None:
    """However steadily it comes."""
    waits = {"timeout": datetime.timedelta(milliseconds=200), "read_timeout": datetime.timedelta(milliseconds=100)}
    options = {**ONE_TRY, "client_options": waits}
    with (
        RangeServer(objects, bandwidth_bytes_s=50_000.0) as slow,
        opened(slow.url("a"), **options) as version,
        raises_errno(errno.ETIMEDOUT, "timed out"),
    ):
        fill(version, MIB, 5)


def test_the_time_for_an_answer_includes_its_head(server: RangeServer) -> None:
    options = {**ONE_TRY, "client_options": {"timeout": datetime.timedelta(microseconds=1)}}
    with raises_errno(errno.ETIMEDOUT, "timed out: HEAD"):
        source_of(server.url("a"), **options).open()


@pytest.mark.parametrize("said", [b"", KEPT[:-5]], ids=["nothing", "half a body"])
def test_the_time_for_an_answer_bounds_each_wait_for_it(said: bytes) -> None:
    """A server that falls silent is given up then, and not after the longer time for one byte."""
    options = {**ONE_TRY, "client_options": {"timeout": datetime.timedelta(milliseconds=200)}}
    with ScriptedServer(OPEN, said, keeps=True) as server:
        with opened(server.url("a"), **options) as version:
            began_s = time.monotonic()
            with raises_errno(errno.ETIMEDOUT, "timed out"):
                fill(version, 20, 10)
            assert time.monotonic() - began_s < policy.READ_TIMEOUT_S / 3
        http_connections.close_idle()


def test_the_waits_are_those_of_the_policy() -> None:
    options = source_of("http://host/a")._ask._client.options  # type: ignore[attr-defined]
    assert options.connect_timeout_s == policy.CONNECT_TIMEOUT_S
    assert options.read_timeout_s == policy.READ_TIMEOUT_S
    assert options.request_timeout_s == policy.REQUEST_TIMEOUT_S
    assert options.retries == (policy.RETRIES_MAX, policy.RETRY_TIMEOUT_S, *policy.BACKOFF_S)


def test_a_server_that_does_not_know_head_is_asked_for_it_once(server: RangeServer) -> None:
    """Python's own says 501 to it, which it will say again."""
    server.faults.set("a", "status:501", method="HEAD")
    with opened(server.url("a")) as version:
        assert version.size_bytes == len(DATA)
    assert [record.method for record in server.stats().log] == ["HEAD", "GET"]


@pytest.mark.parametrize("after", ["3600", "Fri, 31 Dec 2199 23:59:59 GMT"])
def test_a_server_that_wants_to_be_asked_much_later_is_asked_once(after: str) -> None:
    with ScriptedServer(OPEN, response(503, retry_after=after), PART) as server, opened(server.url("a")) as version:
        with raises_errno(errno.EIO, "503"):
            fill(version, 20, 10)
        assert fill(version, 20, 10) == BODY[10:30]
        assert len(server.requests) == 3


@pytest.mark.parametrize("after", ["0", "soon", "-1", "Fri, 31 Dec 1999 23:59:59 GMT"])
def test_one_that_wants_it_now_or_says_nothing_that_is_known_is_asked_again(after: str) -> None:
    busy = response(429, retry_after=after)
    with ScriptedServer(OPEN, busy, PART) as server, opened(server.url("a"), **IMPATIENT) as version:
        assert fill(version, 20, 10) == BODY[10:30]


def test_headers_that_are_given_are_sent() -> None:
    with ScriptedServer(OPEN, PART) as server:
        headers = {"X-One": "1", "User-Agent": "mine", "Authorization": b"Bearer t"}
        url = server.url("a").replace("//", "//me:secret@")
        with opened(url, client_options={"default_headers": headers}) as version:
            assert fill(version, 20, 10) == BODY[10:30]
    for request in server.requests:
        assert "X-One: 1\r\n" in request
        assert request.count("User-Agent: mine") == request.count("Authorization: Bearer t") == 1
        assert request.count("Authorization") == 1
        assert "Accept-Encoding: identity" in request


@pytest.mark.parametrize(
    "options",
    [
        {"client_options": {"http2_only": True}},
        {"client_options": {"timeout": "5s"}},
        {"client_options": {"allow_http": False}},
        {"retry_config": {"backoff": {"base": 3}}},
    ],
)
def test_options_that_only_obstore_knows_are_left_to_it(options: dict[str, object]) -> None:
    assert type(source_of("http://host/a", **options)).__module__ == "pagein.stores.object"


def test_equal_options_name_one_object_and_others_another() -> None:
    def key(**headers: str) -> object:
        return source_of("http://host/a", client_options={"default_headers": headers}).key

    assert key(A="1", B="2") == key(B="2", A="1")
    assert key(A="1") != key(A="2")
    assert source_of("http://host/a").key == source_of("http://host/a", client_options={"allow_http": True}).key


# -- processes ---------------------------------------------------------------------------------------


def run(program: str, *arguments: str) -> str:
    """What it has said, to the end and without a complaint."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_forked_child_reads_by_connections_of_its_own(server: RangeServer) -> None:
    program = """
import os, sys, pagein
from pagein.stores import http_connections
cache = pagein.PageCache("1 MiB")
file = cache.open(sys.argv[1])
file.advise("random")
first = file.pread(100, 500_000)
(pool,) = http_connections._pools._pools.values()
((connection, _),) = pool._idle
pid = os.fork()
if pid == 0:
    is_closed = connection.sock.fileno() == -1
    same = file.pread(100, 500_000) == first
    os._exit(0 if is_closed and same else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert connection.sock.fileno() >= 0
assert file.pread(100, 900_000)
((again, _),) = pool._idle
assert again is connection
"""
    run(program, server.url("a"))


def test_a_child_begins_anew_also_when_a_thread_of_its_parent_was_in_a_tls_handshake(server: RangeServer) -> None:
    """From before a handshake to its end the connection's own socket has no descriptor."""
    program = """
import os, socket, sys, threading, warnings, pagein
from pagein.stores import http_connections
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
mute = socket.create_server(("127.0.0.1", 0))
def shake_hands():
    try:
        pagein.open(f"https://127.0.0.1:{mute.getsockname()[1]}/a", retry_config={"max_retries": 0})
    except OSError:
        pass
cache = pagein.PageCache("1 MiB")
file = cache.open(sys.argv[1])
file.advise("random")
first = file.pread(100, 500_000)
(pool,) = http_connections._pools._pools.values()
((connection, _),) = pool._idle
thread = threading.Thread(target=shake_hands)
thread.start()
client, _ = mute.accept()
assert client.recv(1)
pid = os.fork()
if pid == 0:
    is_forgotten = not http_connections._pools._pools and connection.sock.fileno() == -1
    same = file.pread(100, 500_000) == first
    os._exit(0 if is_forgotten and same else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
client.close()
thread.join()
mute.close()
assert file.pread(100, 900_000)
((again, _),) = pool._idle
assert again is connection
"""
    run(program, server.url("a"))


def test_the_end_of_the_interpreter_closes_what_nobody_uses(server: RangeServer) -> None:
    """A socket that is left open would be a ResourceWarning."""
    run("import sys, pagein; assert pagein.open(sys.argv[1]).read(100)", server.url("a"))


def test_pools_are_bounded(pools: http_connections._Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connections, "POOLS_MAX", 1)
    with ScriptedServer(OPEN.replace(b"Connection: close\r\n", b"")) as one, ScriptedServer(OPEN) as other:
        with opened(one.url("a")):
            assert connection_count(pools) == 1
        with opened(other.url("a")):
            assert len(pools._pools) == 1


def test_a_head_may_be_written_in_any_way_that_http_knows() -> None:
    lines = ["HTTP/1.1 100 Continue", "X: y", "", "HTTP/1.1 206 Some", "content-LENGTH:20  ", f"eTag:\t{ETAG}"]
    lines += ["Content-Range: bytes", "  10-29/100", "Vary: a", "no colon", "vary: b", "CONNECTION: close", "", ""]
    part = "\r\n".join(lines).encode() + BODY[10:30]
    with ScriptedServer(OPEN, part) as server, opened(server.url("a"), **ONE_TRY) as version:
        assert fill(version, 20, 10) == BODY[10:30]


@pytest.mark.parametrize("fields", ["x" * 70_000, "x: y\r\n" * 101], ids=["long", "many"])
def test_a_head_without_end_is_given_up(fields: str) -> None:
    part = PART.replace(b"Connection", fields.encode() + b"\r\nConnection", 1)
    with (
        ScriptedServer(OPEN, part) as server,
        opened(server.url("a"), **ONE_TRY) as version,
        raises_errno(errno.EIO, "not HTTP"),
    ):
        fill(version, 20, 10)


def with_lines(lines: bytes, answer: bytes = PART) -> bytes:
    """The answer with these before its other headers."""
    return answer.replace(b"\r\n", b"\r\n" + lines + b"\r\n", 1)


@pytest.mark.parametrize(
    "lines", [b" ", b" x: y", b"x: a\r\n \t", b"\xa0", b"\x85", b"\x0b\x0c", b"\x1c\x1d\x1e\x1f", b"\r"]
)
def test_a_head_ends_at_its_empty_line_only(lines: bytes) -> None:
    with ScriptedServer(OPEN, with_lines(lines)) as server, opened(server.url("a"), **ONE_TRY) as version:
        assert fill(version, 20, 10) == BODY[10:30]


@pytest.mark.parametrize("lines", [b"x: a\rb", b"a\rx: b", b"x: \0"])
def test_a_head_that_can_be_read_in_two_ways_is_refused(lines: bytes) -> None:
    with ScriptedServer(with_lines(lines, OPEN)) as server, raises_errno(errno.EIO, "not HTTP"):
        source_of(server.url("a"), **ONE_TRY).open()


@pytest.mark.parametrize("first", [b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nETag: x\r\nContent-Length: 1"])
def test_a_head_that_breaks_off_is_asked_for_again(first: bytes) -> None:
    with ScriptedServer(first, OPEN) as server, opened(server.url("a"), **IMPATIENT) as version:
        assert version.size_bytes == 100


@pytest.mark.parametrize("coding", ["chunked", "chunked\r\nTransfer-Encoding: chunked", "gzip, chunked", "identity"])
def test_the_length_of_an_answer_in_a_transfer_coding_counts_for_nothing(coding: str) -> None:
    part = with_lines(f"Transfer-Encoding: {coding}".encode())
    with ScriptedServer(OPEN, part) as server, opened(server.url("a"), **ONE_TRY) as version:  # noqa: SIM117
        with raises_errno(errno.EOPNOTSUPP, "size"):
            fill(version, 20, 10)


HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"


def test_an_interim_answer_is_none() -> None:
    with ScriptedServer(OPEN, HINTS + PART) as server, opened(server.url("a"), **ONE_TRY) as version:
        assert fill(version, 20, 10) == BODY[10:30]


@pytest.mark.parametrize("heads", [HINTS * 11, b"HTTP/1.1 101 Switching\r\n\r\n"], ids=["without end", "another"])
def test_interim_answers_that_lead_to_none_are_an_error(heads: bytes) -> None:
    with ScriptedServer(heads + OPEN) as server, raises_errno(errno.EIO, "not HTTP"):
        source_of(server.url("a"), **ONE_TRY).open()


@pytest.mark.parametrize("size", ["9" * 5000, "1" + "0" * 18])
def test_a_size_beyond_any_object_is_refused(size: str) -> None:
    opening = response(206, b"a", content_range=f"bytes 0-0/{size}")
    long = opening.replace(b"Content-Length: 1", f"Content-Length: {size}".encode())
    with ScriptedServer(opening, long) as server, pagein.PageCache("64K") as cache:
        with raises_errno(errno.EIO, "Content-Range"):
            cache.open(server.url("a"), **ONE_TRY)
        with raises_errno(errno.EOPNOTSUPP, "size"):
            cache.open(server.url("a"), **ONE_TRY)


@pytest.mark.parametrize("date", ["1 Jan 2024 00:00:00 +99999999999999", "1 Jan 99999999999999999999 00:00:00 GMT"])
def test_a_date_beyond_any_calendar_is_none(date: str) -> None:
    with ScriptedServer(response(200, length=100, last_modified=date)) as server, opened(server.url("a")) as version:
        assert not version.has_validator
