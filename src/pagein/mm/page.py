"""A page while something happens to it: its lock, who waits for it, and how its read ended.

Guarantees: a page is locked exactly while a `Page` for it stands in its mapping's in-flight table; the lock is
handed over first come, first served; an interrupted waiter leaves nothing behind.  `Page` may cover a run of
pages that are locked, filled and unlocked as one (Linux would say folio); its waiters still wait for one index.
Assumes: the zone's lock guards every field but ``error``, which is written before the unlock that shows it.
Not here: finding and locking a page (mapping.py), bringing its content (bring.py).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NewType

from ..errors import ContractViolation
from ..units import PAGE_SHIFT
from .arena import ones
from .lru import Run

if TYPE_CHECKING:
    from .mapping import AddressSpace
    from .sync import Waiter


class Page:
    """``page_count`` pages of a mapping from ``index`` on, locked, in flight."""

    __slots__ = (
        "_brought",
        "_buffer",
        "_end_bytes",
        "_waits",
        "error",
        "filled",
        "index",
        "mapping",
        "owner",
        "page_count",
        "removed",
    )

    def __init__(self, mapping: AddressSpace, index: int, page_count: int, owner: int | None) -> None:
        self.mapping = mapping
        self.index = index
        self.page_count = page_count
        self._end_bytes = mapping.i_size
        self._brought = False
        self.owner = owner
        """The thread that holds the lock; None once it belongs to an I/O (readpage returned 0)."""
        self.error: BaseException | None = None
        """How the last read of it failed."""
        self.filled = False
        """It was Uptodate when its lock was released."""
        self.removed = False
        """Taken out of the cache under its lock: whoever gets the lock next must look the page up again."""
        self._waits: deque[Wait] = deque()
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
        """Bytes of the file that are in it, by the size it had when the page was locked: less than a page at the
        end.  Should the file change its size meanwhile, whoever changes it waits for this lock and puts it right."""
        return max(0, min(self.page_count << PAGE_SHIFT, self._end_bytes - self.offset))

    def extend_to(self, i_size: int) -> None:
        """The file may have become longer since the page was locked, and before it is read.  Zone's lock held."""
        self._end_bytes = max(self._end_bytes, i_size)

    @property
    def buffer(self) -> memoryview:
        """The page's own memory to write into, ``size_bytes`` long.  It ends with the page's lock."""
        if self._buffer is None:
            start = self.run.frame << PAGE_SHIFT
            self._buffer = memoryview(self.run.arena.memory)[start : start + self.size_bytes]
        return self._buffer

    def set_uptodate(self) -> None:
        """Say that ``buffer`` holds the file's bytes.  Locks: page locked.  From here on readers see it."""
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
            kept = self._unlock()
        self._check_kept(kept)

    def _set_uptodate(self) -> None:
        arena, frame, count = self.run
        arena.uptodate[frame : frame + count] = ones(count)
        self._brought = True

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
        self._check_kept(kept)

    def _unlock(self) -> bool:
        """Under the zone's lock.  Whether an object still uses `buffer`."""
        zone = self.mapping.zone
        if zone.checks:
            zone.checks.unlocking(self)
            zone.checks.operation_ends(self)
        kept = not self._release_buffer()
        self.filled = self.uptodate
        if self._brought:
            zone.counters["pages_read"] += self.page_count
            zone.counters["fetched_bytes"] += self.size_bytes
        if not self.filled and not self.removed:
            self.mapping.remove_unread(self)
        elif zone.checks and self.filled:
            zone.checks.remember_content(self.run, f"{type(self.mapping.ops).__name__} of {self!r}")
        self.mapping.take_out_of_flight(self)
        waits, self._waits = self._waits, deque()
        for wait in waits:
            self._serve(wait)
        zone.wake_memory_waiters()
        return kept

    def _check_kept(self, kept: bool) -> None:
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
            wait.granted = mapping.lock_with_reservation(wait.index, owner=wait.thread_id)
        wait.waiter.wake()

    def join(self, index: int, *, wants_lock: bool) -> Wait:
        """Get in line.  Locks: the zone's lock is held, and is let go before `Wait.wait`."""
        wait = Wait(self, index, wants_lock=wants_lock)
        self._waits.append(wait)
        return wait

    def wait(self) -> None:
        """Block until this lock has been released, without taking it.  Blocks: interruptibly."""
        zone = self.mapping.zone
        with zone.lock:
            if not self.locked:
                return
            wait = self.join(self.index, wants_lock=False)
        wait.wait()

    def split_head(self, page_count: int) -> Page:
        """The first *page_count* pages as a `Page` of their own, locked by the same owner."""
        with self.mapping.zone.lock:
            self._release_buffer()
            head = Page(self.mapping, self.index, page_count, self.owner)
            head._end_bytes = self._end_bytes
            self.index += page_count
            self.page_count -= page_count
            waits, self._waits = self._waits, deque()
            for wait in waits:
                wait.page = head if wait.index < self.index else self
                wait.page._waits.append(wait)
            self.mapping.put_in_flight(head)
            return head

    def leave(self, wait: Wait) -> None:
        """Take a waiter out of the line.  Locks: the zone's lock is held."""
        self._waits.remove(wait)

    @property
    def waiter_count(self) -> int:
        """How many stand in line."""
        return len(self._waits)

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


class Wait:
    """One thread's place in line for one page."""

    __slots__ = ("granted", "index", "page", "thread_id", "waiter", "wants_lock")

    def __init__(self, page: Page, index: int, *, wants_lock: bool) -> None:
        door = page.mapping.zone.door
        self.page = page
        self.index = index
        self.wants_lock = wants_lock
        self.thread_id = door.thread_id()
        self.waiter: Waiter = door.waiter()
        self.granted: LockedPage | None = None

    def wait(self) -> LockedPage | None:
        """Block until served: the locked page, or None if the lock was not asked for or the page has gone."""
        zone = self.page.mapping.zone
        try:
            if zone.checks:
                zone.checks.wait(self)
            else:
                self.waiter.wait()
        except BaseException:
            # The lock may have been handed to us while the exception was on its way: then pass it on.
            with zone.lock:
                granted = self.granted
                if granted is None and self in self.page._waits:
                    self.page.leave(self)
            if granted is not None:
                granted.unlock()
            elif self.wants_lock:
                with zone.lock:
                    zone.uncharge(1, reserved=True)
            raise
        return self.granted
