"""The inodes of a cache: which one is found for a source, who has it, and what follows when nobody does.

Guarantees: one inode for one version of one source, however often it is opened; one that is open for writing, or has
data that its store does not have, is the one that everybody gets, and is never forgotten; an inode is given back only
when nobody reads, waits for, or shows a page of it, and its store's side is closed once.
Assumes: sources with equal keys are one object (stores/source.py); everything here runs where no signal can interrupt
it, but for what a finalizer appends to `released`, `late` and `orphans`.
Lock order: ``InodeTable.lock`` is taken before a zone's lock and never held across a store's I/O.
Not here: finding one, and looking at sources (lookup.py, lookup_for_writing.py); which are written (written.py);
writing back what was left (unwritten.py).
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from .errors import closed_cache
from .idle import IdleInodes
from .inode import Inode
from .looks import Looks
from .mm import truncate
from .mm.debug import called, owned_lock
from .mm.locking import OPEN
from .mm.lockorder import TABLE_LOCK
from .stores.source import Opened
from .turns import Busy, Turns
from .written import WrittenInodes

if TYPE_CHECKING:
    from .ahead import Ahead
    from .cache import PageCache
    from .mm.mapping import AddressSpace
    from .mm.sync import OwnedLock
    from .mm.zone import Zone
    from .owner import CacheOwner


class Released(NamedTuple):
    """A file that was closed."""

    inode: Inode
    by: CacheOwner | Ahead | None
    """The file's, which may tell it twice; it counts once.  None for what is told once."""
    hits: int
    wrote: bool


class InodeTable:
    """Of one cache.  Methods that say so are called with `lock` held."""

    def __init__(self, cache: PageCache, *, idle_max: Callable[[], int]) -> None:
        self._cache_ref = weakref.ref(cache)  # no cycle: a cache that nobody has goes at once
        self.zone: Zone = cache._zone
        self.lock: OwnedLock = owned_lock(self.zone, TABLE_LOCK)
        self.by_key: dict[Hashable, Inode] = {}
        self.written: WrittenInodes = WrittenInodes(self._cache_ref)
        self._idle = IdleInodes(idle_max)
        self._lingering: set[Inode] = set()
        """Inodes without a file whose store's side is still open, because a page was in flight when it was closed."""
        self._awaited: set[Inode] = set()
        """Those of them of which somebody follows up once it has come..."""
        self._to_await: list[Inode] = []
        """...and those of which nobody waits for it yet."""
        self._unfound: list[AddressSpace] = []
        """Mappings of inodes that nobody will find again, nor read: their pages go, whoever still refers to them."""
        self._leaving: set[AddressSpace] = set()
        """Mappings without an inode, to be given back once no page of theirs is in flight or pinned."""
        self.turns: Turns = Turns(self.zone)
        """Who opens something for writing, or replaces it, or closes the cache."""
        self.behind: Busy = Busy(self.zone)
        """Who keeps inodes open that have no file, or follows up: who closes the cache waits for them."""
        self._closing_count = 0
        """How many close the cache: from when its files are closed, none is opened any more."""
        self.close_failures: deque[Exception] = deque()
        """What stores have raised when they were closed, until somebody is told who closes something."""
        self.hits: int = 0
        self.looks: Looks = Looks(self.zone)
        # The garbage collector may close a file or drop an inode inside any of our locks: all it does is append.
        self.released: deque[Released] = deque()
        self.ahead_begun: deque[Ahead] = deque()
        """What counts as a file from now on: before it can be released, who counts that looks here."""
        self.ahead: set[Ahead] = set()
        """What has, and has not ended."""
        self.late: deque[Inode] = deque()
        """Those for which a finalizer had something to write (`AddressSpace.late`), until somebody does it."""
        self.orphans: deque[AddressSpace] = deque()

    @property
    def cache(self) -> PageCache:
        """Whose table it is."""
        cache = self._cache_ref()
        assert cache is not None, "it calls us"
        return cache

    # -- having one ----------------------------------------------------------------------------------------

    def replace(self, inode: Inode) -> Inode:
        """Let it be found from now on.  One that was found until now serves the files that have it, and goes with them.
        Under the lock."""
        known = self.by_key.get(inode.key)
        if known is not None:
            self._idle.discard(known)
            if known.version != inode.version and known.has_validator:  # else nobody knows
                self.note_changed(known, inode.version)
        self.by_key[inode.key] = inode
        return inode

    def note_changed(self, inode: Inode, now: str) -> None:
        """It is another object's, for good.  Files that never look go on with what is here of it; else its pages go
        when somebody follows up.  Under the lock."""
        inode.changed_to = inode.changed_to or now
        if inode.source is not None and self.cache._freshness.reads_look:
            self._unfound.append(inode.mapping)

    def counted(self, inode: Inode) -> Inode:
        """For a file.  Under the lock."""
        self._idle.discard(inode)
        inode.open_count += 1
        return inode

    def counted_for_writing(self, inode: Inode) -> Inode:
        """For a file that writes it.  Under the lock."""
        self.written.begin(inode)
        return self.counted(inode)

    def hold(self, inode: Inode) -> Inode:
        """Count a file more of an inode that the user has."""
        with self.lock:
            self.check_open()
            return self.counted(inode)

    def end_ahead(self) -> None:
        """End all that is being brought because somebody will need it."""
        with self.lock:
            self._count_ahead()
            ending = list(self.ahead)
        for ahead in ending:
            ahead.end()

    def _count_ahead(self) -> None:
        """Under the lock."""
        while self.ahead_begun:
            ahead = self.ahead_begun.popleft()
            ahead.is_counted_in = True
            self.ahead.add(ahead)
            self.counted(ahead.inode)
            if self._closing_count or self.zone.closed:  # who closes the cache has ended the others already
                ahead.end()

    def made(self, opened: Opened, key: Hashable, name: str) -> Inode:
        """An inode for operations that the user has; the one that is there for *key*, if that is the same file."""
        with self.lock:
            known = self.by_key.get(("inode", key)) if key is not None else None
            if known is not None and (known in self.written or known.size_bytes == opened.size_bytes):
                return known
            inode = Inode(self.cache, opened, key=("inode", key), name=name, has_room=opened.ops.writable)
            if key is not None:
                self._idle.add(self.replace(inode))
                self._forget_the_longest_idle()
        return inode

    def is_written(self, key: Hashable) -> bool:
        """Whether what has this key is open for writing, or has unwritten data."""
        with self.lock:
            return self.by_key.get(key) in self.written

    def note_written_past(self, key: Hashable) -> None:
        """Its store has been given another version past the cache, or may have been: who opens it looks, and not as
        one who has begun to already."""
        with self.lock:
            self.looks.outdate(key)
            inode = self.by_key.get(key)
            if inode is not None:
                inode.mapping.found_changed_s = self.zone.door.now_s()

    @contextmanager
    def kept_open(self) -> Iterator[list[Inode]]:
        """Those that are written, counted: their store's side stays open though their last file is closed."""
        self.behind.begin()  # first: who closes the cache sees either this, or that they have files
        held: list[Inode] = []
        try:
            with self.lock:
                held = [self.counted(inode) for inode in self.written]
            yield held
        finally:
            self.released.extend(Released(inode, None, 0, wrote=False) for inode in held)
            self.behind.end()

    # -- letting go ----------------------------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        """Whether `follow_up` would do anything."""
        return bool(
            self.released
            or self.late
            or self.orphans
            or self._unfound
            or self._leaving
            or self._lingering
            or self.written.has_left
        )

    def follow_up(self) -> None:
        """Close the store's side of inodes that have no file left, and give back the pages and frames of those that
        will not be found again."""
        with self.lock:
            to_close = self._count_released()
            while self.orphans:
                self._leaving.add(self.orphans.popleft())
            leaving, self._leaving = self._leaving, set()
            unfound, self._unfound = self._unfound, []
            to_await, self._to_await = self._to_await, []
        self._follow_up_when_idle(to_await)
        self.close_all(to_close)
        for mapping in unfound:
            truncate.invalidate_mapping_pages(mapping, 0, mapping.frame_count)
        staying = {mapping for mapping in leaving if not self._give_back(mapping)}
        with self.lock:
            self._leaving |= staying

    def close_all(self, to_close: list[Opened]) -> None:
        """Close the store's side of inodes; what that raises is told by the next call that closes something."""
        for opened in to_close:
            try:
                called(OPEN, self.zone, opened.close)()
            except Exception as error:
                self.close_failures.append(error)

    def _follow_up_when_idle(self, inodes: list[Inode]) -> None:
        """Have somebody follow up as soon as no page of these is in flight, also in a cache that was closed: nobody
        may call it any more."""
        for inode in inodes:
            # Begun here, because the queue may be closed: what was begun goes on in it.
            self.zone.workqueue.begin(inode.mapping.idle_steps, partial(self._is_idle, inode))
        if inodes:
            with suppress(RuntimeError):  # the interpreter is ending
                self.zone.workqueue.kick_if_possible()

    def _is_idle(self, inode: Inode, *_: object) -> None:
        """By a worker, which has others to go on with: a store's close may block."""
        try:
            self.zone.io.start(partial(self._follow_up_late, inode))
        except (ValueError, RuntimeError):  # the cache was closed; no thread is to be had
            self._follow_up_late(inode)

    def _follow_up_late(self, inode: Inode) -> None:
        self.behind.begin()
        try:
            with self.lock:
                self._awaited.discard(inode)
            self.follow_up()
        except Exception as error:
            self.close_failures.append(error)
        finally:
            self.behind.end()

    def close_late(self, inode: Inode) -> None:
        """Close the store's side of an inode whose last page has come, when the cache has been closed."""
        opened, inode.opened = inode.opened, None
        if opened is not None:
            self.close_all([opened])

    def _count_released(self) -> list[Opened]:
        """What to close of the inodes that have lost their last file.  Under the lock."""
        while self.released:
            inode, by, hits, wrote = self.released.popleft()
            self._count_ahead()  # what a file has begun that is closed now
            if by is not None and not by.count_out():
                continue
            self.hits += hits
            inode.open_count -= 1
            if wrote:
                self.written.leave(inode)
            if not inode.open_count and inode not in self.written:
                self._let_go(inode)
        self._let_go_idle(self.written.end_left())
        self._forget_the_longest_idle()
        return self._close_lingering()

    def _let_go_idle(self, inodes: list[Inode]) -> None:
        """Those that are not written any more.  Under the lock."""
        for inode in inodes:
            if not inode.open_count:
                self._let_go(inode)

    def _let_go(self, inode: Inode) -> None:
        """It has no file.  Under the lock."""
        if inode.opened is not None:
            self._lingering.add(inode)
        if self.by_key.get(inode.key) is inode:
            self._idle.add(inode)
        elif inode.source is not None:  # else its user may open it again
            self._unfound.append(inode.mapping)

    def take_left(self) -> list[Inode]:
        """Inodes that were left with data which nobody has begun to hand over; counted, so that they stay open."""
        with self.lock:
            if self.zone.closed or self._closing_count:
                return []  # who closes the cache sees to it
            return [self.counted(inode) for inode in self.written.take_left()]

    def note_begun(self, inode: Inode) -> None:
        """Who wrote it last has tried to hand its data over, and was told why not."""
        with self.lock:
            self.written.note_begun(inode)

    def give_up(self, written: list[Inode]) -> None:
        """Nothing more is written to these."""
        with self.lock:
            self._let_go_idle(self.written.give_up(written))

    def _close_lingering(self) -> list[Opened]:
        """Under the lock."""
        to_close: list[Opened] = []
        for inode in list(self._lingering):
            if inode.open_count:
                self._lingering.discard(inode)
            elif inode.opened is not None and self._is_suspended(inode):
                self._lingering.discard(inode)
                to_close.append(inode.opened)
                inode.opened = None
        return to_close

    def _is_suspended(self, inode: Inode) -> bool:
        """Whether no page of it can be locked from now on.  Else one is in flight, and who waits for that follows up;
        or somebody changes it, and follows up himself.  Under the lock."""
        mapping = inode.mapping
        while not mapping.suspend():
            if mapping.in_flight:
                if inode not in self._awaited:
                    self._awaited.add(inode)
                    self._to_await.append(inode)
                return False
            if mapping.is_changing:
                return False
        return True

    def _forget_the_longest_idle(self) -> None:
        """Under the lock."""
        for inode in self._idle.too_many(len(self.cache._roomy_inodes)):
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
                self.looks.outdate(key)
                inode = self.by_key.get(key)
                if inode is not None and inode not in self.written:
                    self.forget(inode)

    def _give_back(self, mapping: AddressSpace) -> bool:
        """Remove a mapping's pages and release its frames; False if one is still in flight or pinned."""
        if not mapping.suspend():
            return False
        truncate.invalidate_mapping_pages(mapping, 0, mapping.frame_count)
        return self.zone.release_frames(mapping)

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
        if self._closing_count or self.zone.closed:
            raise closed_cache()

    @property
    def is_over(self) -> bool:
        """Whether nothing is opened any more, and stores have all that they will get: another cache may take its place.

        (Should the close fail all the same, both are there.)  Locks: ours, while the cache is being closed.
        """
        if not self._closing_count:  # who sees it too late is refused (`check_open`), and looks again
            return self.zone.closed
        with self.lock:
            return self.zone.closed or (self._closing_count > 0 and not self.written)

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
            self._unfound.clear()
            self._leaving.clear()
            self.written.clear()

    def start_anew(self) -> None:
        """After a fork, in the child: locks that a thread may have held which stayed in the parent.  What was being
        written is the parent's."""
        self.lock = owned_lock(self.zone, TABLE_LOCK)
        self.turns.start_anew()
        self.behind.start_anew()
        self._closing_count = 0
        self._awaited.clear()
        self._to_await.clear()
        self.late.clear()
        self.ahead_begun.clear()
        for ahead in self.ahead:  # nobody goes on with it here
            ahead.end()
        for inode in self.written.clear():
            self.forget(inode)
            inode.leave_to_parent()
            if not inode.open_count:
                self._lingering.add(inode)
