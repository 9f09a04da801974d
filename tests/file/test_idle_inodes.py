"""Inodes without a file: kept with their pages for the next open, up to a limit, the longest idle going first."""

from __future__ import annotations

import gc

import pytest
from tests.file.sources import DATA, Bytes, binary, charged_pages, open_fds, operations_of

from pagein import PageCache, cache as cache_module, idle
from pagein.cache import IDLE_INODES_MAX
from pagein.idle import IDLE_FRAMES_MAX, IDLE_WITH_ARENA_MAX
from pagein.mm.arena import SHARED_ARENA_PAGES
from pagein.stores import MemoryStore
from pagein.units import PAGE_SIZE

FEW = 4


@pytest.fixture
def few_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "IDLE_INODES_MAX", FEW)


def test_keyed_inodes_that_nobody_opens_are_bounded(cache: PageCache) -> None:
    ops = Bytes(DATA)
    for number in range(IDLE_INODES_MAX + 300):
        cache.inode(ops, size_bytes=PAGE_SIZE, key=number)
    assert cache.stats().inodes == IDLE_INODES_MAX
    gc.collect()
    cache.stats()  # which sweeps
    (arena,) = cache._zone.arenas.values()
    for number in range(200):  # and they get the frames of those that went
        cache.inode(ops, size_bytes=PAGE_SIZE, key=("again", number))
    assert arena._next_frame <= IDLE_INODES_MAX + 301


@pytest.mark.usefixtures("few_idle")
def test_the_longest_idle_is_forgotten_with_its_pages(cache: PageCache) -> None:
    ops, store = operations_of(DATA)
    for number in range(FEW + 2):
        with cache.inode(ops, size_bytes=PAGE_SIZE, key=number).open() as file:
            file.read()
        if number == FEW - 1:  # the first is used again, and so is not the one to go
            with cache.inode(ops, size_bytes=PAGE_SIZE, key=0).open():
                pass
    cache.stats()
    gc.collect()
    assert cache.stats().inodes == FEW
    assert charged_pages(cache) == FEW
    store.requests.clear()
    for number in (0, 3, 4, 5):
        with cache.inode(ops, size_bytes=PAGE_SIZE, key=number).open() as file:
            assert file.read() == DATA[:PAGE_SIZE]
    assert not store.requests
    with cache.inode(ops, size_bytes=PAGE_SIZE, key=1).open() as file:
        file.read()
    assert len(store.requests) == 1


@pytest.mark.usefixtures("few_idle")
def test_those_that_are_open_do_not_count_and_are_never_forgotten(cache: PageCache) -> None:
    ops = Bytes(DATA)
    inodes = [cache.inode(ops, size_bytes=PAGE_SIZE, key=number) for number in range(FEW)]
    files = [inode.open() for inode in inodes]
    for number in range(100, 100 + 3 * FEW):
        cache.inode(ops, size_bytes=PAGE_SIZE, key=number)
    assert cache.stats().inodes == 2 * FEW
    assert [cache.inode(ops, size_bytes=PAGE_SIZE, key=number) for number in range(FEW)] == inodes
    for file in files:
        file.close()
    assert cache.stats().inodes == FEW


@pytest.mark.usefixtures("few_idle")
def test_one_that_was_forgotten_serves_whoever_still_has_it(cache: PageCache) -> None:
    ops, store = operations_of(DATA)
    kept = cache.inode(ops, size_bytes=PAGE_SIZE, key="kept")
    for number in range(FEW):
        cache.inode(ops, size_bytes=PAGE_SIZE, key=number)
    assert cache.inode(ops, size_bytes=PAGE_SIZE, key="kept") is not kept
    for _ in range(2):
        with binary(kept.open()) as file:
            assert file.read() == DATA[:PAGE_SIZE]
    assert len(store.requests) == 1
    assert cache.stats().inodes == FEW


@pytest.mark.usefixtures("few_idle")
def test_objects_of_stores_are_bounded_in_the_same_way(cache: PageCache) -> None:
    store = MemoryStore({str(number): DATA[:PAGE_SIZE] for number in range(3 * FEW)})
    for number in range(3 * FEW):
        with binary(cache.open((store, str(number)))) as file:
            file.read()
    cache.stats()
    gc.collect()
    assert cache.stats().inodes == FEW
    assert charged_pages(cache) == FEW


DESCRIPTORS = 9
"""Of a file that has an arena of its own."""


def test_large_files_that_were_closed_keep_few_descriptors(cache: PageCache) -> None:
    """And what was used last keeps its pages."""
    ops, store = operations_of(DATA)
    size_bytes = (64 << 30) + 1
    before = len(open_fds())
    for number in range(IDLE_WITH_ARENA_MAX + 8):
        with cache.inode(ops, size_bytes=size_bytes, key=number).open() as file:
            assert file.pread(10, 0) == DATA[:10]
    cache.stats()  # sweeps
    assert len(open_fds()) <= before + (IDLE_WITH_ARENA_MAX + 1) * DESCRIPTORS
    assert cache.stats().inodes == IDLE_WITH_ARENA_MAX
    store.requests.clear()
    with cache.inode(ops, size_bytes=size_bytes, key=number).open() as file:
        assert file.pread(10, 0) == DATA[:10]
    assert not store.requests


def test_large_files_that_were_closed_leave_address_space(cache: PageCache) -> None:
    ops = Bytes(DATA)
    frames = 1 << 24  # of 64 GiB
    for number in range(IDLE_FRAMES_MAX // frames + 2 * SHARED_ARENA_PAGES // frames):
        with cache.inode(ops, size_bytes=33 << 30, key=number).open():
            pass
    small = cache.inode(ops, size_bytes=PAGE_SIZE, key="small")
    assert cache.inode(ops, size_bytes=PAGE_SIZE, key="small") is small
    assert len(cache._zone.arenas) * SHARED_ARENA_PAGES <= IDLE_FRAMES_MAX + SHARED_ARENA_PAGES


def test_a_file_that_is_larger_than_all_that_is_kept_is_kept_alone(
    cache: PageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle, "IDLE_FRAMES_MAX", 1 << 20)
    ops, store = operations_of(DATA)
    for number in (0, 1, 1):
        with cache.inode(ops, size_bytes=33 << 30, key=number).open() as file:
            file.pread(10, 0)
    assert len(store.requests) == 2
    assert cache.stats().inodes == 1
