"""What the topics read: random bytes in memory and in a file, offsets that are the same for everybody, and stores.

Guarantees: offsets come from a fixed seed, so every candidate of every run reads the same places.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pagein import File, PageCache
from pagein.mm.openfile import OpenFile
from pagein.stores.ranges import RangeOperations

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
PAGE = 4 * KIB
SEED = 20_091


class BytesInMemory(RangeOperations):
    """A store that answers at once: what is measured over it is the cache."""

    blocking = False  # it answers at once

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self.request_count = 0

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        self.request_count += 1
        buffer[:] = self._data[offset_bytes : offset_bytes + len(buffer)]


class Pattern(RangeOperations):
    """A store as large as one likes, that holds the same MiB over and over."""

    blocking = False  # it answers at once
    _megabyte = memoryview(random.Random(SEED).randbytes(MIB) * 9)

    def __init__(self) -> None:
        self.request_count = 0

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        self.request_count += 1
        start = offset_bytes % MIB
        buffer[:] = self._megabyte[start : start + len(buffer)]


def random_bytes(size_bytes: int) -> bytes:
    """A MiB of random bytes over and over, each numbered, so that no two are alike."""
    block = random.Random(SEED).randbytes(MIB - 8)
    return b"".join(number.to_bytes(8, "little") + block for number in range(size_bytes // MIB))


def offsets(count: int, *, size_bytes: int, within_bytes: int, step_bytes: int = PAGE) -> list[int]:
    """Where to read *size_bytes* at a time: random multiples of *step_bytes*."""
    draw = random.Random(SEED + size_bytes + step_bytes)
    return [draw.randrange((within_bytes - size_bytes) // step_bytes + 1) * step_bytes for _ in range(count)]


@contextmanager
def directory() -> Iterator[Path]:
    with TemporaryDirectory(prefix="pagein-bench-") as name:
        yield Path(name)


def open_over(cache: PageCache, ops: RangeOperations, size_bytes: int) -> File:
    """A file whose pages *ops* brings."""
    file = cache.inode(ops, size_bytes=size_bytes).open()
    assert isinstance(file, File)
    return file


def description_of(file: File) -> OpenFile:
    """What mm/ knows a file by."""
    return file._file
