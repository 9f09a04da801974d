"""The rest of the answer to an opening, read on by several at once, under many schedules each: each page is that page,
whoever brings it; the answer is received in order, by one at a time, and closed once nobody goes on with it."""

from __future__ import annotations

import errno
from collections.abc import Hashable
from functools import partial
from inspect import isfunction

import pytest
from tests.mm.schedules import Functions
from tests.mm.test_interleavings_of_requests import LINE, Interrupted
from tests.torture.stamps import check
from tests.torture.world import FetchError, StampStore, World

from pagein import File
from pagein.mm import known, readahead, reclaim, truncate
from pagein.mm.mapping import AddressSpace
from pagein.mm.rest import Part, Rest
from pagein.stores.source import Opened
from pagein.testing.schedule import ByLine, Scheduler
from pagein.units import PAGE_SHIFT, PAGE_SIZE

HEAD_PAGES, FILE_PAGES, CAP_PAGES = 2, 16, 512
REST: Functions = [
    *LINE,
    *(ByLine(function) for function in vars(Rest).values() if isfunction(function)),
    ByLine(readahead._submit_ahead),
    ByLine(readahead.hit_marker),
    ByLine(AddressSpace.grab_run),
    ByLine(readahead.adopt_head),
    ByLine(AddressSpace.suspend),
]
ENDS = ["whole", "broken at once", "broken within"]
on_every_end = pytest.mark.parametrize("end", ENDS)
on_every_kind = pytest.mark.parametrize("kind", ["blocking", "at once", "later"])


class Answer:
    """The rest of an answer, of which *good_pages* come."""

    def __init__(self, world: World, good_pages: int) -> None:
        self.stop_bytes = FILE_PAGES * PAGE_SIZE
        self.at, self._good_stop = HEAD_PAGES, HEAD_PAGES + good_pages
        self.is_closed = False
        self.mistakes: list[str] = []
        self._world, self._is_received = world, False

    def fill(self, part: Part) -> None:
        # What is raised ahead of a reader is nobody's, so mistakes are kept for the end.
        if self._is_received or self.is_closed:
            self.mistakes.append("received by two, or after its end")
        if part.offset != self.at << PAGE_SHIFT:
            self.mistakes.append(f"at page {self.at} asked for offset {part.offset}")
        self._is_received = True
        try:
            for start in range(0, part.size_bytes, PAGE_SIZE):
                if self.at >= self._good_stop:
                    raise OSError(errno.ECONNRESET, "injected")
                content = self._world.fetches.page(0, self.at)
                part.buffer[start : start + 8] = content[:8]
                assert isinstance(self._world.door, Scheduler)
                self._world.door.switch("with a page begun")
                part.buffer[start : start + PAGE_SIZE] = content
                self.at += 1
        finally:
            self._is_received = False

    def close(self) -> None:
        if self._is_received:
            self.mistakes.append("closed while it is received")
        self.is_closed = True


class Place:
    """A source whose opening brings two pages, and leaves the rest of the answer."""

    key: Hashable = "place"
    name = "place"
    device_name = "place"
    requests_max = 4

    def __init__(self, world: World, kind: str, end: str, failures: int = 0) -> None:
        self.store = StampStore(world.door, world.fetches, failures=failures, asynchronous=kind == "later", run_pages=2)
        self.store.blocking = kind == "blocking"
        self.answer = Answer(world, {"whole": FILE_PAGES, "broken at once": 0, "broken within": 5}[end])
        self._world = world

    @property
    def device_key(self) -> Hashable:
        return self.store.device_key

    def source(self, path: str) -> Place:
        return self

    def open(self) -> Opened:
        return Opened(self.store, FILE_PAGES * PAGE_SIZE, "1")

    def open_with_head(self) -> Opened:
        return self.open_with_rest(0)

    def open_with_rest(self, rest_bytes: int) -> Opened:
        head = b"".join(self._world.fetches.page(0, index) for index in range(HEAD_PAGES))
        return self.open()._replace(head=head, rest=self.answer if rest_bytes else None)


def read_on(file: File, index: int = 0, stop: int = FILE_PAGES, pages: int = 1) -> str:
    """What came of reading a part in order."""
    try:
        for at in range(index, stop, pages):
            check(file.pread(pages * PAGE_SIZE, at << PAGE_SHIFT), 0, at << PAGE_SHIFT)
    except FetchError:
        return "failed"
    except Interrupted:
        return "interrupted"
    except ValueError:
        return "closed"
    return "read"


def opened(world: World, kind: str, end: str, failures: int = 0) -> tuple[Place, File]:
    known._known.clear()  # what the schedules before have left
    place = Place(world, kind, end, failures)
    return place, world.cache.open((place, ""))


def assert_at_rest(world: World, place: Place, file: File) -> None:
    """And once the file is closed nothing is left of the answer."""
    device = file._file.mapping.device
    assert (device.in_flight, device.queued_count, device._ahead_in_flight) == (0, 0, 0)
    assert world.zone.streams == {}
    world.assert_idle()
    file.close()
    assert (place.answer.is_closed, place.answer.mistakes) == (True, [])
    assert (device.rests, device.rests_asked) == (0, 0)


@pytest.mark.schedules(12, REST)
@on_every_kind
@on_every_end
def test_readers_of_one_file_share_the_rest(scheduler: Scheduler, kind: str, end: str) -> None:
    """Some in order, one of them in large pieces, and one who begins in the middle."""
    with World(scheduler, cap_pages=CAP_PAGES) as world:
        place, file = opened(world, kind, end)
        tasks = [
            scheduler.spawn("a", partial(read_on, file)),
            scheduler.spawn("b", partial(read_on, file, 0, FILE_PAGES, 4)),
            scheduler.spawn("behind", partial(read_on, file, 9)),
        ]
        scheduler.run()
        assert [task.result for task in tasks] == ["read"] * 3
        assert world.fetches.last <= FILE_PAGES + (5 if end == "broken within" else 0), "twice only what broke off"
        assert_at_rest(world, place, file)


@pytest.mark.schedules(24, REST)
@on_every_kind
def test_who_reads_elsewhere_lets_go_of_nothing_that_another_receives(scheduler: Scheduler, kind: str) -> None:
    with World(scheduler, cap_pages=CAP_PAGES) as world:
        place, file = opened(world, kind, "whole")
        other = world.cache.open((place, ""))
        tasks = [
            scheduler.spawn("a", partial(read_on, file, HEAD_PAGES, HEAD_PAGES + 3)),
            scheduler.spawn("elsewhere", partial(read_on, other, FILE_PAGES - 1)),
        ]
        scheduler.run()
        assert [task.result for task in tasks] == ["read"] * 2
        assert_at_rest(world, place, file)


@pytest.mark.schedules(12, REST)
@on_every_kind
def test_who_goes_on_alone_asks_for_nothing_more(scheduler: Scheduler, kind: str) -> None:
    with World(scheduler, cap_pages=CAP_PAGES) as world:
        place, file = opened(world, kind, "whole")
        task = scheduler.spawn("a", partial(read_on, file))
        scheduler.run()
        assert (task.result, place.store.requests) == ("read", 0)
        assert (place.answer.at, place.answer.is_closed) == (FILE_PAGES, True)
        assert file._file.mapping.device.requests == 1
        assert_at_rest(world, place, file)


@pytest.mark.schedules(24, REST)
@on_every_kind
def test_readers_who_go_on_together_ask_for_nothing_more(scheduler: Scheduler, kind: str) -> None:
    """Whoever locks the next part claims it in that hold; and what one is about to ask for the other takes along."""
    with World(scheduler, cap_pages=CAP_PAGES) as world:
        place, file = opened(world, kind, "whole")
        tasks = [
            scheduler.spawn(name, partial(read_on, file, 0, FILE_PAGES, pages))
            for name, pages in zip("ab", (1, 2), strict=True)
        ]
        scheduler.run()
        assert [task.result for task in tasks] == ["read"] * 2
        assert (place.store.requests, place.answer.at, world.fetches.last) == (0, FILE_PAGES, FILE_PAGES)
        assert_at_rest(world, place, file)


@pytest.mark.schedules(12, REST)
@on_every_kind
@on_every_end
def test_an_interrupted_reader_leaves_the_rest_to_the_others(scheduler: Scheduler, kind: str, end: str) -> None:
    with World(scheduler, cap_pages=CAP_PAGES) as world:
        place, file = opened(world, kind, end, failures=1)
        tasks = [scheduler.spawn(name, partial(read_on, file)) for name in "ab"]
        scheduler.spawn("ctrl-c", lambda: scheduler.interrupt(tasks[0], Interrupted()))
        scheduler.run()
        assert tasks[1].result in ("read", "failed")
        again = scheduler.spawn("again", partial(read_on, file))
        scheduler.run()
        assert again.result in ("read", "failed")
        assert_at_rest(world, place, file)


@pytest.mark.schedules(12, REST)
@on_every_kind
@on_every_end
def test_closing_against_who_reads_on(scheduler: Scheduler, kind: str, end: str) -> None:
    """The file, or the cache."""
    for closes_cache in (False, True):
        with World(scheduler, cap_pages=CAP_PAGES) as world:
            place, file = opened(world, kind, end)
            device = file._file.mapping.device
            tasks = [scheduler.spawn(name, partial(read_on, file, 0, FILE_PAGES, 2)) for name in "ab"]
            scheduler.spawn("closer", world.cache.close if closes_cache else file.close)
            scheduler.run()
            assert {task.result for task in tasks} <= {"read", "closed"}
            assert (device.in_flight, device.queued_count) == (0, 0)
            assert (place.answer.is_closed, place.answer.mistakes) == (True, [])
            assert (device.rests, device.rests_asked) == (0, 0)
            assert not world.zone.locked


@pytest.mark.schedules(12, REST)
@on_every_kind
def test_closing_one_of_two_files_against_who_reads_on_in_the_other(scheduler: Scheduler, kind: str) -> None:
    """What was asked for by a file that is closed is not received, and what lies behind it is."""
    with World(scheduler, cap_pages=CAP_PAGES) as world:
        place, file = opened(world, kind, "whole")
        other = world.cache.open((place, ""))
        reader = scheduler.spawn("a", partial(read_on, file, 0, FILE_PAGES, 2))
        last = scheduler.spawn("b", partial(read_on, other, FILE_PAGES - 2))
        scheduler.spawn("closes", file.close)
        scheduler.run()
        assert reader.result in ("read", "closed")
        assert last.result == "read"
        again = scheduler.spawn("again", partial(read_on, other))
        scheduler.run()
        assert again.result == "read"
        assert_at_rest(world, place, other)


@pytest.mark.schedules(12, REST)
@on_every_kind
def test_an_end_that_moves_against_who_reads_on(scheduler: Scheduler, kind: str) -> None:
    """What is cut off is not received as what lies behind it."""
    with World(scheduler, cap_pages=CAP_PAGES) as world:
        place, file = opened(world, kind, "whole")
        mapping = file._file.mapping

        def cut_and_grow() -> None:
            for pages in (5, FILE_PAGES):
                with mapping.i_rwsem.exclusive():
                    truncate.truncate_setsize(mapping, pages << PAGE_SHIFT)

        def read_what_is_there() -> None:
            for at in range(FILE_PAGES):
                data = file.pread(PAGE_SIZE, at << PAGE_SHIFT)
                check(data, 0, at << PAGE_SHIFT)

        scheduler.spawn("reader", read_what_is_there)
        scheduler.spawn("cuts", cut_and_grow)
        scheduler.run()
        assert_at_rest(world, place, file)


@pytest.mark.schedules(12, REST)
@on_every_kind
@pytest.mark.parametrize("end", ["broken at once", "broken within"])
def test_parts_that_did_not_come_stand_in_the_line_with_all_others(scheduler: Scheduler, kind: str, end: str) -> None:
    """And become one request with what is beside them there."""
    with World(scheduler, cap_pages=CAP_PAGES) as world:
        place, file = opened(world, kind, end)
        place.store._run_pages = FILE_PAGES  # each request as a whole
        device = file._file.mapping.device
        store = StampStore(world.door, world.fetches, 1, asynchronous=kind == "later", run_pages=FILE_PAGES)
        store.blocking = kind == "blocking"
        other = world.cache.inode(store, size_bytes=FILE_PAGES * PAGE_SIZE).open()
        assert other._file.mapping.device is device
        other.advise("random")

        def read_other(index: int) -> None:
            check(other.pread(PAGE_SIZE, index << PAGE_SHIFT), 1, index << PAGE_SHIFT)

        tasks = [scheduler.spawn(f"other {index}", partial(read_other, index)) for index in range(0, 12, 2)]
        readers = [scheduler.spawn("a", partial(read_on, file)), scheduler.spawn("b", partial(read_on, file, 6))]
        scheduler.run()
        assert [task.result for task in readers] == ["read"] * 2
        assert len(tasks) == 6
        other.close()
        assert_at_rest(world, place, file)


def test_a_run_that_was_filled_in_vain_and_takes_in_its_neighbour_is_filled_to_its_new_end() -> None:
    """As two parts that did not come, and stand in line side by side."""
    with World(cap_pages=CAP_PAGES) as world:
        file, _ = world.open(pages=4)
        mapping = file._file.mapping
        assert reclaim.try_reserve(world.zone, 4) == 4
        head, tail = (mapping.grab_run(index, 2, wanted_pages=0) for index in (0, 2))
        assert head is not None
        assert tail is not None
        assert len(head.buffer) == len(tail.buffer) == 2 * PAGE_SIZE
        with world.zone.lock:
            head.absorb(tail)
        assert len(head.buffer) == 4 * PAGE_SIZE
        head.unlock()
        world.assert_idle()
