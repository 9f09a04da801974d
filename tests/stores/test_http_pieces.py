"""Answers that break off: what has come is kept, and more of it is no failing server; what obstore does of it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from tests.stores.reading import DATA, IMPATIENT, MIB, OTHER, fill, opened, raises_errno
from tests.stores.scripted import ScriptedServer, response

from pagein.stores import http_connections, object as object_store
from pagein.testing.httpserver import RangeServer

BODY = bytes(range(100))
ETAG = '"one"'
HEAD = response(200, length=100, etag=ETAG)
RANGE_LESS = response(200, BODY, etag=ETAG)
"""What a server without ranges says, whatever it is asked for."""
BACKOFF = IMPATIENT["retry_config"]["backoff"]


@pytest.fixture
def objects() -> dict[str, bytes]:
    return {"a": DATA}


def tried(times: int, within: timedelta, **client_options: timedelta) -> dict[str, Any]:
    """Options."""
    retries = {"max_retries": times, "retry_timeout": within, "backoff": BACKOFF}
    return {"retry_config": retries, "client_options": client_options}


def asked_ranges(server: RangeServer) -> list[object]:
    return [(record.range_start, record.range_stop) for record in server.stats().log]


def test_an_answer_of_which_half_comes_each_time_comes_though_it_is_tried_again_once_only(server: RangeServer) -> None:
    with opened(server.url("a"), **tried(1, timedelta(seconds=20))) as version:
        server.reset()
        server.faults.set("a", "truncate", times=5)
        assert fill(version, 2 * MIB, 5) == DATA[5 : 5 + 2 * MIB]
        stop = 5 + 2 * MIB
        assert asked_ranges(server) == [(stop - (2 * MIB >> halves), stop) for halves in range(6)]


def test_an_answer_that_breaks_off_late_goes_on_where_it_did(objects: dict[str, bytes]) -> None:
    """What counts is how long nothing has come, and not how long the answer took until then."""
    with (
        RangeServer(objects, bandwidth_bytes_s=5e6) as slow,
        opened(slow.url("a"), **tried(5, timedelta(milliseconds=50))) as version,
    ):
        slow.faults.set("a", "truncate", times=1)  # half of it takes 100 ms
        slow.reset()
        assert fill(version, MIB, 5) == DATA[5 : 5 + MIB]
        assert asked_ranges(slow) == [(5, 5 + MIB), (5 + MIB // 2, 5 + MIB)]


def test_a_small_answer_is_no_progress(server: RangeServer) -> None:
    with opened(server.url("a"), **tried(1, timedelta(seconds=20))) as version:
        server.faults.set("a", "truncate", times=2)
        with raises_errno(errno.EIO, "broke off"):
            fill(version, 1000, 5)


def test_what_has_come_before_the_server_falls_silent_is_not_asked_for_again() -> None:
    """Also in the middle of an answer, where an error tells of it and no end."""
    keeps = b"Connection: close\r\n", b""
    part = response(206, BODY[10:17], length=20, etag=ETAG, content_range="bytes 10-29/100").replace(*keeps)
    rest = response(206, BODY[17:30], etag=ETAG, content_range="bytes 17-29/100").replace(*keeps)
    options = tried(1, timedelta(seconds=20), read_timeout=timedelta(milliseconds=200))
    with ScriptedServer(HEAD.replace(*keeps), part, rest, keeps=True) as server:
        with opened(server.url("a"), **options) as version:
            assert fill(version, 20, 10) == BODY[10:30]
        http_connections.close_idle()
        assert "Range: bytes=17-29" in server.requests[2]


PART = response(206, BODY[10:17], length=20, etag=ETAG, content_range="bytes 10-29/100")
ALL = response(206, BODY[10:30], etag=ETAG, content_range="bytes 10-29/100")


def without_etag(answer: bytes) -> bytes:
    return answer.replace(f"Etag: {ETAG}\r\n".encode(), b"")


def test_a_rest_that_tells_no_etag_may_be_another_versions_and_is_not_taken_for_one() -> None:
    """Of a server that ignores If-Match, too."""
    rest = response(206, OTHER[17:30], content_range="bytes 17-29/100")
    with ScriptedServer(HEAD, PART, rest, ALL) as server:
        with opened(server.url("a"), **IMPATIENT) as version:
            assert fill(version, 20, 10) == BODY[10:30]
        ranges = ["Range: bytes=10-29", "Range: bytes=17-29", "Range: bytes=10-29"]
        assert [one in asked for one, asked in zip(ranges, server.requests[1:], strict=True)] == [True] * 3


def test_to_what_told_no_etag_no_rest_is_asked_for() -> None:
    with ScriptedServer(HEAD, without_etag(PART), ALL) as server:
        with opened(server.url("a"), **IMPATIENT) as version:
            assert fill(version, 20, 10) == BODY[10:30]
        assert "Range: bytes=10-29" in server.requests[2]


def test_a_server_whose_rests_never_tell_an_etag_is_asked_no_more_often_than_others() -> None:
    rest = response(206, OTHER[17:30], content_range="bytes 17-29/100")
    with ScriptedServer(HEAD, *[PART, rest] * 9) as server:
        with opened(server.url("a"), **IMPATIENT) as version, raises_errno(errno.EIO, "broke off"):
            fill(version, 20, 10)
        assert len(server.requests) == 1 + 1 + IMPATIENT["retry_config"]["max_retries"]


# -- an object that comes only whole -----------------------------------------------------------------

HALF = response(200, BODY[:40], length=100, etag=ETAG)


@pytest.mark.parametrize(
    "rest", [response(206, BODY[40:], etag=ETAG, content_range="bytes 40-99/100"), RANGE_LESS], ids=["rest", "all"]
)
def test_a_whole_object_that_breaks_off_goes_on_if_the_server_has_ranges_then_else_begins_anew(rest: bytes) -> None:
    with ScriptedServer(HEAD, RANGE_LESS, HALF, rest) as server:
        with opened(server.url("a"), **IMPATIENT) as version:
            assert fill(version, 20, 10) == BODY[10:30]
            assert fill(version, 90, 5) == BODY[5:95]
        assert "Range" not in server.requests[2]
        assert "Range: bytes=40-99" in server.requests[3]
        assert f"If-Match: {ETAG}" in server.requests[3]
        assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("rest", "number"),
    [
        (response(206, OTHER[:60], etag='"other"', content_range="bytes 40-99/100"), errno.ESTALE),
        (response(200, OTHER[:100], etag='"other"'), errno.ESTALE),
        (response(206, BODY[30:90], etag=ETAG, content_range="bytes 30-89/100"), errno.EIO),
        (response(412), errno.ESTALE),
    ],
    ids=["rest of another version", "another version", "elsewhere", "412"],
)
def test_nothing_is_put_together_that_does_not_belong_together(rest: bytes, number: int) -> None:
    with ScriptedServer(HEAD, RANGE_LESS, HALF, rest, RANGE_LESS, RANGE_LESS) as server:
        with opened(server.url("a"), **IMPATIENT) as version:
            with raises_errno(number):
                fill(version, 20, 10)
            assert fill(version, 90, 5) == BODY[5:95]
        assert len(server.requests) == 6


def test_a_whole_object_whose_rest_tells_no_etag_begins_anew() -> None:
    rest = response(206, OTHER[:60], content_range="bytes 40-99/100")
    with ScriptedServer(HEAD, RANGE_LESS, HALF, rest, RANGE_LESS) as server:
        with opened(server.url("a"), **IMPATIENT) as version:
            assert fill(version, 90, 5) == BODY[5:95]
        assert "Range: bytes=40-99" in server.requests[3]
        assert "Range" not in server.requests[4]


def test_without_a_strong_etag_a_whole_object_begins_anew() -> None:
    def weak(answer: bytes) -> bytes:
        return answer.replace(ETAG.encode(), b"W/" + ETAG.encode())

    with ScriptedServer(weak(HEAD), weak(RANGE_LESS), weak(HALF), weak(RANGE_LESS)) as server:
        with opened(server.url("a"), **IMPATIENT) as version:
            assert fill(version, 20, 10) == BODY[10:30]
        assert "Range" not in server.requests[3]


# -- obstore -----------------------------------------------------------------------------------------

WITHIN = timedelta(milliseconds=10)


@pytest.fixture
def slow(objects: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    """Half of a piece takes longer than is tried again."""
    monkeypatch.setattr(object_store, "PIECE_BYTES", MIB // 4)
    with RangeServer(objects, bandwidth_bytes_s=5e6) as slow:
        yield slow


@pytest.mark.usefixtures("fetches_here")
def test_what_breaks_off_after_obstore_has_stopped_trying_is_asked_for_in_pieces(slow: RangeServer) -> None:
    with opened(object_store.source_of_url(slow.url("a"), tried(5, WITHIN))) as version:
        slow.faults.set("a", "truncate", times=1)
        slow.reset()
        assert fill(version, MIB, 5) == DATA[5 : 5 + MIB]
        pieces = [(at, at + MIB // 4) for at in range(5, 5 + MIB, MIB // 4)]
        assert asked_ranges(slow) == [(5, 5 + MIB), *pieces]


@pytest.mark.usefixtures("fetches_here")
@pytest.mark.parametrize(
    ("faults", "size_bytes", "options"),
    [
        (["weak-etag"], MIB, tried(5, WITHIN)),
        ([], MIB // 4, tried(5, WITHIN)),
        ([], MIB, tried(0, WITHIN)),
        ([], MIB, tried(5, timedelta(0))),
    ],
    ids=["weak", "small", "no retry", "no time for one"],
)
def test_but_not_what_has_no_strong_etag_nor_what_is_no_larger_than_a_piece_nor_where_no_retry_is_wanted(
    slow: RangeServer, faults: list[str], size_bytes: int, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "RETRY_TIMEOUT_S", 1e-3)  # it is for those who say nothing else
    slow.faults.set("a", *faults)
    with opened(object_store.source_of_url(slow.url("a"), options)) as version:
        slow.faults.set("a", *faults, "truncate")
        slow.reset()
        with raises_errno(errno.EIO, "broke off"):
            fill(version, size_bytes, 5)
        assert len(asked_ranges(slow)) == 1
