"""What of each file is in a cache at this moment, for tables and pictures.

Guarantees: nothing here takes a lock, waits, or asks a store, so that a notebook, a debugger or a monitor may look at
any time; what is said of each file was true of each of its pages at some moment of the look.
Not here: how it is shown (notebook.py, cli/), the counts of a whole cache (stats.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from .units import PAGE_SHIFT, page_count_for

if TYPE_CHECKING:
    from .cache import PageCache
    from .mm.mapping import AddressSpace

T = TypeVar("T")

LOOKS_MAX = 100
"""A set that others change all the time is looked at so often, and then taken as empty."""


class Residency(NamedTuple):
    """One version of one file in a cache."""

    name: str
    version: str
    size_bytes: int
    runs: tuple[tuple[int, int], ...]
    """Which of its pages are here, as (first index, page count), in order."""
    dirty_bytes: int
    open_files: int
    hits: int
    """Of the files that are open now."""

    @property
    def page_count(self) -> int:
        """Pages of the file."""
        return page_count_for(self.size_bytes)

    @property
    def resident_bytes(self) -> int:
        """Bytes of the file that are here."""
        return resident_bytes(self.runs, self.size_bytes)


def resident_bytes(runs: Iterable[tuple[int, int]], size_bytes: int) -> int:
    """Bytes of a file of *size_bytes* that are in pages of *runs*."""
    spans = ((first << PAGE_SHIFT, min((first + count) << PAGE_SHIFT, size_bytes)) for first, count in runs)
    return sum(max(0, stop - start) for start, stop in spans)


def cells(runs: Iterable[tuple[int, int]], page_count: int, cell_count: int) -> list[tuple[int, int]]:
    """A file of *page_count* pages as at most *cell_count* cells, in order: (pages that are here, pages) of each.

    *runs*: (first index, page count), in order.
    """
    cell_count = min(cell_count, page_count)
    if not cell_count:
        return []
    filled = [0] * cell_count
    for first, count in runs:
        index, stop = first, min(first + count, page_count)
        while index < stop:
            cell = ((index + 1) * cell_count - 1) // page_count
            cell_stop = (cell + 1) * page_count // cell_count
            filled[cell] += min(stop, cell_stop) - index
            index = cell_stop
    starts = [cell * page_count // cell_count for cell in range(cell_count)] + [page_count]
    return [(pages, starts[cell + 1] - starts[cell]) for cell, pages in enumerate(filled)]


def of_cache(cache: PageCache) -> list[Residency]:
    """Every file of which *cache* knows something, those with most bytes here first."""
    if cache._zone.closed:
        return []
    hits: Counter[AddressSpace] = Counter()
    open_files: Counter[AddressSpace] = Counter()
    known = {inode.mapping: (inode.name, inode.version) for inode in list(cache._table.by_key.values())}
    for file in members(cache._files):
        if not file.closed:
            mapping = file._mapping
            hits[mapping] += file.hits
            open_files[mapping] += 1
            known.setdefault(mapping, (file.name, file.version))  # also one of an object that has changed since
    found = [
        Residency(
            name=name,
            version=version,
            size_bytes=mapping.i_size,
            runs=tuple(mapping.resident()),
            dirty_bytes=mapping.dirty_bytes,
            open_files=open_files[mapping],
            hits=hits[mapping],
        )
        for mapping, (name, version) in known.items()
    ]
    return sorted(found, key=lambda one: (-one.resident_bytes, one.name))


def members(of: Iterable[T]) -> list[T]:
    """What is in a set to which other threads may add."""
    for _ in range(LOOKS_MAX):
        try:
            return list(of)
        except RuntimeError:  # one has, just now
            continue
    return []
