"""``pagein cat``: sources to standard output, one after another."""

from __future__ import annotations

import sys
from typing import BinaryIO

import click

import pagein

from .complaints import complain
from .options import size

PIECE_BYTES = 1 << 20


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--offset", type=size, default="0", help="Of each SOURCE, begin here.")
@click.option("--size", "size_bytes", type=size, help="Of each SOURCE, no more bytes than these.  [default: all]")
def cat(sources: tuple[str, ...], *, offset: int, size_bytes: int | None) -> int:
    """Write SOURCEs to standard output.

    One that cannot be read is named on stderr and passed over; the exit status is 1 then.
    """
    status = 0
    # Each byte is wanted once, so the cache need only be large enough to read ahead.
    with pagein.PageCache(32 * PIECE_BYTES) as cache:
        for source in sources:
            try:
                _copy(cache, source, sys.stdout.buffer, offset, size_bytes)
            except _StdoutFailed as failed:
                raise failed.error from None
            except (OSError, ValueError) as error:
                status = complain(error)
    return status


class _StdoutFailed(Exception):
    """Standard output took no more.  Not an OSError, so that it is not taken for one of the source's."""

    def __init__(self, error: OSError) -> None:
        self.error = error


def _copy(cache: pagein.PageCache, source: str, target: BinaryIO, offset: int, size_bytes: int | None) -> None:
    with cache.open(source) as file:
        stop = file.size_bytes if size_bytes is None else offset + size_bytes
        is_one_read = size_bytes is not None and size_bytes <= PIECE_BYTES
        file.advise("random" if is_one_read else "sequential")  # nobody wants what is behind one
        while piece := file.pread(max(0, min(PIECE_BYTES, stop - offset)), offset):
            try:
                target.write(piece)
                target.flush()
            except OSError as error:
                raise _StdoutFailed(error) from error
            offset += len(piece)
