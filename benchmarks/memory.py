"""Memory: what a resident page costs beside its 4 KiB, and how far the process grows beyond the cap.

Bookkeeping is what the cache says of itself (flags and queues) and, measured apart by tracemalloc, what Python's heap
grew by.  Linux pays 64 bytes a page (struct page) and an index on top.  Beside it, 4 KiB blocks in cachetools.
Growth is the kernel's account (VmHWM, after a reset) of a fresh process that reads a local file four times as large
as the cap, less what the process had before.  `memory_child.py` is that process.
"""

from __future__ import annotations

import gc
import json
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import timing
from peers import CachetoolsBlocks
from report import Headline, Report, Table, bars, digits
from workload import MIB, PAGE, SEED, TIB, Pattern, directory, open_over

from pagein import PageCache

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Memory"
LINUX_BYTES_A_PAGE = 64
LINUX_NODE_BYTES = 576
"""An xarray node (struct xa_node), which 64 neighbours share; a page that has none pays for it alone."""
CAP_BYTES = 64 * MIB
SMALL_CAP_BYTES = 16 * MIB
SMALL_READS = 4 * SMALL_CAP_BYTES // PAGE
LONE_PAGES = 2000
LONE_FILE_BYTES = 10 * TIB
PATTERNS = ("sequential", "random")
THREADS = 4


class Bookkeeping(NamedTuple):
    """Bytes beside a resident page."""

    flags: float
    heap: float
    own_account: float
    """What the cache says of itself: flags, and of the heap its queues."""

    @property
    def total(self) -> float:
        return self.flags + self.heap


class Growth(NamedTuple):
    """Of a process, in bytes: the cap, the most it grew by, and what it had grown by in the end."""

    cap: int
    peak: int
    end: int

    @property
    def over_cap(self) -> float:
        return self.peak / self.cap - 1


def measure(*, quick: bool) -> Report:
    fill_bytes = 64 * MIB if quick else 256 * MIB
    kept: dict[str, Bookkeeping] = {}
    timing.in_a_thread(lambda: kept.update(_bookkeeping(fill_bytes)))
    with directory() as place:
        path = place / "data"
        path.write_bytes(random.Random(SEED).randbytes(MIB) * (4 * CAP_BYTES // MIB))
        growth = {
            f"{who}, {pattern}": _grow(who, pattern, path) for who in ("pagein", "cachetools") for pattern in PATTERNS
        }
    report = Report(tables=[_bookkeeping_table(kept, fill_bytes), _growth_table(growth)])
    report.headlines = [*_bookkeeping_headlines(kept), _growth_headline(growth)]
    report.data = {
        "bytes_a_page": {name: one._asdict() for name, one in kept.items()},
        "growth_bytes": {name: one._asdict() for name, one in growth.items()},
    }
    return report


# -- bookkeeping ----------------------------------------------------------------------------------------------------


def _bookkeeping(fill_bytes: int) -> dict[str, Bookkeeping]:
    pages = fill_bytes // PAGE
    in_order = range(pages)
    shuffled = random.Random(SEED).sample(in_order, pages)
    draw = random.Random(SEED)
    through = {
        share: [draw.randrange(share * SMALL_CAP_BYTES // PAGE) for _ in range(SMALL_READS)] for share in (4, 64)
    }
    lone = random.Random(SEED).sample(range(LONE_FILE_BYTES // PAGE), 4 * LONE_PAGES)
    return {
        "pagein, filled in order": _of_pagein(fill_bytes, fill_bytes, in_order),
        "pagein, filled at random": _of_pagein(fill_bytes, fill_bytes, shuffled),
        **{
            f"pagein, random reads of a file of {share}x its size": _of_pagein(
                SMALL_CAP_BYTES, share * SMALL_CAP_BYTES, order
            )
            for share, order in through.items()
        },
        "pagein, lone pages of a 10 TiB file": _of_pagein(LONE_PAGES * PAGE, LONE_FILE_BYTES, lone[:LONE_PAGES]),
        "pagein, 4x its size of lone pages": _of_pagein(LONE_PAGES * PAGE, LONE_FILE_BYTES, lone),
        "cachetools, 4 KiB blocks": _of_cachetools(fill_bytes, in_order),
    }


def _of_pagein(cap_bytes: int, file_bytes: int, order: Sequence[int]) -> Bookkeeping:
    with PageCache(cap_bytes) as cache, open_over(cache, Pattern(), file_bytes) as file:
        file.advise("random" if not isinstance(order, range) else "normal")
        heap = _heap_growth(lambda: _read_pages(file.pread, order))
        stats = cache.stats()
        pages = stats.resident_bytes // PAGE
        return Bookkeeping(cache._zone.planes_bytes() / pages, heap / pages, stats.bookkeeping_bytes / pages)


def _of_cachetools(cap_bytes: int, order: Sequence[int]) -> Bookkeeping:
    class Zeros(bytes):
        def __getitem__(self, key: slice) -> bytes:  # type: ignore[override]
            return bytes(key.stop - key.start)

    blocks = CachetoolsBlocks(Zeros(), cap_bytes)
    heap = _heap_growth(lambda: _read_pages(blocks.pread, order))
    return Bookkeeping(0.0, heap / len(order) - PAGE, 0.0)


def _read_pages(pread: Callable[[int, int], bytes], order: Sequence[int]) -> None:
    for index in order:
        pread(PAGE, index * PAGE)


def _heap_growth(run: Callable[[], None]) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        run()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        return after - before
    finally:
        tracemalloc.stop()


# -- growth ---------------------------------------------------------------------------------------------------------


def _grow(who: str, pattern: str, path: Path) -> Growth:
    child = Path(__file__).with_name("memory_child.py")
    arguments = [sys.executable, str(child), who, pattern, str(path), str(CAP_BYTES), str(THREADS)]
    answer = subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Growth(CAP_BYTES, **json.loads(answer))


# -- what is said about it ------------------------------------------------------------------------------------------


def _bookkeeping_table(kept: dict[str, Bookkeeping], fill_bytes: int) -> Table:
    rows = [
        [name, digits(one.flags), digits(one.heap), digits(one.total), digits(one.own_account)]
        for name, one in kept.items()
    ]
    note = (
        f"Caches of {fill_bytes // MIB} MiB, full; of {SMALL_CAP_BYTES // MIB} MiB where more was read than fits, "
        f"which leaves the memory of what was evicted; of {LONE_PAGES:,} pages for the 10 TiB. The last column is what "
        "the cache says of itself. A page of a flag covers 16 MiB of a file, so what is scattered pays for flags of "
        "pages that are not there, and one that has no neighbour within 16 MiB pays for up to five such pages. Linux "
        f"(by its structs): {LINUX_BYTES_A_PAGE} bytes, and {LINUX_NODE_BYTES} of the index for a page that has no "
        "neighbour within 256 KiB."
    )
    return Table(
        "Bytes beside a resident 4 KiB page", ["", "flags", "heap", "together", "`bookkeeping_bytes`"], rows, note
    )


def _growth_table(growth: dict[str, Growth]) -> Table:
    rows = [
        [name, f"{one.peak / MIB:.1f} MiB", f"{one.end / MIB:.1f} MiB", f"{one.over_cap:+.1%}"]
        for name, one in growth.items()
    ]
    title = f"Growth of a process that reads 4x the cap of {CAP_BYTES // MIB} MiB with {THREADS} threads"
    return Table(title, ["", "at its peak", "in the end", "peak over the cap"], rows)


def _bookkeeping_headlines(kept: dict[str, Bookkeeping]) -> list[Headline]:
    lines = []
    theirs = kept["cachetools, 4 KiB blocks"].total
    for name in ("pagein, filled in order", "pagein, filled at random"):
        ours = kept[name].total
        lines.append(
            Headline(
                f"bytes of bookkeeping a resident 4 KiB page, {name.removeprefix('pagein, ')}",
                digits(ours),
                f"Linux {LINUX_BYTES_A_PAGE}; cachetools {digits(theirs)}",
                f"{ours / LINUX_BYTES_A_PAGE:.2f}x",
                f"≤ {LINUX_BYTES_A_PAGE}",
                ours <= LINUX_BYTES_A_PAGE,
            )
        )
    linux = LINUX_BYTES_A_PAGE + LINUX_NODE_BYTES
    for name, when in (
        ("pagein, random reads of a file of 64x its size", "random reads of a file 64x the cache"),
        ("pagein, 4x its size of lone pages", "worst case: no two within 16 MiB"),
    ):
        ours = kept[name].total
        what = f"bytes of bookkeeping a resident 4 KiB page, {when}"
        lines.append(Headline(what, digits(ours), f"Linux {linux} with its index", f"{digits(ours / linux)}x"))
    return lines


def _growth_headline(growth: dict[str, Growth]) -> Headline:
    worst = {who: max(growth[f"{who}, {pattern}"].over_cap for pattern in PATTERNS) for who in ("pagein", "cachetools")}
    ours, theirs = worst["pagein"], worst["cachetools"]
    what = f"peak RSS over the cap, 4x the cap read by {THREADS} threads"
    return Headline(what, f"{ours:+.1%}", f"cachetools {theirs:+.1%}", f"{(1 + ours) / (1 + theirs):.2f}x")


def draw(report: Report, figure: Figure) -> None:
    figure.set_size_inches(13, 3.4)
    left, right = figure.subplots(1, 2)
    kept = {name: Bookkeeping(**one).total for name, one in report.data["bytes_a_page"].items()}
    kept["Linux"] = LINUX_BYTES_A_PAGE
    kept["Linux, page without neighbours"] = LINUX_BYTES_A_PAGE + LINUX_NODE_BYTES
    title = "Bytes beside a resident 4 KiB page (less is better)"
    bars(left, list(kept), list(kept.values()), unit="bytes, in decades", title=title, decades=True)
    growth = report.data["growth_bytes"]
    peaks = [one["peak"] / MIB for one in growth.values()]
    bars(
        right,
        list(growth),
        peaks,
        unit="MiB",
        title=f"Growth of the process, cap {CAP_BYTES // MIB} MiB (less is better)",
    )
    right.axvline(CAP_BYTES / MIB, color="black", linewidth=1, linestyle=":")
