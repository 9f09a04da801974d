"""PageCache as its users see it: sharing, several caches, what is counted, and what is left when files are gone."""

from __future__ import annotations

import gc
import io
import os
import random
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.file.sources import (
    SMALL_CACHE_BYTES,
    TIMEOUT_S,
    assert_nothing_left,
    binary,
    file_of,
    inode_of,
    run_in_threads,
)

from pagein import File, PageCache
from pagein.stores import MemoryStore
from pagein.units import PAGE_SIZE

DATA = random.Random(3).randbytes(40 * PAGE_SIZE + 5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


def charged_pages(cache: PageCache) -> int:
    return cache._zone.charged_pages


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
    _, ops = inode_of(cache, DATA)
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
    assert open_fds() == fds
    wait_for(lambda: threading.active_count() <= threads)


def open_fds() -> set[str]:
    return {f"{name} {target_of(name)}" for name in os.listdir("/proc/self/fd") if target_of(name)}


def target_of(fd: str) -> str:
    try:
        target = os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:  # the descriptor that listed them
        return ""
    return "" if target == f"/proc/{os.getpid()}/fd" else target


def wait_for(condition: Callable[[], bool]) -> None:
    """For ends of threads, which nobody announces."""
    for thread in threading.enumerate():
        if thread.name.startswith("pagein-io") and not condition():
            thread.join(TIMEOUT_S)
    assert condition()


# -- what is counted ---------------------------------------------------------------------------------


def test_hits_and_misses_are_reads_and_stay_counted_when_a_file_closes(cache: PageCache) -> None:
    inode, ops = inode_of(cache, DATA)
    file = binary(inode.open())
    file.pread(10, 0)
    for _ in range(9):
        file.pread(10, 0)
    file.advise("random")
    file.pread(PAGE_SIZE, 30 * PAGE_SIZE)
    for _ in range(2):  # before it is closed and after, while somebody still refers to it
        stats = cache.stats()
        assert (stats.hits, stats.misses) == (9, 2)
        assert stats.requests == len(ops.fetches)
        assert stats.pages_read * PAGE_SIZE == stats.fetched_bytes == sum(size for _, size in ops.fetches)
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


# -- files that nobody closed ------------------------------------------------------------------------


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


# -- many threads, one file --------------------------------------------------------------------------

WORD = struct.Struct(">Q")
NUMBERED = b"".join(map(WORD.pack, range(30_000)))  # 59 pages, no 8 bytes of them alike
LINES = b"".join(b"%07d\n" % number for number in range(30_000))


def pieces_of(read: Callable[[random.Random], bytes], seed: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    while piece := read(rng):
        yield piece


def shared_read(file: File, data: bytes, read: Callable[[random.Random], bytes]) -> None:
    """Eight threads read *file* to its end; together they must have got *data*, each byte exactly once."""
    calls = [lambda seed=seed: list(pieces_of(read, seed)) for seed in range(8)]
    got: list[list[bytes]] = run_in_threads(calls)  # type: ignore[arg-type]
    for pieces in got:
        assert pieces == sorted(pieces)  # the numbers grow, so each thread got its pieces in the file's order
    assert b"".join(sorted(piece for pieces in got for piece in pieces)) == data
    assert file.tell() == len(data)


def random_size(rng: random.Random) -> int:
    return 8 * rng.randrange(1, 1500)


def readinto(file: File, size: int) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: file.readinto(buffer)])


SHARED_READS: dict[str, Callable[[File], Callable[[random.Random], bytes]]] = {
    "read": lambda file: lambda rng: file.read(random_size(rng)),
    "readinto": lambda file: lambda rng: readinto(file, random_size(rng)),
    "read and readinto": lambda file: (
        lambda rng: readinto(file, random_size(rng)) if rng.random() < 0.5 else file.read(random_size(rng))
    ),
}


@pytest.fixture
def many_switches() -> Iterator[None]:
    """Threads take turns thousands of times more often than by default."""
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before_s)


@pytest.mark.usefixtures("many_switches")
@pytest.mark.parametrize("how", SHARED_READS)
def test_eight_threads_that_share_a_file_get_each_byte_exactly_once(how: str, small_cache: PageCache) -> None:
    with file_of(small_cache, NUMBERED) as file:
        shared_read(file, NUMBERED, SHARED_READS[how](file))


@pytest.mark.usefixtures("many_switches")
@pytest.mark.parametrize("read", [lambda file: file.readline(), lambda file: next(file, b"")])
def test_eight_threads_that_share_a_file_get_each_line_exactly_once(
    read: Callable[[File], bytes], small_cache: PageCache
) -> None:
    with file_of(small_cache, LINES) as file:
        shared_read(file, LINES, lambda rng: read(file))


def test_a_seek_during_a_read_of_another_thread_is_not_lost(cache: PageCache) -> None:
    inode, ops = inode_of(cache, DATA)
    file = binary(inode.open())
    ops.hold()

    class Offset:
        """Lets the other thread's fetch go on once seek() has begun."""

        def __index__(self) -> int:
            ops.release()
            return 777

    def seek() -> None:
        ops.wait_for_fetch()
        file.seek(Offset())  # type: ignore[arg-type]

    for _ in range(20):
        file.seek(0)
        cache.drop()
        ops.hold()
        run_in_threads([lambda: file.read(100), seek])
        assert file.tell() == 777


def test_a_buffered_reader_over_a_file_closes_it(cache: PageCache, path: Path) -> None:
    file = binary(cache.open(path))
    with io.BufferedReader(file, 100) as buffered:
        assert buffered.read() == DATA
    assert file.closed
