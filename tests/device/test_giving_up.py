"""Who gives up in the line before a store, and what becomes of it when the cache is closed."""

from __future__ import annotations

import threading
from functools import partial

import pytest
from tests.contract.harness import Scene, Subject, Task
from tests.contract.paths import READ, by_fault
from tests.device.harness import ask, assert_line_is_empty, complete_all, complete_all_of, device_of, read_page

from pagein import PageCache
from pagein.mm import bring
from pagein.testing.stores import (
    PATIENCE_S,
    ScriptedRunOps,
    gated,
    started,
    updated,
)
from pagein.units import PAGE_SIZE


class Interrupted(BaseException):
    """Ctrl-C, or a cancelled task."""


@pytest.mark.parametrize("another_wants_it", [False, True], ids=["nobody-else", "another-wants-it"])
def test_what_was_wanted_with_its_lock_by_who_was_interrupted_is_asked_for_only_if_another_wants_it(
    one_at_a_time, another_wants_it
):
    """Once its turn has come.  Nothing stays locked or charged, and the line goes on behind it."""
    subject = one_at_a_time
    steps = bring.lock_uptodate(subject.open_file, 20, subject.zone.door.waiter)
    next(steps)
    ask(subject, 30)
    assert device_of(subject).queued_count == 2
    with pytest.raises(Interrupted):
        steps.throw(Interrupted())
    readers = []
    if another_wants_it:
        readers.append(subject.scene.start(read_page, subject, 20))
        subject.scene.until(lambda: subject.waiting_for(20) == 1)
    subject.ops.complete(0)
    asked = [20] * another_wants_it + [30]
    assert complete_all_of(subject, *asked) == [(0, 1), *((index, 1) for index in asked)]
    assert [reader.result() for reader in readers] == [subject.content(20)] * another_wants_it
    subject.assert_at_rest(0, *asked)


def test_who_is_interrupted_when_the_page_has_come_gives_its_lock_back(one_at_a_time):
    """He was told, and has not gone on yet."""
    subject = one_at_a_time
    subject.ops.script(20, updated)
    steps = bring.lock_uptodate(subject.open_file, 20, subject.zone.door.waiter)
    waiter = next(steps)
    subject.ops.complete(0)
    assert waiter.wait(PATIENCE_S)
    assert subject.mapping.in_flight[20].locked
    with pytest.raises(Interrupted):
        steps.throw(Interrupted())
    subject.assert_at_rest(0, 20)


def test_who_is_interrupted_while_the_page_is_on_its_way_leaves_it_to_the_store(one_at_a_time):
    """Which unlocks it when it has come."""
    subject = one_at_a_time
    steps = bring.lock_uptodate(subject.open_file, 20, subject.zone.door.waiter)
    next(steps)
    subject.ops.complete(0)
    subject.ops.started_page(20)
    with pytest.raises(Interrupted):
        steps.throw(Interrupted())
    subject.ops.complete(20)
    subject.assert_at_rest(0, 20)


def test_who_is_interrupted_while_the_operation_runs_leaves_the_unlocking_to_who_called_it(blocking_scene):
    """Though the page was to come with its lock."""
    gate = blocking_scene.gate()
    subject = blocking_scene.open({2: [gated(gate, updated)]})
    steps = bring.lock_uptodate(subject.open_file, 2, subject.zone.door.waiter)
    next(steps)
    gate.wait_for_arrivals(1)
    with pytest.raises(Interrupted):
        steps.throw(Interrupted())
    gate.open()
    subject.assert_at_rest(2)


def test_a_request_whose_reader_was_interrupted_is_had_all_the_same(one_at_a_time):
    """It serves whoever else wants the page."""
    subject = one_at_a_time
    steps = bring.Bring(subject.open_file, 20, 1)(subject.zone.door.waiter)
    next(steps)
    other = subject.scene.start(read_page, subject, 20)
    subject.scene.until(lambda: subject.waiting_for(20) == 2)
    with pytest.raises(Interrupted):
        steps.throw(Interrupted())
    assert subject.waiting_for(20) == 1
    assert complete_all(subject, count=2) == [(0, 1), (20, 1)]
    assert other.result() == subject.content(20)
    subject.assert_at_rest(0, 20)


def test_what_a_closed_file_was_to_read_ahead_is_not_asked_for(one_at_a_time):
    """Once its turn has come: unless somebody has come to want it meanwhile."""
    subject = one_at_a_time
    leaver = subject.another()
    for index in (10, 12, 14):
        ask(leaver, index)
    reader = subject.scene.start(read_page, subject, 12)
    subject.scene.until(lambda: subject.waiting_for(12) == 1)
    leaver.file.close()
    assert complete_all(subject, count=2) == [(0, 1), (12, 1)]
    assert reader.result() == subject.content(12)
    subject.assert_at_rest(0, 12)


# -- the end -----------------------------------------------------------------------------------------------------


def closing(scene: Scene, subject: Subject, *, readers: int) -> list[Task[bytes]]:
    """Readers of pages 0, 2, 4, ...: as many in flight as the store takes, the others in line; the cache is closed."""
    device = device_of(subject)
    tasks = [scene.start(read_page, subject, 2 * number) for number in range(readers)]
    scene.until(lambda: device.in_flight + device.queued_count == readers)
    subject.ops.wait_for_calls(device.requests_max)
    waiting = {2 * number for number in range(readers)}
    scene.until(lambda: all(subject.waiting_for(index) == 1 for index in waiting))
    scene.start(subject.cache.close).result()
    return tasks


@pytest.mark.filterwarnings("default")
def test_close_ends_what_stands_in_line_though_the_store_is_silent(scene):
    """Its readers get ValueError at once; who waits for what is in flight gets it when that has ended."""
    gate = scene.gate()
    subject = scene.open(default=gated(gate, updated) if scene.blocking else started, page_count=20, requests_max=2)
    readers = closing(scene, subject, readers=6)
    in_flight = [call.index for call in subject.ops.calls]
    try:
        for number, reader in enumerate(readers):
            if 2 * number not in in_flight:
                reader.join(1.0)
                assert isinstance(reader.error(), ValueError)
        assert len(subject.ops.calls) == 2, "nothing more was asked for"
    finally:
        gate.open()
        if not scene.blocking:
            for index in in_flight:
                subject.ops.complete(index)
    for index in in_flight:
        assert isinstance(readers[index // 2].error(), ValueError)
    assert subject.mapping.in_flight == {}
    assert not subject.zone.locked
    assert_line_is_empty(subject)


def test_close_ends_what_is_in_flight_and_in_line_once_the_store_answers(scene):
    """Every reader gets ValueError, and nothing is asked for that was not."""
    gate = scene.gate()
    subject = scene.open(default=gated(gate, updated) if scene.blocking else started, page_count=20, requests_max=2)
    readers = closing(scene, subject, readers=6)
    gate.open()
    if not scene.blocking:
        for call in list(subject.ops.calls):
            subject.ops.complete(call.index)
    assert {type(reader.error()) for reader in readers} == {ValueError}
    assert len(subject.ops.calls) == 2
    assert subject.mapping.in_flight == {}
    assert not subject.zone.locked
    assert_line_is_empty(subject)


@pytest.mark.filterwarnings("default")
def test_close_ends_who_stands_in_line_to_ask_for_himself(scene):
    """With the page's lock held, as a fault does: he does not ask any more."""
    gate = scene.gate()
    subject = scene.open({0: [gated(gate, updated) if scene.blocking else started]}, requests_max=1)
    first = scene.start(read_page, subject, 0)
    subject.ops.wait_for_calls(1)
    fault = scene.start(by_fault, subject, 4)
    scene.until(lambda: device_of(subject).queued_count == 1)
    scene.until(lambda: subject.waiting_for(0) == 1)
    scene.start(subject.cache.close).result()
    gate.open()
    if not scene.blocking:
        subject.ops.complete(0)
    assert isinstance(first.error(), ValueError)
    assert isinstance(fault.error(), ValueError)
    assert len(subject.ops.calls) == 1
    assert not subject.zone.locked
    assert_line_is_empty(subject)


def test_after_close_nothing_is_asked_for(scene):
    subject = scene.open()
    subject.file.pread(1, 0)
    scene.start(subject.cache.close).result()
    for read in (partial(subject.file.pread, 1, PAGE_SIZE), partial(READ.read_page, subject, 1)):
        assert isinstance(scene.start(read).error(), ValueError)
    assert len(subject.ops.calls) == 1


def test_io_workers_end_with_their_cache():
    ops = ScriptedRunOps()
    ops.blocking = True
    cache = PageCache("1 MiB")
    with cache.inode(ops, size_bytes=PAGE_SIZE).open() as file:
        before = set(threading.enumerate())
        assert file.read() == ops.content(0, PAGE_SIZE)
        workers = [one for one in set(threading.enumerate()) - before if one.name.startswith("pagein-io")]
        assert workers
        assert all(worker.daemon for worker in workers)
    cache.close()
    for worker in workers:
        worker.join(PATIENCE_S)
        assert not worker.is_alive()
