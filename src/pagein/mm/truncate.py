"""Removing pages by wish: invalidation, and a file that becomes shorter or longer.

Guarantees: `invalidate_mapping_pages` never blocks and never touches what is in use; `truncate` and `truncate_setsize`
move i_size first, so that readers see the new end before pages go; whatever is removed is removed by
removal.remove_runs, in its order.  What is cut off is never stored afterwards, and reads as zeros should the file grow.
`truncate` asks nothing of the store: write-back tells it the new size before it stores anything more (size_owed.py).
Assumes: callers hold no page lock; those of `truncate_setsize`, `invalidate_inode_pages2`, `drop_beyond_end` and
`drop_before_growth` hold ``i_rwsem``, as nothing here orders two truncations.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from ..errors import busy, cannot_grow, closed_file, too_large
from ..units import PAGE_OFFSET_MASK, PAGE_SHIFT, PAGE_SIZE, page_count_for
from . import removal
from .debug import called
from .locking import LAUNDER_PAGE, PUNCH_HOLE
from .lru import NOT_QUEUED, Run
from .sync import run_steps
from .walk import wait_on_writeback
from .writeback import Sync, write_back

if TYPE_CHECKING:
    from .mapping import AddressSpace
    from .openfile import OpenFile
    from .page import LockedPage, Writeback

_BATCH_PAGES = 4096
"""Pages that one hold of the zone's lock removes."""


def invalidate_mapping_pages(mapping: AddressSpace, start_index: int, stop_index: int) -> int:
    """Drop the clean, unused pages of [start_index, stop_index); return how many.

    Locked, dirty, written-back and pinned pages stay.  Blocks: no.  Linux: the same, behind POSIX_FADV_DONTNEED.
    """
    zone, dropped_pages = mapping.zone, 0
    for first, count in _here(mapping, start_index, stop_index):
        with zone.lock:
            if zone.closed:
                break
            dropped_pages += removal.remove_idle(zone, Run(mapping.arena, mapping.base + first, count))
    return dropped_pages


def invalidate_inode_pages2(
    mapping: AddressSpace, start_index: int, stop_index: int, *, own: Writeback | None = None
) -> None:
    """Remove every page of [start_index, stop_index), waiting for those in flight, so that all is read anew.

    A page under write-back is waited for, unless that is the caller's *own*; a dirty one is laundered, if the store
    does that.
    Blocks: for page locks, in ascending order.  Raises: OSError(EBUSY), after removing what it could, if a page
    is dirty, or pinned (Linux leaves the holder of a reference an orphan; here a page's memory is its place).
    """
    kept_pages = 0
    # Also what has no page now: a reader whose own read failed before this must ask again, not fail.
    mapping.invalidations += 1
    for index in here_or_in_flight(mapping, start_index, stop_index):
        page = mapping.lock_if_here(index)
        if page is not None:
            try:
                wait_until_stored(page, own)
                _launder(page)
                kept_pages += not _remove_locked(page)
            finally:
                page.unlock()
    if kept_pages:
        raise busy(mapping.name, kept_pages)


def truncate(mapping: AddressSpace, size_bytes: int, file: OpenFile | None = None) -> None:
    """Make a file that is open for writing shorter or longer; what is added is zeros.  Linux: truncate_setsize.

    Takes ``i_rwsem``.  Blocks: for writers, and for pages beyond the new end that are read or stored.
    Raises: OSError(EFBIG); ValueError if the *file* through which that is done was closed.
    """
    with mapping.i_rwsem.exclusive():
        if file is not None and file.closed:
            raise closed_file()
        mapping.check_usable()
        require_room(mapping, size_bytes)
        if size_bytes < mapping.i_size or (size_bytes == 0 and mapping.given_up is not None):
            with mapping.zone.lock, mapping.dirty_lock:
                mapping.i_size = size_bytes
                if size_bytes == 0:
                    mapping.given_up = None  # what comes now is a whole
                # Owed from here on, because nothing may be stored before the store knows; also if it has less, but may
                # have more by a request that failed, or is about to be told a larger size.
                owed_bytes = mapping.size_owed
                if size_bytes < mapping.store_end or (owed_bytes is not None and size_bytes < owed_bytes):
                    mapping.owe_size(size_bytes)
            drop_beyond_end(mapping)
        elif size_bytes > mapping.i_size:
            drop_before_growth(mapping)
            _set_size(mapping, size_bytes)


def drop_before_growth(mapping: AddressSpace) -> None:
    """As `drop_beyond_end`, before the file becomes longer by what was not written: that reads as zeros.

    Also once the store is asked for it, which may have something there: of a write that it has failed, after it took
    some of it.  It is told of that only now, or by fsync and close: a file that does not grow is no longer for that.
    """
    with mapping.zone.lock:
        if mapping.store_end > mapping.i_size:
            mapping.owe_size(mapping.i_size)
    drop_beyond_end(mapping)


def drop_beyond_end(mapping: AddressSpace) -> None:
    """Drop the pages beyond the end of the file, dirty or not, and zero the rest of its last page.

    What a view shows stays in its place, and becomes zeros there, as in a memory map.
    Blocks: for pages that are read or stored.
    """
    first = page_count_for(mapping.i_size)
    invalidate_mapping_pages(mapping, first, mapping.frame_count)  # nearly all of them, at once
    for index in here_or_in_flight(mapping, first, mapping.frame_count):
        page = mapping.lock_if_here(index)
        if page is not None:
            try:
                wait_until_stored(page)
                _drop_locked(page)
            finally:
                page.unlock()
    if mapping.i_size & PAGE_OFFSET_MASK:
        page = mapping.lock_if_here(mapping.i_size >> PAGE_SHIFT)
        if page is not None:
            try:
                wait_until_stored(page)  # it is stored as it was, or as it will be: not in between
                _zero(page, mapping.i_size & PAGE_OFFSET_MASK, PAGE_SIZE)
            finally:
                page.unlock()


def punch_hole(mapping: AddressSpace, offset: int, stop_bytes: int) -> int:
    """Have the store make the whole pages of [offset, stop_bytes) zeros, as far as it has them; where that ends.  0 if
    it cannot, or has none: then the caller writes zeros.  Linux: FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE.

    Locks: ``i_rwsem``.  Blocks: as long as the store takes.  Raises: OSError, and the bytes are as they were.
    """
    first, stop = page_count_for(offset), min(stop_bytes, mapping.i_size, mapping.disk_size) >> PAGE_SHIFT
    if first >= stop or mapping.size_owed is not None:
        return 0
    # Stored first, so that nothing is lost should the store fail; no page of it becomes dirty meanwhile.
    if run_steps(write_back(mapping, Sync.ALL, mapping.zone.door.waiter, first, stop)) is not None:
        return 0
    try:
        invalidate_inode_pages2(mapping, first, stop)
        punch = partial(mapping.ops.punch_hole, first << PAGE_SHIFT, stop - first << PAGE_SHIFT)
        called(PUNCH_HOLE, mapping.zone, punch, mapping=mapping, not_stored=range(first, stop))()
        # What a reader has brought meanwhile is from before.
        invalidate_inode_pages2(mapping, first, stop)
    except NotImplementedError:
        return 0
    except OSError as error:
        if error.errno == errno.EBUSY:  # a view shows some of it: its pages stay, and become zeros
            return 0
        raise
    return stop << PAGE_SHIFT


def truncate_setsize(mapping: AddressSpace, size_bytes: int) -> None:
    """The object is shorter or longer: i_size first, then the pages beyond go and the rest of the last is zeroed.

    Blocks: for page locks: a read in flight is waited for, never cancelled.  Raises: OSError(EBUSY) if a page
    that has to go is pinned (a shorter file is shorter all the same, a longer one is not); OSError(EFBIG).
    """
    if page_count_for(size_bytes) > mapping.frame_count:
        raise cannot_grow(mapping.name, size_bytes, mapping.frame_count << PAGE_SHIFT)
    old_bytes = mapping.i_size
    if size_bytes >= old_bytes:
        extend(mapping, size_bytes)
        return
    _set_size(mapping, size_bytes, size_bytes)
    invalidate_inode_pages2(mapping, page_count_for(size_bytes), page_count_for(old_bytes))
    if size_bytes % PAGE_SIZE:
        _zero_tail(mapping, size_bytes)


def require_room(mapping: AddressSpace, size_bytes: int) -> None:
    """Raises: OSError(EFBIG) if the file cannot become so large, here or in its store."""
    most = mapping.ops.object_bytes_max
    if most is not None and size_bytes > most:
        raise too_large(size_bytes, most, mapping.name)
    if page_count_for(size_bytes) > mapping.frame_count:
        raise cannot_grow(mapping.name, size_bytes, mapping.frame_count << PAGE_SHIFT)


def _set_size(mapping: AddressSpace, size_bytes: int, disk_size: int | None = None) -> None:
    # Under the zone's lock so that who locks a page sees one size throughout (AddressSpace.grab_run); under the other
    # because a write that goes the short way looks at it.
    with mapping.zone.lock, mapping.dirty_lock:
        if disk_size is not None:
            # Longer, it may end in what another write, which failed, has left; shorter, there is no more.
            mapping.note_size(disk_size, may_have_tail=size_bytes >= mapping.i_size)
        mapping.i_size = size_bytes


def extend(mapping: AddressSpace, size_bytes: int, *, from_bytes: int = 0, own: Writeback | None = None) -> None:
    """The store has more of the file than it had, *from_bytes* on, and zeros up to there.  The size last: until then
    nobody reads what is being removed.

    Locks: ``i_rwsem``.  Blocks: for page locks.  Raises: OSError(EBUSY) if a view shows what has to go; ENOMEM.
    """
    old_bytes, end_index = mapping.i_size, page_count_for(mapping.i_size)
    # Pages that a view kept when the file became shorter: they are zeros, as what lies before *from_bytes*.
    invalidate_inode_pages2(mapping, max(end_index, from_bytes >> PAGE_SHIFT), page_count_for(size_bytes), own=own)
    if old_bytes % PAGE_SIZE == 0 or from_bytes >= end_index << PAGE_SHIFT:
        _set_size(mapping, size_bytes, size_bytes)
        return
    # The last page ends in zeros, where the file may have bytes by now.  It is read anew, and not before the new
    # size is there: its lock is held until then.
    page = mapping.lock_page(old_bytes >> PAGE_SHIFT)
    try:
        if not _remove_locked(page):
            raise busy(mapping.name, 1)
        _set_size(mapping, size_bytes, size_bytes)
    finally:
        page.unlock()


def _zero_tail(mapping: AddressSpace, size_bytes: int) -> None:
    page = mapping.lock_if_here(size_bytes >> PAGE_SHIFT)
    if page is None:
        return
    try:
        if page.uptodate:
            run = page.run
            start = (run.frame << PAGE_SHIFT) + size_bytes % PAGE_SIZE
            with mapping.zone.lock:
                if removal.is_pinned(run):
                    raise busy(mapping.name, 1)
                # A reader that saw the old size is still copying: the new generation makes it look again.
                mapping.arena.bump_generation(run.frame, 1)
                mapping.arena.memory[start : (run.frame + 1) << PAGE_SHIFT] = bytes(PAGE_SIZE - size_bytes % PAGE_SIZE)
    finally:
        page.unlock()


def wait_until_stored(page: LockedPage, own: Writeback | None = None) -> None:
    """Until it is not under write-back but the caller's *own*."""
    mapping = page.mapping
    writeback = mapping.under_writeback.get(page.index)
    if writeback is not None and writeback is not own:
        run_steps(wait_on_writeback(mapping.zone, writeback, mapping.zone.door.waiter))


def _launder(page: LockedPage) -> None:
    """Have a dirty page stored under its lock, if the store does that; else it stays dirty."""
    mapping, zone = page.mapping, page.mapping.zone
    with zone.lock:
        # Before the store has been told the size that it is owed it gets nothing: that would be cut off again.
        if not mapping.arena.dirty[page.run.frame] or mapping.size_owed is not None:
            return
        end_bytes = mapping.zero_beyond_end(page.index, page.page_count)
        page.end_at(end_bytes)  # it may be more than the store has of it
        mapping.note_begun(end_bytes)
    if called(LAUNDER_PAGE, zone, partial(mapping.ops.launder_page, page), mapping=mapping, page=page)():
        with zone.lock:
            mapping.note_stored(end_bytes)
            zone.dirty.cancelled(mapping.clear_dirty(page.index, page.page_count))


def _drop_locked(page: LockedPage) -> None:
    """Drop a page, dirty or not; one that a view shows becomes zeros in its place.  Linux: truncate_inode_page."""
    mapping, zone, run = page.mapping, page.mapping.zone, page.run
    with zone.lock:
        if not page.uptodate:
            return  # gone with the unlock
        # Both flags at once: no write goes the short way to it from here on.
        zone.dirty.cancelled(mapping.clear_dirty(page.index, page.page_count, uptodate=False))
        page.removed = bool(removal.remove_runs(zone, [run], into=NOT_QUEUED))
    if not page.removed:
        _zero(page, 0, PAGE_SIZE)


def _zero(page: LockedPage, start: int, stop: int) -> None:
    """Zero bytes [start, stop) of a page that is here."""
    arena, frame, _ = page.run
    with page.mapping.zone.lock, page.mapping.dirty_lock:
        if page.uptodate:
            # A reader that saw the old size is still copying: the new generation makes it look again.
            arena.bump_generation(frame, 1)
            at = frame << PAGE_SHIFT
            arena.memory[at + start : at + stop] = bytes(stop - start)


def _remove_locked(page: LockedPage) -> bool:
    zone, run = page.mapping.zone, page.run
    with zone.lock:
        if not page.uptodate:
            return True  # gone with the unlock
        if run.arena.dirty[run.frame] or run.arena.writeback[run.frame]:
            return False
        page.removed = bool(removal.remove_runs(zone, [run], into=NOT_QUEUED))
        return page.removed


def _here(mapping: AddressSpace, start_index: int, stop_index: int) -> Iterator[tuple[int, int]]:
    """The runs of Uptodate pages in a range, as (first index, page count), in batches."""
    base, stop_index = mapping.base, min(stop_index, mapping.frame_count)
    for start, stop in mapping.arena.populated(base + start_index, base + stop_index):
        for first in range(start, stop, _BATCH_PAGES):
            yield first - base, min(_BATCH_PAGES, stop - first)


def here_or_in_flight(mapping: AddressSpace, start_index: int, stop_index: int) -> list[int]:
    """The pages of a range that are here or on their way, in order.  None comes after: the file is shorter by now,
    or its user asked for those that are here."""
    # In one hold: an eviction may take a page that turns out to be pinned, and put it back.
    with mapping.zone.lock:
        pages = {index for index in mapping.in_flight if start_index <= index < stop_index}
        for first, count in _here(mapping, start_index, stop_index):
            pages.update(range(first, first + count))
    return sorted(pages)
