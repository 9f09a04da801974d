"""The lock order is asserted with checks: what breaks it is named before it can hang, with both stacks."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial

import pytest
from tests.contract.harness import Scene, Subject
from tests.forking import in_child

from pagein import PageCache
from pagein.errors import ContractViolation
from pagein.mm import held
from pagein.mm.debug import before_wait, called, having
from pagein.mm.locking import FSYNC, LAUNDER_PAGE, PUNCH_HOLE, SET_SIZE
from pagein.mm.lockorder import (
    BUSY,
    BUSY_LOCK,
    CLOSE_TURN,
    DIRTY_LOCK,
    DIRTY_ROOM,
    I_RWSEM,
    LATE_TURN,
    LOOK,
    LOOKS_LOCK,
    MEMORY,
    POSITION,
    SOURCE_TURN,
    TABLE_LOCK,
    TEXTS_TURN,
    TURNS_LOCK,
    ZONE_LOCK,
    Rank,
)
from pagein.mm.page import Page
from pagein.mm.sync import OwnedLock, run_steps
from pagein.testing.stores import ScriptedOps, started, updated
from pagein.units import PAGE_SIZE


@pytest.fixture
def checked() -> Iterator[Scene]:
    with Scene(debug=True) as scene:
        yield scene


def assert_found(violation: BaseException, *named: str, stacks: int = 2) -> None:
    """It names these, and shows where the one was taken and where the other was to be: both in this file."""
    assert isinstance(violation, ContractViolation)
    for name in named:
        assert name in str(violation)
    assert violation.stacks.count("here:") == stacks
    for shown in violation.stacks.split("here:")[1:]:
        assert __file__ in shown
    assert str(pickle.loads(pickle.dumps(violation))) == str(violation)
    assert held.holds_here() == [], "nothing is left behind"


SHORT = [ZONE_LOCK, DIRTY_LOCK, TABLE_LOCK, TURNS_LOCK, BUSY_LOCK, LOOKS_LOCK]
TURNS = [CLOSE_TURN, TEXTS_TURN, SOURCE_TURN, LATE_TURN]
WAITS = [MEMORY, DIRTY_ROOM, BUSY]
TAKEN = [*SHORT, *TURNS, I_RWSEM, POSITION, LOOK]


def lock(subject: Subject, rank: Rank) -> AbstractContextManager[object]:
    """Every lock of a cache but that of a page."""
    table, zone = subject.cache._table, subject.zone
    if rank in TURNS:
        return table.turns.turn(rank, "it")
    if rank is I_RWSEM:
        return subject.mapping.i_rwsem.exclusive()
    if rank is LOOK:
        run_steps(table.looks.begin_steps("it", table.looks.count, zone.door.waiter))
        stack = ExitStack()
        stack.enter_context(having(zone, LOOK, "it"))
        stack.callback(lambda: table.looks.end("it", table.looks._under_way["it"], None))
        return stack
    return {
        TABLE_LOCK: table.lock,
        ZONE_LOCK: zone.lock,
        DIRTY_LOCK: subject.mapping.dirty_lock,
        TURNS_LOCK: table.turns._lock,
        BUSY_LOCK: table.behind._lock,
        LOOKS_LOCK: table.looks._lock,
        POSITION: subject.file._lock,
    }[rank]


def take(subject: Subject, rank: Rank) -> None:
    """Take it, and give it back."""
    if rank in WAITS:
        before_wait(subject.zone, rank)
    else:
        with lock(subject, rank):
            pass


@pytest.mark.parametrize("first", TAKEN, ids=lambda rank: rank.name)
def test_locks_are_taken_in_the_order_of_the_tree_only(checked, first):
    """All pairs: those that the tree has pass, the others are found before the second is taken."""
    subject = checked.open()
    for then in TAKEN + WAITS:
        if then in first.all_below or first is then in (DIRTY_LOCK, POSITION):
            with lock(subject, first):
                take(subject, then)
        else:
            with pytest.raises(ContractViolation) as raised, lock(subject, first):
                take(subject, then)
            assert_found(raised.value, first.name, then.name)
    for rank in TAKEN:  # and all of them are free
        take(subject, rank)


def test_nothing_but_the_zone_s_lock_and_below_is_taken_under_a_page_lock(checked):
    """i_rwsem under a page lock is what a deadlock with a truncation is made of."""
    subject = checked.open()
    for rank in (I_RWSEM, TABLE_LOCK, POSITION, LOOK, MEMORY, *TURNS):
        page = subject.mapping.lock_page(3)
        with pytest.raises(ContractViolation) as raised:
            take(subject, rank)
        page.unlock()
        assert_found(raised.value, "<Page 3+1", rank.name)
    with subject.zone.lock, subject.mapping.dirty_lock:
        pass


def test_a_page_lock_that_was_handed_over_is_its_new_owner_s(checked):
    """In line for it, and granted by who unlocks: from then on it counts, with the stack of who has got it."""
    subject = checked.open()
    first = subject.mapping.lock_page(3)

    def waits() -> None:
        page = subject.mapping.lock_page(3)
        try:
            with subject.mapping.i_rwsem.exclusive():
                pass
        finally:
            page.unlock()

    task = checked.start(waits)
    checked.until(lambda: subject.waiting_for(3) == 1)
    first.unlock()
    assert_found(task.error(), "<Page 3+1", "mapping.i_rwsem")


def test_page_locks_of_two_files_are_taken_in_one_order(checked):
    """By whomever, whenever: the second order is found though nobody waits for anybody, and both are shown."""
    cache = checked.cache(64)
    one, two = checked.open(cache=cache), checked.open(cache=cache)

    def lock_both(first: Subject, then: Subject) -> None:
        page = first.mapping.lock_page(0)
        try:
            then.mapping.lock_page(5).unlock()
        finally:
            page.unlock()

    for _ in range(2):
        checked.start(lock_both, one, two).result()
    assert_found(checked.start(lock_both, two, one).error(), "one order", "lock_page(5)", "<Page 0+1", stacks=4)


def test_i_rwsem_is_not_taken_under_another_s_or_its_own(checked):
    cache = checked.cache(64)
    one, two = checked.open(cache=cache), checked.open(cache=cache)
    for other in (one, two):
        second = other.mapping.i_rwsem.exclusive()
        with pytest.raises(ContractViolation) as raised, one.mapping.i_rwsem.exclusive(), second:
            pass
        assert_found(raised.value, "mapping.i_rwsem")
        assert not one.mapping.i_rwsem.held
        assert not two.mapping.i_rwsem.held


def test_locks_of_two_caches_are_not_taken_under_one_another(checked):
    one, two = checked.open(), checked.open()
    for rank in (ZONE_LOCK, DIRTY_LOCK, TABLE_LOCK, I_RWSEM, LATE_TURN):
        with pytest.raises(ContractViolation) as raised, lock(one, rank):
            take(two, rank)
        assert_found(raised.value, rank.name)


def test_i_rwsem_may_be_released_by_another_thread(checked):
    """Steps go on where they are woken: what they hold is no thread's.  Of one that was a thread's nothing stays."""
    subject = checked.open()
    semaphore, own = subject.mapping.i_rwsem, subject.zone.door.waiter
    for make_waiter, is_counted in ((partial(own), False), (own, True)):
        run_steps(semaphore.acquire_steps(make_waiter))
        assert bool(held.holds_here()) == is_counted
        checked.start(semaphore.release).result()
        assert not semaphore.held
        with subject.cache._table.turns.turn(CLOSE_TURN):
            pass


def test_a_store_that_reads_through_the_cache_is_not_compared_with_its_caller(checked):
    """In its operation it takes locks that its caller could not, with that page locked."""
    lower = checked.open()
    opened: list[bytes] = []

    def reads_below(ops: ScriptedOps, page: Page) -> int:
        with lower.cache.inode(lower.ops, size_bytes=8 * PAGE_SIZE).open() as file:
            opened.append(file.pread(PAGE_SIZE, 0))
        with lower.mapping.i_rwsem.exclusive():
            pass
        lower.mapping.lock_page(1).unlock()
        return updated(ops, page)

    upper = checked.open({3: [reads_below]})
    assert upper.file.pread(PAGE_SIZE, 3 * PAGE_SIZE) == upper.content(3)
    assert opened == [lower.content(0)]


def test_a_store_takes_any_lock_of_another_cache_whatever_its_caller_holds(checked):
    subject, lower = checked.open(), checked.open()

    def operation() -> None:
        for rank in TAKEN + WAITS:
            take(lower, rank)

    with subject.mapping.i_rwsem.exclusive():
        called(PUNCH_HOLE, subject.zone, operation, mapping=subject.mapping)()
    with pytest.raises(ContractViolation), subject.mapping.i_rwsem.exclusive():
        operation()


def reading(files: list[Subject], number: int, index: int) -> Callable[[ScriptedOps, Page], int]:
    """A store's answer for which it reads a page of a file of the same cache."""

    def answer(ops: ScriptedOps, page: Page) -> int:
        files[number].file.pread(PAGE_SIZE, index * PAGE_SIZE)
        return updated(ops, page)

    return answer


def read(subject: Subject, index: int) -> bytes:
    return subject.file.pread(PAGE_SIZE, index * PAGE_SIZE)


def test_stores_that_read_each_other_s_files_are_found_before_they_meet(checked):
    """Each would wait for a page that the other has locked: by way of a third file, too."""
    cache = checked.cache(64)
    files: list[Subject] = []
    for number in range(3):
        files.append(checked.open({number: [reading(files, (number + 1) % 3, 4 + number)]}, cache=cache))
    for number in range(2):
        assert checked.start(read, files[number], number).result() == files[number].content(number)
    assert_found(checked.start(read, files[2], 2).error(), "one order", "a read of page 6 of", "<Page 2+1", stacks=6)
    assert checked.start(read, files[2], 2).result() == files[2].content(2), "the page was let go"


def test_a_store_that_needs_the_very_page_that_it_reads_is_found(checked):
    """It would wait for itself."""
    files: list[Subject] = []
    files.append(checked.open({3: [reading(files, 0, 3)]}))
    assert_found(checked.start(read, files[0], 3).error(), "ascending order, each once", "a read of page 3 of")


def test_a_store_may_read_another_page_of_its_own_file(checked):
    """Its header, say, which needs nothing itself: no false alarm, before it and behind."""
    files: list[Subject] = []
    files.append(checked.open({3: [reading(files, 0, 0)], 4: [reading(files, 0, 7)]}))
    for index in (3, 4):
        assert checked.start(read, files[0], index).result() == files[0].content(index)


def test_a_page_that_another_thread_ends_is_nobody_s_then(checked):
    """Locked by a reader, asked for, and ended by a completion: whoever had it may take what he likes."""
    subject = checked.open({3: [started]})

    def reads() -> None:
        assert read(subject, 3) == subject.content(3)
        with subject.mapping.i_rwsem.exclusive():
            pass

    reader = checked.start(reads)
    checked.until(lambda: subject.waiting_for(3) == 1)
    checked.start(subject.ops.complete, 3).result()
    reader.result()


def test_a_signal_handler_may_use_another_file_than_the_one_that_it_interrupts(checked):
    one, two = checked.open(), checked.open()
    with one.file._lock:
        assert two.file.read(PAGE_SIZE) == two.content(0)
        assert one.file.read(PAGE_SIZE) == one.content(0)


def test_in_a_child_of_a_fork_nothing_is_held(checked):
    """Its thread has left with the parent what it had locked there; and what others had, who stayed."""
    subject = checked.open()
    page, has_order, may_go_on = subject.mapping.lock_page(3), threading.Event(), threading.Event()

    def note_order() -> None:
        with held._orders_lock:
            has_order.set()
            assert may_go_on.wait(10)

    task = checked.start(note_order)
    assert has_order.wait(10)

    def check() -> None:
        assert held.holds_here() == held.callers_pages() == []
        with subject.cache._table.turns.turn(CLOSE_TURN), subject.mapping.i_rwsem.exclusive():
            subject.mapping.lock_page(5).unlock()
        assert read(subject, 3) == subject.content(3)

    in_child(check)
    may_go_on.set()
    task.result()
    page.unlock()


def test_the_very_same_lock_is_found_across_an_operation(checked):
    """A store that writes to the file whose hole it makes would wait for itself."""
    subject = checked.open()
    zone, mapping = subject.zone, subject.mapping

    def operation() -> None:
        with mapping.i_rwsem.exclusive():
            pass

    with pytest.raises(ContractViolation) as raised, mapping.i_rwsem.exclusive():
        called(PUNCH_HOLE, zone, operation, mapping=mapping)()
    assert_found(raised.value, "taken under itself")


@pytest.mark.parametrize("rank", SHORT, ids=lambda rank: rank.name)
def test_no_store_is_called_under_a_short_lock(checked, rank):
    subject = checked.open()
    with pytest.raises(ContractViolation) as raised, lock(subject, rank):
        called(FSYNC, subject.zone, lambda: pytest.fail("called"), mapping=subject.mapping)()
    assert_found(raised.value, "no store is called under", rank.name, "ScriptedOps.fsync")


def test_an_operation_is_called_with_what_the_table_says(checked):
    """Its own pages locked, and no others; i_rwsem; nothing under write-back."""
    subject = checked.open()
    zone, mapping = subject.zone, subject.mapping
    page, other = mapping.lock_page(3), mapping.lock_page(4)
    for operation, own, clause in (
        (FSYNC, None, "fsync is called with its own pages locked, and no other"),
        (LAUNDER_PAGE, page, "launder_page is called with its own pages locked, and no other"),
    ):
        with pytest.raises(ContractViolation, match=clause):
            called(operation, zone, lambda: None, mapping=mapping, page=own)()
    other.unlock()
    called(LAUNDER_PAGE, zone, lambda: None, mapping=mapping, page=page)()
    page.unlock()
    with pytest.raises(ContractViolation, match="launder_page is called with its pages locked by the calling thread"):
        called(LAUNDER_PAGE, zone, lambda: None, mapping=mapping, page=page)()
    with pytest.raises(ContractViolation, match="punch_hole is called with i_rwsem held"):
        called(PUNCH_HOLE, zone, lambda: None, mapping=mapping)()
    mapping.under_writeback = {5: None}
    with pytest.raises(ContractViolation, match="none of its pages under write-back"):
        called(SET_SIZE, zone, lambda: None, mapping=mapping, not_stored=range(5, 8))()
    called(SET_SIZE, zone, lambda: None, mapping=mapping, not_stored=range(6, 8))()
    del mapping.under_writeback[5]


def test_a_signal_in_a_checked_dirty_lock_leaves_it_free(checked, monkeypatch):
    """Of a handler that raises where the lock has just been taken."""
    subject = checked.open()
    dirty_lock = subject.mapping.dirty_lock

    class Interrupted(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(held, "taken", interrupt)
        with pytest.raises(Interrupted), dirty_lock:
            pass
    checked.start(take, subject, DIRTY_LOCK).result()


def test_without_checks_the_locks_are_as_they_were():
    """They cost nothing: there is nobody to ask."""
    with PageCache(64 * PAGE_SIZE, debug=False) as cache:
        inode = cache.inode(ScriptedOps(), size_bytes=PAGE_SIZE)
        assert type(cache._zone.lock) is type(cache._table.lock) is OwnedLock
        with inode.open() as file:
            assert type(inode.mapping.dirty_lock) is type(file._lock) is type(threading.RLock())
