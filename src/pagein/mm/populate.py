"""Memory for bytes that are on their way, had from the system in one call before they come.

Guarantees: it is advice: what the system does not give is had when it is written to, and nothing beyond the range is
taken.  Other threads run meanwhile (`mmap.madvise` would hold the GIL).
Why: memory that is had page by page, each by a fault, costs more than to receive what comes into it: of 64 MiB 74 ms,
in one call 50 ms, while the answer is on its way.
Assumes: the range is a hole whose pages are locked by the caller.
Source: madvise(2), MADV_POPULATE_WRITE (Linux 5.14).
Not here: giving memory back (arena.py).  Huge pages (MADV_COLLAPSE) would cost a fourth, where the system has them at
hand; but mmap places no mapping at their bounds for certain, and a virtual machine may wait long for one.
"""

from __future__ import annotations

import mmap
import os
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ctypes

_MADV_POPULATE_WRITE = 23


def populate(memory: mmap.mmap, start: int, stop: int) -> None:
    """Have memory for the bytes from *start* to *stop* of a mapping, which are on page bounds."""
    madvise = _madvise()
    if madvise is not None:
        import ctypes

        # The exported buffer keeps the mapping where it is.
        begin = ctypes.c_char.from_buffer(memory, start)
        madvise(ctypes.addressof(begin), stop - start, _MADV_POPULATE_WRITE)  # an error means: not now


@cache
def _madvise() -> ctypes._NamedFuncPointer | Any | None:
    """The system's own, called without the GIL."""
    if not hasattr(os, "memfd_create"):
        return None
    try:
        import ctypes

        madvise = ctypes.CDLL(None).madvise
    except (ImportError, OSError, AttributeError):
        return None
    madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    return madvise
