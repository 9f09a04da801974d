"""Versions of local files where the clock of the file system is coarse: two writes within one tick of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.stores.reading import raises_errno
from tests.stores.writing import small_disk

import pagein
from pagein.stores import local_version
from pagein.stores.local_version import COARSE_TICK_NS, OWN_MAX, TICK_NS, look, note_own

OLD, NEW = b"A" * 5000, b"B" * 5000
WRITTEN_NS = 1_000_000_000_000_000_001


class Clock:
    """Of the machine; the file system's says `WRITTEN_NS`."""

    def __init__(self) -> None:
        self.ns = WRITTEN_NS

    def now_ns(self) -> int:
        return self.ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(local_version, "now_ns", clock.now_ns)
    return clock


@pytest.fixture
def cache() -> Iterator[pagein.PageCache]:
    with pagein.PageCache("16M", debug=True) as cache:
        yield cache


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """What was written just now."""
    return written(tmp_path / "file", OLD)


def written(path: Path, data: bytes, mtime_ns: int = WRITTEN_NS) -> Path:
    """Written in place, whatever the clock of this file system is worth."""
    with open(path, "r+b" if path.exists() else "wb") as file:
        file.write(data)
    os.utime(path, ns=(mtime_ns, mtime_ns))
    return path


def read(cache: pagein.PageCache, path: Path) -> bytes:
    with cache.open(path) as file:
        return file.read()


def test_a_file_that_is_rewritten_within_a_tick_is_never_served_stale_to_who_opens_it_later(
    tmp_path: Path, cache: pagein.PageCache
) -> None:
    """On a file system that has only the coarse clock, whatever this machine's others have."""
    with small_disk(tmp_path / "disk", kind="ramfs") as disk:
        for number in range(20):
            path = disk / str(number)
            with open(path, "w+b", buffering=0) as writer:
                writer.write(OLD)
                assert read(cache, path) == OLD
                os.pwrite(writer.fileno(), NEW, 0)
            assert read(cache, path) == NEW
        cache.drop()


def test_so_it_is_by_any_clock(cache: pagein.PageCache, path: Path, clock: Clock) -> None:
    clock.ns += TICK_NS // 2
    assert read(cache, path) == OLD
    written(path, NEW)
    assert read(cache, path) == NEW
    written(path, OLD)
    clock.ns += 10**12
    assert read(cache, path) == OLD


def test_one_that_was_opened_within_the_tick_is_read_once_more_and_then_kept(
    cache: pagein.PageCache, path: Path, clock: Clock
) -> None:
    assert read(cache, path) == OLD
    clock.ns += TICK_NS + 1
    assert read(cache, path) == OLD
    fetched_bytes = cache.stats().fetched_bytes
    assert fetched_bytes == 2 * len(OLD)
    for _ in range(3):
        assert read(cache, path) == OLD
    assert cache.stats().fetched_bytes == fetched_bytes


@pytest.mark.parametrize("ahead_ns", [-TICK_NS - 1, TICK_NS + 1, 10**18])
def test_one_that_is_older_or_from_the_future_is_read_once(
    cache: pagein.PageCache, path: Path, clock: Clock, ahead_ns: int
) -> None:
    written(path, OLD, WRITTEN_NS + ahead_ns)
    assert read(cache, path) == read(cache, path) == OLD
    assert cache.stats().fetched_bytes == len(OLD)


def test_times_in_whole_seconds_take_that_long_to_tell_two_writes_apart(path: Path, clock: Clock) -> None:
    written(path, OLD, WRITTEN_NS - 1)
    clock.ns = WRITTEN_NS - 1 + COARSE_TICK_NS
    assert look(str(path))[1].is_racy
    clock.ns += 1
    assert not look(str(path))[1].is_racy


def test_a_look_whose_thread_is_held_up_is_as_old_as_when_it_began(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = os.stat

    def stat_and_wait(at: str) -> os.stat_result:
        status = stat(at)
        clock.ns += 10 * TICK_NS
        return status

    monkeypatch.setattr(os, "stat", stat_and_wait)
    version = look(str(path))[1]
    monkeypatch.undo()
    assert version.is_racy


def test_who_has_it_open_and_looks_reads_on_unless_the_stamp_moves(path: Path, clock: Clock) -> None:
    with pagein.PageCache("16M", revalidate="always") as cache, cache.open(path) as file:
        assert file.pread(10, 0) == OLD[:10]
        clock.ns += 10 * TICK_NS
        assert file.pread(10, 4090) == OLD[:10]
        written(path, NEW, WRITTEN_NS + 1)
        with raises_errno(errno.ESTALE):
            file.pread(10, 0)


def test_what_the_cache_has_written_is_not_fetched_again(cache: pagein.PageCache, tmp_path: Path) -> None:
    path = tmp_path / "new"
    for mode in ("wb", "r+b", "r+b"):
        with cache.open(path, mode) as file:
            file.write(OLD)
        assert read(cache, path) == read(cache, path) == OLD
    assert cache.stats().fetched_bytes == 0


def test_nor_later(cache: pagein.PageCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with cache.open(tmp_path / "new", "wb") as file:
        file.write(OLD)
    monkeypatch.setattr(local_version, "now_ns", lambda: WRITTEN_NS)
    assert read(cache, tmp_path / "new") == OLD
    assert cache.stats().fetched_bytes == 0


def test_what_was_written_to_a_file_that_was_new_is_kept_apart_from_what_was_read_of_it(
    cache: pagein.PageCache, path: Path, clock: Clock
) -> None:
    """Another may have written to it within the tick, after the page was read: who opens it next reads all of it."""
    with cache.open(path, "r+b") as file:
        assert file.pread(10, 4096) == OLD[:10]
        written(path, NEW)
        file.write(b"ours")
    assert read(cache, path) == b"ours" + NEW[4:]


def test_each_of_our_writes_makes_another_version_though_the_clock_stands(path: Path) -> None:
    """Another cache of this process may have read in between."""
    status = os.stat(path)
    versions = [note_own(status) for _ in range(3)]
    assert len(set(map(str, versions))) == 3
    now = look(str(path))[1]
    assert [version.is_still(now) for version in versions] == [False, False, True]
    assert str(now) == str(versions[2])
    written(path, NEW, WRITTEN_NS + 1)
    assert not look(str(path))[1].is_own, "another's write is not ours"
    assert not note_own(os.stat(path)).mark, "a stamp that has moved tells by itself"


def test_of_many_files_that_we_have_written_some_are_forgotten(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_version, "_own", {(0, number): ("", "") for number in range(OWN_MAX)})
    note_own(os.stat(path))
    assert len(local_version._own) == 1


def test_who_reads_what_we_have_written_reads_on_when_that_is_forgotten(path: Path) -> None:
    written(path, OLD, 1)
    for _ in range(2):  # within one tick
        note_own(os.stat(path))
    with pagein.PageCache("16M", revalidate="always") as cache, cache.open(path) as file:
        assert "write=" in file.version
        assert file.pread(10, 0) == OLD[:10]
        local_version._own.clear()
        assert file.pread(10, 0) == OLD[:10]
        note_own(os.stat(path))
        note_own(os.stat(path))
        with raises_errno(errno.ESTALE):
            file.pread(10, 0)


def test_a_child_of_a_fork_does_not_take_its_parents_writes_for_its_own(path: Path) -> None:
    note_own(os.stat(path))
    child = os.fork()
    if not child:
        os._exit(look(str(path))[1].is_own)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
