"""Which inodes of a cache are written: open for writing, or left with data that their store does not have.

Guarantees: one stays so until nobody has it open for writing and its store has everything, or it is given up; until
then its cache stays as well, though nothing else need refer to it.
Assumes: the table's lock is held, but for ``in``: who asks without it asks again under it.
Not here: what becomes of an inode that is not written any more (table.py), writing it back (unwritten.py).
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from .stores.local_fsync import ClosedFile, ClosedFiles

if TYPE_CHECKING:
    from .cache import PageCache
    from .inode import Inode


class WrittenInodes:
    """Of one cache; in the order in which they were opened."""

    def __init__(self, cache_ref: weakref.ref[PageCache]) -> None:
        self._cache_ref = cache_ref
        self._all: dict[Inode, None] = {}
        self._left: set[Inode] = set()
        """Those of them that nobody has open for writing any more..."""
        self._left_and_begun: set[Inode] = set()
        """...and whose data somebody has begun to hand over since."""
        self.closed_files: ClosedFiles = ClosedFiles()
        """What of them is in the system, but not on the disk for certain."""
        self.ends: int = 0
        """How often one became as any other."""

    def __contains__(self, inode: object) -> bool:
        return inode in self._all

    def __iter__(self) -> Iterator[Inode]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @property
    def has_left(self) -> bool:
        """Whether `end_left` has any to look at.  Locks: none; it is asked again."""
        return bool(self._left)

    def begin(self, inode: Inode) -> None:
        """One file more writes it."""
        inode.has_one_writer_so_far = inode not in self._all
        inode.writer_count += 1
        inode.mapping.expect_late()
        inode.look = inode.again = None  # they are about what was there before
        self._left.discard(inode)
        self._left_and_begun.discard(inode)
        self._all[inode] = None
        inode.mapping.allow_short_writes(True)
        cache = self._cache_ref()
        assert cache is not None, "it calls us"
        _caches_with_data[cache] = None

    def leave(self, inode: Inode) -> None:
        """A file that wrote it was closed."""
        inode.writer_count -= 1
        if not inode.writer_count and inode in self._all:
            self._left.add(inode)

    def end_left(self) -> list[Inode]:
        """Those whose store has everything, and that nobody writes: they are as any other now."""
        ended: list[Inode] = []
        for inode in list(self._left):
            inode.mapping.allow_short_writes(False)  # also for who was about to write when his file was closed
            # In this order: who is in the middle of a write leaves what is dirty before he gives the lock back.
            if not inode.mapping.i_rwsem.held and inode.unwritten_bytes is None:
                self._remove(inode)
                inode.note_version()
                closed_file = getattr(inode.mapping.ops, "closed_file", None)
                if isinstance(closed_file, ClosedFile):
                    self.closed_files.note(closed_file)
                self.ends += 1
                inode.written_at = self.ends
                ended.append(inode)
        return ended

    def take_left(self) -> list[Inode]:
        """Those that were left with data which nobody has begun to hand over: the caller does."""
        left = [one for one in self._left - self._left_and_begun if one.unwritten_bytes is not None]
        self._left_and_begun.update(left)
        return left

    def note_begun(self, inode: Inode) -> None:
        """Who wrote it last has tried to hand its data over, and was told why not."""
        self._left_and_begun.add(inode)

    def give_up(self, inodes: Iterable[Inode]) -> list[Inode]:
        """Those of *inodes* that were written: nothing more is."""
        given_up = [inode for inode in inodes if inode in self._all]
        for inode in given_up:
            self._remove(inode)
        return given_up

    def _remove(self, inode: Inode) -> None:
        del self._all[inode]
        self._left.discard(inode)
        self._left_and_begun.discard(inode)
        if not self._all:
            self._let_cache_go()

    def clear(self) -> list[Inode]:
        """Those that were written: the cache is closed, or this is a child of a fork, and they are its parent's."""
        written = list(self._all)
        self._all.clear()
        self._left.clear()
        self._left_and_begun.clear()
        self.closed_files = ClosedFiles()
        self._let_cache_go()
        return written

    def _let_cache_go(self) -> None:
        cache = self._cache_ref()
        if cache is not None:
            _caches_with_data.pop(cache, None)


_caches_with_data: dict[PageCache, None] = {}
"""Caches of which any inode is written: nothing else need refer to them, and what was written is not lost."""
_given_up: weakref.WeakSet[PageCache] = weakref.WeakSet()


def give_up_at_exit(cache: PageCache) -> None:
    """What is in *cache* may be lost when the interpreter ends: its store may never take it.  For good: a thread of its
    may be about to write.  Locks: none."""
    _given_up.add(cache)


def caches_with_data() -> list[PageCache]:
    """Those that have, or may have, data that no store has, and that nobody has given up."""
    return [cache for cache in list(_caches_with_data) if cache not in _given_up]
