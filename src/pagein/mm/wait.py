"""A place in line for a page's lock, or for its release.

Guarantees: whoever leaves the line in whatever way leaves nothing behind: neither a locked page nor a reservation.
Assumes: the zone's lock guards every field.
Not here: who is served when (page.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .sync import Steps, Waiter

if TYPE_CHECKING:
    from .page import LockedPage, Page
    from .request import Request


class GivenUp(Exception):
    """Nobody wants it any more."""


class Wanting:
    """Somebody who may give up what others bring for him.  The zone's lock guards both."""

    __slots__ = ("is_unwanted", "wait")

    def __init__(self) -> None:
        self.wait: Wait | None = None
        """The place in line that was taken for him last."""
        self.is_unwanted: bool = False

    def give_up_in_zone(self) -> None:
        """He leaves the line.  Zone's lock held."""
        self.is_unwanted = True
        if self.wait is not None:
            self.wait.give_up()


class Wait:
    """One reader's place in line for one page."""

    __slots__ = (
        "granted", "has_reservation", "in_store_code", "index", "page", "to_start", "waiter", "wants_lock",
        "was_given_up",
    )  # fmt: skip

    def __init__(self, page: Page, index: int, waiter: Waiter, *, wants_lock: bool, has_reservation: bool) -> None:
        self.page: Page = page
        """Whose line it stands in now: that of whoever holds the page's lock."""
        self.index: int = index
        self.wants_lock: bool = wants_lock
        self.has_reservation: bool = has_reservation
        """It brings a reservation of one page along: it gets the lock even if the page is gone by the time."""
        self.waiter: Waiter = waiter
        self.in_store_code: bool = page.mapping.zone.is_calling_here()
        """A store needs the page for one that others wait for."""
        self.to_start: Request | None = None
        """Was let through the line for its sake."""
        self.granted: LockedPage | None = None
        self.was_given_up: bool = False
        """It was taken out of the line, unserved."""

    def steps(self) -> Steps[LockedPage | None]:
        """Wait until served: the locked page, or None if the lock was not asked for or the page has gone."""
        zone = self.page.mapping.zone
        self.start_what_it_needs()
        try:
            yield zone.checks.watched(self) if zone.checks else self.waiter
        except BaseException:
            self._leave()
            raise
        if self.granted is not None:
            self.granted.take_over()
        return self.granted

    def start_what_it_needs(self) -> None:
        """Hand over what was let through the line.  No lock held."""
        request, self.to_start = self.to_start, None
        if request is not None:
            request.device.hand_over(request)

    def give_up(self) -> None:
        """Let who waits go on unserved, unless he has been served.  Zone's lock held."""
        if self.page.leave(self):
            self.was_given_up = True
            self.waiter.wake()

    def _leave(self) -> None:
        # The lock may have been handed to us while the exception was on its way: then pass it on.
        zone = self.page.mapping.zone
        with zone.lock:
            granted = self.granted
            if granted is None:
                self.page.leave(self)
        if granted is not None:
            granted.owner = zone.door.thread_id()
            granted.unlock()
        elif self.has_reservation:
            with zone.lock:
                zone.uncharge(1, reserved=True)
