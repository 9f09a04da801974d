"""Which schedules to try: many by chance, each from a seed, or all with few preemptions.

    explore(scenario, seeds=range(200), preempt=[File.pread, removal.remove_runs])
    explore_all(scenario, preemptions_max=2, preempt=[...])

Guarantees: a failure says how to repeat it (``seeds=[17]``, or the choices for `replay`), and shows every switch
that led to it.  `explore_all` finds a failure with as few departures from "go on while you can" as it takes.
Assumes: a scenario does the same when the same tasks go on: no clock, no chance and no thread of its own.  While
schedules are tried the garbage collector is off, since it may run code anywhere, and collects between them.
Source: most bugs take one or two preemptions at the right places: Musuvathi and Qadeer, "Iterative context bounding
for systematic testing of multithreaded programs" (PLDI 2007).  A random walk finds one of k preemptions among n
points best if it switches at about k of n, so each seed draws how often it switches.
Not here: the tasks, their locks and their time (scheduler.py).
"""

from __future__ import annotations

import gc
import os
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from .instructions import ByLine as ByLine, Preemptible
from .scheduler import Scheduler, SchedulerError, Strategy, Task

Scenario = Callable[[Scheduler], object]
"""Builds what is tested with the scheduler as its door, spawns tasks, calls ``scheduler.run()``, and asserts."""

SCHEDULES_MAX = 20_000
"""How many schedules `explore_all` tries before it says that the scenario is too large for it."""
_SWITCHES_SHOWN = 60


class FailedSchedule(AssertionError):
    """A scenario failed; ``__cause__`` is its own error."""

    def __init__(self, error: BaseException, repeat: str, journal: Sequence[str]) -> None:
        self.repeat = repeat
        """How to run this schedule again."""
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


class RandomWalk:
    """At each point the running task goes on, or, as often as the seed says, anybody does."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._switch_probability = 2.0 ** -self._random.uniform(0.5, 8)

    def choose(self, running: Task | None, runnable: Sequence[Task]) -> Task:
        """The running task, or anybody."""
        if running is not None and self._random.random() >= self._switch_probability:
            return running
        return self._random.choice(runnable)


class Prescribed:
    """The running task goes on while it can, then the oldest; *choices* are the departures: point to number in line."""

    def __init__(self, choices: Mapping[int, int]) -> None:
        self.options: list[tuple[int, bool]] = []
        """For each point: how many could go on, and whether the running task was among them."""
        self._choices = choices

    def choose(self, running: Task | None, runnable: Sequence[Task]) -> Task:
        """The running task, or whoever is prescribed."""
        at = self._choices.get(len(self.options), 0)
        self.options.append((len(runnable), running is not None))
        line = [running, *(task for task in runnable if task is not running)] if at and running else runnable
        if at >= len(line):
            raise SchedulerError("the scenario does not repeat itself: nobody is at this place in line")
        return running if running and not at else line[at]


def explore(scenario: Scenario, *, seeds: Iterable[int] = range(200), preempt: Iterable[Preemptible] = ()) -> Explored:
    """Run *scenario* once for each seed.  Raises: `FailedSchedule` for the first that fails."""
    tally = _Tally(scenario, preempt)
    with _undisturbed():
        for seed in seeds:
            if error := tally.error_with(RandomWalk(seed)):
                raise tally.failed(error, RandomWalk(seed), f"seeds=[{seed}]") from error
    return tally.explored()


def explore_all(
    scenario: Scenario,
    *,
    preemptions_max: int = 2,
    preempt: Iterable[Preemptible] = (),
    schedules_max: int = SCHEDULES_MAX,
) -> Explored:
    """Run *scenario* under every schedule in which at most *preemptions_max* times a task loses the turn without need.

    Raises: `FailedSchedule` for the first that fails; SchedulerError if there are more than *schedules_max*.
    """
    tally = _Tally(scenario, preempt)
    pending: deque[tuple[dict[int, int], int]] = deque([({}, 0)])
    with _undisturbed():
        while pending:
            choices, preemptions = pending.popleft()
            strategy = Prescribed(choices)
            if error := tally.error_with(strategy):
                raise tally.failed(error, Prescribed(choices), f"choices={choices}") from error
            first = max(choices, default=-1) + 1
            for point, (option_count, could_go_on) in enumerate(strategy.options[first:], first):
                if preemptions + could_go_on <= preemptions_max:
                    pending += (({**choices, point: at}, preemptions + could_go_on) for at in range(1, option_count))
            if tally.schedules + len(pending) > schedules_max:
                raise SchedulerError(f"more than {schedules_max} schedules: a smaller scenario, or fewer preemptions")
    return tally.explored()


def replay(scenario: Scenario, choices: Mapping[int, int], *, preempt: Iterable[Preemptible] = ()) -> None:
    """Run *scenario* once, as a failure of `explore_all` says.  Raises: `FailedSchedule`."""
    tally = _Tally(scenario, preempt)
    with _undisturbed():
        if error := tally.error_with(Prescribed(choices)):
            raise tally.failed(error, Prescribed(choices), f"choices={dict(choices)}") from error


class _Tally:
    """Runs a scenario and counts."""

    def __init__(self, scenario: Scenario, preempt: Iterable[Preemptible]) -> None:
        self.schedules = 0
        self._points = 0
        self._fingerprints: set[int] = set()
        self._scenario = scenario
        self._preempt = tuple(preempt)
        self._began_s = time.perf_counter()

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

    def failed(self, error: BaseException, strategy: Strategy, repeat: str) -> FailedSchedule:
        """The failure, with the switches of a second run that led to it."""
        journal: list[str] = []
        again = self.error_with(strategy, journal=journal)
        if type(again) is not type(error):
            journal.append(f"(the scenario does not repeat itself: this second time, {again!r})")
        return FailedSchedule(error, repeat, journal)

    def explored(self) -> Explored:
        return Explored(self.schedules, len(self._fingerprints), self._points, time.perf_counter() - self._began_s)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """On one processor, where handing over the turn is four times as fast, and without the garbage collector."""
    processors = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        if processors:
            os.sched_setaffinity(0, {processors[os.getpid() % len(processors)]})  # of this thread and its children
        yield
    finally:
        if processors:
            os.sched_setaffinity(0, processors)
        if was_enabled:
            gc.enable()
