"""Faults: what a RangeServer does wrong on purpose, for which object, and how often.

    server.faults.set("a.bin", "truncate", times=1)            # the first GET is cut short, the next is whole
    server.faults.set("a.bin", "no-head", "no-range")          # several at once
    server.faults.set("*", "status:503", method="GET")         # every object without a "status" of its own
    server.faults.clear("a.bin")

Guarantees: set, clear and hold apply to every request that arrives after they return, to none by half.
Of the faults that replace the answer (stage "instead") the first in the order of KINDS applies and hides all
others; the rest combine. A fault counts down only when it applies: one for GET is not used up by a HEAD.
Not here: sending the bent answer, and closing the connection after it (listener.py, delivery.py).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Literal
from urllib.parse import quote

from .answer import Answer, Query, content_range, text_answer

EVERY_PATH = "*"
REAL_PREFIX = "-/real/"  # where redirects lead: the same object, which from there redirects no more


@dataclass(frozen=True, slots=True)
class FaultKind:
    """One row of the table."""

    name: str
    does: str  # wrong, for the object or the request it is armed for
    stage: Literal["instead", "ability", "bend"]
    methods: tuple[str, ...] = ("GET", "HEAD")
    ranged_only: bool = False
    argument: str | None = None  # pattern of what may follow the colon
    default: str | None = None  # None: the argument must be given


# In the order in which they are applied; those of stage "instead" must stand first (see Faults.take).
KINDS: Mapping[str, FaultKind] = {
    kind.name: kind
    for kind in (
        FaultKind("die", "closes the connection without a byte of an answer", "instead"),
        FaultKind("redirect-loop", "redirects to itself for ever (302)", "instead"),
        FaultKind(
            "redirect", "redirects to /-/real/NAME, which is the object, with that status", "instead",
            argument="30[12378]", default="302",
        ),
        FaultKind("status", "answers with that status and no object", "instead", argument="[45][0-9][0-9]"),
        FaultKind("no-head", "answers HEAD with 405", "instead", methods=("HEAD",)),
        FaultKind("no-range", "knows no ranges: 200, the whole body, no Accept-Ranges", "ability"),
        FaultKind("no-etag", "sends no ETag and ignores conditions on one", "ability"),
        FaultKind("weak-etag", "sends a weak ETag, which no If-Match matches", "ability"),
        FaultKind("no-last-modified", "sends no Last-Modified", "ability"),
        FaultKind(
            "ignore-range-lie", "answers 206 with as many bytes as asked, from another offset, and says so",
            "bend", methods=("GET",), ranged_only=True,
        ),
        FaultKind("no-length", "sends no Content-Length; bodies come in chunks", "bend"),
        FaultKind(
            "wrong-length", "Content-Length is off by that many bytes; closes after the body", "bend",
            argument="[+-][0-9]{1,12}", default="-1",
        ),
        FaultKind("truncate", "announces the whole body, sends half, closes", "bend", methods=("GET",)),
        FaultKind("die-after-headers", "announces the whole body, closes", "bend", methods=("GET",)),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault with its argument, as read from `kind` or `kind:argument`."""

    kind: FaultKind
    argument: str

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Raises: ValueError saying what is accepted."""
        name, _, argument = text.partition(":")
        kind = KINDS.get(name)
        if kind is None:
            raise ValueError(f"no fault {text!r}; known are {', '.join(KINDS)}")
        argument = argument or kind.default or ""
        if not re.fullmatch(kind.argument or "", argument):
            accepted = f"{name}:{kind.argument}" if kind.argument else f"{name} without an argument"
            raise ValueError(f"fault {text!r}: accepted is {accepted}")
        if name == "status":
            HTTPStatus(int(argument))  # raises if HTTP has no such status
        return cls(kind, argument)


@dataclass(slots=True)
class _Armed:
    fault: Fault
    method: str | None
    times_left: int | None

    def applies_to(self, query: Query) -> bool:
        kind = self.fault.kind
        return (
            self.times_left != 0
            and query.method in kind.methods
            and self.method in (None, query.method)
            and not (kind.ranged_only and query.asked is None)
            and not (query.redirected and kind.name.startswith("redirect"))
        )


@dataclass(slots=True)
class _Hold:
    released: threading.Event
    times_left: int | None
    after_bytes: int | None
    is_reached: threading.Event


class Faults:
    """The faults of one server, by object. Every method may be called from any thread while it runs."""

    def __init__(self, table: Mapping[str, str | Iterable[str]] | None = None) -> None:
        self._lock = threading.Lock()
        self._armed: dict[str, dict[str, _Armed]] = {}
        self._holds: dict[str, _Hold] = {}
        self._closed = False
        for path, faults in (table or {}).items():
            self.set(path, *([faults] if isinstance(faults, str) else faults))

    def set(self, path: str, *faults: str, times: int | None = None, method: str | None = None) -> None:
        """Arm faults for one object, or for EVERY_PATH; a kind already armed there is replaced.

        times: heal after that many requests; method: only for "GET" or for "HEAD".
        Raises: ValueError for an unknown fault, argument or method, or for times below 1.
        """
        _check_times(times)
        if method not in (None, "GET", "HEAD"):
            raise ValueError(f"method must be 'GET' or 'HEAD', not {method!r}")
        parsed = [Fault.parse(fault) for fault in faults]
        with self._lock:
            armed = self._armed.setdefault(path, {})
            for fault in parsed:
                armed[fault.kind.name] = _Armed(fault, method, times)

    def clear(self, path: str | None = None) -> None:
        """Disarm the faults of one object, or all. Holds stay: they end by release()."""
        with self._lock:
            if path is None:
                self._armed.clear()
            else:
                self._armed.pop(path, None)

    def hold(self, path: str, *, times: int | None = None, after_bytes: int | None = None) -> None:
        """Let requests for this object (the first `times` of them) wait, unanswered, until release(path); or their
        answers, once so many bytes of the body were sent."""
        _check_times(times)
        if after_bytes is not None and after_bytes < 0:
            raise ValueError(f"after_bytes must be at least 0, not {after_bytes}")
        with self._lock:
            if path in self._holds:
                raise ValueError(f"{path!r} is held already")
            self._holds[path] = _Hold(threading.Event(), times, after_bytes, threading.Event())

    def release(self, path: str) -> None:
        """Let the held requests of this object go on, hold no more. Raises: ValueError if it is not held."""
        with self._lock:
            hold = self._holds.pop(path, None)
        if hold is None:
            raise ValueError(f"{path!r} is not held")
        hold.released.set()

    def end(self) -> None:
        """Release every request, and hold no more for ever; the server calls it when it stops."""
        with self._lock:
            self._closed = True
            holds = list(self._holds.values())
            self._holds.clear()
        for hold in holds:
            hold.released.set()

    def wait_while_held(self, name: str) -> int | None:
        """Blocks: until release() or end(), if the object is held; or says after how many bytes of the answer to call
        `wait_within`."""
        with self._lock:
            hold = self._hold_of(name)
            if hold is None or hold.times_left == 0:
                return None
            if hold.times_left is not None:
                hold.times_left -= 1
        if hold.after_bytes is None:
            hold.is_reached.set()
            hold.released.wait()
        return hold.after_bytes

    def wait_within(self, name: str) -> None:
        """Blocks: as `wait_while_held`, where an answer is held."""
        with self._lock:
            hold = self._hold_of(name)
        if hold is not None:
            hold.is_reached.set()
            hold.released.wait()

    def _hold_of(self, name: str) -> _Hold | None:
        return None if self._closed else self._holds.get(name) or self._holds.get(EVERY_PATH)

    def wait_until_held(self, path: str, *, timeout_s: float) -> None:
        """Blocks: until something is held.  Raises: TimeoutError; ValueError if it is not to be held."""
        if not self._to_hold(path).is_reached.wait(timeout_s):
            raise TimeoutError(f"nothing of {path!r} is held after {timeout_s} s")

    def is_held(self, path: str) -> bool:
        """Whether something is held by now.  Raises: ValueError if it is not to be held."""
        return self._to_hold(path).is_reached.is_set()

    def _to_hold(self, path: str) -> _Hold:
        with self._lock:
            hold = self._holds.get(path)
        if hold is None:
            raise ValueError(f"{path!r} is not held")
        return hold

    def take(self, query: Query) -> list[Fault]:
        """The faults that apply to this request, each counted as used."""
        with self._lock:
            here = self._armed.get(EVERY_PATH, {}) | self._armed.get(query.name, {})
            taken = []
            for kind in KINDS.values():
                armed = here.get(kind.name)
                if armed is None or not armed.applies_to(query):
                    continue
                taken.append(armed.fault)
                if armed.times_left is not None:
                    armed.times_left -= 1
                if kind.stage == "instead":
                    break
        return taken


def _check_times(times: int | None) -> None:
    if times is not None and times < 1:
        raise ValueError(f"times must be at least 1, not {times}")


def take_abilities(query: Query, faults: Iterable[Fault]) -> None:
    """Make the server forget what these faults say that it does not know."""
    for fault in faults:
        match fault.kind.name:
            case "no-range":
                query.knows_ranges = False
            case "no-etag":
                query.etags = "none"
            case "weak-etag" if query.etags == "strong":
                query.etags = "weak"
            case "no-last-modified":
                query.dates = False


def answer_instead(query: Query, faults: Iterable[Fault]) -> Answer | None:
    """The answer of a fault that leaves no room for a correct one, if there is such a fault."""
    for fault in faults:
        match fault.kind.name:
            case "die":
                return replace(text_answer(HTTPStatus.OK), unsaid=True, keeps_alive=False)
            case "status":
                return text_answer(HTTPStatus(int(fault.argument)))
            case "no-head":
                return text_answer(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "GET"})
            case "redirect":
                location = "/" + quote(REAL_PREFIX + query.name)
                return text_answer(HTTPStatus(int(fault.argument)), {"Location": location})
            case "redirect-loop":
                return text_answer(HTTPStatus.FOUND, {"Location": "/" + quote(query.name)})
    return None


def bend(answer: Answer, faults: Iterable[Fault]) -> None:
    """Make a correct answer wrong in the ways that these faults say."""
    for fault in faults:
        match fault.kind.name:
            case "ignore-range-lie" if answer.status == HTTPStatus.PARTIAL_CONTENT:
                _shift_range(answer)
            case "no-length":
                answer.announced_bytes = None
            case "wrong-length" if answer.announced_bytes is not None:
                answer.announced_bytes = max(0, answer.announced_bytes + int(fault.argument))
                # Left open, the surplus or the wait for the missing bytes would spoil the next answer too.
                answer.keeps_alive = False
            case "truncate":
                answer.stop = answer.start + (answer.stop - answer.start) // 2
                answer.keeps_alive = False
            case "die-after-headers":
                answer.stop = answer.start
                answer.keeps_alive = False


def _shift_range(answer: Answer) -> None:
    """Another range of the same length: at offset 0, or away from it if that was asked for."""
    size_bytes = answer.body.size_bytes
    length_bytes = answer.stop - answer.start
    # To the end of the object from its beginning; the whole of it has nowhere to go and loses its first byte.
    away = size_bytes - length_bytes or min(1, length_bytes - 1)
    answer.start = 0 if answer.start > 0 else away
    answer.stop = min(answer.start + length_bytes, size_bytes)
    answer.announced_bytes = answer.stop - answer.start
    answer.headers["Content-Range"] = content_range(answer.start, answer.stop, size_bytes)
