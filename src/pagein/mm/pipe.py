"""How long a store's pipe is: its latency and bandwidth, estimated from its own fetches, and the windows that fill it.

Guarantees: pure arithmetic on the times that it is given: no clock, no lock, no I/O.  The bandwidth is never put higher
than what the store has shown, since only bytes that were asked for and came within one span of time are counted for it.
Assumes: who measures serialises (device.py, under the zone's lock), and who asks for `width`; windows and pieces may be
asked for without, as each number that they come of is replaced as one.  Times are seconds of one monotonic clock.
Source: BBR (Cardwell et al., "BBR: Congestion-Based Congestion Control", ACM Queue 2016).  As there, bandwidth is the
largest *delivery rate* of late, of all fetches together, so that those which share the pipe do not each seem slow;
latency is the least time of late that a small fetch took; and a few times their product is kept in flight.
Start-up is TCP's slow start (Jacobson, "Congestion Avoidance and Control", 1988), where it is known what one connection
brings alone: one request more for each that comes about as fast as that.
Where we differ: BBR counts packets as they arrive.  Here a fetch is known when it ends, and has been arriving for long:
counted at its end, as in BBR, those that end close together would make up several times the bandwidth of the store.
Before the pipe is known the window is generous, since how fast it is filled is up to the reader (ondemand.py), and one
that has not read much gets little.
Not here: who asks for what (readahead.py), how many requests are in flight (device.py).
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

WINDOW_BYTES_START = 64 << 20
"""Until the pipe is known."""
BANDWIDTH_BYTES_S_START = 2e9
"""The same, for who has to go by something."""
WINDOW_BYTES_MAX = 1 << 30
"""More than any pipe that Python can drain: 10 GB/s over 100 ms."""
WINDOW_PIPES = 8
"""A window is at least so many pipes long: while the reader is in one, the next is on its way..."""
WINDOW_PIECES = 1.5
"""...and has so many pieces for each request in flight: with just as many all end together, and the pipe runs dry."""
PIECE_BYTES_MIN = 512 << 10
"""Less is not worth the switch of threads that brings it."""
PIECE_BYTES_MAX = 8 << 20
"""Nobody can read a page of a piece before all of it has come."""
PIECE_BYTES_START = 1 << 20
PIECE_BYTES_UNIT = 64 << 10
"""Pieces are rounded up, lest a window ends with a request for what was rounded off."""
PIECE_PIPES = 12
"""Pieces in flight make up so many pipes: each, as it shares the bandwidth, arrives ten times as long as it waits, even
if the bandwidth is put a little too low."""
IN_FLIGHT_PIPES = 3
"""Where that would take too large pieces, more pieces make up so many at least (BBR: two; but here the bandwidth is put
up to a third too low)."""
PROBE_BYTES_MAX = 128 << 10
"""A fetch up to this size is small: its time is the latency, and it says nothing of the bandwidth."""
WIDTH_START = 4
"""So many requests of readahead are in flight at least.  Few, because they share the bandwidth: of many, the first
would come hardly earlier than the last, and it is the first that the reader waits for."""
WIDTH_FILLING = 12
"""So many while the largest pieces wait longer than they arrive: the pipe is longer than what was seen of it, and none
of them takes bandwidth from the others; and before anything was seen of one that is far."""
WIDTH_MAX = 32
ALONE = 0.5
"""A fetch that brought so much of what one brings alone came as if it were: what bounds it is its connection..."""
CROWD = 0.75
"""...if so much of the width was in flight with it: else it was alone because its reader asked for no more."""
ENOUGH = 1.5
"""So many times as many requests as it takes: what was seen together may have been less than there is."""
START_PIPES = 2
"""Until it is known how many requests the store takes, each is so many times what one connection brings while another
waits.  Smaller ones come sooner, and show sooner whether there is room for more; and of these each waits a third of its
time, for which more of them make up."""
WIDTH_GAIN = 1.25
"""Twice as many are kept, if so much more came of it (BBR leaves its start-up by the same test)."""
PROBE_ROUNDS = 16
"""After so many rounds it is tried again."""
ROUND_FETCHES = 4
"""A round is so many times as long as a fetch: those across its bounds are not counted, and must be few."""
FULL_FETCHES = 4
"""The pipe is full if each of the last so many was longer arriving than waiting: one might have stalled."""
MEMORY_S = 10.0
"""How long a measurement counts (BBR's window for the round-trip time)."""
SAMPLES_MAX = 64


class Started(NamedTuple):
    """What `Pipe.started` noted of a fetch, for `Pipe.ended`."""

    at_s: float
    in_flight: int
    """So many were, with this one."""


class _Sample(NamedTuple):
    at_s: float
    rate_bytes_s: float


def start_piece_bytes(stream_bytes_s: float, latency_s: float) -> float:
    """How much a request should ask for if each connection brings *stream_bytes_s*, and the store takes many."""
    return max(START_PIPES * stream_bytes_s * latency_s, PIECE_BYTES_MIN)


class Pipe:
    """The estimate for one store."""

    def __init__(self, requests_max: int = WIDTH_MAX) -> None:
        """*requests_max*: how many requests the store takes."""
        self.in_flight: int = 0
        self.bandwidth_bytes_s: float = 0.0
        """Bytes a second, all fetches together; 0 before anything large was fetched, and never again."""
        self.several_bytes_s: float = 0.0
        """The most that came while `WIDTH_START` or more were in flight."""
        self._rates: deque[_Sample] = deque(maxlen=SAMPLES_MAX)
        """Falling rates, each of a later time: the first is the largest of late (a monotonic queue).  In between it is
        empty: who does not serialise looks at ``bandwidth_bytes_s``."""
        self.stream_bytes_s: float = 0.0
        """What one connection brings that shares with no other, as far as is known; 0 before anything is."""
        self._takes_several = False
        """Together they have brought another cache twice as much as one at least."""
        self._width_max = min(requests_max, WIDTH_MAX)
        self._is_growing = False
        """The last fetch of this round that was among as many as there should be came as if it were alone, and there
        may be more."""
        self._slowed_excess = 0
        """So many more of late have not than have; once they are `FULL_FETCHES`, the start is over."""
        self._slowed_rates: deque[float] = deque(maxlen=FULL_FETCHES)
        """What all that were in flight brought, if each came as fast as one of those."""
        self._durations_s: deque[float] = deque(maxlen=FULL_FETCHES)
        """How long the last fetches took that were not small."""
        self.is_full: bool = False
        """Fetches were longer arriving than waiting, so their rate was the store's, and not the reader's."""
        self._probe_bytes = 0
        self._probe_s: float | None = None
        self._probe_at_s = 0.0
        self._round_at_s = 0.0
        self._round_bytes = 0
        self._round_width = 0
        """So many were in flight at once."""
        self._round_rate_bytes_s = 0.0
        """The best since it began: its last may be that of an unlucky moment."""
        self._proved_width = WIDTH_START
        """So many requests have proved better than half as many."""
        self._proved_rate_bytes_s = 0.0
        self._is_probing = False
        """Twice as many are in flight, to see whether more comes of it."""
        self._rounds_to_probe = 1

    # -- measuring -----------------------------------------------------------------------------------

    def started(self, now_s: float) -> Started:
        """A fetch begins."""
        if not self.in_flight:  # nothing could come before: the pause is not the store's
            self._begin_round(now_s)
            if self._is_probing:
                self._is_probing, self._rounds_to_probe = False, 1
        self.in_flight += 1
        self._round_width = max(self._round_width, self.in_flight)
        return Started(now_s, self.in_flight)

    def ended(self, start: Started, now_s: float, size_bytes: int) -> None:
        """That fetch ended, and brought *size_bytes*: 0 if it failed, which measures nothing."""
        self.in_flight -= 1
        if not size_bytes:
            return
        duration_s = now_s - start.at_s
        self._note_latency(now_s, size_bytes, duration_s)
        is_whole = start.at_s >= self._round_at_s  # else nobody knows how much of it came in this round
        self._round_bytes += size_bytes if is_whole else 0
        if size_bytes <= PROBE_BYTES_MAX:
            return
        self._durations_s.append(duration_s)
        elapsed_s = max(now_s - self._round_at_s, 1e-6)
        if is_whole:
            rate_bytes_s = self._round_bytes / elapsed_s
            self._note_rate(now_s, rate_bytes_s)
            if self._round_width >= WIDTH_START:
                self.several_bytes_s = max(self.several_bytes_s, rate_bytes_s)
        if self._is_starting and duration_s > 0:  # it is 0 by a clock that is coarse
            self._start_up(start, size_bytes, duration_s)
        is_arriving = len(self._durations_s) == FULL_FETCHES and min(self._durations_s) > 2 * self.latency_s > 0
        self.is_full |= is_arriving and not self._is_growing
        if elapsed_s >= ROUND_FETCHES * max(self._durations_s):
            self._note_width()
            self._begin_round(now_s)

    def answered(self, now_s: float, duration_s: float) -> None:
        """A request without content (a HEAD) took so long."""
        self._note_latency(now_s, 0, duration_s)

    def streamed(self, bytes_s: float) -> None:
        """One answer has come so fast: that with which a file is opened (rest.py), which begins before all others."""
        self.stream_bytes_s = max(self.stream_bytes_s, bytes_s)

    def begin_with(self, stream_bytes_s: float, several_bytes_s: float) -> None:
        """Another cache has seen one answer come so fast, and several together."""
        self.streamed(stream_bytes_s)
        if stream_bytes_s and not self.bandwidth_bytes_s:
            self._proved_width = self._enough(several_bytes_s)
            self._takes_several = several_bytes_s >= 2 * stream_bytes_s

    def _enough(self, together_bytes_s: float) -> int:
        """How many bring so much together, and are not too few if there is more."""
        count = math.ceil(ENOUGH * together_bytes_s / self.stream_bytes_s)
        return max(min(count, self._width_max), WIDTH_START)

    @property
    def _is_starting(self) -> bool:
        """Whether requests have not slowed each other down yet."""
        return self.stream_bytes_s > 0 and self._slowed_excess < FULL_FETCHES

    def _start_up(self, start: Started, size_bytes: int, duration_s: float) -> None:
        """A fetch has ended: one more, if it came as if it were alone.  So there are twice as many in the time that one
        takes, until they slow each other; then as many as it takes to have what they had.

        Each is compared with what one has alone, not with those before it: so none has to wait for a whole round.
        """
        rate_bytes_s = size_bytes / max(duration_s - self.latency_s, duration_s / 2)
        width = min(self.width, self._width_max)
        crowd = min((start.in_flight + self.in_flight + 1) / 2, width)
        if crowd >= CROWD * width:
            is_alone = rate_bytes_s >= ALONE * self.stream_bytes_s
            self._is_growing = is_alone and self._proved_width < self._width_max
            if self._is_growing:
                self._proved_width = min(max(self._proved_width, int(crowd)) + 1, self._width_max)
                self.is_full = self._is_probing = False
            if is_alone:
                self._slowed_excess = max(self._slowed_excess - 1, 0)
            elif duration_s > 2 * self.latency_s:  # one that mostly waits says nothing: it asked for too little
                self._slowed_excess += 1
                self._slowed_rates.append(crowd * rate_bytes_s)
                if not self._is_starting:
                    self._proved_width = self._enough(sum(self._slowed_rates) / FULL_FETCHES)
                    if self._proved_width > WIDTH_START:  # found by more than that, so they need not be tried again
                        self._rounds_to_probe = PROBE_ROUNDS
        self.streamed(rate_bytes_s)

    def _begin_round(self, now_s: float) -> None:
        self._round_at_s, self._round_bytes, self._round_rate_bytes_s = now_s, 0, 0.0
        self._round_width = self.in_flight
        self._is_growing = False  # or it is again, if there are as many in this one: else the pace is the reader's

    def _note_rate(self, now_s: float, rate_bytes_s: float) -> None:
        self._round_rate_bytes_s = max(self._round_rate_bytes_s, rate_bytes_s)
        while self._rates and self._rates[-1].rate_bytes_s <= rate_bytes_s:
            self._rates.pop()
        self._rates.append(_Sample(now_s, rate_bytes_s))
        memory_s = max(MEMORY_S, 2 * ROUND_FETCHES * max(self._durations_s))  # two rounds at least, however slow
        while len(self._rates) > 1 and now_s - self._rates[0].at_s > memory_s:
            self._rates.popleft()
            self.is_full = False  # or it was, when it was faster
        self.bandwidth_bytes_s = self._rates[0].rate_bytes_s

    def _note_latency(self, now_s: float, size_bytes: int, duration_s: float) -> None:
        is_small, has_small = size_bytes <= PROBE_BYTES_MAX, self._probe_s is not None and not self._probe_bytes
        counted_bytes = 0 if is_small or has_small else size_bytes
        if self._probe_s is None:
            is_better = True
        elif counted_bytes:  # before there was a small one: of the large, the one that says least
            is_better = self._without_transfer(counted_bytes, duration_s) < self.latency_s
        else:  # large or small: the latency is no more than its time
            is_later = now_s - duration_s - self._probe_at_s > MEMORY_S
            is_better = duration_s < self._probe_s or (is_small and is_later and not self.in_flight)
        if is_better:
            self._probe_bytes, self._probe_s, self._probe_at_s = counted_bytes, duration_s, now_s

    def _without_transfer(self, size_bytes: int, duration_s: float) -> float:
        bandwidth_bytes_s = self.bandwidth_bytes_s
        return max(0.0, duration_s - size_bytes / bandwidth_bytes_s) if bandwidth_bytes_s else duration_s

    def _note_width(self) -> None:
        """A round has ended: widen the pipe for as long as that makes it faster (where each connection is slow, say).

        Now and then half of what has proved better is taken back, to prove itself again.
        """
        rate_bytes_s = self._round_rate_bytes_s
        if self._is_probing and rate_bytes_s <= WIDTH_GAIN * self._proved_rate_bytes_s:
            self._is_probing, self._rounds_to_probe = False, PROBE_ROUNDS
        elif self._is_probing:
            self._proved_width, self._proved_rate_bytes_s = min(self.width, self._width_max), rate_bytes_s
        elif self.is_full and self.in_flight + 1 >= self.width:  # else it was the reader's pace
            self._proved_rate_bytes_s = rate_bytes_s
            self._rounds_to_probe -= 1
            if self._rounds_to_probe == 1:
                self._proved_width = max(self._proved_width // 2, WIDTH_START)
            self._is_probing = not self._rounds_to_probe

    # -- what it says --------------------------------------------------------------------------------

    @property
    def latency_s(self) -> float:
        """From the start of a fetch to its first byte; 0 before anything is known."""
        return 0.0 if self._probe_s is None else self._without_transfer(self._probe_bytes, self._probe_s)

    @property
    def pipe_bytes(self) -> float:
        """The bandwidth-delay product."""
        return self.bandwidth_bytes_s * self.latency_s

    @property
    def width(self) -> int:
        """How many requests of readahead should be in flight."""
        width = max(self._proved_width, math.ceil(IN_FLIGHT_PIPES * self.pipe_bytes / PIECE_BYTES_MAX) + 1)
        if self._is_long or self._may_be_long:
            width = max(width, WIDTH_FILLING)
        return min(2 * width if self._is_probing else width, WIDTH_MAX)

    @property
    def _is_long(self) -> bool:
        """Whether the pipe holds more than a few pieces, however large."""
        if PIECE_PIPES * self.pipe_bytes < WIDTH_START * PIECE_BYTES_MAX:
            return False  # then pieces grow, not their number
        return len(self._durations_s) == FULL_FETCHES and max(self._durations_s) <= 2 * self.latency_s

    @property
    def _may_be_long(self) -> bool:
        """Whether nothing is known but that it is far, or that it takes several besides: who stands in line until
        another's request has come waits twice as long.  (What is asked for by then is bounded by what a reader is
        lent.)"""
        is_far = self.latency_s * BANDWIDTH_BYTES_S_START > WIDTH_START * PIECE_BYTES_MAX
        return is_far and (not self.bandwidth_bytes_s or (self._takes_several and self._is_starting))

    def window_bytes(self, share_bytes: int) -> int:
        """The largest window of one stream, at most *share_bytes*."""
        piece = self._piece_bytes_at(self._sharing_width)
        window = max(WINDOW_PIPES * self.pipe_bytes, WINDOW_PIECES * self._sharing_width * piece)
        if not self.is_full:  # what was measured may be the reader's pace
            window = max(window, WINDOW_BYTES_START)
        return int(min(window, WINDOW_BYTES_MAX, share_bytes))

    def piece_bytes(self, window_bytes: int) -> int:
        """How much one request of a window asks for."""
        if not self.pipe_bytes:
            return min(PIECE_BYTES_START, window_bytes)
        width = self._sharing_width
        piece = max(min(self._piece_bytes_at(width), window_bytes / (WINDOW_PIECES * width)), PIECE_BYTES_MIN)
        return min(math.ceil(piece / PIECE_BYTES_UNIT) * PIECE_BYTES_UNIT, window_bytes)

    @property
    def takes_many(self) -> bool:
        """Whether the store takes more requests than there are anyway."""
        return self._width_max > WIDTH_START

    @property
    def start_bytes_max(self) -> float:
        """The largest request while the pipe is not known to be full: where connections are slow, a large one comes
        late, and more of them make up for small ones, if the store takes more."""
        if self.is_full or not self.takes_many or not (self.stream_bytes_s and self.latency_s):
            return PIECE_BYTES_MAX
        return start_piece_bytes(self.stream_bytes_s, self.latency_s)

    def _piece_bytes_at(self, width: int) -> float:
        piece = min(PIECE_PIPES * self.pipe_bytes / width, self.start_bytes_max)
        return min(max(piece, PIECE_BYTES_MIN), PIECE_BYTES_MAX)

    @property
    def _sharing_width(self) -> int:
        """How many requests have at least to be in flight, or are for a round."""
        return min(2 * self._proved_width if self._is_probing else self._proved_width, WIDTH_MAX)
