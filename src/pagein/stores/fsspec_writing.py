"""Files replaced through fsspec: written aside and renamed, or uploaded where a file appears only when it is complete.

Guarantees: nobody sees a half-written file.  The version is looked at just before, and another than what was opened is
ESTALE; **fsspec has no conditional write: who else writes in that moment is overwritten**, and who does so between the
upload and the look that confirms it, with as many bytes, is taken for us, and overwritten by the next one.  An upload
that failed, or could not be confirmed, and may have been carried out all the same is recognised by its content, also by
later ones.
Assumes: a filesystem that is not in WHOLE_PROTOCOLS renames onto an existing file at once, or does as well by copying.
Waits: as fsspec.py says, in proportion to the size.
Not here: what is written (staged.py).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Hashable

from fsspec import AbstractFileSystem
from fsspec.archive import AbstractArchiveFileSystem
from fsspec.asyn import AsyncFileSystem, sync
from fsspec.implementations.cached import CachingFileSystem
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from ..errors import conflict, read_only_source, short_fetch
from . import policy
from .fsspec_asking import Reader, Seen
from .layer import Whole, digest
from .source import Opened

WHOLE_PROTOCOLS = frozenset(
    {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "ocilake", "hf", "lakefs"}
)
"""Where a file is an object, which appears when its upload is complete."""
_READ_ONLY_PROTOCOLS = frozenset({"http", "https", "git", "github", "data", "reference"})

_PATTERN_CHARACTERS = frozenset("*?[")


def require_writable(fs: AbstractFileSystem, name: str) -> None:
    """Raise OSError(EROFS) for a filesystem that is known not to replace files."""
    fs, _ = _inside(fs, "")
    protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    lacks_uploads = isinstance(fs, AsyncFileSystem) and type(fs)._put_file is AsyncFileSystem._put_file
    if (
        isinstance(fs, AbstractArchiveFileSystem | CachingFileSystem)
        or protocols & _READ_ONLY_PROTOCOLS
        or (lacks_uploads and fs.async_impl)
    ):
        raise read_only_source(name)


def _inside(fs: AbstractFileSystem, path: str) -> tuple[AbstractFileSystem, str]:
    """Without the directories that it is seen through."""
    while isinstance(fs, DirFileSystem):
        fs, path = fs.fs, fs._join(path)
    return fs, path


class FsspecTarget:
    """A file to be replaced; *expected* is what is there now, None if nothing is."""

    object_bytes_max: int | None = None

    def __init__(self, reader: Reader, expected: Seen | None) -> None:
        self.name: str = reader.name
        self.device_key: Hashable = ("fsspec", reader.fs_id)
        self.device_name: str = reader.device_name
        self._reader = reader
        self._expected = expected
        self._sent: set[tuple[int, bytes]] = set()
        """Size and digest of what may yet turn out to have been put in its place."""
        self._fs, self._path = _inside(reader.fs, reader.path)

    @property
    def version(self) -> str:
        """What is there, as far as we know."""
        return str(self._expected) if self._expected else "absent"

    def opened(self) -> Opened | None:
        """That, to be read.  Raises: OSError."""
        if self._expected is None:
            return None
        from .fsspec import opened

        return opened(Reader(self._reader.fs, self._reader.path, self.name), self._expected)

    def replace(self, whole: Whole) -> None:
        """Raises: OSError: ESTALE, EACCES, ENOSPC, …"""
        policy.retrying(lambda: self._try(whole))

    def _try(self, whole: Whole) -> None:
        if self._is_there(whole):
            return  # by a try of which nobody knew that it was carried out
        try:
            with self._reader.calling():
                self._write(whole)
            now = self._reader.look_or_none()
            if now is None or now.size_bytes != whole.size_bytes:
                got_bytes = now.size_bytes if now else 0
                raise short_fetch(self.name, offset_bytes=0, wanted_bytes=whole.size_bytes, got_bytes=got_bytes)
        except BaseException:  # it may have been carried out; what the next try has to put there may be something else
            self._sent.add((whole.size_bytes, whole.digest))
            raise
        self._expect(now)

    def _is_there(self, whole: Whole) -> bool:
        """Whether *whole* is there already.  Raises: OSError(ESTALE) if there is neither what we expect nor ours."""
        now = self._reader.look_or_none()
        if now == self._expected:
            return False
        if now is not None and any(size_bytes == now.size_bytes for size_bytes, _ in self._sent):
            found = now.size_bytes, digest(now.size_bytes, self._reader.read_anew)
            if found in self._sent:
                self._expect(now)
                return found == (whole.size_bytes, whole.digest)
        raise conflict(self.name, was=self.version, now=str(now) if now else "absent")

    def _expect(self, now: Seen) -> None:
        self._expected = now
        self._sent.clear()  # should somebody put there what an older one of ours held, that is a change

    def _write(self, whole: Whole) -> None:
        fs, path = self._fs, self._path
        if isinstance(fs, MemoryFileSystem):
            with whole.mapped() as data:
                fs.pipe_file(path, bytes(data))  # put_file() would let it be seen before it is complete
            return
        protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
        if protocols & WHOLE_PROTOCOLS:
            self._put(whole, path)
            return
        aside = f"{path}.pagein-{uuid.uuid4().hex}"
        try:
            self._put(whole, aside)
            if isinstance(fs, LocalFileSystem):
                if self._expected is not None:
                    os.chmod(aside, os.stat(path).st_mode & 0o7777)
                os.replace(aside, path)  # mv() would copy where it may not rename
            elif type(fs).mv is AbstractFileSystem.mv and _PATTERN_CHARACTERS.intersection(path):
                fs.cp_file(aside, path)  # as fsspec's own mv() does, for which such a name is a pattern
                fs.rm_file(aside)
            else:
                fs.mv(aside, path)
        except BaseException as error:
            try:
                fs.rm_file(aside)
            except Exception:  # it may not have come into being
                pass
            if isinstance(error, OSError) and error.errno is not None:  # its name is none that the user knows
                raise OSError(error.errno, error.strerror or str(error), self.name) from error
            raise

    def _put(self, whole: Whole, path: str) -> None:
        if isinstance(self._fs, AsyncFileSystem) and self._fs.async_impl:
            timeout_s = policy.upload_timeout_s(whole.size_bytes)
            sync(self._fs.loop, self._fs._put_file, whole.path, path, timeout=timeout_s)
        else:
            self._fs.put_file(whole.path, path)
