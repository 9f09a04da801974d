"""Random reads over HTTP at 10 ms a request: what a cache costs that has nothing yet, and what it downloads in vain.

400 random 4 KiB reads of 64 MiB with default settings, beside ranges of the same client without a cache (ten places
each by turns) and the file that fsspec opens by default (blocks of 5 MiB); and then the same places again.
How it is measured: places.py.
"""

from __future__ import annotations

import os
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

import places
import readers
import timing
from places import COLUMNS, FILE_BYTES, LATENCY_S, Found, Served
from readers import PAGEIN, RANGES, Places, Read
from report import Headline, Report, Table, at_most, bars, digits, duration, times, times_spread
from timing import Rounds, Spread, Work
from workload import KIB, offsets

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Random reads over HTTP"
RANDOM_BYTES = 4 * KIB
FSSPEC = "fsspec, default"
SYSTEM = "os.pread"
TIME_TARGET_RATIO, BYTES_TARGET_RATIO = 1.1, 4
AGAIN_TARGET_S, AGAIN_PASSES = 2e-6, 10


def measure(*, quick: bool) -> Report:
    again: list[Rounds] = []
    with places.served() as served:
        offset_list = offsets(150 if quick else 400, size_bytes=RANDOM_BYTES, within_bytes=FILE_BYTES)
        where = Places(RANDOM_BYTES, offset_list)
        found = places.beside(
            served,
            where,
            {FSSPEC: readers.fsspec_reads},
            rounds=1 if quick else 3,
            then=lambda read: again.append(_again(served, where, read)),
        )
    return _report(found, again[-1])


def _again(served: Served, where: Places, read: Read) -> Rounds:
    """Seconds a read of what has been read before, beside the system's own cache of the same file."""
    fd = os.open(served.path, os.O_RDONLY)
    try:
        loops: dict[str, Read] = {PAGEIN: read, SYSTEM: partial(os.pread, fd)}
        count = AGAIN_PASSES * len(where.offsets)
        work = {name: Work(count, partial(_loop, one, where)) for name, one in loops.items()}
        return timing.by_turns(work, rounds=9)
    finally:
        os.close(fd)


def _loop(read: Read, where: Places) -> None:
    size_bytes = where.size_bytes
    for _ in range(AGAIN_PASSES):
        for offset in where.offsets:
            read(size_bytes, offset)


# -- what is said about it -------------------------------------------------------------------------------------------


def _report(found: Found, again: Rounds) -> Report:
    return Report(
        tables=[_random_table(found), _again_table(again, found.places)],
        headlines=[*_random_headlines(found), _again_headline(again)],
        data={"random": found.data(), "again_seconds": timing.summary(again)},
    )


def _random_table(found: Found) -> Table:
    title = f"{len(found.places.offsets)} random {RANDOM_BYTES // KIB} KiB reads, {LATENCY_S * 1e3:g} ms a request"
    return Table(title, COLUMNS, found.rows())


def _again_table(again: Rounds, where: Places) -> Table:
    seconds = {name: duration(Spread.of(again[name]).median) for name in again}
    rows = [
        [PAGEIN, seconds[PAGEIN], ""],
        [SYSTEM, seconds[SYSTEM], times_spread(timing.ratio(again, PAGEIN, SYSTEM))],
    ]
    note = f"`{SYSTEM}` reads the same places of the file on disk, which is in the system's page cache."
    return Table(f"The same {len(where.offsets)} places again", ["", "a read", "pagein's time over it"], rows, note)


def _random_headlines(found: Found) -> list[Headline]:
    over, more = found.over_ranges(PAGEIN), found.amplification(PAGEIN) / found.amplification(RANGES)
    what = f"{len(found.places.offsets)} random {RANDOM_BYTES // KIB} KiB reads over HTTP"
    return [
        Headline(
            f"{what}, {LATENCY_S * 1e3:g} ms a request: time",
            duration(found.seconds(PAGEIN)),
            f"{RANGES} {duration(found.seconds(RANGES))}; {FSSPEC} {duration(found.seconds(FSSPEC))}",
            times_spread(over),
            *at_most(over, TIME_TARGET_RATIO),
        ),
        Headline(
            f"{what}: bytes downloaded / bytes read",
            digits(found.amplification(PAGEIN)),
            f"{RANGES} {digits(found.amplification(RANGES))}; {FSSPEC} {digits(found.amplification(FSSPEC))}",
            times(more),
            f"≤ {BYTES_TARGET_RATIO}x",
            more <= BYTES_TARGET_RATIO,
        ),
    ]


def _again_headline(again: Rounds) -> Headline:
    seconds = Spread.of(again[PAGEIN]).median
    return Headline(
        "the same places again, a read",
        duration(seconds),
        f"{SYSTEM} {duration(Spread.of(again[SYSTEM]).median)}",
        times_spread(timing.ratio(again, PAGEIN, SYSTEM)),
        f"< {duration(AGAIN_TARGET_S)}",
        seconds < AGAIN_TARGET_S,
    )


def draw(report: Report, figure: Figure) -> None:
    figure.set_size_inches(11, 2.5)
    left, right = figure.subplots(1, 2)
    found = report.data["random"]
    seconds = [median(one["seconds"] for one in passes) for passes in found["outcomes"].values()]
    values = [value / found["reads"] * 1e3 for value in seconds]
    bars(left, list(found["outcomes"]), values, unit="ms a read", title="Random 4 KiB reads, first pass")
    worst = [max(one["sent_bytes"] for one in passes) for passes in found["outcomes"].values()]
    values = [sent_bytes / found["read_bytes"] for sent_bytes in worst]
    unit = "bytes downloaded / bytes read"
    bars(right, list(found["outcomes"]), values, unit=unit, title="Random 4 KiB reads, first pass", decades=True)
