"""Which version of a local file is there: what its inode says, and whether that can be told from the next one.

Guarantees: two looks that give equal versions have seen equal bytes, also where the file system's clock is coarse: a
file that was written to within the last tick may be written to once more without a trace, so that its version is one
that no other look gives (git calls such an entry "racily clean").  What this process writes itself is known by it.
Assumes: a write moves mtime to the time of this machine's clock.  Another program's write is told from one of ours
unless it comes within the same tick, and with the same size.
Not here: what follows when it is another (local.py, pagein.lookup).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import NamedTuple

TICK_NS = 20_000_000
"""A kernel's clock of files goes on at least 100 times a second (CONFIG_HZ), and this is twice that..."""
COARSE_TICK_NS = 2_000_000_000
"""...or every second, or every other one, where times are whole seconds: FAT, ext3, some FUSE file systems."""
OWN_MAX = 4096
"""So many files are known to have been written by this process.  One that is forgotten is as any other."""

now_ns: Callable[[], int] = time.time_ns

_own: dict[tuple[int, int], tuple[str, str]] = {}
"""By device and inode: the stamp after our last write, and its mark.  Each step is one call of a dictionary."""


class FileVersion(NamedTuple):
    """What a look has found."""

    stamp: str
    """What the system says: it is compared wherever nobody asks whether two looks have seen the same."""
    mark: str = ""
    """What tells it from others with the same stamp."""
    is_racy: bool = False
    """Whether the file may be written to without another stamp: the mark is of this look only."""
    is_own: bool = False
    """Whether this process has written it, and knows that still."""

    def __str__(self) -> str:
        return self.stamp + self.mark

    def is_still(self, now: FileVersion) -> bool:
        """Whether who reads this one may read on, as far as *now* tells."""
        return self.stamp == now.stamp and (self.mark == now.mark or not now.is_own)


def look(at: int | str) -> tuple[os.stat_result, FileVersion]:
    """What is at a path, or is open as a descriptor.  Raises: OSError."""
    began_ns = now_ns()  # before: what is written after the look must have another time than what the look has seen
    status = os.fstat(at) if isinstance(at, int) else os.stat(at)
    return status, _judged(status, began_ns)


def _judged(status: os.stat_result, began_ns: int) -> FileVersion:
    stamp = stamp_of(status)
    own_stamp, mark = _own.get((status.st_dev, status.st_ino), ("", ""))
    if own_stamp == stamp:
        return FileVersion(stamp, mark, is_own=True)
    tick_ns = TICK_NS if status.st_mtime_ns % 1_000_000_000 else COARSE_TICK_NS
    if abs(began_ns - status.st_mtime_ns) <= tick_ns:
        return FileVersion(stamp, _new_mark("racy"), is_racy=True)
    return FileVersion(stamp)


def note_own(status: os.stat_result) -> FileVersion:
    """This process has changed the file, and this is what it is since."""
    file, stamp = (status.st_dev, status.st_ino), stamp_of(status)
    own_stamp, _ = _own.get(file, ("", ""))
    mark = _new_mark("write") if own_stamp == stamp else ""  # where the clock has stood since our last write
    if len(_own) >= OWN_MAX:
        _own.clear()
    _own[file] = stamp, mark
    return FileVersion(stamp, mark, is_own=True)


def stamp_of(status: os.stat_result) -> str:
    """What a write changes, and nothing else does."""
    return f"mtime={status.st_mtime_ns} size={status.st_size} inode={status.st_dev}:{status.st_ino}"


def _new_mark(word: str) -> str:
    return f" {word}={os.urandom(6).hex()}"


os.register_at_fork(after_in_child=_own.clear)  # the parent writes on
