"""On-demand readahead as a table: what a reader does, to the window that is asked for."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from pagein.mm.ondemand import Access, ReadaheadState, Window, ondemand

RA_PAGES = 32
"""Linux's default, for which the windows of its own rules are known (128 KiB)."""


def windows_of(req_pages: int, count: int, *, max_pages: int = RA_PAGES) -> list[tuple[int, int, int, int, int]]:
    """(where it was asked for, start, size, asynchronous size, marked page) of the windows of a sequential reader."""
    window = ondemand(ReadaheadState(), Access(0, req_pages, max_pages))
    found: list[tuple[int, int, int, int, int]] = []
    at = 0
    while window is not None and len(found) < count:
        found.append((at, *window.state, window.marker_index))
        at = window.marker_index
        window = ondemand(window.state, Access(at, req_pages, max_pages, at - 1, hit_marker=True))
    return found


@pytest.mark.parametrize(
    ("req_pages", "windows"),
    [
        (1, [(0, 0, 4, 3, 1), (1, 4, 8, 8, 4), (4, 12, 16, 16, 12), (12, 28, 32, 32, 28), (28, 60, 32, 32, 60)]),
        (2, [(0, 0, 4, 2, 2), (2, 4, 8, 8, 4), (4, 12, 16, 16, 12), (12, 28, 32, 32, 28)]),
        (4, [(0, 0, 8, 4, 4), (4, 8, 16, 16, 8), (8, 24, 32, 32, 24), (24, 56, 32, 32, 56)]),
        (8, [(0, 0, 16, 8, 8), (8, 16, 32, 32, 16), (16, 48, 32, 32, 48)]),
        (32, [(0, 0, 32, 16, 16), (16, 32, 32, 32, 32), (32, 64, 32, 32, 64)]),
    ],
)
def test_item_44_the_windows_of_a_sequential_reader_are_those_of_linux(req_pages, windows):
    assert windows_of(req_pages, len(windows)) == windows


def test_a_read_larger_than_the_largest_window_is_one_request():
    """Linux comes back for what is over; a miss of many pages is one request here, and goes on as there."""
    assert windows_of(64, 3) == [(0, 0, 64, 16, 48), (48, 64, 32, 32, 64), (64, 96, 32, 32, 96)]


def test_item_44_a_stream_that_begins_in_the_middle():
    first = ondemand(ReadaheadState(), Access(100, 1, RA_PAGES))
    assert first == Window(ReadaheadState(), 100, 1)
    second = ondemand(ReadaheadState(), Access(101, 1, RA_PAGES, prev_index=100))
    assert second == Window(ReadaheadState(101, 4, 3), 101, 4, 102)


STREAM = ReadaheadState(100, 32, 32)
"""A reader in the middle of a file, whose last window was pages 100 to 131."""


def access(index: int, req_pages: int = 1, **known: int | bool | None) -> Access:
    return Access(index, req_pages, RA_PAGES, **known)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "reader", "window"),
    [
        pytest.param(STREAM, access(500, 3), (STREAM, 500, 3, -1), id="item 48: a random read gets what it asked for"),
        pytest.param(STREAM, access(132), ((132, 32, 16), 132, 32, 148), id="where its window ended, missing"),
        pytest.param(
            STREAM, access(132, 40), ((132, 40, 16), 132, 40, 156), id="where its window ended, asking for more"
        ),
        pytest.param(
            STREAM, access(102, prev_index=101), ((102, 4, 3), 102, 4, 103), id="thrashed: from the first size again"
        ),
        pytest.param(STREAM, access(103, prev_index=101), (STREAM, 103, 1, -1), id="two behind its last page"),
        pytest.param(STREAM, access(100, prev_index=101), ((132, 32, 32), 132, 32, 132), id="back at its marker"),
        pytest.param(STREAM, access(99, prev_index=101), (STREAM, 99, 1, -1), id="backwards"),
        pytest.param(STREAM, access(0), ((0, 4, 3), 0, 4, 1), id="back at the start of the file"),
        pytest.param(
            STREAM, access(500, history_pages=9), ((500, 10, 1), 500, 10, 509), id="context: behind pages of its kind"
        ),
        pytest.param(
            STREAM, access(5, history_pages=5), ((5, 11, 1), 5, 11, 15), id="context: back to the start of the file"
        ),
        pytest.param(STREAM, access(500, 9, history_pages=9), (STREAM, 500, 9, -1), id="context: too few to be sure"),
        pytest.param(
            STREAM, access(500, history_pages=300), ((500, 32, 1), 500, 32, 531), id="context: more than the most"
        ),
        pytest.param(
            ReadaheadState(100, 8, 8),
            access(100, hit_marker=True),
            ((108, 16, 16), 108, 16, 108),
            id="its own marker: the next window",
        ),
        pytest.param(
            STREAM,
            access(40, 2, hit_marker=True, history_pages=3, hole_index=45),
            ((45, 14, 14), 45, 14, 45),
            id="item 48: another stream's marker, from the first hole on",
        ),
        pytest.param(STREAM, access(40, hit_marker=True, history_pages=3), None, id="a marker with all behind it here"),
        pytest.param(STREAM, access(40, hit_marker=True, hole_index=45), None, id="a marker that a stride landed on"),
        pytest.param(
            STREAM, access(132, unused_pages=16), ((132, 32, 16), 132, 32, 148), id="half of the window was used"
        ),
        pytest.param(STREAM, access(132, unused_pages=17), (STREAM, 132, 1, -1), id="most of it was skipped"),
        pytest.param(
            STREAM,
            access(100, hit_marker=True, unused_pages=1, hole_index=132),
            None,
            id="the marker of a window that was skipped",
        ),
    ],
)
def test_the_window_of_one_access(state, reader, window):
    expected = window and Window(ReadaheadState(*window[0]), *window[1:])
    assert ondemand(state, reader) == expected


def test_a_window_that_grows_keeps_its_start_and_its_marker():
    window = Window(ReadaheadState(160, 512, 500), 160, 512, 172)
    assert window.grown(2048) == Window(ReadaheadState(160, 2048, 2036), 160, 2048, 172)
    assert window.grown(100) == window


@given(
    state=st.builds(ReadaheadState, st.integers(0, 1000), st.integers(0, 600), st.integers(0, 600)),
    reader=st.builds(
        Access,
        st.integers(0, 1700),
        st.integers(1, 600),
        st.sampled_from([1, 2, 4, 16, 64, 256, 512]),
        st.integers(-1, 1000),
        st.booleans(),
        st.integers(0, 100),
        st.integers(0, 600),
        st.none() | st.integers(1, 600),
    ),
)
def test_what_holds_of_every_window(state, reader):
    if reader.hole_index is not None:
        reader = reader._replace(hole_index=reader.at_index + reader.hole_index)
    window = ondemand(state, reader)
    if window is None:
        assert reader.hit_marker
        return
    if not reader.hit_marker:
        covers = window.start <= reader.at_index < window.start + window.page_count
        is_next = window.start == state.start + state.size  # at the marker of a window that has gone
        assert covers or is_next
    assert 1 <= window.page_count <= max(reader.req_pages, reader.max_pages)
    assert window.marker_index == -1 or window.start <= window.marker_index < window.start + window.page_count
    if window.start == reader.at_index:
        assert window.page_count >= reader.req_pages
