"""Which pages go: a pure function of the heads of two queues.

Guarantees: no I/O, no lock, no clock; the same heads give the same verdict.
Source of the default: S3-FIFO, Yang et al., SOSP 2023.  A page is read into the small queue and, unless it was
hit since, leaves from there, so one long scan passes through a tenth of the cache.
Not here: carrying it out (reclaim.py), the queues (lru.py).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from .lru import GHOST, MAIN, READ_AHEAD, SMALL, SPARED

SMALL_SHARE = 10
"""S3-FIFO's small queue may hold a tenth of the cache."""


class Head(NamedTuple):
    """The oldest run of a queue that may be taken, all of its pages alike."""

    page_count: int
    referenced: bool
    read_ahead: bool = False
    """Nobody had asked for it when it came, so being referenced means that it was used once, not again."""
    spared: bool = False
    """It was passed over before."""


class Occupancy(NamedTuple):
    """How full the queues are, in pages."""

    small_pages: int
    main_pages: int
    cap_pages: int


class Verdict(Enum):
    """What happens to the head of which queue: (from, to, with the flags that it has there)."""

    EVICT_SMALL = SMALL, GHOST
    ROTATE_SMALL = SMALL, SMALL
    SPARE_SMALL = SMALL, SMALL | READ_AHEAD | SPARED
    PROMOTE_SMALL = SMALL, MAIN
    EVICT_MAIN = MAIN, GHOST
    ROTATE_MAIN = MAIN, MAIN


Victims = Callable[[Head | None, Head | None, Occupancy], Verdict]
"""A pure victim function: the heads of the small and the main queue (at least one is there), and how full they
are, to the one next step.  A step that does not evict moves the run to a tail, its references cleared and, unless it is
spared, no longer read ahead."""


def s3fifo(small: Head | None, main: Head | None, occupancy: Occupancy) -> Verdict:
    """Scan-resistant: take from small while it holds more than its share, and promote what was hit there.

    What was read ahead is spared once if its reader has not come yet: what he has left behind goes first.
    """
    if small and (main is None or occupancy.small_pages > occupancy.cap_pages // SMALL_SHARE):
        if small.referenced:
            return Verdict.ROTATE_SMALL if small.read_ahead else Verdict.PROMOTE_SMALL
        return Verdict.SPARE_SMALL if small.read_ahead and not small.spared else Verdict.EVICT_SMALL
    assert main is not None
    return Verdict.ROTATE_MAIN if main.referenced else Verdict.EVICT_MAIN


def fifo(small: Head | None, main: Head | None, occupancy: Occupancy) -> Verdict:
    """What came first goes first, hit or not, but for what came back lately: plain, to measure others against."""
    return Verdict.EVICT_SMALL if small else Verdict.EVICT_MAIN
