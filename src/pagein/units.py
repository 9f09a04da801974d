"""Pages and bytes: the one place where offsets become indices, counts become sizes, and words become numbers.

Guarantees: pure functions; an ``index`` numbers a page in its file, a ``page_count`` counts pages, a
``..._bytes`` is in bytes.
Assumes: the page arithmetic is given what was checked before, integers of at least 0, and checks nothing
itself (misses and evictions run through it); `parse_size` is given anything a person may have written.
Not here: frames, the arena's numbering of pages (mm/arena.py).
"""

from __future__ import annotations

import re
import reprlib
from operator import index as as_int
from typing import SupportsIndex

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
"""4 KiB, on every machine: a page is what is fetched, evicted and accounted for, not what the MMU maps."""
PAGE_OFFSET_MASK = PAGE_SIZE - 1
"""The bits of an offset that say where in its page it lies."""

SIZE_BYTES_MAX = (1 << 63) - 1
"""The largest size or offset that the operating system's interfaces can name (off_t)."""


# -- pages -------------------------------------------------------------------------------------------


def page_count_for(size_bytes: int) -> int:
    """How many pages hold *size_bytes* bytes, the last perhaps in part."""
    return (size_bytes + PAGE_OFFSET_MASK) >> PAGE_SHIFT


# -- bytes of any buffer -----------------------------------------------------------------------------


def as_bytes(view: memoryview) -> memoryview:
    """The bytes of *view*, whatever its items and dimensions are.  Raises: TypeError if it is not C-contiguous."""
    return view.cast("B") if view.nbytes else memoryview(bytearray())  # which has no cast with a dimension of 0


# -- sizes as people write them ----------------------------------------------------------------------

_PREFIXES = "KMGTPE"
_SIZE = re.compile(
    rf"(?P<whole>[0-9]{{1,20}})(?:\.(?P<fraction>[0-9]{{1,20}}))?\s*"
    rf"(?:(?P<prefix>[{_PREFIXES}])(?P<style>i?B?)|B)?",
    re.IGNORECASE | re.ASCII,
)


def parse_size(value: SupportsIndex | str, *, what: str) -> int:
    """Bytes from an integer, or from a string such as ``"4096"``, ``"64K"``, ``"1.5 MB"`` or ``"4 GiB"``.

    K, Ki and KiB are 1024 bytes, as the bare letters are for ``dd`` and ``ls -h``; KB is 1000.  So on for M,
    G, T, P and E, in upper or lower case.  A fraction of a byte is dropped.  *what* names it in errors.

    Raises: TypeError for what is neither (a float, a bool, None); ValueError for a string that is no size, or
    for a size below 0 or above `SIZE_BYTES_MAX`.
    """
    if isinstance(value, str):
        size_bytes = _bytes_written_in(value, what)
    elif isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{_accepted(what)}, not {reprlib.repr(value)} ({type(value).__name__})")
    else:
        size_bytes = as_int(value)
    if not 0 <= size_bytes <= SIZE_BYTES_MAX:
        raise ValueError(f"{what} must be from 0 to {SIZE_BYTES_MAX} bytes, not {reprlib.repr(value)}")
    return size_bytes


def format_size(size_bytes: int) -> str:
    """*size_bytes* for people to read, to one decimal: ``"512 B"``, ``"64 KiB"``, ``"1.4 GiB"``."""
    if size_bytes < 0:
        raise ValueError(f"a size must be at least 0, not {size_bytes}")
    if size_bytes < 1024:
        return f"{size_bytes} B"
    power = min((size_bytes.bit_length() - 1) // 10, len(_PREFIXES))
    tenths = _tenths(size_bytes, power)
    if tenths >= 10240 and power < len(_PREFIXES):  # 1023.96 KiB would be written as "1024 KiB"
        power += 1
        tenths = _tenths(size_bytes, power)
    whole, tenth = divmod(tenths, 10)
    return f"{whole}{f'.{tenth}' if tenth else ''} {_PREFIXES[power - 1]}iB"


def format_share(part: int, whole: int) -> str:
    """A part of a whole as a percentage: "0%" only of nothing, "100%" only of all (also of an empty whole)."""
    if part >= whole:
        return "100%"
    return f"{min(99, max(1, round(100 * part / whole))) if part > 0 else 0}%"


def _bytes_written_in(text: str, what: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None or (match["fraction"] and not match["prefix"]):
        raise ValueError(f"{_accepted(what)}, not {reprlib.repr(text)}")
    if match["prefix"] is None:
        return int(match["whole"])
    power = 1 + _PREFIXES.index(match["prefix"].upper())
    unit_bytes: int = (1000 if match["style"].lower() == "b" else 1024) ** power
    decimals: str = match["fraction"] or ""
    shift: int = 10 ** len(decimals)
    return int(match["whole"] + decimals) * unit_bytes // shift


def _accepted(what: str) -> str:
    return f"{what} must be a number of bytes, or a string such as '64K', '1.5 MB' or '4 GiB'"


def _tenths(size_bytes: int, power: int) -> int:
    """Tenths of 1024**power, rounded to the nearest; in integers, as a float has only 53 bits."""
    unit_bytes = 1 << 10 * power
    return (size_bytes * 10 + unit_bytes // 2) // unit_bytes
