"""The estimate of a store's pipe, against simulated links: latencies from 0.1 ms to 500 ms, bandwidths from 1 MB/s to
5 GB/s, and what spoils a measurement: jitter, stalls, errors, slow connections."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from tests.mm.scans import FIRST_BYTES, MB, MIB, ROOMY, STALL, Scan, Store
from tests.windows import EXACTLY, KNOWN_BYTES, SEEN_PART, piece_of, window_of

from pagein.mm.pipe import (
    MEMORY_S,
    PIECE_BYTES_MAX,
    PIECE_BYTES_MIN,
    PIECE_BYTES_START,
    PIECE_BYTES_UNIT,
    PIECE_PIPES,
    PROBE_BYTES_MAX,
    WIDTH_FILLING,
    WIDTH_MAX,
    WIDTH_START,
    WINDOW_BYTES_MAX,
    WINDOW_BYTES_START,
    WINDOW_PIECES,
    WINDOW_PIPES,
    Pipe,
    Started,
)

WINDOW_PIPES_MAX = WINDOW_PIECES * PIECE_PIPES
"""No window is longer, but the least one of a very short pipe."""
SMALL_BYTES = int(2 * WINDOW_PIECES * WIDTH_START * PIECE_BYTES_MIN)
"""The least window, in a round that tries twice as many requests."""
JITTERS = [(0.0, 0), (0.5, 0), (0.5, 1)]
"""With their seeds."""
LATENCIES_S = (0.0001, 0.001, 0.01, 0.1, 0.5)
BANDWIDTHS = (1 * MB, 10 * MB, 100 * MB, 1000 * MB, 5000 * MB)


EVERY_STORE = [Store(latency_s, bandwidth) for latency_s in LATENCIES_S for bandwidth in BANDWIDTHS]


def store_id(store: Store) -> str:
    return f"{store.latency_s * 1e3:g}ms-{store.bandwidth_bytes_s / MB:g}MBs"


def on_stores(keep: Callable[[Store], bool] = lambda store: True) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("store", [store for store in EVERY_STORE if keep(store)], ids=store_id)


# -- the window ----------------------------------------------------------------------------------------------


@on_stores(lambda store: store.pipe_bytes <= KNOWN_BYTES)
@pytest.mark.parametrize("head_s", [None, 0], ids=["head", "no-head"])
@pytest.mark.parametrize("jitter", [0.0, 0.5])
@pytest.mark.parametrize("stream_part", [0, 1], ids=["", "stream"])
def test_within_8_fetches_a_pipe_that_they_fill_is_known_and_window_pieces_and_width_with_it(
    store, head_s, jitter, stream_part
):
    """Each between what it would be if 0.4 of the bandwidth had been seen, and what it would be if all had."""
    scan = Scan(store._replace(jitter=jitter), head_s=head_s, stream_part=stream_part).run(8)
    pipe = scan.pipe
    # Without a HEAD the first fetch stands for it, whose bytes take time as well.
    most_s = (1 + jitter) * store.latency_s + (FIRST_BYTES / store.bandwidth_bytes_s if head_s == 0 else 0)
    assert store.latency_s / EXACTLY <= pipe.latency_s <= EXACTLY * most_s
    assert SEEN_PART <= pipe.bandwidth_bytes_s / store.bandwidth_bytes_s <= EXACTLY
    least_bytes, most_bytes = SEEN_PART * store.pipe_bytes, EXACTLY * most_s * store.bandwidth_bytes_s
    assert piece_of(least_bytes) <= scan.piece_bytes <= piece_of(most_bytes) + PIECE_BYTES_UNIT
    assert pipe.width == WIDTH_START
    if pipe.is_full:
        assert int(window_of(least_bytes)) <= scan.window_bytes <= window_of(most_bytes)
        assert scan.window_bytes == int(window_of(pipe.pipe_bytes)), "nothing is left of the first guess"
    else:
        assert jitter, "only what comes irregularly may still be taken for the reader's pace..."
        assert store.pipe_bytes > MIB, "...where it fills the pipe but once or twice"
        assert scan.window_bytes == max(WINDOW_BYTES_START, int(window_of(pipe.pipe_bytes)))
    assert max(scan.windows) <= max(WINDOW_BYTES_START, window_of(most_bytes))


@on_stores(lambda store: KNOWN_BYTES < store.pipe_bytes <= 100 * MIB)
@pytest.mark.parametrize(("jitter", "seed"), JITTERS)
def test_a_pipe_that_8_fetches_do_not_fill_has_a_longer_window_by_then_and_one_that_holds_it_within_32(
    store, jitter, seed
):
    scan = Scan(store._replace(jitter=jitter), seed=seed).run(8)
    assert WINDOW_BYTES_START < scan.window_bytes <= EXACTLY * WINDOW_PIPES * store.pipe_bytes
    assert scan.piece_bytes == PIECE_BYTES_MAX
    assert scan.pipe.width >= WIDTH_FILLING
    assert scan.pipe.bandwidth_bytes_s < 0.5 * store.bandwidth_bytes_s, "it is not known yet"
    scan.run(32)
    assert scan.pipe.is_full
    assert 2 * store.pipe_bytes <= scan.window_bytes <= EXACTLY * WINDOW_PIPES * store.pipe_bytes


@on_stores(lambda store: store.pipe_bytes > 100 * MIB)
@pytest.mark.parametrize(("jitter", "seed"), JITTERS)
def test_a_pipe_of_hundreds_of_mib_has_a_window_that_holds_it_late_and_is_never_filled(store, jitter, seed):
    """What is in flight is bounded: by requests, and by how large one may be."""
    scan = Scan(store._replace(jitter=jitter), seed=seed).run(8)
    assert WINDOW_BYTES_START < scan.window_bytes < store.pipe_bytes
    scan.run(128)
    assert scan.window_bytes >= min(store.pipe_bytes, WINDOW_BYTES_MAX)
    assert scan.pipe.width * scan.piece_bytes == WIDTH_MAX * PIECE_BYTES_MAX < store.pipe_bytes


@on_stores(lambda store: store.pipe_bytes <= 100 * MIB)
@pytest.mark.parametrize(("jitter", "seed"), JITTERS)
def test_the_window_stays_a_few_pipes_long(store, jitter, seed):
    """However long the scan: fetches that share a pipe end close together, and what each of them saw end is not
    what a pipe can carry."""
    scan = Scan(store._replace(jitter=jitter), seed=seed)
    bandwidths: list[float] = []
    scan.on_end = lambda: bandwidths.append(scan.pipe.bandwidth_bytes_s)
    scan.run(200)
    assert max(bandwidths) <= EXACTLY * store.bandwidth_bytes_s
    least_bytes = SMALL_BYTES if store.pipe_bytes <= 24 * MIB else WINDOW_BYTES_START
    assert scan.window_bytes <= max(WINDOW_PIPES_MAX * (1 + jitter) * store.pipe_bytes, least_bytes)


@settings(derandomize=True, deadline=None)
@given(
    store=st.builds(
        Store,
        st.sampled_from(LATENCIES_S),
        st.sampled_from(BANDWIDTHS),
        st.sampled_from([math.inf, 5 * MB]),
        st.sampled_from([64, 4]),
        jitter=st.sampled_from([0.0, 0.3, 2.0]),
        stalls=st.lists(st.integers(0, 30), max_size=2),
        errors=st.lists(st.integers(0, 30), max_size=2),
    ),
    share_bytes=st.integers(12, 32).map(lambda shift: 1 << shift),
    seed=st.integers(0, 1 << 16),
    head_s=st.sampled_from([None, 0]),
    stream_part=st.sampled_from([0, 0.2, 1]),
)
def test_no_window_exceeds_its_share_nor_a_piece_its_window_nor_the_bandwidth_the_store_s(
    store, share_bytes, seed, head_s, stream_part
):
    """Whatever the store does, at each moment."""
    scan = Scan(store, share_bytes, seed, head_s, stream_part=stream_part)

    def check() -> None:
        assert 0 < scan.window_bytes <= share_bytes
        assert 0 < scan.piece_bytes <= scan.window_bytes
        assert scan.piece_bytes <= PIECE_BYTES_MAX
        assert 1 <= scan.pipe.width <= WIDTH_MAX
        assert scan.pipe.in_flight >= 0
        assert scan.pipe.bandwidth_bytes_s <= EXACTLY * store.bandwidth_bytes_s

    check()
    scan.on_end = check
    scan.run(40)
    assert max(scan.windows) <= share_bytes


@on_stores()
def test_before_anything_is_known_the_window_is_generous_and_its_pieces_are_not(store):
    """Also when a HEAD has told the latency: it says nothing of the bandwidth."""
    scan = Scan(store)
    assert scan.window_bytes == WINDOW_BYTES_START
    assert scan.piece_bytes == PIECE_BYTES_START
    assert scan.pipe.window_bytes(MIB) == MIB
    assert scan.pipe.piece_bytes(100_000) == 100_000


# -- the pieces, and how many of them ------------------------------------------------------------------------


@on_stores(lambda store: PIECE_PIPES * store.pipe_bytes <= WIDTH_START * PIECE_BYTES_MAX)
@pytest.mark.parametrize(("jitter", "seed"), JITTERS)
def test_a_piece_waits_a_tenth_of_the_time_that_it_arrives(store, jitter, seed):
    """Where that takes no more than the largest pieces.  What the jitter adds is not latency."""
    scan = Scan(store._replace(jitter=jitter), seed=seed).run(150)
    arrived_s = sum(fetch.transfer.done_s - fetch.transfer.arrives_s for fetch in scan.ended[50:] if fetch.transfer)
    assert 100 * store.latency_s <= 0.12 * arrived_s


@on_stores()
def test_pieces_are_no_larger_than_what_is_worth_the_wait(store):
    """The least ones where the pipe is short; as many in a window as there are in flight, and some more."""
    scan = Scan(store).run(40)
    assert PIECE_BYTES_MIN <= scan.piece_bytes <= PIECE_BYTES_MAX
    assert scan.piece_bytes <= max(PIECE_PIPES * store.pipe_bytes / WIDTH_START + PIECE_BYTES_UNIT, PIECE_BYTES_MIN)
    assert scan.window_bytes >= (WINDOW_PIECES * WIDTH_START - 1) * scan.piece_bytes


@on_stores(lambda store: store.pipe_bytes <= 100 * MIB)
@pytest.mark.parametrize(("jitter", "seed"), JITTERS)
@pytest.mark.parametrize("stream_part", [0, 1], ids=["", "stream"])
def test_a_scan_fills_the_pipe(store, jitter, seed, stream_part):
    """Once it is known, with two pipes in flight or more."""
    scan = Scan(store._replace(jitter=jitter), seed=seed, stream_part=stream_part).run(200)
    assert scan.filled_since(100) >= 0.8
    assert scan.pipe.width * scan.piece_bytes >= 2 * store.pipe_bytes


@on_stores(lambda store: store.pipe_bytes <= MIB)
@pytest.mark.parametrize(("jitter", "seed"), JITTERS)
@pytest.mark.parametrize("stream_part", [0, 1], ids=["", "stream"])
def test_requests_that_share_a_bandwidth_stay_few(store, jitter, seed, stream_part):
    """More are tried now and then, and not kept: they would only let the reader wait longer for the first."""
    scan = Scan(store._replace(jitter=jitter), seed=seed, stream_part=stream_part)
    widths: list[int] = []
    scan.on_end = lambda: widths.append(scan.pipe.width)
    scan.run(300)
    assert WIDTH_START <= min(widths) < max(widths) <= 4 * WIDTH_START
    assert sum(widths[100:]) / 200 <= 1.5 * WIDTH_START


@pytest.mark.parametrize("connections", [6, 12, 24])
@pytest.mark.parametrize("latency_s", [0.001, 0.01, 0.1])
def test_where_each_connection_is_slow_requests_become_as_many_as_it_takes(connections, latency_s):
    """And there is a window that they fit into, since it is they that fill the pipe."""
    bandwidth = 500 * MB
    scan = Scan(Store(latency_s, bandwidth, connection_bytes_s=bandwidth / connections)).run(400)
    assert scan.pipe.width >= 0.75 * connections
    widths: list[int] = []
    scan.on_end = lambda: widths.append(scan.pipe.width)
    scan.run(1600)
    assert scan.filled_since(400) >= 0.8
    assert statistics.median(widths) >= 0.75 * connections, "also after it had to prove itself again"


@pytest.mark.parametrize("latency_s", [0.1, 0.5])
def test_while_requests_mostly_wait_there_are_many_of_them(latency_s):
    """What was seen of a long pipe says little of it, and none of them takes bandwidth from the others."""
    scan = Scan(Store(latency_s, 700 * MB))
    widths: list[int] = []
    scan.on_end = lambda: widths.append(scan.pipe.width)
    while not scan.pipe.bandwidth_bytes_s:
        scan.run(len(scan.ended) + 1)
    assert scan.pipe.width == WIDTH_START
    scan.run(len(scan.ended) + 24)
    assert max(widths[-24:]) >= WIDTH_FILLING


@pytest.mark.parametrize(("latency_s", "width"), [(0.001, WIDTH_START), (0.01, WIDTH_START), (0.1, WIDTH_FILLING)])
def test_before_anything_is_known_but_that_a_store_is_far_no_request_waits_for_another(latency_s, width):
    pipe = Pipe()
    assert pipe.width == WIDTH_START
    pipe.answered(0.0, latency_s)
    assert pipe.width == width
    pipe.ended(pipe.started(1.0), 2.0, MIB)  # it is slow
    assert pipe.width == WIDTH_START


@on_stores(lambda store: store.pipe_bytes <= MIB)
def test_where_requests_mostly_wait_because_they_are_small_they_become_larger_and_not_more(store):
    scan = Scan(store)
    while not scan.pipe.bandwidth_bytes_s:
        scan.run(len(scan.ended) + 1)
    while len(scan.ended) < 24 and scan.pipe.width == WIDTH_START:
        scan.run(len(scan.ended) + 1)
    assert scan.pipe.width <= 2 * WIDTH_START


def test_a_reader_who_asks_for_little_at_once_is_no_reason_to_try_more():
    """Two fetches are in flight, all the time: that is his pace, and what comes of it no measure for the width."""
    pipe, starts = Pipe(), deque[Started]()
    pipe.answered(0.0, 0.01)
    for second in range(100):
        starts.append(pipe.started(second))
        if len(starts) > 2:
            pipe.ended(starts.popleft(), second, MIB)
        assert pipe.width == WIDTH_START


def test_requests_become_few_again_when_connections_are_no_longer_slow():
    slow = Scan(Store(0.001, 500 * MB, connection_bytes_s=40 * MB)).run(400)
    assert slow.pipe.width >= 4 * WIDTH_START
    slow.link.connection_bytes_s = math.inf
    slow.run(3000)
    assert slow.pipe.width <= 2 * WIDTH_START


def test_a_pause_ends_the_try_with_more_requests():
    """What comes after it is another reader, or the same one at another pace."""
    scan = Scan(Store(0.01, 100 * MB))
    while scan.pipe.width == WIDTH_START:
        scan.run(len(scan.ended) + 1)
        assert len(scan.ended) < 100
    scan.drain()
    scan.pipe.started(scan.now_s + 1)
    assert scan.pipe.width == WIDTH_START


# -- the estimates -------------------------------------------------------------------------------------------


@on_stores()
def test_a_head_tells_the_latency_from_the_start(store):
    scan = Scan(store)
    assert scan.pipe.latency_s == pytest.approx(store.latency_s)
    scan.run(8)
    assert scan.pipe.latency_s == pytest.approx(store.latency_s)


@on_stores()
def test_without_a_head_the_first_fetches_tell_the_latency(store):
    """Within a factor of two, or as exactly as the smallest fetch can tell; no smaller fetch, no better estimate."""
    scan = Scan(store, head_s=0).run(8)
    transfer_s = FIRST_BYTES / store.bandwidth_bytes_s
    assert 0.5 * store.latency_s <= scan.pipe.latency_s <= 1.01 * (store.latency_s + transfer_s)


@on_stores(lambda store: store.pipe_bytes <= MIB)
def test_after_8_fetches_the_bandwidth_is_known_within_a_factor_of_two(store):
    """Of a pipe that 8 fetches can fill."""
    scan = Scan(store).run(8)
    assert 0.5 <= scan.pipe.bandwidth_bytes_s / store.bandwidth_bytes_s <= EXACTLY


@on_stores(lambda store: MIB < store.pipe_bytes <= 50 * MIB)
def test_the_bandwidth_of_a_long_pipe_is_known_once_it_is_filled(store):
    scan = Scan(store).run(64)
    assert 0.6 <= scan.pipe.bandwidth_bytes_s / store.bandwidth_bytes_s <= EXACTLY


def test_the_least_time_of_a_small_fetch_is_the_latency_for_a_while():
    """Then a longer one counts: the store, or the way there, may have become slower."""
    pipe = Pipe()
    pipe.answered(1.0, 0.02)
    pipe.answered(2.0, 0.01)
    pipe.answered(3.0, 0.03)
    assert pipe.latency_s == 0.01
    start = pipe.started(3.0 + MEMORY_S)
    pipe.answered(3.0 + MEMORY_S, 0.05)
    assert pipe.latency_s == 0.01, "what shares the pipe may be longer for that"
    pipe.ended(start, 3.0 + MEMORY_S, 0)
    pipe.answered(3.0 + MEMORY_S, 0.04)
    assert pipe.latency_s == 0.04


def test_the_bandwidth_of_a_while_ago_is_forgotten():
    """A store that has become ten times as slow is seen to be so."""
    slow = Store(0.01, 10 * MB)
    scan = Scan(Store(0.01, 100 * MB)).run(100)
    after = Scan(slow, pipe=scan.pipe, now_s=scan.now_s)
    after.run(10)
    assert scan.pipe.bandwidth_bytes_s > 50 * MB, "not at once"
    while after.now_s < scan.now_s + 2 * MEMORY_S:
        after.run(len(after.ended) + 1)
    assert scan.pipe.bandwidth_bytes_s <= 2 * slow.bandwidth_bytes_s
    assert after.window_bytes <= max(WINDOW_PIPES_MAX * slow.pipe_bytes, SMALL_BYTES)


def test_the_bandwidth_is_that_of_all_fetches_together():
    """Of four that share the pipe none is slow."""
    pipe = Pipe()
    starts = [pipe.started(0.0) for _ in range(4)]
    assert pipe.in_flight == 4
    for start in starts:
        pipe.ended(start, 0.1, MIB)
    assert pipe.in_flight == 0
    assert pipe.bandwidth_bytes_s == pytest.approx(40 * MIB)


def test_a_fetch_that_ends_among_longer_ones_does_not_bring_their_bytes():
    """Eight pieces take 0.8 s together; one that was asked for just before they end is done just after."""
    pipe = Pipe()
    starts = [pipe.started(0.0) for _ in range(8)]
    last = pipe.started(0.79)
    for start in starts:
        pipe.ended(start, 0.8, MIB)
    pipe.ended(last, 0.81, MIB // 10 * 2)
    assert pipe.bandwidth_bytes_s == pytest.approx(10 * MIB, rel=0.02)


def test_what_was_under_way_when_a_round_began_does_not_count_for_it():
    """Ten fetches are always in flight and each takes a second: whenever they began, no more than ten come in one."""
    pipe, starts = Pipe(), deque[Started]()
    for tick in range(200):
        starts.append(pipe.started(tick / 10))
        if len(starts) > 10:
            pipe.ended(starts.popleft(), tick / 10, MIB)
            assert pipe.bandwidth_bytes_s <= EXACTLY * 10 * MIB
    assert pipe.bandwidth_bytes_s >= 7 * MIB


def test_a_pause_of_the_reader_is_not_the_store_s():
    """Nothing came in it because nothing was asked for: what comes then counts by its own time."""
    pipe = Pipe()
    for at_s, size_bytes in ((0.0, MIB), (5.0, 2 * MIB)):
        pipe.ended(pipe.started(at_s), at_s + 0.1, size_bytes)
        assert pipe.bandwidth_bytes_s == pytest.approx(10 * size_bytes)


# -- what spoils a measurement -------------------------------------------------------------------------------


@on_stores(lambda store: store.pipe_bytes <= 100 * MIB)
@pytest.mark.parametrize("stalled", [0, 1, 2, 5, 8, 21])
@pytest.mark.parametrize("stream_part", [0, 1], ids=["", "stream"])
def test_one_stall_neither_collapses_nor_explodes_the_window(store, stalled, stream_part):
    """Within 8 fetches it is as large as the pipe again, and never is it larger than without."""
    scan = Scan(store._replace(stalls=[stalled]), stream_part=stream_part)
    scan.run(stalled + 9)
    assert scan.window_bytes >= min(store.pipe_bytes, WINDOW_BYTES_START)
    assert scan.pipe.bandwidth_bytes_s <= EXACTLY * store.bandwidth_bytes_s
    least_bytes = SMALL_BYTES if store.pipe_bytes <= MIB else WINDOW_BYTES_START
    assert scan.window_bytes <= max(WINDOW_PIPES_MAX * store.pipe_bytes, least_bytes)


@on_stores()
@pytest.mark.parametrize("failed", [[0], [1], [3, 4], [8], range(0, 30, 2)], ids=str)
def test_errors_measure_nothing(store, failed):
    """Fetches that fail, be it every other one, leave the estimates as they would be without."""
    scan = Scan(store._replace(errors=failed), head_s=store.latency_s)
    scan.run(8 + 2 * len(failed))
    assert scan.pipe.latency_s == pytest.approx(store.latency_s, rel=0.01)
    assert scan.pipe.bandwidth_bytes_s <= EXACTLY * store.bandwidth_bytes_s
    assert scan.window_bytes >= min(store.pipe_bytes, WINDOW_BYTES_START)


def test_an_error_is_one_less_in_flight_and_no_more():
    pipe = Pipe()
    pipe.ended(pipe.started(0.0), 1.0, 0)
    assert pipe.in_flight == 0
    assert pipe.bandwidth_bytes_s == pipe.latency_s == pipe.pipe_bytes == 0
    assert pipe.window_bytes(ROOMY) == WINDOW_BYTES_START


@on_stores(lambda store: store.pipe_bytes >= MIB)
def test_small_reads_of_which_one_stalls_do_not_make_the_window_small(store):
    """They are a reader's who reads here and there, and say nothing of what the store could do for a scan."""
    pipe, now_s = Pipe(), 0.0
    for number in range(20):
        start = pipe.started(now_s)
        now_s += store.latency_s * (STALL if number == 10 else 1)
        pipe.ended(start, now_s, 4096)
    assert pipe.bandwidth_bytes_s == 0
    assert pipe.window_bytes(ROOMY) >= min(store.pipe_bytes, WINDOW_BYTES_START)


@on_stores()
@pytest.mark.parametrize("first_bytes", [PROBE_BYTES_MAX, MIB])
def test_a_head_on_a_new_connection_does_not_stand_for_the_latency_for_ever(store, first_bytes):
    """It took ten times as long, for the connection had to be made.  A fetch that took less time, of whatever size,
    says that the latency is no more than that."""
    scan = Scan(store, head_s=10 * store.latency_s, first_bytes=first_bytes).run(8)
    fastest_s = min(fetch.transfer.done_s - fetch.transfer.asked_s for fetch in scan.ended if fetch.transfer)
    assert scan.pipe.latency_s <= max(fastest_s, 2 * store.latency_s)
    if store.pipe_bytes <= MIB:
        widths: list[int] = []
        scan.on_end = lambda: widths.append(scan.pipe.width)
        scan.run(200)
        assert sum(widths) / len(widths) <= 3 * WIDTH_START, "nothing is gained by more requests"


@on_stores(lambda store: store.pipe_bytes <= 24 * MIB)
def test_a_reader_that_computes_between_reads_gets_a_window_that_holds_the_pipe(store):
    """He is slower than the store, and asks for one small fetch after another: what arrives is his pace, and no reason
    for a small window once he is in a hurry."""
    pipe, now_s = Pipe(), store.latency_s
    pipe.answered(now_s, store.latency_s)
    for _ in range(10):
        start = pipe.started(now_s)
        now_s += store.latency_s + PROBE_BYTES_MAX / store.bandwidth_bytes_s
        pipe.ended(start, now_s, PROBE_BYTES_MAX)
        now_s += 10 * store.latency_s
    scan = Scan(store, pipe=pipe, now_s=now_s, first_bytes=MIB).run(8)
    assert scan.window_bytes >= min(store.pipe_bytes, WINDOW_BYTES_START)


@on_stores(lambda store: MIB <= store.pipe_bytes <= 24 * MIB)
@pytest.mark.parametrize("size_bytes", [4096, 2 * PROBE_BYTES_MAX])
def test_after_a_while_of_a_slow_reader_the_window_still_holds_the_pipe(store, size_bytes):
    """A scan has filled the pipe; since then there is one fetch a second, small or large."""
    scan = Scan(store).run(100)
    scan.drain()
    for second in range(int(2 * MEMORY_S)):
        at_s = scan.now_s + second
        scan.pipe.ended(
            scan.pipe.started(at_s), at_s + store.latency_s + size_bytes / store.bandwidth_bytes_s, size_bytes
        )
        assert scan.window_bytes >= store.pipe_bytes


def test_who_looks_as_a_new_record_is_noted_sees_the_old_one_or_the_new():
    """Readers ask how large a window may be without a lock."""
    pipe = Pipe()
    looks: list[float] = []

    class Rates(deque[Any]):
        """Which another thread comes by each time that they have changed."""

        def pop(self) -> Any:  # type: ignore[override]
            sample = super().pop()
            looks.append(pipe.bandwidth_bytes_s)
            return sample

    pipe.ended(pipe.started(0.0), 1.0, MIB)
    pipe._rates = Rates(pipe._rates)
    pipe.ended(pipe.started(2.0), 2.5, MIB)
    assert looks == [MIB]
    assert pipe.bandwidth_bytes_s == 2 * MIB
