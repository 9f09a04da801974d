"""A program of a user, as he would write it: checked by mypy --strict and by pyright's strict mode, and executed.

Each `assert_type` says what both type checkers must infer, and the `isinstance` beside it that it is true.
"""

from __future__ import annotations

import asyncio
import io
import sys
from pathlib import Path
from typing import assert_type

from obstore.store import MemoryStore as Bucket
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest

import pagein
import pagein.aio
from pagein.integrations.obspec import CachedResult, CachedStore
from pagein.integrations.opentelemetry import instrument
from pagein.integrations.prometheus import PageCacheCollector
from pagein.mm.openfile import OpenFile
from pagein.mm.page import Page
from pagein.mm.rac import ReadaheadControl
from pagein.stores import MemoryStore

DATA = bytes(range(256)) * 64


class Pages(pagein.AddressSpaceOperations):
    """A store, page by page."""

    blocking = False

    def readpage(self, file: OpenFile, page: Page) -> int:
        assert_type(page.offset, int)
        assert_type(page.buffer, memoryview)
        page.buffer[:] = DATA[page.offset : page.offset + page.size_bytes]
        page.set_uptodate()
        return pagein.AOP_UPDATED_PAGE

    def readahead(self, rac: ReadaheadControl) -> None:
        for page in rac:
            assert_type(page, Page)
            page.write(DATA[page.offset : page.offset + page.size_bytes])
            page.end_read()


class Ranges(pagein.RangeOperations):
    """A store that brings any range, and takes any."""

    writable = True

    def __init__(self) -> None:
        self.data = bytearray(DATA)

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        buffer[:] = self.data[offset_bytes : offset_bytes + len(buffer)]

    def store(self, buffer: memoryview, offset_bytes: int) -> None:
        self.data[offset_bytes : offset_bytes + len(buffer)] = buffer

    def set_size(self, size_bytes: int) -> None:
        self.data = self.data[:size_bytes].ljust(size_bytes, b"\0")


class Later(pagein.AsyncRangeOperations):
    """A store that answers later."""

    async def fetch(self, offset_bytes: int, size_bytes: int) -> bytes:
        await asyncio.sleep(0)
        return DATA[offset_bytes : offset_bytes + size_bytes]


def modes(path: str, mode: str) -> None:
    """What `pagein.open` returns is told by the mode, where that is written down."""
    for binary in (
        assert_type(pagein.open(path), pagein.File),
        assert_type(pagein.open(Path(path), "rb"), pagein.File),
        assert_type(pagein.open(path, "r+b"), pagein.File),
        assert_type(pagein.open(path, "ab"), pagein.File),
        assert_type(pagein.open(path + ".new", "xb"), pagein.File),
        assert_type(pagein.open(path + ".new", "wb"), pagein.File),
        assert_type(pagein.open(path + ".new", "w+b"), pagein.File),
    ):
        with binary as entered:
            assert_type(entered, pagein.File)
            assert isinstance(entered, pagein.File)
    for text in (
        assert_type(pagein.open(path, "r", encoding="latin-1"), io.TextIOWrapper),
        assert_type(pagein.open(path, "a", encoding="latin-1", newline=""), io.TextIOWrapper),
        assert_type(pagein.open(path + ".new", "w", encoding="latin-1", errors="strict"), io.TextIOWrapper),
        assert_type(pagein.open(path + ".new", "rt+", encoding="latin-1"), io.TextIOWrapper),
    ):
        with text:
            assert isinstance(text, io.TextIOWrapper)
    with assert_type(pagein.open(path, mode), pagein.File | io.TextIOWrapper) as either:
        assert isinstance(either, pagein.File | io.TextIOWrapper)


def caches(path: str) -> None:
    """A cache, its files, and what they tell."""
    with pagein.PageCache("1 MiB", dirty_limit=0.5, debug=True) as cache:
        assert_type(cache, pagein.PageCache)
        with assert_type(cache.open(path), pagein.File) as file:
            read(file)
        with assert_type(cache.open(path, "r", encoding="latin-1"), io.TextIOWrapper) as text:
            assert isinstance(assert_type(text.readline(), str), str)
        with pagein.open((MemoryStore({"a": DATA}), "a"), cache=cache) as file:
            assert file.read() == DATA
        stats = assert_type(cache.stats(), pagein.CacheStats)
        assert isinstance(stats, pagein.CacheStats)
        assert isinstance(assert_type(stats.hits, int), int)
        for store in assert_type(stats.stores, tuple[pagein.StoreStats, ...]):
            assert isinstance(store, pagein.StoreStats)
            assert isinstance(assert_type(store.latency_s, float), float)
        assert isinstance(assert_type(cache.drop(), int), int)


def read(file: pagein.File) -> None:
    """Every way to read."""
    assert isinstance(file, io.BufferedIOBase)
    assert isinstance(assert_type(file.read(10), bytes), bytes)
    assert isinstance(assert_type(file.readline(), bytes), bytes)
    assert isinstance(assert_type(file.pread(10, 100), bytes), bytes)
    assert isinstance(assert_type(file.seek(0), int), int)
    buffer = bytearray(10)
    assert isinstance(assert_type(file.preadinto(buffer, 0), int), int)
    assert isinstance(assert_type(file.readinto(memoryview(buffer)), int), int)
    with file.view(100, 0) as data:
        assert_type(data, memoryview)
        assert isinstance(data, memoryview)
        assert isinstance(assert_type(data[0], int), int)
        assert data.readonly
    for line in file:
        assert isinstance(assert_type(line, bytes), bytes)
    file.advise("willneed", 0, 4096)
    assert isinstance(assert_type(file.populate(), int), int)
    assert isinstance(assert_type(file.resident(), list[tuple[int, int]]), list)
    assert isinstance(assert_type(file.size_bytes, int), int)
    assert isinstance(assert_type(file.name, str), str)
    assert isinstance(assert_type(file.version, str), str)


def stores() -> None:
    """Storage of one's own."""
    with pagein.PageCache("1 MiB") as cache:
        inode = assert_type(cache.inode(Pages(), size_bytes=len(DATA)), pagein.Inode)
        with assert_type(inode.open(), pagein.File) as file:
            assert file.read() == DATA
        with assert_type(inode.open("r", encoding="latin-1"), io.TextIOWrapper) as text:
            assert text.read(1) == "\0"
        ranges = Ranges()
        with cache.inode(ranges, size_bytes=len(DATA)).open("r+b") as file:
            assert isinstance(assert_type(file.write(b"new"), int), int)
            assert isinstance(assert_type(file.pwrite(memoryview(b"x"), 10), int), int)
            assert isinstance(assert_type(file.truncate(5000), int), int)
            file.fsync()
        assert len(ranges.data) == 5000
        assert ranges.data.startswith(b"new")
        with cache.inode(Later(), size_bytes=len(DATA)).open() as file:
            assert file.read() == DATA


async def tasks(path: str) -> None:
    """The same for asyncio."""
    async with assert_type(await pagein.aio.open(path), pagein.aio.AsyncFile) as file:
        assert isinstance(file, pagein.aio.AsyncFile)
        assert isinstance(assert_type(await file.pread(10, 0), bytes), bytes)
        assert isinstance(assert_type(await file.read(), bytes), bytes)
        assert isinstance(assert_type(await file.preadinto(bytearray(10), 0), int), int)
        async with file.view(10, 0) as data:
            assert_type(data, memoryview)
            assert isinstance(data, memoryview)
        data = await file.view(10, 0)
        assert isinstance(assert_type(data, memoryview), memoryview)
        data.release()


def buckets() -> None:
    """A store of obstore's, read through a cache, and what the cache tells of itself."""
    bucket = Bucket()
    bucket.put("key", DATA)
    with pagein.PageCache("1 MiB", revalidate=5) as cache:
        store = CachedStore(bucket, cache=cache, revalidate="always")
        result = assert_type(store.get("key", options={"range": (0, 10)}), CachedResult)
        assert isinstance(result, CachedResult)
        assert isinstance(assert_type(result.bytes(), bytes), bytes)
        assert isinstance(assert_type(store.get_range("key", start=0, end=10), bytes), bytes)
        parts = assert_type(store.get_ranges("key", starts=[0, 20], lengths=[1, 1]), list[bytes])
        assert parts == [b"\0", b"\x14"]
        assert isinstance(assert_type(store.head("key")["size"], int), int)
        registry = CollectorRegistry()
        registry.register(PageCacheCollector({"mine": cache}))
        assert b'cache="mine"' in generate_latest(registry)
        provider = MeterProvider()
        instrument(cache, provider, name="mine")
        provider.shutdown()


async def buckets_later() -> None:
    """The same for asyncio."""
    bucket = Bucket()
    await bucket.put_async("key", DATA)
    with pagein.PageCache("1 MiB") as cache:
        store = CachedStore(bucket, cache=cache)
        result = assert_type(await store.get_async("key"), CachedResult)
        assert isinstance(assert_type(await result.bytes_async(), bytes), bytes)
        assert assert_type(await store.get_range_async("key", start=0, length=1), bytes) == b"\0"


def seen(path: str) -> None:
    """A trace, and the socket of ``pagein top``.  (Not fsspec, which ships no types: no strict program can name it.)"""
    with pagein.PageCache("1 MiB", revalidate="never") as cache, cache.open(path) as file:
        with cache.trace(path + ".trace") as trace:
            file.read()
        assert isinstance(assert_type(trace.path, str), str)
    assert isinstance(assert_type(pagein.publish(), str), str)


def failures(path: str) -> None:
    """What an error tells."""
    try:
        pagein.open(path + ".absent")
    except pagein.UnwrittenDataError as error:
        assert_type(error.files, dict[str, int])
    except FileNotFoundError as error:
        assert_type(error.errno, int | None)
    else:
        raise AssertionError("it is absent")
    assert isinstance(pagein.default_cache(), pagein.PageCache)
    assert_type(pagein.default_cache(), pagein.PageCache)


def main(path: str) -> None:
    """All of it, with a file that is there, and may be appended to."""
    modes(path, "rb")
    caches(path)
    stores()
    asyncio.run(tasks(path))
    buckets()
    asyncio.run(buckets_later())
    seen(path)
    failures(path)


if __name__ == "__main__":
    main(sys.argv[1])
