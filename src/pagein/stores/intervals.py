"""A set of numbers as sorted, disjoint, non-adjacent half-open intervals: which bytes of a file count.

Guarantees: a look-up is O(log n); what is added next to what is there is merged with it.
Not here: locks.  Whoever shares one holds his own.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Intervals:
    """Numbers from 0 on, of which some are in."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._starts, self._stops, strict=True)))

    def __bool__(self) -> bool:
        return bool(self._starts)

    def add(self, start: int, stop: int) -> None:
        """Now [start, stop) is in."""
        if start >= stop:
            return
        first = bisect_left(self._stops, start)  # the first that touches it...
        last = bisect_right(self._starts, stop)  # ...and the first after those that do
        if first < last:
            start, stop = min(start, self._starts[first]), max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]

    def cut(self, size: int) -> None:
        """Now nothing from *size* on is in."""
        kept = bisect_left(self._starts, size)
        del self._starts[kept:], self._stops[kept:]
        if kept and self._stops[-1] > size:
            self._stops[-1] = size

    def split(self, start: int, stop: int) -> Iterator[tuple[int, int, bool]]:
        """All of [start, stop), in order, in pieces that are in (True) or not."""
        at, index = start, bisect_right(self._stops, start)
        while at < stop:
            if index == len(self._starts) or self._starts[index] >= stop:
                yield at, stop, False
                return
            if at < self._starts[index]:
                yield at, self._starts[index], False
            piece_start, piece_stop = max(at, self._starts[index]), min(stop, self._stops[index])
            yield piece_start, piece_stop, True
            at, index = piece_stop, index + 1
