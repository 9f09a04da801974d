"""`PageCache.sync` makes durable what was written to local files through the cache, and closed before."""

from __future__ import annotations

import errno
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.file.sources import DATA, binary

from pagein import PageCache
from pagein.stores import local_fsync


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is fsynced, by the names that it has; and "all", by sync(2)."""
    names: list[str] = []
    fsync = os.fsync

    def noted(fd: int) -> None:
        names.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "sync", lambda: names.append("all"))
    return names


def close(cache: PageCache, path: Path, mode: str) -> None:
    with binary(cache.open(path, mode)) as file:
        file.write(b"x")


def leave(cache: PageCache, path: Path, mode: str) -> None:
    binary(cache.open(path, mode)).write(b"x")
    gc.collect()


def close_under_a_reader(cache: PageCache, path: Path, mode: str) -> None:
    file = binary(cache.open(path, mode))
    with cache.open(path):
        file.write(b"x")
        file.close()
        cache.stats()  # follows up


def close_without_a_write(cache: PageCache, path: Path, mode: str) -> None:
    cache.open(path, mode).close()


@pytest.mark.parametrize("end", [close, leave, close_under_a_reader])
@pytest.mark.parametrize("mode", ["wb", "r+b", "ab"])
def test_what_was_written_to_a_local_file_and_closed_is_durable_after_sync(
    cache: PageCache, path: Path, synced: list[str], mode: str, end: Callable[..., None]
) -> None:
    end(cache, path, mode)
    assert synced == []
    cache.sync()
    assert set(synced) == {path.name}, "twice if it was closed meanwhile"
    synced.clear()
    cache.sync()
    assert synced == []


@pytest.mark.parametrize("end", [close, close_without_a_write])
def test_so_are_the_name_of_a_new_file_and_its_being_empty(
    cache: PageCache, path: Path, synced: list[str], end: Callable[..., None]
) -> None:
    end(cache, path.with_name("new"), "xb")
    cache.sync()
    assert synced == ["new", path.parent.name]
    end(cache, path, "wb")
    cache.sync()
    assert synced[2:] == [path.name]


def test_what_is_durable_already_is_not_synced_again(cache: PageCache, path: Path, synced: list[str]) -> None:
    with binary(cache.open(path, "r+b")) as file:
        file.write(b"x")
        file.fsync()
    cache.open(path, "r+b").close()
    assert cache.open(path).read() == b"x" + DATA[1:]
    synced.clear()
    cache.sync()
    assert synced == []


def test_what_was_written_after_an_fsync_is_not_durable_by_it(cache: PageCache, path: Path, synced: list[str]) -> None:
    with binary(cache.open(path, "r+b")) as file:
        file.write(b"x")
        file.fsync()
        file.write(b"y")
    synced.clear()
    cache.sync()
    assert synced == [path.name]


@pytest.mark.parametrize("change", ["renamed", "removed", "replaced"])
def test_a_file_that_has_its_name_no_longer_is_made_durable_with_everything_else(
    cache: PageCache, path: Path, synced: list[str], change: str
) -> None:
    close(cache, path, "r+b")
    match change:
        case "renamed":
            path.rename(path.with_name("another"))
        case "removed":
            path.unlink()
        case "replaced":
            path.with_name("another").write_bytes(b"")
            path.with_name("another").rename(path)
    cache.sync()
    assert synced == ["all"]
    cache.sync()
    assert synced == ["all"]


def test_of_more_files_than_are_remembered_all_are_durable(
    cache: PageCache, tmp_path: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_fsync, "CLOSED_MAX", 2)
    for name in "abc":
        close(cache, tmp_path / name, "xb")
    cache.sync()
    assert synced[-1] == "all"
    synced.clear()
    cache.sync()
    assert synced == []


def test_once_all_is_durable_names_are_known_again(
    cache: PageCache, tmp_path: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_fsync, "_new", {})
    monkeypatch.setattr(local_fsync, "_forgotten", [])
    monkeypatch.setattr(local_fsync, "NAMES_MAX", 2)
    monkeypatch.setattr(local_fsync, "CLOSED_MAX", 2)
    for name in "abc":
        close(cache, tmp_path / name, "xb")
    assert local_fsync.may_be_new((0, 0)), "there were more than are remembered"
    cache.sync()
    assert synced[-1] == "all"
    assert not local_fsync.may_be_new((0, 0))


def test_why_one_is_not_durable_is_told_once_and_the_others_are_tried_again(
    cache: PageCache, tmp_path: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(b"")
        close(cache, tmp_path / name, "r+b")

    def broken(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="Input/output") as raised:
        patch.setattr(os, "fsync", broken)
        cache.sync()
    assert raised.value.filename == str(tmp_path / "a")
    cache.sync()
    assert synced == ["b"]


def test_a_sync_is_of_what_was_written_through_the_same_cache(cache: PageCache, path: Path, synced: list[str]) -> None:
    close(cache, path, "r+b")
    with PageCache("1 MiB") as other:
        other.sync()
        assert synced == []


def test_a_file_that_is_closed_while_another_sync_is_under_way_is_for_the_next(
    cache: PageCache, path: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    close(cache, path, "r+b")
    fsync: Any = os.fsync

    def written_meanwhile(fd: int) -> None:
        fsync(fd)
        monkeypatch.setattr(os, "fsync", fsync)
        close(cache, path, "ab")

    monkeypatch.setattr(os, "fsync", written_meanwhile)
    cache.sync()
    synced.clear()
    cache.sync()
    assert set(synced) == {path.name}
