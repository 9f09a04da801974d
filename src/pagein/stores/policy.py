"""How patient a fetch is: its time-outs, and when it is tried again.

Guarantees: only what may go better the next time is tried again (a server that is busy or broken: 408, 429, 5xx; a
connection that was dropped, or timed out), never what the store has refused (any other 4xx); at most `RETRIES_MAX`
times, none beginning later than `RETRY_TIMEOUT_S`, with pauses that double and are jittered, so that many readers do
not come back at once.
Assumes: a fetch may be repeated.
Not here: obstore, which does the same itself, in Rust, with these numbers (clients.py).
Source of the jitter: Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015): "full jitter".
"""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 15
"""Without one byte from the server."""
REQUEST_TIMEOUT_S = 600
"""For a whole answer, however steadily it comes: the largest are tens of MiB."""
RETRY_TIMEOUT_S = 20
"""After this no retry begins."""
RETRIES_MAX = 5
BACKOFF_S = 0.1, 3.0
"""Before the first retry, and at most; it doubles, and is jittered."""

_TEMPORARY_ERRNOS = frozenset(
    {
        errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ENETDOWN,
        errno.ENETRESET, errno.ENETUNREACH, errno.EPIPE, errno.ETIMEDOUT,
    }
)  # fmt: skip
_TEMPORARY_STATUSES = frozenset({408, 425, 429})
_DROPPED = frozenset({"ClientConnectionError", "ClientPayloadError", "IncompleteRead", "ServerDisconnectedError"})
"""Of aiohttp and http.client, and what is derived from them: by name, because they may not be installed."""


def is_temporary(error: BaseException) -> bool:
    """Whether the same fetch may go better the next time, by the error or what has caused it."""
    cause: BaseException | None = error
    while cause is not None:
        status = getattr(cause, "status", None)
        if isinstance(status, int):
            return status in _TEMPORARY_STATUSES or 500 <= status <= 599
        if isinstance(cause, OSError) and cause.errno in _TEMPORARY_ERRNOS:
            return True
        if not _DROPPED.isdisjoint(kind.__name__ for kind in type(cause).__mro__):
            return True
        cause = cause.__cause__
    return False


def retrying(fetch: Callable[[], T]) -> T:
    """The result of ``fetch()``, tried again while that may help.  Blocks.  Raises: what the last try has raised."""
    first_s, longest_s = BACKOFF_S
    began_s = time.monotonic()
    for attempt in range(RETRIES_MAX + 1):
        try:
            return fetch()
        except OSError as error:
            is_last = attempt == RETRIES_MAX or time.monotonic() - began_s > RETRY_TIMEOUT_S
            if is_last or not is_temporary(error):
                raise
        time.sleep(random.uniform(0, min(longest_s, first_s * 2**attempt)))
    raise AssertionError("the last try returns or raises")
