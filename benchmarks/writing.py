"""Writing: into the cache, out of it, and how much may wait in between.

4 KiB overwrites of what is in the cache, at random places; 4 KiB overwrites of a cold file on disk, then fsync; a large
file in order, in 1 MiB writes, into the cache, and with the fsync; records of 100 bytes appended.  Beside os.pwrite and
open() on tmpfs (a memfd), which is what memory alone costs, and on the same disk.
And a store slower than its writers: how much is dirty at most, and how long a write takes then.
What was written is compared, byte for byte, in each store at the end.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import quantiles
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any

import fsspec
import timing
import writers
from report import Headline, Report, Table, at_least, at_most, bars, digits, duration, size_name, times_spread
from timing import Rounds, Spread, Work
from workload import GIB, KIB, MIB, PAGE, directory, random_bytes
from writers import TakenStore, Write

from pagein import File, PageCache
from pagein.testing import Link, SimulatedStore

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Writing"
FILE_BYTES = 64 * MIB
WRITES = 4096
COLD_BYTES = 256 * MIB
PIECE_BYTES = MIB
SEQUENTIAL_BYTES = {False: GIB, True: 256 * MIB}
"""Quick or not."""
RECORD_BYTES, RECORDS = 100, 20_000

PWRITE, SEEK_WRITE, CLEAN = "pagein pwrite", "pagein, seek + write", "pagein pwrite, clean pages"
SYSTEM, SYSTEM_FILE, MAPPED = "os.pwrite, tmpfs", 'open("r+b"), tmpfs', "mmap slice, tmpfs"
PAGEIN, PAGEIN_ASIDE = "pagein", "pagein, in a thread"
SYSTEM_DISK, FILE_DISK, FSSPEC = "os.pwrite", "open()", "fsspec local file"
PAGEIN_APPEND, PAGEIN_WRITE = 'pagein "ab"', 'pagein "wb"'
FILE_APPEND, SYSTEM_APPEND = 'open("ab")', "os.write, O_APPEND"

SLOW_CAP_BYTES = 64 * MIB
SLOW_BYTES_PER_S = 100e6
SLOW_THREADS = 4
SLOW_WRITE_BYTES = 64 * KIB


def measure(*, quick: bool) -> Report:
    patience = 1 if quick else 4
    size_bytes = SEQUENTIAL_BYTES[quick]
    overwrites = _overwrites(rounds=6 * patience)
    appends = _appends(rounds=3 * patience)
    sequential = _sequential(size_bytes, rounds=3 if quick else 7)
    with directory() as place:
        cold = _cold(place, rounds=3 if quick else 7)
    with directory() as place:
        durable = _durable(place, size_bytes, rounds=2 if quick else 3)
    slow = _slow()
    report = Report(
        tables=[
            _table("4 KiB overwrites of what is in the cache", "a write", overwrites, [PWRITE, SEEK_WRITE, CLEAN]),
            _table(f"{WRITES} random 4 KiB overwrites of a cold file of {size_name(COLD_BYTES)} on disk, and fsync",
                   "a write", cold, [PAGEIN]),
            _table(f"{size_name(size_bytes)} in order, in 1 MiB writes, into memory", "a MiB", sequential,
                   [PAGEIN, PAGEIN_ASIDE]),
            _table(f"{size_name(size_bytes)} in order, in 1 MiB writes, and fsync, on disk", "a MiB", durable,
                   [PAGEIN]),
            _table(f"Records of {RECORD_BYTES} bytes at the end, until they are in the store", "a record", appends,
                   [PAGEIN_APPEND, PAGEIN_WRITE]),
            _slow_table(slow),
        ],
        headlines=[
            _headline("4 KiB overwrite in the cache, `pwrite`", overwrites, PWRITE, SYSTEM, limit=1.5),
            _headline("4 KiB overwrite of a clean page in the cache, `pwrite`", overwrites, CLEAN, SYSTEM),
            _headline("4 KiB overwrite in the cache, `seek` + `write`", overwrites, SEEK_WRITE, SYSTEM_FILE),
            _rate_headline(f"{size_name(size_bytes)} in order into the cache (more is better)", sequential, 0.8),
            _rate_headline(f"{size_name(size_bytes)} in order to a local file, and fsync (more is better)", durable),
            _headline(f"{WRITES} random 4 KiB overwrites of a cold local file, and fsync: a write", cold, PAGEIN,
                      timing.fastest(cold, [name for name in cold if name != PAGEIN])),
            _headline("append a record of 100 bytes", appends, PAGEIN_APPEND, FILE_APPEND),
            _slow_headline(slow),
        ],
    )  # fmt: skip
    report.data = {
        "overwrite_seconds": timing.summary(overwrites),
        "cold_seconds_a_write": timing.summary(cold),
        "sequential_seconds_a_mib": timing.summary(sequential),
        "durable_seconds_a_mib": timing.summary(durable),
        "append_seconds_a_record": timing.summary(appends),
        "slow": slow,
    }
    return report


# -- overwrites of what is in the cache -------------------------------------------------------------------------------


@contextmanager
def _in_memory(data: bytes) -> Iterator[int]:
    """A file on tmpfs."""
    fd = os.memfd_create("peer")
    try:
        os.pwrite(fd, data, 0)
        yield fd
    finally:
        os.close(fd)


def _overwrites(*, rounds: int) -> Rounds:
    data = random_bytes(FILE_BYTES)
    writes = writers.random_writes(WRITES, within_bytes=FILE_BYTES)
    expected = bytearray(data)
    writers.apply(writes, expected)
    with ExitStack() as stack:
        cache = stack.enter_context(PageCache(GIB))
        stores = [TakenStore(data) for _ in range(2)]
        file, cleaned = (cache.inode(store, size_bytes=FILE_BYTES).open("r+b") for store in stores)
        for one in (file, cleaned):
            one.populate()
        fds = [stack.enter_context(_in_memory(data)) for _ in range(3)]
        buffered = stack.enter_context(open(f"/proc/self/fd/{fds[1]}", "r+b"))
        mapped = stack.enter_context(mmap.mmap(fds[2], 0))
        loops: dict[str, Callable[[], object]] = {
            PWRITE: partial(_pwrite, file.pwrite, writes),
            SYSTEM: partial(_os_pwrite, fds[0], writes),
            MAPPED: partial(_assign, mapped, writes),
            SEEK_WRITE: partial(_seek_write, file, writes),
            SYSTEM_FILE: partial(_seek_write, buffered, writes),
            CLEAN: partial(_pwrite_clean, cleaned, writes),
        }
        found = timing.by_turns({name: Work(WRITES, loop) for name, loop in loops.items()}, rounds=rounds)
        file.fsync()
        for name, fd in {PWRITE: stores[0].fd, CLEAN: stores[1].fd, SYSTEM: fds[0], SYSTEM_FILE: fds[1]}.items():
            assert writers.same_bytes(fd, expected), name
        assert mapped[:] == expected
    return found


def _pwrite(pwrite: Callable[[bytes, int], int], writes: list[Write]) -> None:
    for offset, block in writes:
        pwrite(block, offset)


def _os_pwrite(fd: int, writes: list[Write]) -> None:
    pwrite = os.pwrite
    for offset, block in writes:
        pwrite(fd, block, offset)


def _assign(mapped: mmap.mmap, writes: list[Write]) -> None:
    for offset, block in writes:
        mapped[offset : offset + PAGE] = block


def _seek_write(file: Any, writes: list[Write]) -> None:
    seek, write = file.seek, file.write
    for offset, block in writes:
        seek(offset)
        write(block)
    file.flush()


def _pwrite_clean(file: File, writes: list[Write]) -> float:
    """Only the writes are timed; each is the first to its page since it was stored."""
    start = perf_counter()
    _pwrite(file.pwrite, writes)
    spent_s = perf_counter() - start
    file.fsync()
    return spent_s


# -- a cold file on disk, and fsync -----------------------------------------------------------------------------------


def _cold(place: Path, *, rounds: int) -> Rounds:
    """Each candidate opens a file of its own anew in each round, and writes the same to the same places."""
    data = random_bytes(COLD_BYTES)
    expected = bytearray(data)
    local = fsspec.filesystem("file")
    opens: dict[str, Callable[[Path], Any]] = {
        FILE_DISK: partial(open, mode="r+b"),
        FSSPEC: lambda path: local.open(str(path), "r+b"),
    }
    runs: dict[str, Callable[[Path, list[Write]], None]] = {
        PAGEIN: _cold_pagein,
        SYSTEM_DISK: _cold_system,
        **{name: partial(_cold_file, how) for name, how in opens.items()},
    }
    paths = {name: place / str(number) for number, name in enumerate(runs)}
    for path in paths.values():
        path.write_bytes(data)
    turn = dict.fromkeys(runs, 0)

    def run(name: str) -> float:
        turn[name] += 1
        writes = writers.random_writes(WRITES, within_bytes=COLD_BYTES, seed=turn[name])
        writers.evict_from_system(paths[name])
        os.sync()  # what the one before has left to do is not this one's
        start = perf_counter()
        runs[name](paths[name], writes)
        return perf_counter() - start

    found = timing.by_turns({name: Work(WRITES, partial(run, name)) for name in runs}, rounds=rounds)
    for number in range(1, max(turn.values()) + 1):
        writers.apply(writers.random_writes(WRITES, within_bytes=COLD_BYTES, seed=number), expected)
    for name, path in paths.items():
        with path.open("rb") as file:
            assert writers.same_bytes(file.fileno(), expected), name
    return found


def _cold_pagein(path: Path, writes: list[Write]) -> None:
    with PageCache(GIB) as cache, cache.open(path, "r+b") as file:
        _pwrite(file.pwrite, writes)
        file.fsync()


def _cold_system(path: Path, writes: list[Write]) -> None:
    fd = os.open(path, os.O_RDWR)
    try:
        _os_pwrite(fd, writes)
        os.fsync(fd)
    finally:
        os.close(fd)


def _cold_file(how: Callable[[Path], Any], path: Path, writes: list[Write]) -> None:
    with how(path) as file:
        _seek_write(file, writes)
        os.fsync(file.fileno())


# -- in order ---------------------------------------------------------------------------------------------------------


def _pieces() -> list[bytes]:
    return [number.to_bytes(8, "little") + random_bytes(PIECE_BYTES)[8:] for number in range(16)]


def _is_in_order(fd: int, pieces: list[bytes], size_bytes: int) -> bool:
    found = (os.pread(fd, PIECE_BYTES, at) for at in range(0, size_bytes, PIECE_BYTES))
    return os.fstat(fd).st_size == size_bytes and all(
        piece == pieces[number % len(pieces)] for number, piece in enumerate(found)
    )


def _write_in_order(write: Callable[[bytes], object], pieces: list[bytes], size_bytes: int) -> float:
    start = perf_counter()
    for number in range(size_bytes // PIECE_BYTES):
        write(pieces[number % len(pieces)])
    return perf_counter() - start


def _sequential(size_bytes: int, *, rounds: int) -> Rounds:
    """New files, in new memory; a cache that may have all of it dirty, and waits for no store."""
    pieces = _pieces()

    def through_pagein(*, check: bool) -> float:
        with PageCache(8 * size_bytes, dirty_background=0.15) as cache:
            store = TakenStore(b"")
            with cache.inode(store, size_bytes=0).open("wb") as file:
                spent_s = _write_in_order(file.write, pieces, size_bytes)
                if check:
                    file.fsync()
                    assert _is_in_order(store.fd, pieces, size_bytes)
                else:
                    file.discard()
            os.close(store.fd)
        return spent_s

    def by_system() -> float:
        with _in_memory(b"") as fd:
            spent_s = _write_in_order(partial(os.write, fd), pieces, size_bytes)
            assert _is_in_order(fd, pieces[:1], PIECE_BYTES) or os.fstat(fd).st_size == size_bytes
        return spent_s

    def by_file() -> float:
        with _in_memory(b"") as fd, open(f"/proc/self/fd/{fd}", "wb") as file:
            return _write_in_order(file.write, pieces, size_bytes)

    through_pagein(check=True)
    run = partial(through_pagein, check=False)
    work: dict[str, Callable[[], float]] = {
        PAGEIN: run,
        PAGEIN_ASIDE: partial(timing.aside, run),
        SYSTEM: by_system,
        'open("wb"), tmpfs': by_file,
    }
    count = size_bytes // PIECE_BYTES
    return timing.by_turns({name: Work(count, call) for name, call in work.items()}, rounds=rounds)


def _durable(place: Path, size_bytes: int, *, rounds: int) -> Rounds:
    """A new file each time, until its fsync has returned."""
    pieces = _pieces()

    def through_pagein(path: Path) -> None:
        with PageCache(4 * GIB) as cache, cache.open(path, "wb") as file:
            _write_in_order(file.write, pieces, size_bytes)
            file.fsync()

    def by_system(path: Path) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT)
        try:
            _write_in_order(partial(os.write, fd), pieces, size_bytes)
            os.fsync(fd)
        finally:
            os.close(fd)

    def by_file(how: Callable[[Path], Any], path: Path) -> None:
        with how(path) as file:
            _write_in_order(file.write, pieces, size_bytes)
            file.flush()
            os.fsync(file.fileno())

    local = fsspec.filesystem("file")
    runs: dict[str, Callable[[Path], None]] = {
        PAGEIN: through_pagein,
        SYSTEM_DISK: by_system,
        FILE_DISK: partial(by_file, partial(open, mode="wb")),
        FSSPEC: partial(by_file, lambda path: local.open(str(path), "wb")),
    }

    def run(name: str) -> float:
        path = place / "new"
        os.sync()  # what the one before has left to do is not this one's
        start = perf_counter()
        runs[name](path)
        spent_s = perf_counter() - start
        with path.open("rb") as file:
            assert _is_in_order(file.fileno(), pieces, size_bytes), name
        path.unlink()
        return spent_s

    count = size_bytes // PIECE_BYTES
    work = {name: Work(count, partial(run, name)) for name in runs}
    return timing.by_turns(work, rounds=rounds, warm_up=False)


# -- records ----------------------------------------------------------------------------------------------------------


def _appends(*, rounds: int) -> Rounds:
    """Onto tmpfs, from the open to the close, which hands over what is left."""
    records = writers.blocks(RECORD_BYTES)
    expected = b"".join(records[number % len(records)] for number in range(RECORDS))

    def by_file(how: Callable[[str], Any]) -> float:
        with _in_memory(b"") as fd:
            start = perf_counter()
            with how(f"/proc/self/fd/{fd}") as file:
                _write_records(file.write, records)
            spent_s = perf_counter() - start
            assert os.pread(fd, len(expected) + 1, 0) == expected
        return spent_s

    def through_pagein(mode: str, path: str) -> Any:
        return cache.open(path, mode)

    def by_system() -> float:
        with _in_memory(b"") as fd:
            start = perf_counter()
            other = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_APPEND)
            _write_records(partial(os.write, other), records)
            os.close(other)
            spent_s = perf_counter() - start
            assert os.pread(fd, len(expected) + 1, 0) == expected
        return spent_s

    with PageCache(GIB) as cache:
        work: dict[str, Callable[[], float]] = {
            PAGEIN_APPEND: partial(by_file, partial(through_pagein, "ab")),
            FILE_APPEND: partial(by_file, partial(open, mode="ab")),
            SYSTEM_APPEND: by_system,
            PAGEIN_WRITE: partial(by_file, partial(through_pagein, "wb")),
            'open("wb")': partial(by_file, partial(open, mode="wb")),
        }
        return timing.by_turns({name: Work(RECORDS, call) for name, call in work.items()}, rounds=rounds)


def _write_records(write: Callable[[bytes], object], records: list[bytes]) -> None:
    for number in range(RECORDS):
        write(records[number % writers.BLOCK_COUNT])


# -- a store that is slower than its writers --------------------------------------------------------------------------


def _slow() -> dict[str, float]:
    """Four times the cache, by four threads: what is dirty at most, and what a write takes."""
    taken = TakenStore(b"")
    store = SimulatedStore({}, Link(bandwidth_bytes_s=SLOW_BYTES_PER_S)).operations(taken)
    total_bytes = 4 * SLOW_CAP_BYTES
    share_bytes = total_bytes // SLOW_THREADS
    pieces = writers.blocks(SLOW_WRITE_BYTES)
    taken_s: list[float] = []
    peak_pages, peak_resident_bytes, samples, stopped = 0, 0, 0, threading.Event()
    with PageCache(SLOW_CAP_BYTES) as cache:
        with cache.inode(store, size_bytes=0).open("w+b") as file:
            mapping, zone = file._mapping, cache._zone
            request_pages = store.write_bytes_max // PAGE

            def watch() -> None:
                """What is dirty by its flags, not by what the cache counts."""
                nonlocal peak_pages, peak_resident_bytes, samples
                stop = mapping.base + total_bytes // PAGE
                while not stopped.is_set():
                    with zone.lock:
                        pages = mapping.arena.dirty[mapping.base : stop].count(1) + len(mapping.under_writeback)
                    peak_pages, samples = max(peak_pages, pages), samples + 1
                    if samples % 64 == 0:
                        peak_resident_bytes = max(peak_resident_bytes, cache.stats().resident_bytes)
                    sleep(0.0002)

            def write(number: int) -> None:
                for at in range(number * share_bytes, (number + 1) * share_bytes, SLOW_WRITE_BYTES):
                    start = perf_counter()
                    file.pwrite(pieces[at // SLOW_WRITE_BYTES % len(pieces)], at)
                    taken_s.append(perf_counter() - start)

            watcher = threading.Thread(target=watch)
            watcher.start()
            spent_s = timing.together([partial(write, number) for number in range(SLOW_THREADS)])
            stopped.set()
            watcher.join()
            file.fsync()
        limit_pages, request_bytes = zone.dirty.limits.limit_pages, request_pages * PAGE
    expected = b"".join(pieces[at // SLOW_WRITE_BYTES % len(pieces)] for at in range(0, total_bytes, SLOW_WRITE_BYTES))
    assert writers.same_bytes(taken.fd, expected)
    os.close(taken.fd)
    hundredths = quantiles(taken_s, n=100, method="inclusive")
    return {
        "limit_bytes": limit_pages * PAGE,
        "peak_bytes": peak_pages * PAGE,
        "request_bytes": request_bytes,
        "resident_bytes": peak_resident_bytes,
        "samples": samples,
        "bytes_per_s": total_bytes / spent_s,
        "median_s": hundredths[49],
        "p99_s": hundredths[98],
        "longest_s": max(taken_s),
    }


# -- what is said about it --------------------------------------------------------------------------------------------


def _table(title: str, unit: str, rounds: Rounds, ours: list[str]) -> Table:
    peers = [name for name in rounds if name not in ours]
    rows = []
    for name in [*ours, *peers]:
        spread = Spread.of(rounds[name])
        over = [] if name in ours else [times_spread(timing.ratio(rounds, one, name)) for one in ours]
        quartiles = f"{duration(spread.low)}–{duration(spread.high)}"
        title_of = f"**{name}**" if name in ours else name
        rows.append([title_of, duration(spread.median), quartiles, *(over or [""] * len(ours))])
    columns = ["", unit, "quartiles", *(f"time of {one} over it" for one in ours)]
    return Table(title, columns, rows)


def _headline(what: str, rounds: Rounds, ours: str, peer: str, *, limit: float | None = None) -> Headline:
    found = timing.ratio(rounds, ours, peer)
    target, met = at_most(found, limit) if limit else ("", None)
    medians = {name: Spread.of(rounds[name]).median for name in (ours, peer)}
    return Headline(
        what, duration(medians[ours]), f"{peer} {duration(medians[peer])}", times_spread(found), target, met
    )


def _rate_headline(what: str, rounds: Rounds, least: float | None = None) -> Headline:
    """Of a MiB; the ratio is of rates."""
    peer = SYSTEM if SYSTEM in rounds else SYSTEM_DISK
    found = timing.ratio(rounds, peer, PAGEIN)
    target, met = at_least(found, least) if least else ("", None)
    rates = {name: f"{1 / Spread.of(rounds[name]).median:,.0f} MiB/s" for name in (PAGEIN, peer)}
    return Headline(what, rates[PAGEIN], f"{peer} {rates[peer]}", times_spread(found), target, met)


def _slow_table(slow: dict[str, float]) -> Table:
    over = (slow["peak_bytes"] - slow["limit_bytes"]) / slow["request_bytes"]
    rows = [
        ["limit", size_name(slow["limit_bytes"])],
        ["dirty, or on its way to the store, at most", size_name(slow["peak_bytes"])],
        ["over the limit, in requests", f"{max(0.0, over):.2f}"],
        ["resident, at most", size_name(slow["resident_bytes"])],
        ["a write: median", duration(slow["median_s"])],
        ["a write: 99th percentile", duration(slow["p99_s"])],
        ["a write: longest", duration(slow["longest_s"])],
        ["written a second", f"{digits(slow['bytes_per_s'] / 1e6)} MB"],
    ]
    note = (
        f"{SLOW_THREADS} threads write {size_name(4 * SLOW_CAP_BYTES)} in {size_name(SLOW_WRITE_BYTES)} writes through "
        f"a cache of {size_name(SLOW_CAP_BYTES)}; a request has up to {size_name(slow['request_bytes'])}. "
        f"{slow['samples']:,.0f} samples of the flags themselves."
    )
    return Table(f"A store of {SLOW_BYTES_PER_S / 1e6:.0f} MB/s", ["", ""], rows, note)


def _slow_headline(slow: dict[str, float]) -> Headline:
    over_bytes = max(0, slow["peak_bytes"] - slow["limit_bytes"])
    return Headline(
        "most that is dirty, over its limit, in requests; a store of 100 MB/s, 4 writers",
        f"{over_bytes / slow['request_bytes']:.2f}",
        "-",
        f"longest write {duration(slow['longest_s'])}",
        "≤ 1",
        over_bytes <= slow["request_bytes"],
    )


def draw(report: Report, figure: Figure) -> None:
    figure.set_size_inches(11, 6)
    panels = figure.subplots(2, 2)
    for axes, (key, scale, unit, title) in zip(
        panels.flat,
        [
            ("overwrite_seconds", 1e6, "µs, less is better", "4 KiB overwrite in the cache"),
            ("sequential_seconds_a_mib", 1e6, "µs a MiB, less is better", "In order, into memory"),
            ("cold_seconds_a_write", 1e6, "µs a write, less is better", "4 KiB overwrites of a cold file, and fsync"),
            ("append_seconds_a_record", 1e6, "µs a record, less is better", "Append 100 bytes"),
        ],
        strict=True,
    ):
        seconds = report.data[key]
        names = sorted(seconds, key=lambda name: seconds[name][1])
        bars(axes, names, [seconds[name][1] * scale for name in names], unit=unit, title=title)
