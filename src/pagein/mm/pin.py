"""Pins: frames that must stay while somebody looks at them without a lock.

Guarantees: from the pin on, a page of it that was seen Uptodate stays where it is, as it is.  The pin of a view
ends by itself, once the view and all that was made from it is released or gone: nobody has to say so, so nobody can
forget to.  How: a memoryview and everything derived from it (slices, casts, numpy arrays) share one managed buffer,
which refers to its exporter.  A PickleBuffer makes the exporter a memoryview of our own, which nobody else has: it is
referred to from elsewhere than its entry here exactly as long as that managed buffer is in use, and its reference
count tells.  A weak reference in place of the entry's strong one would tell it too, and crash: before 3.12.7 the
garbage collector may clear an exporter before the memoryview that uses it (python/cpython#77894), unless the exporter
is no garbage.  For the same reason an entry outlives its arena (`_AFTERLIFE`).
The race: a pin is entered first and Uptodate tested then; removal clears Uptodate first and reads the pins then
(reclaim.remove_runs).  In any order one side sees the other.  Entering into a dict is a locked instruction on
x86-64, so neither side's two steps are reordered there, with the GIL or without.
Not here: making the pages Uptodate (filemap.pin_uptodate); the hit path of a view (pagein.reader).
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable
from sys import getrefcount

Entry = tuple[int, int, memoryview | None]
"""(first frame, stop frame, the memoryview that a view exports; None for a `Pin`, which is ended by hand)."""

SWEEP_AT = 4096
"""Entries of views that have ended are swept out when so many entries have gathered, at a constant cost each."""


class Pins:
    """The pins of an arena.  Every method is safe against every other without a lock: a key is never used again."""

    __slots__ = ("entries", "next_key", "sweep_at")

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.next_key: Callable[[], int] = itertools.count().__next__
        self.sweep_at = SWEEP_AT

    def spans(self) -> list[tuple[int, int]]:
        """The (first frame, stop frame) of every pin that has not ended; the others are swept out."""
        live = _sweep(self.entries)
        self.sweep_at = max(SWEEP_AT, 2 * len(live))
        return live

    def __del__(self) -> None:
        if _sweep(self.entries):
            _AFTERLIFE[id(self.entries)] = self.entries


class Pin:
    """Frames [frame, stop_frame), pinned until `put`, or until the object is gone."""

    __slots__ = ("_key", "_pins")

    def __init__(self, pins: Pins, frame: int, stop_frame: int) -> None:
        self._pins = pins
        self._key = pins.next_key()
        pins.entries[self._key] = frame, stop_frame, None

    def put(self) -> None:
        """End the pin.  Twice does no harm."""
        self._pins.entries.pop(self._key, None)

    __del__ = put


def _sweep(entries: dict[int, Entry]) -> list[tuple[int, int]]:
    live = []
    # dict.copy() is one step for other threads, with the GIL (one call) and without (the dict's own lock).
    for key, entry in entries.copy().items():
        # More references than the entry's own: the view's, or that of the thread which is about to make the view.
        # Another sweep at the same time adds one too, for a moment, which keeps a page longer and harms nobody.
        if entry[2] is None or _references(entry) > _IDLE_REFERENCES:
            live.append(entry[:2])
        else:
            entries.pop(key, None)
    return live


def _references(entry: Entry) -> int:
    return getrefcount(entry[2])


_IDLE_REFERENCES = _references((0, 0, memoryview(b"")))
"""What `_references` says of a memoryview that only its entry refers to; interpreters differ."""

_AFTERLIFE: dict[int, dict[int, Entry]] = {}
"""Entries of arenas that are gone, of views that are not, by `id`: kept until the first garbage collection after the
views' end."""


def _sweep_afterlife(phase: str, info: object) -> None:
    if phase == "stop" and _AFTERLIFE:
        for entries in list(_AFTERLIFE.values()):
            if not _sweep(entries):
                _AFTERLIFE.pop(id(entries), None)


gc.callbacks.append(_sweep_afterlife)
