"""How patient a fetch is: its time-outs, and when it is tried again.

Guarantees: only what may go better the next time is tried again (a server that is busy or broken: 408, 429, 5xx; a
connection that was dropped, or timed out), never what the store has refused (any other 4xx), or does not know (501,
505); at most `RETRIES_MAX` times, none beginning later than `RETRY_TIMEOUT_S`, with pauses that double and are
jittered, so that many readers do not come back at once; and not before a server wants to be asked again that says so
(Retry-After).  With each piece that comes of a large answer, count and time begin anew, as long as it is no slower than
it may be in one piece.
Assumes: a fetch may be repeated; and so may an upload, by who looks first whether it was carried out.
Not here: obstore, which does the same itself, in Rust, with these numbers (clients.py), but counts from the start of
an answer whatever comes of it (object.py).
Source of the jitter: Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015): "full jitter".
"""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable, Mapping
from math import ceil, log2
from typing import NamedTuple, TypeVar

from ..mm.device import note_retry

T = TypeVar("T")

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 15
"""Without one byte from the server."""
REQUEST_TIMEOUT_S = 600
"""For a whole answer, however steadily it comes: the largest are tens of MiB."""
ANSWER_TIMEOUT_S = 30
"""For the answer of a client that does not tell when its last byte came: so long to connect and to begin..."""
SLOWEST_BYTES_S = 32 << 10
"""...and then no slower than this."""
UPLOAD_SLOWEST_BYTES_S = 128 << 10
"""An upload is no answer before its last byte was sent: it may take ANSWER_TIMEOUT_S, and its size at this rate."""
RETRY_TIMEOUT_S = 20
"""After this no retry begins."""
RETRIES_MAX = 5
PROGRESS_BYTES = SLOWEST_BYTES_S
"""An answer that breaks off after so much of it goes on, rather than failing: a second's worth, at the slowest."""
BACKOFF_S = 0.1, 3.0
"""Before the first retry, and at most; it doubles, and is jittered."""

_TEMPORARY_ERRNOS = frozenset(
    {
        errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ENETDOWN,
        errno.ENETRESET, errno.ENETUNREACH, errno.EPIPE, errno.ETIMEDOUT,
    }
)  # fmt: skip
_TEMPORARY_STATUSES = frozenset({408, 425, 429, *range(500, 600)}) - {501, 505}
_DROPPED = frozenset(
    {
        "ClientConnectionError", "ClientPayloadError", "ServerDisconnectedError",  # aiohttp
        "ChunkedEncodingError", "ConnectionError", "Timeout",  # requests, Python
        "IncompleteRead", "IncompleteReadError",  # http.client, asyncio
        "HTTPClientError",  # botocore
        "ServiceRequestError", "ServiceResponseError",  # azure.core
    }
)  # fmt: skip
"""These, and what is derived from them: by name, because they may not be installed."""


def status_of(error: BaseException) -> int | None:
    """The HTTP status that *error* tells, wherever its client has put it."""
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):  # botocore
        return (response.get("ResponseMetadata") or {}).get("HTTPStatusCode")
    # aiohttp, azure.core, requests; gcsfs, google.api_core and urllib
    for where, name in (error, "status"), (error, "status_code"), (response, "status_code"), (error, "code"):
        told = getattr(where, name, None)
        if isinstance(told, int):
            return told if 400 <= told <= 599 else None
    return None


def is_temporary(error: BaseException) -> bool:
    """Whether the same fetch may go better the next time, by the error or what has caused it."""
    cause: BaseException | None = error
    while cause is not None:
        if (status := status_of(cause)) is not None:
            return status in _TEMPORARY_STATUSES
        if isinstance(cause, OSError) and cause.errno in _TEMPORARY_ERRNOS:
            return True
        if not _DROPPED.isdisjoint(kind.__name__ for kind in type(cause).__mro__):
            return True
        cause = cause.__cause__
    return False


def answer_timeout_s(size_bytes: int) -> float:
    """How long a client may take for an answer of that size."""
    return min(ANSWER_TIMEOUT_S + size_bytes / SLOWEST_BYTES_S, REQUEST_TIMEOUT_S)


def upload_timeout_s(size_bytes: int) -> int:
    """How long an upload of that size may take; a power of two, because each is a client of its own."""
    return 1 << ceil(log2(ANSWER_TIMEOUT_S + size_bytes / UPLOAD_SLOWEST_BYTES_S))


class Retries(NamedTuple):
    """How often, until when and after which pauses something is tried again."""

    count_max: int = RETRIES_MAX
    timeout_s: float = RETRY_TIMEOUT_S
    first_pause_s: float = BACKOFF_S[0]
    longest_pause_s: float = BACKOFF_S[1]


def retrying(fetch: Callable[[], T], retries: Retries | None = None, *, got_bytes: Callable[[], int] = int) -> T:
    """The result of ``fetch()``, tried again while that may help.

    *got_bytes* tells, after a try that has failed, how much has come of what it fetches, in all tries.  With each
    PROGRESS_BYTES more, count and time begin anew, unless it is slower than `answer_timeout_s` says.
    Blocks.  Raises: what the last try has raised.
    """
    retries = retries or Retries(RETRIES_MAX, RETRY_TIMEOUT_S, *BACKOFF_S)
    began_s = since_s = time.monotonic()
    attempt, most_bytes = 0, 0
    while True:
        try:
            return fetch()
        except OSError as error:
            failed_s, now_bytes = time.monotonic(), got_bytes()
            # So often at most as PROGRESS_BYTES fit into the answer: what comes again counts for nothing.
            if now_bytes - most_bytes >= PROGRESS_BYTES and failed_s - began_s <= answer_timeout_s(now_bytes):
                attempt, since_s, most_bytes = 0, failed_s, now_bytes
            if attempt == retries.count_max or not is_temporary(error):
                raise
            pause_s = random.uniform(0, min(retries.longest_pause_s, retries.first_pause_s * 2**attempt))
            pause_s = max(pause_s, _wanted_pause_s(error))
            if failed_s + pause_s - since_s > retries.timeout_s:
                raise
        note_retry()
        time.sleep(pause_s)
        attempt += 1


def _wanted_pause_s(error: BaseException) -> float:
    """How long a server wants to be left alone that has answered with this error, or its cause."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(told := getattr(cause, "retry_after_s", None), int | float):
            return told
        cause = cause.__cause__
    return 0.0
