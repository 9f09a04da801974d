"""How many requests a store is asked at once to begin with: as many as come as fast as one would alone.

Of a store whose connections are slow (S3 as it is: each brings less than a hundred MB/s, and there may be thousands) a
reader has what he asks for at once; of one whose requests share a bandwidth, more of them bring no more.
"""

from __future__ import annotations

import math

import pytest
from tests.mm.scans import MB, MIB, ROOMY, Scan, Store

from pagein.mm.pipe import (
    FULL_FETCHES,
    PIECE_BYTES_MAX,
    PIECE_BYTES_MIN,
    START_PIPES,
    WIDTH_FILLING,
    WIDTH_MAX,
    WIDTH_START,
    Pipe,
    start_piece_bytes,
)

SLOW = 60 * MB
"""What a connection of S3 brings."""
NEAR_S, FAR_S = 0.01, 0.03


class Clock:
    """One for all: what is soon after another fetch is not of a round that knows nothing of that."""

    now_s = 0.0


def fetches(pipe: Pipe, count: int, *, at_once: int, bytes_s: float, size_bytes: int = MIB) -> None:
    """So many, one after another, each of which comes so fast; with it, so many are in flight from its start to its
    end."""
    for _ in range(count):
        starts = [pipe.started(Clock.now_s) for _ in range(at_once)]
        Clock.now_s += pipe.latency_s + size_bytes / bytes_s
        pipe.ended(starts[-1], Clock.now_s, size_bytes)
        for start in starts[:-1]:
            pipe.ended(start, Clock.now_s, 0)  # which measures nothing
        Clock.now_s += 0.001


def started_pipe(stream_bytes_s: float = SLOW, latency_s: float = NEAR_S) -> Pipe:
    pipe = Pipe()
    pipe.answered(0.0, latency_s)
    pipe.streamed(stream_bytes_s)
    return pipe


@pytest.mark.parametrize("connections", [6, 12, 24])
@pytest.mark.parametrize("latency_s", [0.001, 0.01, 0.03, 0.1])
@pytest.mark.parametrize(("jitter", "seed"), [(0.0, 0), (0.5, 0), (0.5, 1)])
def test_where_each_connection_is_slow_there_are_soon_as_many_as_it_takes(connections, latency_s, jitter, seed):
    """Within two fetches for each of them; without what one brings alone it takes hundreds."""
    bandwidth = 500 * MB
    store = Store(latency_s, bandwidth, connection_bytes_s=bandwidth / connections, jitter=jitter)
    scan = Scan(store, seed=seed, stream_part=1).run(8 + 2 * connections)
    assert scan.pipe.width >= 0.75 * connections
    scan.run(1000)
    assert scan.filled_since(100) >= 0.75


@pytest.mark.parametrize(
    ("connections", "latency_s", "times"), [(4, 0.03, 1.0), (16, 0.03, 1.8), (32, 0.03, 2.0), (32, 0.1, 1.1)]
)
def test_a_scan_of_256_mib_is_that_much_faster_for_it(connections, latency_s, times):
    def seconds(stream_part: float) -> float:
        store = Store(latency_s, connections * SLOW, connection_bytes_s=SLOW, jitter=0.3)
        scan = Scan(store, stream_part=stream_part)
        while sum(fetch.size_bytes for fetch in scan.ended) < 256 * MIB:
            scan.run(len(scan.ended) + 1)
        return scan.now_s

    assert seconds(0) >= times * seconds(1)


@pytest.mark.parametrize("stream_part", [1, 0.7])
@pytest.mark.parametrize("bandwidth", [10 * MB, 100 * MB, 1000 * MB])
@pytest.mark.parametrize("latency_s", [0.0001, 0.001, 0.01])
@pytest.mark.parametrize(("jitter", "seed"), [(0.0, 0), (0.5, 0), (0.5, 1)])
def test_where_requests_share_a_bandwidth_they_stay_few(bandwidth, latency_s, stream_part, jitter, seed):
    """But for those that are tried now and then, later."""
    scan = Scan(Store(latency_s, bandwidth, jitter=jitter), seed=seed, stream_part=stream_part)
    proved: list[int] = []
    scan.on_end = lambda: proved.append(scan.pipe._proved_width)
    scan.run(40)
    assert max(proved) <= WIDTH_START + 2
    assert proved[-1] == WIDTH_START
    assert not scan.pipe._is_starting


@pytest.mark.parametrize("bandwidth", [10 * MB, 100 * MB, 1000 * MB])
@pytest.mark.parametrize("latency_s", [0.001, 0.01])
@pytest.mark.parametrize("stream_part", [0.25, 0.1])
def test_one_that_had_shared_when_it_was_measured_makes_them_half_as_many_more(bandwidth, latency_s, stream_part):
    """Their own rates show what one brings at least; and the start has an end."""
    scan = Scan(Store(latency_s, bandwidth), stream_part=stream_part)
    widths: list[int] = []
    scan.on_end = lambda: widths.append(scan.pipe.width)
    scan.run(60)
    assert max(widths) <= 3 * WIDTH_START
    assert not scan.pipe._is_starting
    assert scan.pipe.is_full


def test_a_reader_who_asks_for_little_at_once_is_no_reason_for_more():
    pipe = started_pipe()
    fetches(pipe, 100, at_once=2, bytes_s=SLOW)
    assert pipe.width == WIDTH_START
    assert pipe._is_starting, "nor does it end the start"


def test_each_that_comes_as_if_alone_is_one_more_up_to_the_most():
    pipe = started_pipe()
    widths = []
    for _ in range(WIDTH_MAX):
        fetches(pipe, 1, at_once=pipe.width, bytes_s=SLOW)
        widths.append(pipe.width)
    assert widths == [*range(WIDTH_START + 1, WIDTH_MAX), *[WIDTH_MAX] * (WIDTH_START + 1)]


def test_slow_ones_are_none_and_end_the_start_once_they_are_so_many_more_than_the_others():
    pipe = started_pipe()
    fetches(pipe, FULL_FETCHES - 1, at_once=4, bytes_s=SLOW / 4)
    assert pipe._is_starting
    fetches(pipe, 1, at_once=4, bytes_s=SLOW)  # one may be lucky, or unlucky
    fetches(pipe, 1, at_once=5, bytes_s=SLOW / 4)
    assert (pipe.width, pipe._is_starting) == (WIDTH_START + 1, True)
    fetches(pipe, 1, at_once=5, bytes_s=SLOW / 4)
    assert (pipe.width, pipe._is_starting) == (WIDTH_START, False)


@pytest.mark.parametrize(("part", "width"), [(0.49, 18), (0.3, 11), (0.05, WIDTH_START)])
def test_then_there_are_half_as_many_again_as_it_takes_to_bring_what_they_brought(part, width):
    pipe = started_pipe()
    for _ in range(24 - WIDTH_START):
        fetches(pipe, 1, at_once=pipe.width, bytes_s=SLOW)
    assert pipe.width == 24
    fetches(pipe, FULL_FETCHES, at_once=24, bytes_s=part * SLOW)
    assert pipe.width == pytest.approx(width, abs=1)


@pytest.mark.parametrize(
    ("bytes_s", "latency_s", "piece_bytes"),
    [(SLOW, FAR_S, 3_600_000), (1 * MB, 0.01, PIECE_BYTES_MIN), (900 * MB, 0.1, START_PIPES * 90_000_000)],
)
def test_until_the_pipe_is_full_a_request_asks_for_what_comes_while_two_wait(bytes_s, latency_s, piece_bytes):
    assert start_piece_bytes(bytes_s, latency_s) == pytest.approx(piece_bytes)
    pipe = started_pipe(bytes_s, latency_s)
    assert pipe.start_bytes_max == pytest.approx(piece_bytes)
    fetches(pipe, FULL_FETCHES, at_once=2, bytes_s=bytes_s, size_bytes=64 * PIECE_BYTES_MAX)
    assert pipe.is_full
    assert pipe.start_bytes_max == PIECE_BYTES_MAX


def test_before_anything_is_known_of_one_connection_the_largest_is_8_mib():
    """Of 16 MiB by a slow one the reader would wait for the last as long as all others take."""
    assert Pipe().start_bytes_max == PIECE_BYTES_MAX == 8 * MIB
    pipe = Pipe()
    pipe.streamed(SLOW)
    assert pipe.start_bytes_max == PIECE_BYTES_MAX, "the latency is not known"


def test_while_more_are_tried_a_window_has_room_for_them():
    pipe = started_pipe(latency_s=0.001)
    for _ in range(20):
        fetches(pipe, 1, at_once=pipe.width, bytes_s=SLOW)
    assert pipe.width == WIDTH_START + 20
    assert not pipe.is_full
    assert pipe.window_bytes(ROOMY) >= 64 * MIB


@pytest.mark.parametrize(
    ("several_bytes_s", "width"), [(0, WIDTH_START), (SLOW, WIDTH_START), (400 * MB, 10), (9000 * MB, WIDTH_MAX)]
)
def test_another_cache_s_store_is_asked_for_as_many_as_it_took_there(several_bytes_s, width):
    pipe = Pipe()
    pipe.answered(0.0, 0.001)
    pipe.begin_with(SLOW, several_bytes_s)
    assert pipe.width == width
    pipe.ended(pipe.started(0.0), 1.0, MIB)
    pipe.begin_with(SLOW, 2 * several_bytes_s)
    assert pipe.width == width, "it has seen for itself"


def test_of_a_store_of_which_another_cache_knows_nothing_there_is_nothing_to_begin_with():
    pipe = Pipe()
    pipe.begin_with(0.0, 0.0)
    assert (pipe.width, pipe.stream_bytes_s) == (WIDTH_START, 0)


@pytest.mark.parametrize(
    ("latency_s", "several_bytes_s", "width"),
    [(FAR_S, 3 * SLOW, WIDTH_FILLING), (FAR_S, 1.5 * SLOW, WIDTH_START), (NEAR_S, 3 * SLOW, 5)],
)
def test_of_one_that_is_far_and_takes_several_there_are_many_until_they_slow_each_other(
    latency_s, several_bytes_s, width
):
    pipe = started_pipe(latency_s=latency_s)
    pipe.begin_with(SLOW, several_bytes_s)
    fetches(pipe, 1, at_once=1, bytes_s=SLOW)
    assert pipe.width == width
    fetches(pipe, 3 * FULL_FETCHES, at_once=WIDTH_MAX, bytes_s=SLOW / 10)
    assert not pipe._is_starting
    assert pipe.width < WIDTH_FILLING


def test_what_is_known_of_one_never_falls():
    pipe = Pipe()
    for bytes_s in (SLOW, SLOW / 2, 2 * SLOW, SLOW):
        pipe.streamed(bytes_s)
    assert pipe.stream_bytes_s == 2 * SLOW
    assert math.isfinite(pipe.start_bytes_max)


def test_one_more_than_there_were_whatever_they_were_for():
    """Where many were tried because it is far: not one more than before that."""
    pipe = started_pipe(latency_s=FAR_S)
    pipe.begin_with(SLOW, 3 * SLOW)
    fetches(pipe, 1, at_once=WIDTH_FILLING, bytes_s=SLOW)
    assert pipe.width == WIDTH_FILLING + 1
    assert pipe._proved_width == WIDTH_FILLING + 1


def test_if_that_was_too_many_there_are_as_many_as_it_takes_and_not_as_many_as_before():
    pipe = started_pipe(latency_s=FAR_S)
    pipe.begin_with(SLOW, 2 * SLOW)
    fetches(pipe, FULL_FETCHES, at_once=WIDTH_FILLING, bytes_s=0.45 * SLOW)
    assert pipe.width == math.ceil(1.5 * 0.45 * WIDTH_FILLING)


def test_small_requests_are_no_crowd():
    """Thirty that bring nothing leave one alone, which is no reason for thirty."""
    pipe = started_pipe()
    fetches(pipe, 1, at_once=31, bytes_s=SLOW)
    assert pipe.width == WIDTH_START + 1


def test_one_that_began_alone_says_less_of_those_that_came_later():
    pipe = started_pipe()
    start, others = pipe.started(0.0), [pipe.started(0.001) for _ in range(WIDTH_START - 1)]
    pipe.ended(start, NEAR_S + MIB / SLOW, MIB)
    assert pipe.width == WIDTH_START
    assert len(others) == WIDTH_START - 1


def test_one_that_waits_longer_than_it_arrives_is_not_taken_for_faster_than_it_can_be():
    """Its latency is known but roughly, and what is left of its time may be nothing."""
    pipe = started_pipe(latency_s=0.1)
    fetches(pipe, 1, at_once=4, bytes_s=1e12, size_bytes=16 * MIB)
    assert pipe.stream_bytes_s == pytest.approx(2 * 16 * MIB / 0.1, rel=0.01)


def test_one_that_takes_no_time_is_none_that_cannot_be():
    """By a clock that is coarse."""
    pipe = started_pipe(latency_s=0.0)
    pipe.ended(pipe.started(1.0), 1.0, MIB)
    assert pipe.stream_bytes_s == SLOW


@pytest.mark.parametrize("size_kib", [256, 512])
@pytest.mark.parametrize("latency_s", [0.03, 0.06])
def test_those_that_mostly_wait_do_not_end_the_start(size_kib, latency_s):
    """Of readers who want some hundred KiB each: that they do not come faster is not for want of room."""
    pipe = started_pipe(latency_s=latency_s)
    fetches(pipe, 20, at_once=WIDTH_FILLING, bytes_s=SLOW, size_bytes=size_kib << 10)
    assert pipe._is_starting


def test_a_try_that_more_come_as_fast_is_over_with_the_next_that_does():
    """It is one more than there were, and not twice as many as that."""
    pipe = started_pipe()
    starts = [pipe.started(Clock.now_s) for _ in range(2 * WIDTH_START)]
    pipe._is_probing = True
    assert pipe.width == 2 * WIDTH_START
    Clock.now_s += NEAR_S + MIB / SLOW
    pipe.ended(starts[-1], Clock.now_s, MIB)
    assert pipe.width == 2 * WIDTH_START + 1


def test_at_the_most_the_pipe_is_full():
    pipe = started_pipe(latency_s=0.001)
    fetches(pipe, WIDTH_MAX + FULL_FETCHES, at_once=WIDTH_MAX, bytes_s=SLOW)
    assert pipe.width == WIDTH_MAX
    assert pipe.is_full


def test_one_that_was_full_is_not_once_there_is_room_for_more():
    pipe = started_pipe(latency_s=0.001)
    fetches(pipe, FULL_FETCHES, at_once=2, bytes_s=SLOW)
    assert pipe.is_full
    fetches(pipe, 1, at_once=WIDTH_START, bytes_s=SLOW)
    assert pipe.width == WIDTH_START + 1
    assert not pipe.is_full


def test_a_reader_who_slows_down_ends_the_growth_and_the_pipe_is_full():
    """Else its window, and its requests, would stay those of the start for good."""
    pipe = started_pipe(latency_s=0.001)
    fetches(pipe, 1, at_once=WIDTH_START, bytes_s=SLOW)
    assert not pipe.is_full
    fetches(pipe, 3 * FULL_FETCHES, at_once=2, bytes_s=SLOW)
    assert pipe.is_full
    assert pipe._is_starting, "there may be room for more, once somebody asks for it"


@pytest.mark.parametrize("requests_max", [1, 2, 3, 4])
def test_of_a_store_that_takes_no_more_than_four_all_are_as_large_as_they_were(requests_max):
    pipe = Pipe(requests_max)
    pipe.answered(0.0, NEAR_S)
    pipe.streamed(SLOW)
    assert pipe.start_bytes_max == PIECE_BYTES_MAX
    fetches(pipe, 40, at_once=requests_max, bytes_s=SLOW, size_bytes=4 * MIB)
    assert pipe._proved_width == WIDTH_START
    assert pipe.is_full


def test_there_are_no_more_than_the_store_takes():
    pipe = Pipe(8)
    pipe.answered(0.0, FAR_S)
    pipe.begin_with(SLOW, 100 * SLOW)
    assert pipe._proved_width == 8
    fetches(pipe, 40, at_once=8, bytes_s=SLOW)
    assert pipe._proved_width == 8
    fetches(pipe, FULL_FETCHES, at_once=8, bytes_s=SLOW / 4)
    assert not pipe._is_starting, "eight are all, where twelve would be tried"


@pytest.mark.parametrize("stream_part", [0.25, 1])
@pytest.mark.parametrize("taken", [6, 8, 16])
@pytest.mark.parametrize("latency_s", [0.002, 0.03])
def test_a_server_that_lets_more_wait_in_silence_is_asked_for_few_more(taken, latency_s, stream_part):
    store = Store(latency_s, math.inf, connection_bytes_s=SLOW, connections=taken)
    scan = Scan(store, stream_part=stream_part).run(300)
    assert 0.75 * taken <= scan.pipe._proved_width
    assert scan.pipe._proved_width <= 2 * taken or taken == 16, "which may be all there are"
    scan.run(600)
    began, ended = scan.ended[299].ended_at_s, scan.ended[-1].ended_at_s
    assert sum(fetch.size_bytes for fetch in scan.ended[300:]) / (ended - began) >= 0.6 * taken * SLOW
