"""Items 18 to 20, 22 and 23: many readers of one page, readers who will not wait, and runs of which a part is here.

Item 21, the interrupted reader, is in test_interrupt.py.
"""

from __future__ import annotations

import errno
import threading
from functools import partial
from typing import Any

import pytest
from tests.contract.harness import RecordedLock, Subject, lock_uptodate
from tests.contract.paths import PATHS, PREAD, RETRIED_FAULT, by_fault, memory, on_every_path

from pagein.mm import filemap, readahead
from pagein.mm.filemap import Fault, FaultFlags, FaultResult, ReadFlags
from pagein.mm.page import Page
from pagein.testing.leaks import settle
from pagein.testing.stores import (
    PATIENCE_S,
    Answer,
    ScriptedOps,
    completed_with,
    failing,
    gated,
    run_failing,
    run_page_by_page,
    run_short,
    run_started,
    run_updated,
    short,
    started,
    updated,
)
from pagein.units import PAGE_SIZE

HERE = 3


@pytest.fixture(params=["plain", "debug", "blocking", "readers call"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def io_errors(count: int) -> list[OSError]:
    return [OSError(errno.ENXIO, f"no such device (call {number})") for number in range(1, count + 1)]


# -- one page, many readers ------------------------------------------------------------------------------------


def test_item_18_readers_of_one_missing_page_cause_one_fetch(scene):
    """Nine readers on nine paths miss the same page: the store is asked once, the others wait for that page."""
    gate = scene.gate()
    subject = scene.open({HERE: [gated(gate, updated)]})
    readers = [scene.start(PREAD.read_page, subject, HERE)]
    gate.wait_for_arrivals()
    readers += [scene.start(path.read_page, subject.another(), HERE) for path in PATHS]
    scene.until(lambda: subject.waiting_for(HERE) == len(PATHS) + scene.blocking)
    assert list(subject.mapping.in_flight) == [HERE]
    gate.open()
    assert [reader.result() for reader in readers] == [subject.content(HERE)] * (len(PATHS) + 1)
    assert len(subject.ops.calls_of(HERE)) == 1
    subject.assert_at_rest(HERE, HERE + 1)


def test_item_18_the_loser_of_the_insertion_waits_too(scene, monkeypatch):
    """A reader that saw no page, and finds one in its place when it comes to insert its own, waits for that one."""
    between, fetch = scene.gate(), scene.gate()
    subject = scene.open({HERE: [gated(fetch, updated)]})
    window_of = readahead._window
    late = threading.local()

    def window_slowly(*args: Any, **kwargs: Any) -> Any:
        if getattr(late, "here", False):
            late.here = False
            between.pass_through()
        return window_of(*args, **kwargs)

    def read_late() -> bytes:
        late.here = True
        return PREAD.read_page(subject, HERE)

    monkeypatch.setattr(readahead, "_window", window_slowly)
    loser = scene.start(read_late)
    between.wait_for_arrivals()
    winner = scene.start(PREAD.read_page, subject.another(), HERE)
    fetch.wait_for_arrivals()
    between.open()
    scene.until(lambda: subject.waiting_for(HERE) == 1 + scene.blocking)
    assert subject.zone.reserved_pages == 0
    fetch.open()
    assert winner.result() == loser.result() == subject.content(HERE)
    assert len(subject.ops.calls_of(HERE)) == 1
    subject.assert_at_rest(HERE)


def test_item_18_overlapping_runs_ask_for_each_page_once(scene):
    """The second reader waits for what the first is fetching, and fetches only the rest."""
    gate = scene.gate()
    subject = scene.open(runs=[gated(gate, run_updated)])
    first = scene.start(subject.file.pread, 4 * PAGE_SIZE, 0)
    gate.wait_for_arrivals()
    second = scene.start(subject.another().file.pread, 4 * PAGE_SIZE, 2 * PAGE_SIZE)
    scene.until(lambda: subject.waiting_for(2) == 1 + scene.blocking)
    gate.open()
    assert first.result() == subject.content(0, 4)
    assert second.result() == subject.content(2, 4)
    assert subject.ops.asked() == [("readahead", 0, 4), ("readahead", 4, 2)]
    subject.assert_at_rest(*range(6))


def test_item_18_a_run_ends_before_a_page_that_is_in_flight(scene):
    """A reader whose run meets another's page takes what lies before it and behind, and waits for that page."""
    subject = scene.open({HERE: [started]}, runs=[])
    first = scene.start(PREAD.read_page, subject, HERE)
    subject.ops.started_page(HERE)
    second = scene.start(subject.another().file.pread, 6 * PAGE_SIZE, 0)
    scene.until(lambda: subject.waiting_for(HERE) == 2)
    assert subject.uptodate() == [0, 1, 2, 4, 5]
    assert list(subject.mapping.in_flight) == [HERE]
    subject.ops.complete(HERE)
    assert first.result() == subject.content(HERE)
    assert second.result() == subject.content(0, 6)
    first_call, *calls = subject.ops.asked()
    assert first_call == ("readpage", HERE, 1)
    assert (sorted(calls) if scene.blocking else calls) == [("readahead", 0, 3), ("readahead", 4, 2)]
    subject.assert_at_rest(*range(6))


class Turns:
    """Counts how many are in readpage at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def of(self, answer: Answer) -> Answer:
        def in_turn(ops: ScriptedOps, page: Page) -> int:
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                return answer(ops, page)
            finally:
                self.now -= 1

        return in_turn


def failed_run_with_waiters(scene, answers: list[Answer], readers: int) -> tuple[Subject, list[BaseException | bytes]]:
    """*readers* want page 0; the run in which it was to come fails; *answers* then are its readpage's."""
    gate = scene.gate()
    failure = gated(gate, run_failing(OSError(errno.ETIMEDOUT, "the run")))
    subject = scene.open({0: answers}, runs=[failure])
    tasks = [scene.start(subject.file.pread, 2 * PAGE_SIZE, 0)]
    gate.wait_for_arrivals()
    tasks += [scene.start(subject.another().file.pread, PAGE_SIZE, 0) for _ in range(readers - 1)]
    scene.until(lambda: subject.waiting_for(0) == readers - 1 + scene.blocking)
    gate.open()
    outcomes: list[BaseException | bytes] = []
    for task in tasks:
        try:
            outcomes.append(task.result()[:PAGE_SIZE])
        except OSError as error:
            outcomes.append(error)
    return subject, outcomes


def test_item_19_every_waiter_of_a_failed_run_tries_for_itself_in_turn(scene):
    """All fail: each reader asked once, one at a time, and each heard its own error; nobody heard the run's."""
    turns, errors = Turns(), io_errors(5)
    subject, outcomes = failed_run_with_waiters(scene, [turns.of(failing(error)) for error in errors], readers=5)
    assert sorted(map(str, outcomes)) == sorted(map(str, errors))
    assert set(map(id, outcomes)) == set(map(id, errors)), "each error has one reader"
    calls = subject.ops.calls_of(0)
    assert len(calls) == 5, "N failures cost N calls"
    assert scene.blocking or len({call.thread_id for call in calls}) == 5
    assert all(call.locked and call.owned for call in calls)
    assert turns.most == 1
    subject.assert_at_rest()


@pytest.mark.parametrize("failures", [0, 1, 3])
def test_item_19_the_first_success_serves_the_rest(scene, failures):
    """After it nobody asks again: those who stand in line find the page."""
    turns, errors = Turns(), io_errors(failures)
    answers = [turns.of(answer) for answer in [*map(failing, errors), updated]]
    subject, outcomes = failed_run_with_waiters(scene, answers, readers=5)
    assert {id(outcome) for outcome in outcomes if isinstance(outcome, OSError)} == set(map(id, errors))
    assert outcomes.count(subject.content(0)) == 5 - failures
    assert len(subject.ops.calls_of(0)) == failures + 1
    assert turns.most == 1
    subject.assert_at_rest(*subject.uptodate())
    assert 0 in subject.uptodate()


def test_item_19_an_asynchronous_failure_is_heard_by_its_own_reader_only(scene):
    """The one who started the read has its error; who only waited for the page asks anew, and has the page."""
    error = OSError(errno.ETIMEDOUT, "too late")
    subject = scene.open({HERE: [started]})
    first = scene.start(PREAD.read_page, subject, HERE)
    subject.ops.started_page(HERE)
    others = [scene.start(path.read_page, subject.another(), HERE) for path in PATHS]
    scene.until(lambda: subject.waiting_for(HERE) == 1 + len(PATHS))
    subject.ops.complete(HERE, error)
    assert first.error() is error
    assert [other.result() for other in others] == [subject.content(HERE)] * len(PATHS)
    assert len(subject.ops.calls_of(HERE)) == 2
    subject.assert_at_rest(HERE, HERE + 1)


def by_lock(subject: Subject, index: int) -> bytes:
    page = lock_uptodate(subject.open_file, index)
    assert page is not None
    assert page.locked
    assert page.owner == threading.get_ident()
    start = (subject.mapping.base + index) * PAGE_SIZE
    data = memory(subject, start, start + PAGE_SIZE)
    page.unlock()
    return data


@pytest.mark.parametrize("reader", [by_fault, by_lock])
def test_item_20_who_gets_the_lock_after_a_fill_does_not_read_again(scene, reader):
    """A reader in line for the lock finds the page Uptodate when its turn comes, and asks the store nothing."""
    subject = scene.open()
    page = subject.mapping.lock_page(HERE)
    waiting = [scene.start(reader, subject, HERE) for _ in range(3)]
    scene.until(lambda: subject.waiting_for(HERE) == 3)
    subject.ops.fill(page)
    page.set_uptodate()
    assert all(task.running for task in waiting)
    page.unlock()
    assert [task.result() for task in waiting] == [subject.content(HERE)] * 3
    assert subject.ops.calls == []
    subject.assert_at_rest(HERE)


def test_item_20_the_lock_is_served_in_the_order_of_arrival(scene):
    """First come, first served: no reader is overtaken, whoever asks when the lock is free for a moment."""
    subject = scene.open()
    order: list[int] = []

    def lock_and_note(number: int) -> None:
        page = subject.mapping.lock_page(HERE)
        order.append(number)
        page.unlock()

    page = subject.mapping.lock_page(HERE)
    tasks = []
    for number in range(6):
        tasks.append(scene.start(lock_and_note, number))
        scene.until(lambda count=number + 1: subject.waiting_for(HERE) == count)
    page.unlock()
    for task in tasks:
        task.result()
    assert order == list(range(6))
    subject.assert_at_rest()


# -- readers who will not wait -------------------------------------------------------------------------------------


def read_with(subject: Subject, flags: ReadFlags, index: int = 0, page_count: int = 1) -> bytes:
    take = partial(memory, subject)
    return b"".join(filemap.read(subject.open_file, index * PAGE_SIZE, page_count * PAGE_SIZE, take, flags=flags))


def test_item_22_nowait_starts_the_read_and_returns(scene):
    """An absent page: EAGAIN at once, with the read under way for the next who asks, and no lock of ours left."""
    gate = scene.gate()
    subject = scene.open({HERE: [gated(gate, updated)]})
    with pytest.raises(BlockingIOError) as raised:
        read_with(subject, ReadFlags.NOWAIT, HERE)
    assert raised.value.errno == errno.EAGAIN
    gate.wait_for_arrivals()
    with pytest.raises(BlockingIOError):
        read_with(subject, ReadFlags.NOWAIT, HERE)
    assert subject.mapping.in_flight[HERE].owner != threading.get_ident()
    assert subject.waiting_for(HERE) <= 1 + scene.blocking, "only the second background read may be in line"
    gate.open()
    assert settle(subject.zone, PATIENCE_S)
    assert read_with(subject, ReadFlags.NOWAIT, HERE) == subject.content(HERE)
    assert len(subject.ops.calls_of(HERE)) == 1
    subject.assert_at_rest(HERE)


def test_item_22_noio_starts_nothing(scene):
    """Neither a page that is absent nor one that is in flight makes it wait or ask; one that is here it reads."""
    subject = scene.open({1: [started]})
    for flags in (ReadFlags.NOIO, ReadFlags.NOIO | ReadFlags.NOWAIT):
        with pytest.raises(BlockingIOError):
            read_with(subject, flags, 0)
    assert subject.ops.calls == []
    subject.assert_at_rest()
    reader = scene.start(PREAD.read_page, subject, 1)
    subject.ops.started_page(1)
    with pytest.raises(BlockingIOError):
        read_with(subject, ReadFlags.NOIO, 1)
    subject.ops.complete(1)
    assert reader.result() == read_with(subject, ReadFlags.NOIO, 1) == subject.content(1)
    assert len(subject.ops.calls) == 1
    subject.assert_at_rest(1)


@pytest.mark.parametrize("flags", [ReadFlags.NOWAIT, ReadFlags.NOIO])
def test_item_22_what_is_here_is_returned(scene, flags):
    """Pages that are here, then one that is not: the bytes so far, and no error."""
    subject = scene.open()
    subject.file.pread(2 * PAGE_SIZE, 0)
    assert read_with(subject, flags, 0, 4) == subject.content(0, 2)
    assert settle(subject.zone, PATIENCE_S)
    subject.ops.wait_for_calls(4 if flags is ReadFlags.NOWAIT else 2)
    assert settle(subject.zone, PATIENCE_S)
    assert not subject.mapping.in_flight


def test_item_22_a_fault_that_may_not_wait_keeps_its_lock(scene):
    """RETRY_NOWAIT: the read starts, the address-space lock was never let go, nothing is locked by the caller."""
    gate = scene.gate()
    subject = scene.open({HERE: [gated(gate, updated)]})
    lock = RecordedLock()
    vmf = Fault(subject.open_file, HERE, lock, FaultFlags.ALLOW_RETRY | FaultFlags.RETRY_NOWAIT)
    assert filemap.fault(vmf) == FaultResult.RETRY | FaultResult.MAJOR
    gate.wait_for_arrivals()
    assert filemap.fault(vmf) == FaultResult.RETRY, "by now somebody is reading it: no major fault"
    assert (lock.held, lock.releases, vmf.page) == (True, 0, None)
    gate.open()
    assert settle(subject.zone, PATIENCE_S)
    assert filemap.fault(vmf) == FaultResult.LOCKED
    assert vmf.page is not None
    vmf.page.unlock()
    assert len(subject.ops.calls_of(HERE)) == 1
    subject.assert_at_rest(HERE)


# -- a part is here --------------------------------------------------------------------------------------------------


@on_every_path
def test_item_23_what_has_come_of_a_run_is_read_while_the_rest_is_in_flight(scene, path):
    """The part that a reader asks for is here: it asks for nothing, waits for nothing, and the rest stays locked."""
    subject = scene.open(runs=[run_page_by_page])
    leader = scene.start(subject.file.pread, 6 * PAGE_SIZE, 0)
    for index in (2, 3, 4):
        subject.ops.complete(index)
    assert sorted(subject.mapping.in_flight) == [0, 1, 5]
    assert path.read_page(subject.another(), HERE) == subject.content(HERE)
    assert subject.ops.asked() == [("readahead", 0, 6)]
    assert sorted(subject.mapping.in_flight) == [0, 1, 5]
    for index in (5, 1, 0):
        subject.ops.complete(index)
    assert leader.result() == subject.content(0, 6)
    assert subject.ops.asked() == [("readahead", 0, 6)]
    subject.assert_at_rest(*range(6))


@on_every_path
def test_item_23_what_has_not_come_of_a_run_is_asked_for_by_itself(scene, path):
    """The store brought less than the run: the rest is unlocked, not Uptodate, and had by whoever needs it."""
    subject = scene.open(runs=[run_short(2)], random=False, cap_pages=1024)
    assert subject.file.pread(1, 0) == subject.ops.content(0, 1)
    (run,) = subject.ops.calls
    assert run.page_count > HERE
    subject.assert_at_rest(0, 1)
    reader = subject.another()
    reader.file.advise("random")
    assert path.read_page(reader, HERE) == subject.content(HERE)
    asked = ("readpage", HERE, 1) if path.page_count == 1 else ("readahead", HERE, 2)
    assert subject.ops.asked()[1:] == [asked]
    subject.assert_at_rest(0, 1, *range(HERE, HERE + path.page_count))


@on_every_path
def test_item_23_half_a_page_is_no_page(scene, path):
    """A page is Uptodate as a whole or not at all: bytes of an answer that broke off are served to nobody."""
    gate = scene.gate()

    def broke_off(ops: ScriptedOps, page: Page) -> int:
        page.buffer[:100] = b"\xee" * 100
        gate.pass_through()
        return short(100)(ops, page)

    subject = scene.open({HERE: [broke_off, short(PAGE_SIZE - 1)]})
    first = scene.start(PREAD.read_page, subject, HERE)
    gate.wait_for_arrivals()
    second = scene.start(path.read_page, subject.another(), HERE)
    scene.until(lambda: subject.waiting_for(HERE) == 1 + scene.blocking)
    assert second.running, "the bytes that it wants may be there; nobody can say so"
    gate.open()
    error = first.error()
    assert isinstance(error, OSError)
    assert error.errno == errno.EIO
    if path is RETRIED_FAULT:
        assert second.result() == subject.content(HERE), "its second try asked again"
    else:
        assert second.error().args[0] == errno.EIO
    assert path.read_page(subject, HERE) == subject.content(HERE)
    subject.assert_at_rest(*subject.uptodate())


def test_item_23_a_page_of_a_run_that_ended_with_an_error_is_not_here(scene):
    """An asynchronous run that fails unlocks all its pages, none of them Uptodate; readers ask for them alone."""
    error = OSError(errno.EIO, "the run")
    subject = scene.open(runs=[run_started])
    reader = scene.start(subject.file.pread, 3 * PAGE_SIZE, 0)
    subject.ops.complete(0, error)
    assert reader.result() == subject.content(0, 3)
    assert subject.ops.asked()[:2] == [("readahead", 0, 3), ("readpage", 0, 1)]
    subject.assert_at_rest(0, 1, 2)


def test_a_background_read_that_fails_leaves_nothing(scene):
    """Nobody hears its error, and nobody has its pages."""
    subject = scene.open({0: [completed_with(OSError(errno.EIO, "nobody's"))]}, page_count=1)
    with pytest.raises(BlockingIOError):
        read_with(subject, ReadFlags.NOWAIT)
    subject.ops.wait_for_calls(1)
    assert settle(subject.zone, PATIENCE_S)
    subject.assert_at_rest()
