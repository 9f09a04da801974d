"""A walk over the dirty pages of a file: what is given to the store next, by whom, and how much at once.

Guarantees: what is dirty as it begins is looked at once, in order; what becomes dirty behind it is not chased.  At most
`REQUESTS_MAX` runs of a file are being stored, whoever walks; a worker makes way for another walk that waits.
Assumes: who begins one holds no page lock; may hold ``i_rwsem``, which is never taken in here.
Not here: what a walk is for (writeback.py), the size that a store is told (size_owed.py), what it does (wbc.py).
Linux: write_cache_pages.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ..errors import closed_cache
from ..units import PAGE_SHIFT
from .errseq import kept
from .locking import WRITEPAGES
from .page import LockedPage
from .size_owed import tell_size, wait_with
from .sync import MakeWaiter, Steps, Waiter
from .wbc import Sync, WritebackControl

if TYPE_CHECKING:
    from .mapping import AddressSpace
    from .page import Writeback
    from .zone import Zone

REQUESTS_MAX = 4
"""So many runs of one file are stored at once."""


class Walk:
    """One walk over the dirty pages of a mapping: by who began it, and by the workers that store for him.

    A worker that has stored a run goes on with the next one, unless he would have to wait before: to hand each over
    takes many times as long as to store a page in a file.  Who began it starts workers, and does the waiting.
    """

    def __init__(self, mapping: AddressSpace, sync: Sync, make_waiter: MakeWaiter) -> None:
        self.mapping: AddressSpace = mapping
        self.zone: Zone = mapping.zone
        self.sync: Sync = sync
        self.error: BaseException | None = None
        self.stored_pages: int = 0
        self.declined: list[tuple[int, int]] = []
        """What of it the store did not take, from page to page, also from others."""
        self._make_waiter = make_waiter
        self._left: deque[tuple[int, int]] = deque()
        """What was dirty when it began and is still to be looked at, from page to page, in order..."""
        self._begun: list[Writeback] = []
        """...what it has begun to store..."""
        self._others: set[Writeback] = set()
        """...and what others had.  Guarded by the zone's lock, as what is below."""
        self._begun_pages = self._calls = 0

    def walk_steps(self, ranges: Sequence[tuple[int, int]]) -> Steps[None]:
        """Have what is dirty now in *ranges*, from page to page, in order, stored, and with `Sync.ALL` wait until it
        is, whoever stores it."""
        mapping = self.mapping
        with self.zone.lock:  # the snapshot: what becomes dirty later is not chased.  Linux: the TOWRITE tag
            for start, stop in ranges:
                self._left.extend((first, first + count) for first, count in mapping.dirty_runs(start, stop))
            self._others.update(begun_in(mapping, ranges[0][0], ranges[-1][1]))
        try:
            while (yield from self._start_steps()):
                pass
        finally:
            with self.zone.lock:
                self._left.clear()  # an interrupted one ends here for the workers, too
        while True:  # until the operations have returned
            with self.zone.lock:
                if not self._calls:
                    break
                waiter = self._wait_for_a_call(wants_turn=False)
            yield waiter
        self.declined = yield from self._wait_steps(self._begun)
        self.stored_pages = self._begun_pages - sum(stop - start for start, stop in self.declined)
        if self.sync is Sync.ALL:
            declined = yield from self._wait_steps(self._others)
            for start, stop in declined:
                common = ((max(start, first), min(stop, last)) for first, last in ranges)
                self.declined += (piece for piece in common if piece[0] < piece[1])

    def _start_steps(self) -> Steps[bool]:
        """Have something more stored: whether there was anything."""
        yield from self._turn_steps()
        page: LockedPage | None = None
        try:
            page = yield from self._next_steps()
        finally:
            if page is None:
                self._pass_on()
        if page is not None:
            self._start(page)
        return page is not None

    def _wait_steps(self, begun: Iterable[Writeback]) -> Steps[list[tuple[int, int]]]:
        """Wait until these have ended, and note if one has failed; what of them was declined."""
        declined: list[tuple[int, int]] = []
        for writeback in begun:
            yield from wait_on_writeback(self.zone, writeback, self._make_waiter)
            self.error = self.error or writeback.error
            declined += writeback.declined
        return declined

    # -- turns: how much of a file the store is given at once --------------------------------------------

    def _turn_steps(self) -> Steps[None]:
        """Wait until the store may be given more of this file.  The turn is taken: for `_start`, or `_pass_on`."""
        while True:
            with self.zone.lock:
                if self.mapping.store_calls < REQUESTS_MAX:
                    self.mapping.store_calls += 1
                    self._calls += 1
                    return
                waiter = self._wait_for_a_call(wants_turn=True)
            yield waiter

    def _pass_on(self) -> None:
        """Give the turn back: there is nothing to store, or nothing without waiting."""
        with self.zone.lock:
            self.mapping.store_calls -= 1
            self._calls -= 1
            waiting, self.mapping.store_waiters = self.mapping.store_waiters, ()
            for waiter, _ in waiting:
                waiter.wake()

    def _wait_for_a_call(self, *, wants_turn: bool) -> Waiter:
        waiter = self._make_waiter()
        self.mapping.store_waiters = (*self.mapping.store_waiters, (waiter, self if wants_turn else None))
        return waiter

    # -- storing -----------------------------------------------------------------------------------------

    def _start(self, page: LockedPage) -> None:
        """Have a run stored, and what follows.  Blocks: no, unless the store says that it does not, or no thread is to
        be had."""
        if not self.mapping.ops.blocking:
            self._store(page)
            return
        page.owner = None
        try:
            self.zone.io.start(partial(self._store, page))
        except ValueError as error:  # the cache was closed
            self._ended(WritebackControl(page, self.sync), error)
            self._pass_on()
        except RuntimeError:  # the process has no thread left, or is ending
            self._store(page)

    def _store(self, page: LockedPage | None) -> None:
        """Store a run, and then one after the other.  The turn is passed on."""
        try:
            while page is not None:
                self._perform(page)
                page = self._next_here()
        finally:
            self._pass_on()

    def _perform(self, page: LockedPage) -> None:
        failure: BaseException | None = None
        page.owner = self.zone.door.thread_id()
        wbc = WritebackControl(page, self.sync)
        try:
            with self.zone.in_store_code(WRITEPAGES, page):
                self.mapping.ops.writepages(wbc)
        except BaseException as error:  # for who calls fsync
            failure = kept(error)
        self._ended(wbc, failure)

    def _ended(self, wbc: WritebackControl, error: BaseException | None) -> None:
        violation: BaseException | None = None
        try:
            wbc.settle(error)
        except BaseException as raised:  # of the operation, which ends a page of its own twice
            violation = raised
        if violation is not None or wbc.first_error is not None:
            with self.zone.lock:  # other workers note theirs here, too
                self.error = self.error or violation or wbc.first_error

    # -- what is next ------------------------------------------------------------------------------------

    def _next_here(self) -> LockedPage | None:
        """What a worker goes on with; None where he would have to wait, or others wait: for a turn, or for a worker,
        perhaps with pages that this walk has locked and handed over."""
        with self.zone.lock:
            if self.zone.io.is_short or any(walk not in (self, None) for _, walk in self.mapping.store_waiters):
                return None
            return self._front(may_wait=False)[0]

    def _next_steps(self) -> Steps[LockedPage | None]:
        """The next pages to store, locked; None at the end."""
        while True:
            with self.zone.lock:
                page, before = self._front(may_wait=True)
            if before is None:
                return page
            yield from before

    def _front(self, *, may_wait: bool) -> tuple[LockedPage | None, Steps[object] | None]:
        """The first dirty pages that are left, locked, their dirty flags cleared; or what to wait for before, for who
        may wait.  Neither at the end.  Zone's lock held."""
        mapping, arena, base = self.mapping, self.mapping.arena, self.mapping.base
        while self._left and not (self.error and self.sync is Sync.NONE):
            index, stop_index = self._left[0]
            frame = arena.dirty.find(b"\1", base + index, base + stop_index)
            if frame != base + index:
                # What is clean by now another has begun to store, and perhaps not ended: it may fail, or be declined.
                self._others.update(begun_in(mapping, index, stop_index if frame < 0 else frame - base))
            if frame < 0:
                self._left.popleft()
                continue
            if self.zone.closed:
                self.error = self.error or closed_cache()
                break
            if mapping.size_owed is not None:  # cut meanwhile
                if self.sync is Sync.NONE:
                    break
                return None, self._tell_steps() if may_wait else None
            index = frame - base
            holder, stored = mapping.in_flight.get(index), mapping.under_writeback.get(index)
            if holder is not None:
                return None, holder.join(index, self._make_waiter, wants_lock=False).steps() if may_wait else None
            if stored is None:
                page = _lock_run(mapping, index, stop_index)
                if page is None:
                    continue  # it lies beyond the end of the file, and is clean now; or was marked for a moment
                assert page.writeback is not None
                self._left[0] = page.index + page.page_count, stop_index
                self._begun.append(page.writeback)
                self._begun_pages += page.page_count
                return page, None
            if self.sync is Sync.ALL:
                return None, wait_with(stored.join(self._make_waiter)) if may_wait else None
            self._left[0] = index + 1, stop_index
        self._left.clear()
        return None, None

    def _tell_steps(self) -> Steps[None]:
        error = yield from tell_size(self.mapping, self._make_waiter)
        if error is not None:
            with self.zone.lock:
                self.error = self.error or error
                self._left.clear()  # nothing may be stored before


def wait_on_writeback(zone: Zone, writeback: Writeback, make_waiter: MakeWaiter) -> Steps[None]:
    """Wait until it has ended.  Locks: that of a page of it may be held, as in Linux."""
    with zone.lock:
        if writeback.has_ended:
            return
        waiter = writeback.join(make_waiter)
    yield waiter


def begun_in(mapping: AddressSpace, start_index: int, stop_index: int) -> Iterator[Writeback]:
    """What is being stored of a range.  Zone's lock held."""
    table = mapping.under_writeback
    if stop_index - start_index < len(table):
        return (table[index] for index in range(start_index, stop_index) if index in table)
    return (begun for index, begun in table.items() if start_index <= index < stop_index)


def _lock_run(mapping: AddressSpace, index: int, stop_index: int) -> LockedPage | None:
    """Lock dirty pages from *index* on and clear their flags; None if they lie beyond the end.  Zone's lock held."""
    most = min(stop_index - index, max(1, mapping.ops.write_bytes_max >> PAGE_SHIFT))
    for table in (mapping.in_flight, mapping.under_writeback):
        if table:
            most = next((at for at in range(most) if index + at in table), most)
    count = mapping.take_dirty(index, most)
    if not count:
        return None
    page = mapping.lock_run(index, count)
    # The size after the flags: a write that makes the file longer meanwhile makes the page dirty again.
    end_bytes = mapping.zero_beyond_end(index, count)
    if end_bytes <= index << PAGE_SHIFT:
        mapping.zone.dirty.cancelled(count)
        page.release_in_zone()
        return None
    page.end_at(end_bytes)
    page.owe_writeback()
    mapping.note_begun(end_bytes)
    mapping.zone.dirty.writeback_began(count)
    return page
