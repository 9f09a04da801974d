"""Making pages Uptodate: waiting for those in flight, and having those fetched that are absent.

Guarantees: a page is fetched once, however many want it; the error of a fetch comes unchanged to the reader whose
fetch it was, and the others line up and try for themselves.
Assumes: callers hold no page lock, and run this where no signal can interrupt it (workqueue.py).
Not here: copying what has come (filemap.py); what is asked for (readahead.py) and how (rac.py, readpage.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import not_uptodate
from .readahead import SCALE_MIN, WANTED_PAGES_MAX, hit_marker, sync_readahead
from .readpage import Outcome
from .sync import MakeWaiter, Steps
from .tracepoints import waiting
from .wait import GivenUp, Wanting

if TYPE_CHECKING:
    from .mapping import AddressSpace
    from .openfile import OpenFile
    from .page import LockedPage, Page
    from .request import Request

UNLIMITED = WANTED_PAGES_MAX
"""A reader's first request may be as large as any."""
TRUNCATED_PATIENCE = 8
"""AOP_TRUNCATED_PAGE may come so often in a row before the reader gives the store time to settle..."""
TRUNCATED_DELAY_MAX_S = 0.01
"""...in pauses that double up to this.  Linux spins here; ocfs2 had a livelock of it (c7e25e6e0b04)."""


class Bring(Wanting):
    """`bring` with its arguments, and what follows: what a reader who cannot wait has done for him.

    *copy* is called as soon as the pages are here: by the time that a reader hears of it, others may have driven them
    out.  It is run once.
    """

    __slots__ = "copy", "counts", "failed", "file", "index", "limit_pages", "want_pages"

    def __init__(
        self,
        file: OpenFile,
        index: int,
        want_pages: int,
        limit_pages: int = UNLIMITED,
        *,
        counts: bool = False,
        copy: Callable[[], object] | None = None,
    ) -> None:
        super().__init__()
        self.file: OpenFile = file
        self.index: int = index
        self.want_pages: int = want_pages
        self.limit_pages: int = limit_pages
        self.counts: bool = counts
        self.copy: Callable[[], object] | None = copy
        self.failed: Page | None = None
        """He stood by it, in vain: he gets in line now."""

    def give_up(self) -> None:
        """Nobody waits for it any more: it leaves the line, and ends soon.  What it has asked for itself still comes.

        Else readers who give up and try again would fill the line of a page for as long as its store hangs.
        Locks: takes the zone's lock.
        """
        with self.file.mapping.zone.lock:
            self.give_up_in_zone()

    def stand_by(self) -> bool:
        """On a thread that a signal may interrupt: wait for the page if there is nothing else to do, as it is on its
        way and bears no marker.  Whether that has brought it; if it has failed, he gets in line, as others do.

        No worker has to do that for him, which takes two switches of threads.  (With checks, or a tracer, one does:
        they watch who waits.)  Blocks: interruptibly.
        """
        mapping = self.file.mapping
        zone, page = mapping.zone, mapping.in_flight.get(self.index)
        if page is None or zone.checks or zone.tracer is not None or not zone.door.signals_arrive_here():
            return False
        if self.index <= page.marker_index < self.index + self.want_pages:
            return False
        waited_for = page.bystanders.wait(page, self.index, counts=self.counts)
        if waited_for is None:
            return False
        self.counts = False  # it has been counted
        if waited_for.filled or mapping.is_uptodate(self.index):
            return True
        self.failed = waited_for
        return False

    def __call__(self, make_waiter: MakeWaiter) -> Steps[tuple[int, Any]]:
        """The steps, to what `bring` returns and what was copied."""
        file, index = self.file, self.index
        try:
            if self.failed is not None:
                _raise_mistake(self.failed.error)
                limit_pages = yield from _bring_alone(file, index, make_waiter, self)
            else:
                limit_pages = yield from bring(
                    file, index, self.want_pages, self.limit_pages, make_waiter, counts=self.counts, reader=self
                )
        except GivenUp:
            return self.limit_pages, None
        return limit_pages, self.copy() if self.copy and not self.is_unwanted else None


def start_bringing(file: OpenFile, index: int, want_pages: int) -> None:
    """Start to bring pages, and do not wait; errors are nobody's."""
    file.mapping.zone.workqueue.run_detached(Bring(file, index, want_pages), ignore)


def ignore(result: object, error: BaseException | None) -> None:
    """Of work that nobody waits for."""


def first_absent(mapping: AddressSpace, start_index: int, stop_index: int) -> int:
    """The first index in the range, and in the file, whose page is not Uptodate; -1 if there is none."""
    frame, stop_index = mapping.base + start_index, min(stop_index, mapping.page_count)
    hole = mapping.arena.uptodate.find(b"\0", frame, mapping.base + stop_index)
    return hole - mapping.base if hole >= 0 else -1


def bring(
    file: OpenFile,
    index: int,
    want_pages: int,
    limit_pages: int,
    make_waiter: MakeWaiter,
    *,
    counts: bool = False,
    reader: Wanting | None = None,
) -> Steps[int]:
    """Make page *index* Uptodate, and up to *want_pages* from there with the same request if they are absent too.

    At the end it was Uptodate at some moment, or lies beyond the end.  Returns how many pages the next request of
    this reader may have: twice as many after a success, 1 after a failure, so that the pages before a bad one
    are had with few requests.  *counts*: whether this is a reader's first miss.  *reader*: who may give it up.
    Locks: none held.  Blocks: yes.  Raises: the store's OSError if the fetch was the caller's; OSError(ENOMEM);
    GivenUp, or returns before.
    """
    mapping, zone = file.mapping, file.mapping.zone
    marker_index = -1
    if zone.checks is not None:
        zone.checks.before_page(mapping, index, locks=False)
    with zone.lock:
        zone.counters["misses"] += counts
        if mapping.is_uptodate(index) or (reader is not None and reader.is_unwanted):
            return limit_pages
        holder = mapping.in_flight.get(index)
        if holder is not None:
            zone.counters["waits"] += 1
            wait = holder.join(index, make_waiter, wants_lock=False)
            if reader is not None:
                reader.wait = wait
            marker_index = _take_marker(holder, index, index + want_pages)
    if holder is not None:
        wait.start_what_it_needs()
        if marker_index >= 0:  # before the wait, as in Linux: the pipe is not to run dry
            hit_marker(file, marker_index, index + want_pages - marker_index)
        with waiting(zone, "a page that is on its way", mapping.name):
            yield from wait.steps()
        if wait.was_given_up or wait.page.filled or mapping.is_uptodate(index):
            return limit_pages
        _raise_mistake(holder.error)
    else:
        invalidations = mapping.invalidations
        request = yield from sync_readahead(file, index, want_pages, limit_pages, make_waiter)
        if request is None:
            return limit_pages  # another reader was faster: look again
        yield from request.steps(index, make_waiter)
        _raise_own(file, request, invalidations)
        if request.brought(index) or mapping.is_uptodate(index):
            return min(limit_pages * 2, UNLIMITED)
    return (yield from _bring_alone(file, index, make_waiter, reader))


def _bring_alone(file: OpenFile, index: int, make_waiter: MakeWaiter, reader: Wanting | None) -> Steps[int]:
    """Somebody's fetch of it failed: get in line for the lock and ask for it alone."""
    page = yield from lock_uptodate(file, index, make_waiter, reader)
    if page is not None:
        page.unlock()
    return 1


def _take_marker(page: Page, start_index: int, stop_index: int) -> int:
    """Take off the marker of a page that is in flight.  Under the zone's lock."""
    marker_index = page.marker_index
    if start_index <= marker_index < stop_index:
        page.marker_index = -1
        return marker_index
    return -1


def _raise_own(file: OpenFile, request: Request, invalidations: int) -> None:
    """Raise what became of the reader's own fetch, if it is his to hear: of a page that was asked for alone."""
    error = request.take_error()
    if error is not None:
        try:
            raise error
        finally:
            del error  # its traceback refers to this frame: no cycle
    page = request.page
    if request.outcome is Outcome.STARTED and page.page_count == 1:
        _raise_ended(file, page, invalidations)
    _raise_mistake(page.error)


def _raise_ended(file: OpenFile, page: Page, invalidations: int) -> None:
    """Raise the error with which an asynchronous read of one page ended, unless the page is gone for good reason."""
    mapping = page.mapping
    if page.filled or page.removed or mapping.invalidations != invalidations:
        return
    file.ra_scale = max(file.ra_scale / 4, SCALE_MIN)  # Linux: shrink_readahead_size_eio
    error, page.error = page.error or not_uptodate(mapping.name, index=page.index), None
    try:
        raise error
    finally:
        del error


def _raise_mistake(error: BaseException | None) -> None:
    """An OSError of another's fetch is not this reader's; a mistake in an operation is everybody's."""
    if error is not None and not isinstance(error, OSError):
        raise error


def lock_uptodate(
    file: OpenFile, index: int, make_waiter: MakeWaiter, reader: Wanting | None = None
) -> Steps[LockedPage | None]:
    """Page *index*, locked and Uptodate, read if need be; None if it lies beyond the end.  *reader*: who may give it
    up, for whom the store is not asked then.

    Locks: none held at the beginning, the page's at the end.  Blocks: yes.  Raises: as `bring`.
    """
    mapping = file.mapping
    truncated_count = 0
    while index < mapping.page_count:
        page = yield from mapping.lock_page_steps(index, make_waiter, reader)
        if reader is not None and reader.is_unwanted:  # he had the lock already
            page.unlock()
            raise GivenUp
        if index >= mapping.page_count:  # cut off while we waited
            page.unlock()
            return None
        if page.uptodate or (yield from _readpage(file, page, make_waiter)):
            return page
        truncated_count += 1
        if truncated_count > TRUNCATED_PATIENCE:
            delay_s = 1e-5 * 2 ** min(truncated_count - TRUNCATED_PATIENCE, 10)
            mapping.zone.door.sleep(min(delay_s, TRUNCATED_DELAY_MAX_S))
    return None


def _readpage(file: OpenFile, page: LockedPage, make_waiter: MakeWaiter) -> Steps[bool]:
    """Read a locked page.  True: it is Uptodate and still locked.  False: it has been released, look it up again."""
    mapping = page.mapping
    invalidations = mapping.invalidations
    outcome = yield from mapping.device.read_locked(file, page, make_waiter)
    if outcome is Outcome.STARTED:
        yield from page.wait_steps(make_waiter)
        _raise_ended(file, page, invalidations)
    return outcome is Outcome.UPDATED
