"""Stores that are not obstore's, and those who take a store: obspec-utils' wrappers, readers and registry."""

from __future__ import annotations

import asyncio
import errno
import random
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from obspec_utils.readers import BlockStoreReader, BufferedStoreReader, EagerStoreReader
from obspec_utils.registry import ObjectStoreRegistry
from obspec_utils.wrappers import SplittingReadableStore
from obstore.store import HTTPStore, MemoryStore, S3Store
from tests.forking import in_child

import pagein
from pagein.integrations.obspec import CachedStore
from pagein.integrations.obspec.asking import OtherAsker

DATA = random.Random(1).randbytes(300_001)


class Own:
    """A store as somebody might write it, that counts what it is asked."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked: list[str] = []
        self.error: Exception | None = None

    def head(self, path: str) -> Any:
        self.asked.append("head")
        if path != "a":
            raise FileNotFoundError(path)
        modified = datetime(2026, 1, 1, tzinfo=UTC)
        return {"path": path, "size": len(self.data), "e_tag": None, "last_modified": modified, "version": None}

    def get_range(self, path: str, *, start: int, end: int | None = None, length: int | None = None) -> memoryview:
        self.asked.append("get_range")
        if self.error is not None:
            raise self.error
        stop = start + length if length is not None else end
        return memoryview(self.data)[start:stop]


class OwnAsync:
    """The same for asyncio only."""

    def __init__(self, store: Own) -> None:
        self.store = store

    async def head_async(self, path: str) -> Any:
        await asyncio.sleep(0)
        return self.store.head(path)

    async def get_range_async(self, path: str, *, start: int, end: Any = None, length: Any = None) -> memoryview:
        await asyncio.sleep(0)
        return self.store.get_range(path, start=start, end=end, length=length)


@pytest.fixture
def cache() -> Iterator[pagein.PageCache]:
    with pagein.PageCache("4 MiB", debug=True) as cache:
        yield cache


@pytest.mark.parametrize("make", [lambda own: own, OwnAsync], ids=["sync", "async"])
def test_any_store_with_head_and_ranges_is_read_through_the_cache(
    make: Callable[[Own], Any], cache: pagein.PageCache
) -> None:
    own = Own(DATA)
    store = CachedStore(make(own), cache=cache)
    assert store.get("a").bytes() == DATA
    assert own.asked == ["head", "get_range"]
    assert asyncio.run(store.get_ranges_async("a", starts=[5, 9], lengths=[3, 4])) == [DATA[5:8], DATA[9:13]]
    assert store.get("a", options={"range": {"suffix": 7}}).bytes() == DATA[-7:]
    assert own.asked == ["head", "get_range"]
    with pytest.raises(FileNotFoundError):
        store.get("none")
    own.data = DATA[:1000]
    store.forget("a")
    assert store.get("a").bytes() == DATA[:1000]


def test_a_look_that_finds_the_same_keeps_the_pages(cache: pagein.PageCache) -> None:
    own = Own(DATA)
    store = CachedStore(own, cache=cache, revalidate="always")
    assert store.get("a").bytes() == store.get("a").bytes() == DATA
    assert own.asked == ["head", "get_range", "head"]


def test_what_a_store_of_ones_own_raises_or_withholds_is_an_oserror(cache: pagein.PageCache) -> None:
    own = Own(DATA)
    store = CachedStore(own, cache=cache)
    assert store.head("a")["size"] == len(DATA)
    own.data = DATA[:10]
    with pytest.raises(OSError, match="10") as raised:
        store.get_range("a", start=0, end=100)
    assert raised.value.errno == errno.EIO

    own.error = LookupError("no such thing")
    store.forget("a")
    with pytest.raises(OSError, match="no such thing"):
        store.get_range("a", start=0, end=5)


def test_a_look_from_before_a_write_is_not_what_is_known_after_it(cache: pagein.PageCache) -> None:
    own = Own(DATA)
    is_asked, may_answer = threading.Event(), threading.Event()

    def head(path: str) -> Any:
        meta = Own.head(own, path)
        if own.data is DATA:
            is_asked.set()
            may_answer.wait(10)
        return meta

    own.head = head  # type: ignore[method-assign]
    store = CachedStore(own, cache=cache)
    thread = threading.Thread(target=store.head, args=("a",))
    thread.start()
    assert is_asked.wait(10)
    own.data = DATA[:1000]
    store.forget("a")  # as after a put
    assert store.head("a")["size"] == 1000
    store.forget("a")
    may_answer.set()
    thread.join()
    assert store.head("a")["size"] == 1000


class HeldUp(Own):
    """The first look that comes while it holds is answered late, with what was there when it came."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.holds = False
        self.is_asked, self.may_answer = threading.Event(), threading.Event()

    def head(self, path: str) -> Any:
        meta = super().head(path)
        if self.holds:
            self.holds = False
            self.is_asked.set()
            assert self.may_answer.wait(10)
        return meta


class Line(list[Any]):
    """Of those who wait, that tells when another comes."""

    def __init__(self, those: list[Any]) -> None:
        super().__init__(those)
        self.has_grown = threading.Semaphore(0)

    def append(self, one: Any) -> None:
        super().append(one)
        self.has_grown.release()


@pytest.mark.parametrize("make", [lambda own: own, OwnAsync], ids=["sync", "async"])
@pytest.mark.parametrize(("revalidate", "newest"), [("always", True), (1e-9, True), (3600, False)])
def test_nobody_gets_the_answer_of_a_look_that_began_longer_ago_than_it_may_be_old(
    make: Callable[[Own], Any], revalidate: Any, newest: bool, cache: pagein.PageCache
) -> None:
    own = HeldUp(DATA)
    store = CachedStore(make(own), cache=cache, revalidate=revalidate)
    assert store.head("a")["size"] == len(DATA)
    store.forget("a")
    own.holds = True
    sizes: dict[str, int] = {}
    threads = [
        threading.Thread(target=lambda name=name: sizes.update({name: store.head("a")["size"]})) for name in "xyz"
    ]
    threads[0].start()
    assert own.is_asked.wait(10)
    own.data = DATA[:1000]
    look = store._known._looks["a"]
    look.waiters = line = Line(look.waiters)  # nobody else comes to it in this moment
    for thread in threads[1:]:
        thread.start()
    for _ in threads[1:]:
        assert line.has_grown.acquire(timeout=10)
    own.may_answer.set()
    for thread in threads:
        thread.join(10)
    assert sizes == {"x": len(DATA), **dict.fromkeys("yz", 1000 if newest else len(DATA))}
    assert own.asked.count("head") == (3 if newest else 2)  # of those who came meanwhile one looks for both


def test_a_forked_child_reads_with_a_cache_of_its_own(cache: pagein.PageCache) -> None:
    own = Own(DATA)
    store = CachedStore(own, cache=cache)
    assert store.get("a").bytes() == DATA

    def check() -> None:
        assert store.get_range("a", start=5, end=2000) == DATA[5:2000]
        store.forget("a")
        assert store.get("a").bytes() == DATA

    in_child(check)
    assert store.get("a").bytes() == DATA


def test_it_goes_over_and_under_the_wrappers_of_obspec_utils(cache: pagein.PageCache) -> None:
    bare = MemoryStore()
    bare.put("a", DATA)
    over = CachedStore(SplittingReadableStore(bare), cache=cache)
    under = SplittingReadableStore(CachedStore(bare, cache=cache))
    for store in (over, under):
        assert bytes(store.get("a").buffer()) == DATA
        assert bytes(store.get_range("a", start=9, end=99)) == DATA[9:99]
        assert store.head("a")["size"] == len(DATA)


@pytest.mark.parametrize("kind", [BlockStoreReader, BufferedStoreReader, EagerStoreReader])
def test_the_registry_and_the_readers_of_obspec_utils_take_it(kind: Any, cache: pagein.PageCache) -> None:
    bare = MemoryStore()
    bare.put("d/a", DATA)
    registry = ObjectStoreRegistry({"s3://bucket": CachedStore(bare, cache=cache)})
    store, path = registry.resolve("s3://bucket/d/a")
    reader = kind(store, path)
    assert (reader.read(10), reader.seek(200_000), reader.read(99)) == (DATA[:10], 200_000, DATA[200_000:200_099])
    reader.seek(0)
    assert reader.read() == DATA


def test_a_registry_cuts_off_what_the_store_below_begins_with(cache: pagein.PageCache) -> None:
    """It asks the store for it, and asks for another object if that has none."""
    bare = S3Store("bucket", prefix="data/prefix", region="eu-central-1")
    over_http = HTTPStore.from_url("https://host/data/")
    stores = {"s3://bucket": bare, "https://host": over_http}
    registry = ObjectStoreRegistry({url: CachedStore(store, cache=cache) for url, store in stores.items()})
    uncached = ObjectStoreRegistry(stores)
    for url in ("s3://bucket/data/prefix/a.nc", "https://host/data/a.nc"):
        store, path = registry.resolve(url)
        assert path == uncached.resolve(url)[1] == "a.nc"
        assert isinstance(store, CachedStore)
    cached = CachedStore(bare, cache=cache)
    assert (cached.prefix, cached.config["bucket"]) == ("data/prefix", "bucket")  # type: ignore[attr-defined]
    assert not hasattr(cached, "url")
    with pytest.raises(AttributeError, match="'CachedStore' object has no attribute 'put_if_absent'"):
        cached.put_if_absent  # type: ignore[attr-defined]  # noqa: B018


def test_a_store_that_has_a_cache_gets_no_other(cache: pagein.PageCache) -> None:
    with pytest.raises(TypeError, match="store must be one without a cache, not CachedStore"):
        CachedStore(CachedStore(MemoryStore(), cache=cache))


def test_a_source_says_of_its_store_what_its_operations_say() -> None:
    """All of it, so that a look at it may have its turn in the line of that store."""
    source = OtherAsker(Own(DATA)).source("a")
    ops = source.open().ops
    assert (source.device_key, source.device_name) == (ops.device_key, ops.device_name)
    assert source.requests_max == ops.requests_max
