"""Files of this machine: plain paths, and `LocalStore`, the files below one directory.

Guarantees: a file is opened once and read through that descriptor, straight into the cache's memory; what is
renamed over it or unlinked meanwhile does not matter to whoever has it open.  After every read the descriptor is
asked for its version (device, inode, mtime, size): a file that was written to since it was opened gives ESTALE.
Assumes: a write moves mtime.  Two writes within one tick of the file system's clock (at most 10 ms on Linux) look
like one, and a writer through mmap moves it only now and then: such a file must not be read while it is written.
Keys are real paths.  (device, inode) would let hard links share their pages too, but an inode's number is given
to another file as soon as it is free, and is not known before the file is opened.  Two mappings of one file cost
memory, never a wrong byte.  Symbolic links are therefore read, though nothing else is, before `open`.
Not here: ``file:`` URLs (stores/__init__.py).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Hashable

from ..errors import is_directory, no_size, not_regular, permission, stale
from .ranges import RangeOperations, require_length
from .source import Opened, Source


class LocalStore:
    """The files below the directory *root*.

    A path that leads out of it, by ``..``, by a symbolic link or because it is absolute, is refused with EACCES.
    That guards against paths from elsewhere, not against somebody who can change the directories meanwhile.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = os.path.realpath(root)

    def source(self, path: str) -> Source:
        """The file at *path*, relative to the root.  Raises: OSError(EACCES)."""
        joined = os.path.join(self._root, path)
        real = _real_path(joined)
        if os.path.commonpath([self._root, real]) != self._root:
            raise permission(joined, f"is not below {self._root}")
        # What was checked is what is opened, so that no link is followed a second time; but "file/" is no file.
        return LocalSource(real + "/" if path.endswith("/") else real, name=joined)


class LocalSource:
    """The file at *path*, found as `open` would find it now, even if the working directory changes later."""

    def __init__(self, path: str, *, name: str | None = None) -> None:
        self._path = path if os.path.isabs(path) or not path else os.path.join(os.getcwd(), path)
        self.key: Hashable = ("file", _real_path(path))
        self.name = path if name is None else name

    def open(self) -> Opened:
        """Raises: OSError as the operating system says: ENOENT, EACCES, EISDIR, ENOTDIR, …; ESPIPE."""
        try:
            _require_file(os.stat(self._path), self.name)  # before the open, which a device may take for an order
            # Should it be a FIFO by now, O_NONBLOCK keeps open() from waiting for a writer.
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            error.filename = self.name
            raise
        try:
            status = os.fstat(fd)
            _require_file(status, self.name)
            if not status.st_size and os.pread(fd, 1, 0):  # as files of /proc do
                raise no_size(self.name)
        except BaseException:
            os.close(fd)
            raise
        ops = _LocalOperations(fd, status, self.name)
        return Opened(ops, status.st_size, _version_of(status), close=lambda: os.close(fd))


class _LocalOperations(RangeOperations):
    readers_call = True  # the system's cache mostly has it: then a switch of threads takes longer

    def __init__(self, fd: int, opened: os.stat_result, name: str) -> None:
        self._device = opened.st_dev  # each disk is as fast as it is
        self.device_name = f"local {os.major(self._device)}:{os.minor(self._device)}"
        self._fd = fd
        self._version = _version_of(opened)
        self._name = name

    @property
    def device_key(self) -> Hashable:
        return "local", self._device

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        try:
            got_bytes = pread_up_to(self._fd, buffer, offset_bytes)
            # After the read, because before it a check would say nothing about a write that comes in between.
            now = _version_of(os.fstat(self._fd))
        except OSError as error:
            error.filename = self._name
            raise
        if now != self._version:
            raise stale(self._name, was=self._version, now=now)
        require_length(self._name, offset_bytes, len(buffer), got_bytes)


def _real_path(path: str) -> str:
    if "\0" in path:
        raise ValueError("embedded null byte")  # as `open` says; realpath() has other words in each release
    return os.path.realpath(path)


def pread_up_to(fd: int, buffer: memoryview, offset_bytes: int) -> int:
    """Fill *buffer* from a file at *offset_bytes*; return how many bytes came, fewer only at the file's end."""
    filled_bytes = 0
    while filled_bytes < len(buffer):
        with buffer[filled_bytes:] as rest:
            got_bytes = os.preadv(fd, [rest], offset_bytes + filled_bytes)
        if not got_bytes:
            break
        filled_bytes += got_bytes
    return filled_bytes


def _version_of(status: os.stat_result) -> str:
    return f"mtime={status.st_mtime_ns} size={status.st_size} inode={status.st_dev}:{status.st_ino}"


_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFSOCK: "a socket",
}


def _require_file(status: os.stat_result, name: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise is_directory(name)
    if not stat.S_ISREG(status.st_mode):
        raise not_regular(name, _KINDS.get(stat.S_IFMT(status.st_mode), "something else"))
