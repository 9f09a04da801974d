"""Hits by a thousand tasks of one event loop at once, each awaiting one random 4 KiB read after another.

The bytes are in memory for everybody: in pagein's cache, in the system's (aiofiles and obstore's local store read a
file), in obstore's memory store.  aiofiles has no pread: as it is written (a handle a task, seek and read), and at its
best (its own wrapper around `os.pread`, one trip to a thread instead of two).  Files are opened beforehand; the tasks
are made while the clock runs.  Last, a thousand hits by one `asyncio.gather`, which makes a task of each, and the same
of coroutines that do nothing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiofiles
import aiofiles.os
import obstore
import timing
from obstore.store import LocalStore, MemoryStore
from report import Headline, Report, Table, bars, duration, times_spread
from timing import Rounds, Spread, Work
from workload import KIB, MIB, directory, offsets, random_bytes

import pagein.aio

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Hits by a thousand tasks"
FILE_BYTES, READ_BYTES = 64 * MIB, 4 * KIB
TASKS = 1000
PAGEIN_READS, PEER_READS = 200, 5
"""Of each task in a round: some tenths of a second for everybody."""
TARGET_HITS_S = 300_000
PAGEIN, GATHER, GATHER_NOTHING = "pagein.aio pread", "pagein.aio pread, by one gather", "nothing, by one gather"
AIOFILES, AIOFILES_PREAD = "aiofiles, seek + read", "aiofiles.os.wrap(os.pread)"

Read = Callable[[int, int], Awaitable[Any]]
"""*size* bytes from byte *offset* on."""


def measure(*, quick: bool) -> Report:
    data = random_bytes(FILE_BYTES)
    with directory() as place, asyncio.Runner() as runner, pagein.PageCache(2 * FILE_BYTES) as cache:
        path = place / "data"
        path.write_bytes(data)
        with _readers(runner, cache, path, data) as readers:
            for name, reads in readers.items():
                _check(runner, name, reads, data)
            rounds = timing.by_turns(_work(runner, readers), rounds=2 if quick else 7)
    return _report(rounds)


# -- who reads -------------------------------------------------------------------------------------------------------


@contextmanager
def _readers(
    runner: asyncio.Runner, cache: pagein.PageCache, path: Path, data: bytes
) -> Iterator[dict[str, list[Read]]]:
    """A read for each task."""
    memory = MemoryStore()
    obstore.put(memory, "data", data)
    local = LocalStore(path.parent)
    fd = os.open(path, os.O_RDONLY)
    stack = AsyncExitStack()
    try:
        file = runner.run(_opened(stack, cache, path))
        assert runner.run(file.pread(FILE_BYTES, 0)) == data
        yield {
            PAGEIN: [file.pread] * TASKS,
            AIOFILES: runner.run(_aiofiles(stack, path)),
            AIOFILES_PREAD: [partial(aiofiles.os.wrap(os.pread), fd)] * TASKS,
            "obstore, memory store": [partial(_range, memory)] * TASKS,
            "obstore, local store": [partial(_range, local)] * TASKS,
        }
    finally:
        runner.run(stack.aclose())
        os.close(fd)


async def _opened(stack: AsyncExitStack, cache: pagein.PageCache, path: Path) -> pagein.aio.AsyncFile:
    return await stack.enter_async_context(await pagein.aio.open(path, cache=cache))


async def _aiofiles(stack: AsyncExitStack, path: Path) -> list[Read]:
    """A handle each, unbuffered: a buffer would read 8 KiB for 4."""
    handles = [await stack.enter_async_context(aiofiles.open(path, "rb", buffering=0)) for _ in range(TASKS)]
    return [partial(_seek_read, handle) for handle in handles]


async def _seek_read(handle: Any, size: int, offset: int) -> bytes:
    await handle.seek(offset)
    data: bytes = await handle.read(size)
    return data


def _range(store: MemoryStore | LocalStore, size: int, offset: int) -> Awaitable[Any]:
    return obstore.get_range_async(store, "data", start=offset, length=size)


def _check(runner: asyncio.Runner, name: str, reads: list[Read], data: bytes) -> None:
    async def compare() -> None:
        for read, offset in zip(reads, _places(1), strict=True):
            if bytes(await read(READ_BYTES, offset)) != data[offset : offset + READ_BYTES]:
                raise AssertionError(f"{name}: wrong bytes at {offset}")

    runner.run(compare())


# -- what is timed ---------------------------------------------------------------------------------------------------


def _places(reads: int) -> list[int]:
    """Of *TASKS* tasks, one after the other."""
    return offsets(TASKS * reads, size_bytes=READ_BYTES, within_bytes=FILE_BYTES)


def _work(runner: asyncio.Runner, readers: dict[str, list[Read]]) -> dict[str, Work]:
    work = {}
    for name, reads in readers.items():
        count = PAGEIN_READS if name == PAGEIN else PEER_READS
        places = _places(count)
        shares = [places[at : at + count] for at in range(0, len(places), count)]
        work[name] = Work(len(places), partial(_run, runner, _in_tasks, reads, shares))
    places = _places(1)
    for name, read in ((GATHER, readers[PAGEIN][0]), (GATHER_NOTHING, _nothing)):
        work[name] = Work(len(places), partial(_run, runner, _gathered, read, places))
    return work


def _run(runner: asyncio.Runner, what: Callable[..., Coroutine[Any, Any, None]], *arguments: object) -> None:
    runner.run(what(*arguments))


async def _in_tasks(reads: list[Read], shares: list[list[int]]) -> None:
    async with asyncio.TaskGroup() as group:
        for read, places in zip(reads, shares, strict=True):
            group.create_task(_loop(read, places))


async def _loop(read: Read, places: list[int]) -> None:
    for offset in places:
        await read(READ_BYTES, offset)


async def _nothing(size: int, offset: int) -> None:
    pass


async def _gathered(read: Read, places: list[int]) -> None:
    await asyncio.gather(*(read(READ_BYTES, offset) for offset in places))


# -- what is said about it -------------------------------------------------------------------------------------------


def _rate(rounds: Rounds, name: str) -> float:
    return 1 / Spread.of(rounds[name]).median


def _report(rounds: Rounds) -> Report:
    rows = [
        [
            name,
            f"{_rate(rounds, name):,.0f}",
            duration(Spread.of(rounds[name]).median),
            "" if name == PAGEIN else times_spread(timing.ratio(rounds, name, PAGEIN)),
        ]
        for name in rounds
    ]
    title = f"{TASKS:,} tasks, each awaiting {READ_BYTES // KIB} KiB reads of what is in memory"
    report = Report(tables=[Table(title, ["", "a second", "a read", "pagein's rate over it"], rows)])
    report.headlines = [_headline(rounds)]
    report.data = {"seconds_a_read": timing.summary(rounds)}
    return report


def _headline(rounds: Rounds) -> Headline:
    peer = timing.fastest(rounds, [name for name in rounds if name not in (PAGEIN, GATHER, GATHER_NOTHING)])
    return Headline(
        f"{READ_BYTES // KIB} KiB hits a second, {TASKS:,} tasks of one event loop (more is better)",
        f"{_rate(rounds, PAGEIN):,.0f} (by one gather {_rate(rounds, GATHER):,.0f})",
        f"{peer} {_rate(rounds, peer):,.0f}",
        times_spread(timing.ratio(rounds, peer, PAGEIN)),
        f"≥ {TARGET_HITS_S:,}",
        _rate(rounds, PAGEIN) >= TARGET_HITS_S,
    )


def draw(report: Report, figure: Figure) -> None:
    figure.set_size_inches(11, 2.5)
    rates = {name: 1e-3 / spread[1] for name, spread in report.data["seconds_a_read"].items()}
    title = f"4 KiB hits by {TASKS:,} tasks"
    unit = "thousand a second, more is better"
    bars(figure.subplots(), list(rates), list(rates.values()), unit=unit, title=title)
