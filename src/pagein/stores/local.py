"""Files of this machine: plain paths, and `LocalStore`, the files below one directory.

Guarantees: a file is opened once and read through that descriptor, straight into the cache's memory; what is
renamed over it or unlinked meanwhile does not matter to whoever has it open.  After every read the descriptor is
asked for its version (device, inode, mtime, size): a file that was written to since it was opened gives ESTALE.
Assumes: a write moves mtime.  Two writes within one tick of the file system's clock look like one to who reads on
meanwhile, though not to who opens the file again (local_version.py), and a writer through mmap moves mtime only now and
then: such a file must not be read while it is written.
Keys are real paths.  (device, inode) would let hard links share their pages too, but an inode's number is given
to another file as soon as it is free, and is not known before the file is opened.  Two mappings of one file cost
memory, never a wrong byte.  Symbolic links are therefore read, though nothing else is, before `open`.
Opened for writing, a file is written in place, and what was written before an fsync that returns is on the disk, the
name of a new file too.  A change by somebody else is seen before a store, or after a fill, that runs while none of
our own writes does: theirs moves mtime as ours does.  Once an fsync has failed, so does every later one: the system
may have dropped what it could not write, and would not say so again.
Not here: ``file:`` URLs (stores/__init__.py).
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from ..errors import conflict, is_directory, no_size, not_regular, permission, same_file, stale, store_failed
from ..mm.aops import AddressSpaceOperations
from .local_fsync import ClosedFile, file_id_of, fsync_directory, may_be_new, note_durable, note_new
from .local_version import FileVersion, look, note_own, stamp_of
from .ranges import RangeOperations, require_length
from .source import Opened, Source
from .writing import punch, require_owner, write_all


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
        self.name: str = path if name is None else name

    @property
    def path(self) -> str:
        """Where it is, from the root."""
        return self._path

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
            status, version = look(fd)
            _require_file(status, self.name)
            if not status.st_size and os.pread(fd, 1, 0):  # as files of /proc do
                raise no_size(self.name)
        except BaseException:
            os.close(fd)
            raise
        ops = _LocalOperations(fd, status, self.name)
        return Opened(
            ops, status.st_size, str(version), close=lambda: os.close(fd), look=partial(self._look, version),
            has_validator=not version.is_racy,
        )  # fmt: skip

    def _look(self, was: FileVersion) -> Opened | None:
        """One stat."""
        try:
            _, now = look(self._path)
        except OSError as error:
            error.filename = self.name
            raise
        return None if was.is_still(now) else self.open()

    def open_for_writing(self, *, create: bool, exclusive: bool, truncate: bool) -> Opened:
        """What *create* and *truncate* do is done at once.  Raises: OSError as the operating system says; ESPIPE."""
        try:
            fd, is_new = self._open_fd(create=create, exclusive=exclusive)
            try:
                _require_file(os.fstat(fd), self.name)
                if truncate:
                    os.ftruncate(fd, 0)
                status, version = look(fd)
                if is_new:
                    note_new(file_id_of(status))
                if (truncate or is_new) and not status.st_size:
                    version = note_own(status)
            except BaseException:
                os.close(fd)
                raise
        except OSError as error:
            error.filename = self.name
            raise
        directory = os.path.dirname(_real_path(self._path)) if may_be_new(file_id_of(status)) else None
        ops = _WritableOperations(fd, status, self.name, directory, version, closed_as=self._path, is_cut=truncate)
        return Opened(
            ops, status.st_size, ops.version, close=lambda: os.close(fd), has_validator=not version.is_racy
        )  # fmt: skip

    def open_aside(self, *, beside: AddressSpaceOperations | None = None) -> Opened:
        """A new file that takes the place of this one, with its permissions, in ``ops.fsync()``; without that it goes.

        *beside* is what will be read meanwhile.  Raises: OSError: EINVAL if that reads this file, whatever its name;
        EACCES if this one may not be written to, or nothing be made in its directory.
        """
        path = _real_path(self._path)
        aside = os.path.join(os.path.dirname(path), f".pagein-{os.urandom(16).hex()}")
        try:
            replaced = self._to_replace()
            if replaced is not None and isinstance(beside, _LocalOperations) and beside.reads(replaced):
                raise same_file(beside.name, self.name)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            fd = os.open(aside, flags, 0o666 if replaced is None else 0o600)
        except OSError as error:
            error.filename = self.name
            raise
        try:
            ops = _AsideOperations(fd, aside, path, replaced, self.name)
        except BaseException:
            os.close(fd)
            raise
        return Opened(ops, 0, ops.version, close=ops.close)

    def _to_replace(self) -> os.stat_result | None:
        """What is there, which may be written to; None if there is nothing."""
        try:
            status = os.stat(self._path)
        except (FileNotFoundError, NotADirectoryError) as error:
            if self._path.endswith("/"):  # to which O_CREAT says EISDIR, be it the name of a file
                raise is_directory(self.name) from None
            if error.errno != errno.ENOENT:
                raise
            return None
        _require_file(status, self.name)
        os.close(os.open(self._path, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY))
        return status

    def is_file_of(self, other: Source) -> bool:
        """Whether *other* is the same file, by this name or another."""
        if not isinstance(other, LocalSource):
            return False
        try:
            return self.key == other.key or os.path.samefile(self._path, other._path)
        except OSError:  # one of them is not there
            return False

    def _open_fd(self, *, create: bool, exclusive: bool) -> tuple[int, bool]:
        """The descriptor, and whether the file may be new: its name has to be made durable, too."""
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        if exclusive:
            return os.open(self._path, flags | os.O_CREAT | os.O_EXCL, 0o666), True
        try:
            _require_file(os.stat(self._path), self.name)
            return os.open(self._path, flags), False
        except (FileNotFoundError, NotADirectoryError):  # the latter of "file/", to which O_CREAT says EISDIR
            if not create:
                raise
        return os.open(self._path, flags | os.O_CREAT, 0o666), True


class _LocalOperations(RangeOperations):
    readers_call = True  # the system's cache mostly has it: then a switch of threads takes longer
    # Not `validates`: the descriptor says nothing of another file that has taken the place of this one at its path.

    def __init__(self, fd: int, opened: os.stat_result, name: str) -> None:
        self._device = opened.st_dev  # each disk is as fast as it is
        self.device_name = f"local {os.major(self._device)}:{os.minor(self._device)}"
        self._fd = fd
        self._stamp = stamp_of(opened)
        self._name = name

    @property
    def name(self) -> str:
        """What the user called it."""
        return self._name

    @property
    def device_key(self) -> Hashable:
        return "local", self._device

    def reads(self, status: os.stat_result) -> bool:
        """Whether it is that file."""
        return os.path.samestat(os.fstat(self._fd), status)

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        try:
            got_bytes = pread_up_to(self._fd, buffer, offset_bytes)
            # After the read, because before it a check would say nothing about a write that comes in between.
            now = stamp_of(os.fstat(self._fd))
        except OSError as error:
            error.filename = self._name
            raise
        if now != self._stamp:
            raise stale(self._name, was=self._stamp, now=now)
        require_length(self._name, offset_bytes, len(buffer), got_bytes)


class _WritableOperations(_LocalOperations):
    writable = True

    def __init__(
        self,
        fd: int,
        opened: os.stat_result,
        name: str,
        directory: str | None,
        version: FileVersion,
        *,
        closed_as: str,
        is_cut: bool = False,
    ) -> None:
        super().__init__(fd, opened, name)
        self._version = version
        self._racy_mark = version.mark if version.is_racy else ""
        """What is read through these operations may be older than what it lies beside, whatever is written then."""
        self._pid = os.getpid()
        self._file = file_id_of(opened)
        self._new_in = directory
        self._fsync_failed: OSError | None = None
        self._fsync_lock = threading.Lock()  # held across I/O: of two at once, the one that fails must tell the other
        self._lock = threading.Lock()  # of the version and these two
        self._writers = 0
        self._changes = 0
        self._synced_changes = -1 if is_cut else 0
        self._closed = ClosedFile(self._file, closed_as)

    @property
    def version(self) -> str:
        """The version that the file has, as far as we know."""
        version = self._version  # one step
        return f"{version}{self._racy_mark}" if version.is_own else str(version)

    @property
    def closed_file(self) -> ClosedFile | None:
        """What is to be fsynced yet, also after it was closed; None if everything has been.  Blocks: no."""
        is_synced = self._changes == self._synced_changes and self._new_in is None
        return None if is_synced else self._closed

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        require_owner(self._pid, self._name)
        with self._lock:
            changes = self._changes
        with self._named():
            got_bytes = pread_up_to(self._fd, buffer, offset_bytes)
            with self._lock:
                if not self._writers and changes == self._changes:  # else the version may be another by our own doing
                    self._require_version()
        require_length(self._name, offset_bytes, len(buffer), got_bytes)

    def store(self, buffer: memoryview, offset_bytes: int) -> None:
        """Raises: OSError as the system says: ENOSPC, EDQUOT, EFBIG, EPERM, EIO; ESTALE."""
        with self._changing():
            write_all(self._fd, buffer, offset_bytes)

    def set_size(self, size_bytes: int) -> None:
        """Raises: OSError as the system says: EFBIG, EPERM, EIO; ESTALE."""
        with self._changing():
            os.ftruncate(self._fd, size_bytes)

    def punch_hole(self, offset_bytes: int, size_bytes: int) -> None:
        """Raises: NotImplementedError where there are no holes; OSError."""
        with self._changing():
            punch(self._fd, offset_bytes, size_bytes)

    def fsync(self) -> None:
        """Content, size, and the name of a new file.  Raises: OSError, and from then on each time."""
        require_owner(self._pid, self._name)
        with self._fsync_lock:
            if self._fsync_failed is not None:
                failed = self._fsync_failed
                text = f"what was written may be lost, since an fsync has failed ({failed.strerror}): save it elsewhere"
                raise store_failed(self._name, text, failed.errno or errno.EIO) from failed
            with self._named():
                with self._lock:
                    changes = self._changes  # those that are under way count once more when they end
                try:
                    os.fsync(self._fd)
                except OSError as error:
                    self._fsync_failed = error.with_traceback(None)
                    raise
                if self._new_in is not None:
                    fsync_directory(self._new_in)
                    note_durable(self._file)
                    self._new_in = None
                self._synced_changes = changes

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """What is done in here changes the file: its version is ours if it was ours before."""
        require_owner(self._pid, self._name)
        with self._named():
            with self._lock:
                if not self._writers:  # else what another of our writers does looks like somebody else's doing
                    self._require_version()
                self._writers += 1
                self._changes += 1
            try:
                yield
            finally:
                with self._lock:
                    self._writers -= 1
                    self._changes += 1
                    if not self._writers:
                        self._version = note_own(os.fstat(self._fd))
                        self._stamp = self._version.stamp

    def _require_version(self) -> None:
        now = stamp_of(os.fstat(self._fd))
        if now != self._stamp:
            raise conflict(self._name, was=self._stamp, now=now)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename = self._name
            raise


class _AsideOperations(_WritableOperations):
    """A new file at *aside*, which takes the place of what is at *path* with the first fsync that succeeds."""

    def __init__(self, fd: int, aside: str, path: str, replaced: os.stat_result | None, name: str) -> None:
        status = os.fstat(fd)
        super().__init__(fd, status, name, None, note_own(status), closed_as=path)
        self._aside: str | None = aside
        self._path = path
        self._mode = None if replaced is None else replaced.st_mode & 0o777

    def fsync(self) -> None:
        """Raises: OSError, and then what was there still is."""
        super().fsync()
        if self._aside is not None:
            with self._named():
                if self._mode is not None:
                    os.fchmod(self._fd, self._mode)
                os.replace(self._aside, self._path)
                self._aside = None
                fsync_directory(os.path.dirname(self._path))

    def close(self) -> None:
        """Nobody uses it any more."""
        os.close(self._fd)
        if self._aside is not None:
            with suppress(OSError):  # somebody else has removed it
                os.unlink(self._aside)


def _real_path(path: str) -> str:
    if "\0" in path:
        raise ValueError(f"embedded null byte in {path!r}")  # realpath() has other words in each release
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
