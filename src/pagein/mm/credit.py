"""What is ahead of a reader is lent: how much he may be lent, by what he has used.

Guarantees: for one open file no more is fetched than twice what he uses, and an allowance, whatever he does; who has
jumped about has the least allowance from then on; and nobody has to read for what he was lent before he is lent again.
Assumes: the zone's lock is not held.
Not here: what is done with it (readahead.py).
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from ..units import PAGE_SHIFT
from .lru import Run, pay_for_used
from .pipe import BANDWIDTH_BYTES_S_START

if TYPE_CHECKING:
    from .openfile import OpenFile
    from .page import Page
    from .pipe import Pipe

ALLOWANCE_BYTES_MIN = 512 << 10
ALLOWANCE_BYTES_MAX = 64 << 20
"""What may be fetched in vain for a reader who is not known yet: as much as takes the time that one request waits..."""
CREDIT_PAGES_MAX = (64 << 20) >> PAGE_SHIFT
"""However much a reader has used, he cannot waste more than so much at a time."""
STREAMS_MAX = 16
"""So many streams of reads in one open file are told apart."""


def earned(file: OpenFile, index: int, req_pages: int, *, is_missing: bool) -> int:
    """A reader's credit: an allowance, and two pages for each that came ahead of him and that he has used since he was
    last here, or uses now: what he was lent is paid for as it is used, and the second is what he has earned.  Each page
    counts once, however often he comes by; what he asks for himself counts when it is asked for (`asked_for`).

    Threads that share a file may lose some of it: an estimate, as all that is kept in an open file about its readers.
    """
    mapping, seen = file.mapping, file.ra_seen
    # Several streams may share the file: this one is that which was last seen just before.
    start_index = max((at for at in seen if 0 <= index - at <= CREDIT_PAGES_MAX), default=index)
    others = list(seen)
    with suppress(ValueError):  # a stream that is new
        others.remove(start_index)
    now_pages = max(0, min(req_pages, mapping.page_count - index))
    file.ra_seen = (*others, index + req_pages if is_missing else index)[-STREAMS_MAX:]
    used_pages = 0
    if start_index < index + now_pages:
        between = Run(mapping.arena, mapping.base + start_index, index + now_pages - start_index)
        with mapping.zone.lock:
            used_pages = pay_for_used(between, now_pages=now_pages)
    if file.ra_credit is None:
        file.ra_credit = file.ra_allowance = allowance_pages(file)
    return min(file.ra_credit + 2 * used_pages, CREDIT_PAGES_MAX)


def asked_for(file: OpenFile, page: Page, wanted_stop: int) -> None:
    """*page* is asked for: what of it lies before *wanted_stop* a reader uses now, which earns him two pages and takes
    one, and each that is ahead of him takes one.  (What a store then refuses has counted, too.)

    Page by page as they are locked: a read that is brought in several pieces counts each once.
    """
    if file.ra_credit is None:  # he has said that he reads at random, and was never lent anything
        return
    wanted_pages = max(0, min(page.page_count, wanted_stop - page.index))
    ahead_pages = page.page_count - wanted_pages if file.ra_scale <= 1 else 0  # else he has said that he is sequential
    file.ra_credit = min(file.ra_credit + wanted_pages - ahead_pages, CREDIT_PAGES_MAX)


def jumped(file: OpenFile, credit: int) -> int:
    """A reader has gone where nobody was: half of his allowance he gives back, but for the least.

    So after a few reads here and there the bound of twice what he uses is not a matter of how long the store takes.
    What of it he was lent by then is not taken back: who owed it would be lent nothing until he has read as much, page
    by page, and the allowance is there to be lost.  Returns his credit.
    """
    allowance = file.ra_allowance
    file.ra_allowance = max(allowance // 2, min(allowance, ALLOWANCE_BYTES_MIN >> PAGE_SHIFT))
    return max(credit - (allowance - file.ra_allowance), min(credit, 0))


def allowance_pages(file: OpenFile) -> int:
    """What a reader who is not known yet may be lent: what his store could send in the time that one request waits."""
    return allowance_bytes(file.mapping.device.pipe) >> PAGE_SHIFT


def allowance_bytes(pipe: Pipe) -> int:
    """The same, in bytes."""
    wait_bytes = pipe.pipe_bytes if pipe.is_full else pipe.latency_s * BANDWIDTH_BYTES_S_START
    return int(min(max(wait_bytes, ALLOWANCE_BYTES_MIN), ALLOWANCE_BYTES_MAX))
