"""``pagein plot``: a picture of which pages are in memory, and of how fast stores answered.

Not here: how it is drawn (picture.py), the reading (readers.py), other processes (processes.py).
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

import click

import pagein

from ..publishing import Request, told
from ..units import format_size
from . import screen
from .complaints import complain
from .options import reading_options
from .processes import ask_all
from .readers import Order, Readers
from .top import HINT

SUFFIXES = (".png", ".svg", ".pdf")
REQUEST = Request(files_max=20, cells_max=400)


@click.command()
@click.argument("sources", nargs=-1, metavar="[SOURCE]...")
@click.option("--pid", type=int, help="Of this process, instead of reading SOURCEs.")
@click.option("-o", "--output", default="pagein.png", show_default=True, help="A name that ends in .png, .svg or .pdf.")
@reading_options
def plot(
    sources: tuple[str, ...],
    *,
    pid: int | None,
    output: str,
    threads: int,
    pattern: str,
    block_bytes: int,
    size_bytes: int | None,
    cap_bytes: int | None,
    seed: int,
) -> int:
    """Draw which pages of each file are in memory, and how long the requests to each store took.

    Either SOURCEs are read by a pattern, as `pagein read` does, or a process is looked at, as `pagein top` does.
    """
    if bool(sources) == (pid is not None):
        raise click.UsageError("either SOURCEs to read, or --pid")
    if os.path.splitext(output)[1].lower() not in SUFFIXES:
        raise click.UsageError(f"{output}: a picture's name ends in {', '.join(SUFFIXES)}")
    try:
        from .picture import draw
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        return complain(
            "plot needs the extra [plot]: pip install 'pagein[plot]'; 'pagein read' and 'pagein top' show pages as text"
        )
    if pid is None:
        order = Order(pattern, threads, block_bytes, size_bytes, seed)
        title = f"{pattern} reads of {format_size(block_bytes)} by {threads} thread{'s' if threads > 1 else ''}"
        caches = [_after_reading(sources, order, cap_bytes)]
    else:
        processes = ask_all(REQUEST, pids=[pid])
        if not processes:
            return complain(f"nobody of process {pid} tells what its caches do: {HINT}")
        title, caches = f"{pid}  {processes[0]['command']}", processes[0]["caches"]
    with open(output, "wb") as file:
        file.write(draw(title, caches, os.path.splitext(output)[1][1:].lower()))
    screen.say(screen.out(), output)
    return 0


def _after_reading(sources: tuple[str, ...], order: Order, cap_bytes: int | None) -> dict[str, Any]:
    with ExitStack() as stack:
        cache = stack.enter_context(pagein.PageCache(cap_bytes))
        files = [[stack.enter_context(cache.open(source)) for source in sources] for _ in range(order.thread_count)]
        readers = Readers(files, order)
        progress = stack.enter_context(screen.progress(screen.err()))
        task = progress.add_task("reading", total=readers.size_bytes)
        readers.read_all(lambda: progress.update(task, completed=readers.read_bytes))
        return told(cache, REQUEST)
