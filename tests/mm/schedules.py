"""What the tests of interleavings share: where threads may be stopped, and what they do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import isfunction

from tests.explored import LOCKS as LOCKS
from tests.torture.stamps import check

from pagein import File
from pagein.mm import filemap, removal, truncate
from pagein.mm.arena import Arena
from pagein.mm.page import Page
from pagein.mm.pin import Pins
from pagein.reader import PageReader
from pagein.testing.schedule import ByLine, Preemptible
from pagein.units import PAGE_SIZE

Functions = list[Preemptible]

HIT_PATH: Functions = [
    PageReader.pread, PageReader._pread_parts, PageReader._fill_parts, PageReader.view, PageReader._view_parts,
    File._line_piece, filemap.copy_if_uptodate, filemap._copy_locked,
]  # fmt: skip
REMOVAL: Functions = [
    ByLine(removal.remove_runs), ByLine(removal._without_held), ByLine(removal.clean_up_after_lost_race),
    ByLine(Arena.punch), Arena.bump_generation, ByLine(Pins.spans), ByLine(Page.set_uptodate),
]  # fmt: skip
RESIZE: Functions = [
    ByLine(function) for function in vars(truncate).values()
    if isfunction(function) and function.__module__ == truncate.__name__
]  # fmt: skip
LOCK_FREE = HIT_PATH + REMOVAL


def reader(file: File, *, pages: int = 1, index: int = 0, number: int = 0, times: int = 2) -> Callable[[], None]:
    """Reads the same pages of file *number* again and again: each is of one fetch, and never of an earlier one."""

    def read() -> None:
        since = [0] * pages
        for _ in range(times):
            data = file.pread(pages * PAGE_SIZE, index * PAGE_SIZE)
            assert len(data) == pages * PAGE_SIZE
            fetches = check(data, number, index * PAGE_SIZE)
            assert all(map(int.__ge__, fetches, since)), f"fetches {fetches} after {since}"
            since = fetches

    return read


def evictor(file: File, times: int = 2) -> Callable[[], None]:
    """Drops all that nobody uses of a file."""

    def evict() -> None:
        for _ in range(times):
            file.advise("dontneed")

    return evict


@contextmanager
def may_fail_with(*errnos: int) -> Iterator[None]:
    """An OSError with one of these numbers is an answer too."""
    try:
        yield
    except OSError as error:
        if error.errno not in errnos:
            raise
