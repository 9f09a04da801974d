"""Looks at a store whose source says which it is: they stand in its line, and are among its requests."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Hashable
from functools import partial

import pytest
from tests.aio.sources import in_time
from tests.contract.harness import Scene, Subject, Task
from tests.device.harness import ask, assert_line_is_empty, device_of, read_page

import pagein
from pagein import PageCache
from pagein.mm import zone as zone_module
from pagein.mm.page import Page
from pagein.stores.http import REQUESTS_MAX
from pagein.stores.source import Opened
from pagein.testing.httpserver import RangeServer
from pagein.testing.stores import Answer, Gate, ScriptedOps, gated, updated
from pagein.units import PAGE_SIZE


class Place:
    """A source of the store of `ScriptedOps`, which takes one request at a time."""

    device_key: Hashable = id(ScriptedOps)
    device_name = "ScriptedOps"
    requests_max = 1

    def __init__(self, name: str, *, gate: Gate | None = None, run: Callable[[], object] | None = None) -> None:
        self.key: Hashable = ("place", name)
        self.name = name
        self.gate, self.run = gate, run
        self.looks = 0

    def source(self, path: str) -> Place:
        return self

    def open(self) -> Opened:
        self.looks += 1
        if self.gate is not None:
            self.gate.pass_through()
        if self.run is not None:
            self.run()
        ops = ScriptedOps()
        ops.requests_max = self.requests_max
        return Opened(ops, 8 * PAGE_SIZE, "1")


def open_and_close(cache: PageCache, place: Place) -> str:
    with cache.open((place, "")) as file:
        return file.name


@pytest.fixture
def subject(blocking_scene: Scene) -> Subject:
    return blocking_scene.open(requests_max=1)


def opening(subject: Subject, place: Place) -> Task[str]:
    return subject.scene.start(open_and_close, subject.cache, place)


def test_a_look_waits_for_a_request_and_a_request_for_a_look(subject: Subject) -> None:
    """In the order in which they came."""
    device, gate, looking = device_of(subject), subject.scene.gate(), subject.scene.gate()
    subject.ops.script(0, gated(gate, updated))
    ask(subject, 0)
    gate.wait_for_arrivals()
    place = Place("a", gate=looking)
    look = opening(subject, place)
    subject.scene.until(lambda: device.queued_count == 1)
    reader = subject.scene.start(read_page, subject, 4)
    subject.scene.until(lambda: device.queued_count == 2)
    (store,) = subject.cache.stats().stores
    assert (store.requests_in_flight, store.requests_in_line, place.looks) == (1, 2, 0)
    gate.open()
    looking.wait_for_arrivals()
    assert (device.in_flight, device.queued_count) == (1, 1)
    assert [call.index for call in subject.ops.calls] == [0]
    looking.open()
    assert look.result() == "a"
    assert reader.result() == subject.content(4)
    assert_line_is_empty(subject)


def test_who_opens_what_is_in_line_already_shares_its_turn(subject: Subject) -> None:
    gate = subject.scene.gate()
    first, place = opening(subject, Place("first", gate=gate)), Place("a")
    gate.wait_for_arrivals()
    others = [opening(subject, place) for _ in range(4)]
    subject.scene.until(lambda: device_of(subject).queued_count == 1)
    gate.open()
    assert [task.result() for task in (first, *others)] == ["first", *4 * "a"]
    assert_line_is_empty(subject)


def test_a_look_that_fails_gives_its_turn_back(subject: Subject) -> None:
    def fails() -> None:
        raise PermissionError("no")

    for _ in range(3):
        assert isinstance(opening(subject, Place("a", run=fails)).error(), PermissionError)
    assert opening(subject, Place("a")).result() == "a"
    assert_line_is_empty(subject)


class Nameless:
    """A source that says which store it asks, and not all that has to be said of it."""

    key: Hashable = "nameless"
    name = "nameless"
    device_key: Hashable = "nowhere"
    requests_max = 1

    def source(self, path: str) -> Nameless:
        return self

    def open(self) -> Opened:
        raise AssertionError("it is not known which store's turn that would be")


class Unlimited(Nameless):
    device_name = "nowhere"
    requests_max = 0


class Unsaid(Nameless):
    """Whose store cannot be told; those who ask for it wait at *gate*."""

    device_name = "nowhere"

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    @property
    def device_key(self) -> Hashable:  # type: ignore[override]
        self.gate.pass_through()
        raise PermissionError("no")


@pytest.mark.parametrize(("kind", "error"), [(Nameless, AttributeError), (Unlimited, ValueError)])
def test_a_look_whose_turn_cannot_begin_has_ended_for_who_opens_it_later(
    subject: Subject, kind: type[Nameless], error: type[Exception]
) -> None:
    """Each time it is opened, that is said, and nobody waits for the one before."""
    for _ in range(3):
        opening = subject.scene.start(subject.cache.open, (kind(), ""))
        assert isinstance(opening.error(), error)
    assert not subject.cache._table.looks._under_way
    assert_line_is_empty(subject)


def test_those_who_wait_for_a_look_whose_turn_cannot_begin_are_told(subject: Subject) -> None:
    gate, looks = subject.scene.gate(), subject.cache._table.looks
    source = Unsaid(gate)
    openings = [subject.scene.start(subject.cache.open, (source, ""))]
    gate.wait_for_arrivals()
    openings += [subject.scene.start(subject.cache.open, (source, "")) for _ in range(3)]
    subject.scene.until(lambda: len(looks._under_way[source.key].waiters) == 3)
    gate.open()
    assert {type(opening.error()) for opening in openings} == {PermissionError}
    assert not looks._under_way
    assert_line_is_empty(subject)


def test_a_source_that_reads_through_the_store_it_looks_at_is_let_through(subject: Subject) -> None:
    """The only request that the store takes is the look itself."""
    place = Place("a", run=partial(read_page, subject, 3))
    assert opening(subject, place).result() == "a"
    subject.assert_at_rest(3)
    assert_line_is_empty(subject)


class OtherOps(ScriptedOps):
    """Of another store."""


def test_a_look_does_not_wait_for_memory_that_stands_behind_it(blocking_scene: Scene) -> None:
    """Its store's code reads another file of the cache, all of whose pages are to be read once the look has ended."""
    subject = blocking_scene.open(requests_max=1, cap_pages=4)
    other = blocking_scene.open(ops=OtherOps(), cache=subject.cache)
    gate = subject.scene.gate()

    def read_other() -> None:
        with pytest.raises(OSError) as caught:
            other.file.pread(1, 0)
        assert caught.value.errno == errno.ENOMEM

    look = opening(subject, Place("a", gate=gate, run=read_other))
    gate.wait_for_arrivals()
    readers = [subject.scene.start(read_page, subject, index) for index in range(0, 8, 2)]
    subject.scene.until(lambda: device_of(subject).queued_count == len(readers))
    assert subject.zone.charged_pages == subject.zone.cap_pages
    gate.open()
    assert look.result() == "a"
    assert [reader.result() for reader in readers] == [subject.content(index) for index in range(0, 8, 2)]
    assert_line_is_empty(subject)


def through_the_cache(subject: Subject, place: Place, gate: Gate | None = None) -> Answer:
    """Open another file of the same store, then bring the page."""

    def answer(ops: ScriptedOps, page: Page) -> int:
        if gate is not None:
            gate.pass_through()
        open_and_close(subject.cache, place)
        return updated(ops, page)

    return answer


def test_an_operation_that_opens_a_file_of_its_own_store_is_let_through(subject: Subject) -> None:
    subject.ops.script(0, through_the_cache(subject, Place("a")))
    assert subject.scene.start(read_page, subject, 0).result() == subject.content(0)
    assert_line_is_empty(subject)


def test_a_look_in_line_already_does_not_keep_such_an_operation_waiting(subject: Subject) -> None:
    """Somebody else opens it, behind the very request whose operation needs it now."""
    place, gate = Place("a"), subject.scene.gate()
    subject.ops.script(0, through_the_cache(subject, place, gate))
    reader = subject.scene.start(read_page, subject, 0)
    gate.wait_for_arrivals()
    other = opening(subject, place)
    subject.scene.until(lambda: device_of(subject).queued_count == 1)
    gate.open()
    assert reader.result() == subject.content(0)
    assert other.result() == "a"
    assert_line_is_empty(subject)


@pytest.mark.filterwarnings("default")
def test_close_ends_looks_that_stand_in_line(subject: Subject) -> None:
    """They are not made any more."""
    gate, late = subject.scene.gate(), Place("late")
    first = opening(subject, Place("first", gate=gate))
    gate.wait_for_arrivals()
    in_line = opening(subject, late)
    subject.scene.until(lambda: device_of(subject).queued_count == 1)
    closing = subject.scene.start(subject.cache.close)
    assert isinstance(in_line.error(), ValueError)
    gate.open()
    closing.result()
    assert isinstance(first.error(), ValueError)
    assert late.looks == 0


# -- over HTTP ---------------------------------------------------------------------------------------------------


def workers_of(cache: PageCache) -> int:
    """I/O workers that were started: none ends so soon."""
    return zone_module.IO_WORKERS_MAX - len(cache._zone.io._vacancies)


def test_hundreds_of_opens_at_once_are_no_more_requests_than_the_server_gets() -> None:
    """And no more threads than that, but for a few that are to read on."""
    names = [f"object-{number}" for number in range(200)]

    async def main(server: RangeServer, cache: PageCache) -> None:
        opens = (pagein.aio.open(server.url(name), cache=cache) for name in names)
        for file in await in_time(asyncio.gather(*opens)):
            await file.close()

    with RangeServer(dict.fromkeys(names, bytes(5000)), latency_s=0.01) as server, PageCache("16 MiB") as cache:
        asyncio.run(main(server, cache))
        assert server.stats().request_count == len(names)
        assert server.stats().max_concurrent <= REQUESTS_MAX
        assert workers_of(cache) <= REQUESTS_MAX + 16


def test_a_server_that_does_not_answer_takes_no_worker_from_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many of its files are opened."""
    monkeypatch.setattr(zone_module, "IO_WORKERS_MAX", REQUESTS_MAX + 16)
    names = [f"object-{number}" for number in range(REQUESTS_MAX + 50)]

    async def main(hung: RangeServer, other: RangeServer, cache: PageCache) -> None:
        opens = [asyncio.ensure_future(pagein.aio.open(hung.url(name), cache=cache)) for name in names]
        await in_time(asyncio.to_thread(hung.wait_for_requests, REQUESTS_MAX))
        async with await in_time(pagein.aio.open(other.url("a"), cache=cache)) as file:
            assert await in_time(file.pread(1, 1 << 20)) == b"x"
        assert not any(each.done() for each in opens)
        assert hung.stats().max_concurrent == REQUESTS_MAX
        for name in names:
            hung.release(name)
        for file in await in_time(asyncio.gather(*opens)):
            await file.close()

    with (
        RangeServer(dict.fromkeys(names, b"y")) as hung,
        RangeServer({"a": b"x" * (2 << 20)}) as other,
        PageCache("16 MiB") as cache,
    ):
        for name in names:
            hung.hold(name)
        asyncio.run(main(hung, other, cache))
