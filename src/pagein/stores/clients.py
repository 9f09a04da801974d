"""The door to obstore: its clients, made with bounded waits and shared, and its exceptions as OSErrors.

Guarantees: one client, and so one pool of connections, for one place with one configuration.  A call fails
instead of hanging for ever: on a server that does not answer after READ_TIMEOUT_S and retries that begin within
RETRY_TIMEOUT_S (obstore's own bounds are three minutes), and at once in a forked child.
Assumes: whoever calls obstore calls `require_same_process` first.
What obstore does not tell in a form for programs, namely the status, whether it was a time-out, and the system's
errno, is read from its message; where that should fail the error is still an OSError, with EIO.
A message quotes no URL, which may hold a signature; the obstore exception behind it, its ``__cause__``, does.
"""

from __future__ import annotations

import base64
import errno
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

from obstore import exceptions, store as obstore_store

from ..errors import after_fork, no_ranges, no_size, not_a_url, not_found, permission, store_failed
from .object_options import wrong_kind
from .options import frozen
from .policy import (
    BACKOFF_S,
    CONNECT_TIMEOUT_S,
    READ_TIMEOUT_S,
    REQUEST_TIMEOUT_S,
    RETRIES_MAX,
    RETRY_TIMEOUT_S,
    upload_timeout_s,
)

ObjectStore = obstore_store.ObjectStore
HTTPStore = obstore_store.HTTPStore
ObstoreLocalStore = obstore_store.LocalStore
AT_HAND = (obstore_store.LocalStore, obstore_store.MemoryStore)
"""Stores that are not reached over a network."""
STORES = (
    obstore_store.S3Store,
    obstore_store.GCSStore,
    obstore_store.AzureStore,
    obstore_store.HTTPStore,
    obstore_store.LocalStore,
    obstore_store.MemoryStore,
)

CLIENTS_MAX = 64
"""Clients kept though nobody uses them.  Making one takes 5 to 10 ms, and connecting it some round trips."""


class _Clients:
    """The clients made last, by place and configuration."""

    def __init__(self) -> None:
        self.after_fork()
        self._kept: OrderedDict[Hashable, ObjectStore] = OrderedDict()

    def after_fork(self) -> None:
        """In a child, a thread of the parent may hold the lock for ever.  The clients stay: to drop one whose
        connections are in use would be to call into a runtime that is not there."""
        self._lock = threading.Lock()

    def client(self, base_url: str, options: Mapping[str, Any], timeout_s: int | None) -> ObjectStore:
        key = base_url, frozen(options), timeout_s
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = _make_client(base_url, options, timeout_s)
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > CLIENTS_MAX:
                self._kept.popitem(last=False)
        return made


_clients = _Clients()
os.register_at_fork(after_in_child=_clients.after_fork)


def client_for(base_url: str, options: Mapping[str, Any], *, name: str, upload_bytes: int | None = None) -> ObjectStore:
    """An obstore store for *base_url*, without a path unless it is HTTP.  Does no I/O.

    For an upload of *upload_bytes* another one: the time without a byte from the server includes that of sending.

    *options* are those of `obstore.store.from_url`; ``client_options`` and ``retry_config`` in them are merged into
    pagein's own (object_options.py has seen to these).  Raises: ValueError, TypeError for what obstore refuses.
    """
    try:
        timeout_s = None if upload_bytes is None else upload_timeout_s(upload_bytes)
        return _clients.client(base_url, options, timeout_s)
    except (exceptions.BaseError, ValueError) as error:
        reason = _reason(error)
        raise not_a_url(name, f"client_options: {reason}" if reason.startswith("Invalid key") else reason) from error
    except TypeError as error:
        raise wrong_kind(options) or error from None


def _make_client(base_url: str, options: Mapping[str, Any], timeout_s: int | None) -> ObjectStore:
    initial_s, longest_s = BACKOFF_S
    given = dict(options)
    if given.get("config") is not None:
        given["config"] = dict(given["config"])  # obstore takes no other mapping
    client_options: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
        "read_timeout": timedelta(seconds=timeout_s or READ_TIMEOUT_S),
        "timeout": timedelta(seconds=timeout_s or REQUEST_TIMEOUT_S),
    }
    if base_url.startswith("http:") or _names_plain_endpoint(
        {**_environment(), **(given.get("config") or {}), **given}
    ):
        client_options["allow_http"] = True  # whoever writes http: means it
    client_options |= given.pop("client_options", None) or {}
    retry_config = {
        "max_retries": RETRIES_MAX,
        "retry_timeout": timedelta(seconds=RETRY_TIMEOUT_S),
        "backoff": {
            "init_backoff": timedelta(seconds=initial_s),
            "max_backoff": timedelta(seconds=longest_s),
            "base": 2,
        },
    } | (given.pop("retry_config", None) or {})
    # Not from_url() for HTTP: it takes some hosts for S3 or Azure, and signs what needs no signature.
    make: Any = obstore_store.HTTPStore.from_url if base_url.startswith("http") else obstore_store.from_url
    made: ObjectStore = make(base_url, client_options=client_options, retry_config=retry_config, **given)
    return made


def _environment() -> dict[str, Any]:
    """What obstore may take for options; what it reads there of clients gives way to our own."""
    return {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "AZURE_", "GOOGLE_"))}


def _names_plain_endpoint(options: Mapping[str, Any]) -> bool:
    return any("endpoint" in name.lower() and str(one).lower().startswith("http:") for name, one in options.items())


def with_basic_auth(options: Mapping[str, Any], user_info: str) -> dict[str, Any]:
    """*options* with the header for ``user:password`` from a URL, which obstore would not send."""
    user, _, password = user_info.partition(":")
    token = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
    client_options = dict(options.get("client_options") or {})
    headers = {"Authorization": f"Basic {token}"} | dict(client_options.get("default_headers") or {})
    return {**options, "client_options": client_options | {"default_headers": headers}}


# -- processes ---------------------------------------------------------------------------------------

_used_in_pid: int | None = None


def require_same_process(name: str) -> None:
    """Raise OSError(EDEADLK) in a child forked after obstore was used here: its threads are not in the child."""
    global _used_in_pid  # noqa: PLW0603  # so is obstore's runtime
    if _used_in_pid is None:
        _used_in_pid = os.getpid()
    elif not is_same_process():
        raise after_fork(name)


def is_same_process() -> bool:
    """Whether this is the process that has used obstore."""
    return _used_in_pid == os.getpid()


# -- errors ------------------------------------------------------------------------------------------

# The details stand below the first line, in Rust's debug form: what a server said is quoted there, and can
# neither begin a line nor contain a real line break.
_STATUS = re.compile(r"\A.*? status code: (\d{3})")
_SYSTEM_ERRNO = re.compile(r"\bOs \{\n\s*code: (\d+),")
_TIMED_OUT = re.compile(r"^\s*kind: Timeout,", re.MULTILINE)
_OTHER_RANGE = re.compile(r"^\s*source: UnexpectedRange \{", re.MULTILINE)
_GENERIC = re.compile(r"\A(?:Generic \w+ error: )+")
_REDIRECTED = "error following redirect"
_TRY_LATER = (408, 429)
_NO_LENGTH = "Content-Length Header missing"


def status_of(error: Exception) -> int | None:
    """The HTTP status that made obstore raise, if there was one."""
    match = _STATUS.match(str(error))
    return int(match[1]) if match else None


def is_refusal(error: Exception) -> bool:
    """Whether the server answered, for good, and might answer another method better."""
    status = status_of(error)
    if status is None:
        return _NO_LENGTH in str(error)
    return status == 501 or (400 <= status < 500 and status not in _TRY_LATER)


def is_without_range(error: Exception) -> bool:
    """Whether the server knows no ranges, or the object has none: it is empty, or it ends before that one (416)."""
    return isinstance(error, exceptions.NotSupportedError) or status_of(error) == 416


def is_for_less(error: Exception) -> bool:
    """Whether the server gives no more than a part of the range at once, or says that it wants no such question."""
    return _OTHER_RANGE.search(str(error)) is not None or status_of(error) in (400, 413)


def is_broken_off(error: Exception) -> bool:
    """Whether the answer ended before it was complete, and was not completed by asking again."""
    return "response body error" in _reason(error) and not _TIMED_OUT.search(str(error))


def os_error(error: Exception, name: str) -> OSError:
    """What obstore raised, as the OSError to raise from it."""
    text, reason = str(error), _reason(error)
    match error:
        case FileNotFoundError():
            return not_found(name)
        case exceptions.PermissionDeniedError() | exceptions.UnauthenticatedError():
            return permission(name, reason)
        case exceptions.NotSupportedError():
            return no_ranges(name)  # all that we ask for which a store may lack
        case exceptions.InvalidPathError() | ValueError():
            return store_failed(name, reason, errno.EINVAL)
    if status_of(error) == 410:  # Gone
        return not_found(name)
    if _NO_LENGTH in reason:
        return no_size(name)
    if _REDIRECTED in reason:
        return store_failed(name, reason, errno.ELOOP)
    if _TIMED_OUT.search(text):
        return store_failed(name, f"timed out: {reason}", errno.ETIMEDOUT)
    system = _SYSTEM_ERRNO.search(text)
    return store_failed(name, reason, int(system[1]) if system else errno.EIO)


def _reason(error: Exception) -> str:
    """What obstore says went wrong, without the URL it went wrong with."""
    first_line = _GENERIC.sub("", str(error).partition("\n")[0])
    what, performing, rest = first_line.partition("Error performing ")
    if not performing:
        return what.strip()
    method, (_, _, why) = rest.partition(" ")[0], rest.partition(" - ")
    return f"{method}: {why}".strip(" :")
