"""The inodes of a cache: which one is found for a source, who has it, and what follows when nobody does.

Guarantees: one inode for one version of one source, however often it is opened; one that is open for writing, or has
data that its store does not have, is the one that everybody gets, and is never forgotten; an inode is given back only
when nobody reads, waits for, or shows a page of it, and its store's side is closed once.
Assumes: sources with equal keys are one object (stores/source.py); everything here runs where no signal can interrupt
it, but for what a finalizer appends to `released`, `late` and `orphans`.
Lock order: ``InodeTable.lock`` is taken before a zone's lock and never held across a store's I/O.
Not here: writing back what was left (unwritten.py).
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, cast

from .errors import closed_cache, exists, read_only_source
from .idle import IdleInodes
from .inode import Inode
from .mm import readahead, truncate
from .mm.sync import OwnedLock, Waiter
from .stores.source import Opened, Source, SourceWithHead, WritableSource
from .turns import Busy, Turns

if TYPE_CHECKING:
    from .cache import PageCache
    from .mm.mapping import AddressSpace
    from .modes import Mode


class Released(NamedTuple):
    """A file that was closed.  Who takes the token out counts it."""

    inode: Inode
    token: list[object]
    hits: int
    wrote: bool


class InodeTable:
    """Of one cache.  Methods that say so are called with `lock` held."""

    def __init__(self, cache: PageCache, *, idle_max: Callable[[], int]) -> None:
        self._cache_ref = weakref.ref(cache)  # no cycle: a cache that nobody has goes at once
        self._zone = cache._zone
        self.lock: OwnedLock = OwnedLock("the cache's lock", self._zone.door)
        self.by_key: dict[Hashable, Inode] = {}
        self.written: dict[Inode, None] = {}
        """Inodes that are open for writing, or have unwritten data: in the order in which they were opened."""
        self._left: set[Inode] = set()
        """Those of them that nobody has open for writing any more..."""
        self._left_and_begun: set[Inode] = set()
        """...and whose data somebody has begun to hand over since."""
        self._idle = IdleInodes(idle_max)
        self._lingering: set[Inode] = set()
        """Inodes without a file whose store's side is still open, because a page was in flight when it was closed."""
        self._leaving: set[AddressSpace] = set()
        """Mappings without an inode, to be given back once no page of theirs is in flight or pinned."""
        self._opening: dict[Hashable, list[Waiter]] = {}
        """What is being looked at for the first time, and who waits for that."""
        self.turns: Turns = Turns(self._zone.door)
        """Who opens something for writing, or replaces it, or closes the cache."""
        self.behind: Busy = Busy(self._zone.door)
        """Who keeps inodes open that have no file, or follows up: who closes the cache waits for them."""
        self._closing_count = 0
        """How many close the cache: from when its files are closed, none is opened any more."""
        self.close_failures: deque[Exception] = deque()
        """What stores have raised when they were closed, until somebody is told who closes something."""
        self.hits: int = 0
        self._ends_of_writing = 0
        # The garbage collector may close a file or drop an inode inside any of our locks: all it does is append.
        self.released: deque[Released] = deque()
        self.late: deque[Inode] = deque()
        """Those for which a finalizer had something to write (`Inode.late`), until somebody does it."""
        self.orphans: deque[AddressSpace] = deque()

    @property
    def _cache(self) -> PageCache:
        cache = self._cache_ref()
        assert cache is not None, "it calls us"
        return cache

    # -- finding one ---------------------------------------------------------------------------------------

    def look_up(self, source: Source) -> Inode:
        """The inode of what *source* is now, held for one file.

        Of several that look at once at what is not known yet, the first brings the first bytes along, and the others
        wait until they are in the cache.  What is known needs its version only, to see whether it is the same; what is
        being written through this cache is what the cache says it is.
        Blocks: as long as the store takes.
        """
        while True:
            with self.lock:
                self.check_open()
                inode = self.by_key.get(source.key)
                if inode is not None and inode in self.written:
                    return self._counted(inode)
                began = self._ends_of_writing
            inode = self._look_at(source, began)
            if inode is not None:
                return inode

    def _look_at(self, source: Source, began: int) -> Inode | None:
        turn = self._turn_at(source.key)
        try:
            began_s = self._zone.door.now_s()
            is_first = turn is None and isinstance(source, SourceWithHead)
            opened = cast(SourceWithHead, source).open_with_head() if is_first else source.open()
            took_s = self._zone.door.now_s() - began_s
            if turn is not None:
                turn.wait()
            inode = self._held(source, opened, began)
            if inode is None:
                return None
            inode.mapping.device.answered(took_s)
            # (One that can grow may have been written to since the head came.)
            if opened.size_bytes and memoryview(opened.head).nbytes and not inode.has_room:
                readahead.adopt_head(inode.mapping, opened.head, took_s)
        finally:
            if turn is None:
                self._end_turn(source.key)
        self.follow_up()
        return inode

    def _turn_at(self, key: Hashable) -> Waiter | None:
        """Where to wait for whoever looks already at what is not known yet; None for the first."""
        with self.lock:
            waiter = self._zone.door.waiter()
            if key in self.by_key:
                waiter.wake()
            elif key not in self._opening:
                self._opening[key] = []
                return None
            else:
                self._opening[key].append(waiter)
            return waiter

    def _end_turn(self, key: Hashable) -> None:
        with self.lock:
            waiters = self._opening.pop(key)
        for waiter in waiters:
            waiter.wake()

    def _held(self, source: Source, opened: Opened, began: int) -> Inode | None:
        """The inode of this version of *source*, counted for a file; None to look again, because writing has ended
        since the store was asked."""
        is_needed = False
        try:
            with self.lock:
                self.check_open()
                inode = self.by_key.get(source.key)
                if inode is None or (inode not in self.written and inode.version != opened.version):
                    if inode is not None and inode.written_at > began:
                        return None
                    inode = self._replace(Inode(self._cache, opened, key=source.key, name=source.name))
                if inode.opened is None:
                    inode.mapping.resume(opened.ops)
                    # Without its head, which would be in memory beside the cache for as long as the file is open.
                    inode.opened, is_needed = opened._replace(head=b""), True
                return self._counted(inode)
        finally:
            if not is_needed:
                self.close_all([opened])

    def _replace(self, inode: Inode) -> Inode:
        """Let it be found from now on.  One that was found until now serves the files that have it, and goes with them.
        Under the lock."""
        known = self.by_key.get(inode.key)
        if known is not None:
            self._idle.discard(known)
        self.by_key[inode.key] = inode
        return inode

    def _counted(self, inode: Inode) -> Inode:
        """For a file.  Under the lock."""
        self._idle.discard(inode)
        inode.open_count += 1
        return inode

    def hold(self, inode: Inode) -> Inode:
        """Count a file more of an inode that the user has."""
        with self.lock:
            self.check_open()
            return self._counted(inode)

    def hold_looked_at(self, source: Source, opened: Opened, began: int) -> Inode | None:
        """The inode of what somebody has looked at himself, held for one file that never sees what is written through
        this cache: he asked when *began* was `ends_of_writing`.  None while it is being written, or if it was since.
        """
        is_needed = False
        try:
            with self.lock:
                self.check_open()
                inode = self.by_key.get(source.key)
                is_current = inode is not None and inode.version == opened.version
                if inode is not None and (inode in self.written or (not is_current and inode.written_at > began)):
                    return None
                if inode is None or not is_current or inode.has_room:  # one that can grow may be written on
                    inode = self._replace(Inode(self._cache, opened, key=source.key, name=source.name))
                if inode.opened is None:
                    inode.mapping.resume(opened.ops)
                    inode.opened, is_needed = opened, True
                return self._counted(inode)
        finally:
            if not is_needed:
                self.close_all([opened])

    @property
    def ends_of_writing(self) -> int:
        """A number that grows whenever a file that was written is closed for good."""
        return self._ends_of_writing

    def made(self, opened: Opened, key: Hashable, name: str) -> Inode:
        """An inode for operations that the user has; the one that is there for *key*, if that is the same file."""
        with self.lock:
            known = self.by_key.get(("inode", key)) if key is not None else None
            if known is not None and (known in self.written or known.size_bytes == opened.size_bytes):
                return known
            inode = Inode(self._cache, opened, key=("inode", key), name=name, has_room=opened.ops.writable)
            if key is not None:
                self._idle.add(self._replace(inode))
                self._forget_the_longest_idle()
        return inode

    # -- finding one to write ------------------------------------------------------------------------------

    def look_up_for_writing(self, source: Source, mode: Mode) -> Inode:
        """The inode of *source*, which *mode* may make, or make empty, held for one file that writes it.

        Of one that nobody writes, and whose data the store does not take because another has changed the object, they
        are given up by a mode that would cut them off anyway.
        Blocks: as long as the store takes.  Raises: OSError: EROFS, and as the store says, or the built-in `open`.
        """
        if self.released:
            self.follow_up()  # who still writes
        if not isinstance(source, WritableSource):
            raise read_only_source(source.name)
        with self.turns.turn(source.key):
            with self.lock:
                self.check_open()
                inode = self.by_key.get(source.key)
                is_written = inode is not None and inode in self.written
                lost = inode if is_written and mode.truncates else None
                if lost is not None and lost.is_stale and not lost.writer_count:
                    is_written = False
                else:
                    lost = None
                if inode is not None and is_written:
                    if mode.exclusive:
                        raise exists(source.name)
                    self._counted_for_writing(inode)
            if inode is not None and is_written:
                return self._as_asked(inode, mode)
            opened = source.open_for_writing(create=mode.creates, exclusive=mode.exclusive, truncate=mode.truncates)
            if lost is not None:
                self._give_up_stale(lost)
            inode = self._held_for_writing(source, opened)
        self.follow_up()
        return inode

    def _give_up_stale(self, inode: Inode) -> None:
        with self.lock:
            self.forget(inode)
        inode.late.clear()
        with suppress(OSError):  # a view shows some of it, which stays
            truncate.discard(inode.mapping)
        inode.mapping.ops.discard()
        self.give_up([inode])

    def _held_for_writing(self, source: Source, opened: Opened) -> Inode:
        is_needed = False
        try:
            with self.lock:
                self.check_open()
                inode = self.by_key.get(source.key)
                if inode is None or not inode.can_be_written_on(opened):
                    inode = self._replace(Inode(self._cache, opened, key=source.key, name=source.name, has_room=True))
                if inode.opened is None:
                    inode.mapping.resume(opened.ops)
                    inode.opened, is_needed = opened, True
                return self._counted_for_writing(inode)
        finally:
            if not is_needed:
                self.close_all([opened])

    def hold_for_writing(self, inode: Inode, mode: Mode) -> Inode:
        """Count one more that writes an inode which is known; make it empty if *mode* says so.  Blocks: then."""
        with self.lock:
            self.check_open()
            self._counted_for_writing(inode)
        return self._as_asked(inode, mode)

    def _as_asked(self, inode: Inode, mode: Mode) -> Inode:
        if mode.truncates:
            try:
                truncate.truncate(inode.mapping, 0)
            except BaseException:
                self.released.append(Released(inode, [None], 0, wrote=True))
                raise
        return inode

    def _counted_for_writing(self, inode: Inode) -> Inode:
        """Under the lock."""
        self._counted(inode)
        inode.has_one_writer_so_far = inode not in self.written
        inode.writer_count += 1
        self._left.discard(inode)
        self._left_and_begun.discard(inode)
        self.written[inode] = None
        inode.mapping.allow_short_writes(True)
        _caches_with_data[self._cache] = None
        return inode

    def is_written(self, key: Hashable) -> bool:
        """Whether what has this key is open for writing, or has unwritten data."""
        with self.lock:
            return self.by_key.get(key) in self.written

    @contextmanager
    def kept_open(self) -> Iterator[list[Inode]]:
        """Those that are written, counted: their store's side stays open though their last file is closed."""
        self.behind.begin()  # first: who closes the cache sees either this, or that they have files
        held: list[Inode] = []
        try:
            with self.lock:
                held = [self._counted(inode) for inode in self.written]
            yield held
        finally:
            self.released.extend(Released(inode, [None], 0, wrote=False) for inode in held)
            self.behind.end()

    # -- letting go ----------------------------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        """Whether `follow_up` would do anything."""
        return bool(self.released or self.late or self.orphans or self._leaving or self._lingering or self._left)

    def follow_up(self) -> None:
        """Close the store's side of inodes that have no file left, and give back the pages and frames of those that
        will not be found again."""
        with self.lock:
            to_close = self._count_released()
            while self.orphans:
                self._leaving.add(self.orphans.popleft())
            leaving, self._leaving = self._leaving, set()
        self.close_all(to_close)
        staying = {mapping for mapping in leaving if not self._give_back(mapping)}
        with self.lock:
            self._leaving |= staying

    def close_all(self, to_close: list[Opened]) -> None:
        """Close the store's side of inodes; what that raises is told by the next call that closes something."""
        for opened in to_close:
            try:
                opened.close()
            except Exception as error:
                self.close_failures.append(error)

    def close_late(self, inode: Inode) -> None:
        """Close the store's side of an inode whose last page has come, when the cache has been closed."""
        opened, inode.opened = inode.opened, None
        if opened is not None:
            self.close_all([opened])

    def _count_released(self) -> list[Opened]:
        """What to close of the inodes that have lost their last file.  Under the lock."""
        while self.released:
            inode, token, hits, wrote = self.released.popleft()
            if not token:
                continue  # told before
            token.clear()
            self.hits += hits
            inode.open_count -= 1
            inode.writer_count -= wrote
            if wrote and not inode.writer_count and inode in self.written:
                self._left.add(inode)
            if not inode.open_count and inode not in self.written:
                self._let_go(inode)
        for inode in list(self._left):
            inode.mapping.allow_short_writes(False)  # also for who was about to write when his file was closed
            if inode.unwritten_bytes is None and not inode.mapping.i_rwsem.held:
                self._end_writing(inode)
        self._forget_the_longest_idle()
        return self._close_lingering()

    def _let_go(self, inode: Inode) -> None:
        """It has no file.  Under the lock."""
        if inode.opened is not None:
            self._lingering.add(inode)
        if self.by_key.get(inode.key) is inode:
            self._idle.add(inode)

    def take_left(self) -> list[Inode]:
        """Inodes that were left with data which nobody has begun to hand over; counted, so that they stay open."""
        with self.lock:
            if self._zone.closed or self._closing_count:
                return []  # who closes the cache sees to it
            left = [one for one in self._left - self._left_and_begun if one.unwritten_bytes is not None]
            self._left_and_begun.update(left)
            return [self._counted(inode) for inode in left]

    def note_begun(self, inode: Inode) -> None:
        """Who wrote it last has tried to hand its data over, and was told why not."""
        with self.lock:
            self._left_and_begun.add(inode)

    def resume_writing(self, inode: Inode) -> None:
        """What finalizers had to write is there: others may go the short way again."""
        with self.lock:
            if inode.writer_count and inode in self.written:
                inode.mapping.allow_short_writes(True)

    def _end_writing(self, inode: Inode) -> None:
        """Its store has everything, and nobody writes it: it is as any other now.  Under the lock."""
        self._left.discard(inode)
        self._left_and_begun.discard(inode)
        self.written.pop(inode, None)
        if not self.written:
            _caches_with_data.pop(self._cache, None)
        inode.note_version()
        self._ends_of_writing += 1
        inode.written_at = self._ends_of_writing
        if not inode.open_count:
            self._let_go(inode)

    def give_up(self, written: list[Inode]) -> None:
        """Nothing more is written to these."""
        with self.lock:
            for inode in written:
                if inode in self.written:
                    self._left.discard(inode)
                    self._left_and_begun.discard(inode)
                    del self.written[inode]
                    if not inode.open_count:
                        self._let_go(inode)

    def _close_lingering(self) -> list[Opened]:
        """Under the lock."""
        to_close: list[Opened] = []
        for inode in list(self._lingering):
            if inode.open_count:
                self._lingering.discard(inode)
            elif inode.opened is not None and inode.mapping.suspend():  # else a page is in flight: next time
                self._lingering.discard(inode)
                to_close.append(inode.opened)
                inode.opened = None
        return to_close

    def _forget_the_longest_idle(self) -> None:
        """Under the lock."""
        for inode in self._idle.too_many(len(self._cache._roomy_inodes)):
            self.forget(inode)

    def forget(self, inode: Inode) -> None:
        """Let it not be found any more.  Under the lock."""
        self._idle.discard(inode)
        if self.by_key.get(inode.key) is inode:
            del self.by_key[inode.key]

    def known_keys(self) -> list[Hashable]:
        """Of all that is found."""
        with self.lock:
            return list(self.by_key)

    def forget_changed(self, keys: list[Hashable]) -> None:
        """Let what has these keys not be found any more, because it was changed past this cache; but for what is being
        written, which is what the cache says it is, and whose store will say that it has changed."""
        with self.lock:
            for key in keys:
                inode = self.by_key.get(key)
                if inode is not None and inode not in self.written:
                    self.forget(inode)

    def _give_back(self, mapping: AddressSpace) -> bool:
        """Remove a mapping's pages and release its frames; False if one is still in flight or pinned."""
        if not mapping.suspend():
            return False
        truncate.invalidate_mapping_pages(mapping, 0, mapping.frame_count)
        return self._zone.release_frames(mapping.arena, mapping.base, mapping.frame_count)

    # -- the end -------------------------------------------------------------------------------------------

    @contextmanager
    def closing(self) -> Iterator[None]:
        """The cache is being closed: nothing is opened any more, unless that fails."""
        with self.lock:
            self._closing_count += 1
        try:
            yield
        finally:
            with self.lock:
                self._closing_count = max(0, self._closing_count - 1)

    def check_open(self) -> None:
        """Raises: ValueError if the cache is, or is being, closed.  Under the lock."""
        if self._closing_count or self._zone.closed:
            raise closed_cache()

    def forget_all(self) -> None:
        """The cache is being closed."""
        with self.lock:
            self.by_key.clear()
            self._idle.clear()

    def take_lingering(self) -> list[Inode]:
        """Those whose store's side is still open."""
        with self.lock:
            lingering, self._lingering = self._lingering, set()
        return list(lingering)

    def end(self) -> None:
        """The cache is closed."""
        with self.lock:
            self.orphans.clear()
            self._leaving.clear()
            self.written.clear()
            self._left.clear()
            self._left_and_begun.clear()
            _caches_with_data.pop(self._cache, None)

    def start_anew(self) -> None:
        """After a fork, in the child: locks that a thread may have held which stayed in the parent.  What was being
        written is the parent's."""
        self.lock = OwnedLock("the cache's lock", self._zone.door)
        self.turns.start_anew()
        self.behind.start_anew()
        self._opening = {}
        self._closing_count = 0
        self.late.clear()
        written, self.written = self.written, {}
        self._left.clear()
        self._left_and_begun.clear()
        _caches_with_data.pop(self._cache, None)
        for inode in written:
            self.forget(inode)
            inode.leave_to_parent()
            if not inode.open_count:
                self._lingering.add(inode)


_caches_with_data: dict[PageCache, None] = {}
"""Caches with `InodeTable.written` inodes: nothing else need refer to them, and what was written is not lost."""


def caches_with_data() -> list[PageCache]:
    """Those that have, or may have, data that no store has."""
    return list(_caches_with_data)
