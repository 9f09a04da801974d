"""Threads that work for others: running what must not be interrupted, what blocks, and what waits without a thread.

Guarantees: whatever `shielded` runs either completes or fails by itself.  If Ctrl-C interrupts the caller, who
only waits, the work goes on, for the other readers it may serve, and what it returns is given back (*undo*).
Why: a signal handler may raise between any two lines of the main thread, also inside ``with lock:``.  No care
in the code can close every gap, so the code that holds page locks does not run on that thread at all.
`run_detached` runs steps (sync.py) of which each wait costs no thread: what wakes them hands them to a worker again.
An errand of those for which a caller waits is done by the worker that has brought them there: he has a thread to spare.
No lock: each method takes single steps on deques, which a signal handler or a finalizer may interrupt, and call again.
The race: who submits puts the work into the line first and looks for an idle worker then; a worker says that it is idle
first and looks at the line then.  In any order one of the two sees the other.
Assumes: what a worker runs does not wait for another call of the same queue, but for one that has begun (`in_order`).
Not here: how many requests a store gets at once (device.py).
"""

from __future__ import annotations

import _thread
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar, cast

from ..errors import closed_cache, shutting_down
from .outcome import InOrder, Once, Outcome
from .sync import (
    HERE,
    Door,
    Errand,
    MakeWaiter,
    Runner,
    Steps,
    Waiter,
    come_out_to,
    go_in,
    inside,
    is_inside,
    resting,
    run_steps,
)

T = TypeVar("T")

WORKERS_MAX = 64
"""Threads at most.  Beyond, calls wait in line."""

LENT_MAX = WORKERS_MAX // 2
"""So many of them at most are on errands: where a caller was interrupted, perhaps until the store gives up."""

IDLE_S = 10.0
"""A worker that had nothing to do for so long ends."""

MakeSteps = Callable[[MakeWaiter], Steps[T]]
Done = Callable[[T | None, BaseException | None], object]
"""Is told the result, or the error."""


class Workqueue:
    """Daemon threads, started when work finds none idle, that end with `close`."""

    def __init__(self, door: Door, name: str, *, workers_max: int = WORKERS_MAX) -> None:
        self._door = door
        self._name = name
        self._workers_max = workers_max
        self._queued: deque[Callable[[], object]] = deque()
        self._idle: deque[Waiter] = deque()
        self._vacancies: deque[int] = deque(range(1, workers_max + 1))
        """The numbers of the workers that are not there."""
        self._to_lend = deque([True] * min(LENT_MAX, workers_max))
        """A token for each worker that may go on an errand."""
        self._starting: deque[int] = deque()
        """The numbers of those that were started, and have neither taken work nor said that they are idle."""
        self._to_prepare = deque([True])
        """A token for who has workers started beforehand: one at a time, or each would have his own started."""
        self._are_more_wanted = False
        """Whether somebody has found that there are too few since they were counted."""
        self._closed = False

    # -- for a caller who waits ------------------------------------------------------------------------

    def shielded(self, run: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
        """The result of ``run()``, called by a worker if a signal may raise in the calling thread, else here.

        Blocks: interruptibly.  Raises: what *run* raises, the very same exception.
        """
        if not self._door.signals_arrive_here():
            with inside():
                return run()
        return self._wait_for(lambda outcome: self.start(lambda: outcome.settle_with(run)), undo)

    def shielded_steps(self, make_steps: MakeSteps[T], undo: Callable[[T], object] | None = None) -> T:
        """As `shielded`, for steps; no worker waits with them, but one does their errands."""
        if not self._door.signals_arrive_here():
            return run_steps(make_steps(self._door.waiter))

        def begin(outcome: Outcome[T]) -> None:
            self.start(lambda: self.begin(make_steps, outcome.settle, lends=True))

        return self._wait_for(begin, undo)

    def in_order(self, change: InOrder[T], undo: Callable[[T], object] | None = None, *, blocks: bool = False) -> T:
        """As `shielded_steps`, but not before what others have abandoned (outcome.py).  *blocks*: a worker waits with
        the steps."""
        if not self._door.signals_arrive_here():
            try:
                return run_steps(change.steps(self._door.waiter))
            finally:
                self.kick_if_possible()  # for whoever waits for what was called off

        def begin(outcome: Outcome[T]) -> None:
            outcome.lines, outcome.key = change.lines, change.key
            for line in change.lines:
                line.append(outcome)
            self.start(lambda: self._begin_in_order(outcome, partial(change.steps, own=outcome), blocks))

        return self._wait_for(begin, undo)

    def _begin_in_order(self, outcome: Outcome[T], make_steps: MakeSteps[T], blocks: bool) -> None:
        if not outcome.is_to_begin():  # it was called off
            return
        if blocks:
            outcome.settle_with(lambda: run_steps(make_steps(self._door.waiter)))
        else:
            self.begin(make_steps, outcome.settle, lends=True)

    def _wait_for(self, begin: Callable[[Outcome[T]], object], undo: Callable[[T], object] | None = None) -> T:
        outcome = Outcome(self._door.waiter(), undo)
        try:
            begin(outcome)  # a worker may have it by the time a signal raises in here
            outcome.done.wait()
            if outcome.error is None:
                return cast("T", outcome.result)
        except BaseException:
            outcome.is_abandoned = True  # no call: until this is said no signal handler comes in
            outcome.abandon()
            self.kick()  # the signal may have come after the work was put into the line, and before anybody was told
            raise
        try:
            raise outcome.error
        finally:
            outcome.error = None  # its traceback refers to this frame: no cycle

    # -- for a caller who goes on ------------------------------------------------------------------------

    def start(self, run: Callable[[], object]) -> None:
        """Call ``run()`` on a worker; it has to keep what it raises.

        Raises: ValueError if the queue was closed; RuntimeError if no thread can be started.
        """
        if self._closed:
            raise closed_cache()
        self._queued.append(run)
        try:
            self.kick()
        except RuntimeError:
            if self._take_back(run):
                raise

    def run_detached(self, make_steps: MakeSteps[T], done: Done[T]) -> None:
        """Run steps on workers, none of which waits with them; then call ``done(result, error)`` on one.

        Raises: ValueError if the queue was closed; RuntimeError if no thread can be started.
        """
        self.start(lambda: self.begin(make_steps, done))

    def begin(self, make_steps: MakeSteps[T], done: Done[T], *, lends: bool = False) -> None:
        """As `run_detached`, by a worker who begins them himself: up to their first wait.  *lends*: he does errands."""
        detached = _Detached(self, done, lends=lends)
        detached.steps = make_steps(detached.waiter)
        detached.advance()

    def do_errand(self, errand: Errand) -> None:
        """By the calling worker, unless too many are on errands.  (Taking a token is one step of a deque.)"""
        try:
            token = self._to_lend.pop()
        except IndexError:
            errand.start()
            return
        try:
            errand.wait()
        finally:
            self._to_lend.append(token)

    def put(self, run: Callable[[], object]) -> None:
        """Put work into the line, and tell nobody: `kick` does, once the caller holds no lock.

        Also in a queue that was closed: what was begun has to end, and say that the cache was closed.
        """
        self._queued.append(run)

    def kick(self) -> None:
        """See to it that the line is worked off.  Raises: RuntimeError if nobody can, and no thread is to be had."""
        if not self._queued:
            return
        try:
            waiter = self._idle.popleft()
        except IndexError:
            self._start_worker()
        else:
            waiter.wake()

    def kick_if_possible(self) -> None:
        """As `kick`; but if no thread is to be had now, what is in the line waits for the next who comes by.

        Raises: RuntimeError if the interpreter has ended, and the caller is inside the core, where he may be about to
        wait for what nobody does any more.  (Who is outside was only passing by: steps that are let go of unfinished
        leave their lines, and that would be told as an exception that is ignored.)
        """
        try:
            self.kick()
        except RuntimeError:
            if self._door.is_finalizing() and is_inside():
                raise

    def prepare(self, count: int) -> None:
        """Have so many workers idle soon, while the caller waits for something else: to start one takes two switches
        of threads.  Those on their way count, so that any number of callers have so many, together.  Blocks: no."""

        def start_them() -> None:
            while True:
                self._are_more_wanted = False  # before they are counted
                try:
                    are_started = all(self._start_worker() for _ in range(count - self._ready_count()))
                except RuntimeError:  # no thread is to be had: who needs one will hear
                    are_started = False
                finally:
                    self._to_prepare.append(True)
                # Those that he counted on may have taken work meanwhile, whose caller found no token.
                if not (are_started and self._are_more_wanted and self._takes_token()):
                    return

        if self._ready_count() >= count:
            return
        self._are_more_wanted = True  # first: who has the token looks at it after he has given it back
        if not self._takes_token():
            return
        try:
            self.start(start_them)
        except (ValueError, RuntimeError):
            self._to_prepare.append(True)

    def _ready_count(self) -> int:
        """How many have nothing to do, or are on their way, counted twice rather than not at all: one who has begun
        says that he is idle first, and then that he is no longer on his way."""
        return len(self._starting) + len(self._idle)

    def _takes_token(self) -> bool:
        try:
            self._to_prepare.pop()
        except IndexError:
            return False
        return True

    @property
    def queued_count(self) -> int:
        """How many calls no worker has taken yet."""
        return len(self._queued)

    @property
    def is_short(self) -> bool:
        """Whether something waits until a worker is done: there are as many as there may be."""
        return bool(self._queued) and not self._vacancies

    def close(self) -> None:
        """Let the workers end once they have nothing to do."""
        self._closed = True
        while self._idle:
            try:
                self._idle.popleft().wake()
            except IndexError:  # it has just ended by itself, or been given work
                return

    def forget_workers(self) -> None:
        """The interpreter has ended: those who are idle do not run any more, and nothing is to be left to them."""
        self._idle.clear()

    # -- workers -----------------------------------------------------------------------------------------

    def _start_worker(self) -> bool:
        """Whether one more is on its way.  Raises: RuntimeError if none can be had, and none is there."""
        if self._door.is_finalizing():
            raise shutting_down()  # a thread that is started now does not run any more
        try:
            number = self._vacancies.popleft()
        except IndexError:  # enough of them: whoever is done first looks at the line
            return False
        self._starting.append(number)
        try:
            self._door.start_thread(f"{self._name}-{number}", lambda: self._serve(number))
        except RuntimeError as error:
            self._has_started(number)
            self._vacancies.append(number)
            # At the end of a program there may be no more threads (3.12), while others still run: who
            # asks may be the only worker, and would wait for himself.
            if len(self._vacancies) == self._workers_max or "shutdown" in str(error):
                raise
            return False
        return True

    def _serve(self, number: int) -> None:
        with inside():  # between any two lines it may have what others wait for
            self._serve_inside(number)

    def _serve_inside(self, number: int) -> None:
        try:
            while (run := self._next(number)) is not None:
                run()
                del run  # an idle worker keeps no result, and no exception, alive
        finally:  # also after a mistake of ours, of which the thread tells before another takes its place
            self._vacancies.append(number)
            self.kick()  # who put something into the line since may have seen all numbers taken

    def _has_started(self, number: int) -> None:
        with suppress(ValueError):
            self._starting.remove(number)

    def _next(self, number: int) -> Callable[[], object] | None:
        """What to call next; None to end."""
        while True:
            try:
                run = self._queued.popleft()
            except IndexError:
                if self._closed:
                    return None
            else:
                if self._starting:
                    self._has_started(number)
                return run
            waiter = self._door.waiter()
            self._idle.append(waiter)
            if self._starting:
                self._has_started(number)
            if (self._queued or self._closed) and self._is_idle_no_more(waiter):
                continue
            with resting():
                is_woken = waiter.wait(IDLE_S)
            if not is_woken and self._is_idle_no_more(waiter):
                return None
            # Else somebody took the waiter and has woken it, or is about to.

    def _is_idle_no_more(self, waiter: Waiter) -> bool:
        try:
            self._idle.remove(waiter)
        except ValueError:
            return False
        return True

    def _take_back(self, run: Callable[[], object]) -> bool:
        try:
            self._queued.remove(run)
        except ValueError:
            return False
        return True


class _Detached(Runner, Generic[T]):
    """Steps between two waits, while no thread runs them."""

    __slots__ = ("_done", "_lends", "_queue", "steps")

    def __init__(self, queue: Workqueue, done: Done[T], *, lends: bool) -> None:
        super().__init__()
        self._queue = queue
        self._done = done
        self._lends = lends
        self.steps: Steps[T] | None = None

    def waiter(self) -> Waiter:
        """One of several, perhaps: steps may wait for them in any order."""
        return _CallbackWaiter(self)

    def resume(self) -> None:
        """Called by who wakes, perhaps under the zone's lock, or by the worker that finds it woken already."""
        self._queue.put(self.advance)

    def advance(self) -> None:
        """Go on to the next wait, or to the end."""
        assert self.steps is not None
        depth = HERE.depth
        try:
            go_in()  # who begins them need not be a worker
            waiter = self._next_waiter(self.steps)
        except StopIteration as end:
            self._finish(end.value, None)
        except BaseException as error:  # for whoever waits for the result
            self._finish(None, error)
        else:
            waiter.wake()  # as the second of the two who meet there, or as the first
        finally:
            come_out_to(depth)

    def _next_waiter(self, steps: Steps[T]) -> Waiter:
        self.thread_id = _thread.get_ident()
        try:
            while isinstance(waiter := next(steps), Errand):
                if self._lends:
                    self._queue.do_errand(waiter)
                else:
                    waiter.start()
            return waiter
        finally:
            self.thread_id = None  # before it is woken: the next may run them then

    def _finish(self, result: T | None, error: BaseException | None) -> None:
        self.steps = None
        self._done(result, error)


class _CallbackWaiter:
    """An appointment of two: who wakes, and the worker that has brought the steps to their wait.  Whoever comes second
    lets them go on."""

    __slots__ = ("_detached", "_once")

    def __init__(self, detached: _Detached[Any]) -> None:
        self._detached = detached
        self._once = Once()

    def wake(self) -> None:
        if not self._once.is_first():
            self._detached.resume()

    def wait(self, timeout_s: float | None = None) -> bool:
        raise AssertionError("nobody waits here: the steps are called again")
