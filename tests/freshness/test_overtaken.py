"""Looks that were overtaken: what an object was when the store was asked is not what is known of it by now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import obstore
import pytest
from obstore.store import MemoryStore as ObstoreMemoryStore
from tests.freshness.places import AGE_S, Clock, Place, cache_with, content, errno_of, open_file, read_once
from tests.freshness.test_races import Task

from pagein import PageCache
from pagein.integrations.obspec import CachedStore
from pagein.integrations.obspec.asking import ObstoreAsker
from pagein.stores import MemoryStore
from pagein.stores.object import ObjectSource
from pagein.testing.stores import Gate
from pagein.units import PAGE_SIZE

KNOWN = ["never", AGE_S]


def hold_once(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> Gate:
    """Who calls this method next is answered, and hears of it when the gate is opened."""
    gate, call, is_held = Gate(), getattr(owner, name), [True]

    def held(*arguments: Any) -> Any:
        result = call(*arguments)
        if is_held:
            is_held.pop()
            gate.pass_through()
        return result

    monkeypatch.setattr(owner, name, held)
    return gate


# -- by what is changed past the cache -----------------------------------------------------------------


@pytest.mark.parametrize("revalidate", KNOWN)
def test_a_look_that_began_before_a_save_does_not_say_that_it_is_the_same(
    revalidate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is of what is known, or the first."""
    clock = Clock()
    for is_known in (False, True):
        store = MemoryStore({"a": content(0), "b": content(7)})
        with cache_with(revalidate, clock) as cache:
            if is_known:
                read_once(cache, (store, "a"))
                cache._table.note_written_past(store.source("a").key)  # so that the next looks
            gate = hold_once(monkeypatch, type(store.source("a")), "open")
            looking = Task(lambda cache=cache, store=store: read_once(cache, (store, "a")))  # type: ignore[misc]
            gate.wait_for_arrivals()
            clock.time_s += 1
            with open_file(cache, (store, "b")) as other:
                other.save_as((store, "a"))
            gate.open()
            assert looking.outcome() == content(7), "he has looked again"
            assert read_once(cache, (store, "a")) == content(7)


@pytest.mark.parametrize("revalidate", KNOWN)
def test_a_first_look_that_began_before_a_change_that_is_told_is_not_kept(revalidate: Any) -> None:
    place, gate = Place(), Gate()
    with cache_with(revalidate) as cache:
        place.gate = gate
        looking = Task(lambda: read_once(cache, (place, "")))
        gate.wait_for_arrivals()
        place.put()
        cache._table.forget_changed([place.key])
        gate.open()
        assert looking.outcome() == content(1)
        assert read_once(cache, (place, "")) == content(1)


@pytest.mark.parametrize("revalidate", KNOWN)
def test_a_look_does_not_clear_what_a_fetch_has_found_since_it_began(revalidate: Any) -> None:
    place, clock, gate = Place(), Clock(), Gate()
    with cache_with(revalidate, clock) as cache, open_file(cache, (place, "")) as file:
        file.advise("random")
        file.pread(1, 0)
        clock.time_s += AGE_S
        cache._table.note_written_past(place.key)  # so that the next looks
        clock.time_s += 1
        place.gate = gate
        looking = Task(lambda: open_file(cache, (place, "")))
        gate.wait_for_arrivals()
        place.put()
        clock.time_s += 1
        reader = file._file  # which does not look
        assert errno_of(lambda: cache._zone.workqueue.shielded(lambda: _fetch(reader))) == "ESTALE"
        gate.open()
        looking.outcome().close()
        assert read_once(cache, (place, "")) == content(1)


def _fetch(file: Any) -> None:
    from pagein.mm import filemap

    memory = file.mapping.arena.memory
    parts = filemap.read_parts(file, PAGE_SIZE, 1, lambda start, stop: memory[start:stop])
    filemap.run_parts(file.mapping.zone, parts, waits_here=True)


# -- by who looks through CachedStore, which asks by itself --------------------------------------------


def put(store: ObstoreMemoryStore, data: bytes) -> None:
    obstore.put(store, "a", data)


def test_a_look_of_cachedstore_that_is_older_than_what_is_known_replaces_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = ObstoreMemoryStore()
    put(store, b"first")
    with PageCache("16 MiB", revalidate=60) as cache:
        cached = CachedStore(store, cache=cache)
        gate = hold_once(monkeypatch, ObstoreAsker, "ask")
        looking = Task(lambda: cached.get_range("a", start=0, length=5))
        gate.wait_for_arrivals()
        put(store, b"SECOND")
        with open_file(cache, (store, "a")) as file:
            assert file.read() == b"SECOND"
            gate.open()
            assert looking.outcome() == b"SECON"
            assert file.pread(6, 0) == b"SECOND"
            assert read_once(cache, (store, "a")) == b"SECOND"
        assert cached.get("a").bytes() == b"SECOND"


def test_a_look_of_who_opens_it_that_is_older_than_cachedstores_replaces_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = ObstoreMemoryStore()
    put(store, b"first")
    with PageCache("16 MiB", revalidate=60) as cache:
        cached = CachedStore(store, cache=cache)
        gate = hold_once(monkeypatch, ObjectSource, "open")
        looking = Task(lambda: read_once(cache, (store, "a")))
        gate.wait_for_arrivals()
        put(store, b"SECOND")
        assert cached.get("a").bytes() == b"SECOND"
        gate.open()
        assert looking.outcome() == b"SECOND"
        assert read_once(cache, (store, "a")) == b"SECOND"


def test_a_look_of_cachedstore_that_is_older_than_a_delete_brings_nothing_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = ObstoreMemoryStore()
    put(store, b"first")
    with PageCache("16 MiB", revalidate=60) as cache:
        read_once(cache, (store, "a"))
        gate = hold_once(monkeypatch, ObstoreAsker, "ask")
        looking = Task(lambda: CachedStore(store, cache=cache).get("a").bytes())
        gate.wait_for_arrivals()
        obstore.delete(store, "a")
        cache._table.note_written_past(store_key(store))
        assert errno_of(lambda: open_file(cache, (store, "a"))) == "ENOENT"
        gate.open()
        assert isinstance(looking.outcome(), FileNotFoundError)
        assert errno_of(lambda: open_file(cache, (store, "a"))) == "ENOENT"


def store_key(store: ObstoreMemoryStore) -> Any:
    from pagein.stores.object import source_in_store

    return source_in_store(store, "a").key


@pytest.mark.parametrize("revalidate", [*KNOWN, "open", "always"])
@pytest.mark.parametrize(
    "change",
    [
        lambda cached: cached.put("a", b"SECOND"),
        lambda cached: cached.copy("b", "a"),
        lambda cached: cached.rename("b", "/a"),
        lambda cached: (obstore.put(cached.store, "a", b"SECOND"), cached.forget("a")),
    ],
    ids=["put", "copy", "rename", "forget"],
)
def test_what_is_changed_through_cachedstore_who_opens_it_sees(
    revalidate: Any, change: Callable[[CachedStore], object]
) -> None:
    store = ObstoreMemoryStore()
    put(store, b"first")
    obstore.put(store, "b", b"SECOND")
    with cache_with(revalidate) as cache:
        assert read_once(cache, (store, "a")) == b"first"
        change(CachedStore(store, cache=cache))
        assert read_once(cache, (store, "a")) == b"SECOND"


@pytest.mark.parametrize("revalidate", KNOWN)
def test_what_is_deleted_through_cachedstore_is_gone_for_who_opens_it(revalidate: Any) -> None:
    store = ObstoreMemoryStore()
    put(store, b"first")
    with cache_with(revalidate) as cache:
        assert read_once(cache, (store, "a")) == b"first"
        CachedStore(store, cache=cache).delete(["a"])
        assert errno_of(lambda: open_file(cache, (store, "a"))) == "ENOENT"


def test_a_first_look_through_one_cachedstore_is_overtaken_by_a_put_through_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = ObstoreMemoryStore()
    put(store, b"first")
    with cache_with("never") as cache:
        gate = hold_once(monkeypatch, ObstoreAsker, "ask")
        looking = Task(lambda: CachedStore(store, cache=cache).get("a").bytes())
        gate.wait_for_arrivals()
        CachedStore(store, cache=cache).put("a", b"SECOND")
        gate.open()
        assert looking.outcome() == b"SECOND", "the store itself has answered"
        assert read_once(cache, (store, "a")) == b"SECOND"
    assert not cache._table.looks._aside
