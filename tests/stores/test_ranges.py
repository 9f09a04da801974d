"""RangeOperations: one `fill` for a run of pages, and what a failing one leaves behind."""

from __future__ import annotations

import errno

import pytest
from tests.stores.reading import DATA, MIB

import pagein
from pagein.stores import RangeOperations


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
