"""Who only waits until a page is unlocked, on a thread that a signal may interrupt: without a lock, and in no line.

Guarantees: each is woken when the page that he waits for is unlocked, also if it has become a part of another by then;
what interrupts his wait leaves no more than an entry that goes with the unlock.
No lock: each step is one of a list's.  The race: he puts himself on the list first, and looks whether the page is in
flight then; who unlocks it, or puts another in its place, takes it out of flight first, and looks at the list then.  In
any order one of the two sees the other.
Not here: who has more to do than to wait (bring.py), or wants the lock (wait.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .sync import Waiter

if TYPE_CHECKING:
    from .page import Page


class Bystander:
    """One of them."""

    __slots__ = "counts", "page", "page_index", "waiter"

    def __init__(self, page_index: int, waiter: Waiter, *, counts: bool) -> None:
        self.page_index: int = page_index
        self.waiter: Waiter = waiter
        self.counts: bool = counts
        """Whether it is a reader's first miss."""
        self.page: Page | None = None
        """Who has woken him."""


class Bystanders(list[Bystander]):
    """Those of one page."""

    __slots__ = ()

    def wait(self, page: Page, index: int, *, counts: bool) -> Page | None:
        """Wait for page *index* of *page*, whose bystanders these are: the one that was unlocked then.  None if it has
        been unlocked by now, or is another's.

        Locks: none held, none taken.  Blocks: interruptibly.
        """
        one = Bystander(index, page.mapping.zone.door.waiter(), counts=counts)
        try:
            self.append(one)
            if page.mapping.in_flight.get(index) is not page and self._left(one):
                return None
            one.waiter.wait()
        except BaseException:
            self._left(one)
            raise
        return one.page

    def wake(self, page: Page) -> None:
        """*page* is out of flight.  Zone's lock held."""
        counters = page.mapping.zone.counters
        while self:
            try:
                one = self.pop()
            except IndexError:  # he has just left
                return
            counters["misses"] += one.counts
            counters["waits"] += 1
            one.page = page
            one.waiter.wake()

    def hand_on(self, page: Page) -> None:
        """Those who wait for a part of *page*, which is in flight by now: so nobody comes here for it any more."""
        for one in list(self):
            if page.index <= one.page_index < page.index + page.page_count and self._left(one):
                page.bystanders.append(one)

    def _left(self, one: Bystander) -> bool:
        """He stands by no more.  False if he has been woken, or handed on to another page, which will."""
        try:
            self.remove(one)
        except ValueError:
            return False
        return True
