"""Which schedules to try: many by chance, each from a seed, or all with few preemptions.

    explore(scenario, seeds=range(200), preempt=[File.pread, removal.remove_runs])
    explore_pct(scenario, depth=3, seeds=range(200), preempt=[...])
    explore_all(scenario, preemptions_max=2, preempt=[...])
    for widened in explore_wider(scenario): ...   # all with no preemption, with one, with two, while there is time

Guarantees: a failure says how to repeat it, as an argument for `replay`, and shows every switch that led to it.
`explore_all` finds a failure with as few departures from "go on while you can" as it takes, `explore_wider` with as few
of what it counts.  They leave out no schedule within a bound: none is taken for equal to another, since what tasks
share beside their locks is not known.
Assumes: a scenario does the same when the same tasks go on: no clock, no chance and no thread of its own.  While
schedules are tried the garbage collector is off, since it may run code anywhere, and collects between them.
Source: most bugs take one or two preemptions at the right places: Musuvathi and Qadeer, "Iterative context bounding
for systematic testing of multithreaded programs" (PLDI 2007).  Departures: Emmi, Qadeer and Rakamarić,
"Delay-bounded scheduling" (POPL 2011).
Not here: who goes on at each point (strategies.py), the tasks, their locks and their time (scheduler.py).
"""

from __future__ import annotations

import gc
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple, TypeVar

from .instructions import Preemptible
from .scheduler import Scheduler, SchedulerError, Strategy, Stuck
from .strategies import PCT, Prescribed, RandomWalk

Scenario = Callable[[Scheduler], object]
"""Builds what is tested with the scheduler as its door, spawns tasks, calls ``scheduler.run()``, and asserts."""

S = TypeVar("S", bound=Strategy)

SCHEDULES_MAX = 20_000
"""How many schedules `explore_all` tries before it says that the scenario is too large for it."""
_SWITCHES_SHOWN = 60
_Departed = tuple[dict[int, int], int]
"""A schedule by its departures, and how many of them are preemptions."""


class FailedSchedule(AssertionError):
    """A scenario failed; ``__cause__`` is its own error."""

    def __init__(self, error: BaseException, repeat: str, journal: Sequence[str]) -> None:
        self.repeat = repeat
        """The strategy that leads there again, as Python that makes it."""
        shown = [f"({len(journal) - _SWITCHES_SHOWN} before)"] if len(journal) > _SWITCHES_SHOWN else []
        shown += journal[-_SWITCHES_SHOWN:]
        super().__init__("\n".join([f"{type(error).__name__}: {error}", f"repeat with {repeat}", *shown]))


class Explored(NamedTuple):
    """What was tried."""

    schedules: int
    distinct: int
    """Schedules that differ in at least one switch."""
    points: int
    seconds: float

    def __str__(self) -> str:
        rate = self.schedules / max(self.seconds, 1e-9)
        mean_points = self.points / max(self.schedules, 1)
        return f"{self.schedules} schedules, {self.distinct} distinct, {mean_points:.0f} points each, {rate:.0f}/s"


class Widened(NamedTuple):
    """How far `explore_wider` has come."""

    explored: Explored
    """What it has run since it told so last, but for what is within the bound before, and run again on the way."""
    bound: int
    """All schedules with at most so many preemptions, or departures, have been run; -1: there are more without any."""
    is_all: bool
    """There are no others."""


def explore(
    scenario: Scenario,
    *,
    seeds: Iterable[int] = range(200),
    preempt: Iterable[Preemptible] = (),
    strategy: Callable[[int], Strategy] = RandomWalk,
) -> Explored:
    """Run *scenario* once for each seed, from which *strategy* makes who goes on.

    Raises: `FailedSchedule` for the first that fails.
    """
    tally = _Tally(scenario, preempt)
    with _undisturbed():
        for seed in seeds:
            tally.run(partial(strategy, seed))
    return tally.explored()


def explore_pct(
    scenario: Scenario,
    *,
    depth: int = 3,
    seeds: Iterable[int] = range(200),
    preempt: Iterable[Preemptible] = (),
) -> Explored:
    """Run *scenario* by `PCT` for each seed; before, once without any preemption, to count its points.

    What is told is without that first run.  Some schedules pass more points than that one.  Each run draws its change
    points among the most that any before it has passed: its bound is the one of `PCT` with these, which its name tells,
    and holds for what fails within them.
    Raises: `FailedSchedule` for the first that fails.
    """
    with _undisturbed():
        points = max(len(_Tally(scenario, preempt).run(lambda: Prescribed({})).options), 1)
        tally = _Tally(scenario, preempt)
        for seed in seeds:
            points = max(points, tally.run(partial(PCT, seed, depth=depth, points=points)).passed)
    return tally.explored()


def explore_all(
    scenario: Scenario,
    *,
    preemptions_max: int = 2,
    departures_max: int | None = None,
    preempt: Iterable[Preemptible] = (),
    schedules_max: int = SCHEDULES_MAX,
) -> Explored:
    """Run *scenario* under every schedule in which at most *preemptions_max* times a task loses the turn without need.

    Who follows a task that has to wait, or has ended, is free.  Where that is often, there are too many schedules for
    all of them: with *departures_max* it is the oldest who can go on, but for so many departures, preemptions among
    them.
    Raises: `FailedSchedule` for the first that fails; SchedulerError if there are more than *schedules_max*.
    """
    if preemptions_max < 0 or (departures_max is not None and departures_max < 0):
        raise ValueError(f"{preemptions_max=}, {departures_max=}: each is 0 at least")
    tally = _Tally(scenario, preempt)
    pending: deque[_Departed] = deque([({}, 0)])
    with _undisturbed():
        while pending:
            departed = pending.popleft()
            options = tally.run(partial(Prescribed, departed[0])).options
            if departures_max is not None and len(departed[0]) >= departures_max:
                continue
            pending += (one for one in _departing_once_more(departed, options) if one[1] <= preemptions_max)
            if tally.schedules + len(pending) > schedules_max:
                raise SchedulerError(f"more than {schedules_max} schedules: a smaller scenario, or fewer preemptions")
    return tally.explored()


def explore_wider(
    scenario: Scenario,
    *,
    by_departures: bool = False,
    preempt: Iterable[Preemptible] = (),
    at_once: int = 20,
) -> Iterator[Widened]:
    """Run *scenario* under every schedule without preemptions, then under all with one, with two, and so on.

    With *by_departures* it is departures that are counted, as `explore_all` has them.  Tells how far it has come when
    it has run *at_once* schedules, and at the end of each bound; ends when there are no others.
    Raises: `FailedSchedule` for the first that fails.
    """
    preempt, bound, is_all = tuple(preempt), -1, False
    while not is_all:
        bound, is_all = bound + 1, True
        pending: list[_Departed] = [({}, 0)]  # the last comes first, so that they are few
        while pending:
            new, again = _Tally(scenario, preempt), _Tally(scenario, preempt)
            with _undisturbed():
                while pending and new.schedules + again.schedules < at_once:
                    departed = pending.pop()
                    tally = new if _cost(departed, by_departures=by_departures) == bound else again
                    for one in _departing_once_more(departed, tally.run(partial(Prescribed, departed[0])).options):
                        if _cost(one, by_departures=by_departures) <= bound:
                            pending.append(one)
                        else:
                            is_all = False
            yield Widened(new.explored(), bound - 1 if pending else bound, is_all and not pending)


def _cost(departed: _Departed, *, by_departures: bool) -> int:
    return len(departed[0]) if by_departures else departed[1]


def _departing_once_more(departed: _Departed, options: Sequence[tuple[int, bool]]) -> Iterator[_Departed]:
    """Schedules that go on as this one does up to its last departure, and then depart once."""
    choices, preemptions = departed
    first = max(choices, default=-1) + 1
    for point, (option_count, could_go_on) in enumerate(options[first:], first):
        for at in range(1, option_count):
            yield {**choices, point: at}, preemptions + could_go_on


def replay(scenario: Scenario, strategy: Strategy, *, preempt: Iterable[Preemptible] = ()) -> None:
    """Run *scenario* once, with the strategy that a failure names.

    Raises: `FailedSchedule`; SchedulerError if the run ends before a departure that is prescribed, and so says nothing
    of the failure: the scenario, or what it runs, has changed.
    """
    tally, journal = _Tally(scenario, preempt), list[str]()
    with _undisturbed():
        if error := tally.error_with(strategy, journal=journal):
            raise FailedSchedule(error, repr(strategy), journal) from error
    if isinstance(strategy, Prescribed) and (missed := strategy.missed):
        raise SchedulerError(f"the run has {len(strategy.options)} points, and none of {missed}: it was another one")


class _Tally:
    """Runs a scenario and counts."""

    def __init__(self, scenario: Scenario, preempt: Iterable[Preemptible]) -> None:
        self.schedules = 0
        self._points = 0
        self._fingerprints: set[int] = set()
        self._scenario = scenario
        self._preempt = tuple(preempt)
        self._began_s = time.perf_counter()

    def run(self, make: Callable[[], S]) -> S:
        """Run the scenario once; the strategy that it ran with.  Raises: `FailedSchedule`, with its switches."""
        strategy = make()
        if error := self.error_with(strategy):
            journal: list[str] = []
            if isinstance(error, Stuck):
                journal.append("(not run again, to show its switches: it would take as long)")
            elif type(again := self.error_with(make(), journal=journal)) is not type(error):
                journal.append(f"(the scenario does not repeat itself: this second time, {again!r})")
            raise FailedSchedule(error, repr(strategy), journal) from error
        return strategy

    def error_with(self, strategy: Strategy, *, journal: list[str] | None = None) -> BaseException | None:
        """Run the scenario once; how it failed, or None."""
        error = self._error_with(strategy, journal)
        gc.collect(0)  # of all that was made since the last time, only what lives on is looked at again
        return error

    def _error_with(self, strategy: Strategy, journal: list[str] | None) -> BaseException | None:
        scheduler = Scheduler(strategy, preempt=self._preempt, journal=journal)
        try:
            with scheduler:
                self._scenario(scheduler)
            return None
        except BaseException as error:
            if not isinstance(error, Exception) and error is not scheduler.error:
                raise  # Ctrl-C of whoever waits for us
            return error
        finally:
            self.schedules += 1
            self._points += scheduler.point_count
            self._fingerprints.add(scheduler.fingerprint)

    def explored(self) -> Explored:
        return Explored(self.schedules, len(self._fingerprints), self._points, time.perf_counter() - self._began_s)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """On one processor, where handing over the turn is four times as fast, and without the garbage collector."""
    processors = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    was_enabled = gc.isenabled()
    gc.disable()  # and no collection of everything before: where much is imported it takes longer than many schedules
    try:
        if processors:
            os.sched_setaffinity(0, {processors[os.getpid() % len(processors)]})  # of this thread and its children
        yield
    finally:
        if processors:
            os.sched_setaffinity(0, processors)
        if was_enabled:
            gc.enable()
