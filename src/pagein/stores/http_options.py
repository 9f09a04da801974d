"""What `pagein.open` may be told of an ``http(s):`` URL, in the words of obstore, as far as our own client knows it.

Guarantees: equal options are equal, and hashable.  An option that only obstore knows makes `options_of` return None:
then obstore reads the URL, or says what is wrong with it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import unquote

from .policy import CONNECT_TIMEOUT_S, READ_TIMEOUT_S, REQUEST_TIMEOUT_S, Retries

_TIMEOUTS = {"connect_timeout": "connect_timeout_s", "read_timeout": "read_timeout_s", "timeout": "request_timeout_s"}
_USUAL = Retries()
_RETRIES = frozenset({"max_retries", "retry_timeout", "backoff"})
_BACKOFF = {"init_backoff": "first_pause_s", "max_backoff": "longest_pause_s"}


class HTTPOptions(NamedTuple):
    """How one client asks."""

    headers: tuple[tuple[str, str], ...] = ()
    """Sent with each request; sorted."""
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    read_timeout_s: float = READ_TIMEOUT_S
    request_timeout_s: float = REQUEST_TIMEOUT_S
    retries: Retries = _USUAL

    def with_basic_auth(self, user_info: str) -> HTTPOptions:
        """The same with the header for ``user:password`` of a URL, unless one was given."""
        if any(name.lower() == "authorization" for name, _ in self.headers):
            return self
        return self._replace(headers=tuple(sorted((*self.headers, ("Authorization", basic_auth(user_info))))))


_DEFAULT = HTTPOptions()


def options_of(given: Mapping[str, Any]) -> HTTPOptions | None:
    """The options in ``client_options`` and ``retry_config``; None if there is one that only obstore knows."""
    if not given:
        return _DEFAULT
    if not given.keys() <= {"client_options", "retry_config"}:
        return None
    client, retry = given.get("client_options") or {}, given.get("retry_config") or {}
    if not (isinstance(client, Mapping) and isinstance(retry, Mapping)):
        return None
    headers, retries = _headers_of(client), _retries_of(retry)
    waits = _durations(client, _TIMEOUTS)
    if headers is None or retries is None or waits is None or not client.keys() <= {*_TIMEOUTS, *_CLIENT}:
        return None
    if client.get("allow_http", True) is not True:
        return None
    return HTTPOptions(headers=headers, retries=retries, **waits)


_CLIENT = frozenset({"default_headers", "user_agent", "allow_http"})


def basic_auth(user_info: str) -> str:
    """The value of an Authorization header for ``user:password``, as it is written in a URL."""
    user, _, password = user_info.partition(":")
    return "Basic " + base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()


def _headers_of(client: Mapping[str, Any]) -> tuple[tuple[str, str], ...] | None:
    given = client.get("default_headers") or {}
    if not isinstance(given, Mapping):
        return None
    headers = {name: one.decode("latin-1") if isinstance(one, bytes) else one for name, one in given.items()}
    if "user_agent" in client and not any(str(name).lower() == "user-agent" for name in headers):
        headers["User-Agent"] = client["user_agent"]
    if not all(isinstance(part, str) and part.isascii() for pair in headers.items() for part in pair):
        return None
    return tuple(sorted(headers.items()))


def _retries_of(retry: Mapping[str, Any]) -> Retries | None:
    backoff = retry.get("backoff") or {}
    if not retry.keys() <= _RETRIES or not isinstance(backoff, Mapping) or backoff.get("base", 2) != 2:
        return None
    pauses = _durations(backoff, _BACKOFF)
    until = _durations(retry, {"retry_timeout": "timeout_s"}, may_be_zero=True)
    count_max = retry.get("max_retries", _USUAL.count_max)
    if pauses is None or until is None or not isinstance(count_max, int) or count_max < 0:
        return None
    if not backoff.keys() <= {*_BACKOFF, "base"}:
        return None
    return _USUAL._replace(count_max=count_max, **until, **pauses)


def _durations(
    given: Mapping[str, Any], names: Mapping[str, str], *, may_be_zero: bool = False
) -> dict[str, float] | None:
    found: dict[str, float] = {}
    for theirs, ours in names.items():
        if theirs in given:
            wait = given[theirs]
            if not isinstance(wait, timedelta) or wait < timedelta() or not (wait or may_be_zero):
                return None
            found[ours] = wait.total_seconds()
    return found
