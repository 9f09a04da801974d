"""What the right bytes are: the digest of each member of an archive, or of a whole file, and how a walk finds them.

Guarantees: the same walk makes a reference and checks it, so that both mean the same by a member.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

PIECE_BYTES = 1 << 20
"""What the walk reads at once of a member: a client without a cache makes a request of each."""


class Member(NamedTuple):
    """A regular file of an archive, or a whole file, which has no name."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Reference:
    """The members that a walk must find, in order."""

    what: str
    """For people."""
    members: list[Member]
    size_bytes: int
    """Of the whole file."""
    is_tar: bool

    @property
    def member_bytes(self) -> int:
        """Bytes that one walk reads, but for the headers between members."""
        return sum(member.size_bytes for member in self.members)


def members_of(file: IO[bytes] | Any, *, is_tar: bool, report: Callable[[int], object]) -> Iterator[Member]:
    """Read all of *file* and tell its members.  *report* hears how many bytes more have been read.

    Raises: tarfile.TarError; OSError from the file; what *report* raises.
    """
    if not is_tar:
        yield _digest("", file, report)
        return
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for entry in archive:
            if entry.isreg():
                data = archive.extractfile(entry)
                assert data is not None, "a regular member has data"
                yield _digest(entry.name, data, report)


def _digest(name: str, data: IO[bytes], report: Callable[[int], object]) -> Member:
    digest, size_bytes = hashlib.sha256(), 0
    while piece := data.read(PIECE_BYTES):
        digest.update(piece)
        size_bytes += len(piece)
        report(len(piece))
    return Member(name, digest.hexdigest(), size_bytes)


def is_tar(file: IO[bytes]) -> bool:
    """Whether it is a tar file, not compressed.  Leaves the position at the start."""
    try:
        with tarfile.open(fileobj=file, mode="r:"):
            return True
    except tarfile.TarError:
        return False
    finally:
        file.seek(0)
