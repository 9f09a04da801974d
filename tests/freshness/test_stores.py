"""What a look costs each store, and what it sees: HTTP, S3, local files, fsspec, memory; also of poor validators."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import obstore
import pytest
from obstore.store import HTTPStore, S3Store
from tests.freshness.places import AGE_S, Clock, cache_with, errno_of, open_file, read_once
from tests.stores.moto import moto_server

from pagein.stores import MemoryStore, http_asking
from pagein.testing.httpserver import RangeServer
from pagein.units import PAGE_SIZE

OLD, NEW = b"o" * (4 * PAGE_SIZE), b"n" * (4 * PAGE_SIZE)
POLICIES = ["open", "always", "never", AGE_S]
READS_LOOK = ["always", AGE_S]


# -- an HTTP server ------------------------------------------------------------------------------------


@pytest.fixture
def objects() -> dict[str, bytes]:
    return {"a": OLD}


@pytest.fixture
def server(objects: dict[str, bytes]) -> Iterator[RangeServer]:
    with RangeServer(objects) as server:
        yield server


def asked(server: RangeServer) -> list[tuple[str, int]]:
    """The (method, status) of each request since the last time."""
    log = [(record.method, int(record.status or 0)) for record in server.stats().log]
    server.reset()
    return log


class Asked(NamedTuple):
    """Of the test below."""

    by_open: list[tuple[str, int]]
    by_open_later: list[tuple[str, int]]
    by_read: list[tuple[str, int]]


SAME = [("GET", 304)]
HTTP_REQUESTS = {
    "open": Asked(SAME, SAME, []),
    "always": Asked(SAME, SAME, SAME),
    "never": Asked([], [], []),
    AGE_S: Asked([], SAME, SAME),
}


@pytest.mark.parametrize("revalidate", POLICIES)
def test_over_http_a_look_is_one_get_that_is_answered_by_304(server: RangeServer, revalidate: Any) -> None:
    clock, expected = Clock(), HTTP_REQUESTS[revalidate]
    with cache_with(revalidate, clock) as cache:
        open_file(cache, server.url("a")).close()
        assert asked(server) == [("GET", 206)]
        with open_file(cache, server.url("a")) as file:
            assert asked(server) == expected.by_open
            clock.time_s += AGE_S
            open_file(cache, server.url("a")).close()
            assert asked(server) == expected.by_open_later
            clock.time_s += AGE_S
            assert file.pread(PAGE_SIZE, 0) == OLD[:PAGE_SIZE]
            assert asked(server) == expected.by_read


@pytest.mark.parametrize("revalidate", POLICIES)
def test_over_http_one_that_has_changed_comes_with_its_first_bytes(
    server: RangeServer, objects: dict[str, bytes], revalidate: Any
) -> None:
    clock = Clock()
    with cache_with(revalidate, clock) as cache, open_file(cache, server.url("a")) as old:
        assert old.read() == OLD
        objects["a"] = NEW
        clock.time_s += AGE_S
        asked(server)
        if revalidate in READS_LOOK:
            assert errno_of(lambda: old.pread(1, 0)) == "ESTALE"
            assert asked(server) == [("GET", 206)]
        else:
            assert old.pread(PAGE_SIZE, 0) == OLD[:PAGE_SIZE]
            assert asked(server) == []
        is_known = revalidate == "never"
        assert read_once(cache, server.url("a")) == (OLD if is_known else NEW)
        opened = {"open": [("GET", 206)], "always": [*SAME, *SAME], "never": [], AGE_S: []}[revalidate]
        assert asked(server) == opened, "the rest was here by then"


def test_over_http_never_is_not_for_ever(server: RangeServer, objects: dict[str, bytes]) -> None:
    """A fetch asks for the version that is known, by If-Match; and the next open looks."""
    with cache_with("never") as cache:
        assert read_once(cache, server.url("a")) == OLD
        objects["a"] = NEW
        cache.drop()
        with open_file(cache, server.url("a")) as file:
            assert errno_of(lambda: file.pread(1, 0)) == "ESTALE"
        asked(server)
        assert read_once(cache, server.url("a")) == NEW
        assert asked(server) == [("GET", 206)]


@pytest.mark.parametrize(
    ("faults", "look"),
    [
        (["no-etag"], [("HEAD", 200)]),
        (["weak-etag"], [("HEAD", 200)]),
        (["no-last-modified"], [("GET", 304)]),
        (["no-etag", "no-head"], [("HEAD", 405), ("GET", 206)]),
        (["no-range"], [("GET", 304)]),
    ],
    ids=["no etag", "weak etag", "no date", "no etag and no head", "no ranges"],
)
@pytest.mark.parametrize("revalidate", POLICIES)
def test_over_http_with_poor_validators_it_is_looked_at_by_what_there_is(
    server: RangeServer, objects: dict[str, bytes], revalidate: Any, faults: list[str], look: list[tuple[str, int]]
) -> None:
    server.faults.set("a", *faults)
    clock = Clock()
    with cache_with(revalidate, clock) as cache, open_file(cache, server.url("a")) as file:
        assert file.read() == OLD
        clock.time_s += AGE_S
        asked(server)
        assert file.pread(PAGE_SIZE, 0) == OLD[:PAGE_SIZE]
        assert asked(server) == (look if revalidate in READS_LOOK else [])
        objects["a"] = NEW
        clock.time_s += AGE_S
        if revalidate in READS_LOOK:
            assert errno_of(lambda: file.pread(1, 0)) == "ESTALE"
        else:
            assert file.pread(PAGE_SIZE, 0) == OLD[:PAGE_SIZE]
        assert read_once(cache, server.url("a")) == (OLD if revalidate == "never" else NEW)


@pytest.mark.parametrize("revalidate", POLICIES)
def test_over_http_with_neither_etag_nor_date_only_the_size_tells_who_has_it_open(
    server: RangeServer, objects: dict[str, bytes], revalidate: Any
) -> None:
    """And who opens it takes it for another, if he looks."""
    server.faults.set("a", "no-etag", "no-last-modified")
    clock = Clock()
    with cache_with(revalidate, clock) as cache, open_file(cache, server.url("a")) as file:
        assert file.read() == OLD
        objects["a"] = NEW
        clock.time_s += AGE_S
        asked(server)
        assert file.pread(PAGE_SIZE, 0) == OLD[:PAGE_SIZE]
        assert asked(server) == ([("HEAD", 200)] if revalidate in READS_LOOK else [])
        clock.time_s += AGE_S
        assert read_once(cache, server.url("a")) == (OLD if revalidate == "never" else NEW)
        objects["a"] = NEW + b"longer"
        clock.time_s += AGE_S
        if revalidate in READS_LOOK:
            assert errno_of(lambda: file.pread(1, 0)) == "ESTALE"


@pytest.mark.parametrize("client", ["ours", "obstore"])
def test_over_http_who_ignores_conditions_is_asked_by_head_from_then_on(
    server: RangeServer, monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    get, ask = obstore.get, http_asking.Asker.asked

    def get_without_condition(store: Any, path: str, *, options: Any) -> Any:
        return get(store, path, options={"range": options["range"]})

    def ask_without_condition(self: http_asking.Asker, method: str, headers: dict[str, str], **options: Any) -> Any:
        return ask(self, method, {name: one for name, one in headers.items() if name != "If-None-Match"}, **options)

    monkeypatch.setattr(obstore, "get", get_without_condition)
    monkeypatch.setattr(http_asking.Asker, "asked", ask_without_condition)
    source: Any = server.url("a")
    if client == "obstore":
        source = HTTPStore.from_url(server.base_url, client_options={"allow_http": True}), "a"
    with cache_with("always") as cache, open_file(cache, source) as file:
        asked(server)
        for _ in range(3):
            assert file.pread(PAGE_SIZE, 0) == OLD[:PAGE_SIZE]
        assert asked(server) == [("GET", 206), ("HEAD", 200), ("HEAD", 200)]


def test_over_http_a_server_that_is_down_is_the_readers_error_if_he_looks(server: RangeServer) -> None:
    with cache_with("always") as cache, open_file(cache, server.url("a"), retry_config={"max_retries": 0}) as file:
        assert file.read() == OLD
        server.faults.set("a", "die")
        assert errno_of(lambda: file.pread(1, 0)) == "EIO"
        server.faults.clear()
        assert file.pread(1, 0) == OLD[:1]


def test_over_http_what_comes_from_the_temporary_file_is_not_seen_at_the_server(
    server: RangeServer, objects: dict[str, bytes]
) -> None:
    """Of a server without ranges."""
    objects["a"] = OLD * 20  # more than comes with an open
    server.faults.set("a", "no-range")
    clock = Clock()
    with cache_with(AGE_S, clock) as cache, open_file(cache, server.url("a")) as file:
        file.advise("random")
        assert file.pread(1, 0) == OLD[:1]
        objects["a"] = NEW * 20
        clock.time_s += AGE_S - 1
        assert file.pread(1, len(OLD) * 10) == OLD[:1]
        clock.time_s += 1
        assert errno_of(lambda: file.pread(1, len(OLD) * 15)) == "ESTALE"


# -- S3 ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.fixture
def bucket(endpoint: str) -> S3Store:
    return S3Store(
        "bucket",
        endpoint=endpoint,
        access_key_id="key",
        secret_access_key="secret",
        region="us-east-1",
        client_options={"allow_http": True},
    )


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What obstore was asked for: each a request, as none has to be tried again."""
    made: list[str] = []
    for name in ("get", "get_async", "head", "head_async", "put", "list"):
        call: Callable[..., Any] = getattr(obstore, name)

        def counted(*arguments: Any, name: str = name, call: Callable[..., Any] = call, **options: Any) -> Any:
            is_conditional = "if_none_match" in (options.get("options") or {})
            made.append(f"{name.removesuffix('_async')}{' if changed' if is_conditional else ''}")
            return call(*arguments, **options)

        monkeypatch.setattr(obstore, name, counted)
    return made


@pytest.mark.parametrize("revalidate", POLICIES)
def test_in_s3_a_look_is_one_conditional_get(bucket: S3Store, calls: list[str], revalidate: Any) -> None:
    obstore.put(bucket, "a", OLD)
    clock, source = Clock(), (bucket, "a")
    look = ["get if changed"]
    with cache_with(revalidate, clock) as cache:
        with open_file(cache, source) as old:
            del calls[:]
            assert read_once(cache, source) == OLD
            assert calls == {"open": look, "always": look * 2, "never": [], AGE_S: []}[revalidate]
            obstore.put(bucket, "a", NEW)
            clock.time_s += AGE_S
            del calls[:]
            if revalidate in READS_LOOK:
                assert errno_of(lambda: old.pread(1, 0)) == "ESTALE"
            else:
                assert old.pread(PAGE_SIZE, 0) == OLD[:PAGE_SIZE]
        assert read_once(cache, source) == (OLD if revalidate == "never" else NEW)
        assert calls == {"open": look, "always": look * 3, "never": [], AGE_S: look}[revalidate]
        obstore.delete(bucket, "a")
        clock.time_s += AGE_S
        if revalidate == "never":
            assert read_once(cache, source) == OLD
        else:
            assert errno_of(lambda: open_file(cache, source)) == "ENOENT"


@pytest.mark.parametrize("revalidate", POLICIES)
def test_in_s3_what_was_written_counts_as_looked_at(bucket: S3Store, calls: list[str], revalidate: Any) -> None:
    with cache_with(revalidate) as cache:
        with cache.open((bucket, "b"), "wb") as file:
            file.write(NEW)
        del calls[:]
        assert read_once(cache, (bucket, "b")) == NEW
        assert calls == {"open": ["head"], "always": ["head", "get if changed"], "never": [], AGE_S: []}[revalidate]


# -- files of this machine, and fsspec -----------------------------------------------------------------


@pytest.mark.parametrize("revalidate", POLICIES)
def test_of_a_local_file_a_look_is_one_stat(tmp_path: Path, revalidate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path, clock = tmp_path / "a", Clock()
    path.write_bytes(OLD)
    with cache_with(revalidate, clock) as cache, open_file(cache, path) as file:
        assert file.read() == OLD
        stats: list[Any] = []
        stat = os.stat

        def counted(path: Any, **options: Any) -> os.stat_result:
            stats.append(path)
            return stat(path, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, "stat", counted)
            patch.setattr(os, "open", None)
            clock.time_s += AGE_S
            assert file.pread(PAGE_SIZE, 0) == OLD[:PAGE_SIZE]
            assert len(stats) == (revalidate in READS_LOOK)
        (tmp_path / "new").write_bytes(NEW)
        (tmp_path / "new").rename(path)
        clock.time_s += AGE_S
        if revalidate in READS_LOOK:
            assert errno_of(lambda: file.pread(1, 0)) == "ESTALE"
        else:
            assert file.pread(PAGE_SIZE, 0) == OLD[:PAGE_SIZE]
        assert read_once(cache, path) == (OLD if revalidate == "never" else NEW)
        path.unlink()
        clock.time_s += AGE_S
        if revalidate != "never":
            assert errno_of(lambda: open_file(cache, path)) == "ENOENT"


def test_of_a_local_file_a_fetch_is_no_look(tmp_path: Path) -> None:
    """A descriptor says nothing of another file that was renamed over it."""
    path, clock = tmp_path / "a", Clock()
    path.write_bytes(OLD)
    with cache_with(AGE_S, clock) as cache, open_file(cache, path) as file:
        file.advise("random")
        assert file.pread(1, 0) == OLD[:1]
        (tmp_path / "new").write_bytes(NEW)
        (tmp_path / "new").rename(path)
        clock.time_s += AGE_S - 1
        assert file.pread(1, PAGE_SIZE) == OLD[:1]
        clock.time_s += 1
        assert errno_of(lambda: file.pread(1, 2 * PAGE_SIZE)) == "ESTALE"
        assert read_once(cache, path) == NEW


@pytest.mark.parametrize("revalidate", POLICIES)
def test_of_a_local_file_that_is_idle_whoever_opens_it_has_to_look(tmp_path: Path, revalidate: Any) -> None:
    """A descriptor says what it is of."""
    path = tmp_path / "a"
    path.write_bytes(OLD)
    with cache_with(revalidate) as cache:
        assert read_once(cache, path) == OLD
        (tmp_path / "new").write_bytes(NEW)
        (tmp_path / "new").rename(path)
        assert read_once(cache, path) == NEW


@pytest.mark.parametrize("revalidate", POLICIES)
def test_over_fsspec_a_look_is_one_info(revalidate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fs, clock = fsspec.filesystem("memory"), Clock()
    fs.pipe_file("/freshness/a", OLD)
    infos: list[str] = []
    info = type(fs).info

    def counted(self: Any, path: str, **options: Any) -> Any:
        infos.append(path)
        return info(self, path, **options)

    monkeypatch.setattr(type(fs), "info", counted)
    try:
        with cache_with(revalidate, clock) as cache, open_file(cache, (fs, "/freshness/a")) as file:
            assert file.read() == OLD
            del infos[:]
            clock.time_s += AGE_S
            assert file.pread(PAGE_SIZE, 0) == OLD[:PAGE_SIZE]
            assert len(infos) == (revalidate in READS_LOOK)
            fs.pipe_file("/freshness/a", NEW)
            clock.time_s += AGE_S
            if revalidate in READS_LOOK:
                assert errno_of(lambda: file.pread(1, 0)) == "ESTALE"
            else:
                assert file.pread(PAGE_SIZE, 0) == OLD[:PAGE_SIZE]
            del infos[:]
            open_file(cache, (fs, "/freshness/a")).close()
            assert len(infos) == (revalidate in ("open", "always"))
            assert read_once(cache, (fs, "/freshness/a")) == (OLD if revalidate == "never" else NEW)
            cache.drop()
            assert (errno_of(lambda: file.pread(1, 0)) == "ESTALE") or revalidate == "always"
            assert read_once(cache, (fs, "/freshness/a")) == NEW
    finally:
        fs.rm("/freshness", recursive=True)


@pytest.mark.parametrize("revalidate", POLICIES)
def test_in_memory(revalidate: Any) -> None:
    store, clock = MemoryStore({"a": OLD}), Clock()
    with cache_with(revalidate, clock) as cache, open_file(cache, (store, "a")) as file:
        assert file.read() == OLD
        store.put("a", NEW)
        clock.time_s += AGE_S
        if revalidate in READS_LOOK:
            assert errno_of(lambda: file.pread(1, 0)) == "ESTALE"
        else:
            assert file.pread(PAGE_SIZE, 0) == OLD[:PAGE_SIZE]
        assert read_once(cache, (store, "a")) == (OLD if revalidate == "never" else NEW)
