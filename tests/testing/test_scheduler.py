"""The deterministic scheduler finds what it is for, repeats it, and leaves no thread behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import comb
from typing import Any

import pytest

from pagein.mm.sync import Lock, Waiter
from pagein.testing.schedule import (
    PCT,
    Deadlock,
    Explored,
    FailedSchedule,
    Livelock,
    Prescribed,
    RandomWalk,
    Scenario,
    Scheduler,
    SchedulerError,
    Strategy,
    Stuck,
    Task,
    explore,
    explore_all,
    explore_pct,
    explore_wider,
    replay,
)


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


class Oldest:
    """The task that was born first goes on, whenever it can."""

    def choose(self, running: Task | None, runnable: Sequence[Task]) -> Task:
        return runnable[0]


# -- what it finds -------------------------------------------------------------------------------------------


class Counter:
    def __init__(self) -> None:
        self.value = 0

    def increment(self) -> None:
        self.value += 1


def lost_update(scheduler: Scheduler) -> None:
    counter = Counter()
    scheduler.spawn("a", counter.increment)
    scheduler.spawn("b", counter.increment)
    scheduler.run()
    value = counter.value
    assert value == 2


def guarded_update(scheduler: Scheduler) -> None:
    counter, lock = Counter(), scheduler.lock()

    def increment() -> None:
        with lock:
            counter.increment()

    scheduler.spawn("a", increment)
    scheduler.spawn("b", increment)
    scheduler.run()
    assert counter.value == 2


def test_a_lost_update_is_found_between_two_instructions() -> None:
    with pytest.raises(FailedSchedule, match=r"STORE_ATTR in Counter\.increment"):
        explore(lost_update, preempt=[Counter.increment])


LOOKS: list[tuple[type, Callable[[Any, Any], object]]] = [
    (list, lambda shared, same: (len(shared), 1 if shared else 0)),
    (list, lambda shared, same: (len(shared), 0 if not shared else 1)),
    (list, lambda shared, same: (len(shared), len(shared and [1]))),
    (list, lambda shared, same: (len(shared), 1 if shared != same else 0)),
    (list, lambda shared, same: (len(shared), 1 if same < shared else 0)),
    (list, lambda shared, same: (len(shared), len([*shared]))),
    (set, lambda shared, same: (len(shared), len({*shared}))),
    (set, lambda shared, same: (len(shared), len(shared | same))),
    (set, lambda shared, same: (len(shared), len(same ^ shared))),
    (dict, lambda shared, same: (len(shared), len({**shared}))),
    (list, lambda shared, same: (len(shared), len(f"{shared}") // 3)),
]


@pytest.mark.parametrize(("kind", "look"), LOOKS)
def test_a_container_in_a_local_is_looked_into_at_a_moment_of_its_own(
    kind: type, look: Callable[[Any, Any], tuple[int, int]]
) -> None:
    """It may be shared all the same: another can fill it between two looks."""

    def fill(shared: Any) -> None:
        if kind is dict:
            shared[1] = 1
        else:
            (shared.add if kind is set else shared.append)(1)

    def scenario(scheduler: Scheduler) -> None:
        shared, same = kind(), kind()
        scheduler.spawn("looks", lambda: seen.add(look(shared, same)))
        scheduler.spawn("fills", lambda: fill(shared))
        scheduler.run()

    seen: set[tuple[int, int]] = set()
    explore_all(scenario, preemptions_max=2, preempt=[look, fill])
    assert seen == {(0, 0), (0, 1), (1, 1)}


def test_a_list_in_a_local_is_unpacked_at_a_moment_of_its_own() -> None:
    def unpack(shared: list[int]) -> tuple[int, int]:
        count = len(shared)
        first, *_ = shared
        return count, first

    def scenario(scheduler: Scheduler) -> None:
        shared = [0]
        scheduler.spawn("unpacks", lambda: seen.add(unpack(shared)))
        scheduler.spawn("fills", lambda: shared.insert(0, 1))
        scheduler.run()

    seen: set[tuple[int, int]] = set()
    explore_all(scenario, preemptions_max=2, preempt=[unpack])
    assert seen == {(1, 0), (1, 1), (2, 1)}


def test_numbers_are_not_looked_into() -> None:
    """Each place to stop at makes for many more schedules."""

    def count(size: int, total: int) -> int:
        return total + size * 2 if 0 < size and size == 1 else total - 1

    def scenario(scheduler: Scheduler) -> None:
        for name in "ab":
            scheduler.spawn(name, lambda: count(1, 2))
        scheduler.run()

    assert explore_all(scenario, preemptions_max=2, preempt=[count]).schedules == 2


def test_without_preemption_an_update_is_one_step() -> None:
    explore(lost_update)
    explore_all(lost_update, preemptions_max=9)


def test_under_a_lock_no_update_is_lost() -> None:
    explore(guarded_update, preempt=[Counter.increment])
    explore_all(guarded_update, preempt=[Counter.increment])


def cross_locking(scheduler: Scheduler) -> None:
    first, second = scheduler.lock(), scheduler.lock()

    def take(outer: Lock, inner: Lock) -> None:
        with outer, inner:
            pass

    scheduler.spawn("a", lambda: take(first, second))
    scheduler.spawn("b", lambda: take(second, first))
    scheduler.run()


def test_a_deadlock_says_who_waits_for_whom_and_where() -> None:
    with pytest.raises(FailedSchedule) as failed:
        explore(cross_locking)
    assert isinstance(failed.value.__cause__, Deadlock)
    message = str(failed.value)
    assert "a, which waits for a lock held by b in " in message
    assert "b, which waits for a lock held by a in " in message
    assert "> take, line " in message


def test_a_lock_that_is_taken_twice_is_a_deadlock() -> None:
    with pytest.raises(Deadlock, match="a, which waits for a lock held by a"), Scheduler(Oldest()) as scheduler:
        lock = scheduler.lock()

        def take_twice() -> None:
            with lock, lock:
                pass

        scheduler.spawn("a", take_twice)
        scheduler.run()


def test_a_wake_that_comes_first_is_not_lost() -> None:
    def scenario(scheduler: Scheduler) -> None:
        waiter = scheduler.waiter()
        scheduler.spawn("waits", waiter.wait)
        scheduler.spawn("wakes", waiter.wake)
        scheduler.run()

    assert explore_all(scenario).schedules > 5


def test_a_second_wake_is_an_error() -> None:
    with pytest.raises(SchedulerError, match="at most once"), Scheduler(Oldest()) as scheduler:
        waiter = scheduler.waiter()
        waiter.wake()
        waiter.wake()


def test_tasks_that_never_end_are_found() -> None:
    def spin() -> None:
        while True:
            scheduler.switch()

    with pytest.raises(Livelock), Scheduler(Oldest()) as scheduler:
        scheduler.spawn("spins", spin)
        scheduler.run()


def test_a_task_that_blocks_behind_the_schedulers_back_is_named() -> None:
    real = threading.Lock()
    real.acquire()

    def block() -> None:
        with real:
            pass

    with Scheduler(Oldest(), stuck_s=0.05) as scheduler:
        task = scheduler.spawn("blocks", block)
        with pytest.raises(Stuck, match=r"blocks, which runs in .*block, line "):
            scheduler.run()
        with pytest.raises(Stuck):
            scheduler.run()
        real.release()
    assert task._thread is not None
    task._thread.join()


def test_what_wakes_while_others_are_unwound_ends_as_they_do() -> None:
    """Also if it waits for what one of them has."""
    real = threading.Lock()

    def block() -> None:
        with real:
            scheduler.switch()

    with pytest.raises(Stuck, match="b, which runs in"), Scheduler(Prescribed({1: 1}), stuck_s=0.05) as scheduler:
        tasks = [scheduler.spawn(name, block) for name in "abc"]
        try:
            scheduler.run()
        finally:
            scheduler.lock().__enter__()  # as the close of a cache would
    for task in tasks:
        if task._thread is not None:
            task._thread.join()  # what one of them raised fails this test, as a warning


class NeverGiven:
    """A turn, that notes for how long it was waited for."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.waited_s = 0.0
        self._scheduler = scheduler

    def acquire(self, *, timeout: float) -> bool:
        self._scheduler.point_count += self.waited_s == 0  # a point at first, and no other
        self.waited_s += timeout
        return False


def test_a_task_is_stuck_after_as_long_as_is_said_and_hardly_longer() -> None:
    scheduler = Scheduler(Oldest(), stuck_s=20)
    scheduler._running = scheduler.spawn("computes", lambda: None)
    never: Any = NeverGiven(scheduler)
    assert scheduler._acquire(never) is scheduler._running
    assert 20 <= never.waited_s <= 23


def test_a_stuck_run_is_not_run_again_for_its_switches() -> None:
    runs: list[Scheduler] = []

    def scenario(scheduler: Scheduler) -> None:
        runs.append(scheduler)
        raise Stuck("a blocks")

    with pytest.raises(FailedSchedule, match=r"a blocks\nrepeat with RandomWalk\(0\)\n\(not run again"):
        explore(scenario)
    assert len(runs) == 1


# -- how it chooses --------------------------------------------------------------------------------------------


def steps(count: int, order: list[str], scheduler: Scheduler, name: str) -> Callable[[], None]:
    def run() -> None:
        for _ in range(count):
            order.append(name)
            scheduler.switch()
        order.append(name)

    return run


def orders_seen(explored: Callable[[Scenario], object], counts: tuple[int, int]) -> list[str]:
    seen: list[str] = []

    def scenario(scheduler: Scheduler) -> None:
        order: list[str] = []
        for name, count in zip("ab", counts, strict=True):
            scheduler.spawn(name, steps(count - 1, order, scheduler, name))
        scheduler.run()
        seen.append("".join(order))

    explored(scenario)
    return seen


@pytest.mark.parametrize("counts", [(1, 1), (3, 2), (4, 4)])
def test_without_a_bound_every_order_is_tried_once(counts: tuple[int, int]) -> None:
    seen = orders_seen(lambda scenario: explore_all(scenario, preemptions_max=99), counts)
    assert len(seen) == len(set(seen)) == comb(sum(counts), counts[0])


def test_orders_with_few_preemptions_come_first() -> None:
    seen = orders_seen(lambda scenario: explore_all(scenario, preemptions_max=1), (3, 3))
    # None: one task after the other.  One: a task is stopped after 1 or 2 of its 3 steps, and the other one runs.
    assert seen == ["aaabbb", "bbbaaa", "abbbaa", "aabbba", "baaabb", "bbaaab"]


def needs(preemptions: int) -> Scenario:
    """Fails only if the turn is taken from *a* so many times at least."""

    def scenario(scheduler: Scheduler) -> None:
        order: list[str] = []
        scheduler.spawn("a", steps(preemptions, order, scheduler, "a"))
        scheduler.spawn("b", steps(preemptions, order, scheduler, "b"))
        scheduler.run()
        assert "".join(order) != "ab" * (preemptions + 1)

    return scenario


@pytest.mark.parametrize("preemptions", [1, 2])
def test_the_bound_is_exact(preemptions: int) -> None:
    # a and b in turns: each change but the last one takes the turn from a task that could go on.
    explore_all(needs(preemptions), preemptions_max=2 * preemptions - 1)
    with pytest.raises(FailedSchedule):
        explore_all(needs(preemptions), preemptions_max=2 * preemptions)


def test_a_scenario_that_is_too_large_is_refused() -> None:
    with pytest.raises(SchedulerError, match="more than 100 schedules"):
        explore_all(needs(5), preemptions_max=9, schedules_max=100)


@pytest.mark.parametrize("bound", [{"preemptions_max": -1}, {"departures_max": -1}])
def test_a_bound_below_0_is_refused(bound: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"_max=-1.*: each is 0 at least"):
        explore_all(lost_update, **bound)  # type: ignore[arg-type]


@pytest.mark.parametrize("counts", [(1, 1), (3, 2), (4, 4)])
@pytest.mark.parametrize("by_departures", [False, True])
@pytest.mark.parametrize("at_once", [1, 7, 10_000])
def test_a_bound_that_grows_comes_to_every_order(counts: tuple[int, int], by_departures: bool, at_once: int) -> None:
    """And has seen at each bound what `explore_all` sees within it, whatever is run again on the way."""
    told: list[tuple[int, int]] = []

    def wider(scenario: Scenario) -> None:
        new = 0
        for widened in explore_wider(scenario, by_departures=by_departures, at_once=at_once):
            assert widened.explored.schedules <= at_once
            assert widened.explored.distinct == widened.explored.schedules
            new += widened.explored.schedules
            if not told or widened.bound > told[-1][0]:
                assert not widened.is_all or new == comb(sum(counts), counts[0])
                told.append((widened.bound, new))
        assert widened.is_all

    seen = set(orders_seen(wider, counts))
    assert len(seen) == comb(sum(counts), counts[0])
    told = [(bound, new) for bound, new in told if bound >= 0]
    assert [bound for bound, _ in told] == list(range(len(told)))
    for bound, new in told:
        limits = {"preemptions_max": 99, "departures_max": bound} if by_departures else {"preemptions_max": bound}
        assert new == len(orders_seen(partial(explore_all, **limits), counts)), bound  # type: ignore[arg-type]


def test_a_bound_that_grows_finds_a_failure_with_as_few_preemptions_as_it_takes() -> None:
    bounds = []
    with pytest.raises(FailedSchedule) as failed:
        for widened in explore_wider(needs(1)):
            bounds.append(widened.bound)
    assert max(bounds) == 1, "with two it fails"
    with pytest.raises(FailedSchedule):
        replay(needs(1), eval(failed.value.repeat))


def test_the_run_that_counts_the_points_of_pct_is_not_told_as_one_of_pct() -> None:
    told: list[Explored] = []
    runs = orders_seen(lambda scenario: told.append(explore_pct(scenario, seeds=range(9))), (3, 3))
    assert (len(runs), told[0].schedules) == (10, 9)


@pytest.mark.parametrize("function", [len, Counter, partial(steps, 1)])
def test_what_has_no_instructions_to_stop_before_is_refused(function: Callable[..., object]) -> None:
    with pytest.raises(TypeError, match="is no function, method or property that is written in Python"):
        explore(lost_update, preempt=[function])


def test_seeds_see_every_order_of_a_few_steps() -> None:
    seen = orders_seen(lambda scenario: explore(scenario, seeds=range(2000)), (3, 2))
    assert len(set(seen)) == comb(5, 3)


# -- PCT -----------------------------------------------------------------------------------------------------------


def halfway_while_others_talk(scheduler: Scheduler) -> None:
    """Fails only if two tasks are stopped, each in the midst of its work, while two others talk from end to end: who
    waits for the other leaves the turn to anybody, ten times over."""
    halfway: set[str] = set()

    def work(name: str) -> None:
        halfway.add(name)
        for _ in range(20):
            scheduler.switch()
        halfway.remove(name)

    questions, answers = ([scheduler.waiter() for _ in range(10)] for _ in range(2))

    def ask() -> None:
        for question, answer in zip(questions, answers, strict=True):
            question.wake()
            answer.wait()
        assert len(halfway) < 2

    def reply() -> None:
        for question, answer in zip(questions, answers, strict=True):
            question.wait()
            answer.wake()

    for name in "ab":
        scheduler.spawn(name, lambda name=name: work(name))  # type: ignore[misc]
    scheduler.spawn("asks", ask)
    scheduler.spawn("replies", reply)
    scheduler.run()


def test_pct_finds_what_takes_three_constraints_far_sooner_than_a_random_walk() -> None:
    explore(halfway_while_others_talk, seeds=range(400))
    explore_pct(halfway_while_others_talk, depth=2, seeds=range(400))  # one change point is not enough
    with pytest.raises(FailedSchedule, match=r"repeat with PCT\((\d|[1-4]\d), depth=3, points=\d+\)"):
        explore_pct(halfway_while_others_talk, depth=3, seeds=range(50))


def test_pct_finds_a_failure_of_its_depth_as_often_as_its_bound_says() -> None:
    """*a* has to be stopped between its two steps, and at no other of three points: one constraint is not enough."""
    for depth, least in (1, 0), (2, 1000 / (2 * 3)):
        orders = orders_seen(partial(explore_pct, depth=depth, seeds=range(1000)), (2, 1))
        found = sum(order == "aba" for order in orders)
        assert 0.8 * least <= found <= 1.2 * least


def test_pct_finds_what_shows_only_where_a_run_is_longer_than_the_first() -> None:
    """*b* before *a* makes the way of *a* longer, and *c* has to come at the end of that."""

    def scenario(scheduler: Scheduler) -> None:
        is_long = is_halfway = False

        def a() -> None:
            nonlocal is_halfway
            for _ in range(20 * is_long):
                scheduler.switch()
            is_halfway = is_long
            scheduler.switch()
            is_halfway = False

        def b() -> None:
            nonlocal is_long
            is_long = True

        def c() -> None:
            assert not is_halfway

        for run in a, b, c:
            scheduler.spawn(run.__name__, run)
        scheduler.run()

    with pytest.raises(FailedSchedule, match=r"repeat with PCT\(\d+, depth=2, points=24\)") as failed:
        explore_pct(scenario, depth=2, seeds=range(1000))
    with pytest.raises(FailedSchedule):
        replay(scenario, eval(failed.value.repeat))


def test_pct_needs_a_depth_and_a_number_of_points() -> None:
    for depth, points in (0, 5), (3, 0):
        with pytest.raises(ValueError, match=f"depth={depth}, points={points}: each is 1 at least"):
            PCT(1, depth=depth, points=points)
    explore_pct(lambda scheduler: None, seeds=range(3))  # of which none passes a point


# -- how it repeats ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tried", [explore, explore_pct, explore_all])
def test_a_failure_names_the_strategy_that_repeats_it(tried: Callable[..., object]) -> None:
    with pytest.raises(FailedSchedule) as failed:
        tried(lost_update, preempt=[Counter.increment])
    strategy: Strategy = eval(failed.value.repeat)
    with pytest.raises(FailedSchedule) as again:
        replay(lost_update, strategy, preempt=[Counter.increment])
    assert str(again.value) == str(failed.value)


def test_what_is_prescribed_is_what_is_run() -> None:
    with pytest.raises(FailedSchedule, match=r"repeat with Prescribed\(\{2: 1\}\)"):
        replay(lost_update, Prescribed({2: 1}), preempt=[Counter.increment])
    replay(lost_update, Prescribed({}), preempt=[Counter.increment])


def test_equal_seeds_give_equal_runs() -> None:
    def journal_of(seed: int) -> tuple[list[str], int]:
        journal: list[str] = []
        with Scheduler(RandomWalk(seed), preempt=[Counter.increment], journal=journal) as scheduler:
            guarded_update(scheduler)
        return journal, scheduler.fingerprint

    assert all(journal_of(seed) == journal_of(seed) for seed in range(20))
    assert len({journal_of(seed)[1] for seed in range(20)}) > 5


def test_a_scenario_that_does_not_repeat_itself_says_so() -> None:
    failed_already = False

    def fails_once(scheduler: Scheduler) -> None:
        nonlocal failed_already
        already, failed_already = failed_already, True
        assert already

    with pytest.raises(FailedSchedule, match="does not repeat itself"):
        explore(fails_once)


# -- time ----------------------------------------------------------------------------------------------------------


def test_time_passes_only_when_all_sleep() -> None:
    woken: list[tuple[str, float]] = []

    def sleep(name: str, delay_s: float) -> None:
        scheduler.sleep(delay_s)
        woken.append((name, scheduler.now_s()))

    def work() -> None:
        for _ in range(100):
            scheduler.switch()
        assert scheduler.now_s() == 0

    with Scheduler(RandomWalk(1)) as scheduler:
        scheduler.spawn("long", lambda: sleep("long", 3600))
        scheduler.spawn("short", lambda: sleep("short", 0.5))
        scheduler.spawn("works", work)
        scheduler.run()
    assert woken == [("short", 0.5), ("long", 3600)]


def test_a_wait_with_a_timeout_ends_in_time_or_is_woken() -> None:
    def scenario(scheduler: Scheduler) -> None:
        in_time, late = scheduler.waiter(), scheduler.waiter()

        def wake(waiter: Waiter, at_s: float) -> None:
            scheduler.sleep(at_s)
            waiter.wake()

        scheduler.spawn("in time", lambda: wake(in_time, 1))
        scheduler.spawn("late", lambda: wake(late, 3))
        tasks = [scheduler.spawn("waits", lambda waiter=waiter: waiter.wait(2)) for waiter in (in_time, late)]  # type: ignore[misc]
        scheduler.run()
        assert [task.result for task in tasks] == [True, False]

    explore(scenario, seeds=range(50))


# -- interruption ----------------------------------------------------------------------------------------------------


class Interrupted(BaseException):
    pass


def test_an_interruption_strikes_before_and_after_the_wake() -> None:
    outcomes: set[tuple[bool, bool]] = set()

    def scenario(scheduler: Scheduler) -> None:
        waiter = scheduler.waiter()
        is_woken = False

        def wait() -> None:
            was_interrupted = False
            try:
                waiter.wait()
            except Interrupted:
                was_interrupted = True
            outcomes.add((is_woken, was_interrupted))

        def wake() -> None:
            nonlocal is_woken
            is_woken = True
            waiter.wake()

        waits = scheduler.spawn("waits", wait)
        scheduler.spawn("ctrl-c", lambda: scheduler.interrupt(waits, Interrupted()))
        scheduler.spawn("wakes", wake)
        scheduler.run()

    explore(scenario, seeds=range(100))
    assert outcomes == {(False, True), (True, True), (True, False)}


def test_a_signal_strikes_between_instructions_where_handlers_run() -> None:
    done: set[int] = set()

    def handle(log: list[int]) -> None:
        log.append(1)
        log.append(2)
        log.append(3)

    def scenario(scheduler: Scheduler) -> None:
        log: list[int] = []

        def main() -> None:
            try:
                handle(log)
            except Interrupted:
                done.add(len(log))

        task = scheduler.spawn("main", main, signals=True)
        scheduler.spawn("ctrl-c", lambda: scheduler.interrupt(task, Interrupted()))
        scheduler.run()

    explore_all(scenario, preemptions_max=1, preempt=[handle])
    assert done == {0, 1, 2, 3}  # at the start, and after each call: not between a call's arguments and the call


def test_a_signal_does_not_strike_where_a_function_of_python_has_returned() -> None:
    """CPython looks for signals where one begins, and after a call of C: a result is not lost on its way from one
    function to the other."""
    outcomes: set[tuple[bool, bool]] = set()

    def hand_on(give: Callable[[], bool]) -> bool:
        return give()

    def scenario(scheduler: Scheduler) -> None:
        is_given = False

        def give() -> bool:
            nonlocal is_given
            scheduler.switch("where a signal comes that strikes later")
            is_given = True
            return is_given

        def main() -> None:
            try:
                outcomes.add((hand_on(give), is_given))
            except Interrupted:
                outcomes.add((False, is_given))

        task = scheduler.spawn("main", main, signals=True)
        scheduler.spawn("ctrl-c", lambda: scheduler.interrupt(task, Interrupted()))
        scheduler.run()

    explore_all(scenario, preemptions_max=1, preempt=[hand_on])
    assert outcomes == {(False, False), (True, True)}


def test_only_a_task_with_signals_gets_them() -> None:
    def scenario(scheduler: Scheduler) -> None:
        tasks = [
            scheduler.spawn("main", scheduler.signals_arrive_here, signals=True),
            scheduler.spawn("other", scheduler.signals_arrive_here),
        ]
        scheduler.run()
        assert [task.result for task in tasks] == [True, False]
        assert not scheduler.signals_arrive_here()

    explore(scenario, seeds=range(5))


# -- the end -----------------------------------------------------------------------------------------------------------


def test_what_a_task_raises_is_raised_by_run() -> None:
    error = OSError("its own")

    def fail() -> None:
        raise error

    with Scheduler(Oldest()) as scheduler:
        waiter = scheduler.waiter()
        scheduler.spawn("waits for ever", waiter.wait)
        scheduler.spawn("fails", fail)
        with pytest.raises(OSError, match="its own") as raised:
            scheduler.run()
    assert raised.value is error


def test_threads_in_the_background_may_be_idle_at_the_end() -> None:
    served: list[str] = []

    def serve(waiter: Waiter) -> None:
        waiter.wait()
        served.append("work")

    with Scheduler(Oldest()) as scheduler:
        first, second = scheduler.waiter(), scheduler.waiter()

        def main() -> None:
            scheduler.start_thread("worker", lambda: serve(first))
            scheduler.start_thread("worker", lambda: serve(second))
            first.wake()

        scheduler.spawn("main", main)
        scheduler.run()
        assert served == ["work"]
        second.wake()
        scheduler.run()
        assert served == ["work", "work"]


def test_a_stopped_task_unwinds() -> None:
    unwound: list[str] = []

    def wait() -> None:
        try:
            waiter.wait()
        finally:
            unwound.append("unwound")

    with Scheduler(Prescribed({})) as scheduler:
        waiter = scheduler.waiter()
        scheduler.spawn("waits", wait)
        with pytest.raises(Deadlock):
            scheduler.run()
        assert not unwound
    assert unwound == ["unwound"]


def test_outside_the_tasks_nobody_waits() -> None:
    with Scheduler(Oldest()) as scheduler:
        lock, waiter = scheduler.lock(), scheduler.waiter()
        with lock, pytest.raises(Deadlock, match="outside"):
            lock.__enter__()
        with pytest.raises(Deadlock, match="outside"):
            waiter.wait()
        with pytest.raises(Deadlock, match="outside"):
            scheduler.sleep(1)
        assert scheduler.thread_id() == 0
