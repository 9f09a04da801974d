"""Readahead: the windows as a table, and the run of pages that an operation is given."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest
from hypothesis import given, strategies as st
from tests.contract.harness import Scene, Subject

from pagein.errors import ContractViolation
from pagein.mm import reclaim
from pagein.mm.lru import READ_AHEAD, SMALL
from pagein.mm.readahead import RA_PAGES, ReadaheadControl, ReadaheadState, next_window, read_run, window_pages
from pagein.testing.stores import run_failing, run_short
from pagein.units import PAGE_SIZE


@pytest.fixture
def scene() -> Iterator[Scene]:
    with Scene(debug=True) as scene:
        yield scene


# -- the decision ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("req_pages", "sizes"),
    [
        (1, [4, 16, 32, 64, 128, 256, 256, 256]),
        (2, [8, 32, 64, 128, 256, 256]),
        (3, [16, 32, 64, 128, 256, 256]),
        (4, [16, 32, 64, 128, 256, 256]),
        (8, [32, 64, 128, 256, 256]),
        (9, [32, 64, 128, 256]),
        (32, [64, 128, 256, 256]),
        (64, [128, 256, 256]),
        (65, [256, 256]),
        (256, [256, 256, 256]),
        (1000, [1000, 1000, 1000]),
    ],
)
def test_the_windows_of_a_sequential_reader(req_pages, sizes):
    """From the start of the file, each next miss where the last window ended: they grow by 4, then by 2, to 1 MiB."""
    state, index, windows = ReadaheadState(), 0, []
    for _ in sizes:
        state = next_window(state, index, req_pages, history_pages=index)
        assert state.start == index
        windows.append(state.size)
        index += state.size
    assert windows == sizes


STREAM = ReadaheadState(start=100, size=32, prev_index=101)
"""A reader in the middle of a file, whose last window was pages 100 to 131."""


@pytest.mark.parametrize(
    ("state", "index", "req_pages", "history_pages", "size"),
    [
        pytest.param(ReadaheadState(), 50, 3, 0, 3, id="one random read: what it asked for"),
        pytest.param(STREAM, 500, 1, 0, 1, id="away from its stream"),
        pytest.param(STREAM, 132, 1, 32, 64, id="where its window ended"),
        pytest.param(STREAM, 132, 100, 32, 100, id="where its window ended, asking for more"),
        pytest.param(STREAM, 102, 1, 2, 4, id="behind its last miss, the window evicted: from the first size again"),
        pytest.param(STREAM, 101, 1, 0, 4, id="at its last miss again"),
        pytest.param(STREAM, 103, 1, 0, 1, id="two behind its last miss"),
        pytest.param(STREAM, 100, 1, 0, 1, id="one before its last miss"),
        pytest.param(STREAM, 0, 1, 0, 4, id="back at the start of the file"),
        pytest.param(STREAM, 500, 1, 9, 10, id="behind pages of another reader of its kind"),
        pytest.param(STREAM, 500, 9, 9, 9, id="behind too few to be sure"),
        pytest.param(STREAM, 500, 5, 300, 256, id="behind more than the most"),
        pytest.param(STREAM, 500, 300, 300, 300, id="more than the most, which is the first size of a stream"),
        pytest.param(STREAM._replace(ra_pages=64), 132, 1, 32, 64, id="the most of a reader after an error"),
        pytest.param(STREAM._replace(ra_pages=16), 132, 1, 32, 16, id="after two"),
        pytest.param(STREAM._replace(ra_pages=1), 132, 1, 32, 1, id="after four"),
        pytest.param(STREAM._replace(ra_pages=1), 132, 7, 32, 7, id="after four, asking for more"),
        pytest.param(ReadaheadState(), 0, 0, 0, 4, id="a request for nothing at the start"),
    ],
)
def test_the_window_of_one_miss(state, index, req_pages, history_pages, size):
    window = next_window(state, index, req_pages, history_pages)
    assert (window.start, window.size) == (index, size)
    assert window.prev_index == index + req_pages - 1
    assert window.ra_pages == state.ra_pages


@given(
    state=st.builds(
        ReadaheadState,
        st.integers(0, 1000),
        st.integers(0, 600),
        st.integers(-1, 1000),
        st.sampled_from([1, 4, 16, 64, 256, 512]),
    ),
    index=st.integers(0, 1200),
    req_pages=st.integers(1, 600),
    history_pages=st.integers(0, 600),
)
def test_every_window_holds_what_was_asked_for_and_no_more_than_the_most(state, index, req_pages, history_pages):
    window = next_window(state, index, req_pages, min(history_pages, index))
    assert window.start == index
    assert req_pages <= window.size <= max(req_pages, state.ra_pages)


# -- around the decision ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "req_pages", "limit_pages", "page_count"),
    [(0, 1, 2048, 4), (0, 1, 3, 3), (0, 50, 2048, 40), (38, 1, 2048, 1), (39, 5, 2048, 1), (0, 1, 0, 1)],
)
def test_a_request_ends_with_the_file_and_at_its_limit(scene, index, req_pages, limit_pages, page_count):
    subject = scene.open(page_count=40, random=False)
    assert window_pages(subject.open_file, index, req_pages, limit_pages) == page_count


@pytest.mark.parametrize("how", ["random", "after errors"])
def test_who_reads_at_random_gets_what_it_asks_for(scene, how):
    """By advice, or because its window has shrunk to nothing; where it was is remembered all the same."""
    subject = scene.open(page_count=400, random=how == "random")
    file = subject.open_file
    if how == "after errors":
        file.ra = file.ra._replace(ra_pages=0)
    assert window_pages(file, 0, 1, 2048) == 1
    assert window_pages(file, 1, 3, 2048) == 3
    assert file.ra[:3] == (1, 3, 3)


def test_history_is_what_is_cached_without_a_hole(scene):
    """A second reader of a stream has no state of its own: the pages before it speak for it."""
    subject = scene.open(page_count=400)
    subject.file.pread(20 * PAGE_SIZE, 100 * PAGE_SIZE)
    subject.file.advise("dontneed", 105 * PAGE_SIZE, PAGE_SIZE)
    other = subject.another()
    other.file.advise("normal")
    assert window_pages(other.open_file, 120, 1, 2048) == 14 + 1
    assert other.open_file.ra.size == 15


def test_one_scan_reads_each_page_once_in_requests_that_grow(scene):
    subject = scene.open(runs=[], page_count=1000, cap_pages=4000, random=False)
    file = subject.file
    while file.read(3 * PAGE_SIZE):
        pass
    sizes = [call.page_count for call in subject.ops.calls]
    assert sum(sizes) == 1000
    assert sizes == [16, 32, 64, 128, 256, 256, 248]
    assert [call.operation for call in subject.ops.calls] == ["readahead"] * len(sizes)


def test_a_request_is_no_more_than_a_quarter_of_the_cache(scene):
    subject = scene.open(runs=[], page_count=1000, cap_pages=200, random=False)
    assert subject.file.pread(150 * PAGE_SIZE, 0) == subject.content(0, 150)
    assert max(call.page_count for call in subject.ops.calls) == 50


def test_requests_of_a_tiny_cache_are_not_tiny(scene):
    subject = scene.open(runs=[], page_count=1000, cap_pages=20, random=False)
    assert subject.file.pread(32 * PAGE_SIZE, 0) == subject.content(0, 32)
    assert max(call.page_count for call in subject.ops.calls) == 16


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


def test_what_an_operation_left_is_unlocked(scene):
    subject = scene.open(runs=[run_short(3)])
    subject.file.advise("normal")
    subject.file.pread(1, 0)
    subject.assert_at_rest(0, 1, 2)
    assert subject.ops.asked() == [("readahead", 0, 4)]


def test_pages_read_ahead_are_told_from_those_that_were_wanted(scene):
    """Their first hit is their first use."""
    subject = scene.open(runs=[], page_count=64, random=False)
    subject.file.pread(PAGE_SIZE, 0)
    base = subject.mapping.base
    assert bytes(subject.mapping.arena.lru[base : base + 4]) == bytes([SMALL, *[SMALL | READ_AHEAD] * 3])
    assert RA_PAGES == 256
