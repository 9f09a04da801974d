"""A store that fails does so when, and as far as, it was told; one that crashes keeps what was fsynced."""

from __future__ import annotations

import errno
import random
import threading

import pytest

from pagein.stores.ranges import RangeOperations
from pagein.stores.source import Opened, WritableSource
from pagein.testing.durable import SECTOR_BYTES, DurableStore
from pagein.testing.faulty import Faults, Kind, faulty
from pagein.testing.stores import Gate

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
    faults = Faults()
    _, ops = opened(faulty(DurableStore({"a": OLD}), faults))
    write(ops, NEW)
    faults.add("store", at=3, times=2, code=errno.ENOSPC)
    assert [code_of(write, ops, NEW) for _ in range(6)] == [None, None, errno.ENOSPC, errno.ENOSPC, None, None]
    assert faults.errors("store") == len(faults.struck) == 2
    assert faults.calls["store"] == 7


def test_a_fault_without_an_end_lasts_until_it_is_healed_and_others_are_not_concerned() -> None:
    faults = Faults()
    _, ops = opened(faulty(DurableStore({"a": OLD}), faults))
    faults.add("fsync", times=None)
    assert [code_of(ops.fsync) for _ in range(3)] == [errno.EIO] * 3
    assert code_of(write, ops, NEW) is None
    faults.heal()
    assert code_of(ops.fsync) is None


@pytest.mark.parametrize(
    ("kind", "left"),
    [("fails", OLD), ("short", NEW[:2048] + OLD[2048:]), ("torn", (NEW[:SECTOR_BYTES] + OLD[:SECTOR_BYTES]) * 4)],
)
def test_what_a_failing_write_leaves(kind: Kind, left: bytes) -> None:
    store, faults = DurableStore({"a": OLD}), Faults()
    _, ops = opened(faulty(store, faults))
    faults.add("store", kind=kind)
    assert code_of(write, ops, NEW) == errno.EIO
    assert store.stored("a") == left


@pytest.mark.parametrize(("kind", "size"), [("fails", 4096), ("short", 4096), ("torn", 10)])
def test_what_has_no_range_is_done_if_torn_and_its_answer_is_an_error(kind: Kind, size: int) -> None:
    store, faults = DurableStore({"a": OLD}), Faults()
    _, ops = opened(faulty(store, faults))
    faults.add("set_size", kind=kind)
    assert code_of(ops.set_size, 10) == errno.EIO
    assert len(store.stored("a")) == size


def test_a_failing_read_and_a_failing_open_raise() -> None:
    faults = Faults()
    store = faulty(DurableStore({"a": OLD}), faults)
    _, ops = opened(store)
    faults.add("fill", kind="torn", code=errno.ETIMEDOUT)
    assert code_of(read, ops, 4096) == errno.ETIMEDOUT
    assert read(ops, 4096) == OLD
    faults.add("open", times=2, code=errno.EACCES)
    assert code_of(store.source("a").open) == errno.EACCES
    assert code_of(opened, store) == errno.EACCES


def test_what_is_late_comes_when_its_gate_is_opened() -> None:
    store, faults, gate = DurableStore({"a": OLD}), Faults(), Gate()
    _, ops = opened(faulty(store, faults))
    faults.add("store", kind="late", gate=gate)
    thread = threading.Thread(target=write, args=(ops, NEW))
    thread.start()
    gate.wait_for_arrivals()
    assert store.stored("a") == OLD
    gate.open()
    thread.join()
    assert store.stored("a") == NEW
    assert not faults.errors("store")
    with pytest.raises(ValueError, match="a gate if, and only if, it is late"):
        faults.add("store", kind="late")


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
