"""What options and arguments are on the command line: sizes, with or without a unit; seconds; places; and the options
that several commands have.

Guarantees: what cannot be meant is wrong usage, and the option is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

from ..units import PAGE_SIZE, parse_size
from .pattern import PATTERNS

Command = TypeVar("Command", bound=Callable[..., Any])


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


def cache_option(command: Command) -> Command:
    """``--cache``, as *cap_bytes*."""
    return click.option(
        "--cache",
        "cap_bytes",
        type=cache_size,
        metavar="SIZE",
        help="Bytes of the cache.  [default: as `pagein config` shows]",
    )(command)


def reading_options(command: Command) -> Command:
    """How sources are read (readers.py), through a cache of which size."""
    patterns = click.Choice(list(PATTERNS))
    for option in (
        click.option("--seed", type=int, default=0, show_default=True, help="Of the patterns random and zipf."),
        cache_option,
        click.option(
            "--size", "size_bytes", type=size, help="Bytes to read in all.  [default: 256M, or 100,000 reads]"
        ),
        click.option(
            "--block",
            "block_bytes",
            type=positive_size,
            metavar="SIZE",
            default="128K",
            show_default=True,
            help="Bytes a read.",
        ),
        click.option("--pattern", type=patterns, default="sequential", show_default=True, help="In which order."),
        click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="Readers at once."),
    ):  # the last is shown first
        command = option(command)
    return command
