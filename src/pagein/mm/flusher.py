"""The flusher: the thread that writes back what has been dirty for too long, or is too much.  Linux: wb_workfn.

Guarantees: one thread a zone, named; it is there from the first dirty page until there is none, or the cache is closed.
What fails is reported by fsync and close, not here.  A file of which a pass has failed, or everything was declined,
rests before the next one, longer each time, however many wait for that, and however much of other files is stored.
Not here: how (writeback.py), how much (dirty.py).
"""

from __future__ import annotations

import math
import weakref
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from .sync import Waiter, inside, resting
from .writeback import Declined, Sync, write_back

if TYPE_CHECKING:
    from .mapping import AddressSpace
    from .zone import Zone

INTERVAL_S = 5.0
"""How often ages are looked at.  Linux: dirty_writeback_centisecs."""

REST_S = 0.1
"""So long a file rests whose pass has failed, or of which the store took nothing, twice as long each time that it is so
again: who waits for it would be woken in vain, and ask at once; and what is too much would be tried without end."""
FAILED_REST_MAX_S = INTERVAL_S
DECLINED_REST_MAX_S = 1.0
"""But no longer: a store that has healed, or has room again, is found by then."""


class _Rest(NamedTuple):
    """Of a file whose pass was in vain: until when; and why it failed, if something of it has."""

    until_s: float
    is_declined: bool
    failure: BaseException | None

    def is_over(self, mapping: AddressSpace, now_s: float) -> bool:
        """Whether the next pass may begin: also when another has stored something of what has failed."""
        has_healed = self.failure is not None and mapping.last_failure is None
        return self.until_s <= now_s or has_healed


class Flusher:
    """The flusher of one zone.  The zone's lock guards its state."""

    def __init__(self, zone: Zone) -> None:
        self._zone = weakref.proxy(zone)  # no cycle: a cache that nobody has goes at once...
        self._strong_zone = weakref.ref(zone)
        self._is_running = False
        self._is_kicked = False
        self._is_closed = False
        self._is_memory_short = False
        self._tries_again = False
        self._busy: set[AddressSpace] = set()
        """Those of which a pass has not ended: a store that does not answer keeps nobody else waiting."""
        self._resting: dict[AddressSpace, _Rest] = {}
        """Those of them whose pass was in vain."""
        self._rests_s: dict[AddressSpace, float] = {}
        """How long the last rest was of those of which no pass was good since, as long as they are dirty."""
        self._waiter: Waiter | None = None

    def kick(self, *, for_memory: bool = False, tries_again: bool = False) -> None:
        """Too much is dirty: begin at once.  Locks: takes the zone's lock.

        *for_memory*: nothing but what is dirty could make room: with all of it.  *tries_again*: also with what has
        failed and rests, because nothing else could be cleaned: who waits hears what becomes of that.
        """
        with self._zone.lock:
            self._is_kicked = True
            self._is_memory_short |= for_memory
            self._tries_again |= tries_again
            self._wake()
        self.start()

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
                _wake_waiters(zone)  # who has kicked meanwhile took it for one that runs: he tries it himself
            raise

    def close(self) -> None:
        """End the thread.  Locks: takes the zone's lock."""
        with self._zone.lock:
            self._is_closed = True
            self._busy.difference_update(self._resting)  # no turn comes that would do so: they would stay, in a cycle
            self._resting.clear()
            self._rests_s.clear()
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
                self._rests_s.clear()
                _wake_who_waits_in_vain(zone)
                return False
            waiter = zone.door.waiter()
            if self._is_kicked:
                waiter.wake()
            else:
                self._waiter = waiter
            until_s = min((rest.until_s for rest in self._resting.values()), default=math.inf)
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
            due_before = self._end_rests(now_s)
            due = []
            for mapping in self._dirty_mappings():
                is_old = now_s - mapping.dirty_since_s >= limits.age_s
                if is_old or everything or excess_pages > 0 or mapping in due_before:
                    excess_pages -= mapping.dirty_pages
                    due.append(mapping)
            self._busy.update(due)
            if not due:
                zone.dirty.wake_writers_of_others(self._busy.difference(self._resting))
            if not (self._busy or zone.dirty.writeback_pages):
                _wake_who_waits_in_vain(zone)
        self._begin(zone, due)

    def _begin(self, zone: Zone, due: list[AddressSpace]) -> None:
        begun = 0
        try:
            for mapping in due:
                try:
                    zone.workqueue.run_detached(
                        partial(write_back, mapping, Sync.NONE), partial(self._ended, zone, mapping)
                    )
                except (ValueError, RuntimeError, MemoryError) as error:  # closed; no thread, or no memory is to be had
                    self._ended(zone, mapping, None, error)
                begun += 1
        except BaseException:  # a mistake of ours, with which the thread ends: the others must not stay busy
            with zone.lock:
                self._busy.difference_update(due[begun:])
            raise

    def _ended(
        self, zone: Zone, mapping: AddressSpace, result: BaseException | None, error: BaseException | None
    ) -> None:
        """A pass has ended.  Its failures have been noted; if it could not be made at all, nobody waits for it."""
        failure = error or result
        is_declined = isinstance(failure, Declined)
        with zone.lock:
            if error is not None:
                zone.dirty.failed(mapping, error)
            if failure is None or self._is_closed:
                self._rests_s.pop(mapping, None)
                self._busy.discard(mapping)
            else:
                self._let_rest(mapping, zone.door.now_s(), is_declined=is_declined)
            if failure is None and _is_on_its_way(mapping):
                return  # the end of that wakes who waits
            if not is_declined:  # else all who wait for it have been woken
                _wake_waiters(zone)
            self._is_kicked |= failure is None and bool(mapping.dirty_pages) and zone.dirty.is_too_much
            self._wake()  # there may be more by now

    def _let_rest(self, mapping: AddressSpace, now_s: float, *, is_declined: bool) -> None:
        """It stays busy, longer than the last time unless something of it was stored after the failure.  Zone's lock
        held."""
        failure = None if is_declined else mapping.last_failure
        last_s = self._rests_s.get(mapping, 0.0) if is_declined or failure is not None else 0.0
        longest_s = DECLINED_REST_MAX_S if is_declined else FAILED_REST_MAX_S
        rest_s = self._rests_s[mapping] = min(max(2 * last_s, REST_S), longest_s)
        self._resting[mapping] = _Rest(now_s + rest_s, is_declined, failure)

    def _end_rests(self, now_s: float) -> set[AddressSpace]:
        """Those that have rested are no longer busy; those of them that are due.  Zone's lock held.

        What was declined is: it was before, perhaps only for who waits for memory.  What has failed is where somebody
        waits for memory: he may have sent for it in vain while it rested.  Else it is as any other: who waited has been
        told.
        """
        tries_again, self._tries_again = self._tries_again, False
        due = set()
        for mapping, rest in list(self._resting.items()):
            if rest.is_over(mapping, now_s) or (tries_again and not rest.is_declined):
                del self._resting[mapping]
                self._busy.discard(mapping)
                if rest.is_declined or self._zone.memory_waiters:
                    due.add(mapping)
        for mapping in list(self._rests_s):
            if not (mapping in self._busy or mapping.dirty_pages or mapping.under_writeback):
                del self._rests_s[mapping]
        return due

    def _wake(self) -> None:
        """Have the thread look.  Zone's lock held."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.wake()

    def _dirty_mappings(self) -> list[AddressSpace]:
        """Those with dirty pages, and no pass; the longest dirty first.  Zone's lock held."""
        dirty = [mapping for mapping in self._zone.mappings if mapping.dirty_pages and mapping not in self._busy]
        return sorted(dirty, key=lambda mapping: mapping.dirty_since_s)


def _is_on_its_way(mapping: AddressSpace) -> bool:
    """Whether all of it that is dirty is being stored, as it was, by another pass.  Zone's lock held."""
    stored = mapping.under_writeback
    if not 0 < mapping.dirty_pages <= len(stored):
        return False
    runs = mapping.dirty_runs(0, mapping.frame_count)
    return all(all(map(stored.__contains__, range(first, first + count))) for first, count in runs)


def _wake_who_waits_in_vain(zone: Zone) -> None:
    """Nothing is being cleaned, nor is there anything to clean.  Zone's lock held."""
    zone.dirty.wake_writers_of_others()
    zone.wake_memory_waiter()


def _wake_waiters(zone: Zone) -> None:
    """Let who waits for clean pages, or for memory, look again; he kicks again if he has to.  Zone's lock held."""
    zone.dirty.wake_all()
    zone.wake_memory_waiter()
