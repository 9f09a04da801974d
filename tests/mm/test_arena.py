"""The arena: ranges of frames, memory that comes and goes, planes that cost only what is in use."""

from __future__ import annotations

import errno
import mmap
import os
import sys
from contextlib import suppress

import pytest
from hypothesis import given, strategies as st

from pagein import PageCache
from pagein.mm import memory as memory_module
from pagein.mm.arena import (
    ARENA_PAGES_MAX,
    PRIVATE_ARENA_PAGES,
    REGION_PAGES,
    SHARED_ARENA_PAGES,
    Arena,
    frames_for,
    ones,
)
from pagein.testing.leaks import settle
from pagein.testing.stores import PATIENCE_S, ScriptedOps
from pagein.units import PAGE_SIZE

GRAIN_PAGES = 4096


@pytest.fixture(params=[False, True], ids=["read", "written"])
def arena(request: pytest.FixtureRequest) -> Arena:
    return Arena(0, 4 * REGION_PAGES, is_written=request.param)


def fill(arena: Arena, first_frame: int, page_count: int) -> None:
    """Write to frames that are pages of some file."""
    arena.track(first_frame, page_count)
    arena.memory[first_frame * PAGE_SIZE : (first_frame + page_count) * PAGE_SIZE] = b"\xaa" * (page_count * PAGE_SIZE)


# -- numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page_count", "frame_count"),
    [
        (0, 1), (1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (1000, 1024),
        (PRIVATE_ARENA_PAGES, PRIVATE_ARENA_PAGES),
        (PRIVATE_ARENA_PAGES + 1, PRIVATE_ARENA_PAGES + REGION_PAGES),
    ],
)  # fmt: skip
def test_a_file_gets_a_power_of_two_of_frames_or_whole_regions(page_count, frame_count):
    assert frames_for(page_count) == frame_count


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 258, 5000])
def test_ones(count):
    assert ones(count) == b"\1" * count


def test_an_arena_that_is_too_large_is_refused():
    with pytest.raises(OSError) as raised:
        Arena(0, ARENA_PAGES_MAX + 1)
    assert raised.value.errno == errno.EFBIG


@pytest.mark.parametrize("is_written", [False, True])
def test_the_largest_arena_costs_nothing(*, is_written):
    arena = Arena(0, ARENA_PAGES_MAX, is_written=is_written)
    assert (arena.resident_bytes(), arena.planes_bytes()) == (0, 0)
    fill(arena, ARENA_PAGES_MAX - 1, 1)
    assert arena.resident_bytes() == PAGE_SIZE


# -- ranges ----------------------------------------------------------------------------------------


def test_ranges_are_aligned_reused_and_limited(arena):
    assert [arena.reserve(count) for count in (1, 1, 4, 2, 1)] == [0, 1, 4, 8, 10]
    arena.release(4, 4)
    arena.release(1, 1)
    assert arena.reserve(1) == 1
    assert arena.reserve(4) == 4
    assert arena.reserve(4) == 12
    assert arena.reserve(arena.page_count) is None
    assert arena.reserve(arena.page_count // 2) == arena.page_count // 2
    assert arena.reserve(arena.page_count // 2) is None
    assert arena.reserve(1) is None, "what alignment skipped is not looked for: addresses cost nothing"


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), max_size=80))
def test_ranges_never_overlap(steps):
    arena = Arena(0, REGION_PAGES)
    held: list[tuple[int, int]] = []
    for release, shift in steps:
        if release and held:
            arena.release(*held.pop(shift % len(held)))
            continue
        first = arena.reserve(1 << shift)
        assert first is not None
        assert first % (1 << shift) == 0
        held.append((first, 1 << shift))
    frames = [at for first, count in held for at in range(first, first + count)]
    assert len(frames) == len(set(frames))
    assert max(frames, default=0) < arena.page_count


def test_files_share_an_arena_and_a_large_one_has_its_own():
    with PageCache(64 * PAGE_SIZE) as cache:
        sizes_pages = [5, 5, 5, PRIVATE_ARENA_PAGES + 1]
        inodes = [cache.inode(ScriptedOps(), size_bytes=count * PAGE_SIZE) for count in sizes_pages]
        *small, large = [inode.mapping for inode in inodes]
        assert {mapping.arena for mapping in small} == {small[0].arena}
        assert small[0].arena.page_count == SHARED_ARENA_PAGES
        assert [mapping.base for mapping in small] == [0, 8, 16]
        assert large.arena is not small[0].arena
        assert large.base == 0
        assert large.arena.page_count >= PRIVATE_ARENA_PAGES + 1


def test_who_reads_has_private_memory_and_who_writes_a_file():
    """Whoever comes first, small or large."""
    with PageCache(64 * PAGE_SIZE) as cache:
        for size_pages in (5, PRIVATE_ARENA_PAGES + 1):
            for is_written in (False, True, False):
                ops = ScriptedOps()
                ops.writable = is_written
                mapping = cache.inode(ops, size_bytes=size_pages * PAGE_SIZE).mapping
                assert (mapping.arena.memory_fd >= 0) is is_written


def test_a_full_arena_is_followed_by_another(monkeypatch):
    monkeypatch.setattr("pagein.mm.zone.SHARED_ARENA_PAGES", REGION_PAGES)
    monkeypatch.setattr("pagein.mm.zone.PRIVATE_ARENA_PAGES", REGION_PAGES)
    with PageCache(64 * PAGE_SIZE) as cache:
        files = [cache.inode(ScriptedOps(), size_bytes=REGION_PAGES // 2 * PAGE_SIZE) for _ in range(5)]
        assert [inode.mapping.arena.number for inode in files] == [0, 0, 1, 1, 2]
        for inode in files:
            with inode.open() as file:
                assert file.pread(9, 100) == pattern_of(inode, 100, 9)


def pattern_of(inode, offset, size_bytes):
    return inode.mapping.ops.content(offset, size_bytes)


# -- memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page_count", [1, 16, 256, 257, 1000])
def test_punching_gives_memory_back_and_leaves_zeros(arena, page_count):
    start, stop = 10 * PAGE_SIZE, (10 + page_count) * PAGE_SIZE
    fill(arena, 9, page_count + 2)
    assert arena.resident_bytes() == (page_count + 2) * PAGE_SIZE
    arena.punch(10, page_count)
    assert arena.resident_bytes() == 2 * PAGE_SIZE, "its neighbours, and nothing else"
    assert arena.memory[start - 1] == arena.memory[stop] == 0xAA
    assert arena.memory[start:stop] == bytes(stop - start)


def test_one_call_of_madvise_is_short(arena, monkeypatch):
    """It holds the GIL: a gigabyte in one call would stop every thread."""
    sizes: list[int] = []
    real_punch = arena._frames.punch

    def punch(memory: mmap.mmap, start: int, size_bytes: int) -> None:
        sizes.append(size_bytes)
        real_punch(memory, start, size_bytes)

    monkeypatch.setattr(arena._frames, "punch", punch)
    arena.punch(0, 1000)
    assert sum(sizes) == 1000 * PAGE_SIZE
    assert max(sizes) <= 1 << 20


def test_memory_may_be_looked_at_read_only(arena):
    arena.memory[0:5] = b"hello"
    assert bytes(arena.read_only[0:5]) == b"hello"
    assert arena.read_only.readonly


@pytest.mark.parametrize("is_written", [False, True])
def test_an_arena_goes_with_the_last_object_that_shows_it(*, is_written):
    """A reader that is late must not be killed by SIGBUS, nor read another file through a descriptor used again."""
    arena: Arena | None = Arena(0, REGION_PAGES, is_written=is_written)
    assert arena is not None
    fd = arena.memory_fd
    arena.memory[0:5] = b"hello"
    view = arena.read_only[0:5]
    del arena
    assert bytes(view) == b"hello"
    if is_written:
        with pytest.raises(OSError) as raised:
            os.fstat(fd)
        assert raised.value.errno == errno.EBADF


# -- generations -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "count", "bumped"),
    [
        (0, 1, [1, 0, 0, 0]),
        (REGION_PAGES - 1, 1, [1, 0, 0, 0]),
        (REGION_PAGES, 1, [0, 1, 0, 0]),
        (REGION_PAGES - 1, 2, [1, 1, 0, 0]),
        (REGION_PAGES, 2 * REGION_PAGES, [0, 1, 1, 0]),
        (5, 3 * REGION_PAGES, [1, 1, 1, 1]),
    ],
)
def test_a_removal_bumps_the_generation_of_each_region_that_it_touches(arena, frame, count, bumped):
    arena.bump_generation(frame, count)
    assert list(arena.generations[:4]) == bumped


# -- planes ----------------------------------------------------------------------------------------


def mark(arena: Arena, *runs: tuple[int, int]) -> None:
    for start, stop in runs:
        for grain in range(start // GRAIN_PAGES, (stop - 1) // GRAIN_PAGES + 1):
            arena.track(grain * GRAIN_PAGES, 1)
        arena.uptodate[start:stop] = ones(stop - start)


@pytest.mark.parametrize(
    ("runs", "first", "stop", "expected"),
    [
        ([], 0, 4 * REGION_PAGES, []),
        ([(0, 1)], 0, 1, [(0, 1)]),
        ([(3, 8)], 5, 7, [(5, 7)]),
        ([(3, 5), (7, 9)], 0, 100, [(3, 5), (7, 9)]),
        ([(GRAIN_PAGES - 2, GRAIN_PAGES)], 0, 2 * GRAIN_PAGES, [(GRAIN_PAGES - 2, GRAIN_PAGES)]),
        (
            [(GRAIN_PAGES - 2, GRAIN_PAGES + 2)], 0, 2 * GRAIN_PAGES,
            [(GRAIN_PAGES - 2, GRAIN_PAGES), (GRAIN_PAGES, GRAIN_PAGES + 2)],
        ),
        ([(9 * GRAIN_PAGES, 9 * GRAIN_PAGES + 8)], 1, 4 * REGION_PAGES, [(9 * GRAIN_PAGES, 9 * GRAIN_PAGES + 8)]),
    ],
)  # fmt: skip
def test_populated_finds_every_run(arena, runs, first, stop, expected):
    mark(arena, *runs)
    assert list(arena.populated(first, stop)) == expected


def test_runs_are_found_in_order_however_they_came(arena):
    first, last = (0, 1), (3 * REGION_PAGES, 3 * REGION_PAGES + 1)
    mark(arena, last, first)
    assert list(arena.populated(0, arena.page_count)) == [first, last]


def test_a_walk_does_not_look_where_nothing_is_any_more():
    """To look at the flags of a grain that has gone would fill them, and nobody would give them back."""
    arena = Arena(0, 4 * REGION_PAGES, is_written=True)
    mark(arena, (0, 1), (3 * REGION_PAGES, 3 * REGION_PAGES + 1))
    walk = arena.populated(0, arena.page_count)
    assert next(walk) == (0, 1)
    for first in (0, 3 * REGION_PAGES):
        arena.track(first, -1)
    assert list(walk) == []
    assert arena.planes_bytes() == 0


def test_looking_for_pages_fills_no_holes(arena):
    mark(arena, (0, 1), (3 * REGION_PAGES, 3 * REGION_PAGES + 1))
    before = arena.planes_bytes()
    assert len(list(arena.populated(0, arena.page_count))) == 2
    assert arena.planes_bytes() == before == 2 * PAGE_SIZE


def test_the_flags_of_a_grain_go_with_its_last_page(arena):
    arena.track(5, 3)
    arena.track(GRAIN_PAGES + 5, 1)
    for plane in (arena.uptodate, arena.referenced, arena.lru, arena.dirty, arena.writeback):
        plane[5] = plane[GRAIN_PAGES + 5] = 1
    assert arena.planes_bytes() == 10 * PAGE_SIZE
    arena.track(5, -2)
    assert arena.planes_bytes() == 10 * PAGE_SIZE
    arena.track(6, -1)
    assert arena.planes_bytes() == 5 * PAGE_SIZE
    assert (arena.uptodate[GRAIN_PAGES + 5], arena.lru[GRAIN_PAGES + 5]) == (1, 1)
    arena.track(GRAIN_PAGES + 5, -1)
    assert arena.planes_bytes() == 0
    assert arena.uptodate[5] == arena.referenced[5] == arena.lru[5] == 0


def test_a_long_walk_through_a_large_file_costs_flags_only_where_pages_are():
    """Readers and reclaim look at flags; what they looked at goes when the page and its shadow have gone."""
    cap_pages, grains = 16, 400
    with PageCache(cap_pages * PAGE_SIZE) as cache:
        ops = ScriptedOps()
        file = cache.inode(ops, size_bytes=grains * GRAIN_PAGES * PAGE_SIZE).open()
        file.advise("random")
        for grain in range(grains):
            offset = grain * GRAIN_PAGES * PAGE_SIZE
            assert file.pread(8, offset) == ops.content(offset, 8)
        here_or_remembered = 2 * cap_pages + 1
        generations_bytes = PAGE_SIZE
        assert cache._zone.planes_bytes() <= here_or_remembered * 5 * PAGE_SIZE + generations_bytes
        file.advise("dontneed")
        ops.calls.clear()


STRIDE_GRAINS = 3
"""Less than a stream of reads may jump, so that what lies between is looked at."""


@pytest.mark.parametrize("shift_pages", [0, 100], ids=["the first of a grain", "in a grain"])
@pytest.mark.parametrize("is_written", [False, True])
def test_jumps_through_a_large_file_leave_no_flags_when_all_is_dropped(shift_pages, *, is_written):
    """Neither of what a reader has passed over, nor of what lies beside his pages.  (Of a file in memory all flags are
    counted, of private memory those of grains in which there is a page.)"""
    jumps = 100
    with PageCache(4 * jumps * PAGE_SIZE) as cache:
        ops = ScriptedOps()
        ops.writable = is_written
        file = cache.inode(ops, size_bytes=(1 + STRIDE_GRAINS * jumps) * GRAIN_PAGES * PAGE_SIZE).open()
        before = cache._zone.planes_bytes()
        for jump in range(jumps):
            offset = (STRIDE_GRAINS * jump * GRAIN_PAGES + shift_pages) * PAGE_SIZE
            assert file.pread(8, offset) == ops.content(offset, 8)
        assert cache._zone.planes_bytes() <= 6 * jumps * PAGE_SIZE
        assert settle(cache._zone, PATIENCE_S)
        assert cache.drop() >= jumps
        generations_bytes = PAGE_SIZE
        assert cache._zone.planes_bytes() <= before + generations_bytes
        ops.calls.clear()


def test_flags_of_many_pages_of_a_grain_go_when_they_are_dropped():
    """The walk that finds them goes on in a grain whose last page has just gone."""
    with PageCache(16 * PAGE_SIZE) as cache:
        file = cache.inode(ScriptedOps(), size_bytes=8 * PAGE_SIZE).open()
        file.advise("random")
        before = cache._zone.planes_bytes()
        for index in (0, 2, 4):
            file.pread(1, index * PAGE_SIZE)
        assert cache.drop() == 3
        assert cache._zone.planes_bytes() <= before + PAGE_SIZE, "the generations alone"


TOO_MUCH = 1 << 36
"""Bytes, whose flags take 16 MiB."""


@pytest.mark.parametrize(
    "read",
    [
        lambda file: file.read1(TOO_MUCH),
        lambda file: file.read1(sys.maxsize),
        lambda file: file.peek(TOO_MUCH),
        lambda file: file.view(TOO_MUCH, 0),
    ],
    ids=["read1", "read1 of all there is", "peek", "view"],
)
def test_to_ask_for_more_than_can_come_fills_no_flags(read):
    with PageCache(16 * PAGE_SIZE) as cache:
        ops = ScriptedOps()
        file = cache.inode(ops, size_bytes=TOO_MUCH).open()
        with suppress(OSError):  # a view of more than the cache
            read(file)
        assert cache._zone.planes_bytes() <= 10 * PAGE_SIZE
        ops.calls.clear()


def test_frames_that_are_given_back_take_their_flags_along():
    """Also those that somebody has looked at where no page was: of a file, to look is to fill."""
    arena = Arena(0, 4 * REGION_PAGES, is_written=True)
    first = arena.reserve(2 * GRAIN_PAGES)
    assert first is not None
    assert not any(arena.uptodate[first : first + 2 * GRAIN_PAGES])
    assert arena.planes_bytes() == 2 * PAGE_SIZE
    arena.release(first, 2 * GRAIN_PAGES)
    assert arena.planes_bytes() == 0


def test_without_memfd_and_hole_punching_pages_are_zeroed(monkeypatch):
    """Elsewhere than on Linux: no file to hand out, no count of memory, the same content."""
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(memory_module, "_CAN_PUNCH", False)
    monkeypatch.setattr("pagein.mm.zone.SHARED_ARENA_PAGES", REGION_PAGES)  # Linux promises no terabyte without a file
    with PageCache(4 * PAGE_SIZE) as cache:
        ops = ScriptedOps()
        with cache.inode(ops, size_bytes=20 * PAGE_SIZE).open() as file:
            assert file.read() == ops.content(0, 20 * PAGE_SIZE)
            arena = file._mapping.arena
            assert (arena.memory_fd, arena.resident_bytes(), arena.planes_bytes()) == (-1, None, 0)
            assert cache.stats().resident_bytes == 4 * PAGE_SIZE == cache._zone.charged_pages * PAGE_SIZE
            gone = next(index for index in range(20) if not file._mapping.is_uptodate(index))
            start = (file._mapping.base + gone) * PAGE_SIZE
            assert arena.memory[start : start + PAGE_SIZE] == bytes(PAGE_SIZE)
