"""Items 7, 26, 27, 50 to 52: writing into the cache, against reads of the same page, and what a write leaves."""

from __future__ import annotations

import errno

import pytest
from tests.contract.harness import Subject
from tests.contract.paths import memory
from tests.contract.writing import Written, open_written, writing_cache

from pagein.mm import truncate, write
from pagein.mm.arena import Arena
from pagein.mm.page import Page
from pagein.mm.sync import run_steps
from pagein.mm.writeback import WritebackControl
from pagein.testing.stores import completed, failing, pattern, started, truncated, updated
from pagein.testing.writable import WritableOps, store_started, stored_under_lock
from pagein.units import PAGE_SHIFT, PAGE_SIZE

HERE = 3
"""The page that is written to."""
SIZE = 8 * PAGE_SIZE
DATA = b"what was written"


@pytest.fixture(params=["plain", "debug", "blocking"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def with_data(offset: int, data: bytes = DATA, size: int = SIZE) -> bytes:
    """The pattern, written over."""
    expected = bytearray(pattern(0, size))
    expected += bytes(max(0, offset - size))
    expected[offset : offset + len(data)] = data
    return bytes(expected)


# -- the read inside a write ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answers", [[updated], [completed], [truncated, updated]], ids=["updated", "completed", "truncated"]
)
def test_item_07_write_begin_hands_on_the_page_that_its_read_has_brought(scene, answers):
    """Locked, Uptodate, read once, and the lock is the only thing that is held of it."""
    subject = open_written(scene, lambda size: WritableOps(size, script={HERE: answers}))
    offset = (HERE << PAGE_SHIFT) + 10

    def begin_and_end() -> None:
        run_steps(subject.mapping.i_rwsem.acquire_steps(subject.zone.door.waiter))
        page = run_steps(write.write_begin(subject.open_file, HERE, offset, offset + 10, subject.zone.door.waiter))
        calls = subject.ops.calls_of(HERE)
        assert (page.index, page.page_count, page.locked, page.uptodate) == (HERE, 1, True, True)
        assert len(calls) == len(answers)
        assert page is calls[-1].page or answers[-1] is completed, "the page that was read is the page that is written"
        page.unlock()
        subject.mapping.i_rwsem.release()

    scene.start(begin_and_end).result()
    assert subject.uptodate() == [HERE]
    subject.assert_clean(pattern(0, SIZE))


@pytest.mark.parametrize(
    "answers", [[updated], [completed], [truncated, updated]], ids=["updated", "completed", "truncated"]
)
def test_item_07_a_write_into_part_of_a_missing_page(scene, answers):
    subject = open_written(scene, lambda size: WritableOps(size, script={HERE: answers}))
    offset = (HERE << PAGE_SHIFT) + 10
    assert subject.file.pwrite(DATA, offset) == len(DATA)
    assert [call.index for call in subject.ops.calls] == [HERE] * len(answers)
    assert all(call.locked and not call.uptodate for call in subject.ops.calls)
    subject.assert_dirty(HERE)
    subject.fsync_and_assert_clean(with_data(offset))


def test_item_07_a_late_read_inside_a_write(scene):
    subject = open_written(scene, lambda size: WritableOps(size, script={HERE: [started]}))
    offset = (HERE << PAGE_SHIFT) + 10
    writer = scene.start(subject.file.pwrite, DATA, offset)
    subject.ops.started_page(HERE)
    assert subject.mapping.i_rwsem.held
    subject.ops.complete(HERE)
    assert writer.result() == len(DATA)
    subject.assert_dirty(HERE)
    subject.fsync_and_assert_clean(with_data(offset))


def test_item_07_a_read_inside_a_write_that_fails_reaches_the_writer_unchanged(scene):
    """Nothing is dirty, nothing is locked, the size is as it was; the next write reads again."""
    error = OSError(errno.ENXIO, "gone")
    subject = open_written(scene, lambda size: WritableOps(size, script={HERE: [failing(error)]}))
    offset = (HERE << PAGE_SHIFT) + 10
    with pytest.raises(OSError, match="gone") as caught:
        subject.file.pwrite(DATA, offset)
    assert caught.value.errno == errno.ENXIO
    subject.assert_clean(pattern(0, SIZE))
    subject.file.pwrite(DATA, offset)
    subject.fsync_and_assert_clean(with_data(offset))


def test_item_07_an_error_after_some_bytes_comes_after_them(scene):
    """A write of three pages whose last one, which is written in part, cannot be read, not even when the rest is tried
    again: two pages are written."""
    error = OSError(errno.EIO, "bad sector")
    subject = open_written(scene, lambda size: WritableOps(size, script={2: [failing(error), failing(error)]}))
    data = b"x" * (2 * PAGE_SIZE + 10)
    with pytest.raises(OSError, match="bad sector"):
        subject.file.pwrite(data, 0)
    subject.assert_dirty(0, 1)
    subject.fsync_and_assert_clean(with_data(0, data[: 2 * PAGE_SIZE]))


# -- a page that is being read -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "stop"), [(0, 10), (100, 200), (PAGE_SIZE - 10, PAGE_SIZE), (0, PAGE_SIZE)], ids=str)
def test_item_50_the_bytes_around_a_write_are_kept(scene, start, stop):
    """A page that is overwritten whole is not asked for at all."""
    subject = open_written(scene)
    data = b"x" * (stop - start)
    subject.file.pwrite(data, (HERE << PAGE_SHIFT) + start)
    assert len(subject.ops.calls) == (stop - start < PAGE_SIZE)
    subject.assert_dirty(HERE)
    assert subject.read_all() == with_data((HERE << PAGE_SHIFT) + start, data)
    subject.fsync_and_assert_clean(with_data((HERE << PAGE_SHIFT) + start, data))


def test_item_50_only_the_ends_of_a_long_write_are_read(scene):
    subject = open_written(scene)
    data = b"x" * (4 * PAGE_SIZE)
    subject.file.pwrite(data, PAGE_SIZE + 10)
    assert sorted(call.index for call in subject.ops.calls) == [1, 5]
    subject.assert_dirty(1, 2, 3, 4, 5)
    subject.fsync_and_assert_clean(with_data(PAGE_SIZE + 10, data))


@pytest.mark.parametrize("is_whole", [False, True], ids=["part", "whole"])
def test_item_50_a_write_waits_for_the_read_of_its_page_and_is_not_overwritten_by_it(scene, is_whole):
    subject = open_written(scene, lambda size: WritableOps(size, script={HERE: [started]}))
    offset = (HERE << PAGE_SHIFT) + 10 * (not is_whole)
    data = b"x" * (PAGE_SIZE if is_whole else 10)
    reader = scene.start(subject.file.pread, PAGE_SIZE, HERE << PAGE_SHIFT)
    page = subject.ops.started_page(HERE)
    scene.until(lambda: page.waiter_count == 1)
    writer = scene.start(subject.file.pwrite, data, offset)
    scene.until(lambda: page.waiter_count == 2)
    assert (writer.running, subject.dirty()) == (True, [])
    subject.ops.complete(HERE)
    assert writer.result() == len(data)
    assert reader.result() in (subject.content(HERE), with_data(offset, data)[HERE << PAGE_SHIFT :][:PAGE_SIZE])
    assert len(subject.ops.calls) == 1
    subject.assert_dirty(HERE)
    subject.fsync_and_assert_clean(with_data(offset, data))


def test_item_50_a_write_at_a_page_whose_read_fails_reads_it_itself(scene):
    subject = open_written(scene, lambda size: WritableOps(size, script={HERE: [started]}))
    offset = (HERE << PAGE_SHIFT) + 10
    reader = scene.start(subject.file.pread, PAGE_SIZE, HERE << PAGE_SHIFT)
    page = subject.ops.started_page(HERE)
    scene.until(lambda: page.waiter_count == 1)
    writer = scene.start(subject.file.pwrite, DATA, offset)
    scene.until(lambda: page.waiter_count == 2)
    subject.ops.complete(HERE, OSError(errno.EIO, "bad sector"))
    assert writer.result() == len(DATA)
    with pytest.raises(OSError, match="bad sector"):
        reader.result()
    assert len(subject.ops.calls) == 2
    subject.assert_dirty(HERE)
    subject.fsync_and_assert_clean(with_data(offset))


def test_item_50_a_write_beyond_what_the_store_holds_asks_it_for_nothing(scene):
    """The page that straddles the end is fetched up to there; the gap and the rest are zeros."""
    size = PAGE_SIZE + 100
    subject = open_written(scene, size_bytes=size)
    subject.file.pwrite(DATA, 4 * PAGE_SIZE + 10)
    assert subject.ops.calls == []
    expected = with_data(4 * PAGE_SIZE + 10, size=size)
    assert subject.read_all() == expected
    assert sorted(call.index for call in subject.ops.calls) == [0, 1]
    subject.assert_dirty(4)
    subject.fsync_and_assert_clean(expected)


def test_item_50_a_page_that_the_store_has_by_the_time_that_its_lock_comes_is_read(scene):
    """The store had nothing of it when the writer looked; then it was stored, and evicted, as he waited for memory."""
    gate, cache = scene.gate(), writing_cache(scene, 8)

    def gated_under_lock(ops: WritableOps, page: Page, wbc: WritebackControl) -> int:
        gate.pass_through()
        return stored_under_lock(ops, page, wbc)

    other = open_written(scene, page_count=7, cache=cache)
    subject = open_written(scene, lambda size: WritableOps(size, {0: [gated_under_lock]}), size_bytes=0, cache=cache)
    with other.file.view(7 * PAGE_SIZE, 0):
        subject.file.pwrite(b"first---", 0)
        fsync = scene.start(subject.file.fsync)
        gate.wait_for_arrivals(1)
        writer = scene.start(subject.file._pwrite_long, b"second--", 8)
        scene.until(lambda: len(subject.zone.memory_waiters) == 1)
        gate.open()
        assert writer.result() == 8
        fsync.result()
        subject.file.fsync()
    subject.assert_clean(b"first---second--")


def test_item_50_a_gap_after_a_write_that_was_interrupted_is_zeros(scene):
    """Whatever lies behind the end in the last page goes before the file becomes longer."""
    size = PAGE_SIZE + 100
    subject = open_written(scene, size_bytes=size)
    subject.file.pwrite(b"x", size - 1)
    subject.put_beyond_end(b"garbage")
    subject.file.pwrite(DATA, size + 500)
    expected = bytearray(with_data(size + 500, size=size))
    expected[size - 1] = ord("x")
    assert subject.read_all() == expected
    subject.fsync_and_assert_clean(bytes(expected))


# -- a copy that fails -------------------------------------------------------------------------------------------


def fail_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system call that copies does half of it, and fails; the next one is well."""
    write_all = Arena.write

    def write_half(arena: Arena, data: memoryview, position: int) -> None:
        monkeypatch.setattr(Arena, "write", write_all)
        write_all(arena, data[: len(data) // 2], position)
        raise OSError(errno.ENOMEM, "no memory for it")

    monkeypatch.setattr(Arena, "write", write_half)


def test_item_51_a_copy_that_fails_leaves_no_page_of_garbage(scene, monkeypatch):
    """A page that was not Uptodate is not made so: 0 bytes were accepted.  Here it is not the user's memory that can
    be missing in the midst of a copy, since a buffer is always there, but the cache's."""
    subject = open_written(scene)
    fail_once(monkeypatch)
    with pytest.raises(OSError, match="no memory for it"):
        subject.file.pwrite(bytearray(b"x" * PAGE_SIZE), HERE << PAGE_SHIFT)
    assert subject.uptodate() == []
    subject.assert_clean(pattern(0, SIZE))
    subject.file.pwrite(bytearray(b"x" * PAGE_SIZE), HERE << PAGE_SHIFT)
    subject.fsync_and_assert_clean(with_data(HERE << PAGE_SHIFT, b"x" * PAGE_SIZE))


def test_item_51_a_copy_that_fails_beyond_the_end_does_not_move_it(scene, monkeypatch):
    subject = open_written(scene)
    fail_once(monkeypatch)
    with pytest.raises(OSError, match="no memory for it"):
        subject.file.pwrite(bytearray(b"x" * 10), SIZE)
    assert subject.mapping.i_size == SIZE
    assert subject.dirty() == []
    subject.file.pwrite(bytearray(DATA), SIZE + 100)
    subject.fsync_and_assert_clean(with_data(SIZE + 100))


def test_item_51_a_copy_that_fails_in_a_page_that_is_here_keeps_the_page(scene, monkeypatch):
    """What came over is the file's now, and dirty, as after a short write."""
    subject = open_written(scene)
    subject.file.pread(PAGE_SIZE, HERE << PAGE_SHIFT)
    fail_once(monkeypatch)
    with pytest.raises(OSError, match="no memory for it"):
        subject.file.pwrite(bytearray(b"x" * 100), HERE << PAGE_SHIFT)
    subject.assert_dirty(HERE)
    subject.fsync_and_assert_clean(with_data(HERE << PAGE_SHIFT, b"x" * 50))


# -- sizes ---------------------------------------------------------------------------------------------------


def test_item_26_a_file_that_grows_while_its_last_page_is_read_shows_no_garbage(scene):
    """The old bytes, then what was written, with zeros between."""
    size = HERE * PAGE_SIZE + 100
    subject = open_written(scene, lambda size: WritableOps(size, script={HERE: [started]}), size_bytes=size)
    reader = scene.start(subject.file.pread, PAGE_SIZE, HERE << PAGE_SHIFT)
    page = subject.ops.started_page(HERE)
    scene.until(lambda: page.waiter_count == 1)
    writer = scene.start(subject.file.pwrite, DATA, size + 100)
    scene.until(lambda: page.waiter_count == 2)
    subject.ops.complete(HERE)
    writer.result()
    expected = with_data(size + 100, size=size)
    data = reader.result()
    assert data in (expected[HERE << PAGE_SHIFT :], pattern(HERE << PAGE_SHIFT, 100))
    subject.assert_dirty(HERE)
    subject.fsync_and_assert_clean(expected)


def test_item_27_a_write_that_waited_for_a_page_which_was_removed_reads_it_anew(scene):
    subject = open_written(scene)
    subject.file.pread(PAGE_SIZE, HERE << PAGE_SHIFT)
    offset = (HERE << PAGE_SHIFT) + 10
    held = subject.mapping.lock_page(HERE)
    writer = scene.start(subject.file.pwrite, bytearray(DATA), offset)
    scene.until(lambda: held.waiter_count == 1)
    assert truncate._remove_locked(held)
    subject.ops.put(b"new", HERE << PAGE_SHIFT)
    held.unlock()
    assert writer.result() == len(DATA)
    assert len(subject.ops.calls) == 2
    expected = bytearray(with_data(offset))
    expected[HERE << PAGE_SHIFT : (HERE << PAGE_SHIFT) + 3] = b"new"
    subject.assert_dirty(HERE)
    subject.fsync_and_assert_clean(bytes(expected))


def test_item_52_a_write_makes_the_file_longer_while_its_page_is_stored(scene):
    """What is stored first ends where the file did; the bytes behind it are not zeroed, and are stored next."""
    size = PAGE_SIZE + 100
    subject = open_written(scene, lambda size: WritableOps(size, {1: [store_started]}), size_bytes=size)
    subject.file.pwrite(b"x", size - 1)
    fsync = scene.start(subject.file.fsync)
    assert subject.ops.started_store(1).size_bytes == 100
    subject.file.pwrite(DATA, size)
    assert subject.mapping.i_size == size + len(DATA)
    assert subject.dirty() == [1]
    subject.ops.complete_store(1)
    fsync.result()
    assert subject.ops.done == [("store", PAGE_SIZE, 100), ("fsync", 0, 0)] or subject.dirty() == []
    expected = with_data(size, size=size)
    expected = expected[: size - 1] + b"x" + expected[size:]
    assert subject.read_all() == expected
    subject.fsync_and_assert_clean(expected)


def test_item_52_the_size_moves_when_the_bytes_are_there(scene):
    """Who waits for the page's lock finds bytes and size together."""
    subject = open_written(scene)
    held = subject.mapping.lock_page(SIZE >> PAGE_SHIFT)
    writer = scene.start(subject.file.pwrite, bytearray(DATA), SIZE)
    scene.until(lambda: held.waiter_count == 1)
    assert (subject.mapping.i_size, subject.file.pread(10, SIZE)) == (SIZE, b"")
    held.unlock()
    writer.result()
    assert subject.file.pread(100, SIZE) == DATA
    subject.fsync_and_assert_clean(with_data(SIZE))


# -- the ends of what may be written -------------------------------------------------------------------------------


def test_a_write_beyond_what_the_store_takes_is_refused_and_leaves_nothing(scene):
    def limited(size_bytes):
        ops = WritableOps(size_bytes)
        ops.object_bytes_max = SIZE + 10
        return ops

    subject = open_written(scene, limited)
    subject.file.pwrite(b"x" * 10, SIZE)
    for refused in (lambda: subject.file.pwrite(b"x" * 11, SIZE), lambda: subject.file.truncate(SIZE + 11)):
        with pytest.raises(OSError) as caught:
            refused()
        assert caught.value.errno == errno.EFBIG
    assert subject.mapping.i_size == SIZE + 10
    subject.fsync_and_assert_clean(with_data(SIZE, b"x" * 10))


def test_a_write_of_nothing_changes_nothing(scene):
    subject = open_written(scene)
    assert subject.file.pwrite(b"", SIZE + 100) == 0
    assert subject.mapping.i_size == SIZE
    subject.assert_clean(pattern(0, SIZE))


def test_a_short_write_is_seen_by_every_way_of_reading(scene):
    """The page is here and dirty already: no lock is taken, no store asked."""
    subject = open_written(scene)
    offset = (HERE << PAGE_SHIFT) + 10
    subject.file.pwrite(b"x" * PAGE_SIZE, HERE << PAGE_SHIFT)
    with subject.file.view(PAGE_SIZE, HERE << PAGE_SHIFT) as view:
        subject.file.pwrite(DATA, offset)
        assert bytes(view[10 : 10 + len(DATA)]) == DATA
    other: Subject = subject.another()
    assert other.file.pread(len(DATA), offset) == DATA
    start = (subject.mapping.base << PAGE_SHIFT) + offset
    assert memory(subject, start, start + len(DATA)) == DATA
    assert isinstance(other, Subject)
    assert not isinstance(other, Written)
    subject.assert_dirty(HERE)
    subject.fsync_and_assert_clean()
