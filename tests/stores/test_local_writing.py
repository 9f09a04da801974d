"""Local files written in place: durable after fsync, errors as the system says, changes by others are ESTALE."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.stores.reading import DATA, MIB, OTHER, fill, opened, raises_errno
from tests.stores.writing import as_nobody, content, run_script, small_disk, store, writing

from pagein.stores import LocalStore, local, local_fsync, writing as store_writing

BLOCK = 4096
WAIT_S = 30.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data.bin"
    path.write_bytes(DATA)
    os.utime(path, ns=(1, 1))  # whatever is written to it from here on has another mtime
    return path


# -- opening -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["missing", "data.bin", "data.bin/", ".", "", "no/such", "loop", "dangling"])
@pytest.mark.parametrize("mode", ["r+b", "w+b", "x+b", "a+b"])
def test_a_file_is_opened_made_or_refused_as_open_would(
    file: Path, name: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    os.symlink("loop", "loop")
    os.symlink("target", "dangling")

    def theirs() -> int | tuple[int | None, str]:
        try:
            with open(name, mode) as opened_file:
                return opened_file.seek(0, os.SEEK_END)
        except OSError as error:
            return error.errno, error.filename

    def ours() -> int | tuple[int | None, str]:
        try:
            with writing(name, create=mode[0] != "r", exclusive=mode[0] == "x", truncate=mode[0] == "w") as version:
                return version.size_bytes
        except OSError as error:
            return error.errno, error.filename

    found = ours()
    made = {path.name: path.stat().st_size for path in file.parent.iterdir() if path.is_file()}
    for path in ("missing", "target"):
        (file.parent / path).unlink(missing_ok=True)
    file.write_bytes(DATA)
    assert found == theirs()
    assert made == {path.name: path.stat().st_size for path in file.parent.iterdir() if path.is_file()}


def test_a_new_file_has_the_permissions_that_open_gives(tmp_path: Path) -> None:
    (tmp_path / "theirs").touch()
    with writing(tmp_path / "ours", create=True):
        assert (tmp_path / "ours").stat().st_mode == (tmp_path / "theirs").stat().st_mode


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with raises_errno(errno.ESPIPE, "a FIFO"), writing(tmp_path / "fifo", create=True):
        pass
    with raises_errno(errno.ESPIPE), writing("/dev/null", create=True, truncate=True):
        pass


def test_a_store_makes_files_below_its_root_only(file: Path) -> None:
    root = file.parent / "root"
    root.mkdir()
    (root / "away").symlink_to("..")
    made = LocalStore(root)
    for path in ("../new", "away/new"):
        with raises_errno(errno.EACCES, "is not below"), writing((made, path), create=True):
            pass
    with writing((made, "new"), create=True) as version:
        store(version, b"data", 0)
    assert (root / "new").read_bytes() == b"data"


# -- writing -----------------------------------------------------------------------------------------


def test_what_is_stored_is_in_the_file_at_once_and_its_version_is_ours(file: Path) -> None:
    with writing(file) as version:
        expected = bytearray(DATA)
        for offset_bytes in (0, MIB + 7, len(DATA) - 5, len(DATA) + BLOCK):
            store(version, b"0123456789", offset_bytes)
            expected.extend(bytes(max(0, offset_bytes + 10 - len(expected))))
            expected[offset_bytes : offset_bytes + 10] = b"0123456789"
            assert file.read_bytes() == expected
            assert content(version, len(expected)) == expected
            with opened(file) as now:
                assert now.version == version.ops.version  # type: ignore[attr-defined]
        version.ops.set_size(100)
        version.ops.set_size(200)
        assert file.read_bytes() == expected[:100] + bytes(100) == content(version, 200)
        version.ops.fsync()


def test_a_write_that_comes_in_pieces_is_put_together(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:1000], offset))
    with writing(file) as version:
        store(version, OTHER[:10_500], 77)
    assert file.read_bytes() == DATA[:77] + OTHER[:10_500] + DATA[10_577:]


def test_a_hole_is_zeros_takes_no_room_and_leaves_the_size(file: Path) -> None:
    blocks = file.stat().st_blocks
    with writing(file) as version:
        try:
            version.ops.punch_hole(BLOCK, MIB)
        except NotImplementedError:
            pytest.skip("this file system has no holes")
        assert content(version, len(DATA)) == DATA[:BLOCK] + bytes(MIB) + DATA[BLOCK + MIB :]
        version.ops.punch_hole(len(DATA) - 1, MIB)
    assert file.stat().st_size == len(DATA)
    assert file.stat().st_blocks <= blocks - MIB // 512


def test_without_fallocate_the_core_is_told_to_write_zeros(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_writing, "_fallocate", lambda: None)
    with writing(file) as version:
        with pytest.raises(NotImplementedError):
            version.ops.punch_hole(0, BLOCK)
        assert content(version, BLOCK) == DATA[:BLOCK]


def test_zeros_are_written_where_there_are_no_holes(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_writing, "_fallocate", lambda: None)
    with open(file, "r+b") as opened_file:
        store_writing.zero(opened_file.fileno(), 100, 100 + 2 * MIB)
        store_writing.zero(opened_file.fileno(), 10, 10)
    assert file.read_bytes() == DATA[:100] + bytes(2 * MIB) + DATA[100 + 2 * MIB :]


def noted_fsyncs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of what, from now on."""
    synced: list[str] = []
    fsync = os.fsync

    def noted(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    return synced


def test_fsync_is_of_the_file_and_of_the_directory_of_a_new_one_once(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = noted_fsyncs(monkeypatch)
    with writing(file) as version:
        version.ops.fsync()
    assert synced == [str(file)]
    synced.clear()
    new = file.parent / "new"
    (file.parent / "link").symlink_to("new")
    with writing(file.parent / "link", create=True) as version:
        version.ops.fsync()
        version.ops.fsync()
    assert synced == [str(new), str(file.parent), str(new)]


def test_a_name_that_was_made_and_closed_without_fsync_is_durable_after_that_of_who_opens_the_file_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = noted_fsyncs(monkeypatch)
    for name in "a", "b":
        with writing(tmp_path / name, create=True):
            pass
    assert synced == []
    (tmp_path / "b").rename(tmp_path / "c")
    for name in "a", "c":
        for _ in range(2):
            with writing(tmp_path / name) as version:
                version.ops.fsync()
    assert synced == [f"{tmp_path}/a", str(tmp_path), f"{tmp_path}/a", f"{tmp_path}/c", str(tmp_path), f"{tmp_path}/c"]


def test_when_more_names_were_made_than_are_known_any_may_be_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_fsync, "NAMES_MAX", 2)
    monkeypatch.setattr(local_fsync, "_new", {})
    monkeypatch.setattr(local_fsync, "_forgotten", [])
    for name in "abc":
        with writing(tmp_path / name, create=True):
            pass
    synced = noted_fsyncs(monkeypatch)
    with writing(tmp_path / "a") as version:
        version.ops.fsync()
    assert synced == [f"{tmp_path}/a", str(tmp_path)]


# -- threads -----------------------------------------------------------------------------------------


def test_four_writers_and_readers_at_once_are_never_taken_for_somebody_else(file: Path) -> None:
    blocks, rounds = len(DATA) // BLOCK, 4
    final = random.Random(3).randbytes(blocks * BLOCK)
    ended = threading.Event()
    with writing(file) as version, ThreadPoolExecutor(8) as pool:

        def write(worker: int) -> None:
            for number in range(rounds):
                for block in range(worker, blocks, 4):
                    data = final if number == rounds - 1 else OTHER
                    store(version, data[block * BLOCK : (block + 1) * BLOCK], block * BLOCK)

        def read() -> None:
            while not ended.is_set():
                block = random.randrange(blocks)
                part = slice(block * BLOCK, (block + 1) * BLOCK)
                assert fill(version, BLOCK, part.start)[-1] in (DATA[part][-1], OTHER[part][-1], final[part][-1])

        def sync_and_grow() -> None:
            size_bytes = len(DATA)
            while not ended.is_set():
                size_bytes += 1
                version.ops.set_size(size_bytes)
                version.ops.fsync()

        others = [pool.submit(read), pool.submit(read), pool.submit(sync_and_grow)]
        for writer in [pool.submit(write, worker) for worker in range(4)]:
            writer.result(2 * WAIT_S)
        ended.set()
        for other in others:
            other.result(WAIT_S)
        assert content(version, len(final)) == final
    assert file.read_bytes()[: len(final)] == final


def test_a_fill_during_a_store_of_ours_is_no_stale_one(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store begins after the fill has read and before it looks at the version."""
    preadv = os.preadv
    with writing(file) as version:

        def preadv_and_store(fd: int, buffers: list[memoryview], offset: int) -> int:
            got = preadv(fd, buffers, offset)
            monkeypatch.setattr(os, "preadv", preadv)
            store(version, b"n" * BLOCK, 2 * BLOCK)
            return got

        monkeypatch.setattr(os, "preadv", preadv_and_store)
        assert content(version, BLOCK) == DATA[:BLOCK]
        assert fill(version, BLOCK, 2 * BLOCK) == b"n" * BLOCK


# -- somebody else -----------------------------------------------------------------------------------


def test_a_change_by_somebody_else_is_estale_for_every_use_but_fsync(file: Path) -> None:
    with writing(file) as version:
        store(version, b"mine", 0)
        with open(file, "r+b") as theirs:
            theirs.write(b"theirs")
        os.utime(file, ns=(2, 2))
        for call in (
            lambda: store(version, b"again", 0),
            lambda: version.ops.set_size(0),
            lambda: version.ops.punch_hole(0, 10),
            lambda: content(version, 10),
        ):
            with raises_errno(errno.ESTALE, "mtime=2 .*save_as.*discard"):
                call()
        version.ops.fsync()
    assert file.read_bytes() == b"theirs" + DATA[6:]


# -- what the system refuses -------------------------------------------------------------------------


def test_a_full_disk_is_enospc_and_the_rest_stays(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk, writing(disk / "a", create=True) as version:
        store(version, b"kept", 0)
        with raises_errno(errno.ENOSPC, str(disk / "a")):
            store(version, bytes(2 * MIB), BLOCK)
        assert content(version, 4) == b"kept"
        version.ops.set_size(4)
        store(version, b"room again", 4)
        version.ops.fsync()
        assert (disk / "a").read_bytes() == b"keptroom again"


def test_a_quota_is_edquot(tmp_path: Path) -> None:
    options = ("mode=777", "usrquota", "usrquota_block_hardlimit=64k")
    with small_disk(tmp_path / "disk", "1m", *options) as disk:
        (disk / "a").touch()
        os.chmod(tmp_path, 0o755)
        os.chown(disk / "a", 65534, 65534)
        with writing(disk / "a") as version, as_nobody(), raises_errno(errno.EDQUOT):
            store(version, b"x" * MIB, 0)


def test_a_limit_of_the_process_is_efbig(file: Path) -> None:
    script = """
        import errno, resource, sys
        from pagein.stores import source_of
        version = source_of(sys.argv[1]).open_for_writing(create=False, exclusive=False, truncate=False)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 22, 1 << 22))
        for call in (lambda: version.ops.store(memoryview(b"x" * 10), 1 << 22), lambda: version.ops.set_size(1 << 23)):
            try:
                call()
            except OSError as error:
                print(errno.errorcode[error.errno], error.filename == sys.argv[1])
        version.close()
        """
    assert run_script(script, file) == "EFBIG True\n" * 2


def test_permissions_are_those_of_the_user() -> None:
    with tempfile.TemporaryDirectory() as directory:  # nobody may enter tmp_path
        os.chmod(directory, 0o755)
        file = Path(directory) / "a"
        file.touch(0o644)
        for path, asked in ((file, {}), (file.parent / "new", {"create": True})):
            with as_nobody(), raises_errno(errno.EACCES, str(path)), writing(path, **asked):
                pass


def test_a_read_only_disk_is_erofs(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        (disk / "a").touch()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for path, asked in ((disk / "a", {}), (disk / "new", {"create": True})):
            with raises_errno(errno.EROFS, str(path)), writing(path, **asked):
                pass


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="Linux only")
def test_a_sealed_file_is_eperm() -> None:
    fd = os.memfd_create("pagein-test", os.MFD_ALLOW_SEALING)
    try:
        os.write(fd, DATA)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK)
        with writing(f"/proc/self/fd/{fd}") as version:
            for call in (lambda: store(version, b"x", 0), lambda: version.ops.set_size(1)):
                with raises_errno(errno.EPERM, f"/proc/self/fd/{fd}"):
                    call()
            assert content(version, 100) == DATA[:100]
    finally:
        os.close(fd)


@contextmanager
def failing_disk(path: Path) -> Iterator[Path]:
    """A file system on a disk that turns out to be smaller than it says, when what was written is written back."""
    with small_disk(path, "9m") as backing:
        image, mounted = backing / "image", backing / "mounted"
        mounted.mkdir()
        with open(image, "wb") as made:
            made.truncate(64 * MIB)
        for command in (
            ["mkfs.ext4", "-q", "-O", "^has_journal", "-E", "lazy_itable_init=1", str(image)],
            ["mount", "-o", "loop,errors=continue", str(image), str(mounted)],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"no loop device here: {done.stderr.strip()}")
        try:
            yield mounted
        finally:
            subprocess.run(["umount", str(mounted)], check=True)


def test_after_an_fsync_that_failed_none_says_that_all_is_well(tmp_path: Path) -> None:
    """The system tells an error of write-back once, and marks as clean what it could not write."""
    with failing_disk(tmp_path / "disk") as disk, writing(disk / "a", create=True) as version:
        store(version, OTHER * 5, 0)
        with pytest.raises(OSError, match=str(disk / "a")) as raised:
            version.ops.fsync()
        assert raised.value.errno in (errno.ENOSPC, errno.EIO)  # as the release of Linux says
        for _ in range(2):
            with raises_errno(raised.value.errno, "may be lost"):
                version.ops.fsync()


# -- replacing a file as a whole ---------------------------------------------------------------------


def test_what_is_written_aside_takes_the_place_at_fsync_or_goes(file: Path) -> None:
    before = file.stat()
    for fsyncs in (False, True):
        version = local.LocalSource(str(file)).open_aside()
        store(version, OTHER, 0)
        assert (file.read_bytes(), file.stat().st_ino) == (DATA, before.st_ino)
        if fsyncs:
            version.ops.fsync()
        version.close()
        assert os.listdir(file.parent) == [file.name]
    assert file.read_bytes() == OTHER
    assert file.stat().st_mode == before.st_mode


def test_an_fsync_aside_that_fails_leaves_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    for call in ("fsync", "replace"):
        version = local.LocalSource(str(file)).open_aside()
        store(version, OTHER, 0)
        with monkeypatch.context() as patch, raises_errno(errno.EIO, str(file)):
            patch.setattr(os, call, fail)
            version.ops.fsync()
        version.close()
        assert (os.listdir(file.parent), file.read_bytes()) == ([file.name], DATA)


@pytest.mark.parametrize("name", [".", "no/such", "data.bin/", "new/", "loop", "fifo"])
def test_what_cannot_be_replaced_is_refused_as_open_would(file: Path, name: str) -> None:
    (file.parent / "loop").symlink_to("loop")
    os.mkfifo(file.parent / "fifo")
    names = sorted(os.listdir(file.parent))
    path = f"{file.parent}/{name}"
    with pytest.raises(OSError) as ours:
        local.LocalSource(path).open_aside()
    if name != "fifo":
        with pytest.raises(OSError) as theirs:
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        assert ours.value.errno == theirs.value.errno
    assert ours.value.filename == path
    assert sorted(os.listdir(file.parent)) == names


def test_a_file_is_replaced_by_who_may_write_to_it_and_its_directory(file: Path) -> None:
    place = tempfile.mkdtemp()  # that of pytest is root's alone
    try:
        os.chmod(place, 0o777)
        path = os.path.join(place, "a")
        Path(path).write_bytes(DATA)
        for file_mode, place_mode in ((0o444, 0o777), (0o666, 0o755)):
            os.chmod(path, file_mode)
            os.chmod(place, place_mode)
            with as_nobody(), raises_errno(errno.EACCES, path):
                local.LocalSource(path).open_aside()
        os.chmod(path, 0o222)
        os.chmod(place, 0o777)
        with as_nobody():
            version = local.LocalSource(path).open_aside()
            store(version, OTHER, 0)
            version.ops.fsync()
            version.close()
        assert Path(path).read_bytes() == OTHER
        assert os.stat(path).st_mode & 0o777 == 0o222
    finally:
        shutil.rmtree(place)


# -- processes ---------------------------------------------------------------------------------------


def test_a_child_cannot_write_to_its_parents_file(file: Path) -> None:
    script = """
        import errno, os, sys
        from pagein.stores import source_of
        version = source_of(sys.argv[1]).open_for_writing(create=False, exclusive=False, truncate=False)
        ops = version.ops
        child = os.fork()
        if not child:
            numbers = []
            for call in (
                lambda: ops.store(memoryview(b"child!"), 0), lambda: ops.set_size(0), lambda: ops.punch_hole(0, 6),
                ops.fsync, lambda: ops.fill(memoryview(bytearray(6)), 0),
            ):
                try:
                    call()
                except OSError as error:
                    numbers.append(errno.errorcode[error.errno])
            version.close()
            os._exit(numbers != ["EBADF"] * 5)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        ops.store(memoryview(b"parent"), 0)
        ops.fsync()
        version.close()
        """
    run_script(script, file)
    assert file.read_bytes() == b"parent" + DATA[6:]


def test_the_file_of_an_error_is_what_the_user_called_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with writing(file) as version:
        monkeypatch.setattr(local, "write_all", fail)
        with raises_errno(errno.EIO, str(file)):
            store(version, b"x", 0)
