"""`PageCache`: the owner of a zone and of the inodes whose pages are in it.

Guarantees: one hard cap over all files; one mapping for one version of one source, however often it is opened; a
source that has changed gets a new mapping at its next open, so that two versions never mix; an inode is given
back only when nobody reads, waits for, or shows a page of it.
Assumes: sources with equal keys are one object (stores/source.py).
Lock order: ``PageCache._lock`` is taken before a zone's lock and never held across a store's I/O.
Not here: inodes (inode.py), files (file.py), pages (mm/), what a source is (stores/).
"""

from __future__ import annotations

import io
import os
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from . import stores
from .errors import ContractViolation, cap_too_small, closed_cache, negative
from .file import BinaryMode, File, TextMode, text_layer
from .inode import Inode as Inode
from .mm import readahead, reclaim, truncate
from .mm.debug import Checks, checks_from_environment
from .mm.mapping import AddressSpace, OpenFile
from .mm.sync import SYSTEM, Door, OwnedLock, Waiter
from .mm.victims import Victims, s3fifo
from .mm.zone import Zone
from .reader import PageReader
from .stats import CacheStats, cache_stats
from .stores.source import Opened, Source, SourceWithHead
from .units import PAGE_SHIFT, PAGE_SIZE, parse_size

if TYPE_CHECKING:
    from .mm.aops import AddressSpaceOperations

T = TypeVar("T")
R = TypeVar("R", bound=PageReader)

IDLE_INODES_MAX = 4096
"""Inodes kept, with their pages, after their last file was closed.  One costs about 2 KiB."""
MEMORY_SHARE = 4
"""The default cap: a quarter of the memory that this process may use."""


class PageCache:
    """A cache of at most *size* bytes over all the files opened through it.

    *size* is an int or a string with a unit ("4 GiB"); by default PAGEIN_SIZE, else a quarter of the memory that
    the process may use.  *victims* chooses what to evict (pagein.mm.victims.s3fifo).  *debug* asserts the contract
    at run time; by default as PAGEIN_DEBUG says.  *door* is for tests.
    Raises: ValueError, TypeError for a size that cannot be read or is below one page.
    """

    def __init__(
        self,
        size: int | str | None = None,
        *,
        victims: Victims = s3fifo,
        debug: bool | None = None,
        door: Door = SYSTEM,
    ) -> None:
        self.size_bytes = _default_size_bytes() if size is None else parse_size(size, what="size")
        if self.size_bytes < PAGE_SIZE:
            raise cap_too_small(self.size_bytes)
        checks = checks_from_environment() if debug is None else Checks() if debug else None
        self._zone = Zone(self.size_bytes >> PAGE_SHIFT, victims=victims, door=door, checks=checks)
        self._lock = OwnedLock("the cache's lock", door)
        self._inodes: dict[Hashable, Inode] = {}
        self._idle: OrderedDict[Inode, None] = OrderedDict()
        """Inodes that are found and have no file, the longest idle first."""
        self._lingering: set[Inode] = set()
        """Inodes without a file whose store's side is still open, because a page was in flight when it was closed."""
        self._leaving: set[AddressSpace] = set()
        """Mappings without an inode, to be given back once no page of theirs is in flight or pinned."""
        self._files: weakref.WeakSet[PageReader] = weakref.WeakSet()
        self._all_inodes: weakref.WeakSet[Inode] = weakref.WeakSet()
        self._opening: dict[Hashable, list[Waiter]] = {}
        """What is being looked at for the first time, and who waits for that."""
        self._close_failures: deque[Exception] = deque()
        """What stores have raised when they were closed, until somebody is told who closes something."""
        self._hits = 0
        # The garbage collector may close a file or drop an inode inside any of our locks: all it does is append.
        _caches.add(self)
        self._released: deque[tuple[Inode, list[object], int]] = deque()
        self._orphans: deque[AddressSpace] = deque()

    def __enter__(self) -> PageCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- opening -----------------------------------------------------------------------------------------

    @overload
    def open(self, source: Any, mode: BinaryMode = "rb", **store_options: Any) -> File: ...
    @overload
    def open(
        self,
        source: Any,
        mode: TextMode,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        **store_options: Any,
    ) -> io.TextIOWrapper: ...
    @overload
    def open(self, source: Any, mode: str, **arguments: Any) -> File | io.TextIOWrapper: ...
    def open(
        self,
        source: Any,
        mode: str = "rb",
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        **store_options: Any,
    ) -> File | io.TextIOWrapper:
        """Open *source* for reading through this cache.

        *source*: a path; a ``file:``, ``s3:``, ``gs:``, ``az:`` or ``http(s):`` URL; any other fsspec URL or chain;
        or ``(store, path)``.  *mode*: "rb", or "r" and "rt" for text with the other arguments, as `open`.
        *store_options* go to the store.  The source is looked at anew: if it has changed since it was last opened,
        its old pages are not used.
        Blocks: interruptibly.  Raises: OSError with the errno that fits; io.UnsupportedOperation for a mode that
        writes; ValueError, TypeError for what makes no sense.
        """
        wrap = text_layer(mode, encoding, errors, newline)
        found = stores.source_of(source, **store_options)
        return self._zone.io.shielded(
            lambda: wrap(self._file_of(self._look_up(found), File)), undo=self._close_unwanted
        )

    def inode(
        self, ops: AddressSpaceOperations, *, size_bytes: int, key: Hashable = None, name: str | None = None
    ) -> Inode:
        """A file of *size_bytes* whose pages *ops* brings: ``inode.open()`` reads it.

        With a *key*, the inode that this cache already has for it is returned, if its size is the same.
        Raises: ValueError, OSError(EFBIG).
        """
        if size_bytes < 0:
            raise negative("size_bytes", size_bytes)
        opened = Opened(ops, size_bytes, version=f"size={size_bytes}")
        title = name or (type(ops).__name__ if key is None else str(key))
        self._sweep()
        return self._zone.workqueue.shielded(lambda: self._made_inode(opened, key, title))

    def _made_inode(self, opened: Opened, key: Hashable, name: str) -> Inode:
        with self._lock:
            known = self._inodes.get(("inode", key)) if key is not None else None
            if known is not None and known.size_bytes == opened.size_bytes:
                return known
            inode = Inode(self, opened, key=("inode", key), name=name)
            if key is not None:
                if known is not None:
                    self._idle.pop(known, None)
                self._inodes[inode.key] = inode
                self._idle[inode] = None
                self._forget_the_longest_idle()
        return inode

    def _look_up(self, source: Source) -> Inode:
        """The inode of what *source* is now, held for one file.

        Of several that look at once at what is not known yet, the first brings the first bytes along, and the others
        wait until they are in the cache.  What is known needs its version only, to see whether it is the same.
        """
        turn = self._turn_at(source.key)
        try:
            began_s = self._zone.door.now_s()
            is_first = turn is None and isinstance(source, SourceWithHead)
            opened = cast(SourceWithHead, source).open_with_head() if is_first else source.open()
            took_s = self._zone.door.now_s() - began_s
            if turn is not None:
                turn.wait()
            inode = self._held(source, opened)
            inode.mapping.device.answered(took_s)
            if opened.size_bytes and memoryview(opened.head).nbytes:
                readahead.adopt_head(inode.mapping, opened.head)
        finally:
            if turn is None:
                self._end_turn(source.key)
        self._follow_up()
        return inode

    def _turn_at(self, key: Hashable) -> Waiter | None:
        """Where to wait for whoever looks already at what is not known yet; None for the first."""
        with self._lock:
            waiter = self._zone.door.waiter()
            if key in self._inodes:
                waiter.wake()
            elif key not in self._opening:
                self._opening[key] = []
                return None
            else:
                self._opening[key].append(waiter)
            return waiter

    def _end_turn(self, key: Hashable) -> None:
        with self._lock:
            waiters = self._opening.pop(key)
        for waiter in waiters:
            waiter.wake()

    def _held(self, source: Source, opened: Opened) -> Inode:
        """The inode of this version of *source*, counted for a file."""
        is_needed = False
        try:
            with self._lock:
                inode = self._inodes.get(source.key)
                if inode is None or inode.version != opened.version:
                    # One that was found until now serves the files that have it, and goes with them.
                    if inode is not None:
                        self._idle.pop(inode, None)
                    inode = self._inodes[source.key] = Inode(self, opened, key=source.key, name=source.name)
                if inode.opened is None:
                    inode.mapping.resume(opened.ops)
                    inode.opened, is_needed = opened, True
                self._idle.pop(inode, None)
                inode.open_count += 1
                return inode
        finally:
            if not is_needed:
                self._close_all([opened])

    def _hold(self, inode: Inode) -> Inode:
        """Count a file more of an inode that the user has."""
        if self._zone.closed:
            raise closed_cache()
        with self._lock:
            self._idle.pop(inode, None)
            inode.open_count += 1
        return inode

    def _file_of(self, inode: Inode, kind: type[R]) -> R:
        file = kind(
            OpenFile(inode.mapping),
            name=inode.name,
            version=inode.version,
            on_release=lambda token, hits: self._released.append((inode, token, hits)),
            on_close=self._file_closed,
        )
        with self._lock:
            self._files.add(file)
        return file

    # -- letting go ----------------------------------------------------------------------------------------

    def _file_closed(self) -> None:
        """A file was closed.  A finalizer may have done it, inside any lock of ours: then another call follows up."""
        if not (self._zone.door.holds_locks_here or self._zone.door.is_finalizing()):
            self._sweep()

    def _sweep(self) -> None:
        """Do what follows from files that were closed, where no signal can interrupt it.

        Raises: what a store's close has raised, here or since the last time.
        """
        if self._released or self._orphans or self._leaving or self._lingering:
            self._shielded(self._follow_up)
        self._raise_first_failure()

    def _raise_first_failure(self) -> None:
        try:
            failure = self._close_failures.popleft()
        except IndexError:
            return
        raise failure

    def _shielded(self, run: Callable[[], T]) -> T:
        """As `Workqueue.shielded`, also when the cache is closed, or is being closed by another thread."""
        if not self._zone.closed:
            try:
                return self._zone.io.shielded(run)
            except ValueError:
                if not self._zone.closed:
                    raise
        return run()

    def _follow_up(self) -> None:
        """Close the store's side of inodes that have no file left, and give back the pages and frames of those that
        will not be found again."""
        with self._lock:
            to_close = self._count_released()
            while self._orphans:
                self._leaving.add(self._orphans.popleft())
            leaving, self._leaving = self._leaving, set()
        self._close_all(to_close)
        staying = {mapping for mapping in leaving if not self._give_back(mapping)}
        with self._lock:
            self._leaving |= staying

    def _close_all(self, to_close: list[Opened]) -> None:
        """Close the store's side of inodes; what that raises is told by the next call that closes something."""
        for opened in to_close:
            try:
                opened.close()
            except Exception as error:
                self._close_failures.append(error)

    def _count_released(self) -> list[Opened]:
        """What to close of the inodes that have lost their last file.  Under the lock."""
        to_close: list[Opened] = []
        while self._released:
            inode, token, hits = self._released.popleft()
            if not token:
                continue  # told before
            token.clear()
            self._hits += hits
            inode.open_count -= 1
            if not inode.open_count:
                if inode.opened is not None:
                    self._lingering.add(inode)
                if self._inodes.get(inode.key) is inode:
                    self._idle[inode] = None
        self._forget_the_longest_idle()
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
        while len(self._idle) > IDLE_INODES_MAX:
            del self._inodes[self._idle.popitem(last=False)[0].key]

    def _give_back(self, mapping: AddressSpace) -> bool:
        """Remove a mapping's pages and release its frames; False if one is still in flight or pinned."""
        if not mapping.suspend():
            return False
        truncate.invalidate_mapping_pages(mapping, 0, mapping.frame_count)
        return self._zone.release_frames(mapping.arena, mapping.base, mapping.frame_count)

    def drop(self, source: Any = None, **store_options: Any) -> int:
        """Drop the pages of *source* (by default, of every file) that nobody uses; return how many.

        Pages that are locked, dirty or shown by a view stay.  Blocks: no.
        """
        key = None if source is None else stores.source_of(source, **store_options).key
        self._sweep()
        return self._zone.workqueue.shielded(lambda: self._drop(key))

    def _drop(self, key: Hashable) -> int:
        if key is None:
            mappings = self._zone.all_mappings()
        else:
            with self._lock:
                inode = self._inodes.get(key)
            mappings = [inode.mapping] if inode else []
        return sum(truncate.invalidate_mapping_pages(one, 0, one.frame_count) for one in mappings)

    def close(self) -> None:
        """Close the cache and every file in it, and give its memory back.  Twice does no harm.

        A view that is still open keeps its pages.  A reader in another thread gets ValueError.
        Raises: with debug, ContractViolation if an operation started a read and has not ended it.
        """
        if self._zone.door.is_finalizing():
            return  # of the threads that it would need, none runs any more
        unended = self._shielded(self._close) if not self._zone.closed else []
        self._zone.workqueue.close()  # also after a close that was interrupted
        if unended:
            clause = "a read that was started is ended before the cache is closed"
            raise ContractViolation(clause, "; ".join(unended))
        self._raise_first_failure()

    def _close(self) -> list[str]:
        """What of the store's reads was never ended, if debug mode knows."""
        with self._lock:
            files = list(self._files)
            self._inodes.clear()
            self._idle.clear()
        for file in files:
            file._release()
        self._follow_up()  # also what the garbage collector has closed
        reclaim.remove_all_idle(self._zone)
        unended = self._zone.checks.unended_reads(self._zone) if self._zone.checks else []
        with self._lock:
            lingering, self._lingering = self._lingering, set()
        for inode in lingering:  # a page is in flight: the store's side is closed when it has come
            # Begun here, because another close may have closed the queue meanwhile: what was begun goes on in it.
            self._zone.workqueue.begin(inode.mapping.idle_steps, lambda *_, inode=inode: self._close_late(inode))
        self._zone.close()  # last: from then on, whoever closes once more has nothing to wait for
        with self._lock:
            self._orphans.clear()
            self._leaving.clear()
        return unended

    def _close_unwanted(self, file: PageReader | io.TextIOWrapper) -> None:
        """Close what was opened for somebody who was interrupted.  What that raises the next call tells that closes."""
        try:
            file.close()
        except Exception as error:
            self._close_failures.append(error)

    def _close_late(self, inode: Inode) -> None:
        opened, inode.opened = inode.opened, None
        if opened is not None:
            self._close_all([opened])

    # -- statistics ----------------------------------------------------------------------------------------

    def stats(self) -> CacheStats:
        """What the cache holds and what it has done so far."""
        self._sweep()
        return self._shielded(self._stats)

    def _stats(self) -> CacheStats:
        with self._lock:
            files = [file for file in self._files if not file.closed]
            hits = self._hits + sum(file.hits for file in files)
            inodes = len(self._inodes)
        return cache_stats(self._zone, size_bytes=self.size_bytes, inodes=inodes, open_files=len(files), hits=hits)

    def _start_locks_anew(self) -> None:
        """After a fork, in the child: locks that a thread may have held which stayed in the parent."""
        self._lock = OwnedLock("the cache's lock", self._zone.door)
        self._opening = {}
        for inode in list(self._all_inodes):
            inode.start_lock_anew()
        for file in self._files:
            file._start_lock_anew()
            if self._zone.closed:  # there was no memory, or no descriptor, for a cache of the child's own
                file._release()


_caches: weakref.WeakSet[PageCache] = weakref.WeakSet()
_locked_for_fork: list[PageCache] = []


def _before_fork() -> None:
    for cache in list(_caches):
        _locked_for_fork.append(cache)  # first, in case that a signal raises in here
        cache._lock.__enter__()


def _after_fork_in_parent() -> None:
    while _locked_for_fork:
        lock = _locked_for_fork.pop()._lock
        if lock.held_here():
            lock.__exit__(None, None, None)


def _after_fork_in_child() -> None:
    _locked_for_fork.clear()
    for cache in list(_caches):
        cache._start_locks_anew()


# Registered after mm/fork.py's, and so run before it: a cache's lock is taken before its zone's.
os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


def _default_size_bytes() -> int:
    given = os.environ.get("PAGEIN_SIZE")
    if given:
        return parse_size(given, what="PAGEIN_SIZE")
    return _memory_bytes() // MEMORY_SHARE


def _memory_bytes() -> int:
    """The memory of the machine, or less if a control group allows less."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        with open("/sys/fs/cgroup/memory.max") as limit:
            return min(machine, int(limit.read()))
    except (OSError, ValueError):  # no such control group; or "max"
        return machine
