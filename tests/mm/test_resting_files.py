"""A file rests whose store fails, or declines everything: it is not asked again and again, whoever waits; who waits for
nothing else hears at once; and a store that is well again is found within the rest.

In virtual time, which passes only where everybody sleeps: whoever goes round and round never gets there.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from tests.mm.test_interleavings_of_writes import Scene, SlowStore, on_every_kind

from pagein import File
from pagein.mm.flusher import DECLINED_REST_MAX_S, FAILED_REST_MAX_S, REST_S, Flusher
from pagein.testing.schedule import Scheduler
from pagein.units import PAGE_SIZE

FLUSHER = [Flusher._turn, Flusher._ended, Flusher._wait]


def another_file(scene: Scene, kind: str) -> tuple[File, SlowStore]:
    """One page of another store, in the same cache."""
    store = SlowStore(scene.scheduler, PAGE_SIZE, blocking=kind == "blocking", asynchronous=kind == "later")
    file = scene.cache.inode(store, size_bytes=PAGE_SIZE).open("r+b")
    file.advise("random")
    return file, store


def errno_of(run: Callable[[], object]) -> int | None:
    """Of what it raises."""
    try:
        run()
    except OSError as error:
        return error.errno
    return None


def write_pages(scene: Scene, page_count: int) -> None:
    """One by one: the second finds that too much is dirty, where it is there to be stored."""
    for index in range(page_count):
        scene.file.pwrite(b"x" * PAGE_SIZE, index * PAGE_SIZE)


def be_told(scene: Scene) -> None:
    """Of what has failed: once."""

    def fsync() -> None:
        assert errno_of(scene.file.fsync) == errno.ENOSPC

    scene.spawn(fsync=fsync)
    scene.scheduler.run()


# -- a store that declines -------------------------------------------------------------------------------------


@pytest.mark.schedules(15, FLUSHER)
@on_every_kind
def test_a_store_that_declines_everything_for_a_second_is_asked_four_times(scheduler: Scheduler, kind: str) -> None:
    """Who waits for room, and who for memory, does not have it asked again and again; and a file of a store that takes
    what it is given is not kept waiting."""

    def write() -> None:
        declining.file.pwrite(b"x" * 4 * PAGE_SIZE, 0)
        scheduler.sleep(REST_S / 2)  # the last page of room is for the other file
        declining.file.pwrite(b"y" * 2 * PAGE_SIZE, 4 * PAGE_SIZE)
        assert 1 <= scheduler.now_s() < 1 + DECLINED_REST_MAX_S

    def read() -> None:
        scheduler.sleep(0.5)
        assert len(declining.file.pread(2 * PAGE_SIZE, 6 * PAGE_SIZE)) == 2 * PAGE_SIZE

    def write_another() -> None:
        another.pwrite(b"z" * PAGE_SIZE, 0)
        another.fsync()
        assert scheduler.now_s() < 1

    with Scene(scheduler, kind, pages=8, cap_pages=6, background=0.1, limit=5 / 6) as declining:
        another, _ = another_file(declining, kind)
        declining.store.declines_until_s = 1.0
        declining.spawn(writer=write, reader=read, another=write_another)
        declining.run()
        assert declining.store.refusals <= 5, "at 0, 0.1, 0.3 and 0.7 s; one more if it was begun with half of it"
        declining.settle(declining.expected((0, b"x" * 4 * PAGE_SIZE), (4 * PAGE_SIZE, b"y" * 2 * PAGE_SIZE)))


@pytest.mark.schedules(15, FLUSHER)
@on_every_kind
def test_what_a_store_declines_is_tried_again_where_only_memory_is_short(scheduler: Scheduler, kind: str) -> None:
    """Nor is it old, nor too much: who waits for memory has sent for it, once.  Another store may not have answered."""

    def read() -> None:
        with scene.file.view(PAGE_SIZE, 6 * PAGE_SIZE):  # the last of the memory that is not dirty
            assert len(scene.file.pread(PAGE_SIZE, 7 * PAGE_SIZE)) == PAGE_SIZE
        assert 1 <= scheduler.now_s() < 1 + DECLINED_REST_MAX_S

    with Scene(scheduler, kind, pages=8, cap_pages=6, background=1.0, limit=1.0) as scene:
        another, another_store = another_file(scene, kind)
        another_store.answers_after_s = 100.0
        scene.file.pwrite(b"x" * 4 * PAGE_SIZE, 0)
        another.pwrite(b"z" * PAGE_SIZE, 0)
        scene.store.declines_until_s = 1.0
        scene.spawn(reader=read)
        scene.run()
        assert scene.store.refusals <= 4, "at 0, 0.1, 0.3 and 0.7 s"
        scene.settle(scene.expected((0, b"x" * 4 * PAGE_SIZE)))


@pytest.mark.schedules(5, FLUSHER)
def test_a_store_that_declines_for_long_is_asked_once_a_second(scheduler: Scheduler) -> None:
    with Scene(scheduler, pages=4, background=0.0) as scene:
        scene.store.declines_until_s = 20.0
        scene.file.pwrite(b"x" * PAGE_SIZE, 0)
        scene.spawn(sleeper=lambda: scheduler.sleep(20.0 + DECLINED_REST_MAX_S))
        scene.run()
        assert not scene.mapping.is_unwritten
        assert scene.store.refusals == 4 + 19, "at 0, 0.1, 0.3, 0.7 s, and from 1.5 s on each second"
        scene.settle(scene.expected((0, b"x" * PAGE_SIZE)))


# -- a store that fails ----------------------------------------------------------------------------------------


@pytest.mark.schedules(15, FLUSHER)
@on_every_kind
def test_a_store_that_fails_is_tried_again_less_and_less_often_and_found_when_it_is_well(
    scheduler: Scheduler, kind: str
) -> None:
    """Too much is dirty, and nobody writes or waits."""
    with Scene(scheduler, kind, pages=4, background=0.0) as scene:
        scene.store.fails_until_s = 12.0
        scene.file.pwrite(b"x" * 4 * PAGE_SIZE, 0)
        scene.spawn(sleeper=lambda: scheduler.sleep(12.0 + FAILED_REST_MAX_S))
        scene.run()
        assert scene.store.failures == 8, "at 0, 0.1, 0.3, 0.7, 1.5, 3.1, 6.3 and 11.3 s"
        assert not scene.mapping.is_unwritten, "found at 16.3 s"
        assert not scene.cache._zone.flusher._rests_s
        be_told(scene)
        scene.settle(scene.expected((0, b"x" * 4 * PAGE_SIZE)))


@pytest.mark.schedules(15, FLUSHER)
@on_every_kind
def test_who_waits_for_a_store_that_declines_does_not_have_one_that_fails_asked_without_end(
    scheduler: Scheduler, kind: str
) -> None:
    """He has no leave, and kicks the flusher each time that he is woken."""

    def write() -> None:
        failing.pwrite(b"z" * PAGE_SIZE, 0)
        declining.file.pwrite(b"x" * 3 * PAGE_SIZE, 0)
        declining.file.pwrite(b"y" * 2 * PAGE_SIZE, 4 * PAGE_SIZE)
        assert 2 <= scheduler.now_s() < 2 + DECLINED_REST_MAX_S
        assert failing_store.failures <= 5, "at 0, 0.1, 0.3, 0.7 and 1.5 s"

    with Scene(scheduler, kind, pages=8, cap_pages=16, background=0.1, limit=4 / 16) as declining:
        failing, failing_store = another_file(declining, kind)
        declining.store.declines_until_s = 2.0
        failing_store.fails_until_s = 20.0
        declining.spawn(writer=write)
        declining.run()
        declining.settle(declining.expected((0, b"x" * 3 * PAGE_SIZE), (4 * PAGE_SIZE, b"y" * 2 * PAGE_SIZE)))


@pytest.mark.schedules(15, FLUSHER)
@on_every_kind
def test_who_finds_nothing_but_what_has_failed_has_it_tried_again_at_once(scheduler: Scheduler, kind: str) -> None:
    """And so hears why within the time that the store takes, or goes on; he need not wait until the file has rested."""

    def write() -> None:
        scheduler.sleep(4.0)  # it rests until 6.3 s
        failures = scene.store.failures
        assert errno_of(lambda: another.pwrite(b"z", 0)) == errno.ENOSPC
        assert errno_of(lambda: scene.file.pread(PAGE_SIZE, 5 * PAGE_SIZE)) == errno.ENOMEM
        assert scene.store.failures == failures + 2
        scene.store.fails_until_s = 0.0
        assert another.pwrite(b"z", 0) == 1
        assert scheduler.now_s() == 4.0

    with Scene(scheduler, kind, pages=8, cap_pages=4, background=0.0, limit=1.0) as scene:
        another, _ = another_file(scene, kind)
        scene.store.fails_until_s = 100.0
        scene.spawn(first=lambda: write_pages(scene, 4), another=write)
        scene.run()
        be_told(scene)
        scene.settle(scene.expected((0, b"x" * 4 * PAGE_SIZE)))


@pytest.mark.schedules(15, FLUSHER)
@on_every_kind
def test_a_file_of_which_an_fsync_has_stored_something_rests_no_more(scheduler: Scheduler, kind: str) -> None:
    """Who waits for room would wait for nothing."""

    def write() -> None:
        scheduler.sleep(4.0)  # it rests until 6.3 s
        scene.store.fails_until_s = 0.0
        assert errno_of(scene.file.fsync) == errno.ENOSPC, "told once"
        scene.file.pwrite(b"y" * 6 * PAGE_SIZE, 0)
        assert scheduler.now_s() == 4.0

    with Scene(scheduler, kind, pages=8, cap_pages=16, background=0.0, limit=4 / 16) as scene:
        scene.store.fails_until_s = 100.0
        scene.spawn(first=lambda: write_pages(scene, 2), writer=write)
        scene.run()
        scene.settle(scene.expected((0, b"y" * 6 * PAGE_SIZE)))


@pytest.mark.schedules(15, FLUSHER)
@on_every_kind
def test_who_has_leave_does_not_wait_until_a_file_has_rested(scheduler: Scheduler, kind: str) -> None:
    """Nothing of it is being cleaned."""

    def write() -> None:
        scheduler.sleep(4.0)  # it rests until 6.3 s
        scene.file.pwrite(b"y" * 3 * PAGE_SIZE, 5 * PAGE_SIZE)
        assert scheduler.now_s() == 4.0

    with Scene(scheduler, kind, pages=8, cap_pages=16, background=0.0, limit=10 / 16) as scene:
        scene.store.fails_until_s = 5.0
        scene.spawn(first=lambda: write_pages(scene, 5), writer=write)
        scene.run()
        be_told(scene)
        scene.settle(scene.expected((0, b"x" * 5 * PAGE_SIZE), (5 * PAGE_SIZE, b"y" * 3 * PAGE_SIZE)))


@pytest.mark.schedules(15, FLUSHER)
@on_every_kind
def test_a_reader_waits_for_what_may_be_cleaned_though_another_file_s_store_fails(
    scheduler: Scheduler, kind: str
) -> None:
    """ENOMEM is for who finds nothing else."""

    def read() -> None:
        with scene.file.view(2 * PAGE_SIZE, 6 * PAGE_SIZE):  # the last of the memory that is not dirty
            assert len(scene.file.pread(PAGE_SIZE, 5 * PAGE_SIZE)) == PAGE_SIZE
        assert failing_store.failures <= 4, "at 0, 0.1, 0.3 and 0.7 s"
        assert scheduler.now_s() == 1

    with Scene(scheduler, kind, pages=8, cap_pages=6, background=1.0, limit=1.0) as scene:
        failing, failing_store = another_file(scene, kind)
        failing_store.fails_until_s = 20.0
        failing.pwrite(b"z" * PAGE_SIZE, 0)
        scene.file.pwrite(b"x" * 3 * PAGE_SIZE, 0)
        scene.store.answers_after_s = 1.0
        scene.spawn(reader=read)
        scene.run()
        scene.settle(scene.expected((0, b"x" * 3 * PAGE_SIZE)))


@pytest.mark.schedules(15, FLUSHER)
@on_every_kind
def test_who_waits_for_memory_is_served_as_soon_as_a_file_that_has_failed_and_rested_is_well(
    scheduler: Scheduler, kind: str
) -> None:
    """Nor is it old, nor too much; and another store, which does not answer, is what he has not given up for."""

    def read() -> None:
        with scene.file.view(PAGE_SIZE, 6 * PAGE_SIZE):  # the last of the memory that is not dirty
            assert len(scene.file.pread(PAGE_SIZE, 7 * PAGE_SIZE)) == PAGE_SIZE
        assert 0.5 <= scheduler.now_s() < 1

    with Scene(scheduler, kind, pages=8, cap_pages=6, background=1.0, limit=1.0) as scene:
        another, another_store = another_file(scene, kind)
        another_store.answers_after_s = 100.0
        scene.file.pwrite(b"x" * 4 * PAGE_SIZE, 0)
        another.pwrite(b"z" * PAGE_SIZE, 0)
        scene.store.fails_until_s = 0.5
        scene.spawn(reader=read)
        scene.run()
        assert scene.store.failures <= 3, "at 0, 0.1 and 0.3 s"
        be_told(scene)
        scene.settle(scene.expected((0, b"x" * 4 * PAGE_SIZE)))


# -- the end ---------------------------------------------------------------------------------------------------


@pytest.mark.schedules(15, FLUSHER)
@pytest.mark.parametrize("is_well", ["declines_until_s", "fails_until_s"])
@on_every_kind
def test_a_cache_that_is_closed_while_a_file_rests_keeps_nothing_of_it(
    scheduler: Scheduler, kind: str, is_well: str
) -> None:
    """Its zone would refer to it, and it to the zone: the memory would stay until the garbage collector comes."""

    def write() -> None:
        write_pages(scene, 2)
        scheduler.sleep(2 * REST_S)
        assert flusher._resting
        scene.cache.close(discard=True)

    scene = Scene(scheduler, kind, pages=4, background=0.0)
    flusher = scene.cache._zone.flusher
    setattr(scene.store, is_well, 100.0)
    scene.spawn(writer=write)
    scheduler.run()
    assert (flusher._busy, flusher._resting, flusher._rests_s) == (set(), {}, {})
