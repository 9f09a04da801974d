"""Giving up what a store does not have: the file is what the store has, then.

Guarantees: in one hold of ``i_rwsem``, in which no page becomes dirty: nothing of what is given up is stored, or
committed, afterwards, whoever writes to the file at the same time; pages and sizes are those of what the store has.
Assumes: runs on a thread that may block; callers hold no page lock.
Not here: who may, and what that means to those who open the file (unwritten.py).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ..errors import busy
from . import removal
from .debug import called
from .locking import DISCARD
from .lru import NOT_QUEUED
from .size_owed import give_up_size
from .sync import run_steps
from .truncate import drop_beyond_end, extend, here_or_in_flight, wait_until_stored

if TYPE_CHECKING:
    from .mapping import AddressSpace
    from .page import LockedPage


def discard(mapping: AddressSpace) -> None:
    """Give up what the store does not have: dirty pages, a size that it has not been told of, and what it has not
    committed.

    Takes ``i_rwsem``.  Blocks: for writers, for pages that are read or stored, and as long as the store takes.
    Raises: OSError(EBUSY) if a view shows some of it: that stays as it is, and so does all that was not committed.
    """
    with mapping.i_rwsem.exclusive():
        _drop_pages(mapping, is_clean_too=False)  # and wait for what is being stored
        # Pages that are clean show what the store is about to lose, or end in the zeros of a cut that will be none.
        # Before anything is lost, so that another try finds it all, should a view show one of them.
        goes_back = mapping.uncut_size > min(mapping.disk_size, mapping.i_size)
        if goes_back or mapping.ops.uncommitted_bytes is not None:
            _drop_pages(mapping, is_clean_too=True)
        run_steps(give_up_size(mapping, mapping.zone.door.waiter))
        object_bytes = called(DISCARD, mapping.zone, mapping.ops.discard, mapping=mapping)()
        with mapping.zone.lock, mapping.dirty_lock:
            if _is_stale(mapping.last_failure):  # another's object: nothing that lies behind is ours to cut off
                mapping.store_end = mapping.disk_size
            if object_bytes is not None:
                mapping.disk_size = mapping.uncut_size = mapping.store_end = object_bytes
            size_bytes = mapping.disk_size
            mapping.i_size = min(mapping.i_size, size_bytes)
        drop_beyond_end(mapping)
        if goes_back or object_bytes is not None:
            _drop_pages(mapping, is_clean_too=True, keeps_dirty=True)  # what readers have brought meanwhile
        if size_bytes > mapping.i_size:
            extend(mapping, size_bytes)


def _is_stale(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno == errno.ESTALE


def _drop_pages(mapping: AddressSpace, *, is_clean_too: bool, keeps_dirty: bool = False) -> None:
    """Drop the pages that are dirty, or all.  Of those that a view shows each is left, and with *keeps_dirty* is dirty
    from then on, so that it is known to be another than the store's.  Raises: OSError(EBUSY), after the rest."""
    kept_pages = 0
    # Also what has no page now: a reader whose own read failed before this must ask again, not fail.
    mapping.invalidations += 1
    for index in here_or_in_flight(mapping, 0, mapping.frame_count):
        page = mapping.lock_if_here(index)
        if page is not None:
            try:
                wait_until_stored(page)
                if not _is_dropped(page, is_clean_too=is_clean_too):
                    kept_pages += 1
                    if keeps_dirty:
                        _mark_dirty(page)
            finally:
                page.unlock()
    if kept_pages:
        raise busy(mapping.name, kept_pages)


def _is_dropped(page: LockedPage, *, is_clean_too: bool) -> bool:
    """Whether nothing of it is left that has to go."""
    mapping, zone, run = page.mapping, page.mapping.zone, page.run
    with zone.lock:
        if not page.uptodate or not (is_clean_too or run.arena.dirty[run.frame]):
            return True
        if removal.is_pinned(run):
            return False
        cleared = mapping.clear_dirty(page.index, page.page_count, uptodate=False)
        page.removed = bool(removal.remove_runs(zone, [run], into=NOT_QUEUED))
        if page.removed:
            zone.dirty.cancelled(cleared)
        elif cleared:  # pinned in this very moment
            mapping.mark_dirty(page.index, page.page_count)
        return page.removed


def _mark_dirty(page: LockedPage) -> None:
    """Beyond the limit, if need be: there is no leave to wait for, as it was not written."""
    mapping, zone = page.mapping, page.mapping.zone
    with zone.lock:
        zone.dirty.pages += page.page_count
        mapping.mark_dirty(page.index, page.page_count)
