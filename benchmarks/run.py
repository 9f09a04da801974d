"""Runs the benchmarks and writes what they found: `make bench`, or `python benchmarks/run.py [--only TOPIC] [--quick]`.

Guarantees: each topic runs in a fresh process, so that none inherits another's memory, threads or garbage.
Writes benchmarks/results.md (the table that the README shows, then everything), that table into the README too,
results.json, and a picture for each topic in benchmarks/out/.  With --only or --quick it prints, and draws to
benchmarks/results/, but leaves those alone: they are one run's.
Ends with status 1 if a topic failed, not if a target was missed: this says how fast, the tests say how right.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import monotonic

from report import HEADLINE_COLUMNS, Report, Table

HERE = Path(__file__).parent
TOPICS = (
    "hits", "readpage", "download", "dataset", "memory", "misses", "scan",
    "stream", "timeline", "random_reads", "patterns", "async_hits", "s3",
    "writing", "writing_objects",
)  # fmt: skip
"""A file each, with TITLE, measure(quick=...) -> Report, and draw(report, figure)."""
LONG_TOPICS = ("many_files", "when_not")
"""The same, which run when they are named: of minutes, or of nothing that pagein is for."""
PEERS = ("fsspec", "aiohttp", "cachetools", "diskcache", "obstore", "aiofiles", "s3fs", "moto")
DPI = 110
README_BEGIN = "<!-- what make bench printed: begin -->"
README_END = "<!-- what make bench printed: end -->"


def main() -> int:
    options = _options()
    load = f"{os.getloadavg()[0]:.1f} at the start"
    reports: dict[str, Report] = {}
    failed = []
    for name in options.only or TOPICS:
        print(f"\n# {name}", flush=True)
        start = monotonic()
        try:
            reports[name] = _apart(name, quick=options.quick)
        except Exception as error:
            failed.append(name)
            print(f"failed: {type(error).__name__}: {error}\n{error.__cause__ or ''}", file=sys.stderr, flush=True)
            continue
        print("\n".join(table.text() for table in reports[name].tables))
        print(f"({monotonic() - start:.0f} s)", flush=True)
    partial = options.quick or bool(options.only) or bool(failed)
    pictures = HERE / ("results" if partial else "out")
    _draw(reports, pictures)
    print("\n" + _summary(reports).text())
    if not partial:
        (HERE / "results.md").write_text(_document(reports, load))
        _show_in_readme(_summary(reports))
        (HERE / "results.json").write_text(json.dumps(_data(reports, load), indent=1) + "\n")
    print(f"pictures: {os.path.relpath(pictures)}/", "" if partial else f"tables: {os.path.relpath(HERE)}/results.md")
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    topics = f"{', '.join(TOPICS)}; and, if named, {', '.join(LONG_TOPICS)}"
    parser = argparse.ArgumentParser(description="pagein's benchmarks, each beside its peers")
    parser.add_argument("--only", action="append", choices=TOPICS + LONG_TOPICS, metavar="TOPIC", help=f"of {topics}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: less to wait for, and more noise")
    return parser.parse_args()


def _apart(name: str, *, quick: bool) -> Report:
    """The topic's report, measured in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(measure, name, quick=quick).result()


def measure(name: str, *, quick: bool) -> Report:
    """Called in that process."""
    report: Report = importlib.import_module(name).measure(quick=quick)
    return report


def _draw(reports: dict[str, Report], directory: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    directory.mkdir(parents=True, exist_ok=True)
    for name, report in reports.items():
        figure = Figure(layout="constrained")
        topic = importlib.import_module(name)
        topic.draw(report, figure)
        figure.savefig(directory / f"{name}.png", dpi=DPI, metadata={"Software": None})


# -- what is written ------------------------------------------------------------------------------------------------


def _summary(reports: dict[str, Report]) -> Table:
    rows = [headline.row() for report in reports.values() for headline in report.headlines]
    note = (
        "Ratio: pagein's figure over the peer's, measured by turns in one run, median and quartiles; for rates and hit "
        "ratios more is better, for everything else less. The peer is the one that the target names, else the best of "
        "those that do the same."
    )
    return Table("pagein beside the best peer", HEADLINE_COLUMNS, rows, note)


def _show_in_readme(table: Table) -> None:
    """Between the lines of the README that say so."""
    readme = HERE.parent / "README.md"
    before, begin, rest = readme.read_text().partition(README_BEGIN)
    _, end, after = rest.partition(README_END)
    if not end:
        raise SystemExit(f"README.md has lost the lines {README_BEGIN} and {README_END}, which hold the table")
    readme.write_text(f"{before}{begin}\n\n{table.body()}\n\n{end}{after}")


def _machine(load: str) -> dict[str, str]:
    return {
        "load": load,
        "date": datetime.now(UTC).date().isoformat(),
        "cores": str(os.cpu_count()),
        "processor": _processor(),
        "kernel": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "pagein": version("pagein"),
        **{peer: version(peer) for peer in PEERS},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _document(reports: dict[str, Report], load: str) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in _machine(load).items())
    head = [
        "# Benchmarks",
        "Made by `make bench`; the last full run. Everything that is compared was measured by turns in one process; "
        "figures are medians, spreads quartiles. Compare ratios: times depend on the machine, and on who else uses it.",
        f"Measured on: {machine}.",
        _summary(reports).text(),
    ]
    for name, report in reports.items():
        topic = importlib.import_module(name)
        head += [
            f"## {topic.TITLE}",
            f"{topic.__doc__}".strip().replace("\n\n", "\n"),
            f"![{topic.TITLE}](out/{name}.png)",
        ]
        head += [table.text() for table in report.tables]
    return "\n\n".join(part.strip() for part in head) + "\n"


def _data(reports: dict[str, Report], load: str) -> dict[str, object]:
    return {
        "machine": _machine(load),
        "headlines": [asdict(headline) for report in reports.values() for headline in report.headlines],
        **{name: report.data for name, report in reports.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
