"""What ``fs.open`` of fsspec's protocol ``pagein`` returns: a `pagein.File` with what users of fsspec expect beside.

Guarantees: it is a `pagein.File` in everything else; one that reads can be pickled, and is opened again where it is
unpickled, at the position where it was; what is closed after writing is seen by the next ``ls`` and ``info``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...file import File
from ...watching import WatchingFile
from ...write_only import WriteOnlyFile

if TYPE_CHECKING:
    from .filesystem import PageCacheFileSystem


class _OfFilesystem:
    # What a File has only after it was made: its slots are those of `pagein.File`, so that it can become one of these.
    __slots__ = ()

    fs: PageCacheFileSystem
    """The filesystem that it was opened by."""
    path: str
    """Its path there."""

    if TYPE_CHECKING:
        size_bytes: int

    @property
    def size(self) -> int:
        """The size of the file."""
        return self.size_bytes

    @property
    def details(self) -> dict[str, Any]:
        """What its filesystem says of it: as ``fs.info``."""
        return self.info()

    @property
    def full_name(self) -> str:
        """The URL by which fsspec opens it again."""
        name: str = self.fs.unstrip_protocol(self.path)
        return name

    def info(self) -> dict[str, Any]:
        """As ``fs.info``."""
        told: dict[str, Any] = self.fs.info(self.path)
        return told

    def fsync(self) -> None:
        """As `pagein.File.fsync`."""
        super().fsync()  # type: ignore[misc]  # of the File that it is mixed into
        self.fs._forget(self.path)

    def close(self) -> None:
        """As `pagein.File.close`."""
        is_first = not self.closed and self.writable()  # type: ignore[attr-defined]
        try:
            super().close()  # type: ignore[misc]
        finally:
            if is_first:
                self.fs._forget(self.path)

    def __reduce__(self) -> Any:
        if self.writable():  # type: ignore[attr-defined]
            raise TypeError("cannot pickle a file that is open for writing: open it where it is written to")
        return reopened, (self.fs, self.path, self.tell())  # type: ignore[attr-defined]


class FsspecFile(_OfFilesystem, File):
    """A file that reads, and perhaps writes."""

    __slots__ = ()


class FsspecWatchingFile(FsspecFile, WatchingFile):
    """One that reads, and looks whether its source is still the same."""

    __slots__ = ()


class FsspecWriteOnlyFile(_OfFilesystem, WriteOnlyFile):
    """A file of the modes "wb", "ab" and "xb"."""

    __slots__ = ()


def of_filesystem(file: File, fs: PageCacheFileSystem, path: str) -> FsspecFile | FsspecWriteOnlyFile:
    """A file that was just opened becomes one of these."""
    kind: type[FsspecFile | FsspecWriteOnlyFile] = FsspecFile
    if isinstance(file, WriteOnlyFile):
        kind = FsspecWriteOnlyFile
    elif isinstance(file, WatchingFile):
        kind = FsspecWatchingFile
    file.__class__ = kind
    assert isinstance(file, FsspecFile | FsspecWriteOnlyFile)
    file.fs, file.path = fs, path
    tracer = file._mapping.zone.tracer
    if tracer is not None:
        tracer.opened(file)  # once more: it was another then
    return file


def reopened(fs: PageCacheFileSystem, path: str, position: int) -> FsspecFile:
    """The same file in another process."""
    file: FsspecFile = fs.open(path, "rb")
    file.seek(position)
    return file
