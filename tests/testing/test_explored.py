"""How many schedules a run has explored is counted for real, and `make explore` finds, tells and repeats a failure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from io import StringIO
from itertools import islice
from queue import Empty, Queue
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from tests import explore, explored
from tests.explored import LOCKS, Case, told

from pagein.testing.schedule import PCT, FailedSchedule, Prescribed, RandomWalk, Scheduler, replay


def out_of_order(scheduler: Scheduler) -> None:
    """Fails whenever b is first."""
    order: list[str] = []
    for name in "ab":
        scheduler.spawn(name, lambda name=name: order.append(name))  # type: ignore[misc]
    scheduler.run()
    assert order == ["a", "b"]


CASE = Case("tests/x.py::out_of_order", out_of_order, 10, LOCKS)
FINE = Case("tests/x.py::fine", lambda scheduler: None, 10, LOCKS, preemptions=1)


def report(**counts: int) -> Any:
    properties = [("schedules: " + kind, count) for kind, count in counts.items()]
    properties += [("distinct: " + kind, count // 10 * 10) for kind, count in counts.items()]
    return SimpleNamespace(user_properties=properties)


def test_what_tests_have_explored_is_summed_over_their_reports() -> None:
    reports = [report(random=100, PCT=101, exhaustive=30), report(), report(random=20_000)]
    count, line = told(reports)
    assert count == 20_231
    assert line == (
        "explored 20,231 schedules of 2 scenarios: "
        "random 20,100 (20,100 distinct), PCT 101 (100 distinct), exhaustive 30 (30 distinct)"
    )


def test_a_scenario_notes_as_many_as_it_runs() -> None:
    noted: list[tuple[str, int]] = []
    FINE.explore(lambda kind, explored: noted.append((kind, explored.schedules)))
    assert noted == [("exhaustive", 1), ("random", 5), ("PCT", 5)]


def test_what_a_scenario_notes_is_what_is_summed() -> None:
    item: Any = SimpleNamespace(user_properties=[])
    FINE.explore(lambda kind, done: explored.note(item, kind, done))
    count, line = told([item])
    assert count == 11
    assert line.endswith("of 1 scenarios: random 5 (1 distinct), PCT 5 (1 distinct), exhaustive 1 (1 distinct)")


@pytest.mark.parametrize(
    ("count", "exitstatus", "is_whole", "ends_with"), [(19_999, 0, True, 1), (20_000, 0, True, 0), (5, 0, False, 0)]
)
def test_a_run_of_all_tests_fails_if_it_has_explored_too_few(
    count: int, exitstatus: int, is_whole: bool, ends_with: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explored, "is_whole", lambda config: is_whole)
    monkeypatch.setattr(explored, "_of_calls", lambda config: [report(random=count)])
    session: Any = SimpleNamespace(config=SimpleNamespace(), exitstatus=exitstatus)
    explored.pytest_sessionfinish(session, exitstatus)
    assert session.exitstatus == ends_with


def test_a_run_of_some_tests_is_not_all(pytestconfig: pytest.Config) -> None:
    source = pytestconfig.ArgsSource
    option = SimpleNamespace(
        markexpr="not torture", keyword="", deselect=None, ignore=None, ignore_glob=None, collectonly=False
    )
    whole: Any = SimpleNamespace(args_source=source.TESTPATHS, ArgsSource=source, option=option)
    assert explored.is_whole(whole)
    option.keyword = "fsync"
    assert not explored.is_whole(whole)
    option.keyword, whole.args_source = "", source.ARGS
    assert not explored.is_whole(whole)


def test_equal_seeds_explore_alike_and_the_last_turn_is_the_failure() -> None:
    turns = [list(islice(explore.turns(CASE, seed), 5)) for seed in (1, 1, 2)]
    assert turns[0] == turns[1] != turns[2]
    last = turns[0][-1]
    assert last.failure
    strategy = explore.strategy_of(last.repeat)
    assert repr(strategy) == last.repeat
    kinds = [one.kind for one in islice(explore.turns(FINE, 1), 5)]
    assert kinds == ["exhaustive", "random", "PCT", "random", "PCT"], "there is one order, and it has been tried"


@pytest.mark.parametrize(
    ("bound", "told"),
    [
        ({"preemptions": 1}, ["0 preemptions", "1 preemption", "all there are"]),
        ({"departures": 1}, ["0 departures", "1 departure", "2 departures"]),
        ({}, ["0 departures", "1 departure", "2 departures"]),
    ],
)
def test_the_bound_grows_as_long_as_there_are_other_orders(bound: dict[str, int], told: list[str]) -> None:
    def two_steps(scheduler: Scheduler) -> None:
        for name in "ab":
            scheduler.spawn(name, scheduler.switch)
        scheduler.run()

    turns = explore.turns(Case("x", two_steps, 10, LOCKS, **bound), 1)
    within = [one.within for one in islice(turns, 30) if one.kind == "exhaustive"]
    assert within[: len(told)] == told
    assert within[-1] == "all there are"


def fails_where_a_is_stopped(scheduler: Scheduler) -> None:
    """In two places: before an instruction, or at a point of its own."""
    order: list[str] = []

    def a() -> None:
        order.append("a")
        scheduler.switch("halfway")
        order.append("a")

    scheduler.spawn("a", a)
    scheduler.spawn("b", lambda: order.append("b"))
    scheduler.run()
    assert order != ["a", "b", "a"]


def test_what_an_exhaustive_search_finds_is_repeated_where_it_has_stopped_tasks() -> None:
    case = Case("x", fails_where_a_is_stopped, 10, [fails_where_a_is_stopped], preemptions=1)
    *_, last = explore.turns(case, 1)
    strategy = explore.strategy_of(last.repeat)
    assert [list(preempt) for preempt in case.preempts(RandomWalk(1))] == [[fails_where_a_is_stopped]]
    assert [list(preempt) for preempt in case.preempts(Prescribed({2: 1}))] == [LOCKS]
    assert [list(preempt) for preempt in case.preempts(Prescribed({}))] == [LOCKS, [fails_where_a_is_stopped]]
    (preempt,) = case.preempts(strategy)
    with pytest.raises(FailedSchedule):
        replay(case.scenario, strategy, preempt=preempt)


@pytest.mark.parametrize("text", ["PCT(17", "17", "Oldest()", "PCT(17)", "PCT(17, depth=print, points=2)"])
def test_what_no_failure_has_named_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        explore.main(["x", "--repeat", text])
    assert ended.value.code == 2
    said = f"argument --repeat: {text}: a strategy as a failure names it: PCT(17, depth=3, points=212), RandomWalk(17)"
    assert said in capsys.readouterr().err
    assert repr(explore.strategy_of("PCT(17, depth=3, points=212)")) == repr(PCT(17, depth=3, points=212))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, with the scenarios of this module."""
    program = (
        "import sys; from tests import explore; from tests.testing.test_explored import CASE, FINE;"
        "explore.cases = lambda words: [one for one in (CASE, FINE) if not words or any(w in one.name for w in words)];"
        "sys.exit(explore.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_failure_comes_with_the_command_that_repeats_it() -> None:
    first = run("--minutes", "1", "--seed", "3", "--jobs", "2")
    assert first.returncode == 1, first.stderr
    assert not first.stderr
    assert "2 scenarios for 1 minutes, 2 at once, SEED=3" in first.stdout
    assert "a stops" in first.stdout or "b stops" in first.stdout
    command = first.stdout.splitlines()[-1]
    assert command.startswith("  python -m tests.explore tests/x.py::out_of_order --repeat ")
    strategy = command.partition("--repeat ")[2].strip("'")
    again = run("tests/x.py::out_of_order", "--repeat", strategy)
    assert again.returncode == 1
    assert f"repeat with {strategy}" in again.stdout
    assert again.stdout.splitlines()[0] in first.stdout


def test_a_failure_of_other_code_is_not_taken_for_mended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(explore, "cases", lambda words: [FINE])
    assert explore.main([FINE.name, "--repeat", "Prescribed({5000: 1})"]) == 2
    assert "it could not be repeated: the run has " in capsys.readouterr().out


def test_it_ends_in_time_and_says_how_many_they_were() -> None:
    done = run("--minutes", "0.01", "fine")
    assert (done.returncode, done.stderr) == (0, "")
    *_, row, totals = done.stdout.splitlines()
    assert int(totals.split()[1].replace(",", "")) >= explore.TURN_SCHEDULES
    assert totals.split()[3] == "1"
    assert row.rstrip().endswith("all there are")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--minutes", "0"), "argument --minutes: 0: a number, more than 0"),
        (("--minutes", "nan"), "argument --minutes: nan: a number, more than 0"),
        (("--minutes", "abc"), "argument --minutes: abc: a number, more than 0"),
        (("--jobs", "0"), "argument --jobs: 0: a whole number, 1 at least"),
        (("--jobs", "x"), "argument --jobs: x: a whole number, 1 at least"),
    ],
)
def test_no_time_and_no_process_are_refused(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        explore.main([*arguments])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_nothing_explored_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(explore, "cases", lambda words: [FINE])
    monkeypatch.setattr(explore, "_watched", stopped)
    assert explore.run([], 1, 1, 1, Console(file=StringIO())) == 2


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="not to be had on this system")
def test_each_process_has_a_processor_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)
    processors = sorted(os.sched_getaffinity(0))
    used: set[int] = set()

    def scenario(scheduler: Scheduler) -> None:
        used.update(os.sched_getaffinity(0))
        raise AssertionError("so much of it is enough")

    for number in range(len(processors)):
        try:
            explore._work(number, [Case("x", scenario, 2, LOCKS)], 1, Queue())  # type: ignore[arg-type]
        finally:
            os.sched_setaffinity(0, processors)
    assert used == {*processors}


class ToldLate:
    """A worker, and its queue: it tells of a failure, and ends, between a look into the queue and one at the worker."""

    def __init__(self) -> None:
        self.is_told = False

    def get(self, timeout: float) -> explore.Told:
        if not self.is_told:
            self.is_told = True
            raise Empty
        return explore.Told("x", "PCT", 1, failure="failed", repeat="PCT(1, depth=3, points=5)")

    def is_alive(self) -> bool:
        return not self.is_told


def test_a_failure_that_is_told_last_of_all_is_heard() -> None:
    late: Any = ToldLate()
    failure = explore._watched(late, [late], explore.Heard(), 1, Console(file=StringIO()))
    assert failure is not None
    assert failure.failure == "failed"


def test_a_scenario_that_is_not_there_is_told() -> None:
    done = run("nowhere")
    assert (done.returncode, done.stdout) == (2, "no scenario's name holds nowhere\n")
