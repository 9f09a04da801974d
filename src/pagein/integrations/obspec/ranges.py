"""Which bytes somebody wants of an object whose size is not known yet, and which ranges are one request.

Guarantees: no I/O.  What makes no sense is None, for the store to say why.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import index as as_int
from typing import Any, NamedTuple

from ...mm.readahead import WANTED_PAGES_MAX
from ...units import PAGE_OFFSET_MASK, PAGE_SHIFT, PAGE_SIZE

REQUEST_BYTES_MAX = WANTED_PAGES_MAX << PAGE_SHIFT
"""So much is asked for at once while looking, read before `get` returns, and merged into one request."""
GAP_BYTES_MAX = 1 << 20
"""Ranges that lie no further apart are one request, as they are without a cache (object_store's own figure)."""


class Wanted(NamedTuple):
    """Bytes [start, stop) of an object, where None is the end; or its last -start bytes."""

    start: int
    stop: int | None

    def within(self, size_bytes: int) -> tuple[int, int] | None:
        """Where that is in an object of this size; None for what a store refuses."""
        start = max(0, size_bytes + self.start) if self.start < 0 else self.start
        stop = size_bytes if self.stop is None else min(self.stop, size_bytes)
        return (start, stop) if start < stop else None

    def to_ask(self) -> Any:
        """The range to ask for while looking: so that whole pages come, and no more than one request's worth."""
        if self.start < 0:
            return {"suffix": min(-self.start, REQUEST_BYTES_MAX) + PAGE_OFFSET_MASK}
        start = self.start & ~PAGE_OFFSET_MASK
        stop = start + REQUEST_BYTES_MAX
        return start, stop if self.stop is None else min(stop, -(-self.stop // PAGE_SIZE) * PAGE_SIZE)


WHOLE = Wanted(0, None)
"""No range at all, which an empty object has, too."""


def wanted(given: Any) -> Wanted | None:
    """What the option ``range`` of a get says."""
    try:
        if isinstance(given, dict):
            ((kind, value),) = given.items()
            number = as_int(value)
            if kind == "offset" and number >= 0:
                return Wanted(number, None)
            return Wanted(-number, None) if kind == "suffix" and number > 0 else None
        start, stop = given
        return between(start, stop)
    except (TypeError, ValueError):
        return None


def between(start: Any, end: Any = None, length: Any = None) -> Wanted | None:
    """What the arguments of get_range say."""
    if (end is None) == (length is None):
        return None
    try:
        start = as_int(start)
        stop = start + as_int(length) if end is None else as_int(end)
    except TypeError:
        return None
    return Wanted(start, stop) if 0 <= start < stop else None


def each_between(
    starts: Sequence[int], ends: Sequence[int] | None, lengths: Sequence[int] | None
) -> list[Wanted] | None:
    """What the arguments of get_ranges say."""
    if (ends is None) == (lengths is None):
        return None
    try:
        pairs = zip(starts, ends or lengths or (), strict=True)
        each = [
            between(start, end=other) if lengths is None else between(start, length=other) for start, other in pairs
        ]
    except (TypeError, ValueError):
        return None
    found = [one for one in each if one is not None]
    return found if len(found) == len(each) else None


def merged(parts: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Parts [start, stop), those that lie near each other as one."""
    runs: list[tuple[int, int]] = []
    for start, stop in sorted(parts):
        if runs and start <= runs[-1][1] + GAP_BYTES_MAX and stop - runs[-1][0] <= REQUEST_BYTES_MAX:
            runs[-1] = runs[-1][0], max(stop, runs[-1][1])
        else:
            runs.append((start, stop))
    return runs
