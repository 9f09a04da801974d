"""PageCache as its users see it: sharing, several caches, what is counted, and what is left when files are gone."""

from __future__ import annotations

import gc
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.file.sources import (
    DATA,
    SMALL_CACHE_BYTES,
    TIMEOUT_S,
    Bytes,
    assert_nothing_left,
    binary,
    charged_pages,
    fetches,
    file_of,
    inode_of,
    open_fds,
)

from pagein import AOP_UPDATED_PAGE, AddressSpaceOperations, File, PageCache
from pagein.mm.openfile import OpenFile
from pagein.mm.page import Page
from pagein.stores import MemoryStore
from pagein.units import PAGE_SIZE

# -- one cache, many files ---------------------------------------------------------------------------


def test_files_of_one_object_share_its_pages_and_not_their_positions(cache: PageCache, path: Path) -> None:
    with binary(cache.open(path)) as first, binary(cache.open(path)) as second:
        assert first.read() == DATA
        fetched_bytes = cache.stats().fetched_bytes
        assert second.tell() == 0
        assert second.read() == DATA
        assert cache.stats().fetched_bytes == fetched_bytes == len(DATA)


def test_pages_stay_when_the_last_file_is_closed_and_serve_the_next(cache: PageCache, path: Path) -> None:
    for _ in range(3):
        with binary(cache.open(path)) as file:
            assert file.read() == DATA
    assert cache.stats().fetched_bytes == len(DATA)


def test_the_cap_holds_over_all_files(small_cache: PageCache) -> None:
    files = [file_of(small_cache, DATA) for _ in range(5)]
    rng = random.Random(1)
    for _ in range(500):
        offset, size = rng.randrange(len(DATA)), rng.randrange(3 * PAGE_SIZE)
        assert rng.choice(files).pread(size, offset) == DATA[offset : offset + size]
        assert small_cache.stats().resident_bytes <= SMALL_CACHE_BYTES


def test_pages_dropped_and_read_again_are_counted_once(small_cache: PageCache) -> None:
    file = file_of(small_cache, DATA)
    file.advise("random")  # so that nothing comes in the background
    for _ in range(3):
        for offset in range(0, len(DATA), PAGE_SIZE):
            file.pread(PAGE_SIZE, offset)
            resident_pages = sum(page_count for _, page_count in file.resident())
            assert charged_pages(small_cache) == resident_pages <= 16
        small_cache.drop()
        assert charged_pages(small_cache) == 0
        assert small_cache.stats().resident_bytes == 0
        file.pread(4 * PAGE_SIZE, 0)
        small_cache.drop()


def test_an_inode_with_a_key_is_found_again_while_its_size_is_the_same(cache: PageCache) -> None:
    ops = Bytes(DATA)
    inode = cache.inode(ops, size_bytes=len(DATA), key="k")
    assert cache.inode(ops, size_bytes=len(DATA), key="k") is inode
    assert cache.inode(ops, size_bytes=len(DATA), key="other") is not inode
    assert cache.inode(ops, size_bytes=len(DATA)) is not cache.inode(ops, size_bytes=len(DATA))
    assert cache.inode(ops, size_bytes=5, key="k").size_bytes == 5


# -- several caches ----------------------------------------------------------------------------------


def test_caches_share_nothing_and_each_keeps_its_own_cap(path: Path) -> None:
    with PageCache(SMALL_CACHE_BYTES, debug=True) as small, PageCache("1 MiB", debug=True) as large:
        with binary(small.open(path)) as through_small, binary(large.open(path)) as through_large:
            assert through_small.read() == through_large.read() == DATA
            assert small.stats().fetched_bytes == large.stats().fetched_bytes == len(DATA)
            assert small.stats().resident_bytes <= SMALL_CACHE_BYTES
            small.close()
            assert through_small.closed
            assert through_large.pread(len(DATA), 0) == DATA
        assert_nothing_left(large)


def test_many_caches_can_be_made_and_closed_and_leave_neither_descriptors_nor_threads(path: Path) -> None:
    with PageCache("1 MiB") as warm, binary(warm.open(path)) as file:
        file.read()
    gc.collect()
    fds, threads = open_fds(), threading.active_count()
    for _ in range(20):
        cache = PageCache("1 MiB", debug=True)
        assert binary(cache.open(path)).read() == DATA  # the file is left to the cache to close
        cache.close()
    gc.collect()
    assert open_fds() <= fds  # fewer, if what another test has left to its workers ended meanwhile
    wait_for(lambda: threading.active_count() <= threads)


def wait_for(condition: Callable[[], bool]) -> None:
    """For ends of threads, which nobody announces."""
    for thread in threading.enumerate():
        if thread.name.startswith(("pagein-io", "pagein-work", "pagein-flush")) and not condition():
            thread.join(TIMEOUT_S)
    assert condition()


# -- what is counted ---------------------------------------------------------------------------------


def test_hits_and_misses_are_reads_and_stay_counted_when_a_file_closes(cache: PageCache) -> None:
    inode, store = inode_of(cache, DATA)
    file = binary(inode.open())
    file.pread(10, 0)
    for _ in range(9):
        file.pread(10, 0)
    file.advise("random")
    file.pread(PAGE_SIZE, 30 * PAGE_SIZE)
    for _ in range(2):  # before it is closed and after, while somebody still refers to it
        stats = cache.stats()
        assert (stats.hits, stats.misses) == (9, 2)
        assert stats.requests == len(store.requests)
        assert stats.pages_read * PAGE_SIZE == stats.fetched_bytes == sum(size for _, size in fetches(store))
        file.close()
    assert file.closed


READS: dict[str, Callable[[File], object]] = {
    "pread": lambda file: file.pread(100, 0),
    "pread of many pages": lambda file: file.pread(5 * PAGE_SIZE, 100),
    "pread beyond the end": lambda file: file.pread(100, len(DATA) - 10),
    "pread of all": lambda file: file.pread(1 << 40, 0),
    "preadinto": lambda file: file.preadinto(bytearray(100), 0),
    "preadinto beyond the end": lambda file: file.preadinto(bytearray(100), len(DATA) - 10),
    "read": lambda file: file.read(),
    "view": lambda file: file.view(100, 0).release(),
    "view beyond the end": lambda file: file.view(100, len(DATA) - 10).release(),
}


@pytest.mark.parametrize("what", READS)
def test_a_read_is_a_miss_if_it_asked_the_store_and_else_a_hit(what: str, cache: PageCache) -> None:
    with file_of(cache, DATA) as file:
        READS[what](file)
        before = cache.stats()
        assert (before.hits, before.misses) == (0, 1)
        for _ in range(5):
            file.seek(0)
            READS[what](file)
        after = cache.stats()
        assert (after.hits, after.misses) == (5, 1)


def test_only_open_files_count_as_open(cache: PageCache, path: Path) -> None:
    files = [binary(cache.open(path)) for _ in range(3)]
    assert cache.stats().open_files == 3
    files[0].close()
    assert cache.stats().open_files == 2
    files.clear()
    assert cache.stats().open_files == 0


# -- dropping ----------------------------------------------------------------------------------------


def test_drop_drops_all_files_or_one(cache: PageCache, path: Path) -> None:
    store = MemoryStore({"a": DATA})
    with binary(cache.open(path)) as on_disk, binary(cache.open((store, "a"))) as in_memory:
        on_disk.read()
        in_memory.read()
        assert cache.drop(path) == 41
        assert (on_disk.resident(), in_memory.resident()) == ([], [(0, 41)])
        assert cache.drop((store, "absent")) == cache.drop(path) == 0
        assert cache.drop() == 41
        assert cache.stats().resident_bytes == 0
        on_disk.seek(0)
        assert on_disk.read() == DATA


def test_what_a_page_has_brought_is_counted_as_soon_as_it_can_be_read(cache: PageCache) -> None:
    """Not when it is unlocked: whoever has read it may look before."""

    class Looking(AddressSpaceOperations):
        def readpage(self, file: OpenFile, page: Page) -> int:
            page.buffer[:] = DATA[page.offset : page.offset + len(page.buffer)]
            page.set_uptodate()
            stats = cache.stats()
            found.append((stats.pages_read, stats.fetched_bytes))
            return AOP_UPDATED_PAGE

    found: list[tuple[int, int]] = []
    with cache.inode(Looking(), size_bytes=len(DATA)).open() as file:
        file.advise("random")
        for number in range(3):
            file.pread(10, number * PAGE_SIZE)
    assert found == [(1, PAGE_SIZE), (2, 2 * PAGE_SIZE), (3, 3 * PAGE_SIZE)]
    assert cache.stats().fetched_bytes == 3 * PAGE_SIZE
