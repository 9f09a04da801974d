"""`PageCacheCollector`: what a Prometheus server scrapes is what the cache says."""

from __future__ import annotations

import gc
import os
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.openmetrics import exposition, parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

import pagein
from pagein.integrations.prometheus import PageCacheCollector
from pagein.stats import LATENCY_BOUNDS_S
from pagein.stores import MemoryStore
from pagein.testing.stores import ScriptedOps
from pagein.units import PAGE_SIZE

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def cache() -> Iterator[pagein.PageCache]:
    with pagein.PageCache("1 MiB") as cache, cache.open((MemoryStore({"d": os.urandom(10 * PAGE_SIZE)}), "d")) as file:
        file.advise("random")
        for _ in range(3):
            file.pread(2 * PAGE_SIZE, 0)
        yield cache


def samples(text: str) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found, "no sample stands there twice"
            found[key] = sample.value
    return found


def test_a_server_scrapes_what_the_cache_says(cache: pagein.PageCache) -> None:
    registry = CollectorRegistry()
    registry.register(PageCacheCollector(cache))
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=60) as answer:
            found = samples(answer.read().decode())
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    stats, of_cache = cache.stats(), (("cache", "default"),)
    assert found["pagein_hits_total", of_cache] == stats.hits == 2
    assert found["pagein_misses_total", of_cache] == stats.misses == 1
    assert found["pagein_fetched_bytes_total", of_cache] == 2 * PAGE_SIZE
    assert found["pagein_resident_bytes", of_cache] == stats.resident_bytes
    assert found["pagein_size_bytes", of_cache] == 1 << 20
    of_store = (*of_cache, ("store", "memory"))
    (store,) = stats.stores
    assert found["pagein_store_requests_total", of_store] == 1
    assert found["pagein_store_fetched_bytes_total", of_store] == 2 * PAGE_SIZE
    assert found["pagein_store_request_duration_seconds_count", of_store] == 1
    assert found["pagein_store_request_duration_seconds_sum", of_store] == pytest.approx(store.latency_sum_s)
    buckets = [
        found["pagein_store_request_duration_seconds_bucket", (*of_cache, ("le", bound), ("store", "memory"))]
        for bound in [*map(str, LATENCY_BOUNDS_S), "+Inf"]
    ]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 1


def test_what_it_tells_is_openmetrics_too(cache: pagein.PageCache) -> None:
    """Whose parser refuses counters without _total, and histograms whose buckets do not add up."""
    registry = CollectorRegistry()
    registry.register(PageCacheCollector(cache))
    families = list(openmetrics.text_string_to_metric_families(exposition.generate_latest(registry).decode()))
    assert {family.type for family in families} == {"counter", "gauge", "histogram"}


def test_several_caches_have_a_label_each_and_stores_of_one_name_are_one() -> None:
    with pagein.PageCache("1 MiB") as one, pagein.PageCache("2 MiB") as other:
        registry = CollectorRegistry()
        registry.register(PageCacheCollector({"one": one, "other": other}))
        files = [one.inode(ScriptedOps(), size_bytes=PAGE_SIZE).open() for _ in range(2)]  # a device each
        for file in files:
            file.read()
        found = samples(generate_latest(registry).decode())
        assert found["pagein_size_bytes", (("cache", "other"),)] == 2 << 20
        assert found["pagein_store_requests_total", (("cache", "one"), ("store", "ScriptedOps"))] == 2
        assert found["pagein_store_request_duration_seconds_count", (("cache", "one"), ("store", "ScriptedOps"))] == 2


def test_a_closed_cache_tells_its_last_counts_and_one_that_is_gone_tells_nothing() -> None:
    cache = pagein.PageCache("1 MiB")
    with cache.open((MemoryStore({"d": b"x"}), "d")) as file:
        file.read()
    registry = CollectorRegistry()
    registry.register(PageCacheCollector(cache))
    cache.close()
    found = samples(generate_latest(registry).decode())
    assert found["pagein_misses_total", (("cache", "default"),)] == 1
    assert found["pagein_resident_bytes", (("cache", "default"),)] == 0
    del cache, file
    gc.collect()
    assert samples(generate_latest(registry).decode()) == {}


def test_the_cache_of_the_process_is_what_it_tells_of_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    with pagein.PageCache("3 MiB") as cache:
        monkeypatch.setattr("pagein.integrations.prometheus.default_cache", lambda: cache)
        registry = CollectorRegistry()
        registry.register(PageCacheCollector())
        assert samples(generate_latest(registry).decode())["pagein_size_bytes", (("cache", "default"),)] == 3 << 20


def test_it_is_the_one_that_the_process_has_at_the_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pagein.default._cache", None)
    registry = CollectorRegistry()
    registry.register(PageCacheCollector())
    with pagein.default_cache() as first, first.open((MemoryStore({"d": b"x"}), "d")) as file:
        file.read()
        assert samples(generate_latest(registry).decode())["pagein_misses_total", (("cache", "default"),)] == 1
    found = samples(generate_latest(registry).decode())
    with pagein.default_cache() as second:
        assert found["pagein_misses_total", (("cache", "default"),)] == 0
        assert found["pagein_size_bytes", (("cache", "default"),)] == second.size_bytes
