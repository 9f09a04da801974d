"""How much is dirty, how much may be, and how writers are slowed down.  Linux: balance_dirty_pages.

Guarantees: dirty pages, and what writers may make dirty without asking (their budgets), never exceed the hard limit,
but by what an operation that stores writes to other files on the thread that was called; below the middle between the
two limits nobody waits; above, a writer waits until so many pages have been cleaned as is in proportion to what he made
dirty: none at the middle, as many at the limit.  So he is slowed to the pace of the store, and no clock or estimate is
needed.  If nothing can be cleaned because the store fails, he hears why.
Assumes: the zone's lock guards every field.
Not here: who cleans (writeback.py, flusher.py).
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Container
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from ..errors import closed_cache
from .debug import before_wait
from .errseq import again
from .lockorder import DIRTY_ROOM
from .sync import MakeWaiter, Steps, Waiter
from .tracepoints import waiting

if TYPE_CHECKING:
    from .mapping import AddressSpace
    from .zone import Zone

BACKGROUND_SHARE, LIMIT_SHARE = 0.10, 0.20
"""Of the cache: above the first, write-back begins; the second is never exceeded.  Linux: dirty_background_ratio,
dirty_ratio."""
AGE_S = 30.0
"""What has been dirty for so long is written back.  Linux: dirty_expire_centisecs."""
BUDGET_PAGES_MAX = 8192
"""What a writer may make dirty before he comes here again, at most..."""
BUDGET_SHARE = 8
"""...and of what is left below the limit, this share."""


class Limits(NamedTuple):
    """When write-back begins, and what is never exceeded, in pages."""

    background_pages: int
    limit_pages: int
    age_s: float = AGE_S

    @classmethod
    def for_cap(
        cls,
        cap_pages: int,
        *,
        background_share: float = BACKGROUND_SHARE,
        limit_share: float = LIMIT_SHARE,
        age_s: float = AGE_S,
    ) -> Limits:
        """Shares of a cache; at least one page may be dirty.  Raises: ValueError."""
        if not 0 <= background_share <= limit_share <= 1 or not limit_share:
            raise ValueError(
                "dirty_background and dirty_limit are shares of the cache, 0 <= dirty_background <= dirty_limit <= 1, "
                f"not {background_share!r} and {limit_share!r}"
            )
        if age_s <= 0:
            raise ValueError(f"dirty_age_s must be more than 0, not {age_s!r}")
        limit_pages = max(1, int(cap_pages * limit_share))
        return cls(min(int(cap_pages * background_share), limit_pages - 1), limit_pages, age_s)

    @property
    def freerun_pages(self) -> int:
        """Up to here nobody is slowed down."""
        return (self.background_pages + self.limit_pages) // 2


class _Slowed(NamedTuple):
    """A writer who waits until so many pages have been cleaned, ever; without leave, until there is room for one."""

    cleaned_pages: int
    waiter: Waiter
    mapping: AddressSpace
    has_leave: bool


class DirtyState:
    """The dirty pages of a zone."""

    def __init__(self, zone: Zone, limits: Limits) -> None:
        self._zone = weakref.proxy(zone)  # no cycle: a cache that nobody has goes at once
        self.limits = limits
        self.pages: int = 0
        """Dirty, or granted to a writer who has not used them."""
        self.writeback_pages: int = 0
        """Being written back."""
        self.cleaned_pages: int = 0
        """Cleaned so far, ever: what slowed writers wait for."""
        self.failures: int = 0
        self.last_failure: BaseException | None = None
        self._waiters: deque[_Slowed] = deque()

    @property
    def is_too_much(self) -> bool:
        """Whether write-back should begin."""
        return self.pages > self.limits.background_pages

    @property
    def has_no_room(self) -> bool:
        """Whether somebody waits for leave.  Zone's lock held."""
        return any(not entry.has_leave for entry in self._waiters)

    # -- for writers -----------------------------------------------------------------------------------

    def grant_steps(self, mapping: AddressSpace, want_pages: int, make_waiter: MakeWaiter) -> Steps[int]:
        """Leave to make up to *want_pages* dirty: how many, at least 1.  What is not used `give_back` takes.

        Locks: none held but ``i_rwsem``.  Blocks: while too much is dirty; but never in an operation that stores, on
        the thread that was called: a thread of the store's own, which nobody can tell from others, waits as they do.
        Raises: the OSError of the store if nothing can be cleaned; ValueError if all that is dirty is given up.
        """
        zone, limits = self._zone, self.limits
        failures, own_failures = self.failures, mapping.write_failures
        while True:
            with zone.lock:
                if zone.is_given_up:
                    raise closed_cache()
                room_pages = limits.limit_pages - self.pages - self.writeback_pages
                if room_pages < 1:
                    self._recall_budgets()
                    room_pages = limits.limit_pages - self.pages - self.writeback_pages
                stores = zone.is_storing_here()  # what would have to be cleaned first may be just what it stores
                if room_pages > 0 or stores:
                    granted = want_pages if stores else min(want_pages, room_pages)
                    self.pages += granted
                    wait_pages = 0 if stores else self._pause_pages(granted)
                elif (failure := self._hopeless(mapping, failures, own_failures)) is not None:
                    raise again(failure)
                else:
                    granted, wait_pages = 0, 1
                tries_again = not granted and not self.may_be_cleaned()
                waiter = make_waiter() if wait_pages else None
                if waiter is not None:
                    self._waiters.append(_Slowed(self.cleaned_pages + wait_pages, waiter, mapping, granted > 0))
            if waiter is not None:
                try:
                    zone.flusher.kick(tries_again=tries_again)
                    before_wait(zone, DIRTY_ROOM, mapping.name)
                    with waiting(zone, "the store to take what is dirty", mapping.name):
                        yield waiter
                except BaseException:
                    with zone.lock:
                        self._waiters = deque(entry for entry in self._waiters if entry.waiter is not waiter)
                    if granted:
                        self.give_back(granted)
                    raise
            elif self.is_too_much:
                with suppress(RuntimeError):  # no thread is to be had: the next who comes by tries again
                    zone.flusher.kick()
            if granted:
                return granted

    def _hopeless(self, mapping: AddressSpace, failures: int, own_failures: int) -> BaseException | None:
        """Why nothing will be cleaned: what was tried since then has failed, and there is nothing else to try.

        Other files' failures are not this writer's, unless theirs are all the pages that are dirty.
        """
        if mapping.write_failures != own_failures and not mapping.under_writeback:
            return mapping.last_failure
        if self.failures == failures:
            return None
        return None if self.may_be_cleaned() else self.last_failure

    def may_be_cleaned(self) -> bool:
        """Whether something is being stored, or is dirty and did not fail the last time: then what becomes of that
        wakes who waits.  Zone's lock held."""
        return self.writeback_pages > 0 or any(
            mapping.dirty_pages and mapping.last_failure is None for mapping in self._zone.mappings
        )

    def _pause_pages(self, granted: int) -> int:
        """So many pages have to be cleaned before a writer who was granted so many goes on."""
        limits, others = self.limits, self.pages + self.writeback_pages - granted
        over_pages = self.pages + self.writeback_pages - limits.freerun_pages
        if over_pages <= 0:
            return 0
        return min(others, granted * over_pages // max(1, limits.limit_pages - limits.freerun_pages))

    def budget_pages(self) -> int:
        """What a writer may be granted beyond what he needs now.  Zone's lock held."""
        room_pages = self.limits.freerun_pages - self.pages - self.writeback_pages
        return max(0, min(BUDGET_PAGES_MAX, room_pages // BUDGET_SHARE))

    def give_back(self, page_count: int) -> None:
        """Leave that was not used.  Locks: takes the zone's lock."""
        with self._zone.lock:
            self.given_back(page_count)

    def given_back(self, page_count: int) -> None:
        """Nobody has leave for these any more.  Zone's lock held."""
        self.pages -= page_count
        self._wake()

    def _recall_budgets(self) -> None:
        """Take back what writers were granted and have not used.

        The race: one whose budget looks used up may not have counted yet what he has made dirty.  The flusher comes by
        all the same: who has a budget has had something dirty since before that (`AddressSpace.clear_dirty`).
        """
        for mapping in list(self._zone.mappings):
            if mapping.dirty_budget:
                with mapping.dirty_lock:
                    page_count, mapping.dirty_budget = mapping.dirty_budget, 0
                self.given_back(page_count)

    # -- for those who clean, under the zone's lock ------------------------------------------------------

    def writeback_began(self, page_count: int) -> None:
        """Pages are no longer dirty, but under write-back."""
        self.pages -= page_count
        self.writeback_pages += page_count

    def writeback_ended(self, mapping: AddressSpace, page_count: int, error: BaseException | None) -> None:
        """They have been stored; or not, and are dirty again."""
        self.writeback_pages -= page_count
        if error is None:
            self.cleaned_pages += page_count
            mapping.last_failure = None
            self._wake(everybody=not self.writeback_pages)  # nothing is on its way any more: who waits has to see to it
        else:
            self.pages += page_count
            self.failed(mapping, error)

    def failed(self, mapping: AddressSpace, error: BaseException) -> None:
        """Nothing could be stored: who waits for that hears why."""
        mapping.write_failures += 1
        self.failures += 1
        mapping.last_failure = self.last_failure = error
        self._wake(everybody=True)

    def redirtied(self, page_count: int) -> None:
        """The store has declined, and they are dirty again."""
        self.writeback_pages -= page_count
        self.pages += page_count
        self._wake(everybody=True)  # who waits for just these kicks the flusher again

    def cancelled(self, page_count: int) -> None:
        """Dirty pages were given up."""
        self.pages -= page_count
        self.cleaned_pages += page_count
        self._wake()

    def _wake(self, *, everybody: bool = False) -> None:
        if self._waiters:
            below = self.pages + self.writeback_pages <= self.limits.freerun_pages
            has_room = self.pages + self.writeback_pages < self.limits.limit_pages
            left: deque[_Slowed] = deque()
            for entry in self._waiters:
                is_served = entry.cleaned_pages <= self.cleaned_pages or (has_room and not entry.has_leave)
                if everybody or below or is_served:
                    entry.waiter.wake()
                else:
                    left.append(entry)
            self._waiters = left

    def wake_all(self) -> None:
        """Let everybody look again.  Zone's lock held."""
        self._wake(everybody=True)

    def wake_writers_of_others(self, busy: Container[AddressSpace] = ()) -> None:
        """Let those go on who have leave, and of whose own files nothing is being cleaned: they might wait for a store
        that does not answer.  Zone's lock held.

        Who has no leave goes on waiting: he would find no room.  Those who have all of it give it back, which wakes
        him, or make dirty what they have it for, and kick the flusher then (write.write_end).
        """
        woken = [entry for entry in self._waiters if entry.has_leave and entry.mapping not in busy]
        self._waiters = deque(entry for entry in self._waiters if not entry.has_leave or entry.mapping in busy)
        for entry in woken:
            entry.waiter.wake()
