"""What is staged: temporary files of which some bytes count, and the whole that is uploaded from one.

Guarantees: a file is given back with the last that refers to it, whoever still reads; a whole can be read through a
mapping without the death of the process on a full disk.
Not here: which layer lies above which (staged.py).
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING

from .intervals import Intervals
from .local import pread_up_to

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

CHUNK_BYTES = 8 << 20
"""So much is fetched, or copied, at once."""


class Whole:
    """An object as it will be: a file that does not change until the upload has ended."""

    def __init__(self, fd: int, size_bytes: int) -> None:
        self.fd = fd
        self.size_bytes = size_bytes

    @property
    def path(self) -> str:
        """Where it can be opened, in this process only: it has no name."""
        return f"/proc/self/fd/{self.fd}"

    @cached_property
    def digest(self) -> bytes:
        """By which its bytes are known again."""
        return digest(self.size_bytes, lambda at, part_bytes: os.pread(self.fd, part_bytes, at))

    @contextmanager
    def mapped(self) -> Iterator[ReadableBuffer]:
        """Its bytes, which need not fit into memory.  Raises: OSError(ENOSPC)."""
        if not self.size_bytes:
            yield b""
            return
        try:
            os.posix_fallocate(self.fd, 0, self.size_bytes)  # else reading a hole of it on a full tmpfs would be SIGBUS
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system that cannot promise
                raise
        mapped = mmap.mmap(self.fd, self.size_bytes, access=mmap.ACCESS_READ)
        try:
            yield mapped
        finally:
            try:
                mapped.close()
            except BufferError:  # a request that was given up lets go of it in a moment, and with that it ends
                pass


def digest(size_bytes: int, read: Callable[[int, int], bytes]) -> bytes:
    """SHA-256 of what ``read(offset_bytes, size_bytes)`` brings of so many bytes."""
    sha = sha256()
    for at in range(0, size_bytes, CHUNK_BYTES):
        sha.update(read(at, min(CHUNK_BYTES, size_bytes - at)))
    return sha.digest()


class Layer:
    """A temporary file, some bytes of which count."""

    def __init__(self, below_bytes: int = sys.maxsize) -> None:
        self.staged: Intervals = Intervals()
        self.below_bytes = below_bytes
        """What the layers below have from here on was cut off: it is zeros."""
        self._fd = -1
        self._fd_lock = threading.Lock()

    @property
    def fd(self) -> int:
        """The file, made when it is first needed."""
        with self._fd_lock:
            if self._fd < 0:
                with tempfile.TemporaryFile(prefix="pagein-", buffering=0) as file:
                    self._fd = os.dup(file.fileno())  # it is closed with the layer, whoever reads it last
            return self._fd

    def read(self, buffer: memoryview, offset_bytes: int) -> None:
        """What ends before it should has been cut off meanwhile, or punched: zeros."""
        got_bytes = pread_up_to(self.fd, buffer, offset_bytes)
        if got_bytes < len(buffer):
            buffer[got_bytes:] = bytes(len(buffer) - got_bytes)

    def shrink(self, size_bytes: int) -> None:
        """Give back what lies beyond, if there is anything."""
        if self._fd >= 0 and os.fstat(self._fd).st_size > size_bytes:
            os.ftruncate(self._fd, size_bytes)

    def close(self) -> None:
        """Nobody refers to it any more."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close
