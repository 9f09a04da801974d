"""What of local files is not on the disk for certain after they were closed: what was written, and names of new ones.

Guarantees: whoever in this process fsyncs a new file first makes its name durable, too, be it that he has opened it
anew; `ClosedFiles.fsync` makes durable all that was noted before, also of a file that has another name by then.
Assumes: an fsync through one descriptor of a file is of what was written through any, as in Linux.
Not here: files that are open (local.py).
"""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from typing import NamedTuple

FileId = tuple[int, int]
"""Device and inode."""

NAMES_MAX = 4096
"""Of so many it is known.  When there have been more, any file may be one of them."""

CLOSED_MAX = 1000
"""So many files that were closed are fsynced one by one.  When there were more, sync(2) makes all of them durable."""

_new: dict[FileId, None] = {}
"""Each step is one call of a dictionary."""
_forgotten: list[FileId] = []
"""Not empty while there may be names of which it is not known any more; each step is one call of a list."""


def file_id_of(status: os.stat_result) -> FileId:
    """By which a file is known, whatever its name."""
    return status.st_dev, status.st_ino


def note_new(file: FileId) -> None:
    """This process may have made it just now."""
    if len(_new) >= NAMES_MAX:
        _forgotten.append(file)
        _new.clear()
        _forgotten.append(file)  # again: who has seen the first before he began to sync knew nothing of what came since
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


class ClosedFile(NamedTuple):
    """One that was written to, and is to be fsynced."""

    file: FileId
    path: str


class ClosedFiles:
    """Those that were written to through one cache, and that nobody has fsynced since."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[FileId, ClosedFile] = {}
        self._forgotten_count = 0

    def note(self, closed: ClosedFile) -> None:
        """This one is closed, or about to be."""
        with self._lock:
            if len(self._files) >= CLOSED_MAX and closed.file not in self._files:
                self._files.clear()
                self._forgotten_count += 1
            self._files[closed.file] = closed

    def fsync(self) -> None:
        """Make all of them durable.

        Blocks: as long as the disk takes; where some have been forgotten, or can no longer be found by their name, as
        long as sync(2) takes, which tells of no error.  Raises: OSError: of one of them, which is told once.
        """
        with self._lock:
            files, forgotten_count = list(self._files.values()), self._forgotten_count
        finds_all = not forgotten_count
        for closed in files:
            try:
                finds_all = _fsync(closed) and finds_all
            except OSError:
                self._forget([closed])
                raise
        if not finds_all:
            forgotten = list(_forgotten)
            os.sync()
            for file in forgotten:  # as often as it is there; another who syncs may have been faster
                with suppress(ValueError):
                    _forgotten.remove(file)
        self._forget(files)
        with self._lock:
            if self._forgotten_count == forgotten_count:
                self._forgotten_count = 0

    def _forget(self, files: list[ClosedFile]) -> None:
        """But what was closed once more since."""
        with self._lock:
            for closed in files:
                if self._files.get(closed.file) is closed:
                    del self._files[closed.file]


def _fsync(closed: ClosedFile) -> bool:
    """Make it durable, and its name; False if it has no longer that name.  Raises: OSError."""
    try:
        fd = os.open(closed.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:  # or it may not be read
        return False
    try:
        if file_id_of(os.fstat(fd)) != closed.file:
            return False
        os.fsync(fd)
        if may_be_new(closed.file):
            fsync_directory(os.path.dirname(os.path.realpath(closed.path)))
            note_durable(closed.file)
    except OSError as error:
        error.filename = closed.path
        raise
    finally:
        os.close(fd)
    return True
