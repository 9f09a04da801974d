"""Names of local files that this process has made, and that are not on the disk for certain.

Guarantees: whoever in this process fsyncs such a file first makes its name durable, too, be it that he has opened it
anew; a name that is here without need costs an fsync of its directory.
Not here: what was written to the file (local.py).
"""

from __future__ import annotations

import errno
import os

FileId = tuple[int, int]
"""Device and inode."""

NAMES_MAX = 4096
"""Of so many it is known.  When there have been more, any file may be one of them."""

_new: dict[FileId, None] = {}
"""Each step is one call of a dictionary."""
_forgotten: list[FileId] = []
"""One of those of which it is not known any more, if there is any."""


def file_id_of(status: os.stat_result) -> FileId:
    """By which a file is known, whatever its name."""
    return status.st_dev, status.st_ino


def note_new(file: FileId) -> None:
    """This process may have made it just now."""
    if len(_new) >= NAMES_MAX:
        _forgotten[:] = [file]
        _new.clear()
    _new[file] = None


def may_be_new(file: FileId) -> bool:
    """Whether its name may not be on the disk."""
    return file in _new or bool(_forgotten)


def note_durable(file: FileId) -> None:
    """Its name is on the disk."""
    _new.pop(file, None)


def fsync_directory(path: str) -> None:
    """Make the names in it durable.  Raises: OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that does so by itself, or not at all
            raise
    finally:
        os.close(fd)
