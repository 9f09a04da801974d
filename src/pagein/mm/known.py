"""What this process knows of a store, whichever cache it is behind: how much to ask for as a file of it is opened.

Whether a reader is likely to read on, a counter of two bits says, as those that predict branches do (Smith, "A Study of
Branch Prediction Strategies", 1981).  If so, as much is asked for as one connection brings until several could bring
more; and where it brings as much as several together, all that it brings in the time that it may be left unread.
Guarantees: it is advice: where it is wrong, it costs a connection, and what was on its way.
Assumes: no lock: what two caches change at once may be lost.
Not here: what becomes of it (rest.py); how fast several requests are (pipe.py).
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING

from .pipe import PIECE_BYTES_MAX, start_piece_bytes

if TYPE_CHECKING:
    from collections.abc import Hashable

    from .pipe import Pipe

READ_ON_LIKELY, READ_ON_START, READ_ON_MAX = 2, 2, 3
"""Who goes on counts one up; who does not two down, as a connection that has to be made anew costs twice what is saved.
It is likely until it is known."""
REST_S = 0.5
"""After so long an answer is not gone on with: who goes on does so at once."""
REST_BYTES_START = 8 << 20
"""So much is asked for while it is not known how fast a connection is.  16 MiB were tried: where each brings only so
much, that took longer than several requests at once..."""
REST_BYTES_MIN, REST_BYTES_MAX = 2 << 20, 256 << 20
"""...and between these once it is: less would not show how fast it is by then."""
AS_GOOD = 0.9
"""One brings as much as several, if it is so much of it: they cost requests..."""
PROBE_OPENINGS = 16
"""...but of so many openings, one leaves something to several, to see whether that has changed."""
KNOWN_MAX = 256


class Known:
    """Of one store."""

    __slots__ = ("_openings_by_one", "_pipe", "_read_on", "_stream_bytes_s")

    def __init__(self) -> None:
        self._read_on = READ_ON_START
        self._stream_bytes_s = 0.0
        self._pipe: Pipe | None = None
        """That of the last cache which has brought anything by several requests at once, or else of the first."""
        self._openings_by_one = 0

    def note_reader(self, *, is_read_on: bool) -> None:
        """One who opened a file has read on behind its first bytes, or has not."""
        self._read_on = min(max(self._read_on + (1 if is_read_on else -2), 0), READ_ON_MAX)

    def note_stream(self, bytes_s: float) -> None:
        """One answer came so fast.  It may have shared what there is with others."""
        self._stream_bytes_s = max(bytes_s, self._stream_bytes_s / 2)

    def rest_bytes(self, pipe: Pipe) -> int:
        """How much to ask for behind the first bytes of a file; *pipe* is that of the cache which opens it."""
        if pipe.several_bytes_s or self._pipe is None:
            self._pipe = pipe
        pipe.begin_with(self._stream_bytes_s, self._pipe.several_bytes_s)
        if self._read_on < READ_ON_LIKELY:
            return 0
        latency_s = pipe.latency_s or self._pipe.latency_s
        if not (self._stream_bytes_s and latency_s):
            return REST_BYTES_START
        size_bytes = self._stream_bytes_s * REST_S
        if not self._asks_one(self._pipe):
            # The first of several waits, and then comes, perhaps no faster than this; nobody reads a page of it before.
            piece_bytes: float = PIECE_BYTES_MAX
            if self._pipe.several_bytes_s and self._pipe.takes_many:
                piece_bytes = min(start_piece_bytes(self._stream_bytes_s, latency_s), piece_bytes)
            size_bytes = min(size_bytes, self._stream_bytes_s * latency_s + piece_bytes)
        return int(min(max(size_bytes, REST_BYTES_MIN), REST_BYTES_MAX))

    def _asks_one(self, several: Pipe) -> bool:
        """Whether all is to come by one connection, as it brings as much as several."""
        if not self._stream_bytes_s >= AS_GOOD * several.several_bytes_s > 0:
            return False
        self._openings_by_one = opening = (self._openings_by_one + 1) % PROBE_OPENINGS
        return opening > 0


_known: OrderedDict[Hashable, Known] = OrderedDict()


def known_of(key: Hashable) -> Known:
    """What is known of the store with that key."""
    known = _known.setdefault(key, Known())
    with suppress(KeyError):  # another was faster
        _known.move_to_end(key)
        while len(_known) > KNOWN_MAX:
            _known.popitem(last=False)
    return known
