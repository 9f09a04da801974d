"""One source to one destination, through a cache, as `cp` and `sync` do it.

Guarantees: the source is opened, and the first of it read, before the destination is touched.  A local destination is
replaced as a whole, by what is on the disk by then; so is any other where its store replaces objects so.  It is as it
was unless the copy is complete, whatever interrupts it; but for a local file that is a mount of its own, which can only
be written to, once all of the copy is beside it.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pagein

from ..file import File
from ..stores import Source, source_of
from ..stores.local import LocalSource

REFRESH_S = 0.1
PIECE_BYTES = 1 << 20
CACHE_BYTES = 256 * PIECE_BYTES
"""Each byte is wanted once: enough to read ahead, and to write behind."""
DIRTY_LIMIT = 0.5
"""Half of that may wait for the destination."""
LINKS_MAX = 40
"""Linux follows no more of them on the way to a file (MAXSYMLINKS)."""

Progress = Callable[[int], object]
"""Is told, now and then, how many bytes have been copied."""


@contextmanager
def passing_cache() -> Iterator[pagein.PageCache]:
    """A cache for copies.  What an error has left in it is given up: that error says why."""
    cache = pagein.PageCache(CACHE_BYTES, dirty_background=DIRTY_LIMIT / 4, dirty_limit=DIRTY_LIMIT)
    try:
        yield cache
        cache.close()
    except BaseException:
        cache.close(discard=True)
        raise


def copy(cache: pagein.PageCache, source: str, target: str, progress: Progress, *, keeps_time: bool = False) -> int:
    """Copy *source* to *target*; return how many bytes.  With *keeps_time*, a local copy of a local file has its times.

    What fails is not in the cache afterwards: whoever opens *target* asks its store.
    Raises: OSError of either; ValueError if they are the same.
    """
    origin, place = source_of(source), source_of(target)
    if _are_same(origin, place):
        raise ValueError(f"{source} and {target} are the same file")
    # Before it is read: should it be another a moment later, the copy is older than it, and is seen to be.
    status = _status_of(origin.path) if isinstance(origin, LocalSource) else None
    with cache.open(source) as reader:
        assert isinstance(reader, File)
        reader.advise("sequential")
        head = reader.pread(PIECE_BYTES, 0)
        if isinstance(place, LocalSource):
            with _replacing(place, status, keeps_time=keeps_time) as new:
                _write(cache, reader, head, new, progress)
        else:
            _write(cache, reader, head, target, progress)
        return reader.size_bytes


def _are_same(source: Source, target: Source) -> bool:
    return source.key == target.key or (isinstance(source, LocalSource) and source.is_file_of(target))


def _status_of(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _write(cache: pagein.PageCache, reader: File, head: bytes, target: str, progress: Progress) -> None:
    """All of *reader*, which begins with *head*, to *target*, and have its store have it."""
    writer = cache.open(target, "wb")
    assert isinstance(writer, File)
    copying = _Copying(reader, head, writer)
    try:
        for copied_bytes in copying.copied():
            progress(copied_bytes)
        progress(reader.size_bytes)
        writer.fsync()  # and not close() alone, after which nothing could be given up
    except BaseException:
        for give_up in (writer.discard, writer.close):
            with suppress(OSError):  # what was raised first says more
                give_up()
        raise
    writer.close()


@contextmanager
def _replacing(place: LocalSource, status: os.stat_result | None, *, keeps_time: bool) -> Iterator[str]:
    """The path of a new file, which is then at *place*: with the permissions of what was there, and its group and owner
    where that may be; else with those of a source that has this *status*, as far as the umask lets it.

    Never in place while the source is read: whatever its name, it may be what is there, or be made from it.
    Raises: OSError, of *place*; and then all is as it was, but for what `_write_in_place` says.
    """
    try:
        path = _path_of(place)
        beside = tempfile.TemporaryDirectory(prefix=".pagein-", dir=os.path.dirname(path))
    except OSError as error:  # which names a directory that nobody knows
        raise OSError(error.errno, error.strerror, place.name) from error
    with beside as directory:
        new = os.path.join(directory, "new")
        try:
            _create(new, status)
            yield new
            _resemble(new, _status_of(path), status, keeps_time=keeps_time)
            try:
                os.replace(new, path)
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.EXDEV):
                    raise
                _write_in_place(new, path)  # it is mounted there, as containers mount single files
                if status is not None and keeps_time:
                    _set_times(path, status)
        except OSError as error:
            if error.filename in (new, path):
                raise OSError(error.errno, error.strerror, place.name) from error
            raise


def _path_of(place: LocalSource) -> str:
    """Where it is, or would be, through whatever links.

    Raises: OSError, EOPNOTSUPP for what a process has open (/dev/stdout, /proc/*/fd): the link's text says what that
    was called once, which may be nothing by now, or another file; and who has it open would not get what took its name.
    """
    path = place.path
    for _ in range(LINKS_MAX):
        named = os.path.dirname(path)
        directory = os.path.realpath(named)
        # Not the same: /proc/*/root and /proc/*/cwd say where they are to another process.
        if not os.path.samestat(os.stat(named), os.stat(directory)):
            break
        link = os.path.join(directory, os.path.basename(path))
        if not os.path.islink(link):
            return link
        if directory.startswith("/proc/"):
            break
        path = os.path.join(directory, os.readlink(link))
    else:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), place.name)
    text = "is what a process has open, which a copy cannot replace; `pagein cat SOURCE` writes to stdout"
    raise OSError(errno.EOPNOTSUPP, text, place.name)


def _create(new: str, source: os.stat_result | None) -> None:
    """Here, so that nobody makes this name durable, which is soon gone; and so that the system applies the umask, which
    only the whole process could be asked for."""
    mode = 0o666 if source is None else source.st_mode & 0o777
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode | 0o600))


def _resemble(new: str, replaced: os.stat_result | None, source: os.stat_result | None, *, keeps_time: bool) -> None:
    """Give *new* what it is to have of either, as far as its file system knows of that."""
    if source is not None and keeps_time:
        _set_times(new, source)
    if replaced is not None:
        _resemble_replaced(new, replaced)
    elif source is not None:
        with suppress(OSError):
            os.chmod(new, os.stat(new).st_mode & source.st_mode & 0o777)


def _resemble_replaced(new: str, replaced: os.stat_result) -> None:
    """The group first: what is another group's may let nobody in whom *replaced* did not.  Who is of either group is
    one of the others for the other, so that both may then do what both were allowed."""
    mode = replaced.st_mode & 0o777
    if os.stat(new).st_gid != replaced.st_gid:
        try:
            os.chown(new, -1, replaced.st_gid)
        except OSError:  # it is not ours to give
            common = mode >> 3 & mode & 0o7
            mode = mode & 0o700 | common << 3 | common
    with suppress(OSError):
        os.chmod(new, mode)
    with suppress(OSError):  # last, since then it may not be ours any more; or it is not ours to give
        os.chown(new, replaced.st_uid, -1)


def _set_times(path: str, source: os.stat_result) -> None:
    with suppress(OSError):  # then it is compared next time
        os.utime(path, ns=(source.st_atime_ns, source.st_mtime_ns))


def _write_in_place(new: str, path: str) -> None:
    """Over what is at *path*, which keeps all else that it has; on the disk when it returns.

    Raises: OSError, which says so if what is there is neither.
    """
    with open(new, "rb") as whole, open(path, "r+b") as there:
        try:
            shutil.copyfileobj(whole, there, PIECE_BYTES)
            there.truncate()
            there.flush()
            os.fsync(there.fileno())
        except OSError as error:
            text = f"{error.strerror}; as it is mounted it had to be written in place, and may be part old, part new"
            raise OSError(error.errno, text, path) from error


class _Copying:
    """In a thread, so that how far it is can be told meanwhile, and Ctrl-C heard."""

    def __init__(self, reader: File, head: bytes, writer: File) -> None:
        self._reader, self._head, self._writer = reader, head, writer
        self._copied_bytes = 0
        self._stopped = False
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        # A daemon: a store that does not answer must not keep the command from ending.
        self._thread = threading.Thread(target=self._guarded, name="copy", daemon=True)

    def copied(self) -> Iterator[int]:
        """How many bytes have been copied, now and then, until all have.  Nothing is written after it has ended."""
        self._thread.start()
        try:
            while self._thread.is_alive():
                self._thread.join(REFRESH_S)
                yield self._copied_bytes
        finally:
            with self._lock:
                self._stopped = True
        if self._error is not None:
            raise self._error

    def _guarded(self) -> None:
        try:
            piece = self._head
            while piece:
                with self._lock:
                    if self._stopped:
                        return
                    self._writer.write(piece)
                self._copied_bytes += len(piece)
                piece = self._reader.pread(PIECE_BYTES, self._copied_bytes)
        except BaseException as error:  # raised again by copied()
            self._error = error
