"""One File in many threads: what they share, each byte of it, comes to exactly one of them."""

from __future__ import annotations

import io
import random
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.file.sources import DATA, binary, file_of, inode_of, run_in_threads

from pagein import File, PageCache

WORD = struct.Struct(">Q")
NUMBERED = b"".join(map(WORD.pack, range(30_000)))  # 59 pages, no 8 bytes of them alike
LINES = b"".join(b"%07d\n" % number for number in range(30_000))


def pieces_of(read: Callable[[random.Random], bytes], seed: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    while piece := read(rng):
        yield piece


def shared_read(file: File, data: bytes, read: Callable[[random.Random], bytes]) -> None:
    """Eight threads read *file* to its end; together they must have got *data*, each byte exactly once."""
    calls = [lambda seed=seed: list(pieces_of(read, seed)) for seed in range(8)]
    got: list[list[bytes]] = run_in_threads(calls)  # type: ignore[arg-type]
    for pieces in got:
        assert pieces == sorted(pieces)  # the numbers grow, so each thread got its pieces in the file's order
    assert b"".join(sorted(piece for pieces in got for piece in pieces)) == data
    assert file.tell() == len(data)


def random_size(rng: random.Random) -> int:
    return 8 * rng.randrange(1, 1500)


def readinto(file: File, size: int) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: file.readinto(buffer)])


SHARED_READS: dict[str, Callable[[File], Callable[[random.Random], bytes]]] = {
    "read": lambda file: lambda rng: file.read(random_size(rng)),
    "readinto": lambda file: lambda rng: readinto(file, random_size(rng)),
    "read and readinto": lambda file: (
        lambda rng: readinto(file, random_size(rng)) if rng.random() < 0.5 else file.read(random_size(rng))
    ),
}


@pytest.fixture
def many_switches() -> Iterator[None]:
    """Threads take turns thousands of times more often than by default."""
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before_s)


@pytest.mark.usefixtures("many_switches")
@pytest.mark.parametrize("how", SHARED_READS)
def test_eight_threads_that_share_a_file_get_each_byte_exactly_once(how: str, small_cache: PageCache) -> None:
    with file_of(small_cache, NUMBERED) as file:
        shared_read(file, NUMBERED, SHARED_READS[how](file))


@pytest.mark.usefixtures("many_switches")
@pytest.mark.parametrize("read", [lambda file: file.readline(), lambda file: next(file, b"")])
def test_eight_threads_that_share_a_file_get_each_line_exactly_once(
    read: Callable[[File], bytes], small_cache: PageCache
) -> None:
    with file_of(small_cache, LINES) as file:
        shared_read(file, LINES, lambda rng: read(file))


def test_a_seek_during_a_read_of_another_thread_is_not_lost(cache: PageCache) -> None:
    inode, store = inode_of(cache, DATA)
    file = binary(inode.open())
    store.inject("fill", kind="late", times=None)

    class Offset:
        """Lets the other thread's fetch go on once seek() has begun."""

        def __index__(self) -> int:
            store.heal()
            return 777

    def seek() -> None:
        store.wait_for_held()
        file.seek(Offset())  # type: ignore[arg-type]

    for _ in range(20):
        file.seek(0)
        cache.drop()
        store.inject("fill", kind="late", times=None)
        run_in_threads([lambda: file.read(100), seek])
        assert file.tell() == 777


def test_a_buffered_reader_over_a_file_closes_it(cache: PageCache, path: Path) -> None:
    file = binary(cache.open(path))
    with io.BufferedReader(file, 100) as buffered:
        assert buffered.read() == DATA
    assert file.closed
