"""Waiting for one another in a cache: who does something with one thing at a time, and who is still at it.

Guarantees: neither waits under a lock, and who waits is woken however the other ends.
Assumes: who waits here runs where no signal can interrupt him; a child of a fork calls `start_anew`.
Lock order: theirs are leaves.
Not here: page locks and ``i_rwsem``, which are fair (mm/page.py, mm/rwsem.py).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .mm.debug import before_wait, having, owned_lock
from .mm.lockorder import BUSY, BUSY_LOCK, TURNS_LOCK

if TYPE_CHECKING:
    from .mm.lockorder import Rank
    from .mm.sync import Waiter
    from .mm.zone import Zone


class Turns:
    """One after the other, for each key."""

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._door = zone.door
        self.start_anew()

    def start_anew(self) -> None:
        """In a child of a fork: those who had a turn stayed in the parent."""
        self._lock = owned_lock(self._zone, TURNS_LOCK)
        self._waiters: dict[Hashable, list[Waiter]] = {}

    @contextmanager
    def turn(self, rank: Rank, key: Hashable = None) -> Iterator[None]:
        """Be the only one with *key* in a turn of that *rank*.  Blocks: while another is."""
        before_wait(self._zone, rank, key)
        what, key = key, (rank, key)
        while True:
            with self._lock:
                if key not in self._waiters:
                    self._waiters[key] = []
                    break
                waiter = self._door.waiter()
                self._waiters[key].append(waiter)
            waiter.wait()
        try:
            with having(self._zone, rank, what):
                yield
        finally:
            with self._lock:
                waiters = self._waiters.pop(key, [])  # not there in a child that was forked in there
            for waiter in waiters:
                waiter.wake()

    def is_taken(self, rank: Rank, key: Hashable) -> bool:
        """Whether somebody has the turn."""
        with self._lock:
            return (rank, key) in self._waiters


class Busy:
    """How many threads, or steps without one, are at something that somebody may have to wait for."""

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._door = zone.door
        self.start_anew()

    def start_anew(self) -> None:
        """In a child of a fork: all of them stayed in the parent."""
        self._lock = owned_lock(self._zone, BUSY_LOCK)
        self._count = 0
        self._waiters: list[Waiter] = []

    def begin(self) -> None:
        """One more."""
        with self._lock:
            self._count += 1

    def end(self) -> None:
        """One less."""
        waiters: list[Waiter] = []
        with self._lock:
            self._count = max(0, self._count - 1)  # 0 in a child that was forked in there
            if not self._count:
                waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.wake()

    def wait(self) -> None:
        """Blocks: until there was none."""
        before_wait(self._zone, BUSY)
        with self._lock:
            if not self._count:
                return
            waiter = self._door.waiter()
            self._waiters.append(waiter)
        waiter.wait()
