"""Hits: bytes that are in the cache already, at random places of a 64 MiB file, the same places for everybody.

What is compared: copying without a position (`pread`), through a file object (`seek` + `read`), and without a copy
(`view`), at 4 KiB, 64 KiB and 1 MiB; and 4 KiB hits a second by 1, 2 and 4 threads.
The yardstick is the system's own page cache under `os.pread` and `open("rb")`.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import timing
from peers import CachetoolsBlocks, diskcache_with, fsspec_file
from report import Headline, Report, Table, at_most, bars, duration, size_name, times_spread
from timing import Rounds, Spread, Work
from workload import KIB, MIB, BytesInMemory, directory, offsets, open_over, random_bytes

from pagein import File, PageCache

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Hits: what is in the cache already"
FILE_BYTES = 64 * MIB
READS = {4 * KIB: 4096, 64 * KIB: 1024, MIB: 128}
"""How many copying reads of each size make a round: some milliseconds."""
VIEWS = 4096
THREAD_COUNTS = (1, 2, 4)
THREAD_READS = 20_000
"""By each thread in a round: some switches of the interpreter's lock (5 ms each)."""
VIEW_TARGET_S = 1e-6
PREAD, SEEK_READ, VIEW = "pagein pread", "pagein, seek + read", "pagein view"
AS_FILE = ", seek + read"
SYSTEM, MAPPED_VIEW = "os.pread", "slice of memoryview(mmap)"


class Files(NamedTuple):
    """The same bytes, everywhere."""

    data: bytes
    fd: int
    buffered: BinaryIO
    mapped: mmap.mmap
    file: File
    blocks: CachetoolsBlocks


@contextmanager
def _files() -> Iterator[Files]:
    data = random_bytes(FILE_BYTES)
    with directory() as place, PageCache(2 * FILE_BYTES) as cache:
        path = place / "data"
        path.write_bytes(data)
        with (
            open(path, "rb") as buffered,
            mmap.mmap(buffered.fileno(), 0, prot=mmap.PROT_READ) as mapped,
            open_over(cache, BytesInMemory(data), FILE_BYTES) as file,
        ):
            blocks = CachetoolsBlocks(data, 2 * FILE_BYTES)
            for read in (file.pread, blocks.pread, lambda size, at: mapped[at : at + size]):
                assert read(FILE_BYTES, 0) == data
            yield Files(data, buffered.fileno(), buffered, mapped, file, blocks)


def measure(*, quick: bool) -> Report:
    patience = 1 if quick else 4
    with _files() as files:
        copies = {size: _copies(files, size, rounds=(12 if size < MIB else 6) * patience) for size in READS}
        views = {size: _views(files, size, rounds=24 * patience) for size in READS}
        unaligned = _unaligned(files, rounds=12 * patience)
        threads = {count: _in_threads(files, count, rounds=3 * patience) for count in THREAD_COUNTS}
    report = Report()
    report.tables += [_copies_table(size, rounds) for size, rounds in copies.items()]
    report.tables += [_views_table(views), _unaligned_table(unaligned), _threads_table(threads)]
    report.headlines += [*_headlines(copies), _view_headline(views, copies), *_thread_headlines(threads)]
    report.data = {
        "copy_seconds": {str(size): timing.summary(rounds) for size, rounds in copies.items()},
        "view_seconds": {str(size): timing.summary(rounds) for size, rounds in views.items()},
        "unaligned_seconds": timing.summary(unaligned),
        "thread_seconds_a_hit": {str(count): timing.summary(rounds) for count, rounds in threads.items()},
    }
    return report


# -- what is timed --------------------------------------------------------------------------------------------------


def _copies(files: Files, size: int, *, rounds: int) -> Rounds:
    places = offsets(READS[size], size_bytes=size, within_bytes=FILE_BYTES)
    fsspec_files = {kind: fsspec_file(files.data, kind) for kind in ("readahead", "bytes")}
    with directory() as place, closing(diskcache_with(files.data, size, places, place)) as disk:
        loops = {
            PREAD: partial(_pread, files.file.pread, size, places),
            SYSTEM: partial(_os_pread, files.fd, size, places),
            "mmap slice": partial(_slice, files.mapped, size, places),
            "fsspec readahead, bare": partial(_fetch, fsspec_files["readahead"].cache, size, places),
            "cachetools + lock": partial(_pread, files.blocks.pread, size, places),
            "diskcache": partial(_get, disk, places),
            SEEK_READ: partial(_seek_read, files.file, size, places),
            f'open("rb"){AS_FILE}': partial(_seek_read, files.buffered, size, places),
            **{
                f"fsspec {kind}{AS_FILE}": partial(_seek_read, file, size, places)
                for kind, file in fsspec_files.items()
            },
        }
        work = {name: Work(len(places), loop) for name, loop in loops.items()}
        return timing.by_turns(work, rounds=rounds)


def _views(files: Files, size: int, *, rounds: int) -> Rounds:
    places = offsets(VIEWS, size_bytes=size, within_bytes=FILE_BYTES)
    with memoryview(files.mapped) as mapped:
        loops = {
            VIEW: partial(_view, files.file, size, places),
            MAPPED_VIEW: partial(_view_of_memory, mapped, size, places),
        }
        return timing.by_turns({name: Work(VIEWS, loop) for name, loop in loops.items()}, rounds=rounds)


def _four_kib_preads(files: Files, places: list[int]) -> dict[str, Callable[[], None]]:
    return {
        PREAD: partial(_pread, files.file.pread, 4 * KIB, places),
        SYSTEM: partial(_os_pread, files.fd, 4 * KIB, places),
        "cachetools + lock": partial(_pread, files.blocks.pread, 4 * KIB, places),
    }


def _unaligned(files: Files, *, rounds: int) -> Rounds:
    places = offsets(READS[4 * KIB], size_bytes=4 * KIB, within_bytes=FILE_BYTES, step_bytes=1)
    work = {name: Work(len(places), loop) for name, loop in _four_kib_preads(files, places).items()}
    return timing.by_turns(work, rounds=rounds)


def _in_threads(files: Files, thread_count: int, *, rounds: int) -> Rounds:
    places = offsets(THREAD_READS, size_bytes=4 * KIB, within_bytes=FILE_BYTES)
    work = {
        name: Work(THREAD_READS * thread_count, partial(timing.together, [loop] * thread_count))
        for name, loop in _four_kib_preads(files, places).items()
    }
    return timing.by_turns(work, rounds=rounds)


# The loops: as a user would write them.


def _pread(pread: Callable[[int, int], bytes], size: int, places: list[int]) -> None:
    for offset in places:
        pread(size, offset)


def _os_pread(fd: int, size: int, places: list[int]) -> None:
    pread = os.pread
    for offset in places:
        pread(fd, size, offset)


def _slice(mapped: mmap.mmap, size: int, places: list[int]) -> None:
    for offset in places:
        mapped[offset : offset + size]


def _get(disk: Any, places: list[int]) -> None:
    get = disk.get
    for offset in places:
        get(offset)


def _seek_read(file: Any, size: int, places: list[int]) -> None:
    seek, read = file.seek, file.read
    for offset in places:
        seek(offset)
        read(size)


def _fetch(cache: Any, size: int, places: list[int]) -> None:
    fetch = cache._fetch
    for offset in places:
        fetch(offset, offset + size)


def _view(file: File, size: int, places: list[int]) -> None:
    view = file.view
    for offset in places:
        with view(size, offset):
            pass


def _view_of_memory(memory: memoryview, size: int, places: list[int]) -> None:
    for offset in places:
        with memory[offset : offset + size]:
            pass


# -- what is said about it ------------------------------------------------------------------------------------------


def _beside(rounds: Rounds, ours: str, peers: list[str]) -> list[list[str]]:
    rows = [[f"**{ours}**", duration(Spread.of(rounds[ours]).median), ""]]
    for peer in peers:
        rows.append([peer, duration(Spread.of(rounds[peer]).median), times_spread(timing.ratio(rounds, ours, peer))])
    return rows


def _copies_table(size: int, rounds: Rounds) -> Table:
    names = list(rounds)
    split = names.index(SEEK_READ)
    rows = _beside(rounds, PREAD, names[1:split]) + _beside(rounds, SEEK_READ, names[split + 1 :])
    note = (
        "`mmap slice` and `fsspec readahead, bare` are one file's bytes in memory, not a bounded cache, and the latter "
        "must not be shared by threads. cachetools hands out its own 4 KiB objects without a copy, and joins them for "
        "longer reads; diskcache has one entry exactly as long as the read."
    )
    columns = ["", "time", "pagein's time over it"]
    return Table(f"{size_name(size)}, aligned, random", columns, rows, note if size == 4 * KIB else "")


def _views_table(views: dict[int, Rounds]) -> Table:
    rows = [[size_name(size), *(duration(Spread.of(rounds[name]).median) for name in rounds)] for size, rounds in
            views.items()]  # fmt: skip
    note = (
        "Opened and closed (`with`). A slice of a mapping costs less because nothing keeps its pages in place: "
        "a file that is cut short under it kills the process."
    )
    return Table("Views, without a copy", ["size", VIEW, MAPPED_VIEW], rows, note)


def _unaligned_table(rounds: Rounds) -> Table:
    rows = _beside(rounds, PREAD, [SYSTEM, "cachetools + lock"])
    return Table("4 KiB from any byte on: parts of two pages", ["", "time", "pagein's time over it"], rows)


def _rate(rounds: Rounds, name: str) -> str:
    return f"{1e-6 / Spread.of(rounds[name]).median:.2f} M/s"


def _threads_table(threads: dict[int, Rounds]) -> Table:
    peers = [name for name in threads[1] if name != PREAD]
    rows = [
        [str(count), _rate(rounds, PREAD)]
        + [f"{_rate(rounds, peer)}, {times_spread(timing.ratio(rounds, peer, PREAD))}" for peer in peers]
        for count, rounds in threads.items()
    ]
    columns = ["threads", PREAD, *(f"{peer}, and pagein's rate over it" for peer in peers)]
    note = "Only `os.pread` lets go of the interpreter's lock, so only it can use a second core (of an ordinary build)."
    return Table("4 KiB hits a second, all threads together", columns, rows, note)


def _headlines(copies: dict[int, Rounds]) -> list[Headline]:
    file_objects = [f"fsspec {kind}{AS_FILE}" for kind in ("readahead", "bytes")]
    return [
        _headline("4 KiB hit, `pread`", copies[4 * KIB], PREAD, [SYSTEM], limit=1.0),
        _headline("64 KiB hit, `pread`", copies[64 * KIB], PREAD, [SYSTEM]),
        _headline("1 MiB hit, `pread`", copies[MIB], PREAD, [SYSTEM], limit=1.0),
        _headline("4 KiB hit, `seek` + `read`", copies[4 * KIB], SEEK_READ, file_objects, limit=0.7),
        _headline("4 KiB hit, cache shared by threads", copies[4 * KIB], PREAD, ["cachetools + lock", "diskcache"]),
    ]


def _headline(what: str, rounds: Rounds, ours: str, peers: list[str], *, limit: float | None = None) -> Headline:
    peer = timing.fastest(rounds, peers)
    found = timing.ratio(rounds, ours, peer)
    target, met = at_most(found, limit) if limit else ("", None)
    medians = {name: Spread.of(rounds[name]).median for name in (ours, peer)}
    beside = f"{peer.removesuffix(AS_FILE)} {duration(medians[peer])}"
    return Headline(what, duration(medians[ours]), beside, times_spread(found), target, met)


def _view_headline(views: dict[int, Rounds], copies: dict[int, Rounds]) -> Headline:
    slowest_s = max(Spread.of(rounds[VIEW]).median for rounds in views.values())
    copy_s = Spread.of(copies[MIB][SYSTEM]).median
    share = f"{Spread.of(views[MIB][VIEW]).median / copy_s:.3f}x"
    what = "1 MiB hit without a copy, `view` (time: of the slowest size)"
    beside = f"{SYSTEM} {duration(copy_s)}"
    return Headline(what, duration(slowest_s), beside, share, "< 1 µs at any size", slowest_s < VIEW_TARGET_S)


def _thread_headlines(threads: dict[int, Rounds]) -> list[Headline]:
    count = THREAD_COUNTS[-1]
    rounds, what = threads[count], f"4 KiB hits a second, {count} threads (more is better)"
    return [
        Headline(what, _rate(rounds, PREAD), f"{peer} {_rate(rounds, peer)}", times_spread(found))
        for peer in ("cachetools + lock", SYSTEM)
        for found in [timing.ratio(rounds, peer, PREAD)]
    ]


def draw(report: Report, figure: Figure) -> None:
    figure.set_size_inches(11, 8)
    panels = figure.subplots(2, 2)
    for size, axes in zip(READS, panels.flat, strict=False):
        medians = {name: spread[1] for name, spread in report.data["copy_seconds"][str(size)].items()}
        medians[VIEW] = report.data["view_seconds"][str(size)][VIEW][1]
        names = sorted(medians, key=medians.__getitem__)
        values = [medians[name] * 1e6 for name in names]
        bars(axes, names, values, unit="µs, less is better", title=f"{size_name(size)} hit")
    seconds = report.data["thread_seconds_a_hit"]
    labels = [f"{name}, {count}" for name in seconds["1"] for count in seconds]
    values = [1e-6 / seconds[count][name][1] for name in seconds["1"] for count in seconds]
    title = "4 KiB hits by 1, 2 and 4 threads"
    bars(panels.flat[3], labels, values, unit="million a second, more is better", title=title)
