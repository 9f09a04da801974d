"""Nine meetings of two to four threads, each as small as it can be: every interleaving of their locks, waits and wakes
within a bound, and hundreds by chance with a switch before any line or instruction of what they run.

The bound is two preemptions; where threads wait so often for one another that those are too many, two departures from
"go on while you can, then the oldest"; for fsync and a page that is dirty again, two of which one is a preemption
(without that they are 7,856, and take 17 s).  `make explore` lets the bounds grow.
Not here: the larger ones, where more meets at once (test_interleavings*.py); every interleaving of the instructions of
what takes no lock (tests/torture/test_orders.py).
"""

from __future__ import annotations

import errno
from functools import partial

import pytest
from tests.mm.schedules import HIT_PATH, LOCK_FREE, REMOVAL, RESIZE, evictor, may_fail_with, reader
from tests.mm.test_interleavings_of_writes import LONG, SHORT, WRITE_BACK, Scene
from tests.torture.stamps import check
from tests.torture.world import FetchError, World

from pagein import File
from pagein.mm import truncate
from pagein.testing.schedule import Scheduler
from pagein.units import PAGE_SIZE


class Cancelled(BaseException):
    """What comes out of the wait of a task that is called off."""


def read_or_fail(file: File) -> str:
    """What came of reading the first page."""
    try:
        check(file.pread(PAGE_SIZE, 0), 0, 0)
    except FetchError:
        return "failed"
    except Cancelled:
        return "cancelled"
    return "read"


@pytest.mark.schedules(200, HIT_PATH, departures=2)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_two_readers_on_one_page(scheduler: Scheduler, asynchronous: bool) -> None:
    with World(scheduler) as world:
        file, store = world.open(asynchronous=asynchronous)
        for name in "ab":
            scheduler.spawn(name, reader(file, times=1))
        scheduler.run()
        assert store.requests == 1
        world.assert_idle()


@pytest.mark.schedules(200, LOCK_FREE + RESIZE, preemptions=2)
def test_a_reader_and_truncate(scheduler: Scheduler) -> None:
    """What is read is what was there before, or ends where the file ends now."""

    def read() -> None:
        data = file.pread(2 * PAGE_SIZE, 0)
        check(data, 0, 0)
        assert len(data) in (PAGE_SIZE // 2, PAGE_SIZE, 2 * PAGE_SIZE)

    with World(scheduler) as world:
        inode, _ = world.inode(pages=2)
        file = inode.open()
        file.pread(PAGE_SIZE, 0)
        scheduler.spawn("reader", read)
        scheduler.spawn("truncate", lambda: inode.resize(PAGE_SIZE // 2))
        scheduler.run()
        world.assert_idle()


@pytest.mark.schedules(200, LOCK_FREE, preemptions=2)
def test_a_reader_an_evictor_and_a_refill(scheduler: Scheduler) -> None:
    with World(scheduler) as world:
        file, _ = world.open()
        file.pread(PAGE_SIZE, 0)
        scheduler.spawn("reader", reader(file, times=1))
        scheduler.spawn("evictor", evictor(file, times=1))
        scheduler.spawn("refill", reader(file, times=1))
        scheduler.run()
        world.assert_idle()


@pytest.mark.schedules(200, LOCK_FREE + RESIZE, preemptions=2)
def test_a_page_that_is_to_be_looked_up_again_and_its_removal(scheduler: Scheduler) -> None:
    """AOP_TRUNCATED_PAGE: the reader comes again, be the page there, gone, or beyond the end of the file by then."""
    with World(scheduler) as world:
        inode, store = world.inode(pages=2, truncations=2)
        file = inode.open()
        file.advise("random")

        def read() -> None:
            data = file.pread(PAGE_SIZE, PAGE_SIZE)
            check(data, 0, PAGE_SIZE)
            assert len(data) in (0, PAGE_SIZE)

        scheduler.spawn("reader", read)
        scheduler.spawn("removal", lambda: inode.resize(PAGE_SIZE))
        scheduler.run()
        assert store.requests <= 3
        world.assert_idle()


@pytest.mark.schedules(200, LOCK_FREE + RESIZE, departures=2)
def test_an_asynchronous_read_that_fails_and_an_invalidation(scheduler: Scheduler) -> None:
    """The reader hears of it, or asks anew if what failed, or came, was from before the invalidation."""
    with World(scheduler) as world:
        file, store = world.open(failures=1, asynchronous=True)
        task = scheduler.spawn("reader", partial(read_or_fail, file))
        scheduler.spawn("invalidation", lambda: truncate.invalidate_inode_pages2(file._file.mapping, 0, 1))
        scheduler.run()
        assert (task.result, store.requests) in (("failed", 1), ("read", 2), ("read", 3))
        world.assert_idle()


@pytest.mark.schedules(100, SHORT + LONG + WRITE_BACK, departures=2)
def test_write_begin_and_write_back(scheduler: Scheduler) -> None:
    """A write to a part of a page that is being stored: it is stored once more, whole."""
    with Scene(scheduler, pages=1) as scene:
        scene.warm(dirty=0)
        scene.spawn(writer=lambda: scene.file._pwrite_long(b"new", 8), write_back=scene.file.fsync)
        scene.run()
        scene.settle(scene.expected((0, b"dirty"), (8, b"new")))


@pytest.mark.schedules(100, SHORT + WRITE_BACK, preemptions=1, departures=2)
def test_fsync_and_a_page_that_is_dirty_again(scheduler: Scheduler) -> None:
    """What was written before it is stored when it returns; what was written meanwhile stays dirty, or is stored."""

    def fsync() -> None:
        scene.file.fsync()
        assert scene.store.data[:5] == b"dirty"

    with Scene(scheduler, pages=1) as scene:
        scene.warm(dirty=0)
        scene.spawn(fsync=fsync, writer=lambda: scene.file.pwrite(b"again", 8))
        scene.run()
        scene.settle(scene.expected((0, b"dirty"), (8, b"again")))


@pytest.mark.schedules(200, HIT_PATH, departures=2)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_waiter_that_is_cancelled(scheduler: Scheduler, asynchronous: bool) -> None:
    """Before it is served, or when it has been and has not gone on yet: the other has the page."""
    with World(scheduler) as world:
        file, store = world.open(asynchronous=asynchronous)
        tasks = [scheduler.spawn(name, partial(read_or_fail, file)) for name in "ab"]
        scheduler.spawn("cancels", lambda: scheduler.interrupt(tasks[0], Cancelled()))
        scheduler.run()
        assert tasks[1].result == "read"
        assert store.requests <= 2
        world.assert_idle()


@pytest.mark.schedules(200, REMOVAL, preemptions=2)
def test_reclaim_under_pressure_with_pins(scheduler: Scheduler) -> None:
    """One page of memory for two: what a view shows stays, and who needs memory has it, or hears that there is none."""

    def view() -> None:
        with may_fail_with(errno.ENOMEM), file.view(PAGE_SIZE, 0) as data:
            then = check(data, 0, 0)
            scheduler.switch("with a view open")
            assert check(data, 0, 0) == then

    def read() -> None:
        with may_fail_with(errno.ENOMEM):
            reader(file, index=1, times=1)()

    with World(scheduler, cap_pages=1) as world:
        file, _ = world.open(pages=2)
        scheduler.spawn("viewer", view)
        scheduler.spawn("reader", read)
        scheduler.run()
        reader(file, times=1)()
        world.assert_idle()
