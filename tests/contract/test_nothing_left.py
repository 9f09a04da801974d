"""Item 60: when all is over nothing is locked, waited for, pinned, reserved or charged; and the check would see it."""

from __future__ import annotations

import gc
import weakref

import pytest
from tests.contract.harness import RecordedLock, Scene, Subject
from tests.contract.paths import PREAD

from pagein import PageCache
from pagein.mm import filemap, reclaim
from pagein.mm.filemap import Fault
from pagein.mm.pin import Pin
from pagein.testing.leaks import assert_nothing_left, leaks, settle
from pagein.testing.stores import ScriptedOps, started
from pagein.units import PAGE_SIZE


@pytest.fixture(params=[False, True], ids=["plain", "debug"])
def subject(request: pytest.FixtureRequest) -> Subject:
    """Outside of `Scene`'s own check: each test leaves something behind, sees that it is seen, and puts it right."""
    return Scene(debug=request.param).open({3: [started]})


def assert_seen(subject: Subject, *words: str) -> None:
    found = "; ".join(leaks(subject.zone))
    for word in words:
        assert word in found
    with pytest.raises(AssertionError, match="left behind"):
        assert_nothing_left(subject.zone)


def test_item_60_a_locked_page_is_seen(subject):
    page = subject.mapping.lock_page(0)
    assert_seen(subject, "<Page 0+1", "locked", f"owner {page.owner}")
    page.unlock()
    subject.assert_at_rest()


def test_item_60_a_fault_that_nobody_unlocked_is_seen(subject):
    vmf = Fault(subject.open_file, 1, RecordedLock())
    filemap.fault(vmf)
    assert_seen(subject, "<Page 1+1", "uptodate=True")
    assert vmf.page is not None
    vmf.page.unlock()
    subject.assert_at_rest(1)


def test_item_60_a_read_that_was_never_ended_is_seen_with_its_waiter(subject):
    reader = subject.scene.start(PREAD.read_page, subject, 3)
    page = subject.ops.started_page(3)
    subject.scene.until(lambda: page.waiter_count == 1)
    assert_seen(subject, "<Page 3+1", "owner None", "1 waiting")
    assert not settle(subject.zone, 0.01)
    assert page.waiter_count == 1, "who settles in vain leaves the line"
    subject.ops.complete(3)
    assert reader.result() == subject.content(3)
    subject.assert_at_rest(3)


def test_item_60_a_pin_is_seen_and_one_that_nobody_has_is_none(subject):
    view = subject.file.view(1, 0)
    base = subject.mapping.base
    assert_seen(subject, f"frames {base} to {base + 1} are pinned")
    del view
    subject.assert_at_rest(0)
    pin: Pin | None = filemap.read_cache_page(subject.open_file, 1)
    assert_seen(subject, f"frames {base + 1} to {base + 2} are pinned")
    assert pin is not None
    del pin
    subject.assert_at_rest(0, 1)


def test_item_60_memory_reserved_and_not_used_is_seen(subject):
    assert reclaim.reserve(subject.zone, 5) == 5
    assert_seen(subject, "5 pages are reserved", "5 pages are charged, and 0 are in the cache")
    with subject.zone.lock:
        subject.zone.uncharge(5, reserved=True)
    subject.assert_at_rest()


def test_item_60_a_waiter_for_memory_is_seen(subject):
    waiter = subject.scene.door.waiter()
    subject.zone.memory_waiters.append(waiter)
    assert_seen(subject, "1 threads wait for memory")
    subject.zone.memory_waiters.clear()
    subject.assert_at_rest()


@pytest.mark.parametrize("by", [1, -1])
def test_item_60_a_wrong_charge_is_seen(subject, by):
    subject.file.pread(1, 0)
    subject.zone.charged_pages += by
    assert_seen(subject, f"{1 + by} pages are charged, and 1 are in the cache")
    subject.zone.charged_pages -= by
    subject.assert_at_rest(0)


def test_item_60_memory_that_is_not_charged_is_seen(subject):
    start = (subject.mapping.base + 5) * PAGE_SIZE
    assert subject.mapping.arena.memory[start] == 0  # to read a hole fills it
    assert_seen(subject, "4 KiB of memory are in use, for 0 pages")
    subject.mapping.arena.punch(subject.mapping.base + 5, 1)
    subject.assert_at_rest()


def test_item_60_a_page_in_no_queue_is_seen(subject):
    """It would never be evicted."""
    subject.file.pread(1, 0)
    subject.zone.queues.pages[1] -= 1
    assert_seen(subject, "0 pages are in the queues, and 1 in the cache")
    subject.zone.queues.pages[1] += 1
    subject.assert_at_rest(0)


@pytest.mark.parametrize("plane", ["dirty", "writeback"])
def test_item_60_a_page_that_waits_to_be_written_is_seen(subject, plane):
    subject.file.pread(1, 0)
    flags = getattr(subject.mapping.arena, plane)
    flags[subject.mapping.base] = 1
    assert_seen(subject, "dirty" if plane == "dirty" else "under writeback")
    flags[subject.mapping.base] = 0
    subject.assert_at_rest(0)


def test_item_60_a_page_that_one_list_forgot_is_seen(subject):
    page = subject.mapping.lock_page(0)
    subject.zone.locked.discard(page)
    assert_seen(subject, "not in every list")
    subject.zone.locked.add(page)
    page.unlock()
    subject.assert_at_rest()


def test_item_60_the_last_put_of_a_mapping_gives_all_of_it_back(debug):
    """The file closed, the inode gone, the cache swept: no page, no charge, no memory of frames or of flags."""
    with PageCache(64 * PAGE_SIZE, debug=debug) as cache:
        ops = ScriptedOps()
        inode = cache.inode(ops, size_bytes=32 * PAGE_SIZE)
        file = inode.open()
        assert file.read() == ops.content(0, 32 * PAGE_SIZE)
        mapping = weakref.ref(inode.mapping)
        assert cache.stats().resident_bytes == 32 * PAGE_SIZE
        file.close()
        ops.calls.clear()
        del inode, file
        gc.collect()
        stats = cache.stats()
        assert (stats.resident_bytes, stats.pinned_bytes, stats.open_files) == (0, 0, 0)
        assert cache._zone.planes_bytes() <= PAGE_SIZE, "the generations; no flag of a page that is gone"
        assert cache._zone.charged_pages == 0
        assert cache._zone.arenas[0].reserve(32) == 0, "its frames are free again"
        gc.collect()
        assert mapping() is None
        assert_nothing_left(cache._zone)


def test_item_60_a_view_outlives_its_file_and_then_the_frames_go(debug):
    """The pin keeps pages and frames of a file that is gone, until the view is; then they go at the next sweep."""
    with PageCache(64 * PAGE_SIZE, debug=debug) as cache:
        ops = ScriptedOps()
        inode = cache.inode(ops, size_bytes=32 * PAGE_SIZE)
        file = inode.open()
        view = file.view(2 * PAGE_SIZE, 4 * PAGE_SIZE)
        file.read()
        file.close()
        ops.calls.clear()
        del inode, file
        gc.collect()
        stats = cache.stats()
        assert (stats.resident_bytes, stats.pinned_bytes) == (2 * PAGE_SIZE, 2 * PAGE_SIZE)
        other = cache.inode(ScriptedOps(), size_bytes=32 * PAGE_SIZE)
        with other.open() as file:
            file.read()
        assert bytes(view) == ops.content(4 * PAGE_SIZE, 2 * PAGE_SIZE)
        view.release()
        cache.drop()
        del other
        gc.collect()
        cache.stats()
        cache.stats()
        assert cache._zone.charged_pages == 0
        assert_nothing_left(cache._zone)
