"""fsspec's protocol ``pagein``: what is read by which requests, what is seen of changes, and what is refused."""

from __future__ import annotations

import asyncio
import errno
import gc
import io
import json
import os
import pickle
import shutil
import subprocess
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.http import HTTPFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from tests.stores.reading import DATA, MIB, OTHER, raises_errno

import pagein
from pagein.stores import policy
from pagein.stores.fsspec_instances import lock_of
from pagein.testing.httpserver import RangeServer

NAMES = ["a", "with space", "ha#sh", "quest?ion", "per%20cent%", "Ünï-çødé-文字", "semi;colon&=+", "d/e e/f#"]


@pytest.fixture
def cache() -> Iterator[pagein.PageCache]:
    with pagein.PageCache("32 MiB", debug=True) as cache:
        yield cache


@pytest.fixture
def memory() -> Any:
    fs = MemoryFileSystem(global_store=False, skip_instance_cache=True)
    fs.pipe_file("/d/a", DATA)
    return fs


@pytest.fixture
def objects() -> dict[str, bytes]:
    return {"a": DATA}


@pytest.fixture
def http() -> Iterator[HTTPFileSystem]:
    fs = HTTPFileSystem(skip_instance_cache=True)
    yield fs
    if fs._session is not None:
        HTTPFileSystem.close_session(fs.loop, fs._session)


def in_front_of(fs: Any, cache: pagein.PageCache, **options: Any) -> Any:
    return fsspec.filesystem("pagein", fs=fs, cache=cache, **options)


def requests(server: RangeServer) -> list[str]:
    """The methods of the requests since this was last called."""
    methods = [record.method for record in server.stats().log]
    server.reset()
    return methods


# -- reading -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["chain", "given", "made"])
def test_a_chain_a_given_filesystem_and_a_target_protocol_read_the_same_bytes(server: RangeServer, form: str) -> None:
    url = server.url("a")
    if form == "chain":
        with fsspec.open(f"pagein::{url}") as file:
            assert file.read() == DATA
            assert file.full_name == f"pagein::{url}"
        fs, path = fsspec.url_to_fs(f"pagein::{url}", http={"timeout": 5})
        assert fs.fs.storage_options == {"timeout": 5}
        assert path == url
    elif form == "given":
        fs = fsspec.filesystem("pagein", fs=fsspec.filesystem("http"))
    else:
        fs = fsspec.filesystem("pagein", target_protocol="http", target_options={"timeout": 6})
        assert fs.fs.storage_options == {"timeout": 6}
    with fs.open(url) as file:
        assert (file.size, file.path, file.fs) == (len(DATA), url, fs)
        assert file.info()["size"] == file.details["size"] == len(DATA)
        assert file.read(10) == DATA[:10]
        file.seek(MIB)
        assert file.readinto(bytearray(5)) == 5
        assert isinstance(file, pagein.File)
    assert fs.cat_file(url, MIB, MIB + 10) == DATA[MIB : MIB + 10]
    assert fs.cat(url) == DATA
    assert fs.head(url, 5) == DATA[:5]
    assert fs.tail(url, 5) == DATA[-5:]
    assert fs.read_block(url, 100, 50) == DATA[100:150]


def test_each_url_of_one_host_is_of_one_filesystem(server: RangeServer) -> None:
    fs = [fsspec.url_to_fs(f"pagein::{server.url(name)}")[0] for name in "abc"]
    assert fs[0] is fs[1] is fs[2]


@pytest.mark.parametrize("start", [None, 0, 5, -7, 10_000, -20_000])
@pytest.mark.parametrize("end", [None, 0, 3, 4097, -2, 20_000])
def test_a_range_is_what_a_slice_is(
    memory: MemoryFileSystem, cache: pagein.PageCache, start: int | None, end: int | None
) -> None:
    memory.pipe_file("/d/b", DATA[:10_000])
    fs = in_front_of(memory, cache)
    for _ in range(2):
        assert fs.cat_file("/d/b", start, end) == DATA[:10_000][start:end]
        assert fs.cat_ranges(["/d/b"], [start], [end]) == [DATA[:10_000][start:end]]


def test_text_and_compression_are_those_of_fsspec() -> None:
    with fsspec.open("pagein::memory://text/t.gz", "wt", compression="infer", encoding="utf-8") as file:
        file.write("zwölf\n" * 1000)
    with fsspec.open("pagein::memory://text/t.gz", "rt", compression="infer", encoding="utf-8") as file:
        assert file.readlines() == ["zwölf\n"] * 1000
    memory = fsspec.filesystem("memory")
    assert memory.cat_file("/text/t.gz")[:2] == b"\x1f\x8b"
    memory.rm("/text", recursive=True)


def test_ranges_of_one_file_are_read_of_one_version_by_one_look_each_page_once(
    server: RangeServer, http: HTTPFileSystem, cache: pagein.PageCache, objects: dict[str, bytes]
) -> None:
    objects["b"] = OTHER
    fs = in_front_of(http, cache)
    a, b = server.url("a"), server.url("b")
    starts = list(range(0, 400_000, 40_000))
    got = fs.cat_ranges([a] * 10 + [b] * 10, starts * 2, [start + 5000 for start in starts * 2])
    assert got == [data[start : start + 5000] for data in (DATA, OTHER) for start in starts]
    methods = requests(server)
    assert methods.count("HEAD") == 2
    for _ in range(3):
        assert fs.cat_ranges([a] * 10, starts, [start + 5000 for start in starts]) == got[:10]
        assert fs.cat_file(a, 0, 5000) == DATA[:5000]
    assert requests(server) == []


def test_a_look_is_good_for_a_while_and_then_costs_one_request_and_no_bytes(
    server: RangeServer, http: HTTPFileSystem, cache: pagein.PageCache
) -> None:
    fs = in_front_of(http, cache)
    now_s = 0.0
    fs._kept._now_s = fs._listings._now_s = lambda: now_s
    assert fs.cat_file(server.url("a")) == DATA
    fs.info(server.url("a"))
    requests(server)
    for _ in range(5):
        assert fs.cat_file(server.url("a")) == DATA
        assert fs.info(server.url("a"))["size"] == fs.size(server.url("a")) == len(DATA)
    assert requests(server) == []
    now_s = 10.0
    for _ in range(5):
        assert fs.cat_file(server.url("a")) == DATA
    assert requests(server) == ["HEAD"]
    fs.invalidate_cache()
    assert fs.cat_file(server.url("a")) == DATA
    assert requests(server) == ["HEAD"]
    with fs.open(server.url("a")) as file:
        assert file.read() == DATA
    assert requests(server) == ["HEAD"], "open always looks"


def test_many_who_want_a_file_at_once_look_at_it_once(
    server: RangeServer, http: HTTPFileSystem, cache: pagein.PageCache
) -> None:
    fs = in_front_of(http, cache)
    url = server.url("a")

    async def gather() -> Any:
        return await asyncio.gather(*(fs._cat_file(url, at, at + 10) for at in range(50)))

    assert fsspec.asyn.sync(fs.loop, gather) == [DATA[at : at + 10] for at in range(50)]
    assert requests(server) == ["HEAD", "GET"]


def test_four_threads_with_a_file_each_download_an_object_once(
    server: RangeServer, http: HTTPFileSystem, cache: pagein.PageCache
) -> None:
    fs = in_front_of(http, cache)
    url = server.url("a")

    def read(number: int) -> bytes:
        if number % 2:
            return bytes(fs.cat_file(url))
        with fs.open(url) as file:
            return b"".join(iter(lambda: file.read(100_000), b""))

    with ThreadPoolExecutor(4) as pool:
        assert all(data == DATA for data in pool.map(read, range(4)))
    assert sum(record.sent_bytes for record in server.stats().log) == len(DATA)


def test_whether_an_http_object_is_a_directory_does_not_take_its_bytes(
    server: RangeServer, http: HTTPFileSystem, cache: pagein.PageCache, objects: dict[str, bytes]
) -> None:
    objects["index.html"] = f'<a href="{server.url("index.html/b")}">b</a>'.encode()
    fs = in_front_of(http, cache)
    assert not fs.isdir(server.url("a"))
    assert fs.isfile(server.url("a"))
    assert set(requests(server)) == {"HEAD"}


@pytest.mark.parametrize("question", ["isfile", "exists"])
def test_whether_there_is_an_http_object_does_not_take_its_bytes(
    server: RangeServer, http: HTTPFileSystem, cache: pagein.PageCache, question: str
) -> None:
    ask = getattr(in_front_of(http, cache), question)
    assert ask(server.url("a"))
    assert ask(server.url("a"))
    assert requests(server) == ["HEAD"]
    assert not ask(server.url("no-such"))


def test_without_listings_each_question_is_asked(
    server: RangeServer, http: HTTPFileSystem, cache: pagein.PageCache, objects: dict[str, bytes]
) -> None:
    fs = in_front_of(http, cache, use_listings_cache=False)
    assert fs.cat_file(server.url("a")) == DATA
    requests(server)
    assert fs.cat_file(server.url("a")) == DATA
    assert requests(server) == ["HEAD"]
    objects["a"] = OTHER
    assert fs.cat_file(server.url("a")) == OTHER


@pytest.mark.parametrize("revalidate", ["open", "never", "always", 0, 5])
def test_a_file_reads_as_fresh_as_its_cache_wants_it(memory: MemoryFileSystem, revalidate: Any) -> None:
    with pagein.PageCache("32 MiB", debug=True, revalidate=revalidate) as cache:
        fs = in_front_of(memory, cache)
        with fs.open("/d/a", "rb") as file, fs.open("/d/a", "r", encoding="latin-1") as text:
            assert (file.read(), text.read(7)) == (DATA, DATA[:7].decode("latin-1"))
            assert (file.size, file.path, file.fs) == (len(DATA), "/d/a", fs)
            copy = pickle.loads(pickle.dumps(file))
            memory.pipe_file("/d/a", OTHER)
            if revalidate in ("always", 0):
                with raises_errno(errno.ESTALE):
                    file.pread(1, 0)
            else:
                assert file.pread(7, 0) == DATA[:7]
            copy.close()


def test_what_a_file_that_was_opened_has_shown_is_what_the_next_call_reads(
    http: HTTPFileSystem, server: RangeServer, objects: dict[str, bytes], cache: pagein.PageCache
) -> None:
    fs = in_front_of(http, cache)
    assert fs.cat_file(server.url("a"), 0, 10) == DATA[:10]
    objects["a"] = OTHER
    with fs.open(server.url("a")) as file:
        assert file.read(10) == OTHER[:10]
    assert fs.cat_file(server.url("a"), 0, 10) == OTHER[:10]


@pytest.mark.parametrize("revalidate", ["open", "always"])
def test_a_trace_tells_of_the_reads_of_its_files(memory: MemoryFileSystem, revalidate: Any, tmp_path: Path) -> None:
    with pagein.PageCache("32 MiB", debug=True, revalidate=revalidate) as cache:
        fs = in_front_of(memory, cache)
        with fs.open("/d/a", "rb") as before, cache.trace(tmp_path / "trace.json"), fs.open("/d/a", "rb") as file:
            before.pread(10, 0)
            file.pread(10, 10)
        assert type(before).__mro__ == type(file).__mro__
    events = json.loads((tmp_path / "trace.json").read_text())
    assert [event["args"]["offset"] for event in events if event.get("cat") == "read" and event["ph"] == "X"] == [0, 10]


def test_a_file_that_changed_since_it_was_looked_at_is_looked_at_again_by_who_did_not_open_it(
    server: RangeServer, http: HTTPFileSystem, cache: pagein.PageCache, objects: dict[str, bytes]
) -> None:
    fs = in_front_of(http, cache)
    url = server.url("a")
    with fs.open(url) as file:
        assert file.read(10) == DATA[:10]
        assert fs.cat_file(url, 0, 10) == DATA[:10]
        objects["a"] = OTHER
        assert fs.cat_ranges([url, url], [0, 2 * MIB], [10, 2 * MIB + 10]) == [
            OTHER[:10],
            OTHER[2 * MIB : 2 * MIB + 10],
        ]
        with raises_errno(errno.ESTALE):  # by If-Match: its length is the same
            file.pread(10, 2 * MIB)


@pytest.mark.parametrize("place", ["memory", "local", "http"])
def test_names_are_what_they_are(
    request: pytest.FixtureRequest, cache: pagein.PageCache, tmp_path: Path, objects: dict[str, bytes], place: str
) -> None:
    for name in NAMES:
        data = name.encode() * 1000
        if place == "http":
            objects[name] = data
            path = request.getfixturevalue("server").url(name)
            fs = in_front_of(request.getfixturevalue("http"), cache)
        else:
            behind = request.getfixturevalue("memory") if place == "memory" else LocalFileSystem(auto_mkdir=True)
            fs, path = in_front_of(behind, cache), f"{tmp_path}/{name}"
            with fs.open(path, "wb") as file:
                file.write(data)
            assert path in fs.find(str(tmp_path))
        assert fs.cat_file(path) == data
        with fs.open(path) as file:
            assert file.read() == data
        assert fs.info(path)["size"] == len(data)
        if place == "local":
            with fsspec.open(f"pagein::file://{path}", "rb") as file:
                assert file.read() == data


# -- asynchronous ------------------------------------------------------------------------------------


@pytest.mark.parametrize("behind", ["http", "http asynchronous", "memory", "wrapped memory", "dir"])
def test_an_asynchronous_one_answers_on_its_users_loop(
    server: RangeServer, cache: pagein.PageCache, behind: str
) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/asynchronous/a", DATA)
    url = server.url("a") if behind.startswith("http") else "/asynchronous/a"

    async def read() -> None:
        fs = {
            "http": HTTPFileSystem,
            "http asynchronous": lambda: HTTPFileSystem(asynchronous=True),
            "memory": lambda: memory,
            "wrapped memory": lambda: AsyncFileSystemWrapper(memory),
            "dir": lambda: DirFileSystem("/", memory),
        }[behind]()
        fs = fsspec.filesystem("pagein", fs=fs, cache=cache, asynchronous=True)
        assert await fs._cat_file(url, 5, 100) == DATA[5:100]
        assert await fs._cat_ranges([url] * 3, [0, MIB, -5], [5, MIB + 5, None]) == [
            DATA[:5],
            DATA[MIB:][:5],
            DATA[-5:],
        ]
        assert (await fs._info(url))["size"] == len(DATA)
        assert await fs._exists(url)
        assert await fs._isfile(url)
        async with await fs.open_async(url) as file:
            assert await file.read(7) == DATA[:7]

    asyncio.run(read())
    memory.rm("/asynchronous", recursive=True)


# -- changes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["memory", "local"])
def test_each_change_is_seen_by_the_next_call(
    memory: MemoryFileSystem, cache: pagein.PageCache, tmp_path: Path, place: str
) -> None:
    fs = in_front_of(memory if place == "memory" else LocalFileSystem(auto_mkdir=True), cache, use_listings_cache=True)
    root = str(tmp_path)
    a, b, c = (f"{root}/{name}" for name in "abc")

    def seen() -> dict[str, bytes]:
        names = fs.ls(root, detail=False)
        assert all(fs.exists(name) and fs.isfile(name) for name in names)
        assert [fs.info(name)["size"] for name in names] == [len(fs.cat_file(name)) for name in names]
        return {name[-1]: fs.cat_file(name) for name in names}

    fs.makedirs(root, exist_ok=True)
    fs.pipe_file(a, b"one")
    assert seen() == {"a": b"one"}
    fs.pipe_file(a, b"two")  # of the same size, perhaps in the same tick of the clock
    assert seen() == {"a": b"two"}
    with fs.open(a, "ab") as file:
        file.write(b"three")
        assert fs.cat_file(a) == b"twothree"
    assert seen() == {"a": b"twothree"}
    with fs.open(a, "r+b") as file:
        file.write(b"T")
    assert seen() == {"a": b"Twothree"}
    with fs.open(b, "w") as file:
        file.write("b")
    fs.cp_file(b, c)
    assert seen() == {"a": b"Twothree", "b": b"b", "c": b"b"}
    fs.mv(a, c)
    assert seen() == {"b": b"b", "c": b"Twothree"}
    fs.rm_file(b)
    fs.touch(a)
    assert seen() == {"a": b"", "c": b"Twothree"}
    fs.put_file(os.path.abspath(__file__), a)
    assert fs.cat_file(a) == Path(__file__).read_bytes()
    fs.rm([a, c])
    assert not fs.exists(a)
    assert fs.ls(root) == []
    fs.mkdir(f"{root}/d")
    assert fs.isdir(f"{root}/d")
    fs.rmdir(f"{root}/d")
    assert not fs.exists(f"{root}/d")
    with pytest.raises(FileNotFoundError):
        fs.cat_file(a)


def test_a_download_is_whole_or_not_there(
    server: RangeServer, http: HTTPFileSystem, cache: pagein.PageCache, tmp_path: Path
) -> None:
    fs = in_front_of(http, cache)
    fs.get_file(server.url("a"), str(tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == DATA
    sink = io.BytesIO()
    fs.get_file(server.url("a"), sink)
    assert sink.getvalue() == DATA
    cache.drop()
    server.faults.set("a", "truncate")
    with raises_errno(errno.EIO):
        fs.get_file(server.url("a"), str(tmp_path / "b"))
    assert not (tmp_path / "b").exists()


class Failing(fsspec.callbacks.Callback):  # type: ignore[misc]
    """Half of a download is there when it is called."""

    def relative_update(self, inc: int = 1) -> None:
        raise ZeroDivisionError


def test_a_download_removes_only_the_half_file_that_it_has_written(
    server: RangeServer, http: HTTPFileSystem, cache: pagein.PageCache, tmp_path: Path
) -> None:
    fs = in_front_of(http, cache)
    program, link, full = tmp_path / "program", tmp_path / "link", tmp_path / "full"
    shutil.copy(shutil.which("sleep") or "", program)
    with subprocess.Popen([program, "30"]) as running:  # what runs cannot be opened to be written, by root neither
        try:
            with pytest.raises(OSError, match="busy"):
                fs.get_file(server.url("a"), str(program))
        finally:
            running.kill()
    assert program.exists()
    full.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space"):
        fs.get_file(server.url("a"), str(full))
    assert full.is_symlink()
    with pytest.raises(FileNotFoundError) as raised:
        fs.get_file(server.url("a"), str(tmp_path / "no" / "such"))
    assert raised.value.__context__ is None
    link.symlink_to(tmp_path / "half")
    with pytest.raises(ZeroDivisionError):
        fs.get_file(server.url("a"), str(link), callback=Failing())
    assert link.is_symlink()
    assert not (tmp_path / "half").exists()


@pytest.mark.parametrize("behind", ["local", "dir", "dir in dir", "wrapped"])
def test_a_file_is_not_downloaded_onto_itself(cache: pagein.PageCache, tmp_path: Path, behind: str) -> None:
    (tmp_path / "a").write_bytes(DATA)
    (tmp_path / "link").symlink_to("a")
    filesystems: dict[str, tuple[Any, str]] = {
        "local": (LocalFileSystem(), str(tmp_path / "a")),
        "dir": (DirFileSystem(str(tmp_path), fs=LocalFileSystem()), "a"),
        "dir in dir": (DirFileSystem(tmp_path.name, fs=DirFileSystem(str(tmp_path.parent), fs=LocalFileSystem())), "a"),
        "wrapped": (fsspec.filesystem("simplecache", fs=LocalFileSystem()), str(tmp_path / "a")),
    }
    fs, path = filesystems[behind]
    with pytest.raises(shutil.SameFileError):
        in_front_of(fs, cache).get_file(path, str(tmp_path / "link"))
    assert (tmp_path / "a").read_bytes() == DATA


def test_a_store_that_cannot_be_written_to_says_so(
    server: RangeServer, http: HTTPFileSystem, cache: pagein.PageCache
) -> None:
    fs = in_front_of(http, cache)
    with raises_errno(errno.EROFS):
        fs.open(server.url("a"), "wb")


# -- a filesystem that lies, or tells little -----------------------------------------------------------


class Lying(fsspec.AbstractFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """A file that is said to have another size than it has."""

    protocol = "lying"
    cachable = False

    def __init__(self, told_bytes: int, real_bytes: int) -> None:
        super().__init__()
        self.told_bytes = told_bytes
        self.data = DATA[:real_bytes]
        self.asked = 0

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        self.asked += 1
        return {"name": path, "size": self.told_bytes, "type": "file"}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        return self.data[start:end]


@pytest.mark.parametrize(
    ("told_bytes", "real_bytes"),
    [(100, 50), (100, 101), (100, 200), (10_000, 9_999), (8192, 8193), (0, 1), (0, 10_000), (-1, 100), (-1, 0)],
)
def test_a_filesystem_that_lies_about_size_gives_an_oserror_and_no_bytes(
    cache: pagein.PageCache, told_bytes: int, real_bytes: int
) -> None:
    fs = in_front_of(Lying(told_bytes, real_bytes), cache)
    with pytest.raises(OSError, match=r"lying:a") as raised:
        fs.cat_file("a")
    assert raised.value.errno in (errno.EIO, errno.ESTALE)
    with pytest.raises(OSError, match=r"lying:a"), fs.open("a") as file:
        file.read()
    with pytest.raises(OSError, match=r"lying:a"), fs.open("a", "r+b") as file:
        file.read()


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionResetError(104, "gone"), PermissionError(13, "no")])
def test_whether_a_file_is_empty_is_not_guessed(
    cache: pagein.PageCache, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "RETRIES_MAX", 1)
    monkeypatch.setattr(policy, "BACKOFF_S", (0.0, 0.0))
    behind = Lying(0, 100)

    def cat_file(path: str, **_: Any) -> bytes:
        raise error

    behind.cat_file = cat_file  # type: ignore[method-assign,assignment]
    with pytest.raises(OSError, match="lying:a") as raised:
        cache.open((behind, "a"))
    assert raised.value.errno in (errno.ETIMEDOUT, errno.ECONNRESET, errno.EACCES)


def test_a_file_whose_size_is_not_true_can_be_replaced(cache: pagein.PageCache) -> None:
    behind = Lying(0, 100)

    written: dict[str, bytes] = {}

    def mv(path1: str, path2: str, **_: Any) -> None:
        behind.data = written.pop(path1)
        behind.told_bytes = len(behind.data)

    behind.put_file = lambda lpath, rpath, **_: written.update({rpath: Path(lpath).read_bytes()})
    behind.mv = mv
    with in_front_of(behind, cache).open("a", "wb") as file:
        file.write(b"new")
    assert behind.data == b"new"


def test_a_file_that_gets_its_first_bytes_while_it_is_opened_has_them(cache: pagein.PageCache) -> None:
    behind = Lying(0, 100)
    told = behind.info

    def info(path: str, **_: Any) -> dict[str, Any]:
        answer = told(path)
        behind.told_bytes = 100
        return answer

    behind.info = info  # type: ignore[method-assign]
    assert in_front_of(behind, cache).cat_file("a") == DATA[:100]


def test_an_empty_file_is_empty(
    server: RangeServer, http: HTTPFileSystem, cache: pagein.PageCache, objects: dict[str, bytes]
) -> None:
    """Also where a range of it is an error: 416."""
    objects["empty"] = b""
    assert in_front_of(http, cache).cat_file(server.url("empty")) == b""
    assert in_front_of(Lying(0, 0), cache).cat_file("a") == b""


def test_an_object_without_a_validator_is_fetched_anew_by_each_look(
    server: RangeServer, http: HTTPFileSystem, cache: pagein.PageCache, objects: dict[str, bytes]
) -> None:
    server.faults.set("a", "no-etag", "no-last-modified")
    fs = in_front_of(http, cache)
    assert fs.cat_file(server.url("a")) == DATA
    objects["a"] = OTHER
    with fs.open(server.url("a")) as file:
        assert file.read() == OTHER


class Large(Lying):
    """A directory of many files, which is listed as often as it is asked for."""

    def __init__(self, count: int) -> None:
        super().__init__(0, 0)
        self.count = count
        self.listed = 0

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        self.listed += 1
        return [{"name": f"d/{at}", "size": at, "type": "file"} for at in range(self.count)]


def test_a_listing_of_100_000_objects_is_passed_on_and_not_kept(cache: pagein.PageCache) -> None:
    behind = Large(100_000)
    fs = in_front_of(behind, cache)
    assert len(fs.ls("d")) == len(fs.find("d", detail=True)) == 100_000
    assert len(fs._listings) == 0
    assert sum(fs.du("d", total=False).values()) == sum(range(100_000))
    assert behind.asked == 0, "of a file that is in a listing nothing more is asked"
    small = in_front_of(Large(1000), cache)
    assert all(len(small.ls("d")) == 1000 for _ in range(3))
    assert small.fs.listed == 1
    assert small.info("d/7")["size"] == 7
    assert small.fs.asked == 0


# -- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("pagein://bucket/key", "names no filesystem.*pagein::s3://bucket/key"),
        ("memory::pagein://bucket/key", "names no filesystem.*pagein::s3://bucket/key"),
        ("pagein::", "in front of nothing.*pagein::s3://"),
        ("pagein::pagein::memory://a", "written once"),
        ("pagein::nosuch://a", "nosuch"),
    ],
)
def test_a_chain_that_makes_no_sense_is_told_what_does(
    url: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=words):
        fsspec.open(url).open()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "needs a filesystem"),
        ({"fs": "memory"}, "filesystem of fsspec's, not str"),
        ({"target_protocol": "memory", "anon": True}, "no option 'anon'.*under its own protocol"),
        ({"target_protocol": "memory", "fs": fsspec.filesystem("memory")}, "either"),
        ({"target_protocol": "memory", "cache": 3}, "PageCache, not int"),
        ({"target_protocol": "memory", "cache_size": "much"}, "cache_size"),
        ({"target_protocol": "memory", "listings_expiry_time": -1}, "at least 0"),
        ({"target_protocol": "memory", "max_paths": 0}, "at least 1"),
        (
            {"target_protocol": "memory", "listings_expiry_time": "x"},
            "listings_expiry_time must be a number of seconds",
        ),
        ({"target_protocol": "memory", "max_paths": "x"}, "max_paths must be a number of entries, at least 1, not 'x'"),
    ],
)
def test_an_option_that_makes_no_sense_is_told_what_does(options: dict[str, Any], words: str) -> None:
    options.setdefault("use_listings_cache", True)
    with pytest.raises((ValueError, TypeError), match=words):
        fsspec.filesystem("pagein", **options)


def test_transactions_are_refused(memory: MemoryFileSystem, cache: pagein.PageCache) -> None:
    fs = in_front_of(memory, cache)
    with pytest.raises(NotImplementedError, match=r"no transactions.*fs\.fs"):
        fs.start_transaction()
    with pytest.raises(NotImplementedError, match="no transactions"), fs.transaction:
        pass
    with pytest.raises(NotImplementedError, match="no transactions"):
        fs.open("/d/a", "wb", autocommit=False)
    with pytest.raises(TypeError, match="'ContentType'"):
        fs.open("/d/a", "wb", ContentType="text/plain")
    assert memory.cat_file("/d/a") == DATA


def test_what_pagein_opens_through_it_is_in_the_cache_once(memory: MemoryFileSystem, cache: pagein.PageCache) -> None:
    fs = in_front_of(memory, cache)
    with cache.open((fs, "/d/a")) as file, fs.open("/d/a") as same:
        assert file.read() == same.read() == DATA
        assert cache.stats().inodes == 1
    global_memory = fsspec.filesystem("memory")
    global_memory.pipe_file("/twice/a", OTHER)
    with cache.open("pagein::memory://twice/a", listings_expiry_time=3) as file:
        assert file.read() == OTHER
        assert file.name == "pagein::memory://twice/a"
    assert cache.stats().inodes == 2
    global_memory.rm("/twice", recursive=True)


# -- the same, and another ---------------------------------------------------------------------------


def test_equal_arguments_are_one_instance_and_different_caches_are_different_ones(memory: MemoryFileSystem) -> None:
    assert fsspec.filesystem("pagein", fs=memory) is fsspec.filesystem("pagein", fs=memory)
    assert fsspec.filesystem("pagein", fs=memory).cache is pagein.default_cache()
    with pagein.PageCache("1 MiB") as one, pagein.PageCache("1 MiB") as other:
        assert in_front_of(memory, one) == in_front_of(memory, one)
        assert in_front_of(memory, one) != in_front_of(memory, other)
        assert in_front_of(memory, one).cache is one
        assert hash(in_front_of(memory, one)) != hash(in_front_of(memory, other))
    sized = [fsspec.filesystem("pagein", target_protocol=what, cache_size="1 MiB") for what in ("memory", "file")]
    assert sized[0].cache is sized[1].cache
    assert sized[0].cache.size_bytes == MIB
    sized[0].cache.close()


def test_a_filesystem_with_a_cache_of_its_own_goes_when_nobody_has_it(
    memory: MemoryFileSystem, cache: pagein.PageCache
) -> None:
    fs = in_front_of(memory, cache)
    fs.cat_file("/d/a", 0, 10)
    gone = weakref.ref(fs)
    fsspec.asyn.sync(fs.loop, asyncio.sleep, 0)  # its loop is done with the last call
    del fs
    gc.collect()
    assert gone() is None


def test_a_filesystem_and_a_file_that_are_pickled_come_back_to_the_cache_that_they_had(cache: pagein.PageCache) -> None:
    fs = fsspec.filesystem("pagein", target_protocol="memory", cache=cache)
    fs.pipe_file("/pickled/a", DATA)
    same = pickle.loads(pickle.dumps(fs))
    assert same == fs
    assert same.cache is cache
    with fs.open("/pickled/a") as file:
        file.seek(5)
        with pickle.loads(pickle.dumps(file)) as again:
            assert again.tell() == 5
            assert again.read() == DATA[5:]
    with fs.open("/pickled/b", "wb") as file, pytest.raises(TypeError, match="open for writing"):
        pickle.dumps(file)
    open_file = fsspec.open("pagein::memory://pickled/a")
    with pickle.loads(pickle.dumps(open_file)) as file:
        assert file.read() == DATA
    fs.fs.rm("/pickled", recursive=True)


def test_json_tells_the_size_of_the_cache(cache: pagein.PageCache) -> None:
    fs = fsspec.filesystem("pagein", target_protocol="memory", cache=cache, listings_expiry_time=None)
    same = fsspec.AbstractFileSystem.from_json(fs.to_json())
    assert same.storage_options == {"target_protocol": "memory", "cache_size": 32 << 20, "listings_expiry_time": None}
    plain = fsspec.filesystem("pagein", target_protocol="memory")
    assert fsspec.AbstractFileSystem.from_json(plain.to_json()) is plain


class OneAtATime(AbstractFileSystem):  # type: ignore[misc]
    """It has one connection, and notes whether its caller was alone on it."""

    protocol = "one"
    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.was_alone: list[bool] = []

    def _asked(self, path: str, **options: Any) -> str:
        lock: Any = lock_of(self)
        self.was_alone.append(lock.locked())
        return path

    created = modified = checksum = ukey = sign = _asked

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        return {"name": self._asked(path), "size": 0, "type": "file"}


@pytest.mark.parametrize("method", ["created", "modified", "checksum", "ukey", "sign", "info"])
def test_one_that_takes_one_call_at_a_time_is_asked_by_one_whatever_it_is_asked(
    cache: pagein.PageCache, method: str
) -> None:
    behind = OneAtATime()
    assert getattr(in_front_of(behind, cache), method)("/a")
    assert behind.was_alone == [True]
