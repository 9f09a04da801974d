"""What was seen of a store during one exercise: breaches, calls that run, pages that it has taken and not ended.

Guarantees: the first breaches are kept, in order; `pending` tells what the store owes, and `rescue` ends that in its
place, so that whoever waits for it goes on.
Assumes: nothing.  Every method may be called from any thread.
Not here: who looks (probe.py), who decides that it has waited enough (runner.py).
"""

from __future__ import annotations

import errno
import gc
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING

from ...errors import ContractViolation
from ...units import PAGE_SHIFT

if TYPE_CHECKING:
    from ...mm.page import Page
    from .lent import Lent
    from .overtaking import Hold
    from .seen import SeenPage

BREACHES_MAX = 3
"""So many of one clause are told: the others are most likely the same mistake."""
FRAMES_MAX = 4
_HERE = __file__.rpartition("/")[0]


@dataclass(frozen=True)
class Breach:
    """Something that was not as a clause says."""

    number: str
    seen: str
    where: str


@dataclass(eq=False)
class _Call:
    operation: str
    thread_id: int = field(default_factory=threading.get_ident)


class Record:
    """What was seen."""

    def __init__(self) -> None:
        self.breaches: list[Breach] = []
        self.progress: int = 0
        """Grows with everything that the store does."""
        self.poison: int = 0xA5
        """What a page is full of before the store is to fill it: what it forgets is seen."""
        self.renamed: dict[str, str] = {}
        """Which clause a breach is told of in place of another, because of what is being done."""
        self.circumstance: str = ""
        """What is being done meanwhile, for who reads of a breach."""
        self.waits_s: list[float] = []
        """How long each call of a reading operation kept its thread without working."""
        self.while_stored: Callable[[], object] | None = None
        """Done when the store is about to end a write-back."""
        self.hold: Hold | None = None
        """What holds a call of the store's until another has gone by."""
        self.lent: list[Lent] = []
        """Memory that the store was given."""
        self.last_error: str = ""
        """The last OSError that an operation has raised, and where: that is lost by the time that a caller hears it."""
        self.died: list[str] = []
        """Threads and callbacks that ended with an exception meanwhile."""
        self._lock = threading.Lock()
        self._calls: list[_Call] = []
        self._taken: list[SeenPage] = []

    def breach(self, number: str, seen: str, where: str, *, is_certain: bool = False) -> None:
        """A clause was broken: that one, whatever is being done, if that *is_certain*."""
        if not is_certain:
            number = self.renamed.get(number, number)
        with self._lock:
            self.progress += 1
            if sum(one.number == number for one in self.breaches) < BREACHES_MAX:
                self.breaches.append(Breach(number, seen, where))

    @contextmanager
    def during(self, circumstance: str) -> Iterator[None]:
        """What is begun in here is told with *circumstance*: the store's author cannot know of it."""
        before, self.circumstance = self.circumstance, circumstance
        try:
            yield
        finally:
            self.circumstance = before

    def here(self, where: str) -> str:
        """*where*, with the circumstance."""
        return f"{where}, {self.circumstance}" if self.circumstance else where

    def moved(self) -> None:
        """The store has done something."""
        self.progress += 1

    @contextmanager
    def call(self, operation: str, *, timed: bool = False) -> Iterator[None]:
        """A call of an operation, for as long as it runs."""
        call = _Call(operation)
        with self._lock:
            self.progress += 1
            self._calls.append(call)
        hold = self.hold
        began_s, worked_s = time.perf_counter(), time.thread_time()
        try:
            with hold.inside() if hold is not None else nullcontext():
                yield
        finally:
            waited_s = (time.perf_counter() - began_s) - (time.thread_time() - worked_s)
            with self._lock:
                self.progress += 1
                self._calls.remove(call)
                if timed:
                    self.waits_s.append(waited_s)

    def took(self, page: SeenPage) -> None:
        """The store has a page that it owes an end."""
        with self._lock:
            self.progress += 1
            self._taken = [*(one for one in self._taken if one.is_owed), page]

    def blame(self) -> Breach | None:
        """What the store owes for so long that it is a breach; None if it owes nothing."""
        frames = sys._current_frames()
        with self._lock:
            calls, taken = list(self._calls), [page for page in self._taken if page.is_owed]
        if calls:
            call = calls[-1]
            return Breach("D4", f"it has not returned; it is {_stack(frames, call.thread_id)}", call.operation)
        if taken:
            also = f"; meanwhile {self.died[0]}" if self.died else ""
            return Breach(taken[0].owed_clause, f"it was never ended{also}", taken[0].where)
        return None

    def rescue(self) -> None:
        """End in the store's place what it owes."""
        with self._lock:
            taken, self._taken = self._taken, []
        for page in taken:
            if page.is_owed:
                error = OSError(errno.ETIMEDOUT, "never ended by the store")
                with suppress(ContractViolation, AssertionError):
                    page.end_in_its_place(error)

    def poison_page(self, page: Page) -> None:
        """Fill what is to be brought with something that is not the file's."""
        page.run.arena.write(bytes([self.poison]) * page.size_bytes, page.run.frame << PAGE_SHIFT)

    def note_kept(self) -> None:
        """Nothing is being read or stored: what of its memory the store still uses it has kept."""
        lent, self.lent = self.lent, []
        kept = [one for one in lent if one.is_kept]
        if kept:
            gc.collect()  # it may be alive only in the traceback of an error that was caught
        for one in kept:
            if one.is_kept:
                seen = f"a slice of page.{one.name}, or an array over it, was still alive when all had ended"
                self.breach(one.number, seen, one.where)


def _stack(frames: dict[int, FrameType], thread_id: int) -> str:
    frame = frames.get(thread_id)
    if frame is None:
        return "in a thread that has ended"
    frames_here = [one for one in traceback.extract_stack(frame) if not one.filename.startswith(_HERE)]
    summary = frames_here[-FRAMES_MAX:]
    return " < ".join(f"{_short(one.filename)}:{one.lineno} in {one.name}" for one in reversed(summary))


def where_raised(error: BaseException) -> str:
    """The line that raised it, and what it is."""
    summary = traceback.extract_tb(error.__traceback__)
    at = f" at {_short(summary[-1].filename)}:{summary[-1].lineno} in {summary[-1].name}" if summary else ""
    return f"{type(error).__name__}: {error}{at}"


def _short(path: str) -> str:
    return "/".join(path.rsplit("/", 2)[-2:])
