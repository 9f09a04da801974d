"""The queues that reclaim chooses from: small, main and ghost, as runs of frames in arrays.

Guarantees: a run in a queue costs 8 bytes, however long it is; a page's only true place is its byte in the
``lru`` plane, so an entry whose pages have moved or gone is merely stale, and is dropped when it comes up.
Assumes: the zone's lock is held.
Not here: who is evicted (reclaim.py).
Source of the three queues: Yang et al., "FIFO queues are all you need for cache eviction" (SOSP 2023);
the ghost queue stands for the shadow entries of Linux's workingset.c.
"""

from __future__ import annotations

import sys
from array import array
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import NamedTuple

from .arena import Arena, ones

NOT_QUEUED, SMALL, MAIN, GHOST = range(4)
"""Values of the ``lru`` plane..."""
READ_AHEAD = 4
"""...to which this is added for a page that came without being asked for: its first hit is its first use."""
SPARED = 8
"""To which this is added for one that has been passed over once, because its reader may be on the way."""
PAID = 32
"""To which this is added once its use has been counted: what its reader has earned by it he earns once."""
_QUEUE_MASK = 3
_MARK = 0x10
"""Added while a page is out of its queue to be decided on: another, stale entry of it is then not taken for it."""

RUN_PAGES_MAX = 256
"""A run's length in a queue: 1 MiB, so that a verdict on a run is never a verdict on a whole file."""
_CHUNK = 1024
_COUNT_BITS, _FRAME_BITS = 9, 34


class Run(NamedTuple):
    """Neighbouring frames of one arena."""

    arena: Arena
    frame: int
    page_count: int


class Queues:
    """The small, main and ghost queues of a zone.  ``pages[queue]`` counts the pages truly in each."""

    def __init__(self, arenas: Mapping[int, Arena], ghost_pages_max: int) -> None:
        self.ghost_pages_max = ghost_pages_max
        self.pages: list[int] = [0, 0, 0, 0]
        self._arenas = arenas
        self._fifos = [_Fifo() for _ in range(4)]
        self._queued_pages = [0, 0, 0, 0]

    def insert(self, run: Run, *, read_ahead: bool) -> int:
        """Queue the pages of a run that become resident: those evicted lately into main, the others into small.

        Returns how many were evicted lately (refaults).
        """
        refaults = 0
        for was, same in split_by_flag(run, _places(run)):
            if was == GHOST:
                refaults += same.page_count
                self.push(same, MAIN, was)
            else:
                self.push(same, SMALL | READ_AHEAD * read_ahead, was)
        return refaults

    def push(self, run: Run, queue: int, was: int) -> None:
        """Move a run, whose pages all are in queue *was*, to the tail of *queue* (or out, with NOT_QUEUED)."""
        self._push(run, queue, was)
        self._forget_oldest_ghosts()

    def move(self, run: Run, queue: int) -> None:
        """Move every page of a run, wherever each is, to the tail of *queue* (or out, with NOT_QUEUED)."""
        for was, same in split_by_flag(run, _places(run)):
            if (was, queue) != (NOT_QUEUED, NOT_QUEUED):
                self._push(same, queue, was)
        self._forget_oldest_ghosts()  # not before: some of them may be among those whose place was looked up

    def pop(self, queue: int) -> list[Run]:
        """The oldest pages of a queue, nothing if it is empty.  The caller pushes, unpops or requeues each run."""
        fifo = self._fifos[queue]
        while fifo:
            valid = self._unpack(fifo.pop(), queue)
            if valid:
                for run in valid:
                    _set_plane(run, run.arena.lru[run.frame] | _MARK)
                return valid
        return []

    def requeue(self, run: Run) -> None:
        """Put at the tail what of a run `pop` gave; the rest of it stands where it is."""
        for place, same in split_by_flag(run, _places(run)):
            if place & _MARK:
                self._push(same, place & ~_MARK, place)
        self._forget_oldest_ghosts()

    def forget_range(self, run: Run) -> None:
        """Take every page of a range out, the remembered ones too: its frames become another file's."""
        for start, stop in run.arena.tracked(run.frame, run.frame + run.page_count):
            self.move(Run(run.arena, start, stop - start), NOT_QUEUED)

    def unpop(self, run: Run, queue: int) -> None:
        """Put back at the head what `pop` gave."""
        _set_plane(run, run.arena.lru[run.frame] & ~_MARK)
        self._fifos[queue].unpop(_pack(run))
        self._queued_pages[queue] += run.page_count

    def size_bytes(self) -> int:
        """Memory of the entries themselves."""
        return sum(fifo.size_bytes() for fifo in self._fifos)

    def _push(self, run: Run, queue: int, was: int) -> None:
        for piece in _pieces(run):
            self._set_places(piece, queue, was)
            if queue != NOT_QUEUED:
                self._enqueue(piece, queue & _QUEUE_MASK)

    def _forget_oldest_ghosts(self) -> None:
        while self.pages[GHOST] > self.ghost_pages_max:
            for old in self.pop(GHOST):
                self._push(old, NOT_QUEUED, GHOST)

    def _unpack(self, packed: int, queue: int) -> list[Run]:
        page_count = packed & (1 << _COUNT_BITS) - 1
        frame = packed >> _COUNT_BITS & (1 << _FRAME_BITS) - 1
        self._queued_pages[queue] -= page_count
        arena = self._arenas.get(packed >> _COUNT_BITS + _FRAME_BITS)
        if arena is None:  # it went with its file
            return []
        run = Run(arena, frame, page_count)
        own = READ_AHEAD | SPARED | PAID
        return [same for where, same in split_by_flag(run, _places(run)) if where & ~own == queue]

    def _set_places(self, run: Run, place: int, was: int) -> None:
        arena, frame, count = run
        _set_plane(run, place)
        if was != NOT_QUEUED:
            self.pages[was & _QUEUE_MASK] -= count
        if place != NOT_QUEUED:
            self.pages[place & _QUEUE_MASK] += count
        if (was == NOT_QUEUED) != (place == NOT_QUEUED):
            arena.track(frame, count if was == NOT_QUEUED else -count)

    def _enqueue(self, run: Run, queue: int) -> None:
        self._fifos[queue].push(_pack(run))
        self._queued_pages[queue] += run.page_count
        # Pages that leave without reclaim (a dropped file) leave stale entries: in a cache that never fills up
        # they would pile up for ever.  Twice the truth keeps the clean-up at a constant cost an entry.
        if self._queued_pages[queue] > 2 * self.pages[queue] + 4 * _CHUNK:
            self._compact(queue)

    def _compact(self, queue: int) -> None:
        old, self._fifos[queue] = self._fifos[queue], _Fifo()
        kept: list[Run] = []
        while old:
            for run in self._unpack(old.pop(), queue):
                # Marked at its first, oldest entry, so that a later entry of the same page is stale.
                _set_plane(run, run.arena.lru[run.frame] | _MARK)
                kept.append(run)
        for run in kept:
            _set_plane(run, run.arena.lru[run.frame] & ~_MARK)
            self._enqueue(run, queue)


def split_by_flag(run: Run, flags: bytes) -> Iterator[tuple[int, Run]]:
    """The pieces of a run whose byte in *flags* is the same, each with that byte, in order."""
    if flags.count(flags[0]) == len(flags):  # almost always: one search at C speed
        yield flags[0], run
        return
    frame = run.frame
    for flag, same in groupby(flags):
        page_count = sum(1 for _ in same)
        yield flag, Run(run.arena, frame, page_count)
        frame += page_count


_IS_READ_AHEAD = bytes(flags & READ_AHEAD and 1 for flags in range(256))


def read_ahead_flags(run: Run) -> bytes:
    """A byte a page: 1 if it came without being asked for, and has not been used for certain since."""
    return run.arena.lru[run.frame : run.frame + run.page_count].translate(_IS_READ_AHEAD)


def unused_flags(run: Run) -> bytes:
    """A byte a page: 1 if it came without being asked for, and nobody has asked for it since."""
    ahead = read_ahead_flags(run)
    if 1 not in ahead:
        return ahead
    used = run.arena.referenced[run.frame : run.frame + run.page_count]
    unused = int.from_bytes(ahead, "little") & ~int.from_bytes(used, "little")
    return unused.to_bytes(run.page_count, "little")


_IS_UNPAID = bytes(flags & READ_AHEAD and not flags & PAID for flags in range(256))


def pay_for_used(run: Run, *, now_pages: int = 0) -> int:
    """How many pages came without being asked for and have been used, or are among the last *now_pages*, which are used
    now; of those that were not counted before."""
    arena, stop = run.arena, run.frame + run.page_count
    # A reader may have passed over much where no page ever was.
    spans = arena.tracked(run.frame, stop)
    return sum(_pay_for_used(Run(arena, at, end - at), min(max(at, stop - now_pages), end)) for at, end in spans)


def _pay_for_used(run: Run, now_frame: int) -> int:
    """Those from *now_frame* on are used now."""
    arena, place = run.arena, slice(run.frame, run.frame + run.page_count)
    unpaid = arena.lru[place].translate(_IS_UNPAID)
    if 1 not in unpaid:
        return 0
    referenced = arena.referenced[run.frame : now_frame] + ones(place.stop - now_frame)
    used = int.from_bytes(unpaid, "little") & int.from_bytes(referenced, "little")
    paid = int.from_bytes(arena.lru[place], "little") | used * PAID
    arena.lru[place] = paid.to_bytes(run.page_count, "little")
    return used.bit_count()


def use_read_ahead(run: Run) -> None:
    """Note a first use: of the pages that came without being asked for."""
    ahead = read_ahead_flags(run)
    if 1 in ahead:
        place = slice(run.frame, run.frame + run.page_count)
        used = int.from_bytes(ahead, "little") | int.from_bytes(run.arena.referenced[place], "little")
        run.arena.referenced[place] = used.to_bytes(run.page_count, "little")


def _pack(run: Run) -> int:
    return (run.arena.number << _FRAME_BITS | run.frame) << _COUNT_BITS | run.page_count


def _places(run: Run) -> bytes:
    return run.arena.lru[run.frame : run.frame + run.page_count]


def _set_plane(run: Run, place: int) -> None:
    run.arena.lru[run.frame : run.frame + run.page_count] = bytes([place]) * run.page_count


def _pieces(run: Run) -> Iterator[Run]:
    """A run cut where `RUN_PAGES_MAX` frames end, so that no piece spans two grains of a plane either."""
    arena, frame, left = run
    while left:
        count = min(left, RUN_PAGES_MAX - frame % RUN_PAGES_MAX)
        yield Run(arena, frame, count)
        frame, left = frame + count, left - count


class _Fifo:
    """Numbers of 64 bits, first in first out, in chunks of arrays."""

    __slots__ = ("_chunks", "_head")

    def __init__(self) -> None:
        self._chunks: deque[array[int]] = deque()
        self._head = 0

    def push(self, value: int) -> None:
        if not self._chunks or len(self._chunks[-1]) == _CHUNK:
            self._chunks.append(array("Q"))
        self._chunks[-1].append(value)

    def pop(self) -> int:
        """The oldest.  Raises IndexError if there is none."""
        chunk = self._chunks[0]
        value = chunk[self._head]
        self._head += 1
        if self._head == len(chunk):
            self._chunks.popleft()
            self._head = 0
        return value

    def unpop(self, value: int) -> None:
        """Put a number back at the head."""
        if self._head:
            self._head -= 1
            self._chunks[0][self._head] = value
        else:
            self._chunks.appendleft(array("Q", (value,)))

    def size_bytes(self) -> int:
        """Memory of the chunks, of which the last may be half empty."""
        return sum(map(sys.getsizeof, self._chunks))

    def __bool__(self) -> bool:
        return bool(self._chunks)
