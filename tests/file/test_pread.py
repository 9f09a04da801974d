"""pread and preadinto: any bytes, from any thread, into any buffer, without a position."""

from __future__ import annotations

import array
import ctypes
import mmap
from collections.abc import Callable
from typing import Any

import pytest
from tests.file.sources import DATA, EDGES, binary, no_items

from pagein import File, PageCache
from pagein.mm.aops import AOP_UPDATED_PAGE, AddressSpaceOperations
from pagein.mm.openfile import OpenFile
from pagein.mm.page import Page
from pagein.units import PAGE_SIZE


@pytest.mark.parametrize("size", [*EDGES, 1 << 40])
def test_pread_and_preadinto_give_what_the_bytes_slice_gives(size: int, small_file: File) -> None:
    for offset in (*EDGES, 1 << 50):
        expected = DATA[offset : offset + size]
        for _ in range(2):  # at first perhaps missing, then perhaps cached
            assert small_file.pread(size, offset) == expected
        buffer = bytearray(b"\xaa" * min(size, len(DATA) + PAGE_SIZE))
        assert small_file.preadinto(buffer, offset) == len(expected)
        assert buffer[: len(expected)] == expected
        assert buffer[len(expected) :] == b"\xaa" * (len(buffer) - len(expected))
    assert small_file.tell() == 0


BUFFERS: dict[str, Callable[[int], Any]] = {
    "bytearray": bytearray,
    "array of doubles": lambda size: array.array("d", bytes(size)),
    "ctypes chars": lambda size: (ctypes.c_char * size)(),
    "ctypes big-endian ints": lambda size: (ctypes.c_uint32.__ctype_be__ * (size // 4))(),
    "ctypes structures": lambda size: (Pair * (size // 8))(),
    "mmap": lambda size: mmap.mmap(-1, size),
    "part of a memoryview": lambda size: memoryview(bytearray(size + 10))[5:-5],
    "two-dimensional": lambda size: memoryview(bytearray(size)).cast("B", (size // 8, 8)),
}


class Pair(ctypes.Structure):
    _fields_ = (("a", ctypes.c_int32), ("b", ctypes.c_int32))


@pytest.mark.parametrize("kind", BUFFERS)
def test_preadinto_fills_any_writable_buffer_whatever_its_items_are(kind: str, small_file: File) -> None:
    size = 3 * PAGE_SIZE
    buffer = BUFFERS[kind](size)
    assert small_file.preadinto(buffer, 5) == size
    assert bytes(memoryview(buffer).cast("B")) == DATA[5 : 5 + size]


def test_preadinto_takes_a_numpy_array(small_file: File) -> None:
    numpy = pytest.importorskip("numpy")
    target = numpy.zeros((3, 1000), dtype="<i4")
    assert small_file.preadinto(target, 1) == target.nbytes
    assert target.tobytes() == DATA[1 : 1 + target.nbytes]
    assert small_file.preadinto(numpy.zeros(0), 1) == 0


def test_preadinto_takes_an_array_without_items_of_any_shape(small_file: File) -> None:
    assert small_file.preadinto(no_items(), 1) == 0


def test_a_store_may_write_an_array_without_items_into_a_page(cache: PageCache) -> None:
    class InParts(AddressSpaceOperations):
        def readpage(self, file: OpenFile, page: Page) -> int:
            for part in (no_items(), DATA[:100], no_items()):
                page.write(part)
            page.set_uptodate()
            return AOP_UPDATED_PAGE

    with binary(cache.inode(InParts(), size_bytes=100).open()) as file:
        assert file.pread(100, 0) == DATA[:100]


def test_preadinto_does_not_keep_the_buffer(small_file: File) -> None:
    buffer = bytearray(100)
    small_file.preadinto(buffer, 0)
    buffer.append(1)  # BufferError if somebody still had it


def test_calls_without_a_position_neither_use_nor_move_it(small_file: File) -> None:
    small_file.seek(777)
    small_file.pread(10, 0)
    small_file.preadinto(bytearray(5000), 9)
    small_file.view(10, 5).release()
    small_file.advise("willneed", 0, 100)
    assert small_file.tell() == 777
    assert small_file.read(3) == DATA[777:780]
