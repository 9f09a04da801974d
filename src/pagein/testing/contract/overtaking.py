"""Two calls of a store, of which one is held inside the store's own code until the other has gone by: at each point.

Guarantees: a mistake that shows when one call overtakes another once is met, and not by luck, if both run the same code
each time: the first is held before each instruction that can touch what threads share, in turn.  A store that keeps the
second call out, by a lock, is held for some milliseconds, and goes on: nothing is thought of that.
Assumes: `Record.call` is around each call of the store's.
Not here: what the two calls are, and what they have to bring (meeting.py, writing.py); whose code it is (own_code.py).
Not held: C, and threads other than the one that called the store, an event loop's among them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import NamedTuple

from .own_code import Watch
from .rig import Rig

HOLD_S = 0.025
"""For the second call to go by, which takes a few switches of threads where nothing keeps it out."""
HOLD_LEAST_S = 0.004
"""The same, once it has been kept out several times in a row: that is a lock."""
HOLD_CALLS = 4
"""A call that takes longer by itself is waited for, for as long as so many of them."""
TRIES_S = 1.0
"""After so long no further point is tried: of a store whose calls take long, not all are."""


class Point(NamedTuple):
    """Where a call can be held: before an instruction.  The code is told by its id: its hash takes as long as it is."""

    code_id: int
    offset: int
    line: int

    @property
    def of_line(self) -> tuple[int, int]:
        """What all points of a line have in common."""
        return self.code_id, self.line


class Hold:
    """The first call that is made is held before *point*, once, until the second has gone by, or for *bound_s*."""

    def __init__(self, watch: Watch, point: Point | None, bound_s: float) -> None:
        self.passed: dict[Point, CodeType] = {}
        """Where it could have been held, in order."""
        self.where: str = ""
        """Where it was held, in words; else empty."""
        self.was_in_vain: bool = False
        """Whether the second call had not gone by when *bound_s* was over."""
        self._watch = watch
        self._point = point
        self._bound_s = bound_s
        self._lock = threading.Lock()
        self._is_claimed = False
        self._came = threading.Event()
        self._overtaken = threading.Event()

    def first(self, call: Callable[[], object]) -> None:
        """Make the call that is held."""
        try:
            call()
        finally:
            self._came.set()

    def second(self, call: Callable[[], object]) -> None:
        """Make the call that goes by, once the first is held; none, if it never is."""
        self._came.wait()
        try:
            if self.where:
                call()
        finally:
            self._overtaken.set()

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Around each call of the store's, in the thread that makes it."""
        with self._lock:
            is_first, self._is_claimed = not self._is_claimed, True
        if is_first:
            with self._watch.in_this_thread(self._at):
                yield
        else:
            yield

    def told(self, index: int, *, held: int, other: int) -> str:
        """Where something was seen, in words: in page *index*, when..."""
        if not self.where:
            return f"page {index}"
        return f"page {index}, with the call for page {held} held at {self.where} while that for page {other} was made"

    def _at(self, frame: FrameType) -> None:
        code = frame.f_code
        point = Point(id(code), frame.f_lasti, frame.f_lineno)
        self.passed[point] = code
        if point == self._point and not self.where:
            path = "/".join(code.co_filename.rsplit("/", 2)[-2:])
            self.where = f"{path}:{point.line} in {code.co_name}"
            self._came.set()
            self.was_in_vain = not self._overtaken.wait(self._bound_s)


def overtake(rig: Rig, meet: Callable[[Hold], object]) -> None:
    """Have *meet* make two calls, with `Hold.first` and `Hold.second`, as often as there are points to hold at.

    First each line is tried, then what else there is on it; but not where the second call was kept out.
    """
    with Watch(rig.probe.inner, rig.made()) as watch:
        _met(rig, meet, Hold(watch, None, 0.0))  # it may open what later ones use
        began_s = time.monotonic()
        points = _met(rig, meet, Hold(watch, None, 0.0)).passed
        alone_s = HOLD_CALLS * (time.monotonic() - began_s)
        bound_s, deadline_s = max(HOLD_S, alone_s), time.monotonic() + TRIES_S
        kept_out: set[tuple[int, int]] = set()
        todo = _lines_first(points)
        for point in todo:
            if time.monotonic() > deadline_s:
                return
            if point.of_line in kept_out:
                continue
            hold = _met(rig, meet, Hold(watch, point, bound_s))
            if hold.was_in_vain:
                kept_out.add(point.of_line)
            bound_s = max(HOLD_LEAST_S, bound_s / 2, alone_s) if hold.was_in_vain else max(HOLD_S, alone_s)
            todo += [another for another in hold.passed if another not in points]  # another path, another time
            points |= hold.passed


def _met(rig: Rig, meet: Callable[[Hold], object], hold: Hold) -> Hold:
    rig.record.hold = hold
    try:
        meet(hold)
    finally:
        rig.record.hold = None
    rig.stop_if_breached()
    return hold


def _lines_first(points: dict[Point, CodeType]) -> list[Point]:
    first: dict[tuple[int, int], Point] = {}
    for point in points:
        first.setdefault(point.of_line, point)
    return [*first.values(), *(point for point in points if first[point.of_line] is not point)]
