"""A file that is written to behaves as ``open(path, mode)`` does, in each binary mode, call by call."""

from __future__ import annotations

import errno
import io
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.file.sources import (
    SMALL_CACHE_BYTES,
    assert_nothing_left,
    binary,
    inode_of,
    no_items,
    outcome_of,
    run_in_threads,
)
from tests.file.writable import Disk

from pagein import File, PageCache
from pagein.mm.zone import Zone
from pagein.stores import MemoryStore
from pagein.units import PAGE_SIZE

MODES = ["r+b", "rb+", "+rb", "wb", "bw", "w+b", "wb+", "ab", "a+b", "xb", "x+b"]
EXISTING_MODES = [mode for mode in MODES if "x" not in mode]
SIZE_MAX = 20 * PAGE_SIZE

datas = st.builds(lambda size, seed: random.Random(seed).randbytes(size), st.integers(0, 3 * PAGE_SIZE), st.integers())
offsets = st.integers(0, SIZE_MAX) | st.sampled_from([0, 1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1])


class WritesLikeOpen(RuleBasedStateMachine):
    """The same calls on a real file, and on one in a cache of 16 pages, three of which may be dirty."""

    @initialize(mode=st.sampled_from(EXISTING_MODES), data=datas)
    def open_both(self, mode: str, data: bytes) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.paths = [Path(self.directory.name) / name for name in ("real", "cached")]
        for path in self.paths:
            path.write_bytes(data)
        self.cache = PageCache(SMALL_CACHE_BYTES, debug=True)
        self._open(mode)

    def _open(self, mode: str) -> None:
        self.reference: Any = open(self.paths[0], mode)  # noqa: SIM115  # closed by teardown
        self.file = binary(self.cache.open(self.paths[1], mode))

    def teardown(self) -> None:
        if hasattr(self, "file"):
            self.reference.close()
            self.file.close()
            assert self.paths[1].read_bytes() == self.paths[0].read_bytes()
            self.cache.close()
            self.directory.cleanup()

    def agree(self, call: Callable[[Any], object]) -> None:
        expected = outcome_of(lambda: call(self.reference))
        assert outcome_of(lambda: call(self.file)) == expected

    @rule(data=datas)
    def write(self, data: bytes) -> None:
        self.agree(lambda file: file.write(data))

    @rule(data=datas, kind=st.sampled_from([bytearray, memoryview]))
    def write_another_buffer(self, data: bytes, kind: Any) -> None:
        self.agree(lambda file: file.write(kind(data)))

    @rule(lines=st.lists(st.binary(max_size=100), max_size=5))
    def writelines(self, lines: list[bytes]) -> None:
        self.agree(lambda file: file.writelines(lines))

    @rule(offset=offsets)
    def seek(self, offset: int) -> None:
        self.agree(lambda file: file.seek(offset))

    @rule(offset=st.integers(-100, 100), whence=st.sampled_from([1, 2]))
    def seek_from_elsewhere(self, offset: int, whence: int) -> None:
        self.agree(lambda file: file.seek(offset, whence))

    @rule(size=st.none() | offsets)
    def truncate(self, size: int | None) -> None:
        self.agree(lambda file: file.truncate(size))

    @rule(size=st.integers(-3, -1))
    def truncate_to_less_than_nothing(self, size: int) -> None:
        self.agree(lambda file: file.truncate(size))

    @rule(size=st.none() | st.integers(-1, SIZE_MAX))
    def read(self, size: int | None) -> None:
        if size is None and not self.reference.readable():
            size = -1  # from Python 3.13 on, a file that only writes says first that None is no number
        self.agree(lambda file: file.read(size))

    @rule(size=st.just(-1) | st.integers(1, 100))  # of 0, a file that only writes says that it is readable
    def readline(self, size: int) -> None:
        self.agree(lambda file: file.readline(size))

    @rule()
    def flush(self) -> None:
        self.agree(lambda file: file.flush())

    @rule()
    def drop_what_is_clean(self) -> None:
        self.cache.drop()

    @rule()
    def fsync(self) -> None:
        self.file.fsync()
        self.reference.flush()
        assert self.paths[1].read_bytes() == self.paths[0].read_bytes()

    @rule(mode=st.sampled_from(EXISTING_MODES))
    def close_and_open(self, mode: str) -> None:
        self.reference.close()
        self.file.close()
        assert self.paths[1].read_bytes() == self.paths[0].read_bytes()
        self._open(mode)

    @invariant()
    def the_positions_are_the_same(self) -> None:
        if hasattr(self, "file"):
            self.reference.flush()  # else, in a mode that appends, it does not know its own
            assert self.file.tell() == self.reference.tell()


TestWritesLikeOpen = WritesLikeOpen.TestCase
TestWritesLikeOpen.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


# -- modes -------------------------------------------------------------------------------------------

CALLS: dict[str, Callable[[Any], object]] = {
    "read": lambda file: file.read(),
    "read some": lambda file: file.read(3),
    "read1": lambda file: file.read1(3),
    "readinto": lambda file: file.readinto(bytearray(3)),
    "readinto1": lambda file: file.readinto1(bytearray(3)),
    "readinto an array without items": lambda file: file.readinto(no_items()),
    "readinto1 an array without items": lambda file: file.readinto1(no_items()),
    "readline": lambda file: file.readline(),
    "readlines": lambda file: file.readlines(),
    "next": lambda file: next(file, b""),
    "write": lambda file: file.write(b"xyz"),
    "write nothing": lambda file: file.write(b""),
    "write an array without items": lambda file: file.write(no_items()),
    "write text": lambda file: file.write("xyz"),
    "write a number": lambda file: file.write(7),
    "writelines": lambda file: file.writelines([b"x", b"y"]),
    "truncate": lambda file: file.truncate(2),
    "truncate to a fraction": lambda file: file.truncate(1.5),
    "flush": lambda file: file.flush(),
    "readable": lambda file: file.readable(),
    "writable": lambda file: file.writable(),
    "seekable": lambda file: file.seekable(),
    "mode": lambda file: file.mode,
    "tell": lambda file: file.tell(),
    "isatty": lambda file: file.isatty(),
}


@pytest.mark.parametrize("mode", ["rb", *MODES])
@pytest.mark.parametrize("what", CALLS)
def test_a_file_can_do_what_open_s_own_can_in_this_mode(mode: str, what: str, cache: PageCache, tmp_path: Path) -> None:
    real, cached = tmp_path / "real", tmp_path / "cached"
    if "x" not in mode:
        real.write_bytes(b"a line\nand more")
        cached.write_bytes(b"a line\nand more")
    with open(real, mode) as reference, binary(cache.open(cached, mode)) as file:
        expected = outcome_of(lambda: CALLS[what](reference))
        assert outcome_of(lambda: CALLS[what](file)) == expected
        assert file.tell() == reference.tell()
    assert cached.read_bytes() == real.read_bytes()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("there", ["absent", "file", "directory", "in a directory that is absent"])
def test_open_succeeds_and_fails_as_open_does(mode: str, there: str, cache: PageCache, tmp_path: Path) -> None:
    outcomes = []
    for name in ("real", "cached"):
        path = tmp_path / name
        if there == "file":
            path.write_bytes(b"content")
        elif there == "directory":
            path.mkdir()
        elif there != "absent":
            path /= "absent"
        opened: Callable[..., Any] = open if name == "real" else cache.open
        kind, error, number = outcome_of(lambda opened=opened, path=path: opened(path, mode).close())  # type: ignore[misc]
        outcomes.append((kind, error, number, path.read_bytes() if path.is_file() else None))
    assert outcomes[0] == outcomes[1]
    assert cache.stats().open_files == 0


@pytest.mark.parametrize("kind", ["memory", "whole", "in place"])
@pytest.mark.parametrize("mode", MODES)
def test_a_mode_does_the_same_to_an_object_of_a_store(mode: str, kind: str, cache: PageCache, tmp_path: Path) -> None:
    for there in (False, True):
        path, objects = tmp_path / f"{there}", {"a": b"content"} if there else {}
        store: Any = MemoryStore(objects) if kind == "memory" else Disk(objects, whole=kind == "whole")
        if there:
            path.write_bytes(b"content")

        def use(file: Any) -> int:
            with file:
                return int(file.write(b"new") + file.tell())

        expected = outcome_of(lambda path=path: use(path.open(mode)))  # type: ignore[misc]
        assert outcome_of(lambda store=store: use(cache.open((store, "a"), mode))) == expected  # type: ignore[misc]
        if path.exists():
            with PageCache("1 MiB") as another, binary(another.open((store, "a"))) as file:
                assert file.read() == path.read_bytes()


def test_a_file_that_only_writes_gives_nothing_to_read_at_an_offset_either(cache: PageCache, path: Path) -> None:
    with binary(cache.open(path, "ab")) as file:
        for call in (
            lambda: file.pread(1, 0), lambda: file.preadinto(bytearray(1), 0), lambda: file.view(1, 0), file.peek
        ):  # fmt: skip
            with pytest.raises(io.UnsupportedOperation, match="for writing only"):
                call()


def test_a_file_that_only_reads_takes_nothing_at_an_offset_either(cache: PageCache, path: Path) -> None:
    with binary(cache.open(path)) as file:
        for call in (lambda: file.pwrite(b"x", 0), lambda: file.pwrite(b"x" * 9000, 7), lambda: file.punch_hole(0, 1)):
            with pytest.raises(io.UnsupportedOperation, match="for reading only"):
                call()
        for name, change in {"fsync": file.fsync, "punch_hole": lambda: file.punch_hole(0, 1)}.items():
            with pytest.raises(io.UnsupportedOperation, match=f"{name}: the file is open for reading only"):
                change()
        assert file.discard() == 0


# -- appending ---------------------------------------------------------------------------------------


def test_every_append_goes_to_the_end_as_it_is_then_whole_whoever_else_appends(small_cache: PageCache) -> None:
    disk, record_count = Disk({"log": b""}), 300
    files = [binary(small_cache.open((disk, "log"), mode)) for mode in ("ab", "ab", "a+b")]
    own = small_cache.open((disk, "log"), "r+b")

    def append(file: File, letter: bytes) -> None:
        for number in range(record_count):
            file.seek(0)  # which does not matter
            line = letter * (1 + number % 50) + b"\n"
            assert file.write(line) == len(line)

    run_in_threads([lambda at=at: append(files[at % 3], bytes([97 + at])) for at in range(6)])  # type: ignore[misc]
    for file in [*files, own]:
        file.close()
    lines = disk.objects["log"].split(b"\n")
    assert lines.pop() == b""
    expected = sorted(bytes([97 + at]) * (1 + number % 50) for at in range(6) for number in range(record_count))
    assert sorted(lines) == expected


def test_an_append_goes_behind_what_another_file_has_written(cache: PageCache) -> None:
    disk = Disk({"a": b"12"})
    with binary(cache.open((disk, "a"), "ab")) as appending, binary(cache.open((disk, "a"), "r+b")) as writing:
        assert appending.tell() == 2
        writing.pwrite(b"3456", 2)
        assert (appending.write(b"7"), appending.tell()) == (1, 7)
        writing.truncate(1)
        assert (appending.write(b"8"), appending.tell()) == (1, 2)
    assert disk.objects["a"] == b"18"


@pytest.mark.parametrize("size_bytes", [7, 3 * PAGE_SIZE])
def test_after_an_append_the_position_is_behind_it_whoever_has_appended_meanwhile(
    cache: PageCache, monkeypatch: pytest.MonkeyPatch, size_bytes: int
) -> None:
    disk, change = Disk({"a": b"12"}), Zone.change
    with binary(cache.open((disk, "a"), "ab")) as file, binary(cache.open((disk, "a"), "ab")) as other:

        def then_another(*arguments: Any) -> Any:
            done = change(*arguments)
            patch.undo()
            other.write(b"another's")
            return done

        with monkeypatch.context() as patch:
            patch.setattr(Zone, "change", then_another)
            file.write(b"x" * size_bytes)
        assert (file.tell(), other.tell()) == (2 + size_bytes, 2 + size_bytes + 9)


# -- how far a file may grow -------------------------------------------------------------------------


def test_a_small_file_may_grow_far_and_a_gap_costs_nothing(cache: PageCache, tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with binary(cache.open(path, "wb")) as file:
        file.seek(40 << 30)
        file.write(b"the end")
        assert file.size_bytes == (40 << 30) + 7
        assert cache.stats().resident_bytes < 1 << 20
    assert path.stat().st_size == (40 << 30) + 7
    assert path.stat().st_blocks < 2048


def test_beyond_its_room_a_write_is_refused_and_nothing_is_written(cache: PageCache, tmp_path: Path) -> None:
    with binary(cache.open(tmp_path / "new", "wb")) as file:
        for call in (lambda: file.pwrite(b"x", 1 << 50), lambda: file.truncate(1 << 50)):
            with pytest.raises(OSError, match="can grow to") as raised:
                call()
            assert raised.value.errno == errno.EFBIG
            assert "opened anew, to 4 times its size" in str(raised.value)
        assert file.size_bytes == 0


@pytest.mark.parametrize("direct", [False, True])
def test_nothing_can_be_written_anywhere_as_posix_has_it(cache: PageCache, tmp_path: Path, direct: bool) -> None:
    with binary(cache.open(tmp_path / "new", "wb")) as file:
        assert file.pwrite(b"", 1 << 50, direct=direct) == 0
        assert file.pwrite(no_items(), 5, direct=direct) == 0
        assert file.size_bytes == 0


def test_a_users_own_operations_are_written_to_if_they_say_so(cache: PageCache) -> None:
    disk = Disk({"a": b"content"})
    opened = disk.source("a").open_for_writing(create=False, exclusive=False, truncate=False)
    inode = cache.inode(opened.ops, size_bytes=opened.size_bytes, key="mine")
    with binary(inode.open("r+b")) as file:
        file.write(b"C")
        assert cache.inode(opened.ops, size_bytes=7, key="mine") is inode
        file.truncate(3)
        assert cache.inode(opened.ops, size_bytes=7, key="mine") is inode, "it is being written, and has its own size"
    assert disk.objects["a"] == b"Con"
    with binary(inode.open("w+b")) as file:
        assert file.read() == b""
        file.write(b"new")
    assert disk.objects["a"] == b"new"
    with pytest.raises(FileExistsError):
        inode.open("xb")
    with pytest.raises(OSError, match="read-only") as raised:
        inode_of(cache, b"x")[0].open("r+b")
    assert raised.value.errno == errno.EROFS


def test_nothing_is_left_behind_by_failed_writes(cache: PageCache) -> None:
    disk = Disk()
    with binary(cache.open((disk, "a"), "wb")) as file:
        for bad in ("text", 7, None):
            with pytest.raises(TypeError):
                file.write(bad)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="offset"):
            file.pwrite(b"x", -1)
        with pytest.raises(TypeError):
            file.writelines([b"x", 7])  # type: ignore[list-item]
        assert file.tell() == 1
    assert_nothing_left(cache)
    assert disk.objects["a"] == b"x"
