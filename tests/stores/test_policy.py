"""Which fetches are tried again, how often, and after how long."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

import pytest
from fsspec import filesystem
from tests.stores.reading import DATA, fill, opened, raises_errno

from pagein.stores import policy
from pagein.testing.httpserver import RangeServer


class Answered(Exception):
    """As aiohttp.ClientResponseError: it knows the status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def caused(number: int, cause: BaseException | None = None) -> OSError:
    error = OSError(number, "what the store said")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        *[(caused(errno.EIO, Answered(status)), True) for status in (408, 425, 429, 500, 502, 503, 504, 599)],
        *[(caused(errno.EIO, Answered(status)), False) for status in (400, 401, 403, 404, 409, 410, 412, 416, 451)],
        *[(caused(number), True) for number in (errno.ECONNRESET, errno.ETIMEDOUT, errno.EPIPE, errno.ECONNREFUSED)],
        *[(caused(number), False) for number in (errno.EIO, errno.ENOENT, errno.EACCES, errno.ESTALE, errno.ENOSPC)],
        (caused(errno.EIO, ConnectionResetError(errno.ECONNRESET, "reset")), True),
        (caused(errno.EIO, caused(errno.EIO, Answered(503))), True),
        (caused(errno.EIO, ValueError("a mistake")), False),
    ],
)
def test_only_what_may_go_better_is_tried_again(error, expected):
    assert policy.is_temporary(error) is expected


class Clock:
    """Time that passes while one sleeps, and by *step_s* at each look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, step_s: float = 0.0) -> None:
        self.now_s = 0.0
        self.pauses_s: list[float] = []
        self._step_s = step_s
        monkeypatch.setattr("pagein.stores.policy.time.monotonic", self._monotonic)
        monkeypatch.setattr("pagein.stores.policy.time.sleep", self._sleep)

    def _monotonic(self) -> float:
        self.now_s += self._step_s
        return self.now_s

    def _sleep(self, delay_s: float) -> None:
        self.pauses_s.append(delay_s)
        self.now_s += delay_s


def failing(times: int, error: OSError) -> tuple[list[int], Callable[[], bytes]]:
    calls: list[int] = []

    def fetch() -> bytes:
        calls.append(1)
        if len(calls) <= times:
            raise error
        return b"data"

    return calls, fetch


@pytest.mark.parametrize("times", range(policy.RETRIES_MAX + 1))
def test_it_is_tried_again_until_it_goes_well(monkeypatch, times):
    clock = Clock(monkeypatch)
    calls, fetch = failing(times, caused(errno.ECONNRESET))
    assert policy.retrying(fetch) == b"data"
    assert len(calls) == times + 1
    first_s, longest_s = policy.BACKOFF_S
    assert all(0 <= pause <= min(longest_s, first_s * 2**at) for at, pause in enumerate(clock.pauses_s))


def test_pauses_are_jittered(monkeypatch):
    """Two readers that failed together do not come back together."""
    clocks = []
    for seed in (1, 2):
        clocks.append(Clock(monkeypatch))
        monkeypatch.setattr("pagein.stores.policy.random.uniform", random.Random(seed).uniform)
        policy.retrying(failing(4, caused(errno.ECONNRESET))[1])
    assert clocks[0].pauses_s != clocks[1].pauses_s


def test_the_last_error_is_the_one_that_is_told(monkeypatch):
    Clock(monkeypatch)
    error = caused(errno.ETIMEDOUT)
    calls, fetch = failing(100, error)
    with pytest.raises(OSError, match="what the store said") as raised:
        policy.retrying(fetch)
    assert raised.value is error
    assert len(calls) == policy.RETRIES_MAX + 1


def test_none_begins_after_the_time_is_over(monkeypatch):
    Clock(monkeypatch, step_s=policy.RETRY_TIMEOUT_S)
    calls, fetch = failing(100, caused(errno.ETIMEDOUT))
    with pytest.raises(OSError, match="what the store said"):
        policy.retrying(fetch)
    assert len(calls) <= 2


def test_what_is_refused_is_asked_once():
    calls, fetch = failing(100, caused(errno.EACCES, Answered(403)))
    with pytest.raises(OSError, match="what the store said"):
        policy.retrying(fetch)
    assert len(calls) == 1


@pytest.mark.parametrize("fault", ["status:503", "status:429", "die"])
def test_fsspec_s_http_is_tried_again(server: RangeServer, objects: dict[str, bytes], monkeypatch, fault: str) -> None:
    monkeypatch.setattr(policy, "BACKOFF_S", (0.001, 0.001))
    objects["a"] = DATA
    with opened((filesystem("http"), server.url("a"))) as version:
        server.faults.set("a", fault, times=2, method="GET")
        server.reset()
        assert fill(version, 1000, 5) == DATA[5:1005]
        assert server.stats().get_count == 3
        server.faults.set("a", "status:403", method="GET")
        server.reset()
        with raises_errno(errno.EACCES):
            fill(version, 1000, 5)
        assert server.stats().get_count == 1


@pytest.mark.parametrize("fault", ["status:503", "status:429", "die"])
def test_an_object_is_tried_again(server: RangeServer, objects: dict[str, bytes], fault: str) -> None:
    objects["a"] = DATA
    with opened(server.url("a")) as version:
        server.faults.set("a", fault, times=1, method="GET")
        server.reset()
        assert fill(version, 1000, 5) == DATA[5:1005]
        assert server.stats().get_count == 2
        server.faults.set("a", "status:403", method="GET")
        server.reset()
        with raises_errno(errno.EACCES):
            fill(version, 1000, 5)
        assert server.stats().get_count == 1
