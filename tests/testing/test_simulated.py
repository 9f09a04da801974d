"""A store at the end of a link takes as long as the link says, on a virtual clock or not, and the same each time."""

from __future__ import annotations

import asyncio
import errno
import math
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from tests.windows import EXACTLY, KNOWN_BYTES, SEEN_PART, piece_of, window_of

from pagein import File, PageCache, aio
from pagein.mm.pipe import PIECE_BYTES_MIN, PIECE_BYTES_UNIT, WIDTH_START, WINDOW_BYTES_START, WINDOW_PIECES, Pipe
from pagein.mm.readahead import CACHE_SHARE
from pagein.stores.memory import MemoryStore
from pagein.stores.source import Store
from pagein.testing import FaultyStore, Link, Request, SimulatedStore, VirtualClock
from pagein.testing.durable import DurableStore
from pagein.testing.simulated import TILE_BYTES
from pagein.units import PAGE_SIZE

MIB = 1 << 20


def link(**more: Any) -> Link:
    return Link(latency_s=0.1, bandwidth_bytes_s=10 * MIB, **more)


def fetches(store: SimulatedStore) -> list[Request]:
    return [request for request in store.requests if request.operation == "fill"]


def in_cache(store: Store, clock: VirtualClock, run: Callable[[File], Any], size: str = "32 MiB") -> Any:
    """What *run* makes of the file "a"."""
    with PageCache(size, door=clock) as cache, cache.open((store, "a")) as file:
        assert isinstance(file, File)
        return run(file)


# -- the link ----------------------------------------------------------------------------------------------------


def test_a_request_takes_its_latency_and_the_time_of_its_bytes() -> None:
    it = Link(latency_s=0.1, bandwidth_bytes_s=100)
    assert it.done_s(it.ask(5.0, 50)) == pytest.approx(5.6)
    assert it.advance_to_next() == pytest.approx(5.6)
    it = Link()
    assert it.done_s(it.ask(1.0, 1 << 40)) == 1.0, "whatever is not said takes no time"


def test_requests_share_the_bandwidth_while_both_arrive() -> None:
    """100 bytes a second: the second waits while the first has all, then each has half, then the second has all."""
    it = Link(latency_s=1, bandwidth_bytes_s=100)
    first, second = it.ask(0, 100), it.ask(0.5, 100)
    assert it.done_s(first) == pytest.approx(2.5)
    assert it.done_s(second) == pytest.approx(3.0)
    it.advance(1.7)
    third = it.ask(1.7, 1000)
    assert it.done_s(first) == pytest.approx(2.5)
    assert it.done_s(second) == pytest.approx(3.3), "from 2.7 on the third arrives, too"
    it.advance(3.5)
    assert (first.done_s, second.done_s) == pytest.approx((2.5, 3.3))
    assert third.done_s == math.inf


def test_no_connection_is_faster_than_it_can_and_who_has_none_waits_for_one() -> None:
    it = Link(latency_s=1, bandwidth_bytes_s=100, connection_bytes_s=10, connections=2)
    transfers = [it.ask(0, 10) for _ in range(5)]
    assert [it.done_s(one) for one in transfers] == pytest.approx([2, 2, 4, 4, 6])
    assert [it.advance_to_next() for _ in range(3)] == pytest.approx([2, 4, 6])
    with pytest.raises(ValueError, match="nothing is under way"):
        it.advance_to_next()


def test_the_figures_may_change_while_requests_are_under_way() -> None:
    it = Link(bandwidth_bytes_s=100)
    transfers = [it.ask(0, size) for size in (100, 50, 100)]
    it.advance(0.9)
    it.connections, it.bandwidth_bytes_s, it.latency_s = 1, 10, 5
    transfers.append(it.ask(0.9, 10))
    it.advance(100)
    assert [one.done_s for one in transfers] == pytest.approx([16.9, 6.9, 16.9, 22.9])


@pytest.mark.parametrize("now_s", [0.0, 2e7, 1e12])
def test_a_request_ends_whatever_the_clock_says(now_s: float) -> None:
    """Of a machine that has been up for 231 days, a clock tells no nanosecond."""
    it = Link(bandwidth_bytes_s=6.67e8)
    transfer = it.ask(now_s, 1)
    assert it.done_s(transfer) - now_s == pytest.approx(0, abs=1e-8)
    it.advance(now_s + 1)
    assert transfer.done_s - now_s == pytest.approx(0, abs=1e-8)


def test_jitter_stalls_and_errors_are_those_of_the_seed() -> None:
    def durations(**more: Any) -> list[float]:
        it = Link(latency_s=1, connections=200, **more)
        transfers = [it.ask(0, 0) for _ in range(200)]
        it.advance(1000)
        return [transfer.done_s for transfer in transfers]

    jittery = durations(jitter=0.5, seed=7)
    assert min(jittery) >= 1
    assert 1.4 < max(jittery) <= 1.5
    assert jittery == durations(jitter=0.5, seed=7) != durations(jitter=0.5, seed=8)
    stalling = durations(jitter=0.5, stalls=0.05, stall_s=60, seed=7)
    assert 3 <= sum(one > 60 for one in stalling) <= 20
    assert [one % 60 for one in stalling] == pytest.approx(jittery), "and all else is as it was"
    assert [at for at, one in enumerate(durations(stalls=[3, 8])) if one > 1] == [3, 8]
    it = Link(errors=[1])
    assert [it.ask(0, 10).fails for _ in range(3)] == [False, True, False]


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ({"latency_s": -1}, "ValueError: latency_s must be a finite number, at least 0, not -1"),
        ({"latency_s": math.inf}, "ValueError: latency_s must be a finite number, at least 0, not inf"),
        ({"latency_s": "1"}, "TypeError: latency_s must be a finite number, at least 0, not '1'"),
        ({"bandwidth_bytes_s": 0}, "ValueError: bandwidth_bytes_s must be a number, more than 0, not 0"),
        ({"connections": 0}, "ValueError: connections must be a whole number, at least 1, not 0"),
        ({"connections": 1.5}, "TypeError: connections must be a whole number, at least 1, not 1.5"),
        (
            {"stalls": 2.0},
            "ValueError: stalls must be a chance from 0 to 1, or a collection of the numbers of .*not 2.0",
        ),
        ({"stalls": [3, -1]}, r"ValueError: stalls must be .*, not \[3, -1\]"),
        ({"errors": -0.1}, "ValueError: errors must be a chance"),
        ({"errors": "abc"}, "TypeError: errors must be .*, not 'abc'"),
        ({"errors": None}, "TypeError: errors must be .*, not None"),
    ],
)
def test_a_link_that_cannot_be_is_refused(figures: dict[str, Any], message: str) -> None:
    """Also when it becomes so later."""
    ((name, value),) = figures.items()
    for run in (lambda: Link(**figures), lambda: setattr(Link(), name, value)):
        with pytest.raises((ValueError, TypeError)) as raised:
            run()
        assert re.match(message, f"{type(raised.value).__name__}: {raised.value}")


@pytest.mark.parametrize(
    ("content", "kind"), [(-1, ValueError), (1.5, TypeError), (None, TypeError), ("text", TypeError)]
)
def test_content_that_cannot_be_is_refused(content: Any, kind: type[Exception]) -> None:
    message = f"the content of 'a' must be bytes, or how many of them, at least 0, not {content!r}"
    with pytest.raises(kind, match=re.escape(message)):
        SimulatedStore({"a": content})
    store = SimulatedStore({"a": b"as it was"})
    with pytest.raises(kind, match=re.escape(message)):
        store.put("a", content)
    assert store.content("a") == b"as it was"


# -- through a cache ---------------------------------------------------------------------------------------------


def test_a_random_read_is_one_small_request_and_takes_one_latency() -> None:
    with VirtualClock() as clock:
        store = SimulatedStore({"a": 64 * MIB}, link(), clock=clock)

        def run(file: File) -> None:
            opened_s = clock.now_s()
            assert opened_s == pytest.approx(0.1)
            assert file.pread(100, 5 * MIB) == store.content("a", 5 * MIB, 100)
            assert file.pread(100, 5 * MIB) == store.content("a", 5 * MIB, 100)
            (fetch,) = fetches(store)
            assert (fetch.offset_bytes, fetch.asked_s, fetch.answered_s) == (5 * MIB, opened_s, clock.now_s())
            assert fetch.size_bytes <= 4 * PAGE_SIZE
            assert clock.now_s() - opened_s == pytest.approx(0.1 + fetch.size_bytes / (10 * MIB))

        in_cache(store, clock, run)
        assert [request.operation for request in store.requests] == ["open", "fill"]


def test_four_readers_of_one_file_are_one_download() -> None:
    with VirtualClock() as clock:
        store = SimulatedStore({"a": 8 * MIB}, link(), clock=clock)
        whole = store.content("a")

        def run(file: File) -> list[bytes]:
            return clock.together(*[lambda: b"".join(file.pread(MIB, at) for at in range(0, 8 * MIB, MIB))] * 4)

        assert in_cache(store, clock, run) == [whole] * 4
        assert sum(fetch.size_bytes for fetch in fetches(store)) == 8 * MIB
        assert clock.now_s() < 0.1 + 1.3 * (0.1 + 0.8)


@pytest.mark.parametrize("connections", [1, 3])
def test_requests_are_under_way_side_by_side_and_no_more_than_there_are_connections(connections: int) -> None:
    with VirtualClock() as clock:
        store = SimulatedStore({"a": 32 * MIB}, link(connections=connections), clock=clock)
        assert in_cache(store, clock, File.read, "64 MiB") == store.content("a")
        at_once = [sum(one.asked_s <= at.asked_s < one.answered_s for one in fetches(store)) for at in fetches(store)]
        assert max(at_once) == connections


def test_the_same_program_gives_the_same_figures() -> None:
    """Also with threads that meet, answers that overtake one another, and errors by chance."""

    def run() -> tuple[float, list[tuple[Any, ...]]]:
        with VirtualClock() as clock:
            noisy = link(jitter=2.0, stalls=0.1, stall_s=0.7, errors=0.1, seed=5)
            store = SimulatedStore({"a": 4 * MIB}, noisy, clock=clock, seed=1)

            def read(file: File, start: int) -> int:
                wrong = 0
                for at in range(start, 4 * MIB, 10_000):
                    try:
                        data = file.pread(9_000, at)
                    except OSError:
                        wrong += 1
                    else:
                        assert data == store.content("a", at, 9_000)
                return wrong

            errors = in_cache(
                store, clock, lambda file: clock.together(*(lambda at=at: read(file, at) for at in (0, 77, MIB)))
            )
            return clock.now_s(), [tuple(vars(request).values()) for request in store.requests] + [tuple(errors)]

    first = run()
    assert first == run()
    assert any(request[-1] == errno.EIO for request in first[1])


def test_an_object_that_is_replaced_is_another_one() -> None:
    with VirtualClock() as clock:
        store = SimulatedStore({"a": 2 * MIB, "b": b"given"}, clock=clock, seed=3)
        first = store.content("a")

        def run(file: File) -> None:
            file.advise("random")
            assert file.pread(10, 0) == first[:10]
            store.put("a", 2 * MIB)
            with pytest.raises(OSError) as stale:
                file.pread(10, MIB)
            assert stale.value.errno == errno.ESTALE
            store.put("a", b"bytes now")
            with pytest.raises(OSError, match="changed while it was open"):
                file.pread(10, MIB)

        in_cache(store, clock, run)
        assert in_cache(store, clock, File.read) == b"bytes now"

        def run_on(file: File) -> None:
            file.advise("random")
            assert file.pread(5, 0) == bytes(5)
            store.put("a", 2 * MIB)
            with pytest.raises(OSError, match="changed while it was open"):
                file.pread(10, MIB)

        store.put("a", bytes(2 * MIB))
        in_cache(store, clock, run_on)
        assert in_cache(store, clock, File.read) == store.content("a") != first
        store.put("a", b"bytes now")
        assert in_cache(store, clock, File.read) == b"bytes now"
        with PageCache("1 MiB", door=clock) as cache, cache.open((store, "b")) as file:
            assert file.read() == b"given"
            with pytest.raises(FileNotFoundError):
                cache.open((store, "c"))


def test_a_source_opens_what_is_there_by_then() -> None:
    store = SimulatedStore({"a": 10})
    source = store.source("a")
    assert source.open().size_bytes == 10
    store.put("a", b"given")
    assert source.open().size_bytes == 5
    store.put("a", 20)
    assert source.open().size_bytes == 20


def test_bytes_that_are_given_may_be_written_to_until_they_are_replaced() -> None:
    store = SimulatedStore({"a": b"given", "b": 10})
    with PageCache("32 MiB") as cache:
        with pytest.raises(OSError, match="its store is read-only"):
            cache.open((store, "b"), "r+b")
        with cache.open((store, "a"), "r+b") as file:
            file.write(b"taken")
        assert store.content("a") == b"taken"
        for path, mode in (("a", "r+b"), ("new", "xb")):
            writer = cache.open((store, path), mode)
            assert isinstance(writer, File)
            writer.write(b"too late")
            store.put(path, 30)
            with pytest.raises(OSError, match="changed while it was open"):
                writer.fsync()
            writer.discard()
            writer.close()
            assert len(store.content(path)) == 30


def test_content_that_is_made_up_is_different_everywhere_and_for_each_seed() -> None:
    store, other = (SimulatedStore({"a": 3 * MIB, "b": 3 * MIB}, seed=seed) for seed in (1, 2))
    data = store.content("a")
    assert len({data[at : at + PAGE_SIZE] for at in range(0, 3 * MIB, PAGE_SIZE)}) == 3 * MIB // PAGE_SIZE
    assert data != store.content("b")
    assert data != other.content("a")
    assert data == SimulatedStore({"a": 3 * MIB}, seed=1).content("a")
    for at, size in ((0, 0), (1, TILE_BYTES), (TILE_BYTES - 1, 2), (3 * MIB - 5, 100)):
        assert store.content("a", at, size) == data[at : at + size]


def test_what_is_written_takes_its_time_and_arrives() -> None:
    with VirtualClock() as clock:
        disk = DurableStore({"a": b"old"})
        store = SimulatedStore(disk, link(), clock=clock)
        with PageCache("32 MiB", door=clock) as cache, cache.open((store, "a"), "w+b") as file:
            began_s = clock.now_s()
            file.write(bytes(MIB))
            assert clock.now_s() == began_s, "into the cache"
            file.fsync()
            assert clock.now_s() - began_s >= 0.1 + 0.1
        assert disk.durable("a") == bytes(MIB)
        stored = [request for request in store.requests if request.operation == "store"]
        assert sum(request.size_bytes for request in stored) == MIB
    with pytest.raises(TypeError, match="put it into the DurableStore"):
        store.put("a", b"")


def test_faults_are_before_the_link_or_behind_it() -> None:
    """Behind it an error takes the time of an answer; before it, none."""
    with VirtualClock() as clock:
        behind = FaultyStore(MemoryStore({"a": bytes(MIB)}))
        behind.inject("fill", at=1, times=2)
        before = FaultyStore(SimulatedStore(behind, link(), clock=clock), clock=clock)

        def run(file: File) -> list[float]:
            file.advise("random")
            took_s = []
            for _ in range(3):
                began_s = clock.now_s()
                with pytest.raises(OSError, match="injected"):
                    file.pread(1, 0)
                took_s.append(clock.now_s() - began_s)
                if len(took_s) == 2:
                    before.inject("fill")
            return took_s

        assert in_cache(before, clock, run) == pytest.approx([0.1, 0.1, 0])


def test_operations_of_ones_own_may_be_behind_a_link() -> None:
    with VirtualClock() as clock:
        store = SimulatedStore({}, link(), clock=clock)
        inner = MemoryStore({"a": b"a" * PAGE_SIZE}).source("a").open()
        ops = FaultyStore(store, clock=clock).operations(store.operations(inner.ops, "mine"))
        with PageCache("1 MiB", door=clock) as cache, cache.inode(ops, size_bytes=PAGE_SIZE).open() as file:
            assert file.read(5) == b"aaaaa"
        assert clock.now_s() == pytest.approx(0.1, abs=0.01)
        assert [request.name for request in store.requests] == ["mine"]


def test_without_a_virtual_clock_it_takes_the_time_itself() -> None:
    store = SimulatedStore({"a": MIB}, Link(latency_s=0.01))
    began_s = time.monotonic()
    with PageCache("32 MiB") as cache, cache.open((store, "a")) as file:
        assert file.read() == store.content("a")
    assert time.monotonic() - began_s >= 0.02


def test_asyncio_reads_from_slow_and_failing_stores_in_real_time() -> None:
    store = FaultyStore(SimulatedStore({"a": MIB}, Link(latency_s=0.001), seed=1))

    async def read() -> None:
        with PageCache("4 MiB") as cache:
            async with await aio.open((store, "a"), cache=cache) as file:
                file.advise("random")
                store.inject("fill", error=TimeoutError("injected"))
                store.inject("fill", kind="late", at=2, times=2)
                with pytest.raises(TimeoutError, match="injected"):
                    await file.pread(10, 0)
                tasks = [asyncio.ensure_future(file.pread(10, at)) for at in (0, MIB // 2)]
                first, second = await asyncio.to_thread(store.wait_for_held, 2)
                second.complete()
                first.complete()
                assert await asyncio.gather(*tasks) == [content("a", 0, 10), content("a", MIB // 2, 10)]

    content = SimulatedStore({"a": MIB}, seed=1).content
    asyncio.run(read())


# -- the adaptive window, with all of the cache ---------------------------------------------------------------------


@pytest.mark.parametrize("size", ["16 MiB", "256 MiB", "1 GiB"])
@pytest.mark.parametrize("bandwidth_mb_s", [1, 10, 100, 1000, 5000])
@pytest.mark.parametrize("latency_ms", [0.1, 1, 10, 100, 500])
def test_within_8_fetches_the_window_is_what_the_pipe_asks_for_and_never_longer_than_its_share(
    latency_ms: float, bandwidth_mb_s: float, size: str
) -> None:
    """Though the answers jitter, one of them stalls, and one fails.  Of a pipe that 8 fetches do not fill: longer than
    the first guess, if the share is."""
    with VirtualClock() as clock:
        latency_s, bandwidth = latency_ms / 1e3, bandwidth_mb_s * 1e6
        pipe_bytes, jitter = latency_s * bandwidth, 0.3
        noisy = Link(
            latency_s=latency_s, bandwidth_bytes_s=bandwidth, jitter=jitter, stalls=[4], stall_s=latency_s, errors=[6]
        )
        store = SimulatedStore({"a": 512 * MIB}, noisy, clock=clock)
        with PageCache(size, door=clock, debug=False) as cache, cache.open((store, "a")) as file:
            share_bytes, windows = cache.size_bytes // CACHE_SHARE, list[int]()
            while sum(request.answered_s < math.inf for request in fetches(store)) < 8:
                file.read(128 << 10)
                windows.append(cache.stats().stores[0].window_bytes)
            assert max(windows) <= share_bytes
            seen = cache.stats().stores[0]
            in_flight_bytes = max(
                sum(one.size_bytes for one in fetches(store) if one.asked_s <= at.asked_s < one.answered_s)
                for at in fetches(store)
            )
    assert in_flight_bytes <= 2 * max(windows) + 128 * 1024, "of the window that he is in, and of the next"
    assert latency_s / EXACTLY <= seen.latency_s <= EXACTLY * (1 + jitter) * latency_s
    assert seen.bandwidth_bytes_s <= EXACTLY * bandwidth
    most_bytes = max(window_of((1 + jitter) * pipe_bytes), WINDOW_BYTES_START if pipe_bytes > MIB else 0)
    assert seen.window_bytes <= EXACTLY * most_bytes
    if pipe_bytes <= KNOWN_BYTES:
        least_bytes = SEEN_PART * pipe_bytes
        if share_bytes >= window_of(pipe_bytes):  # else so much is not asked for
            assert seen.bandwidth_bytes_s >= SEEN_PART * bandwidth
        assert seen.window_bytes >= min(int(window_of(least_bytes)), share_bytes)
        fits_bytes = max(seen.window_bytes / (WINDOW_PIECES * WIDTH_START), PIECE_BYTES_MIN)
        assert min(piece_of(least_bytes), fits_bytes) <= seen.piece_bytes
        assert seen.piece_bytes <= min(piece_of((1 + jitter) * pipe_bytes), fits_bytes) + PIECE_BYTES_UNIT
    else:
        assert seen.window_bytes >= min(WINDOW_BYTES_START + 1, share_bytes)


class Scanned(NamedTuple):
    """A file that was read in order, 128 KiB at a time, from its opening on."""

    took_s: float
    pipe: Pipe
    requests: int
    at_once: int
    """So many requests were under way, at most."""


def scanned(link: Link, size_mib: int) -> Scanned:
    """By a cache to which the opening has shown how far its store is, and what one connection of it brings."""
    with VirtualClock() as clock:
        store = SimulatedStore({"a": size_mib * MIB}, link, clock=clock)
        with PageCache("1 GiB", door=clock, debug=False) as cache, cache.open((store, "a")) as file:
            device = file._file.mapping.device
            device.answered(link.latency_s)
            with device.zone.lock:
                device.pipe.streamed(link.connection_bytes_s)
            began_s = clock.now_s()
            while file.read(128 << 10):
                pass
            at_once = max(
                sum(one.asked_s <= at.asked_s < one.answered_s for one in fetches(store)) for at in fetches(store)
            )
            return Scanned(clock.now_s() - began_s, device.pipe, cache.stats().requests, at_once)


@pytest.mark.parametrize(("size_mib", "seconds", "at_once"), [(64, 0.33, 10), (256, 0.55, 24)])
def test_of_a_store_whose_connections_are_slow_many_are_asked_at_once(
    size_mib: int, seconds: float, at_once: int
) -> None:
    """As of S3: 30 ms, and 60 MB/s each.  One would take 1.1 s for 64 MiB, and 4.5 s for 256."""
    scan = scanned(Link(latency_s=0.03, connection_bytes_s=60e6, jitter=0.3), size_mib)
    assert scan.took_s <= seconds
    assert scan.at_once >= at_once
    assert scan.requests <= size_mib // 2


@pytest.mark.parametrize(("connections", "requests"), [(4, 70), (8, 130), (16, 200)])
def test_where_a_store_takes_few_requests_they_are_as_large_as_ever(connections: int, requests: int) -> None:
    """None waits in line for what would be too small, and the pipe is known to be full."""
    scan = scanned(Link(latency_s=0.01, connection_bytes_s=60e6, jitter=0.3, connections=connections), 256)
    least_s = 256 * MIB / (connections * 60e6)
    assert scan.took_s <= 1.2 * least_s + 0.25, "until there are so many"
    assert scan.at_once <= connections
    assert scan.pipe.is_full
    assert scan.requests <= requests


def test_a_scan_that_comes_after_jumps_is_read_ahead_at_once() -> None:
    """As a column after metadata here and there.  What was fetched ahead of the reader before, and left behind, he need
    not make good by reading as much at the full time of a request."""
    with VirtualClock() as clock:
        store = SimulatedStore({"a": 1024 * MIB}, Link(latency_s=0.1), clock=clock)
        with PageCache("512 MiB", door=clock, debug=False) as cache, cache.open((store, "a")) as file:
            for at in range(0, 3 * MIB, 64 << 10):
                file.pread(64 << 10, at)
            for number in range(12):
                file.pread(PAGE_SIZE, (100 + 37 * number) * MIB)
            jumped, began_s = len(fetches(store)), clock.now_s()
            for at in range(700 * MIB, 716 * MIB, 64 << 10):
                file.pread(64 << 10, at)
            assert len(fetches(store)) - jumped <= 20
            assert clock.now_s() - began_s <= 1.0


def test_a_stream_that_begins_later_soon_gets_as_much_as_the_one_that_was_first() -> None:
    """Not only those that begin together are even: in half a second, when the later one has warmed up."""
    read_mib = [0, 0]
    with VirtualClock() as clock:
        fast = SimulatedStore(
            dict.fromkeys(("a", "b"), 512 * MIB), Link(latency_s=0.02, bandwidth_bytes_s=100e6), clock=clock
        )
        with PageCache("1 GiB", door=clock) as cache, cache.open((fast, "a")) as a, cache.open((fast, "b")) as b:

            def scan(which: int, file: Any, begin_s: float) -> None:
                clock.sleep(begin_s)
                for at in range(0, 512 * MIB, MIB):
                    file.pread(MIB, at)
                    if clock.now_s() > 2.25:
                        return
                    read_mib[which] += clock.now_s() > 1.75

            clock.together(lambda: scan(0, a, 0.001), lambda: scan(1, b, 1.0))
    assert min(read_mib) * 1.25 > max(read_mib) > 10


def test_a_request_ahead_that_hangs_does_not_keep_a_stream_of_its_store_from_filling_the_pipe() -> None:
    """It takes one place of it: the pipe widens all the same, where each connection is slow, and is filled."""
    took_s = dict[bool, float]()
    for hangs in (False, True):
        slow = Link(latency_s=0.05, connection_bytes_s=20e6, stall_s=1000.0)
        with VirtualClock() as clock:
            store = SimulatedStore({"a": MIB, "b": 256 * MIB}, slow, clock=clock)
            with (
                PageCache("512 MiB", door=clock) as cache,
                cache.open((store, "a")) as a,
                cache.open((store, "b")) as b,
            ):
                if hangs:
                    slow.stalls = 1.0
                    a.advise("willneed", 0, PAGE_SIZE)
                    clock.sleep(0.001)  # until it is under way
                    slow.stalls = ()
                began_s = clock.now_s()
                for at in range(0, 256 * MIB, MIB):
                    b.pread(MIB, at)
                took_s[hangs] = clock.now_s() - began_s
                assert sum(one.answered_s == math.inf for one in fetches(store)) == hangs, "all that time"
    assert took_s[False] < 256 * MIB / (WIDTH_START * 20e6), "more than those that are in flight at first"
    assert took_s[True] < 1.1 * took_s[False]
