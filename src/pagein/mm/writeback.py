"""Write-back: dirty pages go to the store, and fsync tells the truth about it.

Guarantees: `Sync.ALL` writes what was dirty when it began, and ends though others write meanwhile; a page that becomes
dirty while it is stored is stored again; a page that failed stays dirty, and its error is told once to every open file.
**Linux marks a failed page clean, and what was in it is lost.**  A remote store heals, so here it is tried again.
Not stable: who writes to a page need not wait until it is stored; what is stored then may be a mixture, and the page
is dirty again.
Assumes: callers hold no page lock; may hold ``i_rwsem``, which is never taken in here.
Not here: which page is next (walk.py), when (flusher.py, dirty.py), a page's own part (page.py), the operation's
(wbc.py).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from .debug import called
from .errseq import again, kept
from .locking import FSYNC
from .on_io import on_io_steps
from .size_owed import tell_size
from .sync import MakeWaiter, Steps
from .walk import Walk
from .wbc import Sync as Sync, WritebackControl as WritebackControl

if TYPE_CHECKING:
    from .mapping import AddressSpace
    from .openfile import OpenFile


class Declined(BlockingIOError):
    """EAGAIN: the store takes nothing of what is dirty now.  It stays dirty, nothing failed, nobody else is told."""


def write_back(
    mapping: AddressSpace, sync: Sync, make_waiter: MakeWaiter, start_index: int = 0, stop_index: int | None = None
) -> Steps[BaseException | None]:
    """Store the dirty pages of [start_index, stop_index); return the first error, which has been noted in ``wb_err``.

    With `Sync.ALL`, when it returns everything that was dirty when it began has been stored, or has failed; also what
    others had begun to store.  What the store has declined it is asked to take again, for as long as it takes some of
    it.  If it takes nothing, that is `Declined`, whatever *sync*.
    Blocks: yes.
    """
    ranges = [(start_index, mapping.frame_count if stop_index is None else stop_index)]
    while True:
        walk = Walk(mapping, sync, make_waiter)
        if mapping.size_owed is not None:
            walk.error = yield from tell_size(mapping, make_waiter)
        if walk.error is None:
            yield from walk.walk_steps(ranges)
        if walk.error is not None or not walk.declined:
            return walk.error
        if not walk.stored_pages:
            return Declined(errno.EAGAIN, "the store declines to store it now", mapping.name)
        if sync is Sync.NONE:
            return None
        # No more than that: others may go on writing, which would always be something that it takes.
        ranges = _joined(walk.declined)


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """In order, those that touch as one."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if joined and joined[-1][1] == start:
            joined[-1] = joined[-1][0], stop
        else:
            joined.append((start, stop))
    return joined


# -- fsync ---------------------------------------------------------------------------------------------------


def store_all(
    mapping: AddressSpace, make_waiter: MakeWaiter, *, tells_again: bool, waits: bool = True
) -> Steps[BaseException | None]:
    """Have the store hold all that was written before this, its size, and nothing behind; return the first error.

    *tells_again*: also that the store would not cut off what lies behind, where somebody has been told of that before.
    *waits*: for who is giving up what the store does not have; who cannot is told so where that would be committed.
    """
    zone, least_bytes = mapping.zone, mapping.i_size
    is_refused = False
    is_told = tells_again or mapping.ops.commits  # that must not take what lies behind for a part of the whole
    while True:
        error = yield from write_back(mapping, Sync.ALL, make_waiter)
        if error is not None:
            return error
        with zone.lock, mapping.dirty_lock:
            waiter = None
            if waits and mapping.discard_waiters is not None:
                mapping.discard_waiters.append(waiter := make_waiter())
            elif mapping.given_up is not None:
                return mapping.given_up
            else:
                # A write that failed may have left something behind the end.  Not again once it was refused: others
                # may go on writing, and have it refused without end.
                refusal = mapping.still_refused()
                is_refused = is_refused and refusal is not None  # else what is there now another has left since
                is_cut = not is_refused and mapping.owe_tail()
                if is_cut:
                    is_told = is_told or refusal is None  # else another is told, or has given it up
                elif mapping.size_owed is None:
                    if mapping.disk_size >= min(least_bytes, mapping.i_size):
                        # A store that never cuts anything off has not failed; but nothing is committed with that.
                        is_told = is_told and (mapping.ops.commits or not isinstance(refusal, NotImplementedError))
                        return refusal if is_told and is_refused else None
                    mapping.owe_hole()
        if waiter is not None:
            yield waiter
            if mapping.given_up is not None:  # what is left of it is not even stored
                return mapping.given_up
        elif is_cut:
            error = yield from tell_size(mapping, make_waiter)
            if error is not None:
                return error
            is_refused = mapping.tail_refusal is not None  # whoever has asked


def fsync_steps(
    file: OpenFile, make_waiter: MakeWaiter, *, durable: bool = True, tells_again: bool = True
) -> Steps[None]:
    """Everything that was written before this is in the store, and *durable*, once it returns without an error.
    *tells_again*: as `store_all`.

    Raises: the first error of this write-back; else an error of an earlier one that this open file has not been told
    of, which also goes before EAGAIN.  What failed stays dirty: another fsync tries again.  Linux: vfs_fsync,
    file_check_and_advance_wb_err.
    """
    error = yield from sync_steps(file.mapping, make_waiter, durable=durable, tells_again=tells_again)
    with file.mapping.zone.lock:
        earlier, file.wb_seen = file.mapping.wb_err.check_and_advance(file.wb_seen)
    if error is None or isinstance(error, Declined):  # that the next one finds out by itself; this is told once
        error = earlier or error
    if error is not None:
        try:
            raise again(error)
        finally:
            del error, earlier


def sync_steps(
    mapping: AddressSpace, make_waiter: MakeWaiter, *, durable: bool, tells_again: bool, waits: bool = True
) -> Steps[BaseException | None]:
    """As `fsync_steps`, for somebody without an open file: the first error, which has been noted (but for EAGAIN, see
    `write_back`), and which those who have one are still to be told.  *waits*: as `store_all`.  Linux: sync_inode."""
    zone = mapping.zone
    error = yield from store_all(mapping, make_waiter, tells_again=tells_again, waits=waits)
    if error is None and durable:  # with an error, the store must not take what it has for the whole
        try:
            yield from on_io_steps(zone, called(FSYNC, zone, mapping.ops.fsync, mapping=mapping), make_waiter)
        except Exception as failure:
            error = kept(failure)
            with zone.lock:
                mapping.set_error(error)
    return error
