"""Fault: one page for a faulting side that holds an address-space lock.  Linux: filemap_fault.

Guarantees: i_size is looked at again under the page's lock; without RETRY in the answer the lock was never let go.
Assumes: called on a thread that gets no signals, since the page that it returns is locked, and nobody but the caller
knows; and whoever holds such a page reads nothing through this cache, which might wait for his very page.
Not here: fetching (bring.py), buffered reads (filemap.py).
"""

from __future__ import annotations

import errno
from enum import IntFlag
from functools import partial
from typing import TYPE_CHECKING, Protocol

from .bring import lock_uptodate, start_bringing
from .readahead import fault_readahead

if TYPE_CHECKING:
    from .openfile import OpenFile
    from .page import LockedPage


class FaultFlags(IntFlag):
    """What the faulting side allows; Linux's values."""

    NONE = 0
    ALLOW_RETRY = 0x04
    """The address-space lock may be let go in order to wait; the fault then answers RETRY."""
    RETRY_NOWAIT = 0x08
    """Do not wait and do not let go of the lock: answer RETRY if that is what it would take."""
    TRIED = 0x20
    """The second try: the lock is kept, whatever it takes."""


class FaultResult(IntFlag):
    """What became of a fault; Linux's values."""

    OOM = 0x001
    SIGBUS = 0x002
    MAJOR = 0x004
    LOCKED = 0x200
    RETRY = 0x400


class FaultLock(Protocol):
    """The faulting side's address-space lock (Linux: mmap_lock), held on entry."""

    def acquire(self) -> object:
        """Take it, waiting if need be."""

    def release(self) -> object:
        """Let it go."""


class Fault:
    """One fault: page *index* is wanted.  ``page`` and ``error`` are the answer's."""

    def __init__(self, file: OpenFile, index: int, lock: FaultLock, flags: FaultFlags = FaultFlags.NONE) -> None:
        self.file = file
        self.index = index
        self.lock = lock
        self.flags = flags
        self.page: LockedPage | None = None
        self.error: OSError | None = None


def fault(vmf: Fault) -> FaultResult:
    """Find or read the page of a fault.  Linux: filemap_fault.

    LOCKED: ``vmf.page`` is Uptodate and locked, and the caller unlocks it.  RETRY: ``vmf.lock`` was let go (kept
    with RETRY_NOWAIT); the caller takes it and faults again with TRIED.  SIGBUS: beyond the end, or
    ``vmf.error``.  OOM: no memory.  Without RETRY in the answer the lock was never let go.
    Blocks: interruptibly.
    """
    file, mapping = vmf.file, vmf.file.mapping
    zone = mapping.zone
    if vmf.index >= mapping.page_count:
        return FaultResult.SIGBUS
    is_major = vmf.index not in mapping.in_flight and not mapping.is_uptodate(vmf.index)
    if not vmf.flags & FaultFlags.TRIED:
        zone.workqueue.shielded(partial(fault_readahead, file, vmf.index))
    page = mapping.trylock_uptodate(vmf.index)
    let_go, result = False, FaultResult.MAJOR if is_major else FaultResult(0)
    if page is None:
        if vmf.flags & FaultFlags.RETRY_NOWAIT:
            if vmf.index not in mapping.in_flight:
                start_bringing(file, vmf.index, 1)
            return result | FaultResult.RETRY
        let_go = bool(vmf.flags & FaultFlags.ALLOW_RETRY) and not vmf.flags & FaultFlags.TRIED
        if let_go:
            vmf.lock.release()
        try:
            page = zone.shielded_steps(partial(lock_uptodate, file, vmf.index), undo=_unlock)
        except BaseException as error:
            if not isinstance(error, OSError):  # interrupted: the caller thinks that it holds its lock
                if let_go:
                    vmf.lock.acquire()
                raise
            if not let_go:  # else the second try meets it again, and says so
                vmf.error = error
                return result | (FaultResult.OOM if error.errno == errno.ENOMEM else FaultResult.SIGBUS)
    if let_go:
        _unlock(page)
        return result | FaultResult.RETRY
    if page is None or vmf.index >= mapping.page_count:  # the size again, now that the page cannot be cut off
        _unlock(page)
        return FaultResult.SIGBUS
    mapping.arena.referenced[mapping.base + vmf.index] = 1
    page.take_over()
    vmf.page = page
    return result | FaultResult.LOCKED


def _unlock(page: LockedPage | None) -> None:
    if page is not None:
        page.owner = page.mapping.zone.door.thread_id()  # a worker may have locked it
        page.unlock()
