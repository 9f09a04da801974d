"""Running what must not be interrupted where no signal can interrupt it.

Guarantees: whatever `shielded` runs either completes or fails by itself.  If Ctrl-C interrupts the caller, who
only waits, the work goes on, for the other readers it may serve, and what it returns is given back (*undo*).
Why: a signal handler may raise between any two lines of the main thread, also inside ``with lock:``.  No care
in the code can close every gap, so the code that holds page locks does not run on that thread at all.
Assumes: nothing about which thread a store's code runs on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar, cast

from ..errors import closed_cache
from .sync import Door, Waiter

T = TypeVar("T")

WORKERS_MAX = 64
"""Threads at most.  Only calls from threads that get signals come here, one at a time from each, so more than a
few means that many were interrupted and their stores have not answered yet.  Beyond, calls wait in line."""

QUEUED_MAX = 1024
"""Calls that nobody waits for, at most, in line."""

IDLE_S = 10.0
"""A worker that had nothing to do for so long ends."""


class Workqueue:
    """Daemon threads, started when work finds none idle, that end with `close`."""

    def __init__(self, door: Door, name: str) -> None:
        self._door = door
        self._name = name
        self._lock = door.lock()
        self._holder: int | None = None
        self._queued: deque[_Work[object]] = deque()
        self._idle: deque[Waiter] = deque()
        self._worker_count = 0
        self._closed = False

    def shielded(self, run: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
        """The result of ``run()``, called by a worker if a signal may raise in the calling thread, else here.

        Blocks: interruptibly.  Raises: what *run* raises, the very same exception.
        """
        if not self._door.signals_arrive_here():
            return run()
        work = _Work(run, undo, self._door.waiter())
        try:
            self._submit(work)  # a worker may have it by the time a signal raises in here
            work.done.wait()
            if work.error is None:
                return cast("T", work.result)
        except BaseException:
            with self._lock:
                work.abandoned, finished = True, work.finished
            if finished:
                work.give_back()
            raise
        try:
            raise work.error
        finally:
            work.error = None  # its traceback refers to this frame: no cycle

    def start(self, run: Callable[[], object]) -> None:
        """Call ``run()`` on a worker and do not wait; advice, so it is not taken while `QUEUED_MAX` others wait.

        What it raises is nobody's: a reader that needs it will ask again, and hear.
        """
        if len(self._queued) >= QUEUED_MAX:
            return
        work = _Work(run, None, self._door.waiter())
        work.abandoned = True
        self._submit(work)

    @property
    def busy_here(self) -> bool:
        """Whether the calling thread is inside one of our methods (as a finalizer may find itself)."""
        return self._holder == self._door.thread_id()

    def close(self) -> None:
        """Let the workers end once they have nothing to do."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, deque()
        for waiter in idle:
            waiter.wake()

    def _submit(self, work: _Work[T]) -> None:
        # A plain lock: `with` takes it in one step, so that no signal can raise while it is held and forgotten.
        with self._lock:
            self._holder = self._door.thread_id()
            try:
                if self._closed:
                    raise closed_cache()
                self._queued.append(cast("_Work[object]", work))
                waiter = self._idle.popleft() if self._idle else None
                start = waiter is None and self._worker_count < WORKERS_MAX
                self._worker_count += start
                number = self._worker_count
            finally:
                self._holder = None
        if waiter:
            waiter.wake()
        elif start:
            self._door.start_thread(f"{self._name}-{number}", self._serve)

    def _serve(self) -> None:
        while True:
            waiter = self._door.waiter()
            with self._lock:
                work = self._queued.popleft() if self._queued else None
                if work is None:
                    if self._closed:
                        return
                    self._idle.append(waiter)
            if work is None:
                if not waiter.wait(IDLE_S) and self._retire(waiter):
                    return
                continue
            work.perform()
            with self._lock:
                work.finished, abandoned = True, work.abandoned
            if abandoned:
                work.give_back()
            else:
                work.done.wake()
            del work  # an idle worker keeps no result, and no exception, alive

    def _retire(self, waiter: Waiter) -> bool:
        """End an idle worker, unless work was handed to it while its time ran out."""
        with self._lock:
            if waiter not in self._idle:
                return False
            self._idle.remove(waiter)
            self._worker_count -= 1
            return True


class _Work(Generic[T]):
    """One call: either its caller takes the result, or, once abandoned, whoever comes last gives it back."""

    __slots__ = ("abandoned", "done", "error", "finished", "result", "run", "undo")

    def __init__(self, run: Callable[[], T], undo: Callable[[T], object] | None, done: Waiter) -> None:
        self.run = run
        self.undo = undo
        self.done = done
        self.result: T | None = None
        self.error: BaseException | None = None
        self.finished = self.abandoned = False

    def perform(self) -> None:
        try:
            self.result = self.run()
        except BaseException as error:  # kept for the caller, who raises it
            self.error = error

    def give_back(self) -> None:
        if self.undo and self.error is None:
            self.undo(cast(T, self.result))
