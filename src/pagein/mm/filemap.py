"""Reading through the cache: buffered read, fault, and one page for a caller inside the cache.

Guarantees: i_size is looked at only after the page is Uptodate, and again after every wait, so that neither the
zeros behind the end nor a page beyond it is ever handed out; what comes back was the file's, whole, at one
moment for each piece; no code of ``readpage`` gets as far as here (readpage.py).
Assumes: callers hold no page lock.  On threads that get signals, whatever takes a page lock runs on a worker
(workqueue.py): an interrupted reader leaves no page locked, and its fetch completes for the others.
Not here: fetching and waiting (bring.py); the same hit path once more, inlined for speed (pagein.reader).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntFlag
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from ..errors import beyond_end, no_memory, would_block
from ..units import PAGE_SHIFT, page_count_for
from . import reclaim
from .arena import REGION_SHIFT, ones
from .bring import REQUEST_PAGES_MAX, bring, first_absent, lock_uptodate, read_in_background as read_in_background
from .pin import Pin
from .readpage import do_readpage as do_readpage

if TYPE_CHECKING:
    from .mapping import AddressSpace, OpenFile
    from .page import LockedPage

T = TypeVar("T")
Take = Callable[[int, int], T]
"""Copies bytes [start, stop) of an arena's memory to where a reader wants them.  May be called again."""

LOST_RACES_MAX = 3
"""After so many copies that an eviction spoilt, the reader takes the page lock, which eviction respects."""


class ReadFlags(IntFlag):
    """How far a read may go."""

    NONE = 0
    NOWAIT = 1
    """Do not wait: start what is missing and raise BlockingIOError(EAGAIN)."""
    NOIO = 2
    """Do not even start it."""


# -- buffered read -----------------------------------------------------------------------------------------


def read(
    file: OpenFile,
    offset: int,
    size_bytes: int,
    take: Take[T],
    *,
    flags: ReadFlags = ReadFlags.NONE,
    once: bool = False,
) -> list[T]:
    """Read up to *size_bytes* from *offset*, piece by piece through *take*.  Linux: generic_file_buffered_read.

    Short only at the end of the file or before a page that failed (its error comes to a read that starts there);
    or, with *once*, after the first piece.
    Locks: none held.  Blocks: interruptibly.  Raises: the store's OSError unchanged; OSError(ENOMEM);
    BlockingIOError with `ReadFlags`.
    """
    mapping, stop = file.mapping, offset + size_bytes
    zone = mapping.zone
    pieces: list[T] = []
    limit_pages = REQUEST_PAGES_MAX
    attempts = 0
    missed = False
    while offset < min(stop, mapping.i_size):
        copied = copy_if_uptodate(mapping, offset, stop, take, is_first_use=attempts > 0)
        try:
            if copied is None and flags:
                _do_not_wait(file, offset, stop, flags)
            elif copied is None and attempts < LOST_RACES_MAX:
                attempts += 1
                limit_pages = _bring_for_read(file, offset, stop, limit_pages, counts=not missed)
                missed = True
            elif copied is None:
                copied = zone.workqueue.shielded(partial(_copy_locked, file, offset, stop, take))
        except OSError:
            if pieces:
                break
            raise
        if copied is not None:
            piece, offset = copied
            pieces.append(piece)
            attempts = 0
            if once:
                break
    if pieces and not missed:
        file.hits += 1
    return pieces


def copy_if_uptodate(
    mapping: AddressSpace, offset: int, stop: int, take: Take[T], *, is_first_use: bool = False
) -> tuple[T, int] | None:
    """Copy what is here of bytes [offset, stop) without a lock: (the piece, where it ended), or None.

    The use for which a page was brought does not make it a page that was used again (*is_first_use*).
    The letters are those of the protocol in docs/explanation/architecture.md; the order is what makes it right.
    """
    arena, base = mapping.arena, mapping.base
    frame = base + (offset >> PAGE_SHIFT)
    region = frame >> REGION_SHIFT
    generation = arena.generations[region]  # (a)
    stop_frame = min(base + page_count_for(stop), (region + 1) << REGION_SHIFT)
    hole = arena.uptodate.find(b"\0", frame, stop_frame)  # (b)
    if hole >= 0:
        stop_frame = hole
    stop = min(stop, (stop_frame - base) << PAGE_SHIFT, mapping.i_size)  # i_size only now
    if stop <= offset:
        return None
    shift = base << PAGE_SHIFT
    piece = take(shift + offset, shift + stop)  # (c)
    page_count = page_count_for(stop + shift) - frame
    if arena.generations[region] != generation:  # (d)
        after_lost_race(mapping, offset, stop)
        return None
    mapping.check_usable()  # else closed meanwhile, and the frames may be another file's
    if not is_first_use:
        arena.referenced[frame : frame + page_count] = ones(page_count)
    return piece, stop


def after_lost_race(mapping: AddressSpace, offset: int, stop: int) -> None:
    """What a lock-free reader of bytes [offset, stop) does whose copy an eviction spoilt."""
    index = offset >> PAGE_SHIFT
    zone = mapping.zone
    zone.workqueue.shielded(partial(reclaim.clean_up_after_lost_race, mapping, index, page_count_for(stop) - index))


def _bring_for_read(file: OpenFile, offset: int, stop: int, limit_pages: int, *, counts: bool = False) -> int:
    index = offset >> PAGE_SHIFT
    zone = file.mapping.zone
    want_pages = page_count_for(min(stop, file.mapping.i_size)) - index
    return zone.workqueue.shielded(lambda: bring(file, index, want_pages, limit_pages, counts=counts))


def _copy_locked(file: OpenFile, offset: int, stop: int, take: Take[T]) -> tuple[T, int] | None:
    """Copy from one page under its lock: nobody takes it away meanwhile."""
    mapping, index = file.mapping, offset >> PAGE_SHIFT
    page = lock_uptodate(file, index)
    if page is None:
        return None
    try:
        stop = min(stop, (index + 1) << PAGE_SHIFT, mapping.i_size)
        shift = mapping.base << PAGE_SHIFT
        return (take(shift + offset, shift + stop), stop) if stop > offset else None
    finally:
        page.unlock()


def _do_not_wait(file: OpenFile, offset: int, stop: int, flags: ReadFlags) -> None:
    if not flags & ReadFlags.NOIO:
        index, want_pages = offset >> PAGE_SHIFT, page_count_for(stop) - (offset >> PAGE_SHIFT)
        file.mapping.zone.workqueue.start(lambda: bring(file, index, want_pages, REQUEST_PAGES_MAX))
    raise would_block(file.mapping.name)


# -- one page for a caller inside the cache -------------------------------------------------------------------


def read_cache_page(file: OpenFile, index: int) -> Pin:
    """Page *index*, Uptodate, unlocked, and pinned in place of Linux's reference: the caller ends the pin.

    Blocks: interruptibly.  Raises: ValueError beyond the end of the file; as `bring`.
    """
    pin = pin_uptodate(file, index, 1)
    if index >= file.mapping.page_count:
        pin.put()
        raise beyond_end(index, file.mapping.page_count)
    return pin


def pin_uptodate(file: OpenFile, index: int, page_count: int) -> Pin:
    """Pin the pages [index, index + page_count) and make those of them Uptodate that the file has.

    Blocks: interruptibly.  Raises: OSError(ENOMEM) if they do not fit into the cache beside what else is pinned.
    """
    mapping = file.mapping
    zone = mapping.zone
    if page_count > zone.cap_pages:
        raise no_memory(cap_bytes=zone.cap_pages << PAGE_SHIFT, pinned_bytes=reclaim.pinned_bytes(zone))
    frame = mapping.base + index
    pin = Pin(mapping.arena.pins, frame, frame + page_count)
    try:
        limit_pages = REQUEST_PAGES_MAX
        missed, stop = False, (index + page_count) << PAGE_SHIFT
        while 0 <= (absent := first_absent(mapping, index, index + page_count)):
            limit_pages = _bring_for_read(file, absent << PAGE_SHIFT, stop, limit_pages, counts=not missed)
            missed = True
        file.hits += not missed
        return pin
    except BaseException:
        pin.put()
        raise


# -- fault ---------------------------------------------------------------------------------------------------


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


@dataclass
class Fault:
    """One fault: page ``index`` is wanted.  ``page`` and ``error`` are the answer's."""

    file: OpenFile
    index: int
    lock: FaultLock
    flags: FaultFlags = FaultFlags.NONE
    page: LockedPage | None = None
    error: OSError | None = None


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
    result = FaultResult(0)
    page = mapping.trylock_uptodate(vmf.index)
    let_go = False
    if page is None:
        if vmf.index not in mapping.in_flight:
            result = FaultResult.MAJOR
        if vmf.flags & FaultFlags.RETRY_NOWAIT:
            zone.workqueue.start(lambda: bring(file, vmf.index, 1, 1))
            return result | FaultResult.RETRY
        let_go = bool(vmf.flags & FaultFlags.ALLOW_RETRY) and not vmf.flags & FaultFlags.TRIED
        if let_go:
            vmf.lock.release()
        try:
            page = zone.workqueue.shielded(lambda: lock_uptodate(file, vmf.index), undo=_unlock)
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
    page.owner = zone.door.thread_id()
    vmf.page = page
    return result | FaultResult.LOCKED


def _unlock(page: LockedPage | None) -> None:
    if page is not None:
        page.owner = page.mapping.zone.door.thread_id()  # a worker may have locked it
        page.unlock()
