"""What stores that write share: whole writes, holes, and who may write at all.

Guarantees: a write is complete or raises; a hole reads as zeros.
Not here: what is written where (local.py, staged.py).
"""

from __future__ import annotations

import errno
import os
from functools import cache
from typing import TYPE_CHECKING

from ..errors import written_by_parent

if TYPE_CHECKING:
    from ctypes import _NamedFuncPointer

_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 1, 2
_ZEROS = bytes(1 << 20)
_NO_HOLES = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV, errno.EINVAL})


def require_owner(pid: int, name: str) -> None:
    """Raise OSError(EBADF) unless this is process *pid*, which opened *name* for writing.

    A forked child shares the parent's descriptors: what it wrote would be in the parent's file.
    """
    if os.getpid() != pid:
        raise written_by_parent(name)


def write_all(fd: int, buffer: memoryview, offset_bytes: int) -> None:
    """Write all of *buffer*.  Raises: OSError, and then the first part of it may be written."""
    written_bytes = 0
    while written_bytes < len(buffer):
        with buffer[written_bytes:] as rest:
            written_bytes += os.pwrite(fd, rest, offset_bytes + written_bytes)


def punch(fd: int, offset_bytes: int, size_bytes: int) -> None:
    """Give the range back to the file system; it reads as zeros, and the file's size stays.

    Raises: NotImplementedError where the C library or the file system knows no holes; OSError.
    """
    fallocate = _fallocate()
    if fallocate is None:
        raise NotImplementedError("this C library has no fallocate")
    from ctypes import get_errno

    while fallocate(fd, _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE, offset_bytes, size_bytes):
        code = get_errno()
        if code in _NO_HOLES:
            raise NotImplementedError("this file system has no holes")
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))


@cache
def _fallocate() -> _NamedFuncPointer | None:
    import ctypes  # its import takes longer than pagein's own

    try:
        found = ctypes.CDLL(None, use_errno=True).fallocate64
    except (AttributeError, OSError):
        try:
            found = ctypes.CDLL(None, use_errno=True).fallocate  # off_t has 64 bits where there is only this (musl)
        except (AttributeError, OSError):
            return None
    found.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    found.restype = ctypes.c_int
    return found


def zero(fd: int, start: int, stop: int) -> None:
    """Let [start, stop) read as zeros, as a hole if possible; the file's size stays or grows up to *stop*."""
    if start >= stop:
        return
    try:
        punch(fd, start, stop - start)
    except NotImplementedError:
        with memoryview(_ZEROS) as zeros:
            for at in range(start, stop, len(_ZEROS)):
                write_all(fd, zeros[: min(len(_ZEROS), stop - at)], at)
