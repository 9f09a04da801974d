"""Items 39 and 41: dropping pages that are dirty, and writes that go past the cache."""

from __future__ import annotations

import errno
from functools import partial

import pytest
from tests.contract.writing import open_written

from pagein.mm import direct, truncate
from pagein.mm.page import Page
from pagein.testing.stores import pattern
from pagein.testing.writable import WritableOps, redirtied, store_failing, store_started
from pagein.units import PAGE_SIZE

SIZE = 8 * PAGE_SIZE
DATA = b"d" * 2 * PAGE_SIZE


@pytest.fixture(params=["plain", "debug", "blocking"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def with_data(offset: int, data: bytes = DATA) -> bytes:
    expected = bytearray(pattern(0, SIZE))
    expected += bytes(max(0, offset - SIZE))
    expected[offset : offset + len(data)] = data
    return bytes(expected)


def invalidate(subject, first: int, stop: int) -> None:
    with subject.mapping.i_rwsem.exclusive():
        truncate.invalidate_inode_pages2(subject.mapping, first, stop)


# -- item 39 -----------------------------------------------------------------------------------------------------


def test_item_39_a_dirty_page_is_not_dropped_and_the_others_are(scene):
    subject = open_written(scene)
    subject.read_all()
    subject.file.pwrite(b"x", 2 * PAGE_SIZE)
    with pytest.raises(OSError) as caught:
        scene.start(invalidate, subject, 0, 5).result()
    assert caught.value.errno == errno.EBUSY
    assert subject.uptodate() == [2, 5, 6, 7]
    subject.assert_dirty(2)
    subject.fsync_and_assert_clean(with_data(2 * PAGE_SIZE, b"x"))


class Laundry(WritableOps):
    def launder_page(self, page: Page) -> bool:
        self.put(bytes(page.content), page.offset)
        return True


def test_item_39_a_dirty_page_is_dropped_if_the_store_launders_it(scene):
    subject = open_written(scene, Laundry)
    subject.file.pwrite(b"x", 2 * PAGE_SIZE)
    scene.start(invalidate, subject, 0, 5).result()
    assert subject.uptodate() == []
    subject.assert_clean(with_data(2 * PAGE_SIZE, b"x"))


@pytest.mark.parametrize("offset", [SIZE, SIZE + PAGE_SIZE + 100, SIZE - 100])
def test_item_39_what_the_store_did_not_have_is_laundered_up_to_the_end_of_the_file(scene, offset):
    """It is no hole afterwards: a reader finds it in the store, before any fsync has told it a size."""
    subject = open_written(scene, Laundry)
    subject.file.pwrite(DATA, offset)
    scene.start(invalidate, subject, 0, 16).result()
    assert subject.uptodate() == []
    assert subject.read_all() == with_data(offset)
    subject.fsync_and_assert_clean(with_data(offset))


def test_item_39_a_page_is_not_laundered_before_the_store_is_told_of_a_cut(scene):
    """It would be cut off with the rest."""
    subject = open_written(scene, Laundry)
    subject.read_all()
    scene.start(subject.file.truncate, 100).result()
    subject.file.pwrite(DATA, 2 * PAGE_SIZE)
    expected = with_data(2 * PAGE_SIZE)[:100].ljust(2 * PAGE_SIZE, b"\0") + DATA
    with pytest.raises(OSError) as caught:
        scene.start(invalidate, subject, 0, 5).result()
    assert caught.value.errno == errno.EBUSY
    assert subject.ops.stored_pages() == []
    assert subject.read_all() == expected
    subject.fsync_and_assert_clean(expected)


def test_item_39_a_page_under_write_back_is_waited_for_and_dropped(scene):
    subject = open_written(scene, lambda size: WritableOps(size, {2: [store_started]}))
    subject.file.pwrite(b"x", 2 * PAGE_SIZE)
    fsync = scene.start(subject.file.fsync)
    subject.ops.started_store(2)
    task = scene.start(invalidate, subject, 0, 5)
    scene.until(lambda: task.thread_id in scene.door.waiting)
    subject.ops.complete_store(2)
    task.result()
    fsync.result()
    assert subject.uptodate() == []
    subject.assert_clean(with_data(2 * PAGE_SIZE, b"x"))


# -- item 41 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 100, 3 * PAGE_SIZE, SIZE, SIZE + 100, SIZE - 100])
@pytest.mark.parametrize("is_read", [True, False], ids=["read before", "absent"])
def test_item_41_what_was_written_directly_is_read_through_the_cache(scene, offset, is_read):
    """It is in the store when the call returns, and nothing is dirty."""
    subject = open_written(scene)
    if is_read:
        subject.read_all()
    assert subject.file.pwrite(DATA, offset, direct=True) == len(DATA)
    assert subject.ops.data == with_data(offset)
    assert subject.ops.done == [("store", offset, len(DATA))]
    subject.assert_clean(with_data(offset))


def test_item_41_what_is_dirty_around_it_is_stored_first(scene):
    subject = open_written(scene)
    subject.file.pwrite(b"x" * 3 * PAGE_SIZE, 0)
    subject.file.pwrite(b"y", 5 * PAGE_SIZE)
    subject.file.pwrite(b"d" * PAGE_SIZE, PAGE_SIZE // 2, direct=True)
    expected = bytearray(with_data(0, b"x" * 3 * PAGE_SIZE))
    expected[PAGE_SIZE // 2 : PAGE_SIZE // 2 + PAGE_SIZE] = b"d" * PAGE_SIZE
    expected[5 * PAGE_SIZE : 5 * PAGE_SIZE + 1] = b"y"
    assert subject.read_all() == expected
    subject.assert_dirty(2, 5)
    subject.fsync_and_assert_clean(bytes(expected))


def test_item_41_a_page_that_a_view_shows_is_written_through_the_cache(scene):
    """It cannot be dropped (EBUSY): the view shows what was written."""
    subject = open_written(scene)
    with subject.file.view(PAGE_SIZE, PAGE_SIZE) as view:
        assert subject.file.pwrite(DATA, PAGE_SIZE, direct=True) == len(DATA)
        assert view == DATA[:PAGE_SIZE]
    subject.assert_dirty(1, 2)
    subject.fsync_and_assert_clean(with_data(PAGE_SIZE))


def test_item_41_a_page_that_the_store_declines_is_written_through_the_cache(scene):
    """Nothing has failed: the next fsync has nothing to tell of it."""
    subject = open_written(scene, lambda size: WritableOps(size, {1: [redirtied] * 3}))
    subject.file.pwrite(b"x" * PAGE_SIZE, PAGE_SIZE)
    assert subject.file.pwrite(DATA, PAGE_SIZE, direct=True) == len(DATA)
    subject.assert_dirty(1, 2)
    subject.ops._store_rows.clear()
    subject.write_back()
    subject.assert_dirty()
    assert subject.ops.data == with_data(PAGE_SIZE)
    subject.fsync_and_assert_clean(with_data(PAGE_SIZE))


def test_item_41_a_page_that_cannot_be_stored_is_written_through_the_cache(scene):
    error = OSError(errno.ENOSPC, "full")
    subject = open_written(scene, lambda size: WritableOps(size, {1: [store_failing(error)]}))
    subject.file.pwrite(b"x" * PAGE_SIZE, PAGE_SIZE)
    assert subject.file.pwrite(DATA, PAGE_SIZE, direct=True) == len(DATA)
    subject.assert_dirty(1, 2)
    with pytest.raises(OSError, match="full"):
        subject.file.fsync()
    subject.fsync_and_assert_clean(with_data(PAGE_SIZE))


def test_item_41_a_store_that_does_not_write_past_the_cache(scene):
    class Through(WritableOps):
        def direct_write(self, data: memoryview, offset_bytes: int) -> int:
            return 0

    subject = open_written(scene, Through)
    assert subject.file.pwrite(DATA, PAGE_SIZE, direct=True) == len(DATA)
    subject.assert_dirty(1, 2)
    subject.fsync_and_assert_clean(with_data(PAGE_SIZE))


def test_item_41_a_direct_write_that_fails_reaches_its_caller(scene):
    class Full(WritableOps):
        def direct_write(self, data: memoryview, offset_bytes: int) -> int:
            raise OSError(errno.ENOSPC, "full")

    subject = open_written(scene, Full)
    subject.file.pread(PAGE_SIZE, PAGE_SIZE)
    with pytest.raises(OSError, match="full"):
        subject.file.pwrite(DATA, SIZE, direct=True)
    assert subject.mapping.i_size == SIZE
    subject.assert_clean(pattern(0, SIZE))


@pytest.mark.parametrize(
    ("grow", "behind"),
    [
        (lambda file: file.truncate(SIZE + 3 * PAGE_SIZE), bytes(3 * PAGE_SIZE)),
        (lambda file: file.pwrite(b"end", SIZE + 3 * PAGE_SIZE), bytes(3 * PAGE_SIZE) + b"end"),
        (lambda file: file.pwrite(b"end", SIZE + 3 * PAGE_SIZE, direct=True), bytes(3 * PAGE_SIZE) + b"end"),
        (lambda file: (file.pwrite(b"x", SIZE), file.truncate(SIZE + 100)), b"x" + bytes(99)),
        (lambda file: (file.pwrite(b"x", SIZE, direct=True), file.truncate(SIZE + 100)), b"x" + bytes(99)),
    ],
    ids=["size", "write", "direct write", "write before, size", "direct write before, size"],
)
def test_item_41_what_a_direct_write_leaves_beyond_the_end_as_it_fails_is_zeros_when_the_file_grows(
    scene, grow, behind
):
    """Also when it is read from the store; until then it is nobody's, and nothing is owed."""

    class Torn(WritableOps):
        failures_left = 1

        def direct_write(self, data: memoryview, offset_bytes: int) -> int:
            if not self.failures_left:
                return super().direct_write(data, offset_bytes)
            self.failures_left -= 1
            self.put(bytes(data), offset_bytes)
            raise OSError(errno.EIO, "lost behind it")

    subject = open_written(scene, Torn)
    with pytest.raises(OSError, match="lost"):
        subject.file.pwrite(DATA, SIZE, direct=True)
    assert subject.ops.data == with_data(SIZE)
    assert not subject.mapping.is_unwritten
    grow(subject.file)
    assert subject.read_all() == pattern(0, SIZE) + behind
    subject.fsync_and_assert_clean(pattern(0, SIZE) + behind)


@pytest.mark.parametrize("end", ["fsync", "close"])
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda file: None, pattern(0, SIZE)),
        (lambda file: file.pwrite(b"end", SIZE), pattern(0, SIZE) + b"end"),
        (lambda file: file.pwrite(b"x", 0), b"x" + pattern(0, SIZE)[1:]),
        (lambda file: file.pwrite(b"x", 0, direct=True), b"x" + pattern(0, SIZE)[1:]),
    ],
    ids=["nothing", "append", "write", "direct write"],
)
def test_item_41_what_a_direct_write_leaves_beyond_the_end_as_it_fails_is_cut_off_by_fsync_and_close(
    scene, change, expected, end
):
    class Torn(WritableOps):
        failures_left = 1

        def direct_write(self, data: memoryview, offset_bytes: int) -> int:
            if not self.failures_left:
                return super().direct_write(data, offset_bytes)
            self.failures_left -= 1
            self.put(bytes(data), offset_bytes)
            raise OSError(errno.EIO, "lost behind it")

    subject = open_written(scene, Torn)
    with pytest.raises(OSError, match="lost"):
        subject.file.pwrite(DATA, SIZE, direct=True)
    change(subject.file)
    getattr(subject.file, end)()
    assert subject.ops.data == expected


def test_item_41_a_reader_that_comes_meanwhile_keeps_nothing_old(scene):
    gate = scene.gate()

    class Slow(WritableOps):
        def direct_write(self, data: memoryview, offset_bytes: int) -> int:
            gate.pass_through()
            return super().direct_write(data, offset_bytes)

    subject = open_written(scene, Slow)
    writer = scene.start(lambda: subject.file.pwrite(DATA, PAGE_SIZE, direct=True))
    gate.wait_for_arrivals()
    assert subject.file.pread(PAGE_SIZE, PAGE_SIZE) == pattern(PAGE_SIZE, PAGE_SIZE)
    gate.open()
    writer.result()
    assert subject.read_all() == with_data(PAGE_SIZE)
    subject.assert_clean(with_data(PAGE_SIZE))


@pytest.mark.parametrize("size", [3 * PAGE_SIZE, SIZE + 3 * PAGE_SIZE], ids=["shorter", "longer"])
def test_a_direct_write_behind_a_new_size_is_not_cut_off(scene, size):
    subject = open_written(scene)
    subject.file.truncate(size)
    subject.file.pwrite(DATA, size, direct=True)
    expected = pattern(0, SIZE)[:size] + bytes(max(0, size - SIZE)) + DATA
    assert subject.read_all() == expected
    subject.fsync_and_assert_clean(expected)


@pytest.mark.parametrize("hole", [0, 3 * PAGE_SIZE], ids=["at the end", "behind a hole"])
@pytest.mark.parametrize("is_aligned", [True, False])
def test_a_direct_write_over_the_end_is_not_cut_off_by_an_fsync_meanwhile(scene, hole, is_aligned):
    """That tells the store where the hole ends, or what a write that failed has left is cut, while this is stored."""
    gate = scene.gate()

    class Slow(WritableOps):
        def direct_write(self, data: memoryview, offset_bytes: int) -> int:
            written = super().direct_write(data, offset_bytes)
            gate.pass_through()
            return written

    before = SIZE if is_aligned else SIZE - 100
    subject = open_written(scene, Slow, size_bytes=before)
    size = before + hole
    subject.file.truncate(size)
    writer = scene.start(lambda: subject.file.pwrite(DATA, size, direct=True))
    gate.wait_for_arrivals()
    fsync = scene.start(subject.file.fsync)
    scene.until(lambda: not fsync.running or fsync.thread_id in scene.door.waiting)
    gate.open()
    writer.result()
    fsync.result()
    expected = pattern(0, before) + bytes(hole) + DATA
    assert subject.read_all() == expected
    subject.fsync_and_assert_clean(expected)


@pytest.mark.parametrize("beyond", [0, PAGE_SIZE], ids=["within the file", "over its end"])
def test_a_direct_write_into_a_hole_is_read_and_kept_by_what_is_written_beside_it(scene, beyond):
    """What the store did not have before it has now: it is no hole, though the file was as long already."""
    subject = open_written(scene)
    offset, size = SIZE + 2 * PAGE_SIZE, SIZE + 4 * PAGE_SIZE - beyond
    subject.file.truncate(size)
    assert subject.file.pwrite(DATA, offset, direct=True) == len(DATA)
    expected = bytearray(with_data(offset))
    assert subject.read_all() == expected
    scene.start(invalidate, subject, 0, 16).result()
    subject.file.pwrite(b"beside", offset + 100)
    expected[offset + 100 : offset + 106] = b"beside"
    subject.fsync_and_assert_clean(bytes(expected))


@pytest.mark.parametrize("beyond", [0, PAGE_SIZE], ids=["within the file", "over its end"])
def test_a_reader_that_finds_a_hole_while_it_is_written_directly_keeps_no_zeros(scene, beyond):
    gate = scene.gate()

    class Slow(WritableOps):
        def direct_write(self, data: memoryview, offset_bytes: int) -> int:
            gate.pass_through()
            return super().direct_write(data, offset_bytes)

    subject = open_written(scene, Slow)
    offset = SIZE + 2 * PAGE_SIZE
    subject.file.truncate(offset + 2 * PAGE_SIZE - beyond)
    writer = scene.start(lambda: subject.file.pwrite(DATA, offset, direct=True))
    gate.wait_for_arrivals()
    assert subject.file.pread(PAGE_SIZE, offset) == bytes(PAGE_SIZE)
    gate.open()
    writer.result()
    assert subject.read_all() == with_data(offset)
    subject.fsync_and_assert_clean(with_data(offset))


def test_a_reader_that_comes_as_the_pages_of_a_direct_write_over_the_end_were_dropped_keeps_no_zeros(
    scene, monkeypatch
):
    """The first of them was a hole of the file before."""
    subject = open_written(scene)
    offset = SIZE + 2 * PAGE_SIZE
    subject.file.truncate(offset + PAGE_SIZE)
    extend, seen = truncate.extend, []

    def extend_behind_a_reader(*arguments, **keywords):
        seen.append(scene.start(subject.file.pread, PAGE_SIZE, offset).result())
        extend(*arguments, **keywords)

    monkeypatch.setattr(direct, "extend", extend_behind_a_reader)
    subject.file.pwrite(DATA, offset, direct=True)
    assert seen == [DATA[:PAGE_SIZE]]
    assert subject.read_all() == with_data(offset)
    subject.fsync_and_assert_clean(with_data(offset))


@pytest.mark.parametrize("is_shown", [False, True], ids=["dirty", "shown"])
def test_a_direct_write_behind_the_last_page_leaves_that_as_it_is(scene, is_shown):
    """What lies between is zeros, also where that page ends: nothing stale stays, and no error is told."""
    subject = open_written(scene, size_bytes=SIZE - 100)
    offset = SIZE + PAGE_SIZE
    with subject.file.view(100, SIZE - PAGE_SIZE) as shown:
        if not is_shown:
            shown.release()
        subject.file.pwrite(b"x", SIZE - PAGE_SIZE)
        assert subject.file.pwrite(DATA, offset, direct=True) == len(DATA)
    expected = bytearray(with_data(offset))
    expected[SIZE - 100 : SIZE] = bytes(100)
    expected[SIZE - PAGE_SIZE] = ord("x")
    assert subject.ops.data[offset:] == DATA
    subject.assert_dirty(7)
    assert subject.read_all() == expected
    subject.fsync_and_assert_clean(bytes(expected))


def test_a_direct_write_behind_zeros_that_a_view_shows_leaves_them_there(scene):
    """The view is of what was cut off."""
    subject = open_written(scene)
    with subject.file.view(PAGE_SIZE, 4 * PAGE_SIZE) as shown:
        subject.file.truncate(2 * PAGE_SIZE)
        subject.file.fsync()
        assert subject.file.pwrite(DATA, 6 * PAGE_SIZE, direct=True) == len(DATA)
        assert shown == bytes(PAGE_SIZE)
        subject.assert_dirty()
        expected = pattern(0, 2 * PAGE_SIZE) + bytes(4 * PAGE_SIZE) + DATA
        assert subject.read_all() == expected
    subject.fsync_and_assert_clean(expected)


@pytest.mark.parametrize("offset", [PAGE_SIZE, SIZE - PAGE_SIZE], ids=["within the file", "over its end"])
def test_what_a_view_shows_that_comes_during_a_direct_write_is_what_was_written(scene, offset):
    """Its page cannot go: what was written is written there, too."""
    views = []

    class Viewed(WritableOps):
        def direct_write(self, data: memoryview, offset_bytes: int) -> int:
            views.append(scene.start(subject.file.view, PAGE_SIZE, offset).result())
            return super().direct_write(data, offset_bytes)

    subject = open_written(scene, Viewed)
    assert subject.file.pwrite(DATA, offset, direct=True) == len(DATA)
    assert subject.read_all() == with_data(offset)
    with views[0] as shown:
        assert shown == DATA[:PAGE_SIZE]
    subject.fsync_and_assert_clean(with_data(offset))


def test_what_readers_bring_while_a_direct_write_fails_is_dropped(scene):
    """It may be from before what the store has taken."""
    readers = []

    class Torn(WritableOps):
        def direct_write(self, data: memoryview, offset_bytes: int) -> int:
            readers.append(scene.start(subject.file.pread, 2 * PAGE_SIZE, 0))
            readers[-1].join()
            self.put(bytes(data[:PAGE_SIZE]), offset_bytes)
            raise OSError(errno.EIO, "torn")

    subject = open_written(scene, Torn)
    with pytest.raises(OSError, match="torn"):
        scene.start(partial(subject.file.pwrite, DATA, 0, direct=True)).result()
    assert subject.read_all() == subject.ops.data == DATA[:PAGE_SIZE] + pattern(0, SIZE)[PAGE_SIZE:]
    assert len(readers) == 1


@pytest.mark.parametrize("refusal", [OSError(errno.EIO, "down"), NotImplementedError()], ids=["down", "unable"])
def test_a_direct_write_that_failed_keeps_no_file_and_no_cache_from_being_closed(scene, refusal):
    """Nothing of it is in the cache.  An fsync tells if what it may have left beyond the end cannot be cut off."""

    class Down(WritableOps):
        def direct_write(self, data: memoryview, offset_bytes: int) -> int:
            raise OSError(errno.EIO, "no write")

    def refuse(ops: WritableOps) -> None:
        raise refusal

    subject = open_written(scene, Down)
    subject.ops.before_set_size.extend([refuse] * 9)
    with pytest.raises(OSError, match="no write"):
        subject.file.pwrite(DATA, SIZE, direct=True)
    if isinstance(refusal, NotImplementedError):
        subject.file.fsync()
    else:
        with pytest.raises(OSError, match="down"):
            subject.file.fsync()
    assert subject.inode.unwritten_bytes is None
    subject.file.close()
    subject.cache.close()


def test_what_is_stored_behind_a_cut_that_the_store_has_not_been_told_of_is_none_of_what_it_has(scene):
    """It will go with the cut: pages there are zeros, and are not asked for."""
    mapping = open_written(scene).mapping
    with mapping.zone.lock:
        stored, mapping.size_owed = mapping.disk_size, PAGE_SIZE
        mapping.disk_size = PAGE_SIZE
        mapping.note_stored(3 * PAGE_SIZE)
        counted, mapping.size_owed = mapping.disk_size, None
        mapping.note_stored(stored)
    assert counted == PAGE_SIZE
    assert mapping.disk_size == stored
