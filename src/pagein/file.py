"""`File`: what `pagein.open` returns.  It reads and writes as Python's own ``open(path, "r+b")`` does; the page cache
is its buffer.

Guarantees: everything that the documentation of `io.BufferedIOBase` promises of a seekable file, in each mode; after an
error the position is where it was; `close` tells what could not be written, and loses none of it.
Assumes: nothing about threads: those that share a file share its position, and take turns.
Not here: reads and writes at given offsets, and what a hit is (reader.py, writer.py); text (text.py); which inode a
file is of, and what becomes of what it has not written (follow_up.py, unwritten.py).
"""

from __future__ import annotations

import errno
import io
import os
import threading
from contextlib import AbstractContextManager, nullcontext
from operator import index as as_int
from typing import TYPE_CHECKING, Any, NoReturn

from . import notebook
from .errors import closed_file, not_writable, would_wait_for_itself, written_by_parent
from .mm import filemap
from .mm.arena import REGION_SHIFT
from .mm.debug import reentrant_lock
from .mm.lockorder import POSITION
from .mm.sync import HERE, SOMEBODY
from .modes import READ, Mode
from .reader import CLOSED, as_target, checked, position_after
from .residency import resident_bytes
from .stores.parents import WrittenByParent
from .units import PAGE_OFFSET_MASK, PAGE_SHIFT, PAGE_SIZE, format_share
from .writer import SHORT_BYTES_MAX, PageWriter

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_SEEK_SET = os.SEEK_SET


class File(PageWriter):
    """A file read and written through a page cache.  Made by `PageCache.open`, `Inode.open` and `pagein.open`.

    ``read``, ``write``, ``seek`` and their kind share one position, under a lock, as in `io.BufferedRandom`;
    ``pread``, ``preadinto``, ``view`` and ``pwrite`` use no position, and on a hit no lock.
    """

    __slots__ = ("_appends", "_is_below_text", "_lock", "_mode", "_pos", "_writes")

    def __init__(self, *args: Any, mode: Mode = READ, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._mode = mode
        self._writes, self._appends = mode.writes, mode.appends
        self._is_below_text = False
        """Whether a `TextFile` closes it, which may have more to write, also if the collector finds this one first."""
        self._pos = self._mapping.i_size if mode.appends else 0
        self._start_lock_anew()

    def __repr__(self) -> str:
        if self.closed:
            return f"<pagein.File name={self.name!r} closed>"
        size_bytes = self._mapping.i_size
        share = format_share(resident_bytes(self._mapping.resident(), size_bytes), size_bytes)
        return (
            f"<pagein.File name={self.name!r} size={size_bytes} position={self._pos} "
            f"version={self.version!r} resident={share}>"
        )

    def _repr_html_(self) -> str:
        return notebook.file_html(self)

    # -- from the position on ----------------------------------------------------------------------------

    def read(self, size: int | None = -1, /) -> bytes:
        """The next *size* bytes, or all that are left; b"" at the end of the file."""
        with self._lock:
            offset = self._pos
            if size.__class__ is int and size > 0:
                # `pread`'s hit within a page once more: a call would cost as much as the rest of it.
                stop = offset + size
                start = self._shift + offset
                end = start + size
                frame = start >> PAGE_SHIFT
                if frame == end - 1 >> PAGE_SHIFT and frame < self._stop_frame:
                    region = frame >> REGION_SHIFT
                    generation = self._generations[region]  # (a)
                    if self._uptodate[frame] == 1 and stop <= self._mapping.i_size:  # (b)
                        data: bytes = self._memory[start:end]  # (c)
                        if self._generations[region] == generation:  # (d)
                            if start != self._last_end or not start & PAGE_OFFSET_MASK:
                                self._referenced[frame] = 1
                            self._last_end = end
                            self._pos = stop
                            self._hits += 1
                            return data
                        filemap.after_lost_race(self._file, offset, stop)
            elif size.__class__ is not int or size < 0:
                size = self._count(size)
            data = self.pread(size, offset)
            self._pos = offset + len(data)
            return data

    def read1(self, size: int = -1, /) -> bytes:
        """Up to *size* bytes with at most one request to the store; a buffer full if *size* is negative."""
        with self._turn() if SOMEBODY and HERE.depth else self._lock:
            size = checked("size", size, least=None)
            data = self._next_piece(size if size >= 0 else io.DEFAULT_BUFFER_SIZE)
            self._pos += len(data)
            return data

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill *buffer* from the position on; return how many bytes that were, 0 at the end of the file."""
        with self._turn() if SOMEBODY and HERE.depth else self._lock:
            count = self.preadinto(buffer, self._pos)
            self._pos += count
            return count

    def readinto1(self, buffer: WriteableBuffer, /) -> int:
        """As `readinto`, with at most one request to the store."""
        with memoryview(buffer) as view, as_target(view) as target:
            turn = self._turn() if SOMEBODY and HERE.depth else self._lock
            with turn:
                data = self._next_piece(len(target))
                target[: len(data)] = data
                self._pos += len(data)
                return len(data)

    def peek(self, size: int = 0, /) -> bytes:
        """Some bytes from the position on, without moving it, with at most one request; b"" only at the end."""
        with self._turn() if SOMEBODY and HERE.depth else self._lock:
            return self._next_piece(max(checked("size", size, least=None), io.DEFAULT_BUFFER_SIZE))

    def _next_piece(self, size: int) -> bytes:
        memory = self._memory
        parts = self._some_parts(size, self._pos, lambda start, stop: memory[start:stop], once=True)
        pieces = filemap.run_parts(self._mapping.zone, parts)
        return bytes(pieces[0]) if pieces else b""

    def readline(self, size: int | None = -1, /) -> bytes:
        """The rest of the line with its b"\\n", at most *size* bytes of it; b"" at the end of the file."""
        with self._turn() if SOMEBODY and HERE.depth else self._lock:
            if size.__class__ is not int:
                size = -1 if size is None else checked("size", size, least=None)
            line = self._line_piece(PAGE_SIZE if size < 0 else size)
            if line[-1:] == b"\n" or len(line) == size:
                self._pos += len(line)
                return line
            return self._long_line(size)

    def _long_line(self, size: int | None) -> bytes:
        """A line that goes on beyond its page, or whose page is not here."""
        start, left = self._pos, self._count(size)
        pieces: list[bytes] = []
        try:
            while left > 0 or not pieces:  # at the end, too: the file may have grown, and who has to look says so
                # To the end of the page at most, so that a miss asks for no more than is needed to go on.
                piece = self._line_piece(left) or self._next_piece(
                    min(left, PAGE_SIZE - (self._pos & PAGE_OFFSET_MASK))
                )
                piece = piece[: piece.find(b"\n") + 1 or None]
                pieces.append(piece)
                self._pos += len(piece)
                left -= len(piece)
                if piece.endswith(b"\n") or not piece:
                    break
        except BaseException:
            self._pos = start
            raise
        return b"".join(pieces)

    def _line_piece(self, size: int) -> bytes:
        """The line up to its end or the end of its page, if the page is here: `pread`'s hit path once more."""
        offset = self._pos
        frame = self._base + (offset >> PAGE_SHIFT)
        region = frame >> REGION_SHIFT
        try:
            generation = self._generations[region]  # (a)
            if self._uptodate[frame] != 1:  # (b)
                return b""
        except IndexError:  # beyond the arena, and so beyond the end
            return b""
        start = self._shift + offset
        stop = self._shift + min(offset + size, (offset | PAGE_OFFSET_MASK) + 1, self._mapping.i_size)
        piece: bytes = self._memory[start : self._memory.find(b"\n", start, stop) + 1 or stop]  # (c)
        if self._generations[region] != generation:  # (d)
            filemap.after_lost_race(self._file, offset, stop - self._shift)
            return b""
        if start != self._last_end or not start & PAGE_OFFSET_MASK:
            self._referenced[frame] = 1
        self._last_end = start + len(piece)
        self._hits += 1
        return piece

    # -- the position --------------------------------------------------------------------------------------

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position, also beyond the end; return it.

        Raises: OSError(EINVAL) for a position before the start, ValueError for an unknown *whence*.
        """
        if self._generations is CLOSED:
            raise closed_file()
        is_plain = whence is _SEEK_SET and offset.__class__ is int and offset >= 0  # what nearly every call is
        if is_plain and not (SOMEBODY and HERE.depth):
            with self._lock:
                self._pos = offset
            return offset
        offset, whence = as_int(offset), as_int(whence)  # the caller's code, and so not under the lock
        with self._turn():
            self._pos = position_after(
                offset, whence, position=self._pos, size_bytes=self._mapping.i_size, name=self.name
            )
            return self._pos

    def _turn(self) -> AbstractContextManager[object]:
        """The lock of the position, or, for a finalizer inside the core and for a store's code, nothing: who has it may
        wait for the calling thread.  (`read` does not ask: see docs/explanation/locking.md.)"""
        return nullcontext() if self._mapping.is_interrupted_here() else self._lock

    def tell(self) -> int:
        """The position, in bytes from the start."""
        self._check_open()
        return self._pos

    def _count(self, size: int | None) -> int:
        """How many bytes a read of *size* means; what is left if it is None or negative."""
        if size is not None and (size := checked("size", size, least=None)) >= 0:
            return size
        self._check_open()
        return max(0, self._mapping.i_size - self._pos)

    # -- writing -------------------------------------------------------------------------------------------

    def write(self, buffer: ReadableBuffer, /) -> int:
        """Write all of *buffer* at the position, or, in an appending mode, at the end; return how many bytes.

        It is in the cache then, and every reader of the file sees it; see `fsync` and `close` for the store.
        Blocks: interruptibly, while too much is dirty.
        Raises: OSError of the store, if it is not to be had there and then (a page that is overwritten in part, a
        full cache): some of it may have been written, and the position is where it was.
        """
        if not self._writes:
            self._check_open()
            raise not_writable("write")
        if SOMEBODY and HERE.depth and self._mapping.is_interrupted_here() and not self.closed:
            # A finalizer, of a buffer that the user has put over this file, say.  Who has the lock may wait for it.
            return self._write_behind(None if self._appends else self._pos, buffer, moves=True)
        with self._lock:
            if self._appends:
                return self._write_at_end(buffer)
            offset = self._pos
            # Before it is written: what a finalizer that comes in meanwhile writes here lies behind.
            self._pos = end = offset + (len(buffer) if buffer.__class__ is bytes else memoryview(buffer).nbytes)
            try:
                return self.pwrite(buffer, offset)
            except BaseException as error:
                if self._pos == end:
                    self._pos = offset
                if isinstance(error, OSError):
                    self._keep_for_text(bytes(buffer), offset)
                raise

    def _keep_for_text(self, data: bytes, offset: int | None) -> None:
        """Text forgets what it could not write, where a buffer of Python's own keeps it."""
        if self._is_below_text:
            self._owner.write_late(offset, data)
            self._pos += len(data)

    def _write_at_end(self, buffer: ReadableBuffer) -> int:
        if buffer.__class__ is bytes and self._append_short(buffer):
            return len(buffer)
        written: list[range] = []
        try:
            count = self._pwrite_long(buffer, None, written=written)
        except OSError:
            if self._is_below_text:
                if written:
                    self._pos = written[-1].stop
                self._keep_for_text(bytes(buffer)[sum(map(len, written)) :], None)
            raise
        if count:  # not i_size: another may have appended meanwhile
            self._pos = written[-1].stop if written else self._mapping.i_size
        return count

    def _append_short(self, data: bytes) -> bool:
        """`pwrite`'s short way, at the end as it is under the lock.  (No call in there: see `pwrite`.)"""
        mapping, memory, uptodate, dirty = self._mapping, self._memory, self._uptodate, self._dirty
        size, offset = len(data), mapping.i_size
        start = self._shift + offset
        if not 0 < size <= SHORT_BYTES_MAX:
            return False
        frame, target = start >> PAGE_SHIFT, slice(start, start + size)
        if size > PAGE_SIZE - (offset & PAGE_OFFSET_MASK):
            pages = slice(frame, (start + size - 1 >> PAGE_SHIFT) + 1)
            if is_written := self._write_short(data, offset, start, pages, appends=True):
                self._pos = offset + size
            return is_written
        with mapping.dirty_lock:
            may_be = mapping.short_writes and not (mapping.unsettled or mapping.late)
            if not may_be or mapping.i_size != offset or offset + size > self._size_max:  # (another was faster)
                return False
            fresh = 1 - dirty[frame]
            if not uptodate[frame] or fresh > mapping.dirty_budget:
                return False
            dirty[frame] = 1
            if not uptodate[frame]:  # marked first, looked at then
                dirty[frame] = 1 - fresh
                return False
            mapping.dirty_budget -= fresh
            mapping.dirty_pages += fresh
            memory[target] = data
            mapping.i_size = self._pos = offset + size  # after the bytes: they may be read now
            return True

    def _pwrite_long(
        self, data: ReadableBuffer, offset: int | None, *, direct: bool = False, written: list[range] | None = None
    ) -> int:
        if self._may_wait_here() or self.closed or not self._writes:
            return super()._pwrite_long(data, offset, direct=direct, written=written)
        return self._write_behind(None if offset is None else checked("offset", offset), data)

    def _write_behind(self, offset: int | None, data: ReadableBuffer, *, moves: bool = False) -> int:
        """By a finalizer that may not wait: soon, or, when the interpreter has ended, at once."""
        with memoryview(data) as view:
            copy = view.tobytes()
        if self._mapping.zone.door.is_finalizing():
            self._owner.write_at_exit(self._file, offset, copy)
        else:
            self._owner.write_late(offset, copy)
            self._owner.follow_up_soon()
        if moves:
            self._pos += len(copy)
        return len(copy)

    def truncate(self, size: int | None = None, /) -> int:
        """Make the file *size* bytes long, by default up to the position, which stays; return the size.

        What is added is zeros.  Blocks: interruptibly.
        What a view shows of what goes becomes zeros.
        Raises: OSError: EINVAL for a negative size, EFBIG for one that has no room.  (The store hears of it, and may
        refuse it, when it is written back.)
        """
        self._check_open()
        if not self._writes:
            raise not_writable("truncate")
        self._check_may_wait()  # before the lock, which another may have who waits for this thread
        size = self._pos if size is None else checked("size", size, least=None)
        if size < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), self.name)
        with self._lock:
            self.set_size(size)
        return size

    def flush(self) -> None:
        """Nothing: what was written is in the cache already, where every reader sees it."""
        self._check_open()

    def _check_writable(self, what: str = "write") -> None:
        super()._check_writable(what)
        if isinstance(self._mapping.ops, WrittenByParent):
            raise written_by_parent(self.name)
        self._check_may_wait()

    def _check_may_wait(self) -> None:
        """What is written is noted where nothing may wait; what cannot be noted is refused."""
        if self._mapping.is_interrupted_here():
            raise would_wait_for_itself(repr(self.name))

    def _write_first(self) -> BaseException | None:
        return self._owner.write_late_first()

    def save_as(self, source: Any, **store_options: Any) -> int:
        """Write the file, as it is in the cache now, to another place; return how many bytes.  For data that their own
        store does not take.

        What others write meanwhile may be in it or not.  What this file has not written stays so.
        Blocks: interruptibly; what fails, or is interrupted, leaves what is at *source* as it was, unless its store
        writes in place, as a user's own may.  Raises: OSError of either store; EROFS; EINVAL if it is this very file;
        EBUSY if *source* is being written itself.
        """
        self._check_open()
        self._check_may_wait()
        return self._owner.save_as(self._file, source, store_options)

    def discard(self) -> int:
        """Give up what the file's store does not have yet, also of others who write it; return how many bytes.

        The file is what the store holds then; who opens it afterwards looks at the store anew, and shares nothing with
        those who have it open now.  Blocks: interruptibly.
        Raises: OSError(EBUSY) if a view shows some of it: then all of it stays, and is unwritten still.  The store's,
        if that cannot give up what it has not committed; EBUSY too, if a view is made in that moment: then some has
        gone, what is read is nothing to go by, and nothing is committed (OSError(ECANCELED)) before another `discard`
        has given up the rest, or the file was made empty.
        """
        self._check_open()
        self._check_may_wait()
        return self._owner.discard(self._file) if self._writes else 0

    # -- what a file is ------------------------------------------------------------------------------------

    @property
    def mode(self) -> str:
        """How it was opened, as `io.FileIO` says it."""
        return self._mode.name

    def readable(self) -> bool:
        """Whether it may be read."""
        self._check_open()
        return self._mode.reads

    def seekable(self) -> bool:
        """True."""
        self._check_open()
        return True

    def writable(self) -> bool:
        """Whether it may be written to."""
        self._check_open()
        return self._writes

    def isatty(self) -> bool:
        """False."""
        self._check_open()
        return False

    def fileno(self) -> int:
        """Raises `io.UnsupportedOperation`: the file is in the cache, not in the system."""
        self._check_open()
        raise io.UnsupportedOperation("fileno: a cached file has no descriptor")

    def detach(self) -> NoReturn:
        """Raises `io.UnsupportedOperation`: there is no raw file below."""
        raise io.UnsupportedOperation("detach: there is no raw file below a page cache")

    # -- the end -------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of the file.  Its pages stay in the cache; its views keep theirs.  Twice does no harm.

        One that was written to hands what is dirty to its store first, and where the store replaces objects as a
        whole, replaces it; `fsync` before, if it has to survive the machine.
        Blocks: interruptibly, and then it goes on behind.
        Raises: OSError if that fails, and each error of write-back that this file has not told of yet.  It is closed
        all the same, and its data are kept in the cache: for the next who opens it, and for `PageCache.close`.
        """
        if self._writes and not self._is_released and self._may_wait_here():
            # First, so that nothing becomes dirty behind what is written back here.
            self._shut()
            try:
                self._owner.write_out(self._file)
            except BaseException:
                self._release()  # the next who closes something sees to the rest
                raise
        elif self._writes and not self._is_released and self._mapping.zone.door.is_finalizing():
            self._shut()
            self._owner.write_out_at_exit(self._file)
        super().close()

    def _shut(self) -> None:
        """Let nobody read or write through it any more."""
        self._memory = self._read_only = self._uptodate = self._referenced = CLOSED
        self._generations = self._pin = self._dirty = CLOSED
        self._file.closed = True

    def _release(self) -> bool:
        is_first = super()._release()
        if is_first:
            self._dirty = CLOSED  # it refers to the arena
        return is_first

    def _may_wait_here(self) -> bool:
        """Not in a finalizer inside the core, nor when the interpreter has ended."""
        mapping = self._mapping
        is_interrupted = mapping.is_interrupted_here() or mapping.dirty_lock_is_held_here()
        return not (is_interrupted or mapping.zone.door.is_finalizing())

    def __del__(self) -> None:
        if getattr(self, "_is_below_text", False) or getattr(self, "_is_released", True):
            return
        if self._writes and self._mapping.zone.door.is_finalizing():
            self.close()
        elif self._release() and self._writes:
            self._owner.follow_up_soon()

    def _become_late(self) -> None:
        """A finalizer is about to write the last of it, and to close it: both are only noted."""
        is_open = self._writes and not self._is_released
        if is_open and not self._mapping.zone.door.is_finalizing():  # then it would be too late
            self.__class__ = _LateFile

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle a pagein.File: open its source again where it is needed")

    def _start_lock_anew(self) -> None:
        self._lock = reentrant_lock(self._mapping.zone, POSITION, threading.RLock(), self.name)


class _LateFile(File):
    """One that belongs to a finalizer, which may run inside any lock of ours."""

    __slots__ = ()

    def write(self, buffer: ReadableBuffer, /) -> int:
        data = bytes(buffer)
        self._owner.write_late(None if self._appends else self._pos, data)
        self._pos += len(data)
        return len(data)

    def close(self) -> None:
        if self._release():
            self._owner.follow_up_soon()
