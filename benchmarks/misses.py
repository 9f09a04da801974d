"""Misses: what the cache adds to a store that answers at once, and what it costs to open, to stream, to evict.

A miss over bytes in memory is all cache and no store.  Beside it: the same in cachetools with a lock, fsspec's
blockcache with 4 KiB blocks, and the system's own page cache, told to forget the file (POSIX_FADV_DONTNEED), which
then reads from whatever disk is below, at random (so that its readahead does not help, as ours does not).
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import timing
from fsspec.caching import BlockCache
from peers import CachetoolsBlocks
from report import Headline, Report, Table, bars, duration, times_spread
from timing import Rounds, Spread, Work
from workload import (
    KIB,
    MIB,
    PAGE,
    SEED,
    TIB,
    BytesInMemory,
    Pattern,
    description_of,
    directory,
    open_over,
    random_bytes,
)

from pagein import File, PageCache
from pagein.mm import reclaim

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Misses: what the cache adds"
FILE_BYTES = 16 * MIB
MISSES = 1024
STREAM_BYTES = 64 * MIB
STREAM_READ_BYTES = 128 * KIB
OPENS = 50
OPEN_TARGET_S = 1e-3
EVICT_PAGES = 256
DISK = "os.pread, from disk"
THREAD, MAIN = "pagein, any thread", "pagein, main thread"


def measure(*, quick: bool) -> Report:
    patience = 1 if quick else 4
    data = random_bytes(FILE_BYTES)
    with directory() as place:
        one_page = _one_page(data, place, rounds=5 * patience)
        streams = _streams(place, rounds=3 * patience)
        opens = _opens(place, rounds=4 * patience)
    requests = _requests_of_a_cold_megabyte()
    evictions = {pattern: _eviction_s(pattern, rounds=8 * patience) for pattern in ("in order", "at random")}
    report = Report(tables=[_misses_table(one_page), _others_table(streams, opens, evictions, requests)])
    report.headlines = _headlines(one_page, streams, opens, requests)
    report.data = {
        "one_page_seconds": timing.summary(one_page),
        "stream_seconds_a_byte": timing.summary(streams),
        "open_seconds": timing.summary(opens),
        "eviction_seconds_a_page": {name: Spread.of(seconds) for name, seconds in evictions.items()},
        "requests_of_a_cold_megabyte": requests,
    }
    return report


# -- one page -------------------------------------------------------------------------------------------------------


def _one_page(data: bytes, place: Path, *, rounds: int) -> Rounds:
    """Each miss another page, in random order, nothing evicted."""
    pages = random.Random(SEED).sample(range(FILE_BYTES // PAGE), MISSES)
    places = [index * PAGE for index in pages]
    path = place / "kernel"
    path.write_bytes(data)
    with PageCache(2 * FILE_BYTES) as cache, open_over(cache, BytesInMemory(data), FILE_BYTES) as file:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)  # what is not on disk yet is not forgotten
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
            file.advise("random")
            runs: dict[str, Callable[[], object]] = {
                THREAD: partial(timing.aside, partial(_pagein_misses, cache, file, places)),
                MAIN: partial(_pagein_misses, cache, file, places),
                "cachetools + lock": partial(_cachetools_misses, data, places),
                "fsspec blockcache": partial(_fsspec_misses, data, places),
                DISK: partial(_system_misses, fd, places),
            }
            return timing.by_turns({name: Work(MISSES, run) for name, run in runs.items()}, rounds=rounds)
        finally:
            os.close(fd)


def _preads_s(pread: Callable[[int, int], object], places: list[int]) -> float:
    start = perf_counter()
    for offset in places:
        pread(PAGE, offset)
    return perf_counter() - start


def _pagein_misses(cache: PageCache, file: File, places: list[int]) -> float:
    cache_misses = cache.stats().misses
    file.advise("dontneed")
    seconds = _preads_s(file.pread, places)
    assert cache.stats().misses - cache_misses == len(places)
    return seconds


def _cachetools_misses(data: bytes, places: list[int]) -> float:
    return _preads_s(CachetoolsBlocks(data, 2 * FILE_BYTES).pread, places)


def _fsspec_misses(data: bytes, places: list[int]) -> float:
    cache = BlockCache(PAGE, lambda start, end: data[start:end], len(data), maxblocks=2 * FILE_BYTES // PAGE)
    return _preads_s(lambda size, offset: cache._fetch(offset, offset + size), places)


def _system_misses(fd: int, places: list[int]) -> float:
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return _preads_s(partial(os.pread, fd), places)


# -- streams, opens, requests, evictions ----------------------------------------------------------------------------


def _streams(place: Path, *, rounds: int) -> Rounds:
    """Seconds a byte: a local file in the system's page cache, read in order, new to ours."""
    path = place / "stream"
    path.write_bytes(random.Random(SEED).randbytes(MIB) * (STREAM_BYTES // MIB))
    with PageCache(2 * STREAM_BYTES) as cache, cache.open(path) as file, open(path, "rb") as plain:

        def cold() -> float:
            file.advise("dontneed")
            return _read_in_order(file.read, file.seek)

        runs: dict[str, Callable[[], object]] = {
            "pagein, cold": partial(timing.aside, cold),
            "pagein, cold, main thread": cold,
            'open("rb")': partial(_read_in_order, plain.read, plain.seek),
        }
        return timing.by_turns({name: Work(STREAM_BYTES, run) for name, run in runs.items()}, rounds=rounds)


def _read_in_order(read: Callable[[int], bytes], seek: Callable[[int], int]) -> float:
    seek(0)
    start = perf_counter()
    while read(STREAM_READ_BYTES):
        pass
    return perf_counter() - start


def _opens(place: Path, *, rounds: int) -> Rounds:
    """Seconds to open and close: a file of 1 TiB without a byte in it, seen for the first time each time."""
    paths = [place / f"sparse-{number}" for number in range(OPENS)]
    for path in paths:
        with open(path, "wb") as file:
            file.truncate(TIB)

    def with_pagein() -> float:
        with PageCache(64 * MIB) as cache:
            start = perf_counter()
            for path in paths:
                cache.open(path).close()
            return perf_counter() - start

    def plainly() -> None:
        for path in paths:
            open(path, "rb").close()

    return timing.by_turns({"pagein": Work(OPENS, with_pagein), 'open("rb")': Work(OPENS, plainly)}, rounds=rounds)


def _requests_of_a_cold_megabyte() -> int:
    store = Pattern()
    with PageCache(64 * MIB) as cache, open_over(cache, store, 64 * MIB) as file:
        file.pread(MIB, 8 * MIB)
    return store.request_count


def _eviction_s(pattern: str, *, rounds: int) -> list[float]:
    """Seconds a page, of a full cache, by the batch: choosing, forgetting, and giving memory back."""
    cap_pages = 2 * rounds * EVICT_PAGES
    order = list(range(cap_pages))
    if pattern == "at random":
        random.Random(SEED).shuffle(order)
    with PageCache(cap_pages * PAGE) as cache, open_over(cache, Pattern(), cap_pages * PAGE) as file:
        if pattern == "at random":
            file.advise("random")
        timing.in_a_thread(lambda: [file.pread(PAGE, index * PAGE) for index in order])
        zone = description_of(file).mapping.zone
        seconds = []
        for _ in range(rounds):
            with zone.lock:
                start = perf_counter()
                evicted_pages = reclaim.shrink(zone, EVICT_PAGES)
                seconds.append((perf_counter() - start) / evicted_pages)
        return seconds


# -- what is said about it ------------------------------------------------------------------------------------------


def _misses_table(rounds: Rounds) -> Table:
    rows = [
        [name, duration(Spread.of(rounds[name]).median), times_spread(timing.ratio(rounds, THREAD, name))]
        for name in rounds
    ]
    note = (
        "A dictionary does less: no waiting in line, no cap over several files, no memory that others can read. On the "
        "main thread a worker serves the miss, so that Ctrl-C leaves nothing locked: two switches of threads."
    )
    return Table(
        "A miss of one 4 KiB page, the store answering at once", ["", "time", f"{THREAD}: over it"], rows, note
    )


class _Row(NamedTuple):
    what: str
    ours: str
    theirs: str = "-"
    ratio: str = "-"


def _rate(rounds: Rounds, name: str) -> str:
    return f"{1 / Spread.of(rounds[name]).median / MIB:,.0f} MiB/s"


def _others_table(streams: Rounds, opens: Rounds, evictions: dict[str, list[float]], requests: int) -> Table:
    plain = 'open("rb")'
    rows = [
        _Row(
            f"local file in order, {name.removeprefix('pagein, ')} ({STREAM_READ_BYTES // KIB} KiB reads)",
            _rate(streams, name),
            f"{plain} {_rate(streams, plain)}",
            f"time {times_spread(timing.ratio(streams, name, plain))}",
        )
        for name in streams
        if name != plain
    ]
    rows.append(
        _Row(
            "open and close a sparse file of 1 TiB",
            duration(Spread.of(opens["pagein"]).median),
            f"{plain} {duration(Spread.of(opens[plain]).median)}",
            times_spread(timing.ratio(opens, "pagein", plain)),
        )
    )
    rows += [_Row(f"evict a page, {name} filled", duration(median(seconds))) for name, seconds in evictions.items()]
    rows.append(_Row("requests to the store of a cold 1 MiB read", str(requests)))
    note = (
        "The local file is in the system's page cache already, which is why a second one cannot win; what is measured "
        "is a copy in (and the memory for it) and a copy out."
    )
    return Table("Streaming, opening, evicting", ["", "pagein", "peer", "ratio"], rows, note)


def _headlines(one_page: Rounds, streams: Rounds, opens: Rounds, requests: int) -> list[Headline]:
    plain = 'open("rb")'
    open_s = Spread.of(opens["pagein"]).median
    best = timing.fastest(one_page, [name for name in one_page if name not in (THREAD, MAIN, DISK)])
    return [
        Headline("requests to the store of a cold 1 MiB read", str(requests), "-", "-", "1", requests == 1),
        Headline(
            "miss of one page, the store's time not counted",
            duration(Spread.of(one_page[THREAD]).median),
            f"{best} {duration(Spread.of(one_page[best]).median)}; {DISK} {duration(Spread.of(one_page[DISK]).median)}",
            times_spread(timing.ratio(one_page, THREAD, best)),
        ),
        Headline(
            "cold local file in order",
            _rate(streams, "pagein, cold"),
            f"{plain} {_rate(streams, plain)}",
            f"time {times_spread(timing.ratio(streams, 'pagein, cold', plain))}",
        ),
        Headline(
            "open and close a sparse file of 1 TiB",
            duration(open_s),
            f"{plain} {duration(Spread.of(opens[plain]).median)}",
            times_spread(timing.ratio(opens, "pagein", plain)),
            "< 1 ms",
            open_s < OPEN_TARGET_S,
        ),
    ]


def draw(report: Report, figure: Figure) -> None:
    figure.set_size_inches(11, 3)
    left, right = figure.subplots(1, 2)
    seconds = report.data["one_page_seconds"]
    bars(left, list(seconds), [spread[1] * 1e6 for spread in seconds.values()], unit="µs", title="Miss of one page")
    streams = report.data["stream_seconds_a_byte"]
    rates = [1 / spread[1] / MIB for spread in streams.values()]
    title = "Cold local file in order (more is better)"
    bars(right, list(streams), rates, unit="MiB/s", title=title)
