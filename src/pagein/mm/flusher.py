"""The flusher: the thread that writes back what has been dirty for too long, or is too much.  Linux: wb_workfn.

Guarantees: one thread a zone, named; it is there from the first dirty page until there is none, or the cache is closed.
What fails is tried again at the next turn; it is reported by fsync and close, not here.
Not here: how (writeback.py), how much (dirty.py).
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING

from .sync import Waiter, run_steps
from .writeback import Sync, write_back

if TYPE_CHECKING:
    from .mapping import AddressSpace
    from .zone import Zone

INTERVAL_S = 5.0
"""How often ages are looked at.  Linux: dirty_writeback_centisecs."""


class Flusher:
    """The flusher of one zone.  The zone's lock guards its state."""

    def __init__(self, zone: Zone) -> None:
        self._zone = weakref.proxy(zone)  # no cycle: a cache that nobody has goes at once...
        self._strong_zone = weakref.ref(zone)
        self._is_running = False
        self._is_kicked = False
        self._is_closed = False
        self._is_memory_short = False
        self._waiter: Waiter | None = None

    def kick(self) -> None:
        """Too much is dirty: begin at once.  Locks: takes the zone's lock."""
        with self._zone.lock:
            self._is_kicked = True
            waiter, self._waiter = self._waiter, None
            if waiter is not None:
                waiter.wake()
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
            waiter, self._waiter = self._waiter, None
            if waiter is not None:
                waiter.wake()

    def _run(self, zone: Zone) -> None:
        try:
            while self._wait():
                self._turn(zone)
        except BaseException:  # a mistake of ours, of which the thread tells: the next kick starts another
            self._is_running = False
            raise

    def _wait(self) -> bool:
        """Until it is time; False to end, because nothing is dirty."""
        with self._zone.lock:
            # Pages under write-back may fail, and be dirty again.
            if self._is_closed or not (self._is_kicked or self._dirty_mappings()):
                self._is_running = False  # under the lock, so that whoever makes something dirty next starts another
                self._zone.dirty.wake_all()
                return False
            waiter = self._zone.door.waiter()
            if self._is_kicked:
                waiter.wake()
            else:
                self._waiter = waiter
        waiter.wait(INTERVAL_S)
        with self._zone.lock:
            self._waiter = None
            self._is_kicked = False
        return True

    def _turn(self, zone: Zone) -> None:
        with zone.lock:
            mappings = self._dirty_mappings()
            now_s = zone.door.now_s()
            everything, self._is_memory_short = self._is_memory_short, False
        for mapping in mappings:
            is_old = now_s - mapping.dirty_since_s >= zone.dirty.limits.age_s
            if is_old or everything or zone.dirty.pages > zone.dirty.limits.background_pages:
                run_steps(write_back(mapping, Sync.NONE, zone.door.waiter))
        with zone.lock:
            if not any(mapping.dirty_pages for mapping in mappings):
                zone.dirty.wake_all()  # who waits for pages to be cleaned waits for nothing

    def _dirty_mappings(self) -> list[AddressSpace]:
        """Those with dirty pages, the longest dirty first.  Zone's lock held."""
        dirty = [mapping for mapping in self._zone.mappings if mapping.dirty_pages or mapping.under_writeback]
        return sorted(dirty, key=lambda mapping: mapping.dirty_since_s)
