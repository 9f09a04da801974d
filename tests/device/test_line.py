"""The line before a store: how many requests are in flight, who is next, what becomes one request."""

from __future__ import annotations

import errno
import gc
import threading

import pytest
from tests.contract.harness import Scene, Subject, Task
from tests.device.harness import Inside, ask, assert_line_is_empty, complete_all, complete_all_of, device_of, read_page

from pagein.mm import bring, device as device_module
from pagein.mm.pipe import WIDTH_START
from pagein.mm.request import Request
from pagein.testing.stores import (
    PATIENCE_S,
    completed,
    failing,
    gated,
    run_started,
    started,
    updated,
)

# -- how many --------------------------------------------------------------------------------------------------
from pagein.units import PAGE_SIZE


def test_no_more_requests_are_in_flight_than_the_store_takes_and_every_reader_is_served(scene, blocking):
    """Thirty readers, four requests: the others wait in line, in the order in which they came."""
    gate, inside = scene.gate(), Inside()
    answer = inside.of(gated(gate, updated)) if blocking else started
    subject = scene.open(default=answer, page_count=64, cap_pages=64, requests_max=4)
    device = device_of(subject)
    readers = []
    for number in range(30):
        readers.append(scene.start(read_page, subject, 2 * number))
        scene.until(lambda number=number: device.in_flight + device.queued_count == number + 1)
    subject.ops.wait_for_calls(4)
    assert (device.in_flight, device.queued_count) == (4, 26)
    assert len(subject.ops.calls) == 4
    if blocking:
        gate.open()
    else:
        for number in range(30):
            subject.ops.wait_for_calls(number + 1)
            assert len(subject.ops.calls) <= number + 4
            subject.ops.complete(subject.ops.calls[number].index)
        asked = [call.index for call in subject.ops.calls]
        assert sorted(asked[:4]) + asked[4:] == list(range(0, 60, 2)), "first come, first served"
    assert [reader.result() for reader in readers] == [subject.content(index) for index in range(0, 60, 2)]
    assert inside.most <= 4
    subject.assert_at_rest(*range(0, 60, 2))
    assert_line_is_empty(subject)


def test_what_is_ahead_takes_as_many_requests_as_fill_the_pipe(scene):
    """Not as many as the store takes: what a reader waits for finds room beside it."""
    gate = scene.gate()
    subject = scene.open(default=gated(gate, updated) if scene.blocking else started, page_count=64)
    device = device_of(subject)
    for index in range(0, 40, 2):
        ask(subject, index)
    assert (device.in_flight, device.queued_count) == (WIDTH_START, 20 - WIDTH_START)
    reader = scene.start(read_page, subject, 50)
    subject.ops.wait_for_calls(WIDTH_START + 1)
    assert device.in_flight == WIDTH_START + 1
    gate.open()
    if not scene.blocking:
        complete_all(subject, count=21)
    assert reader.result() == subject.content(50)
    subject.assert_at_rest(*range(0, 40, 2), 50)
    assert_line_is_empty(subject)


# -- who is next -----------------------------------------------------------------------------------------------


def test_what_a_reader_waits_for_goes_before_what_is_ahead(one_at_a_time):
    subject = one_at_a_time
    for index in (10, 12, 14):
        ask(subject, index)
    reader = subject.scene.start(read_page, subject, 40)
    subject.scene.until(lambda: device_of(subject).queued_count == 4)
    assert complete_all(subject, count=5) == [(0, 1), (40, 1), (10, 1), (12, 1), (14, 1)]
    assert reader.result() == subject.content(40)


def test_two_streams_ahead_take_turns(one_at_a_time):
    """Each open file in turn, however much one of them asks for."""
    first, second = one_at_a_time.another(), one_at_a_time.another()
    for index in range(10, 20, 2):
        ask(first, index)
    for index in range(30, 36, 2):
        ask(second, index)
    order = [index for index, _ in complete_all(one_at_a_time, count=9)]
    assert order == [0, 10, 30, 12, 32, 14, 34, 16, 18]


def test_a_stream_that_begins_later_has_its_share_of_what_is_in_flight():
    """Who was first has all of the pipe until then, and his share after that: not more of it for every turn that is
    his; and all of it again, when the other has ended."""
    with Scene(debug=True) as scene:
        subject = scene.open(default=started, page_count=64)
        first, second = subject.another(), subject.another()
        for index in range(0, 24, 2):
            ask(first, index)
        assert [call.index for call in subject.ops.calls] == [0, 2, 4, 6]
        assert len(subject.ops.calls) == WIDTH_START
        for index in (40, 42, 44):
            ask(second, index)
        complete_all_of(subject, 0, 2)
        assert [call.index for call in subject.ops.calls[4:]] == [40, 42], "two each"
        complete_all_of(subject, 40, 4)
        assert [call.index for call in subject.ops.calls[6:]] == [44, 8]
        complete_all_of(subject, 42, 44)
        assert [call.index for call in subject.ops.calls[8:]] == [10, 12], "four of the first again"
        assert device_of(subject).in_flight == WIDTH_START
        complete_all_of(subject, 6, 8, 10, 12, 14, 16, 18, 20, 22)
        assert_line_is_empty(subject)


def hint(subject: Subject, indices: range) -> None:
    """Say of each of these pages that it will be needed; they are in line, or asked for, by then."""
    for index in indices:
        subject.file.advise("willneed", index * PAGE_SIZE, PAGE_SIZE)
    device = device_of(subject)
    subject.scene.until(lambda: device.in_flight + device.queued_count == len(indices))


def test_however_much_a_reader_has_said_that_he_will_need_what_he_reads_is_asked_for_as_before():
    """All of it is one stream beside him: it does not make his share of the cache that of one among a hundred."""
    with Scene(debug=True) as scene:
        subject = scene.open(default=started, runs=[run_started], page_count=1024, cap_pages=4096, random=False)
        hint(subject, range(0, 200, 2))
        assert len(subject.zone.streams) == 1
        reader = scene.start(subject.file.pread, 256 * PAGE_SIZE, 512 * PAGE_SIZE)
        scene.until(lambda: subject.waiting_for(512) == 1)
        assert [(call.index, call.page_count) for call in subject.ops.calls[WIDTH_START:]] == [(512, 256)]
        subject.ops.complete(512)
        assert reader.result() == subject.content(512, 256)
        complete_all(subject, count=101, done=(512,))
        assert_line_is_empty(subject)


def test_what_is_ahead_of_a_reader_does_not_stand_behind_all_that_he_has_said_he_will_need():
    """They take turns, as two streams do."""
    with Scene(debug=True) as scene:
        subject = scene.open(default=started, page_count=64)
        hint(subject, range(0, 40, 2))
        hinted = [call.index for call in subject.ops.calls]
        assert len(hinted) == WIDTH_START
        for index in (50, 52, 54):
            ask(subject, index)
        for index in hinted[:3]:
            subject.ops.complete(index)
        assert [call.index for call in subject.ops.calls[WIDTH_START:]][:2] == [50, 52], "two each"
        complete_all(subject, count=23, done=hinted[:3])
        assert_line_is_empty(subject)


def test_who_asks_for_no_more_leaves_all_the_rest_of_the_pipe_to_who_does():
    """A single request of his that does not end is one place less for them, and no share."""
    with Scene(debug=True) as scene:
        subject = scene.open(default=started, page_count=64)
        slow, only = subject.another(), subject.another()
        ask(slow, 60)
        for index in range(0, 20, 2):
            ask(only, index)
        assert [call.index for call in subject.ops.calls] == [60, 0, 2, 4]
        for done, index in enumerate(range(0, 20, 2)):
            assert device_of(subject).in_flight == min(WIDTH_START, 1 + 10 - done)
            subject.ops.complete(index)
        subject.ops.complete(60)
        assert_line_is_empty(subject)


def test_what_those_keep_who_ask_for_no_more_is_not_shared_once_more():
    """Of four, two are in flight for one who asks for no more: each of two others gets one, whoever comes first."""
    with Scene(debug=True) as scene:
        subject = scene.open(default=started, page_count=64)
        slow, first, second = (subject.another() for _ in range(3))
        for index in (60, 62):
            ask(slow, index)
        for index in range(0, 8, 2):
            ask(first, index)
        for index in range(20, 28, 2):
            ask(second, index)
        assert [call.index for call in subject.ops.calls] == [60, 62, 0, 2]
        complete_all_of(subject, 0, 2)
        assert [call.index for call in subject.ops.calls[4:]] == [20, 4]
        complete_all_of(subject, 60, 62)
        assert [call.index for call in subject.ops.calls[6:]] == [22, 6], "two each, when he keeps nothing"
        complete_all_of(subject, 20, 4, 22, 6, 24, 26)
        assert_line_is_empty(subject)


def test_two_files_of_one_store_take_turns(one_at_a_time):
    subject = one_at_a_time
    other = subject.scene.open(default=started, runs=[], page_count=8, cache=subject.cache)
    assert device_of(other) is device_of(subject)
    ask(subject, 10)
    ask(subject, 12)
    ask(other, 5)
    subject.ops.complete(0)
    subject.ops.complete(10)
    other.ops.complete(5)
    subject.ops.complete(12)
    other.assert_at_rest(5)


def test_stores_do_not_wait_for_one_another(one_at_a_time):
    subject = one_at_a_time
    other = subject.scene.open(default=completed, page_count=8, cache=subject.cache)
    assert device_of(other) is not device_of(subject)
    ask(subject, 10)
    assert read_page(other, 3) == other.content(3)
    assert device_of(subject).queued_count == 1
    complete_all(subject, count=2)


# -- neighbours ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [10, 11, 12, 13])
def test_what_lies_side_by_side_in_the_line_becomes_one_request(one_at_a_time, first):
    """In both directions from the one whose turn it is, which the others need not have come before."""
    subject = one_at_a_time
    for index in [first, *(index for index in (13, 10, 12, 11) if index != first)]:
        ask(subject, index)
    ask(subject, 15)
    assert device_of(subject).queued_count == 5
    assert complete_all(subject, count=3) == [(0, 1), (10, 4), (15, 1)]
    subject.assert_at_rest(0, 10, 11, 12, 13, 15)


def test_runs_become_one_request_with_the_marker_that_one_of_them_bears(one_at_a_time):
    subject = one_at_a_time
    ask(subject, 10, 3)
    ask(subject, 16, 4).page.marker_index = 17
    ask(subject, 13, 3)
    subject.ops.complete(0)
    page = subject.ops.started_page(10)
    assert (page.index, page.page_count, page.marker_index) == (10, 10, 17)
    assert {subject.mapping.in_flight[index] for index in range(10, 20)} == {page}
    subject.ops.complete(10)
    subject.assert_at_rest(0, *range(10, 20))


def test_each_waiter_gets_its_own_page_of_what_became_one_request(one_at_a_time):
    subject = one_at_a_time
    readers: dict[int, Task[bytes]] = {}
    for index in (22, 20, 21):
        readers[index] = subject.scene.start(read_page, subject, index)
        subject.scene.until(lambda: device_of(subject).queued_count == len(readers))
    ask(subject, 23)
    assert complete_all(subject, count=3) == [(0, 1), (20, 3), (23, 1)]
    assert {index: reader.result() for index, reader in readers.items()} == {
        index: subject.content(index) for index in (20, 21, 22)
    }
    assert device_of(subject).requests == 3


def test_an_error_of_what_became_one_request_is_nobody_s(one_at_a_time):
    """Each reader asks for his own page then, and hears that answer."""
    subject = one_at_a_time
    errors = {index: OSError(errno.EIO, f"page {index}") for index in (20, 21, 22)}
    for index, error in errors.items():
        subject.ops.script(index, failing(error))
    readers: dict[int, Task[bytes]] = {}
    for index in errors:
        readers[index] = subject.scene.start(read_page, subject, index)
        subject.scene.until(lambda: device_of(subject).queued_count == len(readers))
    subject.ops.complete(0)
    subject.ops.complete(20, OSError(errno.EIO, "the run"))
    assert {index: reader.error() for index, reader in readers.items()} == errors
    subject.assert_at_rest(0)


def test_what_a_reader_waits_for_does_not_become_one_request_with_what_is_ahead(one_at_a_time):
    """He would wait for that, too."""
    subject = one_at_a_time
    ask(subject, 11)
    ask(subject, 13)
    reader = subject.scene.start(read_page, subject, 12)
    subject.scene.until(lambda: device_of(subject).queued_count == 3)
    assert complete_all(subject, count=4) == [(0, 1), (12, 1), (11, 1), (13, 1)]
    assert reader.result() == subject.content(12)


def test_what_is_ahead_becomes_no_larger_request_than_the_pipe_wants(one_at_a_time, monkeypatch):
    subject = one_at_a_time
    monkeypatch.setattr(type(device_of(subject).pipe), "piece_bytes", lambda pipe, window_bytes: 3 * PAGE_SIZE)
    for index in range(20, 28):
        ask(subject, index)
    assert complete_all(subject, count=4) == [(0, 1), (20, 3), (23, 3), (26, 2)]


def test_what_became_one_request_has_a_bound(one_at_a_time, monkeypatch):
    monkeypatch.setattr(device_module, "MERGED_PAGES_MAX", 4)
    subject = one_at_a_time
    for index in range(20, 30):
        ask(subject, index)
    assert complete_all(subject, count=4) == [(0, 1), (20, 4), (24, 4), (28, 2)]


def test_pages_of_two_files_do_not_become_one_request(one_at_a_time):
    """Though their frames may lie side by side."""
    subject = one_at_a_time
    others = [subject.scene.open(runs=[], page_count=1, cache=subject.cache) for _ in range(2)]
    for other in others:
        ask(other, 0)
    subject.ops.complete(0)
    assert [other.ops.asked() for other in others] == [[("readpage", 0, 1)]] * 2


def test_who_asks_with_the_lock_held_is_not_merged(one_at_a_time):
    """A page that is asked for alone, with its lock held throughout, stays alone."""
    subject = one_at_a_time
    subject.ops.script(21, updated)
    steps = bring.lock_uptodate(subject.open_file, 21, subject.zone.door.waiter)
    waiter = next(steps)
    ask(subject, 20)
    ask(subject, 22)
    subject.ops.complete(0)
    assert waiter.wait(PATIENCE_S)
    with pytest.raises(StopIteration) as end:
        next(steps)
    page = end.value.value
    assert (page.locked, page.uptodate, page.owner) == (True, True, threading.get_ident())
    page.unlock()
    assert complete_all_of(subject, 20, 22) == [(0, 1), (21, 1), (20, 1), (22, 1)]


def test_what_many_have_said_they_will_need_locks_no_more_of_the_cache_than_a_stream_and_a_little_of_each():
    """Each alone is as much as a stream may have; together they would be all of the cache."""
    with Scene(debug=True) as scene:
        cap, count = 4096, 12
        subject = scene.open(default=started, runs=[run_started] * 100, page_count=4 * cap, cap_pages=cap, random=False)
        device, completed = device_of(subject), set[int]()

        def begun() -> set[int]:
            with subject.zone.lock:
                return {page.index // (cap // 4) for page in subject.zone.locked}

        def is_over() -> bool:
            for call in list(subject.ops.calls):
                if call.index not in completed:
                    completed.add(call.index)
                    subject.ops.complete(call.index)
            return device.in_flight + device.queued_count == 0

        for number in range(count):
            subject.file.advise("willneed", number * cap // 4 * PAGE_SIZE, cap // 4 * PAGE_SIZE)
        scene.until(lambda: begun() == set(range(count)))
        with subject.zone.lock:
            assert sum(page.page_count for page in subject.zone.locked) <= cap // 2
        subject.cache._table.end_ahead()  # no more is asked for
        scene.until(is_over)
        assert_line_is_empty(subject)


def test_requests_that_were_merged_leave_nothing_to_the_garbage_collector():
    """They refer to their file, and so to all of its memory."""

    def requests() -> int:
        return sum(type(one) is Request for one in gc.get_objects())  # a weak proxy may be dead

    gc.collect()
    gc.disable()
    try:
        before = requests()
        with Scene(debug=True) as scene:
            subject = scene.open(default=started, runs=[run_started], page_count=64)
            hint(subject, range(0, 8, 2))
            for index in range(20, 26):
                ask(subject, index)
            assert complete_all(subject, count=WIDTH_START + 1)[-1] == (20, 6), "one request"
            assert_line_is_empty(subject)
        assert requests() == before
    finally:
        gc.enable()
