"""Files replaced through fsspec: memory, local, one that can only do the least, and S3 if s3fs is installed."""

from __future__ import annotations

import errno
import importlib.util
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.http import HTTPFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.implementations.zip import ZipFileSystem
from tests.stores.moto import moto_server
from tests.stores.reading import DATA, MIB, OTHER, opened, raises_errno
from tests.stores.writing import as_nobody, content, small_disk, store, writing

from pagein.stores import policy, source_of
from pagein.stores.fsspec_writing import FsspecTarget
from pagein.stores.layer import Whole


class PlainFileSystem(LocalFileSystem):  # type: ignore[misc]
    """Local files, known to pagein only as something of fsspec's that can rename: as SFTP or SMB."""

    protocol = "plain"
    cachable = False
    cat_file = fsspec.AbstractFileSystem.cat_file
    put_file = fsspec.AbstractFileSystem.put_file


class CopyingFileSystem(PlainFileSystem):
    """That cannot rename: fsspec moves by copying, and takes names for patterns."""

    protocol = "copying"
    mv = fsspec.AbstractFileSystem.mv


class Place:
    """A directory of some filesystem, and how to look at it from outside."""

    def __init__(self, fs: Any, directory: str) -> None:
        self.fs = fs
        self.directory = directory

    def source(self, name: str) -> tuple[Any, str]:
        return self.fs, f"{self.directory}/{name}"

    def put(self, name: str, data: bytes) -> None:
        self.fs.pipe_file(f"{self.directory}/{name}", data)

    def get(self, name: str) -> bytes:
        self.fs.invalidate_cache()
        return bytes(self.fs.cat_file(f"{self.directory}/{name}"))

    def delete(self, name: str) -> None:
        self.fs.rm_file(f"{self.directory}/{name}")

    def names(self) -> list[str]:
        self.fs.invalidate_cache()
        return sorted(name.rpartition("/")[2] for name in self.fs.ls(self.directory, detail=False))


@pytest.fixture(scope="module")
def s3fs_options() -> Iterator[dict[str, Any]]:
    with moto_server() as url:
        yield {"endpoint_url": url, "key": "id", "secret": "not-told", "client_kwargs": {"region_name": "us-east-1"}}


@pytest.fixture(params=["memory", "local", "dir", "plain", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    match request.param:
        case "memory":
            fs = fsspec.filesystem("memory")
            fs.mkdir("/w")
            yield Place(fs, "/w")
            fs.rm("/w", recursive=True)
        case "local":
            yield Place(LocalFileSystem(), str(tmp_path))
        case "dir":
            (tmp_path / "d").mkdir()
            yield Place(DirFileSystem(str(tmp_path), LocalFileSystem()), "d")
        case "plain":
            yield Place(PlainFileSystem(), str(tmp_path))
        case "s3":
            if importlib.util.find_spec("s3fs") is None:
                pytest.skip("s3fs is not installed")
            fs = fsspec.filesystem("s3", **request.getfixturevalue("s3fs_options"), skip_instance_cache=True)
            yield Place(fs, "bucket/w")
            fs.rm("bucket/w", recursive=True)


def test_a_file_is_replaced_whole_at_fsync_and_its_version_is_ours(place: Place) -> None:
    place.put("a", DATA)
    with writing(place.source("a")) as version:
        expected = bytearray(DATA)
        for number, offset_bytes in enumerate((0, MIB, len(DATA))):
            store(version, b"stored", offset_bytes)
            expected[offset_bytes : offset_bytes + 6] = b"stored"
            if not number:
                assert place.get("a") == DATA
            version.ops.fsync()
            assert place.get("a") == expected
            with opened(place.source("a")) as now:
                assert now.version == version.ops.version  # type: ignore[attr-defined]
        version.ops.set_size(10)
        version.ops.fsync()
        assert place.get("a") == expected[:10] == content(version, 10)
        version.ops.set_size(0)
        version.ops.fsync()
        assert place.get("a") == b""
    assert place.names() == ["a"]


def test_a_new_file_is_there_after_fsync_though_nothing_was_stored(place: Place) -> None:
    with writing(place.source("new"), create=True, exclusive=True) as version:
        with raises_errno(errno.ENOENT):
            source_of(place.source("new")).open()
        version.ops.fsync()
        assert place.get("new") == b""
        store(version, b"more", 0)
        version.ops.fsync()
    assert place.get("new") == b"more"
    with writing(place.source("new"), truncate=True) as version:
        assert version.size_bytes == 0
        assert place.get("new") == b"more"
        version.ops.fsync()
    assert place.get("new") == b""


@pytest.mark.parametrize("change", ["replaced", "deleted", "made"])
def test_what_somebody_else_has_changed_is_estale_and_stays_and_so_do_the_data(place: Place, change: str) -> None:
    place.put("other", b"so that the directory is there")
    if change != "made":
        place.put("a", DATA)
    with writing(place.source("a"), create=True) as version:
        store(version, b"mine", 0)
        if change == "deleted":
            place.delete("a")
        else:
            place.put("a", OTHER[:-1])
        for _ in range(2):
            with raises_errno(errno.ESTALE, "a"):
                version.ops.fsync()
            assert content(version, 4) == b"mine"
    if change == "deleted":
        assert place.names() == ["other"]
    else:
        assert place.get("a") == OTHER[:-1]


def test_what_is_opened_for_writing_has_to_be_there_or_not_as_is_asked(place: Place) -> None:
    place.put("d/a" if isinstance(place.fs, MemoryFileSystem) else "a", DATA)
    name = "d/a" if isinstance(place.fs, MemoryFileSystem) else "a"
    for path, asked, number in (
        ("x", {}, errno.ENOENT),
        (name, {"create": True, "exclusive": True}, errno.EEXIST),
        ("", {"create": True}, errno.EISDIR),
    ):
        with raises_errno(number), writing(place.source(path), **asked):
            pass


def test_an_upload_that_fails_leaves_the_old_file_and_nothing_beside_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put("a", DATA)
    inner = place.fs.fs if isinstance(place.fs, DirFileSystem) else place.fs
    name = {"memory": "pipe_file", "s3": "_put_file"}.get(
        inner.protocol if isinstance(inner.protocol, str) else inner.protocol[0], "put_file"
    )

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with writing(place.source("a")) as version:
        store(version, b"mine", 0)
        with monkeypatch.context() as patch:
            patch.setattr(inner, name, fail)
            with raises_errno(errno.EIO, "a"):
                version.ops.fsync()
        assert place.get("a") == DATA
        assert place.names() == ["a"]
        version.ops.fsync()
    assert place.get("a") == b"mine" + DATA[4:]


def test_an_upload_whose_answer_was_lost_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is renamed, and then the connection breaks."""
    monkeypatch.setattr(policy, "BACKOFF_S", (0.0, 0.0))
    place = Place(PlainFileSystem(), str(tmp_path))
    monkeypatch.setattr("pagein.stores.fsspec_writing.LocalFileSystem", ZipFileSystem)  # not known to be local
    place.put("a", DATA)
    mv = place.fs.mv

    def mv_and_break(*args: Any) -> None:
        monkeypatch.setattr(place.fs, "mv", mv)
        mv(*args)
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

    with writing(place.source("a")) as version:
        store(version, b"mine", 0)
        monkeypatch.setattr(place.fs, "mv", mv_and_break)
        version.ops.fsync()
        assert place.get("a") == b"mine" + DATA[4:]
        store(version, b"more", 0)

        def replace_and_break(*args: Any) -> None:
            mv(*args)
            place.put("a", OTHER)
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

        monkeypatch.setattr(place.fs, "mv", replace_and_break)
        with raises_errno(errno.ESTALE):
            version.ops.fsync()
    assert place.get("a") == OTHER


@pytest.mark.parametrize("is_changed_meanwhile", [False, True], ids=["ours", "somebody_elses"])
@pytest.mark.parametrize("writes_more", [False, True], ids=["the_same", "more"])
def test_an_upload_that_could_not_be_confirmed_is_ours_for_the_next_one_too(
    place: Place, monkeypatch: pytest.MonkeyPatch, *, writes_more: bool, is_changed_meanwhile: bool
) -> None:
    """The file is there, and then the filesystem does not say what it is: no retry may help, but the next fsync."""
    place.put("a", DATA)
    inner = place.fs.fs if isinstance(place.fs, DirFileSystem) else place.fs
    name = "_info" if getattr(inner, "async_impl", False) else "info"

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with writing(place.source("a")) as version:
        store(version, b"mine", 0)
        with monkeypatch.context() as patch:
            put = FsspecTarget._write

            def put_and_break(target: FsspecTarget, whole: Whole) -> None:
                put(target, whole)
                patch.setattr(inner, name, fail)

            patch.setattr(FsspecTarget, "_write", put_and_break)
            with raises_errno(errno.EIO, "a"):
                version.ops.fsync()
        assert place.get("a") == b"mine" + DATA[4:]
        if writes_more:
            store(version, b"more", 4)
        if is_changed_meanwhile:
            place.put("a", OTHER[: len(DATA)])
            with raises_errno(errno.ESTALE, "a"):
                version.ops.fsync()
            assert place.get("a") == OTHER[: len(DATA)]
            return
        version.ops.fsync()
        expected = (b"minemore" if writes_more else b"mine" + DATA[4:8]) + DATA[8:]
        assert place.get("a") == expected == content(version, len(DATA))
        store(version, b"last", 0)
        version.ops.fsync()
    assert place.get("a") == b"last" + expected[4:]


@pytest.mark.parametrize("name", ["a", "a[1]", "a?", "a*", "[a]*?"])
def test_a_name_is_no_pattern_where_fsspec_moves_by_copying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    place = Place(CopyingFileSystem(), str(tmp_path))
    monkeypatch.setattr("pagein.stores.fsspec_writing.LocalFileSystem", ZipFileSystem)  # not known to be local
    (tmp_path / "a1").write_bytes(OTHER)
    with writing(place.source(name), create=True) as version:
        for data in b"first", b"second":
            store(version, data, 0)
            version.ops.fsync()
            assert (tmp_path / name).read_bytes() == data
    assert sorted(place.names()) == sorted(["a1", name])
    assert (tmp_path / "a1").read_bytes() == OTHER


def test_filesystems_that_are_known_not_to_write_are_erofs(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    http = HTTPFileSystem(skip_instance_cache=True)
    caching = fsspec.get_filesystem_class("simplecache")(fs=LocalFileSystem(), cache_storage=str(tmp_path / "cache"))
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("a", DATA)
    for source in (
        f"zip://a::{tmp_path}/z.zip",
        (http, "http://127.0.0.1:1/a"),
        (caching, f"{tmp_path}/a"),
        (DirFileSystem("http://127.0.0.1:1", http), "a"),
    ):
        with raises_errno(errno.EROFS), writing(source, create=True):
            pass
    if http._session is not None:
        HTTPFileSystem.close_session(http.loop, http._session)


def test_a_full_disk_is_enospc_and_the_old_file_stays(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        (disk / "a").write_bytes(b"before")
        with writing((LocalFileSystem(), disk / "a")) as version:
            store(version, OTHER, 0)
            with raises_errno(errno.ENOSPC):
                version.ops.fsync()
            assert (disk / "a").read_bytes() == b"before"
            assert [path.name for path in disk.iterdir()] == ["a"]
            version.ops.set_size(100)
            version.ops.fsync()
            assert (disk / "a").read_bytes() == OTHER[:100]


def test_a_directory_that_may_not_be_written_to_is_eacces_and_the_data_stay(tmp_path: Path) -> None:
    fs = LocalFileSystem()
    with writing((fs, tmp_path / "a"), create=True) as version:
        store(version, b"mine", 0)
        version.ops.fsync()
        store(version, b"more", 0)
        with as_nobody(), raises_errno(errno.EACCES):
            version.ops.fsync()
        assert content(version, 4) == b"more"
        version.ops.fsync()
    assert (tmp_path / "a").read_bytes() == b"more"


def test_a_local_file_keeps_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    os.chmod(tmp_path / "a", 0o640)
    with writing((LocalFileSystem(), tmp_path / "a")) as version:
        store(version, b"mine", 0)
        version.ops.fsync()
    assert (tmp_path / "a").stat().st_mode & 0o7777 == 0o640


def test_a_directory_that_is_not_there_is_enoent_of_what_the_user_named(tmp_path: Path) -> None:
    path = tmp_path / "no" / "a"
    with writing((LocalFileSystem(), path), create=True) as version:
        store(version, b"mine", 0)
        with pytest.raises(FileNotFoundError) as raised:
            version.ops.fsync()
        assert raised.value.filename == f"file:{path}"
        assert ".pagein-" not in str(raised.value)
        path.parent.mkdir()
        version.ops.fsync()
    assert path.read_bytes() == b"mine"
