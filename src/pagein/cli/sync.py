"""``pagein sync``: make a destination equal to a source, and write only what differs.

Guarantees: nothing is deleted; nothing is written to with --dry-run, not even a time.
Not here: how a file is replaced (copying.py).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from itertools import compress

import click
from rich.progress import Progress as RichProgress, TaskID

import pagein

from ..file import File
from ..units import format_size
from . import screen
from .complaints import EXIT_ERROR, complain
from .copying import PIECE_BYTES, Progress, copy, passing_cache
from .options import place
from .places import below, is_path, place_of, target_of


@click.command()
@click.argument("source", type=place, metavar="SOURCE")
@click.argument("target", type=place, metavar="DESTINATION")
@click.option("--checksum", is_flag=True, help="Compare the bytes even where size and time of change are the same.")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be copied.")
def sync(source: str, target: str, *, checksum: bool, dry_run: bool) -> int:
    """Copy SOURCE to DESTINATION if they differ.

    SOURCE may be a directory of this machine: then each file below it goes to the same place below DESTINATION, a
    directory or a URL.  Symbolic links are followed: what they point to is copied.  Directories without files are not.
    Nothing is deleted.

    Files differ if their sizes do.  Two local files of the same size and time of change are taken to be equal, as rsync
    takes them; of all others the bytes are compared, which reads both.  A copy that is a local file gets the time of
    change of its source, if that is local; it replaces what was there, and keeps of that what `pagein cp` does.

    A file that cannot be read or written, or cannot have its name below DESTINATION, is named on stderr and passed
    over, and so is a directory; the exit status is 1 then.
    """
    source, target = place_of(source), place_of(target)
    failures: list[OSError | ValueError] = []
    counts = {"copied": 0, "the same": 0}

    def fail(error: OSError | ValueError) -> None:
        failures.append(error)
        complain(error)

    with passing_cache() as cache, screen.transfer(screen.err()) as progress:
        pairs = list(_pairs(source, target, fail))
        task = progress.add_task("syncing", total=sum(pair.size_bytes for pair in pairs) or None)
        done_bytes = 0
        for pair in pairs:
            try:
                done = None
                if not _is_same(cache, pair, checksum=checksum, notes=not dry_run):
                    done = screen.printable(pair.target)
                    if not dry_run:
                        size_bytes = _copy(cache, pair, partial(_show, progress, task, done_bytes))
                        done += f" ({format_size(size_bytes)})"
            except (OSError, ValueError) as error:
                fail(error)
            else:  # what stdout raises is no file's
                counts["the same" if done is None else "copied"] += 1
                if done is not None:
                    click.echo(done)
            done_bytes += pair.size_bytes
            progress.update(task, completed=done_bytes)
    would = "would be copied" if dry_run else "copied"
    click.echo(f"{counts['copied']} {would}, {counts['the same']} the same")
    return EXIT_ERROR if failures else 0


@dataclass(frozen=True)
class _Pair:
    source: str
    target: str
    are_paths: bool
    size_bytes: int = 0
    """Of the source, as far as that is known beforehand."""


def _show(bar: RichProgress, task: TaskID, done_bytes: int, copied_bytes: int) -> None:
    bar.update(task, completed=done_bytes + copied_bytes)


def _pairs(source: str, target: str, fail: Callable[[OSError | ValueError], None]) -> Iterator[_Pair]:
    is_local = is_path(source)
    are_paths = is_local and is_path(target)
    if not (is_local and os.path.isdir(source)):
        size_bytes = os.stat(source).st_size if is_local else 0
        yield _Pair(source, target_of(source, target), are_paths, size_bytes)
        return
    for path in _files_below(source, fail, ()):
        try:
            target_path = below(target, os.path.relpath(path, source))
        except ValueError as error:
            fail(ValueError(f"{path}: {error}"))
            continue
        size_bytes = os.stat(path).st_size if os.path.exists(path) else 0
        yield _Pair(path, target_path, are_paths, size_bytes)


def _files_below(directory: str, fail: Callable[[OSError], None], above: tuple[os.stat_result, ...]) -> Iterator[str]:
    """Each file, through symbolic links too; those that lead back up fail, as what cannot be listed does."""
    try:
        here = os.stat(directory)
        if any(os.path.samestat(here, one) for one in above):
            raise OSError(errno.ELOOP, "leads back to a directory that it is in", directory)
        paths = [os.path.join(directory, name) for name in sorted(os.listdir(directory))]
    except OSError as error:
        fail(error)
        return
    are_directories = [os.path.isdir(path) for path in paths]
    yield from (path for path, is_directory in zip(paths, are_directories, strict=True) if not is_directory)
    for path in compress(paths, are_directories):
        yield from _files_below(path, fail, (*above, here))


# -- what differs --------------------------------------------------------------------------------------


def _is_same(cache: pagein.PageCache, pair: _Pair, *, checksum: bool, notes: bool) -> bool:
    """Whether nothing needs to be copied.  If *notes*, a file that was found to be the same by its bytes gets the time
    of its source, where that may be, so that it need not be read next time."""
    status = os.stat(pair.source) if pair.are_paths else None  # before it is read: it may change behind us
    with ExitStack() as stack:
        source = stack.enter_context(cache.open(pair.source))
        try:
            target = stack.enter_context(cache.open(pair.target))
        except FileNotFoundError:
            return False
        assert isinstance(source, File)
        assert isinstance(target, File)
        if source.size_bytes != target.size_bytes:
            return False
        if not checksum and status is not None and status.st_mtime_ns == os.stat(pair.target).st_mtime_ns:
            return True
        same = _have_same_bytes(source, target)
    if same and notes and status is not None:
        with suppress(OSError):  # a file of somebody else's, or on a read-only file system
            os.utime(pair.target, ns=(status.st_atime_ns, status.st_mtime_ns))
    return same


def _have_same_bytes(source: File, target: File) -> bool:
    source.advise("sequential")
    target.advise("sequential")
    return all(
        source.pread(PIECE_BYTES, offset) == target.pread(PIECE_BYTES, offset)
        for offset in range(0, source.size_bytes, PIECE_BYTES)
    )


# -- copies --------------------------------------------------------------------------------------------


def _copy(cache: pagein.PageCache, pair: _Pair, progress: Progress) -> int:
    if is_path(pair.target):
        try:
            os.makedirs(os.path.dirname(os.path.realpath(pair.target)), exist_ok=True)
        except OSError as error:
            raise OSError(error.errno, error.strerror, pair.target) from error
    return copy(cache, pair.source, pair.target, progress, keeps_time=True)
