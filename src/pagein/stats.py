"""What a cache tells of itself: `CacheStats`, and `StoreStats` for each store that it reads from.

Guarantees: values of one moment, frozen; a count is since the cache was made, and never falls; a
store's is since a file of it was opened, and goes when none of its files is remembered any more.
Not here: the counting (mm/), and how it is shown (cli/).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .mm import reclaim
from .mm.device import LATENCY_BOUNDS_S as LATENCY_BOUNDS_S
from .mm.lru import Run, read_ahead_flags, unused_flags
from .mm.readahead import CACHE_SHARE
from .units import PAGE_SHIFT

if TYPE_CHECKING:
    from .mm.device import BackingDevice
    from .mm.zone import Zone


@dataclass(frozen=True)
class StoreStats:
    """One store at one moment: every bucket, host or file system that is being read from is one.

    A *request* is what the store is asked for at once, a page or a run of them, or the first bytes of a file with its
    opening: one, also where a run is brought page by page.  What was let go before the store was asked is none, nor is
    a hole.  It has failed if the store has refused it, or a part of it.  ``retries`` counts how often pagein itself has
    asked once more within one request, or upload (over HTTP and fsspec): obstore's own, and those of looks, it does not
    see.
    ``latency_s`` and ``bandwidth_bytes_s`` are estimates from its own fetches, 0 before there are any; a *window* of
    readahead is at most ``window_bytes`` long, and is asked for in pieces of ``piece_bytes``.  ``fetched_bytes`` is
    what has come, and ``latency_sum_s`` how long all requests that have ended took together.
    """

    name: str
    requests: int
    failed_requests: int
    retries: int
    requests_in_flight: int
    requests_in_line: int
    fetched_bytes: int
    latency_s: float
    bandwidth_bytes_s: float
    window_bytes: int
    piece_bytes: int
    latency_sum_s: float
    latency_counts: tuple[int, ...]
    """How many requests took up to each of `LATENCY_BOUNDS_S`, and, last, longer."""


@dataclass(frozen=True)
class CacheStats:
    """A cache at one moment.  Counts are since it was made.

    ``dirty_bytes`` are in pages that their store does not have yet, or that are on their way to it; ``written_bytes``
    is what stores were given, and took.  ``pinned_bytes`` are in pages that views show: what two of them
    show counts twice.
    ``hits`` and ``misses`` count reads (``hits`` is exact unless threads share one `File`); ``waits`` counts reads
    that waited for a page another was fetching; ``requests`` (see `StoreStats`), ``pages_read`` and ``fetched_bytes``
    what stores were asked and what came; ``evictions`` and ``refaults`` pages.  Of the pages that came without being
    asked for (``read_ahead``), ``read_ahead_used`` have been read since; ``read_ahead_unused`` were evicted or dropped
    before.
    """

    size_bytes: int
    resident_bytes: int
    pinned_bytes: int
    dirty_bytes: int
    bookkeeping_bytes: int
    inodes: int
    open_files: int
    hits: int
    misses: int
    waits: int
    requests: int
    failed_requests: int
    requests_in_flight: int
    pages_read: int
    fetched_bytes: int
    written_bytes: int
    failed_writes: int
    evictions: int
    refaults: int
    drops: int
    lost_races: int
    read_ahead: int
    read_ahead_used: int
    read_ahead_unused: int
    stores: tuple[StoreStats, ...]


COUNTED = (
    "misses", "waits", "requests", "failed_requests", "pages_read", "fetched_bytes", "evictions", "refaults", "drops",
    "lost_races", "read_ahead", "read_ahead_unused", "written_bytes", "failed_writes",
)  # fmt: skip
"""The statistics that a zone counts under these names."""


def cache_stats(zone: Zone, *, size_bytes: int, inodes: int, open_files: int, hits: int) -> CacheStats:
    """Locks: takes the zone's lock."""
    with zone.lock:
        counted = dict(zone.counters)
        used = counted.get("read_ahead_used", 0) + _read_ahead_used(zone)
        devices = list(zone.devices.values())
    stores = tuple(_store_stats(device, zone.cap_pages << PAGE_SHIFT) for device in devices)
    return CacheStats(
        size_bytes=size_bytes,
        resident_bytes=zone.resident_bytes(),
        pinned_bytes=reclaim.pinned_bytes(zone),
        dirty_bytes=sum(mapping.dirty_bytes for mapping in zone.all_mappings()),
        bookkeeping_bytes=zone.planes_bytes() + zone.queues.size_bytes(),
        inodes=inodes,
        open_files=open_files,
        hits=hits,
        requests_in_flight=sum(store.requests_in_flight for store in stores),
        read_ahead_used=used,
        stores=stores,
        **{name: counted.get(name, 0) for name in COUNTED},
    )


def _read_ahead_used(zone: Zone) -> int:
    """Pages that have been used, and have not been looked at by reclaim since."""
    used_pages = 0
    for arena in zone.arenas.values():
        for start, stop in arena.tracked(0, arena.page_count):
            run = Run(arena, start, stop - start)
            used_pages += read_ahead_flags(run).count(1) - unused_flags(run).count(1)
    return used_pages


def _store_stats(device: BackingDevice, cap_bytes: int) -> StoreStats:
    pipe = device.pipe
    window_bytes = pipe.window_bytes(cap_bytes // CACHE_SHARE)
    return StoreStats(
        name=device.name,
        requests=device.requests,
        failed_requests=device.failed_requests,
        retries=device.retries,
        requests_in_flight=device.in_flight,
        requests_in_line=device.queued_count,
        fetched_bytes=device.fetched_bytes,
        latency_s=pipe.latency_s,
        bandwidth_bytes_s=pipe.bandwidth_bytes_s,
        window_bytes=window_bytes,
        piece_bytes=pipe.piece_bytes(window_bytes),
        latency_sum_s=device.latency_sum_s,
        latency_counts=tuple(device.latencies),
    )
