"""What a filesystem of fsspec's is asked about one file: what it is, and for bytes; and what its errors become.

Guarantees: it is called by whoever may call it, one at a time if that is all that it can take; every error has an errno
and a name; an answer that does not come is an error, in time, of those that are async.
Not here: which file a source is, and what is made of its bytes (fsspec.py), which object is called for another
(fsspec_instances.py), replacing a file (fsspec_writing.py).
"""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Iterator, Mapping, Set
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, NamedTuple

from fsspec import AbstractFileSystem
from fsspec.archive import AbstractArchiveFileSystem
from fsspec.asyn import sync
from fsspec.implementations.cached import CachingFileSystem, WholeFileCacheFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from ..errors import (
    is_directory,
    longer_than_told,
    negative_size,
    no_size,
    not_found,
    not_regular,
    permission,
    store_failed,
)
from . import policy
from .fsspec_instances import (
    callable_here,
    innermost,
    is_async,
    is_cheap_to_look_at,
    keep_of_parent,
    lock_of,
)

VALIDATORS = frozenset(
    {
        "etag", "contentmd5", "digest", "md5", "md5hash", "crc", "crc32c", "chksum", "sha", "hex", "generation",
        "versionid", "lastmodified", "modified", "modify", "updated", "mtime", "datetime", "ino",
    }
)  # fmt: skip
"""Keys of ``info``, in lower case and without punctuation, of which one changes if the content does."""
OF_CONTENT = frozenset({"contentmd5", "digest", "md5", "md5hash", "crc", "crc32c", "sha", "hex"})
"""Those that do even if somebody has set the time: archives are made with the same times for all versions."""

REASON_LENGTH_MAX = 200
"""Of what a filesystem says, in an error's message."""


class Seen(NamedTuple):
    """What a filesystem says of a file."""

    size_bytes: int
    validators: str
    etag: str = ""
    """A strong one, of HTTP."""

    def __str__(self) -> str:
        return f"{self.validators} size={self.size_bytes}".lstrip()


class Reader:
    """What is asked of the filesystem, one call at a time if that is all that it can take."""

    def __init__(self, fs: AbstractFileSystem, path: str, name: str) -> None:
        self.name = name
        self.fs: Any = fs
        self.path = path
        self.fs_id: int = id(fs)
        self.device_name: str = f"fsspec {fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]}"
        self.is_cheap_to_look_at: bool = is_cheap_to_look_at(fs)
        self._pid = os.getpid()
        self._own_lock = lock_of(fs)
        self._file: Any = None

    def anew(self) -> Reader:
        """Another one, of what is there now.  Raises: OSError."""
        with as_os_error(self.name):
            return Reader(callable_here(self.fs), self.path, self.name)

    @property
    def _lock(self) -> AbstractContextManager[object]:
        """Blocks: at the first call in a child of a fork.  Raises: whatever the filesystem raises."""
        if self._pid != os.getpid():
            self._begin_anew()
        return self._own_lock

    def _begin_anew(self) -> None:
        """After a fork, in the child, which shares the positions and connections of its parent, and no event loop."""
        pid = os.getpid()
        # A lock of this process: a thread that stayed in the parent may have held one that was made there.
        with self.__dict__.setdefault(f"_beginning_{pid}", threading.RLock()):
            if self._pid == pid:
                return
            fs = callable_here(self.fs)
            own_lock = lock_of(fs)
            if self._file is not None:
                with own_lock:
                    file = self._opened(fs)
                self._leave_to_parent()
                self._file = file
            self.fs, self._own_lock = fs, own_lock
            self._pid = pid  # last: who sees it, finds all the rest

    def look_to_read(self) -> Seen:
        """As `look`, by who believes the size: where it is 0, nothing is fetched that would show that it is not."""
        seen = self.look()
        if not seen.size_bytes and self._has_a_byte():
            seen = self.look()  # it may have got its first just now
            if not seen.size_bytes:
                raise longer_than_told(self.name, 0)
        return seen

    @property
    def _asked_for_info(self) -> Any:
        # A caching filesystem would list the whole directory; and it is the object itself whose version counts.
        return self.fs.fs if isinstance(self.fs, CachingFileSystem) else self.fs

    def _has_a_byte(self) -> bool:
        def fetch() -> bool:
            with self.calling():
                return bool(_call(self._asked_for_info, "cat_file", self.path, size_bytes=1, start=0, end=1))

        try:
            return policy.retrying(fetch)
        except OSError as error:
            if policy.is_temporary(error) or error.errno in (errno.ENOENT, errno.EACCES, errno.EPERM):
                raise
            return False  # there is no such range: 416

    def look(self) -> Seen:
        """The size and version as they are now.  Raises: OSError(EISDIR), OSError(EOPNOTSUPP), OSError(EIO)."""
        with self._lock:
            fs = self._asked_for_info
            fs.invalidate_cache(self.path)
            info = dict(_call(fs, "info", self.path, size_bytes=0))
            if (
                isinstance(innermost(fs), MemoryFileSystem) and info.get("type") == "file"
            ):  # its info tells only when a file was created
                info["modified"] = fs.modified(self.path)
        if info.get("type") == "directory":
            raise is_directory(self.name)
        if info.get("type") == "other":
            raise not_regular(self.name, "a device, FIFO or socket")
        if info.get("size") is None:
            raise no_size(self.name)
        if int(info["size"]) < 0:
            raise negative_size(self.name, int(info["size"]))
        known = OF_CONTENT if isinstance(innermost(fs), AbstractArchiveFileSystem) else VALIDATORS
        return Seen(int(info["size"]), _validators_in(info, known), _etag_to_match(innermost(fs), info))

    def look_or_none(self) -> Seen | None:
        """As `look`, None if nothing is there.  Raises: OSError, whatever the filesystem raises."""
        try:
            with as_os_error(self.name):
                return self.look()
        except FileNotFoundError:
            return None

    @contextmanager
    def calling(self) -> Iterator[None]:
        """What is called in here raises OSErrors, and is alone if it has to be.  Not to be nested."""
        with as_os_error(self.name), self._lock:
            yield

    def read_anew(self, offset_bytes: int, size_bytes: int) -> bytes:
        """As `read`, of the file that is there now.  Raises: OSError."""
        with self.calling():
            part = {"start": offset_bytes, "end": offset_bytes + size_bytes}
            return bytes(_call(self.fs, "cat_file", self.path, size_bytes=size_bytes, **part))

    def read(self, offset_bytes: int, size_bytes: int, seen: Seen) -> bytes:
        """Up to *size_bytes* from *offset_bytes* on; more if the filesystem does as it likes.

        Of what was *seen*, or an error, where that can be asked for.
        """
        with self._lock:
            if self._file is None:
                part: dict[str, Any] = {"start": offset_bytes, "end": offset_bytes + size_bytes}
                if self._asks_with_condition(seen):
                    condition = {"If-Match": seen.etag, "Accept-Encoding": "identity"}
                    part["headers"] = {**self.fs.kwargs.get("headers", {}), **condition}
                return bytes(_call(self.fs, "cat_file", self.path, size_bytes=size_bytes, **part))
            self._file.seek(offset_bytes)
            data = bytes(self._file.read(size_bytes))
            while len(data) < size_bytes and (more := self._file.read(size_bytes - len(data))):
                data += more
            return data

    def may_be_another(self, seen: Seen) -> bool:
        """Whether only a look tells that what `read` has brought is of the version that was *seen*."""
        if self.is_cheap_to_look_at:
            return True
        is_own_copy = isinstance(self.fs, WholeFileCacheFileSystem)  # made once, and read without the network
        return bool(seen.validators) and not (is_own_copy or self._asks_with_condition(seen))

    def _asks_with_condition(self, seen: Seen) -> bool:
        return bool(seen.etag) and self._file is None and self.fs is innermost(self.fs)

    def open_file(self) -> None:
        """Read through an open file from now on."""
        with self._lock:
            self._file = self._opened(self.fs)

    def _opened(self, fs: AbstractFileSystem) -> Any:
        if not isinstance(fs, CachingFileSystem):
            try:
                return fs.open(self.path, "rb", cache_type="none")
            except TypeError:  # a filesystem without such an argument
                pass
        return fs.open(self.path, "rb")

    def close(self) -> None:
        """Close that file.  Should it fail, there is nothing that anybody could lose by it, or do about it."""
        if self._pid != os.getpid():
            self._leave_to_parent()
            return
        with self._lock, suppress(Exception):
            if self._file is not None:
                self._file.close()

    def _leave_to_parent(self) -> None:
        """In a child: what is open is not ours to close, unless it is no more than a descriptor."""
        if not self.is_cheap_to_look_at:
            keep_of_parent(self.fs, self._file)


def _validators_in(info: Mapping[str, Any], known: Set[str]) -> str:
    told = {re.sub(r"[^a-z0-9]", "", name.lower()): value for name, value in info.items()}
    return " ".join(f"{name}={told[name]}" for name in sorted(known & told.keys()) if told[name] not in (None, ""))


def _etag_to_match(fs: AbstractFileSystem, info: Mapping[str, Any]) -> str:
    etag = info.get("ETag")
    is_http = is_async(fs) and "http" in fs.protocol and hasattr(fs, "kwargs")  # whose import takes aiohttp's time
    return etag if is_http and isinstance(etag, str) and etag.startswith('"') else ""


def _call(fs: AbstractFileSystem, method: str, path: str, *, size_bytes: int, **options: Any) -> Any:
    """What a method of *fs* returns; an async one as that method itself would call it, but not for ever."""
    if is_async(fs):
        timeout_s = policy.answer_timeout_s(size_bytes)
        return sync(fs.loop, getattr(fs, f"_{method}"), path, timeout=timeout_s, **options)
    return getattr(fs, method)(path, **options)


# -- errors ------------------------------------------------------------------------------------------


@contextmanager
def as_os_error(name: str, *, passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Whatever a filesystem raises, as an OSError with an errno and a name."""
    try:
        yield
    except passing:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            if error.filename is None:
                error.filename = name
            raise
        raise _os_error(error, name) from error


def _os_error(error: Exception, name: str) -> OSError:
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and isinstance(cause, Exception) and not isinstance(cause, LookupError):
        return _os_error(cause, name)  # fsspec's HTTP says this of every failure; its memory, of a dict without the key
    reason = f"{type(error).__name__}: {error}".removesuffix(": ")[:REASON_LENGTH_MAX]  # aiohttp quotes bodies
    status = policy.status_of(error)
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return not_found(name)
    if isinstance(error, PermissionError) or status in (401, 403):
        return permission(name, reason)
    if isinstance(error, IsADirectoryError):
        return is_directory(name)
    if isinstance(error, TimeoutError):
        return store_failed(name, reason, errno.ETIMEDOUT)
    if isinstance(error, NotImplementedError):
        return store_failed(name, reason, errno.EOPNOTSUPP)
    return store_failed(name, reason)
