"""Giving up what a store does not have: the file is what the store has, then.

Guarantees: in one hold of ``i_rwsem``, in which no page becomes dirty, and no commit begins: nothing of what is given
up is stored, or committed, afterwards, whoever writes to the file at the same time; pages and sizes are those of what
the store has.  All of it goes, or nothing: while a view shows some of it, whoever closes the file stores the whole that
was written.  Should some have gone as it fails, nothing is committed until another `discard` has given up the rest:
never a part.
Assumes: runs on a thread that may block; callers hold no page lock.
Not here: who may, and what that means to those who open the file (unwritten.py).
"""

from __future__ import annotations

import errno
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ..errors import busy, given_up
from . import removal
from .debug import called
from .errseq import again
from .locking import DISCARD
from .lru import NOT_QUEUED, Run
from .size_owed import give_up_size, tell_size
from .sync import run_steps
from .truncate import drop_beyond_end, extend, here_or_in_flight, wait_until_stored
from .walk import wait_on_writeback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .mapping import AddressSpace
    from .page import LockedPage


def discard(mapping: AddressSpace, *, shown_stays: bool = False) -> None:
    """Give up what the store does not have: dirty pages, a size that it has not been told of, and what it has not
    committed.

    Takes ``i_rwsem``.  Blocks: for writers, for pages that are read or stored, and as long as the store takes.
    Raises: OSError(EBUSY) if a view shows some of it, and all is as it was; with *shown_stays*, nothing for that, and
    the rest goes: it is the last of this file, of which nothing is committed any more.  The store's, if it cannot give
    up what it has not committed.
    """
    with mapping.i_rwsem.exclusive(), _no_commit(mapping):
        goes_back = _drop_but_shown(mapping) if shown_stays else _drop_at_once(mapping)
        try:
            _give_up(mapping, goes_back, shown_stays=shown_stays)
        except BaseException as failure:
            if mapping.given_up is not None:
                # Not a store's own, which has its frames once more, as it is raised on.
                mapping.given_up.__cause__ = again(failure)
            raise
        with mapping.zone.lock:
            if not shown_stays:
                mapping.given_up = None
            elif mapping.dirty_pages or mapping.size_owed is not None:  # of what a view shows: nor is that stored
                mapping.given_up = given_up(mapping.name)


def _give_up(mapping: AddressSpace, goes_back: bool, *, shown_stays: bool) -> None:
    """What the store has not committed, and the sizes; pages that are dirty have gone."""
    run_steps(give_up_size(mapping, mapping.zone.door.waiter))
    object_bytes = called(DISCARD, mapping.zone, mapping.ops.discard, mapping=mapping)()
    with mapping.zone.lock, mapping.dirty_lock:
        if _is_stale(mapping.last_failure):  # another's object: nothing that lies behind is ours to cut off
            mapping.forget_tail()
        if object_bytes is not None:
            mapping.note_size(object_bytes)
        size_bytes = mapping.disk_size
        mapping.i_size = min(mapping.i_size, size_bytes)
    try:
        drop_beyond_end(mapping)
        if goes_back or object_bytes is not None:
            # What readers have brought meanwhile; and what views show of that is known to be another than the
            # store's, until they end.
            _drop_pages(mapping, is_clean_too=True, keeps_dirty=True)
        if size_bytes > mapping.i_size:
            extend(mapping, size_bytes)
    except OSError as error:  # a view shows some of it by now
        with mapping.zone.lock:
            if mapping.i_size < mapping.disk_size:
                mapping.owe_size(mapping.i_size)  # the cut stays, and all agree that it does
        if error.errno != errno.EBUSY or not shown_stays:
            raise
    # What a store that is down may have taken beyond the end it keeps: nobody is to wait for that.
    with mapping.zone.lock:
        is_cut = mapping.owe_tail()
    if is_cut:
        run_steps(tell_size(mapping, mapping.zone.door.waiter))


@contextmanager
def _no_commit(mapping: AddressSpace) -> Iterator[None]:
    """Who would have all stored, told and committed waits until we have done (writeback.store_all): a part of it has
    gone, or the store has its old size already, and we do not know that yet."""
    with mapping.zone.lock:
        mapping.discard_waiters = []
    try:
        yield
    finally:
        with mapping.zone.lock:
            waiters, mapping.discard_waiters = mapping.discard_waiters, None
            for waiter in waiters or ():
                waiter.wake()


def _is_stale(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno == errno.ESTALE


def _drop_but_shown(mapping: AddressSpace) -> bool:
    """Drop what no view shows of the pages that are dirty, or of all; whether a cut is given up."""
    with mapping.zone.lock:
        _some_goes(mapping)
    _drop_pages(mapping, is_clean_too=False, raises=False)  # and wait for what is being stored
    goes_back, is_clean_too = _goes_back(mapping)
    if is_clean_too:
        _drop_pages(mapping, is_clean_too=True, raises=False)
    return goes_back


def _drop_at_once(mapping: AddressSpace) -> bool:
    """Drop the pages that are dirty, or all; whether a cut is given up.  Raises: OSError(EBUSY), and none has gone."""
    # Also what has no page now: a reader whose own read failed before this must ask again, not fail.
    mapping.invalidations += 1
    zone = mapping.zone
    while True:
        with zone.lock:
            before = mapping.dirty_pages, mapping.write_failures
            under_way = _under_way(mapping)
        if under_way is not None:
            under_way()
            continue
        goes_back, is_clean_too = _goes_back(mapping)
        with zone.lock:
            # Nobody writes: if as much is dirty as before, and nothing has failed, nothing was stored since we looked.
            if (mapping.dirty_pages, mapping.write_failures) == before and _under_way(mapping) is None:
                found = mapping.resident() if is_clean_too else mapping.dirty_runs(0, mapping.frame_count)
                runs = [Run(mapping.arena, mapping.base + index, count) for index, count in found]
                _remove_all_or_none(mapping, runs)
                return goes_back


def _some_goes(mapping: AddressSpace) -> None:
    """From here on what is left is no whole.  Who would commit is told so if we fail; and at once who cannot wait, as a
    store that was called for this file has called him.  Zone's lock held."""
    mapping.given_up = given_up(mapping.name) if mapping.ops.commits else None


def _goes_back(mapping: AddressSpace) -> tuple[bool, bool]:
    """Whether a cut is given up, and whether clean pages go, too: they show what the store is about to lose, or has
    lost as it failed, or end in the zeros of a cut that will be none."""
    goes_back = mapping.uncut_size > min(mapping.disk_size, mapping.i_size)
    loses = mapping.ops.uncommitted_bytes is not None
    return goes_back, goes_back or loses or mapping.given_up is not None


def _under_way(mapping: AddressSpace) -> Callable[[], object] | None:
    """What waits for a page that is here and locked, or under write-back; None if none is.  Zone's lock held."""
    zone = mapping.zone
    for stored in mapping.under_writeback.values():
        return lambda: run_steps(wait_on_writeback(zone, stored, zone.door.waiter))
    for index, page in mapping.in_flight.items():
        if mapping.is_uptodate(index):
            return lambda: run_steps(page.wait_steps(zone.door.waiter))
    return None


def _remove_all_or_none(mapping: AddressSpace, runs: list[Run]) -> None:
    """Remove pages, none of which is locked.  Raises: OSError(EBUSY).  Zone's lock held, throughout.

    Uptodate is cleared first, and pins are looked for then: who has pinned a page before is seen, and who does it later
    finds that it has gone, or waits for the zone's lock until it is there again.
    """
    zone, arena = mapping.zone, mapping.arena
    flags = [arena.uptodate[run.frame : run.frame + run.page_count] for run in runs]
    for run in runs:
        arena.uptodate[run.frame : run.frame + run.page_count] = bytes(run.page_count)
    pinned_pages = removal.pinned_pages(runs)
    if pinned_pages:
        for run, before in zip(runs, flags, strict=True):
            arena.uptodate[run.frame : run.frame + run.page_count] = before
        raise busy(mapping.name, pinned_pages)
    _some_goes(mapping)
    for run in runs:
        index = run.frame - mapping.base
        zone.dirty.cancelled(mapping.clear_dirty(index, run.page_count, uptodate=False))
    removal.remove_runs(zone, runs, into=NOT_QUEUED, pins_are_late=True)


def _drop_pages(mapping: AddressSpace, *, is_clean_too: bool, keeps_dirty: bool = False, raises: bool = True) -> None:
    """Drop the pages that are dirty, or all.  Of those that a view shows each is left, and with *keeps_dirty* is dirty
    from then on, so that it is known to be another than the store's.  Raises: OSError(EBUSY), after the rest."""
    kept_pages = 0
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
    if kept_pages and keeps_dirty:
        with suppress(RuntimeError):  # no thread is to be had: fsync and close store them
            mapping.zone.flusher.start()
    if kept_pages and raises:
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
