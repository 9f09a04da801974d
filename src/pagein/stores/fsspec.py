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
Not here: the filesystem's calls and their errors (fsspec_asking.py), its objects (fsspec_instances.py), writing
(fsspec_writing.py).
"""

from __future__ import annotations

import errno
import uuid
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from fsspec import AbstractFileSystem, available_protocols
from fsspec.core import url_to_fs

from ..errors import (
    exists,
    longer_than_told,
    no_ranges,
    not_a_url,
    not_found,
    short_fetch,
    stale,
    store_failed,
    without_secrets,
)
from . import policy
from .fsspec_asking import Reader, Seen, as_os_error
from .fsspec_instances import callable_here, has_ranges, is_of_one_container, to_read
from .options import frozen
from .ranges import RangeOperations
from .source import Opened
from .whole import WHOLE_BYTES_MAX, WholeObject

Locate = Callable[[], tuple[AbstractFileSystem, str]]


def knows(protocol: str) -> bool:
    """Whether fsspec has a filesystem for it, installed or not."""
    return protocol in available_protocols()


def is_filesystem(store: object) -> bool:
    """Whether it is one of fsspec's."""
    return isinstance(store, AbstractFileSystem)


def source_of_url(url: str, options: Mapping[str, Any]) -> FsspecSource:
    """The file at a URL or chain; *options* go to the first filesystem of it.  Does no I/O: `open` connects."""
    name = without_secrets(url)

    def locate() -> tuple[AbstractFileSystem, str]:
        try:
            located: tuple[AbstractFileSystem, str] = url_to_fs(url, **options)
        except ImportError as error:
            raise store_failed(name, str(error), errno.EPROTONOSUPPORT) from error
        except TypeError as error:  # what the filesystem needs is neither in the URL nor among the options
            if options:
                raise
            raise not_a_url(name, str(error)) from error
        return callable_here(to_read(located[0])), located[1]

    return FsspecSource(locate, key=("fsspec", url, frozen(options)), name=name)


def source_in_filesystem(fs: AbstractFileSystem, path: str) -> FsspecSource:
    """The file at *path* of a filesystem that the user has made."""
    fs = to_read(fs)
    path = fs._strip_protocol(path)
    protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    name = path if "://" in path else f"{protocol}:{path}"
    return FsspecSource(lambda: (callable_here(fs), path), key=("fsspec", fs, path), name=without_secrets(name))


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
        with as_os_error(self.name, passing=(TypeError, ValueError)):
            fs, path = self._locate()
        reader = Reader(fs, path, self.name)
        with as_os_error(self.name):
            seen = reader.look_to_read()
        return opened(reader, seen)

    def open_for_writing(self, *, create: bool, exclusive: bool, truncate: bool) -> Opened:
        """One ``info``, as for `open`.  Raises: OSError: EROFS of filesystems that are known not to write; ENOENT,
        EEXIST, …"""
        from .fsspec_writing import FsspecTarget, require_writable
        from .staged import staged

        with as_os_error(self.name, passing=(TypeError, ValueError)):
            fs, path = self._locate()
        require_writable(fs, self.name)
        reader = Reader(fs, path, self.name)
        seen = reader.look_or_none()
        if seen is None and not create:
            raise not_found(self.name)
        if seen is not None and exclusive:
            raise exists(self.name)
        if seen is not None and not truncate:
            with as_os_error(self.name):
                seen = reader.look_to_read()
        return staged(FsspecTarget(reader, seen), truncate=truncate)


def opened(reader: Reader, seen: Seen, *, version: str | None = None) -> Opened:
    """What was seen, to be read through *reader*.  Raises: OSError."""
    try:
        with as_os_error(reader.name):
            if not has_ranges(reader.fs):
                reader.open_file()
    except BaseException:
        reader.close()
        raise
    ops = _FsspecOperations(reader, seen, version)

    def look() -> Opened | None:
        other = reader.anew()
        with as_os_error(reader.name):
            now = other.look_to_read()
        return None if now == seen else opened(other, now)

    def again() -> Opened:
        return opened(reader.anew(), seen, version=ops.version)

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
        with as_os_error(self._name):
            return self._reader.read(offset_bytes, size_bytes, self._opened)

    def _require_opened_version(self) -> None:
        with as_os_error(self._name):
            now = self._reader.look()
        if now != self._opened:
            raise stale(self._name, was=str(self._opened), now=str(now))
