"""Questions about one URL: what an answer says of the object, and what is no answer as an OSError.

Guarantees: an answer says its status, its length and, if it is a part, which; else it is refused.  Errors carry the URL
without its query, and are those of a file where HTTP has the same.
Not here: which questions (http.py), connections and redirects (http_connections.py), what comes again (policy.py).
"""

from __future__ import annotations

import errno
import http.client
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import no_ranges, no_size, not_found, permission, store_failed, wrong_range
from .http_answer import DIGITS_MAX
from .http_connections import ProxyError, RedirectError, client_for
from .policy import Retries
from .validators import NEVER, Meta, bytes_of

if TYPE_CHECKING:
    from .http_options import HTTPOptions

_CONTENT_RANGE = re.compile("bytes {0}-{0}/{0}".format(rf"(\d{{1,{DIGITS_MAX}}})"))


class Refused(Exception):
    """The server has answered with a status that is no success."""

    def __init__(self, method: str, answer: Any) -> None:
        super().__init__(f"{method}: the server answered {answer.status} {answer.reason}".rstrip())
        self.status: int = answer.status
        self.retry_after_s: float = _retry_after_s(answer.getheader("Retry-After"))


class BrokenOff(ConnectionError):
    """An answer that ended before it was complete."""


class NoRanges(Exception):
    """The server has sent the whole object."""


class Asker:
    """Questions about one URL, and what is not an answer to them as an OSError."""

    __slots__ = ("_client", "_url", "name")

    def __init__(self, url: str, options: HTTPOptions) -> None:
        self._url = url
        before_query, has_query, _ = url.partition("?")
        self.name: str = f"{before_query}?…" if has_query else url
        self._client = client_for(options)

    @property
    def place(self) -> str:
        """The server."""
        parts = urlsplit(self._url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def retries(self) -> Retries:
        """How often it is asked again."""
        return self._client.options.retries

    def meta(self, method: str, range_: tuple[int, int] | None = None) -> Meta:
        """What the headers of an answer say of the object.  Raises: OSError."""
        with self.asked(method, {} if range_ is None else {"Range": range_header(*range_)}) as answer:
            return self._meta_of(answer, self._length_of(answer)) if range_ is None else self.part(answer)[0]

    @contextmanager
    def asked(
        self, method: str, headers: dict[str, str], *, meanwhile: Callable[[], object] | None = None
    ) -> Iterator[Any]:
        """An answer that is a success.  Raises: OSError, also for what the block raises."""
        try:
            with self._client.asked(method, self._url, headers, meanwhile=meanwhile) as answer:
                if not 200 <= answer.status < 300:
                    raise Refused(method, answer)
                yield answer
        except (OSError, http.client.HTTPException, RedirectError, ProxyError, Refused) as error:
            if isinstance(error, OSError) and error.filename == self.name:
                raise  # it says what it should
            raise self._os_error(method, error) from error

    def part(self, answer: Any) -> tuple[Meta, int, int]:
        """What an answer says of the object, and which bytes of it come.  Raises: OSError: EIO; from NoRanges."""
        if answer.status == 200:
            raise no_ranges(self.name) from NoRanges()
        self._length_of(answer)
        said = answer.getheader("Content-Range") or ""
        match = _CONTENT_RANGE.fullmatch(said)
        if answer.status != 206 or match is None:
            raise wrong_range(self.name, asked="a range", got=f"{answer.status} and the Content-Range {said!r}")
        start, last, size = map(int, match.groups())
        if not start <= last < size:
            raise wrong_range(self.name, asked="a range", got=f"the Content-Range {said!r}")
        return self._meta_of(answer, size), start, last + 1

    def whole(self, answer: Any) -> Meta:
        """What an answer says of the object that it is all of."""
        if answer.status != 200:
            raise wrong_range(self.name, asked="all of the object", got=f"the status {answer.status}")
        return self._meta_of(answer, self._length_of(answer))

    def broken_off(self, start: int, stop: int) -> OSError:
        """The answer ended too soon."""
        return store_failed(self.name, f"the answer broke off before all of {bytes_of(start, stop)} had come")

    def _length_of(self, answer: Any) -> int:
        size_bytes: int | None = answer.body_bytes
        if size_bytes is None:
            raise no_size(self.name)
        return size_bytes

    def _meta_of(self, answer: Any, size_bytes: int) -> Meta:
        etag, modified = answer.getheader("ETag"), answer.getheader("Last-Modified")
        return Meta(size=size_bytes, e_tag=etag or None, last_modified=_date(modified))

    def _os_error(self, method: str, error: Exception) -> OSError:
        name = self.name
        match error:
            case Refused(status=404 | 410):
                return not_found(name)
            case Refused(status=401 | 403):
                return permission(name, str(error))
            case Refused():
                return store_failed(name, str(error))
            case RedirectError():
                return store_failed(name, f"{method}: {error}", errno.ELOOP)
            case ProxyError():
                return store_failed(name, str(error), errno.EPROTONOSUPPORT)
            case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
                return store_failed(name, f"{method}: the server closed the connection", errno.ECONNRESET)
            case TimeoutError():
                return store_failed(name, f"timed out: {method}", errno.ETIMEDOUT)
            case http.client.RemoteDisconnected():
                return store_failed(name, f"{method}: the server closed the connection without an answer")
            case http.client.HTTPException():
                return store_failed(name, f"{method}: the answer is not HTTP: {type(error).__name__}")
        reason, number = getattr(error, "strerror", None) or str(error), getattr(error, "errno", None) or 0
        if isinstance(error, socket.gaierror):  # their numbers are not errno's
            number = errno.EHOSTUNREACH if number == socket.EAI_AGAIN else errno.EIO
        elif isinstance(error, ssl.SSLError) or number not in errno.errorcode:
            number = errno.EIO
        return store_failed(name, f"{method}: {reason}", number)


def range_header(start: int, stop: int) -> str:
    """What asks for bytes [start, stop)."""
    return f"bytes={start}-{stop - 1}"


def status_of(error: OSError) -> int | None:
    """The status with which the server has refused, if that is what the error is about."""
    return error.__cause__.status if isinstance(error.__cause__, Refused) else None


def _date(text: str | None) -> datetime:
    try:
        found = parsedate_to_datetime(text or "")
    except (ValueError, OverflowError):
        return NEVER
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _retry_after_s(text: str | None) -> float:
    """Seconds, or until a date; 0 for what is neither."""
    if text is not None and text.isascii() and text.isdecimal():
        return float(text)
    date = _date(text)
    return 0.0 if date == NEVER else max(0.0, (date - datetime.now(UTC)).total_seconds())
