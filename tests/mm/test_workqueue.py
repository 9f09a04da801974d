"""The workqueue: what runs where, what an interrupted caller leaves behind, and how many threads it takes."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any

import pytest
from tests.contract.harness import Task

from pagein.mm import workqueue as workqueue_module
from pagein.mm.outcome import InOrder, Outcome, Unsettled
from pagein.mm.sync import Door, Errand, MakeWaiter, Steps, Waiter
from pagein.mm.workqueue import IDLE_S, LENT_MAX, WORKERS_MAX, Workqueue
from pagein.testing.stores import PATIENCE_S, Gate


class Interrupted(BaseException):
    """As KeyboardInterrupt, from a signal handler."""


class SignalDoor(Door):
    """Signals may raise in every thread but the workers; a test decides when one does."""

    def __init__(self) -> None:
        self.interrupt: Callable[[Waiter], None] | None = None
        self.idle_times_s: list[float] = []
        self.threads: list[str] = []
        self._workers = threading.local()

    def signals_arrive_here(self) -> bool:
        return not hasattr(self._workers, "here")

    def start_thread(self, name: str, run: Callable[[], None]) -> None:
        def mark_and_run() -> None:
            self._workers.here = True
            run()

        self.threads.append(name)
        super().start_thread(name, mark_and_run)

    def waiter(self) -> Waiter:
        return _Interruptible(super().waiter(), self)


class _Interruptible:
    def __init__(self, waiter: Waiter, door: SignalDoor) -> None:
        self._waiter = waiter
        self._door = door

    def wait(self, timeout_s: float | None = None) -> bool:
        if timeout_s is not None:
            self._door.idle_times_s.append(timeout_s)
        elif self._door.interrupt is not None:
            interrupt, self._door.interrupt = self._door.interrupt, None
            interrupt(self._waiter)
        return self._waiter.wait(timeout_s)

    def wake(self) -> None:
        self._waiter.wake()


@pytest.fixture
def door() -> SignalDoor:
    return SignalDoor()


@pytest.fixture
def queue(door: SignalDoor) -> Iterator[Workqueue]:
    queue = Workqueue(door, "test")
    yield queue
    queue.close()


# -- where it runs ---------------------------------------------------------------------------------


def test_where_no_signal_arrives_it_runs_right_here():
    queue = Workqueue(Door(), "test")
    here = threading.get_ident
    assert len({*Task(lambda: (here(), queue.shielded(here))).result()}) == 1
    assert queue.shielded(here) != here(), "on the main thread, a worker's"
    queue.close()


def test_the_result_comes_back(queue, door):
    assert queue.shielded(lambda: 6 * 7) == 42
    assert queue.shielded(lambda: None) is None
    assert door.threads == ["test-1"], "an idle worker takes the next call"


def test_the_very_same_exception_comes_back_and_is_not_kept(queue):
    error = OSError("the one")

    def fails() -> None:
        raise error

    with pytest.raises(OSError, match="the one") as raised:
        queue.shielded(fails)
    assert raised.value is error

    class Kept(Exception):
        pass

    def fails_too() -> None:
        raise Kept

    gc.disable()
    try:
        reference = None
        try:
            queue.shielded(fails_too)
        except Kept as kept:
            reference = weakref.ref(kept)
        assert reference is not None
        queue.shielded(lambda: None)  # the worker has let go of it by now
        assert reference() is None, "no cycle of traceback and frame keeps it alive"
    finally:
        gc.enable()


def test_a_mistake_ends_no_worker(queue, door):
    def exits() -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        queue.shielded(exits)
    assert queue.shielded(lambda: 1) == 1
    assert len(door.threads) == 1


# -- an interrupted caller -------------------------------------------------------------------------


def test_interrupted_before_the_work_is_done(queue, door):
    """It goes on, and its result is given back, once, by the worker."""
    gate = Gate()
    undone: list[str] = []

    def raise_now(waiter: Waiter) -> None:
        gate.wait_for_arrivals()
        raise Interrupted

    door.interrupt = raise_now
    done = threading.Event()

    def work() -> str:
        gate.pass_through()
        return "result"

    def undo(result: str) -> None:
        undone.append(result)
        done.set()

    with pytest.raises(Interrupted):
        queue.shielded(work, undo=undo)
    assert undone == []
    gate.open()
    assert done.wait(PATIENCE_S)
    assert queue.shielded(lambda: 1) == 1
    assert undone == ["result"]


def test_interrupted_after_the_work_is_done(queue, door):
    """The signal came with the result: the caller gives it back itself, once."""
    undone: list[str] = []

    def raise_when_done(waiter: Waiter) -> None:
        assert waiter.wait(PATIENCE_S)
        raise Interrupted

    door.interrupt = raise_when_done
    with pytest.raises(Interrupted):
        queue.shielded(lambda: "result", undo=undone.append)
    assert undone == ["result"]
    assert queue.shielded(lambda: 1) == 1
    assert undone == ["result"]


def test_work_that_failed_has_nothing_to_give_back(queue, door):
    undone: list[object] = []

    def raise_when_done(waiter: Waiter) -> None:
        assert waiter.wait(PATIENCE_S)
        raise Interrupted

    def fails() -> None:
        raise OSError("nobody's")

    door.interrupt = raise_when_done
    with pytest.raises(Interrupted):
        queue.shielded(fails, undo=undone.append)
    assert queue.shielded(lambda: 1) == 1
    assert undone == []


def test_interrupted_while_a_worker_is_started(queue, door, monkeypatch):
    """The work is handed over by then: it is done, and given back."""
    undone: list[str] = []
    done = threading.Event()
    start_thread = door.start_thread

    def start_and_raise(name: str, run: Callable[[], None]) -> None:
        start_thread(name, run)
        raise Interrupted

    def undo(result: str) -> None:
        undone.append(result)
        done.set()

    monkeypatch.setattr(door, "start_thread", start_and_raise)
    with pytest.raises(Interrupted):
        queue.shielded(lambda: "result", undo=undo)
    assert done.wait(PATIENCE_S)
    assert undone == ["result"]


# -- work that nobody waits for --------------------------------------------------------------------


def test_started_work_is_done(queue):
    done = threading.Event()
    queue.start(done.set)
    assert done.wait(PATIENCE_S)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_mistake_of_ours_costs_a_thread_and_no_work(queue, door):
    """Whoever starts work keeps what it raises.  If not, the thread tells of it, and another one goes on."""

    def fails() -> None:
        raise OSError("nobody's")

    queue.start(fails)
    for thread in threading.enumerate():
        if thread.name == "test-1":
            thread.join(PATIENCE_S)
    assert len(queue._vacancies) == WORKERS_MAX
    assert queue.shielded(lambda: 1) == 1
    assert len(door.threads) == 2


def test_there_are_no_more_threads_than_that_and_the_rest_waits_in_line(queue, door):
    gate, done = Gate(), threading.Semaphore(0)
    for _ in range(WORKERS_MAX):
        queue.start(gate.pass_through)
    gate.wait_for_arrivals(WORKERS_MAX)
    for _ in range(50):
        queue.start(done.release)
    assert queue.queued_count == 50
    gate.open()
    assert all(done.acquire(timeout=PATIENCE_S) for _ in range(50))
    assert len(door.threads) == WORKERS_MAX


def test_workers_that_will_be_needed_are_started_beforehand_once(queue, door):
    """And whoever then starts work does not wait for a thread to begin."""
    for _ in range(2):
        queue.prepare(3)
        while len(queue._idle) < 3:
            Task(lambda: None).result()
    assert len(door.threads) <= 4, "one of them has started the others"
    gate = Gate()
    for _ in range(3):
        queue.start(gate.pass_through)
    gate.wait_for_arrivals(3)
    assert len(door.threads) <= 4
    gate.open()


def test_callers_that_prepare_at_once_have_so_many_workers_together(queue, door):
    """Not each of them: while all workers are busy, none of those that were started is idle yet."""
    busy, gate, asked = Gate(), Gate(), 40
    for _ in range(asked):
        queue.start(busy.pass_through)
    busy.wait_for_arrivals(asked)
    assert len(door.threads) == asked

    def prepare() -> None:
        gate.pass_through()
        queue.prepare(4)

    callers = [Task(prepare) for _ in range(asked)]
    gate.wait_for_arrivals(asked)
    gate.open()
    for caller in callers:
        caller.result()
    while len(queue._idle) < 4:
        Task(lambda: None).result()
    assert len(door.threads) <= asked + 4 + 1, "one has started the others"
    busy.open()


def test_callers_who_work_on_what_others_have_prepared_have_their_workers_all_the_same(queue):
    gate, asked = Gate(), 40

    def prepare_and_work() -> None:
        queue.prepare(4)
        gate.pass_through()

    for _ in range(asked):
        queue.start(prepare_and_work)
    gate.wait_for_arrivals(asked)
    while len(queue._idle) < 4:
        Task(lambda: None).result()
    gate.open()


def test_who_prepares_while_another_is_about_to_has_his_workers_too(queue, door, monkeypatch):
    """Those that he counts on may have been given work meanwhile."""
    gate, start_thread = Gate(), door.start_thread

    def overtaken(name: str, run: Callable[[], None]) -> None:
        start_thread(name, run)
        if len(door.threads) == 4:
            for _ in range(3):
                queue.start(gate.pass_through)
            gate.wait_for_arrivals(3)
            queue.prepare(4)

    monkeypatch.setattr(door, "start_thread", overtaken)
    queue.prepare(4)
    while len(queue._idle) < 4:
        Task(lambda: None).result()
    gate.open()


def test_to_prepare_is_advice(queue, door, monkeypatch):
    queue.prepare(0)
    assert not door.threads

    def fails(name: str, run: Callable[[], None]) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(door, "start_thread", fails)
    queue.prepare(3)
    queue.close()
    queue.prepare(3)


# -- steps that wait without a thread ------------------------------------------------------------------


class Bell:
    """Steps that wait until it was rung, so many times."""

    def __init__(self) -> None:
        self.waiters: list[Waiter] = []
        self.threads: list[int] = []
        self.waiting = threading.Semaphore(0)

    def steps(self, make_waiter: MakeWaiter, times: int = 1) -> Steps[str]:
        for _ in range(times):
            self.waiters.append(make_waiter())
            self.threads.append(threading.get_ident())
            self.waiting.release()
            yield self.waiters[-1]
        return "rung"

    def ring(self) -> None:
        assert self.waiting.acquire(timeout=PATIENCE_S)
        self.waiters[-1].wake()


def test_steps_wait_without_a_thread(queue, door):
    """More of them than there may be workers, all waiting at once, with the one worker that brought them there."""
    bells = [Bell() for _ in range(WORKERS_MAX * 2)]
    calls = [Task(partial(queue.shielded_steps, bell.steps)) for bell in bells]
    for bell in bells:
        bell.ring()
        queue.kick()
    assert [call.result() for call in calls] == ["rung"] * len(bells)
    assert len(door.threads) < WORKERS_MAX


def test_steps_go_on_when_they_are_woken_and_not_before(door):
    queue, bell, done = Workqueue(door, "test", workers_max=1), Bell(), threading.Event()
    queue.run_detached(bell.steps, lambda result, error: done.set())
    assert bell.waiting.acquire(timeout=PATIENCE_S)
    queue.shielded(int)  # by the same worker, after what stood in the line before
    assert not done.is_set()
    bell.waiters[0].wake()
    queue.kick()
    assert done.wait(PATIENCE_S)
    queue.close()


def test_steps_that_are_woken_before_they_wait_go_on(queue):
    def steps(make_waiter: MakeWaiter) -> Steps[int]:
        for _ in range(100):
            waiter = make_waiter()
            waiter.wake()
            yield waiter
        return 7

    assert queue.shielded_steps(steps) == 7


def test_steps_of_an_interrupted_caller_go_on_and_give_back(queue, door):
    bell, undone, done = Bell(), [], threading.Event()

    def undo(result: str) -> None:
        undone.append(result)
        done.set()

    def raise_now(waiter: Waiter) -> None:
        raise Interrupted

    door.interrupt = raise_now
    with pytest.raises(Interrupted):
        queue.shielded_steps(bell.steps, undo=undo)
    bell.ring()
    queue.kick()
    assert done.wait(PATIENCE_S)
    assert undone == ["rung"]


def test_steps_that_were_begun_end_though_the_queue_was_closed(door):
    queue, bell = Workqueue(door, "closing"), Bell()
    call = Task(lambda: queue.shielded_steps(bell.steps))
    assert bell.waiting.acquire(timeout=PATIENCE_S)
    queue.close()
    bell.waiters[-1].wake()
    queue.kick()
    assert call.result() == "rung"


def test_an_error_of_steps_is_the_caller_s(queue):
    def steps(make_waiter: MakeWaiter) -> Steps[None]:
        raise OSError("the one")
        yield make_waiter()

    with pytest.raises(OSError, match="the one"):
        queue.shielded_steps(steps)


class Errands:
    """Steps that have one thing done, and then wait until it has been."""

    def __init__(self, queue: Workqueue) -> None:
        self.gate = Gate()
        self.started = threading.Semaphore(0)
        self._queue = queue

    def steps(self, make_waiter: MakeWaiter) -> Steps[str]:
        done, name = make_waiter(), ["nobody"]

        def do() -> None:
            self.gate.pass_through()
            name[0] = threading.current_thread().name
            done.wake()
            self._queue.kick()

        def start() -> None:
            threading.Thread(target=do, name="somebody else").start()
            self.started.release()

        yield Errand(do, start)
        yield done
        return name[0]


def test_an_errand_is_done_by_the_worker_if_a_caller_waits_for_it(queue):
    errands = Errands(queue)
    errands.gate.open()
    assert queue.shielded_steps(errands.steps) == "test-1"


def test_an_errand_is_done_here_where_no_signal_arrives():
    queue = Workqueue(Door(), "none")
    errands = Errands(queue)
    errands.gate.open()
    call = Task(lambda: (queue.shielded_steps(errands.steps), threading.current_thread().name))
    name, here = call.result()
    assert name == here


def test_an_errand_of_steps_that_nobody_waits_with_takes_no_worker(queue, door):
    errands, ended = Errands(queue), threading.Semaphore(0)
    results: list[tuple[str | None, BaseException | None]] = []

    def note(result: str | None, error: BaseException | None) -> None:
        results.append((result, error))
        ended.release()

    for _ in range(WORKERS_MAX):
        queue.run_detached(errands.steps, note)
        assert errands.started.acquire(timeout=PATIENCE_S)
    assert len(door.threads) < WORKERS_MAX
    errands.gate.open()
    for _ in range(WORKERS_MAX):
        assert ended.acquire(timeout=PATIENCE_S)
    assert results == [("somebody else", None)] * WORKERS_MAX


def test_workers_are_left_while_errands_take_for_ever(queue):
    """Callers who were interrupted leave theirs behind: those beyond `LENT_MAX` are somebody else's."""
    errands = Errands(queue)
    calls = [Task(partial(queue.shielded_steps, errands.steps)) for _ in range(WORKERS_MAX)]
    for _ in range(WORKERS_MAX - LENT_MAX):
        assert errands.started.acquire(timeout=PATIENCE_S)
    assert queue.shielded(threading.get_ident) != threading.get_ident()
    errands.gate.open()
    names = [call.result() for call in calls]
    assert names.count("somebody else") == WORKERS_MAX - LENT_MAX
    assert queue.shielded_steps(errands.steps) != "somebody else", "the tokens have come back"


# -- threads ---------------------------------------------------------------------------------------


def test_a_worker_that_has_nothing_to_do_ends(queue, door, monkeypatch):
    """After a while; the next call starts another."""
    monkeypatch.setattr(workqueue_module, "IDLE_S", 0.0)
    assert queue.shielded(lambda: 1) == 1
    for thread in threading.enumerate():
        if thread.name.startswith("test-"):
            thread.join(PATIENCE_S)
    assert len(queue._vacancies) == WORKERS_MAX
    assert not queue._idle
    assert queue.shielded(lambda: 2) == 2
    assert len(door.threads) == 2
    assert set(door.idle_times_s) == {0.0}
    assert IDLE_S == 10.0


def test_work_that_comes_as_a_worker_gives_up_is_done(queue, door, monkeypatch):
    """It was handed to the worker while its time ran out: the worker looks once more."""
    gate = Gate()
    ends = queue._is_idle_no_more

    def late(waiter: Waiter) -> bool:
        gate.pass_through()
        ended: bool = ends(waiter)
        return ended

    monkeypatch.setattr(workqueue_module, "IDLE_S", 0.0)
    monkeypatch.setattr(queue, "_is_idle_no_more", late)
    assert queue.shielded(lambda: 1) == 1
    gate.wait_for_arrivals()
    handed = Task(lambda: queue.shielded(lambda: 2))
    while queue._idle:  # until it has been handed over
        handed._ended.wait(0.001)
    gate.open()
    assert handed.result() == 2


def test_work_that_comes_before_the_only_worker_says_that_it_is_idle_is_done(door, monkeypatch):
    """At once, not when it has been idle for long enough to end."""
    queue, done = Workqueue(door, "test", workers_max=1), threading.Event()
    make = SignalDoor.waiter

    def submit_and_make_waiter(self: SignalDoor) -> Waiter:
        if not self.signals_arrive_here():  # the worker, who has found the line empty
            monkeypatch.undo()
            queue.start(done.set)
        return make(self)

    monkeypatch.setattr(SignalDoor, "waiter", submit_and_make_waiter)
    queue.start(int)
    assert done.wait(IDLE_S / 2)
    queue.close()


def test_work_that_comes_before_the_only_worker_is_gone_is_done(door, monkeypatch):
    queue, done = Workqueue(door, "test", workers_max=1), threading.Event()
    next_work = queue._next

    def submit_and_end(number: int) -> Callable[[], object] | None:
        run = next_work(number)
        if run is None and not done.is_set():
            queue.start(done.set)
        return run

    monkeypatch.setattr(workqueue_module, "IDLE_S", 0.0)
    monkeypatch.setattr(queue, "_next", submit_and_end)
    queue.start(int)
    assert done.wait(PATIENCE_S)
    queue.close()


def test_work_is_done_whose_caller_is_interrupted_before_he_has_told_anybody(queue, monkeypatch):
    done, kick = threading.Event(), Workqueue.kick

    def interrupt(self: Workqueue) -> None:
        monkeypatch.setattr(Workqueue, "kick", kick)
        raise Interrupted

    monkeypatch.setattr(Workqueue, "kick", interrupt)
    with pytest.raises(Interrupted):
        queue.shielded(done.set)
    assert done.wait(PATIENCE_S)


def test_a_change_that_settles_as_the_next_one_gets_in_line_is_not_waited_for(door: SignalDoor) -> None:
    unsettled = Unsettled()
    first: Outcome[None] = Outcome(door.waiter(), None)
    first.lines = (unsettled,)
    unsettled.append(first)
    assert first.is_to_begin()
    first.is_abandoned = True

    def make_waiter() -> Waiter:
        first.settle(None, None)
        return door.waiter()

    def change(make_waiter: MakeWaiter) -> Steps[str]:
        return "made"
        yield

    with pytest.raises(StopIteration) as end:
        next(InOrder(change, unsettled).steps(make_waiter))
    assert end.value.value == "made"


def test_no_thread_to_be_had_is_an_error_and_costs_no_worker(queue, door, monkeypatch):
    """As often as one likes; and when threads are to be had again, all is well."""
    start_thread = door.start_thread

    def fails(name: str, run: Callable[[], None]) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(door, "start_thread", fails)
    for _ in range(2 * WORKERS_MAX):
        with pytest.raises(RuntimeError, match="can't start new thread"):
            queue.shielded(lambda: 1)
    assert queue.queued_count == 0
    monkeypatch.setattr(door, "start_thread", start_thread)
    assert queue.shielded(lambda: 1) == 1


def test_without_another_thread_the_ones_there_are_do_the_work(queue, door, monkeypatch):
    gate = Gate()
    queue.start(gate.pass_through)
    gate.wait_for_arrivals()

    def fails(name: str, run: Callable[[], None]) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(door, "start_thread", fails)
    call = Task(lambda: queue.shielded(lambda: 1))
    while not queue.queued_count:
        call._ended.wait(0.001)
    gate.open()
    assert call.result() == 1


def test_a_signal_handler_may_call_while_a_call_is_on_its_way(queue, door):
    """At every line of `start` and `kick` another call of the same thread comes in between, as a handler's would."""
    traced = {Workqueue.start.__code__, Workqueue.kick.__code__, Workqueue._start_worker.__code__}
    results: list[int] = []
    is_nested = False

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal is_nested
        if frame.f_code in traced and not is_nested:
            is_nested = True
            results.append(queue.shielded(lambda: 2))
            is_nested = False
        return trace

    sys.settrace(trace)
    try:
        assert queue.shielded(lambda: 1) == 1
    finally:
        sys.settrace(None)
    assert len(results) > 5
    assert set(results) == {2}


def test_closing_ends_the_workers(door):
    queue = Workqueue(door, "closing")
    gates = [Gate(), Gate()]
    for gate in gates:
        queue.start(gate.pass_through)
        gate.wait_for_arrivals()
    assert door.threads == ["closing-1", "closing-2"]
    workers = [thread for thread in threading.enumerate() if thread.name.startswith("closing-")]
    assert all(worker.daemon for worker in workers), "a store that never answers keeps no process alive"
    gates[0].open()
    assert queue.shielded(lambda: 1) == 1
    queue.close()
    with pytest.raises(ValueError, match="closed"):
        queue.shielded(lambda: 1)
    with pytest.raises(ValueError, match="closed"):
        queue.start(lambda: None)
    gates[1].open()
    for worker in workers:
        worker.join(PATIENCE_S)
        assert not worker.is_alive()
