"""An address space: one file's pages, which of them are in flight, and the ways to lock one.

Guarantees: at most one `Page` in flight for an index; a page gets its charge and its place in the queues before
its content; no page is locked by a thread that waits for memory (memory is reserved first).
Assumes: methods that say so are called with the zone's lock held.
Not here: what a locked page is for (filemap.py, truncate.py), the lock's order of service (page.py).
"""

from __future__ import annotations

import errno
import sys
from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..errors import closed_cache, closed_file
from ..units import PAGE_OFFSET_MASK, PAGE_SHIFT, page_count_for
from . import debug, reclaim
from .arena import frames_for, ones
from .errseq import ErrSeq
from .lockorder import DIRTY_LOCK
from .lru import NOT_QUEUED, Run
from .outcome import Unsettled
from .page import LockedPage, Page, Writeback
from .rarely import Rarely
from .rwsem import Holder, RwSem
from .sizes import Sizes
from .sync import HERE, MakeWaiter, Steps, Waiter, is_inside, run_steps
from .wait import GivenUp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .aops import AddressSpaceOperations
    from .arena import Arena
    from .device import BackingDevice
    from .rest import Rest
    from .sync import Lock
    from .wait import Wait, Wanting
    from .zone import Zone


NEVER_S = -inf
"""When something happened that has not."""
_EMPTY: Any = MappingProxyType({})
"""Stands for each table in which nothing is."""
_NOTHING: Any = ()
"""Stands for each list in which nothing is."""
_NO_ERROR = ErrSeq()
"""That of every file of which everything could be stored."""

SHORT_WRITES = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether a write may go the short way: marking a page dirty before looking whether it is still here takes a fence
between the two, which only the GIL gives.  Without it every write takes the page's lock."""


class AddressSpace(Sizes):
    """The pages of one file of ``i_size`` bytes, brought by ``ops``."""

    # Many small files may be open at once: each attribute costs every one of them 8 bytes, an empty list or dict 60.
    __slots__ = (
        "__weakref__", "arena", "base", "device", "dirty_budget", "dirty_lock", "dirty_pages", "dirty_since_s",
        "found_changed_s", "frame_count", "in_flight", "invalidations", "is_read_only",
        "late", "may_write_short", "name", "ops", "room_ahead_pages", "rwsem_held", "rwsem_waiters",
        "short_writes", "store_calls", "store_waiters", "suspended",
        "under_writeback", "unsettled", "validated_s", "wb_err", "write_failures", "zone",
    )  # fmt: skip

    # Set under the zone's lock.
    rest: Rarely[Rest | None] = Rarely(None)
    """What comes behind the bytes that came with its opening (rest.py)."""
    last_failure: Rarely[BaseException | None] = Rarely(None)
    """Why something of it could not be stored, unless something has been stored since."""
    discard_waiters: Rarely[list[Waiter] | None] = Rarely(None)
    """Who waits until what is being given up has gone; None if nothing is."""
    given_up: Rarely[BaseException | None] = Rarely(None)
    """Some of what a commit was to make visible as one has been given up, and not all: nothing is committed."""

    def __init__(
        self, zone: Zone, ops: AddressSpaceOperations, i_size: int, *, name: str = "?", room_pages: int = 0
    ) -> None:
        super().__init__(i_size)
        self.zone: Zone = zone
        self.ops: AddressSpaceOperations = ops
        self.device: BackingDevice = zone.device_of(ops)
        self.name: str = name
        self.frame_count: int = frames_for(max(page_count_for(i_size), room_pages))
        """How many frames it has: how far it may grow."""
        self.store_calls: int = 0
        """Operations that are storing pages of it..."""
        self.store_waiters: tuple[tuple[Waiter, object], ...] = ()
        """...and who waits until one of them has returned: in which pass, if it is to store something more."""
        self.dirty_pages: int = 0
        """Its pages whose dirty flag is set..."""
        self.dirty_budget: int = 0
        """...and how many more may be set without asking (dirty.py).  Both, and the flags, under ``dirty_lock``."""
        self.dirty_since_s: float = 0.0
        """When the first of them became dirty."""
        self.may_write_short: bool = False
        """Somebody has it open for writing, and no thread of a child of a fork does..."""
        self.short_writes: bool = False
        """...and nobody holds ``i_rwsem``: a write to pages that are here needs ``dirty_lock`` only (pagein.writer)."""
        self.late: list[tuple[int | None, bytes]] = _NOTHING
        """What finalizers had to write, at an offset, or at the end: it goes once it is in the cache.  Who writes next
        does that first, and goes no short way until it is done.  A list once somebody has opened it for writing."""
        self.under_writeback: dict[int, Writeback] = _EMPTY
        self.wb_err: ErrSeq = _NO_ERROR
        """What was told to `set_error`."""
        self.write_failures: int = 0
        """How often something of it could not be stored."""
        self.is_read_only: bool = not (ops.writable or room_pages)
        """Nobody ever writes it: the locks that are for who does are those of all such files."""
        self.room_ahead_pages: int = 0
        """So many pages were made ready beyond the end, the last time (write.py)."""
        self.start_locks_anew()
        self.arena: Arena
        self.base: int
        self.arena, self.base = zone.reserve_frames(self.frame_count, is_written=not self.is_read_only)
        self.in_flight: dict[int, Page] = _EMPTY
        with zone.lock:
            zone.mappings.add(self)
        self.found_changed_s: float = NEVER_S
        """When a fetch last said that the object has changed (ESTALE), or it was changed past the cache."""
        self.validated_s: float = NEVER_S
        """When the last fetch began that brought something of this very version, if its operations see to that."""
        self.suspended: bool = False
        """No file uses it: no page may be locked, its frames may be gone."""
        self.invalidations: int = 0
        """How often pages were invalidated: tells a reader whose own read failed that the page has gone since."""

    def start_anew(self) -> None:
        """After a fork, in the child: no pages, and nothing of what the parent has not written."""
        super().start_anew()
        self.in_flight = _EMPTY
        self.under_writeback = _EMPTY
        self.dirty_pages = self.dirty_budget = 0
        self.dirty_since_s = 0.0
        self.store_calls, self.store_waiters = 0, ()
        self.may_write_short = self.short_writes = False
        self.start_locks_anew()

    def start_locks_anew(self) -> None:
        """A thread that stayed in a fork's parent may have held the old ones."""
        self.dirty_lock: Lock
        """A leaf, held for microseconds, by threads that get signals too: dirty flags, ``i_size`` change under it."""
        self.unsettled: Unsettled
        """Changes whose callers may have been interrupted."""
        self.rwsem_held: Holder | bool = False
        self.rwsem_waiters: tuple[Waiter, ...] = ()
        if self.is_read_only:
            self.dirty_lock, self.unsettled = self.zone.read_only_lock, self.zone.read_only_unsettled
        else:
            self.dirty_lock = debug.reentrant_lock(self.zone, DIRTY_LOCK, self.zone.door.reentrant_lock(), self.name)
            self.unsettled = Unsettled()

    @property
    def i_rwsem(self) -> RwSem:
        """Who changes its size, or many pages as one, holds it."""
        return RwSem(self)

    def is_held_as(self, hold: object) -> bool:
        """Whether who took ``i_rwsem`` then has it still, on whatever thread it is released (held.py)."""
        return isinstance(self.rwsem_held, Holder) and self.rwsem_held.hold is hold

    def set_error(self, error: BaseException) -> None:
        """Something of it could not be stored.  Linux: mapping_set_error.  Zone's lock held."""
        if self.wb_err is _NO_ERROR:
            self.wb_err = ErrSeq()
        self.wb_err.set(error)

    def dirty_lock_is_held_here(self) -> bool:
        """Whether the calling thread is in the middle of a write that goes the short way: a finalizer came in."""
        return self.zone.door.is_owned(self.dirty_lock)

    def is_interrupted_here(self) -> bool:
        """Whether who calls would wait for its own thread if it waited for this file: a finalizer that came in inside
        the core; or a store's code (`is_calling_here`)."""
        return is_inside() or self.is_calling_here()

    def is_calling_here(self) -> bool:
        """Whether the calling thread runs a store's code that was called for this very file, or by who holds its
        ``i_rwsem``."""
        calling = HERE.calling
        return calling != () and (self in calling or self.i_rwsem.is_held_here)

    @property
    def dirty_bytes(self) -> int:
        """Bytes of its pages that the store does not have yet, or that are on their way to it."""
        return self.dirty_pages + len(self.under_writeback) << PAGE_SHIFT

    @property
    def page_count(self) -> int:
        """Pages up to the end of the file.  None beyond is ever asked of a store."""
        return page_count_for(self.i_size)

    def is_uptodate(self, index: int) -> bool:
        """Whether a page is here, at this moment."""
        return self.arena.uptodate[self.base + index] != 0

    # -- locking a page ------------------------------------------------------------------------------

    def trylock_uptodate(self, index: int) -> LockedPage | None:
        """Lock a page that is here and not locked, else None.  Blocks: no."""
        with self.zone.lock:
            if index in self.in_flight or not self.is_uptodate(index):
                return None
            self.check_usable()
            page = self._lock(index, 1, self.zone.door.thread_id())
        return self._verified(page)

    def lock_page(self, index: int) -> LockedPage:
        """Lock a page, whether it is here or not, first come, first served.

        Blocks: interruptibly, for memory and for the lock.  Raises: OSError(ENOMEM).
        """
        return run_steps(self.lock_page_steps(index, self.zone.door.waiter))

    def lock_page_steps(self, index: int, make_waiter: MakeWaiter, wanting: Wanting | None = None) -> Steps[LockedPage]:
        """`lock_page`, as steps.  Raises: also GivenUp, if *wanting* has given it up."""
        if self.zone.checks:
            self.zone.checks.before_page(self, index)
        while (page := self.trylock_uptodate(index)) is None:
            yield from reclaim.reserve_steps(self.zone, 1, make_waiter)
            with self.zone.lock:
                self._check_usable_or_return(1)
                if wanting is not None and wanting.is_unwanted:
                    self.zone.uncharge(1, reserved=True)
                    raise GivenUp
                holder = self.in_flight.get(index)
                if holder is None:
                    page = self.lock_with_reservation(index, owner=self.zone.door.thread_id())
                    break
                wait = holder.join(index, make_waiter, wants_lock=True, has_reservation=True)
                if wanting is not None:
                    wanting.wait = wait
            page = yield from wait.steps()
            if page is not None:
                break
            with self.zone.lock:  # the page was removed while we stood in line: look it up again
                self.zone.uncharge(1, reserved=True)
            if wait.was_given_up:
                raise GivenUp
        return self._verified(page)

    def lock_if_here(self, index: int) -> LockedPage | None:
        """Lock a page that is here, or on its way and then here; None for one that is not.  It costs no memory.

        Blocks: interruptibly, for the lock, first come, first served.
        """
        if self.zone.checks:
            self.zone.checks.before_page(self, index)
        with self.zone.lock:
            holder = self.in_flight.get(index)
            if holder is None:
                if not self.is_uptodate(index):
                    return None
                self.check_usable()
                page = self._lock(index, 1, self.zone.door.thread_id())
            else:
                wait = holder.join(index, self.zone.door.waiter, wants_lock=True)
        if holder is not None:
            granted = run_steps(wait.steps())
            if granted is None:
                return None
            page = granted
        return self._verified(page)

    def lock_with_reservation(self, index: int, *, owner: int | None) -> LockedPage:
        """Lock a page that is not in flight, for a thread that has reserved one page.

        Locks: the zone's lock is held.
        """
        if self.is_uptodate(index):
            self.zone.uncharge(1, reserved=True)
        else:
            self._admit(index, 1, read_ahead=False)
        return self._lock(index, 1, owner)

    def lock_for(self, wait: Wait) -> LockedPage | None:
        """Lock the page, which is not in flight, for whoever is next in line.  Locks: the zone's lock is held.

        The lock is no thread's until somebody goes on with it: a worker that waits for other memory meanwhile must not
        be taken for one that holds it.
        """
        if wait.has_reservation:
            return self.lock_with_reservation(wait.index, owner=None)
        return self._lock(wait.index, 1, None) if self.is_uptodate(wait.index) else None

    def grab_run(
        self, index: int, page_count: int, *, wanted_pages: int, beyond_end: bool = False, claims: bool = False
    ) -> LockedPage | None:
        """Lock the longest run of absent pages from *index*, at most *page_count*, which the caller has reserved.

        Pages after the first *wanted_pages* count as read ahead.  None *beyond_end* is locked unless he is a writer.
        Who *claims* them asks the store for them, unless they come with the opening.
        Returns None, and gives the reservation back, if the first is here, in flight or cut off by now.
        """
        with self.zone.lock:
            self._check_usable_or_return(page_count)
            # The end again: who makes the file shorter moves it first and looks for pages in flight then.
            stop_index = self.frame_count if beyond_end else self.page_count
            absent = self.absent_run(index, max(0, min(page_count, stop_index - index)))
            rest = self.rest if claims else None
            if rest is not None:
                absent = min(absent, rest.pages_from(index) or absent)
            self.zone.uncharge(page_count - absent, reserved=True)
            if not absent:
                return None
            wanted_pages = min(wanted_pages, absent)
            if wanted_pages:
                self._admit(index, wanted_pages, read_ahead=False)
            if absent > wanted_pages:
                self.zone.counters["read_ahead"] += absent - wanted_pages
                self._admit(index + wanted_pages, absent - wanted_pages, read_ahead=True)
            page = self._lock(index, absent, self.zone.door.thread_id())
            # In this hold: of two who ask for neighbouring pieces the one who locks his first claims his first.
            if rest is not None and rest.claim(page, is_wanted=wanted_pages > 0):
                self.rest = None
            return page

    def lock_run(self, index: int, page_count: int) -> LockedPage:
        """Lock pages that are here and not in flight, as one.  Locks: the zone's lock is held."""
        page = self._lock(index, page_count, self.zone.door.thread_id())
        if self.zone.checks:
            self.zone.checks.changed_content([page.run])  # whoever has made them dirty has changed them
        return page

    def admit_zeros(self, index: int, page_count: int) -> int:
        """Make absent pages beyond the end Uptodate as they are, zeros; how many of *page_count*, which the caller has
        reserved.  In one hold, so that nobody sees them locked.  Locks: ``i_rwsem``."""
        with self.zone.lock:
            self._check_usable_or_return(page_count)
            absent = self.absent_run(index, page_count)
            self.zone.uncharge(page_count - absent, reserved=True)
            if absent:
                self._admit(index, absent, read_ahead=False)
                frame = self.base + index
                self.arena.uptodate[frame : frame + absent] = ones(absent)
                self.zone.wake_memory_waiter()  # what was reserved has become pages that may be evicted
            return absent

    def absent_run(self, index: int, page_count: int) -> int:
        """How many pages from *index* on are neither here nor in flight.  Locks: the zone's lock is held."""
        first = self.base + index
        absent = self.arena.first_present(first, first + page_count) - first
        if self.in_flight and absent:
            if len(self.zone.locked) < absent:
                stop = index + absent
                locked = (page for page in self.zone.locked if page.mapping is self and page.index < stop)
                taken = (max(page.index, index) for page in locked if page.index + page.page_count > index)
                absent = min(taken, default=stop) - index
            else:
                absent = next((at for at in range(absent) if index + at in self.in_flight), absent)
        return absent

    def here_run(self, index: int, page_count: int) -> int:
        """How many pages from *index* on are here and not in flight.  Locks: the zone's lock is held."""
        first = self.base + index
        hole = self.arena.uptodate.find(b"\0", first, first + page_count)
        here = hole - first if hole >= 0 else page_count
        if self.in_flight:
            here = next((at for at in range(here) if index + at in self.in_flight), here)
        return here

    def next_absent(self, index: int, stop_index: int) -> int:
        """The first page of a range that is neither here nor in flight, else *stop_index*.  Zone's lock held."""
        uptodate, base = self.arena.uptodate, self.base
        while index < stop_index:
            hole = uptodate.find(b"\0", base + index, base + stop_index) - base
            if hole < 0:
                break
            holder = self.in_flight.get(hole)
            if holder is None:
                return hole
            index = holder.index + holder.page_count
        return stop_index

    def _admit(self, index: int, page_count: int, *, read_ahead: bool) -> None:
        zone = self.zone
        zone.reserved_pages -= page_count
        refaults = zone.queues.insert(Run(self.arena, self.base + index, page_count), read_ahead=read_ahead)
        zone.counters["refaults"] += refaults

    def _lock(self, index: int, page_count: int, owner: int | None) -> LockedPage:
        page = Page(self, index, page_count, owner)
        self.put_in_flight(page)
        if self.zone.checks is not None:
            self.zone.checks.page_locked(page)
        return LockedPage(page)

    def _verified(self, page: LockedPage) -> LockedPage:
        if self.zone.checks and page.uptodate and (violation := self.zone.checks.changed_content([page.run])):
            page.unlock()
            raise violation
        return page

    def _check_usable_or_return(self, reserved_pages: int) -> None:
        if not self.usable:
            self.zone.uncharge(reserved_pages, reserved=True)
            self.check_usable()

    # -- the in-flight table, for page.py --------------------------------------------------------------

    def put_in_flight(self, page: Page) -> None:
        """Enter a page, or take an index over from another.  Locks: the zone's lock is held."""
        if not self.in_flight:
            self.in_flight = {}
        if page.page_count == 1:
            self.in_flight[page.index] = page
        else:
            self.in_flight.update(dict.fromkeys(range(page.index, page.index + page.page_count), page))
        self.zone.locked.add(page)

    def replace_in_flight(self, page: Page, by: Page) -> None:
        """Another covers it from now on.  Locks: the zone's lock is held."""
        self.in_flight.update(dict.fromkeys(range(page.index, page.index + page.page_count), by))
        self.zone.locked.discard(page)

    def take_out_of_flight(self, page: Page) -> None:
        """Locks: the zone's lock is held."""
        for index in range(page.index, page.index + page.page_count):
            del self.in_flight[index]
        if not self.in_flight:
            self.in_flight = _EMPTY  # 600 bytes in each of many small files
        self.zone.locked.discard(page)

    def remove_unread(self, page: Page) -> None:
        """Give back what a page took that did not become Uptodate.  Locks: the zone's lock, and the page."""
        run = page.run
        self.zone.queues.move(run, NOT_QUEUED)
        self.arena.punch(run.frame, run.page_count)
        self.zone.uncharge(run.page_count)

    @property
    def is_unwritten(self) -> bool:
        """Whether the store does not have all that is written, or has no whole.  Zone's lock held: pages are dirty, or
        under write-back, or in between."""
        return bool(self.dirty_pages or self.under_writeback or not self.has_its_size or self.given_up is not None)

    # -- dirty flags, under the zone's lock ------------------------------------------------------------------

    def mark_dirty(self, index: int, page_count: int) -> None:
        """Set the dirty flags of a run.  Who calls it has seen to ``zone.dirty.pages``.  Zone's lock held."""
        frame = self.base + index
        with self.dirty_lock:
            flags = self.arena.dirty[frame : frame + page_count]
            self.dirty_pages += page_count - flags.count(1)
            self.zone.dirty.given_back(flags.count(1))  # they were counted before
            self.arena.dirty[frame : frame + page_count] = ones(page_count)
            self.dirty_since_s = self.dirty_since_s or self.zone.door.now_s()

    def clear_dirty(self, index: int, page_count: int, *, uptodate: bool = True) -> int:
        """Clear the dirty flags of a run, and, unless it stays *uptodate*, those too, so that no write goes the short
        way to it any more; return how many were dirty.  Linux: clear_page_dirty_for_io, cancel_dirty_page.

        Who calls it sees to ``zone.dirty.pages``.  Zone's lock held.
        """
        frame = self.base + index
        with self.dirty_lock:
            if not uptodate:
                self.arena.uptodate[frame : frame + page_count] = bytes(page_count)
            flags = self.arena.dirty[frame : frame + page_count]
            cleared = flags.count(1)
            if cleared:
                self.arena.dirty[frame : frame + page_count] = bytes(page_count)
                self.dirty_pages -= cleared
                if not self.dirty_pages:
                    self.dirty_since_s = 0.0
                    self.zone.dirty.given_back(self.dirty_budget)  # so that the next one to dirty it notes the time
                    self.dirty_budget = 0
            return cleared

    def take_dirty(self, index: int, most_pages: int) -> int:
        """Clear the flags of the dirty pages from *index* on, at most so many; return how many.  Zone's lock held.

        Looked at and cleared in one hold: a write that marks pages that have gone takes the marks off before it ends.
        """
        frame = self.base + index
        with self.dirty_lock:
            for plane in (self.arena.dirty, self.arena.uptodate):
                hole = plane.find(b"\0", frame, frame + most_pages)
                most_pages = hole - frame if hole >= 0 else most_pages
        return self.clear_dirty(index, most_pages) if most_pages else 0

    def zero_beyond_end(self, index: int, page_count: int) -> int:
        """Zero what lies beyond the end of the file in a run; where the run ends, in bytes of the file.

        Nothing but an interrupted write can have left something there, or a store beyond the end of a memory map.
        """
        stop = index + page_count << PAGE_SHIFT
        with self.dirty_lock:  # a write may be about to make the file longer
            end = max(self.i_size, index << PAGE_SHIFT)
            if end < stop and self.i_size & PAGE_OFFSET_MASK and self.i_size >> PAGE_SHIFT >= index:
                page_stop = (self.i_size | PAGE_OFFSET_MASK) + 1
                start = (self.base << PAGE_SHIFT) + self.i_size
                zeros = bytes(page_stop - self.i_size)
                if self.arena.memory[start : start + len(zeros)] != zeros:
                    # A reader that saw an older, larger size is still copying: he looks again.
                    self.arena.bump_generation(start >> PAGE_SHIFT, 1)
                    self.arena.memory[start : start + len(zeros)] = zeros
            return min(end, stop)

    def dirty_runs(self, start_index: int, stop_index: int) -> Iterator[tuple[int, int]]:
        """The runs of dirty pages in a range as (first index, page count), in order."""
        if self.dirty_pages:
            stop_frame = self.base + min(stop_index, self.frame_count)
            for start, stop in self.arena.dirty_frames(self.base + start_index, stop_frame):
                yield start - self.base, stop - start

    def note_read_error(self, error: BaseException) -> None:
        """A fetch has failed."""
        if isinstance(error, OSError) and error.errno == errno.ESTALE:
            self.found_changed_s = self.zone.door.now_s()

    # -- what is here, and whether it may be used ----------------------------------------------------------

    def resident(self) -> Iterator[tuple[int, int]]:
        """The runs of Uptodate pages as (first index, page count), in order."""
        for start, stop in self.arena.populated(self.base, self.base + self.frame_count):
            yield start - self.base, stop - start

    def idle_steps(self, make_waiter: MakeWaiter) -> Steps[None]:
        """Wait until no page is in flight."""
        while True:
            with self.zone.lock:
                page = next(iter(self.in_flight.values()), None)
                if page is None:
                    return
                wait = page.join(page.index, make_waiter, wants_lock=False)
            yield from wait.steps()

    def suspend(self) -> bool:
        """Let no page be locked, or written to, from now on; False if one is at this moment, or is dirty."""
        with self.zone.lock, self.dirty_lock:
            if not (self.suspended or self.in_flight or self.is_changing):
                self.suspended = True
                self.rest = None  # its operations are closed next, and it with them
                self.may_write_short = self.short_writes = False
            return self.suspended

    @property
    def is_changing(self) -> bool:
        """Whether somebody writes to it, or stores it, or will."""
        return bool(self.under_writeback or self.dirty_pages or self.i_rwsem.held)

    def resume(self, ops: AddressSpaceOperations) -> None:
        """Let pages be locked again, and brought by *ops*."""
        device = self.device if ops is self.ops else self.zone.device_of(ops)
        with self.zone.lock:
            self.ops, self.device = ops, device
            self.suspended = False
        self.allow_short_writes(ops.writable)

    def expect_late(self) -> None:
        """Somebody opens it for writing.  Under the cache's lock."""
        if self.late is _NOTHING:  # else a finalizer may be about to append to it
            self.late = []

    def allow_short_writes(self, may_write: bool) -> None:
        """Whether writes may go the short way, while nobody holds ``i_rwsem``.  One that has begun ends before this
        returns.  (Who goes the long way looks whether his file is still open.)"""
        with self.dirty_lock:
            self.may_write_short = may_write and SHORT_WRITES
            self.short_writes = self.may_write_short and not self.i_rwsem.held

    @property
    def usable(self) -> bool:
        """Whether pages may be locked.  Once False under the zone's lock, none is in flight, but for a closed cache."""
        return not (self.suspended or self.zone.closed)

    def check_usable(self) -> None:
        """Raise if nothing may be done with these pages: ValueError, the file or the cache has been closed."""
        if self.zone.closed:
            raise closed_cache()
        if self.suspended:
            raise closed_file()
