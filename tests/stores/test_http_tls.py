"""https: as http, by connections that bring a record of 16 KiB at most with each call."""

from __future__ import annotations

import datetime
import errno
import io
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.stores.reading import DATA, IMPATIENT, MIB, fill, opened, raises_errno

import pagein
from pagein.stores import http_answer, http_connections, source_of
from pagein.testing.httpserver import RangeServer
from pagein.testing.stores import PATIENCE_S

pytestmark = pytest.mark.usefixtures("pools")


@pytest.fixture
def objects() -> dict[str, bytes]:
    return {"a": DATA}


@pytest.mark.usefixtures("trusted")
def test_https_reads_as_http_does(tls_server: RangeServer, pools: http_connections._Pools) -> None:
    url = tls_server.url("a")
    assert url.startswith("https:")
    with pagein.PageCache("16M", debug=True) as cache, cache.open(url) as file:
        assert file.read() == DATA
    assert tls_server.stats().sent_bytes == len(DATA)
    with opened(url) as version:
        tls_server.faults.set("a", "truncate", times=2)
        assert fill(version, MIB, 4096) == DATA[4096 : 4096 + MIB]
        (pool,) = pools._pools.values()
        for connection, _ in pool._idle:
            connection.sock.shutdown(socket.SHUT_RDWR)  # closed by the server, say
        assert fill(version, 10, 5) == DATA[5:15]


@pytest.mark.usefixtures("trusted")
def test_what_has_come_before_the_connection_ends_is_not_asked_for_again(tls_server: RangeServer) -> None:
    with opened(tls_server.url("a"), **IMPATIENT) as version:
        tls_server.faults.set("a", "truncate", times=1)
        tls_server.reset()
        assert fill(version, MIB, 4096) == DATA[4096 : 4096 + MIB]
    ranges = [(one.range_start, one.range_stop) for one in tls_server.stats().log]
    assert ranges == [(4096, 4096 + MIB), (4096 + MIB // 2, 4096 + MIB)]


class Records:
    """A TLS connection that brings these records, one with each call, or fails."""

    def __init__(self, *records: bytes | Exception) -> None:
        self.left = list(records)

    def gettimeout(self) -> float:
        return 1.0

    def read(self, size_bytes: int, buffer: memoryview) -> int:
        record = self.left.pop(0)
        if isinstance(record, Exception):
            raise record
        assert len(record) <= size_bytes
        buffer[: len(record)] = record
        return len(record)


RECORD = bytes(range(256)) * 64


def received_by(records: Records, size_bytes: int, *, within_s: float = PATIENCE_S) -> tuple[Any, Callable[[], bytes]]:
    receiver = http_answer._TLSReceiver(records, io.BytesIO(), time.monotonic() + within_s)

    def receive() -> bytes:
        buffer = memoryview(bytearray(size_bytes))
        return bytes(buffer[: receiver.readinto(buffer)])

    return receiver, receive


def test_a_large_buffer_is_filled_with_records_and_no_more() -> None:
    records = Records(RECORD, RECORD[:100], RECORD, b"of the next")
    _, receive = received_by(records, 2 * len(RECORD) + 100)
    assert receive() == RECORD + RECORD[:100] + RECORD
    assert records.left == [b"of the next"]


def test_a_small_buffer_does_not_wait_for_a_second_record() -> None:
    """It is for a head, behind which there may be nothing."""
    _, receive = received_by(Records(RECORD[:50], TimeoutError()), 8192)
    assert receive() == RECORD[:50]


def test_a_connection_that_ends_ends_the_buffer() -> None:
    records = Records(RECORD, b"", RECORD)
    _, receive = received_by(records, 1 << 20)
    assert (receive(), receive()) == (RECORD, b"")
    assert records.left == [RECORD], "it is not asked again"


@pytest.mark.parametrize(
    "failure", [TimeoutError("of Python's"), ssl.SSLError(1, "bad record"), ConnectionResetError()]
)
def test_a_failure_behind_bytes_that_came_is_told_after_them_once(failure: Exception) -> None:
    records = Records(RECORD, failure, RECORD)
    _, receive = received_by(records, 1 << 20)
    assert receive() == RECORD
    with pytest.raises(type(failure)):
        receive()
    assert records.left == [RECORD], "the connection is not asked again before it was told"


def test_silence_is_told_from_an_answer_that_stops() -> None:
    _, receive = received_by(Records(TimeoutError()), 1 << 20)
    with pytest.raises(http_answer.SilenceError):
        receive()
    _, receive = received_by(Records(RECORD, TimeoutError()), 1 << 20)
    receive()
    with pytest.raises(TimeoutError) as raised:
        receive()
    assert not isinstance(raised.value, http_answer.SilenceError)


def test_records_that_keep_coming_do_not_outlast_the_time_for_an_answer() -> None:
    records = Records(*[RECORD] * 10)
    receiver, receive = received_by(records, 1 << 20)
    read = records.read

    def read_until_it_is_over(size_bytes: int, buffer: memoryview) -> int:
        if len(records.left) == 9:
            receiver._deadline_s = -math.inf
        return read(size_bytes, buffer)

    records.read = read_until_it_is_over  # type: ignore[method-assign]
    assert receive() == 2 * RECORD
    assert len(records.left) == 8
    with pytest.raises(TimeoutError, match="too long"):
        receive()


@pytest.mark.usefixtures("trusted")
def test_a_tls_server_that_does_not_answer_is_given_up(tls_server: RangeServer) -> None:
    # Several tries, so that a slow machine opens it in one of them.
    options = {**IMPATIENT, "client_options": {"read_timeout": datetime.timedelta(milliseconds=100)}}
    with opened(tls_server.url("a"), **options) as version:
        tls_server.hold("a")
        with raises_errno(errno.ETIMEDOUT, "timed out"):
            fill(version, 100, 100)


@pytest.mark.usefixtures("trusted")
def test_https_goes_through_a_tunnel_of_the_proxy(tls_server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with tunnel() as (host, asked):
        monkeypatch.setenv("https_proxy", f"http://me:secret@{host}")
        pools = http_connections._Pools()
        monkeypatch.setattr(http_connections, "_pools", pools)
        with opened(tls_server.url("a")) as version:
            assert fill(version, 100, 5) == DATA[5:105]
        assert asked[0].startswith(f"CONNECT {tls_server.base_url.removeprefix('https://')} HTTP/1.")
        assert "Proxy-Authorization: Basic" in asked[0]
        assert len(asked) == 1
        pools.close()


def test_a_certificate_that_nobody_trusts_is_an_error_and_asked_for_once(tls_server: RangeServer) -> None:
    with raises_errno(errno.EIO, "certificate verify failed"):
        source_of(tls_server.url("a")).open()
    assert tls_server.stats().request_count == 0


@pytest.mark.usefixtures("trusted")
def test_a_redirect_from_https_to_http_is_not_followed(tls_server: RangeServer, server: RangeServer) -> None:
    there = server.url("a")
    here = urlsplit(tls_server.url("a"))
    with pytest.raises(http_connections.RedirectError, match="not followed"):
        http_connections._redirected(here, there)


@contextmanager
def tunnel() -> Iterator[tuple[str, list[str]]]:
    """A proxy that answers CONNECT: (its host, what it was asked)."""
    asked: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_serve_tunnels, args=(listener, asked), name="tunnel", daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", asked
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE_S)


def _serve_tunnels(listener: socket.socket, asked: list[str]) -> None:
    with ThreadPoolExecutor() as pool:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            head = near.recv(4096).decode()
            asked.append(head)
            host, _, port = head.split()[1].rpartition(":")
            with near, socket.create_connection((host, int(port))) as far:
                near.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                back = pool.submit(_pass_on, far, near)
                _pass_on(near, far)
                back.result(PATIENCE_S)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
