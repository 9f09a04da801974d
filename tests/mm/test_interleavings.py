"""Readers of missing pages, and the lock-free hit path against eviction and refill, under hundreds of schedules each.

The scheduler switches between any two instructions of the hit path and of removal.  Every fetch of a page brings a
stamp of its own, so that a page that is mixed, stale, zeros or another's is told from a right one.  A failure says
which seed repeats it.  That these tests would notice a wrong order: tests/torture/test_orders.py.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from tests.mm.schedules import LOCK_FREE, LOCKS, evictor, reader
from tests.torture.stamps import STAMP_BYTES, check
from tests.torture.world import FetchError, World

from pagein.mm.arena import REGION_PAGES
from pagein.mm.page import Page
from pagein.testing.schedule import Scheduler
from pagein.units import PAGE_SIZE

# -- a miss ------------------------------------------------------------------------------------------------


@pytest.mark.schedules(100, LOCKS)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_readers_of_one_missing_page_cause_one_fetch(scheduler: Scheduler, asynchronous: bool) -> None:
    with World(scheduler, debug=True) as world:
        file, store = world.open(asynchronous=asynchronous)
        for name in "abc":
            scheduler.spawn(name, reader(file))
        scheduler.run()
        assert store.requests == 1
        world.assert_idle()


@pytest.mark.schedules(100, LOCKS)
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("failures", [1, 2])
def test_an_error_comes_to_the_reader_whose_fetch_it_was(
    scheduler: Scheduler, failures: int, asynchronous: bool
) -> None:
    def read() -> FetchError | None:
        try:
            check(file.pread(PAGE_SIZE, 0), 0, 0)
        except FetchError as error:
            return error
        return None

    with World(scheduler, debug=True) as world:
        file, store = world.open(failures=failures, asynchronous=asynchronous)
        tasks = [scheduler.spawn(name, read) for name in "abc"]
        scheduler.run()
        failed = [task for task in tasks if task.result]
        assert [task.result.thread_id for task in failed] == [task.thread_id for task in failed]
        assert len(failed) == failures
        assert store.requests == failures + 1
        world.assert_idle()


@pytest.mark.schedules(80, LOCKS)
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("failures", [0, 2])
def test_readers_of_a_run_that_comes_in_parts(scheduler: Scheduler, failures: int, asynchronous: bool) -> None:
    """A part that fails is asked for again by whoever needs it, page by page."""

    def read(index: int) -> None:
        try:
            reader(file, pages=4 - index, index=index, times=1)()
        except FetchError as error:
            assert error.thread_id == scheduler.thread_id()  # noqa: PT017 - it may not come at all

    with World(scheduler, debug=True) as world:
        file, _ = world.open(pages=4, run_pages=2, failures=failures, asynchronous=asynchronous)
        for index in range(3):
            scheduler.spawn(f"from {index}", partial(read, index))
        scheduler.run()
        world.assert_idle()
        for again in (partial(read, 0), reader(file, pages=4)):  # at the latest now, nothing fails any more
            scheduler.spawn("again", again)
            scheduler.run()
        world.assert_idle()


@pytest.mark.schedules(60, LOCKS)
def test_readers_of_a_page_that_has_to_be_looked_up_again(scheduler: Scheduler) -> None:
    """AOP_TRUNCATED_PAGE, more often than a reader has patience: time passes, and all get on."""
    with World(scheduler, debug=True) as world:
        file, store = world.open(truncations=15)
        for name in "abc":
            scheduler.spawn(name, reader(file))
        scheduler.run()
        assert store.requests == 15 + 1
        world.assert_idle()


@pytest.mark.schedules(100, LOCKS)
def test_a_page_lock_is_served_in_the_order_of_arrival(scheduler: Scheduler) -> None:
    join = Page.join
    arrived: list[int] = []
    served: list[int] = []

    def noted_join(*args: Any, **kwargs: Any) -> Any:
        arrived.append(scheduler.thread_id())
        return join(*args, **kwargs)

    def lock() -> None:
        page = mapping.lock_page(0)
        if scheduler.thread_id() in arrived:
            served.append(scheduler.thread_id())
        scheduler.switch("with a page locked")
        page.unlock()

    with World(scheduler, debug=True) as world, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Page, "join", noted_join)
        file, _ = world.open()
        mapping = file._file.mapping
        file.pread(PAGE_SIZE, 0)
        for name in "abcd":
            scheduler.spawn(name, lock)
        scheduler.run()
        assert served == arrived
        world.assert_idle()


# -- a hit, against eviction and refill ------------------------------------------------------------------------


@pytest.mark.schedules(200, LOCK_FREE)
@pytest.mark.parametrize("pages", [1, 2])
def test_pread(scheduler: Scheduler, pages: int) -> None:
    with World(scheduler) as world:
        file, _ = world.open(pages=pages)
        file.pread(pages * PAGE_SIZE, 0)
        scheduler.spawn("reader", reader(file, pages=pages))
        scheduler.spawn("refiller", reader(file, pages=pages, times=1))
        scheduler.spawn("evictor", evictor(file))
        scheduler.run()
        world.assert_idle()


@pytest.mark.schedules(130, LOCK_FREE)
def test_pread_across_two_regions(scheduler: Scheduler) -> None:
    with World(scheduler) as world:
        file, _ = world.open(pages=REGION_PAGES + 2)
        read = reader(file, pages=2, index=REGION_PAGES - 1)
        read()
        scheduler.spawn("reader", read)
        scheduler.spawn("evictor", evictor(file))
        scheduler.run()
        world.assert_idle()


@pytest.mark.schedules(130, LOCK_FREE)
def test_preadinto(scheduler: Scheduler) -> None:
    def read() -> None:
        buffer = bytearray(2 * PAGE_SIZE)
        for _ in range(2):
            assert file.preadinto(buffer, 0) == len(buffer)
            check(buffer, 0, 0)

    with World(scheduler) as world:
        file, _ = world.open(pages=2)
        read()
        scheduler.spawn("reader", read)
        scheduler.spawn("evictor", evictor(file))
        scheduler.run()
        world.assert_idle()


@pytest.mark.schedules(130, LOCK_FREE)
def test_readline(scheduler: Scheduler) -> None:
    number = 9  # the last byte of this file's stamps is b"\n"
    last_line = PAGE_SIZE - STAMP_BYTES

    def read() -> None:
        for _ in range(2):
            file.seek(last_line)
            lines = file.readline(), file.readline()
            assert list(map(len, lines)) == [STAMP_BYTES, STAMP_BYTES]
            check(b"".join(lines), number, last_line)

    with World(scheduler) as world:
        file, _ = world.open(number, pages=2)
        read()
        scheduler.spawn("reader", read)
        scheduler.spawn("evictor", evictor(file))
        scheduler.run()
        world.assert_idle()


@pytest.mark.schedules(200, LOCK_FREE)
def test_view(scheduler: Scheduler) -> None:
    """What it shows stays as it is until it is released."""

    def view() -> None:
        for _ in range(2):
            with file.view(2 * PAGE_SIZE, 0) as data:
                then = check(data, 0, 0)
                scheduler.switch("with a view open")
                assert check(data, 0, 0) == then

    with World(scheduler) as world:
        file, _ = world.open(pages=2)
        file.pread(2 * PAGE_SIZE, 0)
        scheduler.spawn("viewer", view)
        scheduler.spawn("evictor", evictor(file))
        scheduler.spawn("refiller", reader(file, pages=2, times=1))
        scheduler.run()
        world.assert_idle()
