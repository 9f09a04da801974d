"""Requests in the line before a store that takes one at a time, or two, under hundreds of schedules each: no request is
left with nobody to start it, and no reader without his page, his error, or the memory that he gave back."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from inspect import isfunction

import pytest
from tests.mm.schedules import Functions
from tests.torture.stamps import check
from tests.torture.world import FetchError, StampStore, World

from pagein import File
from pagein.mm import bring, filemap
from pagein.mm.device import BackingDevice
from pagein.mm.openfile import OpenFile
from pagein.mm.page import Page
from pagein.mm.request import Request
from pagein.mm.turn import Turn
from pagein.stores.source import Opened
from pagein.testing.schedule import ByLine, Scheduler, Task
from pagein.units import PAGE_SHIFT, PAGE_SIZE

LINE: Functions = [
    ByLine(function)
    for one in (BackingDevice, Request, Turn)
    for function in vars(one).values()
    if isfunction(function) and function.__name__ != "__init__"
]
HANDOVER: Functions = [*LINE, ByLine(bring._raise_own), ByLine(Page._after_unlock)]

READERS_CALL = "by who waits, or later"
KINDS = ["at once", "later", READERS_CALL, "blocking", "blocking, later"]
"""How a store answers: by the thread that asks, by another one, by a reader who would only wait for that one, and so if
an I/O worker calls it."""

on_every_kind = pytest.mark.parametrize("kind", KINDS)


class OneAtATime(StampStore):
    requests_max = 1


class TwoAtATime(StampStore):
    requests_max = 2


class Interrupted(BaseException):
    """What Ctrl-C, or a cancelled task, raises out of a wait."""


def opened(
    world: World, kind: str, *, store_type: type[StampStore] = OneAtATime, pages: int = 8, failures: int = 0
) -> tuple[File, StampStore]:
    """A file of which each miss asks for one page."""
    asynchronous = kind.endswith("later")
    store = store_type(world.door, world.fetches, failures=failures, asynchronous=asynchronous, run_pages=1)
    store.blocking = kind.startswith("blocking")
    store.readers_call = kind == READERS_CALL
    file = world.cache.inode(store, size_bytes=pages * PAGE_SIZE).open()
    file.advise("random")
    return file, store


def read(file: File, index: int, pages: int = 1) -> str:
    """What came of reading some pages."""
    try:
        check(file.pread(pages * PAGE_SIZE, index << PAGE_SHIFT), 0, index << PAGE_SHIFT)
    except FetchError:
        return "failed"
    except Interrupted:
        return "interrupted"
    except ValueError:
        return "closed"
    return "read"


def fault(file: File, index: int) -> str:
    """The same with the page's lock held, as a fault."""

    class NoLock:
        def acquire(self) -> None: ...
        def release(self) -> None: ...

    vmf = filemap.Fault(file._file, index, NoLock())
    try:
        result = filemap.fault(vmf)
    except Interrupted:
        return "interrupted"
    except ValueError:
        return "closed"
    if vmf.error is not None:
        return "failed"
    assert result & filemap.FaultResult.LOCKED
    assert vmf.page is not None
    vmf.page.unlock()
    return "read"


def assert_at_rest(world: World, file: File) -> None:
    device = file._file.mapping.device
    assert (device.in_flight, device.queued_count, device._ahead_in_flight) == (0, 0, 0)
    assert not device._wanted
    assert not device._ahead
    assert not device._is_starting
    assert world.zone.streams == {}
    world.assert_idle()


@pytest.mark.schedules(12, LINE)
@on_every_kind
@pytest.mark.parametrize("store_type", [OneAtATime, TwoAtATime])
def test_no_request_is_left_in_the_line_with_nobody_to_start_it(
    scheduler: Scheduler, kind: str, store_type: type[StampStore]
) -> None:
    """Who asks finds the store busy while the last answer comes: one of the two sees the other."""
    with World(scheduler) as world:
        file, _ = opened(world, kind, store_type=store_type)
        tasks = [scheduler.spawn(f"reader of {index}", partial(read, file, index)) for index in (0, 2, 4, 6)]
        scheduler.run()
        assert [task.result for task in tasks] == ["read"] * 4
        assert_at_rest(world, file)


class Place:
    """A source of the store that takes one request at a time."""

    device_key: Hashable = id(OneAtATime)
    device_name = "OneAtATime"
    requests_max = 1

    def __init__(self, world: World, name: str, run: Callable[[], object] = int) -> None:
        self.key: Hashable = ("place", name)
        self.name = name
        self._world, self._run = world, run

    def source(self, path: str) -> Place:
        return self

    def open(self) -> Opened:
        self._run()
        store = OneAtATime(self._world.door, self._world.fetches, run_pages=1)
        return Opened(store, 8 * PAGE_SIZE, "1")


def open_and_close(world: World, place: Place) -> str:
    with world.cache.open((place, "")) as file:
        return file.name


@pytest.mark.schedules(12, LINE)
@on_every_kind
def test_looks_and_requests_in_one_line_all_get_their_turn(scheduler: Scheduler, kind: str) -> None:
    """Also one that reads through the store it looks at, and that another waits for."""
    with World(scheduler) as world:
        file, _ = opened(world, kind)
        places = [Place(world, "a", partial(read, file, 6)), Place(world, "b"), Place(world, "b")]
        tasks = [scheduler.spawn(f"reader of {index}", partial(read, file, index)) for index in (0, 2, 6)]
        tasks += [scheduler.spawn(f"opens {at}", partial(open_and_close, world, at_)) for at, at_ in enumerate(places)]
        scheduler.run()
        assert [task.result for task in tasks] == ["read"] * 3 + ["a", "b", "b"]
        assert file._file.mapping.device.turns_in_flight == 0
        assert_at_rest(world, file)


@pytest.mark.schedules(12, LINE)
@on_every_kind
def test_who_asks_with_a_lock_held_gets_a_turn_too(scheduler: Scheduler, kind: str) -> None:
    """Between requests that are merged, and one another."""
    with World(scheduler) as world:
        file, _ = opened(world, kind)
        tasks = [scheduler.spawn(f"reader of {index}", partial(read, file, index)) for index in (0, 3, 4)]
        tasks += [scheduler.spawn(f"fault at {index}", partial(fault, file, index)) for index in (2, 4)]
        scheduler.run()
        assert [task.result for task in tasks] == ["read"] * 5
        assert_at_rest(world, file)


@pytest.mark.schedules(12, LINE)
@on_every_kind
@pytest.mark.parametrize("failures", [0, 1])
def test_merging_against_a_reader_that_gives_up(scheduler: Scheduler, kind: str, failures: int) -> None:
    """Neighbours in line become one request, of which one reader is interrupted: the others have their pages."""
    with World(scheduler) as world:
        file, _ = opened(world, kind, failures=failures)
        tasks = [scheduler.spawn(f"reader of {index}", partial(read, file, index)) for index in (0, 3, 2, 4)]
        scheduler.spawn("ctrl-c", lambda: scheduler.interrupt(tasks[1], Interrupted()))
        scheduler.run()
        results = [task.result for task in tasks]
        assert "interrupted" not in [results[0], *results[2:]]
        assert results.count("failed") <= failures
        assert_at_rest(world, file)
        _read_all(scheduler, file)
        assert_at_rest(world, file)


@pytest.mark.schedules(12, LINE)
@on_every_kind
def test_a_fault_that_gives_up_in_the_line_leaves_nothing(scheduler: Scheduler, kind: str) -> None:
    """Before its turn, when its turn has come, and when it has asked already."""
    with World(scheduler) as world:
        file, _ = opened(world, kind)
        tasks = [scheduler.spawn(f"reader of {index}", partial(read, file, index)) for index in (0, 3)]
        tasks += [scheduler.spawn(f"fault at {index}", partial(fault, file, index)) for index in (2, 4)]
        scheduler.spawn("ctrl-c", lambda: scheduler.interrupt(tasks[2], Interrupted()))
        scheduler.run()
        assert [task.result for task in (tasks[0], tasks[1], tasks[3])] == ["read"] * 3
        assert_at_rest(world, file)
        _read_all(scheduler, file)


def _read_all(scheduler: Scheduler, file: File) -> None:
    again: Task = scheduler.spawn("again", lambda: [read(file, index) for index in range(8)])
    scheduler.run()
    assert again.result.count("read") >= 7, "one of them may be the failure that was due"


@pytest.mark.schedules(12, HANDOVER)
@on_every_kind
@pytest.mark.parametrize("failures", [0, 1, 2])
def test_the_end_of_a_page_against_the_return_of_its_operation(scheduler: Scheduler, kind: str, failures: int) -> None:
    """Whichever comes first: the reader who asked hears of it, once both have, and of nobody else's failure."""
    with World(scheduler) as world:
        file, store = opened(world, kind, failures=failures)
        tasks = [scheduler.spawn(name, partial(read, file, 0)) for name in "abc"]
        scheduler.run()
        results = sorted(str(task.result) for task in tasks)
        assert results == sorted(["failed"] * failures + ["read"] * (3 - failures))
        assert store.requests == failures + 1
        assert_at_rest(world, file)


@pytest.mark.schedules(12, HANDOVER)
@on_every_kind
@pytest.mark.parametrize("failures", [0, 1])
def test_a_run_that_comes_in_parts_against_the_return_of_its_operation(
    scheduler: Scheduler, kind: str, failures: int
) -> None:
    """The reader goes on with the part that he needs, and asks for what did not come."""
    with World(scheduler) as world:
        file, _ = opened(world, kind, failures=failures)
        tasks = [
            scheduler.spawn("all", partial(read, file, 0, 4)),
            scheduler.spawn("last", partial(read, file, 3)),
            scheduler.spawn("behind", partial(read, file, 4)),
        ]
        scheduler.run()
        assert [task.result for task in tasks].count("failed") <= failures
        assert_at_rest(world, file)
        _read_all(scheduler, file)
        assert_at_rest(world, file)


@pytest.mark.schedules(12, LINE)
@on_every_kind
def test_closing_the_cache_against_readers_in_line(scheduler: Scheduler, kind: str) -> None:
    """Each has his page, or hears that the cache was closed."""
    with World(scheduler) as world:
        file, _ = opened(world, kind)
        zone, device = world.zone, file._file.mapping.device
        tasks = [scheduler.spawn(f"reader of {index}", partial(read, file, index)) for index in (0, 2, 3)]
        tasks.append(scheduler.spawn("fault at 5", partial(fault, file, 5)))
        scheduler.spawn("closer", world.cache.close)
        scheduler.run()
        assert {task.result for task in tasks} <= {"read", "closed"}
        assert (device.in_flight, device.queued_count, zone.streams) == (0, 0, {})
        assert not zone.locked
        assert not zone.reserved_pages
        assert not zone.memory_waiters


class Nested(OneAtATime):
    """Reads a page of another file of the same store through the cache, and then brings its own."""

    inner: File

    def readpage(self, file: OpenFile, page: Page) -> int:
        if file is not self.inner._file and page.index == 0:
            check(self.inner.pread(PAGE_SIZE, 0), 0, 0)
        return super().readpage(file, page)

    @property
    def device_key(self) -> object:
        return "nested"


@pytest.mark.schedules(12, LINE)
@on_every_kind
def test_a_store_that_reads_through_the_cache_against_others_that_want_the_same(
    scheduler: Scheduler, kind: str
) -> None:
    """Be the page that it needs absent, in line, or in flight: it does not wait for its own end."""
    with World(scheduler) as world:
        inner, inner_store = opened(world, kind, store_type=Nested)
        outer, store = opened(world, kind, store_type=Nested)
        assert isinstance(store, Nested)
        assert isinstance(inner_store, Nested)
        store.inner = inner_store.inner = inner
        tasks = [
            scheduler.spawn("outer", partial(read, outer, 0)),
            scheduler.spawn("inner", partial(read, inner, 0)),
            scheduler.spawn("neighbour", partial(read, inner, 1)),
        ]
        scheduler.run()
        assert [task.result for task in tasks] == ["read"] * 3
        assert_at_rest(world, inner)
        del store.inner, inner_store.inner  # a cycle, which would keep the arena's addresses
