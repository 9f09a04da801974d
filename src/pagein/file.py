"""`File`: what `pagein.open` returns.  It reads as Python's own ``open(path, "rb")`` does; the page cache is its
buffer.

Guarantees: everything that the documentation of `io.BufferedIOBase` promises of a readable, seekable file; after an
error the position is where it was.
Assumes: nothing about threads: those that share a file share its position, and take turns.
Not here: reads at given offsets, and what a hit is (reader.py).
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from operator import index as as_int
from typing import TYPE_CHECKING, Any, Literal, NoReturn, cast

from .errors import bad_mode, closed_file, read_only
from .mm import filemap
from .mm.arena import REGION_SHIFT
from .reader import CLOSED, PageReader, checked, position_after
from .units import PAGE_OFFSET_MASK, PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_SEEK_SET = os.SEEK_SET
BinaryMode = Literal["rb", "br"]
TextMode = Literal["r", "rt", "tr"]


class File(PageReader):
    """A file read through a page cache.  Made by `PageCache.open`, `Inode.open` and `pagein.open`.

    ``read``, ``seek`` and their kind share one position, under a lock, as in `io.BufferedReader`; ``pread``,
    ``preadinto`` and ``view`` use no position, and on a hit no lock.
    """

    __slots__ = ("_lock", "_pos")

    mode = "rb"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._pos = 0
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"<pagein.File name={self.name!r}{' closed' if self.closed else ''}>"

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
                        filemap.after_lost_race(self._mapping, offset, stop)
            elif size.__class__ is not int or size < 0:
                size = self._count(size)
            data = self.pread(size, offset)
            self._pos = offset + len(data)
            return data

    def read1(self, size: int = -1, /) -> bytes:
        """Up to *size* bytes with at most one request to the store; a buffer full if *size* is negative."""
        with self._lock:
            size = checked("size", size, least=None)
            data = self._next_piece(size if size >= 0 else io.DEFAULT_BUFFER_SIZE)
            self._pos += len(data)
            return data

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill *buffer* from the position on; return how many bytes that were, 0 at the end of the file."""
        with self._lock:
            count = self.preadinto(buffer, self._pos)
            self._pos += count
            return count

    def readinto1(self, buffer: WriteableBuffer, /) -> int:
        """As `readinto`, with at most one request to the store."""
        with memoryview(buffer) as view, view.cast("B") as target, self._lock:
            data = self._next_piece(len(target))
            target[: len(data)] = data
            self._pos += len(data)
            return len(data)

    def peek(self, size: int = 0, /) -> bytes:
        """Some bytes from the position on, without moving it, with at most one request; b"" only at the end."""
        with self._lock:
            return self._next_piece(max(checked("size", size, least=None), io.DEFAULT_BUFFER_SIZE))

    def _next_piece(self, size: int) -> bytes:
        memory = self._memory
        parts = self._some_parts(size, self._pos, lambda start, stop: memory[start:stop], once=True)
        pieces = filemap.run_parts(self._mapping.zone, parts)
        return bytes(pieces[0]) if pieces else b""

    def readline(self, size: int | None = -1, /) -> bytes:
        """The rest of the line with its b"\\n", at most *size* bytes of it; b"" at the end of the file."""
        with self._lock:
            if size.__class__ is not int:
                size = -1 if size is None else checked("size", size, least=None)
            line = self._line_piece(PAGE_SIZE if size < 0 else size)
            if line.endswith(b"\n") or len(line) == size:
                self._pos += len(line)
                return line
            return self._long_line(size)

    def _long_line(self, size: int | None) -> bytes:
        """A line that goes on beyond its page, or whose page is not here."""
        start, left = self._pos, self._count(size)
        pieces: list[bytes] = []
        try:
            while left > 0:
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
            filemap.after_lost_race(self._mapping, offset, stop - self._shift)
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
        if whence is _SEEK_SET and offset.__class__ is int and offset >= 0:  # what nearly every call is
            with self._lock:
                self._pos = offset
            return offset
        offset, whence = as_int(offset), as_int(whence)  # the caller's code, and so not under the lock
        with self._lock:
            self._pos = position_after(
                offset, whence, position=self._pos, size_bytes=self._mapping.i_size, name=self.name
            )
            return self._pos

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

    # -- what a file is ------------------------------------------------------------------------------------

    def readable(self) -> bool:
        """True."""
        self._check_open()
        return True

    def seekable(self) -> bool:
        """True."""
        self._check_open()
        return True

    def writable(self) -> bool:
        """False."""
        self._check_open()
        return False

    def isatty(self) -> bool:
        """False."""
        self._check_open()
        return False

    def fileno(self) -> int:
        """Raises `io.UnsupportedOperation`: the file is in the cache, not in the system."""
        self._check_open()
        raise io.UnsupportedOperation("fileno: a cached file has no descriptor")

    def flush(self) -> None:
        """Nothing: there is nothing unwritten."""
        self._check_open()

    def detach(self) -> NoReturn:
        """Raises `io.UnsupportedOperation`: there is no raw file below."""
        raise io.UnsupportedOperation("detach: there is no raw file below a page cache")

    def write(self, buffer: ReadableBuffer, /) -> int:
        """Raises `io.UnsupportedOperation`."""
        self._check_open()
        raise io.UnsupportedOperation("write: the file is open for reading only")

    def truncate(self, size: int | None = None, /) -> int:
        """Raises `io.UnsupportedOperation`."""
        self._check_open()
        raise io.UnsupportedOperation("truncate: the file is open for reading only")

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle a pagein.File: open its source again where it is needed")

    def _start_lock_anew(self) -> None:
        self._lock = threading.RLock()


def _as_text(file: File, encoding: str | None, errors: str | None, newline: str | None) -> io.TextIOWrapper:
    try:
        return io.TextIOWrapper(cast(Any, file), io.text_encoding(encoding), errors, newline)
    except BaseException:
        file.close()
        raise


def text_layer(
    mode: str, encoding: str | None, errors: str | None, newline: str | None
) -> Callable[[File], File | io.TextIOWrapper]:
    """What a mode puts around a file.  Raises: as `open` for a mode that it would refuse, too."""
    if not isinstance(mode, str):
        raise TypeError(f"mode must be str, not {type(mode).__name__}")
    letters = set(mode)
    if len(mode) != len(letters) or letters - set("rwxabt+") or len(letters & set("rwxa")) != 1 or letters >= set("bt"):
        raise bad_mode(mode)
    if letters & set("wxa+"):
        raise read_only(mode)
    if "b" not in letters:
        return lambda file: _as_text(file, encoding, errors, newline)
    for what, given in (("encoding", encoding), ("errors", errors), ("newline", newline)):
        if given is not None:
            raise ValueError(f"binary mode does not take the argument {what}={given!r}")
    return lambda file: file
