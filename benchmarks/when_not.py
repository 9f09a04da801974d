"""What pagein costs where it can give nothing back: bytes that are read once, or that the kernel has already.

Each beside what one would use instead: obstore, the standard library's HTTP client, the built-in `open`.  Over HTTP
every answer comes after 10 ms; local files are in the kernel's page cache.  pagein's cache is new in each round and of
the default size, of the script the process.  What is read
is compared.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING
from urllib.request import urlopen

import obstore
import timing
from obstore.store import HTTPStore
from report import Report, Table, bars, duration, times_spread
from timing import Spread, Work
from workload import KIB, MIB, directory, offsets, random_bytes

from pagein import PageCache
from pagein.integrations.obspec import CachedStore
from pagein.testing.httpserver import RangeServerProcess

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Where pagein gives nothing back"
LATENCY_S = 0.01
LARGE_BYTES, OBJECTS, OBJECT_BYTES, THREADS = 64 * MIB, 100, MIB, 8
RANDOM_READS, SMALL_FILES, LINES = 300, 1000, 200_000
PAGEIN = "pagein"

Seconds = Callable[[], float]


def measure(*, quick: bool) -> Report:
    with directory() as place:
        data = random_bytes(LARGE_BYTES)
        (place / "large").write_bytes(data)
        (place / "lines").write_bytes(b"".join(b"%039d\n" % number for number in range(LINES)))
        for number in range(OBJECTS):
            (place / f"object-{number}").write_bytes(data[:OBJECT_BYTES])
        (place / "small").mkdir()
        for number in range(SMALL_FILES):
            (place / "small" / str(number)).write_bytes(data[: 4 * KIB])
        with RangeServerProcess(place, latency_s=LATENCY_S) as server:
            comparisons = {**_over_http(server, data), **_local(place, data)}
            return _report({what: _rounds(ways, 1 if quick else 3) for what, ways in comparisons.items()})


def _rounds(ways: dict[str, Seconds], rounds: int) -> timing.Rounds:
    return timing.by_turns({name: Work(1, run) for name, run in ways.items()}, rounds=rounds)


# -- over HTTP ---------------------------------------------------------------------------------------------------------


def _over_http(server: RangeServerProcess, data: bytes) -> dict[str, dict[str, Seconds]]:
    store = HTTPStore.from_url(server.base_url, client_options={"allow_http": True})
    places = offsets(RANDOM_READS, size_bytes=4 * KIB, within_bytes=LARGE_BYTES)
    at_places = [data[at : at + 4 * KIB] for at in places]
    keys = [f"object-{number}" for number in range(OBJECTS)]

    def whole() -> float:
        with PageCache() as cache:
            return _timed(lambda: cache.open(server.url("large")).read(), data)

    def random() -> float:
        with PageCache() as cache, cache.open(server.url("large")) as file:
            return _timed(
                lambda: [file.pread(4 * KIB, at) for at in places], [data[at : at + 4 * KIB] for at in places]
            )

    def objects_cached() -> float:
        with PageCache() as cache:
            return objects(CachedStore(store, cache=cache))

    def objects(own: CachedStore | HTTPStore) -> float:
        def get(key: str) -> bytes:
            return bytes(own.get(key).bytes())

        with ThreadPoolExecutor(THREADS) as pool:
            return _timed(lambda: list(pool.map(get, keys)), [data[:OBJECT_BYTES]] * OBJECTS)

    def script(code: str) -> float:
        start = perf_counter()
        subprocess.run([sys.executable, "-c", code.format(url=server.url("large"), base=server.base_url)], check=True)
        return perf_counter() - start

    return {
        "an object of 64 MiB over HTTP, whole, once": {
            PAGEIN: whole,
            "urllib": lambda: _timed(lambda: urlopen(server.url("large")).read(), data),
            "obstore": lambda: _timed(lambda: obstore.get(store, "large").bytes().to_bytes(), data),
        },
        f"{OBJECTS} objects of 1 MiB, each whole, once, {THREADS} threads": {
            PAGEIN: objects_cached,
            "obstore": partial(objects, store),
        },
        f"{RANDOM_READS} random reads of 4 KiB over HTTP, none twice": {
            PAGEIN: random,
            "obstore": lambda: _timed(
                lambda: [obstore.get_range(store, "large", start=at, length=4 * KIB).to_bytes() for at in places],
                at_places,
            ),
        },
        "a script that reads 100 bytes, and ends": {
            PAGEIN: partial(script, "import pagein\nwith pagein.open('{url}') as f: assert len(f.read(100)) == 100"),
            "urllib": partial(
                script,
                "from urllib.request import *\nassert len(urlopen(Request('{url}', headers={{'Range': 'bytes=0-99'}}))"
                ".read()) == 100",
            ),
            "obstore": partial(
                script,
                "import obstore\nfrom obstore.store import HTTPStore\n"
                "s = HTTPStore.from_url('{base}', client_options={{'allow_http': True}})\n"
                "assert len(obstore.get_range(s, 'large', start=0, length=100)) == 100",
            ),
        },
    }


# -- what the kernel has already ---------------------------------------------------------------------------------------


def _local(place: Path, data: bytes) -> dict[str, dict[str, Seconds]]:
    large, small = str(place / "large"), [str(place / "small" / str(number)) for number in range(SMALL_FILES)]

    def read_small(open_file: Callable[[str], object]) -> float:
        def read() -> list[bytes]:
            found = []
            for name in small:
                with open_file(name) as file:  # type: ignore[attr-defined]
                    found.append(file.read())
            return found

        return _timed(read, [data[: 4 * KIB]] * SMALL_FILES)

    def count_lines(open_file: Callable[[str], object]) -> float:
        with open_file(str(place / "lines")) as file:  # type: ignore[attr-defined]
            return _timed(lambda: sum(1 for _ in file), LINES)

    def in_a_cache(run: Callable[[Callable[[str], object]], float]) -> float:
        with PageCache() as cache:
            return run(cache.open)

    def read_large(open_file: Callable[[str], object]) -> float:
        with open_file(large) as file:  # type: ignore[attr-defined]
            return _timed(file.read, data)

    def plain(name: str) -> object:
        return open(name, "rb")

    work = {
        "a local file of 64 MiB, whole, once": read_large,
        f"{SMALL_FILES:,} local files of 4 KiB: open, read, close": read_small,
        f"{LINES:,} lines of a local file": count_lines,
    }
    return {what: {PAGEIN: partial(in_a_cache, run), "open": partial(run, plain)} for what, run in work.items()}


def _timed(read: Callable[[], object], expected: object) -> float:
    start = perf_counter()
    found = read()
    seconds = perf_counter() - start
    if found != expected:
        raise AssertionError("what was read is not what is there")
    return seconds


# -- what is said about it ---------------------------------------------------------------------------------------------


def _report(found: dict[str, timing.Rounds]) -> Report:
    rows, data = [], {}
    for what, rounds in found.items():
        seconds = {name: Spread.of(one).median for name, one in rounds.items()}
        for peer in [name for name in rounds if name != PAGEIN]:
            ratio = timing.ratio(rounds, PAGEIN, peer)
            rows.append([what, duration(seconds[PAGEIN]), peer, duration(seconds[peer]), times_spread(ratio)])
            data[f"{what} ({peer})"] = ratio.median
    columns = ["", PAGEIN, "instead", "time", f"{PAGEIN}'s time over it"]
    return Report([], [Table(TITLE, columns, rows)], {"ratios": data})


def draw(report: Report, figure: Figure) -> None:
    figure.set_size_inches(9, 3)
    ratios = report.data["ratios"]
    bars(figure.subplots(), list(ratios), list(ratios.values()), unit="pagein's time over it", title=TITLE)
