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
(removal.remove_runs).  In any order one side sees the other.  Appending to a list takes a locked instruction on
x86-64 without the GIL, and with it there is no reordering between threads.
Not here: making the pages Uptodate (filemap.pin_parts); the hit path of a view (pagein.reader).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from itertools import count
from sys import getrefcount

Entry = tuple[int, int, object]
"""(first frame, stop frame, what nobody else refers to once the pin has ended)."""

SWEEP_AT = 4096
"""Entries of pins that have ended are swept out when so many have gathered, at a constant cost each: with fewer, the
switch to the worker that does it costs more than the sweep."""


class Pins:
    """The pins of an arena.  Whoever appends to ``entries`` takes no lock, and looks at ``sweep_at`` now and then."""

    __slots__ = ("append", "entries", "files", "sweep_at")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.append: Callable[[Entry], None] = self.entries.append
        """Bound once, for all files."""
        self.sweep_at: int = SWEEP_AT
        self.files: Iterator[int] = count()
        """Numbers the files that may append."""

    def spans(self) -> list[tuple[int, int]]:
        """The (first frame, stop frame) of every pin that has not ended."""
        # list.copy() is one step for other threads, with the GIL (one call) and without (the list's own lock).
        return [entry[:2] for entry in _live(self.entries.copy(), _IDLE_REFERENCES)]

    def sweep(self) -> None:
        """Let go of the pins that have ended.  Locks: the zone's lock is held, so that one sweeps at a time."""
        entries = self.entries.copy()
        live = _live(entries, _IDLE_REFERENCES)
        self.entries[: len(entries)] = live  # one step again; what was appended meanwhile stays behind it
        self.sweep_at = max(SWEEP_AT, 2 * len(live))

    def __del__(self) -> None:
        if _live is None:  # at the interpreter's end: this module has gone
            return
        if self.spans():
            _AFTERLIFE[id(self)] = self
            if _sweep_afterlife not in gc.callbacks:
                gc.callbacks.append(_sweep_afterlife)


class Pin:
    """Frames [frame, stop_frame), pinned until `put`, or until the object is gone."""

    __slots__ = ("_token",)

    def __init__(self, pins: Pins, frame: int, stop_frame: int) -> None:
        self._token: object = object()
        pins.entries.append((frame, stop_frame, self._token))

    def put(self) -> None:
        """End the pin.  Twice does no harm."""
        self._token = None


def _live(entries: list[Entry], idle_references: int) -> list[Entry]:
    """Those whose last part is referred to from elsewhere too: by what a view exports, by a `Pin`, or by the thread
    that is about to make the view.  Who looks at the same time adds one, which keeps a page longer and harms nobody."""
    return [entry for entry in entries if getrefcount(entry[2]) > idle_references]


_IDLE_REFERENCES = next(number for number in range(100) if not _live([(0, 0, object())], number))
"""What getrefcount() says there of an object to which only its entry refers; interpreters differ."""

_AFTERLIFE: dict[int, Pins] = {}
"""Pins of arenas that are gone, of views that are not: kept until the first garbage collection after the views' end."""


def _sweep_afterlife(phase: str, info: object) -> None:
    """Called around each garbage collection once there is anything: in Python code that the collector calls, what a
    signal handler raises is lost."""
    if phase == "stop" and _AFTERLIFE:
        for pins in list(_AFTERLIFE.values()):
            if not pins.spans():
                _AFTERLIFE.pop(id(pins), None)
