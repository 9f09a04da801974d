"""``pagein read``: read sources by a pattern, and tell how the cache did.

Not here: the patterns (pattern.py), the threads (readers.py).
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import Any

import click

import pagein

from ..file import File
from ..stats import CacheStats
from ..units import format_size
from . import screen
from .options import reading_options
from .readers import Order, Readers


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@reading_options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def read(
    sources: tuple[str, ...],
    *,
    threads: int,
    pattern: str,
    block_bytes: int,
    size_bytes: int | None,
    cap_bytes: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Read SOURCEs, laid end to end, through one cache, and tell how it did."""
    order = Order(pattern, threads, block_bytes, size_bytes, seed)
    with ExitStack() as stack:
        cache = stack.enter_context(pagein.PageCache(cap_bytes))
        files = [[stack.enter_context(cache.open(source)) for source in sources] for _ in range(threads)]
        readers = Readers(files, order)
        progress = stack.enter_context(screen.progress(screen.err()))
        task = progress.add_task("reading", total=readers.size_bytes)
        began_s = time.monotonic()
        readers.read_all(lambda: progress.update(task, completed=readers.read_bytes))
        seconds = time.monotonic() - began_s
        progress.stop()
        if as_json:
            click.echo(json.dumps(_document(cache.stats(), sources, order, readers, seconds)))
        else:
            _show(cache.stats(), files[0], order, readers, seconds)


def _document(
    stats: CacheStats, sources: tuple[str, ...], order: Order, readers: Readers, seconds: float
) -> dict[str, Any]:
    return {
        "sources": sources,
        "pattern": order.pattern,
        "threads": order.thread_count,
        "block_bytes": order.block_bytes,
        "seed": order.seed,
        "seconds": seconds,
        "reads": readers.read_count,
        "read_bytes": readers.read_bytes,
        "bytes_per_second": readers.read_bytes / seconds if seconds else 0.0,
        "hits": stats.hits,
        "misses": stats.misses,
        "waits": stats.waits,
        "requests": stats.requests,
        "fetched_bytes": stats.fetched_bytes,
        "evictions": stats.evictions,
        "cache_bytes": stats.size_bytes,
        "resident_bytes": stats.resident_bytes,
    }


def _show(stats: CacheStats, files: list[File], order: Order, readers: Readers, seconds: float) -> None:
    out = screen.out()
    mib_s = readers.read_bytes / seconds / (1 << 20) if seconds else 0.0
    ratio = stats.fetched_bytes / readers.read_bytes if readers.read_bytes else 0.0
    threads = f"{order.thread_count} thread{'s' if order.thread_count > 1 else ''}"
    what = f"{format_size(readers.read_bytes)}, {order.pattern}, {format_size(order.block_bytes)} a read, {threads}"
    screen.say(out, f"{what}\n", style="bold")
    table = screen.table()
    for heading in ("seconds", "MiB/s", "reads", "hits", "misses", "store requests", "MiB fetched", "fetched / read"):
        table.add_column(heading, justify="right")
    table.add_row(
        f"{seconds:.2f}",
        f"{mib_s:,.0f}",
        f"{readers.read_count:,}",
        f"{stats.hits:,}",
        f"{stats.misses:,}",
        f"{stats.requests:,}",
        f"{stats.fetched_bytes / (1 << 20):,.1f}",
        f"{ratio:.3f}",
    )
    out.print(table)
    out.print()
    screen.say(out, f"in the cache: {format_size(stats.resident_bytes)} of at most {format_size(stats.size_bytes)}")
    for file in files:
        screen.say(out, screen.printable(file.name))
        screen.show_residency(out, file.resident(), file.size_bytes)
