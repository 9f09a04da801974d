"""Requests and bytes of each project that reads through pagein, beside the same project over plain fsspec or obstore.

    make ecosystem        or: python benchmarks/ecosystem.py

Guarantees: the cases are those of tests/ecosystem, with more data; each is read twice by every door, in a process of
its own, and compared with a local copy.  What was asked for, and what was sent, is what the HTTP server has counted.
Prints the table, and writes it into docs/reference/ecosystem.md, as it stands: nothing there is written by hand.
Not here: how long it takes.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]

from report import Table  # noqa: E402
from tests.ecosystem.cases import CASES, Case  # noqa: E402
from tests.ecosystem.doors import Door, LocalCopy  # noqa: E402
from workload import MIB, directory  # noqa: E402

from pagein.testing.httpserver import RangeServerProcess  # noqa: E402

PAGE = ROOT / "docs/reference/ecosystem.md"
BEGIN, END = "<!-- what make ecosystem printed: begin -->", "<!-- what make ecosystem printed: end -->"
SIZE = 4
"""Of each case's files, in units of its own: 4 to 24 MiB."""
PATIENCE_S = 180
PACKAGES = (
    "fsspec", "obstore", "pandas", "pyarrow", "polars", "duckdb", "xarray", "zarr", "h5py", "numpy", "pillow", "dask",
    "virtualizarr", "torch",
)  # fmt: skip


class Read(NamedTuple):
    """What the server was asked during one of two passes, and what was wrong with what was read."""

    request_count: int
    sent_bytes: int
    fault: str


def main() -> None:
    warnings.simplefilter("ignore")  # the other projects' are theirs
    rows = [row for case in CASES for row in _rows(case)]
    columns = ["", "files", "read by", "requests", "MiB", "requests, again", "MiB, again", "right"]
    told = ", ".join(f"{name} {version(name)}" for name in PACKAGES if _is_there(name))
    body = f"{Table('', columns, rows).body()}\n\nWith {told}."
    print(body)
    before, begin, rest = PAGE.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{PAGE.name} has lost the lines {BEGIN} and {END}, which hold the table")
    PAGE.write_text(f"{before}{begin}\n\n{body}\n\n{end}{after}")


def _rows(case: Case) -> Iterator[list[str]]:
    if missing := [package for package in case.packages if not _is_there(package)]:
        yield [case.title, "", f"not measured: no {', '.join(missing)}", "", "", "", "", ""]
        return
    with directory() as place:
        case.make(place, SIZE)
        files_bytes = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
        title, size = case.title, _mib(files_bytes)
        for door in (case.plain, *case.doors):
            first, again = _apart(case, door, place)
            right = f"**no**: {fault}" if (fault := first.fault or again.fault) else "yes"
            figures = [f(one) for one in (first, again) for f in (_count, lambda one: _mib(one.sent_bytes))]
            yield [title, size, door.title, *figures, right]
            title = size = ""


def _apart(case: Case, door: type[Door], place: Path) -> list[Read]:
    """In a process whose caches are empty, over a server whose files nobody has read."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    with RangeServerProcess(place) as server:
        process = spawn.Process(target=_serve, args=(there, CASES.index(case), door(server.base_url), str(place)))
        process.start()
        found = []
        for _ in range(2):
            server.reset()
            here.send(None)
            fault = here.recv() if here.poll(PATIENCE_S) else f"no answer in {PATIENCE_S} s"
            stats = server.stats()
            found.append(Read(stats.request_count, stats.sent_bytes, fault))
            if not process.is_alive() or fault.startswith("no answer"):
                found *= 2
                break
        process.kill()
        process.join()
        return found[:2]


def _serve(told: Any, *what: Any) -> None:
    """Called in that process."""
    while True:
        told.recv()
        told.send(_fault(*what))


def _fault(case: int, door: Door, place: str) -> str:
    warnings.simplefilter("ignore")
    truth: Any = CASES[case].read(LocalCopy(place))
    try:
        return "" if CASES[case].read(door) == truth else "another answer"
    except Exception as error:
        line = str(error).partition("\n")[0]
        return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)


def _count(read: Read) -> str:
    return str(read.request_count)


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / MIB:.2f}"


def _is_there(package: str) -> bool:
    name = {"pillow": "PIL"}.get(package, package)
    return importlib.util.find_spec(name.partition(".")[0]) is not None


if __name__ == "__main__":
    main()
