"""What the contract tests of writing share: a file that is open for writing, and what must hold of dirty pages.

A `Written` is a `Subject` (harness.py) over a `WritableOps`, in a cache where nothing is written back but by wish.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.contract.harness import TEARDOWN_S, Scene, Subject

from pagein import PageCache
from pagein.mm.mapping import AddressSpace
from pagein.mm.sync import run_steps
from pagein.mm.writeback import Sync, write_back
from pagein.mm.zone import Zone
from pagein.testing.leaks import assert_nothing_left, settle
from pagein.testing.writable import WritableOps
from pagein.units import PAGE_SHIFT, PAGE_SIZE

FRAMES_MAX = 4096
"""No file of these tests is longer, though most have room for much more."""


class Written(Subject):
    """A file that is open for writing, and what its store holds."""

    ops: WritableOps

    def __post_init__(self) -> None:
        self.file = self.inode.open("r+b")

    def write_back(self, sync: Sync = Sync.ALL) -> BaseException | None:
        """A pass over the dirty pages of the file; the first error."""
        return run_steps(write_back(self.mapping, sync, self.zone.door.waiter))

    def dirty(self) -> list[int]:
        """The pages whose dirty flag is set."""
        return flagged(self.mapping, "dirty")

    def read_all(self) -> bytes:
        """The file as a reader sees it."""
        return self.file.pread(self.mapping.i_size + PAGE_SIZE, 0)

    def frame(self, index: int) -> bytes:
        """All 4096 bytes of a page's frame."""
        start = (self.mapping.base + index) << PAGE_SHIFT
        return bytes(self.mapping.arena.memory[start : start + PAGE_SIZE])

    def put_beyond_end(self, data: bytes) -> None:
        """Leave something in the memory behind the end of the file, as an interrupted write may."""
        start = (self.mapping.base << PAGE_SHIFT) + self.mapping.i_size
        self.mapping.arena.memory[start : start + len(data)] = data

    def assert_consistent(self) -> None:
        """The counts agree with the flags; no page is locked, no write-back left, the inode's lock is free."""
        settle(self.zone, TEARDOWN_S)
        assert self.mapping.in_flight == {}
        assert not self.mapping.i_rwsem.held
        assert not self.mapping.rwsem_waiters
        assert flagged(self.mapping, "writeback") == sorted(self.mapping.under_writeback)
        assert_counts_agree(self.zone)

    def assert_dirty(self, *indices: int) -> None:
        """These pages are dirty, no others, and nothing else is left."""
        self.assert_consistent()
        assert self.mapping.under_writeback == {}
        assert self.dirty() == list(indices)

    def assert_clean(self, expected: bytes | None = None) -> None:
        """Nothing is dirty or owed, and nothing is left behind; the store holds what the cache shows, or *expected*."""
        self.assert_dirty()
        assert (self.zone.dirty.pages, self.zone.dirty.writeback_pages, self.mapping.dirty_budget) == (0, 0, 0)
        assert not self.zone.dirty._waiters
        assert not self.mapping.is_unwritten
        assert_nothing_left(self.zone)
        data = bytes(self.ops.data)
        assert self.read_all() == data
        if expected is not None:
            assert data == expected

    def fsync_and_assert_clean(self, expected: bytes | None = None) -> None:
        """What is dirty can be stored, and then all is at rest."""
        self.file.fsync()
        self.assert_clean(expected)


def flagged(mapping: AddressSpace, plane: str) -> list[int]:
    """The pages of a file whose flag of this name is set."""
    flags = getattr(mapping.arena, plane)[mapping.base : mapping.base + min(mapping.frame_count, FRAMES_MAX)]
    return [index for index, flag in enumerate(flags) if flag] if 1 in flags else []


def assert_counts_agree(zone: Zone) -> None:
    """Of a zone in which no writer is at work: what is counted as dirty is dirty, or a writer's budget."""
    with zone.lock:
        dirty_pages = budget_pages = writeback_pages = 0
        for mapping in zone.mappings:
            with mapping.dirty_lock:
                flags = flagged(mapping, "dirty")
                assert mapping.dirty_pages == len(flags)
                assert all(mapping.is_uptodate(index) for index in flags), "a dirty page that is not here"
                assert mapping.dirty_pages or not mapping.dirty_budget
                dirty_pages += mapping.dirty_pages
                budget_pages += mapping.dirty_budget
                writeback_pages += len(mapping.under_writeback)
        assert zone.dirty.pages == dirty_pages + budget_pages
        assert zone.dirty.writeback_pages == writeback_pages
        assert zone.dirty.pages <= zone.dirty.limits.limit_pages


def writing_cache(scene: Scene, cap_pages: int, *, background: float = 1.0, limit: float = 1.0) -> PageCache:
    """A cache of the scene's, in which by default only memory that is short makes write-back begin by itself."""
    cache = PageCache(
        cap_pages * PAGE_SIZE,
        debug=scene.debug,
        door=scene.door,
        dirty_background=background,
        dirty_limit=limit,
        dirty_age_s=3600,
    )
    scene._caches.append(cache)
    return cache


def open_written(
    scene: Scene,
    make_ops: Callable[[int], WritableOps] = WritableOps,
    *,
    page_count: int = 8,
    size_bytes: int | None = None,
    cap_pages: int = 64,
    cache: PageCache | None = None,
) -> Written:
    """A new file of the pattern, open for writing, of which a miss brings one page."""
    size_bytes = page_count * PAGE_SIZE if size_bytes is None else size_bytes
    ops = make_ops(size_bytes)
    ops.blocking = scene.blocking
    scene._stores.append(ops)
    cache = cache or writing_cache(scene, cap_pages)
    subject = Written(scene, cache, ops, cache.inode(ops, size_bytes=size_bytes))
    subject.file.advise("random")
    return subject
