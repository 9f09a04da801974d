"""MemoryStore: objects, versions, and what becomes of whoever has a replaced one open."""

from __future__ import annotations

import errno

from tests.stores.reading import DATA, OTHER, fill, opened, raises_errno, read_whole

import pagein
from pagein.stores import MemoryStore


def test_an_object_reads_as_its_bytes() -> None:
    store = MemoryStore({"a": DATA, "empty": b""})
    with pagein.PageCache("16M", debug=True) as cache:
        assert read_whole(cache, (store, "a")) == DATA
        assert read_whole(cache, (store, "empty")) == b""


def test_put_keeps_a_copy() -> None:
    data = bytearray(b"before")
    store = MemoryStore()
    store.put("a", data)
    data[:] = b"after!"
    with opened((store, "a")) as version:
        assert fill(version, 6, 0) == b"before"


def test_each_put_is_a_version_even_of_equal_bytes() -> None:
    store = MemoryStore({"a": DATA})
    with opened((store, "a")) as first:
        store.put("a", DATA)
        with opened((store, "a")) as second:
            assert first.version != second.version
            assert fill(second, 10, 0) == DATA[:10]
        with raises_errno(errno.ESTALE, first.version):
            fill(first, 10, 0)


def test_a_deleted_object_is_stale_for_who_has_it_open_and_missing_for_who_opens_it() -> None:
    store = MemoryStore({"a": DATA})
    with opened((store, "a")) as version:
        store.delete("a")
        with raises_errno(errno.ESTALE, "deleted"):
            fill(version, 10, 0)
    with raises_errno(errno.ENOENT):
        store.source("a").open()
    with raises_errno(errno.ENOENT):
        store.delete("a")


def test_what_lies_above_objects_is_a_directory() -> None:
    store = MemoryStore({"d/a": DATA, "dd": DATA})
    for path in ("d", "d/", ""):
        with raises_errno(errno.EISDIR):
            store.source(path).open()


def test_a_changed_object_never_mixes_with_what_is_cached() -> None:
    store = MemoryStore({"a": DATA})
    with pagein.PageCache("16M", debug=True) as cache, cache.open((store, "a")) as file:
        assert file.pread(4096, 0) == DATA[:4096]
        store.put("a", OTHER)
        with raises_errno(errno.ESTALE):
            file.pread(len(DATA), 0)
        assert read_whole(cache, (store, "a")) == OTHER
        assert file.pread(4096, 0) == DATA[:4096]


def test_equal_paths_of_one_store_are_one_object_and_of_two_stores_two() -> None:
    one, other = MemoryStore(), MemoryStore()
    assert one.source("a").key == one.source("a").key
    assert one.source("a").key != one.source("b").key
    assert one.source("a").key != other.source("a").key
