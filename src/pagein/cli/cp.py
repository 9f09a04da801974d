"""``pagein cp``: one source to any place that can be written to."""

from __future__ import annotations

from contextlib import suppress

import click

import pagein

from . import screen
from .copying import copy, passing_cache
from .options import place
from .places import is_path, place_of, target_of


@click.command()
@click.argument("source", type=place, metavar="SOURCE")
@click.argument("target", type=place, metavar="DESTINATION")
def cp(source: str, target: str) -> None:
    """Copy SOURCE to DESTINATION, or into it, if that is a directory or ends with a slash.

    What is there is replaced as a whole, once all of SOURCE has been read, and is on the disk: after an error or Ctrl-C
    it is as it was.  For the moment that takes room for both, and a right to write to the directory.

    A local file keeps its permissions, and its group and owner where that may be; what only its group might do nobody
    may, if that cannot be kept.  A new one has the permissions of SOURCE, if that is local, but for what the umask
    denies.  Not kept are ACLs, extended attributes, setuid and setgid; and what has other names (hard links) stays as
    it was under those.

    A file that is a mount of its own, as containers have them, cannot be replaced: it is written in place, once all of
    SOURCE is beside it, and after an error or Ctrl-C then it may be part old, part new.  What a process has open
    (/dev/stdout, /dev/fd/3) is refused: `pagein cat SOURCE` writes to stdout.
    """
    source = place_of(source)
    target = target_of(source, place_of(target))
    with passing_cache() as cache, cache.open(source) as file, screen.transfer(screen.err()) as progress:
        assert isinstance(file, pagein.File)  # it stays open: what has come of it is gone on with
        task = progress.add_task("copying", total=file.size_bytes)
        _require_writable(cache, target)
        copy(cache, source, target, lambda copied_bytes: progress.update(task, completed=copied_bytes))


def _require_writable(cache: pagein.PageCache, target: str) -> None:
    """Raises: OSError if it is a local file that may not be written to, though it could be replaced; or no file."""
    if is_path(target):
        with suppress(FileNotFoundError):
            cache.open(target, "r+b").close()
