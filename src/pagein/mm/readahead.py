"""Readahead: what is asked for at a miss, and long before one.

Guarantees: no page beyond the end of the file is asked for; a reader's own pages are the first request of a miss; what
is ahead of him waits for no memory and no reader; one reader's window is at most a share of the cache; and whatever he
does, no more is fetched for him than twice what he uses, and an allowance.
Assumes: runs where no signal can interrupt it (workqueue.py), with no page lock held.
Linux: page_cache_sync_ra, page_cache_async_ra, force_page_cache_ra.
Not here: the decision (ondemand.py), what a reader may be lent (credit.py), the size of the pipe (pipe.py), the line
before the store (device.py).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ..units import PAGE_SHIFT, page_count_for
from . import reclaim
from .arena import MARKED
from .credit import asked_for, earned, jumped
from .lru import Run, unused_flags
from .ondemand import Access, ReadaheadState, Window, ondemand
from .openfile import Wishes
from .request import Request
from .sync import MakeWaiter, Steps

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from .mapping import AddressSpace
    from .openfile import OpenFile
    from .page import LockedPage
    from .rest import Rest
    from .wait import Wait
    from .zone import Zone

CACHE_SHARE = 4
"""A window is at most a quarter of the cache, shared by those who read ahead at the moment..."""
WANTED_PAGES_MAX = 2048
"""What a reader wants itself is one request up to 8 MiB, however short the pipe, if it is no more than his share..."""
WANTED_PAGES_MIN = 256
"""...and is not cut up below 1 MiB..."""
WANTED_PAGES_TINY = 16
"""...nor below this, or half the cache, because the cache is small."""
FAULT_PAGES = 32
"""What a fault reads around it: 128 KiB, as in Linux..."""
FAULT_MISSES_MAX = 100
"""...unless so many more faults have missed than hit: then it reads its own page only..."""
FAULT_MISSES_COUNTED = 1000
"""...and this many hits later at the latest, around it again."""
MARK_PAGES = (4 << 20) >> PAGE_SHIFT
"""In a window of several requests each bears a marker, but they are so far apart at least: each costs a switch of
threads."""
START_PAGES = (16 << 20) >> PAGE_SHIFT
"""The window of one who reads on behind what came first, from a store of which only the latency is known: as far as
his allowance goes, since every doubling costs the time that a request waits..."""
START_GROWTH = 4
"""Each request of it is so many times as large as the one before, up to `Pipe.start_bytes_max`: the first comes early,
and they are few, so that none stands in line while the others wait."""
REST_PIECE_PAGES = (2 << 20) >> PAGE_SHIFT
"""So much is read at once of what came with the opening: it costs a few turns of the interpreter's lock, and nobody can
read a page of it before all has come."""
START_PAGES_MIN = (2 << 20) >> PAGE_SHIFT
"""...but only once his windows have grown to so much by themselves."""
SCALE_MIN = 1 / 16
"""However many errors a reader has met, his windows are not less than this of what they were."""


# -- the two that a reader comes to --------------------------------------------------------------------------


def sync_readahead(
    file: OpenFile, index: int, req_pages: int, limit_pages: int, make_waiter: MakeWaiter
) -> Steps[Request | None]:
    """Ask for the missing page *index*, of *req_pages* that are wanted, and for what should follow.

    The request of that page has at most *limit_pages*.  Returns it, or None if another reader was faster.
    Blocks: for memory.  Raises: OSError(ENOMEM).
    """
    mapping, zone = file.mapping, file.mapping.zone
    if file.ra_scale < 1 and _history_pages(mapping, max(0, index - 1), index):
        _grow_again(file)  # windows may be so small that none bears a marker
    last, window = file.ra, _window(file, index, req_pages, hit_marker=False)
    assert window is not None, "a miss always asks for something"
    file.ra = window.state
    # A page that bore the marker, and has gone since: the window is what lies behind.
    own_stop = index + (window.page_count if window.start == index else req_pages)
    own_stop = min(own_stop, mapping.page_count, index + limit_pages if limit_pages < WANTED_PAGES_MAX else own_stop)
    own_pages = max(0, own_stop - index)
    if own_pages > WANTED_PAGES_MIN:
        own_pages = min(own_pages, max(_piece_pages(file), WANTED_PAGES_MIN), WANTED_PAGES_MAX)
    own_pages = min(own_pages, _wanted_pages_max(file))
    with zone.lock:
        own_pages = mapping.absent_run(index, own_pages)
    if not own_pages:
        return None
    granted = yield from reclaim.reserve_steps(zone, own_pages, make_waiter)
    page = mapping.grab_run(index, granted, wanted_pages=req_pages, claims=True)
    if page is None:
        return None
    asked_for(file, page, index + req_pages)
    next_index = index + page.page_count
    is_all = next_index >= own_stop and window.start == index
    reader_calls = is_all and mapping.ops.readers_call  # else what is ahead would be asked for only after his own came
    request = _submit(file, page, window.marker_index, wanted=True, reader_calls=reader_calls)
    if not is_all:
        _submit_ahead(file, next_index, own_stop, window.marker_index, wanted_stop=index + req_pages)
        if window.start != index:
            start = _start(mapping, window, behind=last)
            _submit_ahead(file, start, window.start + window.page_count, window.marker_index)
    return request


def hit_marker(file: OpenFile, index: int, req_pages: int) -> None:
    """A reader has come to the marker on page *index*, and wants *req_pages*: ask for the next window.

    The marker has been taken off: it fires once.  Blocks: no.
    """
    mapping = file.mapping
    if mapping.arena.writeback[mapping.base + index]:
        return
    if file.ra_scale < 1 and mapping.is_uptodate(index):  # what is ahead of him comes again
        _grow_again(file)
    last, window = file.ra, _window(file, index, req_pages, hit_marker=True)
    if window is not None:
        file.ra = window.state
        start = _start(mapping, window, behind=last)
        _submit_ahead(file, start, window.start + window.page_count, window.marker_index)


def _start(mapping: AddressSpace, window: Window, *, behind: ReadaheadState) -> int:
    """Where to begin with a window: within the last one, right *behind* which it is, if what comes next with the
    opening is there, and has not been asked for.

    Another reader is about to; were it left to him, the rest of the opening would be let go of.
    """
    rest = mapping.rest
    if rest is None or window.start != behind.start + behind.size:
        return window.start
    index = rest.index
    return index if behind.start <= index < window.start and rest.pages_from(index) else window.start


def _grow_again(file: OpenFile) -> None:
    """Something came for a reader whose windows are smaller after an error."""
    file.ra_scale = min(1.0, 2 * file.ra_scale)


def take_marker(mapping: AddressSpace, start_index: int, stop_index: int) -> int:
    """Take the first marker off the pages of a range that are here; its index, or -1."""
    arena, base = mapping.arena, mapping.base
    frame = arena.uptodate.find(_MARK, base + start_index, base + stop_index)
    if frame < 0:
        return -1
    with mapping.zone.lock:
        if arena.uptodate[frame] != MARKED:  # another was faster, or the page has gone
            return -1
        arena.uptodate[frame] = 1
    return frame - base


_MARK = bytes([MARKED])


# -- what a fault comes to ---------------------------------------------------------------------------------------


def fault_readahead(file: OpenFile, index: int) -> None:
    """What a fault at page *index* asks for: what lies around it, for as long as that turns out to be of use.

    Locks: no page lock, since operations may be called.  Blocks: no.  Linux: do_sync_mmap_readahead,
    do_async_mmap_readahead.
    """
    mapping = file.mapping
    if mapping.is_uptodate(index) or index in mapping.in_flight:
        file.mmap_miss = max(0, file.mmap_miss - 1)
        if take_marker(mapping, index, index + 1) >= 0:
            hit_marker(file, index, 1)
        return
    if file.random or not window_pages_max(file):
        return
    if file.ra_scale > 1:  # he has said that he is sequential
        window = _window(file, index, FAULT_PAGES, hit_marker=False)
    else:
        file.mmap_miss = min(file.mmap_miss + 1, FAULT_MISSES_COUNTED)
        start = max(0, index - FAULT_PAGES // 2)
        state = ReadaheadState(start, FAULT_PAGES, FAULT_PAGES // 4)
        window = Window(state, start, FAULT_PAGES, start + FAULT_PAGES - FAULT_PAGES // 4)
        if file.mmap_miss > FAULT_MISSES_MAX:
            return
    if window is not None:
        file.ra = window.state
        stop_index = window.start + window.page_count
        _submit_ahead(file, window.start, stop_index, window.marker_index, wanted_stop=index + 1, is_fault=True)


# -- what came by itself ---------------------------------------------------------------------------------------


def adopt_head(mapping: AddressSpace, data: ReadableBuffer, took_s: float, rest: Rest | None = None) -> None:
    """Make the first pages of a file Uptodate with bytes that came when it was opened: as if they were read ahead.

    No more than a window would be, in memory that can be had.  *rest* is what comes behind them.  Blocks: no.
    """
    head = memoryview(data)
    page_count = _adopt(mapping, head, 0, took_s, are_wanted=False)
    if rest is None:
        return
    if page_count << PAGE_SHIFT == head.nbytes < mapping.i_size:
        with mapping.zone.lock:
            rest.begin(page_count, mapping.i_size)
            mapping.rest = rest
        rest.watch()
    else:
        rest.close()


def adopt(mapping: AddressSpace, data: ReadableBuffer, offset_bytes: int, took_s: float) -> None:
    """As `adopt_head`, with bytes from *offset_bytes* on that a reader has asked for: the pages that they fill."""
    index = page_count_for(offset_bytes)
    _adopt(mapping, memoryview(data)[(index << PAGE_SHIFT) - offset_bytes :], index, took_s, are_wanted=True)


def _adopt(mapping: AddressSpace, data: memoryview, index: int, took_s: float, *, are_wanted: bool) -> int:
    zone = mapping.zone
    reaches_end = (index << PAGE_SHIFT) + data.nbytes >= mapping.i_size
    page_count = mapping.page_count - index if reaches_end else data.nbytes >> PAGE_SHIFT
    granted_pages = reclaim.try_reserve(zone, max(0, min(page_count, zone.cap_pages // CACHE_SHARE)))
    wanted_pages = granted_pages if are_wanted else 0
    page = mapping.grab_run(index, granted_pages, wanted_pages=wanted_pages) if granted_pages else None
    if page is None:
        return 0
    mapping.device.opened(mapping.name, page.size_bytes, took_s)
    if not are_wanted and page.page_count < mapping.page_count:
        page.marker_index = page.page_count // 2
    page.write(data[: page.size_bytes])
    page.end_read()
    return page.page_count


# -- by wish -------------------------------------------------------------------------------------------------


def populate(file: OpenFile, start_index: int, stop_index: int, make_waiter: MakeWaiter) -> Steps[None]:
    """Make the pages of a range Uptodate, a window in flight at a time; errors are nobody's.

    Ends early when the file is closed, or when there is no memory that could be taken.
    """
    mapping = file.mapping
    index, stop_index = start_index, min(stop_index, mapping.page_count)
    waits: deque[tuple[Wait, int]] = deque()
    wishes = file.brings or Wishes()  # with others of the same user, or alone
    while index < stop_index and not file.closed and mapping.usable:
        piece_pages, most_pages = _piece_pages(file, is_wish=True), window_pages_max(file, is_wish=True)
        if wishes.pages_in_flight >= most_pages:  # the others': many of them would lock all of the cache
            piece_pages = min(piece_pages, WANTED_PAGES_TINY)
        piece_stop = min(index + piece_pages, stop_index)
        index, page = _grab_ahead(mapping, index, piece_stop, wanted_stop=stop_index)
        if page is not None:
            with mapping.zone.lock:  # its last page: an operation may take them one by one
                wait = page.join(page.index + page.page_count - 1, make_waiter, wants_lock=False)
                waits.append((wait, page.page_count))
                wishes.pages_in_flight += page.page_count
            _submit(file, page, -1, wanted=False)
        has_no_memory = page is None and index < piece_stop
        if has_no_memory and not waits:
            break
        if waits and (has_no_memory or wishes.pages_in_flight >= most_pages):
            yield from _populated(wishes, mapping.zone, *waits.popleft())
    while waits:
        yield from _populated(wishes, mapping.zone, *waits.popleft())
    # What others have asked for by now, and what an operation has taken page by page; what they ask for from here on is
    # not waited for, else it might never end.  But a store that populates its own file would wait for the page that it
    # is asked for.
    if mapping.zone.is_in_store_code():
        return
    with mapping.zone.lock:
        indices = sorted(at for at in mapping.in_flight if start_index <= at < stop_index)
    for at in indices:  # not their `Page`s: each may be split, or become a part of another, while we wait
        if file.closed:
            return
        with mapping.zone.lock:
            held = mapping.in_flight.get(at)
            # Joins it now: who joins several lets them through the line at once.
            last = None if held is None else held.join(at, make_waiter, wants_lock=False)
        if last is not None:
            yield from last.steps()


def _populated(wishes: Wishes, zone: Zone, wait: Wait, page_count: int) -> Steps[None]:
    try:
        yield from wait.steps()
    finally:
        with zone.lock:
            wishes.pages_in_flight -= page_count


# -- how much ------------------------------------------------------------------------------------------------


def window_pages_max(file: OpenFile, *, is_wish: bool = False) -> int:
    """The largest window of this reader now: what fills the store's pipe, his advice and his errors, his share.

    Of what he has asked for by name (*is_wish*) his errors make no smaller requests.
    """
    share_pages = _share_pages(file)
    window_bytes = file.mapping.device.pipe.window_bytes(share_pages << PAGE_SHIFT)
    scale = max(1.0, file.ra_scale) if is_wish else file.ra_scale
    return min(int((window_bytes >> PAGE_SHIFT) * scale), share_pages)


def _share_pages(file: OpenFile) -> int:
    zone = file.mapping.zone
    others = len(zone.streams)  # no lock: by the time that this one is looked for, another reader of it may have begun
    stream_count = max(others + (file.stream not in zone.streams), 1)
    return max(zone.cap_pages // (CACHE_SHARE * stream_count), 1)


def _wanted_pages_max(file: OpenFile) -> int:
    return max(_share_pages(file), min(WANTED_PAGES_TINY, file.mapping.zone.cap_pages // 2), 1)


def _piece_pages(file: OpenFile, *, is_wish: bool = False) -> int:
    window_bytes = max(1, window_pages_max(file, is_wish=is_wish)) << PAGE_SHIFT
    return max(1, file.mapping.device.pipe.piece_bytes(window_bytes) >> PAGE_SHIFT)


def _window(file: OpenFile, index: int, req_pages: int, *, hit_marker: bool) -> Window | None:
    max_pages = window_pages_max(file)
    if file.random or not max_pages:
        return None if hit_marker else Window(file.ra, index, min(req_pages, _wanted_pages_max(file)))
    mapping, state = file.mapping, file.ra
    file.ra_credit = credit = earned(file, index, req_pages, is_missing=not hit_marker)
    access = Access(
        index,
        min(req_pages, _wanted_pages_max(file)),
        max_pages,
        prev_index=file.prev_index,
        hit_marker=hit_marker,
        unused_pages=_unused_pages(mapping, state, index, max_pages),
        history_pages=_history_pages(mapping, max(0, index - max_pages), index),
        hole_index=_hole_index(mapping, index + 1, index + 1 + max_pages) if hit_marker else None,
    )
    window = ondemand(state, access)
    if window is None:
        return None
    if file.ra_scale > 1:  # he has said that he is sequential
        return window
    if window.state is state:  # a random read
        file.ra_credit = jumped(file, credit)
        return window
    if hit_marker and not mapping.device.pipe.bandwidth_bytes_s and window.page_count >= START_PAGES_MIN:
        # What comes with the opening is on its way: to ask for what lies behind it costs no more time.
        window = window.grown(min(START_PAGES + _rest_pages(mapping, window.start), max_pages))
    if hit_marker:
        piece_pages = _piece_pages(file)
        lent_pages = credit - credit % piece_pages if credit > piece_pages else credit  # in whole pieces
        window = window.cut(max(0, lent_pages), at_least=0)
        return window if window.page_count else None
    with mapping.zone.lock:  # what he earns by what is asked for next
        own_pages = mapping.absent_run(index, req_pages)
    at_least = req_pages if window.start == index else 0
    window = window.cut(max(0, credit + own_pages) + at_least, at_least=at_least)
    return window if window.page_count else Window(state, index, req_pages)


def _unused_pages(mapping: AddressSpace, state: ReadaheadState, index: int, max_pages: int) -> int:
    """How many pages of the last window, before one of it or at its end, have not been asked for since they came."""
    start_index = max(state.start, index - max_pages)
    return _unused(mapping, start_index, index).count(1) if start_index < index <= state.start + state.size else 0


def _history_pages(mapping: AddressSpace, start_index: int, stop_index: int) -> int:
    """How many pages end at *stop_index* - 1 without one that is not here, or that nobody has used."""
    base = mapping.base
    if start_index == stop_index or not mapping.arena.uptodate[base + stop_index - 1]:
        return 0  # as at nearly every random read
    gap = mapping.arena.uptodate.rfind(b"\0", base + start_index, base + stop_index)
    start_index = max(start_index, gap - base + 1)
    return stop_index - start_index - 1 - _unused(mapping, start_index, stop_index).rfind(1)


def _unused(mapping: AddressSpace, start_index: int, stop_index: int) -> bytes:
    return unused_flags(Run(mapping.arena, mapping.base + start_index, stop_index - start_index))


def _hole_index(mapping: AddressSpace, start_index: int, stop_index: int) -> int | None:
    """The first page of a range that is neither here nor on its way; None if there is none in the file."""
    stop_index = min(stop_index, mapping.page_count)
    with mapping.zone.lock:
        index = mapping.next_absent(start_index, stop_index)
    return index if index < stop_index else None


# -- asking ----------------------------------------------------------------------------------------------------


def _submit_ahead(
    file: OpenFile, index: int, stop_index: int, marker_index: int, *, wanted_stop: int = 0, is_fault: bool = False
) -> None:
    """Ask for the absent pages of a range, piece by piece, for as long as there is memory to be had."""
    piece_pages, stop_index = _piece_pages(file), min(stop_index, file.mapping.page_count)
    pipe = file.mapping.device.pipe
    is_start = not (wanted_stop or pipe.is_full)
    while index < stop_index:
        rest_pages = _rest_pages(file.mapping, index)
        next_pages = min(rest_pages, REST_PIECE_PAGES) if rest_pages else piece_pages
        piece_stop = min(index + next_pages, stop_index)
        index, page = _grab_ahead(file.mapping, index, piece_stop, wanted_stop=wanted_stop)
        if page is not None:
            if not is_fault:  # what lies around it has a bound of its own
                asked_for(file, page, wanted_stop)  # before his marker can be hit
            if 0 <= marker_index <= page.index - MARK_PAGES:
                # Pieces share the bandwidth, and end together: at the next window's start the pipe would have run dry.
                marker_index = page.index
            _submit(file, page, marker_index, wanted=page.index < wanted_stop)
            if is_start and not rest_pages:  # see `START_GROWTH`
                most_pages = min(int(pipe.start_bytes_max) >> PAGE_SHIFT, START_PAGES)
                piece_pages = max(piece_pages, min(START_GROWTH * piece_pages, most_pages))
        elif index < piece_stop:
            return


def _rest_pages(mapping: AddressSpace, index: int) -> int:
    """How many pages from *index* on come with the opening, for who asks for them next."""
    rest = mapping.rest
    return rest.pages_from(index) if rest is not None else 0


def _grab_ahead(
    mapping: AddressSpace, index: int, stop_index: int, *, wanted_stop: int
) -> tuple[int, LockedPage | None]:
    """Lock the first absent run of a range: (where to go on, the run).  Without a run and before its end: no memory."""
    zone = mapping.zone
    while True:
        with zone.lock:
            if not mapping.usable:
                return stop_index, None
            stop_index = min(stop_index, mapping.page_count)  # each time: nothing can be locked of what was cut off
            if index >= stop_index:
                return index, None
            index = mapping.next_absent(index, stop_index)
            page_count = mapping.absent_run(index, stop_index - index)
        if not page_count:
            return stop_index, None
        granted_pages = reclaim.try_reserve(zone, page_count)
        if not granted_pages:
            return index, None
        page = mapping.grab_run(index, granted_pages, wanted_pages=max(0, wanted_stop - index), claims=True)
        if page is not None:  # else another reader was faster
            return index + page.page_count, page


def _submit(
    file: OpenFile, page: LockedPage, marker_index: int, *, wanted: bool, reader_calls: bool = False
) -> Request:
    if page.index <= marker_index < page.index + page.page_count:
        page.marker_index = marker_index
    device = page.mapping.device
    request = Request(device, file, page, wanted=wanted, reader_calls=reader_calls)
    device.submit(request)
    return request
