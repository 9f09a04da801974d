"""Making pages Uptodate: waiting for those in flight, and fetching those that are absent.

Guarantees: a page is fetched once, however many want it; a run of absent pages is one request; the error of a
fetch comes unchanged to the reader whose fetch it was, and the others line up and try for themselves.
Assumes: callers hold no page lock, and run this where no signal can interrupt it (workqueue.py).
Not here: copying what has come (filemap.py); how a run is asked for (readahead.py) and a page (readpage.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import not_uptodate
from . import reclaim
from .readahead import read_run, window_pages
from .readpage import Outcome, do_readpage

if TYPE_CHECKING:
    from .mapping import AddressSpace, OpenFile
    from .page import LockedPage

REQUEST_PAGES_MAX = 2048
"""The most that one miss asks of a store at once: 8 MiB..."""
REQUEST_CACHE_SHARE = 4
"""...and no more than a quarter of the cache, so that one reader does not sweep it at a stroke..."""
REQUEST_PAGES_MIN = 16
"""...unless the cache is so small that this would make every request tiny."""
TRUNCATED_PATIENCE = 8
"""AOP_TRUNCATED_PAGE may come so often in a row before the reader gives the store time to settle..."""
TRUNCATED_DELAY_MAX_S = 0.01
"""...in pauses that double up to this.  Linux spins here; ocfs2 had a livelock of it (c7e25e6e0b04)."""


def read_in_background(file: OpenFile, start_index: int, stop_index: int) -> None:
    """Start making the pages [start_index, stop_index) Uptodate, and return.  Errors are nobody's.

    Half a cache at most: more would only evict what came first.
    """
    stop_index = min(stop_index, start_index + max(1, file.mapping.zone.cap_pages // 2))

    def run() -> None:
        index, limit_pages = start_index, REQUEST_PAGES_MAX
        while not file.closed and 0 <= (index := first_absent(file.mapping, index, stop_index)):
            limit_pages = bring(file, index, stop_index - index, limit_pages)

    file.mapping.zone.workqueue.start(run)


def first_absent(mapping: AddressSpace, start_index: int, stop_index: int) -> int:
    """The first index in the range, and in the file, whose page is not Uptodate; -1 if there is none."""
    frame, stop_index = mapping.base + start_index, min(stop_index, mapping.page_count)
    hole = mapping.arena.uptodate.find(b"\0", frame, mapping.base + stop_index)
    return hole - mapping.base if hole >= 0 else -1


def bring(file: OpenFile, index: int, want_pages: int, limit_pages: int, *, counts: bool = False) -> int:
    """Make page *index* Uptodate, and up to *want_pages* from there with the same request if they are absent too.

    On return it was Uptodate at some moment, or lies beyond the end.  Returns how many pages the next request of
    this reader may have: twice as many after a success, 1 after a failure, so that the pages before a bad one
    are had with few requests.  *counts*: whether this is a reader's first miss.
    Locks: none held.  Blocks: yes.  Raises: the store's OSError if the fetch was the caller's; OSError(ENOMEM).
    """
    mapping, zone = file.mapping, file.mapping.zone
    with zone.lock:
        zone.counters["misses"] += counts
        if mapping.is_uptodate(index):
            return limit_pages
        holder = mapping.in_flight.get(index)
        wait = holder.join(index, wants_lock=False) if holder else None
    if wait is not None:
        zone.count("waits")
        wait.wait()
        if mapping.is_uptodate(index):
            return limit_pages
    elif (page := _grab(file, index, want_pages, limit_pages)) is None:
        return limit_pages  # another reader was faster: look again
    elif _read_grabbed(file, page, index):
        return min(limit_pages * 2, REQUEST_PAGES_MAX)
    # Somebody's fetch of it failed, or the page went again: get in line for the lock and ask for it alone.
    page = lock_uptodate(file, index)
    if page is not None:
        page.unlock()
    return 1


def _grab(file: OpenFile, index: int, want_pages: int, limit_pages: int) -> LockedPage | None:
    mapping, zone = file.mapping, file.mapping.zone
    most_pages = min(limit_pages, REQUEST_PAGES_MAX, max(zone.cap_pages // REQUEST_CACHE_SHARE, REQUEST_PAGES_MIN))
    page_count = window_pages(file, index, want_pages, most_pages)
    with zone.lock:
        page_count = mapping.absent_run(index, page_count)
    if not page_count:
        return None
    return mapping.grab_run(index, reclaim.reserve(zone, page_count), wanted_pages=want_pages)


def _read_grabbed(file: OpenFile, page: LockedPage, index: int) -> bool:
    if page.page_count == 1:
        if _readpage(file, page):
            page.unlock()
            return True
        return file.mapping.is_uptodate(index)
    read_run(file, page)
    holder = file.mapping.in_flight.get(index)
    if holder is not None:  # an asynchronous operation
        holder.wait()
    return file.mapping.is_uptodate(index)


def lock_uptodate(file: OpenFile, index: int) -> LockedPage | None:
    """Page *index*, locked and Uptodate, read if need be; None if it lies beyond the end.

    Locks: none held on entry, the page's on return.  Blocks: yes.  Raises: as `bring`.
    """
    mapping = file.mapping
    truncated_count = 0
    while index < mapping.page_count:
        page = mapping.lock_page(index)
        if index >= mapping.page_count:  # cut off while we waited
            page.unlock()
            return None
        if page.uptodate or _readpage(file, page):
            return page
        truncated_count += 1
        if truncated_count > TRUNCATED_PATIENCE:
            delay_s = 1e-5 * 2 ** min(truncated_count - TRUNCATED_PATIENCE, 10)
            mapping.zone.door.sleep(min(delay_s, TRUNCATED_DELAY_MAX_S))
    return None


def _readpage(file: OpenFile, page: LockedPage) -> bool:
    """Read a locked page.  True: it is Uptodate and still locked.  False: it has been released, look it up again."""
    mapping = page.mapping
    invalidations = mapping.invalidations
    outcome = do_readpage(file, page)
    if outcome is not Outcome.STARTED:
        return outcome is Outcome.UPDATED
    page.wait()
    if page.filled or page.removed or mapping.invalidations != invalidations:
        return False
    file.ra = file.ra._replace(ra_pages=file.ra.ra_pages // 4)  # as Linux: shrink_readahead_size_eio
    error, page.error = page.error or not_uptodate(mapping.name, index=page.index), None
    try:
        raise error
    finally:
        del error  # its traceback refers to this frame: no cycle
