"""The scenarios of the tests, under schedules with fresh seeds, for as long as it is told.

    python -m tests.explore [--minutes M] [--seed S] [WORD...]          those whose name holds one of the words
    python -m tests.explore NAME --repeat 'PCT(17, depth=3, points=212)'  one schedule again, switch by switch

A scenario's turn is some random walks, some schedules of PCT, and a further part of all orders of its locks, waits and
wakes: within no departure, or preemption, then within one, two, and so on; how far that came is told.

Guarantees: a seed gives each scenario the same schedules, in the same order; without one it is drawn, and told.  All
processors are used, each by one process.  However short the time, one scenario has its turn.  Exit status: 0 if nothing
failed; 1 at the first failure, which comes with the command that repeats it; 2 if there is no such scenario, or if none
was explored.
Not here: which scenarios there are: the tests with the mark `schedules` (explored.py).
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import multiprocessing
import os
import queue
import random
import shlex
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple

import pytest
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text
from tests.explored import KINDS, Case, case_of

from pagein.testing.schedule import (
    PCT,
    FailedSchedule,
    Prescribed,
    RandomWalk,
    SchedulerError,
    Strategy,
    explore,
    explore_pct,
    replay,
)

TURN_SCHEDULES = 20
"""How many of one kind a scenario is run under before it is the next one's turn."""
DEPTHS = 2, 3, 4, 5
"""That PCT looks for, in turn."""
POLL_S = 0.2
STRATEGIES = {strategy.__name__: strategy for strategy in (PCT, Prescribed, RandomWalk)}


class Told(NamedTuple):
    """By a process that explores: so many schedules of a scenario, within which bound all have been run by now, and how
    one failed."""

    name: str
    kind: str
    schedules: int
    within: str = ""
    failure: str = ""
    repeat: str = ""


class Heard:
    """What was told, summed."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        """By name and kind: schedules."""
        self.within: dict[str, str] = {}

    def add(self, one: Told) -> None:
        self.counts[one.name, one.kind] += one.schedules
        if one.within:
            self.within[one.name] = one.within


class _Collected:
    """What pytest finds."""

    def __init__(self) -> None:
        self.cases: list[Case] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.cases = [case for item in session.items if (case := case_of(item))]


def cases(words: list[str]) -> list[Case]:
    """The scenarios whose name holds one of *words*, or all."""
    collected = _Collected()
    with contextlib.redirect_stdout(io.StringIO()) as said:
        status = pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", "tests/mm"], plugins=[collected])
    if status != pytest.ExitCode.OK:
        raise SystemExit(said.getvalue())
    return [case for case in collected.cases if not words or any(word in case.name for word in words)]


def strategy_of(text: str) -> Strategy:
    """What a failure names.  Raises: argparse.ArgumentTypeError."""
    try:
        call = ast.parse(text, mode="eval").body
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
            keywords = {keyword.arg or "": ast.literal_eval(keyword.value) for keyword in call.keywords}
            return STRATEGIES[call.func.id](*map(ast.literal_eval, call.args), **keywords)
    except (SyntaxError, KeyError, TypeError, ValueError):
        pass
    raise argparse.ArgumentTypeError(
        f"{text}: a strategy as a failure names it: PCT(17, depth=3, points=212), RandomWalk(17), Prescribed({{5: 1}})"
    )


def turns(case: Case, seed: int) -> Iterator[Told]:
    """Explore without end: within a bound that grows, random walks, and PCT, in turn.  The last is a failure."""
    wider = case.explore_wider(TURN_SCHEDULES)
    kind = ""
    try:
        for turn in count():
            kind = "exhaustive"
            if (widened := next(wider, None)) is not None:
                yield Told(case.name, kind, widened.explored.schedules, case.within(widened))
            for kind in ("random", "PCT"):  # which is said of a failure
                first = random.Random(f"{seed} {case.name} {kind} {turn}").getrandbits(40)
                seeds = range(first, first + TURN_SCHEDULES)
                if kind == "PCT":
                    depth = DEPTHS[turn % len(DEPTHS)]
                    explored = explore_pct(case.scenario, depth=depth, seeds=seeds, preempt=case.preempt)
                else:
                    explored = explore(case.scenario, seeds=seeds, preempt=case.preempt)
                yield Told(case.name, kind, explored.schedules)
    except FailedSchedule as failure:
        yield Told(case.name, kind, 1, failure=str(failure), repeat=failure.repeat)


def _processors() -> list[int]:
    """Those that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def _work(number: int, of_this: list[Case], seed: int, told: multiprocessing.Queue[Told]) -> None:
    """One process: some of the scenarios, in turn, until it is killed, or one of them has failed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who watches
    if hasattr(os, "sched_setaffinity"):  # where one scenario is run, all its threads are: no two processes share it
        os.sched_setaffinity(0, {_processors()[number % len(_processors())]})
    running = [turns(case, seed) for case in of_this]
    with contextlib.redirect_stdout(io.StringIO()):  # what scenarios print
        while True:
            for case in running:
                one = next(case)
                told.put(one)
                if one.failure:
                    return


def run(words: list[str], minutes: float, seed: int, jobs: int, console: Console) -> int:
    """Explore, and say what came of it; the exit status."""
    found = cases(words)
    names = [case.name for case in found]
    if not found:
        console.print(f"no scenario's name holds {' or '.join(words)}")
        return 2
    jobs = min(jobs, len(names))
    console.print(f"{len(names)} scenarios for {minutes:g} minutes, {jobs} at once, SEED={seed}")
    context = multiprocessing.get_context("fork")  # here is one thread yet
    told: multiprocessing.Queue[Told] = context.Queue()
    workers = [context.Process(target=_work, args=(n, found[n::jobs], seed, told), daemon=True) for n in range(jobs)]
    heard = Heard()
    failure: Told | None = None
    for worker in workers:
        worker.start()
    try:
        failure = _watched(told, workers, heard, minutes, console)
    except KeyboardInterrupt:
        console.print("stopped")
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
    console.print(_table(names, heard))
    if failure is None:
        return 0 if heard.counts.total() else 2
    console.print(f"\n{failure.name}\n{failure.failure}\n", markup=False, highlight=False, soft_wrap=True)
    command = shlex.join(["python", "-m", "tests.explore", failure.name, "--repeat", failure.repeat])
    console.print(f"repeat it with:\n  {command}", markup=False, highlight=False, soft_wrap=True)
    return 1


def _watched(
    told: multiprocessing.Queue[Told],
    workers: Sequence[multiprocessing.process.BaseProcess],
    heard: Heard,
    minutes: float,
    console: Console,
) -> Told | None:
    """Count what is told until the time is over, once at least; the first failure."""
    began_s, counts = time.monotonic(), heard.counts
    columns = SpinnerColumn(), BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}")
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=minutes * 60)
        while (took_s := time.monotonic() - began_s) < minutes * 60 or not counts.total():
            rate = counts.total() / max(took_s, 1e-9)
            said = f"{counts.total():,} schedules of {len({name for name, _ in counts})} scenarios, {rate:.0f}/s"
            progress.update(task, completed=took_s, description=said)
            all_alive = all(worker.is_alive() for worker in workers)  # if not, it has told what it had to tell
            try:
                one = told.get(timeout=POLL_S)
            except queue.Empty:
                if not all_alive:
                    raise SystemExit("a process that explores has died") from None
                continue
            heard.add(one)
            if one.failure:
                return one
    return None


def _table(names: list[str], heard: Heard) -> Table:
    """How many of each kind, all of the exhaustive ones distinct; and within which bound none is left."""
    counts = heard.counts
    columns = [Column(kind, justify="right") for kind in KINDS]
    table = Table(Column("scenario", overflow="fold"), *columns, "all within", box=None)
    for name in names:
        counted = (f"{counts[name, kind]:,}" for kind in KINDS)
        table.add_row(Text(name.partition("::")[2]), *counted, heard.within.get(name, "-"))
    totals = (sum(n for (_, of), n in counts.items() if of == kind) for kind in KINDS)
    table.add_row("all", *(f"{total:,}" for total in totals), "")
    return table


def repeat(words: list[str], strategy: Strategy, console: Console) -> int:
    """Run one schedule of one scenario; the exit status."""
    found = [case for case in cases(words) if case.name in words]
    if not found:
        console.print(f"no scenario has the name {' or '.join(words)}", markup=False)
        return 2
    try:
        for preempt in found[0].preempts(strategy):
            replay(found[0].scenario, strategy, preempt=preempt)
    except FailedSchedule as failure:
        console.print(str(failure), markup=False, highlight=False, soft_wrap=True)
        return 1
    except SchedulerError as error:  # of code that has changed meanwhile
        console.print(f"it could not be repeated: {error}", markup=False, highlight=False, soft_wrap=True)
        return 2
    console.print("it does not fail")
    return 0


def _minutes(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (minutes := float(text)) < float("inf"):
            return minutes
    raise argparse.ArgumentTypeError(f"{text}: a number, more than 0")


def _jobs(text: str) -> int:
    with contextlib.suppress(ValueError):
        if (jobs := int(text)) >= 1:
            return jobs
    raise argparse.ArgumentTypeError(f"{text}: a whole number, 1 at least")


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    processors = len(_processors())
    parser = argparse.ArgumentParser(prog="python -m tests.explore", description=__doc__.partition("\n")[0])
    parser.add_argument("words", nargs="*", metavar="WORD", help="only scenarios whose name holds one of the words")
    parser.add_argument("--minutes", type=_minutes, default=10.0, help="for so long (default: %(default)g)")
    parser.add_argument("--seed", type=int, help="that all other seeds come from (default: another each time)")
    parser.add_argument("--jobs", type=_jobs, default=processors, help="how many at once (default: %(default)s)")
    parser.add_argument("--repeat", type=strategy_of, metavar="STRATEGY", help="one schedule, as a failure names it")
    options = parser.parse_args(arguments)
    console = Console()
    if options.repeat is not None:
        return repeat(options.words, options.repeat, console)
    seed = random.SystemRandom().getrandbits(32) if options.seed is None else options.seed
    return run(options.words, options.minutes, seed, options.jobs, console)


if __name__ == "__main__":
    sys.exit(main())
