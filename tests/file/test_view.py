"""Views: no copy, and their pages stay for exactly as long as somebody can look at them."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import pickle
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.file.sources import (
    DATA,
    EDGES,
    SMALL_CACHE_BYTES,
    SMALL_PAGES,
    binary,
    inode_of,
    outcome_of,
    pinned_spans,
    run_in_threads,
)

from pagein import File, PageCache
from pagein.testing.stores import PATIENCE_S
from pagein.units import PAGE_SIZE

# -- views -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [size for size in EDGES if size < SMALL_CACHE_BYTES])
def test_a_view_shows_what_the_bytes_slice_has_and_is_short_only_at_the_end(size: int, small_file: File) -> None:
    for offset in (*EDGES, 1 << 50):
        for _ in range(2):
            with small_file.view(size, offset) as data:
                assert data == DATA[offset : offset + size]
                assert (data.format, data.ndim, data.itemsize, data.contiguous) == ("B", 1, 1, True)


def test_a_view_cannot_be_written_to(small_file: File) -> None:
    with small_file.view(100, 0) as data:
        assert data.readonly
        with pytest.raises(TypeError, match="read-only"):
            data[0] = 1
        with pytest.raises(TypeError, match=r"read-only|writable"):
            ctypes.c_char.from_buffer(data)


def test_a_view_is_no_copy(cache: PageCache, tmp_path: Path) -> None:
    path = tmp_path / "large"
    with open(path, "wb") as made:
        made.truncate(8 << 20)
    with binary(cache.open(path)) as file, file.view(8 << 20, 0) as first, file.view(8 << 20, 0) as second:
        assert address_of(first) == address_of(second)


def address_of(data: memoryview) -> int:
    numpy = pytest.importorskip("numpy")
    address: int = numpy.frombuffer(data, "u1").ctypes.data
    return address


def test_the_pages_of_a_view_stay_while_all_others_go(small_cache: PageCache) -> None:
    inode, store = inode_of(small_cache, DATA)
    file = binary(inode.open())
    with file.view(3 * PAGE_SIZE, PAGE_SIZE) as data:
        assert small_cache.stats().pinned_bytes == 3 * PAGE_SIZE
        read_all(file)
        small_cache.drop()
        assert file.resident() == [(1, 3)]
        store.requests.clear()
        assert data == file.pread(3 * PAGE_SIZE, PAGE_SIZE) == DATA[PAGE_SIZE : 4 * PAGE_SIZE]
        assert not store.requests
    assert small_cache.stats().pinned_bytes == 0
    assert small_cache.drop() == 3
    assert not file.resident()


@pytest.mark.parametrize("end", ["release", "with", "del"])
def test_a_view_ends_when_it_is_released_left_or_gone(end: str, small_cache: PageCache, small_file: File) -> None:
    data = small_file.view(100, 0)
    assert pinned_spans(small_cache)
    if end == "release":
        data.release()
    elif end == "with":
        with data:
            pass
    else:
        del data
    assert not pinned_spans(small_cache)
    assert small_cache.drop() >= 1
    if end != "del":
        with pytest.raises(ValueError, match="released"):
            bytes(data)


def test_whoever_uses_the_buffer_of_a_view_makes_its_end_a_buffer_error(
    small_cache: PageCache, small_file: File
) -> None:
    consumer = None
    with pytest.raises(BufferError), small_file.view(PAGE_SIZE, 0) as data:
        consumer = pickle.PickleBuffer(data)
    small_cache.drop()
    assert pinned_spans(small_cache)  # still: the consumer looks at these bytes
    assert consumer is not None
    read_all(small_file)
    assert bytes(consumer.raw()) == DATA[:PAGE_SIZE]
    consumer.release()
    del data
    gc.collect()
    assert not pinned_spans(small_cache)
    small_cache.drop()
    assert not small_file.resident()


def test_an_object_made_of_a_view_pins_it_for_as_long_as_it_lives(small_cache: PageCache, small_file: File) -> None:
    def consumer() -> pickle.PickleBuffer:
        return pickle.PickleBuffer(small_file.view(PAGE_SIZE, 2 * PAGE_SIZE))

    kept = consumer()
    gc.collect()
    small_cache.drop()
    assert pinned_spans(small_cache)
    assert bytes(kept.raw()) == DATA[2 * PAGE_SIZE : 3 * PAGE_SIZE]
    del kept
    assert not pinned_spans(small_cache)


def read_all(file: File) -> None:
    """More than the cache holds: what is not pinned goes."""
    for offset in range(0, len(DATA), PAGE_SIZE):
        file.pread(PAGE_SIZE, offset)


def half_of_a_numpy_array(data: memoryview) -> Any:
    numpy = pytest.importorskip("numpy")
    return numpy.frombuffer(data, dtype="<u4")[512:]


def numpy_asarray(data: memoryview) -> Any:
    numpy = pytest.importorskip("numpy")
    return numpy.asarray(data)[2048:]


INDIRECT: dict[str, Callable[[memoryview], Any]] = {
    "slice": lambda data: data[2048:],
    "memoryview of it": lambda data: memoryview(data)[2048:],
    "cast": lambda data: data.cast("I")[512:],
    "numpy.frombuffer": half_of_a_numpy_array,
    "numpy.asarray": numpy_asarray,
}
"""What shows the bytes of a view, and may outlive it."""


@pytest.mark.parametrize("released", [True, False], ids=["released", "gone"])
@pytest.mark.parametrize("kind", INDIRECT)
def test_whatever_shows_bytes_of_a_view_pins_them_until_it_is_gone_too(
    kind: str, released: bool, small_cache: PageCache, small_file: File
) -> None:
    data = small_file.view(PAGE_SIZE, 0)
    shows = INDIRECT[kind](data)
    if released:
        try:
            data.release()
        except BufferError:
            pytest.skip("it does not let the view end, which protects it as well")
    del data
    read_all(small_file)
    small_cache.drop()
    assert bytes(shows) == DATA[2048:PAGE_SIZE]
    assert pinned_spans(small_cache)
    del shows
    gc.collect()
    assert not pinned_spans(small_cache)
    small_cache.drop()
    assert not small_file.resident()


def test_a_view_outlives_its_file_and_its_cache(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    cache = PageCache("1 MiB", debug=True)
    file = binary(cache.open(path))
    data = file.view(len(DATA), 0)
    file.close()
    assert data == DATA
    cache.drop()
    assert data == DATA
    cache.close()
    del cache, file
    gc.collect()
    assert data == DATA
    data.release()


def test_two_views_of_one_page_pin_it_until_the_second_has_ended(small_cache: PageCache, small_file: File) -> None:
    first, second = small_file.view(10, 0), small_file.view(10, 20)
    first.release()
    small_cache.drop()
    assert small_file.resident()
    assert second == DATA[20:30]
    second.release()
    small_cache.drop()
    assert not small_file.resident()


def _view(files: list[File]) -> None:
    for _ in range(VIEWS):
        files[0].view(10, 0)


def _read_then_view(files: list[File]) -> None:
    """A count of all hits would be odd, behind each view, or even behind each."""
    for _ in range(VIEWS):
        files[0].pread(10, 0)
        files[0].view(10, 0)


def _read_once_then_view(files: list[File]) -> None:
    files[0].pread(10, 0)
    _read_then_view(files)


def _view_with_integers_of_another_kind(files: list[File]) -> None:
    class Index:
        def __index__(self) -> int:
            return 3

    for _ in range(VIEWS // 2):  # each has two entries on its way
        files[0].view(10, Index())  # type: ignore[arg-type]  # as one of numpy


def _view_in_many_files(files: list[File]) -> None:
    for _ in range(VIEWS // len(files)):
        for file in files:
            file.view(10, 0)


VIEWS = 20_000


@pytest.mark.parametrize(
    "use",
    [
        _view, _read_then_view, _read_once_then_view, _view_with_integers_of_another_kind, _view_in_many_files,
    ],
)  # fmt: skip
def test_thousands_of_views_that_nobody_ended_are_swept_out_however_they_come_about(
    use: Callable[[list[File]], None], small_cache: PageCache
) -> None:
    inode, _ = inode_of(small_cache, DATA)
    files = [binary(inode.open()) for _ in range(200)]
    files[0].pread(10, 0)
    use(files)

    def entry_count() -> int:
        return sum(len(arena.pins.entries) for arena in small_cache._zone.arenas.values())

    deadline_s = time.monotonic() + PATIENCE_S
    while entry_count() >= VIEWS // 2 and time.monotonic() < deadline_s:  # a worker sweeps, whose turn may be late
        os.sched_yield()
    assert entry_count() < VIEWS // 2
    assert sum(file.hits for file in files) >= VIEWS // 2


# -- too many views ----------------------------------------------------------------------------------


def test_a_view_larger_than_the_cache_is_enomem_and_leaves_no_pin(small_cache: PageCache, small_file: File) -> None:
    assert outcome_of(lambda: small_file.view(SMALL_CACHE_BYTES + 1, 0)) == ("raised", OSError, errno.ENOMEM)
    with pytest.raises(OSError, match="68 KiB of pages in one view do not fit into a cache of 64 KiB"):
        small_file.view(SMALL_CACHE_BYTES + 1, 0)
    assert not pinned_spans(small_cache)
    with small_file.view(SMALL_CACHE_BYTES, 0) as data:
        assert data == DATA[:SMALL_CACHE_BYTES]


def test_when_all_is_pinned_a_read_is_enomem_does_not_hang_and_heals(small_file: File) -> None:
    views = [small_file.view(1, index * PAGE_SIZE) for index in range(SMALL_PAGES)]
    beyond = SMALL_PAGES * PAGE_SIZE
    assert outcome_of(lambda: small_file.pread(1, beyond)) == ("raised", OSError, errno.ENOMEM)
    assert outcome_of(lambda: small_file.view(1, beyond)) == ("raised", OSError, errno.ENOMEM)
    assert small_file.pread(10, 5) == DATA[5:15]  # what is here can be read
    views.pop().release()
    assert small_file.pread(10, beyond) == DATA[beyond : beyond + 10]
    for view in views:
        view.release()


def test_a_view_whose_page_cannot_be_had_raises_and_leaves_no_pin(small_cache: PageCache) -> None:
    inode, store = inode_of(small_cache, DATA)
    broken = OSError(errno.EIO, "the store is broken")
    store.inject("fill", offset_bytes=2 * PAGE_SIZE, times=None, error=broken)
    file = binary(inode.open())
    with pytest.raises(OSError, match="the store is broken") as raised:
        file.view(4 * PAGE_SIZE, 0)
    assert raised.value is broken
    assert not pinned_spans(small_cache)
    store.heal()
    with file.view(4 * PAGE_SIZE, 0) as data:
        assert data == DATA[: 4 * PAGE_SIZE]


# -- many threads ------------------------------------------------------------------------------------


def test_views_and_reads_of_many_threads_under_eviction_show_the_right_bytes(
    small_cache: PageCache, small_file: File
) -> None:
    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(300):
            offset, size = rng.randrange(len(DATA)), rng.randrange(2 * PAGE_SIZE)
            expected = DATA[offset : offset + size]
            if rng.random() < 0.5:
                assert small_file.pread(size, offset) == expected
            else:
                with small_file.view(size, offset) as data:  # 4 threads pin at most 12 of the 16 pages
                    assert data == expected

    run_in_threads([lambda seed=seed: work(seed) for seed in range(4)])  # type: ignore[misc]
    assert small_cache.stats().evictions
