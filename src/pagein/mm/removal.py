"""Removal: how Uptodate pages stop being that, whoever wants it, and which of them must stay.

Guarantees: `remove_runs` is the one place where an Uptodate page stops being one, and the one place that keeps the
order on which the lock-free hit path rests (DESIGN: read without locks, then check); a page that is locked, dirty,
under write-back or pinned is never taken.
Assumes: functions that say so are called with the zone's lock held.
Not here: which pages reclaim chooses, and memory for new ones (reclaim.py); what truncation and invalidation remove
(truncate.py).
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from .arena import ones
from .lru import (
    GHOST,
    NOT_QUEUED,
    Queues,
    Run,
    read_ahead_flags,
    split_by_flag,
    unused_flags,
)

if TYPE_CHECKING:
    from .mapping import AddressSpace
    from .zone import Zone

CLEAN, REFERENCED, BUSY = 1, 2, 4


class BusyFrames:
    """Which frames must stay: locked, pinned, dirty or under writeback."""

    def __init__(self, zone: Zone) -> None:
        for arena in zone.arenas.values():
            arena.pins.sweep()
        spans = {arena.number: arena.pins.spans() for arena in zone.arenas.values()}
        for page in zone.locked:
            run = page.run
            spans.setdefault(run.arena.number, []).append((run.frame, run.frame + run.page_count))
        self._by_arena = {number: disjoint(found) for number, found in spans.items() if found}

    def classify(self, run: Run) -> Iterator[tuple[int, Run]]:
        """The pieces of a run of queued pages, with what stands for or against taking them."""
        arena, frame, count = run
        stop = frame + count
        referenced, dirty, writeback = (
            int.from_bytes(plane[frame:stop], "little") for plane in (arena.referenced, arena.dirty, arena.writeback)
        )
        flags = bytearray((referenced * REFERENCED | (dirty | writeback) * BUSY).to_bytes(count, "little"))
        for start, end in _overlaps(self._by_arena.get(arena.number, []), frame, stop):
            flags[start - frame : end - frame] = bytes([BUSY]) * (end - start)
        return split_by_flag(run, bytes(flags))


def is_pinned(run: Run) -> bool:
    """Whether somebody looks at a frame of a run."""
    return pinned_pages([run]) > 0


def pinned_pages(runs: Iterable[Run]) -> int:
    """How many frames of *runs* somebody looks at."""
    pins = _pins_of(runs := list(runs))
    return sum(
        stop - start
        for arena, frame, count in runs
        for start, stop in _overlaps(pins[arena.number], frame, frame + count)
    )


def _pins_of(runs: Iterable[Run]) -> dict[int, list[tuple[int, int]]]:
    return {arena.number: disjoint(arena.pins.spans()) for arena in {run.arena for run in runs}}


def remove_all_idle(zone: Zone) -> None:
    """Remove every page that nothing holds, of a cache that is being closed."""
    for arena in list(zone.arenas.values()):
        for start, stop in arena.populated(0, arena.page_count):
            with zone.lock:
                remove_idle(zone, Run(arena, start, stop - start))


def remove_idle(zone: Zone, run: Run) -> int:
    """Remove the pages of a run that are Uptodate and that nothing holds; return how many.

    Locks: the zone's lock is held.
    """
    busy = BusyFrames(zone)
    uptodate = split_by_flag(run, run.arena.uptodate[run.frame : run.frame + run.page_count])
    idle = [same for here, piece in uptodate if here for flags, same in busy.classify(piece) if not flags & BUSY]
    return remove_runs(zone, idle, into=NOT_QUEUED)


# -- removal -----------------------------------------------------------------------------------------------


def remove_runs(zone: Zone, runs: Iterable[Run], *, into: int, pins_are_late: bool = False) -> int:
    """Take Uptodate pages out of the cache; return how many.  Those that turn out to be pinned stay; unless
    *pins_are_late*: the caller has cleared Uptodate and looked for pins since, so that who has pinned a page later
    finds it gone.

    The order is what lock-free readers (pagein.reader, filemap.copy_if_uptodate) rely on:
    (1) not Uptodate any more, (2) a new generation, (3) the memory goes.  A reader that began before (2) and
    looks at the generation after its copy knows that the copy may be wrong.  A view pins first and tests
    Uptodate then, and we clear Uptodate first and test pins then: one of us sees the other.  So it is with a write
    that goes the short way (pagein.writer), which marks the page dirty first.
    Locks: the zone's lock is held; no page of *runs* is locked by another.
    """
    runs = sorted(runs, key=lambda run: (run.arena.number, run.frame))
    violation = zone.checks.changed_content(runs) if zone.checks else None
    for arena, frame, count in runs:
        arena.uptodate[frame : frame + count] = bytes(count)
    for arena, frame, count in runs:
        arena.bump_generation(frame, count)
    removed_pages = 0
    pins = defaultdict(list) if pins_are_late else _pins_of(runs)
    removed: list[Run] = []
    for run in _merged(_without_held(zone.queues, runs, pins)):
        removed.append(run)
        unused = _count_read_ahead(zone, run)
        run.arena.punch(run.frame, run.page_count)
        run.arena.referenced[run.frame : run.frame + run.page_count] = bytes(run.page_count)
        removed_pages += run.page_count
        for is_unused, same in split_by_flag(run, unused):  # what nobody wanted is not remembered
            zone.queues.move(same, NOT_QUEUED if is_unused else into)
    zone.counters["evictions" if into == GHOST else "drops"] += removed_pages
    zone.uncharge(removed_pages)
    if zone.tracer is not None:
        zone.tracer.removed(removed, is_eviction=into == GHOST)
    if violation:
        raise violation
    return removed_pages


def _count_read_ahead(zone: Zone, run: Run) -> bytes:
    """A byte a page: 1 if it came without being asked for, and nobody has asked for it since."""
    ahead_pages = read_ahead_flags(run).count(1)
    if not ahead_pages:
        return bytes(run.page_count)
    unused = unused_flags(run)
    unused_pages = unused.count(1)
    zone.counters["read_ahead_unused"] += unused_pages
    zone.counters["read_ahead_used"] += ahead_pages - unused_pages
    return unused


def _without_held(queues: Queues, runs: Iterable[Run], pins: Mapping[int, list[tuple[int, int]]]) -> Iterator[Run]:
    """The pieces of *runs* that nobody has pinned or written to meanwhile; the others are Uptodate, and in their queue,
    again."""
    for run in runs:
        arena, frame, count = run
        hit = list(_overlaps(pins[arena.number], frame, frame + count))
        dirty = arena.dirty[frame : frame + count]
        if not hit and 1 not in dirty:
            yield run
            continue
        flags = bytearray(dirty)
        for start, stop in hit:
            flags[start - frame : stop - frame] = ones(stop - start)
        for pinned, same in split_by_flag(run, bytes(flags)):
            if pinned:
                arena.uptodate[same.frame : same.frame + same.page_count] = ones(same.page_count)
                queues.requeue(same)
            else:
                yield same


def disjoint(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans (start, stop) in order, those that touch or overlap as one."""
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(stop, merged[-1][1])
        else:
            merged.append((start, stop))
    return merged


def _overlaps(spans: list[tuple[int, int]], start: int, stop: int) -> Iterator[tuple[int, int]]:
    """What disjoint spans in order have in common with [start, stop)."""
    at = max(0, bisect.bisect_right(spans, (start,)) - 1)
    while at < len(spans) and spans[at][0] < stop:
        first, end = max(spans[at][0], start), min(spans[at][1], stop)
        if first < end:
            yield first, end
        at += 1


def _merged(runs: Iterable[Run]) -> Iterator[Run]:
    """Neighbours as one: punching 16 pages at once costs little more than punching one."""
    last: Run | None = None
    for run in runs:
        if last and last.arena is run.arena and last.frame + last.page_count == run.frame:
            last = Run(last.arena, last.frame, last.page_count + run.page_count)
            continue
        if last:
            yield last
        last = run
    if last:
        yield last


def clean_up_after_lost_race(mapping: AddressSpace, index: int, page_count: int) -> None:
    """Give back memory that a lock-free reader touched after its pages had been taken away.

    To read a hole of a shared mapping fills it with zeros, uncharged; the reader that lost the race calls this.
    One that Ctrl-C has left to a worker may come here when nobody has a file of the mapping any more: then its frames
    are nobody's, or another's, who may be filling them.
    """
    arena, first, zone = mapping.arena, mapping.base + index, mapping.zone
    page_count = min(page_count, mapping.frame_count - index)
    with zone.lock:
        zone.counters["lost_races"] += 1
        if mapping not in zone.mappings:
            # (Who has reserved them, and is not among the mappings yet, has filled none.)
            stop = first + page_count
            others = (one for one in zone.mappings if one.arena is arena and one.base < stop)
            if not any(first < one.base + one.frame_count for one in others):
                arena.punch(first, page_count)
            return
        flags = bytearray(arena.uptodate[first : first + page_count])
        for at, page in mapping.in_flight.items():
            if 0 <= at - index < page_count and not page.removed:  # a page that was removed brings nothing any more
                flags[at - index] = 1
        for kept, same in split_by_flag(Run(arena, first, page_count), bytes(flags)):
            if not kept:
                arena.punch(same.frame, same.page_count)
