"""Objects over HTTP from servers that no correct one can be bent to: each answer is written out here."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.stores.reading import IMPATIENT, fill, opened, raises_errno
from tests.stores.scripted import ScriptedServer, response

from pagein.stores import Opened

pytestmark = pytest.mark.usefixtures("each_client")

BODY = bytes(range(100))
ETAG = '"one"'
MODIFIED = "Sun, 22 Nov 2026 00:00:00 GMT"
LATER = "Mon, 23 Nov 2026 00:00:00 GMT"


def part(start: int, stop: int, *, of: int = 100, etag: str = ETAG, sent: bytes | None = None) -> bytes:
    """A correct answer to a range, but for *sent*: what comes of its body."""
    headers = {"etag": etag, "content_range": f"bytes {start}-{stop - 1}/{of}"}
    return response(206, BODY[start:stop] if sent is None else sent, length=stop - start, **headers)


@contextmanager
def opened_from(*answers: bytes) -> Iterator[Opened]:
    """An object, opened from a server that says this and no more."""
    with ScriptedServer(*answers) as server, opened(server.url("a"), **IMPATIENT) as version:
        yield version


HEAD = response(200, length=100, etag=ETAG)


def test_an_answer_that_breaks_off_is_completed_by_asking_for_the_rest() -> None:
    with ScriptedServer(HEAD, part(10, 30, sent=BODY[10:15]), part(15, 30)) as server:
        with opened(server.url("a"), **IMPATIENT) as version:
            assert fill(version, 20, 10) == BODY[10:30]
        assert "range: bytes=15-29" in server.requests[2].lower()
        assert f"if-match: {ETAG}" in server.requests[1].lower()
        assert f"if-match: {ETAG}" in server.requests[2].lower()


@pytest.mark.parametrize(
    "rest",
    [
        part(15, 30, etag='"other"'),
        part(50, 65),
        response(200, BODY, etag=ETAG),
        part(15, 30, sent=BODY[15:20]),
        part(15, 40),
        response(206, BODY[15:30], etag=ETAG),
        response(412),
        response(416),
    ],
    ids=["another version", "elsewhere", "whole", "broken again", "too long", "unsaid range", "412", "416"],
)
def test_a_rest_that_is_not_the_rest_is_an_error(rest: bytes) -> None:
    script = HEAD, part(10, 30, sent=BODY[10:15]), rest, response(404)
    with opened_from(*script) as version:
        with pytest.raises(OSError) as raised:
            fill(version, 20, 10)
        assert raised.value.errno in (errno.EIO, errno.ESTALE, errno.ENOENT)


def test_without_an_etag_nothing_is_put_together(each_client: str) -> None:
    head = response(200, length=100, last_modified=MODIFIED)
    broken = response(206, BODY[10:15], length=20, content_range="bytes 10-29/100", last_modified=MODIFIED)
    rest = response(206, BODY[15:30], content_range="bytes 15-29/100", last_modified=MODIFIED)
    with ScriptedServer(head, broken, rest) as server:
        with opened(server.url("a"), **IMPATIENT) as version, raises_errno(errno.EIO):
            fill(version, 20, 10)
        if each_client == "ours":  # asks for all of it again
            assert "range: bytes=10-29" in server.requests[2].lower()
        else:
            assert len(server.requests) == 2


def test_more_bytes_than_the_range_has_are_an_error() -> None:
    answer = response(206, BODY[10:50], etag=ETAG, content_range="bytes 10-29/100")
    with opened_from(HEAD, answer) as version, raises_errno(errno.EIO, "bytes 10-29, .*more"):
        fill(version, 20, 10)


@pytest.mark.parametrize(
    "content_range", ["bytes 10-29/*", "pages 10-29/100", "bytes 10-20/100", "bytes 29-10/100", "x"]
)
def test_a_range_that_is_not_the_one_asked_for_or_cannot_be_read_is_an_error(content_range: str) -> None:
    answer = response(206, BODY[10:30], etag=ETAG, content_range=content_range)
    with opened_from(HEAD, answer) as version, raises_errno(errno.EIO):
        fill(version, 20, 10)


def test_two_sizes_of_one_version_are_the_servers_mistake_and_not_a_change() -> None:
    with opened_from(HEAD, part(10, 30, of=200)) as version, raises_errno(errno.EIO, "100 bytes.*200 bytes"):
        fill(version, 20, 10)


def test_a_validator_that_only_one_answer_has_is_not_compared() -> None:
    bare = response(206, BODY[10:30], content_range="bytes 10-29/100")
    with opened_from(HEAD, bare) as version:
        assert fill(version, 20, 10) == BODY[10:30]


def test_a_strong_etag_settles_it_though_replicas_have_other_dates() -> None:
    head = response(200, length=100, etag=ETAG, last_modified=MODIFIED)
    later = response(206, BODY[10:30], etag=ETAG, last_modified=LATER, content_range="bytes 10-29/100")
    with opened_from(head, later) as version:
        assert fill(version, 20, 10) == BODY[10:30]


def test_a_weak_etag_does_not_settle_it() -> None:
    weak = f"W/{ETAG}"
    head = response(200, length=100, etag=weak, last_modified=MODIFIED)
    later = response(206, BODY[10:30], etag=weak, last_modified=LATER, content_range="bytes 10-29/100")
    with opened_from(head, later) as version, raises_errno(errno.ESTALE):
        fill(version, 20, 10)


def test_a_head_that_says_nothing_is_there_is_not_believed() -> None:
    script = response(200, etag=ETAG), part(0, 1), part(10, 30)
    with opened_from(*script) as version:
        assert version.size_bytes == 100
        assert fill(version, 20, 10) == BODY[10:30]


def test_a_user_and_password_in_the_url_are_sent_and_not_told() -> None:
    with ScriptedServer(HEAD, part(10, 30)) as server:
        url = f"http://me:p%40ss@{server.host}/a"
        with opened(url, **IMPATIENT) as version:
            assert fill(version, 20, 10) == BODY[10:30]
        sent = [request.replace("Authorization", "authorization") for request in server.requests]
        assert all("authorization: Basic bWU6cEBzcw==" in request for request in sent)  # me:p@ss
        with pytest.raises(OSError) as raised, opened(url, **IMPATIENT):
            pass
        assert raised.value.filename == f"http://{server.host}/a"
        assert "p@ss" not in str(raised.value)
        assert "p%40ss" not in str(raised.value)
