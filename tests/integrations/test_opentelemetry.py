"""`instrument`: what an OpenTelemetry reader collects is what the cache says."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import pagein
from pagein.integrations.opentelemetry import instrument
from pagein.stores import MemoryStore
from pagein.testing.stores import ScriptedOps
from pagein.units import PAGE_SIZE

Points = dict[tuple[str, tuple[tuple[str, Any], ...]], float]


@contextmanager
def provided() -> Iterator[tuple[MeterProvider, InMemoryMetricReader]]:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    try:
        yield provider, reader
    finally:
        provider.shutdown()


def collected(reader: InMemoryMetricReader) -> Points:
    data = reader.get_metrics_data()
    if data is None:
        return {}
    metrics = [metric for of in data.resource_metrics for scope in of.scope_metrics for metric in scope.metrics]
    return {
        (metric.name, tuple(sorted((point.attributes or {}).items()))): point.value  # type: ignore[union-attr]
        for metric in metrics
        for point in metric.data.data_points
    }


def test_a_reader_collects_what_the_cache_says() -> None:
    store = MemoryStore({"d": os.urandom(10 * PAGE_SIZE)})
    with provided() as (provider, reader), pagein.PageCache("1 MiB") as cache, cache.open((store, "d")) as file:
        instrument(cache, provider, name="mine")
        file.advise("random")
        for _ in range(3):
            file.pread(2 * PAGE_SIZE, 0)
        points, of_cache = collected(reader), (("cache", "mine"),)
        stats = cache.stats()
        assert points["pagein.hits", of_cache] == stats.hits == 2
        assert points["pagein.misses", of_cache] == 1
        assert points["pagein.fetched", of_cache] == 2 * PAGE_SIZE
        assert points["pagein.resident", of_cache] == stats.resident_bytes
        of_store = (*of_cache, ("store", "memory"))
        assert points["pagein.store.requests", of_store] == 1
        assert points["pagein.store.fetched", of_store] == 2 * PAGE_SIZE
        assert points["pagein.store.request.duration", of_store] == pytest.approx(stats.stores[0].latency_sum_s)
        file.pread(1, 0)
        assert collected(reader)["pagein.hits", of_cache] == 3


def test_stores_of_one_name_are_one() -> None:
    with provided() as (provider, reader), pagein.PageCache("1 MiB") as cache:
        instrument(cache, provider)
        files = [cache.inode(ScriptedOps(), size_bytes=PAGE_SIZE).open() for _ in range(2)]  # a device each
        for file in files:
            file.read()
        points = collected(reader)
        assert points["pagein.store.requests", (("cache", "default"), ("store", "ScriptedOps"))] == 2


def test_a_closed_cache_tells_its_last_counts_and_one_that_is_gone_tells_nothing() -> None:
    with provided() as (provider, reader):
        cache = pagein.PageCache("1 MiB")
        instrument(cache, provider)
        with cache.open((MemoryStore({"d": b"x"}), "d")) as file:
            file.read()
        cache.close()
        points = collected(reader)
        assert points["pagein.misses", (("cache", "default"),)] == 1
        assert points["pagein.resident", (("cache", "default"),)] == 0
        del cache, file
        gc.collect()
        assert collected(reader) == {}


def test_the_cache_and_the_provider_of_the_process_are_taken_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    with provided() as (provider, reader), pagein.PageCache("3 MiB") as cache:
        monkeypatch.setattr("pagein.integrations.opentelemetry.default_cache", lambda: cache)
        monkeypatch.setattr("pagein.integrations.opentelemetry.get_meter_provider", lambda: provider)
        instrument()
        assert collected(reader)["pagein.size", (("cache", "default"),)] == 3 << 20


def test_the_cache_of_the_process_is_the_one_that_it_has_when_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pagein.default._cache", None)
    with provided() as (provider, reader):
        instrument(meter_provider=provider)
        with pagein.default_cache() as first, first.open((MemoryStore({"d": b"x"}), "d")) as file:
            file.read()
            assert collected(reader)["pagein.misses", (("cache", "default"),)] == 1
        points = collected(reader)
        with pagein.default_cache() as second:
            assert points["pagein.misses", (("cache", "default"),)] == 0
            assert points["pagein.size", (("cache", "default"),)] == second.size_bytes
