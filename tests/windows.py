"""What windows and pieces of readahead are to be, by the table of docs/explanation/readahead.md.

Of a store whose requests share its bandwidth, so that few are in flight: no more than `WIDTH_START`.
Not here: what the estimate of a pipe says (pagein.mm.pipe), which is held against this.
"""

from __future__ import annotations

from pagein.mm.pipe import (
    PIECE_BYTES_MAX,
    PIECE_BYTES_MIN,
    PIECE_PIPES,
    WIDTH_START,
    WINDOW_PIECES,
    WINDOW_PIPES,
)

KNOWN_BYTES = 10 << 20
"""A pipe up to so long is known after 8 fetches..."""
SEEN_PART = 0.4
"""...which have shown so much of its bandwidth at least, and no more than there is."""
EXACTLY = 1.000001


def window_of(pipe_bytes: float) -> float:
    """The largest window, where neither a share nor ignorance bounds it."""
    return max(WINDOW_PIPES * pipe_bytes, WINDOW_PIECES * WIDTH_START * piece_of(pipe_bytes))


def piece_of(pipe_bytes: float) -> float:
    """One request of it, before it is rounded up."""
    return min(max(PIECE_PIPES * pipe_bytes / WIDTH_START, PIECE_BYTES_MIN), PIECE_BYTES_MAX)
