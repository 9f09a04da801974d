"""A turn at a store for what brings no page: a look.  It is one of the requests that the store gets at once.

Guarantees: a store is asked no more at once than it takes, however many files are opened; and what a store's code waits
for is let through, as are the requests for its pages: the line may wait for that very store.
Assumes: the zone's lock guards every field.
Not here: the line (device.py), who looks (pagein.looks).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .device import BackingDevice
    from .zone import Zone


class Turn:
    """Of one look, which is its only one."""

    __slots__ = ("_device", "_fail", "_look", "_zone", "is_in_line", "is_needed")

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._device: BackingDevice | None = None
        self._look: Callable[[], Turn | None] = _nothing
        self._fail: Callable[[Exception], object] = _nothing
        self.is_in_line: bool = False
        self.is_needed: bool = False
        """A store's code waits for it."""

    def is_for(self, look: Callable[[], Turn | None], fail: Callable[[Exception], object]) -> None:
        """``look()`` blocks, and hands on to what it returns; or ``fail(error)`` is told why it is not made."""
        self._look, self._fail = look, fail

    def begin(self, device: BackingDevice) -> bool:
        """Whether the look may be made now; else it is made when its turn has come.

        Locks: takes the zone's lock.
        """
        with self._zone.lock:
            self._device = device
            if self.is_needed or self._zone.is_calling_here() or device.has_room_for(self):
                device.turns_in_flight += 1
                return True
            device.put_in_line(self)
        return False

    def let_through(self) -> None:
        """A store's code waits for the look, now or soon: it stands in no line.  Locks: takes the zone's lock."""
        with self._zone.lock:
            self.is_needed = True
            if not self.is_in_line:
                return
            assert self._device is not None, "it stands in its line"
            self._device.take_out_of_line(self)
            self._device.turns_in_flight += 1
        self.start()

    def look_here(self) -> None:
        """By a thread that has nothing to do but to wait for it.  Blocks: yes."""
        following = self._make()
        if following is not None:
            following.start()

    def start(self) -> None:
        """Have it made by an I/O worker.  Locks: none held, since it may fail at once.  Blocks: no."""
        try:
            self._zone.io.start(self._work)
        except (ValueError, RuntimeError) as error:  # the cache was closed, or no thread is to be had
            self._fail(error)

    def _work(self) -> None:
        """And those that follow, by the same worker: each would start another, while the one before is about to end."""
        turn: Turn | None = self
        while turn is not None:
            turn = turn._make()

    def _make(self) -> Turn | None:
        """The look, by the calling thread, which may be making another, whose store's code wants this one."""
        with self._zone.in_turn(self):
            return self._look()

    @property
    def is_in_flight(self) -> bool:
        """Whether it has a place at its store.  Locks: the zone's lock is held."""
        return self._device is not None and not self.is_in_line

    def end(self, *, hands_on: bool = False) -> Turn | None:
        """The store has answered, or will not be asked.  Once more does no harm.

        *hands_on*: the next look in the line, if it is its turn now, is returned for the caller to make, or `start`.
        Locks: takes the zone's lock.
        """
        self._look = self._fail = _nothing  # they refer to this one: no cycle
        device = self._device
        if device is None:  # its store is not known before it is asked, or it has ended
            return None
        following = None
        with self._zone.lock:
            if self._device is None:
                return None
            self._device = None
            device.turns_in_flight -= 1
            if self._zone.devices.get(device.key) is not device:
                return None  # this is a child that was forked in the store's code
            first = device.first_in_line()
            if hands_on and isinstance(first, Turn) and device.has_room_for(first):
                device.take_out_of_line(first)
                device.turns_in_flight += 1
                following = first
        device.start_queued()
        return following


def _nothing(*arguments: object) -> None:
    raise AssertionError("it was not said what it is for")
