"""Operations that bring ranges: one call for a run of pages, and what is left by one that fails or brings too few."""

from __future__ import annotations

import errno
from array import array

import pytest
from tests.stores.reading import DATA, MIB, raises_errno

import pagein
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
