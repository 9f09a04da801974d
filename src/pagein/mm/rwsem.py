"""The long lock of an inode: whoever changes its size, or many pages as one, holds it.  Linux: i_rwsem, exclusive.

Guarantees: first come, first served; while somebody holds it, or waits for it, no write goes the short way
(pagein.writer), so that a long write or a truncation is not interspersed with others.
Lock order: before page locks.  May be held across I/O, for memory, for page locks.
Assumes: the holder releases it on whatever thread his steps have come to.
Not here: reading, which takes no such lock, as in most file systems of Linux; its state, which the mapping has itself:
an object of its own in each of many small files would be a tenth of what they cost.
"""

from __future__ import annotations

import _thread
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from . import held
from .sync import MakeWaiter, Runner, Steps, inside, run_steps

if TYPE_CHECKING:
    from .mapping import AddressSpace


class Holder(NamedTuple):
    """Who has one."""

    runner: Runner | int
    """Whose steps have it; the thread that runs them, if it does so to their end."""
    hold: object = None
    """With checks, what stands for that (held.py)."""

    @property
    def is_here(self) -> bool:
        """Whether the calling thread runs them now, and would wait for itself."""
        thread_id = self.runner.thread_id if isinstance(self.runner, Runner) else self.runner
        return thread_id == _thread.get_ident()


class RwSem:
    """The lock of one mapping, made whenever it is named.  ``mapping.dirty_lock`` guards its state."""

    __slots__ = ("_mapping",)

    def __init__(self, mapping: AddressSpace) -> None:
        self._mapping = mapping

    @property
    def held(self) -> bool:
        """Whether somebody holds it."""
        return self._mapping.rwsem_held is not False

    @property
    def is_held_here(self) -> bool:
        """Whether steps hold it that the calling thread runs."""
        holder = self._mapping.rwsem_held
        return isinstance(holder, Holder) and holder.is_here

    def acquire_steps(self, make_waiter: MakeWaiter) -> Steps[None]:
        """Take it.  Blocks: until those who came before have released it."""
        mapping, checks = self._mapping, self._mapping.zone.checks
        if checks is not None:
            checks.before_i_rwsem(mapping)
        with mapping.dirty_lock:
            mapping.short_writes = False
            if not mapping.rwsem_held:
                mapping.rwsem_held = self._taken_with(make_waiter)
                return
            waiter = make_waiter()
            mapping.rwsem_waiters = (*mapping.rwsem_waiters, waiter)
        try:
            yield waiter
        except BaseException:
            with mapping.dirty_lock:
                is_waiting = waiter in mapping.rwsem_waiters
                if is_waiting:
                    mapping.rwsem_waiters = tuple(other for other in mapping.rwsem_waiters if other is not waiter)
            if not is_waiting:  # it was handed over while the exception was on its way
                self.release()
            raise
        mapping.rwsem_held = self._taken_with(make_waiter)

    def _taken_with(self, make_waiter: MakeWaiter) -> Holder:
        mapping, checks = self._mapping, self._mapping.zone.checks
        runner = getattr(make_waiter, "__self__", None)
        return Holder(
            runner if isinstance(runner, Runner) else _thread.get_ident(),
            None if checks is None else checks.i_rwsem_taken(mapping, make_waiter),
        )

    def release(self) -> None:
        """Hand it to the next in line."""
        mapping = self._mapping
        if mapping.zone.checks is not None:
            held.released(mapping)
        with mapping.dirty_lock:
            waiter = next(iter(mapping.rwsem_waiters), None)
            mapping.rwsem_waiters = mapping.rwsem_waiters[1:]
            mapping.rwsem_held = waiter is not None
            if waiter is None:
                mapping.short_writes = mapping.may_write_short
        if waiter is not None:
            waiter.wake()  # after the lock: what it wakes may go on right here
            mapping.zone.workqueue.kick_if_possible()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold it, for code that runs on a thread which may block, and gets no signals."""
        with inside():
            run_steps(self.acquire_steps(self._mapping.zone.door.waiter))
            try:
                yield
            finally:
                self.release()
