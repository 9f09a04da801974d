"""Item 56: an error of write-back is told once to each open file, whoever made it happen, and the data stay."""

from __future__ import annotations

import errno

import pytest
from tests.contract.writing import Written, open_written

from pagein import UnwrittenDataError
from pagein.mm.writeback import Sync
from pagein.testing.stores import pattern
from pagein.testing.writable import WritableOps, redirtied, store_failed, store_failing, store_started
from pagein.units import PAGE_SIZE

FULL = OSError(errno.ENOSPC, "full")
EXPECTED = b"x" * 10 + pattern(10, 8 * PAGE_SIZE - 10)


@pytest.fixture(params=["plain", "debug", "blocking"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def written(scene, *answers) -> Written:
    """A file whose page 0 is dirty; the first times that it is stored are answered so."""
    subject = open_written(scene, lambda size: WritableOps(size, {0: list(answers)}))
    subject.file.pwrite(b"x" * 10, 0)
    return subject


def fail_in_background(subject: Written) -> None:
    """As the flusher."""
    assert subject.write_back(Sync.NONE) is not None
    subject.assert_dirty(0)


def fsyncs(file) -> str | None:
    """What fsync says."""
    try:
        file.fsync()
    except OSError as error:
        return error.strerror
    return None


@pytest.mark.parametrize("answer", [store_failing(FULL), store_failed(FULL)], ids=["raises", "ends with it"])
def test_item_56_two_files_that_were_open_before_hear_once_each(scene, answer):
    """The page stays dirty, and is stored by the first of the two that asks."""
    subject = written(scene, answer)
    with subject.inode.open("r+b") as other:
        fail_in_background(subject)
        assert [fsyncs(file) for file in (subject.file, other, subject.file, other)] == ["full", "full", None, None]
        subject.assert_clean(EXPECTED)


def test_item_56_a_file_that_was_opened_before_anybody_had_heard_hears_once(scene):
    subject = written(scene, store_failing(FULL))
    fail_in_background(subject)
    with subject.inode.open("r+b") as other:
        assert [fsyncs(file) for file in (other, other, subject.file, subject.file)] == ["full", None, "full", None]
    subject.assert_clean(EXPECTED)


def test_item_56_a_file_that_was_opened_after_somebody_had_heard_hears_nothing(scene):
    subject = written(scene, store_failing(FULL))
    fail_in_background(subject)
    assert fsyncs(subject.file) == "full"
    with subject.inode.open("r+b") as other:
        assert fsyncs(other) is None
    subject.assert_clean(EXPECTED)


def test_item_56_a_second_failure_is_told_to_all_again(scene):
    subject = written(scene, store_failing(FULL), store_failing(OSError(errno.EIO, "broken")))
    with subject.inode.open("r+b") as other:
        fail_in_background(subject)
        assert fsyncs(subject.file) == "broken", "its own write-back's, which is the last one, too"
        subject.assert_dirty(0)
        assert [fsyncs(file) for file in (other, other, subject.file)] == ["broken", None, None]
    subject.assert_clean(EXPECTED)


def test_item_56_a_failed_fsync_of_the_store_is_told_to_all(scene):
    def refuse(ops: WritableOps) -> None:
        raise FULL.with_traceback(None)

    subject = written(scene)
    subject.ops.before_fsync.append(refuse)
    with subject.inode.open("r+b") as other:
        assert [fsyncs(file) for file in (subject.file, subject.file, other, other)] == ["full", None, "full", None]
    subject.assert_clean(EXPECTED)


def test_item_56_close_tells_what_nobody_has_told(scene):
    """And keeps the data: the next who opens the file has them."""
    subject = written(scene, store_failing(FULL), store_failing(FULL))
    other = subject.inode.open("r+b")
    with pytest.raises(OSError, match="full"):
        other.close()
    assert other.closed
    subject.assert_dirty(0)
    assert [fsyncs(subject.file), fsyncs(subject.file)] == ["full", None]
    subject.assert_clean(EXPECTED)


@pytest.mark.parametrize("end", ["fsync", "close"])
def test_item_56_an_error_is_told_though_the_store_declines_when_it_is_asked_again(scene, end):
    subject = written(scene, store_failing(FULL), redirtied, redirtied)
    with subject.inode.open("r+b") as other:
        fail_in_background(subject)
        assert fsyncs(other) == "full", "and not that it is declined now"
        if end == "close":
            with pytest.raises(OSError, match="full"):
                subject.file.close()
        else:
            assert fsyncs(subject.file) == "full"
        assert [fsyncs(file) for file in (other, other)] == [None, None]
    if end == "fsync":
        subject.assert_clean(EXPECTED)


def test_item_56_each_hearer_has_an_error_of_his_own(scene):
    """With the store's errno; and the traceback of one does not grow by the other's."""
    subject = written(scene, store_failing(FULL))
    caught = []
    with subject.inode.open("r+b") as other:
        for file in (subject.file, other):
            with pytest.raises(OSError, match="full") as one:
                file.fsync()
            caught.append(one.value)
    assert caught[0] is not caught[1]
    assert [error.errno for error in caught] == [errno.ENOSPC, errno.ENOSPC]
    subject.assert_clean(EXPECTED)


def test_item_56_two_that_wait_for_one_failing_write_back_both_hear(scene):
    subject = written(scene, store_started)
    with subject.inode.open("r+b") as other:
        tasks = [scene.start(subject.file.fsync), scene.start(other.fsync)]
        subject.ops.started_store(0)
        scene.until(lambda: all(task.thread_id in scene.door.waiting for task in tasks))
        subject.ops.complete_store(0, FULL)
        for task in tasks:
            with pytest.raises(OSError, match="full"):
                task.result()
    subject.fsync_and_assert_clean(EXPECTED)


def test_a_cache_whose_data_cannot_be_stored_stays_open_and_names_them(scene):
    subject = written(scene, store_failing(FULL), store_failing(FULL))
    with pytest.raises(UnwrittenDataError, match="WritableOps"):
        scene.start(subject.cache.close).result()
    assert subject.file.pread(10, 0) == b"x" * 10
    subject.assert_dirty(0)
    assert fsyncs(subject.file) == "full"
    assert fsyncs(subject.file) is None
    subject.assert_clean(EXPECTED)
