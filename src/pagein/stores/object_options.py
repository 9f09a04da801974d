"""The options of ``http(s):``, ``s3:``, ``gs:`` and ``az:`` URLs, which are obstore's, as a user may write them.

Guarantees: what is wrong with one is told with its name, and what is accepted; a wait may be a number of seconds.
Not here: which of them our own HTTP client knows (http_options.py); what only obstore can say of one (clients.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from numbers import Real
from operator import index as as_int
from typing import Any

from ..errors import bad_setting

_GROUPS = ("client_options", "retry_config")
_CLIENT_WAITS = (
    "connect_timeout", "read_timeout", "timeout", "pool_idle_timeout", "http2_keep_alive_interval",
    "http2_keep_alive_timeout",
)  # fmt: skip
WAIT_MAX = timedelta(days=24)
"""poll(2) is told milliseconds, in an int: 2^31 of them are 24.8 days."""
_WAIT = f"a timedelta or a number of seconds above 0, and {WAIT_MAX.days} days at most"
_WAIT_OR_NONE = f"a timedelta or a number of seconds, at least 0, and {WAIT_MAX.days} days at most"


def checked(given: Mapping[str, Any], url: str) -> dict[str, Any]:
    """*given*, with each wait as a timedelta, or as the string that it was.  Raises: TypeError, ValueError."""
    options = dict(given)
    if url[:4].lower() == "http" and (unknown := sorted(options.keys() - {*_GROUPS})):
        accepted = "client_options ('default_headers', 'timeout', …) and retry_config"
        raise TypeError(f"no option {unknown[0]!r} of an http(s): URL: accepted are {accepted}")
    client = options["client_options"] = _group(options.get("client_options"), "client_options")
    retry = options["retry_config"] = _group(options.get("retry_config"), "retry_config")
    _to_timedeltas(client, "client_options", _CLIENT_WAITS)
    _to_timedeltas(retry, "retry_config", ("retry_timeout",), may_be_zero=True)  # no retry begins
    if "default_headers" in client:
        client["default_headers"] = _group(client["default_headers"], "client_options['default_headers']")
        _require_headers(client["default_headers"])
    if "backoff" in retry:
        retry["backoff"] = _group(retry["backoff"], "retry_config['backoff']")
        _to_timedeltas(retry["backoff"], "retry_config['backoff']", ("init_backoff", "max_backoff"))
    if "max_retries" in retry:
        retry["max_retries"] = _count(retry["max_retries"], "retry_config['max_retries']")
    return {name: one for name, one in options.items() if one or name not in _GROUPS}


def wrong_kind(options: Mapping[str, Any]) -> TypeError | None:
    """What to say of the first option that is none of the kinds that obstore takes; None if all are."""
    config = options.get("config")
    if config is not None and not isinstance(config, Mapping):
        return _wrong("config", "a mapping of options", config)
    for where, one in _flat(options):
        if not isinstance(one, str | bool):
            return _wrong(where, "a string or a bool", one)
    return None


def _flat(options: Mapping[str, Any]) -> list[tuple[str, Any]]:
    top = [(name, one) for name, one in options.items() if name not in (*_GROUPS, "config", "credential_provider")]
    return [*top, *((f"config[{name!r}]", one) for name, one in (options.get("config") or {}).items())]


def _group(value: object, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _wrong(where, "a mapping of options", value)
    return dict(value)


def _count(value: Any, where: str) -> int:
    accepted = "a number of attempts, at least 0"
    try:
        count = as_int(value)
    except TypeError:
        raise _wrong(where, accepted, value) from None
    if isinstance(value, bool):
        raise _wrong(where, accepted, value)
    if count < 0:
        raise bad_setting(where, accepted, value)
    return count


def _to_timedeltas(group: dict[str, Any], where: str, names: tuple[str, ...], *, may_be_zero: bool = False) -> None:
    accepted = _WAIT_OR_NONE if may_be_zero else _WAIT
    for name in names:
        if name not in group or isinstance(value := group[name], str):  # "5s": obstore's own way to write it
            continue
        if isinstance(value, bool) or not isinstance(value, timedelta | Real):
            raise _wrong(f"{where}[{name!r}]", accepted, value)
        wait = value if isinstance(value, timedelta) else _as_wait(value)
        # What is below a microsecond is 0 by now.
        if wait is None or not timedelta() <= wait <= WAIT_MAX or not (wait or may_be_zero):
            raise bad_setting(f"{where}[{name!r}]", accepted, value)
        group[name] = wait


def _as_wait(seconds: Real) -> timedelta | None:
    """None for what no timedelta can be: it is no number, or too large."""
    try:
        return timedelta(seconds=float(seconds))
    except (OverflowError, ValueError):
        return None


def _require_headers(headers: Mapping[Any, Any]) -> None:
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str | bytes):
            raise _wrong(f"client_options['default_headers'][{name!r}]", "a string", value)


def _wrong(where: str, accepted: str, value: object) -> TypeError:
    return TypeError(f"{where} must be {accepted}, not {value!r} ({type(value).__name__})")
