"""In which way bytes are wrong, in words that lead to the mistake.

Pure functions over bytes: no I/O.
"""

from __future__ import annotations

from ...units import PAGE_SIZE

_SAMPLE_BYTES = 16


def first_difference(got: bytes, wanted: bytes) -> int:
    """The first byte that differs, or the length of the shorter."""
    for at, (one, other) in enumerate(zip(got, wanted, strict=False)):
        if one != other:
            return at
    return min(len(got), len(wanted))


def never_written(one: bytes, poison: int, other: bytes, other_poison: int) -> int:
    """The first byte that held the poison each time; -1 if there is none."""
    if len(one) != len(other) or one == other:
        return -1
    for at, (first, second) in enumerate(zip(one, other, strict=True)):
        if first == poison and second == other_poison:
            return at
    return -1


def describe(got: bytes, wanted: bytes, offset: int, content: bytes | None = None) -> str:
    """What is wrong with *got*, which was read at *offset*, where *wanted* is right."""
    if len(got) != len(wanted):
        return f"{len(got)} bytes, not {len(wanted)}"
    at = first_difference(got, wanted)
    wrong = sum(one != other for one, other in zip(got, wanted, strict=True))
    text = (
        f"{wrong} of {len(got)} bytes are wrong, the first at offset {offset + at}: "
        f"{got[at : at + _SAMPLE_BYTES].hex(' ')} in place of {wanted[at : at + _SAMPLE_BYTES].hex(' ')}"
    )
    if not any(got[at:]) and any(wanted[at:]):
        return f"{text}; from there on all are zeros"
    start = at // _SAMPLE_BYTES * _SAMPLE_BYTES
    sample = got[start : start + _SAMPLE_BYTES]
    tells_place = len(sample) == _SAMPLE_BYTES and len(set(sample)) > 1  # noughts are everywhere
    found = content.find(sample) if content and tells_place else -1
    if found >= 0:
        page, within = divmod(found, PAGE_SIZE)
        return f"{text}; those are the bytes of the file from offset {found} on (page {page}, byte {within})"
    return text
