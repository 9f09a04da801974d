"""Who calls the operation of a store, who hears its error, and what is counted of it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial

import pytest
from tests.contract.harness import Scene, Subject, Task, WatchedDoor
from tests.contract.paths import PREAD, READ, RUN, on_every_path
from tests.device.harness import Inside, ask, assert_line_is_empty, complete_all, device_of, read_page

from pagein import PageCache
from pagein.mm.device import LATENCY_BOUNDS_S
from pagein.mm.page import Page
from pagein.stores.memory import MemoryStore
from pagein.testing.stores import (
    Answer,
    ScriptedOps,
    failing,
    gated,
    run_failing,
    run_updated,
    started,
    truncated,
    updated,
)
from pagein.units import PAGE_SIZE

# -- who calls an operation ------------------------------------------------------------------------------------


def assert_called_by_io_workers(inside: Inside) -> None:
    assert inside.threads
    assert {name.rpartition("-")[0] for name in inside.threads} == {"pagein-io"}


@on_every_path
@pytest.mark.parametrize("before", ["at once", "after a failure", "after another look-up"])
def test_an_operation_that_blocks_is_called_by_an_io_worker(blocking_scene, path, before):
    """And never by the reader, who waits for the page and for nothing else; whatever the answer before it was."""
    inside = Inside()
    answers: dict[str, list[Answer]] = {
        "at once": [], "after a failure": [failing(OSError(errno.EIO, "first"))] * path.asks,
        "after another look-up": [truncated],
    }  # fmt: skip
    subject = blocking_scene.open({3: map(inside.of, answers[before])}, default=inside.of(updated))
    if before == "after a failure":
        with pytest.raises(OSError, match="first"):
            blocking_scene.start(path.read_page, subject, 3).result()
    assert blocking_scene.start(path.read_page, subject, 3).result() == subject.content(3)
    assert_called_by_io_workers(inside)
    subject.assert_at_rest(*subject.uptodate())


def test_the_page_of_a_failed_run_is_asked_for_by_an_io_worker_too(blocking_scene):
    """The reader asks for it alone, and does not call that operation himself either."""
    inside = Inside()
    subject = blocking_scene.open(
        default=inside.of(updated), runs=[run_failing(OSError(errno.EIO, "the run"))], random=False
    )
    reader = blocking_scene.start(subject.file.pread, 3 * PAGE_SIZE, 0)
    assert reader.result() == subject.content(0, 3)
    assert_called_by_io_workers(inside)


@pytest.mark.parametrize("path", [READ, PREAD], ids=["read", "pread"])
def test_an_operation_that_does_not_block_is_called_by_the_reader(path):
    with Scene(debug=False) as scene:
        subject = scene.open()
        reader: Task[bytes] = scene.start(path.read_page, subject, 3)
        assert reader.result() == subject.content(3)
        (call,) = subject.ops.calls
        assert call.thread_id == reader.thread_id


def test_a_hundred_readers_and_sixteen_requests_nobody_starves(blocking_scene):
    """As many workers as there are requests, each of them again and again."""
    scene, inside = blocking_scene, Inside()
    gate = scene.gate()
    subject = scene.open(default=inside.of(gated(gate, updated)), page_count=200, cap_pages=256)
    readers = [scene.start(read_page, subject, 2 * number) for number in range(100)]
    gate.wait_for_arrivals(16)
    scene.until(lambda: device_of(subject).queued_count == 84)
    assert len(subject.ops.calls) == 16
    gate.open()
    assert [reader.result() for reader in readers] == [subject.content(2 * number) for number in range(100)]
    assert inside.most == 16
    assert len(set(inside.threads)) <= 2 * 16, "one may take a call while another is about to be idle"
    assert_called_by_io_workers(inside)
    assert_line_is_empty(subject)


@pytest.mark.parametrize("path", [PREAD, RUN], ids=["page", "run"])
def test_no_thread_to_be_had_for_it_is_the_reader_s_error_and_leaves_nothing(path):
    """And when threads are to be had again, all is well."""

    class NoThreads(WatchedDoor):
        fails = False

        def start_thread(self, name: str, run: Callable[[], None]) -> None:
            if self.fails and name.startswith("pagein-io"):
                raise RuntimeError("can't start new thread")
            super().start_thread(name, run)

    door = NoThreads()
    with Scene(debug=False, blocking=True, door=door) as scene:
        subject = scene.open()
        door.fails = True
        error = scene.start(path.read_page, subject, 3).error()
        assert isinstance(error, RuntimeError)
        subject.assert_at_rest()
        assert_line_is_empty(subject)
        door.fails = False
        assert scene.start(path.read_page, subject, 3).result() == subject.content(3)


# -- errors ----------------------------------------------------------------------------------------------------


class Mistake(Exception):
    """No OSError."""


def raising(error: BaseException) -> Answer:
    def answer(ops: ScriptedOps, page: Page) -> int:
        raise error

    return answer


@pytest.mark.parametrize(
    "error", [OSError(errno.ENXIO, "gone"), Mistake("a mistake"), SystemExit(3), MemoryError()], ids=repr
)
def test_an_error_of_an_operation_reaches_its_own_reader_unchanged(scene, error):
    """The very exception object, whatever it is; nothing is left of it, and the next reader has the page."""
    subject = scene.open({3: [raising(error)]})
    assert scene.start(read_page, subject, 3).error() is error
    subject.assert_at_rest()
    assert_line_is_empty(subject)
    assert device_of(subject).failed_requests == 1
    assert scene.start(read_page, subject, 3).result() == subject.content(3)


def test_each_of_many_readers_hears_his_own_error(scene):
    errors = [OSError(errno.EIO, f"page {index}") for index in range(30)]
    script = {2 * index: [failing(error)] for index, error in enumerate(errors)}
    subject = scene.open(script, page_count=60, requests_max=3)
    readers = [scene.start(read_page, subject, 2 * index) for index in range(30)]
    heard = [reader.error() for reader in readers]
    assert list(map(id, heard)) == list(map(id, errors))
    subject.assert_at_rest()
    assert_line_is_empty(subject)


def test_a_mistake_in_readahead_is_told_and_an_oserror_is_not(scene):
    mistake = Mistake("a mistake")
    subject = scene.open(runs=[run_failing(mistake), run_failing(OSError(errno.EIO, "the run")), run_updated])
    assert scene.start(subject.file.pread, 4 * PAGE_SIZE, 0).error() is mistake
    subject.assert_at_rest()
    assert scene.start(subject.file.pread, 4 * PAGE_SIZE, 0).result() == subject.content(0, 4)
    assert_line_is_empty(subject)


def test_an_error_of_what_is_ahead_is_nobody_s_and_the_workers_go_on(scene):
    subject = scene.open({2: [raising(Mistake())], 4: [failing(OSError(errno.EIO, "bad"))]})
    ask(subject, 2)
    ask(subject, 4)
    assert scene.start(read_page, subject, 6).result() == subject.content(6)
    subject.assert_at_rest(6)
    assert_line_is_empty(subject)
    assert device_of(subject).failed_requests == 2


# -- what is counted -------------------------------------------------------------------------------------------


class SetClock(WatchedDoor):
    """Its time is what a test says."""

    time_s = 0.0

    def now_s(self) -> float:
        return self.time_s


def _has_waiter(subject: Subject, index: int) -> bool:
    return subject.waiting_for(index) == 1


def test_each_request_is_counted_by_how_long_it_took():
    """In the class between whose bounds it is; one that failed is counted among them, and as failed."""
    door = SetClock()
    durations_s = [0.0, 0.00009, 0.00011, 0.00029, 0.009, 0.0099, 0.0101, 0.9, 9.9, 11.0, 1000.0]
    with Scene(debug=False, door=door) as scene:
        subject = scene.open(default=started, page_count=len(durations_s), requests_max=2)
        device = device_of(subject)
        for index, duration_s in enumerate(durations_s):
            reader = scene.start(read_page, subject, index)
            subject.ops.started_page(index)
            scene.until(partial(_has_waiter, subject, index))
            door.time_s += duration_s
            if duration_s == 0.9:
                subject.ops.complete(index, OSError(errno.EIO, "late"))
                assert str(reader.error()) == "[Errno 5] late"
            else:
                subject.ops.complete(index)
                reader.result()
        assert len(LATENCY_BOUNDS_S) + 1 == len(device.latencies)
        assert device.latencies == [2, 2, 0, 0, 2, 1, 0, 0, 1, 0, 1, 2]
        (store,) = subject.cache.stats().stores
        assert store.latency_counts == tuple(device.latencies)
        assert (store.name, store.requests, store.failed_requests) == ("ScriptedOps", 11, 1)
        assert (store.requests_in_flight, store.requests_in_line) == (0, 0)
        assert store.latency_s == pytest.approx(device.pipe.latency_s)


def test_the_time_in_the_line_is_not_the_store_s():
    door = SetClock()
    with Scene(debug=False, door=door) as scene:
        subject = scene.open(default=started, requests_max=1)
        readers = [scene.start(read_page, subject, 0)]
        subject.ops.started_page(0)
        readers.append(scene.start(read_page, subject, 4))
        scene.until(lambda: device_of(subject).queued_count == 1)
        door.time_s = 5.0
        subject.ops.complete(0)
        subject.ops.started_page(4)
        door.time_s = 5.005
        subject.ops.complete(4)
        for reader in readers:
            reader.result()
        assert device_of(subject).latencies[4] == 1, "5 ms"
        assert device_of(subject).latencies[10] == 1, "5 s"
        assert device_of(subject).pipe.latency_s == pytest.approx(0.005)


def test_statistics_say_what_is_in_flight_and_what_is_in_line(scene):
    gate = scene.gate()
    subject = scene.open(default=gated(gate, updated) if scene.blocking else started, requests_max=2)
    for index in (0, 2, 4, 6):
        ask(subject, index, wanted=True)
    subject.ops.wait_for_calls(2)
    stats = subject.cache.stats()
    (store,) = stats.stores
    assert (store.requests, store.requests_in_flight, store.requests_in_line) == (2, 2, 2)
    assert stats.requests_in_flight == 2
    gate.open()
    if not scene.blocking:
        complete_all(subject, count=4)
    subject.assert_at_rest(0, 2, 4, 6)
    (store,) = subject.cache.stats().stores
    assert (store.requests, store.requests_in_flight, store.requests_in_line) == (4, 0, 0)
    assert sum(store.latency_counts) == 4


def counted(subject: Subject) -> tuple[tuple[int, int, int], tuple[int, int]]:
    """(requests, failed, how many have a duration) of the store; (requests, failed) of the cache."""
    stats = subject.cache.stats()
    (store,) = stats.stores
    of_store = store.requests, store.failed_requests, sum(store.latency_counts)
    return of_store, (stats.requests, stats.failed_requests)


def test_what_is_let_go_from_the_line_is_no_request(one_at_a_time):
    """The store was never asked: it has not failed either, and has taken no time."""
    subject = one_at_a_time
    leaver = subject.another()
    for index in (10, 20, 30):
        ask(leaver, index)
    leaver.file.close()
    assert complete_all(subject, count=1) == [(0, 1)]
    assert counted(subject) == ((1, 0, 1), (1, 0))


def test_a_hole_is_no_request():
    """The cache knows that it is zeros."""
    with PageCache("1 MiB") as cache, cache.open((MemoryStore({"a": b""}), "a"), "r+b") as file:
        file.seek(100 * PAGE_SIZE)
        file.write(b"x")
        assert file.pread(PAGE_SIZE, 0) == bytes(PAGE_SIZE)
        assert file.pread(4 * PAGE_SIZE, 10 * PAGE_SIZE) == bytes(4 * PAGE_SIZE)
        stats = cache.stats()
        (store,) = stats.stores
        assert (stats.requests, stats.failed_requests) == (0, 0)
        assert (store.requests, store.failed_requests, sum(store.latency_counts)) == (0, 0, 0)


def test_an_operation_that_wants_the_page_looked_up_again_has_not_failed(scene):
    subject = scene.open({3: [truncated, truncated]})
    assert scene.start(read_page, subject, 3).result() == subject.content(3)
    assert counted(subject) == ((3, 0, 3), (3, 0))


def test_a_run_is_one_request_also_if_the_store_brings_pages_only(scene):
    """The cache counts as the store's own statistics do."""
    subject = scene.open(random=False)
    assert scene.start(subject.file.pread, 8 * PAGE_SIZE, 0).result() == subject.content(0, 8)
    assert len(subject.ops.calls) == 8
    assert counted(subject) == ((1, 0, 1), (1, 0))


def test_a_request_of_which_a_part_is_refused_has_failed_once(scene):
    """Its own reader asks for the page again that did not come."""
    subject = scene.open({2: [failing(OSError(errno.EIO, "page 2"))]}, random=False)
    assert scene.start(subject.file.pread, 4 * PAGE_SIZE, 0).result() == subject.content(0, 4)
    (requests, failed, _), of_cache = counted(subject)
    assert (failed, of_cache) == (1, (requests, 1))
