"""The one door to locks, waits, threads and time for everything in ``mm/``.

Guarantees: nothing in ``mm/`` imports ``threading`` or ``time``; whoever passes another `Door` to a `Zone`
(the deterministic scheduler of ``pagein.testing``, say) decides every switch between its threads.
Assumes: a `Waiter` is waited for by one thread and woken at most once.
Not here: the fair page lock, which is made of these parts (page.py).
"""

import _thread
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from ..errors import ContractViolation


class Lock(Protocol):
    """Mutual exclusion, not reentrant."""

    def locked(self) -> bool:
        """Whether somebody holds it, at this moment."""
        ...

    def __enter__(self) -> bool: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class Waiter(Protocol):
    """A thread's appointment: `wait` blocks until `wake` has been called, before or after."""

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until woken; False if *timeout_s* passed first."""
        ...

    def wake(self) -> None:
        """Let the waiter go on."""


class Door:
    """The operating system's threads, locks and clock.  A test passes a subclass to take them over."""

    def lock(self) -> Lock:
        """A new lock."""
        return _thread.allocate_lock()

    def waiter(self) -> Waiter:
        """A new one-shot waiter."""
        return _LockWaiter()

    def start_thread(self, name: str, run: Callable[[], None]) -> None:
        """Start a thread of this name.  It is a daemon: a store that never answers must not keep a process alive."""
        threading.Thread(target=run, name=name, daemon=True).start()

    def thread_id(self) -> int:
        """The calling thread."""
        return _thread.get_ident()

    def signals_arrive_here(self) -> bool:
        """Whether a signal handler (Ctrl-C) may raise between any two lines of the calling thread."""
        return threading.current_thread() is threading.main_thread()

    def now_s(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def sleep(self, delay_s: float) -> None:
        """Let others run for about *delay_s* seconds."""
        time.sleep(delay_s)


class _LockWaiter:
    """A lock taken at birth: waiting takes it again.  `Lock.acquire` lets signal handlers run, so a wait
    on the main thread is interruptible (PEP 475 retries it only if the handler does not raise)."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._lock.acquire()

    def wait(self, timeout_s: float | None = None) -> bool:
        return self._lock.acquire(timeout=-1 if timeout_s is None else timeout_s)

    def wake(self) -> None:
        self._lock.release()


SYSTEM = Door()


class OwnedLock:
    """A lock that knows whether the calling thread holds it.

    The garbage collector may run a finalizer, and that may call us, inside any of our locks: it must be able to
    tell.  Taking it again is a `ContractViolation`, not a deadlock.
    """

    __slots__ = ("_door", "_lock", "_name", "_owner")

    def __init__(self, name: str, door: Door) -> None:
        self._name = name
        self._lock = door.lock()
        self._door = door
        self._owner: int | None = None

    def held_here(self) -> bool:
        """Whether the calling thread holds it."""
        return self._owner == self._door.thread_id()

    def __enter__(self) -> bool:
        if self._owner == self._door.thread_id():
            raise ContractViolation("locks are taken in order, each once", f"{self._name}, taken under itself")
        self._lock.__enter__()
        self._owner = self._door.thread_id()
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._owner = None
        self._lock.__exit__(kind, error, trace)
