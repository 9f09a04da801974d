"""Files that nobody closed, and caches left behind: the garbage collector leaves no page, no descriptor, no lock."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.file.sources import DATA, binary, charged_pages, inode_of, open_fds

from pagein import PageCache
from pagein.stores import MemoryStore


def leave_open(cache: PageCache, path: Path) -> None:
    binary(cache.open(path)).read()


def leave_open_in_a_cycle(cache: PageCache, path: Path) -> None:
    cycle: dict[str, Any] = {"file": cache.open(path)}
    cycle["self"] = cycle
    cycle["file"].read()


def leave_text_open_in_a_cycle(cache: PageCache, path: Path) -> None:
    cycle: dict[str, Any] = {"file": cache.open(path, "r", encoding="latin-1")}
    cycle["self"] = cycle
    cycle["file"].read()


def leave_an_iterator(cache: PageCache, path: Path) -> None:
    next(line for line in binary(cache.open(path)))


@pytest.mark.parametrize("leave", [leave_open, leave_open_in_a_cycle, leave_text_open_in_a_cycle, leave_an_iterator])
def test_a_file_that_nobody_closed_leaves_no_descriptor_and_can_be_dropped(
    leave: Callable[[PageCache, Path], None], cache: PageCache, path: Path
) -> None:
    leave(cache, path)
    gc.collect()
    assert cache.stats().open_files == 0
    assert not [fd for fd in open_fds() if str(path) in fd]
    assert cache.drop() > 0
    assert charged_pages(cache) == 0


def test_the_frames_of_an_inode_that_nobody_has_are_given_back(cache: PageCache) -> None:
    for _ in range(50):
        binary(inode_of(cache, DATA)[0].open()).read()
        gc.collect()
    (arena,) = cache._zone.arenas.values()
    assert arena._next_frame <= 4 * 64  # not 50 x 64: one file after another has used the same frames
    cache.stats()
    assert charged_pages(cache) == 0
    assert cache.stats().resident_bytes == 0


def test_the_old_version_of_a_changed_object_goes_with_its_last_file(cache: PageCache) -> None:
    store = MemoryStore({"a": DATA})
    old = binary(cache.open((store, "a")))
    assert old.read() == DATA
    store.put("a", DATA[::-1])
    with binary(cache.open((store, "a"))) as new:
        assert new.read() == DATA[::-1]
        assert old.pread(len(DATA), 0) == DATA
        assert charged_pages(cache) == 82
        del old
        gc.collect()
        cache.stats()
        assert charged_pages(cache) == 41
        assert new.pread(len(DATA), 0) == DATA[::-1]


def test_a_text_file_that_the_collector_closes_under_the_cache_s_own_lock_does_not_deadlock(path: Path) -> None:
    cache = PageCache("1 MiB", debug=True)  # not a fixture, whose end would need the lock too
    # The garbage collector runs in the middle of whatever allocates, also of what the cache does under its lock.
    # A TextIOWrapper that is collected closes the File in it: that must not need the lock.
    text: list[Any] = [cache.open(path, "r", encoding="latin-1")]

    def collect_under_the_lock() -> None:
        with cache._lock:
            text.clear()

    thread = threading.Thread(target=collect_under_the_lock, daemon=True)
    thread.start()
    thread.join(5.0)
    assert not thread.is_alive()
    assert cache.stats().open_files == 0
    cache.close()
