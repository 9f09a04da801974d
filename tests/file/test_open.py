"""`pagein.open`, `PageCache.open` and `Inode.open`: modes and arguments as the built-in `open` takes them."""

from __future__ import annotations

import asyncio
import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from tests.file.sources import Bytes, binary, inode_of, outcome_of

import pagein
import pagein.aio
from pagein import File, PageCache
from pagein.stores import MemoryStore

CONTENT = b"first\r\nsecond\nthird"
WRITING_MODES = ["w", "wb", "wt", "x", "xb", "a", "ab", "r+", "rb+", "r+b", "+r", "w+b", "bw", "a+t"]
BAD_MODES = ["", "b", "t", "+", "rr", "rbt", "rtb", "rw", "rwb", "ra", "U", "rU", "rz", "R", "r b", "rb\0"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    os.utime(path, (1, 1))  # else its version is not certain yet
    return path


@pytest.fixture
def default_cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[PageCache]:
    """The process's own cache, made anew for one test."""
    monkeypatch.setattr("pagein.default._cache", None)
    monkeypatch.setenv("PAGEIN_SIZE", "1 MiB")
    cache = pagein.default_cache()
    yield cache
    cache.close()


# -- modes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["rb", "br"])
def test_a_binary_mode_gives_a_file(mode: str, cache: PageCache, path: Path) -> None:
    with cache.open(path, mode) as file:
        assert isinstance(file, File)
        assert file.read() == CONTENT


@pytest.mark.parametrize("mode", ["r", "rt", "tr"])
def test_a_text_mode_gives_text_over_a_file(mode: str, cache: PageCache, path: Path) -> None:
    with cache.open(path, mode) as text, open(path) as reference:
        assert isinstance(text, io.TextIOWrapper)
        assert isinstance(text.buffer, File)
        assert text.read() == reference.read()
        assert (text.encoding, text.errors, text.newlines) == (reference.encoding, reference.errors, reference.newlines)


def test_the_mode_is_binary_unless_said(cache: PageCache, path: Path) -> None:
    assert isinstance(cache.open(path), File)
    assert isinstance(cache.inode(Bytes(b""), size_bytes=0).open(), File)


@pytest.mark.parametrize("mode", WRITING_MODES)
def test_a_mode_that_writes_is_refused_where_the_store_only_reads_and_touches_nothing(
    mode: str, cache: PageCache, path: Path
) -> None:
    inode, store = inode_of(cache, CONTENT)
    for call in (lambda: inode.open(mode), lambda: cache.open((ReadOnlyStore(), "a"), mode)):
        with pytest.raises(OSError, match="read-only") as raised:
            call()
        assert raised.value.errno == errno.EROFS
    assert not store.requests
    assert cache.stats().open_files == 0


class ReadOnlyStore:
    """Whose objects cannot be opened for writing, nor at all."""

    key, name = "read-only", "a"

    def source(self, path: str) -> ReadOnlyStore:
        return self

    def open(self) -> NoReturn:
        raise AssertionError("nobody reads it")


@pytest.mark.parametrize("mode", BAD_MODES)
def test_a_mode_that_open_refuses_is_refused_as_open_does(mode: str, cache: PageCache, path: Path) -> None:
    expected = outcome_of(lambda: path.open(mode))
    assert expected == ("raised", ValueError, None)
    assert outcome_of(lambda: cache.open(path, mode)) == expected
    assert outcome_of(lambda: inode_of(cache, b"")[0].open(mode)) == expected


@pytest.mark.parametrize("mode", [None, 0, b"rb", ["r"]], ids=repr)
def test_a_mode_that_is_no_string_is_a_type_error(mode: Any, cache: PageCache, path: Path) -> None:
    with pytest.raises(TypeError, match="mode must be str"):
        cache.open(path, mode)


@pytest.mark.parametrize("argument", ["encoding", "errors", "newline"])
def test_a_binary_mode_takes_no_argument_for_text(argument: str, cache: PageCache, path: Path) -> None:
    with pytest.raises(ValueError, match=argument):
        path.open("rb", **{argument: ""})  # type: ignore[call-overload]
    with pytest.raises(ValueError, match=argument):
        cache.open(path, "rb", **{argument: ""})


@pytest.mark.parametrize(
    "arguments",
    [{"encoding": "no such codec"}, {"encoding": "hex"}, {"encoding": 7}, {"errors": 7}, {"newline": 7},
     {"newline": "\t"}, {"newline": "\n\r"}],
    ids=repr,
)  # fmt: skip
def test_text_arguments_that_open_refuses_are_refused_and_leave_no_open_file(
    arguments: dict[str, Any], cache: PageCache, path: Path
) -> None:
    arguments = {"encoding": "utf-8"} | arguments
    expected = outcome_of(lambda: path.open(**arguments))
    assert expected[0] == "raised"
    assert outcome_of(lambda: cache.open(path, "r", **arguments)) == expected
    assert cache.stats().open_files == 0


# -- sources and caches ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, Path, lambda path: str(path).encode(), lambda path: path.as_uri()])
def test_one_file_however_it_is_named_has_one_set_of_pages(kind: Any, cache: PageCache, path: Path) -> None:
    with binary(cache.open(path)) as first, binary(cache.open(kind(path))) as second:
        assert first.read() == second.read() == CONTENT
        assert cache.stats().inodes == 1
        assert cache.stats().misses == 1
        assert first.version == second.version


def test_a_relative_path_is_taken_from_where_it_was_opened(
    cache: PageCache, path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(path.parent)
    with binary(cache.open(path.name)) as file:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert file.read() == CONTENT
        assert file.name == path.name


def test_a_store_and_a_path(cache: PageCache) -> None:
    with binary(cache.open((MemoryStore({"a/b": CONTENT}), "a/b"))) as file:
        assert file.read() == CONTENT
        assert "a/b" in file.name


def test_pagein_open_uses_the_cache_of_the_process(default_cache: PageCache, path: Path) -> None:
    with binary(pagein.open(path)) as first, binary(pagein.open(str(path), "rb")) as second:
        assert first.read() == second.read() == CONTENT
        assert pagein.default_cache() is default_cache
        assert default_cache.stats().open_files == 2
        assert default_cache.stats().size_bytes == 1 << 20


def test_a_default_cache_that_was_closed_is_followed_by_another(default_cache: PageCache, path: Path) -> None:
    default_cache.close()
    with pagein.open(path) as file, pagein.default_cache() as another:
        assert another is pagein.default_cache() is not default_cache
        assert file.read() == CONTENT
    assert another.closed


@pytest.fixture
def closed_when_found(default_cache: PageCache, monkeypatch: pytest.MonkeyPatch) -> PageCache:
    """The default cache, which another thread closes as soon as it has been found."""

    def found_and_closed() -> PageCache:
        cache = default()
        if cache is default_cache:
            cache.close()
        return cache

    default = pagein.default_cache
    monkeypatch.setattr(pagein, "default_cache", found_and_closed)
    monkeypatch.setattr(pagein.aio, "default_cache", found_and_closed)
    return default_cache


def test_a_default_cache_that_is_closed_before_the_open_is_followed_by_another(
    closed_when_found: PageCache, path: Path
) -> None:
    with pagein.open(path) as file:
        assert file.read() == CONTENT
    with pagein.default_cache() as another:
        assert another is not closed_when_found


def test_so_it_is_for_asyncio(closed_when_found: PageCache, path: Path) -> None:
    async def main() -> bytes:
        async with await pagein.aio.open(path) as file:
            return await file.read()

    assert asyncio.run(main()) == CONTENT
    with pagein.default_cache() as another:
        assert another is not closed_when_found


def test_a_default_cache_that_is_being_closed_is_followed_by_another(default_cache: PageCache, path: Path) -> None:
    with default_cache._table.closing():
        assert not default_cache.closed
        with pagein.open(path) as file:
            assert file.read() == CONTENT
        with pagein.default_cache() as another:
            assert another is not default_cache


def test_but_not_while_it_has_what_its_store_has_not(default_cache: PageCache, path: Path) -> None:
    with binary(pagein.open(path, "r+b")) as file:
        file.write(b"FIRST")
        with default_cache._table.closing(), pytest.raises(ValueError, match="closed PageCache"):
            pagein.open(path)
        assert pagein.default_cache() is default_cache


@pytest.mark.usefixtures("closed_when_found")
def test_what_an_open_has_perhaps_created_is_not_created_again(path: Path) -> None:
    with pytest.raises(ValueError, match="closed PageCache"):
        pagein.open(path.with_name("new"), "xb")


def test_pagein_open_uses_the_cache_it_is_given(default_cache: PageCache, cache: PageCache, path: Path) -> None:
    with binary(pagein.open(path, cache=cache)) as file:
        assert file.read() == CONTENT
        assert (default_cache.stats().open_files, cache.stats().open_files) == (0, 1)


def test_pagein_open_passes_the_arguments_for_text_on(cache: PageCache, path: Path) -> None:
    with (
        pagein.open(path, "r", cache=cache, encoding="ascii", errors="replace", newline="") as text,
        open(path, encoding="ascii", errors="replace", newline="") as reference,
    ):
        assert text.readlines() == reference.readlines()


def test_an_open_file_is_what_it_was_and_the_next_open_sees_the_new_one(cache: PageCache, path: Path) -> None:
    old = binary(cache.open(path))
    assert old.read() == CONTENT
    replacement = path.with_name("replacement")
    replacement.write_bytes(b"of another length")
    replacement.rename(path)
    with old, binary(cache.open(path)) as new:
        assert new.read() == b"of another length"
        assert old.pread(100, 0) == CONTENT
        assert old.version != new.version


def test_an_empty_file(cache: PageCache, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with binary(cache.open(tmp_path / "empty")) as file:
        assert file.read() == file.read1() == file.readline() == file.peek() == file.pread(10, 0) == b""
        assert list(file) == file.readlines() == []
        assert file.resident() == []
        assert file.seek(0, 2) == 0
        assert bytes(file.view(10, 0)) == b""
    with cache.open(tmp_path / "empty", "r") as text:
        assert text.read() == ""
