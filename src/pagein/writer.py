"""`PageWriter`: writes to a file at given offsets, without a position: the short way into pages that are here.

Guarantees: any number of threads may write at once; a write is in the cache when it returns, and whoever reads
afterwards sees it; it is in the store once `fsync` has returned.
The short way: one leaf lock (``mapping.dirty_lock``), no page lock.  It is open while pages are here, the writer has a
budget of pages to make dirty (mm/dirty.py), nobody holds ``i_rwsem``, and no change is under way whose caller may be
interrupted (mm/outcome.py).  What makes it right: a page is marked dirty
first and looked at then, while whoever takes pages away clears Uptodate first and looks at dirty then
(mm/removal.remove_runs), and the mark is not taken off before the lock is let go.
Not here: everything else that a write may have to do (mm/write.py); the position (file.py).
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, cast

from .errors import not_writable
from .mm import direct, truncate, write, writeback
from .mm.arena import ones
from .mm.errseq import again
from .mm.sync import HERE, SOMEBODY, MakeWaiter, Steps
from .reader import PageReader, checked
from .units import PAGE_SHIFT, as_bytes

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from .mm.mapping import AddressSpace
    from .mm.openfile import OpenFile

SHORT_BYTES_MAX = 1 << 20
"""The leaf lock is held while so many bytes are copied, at most."""
SLICE_BYTES_MAX = 32 << 10
"""Beyond, a system call copies, while other threads run; and the memory need not be zeroed first."""


class PageWriter(PageReader):
    """The part of `pagein.File` that writes and knows no position."""

    __slots__ = ("_dirty", "_size_max")

    def __init__(self, file: OpenFile, **arguments: Any) -> None:
        super().__init__(file, **arguments)
        self._size_max = 0
        self._dirty: Any = READ_ONLY
        if file.writable:
            mapping, most = file.mapping, file.mapping.ops.object_bytes_max
            room_bytes = mapping.frame_count << PAGE_SHIFT  # the frames behind are another file's
            self._dirty = mapping.arena.dirty
            self._size_max = room_bytes if most is None else min(most, room_bytes)

    def pwrite(self, data: ReadableBuffer, offset: int, *, direct: bool = False) -> int:
        """Write all of *data* at byte *offset*; return how many bytes that were.  A gap before it becomes zeros.

        With *direct* it goes straight to the store, where the store can (most take whole pages only); the cache stays
        coherent.
        Blocks: interruptibly, if a page has to be brought, or while too much is dirty.
        Raises: OSError: EFBIG, ENOMEM; the store's, if a page cannot be brought or nothing can be written back: some of
        the data may be written then; ValueError, TypeError; io.UnsupportedOperation if not open for writing.
        """
        try:
            size = len(data)  # type: ignore[arg-type]  # what has none is said clearly below
            start = self._shift + offset
            end = start + size
            first, last = start >> PAGE_SHIFT, end - 1 >> PAGE_SHIFT
            is_plain = data.__class__ is bytes and end.__class__ is int
            is_short = is_plain and offset >= 0 < size <= SHORT_BYTES_MAX and not direct
            if is_short and not (SOMEBODY and HERE.depth):  # a finalizer would come in between two steps
                mapping, memory, uptodate, dirty = self._mapping, self._memory, self._uptodate, self._dirty
                if first != last:
                    if self._write_short(cast(bytes, data), offset, start, slice(first, last + 1)):
                        return size
                else:
                    target = slice(start, end)
                    with mapping.dirty_lock:
                        may_be = mapping.short_writes and not (mapping.unsettled or mapping.late)
                        if may_be and offset <= mapping.i_size and offset + size <= self._size_max:
                            fresh = 1 - dirty[first]
                            if uptodate[first] and fresh <= mapping.dirty_budget:
                                dirty[first] = 1
                                if uptodate[first]:  # marked first, looked at then
                                    mapping.dirty_budget -= fresh
                                    mapping.dirty_pages += fresh
                                    memory[target] = data
                                    if offset + size > mapping.i_size:  # noqa: PLR1730  # see `_write_short`
                                        mapping.i_size = offset + size  # after the bytes: they may be read now
                                    return size
                                dirty[first] = 1 - fresh
        except (IndexError, OverflowError, TypeError):
            pass  # beyond the arena, or no integers, or no bytes: said clearly below
        return self._pwrite_long(data, offset, direct=direct)

    def _write_short(self, data: bytes, offset: int, start: int, pages: slice, *, appends: bool = False) -> bool:
        """The short way into several pages; False if it is not open.  Who *appends* has found the end at *offset*.

        Locks: ``dirty_lock``.
        """
        mapping, memory, uptodate, dirty = self._mapping, self._memory, self._uptodate, self._dirty
        size, end = len(data), offset + len(data)
        marks, target = ones(pages.stop - pages.start), slice(start, start + size)
        fd = mapping.arena.memory_fd
        copied = None if size <= SLICE_BYTES_MAX or fd < 0 else map(os.pwrite, (fd,), (data,), (start,))
        was = dirty[pages]
        fresh = was.count(0)
        with mapping.dirty_lock:
            # No call while it is held, at whose end a signal handler might come in, and use another file: it would wait
            # for a worker, who may wait for this lock with the zone's.  (To take from an iterator is no call.  Slices
            # are made before, since a new object may be what the garbage collector was waiting for.)
            may_be = mapping.short_writes and not (mapping.unsettled or mapping.late)
            if not (may_be and fresh <= mapping.dirty_budget and offset <= mapping.i_size and end <= self._size_max):
                return False
            if 0 in uptodate[pages] or dirty[pages] != was or (appends and offset != mapping.i_size):
                return False
            dirty[pages] = marks
            if 0 in uptodate[pages]:  # marked first, looked at then
                dirty[pages] = was
                return False
            mapping.dirty_budget -= fresh
            mapping.dirty_pages += fresh
            if copied is None:
                memory[target] = data
            else:
                (count,) = copied
                if count < size:  # no memory, perhaps: the long way says so
                    return False
            if end > mapping.i_size:  # noqa: PLR1730  # max() is a call
                mapping.i_size = end  # after the bytes: they may be read now
            return True

    def _pwrite_long(
        self, data: ReadableBuffer, offset: int | None, *, direct: bool = False, written: list[range] | None = None
    ) -> int:
        """`pwrite` of what cannot go the short way; at the end of the file if *offset* is None.

        *written* has then which bytes of the file it is, in pieces, also if it fails half way; but for direct ones.
        """
        self._begin_change()
        if offset is not None:
            offset = checked("offset", offset)
        with memoryview(data) as view, as_bytes(view) as source:
            pieces = [] if written is None else written
            steps = partial(_write_all, self._file, source, offset, is_direct=direct, pieces=pieces)
            return self._mapping.zone.change(self._mapping, steps)

    def punch_hole(self, offset: int, length: int) -> None:
        """Make *length* bytes from byte *offset* on zeros, and give the store their room back where it can.  The size
        stays as it is; beyond the end there is nothing to do.  Linux: FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE.

        Blocks and raises: as `pwrite`.
        """
        self._begin_change("punch_hole")
        offset, length = checked("offset", offset), checked("length", length)
        if length and offset < self._mapping.i_size:
            self._mapping.zone.change(self._mapping, partial(write.zero_range, self._file, offset, length))

    def set_size(self, size_bytes: int) -> None:
        """Make the file *size_bytes* long; what is added is zeros.

        Blocks: for other writers, and for pages beyond that are being read or stored.  Raises: OSError(EFBIG).
        """
        self._begin_change("truncate")
        size_bytes = checked("size", size_bytes)
        mapping = self._mapping
        mapping.zone.change(mapping, partial(_truncate, mapping, size_bytes, self._file), blocks=True)

    def fsync(self) -> None:
        """Have the store hold, durably, everything that was written to the file before.

        Blocks: interruptibly, as long as the store takes; then it goes on all the same.
        Raises: OSError of the store, also of write-back in the background since the last fsync of this very file
        object; what could not be stored stays in the cache, and the next fsync tries again.
        """
        self._check_writable("fsync")
        self._write_first()  # if that fails it is told with the rest
        self._mapping.zone.shielded_steps(partial(writeback.fsync_steps, self._file))

    def _begin_change(self, what: str = "write") -> None:
        self._check_writable(what)
        failure = self._write_first()
        if failure is not None:  # what is newer must not be overwritten with it later
            raise again(failure)

    def _write_first(self) -> BaseException | None:
        """Write what has to be written before anything newer; why that failed."""
        return None

    def _check_writable(self, what: str = "write") -> None:
        self._check_open()
        if self._dirty is READ_ONLY:
            raise not_writable(what)


def _write_all(
    file: OpenFile,
    source: memoryview,
    offset: int | None,
    make_waiter: MakeWaiter,
    *,
    is_direct: bool,
    pieces: list[range],
) -> Steps[int]:
    done = 0
    while True:
        if is_direct and offset is not None:
            done += yield from direct.direct_write(file, source[done:], offset + done, make_waiter)
        else:
            at = None if offset is None else offset + done
            pieces.append((yield from write.perform_write(file, source[done:], at, make_waiter)))
            done += len(pieces[-1])
        if done >= len(source):
            return done


def _truncate(mapping: AddressSpace, size_bytes: int, file: OpenFile, make_waiter: MakeWaiter) -> Steps[None]:
    truncate.truncate(mapping, size_bytes, file)
    yield from ()


class _ReadOnly:
    """Stands for the dirty flags of a file that is not open for writing, so that a write need not ask."""

    def __getitem__(self, key: object) -> NoReturn:
        raise not_writable("write")

    __call__ = __getitem__


READ_ONLY: Any = _ReadOnly()
