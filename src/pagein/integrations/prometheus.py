"""The statistics of caches as Prometheus metrics.

    from prometheus_client import REGISTRY
    REGISTRY.register(PageCacheCollector(cache))

Guarantees: nothing is counted here, and nothing is kept: a scrape asks the cache what it knows; base units, ``_total``
for what only grows; the labels are ``cache``, as named here, and ``store``, of which there are as many as a cache reads
from.  A cache that was closed tells its last counts, and that it holds nothing; one that is gone tells nothing, and is
not kept alive.
Assumes: the extra [prometheus].
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ..default import default_cache
from ..stats import LATENCY_BOUNDS_S, CacheStats, StoreStats

if TYPE_CHECKING:
    from ..cache import PageCache

_COUNTERS = {
    "hits": ("pagein_hits", "Reads that were served from the cache alone."),
    "misses": ("pagein_misses", "Reads that had to wait for a store."),
    "waits": ("pagein_waits", "Reads that waited for a page that another was fetching."),
    "pages_read": ("pagein_pages_read", "Pages that stores brought."),
    "fetched_bytes": ("pagein_fetched_bytes", "Bytes that stores brought."),
    "written_bytes": ("pagein_written_bytes", "Bytes that stores took."),
    "failed_writes": ("pagein_failed_writes", "Writes to stores that failed."),
    "evictions": ("pagein_evictions", "Pages that were evicted for others."),
    "refaults": ("pagein_refaults", "Pages that came back soon after they had been evicted."),
    "drops": ("pagein_drops", "Pages that were dropped."),
    "read_ahead": ("pagein_read_ahead_pages", "Pages that came without being asked for."),
    "read_ahead_used": ("pagein_read_ahead_used_pages", "Pages of those that were read."),
    "read_ahead_unused": (
        "pagein_read_ahead_unused_pages",
        "Pages of those that went unread.",
    ),
}
_GAUGES = {
    "size_bytes": ("pagein_size_bytes", "The cap of the cache."),
    "resident_bytes": ("pagein_resident_bytes", "Memory that pages take."),
    "dirty_bytes": ("pagein_dirty_bytes", "Memory of pages that their store does not have yet."),
    "pinned_bytes": ("pagein_pinned_bytes", "Memory of pages that views show."),
    "bookkeeping_bytes": ("pagein_bookkeeping_bytes", "Memory that the cache itself takes."),
    "inodes": ("pagein_files", "Files that the cache knows."),
    "open_files": ("pagein_open_files", "Open files."),
}
_STORE_COUNTERS = {
    "requests": ("pagein_store_requests", "Requests to a store."),
    "failed_requests": ("pagein_store_failed_requests", "Requests to a store that failed."),
    "retries": ("pagein_store_retries", "How often pagein itself has asked a store once more."),
    "fetched_bytes": ("pagein_store_fetched_bytes", "Bytes that a store brought."),
}
_STORE_GAUGES = {
    "requests_in_flight": ("pagein_store_requests_in_flight", "Requests that a store has to answer."),
    "requests_in_line": ("pagein_store_requests_in_line", "Requests that wait for their turn."),
}
_DURATION = ("pagein_store_request_duration_seconds", "How long requests to a store took.")
_CACHE_LABELS, _STORE_LABELS = ("cache",), ("cache", "store")


class PageCacheCollector(Collector):
    """To be registered with a registry of prometheus_client.

    *caches*: one, which is labelled "default"; or several by their names; by default `pagein.default_cache()`,
    which is asked for at each scrape.  A registry takes one collector of the kind.
    """

    def __init__(self, caches: PageCache | Mapping[str, PageCache] | None = None) -> None:
        self._caches: dict[str, Callable[[], PageCache | None]]
        if caches is None:
            self._caches = {"default": default_cache}  # it is another once it is closed
        else:
            named = caches if isinstance(caches, Mapping) else {"default": caches}
            self._caches = {name: weakref.ref(cache) for name, cache in named.items()}

    def describe(self) -> Iterable[Metric]:
        """The metrics, without samples."""
        return _Families().all()

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment."""
        families = _Families()
        for name, reference in self._caches.items():
            cache = reference()
            if cache is not None:
                families.add(name, cache._zone.shielded(cache._stats))
        yield from families.all()


class _Families:
    """The metrics of a scrape."""

    def __init__(self) -> None:
        self._counters = {key: CounterMetricFamily(*of, labels=_CACHE_LABELS) for key, of in _COUNTERS.items()}
        self._gauges = {key: GaugeMetricFamily(*of, labels=_CACHE_LABELS) for key, of in _GAUGES.items()}
        self._store_counters = {
            key: CounterMetricFamily(*of, labels=_STORE_LABELS) for key, of in _STORE_COUNTERS.items()
        }
        self._store_gauges = {key: GaugeMetricFamily(*of, labels=_STORE_LABELS) for key, of in _STORE_GAUGES.items()}
        self._durations = HistogramMetricFamily(*_DURATION, labels=_STORE_LABELS)

    def all(self) -> list[Metric]:
        """All of them."""
        counters = [*self._counters.values(), *self._store_counters.values()]
        return [*counters, *self._gauges.values(), *self._store_gauges.values(), self._durations]

    def add(self, cache: str, stats: CacheStats) -> None:
        """The samples of one cache."""
        for key, counter in self._counters.items():
            counter.add_metric([cache], getattr(stats, key))
        for key, gauge in self._gauges.items():
            gauge.add_metric([cache], getattr(stats, key))
        by_name: dict[str, list[StoreStats]] = {}
        for store in stats.stores:
            by_name.setdefault(store.name, []).append(store)
        for name, stores in by_name.items():  # a name may be that of several: two buckets with other options, say
            for key, counter in self._store_counters.items():
                counter.add_metric([cache, name], sum(getattr(store, key) for store in stores))
            for key, gauge in self._store_gauges.items():
                gauge.add_metric([cache, name], sum(getattr(store, key) for store in stores))
            self._durations.add_metric(
                [cache, name], _buckets(stores), sum_value=sum(store.latency_sum_s for store in stores)
            )


def _buckets(stores: list[StoreStats]) -> list[tuple[str, float]]:
    """How many requests took up to each bound: cumulative, as Prometheus wants them."""
    buckets, total = [], 0
    for bound, counts in zip(
        [*map(str, LATENCY_BOUNDS_S), "+Inf"], zip(*(one.latency_counts for one in stores), strict=True), strict=True
    ):
        total += sum(counts)
        buckets.append((bound, float(total)))
    return buckets
