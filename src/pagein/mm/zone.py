"""A zone: all page frames of one cache, the lock that guards what happens to them, and the cap.

Guarantees: ``charged_pages`` never exceeds ``cap_pages``, and no frame has memory that is not charged, but for
the moment between a lock-free reader's look and its check (removal.clean_up_after_lost_race).

Lock order: a fault's address-space lock, then page locks in ascending index, then the zone's lock, which is nearly a
leaf (mm/pin.py): short, never held across I/O, a wait, or a store's code.  The whole tree: docs/explanation/locking.md.

One lock a zone, not one a file: everything it guards takes microseconds and happens only on a miss, an
eviction or an unlock, each of which costs at least a system call.  A hit takes no lock at all.
Not here: choosing victims (reclaim.py), page locks (page.py).
"""

from __future__ import annotations

import errno
import weakref
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

from ..errors import bad_setting, closed_cache, no_address_space
from ..units import PAGE_SHIFT
from . import debug, fork, lru
from .arena import PRIVATE_ARENA_PAGES, SHARED_ARENA_PAGES, Arena, ones
from .device import BackingDevice
from .dirty import DirtyState, Limits
from .flusher import Flusher
from .locking import Operation
from .lockorder import DIRTY_LOCK, ZONE_LOCK
from .outcome import InOrder, Unsettled
from .sync import HERE, SYSTEM, Door, OwnedLock, Waiter, outside, run_steps
from .workqueue import MakeSteps, Workqueue

if TYPE_CHECKING:
    from .mapping import AddressSpace
    from .openfile import Stream
    from .page import Page
    from .sync import Lock
    from .tracepoints import Tracer
    from .turn import Turn
    from .victims import Victims


T = TypeVar("T")

IO_WORKERS_MAX = 1024
"""One for each request that stores take at once (`AddressSpaceOperations.requests_max`), for any number of stores that
make sense: a call that stood in line here might be what all the others wait for."""


class AsksStore(Protocol):
    """Who says which store he asks: operations; a source, if it knows before it is opened."""

    @property
    def device_key(self) -> Hashable:
        """As `AddressSpaceOperations.device_key`."""

    @property
    def device_name(self) -> str:
        """What statistics call it."""

    @property
    def requests_max(self) -> int:
        """How many requests it gets at once."""


class Zone:
    """The frames of one cache: at most *cap_pages* of them hold memory.

    *victims* is the pure function that chooses what to evict (victims.s3fifo).  *door* gives locks, threads and
    time.  With *checks*, the contract is asserted at run time (debug.py).
    """

    def __init__(
        self,
        cap_pages: int,
        *,
        victims: Victims,
        door: Door = SYSTEM,
        checks: debug.Checks | None = None,
        dirty_limits: Limits | None = None,
    ) -> None:
        self.cap_pages = cap_pages
        self.dirty_limits: Limits = dirty_limits or Limits.for_cap(cap_pages)
        self.victims = victims
        self.door = door
        self.checks = checks
        self.arenas: dict[int, Arena] = {}
        self.mappings: weakref.WeakSet[AddressSpace] = weakref.WeakSet()
        """Those that have frames here."""
        self.closed: bool = False
        self._next_arena_number = 0
        self._start_locks()
        self._start()
        fork.survive_fork(self)

    def _start_locks(self) -> None:
        """Of files that nobody writes, which have none of their own: there may be many of them."""
        self.read_only_lock: Lock = debug.reentrant_lock(
            self, DIRTY_LOCK, self.door.reentrant_lock(), "files that nobody writes"
        )
        """Their ``dirty_lock``."""
        self.read_only_unsettled: Unsettled = Unsettled()

    def _start(self) -> None:
        """Everything that says which pages are where: as in a cache that was just made."""
        if self.checks is not None:
            self.checks.start_anew()
        self.workqueue: Workqueue = Workqueue(self.door, "pagein-work")
        # Who waits without a thread is put into the line under the lock, and told when it is released.
        self.lock: OwnedLock = debug.owned_lock(self, ZONE_LOCK, after=self.workqueue.kick_if_possible)
        self.io: Workqueue = Workqueue(self.door, "pagein-io", workers_max=IO_WORKERS_MAX)
        """The workers that call operations which block.  Others than those of ``workqueue``, whose work may wait for
        them."""
        self.devices: weakref.WeakValueDictionary[Hashable, BackingDevice] = weakref.WeakValueDictionary()
        self.streams: dict[Stream, int] = {}
        """Those that are being read into the cache, and how many requests each has in flight or in line."""
        self._in_store_code: dict[int, int] = {}
        self._turns_here: dict[int, tuple[Turn, ...]] = {}
        self._discarders = 0
        self.queues: lru.Queues = lru.Queues(self.arenas, ghost_pages_max=self.cap_pages)
        self.dirty: DirtyState = DirtyState(self, self.dirty_limits)
        self.flusher: Flusher = Flusher(self)
        self.charged_pages: int = 0
        self.reserved_pages: int = 0
        """Charged to a thread that has not put them into a mapping yet."""
        self.locked: set[Page] = set()
        self.memory_waiters: deque[Waiter] = deque()
        self.counters: Counter[str] = Counter()
        self.opens_to_write: Unsettled = Unsettled()
        """Those whose callers may have been interrupted."""
        self.tracer: Tracer | None = None
        """Who is told what happens here (tracepoints.py)."""

    def shielded(self, run: Callable[[], T]) -> T:
        """As `Workqueue.shielded`, also when the cache is closed, or is being closed by another thread."""
        if not self.closed:
            try:
                return self.io.shielded(run)
            except ValueError:
                if not self.closed:
                    raise
        return run()

    def shielded_steps(self, make_steps: MakeSteps[T], undo: Callable[[T], object] | None = None) -> T:
        """`Workqueue.shielded_steps`; with checks a worker waits with the steps, because it looks up now and then."""
        if self.tracer is not None:
            self.tracer.missed()
        if self.checks:
            return self.workqueue.shielded(lambda: run_steps(make_steps(self.door.waiter)), undo)
        return self.workqueue.shielded_steps(make_steps, undo)

    def change(self, mapping: AddressSpace, make_steps: MakeSteps[T], *, blocks: bool = False) -> T:
        """As `shielded_steps`, for what changes a file: if interrupted it is done before the next change, or never.
        *blocks*: the steps may block."""
        if self.tracer is not None:
            self.tracer.missed()
        return self.workqueue.in_order(InOrder(make_steps, mapping.unsettled), blocks=blocks or self.checks is not None)

    def all_mappings(self) -> list[AddressSpace]:
        """Every address space that has frames here."""
        with self.lock:
            return list(self.mappings)

    def start_anew(self) -> None:
        """After a fork, in the child: the same files, no pages, memory of its own."""
        self._start_locks()
        for arena in self.arenas.values():
            arena.start_anew()
        for mapping in self.mappings:
            mapping.start_anew()
        self._start()
        for mapping in self.mappings:
            mapping.device = self.device_of(mapping.ops)

    def adopt(self, run: lru.Run, content: bytes) -> None:
        """After a fork, in the child: pages that a view shows, with their content."""
        with self.lock:
            arena, frame, count = run
            arena.memory[frame << PAGE_SHIFT : (frame + count) << PAGE_SHIFT] = content
            arena.uptodate[frame : frame + count] = ones(count)
            self.queues.move(run, lru.SMALL)
            self.charged_pages += count

    def reserve_frames(self, frame_count: int, *, is_written: bool) -> tuple[Arena, int]:
        """Frames for a file, as many as arena.frames_for says: (arena, first frame).  Costs address space only.
        *is_written*: somebody may write it."""
        with self.lock:
            if self.closed:
                raise closed_cache()
            if frame_count > PRIVATE_ARENA_PAGES:
                return self._add_arena(frame_count, is_written=is_written), 0
            for arena in self.arenas.values():
                is_for_it = arena.page_count == SHARED_ARENA_PAGES and arena.is_written == is_written
                if is_for_it and (first := arena.reserve(frame_count)) is not None:
                    return arena, first
            arena = self._add_arena(SHARED_ARENA_PAGES, is_written=is_written)
            first = arena.reserve(frame_count)
            assert first is not None, "an empty shared arena has room for every file that may share it"
            return arena, first

    def release_frames(self, mapping: AddressSpace) -> bool:
        """Give back the frames that a mapping has had from `reserve_frames`; False if a page of it is still there.

        The look and the release are one: an eviction may take a page that turns out to be pinned, and put it back.
        """
        arena, first_frame, frame_count = mapping.arena, mapping.base, mapping.frame_count
        with self.lock:
            if next(arena.populated(first_frame, first_frame + frame_count), None):
                return False
            self.mappings.discard(mapping)
            self.queues.forget_range(lru.Run(arena, first_frame, frame_count))
            arena.punch_all(first_frame, frame_count)  # what readers that lost a race have touched
            if frame_count > PRIVATE_ARENA_PAGES:
                self.arenas.pop(arena.number, None)
            else:
                arena.release(first_frame, frame_count)
            return True

    def _add_arena(self, page_count: int, *, is_written: bool) -> Arena:
        try:
            arena = Arena(self._next_arena_number, page_count, is_written=is_written)
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise
            raise no_address_space(page_count << PAGE_SHIFT) from error
        self._next_arena_number += 1
        self.arenas[arena.number] = arena
        return arena

    # -- stores ------------------------------------------------------------------------------------------

    def device_of(self, ops: AsksStore) -> BackingDevice:
        """The store that *ops* asks, as one for all files of it.

        Raises: ValueError, TypeError if it may be asked for nothing at once.
        """
        key = ops.device_key
        with self.lock:
            device = self.devices.get(key)
            if device is None:
                name, requests_max = ops.device_name or type(ops).__name__, ops.requests_max
                if not isinstance(requests_max, int) or requests_max < 1:  # it would stand in line for ever
                    kind = ValueError if isinstance(requests_max, int) else TypeError
                    accepted = "a number of requests, at least 1"
                    raise bad_setting(f"{type(ops).__name__}.requests_max", accepted, requests_max, kind=kind)
                device = BackingDevice(self, key, name=name, requests_max=requests_max)
                self.devices[key] = device
            return device

    def count_stream(self, stream: Stream, change: int) -> None:
        """So many more requests of *stream* are in flight or in line.  Locks: the zone's lock is held."""
        count = self.streams.get(stream, 0) + change
        if count:
            self.streams[stream] = count
        else:
            self.streams.pop(stream, None)

    @contextmanager
    def in_store_code(self, operation: Operation, page: Page) -> Iterator[None]:
        """This thread calls an operation: what it reads through the cache meanwhile, others wait for already."""
        checks, stores_in = self.checks, operation.stores_in(self)
        here = self.door.thread_id()
        self._in_store_code[here] = self._in_store_code.get(here, 0) + 1
        try:
            if checks is None:
                with outside(page.mapping, stores_in=stores_in):
                    yield
            else:
                with (
                    checks.in_operation(operation, self, page.mapping, page),
                    outside(page.mapping, stores_in=stores_in),
                ):
                    yield
        finally:
            depth = self._in_store_code.pop(here, 1) - 1  # gone in a child that the operation has forked
            if depth:
                self._in_store_code[here] = depth

    def is_in_store_code(self) -> bool:
        """Whether the calling thread is inside an operation of a store."""
        return self.door.thread_id() in self._in_store_code

    @contextmanager
    def in_turn(self, turn: Turn) -> Iterator[None]:
        """This thread makes the look whose turn that is."""
        here = self.door.thread_id()
        turns = self._turns_here.get(here, ())
        self._turns_here[here] = *turns, turn
        try:
            yield
        finally:
            self._turns_here.pop(here, None)  # gone in a child that the store's code has forked
            if turns:
                self._turns_here[here] = turns

    def is_waited_for_here(self) -> bool:
        """Whether others may be waiting until the calling thread is done: it is inside an operation of a store, or
        looks at one and has a place there, behind which requests for pages stand.  Zone's lock held."""
        return self.is_in_store_code() or any(
            turn.is_in_flight for turn in self._turns_here.get(self.door.thread_id(), ())
        )

    def is_storing_here(self) -> bool:
        """Whether the calling thread is inside an operation that stores, until whose end pages may stay dirty."""
        return any(zone is self for zone in HERE.storing)

    def is_calling_here(self) -> bool:
        """Whether the calling thread runs code of a store for any of its files, also such as opens or closes one."""
        calling = HERE.calling
        return bool(calling) and any(what is self or getattr(what, "zone", None) is self for what in calling)

    # -- the end -----------------------------------------------------------------------------------------

    @property
    def is_given_up(self) -> bool:
        """Whether what is dirty is about to be given up: who waits until it is stored would wait in vain.  Zone's lock
        held."""
        return self._discarders > 0 or self.closed

    @contextmanager
    def giving_up(self) -> Iterator[None]:
        """All that is dirty is given up in here, and who makes more of it, or waits until some of it is stored, is told
        that the cache is closed: who discards waits for ``i_rwsem``, which a writer has who waits for room.

        Locks: takes the zone's lock.
        """
        with self.lock:
            self._discarders += 1  # under the lock: whoever has looked before is among those who wait
            self._wake_all()
        try:
            yield
        finally:
            with self.lock:
                self._discarders = max(0, self._discarders - 1)  # 0 in a child that was forked in here

    def _wake_all(self) -> None:
        """Let everybody look again who waits for room, or for memory.  Zone's lock held."""
        self.dirty.wake_all()
        while self.memory_waiters:
            self.wake_memory_waiter()

    # -- charges -----------------------------------------------------------------------------------------

    def count(self, what: str, by: int = 1) -> None:
        """Add to a statistic.  Locks: takes the zone's lock, without which counts would be lost."""
        with self.lock:
            self.counters[what] += by

    def uncharge(self, page_count: int, *, reserved: bool = False) -> None:
        """Give back a charge, and wake who waits for memory.  Locks: the zone's lock is held."""
        if not page_count:
            return  # who waits would find nothing
        self.charged_pages -= page_count
        if reserved:
            self.reserved_pages -= page_count
        self.wake_memory_waiter()

    def wake_memory_waiter(self) -> None:
        """Let the first who waits for memory look again; he wakes the next.  Locks: the zone's lock is held."""
        if self.memory_waiters:
            self.memory_waiters.popleft().wake()

    def resident_bytes(self, *, is_thorough: bool = False) -> int:
        """Memory that pages truly take, as the system counts it (`Arena.resident_bytes`); what is charged where it
        cannot say."""
        known = [arena.resident_bytes(is_thorough=is_thorough) for arena in list(self.arenas.values())]
        return (
            sum(size for size in known if size is not None) if None not in known else self.charged_pages << PAGE_SHIFT
        )

    def planes_bytes(self) -> int:
        """Memory that the flags of pages truly take."""
        return sum(arena.planes_bytes() for arena in list(self.arenas.values()))

    def close(self) -> None:
        """Let go of every arena.  The caller has removed every page."""
        with self.lock:
            self.closed = True
            self._wake_all()
            for arena in self.arenas.values():
                arena.keep_for_children()  # what is left of it is what views show, and no fork makes a copy of that
            self.arenas.clear()
            devices = list(self.devices.values())
        for device in devices:
            device.start_queued()  # which lets the pages go of what stands in line
        self.flusher.close()
        self.io.close()
