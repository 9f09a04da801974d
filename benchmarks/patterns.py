"""Reads that skip, and reads backwards, over HTTP at 10 ms a request: what is downloaded in vain?

A stride (64 KiB read, 192 KiB skipped) through 64 MiB, and 64 KiB blocks from the end of the file backwards.  Each with
its defaults: fsspec's caches with blocks of 5 MiB, obstore's reader with a buffer of 1 MiB; beside ranges of pagein's
client without a cache.  Who downloads the skipped bytes needs fewer requests: he is faster, and pays for it in bytes.
How it is measured: places.py.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import places
import readers
from places import COLUMNS, FILE_BYTES, Found
from readers import PAGEIN, Open, Places
from report import Headline, Report, Table, bars, digits, duration, times
from workload import KIB, MIB

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Strides, and reads backwards, over HTTP"
STEP_BYTES, STRIDE_BYTES = 64 * KIB, 256 * KIB
FSSPEC_CACHES = ("readahead", "bytes", "blockcache", "background")
TARGET_RATIO = 2
CACHES: dict[str, Open] = {
    "obstore reader": readers.obstore_reads,
    **{f"fsspec {kind}": partial(readers.fsspec_reads, cache_type=kind) for kind in FSSPEC_CACHES},
}


def measure(*, quick: bool) -> Report:
    backwards_bytes = 4 * MIB if quick else 8 * MIB
    patterns = {
        "stride": range(0, FILE_BYTES, STRIDE_BYTES),
        "backwards": range(FILE_BYTES - STEP_BYTES, FILE_BYTES - backwards_bytes - STEP_BYTES, -STEP_BYTES),
    }
    with places.served() as served:
        by_pattern = {
            name: places.beside(served, Places(STEP_BYTES, list(offsets)), CACHES, rounds=1 if quick else 2)
            for name, offsets in patterns.items()
        }
    return Report(
        tables=[_table(name, found) for name, found in by_pattern.items()],
        headlines=[_headline(name, found) for name, found in by_pattern.items()],
        data={name: found.data() for name, found in by_pattern.items()},
    )


# -- what is said about it -------------------------------------------------------------------------------------------


def _table(name: str, found: Found) -> Table:
    what = {
        "stride": f"Stride: {STEP_BYTES // KIB} KiB read, {(STRIDE_BYTES - STEP_BYTES) // KIB} KiB skipped",
        "backwards": f"Backwards, {STEP_BYTES // KIB} KiB at a time",
    }[name]
    return Table(f"{what}: {found.places.total_bytes // MIB} MiB read", COLUMNS, found.rows())


def _headline(name: str, found: Found) -> Headline:
    what = {
        "stride": f"read {STEP_BYTES // KIB} KiB, skip {(STRIDE_BYTES - STEP_BYTES) // KIB} KiB",
        "backwards": f"{STEP_BYTES // KIB} KiB blocks backwards",
    }[name]
    ours = found.amplification(PAGEIN)
    caches = [other for other in found.outcomes if other.startswith(("fsspec", "obstore"))]
    frugal = min(caches, key=lambda other: (max(TARGET_RATIO, found.amplification(other)), found.seconds(other)))
    return Headline(
        f"{what}, over HTTP: bytes downloaded / bytes read",
        f"{digits(ours)} in {duration(found.seconds(PAGEIN))}",
        f"{frugal} {digits(found.amplification(frugal))} in {duration(found.seconds(frugal))}",
        times(ours / found.amplification(frugal)),
        f"≤ {TARGET_RATIO}x",
        ours <= TARGET_RATIO,
    )


def draw(report: Report, figure: Figure) -> None:
    figure.set_size_inches(11, 3)
    for axes, (name, found) in zip(figure.subplots(1, 2), report.data.items(), strict=True):
        worst = {who: max(one["sent_bytes"] for one in passes) for who, passes in found["outcomes"].items()}
        values = [sent_bytes / found["read_bytes"] for sent_bytes in worst.values()]
        bars(axes, list(worst), values, unit="bytes downloaded / bytes read", title=name.capitalize())
