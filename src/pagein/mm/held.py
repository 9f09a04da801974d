"""Which of our locks a thread holds, and whether it may take another: with checks only.

Guarantees: a lock that is taken out of order (lockorder.py) raises `ContractViolation` before it is taken, which names
both and shows where the one was taken and where the other is; so does the second of two orders in which pages of two
mappings are locked together, whichever threads do that, and whether or not anybody ever waits.
Whose a lock is that may be handed on is asked of the lock: a page's owner, the holder of an ``i_rwsem``.
Inside a store's operation the thread starts anew: what its caller holds is not compared, but for the very same lock,
and for pages, since two stores that read through each other's files would wait for one another.
Source: Linux's lockdep.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterable, Sequence
from types import CodeType, FrameType, TracebackType
from typing import Any, NamedTuple

from ..errors import ContractViolation
from .lockorder import Rank
from .sync import SYSTEM, Door, Lock, OwnedLock, PerThread

FRAMES_MAX = 16
"""So many calls of a stack are shown."""

_OWN = (__file__, __file__.replace("held.py", "debug.py"))
"""What is not shown: the checks themselves."""

Stack = list[tuple[CodeType, int]]
"""Calls, the innermost first: the code, and the instruction."""


def stack_here(skip: int = 1) -> Stack:
    """Where the calling thread is.  Costs no more than walking there: lines are looked up when they are shown."""
    return _stack_from(sys._getframe(skip + 1))


def _stack_from(frame: FrameType | None) -> Stack:
    calls: Stack = []
    while frame is not None and len(calls) < FRAMES_MAX:
        calls.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return calls


def _shown(stack: Stack | FrameType) -> str:
    calls = stack if isinstance(stack, list) else _stack_from(stack)
    return "".join(
        f"\n    {code.co_filename}:{_line(code, at)} in {code.co_qualname}"
        for code, at in calls
        if code.co_filename not in _OWN
    )


def _line(code: CodeType, at: int) -> int:
    return next((line for start, stop, line in code.co_lines() if start <= at < stop and line), code.co_firstlineno)


class Hold(NamedTuple):
    """A lock that a thread has, or, without a rank, a border: what lies before it is not compared."""

    rank: Rank | None
    lock: Any
    name: str
    stack: Stack | FrameType
    """Where it was taken; of a lock that is given back by the frame that has taken it, that frame."""
    pages: tuple[Hold, ...] = ()
    """Of a border: the pages that were locked by who called."""


class _Here(PerThread):
    """What the calling thread holds, in the order in which it was taken."""

    def __init__(self) -> None:
        self.holds: list[Hold] = []
        self.depth = 0


_here = _Here()


def depth() -> int:
    """Inside how many operations of stores the calling thread is."""
    return _here.depth


def start_anew() -> None:
    """In a child of a fork: the locks of its only thread are the parent's."""
    global _orders_lock  # noqa: PLW0603
    _orders_lock = SYSTEM.reentrant_lock()
    _here.__init__()  # type: ignore[misc]


# -- taking one ----------------------------------------------------------------------------------------------


def about_to_take(rank: Rank, lock: object, name: str, *, pages: Sequence[Hold] = ()) -> None:
    """Raises: ContractViolation if the calling thread may not take it with what it has, *pages* among it."""
    holds = _here.holds
    if not (holds or pages):
        return
    is_below = False
    for hold in (*pages, *reversed(holds)):
        if hold.rank is None:
            is_below = True
        elif hold.lock is lock and _is_held(hold):
            raise violation("locks are taken in order, each once", f"{name}, taken under itself", hold)
        elif not (is_below or rank in hold.rank.all_below or (rank.nests and rank is hold.rank)) and _is_held(hold):
            allowed = " and ".join(below.name for below in hold.rank.below) or "nothing"
            clause = f"locks are taken in order: who holds {hold.rank.name} takes {allowed} next"
            raise violation(clause, f"{name}, taken with {hold.name} held", hold)


def taken(rank: Rank, lock: object, name: str, frame: FrameType | None = None) -> Hold:
    """The calling thread has it, until *frame*, which has taken it, gives it back; or for long."""
    hold = Hold(rank, lock, name, frame or stack_here())
    _here.holds.append(hold)
    return hold


def released(lock: object) -> None:
    """The calling thread has it no more."""
    holds = _here.holds
    for at in range(len(holds) - 1, -1, -1):
        if holds[at].lock is lock:
            del holds[at]
            return


def before_wait(operation: str) -> None:
    """Raises: ContractViolation if the calling thread has what nobody waits under."""
    for hold in reversed(_here.holds):
        if hold.rank is None:
            return
        if not hold.rank.across_waits and _is_held(hold):
            raise violation(f"nobody waits under {hold.rank.name}", f"{operation}, with {hold.name} held", hold)


def violation(clause: str, operation: str, hold: Hold) -> ContractViolation:
    """It names both, and shows both stacks."""
    return ContractViolation(
        clause, operation, f"\n  here:{_shown(stack_here())}\n  {hold.name} was taken here:{_shown(hold.stack)}"
    )


def _is_held(hold: Hold) -> bool:
    """Still; as the lock says that may be released by another thread, or in one step of C."""
    is_held = getattr(hold.lock, "is_held_as", None)
    return is_held is None or is_held(hold)


# -- a store's operation -------------------------------------------------------------------------------------


def enter(name: str, pages: Iterable[Hold] = ()) -> Hold:
    """From here on the calling thread runs a store's code, called with these *pages* locked; or it forks."""
    border = Hold(None, object(), name, [], tuple(pages))
    _here.holds.append(border)
    _here.depth += 1
    return border


def leave(border: Hold | None) -> None:
    """It has returned; None for the innermost.  Nothing to do in a child that it has forked."""
    holds = _here.holds
    for at in range(len(holds) - 1, -1, -1):
        if holds[at] is border or (border is None and holds[at].rank is None):
            _here.depth -= 1
            del holds[at:]
            return


def holds_here() -> list[Hold]:
    """What the calling thread has, since it runs the code of whom it runs now."""
    found: list[Hold] = []
    for hold in reversed(_here.holds):
        if hold.rank is None:
            break
        if _is_held(hold):
            found.append(hold)
    return found


def callers_pages() -> list[Hold]:
    """The pages that were locked by those who have called the store's code that the calling thread runs."""
    return [page for border in _here.holds if border.rank is None for page in border.pages]


# -- pages of two mappings, together -------------------------------------------------------------------------


class _Order(NamedTuple):
    """One was taken while another was held."""

    names: tuple[str, str]
    stacks: tuple[Stack | FrameType, Stack]


_orders: weakref.WeakKeyDictionary[Any, weakref.WeakKeyDictionary[Any, _Order]] = weakref.WeakKeyDictionary()
_orders_lock = SYSTEM.reentrant_lock()  # a finalizer may come in between


def note_order(hold: Hold, name: str, mapping: object) -> None:
    """A page of *mapping* is about to be locked with a page of another.  Raises: ContractViolation if they were locked
    the other way round before, also by way of others."""
    first = hold.lock.mapping
    with _orders_lock:
        after = _orders.setdefault(first, weakref.WeakKeyDictionary())
        if mapping in after:
            return
        path = _path(mapping, first)
        if path is None:
            after[mapping] = _Order((hold.name, name), (hold.stack, stack_here()))
            return
    before = "".join(
        f"\n  {first} was held before, taken here:{_shown(held_at)}"
        f"\n  and then {second} was taken here:{_shown(taken_at)}"
        for (first, second), (held_at, taken_at) in path
    )
    error = violation("pages of two mappings are locked in one order", f"{name}, taken with {hold.name} held", hold)
    raise ContractViolation(error.clause, error.operation, error.stacks + before)


def _path(start: object, goal: object) -> list[_Order] | None:
    """How one comes from *start* to *goal*.  Under the lock."""
    paths: list[tuple[object, list[_Order]]] = [(start, [])]
    seen: list[object] = []
    while paths:
        node, path = paths.pop()
        if node is goal:
            return path
        if any(node is one for one in seen):
            continue
        seen.append(node)
        paths += [(after, [*path, order]) for after, order in list(_orders.get(node, {}).items())]
    return None


# -- locks that ask ------------------------------------------------------------------------------------------


class CheckedLock(OwnedLock):
    """An `OwnedLock` that is taken in order."""

    __slots__ = ("_label", "_pages", "_rank")

    def __init__(
        self, rank: Rank, door: Door, pages: Callable[[], list[Hold]], *, after: Callable[[], object] | None = None
    ) -> None:
        super().__init__(rank.name, door, after=after)
        self._rank = rank
        self._pages = pages

    def __enter__(self) -> bool:
        about_to_take(self._rank, self, self._rank.name, pages=self._pages())
        super().__enter__()
        taken(self._rank, self, self._rank.name, sys._getframe(1))
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        released(self)
        super().__exit__(kind, error, trace)


class CheckedReentrantLock:
    """A ``dirty_lock``, or a `File`'s, that is taken in order.

    It is released by the lock below, in one step: a signal handler that raises on entry to a function of ours would
    leave it held.  So what a thread has of it is asked when it matters; and not at all where the `Door` does not tell.
    """

    __slots__ = ("__exit__", "_door", "_lock", "_name", "_pages", "_rank")

    __exit__: Any

    def __init__(self, rank: Rank, lock: Lock, door: Door, pages: Callable[[], list[Hold]], name: str) -> None:
        self._rank = rank
        self._lock = lock
        self._door = door
        self._pages = pages
        self._name = f"{rank.name} of {name}"
        self.__exit__ = lock.__exit__

    def _is_owned(self) -> bool:
        return self._door.is_owned(self._lock)

    def is_held_as(self, hold: Hold) -> bool:
        """Whether the calling thread has it: it is released by the lock below."""
        return self._is_owned()

    def __enter__(self) -> bool:
        if self._is_owned():  # a signal handler that writes
            return self._lock.__enter__()
        _forget_released()
        about_to_take(self._rank, self, self._name, pages=self._pages())
        try:
            self._lock.__enter__()
            taken(self._rank, self, self._name)
            return True  # in here: from now on `with` gives it back
        except BaseException:  # of a signal handler: nobody would release it
            if self._is_owned():
                self.__exit__(None, None, None)
            raise


def _forget_released() -> None:
    """What was entered for locks of that kind, and is over."""
    _here.holds[:] = [hold for hold in _here.holds if _is_held(hold)]
