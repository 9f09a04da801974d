"""A hot set under a one-pass scan: does a file that is read once push out what is read all the time?

A cache of 16 MiB; single-page reads of a 64 MiB file, zipf-distributed; and in the middle of them a scan, in order,
of a file four times as large as the cache, page by page with the hot reads.  Reported is the hit ratio of the latter.
Real reads through the cache with each of its policies; beside them the same pages in cachetools with the same cap.
The cache reads the scan ahead, as it does for any sequential reader.  Nothing here depends on time.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import cachetools
import timing
from report import ACCENT_COLOUR, PAGEIN_COLOUR, PEER_COLOUR, Headline, Report, Table, plain
from workload import MIB, PAGE, SEED, Pattern, open_over

from pagein import PageCache
from pagein.mm import victims

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "A hot set under a one-pass scan"
CAP_PAGES = 16 * MIB // PAGE
HOT_PAGES = 64 * MIB // PAGE
SCAN_PAGES = 4 * CAP_PAGES
ZIPF_EXPONENT = 1.0
PHASES = {"before": 6 * CAP_PAGES, "during": SCAN_PAGES, "after": 4 * CAP_PAGES}
"""Hot reads in each phase; during the scan each comes with one page of the scan."""
WINDOW_READS = 1024
OURS, OUR_FIFO = "pagein s3fifo", "pagein fifo"

PEERS = {
    "cachetools LFU": cachetools.LFUCache,
    "cachetools LRU": cachetools.LRUCache,
    "cachetools FIFO": cachetools.FIFOCache,
}

Read = Callable[[int], bool]
"""Read a page; whether that was a hit."""


class Subject(NamedTuple):
    read_hot: Read
    read_scan: Read


def measure(*, quick: bool) -> Report:  # quick or not: it is short, and the same
    hot = _zipf(sum(PHASES.values()))
    hits = {
        OURS: _of_pagein(victims.s3fifo, hot),
        OUR_FIFO: _of_pagein(victims.fifo, hot),
        **{name: _of_cachetools(kind(CAP_PAGES), hot) for name, kind in PEERS.items()},
    }
    ratios = {name: _by_phase(flags) for name, flags in hits.items()}
    rows = [[name, *(f"{ratio:.1%}" for ratio in by_phase.values())] for name, by_phase in ratios.items()]
    note = f"The first {PHASES['before'] // 2} reads, which fill the cache, do not count."
    columns = ["policy", *(f"{phase} the scan" for phase in PHASES)]
    report = Report(tables=[Table("Hit ratio of the hot reads", columns, rows, note)])
    report.headlines = [_headline(ratios, phase) for phase in ("during", "after")]
    report.data = {"ratios": ratios, "windows": {name: _windows(flags) for name, flags in hits.items()}}
    return report


def _zipf(count: int) -> list[int]:
    """Page numbers, by popularity and then shuffled over the file."""
    draw = random.Random(SEED)
    places = draw.sample(range(HOT_PAGES), HOT_PAGES)
    weights = list(accumulate(1 / rank**ZIPF_EXPONENT for rank in range(1, HOT_PAGES + 1)))
    return draw.choices(places, cum_weights=weights, k=count)


def _of_pagein(choose: victims.Victims, hot: list[int]) -> list[bool]:
    hot_store, scan_store = Pattern(), Pattern()
    with (
        PageCache(CAP_PAGES * PAGE, victims=choose) as cache,
        open_over(cache, hot_store, HOT_PAGES * PAGE) as hot_file,
        open_over(cache, scan_store, SCAN_PAGES * PAGE) as scan_file,
    ):
        hot_file.advise("random")

        def read(pread: Callable[[int, int], bytes], store: Pattern, index: int) -> bool:
            requests = store.request_count
            pread(PAGE, index * PAGE)
            return store.request_count == requests

        subject = Subject(partial(read, hot_file.pread, hot_store), partial(read, scan_file.pread, scan_store))
        return _hits(subject, hot)


def _of_cachetools(blocks: cachetools.Cache[tuple[str, int], bool], hot: list[int]) -> list[bool]:
    def read(file: str, index: int) -> bool:
        if (file, index) in blocks:
            return bool(blocks[file, index])  # the look-up is the use
        blocks[file, index] = True
        return False

    return _hits(Subject(partial(read, "hot"), partial(read, "scan")), hot)


def _hits(subject: Subject, hot: list[int]) -> list[bool]:
    scan_from, scan_to = PHASES["before"], PHASES["before"] + PHASES["during"]
    hits: list[bool] = []

    def run() -> None:
        for number, index in enumerate(hot):
            hits.append(subject.read_hot(index))
            if scan_from <= number < scan_to:
                subject.read_scan(number - scan_from)

    timing.in_a_thread(run)
    return hits


def _by_phase(hits: list[bool]) -> dict[str, float]:
    ratios, start = {}, 0
    for phase, count in PHASES.items():
        counted = hits[start + (count // 2 if phase == "before" else 0) : start + count]
        ratios[phase] = sum(counted) / len(counted)
        start += count
    return ratios


def _windows(hits: list[bool]) -> list[float]:
    return [sum(hits[at : at + WINDOW_READS]) / WINDOW_READS for at in range(0, len(hits), WINDOW_READS)]


def _headline(ratios: dict[str, dict[str, float]], phase: str) -> Headline:
    best, *others = sorted(PEERS, key=lambda name: ratios[name][phase], reverse=True)
    ours, theirs = ratios[OURS][phase], ratios[best][phase]
    beside = "; ".join(f"{name.removeprefix('cachetools ')} {ratios[name][phase]:.1%}" for name in others)
    return Headline(
        f"hit ratio of a hot set {phase} a one-pass scan of 4x the cache (more is better)",
        f"{ours:.1%}",
        f"{best} {theirs:.1%}; {beside}",
        f"{ours / theirs:.2f}x",
    )


def draw(report: Report, figure: Figure) -> None:
    figure.set_size_inches(11, 4.2)
    axes = figure.subplots()
    styles = {
        OURS: (PAGEIN_COLOUR, "-"),
        OUR_FIFO: (PAGEIN_COLOUR, ":"),
        "cachetools LRU": (ACCENT_COLOUR, "-"),
        "cachetools FIFO": (PEER_COLOUR, ":"),
    }
    for name, windows in report.data["windows"].items():
        colour, line = styles.get(name, (PEER_COLOUR, "-"))
        axes.plot([at * WINDOW_READS / 1000 for at in range(len(windows))], windows, line, color=colour, label=name)
    scan_from = PHASES["before"] / 1000
    axes.axvspan(scan_from, scan_from + PHASES["during"] / 1000, color="black", alpha=0.07, label="while the scan runs")
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.set_xlabel("thousand hot reads", fontsize=8)
    axes.set_title("Hit ratio of the hot reads (more is better)", fontsize=10, loc="left")
    axes.legend(fontsize=8, loc="lower right", ncols=3)
    plain(axes)
