"""The calls of an `AsyncFile` beside those of a `File`: the same results, the same positions, the same errors."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable
from typing import Any

import pytest
from tests.aio.sources import Place, in_time, open_file, page_at, result_at_once
from tests.file.sources import Outcome, binary, no_items, outcome_of

import pagein
from pagein import PageCache
from pagein.aio import AsyncFile
from pagein.stores import MemoryStore
from pagein.testing.stores import ScriptedOps, pattern
from pagein.units import PAGE_SIZE

SIZE = 8 * PAGE_SIZE + 123
CONTENT = pattern(0, SIZE)


@pytest.fixture
def debug() -> bool:
    return False


class Seven:
    """An integer, for everything that takes one; but no int."""

    def __index__(self) -> int:
        return 7


CALLS: dict[str, Callable[[Any], Any]] = {
    "pread": lambda file: file.pread(100, 5),
    "pread of pages": lambda file: file.pread(3 * PAGE_SIZE, 5),
    "pread of all": lambda file: file.pread(1 << 40, 0),
    "pread at the end": lambda file: file.pread(100, SIZE - 10),
    "pread beyond the end": lambda file: file.pread(100, SIZE),
    "pread(0)": lambda file: file.pread(0, 5),
    "pread(Seven)": lambda file: file.pread(Seven(), Seven()),
    "pread(True)": lambda file: file.pread(True, True),
    "pread(-1)": lambda file: file.pread(-1, 0),
    "pread at -1": lambda file: file.pread(1, -1),
    "pread(float)": lambda file: file.pread(1.0, 0),
    "pread at a float": lambda file: file.pread(1, 0.0),
    "pread(str)": lambda file: file.pread("1", 0),
    "pread(None)": lambda file: file.pread(None, 0),
    "pread(huge)": lambda file: file.pread(1, 1 << 200),
    "preadinto": lambda file: _filled(file, 100, 5),
    "preadinto at the end": lambda file: _filled(file, 100, SIZE - 10),
    "preadinto nothing": lambda file: _filled(file, 0, 5),
    "preadinto an array without items": lambda file: file.preadinto(no_items(), 5),
    "preadinto(bytes)": lambda file: file.preadinto(bytes(10), 0),
    "preadinto(str)": lambda file: file.preadinto("0123456789", 0),
    "preadinto(None)": lambda file: file.preadinto(None, 0),
    "preadinto at -1": lambda file: file.preadinto(bytearray(1), -1),
    "preadinto at a str": lambda file: file.preadinto(bytearray(1), "0"),
    "view": lambda file: _viewed(file, 100, 5),
    "view at the end": lambda file: _viewed(file, 100, SIZE - 10),
    "view beyond the end": lambda file: _viewed(file, 100, SIZE + 10),
    "view(0)": lambda file: _viewed(file, 0, 5),
    "view(-1)": lambda file: _viewed(file, -1, 0),
    "view at -1": lambda file: _viewed(file, 1, -1),
    "view(str)": lambda file: _viewed(file, "1", 0),
    "view(float)": lambda file: _viewed(file, 1.0, 0),
    "view of too much": lambda file: _viewed(file, 1 << 30, 0) if file.size_bytes > 1 << 30 else _viewed(file, 9, 9),
    "read()": lambda file: file.read(),
    "read(None)": lambda file: file.read(None),
    "read(-5)": lambda file: file.read(-5),
    "read(0)": lambda file: file.read(0),
    "read(100)": lambda file: file.read(100),
    "read(Seven)": lambda file: file.read(Seven()),
    "read(float)": lambda file: file.read(1.0),
    "read(str)": lambda file: file.read("1"),
    "readinto": lambda file: file.readinto(bytearray(100)),
    "readinto(bytes)": lambda file: file.readinto(bytes(100)),
    "readinto(None)": lambda file: file.readinto(None),
    "seek": lambda file: file.seek(50),
    "seek from here": lambda file: file.seek(-3, os.SEEK_CUR),
    "seek from the end": lambda file: file.seek(-3, os.SEEK_END),
    "seek beyond the end": lambda file: file.seek(1 << 40),
    "seek(Seven)": lambda file: file.seek(Seven()),
    "seek before the start": lambda file: file.seek(-1),
    "seek to before the start": lambda file: file.seek(-(1 << 20), os.SEEK_END),
    "seek(float)": lambda file: file.seek(1.0),
    "seek(None)": lambda file: file.seek(None),
    "seek(0, 9)": lambda file: file.seek(0, 9),
    "seek(0, str)": lambda file: file.seek(0, "1"),
    "tell": lambda file: file.tell(),
    "advise": lambda file: file.advise("random"),
    "advise(unknown)": lambda file: file.advise("never"),
    "advise at -1": lambda file: file.advise("willneed", -1),
    "resident": lambda file: file.resident(),
    "size_bytes": lambda file: file.size_bytes,
    "name": lambda file: file.name,
    "version": lambda file: file.version,
}


def _filled(file: Any, size: int, offset: int) -> Any:
    buffer = bytearray(size)
    count = file.preadinto(buffer, offset)
    if not inspect.isawaitable(count):
        return count, bytes(buffer)

    async def wait() -> tuple[int, bytes]:
        return await count, bytes(buffer)

    return wait()


def _viewed(file: Any, size: Any, offset: int) -> Any:
    view = file.view(size, offset)
    if isinstance(view, memoryview):
        with view:
            return bytes(view)

    async def wait() -> bytes:
        async with view as data:
            return bytes(data)

    return wait()


def outcome_in_loop(call: Callable[[AsyncFile], Any], file: AsyncFile) -> Any:
    """What a call returned, or how it failed, awaited if need be."""

    async def wait() -> Outcome:
        try:
            result = call(file)
            if inspect.isawaitable(result):
                result = await in_time(result)
        except Exception as error:
            return "raised", type(error), getattr(error, "errno", None)
        return "returned", result, None

    return wait()


@pytest.mark.parametrize("state", ["cold", "warm", "closed"])
@pytest.mark.parametrize("what", CALLS)
def test_a_call_ends_as_that_of_a_file(cache: PageCache, what: str, state: str) -> None:
    store = MemoryStore({"a": CONTENT, "b": CONTENT})
    call = CALLS[what]

    async def main() -> tuple[Outcome, list[int]]:
        async with await pagein.aio.open((store, "a"), cache=cache) as file:
            file.advise("random")
            file.seek(10)
            if state == "warm":
                await file.pread(SIZE, 0)
            if state == "closed":
                await file.close()
            outcome = await outcome_in_loop(call, file)
            return outcome, [] if file.closed else [file.tell()]

    with binary(cache.open((store, "b"))) as reference:
        reference.advise("random")
        reference.seek(10)
        if state == "warm":
            reference.pread(SIZE, 0)
        if state == "closed":
            reference.close()
        expected = outcome_of(lambda: call(reference)), [] if reference.closed else [reference.tell()]
        outcome = asyncio.run(main())
        if what in ("name", "version"):
            assert outcome[0][0] == expected[0][0]
        else:
            assert outcome == expected


@pytest.mark.parametrize("what", [what for what in CALLS if what[:4] in ("prea", "view")])
def test_what_makes_no_sense_says_so_in_the_same_words(cache: PageCache, what: str) -> None:
    store = MemoryStore({"a": CONTENT})

    async def said() -> str:
        async with await pagein.aio.open((store, "a"), cache=cache) as file:
            return await _words(CALLS[what], file)

    with binary(cache.open((store, "a"))) as reference:
        assert asyncio.run(said()) == asyncio.run(_words(CALLS[what], reference))


async def _words(call: Callable[[Any], Any], file: Any) -> str:
    try:
        result = call(file)
        if inspect.isawaitable(result):
            await in_time(result)
    except Exception as error:
        return str(error)
    return ""


SOURCES: dict[str, Any] = {
    "a file that is not there": "/nonexistent/file",
    "a directory": "/",
    "a number": 7,
    "nothing": None,
    "an object that is not there": (MemoryStore(), "a"),
    "an unknown scheme": "nowhere://a/b",
}


@pytest.mark.parametrize("what", SOURCES)
def test_what_cannot_be_opened_is_the_same_error(cache: PageCache, what: str) -> None:
    async def main() -> Outcome:
        try:
            return "returned", await in_time(pagein.aio.open(SOURCES[what], cache=cache)), None
        except Exception as error:
            return "raised", type(error), getattr(error, "errno", None)

    expected = outcome_of(lambda: cache.open(SOURCES[what]))
    assert expected[0] == "raised"
    assert asyncio.run(main()) == expected


def test_reads_go_on_from_the_position(cache: PageCache) -> None:
    async def main() -> None:
        async with await open_file(cache, ScriptedOps()) as file:
            buffer = bytearray(100)
            assert await file.read(10) == pattern(0, 10)
            assert await file.readinto(buffer) == 100
            assert buffer == pattern(10, 100)
            assert file.tell() == 110
            assert file.seek(-10, os.SEEK_CUR) == 100
            assert await file.read(PAGE_SIZE) == pattern(100, PAGE_SIZE)
            assert file.seek(-1, os.SEEK_END) == 8 * PAGE_SIZE - 1
            assert await file.read() == page_at(7)[-1:]
            assert await file.read() == await file.read(10) == b""
            assert await file.readinto(buffer) == 0
            file.seek(0)
            assert await file.read() == page_at(0, 8)

    asyncio.run(main())


def test_a_file_is_known_by_its_name_and_closed_by_its_block(cache: PageCache) -> None:
    async def main() -> None:
        place = Place(ScriptedOps(), SIZE)
        async with await pagein.aio.open((place, "path"), cache=cache) as file:
            assert (file.name, file.version, file.size_bytes, file.closed) == ("place", "1", SIZE, False)
            assert repr(file) == "<pagein.aio.AsyncFile name='place'>"
            assert cache.stats().open_files == 1
        assert repr(file) == "<pagein.aio.AsyncFile name='place' closed>"
        assert cache.stats().open_files == 0
        with pytest.raises(ValueError, match="closed file"):
            result_at_once(file.pread(1, 0))

    asyncio.run(main())
