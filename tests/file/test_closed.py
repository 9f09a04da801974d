"""Closing a File: what ends, what every later call says, and readers that are waiting at that moment."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from tests.file.sources import binary, file_of, inode_of, outcome_of, run_in_threads

from pagein import File, PageCache
from pagein.units import PAGE_SIZE

CALLS: dict[str, Callable[[File], object]] = {
    "read()": lambda file: file.read(),
    "read(0)": lambda file: file.read(0),
    "read(1)": lambda file: file.read(1),
    "read1": lambda file: file.read1(),
    "read1(0)": lambda file: file.read1(0),
    "readinto": lambda file: file.readinto(bytearray(1)),
    "readinto an empty buffer": lambda file: file.readinto(bytearray()),
    "readinto1": lambda file: file.readinto1(bytearray(1)),
    "readinto1 an empty buffer": lambda file: file.readinto1(bytearray()),
    "readline": lambda file: file.readline(),
    "readline(0)": lambda file: file.readline(0),
    "readline(1)": lambda file: file.readline(1),
    "readlines": lambda file: file.readlines(),
    "iter": iter,
    "next": next,
    "peek": lambda file: file.peek(),
    "seek": lambda file: file.seek(0),
    "tell": lambda file: file.tell(),
    "readable": lambda file: file.readable(),
    "seekable": lambda file: file.seekable(),
    "writable": lambda file: file.writable(),
    "isatty": lambda file: file.isatty(),
    "fileno": lambda file: file.fileno(),
    "flush": lambda file: file.flush(),
    "with": lambda file: file.__enter__(),
    "pread": lambda file: file.pread(1, 0),
    "pread(0)": lambda file: file.pread(0, 0),
    "pread of many pages": lambda file: file.pread(3 * PAGE_SIZE, 0),
    "preadinto": lambda file: file.preadinto(bytearray(1), 0),
    "preadinto an empty buffer": lambda file: file.preadinto(bytearray(), 0),
    "view": lambda file: file.view(1, 0),
    "view(0)": lambda file: file.view(0, 0),
    "view beyond the end": lambda file: file.view(1, 1 << 40),
    "advise": lambda file: file.advise("random"),
    "resident": lambda file: file.resident(),
}


@pytest.mark.parametrize("cached", [True, False], ids=["cached", "not cached"])
@pytest.mark.parametrize("what", CALLS)
def test_every_call_on_a_closed_file_is_a_value_error(what: str, cached: bool, cache: PageCache) -> None:
    file = file_of(cache, b"a line\n" * 2000)
    if cached:
        file.read()
    file.close()
    with pytest.raises(ValueError, match="closed file"):
        CALLS[what](file)
    assert file.closed


@pytest.mark.parametrize("what", ["write", "writelines", "truncate", "detach"])
def test_what_writes_fails_on_a_closed_file_too(what: str, cache: PageCache) -> None:
    file = file_of(cache, b"bytes")
    file.close()
    arguments: dict[str, list[Any]] = {"write": [b"x"], "writelines": [[b"x"]]}
    with pytest.raises((ValueError, io.UnsupportedOperation), match=r"closed file|write|truncate|detach"):
        getattr(file, what)(*arguments.get(what, []))


def test_with_closes_and_closing_twice_does_no_harm(cache: PageCache) -> None:
    with file_of(cache, b"bytes") as file:
        assert not file.closed
    assert file.closed
    file.close()
    assert cache.stats().open_files == 0


def test_closing_a_file_under_a_reader_that_waits_gives_it_a_value_error_not_bytes(cache: PageCache) -> None:
    inode, store = inode_of(cache, b"x" * 100)
    file = binary(inode.open())
    store.inject("fill", kind="late", times=None)

    def close() -> None:
        store.wait_for_held()
        file.close()
        store.heal()

    read, _ = run_in_threads([lambda: outcome_of(file.read), close])
    assert read == ("raised", ValueError, None)
