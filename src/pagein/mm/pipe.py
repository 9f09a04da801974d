"""How long a store's pipe is: its latency and bandwidth, estimated from its own fetches, and the windows that fill it.

Guarantees: pure arithmetic on the times that it is given: no clock, no lock, no I/O.
Assumes: the caller serialises (device.py, under the zone's lock); times are seconds of one monotonic clock.
Source: BBR (Cardwell et al., "BBR: Congestion-Based Congestion Control", ACM Queue 2016).  As there, bandwidth is the
largest *delivery rate* of late: what arrived between the start and the end of a fetch, of all fetches, over that time,
so that fetches which share the pipe do not each seem slow.  Latency is the least time of late that a small fetch took.
Their product is what must be in flight for the pipe to be full; before it is known the window is generous, since how
fast it is filled is up to the reader (ondemand.py), and a reader that has not read much gets little.
Not here: who asks for what (readahead.py), how many requests are in flight (device.py).
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

WINDOW_BYTES_MIN = 2 << 20
"""A disk's pipe holds less, but a window also has to be worth the switch of threads that fills it."""
WINDOW_BYTES_START = 64 << 20
"""Until the pipe's length is known."""
WINDOW_BYTES_MAX = 1 << 30
"""More than any pipe that Python can drain: 10 GB/s over 100 ms."""
WINDOW_PIPES = 8
"""A window is so many pipes long: while the reader is in one, the next is on its way, and the pipe stays full even when
half of what is in flight waits for the other half."""
PIECE_BYTES_MIN = 512 << 10
PIECE_BYTES_MAX = 8 << 20
"""Nobody can read a page of a piece before all of it has come."""
PIECE_BYTES_START = 1 << 20
PIECE_PIPES = 10
"""A piece of so many pipes spends a tenth of its time waiting."""
PIECES_MIN = 4
"""A window has at least so many pieces, where it is large enough: several requests fill the pipe better than one."""
PROBE_BYTES_MAX = 128 << 10
"""A fetch up to this size is small: its time is the latency."""
WIDTH_START = 3
"""So many requests of readahead are in flight at first.  Few, because they share the bandwidth: of many, the first
would come hardly earlier than the last, and it is the first that the reader waits for."""
WIDTH_MAX = 32
WIDTH_GAIN = 1.25
"""Twice as many are kept, if so much more came of it (BBR leaves its start-up by the same test)."""
PROBE_ROUNDS = 16
"""After so many times as many requests it is tried again."""
MEMORY_S = 10.0
"""How long a measurement counts (BBR's window for the round-trip time)."""
SAMPLES_MAX = 64


class Started(NamedTuple):
    """What `Pipe.started` noted of a fetch, for `Pipe.ended`."""

    at_s: float
    delivered_bytes: int
    delivered_at_s: float


class _Sample(NamedTuple):
    at_s: float
    rate_bytes_s: float


class Pipe:
    """The estimate for one store."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._delivered_bytes = 0
        self._delivered_at_s = 0.0
        self._rates: deque[_Sample] = deque(maxlen=SAMPLES_MAX)
        """Falling rates, each of a later time: the first is the largest of late (a monotonic queue)."""
        self._probe_bytes = 0
        self._probe_s: float | None = None
        self._probe_at_s = 0.0
        self.width = WIDTH_START
        """How many requests of readahead should be in flight."""
        self._round: list[float] = []
        self._rounds_to_probe = 1
        self._best_width = WIDTH_START
        self._best_rate_bytes_s = 0.0
        self._is_full = False
        """A fetch spent more time arriving than waiting, so its rate was the store's, and not the window's."""

    # -- measuring -----------------------------------------------------------------------------------

    def started(self, now_s: float) -> Started:
        """A fetch begins."""
        if not self.in_flight:
            self._delivered_at_s = now_s  # nothing could arrive before: the pause is not the store's
        self.in_flight += 1
        return Started(now_s, self._delivered_bytes, self._delivered_at_s)

    def ended(self, start: Started, now_s: float, size_bytes: int) -> None:
        """That fetch ended, and brought *size_bytes*: 0 if it failed, which measures nothing."""
        self.in_flight -= 1
        if not size_bytes:
            return
        self._delivered_bytes += size_bytes
        self._delivered_at_s = now_s
        elapsed_s = max(now_s - start.delivered_at_s, 1e-6)
        self._note_rate(now_s, (self._delivered_bytes - start.delivered_bytes) / elapsed_s)
        duration_s = now_s - start.at_s
        self._note_probe(now_s, size_bytes, duration_s)
        if duration_s > 3 * self.latency_s:
            self._is_full = True
        if size_bytes > PROBE_BYTES_MAX:
            self._note_width(size_bytes, duration_s)

    def answered(self, now_s: float, duration_s: float) -> None:
        """A request without content (a HEAD) took so long."""
        self._note_probe(now_s, 0, duration_s)

    def _note_width(self, size_bytes: int, duration_s: float) -> None:
        """Widen the pipe for as long as that makes it faster: where each connection is slow by itself, say.

        Compared are the rates at which requests arrive, without their latency, times as many as there are: if they
        share a bandwidth, that is the same whatever their number.
        """
        self._round.append(size_bytes / max(duration_s - self.latency_s, 1e-6))
        if len(self._round) < self.width:
            return
        rate_bytes_s = self.width * sum(self._round) / len(self._round)
        self._round.clear()
        if rate_bytes_s > WIDTH_GAIN * self._best_rate_bytes_s:
            self._best_rate_bytes_s, self._best_width = rate_bytes_s, self.width
            self._rounds_to_probe = 1
        else:
            self.width = self._best_width
            self._rounds_to_probe = self._rounds_to_probe - 1 if self._rounds_to_probe else PROBE_ROUNDS
        if not self._rounds_to_probe:
            self.width = min(2 * self._best_width, WIDTH_MAX)

    def _note_rate(self, now_s: float, rate_bytes_s: float) -> None:
        while self._rates and (self._rates[-1].rate_bytes_s <= rate_bytes_s):
            self._rates.pop()
        self._rates.append(_Sample(now_s, rate_bytes_s))
        while len(self._rates) > 1 and now_s - self._rates[0].at_s > MEMORY_S:
            self._rates.popleft()

    def _note_probe(self, now_s: float, size_bytes: int, duration_s: float) -> None:
        is_small, was_small = size_bytes <= PROBE_BYTES_MAX, self._probe_bytes <= PROBE_BYTES_MAX
        if self._probe_s is None or (is_small and not was_small):
            is_better = True
        elif is_small:
            is_better = duration_s < self._probe_s or now_s - self._probe_at_s > MEMORY_S
        else:  # of the large ones, the one that says least; none says as much as a small one
            least_s = self._without_transfer(self._probe_bytes, self._probe_s)
            is_better = not was_small and self._without_transfer(size_bytes, duration_s) < least_s
        if is_better:
            self._probe_bytes, self._probe_s, self._probe_at_s = size_bytes, duration_s, now_s

    def _without_transfer(self, size_bytes: int, duration_s: float) -> float:
        return duration_s - size_bytes / self.bandwidth_bytes_s if self.bandwidth_bytes_s else duration_s

    # -- what it says --------------------------------------------------------------------------------

    @property
    def bandwidth_bytes_s(self) -> float:
        """Bytes a second, all fetches together; 0 before anything was fetched."""
        return self._rates[0].rate_bytes_s if self._rates else 0.0

    @property
    def latency_s(self) -> float:
        """From the start of a fetch to its first byte; 0 before anything is known."""
        if self._probe_s is None:
            return 0.0
        if self._probe_bytes <= PROBE_BYTES_MAX:
            return self._probe_s
        return max(0.0, self._without_transfer(self._probe_bytes, self._probe_s))

    @property
    def pipe_bytes(self) -> float:
        """The bandwidth-delay product."""
        return self.bandwidth_bytes_s * self.latency_s

    def window_bytes(self, share_bytes: int) -> int:
        """The largest window of one stream, at most *share_bytes*."""
        window = int(min(max(WINDOW_PIPES * self.pipe_bytes, WINDOW_BYTES_MIN), WINDOW_BYTES_MAX))
        if not self._is_full:  # what was measured may be the reader's pace
            window = max(window, WINDOW_BYTES_START)
        return min(window, share_bytes)

    def piece_bytes(self, window_bytes: int) -> int:
        """How much one request of a window asks for."""
        if not self.pipe_bytes:
            return min(PIECE_BYTES_START, window_bytes)
        piece = min(max(PIECE_PIPES * self.pipe_bytes, PIECE_BYTES_MIN), PIECE_BYTES_MAX)
        return int(max(min(piece, window_bytes / PIECES_MIN), min(PIECE_BYTES_MIN, window_bytes)))
