"""A simulated link: how long a store takes to answer, if requests share its bandwidth.

    link = Link(latency_s=0.02, bandwidth_bytes_s=100e6, jitter=0.5, stalls=0.01, seed=7)
    transfer = link.ask(now_s, 1 << 20)
    link.done_s(transfer)               # as far as is known by now: who asks later makes it later

Guarantees: pure arithmetic on the times that it is given: no clock, no lock, no wait.  The same requests at the same
times, in the same order, take as long; what befalls a request depends on the seed and on its number only.
Assumes: the caller serialises, and his times do not run backwards.
Model: a request waits for a connection, in the order of asking, then for its latency; then its bytes arrive, and all
that arrive at one time share the bandwidth evenly, none faster than its connection is.
Not here: who waits (simulated.py), whose clock it is (virtual.py).
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .accepted import COUNT, FINITE, RATE, SCHEDULE, Accepted, require

CONNECTIONS = 64
"""Requests at once, unless told otherwise; as many as pagein asks an object store at once."""
STALL_S = 1.0
RESOLUTION_S = 1e-9
"""What would arrive within so long, or before the next time that a float can tell, has arrived."""

Schedule = float | Collection[int]
"""Which requests something befalls: each by this chance; or those of these numbers, the first being 0."""
_ACCEPTED: dict[str, Accepted] = {
    "latency_s": FINITE,
    "bandwidth_bytes_s": RATE,
    "connection_bytes_s": RATE,
    "connections": COUNT,
    "jitter": FINITE,
    "stalls": SCHEDULE,
    "stall_s": FINITE,
    "errors": SCHEDULE,
}


@dataclass(eq=False)
class Transfer:
    """A request on its way."""

    size_bytes: int
    asked_s: float
    delay_s: float
    """From when it has a connection until its first byte arrives."""
    fails: bool
    """Its answer is an error, for which no byte arrives."""
    arrives_s: float = math.inf
    """When its first byte arrives; inf: it has no connection yet."""
    left_bytes: float = 0.0
    done_s: float = math.inf
    """When it was done; inf: it is not yet."""


class Link:
    """What lies between a store and whoever asks it.  All but *seed* may be changed while it is used."""

    def __init__(
        self,
        *,
        latency_s: float = 0.0,
        bandwidth_bytes_s: float = math.inf,
        connection_bytes_s: float = math.inf,
        connections: int = CONNECTIONS,
        jitter: float = 0.0,
        stalls: Schedule = (),
        stall_s: float = STALL_S,
        errors: Schedule = (),
        seed: int = 0,
    ) -> None:
        """*jitter*: the latency of each request is up to so much longer, as a part of it.  *stalls*: these come
        *stall_s* later.  *errors*: these fail, after their latency.

        Raises: ValueError, TypeError for what no link can be; also when it is changed.
        """
        self.latency_s: float = latency_s
        self.bandwidth_bytes_s: float = bandwidth_bytes_s
        self.connection_bytes_s: float = connection_bytes_s
        self.connections: int = connections
        self.jitter: float = jitter
        self.stalls: Schedule = stalls
        self.stall_s: float = stall_s
        self.errors: Schedule = errors
        self._random = random.Random(seed)
        self._asked_count = 0
        self._now_s = 0.0
        self._under_way: list[Transfer] = []
        """In the order of asking."""

    if not TYPE_CHECKING:  # else a type checker lets any name be set

        def __setattr__(self, name, value):
            if name in _ACCEPTED:
                require(name, value, _ACCEPTED[name])
            super().__setattr__(name, value)

    def ask(self, now_s: float, size_bytes: int) -> Transfer:
        """A request begins whose answer, or what is sent with it, is *size_bytes* long."""
        self.advance(now_s)
        draw = self._random.random
        delay_s = self.latency_s * (1 + self.jitter * draw())
        if _strikes(self.stalls, self._asked_count, draw()):
            delay_s += self.stall_s
        fails = _strikes(self.errors, self._asked_count, draw())  # all are drawn always: none changes another
        transfer = Transfer(size_bytes, now_s, delay_s, fails, left_bytes=0.0 if fails else float(size_bytes))
        self._asked_count += 1
        self._under_way.append(transfer)
        self._settle()
        return transfer

    def advance(self, now_s: float) -> None:
        """Let bytes arrive until *now_s*."""
        while self._now_s < now_s:
            self._step(now_s)

    def advance_to_next(self) -> float:
        """Let bytes arrive until something is done; when that is.  Raises: ValueError if nothing is under way."""
        if not self._under_way:
            raise ValueError("nothing is under way")
        before = len(self._under_way)
        while len(self._under_way) == before:
            self._step(math.inf)
        return self._now_s

    def done_s(self, transfer: Transfer) -> float:
        """When *transfer* is done, if nobody asks for more meanwhile."""
        if transfer.done_s < math.inf:
            return transfer.done_s
        ahead = copy(self)
        ahead._under_way = [copy(one) for one in self._under_way]
        own = ahead._under_way[self._under_way.index(transfer)]
        while own.done_s == math.inf:
            ahead._step(math.inf)
        return own.done_s

    def _step(self, until_s: float) -> None:
        """Up to the next moment at which anything begins or ends, or *until_s*."""
        now_s, stop_s = self._now_s, until_s
        arriving: list[Transfer] = []
        for one in self._under_way:
            if one.arrives_s <= now_s:
                arriving.append(one)
            elif one.arrives_s < stop_s:
                stop_s = one.arrives_s
        if arriving:
            rate = min(self.bandwidth_bytes_s / len(arriving), self.connection_bytes_s)
            stop_s = min(stop_s, now_s + min(one.left_bytes for one in arriving) / rate)
            resolution_s = max(RESOLUTION_S, math.ulp(stop_s))
            for one in arriving:
                left_s = one.left_bytes / rate - (stop_s - now_s)
                one.left_bytes = left_s * rate if left_s > resolution_s else 0.0
        self._now_s = stop_s
        self._settle()

    def _settle(self) -> None:
        """Let go those of which all has arrived, and give each of the others a connection, if there is one."""
        while True:
            for one in self._under_way[: self.connections]:
                if one.arrives_s == math.inf:
                    one.arrives_s = self._now_s + one.delay_s
            done = [one for one in self._under_way if one.arrives_s <= self._now_s and not one.left_bytes]
            if not done:
                return
            for one in done:
                one.done_s = self._now_s
                self._under_way.remove(one)


def _strikes(schedule: Schedule, number: int, drawn: float) -> bool:
    return drawn < schedule if isinstance(schedule, float | int) else number in schedule
