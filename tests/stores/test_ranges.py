"""Operations that bring ranges: one call for a run of pages, and what is left by one that fails or brings too few."""

from __future__ import annotations

import asyncio
import errno
import threading
import types
from array import array
from collections.abc import Callable
from typing import Any

import numpy
import pytest
from tests.stores.reading import DATA, MIB, raises_errno

import pagein
import pagein.aio
from pagein.stores import AsyncRangeOperations, RangeOperations, read_range


class Counting(RangeOperations):
    def __init__(self, *, failures: int = 0) -> None:
        self.fills: list[tuple[int, int]] = []
        self.failures = failures

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        self.fills.append((offset_bytes, len(buffer)))
        buffer[: len(buffer) // 2] = b"?" * (len(buffer) // 2)
        if len(self.fills) <= self.failures:
            raise OSError(errno.ENXIO, "fails")
        buffer[:] = DATA[offset_bytes : offset_bytes + len(buffer)]


def test_a_cold_mebibyte_is_one_fill() -> None:
    ops = Counting()
    with pagein.PageCache("16M", debug=True) as cache, cache.inode(ops, size_bytes=len(DATA)).open() as file:
        assert file.pread(MIB, MIB) == DATA[MIB : 2 * MIB]
        assert ops.fills == [(MIB, MIB)]


def test_the_last_page_is_filled_only_up_to_the_end_of_the_file() -> None:
    ops = Counting()
    with pagein.PageCache("16M", debug=True) as cache, cache.inode(ops, size_bytes=len(DATA)).open() as file:
        file.advise("random")
        assert file.pread(100, 3 * MIB + 1200) == DATA[3 * MIB + 1200 :]
        assert ops.fills == [(3 * MIB, 1234)]


def test_a_fill_that_fails_leaves_nothing_and_its_error_reaches_the_reader_unchanged() -> None:
    ops = Counting(failures=2)  # of the run, and of the page that the reader then asks for alone
    with pagein.PageCache("16M", debug=True) as cache, cache.inode(ops, size_bytes=len(DATA)).open() as file:
        with pytest.raises(OSError, match="fails") as raised:
            file.pread(100_000, 0)
        assert raised.value.errno == errno.ENXIO
        assert cache.stats().resident_bytes == 0
        assert file.pread(100_000, 0) == DATA[:100_000]


class Returning(RangeOperations):
    """Fills *filled_bytes* of what it is asked for, and returns *answer* of it."""

    def __init__(self, answer: Callable[[memoryview], Any], filled_bytes: int | None = None) -> None:
        self.answer = answer
        self.filled_bytes = filled_bytes

    def fill(self, buffer: memoryview, offset_bytes: int) -> Any:
        part = buffer[: self.filled_bytes]
        part[:] = DATA[offset_bytes : offset_bytes + len(part)]
        return self.answer(part)


def test_a_fill_may_return_how_many_bytes_came_and_too_few_are_an_error_that_leaves_nothing() -> None:
    with pagein.PageCache("16M") as cache:
        with cache.inode(Returning(len), size_bytes=len(DATA)).open() as file:
            assert file.read() == DATA
        with cache.inode(Returning(len, 1000), size_bytes=len(DATA), name="short").open() as file:
            with raises_errno(errno.EIO, "got 1000 of the 4096 bytes at offset 0") as raised:
                file.pread(10, 0)
            assert raised.value.filename == "short"
            assert file.resident() == []


@pytest.mark.parametrize("number", [numpy.int64, numpy.uint32])
def test_what_a_fill_returns_may_be_a_number_of_numpys(number: Callable[[int], Any]) -> None:
    whole, short = Returning(lambda part: number(len(part))), Returning(lambda part: number(len(part)), 1000)
    with pagein.PageCache("16M") as cache, cache.inode(whole, size_bytes=len(DATA)).open() as file:
        assert file.read() == DATA
    error = raises_errno(errno.EIO, "got 1000 of the 4096 bytes at offset 0")
    with pagein.PageCache("16M") as cache, cache.inode(short, size_bytes=len(DATA)).open() as file, error:
        file.pread(10, 0)


async def _coroutine() -> None:
    pass


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (bytes, "Returning.fill must fill the buffer, and return None or its length, not b'.*bytes"),
        (lambda part: len(part) + 1, r"not \d+ \(int\)"),
        (lambda part: -1, r"not -1 \(int\)"),
        (lambda part: True, r"not True \(bool\)"),
        (lambda part: False, r"not False \(bool\)"),
        (lambda part: numpy.frombuffer(part, numpy.uint8), r"not array.* \(ndarray\)"),
        (lambda part: float(len(part)), r"not \d+\.0 \(float\)"),
        (lambda part: _coroutine(), "AsyncRangeOperations take a coroutine"),
    ],
)
def test_a_fill_that_returns_what_it_cannot_is_told_so_and_never_read_as_zeros(
    answer: Callable[[memoryview], Any], words: str
) -> None:
    ops = Returning(answer)
    with pagein.PageCache("16M") as cache, cache.inode(ops, size_bytes=len(DATA)).open() as file:
        with pytest.raises(TypeError, match=words):
            file.pread(10, 0)
        assert file.resident() == []
    with pytest.raises(TypeError, match="fill"):
        read_range(ops, 0, 4096)


@pytest.mark.parametrize("kind", [RangeOperations, AsyncRangeOperations])
def test_a_store_that_defines_nothing_is_told_what_it_lacks(kind: Any) -> None:
    missing = {RangeOperations: "must define fill", AsyncRangeOperations: "must define async fetch"}[kind]
    with pagein.PageCache("16M") as cache, cache.inode(kind(), size_bytes=len(DATA)).open() as file:
        with pytest.raises(NotImplementedError, match=missing):
            file.pread(10, 0)
        assert file.resident() == []


# -- those that answer later -------------------------------------------------------------------------


class Fetching(AsyncRangeOperations):
    """Brings as many bytes more than were asked for, *failures* times."""

    def __init__(self, more_bytes: int = 0, *, failures: int = 2) -> None:
        self.more_bytes = more_bytes
        self.failures = failures

    async def fetch(self, offset_bytes: int, size_bytes: int) -> array[int]:
        self.failures -= 1
        more_bytes = self.more_bytes if self.failures >= 0 else 0
        return array("I", DATA[offset_bytes : offset_bytes + size_bytes + more_bytes])  # its len() counts no bytes


@pytest.mark.parametrize(
    ("more_bytes", "words"),
    [
        (-4, "got 4092 of the 4096 bytes at offset 0"),
        (-4096, "got 0 of the 4096 bytes at offset 0"),
        (4, "bytes 0-4095, which answered with more"),
    ],
)
def test_a_fetch_of_another_length_is_an_error_and_leaves_nothing(more_bytes: int, words: str) -> None:
    ops = Fetching(more_bytes)  # the run, and the page that the reader then asks for alone
    with pagein.PageCache("16M", debug=True) as cache, cache.inode(ops, size_bytes=MIB, name="it").open() as file:
        with raises_errno(errno.EIO, words) as raised:
            file.pread(100_000, 0)
        assert raised.value.filename == "it"
        assert cache.stats().resident_bytes == 0
        assert file.read() == DATA[:MIB]


@pytest.mark.parametrize("more_bytes", [-4, 4])
def test_so_it_is_without_a_cache(more_bytes: int) -> None:
    ops = Fetching(more_bytes, failures=1)
    with raises_errno(errno.EIO, "Fetching"):
        read_range(ops, 0, 4096)
    assert read_range(ops, 0, 4096) == DATA[:4096]


class FetchingHere(Fetching):
    """Notes who fetches; *refuses*: has it fetched on the loop all the same."""

    readers_call = True

    def __init__(self, more_bytes: int = 0, *, failures: int = 0, refuses: bool = False) -> None:
        super().__init__(more_bytes, failures=failures)
        self.refuses = refuses
        self.threads: list[str] = []

    async def fetch(self, offset_bytes: int, size_bytes: int) -> array[int]:
        self.threads.append(threading.current_thread().name)
        return await super().fetch(offset_bytes, size_bytes)

    def fetch_here(self, offset_bytes: int, size_bytes: int) -> array[int] | None:
        if self.refuses:
            return None
        self.threads.append(threading.current_thread().name)
        self.failures -= 1
        more_bytes = self.more_bytes if self.failures >= 0 else 0
        return array("I", DATA[offset_bytes : offset_bytes + size_bytes + more_bytes])


@pytest.mark.parametrize("size_bytes", [4096, 16384])
def test_a_reader_who_waits_for_nothing_else_fetches_himself(size_bytes: int) -> None:
    """The main thread by a worker, another thread right there; what is ahead of a reader is fetched on the loop."""
    ops = FetchingHere()
    with pagein.PageCache("16M") as cache, cache.inode(ops, size_bytes=3 * MIB).open() as file:
        assert file.pread(size_bytes, MIB) == DATA[MIB : MIB + size_bytes]
        found = []
        reader = threading.Thread(target=lambda: found.append(file.pread(size_bytes, 2 * MIB)), name="reader")
        reader.start()
        reader.join()
        assert found == [DATA[2 * MIB : 2 * MIB + size_bytes]]
        assert (ops.threads[0].rpartition("-")[0], ops.threads[1:]) == ("pagein-work", ["reader"])
        ops.threads.clear()
        assert b"".join(file.pread(4096, offset) for offset in range(0, MIB, 4096)) == DATA[:MIB]
        assert ops.threads[0].startswith("pagein-work")
        assert set(ops.threads[1:]) == {"pagein-loop"}


def test_a_reader_in_an_event_loop_has_it_fetched() -> None:
    ops = FetchingHere()

    async def read(cache: pagein.PageCache) -> bytes:
        file = pagein.aio.AsyncFile(cache._file_of(cache.inode(ops, size_bytes=len(DATA)), pagein.aio.HitReader))
        async with file:
            return await file.pread(4096, MIB)

    with pagein.PageCache("16M") as cache:
        assert asyncio.run(read(cache)) == DATA[MIB : MIB + 4096]
    assert ops.threads == ["pagein-loop"]


def test_who_cannot_fetch_here_has_it_fetched_on_the_loop() -> None:
    ops = FetchingHere(refuses=True)
    with pagein.PageCache("16M", debug=True) as cache, cache.inode(ops, size_bytes=len(DATA)).open() as file:
        file.advise("random")
        assert file.pread(4096, MIB) == DATA[MIB : MIB + 4096]
        assert file.pread(16384, 2 * MIB) == DATA[2 * MIB : 2 * MIB + 16384]
    assert ops.threads == ["pagein-loop"] * 2


@pytest.mark.parametrize("more_bytes", [-4, -4096, 4])
def test_so_is_a_fetch_here_of_another_length(more_bytes: int) -> None:
    ops = FetchingHere(more_bytes, failures=1)
    with pagein.PageCache("16M", debug=True) as cache, cache.inode(ops, size_bytes=MIB, name="it").open() as file:
        file.advise("random")
        with raises_errno(errno.EIO, "it"):
            file.pread(4096, 4096)
        assert cache.stats().resident_bytes == 0
        assert file.read() == DATA[:MIB]


class FetchingNone(AsyncRangeOperations):
    async def fetch(self, offset_bytes: int, size_bytes: int) -> Any:
        return None


class FetchingAtOnce(AsyncRangeOperations):
    def fetch(self, offset_bytes: int, size_bytes: int) -> Any:
        return DATA[offset_bytes : offset_bytes + size_bytes]


class FetchingByGenerator(AsyncRangeOperations):
    @types.coroutine
    def fetch(self, offset_bytes: int, size_bytes: int) -> Any:
        yield
        return DATA[offset_bytes : offset_bytes + size_bytes]


def test_a_fetch_may_be_all_that_can_be_awaited() -> None:
    with pagein.PageCache("16M") as cache, cache.inode(FetchingByGenerator(), size_bytes=len(DATA)).open() as file:
        assert file.pread(10, 5) == DATA[5:15]


class FetchingTextHere(FetchingNone):
    readers_call = True

    def fetch_here(self, offset_bytes: int, size_bytes: int) -> Any:
        return "text"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (FetchingNone, "FetchingNone.fetch must return bytes, or another buffer, not None"),
        (FetchingAtOnce, "FetchingAtOnce.fetch must be a coroutine: async def"),
        (FetchingTextHere, "FetchingTextHere.fetch_here must return bytes"),
    ],
)
def test_a_fetch_that_returns_what_it_cannot_is_told_so(kind: Any, words: str) -> None:
    with pagein.PageCache("16M") as cache, cache.inode(kind(), size_bytes=len(DATA)).open() as file:
        with pytest.raises(TypeError, match=words):
            file.pread(10, 0)
        assert file.resident() == []


class InPages(RangeOperations):
    """Holds whole pages by their number, as a table of rows does."""

    writable = True

    def __init__(self) -> None:
        self.pages = {at: DATA[at << 12 : at + 1 << 12] for at in range(4)}

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        for at in range(0, len(buffer), 4096):
            data = self.pages.get((offset_bytes + at) // 4096, b"").ljust(4096, b"\0")
            buffer[at : at + 4096] = data[: len(buffer) - at]

    def store(self, buffer: memoryview, offset_bytes: int) -> None:
        for at in range(0, len(buffer), 4096):
            self.pages[(offset_bytes + at) // 4096] = bytes(buffer[at : at + 4096])

    def set_size(self, size_bytes: int) -> None:
        self.pages = {at: data for at, data in self.pages.items() if at << 12 < size_bytes}


@pytest.mark.parametrize(
    ("offset", "size"), [(100, 10), (4096, 10), (100, 4096), (4096, 4096), (4000, 8192), (16384, 100), (16000, 8192)]
)
def test_a_store_that_knows_whole_pages_only_is_given_whole_pages_by_direct_writes_too(offset: int, size: int) -> None:
    expected = bytearray(DATA[: 4 << 12])
    expected[offset : offset + size] = b"d" * size
    ops = InPages()
    with pagein.PageCache("1 MiB", debug=True) as cache, cache.inode(ops, size_bytes=4 << 12).open("r+b") as file:
        file.pwrite(b"d" * size, offset, direct=True)
        file.fsync()
        assert file.pread(1 << 20, 0) == expected
    assert b"".join(ops.pages[at] for at in sorted(ops.pages)) == expected


def test_a_direct_write_of_whole_pages_goes_straight_to_the_store() -> None:
    ops = InPages()
    with pagein.PageCache("1 MiB", debug=True) as cache, cache.inode(ops, size_bytes=4 << 12).open("r+b") as file:
        file.pwrite(b"d" * 8192, 4096, direct=True)
        assert ops.pages[1] == ops.pages[2] == b"d" * 4096
        assert cache.stats().resident_bytes == 0
