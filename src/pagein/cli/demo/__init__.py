"""``pagein demo``: real data through the cache, every byte verified, beside what one would use without it.

Guarantees: exit status 1 if a single byte was wrong, or if the object changed on the way; temporary files and the
server are gone at the end, also after Ctrl-C.
Not here: the data (archive.py, download.py), the walk and its digests (reference.py, contest.py), the ways to read
(contenders.py), what is said about it (report.py).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
from rich.progress import Progress

from ...testing.httpserver import RangeServerProcess
from .. import screen
from .archive import pack_library
from .contenders import Contender, Cost, Fsspec, Pagein, PlainRanges
from .contest import Contest, Score
from .download import download
from .reference import Reference
from .report import show

LATENCY_S = 0.01
FILES_MAX = 800
"""Of the standard library, which has 700 to 2,500: plain range reads take about 40 ms for each."""
PEER_LIMIT_S = 40.0
"""A contender that is not pagein is stopped after so long, and the table says so."""
ARCHIVE_NAME = "stdlib.tar"

Count = Callable[[Contender], Cost]


@click.command()
@click.argument("url", required=False)
@click.option("--threads", "thread_count", type=click.IntRange(1, 64), default=4, show_default=True,
              help="Readers at once.")  # fmt: skip
@click.option(
    "--files", "files_max", type=click.IntRange(1), default=FILES_MAX, show_default=True,
    help="At most so many files of the library.",
)  # fmt: skip
def demo(url: str | None, thread_count: int, files_max: int) -> int:
    """Read real data through the cache and verify every byte.

    By default: Python's own standard library as a tar, served with 10 ms of latency by a server on this machine,
    walked by 4 threads at once.  With an http: or https: URL: the tar that is there, or else the whole file.
    """
    if url is not None and not url.lower().startswith(("http://", "https://")):
        raise click.BadParameter("it must be an http: or https: URL", param_hint="URL")
    with tempfile.TemporaryDirectory(prefix="pagein-demo-") as directory:
        if url is not None:
            return demo_of_url(url, Path(directory), thread_count)
        return demo_of_library(Path(directory), thread_count, files_max)


def demo_of_library(directory: Path, thread_count: int, files_max: int) -> int:
    """Serve the library and let all contenders read it."""
    with screen.progress(screen.err()) as progress:
        task = progress.add_task("packing the standard library")
        reference = pack_library(
            directory / ARCHIVE_NAME,
            files_max,
            lambda done, total: progress.update(task, completed=done, total=total),
        )
    # Whatever proxy there is, it does not know the server of this process.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    with RangeServerProcess(directory, latency_s=LATENCY_S) as server:

        def count(contender: Contender) -> Cost:
            stats = server.stats()
            server.reset()
            return Cost(stats.request_count, stats.sent_bytes)

        scores, notes = compete(server.url(ARCHIVE_NAME), reference, thread_count, count)
    notes.append("requests and MiB: as the server counted them")
    notes.append(f"the server waits {LATENCY_S * 1000:.0f} ms before every answer")
    show(scores, reference, thread_count, notes)
    return int(any(score.wrong_members for score in scores))


def demo_of_url(url: str, directory: Path, thread_count: int) -> int:
    """Download once, plainly, and let all contenders read the same."""
    with screen.progress(screen.err()) as progress:
        task = progress.add_task("one plain download")
        reference = download(
            url,
            directory / "download",
            lambda done, total: progress.update(task, completed=done, total=total),
        )
    scores, notes = compete(url, reference, thread_count, lambda contender: contender.cost())
    notes.append("requests and MiB: as each client counted them")
    show(scores, reference, thread_count, notes)
    return int(any(score.wrong_members for score in scores))


def compete(url: str, reference: Reference, thread_count: int, count: Count) -> tuple[list[Score], list[str]]:
    """Let one after another read *url*: (the scores, pagein's first; notes).

    *count* tells what a contender has cost, and begins anew.
    Raises: OSError if pagein could not read; what others cannot, their score tells.
    """
    scores, notes = [], []
    with screen.progress(screen.err()) as progress:
        for kind in (Pagein, PlainRanges, Fsspec):
            try:
                contender = kind(url)
            except ImportError:
                notes.append("fsspec is not installed: pip install 'pagein[fsspec]' to see it here")
                continue
            scores.append(_one(contender, reference, thread_count, count, progress))
    return scores, notes


def _one(contender: Contender, reference: Reference, thread_count: int, count: Count, progress: Progress) -> Score:
    is_pagein = isinstance(contender, Pagein)
    task = progress.add_task(contender.name, total=reference.member_bytes * thread_count)
    try:
        score = Contest(contender, reference, thread_count=thread_count).run(
            lambda read_bytes: progress.update(task, completed=read_bytes),
            limit_s=None if is_pagein else PEER_LIMIT_S,
        )
    finally:
        contender.close()
        progress.stop_task(task)
    if is_pagein and score.error is not None:
        raise score.error
    return replace(score, cost=count(contender))
