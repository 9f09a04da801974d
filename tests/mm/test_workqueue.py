"""The workqueue: what runs where, what an interrupted caller leaves behind, and how many threads it takes."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest
from tests.contract.harness import Task

from pagein.mm import workqueue as workqueue_module
from pagein.mm.sync import Door, Waiter
from pagein.mm.workqueue import IDLE_S, QUEUED_MAX, WORKERS_MAX, Workqueue
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


def test_started_work_is_done_and_its_error_is_nobodys(queue):
    done = threading.Event()

    def fails() -> None:
        done.set()
        raise OSError("nobody's")

    queue.start(fails)
    assert done.wait(PATIENCE_S)
    assert queue.shielded(lambda: 1) == 1


def test_started_work_is_advice_with_a_bound(queue, door):
    """Beyond so many in line it is not taken; what somebody waits for always is."""
    gate, count = Gate(), []
    for _ in range(WORKERS_MAX):
        queue.start(gate.pass_through)
    gate.wait_for_arrivals(WORKERS_MAX)
    for _ in range(QUEUED_MAX + 50):
        queue.start(lambda: count.append(1))
    assert len(queue._queued) == QUEUED_MAX
    last = Task(lambda: queue.shielded(lambda: len(count)))
    gate.open()
    assert last.result() <= QUEUED_MAX
    while queue._queued:
        queue.shielded(lambda: None)
    assert len(door.threads) == WORKERS_MAX, "no more threads than these"


# -- threads ---------------------------------------------------------------------------------------


def test_a_worker_that_has_nothing_to_do_ends(queue, door, monkeypatch):
    """After a while; the next call starts another."""
    monkeypatch.setattr(workqueue_module, "IDLE_S", 0.0)
    ended = threading.Event()
    retire = queue._retire

    def noted(waiter: Waiter) -> bool:
        retired: bool = retire(waiter)
        if retired:
            ended.set()
        return retired

    monkeypatch.setattr(queue, "_retire", noted)
    assert queue.shielded(lambda: 1) == 1
    assert ended.wait(PATIENCE_S)
    assert queue._worker_count == 0
    assert not queue._idle
    assert queue.shielded(lambda: 2) == 2
    assert len(door.threads) == 2
    assert set(door.idle_times_s) == {0.0}
    assert IDLE_S == 10.0


def test_work_that_comes_as_a_worker_gives_up_is_done(queue, monkeypatch):
    """It was handed to the worker while its time ran out: the worker looks once more."""
    gate = Gate()
    retire = queue._retire

    def late(waiter: Waiter) -> bool:
        gate.pass_through()
        retired: bool = retire(waiter)
        return retired

    monkeypatch.setattr(workqueue_module, "IDLE_S", 0.0)
    monkeypatch.setattr(queue, "_retire", late)
    assert queue.shielded(lambda: 1) == 1
    gate.wait_for_arrivals()
    handed = Task(lambda: queue.shielded(lambda: 2))
    while queue._idle:  # until it has been handed over
        handed._ended.wait(0.001)
    gate.open()
    assert handed.result() == 2


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
