"""What RFC 9110 says about one byte range and about preconditions, as functions without I/O.

Guarantees: nothing here raises on what a client sends. A header that cannot be read counts as absent, as
the RFC asks (14.2 for Range, 13.1.4 for dates).
Not here: several ranges in one request; a server may ignore them (14.2), and this one does.
"""

import re
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from http import HTTPStatus
from typing import NamedTuple, Protocol

# 18 digits are below 2**63 and far below the length at which int() refuses a string.
_ONE_RANGE = re.compile(r"\s*bytes\s*=\s*([0-9]{0,18})-([0-9]{0,18})\s*", re.IGNORECASE)
_ENTITY_TAG = re.compile(r'(?:W/)?"[^"]*"')


class Headers(Protocol):
    """What is read from the headers of a request."""

    def get(self, name: str, /) -> str | None:
        """The value of that header, whichever case the client wrote its name in; None: not there."""


@dataclass(frozen=True, slots=True)
class Version:
    """The validators of one version of an object, as the client is told them; None: not told."""

    etag: str | None  # with its quotes, and `W/` before them if weak
    modified_s: int | None  # whole seconds since the epoch, all that an HTTP date can say

    @property
    def last_modified(self) -> str | None:
        """As the header says it."""
        return None if self.modified_s is None else formatdate(self.modified_s, usegmt=True)


class AskedRange(NamedTuple):
    """`first-last`, `first-` (last is None) or `-last` (first is None), before the size is known."""

    first: int | None
    last: int | None

    def resolve(self, size_bytes: int) -> tuple[int, int] | None:
        """Start and stop offsets in an object of that size; None: not satisfiable (416)."""
        if self.first is None:
            suffix_bytes = self.last or 0
            start, stop = max(0, size_bytes - suffix_bytes), size_bytes
        else:
            start = self.first
            stop = size_bytes if self.last is None else min(self.last + 1, size_bytes)
        return (start, stop) if start < stop else None

    def as_slice(self) -> tuple[int | None, int | None]:
        """Start and stop as Python slices them: `data[start:stop]` is what was asked for."""
        if self.first is None:
            return -(self.last or 0), None
        return self.first, None if self.last is None else self.last + 1


def parse_range(header: str | None) -> AskedRange | None:
    """The one range that a Range header asks for; None: no header, not bytes, malformed, or several."""
    match = _ONE_RANGE.fullmatch(header or "")
    if match is None:
        return None
    first, last = (int(digits) if digits else None for digits in match.groups())
    if first is None and last is None:
        return None
    if first is not None and last is not None and last < first:
        return None
    return AskedRange(first, last)


def failed_precondition(headers: Headers, version: Version) -> HTTPStatus | None:
    """412 or 304 if a precondition of a GET or HEAD does not hold, in the order of RFC 9110, 13.2.2.

    A validator that the server does not tell is one it does not know: conditions on it are ignored.
    """
    if_match, if_none_match = headers.get("If-Match"), headers.get("If-None-Match")
    if if_match is not None and version.etag is not None:
        if not _matches(if_match, version.etag, weakly=False):
            return HTTPStatus.PRECONDITION_FAILED
    elif _is_newer(version, than=headers.get("If-Unmodified-Since")) is True:
        return HTTPStatus.PRECONDITION_FAILED
    if if_none_match is not None and version.etag is not None:
        if _matches(if_none_match, version.etag, weakly=True):
            return HTTPStatus.NOT_MODIFIED
    elif _is_newer(version, than=headers.get("If-Modified-Since")) is False:
        return HTTPStatus.NOT_MODIFIED
    return None


def range_still_wanted(if_range: str | None, version: Version) -> bool:
    """Whether If-Range, if there, names this very version; if it does not, the Range is ignored (13.1.5)."""
    if if_range is None:
        return True
    value = if_range.strip()
    if '"' in value:
        return value == version.etag and not value.startswith("W/")
    return version.last_modified is not None and value == version.last_modified


def _matches(listed: str, etag: str, *, weakly: bool) -> bool:
    """Whether the list names the tag; strong comparison never matches a weak tag (8.8.3.2)."""
    if listed.strip() == "*":
        return True
    tags: list[str] = _ENTITY_TAG.findall(listed)
    if weakly:
        return etag.removeprefix("W/") in [tag.removeprefix("W/") for tag in tags]
    return etag in tags and not etag.startswith("W/")


def _is_newer(version: Version, *, than: str | None) -> bool | None:
    """None: cannot be told, since the date is missing or malformed or the version has none."""
    if than is None or version.modified_s is None:
        return None
    try:
        return version.modified_s > parsedate_to_datetime(than).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
