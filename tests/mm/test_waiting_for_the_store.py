"""Who waits for pages that are being stored is woken when they are, and not before: nobody goes round and round until a
slow store has answered."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator

import pytest
from tests.contract.harness import Scene, Task
from tests.contract.writing import Written, open_written, writing_cache

from pagein.mm import reclaim
from pagein.mm.flusher import Flusher
from pagein.testing.stores import started
from pagein.testing.writable import WritableOps, WritableRunOps, run_store_started
from pagein.units import PAGE_SIZE


@pytest.fixture(params=[False, True], ids=["inline", "blocking"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with Scene(debug=False, blocking=request.param) as scene:
        yield scene


@pytest.fixture
def kicks(monkeypatch: pytest.MonkeyPatch) -> list[Flusher]:
    """Each time that somebody kicks the flusher, who is not there: his turns are the test's."""
    kicked: list[Flusher] = []

    def kick(self: Flusher, **how: bool) -> None:
        kicked.append(self)

    monkeypatch.setattr(Flusher, "kick", kick)
    monkeypatch.setattr(Flusher, "start", lambda self: None)
    return kicked


def being_stored(subject: Written, page_count: int) -> Task[None]:
    """Pages of a file that another stores, until `complete_store`."""
    subject.file.pwrite(b"x" * page_count * PAGE_SIZE, 0)
    fsync = subject.scene.start(subject.file.fsync)
    subject.ops.started_store(0)
    return fsync


def open_slow(scene: Scene, **options) -> Written:
    return open_written(scene, lambda size: WritableRunOps(size, [run_store_started]), **options)


def test_a_reader_waits_for_memory_until_what_is_in_it_has_been_stored(scene, kicks):
    subject = open_slow(scene, page_count=4, cap_pages=2)
    fsync = being_stored(subject, 2)
    del kicks[:]
    reader = scene.start(subject.file.pread, PAGE_SIZE, 3 * PAGE_SIZE)
    scene.until(lambda: len(subject.zone.memory_waiters) == 1)
    subject.zone.flusher._turn(subject.zone)
    assert len(subject.zone.memory_waiters) == 1, "woken in vain"
    subject.ops.complete_store(0)
    assert reader.result() == subject.content(3)
    fsync.result()
    assert len(kicks) == 1


def test_a_reader_waits_for_memory_that_somebody_who_appends_makes_ready(scene, kicks):
    """It is clean, and may be evicted at once."""
    cache = writing_cache(scene, 2)
    appended, other = open_written(scene, size_bytes=0, cache=cache), open_written(scene, cache=cache)
    assert reclaim.try_reserve(cache._zone, 2) == 2
    reader = scene.start(other.file.pread, PAGE_SIZE, 0)
    scene.until(lambda: len(cache._zone.memory_waiters) == 1)
    assert appended.mapping.admit_zeros(0, 2) == 2
    assert reader.result() == other.content(0)


def test_a_writer_at_the_limit_waits_until_something_has_been_stored(scene, kicks):
    cache = writing_cache(scene, 64, background=0.0, limit=2 / 64)
    slow, other = open_slow(scene, cache=cache), open_written(scene, cache=cache)
    dirty = cache._zone.dirty
    fsync = being_stored(slow, 2)
    del kicks[:]
    writer = scene.start(other.file.pwrite, b"y" * PAGE_SIZE, 0)
    scene.until(lambda: len(dirty._waiters) == 1)
    cache._zone.flusher._turn(cache._zone)
    assert len(dirty._waiters) == 1, "woken in vain"
    slow.ops.complete_store(0)
    assert writer.result() == PAGE_SIZE
    fsync.result()
    other.fsync_and_assert_clean()


def waiting_for_all_leave(scene: Scene, kicks: list[Flusher]) -> tuple[Written, Written, Task[int], Task[int]]:
    """One has all the leave that there is, and waits for a slow read; another waits for leave."""
    cache = writing_cache(scene, 64, background=0.0, limit=1 / 64)
    reading = open_written(scene, lambda size: WritableOps(size, script={0: [started]}), cache=cache)
    other = open_written(scene, cache=cache)
    holder = scene.start(reading.file.pwrite, b"x", 1)
    reading.ops.started_page(0)
    del kicks[:]
    writer = scene.start(other.file.pwrite, b"y" * PAGE_SIZE, 0)
    scene.until(lambda: len(cache._zone.dirty._waiters) == 1 == len(kicks))
    flusher = cache._zone.flusher
    for _ in range(3):
        flusher._turn(cache._zone)
        assert not flusher._wait(cache._zone), "there is nothing to do for it"
    assert len(cache._zone.dirty._waiters) == 1, "woken in vain"
    assert len(kicks) == 1, "he has kicked in vain"
    return reading, other, holder, writer


def test_a_writer_waits_for_leave_until_that_of_another_has_become_dirty(scene, kicks):
    """And can be cleaned: whoever made it so kicks the flusher."""
    reading, other, holder, writer = waiting_for_all_leave(scene, kicks)
    reading.ops.complete(0)
    assert holder.result() == 1
    assert len(kicks) == 2
    reading.zone.flusher._turn(reading.zone)
    assert writer.result() == PAGE_SIZE
    for subject in (reading, other):
        subject.file.fsync()
    other.assert_clean()


def test_a_writer_waits_for_leave_until_another_has_given_it_back(scene, kicks):
    reading, other, holder, writer = waiting_for_all_leave(scene, kicks)
    reading.ops.complete(0, OSError(errno.EIO, "unreadable"))
    assert writer.result() == PAGE_SIZE
    assert getattr(holder.error(), "errno", None) == errno.EIO
    other.fsync_and_assert_clean()


def test_the_flusher_rests_while_another_stores_all_that_is_dirty(scene, kicks):
    """What was written to again meanwhile is dirty, and can be stored only when that has ended."""
    cache = writing_cache(scene, 64, background=1 / 64, limit=4 / 64)
    slow, other = open_slow(scene, cache=cache), open_written(scene, cache=cache)
    dirty, flusher = cache._zone.dirty, cache._zone.flusher
    fsync = being_stored(slow, 2)
    once_more = scene.start(slow.file.pwrite, b"y" * 2 * PAGE_SIZE, 0)
    scene.until(lambda: len(dirty._waiters) == 1)  # he is slowed down; but what is being stored may take long
    flusher._turn(cache._zone)
    assert once_more.result() == 2 * PAGE_SIZE
    writer = scene.start(other.file.pwrite, b"z" * PAGE_SIZE, 0)
    scene.until(lambda: len(dirty._waiters) == 1)
    del kicks[:]
    flusher._turn(cache._zone)
    scene.until(lambda: not flusher._busy)
    assert len(dirty._waiters) == 1, "woken in vain"
    assert not kicks
    assert not flusher._is_kicked
    slow.ops.complete_store(0)
    assert writer.result() == PAGE_SIZE
    fsync.result()
    for subject in (slow, other):
        subject.file.fsync()
    other.assert_clean()


def test_a_writer_at_the_limit_hears_why_nothing_could_be_stored(scene, kicks):
    """If nobody else's pages can be."""
    cache = writing_cache(scene, 64, background=0.0, limit=2 / 64)
    slow, other = open_slow(scene, cache=cache), open_written(scene, cache=cache)
    fsync = being_stored(slow, 2)
    writer = scene.start(other.file.pwrite, b"y" * PAGE_SIZE, 0)
    scene.until(lambda: len(cache._zone.dirty._waiters) == 1)
    slow.ops.complete_store(0, OSError(errno.ENOSPC, "full"))
    for task in (writer, fsync):
        error = task.error()
        assert isinstance(error, OSError)
        assert error.errno == errno.ENOSPC
    slow.fsync_and_assert_clean()


def test_a_writer_at_the_limit_has_it_tried_again_if_the_store_declines(scene, kicks):
    cache = writing_cache(scene, 64, background=0.0, limit=2 / 64)
    slow, other = open_slow(scene, cache=cache), open_written(scene, cache=cache)
    slow.file.pwrite(b"x" * 2 * PAGE_SIZE, 0)
    zone = cache._zone
    with zone.lock:
        assert slow.mapping.take_dirty(0, 2) == 2
        page = slow.mapping.lock_run(0, 2)
        page.owe_writeback()
        zone.dirty.writeback_began(2)
    del kicks[:]
    writer = scene.start(other.file.pwrite, b"y" * PAGE_SIZE, 0)
    scene.until(lambda: len(zone.dirty._waiters) == 1 and len(kicks) == 1)
    with zone.lock:
        page.settle_writeback(declined=True)
    page.unlock()
    scene.until(lambda: len(kicks) == 2)
    fsync = scene.start(slow.file.fsync)
    slow.ops.complete_store(0)
    assert writer.result() == PAGE_SIZE
    fsync.result()
    other.fsync_and_assert_clean()


def test_who_is_interrupted_while_he_is_slowed_down_gives_his_leave_back(scene, kicks):
    cache = writing_cache(scene, 64, background=0.0, limit=16 / 64)
    subject, dirty = open_slow(scene, cache=cache), cache._zone.dirty
    fsync = being_stored(subject, 8)
    steps = dirty.grant_steps(subject.mapping, 8, scene.door.waiter)
    next(steps)
    assert dirty.pages == 8
    with pytest.raises(KeyboardInterrupt):
        steps.throw(KeyboardInterrupt())
    assert (dirty.pages, list(dirty._waiters)) == (0, [])
    subject.ops.complete_store(0)
    fsync.result()


def test_a_writer_who_has_leave_does_not_wait_for_another_file_s_store(scene, kicks):
    """He is slowed down, and no more: that store may never answer."""
    cache = writing_cache(scene, 64, background=0.0, limit=16 / 64)
    slow, other = open_slow(scene, cache=cache), open_written(scene, cache=cache)
    fsync = being_stored(slow, 8)
    writer = scene.start(other.file.pwrite, b"y" * 8 * PAGE_SIZE, 0)
    scene.until(lambda: len(cache._zone.dirty._waiters) == 1)
    cache._zone.flusher._turn(cache._zone)
    assert writer.result() == 8 * PAGE_SIZE
    slow.ops.complete_store(0)
    fsync.result()
    other.fsync_and_assert_clean()


def test_the_flusher_goes_on_with_what_has_become_dirty_though_another_stores_something_else(scene, kicks):
    """What is stored of the same file may take for ever: its end wakes nobody who waits for other pages."""
    cache = writing_cache(scene, 64, background=0.0, limit=16 / 64)
    slow, flusher = open_slow(scene, cache=cache), cache._zone.flusher
    fsync = being_stored(slow, 2)
    slow.file.pwrite(b"y" * PAGE_SIZE, 3 * PAGE_SIZE)  # behind a pass that has found nothing more
    flusher._busy.add(slow.mapping)
    flusher._ended(cache._zone, slow.mapping, None, None)
    assert flusher._is_kicked
    slow.ops.complete_store(0)
    fsync.result()
    slow.fsync_and_assert_clean()


def test_who_kicked_while_another_could_not_start_the_flusher_tries_it_himself(scene, monkeypatch):
    """He took it for one that runs, and would wait for ever for nobody."""
    subject = open_slow(scene, cache=writing_cache(scene, 64, background=0.0, limit=2 / 64))
    dirty, waiters = subject.zone.dirty, []
    one, other = (dirty.grant_steps(subject.mapping, 1, scene.door.waiter) for _ in range(2))
    comes_by = [other]

    def refuse(name: str, run: object) -> None:
        assert name == "pagein-flush"
        if comes_by:
            waiters.append(next(comes_by.pop()))
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(scene.door, "start_thread", refuse)
    dirty.pages = 2  # somebody has all the leave that there is
    try:
        with pytest.raises(RuntimeError, match="new thread"):
            next(one)
        assert waiters[0].wait(0)
        with pytest.raises(RuntimeError, match="new thread"):
            next(other)
    finally:
        other.close()
        dirty.give_back(2)


def test_a_pass_that_cannot_be_begun_for_want_of_memory_is_told_and_tried_again_later(scene, kicks, monkeypatch):
    subject = open_written(scene, cache=writing_cache(scene, 64, background=0.0))
    zone, flusher = subject.zone, subject.zone.flusher
    subject.file.pwrite(b"x" * PAGE_SIZE, 0)
    with monkeypatch.context() as patch:
        patch.setattr(zone.workqueue, "run_detached", raising(MemoryError()))
        flusher._turn(zone)
    assert isinstance(subject.mapping.last_failure, MemoryError)
    assert set(flusher._resting) == {subject.mapping}
    subject.fsync_and_assert_clean()


def test_files_of_which_no_pass_was_begun_after_a_mistake_of_ours_do_not_count_as_busy(scene, kicks, monkeypatch):
    """The next who starts the flusher has them stored."""
    cache = writing_cache(scene, 64, background=0.0)
    subjects = [open_written(scene, cache=cache) for _ in range(2)]
    for subject in subjects:
        subject.file.pwrite(b"x" * PAGE_SIZE, 0)
    with monkeypatch.context() as patch, pytest.raises(AssertionError, match="a mistake"):
        patch.setattr(cache._zone.workqueue, "run_detached", raising(AssertionError("a mistake")))
        cache._zone.flusher._turn(cache._zone)
    assert not cache._zone.flusher._busy
    for subject in subjects:
        subject.file.fsync()


def raising(error: BaseException) -> Callable[..., None]:
    def run(*_: object) -> None:
        raise error

    return run
