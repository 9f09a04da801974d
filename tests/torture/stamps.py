"""Pages that say what they are: each holds one 8-byte stamp of (file, page, fetch), 512 times.

A page that mixes two fetches, that belongs to another page or file, or that is not there (zeros) is told at a
glance; so is one that is older than it may be, because fetches are numbered across all files.
"""

from __future__ import annotations

import itertools
import struct
from typing import NamedTuple

from pagein.units import PAGE_SHIFT, PAGE_SIZE

STAMP_BYTES = 8
STAMPS_PER_PAGE = PAGE_SIZE // STAMP_BYTES
_FETCH_BITS, _INDEX_BITS = 32, 24


class WrongPageError(AssertionError):
    """A reader was given what no fetch of the page it asked for had brought."""


class Stamp(NamedTuple):
    file: int
    page: int
    fetch: int

    def pack(self) -> bytes:
        value = (self.file + 1) << _INDEX_BITS + _FETCH_BITS | self.page << _FETCH_BITS | self.fetch
        return struct.pack("<Q", value)

    @classmethod
    def unpack(cls, data: bytes) -> Stamp:
        (value,) = struct.unpack("<Q", data)
        page = value >> _FETCH_BITS & (1 << _INDEX_BITS) - 1
        return cls((value >> _INDEX_BITS + _FETCH_BITS) - 1, page, value & (1 << _FETCH_BITS) - 1)

    def __str__(self) -> str:
        return f"fetch {self.fetch} of page {self.page} of file {self.file}"


class Fetches:
    """Numbers every fetch of every file, from 1 on."""

    def __init__(self) -> None:
        self._next = itertools.count(1).__next__
        self.last = 0

    def page(self, file: int, index: int) -> bytes:
        """The content of one more fetch of a page."""
        self.last = fetch = self._next()
        return Stamp(file, index, fetch).pack() * STAMPS_PER_PAGE


def check(data: bytes | bytearray | memoryview, file: int, offset: int, *, since: int = 1) -> list[int]:
    """The number of the fetch that each page of *data* came from; *data* is whole stamps from *offset* on.

    Raises: `WrongPageError` for pages that are torn, zeros, of another page or file, or of a fetch before *since*.
    """
    data = bytes(data)
    fetches = []
    at = 0
    while at < len(data):
        index = offset + at >> PAGE_SHIFT
        size = min(len(data), (index + 1 << PAGE_SHIFT) - offset) - at
        piece = data[at : at + size]
        if piece != piece[:STAMP_BYTES] * (size // STAMP_BYTES):
            kinds = sorted({bytes(piece[i : i + STAMP_BYTES]) for i in range(0, size, STAMP_BYTES)})
            raise WrongPageError(f"page {index} of file {file} is torn: {' and '.join(map(_say, kinds))}")
        if not any(piece[:STAMP_BYTES]):
            raise WrongPageError(f"page {index} of file {file} is zeros")
        stamp = Stamp.unpack(piece[:STAMP_BYTES])
        if (stamp.file, stamp.page) != (file, index):
            raise WrongPageError(f"page {index} of file {file} is {stamp}")
        if stamp.fetch < since:
            raise WrongPageError(f"page {index} of file {file} is {stamp}, older than fetch {since}")
        fetches.append(stamp.fetch)
        at += size
    return fetches


def _say(stamp: bytes) -> str:
    return str(Stamp.unpack(stamp)) if any(stamp) else "zeros"
