"""A store that fails does so when, and as far as, it was told, and whoever reads or writes through the cache sees that,
and no wrong byte; one that crashes keeps what was fsynced."""

from __future__ import annotations

import errno
import math
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, get_args

import pytest
from hypothesis import given, settings, strategies as st

from pagein import File, PageCache
from pagein.stores.local import LocalStore
from pagein.stores.memory import MemoryStore
from pagein.stores.ranges import AsyncRangeOperations, RangeOperations
from pagein.stores.source import Opened, Store, WritableSource
from pagein.testing import Link, SimulatedStore, VirtualClock
from pagein.testing.durable import SECTOR_BYTES, DurableStore
from pagein.testing.faulty import FaultyStore, Kind
from pagein.testing.leaks import assert_nothing_left
from pagein.testing.schedule import Deadlock
from pagein.testing.stores import ScriptedOps
from pagein.units import PAGE_SIZE

OLD, NEW = b"o" * 4096, b"n" * 4096


def opened(store: object, **how: bool) -> tuple[Opened, RangeOperations]:
    source = store.source("a")  # type: ignore[attr-defined]
    assert isinstance(source, WritableSource)
    flags = {"create": False, "exclusive": False, "truncate": False, **how}
    found = source.open_for_writing(**flags)
    assert isinstance(found.ops, RangeOperations)
    return found, found.ops


def write(ops: RangeOperations, data: bytes, offset: int = 0) -> None:
    with memoryview(data) as view:
        ops.store(view, offset)


def read(ops: RangeOperations, size: int) -> bytes:
    buffer = bytearray(size)
    with memoryview(buffer) as view:
        ops.fill(view, 0)
    return bytes(buffer)


def code_of(run: object, *arguments: object) -> int | None:
    try:
        run(*arguments)  # type: ignore[operator]
    except OSError as error:
        return error.errno
    return None


# -- faults ------------------------------------------------------------------------------------------------------


def test_the_nth_call_fails_and_so_many_after_it() -> None:
    faulty = FaultyStore(DurableStore({"a": OLD}))
    _, ops = opened(faulty)
    write(ops, NEW)
    faulty.inject("store", at=3, times=2, error=errno.ENOSPC)
    assert [code_of(write, ops, NEW) for _ in range(6)] == [None, None, errno.ENOSPC, errno.ENOSPC, None, None]
    assert faulty.errors("store") == len(faulty.struck) == 2
    assert faulty.calls["store"] == 7


@pytest.mark.parametrize(
    ("faults", "struck"),
    [
        ([(1, 1), (1, 1)], [0, 1, None]),
        ([(1, 1), (2, 1)], [0, 1, None]),
        ([(2, 1), (1, 1)], [1, 0, None]),
        ([(1, 2), (2, 2)], [0, 0, 1, 1, None]),
        ([(2, 1), (1, 2)], [1, 0, 1, None]),
    ],
)
def test_each_fault_strikes_as_often_as_it_was_told(faults: list[tuple[int, int]], struck: list[int | None]) -> None:
    """Of two (at, times) that are due, the second strikes the next call, too."""
    faulty = FaultyStore(DurableStore({"a": OLD}))
    _, ops = opened(faulty)
    for number, (at, times) in enumerate(faults):
        faulty.inject("fsync", at=at, times=times, error=100 + number)
    codes = [code_of(ops.fsync) for _ in struck]
    assert [None if code is None else code - 100 for code in codes] == struck
    assert [fault.strike_count for fault in faulty._faults] == [times for _, times in faults]


def test_a_fault_without_an_end_lasts_until_it_is_healed_and_others_are_not_concerned() -> None:
    faulty = FaultyStore(DurableStore({"a": OLD}))
    _, ops = opened(faulty)
    faulty.inject("fsync", times=None)
    assert [code_of(ops.fsync) for _ in range(3)] == [errno.EIO] * 3
    assert code_of(write, ops, NEW) is None
    faulty.heal()
    assert code_of(ops.fsync) is None


@pytest.mark.parametrize(
    ("kind", "left"),
    [("fails", OLD), ("short", NEW[:2048] + OLD[2048:]), ("torn", (NEW[:SECTOR_BYTES] + OLD[:SECTOR_BYTES]) * 4)],
)
def test_what_a_failing_write_leaves(kind: Kind, left: bytes) -> None:
    store = DurableStore({"a": OLD})
    faulty = FaultyStore(store)
    _, ops = opened(faulty)
    faulty.inject("store", kind=kind)
    assert code_of(write, ops, NEW) == errno.EIO
    assert store.stored("a") == left


@pytest.mark.parametrize(("kind", "size"), [("fails", 4096), ("short", 4096), ("torn", 10)])
def test_what_has_no_range_is_done_if_torn_and_its_answer_is_an_error(kind: Kind, size: int) -> None:
    store = DurableStore({"a": OLD})
    faulty = FaultyStore(store)
    _, ops = opened(faulty)
    faulty.inject("set_size", kind=kind)
    assert code_of(ops.set_size, 10) == errno.EIO
    assert len(store.stored("a")) == size


def test_a_failing_read_and_a_failing_open_raise() -> None:
    faulty = FaultyStore(DurableStore({"a": OLD}))
    _, ops = opened(faulty)
    faulty.inject("fill", kind="torn", error=errno.ETIMEDOUT)
    assert code_of(read, ops, 4096) == errno.ETIMEDOUT
    assert read(ops, 4096) == OLD
    faulty.inject("open", times=2, error=errno.EACCES)
    assert code_of(faulty.source("a").open) == errno.EACCES
    assert code_of(opened, faulty) == errno.EACCES


def test_what_is_late_comes_when_it_is_completed() -> None:
    store = DurableStore({"a": OLD})
    faulty = FaultyStore(store)
    _, ops = opened(faulty)
    faulty.inject("fsync", kind="late", times=2)
    write(ops, NEW)
    codes: list[int | None] = []
    for error in (None, OSError(errno.ENOSPC, "full")):
        thread = threading.Thread(target=lambda: codes.append(code_of(ops.fsync)))
        thread.start()
        (held,) = faulty.wait_for_held()
        assert held.request.operation == "fsync"
        assert store.durable("a") == (NEW if error else OLD)
        held.complete(error)
        thread.join()
        assert store.durable("a") == NEW
    assert codes == [None, errno.ENOSPC]
    assert not faulty.held
    assert not faulty.errors("fsync")
    with pytest.raises(ValueError, match="has been completed"):
        held.complete()


# -- what a reader sees ------------------------------------------------------------------------------------------

DATA = random.Random(7).randbytes(8 * PAGE_SIZE)
OTHER = random.Random(8).randbytes(8 * PAGE_SIZE)
DELAY_S = 3.0


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    with VirtualClock() as clock:
        yield clock


class Later(AsyncRangeOperations):
    async def fetch(self, offset_bytes: int, size_bytes: int) -> bytes:
        return DATA[offset_bytes : offset_bytes + size_bytes]


class OneObject:
    """A store of asynchronous operations."""

    key = name = "one"

    def source(self, path: str) -> OneObject:
        return self

    def open(self) -> Opened:
        return Opened(Later(), len(DATA), "1")


STORES: dict[str, Callable[[VirtualClock, Path], Store]] = {
    "memory": lambda clock, directory: MemoryStore({"a": DATA}),
    "durable": lambda clock, directory: DurableStore({"a": DATA}),
    "local": lambda clock, directory: LocalStore(directory),
    "asynchronous": lambda clock, directory: OneObject(),
    "simulated": lambda clock, directory: SimulatedStore({"a": DATA}, Link(latency_s=0.1), clock=clock),
    "of faulty ones": lambda clock, directory: FaultyStore(FaultyStore(MemoryStore({"a": DATA}))),
}


@contextmanager
def reading(store: FaultyStore, clock: VirtualClock) -> Iterator[File]:
    """A file of which each read asks for what it reads, and no more."""
    with PageCache("1 MiB", door=clock) as cache, cache.open((store, "a")) as file:
        assert isinstance(file, File)
        file.advise("random")
        yield file
        assert_nothing_left(cache._zone)


def page(index: int, data: bytes = DATA) -> bytes:
    return data[index * PAGE_SIZE : (index + 1) * PAGE_SIZE]


@pytest.mark.parametrize("kind", ["fails", "short", "torn"])
@pytest.mark.parametrize("make", STORES.values(), ids=STORES)
def test_a_reader_gets_the_error_and_the_right_bytes_when_he_tries_again(
    make: Callable[[VirtualClock, Path], Store], kind: Kind, clock: VirtualClock, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(DATA)
    store = FaultyStore(make(clock, tmp_path), clock=clock)
    store.inject("fill", kind=kind, at=2, times=2, error=errno.ETIMEDOUT)
    with reading(store, clock) as file:
        assert file.pread(PAGE_SIZE, 0) == page(0)
        for number in (1, 2):
            with pytest.raises(TimeoutError, match=rf"injected: fill {kind} \(strike {number}\)"):
                file.pread(PAGE_SIZE, PAGE_SIZE)
        assert file.pread(PAGE_SIZE, PAGE_SIZE) == page(1)
    assert store.calls == {"open": 1, "fill": 4}


@pytest.mark.parametrize("kind", ["slow", "torn"])
def test_what_takes_its_time_is_right_in_the_end_and_others_do_not_wait_for_it(kind: Kind, clock: VirtualClock) -> None:
    """A page that is filled in part is nobody's."""
    store = FaultyStore(MemoryStore({"a": DATA}), clock=clock)
    store.inject("fill", kind=kind, delay_s=DELAY_S)

    def read_twice(index: int) -> tuple[bytes, float]:
        return file.pread(PAGE_SIZE, index * PAGE_SIZE), clock.now_s()

    with reading(store, clock) as file:
        answers = clock.together(*(partial(read_twice, index) for index in (3, 3, 4)))
    assert answers == [(page(3), DELAY_S), (page(3), DELAY_S), (page(4), 0.0)]
    assert store.calls["fill"] == 2, "of two who want one page, one asks"


@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_reader_of_several_pages_hears_of_no_fault_that_passes(kind: Kind, clock: VirtualClock) -> None:
    """What brought them all has failed once: then he asks for his own page, and so on."""
    store = FaultyStore(DurableStore({"a": DATA}), clock=clock)
    store.inject("fill", kind=kind, delay_s=DELAY_S if kind == "slow" else 0, change=int if kind == "changed" else None)

    def complete() -> None:
        if kind == "late":
            (held,) = store.wait_for_held()
            assert (held.request.offset_bytes, held.request.size_bytes) == (0, len(DATA))
            held.complete()

    with reading(store, clock) as file:
        assert clock.together(lambda: file.pread(len(DATA), 0), complete) == [DATA, None]


@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_reader_calls_the_store_himself_if_the_inner_one_says_so(kind: Kind, clock: VirtualClock) -> None:
    """Whatever befalls that call; no worker is started for it."""

    class Called(RangeOperations):
        readers_call = True
        threads: ClassVar[set[int]] = set()

        def fill(self, buffer: memoryview, offset_bytes: int) -> None:
            self.threads.add(clock.thread_id())
            buffer[:] = DATA[offset_bytes : offset_bytes + len(buffer)]

    def read() -> bytes:
        me.append(clock.thread_id())
        for _ in range(2):
            with suppress(TimeoutError):
                return file.pread(PAGE_SIZE, PAGE_SIZE)
        raise AssertionError("it fails again")

    def complete() -> None:
        if kind == "late":
            me.append(clock.thread_id())
            store.wait_for_held()[0].complete()

    me: list[int] = []
    store = FaultyStore(MemoryStore(), clock=clock)
    ops = SimulatedStore({}, Link(latency_s=0.1), clock=clock).operations(store.operations(Called()))
    delay_s = DELAY_S if kind == "slow" else 0
    store.inject("fill", kind=kind, error=errno.ETIMEDOUT, delay_s=delay_s, change=int if kind == "changed" else None)
    with PageCache("1 MiB", door=clock) as cache, cache.inode(ops, size_bytes=len(DATA)).open() as file:
        file.advise("random")
        assert clock.together(read, complete)[0] == page(1)
        assert_nothing_left(cache._zone)
    assert Called.threads
    assert Called.threads <= set(me)


def test_a_bad_place_fails_whoever_reads_it_with_the_error_that_was_given(clock: VirtualClock) -> None:
    store, bad = FaultyStore(MemoryStore({"a": DATA}), clock=clock), TimeoutError("a bad sector")
    store.inject("fill", offset_bytes=3 * PAGE_SIZE, times=None, error=bad)
    with reading(store, clock) as file:
        for _ in range(2):
            with pytest.raises(TimeoutError) as raised:
                file.pread(3 * PAGE_SIZE, PAGE_SIZE)
            assert raised.value is bad
        assert file.pread(3 * PAGE_SIZE, 0) == DATA[: 3 * PAGE_SIZE]
        assert file.pread(PAGE_SIZE, 4 * PAGE_SIZE) == page(4)
        store.heal()
        assert file.pread(len(DATA), 0) == DATA


def test_each_request_is_on_record_with_its_times_and_its_error(clock: VirtualClock) -> None:
    store = FaultyStore(MemoryStore({"a": DATA}), clock=clock)
    store.inject("fill", kind="slow", delay_s=DELAY_S)
    store.inject("fill", kind="late", at=2)
    with reading(store, clock) as file:
        assert file.pread(1, 0) == DATA[:1]

        def complete() -> None:
            (held,) = store.wait_for_held()
            assert held.request is store.requests[-1]
            assert held.request.answered_s == math.inf
            clock.sleep(1)
            held.complete(TimeoutError(errno.ETIMEDOUT, "late"))

        with pytest.raises(TimeoutError):
            clock.together(lambda: file.pread(1, PAGE_SIZE), complete)
    assert [tuple(vars(request).values()) for request in store.requests] == [
        ("open", "memory:a", 0, 0, 0.0, 0.0, None),
        ("fill", "memory:a", 0, PAGE_SIZE, 0.0, DELAY_S, None),
        ("fill", "memory:a", PAGE_SIZE, PAGE_SIZE, DELAY_S, DELAY_S + 1, errno.ETIMEDOUT),
    ]


def test_late_answers_come_in_the_order_that_the_test_wants(clock: VirtualClock) -> None:
    """Each reader goes on when his own page is there."""
    store = FaultyStore(MemoryStore({"a": DATA}), clock=clock)
    store.inject("fill", kind="late", times=4)
    done: list[int] = []

    def read(index: int) -> None:
        assert file.pread(PAGE_SIZE, index * PAGE_SIZE) == page(index)
        done.append(index)

    def complete() -> None:
        for held in reversed(store.wait_for_held(4)):
            held.complete()
            clock.sleep(1)

    with reading(store, clock) as file:
        clock.together(*(partial(read, index) for index in range(4)), complete)
        assert done == [3, 2, 1, 0]
        store.inject("fill", kind="late")
        with pytest.raises(PermissionError, match="no"):
            clock.together(
                lambda: file.pread(1, 5 * PAGE_SIZE), lambda: store.wait_for_held()[0].complete(PermissionError("no"))
            )
        assert file.pread(PAGE_SIZE, 5 * PAGE_SIZE) == page(5)


@pytest.mark.parametrize("mistake", [ValueError("a mistake"), SystemExit(3)])
def test_a_late_call_ends_whatever_the_store_raises(mistake: BaseException, clock: VirtualClock) -> None:
    class Mistaken(RangeOperations):
        def fill(self, buffer: memoryview, offset_bytes: int) -> None:
            raise mistake

    store = FaultyStore(MemoryStore(), clock=clock)
    store.inject("fill", kind="late")
    heard: list[BaseException] = []

    def complete() -> None:
        (held,) = store.wait_for_held()
        try:
            held.complete()
        except SystemExit as error:
            heard.append(error)

    ops = store.operations(Mistaken())
    with PageCache("1 MiB", door=clock) as cache, cache.inode(ops, size_bytes=10).open() as file:
        with pytest.raises(type(mistake)) as raised:
            clock.together(complete, file.read)
        assert raised.value is mistake
        assert heard == ([] if isinstance(mistake, Exception) else [mistake])


def test_what_is_late_for_ever_is_a_deadlock_and_not_a_test_that_hangs(
    clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAGEIN_DEBUG", "0")  # in which who waits looks up now and then
    store = FaultyStore(MemoryStore({"a": DATA}), clock=clock)
    store.inject("fill", kind="late")
    with reading(store, clock) as file:
        with pytest.raises(Deadlock):
            file.pread(1, 0)
        store.heal()
        assert file.pread(1, 0) == DATA[:1]


@pytest.mark.parametrize("blocking", [True, False])
def test_late_is_asynchronous_for_real_threads_too(blocking: bool) -> None:
    store = FaultyStore(DurableStore({"a": DATA}, blocking=blocking))
    store.inject("fill", kind="late")
    got: list[bytes] = []
    with PageCache("1 MiB") as cache, cache.open((store, "a")) as file:
        reader = threading.Thread(target=lambda: got.append(file.pread(10, 0)))
        reader.start()
        store.wait_for_held()[0].complete()
        reader.join()
    assert got == [DATA[:10]]


@pytest.mark.parametrize("kind", ["memory", "local", "simulated"])
def test_a_version_that_changes_in_mid_read_is_stale_and_never_mixed_with_the_next(
    kind: str, clock: VirtualClock, tmp_path: Path
) -> None:
    """The half that had come is nobody's; whoever opens it from then on has the new one, all of it."""
    (tmp_path / "a").write_bytes(DATA)
    inner = STORES[kind](clock, tmp_path)

    def change() -> None:
        if isinstance(inner, MemoryStore | SimulatedStore):
            inner.put("a", OTHER)
        else:
            (tmp_path / "a").write_bytes(OTHER)
            os.utime(tmp_path / "a", (1, 1))

    store = FaultyStore(inner, clock=clock)
    store.inject("fill", kind="changed", at=2, change=change)
    with PageCache("1 MiB", door=clock) as cache, cache.open((store, "a")) as old:
        assert isinstance(old, File)
        old.advise("random")
        assert old.pread(PAGE_SIZE, 0) == page(0)
        with pytest.raises(OSError, match="changed while it was open") as stale:
            old.pread(PAGE_SIZE, PAGE_SIZE)
        assert stale.value.errno == errno.ESTALE
        assert old.pread(PAGE_SIZE, 0) == page(0), "what is here stays"
        with cache.open((store, "a")) as new:
            assert new.read() == OTHER


@settings(max_examples=40, derandomize=True, deadline=None)
@given(
    faults=st.lists(
        st.tuples(st.sampled_from(["fails", "short", "torn", "slow"]), st.integers(1, 12), st.integers(1, 4)),
        max_size=6,
    ),
    reads=st.lists(st.tuples(st.integers(0, len(DATA)), st.integers(1, 3 * PAGE_SIZE)), min_size=1, max_size=12),
)
def test_whatever_fails_no_byte_is_wrong(faults: list[tuple[Kind, int, int]], reads: list[tuple[int, int]]) -> None:
    with VirtualClock() as clock:
        store = FaultyStore(SimulatedStore({"a": DATA}, Link(latency_s=0.01), clock=clock), clock=clock)
        for kind, at, times in faults:
            store.inject("fill", kind=kind, at=at, times=times, delay_s=DELAY_S if kind == "slow" else 0)
        with PageCache(4 * PAGE_SIZE, door=clock) as cache, cache.open((store, "a")) as file:

            def read(offset: int, size: int) -> None:
                before = store.errors("fill")
                try:
                    data = file.pread(size, offset)
                except OSError:
                    assert store.errors("fill") > before
                else:
                    assert data == DATA[offset : offset + size]

            for offset, size in reads:
                read(offset, size)
            store.heal()
            assert file.pread(len(DATA), 0) == DATA
            assert_nothing_left(cache._zone)


# -- what a writer sees ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["fails", "short", "torn"])
def test_a_writer_hears_of_it_once_and_nothing_is_lost(kind: Kind, clock: VirtualClock) -> None:
    durable = DurableStore({"a": DATA})
    store = FaultyStore(durable, clock=clock)
    store.inject("store", kind=kind, error=errno.ENOSPC)
    with PageCache("1 MiB", door=clock) as cache, cache.open((store, "a"), "r+b") as file:
        file.write(OTHER)
        with pytest.raises(OSError, match=f"injected: store {kind}"):
            file.fsync()
        assert file.pread(len(OTHER), 0) == OTHER
        file.fsync()
    assert durable.durable("a") == OTHER


def test_a_late_write_is_asynchronous_and_may_fail(clock: VirtualClock) -> None:
    durable = DurableStore({"a": DATA})
    store = FaultyStore(durable, clock=clock)
    store.inject("store", kind="late", times=2)
    store.inject("fsync", kind="slow", delay_s=DELAY_S)
    with PageCache("1 MiB", door=clock) as cache, cache.open((store, "a"), "r+b") as file:
        for error in (OSError(errno.ENOSPC, "full"), None):
            file.pwrite(NEW, 0)

            def complete(error: OSError | None = error) -> None:
                (held,) = store.wait_for_held()
                assert file.pread(10, 0) == NEW[:10], "nobody waits for it"
                held.complete(error)

            if error is None:
                clock.together(file.fsync, complete)
            else:
                with pytest.raises(OSError, match="full"):
                    clock.together(file.fsync, complete)
    assert clock.now_s() == DELAY_S
    assert durable.durable("a") == NEW + DATA[PAGE_SIZE:]


def test_an_object_that_is_replaced_as_a_whole_fails_too(clock: VirtualClock) -> None:
    """It is stored by the fsync, and nothing of it before."""
    memory = MemoryStore({"a": DATA})
    store = FaultyStore(memory, clock=clock)
    store.inject("fsync", error=errno.EACCES)
    with PageCache("1 MiB", door=clock) as cache, cache.open((store, "a"), "r+b") as file:
        file.write(OTHER)
        with pytest.raises(PermissionError):
            file.fsync()
        file.fsync()
        with cache.open((memory, "a")) as other:
            assert other.read() == OTHER
        file.pwrite(NEW, 0)
        store.inject("fsync", error=errno.EACCES)
        with pytest.raises(PermissionError):
            file.close()  # which commits
        cache.sync()
    with PageCache("1 MiB", door=clock) as cache, cache.open((memory, "a")) as other:
        assert other.read() == NEW + OTHER[PAGE_SIZE:]


# -- what cannot be ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"operation": "read"}, "operation must be one of open, fill, .*, not 'read'"),
        ({"kind": "broken"}, "kind must be one of fails, short, torn, slow, late, changed, not 'broken'"),
        ({"at": 0}, "at must be a whole number, at least 1, not 0"),
        ({"times": 0}, "times must be a whole number, at least 1, or None for all, not 0"),
        ({"error": 0}, "error must be an OSError, or its errno, as errno.EIO, not 0"),
        ({"offset_bytes": -4}, "offset_bytes must be a whole number, at least 0, or None for any, not -4"),
        ({"operation": "open", "offset_bytes": 4}, "offset_bytes needs a range, as fill and store have, not open"),
        ({"kind": "slow", "delay_s": math.nan}, "delay_s must be a finite number, at least 0, not nan"),
        ({"kind": "slow"}, "'slow' needs delay_s"),
        ({"kind": "short", "delay_s": 1.0}, "'short' has no delay_s"),
        ({"kind": "changed"}, "a change if, and only if, its kind is 'changed'"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FaultyStore(MemoryStore()).inject(**{"operation": "fill", **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"at": "2"}, "at must be a whole number, at least 1, not '2'"),
        ({"at": 1.5}, "at must be a whole number, at least 1, not 1.5"),
        ({"times": "1"}, "times must be .*, not '1'"),
        ({"error": "EIO"}, "error must be an OSError, or its errno, as errno.EIO, not 'EIO'"),
        ({"error": ValueError("x")}, r"error must be .*, not ValueError\('x'\)"),
        ({"offset_bytes": 0.5}, "offset_bytes must be .*, not 0.5"),
        ({"kind": "slow", "delay_s": "1"}, "delay_s must be a finite number, at least 0, not '1'"),
        ({"kind": "changed", "change": 3}, "change must be something to call, not 3"),
    ],
)
def test_what_is_of_another_type_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        FaultyStore(MemoryStore()).inject(**{"operation": "fill", **arguments})


def test_what_is_no_store_or_has_no_ranges_is_refused() -> None:
    with pytest.raises(TypeError, match="dict is no store: it has no source"):
        FaultyStore({})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="ScriptedOps has no ranges, only pages"):
        FaultyStore(MemoryStore()).operations(ScriptedOps())

    class ByPages(Later):
        writable = True

    with pytest.raises(TypeError, match=r"ByPages is writable, but has no store\(buffer, offset_bytes\)"):
        FaultyStore(MemoryStore()).operations(ByPages())


# -- what is durable -----------------------------------------------------------------------------------------------


def test_only_what_was_fsynced_is_left_by_a_crash() -> None:
    store = DurableStore({"a": OLD})
    _, ops = opened(store)
    write(ops, NEW, 4096)
    ops.fsync()
    write(ops, b"lost", 100)
    ops.set_size(5000)
    assert len(store.stored("a")) == 5000
    store.crash()
    assert store.stored("a") == store.durable("a") == OLD + NEW
    assert code_of(read, ops, 1) == errno.ENODEV
    _, ops = opened(store)
    assert read(ops, 8192) == OLD + NEW


def test_a_disk_may_have_written_any_sector_before_it_crashed() -> None:
    seen = set()
    for seed in range(200):
        store = DurableStore({"a": OLD})
        write(opened(store)[1], NEW[:3000], 300)
        store.crash(random.Random(seed))
        left = store.stored("a")
        assert set(left[:300] + left[3300:]) == set(b"o")
        for at in range(SECTOR_BYTES, 3072, SECTOR_BYTES):
            assert len(set(left[at : at + SECTOR_BYTES])) == 1, "a sector is written whole or not at all"
        seen |= {at for at in range(0, 4096, 100) if left[at : at + 1] == b"n"}
    assert seen == set(range(300, 3300, 100))


def test_what_was_created_and_not_fsynced_is_gone_after_a_crash() -> None:
    store = DurableStore()
    assert code_of(opened, store) == errno.ENOENT
    _, ops = opened(store, create=True)
    write(ops, NEW)
    assert store.durable("a") is None
    store.crash()
    assert code_of(opened, store) == errno.ENOENT
    _, ops = opened(store, create=True)
    ops.fsync()
    store.crash()
    assert store.stored("a") == b""
    with pytest.raises(FileExistsError):
        opened(store, create=True, exclusive=True)


def test_what_is_created_after_a_crash_is_not_taken_for_what_it_has_forgotten() -> None:
    """Equal versions have equal bytes, for who looks again."""
    disk = DurableStore()

    def create(data: bytes) -> str:
        opened = disk.source("new").open_for_writing(create=True, exclusive=False, truncate=True)
        opened.ops.store(memoryview(data), 0)  # type: ignore[attr-defined]  # it is a RangeOperations
        return disk.source("new").open().version

    with PageCache("1 MiB", revalidate="always") as cache:
        forgotten = create(b"once")
        with cache.open((disk, "new")) as file:
            assert file.read() == b"once"
        disk.crash()
        assert create(b"anew") != forgotten
        with cache.open((disk, "new")) as file:
            assert file.read() == b"anew"


def test_truncating_at_open_is_durable_after_fsync_only() -> None:
    store = DurableStore({"a": OLD})
    opened(store, truncate=True)
    assert store.stored("a") == b""
    store.crash()
    assert store.stored("a") == OLD
    _, ops = opened(store, truncate=True)
    ops.fsync()
    store.crash()
    assert store.stored("a") == b""
