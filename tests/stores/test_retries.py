"""Whatever reads over HTTP: what a server could not do is tried again, what it has refused is not."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from fsspec.implementations.http import HTTPFileSystem
from tests.stores.reading import DATA, IMPATIENT, fill, opened, raises_errno

from pagein import PageCache
from pagein.stores import Opened, object as object_store, policy
from pagein.testing.httpserver import RangeServer

Open = Callable[[], AbstractContextManager[Opened]]


@pytest.fixture
def objects() -> dict[str, bytes]:
    return {"a": DATA}


@pytest.fixture
def http(monkeypatch: pytest.MonkeyPatch) -> Iterator[HTTPFileSystem]:
    monkeypatch.setattr(policy, "BACKOFF_S", (0.001, 0.002))
    monkeypatch.setattr(policy, "RETRIES_MAX", IMPATIENT["retry_config"]["max_retries"])
    fs = HTTPFileSystem(skip_instance_cache=True)
    yield fs
    if fs._session is not None:
        HTTPFileSystem.close_session(fs.loop, fs._session)


@pytest.fixture(params=["ours", "obstore", "fsspec"])
def open_it(request: pytest.FixtureRequest, server: RangeServer, http: HTTPFileSystem) -> Open:
    if request.param == "ours":
        return lambda: opened(server.url("a"), **IMPATIENT)
    if request.param == "obstore":
        return lambda: opened(object_store.source_of_url(server.url("a"), IMPATIENT))
    return lambda: opened((http, server.url("a")))


TRIES = 1 + IMPATIENT["retry_config"]["max_retries"]
TEMPORARY = ["status:429", "status:500", "status:503", "die", "die-after-headers", "truncate"]


@pytest.mark.parametrize("fault", TEMPORARY)
@pytest.mark.parametrize("times", [1, 2])
def test_what_may_go_better_is_tried_again(server: RangeServer, open_it: Open, fault: str, times: int) -> None:
    with open_it() as version:
        server.faults.set("a", fault, times=times)
        server.reset()
        assert fill(version, 1000, 5) == DATA[5:1005]
        assert server.stats().get_count == times + 1


def test_what_is_tried_again_is_counted_for_its_store(server: RangeServer, http: HTTPFileSystem) -> None:
    """Where pagein itself does it: one request, however often, which has not failed."""
    for source, options in ((server.url("a"), IMPATIENT), ((http, server.url("a")), {})):
        with PageCache("16 MiB") as cache, cache.open(source, **options) as file:
            before = cache.stats().requests
            file.advise("random")
            server.faults.set("a", "status:503", times=2)
            assert file.pread(10, len(DATA) - 10) == DATA[-10:]
            (store,) = cache.stats().stores
            assert (store.requests, store.failed_requests, store.retries) == (before + 1, 0, 2)
            server.faults.clear("a")


@pytest.mark.parametrize("fault", TEMPORARY)
def test_so_often_and_no_more(server: RangeServer, open_it: Open, fault: str) -> None:
    with open_it() as version:
        server.faults.set("a", fault, method="GET")
        server.reset()
        with raises_errno(errno.EIO):
            fill(version, 1000, 5)
        asked_count = server.stats().get_count
        # aiohttp asks twice by itself, and our own client on a connection that it kept, which may have been closed
        assert asked_count == TRIES or (fault == "die" and asked_count in (TRIES + 1, 2 * TRIES))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 412])
def test_what_is_refused_is_asked_once(server: RangeServer, open_it: Open, status: int) -> None:
    with open_it() as version:
        server.faults.set("a", f"status:{status}", method="GET")
        server.reset()
        with pytest.raises(OSError):
            fill(version, 1000, 5)
        assert server.stats().get_count == 1


# -- fsspec: how long is waited ----------------------------------------------------------------------


def test_the_larger_an_answer_the_longer_it_may_take() -> None:
    assert policy.answer_timeout_s(0) == policy.ANSWER_TIMEOUT_S
    assert policy.answer_timeout_s(10 * policy.SLOWEST_BYTES_S) == policy.ANSWER_TIMEOUT_S + 10
    assert policy.answer_timeout_s(1 << 40) == policy.REQUEST_TIMEOUT_S


def test_a_server_that_does_not_answer_an_async_filesystem_is_given_up(
    server: RangeServer, http: HTTPFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened((http, server.url("a"))) as version:
        monkeypatch.setattr(policy, "ANSWER_TIMEOUT_S", 0.05)
        monkeypatch.setattr(policy, "RETRIES_MAX", 0)
        server.hold("a")
        with raises_errno(errno.ETIMEDOUT):
            fill(version, 100, 100)
        with raises_errno(errno.ETIMEDOUT), opened((http, server.url("a"))):
            pass
        server.release("a")
        monkeypatch.undo()
        assert fill(version, 100, 100) == DATA[100:200]
