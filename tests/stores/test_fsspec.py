"""fsspec filesystems: memory, local, HTTP, archives, chains; what is checked of them, what each error becomes."""

from __future__ import annotations

import errno
import io
import os
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.http import HTTPFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from tests.stores.reading import DATA, MIB, OTHER, fill, opened, raises_errno, read_whole

import pagein
from pagein import default
from pagein.stores import fsspec as fsspec_store, source_of
from pagein.testing.httpserver import RangeServer


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/d/a", DATA)
    yield fs
    fs.rm("/d", recursive=True)


@pytest.fixture
def local(tmp_path: Path) -> Path:
    (tmp_path / "a").write_bytes(DATA)
    os.utime(tmp_path / "a", ns=(10**9, 10**9))
    return tmp_path


@pytest.fixture
def objects() -> dict[str, bytes]:
    return {"a": DATA}


@pytest.fixture
def http() -> Iterator[HTTPFileSystem]:
    fs = HTTPFileSystem(skip_instance_cache=True)
    yield fs
    if fs._session is not None:
        HTTPFileSystem.close_session(fs.loop, fs._session)


# -- reading -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["url", "pair", "dir"])
def test_a_memory_file_reads_as_its_bytes(memory: MemoryFileSystem, form: str) -> None:
    source = {
        "url": "memory://d/a",
        "pair": (memory, "d/a"),
        "dir": (DirFileSystem("/d", memory), "a"),
    }[form]
    with pagein.PageCache("16M", debug=True) as cache, cache.open(source) as file:
        assert file.pread(1000, 2 * MIB) == DATA[2 * MIB : 2 * MIB + 1000]
        assert file.read() == DATA


@pytest.mark.parametrize("form", ["url", "pair", "dir"])
def test_a_local_file_reads_as_its_bytes(local: Path, form: str) -> None:
    source = {
        "url": f"local://{local}/a",
        "pair": (LocalFileSystem(), local / "a"),
        "dir": (DirFileSystem(str(local), LocalFileSystem()), "a"),
    }[form]
    with pagein.PageCache("16M", debug=True) as cache, cache.open(source) as file:
        assert file.pread(1000, 2 * MIB) == DATA[2 * MIB : 2 * MIB + 1000]
        assert file.read() == DATA


def test_an_http_file_reads_as_its_bytes_by_one_request_for_each_fetch(
    server: RangeServer, http: HTTPFileSystem
) -> None:
    with pagein.PageCache("16M", debug=True) as cache, cache.open((http, server.url("a"))) as file:
        assert file.pread(MIB, MIB) == DATA[MIB : 2 * MIB]
        ranges = [record[2:4] for record in server.stats().log if record.method == "GET"]
        assert ranges == [(MIB, 2 * MIB)]
        assert file.read() == DATA
        assert file.name == server.url("a")


@pytest.mark.parametrize("link", ["zip://in/a::{0}/z.zip", "zip://in/a::file://{0}/z.zip"])
def test_a_member_of_an_archive_reads_as_its_bytes_and_is_looked_at_anew_by_each_open(local: Path, link: str) -> None:
    url = link.format(local)
    with pagein.PageCache("16M", debug=True) as cache:
        versions = set()
        for data in (DATA, OTHER):
            put_archive(local / "z.zip", data)
            with cache.open(url) as file:
                assert file.pread(1000, 2 * MIB) == data[2 * MIB : 2 * MIB + 1000]
                assert file.pread(1000, MIB) == data[MIB : MIB + 1000]
                assert file.read() == data
                versions.add(file.version)
        assert len(versions) == 2
        for name, number in (("in", errno.EISDIR), ("x", errno.ENOENT)):
            with raises_errno(number):
                cache.open(url.replace("in/a", name))


def put_archive(path: Path, data: bytes) -> None:
    """With the member ``in/a``, in place of what was there."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path.with_name("new"), "w", zipfile.ZIP_DEFLATED) as new:
            new.writestr("in/a", data)
    else:
        with tarfile.open(path.with_name("new"), "w") as new:
            member = tarfile.TarInfo("in/a")
            member.size = len(data)  # and the same time for all, as of archives that are made reproducibly
            new.addfile(member, io.BytesIO(data))
    os.replace(path.with_name("new"), path)


@pytest.mark.parametrize("link", ["zip://in/a::{0}/a.zip", "tar://in/a::{0}/a.tar"])
@pytest.mark.parametrize("by", ["pagein.open", "pagein::", "pagein:: in its cache"])
def test_who_opens_a_member_of_a_new_archive_reads_that_also_while_the_old_one_is_open(
    local: Path, link: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, path = link.format(local), local / link[-5:]
    with pagein.PageCache("16M", debug=True) as cache:
        monkeypatch.setattr(default, "_cache", cache)
        options = {"cache": cache} if by == "pagein:: in its cache" else {}

        def open_it() -> Any:
            return pagein.open(url) if by == "pagein.open" else fsspec.open(f"pagein::{url}", **options).open()

        put_archive(path, DATA)
        with open_it() as old:
            assert old.read(10) == DATA[:10]
            put_archive(path, OTHER)
            with open_it() as new:
                assert new.read() == OTHER
                assert old.read() == DATA[10:]
            put_archive(path, DATA)
            with open_it() as new:
                assert new.read() == DATA


@pytest.mark.parametrize("cache_protocol", ["simplecache", "filecache"])  # blockcache:: closes no file
def test_a_chain_through_a_caching_filesystem(
    local: Path, server: RangeServer, http: HTTPFileSystem, cache_protocol: str
) -> None:
    fs = fsspec.get_filesystem_class(cache_protocol)(fs=http, cache_storage=str(local / "cache"))
    with pagein.PageCache("16M", debug=True) as cache:
        assert read_whole(cache, (fs, server.url("a"))) == DATA
        if cache_protocol == "simplecache":
            options = {cache_protocol: {"cache_storage": str(local / "other")}}
            assert read_whole(cache, f"{cache_protocol}::local://{local}/a", **options) == DATA


def test_fetches_from_many_threads_are_each_right(local: Path, memory: MemoryFileSystem) -> None:
    with zipfile.ZipFile(local / "z.zip", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a", DATA)
    offsets = range(0, len(DATA) - 5000, 50_000)
    for source in (f"zip://a::{local}/z.zip", (LocalFileSystem(), local / "a"), (memory, "/d/a")):
        with opened(source) as version, ThreadPoolExecutor(8) as pool:
            fetched = pool.map(lambda offset: fill(version, 5000, offset), offsets)
            for offset, data in zip(offsets, fetched, strict=True):
                assert data == DATA[offset : offset + 5000]


class Tagged(fsspec.AbstractFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """As S3 and others: `info` tells an ETag, and no request can be made on the condition that it is still that."""

    protocol = "tagged"
    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.data, self.etag = b"1" * len(DATA), '"1"'
        self.info_count = 0

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        self.info_count += 1
        return {"name": path, "size": len(self.data), "type": "file", "ETag": self.etag}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        return self.data[start:end]

    def get_file(self, rpath: str, lpath: str, **_: Any) -> None:
        Path(lpath).write_bytes(self.data)


def test_what_a_filesystem_has_copied_as_a_whole_is_read_without_asking_again(tmp_path: Path) -> None:
    behind = Tagged()
    fs = fsspec.filesystem("simplecache", fs=behind, cache_storage=str(tmp_path))
    with pagein.PageCache("32 MiB", debug=True) as cache, cache.open((fs, "a")) as file:
        asked = behind.info_count
        file.advise("random")
        assert [file.pread(1, offset) for offset in range(0, len(DATA), MIB)] == [b"1"] * -(-len(DATA) // MIB)
        assert behind.info_count == asked


def test_what_was_overwritten_with_as_many_bytes_is_estale_and_never_a_mixture() -> None:
    fs = Tagged()
    with pagein.PageCache("32 MiB", debug=True) as cache, cache.open((fs, "a")) as file:
        file.advise("random")
        assert file.pread(10, 0) == b"1" * 10
        fs.data, fs.etag = b"2" * len(DATA), '"2"'
        with raises_errno(errno.ESTALE):
            file.pread(10, len(DATA) - 10)
        with cache.open((fs, "a")) as new:
            assert new.read() == fs.data


class NotThreadSafe(fsspec.AbstractFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """As ftp and others: one connection, which breaks if it is used twice at a time."""

    protocol = "not-thread-safe"
    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self._busy = threading.Lock()
        self.size_bytes = len(DATA)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "size": self.size_bytes, "type": "file", "mtime": 1}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        assert self._busy.acquire(blocking=False), "used twice at a time"
        try:
            return bytes(bytearray(DATA[start:end]))
        finally:
            self._busy.release()


def test_a_filesystem_that_is_not_async_is_asked_one_thing_at_a_time() -> None:
    fs = NotThreadSafe()
    with opened((fs, "a")) as one, opened((fs, "b")) as other, ThreadPoolExecutor(8) as pool:
        fetched = pool.map(lambda count: fill((one, other)[count % 2], MIB, count), range(200))
        assert all(data == DATA[count : count + MIB] for count, data in enumerate(fetched))


# -- versions ----------------------------------------------------------------------------------------


def test_a_memory_file_that_changes_while_it_is_open_gives_estale(memory: MemoryFileSystem) -> None:
    with pagein.PageCache("16M", debug=True) as cache, cache.open("memory://d/a") as file:
        assert file.pread(10, 0) == DATA[:10]
        memory.pipe_file("/d/a", OTHER)
        with raises_errno(errno.ESTALE):
            file.pread(10, MIB)
        assert read_whole(cache, "memory://d/a") == OTHER
        memory.rm("/d/a")
        with raises_errno(errno.ENOENT):
            cache.open("memory://d/a")
        memory.pipe_file("/d/a", b"")  # for the fixture to remove


@pytest.mark.parametrize("how", ["in place", "replaced", "truncated"])
def test_a_local_file_that_changes_while_it_is_open_gives_estale(local: Path, how: str) -> None:
    with opened(f"local://{local}/a") as version:
        assert fill(version, 10, 0) == DATA[:10]
        if how == "in place":
            with open(local / "a", "r+b") as writer:
                writer.write(OTHER)
        elif how == "replaced":
            (local / "b").write_bytes(OTHER)
            os.replace(local / "b", local / "a")
        else:
            os.truncate(local / "a", MIB)
        for offset in (0, 2 * MIB):
            with raises_errno(errno.ESTALE):
                fill(version, 10, offset)


def test_an_http_object_that_shrinks_gives_estale_and_one_that_changed_is_seen_by_the_next_open(
    server: RangeServer, http: HTTPFileSystem, objects: dict[str, bytes]
) -> None:
    with pagein.PageCache("16M", debug=True) as cache, cache.open((http, server.url("a"))) as file:
        objects["a"] = OTHER[: 2 * MIB]
        with raises_errno(errno.ESTALE):
            file.pread(MIB, MIB + 4096)
        with cache.open((http, server.url("a"))) as again:
            assert again.version != file.version
            assert again.read() == OTHER[: 2 * MIB]


def test_an_http_object_that_is_replaced_by_one_of_the_same_length_gives_estale(
    server: RangeServer, http: HTTPFileSystem, objects: dict[str, bytes]
) -> None:
    with opened((http, server.url("a"))) as version:
        assert fill(version, 10, 0) == DATA[:10]
        objects["a"] = DATA[::-1]
        with raises_errno(errno.ESTALE):
            fill(version, 10, MIB)


def test_a_file_that_goes_on_where_it_should_end_is_an_error() -> None:
    fs = NotThreadSafe()
    fs.size_bytes = len(DATA) - 1
    with opened((fs, "a")) as version:
        assert fill(version, 10, 0) == DATA[:10]
        with raises_errno(errno.EIO, "goes on after"):
            fill(version, 10, len(DATA) - 11)


def test_of_an_asynchronous_filesystem_another_is_made_that_threads_may_call(server: RangeServer) -> None:
    with pagein.PageCache("16M", debug=True) as cache:
        assert read_whole(cache, (HTTPFileSystem(asynchronous=True), server.url("a"))) == DATA


def test_without_any_validator_no_version_recurs(server: RangeServer, http: HTTPFileSystem) -> None:
    server.faults.set("a", "no-etag", "no-last-modified")
    with opened((http, server.url("a"))) as one, opened((http, server.url("a"))) as other:
        assert one.version != other.version


def test_a_server_without_ranges_is_asked_once_for_the_whole_file(server: RangeServer, http: HTTPFileSystem) -> None:
    server.faults.set("a", "no-range")
    with pagein.PageCache("1 MiB", debug=True) as cache, cache.open((http, server.url("a"))) as file:
        file.advise("random")
        assert file.pread(10, MIB) == DATA[MIB : MIB + 10]
        server.reset()
        assert file.read() == DATA
        assert not server.stats().sent_bytes


def test_a_file_too_large_for_that_is_refused_and_said_so(
    server: RangeServer, http: HTTPFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fsspec_store, "WHOLE_BYTES_MAX", len(DATA) - 1)
    server.faults.set("a", "no-range")
    with opened((http, server.url("a"))) as version, raises_errno(errno.EOPNOTSUPP, "no support for byte ranges"):
        fill(version, 8192, 4096)


# -- errors ------------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[int | None, int | None]] = {
    "die": (errno.EIO, errno.EIO),
    "redirect": (None, None),
    "redirect-loop": (errno.EIO, errno.EIO),
    "status:401": (errno.EACCES, errno.EACCES),
    "status:403": (errno.EACCES, errno.EACCES),
    "status:404": (errno.ENOENT, errno.ENOENT),
    "status:410": (errno.ENOENT, errno.ENOENT),
    "status:503": (errno.EIO, errno.EIO),
    "no-head": (None, None),
    "no-range": (None, None),
    "no-length": (errno.EOPNOTSUPP, None),
    "wrong-length:+1": (None, errno.ESTALE),
    "truncate": (None, errno.EIO),
    "die-after-headers": (None, errno.EIO),
}
"""The errno at open if every answer has the fault; and at a fetch if it comes after the open."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_server_is_an_oserror_with_an_errno(
    server: RangeServer, http: HTTPFileSystem, fault: str
) -> None:
    at_open, at_read = FAULTS[fault]
    with opened((http, server.url("a"))) as version:
        server.faults.set("a", fault)
        if at_read is None:
            assert fill(version, 8192, 4096) == DATA[4096:12288]
        else:
            with raises_errno(at_read):
                fill(version, 8192, 4096)
        if at_open is not None:
            with raises_errno(at_open):
                source_of((http, server.url("a"))).open()


class Raising(NotThreadSafe):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def cat_file(self, *_: Any, **__: Any) -> bytes:
        raise self.error


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (FileNotFoundError("a"), errno.ENOENT),
        (PermissionError("a"), errno.EACCES),
        (IsADirectoryError("a"), errno.EISDIR),
        (TimeoutError(), errno.ETIMEDOUT),
        (NotImplementedError(), errno.EOPNOTSUPP),
        (ValueError("odd"), errno.EIO),
        (KeyError("odd"), errno.EIO),
        (OSError(errno.ENXIO, "gone"), errno.ENXIO),
        (ConnectionResetError(errno.ECONNRESET, "reset"), errno.ECONNRESET),
    ],
    ids=repr,
)
def test_what_a_filesystem_raises_becomes_an_oserror_with_an_errno(error: Exception, number: int) -> None:
    with opened((Raising(error), "a")) as version:
        with pytest.raises(OSError) as raised:
            fill(version, 10, 0)
        assert raised.value.errno == number
        assert raised.value.filename == "not-thread-safe:a"
        assert raised.value is error or raised.value.__cause__ is error


@pytest.mark.skipif(find_spec("paramiko") is not None, reason="it is installed")
def test_a_package_that_a_filesystem_needs_and_is_not_installed() -> None:
    with raises_errno(errno.EPROTONOSUPPORT, "paramiko"):
        source_of("sftp://me:secret@host/a").open()


def test_special_files_are_refused(local: Path) -> None:
    os.mkfifo(local / "fifo")
    with raises_errno(errno.ESPIPE):
        source_of((LocalFileSystem(), local / "fifo")).open()
    with raises_errno(errno.EISDIR):
        source_of((LocalFileSystem(), local)).open()


def test_secrets_are_not_told() -> None:
    assert source_of("sftp://me:secret@host/a").name == "sftp://host/a"
    assert source_of("ftp://me:sec@ret@host/a@b").name == "ftp://host/a@b"
    assert source_of("zip://a::http://me@host/z?sig=secret").name == "zip://a::http://host/z?…"
    assert source_of("zip://a?x::http://host/z?sig=1::").name == "zip://a?…::http://host/z?…::"


def test_options_are_a_part_of_the_key() -> None:
    assert source_of("ftp://host/a", port=1).key == source_of("ftp://host/a", port=1).key
    assert source_of("ftp://host/a", port=1).key != source_of("ftp://host/a", port=2).key


def test_who_gives_options_hears_what_is_wrong_with_them_and_who_gives_none_what_the_url_lacks() -> None:
    pytest.importorskip("requests")
    with pytest.raises(TypeError, match="'repo'"):
        source_of("github://a", org="b").open()
    with pytest.raises(ValueError, match=r"cannot open 'github://a': .*'org'"):
        source_of("github://a").open()
