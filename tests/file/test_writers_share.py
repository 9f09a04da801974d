"""One inode for all who have a file while it is being written, and what it is when they have gone."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest
from tests.file.sources import DATA, TIMEOUT_S, binary, charged_pages, run_in_threads
from tests.file.writable import Disk

from pagein import PageCache, cache as cache_module, idle, inode
from pagein.units import PAGE_SIZE


@pytest.fixture(params=["in place", "whole"])
def disk(request: pytest.FixtureRequest) -> Disk:
    return Disk({"a": DATA}, whole=request.param == "whole")


def test_who_opens_a_file_that_is_being_written_sees_what_is_written_and_asks_no_store(
    disk: Disk, cache: PageCache
) -> None:
    with binary(cache.open((disk, "a"), "r+b")) as writer:
        writer.pwrite(b"new", 5000)
        before = disk.names_of_calls()
        with binary(cache.open((disk, "a"))) as reader, binary(cache.open((disk, "a"), "r+b")) as another:
            assert disk.names_of_calls() == before
            assert reader.pread(3, 5000) == another.pread(3, 5000) == b"new"
            another.pwrite(b"newer", len(DATA))
            assert reader.size_bytes == writer.size_bytes == len(DATA) + 5
            assert bytes(reader.view(5, len(DATA))) == b"newer"
            writer.truncate(7)
            assert reader.pread(100, 0) == DATA[:7]
        assert cache.stats().inodes == 1
    assert disk.objects["a"] == DATA[:7]


def test_who_opened_before_keeps_the_version_that_he_opened(cache: PageCache) -> None:
    disk = Disk({"a": DATA}, whole=True)
    with binary(cache.open((disk, "a"))) as old:
        assert old.pread(10, 0) == DATA[:10]
        with binary(cache.open((disk, "a"), "r+b")) as writer:
            writer.write(b"XXXX")
            assert old.pread(10, 0) == DATA[:10]
        assert old.size_bytes == len(DATA)
        old.advise("random")
        with pytest.raises(OSError, match="changed while it was open") as raised:
            old.pread(10, 30 * PAGE_SIZE)
        assert raised.value.errno == errno.ESTALE
        with binary(cache.open((disk, "a"))) as new:
            assert new.pread(10, 0) == b"XXXX" + DATA[4:10]
            assert new.version != old.version


def test_what_was_written_is_read_from_the_cache_afterwards(disk: Disk, cache: PageCache) -> None:
    with binary(cache.open((disk, "new"), "wb")) as writer:
        writer.write(DATA)
    with binary(cache.open((disk, "new"))) as reader:
        assert reader.read() == DATA
        assert cache.stats().inodes == 1
    assert "fill" not in disk.names_of_calls()
    assert disk.open_count == 0, "the store's side is closed with the last file"


def test_who_writes_again_writes_on_the_same_pages(disk: Disk, cache: PageCache) -> None:
    for number in range(5):
        with binary(cache.open((disk, "log"), "ab")) as file:
            file.write(b"%d\n" % number)
    with binary(cache.open((disk, "log"), "r+b")) as file:
        assert file.read() == b"0\n1\n2\n3\n4\n"
    assert "fill" not in disk.names_of_calls()
    assert cache.stats().inodes == 1


def test_who_truncates_what_another_has_changed_starts_anew(disk: Disk, cache: PageCache) -> None:
    file = binary(cache.open((disk, "a"), "r+b"))
    file.write(b"mine")
    disk.put("a", b"another's")
    if not disk.whole:
        disk.error = OSError(errno.ESTALE, "changed", "a")  # as stores say that write in place
    with pytest.raises(OSError, match="changed"):
        file.close()
    disk.error = None
    with binary(cache.open((disk, "a"), "wb")) as new:
        new.write(b"mine alone")
    assert disk.objects["a"] == b"mine alone"
    assert disk.open_count == 0


def test_who_opens_a_file_that_was_discarded_looks_at_its_store(cache: PageCache, path: Path) -> None:
    with binary(cache.open(path, "r+b")) as file:
        file.write(b"mine")
        path.write_bytes(b"another's, and longer " * 4000)
        file.discard()
        with binary(cache.open(path)) as reader:
            assert reader.read() == path.read_bytes()


def test_files_may_grow_however_many_were_written_before(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inode, "ROOMY_MAX", 4)
    with PageCache("1 MiB") as cache:
        for number in range(5):
            binary(cache.open((disk, f"{number}"), "wb")).close()
        with binary(cache.open((disk, "big"), "wb")) as file:
            file.truncate(inode.ROOM_BYTES_OF_MANY + 1)
            file.truncate(0)


def test_a_foreign_change_after_the_last_writer_has_closed_is_seen(disk: Disk, cache: PageCache) -> None:
    with binary(cache.open((disk, "a"), "r+b")) as file:
        file.write(b"mine")
    disk.put("a", b"another's")
    for mode in ("rb", "r+b"):
        with binary(cache.open((disk, "a"), mode)) as file:
            assert file.read() == b"another's"


def test_a_foreign_change_meanwhile_is_an_error_and_the_data_stay(disk: Disk, cache: PageCache) -> None:
    file = binary(cache.open((disk, "a"), "r+b"))
    file.write(b"mine")
    disk.put("a", b"another's")
    if disk.whole:
        with pytest.raises(OSError, match="changed while it was open") as raised:
            file.fsync()
        assert raised.value.errno == errno.ESTALE
        assert disk.objects["a"] == b"another's"
        assert file.pread(4, 0) == b"mine"
        assert file.discard() > 0
        file.close()
        with binary(cache.open((disk, "a"))) as new:
            assert new.read() == b"another's"
    else:
        file.close()


def test_one_that_is_made_empty_by_another_is_empty_for_all(disk: Disk, cache: PageCache) -> None:
    with binary(cache.open((disk, "a"), "r+b")) as file:
        file.write(b"unwritten")
        with binary(cache.open((disk, "a"), "w+b")) as emptied:
            assert emptied.read() == file.pread(10, 0) == b""
        with pytest.raises(FileExistsError):
            cache.open((disk, "a"), "xb")
    assert disk.objects["a"] == b""


def test_a_new_object_exists_after_close_though_nothing_was_written(disk: Disk, cache: PageCache) -> None:
    for mode in ("wb", "xb", "ab"):
        cache.open((disk, mode), mode).close()
        assert disk.objects[mode] == b""


def test_opens_for_writing_take_turns(cache: PageCache) -> None:
    """Of many that make a file, one makes it; none empties what another has written."""
    for number in range(30):
        disk, path = Disk(), f"{number}"

        def make(disk: Disk = disk, path: str = path) -> bool:
            try:
                with binary(cache.open((disk, path), "xb")) as file:
                    file.write(b"made")
                return True
            except FileExistsError:
                return False

        def append(disk: Disk = disk, path: str = path) -> None:
            with binary(cache.open((disk, path), "ab")) as file:
                file.write(b"+")

        made = run_in_threads([make, append, make, append])
        assert disk.objects[path].count(b"+") == 2
        assert made.count(True) == disk.objects[path].count(b"made") <= 1


def test_a_reader_that_asked_before_the_writing_ended_does_not_bring_the_old_version_back(cache: PageCache) -> None:
    disk, asked, goes_on = Disk({"a": b"old"}), threading.Event(), threading.Event()

    class Slow:
        def __init__(self) -> None:
            self._source = disk.source("a")
            self.key, self.name = self._source.key, self._source.name

        def source(self, path: str) -> Slow:
            return self

        def open(self) -> object:
            opened = self._source.open()
            asked.set()
            assert goes_on.wait(TIMEOUT_S)
            return opened

    def read() -> bytes:
        with binary(cache.open((Slow(), "a"))) as file:
            return file.read()

    def write() -> None:
        assert asked.wait(TIMEOUT_S)
        with binary(cache.open((disk, "a"), "wb")) as file:
            file.write(b"new")
        goes_on.set()

    assert run_in_threads([read, write])[0] == b"new"
    assert cache.stats().inodes == 1


# -- what is remembered ------------------------------------------------------------------------------


def test_idle_inodes_with_room_are_few(cache: PageCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "IDLE_WITH_ROOM_MAX", 4)
    disk = Disk()
    for number in range(12):
        with binary(cache.open((disk, f"{number}"), "wb")) as file:
            file.write(b"x" * number)
    assert cache.stats().inodes == 4
    assert all(disk.objects[f"{number}"] == b"x" * number for number in range(12))


def test_a_thousand_files_may_be_written_at_once(cache: PageCache, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk()
    files = [binary(cache.open((disk, f"{number}"), "wb")) for number in range(1000)]
    for file in files:
        file.write(b"x")
    for file in files:
        file.close()
    assert set(disk.objects.values()) == {b"x"}


def test_what_is_unwritten_is_never_forgotten(cache: PageCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "IDLE_WITH_ROOM_MAX", 2)
    monkeypatch.setattr(cache_module, "IDLE_INODES_MAX", 2)
    disk = Disk()
    disk.error = OSError(errno.EIO, "not now")
    for number in range(8):
        file = binary(cache.open((disk, f"{number}"), "wb"))
        file.write(b"x" * (number + 1))
        with pytest.raises(OSError, match="not now"):
            file.close()
    assert cache.stats().inodes == 8
    for number in range(8):
        with binary(cache.open((disk, f"{number}"))) as file:
            assert file.read() == b"x" * (number + 1)
    disk.error = None
    cache.sync()
    assert disk.objects == {f"{number}": b"x" * (number + 1) for number in range(8)}
    assert cache.stats().inodes == 2


def test_drop_leaves_what_is_dirty(cache: PageCache, tmp_path: Path) -> None:
    with binary(cache.open(tmp_path / "file", "w+b")) as file:
        file.write(bytes(PAGE_SIZE))
        file.fsync()
        file.write(b"dirty")
        assert cache.drop() >= 1
        assert charged_pages(cache) >= 1
        assert file.pread(5, PAGE_SIZE) == b"dirty"


def test_statistics_tell_what_is_dirty(cache: PageCache) -> None:
    disk = Disk()
    with binary(cache.open((disk, "a"), "wb")) as file:
        assert cache.stats().dirty_bytes == 0
        file.write(bytes(PAGE_SIZE + 1))
        assert cache.stats().dirty_bytes == 2 * PAGE_SIZE
        file.fsync()
        assert cache.stats().dirty_bytes == 0
        assert cache.stats().written_bytes == PAGE_SIZE + 1
        disk.error = OSError(errno.EIO, "not now")
        file.write(b"x")
        with pytest.raises(OSError, match="not now"):
            file.fsync()
        assert cache.stats().failed_writes == 1
        disk.error = None
        file.fsync()


def test_the_size_of_what_the_cache_knows_more_of_than_its_store_cannot_be_told(cache: PageCache) -> None:
    def refused() -> bool:
        with pytest.raises(OSError) as caught:
            told.resize(10)
        return caught.value.errno == errno.EBUSY

    disk = Disk({"a": DATA})
    opened = disk.source("a").open_for_writing(create=False, exclusive=False, truncate=False)
    told = cache.inode(opened.ops, size_bytes=len(DATA))
    file = told.open("r+b")
    file.pwrite(b"new", 0)
    assert refused(), "it is open for writing"
    disk.error = OSError(errno.EIO, "down")
    with pytest.raises(OSError):
        file.close()
    assert refused(), "it has unwritten data"
    disk.error = None
    cache.sync()
    told.resize(10)
    assert told.size_bytes == 10
