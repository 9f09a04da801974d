"""``pagein warm``: bring sources into a cache, as fast as their stores can, and tell how fast that was.

Not here: how many requests that takes, and how large they are (mm/readahead.py, mm/pipe.py).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import click

import pagein

from ..file import File
from ..stats import CacheStats
from ..units import format_size
from . import screen
from .options import size

REFRESH_S = 0.1
STEP_BYTES_MAX = 64 << 20
"""So much is asked for at a time, or a quarter of the cache."""


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--cache", "cap_bytes", type=size, help="Bytes of the cache.  [default: as `pagein config` shows]")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def warm(sources: tuple[str, ...], *, cap_bytes: int | None, as_json: bool) -> int:
    """Bring SOURCEs into a cache: all of them, or as much as fits.

    Every process has a cache of its own, so this shows how fast a store can be read; in a program of yours it is
    `file.populate()`, or `file.advise("willneed")`, that warms its cache.  After Ctrl-C, what has come is told.
    """
    with ExitStack() as stack:
        cache = stack.enter_context(pagein.PageCache(cap_bytes))
        files = [stack.enter_context(cache.open(source)) for source in sources]
        wanted_bytes = min(sum(file.size_bytes for file in files), cache.size_bytes)
        progress = stack.enter_context(screen.transfer(screen.err()))
        task = progress.add_task("warming", total=wanted_bytes)
        warming = _Warming(files, wanted_bytes, step_bytes=min(STEP_BYTES_MAX, max(1, cache.size_bytes // 4)))
        began_s = time.monotonic()
        try:
            for come_bytes in warming.come():
                progress.update(task, completed=come_bytes)
        finally:  # also after Ctrl-C
            seconds = time.monotonic() - began_s
            progress.stop()
            if as_json:
                click.echo(json.dumps(_document(cache.stats(), files, seconds)))
            else:
                _show(cache.stats(), files, seconds)
    return 0


class _Warming:
    """One file after the other, in a thread, so that how far it is can be told meanwhile."""

    def __init__(self, files: list[File], wanted_bytes: int, *, step_bytes: int) -> None:
        self._files = files
        self._step_bytes = step_bytes
        self._wanted_bytes = wanted_bytes
        self._stopping = threading.Event()
        self._error: BaseException | None = None
        # A daemon: a store that does not answer must not keep the command from ending.
        self._thread = threading.Thread(target=self._guarded, name="warm", daemon=True)

    def come(self) -> Iterator[int]:
        """How many bytes have come, now and then, until all have, or will not."""
        self._thread.start()
        try:
            while self._thread.is_alive():
                self._thread.join(REFRESH_S)
                yield sum(file.resident_bytes() for file in self._files)
        finally:
            self._stopping.set()
        if self._error is not None:
            raise self._error

    def _guarded(self) -> None:
        try:
            left_bytes = self._wanted_bytes
            for file in self._files:
                for offset in range(0, min(file.size_bytes, left_bytes), self._step_bytes):
                    if self._stopping.is_set():
                        return
                    size_bytes = min(self._step_bytes, left_bytes - offset, file.size_bytes - offset)
                    if file.populate(offset, size_bytes) < size_bytes:
                        file.advise("random")  # nothing beyond it
                        file.pread(size_bytes, offset)  # which raises why it did not come, or brings it after all
                left_bytes -= min(file.size_bytes, left_bytes)
        except BaseException as error:  # raised again by come()
            self._error = error


def _document(stats: CacheStats, files: list[File], seconds: float) -> dict[str, Any]:
    return {
        "sources": [
            {"source": file.name, "size_bytes": file.size_bytes, "resident_bytes": file.resident_bytes()}
            for file in files
        ],
        "seconds": seconds,
        "requests": stats.requests,
        "fetched_bytes": stats.fetched_bytes,
        "bytes_per_second": stats.fetched_bytes / seconds if seconds else 0.0,
        "cache_bytes": stats.size_bytes,
    }


def _show(stats: CacheStats, files: list[File], seconds: float) -> None:
    out = screen.out()
    table = screen.table()
    for heading in ("seconds", "MiB/s", "requests", "MiB"):
        table.add_column(heading, justify="right")
    mib = stats.fetched_bytes / (1 << 20)
    rate = f"{mib / seconds:,.0f}" if seconds else "-"
    table.add_row(f"{seconds:.2f}", rate, f"{stats.requests:,}", f"{mib:,.1f}")
    out.print(table)
    for file in files:
        here = format_size(file.resident_bytes())
        screen.say(out, f"\n{screen.printable(file.name)}: {here} of {format_size(file.size_bytes)} in the cache")
        screen.show_residency(out, file)
