"""A clock that passes when everybody waits: tests of slow stores that take no time, and the same time each time.

    with VirtualClock() as clock, PageCache("64 MiB", door=clock) as cache:
        store = SimulatedStore({"a": 64 << 20}, Link(latency_s=0.1), clock=clock)
        file = cache.open((store, "a"))
        first, second = clock.together(lambda: file.pread(4096, 0), lambda: file.pread(4096, 1 << 20))
    assert clock.now_s() < 1

Guarantees: one thread runs at a time, until it waits; time passes only when all of them wait, and then at once up to
the moment that the first waits for.  The same program gives the same run.  If nobody is left who could wake the
caller, he gets `Deadlock`.
Assumes: caches are opened and closed within, and what they use waits through the clock: no asyncio.
Not here: other orders in which threads might run (explore.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar

from ..mm.sync import Waiter
from .schedule.scheduler import STUCK_S, Deadlock, Scheduler, Stuck, Task, _Stopped, _where

T = TypeVar("T")


class _InTurn:
    """Whoever runs goes on while he can; then, who began first."""

    def choose(self, running: Task | None, runnable: Sequence[Task]) -> Task:
        return running or runnable[0]


class VirtualClock(Scheduler):
    """A `Door` for `PageCache`, of which the calling thread is a task itself.  Used as a context manager, once."""

    def __init__(self, *, stuck_s: float = STUCK_S) -> None:
        super().__init__(_InTurn(), stuck_s=stuck_s)
        self._caller: Task | None = None
        self._broke_off: BaseException | None = None

    def together(self, *calls: Callable[[], T]) -> list[T]:
        """What *calls* return, each run by a thread of its own.  Raises: what the first of them raised, after all have
        ended."""
        errors: list[BaseException | None] = [None] * len(calls)
        results: list[Any] = [None] * len(calls)

        def run(number: int, ended: Waiter) -> None:
            try:
                results[number] = calls[number]()
            except _Stopped:
                raise
            except BaseException as error:
                errors[number] = error
            ended.wake()

        waiters = [self.waiter() for _ in calls]
        for number, ended in enumerate(waiters):
            self.spawn(f"call {number}", lambda number=number, ended=ended: run(number, ended))  # type: ignore[misc]
        for ended in waiters:
            ended.wait()
        failed = next((error for error in errors if error is not None), None)
        errors.clear()
        if failed is None:
            return results
        try:
            raise failed
        finally:
            del failed  # its traceback refers to this frame: no cycle

    def switch(self, where: str = "switch") -> None:
        """Nothing: whoever runs goes on."""

    def __enter__(self) -> VirtualClock:
        super().__enter__()
        self._caller = self.spawn("the test", lambda: None)
        self._caller._thread = threading.current_thread()
        self._caller._turn = _CallersTurn(self)  # type: ignore[assignment]
        self._running = self._caller
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tasks = [task for task in self._tasks if task is not self._caller]
        super().__exit__(kind, error, trace)
        self._running = self._caller = None
        if self._broke_off is not None:
            raise self._broke_off from None

    def _give_turn(self, task: Task | None) -> None:
        if task is None and not self._stopping and self._caller is not None:
            task = self._caller
            self._wake_with(task, self.error or Deadlock(self._who_waits()))
        if task is not None and not task.background:
            self.point_count = 0  # it goes on, whatever those in the background do
        super()._give_turn(task)

    def _wake_with(self, task: Task, error: BaseException) -> None:
        task._interruption, task._interruptible = error, True
        self.error: BaseException | None = None
        self._set_blocked(task, None)

    def _who_waits(self) -> str:
        waiting = [task for task in self._tasks if not task.done and not task.background]
        return "\n  ".join(["nobody is left to wake:", *map(_where, waiting)])

    def _wait_for_turn(self, turn: threading.Lock) -> None:
        try:
            if (stuck := self._acquire(turn)) is not None:
                raise Stuck(f"for {self._stuck_s:g} s {_where(stuck)}, and waits not through the clock")
        except BaseException as error:  # Ctrl-C, too: some other thread runs, and nobody waits for its turn any more
            self._broke_off, self._stopping = error, True
            raise


class _CallersTurn:
    """As the lock that it has, but that whoever waits for it looks up now and then."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._lock.acquire()

    def acquire(self) -> None:
        self._clock._wait_for_turn(self._lock)

    def release(self) -> None:
        self._lock.release()
