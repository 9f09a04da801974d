"""What the first open of an object over HTTP asks: one GET, and after that no more than may help."""

from __future__ import annotations

import errno
from datetime import timedelta
from typing import Any

import pytest
from tests.stores.reading import DATA, IMPATIENT, ONE_TRY, raises_errno, read_whole

import pagein
from pagein.testing.httpserver import RangeServer

TRIES = 1 + IMPATIENT["retry_config"]["max_retries"]


@pytest.fixture
def objects() -> dict[str, bytes]:
    return {"a": DATA, "empty": b""}


def open_first(url: str, **options: Any) -> bytes:
    """Everything is at hand once it was opened."""
    with pagein.PageCache("16M", debug=True) as cache:
        return read_whole(cache, url, **options)


def methods(server: RangeServer) -> list[str]:
    return [record.method for record in server.stats().log]


@pytest.mark.parametrize(
    ("fault", "number"),
    [
        ("status:400", errno.EIO),
        ("status:401", errno.EACCES),
        ("status:403", errno.EACCES),
        ("status:404", errno.ENOENT),
        ("status:410", errno.ENOENT),
        ("no-length", errno.EOPNOTSUPP),
    ],
)
def test_what_is_refused_is_asked_once(server: RangeServer, fault: str, number: int) -> None:
    server.faults.set("a", fault)
    with raises_errno(number):
        open_first(server.url("a"), **IMPATIENT)
    assert methods(server) == ["GET"]


@pytest.mark.parametrize("fault", ["status:429", "status:500", "status:503", "die"])
def test_what_may_go_better_is_tried_again_and_by_no_other_method(server: RangeServer, fault: str) -> None:
    server.faults.set("a", fault)
    with raises_errno(errno.EIO):
        open_first(server.url("a"), **IMPATIENT)
    assert methods(server) == ["GET"] * TRIES


def test_a_server_that_does_not_answer_is_asked_once(server: RangeServer) -> None:
    server.hold("a")
    with raises_errno(errno.ETIMEDOUT):
        open_first(server.url("a"), **ONE_TRY, client_options={"read_timeout": timedelta(milliseconds=50)})
    server.release("a")
    assert methods(server) == ["GET"]


@pytest.mark.parametrize(
    ("name", "fault"), [("empty", None), ("empty", "no-range"), ("a", "no-range"), ("a", "truncate")]
)
@pytest.mark.usefixtures("first_bytes_only")
def test_where_the_first_bytes_cannot_be_had_so_it_is_opened_without_them(
    server: RangeServer, objects: dict[str, bytes], name: str, fault: str | None
) -> None:
    if fault:
        server.faults.set(name, fault, times=1)
    assert open_first(server.url(name), **ONE_TRY) == objects[name]
    assert methods(server)[:2] == ["GET", "HEAD"]
