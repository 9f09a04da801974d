"""`PageReader`: reads of a file at given offsets, without a position: the lock-free hit path.

Guarantees: any number of threads may read at once, and each read is whole; no lock is taken on a hit.
Assumes: the mapping's frames are this file's until `close` has replaced what the hit path uses (`CLOSED`).
Not here: what a miss does (mm/filemap.py); the position, lines and the rest of a Python file (file.py).

The hit path stands here and not in a function of mm/, because calling it would cost as much as the rest of it.
The letters are those of docs/explanation/architecture.md; their order is what makes it right.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from functools import partial
from operator import index as as_int
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

from . import errors
from .mm import filemap, truncate
from .mm.arena import REGION_SHIFT
from .units import PAGE_OFFSET_MASK, PAGE_SHIFT, as_bytes, page_count_for

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from .mm.filemap import Parts
    from .mm.openfile import OpenFile
    from .owner import CacheOwner

T = TypeVar("T")
Advice = Literal["normal", "sequential", "random", "willneed", "dontneed"]
ADVICE: tuple[Advice, ...] = ("normal", "sequential", "random", "willneed", "dontneed")

ALL_PLAIN = b"\1" * (1 << 16)
"""The flags of pages that are here, and bear no marker: whether some are all so is one comparison, and no copy."""
PLAIN_BYTES_MAX = len(ALL_PLAIN) << PAGE_SHIFT
"""To look at the flags of more would only fill their holes."""
PIN_SWEEP_MASK = 0xFF
"""Every 256th view of a file looks whether it is time to sweep out those that have ended."""
_SPREAD = 0x9E3779B1
"""Each file of a cache begins to count elsewhere, spread evenly whichever of them are viewed (Knuth's multiplicative
hashing): so of any 256 views about one looks, be they of as many files."""


class PageReader(io.BufferedIOBase):
    """The part of `pagein.File` that knows no position."""

    _position_is_of_process = True
    """A child of a fork has its own: what reads this file may go on there with what it has inherited."""
    __slots__ = (
        "_base",
        "_file",
        "_generations",
        "_hits",
        "_is_released",
        "_last_end",
        "_mapping",
        "_memory",
        "_owner",
        "_pin",
        "_pins",
        "_read_only",
        "_referenced",
        "_shift",
        "_stop_frame",
        "_uptodate",
        "_views",
        "name",
        "version",
    )  # fmt: skip

    def __init__(self, file: OpenFile, *, name: str, version: str, owner: CacheOwner) -> None:
        mapping, arena = file.mapping, file.mapping.arena
        self.name: str = name
        self.version: str = version
        """The version of the object that this file reads: an ETag, or mtime and size."""
        self._file = file
        self._owner = owner
        self._is_released = False
        self._mapping = mapping
        # What the hit path needs, one look-up away.
        self._memory: Any = arena.memory
        self._read_only: Any = arena.read_only
        self._uptodate: Any = arena.uptodate
        self._referenced: Any = arena.referenced
        self._generations: Any = arena.generations
        self._pins = arena.pins
        self._pin: Any = arena.pins.append
        self._base = mapping.base
        self._stop_frame = mapping.base + mapping.frame_count
        self._shift = mapping.base << PAGE_SHIFT
        self._views = next(arena.pins.files) * _SPREAD >> 24 & PIN_SWEEP_MASK
        self._hits = -self._views
        """Hits that are no views: who counted both as one, and had a view behind each read, might never look."""
        self._last_end = 0

    # -- reading ---------------------------------------------------------------------------------------

    def pread(self, size: int, offset: int) -> bytes:
        """*size* bytes from byte *offset* on; fewer only at the end of the file.

        Blocks: interruptibly, if a page is not in the cache.  Raises: the store's OSError unchanged, and then
        nothing was read; OSError(ENOMEM); ValueError for a negative size or offset, or a closed file.
        """
        try:
            start = self._shift + offset
            end = start + size
            first, last = start >> PAGE_SHIFT, end - 1 >> PAGE_SHIFT
            region = first >> REGION_SHIFT
            # (An integer of another type, numpy's say, might overflow below.)
            if offset >= 0 < size and region == last >> REGION_SHIFT and end.__class__ is int:
                generation = self._generations[region]  # (a)
                if first == last:
                    if self._uptodate[first] == 1 and offset + size <= self._mapping.i_size:  # (b), i_size only then
                        data: bytes = self._memory[start:end]  # (c)
                        if self._generations[region] == generation:  # (d)
                            # A read that goes on within its page is one use of it, not two (Linux: prev_pos).
                            if start != self._last_end or not start & PAGE_OFFSET_MASK:
                                self._referenced[first] = 1
                            self._last_end = end
                            self._hits += 1
                            return data
                        filemap.after_lost_race(self._file, offset, offset + size)
                else:
                    uptodate = self._uptodate[first : last + 1]
                    if ALL_PLAIN.startswith(uptodate) and offset + size <= self._mapping.i_size:  # (b)
                        data = self._memory[start:end]  # (c)
                        if self._generations[region] == generation:  # (d)
                            self._referenced[first : last + 1] = uptodate  # all ones
                            self._last_end = end
                            self._hits += 1
                            return data
                        filemap.after_lost_race(self._file, offset, offset + size)
        except (IndexError, OverflowError, TypeError):
            pass  # beyond the arena, or no integers: said clearly below
        return self._pread_missing(size, offset)

    def _pread_missing(self, size: int, offset: int) -> bytes:
        return filemap.run_parts(self._mapping.zone, self._pread_parts(size, offset))

    def _pread_parts(self, size: int, offset: int) -> Parts[bytes]:
        """`pread` of what is not all here."""
        size, offset = checked("size", size), checked("offset", offset)
        self._check_open()
        memory = self._memory
        pieces: list[bytes] = []
        while size:
            got = yield from self._some_parts(size, offset, lambda start, stop: memory[start:stop], takes_anywhere=True)
            if not got:  # the end; a read that is short for another reason is asked again, and raises
                break
            pieces += got
            done = sum(map(len, got))
            size, offset = size - done, offset + done
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def preadinto(self, buffer: WriteableBuffer, offset: int) -> int:
        """Fill *buffer* from byte *offset* on; return how many bytes that were, fewer only at the end of the file.

        Blocks and raises: as `pread`; TypeError for a buffer that cannot be written to.
        """
        return filemap.run_parts(self._mapping.zone, self._preadinto_parts(buffer, offset))

    def _preadinto_parts(self, buffer: WriteableBuffer, offset: int) -> Parts[int]:
        offset = checked("offset", offset)
        with memoryview(buffer) as view, as_target(view) as target:
            return (yield from self._fill_parts(target, offset))

    def _fill_parts(self, target: memoryview, offset: int) -> Parts[int]:
        self._check_open()
        filled, read_only = 0, self._read_only

        def take(start: int, stop: int) -> int:
            # May be called again for the same bytes, if an eviction spoilt the copy; counts once, when it holds.
            at = start - self._shift - offset
            target[at : at + stop - start] = read_only[start:stop]
            return stop - start

        while filled < len(target):
            got = yield from self._some_parts(len(target) - filled, offset + filled, take)
            if not got:
                break
            filled += sum(got)
        return filled

    def _some_parts(
        self,
        size: int,
        offset: int,
        take: Callable[[int, int], T],
        *,
        once: bool = False,
        takes_anywhere: bool = False,
    ) -> Parts[list[T]]:
        self._check_open()
        self._note_position()
        pieces = yield from filemap.read_parts(self._file, offset, size, take, once=once, takes_anywhere=takes_anywhere)
        self._check_open()
        self._last_end = self._shift + offset + size
        return pieces

    def _note_position(self) -> None:
        """Tell readahead where the read before has ended."""
        self._file.prev_index = (self._last_end - self._shift - 1) >> PAGE_SHIFT if self._last_end else -1

    def view(self, size: int, offset: int) -> memoryview:
        """A read-only memoryview of *size* bytes from byte *offset* on, without a copy; shorter only at the end of
        the file.  Its pages stay in the cache until it, and all that was made from it (slices, arrays), is released
        or gone: ``with file.view(size, offset) as data: ...``.

        Blocks: interruptibly.  Raises: as `pread`; OSError(ENOMEM) if the pages do not fit beside other views.
        """
        try:
            start = self._shift + offset
            end = start + size
            first, stop = start >> PAGE_SHIFT, end + PAGE_OFFSET_MASK >> PAGE_SHIFT
            # (The frames behind the file's are another's, and not to be pinned even for a moment.)
            if offset >= 0 < size <= PLAIN_BYTES_MAX and stop <= self._stop_frame and end.__class__ is int:
                shown = self._read_only[start:end]
                # Pinned first, and Uptodate tested then: mm/pin.py.
                self._pin((first, stop, shown))
                uptodate = self._uptodate[first:stop]
                if ALL_PLAIN.startswith(uptodate) and offset + size <= self._mapping.i_size:
                    self._referenced[first:stop] = uptodate  # all ones
                    self._views = views = self._views + 1
                    if not views & PIN_SWEEP_MASK and len(self._pins.entries) > self._pins.sweep_at:
                        filemap.sweep_pins_soon(self._mapping)
                    return memoryview(PickleBuffer(shown))  # not shown itself: see mm/pin.py
                del shown  # which ends the pin, also if this frame is kept by a traceback
        except (IndexError, OverflowError, TypeError):
            pass  # beyond the arena, or no integers: said clearly below
        return self._view_missing(size, offset)

    def _view_missing(self, size: int, offset: int) -> memoryview:
        return filemap.run_parts(self._mapping.zone, self._view_parts(size, offset))

    def _view_parts(self, size: int, offset: int) -> Parts[memoryview]:
        """`view` of what is not all here."""
        size, offset = checked("size", size), checked("offset", offset)
        first = self._base + (offset >> PAGE_SHIFT)
        while True:
            self._check_open()
            end = min(offset + size, self._mapping.i_size)
            if end <= offset:
                return memoryview(b"")
            stop = self._base + page_count_for(end)
            self._note_position()
            pin = yield from filemap.pin_parts(self._file, first - self._base, stop - first)
            try:
                self._check_open()
                filemap.heed_marker(self._file, offset, end)
                # The size again: it may have changed while we waited, and with it which pages were brought.
                end = max(offset, min(end, self._mapping.i_size))
                if self._uptodate.find(b"\0", first, self._base + page_count_for(end)) >= 0:
                    continue
                shown = self._read_only[self._shift + offset : self._shift + end]
                self._pin((first, stop, shown))
                self._last_end = self._shift + end
                return memoryview(PickleBuffer(shown))
            finally:
                pin.put()

    def advise(self, advice: Advice, offset: int = 0, length: int | None = None) -> None:
        """Say how bytes [offset, offset + length) will be read, as posix_fadvise(2); by default all from *offset*.

        "sequential" doubles this file's readahead window, "random" turns it off, "normal" restores it (these
        are about the whole file).  "willneed" starts reading in the background and returns; that goes on when this
        file is closed.  "dontneed" drops the whole pages of the range that nobody uses.  Raises: ValueError.
        """
        offset = checked("offset", offset)
        stop = self._mapping.i_size if length is None else offset + checked("length", length)
        self._check_open()
        mapping, file = self._mapping, self._file
        if advice == "willneed":
            self._owner.will_need(file, offset >> PAGE_SHIFT, page_count_for(min(stop, mapping.i_size)))
        elif advice == "dontneed":
            # Whole pages only, but the file's last page counts as whole.
            start_index = page_count_for(offset)
            stop_index = page_count_for(stop) if stop >= mapping.i_size else stop >> PAGE_SHIFT
            self._drop(start_index, stop_index)
        elif advice in ADVICE:
            file.random = advice == "random"
            file.ra_scale = 2.0 if advice == "sequential" else 1.0
        else:
            raise ValueError(f"unknown advice {advice!r}: accepted are {', '.join(ADVICE)}")

    def _drop(self, start_index: int, stop_index: int) -> None:
        self._mapping.zone.workqueue.shielded(partial(self._drop_here, start_index, stop_index))

    def _drop_here(self, start_index: int, stop_index: int) -> None:
        """A batch of pages after the other: others take the zone's lock in between."""
        truncate.invalidate_mapping_pages(self._mapping, start_index, stop_index)

    def populate(self, offset: int = 0, length: int | None = None) -> int:
        """Bring bytes [offset, offset + length), by default all from *offset*, into the cache; return how many of them
        are there now.  As MADV_POPULATE_READ; "willneed" is the same without the wait.

        No more than half of the cache: more would drive out what came first.  Errors are told to who reads what did not
        come.  Blocks: interruptibly; what has come by then stays, and what was asked for still comes.
        """
        offset = checked("offset", offset)
        stop = self._mapping.i_size if length is None else offset + checked("length", length)
        self._check_open()
        stop = min(stop, self._mapping.i_size)
        if offset < stop:
            filemap.populate_range(self._file, offset >> PAGE_SHIFT, page_count_for(stop))
        return self.resident_bytes(offset, length)

    def resident_bytes(self, offset: int = 0, length: int | None = None) -> int:
        """How many of bytes [offset, offset + length), by default of all from *offset*, are in the cache."""
        offset = checked("offset", offset)
        stop = self._mapping.i_size if length is None else offset + checked("length", length)
        stop = min(stop, self._mapping.i_size)
        spans = ((first << PAGE_SHIFT, (first + count) << PAGE_SHIFT) for first, count in self.resident())
        return sum(max(0, min(end, stop) - max(begin, offset)) for begin, end in spans)

    # -- the end -------------------------------------------------------------------------------------------

    @property
    def size_bytes(self) -> int:
        """The size of the file."""
        return self._mapping.i_size

    @property
    def hits(self) -> int:
        """How many reads of this file were served from the cache alone."""
        return self._hits + self._views + self._file.hits

    def resident(self) -> list[tuple[int, int]]:
        """Which pages of the file are in the cache: runs of (first index, page count), in order."""
        self._check_open()
        return list(self._mapping.resident())

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._generations is CLOSED

    def close(self) -> None:
        """Let go of the file.  Its pages stay in the cache; its views keep theirs.  Twice does no harm."""
        if self._release():
            self._owner.closed()

    def __del__(self) -> None:
        # Not close(): the garbage collector may run this inside any lock.  The cache does the rest at its next turn.
        self._release()

    def _release(self) -> bool:
        if getattr(self, "_is_released", True):  # closed; never opened
            return False
        # Before the mapping is let go, because then its frames may become another file's.
        self._memory = self._read_only = self._uptodate = self._referenced = CLOSED
        self._generations = self._pin = CLOSED
        self._file.closed = True
        self._owner.let_go(self.hits)
        self._is_released = True  # last: who is interrupted before closes again
        return True

    def _start_lock_anew(self) -> None:
        """After a fork, in the child.  There is none here."""

    def _check_open(self) -> None:
        if self._generations is CLOSED:
            raise errors.closed_file()


class _Closed:
    """Stands for everything that the hit path uses once a file is closed, so that a hit need not ask."""

    def __getitem__(self, key: object) -> NoReturn:
        raise errors.closed_file()

    def __setitem__(self, key: object, value: object) -> NoReturn:
        raise errors.closed_file()

    def __call__(self, *arguments: object) -> NoReturn:
        raise errors.closed_file()

    def __getattr__(self, name: str) -> NoReturn:
        raise errors.closed_file()


CLOSED: Any = _Closed()


def position_after(offset: int, whence: int, *, position: int, size_bytes: int, name: str) -> int:
    """Where a seek leads.  Raises: OSError(EINVAL) for a position before the start; ValueError."""
    if whence not in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END):
        raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
    offset += (0, position, size_bytes)[whence]
    if offset < 0:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)
    return offset


def as_target(view: memoryview) -> memoryview:
    """The bytes of a buffer to read into.  Raises: TypeError if it is none."""
    if view.readonly:
        raise TypeError("a buffer to read into must be writable, and this one is read-only")
    return as_bytes(view)


def checked(what: str, value: Any, *, least: int | None = 0) -> int:
    """An integer argument.  Raises: TypeError, ValueError."""
    try:
        value = as_int(value)
    except TypeError:
        raise TypeError(f"{what} must be an integer, not {type(value).__name__}") from None
    if least is not None and value < least:
        raise errors.negative(what, value)
    return int(value)
