"""The contract, asserted at run time: what ``debug`` and ``PAGEIN_DEBUG=1`` switch on.

Guarantees: each breach of a clause that this file can see raises `ContractViolation`, which names the clause and
the operation; a cache without checks pays one test for None at each step of a miss, and nothing on a hit.
What is cheap is checked always, where it happens: the codes of readpage (readpage.py), unlocking or ending a
read twice (page.py).  Here is what costs memory or time: who owns a lock, in which order locks are taken (held.py),
what is held while a store is called, reads that are never ended, and pages that are written to after their release.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ..errors import ContractViolation
from ..units import PAGE_SHIFT, PAGE_SIZE
from . import held
from .held import CheckedLock, CheckedReentrantLock, Hold, Stack
from .locking import READAHEAD, READPAGE, WRITEPAGE, WRITEPAGES, Held, Operation
from .lockorder import DIRTY_LOCK, I_RWSEM, PAGE_LOCK, ZONE_LOCK, Rank
from .sync import OwnedLock, outside

if TYPE_CHECKING:
    from .lru import Run
    from .mapping import AddressSpace
    from .page import Page
    from .sync import Door, Lock, MakeWaiter, Waiter
    from .wait import Wait
    from .zone import Zone

T = TypeVar("T")

READ_TIMEOUT_S = 30.0
"""How long a reader waits, with checks, for a read that an operation started."""


class _Taken(NamedTuple):
    """Who has locked a page, how deep in operations of stores, and where."""

    thread_id: int | None
    depth: int
    stack: Stack


class Checks:
    """The state of the run-time checks of one zone."""

    def __init__(self, read_timeout_s: float = READ_TIMEOUT_S) -> None:
        self.read_timeout_s = read_timeout_s
        self.start_anew()

    def start_anew(self) -> None:
        """In a child of a fork, which has no pages."""
        self._in_operation: dict[Page, str] = {}
        self._content: dict[tuple[int, int], tuple[int, str]] = {}
        self._taken: dict[Page, _Taken] = {}

    # -- locks -------------------------------------------------------------------------------------------

    def before_page(self, mapping: AddressSpace, index: int, *, locks: bool = True) -> None:
        """The calling thread is about to lock a page, or (not *locks*) to wait until it is brought: wherever it is now
        that takes its lock, if only another's hold of it."""
        operation = f"lock_page({index}) of {mapping.name}" if locks else f"a read of page {index} of {mapping.name}"
        here, callers = self.pages_here(mapping.zone.door), held.callers_pages()
        self.before_place(PAGE_LOCK, operation, mapping.zone.door)
        for hold in [*here, *callers]:
            page: Page = hold.lock
            if not page.locked or page.owner != page.mapping.zone.door.thread_id():
                continue  # ended, or handed on, by the operation that it was locked for
            if page.mapping is not mapping:
                held.note_order(hold, operation, mapping)
            elif page.index + page.page_count > index and (page.index <= index or locks or hold in here):
                clause = "page locks of a mapping are taken in ascending order, each once"
                raise held.violation(clause, f"{operation} with {page!r} held", hold)

    def page_locked(self, page: Page) -> None:
        """The calling thread has locked a page, or has been given one that was locked for it."""
        self._taken[page] = _Taken(page.owner, held.depth(), held.stack_here())

    def page_split(self, page: Page, head: Page) -> None:
        """A part of it is a page of its own from now on."""
        if page in self._taken:
            self._taken[head] = self._taken[page]

    def forget(self, page: Page) -> None:
        """It is another's part now, or was unlocked."""
        self._taken.pop(page, None)

    def pages_here(self, door: Door) -> list[Hold]:
        """The pages that the calling thread has locked since it runs the code of whom it runs now."""
        here, depth = door.thread_id(), held.depth()
        found = []
        for page in list(self._taken):  # in one step: `copy` may run the garbage collector in its middle
            taken = self._taken.get(page)
            if taken and page.owner == here == taken.thread_id and taken.depth == depth and page.locked:
                found.append(self._hold(page))
        return found

    def _hold(self, page: Page) -> Hold:
        taken = self._taken.get(page)
        return Hold(PAGE_LOCK, page, repr(page), taken.stack if taken else [])

    def before_i_rwsem(self, mapping: AddressSpace) -> None:
        """The calling thread is about to take the mapping's ``i_rwsem``, or to wait for it."""
        door, name = mapping.zone.door, f"{I_RWSEM.name} of {mapping.name}"
        self.before_wait(name)
        held.about_to_take(I_RWSEM, mapping, name, pages=self.pages_here(door))

    def i_rwsem_taken(self, mapping: AddressSpace, make_waiter: MakeWaiter) -> Hold | bool:
        """What is to stand for who has it: the calling thread, if that runs the steps to their end; else True, since
        they may go on, and release it, on any."""
        if make_waiter != mapping.zone.door.waiter:
            return True
        return held.taken(I_RWSEM, mapping, f"{I_RWSEM.name} of {mapping.name}")

    def before_wait(self, operation: str) -> None:
        """The calling thread is about to wait."""
        held.before_wait(operation)

    @contextmanager
    def having(self, rank: Rank, what: object) -> Iterator[None]:
        """The calling thread has that, which is no lock of the system, for *what*."""
        lock = object()
        held.taken(rank, lock, f"{rank.name}, {what!r}")
        try:
            yield
        finally:
            held.released(lock)

    def before_place(self, rank: Rank, name: str, door: Door) -> None:
        """The calling thread is about to wait for that."""
        self.before_wait(name)
        held.about_to_take(rank, None, name, pages=self.pages_here(door))

    def unlocking(self, page: Page) -> None:
        """The calling thread is about to unlock a page."""
        here = page.mapping.zone.door.thread_id()
        if page.owner not in (None, here) and page not in self._in_operation:
            clause = "a page is unlocked by the thread that locked it"
            raise held.violation(clause, f"unlock of {page!r}", self._hold(page))

    # -- operations of stores ----------------------------------------------------------------------------

    @contextmanager
    def in_operation(
        self, operation: Operation, zone: Zone, mapping: AddressSpace | None = None, page: Page | None = None
    ) -> Iterator[None]:
        """The calling thread runs a store's code: it holds what the table says (locking.py), and no more."""
        name = operation.name if mapping is None else f"{type(mapping.ops).__name__}.{operation.name}"
        if page is not None:
            name = f"{name} of {page!r}"
        self._check_held(operation, name, zone, mapping, page)
        others = [hold for hold in self.pages_here(zone.door) if hold.lock is not page]
        border = held.enter(name, others if page is None else [self._hold(page), *others])
        try:
            yield
        finally:
            held.leave(border)

    @staticmethod
    def check_not_stored(operation: Operation, mapping: AddressSpace, pages: range) -> None:
        """None of these is under write-back."""
        stored = [index for index in list(mapping.under_writeback) if index in pages]
        if stored:
            clause = f"{operation.name} is called with none of its pages under write-back"
            raise ContractViolation(clause, f"{operation.name} of {mapping.name}, page {min(stored)}")

    def _check_held(
        self, operation: Operation, name: str, zone: Zone, mapping: AddressSpace | None, page: Page | None
    ) -> None:
        for hold in held.holds_here():
            assert hold.rank is not None, "a border ends them"
            if not hold.rank.across_waits:
                raise held.violation(
                    f"no store is called under {hold.rank.name}", f"{name}, with {hold.name} held", hold
                )
            if hold.rank is I_RWSEM and operation.i_rwsem is Held.NO:
                clause = f"{operation.name} is called without i_rwsem"
                raise held.violation(clause, f"{name}, with {hold.name} held", hold)
        for hold in self.pages_here(zone.door):
            other: Page = hold.lock
            is_lower = page is not None and (other.mapping is not mapping or other.index < page.index)
            if other is not page and not (is_lower and operation is READPAGE):
                clause = f"{operation.name} is called with its own pages locked, and no other"
                raise held.violation(clause, f"{name}, with {hold.name} held", hold)
        if operation.locked and (page is None or not page.locked or page.owner != zone.door.thread_id()):
            raise ContractViolation(f"{operation.name} is called with its pages locked by the calling thread", name)
        if page is not None and operation in (READPAGE, READAHEAD) and page.uptodate:
            raise ContractViolation(f"{operation.name} is called for pages that are not Uptodate", name)
        if page is not None and operation in (WRITEPAGES, WRITEPAGE) and page.writeback is None:
            raise ContractViolation(f"{operation.name} is called with the dirty flags cleared", name)
        if operation.i_rwsem is Held.YES and mapping is not None and not mapping.i_rwsem.held:
            raise ContractViolation(f"{operation.name} is called with i_rwsem held", name)

    # -- reads -------------------------------------------------------------------------------------------

    def operation_begins(self, page: Page, operation: str) -> None:
        """The page belongs to a store's operation, which may end it from any thread."""
        self._in_operation[page] = operation

    def operation_ends(self, page: Page) -> None:
        """The page is the caller's again, or released."""
        self._in_operation.pop(page, None)

    def watched(self, wait: Wait) -> Waiter:
        """What to wait with as usual, but not for ever for an operation that never ends its read."""
        self.before_wait(f"wait for page {wait.index}")
        return _Watched(self, wait)

    def raise_if_never_ended(self, page: Page) -> None:
        """A reader has waited for the page for as long as anybody should."""
        request = page.request  # once: who unlocks the page takes it off without a lock
        if page.owner is None and page.locked and (request is None or request.is_started):
            operation = self._in_operation.get(page, type(page.mapping.ops).__name__)
            raise ContractViolation(
                f"a read that was started is ended (waited {self.read_timeout_s:g} s)", f"{operation} of {page!r}"
            )

    def unended_reads(self, zone: Zone) -> list[str]:
        """The operations that started a read and have not ended it.  (Pages that stand in line before a store, or were
        handed to a reader who has not gone on yet, are nobody's, too.)"""
        with zone.lock:
            started = [page for page in zone.locked if page.owner is None and page in self._in_operation]
            return [f"{self._in_operation[page]} of {page!r}" for page in started]

    # -- content -----------------------------------------------------------------------------------------

    def remember_content(self, run: Run, operation: str) -> None:
        """A run has become Uptodate and is unlocked: from now on nobody writes to it.  Zone's lock held."""
        for frame in range(run.frame, run.frame + run.page_count):
            self._content[run.arena.number, frame] = _checksum(run, frame), operation

    def changed_content(self, runs: Iterable[Run]) -> ContractViolation | None:
        """What to raise if a page is not what it was when it was released, now that it is locked or removed."""
        violation = None
        for run in runs:
            for frame in range(run.frame, run.frame + run.page_count):
                then = self._content.pop((run.arena.number, frame), None)
                if then and not run.arena.dirty[frame] and then[0] != _checksum(run, frame):
                    violation = ContractViolation(
                        "a page is not written to after it was released", f"{then[1]}, frame {frame}"
                    )
        return violation


class _Watched:
    """The waiter of a thread that waits for a page."""

    def __init__(self, checks: Checks, wait: Wait) -> None:
        self._checks = checks
        self._wait = wait
        self.wake = wait.waiter.wake

    def wait(self, timeout_s: float | None = None) -> bool:
        while not self._wait.waiter.wait(self._checks.read_timeout_s):
            self._checks.raise_if_never_ended(self._wait.page)
        return True


def _checksum(run: Run, frame: int) -> int:
    return zlib.crc32(run.arena.read_only[frame << PAGE_SHIFT : (frame << PAGE_SHIFT) + PAGE_SIZE])


# -- what is asked with checks, and costs next to nothing without ------------------------------------------------


def owned_lock(zone: Zone, rank: Rank, *, after: Callable[[], object] | None = None) -> OwnedLock:
    """A lock of this rank."""
    checks, door = zone.checks, zone.door
    if checks is None:
        return OwnedLock(rank.name, door, after=after)
    no_pages: list[Hold] = []
    return CheckedLock(rank, door, lambda: no_pages if rank is ZONE_LOCK else checks.pages_here(door), after=after)


def reentrant_lock(zone: Zone, rank: Rank, lock: Lock, name: str) -> Lock:
    """*lock*, of this rank: of what is called *name*."""
    checks, door = zone.checks, zone.door
    if checks is None:
        return lock
    no_pages: list[Hold] = []
    return CheckedReentrantLock(
        rank, lock, door, lambda: no_pages if rank is DIRTY_LOCK else checks.pages_here(door), name
    )


def before_wait(zone: Zone, rank: Rank, what: object = "") -> None:
    """The calling thread is about to wait for that, if it has to."""
    if zone.checks is not None:
        zone.checks.before_place(rank, f"{rank.name}, {what!r}" if what else rank.name, zone.door)


def having(zone: Zone, rank: Rank, what: object) -> AbstractContextManager[None]:
    """The calling thread has that, which is no lock of the system, for *what*, as long as this is entered."""
    return nullcontext() if zone.checks is None else zone.checks.having(rank, what)


def called(
    operation: Operation,
    zone: Zone,
    run: Callable[[], T],
    *,
    mapping: AddressSpace | None = None,
    page: Page | None = None,
    not_stored: range | None = None,
) -> Callable[[], T]:
    """How to call ``run()``, that operation of a store.  None of the pages *not_stored* is under write-back then."""
    checks, stores_in = zone.checks, operation.stores_in(zone)

    def call() -> T:
        if checks is None:
            with outside(mapping or zone, stores_in=stores_in):
                return run()
        if mapping is not None and not_stored is not None:
            checks.check_not_stored(operation, mapping, not_stored)
        with checks.in_operation(operation, zone, mapping, page), outside(mapping or zone, stores_in=stores_in):
            return run()

    return call
