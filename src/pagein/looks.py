"""Looks at sources: of those that want to look at one at the same time, one does, and the others hear what he saw.

Guarantees: who wants to look gets what somebody saw who began after that: so at most two looks follow one another for
any number of those who come at once, and whoever has put a new version there before he asks is shown it.  A look that
fails fails for all whom it would have served, who each raise an error of their own.
Assumes: who looks calls `end`, however it went; a child of a fork calls `start_anew`.
An answer from before a change that is known here is told to be one (`Look.is_outdated`).
Lock order: its lock is a leaf.
Not here: what is asked, and what becomes of the answer (lookup.py).
"""

from __future__ import annotations

import copy
from collections.abc import Hashable
from typing import TYPE_CHECKING

from .mm.debug import before_wait, owned_lock
from .mm.lockorder import LOOK, LOOKS_LOCK
from .mm.turn import Turn

if TYPE_CHECKING:
    from .mm.sync import MakeWaiter, Steps, Waiter
    from .mm.zone import Zone


class Look:
    """One question to a store: is it still the same?"""

    __slots__ = ("began_s", "error", "follower", "has_ended", "is_outdated", "number", "turn", "waiters")

    def __init__(self, number: int, began_s: float, turn: Turn) -> None:
        self.number: int = number
        self.began_s: float = began_s
        self.error: Exception | None = None
        self.has_ended: bool = False
        self.is_outdated: bool = False
        """Whether the object was changed since it began, by whoever knows of it: its answer is worth nothing."""
        self.waiters: list[Waiter] = []
        self.turn: Turn = turn
        """Its turn at the store."""
        self.follower: Look | None = None
        """That of those who came too late for this one."""


class Looks:
    """Of one cache."""

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self.count: int = 0
        """How many have begun: one with a larger number has begun later."""
        self.start_anew()

    def start_anew(self) -> None:
        """In a child of a fork: those who look stayed in the parent."""
        # Who waits without a thread is put into the line under the lock, and told when it is released.
        self._lock = owned_lock(self._zone, LOOKS_LOCK, after=self._zone.workqueue.kick_if_possible)
        self._under_way: dict[Hashable, Look] = {}
        self._aside: dict[Look, Hashable] = {}

    def begin_steps(self, key: Hashable, count_before: int, make_waiter: MakeWaiter) -> Steps[Look | None]:
        """A look at what has this *key*, for the caller to do; None if somebody else's has ended that began when more
        than *count_before* had begun.  Raises: what that one has raised."""
        waited: Look | None = None
        before_wait(self._zone, LOOK, key)
        while True:
            with self._lock:
                other = self._under_way.get(key)
                if waited is not None and waited.follower is not None:  # it may have ended before this one woke up
                    other = waited.follower
                if other is None:
                    self.count += 1
                    own = self._under_way[key] = Look(self.count, self._zone.door.now_s(), Turn(self._zone))
                    if waited is not None:
                        waited.follower = own
                    return own
                waiter = None if other.has_ended else make_waiter()
                if waiter is not None:
                    other.waiters.append(waiter)
            if waiter is not None:
                if self._zone.is_calling_here():
                    other.turn.let_through()
                yield waiter
            if other.number > count_before:
                self.raise_error_of(other)
                return None
            waited = other

    def ended_steps(self, look: Look, make_waiter: MakeWaiter) -> Steps[None]:
        """Wait until a look has ended."""
        with self._lock:
            waiter = None if look.has_ended else make_waiter()
            if waiter is not None:
                look.waiters.append(waiter)
        if waiter is not None:
            yield waiter

    def begin_aside(self, key: Hashable) -> Look:
        """A look for the caller to do at once, beside others, which nobody waits for here.  He calls `end_aside`."""
        with self._lock:
            self.count += 1
            look = Look(self.count, self._zone.door.now_s(), Turn(self._zone))
            self._aside[look] = key
        return look

    def end_aside(self, look: Look) -> None:
        """It has ended, however it went."""
        with self._lock:
            self._aside.pop(look, None)  # nothing in a child that was forked in there

    def outdate(self, key: Hashable) -> None:
        """What has this *key* was changed just now: who looks at it may have been answered before."""
        with self._lock:
            under_way = self._under_way.get(key)
            for look in [look for look, its_key in self._aside.items() if its_key == key]:
                look.is_outdated = True
            if under_way is not None:
                under_way.is_outdated = True

    def end(self, key: Hashable, look: Look, error: Exception | None) -> None:
        """The look has ended, with an *error* for those who wait for it, too."""
        with self._lock:
            look.has_ended = True
            look.error = None if error is None else _own(error)
            if self._under_way.get(key) is look:  # not in a child that was forked in there
                del self._under_way[key]
            while look.waiters:
                look.waiters.pop().wake()

    @staticmethod
    def raise_error_of(look: Look) -> None:
        """An error for each who raises it: a traceback belongs to one."""
        if look.error is not None:
            raise _own(look.error)


def _own(error: Exception) -> Exception:
    """The same, without what it comes from: that refers to the frames of who has looked, and they to the look."""
    try:
        return copy.copy(error)
    except Exception:  # of a store's own, that cannot be copied
        return error
