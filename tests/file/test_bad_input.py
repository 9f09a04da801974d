"""Arguments that make no sense, and sources that are not there: each a clear error, and nothing has changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.file.sources import Bytes, binary, file_of, outcome_of
from tests.naming import without_address

import pagein
from pagein import PageCache
from pagein.stores import MemoryStore
from pagein.units import PAGE_SIZE

# -- calls that open()'s own files refuse, too ------------------------------------------------------------

BAD_CALLS: dict[str, Callable[[Any], object]] = {
    "read(float)": lambda file: file.read(1.0),
    "read(negative float)": lambda file: file.read(-1.0),
    "read(str)": lambda file: file.read("1"),
    "read1(float)": lambda file: file.read1(1.0),
    "read1(None)": lambda file: file.read1(None),
    "read1(str)": lambda file: file.read1("1"),
    "readline(float)": lambda file: file.readline(1.0),
    "readline(str)": lambda file: file.readline("1"),
    "readlines(float)": lambda file: file.readlines(1.0),
    "peek(str)": lambda file: file.peek("1"),
    "peek(None)": lambda file: file.peek(None),
    "readinto(bytes)": lambda file: file.readinto(bytes(10)),
    "readinto(str)": lambda file: file.readinto("0123456789"),
    "readinto(None)": lambda file: file.readinto(None),
    "readinto1(bytes)": lambda file: file.readinto1(bytes(10)),
    "readinto1(empty bytes)": lambda file: file.readinto1(b""),
    "readinto1(str)": lambda file: file.readinto1("0123456789"),
    "seek(float)": lambda file: file.seek(1.0),
    "seek(None)": lambda file: file.seek(None),
    "seek(str)": lambda file: file.seek("1"),
    "seek(0, str)": lambda file: file.seek(0, "1"),
    "seek(0, float)": lambda file: file.seek(0, 0.0),
    "seek(0, None)": lambda file: file.seek(0, None),
    "seek before the start": lambda file: file.seek(-1),
    "seek to before the start": lambda file: file.seek(-(1 << 20), 2),
    "write": lambda file: file.write(b"x"),
    "writelines": lambda file: file.writelines([b"x"]),
    "truncate": lambda file: file.truncate(),
    "truncate(0)": lambda file: file.truncate(0),
}


@pytest.mark.parametrize("what", BAD_CALLS)
def test_a_call_that_makes_no_sense_fails_as_with_open_and_moves_nothing(
    what: str, cache: PageCache, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 100)
    call = BAD_CALLS[what]
    with open(path, "rb") as reference, binary(cache.open(path)) as file:
        file.seek(7)
        reference.seek(7)
        expected = outcome_of(lambda: call(reference))
        assert expected[0] == "raised"
        assert outcome_of(lambda: call(file)) == expected
        assert file.tell() == 7
        assert file.read() == reference.read()


class Seven:
    """An integer, for everything that takes one; but no int, and it cannot be compared."""

    def __index__(self) -> int:
        return 7


@pytest.mark.parametrize("method", ["read", "read1", "readline", "seek"])
def test_whatever_has_index_is_an_integer(method: str, cache: PageCache, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789" * 10)
    with open(tmp_path / "file", "rb") as reference, file_of(cache, b"0123456789" * 10) as file:
        assert getattr(file, method)(Seven()) == getattr(reference, method)(Seven())
        assert file.tell() == reference.tell() == 7


# -- sizes and offsets of the calls that open()'s own files do not have -----------------------------------

NO_INTEGERS = [1.0, None, "1", b"1", [1], 1j]
POSITIONED: dict[str, Callable[[Any, Any, Any], object]] = {
    "pread": lambda file, size, offset: file.pread(size, offset),
    "view": lambda file, size, offset: file.view(size, offset),
}


@pytest.mark.parametrize("wrong", NO_INTEGERS, ids=repr)
@pytest.mark.parametrize("method", POSITIONED)
def test_a_size_or_an_offset_that_is_no_integer_is_a_type_error_that_names_it(
    method: str, wrong: Any, cache: PageCache
) -> None:
    kind = type(wrong).__name__
    with file_of(cache, b"0123456789") as file:
        for _ in range(2):  # once missing, once cached
            with pytest.raises(TypeError, match=f"size must be an integer, not {kind}"):
                POSITIONED[method](file, wrong, 0)
            with pytest.raises(TypeError, match=f"offset must be an integer, not {kind}"):
                POSITIONED[method](file, 1, wrong)
            file.pread(10, 0)


@pytest.mark.parametrize("method", POSITIONED)
def test_a_negative_size_or_offset_is_a_value_error_that_names_it(method: str, cache: PageCache) -> None:
    with file_of(cache, b"0123456789") as file:
        for _ in range(2):
            with pytest.raises(ValueError, match="size must be at least 0, not -1"):
                POSITIONED[method](file, -1, 0)
            with pytest.raises(ValueError, match="offset must be at least 0, not -5"):
                POSITIONED[method](file, 3, -5)
            with pytest.raises(ValueError, match="offset must be at least 0, not -5"):
                POSITIONED[method](file, 8, -5)  # which would end within the file
            file.pread(10, 0)


@pytest.mark.parametrize("wrong", NO_INTEGERS, ids=repr)
def test_preadinto_and_advise_check_their_numbers_too(wrong: Any, cache: PageCache) -> None:
    with file_of(cache, b"0123456789") as file:
        with pytest.raises(TypeError, match="offset must be an integer"):
            file.preadinto(bytearray(1), wrong)
        with pytest.raises(ValueError, match="offset must be at least 0"):
            file.preadinto(bytearray(1), -1)
        with pytest.raises(TypeError, match="offset must be an integer"):
            file.advise("willneed", wrong)
        with pytest.raises(ValueError, match="length must be at least 0"):
            file.advise("dontneed", 0, -1)


@pytest.mark.parametrize("wrong", NO_INTEGERS[:1] + NO_INTEGERS[2:], ids=repr)
def test_read_says_what_it_wants(wrong: Any, cache: PageCache) -> None:
    with file_of(cache, b"0123456789") as file:
        for read in (file.read, file.readline):
            with pytest.raises(TypeError, match="integer"):
                read(wrong)


def test_advice_that_nobody_knows_is_a_value_error_that_lists_what_is_known(cache: PageCache) -> None:
    said = "unknown advice 'noreuse': accepted are normal, sequential, random, willneed, dontneed"
    with file_of(cache, b"0123456789") as file, pytest.raises(ValueError, match=said):
        file.advise("noreuse")  # type: ignore[arg-type]


def test_a_buffer_that_cannot_be_filled_is_refused_before_anything_is_read(cache: PageCache) -> None:
    with file_of(cache, b"0123456789") as file:
        with pytest.raises(TypeError, match="read-only"):
            file.preadinto(b"0123", 0)
        with pytest.raises(TypeError, match="contiguous"):
            file.preadinto(memoryview(bytearray(10))[::2], 0)
        assert cache.stats().requests == cache.stats().misses == 0


# -- inodes of one's own ----------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", NO_INTEGERS, ids=repr)
def test_the_size_of_an_inode_is_an_integer(wrong: Any, cache: PageCache) -> None:
    said = f"size_bytes must be an integer, not {type(wrong).__name__}"
    with pytest.raises(TypeError, match=said):
        cache.inode(Bytes(b""), size_bytes=wrong)
    inode = cache.inode(Bytes(b"0123456789"), size_bytes=10)
    with pytest.raises(TypeError, match=said):
        inode.resize(wrong)
    assert inode.size_bytes == 10
    numeral: Any = Seven()
    assert cache.inode(Bytes(b"0123456789"), size_bytes=numeral).size_bytes == 7


@pytest.mark.parametrize(
    ("wrong", "said"), [(None, "not None"), (5, r"not 5 \(int\)"), (Bytes, "not the class Bytes: call it")]
)
def test_what_brings_no_pages_is_refused_when_the_inode_is_made(wrong: Any, said: str, cache: PageCache) -> None:
    with pytest.raises(TypeError, match=f"ops must be an instance of AddressSpaceOperations, {said}"):
        cache.inode(wrong, size_bytes=10)


@pytest.mark.parametrize(("wrong", "kind"), [(0, ValueError), (-1, ValueError), ("16", TypeError), (None, TypeError)])
def test_a_store_that_may_be_asked_for_nothing_is_refused_and_nobody_waits_for_it(
    wrong: Any, kind: type[Exception], cache: PageCache
) -> None:
    class AskedForNothing(Bytes):
        requests_max = wrong

    with pytest.raises(kind, match=r"AskedForNothing\.requests_max must be a number of requests, at least 1"):
        cache.inode(AskedForNothing(b"0123456789"), size_bytes=10)
    assert cache.stats().inodes == 0


def test_a_cache_that_is_none_is_refused(tmp_path: Path) -> None:
    wrong: Any = 5
    with pytest.raises(TypeError, match=r"cache must be a pagein.PageCache or None, not 5 \(int\)"):
        pagein.open(tmp_path, cache=wrong)


# -- sources ----------------------------------------------------------------------------------------------


def test_a_file_that_is_missing_a_directory_and_a_path_through_a_file(cache: PageCache, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"bytes")
    for path, kind in (
        (tmp_path / "absent", FileNotFoundError),
        (tmp_path, IsADirectoryError),
        (tmp_path / "file" / "below", NotADirectoryError),
    ):
        with pytest.raises(kind) as raised:
            cache.open(path)
        assert raised.value.filename == str(path)
        with pytest.raises(kind):  # and so says open()
            path.read_bytes()
    assert cache.stats().open_files == cache.stats().inodes == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(cache: PageCache, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"bytes")
    path.chmod(0)
    with pytest.raises(PermissionError) as raised:
        cache.open(path)
    assert raised.value.filename == str(path)


class Refusing:
    """A source of a store that lets nobody in."""

    key = "refusing"
    name = "vault:gold"

    def source(self, path: str) -> Refusing:
        return self

    def open(self) -> Any:
        raise pagein.errors.permission(self.name)


def test_a_store_that_refuses_is_a_permission_error_that_names_the_source(cache: PageCache) -> None:
    for _ in range(2):
        with pytest.raises(PermissionError, match="vault:gold"):
            cache.open((Refusing(), "gold"))
    assert cache.stats().open_files == cache.stats().inodes == 0


@pytest.mark.parametrize(
    "wrong", [None, 7, 1.5, [], {}, (), ("a", "b", "c"), (object(), "a"), (MemoryStore(), 7)], ids=without_address
)
def test_what_names_no_source_is_a_type_error_that_says_what_would(wrong: Any, cache: PageCache) -> None:
    with pytest.raises(TypeError, match="accepted are a path"):
        cache.open(wrong)


def test_an_option_that_no_store_takes_is_a_type_error(cache: PageCache, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"bytes")
    with pytest.raises(TypeError, match="colour"):
        cache.open(tmp_path / "file", colour="red")


# -- caches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "much", "4 XB", "-1", "1.5", "4 GiB or so", "0x10", "٣"])
def test_a_size_that_cannot_be_read_says_what_can(text: str) -> None:
    with pytest.raises(ValueError, match=r"^size must be"):
        PageCache(text)


@pytest.mark.parametrize("wrong", [1.5, b"64K", True, [], (64, "K")], ids=repr)
def test_a_size_that_is_neither_number_nor_words_is_a_type_error(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"^size must be"):
        PageCache(wrong)


@pytest.mark.parametrize("size", [0, 1, PAGE_SIZE - 1, "4095", "3.9K"])
def test_a_cap_of_less_than_one_page_is_refused(size: int | str) -> None:
    with pytest.raises(ValueError, match="at least one page"):
        PageCache(size)


def test_a_negative_cap_is_refused() -> None:
    with pytest.raises(ValueError, match="size must be from 0"):
        PageCache(-1)


def test_one_page_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(10 * PAGE_SIZE))
    with PageCache(PAGE_SIZE, debug=True) as cache, binary(cache.open(path)) as file:
        assert file.read() == path.read_bytes()
        assert cache.stats().resident_bytes <= PAGE_SIZE


@pytest.mark.parametrize("text", ["much", "-1", "1.5"])
def test_pagein_size_that_cannot_be_read_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGEIN_SIZE", text)
    with pytest.raises(ValueError, match=r"^PAGEIN_SIZE must be"):
        PageCache()


def test_pagein_size_below_one_page_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGEIN_SIZE", "100")
    with pytest.raises(ValueError, match="at least one page"):
        PageCache()


@pytest.mark.parametrize(("text", "size_bytes"), [("1 MiB", 1 << 20), ("65536", 65536), ("1.5K", None)])
def test_pagein_size_is_the_default_size(text: str, size_bytes: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGEIN_SIZE", text)
    if size_bytes is None:
        with pytest.raises(ValueError, match="at least one page"):
            PageCache()
        return
    with PageCache() as cache:
        assert cache.stats().size_bytes == size_bytes


def test_without_pagein_size_a_cache_is_a_quarter_of_the_memory_it_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for unset in (True, False):
        monkeypatch.delenv("PAGEIN_SIZE", raising=False)
        if not unset:
            monkeypatch.setenv("PAGEIN_SIZE", "")
        with PageCache() as cache:
            assert PAGE_SIZE <= cache.size_bytes <= memory_bytes // 4


@pytest.mark.parametrize("wrong", [-1, -4096])
def test_an_inode_of_a_negative_size_is_refused(wrong: int, cache: PageCache) -> None:
    with pytest.raises(ValueError, match="size_bytes must be at least 0"):
        cache.inode(MemoryStore({"a": b""}).source("a").open().ops, size_bytes=wrong)


def test_every_use_of_a_closed_cache_is_a_value_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    cache = PageCache("1 MiB", debug=True)
    file = binary(cache.open(path))
    inode = cache.inode(MemoryStore({"a": b""}).source("a").open().ops, size_bytes=0)
    cache.close()
    cache.close()
    uses: dict[str, Callable[[], object]] = {
        "open": lambda: cache.open(path),
        "inode": lambda: cache.inode(inode.mapping.ops, size_bytes=1),
        "inode.open": inode.open,
        "read": file.read,
        "pread": lambda: file.pread(1, 0),
        "view": lambda: file.view(1, 0),
    }
    for use in uses.values():
        with pytest.raises(ValueError, match="closed"):
            use()
    assert cache.stats().open_files == cache.stats().resident_bytes == 0
