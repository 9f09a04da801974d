"""PAGEIN_DEBUG: what breaks the contract is told with the clause and the operation, and the cache goes on.

Each test breaks one clause on purpose.  What costs nothing to see is seen without the debug mode, too, and then the
test runs both ways.
"""

from __future__ import annotations

import errno
import pickle
from collections.abc import Iterator

import pytest
from tests.contract.harness import RecordedLock, Scene, Subject
from tests.contract.paths import PREAD, RETRIED_FAULT, RUN, on_every_path

from pagein import PageCache
from pagein.errors import ContractViolation
from pagein.mm import filemap, reclaim, truncate
from pagein.mm.aops import AOP_TRUNCATED_PAGE, AOP_UPDATED_PAGE, AOP_WRITEPAGE_ACTIVATE
from pagein.mm.debug import READ_TIMEOUT_S, Checks
from pagein.mm.filemap import Fault, FaultResult
from pagein.mm.page import Page
from pagein.mm.rac import ReadaheadControl
from pagein.testing.stores import Answer, ScriptedOps, completed, gated, run_started, started, updated
from pagein.units import PAGE_SIZE

HERE = 3


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """The debug mode as a user switches it on, with a short wait for reads that are never ended."""
    monkeypatch.setenv("PAGEIN_DEBUG", "1")
    monkeypatch.setenv("PAGEIN_DEBUG_READ_TIMEOUT_S", "0.05")
    with Scene(debug=None) as scene:
        yield scene


@pytest.fixture
def checked() -> Iterator[Scene]:
    with Scene(debug=True) as scene:
        yield scene


def assert_named(violation: BaseException, clause: str, operation: str) -> None:
    assert isinstance(violation, ContractViolation)
    assert clause in violation.clause
    assert operation in violation.operation
    assert str(violation) == f"{violation.operation}: {violation.clause}{violation.stacks}"


def assert_usable(subject: Subject) -> None:
    """Nothing is locked, waiting or pinned, and every page of the file can be read."""
    assert subject.mapping.in_flight == {}
    subject.assert_at_rest(*subject.uptodate())
    assert subject.file.pread(8 * PAGE_SIZE, 0) == subject.content(0, 8)
    subject.assert_at_rest(*range(8))


def violation_of(subject: Subject, path, index: int = HERE) -> ContractViolation:
    with pytest.raises(ContractViolation) as raised:
        path.read_page(subject, index)
    return raised.value


# -- what readpage returns -------------------------------------------------------------------------


def updated_and_unlocked(ops: ScriptedOps, page: Page) -> int:
    ops.fill(page)
    page.set_uptodate()
    page.unlock()
    return AOP_UPDATED_PAGE


def updated_but_not_uptodate(ops: ScriptedOps, page: Page) -> int:
    ops.fill(page)
    return AOP_UPDATED_PAGE


def truncated_but_locked(ops: ScriptedOps, page: Page) -> int:
    return AOP_TRUNCATED_PAGE


def returning(code: object) -> Answer:
    def answer(ops: ScriptedOps, page: Page) -> int:
        ops.fill(page)
        page.set_uptodate()
        return code  # type: ignore[return-value]

    answer.__name__ = f"returns_{code}"
    return answer


WRONG_ANSWERS = [
    (updated_and_unlocked, "AOP_UPDATED_PAGE with the page locked and Uptodate"),
    (updated_but_not_uptodate, "AOP_UPDATED_PAGE with the page locked and Uptodate"),
    (truncated_but_locked, "AOP_TRUNCATED_PAGE with the page unlocked"),
    (returning(5), "not 5"),
    (returning(None), "not None"),
    (returning(-errno.EIO), f"not {-errno.EIO}"),
    (returning(AOP_WRITEPAGE_ACTIVATE), f"not {AOP_WRITEPAGE_ACTIVATE}"),
]


@on_every_path
@pytest.mark.parametrize(("answer", "clause"), WRONG_ANSWERS, ids=[answer.__name__ for answer, _ in WRONG_ANSWERS])
def test_a_wrong_answer_is_told_to_its_reader(scene, path, answer, clause):
    """With the debug mode and without: nobody knows whose the lock is, so going on could hand out wrong bytes."""
    subject = scene.open({HERE: [answer]})
    assert_named(violation_of(subject, path), clause, "ScriptedOps.readpage of <Page 3+1 of ScriptedOps")
    assert_usable(subject)


def test_an_updated_page_that_is_locked_by_another_by_now(scene):
    """The index is locked, but that is another hold of the lock than the one that readpage was given."""
    others: list[Page] = []

    def handed_to_another(ops: ScriptedOps, page: Page) -> int:
        updated(ops, page)
        page.unlock()
        others.append(scene.start(page.mapping.lock_page, page.index).result())
        return AOP_UPDATED_PAGE

    subject = scene.open({HERE: [handed_to_another]})
    assert_named(violation_of(subject, PREAD), "AOP_UPDATED_PAGE with the page locked", "ScriptedOps.readpage")
    (other,) = others
    assert other.locked, "it is not ours to unlock"
    other.owner = scene.door.thread_id()  # handed over, as a fault does
    other.unlock()
    assert_usable(subject)


# -- reads that are ended wrongly ------------------------------------------------------------------


@on_every_path
def test_a_read_that_is_never_ended_is_told_to_its_reader(impatient, path):
    """readpage returned 0, and that was all: the reader hears of it instead of waiting for ever."""
    subject = impatient.open({HERE: [started]})
    assert_named(
        violation_of(subject, path), "a read that was started is ended (waited 0.05 s)", "ScriptedOps.readpage"
    )
    page = subject.ops.started_page(HERE)
    assert (page.locked, page.owner, page.waiter_count) == (True, None, 0)
    assert subject.zone.reserved_pages == 0
    assert subject.mapping.arena.pins.spans() == []
    assert subject.file.pread(PAGE_SIZE, 0) == subject.content(0), "other pages are not concerned"
    subject.ops.complete(HERE)
    assert_usable(subject)
    assert len(subject.ops.calls_of(HERE)) == 1


def test_every_waiter_for_a_read_that_is_never_ended_is_told(impatient):
    """In line for the page or for its lock: nobody hangs, and nobody holds memory afterwards."""
    subject = impatient.open({HERE: [started]})
    tasks = [impatient.start(path.read_page, subject.another(), HERE) for path in (PREAD, RUN, RETRIED_FAULT)]
    for task in tasks:
        assert_named(task.error(), "a read that was started is ended", "ScriptedOps.readpage of <Page 3+1")
    assert subject.waiting_for(HERE) == 0
    assert subject.zone.reserved_pages == 0
    subject.ops.complete(HERE)
    assert_usable(subject)


def test_a_run_that_is_never_ended_is_told_to_its_reader(impatient):
    """The same for what readahead took."""
    subject = impatient.open(runs=[run_started])
    violation = impatient.start(subject.file.pread, 3 * PAGE_SIZE, 0).error()
    assert_named(violation, "a read that was started is ended", "ScriptedRunOps.readahead of <Page 0+3")
    subject.ops.complete(0)
    assert_usable(subject)


def test_a_slow_read_is_no_violation(impatient):
    """As long as readpage itself has not returned, it may take its time."""
    gate = impatient.gate()
    subject = impatient.open({HERE: [gated(gate, updated)]})
    reader = impatient.start(PREAD.read_page, subject, HERE)
    gate.wait_for_arrivals()
    waiter = impatient.start(PREAD.read_page, subject.another(), HERE)
    impatient.until(lambda: subject.waiting_for(HERE) == 1)
    page = subject.mapping.in_flight[HERE]
    again = page._waits[0]
    assert not again.waiter.wait(0.0)
    waits: list[int] = []
    real_wait = again.waiter.wait

    def counted(timeout_s: float | None = None) -> bool:
        waits.append(1)
        if len(waits) == 3:
            gate.open()
        return bool(real_wait(timeout_s))

    again.waiter.wait = counted
    assert waiter.result() == reader.result() == subject.content(HERE)
    assert len(waits) >= 3, "three times it waited too long, and went on waiting"
    assert_usable(subject)


def test_closing_a_cache_with_a_read_that_is_never_ended(impatient):
    """The last moment to say it; the cache is closed all the same."""
    cache = PageCache(64 * PAGE_SIZE)
    ops = ScriptedOps({0: [started]})
    file = cache.inode(ops, size_bytes=PAGE_SIZE).open()
    with pytest.raises(ContractViolation):
        file.pread(1, 0)
    with pytest.raises(ContractViolation) as raised:
        cache.close()
    assert_named(raised.value, "a read that was started is ended before the cache is closed", "ScriptedOps.readpage")
    with pytest.raises(ValueError, match="closed"):
        file.pread(1, 0)
    cache.close()
    ops.complete(0, OSError(errno.EIO, "late"))


def test_closing_a_cache_does_not_blame_a_store_for_what_it_was_not_asked_for(checked):
    """What stands in line behind the read that is not ended."""
    cache = PageCache(64 * PAGE_SIZE, debug=True)
    ops = ScriptedOps({0: [started]})
    ops.requests_max = 1
    file = cache.inode(ops, size_bytes=4 * PAGE_SIZE).open()
    file.advise("random")
    readers = [checked.start(file.pread, 1, 0)]
    ops.started_page(0)
    readers.append(checked.start(file.pread, 1, 2 * PAGE_SIZE))
    checked.until(lambda: file._mapping.device.queued_count == 1)
    with pytest.raises(ContractViolation) as raised:
        cache.close()
    assert "Page 0+1" in raised.value.operation
    assert "Page 2+1" not in raised.value.operation
    ops.complete(0)
    assert [type(reader.error()) for reader in readers] == [ValueError, ValueError], "closed"


@on_every_path
def test_a_read_that_is_ended_twice_by_readpage(scene, path):
    """The second end is told where it happens; the page was good after the first."""

    def ended_twice(ops: ScriptedOps, page: Page) -> int:
        completed(ops, page)
        return completed(ops, page)

    subject = scene.open({HERE: [ended_twice]})
    if path is RETRIED_FAULT or path.page_count > 1:
        violation = scene.start(PREAD.read_page, subject, HERE).error()
    else:
        violation = violation_of(subject, path)
    assert_named(violation, "", "<Page 3+1")
    assert_usable(subject)


def test_a_read_that_is_ended_twice_by_its_completion(scene):
    """In the thread that does it; the reader has its page, and nothing of it changes."""
    subject = scene.open({HERE: [started]})
    reader = scene.start(PREAD.read_page, subject, HERE)
    page = subject.ops.started_page(HERE)
    subject.ops.complete(HERE)
    assert reader.result() == subject.content(HERE)
    for error in (None, OSError(errno.EIO, "too late")):
        with pytest.raises(ContractViolation) as raised:
            page.end_read(error)
        assert_named(raised.value, "a read is ended exactly once", "<Page 3+1")
    with pytest.raises(ContractViolation) as raised:
        page.unlock()
    assert_named(raised.value, "a page is unlocked exactly once", "<Page 3+1")
    with pytest.raises(ContractViolation) as raised:
        page.set_uptodate()
    assert_named(raised.value, "a page is made Uptodate under its lock", "<Page 3+1")
    assert_usable(subject)


def test_a_read_that_is_ended_after_the_page_came_to_another(scene):
    """The late end is for a hold of the lock that is over: it does not unlock the page of the one who has it now."""
    subject = scene.open({HERE: [started]})
    reader = scene.start(PREAD.read_page, subject, HERE)
    page = subject.ops.started_page(HERE)
    subject.ops.complete(HERE)
    reader.result()
    mine = subject.mapping.lock_page(HERE)
    with pytest.raises(ContractViolation):
        page.end_read()
    assert mine.locked
    mine.unlock()
    assert_usable(subject)


def test_more_is_taken_of_a_run_than_it_has(scene):
    """Reader and run are released; the mistake is told, as it is no OSError."""

    def taken_twice(ops: ScriptedOps, rac: ReadaheadControl) -> None:
        page = rac.take()
        ops.fill(page)
        page.end_read()
        rac.take()

    subject = scene.open(runs=[taken_twice])
    with pytest.raises(ContractViolation) as raised:
        subject.file.pread(3 * PAGE_SIZE, 0)
    assert_named(raised.value, "readahead takes only the pages of its run", "ReadaheadControl.take")
    assert_usable(subject)


@on_every_path
@pytest.mark.parametrize("locked", [True, False], ids=["locked", "unlocked"])
def test_a_mistake_in_readpage_reaches_its_reader(scene, path, locked):
    """What is no OSError goes through unchanged, and the page is released, whatever the operation had done to it."""

    def mistaken(ops: ScriptedOps, page: Page) -> int:
        if not locked:
            page.unlock()
        raise ZeroDivisionError("in the store")

    subject = scene.open({HERE: [mistaken]})
    with pytest.raises(ZeroDivisionError, match="in the store"):
        path.read_page(subject, HERE)
    assert_usable(subject)


def test_a_mistake_in_readahead_reaches_its_reader(scene):
    """The pages that it took and those that it left are all released."""

    def mistaken(ops: ScriptedOps, rac: ReadaheadControl) -> None:
        rac.take(2)
        rac.take(1)
        raise ZeroDivisionError("in the store")

    subject = scene.open(runs=[mistaken])
    with pytest.raises(ZeroDivisionError, match="in the store"):
        subject.file.pread(5 * PAGE_SIZE, 0)
    assert_usable(subject)


# -- locks -----------------------------------------------------------------------------------------


def test_a_page_that_another_has_locked_is_not_unlocked(checked):
    """An operation lets go of a page that is not its own: it is told so, and the owner keeps the lock."""
    gate = checked.gate()
    subject = checked.open()
    owned: list[Page] = []

    def owner() -> None:
        owned.append(subject.mapping.lock_page(5))
        gate.pass_through()
        owned[0].unlock()

    def unlocks_another(ops: ScriptedOps, page: Page) -> int:
        page.mapping.in_flight[5].unlock()
        return updated(ops, page)

    task = checked.start(owner)
    gate.wait_for_arrivals()
    subject.ops.script(HERE, unlocks_another)
    assert_named(violation_of(subject, PREAD), "unlocked by the thread that locked it", "unlock of <Page 5+1")
    assert owned[0].locked
    assert HERE not in subject.mapping.in_flight
    gate.open()
    task.result()
    assert_usable(subject)


def test_page_locks_are_taken_in_ascending_order(checked):
    """Of one mapping: two threads that take them in different orders would wait for one another for ever."""
    cache = checked.cache(64)
    subject, other = checked.open(cache=cache), checked.open(cache=cache)
    held = subject.mapping.lock_page(HERE)
    for index in (HERE - 1, HERE):
        with pytest.raises(ContractViolation) as raised:
            subject.mapping.lock_page(index)
        assert_named(raised.value, "page locks of a mapping are taken in ascending order", f"lock_page({index})")
        assert "<Page 3+1" in raised.value.operation
    higher = subject.mapping.lock_page(HERE + 1)
    elsewhere = other.mapping.lock_page(0)
    for page in (elsewhere, higher, held):
        page.unlock()
    checked.start(lambda: subject.mapping.lock_page(HERE - 1).unlock()).result()
    assert_usable(subject)
    assert_usable(other)


def test_a_fault_inside_a_fault_is_out_of_order(checked):
    """The same where a path takes the locks: a thread that holds the page of one fault faults on one before it."""
    subject = checked.open()
    subject.file.read()

    def two_faults() -> None:
        upper = Fault(subject.open_file, 5, RecordedLock())
        assert filemap.fault(upper) == FaultResult.LOCKED
        subject.file.advise("dontneed", 0, PAGE_SIZE)
        try:
            filemap.fault(Fault(subject.open_file, 0, RecordedLock()))
        finally:
            assert upper.page is not None
            upper.page.unlock()

    assert_named(checked.start(two_faults).error(), "in ascending order", "lock_page(0)")
    assert_usable(subject)


def test_the_zones_lock_is_a_leaf(checked):
    """Whoever holds it takes no page lock, waits for nobody, and does not take it again."""
    subject = checked.open({HERE: [started]})
    with pytest.raises(ContractViolation) as raised, subject.zone.lock:
        subject.mapping.lock_page(0)
    assert_named(raised.value, "nobody waits under zone.lock", "lock_page(0)")
    with pytest.raises(ContractViolation) as raised, subject.zone.lock, subject.zone.lock:
        pass
    assert_named(raised.value, "each once", "taken under itself")
    reader = checked.start(PREAD.read_page, subject, HERE)
    page = subject.ops.started_page(HERE)
    checked.until(lambda: page.waiter_count == 1)
    with pytest.raises(ContractViolation) as raised, subject.zone.lock:
        wait = page.join(HERE, checked.door.waiter, wants_lock=False)
        assert subject.zone.checks is not None
        try:
            subject.zone.checks.watched(wait)
        finally:
            page.leave(wait)
    assert_named(raised.value, "nobody waits under zone.lock", "wait for page 3")
    subject.ops.complete(HERE)
    assert reader.result() == subject.content(HERE)
    assert_usable(subject)


# -- pages that are written to after they were released --------------------------------------------


def writes_later(kept: list[memoryview]) -> Answer:
    """Brings the page and keeps a part of its buffer, which Python cannot take away."""

    def answer(ops: ScriptedOps, page: Page) -> int:
        kept.append(page.buffer[100:110])
        return updated(ops, page)

    return answer


@pytest.mark.parametrize("seen_by", ["lock", "invalidation", "eviction", "drop"])
def test_a_page_that_was_written_to_after_its_release(checked, seen_by):
    """By a store that kept its memory: it is told when the page is next locked or removed, and the page is gone or
    can be."""
    kept: list[memoryview] = []
    subject = checked.open({HERE: [writes_later(kept)]}, cap_pages=16, page_count=32)
    assert subject.file.pread(PAGE_SIZE, HERE * PAGE_SIZE) == subject.content(HERE)
    kept[0][0] ^= 0xFF
    with pytest.raises(ContractViolation) as raised:
        if seen_by == "lock":
            subject.mapping.lock_page(HERE)
        elif seen_by == "invalidation":
            truncate.invalidate_inode_pages2(subject.mapping, 0, 8)
        elif seen_by == "drop":
            subject.file.advise("dontneed")
        else:
            with subject.zone.lock:
                reclaim.shrink(subject.zone, 16)
    assert_named(raised.value, "a page is not written to after it was released", "ScriptedOps of <Page 3+1")
    kept[0].release()
    assert subject.mapping.in_flight == {}
    subject.assert_at_rest(*subject.uptodate())
    truncate.invalidate_inode_pages2(subject.mapping, 0, 8)
    assert_usable(subject)


def test_pages_that_nobody_wrote_to_pass(checked):
    """No false alarm: short pages, evicted and read again, locked and unlocked, resized, dirtied by their writer."""
    subject = checked.open(size_bytes=7 * PAGE_SIZE + 9, cap_pages=4)
    for _ in range(3):
        assert subject.file.pread(8 * PAGE_SIZE, 0) == subject.content(0, 8)
    subject.mapping.lock_page(7).unlock()
    subject.inode.resize(7 * PAGE_SIZE + 3)
    subject.inode.resize(8 * PAGE_SIZE)
    assert subject.file.pread(PAGE_SIZE, 7 * PAGE_SIZE) == subject.content(7)
    frame = subject.mapping.base + 7
    subject.mapping.arena.dirty[frame] = 1
    subject.mapping.arena.memory[frame * PAGE_SIZE] ^= 0xFF
    subject.mapping.lock_page(7).unlock()
    subject.mapping.arena.dirty[frame] = 0
    truncate.invalidate_inode_pages2(subject.mapping, 0, 8)
    assert_usable_small(subject)


def assert_usable_small(subject: Subject) -> None:
    assert subject.file.pread(8 * PAGE_SIZE, 0) == subject.content(0, 8)
    subject.assert_at_rest(*subject.uptodate())


@on_every_path
def test_a_buffer_that_is_still_exported_when_the_page_is_released(checked, path):
    """By an object over it (an array, say), which could be written through later; told at once, the page released."""
    kept: list[pickle.PickleBuffer] = []

    def exports(ops: ScriptedOps, page: Page) -> int:
        kept.append(pickle.PickleBuffer(page.buffer))
        return updated(ops, page)

    subject = checked.open({HERE: [exports]})
    assert_named(violation_of(subject, path), "page.buffer is not kept beyond the page's lock", "<Page 3+1")
    assert subject.mapping.in_flight == {}, "else all who come later hang"
    for buffer in kept:
        buffer.release()
    truncate.invalidate_inode_pages2(subject.mapping, 0, 8)
    assert_usable(subject)


def test_without_checks_a_buffer_that_is_still_exported_harms_nobody():
    """It costs nothing to allow; the memory is the page's own."""
    kept: list[pickle.PickleBuffer] = []

    def exports(ops: ScriptedOps, page: Page) -> int:
        kept.append(pickle.PickleBuffer(page.buffer))
        return updated(ops, page)

    with Scene(debug=False) as scene:
        subject = scene.open({HERE: [exports]})
        assert PREAD.read_page(subject, HERE) == subject.content(HERE)
        assert_usable(subject)


# -- switching it on -------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["", "0"])
def test_it_is_off_unless_switched_on(monkeypatch, value):
    """Nothing is checked that costs anything."""
    monkeypatch.setenv("PAGEIN_DEBUG", value)
    with PageCache(PAGE_SIZE) as cache:
        assert cache._zone.checks is None
    monkeypatch.delenv("PAGEIN_DEBUG")
    with PageCache(PAGE_SIZE) as cache:
        assert cache._zone.checks is None


def test_the_argument_wins_over_the_environment(monkeypatch):
    """Both ways."""
    monkeypatch.setenv("PAGEIN_DEBUG", "1")
    with PageCache(PAGE_SIZE, debug=False) as cache:
        assert cache._zone.checks is None
    with PageCache(PAGE_SIZE) as cache:
        assert isinstance(cache._zone.checks, Checks)
    monkeypatch.setenv("PAGEIN_DEBUG", "0")
    with PageCache(PAGE_SIZE, debug=True) as cache:
        assert isinstance(cache._zone.checks, Checks)


def test_the_time_limit_is_long_unless_it_is_set(monkeypatch):
    """Half a minute; a store that is slower says so."""
    monkeypatch.delenv("PAGEIN_DEBUG_READ_TIMEOUT_S", raising=False)
    with PageCache(PAGE_SIZE, debug=True) as cache:
        assert cache._zone.checks is not None
        assert cache._zone.checks.read_timeout_s == READ_TIMEOUT_S == 30.0
    monkeypatch.setenv("PAGEIN_DEBUG_READ_TIMEOUT_S", "2.5")
    with PageCache(PAGE_SIZE, debug=True) as cache:
        assert cache._zone.checks is not None
        assert cache._zone.checks.read_timeout_s == 2.5
