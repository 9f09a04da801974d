"""``pagein warm``: bring sources into a cache, as fast as their stores can, and tell how fast that was.

Not here: which sources are under way at one time (warming.py); how many requests that takes, and how large they are
(mm/readahead.py, mm/pipe.py).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import click

import pagein

from ..residency import Residency, of_cache
from ..stats import CacheStats
from ..units import format_size
from . import screen
from .complaints import EXIT_ERROR, complain
from .options import cache_option
from .warming import ToWarm, Warming


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@cache_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def warm(sources: tuple[str, ...], *, cap_bytes: int | None, as_json: bool) -> int:
    """Bring SOURCEs into a cache: all of them, or as much as fits.

    Every process has a cache of its own, so this shows how fast a store can be read; in a program of yours it is
    `file.populate()`, or `file.advise("willneed")`, that warms its cache.

    A source that is named twice is brought once.  One that cannot be read is named on stderr and passed over; the exit
    status is 1 then.  Once the cache is full, the others are not looked at, not even whether they are there: how many
    they are is told, and the exit status is that of those before.  After Ctrl-C, what has come is told.
    """
    with ExitStack() as stack:
        cache = stack.enter_context(pagein.PageCache(cap_bytes))
        warming = Warming(cache, sources)
        progress = stack.enter_context(screen.transfer(screen.err()))
        task = progress.add_task("warming", total=None)
        began_s = time.monotonic()
        is_interrupted = False
        try:
            for come_bytes in warming.come():
                _complain(warming)
                expected_bytes = warming.expected_bytes(come_bytes)
                progress.update(task, description=_description(warming), completed=come_bytes, total=expected_bytes)
        except KeyboardInterrupt:
            is_interrupted = True
            raise
        finally:
            seconds = time.monotonic() - began_s
            progress.stop()
            _complain(warming)
            here = {(one.name, one.version): one for one in of_cache(cache)}
            if as_json:
                document = _document(cache.stats(), warming.sources, here, seconds)
                click.echo(json.dumps({**document, "interrupted": is_interrupted}))
            else:
                _show(cache.stats(), warming.sources, here, seconds, is_interrupted=is_interrupted)
    return EXIT_ERROR if any(one.error is not None for one in warming.sources) else 0


def _complain(warming: Warming) -> None:
    while warming.failures:
        complain(warming.failures.popleft())


def _description(warming: Warming) -> str:
    """The bytes of all are an estimate until each has been opened: how many that are is said, too."""
    count = len(warming.sources)
    return f"warming {warming.ended_count:,} of {count:,}" if count > 1 else "warming"


def _resident_bytes(one: ToWarm, here: Mapping[tuple[str, str], Residency]) -> int:
    found = here.get((one.name, one.version))
    return found.resident_bytes if found else 0


def _document(
    stats: CacheStats, sources: Sequence[ToWarm], here: Mapping[tuple[str, str], Residency], seconds: float
) -> dict[str, Any]:
    return {
        "sources": [
            {
                "source": one.name,
                "size_bytes": one.size_bytes,  # null: it could not be opened, or there was no room for it
                "resident_bytes": _resident_bytes(one, here),
                **({} if one.error is None else {"error": str(one.error)}),
            }
            for one in sources
        ],
        "seconds": seconds,
        "requests": stats.requests,
        "fetched_bytes": stats.fetched_bytes,
        "bytes_per_second": stats.fetched_bytes / seconds if seconds else 0.0,
        "cache_bytes": stats.size_bytes,
    }


def _show(
    stats: CacheStats,
    sources: Sequence[ToWarm],
    here: Mapping[tuple[str, str], Residency],
    seconds: float,
    *,
    is_interrupted: bool,
) -> None:
    opened = [one for one in sources if one.size_bytes is not None]
    out = screen.out()
    if opened:
        table = screen.table()
        for heading in ("seconds", "MiB/s", "requests", "MiB"):
            table.add_column(heading, justify="right")
        mib = stats.fetched_bytes / (1 << 20)
        rate = f"{mib / seconds:,.0f}" if seconds else "-"
        table.add_row(f"{seconds:.2f}", rate, f"{stats.requests:,}", f"{mib:,.1f}")
        out.print(table)
    for one in opened:
        resident, size_bytes = format_size(_resident_bytes(one, here)), format_size(one.size_bytes or 0)
        screen.say(out, f"\n{screen.printable(one.name)}: {resident} of {size_bytes} in the cache")
        found = here.get((one.name, one.version))
        screen.show_residency(out, found.runs if found else (), one.size_bytes or 0)
    left_count = sum(one.size_bytes is None and one.error is None for one in sources)
    if is_interrupted:
        left = f"; {left_count:,} of {len(sources):,} were not opened" if left_count else ""
        screen.say(out, f"\ninterrupted: what has come is in the cache{left}")
    elif left_count:
        screen.say(out, f"\nthe cache is full: {left_count:,} of {len(sources):,} were not opened")
