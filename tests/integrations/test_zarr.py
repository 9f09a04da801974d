"""zarr reads and writes a real group through a `CachedStore`."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from obstore.store import HTTPStore, LocalStore, MemoryStore

import pagein
from pagein.integrations.obspec import CachedStore
from pagein.testing.httpserver import RangeServer

zarr = pytest.importorskip("zarr")
from pagein.integrations.zarr import ObjectStore  # noqa: E402

VALUES = np.arange(120 * 100, dtype="i4").reshape(120, 100)


def make_group(store: Any) -> None:
    group = zarr.create_group(zarr.storage.ObjectStore(store))
    group.create_array("plain/x", data=VALUES, chunks=(60, 50))
    group.create_array("sharded", data=VALUES, chunks=(20, 25), shards=(60, 50))


def test_a_group_over_http_is_read_right_and_the_second_time_from_the_cache(tmp_path: Path) -> None:
    make_group(LocalStore(tmp_path))
    with RangeServer(tmp_path) as server, pagein.PageCache("16 MiB", debug=True) as cache:
        bare = HTTPStore.from_url(server.base_url, client_options={"allow_http": True})
        store = CachedStore(bare, cache=cache)

        def read() -> None:
            group = zarr.open_group(ObjectStore(store, read_only=True), mode="r", zarr_format=3)
            assert (group["plain/x"][:] == VALUES).all()
            assert (group["sharded"][::7, 30:60] == VALUES[::7, 30:60]).all()

        read()
        sent = {path: stats.sent_bytes for path, stats in server.stats().by_path.items()}
        sizes = {path: (tmp_path / path).stat().st_size for path in sent if (tmp_path / path).is_file()}
        # Each byte once, but for the page in which a suffix of an object of unknown size begins.
        assert all(sent[path] < sizes[path] + 4096 for path in sizes)
        server.reset()
        read()
        again = server.stats().by_path.keys() & sizes.keys()
        assert not again, "only what is not there is asked for again"


def test_what_zarr_writes_through_it_zarr_reads() -> None:
    with pagein.PageCache("16 MiB", debug=True) as cache:
        bare = MemoryStore()
        store = ObjectStore(CachedStore(bare, cache=cache))
        array = zarr.create_group(store).create_array("x", data=VALUES, chunks=(60, 50))
        assert (array[:] == VALUES).all()
        array[5, 5] = -1
        assert (zarr.open_group(store, mode="r")["x"][5, 5], array[5, 5]) == (-1, -1)
        assert zarr.open_group(zarr.storage.ObjectStore(bare), mode="r")["x"][5, 5] == -1
        with pytest.raises(ValueError, match="read-only"):
            zarr.open_group(store.with_read_only(True), mode="r+")["x"][0, 0] = 1


def test_it_lists_and_answers_as_zarrs_own_store(tmp_path: Path) -> None:
    bare = LocalStore(tmp_path)
    make_group(bare)
    with pagein.PageCache("16 MiB", debug=True) as cache:
        store = ObjectStore(CachedStore(bare, cache=cache))

        async def told_by(one: Any) -> Any:
            prototype = zarr.core.buffer.default_buffer_prototype()
            ranges = [None, *(kind(5) for kind in (zarr.abc.store.OffsetByteRequest, zarr.abc.store.SuffixByteRequest))]
            ranges.append(zarr.abc.store.RangeByteRequest(2, 9))
            parts = await one.get_partial_values(prototype, [("zarr.json", part) for part in ranges])
            return (
                [part.to_bytes() for part in parts],
                await one.get("none", prototype),
                await one.get("plain", prototype),
                (await one.exists("zarr.json"), await one.exists("none"), await one.getsize("zarr.json")),
                sorted([key async for key in one.list()]),
                sorted([key async for key in one.list_prefix("plain")]),
                [sorted([key async for key in one.list_dir(prefix)]) for prefix in ("", "plain", "plain/x", "none")],
            )

        assert asyncio.run(told_by(store)) == asyncio.run(told_by(zarr.storage.ObjectStore(bare)))
        assert pickle.loads(pickle.dumps(store)).store.store == bare
        assert store == ObjectStore(CachedStore(bare, cache=cache)) != store.with_read_only(True)

        async def delete() -> list[str]:
            await store.delete_dir("plain")
            await store.delete("none")
            return [key async for key in store.list_prefix("plain")]

        assert asyncio.run(delete()) == []
    with pytest.raises(TypeError, match="object is no obspec store: it has no get_async"):
        ObjectStore(object())
