"""The on-demand readahead of Linux as a pure function: the state of an open file and what its reader does, to a window.

    window = ondemand(state, access)        # file.ra = window.state, and its pages are asked for

Guarantees: no I/O, no lock, no clock; the same arguments give the same window; it starts with the page that is wanted
(at a miss) and is no longer than what is wanted, or `Access.max_pages`.
Source: Linux's mm/readahead.c: a first window at the start of a file or of a stream, then windows that double; a
*marker* in each tells when to ask for the next, long before it is needed; a stream whose state was lost, because others
share the file, is recognised by its marker or by the pages that it has left behind.
Where we differ: a window that its reader skipped through is not followed by a larger one.  Pages count as history, and
a marker as a reader's progress, only if they were *used*: a reader that strides over the file would else be taken for a
sequential one as soon as its stride meets the end of a window, and fetch all that it skips.
Not here: which pages are here, and used (readahead.py); how large a window may become (pipe.py).
"""

from __future__ import annotations

from typing import NamedTuple


class ReadaheadState(NamedTuple):
    """The last window of an open file, whose last *async_size* pages nobody waits for (Linux: file_ra_state).

    Replaced whole, so that threads that share a file never see half of one.
    """

    start: int = 0
    size: int = 0
    async_size: int = 0


class Access(NamedTuple):
    """What a reader does, and what is known about the pages around it."""

    at_index: int
    """The page that is missing, or bears the marker."""
    req_pages: int
    """From there on, so many pages are wanted."""
    max_pages: int
    """The largest window."""
    prev_index: int = -1
    """The last page of the read before."""
    hit_marker: bool = False
    unused_pages: int = 0
    """At an end of the last window: how many pages of it, before that page, nobody has used."""
    history_pages: int = 0
    """Pages that are here and were used, up to the one before it without a gap; looking back at most *max_pages*."""
    hole_index: int | None = None
    """At a marker: the first page behind it that is not here; looking ahead at most *max_pages*."""


class Window(NamedTuple):
    """Pages to ask for, and the marker among them."""

    state: ReadaheadState
    start: int
    page_count: int
    marker_index: int = -1
    """The page whose reader asks for the next window; -1 for none."""

    def grown(self, page_count: int) -> Window:
        """At least *page_count* pages of it; for what is added, nobody waits."""
        size = max(self.page_count, page_count)
        state = ReadaheadState(self.start, size, self.state.async_size + size - self.page_count)
        return Window(state, self.start, size, self.marker_index)

    def cut(self, page_count: int, *, at_least: int) -> Window:
        """At most *page_count* pages of it, or *at_least* so many if it has them."""
        page_count = min(self.page_count, max(page_count, at_least))
        if page_count == self.page_count:
            return self
        marker_index = self.marker_index if self.marker_index < self.start + page_count else -1
        async_size = self.start + page_count - marker_index if marker_index >= 0 else 0
        return Window(ReadaheadState(self.start, page_count, async_size), self.start, page_count, marker_index)


def ondemand(state: ReadaheadState, access: Access) -> Window | None:
    """The window of a miss (always one), or of a marker that was hit (None: nothing to ask for).

    Linux: ondemand_readahead.
    """
    index, req_pages, max_pages = access.at_index, access.req_pages, access.max_pages
    if not index:
        return _initial(access)
    is_expected = index in (state.start + state.size - state.async_size, state.start + state.size)
    if is_expected and 2 * access.unused_pages <= index - state.start:
        size = _next_size(state.size, max_pages)
        return _read_it(state.start + state.size, size, size, access)
    if access.hit_marker:
        if access.hole_index is None or not access.history_pages:
            return None
        size = _next_size(access.hole_index - index + req_pages, max_pages)
        return _read_it(access.hole_index, size, size, access)
    if req_pages > max_pages or 0 <= index - access.prev_index <= 1:
        return _initial(access)
    if access.history_pages > req_pages:
        # A stream that began before its state was lost: as long as what it has left behind, and twice that if this
        # goes back to the start of the file.
        history_pages = access.history_pages * (2 if access.history_pages >= index else 1)
        return _read_it(index, min(history_pages + req_pages, max_pages), 1, access)
    return Window(state, index, req_pages)  # a random read: just that


def _initial(access: Access) -> Window:
    size = _initial_size(access.req_pages, access.max_pages)
    return _read_it(access.at_index, size, size - access.req_pages if size > access.req_pages else size, access)


def _read_it(start: int, size: int, async_size: int, access: Access) -> Window:
    if start == access.at_index and size == async_size:
        # A window that is all ahead would be followed by the next one at once: ask for both together.
        following = _next_size(size, access.max_pages)
        if size + following <= access.max_pages:
            async_size, size = following, size + following
        else:
            size, async_size = access.max_pages, access.max_pages // 2
    if start == access.at_index:
        size = max(size, access.req_pages)  # Linux comes back for the rest; here a miss of many pages is one request
    marker_index = start + size - async_size if async_size else -1
    return Window(ReadaheadState(start, size, async_size), start, size, marker_index)


def _initial_size(req_pages: int, max_pages: int) -> int:
    """The next power of two, times 4 while that is small, times 2 up to a quarter of the most.  Linux:
    get_init_ra_size."""
    size = 1 << max(req_pages - 1, 0).bit_length()
    if size <= max_pages // 32:
        return size * 4
    return size * 2 if size <= max_pages // 4 else max_pages


def _next_size(size: int, max_pages: int) -> int:
    """Linux: get_next_ra_size."""
    if size < max_pages // 16:
        return size * 4
    return size * 2 if size <= max_pages // 2 else max_pages
