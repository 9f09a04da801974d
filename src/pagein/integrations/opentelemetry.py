"""The statistics of a cache as OpenTelemetry metrics.

    instrument(cache)     # with the meter provider of the process, or one that is given

Guarantees: nothing is counted here: observable instruments ask the cache when they are collected; units as UCUM has
them; the attributes are ``cache``, as named here, and ``store``, of which there are as many as a cache reads from.  A
cache that was closed tells its last counts, and that it holds nothing; one that is gone tells nothing, and is not kept
alive.
Assumes: the extra [opentelemetry]; the SDK is the program's own choice.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import TYPE_CHECKING

from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter_provider

from ..default import default_cache
from ..stats import CacheStats

if TYPE_CHECKING:
    from ..cache import PageCache

_COUNTERS = {
    "hits": ("pagein.hits", "{read}", "Reads that were served from the cache alone."),
    "misses": ("pagein.misses", "{read}", "Reads that had to wait for a store."),
    "waits": ("pagein.waits", "{read}", "Reads that waited for a page that another was fetching."),
    "pages_read": ("pagein.pages_read", "{page}", "Pages that stores brought."),
    "fetched_bytes": ("pagein.fetched", "By", "Bytes that stores brought."),
    "written_bytes": ("pagein.written", "By", "Bytes that stores took."),
    "failed_writes": ("pagein.failed_writes", "{write}", "Writes to stores that failed."),
    "evictions": ("pagein.evictions", "{page}", "Pages that were evicted for others."),
    "refaults": ("pagein.refaults", "{page}", "Pages that came back soon after they had been evicted."),
    "drops": ("pagein.drops", "{page}", "Pages that were dropped."),
    "read_ahead": ("pagein.read_ahead", "{page}", "Pages that came without being asked for."),
    "read_ahead_used": ("pagein.read_ahead.used", "{page}", "Pages of those that were read."),
    "read_ahead_unused": ("pagein.read_ahead.unused", "{page}", "Pages of those that went unread."),
}
_GAUGES = {
    "size_bytes": ("pagein.size", "By", "The cap of the cache."),
    "resident_bytes": ("pagein.resident", "By", "Memory that pages take."),
    "dirty_bytes": ("pagein.dirty", "By", "Memory of pages that their store does not have yet."),
    "pinned_bytes": ("pagein.pinned", "By", "Memory of pages that views show."),
    "bookkeeping_bytes": ("pagein.bookkeeping", "By", "Memory that the cache itself takes."),
    "inodes": ("pagein.files", "{file}", "Files that the cache knows."),
    "open_files": ("pagein.open_files", "{file}", "Open files."),
}
_STORE_COUNTERS = {
    "requests": ("pagein.store.requests", "{request}", "Requests to a store."),
    "failed_requests": ("pagein.store.failed_requests", "{request}", "Requests to a store that failed."),
    "retries": ("pagein.store.retries", "{retry}", "How often pagein itself has asked a store once more."),
    "fetched_bytes": ("pagein.store.fetched", "By", "Bytes that a store brought."),
    "latency_sum_s": ("pagein.store.request.duration", "s", "How long requests to a store took, together."),
}
_STORE_GAUGES = {
    "requests_in_flight": ("pagein.store.requests_in_flight", "{request}", "Requests that a store has to answer."),
    "requests_in_line": ("pagein.store.requests_in_line", "{request}", "Requests that wait for their turn."),
    "latency_s": ("pagein.store.latency", "s", "How long a store takes until it answers, as estimated now."),
    "bandwidth_bytes_s": ("pagein.store.bandwidth", "By/s", "How much a store brings, as estimated now."),
}
_ESTIMATES = ("latency_s", "bandwidth_bytes_s")

Observe = Callable[[CallbackOptions], Iterable[Observation]]


def instrument(
    cache: PageCache | None = None, meter_provider: MeterProvider | None = None, *, name: str = "default"
) -> None:
    """Let *cache*, by default `pagein.default_cache()`, be observed through *meter_provider*, by default the process's.

    The default is asked for at each collection.
    *name* is the attribute ``cache`` of what it tells.  OpenTelemetry has no way to end it; a cache that is gone tells
    nothing any more.
    """
    provider = get_meter_provider() if meter_provider is None else meter_provider
    meter = provider.get_meter("pagein", version("pagein"))
    # The process's own is another once it is closed.
    reference: Callable[[], PageCache | None] = default_cache if cache is None else weakref.ref(cache)
    del cache
    for counters, gauges, of in (
        (_COUNTERS, _GAUGES, _of_cache),
        (_STORE_COUNTERS, _STORE_GAUGES, _of_stores),
    ):
        for key, (metric, unit, description) in counters.items():
            meter.create_observable_counter(metric, [_observing(reference, name, key, of)], unit, description)
        for key, (metric, unit, description) in gauges.items():
            meter.create_observable_gauge(metric, [_observing(reference, name, key, of)], unit, description)


def _observing(
    reference: Callable[[], PageCache | None],
    name: str,
    key: str,
    of: Callable[[CacheStats, str, str], list[Observation]],
) -> Observe:
    def observe(options: CallbackOptions) -> list[Observation]:
        cache = reference()
        return [] if cache is None else of(cache._zone.shielded(cache._stats), name, key)

    return observe


def _of_cache(stats: CacheStats, cache: str, key: str) -> list[Observation]:
    return [Observation(getattr(stats, key), {"cache": cache})]


def _of_stores(stats: CacheStats, cache: str, key: str) -> list[Observation]:
    """One for each name of a store, which may be that of several: two buckets with other options, say."""
    by_name: dict[str, list[float]] = {}
    for store in stats.stores:
        by_name.setdefault(store.name, []).append(getattr(store, key))
    return [
        Observation(max(values) if key in _ESTIMATES else sum(values), {"cache": cache, "store": name})
        for name, values in by_name.items()
    ]
