"""Items 52 to 55 and 57 to 59: what write-back hands to the store, and what becomes of each page."""

from __future__ import annotations

import errno
import pickle
from collections.abc import Callable

import pytest
from tests.contract.writing import Written, open_written

from pagein.errors import ContractViolation
from pagein.mm import truncate, walk
from pagein.mm.aops import AOP_WRITEPAGE_ACTIVATE
from pagein.mm.page import Page
from pagein.mm.writeback import Declined, Sync, WritebackControl, write_back
from pagein.testing.stores import Gate, pattern
from pagein.testing.writable import (
    StoreAnswer,
    WritableOps,
    WritableRunOps,
    activated,
    redirtied,
    run_store_short,
    run_store_started,
    run_stored,
    store_failed,
    store_failing,
    store_gated,
    store_started,
    stored,
    stored_under_lock,
)
from pagein.units import PAGE_SHIFT, PAGE_SIZE

HERE = 3
SIZE = 8 * PAGE_SIZE
FULL = OSError(errno.ENOSPC, "full")
SCATTERED = range(0, 8, 2)


@pytest.fixture(params=["plain", "debug", "blocking"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def written(scene, stores=None, *, pages=range(5), size: int = SIZE) -> tuple[Written, bytes]:
    """A file of which *pages* are dirty, and what it is then."""
    subject = open_written(scene, lambda size: WritableOps(size, stores), size_bytes=size)
    for index in pages:
        subject.file.pwrite(bytes([65 + index]) * PAGE_SIZE, index << PAGE_SHIFT)
    return subject, subject.read_all()


# -- one page ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [stored, stored_under_lock], ids=["stored", "stored under the lock"])
def test_a_page_is_handed_over_locked_uptodate_and_clean(scene, answer: StoreAnswer):
    flags: list[tuple[bool, bool, int]] = []

    def noted(ops: WritableOps, page: Page, wbc: WritebackControl) -> int:
        run = page.run
        flags.append((page.locked, page.uptodate, run.arena.dirty[run.frame]))
        return answer(ops, page, wbc)

    subject, expected = written(scene, {HERE: [noted]}, pages=[HERE])
    subject.file.fsync()
    assert flags == [(True, True, 0)]
    assert subject.ops.done == [("store", HERE << PAGE_SHIFT, PAGE_SIZE), ("fsync", 0, 0)]
    subject.assert_clean(expected)


def test_a_page_that_is_stored_late_is_under_write_back_until_then(scene):
    """It is neither locked nor evicted; who reads it does not wait."""
    subject, expected = written(scene, {HERE: [store_started]}, pages=[HERE])
    fsync = scene.start(subject.file.fsync)
    page = subject.ops.started_store(HERE)
    scene.until(lambda: fsync.thread_id in scene.door.waiting)
    assert (page.locked, subject.dirty(), list(subject.mapping.under_writeback)) == (False, [], [HERE])
    truncate.invalidate_mapping_pages(subject.mapping, 0, 8)
    assert subject.uptodate() == [HERE]
    assert subject.file.pread(PAGE_SIZE, HERE << PAGE_SHIFT) == expected[HERE << PAGE_SHIFT :][:PAGE_SIZE]
    subject.assert_consistent()
    assert fsync.running
    subject.ops.complete_store(HERE)
    fsync.result()
    subject.assert_clean(expected)


def test_item_53_what_lies_behind_the_end_is_stored_as_nothing_and_comes_back_as_zeros(scene):
    """At each write-back.  There is no shared memory map to store through; an interrupted write leaves the same."""
    size = HERE * PAGE_SIZE + 100
    subject, expected = written(scene, pages=[], size=size)
    for data in (b"one", b"two"):
        subject.file.pwrite(data, size - 3)
        subject.put_beyond_end(b"garbage" * 100)
        expected = expected[:-3] + data
        subject.fsync_and_assert_clean(expected)
        assert subject.frame(HERE)[100:] == bytes(PAGE_SIZE - 100)
    subject.file.pwrite(b"end", size - 3)
    subject.put_beyond_end(b"garbage" * 100)
    subject.file.truncate(size + 1000)
    assert subject.file.pread(2000, size) == bytes(1000)
    subject.fsync_and_assert_clean(expected[:-3] + b"end" + bytes(1000))


# -- writes meanwhile ------------------------------------------------------------------------------------------


def test_item_54_a_page_that_becomes_dirty_while_it_is_stored_is_stored_again(scene):
    """It is dirty and under write-back at once; an fsync that begins then waits for both."""
    subject, _ = written(scene, {HERE: [store_started, store_started]}, pages=[HERE])
    first = scene.start(subject.file.fsync)
    page = subject.ops.started_store(HERE)
    subject.file.pwrite(b"again", HERE << PAGE_SHIFT)
    assert (subject.dirty(), list(subject.mapping.under_writeback)) == ([HERE], [HERE])
    second = scene.start(subject.file.fsync)
    scene.until(lambda: second.thread_id in scene.door.waiting)
    assert len([call for call in subject.ops.calls if call.operation == "writepage"]) == 1
    subject.ops.complete_store(HERE)
    again = subject.ops.started_store(HERE)
    assert again is not page
    assert second.running
    subject.ops.complete_store(HERE)
    first.result()  # it may have waited for the second one's, too: it cannot tell that its page was not stored by it
    second.result()
    assert subject.ops.stored_pages() == [HERE, HERE]
    assert subject.file.pread(5, HERE << PAGE_SHIFT) == b"again"
    subject.assert_clean()


def test_item_54_it_is_still_dirty_when_the_first_write_back_has_ended(scene):
    subject, _ = written(scene, {HERE: [store_started]}, pages=[HERE])
    first = scene.start(subject.file.fsync)
    subject.ops.started_store(HERE)
    subject.file.pwrite(b"again", HERE << PAGE_SHIFT)
    subject.ops.complete_store(HERE)
    first.result()
    subject.assert_dirty(HERE)
    subject.fsync_and_assert_clean()
    assert subject.ops.stored_pages() == [HERE, HERE]


def test_item_54_a_page_that_was_stored_in_vain_and_written_to_meanwhile_counts_once(scene):
    subject, _ = written(scene, {HERE: [store_started]}, pages=[HERE])
    first = scene.start(subject.file.fsync)
    subject.ops.started_store(HERE)
    subject.file.pwrite(b"again", HERE << PAGE_SHIFT)
    subject.ops.complete_store(HERE, FULL)
    with pytest.raises(OSError, match="full"):
        first.result()
    subject.assert_dirty(HERE)
    assert subject.mapping.dirty_bytes == PAGE_SIZE
    subject.fsync_and_assert_clean()


@pytest.mark.parametrize("pages", [1, 5])
def test_item_55_fsync_ends_though_every_page_is_written_to_while_it_is_stored(scene, pages):
    def rewritten(ops: WritableOps, page: Page, wbc: WritebackControl) -> int:
        page.set_writeback()
        page.unlock()
        scene.start(subject.file.pwrite, b"again", page.offset).result()
        ops.keep(page)
        page.end_writeback()
        return 0

    stores: dict[int, list[StoreAnswer]] = {index: [rewritten] * 10 for index in range(pages)}
    subject, _ = written(scene, stores, pages=range(pages))
    subject.file.fsync()
    assert subject.ops.stored_pages() == list(range(pages))
    subject.assert_dirty(*range(pages))
    for index in range(pages):
        subject.ops._store_rows[index].clear()
    subject.fsync_and_assert_clean()


def test_item_55_what_becomes_dirty_behind_the_walk_is_not_chased(scene):
    """The pages that were dirty when it began, and no others."""

    def extended(ops: WritableOps, page: Page, wbc: WritebackControl) -> int:
        scene.start(subject.file.pwrite, b"x" * PAGE_SIZE, page.offset + 2 * PAGE_SIZE).result()
        return stored(ops, page, wbc)

    subject, _ = written(scene, {0: [extended], 2: [extended], 4: [extended]}, pages=[0])
    subject.file.fsync()
    assert subject.ops.stored_pages() == [0]
    subject.assert_dirty(2)
    subject.ops._store_rows.clear()
    subject.fsync_and_assert_clean()


# -- errors of single pages --------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [store_failing(FULL), store_failed(FULL)], ids=["raises", "ends with it"])
def test_item_57_all_pages_are_attempted_and_the_first_error_is_told(scene, answer):
    """In Linux the page that failed counts as clean afterwards, and what was in it is lost; here it stays dirty."""
    later = OSError(errno.EIO, "full, later")
    subject, expected = written(scene, {2: [answer], 4: [store_failing(later)]})
    with pytest.raises(OSError, match="full"):
        subject.file.fsync()
    assert [call.index for call in subject.ops.calls if call.operation == "writepage"] == [0, 1, 2, 3, 4]
    assert subject.ops.done == [("store", index << PAGE_SHIFT, PAGE_SIZE) for index in (0, 1, 3)]
    subject.assert_dirty(2, 4)
    subject.fsync_and_assert_clean(expected)
    stored, in_order = subject.ops.stored_pages(), [0, 1, 3, 2, 4]
    # Workers store the last two side by side; who does not block is called in order.
    assert stored == in_order or (subject.ops.blocking and stored == [0, 1, 3, 4, 2])


def test_item_57_an_error_that_comes_late(scene):
    subject, expected = written(scene, {2: [store_started]})
    fsync = scene.start(subject.file.fsync)
    subject.ops.wait_for_done(4)
    subject.ops.complete_store(2, FULL)
    with pytest.raises(OSError, match="full"):
        fsync.result()
    subject.assert_dirty(2)
    subject.fsync_and_assert_clean(expected)


def test_item_57_write_back_for_room_ends_at_the_first_error(scene):
    """Sync.NONE: what comes after it is not attempted, and stays dirty."""
    subject, expected = written(scene, {2: [store_failing(FULL)]})
    assert subject.write_back(Sync.NONE) is FULL
    assert subject.ops.stored_pages() == [0, 1]
    subject.assert_dirty(2, 3, 4)
    with pytest.raises(OSError, match="full"):
        subject.file.fsync()
    subject.assert_clean(expected)


@pytest.mark.parametrize("after_pages", [0, 2])
def test_item_57_a_run_that_fails_in_its_midst(scene, after_pages):
    """What of it was stored is clean, what was taken and what was not are dirty again."""

    def answer(ops: WritableOps, wbc: WritebackControl) -> None:
        if after_pages:
            run_store_short(after_pages)(ops, wbc)
        page = wbc.take(2)
        page.set_writeback()
        page.unlock()
        raise FULL.with_traceback(None)

    subject = open_written(scene, lambda size: WritableRunOps(size, [answer]))
    subject.file.pwrite(b"x" * 5 * PAGE_SIZE, 0)
    expected = subject.read_all()
    with pytest.raises(OSError, match="full"):
        subject.file.fsync()
    subject.assert_dirty(*range(after_pages, 5))
    subject.fsync_and_assert_clean(expected)


@pytest.mark.parametrize("error", [None, FULL], ids=["stored", "failed"])
def test_item_57_fsync_waits_for_every_piece_of_a_run(scene, error: OSError | None):
    """And if one fails, whichever, it makes nothing durable."""

    def answer(ops: WritableOps, wbc: WritebackControl) -> None:
        for page in wbc:
            store_started(ops, page, wbc)

    subject = open_written(scene, lambda size: WritableRunOps(size, [answer]))
    subject.file.pwrite(b"x" * 3 * PAGE_SIZE, 0)
    expected = subject.read_all()
    fsync = scene.start(subject.file.fsync)
    subject.ops.started_store(2)
    (begun,) = set(subject.mapping.under_writeback.values())
    scene.until(lambda: len(begun._waiters) == 1)
    subject.ops.complete_store(0, error)
    assert len(begun._waiters) == 1, "two pieces are on their way"
    subject.ops.complete_store(1)
    subject.ops.complete_store(2)
    if error is None:
        fsync.result()
        assert [operation for operation, _, _ in subject.ops.done] == ["store", "store", "store", "fsync"]
    else:
        assert fsync.error() is not error
        assert subject.ops.stored_pages() == [1, 2]
        assert ("fsync", 0, 0) not in subject.ops.done
        subject.assert_dirty(0)
    subject.fsync_and_assert_clean(expected)


def test_a_mark_on_a_page_that_has_gone_is_no_dirty_page(scene):
    """A write that goes the short way sets it first, looks then, and is about to take it off again."""
    subject, expected = written(scene, pages=[])
    arena, frame = subject.mapping.arena, subject.mapping.base + 1
    subject.file.advise("dontneed")
    with subject.zone.lock:
        arena.dirty[frame] = 1
        assert subject.mapping.take_dirty(1, 1) == 0
        arena.dirty[frame] = 0
    subject.assert_clean(expected)


def test_a_dirty_file_is_not_suspended(scene):
    subject, expected = written(scene)
    assert not subject.mapping.suspend()
    subject.fsync_and_assert_clean(expected)


def test_item_57_fsync_does_not_make_durable_what_is_not_whole(scene):
    """Neither when its own write-back fails..."""
    subject, expected = written(scene, {2: [store_failing(FULL)]})
    with pytest.raises(OSError, match="full"):
        subject.file.fsync()
    assert ("fsync", 0, 0) not in subject.ops.done
    subject.fsync_and_assert_clean(expected)


def test_item_57_fsync_does_not_make_durable_what_another_has_failed_to_store(scene):
    """...nor when it has waited for another's, which failed: a store of whole objects would make half of it visible."""
    subject, expected = written(scene, {2: [store_started]})
    other = scene.start(subject.write_back, Sync.NONE)
    subject.ops.started_store(2)
    subject.ops.wait_for_done(4)
    fsync = scene.start(subject.file.fsync)
    scene.until(lambda: fsync.thread_id in scene.door.waiting)
    subject.ops.complete_store(2, FULL)
    with pytest.raises(OSError, match="full"):
        fsync.result()
    other.result()
    subject.assert_dirty(2)
    assert ("fsync", 0, 0) not in subject.ops.done
    subject.fsync_and_assert_clean(expected)


# -- declining -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [redirtied, activated], ids=["redirtied", "activated"])
def test_item_58_a_page_that_is_declined_stays_dirty_is_unlocked_once_and_is_no_error(scene, answer):
    subject, expected = written(scene, {2: [answer]})
    assert subject.write_back(Sync.NONE) is None
    assert subject.ops.stored_pages() == [0, 1, 3, 4]
    subject.assert_dirty(2)
    subject.fsync_and_assert_clean(expected)


@pytest.mark.parametrize("answer", [redirtied, activated], ids=["redirtied", "activated"])
def test_item_58_fsync_asks_again_for_what_was_declined_while_others_were_stored(scene, answer):
    subject, expected = written(scene, {2: [answer]})
    subject.file.fsync()
    assert subject.ops.stored_pages() == [0, 1, 3, 4, 2]
    assert subject.ops.done[-1] == ("fsync", 0, 0)
    subject.assert_clean(expected)


@pytest.mark.parametrize("answer", [redirtied, activated], ids=["redirtied", "activated"])
def test_item_58_fsync_fails_where_everything_is_declined_and_nothing_is_lost(scene, answer):
    """It does not make durable what is not whole; nobody else is told, for whom nothing has failed."""
    subject, expected = written(scene, {index: [answer] for index in range(5)})
    with subject.inode.open("r+b") as other:
        with pytest.raises(BlockingIOError, match="declines") as caught:
            subject.file.fsync()
        assert caught.value.errno == errno.EAGAIN
        assert subject.ops.done == []
        subject.assert_dirty(*range(5))
        other.fsync()
    subject.fsync_and_assert_clean(expected)


def test_item_58_fsync_asks_for_what_was_declined_no_more_often_because_others_write(scene):
    """What they have made dirty since is not its own: that it could be stored is no reason to go on."""

    def stored_and_written(ops: WritableOps, page: Page, wbc: WritebackControl) -> int:
        page.set_writeback()
        page.unlock()
        ops.keep(page)
        scene.start(subject.file.pwrite, b"again", 0).result()
        page.end_writeback()
        return 0

    subject, _ = written(scene, {0: [stored_and_written] * 9, 2: [redirtied] * 9}, pages=[0, 2])
    with pytest.raises(BlockingIOError):
        subject.file.fsync()
    assert subject.ops.stored_pages() == [0]
    subject.assert_dirty(0, 2)
    subject.ops._store_rows.clear()
    subject.fsync_and_assert_clean()


@pytest.mark.parametrize("others", [[], [4]], ids=["nothing else", "something else"])
def test_item_58_what_another_was_about_to_store_and_the_store_declines_is_not_taken_for_stored(scene, others):
    """By an fsync that waits for it: it asks again, if the store takes something, or fails."""
    gate = scene.gate()
    subject, _ = written(scene, {2: [redirtied_behind(gate)]}, pages=[2])
    flusher = scene.start(subject.write_back, Sync.NONE)
    gate.wait_for_arrivals(1)
    for index in others:
        subject.file.pwrite(b"more", index << PAGE_SHIFT)
    fsync = scene.start(subject.file.fsync)
    scene.until(lambda: fsync.thread_id in scene.door.waiting and subject.ops.stored_pages() == others)
    gate.open()
    assert isinstance(flusher.result(), Declined)
    if others:
        fsync.result()
        assert subject.ops.stored_pages() == [4, 2]
    else:
        with pytest.raises(BlockingIOError):
            fsync.result()
        subject.assert_dirty(2)
    subject.fsync_and_assert_clean()


def test_item_58_what_another_has_been_declined_before_the_fsync_is_at_its_end_is_asked_for_again(scene):
    """It was clean when the fsync came by, and nobody is about to store it when that looks whom to wait for."""
    if scene.blocking:
        pytest.skip("its workers would take all of it at once")
    gates = {index: scene.gate() for index in SCATTERED[:3]}
    answers = {0: [store_gated(gates[0])], 2: [redirtied_behind(gates[2])], 4: [store_gated(gates[4])]}
    subject, expected = written(scene, answers, pages=gates)
    fsync = scene.start(subject.file.fsync)
    gates[0].wait_for_arrivals(1)
    flusher = scene.start(subject.write_back, Sync.NONE)
    gates[2].wait_for_arrivals(1)
    gates[0].open()
    gates[4].wait_for_arrivals(1)
    gates[2].open()
    assert isinstance(flusher.result(), Declined)
    gates[4].open()
    fsync.result()
    assert subject.ops.stored_pages() == [0, 4, 2]
    subject.assert_clean(expected)


def redirtied_behind(gate: Gate) -> StoreAnswer:
    """Decline, behind *gate*."""

    def answer(ops: WritableOps, page: Page, wbc: WritebackControl) -> int:
        gate.pass_through()
        return redirtied(ops, page, wbc)

    return answer


def test_item_58_pages_that_are_not_taken_are_declined(scene):
    subject = open_written(scene, lambda size: WritableRunOps(size, [run_store_short(2)]))
    subject.file.pwrite(b"x" * 5 * PAGE_SIZE, 0)
    expected = subject.read_all()
    assert subject.write_back(Sync.NONE) is None
    subject.assert_dirty(2, 3, 4)
    subject.fsync_and_assert_clean(expected)


def test_item_58_activate_without_redirty_loses_nothing(scene):
    """The core says in its place that the page stays dirty."""

    def forgetful(ops: WritableOps, page: Page, wbc: WritebackControl) -> int:
        return AOP_WRITEPAGE_ACTIVATE

    subject, expected = written(scene, {2: [forgetful]}, pages=[2])
    assert isinstance(subject.write_back(Sync.NONE), Declined)
    subject.assert_dirty(2)
    subject.fsync_and_assert_clean(expected)


@pytest.mark.parametrize("first", [activated, store_failing(FULL)], ids=["activated", "failing"])
def test_item_58_a_page_that_is_not_stored_is_unlocked_before_the_next_is(scene, first):
    """The rest of the run may take the store for as long as it likes."""
    locked: list[list[int]] = []

    def answer(ops: WritableOps, page: Page, wbc: WritebackControl) -> int:
        locked.append(sorted(subject.mapping.in_flight))
        return stored(ops, page, wbc)

    subject, expected = written(scene, {2: [first], 3: [answer]}, pages=[2, 3])
    error = subject.write_back()
    assert locked == [[3]]
    if error is not None:
        with pytest.raises(OSError, match="full"):
            subject.file.fsync()
    subject.fsync_and_assert_clean(expected)


@pytest.mark.parametrize("fails", [False, True], ids=["returns", "raises"])
def test_a_store_that_keeps_memory_of_a_page_leaves_no_other_page_locked(scene, fails):
    """With checks that is told, but not before all pages of the run are accounted for."""
    kept: list[pickle.PickleBuffer] = []

    def answer(ops: WritableOps, wbc: WritebackControl) -> None:
        for page in wbc:
            ops.keep(page)
            kept.append(pickle.PickleBuffer(page.buffer))
        if fails:
            raise FULL.with_traceback(None)

    subject = open_written(scene, lambda size: WritableRunOps(size, [answer]))
    subject.file.pwrite(b"x" * 3 * PAGE_SIZE, 0)
    if fails or scene.debug:
        told = (ContractViolation, "not kept|it has stored") if scene.debug else (OSError, "full")
        with pytest.raises(told[0], match=told[1]):
            subject.file.fsync()
    else:
        subject.file.fsync()
    assert len(kept) == 3
    subject.assert_dirty(*range(3 * (fails or scene.debug)))  # left locked: with checks it counts as forgotten
    subject.fsync_and_assert_clean()
    kept.clear()


@pytest.mark.parametrize("wrong", ["locked", "code"])
def test_a_wrong_answer_is_told_and_the_page_stays_dirty(scene, wrong):
    def answer(ops: WritableOps, page: Page, wbc: WritebackControl) -> int:
        if wrong == "locked":
            return 0
        page.set_writeback()
        page.unlock()
        return 7

    subject, expected = written(scene, {2: [answer]})
    with pytest.raises(ContractViolation):
        subject.file.fsync()
    subject.assert_consistent()
    assert 2 in subject.dirty()
    subject.fsync_and_assert_clean(expected)


@pytest.mark.parametrize("mode", ["debug"], indirect=True)
def test_what_writepages_took_and_left_locked_is_told_and_stays_dirty(scene):
    """The core takes it for stored without checks, since a store may do so under the page's lock."""

    def forgetful(ops: WritableOps, wbc: WritebackControl) -> None:
        for page in wbc:
            if page.index != 2:
                stored(ops, page, wbc)

    subject = open_written(scene, lambda size: WritableRunOps(size, [forgetful]))
    subject.file.pwrite(b"x" * 5 * PAGE_SIZE, 0)
    expected = subject.read_all()
    with pytest.raises(ContractViolation, match="what writepages takes it has stored"):
        subject.file.fsync()
    subject.assert_dirty(2)
    subject.fsync_and_assert_clean(expected)


def test_a_page_that_was_stored_under_its_lock_and_has_left_the_cache_is_not_zeros(scene):
    """Though the rest of its run is still to be stored: the file has become longer, and the store holds that page."""
    seen: list[bytes] = []

    def answer(ops: WritableOps, wbc: WritebackControl) -> None:
        page = wbc.take(1)
        ops.keep(page)
        page.unlock()
        truncate.invalidate_mapping_pages(subject.mapping, 0, 1)
        seen.append(subject.file.pread(PAGE_SIZE, 0))
        run_stored(ops, wbc)

    subject = open_written(scene, lambda size: WritableRunOps(size, [answer]), size_bytes=0)
    subject.file.pwrite(b"x" * 2 * PAGE_SIZE, 0)
    subject.file.fsync()
    assert seen == [b"x" * PAGE_SIZE]
    subject.assert_clean(b"x" * 2 * PAGE_SIZE)


def test_a_page_that_was_stored_under_its_lock_and_has_left_the_cache_does_not_become_dirty(scene):
    """Though the operation fails afterwards: a dirty page that is not here would be stored as zeros."""

    def answer(ops: WritableOps, wbc: WritebackControl) -> None:
        page = wbc.take(1)
        ops.keep(page)
        page.unlock()
        truncate.invalidate_mapping_pages(subject.mapping, 0, 1)
        raise FULL.with_traceback(None)

    subject = open_written(scene, lambda size: WritableRunOps(size, [answer]))
    subject.file.pwrite(b"x" * 2 * PAGE_SIZE, 0)
    expected = subject.read_all()
    with pytest.raises(OSError, match="full"):
        subject.file.fsync()
    subject.assert_consistent()
    subject.fsync_and_assert_clean(expected)


# -- pages that go meanwhile ---------------------------------------------------------------------------------------


def test_item_59_a_page_that_was_cut_off_before_it_was_locked_is_passed_over(scene):
    """It is on the list of fsync, which waits for its lock; the truncation takes it first."""
    subject, expected = written(scene, pages=[0, 2])
    held = subject.mapping.lock_page(2)
    truncation = scene.start(subject.file.truncate, PAGE_SIZE)
    scene.until(lambda: held.waiter_count == 1)
    fsync = scene.start(subject.file.fsync)
    scene.until(lambda: fsync.thread_id in scene.door.waiting)
    held.unlock()
    truncation.result()
    fsync.result()
    subject.fsync_and_assert_clean(expected[:PAGE_SIZE])
    assert 2 not in subject.ops.stored_pages()


def test_item_59_a_page_that_is_cut_off_while_fsync_stands_before_it(scene):
    """As above, but fsync has waited longer."""
    subject, expected = written(scene, pages=[0, 2])
    held = subject.mapping.lock_page(2)
    fsync = scene.start(subject.file.fsync)
    scene.until(lambda: held.waiter_count == 1)
    truncation = scene.start(subject.file.truncate, PAGE_SIZE)
    scene.until(lambda: held.waiter_count == 2)
    held.unlock()
    truncation.result()
    fsync.result()
    subject.fsync_and_assert_clean(expected[:PAGE_SIZE])
    assert 2 not in subject.ops.stored_pages()


# -- several at once -------------------------------------------------------------------------------------------------


def test_runs_are_stored_by_up_to_four_workers_at_once(scene):
    """By I/O workers if the operation may block; fsync waits for all of them."""
    if not scene.blocking:
        pytest.skip("an operation that does not block is called by who writes back")
    gate = scene.gate()
    subject, expected = written(scene, {index: [store_gated(gate)] for index in range(0, 8, 2)}, pages=range(0, 8, 2))
    fsync = scene.start(subject.file.fsync)
    gate.wait_for_arrivals(4)
    assert sorted(subject.mapping.under_writeback) == [0, 2, 4, 6]
    subject.assert_consistent()
    gate.open()
    fsync.result()
    subject.assert_clean(expected)


def test_who_has_stored_a_run_goes_on_with_the_next(scene, monkeypatch):
    """To hand each over takes many times as long as to store a page in a file."""
    subject, expected = written(scene, pages=range(0, 64, 2), size=64 * PAGE_SIZE)
    starts = counted_starts(subject, monkeypatch)
    subject.file.fsync()
    assert subject.ops.stored_pages() == list(range(0, 64, 2)) or scene.blocking
    assert len(starts) <= walk.REQUESTS_MAX + 1, "and the operation fsync"
    subject.assert_clean(expected)


def test_who_stores_one_run_after_the_other_makes_way_for_another_walk(scene, monkeypatch):
    """Else an fsync of one page would wait until all has been stored that the flusher has found."""
    if not scene.blocking:
        pytest.skip("an operation that does not block is called by who writes back")
    monkeypatch.setattr(walk, "REQUESTS_MAX", 1)
    gate = scene.gate()
    subject, expected = written(scene, {0: [store_gated(gate)]}, pages=SCATTERED)
    starts = counted_starts(subject, monkeypatch)
    passes = [scene.start(subject.write_back)]
    gate.wait_for_arrivals(1)
    passes.append(scene.start(subject.write_back))
    scene.until(lambda: len({id(one) for _, one in subject.mapping.store_waiters}) == 2)
    gate.open()
    for one in passes:
        assert one.result() is None
    assert len(starts) > 1
    assert sorted(subject.ops.stored_pages()) == list(SCATTERED), "each once"
    subject.assert_clean(expected)


def test_who_stores_one_run_after_the_other_makes_way_for_what_waits_for_a_worker(scene, monkeypatch):
    """Else a reader of another file would wait until all of this one is stored, where no more threads are to be had."""
    if not scene.blocking:
        pytest.skip("an operation that does not block is called by who writes back")
    monkeypatch.setattr("pagein.mm.zone.IO_WORKERS_MAX", 1)
    gate = scene.gate()
    subject, expected = written(scene, {0: [store_gated(gate)]}, pages=range(0, 32, 2), size=32 * PAGE_SIZE)
    fsync = scene.start(subject.file.fsync)
    gate.wait_for_arrivals(1)
    scene.until(lambda: fsync.thread_id in scene.door.waiting)
    seen: list[list[int]] = []
    subject.zone.io.start(lambda: seen.append(subject.ops.stored_pages()))
    gate.open()
    fsync.result()
    assert seen == [[0, 2, 4, 6]], "what was in line before it"
    subject.assert_clean(expected)


def test_a_walk_that_was_interrupted_ends_with_what_it_has_begun(scene, monkeypatch):
    """Nobody waits any more for what else it was to store."""
    if not scene.blocking:
        pytest.skip("an operation that does not block is called by who writes back")
    monkeypatch.setattr(walk, "REQUESTS_MAX", 1)
    gate = scene.gate()
    subject, expected = written(scene, {0: [store_gated(gate)]}, pages=SCATTERED)
    steps = write_back(subject.mapping, Sync.ALL, scene.door.waiter)
    next(steps)
    gate.wait_for_arrivals(1)
    steps.close()
    gate.open()
    scene.until(lambda: subject.mapping.store_calls == 0)
    assert subject.ops.stored_pages() == [0]
    subject.assert_dirty(*SCATTERED[1:])
    subject.fsync_and_assert_clean(expected)


def counted_starts(subject: Written, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What is handed over to I/O workers from here on."""
    starts: list[object] = []
    start = subject.zone.io.start

    def noted(run: Callable[[], object]) -> None:
        starts.append(run)
        start(run)

    monkeypatch.setattr(subject.zone.io, "start", noted)
    return starts


def test_a_run_is_no_longer_than_the_store_takes_at_once(scene):
    subject = open_written(scene, WritableRunOps)
    subject.ops.write_bytes_max = 2 * PAGE_SIZE
    subject.file.pwrite(b"x" * 5 * PAGE_SIZE, 0)
    subject.file.fsync()
    stores = [(offset >> PAGE_SHIFT, size >> PAGE_SHIFT) for operation, offset, size in subject.ops.done if size]
    assert sorted(stores) == [(0, 2), (2, 2), (4, 1)]
    assert {operation for operation, _, size in subject.ops.done if size} == {"store"}
    subject.assert_clean(b"x" * 5 * PAGE_SIZE + pattern(0, SIZE)[5 * PAGE_SIZE :])


def test_two_fsyncs_at_once_store_each_page_once(scene):
    subject = open_written(scene, lambda size: WritableRunOps(size, [run_store_started]))
    subject.file.pwrite(b"x" * 2 * PAGE_SIZE, 0)
    tasks = [scene.start(subject.file.fsync) for _ in range(2)]
    scene.until(lambda: all(task.thread_id in scene.door.waiting for task in tasks))
    subject.ops.complete_store(0)
    for task in tasks:
        task.result()
    assert subject.ops.stored_pages() == [0]
    subject.assert_clean()
