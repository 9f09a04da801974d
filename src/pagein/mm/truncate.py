"""Removing pages by wish: invalidation, and a file that becomes shorter or longer.

Guarantees: `invalidate_mapping_pages` never blocks and never touches what is in use; `truncate_setsize` moves
i_size first, so that readers see the new end before pages go; whatever is removed is removed by
reclaim.remove_runs, in its order.
Assumes: callers of `truncate_setsize` and `invalidate_inode_pages2` hold no page lock, and hold the inode's own
lock against one another (Linux: i_rwsem), as nothing here orders two truncations.
Not here: dirty pages' write-back, which comes with writing.  A page that is dirty stays, and is reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import busy, cannot_grow
from ..units import PAGE_SHIFT, PAGE_SIZE, page_count_for
from . import reclaim
from .lru import NOT_QUEUED, Run

if TYPE_CHECKING:
    from .mapping import AddressSpace
    from .page import LockedPage

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
            dropped_pages += reclaim.remove_idle(zone, Run(mapping.arena, mapping.base + first, count))
    return dropped_pages


def invalidate_inode_pages2(mapping: AddressSpace, start_index: int, stop_index: int) -> None:
    """Remove every page of [start_index, stop_index), waiting for those in flight, so that all is read anew.

    Blocks: for page locks, in ascending order.  Raises: OSError(EBUSY), after removing what it could, if a page
    is dirty, or pinned (Linux leaves the holder of a reference an orphan; here a page's memory is its place).
    """
    kept_pages = 0
    # Also what has no page now: a reader whose own read failed before this must ask again, not fail.
    mapping.invalidations += 1
    for index in _here_or_in_flight(mapping, start_index, stop_index):
        page = mapping.lock_if_here(index)
        if page is not None:
            try:
                kept_pages += not _remove_locked(page)
            finally:
                page.unlock()
    if kept_pages:
        raise busy(mapping.name, kept_pages)


def truncate_setsize(mapping: AddressSpace, size_bytes: int) -> None:
    """Make a file shorter or longer: i_size first, then the pages beyond it go and the last one's tail is zeroed.

    Blocks: for page locks: a read in flight is waited for, never cancelled.  Raises: OSError(EBUSY) if a page
    that has to go is pinned (a shorter file is shorter all the same, a longer one is not); OSError(EFBIG).
    """
    if page_count_for(size_bytes) > mapping.frame_count:
        raise cannot_grow(mapping.name, size_bytes, mapping.frame_count << PAGE_SHIFT)
    old_bytes = mapping.i_size
    if size_bytes >= old_bytes:
        _grow(mapping, size_bytes)
        return
    _set_i_size(mapping, size_bytes)
    invalidate_inode_pages2(mapping, page_count_for(size_bytes), page_count_for(old_bytes))
    if size_bytes % PAGE_SIZE:
        _zero_tail(mapping, size_bytes)


def _set_i_size(mapping: AddressSpace, size_bytes: int) -> None:
    with mapping.zone.lock:  # so that who locks a page sees one size throughout (AddressSpace.grab_run)
        mapping.i_size = size_bytes


def _grow(mapping: AddressSpace, size_bytes: int) -> None:
    """The size last: until then nobody reads what is being removed because it is no longer the file's."""
    old_bytes = mapping.i_size
    # Pages that a view kept when the file became shorter.
    invalidate_inode_pages2(mapping, page_count_for(old_bytes), page_count_for(size_bytes))
    if old_bytes % PAGE_SIZE == 0:
        _set_i_size(mapping, size_bytes)
        return
    # The last page ends in zeros, where the file may have bytes by now.  It is read anew, and not before the new
    # size is there: its lock is held until then.
    page = mapping.lock_page(old_bytes >> PAGE_SHIFT)
    try:
        if not _remove_locked(page):
            raise busy(mapping.name, 1)
        _set_i_size(mapping, size_bytes)
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
                if reclaim.is_pinned(run):
                    raise busy(mapping.name, 1)
                # A reader that saw the old size is still copying: the new generation makes it look again.
                mapping.arena.bump_generation(run.frame, 1)
                mapping.arena.memory[start : (run.frame + 1) << PAGE_SHIFT] = bytes(PAGE_SIZE - size_bytes % PAGE_SIZE)
    finally:
        page.unlock()


def _remove_locked(page: LockedPage) -> bool:
    zone, run = page.mapping.zone, page.run
    with zone.lock:
        if not page.uptodate:
            return True  # gone with the unlock
        if run.arena.dirty[run.frame] or run.arena.writeback[run.frame]:
            return False
        page.removed = bool(reclaim.remove_runs(zone, [run], into=NOT_QUEUED))
        return page.removed


def _here(mapping: AddressSpace, start_index: int, stop_index: int) -> Iterator[tuple[int, int]]:
    """The runs of Uptodate pages in a range, as (first index, page count), in batches."""
    base, stop_index = mapping.base, min(stop_index, mapping.frame_count)
    for start, stop in mapping.arena.populated(base + start_index, base + stop_index):
        for first in range(start, stop, _BATCH_PAGES):
            yield first - base, min(_BATCH_PAGES, stop - first)


def _here_or_in_flight(mapping: AddressSpace, start_index: int, stop_index: int) -> list[int]:
    """The pages of a range that are here or on their way, in order.  None comes after: the file is shorter by now,
    or its user asked for those that are here."""
    # In one hold: an eviction may take a page that turns out to be pinned, and put it back.
    with mapping.zone.lock:
        pages = {index for index in mapping.in_flight if start_index <= index < stop_index}
        for first, count in _here(mapping, start_index, stop_index):
            pages.update(range(first, first + count))
    return sorted(pages)
