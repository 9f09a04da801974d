"""Who goes on at each point: by chance, by PCT, or as it is prescribed.  Each is printed as what makes it again.

Guarantees: equal arguments choose alike.  One is used for one run.
Not here: running a scenario with one after the other (explore.py).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from .scheduler import SchedulerError, Task


class RandomWalk:
    """At each point the running task goes on, or, as often as the seed says, anybody does.

    A walk finds one of k preemptions among n points best if it switches at about k of n, so each seed draws how often
    it switches.  It gives no bound that is worth having: what must *not* be switched away from for long is left alone
    with a probability that falls with each of its points.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._random = random.Random(seed)
        self._switch_probability = 2.0 ** -self._random.uniform(0.5, 8)

    def __repr__(self) -> str:
        return f"RandomWalk({self._seed})"

    def choose(self, running: Task | None, runnable: Sequence[Task]) -> Task:
        """The running task, or anybody."""
        if running is not None and self._random.random() >= self._switch_probability:
            return running
        return self._random.choice(runnable)


class PCT:
    """Probabilistic concurrency testing: the task with the highest priority goes on, whenever it can.

    Priorities are drawn as tasks come, so that each order of them is as likely as any other.  At *depth* - 1 of the
    first *points* points, drawn too, the task that would go on falls behind all others.

    A failure has depth d if d constraints "this step before that one" are enough to cause it: 1 for an order of whole
    tasks, 2 for most races, 3 for most of what is left.  Each run finds a failure of depth d with a probability of at
    least ``1 / (n * k ** (d - 1))``, for n tasks and k = *points*, if it shows before k points are passed; so three
    times the inverse of that is enough runs in 19 of 20 cases.  That is for the narrowest place.  One that is wider
    than a single point is found sooner in proportion.

    Assumes: no task waits for another by passing points again and again: it would be `Livelock`.  Those of the core
    wait, or sleep.
    Source: Burckhardt, Kothari, Musuvathi and Nagarakatte, "A randomized scheduler with probabilistic guarantees of
    finding bugs" (ASPLOS 2010).
    """

    def __init__(self, seed: int, *, depth: int, points: int) -> None:
        if depth < 1 or points < 1:
            raise ValueError(f"depth={depth}, points={points}: each is 1 at least")
        self._told = f"PCT({seed}, depth={depth}, points={points})"
        self._random = random.Random(seed)
        change_count = min(depth - 1, points)
        falls = self._random.sample(range(points), change_count)
        self._falls = {point: rank - change_count for rank, point in enumerate(falls)}
        """By point: the priority, below 0, of whoever comes there."""
        self._priorities: dict[int, float] = {}
        self.passed: int = 0
        """How many points it has chosen at."""

    def __repr__(self) -> str:
        return self._told

    def choose(self, running: Task | None, runnable: Sequence[Task]) -> Task:
        """The task with the highest priority, after whoever comes to a change point has fallen."""
        fallen = self._falls.get(self.passed)
        self.passed += 1
        if len(runnable) == 1 and fallen is None:
            return runnable[0]
        first = max(runnable, key=self._priority)
        if fallen is None:
            return first
        self._priorities[first.number] = fallen
        return max(runnable, key=self._priority)

    def _priority(self, task: Task) -> float:
        priority = self._priorities.get(task.number)
        if priority is None:
            priority = self._priorities[task.number] = self._random.random()
        return priority


class Prescribed:
    """The running task goes on while it can, then the oldest; *choices* are the departures: point to number in line."""

    def __init__(self, choices: Mapping[int, int]) -> None:
        self.options: list[tuple[int, bool]] = []
        """For each point: how many could go on, and whether the running task was among them."""
        self._choices = choices

    def __repr__(self) -> str:
        return f"Prescribed({dict(self._choices)})"

    @property
    def missed(self) -> list[int]:
        """Departures to which the run has not come."""
        return [point for point in self._choices if point >= len(self.options)]

    def choose(self, running: Task | None, runnable: Sequence[Task]) -> Task:
        """The running task, or whoever is prescribed."""
        at = self._choices.get(len(self.options), 0)
        self.options.append((len(runnable), running is not None))
        line = [running, *(task for task in runnable if task is not running)] if at and running else runnable
        if at >= len(line):
            raise SchedulerError("the scenario does not repeat itself: nobody is at this place in line")
        return running if running and not at else line[at]
