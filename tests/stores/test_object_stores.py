"""Objects in obstore's own local and memory stores, and in S3: a moto server in a process of its own."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import LocalStore, MemoryStore, S3Store
from tests.stores.moto import moto_server
from tests.stores.reading import DATA, MIB, OTHER, fill, opened, raises_errno, read_whole

import pagein
from pagein.stores import source_of

pytestmark = pytest.mark.usefixtures("fetches_here")

# -- obstore's memory and local stores ---------------------------------------------------------------


def test_an_object_in_memory_reads_as_its_bytes_and_changes_as_any_other() -> None:
    store = MemoryStore()
    obstore.put(store, "d/a", DATA)
    with pagein.PageCache("16M", debug=True) as cache, cache.open((store, "d/a")) as file:
        assert file.read() == DATA
        assert read_whole(cache, (store, "/d/a")) == DATA
        assert cache.stats().inodes == 1
        cache.drop()
        obstore.put(store, "d/a", OTHER)
        with raises_errno(errno.ESTALE):
            file.pread(100, 0)
        assert read_whole(cache, (store, "d/a")) == OTHER
    for path, number in (("d", errno.EISDIR), ("d/", errno.EISDIR), ("", errno.EISDIR), ("x", errno.ENOENT)):
        with raises_errno(number):
            source_of((store, path)).open()


def test_stores_are_one_if_obstore_says_that_they_are_equal(tmp_path: Path) -> None:
    assert source_of((LocalStore(tmp_path), "a")).key == source_of((LocalStore(tmp_path), "a")).key
    assert source_of((LocalStore(tmp_path), "a")).key != source_of((LocalStore("/"), "a")).key
    assert source_of((MemoryStore(), "a")).key != source_of((MemoryStore(), "a")).key


def test_a_local_object_that_is_rewritten_in_place_gives_estale(tmp_path: Path) -> None:
    """obstore looks at the ETag before it reads; we look again afterwards."""
    (tmp_path / "a").write_bytes(DATA)
    os.utime(tmp_path / "a", ns=(1, 1))
    with opened((LocalStore(tmp_path), "a")) as version:
        assert fill(version, MIB, 100) == DATA[100 : 100 + MIB]
        assert isinstance(version.ops, object)
        get, get_here = obstore.get_async, obstore.get

        async def get_with_a_writer(*args: Any, **options: Any) -> Any:
            result = await get(*args, **options)
            (tmp_path / "a").write_bytes(OTHER)
            return result

        def get_here_with_a_writer(*args: Any, **options: Any) -> Any:
            result = get_here(*args, **options)
            (tmp_path / "a").write_bytes(OTHER)
            return result

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(obstore, "get_async", get_with_a_writer)
            patch.setattr(obstore, "get", get_here_with_a_writer)
            with raises_errno(errno.ESTALE):
                fill(version, MIB, 100)


def test_an_answer_with_another_range_is_refused_whatever_obstore_lets_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = MemoryStore()
    obstore.put(store, "a", DATA)
    get, get_here = obstore.get_async, obstore.get
    with opened((store, "a")) as version:
        monkeypatch.setattr(obstore, "get_async", lambda *args, options: get(*args, options={"range": (0, 10)}))
        monkeypatch.setattr(obstore, "get", lambda *args, options: get_here(*args, options={"range": (0, 10)}))
        with raises_errno(errno.EIO, "bytes 5-14, which answered with bytes 0-9"):
            fill(version, 10, 5)


def test_errors_of_a_local_store_have_the_errno_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a").write_bytes(DATA)
    for path, number in (("d", errno.EISDIR), ("x", errno.ENOENT), ("d/a/x", errno.ENOTDIR)):
        with raises_errno(number):
            source_of((LocalStore(tmp_path), path)).open()


# -- S3 ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.fixture
def options(moto: str) -> dict[str, Any]:
    return {"endpoint": moto, "region": "us-east-1", "access_key_id": "id", "secret_access_key": "not-told"}


@pytest.fixture
def bucket(options: dict[str, Any]) -> S3Store:
    return S3Store("bucket", client_options={"allow_http": True}, **options)


@pytest.mark.parametrize("key", ["data.bin", "a/b c/d%20e", "ü", "q?x#y", "a+b=c&d", "~(x)'!*"])
def test_an_s3_object_reads_as_its_bytes(bucket: S3Store, options: dict[str, Any], key: str) -> None:
    obstore.put(bucket, key, DATA)
    with pagein.PageCache("16M", debug=True) as cache:
        with cache.open(f"s3://bucket/{key}", **options) as file:
            assert file.pread(MIB, 12_345) == DATA[12_345 : 12_345 + MIB]
            assert file.read() == DATA
            assert file.version.startswith('etag="')
            assert file.name == f"s3://bucket/{key}"
        requests = cache.stats().requests
        assert read_whole(cache, f"s3://bucket/{key}", **options) == DATA
        assert cache.stats().requests == requests


def test_an_s3_object_that_is_overwritten_gives_estale(bucket: S3Store, options: dict[str, Any]) -> None:
    obstore.put(bucket, "changing", DATA)
    with pagein.PageCache("16M", debug=True) as cache:
        with cache.open("s3://bucket/changing", **options) as file:
            assert file.pread(10, 0) == DATA[:10]
            obstore.put(bucket, "changing", OTHER)
            with raises_errno(errno.ESTALE):
                file.pread(10, MIB)
        assert read_whole(cache, "s3://bucket/changing", **options) == OTHER


def test_an_s3_key_that_is_not_there_or_is_a_prefix(bucket: S3Store, options: dict[str, Any]) -> None:
    obstore.put(bucket, "dir/a", DATA)
    for path, number in (
        ("bucket/missing", errno.ENOENT),
        ("no-such-bucket/a", errno.ENOENT),
        ("bucket/dir", errno.EISDIR),
        ("bucket/dir/", errno.EISDIR),
        ("bucket", errno.EISDIR),
        ("bucket/di", errno.ENOENT),
        ("bucket/dir//a", errno.EINVAL),
        ("bucket//dir/a", errno.EINVAL),
    ):
        with raises_errno(number):
            source_of(f"s3://{path}", **options).open()
        with pagein.PageCache("1M") as cache, raises_errno(number):
            cache.open(f"s3://{path}", **options)


def test_the_key_of_an_s3_source_holds_its_options_and_its_name_does_not(options: dict[str, Any]) -> None:
    source = source_of("s3://bucket/a", **options)
    assert source.key == source_of("s3://bucket/a", **dict(reversed(options.items()))).key
    assert source.key != source_of("s3://bucket/a", **{**options, "access_key_id": "other"}).key
    assert "not-told" not in source.name


def test_other_schemes_and_their_spellings() -> None:
    gs = {"skip_signature": True}
    assert source_of("gs://bucket/a/b", **gs).key == source_of("gcs://bucket/a/b", **gs).key
    assert source_of("gs://bucket/a/b", **gs).name == "gs://bucket/a/b"
    az = source_of("az://container/a/b", account_name="me", skip_signature=True)
    assert az.name == "az://container/a/b"
    abfss = source_of("abfss://container@me.dfs.core.windows.net/a/b", skip_signature=True)
    assert abfss.name == "abfss://container@me.dfs.core.windows.net/a/b"
