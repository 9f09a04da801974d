"""Where commands write: tables and bars for people, on a terminal, in a pipe or in a file.

Guarantees: no escape code but on a terminal; a broken pipe is a BrokenPipeError.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from ..residency import cells
from ..units import page_count_for

PIPE_COLUMNS = 120
"""A pipe has no width of its own; rich would take 80 and break URLs."""
BAR_COLUMNS = 78
"""Of a bar over a file's pages, where there is room."""

_LEVELS = "·▁▂▃▄▅▆▇█"
_ASCII_LEVELS = ".12345678"


class Screen(Console):
    """A rich console that leaves a broken pipe to its caller."""

    def on_broken_pipe(self) -> None:
        """Raise again what rich has caught."""
        raise  # noqa: PLE0704  # called while it is being handled


def out() -> Screen:
    """For results."""
    return _screen(stderr=False)


def err() -> Screen:
    """For progress."""
    return _screen(stderr=True)


def _screen(*, stderr: bool) -> Screen:
    stream = sys.stderr if stderr else sys.stdout
    return Screen(stderr=stderr, highlight=False, width=None if stream.isatty() else PIPE_COLUMNS)


def progress(screen: Console) -> Progress:
    """A bar over bytes; nothing at all where it could not move."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TimeElapsedColumn(),
        console=screen,
        disable=not screen.is_terminal,
    )


def transfer(screen: Console) -> Progress:
    """A bar over bytes with their rate and the time that is left; nothing at all where it could not move."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=screen,
        disable=not screen.is_terminal,
    )


def table() -> Table:
    """An empty table in the style of all."""
    return Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)


def printable(text: str) -> str:
    """*text* in one line, of which a terminal obeys nothing: what is no character to see stands as Python writes it.
    Files have any names."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def say(screen: Console, text: str, *, style: str = "") -> None:
    """Lines, however long, as they are, but `printable`; so is a name in one made by who says it."""
    screen.print("\n".join(map(printable, text.split("\n"))), style=style, markup=False, soft_wrap=True)


def show_residency(screen: Console, runs: Iterable[tuple[int, int]], size_bytes: int) -> None:
    """A bar of the pages of a file of *size_bytes* that are in the cache; nothing for a file without pages.

    *runs*: (first index, page count), in order.
    """
    if size_bytes:
        width = min(BAR_COLUMNS, screen.width - 2)
        bar = residency_bar(runs, page_count_for(size_bytes), width=width, ascii_only=screen.options.ascii_only)
        say(screen, f"[{bar}]")


def residency_bar(runs: Iterable[tuple[int, int]], page_count: int, *, width: int, ascii_only: bool = False) -> str:
    """Which pages are in the cache: a character for each page, or for each *width*-th of them, as high as it is full.

    *runs*: (first index, page count), in order.  A cell that is not quite empty never looks empty, and one that is
    not quite full never looks full.
    """
    return bar_of_cells(cells(runs, page_count, width), ascii_only=ascii_only)


def bar_of_cells(full: Iterable[tuple[int, int]], *, ascii_only: bool = False) -> str:
    """A character for each cell, of (pages that are here, pages): as high as it is full."""
    levels = _ASCII_LEVELS if ascii_only else _LEVELS
    return "".join(levels[-(-here * (len(levels) - 2) // pages) if here < pages else -1] for here, pages in full)
