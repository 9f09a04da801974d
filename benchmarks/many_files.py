"""13,562 small Parquet files, all open at once, under a cap of 256 MiB: what becomes of a process's memory?

As a reader of many shards does: open all, each with its footer, keep them open, then read each of them once.  (A
worker that did so lost 25 GB to caches of its open files, marin #3924.)  Each candidate in a process of its own, over
HTTP; the same bytes have 13,562 names, and every table is compared.  What pyarrow takes for its own side of the open
files is measured over bytes in memory that all of them share, and taken off: once when all are open, and once when
all have been read.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from report import Headline, Report, Table, bars, duration, size_name, times
from workload import KIB, MIB, directory

from pagein.testing.httpserver import RangeServerProcess

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "13,562 open files"
FILES, CAP_BYTES, ALLOWED_BYTES = 13_562, 256 * MIB, 64 * MIB
QUICK_FILES = 1_500
ROWS = 6_000
"""Of 8 bytes: 47 KiB a file."""
PAGEIN, PYARROW = "pagein", "pyarrow alone"
PEERS = ("bytes", "readahead", "none")
MOMENTS = ("opened_bytes", "read_bytes")


def measure(*, quick: bool) -> Report:
    count = QUICK_FILES if quick else FILES
    with directory() as place:
        file_bytes = _make(place, count)
        with RangeServerProcess(place) as server:
            found = {PYARROW: _run("memory", count, server, place), PAGEIN: _run("pagein", count, server, place)}
            for kind in PEERS:
                found[f"fsspec {kind}"] = _run(kind, count, server, place)
    return _report(found, count, file_bytes)


def _make(place: Path, count: int) -> int:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = place / "0.parquet"
    table = pa.table({"value": np.random.default_rng(1).random(ROWS)})
    pq.write_table(table, first, compression="none", use_dictionary=False)
    for number in range(1, count + 1):
        (place / f"{number}.parquet").hardlink_to(first)
    return first.stat().st_size


def _run(who: str, count: int, server: RangeServerProcess, place: Path) -> dict[str, Any]:
    server.reset()
    child = str(Path(__file__).with_name("many_files_child.py"))
    arguments = [sys.executable, child, who, str(count), str(CAP_BYTES), server.base_url, str(place / "0.parquet")]
    told = json.loads(subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True).stdout)
    stats = server.stats()
    return {**told, "requests": stats.request_count, "sent_bytes": stats.sent_bytes}


def _report(found: dict[str, dict[str, Any]], count: int, file_bytes: int) -> Report:
    rows = [
        [
            name,
            duration(one["opened_s"]),
            duration(one["read_s"]),
            duration(one["cpu_s"]),
            *(_over_pyarrow(found, name, when) for when in MOMENTS),
            size_name(one["peak_bytes"]),
            str(one["requests"]),
            times(one["sent_bytes"] / (count * file_bytes)),
            str(one["wrong_count"]),
        ]
        for name, one in found.items()
    ]
    columns = [
        "", "open all", "read all", "of both, its CPU", "grown by, open", "and read", "pyarrow's too, at the peak",
        "requests", "downloaded / files", "wrong tables",
    ]  # fmt: skip
    own = found[PAGEIN]["cache"]
    note = (
        f"The cache says: {size_name(own['resident_bytes'])} resident, {size_name(own['bookkeeping_bytes'])} of flags "
        f"and queues, {own['open_files']:,} open files, {own['evictions']:,} pages evicted."
    )
    title = f"{count:,} Parquet files of {file_bytes / KIB:.0f} KiB, open at once; pagein's cap {CAP_BYTES // MIB} MiB"
    alone = found[PYARROW]
    grown = {name: max(one[when] - alone[when] for when in MOMENTS) for name, one in found.items() if name != PYARROW}
    best = min((name for name in grown if name not in (PAGEIN, "fsspec none")), key=lambda name: grown[name])
    seconds = {name: one["opened_s"] + one["read_s"] for name, one in found.items()}
    limit = CAP_BYTES + ALLOWED_BYTES
    headlines = [
        Headline(
            f"{count:,} small Parquet files open at once, cap {CAP_BYTES // MIB} MiB: growth of the process",
            size_name(grown[PAGEIN]),
            f"{best} {size_name(grown[best])}",
            f"{grown[PAGEIN] / grown[best]:.2f}x",
            f"≤ {size_name(limit)}",
            grown[PAGEIN] <= limit,
        ),
        Headline(
            f"{count:,} small Parquet files opened and read over HTTP: time",
            duration(seconds[PAGEIN]),
            f"{best} {duration(seconds[best])}",
            times(seconds[PAGEIN] / seconds[best]),
        ),
        Headline(
            f"{count:,} small Parquet files opened over HTTP: time",
            duration(found[PAGEIN]["opened_s"]),
            f"{best} {duration(found[best]['opened_s'])}",
            times(found[PAGEIN]["opened_s"] / found[best]["opened_s"]),
            "1.0x",
            found[PAGEIN]["opened_s"] <= found[best]["opened_s"],
        ),
    ]
    return Report(headlines, [Table(title, columns, rows, note)], {"found": found, "grown": grown})


def _over_pyarrow(found: dict[str, dict[str, Any]], name: str, when: str) -> str:
    alone = 0 if name == PYARROW else found[PYARROW][when]
    return size_name(max(0, found[name][when] - alone))


def draw(report: Report, figure: Figure) -> None:
    figure.set_size_inches(8, 2.6)
    axes = figure.subplots()
    grown = {name: size / MIB for name, size in report.data["grown"].items()}
    bars(axes, list(grown), list(grown.values()), unit="MiB", title="Growth of the process beside pyarrow's own")
    axes.axvline((CAP_BYTES + ALLOWED_BYTES) / MIB, color="black", linewidth=1, linestyle=":")
