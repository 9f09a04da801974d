"""Which fetches are tried again, how often, and after how long."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from http import HTTPStatus
from http.client import RemoteDisconnected
from types import SimpleNamespace

import pytest

from pagein.stores import policy


class Answered(Exception):
    """As aiohttp.ClientResponseError: it knows the status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class ToldIn(Exception):
    """The error of another client, with what it tells where it tells it."""

    def __init__(self, **told: object) -> None:
        super().__init__(told)
        vars(self).update(told)


def named(name: str) -> Exception:
    """An error of a class that is derived from one of that name, in a package that may not be installed."""
    error: Exception = type("Derived", (type(name, (Exception,), {}),), {})()
    return error


ELSEWHERE: list[Callable[[int], Exception]] = [
    lambda status: ToldIn(status_code=status),  # azure.core
    lambda status: ToldIn(code=status),  # gcsfs
    lambda status: ToldIn(code=HTTPStatus(status)),  # google.api_core
    lambda status: ToldIn(status_code=None, response=SimpleNamespace(status_code=status)),  # requests
    lambda status: ToldIn(response={"Error": {}, "ResponseMetadata": {"HTTPStatusCode": status}}),  # botocore
]


def caused(number: int, cause: BaseException | None = None) -> OSError:
    error = OSError(number, "what the store said")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        *[(caused(errno.EIO, Answered(status)), True) for status in (408, 425, 429, 500, 502, 503, 504, 599)],
        *[(caused(errno.EIO, Answered(status)), False) for status in (400, 401, 403, 404, 409, 410, 412, 416, 451)],
        *[(caused(errno.EIO, Answered(status)), False) for status in (501, 505)],
        *[(caused(number), True) for number in (errno.ECONNRESET, errno.ETIMEDOUT, errno.EPIPE, errno.ECONNREFUSED)],
        *[(caused(number), False) for number in (errno.EIO, errno.ENOENT, errno.EACCES, errno.ESTALE, errno.ENOSPC)],
        *[(caused(errno.EIO, told(status)), status == 503) for told in ELSEWHERE for status in (404, 503)],
        (caused(errno.EIO, ToldIn(code="SlowDown")), False),
        (caused(errno.EIO, ToldIn(code=1)), False),
        (caused(errno.EIO, ConnectionResetError(errno.ECONNRESET, "reset")), True),
        (caused(errno.EIO, RemoteDisconnected("without an errno")), True),
        (caused(errno.EIO, named("Timeout")), True),
        (caused(errno.EIO, named("ServiceResponseError")), True),
        (caused(errno.EIO, named("SomethingElse")), False),
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


class Busy(Answered):
    def __init__(self, status: int, *, retry_after_s: float) -> None:
        super().__init__(status)
        self.retry_after_s = retry_after_s


def test_a_server_is_left_alone_for_as_long_as_it_wants(monkeypatch):
    busy = Busy(503, retry_after_s=7.5)
    clock = Clock(monkeypatch)
    _, fetch = failing(2, caused(errno.EIO, busy))
    assert policy.retrying(fetch) == b"data"
    assert clock.pauses_s == [7.5, 7.5]


def test_one_that_wants_it_for_longer_than_we_try_is_given_up_at_once(monkeypatch):
    busy = Busy(429, retry_after_s=policy.RETRY_TIMEOUT_S + 1)
    clock = Clock(monkeypatch)
    calls, fetch = failing(100, caused(errno.EIO, busy))
    with pytest.raises(OSError, match="what the store said"):
        policy.retrying(fetch)
    assert (len(calls), clock.pauses_s) == (1, [])


# -- an answer that comes in pieces ------------------------------------------------------------------


class Coming:
    """An answer that breaks off after each piece of *piece_bytes*, in *piece_s* each, until all has come."""

    def __init__(self, clock: Clock, *, piece_bytes: int, piece_s: float, size_bytes: int = 11 << 20) -> None:
        self.got_bytes = self.tries = 0
        self._clock, self._piece_bytes, self._piece_s, self._size_bytes = clock, piece_bytes, piece_s, size_bytes

    def fetch(self) -> bytes:
        self.tries += 1
        self._clock.now_s += self._piece_s
        self.got_bytes += self._piece_bytes
        if self.got_bytes < self._size_bytes:
            raise caused(errno.EIO, ConnectionError("broken off"))
        return b"data"

    def retrying(self, **retries: int) -> bytes:
        return policy.retrying(self.fetch, policy.Retries(**retries), got_bytes=lambda: self.got_bytes)


def test_an_answer_of_which_more_comes_each_time_is_fetched_to_its_end(monkeypatch):
    """However often it breaks off, and though each piece takes longer than a failing fetch is tried again."""
    answer = Coming(Clock(monkeypatch), piece_bytes=1 << 20, piece_s=policy.RETRY_TIMEOUT_S + 5)
    assert answer.retrying() == b"data"
    assert answer.tries == 11 > policy.RETRIES_MAX


def test_one_that_is_tried_once_is_tried_once(monkeypatch):
    answer = Coming(Clock(monkeypatch), piece_bytes=1 << 20, piece_s=1.0)
    with pytest.raises(OSError, match="what the store said"):
        answer.retrying(count_max=0)
    assert answer.tries == 1


@pytest.mark.parametrize("piece_bytes", [1, policy.PROGRESS_BYTES // (policy.RETRIES_MAX + 2)])
def test_a_little_more_each_time_is_no_progress(monkeypatch, piece_bytes):
    answer = Coming(Clock(monkeypatch), piece_bytes=piece_bytes, piece_s=0.001)
    with pytest.raises(OSError, match="what the store said"):
        answer.retrying()
    assert answer.tries == policy.RETRIES_MAX + 1


def test_what_comes_again_is_no_progress(monkeypatch):
    """A server without ranges begins anew each time: it is tried as often as any, after what has come first."""
    clock, calls = Clock(monkeypatch), []

    def fetch():
        calls.append(1)
        clock.now_s += 1.0
        raise caused(errno.EIO, ConnectionError("broken off"))

    with pytest.raises(OSError, match="what the store said"):
        policy.retrying(fetch, got_bytes=lambda: 5 << 20)
    assert len(calls) == 1 + policy.RETRIES_MAX


def test_pieces_that_come_too_slowly_end_as_one_answer_would(monkeypatch):
    clock = Clock(monkeypatch)
    answer = Coming(clock, piece_bytes=policy.PROGRESS_BYTES, piece_s=10.0, size_bytes=1 << 30)
    with pytest.raises(OSError, match="what the store said"):
        answer.retrying()
    allowed_s = policy.answer_timeout_s(answer.got_bytes)
    assert allowed_s - policy.RETRY_TIMEOUT_S < clock.now_s < allowed_s + policy.RETRY_TIMEOUT_S + 10.0
