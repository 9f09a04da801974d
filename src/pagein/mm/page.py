"""A page while something happens to it: its lock, who waits for it, and how its read ended.

Guarantees: a page is locked exactly while a `Page` for it stands in its mapping's in-flight table; the lock is
handed over first come, first served; an interrupted waiter leaves nothing behind.  `Page` may cover a run of
pages that are locked, filled and unlocked as one (Linux would say folio); its waiters still wait for one index.
Assumes: the zone's lock guards every field but ``error``, which is written before the unlock that shows it.
Not here: finding and locking a page (mapping.py), bringing its content (bring.py), standing in line (wait.py) or by
(bystanders.py).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NewType

from ..errors import ContractViolation, beyond_page
from ..units import PAGE_SHIFT
from .arena import MARKED, ones
from .bystanders import Bystanders
from .lru import Run
from .sync import MakeWaiter, Steps, Waiter, run_steps
from .wait import Wait

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from .mapping import AddressSpace
    from .request import Request
    from .rest import Rest


class Writeback:
    """Pages that are stored as one, perhaps in pieces: from the moment that their dirty flags are cleared until what
    became of all of them is known.  The zone's lock guards it."""

    __slots__ = ("_pages_left", "_waiters", "declined", "direct_stop", "error")

    def __init__(self, page_count: int, *, direct_stop: int = 0) -> None:
        self.direct_stop: int = direct_stop
        """Where it ends, if it is stored past the cache: the file is as long as that, at least, once this has ended."""
        self._pages_left = page_count
        self._waiters: list[Waiter] = []
        self.error: BaseException | None = None
        """Of the first piece that failed."""
        self.declined: tuple[tuple[int, int], ...] = ()
        """Pieces that the store did not take, from page to page."""

    @property
    def has_ended(self) -> bool:
        """Whether all of it has been stored, has failed or was declined."""
        return not self._pages_left

    def join(self, make_waiter: MakeWaiter) -> Waiter:
        """What to wait with for its end."""
        waiter = make_waiter()
        self._waiters.append(waiter)
        return waiter

    def enter(self, mapping: AddressSpace, index: int) -> None:
        """It has begun, with the page at *index*."""
        if not mapping.under_writeback:
            mapping.under_writeback = {}
        mapping.under_writeback.update(dict.fromkeys(range(index, index + self._pages_left), self))
        if mapping.zone.tracer is not None:
            mapping.zone.tracer.writeback_began(self, mapping, index, self._pages_left)

    def piece_ended(self, mapping: AddressSpace, index: int, page_count: int, error: BaseException | None) -> None:
        """So many pages of it, from *index* on."""
        for at in range(index, index + page_count):
            del mapping.under_writeback[at]
        self.error = self.error or error
        self._pages_left -= page_count
        if not self._pages_left:
            if mapping.zone.tracer is not None:
                mapping.zone.tracer.writeback_ended(self)
            while self._waiters:
                self._waiters.pop().wake()


class Page:
    """``page_count`` pages of a mapping from ``index`` on, locked, in flight."""

    __slots__ = (
        "_brought",
        "_buffer",
        "_end_bytes",
        "_waits",
        "bystanders",
        "error",
        "filled",
        "in_writeback",
        "index",
        "mapping",
        "marker_index",
        "owner",
        "page_count",
        "removed",
        "request",
        "rest",
        "writeback",
    )

    def __init__(self, mapping: AddressSpace, index: int, page_count: int, owner: int | None) -> None:
        self.mapping: AddressSpace = mapping
        self.index: int = index
        self.page_count: int = page_count
        self._end_bytes = min(mapping.i_size, mapping.disk_size)
        self._brought = False
        self.owner: int | None = owner
        """The thread that holds the lock; None once it belongs to an I/O (readpage returned 0)."""
        self.error: BaseException | None = None
        """How the last read of it failed."""
        self.filled: bool = False
        """It was Uptodate when its lock was released."""
        self.removed: bool = False
        """Taken out of the cache under its lock: whoever gets the lock next must look the page up again."""
        self.marker_index: int = -1
        """The page of it whose reader asks for the next window; -1 for none (Linux: PG_readahead)."""
        self.rest: Rest | None = None
        """What brings it, if it comes with the opening: its request stands in no line, and asks for nothing."""
        self.request: Request | None = None
        """What was asked of the store, of which this is a part, until it is unlocked."""
        self.in_writeback: bool = False
        """The store is being given what is in it: that outlives its lock."""
        self.writeback: Writeback | None = None
        """Its dirty flag was cleared so that it can be stored, and what became of that is not known yet."""
        self._waits: deque[Wait] = deque()
        self.bystanders: Bystanders = Bystanders()
        self._buffer: memoryview | None = None

    def __repr__(self) -> str:
        state = "locked" if self.locked else "unlocked"
        return f"<Page {self.index}+{self.page_count} of {self.mapping.name}: {state}, uptodate={self.uptodate}>"

    # -- what a store needs --------------------------------------------------------------------------

    @property
    def offset(self) -> int:
        """Where the page starts in the file, in bytes."""
        return self.index << PAGE_SHIFT

    @property
    def size_bytes(self) -> int:
        """Bytes of the file that the store has, or is to get, by the size it had when the page was locked: less than a
        page at the end.  Should the file change its size meanwhile, whoever does that waits for this lock and puts it
        right."""
        return max(0, min(self.page_count << PAGE_SHIFT, self._end_bytes - self.offset))

    def extend(self) -> None:
        """The file may have become longer since the page was locked, and before it is read.  Zone's lock held."""
        self._end_bytes = max(self._end_bytes, min(self.mapping.i_size, self.mapping.disk_size))

    def end_at(self, end_bytes: int) -> None:
        """What is written back of it ends where the file does.  Zone's lock held."""
        self._end_bytes = end_bytes

    @property
    def is_hole(self) -> bool:
        """Whether the store has nothing of it, though the file has: it is zeros."""
        return self._end_bytes <= self.offset < self.mapping.i_size

    @property
    def content(self) -> memoryview:
        """What is to be stored of it, ``size_bytes`` long: the cache's own memory, which may change meanwhile."""
        start = self.run.frame << PAGE_SHIFT
        return self.run.arena.read_only[start : start + self.size_bytes]

    @property
    def caller_waits(self) -> bool:
        """Whether the thread that calls the operation would only wait for the page: then the operation may block."""
        request = self.request  # once: who unlocks the page takes it off without a lock
        return request is not None and request.caller_waits

    @property
    def buffer(self) -> memoryview:
        """The page's own memory to write into, ``size_bytes`` long.  It ends with the page's lock."""
        if self._buffer is None:
            start = self.run.frame << PAGE_SHIFT
            self._buffer = memoryview(self.run.arena.memory)[start : start + self.size_bytes]
        return self._buffer

    def write(self, data: ReadableBuffer, at: int = 0) -> None:
        """Copy *data* into the page from byte *at* on; where the system can, while other threads run.

        Locks: page locked.  Raises: ValueError if it does not fit.
        """
        size_bytes = memoryview(data).nbytes
        if not 0 <= at <= at + size_bytes <= self.size_bytes:
            raise beyond_page(at, size_bytes, self.size_bytes)
        if size_bytes:  # (an empty array of several dimensions cannot be made bytes)
            self.run.arena.write(data, (self.run.frame << PAGE_SHIFT) + at)

    def populate(self) -> None:
        """Have memory for it now, while the store is still thinking: to fill it is faster then.

        Advice: what the system does not give now is had when it is written to.  Locks: page locked.
        """
        self.run.arena.populate(self.run.frame, self.page_count)

    def set_uptodate(self) -> None:
        """Say that the file's bytes are in it.  Locks: page locked.  From here on readers see it."""
        with self.mapping.zone.lock:
            self._check_locked("a page is made Uptodate under its lock")
            self._set_uptodate()

    def end_read(self, error: BaseException | None = None) -> None:
        """End a read that `readpage` started and returned 0 for, or that `readahead` took; from any thread.

        Without *error* the page becomes Uptodate.  With one it does not, and the reader whose fetch it was
        raises that very error.  Locks: page locked on entry, unlocked on return.
        """
        with self.mapping.zone.lock:  # one hold: of a completion and a time-out that race, one is second
            self._check_locked("a read is ended exactly once")
            if error is None:
                self._set_uptodate()
            else:
                self.error = error
                self.mapping.note_read_error(error)
                self.mapping.device.failed(self.request)
            kept = self._unlock()
        self._after_unlock(kept)

    def _set_uptodate(self) -> None:
        arena, frame, count = self.run
        arena.uptodate[frame : frame + count] = ones(count)
        if self.marker_index >= 0:
            arena.uptodate[self.mapping.base + self.marker_index] = MARKED
            self.marker_index = -1
        if not self._brought:
            # In the hold in which readers see it: who has read it finds it counted.
            self._brought = True
            counters = self.mapping.zone.counters
            counters["pages_read"] += count
            counters["fetched_bytes"] += self.size_bytes

    # -- write-back ------------------------------------------------------------------------------------

    def owe_writeback(self) -> None:
        """Its dirty flags were cleared so that it can be stored.  Zone's lock held."""
        frame = self.run.frame
        # From here on, so that it stays until what became of it is known, also if it is stored under its lock.
        self.mapping.arena.writeback[frame : frame + self.page_count] = ones(self.page_count)
        self.writeback = Writeback(self.page_count)
        self.writeback.enter(self.mapping, self.index)

    def set_writeback(self) -> None:
        """It is about to be stored.  Locks: page locked; it is unlocked next.  Linux: the same."""
        mapping = self.mapping
        with mapping.zone.lock:
            self._check_locked("write-back of a page begins under its lock")
            if self.in_writeback or self.writeback is None:
                raise ContractViolation("write-back of a page that was dirty begins once", repr(self))
            self.in_writeback = True

    def end_writeback(self, error: BaseException | None = None) -> None:
        """It has been stored; or, with *error*, has not: then it is dirty, and who calls fsync hears of it.

        From any thread, once.  Linux: end_page_writeback; but there a page that failed counts as clean.
        """
        with self.mapping.zone.lock:
            if not self.in_writeback:
                raise ContractViolation("write-back of a page is ended exactly once", repr(self))
            self.settle_writeback(error)

    def settle_writeback(self, error: BaseException | None = None, *, declined: bool = False) -> None:
        """What became of it: stored; failed, and dirty again; or *declined*, and dirty still.  Zone's lock held."""
        mapping, zone, writeback = self.mapping, self.mapping.zone, self.writeback
        assert writeback is not None
        self.writeback, self.in_writeback = None, False
        frame = self.run.frame
        mapping.arena.writeback[frame : frame + self.page_count] = bytes(self.page_count)
        if declined:
            writeback.declined = (*writeback.declined, (self.index, self.index + self.page_count))
            mapping.mark_dirty(self.index, self.page_count)
            zone.dirty.redirtied(self.page_count)
        else:
            if error is None:
                mapping.note_stored(self.offset + self.size_bytes)
                zone.counters["written_bytes"] += self.size_bytes
            else:
                mapping.set_error(error)
                zone.counters["failed_writes"] += 1
                mapping.mark_dirty(self.index, self.page_count)
            zone.dirty.writeback_ended(mapping, self.page_count, error)
        writeback.piece_ended(mapping, self.index, self.page_count, error)
        zone.wake_memory_waiter()  # it may be evicted now

    def _check_locked(self, clause: str) -> None:
        if not self.locked:
            raise ContractViolation(clause, repr(self))

    # -- state ---------------------------------------------------------------------------------------

    @property
    def run(self) -> Run:
        """Its frames."""
        return Run(self.mapping.arena, self.mapping.base + self.index, self.page_count)

    @property
    def locked(self) -> bool:
        """Whether this very lock is still held."""
        return self.mapping.in_flight.get(self.index) is self

    @property
    def uptodate(self) -> bool:
        """Whether every byte of it is the file's."""
        arena, frame, count = self.run
        return 0 not in arena.uptodate[frame : frame + count]

    # -- the lock ------------------------------------------------------------------------------------

    def unlock(self) -> None:
        """Release the lock, hand it to whoever is first in line, wake those who only wait.

        A page that is not Uptodate leaves the cache and its memory goes back: nothing of a failed read stays.
        """
        with self.mapping.zone.lock:
            self._check_locked("a page is unlocked exactly once, by whoever holds its lock")
            kept = self._unlock()
        self._after_unlock(kept)

    def take_over(self) -> None:
        """The lock that somebody has taken for the calling thread is that thread's from now on."""
        zone = self.mapping.zone
        self.owner = zone.door.thread_id()
        if zone.checks is not None:
            zone.checks.page_locked(self)

    def release_in_zone(self) -> None:
        """`unlock`, by who holds the zone's lock, of a page that was never anybody's to ask a store for."""
        self._unlock()

    def _unlock(self) -> bool:
        """Under the zone's lock.  Whether an object still uses `buffer`."""
        zone = self.mapping.zone
        if zone.checks:
            zone.checks.unlocking(self)
            zone.checks.operation_ends(self)
            zone.checks.forget(self)
        kept = not self._release_buffer()
        self.filled = self.uptodate
        if not self.filled and not self.removed:
            self.mapping.remove_unread(self)
        elif zone.checks and self.filled:
            zone.checks.remember_content(self.run, f"{type(self.mapping.ops).__name__} of {self!r}")
        self.mapping.take_out_of_flight(self)
        if self.request is not None:
            self.request.page_ended(self.size_bytes if self._brought else 0)
        waits, self._waits = self._waits, deque()
        for wait in waits:
            self._serve(wait)
        self.bystanders.wake(self)
        zone.wake_memory_waiter()
        return kept

    def _after_unlock(self, kept: bool) -> None:
        """What unlocking brings about that must not be done under the zone's lock."""
        request, self.request = self.request, None  # which refers to this one: no cycle
        if request is not None:
            request.device.start_queued()
        if kept and self.mapping.zone.checks:
            raise ContractViolation("page.buffer is not kept beyond the page's lock", repr(self))

    def _serve(self, wait: Wait) -> None:
        """Decide for one waiter, in the order of arrival, now that the lock is free.

        As in Linux, those who only wait are woken up to the first who wants the lock; that one gets it, and
        whoever stands behind stays in line with it.
        """
        mapping = self.mapping
        holder = mapping.in_flight.get(wait.index)
        if holder is not None:
            wait.page = holder
            holder._waits.append(wait)
            return
        if wait.wants_lock and not self.removed and mapping.usable:
            wait.granted = mapping.lock_for(wait)
        wait.waiter.wake()

    def join(self, index: int, make_waiter: MakeWaiter, *, wants_lock: bool, has_reservation: bool = False) -> Wait:
        """Get in line.  Locks: the zone's lock is held, and is let go before the waiter is waited for."""
        wait = Wait(self, index, make_waiter(), wants_lock=wants_lock, has_reservation=has_reservation)
        self._waits.append(wait)
        if wait.in_store_code and self.request is not None and self.request.is_in_line:
            # The store that stands before it in the line may be the very one that waits now.
            self.request.device.let_through(self.request)
            wait.to_start = self.request
        return wait

    def wait(self) -> None:
        """Block until this lock has been released, without taking it.  Blocks: interruptibly."""
        run_steps(self.wait_steps(self.mapping.zone.door.waiter))

    def wait_steps(self, make_waiter: MakeWaiter) -> Steps[None]:
        """`wait`, as steps."""
        with self.mapping.zone.lock:
            if not self.locked:
                return
            wait = self.join(self.index, make_waiter, wants_lock=False)
        yield from wait.steps()

    def leave(self, wait: Wait) -> bool:
        """Take a waiter out of the line, if he is in it still.  Locks: the zone's lock is held."""
        try:
            self._waits.remove(wait)
        except ValueError:
            return False
        return True

    @property
    def waiter_count(self) -> int:
        """How many stand in line, or by."""
        return len(self._waits) + len(self.bystanders)

    @property
    def is_awaited_in_store_code(self) -> bool:
        """Whether a store needs it for a page that others wait for.  Zone's lock held."""
        return any(wait.in_store_code for wait in self._waits)

    # -- runs ------------------------------------------------------------------------------------------

    def split_head(self, page_count: int) -> Page:
        """The first *page_count* pages as a `Page` of their own, locked by the same owner."""
        with self.mapping.zone.lock:
            self._release_buffer()
            head = Page(self.mapping, self.index, page_count, self.owner)
            head._end_bytes = self._end_bytes
            head.request = self.request
            head.writeback = self.writeback
            if self.request is not None:
                self.request.page_was_split()
            self.index += page_count
            self.page_count -= page_count
            if 0 <= self.marker_index < self.index:
                head.marker_index, self.marker_index = self.marker_index, -1
            waits, self._waits = self._waits, deque()
            for wait in waits:
                wait.page = head if wait.index < self.index else self
                wait.page._waits.append(wait)
            self.mapping.put_in_flight(head)
            self.bystanders.hand_on(head)
            if self.mapping.zone.checks is not None:
                self.mapping.zone.checks.page_split(self, head)
            return head

    def absorb(self, tail: Page) -> None:
        """Make the page right behind, which nobody is reading either, a part of this one.

        Locks: both locked, and the zone's lock is held.
        """
        self._release_buffer()  # it may have been filled in vain; the next one goes to the new end
        tail._release_buffer()
        for wait in tail._waits:
            wait.page = self
        self._waits += tail._waits
        tail._waits.clear()
        self.page_count += tail.page_count
        self.marker_index = max(self.marker_index, tail.marker_index)
        self._end_bytes = max(self._end_bytes, tail._end_bytes)
        self.mapping.replace_in_flight(tail, self)
        tail.bystanders.hand_on(self)
        if self.mapping.zone.checks is not None:
            self.mapping.zone.checks.forget(tail)

    def _release_buffer(self) -> bool:
        """End `buffer`; False if an object still uses it, and so could write to the page later."""
        buffer, self._buffer = self._buffer, None
        try:
            if buffer is not None:
                buffer.release()
        except BufferError:
            return False
        return True


LockedPage = NewType("LockedPage", Page)
"""The proof that a page is locked by the caller; what needs the lock takes this."""
