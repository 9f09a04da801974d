"""The flusher: the thread that writes back what has been dirty for too long, or is too much.  Linux: wb_workfn.

Guarantees: one thread a zone, named; it is there from the first dirty page until there is none, or the cache is closed.
What fails is tried again at the next turn; it is reported by fsync and close, not here.  A store that declines all of a
file is asked for it ten times a second, however many wait for that, and however much of other files it takes.
Not here: how (writeback.py), how much (dirty.py).
"""

from __future__ import annotations

import math
import weakref
from functools import partial
from typing import TYPE_CHECKING

from .sync import Waiter, inside, resting
from .writeback import Declined, Sync, write_back

if TYPE_CHECKING:
    from .mapping import AddressSpace
    from .zone import Zone

INTERVAL_S = 5.0
"""How often ages are looked at.  Linux: dirty_writeback_centisecs."""

DECLINED_PAUSE_S = 0.1
"""So long a file rests of which the store took nothing: who waits for it would be woken in vain, and ask at once."""


class Flusher:
    """The flusher of one zone.  The zone's lock guards its state."""

    def __init__(self, zone: Zone) -> None:
        self._zone = weakref.proxy(zone)  # no cycle: a cache that nobody has goes at once...
        self._strong_zone = weakref.ref(zone)
        self._is_running = False
        self._is_kicked = False
        self._is_closed = False
        self._is_memory_short = False
        self._busy: set[AddressSpace] = set()
        """Those of which a pass has not ended: a store that does not answer keeps nobody else waiting."""
        self._resting_until_s: dict[AddressSpace, float] = {}
        """Those of them whose pass was declined."""
        self._waiter: Waiter | None = None

    def kick(self) -> None:
        """Too much is dirty: begin at once.  Locks: takes the zone's lock."""
        with self._zone.lock:
            self._is_kicked = True
            self._wake()
        self.start()

    def kick_for_memory(self) -> None:
        """Nothing but what is dirty could make room: write back all of it."""
        self._is_memory_short = True
        self.kick()

    def start(self) -> None:
        """Something is dirty: be there.  Locks: takes the zone's lock.  Raises: RuntimeError if there is no thread."""
        with self._zone.lock:
            if self._is_running or self._is_closed:
                return
            self._is_running = True
        zone = self._strong_zone()
        assert zone is not None, "its caller has it"
        try:
            zone.door.start_thread("pagein-flush", partial(self._run, zone))  # ...but not while it is dirty
        except BaseException:
            with self._zone.lock:
                self._is_running = False
            raise

    def close(self) -> None:
        """End the thread.  Locks: takes the zone's lock."""
        with self._zone.lock:
            self._is_closed = True
            self._wake()

    def _run(self, zone: Zone) -> None:
        try:
            with inside():  # who waits for room waits for this thread
                while self._wait(zone):
                    self._turn(zone)
        except BaseException:  # a mistake of ours, of which the thread tells: the next kick starts another
            with zone.lock:
                self._is_running = False
                _wake_waiters(zone)
            raise

    def _wait(self, zone: Zone) -> bool:
        """Until it is time; False to end, because nothing is dirty."""
        with zone.lock:
            # What is under write-back may fail, and be dirty again.
            is_needed = any(mapping.dirty_pages or mapping.under_writeback for mapping in zone.mappings)
            if self._is_closed or not (self._is_kicked or self._busy or is_needed):
                self._is_running = False  # under the lock, so that whoever makes something dirty next starts another
                _wake_who_waits_in_vain(zone)
                return False
            waiter = zone.door.waiter()
            if self._is_kicked:
                waiter.wake()
            else:
                self._waiter = waiter
            until_s = min(self._resting_until_s.values(), default=math.inf)
            pause_s = min(INTERVAL_S, max(0.0, until_s - zone.door.now_s()))
        with resting():
            waiter.wait(pause_s)
        with zone.lock:
            self._waiter = None
            self._is_kicked = False
        return True

    def _turn(self, zone: Zone) -> None:
        with zone.lock:
            now_s, limits = zone.door.now_s(), zone.dirty.limits
            everything, self._is_memory_short = self._is_memory_short, False
            excess_pages = zone.dirty.pages - limits.background_pages
            rested = self._those_who_have_rested(now_s)
            due = []
            for mapping in self._dirty_mappings():
                is_old = now_s - mapping.dirty_since_s >= limits.age_s
                if is_old or everything or excess_pages > 0 or mapping in rested:  # these were due before they rested
                    excess_pages -= mapping.dirty_pages
                    due.append(mapping)
            self._busy.update(due)
            if not due:
                zone.dirty.wake_writers_of_others(self._busy)
            if not (self._busy or zone.dirty.writeback_pages):
                _wake_who_waits_in_vain(zone)
        for mapping in due:
            try:
                zone.workqueue.run_detached(
                    partial(write_back, mapping, Sync.NONE), partial(self._ended, zone, mapping)
                )
            except (ValueError, RuntimeError) as error:  # closed; no thread is to be had
                self._ended(zone, mapping, None, error)

    def _ended(
        self, zone: Zone, mapping: AddressSpace, result: BaseException | None, error: BaseException | None
    ) -> None:
        """A pass has ended.  Its failures have been noted; if it could not be made at all, nobody waits for it."""
        with zone.lock:
            if isinstance(result, Declined):  # it stays busy.  As it was declined, all who wait for it have been woken
                self._resting_until_s[mapping] = zone.door.now_s() + DECLINED_PAUSE_S
                self._wake()
                return
            self._busy.discard(mapping)
            if error is not None:
                zone.dirty.failed(mapping, error)
            is_well = result is None and error is None
            if is_well and 0 < mapping.dirty_pages <= len(mapping.under_writeback):
                return  # another pass stores all that is dirty, as it was: the end of that wakes who waits
            _wake_waiters(zone)
            self._is_kicked |= is_well and bool(mapping.dirty_pages) and zone.dirty.is_too_much
            self._wake()  # there may be more by now

    def _wake(self) -> None:
        """Have the thread look.  Zone's lock held."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.wake()

    def _those_who_have_rested(self, now_s: float) -> list[AddressSpace]:
        """They are no longer busy.  Zone's lock held."""
        rested = [mapping for mapping, until_s in self._resting_until_s.items() if until_s <= now_s]
        for mapping in rested:
            del self._resting_until_s[mapping]
        self._busy.difference_update(rested)
        return rested

    def _dirty_mappings(self) -> list[AddressSpace]:
        """Those with dirty pages, and no pass; the longest dirty first.  Zone's lock held."""
        dirty = [mapping for mapping in self._zone.mappings if mapping.dirty_pages and mapping not in self._busy]
        return sorted(dirty, key=lambda mapping: mapping.dirty_since_s)


def _wake_who_waits_in_vain(zone: Zone) -> None:
    """Nothing is being cleaned, nor is there anything to clean.  Zone's lock held."""
    zone.dirty.wake_writers_of_others()
    zone.wake_memory_waiter()


def _wake_waiters(zone: Zone) -> None:
    """Let who waits for clean pages, or for memory, look again; he kicks again if he has to.  Zone's lock held."""
    zone.dirty.wake_all()
    zone.wake_memory_waiter()
