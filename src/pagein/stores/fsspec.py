"""Files of any fsspec filesystem, by URL, by chain of URLs, or as (filesystem, path).

Guarantees: a fetch is one ``cat_file`` of one range, copied once, or one ``seek`` and ``read`` of an uncached file
where the filesystem has no ranged ``cat_file``; an answer of another length than asked is an error, and so is a file
that goes on where it should end.  Filesystems that are not async are called one call at a time.
What is checked, and when: fsspec has no conditional request.  The version (every ETag, checksum, generation, date
that ``info`` tells, and the size) is taken at each open, past the filesystem's own listings cache, and again after
every fetch; another one is ESTALE, and none of that fetch is used (fsspec's memory files tell nothing of being written
to in place, only of being replaced).  fsspec's HTTP is asked with If-Match instead, if the server has told a strong
ETag.  **Elsewhere each fetch is two requests, then**: the plain URLs of S3, GCS and Azure need one (stores/object.py).
Where ``info`` tells nothing but the size, a change under an open file is noticed only by that.
A server without ranges sends the whole file, which is kept, up to WHOLE_BYTES_MAX, in an unlinked temporary one.
A file without any validator may have changed at each open, so its version never recurs.
Waits: a call of an async filesystem is given up after policy.answer_timeout_s.  **That of any other cannot be given
up**, and has no time-out but its library's own, if that has one; who else needs the filesystem waits for it.
Assumes: caching filesystems (``simplecache::``, ``filecache::``) are as fresh as their user wants them: what they have
copied as a whole is read without asking anybody.
"""

from __future__ import annotations

import errno
import os
import re
import uuid
from collections.abc import Callable, Hashable, Iterator, Mapping, Set
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

from fsspec import AbstractFileSystem, available_protocols
from fsspec.archive import AbstractArchiveFileSystem
from fsspec.asyn import sync
from fsspec.core import url_to_fs
from fsspec.implementations.cached import CachingFileSystem, WholeFileCacheFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from ..errors import (
    exists,
    is_directory,
    longer_than_told,
    negative_size,
    no_ranges,
    no_size,
    not_found,
    not_regular,
    permission,
    short_fetch,
    stale,
    store_failed,
)
from . import policy
from .fsspec_instances import (
    callable_here,
    has_ranges,
    innermost,
    is_async,
    is_cheap_to_look_at,
    is_of_one_container,
    lock_of,
    to_read,
)
from .options import frozen
from .ranges import RangeOperations
from .source import Opened
from .whole import WHOLE_BYTES_MAX, WholeObject

Locate = Callable[[], tuple[AbstractFileSystem, str]]

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


def knows(protocol: str) -> bool:
    """Whether fsspec has a filesystem for it, installed or not."""
    return protocol in available_protocols()


def is_filesystem(store: object) -> bool:
    """Whether it is one of fsspec's."""
    return isinstance(store, AbstractFileSystem)


def source_of_url(url: str, options: Mapping[str, Any]) -> FsspecSource:
    """The file at a URL or chain; *options* go to the first filesystem of it.  Does no I/O: `open` connects."""
    name = _without_secrets(url)

    def locate() -> tuple[AbstractFileSystem, str]:
        try:
            located: tuple[AbstractFileSystem, str] = url_to_fs(url, **options)
        except ImportError as error:
            raise store_failed(name, str(error), errno.EPROTONOSUPPORT) from error
        return to_read(located[0]), located[1]

    return FsspecSource(locate, key=("fsspec", url, frozen(options)), name=name)


def source_in_filesystem(fs: AbstractFileSystem, path: str) -> FsspecSource:
    """The file at *path* of a filesystem that the user has made."""
    fs = to_read(fs)
    path = fs._strip_protocol(path)
    protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    name = path if "://" in path else f"{protocol}:{path}"
    return FsspecSource(lambda: (fs, path), key=("fsspec", fs, path), name=_without_secrets(name))


def _without_secrets(url: str) -> str:
    return re.sub(r"\?.*?(?=::|\Z)", "?…", re.sub(r"//[^/@:]*(:[^/@]*)?@", "//", url))


class FsspecSource:
    """One file of a filesystem."""

    def __init__(self, locate: Locate, *, key: Hashable, name: str) -> None:
        self._locate = locate
        self.key = key
        self.name = name

    def open(self) -> Opened:
        """One ``info``; if it tells of no bytes, a fetch too.

        Raises: OSError; what the filesystem raises for options that it does not accept.
        """
        with _as_os_error(self.name, passing=(TypeError, ValueError)):
            fs, path = self._locate()
        reader = Reader(fs, path, self.name)
        with _as_os_error(self.name):
            seen = reader.look_to_read()
        return opened(reader, seen)

    def open_for_writing(self, *, create: bool, exclusive: bool, truncate: bool) -> Opened:
        """One ``info``, as for `open`.  Raises: OSError: EROFS of filesystems that are known not to write; ENOENT,
        EEXIST, …"""
        from .fsspec_writing import FsspecTarget, require_writable
        from .staged import staged

        with _as_os_error(self.name, passing=(TypeError, ValueError)):
            fs, path = self._locate()
        require_writable(fs, self.name)
        reader = Reader(fs, path, self.name)
        seen = reader.look_or_none()
        if seen is None and not create:
            raise not_found(self.name)
        if seen is not None and exclusive:
            raise exists(self.name)
        if seen is not None and not truncate:
            with _as_os_error(self.name):
                seen = reader.look_to_read()
        return staged(FsspecTarget(reader, seen), truncate=truncate)


class Seen(NamedTuple):
    """What a filesystem says of a file."""

    size_bytes: int
    validators: str
    etag: str = ""
    """A strong one, of HTTP."""

    def __str__(self) -> str:
        return f"{self.validators} size={self.size_bytes}".lstrip()


def opened(reader: Reader, seen: Seen, *, version: str | None = None) -> Opened:
    """What was seen, to be read through *reader*.  Raises: OSError."""
    try:
        with _as_os_error(reader.name):
            if not has_ranges(reader.fs):
                reader.open_file()
    except BaseException:
        reader.close()
        raise
    ops = _FsspecOperations(reader, seen, version)
    anew = partial(Reader, reader.fs, reader.path, reader.name)

    def look() -> Opened | None:
        other = anew()
        with _as_os_error(reader.name):
            now = other.look_to_read()
        return None if now == seen else opened(other, now)

    def again() -> Opened:
        return opened(anew(), seen, version=ops.version)

    return Opened(
        ops,
        seen.size_bytes,
        ops.version,
        close=ops.close,
        # Who looks at one of an archive opens that anew, if that can tell him more than its size.
        look=None if seen.validators and is_of_one_container(reader.fs) else look,
        again=again if has_ranges(reader.fs) else None,  # else a file has to be opened
        has_validator=bool(seen.validators),
    )


class _FsspecOperations(RangeOperations):
    def __init__(self, reader: Reader, opened: Seen, version: str | None) -> None:
        self._reader = reader
        self._opened = opened
        self._name = reader.name
        self.device_name = reader.device_name
        self.validates: bool = reader.is_cheap_to_look_at and bool(opened.validators)
        self.version = version or (str(opened) if opened.validators else f"unknown={uuid.uuid4().hex} {opened}")
        self._whole: WholeObject | None = None

    @property
    def device_key(self) -> Hashable:
        return "fsspec", self._reader.fs_id

    def close(self) -> None:
        """Let go of the file."""
        self._reader.close()
        if self._whole is not None:
            self._whole.close()

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        if self._whole is not None:
            self._whole.fill(buffer, offset_bytes)
            return
        wanted_bytes = len(buffer)
        # A file that is longer than its filesystem says shows it where it should end.
        is_last = offset_bytes + wanted_bytes == self._opened.size_bytes
        try:
            data = policy.retrying(lambda: self._read(offset_bytes, wanted_bytes + is_last))
        except OSError as error:
            if error.errno == errno.EIO:  # perhaps 416, because the file has become shorter
                try:
                    self._require_opened_version()
                except OSError as change:
                    if change.errno == errno.ESTALE:
                        raise change from error
            raise
        if len(data) != wanted_bytes or self._reader.may_be_another(self._opened):
            self._require_opened_version()
        if is_last and len(data) == wanted_bytes + 1:
            raise longer_than_told(self._name, self._opened.size_bytes)
        if len(data) > wanted_bytes:
            self._keep_whole(data)
            data = data[offset_bytes : offset_bytes + wanted_bytes]
        if len(data) < wanted_bytes:
            got_bytes = len(data)
            raise short_fetch(self._name, offset_bytes=offset_bytes, wanted_bytes=wanted_bytes, got_bytes=got_bytes)
        buffer[:] = data

    def _keep_whole(self, data: bytes) -> None:
        """All of it came, whatever was asked for: who asks next need not ask there.  Raises: OSError(EOPNOTSUPP)."""
        if len(data) != self._opened.size_bytes or len(data) > WHOLE_BYTES_MAX:
            raise no_ranges(self._name)
        whole = WholeObject(self._name)
        whole.append(data)
        self.validates = False  # from here on, nobody asks the server
        self._whole = whole  # of several who come here at once any has the same bytes, and the others' goes

    def _read(self, offset_bytes: int, size_bytes: int) -> bytes:
        with _as_os_error(self._name):
            return self._reader.read(offset_bytes, size_bytes, self._opened)

    def _require_opened_version(self) -> None:
        with _as_os_error(self._name):
            now = self._reader.look()
        if now != self._opened:
            raise stale(self._name, was=str(self._opened), now=str(now))


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

    @property
    def _lock(self) -> AbstractContextManager[object]:
        if self._pid != os.getpid():
            self._begin_anew()
        return self._own_lock

    def _begin_anew(self) -> None:
        """After a fork, in the child, which shares the position of each file with its parent, and no event loop."""
        self.fs = callable_here(self.fs)
        self._own_lock = lock_of(self.fs)
        self._pid = os.getpid()
        if self._file is not None:
            self._file = None
            self.open_file()

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
            with _as_os_error(self.name):
                return self.look()
        except FileNotFoundError:
            return None

    @contextmanager
    def calling(self) -> Iterator[None]:
        """What is called in here raises OSErrors, and is alone if it has to be.  Not to be nested."""
        with self._lock, _as_os_error(self.name):
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
            if not isinstance(self.fs, CachingFileSystem):
                try:
                    self._file = self.fs.open(self.path, "rb", cache_type="none")
                except TypeError:  # a filesystem without such an argument
                    pass
            if self._file is None:
                self._file = self.fs.open(self.path, "rb")

    def close(self) -> None:
        """Close that file.  Should it fail, there is nothing that anybody could lose by it, or do about it."""
        with self._lock, suppress(Exception):
            if self._file is not None:
                self._file.close()


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
def _as_os_error(name: str, *, passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
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
