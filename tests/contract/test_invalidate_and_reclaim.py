"""Items 37, 38, 40 and 42: pages that are removed by wish or for want of memory, and pages that must stay."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from tests.contract.harness import RecordedLock, Subject
from tests.contract.paths import PREAD, memory, on_every_path, on_unpinned_paths

from pagein.mm import filemap, truncate
from pagein.mm.filemap import Fault
from pagein.mm.lru import GHOST, MAIN
from pagein.testing.stores import completed_with, started
from pagein.units import PAGE_SIZE

HERE = 3


def set_flag(subject: Subject, plane: str, index: int, *, value: int = 1) -> None:
    """Dirty, or under writeback: nothing writes yet, so a test says it of a page by hand."""
    getattr(subject.mapping.arena, plane)[subject.mapping.base + index] = value


# -- invalidation that takes what it can -----------------------------------------------------------------------


def by_invalidate(subject: Subject) -> int:
    return truncate.invalidate_mapping_pages(subject.mapping, 0, 10)


def by_drop(subject: Subject) -> int:
    """Of one inode that the cache can find by its key."""
    subject.cache._inodes[subject.inode.key] = subject.inode
    return subject.cache.drop()


def by_advice(subject: Subject) -> int:
    before = len(subject.uptodate())
    subject.file.advise("dontneed")
    return before - len(subject.uptodate())


@pytest.mark.parametrize("invalidate", [by_invalidate, by_drop, by_advice])
def test_item_37_invalidation_skips_what_is_in_use_and_never_waits(scene, invalidate: Callable[[Subject], int]):
    """Locked, in flight, dirty, under writeback, pinned, faulted: they stay, uncounted; the clean ones go."""
    subject = scene.open({9: [started]}, page_count=10)
    subject.file.pread(9 * PAGE_SIZE, 0)
    locked = subject.mapping.lock_page(1)
    set_flag(subject, "dirty", 2)
    set_flag(subject, "writeback", 4)
    view = subject.file.view(PAGE_SIZE + 1, 5 * PAGE_SIZE)
    faulted = Fault(subject.open_file, 7, RecordedLock())
    filemap.fault(faulted)
    assert faulted.page is not None
    reader = scene.start(PREAD.read_page, subject, 9)
    page = subject.ops.started_page(9)
    scene.until(lambda: page.waiter_count == 1)

    assert invalidate(subject) == 3
    assert subject.uptodate() == [1, 2, 4, 5, 6, 7]
    assert sorted(subject.mapping.in_flight) == [1, 7, 9]
    assert (locked.owner, faulted.page.locked, page.waiter_count) == (scene.door.thread_id(), True, 1)
    assert bytes(view) == subject.ops.content(5 * PAGE_SIZE, PAGE_SIZE + 1)

    subject.ops.complete(9)
    assert reader.result() == subject.content(9)
    locked.unlock()
    faulted.page.unlock()
    view.release()
    set_flag(subject, "dirty", 2, value=0)
    set_flag(subject, "writeback", 4, value=0)
    assert invalidate(subject) == 7
    subject.assert_at_rest()


def test_item_37_only_whole_pages_of_the_range_go(scene):
    """ "dontneed" for bytes within pages leaves the pages at its ends, but the last page of the file is a whole one."""
    subject = scene.open(size_bytes=5 * PAGE_SIZE + 10)
    subject.file.read()
    subject.file.advise("dontneed", 1, 3 * PAGE_SIZE)
    subject.assert_at_rest(0, 3, 4, 5)
    subject.file.advise("dontneed", 4 * PAGE_SIZE + 1)
    subject.assert_at_rest(0, 3, 4)
    subject.file.advise("dontneed", 5 * PAGE_SIZE, 100)
    subject.assert_at_rest(0, 3, 4)


def test_item_37_another_files_pages_stay(scene):
    """Neighbours in the arena are not touched."""
    cache = scene.cache(64)
    one, other = scene.open(cache=cache), scene.open(cache=cache)
    one.file.read()
    other.file.read()
    assert truncate.invalidate_mapping_pages(one.mapping, 0, 10**6) == 8
    assert (one.uptodate(), other.uptodate()) == ([], list(range(8)))
    assert other.file.pread(8 * PAGE_SIZE, 0) == other.content(0, 8)
    assert len(other.ops.calls) == 8
    other.assert_at_rest(*range(8))


# -- invalidation that waits -------------------------------------------------------------------------------------


@on_unpinned_paths
def test_item_38_invalidation_waits_for_a_page_being_read_and_removes_it(scene, path):
    """The reader in flight has the old page, whole; whoever reads later has the new one."""
    subject = scene.open({HERE: [started]})
    reader = scene.start(path.read_page, subject, HERE)
    page = subject.ops.started_page(HERE)
    scene.until(lambda: page.waiter_count == 1)
    removal = scene.start(truncate.invalidate_inode_pages2, subject.mapping, 0, 8)
    scene.until(lambda: page.waiter_count == 2)
    assert (removal.running, page.locked, page.owner) == (True, True, None)
    old = subject.content(HERE)
    subject.ops.fill(page)
    subject.ops.version = 1
    page.end_read()
    removal.result()
    assert reader.result() in (old, subject.content(HERE)), "never a mixture"
    assert path.read_page(subject, HERE) == subject.content(HERE)
    subject.assert_at_rest(*range(HERE, HERE + path.page_count))


def test_item_38_a_page_that_a_view_shows_stays_and_is_reported(scene):
    """Linux leaves the holder of a reference an orphan.  Here a page's memory is its place, so it stays: EBUSY."""
    subject = scene.open()
    subject.file.read()
    with subject.file.view(PAGE_SIZE, HERE * PAGE_SIZE) as data:
        with pytest.raises(OSError) as raised:
            truncate.invalidate_inode_pages2(subject.mapping, 0, 8)
        assert raised.value.errno == errno.EBUSY
        assert subject.uptodate() == [HERE], "all others went"
        assert not subject.zone.locked
        assert bytes(data) == subject.content(HERE)
    truncate.invalidate_inode_pages2(subject.mapping, 0, 8)
    subject.assert_at_rest()


@pytest.mark.parametrize("plane", ["dirty", "writeback"])
def test_item_38_a_dirty_page_stays_and_is_reported(scene, plane):
    """Nobody writes it out yet, so nobody may throw it away."""
    subject = scene.open()
    subject.file.read()
    set_flag(subject, plane, HERE)
    with pytest.raises(OSError) as raised:
        truncate.invalidate_inode_pages2(subject.mapping, 0, 8)
    assert raised.value.errno == errno.EBUSY
    assert subject.uptodate() == [HERE]
    assert not subject.zone.locked
    set_flag(subject, plane, HERE, value=0)
    truncate.invalidate_inode_pages2(subject.mapping, 0, 8)
    subject.assert_at_rest()


@on_every_path
def test_item_40_a_reader_whose_page_was_invalidated_looks_again(scene, path):
    """Its read failed, but somebody has invalidated the page since: no error, and the window as it was."""
    subject = scene.open({HERE: [started]})
    reader = scene.start(path.read_page, subject, HERE)
    page = subject.ops.started_page(HERE)
    scene.until(lambda: page.waiter_count == 1)
    removal = scene.start(truncate.invalidate_inode_pages2, subject.mapping, HERE, HERE + 1)
    scene.until(lambda: page.waiter_count == 2)
    subject.ops.version = 1
    subject.ops.complete(HERE, OSError(errno.EIO, "of the old page"))
    assert reader.result() == subject.content(HERE)
    removal.result()
    assert len(subject.ops.calls_of(HERE)) == 2
    assert subject.open_file.ra_scale == 1
    subject.assert_at_rest(*range(HERE, HERE + path.page_count))


def test_item_40_without_an_invalidation_the_error_stands(scene):
    """One that came before the read began is none of its business."""
    error = OSError(errno.EIO, "of this page")
    subject = scene.open({HERE: [completed_with(error)]})
    truncate.invalidate_inode_pages2(subject.mapping, 0, 8)
    with pytest.raises(OSError) as raised:
        PREAD.read_page(subject, HERE)
    assert raised.value is error
    subject.assert_at_rest()


# -- reclaim -----------------------------------------------------------------------------------------------------------


def test_item_42_reclaim_takes_only_what_is_clean_and_unused(scene):
    """Under pressure: locked, in flight, dirty, under writeback and pinned pages stay, the others go."""
    subject = scene.open({0: [started]}, page_count=200, cap_pages=16)
    reader = scene.start(PREAD.read_page, subject, 0)
    page = subject.ops.started_page(0)
    scene.until(lambda: page.waiter_count == 1)
    subject.file.pread(8 * PAGE_SIZE, PAGE_SIZE)
    locked = subject.mapping.lock_page(1)
    set_flag(subject, "dirty", 2)
    set_flag(subject, "writeback", 3)
    view = subject.file.view(2 * PAGE_SIZE, 4 * PAGE_SIZE)
    busy = [1, 2, 3, 4, 5]
    for index in range(20, 200):
        other = subject.another()
        assert other.file.pread(PAGE_SIZE, index * PAGE_SIZE) == subject.content(index)
        assert subject.zone.charged_pages <= subject.zone.cap_pages
        assert subject.zone.resident_bytes() <= subject.zone.cap_pages * PAGE_SIZE
        assert [at for at in subject.uptodate() if at < 20] == busy or index < 40
    assert subject.uptodate()[:5] == busy
    assert bytes(view) == subject.content(4, 2)
    assert page.waiter_count == 1, "nobody touched the page in flight"

    subject.ops.complete(0)
    assert reader.result() == subject.content(0)
    locked.unlock()
    view.release()
    set_flag(subject, "dirty", 2, value=0)
    set_flag(subject, "writeback", 3, value=0)
    before = len(subject.ops.calls_of(1))
    for index in range(100, 200):
        subject.file.pread(PAGE_SIZE, index * PAGE_SIZE)
    assert not {1, 2, 3} & set(subject.uptodate()), "now they go like any other (4 and 5 were used twice)"
    assert subject.file.pread(PAGE_SIZE, PAGE_SIZE) == subject.content(1)
    assert len(subject.ops.calls_of(1)) == before + 1
    subject.assert_at_rest(*subject.uptodate())


def test_item_42_an_evicted_page_leaves_a_shadow(scene):
    """It is remembered for a while: coming back it is one that was used again, and goes where those stay."""
    subject = scene.open(page_count=64, cap_pages=16)
    lru, base = subject.mapping.arena.lru, subject.mapping.base
    for index in range(17):
        subject.file.pread(PAGE_SIZE, index * PAGE_SIZE)
    assert subject.uptodate()[0] == 1, "the oldest went"
    assert lru[base] == GHOST
    assert subject.cache.stats().evictions == 1
    assert subject.file.pread(PAGE_SIZE, 0) == subject.content(0)
    assert lru[base] == MAIN
    assert subject.cache.stats().refaults == 1
    subject.assert_at_rest(*subject.uptodate())


def test_item_42_a_dropped_page_leaves_none(scene):
    """Removal by wish says nothing about how a page is used."""
    subject = scene.open()
    subject.file.read()
    truncate.invalidate_mapping_pages(subject.mapping, 0, 4)
    truncate.invalidate_inode_pages2(subject.mapping, 4, 8)
    base = subject.mapping.base
    assert bytes(subject.mapping.arena.lru[base : base + 8]) == bytes(8)
    subject.file.pread(8 * PAGE_SIZE, 0)
    assert subject.cache.stats().refaults == 0
    subject.assert_at_rest(*range(8))


def test_item_42_the_cap_holds_whatever_became_of_a_page_before(scene):
    """Pages that were dropped and read again, or failed and came, stand in the queues more than once; they are evicted
    once."""
    subject = scene.open({1: [completed_with(OSError(errno.EIO, "once"))] * 3}, page_count=200, cap_pages=32)
    for _ in range(4):
        subject.file.pread(PAGE_SIZE, 0)
        subject.file.advise("dontneed", 0, PAGE_SIZE)
    for _ in range(3):
        with pytest.raises(OSError, match="once"):
            subject.file.pread(PAGE_SIZE, PAGE_SIZE)
    for index in range(32):
        assert subject.file.pread(PAGE_SIZE, index * PAGE_SIZE) == subject.content(index)
    assert len(subject.uptodate()) == subject.zone.charged_pages == 32
    assert subject.file.pread(8 * PAGE_SIZE, 100 * PAGE_SIZE) == subject.content(100, 8)
    assert len(subject.uptodate()) == subject.zone.charged_pages <= 32
    assert subject.zone.resident_bytes() <= 32 * PAGE_SIZE
    subject.assert_at_rest(*subject.uptodate())


def test_item_42_what_is_read_between_evictions_is_right(scene):
    """Every page of a file ten times the cache, forwards, backwards, and again: the right bytes within the cap."""
    subject = scene.open(page_count=160, cap_pages=16)
    start = subject.mapping.base * PAGE_SIZE
    for index in [*range(160), *reversed(range(160)), *range(0, 160, 7)]:
        assert subject.file.pread(PAGE_SIZE, index * PAGE_SIZE) == subject.content(index)
        assert memory(subject, start + index * PAGE_SIZE, start + (index + 1) * PAGE_SIZE) == subject.content(index)
    assert subject.cache.stats().evictions >= 2 * (160 - 16)
    subject.assert_at_rest(*subject.uptodate())
