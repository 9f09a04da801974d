"""Writers against whatever else happens to their pages, under hundreds of schedules each: eviction, write-back and its
end, fsync, truncation and growth, reads in flight, other writers, recalled budgets, errors, and the end of the file.

After each schedule everything is stored, and the store holds, byte for byte, what the cache shows: nothing that was
written is lost, nothing that was cut off comes back, and no write is torn by another.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from inspect import isfunction
from types import TracebackType
from typing import Any

import pytest
from tests.contract.writing import assert_counts_agree
from tests.mm.schedules import LOCKS, REMOVAL, Functions, may_fail_with

from pagein import File, PageCache, unwritten
from pagein.inode import Inode
from pagein.mm import direct, discard as discarding, on_io, removal, size_owed, truncate, walk, write, writeback
from pagein.mm.aops import AOP_UPDATED_PAGE, AddressSpaceOperations
from pagein.mm.dirty import DirtyState
from pagein.mm.mapping import AddressSpace
from pagein.mm.openfile import OpenFile
from pagein.mm.page import Page
from pagein.mm.rwsem import RwSem
from pagein.mm.sync import run_steps
from pagein.mm.writeback import Sync, WritebackControl, write_back
from pagein.reader import PageReader
from pagein.testing.leaks import leaks
from pagein.testing.schedule import ByLine, Scheduler
from pagein.testing.stores import pattern
from pagein.units import PAGE_SHIFT, PAGE_SIZE
from pagein.writer import PageWriter


def by_line(module: Any) -> Functions:
    """What is defined in a module, or in a class."""
    home = getattr(module, "__module__", module.__name__)
    return [
        ByLine(function) for function in vars(module).values() if isfunction(function) and function.__module__ == home
    ]


SHORT: Functions = [PageWriter.pwrite, PageWriter._write_short]
"""The short way, stopped before each instruction."""
WRITE_BACK: Functions = [
    *by_line(writeback), *by_line(walk), *by_line(walk.Walk), *by_line(size_owed), *by_line(on_io),
    ByLine(AddressSpace.take_dirty), ByLine(AddressSpace.mark_dirty), ByLine(AddressSpace.zero_beyond_end),
    ByLine(Page.end_writeback),
]  # fmt: skip
LONG: Functions = [*by_line(write), *by_line(truncate), ByLine(RwSem.release)]
BUDGETS: Functions = [ByLine(DirtyState._recall_budgets), ByLine(write._make_ready), ByLine(AddressSpace.clear_dirty)]


class SlowStore(AddressSpaceOperations):
    """Does everything in two halves, with a switch between them, or, if *asynchronous*, on another thread."""

    writable = True

    def __init__(
        self, scheduler: Scheduler, size_bytes: int, *, blocking: bool, asynchronous: bool, failures: int = 0
    ) -> None:
        self.blocking = blocking
        self.data = bytearray(pattern(0, size_bytes))
        self.failures_left = failures
        self.refuses_sizes = False
        self.to_decline: set[int] = set()
        """Runs that it does not take the first time, by their first page."""
        self.declines_until_s = 0.0
        """It takes nothing before."""
        self.refusals = 0
        self.fails_until_s = 0.0
        """It stores nothing before..."""
        self.failures = 0
        """...and has failed so often: no more than a hundred times, so that who asks without end is found out."""
        self.answers_after_s = 0.0
        self.fsyncs = 0
        self._scheduler = scheduler
        self.asynchronous = asynchronous

    def readpage(self, file: OpenFile, page: Page) -> int:
        if self.asynchronous:
            self._scheduler.start_thread("read", lambda: self._end_read(page))
            return 0
        self._fill(page)
        page.set_uptodate()
        return AOP_UPDATED_PAGE

    def _end_read(self, page: Page) -> None:
        self._fill(page)
        page.end_read()

    def _fill(self, page: Page) -> None:
        buffer = page.buffer
        content = self.data[page.offset : page.offset + len(buffer)]
        assert len(content) == len(buffer), "asked for what it does not hold"
        half = len(buffer) // 2
        buffer[:half] = content[:half]
        self._scheduler.switch("with half a page filled")
        buffer[half:] = content[half:]

    def writepages(self, wbc: WritebackControl) -> None:
        page = wbc.take()
        if page.index in self.to_decline or self._scheduler.now_s() < self.declines_until_s:
            self.to_decline.discard(page.index)
            self.refusals += 1
            wbc.redirty(page)
            page.unlock()
            return
        page.set_writeback()
        page.unlock()
        if self.asynchronous:
            self._scheduler.start_thread("store", lambda: self._end_store(page))
        else:
            self._store(page)
            page.end_writeback()

    def _end_store(self, page: Page) -> None:
        try:
            self._store(page)
        except OSError as error:
            page.end_writeback(error)
        else:
            page.end_writeback()

    def _store(self, page: Page) -> None:
        with page.content as content:
            half, offset = len(content) // 2, page.offset
            self._put(bytes(content[:half]), offset)
            self._scheduler.switch("with half a run stored")
            if self.answers_after_s:
                self._scheduler.sleep(self.answers_after_s)
            if self._scheduler.now_s() < self.fails_until_s and self.failures < 100:
                self.failures += 1
                raise OSError(errno.ENOSPC, "full")
            if self.failures_left:
                self.failures_left -= 1
                raise OSError(errno.ENOSPC, "full")
            self._put(bytes(content[half:]), offset + half)

    def _put(self, data: bytes, offset: int) -> None:
        self.data += bytes(max(0, offset - len(self.data)))
        self.data[offset : offset + len(data)] = data

    def set_size(self, size_bytes: int) -> None:
        self._scheduler.switch("before a new size")
        if self.refuses_sizes:
            raise OSError(errno.ENOSPC, "full")
        del self.data[size_bytes:]
        self.data += bytes(size_bytes - len(self.data))
        self._scheduler.switch("after a new size")

    def fsync(self) -> None:
        self.fsyncs += 1

    def direct_write(self, data: memoryview, offset_bytes: int) -> int:
        half = len(data) // 2
        self._put(bytes(data[:half]), offset_bytes)
        self._scheduler.switch("with half of it written directly")
        self._put(bytes(data[half:]), offset_bytes + half)
        return len(data)


KINDS = ["inline", "blocking", "later"]
"""A store that answers the thread that asks, on an I/O worker, and by another thread."""

on_every_kind = pytest.mark.parametrize("kind", KINDS)


class Scene:
    """A cache with one file that is written to.  At the end of a schedule all is stored, and is what it should be."""

    def __init__(
        self,
        scheduler: Scheduler,
        kind: str = "inline",
        *,
        pages: float = 2,
        cap_pages: int = 64,
        background: float = 0.8,
        limit: float = 0.9,
        failures: int = 0,
        debug: bool = False,
        make_store: Callable[..., SlowStore] = SlowStore,
    ) -> None:
        self.scheduler = scheduler
        self.cache = PageCache(
            cap_pages * PAGE_SIZE,
            door=scheduler,
            debug=debug,
            dirty_background=background,
            dirty_limit=limit,
            dirty_age_s=5,
        )
        self.size = int(pages * PAGE_SIZE)
        self.store = make_store(
            scheduler, self.size, blocking=kind == "blocking", asynchronous=kind == "later", failures=failures
        )
        self.inode = self.cache.inode(self.store, size_bytes=self.size)
        self.mapping = self.inode.mapping
        self.file = self.open()

    def open(self) -> File:
        file = self.inode.open("r+b")
        file.advise("random")
        return file

    def warm(self, *, dirty: int | None = None) -> None:
        """All pages here, and the one numbered *dirty* dirty, so that writers have a budget.

        Before the tasks begin, where nothing may wait; and no time passes, in which the flusher would store it.
        """
        store = self.store
        kind = store.blocking, store.asynchronous
        store.blocking = store.asynchronous = False
        self.file.pread(self.size, 0)
        if dirty is not None:
            self.file.pwrite(b"dirty", dirty << PAGE_SHIFT)
        store.blocking, store.asynchronous = kind

    def expected(self, *writes: tuple[int, bytes]) -> bytes:
        """The pattern, written over."""
        expected = bytearray(pattern(0, self.size))
        for offset, data in writes:
            expected += bytes(max(0, offset - len(expected)))
            expected[offset : offset + len(data)] = data
        return bytes(expected)

    def spawn(self, **tasks: Callable[[], object]) -> None:
        for name, run in tasks.items():
            self.scheduler.spawn(name, run)

    def evict(self) -> None:
        for _ in range(2):
            self.file.advise("dontneed")

    def run(self) -> None:
        self.scheduler.run()
        self.assert_counts()

    def assert_counts(self) -> None:
        assert not self.mapping.in_flight
        assert not self.mapping.i_rwsem.held
        assert not self.cache._zone.dirty._waiters
        assert_counts_agree(self.cache._zone)

    def settle(self, *expected: bytes) -> bytes:
        """Everything is stored, and is one of *expected*, in the store as in the cache."""

        def fsync() -> None:
            shown = self.file.pread(self.mapping.i_size + 1, 0)
            self.file.fsync()
            self.file.advise("dontneed")
            again = self.file.pread(self.mapping.i_size + 1, 0)
            assert shown == again == self.store.data
            results.append(shown)

        results: list[bytes] = []
        self.scheduler.spawn("at the end", fsync)
        self.run()
        (data,) = results
        if expected:
            assert data in expected, _differences(data, expected)
        assert not self.mapping.is_unwritten
        assert self.cache._zone.dirty.pages == 0
        left = leaks(self.cache._zone)
        assert not left, left
        return data

    def __enter__(self) -> Scene:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.scheduler.spawn("close", self.cache.close)
            self.scheduler.run()


def _differences(data: bytes, expected: tuple[bytes, ...]) -> str:
    found = []
    for one in expected:
        at = next((at for at, (a, b) in enumerate(zip(data, one, strict=False)) if a != b), min(len(data), len(one)))
        found.append(f"{len(data)} bytes, not {len(one)}; from {at}: {data[at : at + 16]!r}, not {one[at : at + 16]!r}")
    return "; ".join(found)


# -- the short way ---------------------------------------------------------------------------------------------


@pytest.mark.schedules(30, SHORT + REMOVAL)
@pytest.mark.parametrize("size", [8, PAGE_SIZE + 8], ids=["one page", "two pages"])
def test_a_short_write_and_eviction(scheduler: Scheduler, size: int) -> None:
    """It is marked dirty first and looked at then; whoever evicts clears first and looks at the mark then."""
    data = b"w" * size

    with Scene(scheduler, pages=3) as scene:
        scene.warm(dirty=0)
        scene.spawn(writer=lambda: scene.file.pwrite(data, PAGE_SIZE + 8), evictor=scene.evict)
        scene.run()
        scene.settle(scene.expected((0, b"dirty"), (PAGE_SIZE + 8, data)))


@pytest.mark.schedules(45, [*SHORT, ByLine(walk._lock_run), ByLine(AddressSpace.take_dirty)])
@pytest.mark.parametrize("size", [8, PAGE_SIZE + 8], ids=["one page", "two pages"])
def test_a_short_write_eviction_and_write_back(scheduler: Scheduler, size: int) -> None:
    """The mark that it sets, and takes off again if the page has gone, is not taken for a dirty page."""
    data = b"w" * size

    with Scene(scheduler, pages=3) as scene:
        scene.warm(dirty=0)
        scene.spawn(writer=lambda: scene.file.pwrite(data, PAGE_SIZE + 8), evictor=scene.evict, fsync=scene.file.fsync)
        scene.run()
        scene.settle(scene.expected((0, b"dirty"), (PAGE_SIZE + 8, data)))


@pytest.mark.schedules(60, [*LONG, ByLine(AddressSpace.lock_page_steps), ByLine(walk._lock_run)])
@on_every_kind
def test_a_write_to_a_part_of_a_page_that_is_stored_and_evicted_while_he_stands_in_line(
    scheduler: Scheduler, kind: str
) -> None:
    """What the store had nothing of when the writer looked may be there by the time that he gets the lock."""

    def write_twice() -> None:
        scene.file.pwrite(b"first---", 0)
        scene.file._pwrite_long(b"second--", 8)

    def evict() -> None:
        for _ in range(3):
            scene.evict()

    with Scene(scheduler, kind, pages=0) as scene:
        scene.spawn(writer=write_twice, fsync=scene.file.fsync, another=scene.file.fsync, evictor=evict)
        scene.run()
        scene.settle(b"first---second--")


@pytest.fixture
def one_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "REQUESTS_MAX", 1)


@pytest.mark.schedules(30, WRITE_BACK)
@pytest.mark.usefixtures("one_run_at_once")
@on_every_kind
@pytest.mark.parametrize("failures", [0, 1])
def test_two_fsyncs_of_pages_here_and_there_that_are_written_to_meanwhile(
    scheduler: Scheduler, kind: str, failures: int
) -> None:
    """Whoever stores one goes on with the next, and makes way for the other: none is left out, and none passed by."""

    def fsync() -> None:
        with may_fail_with(errno.ENOSPC):
            scene.file.fsync()

    def write() -> None:
        scene.file.pwrite(b"first", 2 * PAGE_SIZE)
        scene.file.pwrite(b"last", 4 * PAGE_SIZE)

    with Scene(scheduler, kind, pages=5, failures=failures) as scene:
        scene.warm(dirty=0)
        scene.warm(dirty=2)
        scene.warm(dirty=4)
        scene.spawn(writer=write, fsync=fsync, another=fsync)
        scene.run()
        scene.settle()
        assert bytes(scene.store.data[2 * PAGE_SIZE :][:5]) == b"first"
        assert bytes(scene.store.data[4 * PAGE_SIZE :][:4]) == b"last"


@pytest.mark.schedules(60, WRITE_BACK)
@on_every_kind
def test_a_page_that_is_declined_to_either_of_two_who_store_it(scheduler: Scheduler, kind: str) -> None:
    """It is in the store when an fsync returns, whoever has asked for it; or that has failed with EAGAIN."""

    def fsync() -> None:
        with may_fail_with(errno.EAGAIN):
            scene.file.fsync()
            is_stored.append(bytes(scene.store.data[:5]) == b"dirty" == bytes(scene.store.data[2 * PAGE_SIZE :][:5]))

    def write_back_without_waiting() -> None:
        run_steps(write_back(scene.mapping, Sync.NONE, scheduler.waiter))

    is_stored: list[bool] = []
    with Scene(scheduler, kind, pages=3) as scene:
        scene.warm(dirty=0)
        scene.warm(dirty=2)
        scene.store.to_decline = {0}
        scene.spawn(flusher=write_back_without_waiting, fsync=fsync)
        scene.run()
        assert all(is_stored)
        scene.settle(scene.expected((0, b"dirty"), (2 * PAGE_SIZE, b"dirty")))


@pytest.mark.schedules(20, SHORT + WRITE_BACK)
@on_every_kind
def test_short_writes_and_write_back_of_their_page(scheduler: Scheduler, kind: str) -> None:
    """Before the flag is cleared, while the page is stored, at its end: the last of the writes is stored at last."""

    def write() -> None:
        for number in range(3):
            scene.file.pwrite(bytes([65 + number]) * 16, 8)

    with Scene(scheduler, kind, pages=1) as scene:
        scene.warm(dirty=0)
        scene.spawn(writer=write, fsync=scene.file.fsync, another=scene.file.fsync)
        scene.run()
        scene.settle(scene.expected((0, b"dirty"), (8, b"C" * 16)))


@pytest.mark.schedules(20, SHORT + WRITE_BACK)
@on_every_kind
def test_short_writes_and_a_write_back_that_fails(scheduler: Scheduler, kind: str) -> None:
    """The page is dirty once, whoever was first; fsync says so to whom it failed, and then succeeds."""

    def fsync() -> None:
        with may_fail_with(errno.ENOSPC):
            scene.file.fsync()

    with Scene(scheduler, kind, pages=1, failures=1) as scene:
        scene.warm(dirty=0)
        scene.spawn(writer=lambda: scene.file.pwrite(b"again", 8), fsync=fsync)
        scene.run()
        if scene.mapping.wb_err.check(scene.file._file.wb_seen):
            scene.spawn(told=fsync)
            scene.run()
        scene.settle(scene.expected((0, b"dirty"), (8, b"again")))


@pytest.mark.schedules(45, SHORT + WRITE_BACK)
def test_short_writes_that_make_the_file_longer_and_write_back(scheduler: Scheduler) -> None:
    """What is stored ends where the file did; what comes behind is stored next, and not as zeros."""

    def append() -> None:
        for number in range(3):
            scene.file.pwrite(bytes([65 + number]) * 16, scene.size + 16 * number)

    with Scene(scheduler, pages=0.5) as scene:
        scene.warm(dirty=0)
        scene.spawn(writer=append, fsync=scene.file.fsync)
        scene.run()
        scene.settle(scene.expected((0, b"dirty"), (scene.size, b"A" * 16 + b"B" * 16 + b"C" * 16)))


# -- fsync, and who writes meanwhile ------------------------------------------------------------------------------


@pytest.mark.schedules(20, WRITE_BACK)
@on_every_kind
def test_what_was_written_before_fsync_is_in_the_store_when_it_returns(scheduler: Scheduler, kind: str) -> None:
    """Whatever another writer, and another fsync, do to the same page meanwhile."""

    def write_and_fsync() -> None:
        scene.file.pwrite(b"mine", 0)
        scene.file.fsync()
        assert scene.store.data[:4] == b"mine"

    def write() -> None:
        for number in range(2):
            scene.file.pwrite(bytes([65 + number]) * 4, 8)

    with Scene(scheduler, kind, pages=1) as scene:
        scene.warm(dirty=0)
        scene.spawn(first=write_and_fsync, writer=write, second=scene.file.fsync)
        scene.run()
        scene.settle(scene.expected((0, b"dirty"), (0, b"mine"), (8, b"BBBB")))


# -- sizes -----------------------------------------------------------------------------------------------------


@pytest.mark.schedules(30, WRITE_BACK + LONG)
@on_every_kind
def test_a_file_that_is_cut_and_grows_again_while_it_is_stored(scheduler: Scheduler, kind: str) -> None:
    """The store never cuts what was stored after the cut, and what was cut off does not come back."""
    data = b"w" * PAGE_SIZE

    def cut_and_grow() -> None:
        scene.file.truncate(PAGE_SIZE // 2)
        scene.file.pwrite(data, 2 * PAGE_SIZE)

    with Scene(scheduler, kind, pages=3) as scene:
        scene.warm(dirty=2)
        scene.spawn(truncation=cut_and_grow, fsync=scene.file.fsync, another=scene.file.fsync)
        scene.run()
        scene.settle(pattern(0, PAGE_SIZE // 2) + bytes(PAGE_SIZE * 3 // 2) + data)


@pytest.mark.schedules(50, LOCKS)
@on_every_kind
def test_two_truncations_and_a_writer_while_the_store_is_told(scheduler: Scheduler, kind: str) -> None:
    with Scene(scheduler, kind, pages=3) as scene:
        scene.warm(dirty=2)
        scene.spawn(
            # Not `File.truncate`, which takes turns with a lock of Python's own.
            shorter=lambda: scene.file.set_size(PAGE_SIZE),
            longer=lambda: scene.file.set_size(4 * PAGE_SIZE),
            writer=lambda: scene.file.pwrite(b"end", 2 * PAGE_SIZE),
            fsync=scene.file.fsync,
        )
        scene.run()
        scene.settle()


@pytest.mark.schedules(300, [*by_line(size_owed), ByLine(writeback.write_back)])
@on_every_kind
def test_an_append_while_the_store_refuses_once_to_cut_off_what_a_failed_write_has_left(
    scheduler: Scheduler, kind: str
) -> None:
    """Who was refused owes it no more; another, who tells it still, must not cut off what was stored since."""

    refusals_left = 1

    class Refusing(SlowStore):
        def set_size(self, size_bytes: int) -> None:
            nonlocal refusals_left
            if refusals_left:
                refusals_left -= 1
                raise OSError(errno.ENOSPC, "full")
            scheduler.sleep(1)  # until the others end, or wait
            super().set_size(size_bytes)

    def fsync() -> None:
        with may_fail_with(errno.ENOSPC):
            scene.file.fsync()

    def leave_something() -> None:
        scene.file.pwrite(b"x" * 200, 3 * PAGE_SIZE)
        fsync()
        scene.file.discard()
        assert len(scene.store.data) > scene.size

    def append() -> None:
        scene.file.pwrite(b"new", scene.size)
        fsync()

    with Scene(scheduler, kind, failures=1, make_store=Refusing) as scene:
        scheduler.spawn("before", leave_something)
        scheduler.run()
        refusals_left = 1
        scene.spawn(one=fsync, another=fsync, writer=append)
        scene.run()
        scheduler.spawn("told", fsync)
        scene.run()
        scene.settle(scene.expected((scene.size, b"new")))


@pytest.mark.schedules(60, [*by_line(size_owed), ByLine(writeback.store_all)])
@pytest.mark.parametrize("other", ["close", "flush"])
def test_of_those_who_close_at_once_one_is_told_what_could_not_be_cut_off(scheduler: Scheduler, other: str) -> None:
    """Whichever of them has asked the store."""

    class Torn(SlowStore):
        def direct_write(self, data: memoryview, offset_bytes: int) -> int:
            self._put(bytes(data[: len(data) // 2]), offset_bytes)
            raise OSError(errno.EIO, "half of it")

    def close(file: File) -> None:
        try:
            file.close()
        except OSError as error:
            told.append(error)

    def flush() -> None:
        run_steps(write_back(scene.mapping, Sync.NONE, scheduler.waiter))

    def leave_something() -> None:
        with may_fail_with(errno.EIO):
            first.pwrite(bytes(2 * PAGE_SIZE), scene.size, direct=True)

    told: list[OSError] = []
    with Scene(scheduler, make_store=Torn) as scene:
        first, second = scene.open(), scene.open()
        scheduler.spawn("before", leave_something)
        scheduler.run()
        scene.store.refuses_sizes = True
        scene.spawn(one=lambda: close(first), another=(lambda: close(second)) if other == "close" else flush)
        scene.run()
        assert told
        scene.store.refuses_sizes = False
        scene.settle(scene.expected())


@pytest.mark.schedules(40, WRITE_BACK)
@pytest.mark.parametrize("hole_pages", [0, 1])
def test_a_direct_write_at_the_end_or_behind_a_hole_and_an_fsync(scheduler: Scheduler, hole_pages: int) -> None:
    """That tells the store where the hole ends: not after what lies behind it is stored, before the file is as long."""
    with Scene(scheduler, pages=1) as scene:
        size = (1 + hole_pages) * PAGE_SIZE
        scene.file.truncate(size)
        scene.spawn(writer=lambda: scene.file.pwrite(b"direct", size, direct=True), fsync=scene.file.fsync)
        scene.run()
        scene.settle(scene.expected((size, b"direct")))


@pytest.mark.schedules(10, LOCKS)
@pytest.mark.parametrize("hole_pages", [0, 1])
def test_an_fsync_between_a_direct_write_and_the_growth_of_the_file(scheduler: Scheduler, hole_pages: int) -> None:
    """The store has more than the file by then: it must not be told to cut that off."""
    is_coherent = direct._is_coherent

    def later(*args: Any) -> bool:
        scheduler.sleep(1)  # until the others end, or wait for the writer
        return is_coherent(*args)

    with Scene(scheduler, pages=1) as scene, pytest.MonkeyPatch.context() as patch:
        patch.setattr(direct, "_is_coherent", later)
        size = (1 + hole_pages) * PAGE_SIZE
        scene.file.truncate(size)
        scene.spawn(writer=lambda: scene.file.pwrite(b"direct", size, direct=True), fsync=scene.file.fsync)
        scene.run()
        scene.settle(scene.expected((size, b"direct")))


@pytest.mark.schedules(60, WRITE_BACK + LONG)
def test_a_reader_of_what_is_written_directly_at_the_end(scheduler: Scheduler) -> None:
    """He gets the file as it was, or as it is, and never zeros in place of what was written."""

    def read() -> None:
        for _ in range(3):
            data = scene.file.pread(PAGE_SIZE, 0)
            assert data in (scene.expected(), scene.expected((scene.size, b"direct"))), data[-10:]

    with Scene(scheduler, pages=0.5) as scene:
        scene.warm()
        scene.spawn(writer=lambda: scene.file.pwrite(b"direct", scene.size, direct=True), reader=read)
        scene.run()
        scene.settle(scene.expected((scene.size, b"direct")))


@pytest.mark.schedules(45, LONG)
def test_readers_of_a_file_that_is_cut_and_grows(scheduler: Scheduler) -> None:
    """Each byte is the old one, or a zero that the new size has brought; never what lay behind the end."""

    def read() -> None:
        for _ in range(2):
            data = scene.file.pread(PAGE_SIZE, 0)
            assert len(data) in (100, PAGE_SIZE)
            assert data in (old[: len(data)], (old[:100] + bytes(PAGE_SIZE))[: len(data)])

    def cut_and_grow() -> None:
        scene.file.truncate(100)
        scene.file.truncate(PAGE_SIZE)

    with Scene(scheduler, pages=1) as scene:
        scene.warm(dirty=0)
        old = scene.expected((0, b"dirty"))
        scene.spawn(reader=read, truncation=cut_and_grow)
        scene.run()
        scene.settle(old[:100] + bytes(PAGE_SIZE - 100))


# -- reads in flight, other writers --------------------------------------------------------------------------------


@pytest.mark.schedules(30, LONG)
@on_every_kind
def test_a_write_and_a_read_in_flight_of_the_same_page(scheduler: Scheduler, kind: str) -> None:
    """Whichever is first: the read does not overwrite what was written."""
    new = b"w" * 16

    def read() -> None:
        data = scene.file.pread(PAGE_SIZE, 0)
        assert data in (scene.expected(), scene.expected((8, new)))

    with Scene(scheduler, kind, pages=1) as scene:
        scene.spawn(reader=read, writer=lambda: scene.file.pwrite(new, 8), evictor=scene.evict, other=read)
        scene.run()
        scene.settle(scene.expected((8, new)))


@pytest.mark.schedules(40, SHORT)
@on_every_kind
def test_two_who_append_lose_nothing_of_one_another(scheduler: Scheduler, kind: str) -> None:
    """Each record is there once and whole, those of one writer in their order."""

    def append(file: File, letter: str) -> None:
        for number in range(3):
            file.write(f"{letter}{number}".encode() * 50)

    with Scene(scheduler, kind, pages=1) as scene:
        files = [scene.inode.open("a+b") for _ in range(2)]
        scene.spawn(a=partial(append, files[0], "a"), b=partial(append, files[1], "b"), fsync=scene.file.fsync)
        scene.run()
        data = scene.settle()[PAGE_SIZE:]
        records = [data[at : at + 100] for at in range(0, len(data), 100)]
        assert all(record == record[:2] * 50 for record in records)
        assert [record[:2] for record in records if record[:1] == b"a"] == [b"a0", b"a1", b"a2"]
        assert [record[:2] for record in records if record[:1] == b"b"] == [b"b0", b"b1", b"b2"]
        for file in files:
            file._file.closed = True  # nothing is left to write out for them
            file._release()


@pytest.mark.schedules(30, SHORT + LONG)
def test_two_long_writes_are_not_mixed(scheduler: Scheduler) -> None:
    one, other = b"1" * 2 * PAGE_SIZE, b"2" * 2 * PAGE_SIZE
    with Scene(scheduler, pages=3) as scene:
        scene.spawn(one=lambda: scene.file.pwrite(bytearray(one), 10), other=lambda: scene.file.pwrite(other, 10))
        scene.run()
        scene.settle(scene.expected((10, one)), scene.expected((10, other)))


# -- how much may be dirty -----------------------------------------------------------------------------------------


@pytest.mark.schedules(20, SHORT + BUDGETS)
@on_every_kind
def test_a_budget_that_is_used_while_it_is_recalled(scheduler: Scheduler, kind: str) -> None:
    """Leave is counted once: used by its writer, or taken back by who needs it."""

    def write(first: int) -> None:
        for index in range(first, first + 4):
            scene.file.pwrite(b"w" * 8, index << PAGE_SHIFT)
            assert zone.dirty.pages + zone.dirty.writeback_pages <= zone.dirty.limits.limit_pages

    with Scene(scheduler, kind, pages=12, cap_pages=32, background=0.4, limit=0.5) as scene:
        zone = scene.cache._zone
        scene.warm(dirty=0)
        other = scene.cache.inode(
            SlowStore(scheduler, PAGE_SIZE * 16, blocking=False, asynchronous=False), size_bytes=PAGE_SIZE * 16
        ).open("r+b")
        scene.spawn(
            a=partial(write, 1),
            b=partial(write, 5),
            c=lambda: other.pwrite(b"x" * 12 * PAGE_SIZE, 0),
        )
        scene.run()
        scene.spawn(d=other.fsync)
        scene.settle(scene.expected((0, b"dirty"), *((index << PAGE_SHIFT, b"w" * 8) for index in range(1, 9))))


@pytest.mark.schedules(20, LOCKS)
@on_every_kind
def test_a_writer_who_waits_for_room_hears_why_there_is_none(scheduler: Scheduler, kind: str) -> None:
    """A store that fails: he raises its error, or goes on once it has healed; he does not wait for ever."""

    def write(first: int) -> None:
        for index in range(first, first + 3):
            with may_fail_with(errno.ENOSPC):
                scene.file.pwrite(b"w" * PAGE_SIZE, index << PAGE_SHIFT)

    with Scene(scheduler, kind, pages=8, cap_pages=4, background=0.2, limit=0.5, failures=3) as scene:
        scene.spawn(a=partial(write, 0), b=partial(write, 4))
        scene.run()
        scene.store.failures_left = 0

        def told() -> None:
            with may_fail_with(errno.ENOSPC):
                scene.file.fsync()

        scene.spawn(told=told)
        scene.run()
        scene.settle()


@pytest.mark.schedules(10, LOCKS)
@pytest.mark.parametrize("what", ["dirty", "memory"])
def test_a_writer_who_waits_hears_that_the_store_cannot_be_told_its_size(scheduler: Scheduler, what: str) -> None:
    """Nothing is stored while a size is owed; who waits for that must hear why, as if a page had failed."""
    heard: list[int | None] = []

    def write() -> None:
        for index in range(8):
            try:
                scene.file.pwrite(b"w" * PAGE_SIZE, index << PAGE_SHIFT)
            except OSError as error:
                heard.append(error.errno)
                return

    def told() -> None:
        with may_fail_with(errno.ENOSPC):
            scene.file.fsync()

    limit = 0.5 if what == "dirty" else 1.0
    with Scene(scheduler, pages=8, cap_pages=4, background=0.2, limit=limit) as scene:
        scene.store.refuses_sizes = True
        scene.file.truncate(PAGE_SIZE)

        def write_and_heal() -> None:
            write()
            scene.store.refuses_sizes = False
            told()

        scene.spawn(writer=write_and_heal)
        scene.run()
        assert heard
        assert heard[0] in (errno.ENOSPC, errno.ENOMEM)
        scene.settle()


# -- the end -------------------------------------------------------------------------------------------------------


@pytest.mark.schedules(45, [*SHORT, ByLine(AddressSpace.suspend)])
def test_a_mapping_that_is_suspended_while_somebody_writes(scheduler: Scheduler) -> None:
    """Either it is suspended, and the write has not happened; or it is dirty, and stays."""
    outcome: dict[str, object] = {}

    def write() -> None:
        try:
            outcome["written"] = scene.file.pwrite(b"late", 8)
        except ValueError:
            outcome["written"] = None

    def suspend() -> None:
        outcome["suspended"] = scene.mapping.suspend()

    with Scene(scheduler, pages=1) as scene:
        scene.warm()
        scene.spawn(writer=write, suspender=suspend)
        scene.run()
        if outcome["suspended"]:
            assert scene.mapping.dirty_pages == 0
            scene.mapping.resume(scene.store)
        expected = scene.expected((8, b"late")) if outcome["written"] else scene.expected()
        scene.settle(expected)


UNWRITTEN: Functions = [
    Inode.unwritten_bytes, Inode._unwritten_cached_bytes, AddressSpace.is_unwritten,
    ByLine(walk._lock_run), ByLine(Page.settle_writeback),
]  # fmt: skip
"""Where data are on their way from one place to the next, and where they are looked for."""


class StagingStore(SlowStore):
    """What it was given has to be committed, which it never is."""

    @property
    def uncommitted_bytes(self) -> int | None:
        return PAGE_SIZE if b"dirty" in self.data else None


@pytest.mark.schedules(60, UNWRITTEN)
@pytest.mark.parametrize("way", ["that fails", "that has to commit it"])
def test_what_is_on_its_way_to_a_store_is_unwritten_at_every_moment(scheduler: Scheduler, way: str) -> None:
    """Nobody may find in between that there is nothing, and forget the file."""

    def ask() -> None:
        assert scene.inode.unwritten_bytes

    with Scene(scheduler, failures=9 * (way == "that fails")) as scene:
        scene.warm(dirty=0)
        if way == "that has to commit it":
            scene.store.__class__ = StagingStore
        scene.spawn(
            flusher=lambda: run_steps(write_back(scene.mapping, Sync.NONE, scheduler.waiter)), one=ask, other=ask
        )
        scene.run()
        scene.store.__class__ = SlowStore
        scene.store.failures_left = 0
        scene.mapping.wb_err.told()  # for the end


@pytest.mark.schedules(10, LOCKS, departures=1)
def test_what_a_finalizer_has_left_is_unwritten_at_every_moment(scheduler: Scheduler) -> None:
    """Also while somebody writes it into the cache."""

    def ask() -> None:
        assert scene.inode.unwritten_bytes

    with Scene(scheduler, pages=1) as scene:
        scene.warm()
        scene.mapping.late.append((0, b"late"))
        scene.spawn(
            asker=ask, writer=lambda: unwritten.write_late(scene.cache._table, scene.inode, waits=True), other=ask
        )
        scene.run()
    assert scene.store.data == scene.expected((0, b"late"))


@pytest.mark.schedules(60, UNWRITTEN)
def test_a_file_that_was_left_stays_the_caches_while_it_cannot_be_stored(scheduler: Scheduler) -> None:
    """Whoever follows up in that moment: a cache that closes without an error has stored it."""

    def write_back_and_fail() -> None:
        run_steps(write_back(scene.mapping, Sync.NONE, scheduler.waiter))

    def first() -> None:
        scene.file.pwrite(b"dirty", 8)
        with pytest.raises(OSError):
            scene.file.close()
        scene.spawn(flusher=write_back_and_fail, sweeper=scene.cache._table.follow_up)

    with Scene(scheduler, failures=9) as scene:
        scene.spawn(first=first)
        scene.run()
        assert scene.inode in scene.cache._table.written
        scene.store.failures_left = 0
    assert scene.store.data == scene.expected((8, b"dirty"))


@pytest.mark.schedules(10, LOCKS, departures=1)
def test_a_file_that_is_let_go_of_in_the_middle_of_a_write_stays_the_caches(scheduler: Scheduler) -> None:
    """As by a cache that closes: it does not wait for the write, and what that leaves is dirty."""
    written: list[int] = []

    def write_through() -> None:
        try:
            written.append(scene.file.pwrite(b"dirty", 8))
        except ValueError:
            written.append(0)

    def let_go() -> None:
        scene.file._release()
        scene.cache._table.follow_up()

    with Scene(scheduler, "blocking") as scene:  # the writer waits until the page is read, and the other begins
        scene.spawn(writer=write_through, closer=let_go)
        scene.run()
        assert (scene.inode in scene.cache._table.written) >= bool(written[0])
    assert scene.store.data == (scene.expected((8, b"dirty")) if written[0] else scene.expected())


@pytest.mark.schedules(30, SHORT)
@on_every_kind
def test_a_file_that_is_closed_while_another_thread_writes_through_it(scheduler: Scheduler, kind: str) -> None:
    """What the writer was told is written is in the store in the end; or he is told that the file is closed."""
    written: list[int] = []

    def write() -> None:
        try:
            written.append(other.pwrite(b"late", 8))
        except ValueError:
            written.append(0)

    with Scene(scheduler, kind, pages=1) as scene:
        scene.warm(dirty=0)
        other = scene.open()
        scene.spawn(writer=write, closer=other.close)
        scene.run()
        writes = [(0, b"dirty"), (8, b"late")][: 1 + bool(written[0])]
        scene.settle(scene.expected(*writes))


# -- giving up ---------------------------------------------------------------------------------------------------

GIVES_UP: Functions = [*by_line(discarding), *by_line(walk), ByLine(AddressSpace.take_dirty)]


class CommittingStore(SlowStore):
    """What it was given it has to commit, or to give up."""

    commits = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.committed = bytes(self.data)

    @property
    def uncommitted_bytes(self) -> int | None:
        return None if self.data == self.committed else PAGE_SIZE

    def fsync(self) -> None:
        super().fsync()
        self.committed = bytes(self.data)

    def discard(self) -> int | None:
        self._scheduler.switch("before it is given up")
        self.data[:] = self.committed
        self._scheduler.switch("after it was given up")
        return len(self.data)


@pytest.mark.schedules(200, [PageReader.view, ByLine(discarding._remove_all_or_none), ByLine(removal.remove_runs)])
def test_a_view_of_what_is_given_up(scheduler: Scheduler) -> None:
    """Who sees the page before keeps all of it from going; who comes later sees what the store has."""
    views: list[memoryview] = []
    told: list[bool] = []

    def give_up() -> None:
        told.append(False)
        with may_fail_with(errno.EBUSY):
            scene.file.discard()
            told[0] = True

    with Scene(scheduler, pages=3) as scene:
        scene.warm(dirty=1)
        scene.file.pwrite(b"dirty", 0)
        other = scene.open()
        scene.spawn(viewer=lambda: views.append(other.view(5, PAGE_SIZE)), discarder=give_up)
        scene.run()
        expected = scene.expected() if told[0] else scene.expected((0, b"dirty"), (PAGE_SIZE, b"dirty"))
        assert views.pop() == expected[PAGE_SIZE : PAGE_SIZE + 5]
        scene.settle(expected)


@pytest.mark.schedules(200, by_line(discarding))
@on_every_kind
def test_a_flusher_while_all_is_given_up(scheduler: Scheduler, kind: str) -> None:
    """Wherever a page is on its way: nothing of it is here, or committed, afterwards."""
    with Scene(scheduler, kind, make_store=CommittingStore) as scene:
        scene.warm(dirty=1)
        scene.spawn(
            flusher=lambda: run_steps(write_back(scene.mapping, Sync.NONE, scheduler.waiter)),
            discarder=scene.file.discard,
        )
        scene.run()
        scene.settle(scene.expected())
