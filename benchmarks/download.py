"""Four threads over one HTTP file, each with a handle of its own, each reading all of it: who downloads how much?

The file is 64 MiB, every answer comes after 10 ms, reads are 128 KiB in order; what was downloaded is what the
server counted.  fsspec's caches run with their own defaults over one filesystem object, as `fsspec.open` shares it.
Every byte is compared.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import fsspec
import timing
from report import Headline, Report, Table, bars, digits, duration, times
from workload import KIB, MIB, directory, random_bytes

from pagein import PageCache
from pagein.testing.httpserver import RangeServerProcess

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Four threads, one HTTP file"
FILE_BYTES = 64 * MIB
READ_BYTES = 128 * KIB
THREADS = 4
LATENCY_S = 0.01
FSSPEC_CACHES = ("readahead", "bytes", "blockcache", "background")
PAGEIN = "pagein"

Open = Callable[[], AbstractContextManager[Any]]


class Outcome(NamedTuple):
    seconds: float
    sent_bytes: int
    request_count: int
    wrong_reads: int


class _WrongReads:
    """Counted by several threads."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def add(self) -> None:
        with self._lock:
            self.count += 1


def measure(*, quick: bool) -> Report:
    data = random_bytes(FILE_BYTES)
    outcomes: dict[str, list[Outcome]] = {}
    with directory() as place:
        (place / "data").write_bytes(data)
        with RangeServerProcess(place, latency_s=LATENCY_S) as server:
            for _ in range(1 if quick else 3):
                outcomes.setdefault(PAGEIN, []).append(_pagein(server, data))
                for cache_type in FSSPEC_CACHES:
                    outcomes.setdefault(f"fsspec {cache_type}", []).append(_fsspec(server, data, cache_type))
    return _report(outcomes)


def _pagein(server: RangeServerProcess, data: bytes) -> Outcome:
    with PageCache(2 * FILE_BYTES) as cache:
        return _read_all(server, data, partial(cache.open, server.url("data")))


def _fsspec(server: RangeServerProcess, data: bytes, cache_type: str) -> Outcome:
    filesystem = fsspec.filesystem("http", skip_instance_cache=True)
    return _read_all(server, data, partial(filesystem.open, server.url("data"), cache_type=cache_type))


def _read_all(server: RangeServerProcess, data: bytes, open_file: Open) -> Outcome:
    wrong = _WrongReads()
    server.reset()
    seconds = timing.together([partial(_read_in_order, open_file, data, wrong)] * THREADS)
    stats = server.stats()
    return Outcome(seconds, stats.sent_bytes, stats.request_count, wrong.count)


def _read_in_order(open_file: Open, data: bytes, wrong: _WrongReads) -> None:
    with open_file() as file, memoryview(data) as truth:
        for offset in range(0, FILE_BYTES, READ_BYTES):
            if file.read(READ_BYTES) != truth[offset : offset + READ_BYTES]:
                wrong.add()


def _report(outcomes: dict[str, list[Outcome]]) -> Report:
    rows = []
    for name, runs in outcomes.items():
        seconds = [run.seconds for run in runs]
        rows.append(
            [
                name,
                times(_downloaded(runs)),
                str(round(median(run.request_count for run in runs))),
                duration(median(seconds)),
                f"{duration(min(seconds))}–{duration(max(seconds))}",
                str(sum(run.wrong_reads for run in runs)),
            ]
        )
    title = f"{THREADS} threads read all of {FILE_BYTES // MIB} MiB, {LATENCY_S * 1000:g} ms a request"
    columns = ["", "downloaded / file", "requests", "time", "least–most", "wrong reads"]
    report = Report(tables=[Table(title, columns, rows)], headlines=_headlines(outcomes))
    report.data = {name: [run._asdict() for run in runs] for name, runs in outcomes.items()}
    return report


def _downloaded(runs: list[Outcome]) -> float:
    """Of the worst run: a single byte twice is one too many."""
    return max(run.sent_bytes for run in runs) / FILE_BYTES


def _headlines(outcomes: dict[str, list[Outcome]]) -> list[Headline]:
    peers = [name for name in outcomes if name != PAGEIN]
    ours, frugal = outcomes[PAGEIN], min(peers, key=lambda name: _downloaded(outcomes[name]))
    is_exact = all(run.sent_bytes == FILE_BYTES and not run.wrong_reads for run in ours)
    downloaded = Headline(
        f"{THREADS} threads read one HTTP file: bytes downloaded / bytes of the file",
        f"{_downloaded(ours):.2f}",
        f"{frugal} {_downloaded(outcomes[frugal]):.2f}",
        f"{_downloaded(ours) / _downloaded(outcomes[frugal]):.2f}x",
        "exactly 1.00",
        is_exact,
    )
    seconds = {name: median(run.seconds for run in runs) for name, runs in outcomes.items()}
    fastest = min(peers, key=seconds.__getitem__)
    time = Headline(
        f"{THREADS} threads read one HTTP file ({FILE_BYTES // MIB} MiB, {LATENCY_S * 1000:g} ms a request): time",
        duration(seconds[PAGEIN]),
        f"{fastest} {duration(seconds[fastest])}",
        f"{digits(seconds[PAGEIN] / seconds[fastest])}x",
    )
    return [downloaded, time]


def draw(report: Report, figure: Figure) -> None:
    figure.set_size_inches(11, 3)
    left, right = figure.subplots(1, 2)
    names = list(report.data)
    sent = [max(run["sent_bytes"] for run in report.data[name]) / FILE_BYTES for name in names]
    bars(left, names, sent, unit="bytes downloaded / bytes of the file", title="Downloaded by 4 readers of one file")
    seconds = [median(run["seconds"] for run in report.data[name]) for name in names]
    bars(right, names, seconds, unit="seconds", title="Time until all 4 have read it")
