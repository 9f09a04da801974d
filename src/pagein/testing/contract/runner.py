"""Runs all exercises on a subject, each as long as something moves, and says what became of each clause.

Guarantees: it ends, whatever the store does: who keeps it waiting is named; what an exercise has found once is not
found again by those that build on it, so that the report names causes.
Assumes: the checked operations move something at least every *patience_s* seconds.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ...errors import ContractViolation
from ...stores.source import Opened, Source
from . import creating, left_behind, making, meeting, reading, sources, writing
from .clauses import CLAUSES, number_of
from .record import Breach, Record, where_raised
from .report import Finding, Report
from .rig import NotApplicable, Rig, Stop
from .subject import Subject

PATIENCE_S = 10.0
"""A store that has done nothing for so long, although something is owed, has broken a clause."""
STRAGGLING = 6
"""So many times longer an exercise may take that waits for nothing of the store's."""
PAGES_MIN = 3
"""With fewer much is not checked; of an empty file nothing is, which nobody should take for a pass."""
LOOK_S = 0.02
GRACE_S = 0.5
"""For an exercise to end after all, once the store's part was done in its place."""


class Exercise(NamedTuple):
    """Something to do with a store, and the clauses that it would show broken."""

    run: Callable[[Rig], None]
    clauses: tuple[str, ...]
    needs: tuple[Callable[[Rig], None], ...] = ()
    """Exercises without which it says nothing."""


_READ = ("R1", "R2", "R3", "R4", "R5", "R6", "R7", "R8", "R9", "R10", "R11", "R12", "R13", "R14", "R15", "E1", "L1")
_STORED = (writing.written_back,)

EXERCISES = (
    Exercise(sources.opening, ("O1", "O2", "O4", "O9")),
    Exercise(sources.missing, ("O3",), (sources.opening,)),
    Exercise(reading.attributes, ("D1", "D2"), (sources.opening,)),
    Exercise(reading.pages_alone, (*_READ, "D4"), (reading.attributes,)),
    Exercise(reading.runs, ("A1", "A2", "A3"), (reading.pages_alone,)),
    Exercise(reading.promptness, ("D3",), (reading.pages_alone,)),
    Exercise(reading.beyond, ("E2", "E3"), (reading.pages_alone,)),
    Exercise(meeting.concurrency, ("C1",), (reading.pages_alone, reading.runs)),
    Exercise(meeting.invalidation, ("T1",), (reading.pages_alone, reading.runs, meeting.concurrency)),
    Exercise(meeting.truncation, ("T2",), (reading.pages_alone, reading.runs, meeting.concurrency)),
    Exercise(meeting.failure, ("F1", "F2"), (reading.pages_alone, reading.runs)),
    Exercise(left_behind.left_behind, ("L2", "L3"), (reading.pages_alone, reading.runs)),
    Exercise(left_behind.left_by_errors, ("L2", "L3"), (left_behind.left_behind, meeting.failure)),
    Exercise(sources.through_a_cache, ("O11", "O12", "O13"), (reading.pages_alone, reading.runs)),
    Exercise(sources.changed, ("O5", "O6"), (reading.pages_alone,)),
    Exercise(writing.written_back, ("W1", "W2", "W3", "W4", "W17", "W19"), (reading.attributes,)),
    Exercise(writing.rewritten, ("W6",), _STORED),
    Exercise(writing.neighbours, ("W7",), (*_STORED, writing.rewritten)),
    Exercise(writing.gaps, ("W8",), _STORED),
    Exercise(writing.sizes, ("W9",), (*_STORED, writing.gaps)),
    Exercise(writing.holes, ("W10",), _STORED),
    Exercise(writing.stored_at_once, ("W11",), (*_STORED, writing.rewritten, writing.neighbours)),
    Exercise(writing.committed, ("W12", "W15"), _STORED),
    Exercise(writing.found_anew, ("W5", "W13", "W14", "O5"), (*_STORED, writing.committed)),
    Exercise(writing.direct, ("W16",), _STORED),
    Exercise(writing.laundered, ("W18",), (*_STORED, writing.rewritten)),
    Exercise(writing.write_failure, ("F3", "W20"), _STORED),
    Exercise(writing.truncated_at_open, ("O7", "O8"), _STORED),
    Exercise(left_behind.left_by_writing, ("L2", "L3"), (left_behind.left_behind, *_STORED)),
    Exercise(creating.created, ("O10",), (sources.missing, writing.found_anew, writing.truncated_at_open)),
    Exercise(left_behind.closed_at_last, ("O9",)),  # the last of all, and whatever was found before
)


def check(subject: Subject, *, patience_s: float = PATIENCE_S) -> Report:
    """Check *subject*.  Blocks: until all exercises have ended, or were given up.

    Raises: TypeError, ValueError for what cannot be checked: also a file that is empty, and may not be written to.
    """
    return check_made(subject, making.first_made(subject, patience_s), patience_s)


def check_made(subject: Subject, made: Source | Opened | Breach, patience_s: float) -> Report:
    """As `check`, after *subject* was made for the first time (making.py)."""
    checking = _Check(subject, patience_s)
    if isinstance(made, Breach):
        return checking.report_unmade(made)
    order = _in_order(subject, made)
    making.close_first_made(subject, made, patience_s)
    return checking.report(order)


def _in_order(subject: Subject, made: Source | Opened) -> list[Exercise]:
    """What is empty has to be written to before it can be read: then a mistake in writing is found first."""
    if not isinstance(made, Opened) or made.size_bytes or subject.why_not_written(made) is not None:
        return list(EXERCISES)
    first = [one for one in EXERCISES if one.run in (sources.opening, reading.attributes, writing.written_back)]
    rest = [one._replace(needs=(*one.needs, *_STORED)) for one in EXERCISES[:-1] if one not in first]
    return [*first, *rest, EXERCISES[-1]]


class _Check:
    def __init__(self, subject: Subject, patience_s: float) -> None:
        self.subject = subject
        self.patience_s = patience_s
        self.baseline: dict[int, bytes] = {}
        self.breaches: dict[str, list[Breach]] = {}
        self.covered: set[str] = set()
        self.reasons: dict[str, str] = {}
        self.blocked: dict[Callable[[Rig], None], str] = {}
        """Exercises that have found something, and which clause."""
        self.gave_up = False
        self.began_s = time.perf_counter()

    def report(self, order: list[Exercise]) -> Report:
        for exercise in order:
            self._run(exercise)
        return self._report()

    def report_unmade(self, breach: Breach) -> Report:
        self.breaches[breach.number] = [breach]
        self.gave_up = True
        for exercise in EXERCISES:
            self._skip(exercise, f"not checked before {breach.number} is right")
        return self._report()

    def _report(self) -> Report:
        findings = tuple(self._finding(number) for number in CLAUSES)
        return Report(self.subject.name, findings, time.perf_counter() - self.began_s, self.gave_up)

    def _run(self, exercise: Exercise) -> None:
        cause = next((self.blocked[one] for one in exercise.needs if one in self.blocked), None)
        if cause is not None:
            self.blocked[exercise.run] = cause
            self._skip(exercise, f"not checked before {cause} is right")
            return
        rig = Rig(self.subject, self.baseline)
        reason = _Attempt(exercise, rig, self.patience_s).run()
        self.gave_up = self.gave_up or rig.given_up.is_set()
        for breach in rig.record.breaches:
            self.breaches.setdefault(breach.number, []).append(breach)
        failed = [one.number for one in rig.record.breaches if not CLAUSES[one.number].is_advice]
        if failed:
            self.blocked[exercise.run] = failed[0]
            self._skip(exercise, f"not checked before {failed[0]} is right")
        elif reason is not None:
            if exercise.run is reading.pages_alone and not self.breaches:
                raise ValueError(f"{reason}, so that nothing is read: give one of {PAGES_MIN} pages or more")
            self._skip(exercise, reason)
        else:
            self.covered.update(exercise.clauses)

    def _skip(self, exercise: Exercise, reason: str) -> None:
        for number in exercise.clauses:
            self.reasons.setdefault(number, reason)

    def _finding(self, number: str) -> Finding:
        breaches = tuple(self.breaches.get(number, ()))
        if breaches:
            return Finding(CLAUSES[number], "advice" if CLAUSES[number].is_advice else "failed", breaches)
        if number in self.covered or number == "X1":
            return Finding(CLAUSES[number], "passed")
        return Finding(CLAUSES[number], "skipped", reason=self.reasons.get(number, "no exercise came to it"))


class _Attempt:
    """One exercise, in a thread, with somebody who looks whether it gets on."""

    def __init__(self, exercise: Exercise, rig: Rig, patience_s: float) -> None:
        self.exercise = exercise
        self.rig = rig
        self.patience_s = patience_s
        self.reason: str | None = None
        self.thread = threading.Thread(target=self._perform, name="pagein-check", daemon=True)

    def run(self) -> str | None:
        """Why it does not apply; None if it does.  Breaches are on record."""
        with _deaths_noted(self.rig.record):
            try:
                self.thread.start()
                self._watch()
            except BaseException:  # Ctrl-C: the process is about to end, and not to wait for the store
                self.rig.give_up()
                raise
        return self.reason

    def _watch(self) -> None:
        record = self.rig.record
        seen, moved_s = -1, time.monotonic()
        while True:
            self.thread.join(LOOK_S)
            if not self.thread.is_alive():
                return
            if record.progress != seen:
                seen, moved_s = record.progress, time.monotonic()
                continue
            stalled_s = time.monotonic() - moved_s
            blame = record.blame() if stalled_s > self.patience_s else None
            if blame is None and stalled_s > self.patience_s * STRAGGLING:
                blame = Breach("X1", f"it did not end in {stalled_s:.0f} s", self.exercise.run.__name__)
            if blame is not None:
                record.breach(blame.number, f"{blame.seen} ({stalled_s:.1f} s)", blame.where)
                self._give_up()
                return

    def _give_up(self) -> None:
        """Do the store's part, so that all who wait go on; if they do not, they are left to themselves."""
        self.rig.give_up()
        deadline_s = time.monotonic() + GRACE_S
        while self.thread.is_alive() and time.monotonic() < deadline_s:
            self.rig.record.rescue()
            self.thread.join(LOOK_S)

    def _perform(self) -> None:
        rig = self.rig
        try:
            try:
                self.exercise.run(rig)
            finally:
                rig.close()
        except Stop:
            pass
        except NotApplicable as reason:
            self.reason = str(reason)
        except BaseException as error:
            if not rig.record.breaches:  # else it follows from what is known
                self._note_error(error)

    def _note_error(self, error: BaseException) -> None:
        rig, name = self.rig, self.exercise.run.__name__
        if isinstance(error, ContractViolation):
            rig.record.breach(number_of(error.clause), error.clause, error.operation)
            return
        text = where_raised(error)
        if isinstance(error, OSError):
            module = self.exercise.run.__module__
            number = "W2" if module == writing.__name__ else "O1" if module == sources.__name__ else "R15"
            rig.record.breach(number, text, name)
            return
        lines = traceback.format_exception(error)
        rig.record.breach("X1", f"{text}\n{''.join(lines[-3:])}", name)


@contextmanager
def _deaths_noted(record: Record) -> Iterator[None]:
    """Exceptions of threads and callbacks that reach nobody are put on record meanwhile: what raised one of them may be
    what everybody waits for."""
    of_threads, of_others = threading.excepthook, sys.unraisablehook
    loggers = [logging.getLogger(name) for name in ("concurrent.futures", "asyncio")]

    def note(text: str, error: BaseException | None) -> None:
        if error is not None:
            record.died.append(f"{text} {where_raised(error)}")

    def note_thread(args: threading.ExceptHookArgs) -> None:
        note(f"the thread {args.thread.name if args.thread else '?'} ended with", args.exc_value)

    def note_logged(told: logging.LogRecord) -> bool:
        note(f"{told.name} told of", told.exc_info[1] if told.exc_info else None)
        return True  # it is logged as ever

    def note_unraisable(args: sys.UnraisableHookArgs) -> None:
        note("sys.unraisablehook was told of", args.exc_value)
        of_others(args)

    threading.excepthook, sys.unraisablehook = note_thread, note_unraisable
    for logger in loggers:
        logger.addFilter(note_logged)
    try:
        yield
    finally:
        threading.excepthook, sys.unraisablehook = of_threads, of_others
        for logger in loggers:
            logger.removeFilter(note_logged)
