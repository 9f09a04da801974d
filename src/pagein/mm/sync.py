"""The one door to locks, waits, threads and time for everything in ``mm/``.

Guarantees: nothing in ``mm/`` imports ``threading`` or ``time``; whoever passes another `Door` to a `Zone`
(the deterministic scheduler of ``pagein.testing``, say) decides every switch between its threads.
Assumes: a `Waiter` is waited for by one thread and woken at most once.
Not here: the fair page lock, which is made of these parts (page.py).
"""

import _thread
import gc
import math
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Protocol, TypeVar

from ..errors import ContractViolation


class PerThread(threading.local):
    """What each thread of the system has of its own; gone when it ends."""


class _Here(PerThread):
    """Where in the core the calling thread is."""

    depth: int = 0
    """How deep (`is_inside`); and `STORE` for each operation of a store that it runs: a short way asks only once."""
    calling: tuple[object, ...] = ()
    """Of which mappings these operations are; for what is no mapping's, of which zone."""
    storing: tuple[object, ...] = ()
    """In which zones those of them are that store."""


STORE = 1 << 16
HERE = _Here()
SOMEBODY: dict[object, object] = {}
"""The threads whose `depth` is not 0, but for those that rest (`resting`), and a garbage collection: while there is
none, a short way need not ask where its own is, which takes a tenth of its time.  What one leaves behind that was cut
off costs only time.

No lock: each thread changes its own entry only, also without the GIL."""


class _Collection:
    """What is called around each garbage collection: `setattr`, with its phase and what is known of it.

    Before it runs a finalizer, which must not be taken for somebody outside in a thread that rests: he may wait for a
    file's position, which a writer may have who waits for just this thread.  No Python code of ours, in which the main
    thread would look for signals: CPython swallows what a handler raises there, and Ctrl-C would be lost.
    """

    __slots__ = ()
    start = property(None, SOMEBODY.__setitem__)
    stop = property(None, SOMEBODY.pop)  # type: ignore[arg-type]  # what it returns nobody asks for


gc.callbacks.append(partial(setattr, _Collection()))


def is_inside() -> bool:
    """Whether the calling thread is one of ours, has a lock of ours, or is about to take one, or runs steps (below),
    which may have those that are held for long.

    Only a finalizer can find this to be so: the garbage collector may run one anywhere, and it may call us.  What a
    store does for us is outside again (`outside`).
    """
    return HERE.depth % STORE > 0


def go_in() -> None:
    """The calling thread is about to have something that others wait for."""
    SOMEBODY[_thread.get_ident()] = None
    HERE.depth += 1


def come_out_to(depth: int) -> None:
    """It is where it was before."""
    HERE.depth = depth  # no call before: a signal that is raised in here leaves nothing behind
    if not depth:
        SOMEBODY.pop(_thread.get_ident(), None)


@contextmanager
def inside() -> Iterator[None]:
    """`go_in`, and out again."""
    depth = HERE.depth
    try:
        go_in()
        yield
    finally:
        come_out_to(depth)


@contextmanager
def resting() -> Iterator[None]:
    """A thread of ours waits for work: it has nothing, and runs nothing.

    What may run here all the same is a finalizer, right before or behind the wait: `_Collection` comes first.
    """
    SOMEBODY.pop(_thread.get_ident(), None)
    try:
        yield
    finally:
        SOMEBODY[_thread.get_ident()] = None


@contextmanager
def outside(what: object, *, stores_in: object = None) -> Iterator[None]:
    """The calling thread runs a store's code, for that mapping, or for something else in that zone: it may use other
    files of ours as anybody may.  *stores_in*: the zone whose pages may stay dirty until it returns."""
    depth, calling, storing = HERE.depth, HERE.calling, HERE.storing
    try:
        SOMEBODY[_thread.get_ident()] = None
        HERE.depth, HERE.calling = STORE * (len(calling) + 1), (*calling, what)
        if stores_in is not None:
            HERE.storing = (*storing, stores_in)
        yield
    finally:
        HERE.calling, HERE.storing = calling, storing
        come_out_to(depth)


def start_anew() -> None:
    """In a child of a fork, where only the calling thread is, and no lock of ours that it had."""
    SOMEBODY.clear()
    come_out_to(HERE.depth - HERE.depth % STORE)
    if HERE.depth:
        SOMEBODY[_thread.get_ident()] = None


class Lock(Protocol):
    """Mutual exclusion, not reentrant."""

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


T = TypeVar("T")

MakeWaiter = Callable[[], Waiter]
"""Who runs steps says what they wait with: a thread with `Door.waiter`, somebody without one with a callback."""


class Errand:
    """What steps yield to have something done that they would only wait for.  A thread that runs them does it itself,
    and is not switched to another and back; where none waits with them somebody else does, and they go on at once."""

    __slots__ = ("_do", "start")

    def __init__(self, do: Callable[[], object], start: Callable[[], object]) -> None:
        self._do = do
        self.start: Callable[[], object] = start
        """Have it done.  Blocks: no."""

    def wait(self, timeout_s: float | None = None) -> bool:
        """Do it here, however long it takes."""
        self._do()
        return True


Steps = Generator[Waiter | Errand, None, T]
"""Code that may have to wait, written once for threads and for those who cannot block: it yields each waiter that it
has made with the `MakeWaiter` it was given, goes on when that one was woken, and returns its result.  An exception that
comes while it waits is thrown in, so that it leaves nothing behind."""


class Runner:
    """Of steps that no thread waits with."""

    __slots__ = ("thread_id",)

    def __init__(self) -> None:
        self.thread_id: int | None = None
        """The thread that runs them at this moment."""


def run_steps(steps: Steps[T]) -> T:
    """Run steps to their end, blocking this thread where they wait."""
    depth = HERE.depth
    try:
        go_in()
        waiter = next(steps)
        while True:
            try:
                waiter.wait()
            except BaseException as error:  # an interrupted wait: the steps clean up, and pass it on
                waiter = steps.throw(error)
            else:
                waiter = next(steps)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        HERE.depth = depth  # no call before: a signal that is raised in here leaves nothing behind
        come_out_to(depth)


class Door:
    """The operating system's threads, locks and clock.  A test passes a subclass to take them over."""

    def is_finalizing(self) -> bool:
        """Whether the interpreter is ending: threads that are not the main one do not run any more."""
        return sys.is_finalizing()

    def lock(self) -> Lock:
        """A new lock."""
        return _thread.allocate_lock()

    def reentrant_lock(self) -> Lock:
        """A new lock that a thread may take again: a signal handler or a finalizer may come in between."""
        return threading.RLock()

    def is_owned(self, lock: Lock) -> bool:
        """Whether the calling thread holds a lock of `reentrant_lock`."""
        owned: bool = lock._is_owned()  # type: ignore[attr-defined]  # as threading.Condition asks it
        return owned

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
        """Whether a signal handler (Ctrl-C) may raise between any two lines of the calling thread, and another could
        work for it."""
        main = threading.main_thread()
        return threading.current_thread() is main and (main.is_alive() or _threads_are_to_be_had())

    def now_s(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def sleep(self, delay_s: float) -> None:
        """Let others run for about *delay_s* seconds."""
        time.sleep(delay_s)


def _threads_are_to_be_had() -> bool:
    """Whether one can be started when the program has ended, and what is registered with atexit runs: not in 3.12."""
    try:
        _thread.start_new_thread(int, ())
    except RuntimeError:
        return False
    return True


LOOK_UP_S = 0.2
"""How often the main thread looks up from a wait."""


class _LockWaiter:
    """A lock taken at birth: waiting takes it again.  `Lock.acquire` lets signal handlers run, so a wait
    on the main thread is interruptible (PEP 475 retries it only if the handler does not raise).

    But a signal that comes when CPython has looked for the last time, and has not entered the system call (it may wait
    there until another thread has taken the GIL), interrupts nothing: so the main thread looks up now and then.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._lock.acquire()

    def wait(self, timeout_s: float | None = None) -> bool:
        if not SYSTEM.signals_arrive_here():
            return self._lock.acquire(timeout=-1 if timeout_s is None else timeout_s)
        end_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = end_s - time.monotonic()
            if self._lock.acquire(timeout=max(0.0, min(left_s, LOOK_UP_S))):
                return True
            if left_s <= LOOK_UP_S:
                return False

    def wake(self) -> None:
        self._lock.release()


SYSTEM = Door()


class OwnedLock:
    """A lock whose holder is inside the core (`HERE`).

    Taking it again is a `ContractViolation`, not a deadlock.  *after* is called each time it has been released: what
    was decided under the lock is done there.
    """

    __slots__ = ("_after", "_door", "_lock", "_name", "_owner")

    def __init__(self, name: str, door: Door, *, after: Callable[[], object] | None = None) -> None:
        self._name = name
        self._lock = door.lock()
        self._door = door
        self._after = after
        self._owner: int | None = None

    def held_here(self) -> bool:
        """Whether the calling thread holds it."""
        return self._owner == self._door.thread_id()

    def __enter__(self) -> bool:
        here = self._door.thread_id()
        if self._owner == here:
            raise ContractViolation("locks are taken in order, each once", f"{self._name}, taken under itself")
        depth = HERE.depth
        if not depth:
            SOMEBODY[here] = None
        HERE.depth = depth + 1  # before it is taken: a finalizer may run in between
        try:
            self._lock.__enter__()
        except BaseException:
            come_out_to(depth)
            raise
        self._owner = here
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._owner = None
        self._lock.__exit__(kind, error, trace)
        depth = HERE.depth
        if depth % STORE > 1:
            HERE.depth = depth - 1
        elif depth % STORE:  # it is not in a child that was forked in there
            come_out_to(depth - 1)
        if self._after is not None:
            self._after()
