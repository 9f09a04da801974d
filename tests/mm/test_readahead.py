"""Readahead around the decision: what is asked for, when, and by whom; and the run that an operation is given."""

from __future__ import annotations

import errno
import random
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings, strategies as st
from tests.contract.harness import Scene, Subject

from pagein.errors import ContractViolation
from pagein.mm import credit, filemap, readahead, reclaim, truncate
from pagein.mm.arena import MARKED
from pagein.mm.debug import called
from pagein.mm.filemap import Fault, FaultFlags, FaultResult
from pagein.mm.locking import OPEN
from pagein.mm.lru import READ_AHEAD, SMALL
from pagein.mm.openfile import Stream
from pagein.mm.page import Page
from pagein.mm.rac import ReadaheadControl, read_run
from pagein.mm.readahead import FAULT_PAGES
from pagein.testing.stores import (
    ScriptedOps,
    completed_with,
    failing,
    gated,
    run_failing,
    run_short,
    run_started,
    started,
    updated,
)
from pagein.units import PAGE_SHIFT, PAGE_SIZE

ROOMY_PAGES = 4096
"""A cache whose share for one window is 1024 pages."""


@pytest.fixture
def scene() -> Iterator[Scene]:
    with Scene(debug=True) as scene:
        yield scene


def asked(subject: Subject) -> list[tuple[int, int]]:
    """(first page, page count) of the requests so far."""
    return [(call.index, call.page_count) for call in subject.ops.calls]


def marked(subject: Subject) -> list[int]:
    """The pages that are here and bear the marker."""
    base = subject.mapping.base
    return [at for at in subject.uptodate() if subject.mapping.arena.uptodate[base + at] == MARKED]


def read_page(subject: Subject, index: int, page_count: int = 1) -> None:
    data = subject.file.pread(page_count * PAGE_SIZE, index * PAGE_SIZE)
    assert data == subject.content(index, page_count)


# -- what a reader comes to ------------------------------------------------------------------------


def test_item_44_a_marker_is_hit_once_and_asks_for_the_next_window(scene):
    """Long before it is needed, with its first page marked in turn; the second hit does nothing."""
    subject = scene.open(runs=[], page_count=1000, cap_pages=ROOMY_PAGES, random=False)
    read_page(subject, 0)
    assert asked(subject) == [(0, 4)]
    assert marked(subject) == [1]
    read_page(subject, 1)
    assert asked(subject) == [(0, 4), (4, 16)]
    assert marked(subject) == [4]
    for index in (1, 0, 2, 3):
        read_page(subject, index)
    assert asked(subject) == [(0, 4), (4, 16)]
    read_page(subject, 4)
    assert asked(subject)[2:] == [(20, 64)]
    assert subject.cache.stats().hits == 6
    assert subject.cache.stats().misses == 1


def test_item_44_a_marker_in_flight_fires_before_the_reader_waits(scene):
    """As in Linux: who catches up with a window has the next one asked for, and waits then."""
    subject = scene.open(
        runs=[run_started, run_started, run_started], page_count=1000, cap_pages=ROOMY_PAGES, random=False
    )
    reader = scene.start(read_page, subject, 0)
    subject.ops.complete(0)
    reader.result()
    for index in (1, 2, 3):
        read_page(subject, index)
    assert asked(subject) == [(0, 4), (4, 16)]
    reader = scene.start(read_page, subject, 4)
    scene.until(lambda: subject.waiting_for(4) == 1 and len(asked(subject)) == 3)
    assert asked(subject) == [(0, 4), (4, 16), (20, 64)]
    subject.ops.complete(4)
    reader.result()
    subject.ops.complete(20)
    assert marked(subject) == [20]
    read_page(subject, 4)
    assert asked(subject)[3:] == [], "the marker has fired, and fires no more"


def test_item_44_a_marker_whose_page_goes_as_it_is_found_is_not_taken(scene):
    """Nor is the page here again by that."""
    subject = scene.open(runs=[], page_count=1000, cap_pages=ROOMY_PAGES, random=False)
    read_page(subject, 0)
    assert marked(subject) == [1]
    arena = subject.mapping.arena
    uptodate = arena.uptodate

    class Late:
        """From which what is found has gone by the time that it is taken."""

        def find(self, *args: bytes | int) -> int:
            arena.uptodate = uptodate
            found: int = uptodate.find(*args)
            truncate.invalidate_mapping_pages(subject.mapping, 0, 1000)
            return found

    arena.uptodate = Late()
    assert readahead.take_marker(subject.mapping, 0, 4) == -1
    assert subject.uptodate() == []


def test_item_45_errors_of_what_is_ahead_are_nobodys(scene):
    """Its own reader asks for the page, and hears that answer; the readers before it hear nothing."""
    window = OSError(errno.EIO, "a window")
    runs = [run_failing(window, after_pages=2), run_failing(window, after_pages=2), run_failing(window)]
    subject = scene.open(
        {6: [failing(OSError(errno.EIO, "bad sector"))]}, runs=runs, page_count=100, cap_pages=ROOMY_PAGES, random=False
    )
    read_page(subject, 0)
    read_page(subject, 1)
    assert asked(subject) == [(0, 4), (4, 16)]
    assert subject.uptodate() == [0, 1, 4, 5]
    read_page(subject, 5)
    with pytest.raises(OSError, match="bad sector"):
        read_page(subject, 6)
    read_page(subject, 6)
    assert subject.open_file.ra_scale == 1


def test_item_46_what_an_operation_leaves_of_a_window_is_unlocked_and_had_later(scene):
    subject = scene.open(runs=[run_short(2)], page_count=100, cap_pages=ROOMY_PAGES, random=False)
    read_page(subject, 0)
    subject.assert_at_rest(0, 1)
    read_page(subject, 2)
    read_page(subject, 3)


@pytest.mark.parametrize("page_count", [1, 2, 3, 4, 5, 17, 1000])
def test_item_47_nothing_beyond_the_end_is_asked_for(scene, page_count):
    subject = scene.open(runs=[], page_count=page_count, cap_pages=ROOMY_PAGES, random=False)
    for index in range(page_count):
        read_page(subject, index)
    assert sum(count for _, count in asked(subject)) == page_count
    assert subject.uptodate() == list(range(page_count))
    assert subject.file.pread(10, page_count * PAGE_SIZE) == b""


def test_item_47_an_empty_file_asks_for_nothing(scene):
    subject = scene.open(runs=[], size_bytes=0, random=False)
    assert subject.file.pread(10, 0) == subject.file.read() == b""
    subject.file.advise("willneed")
    assert subject.ops.calls == []


def test_item_48_a_random_read_is_one_request_without_a_marker_and_leaves_the_state(scene):
    subject = scene.open(runs=[], page_count=10_000, cap_pages=ROOMY_PAGES, random=False)
    state = subject.open_file.ra
    for index in (5000, 77, 9000, 3):
        read_page(subject, index, 2)
    assert asked(subject) == [(5000, 2), (77, 2), (9000, 2), (3, 2)]
    assert marked(subject) == []
    assert subject.open_file.ra == state


def test_item_48_advised_to_be_random_nothing_is_ahead(scene):
    subject = scene.open(page_count=400, cap_pages=ROOMY_PAGES)
    for index in range(10):
        read_page(subject, index)
    assert asked(subject) == [(index, 1) for index in range(10)]


def test_item_48_two_streams_on_one_file_both_go_by_their_markers(scene):
    subject = scene.open(runs=[], page_count=10_000, cap_pages=4 * ROOMY_PAGES, random=False)
    for at in range(300):
        read_page(subject, at)
        read_page(subject, 5000 + at)
    stats = subject.cache.stats()
    assert stats.misses <= 4, "the beginnings of the two streams"
    assert max(count for _, count in asked(subject)) >= 64


def test_advice_widens_and_ends_the_window(scene):
    subject = scene.open(runs=[], page_count=100_000, cap_pages=1_000_000, random=False)
    normal = readahead.window_pages_max(subject.open_file)
    subject.file.advise("sequential")
    assert readahead.window_pages_max(subject.open_file) == 2 * normal
    subject.file.advise("normal")
    assert readahead.window_pages_max(subject.open_file) == normal


@pytest.mark.parametrize("stride", [2, 4, 5, 16, 20])
@pytest.mark.parametrize("read_pages", [1, 4, 16])
def test_a_reader_that_strides_costs_at_most_twice_what_it_reads(scene, stride, read_pages):
    """Also where its stride meets the end of a window, which tells Linux that it is sequential."""
    subject = scene.open(runs=[], page_count=read_pages * stride * 64, cap_pages=100_000, random=False)
    for at in range(64):
        read_page(subject, at * read_pages * stride, read_pages)
    first_window = asked(subject)[0][1]
    fetched = sum(count for _, count in asked(subject))
    assert fetched <= 2 * 64 * read_pages + first_window


@pytest.mark.parametrize("read_pages", [1, 4, 16])
def test_a_reader_that_goes_backwards_costs_what_it_reads(scene, read_pages):
    subject = scene.open(runs=[], page_count=64 * read_pages, cap_pages=100_000, random=False)
    for at in reversed(range(64)):
        read_page(subject, at * read_pages, read_pages)
    assert sum(count for _, count in asked(subject)) == 64 * read_pages


# -- by wish ---------------------------------------------------------------------------------------


def test_willneed_brings_the_range_in_the_background_and_no_more(scene):
    subject = scene.open(runs=[], page_count=1000, cap_pages=ROOMY_PAGES)
    subject.file.advise("willneed", 10 * PAGE_SIZE, 700 * PAGE_SIZE)
    scene.until(lambda: len(subject.uptodate()) == 700)
    subject.assert_at_rest(*range(10, 710))


# -- memory ----------------------------------------------------------------------------------------


def test_what_is_ahead_waits_for_no_memory(scene):
    """Everything else is pinned: the reader gets his own page, and goes without a window."""
    subject = scene.open(runs=[], page_count=100, cap_pages=16, random=False)
    other = scene.open(page_count=15, cache=subject.cache)
    with other.file.view(15 * PAGE_SIZE, 0):
        read_page(subject, 0)
        read_page(subject, 1)
        assert max(count for _, count in asked(subject)) == 1


def test_streams_share_what_may_be_ahead(scene):
    """As many as are being read, each with its part."""
    subject = scene.open(runs=[run_started] * 3, page_count=100_000, cap_pages=16_000, random=False)
    alone = readahead._share_pages(subject.open_file)
    others = [subject.another() for _ in range(3)]
    readers = [scene.start(read_page, other, 1000 * at, 2) for at, other in enumerate(others, 5)]
    scene.until(lambda: len(subject.ops.calls) == 3)
    assert len(subject.zone.streams) == 3
    assert readahead._share_pages(subject.open_file) == alone // 4
    for at in (5000, 6000, 7000):
        subject.ops.complete(at)
    for reader in readers:
        reader.result()
    assert readahead._share_pages(subject.open_file) == alone


class OneBeginsMeanwhile(dict[Stream, int]):
    """Streams, among which one comes just after they were counted."""

    coming: Stream

    def __len__(self) -> int:
        count = super().__len__()
        self[self.coming] = 1
        return count


def test_streams_are_counted_as_another_reader_of_the_file_begins(scene):
    """No lock is taken to count them: it is one, and not none, among whom to share."""
    subject = scene.open(runs=[], page_count=1000, cap_pages=ROOMY_PAGES, random=False)
    alone = readahead._share_pages(subject.open_file)
    subject.zone.streams = streams = OneBeginsMeanwhile()
    streams.coming = subject.open_file.stream
    assert readahead._share_pages(subject.open_file) == alone
    streams.clear()


def test_one_scan_reads_each_page_once_in_requests_that_grow(scene):
    subject = scene.open(runs=[], page_count=1000, cap_pages=4 * ROOMY_PAGES, random=False)
    file = subject.file
    while file.read(3 * PAGE_SIZE):
        pass
    sizes = [call.page_count for call in subject.ops.calls]
    assert sum(sizes) == 1000
    assert sizes[:2] == [16, 64]
    assert [call.operation for call in subject.ops.calls] == ["readahead"] * len(sizes)
    assert subject.cache.stats().misses == 1


def test_a_request_is_no_more_than_a_quarter_of_the_cache(scene):
    subject = scene.open(runs=[], page_count=1000, cap_pages=200, random=False)
    assert subject.file.pread(150 * PAGE_SIZE, 0) == subject.content(0, 150)
    assert max(call.page_count for call in subject.ops.calls) == 50


def test_requests_of_a_tiny_cache_are_not_tiny(scene):
    subject = scene.open(runs=[], page_count=1000, cap_pages=20, random=False)
    assert subject.file.pread(32 * PAGE_SIZE, 0) == subject.content(0, 32)
    assert max(call.page_count for call in subject.ops.calls) == 10


def test_after_a_failure_the_next_request_is_small(scene):
    """The pages before a bad one are had with few requests: 16 fail, then 1, 2, ...; not 16 times 1."""
    failing = [run_failing(OSError(errno.EIO, "the run"))]
    subject = scene.open(runs=failing, page_count=64, cap_pages=64)
    assert subject.file.pread(16 * PAGE_SIZE, 0) == subject.content(0, 16)
    assert [(call.operation, call.page_count) for call in subject.ops.calls] == [
        ("readahead", 16), ("readpage", 1), ("readpage", 1), ("readahead", 2), ("readahead", 4), ("readahead", 8),
    ]  # fmt: skip


# -- the run that an operation is given ------------------------------------------------------------


def control(subject: Subject, page_count: int) -> ReadaheadControl:
    reclaim.reserve(subject.zone, page_count)
    page = subject.mapping.grab_run(0, page_count, wanted_pages=page_count)
    assert page is not None
    return ReadaheadControl(subject.open_file, page)


def test_an_operation_takes_a_run_from_its_front(scene):
    subject = scene.open()
    rac = control(subject, 8)
    assert (rac.index, rac.page_count) == (0, 8)
    one, two = rac.take(1), rac.take(2)
    assert (rac.index, rac.page_count) == (3, 5)
    rest = rac.take()
    assert rac.page_count == 0
    assert [(page.index, page.page_count, page.size_bytes) for page in (one, two, rest)] == [
        (0, 1, PAGE_SIZE), (1, 2, 2 * PAGE_SIZE), (3, 5, 5 * PAGE_SIZE),
    ]  # fmt: skip
    with pytest.raises(ContractViolation):
        rac.take()
    with pytest.raises(ContractViolation):
        _ = rac.index
    for page in (rest, one, two):
        assert {subject.mapping.in_flight[at] for at in range(page.index, page.index + page.page_count)} == {page}
        subject.ops.fill(page)
        page.end_read()
    subject.assert_at_rest(*range(8))
    assert subject.file.pread(8 * PAGE_SIZE, 0) == subject.content(0, 8)
    assert subject.ops.calls == []


@pytest.mark.parametrize("count", [8, 9, 1000, None])
def test_who_takes_as_much_as_there_is_has_the_run_itself(scene, count):
    subject = scene.open()
    rac = control(subject, 8)
    page = rac.take(count)
    assert (page.index, page.page_count) == (0, 8)
    assert {*subject.mapping.in_flight.values()} == {page}
    page.unlock()


def test_iterating_takes_page_by_page_and_the_rest_is_unlocked(scene):
    subject = scene.open()
    rac = control(subject, 8)
    for page in rac:
        subject.ops.fill(page)
        page.end_read()
        if page.index == 2:
            break
    assert (rac.index, rac.page_count) == (3, 5)
    assert [page.index for page in rac.taken] == [0, 1, 2]
    rac.unlock_rest()
    rac.unlock_rest()
    subject.assert_at_rest(0, 1, 2)


def test_a_waiter_goes_with_its_page_when_a_run_is_split(scene):
    subject = scene.open(runs=[])
    rac = control(subject, 8)
    readers = [scene.start(subject.another().file.pread, PAGE_SIZE, index * PAGE_SIZE) for index in (1, 6)]
    scene.until(lambda: subject.waiting_for(0) == 2)
    head = rac.take(3)
    assert (subject.waiting_for(1), subject.waiting_for(6)) == (1, 1)
    subject.ops.fill(head)
    head.end_read()
    assert readers[0].result() == subject.content(1)
    assert readers[1].running
    rest = rac.take()
    subject.ops.fill(rest)
    rest.end_read()
    assert readers[1].result() == subject.content(6)
    assert subject.ops.calls == []


@pytest.mark.parametrize("error", [OSError(errno.EIO, "the run"), ValueError("a mistake")])
def test_what_an_operation_took_is_released_when_it_raises(scene, error):
    """And what it had brought before stays; an OSError is nobody's, a mistake is the caller's to hear."""
    subject = scene.open(runs=[run_failing(error, after_pages=2)])
    rac = control(subject, 8)
    rac.unlock_rest()
    reclaim.reserve(subject.zone, 8)
    page = subject.mapping.grab_run(0, 8, wanted_pages=8)
    assert page is not None
    if isinstance(error, OSError):
        read_run(subject.open_file, page)
    else:
        with pytest.raises(ValueError, match="a mistake"):
            read_run(subject.open_file, page)
    subject.assert_at_rest(0, 1)


def test_pages_read_ahead_are_told_from_those_that_were_wanted(scene):
    """Their first hit is their first use."""
    subject = scene.open(runs=[], page_count=64, cap_pages=ROOMY_PAGES, random=False)
    subject.file.pread(PAGE_SIZE, 0)
    base = subject.mapping.base
    assert bytes(subject.mapping.arena.lru[base : base + 4]) == bytes([SMALL, *[SMALL | READ_AHEAD] * 3])


# -- faults --------------------------------------------------------------------------------------------------


def fault_at(subject: Subject, index: int) -> None:
    vmf = Fault(subject.open_file, index, threading.Lock(), FaultFlags.NONE)
    assert filemap.fault(vmf) & FaultResult.LOCKED
    assert vmf.page is not None
    vmf.page.unlock()


@pytest.mark.parametrize(("index", "start"), [(500, 484), (16, 0), (3, 0), (0, 0), (999, 983)])
def test_item_49_a_fault_reads_around_it(scene, index, start):
    """Half of what it reads lies before it; the last quarter begins with a marker."""
    subject = scene.open(runs=[], page_count=1000, cap_pages=ROOMY_PAGES, random=False)
    fault_at(subject, index)
    stop = min(start + FAULT_PAGES, 1000)
    assert subject.uptodate() == list(range(start, stop))
    assert marked(subject) == [at for at in [start + 24] if at < stop]


def test_item_49_a_fault_at_the_marker_asks_for_the_next_window(scene):
    subject = scene.open(runs=[], page_count=1000, cap_pages=ROOMY_PAGES, random=False)
    fault_at(subject, 0)
    asked_before = len(asked(subject))
    fault_at(subject, 23)
    assert len(asked(subject)) == asked_before
    fault_at(subject, 24)
    assert len(asked(subject)) > asked_before
    assert subject.uptodate()[: 2 * FAULT_PAGES] == list(range(2 * FAULT_PAGES))


def test_item_49_more_than_a_hundred_misses_stop_it_and_hits_count_back_down(scene):
    subject = scene.open(runs=[], page_count=20_000, cap_pages=65536, random=False)
    indices = [200 * number for number in range(100)]
    random.Random(49).shuffle(indices)
    for index in indices:
        fault_at(subject, index)
    fault_at(subject, 150)
    assert asked(subject)[-1] == (150, 1), "the hundred and first miss reads its own page"
    fault_at(subject, 350)
    assert asked(subject)[-1] == (350, 1)
    for _ in range(3):
        fault_at(subject, 350)
    fault_at(subject, 550)
    assert asked(subject)[-1] == (534, 32), "three hits later it reads around again"


def test_item_49_advice_is_heard_by_faults_too(scene):
    """Random: its own page.  Sequential: what follows."""
    subject = scene.open(runs=[], page_count=1000, cap_pages=ROOMY_PAGES, random=True)
    fault_at(subject, 500)
    assert asked(subject) == [(500, 1)]
    subject.file.advise("sequential")
    fault_at(subject, 700)
    assert min(subject.uptodate()) == 500
    assert set(range(700, 700 + FAULT_PAGES)) <= set(subject.uptodate())


# -- who reads how -------------------------------------------------------------------------------------------


@st.composite
def streams(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Some runs of reads, as (first page, page count): forwards, backwards, with gaps or not, here and there."""
    reads: list[tuple[int, int]] = []
    for _ in range(draw(st.integers(1, 12))):
        at, size = draw(st.integers(0, FILE_PAGES - 1)), draw(st.integers(1, draw(st.sampled_from([40, 40, 1000]))))
        step = draw(st.sampled_from([size, size, size, size + draw(st.integers(1, 200)), -size]))
        reads += [(at + number * step, size) for number in range(draw(st.integers(1, 24)))]
    return [(at, min(size, FILE_PAGES - at)) for at, size in reads if 0 <= at < FILE_PAGES]


FILE_PAGES = 6_000


@pytest.mark.parametrize("latency_s", [0, 0.01, 0.1])
@pytest.mark.parametrize("cap_pages", [FILE_PAGES * 2, 600])
@given(streams())
@settings(max_examples=25, derandomize=True)
def test_whatever_a_reader_does_no_more_is_fetched_than_twice_what_he_reads_and_an_allowance(
    latency_s, cap_pages, reads
):
    """Skipping, striding, backwards, in reads as large as the cache: the bound is one for every pattern, and not for
    those that we have thought of."""
    with Scene(debug=False) as scene:
        subject = scene.open(runs=[], page_count=FILE_PAGES, cap_pages=cap_pages, random=False)
        if latency_s:
            subject.mapping.device.answered(latency_s)
        allowance_pages = credit.allowance_pages(subject.file._file)
        for at, size in reads:
            subject.file.pread(size * PAGE_SIZE, at * PAGE_SIZE)
        fetched = sum(page_count for _, page_count in asked(subject))
        assert fetched <= 2 * sum(size for _, size in reads) + allowance_pages


@pytest.mark.parametrize("latency_s", [0, 0.01, 0.1])
@pytest.mark.parametrize("burst_pages", [4, 8])
def test_after_a_few_jumps_no_more_is_fetched_than_twice_what_is_read_however_long_the_store_takes(
    scene, latency_s, burst_pages
):
    """Bursts here and there: what was used is not counted again by who comes by above, however many there were; and
    who has jumped is lent no more than half a MiB in advance.  What he was lent before that is not made good."""
    subject = scene.open(runs=[], page_count=2 * FILE_PAGES, cap_pages=4 * FILE_PAGES, random=False)
    if latency_s:
        subject.mapping.device.answered(latency_s)
    places = list(range(64, 2 * FILE_PAGES, 4 * burst_pages))
    random.Random(3).shuffle(places)
    before = 0
    for number, at in enumerate(places):
        if number == JUMPS:
            before = sum(page_count for _, page_count in asked(subject))
        for index in range(at, at + burst_pages):
            read_page(subject, index)
    fetched = sum(page_count for _, page_count in asked(subject)) - before
    assert fetched <= 2 * burst_pages * (len(places) - JUMPS) + (credit.ALLOWANCE_BYTES_MIN >> PAGE_SHIFT)


JUMPS = 8
"""By then half a MiB is left of the largest allowance."""


@pytest.mark.parametrize("lent_pages", [0, 4000, 8000])
def test_a_reader_who_has_jumped_is_lent_as_much_as_he_has_read_since_whatever_he_was_lent_before(scene, lent_pages):
    """Of the allowance he gives back what is left of it, and nothing that he would have to read for first."""
    subject = scene.open(runs=[], page_count=FILE_PAGES, cap_pages=2 * FILE_PAGES, random=False)
    subject.mapping.device.answered(0.1)
    file = subject.file._file
    read_page(subject, 3)
    file.ra_credit -= lent_pages
    for at in range(1000, 1000 + 12 * 100, 100):
        read_page(subject, at)
    assert file.ra_allowance == credit.ALLOWANCE_BYTES_MIN >> PAGE_SHIFT
    misses = subject.cache.stats().misses
    for at in range(3000, 5000, 32):
        read_page(subject, at, 32)
    assert subject.cache.stats().misses - misses <= 2
    assert file.ra.size >= 512


@pytest.mark.parametrize(("cap_pages", "read_pages"), [(2048, 1536), (4096, 3072), (512, 512), (32_000, 5000)])
def test_a_read_that_is_brought_in_several_pieces_earns_once_for_each_page(scene, cap_pages, read_pages):
    """As one larger than a share of the cache is, some of it by markers that lie within."""
    subject = scene.open(runs=[], page_count=FILE_PAGES, cap_pages=cap_pages, random=False)
    file = subject.open_file
    allowance_pages = credit.allowance_pages(file)
    read_page(subject, 500, read_pages)
    fetched = sum(page_count for _, page_count in asked(subject))
    assert len(asked(subject)) > 1
    assert file.ra_credit == allowance_pages + 2 * read_pages - fetched


def test_pages_of_a_read_that_were_here_earn_nothing_unless_they_came_ahead_of_its_reader(scene):
    subject = scene.open(runs=[], page_count=FILE_PAGES, cap_pages=2 * FILE_PAGES, random=False)
    file = subject.open_file
    for at in range(1000, 1064, 2):
        read_page(subject.another(), at)
    read_page(subject, 1001)
    before = file.ra_credit
    read_page(subject, 1000, 64)
    assert file.ra_credit == before + 31
    read_page(subject, 1000, 64)
    assert file.ra_credit == before + 31


def test_a_reader_who_has_read_much_is_not_lent_without_bound(scene):
    subject = scene.open(runs=[], page_count=FILE_PAGES, cap_pages=2 * FILE_PAGES, random=False)
    subject.file._file.ra_credit = credit.CREDIT_PAGES_MAX - 10
    for at in range(0, 4096, 256):
        subject.file.pread(256 * PAGE_SIZE, at * PAGE_SIZE)
    assert subject.file._file.ra_credit <= credit.CREDIT_PAGES_MAX


def test_a_sequential_reader_soon_has_as_much_ahead_of_him_as_a_window_may_have(scene):
    """What he has used is what he may be lent: it doubles."""
    subject = scene.open(runs=[], page_count=FILE_PAGES, cap_pages=4096, random=False)
    for at in range(0, 3072, 32):
        subject.file.pread(32 * PAGE_SIZE, at * PAGE_SIZE)
    assert subject.file._file.ra.size >= min(768, readahead.window_pages_max(subject.file._file))


def test_one_who_reads_on_from_a_store_of_which_only_the_latency_is_known_is_lent_several_windows_at_once(scene):
    """Each would cost the time that a request waits.  In few requests: the first comes early, and none stands in line
    for as long as another one waits."""
    subject = scene.open(runs=[run_started] * 5, page_count=FILE_PAGES, cap_pages=4 * FILE_PAGES, random=False)
    subject.mapping.device.answered(0.05)
    readahead.adopt_head(subject.mapping, subject.content(0, 32), 0.01)
    read_page(subject, 0, 32)
    assert asked(subject) == [(32, 128)], "who has read only what came by itself costs no more than before"
    reader = scene.start(read_page, subject, 32, 32)
    scene.until(lambda: subject.waiting_for(32) == 1 and len(asked(subject)) == 5)
    assert asked(subject) == [(32, 128), (160, 256), (416, 1024), (1440, 2048), (3488, 768)]
    assert subject.mapping.device.queued_count == 0
    for index, _ in asked(subject):
        subject.ops.complete(index)
    reader.result()


@pytest.mark.parametrize("piece_pages", [128, 1024])
def test_each_request_of_a_long_window_is_marked_but_not_each_small_one(scene, monkeypatch, piece_pages):
    """They share the bandwidth, and end together: whoever asks at the next window's start lets the pipe run dry."""
    subject = scene.open(runs=[], page_count=FILE_PAGES, cap_pages=4 * FILE_PAGES, random=False)
    monkeypatch.setattr(readahead, "_piece_pages", lambda file, **_: piece_pages)
    pipe = subject.mapping.device.pipe
    pipe.ended(pipe.started(0.0), 0.01, 10 << 20)
    pipe.is_full = True  # else they grow
    readahead._submit_ahead(subject.file._file, 0, 4096, 0)
    assert len(asked(subject)) == 4096 // piece_pages
    assert marked(subject) == [0, 1024, 2048, 3072]


@pytest.mark.parametrize("advice", ["normal", "sequential"])
def test_what_is_ahead_of_a_reader_is_two_windows_at_most(scene, monkeypatch, advice):
    """However many markers there are."""
    subject = scene.open(runs=[], page_count=FILE_PAGES, cap_pages=4 * FILE_PAGES, random=False)
    monkeypatch.setattr(readahead, "window_pages_max", lambda file, **_: 512)
    monkeypatch.setattr(readahead, "MARK_PAGES", 16)
    monkeypatch.setattr(readahead, "_piece_pages", lambda file, **_: 64)
    subject.file.advise(advice)
    for at in range(0, 4000, 8):
        read_page(subject, at, 8)
        assert max(subject.uptodate()) <= at + 8 + 2 * 512
    assert subject.cache.stats().misses == 1


def test_two_streams_in_one_file_each_earn_what_they_use(scene):
    """They take turns, and neither is taken for a jump of the other."""
    subject = scene.open(runs=[], page_count=6_000, cap_pages=12_000, random=False)
    for at in range(1000):
        read_page(subject, at)
        read_page(subject, 3000 + at)
    assert len(asked(subject)) < 80, "2,000 reads"


def test_what_is_fetched_for_a_sequential_reader_by_his_own_advice_is_not_held_against_him(scene):
    subject = scene.open(runs=[], page_count=6_000, cap_pages=12_000, random=False)
    subject.file.advise("sequential")
    for start in range(0, 3000, 50):
        for at in range(start, start + 4):
            read_page(subject, at)
    subject.file.advise("normal")
    requests = len(asked(subject))
    for at in range(4000, 5000):
        read_page(subject, at)
    assert len(asked(subject)) - requests < 40


def test_a_store_may_populate_its_own_file(scene):
    """It does not wait for the page that it is asked for."""
    subject = scene.open(page_count=32)

    def populate(ops: ScriptedOps, page: Page) -> int:
        assert subject.file.populate(0, 4 * PAGE_SIZE) == 4 * PAGE_SIZE
        return updated(ops, page)

    subject.ops.script(9, populate)
    assert scene.start(subject.file.pread, PAGE_SIZE, 9 * PAGE_SIZE).result() == subject.content(9)
    subject.assert_at_rest(0, 1, 2, 3, 9)


def test_what_is_here_already_does_not_end_what_is_to_be_brought(scene):
    """Also where it is as much as is asked for at once, or more."""
    subject = scene.open(page_count=30)  # half of the cache, in requests of 16
    read_page(subject, 0, 16)
    assert subject.file.populate() == 30 * PAGE_SIZE


def test_what_is_on_its_way_already_does_not_end_a_window(scene):
    subject = scene.open(page_count=1024, random=False)
    mapping, file = subject.inode.mapping, subject.file._file
    on_its_way = readahead._piece_pages(file)
    assert reclaim.try_reserve(mapping.zone, on_its_way) == on_its_way
    others = mapping.grab_run(0, on_its_way, wanted_pages=0)
    others.owner = None  # a store's
    readahead._submit_ahead(file, 0, on_its_way + 8, -1)
    assert subject.inode.resident() == [(on_its_way, 8)]
    others.take_over()
    others.unlock()


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
def test_populate_waits_for_pages_that_an_operation_has_taken_one_by_one(scene, order):
    """In whatever order they come."""
    subject = scene.open({index: [started] for index in range(4)}, page_count=4, random=False)
    populated = scene.start(subject.file.populate)
    for index in range(4):
        subject.ops.started_page(index)
    for index in order[:-1]:
        subject.ops.complete(index)
    scene.until(lambda: not populated.running or subject.waiting_for(order[-1]) == 1)
    assert populated.running
    subject.ops.complete(order[-1])
    assert populated.result() == 4 * PAGE_SIZE


def test_populate_waits_for_a_run_to_its_last_page_while_an_operation_takes_it_one_by_one():
    """As each store's that has only `readpage`: its pages come one after the other, and what is left is split again."""
    with Scene(debug=True, blocking=True) as scene:
        gates = {index: scene.gate() for index in (1, 2, 5)}
        script = {index: [gated(gate, updated)] for index, gate in gates.items()}
        subject = scene.open(script, page_count=8, random=False)
        populated = scene.start(subject.file.populate)
        for index in (1, 2):
            gates[index].wait_for_arrivals()
            scene.until(lambda: any(subject.waiting_for(at) for at in range(8)))
            gates[index].open()
        gates[5].wait_for_arrivals()
        scene.until(lambda: not populated.running or subject.waiting_for(7) == 1)
        gates[5].open()
        assert populated.result() == 8 * PAGE_SIZE


def test_populate_does_not_wait_for_what_others_ask_for_meanwhile(scene):
    """There may always be something."""
    subject = scene.open({2: [started]}, page_count=4)
    reader = scene.start(read_page, subject, 2)
    subject.ops.started_page(2)
    populated = scene.start(subject.file.populate)
    scene.until(lambda: subject.waiting_for(2) == 2)
    subject.file.advise("dontneed", 0, PAGE_SIZE)
    subject.ops.script(0, started)
    another = scene.start(read_page, subject, 0)
    subject.ops.started_page(0)
    subject.ops.complete(2)
    assert populated.result() == 3 * PAGE_SIZE
    subject.ops.complete(0)
    for task in (reader, another):
        task.result()


def test_what_populate_lets_through_the_line_is_handed_over_also_if_its_file_is_closed_meanwhile(scene):
    """By a store's code: it waits for one page after the other, and lets the next through when it waits for that."""
    subject = scene.open({0: [started]}, page_count=64, cap_pages=128, requests_max=1)
    readers = [scene.start(read_page, subject, 0)]
    subject.ops.started_page(0)
    readers += [scene.start(read_page, subject.another(), index) for index in (10, 20, 30)]
    scene.until(lambda: subject.mapping.device.queued_count == 3)
    other = subject.another().file
    populated = scene.start(called(OPEN, subject.zone, other.populate))
    scene.until(lambda: subject.waiting_for(0) == 2)
    other.close()
    subject.ops.complete(0)
    assert isinstance(populated.error(), ValueError)
    for reader in readers:
        reader.result()
    assert not subject.mapping.in_flight


def test_after_errors_a_reader_s_windows_are_a_sixteenth_at_least_and_grow_again_as_what_is_ahead_comes(scene):
    """But what is asked for by name is asked for in large requests all the same."""
    subject = scene.open(runs=[], page_count=4096, cap_pages=4 * 4096, random=False)
    file, normal = subject.file._file, readahead.window_pages_max(subject.file._file)
    for index in range(2000, 2016, 2):
        subject.ops.script(index, completed_with(OSError(errno.EIO, "an outage")))
        with pytest.raises(OSError, match="an outage"):
            subject.file.pread(PAGE_SIZE, index * PAGE_SIZE)
    assert readahead.window_pages_max(file) == normal // 16
    subject.file.populate(0, 1024 * PAGE_SIZE)
    assert max(count for _, count in asked(subject)) >= 128
    for at in range(2016, 4096, 8):
        read_page(subject, at, 8)
    assert file.ra_scale == 1


@pytest.mark.parametrize(("cap_pages", "window_pages"), [(128, 2), (64, 1), (32, 0)])
@pytest.mark.parametrize("page_count", [1, 8])
def test_after_errors_windows_grow_again_also_where_they_are_too_small_for_a_marker(
    scene, cap_pages, window_pages, page_count
):
    subject = scene.open(runs=[], page_count=4096, cap_pages=cap_pages, random=False)
    file, normal = subject.file._file, readahead.window_pages_max(subject.file._file)
    for index in (1000, 1002):
        subject.ops.script(index, completed_with(OSError(errno.EIO, "an outage")))
        with pytest.raises(OSError, match="an outage"):
            subject.file.pread(PAGE_SIZE, index * PAGE_SIZE)
    assert readahead.window_pages_max(file) == window_pages
    for at in range(2000, 2200, page_count):
        read_page(subject, at, page_count)
    assert readahead.window_pages_max(file) == normal


def test_a_reader_earns_what_he_has_used_of_a_window_longer_than_the_next_may_be(scene, monkeypatch):
    """The largest window may have become shorter meanwhile: he has not jumped for that."""
    subject = scene.open(runs=[], page_count=6_000, cap_pages=24_000, random=False)
    for at in range(0, 1024, 32):
        read_page(subject, at, 32)
    state = subject.file._file.ra
    monkeypatch.setattr(type(subject.mapping.device.pipe), "window_bytes", lambda pipe, share_bytes: 64 * PAGE_SIZE)
    before = subject.file._file.ra_credit
    for at in range(1024, state.start + 1, 32):
        read_page(subject, at, 32)
    assert before is not None
    assert subject.file._file.ra_credit > before


def test_a_window_that_is_cut_off_before_its_pages_are_locked_is_asked_for_no_more(scene, monkeypatch):
    """Whoever looks for the window's first absent page would find it again and again."""
    subject = scene.open(runs=[], page_count=100, cap_pages=ROOMY_PAGES, random=False)
    try_reserve = reclaim.try_reserve

    def cut_off(zone, page_count):
        subject.inode.resize(4 * PAGE_SIZE)
        return try_reserve(zone, page_count)

    read_page(subject, 0)
    monkeypatch.setattr(reclaim, "try_reserve", cut_off)
    read_page(subject, 1)
    assert subject.mapping.page_count == 4
    subject.assert_at_rest(0, 1, 2, 3)
