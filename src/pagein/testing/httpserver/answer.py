"""From a query to an answer: what a correct server says, as a value that faults may bend before it is sent.

Guarantees: an Answer holds one version of one object; nothing about it changes after it has been decided.
Assumes: whoever decides an answer also closes its body.
Not here: faults (faults.py), sockets (server.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Literal

from . import rfc9110
from .content import Body, BytesBody, Content
from .rfc9110 import AskedRange, Headers, Version

NO_VERSION = Version(None, None)


@dataclass(slots=True)
class Query:
    """What is asked, and what this server is able to say; faults take abilities away."""

    method: str
    name: str  # of the object: the path without its leading slash, unquoted
    headers: Headers  # names in any case
    asked: AskedRange | None
    redirected: bool = False
    knows_ranges: bool = True
    etags: Literal["strong", "weak", "none"] = "strong"
    dates: bool = True


@dataclass(slots=True)
class Answer:
    """A status, headers, and the part of a body that follows them."""

    status: HTTPStatus
    body: Body
    start: int  # first byte of the body to send
    stop: int  # one past the last byte to send
    announced_bytes: int | None  # Content-Length; None: not told, the body is sent in chunks
    headers: dict[str, str] = field(default_factory=dict)
    keeps_alive: bool = True  # False: the connection ends with this answer, whole or not
    unsaid: bool = False  # the connection ends without one byte of this answer
    pause: tuple[int, Callable[[], object]] | None = None  # after so many bytes of the part, call this, which may block


def text_answer(status: HTTPStatus, headers: Mapping[str, str] | None = None) -> Answer:
    """A short plain answer, for whatever is not an object."""
    body = BytesBody(f"{status.value} {status.phrase}\n".encode(), NO_VERSION)
    all_headers = {"Content-Type": "text/plain"} | dict(headers or {})
    return Answer(status, body, 0, body.size_bytes, body.size_bytes, all_headers)


def answer_to(query: Query, content: Content) -> Answer:
    """The answer of a correct server. Blocks: on the file system. Raises: what the content raises."""
    try:
        body = content.open(query.name)
    except PermissionError:
        return text_answer(HTTPStatus.FORBIDDEN)
    if body is None:
        return text_answer(HTTPStatus.NOT_FOUND)
    told = _told_version(query, body.version)
    headers = _headers_of(query, told)
    status = rfc9110.failed_precondition(query.headers, told)
    if status is not None:
        body.close()
        return text_answer(status, headers)
    if _is_ranged(query, told):
        return _ranged_answer(query, body, headers)
    return Answer(HTTPStatus.OK, body, 0, body.size_bytes, body.size_bytes, headers)


def _is_ranged(query: Query, told: Version) -> bool:
    # RFC 9110, 14.2: Range means something for GET only.
    return (
        query.method == "GET"
        and query.asked is not None
        and query.knows_ranges
        and rfc9110.range_still_wanted(query.headers.get("If-Range"), told)
    )


def _ranged_answer(query: Query, body: Body, headers: dict[str, str]) -> Answer:
    assert query.asked is not None
    resolved = query.asked.resolve(body.size_bytes)
    if resolved is None:
        size_bytes = body.size_bytes
        body.close()
        headers["Content-Range"] = f"bytes */{size_bytes}"
        return text_answer(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers)
    start, stop = resolved
    headers["Content-Range"] = content_range(start, stop, body.size_bytes)
    return Answer(HTTPStatus.PARTIAL_CONTENT, body, start, stop, stop - start, headers)


def content_range(start: int, stop: int, size_bytes: int) -> str:
    """The header's value; HTTP counts the last byte in."""
    return f"bytes {start}-{stop - 1}/{size_bytes}"


def _told_version(query: Query, version: Version) -> Version:
    if query.etags == "none":
        version = replace(version, etag=None)
    elif query.etags == "weak":
        version = replace(version, etag=f"W/{version.etag}")
    return version if query.dates else replace(version, modified_s=None)


def _headers_of(query: Query, told: Version) -> dict[str, str]:
    headers = {"Content-Type": "application/octet-stream"}
    if query.knows_ranges:
        headers["Accept-Ranges"] = "bytes"
    if told.etag is not None:
        headers["ETag"] = told.etag
    if told.last_modified is not None:
        headers["Last-Modified"] = told.last_modified
    return headers
