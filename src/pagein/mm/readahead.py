"""Readahead: how much to ask for at a miss, and how a run of pages is asked for.

Guarantees: no page beyond the end of the file is asked for; an error of a run reaches nobody from here, since
whoever needs a page that did not come asks for it alone and hears that answer; no page stays locked.
Source: the synchronous half of Linux's on-demand readahead (mm/readahead.c): a first window at the start of a
file or of a stream, then windows that double.  The window here is exact and small: `next_window` is pure.
Not here: the marker that starts the next window early, asynchronous windows, and windows sized to the store.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from ..errors import ContractViolation
from .aops import AddressSpaceOperations
from .page import LockedPage
from .readpage import Outcome, do_readpage

if TYPE_CHECKING:
    from .mapping import AddressSpace, OpenFile
    from .page import Page

RA_PAGES = 256
"""The largest window: 1 MiB."""


class ReadaheadState(NamedTuple):
    """What one open file remembers: its last window, and where its last miss ended.  Replaced whole, so that
    threads that share a file never see half of a window."""

    start: int = 0
    size: int = 0
    prev_index: int = -1
    ra_pages: int = RA_PAGES


def next_window(state: ReadaheadState, index: int, req_pages: int, history_pages: int) -> ReadaheadState:
    """The window for a miss at *index* of a reader who wants *req_pages*: a new state whose ``start`` is *index*.

    *history_pages*: how many pages just before *index* are cached (a reader whose state was lost, or who shares
    the file with others, is recognised by them).  A random read gets exactly what it asked for.
    """
    max_pages = state.ra_pages
    if index and index == state.start + state.size:
        size = max(_grown(state.size, max_pages), req_pages)
    elif index == 0 or req_pages > max_pages or 0 <= index - state.prev_index <= 1:
        size = max(_initial(req_pages, max_pages), req_pages)
    elif history_pages > req_pages:
        size = max(min(history_pages + req_pages, max_pages), req_pages)
    else:
        size = req_pages
    return ReadaheadState(index, size, index + req_pages - 1, max_pages)


def _initial(req_pages: int, max_pages: int) -> int:
    """The first window: the next power of two, times 4 while small, 2 up to a quarter of the most."""
    size = 1 << max(req_pages - 1, 0).bit_length()
    if size <= max_pages // 32:
        return size * 4
    return size * 2 if size <= max_pages // 4 else max_pages


def _grown(size: int, max_pages: int) -> int:
    return min(size * 4 if size < max_pages // 16 else size * 2, max_pages)


def window_pages(file: OpenFile, index: int, req_pages: int, limit_pages: int) -> int:
    """How many pages to ask for at a miss; remembers the window.  At least 1, at most *limit_pages*."""
    mapping = file.mapping
    if file.random or file.ra.ra_pages == 0:
        file.ra = file.ra._replace(start=index, size=req_pages, prev_index=index + req_pages - 1)
    else:
        history = _history_pages(mapping, index, file.ra.ra_pages)
        file.ra = next_window(file.ra, index, req_pages, history)
    return max(1, min(file.ra.size, mapping.page_count - index, limit_pages))


def _history_pages(mapping: AddressSpace, index: int, max_pages: int) -> int:
    """How many pages end at *index* - 1 without a hole, looking back at most *max_pages*."""
    stop = mapping.base + index
    start = stop - min(index, max_pages)
    return stop - 1 - max(mapping.arena.uptodate.rfind(b"\0", start, stop), start - 1)


class ReadaheadControl:
    """A run of locked pages to bring.  An operation takes pages off its front; what it takes it ends."""

    def __init__(self, file: OpenFile, page: LockedPage) -> None:
        self.file = file
        self.taken: list[Page] = []
        self._rest: Page | None = page

    @property
    def index(self) -> int:
        """The first page that has not been taken."""
        return self._untaken().index

    @property
    def page_count(self) -> int:
        """Pages that have not been taken."""
        return self._rest.page_count if self._rest else 0

    def take(self, page_count: int | None = None) -> Page:
        """Take the first *page_count* pages, by default all, as one `Page` that is filled and ended as one."""
        rest = self._untaken()
        if page_count is not None and page_count < 1:
            raise ValueError(f"readahead takes at least 1 page, not {page_count}")
        if page_count is None or page_count >= rest.page_count:
            self._rest = None
            page = rest
        else:
            page = rest.split_head(page_count)
        self.taken.append(page)
        zone = page.mapping.zone
        if zone.checks:
            zone.checks.operation_begins(page, f"{type(page.mapping.ops).__name__}.readahead")
        return page

    def __iter__(self) -> Iterator[Page]:
        """Take the pages one by one."""
        while self._rest:
            yield self.take(1)

    def read_each_page(self) -> None:
        """The fallback of an operation without ``readahead``: `readpage` for each page, every return honoured.

        Stops at the first error: the pages left are unlocked, and their readers ask for themselves.
        """
        for page in self:
            self.taken.clear()  # do_readpage settles its lock, whatever happens
            try:
                outcome = do_readpage(self.file, LockedPage(page))
            except OSError:
                return
            if outcome is Outcome.UPDATED:
                page.unlock()

    def unlock_rest(self) -> None:
        """Unlock what nobody took."""
        if self._rest:
            rest, self._rest = self._rest, None
            rest.unlock()

    def _untaken(self) -> Page:
        if self._rest is None:
            raise ContractViolation("readahead takes only the pages of its run", "ReadaheadControl.take()")
        return self._rest


def read_run(file: OpenFile, page: LockedPage) -> None:
    """Bring a run of pages by ``readahead``.

    Locks: the run locked on entry; on return what the operation took is ended or belongs to its I/O, and the
    rest is unlocked.  If it raises, what it took and has not ended is released too.
    Raises: what is no OSError (a mistake in the operation), with every page released.
    """
    zone = page.mapping.zone
    rac = ReadaheadControl(file, page)
    ops = page.mapping.ops
    if type(ops).readahead is not AddressSpaceOperations.readahead:
        zone.count("requests")
    try:
        ops.readahead(rac)
    except BaseException as error:
        for taken in rac.taken:
            if taken.locked:
                taken.unlock()
        if not isinstance(error, OSError):
            raise
        zone.count("failed_requests")
    finally:
        rac.unlock_rest()
        for taken in rac.taken:
            taken.owner = None  # what is still locked belongs to its I/O
