"""What is exercised: a file that is opened, and the store that its bytes should reach.

Guarantees: `stored` is what the store has, read without a cache.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ...cache import PageCache
from ...stores import MemoryStore, source_of
from ...stores.ranges import read_range
from ...units import PAGE_SIZE
from .failing import FailingStore, StubbornFile

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

STORES = ("local", "memory", "obstore", "fsspec", "failing", "failing-whole")
_NAME = "exercised"


class Handle(Protocol):
    """What an exerciser calls of an open file: some of `pagein.File`."""

    def read(self, size: int, /) -> bytes:
        """As `File.read`."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """As `File.seek`."""

    def write(self, data: ReadableBuffer, /) -> int:
        """As `File.write`."""

    def truncate(self, size: int, /) -> int:
        """As `File.truncate`."""

    def pread(self, size: int, offset: int) -> bytes:
        """As `File.pread`."""

    def preadinto(self, buffer: WriteableBuffer, offset: int) -> int:
        """As `File.preadinto`."""

    def view(self, size: int, offset: int) -> AbstractContextManager[memoryview]:
        """As `File.view`."""

    def pwrite(self, data: ReadableBuffer, offset: int, *, direct: bool = False) -> int:
        """As `File.pwrite`."""

    def discard(self) -> int:
        """As `File.discard`."""

    def punch_hole(self, offset: int, length: int) -> None:
        """As `File.punch_hole`."""

    def fsync(self) -> None:
        """As `File.fsync`."""

    def close(self) -> None:
        """As `File.close`."""


class Subject(Protocol):
    """One file, empty at first, and how it is opened."""

    fails: bool
    """Whether its store fails now and then, and may have taken some of what it was given."""

    def open(self, mode: str) -> Handle:
        """As `open`, with "r+b", "rb" or "ab"."""

    def stored(self) -> bytes:
        """What the store holds now."""

    def drop(self) -> None:
        """Forget what need not be kept."""

    def sync(self) -> None:
        """`Handle.fsync` of everything."""

    def close(self) -> None:
        """Write back everything, and end."""

    def clean_up(self) -> None:
        """Remove what is left, also after a failure."""


def scratch_directory() -> str | None:
    """Where to make files: in memory if that is possible, because fsync of a disk takes milliseconds."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _new_directory() -> str:
    return tempfile.mkdtemp(prefix="pagein-fsx-", dir=scratch_directory())


class CachedFile:
    """A file in a `PageCache` of *cache_pages* over one of `STORES`."""

    def __init__(
        self,
        store: str = "local",
        cache_pages: int = 16,
        *,
        dirty_limit: float = 0.2,
        seed: int = 0,
        wrap: Callable[[Any], Any] = lambda source: source,
    ) -> None:
        self.directory: str = _new_directory()
        self._path = os.path.join(self.directory, _NAME)
        self.cache: PageCache = PageCache(
            cache_pages * PAGE_SIZE, dirty_background=dirty_limit / 2, dirty_limit=dirty_limit
        )
        self.fails: bool = store.startswith("failing")
        self._failing = FailingStore(_NAME, whole=store == "failing-whole", seed=seed) if self.fails else None
        self.source: Any = wrap(self._source_in(store))
        self._fd = os.open(self._path, os.O_RDONLY) if store == "local" else -1

    def _source_in(self, store: str) -> Any:
        if self._failing is not None:
            return self._failing.outer, _NAME
        if store == "memory":
            return MemoryStore({_NAME: b""}), _NAME
        Path(self._path).touch()
        if store == "obstore":
            from obstore.store import LocalStore

            return LocalStore(self.directory), _NAME
        if store == "fsspec":
            from fsspec.implementations.local import LocalFileSystem

            return LocalFileSystem(), self._path
        return self._path

    def open(self, mode: str) -> Handle:
        """As the protocol says."""
        file: Any = self.cache.open(self.source, mode)
        if self._failing is not None:
            file = StubbornFile(self._failing, self.cache, file)
        return file  # type: ignore[no-any-return]

    def stored(self) -> bytes:
        """As the protocol says."""
        if self._fd >= 0:
            return os.pread(self._fd, os.fstat(self._fd).st_size, 0)
        source = self.source if self._failing is None else (self._failing.inner, _NAME)
        while True:
            opened = source_of(source).open()
            try:
                return read_range(opened.ops, 0, opened.size_bytes)
            except OSError as error:
                if error.errno != errno.ESTALE:  # else another thread has replaced it meanwhile
                    raise
            finally:
                opened.close()

    def drop(self) -> None:
        """As the protocol says."""
        self.cache.drop()

    def sync(self) -> None:
        """As the protocol says."""
        self._until_done(self.cache.sync)

    def close(self) -> None:
        """As the protocol says."""
        self._until_done(self.cache.close)

    def _until_done(self, run: Callable[[], object]) -> None:
        if self._failing is None:
            run()
        else:
            self._failing.until_done(run)

    def clean_up(self) -> None:
        """As the protocol says."""
        try:
            self.cache.close(discard=True)
        finally:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
            shutil.rmtree(self.directory, ignore_errors=True)


class PlainFile:
    """A local file without a cache: what a correct subject is, and how fast the exerciser itself."""

    fails = False

    def __init__(self) -> None:
        self._directory = _new_directory()
        self._path = os.path.join(self._directory, _NAME)
        Path(self._path).touch()

    def open(self, mode: str) -> Handle:
        """As the protocol says."""
        return PlainHandle(self._path, mode)

    def stored(self) -> bytes:
        """As the protocol says."""
        return Path(self._path).read_bytes()

    def drop(self) -> None:
        """Nothing is kept."""

    def sync(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is kept."""

    def clean_up(self) -> None:
        """As the protocol says."""
        shutil.rmtree(self._directory, ignore_errors=True)


class PlainHandle:
    """An open `PlainFile`."""

    def __init__(self, path: str, mode: str) -> None:
        self._file = open(path, mode, buffering=0)  # noqa: SIM115
        self._fd = self._file.fileno()

    def read(self, size: int, /) -> bytes:
        """As `File.read`."""
        data: bytes = self._file.read(size)
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """As `File.seek`."""
        return self._file.seek(offset, whence)

    def write(self, data: ReadableBuffer, /) -> int:
        """As `File.write`."""
        return self._file.write(data)

    def truncate(self, size: int, /) -> int:
        """As `File.truncate`."""
        return self._file.truncate(size)

    def pread(self, size: int, offset: int) -> bytes:
        """As `File.pread`."""
        return os.pread(self._fd, size, offset)

    def preadinto(self, buffer: WriteableBuffer, offset: int) -> int:
        """As `File.preadinto`."""
        return os.preadv(self._fd, [buffer], offset)

    def view(self, size: int, offset: int) -> memoryview:
        """As `File.view`."""
        return memoryview(os.pread(self._fd, size, offset))

    def pwrite(self, data: ReadableBuffer, offset: int, *, direct: bool = False) -> int:
        """As `File.pwrite`."""
        return os.pwrite(self._fd, data, offset)

    def discard(self) -> int:
        """There is nothing that the file has not."""
        return 0

    def punch_hole(self, offset: int, length: int) -> None:
        """As `File.punch_hole`."""
        length = min(length, os.fstat(self._fd).st_size - offset)
        if length > 0:
            os.pwrite(self._fd, bytes(length), offset)

    def fsync(self) -> None:
        """As `File.fsync`."""
        os.fsync(self._fd)

    def close(self) -> None:
        """As `File.close`."""
        self._file.close()
