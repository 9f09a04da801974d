"""Bringing bytes into the cache before they are wanted: File.populate, and how much of a file is here."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable

import pytest
from tests.file.sources import DATA, SMALL_CACHE_BYTES, TIMEOUT_S, charged_pages, fetches, file_of, inode_of

from pagein import File, PageCache
from pagein.units import PAGE_SIZE


def test_what_was_populated_is_read_without_a_request(cache: PageCache) -> None:
    inode, store = inode_of(cache, DATA)
    with inode.open() as file:
        assert file.resident_bytes() == 0
        assert file.populate() == len(DATA) == file.resident_bytes()
        fetched = list(fetches(store))
        assert sum(size for _, size in fetched) == len(DATA)
        assert file.read() == DATA
        assert fetches(store) == fetched


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 0), (0, 1), (1, PAGE_SIZE), (PAGE_SIZE - 1, 2), (PAGE_SIZE, None), (len(DATA) - 1, None), (len(DATA) - 1, 99)],
)
def test_a_part_is_populated_and_nothing_beyond_its_pages(cache: PageCache, offset: int, length: int | None) -> None:
    inode, store = inode_of(cache, DATA)
    with inode.open() as file:
        wanted = DATA[offset:] if length is None else DATA[offset : offset + length]
        assert file.populate(offset, length) == len(wanted) == file.resident_bytes(offset, length)
        for start, size in fetches(store):
            assert start >= offset - offset % PAGE_SIZE
            assert start + size < offset + len(wanted) + PAGE_SIZE


@pytest.mark.parametrize("offset", [len(DATA), len(DATA) + 1, 1 << 60])
def test_beyond_the_end_there_is_nothing_to_populate(cache: PageCache, offset: int) -> None:
    inode, store = inode_of(cache, DATA)
    with inode.open() as file:
        assert file.populate(offset) == file.populate(offset, 10) == file.resident_bytes(offset) == 0
        assert not store.requests


def test_no_more_than_half_the_cache_is_populated_so_that_nothing_drives_itself_out(small_cache: PageCache) -> None:
    with file_of(small_cache, DATA) as file:
        half = SMALL_CACHE_BYTES // 2
        assert file.populate() == half == file.resident_bytes(0, half)
        assert small_cache.stats().evictions == 0


def test_pages_that_do_not_come_are_told_to_their_reader_and_to_nobody_else(cache: PageCache) -> None:
    inode, store = inode_of(cache, DATA)
    store.inject("fill", offset_bytes=3 * PAGE_SIZE, times=None, error=OSError(errno.EIO, "page 3 is bad"))
    with inode.open() as file:
        here = file.populate()
        assert here == file.resident_bytes() < len(DATA)
        with pytest.raises(OSError, match="page 3 is bad"):
            file.pread(1, 3 * PAGE_SIZE)
        store.heal()
        assert file.populate() == len(DATA)
        assert file.read() == DATA


def test_a_file_that_is_closed_meanwhile_ends_it_and_leaves_nothing_locked(cache: PageCache) -> None:
    inode, store = inode_of(cache, DATA)
    file = inode.open()
    store.inject("fill", kind="late", times=None)
    outcome: list[object] = []

    def populate() -> None:
        try:
            outcome.append(file.populate())
        except ValueError as error:
            outcome.append(str(error))

    thread = threading.Thread(target=populate)
    thread.start()
    store.wait_for_held()
    file.close()
    store.heal()
    thread.join(TIMEOUT_S)
    assert outcome == ["I/O operation on closed file"]
    inode.open().close()
    assert not cache._zone.locked


def test_eight_threads_that_populate_fetch_each_page_once(cache: PageCache) -> None:
    inode, store = inode_of(cache, DATA)
    with inode.open() as file:
        threads = [threading.Thread(target=file.populate) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT_S)
        assert sum(size for _, size in fetches(store)) == len(DATA)
        assert charged_pages(cache) == -(-len(DATA) // PAGE_SIZE)


@pytest.mark.parametrize("what", [File.populate, File.resident_bytes])
def test_a_bad_range_is_said_by_its_name(cache: PageCache, what: Callable[..., int]) -> None:
    with file_of(cache, DATA) as file:
        with pytest.raises(ValueError, match="offset must be at least 0"):
            what(file, -1)
        with pytest.raises(ValueError, match="length must be at least 0"):
            what(file, 0, -1)
        with pytest.raises(TypeError, match="offset"):
            what(file, "0")
    with pytest.raises(ValueError, match="closed"):
        what(file)
