"""DuckDB reads through a page cache: `DuckDBFileSystem`, for ``connection.register_filesystem``.

    connection.register_filesystem(DuckDBFileSystem())
    connection.sql("SELECT count(*) FROM 'pagein://https://host/table.parquet'")

Guarantees: right answers, though DuckDB's threads share a file, and **seek and read without a lock**: through any other
Python file, one reads where another has sought, and the query's answer is wrong (DuckDB 2.0.1).  Here each thread has a
position of its own.
Assumes: a thread that has sought reads next.
Not here: writing (``COPY … TO``): EROFS.
"""

from __future__ import annotations

import errno
import os
import threading
import zlib
from datetime import UTC, datetime
from typing import Any

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from ..cache import PageCache
from ..default import default_cache
from ..file import File
from .fsspec import PageCacheFileSystem
from .references import to_cache

PROTOCOL = "pagein"


class DuckDBFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """What `PageCache.open` opens, under names that begin with ``pagein://``: a path, a URL, a chain.

    *cache*: by default the process's own (`pagein.default_cache`).  *store_options*: as of `PageCache.open`.
    *fs*: a filesystem of fsspec's; names are its own then, and it brings the bytes.
    A name with ``*``, ``?`` or ``[`` in it is a pattern, if fsspec has a filesystem that can list what is meant.
    """

    protocol = PROTOCOL
    cachable = False  # instances: it goes, and what it refers to, with its connection

    def __init__(
        self, cache: PageCache | None = None, *, fs: AbstractFileSystem | None = None, **store_options: Any
    ) -> None:
        super().__init__()
        if fs is not None and store_options:
            raise TypeError(f"fs has options of its own: {', '.join(sorted(store_options))} would mean nothing to it")
        if isinstance(fs, PageCacheFileSystem) and cache is not None:
            raise TypeError("fs has a page cache already: give either that, or cache and the filesystem behind it")
        self._cache = cache
        if fs is not None and not isinstance(fs, PageCacheFileSystem):
            fs = PageCacheFileSystem(fs, cache=None if cache is None else to_cache(cache))
        self._fs = fs
        self._options = store_options

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix(f"{PROTOCOL}://")

    def open(self, path: str, mode: str = "rb", **_: Any) -> FileOfThreads:
        """A file of which each thread has a position of its own.  Raises: OSError; EROFS for a mode that writes."""
        if mode != "rb":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        return FileOfThreads(self._file(path))

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Its name and size.  Raises: OSError."""
        with self._file(path) as file:
            return {"name": self._strip_protocol(path), "size": file.size_bytes, "type": "file"}

    def modified(self, path: str) -> datetime:
        """A time that is another for another version: by it DuckDB tells whether what it has kept still holds."""
        with self._file(path) as file:
            return datetime.fromtimestamp(zlib.crc32(file.version.encode()), UTC)

    def glob(self, path: str, **_: Any) -> list[str]:
        """The names that match, in order; a name that is no pattern is itself."""
        name = self._strip_protocol(path)
        if not set(name) & set("*[" if name.startswith(("http://", "https://")) else "*?["):  # a query is none
            return [name]
        if self._fs is not None:
            return sorted(self._fs.glob(name))
        filesystem, pattern = fsspec.core.url_to_fs(name, **self._options)
        found = filesystem.glob(pattern)
        is_local = isinstance(filesystem, LocalFileSystem)  # whose paths may have in them what a URL may not
        return sorted(found if is_local else map(filesystem.unstrip_protocol, found))

    def _file(self, path: str) -> File:
        if self._fs is not None:
            own: File = self._fs.open(self._strip_protocol(path))
            return own
        cache = default_cache() if self._cache is None else self._cache
        file: File = cache.open(self._strip_protocol(path), "rb", **self._options)
        return file


class FileOfThreads:
    """An open file that reads; each thread that uses it has a position of its own, at first the start."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._here = threading.local()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of `File`, for the calling thread."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self._file.size_bytes}[whence]
        if start + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), self._file.name)
        self._here.position = start + offset
        return self.tell()

    def tell(self) -> int:
        """The position of the calling thread."""
        return getattr(self._here, "position", 0)

    def read(self, size: int = -1) -> bytes:
        """At most *size* bytes, by default all that are left, from the calling thread's position on."""
        position = self.tell()
        data = self._file.pread(max(0, self._file.size_bytes - position) if size < 0 else size, position)
        self._here.position = position + len(data)
        return data

    def flush(self) -> None:
        """Nothing: it only reads."""

    def close(self) -> None:
        """Let go of the file, for all threads."""
        self._file.close()
