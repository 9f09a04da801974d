"""Waits for memory, for page locks and for workers, also interrupted, under hundreds of schedules each."""

from __future__ import annotations

import errno
from functools import partial
from inspect import isfunction

import pytest
from tests.mm.schedules import LOCKS, REMOVAL, Functions, evictor, may_fail_with, reader
from tests.torture.stamps import check
from tests.torture.world import FetchError, World

from pagein.mm import filemap
from pagein.mm.sync import OwnedLock
from pagein.mm.workqueue import IDLE_S, Workqueue
from pagein.mm.zone import Zone
from pagein.reader import PageReader
from pagein.testing.schedule import Scheduler
from pagein.units import PAGE_SHIFT, PAGE_SIZE

# -- memory ------------------------------------------------------------------------------------------------

WORKQUEUE: Functions = [
    function for name, function in vars(Workqueue).items() if isfunction(function) and name != "__init__"
]
ON_MAIN: Functions = [
    PageReader.pread, PageReader._pread_parts, filemap.read_parts, *WORKQUEUE, Zone.count, OwnedLock.__enter__,
    OwnedLock.__exit__,
]  # fmt: skip


@pytest.mark.schedules(80, LOCKS)
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("cap_pages", [1, 2])
def test_more_readers_than_pages_all_get_on(scheduler: Scheduler, cap_pages: int, asynchronous: bool) -> None:
    with World(scheduler, cap_pages=cap_pages, debug=True) as world:
        file, _ = world.open(pages=3, asynchronous=asynchronous)
        for index in range(3):
            scheduler.spawn(f"reader of {index}", reader(file, index=index))
        scheduler.run()
        world.assert_idle()


@pytest.mark.schedules(80, [*REMOVAL, PageReader.view, PageReader._view_parts, PageReader.pread])
@pytest.mark.parametrize("cap_pages", [1, 2])
def test_a_reader_waits_for_memory_or_hears_that_there_is_none(scheduler: Scheduler, cap_pages: int) -> None:
    def view() -> None:
        with may_fail_with(errno.ENOMEM), file.view(cap_pages * PAGE_SIZE, 0) as data:
            then = check(data, 0, 0)
            scheduler.switch("with a view open")
            assert check(data, 0, 0) == then

    def read() -> None:
        with may_fail_with(errno.ENOMEM):
            reader(file, pages=2, index=1)()

    with World(scheduler, cap_pages=cap_pages) as world:
        file, _ = world.open(pages=3)
        scheduler.spawn("viewer", view)
        scheduler.spawn("reader", read)
        scheduler.spawn("other", read)
        scheduler.run()
        reader(file, pages=3)()
        world.assert_idle()


# -- interruption --------------------------------------------------------------------------------------------


class Interrupted(BaseException):
    """What Ctrl-C, or a cancelled task, raises out of a wait."""


@pytest.mark.schedules(300, LOCKS)
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(("cap_pages", "spread"), [(8, 0), (1, 1)], ids=["one page", "one frame"])
def test_an_interrupted_wait_leaves_nothing_behind(
    scheduler: Scheduler, cap_pages: int, spread: int, asynchronous: bool
) -> None:
    """Three readers wait for a page, for its lock (a fetch fails) or for memory; one of them is interrupted, be it
    while it waits, or when it has been served and has not gone on yet."""

    def read(index: int) -> str:
        try:
            check(file.pread(PAGE_SIZE, index << PAGE_SHIFT), 0, index << PAGE_SHIFT)
        except FetchError:
            return "failed"
        except Interrupted:
            return "interrupted"
        return "read"

    with World(scheduler, cap_pages=cap_pages) as world:
        file, _ = world.open(pages=3, failures=1, asynchronous=asynchronous)
        readers = [scheduler.spawn(f"reader {at}", partial(read, at * spread)) for at in range(3)]
        scheduler.spawn("ctrl-c", lambda: scheduler.interrupt(readers[0], Interrupted()))
        scheduler.run()
        results = [task.result for task in readers]
        assert "interrupted" not in results[1:]
        assert results.count("failed") <= 1
        world.assert_idle()
        again = scheduler.spawn("again", lambda: [read(0), read(0)])
        scheduler.run()
        assert again.result[1] == "read"
        world.assert_idle()


@pytest.mark.schedules(200, ON_MAIN)
def test_ctrl_c_on_the_main_thread_leaves_nothing_and_the_fetch_goes_on_for_others(scheduler: Scheduler) -> None:
    def read() -> str:
        try:
            check(file.pread(PAGE_SIZE, 0), 0, 0)
        except Interrupted:
            return "interrupted"
        return "read"

    with World(scheduler) as world:
        file, store = world.open()
        main = scheduler.spawn("main", read, signals=True)
        other = scheduler.spawn("other", read)
        scheduler.spawn("ctrl-c", lambda: scheduler.interrupt(main, Interrupted()))
        scheduler.run()
        assert other.result == "read"
        assert store.requests == 1
        world.assert_idle()
        scheduler.spawn("main again", read, signals=True)
        scheduler.run()  # no worker has been lost


@pytest.mark.schedules(250, WORKQUEUE)
def test_ctrl_c_in_shielded_gives_back_what_the_work_returns(scheduler: Scheduler) -> None:
    """Abandon against finish: what the work took is either the caller's, or is given back."""
    workqueue = Workqueue(scheduler, "worker")
    held: list[str] = []

    def take() -> str:
        held.append("it")
        scheduler.switch("while it works")
        return "it"

    def give_back(it: str) -> None:
        held.remove(it)

    def call() -> str | None:
        try:
            return workqueue.shielded(take, undo=give_back)
        except Interrupted:
            return None

    main = scheduler.spawn("main", call, signals=True)
    scheduler.spawn("ctrl-c", lambda: scheduler.interrupt(main, Interrupted()))
    scheduler.run()
    assert held == ([main.result] if main.result else [])
    workqueue.close()


@pytest.mark.schedules(300, WORKQUEUE)
def test_no_work_is_lost_between_who_submits_it_and_workers_that_come_and_go(scheduler: Scheduler) -> None:
    """Time passes while all sleep, so idle workers give up, and others come: each call is done all the same."""
    workqueue = Workqueue(scheduler, "worker")

    def call() -> list[int]:
        done = []
        for at in range(3):
            done.append(workqueue.shielded(lambda at=at: at))  # type: ignore[misc]
            scheduler.sleep(IDLE_S)
        return done

    tasks = [scheduler.spawn(name, call, signals=True) for name in "ab"]
    scheduler.run()
    assert [task.result for task in tasks] == [[0, 1, 2]] * 2
    workqueue.close()


# -- fault ---------------------------------------------------------------------------------------------------


@pytest.mark.schedules(130, [*REMOVAL, filemap.fault])
def test_a_fault_returns_the_page_locked_and_whole(scheduler: Scheduler) -> None:
    class MmapLock:
        def __init__(self) -> None:
            self._lock = scheduler.lock()

        def acquire(self) -> None:
            self._lock.__enter__()

        def release(self) -> None:
            self._lock.__exit__(None, None, None)

    def fault() -> None:
        vmf = filemap.Fault(file._file, 0, mmap_lock, filemap.FaultFlags.ALLOW_RETRY)
        mmap_lock.acquire()
        result = filemap.fault(vmf)
        if result & filemap.FaultResult.RETRY:
            mmap_lock.acquire()
            vmf.flags = filemap.FaultFlags.TRIED
            result = filemap.fault(vmf)
        assert result & filemap.FaultResult.LOCKED
        assert vmf.page is not None
        scheduler.switch("with a page locked")
        frame = vmf.page.run.frame
        check(vmf.page.run.arena.memory[frame << PAGE_SHIFT : frame + 1 << PAGE_SHIFT], 0, 0)
        vmf.page.unlock()
        mmap_lock.release()

    with World(scheduler, debug=True) as world:
        mmap_lock = MmapLock()
        file, _ = world.open()
        scheduler.spawn("fault", fault)
        scheduler.spawn("other", fault)
        scheduler.spawn("evictor", evictor(file))
        scheduler.run()
        world.assert_idle()
