"""fsspec's protocol ``pagein`` in front of S3, if s3fs is installed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest
from tests.stores.moto import moto_server
from tests.stores.reading import DATA, MIB, OTHER

import pagein

pytest.importorskip("s3fs")

NAMES = ["with space", "ha#sh", "quest?ion", "per%20cent%", "Ünï-çødé-文字", "plus+&="]


@pytest.fixture(scope="module")
def options() -> Iterator[dict[str, Any]]:
    with moto_server() as url:
        yield {"endpoint_url": url, "key": "id", "secret": "not-told", "client_kwargs": {"region_name": "us-east-1"}}


def test_a_chain_reads_and_writes_with_the_options_of_its_filesystem(options: dict[str, Any]) -> None:
    with fsspec.open("pagein::s3://bucket/chain/a", "wb", s3=options) as file:
        file.write(DATA)
    with fsspec.open("pagein::s3://bucket/chain/a", s3=options) as file:
        assert file.read() == DATA
    fs, path = fsspec.url_to_fs("pagein::s3://bucket/chain/a", s3=options, pagein={"listings_expiry_time": 60})
    assert fs.cat_ranges([path] * 2, [0, MIB], [9, MIB + 9]) == [DATA[:9], DATA[MIB:][:9]]
    assert not fs.fs.dircache.use_listings_cache
    assert fs.ls("bucket/chain", detail=False) == fs.find("bucket/chain") == fs.glob("bucket/chain/*") == [path]
    fs.pipe_file(path, OTHER)
    assert fs.cat_file(path) == OTHER
    assert fs.info(path)["size"] == len(OTHER)
    fs.cp_file(path, "bucket/chain/b")
    fs.mv(path, "bucket/chain/c")
    assert [name[-1] for name in fs.ls("bucket/chain", detail=False)] == ["b", "c"]
    assert fs.cat_file("bucket/chain/c") == OTHER
    fs.rm("bucket/chain", recursive=True)
    assert not fs.exists("bucket/chain")


def test_a_given_filesystem_with_listings_for_ever_is_asked_anew(options: dict[str, Any]) -> None:
    behind = fsspec.filesystem("s3", **options, skip_instance_cache=True)
    other = fsspec.filesystem("s3", **options, skip_instance_cache=True)
    other.pipe_file("bucket/given/a", b"a")
    with pagein.PageCache("8 MiB") as cache:
        fs = fsspec.filesystem("pagein", fs=behind, cache=cache)
        assert [one["size"] for one in fs.ls("bucket/given")] == [1]
        other.pipe_file("bucket/given/b", b"bb")
        assert [one["size"] for one in fs.ls("bucket/given")] == [1], "kept"
        fs.invalidate_cache()
        assert [one["size"] for one in fs.ls("bucket/given")] == [1, 2]
    other.rm("bucket/given", recursive=True)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_what_they_are(options: dict[str, Any], name: str) -> None:
    fs = fsspec.filesystem("pagein", target_protocol="s3", target_options=options)
    path = f"bucket/names/{name}"
    with fs.open(path, "wb") as file:
        file.write(name.encode())
    assert fs.cat_file(path) == name.encode()
    assert fs.ls("bucket/names", detail=False) == [path]
    fs.rm(path)


def test_an_asynchronous_one_reads_of_an_asynchronous_one(options: dict[str, Any]) -> None:
    async def read() -> None:
        behind = fsspec.filesystem("s3", **options, asynchronous=True, skip_instance_cache=True)
        fs = fsspec.filesystem("pagein", fs=behind, asynchronous=True)
        await fs._pipe_file("bucket/async/a", DATA)
        assert await fs._cat_file("bucket/async/a", 3, 30) == DATA[3:30]
        await fs._rm_file("bucket/async/a")

    asyncio.run(read())
