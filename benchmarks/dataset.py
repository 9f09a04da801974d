"""Four threads over one Parquet dataset: who downloads how much, and how long does it take?

Two ways.  *Each all of it*: every thread reads every file of the dataset, as four analyses of one dataset do.  *A data
loader*: in each of two epochs the row groups of all files, shuffled, are handed out to four threads, of which each
opens the files that it needs, as a loader's worker does.  8 files of 4 MiB, 16 row groups each, over HTTP, 10 ms a
request.  Handles are new in each round, and pagein's cache is; connections are warm.  What was downloaded is what
the server has counted, in every round; every table is compared with what the local files have, in every round.
fsspec: files of one filesystem object, with the caches that it has, at their defaults.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import fsspec
import timing
from report import Headline, Report, Table, bars, duration, times, times_spread
from timing import Rounds, Spread, Work
from workload import MIB, SEED, directory

from pagein import PageCache
from pagein.testing.httpserver import RangeServerProcess

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Four threads, one Parquet dataset"
FILES, ROW_GROUPS, ROWS, COLUMNS = 8, 16, 4096, 8
"""Of 8 bytes: 4 MiB a file."""
THREADS, EPOCHS, LATENCY_S = 4, 2, 0.01
PAGEIN, PROTOCOL = "pagein", "pagein, as fsspec's protocol"
FSSPEC_CACHES = ("bytes", "readahead", "blockcache", "background", "all", "none")
"""``bytes`` is the default over HTTP."""

OpenFile = Callable[[str], Any]
Tables = dict[tuple[str, int], Any]
"""By file and row group."""


class Found(NamedTuple):
    """What was measured of one way to read."""

    rounds: Rounds
    sent_bytes: dict[str, list[int]]
    request_count: dict[str, int]
    wrong_count: dict[str, int]


def measure(*, quick: bool) -> Report:
    ways = {"each all of it": _each_all_of_it, "a data loader": _data_loader}
    with directory() as place:
        truth = _make(place)
        dataset_bytes = sum(path.stat().st_size for path in place.iterdir())
        with RangeServerProcess(place, latency_s=LATENCY_S) as server:
            found = {name: _measured(way, server, truth, rounds=1 if quick else 3) for name, way in ways.items()}
    return _report(found, dataset_bytes)


def _make(place: Path) -> Tables:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    truth: Tables = {}
    for number in range(FILES):
        draw, path = np.random.default_rng(SEED + number), place / f"part-{number}.parquet"
        table = pa.table({f"c{column}": draw.random(ROW_GROUPS * ROWS) for column in range(COLUMNS)})
        pq.write_table(table, path, row_group_size=ROWS, compression="none", use_dictionary=False)
        truth |= {(path.name, group): pq.ParquetFile(path).read_row_group(group) for group in range(ROW_GROUPS)}
    return truth


# -- how it is read ----------------------------------------------------------------------------------------------------


def _each_all_of_it(open_file: OpenFile, truth: Tables) -> int:
    def run() -> int:
        wrong = 0
        names = sorted({name for name, _ in truth})
        for name in names:
            with open_file(name) as file:
                wrong += _wrong(file, [(name, group) for group in range(ROW_GROUPS)], truth)
        return wrong

    return _by_threads(run)


def _data_loader(open_file: OpenFile, truth: Tables) -> int:
    wrong, draw = 0, random.Random(SEED)
    for _ in range(EPOCHS):
        samples: SimpleQueue[tuple[str, int]] = SimpleQueue()
        for sample in draw.sample(sorted(truth), len(truth)):
            samples.put(sample)
        wrong += _by_threads(partial(_worker, open_file, samples, truth))
    return wrong


def _worker(open_file: OpenFile, samples: SimpleQueue[tuple[str, int]], truth: Tables) -> int:
    import pyarrow.parquet as pq

    files: dict[str, Any] = {}
    wrong = 0
    try:
        while True:
            name, group = samples.get_nowait()
            if name not in files:
                file = open_file(name)
                files[name] = file, pq.ParquetFile(file)
            wrong += _differs(files[name][1], (name, group), truth)
    except Empty:
        return wrong
    finally:
        for file, _ in files.values():
            file.close()


def _wrong(file: Any, groups: list[tuple[str, int]], truth: Tables) -> int:
    import pyarrow.parquet as pq

    parquet = pq.ParquetFile(file)
    return sum(_differs(parquet, group, truth) for group in groups)


def _differs(parquet: Any, group: tuple[str, int], truth: Tables) -> bool:
    return not parquet.read_row_group(group[1], use_threads=False).equals(truth[group])


def _by_threads(run: Callable[[], int]) -> int:
    with ThreadPoolExecutor(THREADS) as pool:
        return sum(future.result() for future in [pool.submit(run) for _ in range(THREADS)])


# -- what is measured --------------------------------------------------------------------------------------------------


def _measured(
    way: Callable[[OpenFile, Tables], int], server: RangeServerProcess, truth: Tables, *, rounds: int
) -> Found:
    everybody = {PAGEIN: partial(_through_pagein, server), PROTOCOL: partial(_through_protocol, server)}
    everybody |= {f"fsspec {kind}": partial(_through_fsspec, server, kind) for kind in FSSPEC_CACHES}
    found = Found({}, {name: [] for name in everybody}, {}, dict.fromkeys(everybody, 0))

    def once(name: str) -> float:
        server.reset()
        with everybody[name]() as open_file:
            start = perf_counter()
            found.wrong_count[name] += way(open_file, truth)
            seconds = perf_counter() - start
        stats = server.stats()
        found.sent_bytes[name].append(stats.sent_bytes)
        found.request_count[name] = stats.request_count
        return seconds

    work = {name: Work(1, partial(once, name)) for name in everybody}
    return found._replace(rounds=timing.by_turns(work, rounds=rounds, warm_up=False))


@contextmanager
def _through_pagein(server: RangeServerProcess) -> Iterator[OpenFile]:
    with PageCache() as cache:
        yield lambda name: cache.open(server.url(name))


@contextmanager
def _through_protocol(server: RangeServerProcess) -> Iterator[OpenFile]:
    with PageCache() as cache:
        filesystem = fsspec.filesystem("pagein", target_protocol="http", cache=cache)
        yield lambda name: filesystem.open(server.url(name))


@contextmanager
def _through_fsspec(server: RangeServerProcess, kind: str) -> Iterator[OpenFile]:
    filesystem = fsspec.filesystem("http")
    yield lambda name: filesystem.open(server.url(name), cache_type=kind)


# -- what is said about it ---------------------------------------------------------------------------------------------


def _report(found: dict[str, Found], dataset_bytes: int) -> Report:
    report = Report()
    for way, one in found.items():
        rows = []
        for name in one.rounds:
            spread = Spread.of(one.rounds[name])
            rows.append(
                [
                    name,
                    times(max(one.sent_bytes[name]) / dataset_bytes),
                    str(one.request_count[name]),
                    duration(spread.median),
                    "" if name == PAGEIN else times_spread(timing.ratio(one.rounds, PAGEIN, name)),
                    str(one.wrong_count[name]),
                ]
            )
        columns = ["", "downloaded / dataset", "requests", "time", f"{PAGEIN}'s time over it", "wrong tables"]
        title = f"{THREADS} threads, {FILES} Parquet files of {dataset_bytes / FILES / MIB:.1f} MiB: {way}"
        note = "Downloaded: in the worst round; wrong tables: of all rounds; requests: of the last."
        report.tables.append(Table(title, columns, rows, note))
        report.headlines.append(_headline(way, one, dataset_bytes))
        report.data[way] = {
            "seconds": timing.summary(one.rounds),
            "downloaded": {name: max(sent) / dataset_bytes for name, sent in one.sent_bytes.items()},
            "requests": one.request_count,
            "wrong_tables": one.wrong_count,
        }
    return report


def _headline(way: str, found: Found, dataset_bytes: int) -> Headline:
    peers = [name for name in found.rounds if name not in (PAGEIN, PROTOCOL)]
    frugal = min(peers, key=lambda name: max(found.sent_bytes[name]))
    own, best = (max(found.sent_bytes[name]) / dataset_bytes for name in (PAGEIN, frugal))
    both = {f"{max(found.sent_bytes[name]) / dataset_bytes:.2f}" for name in (PAGEIN, PROTOCOL)}
    wrong = sum(found.wrong_count[name] for name in (PAGEIN, PROTOCOL))
    return Headline(
        f"{THREADS} threads, one Parquet dataset, {way}: bytes downloaded / bytes of it",
        f"{own:.2f}",
        f"{frugal} {best:.2f}",
        f"{own / best:.2f}x",
        "1.00",
        both == {"1.00"} and not wrong,
    )


def draw(report: Report, figure: Figure) -> None:
    figure.set_size_inches(11, 3)
    for axes, (way, data) in zip(figure.subplots(1, len(report.data)), report.data.items(), strict=True):
        downloaded = data["downloaded"]
        title = f"{THREADS} threads, {way}"
        bars(axes, list(downloaded), list(downloaded.values()), unit="downloaded / dataset", title=title)
