"""Tests that are scenarios: each is run under many schedules, and how many those were is told at the end.

    @pytest.mark.schedules(200, LOCK_FREE)             # half of them by random walks, half by PCT
    @pytest.mark.schedules(200, LOCKS, preemptions=2)  # and all with at most two preemptions, at locks and waits
    @pytest.mark.schedules(200, LOCKS, departures=2)   # or departures, if those are too many (explore_all), or with
                                                       # preemptions=1, departures=2, of which one is a preemption
    def test_two_readers(scheduler: Scheduler) -> None:
        ...

Guarantees: a run of all tests, as `make test` makes it, fails if it has explored fewer than `SCHEDULES_MIN` schedules.
The same scenarios are what `make explore` runs (explore.py).
Not here: the scenarios' own parts (mm/schedules.py); the hooks are pytest's because conftest.py imports them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest

from pagein.testing.schedule import (
    Explored,
    Preemptible,
    Prescribed,
    Scenario,
    Strategy,
    Widened,
    explore,
    explore_all,
    explore_pct,
    explore_wider,
)

SCHEDULES_MIN = 20_000
DEPTH = 3
"""Of what PCT looks for; fewer preemptions are found by all others."""
KINDS = ["random", "PCT", "exhaustive"]

LOCKS: list[Preemptible] = []
"""Only where locks, waits and wakes are."""


class Case:
    """A scenario, with its parameters, and where its tasks may be stopped."""

    def __init__(
        self,
        name: str,
        scenario: Scenario,
        by_chance: int,
        preempt: Sequence[Preemptible],
        *,
        preemptions: int | None = None,
        departures: int | None = None,
    ) -> None:
        self.name = name
        self.scenario = scenario
        self.preempt = preempt
        self._by_chance = by_chance
        self._preemptions = departures if preemptions is None else preemptions
        self._departures = departures

    def explore(self, note: Callable[[str, Explored], object]) -> None:
        """As many schedules as `make test` runs.  Raises: `FailedSchedule`."""
        if self._preemptions is not None:
            note(
                "exhaustive",
                explore_all(self.scenario, preemptions_max=self._preemptions, departures_max=self._departures),
            )
        seeds = range(self._by_chance // 2)
        note("random", explore(self.scenario, seeds=seeds, preempt=self.preempt))
        note("PCT", explore_pct(self.scenario, depth=DEPTH, seeds=seeds, preempt=self.preempt))

    @property
    def _by_departures(self) -> bool:
        return self._departures is not None or self._preemptions is None

    def explore_wider(self, at_once: int) -> Iterator[Widened]:
        """All schedules of its locks, waits and wakes, by a bound that grows.  Raises: `FailedSchedule`."""
        return explore_wider(self.scenario, by_departures=self._by_departures, at_once=at_once)

    def within(self, widened: Widened) -> str:
        """Within which bound none is left, as it is told; nothing yet, perhaps."""
        if widened.is_all:
            return "all there are"
        name = "departure" if self._by_departures else "preemption"
        return f"{widened.bound} {name}{'s' * (widened.bound != 1)}" if widened.bound >= 0 else ""

    def preempts(self, strategy: Strategy) -> list[Sequence[Preemptible]]:
        """Where tasks may have been stopped when it failed with *strategy*: by chance, or by what is exhaustive, or,
        where nobody was stopped, by either."""
        if repr(strategy) == repr(Prescribed({})):
            return [LOCKS, self.preempt]
        return [LOCKS if isinstance(strategy, Prescribed) else self.preempt]


def case_of(item: pytest.Item) -> Case | None:
    """The scenario that a test is, if it is one."""
    mark = item.get_closest_marker("schedules")
    if mark is None or not isinstance(item, pytest.Function):
        return None
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return Case(item.nodeid, partial(item.obj, **parameters), *mark.args, **mark.kwargs)


def note(item: pytest.Item, kind: str, explored: Explored) -> None:
    """What a test has explored: its report carries that to where all are counted."""
    print(f"{kind}: {explored}")
    item.user_properties.append((f"schedules: {kind}", explored.schedules))
    item.user_properties.append((f"distinct: {kind}", explored.distinct))


def told(reports: Iterable[Any]) -> tuple[int, str]:
    """How many schedules, and the line that says so."""
    noted: dict[str, Counter[str]] = {"schedules": Counter(), "distinct": Counter()}
    scenarios = 0
    for report in reports:
        scenarios += any(name.startswith("schedules: ") for name, _ in report.user_properties)
        for name, count in report.user_properties:
            what, _, kind = name.partition(": ")
            if what in noted:
                noted[what][kind] += count
    counts, distinct = noted.values()
    each = ", ".join(f"{kind} {counts[kind]:,} ({distinct[kind]:,} distinct)" for kind in KINDS)
    return counts.total(), f"explored {counts.total():,} schedules of {scenarios} scenarios: {each}"


def is_whole(config: pytest.Config) -> bool:
    """Whether all tests are run, as `make test` does."""
    option = config.option
    return (
        config.args_source is config.ArgsSource.TESTPATHS
        and option.markexpr == "not torture"
        and not (option.keyword or option.deselect or option.ignore or option.ignore_glob or option.collectonly)
        and not getattr(option, "lf", False)
    )


# -- pytest's hooks ------------------------------------------------------------------------------------------


@pytest.fixture(name="scheduler")
def _scheduler() -> None:
    """Each schedule has its own."""


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Instead of calling such a test once."""
    case = case_of(pyfuncitem)
    if case is None:
        return None
    case.explore(partial(note, pyfuncitem))
    return True


def _of_calls(config: pytest.Config) -> list[Any]:
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    found = terminal.stats.values() if terminal else []
    return [report for reports in found for report in reports if getattr(report, "when", "") == "call"]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Too few are a failure."""
    if hasattr(session.config, "workerinput") or exitstatus != pytest.ExitCode.OK or not is_whole(session.config):
        return
    if told(_of_calls(session.config))[0] < SCHEDULES_MIN:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    """How many they were."""
    count, line = told(_of_calls(config))
    if count:
        terminalreporter.write_sep("=", line)
    if exitstatus != pytest.ExitCode.INTERRUPTED and is_whole(config) and count < SCHEDULES_MIN:
        terminalreporter.write_line(f"fewer than {SCHEDULES_MIN:,}: see tests/explored.py", red=True)
