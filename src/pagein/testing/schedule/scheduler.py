"""A deterministic scheduler: threads of which one runs at a time, and a `Strategy` that says which.

    def scenario(scheduler):                            # explore.py runs it under many schedules
        cache = PageCache(8192, door=scheduler)         # whatever takes its locks and waits from a mm.sync.Door
        scheduler.spawn("reader", lambda: check(file.pread(4096, 0)))
        scheduler.spawn("evictor", cache.drop)
        scheduler.run()                                 # until no task can go on; raises what a task raised
        assert ...

Guarantees: the same choices give the same run.  Tasks switch at *points* only: locks taken and released, waits,
wakes, sleeps, thread starts, `Scheduler.switch`, and, in the functions of *preempt*, before each instruction that can
touch what threads share (`ByLine`: once a line).  Time is virtual: it passes only when every task sleeps.  Tasks that
wait for one another are reported, also in the background (`Deadlock`), so are tasks that never end (`Livelock`); no
thread outlives the scheduler.
Assumes: a task blocks only through the door (else `Stuck`: a lock of Python's own, say).  What a preempted function
calls in C is one step, as it is with the GIL.
Source: loom and shuttle, which do this for Rust.
Not here: which schedules to try (explore.py), which instructions are points (instructions.py).
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Protocol

from ...mm.sync import Door
from .instructions import Preemptible, Preemption, at_instruction

POINTS_MAX = 100_000
"""Points that one run may pass; a scenario of a few tasks passes hundreds."""
STUCK_S = 20.0
"""Real seconds in which a running task has to come to a point."""
_LOOKS = 10
"""How often in this time we look whether it has."""


class Strategy(Protocol):
    """Who goes on at each point."""

    def choose(self, running: Task | None, runnable: Sequence[Task]) -> Task:
        """One of *runnable* (not empty, by birth).  *running* is one of them, or None if it cannot go on."""
        ...


class SchedulerError(AssertionError):
    """The scenario cannot go on."""


class Deadlock(SchedulerError):
    """Tasks wait, and nobody is left to wake them."""


class Livelock(SchedulerError):
    """Tasks go on and on."""


class Stuck(SchedulerError):
    """A task blocks, or computes, where the scheduler cannot see it."""


class _Stopped(BaseException):
    """Unwinds a task that will not be run to its end."""


class Task:
    """A thread of a scenario."""

    def __init__(self, number: int, name: str, run: Callable[[], Any], *, background: bool, signals: bool) -> None:
        self.number = number
        self.name = name
        self.background = background
        """Nobody waits for its end: a worker, which may be idle when all is done."""
        self.signals = signals
        self.result: Any = None
        """What it returned."""
        self.done = False
        self._run = run
        self._turn = threading.Lock()
        self._turn.acquire()
        self._thread: threading.Thread | None = None
        self._blocked_on: object = None
        self._deadline_s: float | None = None
        self._interruptible = False
        self._interruption: BaseException | None = None

    def __repr__(self) -> str:
        return self.name

    @property
    def thread_id(self) -> int:
        """What `Scheduler.thread_id` returns in it."""
        return self.number + 1


class Scheduler(Door):
    """A `Door` whose threads, locks and clock *strategy* rules.  Used as a context manager: leaving it ends all tasks.

    A spawned task that was never run is a SchedulerError then: nothing of it was tried.
    Every switch is noted in *journal*, which takes time.
    """

    def __init__(
        self,
        strategy: Strategy,
        *,
        preempt: Iterable[Preemptible] = (),
        journal: list[str] | None = None,
        stuck_s: float = STUCK_S,
    ) -> None:
        self.point_count: int = 0
        self.fingerprint: int = 0
        """Equal for equal sequences of switches."""
        self.error: BaseException | None = None
        """What the first task raised that failed."""
        self._strategy = strategy
        self._journal = journal
        self._preemption = Preemption(preempt, self._at_instruction)
        self._stuck_s = stuck_s
        self._tasks: list[Task] = []
        self._runnable: list[Task] = []
        """Those that do not wait, in the order of birth.  Replaced, never changed, when one begins or ends to wait."""
        self._running: Task | None = None
        self._controller = threading.Lock()
        self._controller.acquire()
        self._is_entered = False
        self._stopping = False
        self._now_s = 0.0

    # -- tasks -------------------------------------------------------------------------------------------

    def spawn(self, name: str, run: Callable[[], Any], *, signals: bool = False) -> Task:
        """A new task, which starts with `run`.  With *signals* it stands for the main thread, where Ctrl-C arrives."""
        return self._add(Task(len(self._tasks), name, run, background=False, signals=signals))

    def run(self) -> None:
        """Let the tasks go on until none can.  May be called again after more were spawned, or woken.

        Raises: what a task raised; `Deadlock` if a spawned task has not ended, or one in the background waits in vain
        for a lock; `Livelock`; `Stuck`, after which no task goes on.
        """
        if self._stopping and self.error is not None:
            raise self.error
        first = self._next(None)
        if first is not None:
            self._note("the scenario", "to let them run", first)
            self._give_turn(first)
            if (stuck := self._acquire(self._controller)) is not None:
                self.error, self._stopping = self._stuck(stuck), True
        if self.error is not None:
            raise self.error
        waiting = [task for task in self._tasks if not task.done]
        if any(not task.background or _is_locked_out(task) for task in waiting):
            raise Deadlock("\n  ".join(["nobody is left to wake:", *map(_where, waiting)]))

    def switch(self, where: str = "switch") -> None:
        """A point of the scenario's own: another task may go on here.  Outside tasks it does nothing."""
        if self._running is not None:
            self._point(self._running, where)

    def interrupt(self, task: Task, error: BaseException) -> None:
        """Let *task* raise *error* out of the wait it is in, or the next one: also when it has been woken already.

        A task with *signals* raises it, in functions of *preempt*, wherever CPython runs signal handlers.
        """
        task._interruption = error
        if task._interruptible:
            self._set_blocked(task, None)
        self.switch("interrupt")

    def __enter__(self) -> Scheduler:
        if self._is_entered:
            raise RuntimeError(f"a {type(self).__name__} is used once: make another one")
        self._is_entered = True
        self._preemption.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        unrun = [task.name for task in self._tasks if task._thread is None and not task.background]
        stuck = self._running  # it ends by itself, at its next point, should it come to one
        self._stopping = True
        hangs: Task | None = None
        for task in self._tasks:
            if task._thread is None:
                continue
            if not task.done:
                self._running = task
                with suppress(RuntimeError):  # it has its turn: the stuck one was about to hand it over
                    task._turn.release()
            if task is not stuck and hangs is None:
                task._thread.join(self._stuck_s)
                hangs = task if task._thread.is_alive() else None
        left = hangs or stuck
        self._running = None if left is None or left.done else left
        self._preemption.__exit__(kind, error, trace)
        # What is tested refers to us, and should not thereby refer to what the tasks use.
        self._tasks, self._runnable = [], []
        if hangs is not None and not isinstance(self.error, Stuck):
            raise self._stuck(hangs)
        if isinstance(error, _Stopped) and self.error is not None:  # whatever cleaned up after it came to a point
            raise self.error from None
        if unrun and error is None and self.error is None:
            raise SchedulerError(f"spawned, and never run: {', '.join(unrun)}; run() comes after the last spawn")

    # -- the door ----------------------------------------------------------------------------------------

    def reentrant_lock(self) -> _Lock:
        """As `lock`: none of its threads has a finalizer or a signal handler that writes."""
        return self.lock()

    def is_owned(self, lock: object) -> bool:
        """No, for the same reason."""
        return False

    def lock(self) -> _Lock:
        """A lock whose holder and waiters are tasks."""
        return _Lock(self)

    def waiter(self) -> _Waiter:
        """A waiter for which a task waits."""
        return _Waiter(self)

    def start_thread(self, name: str, run: Callable[[], None]) -> None:
        """A task in the background."""
        self._add(Task(len(self._tasks), name, run, background=True, signals=False))
        self.switch("start_thread")

    def thread_id(self) -> int:
        """That of the running task; 0 outside tasks."""
        return self._running.thread_id if self._running else 0

    def signals_arrive_here(self) -> bool:
        """Whether the running task was spawned with *signals*."""
        return self._running is not None and self._running.signals

    def now_s(self) -> float:
        """Virtual seconds since the start."""
        return self._now_s

    def sleep(self, delay_s: float) -> None:
        """Let others run for *delay_s* virtual seconds."""
        deadline_s = self._now_s + delay_s
        while self._now_s < deadline_s:
            self._block("the clock", deadline_s=deadline_s, interruptible=True)

    # -- who goes on -------------------------------------------------------------------------------------
    # Everything here is run by whoever has the turn, and so needs no lock.

    def _add(self, task: Task) -> Task:
        self._tasks.append(task)
        self._set_blocked(task, None)
        return task

    def _next(self, running: Task | None) -> Task | None:
        """Who goes on, or None if nobody can."""
        self.point_count += 1
        if self.point_count > POINTS_MAX:
            raise Livelock(f"no end after {POINTS_MAX} points")
        if not self._runnable:
            self._advance_clock()
            if not self._runnable:
                return None
        can_go_on = running is not None and running._blocked_on is None
        return self._strategy.choose(running if can_go_on else None, self._runnable)

    def _advance_clock(self) -> None:
        """To the time at which the next sleeper wakes."""
        sleeping = [task for task in self._tasks if task._deadline_s is not None]
        self._now_s = max(self._now_s, min((task._deadline_s or 0.0 for task in sleeping), default=0.0))
        for task in sleeping:
            if (task._deadline_s or 0.0) <= self._now_s:
                self._set_blocked(task, None)

    def _set_blocked(self, task: Task, on: object) -> None:
        task._blocked_on = on
        self._runnable = [task for task in self._tasks if task._blocked_on is None]

    def _point(self, me: Task, where: object) -> None:
        """Let whoever is chosen go on, until it is *me* again.  *where*: words, a frame, or what *me* waits for."""
        if self._stopping:
            raise _Stopped
        chosen = self._next(me)
        if chosen is me:
            return
        self._note(me, where, chosen)
        self._give_turn(chosen)
        if not me.done:
            me._turn.acquire()
            if self._stopping:
                raise _Stopped

    def _block(self, on: object, *, deadline_s: float | None = None, interruptible: bool = False) -> None:
        """Not to go on until unblocked, interrupted, or the time has come: the caller looks which."""
        me = self._running
        if me is None:
            raise Deadlock(f"outside the tasks nobody waits, not even for {on}")
        self._set_blocked(me, on)
        me._deadline_s, me._interruptible = deadline_s, interruptible
        try:
            self._raise_interruption(me)
            self._point(me, on)
            self._raise_interruption(me)
        finally:
            me._deadline_s, me._interruptible = None, False
            self._set_blocked(me, None)

    def _unblock(self, on: object) -> None:
        for task in self._tasks:
            if task._blocked_on is on:
                self._set_blocked(task, None)

    def _raise_interruption(self, me: Task) -> None:
        if me._interruption is not None and me._interruptible:
            error, me._interruption = me._interruption, None
            raise error

    def _give_turn(self, task: Task | None) -> None:
        self._running = task
        if task is None:
            self._controller.release()
            return
        if task._thread is None:
            task._thread = threading.Thread(target=self._main, args=(task,), name=f"task {task.name}", daemon=True)
            task._thread.start()
        task._turn.release()

    def _acquire(self, turn: threading.Lock) -> Task | None:
        """Wait until *turn* is given; or who runs, if he has not come to a point for so long."""
        seen, looks = (self.point_count, self.fingerprint), 0
        while not turn.acquire(timeout=self._stuck_s / _LOOKS):
            now = self.point_count, self.fingerprint
            looks, seen = looks + 1 if now == seen else 0, now
            if looks >= _LOOKS and self._running is not None:
                return self._running
        return None

    def _stuck(self, task: Task) -> Stuck:
        return Stuck(f"for {self._stuck_s:g} s no point was reached by {_where(task)}")

    def _main(self, task: Task) -> None:
        task._turn.acquire()
        try:
            with self._preemption.in_this_thread():
                task.result = task._run()
        except _Stopped:
            pass
        except BaseException as error:  # raised again by run()
            self.error = self.error or error
        task.done = True
        self._set_blocked(task, "its end")
        if self._stopping:
            return  # nobody waits for the turn, but for the end of this thread
        try:
            if self.error is None:
                self._point(task, "at its end")
            else:
                self._give_turn(None)
        except _Stopped:
            pass
        except SchedulerError as error:
            self.error = error
            self._give_turn(None)

    def _note(self, me: Task | str, where: object, chosen: Task | None) -> None:
        self.fingerprint = hash((self.fingerprint, self.point_count, chosen.number if chosen else -1))
        if self._journal is not None:
            place = at_instruction(where) if isinstance(where, FrameType) else where
            stops = f"stops {place}" if isinstance(place, str) else f"waits for {place}"
            goes_on = f"{chosen} goes on" if chosen else "nobody can go on"
            self._journal.append(f"{self.point_count:6}  {me} {stops}; {goes_on}")

    def _at_instruction(self, frame: FrameType, is_shared: bool, runs_handlers: bool) -> None:
        me = self._running
        if me is None:
            return
        if is_shared:
            self._point(me, frame)
        if runs_handlers and me.signals and me._interruption is not None:
            error, me._interruption = me._interruption, None
            raise error


# -- the door's parts --------------------------------------------------------------------------------------


class _Lock:
    """Mutual exclusion; whoever is chosen first gets it, as with the system's."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._owner: Task | str | None = None

    def __repr__(self) -> str:
        return f"a lock held by {self._owner}" if self._owner else "a lock that is free"

    def __enter__(self) -> bool:
        scheduler = self._scheduler
        scheduler.switch("before a lock")
        while self._owner is not None:
            me = scheduler._running
            scheduler._block(self, interruptible=me is not None and me.signals)
        self._owner = scheduler._running or "the scenario"
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._owner = None
        self._scheduler._unblock(self)
        self._scheduler.switch("after a lock")


class _Waiter:
    """One appointment; keeps both sides to the contract of `mm.sync.Waiter`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._woken = False

    def __repr__(self) -> str:
        return "a waiter that was woken" if self._woken else "a waiter that nobody has woken"

    def wait(self, timeout_s: float | None = None) -> bool:
        scheduler = self._scheduler
        deadline_s = None if timeout_s is None else scheduler._now_s + timeout_s
        scheduler.switch("before a wait")
        while not self._woken:
            if deadline_s is not None and scheduler._now_s >= deadline_s:
                return False
            scheduler._block(self, deadline_s=deadline_s, interruptible=True)
        if scheduler._running is not None:  # woken, and interrupted before it ran
            scheduler._running._interruptible = True
            try:
                scheduler._raise_interruption(scheduler._running)
            finally:
                scheduler._running._interruptible = False
        return True

    def wake(self) -> None:
        if self._woken:
            raise SchedulerError("a waiter is woken at most once")
        self._woken = True
        self._scheduler._unblock(self)
        self._scheduler.switch("after a wake")


def _is_locked_out(task: Task) -> bool:
    """Whether *task* waits for a lock whose holder has ended, or waits for a lock in turn, round in a circle.

    Who waits for a waiter is idle, or held up by the scenario, which may wake him and run him again.
    """
    line = [task]
    while isinstance(line[-1]._blocked_on, _Lock):
        owner = line[-1]._blocked_on._owner
        if not isinstance(owner, Task):  # the scenario has it
            return False
        if owner.done or owner in line:
            return True
        line.append(owner)
    return False


# -- what to say -------------------------------------------------------------------------------------------


def _where(task: Task) -> str:
    """What a task waits for, and the code that waits."""
    ident = task._thread.ident if task._thread else None
    frame = sys._current_frames().get(ident) if ident else None
    own = {__file__, threading.__file__}
    calls = [f"{call.name}, line {call.lineno}" for call in traceback.extract_stack(frame) if call.filename not in own]
    waits = f"waits for {task._blocked_on}" if task._blocked_on is not None else "runs"
    return f"{task.name}, which {waits} in {' > '.join(calls[-6:]) or '?'}"
