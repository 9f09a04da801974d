"""Inodes that nobody has a file of, and that are found again with their pages: the longest idle first.

Guarantees: no more than so many are kept; of those that can grow fewer, since their frames take address space.
Assumes: the table's lock is held.
Not here: what becomes of one that is not found any more (table.py).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from .inode import ROOMY_MAX

if TYPE_CHECKING:
    from .inode import Inode

IDLE_WITH_ROOM_MAX = 256
"""Of the inodes that are kept without a file, so many that can grow: these take much address space..."""
IDLE_WITH_ROOM_LEAST = 16
"""...and so many if others that have files need it."""


class IdleInodes:
    """Of one table, *most* of them."""

    def __init__(self, most: Callable[[], int]) -> None:
        self._most = most
        self._all: OrderedDict[Inode, None] = OrderedDict()
        self._with_room: OrderedDict[Inode, None] = OrderedDict()
        """Those of them that can grow."""

    def add(self, inode: Inode) -> None:
        """It has no file any more."""
        self._all[inode] = None
        if inode.has_room:
            self._with_room[inode] = None

    def discard(self, inode: Inode) -> None:
        """It has one, or is not found any more."""
        self._all.pop(inode, None)
        self._with_room.pop(inode, None)

    def clear(self) -> None:
        """None is found any more."""
        self._all.clear()
        self._with_room.clear()

    def too_many(self, roomy_count: int) -> Iterator[Inode]:
        """Those that are to go, of a cache with so many that can grow, idle or not; who is given one discards it."""
        busy_beyond = max(0, roomy_count - ROOMY_MAX)
        most_with_room = min(IDLE_WITH_ROOM_MAX, max(IDLE_WITH_ROOM_LEAST, len(self._with_room) - busy_beyond))
        while len(self._with_room) > most_with_room:
            yield next(iter(self._with_room))
        while len(self._all) > self._most():
            yield next(iter(self._all))
