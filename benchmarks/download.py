"""Four threads over one HTTP file, each with a handle of its own, each reading all of it: who downloads how much?

The file is 64 MiB, every answer comes after 10 ms, reads are 128 KiB in order; pagein reads it with one thread, too.
fsspec's caches run with their own defaults over one filesystem object, as `fsspec.open` shares it.  Time counts from
a common start of the threads until the last one has read the last byte; every round has new handles, and pagein a new
cache of the default size; connections are warm.  What was downloaded is what the server counted, in every round.  In
a round that is not timed every byte that every thread reads is compared.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import readers
import timing
from readers import READ_BYTES, Check, Remote, Take
from report import Headline, Report, Table, at_most, bars, duration, times, times_spread
from timing import Rounds, Spread, Work
from workload import KIB, MIB, directory, random_bytes

from pagein import PageCache
from pagein.testing.httpserver import RangeServerProcess

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Four threads, one HTTP file"
FILE_BYTES, LATENCY_S = 64 * MIB, 0.01
THREADS = 4
FSSPEC_CACHES = ("readahead", "bytes", "blockcache", "background")
PAGEIN, PAGEIN_ALONE = "pagein", "pagein, one thread"
TIME_TARGET_RATIO = 1.1

OpenFile = Callable[[], AbstractContextManager[Any]]
Together = Callable[[list[Take]], float]
"""Reads all of the file by a thread for each take, at the same time; the seconds until the last has ended."""


class Found(NamedTuple):
    """What was measured of everybody."""

    rounds: Rounds
    sent_bytes: dict[str, list[int]]
    request_count: dict[str, int]
    wrong_reads: dict[str, int]


def measure(*, quick: bool) -> Report:
    data = random_bytes(FILE_BYTES)
    with directory() as place:
        (place / "data").write_bytes(data)
        with RangeServerProcess(place, latency_s=LATENCY_S) as server:
            found = _measured(server, data, rounds=1 if quick else 7)
    return _report(found)


# -- who reads, and what is timed ------------------------------------------------------------------------------------


def _measured(server: RangeServerProcess, data: bytes, *, rounds: int) -> Found:
    everybody = _everybody(readers.over_http(server.url("data")))
    found = Found({}, {name: [] for name in everybody}, {}, {})
    for name, (together, thread_count) in everybody.items():
        server.reset()
        checks = [Check(data) for _ in range(thread_count)]
        together(list(checks))
        stats = server.stats()
        found.sent_bytes[name].append(stats.sent_bytes)
        found.request_count[name] = stats.request_count
        found.wrong_reads[name] = readers.tolerated(name, sum(check.wrong_count() for check in checks))

    def counted(name: str) -> float:
        together, thread_count = everybody[name]
        server.reset()
        seconds = together([len] * thread_count)
        found.sent_bytes[name].append(server.stats().sent_bytes)
        return seconds

    work = {name: Work(1, partial(counted, name)) for name in everybody}
    return found._replace(rounds=timing.by_turns(work, rounds=rounds, warm_up=False))


def _everybody(remote: Remote) -> dict[str, tuple[Together, int]]:
    """With the number of threads."""
    found: dict[str, tuple[Together, int]] = {
        PAGEIN: (partial(_through_pagein, remote), THREADS),
        PAGEIN_ALONE: (partial(_through_pagein, remote), 1),
    }
    for kind in FSSPEC_CACHES:
        open_file = partial(remote.filesystem.open, remote.name, cache_type=kind)
        found[f"fsspec {kind}"] = partial(_together, open_file), THREADS
    return found


def _through_pagein(remote: Remote, takes: list[Take]) -> float:
    with PageCache() as cache:
        return _together(partial(cache.open, remote.url), takes)


def _together(open_file: OpenFile, takes: list[Take]) -> float:
    return timing.together([partial(readers.in_order, open_file, take) for take in takes])


# -- what is said about it -------------------------------------------------------------------------------------------


def _report(found: Found) -> Report:
    rounds = found.rounds
    rows = []
    for name in rounds:
        spread = Spread.of(rounds[name])
        rows.append(
            [
                name,
                times(_downloaded(found, name)),
                str(found.request_count[name]),
                duration(spread.median),
                f"{duration(spread.low)}–{duration(spread.high)}",
                "" if name == PAGEIN else times_spread(timing.ratio(rounds, PAGEIN, name)),
                str(found.wrong_reads[name]),
            ]
        )
    title = (
        f"{THREADS} threads read all of {FILE_BYTES // MIB} MiB in {READ_BYTES // KIB} KiB reads, "
        f"{LATENCY_S * 1000:g} ms a request"
    )
    columns = ["", "downloaded / file", "requests", "time", "quartiles", f"{PAGEIN}'s time over it", "wrong reads"]
    note = "Downloaded: in the worst round. Requests, and wrong reads: of the round in which every byte was compared."
    report = Report(tables=[Table(title, columns, rows, note)], headlines=_headlines(found))
    report.data = {
        "seconds": timing.summary(rounds),
        "sent_bytes": {name: max(sent_bytes) for name, sent_bytes in found.sent_bytes.items()},
        "requests": found.request_count,
        "wrong_reads": found.wrong_reads,
    }
    return report


def _downloaded(found: Found, name: str) -> float:
    """In the worst round: a single byte twice is one too many."""
    return max(found.sent_bytes[name]) / FILE_BYTES


def _headlines(found: Found) -> list[Headline]:
    rounds, peers = found.rounds, [name for name in found.rounds if name not in (PAGEIN, PAGEIN_ALONE)]
    frugal, fastest = min(peers, key=partial(_downloaded, found)), timing.fastest(rounds, peers)
    what = f"{THREADS} threads read one HTTP file"
    over_one = timing.ratio(rounds, PAGEIN, PAGEIN_ALONE)
    seconds = {name: Spread.of(rounds[name]).median for name in rounds}
    return [
        Headline(
            f"{what}: bytes downloaded / bytes of the file",
            f"{_downloaded(found, PAGEIN):.2f}",
            f"{frugal} {_downloaded(found, frugal):.2f}",
            f"{_downloaded(found, PAGEIN) / _downloaded(found, frugal):.2f}x",
            "exactly 1.00",
            set(found.sent_bytes[PAGEIN]) == {FILE_BYTES},
        ),
        Headline(
            f"{what} ({FILE_BYTES // MIB} MiB, {LATENCY_S * 1000:g} ms a request): time",
            duration(seconds[PAGEIN]),
            f"{PAGEIN_ALONE} {duration(seconds[PAGEIN_ALONE])}; {fastest} {duration(seconds[fastest])}",
            times_spread(over_one),
            *at_most(over_one, TIME_TARGET_RATIO),
        ),
    ]


def draw(report: Report, figure: Figure) -> None:
    figure.set_size_inches(11, 3)
    left, right = figure.subplots(1, 2)
    sent_bytes, seconds = report.data["sent_bytes"], report.data["seconds"]
    values = [one / FILE_BYTES for one in sent_bytes.values()]
    bars(left, list(sent_bytes), values, unit="bytes downloaded / bytes of the file", title="Downloaded by 4 threads")
    values = [spread[1] for spread in seconds.values()]
    bars(right, list(seconds), values, unit="seconds", title="Time until all of them have read it")
