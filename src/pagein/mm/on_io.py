"""What may block, called on an I/O worker for one who must not.

Not here: operations that bring pages (device.py) or store them (walk.py), which nobody waits for here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from .sync import MakeWaiter, Steps

if TYPE_CHECKING:
    from .zone import Zone

T = TypeVar("T")


def on_io_steps(zone: Zone, run: Callable[[], T], make_waiter: MakeWaiter) -> Steps[T]:
    """What ``run()`` returns, called on an I/O worker, since it may block."""
    outcome: list[tuple[T | None, BaseException | None]] = []
    waiter = make_waiter()

    def call() -> None:
        try:
            outcome.append((run(), None))
        except BaseException as error:  # raised again by who waits
            outcome.append((None, error))
        with zone.lock:  # so that a worker is told who goes on
            waiter.wake()

    try:
        zone.io.start(call)
    except RuntimeError:  # the process has no thread left, or is ending
        call()
    yield waiter
    result, error = outcome.pop()
    if error is not None:
        try:
            raise error
        finally:
            del error
    return result  # type: ignore[return-value]  # T may be None
