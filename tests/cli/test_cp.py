"""`pagein cp`: any source to any place that can be written to."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.cli.command import run_here, started

from pagein import PageCache
from pagein.cli import copying
from pagein.stores import MemoryStore
from pagein.testing.httpserver import RangeServer

MIB = 1 << 20
DATA = os.urandom(3 * MIB + 5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    return path


def umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


@contextmanager
def breaking_off() -> Iterator[str]:
    """The URL of an object that is refused after some answers."""

    class Breaking(dict[str, bytes]):
        answers = 3

        def get(self, name: str, default: object = None) -> bytes:
            self.answers -= 1
            if not self.answers:
                server.faults.set(name, "status:403")
            return super().get(name, default)  # type: ignore[arg-type]

    with RangeServer(Breaking(data=DATA * 4)) as server:
        yield server.url("data")


def test_it_copies_a_file(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for size in (0, 1, len(DATA)):
        path.write_bytes(DATA[:size])
        ended = run_here(capsys, "cp", path, tmp_path / "copy")
        assert (ended.status, ended.out, ended.err) == (0, "", "")
        assert (tmp_path / "copy").read_bytes() == DATA[:size]


def test_it_copies_into_a_directory(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "into").mkdir()
    with RangeServer({"sub/name.bin": DATA}) as server:
        assert run_here(capsys, "cp", server.url("sub/name.bin") + "?version=1", tmp_path / "into").status in (0, 1)
        assert run_here(capsys, "cp", server.url("sub/name.bin"), tmp_path / "into").status == 0
    assert run_here(capsys, "cp", path, f"{tmp_path / 'into'}/").status == 0
    assert (tmp_path / "into" / "name.bin").read_bytes() == (tmp_path / "into" / "data").read_bytes() == DATA


def test_each_byte_is_downloaded_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RangeServer({"a": DATA}) as server:
        assert run_here(capsys, "cp", server.url("a"), tmp_path / "copy").status == 0
        assert server.stats().sent_bytes == len(DATA)
    assert (tmp_path / "copy").read_bytes() == DATA


def test_a_source_that_is_absent_leaves_the_destination_alone(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = run_here(capsys, "cp", tmp_path / "absent", path)
    assert ended.status == 1
    assert ended.complaint == f"pagein: {tmp_path / 'absent'}: No such file or directory"
    assert path.read_bytes() == DATA


def test_a_source_that_cannot_be_read_leaves_the_destination_alone(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RangeServer({"a": DATA}) as server:
        server.faults.set("a", "status:403")
        ended = run_here(capsys, "cp", server.url("a"), path)
    assert ended.status == 1
    assert "403" in ended.complaint
    assert path.read_bytes() == DATA


def test_a_destination_that_cannot_be_written_is_named(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RangeServer({}) as server:
        ended = run_here(capsys, "cp", path, server.url("there"))
        assert ended.complaint == f"pagein: {server.url('there')}: its store is read-only"
    ended = run_here(capsys, "cp", path, path / "below")
    assert (ended.status, "Not a directory" in ended.complaint) == (1, True)


def test_a_file_is_not_copied_to_itself(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.with_name("link").symlink_to(path)
    path.with_name("hard").hardlink_to(path)
    for same in (path, path.with_name("link"), path.with_name("hard")):
        ended = run_here(capsys, "cp", path, same)
        assert (ended.status, ended.complaint) == (1, f"pagein: {path} and {same} are the same file")
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("through", ["local://{path}", "simplecache::file://{path}", "file:{path}"])
def test_a_file_is_not_emptied_by_a_copy_to_itself_by_whatever_name(
    through: str, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("fsspec")
    path.write_bytes(DATA * 4)  # more than is read ahead
    run_here(capsys, "cp", through.format(path=path), path)
    assert path.read_bytes() == DATA * 4
    assert os.listdir(tmp_path) == ["data"]


def test_an_archive_can_be_replaced_by_what_is_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("fsspec")
    archive = tmp_path / "archive"
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("member", DATA * 4)
    assert run_here(capsys, "cp", f"zip://member::file://{archive}", archive).status == 0
    assert archive.read_bytes() == DATA * 4


@pytest.mark.usefixtures("first_bytes_only")
def test_a_local_file_is_as_it_was_if_the_source_breaks_off(path: Path, tmp_path: Path) -> None:
    with breaking_off() as url, PageCache("16 MiB") as cache:
        with pytest.raises(OSError, match="403"):
            copying.copy(cache, url, str(path), lambda _: None)
        with pytest.raises(OSError, match="403"):
            copying.copy(cache, url, str(tmp_path / "new"), lambda _: None)
    assert path.read_bytes() == DATA
    assert os.listdir(tmp_path) == ["data"]


def test_what_is_replaced_keeps_its_permissions_and_what_is_new_has_those_of_its_source(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As far as the umask lets it."""
    path.chmod(0o750)
    (tmp_path / "there").write_bytes(b"older")
    (tmp_path / "there").chmod(0o640)
    (tmp_path / "link").symlink_to("there")
    assert run_here(capsys, "cp", path, tmp_path / "link").status == 0
    assert run_here(capsys, "cp", path, tmp_path / "new").status == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there").read_bytes() == DATA
    assert (tmp_path / "there").stat().st_mode & 0o7777 == 0o640
    assert (tmp_path / "new").stat().st_mode & 0o7777 == 0o750 & ~umask()


def test_a_file_system_without_permissions_takes_a_copy(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAT refuses chmod, and has no owners."""

    def refused(path: str, *arguments: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", path)

    monkeypatch.setattr(os, "chmod", refused)
    monkeypatch.setattr(os, "chown", refused)
    for _ in range(2):
        assert run_here(capsys, "cp", path, tmp_path / "copy").status == 0
    assert (tmp_path / "copy").read_bytes() == DATA


def test_a_new_file_has_no_permission_that_the_umask_denies(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path.chmod(0o666)
    before = os.umask(0o077)
    try:
        assert run_here(capsys, "cp", path, tmp_path / "new").status == 0
        with RangeServer({"a": DATA}) as server:
            assert run_here(capsys, "cp", server.url("a"), tmp_path / "far").status == 0
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o7777 == 0o600
    assert (tmp_path / "far").stat().st_mode & 0o7777 == 0o600


@pytest.fixture
def another_group() -> int:
    """Which this process may give a file to."""
    if os.geteuid() == 0:
        return 65534
    others = set(os.getgroups()) - {os.getegid()}
    if not others:
        pytest.skip("needs to be in two groups, or root")
    return min(others)


@pytest.mark.parametrize(("mode", "left"), [(0o660, 0o600), (0o664, 0o644), (0o604, 0o600), (0o644, 0o644)])
def test_who_cannot_keep_a_files_group_gives_its_access_to_nobody(
    mode: int, left: int, another_group: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = path.with_name("there")
    there.write_bytes(b"older")
    os.chown(there, -1, another_group)
    there.chmod(mode)
    chown = os.chown
    with PageCache("16 MiB") as cache:
        copying.copy(cache, str(path), str(there), lambda _: None)
    assert (there.stat().st_gid, there.stat().st_mode & 0o7777) == (another_group, mode), "who may give it keeps it"

    def refused(path: str, uid: int, gid: int) -> None:
        if gid == another_group:
            raise PermissionError(errno.EPERM, "Operation not permitted", path)
        chown(path, uid, gid)

    monkeypatch.setattr(os, "chown", refused)
    with PageCache("16 MiB") as cache:
        copying.copy(cache, str(path), str(there), lambda _: None)
    assert there.read_bytes() == DATA
    assert there.stat().st_gid != another_group
    assert there.stat().st_mode & 0o7777 == left


def test_what_a_process_has_open_is_refused_and_nothing_is_written_elsewhere(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link"
    with open(gone, "w+b") as file:
        link.symlink_to(f"/proc/self/fd/{file.fileno()}")
        for is_gone in (False, True):
            if is_gone:
                gone.unlink()
            for place in (f"/proc/self/fd/{file.fileno()}", f"/dev/fd/{file.fileno()}", link):
                ended = run_here(capsys, "cp", path, place)
                assert ended.complaint == (
                    f"pagein: {place}: is what a process has open, which a copy cannot replace; "
                    "`pagein cat SOURCE` writes to stdout"
                )
                assert ended.status == 1
            assert file.read() == b""
            assert gone.exists() != is_gone
    assert sorted(os.listdir(tmp_path)) == ["data", "elsewhere"]


def test_a_file_of_an_open_directory_is_copied_to(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of that, unlike a file, what is below has a name."""
    (tmp_path / "into").mkdir()
    (tmp_path / "link").symlink_to("into/new")
    directory = os.open(tmp_path / "into", os.O_RDONLY)
    try:
        assert run_here(capsys, "cp", path, f"/proc/self/fd/{directory}").status == 0
    finally:
        os.close(directory)
    assert run_here(capsys, "cp", path, tmp_path / "link").status == 0
    assert (tmp_path / "into" / "data").read_bytes() == (tmp_path / "into" / "new").read_bytes() == DATA


@pytest.fixture
def mounted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As rename() answers where the destination is a mount of its own."""

    def busy(new: str, path: str) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy", new, None, path)

    monkeypatch.setattr(os, "replace", busy)


@pytest.mark.usefixtures("mounted")
def test_a_file_that_is_mounted_is_written_in_place(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there"
    for size in (2 * len(DATA), 5):
        there.write_bytes(bytes(size))
        os.utime(there, (1, 1))
        number = there.stat().st_ino
        ended = run_here(capsys, "sync", path, there)
        assert (ended.status, ended.err) == (0, "")
        assert there.read_bytes() == DATA
        assert (there.stat().st_ino, there.stat().st_mtime_ns) == (number, path.stat().st_mtime_ns)
    assert sorted(os.listdir(tmp_path)) == ["data", "there"]


@pytest.mark.usefixtures("mounted")
@pytest.mark.usefixtures("first_bytes_only")
def test_a_file_that_is_mounted_is_as_it_was_if_the_source_breaks_off(path: Path) -> None:
    with breaking_off() as url, PageCache("16 MiB") as cache, pytest.raises(OSError, match="403"):
        copying.copy(cache, url, str(path), lambda _: None)
    assert path.read_bytes() == DATA


@pytest.mark.usefixtures("mounted")
def test_an_error_while_a_mounted_file_is_written_says_what_is_there(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(whole: object, there: object, size_bytes: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "there").write_bytes(b"older")
    monkeypatch.setattr(shutil, "copyfileobj", full)
    ended = run_here(capsys, "cp", path, tmp_path / "there")
    assert ended.status == 1
    assert ended.complaint.startswith(f"pagein: {tmp_path / 'there'}: No space left on device; as it is mounted")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to everything")
def test_a_file_that_may_not_be_written_to_is_not_replaced(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").write_bytes(b"older")
    (tmp_path / "there").chmod(0o440)
    ended = run_here(capsys, "cp", path, tmp_path / "there")
    assert (ended.status, ended.complaint) == (1, f"pagein: {tmp_path / 'there'}: Permission denied")
    assert (tmp_path / "there").read_bytes() == b"older"


@pytest.mark.usefixtures("first_bytes_only")
def test_an_object_is_as_it_was_if_the_source_breaks_off(tmp_path: Path) -> None:
    """What is replaced whole is replaced only by a whole."""
    store = MemoryStore({"a": b"as it was"})
    with breaking_off() as url, PageCache("16 MiB") as cache:
        with pytest.raises(OSError, match="403"):
            copying.copy(cache, url, (store, "a"), lambda _: None)  # type: ignore[arg-type]
        with pytest.raises(OSError, match="403"):
            copying.copy(cache, url, (store, "new"), lambda _: None)  # type: ignore[arg-type]
        with cache.open((store, "a")) as file:
            assert file.read() == b"as it was"
        with pytest.raises(FileNotFoundError):
            cache.open((store, "new"))


def test_a_full_disk_is_told(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    ended = run_here(capsys, "cp", path, "/dev/full")
    assert ended.status == 1
    assert "/dev/full: is a character device" in ended.complaint


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_at_once_and_nothing_is_left(number: int, status: int, tmp_path: Path) -> None:
    with RangeServer({"data": DATA * 2}) as server:
        server.hold("data", after_bytes=len(DATA))
        with started("cp", server.url("data"), tmp_path / "copy") as process:
            server.wait_until_held("data", timeout_s=30.0)
            process.send_signal(number)
            out, err = process.communicate(timeout=30.0)
    assert (process.returncode, out, err) == (status, b"", b"")
    assert not list(tmp_path.iterdir())


def test_ctrl_c_leaves_an_object_as_it_was() -> None:
    """Cancelled between two pieces, as the command does it."""
    store = MemoryStore({"a": b"as it was"})

    def interrupt(copied_bytes: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), copying.passing_cache() as cache:
        copying.copy(cache, (MemoryStore({"b": DATA}), "b"), (store, "a"), interrupt)  # type: ignore[arg-type]
    with PageCache("1 MiB") as cache, cache.open((store, "a")) as file:
        assert file.read() == b"as it was"


def test_no_space_is_an_error_and_the_command_ends(tmp_path: Path) -> None:
    from tests.file.writable import Disk

    disk = Disk()
    disk.error = OSError(errno.ENOSPC, "no space left", "there")
    with pytest.raises(OSError, match="no space") as raised, copying.passing_cache() as cache:
        copying.copy(cache, (MemoryStore({"b": DATA}), "b"), (disk, "a"), lambda _: None)  # type: ignore[arg-type]
    assert raised.value.errno == errno.ENOSPC
