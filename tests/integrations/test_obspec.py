"""`CachedStore` answers what the bare store answers: bytes, errors, results, writes."""

from __future__ import annotations

import asyncio
import copy
import errno
import math
import pickle
import random
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import obspec
import obstore
import pytest
from hypothesis import given, settings, strategies as st
from obspec_utils.protocols import ReadableStore
from obstore.store import LocalStore, MemoryStore, S3Store

import pagein
from pagein.integrations.obspec import CachedStore
from pagein.integrations.obspec.known import KnownObjects

SIZE = 100_003
DATA = random.Random(1).randbytes(SIZE)
OTHER = random.Random(2).randbytes(SIZE + 5)


@pytest.fixture(scope="module")
def cache() -> Iterator[pagein.PageCache]:
    with pagein.PageCache("1 MiB", debug=True) as cache:
        yield cache


@pytest.fixture(scope="module", params=["memory", "local"])
def bare(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    store = MemoryStore() if request.param == "memory" else LocalStore(tmp_path_factory.mktemp("store"))
    store.put("d/a", DATA)
    store.put("empty", b"")
    return store


@pytest.fixture(scope="module")
def store(bare: Any, cache: pagein.PageCache) -> CachedStore:
    return CachedStore(bare, cache=cache)


@runtime_checkable
class All(
    obspec.Get,
    obspec.GetAsync,
    obspec.GetRange,
    obspec.GetRangeAsync,
    obspec.GetRanges,
    obspec.GetRangesAsync,
    obspec.Head,
    obspec.HeadAsync,
    obspec.List,
    obspec.ListAsync,
    obspec.ListWithDelimiter,
    obspec.ListWithDelimiterAsync,
    obspec.Put,
    obspec.PutAsync,
    obspec.Delete,
    obspec.DeleteAsync,
    obspec.Copy,
    obspec.CopyAsync,
    obspec.Rename,
    obspec.RenameAsync,
    Protocol,
):
    """All that obspec describes."""


class EachResult(obspec.GetResult, obspec.GetResultAsync, Protocol):
    """What a get gives."""


def test_it_is_what_obspec_describes(store: CachedStore) -> None:
    """mypy checks the types; here are the names."""
    described: All = store
    result: EachResult = store.get("d/a")
    assert isinstance(described, All)
    assert isinstance(store, ReadableStore)
    assert bytes(result.buffer()) == DATA


offsets = st.integers(min_value=-2, max_value=SIZE + 9000)
places = st.one_of(offsets, st.sampled_from([0, 1, 4095, 4096, 4097, SIZE - 1, SIZE]))
starts = st.integers(min_value=-1, max_value=SIZE - 1)
"""(Of ranges that begin behind the end of a file, obstore's own get_ranges panics.)"""
ranges = st.one_of(
    st.tuples(places, places),
    st.lists(places, min_size=2, max_size=2),
    st.fixed_dictionaries({"offset": places}),
    st.fixed_dictionaries({"suffix": places}),
)


@pytest.fixture(scope="module")
def run() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    with asyncio.Runner() as runner:
        yield runner.run


def outcome(call: Callable[[], Any]) -> Any:
    """What comes of it, an error by its type."""
    try:
        return call()
    except Exception as error:
        return type(error)


def content(result: Any) -> tuple[Any, ...]:
    return bytes(result.bytes()), result.range, result.meta, result.attributes


def outcome_of_get(store: Any, options: Any) -> Any:
    return outcome(lambda: content(store.get("d/a", options=options)))


async def content_async(result: Any) -> tuple[Any, ...]:
    return bytes(await result.bytes_async()), result.range, result.meta, result.attributes


@settings(max_examples=60)
@given(option=ranges, key=st.sampled_from(["d/a", "/d/a", "empty", "none"]))
def test_a_get_is_answered_as_by_the_store(store: CachedStore, bare: Any, run: Any, option: Any, key: str) -> None:
    if option == {"suffix": 0} or key == "/d/a":  # obstore differs between stores; its path says "d/a"
        key = key.removeprefix("/")
    expected = outcome(lambda: content(bare.get(key, options={"range": option})))
    assert outcome(lambda: content(store.get(key, options={"range": option}))) == expected

    async def get() -> Any:
        return await content_async(await store.get_async(key, options={"range": option}))

    assert outcome(lambda: run(get())) == expected


@settings(max_examples=60)
@given(start=places, end=st.none() | places, length=st.none() | places)
def test_a_range_is_answered_as_by_the_store(
    store: CachedStore, bare: Any, run: Any, *, start: int, end: Any, length: Any
) -> None:
    arguments = {"start": start, "end": end, "length": length}
    expected = outcome(lambda: bytes(bare.get_range("d/a", **arguments)))
    assert outcome(lambda: store.get_range("d/a", **arguments)) == expected
    assert outcome(lambda: run(store.get_range_async("d/a", **arguments))) == expected


@settings(max_examples=60)
@given(parts=st.lists(st.tuples(starts, places), max_size=6), by_length=st.booleans(), drops=st.booleans())
def test_ranges_are_answered_as_by_the_store(
    store: CachedStore, bare: Any, run: Any, *, parts: list[tuple[int, int]], by_length: bool, drops: bool
) -> None:
    arguments: dict[str, Any] = {"starts": [start for start, _ in parts]}
    arguments["lengths" if by_length else "ends"] = [other for _, other in parts]
    expected = outcome(lambda: [bytes(one) for one in bare.get_ranges("d/a", **arguments)])
    if drops:
        store.cache.drop()
    assert outcome(lambda: store.get_ranges("d/a", **arguments)) == expected
    assert outcome(lambda: run(store.get_ranges_async("d/a", **arguments))) == expected


@pytest.mark.parametrize("name", ["a b", "f#g", "q?x=1", "50%", "100%25", "ü/é", "日本", "a+b&c=d", "~(x)'!*"])
def test_a_name_is_what_the_store_makes_of_it(name: str) -> None:
    bare = MemoryStore()
    bare.put(name, name.encode())
    bare.put("other", b"other")
    with pagein.PageCache("1 MiB") as cache:
        store = CachedStore(bare, cache=cache)
        assert store.get(name).bytes() == name.encode()
        assert store.head(name) == bare.head(name)
        with cache.open((bare, name)) as file:
            assert file.read() == name.encode()


def test_head_and_lists_are_the_stores(store: CachedStore, bare: Any) -> None:
    assert store.head("d/a") == bare.head("d/a") == asyncio.run(store.head_async("d/a"))
    store.head("d/a")["size"] = 0
    assert store.head("d/a")["size"] == SIZE, "what a caller does to his answer is his affair"
    paths = {"d/a", "empty"}
    assert {meta["path"] for chunk in store.list(chunk_size=1) for meta in chunk} >= paths
    assert store.list_with_delimiter("d") == bare.list_with_delimiter("d")

    async def listed() -> set[str]:
        found = {meta["path"] async for chunk in store.list_async("d") for meta in chunk}
        return found | set((await store.list_with_delimiter_async())["common_prefixes"])

    assert asyncio.run(listed()) == {"d/a", "d"}


def test_a_missing_object_is_the_stores_own_file_not_found(store: CachedStore) -> None:
    for call in (store.get, store.head, lambda path: store.get_range(path, start=0, end=1)):
        with pytest.raises(FileNotFoundError) as raised:
            call("none")
        assert raised.value.errno is None, "obstore's own"
    with pytest.raises(FileNotFoundError):
        asyncio.run(store.get_async("none"))


def test_conditions_are_answered_by_the_store_unless_they_are_surely_met(store: CachedStore, bare: Any) -> None:
    meta = store.head("d/a")
    etag = meta["e_tag"]
    assert etag is not None
    assert store.get("d/a", options={"if_match": etag, "range": (1, 9)}).bytes() == DATA[1:9]
    with pytest.raises(obstore.exceptions.PreconditionError):
        store.get("d/a", options={"if_match": '"another"'})
    with pytest.raises(obstore.exceptions.NotModifiedError):
        store.get("d/a", options={"if_none_match": etag})
    for options in (
        {"if_modified_since": meta["last_modified"] + timedelta(days=1)},
        {"if_unmodified_since": meta["last_modified"] - timedelta(days=1)},
        {"version": "7"},
        {"range": "all of it"},
    ):
        assert outcome_of_get(store, options) == outcome_of_get(bare, options)
    assert bytes(store.get("d/a", options={"if_none_match": '"another"'}).bytes()) == DATA
    assert store.get("d/a", options={"head": True}).meta == meta


def test_a_result_can_be_streamed_and_read_twice_by_both_kinds_of_loop(store: CachedStore) -> None:
    result = store.get("d/a", options={"range": {"offset": 3}})
    assert (result.bytes(), result.bytes(), result.range) == (DATA[3:], DATA[3:], (3, SIZE))
    assert [len(piece) for piece in result.stream(40_000)] == [40_000, 40_000, SIZE - 80_003]
    assert b"".join(result) == DATA[3:]
    assert memoryview(result.bytes()).readonly

    async def streamed() -> bytes:
        return b"".join([piece async for piece in result])

    assert asyncio.run(streamed()) == DATA[3:]
    with pytest.raises(ValueError, match="min_chunk_size must be 1 or more"):
        result.stream(0)


def test_what_lies_behind_the_first_request_is_read_when_it_is_wanted() -> None:
    data = random.Random(3).randbytes(9 << 20)
    bare = MemoryStore()
    bare.put("a", data)
    with pagein.PageCache("4 MiB") as cache:  # smaller than the object
        result = CachedStore(bare, cache=cache).get("a")
        assert result.bytes() == data
        assert b"".join(result.stream(1 << 20)) == data
        assert b"".join(result) == data
        bare.put("a", data[::-1])
        with pytest.raises(OSError, match="changed") as raised:
            result.bytes()
        assert raised.value.errno == errno.ESTALE


def test_bytes_that_are_kept_pin_nothing(bare: Any) -> None:
    with pagein.PageCache("1 MiB", debug=True) as cache:
        store = CachedStore(bare, cache=cache)
        kept = [store.get("d/a").bytes(), store.get_range("d/a", start=0, end=SIZE)]
        assert cache.drop() == -(-SIZE // 4096)
        assert kept == [DATA, DATA]


# -- what is changed ----------------------------------------------------------------------------------------


def test_what_is_written_through_it_is_read_anew(store: CachedStore) -> None:
    def value(path: str) -> Any:
        return outcome(lambda: store.get_range(path, start=0, length=100))

    store.put("w", b"first")
    assert value("w") == b"first"
    store.put("/w/", b"second")  # the same object, as obstore sees it
    assert value("w") == b"second"
    store.copy("w", "x")
    assert value("x") == b"second"
    store.put("w", b"third")
    store.rename("w", "x")
    assert (value("w"), value("x")) == (FileNotFoundError, b"third")
    store.delete(["x"])
    assert value("x") is FileNotFoundError

    async def write() -> None:
        await store.put_async("w", b"fourth")
        assert await store.get_range_async("w", start=0, end=9) == b"fourth"
        await store.put_async("w", b"fifth")
        assert await store.get_range_async("w", start=0, end=9) == b"fifth"
        await store.copy_async("w", "x")
        await store.rename_async("x", "w")
        assert await store.get_range_async("w", start=0, end=9) == b"fifth"
        await store.delete_async("w")
        with pytest.raises(FileNotFoundError):
            await store.head_async("w")

    asyncio.run(write())


def test_a_write_that_fails_may_have_written(store: CachedStore, bare: Any) -> None:
    store.put("w", b"first")
    assert store.get("w").bytes() == b"first"
    bare.put("w", b"second")
    with pytest.raises(obstore.exceptions.AlreadyExistsError):
        store.put("w", b"third", mode="create")
    assert store.get("w").bytes() == b"second"
    bare.put("w", b"fourth")
    store.forget("w")
    assert store.get("w").bytes() == b"fourth"
    store.delete("w")


def test_a_changed_object_is_noticed_when_it_is_fetched_and_answered_whole(store: CachedStore, bare: Any) -> None:
    for data, other in ((DATA, OTHER), (OTHER, DATA)):  # longer, then shorter
        bare.put("c", data)
        store.forget("c")
        assert store.get_range("c", start=0, end=10) == data[:10]
        bare.put("c", other)
        assert store.get_ranges("c", starts=[0, SIZE - 9], lengths=[10, 99]) == [other[:10], other[SIZE - 9 :]]
        assert (store.head("c"), store.get("c").bytes()) == (bare.head("c"), other)
    bare.delete("c")
    store.cache.drop()
    with pytest.raises(FileNotFoundError):
        store.get("c")


def test_a_file_that_is_being_written_in_the_same_cache_is_what_the_store_has(bare: Any) -> None:
    bare.put("f", b"stored")
    with pagein.PageCache("1 MiB", debug=True) as cache:
        store = CachedStore(bare, cache=cache)
        with cache.open((bare, "f"), "r+b") as file:
            file.write(b"written")
            file.flush()
            assert bytes(store.get("f").bytes()) == b"stored"
            assert bytes(store.get_range("f", start=0, end=3)) == b"sto"
            reader = cache.open((bare, "f"))  # for which the file stays one that can be written on
        assert store.get("f").bytes() == b"written"
        with cache.open((bare, "f"), "r+b") as file:
            file.write(b"WRI")
            assert store.get("f").bytes() == b"written", "the version that it has"
            assert reader.read() == b"written"
        assert cache.open((bare, "f")).read() == b"WRItten"
        store.forget("f")
        assert store.get("f").bytes() == b"WRItten"
    bare.delete("f")


# -- how long ---------------------------------------------------------------------------------------------


def test_an_object_is_looked_at_again_when_its_time_is_over(bare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("pagein.integrations.obspec.known.monotonic", lambda: now_s)
    with pagein.PageCache("1 MiB", debug=True) as cache:
        stores = [CachedStore(bare, cache=cache, revalidate=each) for each in (60, "never", "always")]
        bare.put("t", b"old")
        assert [store.get("t").bytes() for store in stores] == [b"old"] * 3
        bare.put("t", b"new")
        assert [store.get("t").bytes() for store in stores] == [b"old", b"old", b"new"]
        now_s = 159.9
        assert stores[0].get_range("t", start=0, end=3) == b"old"
        now_s = 160.0
        assert [store.get("t").bytes() for store in stores] == [b"new", b"old", b"new"]
    bare.delete("t")


@pytest.mark.parametrize(("policy", "lifetime_s"), [("open", 60), ("always", 0), (7, 7), ("never", math.inf)])
def test_by_default_it_looks_as_its_cache_does(policy: Any, lifetime_s: float, bare: Any) -> None:
    with pagein.PageCache("1 MiB", revalidate=policy) as cache:
        assert CachedStore(bare, cache=cache)._known._lifetime_s == lifetime_s


def test_so_many_objects_are_known_at_once_and_the_used_ones_stay(bare: Any, cache: pagein.PageCache) -> None:
    store = CachedStore(bare, cache=cache, objects_max=3)
    for number in range(9):
        bare.put(f"many/{number}", bytes([number]))
        assert store.get(f"many/{number}").bytes() == bytes([number])
        store.head("many/0")
        assert len(store._known) <= 3
    assert store._known.find("many/0") is not None
    assert store.get("many/5").bytes() == b"\5"


# -- what it is -------------------------------------------------------------------------------------------


ELSEWHERE = """
import gc, pickle, sys, weakref
import pagein
one, default = (pickle.load(sys.stdin.buffer) for _ in range(2))
again = pickle.loads(pickle.dumps(one))
assert again == one and again.cache is one.cache is not default.cache is pagein.default_cache()
assert (one.cache.size_bytes, one.cache._freshness.setting, one.objects_max) == (1 << 20, 5.0, 7)
data, cache = one.get("a").bytes(), weakref.ref(one.cache)
sent = pickle.dumps(one)
del one, again
gc.collect()
one = pickle.loads(sent)  # as of the next task
assert one.get("a").bytes() == data and one.cache is cache() and one.cache.stats().requests == 1
sys.stdout.buffer.write(data)
"""


def test_a_copy_has_the_same_cache_and_elsewhere_one_of_the_same_size(tmp_path: Path) -> None:
    bare = LocalStore(tmp_path)
    bare.put("a", DATA)
    with pagein.PageCache("1 MiB", revalidate=5) as cache:
        store = CachedStore(bare, cache=cache, objects_max=7)
        assert store.get("a").bytes() == DATA
        for copied in (pickle.loads(pickle.dumps(store)), copy.copy(store), copy.deepcopy(store)):
            assert copied == store
            assert (copied.cache, copied.revalidate, copied.objects_max) == (cache, None, 7)
            assert copied.get("a").bytes() == DATA
        sent = pickle.dumps(store) + pickle.dumps(CachedStore(bare))
        child = subprocess.run([sys.executable, "-c", ELSEWHERE], input=sent, stdout=subprocess.PIPE, check=True)
        assert child.stdout == DATA
    assert pickle.loads(pickle.dumps(store)).cache is copy.copy(store).cache is cache, "also when it is closed"
    assert pickle.loads(pickle.dumps(CachedStore(bare))).cache is pagein.default_cache()


@pytest.fixture
def own_default(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("pagein.default._cache", None)
    yield
    pagein.default_cache().close()


@pytest.mark.usefixtures("own_default")
def test_in_the_cache_of_the_process_it_goes_on_in_another_once_that_is_closed(
    bare: Any, run: Callable[[Coroutine[Any, Any, Any]], Any]
) -> None:
    store = CachedStore(bare)
    same, code = CachedStore(bare), hash(store)
    first = store.cache
    assert store.get("d/a").bytes() == DATA
    for ask in (
        lambda: store.get_range("d/a", start=5, end=105) == DATA[5:105],
        lambda: store.get("d/a").bytes() == DATA,
        lambda: store.get_ranges("d/a", starts=[5], ends=[105]) == [DATA[5:105]],
        lambda: store.head("d/a")["size"] == SIZE,
        lambda: run(store.get_range_async("d/a", start=5, end=105)) == DATA[5:105],
        lambda: store.put("d/c", b"new") and run(store.put_async("d/c", b"newer")),
        lambda: store.get("d/c").bytes() == b"newer",
    ):
        pagein.default_cache().close()
        assert ask()
    assert store.cache is pagein.default_cache() is not first
    assert store == same
    assert hash(store) == hash(same) == code
    assert store.cache.stats().inodes


@pytest.mark.usefixtures("own_default")
def test_what_is_asked_for_while_that_is_being_closed_is_asked_for_once_more(
    bare: Any, monkeypatch: pytest.MonkeyPatch, run: Callable[[Coroutine[Any, Any, Any]], Any]
) -> None:
    store = CachedStore(bare)
    find = KnownObjects.find

    def close_and_find(self: KnownObjects, path: str) -> Any:
        """Once it has been decided which cache is asked."""
        if self is known:
            self.cache.close()
        return find(self, path)

    monkeypatch.setattr(KnownObjects, "find", close_and_find)
    known = store._known
    assert store.head("d/a")["size"] == SIZE
    known = store._known
    assert run(store.head_async("d/a"))["size"] == SIZE


def test_a_cache_that_was_given_is_no_other_when_it_is_closed(bare: Any) -> None:
    with pagein.PageCache("1 MiB") as given:
        store = CachedStore(bare, cache=given)
    with pytest.raises(ValueError, match="closed"):
        store.get_range("d/a", start=0, end=1)
    assert store.cache is given


def test_its_repr_names_the_store_and_keeps_its_secrets() -> None:
    with pagein.PageCache("1 MiB") as cache:
        assert repr(
            CachedStore(S3Store("b", access_key_id="key", secret_access_key="hidden"), cache=cache, revalidate=5)
        ) == ('CachedStore(S3Store(bucket="b"), revalidate=5)')


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"store": object()}, TypeError, "object has no head: a store of obstore is accepted, or"),
        ({"cache": "1 MiB"}, TypeError, "cache must be a PageCache"),
        ({"revalidate": "open"}, ValueError, 'a number of seconds, "always" or "never", not'),
        ({"revalidate": -1}, ValueError, "a number of seconds"),
        ({"objects_max": 0}, ValueError, "objects_max must be 1 or more"),
    ],
)
def test_what_makes_no_sense_is_told(arguments: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        CachedStore(**{"store": MemoryStore(), **arguments})


def test_a_closed_cache_says_so(bare: Any) -> None:
    cache = pagein.PageCache("1 MiB")
    store = CachedStore(bare, cache=cache)
    assert store.get_range("d/a", start=0, end=3) == DATA[:3]
    cache.close()
    for call in (lambda: store.get("d/a"), lambda: asyncio.run(store.get_async("d/a"))):
        with pytest.raises(ValueError, match="closed"):
            call()
    store.put("w", b"x")
    asyncio.run(store.delete_async("w"))
