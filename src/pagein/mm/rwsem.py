"""The long lock of an inode: whoever changes its size, or many pages as one, holds it.  Linux: i_rwsem, exclusive.

Guarantees: first come, first served; while somebody holds it, or waits for it, no write goes the short way
(pagein.writer), so that a long write or a truncation is not interspersed with others.
Lock order: before page locks.  May be held across I/O, for memory, for page locks.
Assumes: the holder releases it on whatever thread his steps have come to.
Not here: reading, which takes no such lock, as in most file systems of Linux.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from . import held
from .sync import MakeWaiter, Steps, Waiter, run_steps

if TYPE_CHECKING:
    from .mapping import AddressSpace


class RwSem:
    """The lock of one mapping.  ``mapping.dirty_lock`` guards its state."""

    __slots__ = ("_held", "_mapping", "_waiters")

    def __init__(self, mapping: AddressSpace) -> None:
        self._mapping = weakref.proxy(mapping)  # no cycle: a mapping that nobody has goes at once
        self._held: object = False  # with checks, the `Hold` of who has it
        self._waiters: list[Waiter] = []  # not a deque, whose first block alone takes 600 bytes of every file

    @property
    def held(self) -> bool:
        """Whether somebody holds it."""
        return self._held is not False

    def is_held_as(self, hold: object) -> bool:
        """Whether who took it then has it still, on whatever thread it is released."""
        return self._held is hold

    def acquire_steps(self, make_waiter: MakeWaiter) -> Steps[None]:
        """Take it.  Blocks: until those who came before have released it."""
        mapping, checks = self._mapping, self._mapping.zone.checks
        if checks is not None:
            checks.before_i_rwsem(mapping)
        with mapping.dirty_lock:
            mapping.short_writes = False
            if not self._held:
                self._held = True if checks is None else checks.i_rwsem_taken(mapping, make_waiter)
                return
            waiter = make_waiter()
            self._waiters.append(waiter)
        try:
            yield waiter
        except BaseException:
            with mapping.dirty_lock:
                is_waiting = waiter in self._waiters
                if is_waiting:
                    self._waiters.remove(waiter)
            if not is_waiting:  # it was handed over while the exception was on its way
                self.release()
            raise
        if checks is not None:
            self._held = checks.i_rwsem_taken(mapping, make_waiter)

    def release(self) -> None:
        """Hand it to the next in line."""
        mapping = self._mapping
        if mapping.zone.checks is not None:
            held.released(self)
        with mapping.dirty_lock:
            waiter = self._waiters.pop(0) if self._waiters else None
            self._held = waiter is not None
            if waiter is None:
                mapping.short_writes = mapping.may_write_short
        if waiter is not None:
            waiter.wake()  # after the lock: what it wakes may go on right here
            mapping.zone.workqueue.kick_if_possible()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold it, for code that runs on a thread which may block, and gets no signals."""
        run_steps(self.acquire_steps(self._mapping.zone.door.waiter))
        try:
            yield
        finally:
            self.release()
