"""Reclaim: memory for new pages, taken from the pages that are wanted least.

Guarantees: charged pages never exceed the cap; `reserve` waits only while another thread's page is in flight, or a
dirty one may be written back, and fails with ENOMEM where waiting cannot help.
Assumes: functions that say so are called with the zone's lock held.
Not here: the decision (victims.py), the queues (lru.py), how pages go (removal.py).
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

from ..errors import closed_cache, no_memory
from ..units import PAGE_SHIFT
from . import removal
from .debug import before_wait
from .lockorder import MEMORY
from .lru import (
    GHOST,
    MAIN,
    PAID,
    READ_AHEAD,
    SMALL,
    SPARED,
    Run,
)
from .removal import BUSY, REFERENCED, BusyFrames
from .sync import MakeWaiter, Steps, run_steps
from .tracepoints import waiting
from .victims import Head, Occupancy

if TYPE_CHECKING:
    from .zone import Zone

BATCH_SHARE = 64
"""Reclaim frees at least this share of the cache at a time (1/64), so that holes come in runs..."""
BATCH_PAGES_MAX = 256
"""...but never more than this beyond what is asked for."""


# -- memory for new pages ------------------------------------------------------------------------------------


def reserve(zone: Zone, page_count: int) -> int:
    """Charge between 1 and *page_count* pages to the caller, and return how many.

    Locks: none held on entry, no page lock either (a thread that waits for memory holds nothing others want).
    Blocks: while nothing can be taken but another thread's page is in flight, or may be written back.
    Raises: OSError(ENOMEM); ValueError if what might be written back is given up, since the cache is closed.
    """
    return run_steps(reserve_steps(zone, page_count, zone.door.waiter))


def reserve_steps(zone: Zone, page_count: int, make_waiter: MakeWaiter) -> Steps[int]:
    """`reserve`, as steps.  First come, first served: whoever leaves the line lets the next one look."""
    was_served = False
    failures = zone.dirty.failures
    while True:
        with zone.lock:
            # (Asked only where memory is short: the answer may take a look at every mapping.)
            help_comes = _help(zone, failures) if zone.memory_waiters and not was_served else None
            if help_comes is None:
                try:
                    granted = _grant(zone, page_count)
                except BaseException:  # the victim function is not ours
                    zone.wake_memory_waiter()
                    raise
                help_comes = None if granted else _help(zone, failures)
                if help_comes is None:
                    zone.wake_memory_waiter()
                    if granted:
                        return granted
                    raise no_memory(cap_bytes=zone.cap_pages << PAGE_SHIFT, pinned_bytes=pinned_bytes(zone))
            if help_comes is Help.CLEANING and zone.is_given_up:
                zone.wake_memory_waiter()
                raise closed_cache()
            tries_again = help_comes is Help.CLEANING and not zone.dirty.may_be_cleaned()
            waiter = make_waiter()
            zone.memory_waiters.insert(0 if was_served else len(zone.memory_waiters), waiter)
        try:
            if help_comes is Help.CLEANING:
                zone.flusher.kick(for_memory=True, tries_again=tries_again)
            before_wait(zone, MEMORY)
            with waiting(zone, "memory"):
                yield waiter
        except BaseException:
            with zone.lock:
                if waiter in zone.memory_waiters:
                    zone.memory_waiters.remove(waiter)
                else:
                    zone.wake_memory_waiter()
            raise
        was_served = True


def try_reserve(zone: Zone, page_count: int) -> int:
    """Charge up to *page_count* pages to the caller; return how many, 0 if there is nothing to be had.  Blocks: no."""
    with zone.lock:
        return _grant(zone, page_count)


def _grant(zone: Zone, page_count: int) -> int:
    if zone.closed:
        raise closed_cache()
    short = zone.charged_pages + page_count - zone.cap_pages
    if short > 0:
        shrink(zone, max(short, min(zone.cap_pages // BATCH_SHARE, BATCH_PAGES_MAX)))
    granted = min(page_count, zone.cap_pages - zone.charged_pages)
    zone.charged_pages += granted
    zone.reserved_pages += granted
    return granted


class Help(Enum):
    """What releases pages while one waits for memory."""

    OTHERS = auto()
    CLEANING = auto()


def _help(zone: Zone, failures: int) -> Help | None:
    """None: nothing does, and who waited would wait for ever.  *failures*: of write-back, when he began to wait."""
    if _waiting_can_help(zone):
        return Help.OTHERS
    return Help.CLEANING if _cleaning_can_help(zone, failures) else None


def _waiting_can_help(zone: Zone) -> bool:
    """Whether others are about to release pages, and none of them can be waiting for this thread to do so.

    A thread that holds a page lock (a store that reads through this very cache) never waits for memory: two of
    them might wait for one another.  Nor does one that looks at a store, in whose line the pages may stand behind it.
    """
    this_thread = zone.door.thread_id()
    if zone.is_waited_for_here() or any(page.owner == this_thread for page in zone.locked):
        return False
    return zone.reserved_pages > 0 or bool(zone.locked)


def _cleaning_can_help(zone: Zone, failures: int) -> bool:
    """Whether pages would be released if they were written back.  The end of each write-back wakes who waits here.

    What fails is no reason to give up while something else may be cleaned; if that is all there is, it is tried once.
    """
    if zone.is_waited_for_here():
        return False
    if zone.dirty.may_be_cleaned():
        return True
    return zone.dirty.failures == failures and any(mapping.dirty_pages for mapping in zone.mappings)


def sweep_pins(zone: Zone) -> None:
    """Let go of the pins that have ended.  Locks: takes the zone's lock."""
    with zone.lock:
        for arena in zone.arenas.values():
            arena.pins.sweep()


def pinned_bytes(zone: Zone) -> int:
    """Bytes of the frames that views have pinned; what two views show counts twice."""
    spans = [span for arena in list(zone.arenas.values()) for span in arena.pins.spans()]
    return sum(stop - start for start, stop in spans) << PAGE_SHIFT


def shrink(zone: Zone, want_pages: int) -> int:
    """Evict about *want_pages* of the pages that the victim function chooses; return how many went.

    Locks: the zone's lock is held.
    """
    removed_pages = 0
    while removed_pages < want_pages:
        victims = _choose(zone, want_pages - removed_pages)
        if not victims:
            break
        # Some of them may have been pinned in between, and stay; the next look sees their pins.
        removed_pages += removal.remove_runs(zone, victims, into=GHOST)
    return removed_pages


def _choose(zone: Zone, want_pages: int) -> list[Run]:
    victims: list[Run] = []
    chosen_pages = 0
    heads = _Heads(zone)
    # Two laps: one that clears references, one that evicts.  In a third, which only pages that are hit all the
    # time can cause, references count no more, so that a busy little cache never says it has no memory.
    lap_pages = zone.queues.pages[SMALL] + zone.queues.pages[MAIN]
    try:
        while chosen_pages < want_pages and heads.examined_pages <= 3 * lap_pages:
            small, main = heads.peek(SMALL), heads.peek(MAIN)
            if not (small or main):
                break
            tired = heads.examined_pages > 2 * lap_pages
            verdict = zone.victims(_as_head(small, tired), _as_head(main, tired), heads.occupancy())
            queue, target = verdict.value
            if target == GHOST:
                victims.append(heads.take(queue, want_pages - chosen_pages))
                chosen_pages += victims[-1].page_count
            else:
                heads.keep(queue, target)
    except BaseException:  # the victim function is not ours: whatever it does, no page is lost
        for run in victims:
            zone.queues.requeue(run)
        raise
    finally:
        heads.put_back()
    return victims


class _Classified(NamedTuple):
    run: Run
    referenced: bool
    flags: int


def _as_head(candidate: _Classified | None, tired: bool) -> Head | None:
    if candidate is None:
        return None
    flags = candidate.flags
    referenced = candidate.referenced and not tired
    return Head(candidate.run.page_count, referenced, bool(flags & READ_AHEAD), bool(flags & SPARED) or tired)


class _Heads:
    """The heads of small and main, with busy pages sent to the tail on the way."""

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._busy = BusyFrames(zone)
        self._waiting: dict[int, deque[_Classified]] = {SMALL: deque(), MAIN: deque()}
        self.examined_pages = 0
        self._taken = {SMALL: 0, MAIN: 0}

    def peek(self, queue: int) -> _Classified | None:
        waiting, queues = self._waiting[queue], self._zone.queues
        left_pages = queues.pages[queue]  # busy pages go to the tail: do not meet them again
        while not waiting and left_pages > 0 and (runs := queues.pop(queue)):
            for run in runs:
                left_pages -= run.page_count
                for flags, same in self._busy.classify(run):
                    if flags & BUSY:
                        self.examined_pages += same.page_count
                        queues.requeue(same)
                    else:
                        waiting.append(_Classified(same, bool(flags & REFERENCED), same.arena.lru[same.frame]))
        return waiting[0] if waiting else None

    def occupancy(self) -> Occupancy:
        pages = self._zone.queues.pages
        return Occupancy(pages[SMALL] - self._taken[SMALL], pages[MAIN] - self._taken[MAIN], self._zone.cap_pages)

    def take(self, queue: int, page_count: int) -> Run:
        """Take at most *page_count* pages of the head to evict them."""
        head = self._waiting[queue].popleft()
        run = head.run
        if run.page_count > page_count:
            rest = Run(run.arena, run.frame + page_count, run.page_count - page_count)
            self._waiting[queue].appendleft(head._replace(run=rest))
            run = Run(run.arena, run.frame, page_count)
        self.examined_pages += run.page_count
        self._taken[queue] += run.page_count
        return run

    def keep(self, queue: int, target: int) -> None:
        """Move the head to a tail, its references cleared."""
        head = self._waiting[queue].popleft()
        run = head.run
        self.examined_pages += run.page_count
        if head.flags & READ_AHEAD and not target & READ_AHEAD:
            self._zone.counters["read_ahead_used"] += run.page_count
        elif target & READ_AHEAD:
            target |= head.flags & PAID  # nothing may have said yet that it was used
        run.arena.referenced[run.frame : run.frame + run.page_count] = bytes(run.page_count)
        self._zone.queues.push(run, target, queue)

    def put_back(self) -> None:
        """Return what was looked at but not decided to the head of its queue."""
        for queue, heads in self._waiting.items():
            for head in reversed(heads):
                self._zone.queues.unpop(head.run, queue)
