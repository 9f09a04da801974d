"""Filesystems of fsspec's in a child of a fork: what one has open is its process's alone."""

from __future__ import annotations

import errno
import io
import os
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.tar import TarFileSystem
from fsspec.implementations.zip import ZipFileSystem
from tests.forking import in_child
from tests.stores.reading import DATA, MIB, raises_errno

import pagein
from pagein.stores import fsspec_instances
from pagein.stores.fsspec_asking import Reader, Seen
from pagein.stores.fsspec_instances import callable_here, lock_of

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")


class Connected(AbstractFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """Serves who has made it, as over one connection; *server* tells what it was asked, and by which connection."""

    protocol = "connected"
    cachable = False
    root_marker = "/"

    def __init__(self, client: object = None, **options: Any) -> None:
        super().__init__(**options)
        self.pid = os.getpid()

    def _asked(self) -> None:
        if self.pid != os.getpid():
            raise ConnectionResetError(errno.ECONNRESET, "asked on a connection of another process")

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        self._asked()
        return {"name": path, "size": len(DATA), "type": "file", "mtime": 1}

    def cat_file(self, path: str, start: Any = None, end: Any = None, **kwargs: Any) -> bytes:
        self._asked()
        return DATA[start:end]


class ByFile(Connected):
    """One that is read by way of a file."""

    cat_file = AbstractFileSystem.cat_file

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> io.BytesIO:
        self._asked()
        return OneFile(self)


class OneFile(io.BytesIO):
    """Of one connection."""

    def __init__(self, fs: ByFile) -> None:
        super().__init__(DATA)
        self._fs = fs

    def read(self, *args: Any) -> bytes:
        self._fs._asked()
        return super().read(*args)


@pytest.fixture
def cache() -> Iterator[pagein.PageCache]:
    with pagein.PageCache("8 MiB") as cache:
        yield cache


Way = Callable[[AbstractFileSystem, pagein.PageCache], Callable[[], pagein.File]]


def opened_file(fs: AbstractFileSystem, cache: pagein.PageCache) -> Callable[[], pagein.File]:
    file = cache.open((fs, "/a"))
    return lambda: file


def file_to_be_opened(fs: AbstractFileSystem, cache: pagein.PageCache) -> Callable[[], pagein.File]:
    cache.open((fs, "/b")).close()
    return lambda: cache.open((fs, "/a"))


def file_of_one_unseen(fs: AbstractFileSystem, cache: pagein.PageCache) -> Callable[[], pagein.File]:
    return lambda: cache.open((fs, "/a"))


def file_through_the_door(fs: AbstractFileSystem, cache: pagein.PageCache) -> Callable[[], pagein.File]:
    door = fsspec.filesystem("pagein", fs=fs, cache=cache)
    return lambda: door.open("/a")


WAYS = [opened_file, file_to_be_opened, file_of_one_unseen, file_through_the_door]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [Connected, ByFile])
def test_a_child_reads_by_a_filesystem_of_its_own(cache: pagein.PageCache, kind: type[Connected], way: Way) -> None:
    file = way(kind(), cache)

    def check() -> None:
        assert file().pread(100, MIB) == DATA[MIB : MIB + 100]
        in_child(check_again)

    def check_again() -> None:
        assert file().pread(100, 2 * MIB) == DATA[2 * MIB :][:100]

    in_child(check)
    check_again()


def test_what_is_put_around_one_of_the_parent_s_is_made_anew_too(cache: pagein.PageCache) -> None:
    inner = Connected()
    outer = DirFileSystem("/d", inner)
    with cache.open((outer, "a")) as file:

        def check() -> None:
            assert file.pread(100, MIB) == DATA[MIB : MIB + 100]
            around = DirFileSystem("/d", inner)  # made here, around what was made there
            assert cache.open((around, "b")).pread(100, MIB) == DATA[MIB : MIB + 100]
            assert callable_here(around).fs is callable_here(inner)

        in_child(check)


def test_a_filesystem_is_made_anew_once_for_all_who_begin_at_once() -> None:
    fs = Connected()
    callable_here(fs)

    def check() -> None:
        barrier = threading.Barrier(4)

        def ask(_: int) -> AbstractFileSystem:
            barrier.wait()
            return callable_here(fs)

        with ThreadPoolExecutor(4) as pool:
            (one,) = {id(found): found for found in pool.map(ask, range(4))}.values()
        assert one is not fs
        assert lock_of(one) is lock_of(callable_here(fs))

    in_child(check)


@pytest.mark.parametrize("options", [{}, {"skip_instance_cache": True}])
def test_one_that_a_child_has_made_is_used_as_it_is(cache: pagein.PageCache, options: dict[str, Any]) -> None:
    def check() -> None:
        with open(__file__, "rb") as client:
            fs = Connected(client, **options)
            assert callable_here(fs) is fs
            assert cache.open((fs, "/a")).pread(100, MIB) == DATA[MIB : MIB + 100]

    in_child(check)


def test_who_imports_pagein_in_the_child_only_does_not_go_on_with_what_is_the_parent_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fs = Connected()

    def check() -> None:
        monkeypatch.setattr(fsspec_instances, "_is_forked", False)
        assert callable_here(fs) is not fs
        assert callable_here(own := Connected()) is own

    in_child(check)


def test_one_that_was_made_of_an_open_file_is_refused_in_a_child(cache: pagein.PageCache, tmp_path: Path) -> None:
    with open(archive(tmp_path, "tar"), "rb") as file:
        fs = TarFileSystem(file)
        door = fsspec.filesystem("pagein", fs=fs, cache=cache)
        with cache.open((fs, "a")) as opened:

            def check() -> None:
                with raises_errno(errno.EDEADLK, "TarFileSystem.*before this process was forked.*an open file"):
                    opened.pread(100, MIB)
                with raises_errno(errno.EDEADLK, "make one in this process"):
                    cache.open((fs, "a"))
                with pytest.raises(OSError, match="TarFileSystem"):
                    door.open("a")

            in_child(check)
            assert opened.read() == DATA


def test_one_whose_client_cannot_be_copied_is_refused_in_a_child(cache: pagein.PageCache) -> None:
    with cache.open((Connected(threading.Lock()), "/a")) as file:

        def check() -> None:
            with raises_errno(errno.EDEADLK, "cannot pickle"):
                file.pread(100, MIB)

        in_child(check)


def test_an_archive_that_its_parent_writes_is_not_made_anew(tmp_path: Path) -> None:
    """Which would be to empty it."""
    path = tmp_path / "new.zip"
    fs = ZipFileSystem(str(path), mode="w")
    callable_here(fs)
    fs.pipe_file("a", b"one")

    def check() -> None:
        with pytest.raises(OSError, match="it writes"):
            callable_here(fs)

    in_child(check)
    fs.close()
    with zipfile.ZipFile(path) as read:
        assert read.read("a") == b"one"


@pytest.mark.parametrize("kind", ["memory", "pagein"])
def test_one_of_a_file_that_is_the_process_s_own_goes_on(cache: pagein.PageCache, tmp_path: Path, kind: str) -> None:
    path = archive(tmp_path, "tar")
    with io.BytesIO(path.read_bytes()) if kind == "memory" else cache.open(path) as file:
        fs = TarFileSystem(file)
        with cache.open((fs, "a")) as opened:

            def check() -> None:
                assert opened.pread(100, MIB) == DATA[MIB : MIB + 100]

            in_child(check)


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize("through", ["the cache", "the door"])
def test_a_child_does_not_move_the_position_at_which_its_parent_reads_an_archive(
    cache: pagein.PageCache, tmp_path: Path, kind: str, through: str
) -> None:
    """Which they would share: each would read what the other has asked for."""
    path = archive(tmp_path, kind)

    def positions() -> list[str]:
        fds = [fd for fd in os.listdir("/proc/self/fd") if os.path.realpath(f"/proc/self/fd/{fd}") == str(path)]
        return [Path(f"/proc/self/fdinfo/{fd}").read_text().split()[1] for fd in fds]

    door = fsspec.filesystem("pagein", target_protocol=kind, target_options={"fo": str(path)}, cache=cache)
    with door.open("a") if through == "the door" else cache.open(f"{kind}://a::{path}") as file:
        file.pread(1, MIB)
        before = positions()
        assert before

        def check() -> None:
            assert file.pread(len(DATA), 0) == DATA

        in_child(check)
        assert positions() == before
        assert file.pread(len(DATA), 0) == DATA


def archive(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / f"one.{kind}"
    if kind == "tar":
        with tarfile.open(path, "w") as tar:
            member = tarfile.TarInfo("a")
            member.size = len(DATA)
            tar.addfile(member, io.BytesIO(DATA))
    else:
        with zipfile.ZipFile(path, "w") as zip_:
            zip_.writestr("a", DATA)
    return path


def test_closing_in_a_child_neither_makes_one_anew_nor_closes_what_is_the_parent_s(cache: pagein.PageCache) -> None:
    fs = ByFile()
    file = cache.open((fs, "/a"))

    def check() -> None:
        file.close()
        assert fsspec_instances._standing(fs).another is None

    in_child(check)
    assert file.pread(100, MIB) == DATA[MIB : MIB + 100]


def test_equal_filesystems_share_a_lock_also_when_the_first_is_gone() -> None:
    """They may have been made of one open file."""
    first, second = Connected(), Connected()
    assert first == second
    lock = lock_of(second)
    assert lock_of(first) is lock
    del first
    assert lock_of(second) is lock
    first, third = second, Connected()
    del second, first
    assert lock_of(third) is lock


def test_a_reader_has_begun_anew_only_when_its_file_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else another thread that comes in meanwhile reads at the position of the parent's."""
    reader = Reader(ByFile(), "/a", "connected:/a")
    reader.open_file()
    parent_pid, open_file, seen = os.getpid(), ByFile._open, []

    def noting_open(*args: Any, **options: Any) -> io.BytesIO:
        seen.append(reader._pid)
        return open_file(*args, **options)

    def check() -> None:
        monkeypatch.setattr(ByFile, "_open", noting_open)
        assert reader.read(MIB, 100, Seen(len(DATA), "")) == DATA[MIB : MIB + 100]
        assert seen == [parent_pid]
        assert reader._pid == os.getpid()

    in_child(check)
