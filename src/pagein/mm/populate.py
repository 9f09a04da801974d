"""Memory for bytes that are on their way, had from the system before they come: huge pages where they fill whole ones.

Guarantees: it is advice: what the system does not give is had when it is written to, and nothing beyond the range is
taken.  Other threads run meanwhile (`mmap.madvise` would hold the GIL).
Why: memory that is had page by page, each by a fault, costs more than to receive what comes into it: of 64 MiB, 74 ms;
populated in one call 50 ms, of huge pages 12 ms.  Nobody has to turn huge pages on for files in memory: MADV_COLLAPSE
makes one of whatever lies in its place, a hole but for one page here.  The system splits it when a part is punched out,
so a page is evicted as any other.
Assumes: the range is a hole whose pages are locked by the caller.
Source: madvise(2), MADV_POPULATE_WRITE (Linux 5.14) and MADV_COLLAPSE (6.1); Linux's admin-guide/mm/transhuge.rst.
Not here: giving memory back (arena.py).
"""

from __future__ import annotations

import errno
import mmap
import os
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ctypes

HUGE_SHIFT = 21
HUGE_BYTES = 1 << HUGE_SHIFT
"""A huge page of x86-64, and of ARM64 with small pages of 4 KiB."""
CHEAP_S = 1.2e-3
"""A huge page that takes the processor longer costs more than 512 small ones: scattered, or, in a virtual machine, not
the machine's yet, where small pages are used again while they are warm."""
SKIPPED_MAX = 1024
"""After one that was not to be had, or not cheap, twice as many runs as before do without, up to so many; then one page
is tried."""
_MADV_POPULATE_WRITE, _MADV_COLLAPSE = 23, 25
_THP = "/sys/kernel/mm/transparent_hugepage"


def mapped(fd: int, size_bytes: int) -> mmap.mmap:
    """Map a file in memory, if it can be had at an address that allows for huge pages; the file may be any."""
    memory = mmap.mmap(fd, size_bytes)
    misplaced_bytes = _address(memory) % HUGE_BYTES if may_be_huge() else 0
    if not misplaced_bytes or size_bytes < HUGE_BYTES:
        return memory
    # Linux takes the highest hole that is large enough.  The filler is too large for most, as the mapping is: it lies
    # where that has lain, and what is mapped next right below it.
    memory.close()
    # (Of the largest there are no two.)
    with suppress(OSError), mmap.mmap(fd, size_bytes - HUGE_BYTES + misplaced_bytes):
        return mmap.mmap(fd, size_bytes)
    return mmap.mmap(fd, size_bytes)


class _Luck:
    """Whether huge pages are cheap at the moment: one for the process, since memory is the system's.

    No lock: a race may lose a count, on which nothing hangs.
    """

    def __init__(self) -> None:
        self._to_skip = 0
        self._skip_next = 1

    @property
    def is_in_doubt(self) -> bool:
        return self._skip_next > 1

    def tries(self) -> bool:
        if self._to_skip:
            self._to_skip -= 1
            return False
        return True

    def had(self) -> None:
        self._skip_next = 1

    def had_not(self) -> None:
        self._to_skip, self._skip_next = self._skip_next, min(2 * self._skip_next, SKIPPED_MAX)


_luck = _Luck()


class Populating:
    """Of one mapping of a file in memory."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._address = _address(memory) if _madvise() is not None else 0
        self._has_huge = may_be_huge() and self._address % HUGE_BYTES == 0

    def populate(self, start: int, stop: int) -> None:
        """Have memory for the bytes from *start* to *stop* of the mapping, which are on page bounds."""
        if not self._address:
            return
        huge_start, huge_stop = -(-start >> HUGE_SHIFT) << HUGE_SHIFT, stop >> HUGE_SHIFT << HUGE_SHIFT
        if huge_start < huge_stop and self._has_huge and _luck.tries():
            if _luck.is_in_doubt:
                huge_stop = huge_start + HUGE_BYTES
            if self._collapse(huge_start, huge_stop):
                self._advise(start, huge_start, _MADV_POPULATE_WRITE)
                self._advise(huge_stop, stop, _MADV_POPULATE_WRITE)
                return
        self._advise(start, stop, _MADV_POPULATE_WRITE)

    def _collapse(self, start: int, stop: int) -> bool:
        for at in range(start, stop, HUGE_BYTES):
            self._memory[at] = 0  # of nothing at all it would make nothing
        began_s = _spent_s()
        failed = self._advise(start, stop, _MADV_COLLAPSE)
        is_cheap = _spent_s() - began_s <= (stop - start) / HUGE_BYTES * CHEAP_S
        if failed == errno.EINVAL:  # a system that does not know it
            self._has_huge = False
        if failed or not is_cheap:
            _luck.had_not()
        else:
            _luck.had()
        return not failed

    def _advise(self, start: int, stop: int, advice: int) -> int:
        """0, or why not."""
        if start >= stop:
            return 0
        import ctypes

        madvise = _madvise()
        assert madvise is not None, "then there is no address"
        failed: int = madvise(self._address + start, stop - start, advice)
        return ctypes.get_errno() if failed else 0


@cache
def may_be_huge() -> bool:
    """Whether the system has huge pages of this size, and whoever runs it has not turned them off."""
    if _madvise() is None or mmap.PAGESIZE != 4096:
        return False
    with suppress(OSError):
        size_bytes, enabled, of_files = (
            _first_line(f"{_THP}/{name}") for name in ("hpage_pmd_size", "enabled", "shmem_enabled")
        )
        return int(size_bytes) == HUGE_BYTES and "[never]" not in enabled and "[deny]" not in of_files
    return False


def _spent_s() -> float:
    """This thread's own time, not the clock's: who else runs is no matter."""
    import resource  # Linux has RUSAGE_THREAD

    used = resource.getrusage(resource.RUSAGE_THREAD)
    return used.ru_utime + used.ru_stime


def _first_line(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.readline()


@cache
def _madvise() -> ctypes._NamedFuncPointer | Any | None:
    """The system's own, called without the GIL."""
    if not hasattr(os, "memfd_create"):
        return None
    try:
        import ctypes

        madvise = ctypes.CDLL(None, use_errno=True).madvise
    except (ImportError, OSError, AttributeError):
        return None
    madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    return madvise


def _address(memory: mmap.mmap) -> int:
    import ctypes

    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
