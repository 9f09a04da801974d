"""``pagein stat``: what a source is, and which of its pages are in the cache."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

import pagein

from ..units import format_size, page_count_for
from . import screen
from .options import size


@click.command()
@click.argument("source")
@click.option("--read", "read_bytes", type=size, default="0", help="Read so much of it first.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def stat(source: str, read_bytes: int, as_json: bool) -> None:
    """Tell the size and the version of SOURCE, and which of its pages are in the cache.

    Every process has a cache of its own, which is empty at first: --read shows what reading brings into it.
    """
    with pagein.PageCache() as cache, cache.open(source) as file:
        file.pread(min(read_bytes, file.size_bytes), 0)
        runs, page_count = file.resident(), page_count_for(file.size_bytes)
        resident_pages = sum(count for _, count in runs)
        if as_json:
            document = {
                "source": file.name,
                "size_bytes": file.size_bytes,
                "version": file.version,
                "page_count": page_count,
                "resident_pages": resident_pages,
                "resident": runs,  # [first index, page count]
                "cache": asdict(cache.stats()),
            }
            click.echo(json.dumps(document))
            return
        out = screen.out()
        for name, value in (
            ("source", screen.printable(file.name)),
            ("size", f"{format_size(file.size_bytes)} ({file.size_bytes:,} bytes)"),
            ("version", screen.printable(file.version)),
            ("resident", f"{resident_pages:,} of {page_count:,} pages"),
        ):
            screen.say(out, f"{name:<10}{value}")
        screen.show_residency(out, runs, file.size_bytes)
