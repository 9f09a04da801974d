"""Exercises in which things happen at once: several readers, invalidation, a new size, a store that fails and heals.

`concurrency` lets one call overtake another wherever it can (overtaking.py); what a switch more would take, or other
code than the store's own, it leaves to luck, with threads that take turns very often.
Assumes: `pages_alone` (reading.py) has run, so that `Rig.expected` knows the pages.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from ...cache import Inode, PageCache
from ...file import File
from ...mm.truncate import invalidate_inode_pages2
from ...units import PAGE_SIZE
from .bytes_seen import describe
from .overtaking import Hold, overtake
from .rig import NotApplicable, Rig

READERS_MAX = 8
ROUNDS = 4
SWITCH_S = 1e-4
"""Threads take turns so often meanwhile: what can be interrupted is."""


@contextmanager
def _restless_threads() -> Iterator[None]:
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(interval_s)


def _read(rig: Rig, file: File, index: int) -> None:
    """A page, which has to be what it is when it is read alone."""
    data = file.pread(rig.size_of(index), index * PAGE_SIZE)
    wanted = rig.expected(index)
    if wanted is not None and data != wanted:
        rig.fail("R10", describe(data, wanted, index * PAGE_SIZE, rig.content), f"page {index}")


def _read_several(rig: Rig, file: File, indexes: list[int]) -> None:
    for index in indexes:
        _read(rig, file, index)


def _read_past(rig: Rig, cache: PageCache, file: File, hold: Hold, *, held: int, other: int) -> None:
    """Read a page, and another while the call for the first is held."""

    def read(index: int) -> None:
        try:
            data = file.pread(rig.size_of(index), index * PAGE_SIZE)
        except OSError as error:
            rig.fail("C1", f"it failed with {rig.why(error)}", hold.told(index, held=held, other=other))
        wanted = rig.expected(index)
        if wanted is not None and data != wanted:
            seen = describe(data, wanted, index * PAGE_SIZE, rig.content)
            rig.fail("C1", seen, hold.told(index, held=held, other=other))

    rig.at_once([partial(hold.first, partial(read, held)), partial(hold.second, partial(read, other))])
    cache.drop()


def concurrency(rig: Rig) -> None:
    """As many readers at once as the store takes calls, each with pages of his own."""
    ops = rig.open_to_read().inner
    pages = rig.sample()
    readers = min(ops.requests_max, READERS_MAX, len(pages))
    if readers < 2:
        raise NotApplicable("requests_max is 1" if ops.requests_max < 2 else "the file has only one page")
    rig.record.renamed = {"R8": "C1", "R9": "C1", "R10": "C1", "R15": "C1"}
    with rig.record.during("while others are read"), rig.cache() as cache, rig.file(cache) as file:
        file.advise("random")
        # Both ways round: what follows the other's page, on a shared cursor, is the held one in one of them at most.
        for held, other in ((pages[0], pages[-1]), (pages[-1], pages[0])):
            overtake(rig, partial(_read_past, rig, cache, file, held=held, other=other))
    with rig.record.during("while others are read"), rig.cache() as cache, _restless_threads():
        for turn in range(ROUNDS):
            turned = pages[turn:] + pages[:turn]
            with rig.file(cache) as file:
                file.advise("random")
                rig.at_once(partial(_read_several, rig, file, turned[at::readers]) for at in range(readers))
                rig.stop_if_breached()
            cache.drop()


def invalidation(rig: Rig) -> None:
    """Readers while all pages are dropped, again and again."""
    rig.open_to_read()
    rig.record.renamed = {"R8": "T1", "R9": "T1", "R10": "T1", "R15": "T1"}
    pages = rig.sample()

    def drop(cache: PageCache, inode: Inode) -> None:
        for turn in range(ROUNDS * 4):
            if turn % 2:
                cache.drop()
            else:
                invalidate_inode_pages2(inode.mapping, 0, inode.mapping.frame_count)

    with rig.record.during("while all pages are dropped"):
        _meet(rig, pages, drop)


def truncation(rig: Rig) -> None:
    """Readers while the file becomes shorter and longer again."""
    rig.open_to_read()
    if rig.page_count < 2:
        raise NotApplicable("the file has only one page")
    rig.record.renamed = {"R8": "T2", "R9": "T2", "R10": "T2", "R15": "T2"}
    cut_bytes = (rig.page_count // 2) * PAGE_SIZE + min(100, rig.size_of(rig.page_count // 2))
    cut_index = cut_bytes // PAGE_SIZE

    def resize(cache: PageCache, inode: Inode) -> None:
        for _ in range(ROUNDS):
            inode.resize(cut_bytes)
            with inode.open() as file:
                data = file.pread(PAGE_SIZE, cut_index * PAGE_SIZE)
                wanted = rig.expected(cut_index)
                if wanted is not None and data != wanted[: cut_bytes % PAGE_SIZE]:
                    seen = describe(data, wanted[: cut_bytes % PAGE_SIZE], cut_index * PAGE_SIZE, rig.content)
                    rig.fail("T2", seen, f"page {cut_index}, with the file cut at byte {cut_bytes}")
            inode.resize(rig.size_bytes)

    with rig.record.during("while the file becomes shorter and longer"):
        _meet(rig, [index for index in rig.sample() if index < cut_index], resize)
    with rig.cache() as cache, rig.file(cache) as file:
        _read_several(rig, file, rig.sample())


def _meet(rig: Rig, pages: list[int], change: Callable[[PageCache, Inode], None]) -> None:
    with rig.cache() as cache, _restless_threads():
        inode = rig.inode(cache)
        with inode.open() as file:
            assert isinstance(file, File)
            readers = [partial(_read_several, rig, file, (pages[at:] + pages[:at]) * 2) for at in range(2)]
            rig.at_once([*readers, partial(change, cache, inode)])
        rig.stop_if_breached()


def failure(rig: Rig) -> None:
    """Reading while the store fails, and after it has healed."""
    failing = rig.subject.failing
    if failing is None:
        raise NotApplicable("nobody has said how to make it fail (Subject(failing=...))")
    rig.open_to_read()
    has_failed = False
    for whole in (False, True):  # a page, and a run of pages
        size = rig.size_bytes if whole else rig.size_of(0)
        with rig.cache() as cache, rig.file(cache) as file:
            with failing(), rig.record.during("while the store fails"):
                try:
                    data = file.pread(size, 0)
                except OSError:
                    rig.stop_if_breached()
                    has_failed = True
                else:
                    rig.stop_if_breached()
                    _require_right(rig, data, size)
            with rig.record.during("after the store has healed"):
                _read_healed(rig, file, size)
    if not has_failed:
        raise NotApplicable("the store brings the right bytes while it is made to fail (Subject(failing=...))")


def _require_right(rig: Rig, data: bytes, size: int) -> None:
    """Bytes that were asked for in vain may have been kept from before; *failing* may be about writing only."""
    pages = [data[at : at + PAGE_SIZE] for at in range(0, len(data), PAGE_SIZE)]
    wrong = next((at for at, page in enumerate(pages) if rig.expected(at) not in (page, None)), None)
    if wrong is not None:
        seen = describe(pages[wrong], rig.expected(wrong) or b"", wrong * PAGE_SIZE, rig.content)
        rig.fail("F1", f"no error came, and {seen}", f"page {wrong}")
    if len(data) != size or rig.expected(0) is None:
        rig.fail("F1", f"{len(data)} bytes came, and no error", "reading from page 0")


def _read_healed(rig: Rig, file: File, size: int) -> None:
    try:
        data = file.pread(size, 0)
    except OSError as error:
        rig.fail("F2", f"it failed once more: {rig.why(error)}", "reading from page 0")
    wanted = rig.expected(0)
    if wanted is not None and data[: len(wanted)] != wanted[: len(data)]:
        rig.fail("F2", describe(data[: len(wanted)], wanted, 0, rig.content), "page 0")
