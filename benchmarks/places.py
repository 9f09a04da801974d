"""Reads at given places of an object over HTTP, by everybody: what they cost, and what is downloaded in vain.

Guarantees: the seconds of a pass count from before its handle is opened; every pass has a new handle (and pagein a new
cache) and warm connections.  What was downloaded is what the server had counted when nothing was under way any more.
Every byte is compared, when the time has been taken.
Not here: which places (random_reads.py, patterns.py), and how to read (readers.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import sleep
from typing import Any, NamedTuple

import readers
from readers import PAGEIN, RANGES, Open, Places, Read, Remote
from report import duration, times, times_spread
from timing import Spread
from workload import MIB, directory, random_bytes

from pagein.testing.httpserver import RangeServerProcess, ServerStats

FILE_BYTES, LATENCY_S = 64 * MIB, 0.01
QUIET_S = 4 * LATENCY_S
"""So long after the last request, no other follows it."""
BY_TURNS: dict[str, Open] = {PAGEIN: readers.pagein_reads, RANGES: readers.ranges}
"""Those that read some places each by turns; the others, one after the other."""
COLUMNS = ["", "time", "a read", f"over {RANGES}", "downloaded / read", "requests", "wrong reads"]


class Outcome(NamedTuple):
    seconds: float
    sent_bytes: int
    request_count: int
    wrong_reads: int


class Found(NamedTuple):
    """What each candidate's passes over the same places came to."""

    places: Places
    outcomes: dict[str, list[Outcome]]

    def seconds(self, name: str) -> float:
        return median(one.seconds for one in self.outcomes[name])

    def amplification(self, name: str) -> float:
        """Bytes downloaded over bytes read, in the worst pass."""
        return max(one.sent_bytes for one in self.outcomes[name]) / self.places.total_bytes

    def over_ranges(self, name: str) -> Spread:
        """The time, over that of ranges without a cache, round by round."""
        passes = zip(self.outcomes[name], self.outcomes[RANGES], strict=True)
        return Spread.of(one.seconds / other.seconds for one, other in passes)

    def rows(self) -> list[list[str]]:
        """Of a table with `COLUMNS`."""
        return [
            [
                name,
                duration(self.seconds(name)),
                duration(self.seconds(name) / len(self.places.offsets)),
                "" if name == RANGES else times_spread(self.over_ranges(name)),
                times(self.amplification(name)),
                str(round(median(one.request_count for one in passes))),
                str(sum(one.wrong_reads for one in passes)),
            ]
            for name, passes in self.outcomes.items()
        ]

    def data(self) -> dict[str, Any]:
        """For results.json."""
        outcomes = {name: [one._asdict() for one in passes] for name, passes in self.outcomes.items()}
        return {"read_bytes": self.places.total_bytes, "reads": len(self.places.offsets), "outcomes": outcomes}


class Served(NamedTuple):
    """The same bytes under two names, so that the server counts for each of two that read by turns."""

    server: RangeServerProcess
    remote: Remote
    remote_of_ranges: Remote
    data: bytes
    path: Path

    def of(self, name: str) -> Remote:
        return self.remote_of_ranges if name == RANGES else self.remote


@contextmanager
def served() -> Iterator[Served]:
    data = random_bytes(FILE_BYTES)
    with directory() as place:
        path = place / "data"
        path.write_bytes(data)
        (place / "ranges").hardlink_to(path)
        with RangeServerProcess(place, latency_s=LATENCY_S) as server:
            remote, remote_of_ranges = (readers.over_http(server.url(name)) for name in ("data", "ranges"))
            yield Served(server, remote, remote_of_ranges, data, path)


def beside(
    served: Served,
    places: Places,
    peers: Mapping[str, Open],
    *,
    rounds: int,
    then: Callable[[Read], object] | None = None,
) -> Found:
    """Passes of everybody, round by round.  *then* may go on with pagein's reader, when all has been counted."""
    found = Found(places, {})
    for _ in range(rounds):
        _read_all(served, found, BY_TURNS, then=then)
        for name, open_reader in peers.items():
            _read_all(served, found, {name: open_reader})
    return found


def _read_all(
    served: Served, found: Found, opens: Mapping[str, Open], *, then: Callable[[Read], object] | None = None
) -> None:
    """Add the outcomes of a pass by turns."""
    served.server.reset()
    remotes = {name: served.of(name) for name in opens}
    with readers.side_by_side(opens, remotes, found.places) as passes:
        counted = _when_quiet(served.server)
        if then:
            then(passes[PAGEIN].read)
    for name, one in passes.items():
        path = counted.by_path[remotes[name].key]
        wrong_reads = readers.tolerated(name, one.wrong_count(served.data, found.places))
        outcome = Outcome(one.seconds, path.sent_bytes, path.request_count, wrong_reads)
        found.outcomes.setdefault(name, []).append(outcome)


def _when_quiet(server: RangeServerProcess) -> ServerStats:
    """What it counted, when nothing is under way or follows: what was read ahead in vain counts too."""
    before_count = -1
    while True:
        stats = server.stats()
        if stats.request_count == before_count and all(request.t_end_s is not None for request in stats.log):
            return stats
        before_count = stats.request_count
        sleep(QUIET_S)
