"""Ways to read one URL as a file, each for several threads: through pagein, and what it is measured against.

Guarantees: all read the same bytes of the same server; those without pagein are what their users get by default.
Assumes: `open` is called once for each thread, and every file is read by one thread.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import IO, Any, NamedTuple, Protocol

import pagein

from ... import stores
from ...stores import Opened, read_range


class Cost(NamedTuple):
    """What a contender asked of the server."""

    requests: int
    downloaded_bytes: int


class Contender(Protocol):
    """One way to read a URL."""

    name: str
    is_what: str
    """In one line, for the table's notes."""

    def open(self) -> IO[bytes] | Any:
        """A seekable file of its own for a thread."""

    def cost(self) -> Cost:
        """What it asked of the server so far, as far as the client knows."""

    def close(self) -> None:
        """Let go of everything."""


class Pagein:
    """pagein.open, in a cache of the default size."""

    name = "pagein"
    is_what = "pagein.open(url), one cache of the default size for all threads"

    def __init__(self, url: str) -> None:
        self._url = url
        self._cache = pagein.PageCache()

    def open(self) -> pagein.File:
        """Through the cache that all threads share."""
        return self._cache.open(self._url)

    def cost(self) -> Cost:
        """As the cache counts it; the request at open is the store's."""
        stats = self._cache.stats()
        return Cost(stats.requests, stats.fetched_bytes)

    def close(self) -> None:
        """Close the cache and its files."""
        self._cache.close()


class PlainRanges:
    """The same HTTP client with no cache."""

    name = "plain range reads"
    is_what = "the same HTTP client, one range request for each read of tarfile, no cache and no buffer"

    def __init__(self, url: str) -> None:
        self._source = stores.source_of(url)
        self._lock = threading.Lock()
        self._requests = self._downloaded_bytes = 0

    def open(self) -> IO[bytes] | Any:
        """Asks for the size, as pagein does."""
        return _PlainFile(self._source.open(), self._count)

    def _count(self, size_bytes: int) -> None:
        with self._lock:
            self._requests += 1
            self._downloaded_bytes += size_bytes

    def cost(self) -> Cost:
        """As its files count."""
        return Cost(self._requests, self._downloaded_bytes)

    def close(self) -> None:
        """Nothing: each thread closes its file."""


class _PlainFile(io.RawIOBase):
    """The least that makes a range of bytes a file: a position, and a request for each read."""

    def __init__(self, opened: Opened, count: Callable[[int], None]) -> None:
        self._ops = opened.ops
        self._size_bytes = opened.size_bytes
        self._close_store = opened.close
        self._count = count
        self._position = 0

    def readinto(self, buffer: Any, /) -> int:
        with memoryview(buffer) as view, view.cast("B") as target:
            size_bytes = max(0, min(len(target), self._size_bytes - self._position))
            if size_bytes:
                target[:size_bytes] = read_range(self._ops, self._position, size_bytes)
                self._count(size_bytes)
                self._position += size_bytes
            return size_bytes

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = (0, self._position, self._size_bytes)[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._close_store()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


class Fsspec:
    """fsspec as its users get it."""

    name = "fsspec"
    is_what = "fsspec.open(url) with its defaults: a readahead cache of 5 MiB blocks for each file"

    def __init__(self, url: str) -> None:
        import fsspec  # raises ImportError where it is not installed
        import fsspec.implementations.http  # which is not to blame if aiohttp is not installed

        self._open = fsspec.open
        self._url = url
        self._caches: list[Any] = []

    def open(self) -> IO[bytes] | Any:
        """With a cache of its own."""
        file = self._open(self._url).open()
        self._caches.append(file.cache)  # which the file lets go of when it is closed
        return file

    def cost(self) -> Cost:
        """As fsspec's caches count."""
        return Cost(
            sum(getattr(cache, "miss_count", 0) for cache in self._caches),
            sum(getattr(cache, "total_requested_bytes", 0) for cache in self._caches),
        )

    def close(self) -> None:
        """Nothing: each thread closes its file."""
