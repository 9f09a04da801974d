"""Items 24, 25 and 28 to 36 where pages are dirty: files that become shorter, longer, or get a hole.

In Linux items 32, 33 and 36 are about memory maps.  Here a fault hands out a locked page, and a view shows the cache's
own memory: it is never taken away, and shows zeros for what was cut off, where a memory map would give SIGBUS.
"""

from __future__ import annotations

import errno
import sys

import pytest
from tests.contract.paths import FAULT, PREAD, SegmentationFaultError
from tests.contract.writing import Written, open_written

from pagein.testing.stores import completed, pattern, started
from pagein.testing.writable import WritableOps, store_failing, store_started
from pagein.units import PAGE_SHIFT, PAGE_SIZE

LAST = 3
SIZE = LAST * PAGE_SIZE + 1000
CUT = LAST * PAGE_SIZE + 100


@pytest.fixture(params=["plain", "debug", "blocking"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def written(scene, stores=None, *, pages=(LAST,), size: int = SIZE, **options) -> tuple[Written, bytearray]:
    """A file of which the first 10 bytes of *pages* were written over, and what it is then."""
    subject = open_written(scene, lambda size: WritableOps(size, stores), size_bytes=size, **options)
    expected = bytearray(pattern(0, size))
    for index in pages:
        subject.file.pwrite(b"x" * 10, index << PAGE_SHIFT)
        expected[index << PAGE_SHIFT : (index << PAGE_SHIFT) + 10] = b"x" * 10
    return subject, expected


# -- the end of the file -----------------------------------------------------------------------------------------


def test_item_24_a_dirty_page_ends_in_zeros_and_only_the_file_s_bytes_are_stored(scene):
    """A reader gets what the file has; a fault maps the page, zeros behind, and SIGBUS on the next."""
    subject, expected = written(scene)
    subject.file.pwrite(b"end", SIZE)
    expected += b"end"
    assert PREAD.read_page(subject, LAST) == expected[LAST << PAGE_SHIFT :]
    assert FAULT.read_page(subject, LAST) == expected[LAST << PAGE_SHIFT :]
    assert subject.frame(LAST) == expected[LAST << PAGE_SHIFT :] + bytes(PAGE_SIZE - 1003)
    with pytest.raises(SegmentationFaultError):
        FAULT.read_page(subject, LAST + 1)
    subject.file.fsync()
    assert subject.ops.done[0] == ("store", LAST << PAGE_SHIFT, 1003)
    subject.assert_clean(bytes(expected))


@pytest.mark.parametrize("size", [0, 100, PAGE_SIZE, CUT, SIZE, SIZE + 1, 3 * SIZE])
def test_item_24_a_file_of_every_new_size_is_stored_with_it(scene, size):
    subject, expected = written(scene, pages=[0, LAST])
    assert subject.file.truncate(size) == size
    expected = expected[:size] + bytes(max(0, size - len(expected)))
    assert subject.read_all() == expected
    subject.fsync_and_assert_clean(bytes(expected))


@pytest.mark.parametrize("new_bytes", [PAGE_SIZE, CUT, LAST * PAGE_SIZE, 0])
def test_item_25_a_file_that_is_cut_while_its_last_page_comes(scene, new_bytes):
    """The reader gets what the new size leaves, and never zeros beyond."""
    subject = open_written(scene, lambda size: WritableOps(size, script={LAST: [started]}), size_bytes=SIZE)
    reader = scene.start(subject.file.pread, PAGE_SIZE, LAST << PAGE_SHIFT)
    page = subject.ops.started_page(LAST)
    scene.until(lambda: page.waiter_count == 1)
    truncation = scene.start(subject.file.truncate, new_bytes)
    scene.until(lambda: page.waiter_count == 2)
    subject.ops.complete(LAST)
    truncation.result()
    assert reader.result() == pattern(0, new_bytes)[LAST << PAGE_SHIFT :]
    subject.fsync_and_assert_clean(pattern(0, new_bytes))


def test_item_25_the_store_hears_of_a_cut_after_the_reads_that_were_begun_before(scene):
    """Else it would have less than such a read asked for."""
    subject = open_written(scene, lambda size: WritableOps(size, script={LAST: [started]}), size_bytes=SIZE)
    reader = scene.start(subject.file.pread, PAGE_SIZE, LAST << PAGE_SHIFT)
    page = subject.ops.started_page(LAST)
    scene.until(lambda: page.waiter_count == 1)
    truncation = scene.start(subject.file.truncate, CUT)
    scene.until(lambda: page.waiter_count == 2)
    fsync = scene.start(subject.file.fsync)
    scene.until(lambda: page.waiter_count == 3 or bool(subject.ops.done))
    assert subject.ops.done == []
    subject.ops.complete(LAST)
    truncation.result()
    fsync.result()
    assert reader.result() == pattern(0, CUT)[LAST << PAGE_SHIFT :]
    subject.assert_clean(pattern(0, CUT))


def test_item_25_a_file_that_is_cut_while_a_writer_waits_for_its_last_page(scene):
    """The write is before the truncation, which waits for ``i_rwsem``: it is whole, and then cut."""
    subject = open_written(scene, lambda size: WritableOps(size, script={LAST: [started]}), size_bytes=SIZE)
    writer = scene.start(subject.file.pwrite, b"x" * 10, SIZE - 10)
    subject.ops.started_page(LAST)
    truncation = scene.start(subject.file.truncate, CUT)
    scene.until(lambda: len(subject.mapping.rwsem_waiters) == 1)
    assert subject.mapping.i_size == SIZE
    subject.ops.complete(LAST)
    assert writer.result() == 10
    truncation.result()
    subject.assert_dirty(LAST)
    subject.fsync_and_assert_clean(pattern(0, CUT))


# -- pages that are cut off ----------------------------------------------------------------------------------------


def test_item_28_a_truncation_waits_for_a_locked_dirty_page_and_then_removes_it(scene):
    subject, expected = written(scene, pages=[1, LAST])
    held = subject.mapping.lock_page(LAST)
    truncation = scene.start(subject.file.truncate, 2 * PAGE_SIZE)
    scene.until(lambda: held.waiter_count == 1)
    assert (subject.mapping.i_size, subject.dirty(), held.uptodate) == (2 * PAGE_SIZE, [1, LAST], True)
    held.unlock()
    truncation.result()
    subject.assert_dirty(1)
    subject.fsync_and_assert_clean(bytes(expected[: 2 * PAGE_SIZE]))
    assert LAST not in subject.ops.stored_pages()


@pytest.mark.parametrize("grow", ["truncate", "write"])
def test_item_29_what_was_cut_off_within_a_dirty_page_reads_as_zeros(scene, grow):
    """On every path; what stands before stays, and stays dirty."""
    subject, expected = written(scene)
    subject.file.truncate(CUT)
    subject.assert_dirty(LAST)
    if grow == "truncate":
        subject.file.truncate(SIZE)
        expected[CUT:] = bytes(SIZE - CUT)
    else:
        subject.file.pwrite(b"end", SIZE - 3)
        expected[CUT:] = bytes(SIZE - CUT - 3) + b"end"
    tail = expected[LAST << PAGE_SHIFT :]
    assert PREAD.read_page(subject, LAST) == tail
    assert FAULT.read_page(subject, LAST) == tail
    with subject.file.view(1000, LAST << PAGE_SHIFT) as view:
        assert view == tail
    subject.assert_dirty(LAST)
    subject.fsync_and_assert_clean(bytes(expected))


def test_item_29_what_was_cut_off_in_a_page_that_is_not_here_reads_as_zeros(scene):
    """Though the store still holds it: it is told the size before it is given anything."""
    subject, expected = written(scene, pages=[])
    subject.file.truncate(CUT)
    subject.file.truncate(SIZE)
    expected[CUT:] = bytes(SIZE - CUT)
    assert subject.read_all() == expected
    assert subject.ops.done == []
    subject.file.pwrite(b"x", SIZE - 1)
    expected[-1:] = b"x"
    subject.file.fsync()
    assert [operation for operation, *_ in subject.ops.done] == ["set_size", "store", "fsync"]
    subject.assert_clean(bytes(expected))


@pytest.mark.parametrize("new_bytes", [CUT, PAGE_SIZE], ids=["within", "before"])
def test_item_30_a_truncation_waits_for_the_write_back_of_what_it_cuts(scene, new_bytes):
    """The store gets what was written; it is told of the cut, and of what follows, afterwards."""
    subject, expected = written(scene, {LAST: [store_started]})
    fsync = scene.start(subject.file.fsync)
    page = subject.ops.started_store(LAST)
    truncation = scene.start(subject.file.truncate, new_bytes)
    scene.until(lambda: truncation.thread_id in scene.door.waiting and bool(subject.mapping.in_flight))
    assert subject.mapping.i_size == new_bytes
    assert bytes(page.content) == expected[LAST << PAGE_SHIFT :]
    subject.ops.complete_store(LAST)
    truncation.result()
    fsync.result()
    subject.file.pwrite(b"again", SIZE - 5)
    expected[new_bytes:] = bytes(SIZE - 5 - new_bytes) + b"again"
    assert subject.read_all() == expected
    subject.fsync_and_assert_clean(bytes(expected))


def test_item_30_a_failed_write_back_of_what_is_cut_leaves_nothing_dirty_behind_the_end(scene):
    subject, expected = written(scene, {LAST: [store_started]})
    fsync = scene.start(subject.file.fsync)
    subject.ops.started_store(LAST)
    truncation = scene.start(subject.file.truncate, PAGE_SIZE)
    scene.until(lambda: truncation.thread_id in scene.door.waiting and bool(subject.mapping.in_flight))
    subject.ops.complete_store(LAST, OSError(errno.ENOSPC, "full"))
    truncation.result()
    with pytest.raises(OSError, match="full"):
        fsync.result()
    subject.assert_dirty()
    subject.fsync_and_assert_clean(bytes(expected[:PAGE_SIZE]))


@pytest.mark.parametrize("size", [0, 1, PAGE_SIZE, 2 * PAGE_SIZE + 1])
def test_item_31_a_dirty_page_that_was_cut_off_is_never_stored(scene, size):
    subject, expected = written(scene, pages=[0, 1, 2, LAST])
    subject.file.truncate(size)
    kept = -(-size // PAGE_SIZE)
    subject.assert_dirty(*range(kept))
    assert subject.zone.dirty.pages == kept + subject.mapping.dirty_budget
    subject.fsync_and_assert_clean(bytes(expected[:size]))
    assert sorted(subject.ops.stored_pages()) == list(range(kept))


def test_item_31_nothing_that_was_never_stored_is_asked_for_or_stored(scene):
    """Pages that were appended and cut off again are the store's business at no time."""
    subject, expected = written(scene, pages=[])
    subject.file.pwrite(b"y" * 5 * PAGE_SIZE, SIZE)
    subject.file.truncate(SIZE)
    calls = len(subject.ops.calls)
    subject.assert_dirty(LAST)
    subject.file.pwrite(b"z", 6 * PAGE_SIZE)
    expected += bytes(6 * PAGE_SIZE - SIZE) + b"z"
    assert len(subject.ops.calls) == calls
    subject.fsync_and_assert_clean(bytes(expected))


# -- a store that cannot be told -----------------------------------------------------------------------------------


def refuse(error: OSError):
    def answer(ops: WritableOps) -> None:
        raise error

    return answer


def test_a_size_that_the_store_refuses_is_told_again(scene):
    """The error comes to fsync; nothing is stored before the store knows the size."""
    subject, expected = written(scene, pages=[0])
    subject.ops.before_set_size.append(refuse(OSError(errno.EIO, "not now")))
    subject.file.truncate(PAGE_SIZE)
    subject.file.pwrite(b"end", 2 * PAGE_SIZE)
    with pytest.raises(OSError, match="not now"):
        subject.file.fsync()
    assert subject.ops.done == []
    subject.assert_dirty(0, 2)
    subject.fsync_and_assert_clean(bytes(expected[:PAGE_SIZE]) + bytes(PAGE_SIZE) + b"end")


def test_a_hole_at_the_end_that_the_store_refuses_and_that_is_cut_off_again_is_owed_no_more(scene):
    """The store would be longer than the file."""
    subject, expected = written(scene, pages=[])
    subject.file.truncate(3 * SIZE)
    subject.ops.before_set_size.append(refuse(OSError(errno.EIO, "not now")))
    with pytest.raises(OSError, match="not now"):
        subject.file.fsync()
    subject.file.truncate(2 * SIZE)
    expected += bytes(SIZE)
    subject.fsync_and_assert_clean(bytes(expected))


def test_a_hole_at_the_end_that_is_cut_off_while_the_store_is_told_of_it(scene):
    subject, expected = written(scene, pages=[])
    gate = scene.gate()
    subject.file.truncate(3 * SIZE)
    subject.ops.before_set_size.append(lambda ops: gate.pass_through())
    fsync = scene.start(subject.file.fsync)
    gate.wait_for_arrivals()
    scene.start(subject.file.truncate, 2 * SIZE).result()
    gate.open()
    fsync.result()
    expected += bytes(SIZE)
    subject.fsync_and_assert_clean(bytes(expected))


def test_a_cut_that_comes_while_the_store_is_told_of_another_is_told_though_the_file_grows_again(scene):
    subject, expected = written(scene, pages=[])
    gate = scene.gate()
    subject.ops.before_set_size.append(lambda ops: gate.pass_through())
    subject.file.truncate(CUT)
    fsync = scene.start(subject.file.fsync)
    gate.wait_for_arrivals(1)
    subject.file.truncate(100)
    subject.file.truncate(SIZE)
    gate.open()
    fsync.result()
    subject.fsync_and_assert_clean(bytes(expected[:100]) + bytes(SIZE - 100))


def test_a_cut_that_comes_as_a_page_is_locked_to_be_stored_is_told_first(scene, monkeypatch):
    """Else what was cut off would be the store's still, before what was written behind it."""
    subject, expected = written(scene, pages=[2])
    lock = subject.zone.lock

    class CutFirst:
        """The zone's lock; the file is cut just before a page of it is locked."""

        def __enter__(self) -> None:
            if sys._getframe(1).f_code.co_name in ("_next_steps", "_next_here"):
                monkeypatch.undo()
                scene.start(subject.file.truncate, 100).result()
                scene.start(subject.file.pwrite, b"z" * 10, 2 * PAGE_SIZE).result()
            lock.__enter__()

        def __exit__(self, *exception: object) -> None:
            lock.__exit__(None, None, None)

    monkeypatch.setattr(subject.zone, "lock", CutFirst())
    scene.start(subject.file.fsync).result()
    subject.fsync_and_assert_clean(bytes(expected[:100]) + bytes(2 * PAGE_SIZE - 100) + b"z" * 10)
    assert ("set_size", 100, 0) in subject.ops.done


@pytest.mark.parametrize("grow", ["size", "write"])
def test_what_is_given_up_that_the_store_had_taken_as_it_failed_does_not_come_back(scene, grow):
    """The file is what the store was known to have; when it grows, the rest is cut off first."""

    def taken(ops, page, wbc):
        ops.keep(page)
        raise OSError(errno.EIO, "lost behind it")

    subject = open_written(scene, lambda size: WritableOps(size, {LAST + 1: [taken]}), size_bytes=SIZE)
    subject.file.pwrite(b"x" * PAGE_SIZE, (LAST + 1) * PAGE_SIZE)
    with pytest.raises(OSError, match="lost"):
        subject.file.fsync()
    subject.file.discard()
    assert subject.mapping.i_size == SIZE
    assert not subject.mapping.is_unwritten
    expected = pattern(0, SIZE) + bytes(3 * PAGE_SIZE)
    if grow == "size":
        subject.file.truncate(len(expected))
    else:
        subject.file.pwrite(b"end", len(expected))
        expected += b"end"
    assert subject.read_all() == expected
    subject.fsync_and_assert_clean(expected)


def test_the_size_is_told_once_while_several_wait_for_it(scene):
    subject, expected = written(scene, pages=[])
    gate = scene.gate()
    subject.file.truncate(PAGE_SIZE)
    subject.ops.before_set_size.append(lambda ops: gate.pass_through())
    tasks = [scene.start(subject.file.fsync) for _ in range(3)]
    gate.wait_for_arrivals()
    scene.until(lambda: all(task.thread_id in scene.door.waiting for task in tasks))
    gate.open()
    for task in tasks:
        task.result()
    assert [operation for operation, *_ in subject.ops.done].count("set_size") == 1
    subject.assert_clean(bytes(expected[:PAGE_SIZE]))


# -- faults and views ------------------------------------------------------------------------------------------------


def test_item_32_a_fault_that_waits_while_the_file_is_cut_looks_at_the_size_again(scene):
    subject, expected = written(scene)
    held = subject.mapping.lock_page(LAST)
    fault = scene.start(FAULT.read_page, subject, LAST)
    scene.until(lambda: held.waiter_count == 1)
    truncation = scene.start(subject.file.truncate, PAGE_SIZE)
    scene.until(lambda: held.waiter_count == 2)
    held.unlock()
    with pytest.raises(SegmentationFaultError):
        fault.result()
    truncation.result()
    subject.assert_dirty()
    subject.fsync_and_assert_clean(bytes(expected[:PAGE_SIZE]))


@pytest.mark.parametrize("pages", [[], [2, LAST]], ids=["clean", "dirty"])
def test_item_33_a_view_of_what_was_cut_off_shows_zeros_and_what_is_written_there_next(scene, pages):
    """Instead of SIGBUS.  There are no private copies that would have to go."""
    subject, expected = written(scene, pages=pages)
    with subject.file.view(1000, LAST << PAGE_SHIFT) as last, subject.file.view(PAGE_SIZE, 2 << PAGE_SHIFT) as before:
        subject.file.truncate(2 * PAGE_SIZE + 100)
        assert last == bytes(1000)
        assert before == expected[2 << PAGE_SHIFT :][:100] + bytes(PAGE_SIZE - 100)
        subject.file.truncate(SIZE)
        subject.file.pwrite(b"again", LAST << PAGE_SHIFT)
        assert last == b"again" + bytes(995)
        expected[2 * PAGE_SIZE + 100 :] = bytes(SIZE - 2 * PAGE_SIZE - 100)
        expected[LAST << PAGE_SHIFT : (LAST << PAGE_SHIFT) + 5] = b"again"
        assert subject.read_all() == expected
    subject.fsync_and_assert_clean(bytes(expected))


def test_item_33_a_view_of_a_hole_shows_zeros(scene):
    subject, expected = written(scene, pages=[1])
    with subject.file.view(2 * PAGE_SIZE, PAGE_SIZE) as view:
        subject.file.punch_hole(PAGE_SIZE, 2 * PAGE_SIZE)
        assert view == bytes(2 * PAGE_SIZE)
    expected[PAGE_SIZE : 3 * PAGE_SIZE] = bytes(2 * PAGE_SIZE)
    assert subject.read_all() == expected
    subject.fsync_and_assert_clean(bytes(expected))


# -- holes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pages", [[], [1]], ids=["clean", "dirty"])
def test_item_34_a_hole_within_a_page_zeros_only_its_range(scene, pages):
    """The page stays, and is dirty; the store is not asked for a hole."""
    subject, expected = written(scene, pages=pages)
    subject.file.punch_hole(PAGE_SIZE + 5, 100)
    expected[PAGE_SIZE + 5 : PAGE_SIZE + 105] = bytes(100)
    assert 1 in subject.uptodate()
    subject.assert_dirty(1)
    assert subject.read_all() == expected
    subject.fsync_and_assert_clean(bytes(expected))
    assert "punch_hole" not in {operation for operation, *_ in subject.ops.done}


@pytest.mark.parametrize("punches", [True, False], ids=["hole", "zeros"])
@pytest.mark.parametrize(
    ("start", "stop"), [(5, 3 * PAGE_SIZE), (PAGE_SIZE, 3 * PAGE_SIZE), (PAGE_SIZE, 3 * PAGE_SIZE + 7), (5, SIZE + 99)]
)
def test_item_34_a_hole_of_several_pages(scene, start, stop, punches):
    """Whole pages by the store, if it can; the size stays, also where the hole reaches beyond the end."""
    subject, expected = written(scene, pages=[0, 2])
    subject.ops.punches_holes = punches
    subject.file.punch_hole(start, stop - start)
    stop = min(stop, SIZE)
    expected[start:stop] = bytes(stop - start)
    assert subject.read_all() == expected
    subject.fsync_and_assert_clean(bytes(expected))
    assert punches == ("punch_hole" in {operation for operation, *_ in subject.ops.done})


def test_item_34_a_hole_that_the_store_refuses_changes_nothing(scene):
    subject, expected = written(scene, pages=[0, 2])
    subject.ops.before_punch_hole.append(refuse(OSError(errno.EIO, "not now")))
    with pytest.raises(OSError, match="not now"):
        subject.file.punch_hole(PAGE_SIZE, 2 * PAGE_SIZE)
    assert subject.read_all() == expected
    subject.fsync_and_assert_clean(bytes(expected))


def test_item_34_a_hole_over_pages_that_cannot_be_stored_is_zeros_in_the_cache(scene):
    subject, expected = written(scene, {2: [store_failing(OSError(errno.ENOSPC, "full"))]}, pages=[2])
    subject.file.punch_hole(PAGE_SIZE, 2 * PAGE_SIZE)
    expected[PAGE_SIZE : 3 * PAGE_SIZE] = bytes(2 * PAGE_SIZE)
    subject.assert_dirty(1, 2)
    with pytest.raises(OSError, match="full"):  # its error is told once
        subject.file.fsync()
    subject.fsync_and_assert_clean(bytes(expected))


@pytest.mark.parametrize("is_cut", [False, True], ids=["longer", "cut, longer"])
def test_item_34_nothing_is_stored_for_a_hole_where_the_store_has_nothing(scene, is_cut):
    """But for what is dirty there.  What it has it makes zeros."""
    subject = open_written(scene, page_count=8)
    size, dirty_index = 1000 * PAGE_SIZE, 500
    if is_cut:
        subject.file.truncate(100)
    subject.file.truncate(size)
    subject.file.pwrite(b"x" * PAGE_SIZE, dirty_index * PAGE_SIZE)
    subject.file.punch_hole(0, size)
    subject.assert_dirty(*([0] if is_cut else []), dirty_index)
    assert subject.read_all() == bytes(size)
    subject.fsync_and_assert_clean(bytes(size))
    punched = [(offset, size_bytes) for name, offset, size_bytes in subject.ops.done if name == "punch_hole"]
    assert punched == ([] if is_cut else [(0, 8 * PAGE_SIZE)])
    assert subject.ops.stored_pages() == ([0] if is_cut else []) + [dirty_index]


def test_item_34_a_hole_over_what_is_being_stored_beyond_the_end_of_the_store_is_zeros(scene):
    """Its page is not dirty at that moment."""
    subject = open_written(scene, lambda size: WritableOps(size, {12: [store_started]}), page_count=8)
    subject.file.pwrite(b"x" * PAGE_SIZE, 12 * PAGE_SIZE)
    fsync = scene.start(subject.file.fsync)
    subject.ops.started_store(12)
    punch = scene.start(subject.file.punch_hole, 8 * PAGE_SIZE, 5 * PAGE_SIZE)
    punch.result()
    subject.ops.complete_store(12)
    fsync.result()
    subject.fsync_and_assert_clean(pattern(0, 8 * PAGE_SIZE) + bytes(5 * PAGE_SIZE))


def test_item_35_a_page_that_a_reader_brings_while_the_hole_is_made_is_gone_afterwards(scene):
    subject, expected = written(scene, pages=[1])
    gate = scene.gate()
    subject.ops.before_punch_hole.append(lambda ops: gate.pass_through())
    punch = scene.start(subject.file.punch_hole, PAGE_SIZE, 2 * PAGE_SIZE)
    gate.wait_for_arrivals()
    assert subject.file.pread(PAGE_SIZE, PAGE_SIZE) == expected[PAGE_SIZE : 2 * PAGE_SIZE]
    gate.open()
    punch.result()
    expected[PAGE_SIZE : 3 * PAGE_SIZE] = bytes(2 * PAGE_SIZE)
    assert subject.read_all() == expected
    subject.fsync_and_assert_clean(bytes(expected))


def test_item_35_a_page_that_is_on_its_way_while_the_hole_is_made_is_gone_afterwards(scene):
    subject, expected = written(scene, pages=[])
    gate = scene.gate()
    subject.ops.before_punch_hole.append(lambda ops: gate.pass_through())
    punch = scene.start(subject.file.punch_hole, PAGE_SIZE, 2 * PAGE_SIZE)
    gate.wait_for_arrivals()
    subject.ops.script(1, started, completed)
    reader = scene.start(subject.file.pread, PAGE_SIZE, PAGE_SIZE)
    page = subject.ops.started_page(1)
    scene.until(lambda: page.waiter_count == 1)
    gate.open()
    scene.until(lambda: page.waiter_count == 2)
    page.buffer[:] = expected[PAGE_SIZE : 2 * PAGE_SIZE]  # as it was when it was asked for
    page.end_read()
    punch.result()
    assert reader.result() in (expected[PAGE_SIZE : 2 * PAGE_SIZE], bytes(PAGE_SIZE))
    expected[PAGE_SIZE : 3 * PAGE_SIZE] = bytes(2 * PAGE_SIZE)
    assert subject.read_all() == expected
    subject.fsync_and_assert_clean(bytes(expected))


def test_item_36_a_write_that_waits_while_its_page_is_cut_off_makes_the_file_longer_again(scene):
    """Nothing becomes dirty in a page that has left the file.  In Linux the fault of a store through a memory map is
    tried again; here the write comes after the truncation, and what lies between are zeros."""
    subject, expected = written(scene)
    held = subject.mapping.lock_page(LAST)
    truncation = scene.start(subject.file.truncate, PAGE_SIZE)
    scene.until(lambda: held.waiter_count == 1)
    writer = scene.start(subject.file.pwrite, b"end", SIZE)
    scene.until(lambda: len(subject.mapping.rwsem_waiters) == 1)
    held.unlock()
    truncation.result()
    assert writer.result() == 3
    subject.assert_dirty(LAST)
    expected[PAGE_SIZE:] = bytes(SIZE - PAGE_SIZE) + b"end"
    assert subject.read_all() == expected
    subject.fsync_and_assert_clean(bytes(expected))
