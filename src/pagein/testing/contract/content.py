"""What is written to a store that is checked: bytes that show each mistake.

Guarantees: no byte is zero, so that whoever makes one zero is seen; no byte of one version is as in the next 254, so
that a write which is not stored is seen, however short; 16 bytes in a row are found at one place only.
Pure functions: no I/O.
"""

from __future__ import annotations

import functools
import random

from ...units import PAGE_SHIFT, PAGE_SIZE

_VALUES = 255
"""Of a byte that is not zero."""
_PAGES_KEPT = 64
"""More than any exercise writes."""


def content(offset_bytes: int, size_bytes: int, *, version: int = 0) -> bytes:
    """*size_bytes* of a file in that *version*, from *offset_bytes* on."""
    first, stop = offset_bytes >> PAGE_SHIFT, offset_bytes + size_bytes
    pages = b"".join(_page(index) for index in range(first, -(-stop // PAGE_SIZE)))
    return pages[offset_bytes - first * PAGE_SIZE :][:size_bytes].translate(_shifted(version))


def turned(data: bytes) -> bytes:
    """*data* in the next version: every byte is another."""
    return data.translate(_shifted(1))


@functools.lru_cache(maxsize=_PAGES_KEPT)
def _page(index: int) -> bytes:
    return random.Random(index).randbytes(PAGE_SIZE).translate(_shifted(0))


@functools.lru_cache(maxsize=_VALUES)
def _shifted(version: int) -> bytes:
    """Takes a byte to another that is not zero."""
    return bytes(1 + (max(byte, 1) - 1 + version) % _VALUES for byte in range(256))
