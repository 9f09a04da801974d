"""What is stored waits in a temporary file, reads as it was stored, and is committed whole or not at all."""

from __future__ import annotations

import errno
import os
import random
import tempfile
import threading
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from tests.stores.reading import DATA, MIB, OTHER, fill, opened, raises_errno
from tests.stores.writing import content, run_script, small_disk, store, writing

from pagein.stores import MemoryStore, Opened, RangeOperations
from pagein.stores.intervals import Intervals
from pagein.stores.layer import Whole
from pagein.stores.staged import StagedOperations, staged

BLOCK = 4096
WAIT_S = 30.0


class Target:
    """Keeps what is committed; *before* runs during each upload, and may fail it."""

    name = "target"
    device_key: Hashable = "target"
    device_name = "target"
    object_bytes_max: int | None = None

    def __init__(self, base: Base | None = None) -> None:
        self.uploads: list[bytes] = []
        self.base = base
        self.before: Callable[[], None] = lambda: None

    @property
    def version(self) -> str:
        return f"upload {len(self.uploads)}"

    def opened(self) -> Opened | None:
        base = Base(self.uploads[-1]) if self.uploads else self.base
        return Opened(base, len(base.data), self.version) if base else None

    def replace(self, whole: Whole) -> None:
        with whole.mapped() as data:
            half = len(memoryview(data)) // 2
            first = bytes(memoryview(data)[:half])
            self.before()
            self.uploads.append(first + bytes(memoryview(data)[half:]))


class Base(RangeOperations):
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.fetches = 0
        self.before: Callable[[], None] = lambda: None

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        self.fetches += 1
        self.before()
        assert offset_bytes + len(buffer) <= len(self.data)
        buffer[:] = self.data[offset_bytes : offset_bytes + len(buffer)]


@pytest.fixture
def base() -> Base:
    return Base(DATA)


@pytest.fixture
def target(base: Base) -> Target:
    return Target(base)


@pytest.fixture
def version(target: Target) -> Iterator[Opened]:
    made = staged(target, truncate=False)
    yield made
    made.close()


def ops_of(version: Opened) -> StagedOperations:
    assert isinstance(version.ops, StagedOperations)
    return version.ops


# -- intervals ---------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from(["add", "cut"]), st.integers(0, 40), st.integers(0, 40))))
def test_intervals_are_a_set(steps: list[tuple[str, int, int]]) -> None:
    intervals, model = Intervals(), set[int]()
    for what, one, other in steps:
        start, stop = sorted((one, other))
        if what == "add":
            intervals.add(start, stop)
            model |= set(range(start, stop))
        else:
            intervals.cut(one)
            model = {number for number in model if number < one}
        assert {number for start, stop in intervals for number in range(start, stop)} == model
        pieces = list(intervals.split(start, stop))
        assert [at for begin, end, _ in pieces for at in range(begin, end)] == list(range(start, stop))
        assert {at for begin, end, is_in in pieces if is_in for at in range(begin, end)} == model & set(
            range(start, stop)
        )
        bounds = [bound for piece in intervals for bound in piece]
        assert bounds == sorted(set(bounds))  # disjoint, not empty, not adjacent


# -- one thread --------------------------------------------------------------------------------------


def test_what_was_stored_reads_back_over_what_was_there_and_nobody_sees_it_before_fsync(
    version: Opened, target: Target
) -> None:
    store(version, b"new", 5)
    expected = bytearray(DATA)
    expected[5:8] = b"new"
    assert content(version, len(DATA)) == expected
    assert target.uploads == []
    ops_of(version).fsync()
    assert target.uploads == [expected]
    assert version.ops.version == "upload 1"  # type: ignore[attr-defined]


def test_a_fill_with_stored_pieces_in_it_is_one_request_of_the_base(version: Opened, base: Base) -> None:
    for offset_bytes in range(0, 100, 10):
        store(version, b"x", offset_bytes)
    assert content(version, 99) == b"".join(b"x" + DATA[at + 1 : at + 10] for at in range(0, 100, 10))[:99]
    assert base.fetches == 1
    assert content(version, 1) == b"x"
    assert base.fetches == 1


class Short(Base):
    def fill(self, buffer: memoryview, offset_bytes: int) -> int:  # type: ignore[override]
        super().fill(buffer, offset_bytes)
        return len(buffer) - 1


def test_what_the_base_has_left_out_is_neither_read_nor_uploaded() -> None:
    target = Target(Short(DATA))
    version = staged(target, truncate=False)
    store(version, b"new", 0)
    with raises_errno(errno.EIO, "got 99 of the 100 bytes at offset 1000"):
        fill(version, 100, 1000)
    with raises_errno(errno.EIO, "got "):
        ops_of(version).fsync()
    assert not target.uploads
    version.close()


def test_an_fsync_without_a_change_uploads_nothing(version: Opened, target: Target) -> None:
    ops = ops_of(version)
    ops.fsync()
    ops.set_size(len(DATA))
    ops.fsync()
    assert target.uploads == []
    store(version, b"x", 0)
    ops.fsync()
    ops.fsync()
    assert len(target.uploads) == 1


def test_what_the_first_commit_has_fetched_is_not_fetched_again(version: Opened, target: Target, base: Base) -> None:
    store(version, b"x", 0)
    ops_of(version).fsync()
    fetches = base.fetches
    store(version, b"y", 1)
    ops_of(version).fsync()
    assert fill(version, MIB, 100) == DATA[100 : 100 + MIB]
    assert target.uploads[1] == b"xy" + DATA[2:]
    assert base.fetches == fetches


@pytest.mark.parametrize("size_bytes", [0, 1, BLOCK, 3 * BLOCK + 1])
def test_what_was_cut_off_comes_back_as_zeros(version: Opened, target: Target, size_bytes: int) -> None:
    ops = ops_of(version)
    store(version, b"n" * BLOCK, BLOCK)
    ops.set_size(size_bytes)
    ops.set_size(10 * BLOCK)
    before = DATA[:BLOCK] + b"n" * BLOCK + DATA[2 * BLOCK : 10 * BLOCK]
    expected = before[:size_bytes] + bytes(10 * BLOCK - size_bytes)
    assert content(version, 10 * BLOCK) == expected
    ops.fsync()
    assert target.uploads == [expected]
    assert content(version, 10 * BLOCK) == expected


def test_a_hole_is_zeros_and_does_not_change_the_size(version: Opened, target: Target) -> None:
    ops = ops_of(version)
    store(version, b"n" * BLOCK, 0)
    ops.punch_hole(100, 2 * BLOCK)
    ops.punch_hole(len(DATA) - 1, 100)
    expected = b"n" * 100 + bytes(2 * BLOCK) + DATA[100 + 2 * BLOCK : -1] + b"\0"
    assert content(version, len(DATA)) == expected
    ops.fsync()
    assert target.uploads == [expected]


@pytest.mark.parametrize("base_data", [None, DATA])
def test_a_new_file_is_there_after_fsync_though_nothing_was_stored(base_data: bytes | None) -> None:
    target = Target(None if base_data is None else Base(base_data))
    version = staged(target, truncate=True)
    assert version.size_bytes == 0
    ops_of(version).fsync()
    assert target.uploads == [b""]
    version.close()


def test_a_file_beyond_what_the_store_takes_is_refused_when_it_is_stored() -> None:
    target = Target()
    target.object_bytes_max = 1000
    version = staged(target, truncate=False)
    store(version, b"x" * 10, 990)
    with raises_errno(errno.EFBIG):
        store(version, b"x" * 10, 991)
    with raises_errno(errno.EFBIG):
        ops_of(version).set_size(1001)
    ops_of(version).fsync()
    assert target.uploads == [bytes(990) + b"x" * 10]
    version.close()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["store", "store", "store", "size", "punch", "fill", "fsync", "failing", "discard"]),
        st.integers(0, 3000),
        st.integers(1, 900),
    ),
    max_size=30,
)


@settings(max_examples=300)
@given(STEPS, st.integers(0, 2000))
def test_any_order_of_operations_gives_the_bytes_of_a_file(steps: list[tuple[str, int, int]], base_bytes: int) -> None:
    model = bytearray(DATA[:base_bytes])
    target = Target(Base(bytes(model)))
    version = staged(target, truncate=False)
    ops = ops_of(version)
    committed = bytes(model)
    for number, (what, offset, size) in enumerate(steps):
        match what:
            case "store":
                data = bytes([number + 1]) * size
                store(version, data, offset)
                model.extend(bytes(max(0, offset + size - len(model))))
                model[offset : offset + size] = data
            case "size":
                ops.set_size(offset)
                model.extend(bytes(max(0, offset - len(model))))
                del model[offset:]
            case "punch":
                ops.punch_hole(offset, size)
                stop = min(offset + size, len(model))
                model[offset:stop] = bytes(max(0, stop - offset))
            case "fill":
                part = model[offset : offset + size]
                assert fill(version, len(part), offset) == part
            case "failing":
                target.before = fail
                if bytes(model) != committed:
                    with raises_errno(errno.EACCES):
                        ops.fsync()
                target.before = lambda: None
            case "discard":
                owed = ops.uncommitted_bytes
                assert ops.discard() == (None if owed is None else len(committed))
                model[:] = committed
                assert ops.uncommitted_bytes is None
            case "fsync":
                ops.fsync()
                committed = target.uploads[-1] if target.uploads else committed
                assert committed == model
        assert content(version, len(model)) == model
    version.close()


def fail() -> None:
    raise OSError(errno.EACCES, "refused", "target")


def test_how_many_bytes_wait_for_a_commit_is_told(version: Opened, target: Target) -> None:
    ops = ops_of(version)
    assert ops.commits
    assert ops.uncommitted_bytes is None
    ops.set_size(1000)
    assert ops.uncommitted_bytes == 0
    store(version, b"x" * 100, 0)
    store(version, b"x" * 100, 50)
    assert ops.uncommitted_bytes == 150
    ops.set_size(120)
    assert ops.uncommitted_bytes == 120

    def meanwhile() -> None:
        store(version, b"y" * 10, 0)
        assert ops.uncommitted_bytes == 120
        fail()

    target.before = meanwhile
    with raises_errno(errno.EACCES):
        ops.fsync()
    assert ops.uncommitted_bytes == 120
    target.before = lambda: store(version, b"z" * 7, 100)
    ops.fsync()
    assert ops.uncommitted_bytes == 7
    assert ops.discard() == 120
    assert content(version, 120) == b"y" * 10 + b"x" * 110
    target.before = lambda: None
    ops.fsync()
    assert len(target.uploads) == 1


def test_a_new_file_that_is_given_up_is_not_made(target: Target) -> None:
    target.base = None
    version = staged(target, truncate=False)
    store(version, b"x", 0)
    assert ops_of(version).discard() == 0
    ops_of(version).fsync()
    assert target.uploads == []
    version.close()


# -- a commit that fails, or takes its time ----------------------------------------------------------


def test_after_a_commit_that_failed_all_is_there_and_the_next_one_takes_it(version: Opened, target: Target) -> None:
    ops = ops_of(version)
    store(version, b"one", 0)
    target.before = fail
    for _ in range(3):
        with raises_errno(errno.EACCES):
            ops.fsync()
        assert content(version, 10) == b"one" + DATA[3:10]
    store(version, b"two", 5)
    ops.set_size(100)
    target.before = lambda: None
    ops.fsync()
    assert target.uploads == [b"one" + DATA[3:5] + b"two" + DATA[8:100]]


def test_what_is_stored_during_an_upload_does_not_wait_and_belongs_to_the_next(
    version: Opened, target: Target, base: Base
) -> None:
    ops = ops_of(version)
    store(version, b"first", 0)

    def meanwhile() -> None:
        target.before = lambda: None
        store(version, b"second", 0)
        ops.set_size(10)
        ops.set_size(20)
        store(version, b"!", 15)
        assert content(version, 20) == b"second" + DATA[6:10] + bytes(5) + b"!" + bytes(4)

    target.before = meanwhile
    ops.fsync()
    assert target.uploads == [b"first" + DATA[5:]]
    ops.fsync()
    assert target.uploads[1] == b"second" + DATA[6:10] + bytes(5) + b"!" + bytes(4)


def test_an_fsync_that_comes_during_another_takes_what_was_stored_before_it(version: Opened, target: Target) -> None:
    ops = ops_of(version)
    store(version, b"first", 0)
    with ThreadPoolExecutor() as pool:

        def meanwhile() -> None:
            target.before = lambda: None
            store(version, b"second", 0)
            later.append(pool.submit(ops.fsync))

        later: list[Any] = []
        target.before = meanwhile
        ops.fsync()
        later[0].result(WAIT_S)
    assert [upload[:6] for upload in target.uploads] == [b"first" + DATA[5:6], b"second"]


def test_an_fsync_takes_with_it_what_is_being_stored_or_leaves_all_of_it(
    version: Opened, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store has written half when the commit begins: the commit waits for it, since it may be half in the file."""
    ops = ops_of(version)
    store(version, b"x", 0)
    half_written, go_on = threading.Event(), threading.Event()
    pwrite = os.pwrite

    def pwrite_in_halves(fd: int, data: memoryview, offset: int) -> int:
        if offset != MIB or len(data) != BLOCK:
            return pwrite(fd, data, offset)
        half_written.set()
        assert go_on.wait(WAIT_S)
        return pwrite(fd, data[: BLOCK // 2], offset)

    monkeypatch.setattr(os, "pwrite", pwrite_in_halves)
    with ThreadPoolExecutor() as pool:
        storing = pool.submit(store, version, b"n" * BLOCK, MIB)
        assert half_written.wait(WAIT_S)
        fsync = pool.submit(ops.fsync)
        assert fill(version, BLOCK, MIB) == DATA[MIB : MIB + BLOCK]
        go_on.set()
        storing.result(WAIT_S)
        fsync.result(WAIT_S)
    assert target.uploads == [b"x" + DATA[1:MIB] + b"n" * BLOCK + DATA[MIB + BLOCK :]]


def test_a_base_that_fails_during_a_commit_fails_it_and_nothing_is_uploaded(
    version: Opened, target: Target, base: Base
) -> None:
    store(version, b"x", 0)
    base.before = fail
    with raises_errno(errno.EACCES):
        ops_of(version).fsync()
    assert target.uploads == []
    assert content(version, 1) == b"x"
    base.before = lambda: None
    ops_of(version).fsync()
    assert target.uploads == [b"x" + DATA[1:]]


def test_a_fill_that_finds_the_base_replaced_by_our_own_commit_reads_what_that_has_fetched(
    version: Opened, base: Base
) -> None:
    """It has asked the base, and while it waited for the answer the commit put another version there."""
    ops = ops_of(version)
    store(version, b"x", 0)

    def commit() -> None:
        base.before = lambda: None
        ops.fsync()
        base.before = fail
        fail()

    base.before = commit
    assert fill(version, MIB, MIB) == DATA[MIB : 2 * MIB]


def test_a_fill_during_a_discard_reads_from_the_base_that_it_has_begun_with(
    base: Base,
) -> None:
    other = staged(Target(base), truncate=False)
    store(other, b"x", 0)

    def discard() -> None:
        base.before = lambda: None
        ops_of(other)._target.base = Base(b"short")  # type: ignore[attr-defined]
        assert ops_of(other).discard() == 5

    base.before = discard
    assert fill(other, MIB, MIB) == DATA[MIB : 2 * MIB]
    assert content(other, 5) == b"short"
    other.close()


def test_a_store_that_fails_leaves_nothing_in_what_is_committed(
    version: Opened, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite

    def pwrite_half(fd: int, data: memoryview, offset: int) -> int:
        if bytes(data[:1]) != b"n":
            return pwrite(fd, data, offset)
        if len(data) < BLOCK:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(fd, data[: BLOCK // 2], offset)

    monkeypatch.setattr(os, "pwrite", pwrite_half)
    ops = ops_of(version)
    ops.set_size(BLOCK)
    ops.set_size(4 * BLOCK)
    with raises_errno(errno.ENOSPC, "temporary file"):
        store(version, b"n" * BLOCK, 0)
    with raises_errno(errno.ENOSPC):
        store(version, b"n" * BLOCK, 2 * BLOCK)
    assert content(version, 4 * BLOCK) == DATA[:BLOCK] + bytes(3 * BLOCK)
    ops.fsync()
    assert target.uploads == [DATA[:BLOCK] + bytes(3 * BLOCK)]


# -- threads -----------------------------------------------------------------------------------------


def test_with_four_writers_readers_and_commits_at_once_each_commit_has_whole_blocks_none_older_than_the_last() -> None:
    blocks, rounds = 32, 60
    target = Target(Base(bytes(blocks * BLOCK)))
    version = staged(target, truncate=False)
    ops = ops_of(version)
    done = [0] * blocks
    ended = threading.Event()

    def write(worker: int) -> None:
        order = random.Random(worker)
        for number in range(1, rounds + 1):
            for block in order.sample(range(worker, blocks, 4), blocks // 4):
                store(version, bytes([number]) * BLOCK, block * BLOCK)
                done[block] = number

    def read() -> None:
        seen = [0] * blocks
        while not ended.is_set():
            block = random.randrange(blocks)
            least = done[block]
            found = set(fill(version, BLOCK, block * BLOCK))
            assert min(found) >= max(least, seen[block]), (found, least)  # it may be half of the next
            seen[block] = min(found)

    def commit() -> None:
        last = [0] * blocks
        while not ended.is_set():
            least = list(done)
            ops.fsync()
            upload = target.uploads[-1] if target.uploads else bytes(blocks * BLOCK)
            for block in range(blocks):
                found = set(upload[block * BLOCK : (block + 1) * BLOCK])
                assert len(found) == 1, found
                assert max(found) >= max(least[block], last[block])
                last[block] = max(found)

    with ThreadPoolExecutor(8) as pool:
        others = [pool.submit(read), pool.submit(read), pool.submit(commit), pool.submit(commit)]
        for writer in [pool.submit(write, worker) for worker in range(4)]:
            writer.result(WAIT_S * 2)
        ended.set()
        for other in others:
            other.result(WAIT_S)
    ops.fsync()
    assert target.uploads[-1] == bytes([rounds]) * (blocks * BLOCK)
    version.close()


# -- disk, processes, leftovers ----------------------------------------------------------------------


def test_a_full_disk_for_temporary_files_is_enospc_and_what_was_stored_before_stays(
    tmp_path: Path, version: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        store(version, b"kept", 0)
        with raises_errno(errno.ENOSPC, f"No space left on device, in the temporary file in {disk}"):
            store(version, bytes(2 * MIB), BLOCK)
        with raises_errno(errno.ENOSPC):  # the whole object does not fit either
            ops_of(version).fsync()
        assert content(version, 8) == b"kept" + DATA[4:8]
        version.close()


def test_a_sparse_object_on_a_full_disk_is_enospc_and_not_the_death_of_the_process(tmp_path: Path) -> None:
    """Reading a hole of a file on tmpfs takes memory; where there is none, a mapping answers with SIGBUS."""
    with small_disk(tmp_path / "disk") as disk:
        script = """
            import errno, sys, tempfile
            from pagein.stores import MemoryStore
            tempfile.tempdir = sys.argv[1]
            version = MemoryStore().source("a").open_for_writing(create=True, exclusive=False, truncate=False)
            version.ops.set_size(8 << 20)
            try:
                version.ops.fsync()
            except OSError as error:
                print(errno.errorcode[error.errno])
            version.close()
            """
        assert run_script(script, disk) == "ENOSPC\n"


def test_a_child_can_neither_write_to_its_parents_file_nor_read_what_was_not_committed() -> None:
    script = """
        import errno, os
        from pagein.stores import MemoryStore
        made = MemoryStore({"a": b"before"})
        version = made.source("a").open_for_writing(create=False, exclusive=False, truncate=False)
        ops = version.ops
        ops.store(memoryview(b"parent"), 0)
        ops._lock.acquire()  # as a thread that does not exist in the child may have done
        child = os.fork()
        if not child:
            assert ops.uncommitted_bytes is None
            numbers = []
            for call in (
                lambda: ops.store(memoryview(b"child!"), 0), lambda: ops.set_size(0), lambda: ops.punch_hole(0, 6),
                ops.fsync, lambda: ops.fill(memoryview(bytearray(6)), 0),
            ):
                try:
                    call()
                except OSError as error:
                    numbers.append(errno.errorcode[error.errno])
            version.close()
            os._exit(numbers != ["EBADF"] * 5)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        ops._lock.release()
        ops.fsync()
        now = made.source("a").open()
        data = bytearray(6)
        now.ops.fill(memoryview(data), 0)
        print(data.decode())
        version.close()
        """
    assert run_script(script) == "parent\n"


def test_close_drops_what_was_not_committed() -> None:
    """Its temporary files too: nothing_is_left_behind looks for them."""
    made = MemoryStore({"a": DATA})
    with writing((made, "a"), truncate=True) as version:
        store(version, OTHER, 0)
    with opened((made, "a")) as version:
        assert content(version, len(DATA)) == DATA


# -- MemoryStore -------------------------------------------------------------------------------------


def test_an_object_in_memory_is_replaced_whole_at_fsync() -> None:
    made = MemoryStore({"a": DATA})
    with writing((made, "a")) as version, opened((made, "a")) as before:
        store(version, b"new", 0)
        assert content(before, 3) == DATA[:3]
        version.ops.fsync()
        with opened((made, "a")) as after:
            assert after.version == version.ops.version  # type: ignore[attr-defined]
            assert content(after, len(DATA)) == b"new" + DATA[3:]


@pytest.mark.parametrize("change", ["replaced", "deleted", "made"])
def test_what_somebody_else_has_changed_is_estale_and_the_data_stay(change: str) -> None:
    made = MemoryStore({} if change == "made" else {"a": DATA})
    with writing((made, "a"), create=True) as version:
        store(version, b"mine", 0)
        if change == "deleted":
            made.delete("a")
        else:
            made.put("a", OTHER)
        ops_size = 4
        for _ in range(2):
            with raises_errno(errno.ESTALE, "memory:a"):
                version.ops.fsync()
            assert content(version, ops_size) == b"mine"
    if change != "deleted":
        with opened((made, "a")) as now:
            assert content(now, len(OTHER)) == OTHER


def test_what_is_opened_for_writing_has_to_be_there_or_not_as_is_asked() -> None:
    made = MemoryStore({"d/a": DATA})
    for path, asked, number in (
        ("x", {}, errno.ENOENT),
        ("d/a", {"create": True, "exclusive": True}, errno.EEXIST),
        ("d", {"create": True}, errno.EISDIR),
        ("", {"create": True}, errno.EISDIR),
    ):
        with raises_errno(number), writing((made, path), **asked):
            pass
    with writing((made, "x"), create=True, exclusive=True) as version:
        assert version.size_bytes == 0
        with raises_errno(errno.ENOENT):
            made.source("x").open()
        version.ops.fsync()
        assert made.source("x").open().size_bytes == 0


def test_put_if_replaces_one_version_only() -> None:
    made = MemoryStore()
    first = made.put_if("a", b"1", None)
    second = made.put_if("a", b"2", first)
    for version in (first, None, "other"):
        with raises_errno(errno.ESTALE):
            made.put_if("a", b"3", version)
    assert made.source("a").open().version == second
