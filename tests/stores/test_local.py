"""Local files, as the operating system has them, checked after each read; and LocalStore, which keeps to its root."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.stores.reading import DATA, MIB, OTHER, fill, opened, raises_errno, read_whole

import pagein
from pagein.stores import LocalStore, source_of

ELSEWHERE = Path("/dev/shm")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data.bin"
    path.write_bytes(DATA)
    os.utime(path, ns=(1, 1))  # whatever is written to it from here on has another mtime
    return path


def test_a_file_reads_as_its_bytes(file: Path) -> None:
    with pagein.PageCache("16M", debug=True) as cache:
        assert read_whole(cache, file) == DATA
        assert read_whole(cache, str(file)) == DATA
        assert read_whole(cache, os.fsencode(file)) == DATA
        assert read_whole(cache, f"file://{file}") == DATA
        assert cache.stats().inodes == 1


def test_a_relative_path_is_where_it_was_when_it_was_opened(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    source = source_of("data.bin")
    monkeypatch.chdir("/")
    assert source.name == "data.bin"
    with opened(source) as version:
        assert fill(version, 100, 1000) == DATA[1000:1100]


@pytest.mark.parametrize("name", ["missing", "data.bin/x", "data.bin/", ".", "", "loop"])
def test_a_path_that_open_refuses_is_refused_with_the_same_error(
    file: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    os.symlink("loop", "loop")
    with pytest.raises(OSError) as theirs:
        open(name, "rb").close()
    with pytest.raises(OSError) as ours:
        source_of(name).open()
    assert ours.value.errno == theirs.value.errno
    assert ours.value.filename == theirs.value.filename


def test_permission_is_what_the_system_says(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", "resolved")

    monkeypatch.setattr(os, "open", refuse)
    with raises_errno(errno.EACCES, str(file)):
        source_of(file).open()


def test_what_has_no_bytes_at_an_offset_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")  # open() would wait for a writer
    with raises_errno(errno.ESPIPE, "a FIFO"):
        source_of(tmp_path / "fifo").open()
    with raises_errno(errno.ESPIPE, "a character device"):
        source_of("/dev/zero").open()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        with raises_errno(errno.ESPIPE, "a socket"):
            source_of(tmp_path / "socket").open()


def test_a_file_that_becomes_a_fifo_just_before_it_is_opened_is_not_waited_for(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = os.stat(file)
    file.unlink()
    os.mkfifo(file)
    monkeypatch.setattr(os, "stat", lambda *_, **__: status)
    with raises_errno(errno.ESPIPE, "a FIFO"):
        source_of(file).open()


def test_a_file_that_says_it_is_empty_and_is_not_is_refused_rather_than_read_as_empty() -> None:
    with raises_errno(errno.EOPNOTSUPP, "does not tell its size"):
        source_of("/proc/self/status").open()


def test_an_empty_file_is_empty(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pagein.PageCache("16M", debug=True) as cache:
        assert read_whole(cache, tmp_path / "empty") == b""


# -- versions ----------------------------------------------------------------------------------------


def test_a_file_that_is_written_to_while_it_is_read_gives_estale(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write comes after the first byte was read and before the last: only a check after the read can see it."""
    preadv = os.preadv

    def preadv_with_a_writer(fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        half = len(buffers[0]) // 2
        got = preadv(fd, [buffers[0][:half]], offset)
        with open(file, "r+b") as writer:
            writer.write(OTHER)
        return got

    with opened(file) as version:
        assert fill(version, MIB, 0) == DATA[:MIB]
        monkeypatch.setattr(os, "preadv", preadv_with_a_writer)
        with raises_errno(errno.ESTALE, "mtime=1 "):
            fill(version, MIB, 0)


def test_a_writer_in_another_thread_never_shows_half_of_what_it_writes(file: Path) -> None:
    rounds = 20
    for mtime_ns in range(2, 2 + rounds):
        file.write_bytes(DATA)
        os.utime(file, ns=(mtime_ns, mtime_ns))
        with opened(file) as version:
            writer = threading.Thread(target=overwrite, args=(file, OTHER))
            writer.start()
            try:
                read = fill(version, len(DATA), 0)
            except OSError as error:
                number = error.errno
            else:
                number = errno.ESTALE
                assert read == DATA
            assert number == errno.ESTALE
            writer.join()
            with raises_errno(errno.ESTALE):
                fill(version, 1, 0)


def overwrite(path: Path, data: bytes) -> None:
    with open(path, "r+b", buffering=0) as file:
        file.write(data)


@pytest.mark.parametrize("size_bytes", [0, 5000, len(DATA) + 5000])
def test_a_file_that_shrinks_or_grows_gives_estale(file: Path, size_bytes: int) -> None:
    with opened(file) as version:
        os.truncate(file, size_bytes)
        with raises_errno(errno.ESTALE, f"size={size_bytes}"):
            fill(version, 4096, 4096)


def test_a_file_that_ends_early_without_another_version_is_an_error(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, offset: 0)
    with opened(file) as version, raises_errno(errno.EIO, "got 0 of the 10 bytes at offset 7"):
        fill(version, 10, 7)


def test_reads_that_come_in_pieces_are_put_together(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, offset: preadv(fd, [buffers[0][:1000]], offset))
    with opened(file) as version:
        assert fill(version, 10_500, 77) == DATA[77:10_577]


def test_a_failing_disk_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with opened(file) as version:
        monkeypatch.setattr(os, "preadv", fail)
        with raises_errno(errno.EIO, str(file)):
            fill(version, 10, 7)


def test_a_file_that_is_replaced_or_unlinked_is_read_on_by_who_has_it_open(file: Path) -> None:
    with pagein.PageCache("16M", debug=True) as cache, cache.open(file) as before:
        (file.parent / "new").write_bytes(OTHER)
        os.replace(file.parent / "new", file)
        with cache.open(file) as after:
            assert after.version != before.version
            assert after.read() == OTHER
            file.unlink()
            assert before.read() == DATA


def test_links_of_one_file_share_its_pages_if_they_are_symbolic(file: Path) -> None:
    (file.parent / "symbolic").symlink_to(file)
    (file.parent / "hard").hardlink_to(file)
    assert source_of(file.parent / "symbolic").key == source_of(file).key
    assert source_of(file.parent / "hard").key != source_of(file).key


# -- LocalStore --------------------------------------------------------------------------------------


def test_a_store_opens_the_files_below_its_root(file: Path) -> None:
    (file.parent / "sub").mkdir()
    (file.parent / "sub" / "f").write_bytes(OTHER)
    (file.parent / "sub" / "up").symlink_to("../data.bin")
    store = LocalStore(file.parent)
    with pagein.PageCache("16M", debug=True) as cache:
        for path, data in (("data.bin", DATA), ("sub/f", OTHER), ("sub/up", DATA), ("sub/../data.bin", DATA)):
            assert read_whole(cache, (store, path)) == data
    assert store.source("data.bin").key == source_of(file).key
    with raises_errno(errno.ENOENT):
        store.source("sub/missing").open()
    with raises_errno(errno.EISDIR):
        store.source("sub").open()
    with raises_errno(errno.ENOTDIR):
        store.source("data.bin/").open()


def test_no_path_leads_out_of_the_root(file: Path) -> None:
    root = file.parent / "root"
    root.mkdir()
    (root / "link").symlink_to(file)
    (root / "away").symlink_to("..")
    (file.parent / "root-too").mkdir()
    (file.parent / "root-too" / "f").write_bytes(DATA)
    store = LocalStore(root)
    for path in ("../data.bin", "link", "away/data.bin", str(file), "../root-too/f", "x/../../data.bin"):
        with raises_errno(errno.EACCES, "is not below"):
            store.source(path)


def test_each_disk_is_a_device_of_its_own(file: Path) -> None:
    if not ELSEWHERE.is_dir() or ELSEWHERE.stat().st_dev == file.stat().st_dev:
        pytest.skip("there is but one")
    with tempfile.NamedTemporaryFile(dir=ELSEWHERE) as other, pagein.PageCache("16M", debug=True) as cache:
        other.write(OTHER)
        other.flush()
        for path in (file, file, other.name):
            assert read_whole(cache, path) in (DATA, OTHER)
        stores = cache.stats().stores
        assert len(stores) == len({store.name for store in stores}) == 2
