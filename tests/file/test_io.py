"""A binary File reads as ``open(path, "rb")`` does: everything that the documentation of `io` promises."""

from __future__ import annotations

import array
import io
import mmap
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.file.sources import (
    SMALL_CACHE_BYTES,
    assert_nothing_left,
    binary,
    file_of,
    inode_of,
    lines_of_all_lengths,
    outcome_of,
)

from pagein import File, PageCache
from pagein.units import PAGE_SIZE

FILE_BYTES_MAX = 40 * PAGE_SIZE  # more than twice the small cache
BEYOND_ALL = 1 << 40

edges = st.sampled_from([0, 1, 2, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 8192, SMALL_CACHE_BYTES])
lengths = edges | st.integers(0, FILE_BYTES_MAX)
sizes = st.none() | st.just(-1) | lengths
offsets = st.integers(-FILE_BYTES_MAX, FILE_BYTES_MAX) | edges | st.sampled_from([BEYOND_ALL, -BEYOND_ALL])
BUFFERS: dict[str, Callable[[int], Any]] = {
    "bytearray": bytearray,
    "array of 4-byte items": lambda length: array.array("I", bytes(length - length % 4)),
    "mmap": lambda length: mmap.mmap(-1, max(length, 1)),
    "memoryview of items of 2 x 2 bytes": lambda length: (
        memoryview(bytearray(length // 4 * 4)).cast("H", (length // 4, 2)) if length >= 4 else bytearray(length)
    ),
}
file_sizes = st.integers(0, FILE_BYTES_MAX) | st.sampled_from([0, 1, PAGE_SIZE, SMALL_CACHE_BYTES, FILE_BYTES_MAX])


# -- any sequence of calls ---------------------------------------------------------------------------


class ReadsLikeOpen(RuleBasedStateMachine):
    """The same calls on a real file, on a File in a cache that must evict all the time, and on one in a large."""

    @initialize(size_bytes=file_sizes, seed=st.integers(0, 1000))
    def open_all(self, size_bytes: int, seed: int) -> None:
        self.data = lines_of_all_lengths(size_bytes, seed=seed)
        with tempfile.NamedTemporaryFile(delete=False) as made:
            made.write(self.data)
        self.path = Path(made.name)
        self.reference = open(self.path, "rb")  # noqa: SIM115  # closed by teardown
        self.caches = [PageCache(SMALL_CACHE_BYTES, debug=True), PageCache("16 MiB")]
        self.files = [binary(cache.open(self.path)) for cache in self.caches]

    def teardown(self) -> None:
        if hasattr(self, "files"):
            self.reference.close()
            for cache, file in zip(self.caches, self.files, strict=True):
                assert_nothing_left(cache)
                file.close()
                cache.close()
            self.path.unlink()

    def agree(self, call: Callable[[Any], object]) -> None:
        expected = outcome_of(lambda: call(self.reference))
        for file in self.files:
            assert outcome_of(lambda: call(file)) == expected  # noqa: B023  # called at once

    def agree_on_a_prefix(self, call: Callable[[Any], bytes], most: int, *, moves: bool) -> None:
        """Some of the next *most* bytes, at least one if there is one; how many is each one's own affair."""
        start = self.reference.tell()
        rest = self.data[start : start + most]
        shortest = most
        for file in (self.reference, *self.files):
            got = call(file)
            assert rest.startswith(got)
            assert got or not rest
            assert file.tell() == start + (len(got) if moves else 0)
            shortest = min(shortest, len(got))
        for file in (self.reference, *self.files):
            file.seek(start + (shortest if moves else 0))

    @rule(size=sizes)
    def read(self, size: int | None) -> None:
        self.agree(lambda file: file.read(size))

    @rule(size=st.integers(-3, -2))
    def read_with_another_negative_size_is_read_to_the_end(self, size: int) -> None:
        # As documented; open()'s own file accepts only -1.
        expected = self.reference.read()
        assert [file.read(size) for file in self.files] == [expected] * len(self.files)

    @rule(size=lengths | st.just(-1))
    def read1(self, size: int) -> None:
        most = size if size >= 0 else FILE_BYTES_MAX
        self.agree_on_a_prefix(lambda file: file.read1(size), most, moves=True)

    @rule(size=st.integers(-1, 20_000))
    def peek(self, size: int) -> None:
        self.agree_on_a_prefix(lambda file: file.peek(size), FILE_BYTES_MAX, moves=False)

    @rule(length=lengths, kind=st.sampled_from(sorted(BUFFERS)))
    def readinto(self, length: int, kind: str) -> None:
        def call(file: BinaryIO) -> tuple[int, bytes]:
            buffer = BUFFERS[kind](length)
            return file.readinto(buffer), bytes(buffer)  # type: ignore[attr-defined]

        self.agree(call)

    @rule(length=lengths)
    def readinto1(self, length: int) -> None:
        def call(file: Any) -> bytes:
            buffer = bytearray(b"\xaa" * length)
            count = file.readinto1(buffer)
            assert buffer[count:] == b"\xaa" * (length - count)  # the rest of the buffer is untouched
            return bytes(buffer[:count])

        self.agree_on_a_prefix(call, length, moves=True)

    @rule(size=sizes)
    def readline(self, size: int | None) -> None:
        self.agree(lambda file: file.readline(size))

    @rule(hint=st.none() | st.integers(-1, FILE_BYTES_MAX))
    def readlines(self, hint: int | None) -> None:
        self.agree(lambda file: file.readlines(hint))

    @rule(count=st.integers(1, 5))
    def iterate(self, count: int) -> None:
        for _ in range(count):
            self.agree(next)

    @rule(offset=offsets, whence=st.sampled_from([0, 1, 2]))
    def seek(self, offset: int, whence: int) -> None:
        self.agree(lambda file: file.seek(offset, whence))

    @rule(offset=st.integers(0, FILE_BYTES_MAX))
    def seek_into_the_file(self, offset: int) -> None:
        self.agree(lambda file: file.seek(offset % (len(self.data) + 1)))

    @rule(offset=offsets, whence=st.sampled_from([-1, 17]))
    def seek_from_nowhere(self, offset: int, whence: int) -> None:
        self.agree(lambda file: file.seek(offset, whence))

    @rule()
    def drop_what_is_cached(self) -> None:
        for cache in self.caches:
            cache.drop()

    @rule(advice=st.sampled_from(["normal", "sequential", "random", "dontneed"]))
    def advise(self, advice: Any) -> None:
        for file in self.files:
            file.advise(advice)

    @invariant()
    def positions_agree(self) -> None:
        if hasattr(self, "files"):
            self.agree(lambda file: file.tell())


TestReadsLikeOpen = ReadsLikeOpen.TestCase
TestReadsLikeOpen.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


# -- what kind of file it is -------------------------------------------------------------------------


def test_it_is_a_buffered_file_that_can_be_read_and_sought_but_not_written(cache: PageCache) -> None:
    with file_of(cache, b"bytes") as file:
        assert isinstance(file, io.BufferedIOBase)
        assert (file.readable(), file.seekable(), file.writable(), file.isatty()) == (True, True, False, False)
        assert (file.mode, file.name, file.size_bytes, file.closed) == ("rb", "scripted", 5, False)
        assert not file.flush()  # type: ignore[func-returns-value]  # there is nothing to do, and that is no error


@pytest.mark.parametrize("method", ["detach", "fileno", "truncate"])
def test_what_a_cached_file_cannot_do_is_an_unsupported_operation(method: str, cache: PageCache) -> None:
    with file_of(cache, b"bytes") as file, pytest.raises(io.UnsupportedOperation, match=method):
        getattr(file, method)()


def test_a_file_cannot_be_pickled_and_says_what_to_do(cache: PageCache) -> None:
    with file_of(cache, b"bytes") as file, pytest.raises(TypeError, match="open its source again"):
        pickle.dumps(file)


def test_nothing_is_read_where_nothing_is_asked_for(cache: PageCache) -> None:
    with file_of(cache, b"a line\n" * 1000) as file:
        for position in (0, 3, 4096):
            file.seek(position)
            assert file.read(0) == file.read1(0) == file.readline(0) == file.pread(0, position) == b""
            assert file.readinto(bytearray()) == file.readinto1(bytearray()) == file.preadinto(bytearray(), 5) == 0
            assert bytes(file.view(0, position)) == b""
            assert file.tell() == position
        assert cache.stats().requests == 0


# -- the end of a file -------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [PAGE_SIZE, 1 << 30, 1 << 44, 1 << 50, 1 << 62])
def test_beyond_the_end_there_is_nothing_however_far(position: int, cache: PageCache) -> None:
    with file_of(cache, b"a line\n" * 10) as file:
        assert file.seek(position) == position
        assert file.read() == file.read(10) == file.read1(10) == file.readline() == file.readline(10) == b""
        assert file.readinto(bytearray(10)) == file.readinto1(bytearray(10)) == 0
        assert file.peek(10) == b""
        assert next(file, None) is None
        assert file.pread(10, position) == b""
        assert file.preadinto(bytearray(10), position) == 0
        assert bytes(file.view(10, position)) == b""
        assert file.tell() == position


# -- at most one request -----------------------------------------------------------------------------


@pytest.mark.parametrize("call", [lambda file: file.read1(1 << 20), lambda file: file.readinto1(bytearray(1 << 20))])
def test_read1_and_readinto1_ask_the_store_at_most_once(call: Callable[[File], object], cache: PageCache) -> None:
    inode, store = inode_of(cache, bytes(64 * PAGE_SIZE))
    with binary(inode.open()) as file:
        file.advise("random")  # what is read ahead is not asked for by the call
        for page in (0, 5, 20):  # here already, so that one call could need many fetches
            file.pread(1, page * PAGE_SIZE)
        while file.tell() < file.size_bytes:
            before = len(store.requests)
            assert call(file)
            assert len(store.requests) <= before + 1
