"""A sequential reader who is faster than his store, at a simulated link: what he asks for, as its pipe says.

Not here: how long it takes (pagein.testing.link); a whole cache (pagein.testing.simulated).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from pagein.mm.pipe import Pipe, Started
from pagein.testing.link import Link, Transfer

MB = 1e6
MIB = 1 << 20
ROOMY = 1 << 40
"""A share that is no limit."""
FIRST_BYTES = 128 << 10
STALL = 20
"""A fetch that stalls takes so many times as long as one of 1 MiB."""


class Store(NamedTuple):
    """What lies before a store: the figures of a `Link`."""

    latency_s: float
    bandwidth_bytes_s: float
    connection_bytes_s: float = math.inf
    connections: int = 64
    jitter: float = 0.0
    stalls: Collection[int] = ()
    errors: Collection[int] = ()

    @property
    def pipe_bytes(self) -> float:
        return self.latency_s * self.bandwidth_bytes_s

    def link(self, seed: int) -> Link:
        stall_s = STALL * (self.latency_s + MIB / self.bandwidth_bytes_s)
        return Link(**self._asdict(), stall_s=stall_s, seed=seed)


@dataclass(eq=False)
class Fetch:
    size_bytes: int
    opens_window: bool
    transfer: Transfer | None = None
    ended_at_s: float = 0.0
    started: Started | None = None


@dataclass
class Scan:
    """A sequential reader who is faster than the store.  He asks for a window when he comes to the last one, each four
    times as large up to the largest, in pieces; up to ``pipe.width`` of them are in flight."""

    store: Store
    share_bytes: int = ROOMY
    seed: int = 0
    head_s: float | None = None
    """How long the HEAD took with which the object was opened: by default, the latency; 0: there was none."""
    first_bytes: int = FIRST_BYTES
    stream_part: float = 0.0
    """How much of what a connection brings alone is known of it from the opening; 0: nothing is."""
    pipe: Pipe = field(default_factory=Pipe)
    now_s: float = 0.0
    windows: list[int] = field(default_factory=list)
    ended: list[Fetch] = field(default_factory=list)
    on_end: Callable[[], object] = lambda: None

    def __post_init__(self) -> None:
        self.link = self.store.link(self.seed)
        self._line: deque[Fetch] = deque()
        self._in_flight: list[Fetch] = []
        head_s = self.store.latency_s if self.head_s is None else self.head_s
        if head_s:
            self.now_s += head_s
            self.pipe.answered(self.now_s, head_s)
        if self.stream_part:
            alone_bytes_s = min(self.store.connection_bytes_s, self.store.bandwidth_bytes_s)
            self.pipe.streamed(self.stream_part * alone_bytes_s)
        self._ask_for_window(min(self.first_bytes, self.share_bytes))

    def run(self, fetch_count: int) -> Scan:
        """Go on until so many fetches have ended."""
        self._begin_queued()
        while len(self.ended) < fetch_count:
            for fetch in self._advance():
                self._end(fetch)
                self._begin_queued()
        return self

    def drain(self) -> None:
        """The reader asks for no more."""
        self._line.clear()
        while self._in_flight:
            for fetch in self._advance():
                fetch.opens_window = False
                self._end(fetch)

    @property
    def window_bytes(self) -> int:
        return self.pipe.window_bytes(self.share_bytes)

    @property
    def piece_bytes(self) -> int:
        return self.pipe.piece_bytes(self.window_bytes)

    def filled_since(self, fetch_count: int) -> float:
        """Which part of the bandwidth was used since so many fetches had ended."""
        of_late = self.ended[fetch_count:]
        seconds = self.ended[-1].ended_at_s - self.ended[fetch_count - 1].ended_at_s
        return sum(fetch.size_bytes for fetch in of_late) / seconds / self.store.bandwidth_bytes_s

    def _ask_for_window(self, window_bytes: int) -> None:
        self.windows.append(window_bytes)
        piece_bytes, left_bytes = self.piece_bytes, window_bytes
        while left_bytes:
            size_bytes = min(piece_bytes, left_bytes)
            self._line.append(Fetch(size_bytes, opens_window=left_bytes == window_bytes))
            left_bytes -= size_bytes

    def _begin_queued(self) -> None:
        while self._line and len(self._in_flight) < self.pipe.width:
            self._begin(self._line.popleft())

    def _begin(self, fetch: Fetch) -> None:
        fetch.transfer = self.link.ask(self.now_s, fetch.size_bytes)
        if fetch.transfer.fails:
            fetch.size_bytes = 0
        fetch.started = self.pipe.started(self.now_s)
        self._in_flight.append(fetch)

    def _end(self, fetch: Fetch) -> None:
        assert fetch.started is not None
        fetch.ended_at_s = self.now_s
        self._in_flight.remove(fetch)
        self.pipe.ended(fetch.started, self.now_s, fetch.size_bytes)
        self.ended.append(fetch)
        if fetch.opens_window:
            self._ask_for_window(min(4 * self.windows[-1], self.window_bytes))
        self.on_end()

    def _advance(self) -> list[Fetch]:
        """To the next moment at which fetches end; those."""
        self.now_s = self.link.advance_to_next()
        return [fetch for fetch in self._in_flight if fetch.transfer and fetch.transfer.done_s <= self.now_s]
