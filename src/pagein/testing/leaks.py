"""Whether a cache is at rest: nothing locked, nobody waiting, nothing pinned, reserved or charged that is not there.

Guarantees: what `leaks` finds nothing of has given back all that it took, down to the memory that the system counts.
Assumes: no thread is reading; `settle` waits for those that still are.
Not here: a store for such tests (stores.py).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from ..mm.lru import MAIN, SMALL
from ..units import PAGE_SHIFT, format_size

if TYPE_CHECKING:
    from ..mm.page import Page
    from ..mm.zone import Zone


def assert_nothing_left(zone: Zone, *, settle_s: float = 0.0) -> None:
    """Raise AssertionError, with all that is left, unless *zone* is at rest.

    Reads that are in flight have *settle_s* seconds to end.
    """
    settle(zone, settle_s)
    if leaks(zone):
        gc.collect()  # a view may be alive only in the traceback of an error that was caught
    left = leaks(zone)
    if left:
        raise AssertionError("left behind: " + "; ".join(left))


def leaks(zone: Zone) -> list[str]:
    """What of *zone* is not at rest, in words.  Locks: takes the zone's lock.  Blocks: no."""
    with zone.lock:
        found = [*_locks(zone), *_waits(zone)]
        if not zone.closed:  # else its memory is nobody's business any more
            found += [*_pins(zone), *_memory(zone)]
    return found


def settle(zone: Zone, timeout_s: float) -> bool:
    """Wait until no page is in flight and no memory reserved; False if that took longer than *timeout_s*."""
    deadline_s = zone.door.now_s() + timeout_s
    while (left_s := deadline_s - zone.door.now_s()) > 0:
        with zone.lock:
            page = next(iter(zone.locked), None)
            if page is None and not zone.reserved_pages:
                return True
            if page is not None:
                wait = page.join(page.index, zone.door.waiter, wants_lock=False)
                waiter = wait.waiter
            else:
                waiter = zone.door.waiter()
                zone.memory_waiters.append(waiter)
        if waiter.wait(left_s):
            with zone.lock:
                zone.wake_memory_waiter()  # as everybody does who leaves that line
            continue
        with zone.lock, suppress(ValueError):
            if page is not None:
                wait.page.leave(wait)
            else:
                zone.memory_waiters.remove(waiter)
    return not zone.locked and not zone.reserved_pages


def _locks(zone: Zone) -> Iterator[str]:
    in_flight: set[Page] = set()
    for mapping in zone.mappings:
        in_flight.update(mapping.in_flight.values())
    for page in in_flight | zone.locked:
        listed = "" if page in zone.locked and page in in_flight else " (not in every list of locked pages)"
        yield f"{page!r}, owner {page.owner}, {page.waiter_count} waiting{listed}"


def _waits(zone: Zone) -> Iterator[str]:
    if zone.memory_waiters:
        yield f"{len(zone.memory_waiters)} threads wait for memory"
    if zone.reserved_pages:
        yield f"{zone.reserved_pages} pages are reserved"


def _pins(zone: Zone) -> Iterator[str]:
    for arena in zone.arenas.values():
        for frame, stop_frame in arena.pins.spans():
            yield f"frames {frame} to {stop_frame} are pinned"


def _memory(zone: Zone) -> Iterator[str]:
    here = 0
    for arena in zone.arenas.values():
        for frame, stop_frame in arena.populated(0, arena.page_count):
            here += stop_frame - frame
            for name, plane in (("dirty", arena.dirty), ("under writeback", arena.writeback)):
                if b"\1" in plane[frame:stop_frame]:
                    yield f"a page in frames {frame} to {stop_frame} is {name}"
    if zone.charged_pages != here:
        yield f"{zone.charged_pages} pages are charged, and {here} are in the cache"
    if zone.charged_pages > zone.cap_pages:
        yield f"{zone.charged_pages} pages are charged, {zone.cap_pages} are allowed"
    queued = zone.queues.pages[SMALL] + zone.queues.pages[MAIN]
    if queued != here:
        yield f"{queued} pages are in the queues, and {here} in the cache"
    resident_bytes = zone.resident_bytes(is_thorough=True)
    if resident_bytes > here << PAGE_SHIFT:
        yield f"{format_size(resident_bytes)} of memory are in use, for {here} pages"
