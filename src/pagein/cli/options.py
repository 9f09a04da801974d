"""What options and arguments are on the command line: sizes, with or without a unit; seconds; places.

Guarantees: what cannot be meant is wrong usage, and the option is named.
"""

from __future__ import annotations

import math
from typing import Any

import click

from ..units import PAGE_SIZE, parse_size


def size(text: str) -> int:
    """Bytes.  Raises: click.BadParameter saying what is accepted."""
    try:
        return parse_size(text, what="it")
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def positive_size(text: str) -> int:
    """Bytes, one at least.  Raises: click.BadParameter."""
    size_bytes = size(text)
    if not size_bytes:
        raise click.BadParameter("it must be at least 1 byte")
    return size_bytes


def cache_size(text: str) -> int:
    """Bytes of a cache.  Raises: click.BadParameter."""
    size_bytes = size(text)
    if size_bytes < PAGE_SIZE:
        raise click.BadParameter(f"a cache must hold at least one page ({PAGE_SIZE} bytes), not {size_bytes} bytes")
    return size_bytes


class Seconds(click.FloatRange):
    """A time to wait for.  No range refuses what is no number, with which nothing can be compared."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Raises: click.BadParameter."""
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value} is no number of seconds", param, ctx)
        return seconds


def place(text: str) -> str:
    """A path or URL.  Raises: click.BadParameter for nothing: an unset variable is not the working directory."""
    if not text:
        raise click.BadParameter("it is empty")
    return text
