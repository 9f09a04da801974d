"""Writing into the cache: pages are brought where only a part of them is written, filled, and marked dirty.
Linux: generic_perform_write, write_begin, write_end.

Guarantees: old bytes around a write are kept; a page under read is waited for, and the read does not overwrite what
was written; ``i_size`` moves under the page's lock, after the bytes are there; writes are whole with respect to one
another, and to changes of size, because all take ``i_rwsem``.
Assumes: callers hold no page lock.  Runs where no signal can interrupt it (workqueue.py).
Not here: the short way of a write to pages that are here (pagein.writer); how much may be dirty (dirty.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import closed_cache, closed_file
from ..units import PAGE_OFFSET_MASK, PAGE_SHIFT, page_count_for
from . import reclaim
from .arena import ones
from .bring import lock_uptodate
from .lru import RUN_PAGES_MAX
from .sync import MakeWaiter, Steps
from .truncate import drop_before_growth, punch_hole, require_room

if TYPE_CHECKING:
    from .mapping import AddressSpace
    from .openfile import OpenFile
    from .page import LockedPage
    from .zone import Zone

AHEAD_PAGES_MAX = 8192
"""What is made ready beyond the end for somebody who appends: up to 32 MiB, twice as much each time..."""
AHEAD_SHARE = 32
"""...but no more than this share of the cache."""


def perform_write(file: OpenFile, data: memoryview, offset: int | None, make_waiter: MakeWaiter) -> Steps[range]:
    """Write *data* at *offset*, or, if that is None, at the end as it is when its turn comes (O_APPEND); which bytes of
    the file it is now.

    Fewer only if an error came after some: it comes to the next write.
    Blocks: for other writers, for pages that are read, for memory, and while too much is dirty.
    Raises: OSError: EFBIG; ENOMEM; of the store, if a page cannot be read, or nothing can be written back.
    """
    mapping = file.mapping
    yield from mapping.i_rwsem.acquire_steps(make_waiter)
    try:
        require_open(file)
        start = mapping.i_size if offset is None else offset
        return range(start, start + (yield from write_locked(file, data, start, make_waiter)))
    finally:
        mapping.i_rwsem.release()


def require_open(file: OpenFile) -> None:
    """Raises: ValueError if the file has been closed: who closes it waits for ``i_rwsem`` before he writes back."""
    if file.closed:
        raise closed_file()
    file.mapping.check_usable()


def write_locked(file: OpenFile, data: memoryview, offset: int, make_waiter: MakeWaiter) -> Steps[int]:
    """`perform_write`, by who holds ``i_rwsem``; how many bytes."""
    mapping = file.mapping
    require_room(mapping, offset + len(data) if len(data) else 0)  # of nothing, no place is too far (POSIX)
    appends = offset == mapping.i_size
    if offset > mapping.i_size and len(data):
        drop_before_growth(mapping)  # an interrupted write may have left something there
    written = yield from _write(file, data, offset, make_waiter)
    if written == len(data):
        _make_ready(mapping, offset + written, written if appends else 0)
    return written


def zero_range(file: OpenFile, offset: int, size_bytes: int, make_waiter: MakeWaiter) -> Steps[None]:
    """Make a range zeros, and leave the size as it is: a hole, where the store can make one.

    Blocks and raises: as `perform_write`.
    """
    mapping = file.mapping
    yield from mapping.i_rwsem.acquire_steps(make_waiter)
    try:
        require_open(file)
        stop = min(offset + size_bytes, mapping.i_size)
        pieces = [(offset, stop)]
        punched_stop = punch_hole(mapping, offset, stop)
        if punched_stop:
            pieces = [(offset, page_count_for(offset) << PAGE_SHIFT), (punched_stop, stop)]
        for start, end in [part for piece in pieces for part in _not_zeros(mapping, *piece)]:
            at = start
            while at < end:
                at += yield from _write(file, memoryview(_ZEROS)[: end - at], at, make_waiter)
    finally:
        mapping.i_rwsem.release()


def _not_zeros(mapping: AddressSpace, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The parts of [start, stop) of which something may be other than zeros: up to where the store may have something,
    and beyond, what is dirty.  Locks: ``i_rwsem``, so that nothing else becomes dirty."""
    with mapping.zone.lock:
        store_end = mapping.store_end if mapping.size_owed is None else min(mapping.store_end, mapping.size_owed)
        hole = max(start, min(page_count_for(store_end) << PAGE_SHIFT, stop))
        # In one hold: what is taken to be stored, and is not dirty any more, is below where the store ends.
        runs = list(mapping.dirty_runs(hole >> PAGE_SHIFT, page_count_for(stop)))
    if start < hole:
        yield start, hole
    for first, count in runs:
        yield max(hole, first << PAGE_SHIFT), min(stop, first + count << PAGE_SHIFT)


_ZEROS = bytes(1 << 20)


def _write(file: OpenFile, data: memoryview, at: int, make_waiter: MakeWaiter) -> Steps[int]:
    mapping, dirty = file.mapping, file.mapping.zone.dirty
    done = 0
    while done < len(data):
        offset = at + done
        index = offset >> PAGE_SHIFT
        stop = min(at + len(data), (index | RUN_PAGES_MAX - 1) + 1 << PAGE_SHIFT)
        granted = 0
        try:
            granted = yield from dirty.grant_steps(mapping, page_count_for(stop) - index, make_waiter)
            stop = min(stop, index + granted << PAGE_SHIFT)
            page = yield from _lock_pages(file, offset, stop, make_waiter)
        except BaseException as error:
            if granted:
                dirty.give_back(granted)
            if done and isinstance(error, OSError):
                return done
            raise
        stop = min(stop, page.index + page.page_count << PAGE_SHIFT)
        try:
            try:
                mapping.arena.write(data[done : done + stop - offset], (mapping.base << PAGE_SHIFT) + offset)
            except BaseException:  # no memory, perhaps: what of it is there by now is the file's
                if page.uptodate:
                    granted -= write_end(page, mapping.i_size)
                raise
            granted -= write_end(page, stop)
        finally:
            page.unlock()
            if granted:
                dirty.give_back(granted)
        done += stop - offset
    return done


def _lock_pages(file: OpenFile, offset: int, stop: int, make_waiter: MakeWaiter) -> Steps[LockedPage]:
    """The first pages of bytes [offset, stop), as many as can be had at once, locked; all of them Uptodate, or about
    to be overwritten whole."""
    mapping = file.mapping
    zone = mapping.zone
    index, stop_index = offset >> PAGE_SHIFT, page_count_for(stop)
    with zone.lock:
        mapping.check_usable()
        here = mapping.here_run(index, stop_index - index)
        if here:
            return mapping.lock_run(index, here)
        covered = 0
        if _is_covered(mapping, index, offset, stop):  # those in between are overwritten whole
            covered = stop_index - index - (not _is_covered(mapping, stop_index - 1, offset, stop))
        absent = mapping.absent_run(index, covered)
    if absent:
        granted = yield from reclaim.reserve_steps(zone, absent, make_waiter)
        page = mapping.grab_run(index, granted, wanted_pages=granted, beyond_end=True)
        if page is not None:
            return page
    return (yield from write_begin(file, index, offset, stop, make_waiter))


def _is_covered(mapping: AddressSpace, index: int, offset: int, stop: int) -> bool:
    """Whether a write of bytes [offset, stop) leaves nothing of what page *index* holds in the store."""
    start = index << PAGE_SHIFT
    end = min(start + PAGE_OFFSET_MASK + 1, mapping.i_size, max(mapping.disk_size, start))
    return start >= end or (offset <= start and end <= stop)


def write_begin(file: OpenFile, index: int, offset: int, stop: int, make_waiter: MakeWaiter) -> Steps[LockedPage]:
    """Page *index*, locked, and Uptodate in every byte that a write of bytes [offset, stop) leaves as it is.

    Locks: ``i_rwsem``; on return the page's.  Blocks: for the lock, for memory, for the store.  Raises: OSError.
    """
    mapping = file.mapping
    while _is_covered(mapping, index, offset, stop):
        page = yield from mapping.lock_page_steps(index, make_waiter)
        # Looked at again: while we stood in line it may have been stored, and have left the cache.
        if page.uptodate or _is_covered(mapping, index, offset, stop):
            return page
        page.unlock()
    uptodate = yield from lock_uptodate(file, index, make_waiter)
    assert uptodate is not None, "with i_rwsem held the file does not become shorter"
    return uptodate


def write_end(page: LockedPage, stop: int) -> int:
    """The bytes are there, up to *stop*: the page is Uptodate and dirty, and the file as long as that; how many pages
    were not dirty before.  Locks: ``i_rwsem``, and the page.

    Raises: ValueError if the cache has been closed meanwhile, by who did not wait for this: nobody would store it.
    """
    mapping = page.mapping
    arena, frame, count = page.run
    with mapping.zone.lock, mapping.dirty_lock:
        if mapping.zone.closed:
            raise closed_cache()
        fresh = count - arena.dirty[frame : frame + count].count(1)
        arena.dirty[frame : frame + count] = ones(count)
        mapping.dirty_pages += fresh
        is_first = mapping.dirty_pages == fresh
        if is_first:
            mapping.dirty_since_s = mapping.zone.door.now_s()
        if 0 in arena.uptodate[frame : frame + count]:
            arena.uptodate[frame : frame + count] = ones(count)
        mapping.i_size = max(mapping.i_size, stop)
        is_waited_for = mapping.zone.dirty.has_no_room
    if is_first or is_waited_for:
        _tell_flusher(mapping.zone, is_waited_for=is_waited_for)
    return fresh


def _tell_flusher(zone: Zone, *, is_waited_for: bool) -> None:
    """There is something to clean.  *is_waited_for*: by who has no leave, and found nothing that could be cleaned."""
    try:
        if is_waited_for:
            zone.flusher.kick()
        else:
            zone.flusher.start()
    except RuntimeError:  # no thread is to be had: whoever has to wait for it hears of that
        with zone.lock:
            zone.dirty.wake_all()


def _make_ready(mapping: AddressSpace, end: int, appended_bytes: int) -> None:
    """Grant a budget, and, for somebody who appends, pages beyond the end, so that his next writes go the short way.

    The pages are zeros and clean: if memory is short, they go.  Blocks: no.
    """
    zone = mapping.zone
    with zone.lock, mapping.dirty_lock:
        budget = zone.dirty.budget_pages() if mapping.may_write_short and mapping.dirty_pages else 0
        zone.dirty.pages += max(0, budget - mapping.dirty_budget)
        mapping.dirty_budget = max(budget, mapping.dirty_budget)
    if not appended_bytes or end != mapping.i_size or not mapping.dirty_budget:
        mapping.room_ahead_pages = 0
        return
    index = page_count_for(end)
    want = max(2 * mapping.room_ahead_pages, page_count_for(appended_bytes), 1)
    want = min(want, AHEAD_PAGES_MAX, zone.cap_pages // AHEAD_SHARE, mapping.dirty_budget, mapping.frame_count - index)
    granted = reclaim.try_reserve(zone, want) if want > 0 else 0
    if granted:
        mapping.room_ahead_pages = mapping.admit_zeros(index, granted)
