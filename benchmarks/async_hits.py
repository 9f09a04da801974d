"""Hits by a thousand tasks of one event loop: each awaits one random 4 KiB read after another, or only one.

A hit of pagein never suspends, so each of its tasks runs its 200 reads to the end before the next task begins: that is
what an await of a hit costs, and nothing of it is concurrent.  The reads of the others do suspend.  By one
`asyncio.gather` of a thousand reads each is a task of its own, and most of what a hit takes then is what asyncio takes
for a task: the same of coroutines that do nothing is the most that there could be.
The bytes are in memory for everybody: in pagein's cache, in the system's (aiofiles and obstore's local store read a
file), in obstore's memory store.  aiofiles has no pread: as it is written (a handle a task, seek and read), and at its
best (its own wrapper around `os.pread`, one trip to a thread instead of two).  Files are opened beforehand; the tasks
are made while the clock runs.
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
PAGEIN, AIOFILES, AIOFILES_PREAD = "pagein.aio pread", "aiofiles, seek + read", "aiofiles.os.wrap(os.pread)"
BY_GATHER = ", by one gather"
NOTHING = "nothing"

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
    nothing: list[Read] = [_nothing] * TASKS
    for name, reads in [*readers.items(), (NOTHING, nothing)]:
        work[name + BY_GATHER] = Work(len(places), partial(_run, runner, _gathered, reads, places))
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


async def _gathered(reads: list[Read], places: list[int]) -> None:
    await asyncio.gather(*(read(READ_BYTES, offset) for read, offset in zip(reads, places, strict=True)))


# -- what is said about it -------------------------------------------------------------------------------------------


def _rate(rounds: Rounds, name: str) -> float:
    return 1 / Spread.of(rounds[name]).median


def _report(rounds: Rounds) -> Report:
    in_a_row = {name: seconds for name, seconds in rounds.items() if not name.endswith(BY_GATHER)}
    by_gather = {name: seconds for name, seconds in rounds.items() if name.endswith(BY_GATHER)}
    what = f"{READ_BYTES // KIB} KiB reads of what is in memory"
    report = Report(
        tables=[
            _table(f"{TASKS:,} tasks, each awaiting {what}, one after another", in_a_row, PAGEIN),
            _table(f"One gather of {TASKS:,} {what}", by_gather, PAGEIN + BY_GATHER),
        ]
    )
    report.headlines = [_headline_in_a_row(in_a_row), _headline_by_gather(by_gather)]
    report.data = {"seconds_a_read": timing.summary(rounds)}
    return report


def _table(title: str, rounds: Rounds, ours: str) -> Table:
    rows = [
        [
            name,
            f"{_rate(rounds, name):,.0f}",
            duration(Spread.of(rounds[name]).median),
            "" if name == ours else times_spread(timing.ratio(rounds, name, ours)),
        ]
        for name in rounds
    ]
    return Table(title, ["", "a second", "a read", "pagein's rate over it"], rows)


def _headline_in_a_row(rounds: Rounds) -> Headline:
    peer = timing.fastest(rounds, [name for name in rounds if name != PAGEIN])
    return Headline(
        f"{READ_BYTES // KIB} KiB hits a second, {TASKS:,} tasks in turn, {PAGEIN_READS} each (more is better)",
        f"{_rate(rounds, PAGEIN):,.0f}",
        f"{peer} {_rate(rounds, peer):,.0f}",
        times_spread(timing.ratio(rounds, peer, PAGEIN)),
    )


def _headline_by_gather(rounds: Rounds) -> Headline:
    """The target is for reads that are asked for at once; it is held against what does nothing, too."""
    ours, nothing = PAGEIN + BY_GATHER, NOTHING + BY_GATHER
    peer = timing.fastest(rounds, [name for name in rounds if name not in (ours, nothing)])
    return Headline(
        f"{READ_BYTES // KIB} KiB hits a second, one gather of {TASKS:,} (more is better)",
        f"{_rate(rounds, ours):,.0f}",
        f"{nothing.removesuffix(BY_GATHER)} {_rate(rounds, nothing):,.0f}; "
        f"{peer.removesuffix(BY_GATHER)} {_rate(rounds, peer):,.0f}",
        times_spread(timing.ratio(rounds, nothing, ours)),
        f"≥ {TARGET_HITS_S:,}",
        _rate(rounds, ours) >= TARGET_HITS_S,
    )


def draw(report: Report, figure: Figure) -> None:
    figure.set_size_inches(11, 3.5)
    rates = {name: 1e-3 / spread[1] for name, spread in report.data["seconds_a_read"].items()}
    title = f"4 KiB hits by {TASKS:,} tasks"
    unit = "thousand a second, more is better"
    bars(figure.subplots(), list(rates), list(rates.values()), unit=unit, title=title)
