"""`pagein sync`: a destination becomes equal to its source, and only what differs is written."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.command import run_here, run_process
from tests.file.writable import Disk
from tests.stores.moto import moto_server

from pagein.cli import copying
from pagein.stores import MemoryStore
from pagein.testing.httpserver import RangeServer

DATA = os.urandom(100_000)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    for name in ("a", "b", "sub/c", "sub/deep/d"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(name.encode() * 1000)
    return tree


def files_below(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_tree_is_copied_once_and_then_only_what_differs(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    ended = run_here(capsys, "sync", tree, copy)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.endswith("4 copied, 0 the same\n")
    assert files_below(copy) == files_below(tree)
    assert run_here(capsys, "sync", tree, copy).out == "0 copied, 4 the same\n"

    (tree / "a").write_bytes(b"other")
    (copy / "its own").write_bytes(b"stays")
    before = {path: path.stat().st_ino for path in copy.rglob("*") if path.is_file()}
    ended = run_here(capsys, "sync", tree, copy)
    assert ended.out == f"{copy / 'a'} (5 B)\n1 copied, 3 the same\n"
    assert files_below(copy) == files_below(tree) | {"its own": b"stays"}
    assert {path for path, number in before.items() if path.stat().st_ino != number} == {copy / "a"}


def test_a_dry_run_writes_nothing(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = run_here(capsys, "sync", "-n", tree, tmp_path / "copy")
    assert ended.out.endswith("4 would be copied, 0 the same\n")
    assert not (tmp_path / "copy").exists()


def test_bytes_are_compared_where_times_differ_and_with_checksum_also_where_they_do_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(DATA)
    target.write_bytes(DATA)
    os.utime(target, (1, 1))
    number = target.stat().st_ino
    assert run_here(capsys, "sync", source, target).out == "0 copied, 1 the same\n"
    assert target.stat().st_ino == number
    assert target.stat().st_mtime_ns == source.stat().st_mtime_ns, "the next time need not compare"

    target.write_bytes(DATA[::-1])
    os.utime(target, ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))
    assert run_here(capsys, "sync", source, target).out == "0 copied, 1 the same\n", "as rsync"
    assert "1 copied" in run_here(capsys, "sync", "--checksum", source, target).out
    assert target.read_bytes() == DATA


def test_a_url_is_copied_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "target"
    with RangeServer({"data": DATA}) as server:
        assert "1 copied" in run_here(capsys, "sync", server.url("data"), target).out
        assert run_here(capsys, "sync", server.url("data"), target).out == "0 copied, 1 the same\n"
        target.write_bytes(DATA[:-1] + b"?" if DATA[-1:] != b"?" else DATA[:-1] + b"!")
        assert "1 copied" in run_here(capsys, "sync", server.url("data"), target).out
    assert target.read_bytes() == DATA


def test_a_copy_has_the_permissions_of_what_it_replaces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "source").write_bytes(b"new")
    (tmp_path / "target").write_bytes(b"older")
    (tmp_path / "target").chmod(0o640)
    assert run_here(capsys, "sync", tmp_path / "source", tmp_path / "target").status == 0
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o640


def test_a_file_that_fails_is_named_and_the_others_are_copied(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tree / "broken").symlink_to("nowhere")
    (tmp_path / "copy" / "b").mkdir(parents=True)
    ended = run_here(capsys, "sync", tree, tmp_path / "copy")
    assert ended.status == 1
    assert len(ended.err.splitlines()) == 2
    assert f"pagein: {tree / 'broken'}: No such file" in ended.err
    assert ended.out.endswith("3 copied, 0 the same\n")
    assert not [name for name in files_below(tmp_path / "copy") if ".pagein-" in name]
    assert not list((tmp_path / "copy").glob(".pagein-*"))


def test_a_link_to_a_directory_is_followed_but_not_in_circles(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "e").write_bytes(b"linked")
    (tree / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tree)
    ended = run_here(capsys, "sync", tree, tmp_path / "copy")
    assert (ended.status, ended.out.splitlines()[-1]) == (1, "5 copied, 0 the same")
    assert ended.complaint == f"pagein: {tree / 'link' / 'back'}: leads back to a directory that it is in"
    assert files_below(tmp_path / "copy") == files_below(tree) | {"link/e": b"linked"}


def test_a_file_is_on_the_disk_before_it_replaces_another(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, int]] = []

    def fsync(fd: int, fsync: Callable[[int], None] = os.fsync) -> None:
        done.append(("fsync", os.fstat(fd).st_ino))
        fsync(fd)

    def replace(new: str, old: str, replace: Callable[[str, str], None] = os.replace) -> None:
        done.append(("replace", os.stat(new).st_ino))
        replace(new, old)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    assert run_here(capsys, "sync", tree / "a", tmp_path / "copy").status == 0
    number = (tmp_path / "copy").stat().st_ino
    assert done == [("fsync", number), ("replace", number)]


def test_what_fails_does_not_count_as_copied(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace(new: str, old: str) -> None:
        raise OSError(errno.EIO, "broken", old)

    monkeypatch.setattr(os, "replace", replace)
    ended = run_here(capsys, "sync", tree / "a", tmp_path / "copy")
    assert (ended.status, ended.out) == (1, "0 copied, 0 the same\n")
    assert ended.complaint == f"pagein: {tmp_path / 'copy'}: broken"


def test_a_dry_run_leaves_the_time_of_an_equal_file_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("source", "target"):
        (tmp_path / name).write_bytes(DATA)
    os.utime(tmp_path / "target", (1, 1))
    assert run_here(capsys, "sync", "-n", tmp_path / "source", tmp_path / "target").out.endswith("1 the same\n")
    assert (tmp_path / "target").stat().st_mtime == 1


def test_an_equal_file_whose_time_may_not_be_set_is_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("source", "target"):
        (tmp_path / name).write_bytes(DATA)
    os.utime(tmp_path / "target", (1, 1))

    def utime(path: str, *, ns: tuple[int, int]) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", path)

    monkeypatch.setattr(os, "utime", utime)
    ended = run_here(capsys, "sync", tmp_path / "source", tmp_path / "target")
    assert (ended.status, ended.out, ended.err) == (0, "0 copied, 1 the same\n", "")


def test_what_could_not_be_written_is_given_up_and_not_tried_again(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fsspec")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    place = f"local://{tmp_path}/absent"
    ended = run_process("sync", tree, place, TMPDIR=str(temporary))
    assert (ended.status, ended.out) == (1, "0 copied, 0 the same\n")
    names = ("a", "b", "sub/c", "sub/deep/d")
    assert ended.err.splitlines() == [f"pagein: {place}/{name}: No such file or directory" for name in names]


def test_what_could_not_be_written_is_not_written_at_the_end_either() -> None:
    disk = Disk(whole=True)
    source = (MemoryStore({"b": DATA}), "b")
    with copying.passing_cache() as cache:
        disk.error = OSError(errno.ENOSPC, "no space left", "there")
        with pytest.raises(OSError, match="no space"):
            copying.copy(cache, source, (disk, "a"), lambda _: None)  # type: ignore[arg-type]
        disk.error = None
        assert copying.copy(cache, source, (disk, "b"), lambda _: None) == len(DATA)  # type: ignore[arg-type]
    assert disk.objects == {"b": DATA}


def test_in_a_directory_that_may_not_be_written_to_the_file_is_named(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def mkdtemp(suffix: object, prefix: str, dir: str) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", f"{dir}/{prefix}xyz")

    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    ended = run_here(capsys, "sync", tree / "a", tmp_path)
    assert ended.complaint == f"pagein: {tmp_path / 'a'}: Permission denied"


NAMES = ["p q", "p%20q", "a?b", "a?c", "a#b", "a#c", "a", "u%3Fv", "u?v"]


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A tree whose names mean something in URLs."""
    tree = tmp_path / "odd"
    for name in NAMES:
        (tree / "sub").mkdir(parents=True, exist_ok=True)
        (tree / "sub" / name).write_text(f"that is {name}")
    return tree


@pytest.mark.parametrize("url", ["file://{path}", "file:{path}", "FILE://localhost{path}/", "local://{path}"])
def test_below_a_url_each_file_keeps_its_name(
    url: str, odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("fsspec")
    copy = tmp_path / "a copy"
    (copy / "sub").mkdir(parents=True)  # local: makes no directories
    ended = run_here(capsys, "sync", odd, url.format(path=str(copy).replace(" ", "%20" if url[0] in "fF" else " ")))
    assert (ended.status, ended.err) == (0, "")
    assert files_below(copy) == files_below(odd)


def test_in_a_bucket_each_key_is_the_name(odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And read back by its own name."""
    pytest.importorskip("obstore")
    pytest.importorskip("moto")
    (odd / "sub" / "a::b").write_text("that is a::b")
    with moto_server() as url:
        for name, value in {
            "AWS_ENDPOINT_URL": url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "not-told",
        }.items():
            monkeypatch.setenv(name, value)
        ended = run_process("sync", odd, "s3://bucket/copy")
        assert (ended.status, ended.err) == (0, "")
        names = [*NAMES, "a::b"]
        ended = run_process("cat", *[f"s3://bucket/copy/sub/{name}" for name in names])
    assert ended.out == "".join(f"that is {name}" for name in names)


def test_a_directory_is_made_at_a_file_url_too(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here(capsys, "sync", tree, f"file://{tmp_path}/not/yet").status == 0
    assert files_below(tmp_path / "not" / "yet") == files_below(tree)


def test_a_name_that_a_url_cannot_have_is_an_error_of_that_file(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("fsspec")
    (tree / "memory::z").write_bytes(b"read by fsspec as z")
    os.close(os.open(bytes(tree / "z") + b"\xff", os.O_CREAT))
    copy = tmp_path / "copy"
    (copy / "sub" / "deep").mkdir(parents=True)
    ended = run_here(capsys, "sync", tree, f"local://{copy}")
    assert ended.status == 1
    chained, undecoded = ended.err.splitlines()
    assert chained.startswith(f"pagein: {tree / 'memory::z'}: local: URLs cannot name it: ")
    assert undecoded == f"pagein: {tree}/z\\udcff: a URL cannot name it, as it is no UTF-8"
    assert set(files_below(copy)) == {"a", "b", "sub/c", "sub/deep/d"}


@pytest.mark.parametrize("arguments", [("{tree}", ""), ("", "{tree}")])
def test_a_place_that_is_empty_is_wrong_usage_and_not_the_working_directory(
    arguments: tuple[str, str], tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    ended = run_here(capsys, "sync", *[one.format(tree=tree) for one in arguments])
    assert (ended.status, ended.out) == (2, "")
    assert "it is empty" in ended.complaint
    assert not list((tmp_path / "here").iterdir())


def test_an_absent_source_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = run_here(capsys, "sync", tmp_path / "absent", tmp_path / "copy")
    assert (ended.status, ended.out) == (1, "")
    assert ended.complaint == f"pagein: {tmp_path / 'absent'}: No such file or directory"
