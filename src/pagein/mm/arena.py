"""An arena: a sparse memory of page frames, and the planes that hold one byte a frame per flag.

Guarantees: page ``index`` of a file is frame ``base + index``, so neighbours in a file are neighbours in
memory; an untouched frame, and its flags, cost nothing; `punch` gives frames back and leaves zeros.
Assumes: whoever punches has cleared ``uptodate`` and bumped the generation first (removal.remove_runs);
everything but the lock-free hit path holds the zone's lock.
Not here: how memory is had (memory.py); which frames to give back (reclaim.py), and what is in them (mapping.py).
"""

from __future__ import annotations

import mmap
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from ..errors import too_large
from ..units import PAGE_SHIFT
from .memory import Memory, memories, populate
from .pin import Pins

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

SHARED_ARENA_PAGES = 1 << 28
"""1 TiB of address space, shared by all files of at most `PRIVATE_ARENA_PAGES`."""
PRIVATE_ARENA_PAGES = 1 << 24
"""A file above 64 GiB has an arena of its own, with base 0, so that it can be handed whole to the kernel."""
ARENA_PAGES_MAX = 1 << 34
"""64 TiB: half of what an x86-64 process can address."""

REGION_SHIFT = 14
"""Frames share a generation in regions of 2**14 (64 MiB)."""
REGION_PAGES = 1 << REGION_SHIFT
_GRAIN_SHIFT = 12
"""The flags of 2**12 frames (16 MiB) fill one memory page of a plane; flags are given back in these steps."""
_PLANES = 5
_PUNCH_BYTES_MAX = 1 << 20
"""One call of madvise() holds the GIL; this bounds it to about a millisecond."""

MARKED = 2
"""In ``uptodate``: Uptodate, and whose reader asks for the next window (Linux: PG_readahead).  The lock-free hit path
takes only a 1 for a hit, so that a marker costs it nothing, and whoever comes to one goes the long way once."""

_PRESENT = re.compile(rb"[^\0]+")
_ONES = [b"\1" * count for count in range(257)]


def ones(count: int) -> bytes:
    """*count* set flags, to assign to a slice of a plane."""
    return _ONES[count] if count < len(_ONES) else b"\1" * count


def frames_for(page_count: int) -> int:
    """How many frames a file of this many pages gets: a power of two in a shared arena, regions in its own."""
    if page_count > PRIVATE_ARENA_PAGES:
        return _round_up(page_count, REGION_PAGES)
    return 1 << max(page_count - 1, 0).bit_length()


class Arena:
    """``page_count`` frames of memory with their planes.

    ``memory`` is the frames; ``uptodate``, ``referenced``, ``lru``, ``dirty`` and ``writeback`` are planes, one
    byte a frame; ``generations`` is one 64-bit number a region, bumped by every removal of pages there.
    ``pins`` are the frames that somebody looks at without a lock, and that are never taken away (pin.py).
    """

    def __init__(self, number: int, page_count: int, *, is_written: bool = False) -> None:
        if page_count > ARENA_PAGES_MAX:
            raise too_large(page_count << PAGE_SHIFT, ARENA_PAGES_MAX << PAGE_SHIFT)
        page_count = _round_up(page_count, REGION_PAGES)
        self.number = number
        self.page_count = page_count
        self.is_written = is_written
        """Whether it is for files that may be written."""
        generations_bytes = _round_up(8 * (page_count >> REGION_SHIFT), mmap.ALLOCATIONGRANULARITY)
        sizes_bytes = {
            "pagein-pages": [page_count << PAGE_SHIFT],
            "pagein-planes": [*_PLANES * [page_count], generations_bytes],
        }
        self._frames: Memory
        self._flags: Memory
        self._frames, self._flags = memories(sizes_bytes, is_private=not is_written)
        self.memory: mmap.mmap = self._frames.maps[0]
        self.uptodate: mmap.mmap
        self.referenced: mmap.mmap
        self.lru: mmap.mmap
        self.dirty: mmap.mmap
        self.writeback: mmap.mmap
        *self._planes, generations = self._flags.maps
        self.uptodate, self.referenced, self.lru, self.dirty, self.writeback = self._planes
        self.generations: memoryview[int] = memoryview(generations).cast("Q")
        self.read_only: memoryview[int] = memoryview(self.memory).toreadonly()
        self.pins: Pins = Pins()
        self._next_frame = 0
        self._free_by_size: defaultdict[int, list[int]] = defaultdict(list)
        self._tracked_pages_by_grain: defaultdict[int, int] = defaultdict(int)

    @property
    def memory_fd(self) -> int:
        """The file that the frames are; -1 if they are private."""
        return self._frames.fd

    def start_anew(self) -> None:
        """After a fork, in the child: empty memory of its own, at the same addresses."""
        self._frames.start_anew()
        self._flags.start_anew()
        self._tracked_pages_by_grain.clear()

    def keep_for_children(self, *, is_kept: bool = True) -> None:
        """Whether children of a fork have the frames as they are then: of who makes them no copy of what views show."""
        self._frames.keep_for_children(is_kept=is_kept)

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # Of a cache that nobody has closed: its views may live on, and a fork knows nothing of them any more.
        pins = getattr(self, "pins", None)
        if pins is not None and not is_finalizing() and pins.spans():
            self.keep_for_children()

    # -- ranges of frames ----------------------------------------------------------------------------

    def reserve(self, frame_count: int) -> int | None:
        """The first frame of a free range of *frame_count* (a power of two), or None if this arena has none.

        Ranges are aligned to their size and reused as they are: address space is free, so it is never compacted.
        """
        free = self._free_by_size[frame_count]
        if free:
            return free.pop()
        first = _round_up(self._next_frame, frame_count)
        if first + frame_count > self.page_count:
            return None
        self._next_frame = first + frame_count
        return first

    def release(self, first_frame: int, frame_count: int) -> None:
        """Give back what `reserve` gave.  The caller has removed every page of it, and forgotten it."""
        if frame_count >> _GRAIN_SHIFT:
            self._punch_flags(first_frame, frame_count)  # what somebody has looked at where no page was
        self._free_by_size[frame_count].append(first_frame)

    def populated(self, first_frame: int, stop_frame: int) -> Iterator[tuple[int, int]]:
        """The runs of Uptodate frames in a range, in order.

        A grain is looked at as a whole, before the caller may have removed its last page: to look at a hole fills it.
        """
        for start, stop in self.tracked(first_frame, stop_frame):
            yield from [run.span() for run in _PRESENT.finditer(self.uptodate, start, stop)]

    def dirty_frames(self, first_frame: int, stop_frame: int) -> Iterator[tuple[int, int]]:
        """The runs of dirty frames in a range, in order."""
        for start, stop in self.tracked(first_frame, stop_frame):
            yield from [run.span() for run in _PRESENT.finditer(self.dirty, start, stop)]

    def first_present(self, first_frame: int, stop_frame: int) -> int:
        """The first Uptodate frame of a range; *stop_frame* if there is none."""
        for start, stop in self.tracked(first_frame, stop_frame):
            found = _PRESENT.search(self.uptodate, start, stop)
            if found:
                return found.start()
        return stop_frame

    def tracked(self, first_frame: int, stop_frame: int) -> Iterator[tuple[int, int]]:
        """Ranges, of one grain at most, that hold every frame of a range one of whose flags is set, in order.

        Without a lock: what is tracked meanwhile may be missed, and what has gone may be looked at once more.
        """
        tracked, first, stop = self._tracked_pages_by_grain, first_frame >> _GRAIN_SHIFT, -(-stop_frame >> _GRAIN_SHIFT)
        if stop - first <= len(tracked):
            grains: Iterable[int] = range(first, stop)
        else:
            grains = sorted(grain for grain in list(tracked) if first <= grain < stop)  # list() is one step
        for grain in grains:
            if grain in tracked:
                yield max(grain << _GRAIN_SHIFT, first_frame), min((grain + 1) << _GRAIN_SHIFT, stop_frame)

    # -- memory --------------------------------------------------------------------------------------

    def write(self, data: ReadableBuffer, position: int) -> None:
        """Copy *data* to byte *position* of the memory."""
        with memoryview(data).cast("B") as whole:
            self._frames.write(whole, position)

    def populate(self, first_frame: int, page_count: int) -> None:
        """Have memory for frames that are about to be filled, if it can be had; other threads run meanwhile."""
        populate(self.memory, first_frame << PAGE_SHIFT, (first_frame + page_count) << PAGE_SHIFT)

    def punch(self, first_frame: int, page_count: int) -> None:
        """Give the memory of a run back to the system; it reads as zeros from now on."""
        start, stop = first_frame << PAGE_SHIFT, (first_frame + page_count) << PAGE_SHIFT
        for at in range(start, stop, _PUNCH_BYTES_MAX):
            self._frames.punch(self.memory, at, min(_PUNCH_BYTES_MAX, stop - at))

    def punch_all(self, first_frame: int, page_count: int) -> None:
        """`punch` in one call, for a range of which nearly everything is a hole already."""
        self._frames.punch(self.memory, first_frame << PAGE_SHIFT, page_count << PAGE_SHIFT)

    def bump_generation(self, first_frame: int, page_count: int) -> None:
        """Tell lock-free readers of a run that it has changed under them."""
        for region in range(first_frame >> REGION_SHIFT, (first_frame + page_count - 1 >> REGION_SHIFT) + 1):
            self.generations[region] += 1

    def track(self, first_frame: int, change: int) -> None:
        """Count the frames of a grain whose ``lru`` is not zero, and give back the planes' memory with the last.

        A page gets its place in ``lru`` before its content, so no other flag of a grain outlives the count.  Who looks
        at what is beside a page may have filled the grain next to its own, which goes with it.
        """
        grain = first_frame >> _GRAIN_SHIFT
        tracked = self._tracked_pages_by_grain[grain] + change
        if tracked:
            self._tracked_pages_by_grain[grain] = tracked
            return
        del self._tracked_pages_by_grain[grain]
        first, stop = grain, grain + 1
        if first and first - 1 not in self._tracked_pages_by_grain:
            first -= 1
        if stop << _GRAIN_SHIFT < self.page_count and stop not in self._tracked_pages_by_grain:
            stop += 1
        self._punch_flags(first << _GRAIN_SHIFT, (stop - first) << _GRAIN_SHIFT)

    def _punch_flags(self, first_frame: int, page_count: int) -> None:
        """Of whole grains, none of which is tracked."""
        for plane in self._planes:
            self._flags.punch(plane, first_frame, page_count)

    def resident_bytes(self, *, is_thorough: bool = False) -> int | None:
        """Memory that the frames truly take, as the system counts it; None where it cannot say.

        Where it has to be asked frame by frame, it is asked of those that are tracked; *is_thorough*: of all that
        files which share an arena were given, which takes 0.2 ms for each GiB of addresses.
        """
        spans = [(0, self._next_frame)] if is_thorough and self._next_frame else self.tracked(0, self.page_count)
        return self._frames.taken_bytes([[(start << PAGE_SHIFT, stop << PAGE_SHIFT) for start, stop in spans]])

    def planes_bytes(self) -> int:
        """Memory that the flags truly take."""
        tracked = list(self.tracked(0, self.page_count))
        return self._flags.taken_bytes([*_PLANES * [tracked], [(0, 8 * len(self.generations))]]) or 0


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step
