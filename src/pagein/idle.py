"""Inodes that nobody has a file of, and that are found again with their pages: the longest idle first.

Guarantees: no more than so many are kept; of those that can grow fewer, since their frames take address space, and of
large ones, since those take that and descriptors.
Assumes: the table's lock is held.
Not here: what becomes of one that is not found any more (table.py).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from .inode import ROOMY_MAX
from .mm.arena import PRIVATE_ARENA_PAGES
from .units import PAGE_SHIFT

if TYPE_CHECKING:
    from .inode import Inode

IDLE_WITH_ROOM_MAX = 256
"""Of the inodes that are kept without a file, so many that can grow: these take much address space..."""
IDLE_WITH_ROOM_LEAST = 16
"""...and so many if others that have files need it."""
IDLE_WITH_ARENA_MAX = 16
"""So many that have an arena of their own: each takes nine descriptors (two files, and one for each of their seven
mappings), of 1024 that a process usually may have."""
WIDE_PAGES = (1 << 30) >> PAGE_SHIFT
"""Those with more frames count for..."""
IDLE_FRAMES_MAX = (32 << 40) >> PAGE_SHIFT
"""...this, a quarter of what an x86-64 process can address; of `IDLE_INODES_MAX` others the frames are less."""


class IdleInodes:
    """Of one table, *most* of them."""

    def __init__(self, most: Callable[[], int]) -> None:
        self._most = most
        self._all: OrderedDict[Inode, None] = OrderedDict()
        self._with_room: OrderedDict[Inode, None] = OrderedDict()
        """Those of them that can grow."""
        self._with_arena: OrderedDict[Inode, None] = OrderedDict()
        """Those that have an arena of their own."""
        self._wide: OrderedDict[Inode, None] = OrderedDict()
        """Those with many frames..."""
        self._wide_pages = 0
        """...and how many these have."""

    def add(self, inode: Inode) -> None:
        """It has no file any more."""
        frame_count = inode.mapping.frame_count
        self._all[inode] = None
        if inode.has_room:
            self._with_room[inode] = None
        if frame_count > PRIVATE_ARENA_PAGES:
            self._with_arena[inode] = None
        if frame_count > WIDE_PAGES and inode not in self._wide:
            self._wide[inode] = None
            self._wide_pages += frame_count

    def discard(self, inode: Inode) -> None:
        """It has one, or is not found any more."""
        self._all.pop(inode, None)
        self._with_room.pop(inode, None)
        self._with_arena.pop(inode, None)
        if inode in self._wide:
            del self._wide[inode]
            self._wide_pages -= inode.mapping.frame_count

    def clear(self) -> None:
        """None is found any more."""
        self._all.clear()
        self._with_room.clear()
        self._with_arena.clear()
        self._wide.clear()
        self._wide_pages = 0

    def too_many(self, roomy_count: int) -> Iterator[Inode]:
        """Those that are to go, of a cache with so many that can grow, idle or not; who is given one discards it."""
        busy_beyond = max(0, roomy_count - ROOMY_MAX)
        most_with_room = min(IDLE_WITH_ROOM_MAX, max(IDLE_WITH_ROOM_LEAST, len(self._with_room) - busy_beyond))
        while len(self._with_room) > most_with_room:
            yield next(iter(self._with_room))
        while len(self._with_arena) > IDLE_WITH_ARENA_MAX:
            yield next(iter(self._with_arena))
        while self._wide_pages > IDLE_FRAMES_MAX and len(self._wide) > 1:  # one may be as large as that by itself
            yield next(iter(self._wide))
        while len(self._all) > self._most():
            yield next(iter(self._all))
