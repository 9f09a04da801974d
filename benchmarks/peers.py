"""The caches that users have today, each in its best light: warmed, and with as little around it as it allows.

fsspec: `AbstractBufferedFile`, which s3fs, gcsfs and the HTTP file are made of, over bytes in memory and with one
block as large as the file, so that every read is a hit.  cachetools: 4 KiB blocks in an LRU under a lock, which
its documentation asks for.  diskcache: one entry for each place that is read, exactly as long as the read.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cachetools
import diskcache
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem
from workload import PAGE


class _FileInMemory(AbstractBufferedFile):
    def __init__(self, data: bytes, **options: Any) -> None:
        self._data = data
        super().__init__(AbstractFileSystem(), "data", mode="rb", size=len(data), **options)

    def _fetch_range(self, start: int, end: int) -> bytes:
        return self._data[start:end]


def fsspec_file(data: bytes, cache_type: str) -> AbstractBufferedFile:
    """A file with all of *data* in its cache."""
    file = _FileInMemory(data, cache_type=cache_type, block_size=len(data))
    file.read(len(data))
    return file


class CachetoolsBlocks:
    """4 KiB blocks of *data* in an LRU cache that all threads share."""

    def __init__(self, data: bytes, cap_bytes: int) -> None:
        self._data = data
        self._blocks: cachetools.LRUCache[int, bytes] = cachetools.LRUCache(cap_bytes // PAGE)
        self._lock = threading.Lock()

    def pread(self, size: int, offset: int) -> bytes:
        first, stop = offset // PAGE, -(-(offset + size) // PAGE)
        blocks = self._blocks
        with self._lock:
            try:
                found: list[bytes] = [blocks[index] for index in range(first, stop)]
            except KeyError:
                found = [self._block(index) for index in range(first, stop)]
        if len(found) == 1 and size == PAGE:
            return found[0]  # the very object that is in the cache: no copy
        head = offset - first * PAGE
        return b"".join(found)[head : head + size] if head or size % PAGE else b"".join(found)

    def _block(self, index: int) -> bytes:
        block: bytes | None = self._blocks.get(index)
        if block is None:
            block = self._blocks[index] = self._data[index * PAGE : (index + 1) * PAGE]
        return block


def diskcache_with(data: bytes, size: int, places: list[int], directory: Path) -> diskcache.Cache:
    """A cache on disk with an entry for each of *places*; in the page cache of the system, since just written."""
    cache = diskcache.Cache(str(directory), size_limit=1 << 40, eviction_policy="none")
    with cache.transact():
        for offset in sorted(set(places)):
            cache[offset] = data[offset : offset + size]
    return cache
