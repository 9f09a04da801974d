"""What came of work that another does: told to whoever waits for it, or given back; and what may not overtake it.

Guarantees: a result has one owner, also if its caller was interrupted.  A change whose caller was interrupted
(`Unsettled`) is made before the next change of the same file begins, or never.
Why: a program that handles Ctrl-C and writes again must not find its new bytes replaced by the older ones.
Not here: who does the work (workqueue.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar, cast

from .sync import MakeWaiter, Steps, Waiter

T = TypeVar("T")


class Once:
    """Of two who call it, tells the first from the second: popping a list is one step."""

    __slots__ = ("_token",)

    def __init__(self) -> None:
        self._token = [True]

    def is_first(self) -> bool:
        """Whether nobody has called this before."""
        try:
            return self._token.pop()
        except IndexError:
            return False


class Outcome(Generic[T]):
    """What a caller waits for: either it takes the result, or, once abandoned, whoever comes last gives it back."""

    __slots__ = (
        "_begins",
        "_once",
        "_undo",
        "done",
        "error",
        "has_settled",
        "is_abandoned",
        "key",
        "lines",
        "result",
        "waiters",
    )

    def __init__(self, done: Waiter, undo: Callable[[T], object] | None) -> None:
        self.done: Waiter = done
        self.is_abandoned: bool = False
        self.has_settled: bool = False
        self.waiters: list[Waiter] = []
        """Of those who may not overtake it."""
        self.result: T | None = None
        self.error: BaseException | None = None
        self._undo = undo
        self._once = Once()
        self._begins = Once()
        self.lines: tuple[Unsettled, ...] = ()
        """Where it stands, if it is a change."""
        self.key: Hashable = None
        """Of what, where the line is not of one file."""

    def is_to_begin(self) -> bool:
        """For who begins it, or calls it off: whether he is the first of the two."""
        return self._begins.is_first()

    def settle_with(self, run: Callable[[], T]) -> None:
        """Call ``run()``."""
        try:
            result = run()
        except BaseException as error:  # kept for the caller, who raises it
            self.settle(None, error)
        else:
            self.settle(result, None)

    def settle(self, result: T | None, error: BaseException | None) -> None:
        """This came of it."""
        self.result, self.error = result, error
        self.leave_lines()
        if self._once.is_first():
            self.done.wake()
        else:
            self._give_back()

    def leave_lines(self) -> None:
        """It has ended, or never begins."""
        self.has_settled = True
        for line in self.lines:
            _took(line, self)
        while self.waiters:
            try:
                self.waiters.pop().wake()
            except IndexError:  # he has seen that it settled
                return

    def abandon(self) -> None:
        """Nobody will take it."""
        if not self._once.is_first():
            self._give_back()

    def _give_back(self) -> None:
        if self._undo and self.error is None:
            self._undo(cast(T, self.result))


class Unsettled(deque["Outcome[Any]"]):
    """The changes of one file, or openings for writing of a cache, that were asked for by threads which a signal can
    interrupt, and have not ended.

    No lock: each step is one of a deque or a list, which a signal handler may interrupt, and call again.
    """

    __slots__ = ()

    def before(self, own: Outcome[Any] | None) -> list[Outcome[Any]]:
        """Those that came before *own*; all if it is not among them."""
        while True:
            try:
                outcomes = list(self)
            except RuntimeError:  # without the GIL another has come or gone meanwhile
                continue
            return outcomes[: outcomes.index(own)] if own in outcomes else outcomes


class InOrder(Generic[T]):
    """Steps that do not begin before what was abandoned has ended, or was called off: in the line of their *file*, and
    of *opens* what has the same *key*.  They stand in these lines themselves, if their caller may be interrupted."""

    def __init__(
        self,
        make_steps: Callable[[MakeWaiter], Steps[T]],
        file: Unsettled | None,
        *,
        opens: Unsettled | None = None,
        key: Hashable = None,
    ) -> None:
        self._make_steps = make_steps
        self._file, self._opens = file, opens
        self.lines: tuple[Unsettled, ...] = tuple(line for line in (file, opens) if line is not None)
        self.key: Hashable = key

    def steps(self, make_waiter: MakeWaiter, *, own: Outcome[T] | None = None) -> Steps[T]:
        """They.  *own*: what stands for them in the lines."""
        before = [] if self._file is None else self._file.before(own)
        if self._opens is not None:
            before += [outcome for outcome in self._opens.before(own) if outcome.key == self.key]
        for outcome in before:
            if outcome.is_abandoned:  # else it has a caller who waits, and so no order towards this one
                yield from _ended_steps(outcome, make_waiter)
        return (yield from self._make_steps(make_waiter))


def _ended_steps(outcome: Outcome[Any], make_waiter: MakeWaiter) -> Steps[None]:
    """Call it off, or wait until it has ended."""
    if outcome.is_to_begin():
        outcome.leave_lines()  # and never begins
        return
    waiter = make_waiter()
    outcome.waiters.append(waiter)
    # Entered first and looked at then, while it settles first and looks for waiters then.
    if not (outcome.has_settled and _took(outcome.waiters, waiter)):
        yield waiter


def _took(line: Any, one: object) -> bool:
    """Whether it was in there still."""
    try:
        line.remove(one)
    except ValueError:
        return False
    return True
