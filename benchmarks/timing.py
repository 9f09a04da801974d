"""Timing by turns: what is compared is measured alternately, in the same process, in many short rounds.

Guarantees: within a round every candidate runs once, the first one changing from round to round, so that
whatever else the machine does hits all of them alike.  A ratio is taken round by round and only then summarised;
it is far steadier than the ratio of two times that were measured one after the other.
Figures are medians; spreads are quartiles.  The garbage collector runs as it does for users, but set-up is frozen
out of its sight first, because a candidate's neighbours are not its cost.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median, quantiles
from time import perf_counter
from typing import NamedTuple

PATIENCE_S = 60.0
"""Threads that have not met by then have failed; better an error than a benchmark that hangs."""


class Spread(NamedTuple):
    """A median between its quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        known = sorted(values)
        if len(known) == 1:
            return cls(known[0], known[0], known[0])
        low, _, high = quantiles(known, n=4, method="inclusive")
        return cls(low, median(known), high)


Rounds = Mapping[str, Sequence[float]]
"""Seconds per operation of each candidate, one number a round; the rounds of all belong together."""


class Work(NamedTuple):
    """What is timed: one call of *run* does *operation_count* operations, some milliseconds' worth.

    If it returns seconds (a float), it has timed itself, to leave its own set-up out.
    """

    operation_count: int
    run: Callable[[], object]


def by_turns(candidates: Mapping[str, Work], *, rounds: int, warm_up: bool = True) -> Rounds:
    """Time each candidate once a round; before the first, once without taking the time, unless all have run before."""
    gc.collect()
    gc.freeze()
    try:
        for work in candidates.values() if warm_up else ():  # caches of the CPU, of the interpreter, of malloc
            work.run()
        names = list(candidates)
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for number in range(rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                seconds[name].append(_seconds_an_operation(candidates[name]))
        return seconds
    finally:
        gc.unfreeze()


def _seconds_an_operation(work: Work) -> float:
    start = perf_counter()
    own_s = work.run()
    spent_s = perf_counter() - start
    return (own_s if isinstance(own_s, float) else spent_s) / work.operation_count


def summary(rounds: Rounds) -> dict[str, Spread]:
    """Seconds per operation of each candidate."""
    return {name: Spread.of(seconds) for name, seconds in rounds.items()}


def ratio(rounds: Rounds, one: str, other: str) -> Spread:
    """The time of *one* over the time of *other*, round by round."""
    return Spread.of(a / b for a, b in zip(rounds[one], rounds[other], strict=True))


def fastest(rounds: Rounds, names: Iterable[str]) -> str:
    """The one of *names* with the least median."""
    return min(names, key=lambda name: median(rounds[name]))


def together(work: Sequence[Callable[[], object]]) -> float:
    """Seconds that these calls take, each in a thread of its own, from a common start to the last one's end.

    Raises: what the first of them raised.
    """
    ready = threading.Barrier(len(work) + 1)
    errors: list[BaseException] = []

    def perform(call: Callable[[], object]) -> None:
        ready.wait(PATIENCE_S)
        try:
            call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=perform, args=(call,), daemon=True) for call in work]
    for thread in threads:
        thread.start()
    ready.wait(PATIENCE_S)
    start = perf_counter()
    for thread in threads:
        thread.join()
    spent_s = perf_counter() - start
    if errors:
        raise errors[0]
    return spent_s


def in_a_thread(call: Callable[[], object]) -> float:
    """Seconds that *call* takes off the main thread: where no signal arrives, and misses are served in place."""
    return together([call])


def aside(run: Callable[[], float]) -> float:
    """What *run* returns, called off the main thread: for work that takes its own time."""
    returned: list[float] = []
    in_a_thread(lambda: returned.append(run()))
    return returned[0]
