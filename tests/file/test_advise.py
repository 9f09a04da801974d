"""File.advise: what each piece of advice makes the cache ask of a store, and what it leaves alone."""

from __future__ import annotations

import errno
import itertools
import os

import pytest
from tests.file.sources import DATA, binary, fetches, file_of, inode_of, outcome_of

from pagein import PageCache
from pagein.mm import credit
from pagein.reader import Advice
from pagein.testing.leaks import settle
from pagein.testing.stores import PATIENCE_S
from pagein.units import PAGE_SIZE


def test_willneed_reads_in_the_background_and_only_what_was_named(cache: PageCache) -> None:
    inode, store = inode_of(cache, DATA)
    with binary(inode.open()) as file:
        store.inject("fill", kind="late", times=None)
        file.advise("willneed", 4 * PAGE_SIZE, 8 * PAGE_SIZE)  # returns while the store holds the fetch
        store.wait_for_held()
        store.heal()
        assert file.pread(8 * PAGE_SIZE, 4 * PAGE_SIZE) == DATA[4 * PAGE_SIZE : 12 * PAGE_SIZE]
        assert all(4 * PAGE_SIZE <= offset < 12 * PAGE_SIZE for offset, _ in fetches(store))
        assert sum(size for _, size in fetches(store)) == 8 * PAGE_SIZE  # each page once


def test_an_error_of_willneed_reaches_only_the_reader_who_needs_the_page(cache: PageCache) -> None:
    inode, store = inode_of(cache, DATA)
    store.inject("fill", offset_bytes=3 * PAGE_SIZE, times=None, error=OSError(errno.EIO, "the store is broken"))
    with binary(inode.open()) as file:
        file.advise("willneed")
        assert outcome_of(lambda: file.pread(1, 3 * PAGE_SIZE)) == ("raised", OSError, errno.EIO)
        store.heal()
        assert file.pread(len(DATA), 0) == DATA


@pytest.mark.parametrize("forgotten", [True, False], ids=["forgotten", "closed"])
def test_willneed_goes_on_when_the_file_that_asked_for_it_is_closed(forgotten: bool, cache: PageCache) -> None:
    inode, store = inode_of(cache, DATA)
    store.inject("fill", kind="late", times=None)
    file = binary(inode.open())
    file.advise("willneed")
    store.wait_for_held()
    if forgotten:
        del file
    else:
        file.close()
    store.heal()
    with binary(inode.open()) as again:
        again.populate()
        assert sum(size for _, size in fetches(store)) == len(DATA)  # each page once


def test_closing_the_cache_ends_what_willneed_has_begun() -> None:
    cache = PageCache("1 MiB")
    inode, store = inode_of(cache, DATA)
    store.inject("fill", kind="late", times=None)
    with binary(inode.open()) as file:
        file.advise("willneed")
        store.wait_for_held()
    store.heal()
    cache.close()


@pytest.mark.parametrize(
    ("offset", "length", "left"),
    [
        (0, None, []),
        (0, PAGE_SIZE, [(1, 40)]),
        (1, 2 * PAGE_SIZE - 1, [(0, 1), (2, 39)]),  # whole pages only, as posix_fadvise(2)
        (1, PAGE_SIZE, [(0, 41)]),
        (5 * PAGE_SIZE, None, [(0, 5)]),
        (40 * PAGE_SIZE, 123, [(0, 40)]),  # the file's last page counts as whole
        (40 * PAGE_SIZE, 122, [(0, 41)]),
        (1 << 50, None, [(0, 41)]),
        (0, 0, [(0, 41)]),
    ],
)
def test_dontneed_drops_the_whole_pages_of_its_range(
    offset: int, length: int | None, left: list[tuple[int, int]], cache: PageCache
) -> None:
    with file_of(cache, DATA) as file:
        file.read()
        file.advise("dontneed", offset, length)
        assert file.resident() == left
        assert file.pread(len(DATA), 0) == DATA


def test_dontneed_leaves_what_a_view_shows(cache: PageCache) -> None:
    with file_of(cache, DATA) as file, file.view(10, 3 * PAGE_SIZE) as data:
        file.read()
        file.advise("dontneed")
        assert file.resident() == [(3, 1)]
        assert data == DATA[3 * PAGE_SIZE : 3 * PAGE_SIZE + 10]


def test_random_asks_for_no_more_than_was_read_and_normal_reads_ahead_again(cache: PageCache) -> None:
    inode, store = inode_of(cache, os.urandom(64 * PAGE_SIZE))
    with binary(inode.open()) as file:
        file.advise("random")
        for index in range(8):
            file.pread(10, index * PAGE_SIZE)
        assert fetches(store) == [(index * PAGE_SIZE, PAGE_SIZE) for index in range(8)]
        file.advise("dontneed")
        file.advise("normal")
        store.requests.clear()
        for index in range(8):
            file.pread(10, index * PAGE_SIZE)
        assert len(store.requests) < 8


def test_sequential_reads_further_ahead_than_normal(cache: PageCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without having earned it first, be the allowance what it may."""
    monkeypatch.setattr(credit, "ALLOWANCE_BYTES_MAX", 0)
    ahead_pages = {}
    advices: list[Advice] = ["normal", "sequential"]
    for advice in advices:
        inode, _ = inode_of(cache, bytes(1000 * PAGE_SIZE))
        with binary(inode.open()) as file:
            file.advise(advice)
            file.pread(PAGE_SIZE, 0)
            file.pread(PAGE_SIZE, PAGE_SIZE)
            assert settle(cache._zone, PATIENCE_S)
            ahead_pages[advice] = sum(count for _, count in file.resident()) - 2
    assert ahead_pages == {"normal": 2, "sequential": 18}


def test_a_file_is_read_once_however_it_is_read(cache: PageCache) -> None:
    inode, store = inode_of(cache, DATA)
    with binary(inode.open()) as file:
        for size in itertools.islice(itertools.cycle([1, 100, 5000, 9000]), 40):
            file.read(size)
        file.readline()
        file.view(100, len(DATA) - 100).release()
        assert file.pread(len(DATA), 0) == DATA
    assert sum(size for _, size in fetches(store)) == len(DATA)
