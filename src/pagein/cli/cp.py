"""``pagein cp``: one source to any place that can be written to."""

from __future__ import annotations

import click

import pagein

from . import screen
from .copying import copy, passing_cache
from .places import target_of


@click.command()
@click.argument("source")
@click.argument("target", metavar="DESTINATION")
def cp(source: str, target: str) -> None:
    """Copy SOURCE to DESTINATION, or into it, if that is a directory or ends with a slash.

    A local file is overwritten in place: after an error or Ctrl-C in the middle of it, it is incomplete (`pagein sync`
    replaces it as a whole).  An object is replaced as a whole, once all of SOURCE has been read: after an error or
    Ctrl-C it is as it was.
    """
    target = target_of(source, target)
    with passing_cache() as cache, screen.transfer(screen.err()) as progress:
        task = progress.add_task("copying", total=_size(cache, source))
        copy(cache, source, target, lambda copied_bytes: progress.update(task, completed=copied_bytes))


def _size(cache: pagein.PageCache, source: str) -> int:
    with cache.open(source) as file:
        assert isinstance(file, pagein.File)
        return file.size_bytes
