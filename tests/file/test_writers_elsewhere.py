"""Data that their own store does not take: saved as another object, or given up."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from tests.file.sources import DATA, binary, charged_pages, inode_of
from tests.file.writable import Disk

from pagein import PageCache
from pagein.stores import MemoryStore
from pagein.units import PAGE_SIZE
from pagein.unwritten import PIECE_BYTES


@pytest.fixture(params=["in place", "whole"])
def disk(request: pytest.FixtureRequest) -> Disk:
    return Disk({"a": DATA}, whole=request.param == "whole")


def test_a_file_that_its_store_does_not_take_is_saved_as_another(disk: Disk, cache: PageCache, tmp_path: Path) -> None:
    expected = b"new" + DATA[3:] + b"and more"
    other = Disk({"there": b"before" * 99}, whole=disk.whole)
    with binary(cache.open((disk, "a"), "r+b")) as file:
        file.write(b"new")
        file.pwrite(b"and more", len(DATA))
        disk.error = OSError(errno.EDQUOT, "quota exceeded")
        with pytest.raises(OSError, match="quota"):
            file.fsync()
        assert file.save_as(tmp_path / "saved") == len(expected)
        assert file.save_as((other, "new")) == file.save_as((other, "there")) == len(expected)
        assert (tmp_path / "saved").read_bytes() == other.objects["new"] == other.objects["there"] == expected
        assert other.open_count == 0
        file.discard()
        disk.error = None
    assert disk.objects["a"] == DATA


def test_a_cache_that_is_full_of_what_cannot_be_written_can_be_saved(disk: Disk, small_cache: PageCache) -> None:
    disk.error = OSError(errno.EIO, "not now")
    file, written = binary(small_cache.open((disk, "new"), "wb")), 0
    with pytest.raises(OSError, match="not now"):  # until the limit of what may be dirty is reached
        while True:
            written += file.write(bytes([written % 251]) * 1000)
    other = Disk()
    assert file.save_as((other, "saved")) == file.size_bytes >= written > PAGE_SIZE
    assert other.objects["saved"][:written] == b"".join(bytes([at % 251]) * 1000 for at in range(0, written, 1000))
    file.discard()
    disk.error = None
    file.close()


def test_a_file_that_only_reads_can_be_saved_too(cache: PageCache, tmp_path: Path, path: Path) -> None:
    with binary(cache.open(path)) as file:
        assert file.save_as(tmp_path / "copy") == len(DATA)
    assert (tmp_path / "copy").read_bytes() == DATA


def test_what_others_have_replaced_is_saved_whole_if_the_old_version_can_be_had(cache: PageCache) -> None:
    store = MemoryStore({"a": DATA, "b": DATA})
    for name, replace in (("a", lambda: store.put("a", b"theirs")), ("b", lambda: store.delete("b"))):
        with binary(cache.open((store, name), "r+b")) as file:
            file.write(b"mine")
            replace()
            with pytest.raises(OSError, match=r"changed while it was open for writing .*save_as\(\).*discard\(\)"):
                file.fsync()
            assert file.save_as((store, "mine")) == len(DATA)
            file.discard()
        with binary(cache.open((store, "mine"))) as saved:
            assert saved.read() == b"mine" + DATA[4:]
    with binary(cache.open((store, "a"))) as theirs:
        assert theirs.read() == b"theirs"


def test_what_only_the_lost_version_has_cannot_be_saved_but_what_was_written_can_be_read(
    cache: PageCache, tmp_path: Path
) -> None:
    disk = Disk({"a": DATA})
    with binary(cache.open((disk, "a"), "r+b")) as file:
        file.write(b"mine")
        disk.put("a", bytes(len(DATA)))
        with pytest.raises(OSError, match="changed while it was open") as raised:
            file.save_as(tmp_path / "mine")
        assert raised.value.errno == errno.ESTALE
        assert not os.listdir(tmp_path)
        assert file.pread(4, 0) == b"mine"
        file.discard()


@pytest.mark.parametrize("place", ["local", "whole"])
def test_what_was_written_can_be_put_into_the_version_that_replaced_what_was_opened(
    cache: PageCache, tmp_path: Path, place: str
) -> None:
    disk, theirs = Disk({"a": DATA}, whole=True), b"theirs" * 1000
    path = tmp_path / "a"
    path.write_bytes(DATA)
    source = path if place == "local" else (disk, "a")
    with binary(cache.open(source, "r+b")) as file:
        file.pwrite(b"mine", 100)
        path.write_bytes(theirs)
        disk.put("a", theirs)
        with pytest.raises(OSError, match="changed while it was open"):
            file.fsync()
        piece = file.pread(4, 100)
        file.discard()
    with binary(cache.open(source, "r+b")) as file:
        assert file.size_bytes == len(theirs)
        file.pwrite(piece, 100)
    expected = theirs[:100] + b"mine" + theirs[104:]
    assert (path.read_bytes() if place == "local" else disk.objects["a"]) == expected


def test_what_is_saved_is_what_the_next_open_finds(disk: Disk, cache: PageCache) -> None:
    with binary(cache.open((disk, "b"), "wb")) as old:
        old.write(b"old")
    with binary(cache.open((disk, "a"))) as file:
        file.save_as((disk, "b"))
    with binary(cache.open((disk, "b"))) as new:
        assert new.read() == DATA


def test_a_place_that_cannot_take_it_is_refused_and_left_as_it_was(disk: Disk, cache: PageCache) -> None:
    with binary(cache.open((disk, "b"), "wb")) as busy, binary(cache.open((disk, "a"), "r+b")) as file:
        busy.write(b"being written")
        for place, number in (((disk, "b"), errno.EBUSY), ((disk, "a"), errno.EBUSY), ((ReadOnly(), "x"), errno.EROFS)):
            with pytest.raises(OSError) as raised:
                file.save_as(place)
            assert raised.value.errno == number
    assert (disk.objects["a"], disk.objects["b"]) == (DATA, b"being written")


class ReadOnly:
    key, name = "read-only", "x"

    def source(self, path: str) -> Any:
        return self


def test_nothing_is_touched_for_a_file_that_cannot_be_read(disk: Disk, cache: PageCache) -> None:
    inode, store = inode_of(cache, DATA)
    store.inject("fill", offset_bytes=0, times=None, error=OSError(errno.EIO, "unreadable"))
    with binary(inode.open()) as file, pytest.raises(OSError, match="unreadable"):
        file.save_as((disk, "a"))
    assert disk.objects["a"] == DATA
    assert disk.names_of_calls() == []


def test_a_place_stays_as_it_was_until_all_has_been_read(cache: PageCache, tmp_path: Path) -> None:
    """A file that breaks off in the middle is not half of another."""
    whole, there = Disk({"there": b"as it was"}, whole=True), tmp_path / "there"
    there.write_bytes(b"as it was")
    there.chmod(0o640)
    inode, store = inode_of(cache, bytes(PIECE_BYTES * 3))
    store.inject("fill", offset_bytes=PIECE_BYTES * 2, times=None, error=OSError(errno.EIO, "unreadable"))
    with binary(inode.open()) as file:
        file.advise("random")  # only what is asked for
        for place in (there, tmp_path / "new", (whole, "there"), (whole, "new")):
            with pytest.raises(OSError, match="unreadable"):
                file.save_as(place)
        assert (os.listdir(tmp_path), there.read_bytes()) == (["there"], b"as it was")
        assert (whole.objects, whole.open_count) == ({"there": b"as it was"}, 0)
        store.heal()
        file.save_as(there)
    assert there.read_bytes() == bytes(PIECE_BYTES * 3)
    assert there.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["there"]


def test_a_file_is_not_saved_as_itself(disk: Disk, cache: PageCache, path: Path) -> None:
    with binary(cache.open((disk, "a"))) as file:
        with pytest.raises(OSError, match="are the same file"):
            file.save_as((disk, "a"))
        assert disk.objects["a"] == file.read() == DATA
    path.with_name("symbolic").symlink_to(path)
    path.with_name("hard").hardlink_to(path)
    with binary(cache.open(path)) as file:
        for same in (path, path.with_name("symbolic"), path.with_name("hard")):
            with pytest.raises(OSError, match="are the same file") as raised:
                file.save_as(same)
            assert raised.value.errno == errno.EINVAL
        assert path.read_bytes() == file.read() == DATA


def test_what_is_saved_is_in_the_place_that_a_link_points_to(cache: PageCache, path: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere/new")
    with binary(cache.open(path)) as file:
        file.save_as(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "elsewhere" / "new").read_bytes() == DATA
    assert os.listdir(tmp_path / "elsewhere") == ["new"]


# -- giving up ---------------------------------------------------------------------------------------


def test_what_is_given_up_is_gone_and_the_file_is_what_the_store_has(disk: Disk, cache: PageCache) -> None:
    with binary(cache.open((disk, "a"), "r+b")) as file:
        file.write(b"new")
        file.pwrite(b"more", len(DATA) + 5)
        assert file.discard() > 0
        assert file.discard() == 0
        assert file.size_bytes == len(DATA)
        assert file.pread(len(DATA), 0) == DATA
        file.pwrite(b"again", 0)
    assert disk.objects["a"] == b"again" + DATA[5:]


def test_a_new_whole_object_that_is_given_up_is_never_made(cache: PageCache) -> None:
    disk = Disk({"a": DATA}, whole=True)
    for name in "ab":
        with binary(cache.open((disk, name), "wb")) as file:
            file.write(b"half of it")
            file.discard()
    assert disk.objects == {"a": DATA}


def test_what_a_view_shows_is_not_given_up(disk: Disk, cache: PageCache) -> None:
    with binary(cache.open((disk, "a"), "r+b")) as file:
        file.write(b"new")
        with file.view(3, 0) as shown:
            with pytest.raises(OSError, match="pinned") as raised:
                file.discard()
            assert raised.value.errno == errno.EBUSY
            assert bytes(shown) == b"new"
        assert file.discard() > 0
        assert file.pread(3, 0) == DATA[:3]
    assert charged_pages(cache) <= 41
