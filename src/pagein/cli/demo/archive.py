"""The demo's own data: the running interpreter's standard library in a tar file.

Guarantees: a member's digest is that of the file on disk, of the very bytes that went into the archive; which
files are taken depends only on what is there.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import sysconfig
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from .reference import Member, Reference

SAMPLE_SEED = 0
_LEFT_OUT = {"__pycache__", "site-packages", "dist-packages"}


def library_files(root: Path) -> list[Path]:
    """The files below the standard library, but for what was compiled or installed there, in order."""
    return sorted(_walk(root))


def _walk(root: Path) -> Iterator[Path]:
    for directory, names, files in os.walk(root):
        names[:] = [name for name in names if name not in _LEFT_OUT]
        for name in files:
            path = Path(directory, name)
            if path.is_file() and not path.is_symlink():
                yield path


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def pack_library(target: Path, files_max: int, report: Callable[[int, int], object]) -> Reference:
    """Write the library, or a sample of so many of its files, to *target*.

    What cannot be read is left out.  *report*: (bytes packed, bytes in all).
    """
    root = Path(sysconfig.get_path("stdlib"))
    found = library_files(root)
    chosen = found
    if len(found) > files_max:
        chosen = sorted(random.Random(SAMPLE_SEED).sample(found, files_max))
    members: list[Member] = []
    done_bytes, total_bytes = 0, sum(_size_bytes(path) for path in chosen)
    with tarfile.open(target, "w") as archive:
        for path in chosen:
            try:
                data = path.read_bytes()
            except OSError:
                continue
            entry = tarfile.TarInfo(path.relative_to(root).as_posix())
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
            members.append(Member(entry.name, hashlib.sha256(data).hexdigest(), len(data)))
            done_bytes += len(data)
            report(done_bytes, total_bytes)
    what = f"{len(members):,} files of Python's standard library"
    if len(chosen) < len(found):
        what += f" (of {len(found):,}, chosen with seed {SAMPLE_SEED})"
    return Reference(what=what, members=members, size_bytes=target.stat().st_size, is_tar=True)
