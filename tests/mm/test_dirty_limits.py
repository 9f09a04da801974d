"""How much may be dirty: never more than the limit, no deadlock in the smallest caches, and errors of a store that is
full come to those who write and to those who fsync, while the data stay."""

from __future__ import annotations

import errno
import itertools
import random
import threading

import pytest
from tests.contract.harness import Task
from tests.contract.writing import assert_counts_agree

from pagein import File, PageCache, UnwrittenDataError
from pagein.mm.dirty import Limits
from pagein.mm.page import Page
from pagein.mm.writeback import WritebackControl
from pagein.testing.leaks import assert_nothing_left
from pagein.testing.writable import WritableOps, WritableRunOps, stored
from pagein.units import PAGE_SHIFT, PAGE_SIZE

PAGES = 6
"""Of each file."""


class Counted(WritableRunOps):
    """Notes the most that was ever dirty, or on its way, and may be full."""

    def __init__(self, size_bytes: int, cache: PageCache) -> None:
        super().__init__(size_bytes)
        self.is_full = False
        self._dirty = cache._zone.dirty
        self.limit_pages = self._dirty.limits.limit_pages

    def writepages(self, wbc: WritebackControl) -> None:
        dirty = self._dirty
        assert dirty.pages + dirty.writeback_pages <= self.limit_pages
        if self.is_full:
            wbc.take()
            raise OSError(errno.ENOSPC, "full")
        super().writepages(wbc)


def opened(cache: PageCache, *, blocking: bool = True) -> tuple[File, Counted]:
    ops = Counted(PAGES * PAGE_SIZE, cache)
    ops.blocking = blocking
    return cache.inode(ops, size_bytes=PAGES * PAGE_SIZE).open("r+b"), ops


# -- limits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cap_pages", "background", "limit", "pages"),
    [
        (1, 0.1, 0.2, (0, 1)),
        (2, 0.1, 0.2, (0, 1)),
        (10, 0.1, 0.2, (1, 2)),
        (1000, 0.1, 0.2, (100, 200)),
        (1000, 0.0, 1.0, (0, 1000)),
        (100, 0.2, 0.2, (19, 20)),
        (4, 1.0, 1.0, (3, 4)),
    ],
)
def test_limits_in_pages(cap_pages, background, limit, pages):
    """Something may always be dirty, and write-back always begins before nothing more may."""
    limits = Limits.for_cap(cap_pages, background_share=background, limit_share=limit)
    assert limits[:2] == pages
    assert limits.background_pages <= limits.freerun_pages <= limits.limit_pages


@pytest.mark.parametrize("shares", [(-0.1, 0.2), (0.3, 0.2), (0.1, 1.1), (0.0, 0.0), (float("nan"), 0.2)], ids=str)
def test_limits_that_make_no_sense_are_refused(shares):
    with pytest.raises(ValueError, match="dirty_background and dirty_limit"):
        Limits.for_cap(100, background_share=shares[0], limit_share=shares[1])
    with pytest.raises(ValueError, match="dirty_age_s"):
        Limits.for_cap(100, age_s=0)


# -- many who write ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "inline"])
@pytest.mark.parametrize("limits", [(0.1, 0.2), (1.0, 1.0)], ids=["usual", "all may be dirty"])
@pytest.mark.parametrize("cap_pages", [1, 2, 3, 16])
def test_eight_threads_write_four_files_in_a_small_cache(cap_pages, limits, blocking):
    """Each byte belongs to one thread, so that what must be there in the end is known.  The limit is never exceeded,
    and nobody waits for ever."""
    cache = PageCache(cap_pages * PAGE_SIZE, dirty_background=limits[0], dirty_limit=limits[1])
    files = [opened(cache, blocking=blocking) for _ in range(4)]
    models = [bytearray(ops.data) for _, ops in files]
    dirty = cache._zone.dirty

    def write(number: int) -> None:
        (file, _), model, chance = files[number % 4], models[number % 4], random.Random(number)
        half = PAGE_SIZE // 2
        for _ in range(25):
            index = chance.randrange(PAGES)
            start = (index << PAGE_SHIFT) + number // 4 * half
            size = chance.choice([1, 16, half])
            data = bytes([chance.randrange(256)]) * size
            model[start : start + size] = data
            file.pwrite(data, start)
            assert dirty.pages + dirty.writeback_pages <= dirty.limits.limit_pages
            assert file.pread(size, start) == data
            if chance.random() < 0.1:
                file.fsync()

    tasks = [Task(lambda number=number: write(number)) for number in range(8)]  # type: ignore[misc]
    for task in tasks:
        task.result()
    assert_counts_agree(cache._zone)
    Task(cache.close).result()
    assert [bytes(ops.data) for _, ops in files] == [bytes(model) for model in models]


# -- a store that is full ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cap_pages", [1, 2, 3, 16])
def test_a_store_that_is_full_tells_the_writer_and_fsync_and_nothing_is_lost(cap_pages):
    """The writer who needs room hears it, and so does fsync; once the store has healed, all is stored."""
    cache = PageCache(cap_pages * PAGE_SIZE, dirty_background=0.1, dirty_limit=0.5)
    file, ops = opened(cache)
    ops.is_full = True
    model = bytearray(ops.data)
    errors: list[OSError] = []

    def write() -> None:
        for index in itertools.chain(range(PAGES), range(PAGES)):
            data = bytes([65 + index]) * PAGE_SIZE
            try:
                file.pwrite(data, index << PAGE_SHIFT)
            except OSError as error:
                errors.append(error)
            else:
                model[index << PAGE_SHIFT : (index + 1) << PAGE_SHIFT] = data

    Task(write).result()
    if cap_pages < 2 * PAGES:
        assert {error.errno for error in errors} <= {errno.ENOSPC, errno.ENOMEM}
        assert errors
    with pytest.raises(OSError, match="full"):
        file.fsync()
    with pytest.raises(UnwrittenDataError):
        cache.close()
    assert file._mapping.is_unwritten  # dirty, or on its way: the flusher tries again and again
    assert_counts_agree(cache._zone)
    ops.is_full = False
    errors.clear()
    try:
        file.fsync()
    except OSError as error:
        assert error.errno == errno.ENOSPC  # noqa: PT017 - of an attempt since the last time, if there was one
    file.fsync()
    assert ops.data == model
    assert_counts_agree(cache._zone)
    assert_nothing_left(cache._zone, settle_s=2)
    cache.close()


def test_a_full_store_of_one_file_does_not_hold_up_another_for_ever():
    """Who writes to a store that is well gets on as soon as there is room, or hears that there is none."""
    cache = PageCache(8 * PAGE_SIZE, dirty_background=0.1, dirty_limit=0.5)
    bad, bad_ops = opened(cache)
    good, good_ops = opened(cache)
    bad_ops.is_full = True
    bad.pwrite(b"x" * PAGE_SIZE, 0)

    def write() -> None:
        for index in range(PAGES):
            good.pwrite(b"y" * PAGE_SIZE, index << PAGE_SHIFT)
        good.fsync()

    Task(write).result()
    assert good_ops.data == b"y" * PAGES * PAGE_SIZE
    bad_ops.is_full = False
    Task(cache.close).result()
    assert bad_ops.data[:PAGE_SIZE] == b"x" * PAGE_SIZE


def test_a_store_that_declines_all_the_time_does_not_let_a_writer_wait_for_ever():
    """It is asked again and again; once it takes the pages, he goes on."""
    asked = threading.Event()

    class Reluctant(WritableOps):
        declines = True

        def writepages(self, wbc: WritebackControl) -> None:
            if not self.declines:
                super().writepages(wbc)
                return
            for page in wbc:
                self._decline(page, wbc)
            self.refusals += 1
            if self.refusals == 3:
                self.declines = False
                asked.set()

        def _decline(self, page: Page, wbc: WritebackControl) -> None:
            wbc.redirty(page)
            page.unlock()

        refusals = 0

    cache = PageCache(4 * PAGE_SIZE, dirty_background=0.1, dirty_limit=0.5)
    ops = Reluctant(PAGES * PAGE_SIZE)
    ops.blocking = True
    file = cache.inode(ops, size_bytes=PAGES * PAGE_SIZE).open("r+b")

    def write() -> None:
        for index in range(PAGES):
            file.pwrite(b"x" * PAGE_SIZE, index << PAGE_SHIFT)

    Task(write).result()
    assert asked.is_set()
    Task(cache.close).result()
    assert ops.data == b"x" * PAGES * PAGE_SIZE


# -- a store that writes to another file of the cache ---------------------------------------------------------------


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "inline"])
@pytest.mark.parametrize("operation", ["writepage", "set_size"])
def test_a_store_that_writes_to_another_file_while_it_stores_does_not_wait_for_what_it_stores(
    operation, blocking, debug
):
    """All that may be dirty is its own, and stays so until the operation returns: it goes beyond the limit."""
    cache = PageCache(64 * PAGE_SIZE, dirty_background=0.05, dirty_limit=PAGES / 64, debug=debug)
    under, under_ops = opened(cache, blocking=blocking)
    most_pages: list[int] = []

    def write_below(data: bytes, offset: int) -> None:
        under.pwrite(data, offset)
        most_pages.append(cache._zone.dirty.pages + cache._zone.dirty.writeback_pages)

    def store(ops: WritableOps, page: Page, wbc: WritebackControl) -> int:
        page.set_writeback()
        page.unlock()
        write_below(bytes(page.content), page.offset)
        page.end_writeback()
        return 0

    ops = WritableOps(PAGES * PAGE_SIZE, default_store=store if operation == "writepage" else stored)
    ops.blocking = blocking
    file = cache.inode(ops, size_bytes=PAGES * PAGE_SIZE).open("r+b")
    under_ops.limit_pages = PAGES * 2
    if operation == "set_size":
        file.truncate(0)
        ops.before_set_size.append(lambda _: write_below(b"x" * PAGE_SIZE, 0))

    def write() -> None:
        file.pwrite(b"x" * PAGES * PAGE_SIZE, 0)
        file.fsync()
        under.fsync()
        file.pwrite(b"y", 0)  # who writes to any file waits, at most, until there is room again

    Task(write).result()
    assert under_ops.data[:PAGE_SIZE] == b"x" * PAGE_SIZE
    assert PAGES < max(most_pages) <= 2 * PAGES
    Task(cache.close).result()
