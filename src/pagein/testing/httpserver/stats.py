"""What a RangeServer was asked and what it sent, and waiting until it has been asked.

Guarantees: whoever has received a whole answer finds it in the statistics. A request is entered before
anything is done about it and closed before the last piece of its answer is sent, so that a client that asks
one thing after another never looks like two at once, and no test has to wait for the server's threads.
Assumes: the server keeps that order. `sent_bytes` are body bytes handed to the kernel; of an answer that a
client went away from, what it has received (delivery.py).
Times are seconds of time.monotonic(), which on Linux all processes of the machine share.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Any, NamedTuple

# The newest requests are kept one by one, older ones only in the sums: 2**18 of them are some 100 MB.
LOG_LIMIT_REQUESTS = 2**18


class RequestRecord(NamedTuple):
    """One request; `data[range_start:range_stop]` is the range it asked for, None and None for no range."""

    method: str
    path: str  # without the leading slash, unquoted
    range_start: int | None
    range_stop: int | None
    t_start_s: float
    t_end_s: float | None  # None: under way
    status: int | None  # None: under way, or ended without an answer
    sent_bytes: int


@dataclass(frozen=True, slots=True)
class PathStats:
    """Sums over the requests for one path, or for all."""

    request_count: int = 0
    get_count: int = 0
    head_count: int = 0
    sent_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ServerStats(PathStats):
    """A snapshot; everything counts from the last reset."""

    max_concurrent: int = 0  # requests under way at the same time
    by_path: Mapping[str, PathStats] = field(default_factory=dict)
    log: tuple[RequestRecord, ...] = ()  # in the order of arrival; the newest LOG_LIMIT_REQUESTS

    def to_json(self) -> dict[str, Any]:
        """What json.dumps() accepts."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> ServerStats:
        """The other way; the document is used up."""
        by_path = {path: PathStats(**sums) for path, sums in document.pop("by_path").items()}
        log = tuple(RequestRecord(*record) for record in document.pop("log"))
        return cls(**document, by_path=by_path, log=log)


@dataclass(slots=True)
class Entry:
    """A request under way, and later what became of it. Only Book changes it."""

    era: int
    method: str
    path: str
    asked: tuple[int | None, int | None]
    t_start_s: float
    t_end_s: float | None = None
    status: int | None = None
    sent_bytes: int = 0

    def record(self) -> RequestRecord:
        """As it is now."""
        return RequestRecord(
            self.method, self.path, *self.asked, self.t_start_s, self.t_end_s, self.status, self.sent_bytes
        )


class Book:
    """The requests of one server. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._eras = count()
        self._under_way = 0
        self._begin_era()

    def _begin_era(self) -> None:
        self._era = next(self._eras)
        self._log: deque[Entry] = deque(maxlen=LOG_LIMIT_REQUESTS)
        self._sums: dict[str, PathStats] = {}
        self._max_concurrent = self._under_way

    def reset(self) -> None:
        """Forget every request, those under way included; they still count as concurrent."""
        with self._changed:
            self._begin_era()

    def enter(self, method: str, path: str, asked: tuple[int | None, int | None]) -> Entry:
        """A request has arrived. Must be followed by close()."""
        with self._changed:
            entry = Entry(self._era, method, path, asked, time.monotonic())
            self._log.append(entry)
            self._under_way += 1
            self._max_concurrent = max(self._max_concurrent, self._under_way)
            self._add(path, PathStats(1, int(method == "GET"), int(method == "HEAD")))
            self._changed.notify_all()
            return entry

    def add_sent(self, entry: Entry, size_bytes: int) -> None:
        """So many more bytes of its body have been sent, or will be at once."""
        with self._changed:
            entry.sent_bytes += size_bytes
            if entry.era == self._era:
                self._add(entry.path, PathStats(sent_bytes=size_bytes))

    def close(self, entry: Entry, status: int | None) -> None:
        """The last piece of its answer is about to be sent, or it ended early. Only the first call counts."""
        with self._changed:
            if entry.t_end_s is None:
                entry.t_end_s, entry.status = time.monotonic(), status
                self._under_way -= 1

    def snapshot(self) -> ServerStats:
        """Everything since the last reset, as of one moment."""
        with self._changed:
            log = tuple(entry.record() for entry in self._log)
            by_path = dict(self._sums)
            max_concurrent = self._max_concurrent
        total = PathStats()
        for sums in by_path.values():
            total = _sum(total, sums)
        return ServerStats(**asdict(total), max_concurrent=max_concurrent, by_path=by_path, log=log)

    def wait_for_requests(self, request_count: int, *, path: str | None, timeout_s: float) -> None:
        """Block until so many requests have arrived since the last reset. Raises: TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._arrived(path) >= request_count, timeout_s):
                asked_for = "" if path is None else f" for {path!r}"
                raise TimeoutError(
                    f"{self._arrived(path)} of {request_count} requests{asked_for} arrived in {timeout_s} s"
                )

    def _arrived(self, path: str | None) -> int:
        if path is not None:
            return self._sums.get(path, PathStats()).request_count
        return sum(sums.request_count for sums in self._sums.values())

    def _add(self, path: str, more: PathStats) -> None:
        self._sums[path] = _sum(self._sums.get(path, PathStats()), more)


def _sum(one: PathStats, other: PathStats) -> PathStats:
    return PathStats(
        one.request_count + other.request_count,
        one.get_count + other.get_count,
        one.head_count + other.head_count,
        one.sent_bytes + other.sent_bytes,
    )
