"""An arena: a sparse memory of page frames, and the planes that hold one byte a frame per flag.

Guarantees: page ``index`` of a file is frame ``base + index``, so neighbours in a file are neighbours in
memory; an untouched frame, and its flags, cost nothing; `punch` gives frames back and leaves zeros.
Assumes: whoever punches has cleared ``uptodate`` and bumped the generation first (removal.remove_runs);
everything but the lock-free hit path holds the zone's lock.
Source: shared-memory files and hole punching, memfd_create(2) and madvise(2) MADV_REMOVE.  Elsewhere than
on Linux the memory is anonymous: it cannot be handed to another process, and its residency is an estimate.
Not here: which frames to give back (reclaim.py), and what is in them (mapping.py).
"""

from __future__ import annotations

import mmap
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ..errors import too_large
from ..units import PAGE_SHIFT, PAGE_SIZE
from . import populate
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
_PUNCH_BYTES_MAX = 1 << 20
"""One call of madvise() holds the GIL; this bounds it to about a millisecond."""

_FLAG_PLANES = 5
_UPTODATE, _LRU, _DIRTY = 0, 2, 3
"""Where two of the planes lie in their file."""
_MAP_FIXED = 0x10
"""mman.h's value on Linux, macOS and the BSDs; Python's mmap does not name it."""
_CAN_PUNCH = hasattr(mmap, "MADV_REMOVE") and mmap.PAGESIZE == PAGE_SIZE
"""Where not, removed pages are zeroed but their memory stays with the process."""

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

    def __init__(self, number: int, page_count: int) -> None:
        if page_count > ARENA_PAGES_MAX:
            raise too_large(page_count << PAGE_SHIFT, ARENA_PAGES_MAX << PAGE_SHIFT)
        page_count = _round_up(page_count, REGION_PAGES)
        self.number = number
        self.page_count = page_count
        self._generations_bytes = _round_up(8 * (page_count >> REGION_SHIFT), mmap.ALLOCATIONGRANULARITY)
        self._make_files()
        self.memory: mmap.mmap = _map(self.memory_fd, 0, page_count << PAGE_SHIFT)
        self.uptodate: mmap.mmap
        self.referenced: mmap.mmap
        self.lru: mmap.mmap
        self.dirty: mmap.mmap
        self.writeback: mmap.mmap
        self.uptodate, self.referenced, self.lru, self.dirty, self.writeback, generations = self._planes = [
            _map(self._planes_fd, offset, size) for offset, size in self._plane_spans()
        ]
        self.generations: memoryview[int] = memoryview(generations).cast("Q")
        self.read_only: memoryview[int] = memoryview(self.memory).toreadonly()
        self.pins: Pins = Pins()
        self._next_frame = 0
        self._free_by_size: defaultdict[int, list[int]] = defaultdict(list)
        self._tracked_pages_by_grain: defaultdict[int, int] = defaultdict(int)

    def _make_files(self) -> None:
        self.memory_fd: int = _sparse_file("pagein-pages", self.page_count << PAGE_SHIFT)
        self._planes_fd = _sparse_file("pagein-planes", _FLAG_PLANES * self.page_count + self._generations_bytes)

    def _plane_spans(self) -> list[tuple[int, int]]:
        """Where each plane lies in their file: (offset, size) in bytes; the generations come last."""
        flags = [(plane * self.page_count, self.page_count) for plane in range(_FLAG_PLANES)]
        return [*flags, (_FLAG_PLANES * self.page_count, self._generations_bytes)]

    def start_anew(self) -> None:
        """After a fork, in the child: new, empty memory in place of the parent's, at the same addresses."""
        old_fds = self.memory_fd, self._planes_fd
        self._make_files()
        _map_over(self.memory, self.memory_fd, 0)
        for plane, (offset, _) in zip(self._planes, self._plane_spans(), strict=True):
            _map_over(plane, self._planes_fd, offset)
        for old_fd, new_fd in zip(old_fds, (self.memory_fd, self._planes_fd), strict=True):
            _replace_descriptors(old_fd, new_fd)
        self._tracked_pages_by_grain.clear()

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

        Holes of the plane are skipped by SEEK_DATA: to look at a hole through the mapping would fill it.  So a grain
        is looked at as a whole, before the caller may have removed its last page.
        """
        for start, stop in self._with_memory(_UPTODATE, first_frame, stop_frame):
            yield from [run.span() for run in _PRESENT.finditer(self.uptodate, start, stop)]

    def dirty_frames(self, first_frame: int, stop_frame: int) -> Iterator[tuple[int, int]]:
        """The runs of dirty frames in a range, in order."""
        for start, stop in self._with_memory(_DIRTY, first_frame, stop_frame):
            yield from [run.span() for run in _PRESENT.finditer(self.dirty, start, stop)]

    def first_present(self, first_frame: int, stop_frame: int) -> int:
        """The first Uptodate frame of a range; *stop_frame* if there is none.

        For who is about to bring the first: its grain is no hole then.  The others may be.
        """
        grain_stop = min(((first_frame >> _GRAIN_SHIFT) + 1) << _GRAIN_SHIFT, stop_frame)
        found = _PRESENT.search(self.uptodate, first_frame, grain_stop)
        if found:
            return found.start()
        for start, stop in self._with_memory(_UPTODATE, grain_stop, stop_frame):
            found = _PRESENT.search(self.uptodate, start, stop)
            if found:
                return found.start()
        return stop_frame

    def tracked(self, first_frame: int, stop_frame: int) -> list[tuple[int, int]]:
        """Ranges, of one grain at most, that hold every frame of a range whose ``lru`` is not zero."""
        return list(self._with_memory(_LRU, first_frame, stop_frame))

    def tracked_grains(self, first_frame: int, stop_frame: int) -> Iterator[tuple[int, int]]:
        """`tracked`, by what is counted: for a range of few grains."""
        for grain in range(first_frame >> _GRAIN_SHIFT, (stop_frame - 1 >> _GRAIN_SHIFT) + 1):
            if grain in self._tracked_pages_by_grain:
                yield max(grain << _GRAIN_SHIFT, first_frame), min((grain + 1) << _GRAIN_SHIFT, stop_frame)

    def _with_memory(self, plane: int, first_frame: int, stop_frame: int) -> Iterator[tuple[int, int]]:
        """The parts of a range, grain by grain, in which a plane is no hole."""
        shift, position = plane * self.page_count, first_frame
        while position < stop_frame:
            if self._planes_fd >= 0:
                try:
                    position = max(position, os.lseek(self._planes_fd, shift + position, os.SEEK_DATA) - shift)
                except OSError:  # ENXIO: no more data
                    return
                if position >= stop_frame:
                    return
            grain_stop = min(((position >> _GRAIN_SHIFT) + 1) << _GRAIN_SHIFT, stop_frame)
            yield position, grain_stop
            position = grain_stop

    # -- memory --------------------------------------------------------------------------------------

    def write(self, data: ReadableBuffer, position: int) -> None:
        """Copy *data* to byte *position* of the memory.

        By a system call where there is a file: other threads run meanwhile, and the pages are not zeroed first.
        """
        with memoryview(data).cast("B") as left:
            if self.memory_fd < 0:
                self.memory[position : position + len(left)] = left
                return
            written = 0
            while written < len(left):
                written += os.pwrite(self.memory_fd, left[written:], position + written)

    def populate(self, first_frame: int, page_count: int) -> None:
        """Have memory for frames that are about to be filled, if it can be had; other threads run meanwhile."""
        populate.populate(self.memory, first_frame << PAGE_SHIFT, (first_frame + page_count) << PAGE_SHIFT)

    def punch(self, first_frame: int, page_count: int) -> None:
        """Give the memory of a run back to the system; it reads as zeros from now on."""
        start, stop = first_frame << PAGE_SHIFT, (first_frame + page_count) << PAGE_SHIFT
        for at in range(start, stop, _PUNCH_BYTES_MAX):
            _punch(self.memory, at, min(_PUNCH_BYTES_MAX, stop - at))

    def punch_all(self, first_frame: int, page_count: int) -> None:
        """`punch` in one call, for a range of which nearly everything is a hole already."""
        _punch(self.memory, first_frame << PAGE_SHIFT, page_count << PAGE_SHIFT)

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
        for plane in self._planes[:_FLAG_PLANES]:
            _punch(plane, first_frame, page_count)

    def resident_bytes(self) -> int | None:
        """Memory that the frames truly take, as the system counts it (st_blocks); None where it cannot say."""
        return os.fstat(self.memory_fd).st_blocks * 512 if self.memory_fd >= 0 else None

    def planes_bytes(self) -> int:
        """Memory that the flags truly take."""
        return os.fstat(self._planes_fd).st_blocks * 512 if self._planes_fd >= 0 else 0

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # at the interpreter's end `os` may be gone
        # With the last object that shows it, and not before: to unmap under a late reader would kill the process,
        # and a descriptor that is closed under one may be another's by the time it is used.
        for fd in (getattr(self, "memory_fd", -1), getattr(self, "_planes_fd", -1)):
            if fd >= 0:
                close(fd)


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step


def _sparse_file(name: str, size_bytes: int) -> int:
    """A file in memory of this size with nothing in it, or -1 where the system has none."""
    if not hasattr(os, "memfd_create"):
        return -1
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    os.ftruncate(fd, size_bytes)
    return fd


def _map(fd: int, offset_bytes: int, size_bytes: int) -> mmap.mmap:
    """Map a part of a sparse file; anonymous memory, still sparse, if there is no file."""
    return mmap.mmap(fd, size_bytes, offset=offset_bytes if fd >= 0 else 0)


def _map_over(memory: mmap.mmap, fd: int, offset_bytes: int) -> None:
    """Map a part of a file, or of nothing, in place of what *memory* maps.  `mmap.mmap` cannot say MAP_FIXED."""
    import ctypes  # only a forked child needs it

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *3 * (ctypes.c_int,), ctypes.c_long)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    flags = mmap.MAP_SHARED | _MAP_FIXED | (mmap.MAP_ANONYMOUS if fd < 0 else 0)
    mapped = libc.mmap(address, len(memory), mmap.PROT_READ | mmap.PROT_WRITE, flags, fd, offset_bytes)
    if mapped != address:
        # To go on would mean to write to the parent's pages.
        raise SystemError(f"cannot give a forked child a cache of its own: {os.strerror(ctypes.get_errno())}")


def _replace_descriptors(old_fd: int, new_fd: int) -> None:
    """Have every descriptor of an old file (`mmap.mmap` keeps one each) name the new one, so that the child does
    not keep the parent's memory alive."""
    if old_fd < 0 or not os.path.isdir("/proc/self/fd"):
        return
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            same = os.path.sameopenfile(fd, old_fd)
        except OSError:  # the directory's own descriptor, closed by now
            continue
        if same and fd != old_fd:
            os.dup2(new_fd, fd, inheritable=False)
    os.close(old_fd)


def _punch(memory: mmap.mmap, start: int, size_bytes: int) -> None:
    if _CAN_PUNCH:
        memory.madvise(mmap.MADV_REMOVE, start, size_bytes)
    else:
        memory[start : start + size_bytes] = bytes(size_bytes)
