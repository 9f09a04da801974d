"""Items 1 to 6 and 8 to 17: what readpage may return, and what its caller does then, on every path.

The data alone would not tell: a reader tests Uptodate first, so a page that stays locked is read all the same.
Every test therefore asserts the lock's state, too.
"""

from __future__ import annotations

import errno
import os

import pytest
from tests.contract.harness import RecordedLock, Subject
from tests.contract.paths import (
    FAULT,
    PATHS,
    PREAD,
    READ,
    READ_CACHE_PAGE,
    RETRIED_FAULT,
    RUN,
    Path,
    by_fault,
    by_retried_fault,
    memory,
    on_every_path,
)

from pagein.mm import filemap, truncate
from pagein.mm.aops import AOP_TRUNCATED_PAGE, AOP_UPDATED_PAGE
from pagein.mm.filemap import Fault, FaultFlags, FaultResult
from pagein.mm.page import Page
from pagein.testing.leaks import settle
from pagein.testing.stores import (
    PATIENCE_S,
    Answer,
    ScriptedOps,
    completed,
    completed_with,
    failing,
    gated,
    started,
    truncated,
    updated,
)
from pagein.units import PAGE_SHIFT, PAGE_SIZE

HERE = 3
"""The page that is asked for.  Path `RUN` reads the one behind it as well."""


@pytest.fixture(params=["plain", "debug", "blocking", "readers call"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def pages_read(path: Path) -> list[int]:
    return list(range(HERE, HERE + path.page_count))


def io_errors(count: int) -> list[OSError]:
    return [OSError(errno.ENXIO, f"no such device (call {number})") for number in range(1, count + 1)]


# -- AOP_UPDATED_PAGE --------------------------------------------------------------------------------------


@on_every_path
def test_item_01_a_page_brought_at_once_is_used_and_unlocked_once(scene, path):
    """A synchronous answer serves the reader, leaves the page Uptodate and unlocked, and its code goes nowhere."""
    subject = scene.open(default=updated)
    assert path.read_page(subject, HERE) == subject.content(HERE)
    subject.assert_at_rest(*pages_read(path))
    (call,) = subject.ops.calls_of(HERE)
    assert (call.locked, call.owned, call.uptodate) == (True, True, False)
    assert path.read_page(subject, HERE) == subject.content(HERE)
    assert len(subject.ops.calls) == path.page_count, "the second time it is a hit"


def test_item_01_the_code_is_never_a_byte_count(scene):
    """A reader that counts its bytes counts those of the file."""
    subject = scene.open(size_bytes=3 * PAGE_SIZE + 5)
    buffer = bytearray(4 * PAGE_SIZE)
    assert subject.file.preadinto(buffer, 0) == 3 * PAGE_SIZE + 5 < AOP_UPDATED_PAGE
    subject.file.seek(0)
    assert subject.file.readinto(buffer) == 3 * PAGE_SIZE + 5
    assert len(subject.file.pread(AOP_UPDATED_PAGE, 0)) == 3 * PAGE_SIZE + 5
    subject.assert_at_rest(0, 1, 2, 3)


@on_every_path
def test_item_02_no_page_beyond_the_end_is_asked_for(scene, path):
    """A read at or behind the end gets nothing, asks the store nothing, and locks nothing."""
    subject = scene.open(page_count=HERE)
    for index in (HERE, HERE + 1):
        if path.end_error:
            with pytest.raises(path.end_error):
                path.read_page(subject, index)
        else:
            assert path.read_page(subject, index) == b""
    assert subject.ops.calls == []
    subject.assert_at_rest()


@on_every_path
def test_item_02_a_page_that_the_end_passed_while_it_came_is_not_handed_out(scene, path):
    """An answer for a page that lies beyond the end by now gives no bytes, and the page is not locked afterwards."""

    def updated_beyond_the_end(ops: ScriptedOps, page: Page) -> int:
        page.mapping.i_size = HERE * PAGE_SIZE  # as a truncation does first
        return updated(ops, page)

    subject = scene.open({HERE: [updated_beyond_the_end]}, page_count=HERE + 1)
    if path.end_error:
        with pytest.raises(path.end_error):
            path.read_page(subject, HERE)
    else:
        assert path.read_page(subject, HERE) == b""
    assert subject.mapping.in_flight == {}
    truncate.truncate_setsize(subject.mapping, 0)
    truncate.invalidate_inode_pages2(subject.mapping, 0, 4)
    subject.assert_at_rest()


def test_item_03_read_cache_page_unlocks_the_page_and_keeps_it(scene):
    """What is returned is Uptodate, unlocked, and stays until the caller lets it go."""
    subject = scene.open(cap_pages=1)
    pin = filemap.read_cache_page(subject.open_file, HERE)
    assert HERE not in subject.mapping.in_flight
    assert not subject.zone.locked
    assert subject.uptodate() == [HERE]
    assert subject.mapping.arena.pins.spans() == [(subject.mapping.base + HERE, subject.mapping.base + HERE + 1)]
    with pytest.raises(OSError) as raised:
        subject.file.pread(1, 0)
    assert raised.value.errno == errno.ENOMEM, "the only page of the cache is held"
    assert truncate.invalidate_mapping_pages(subject.mapping, 0, 8) == 0
    pin.put()
    assert subject.file.pread(1, 0) == subject.ops.content(0, 1)
    subject.assert_at_rest(0)


def test_item_04_a_fault_hands_over_the_very_lock_under_which_the_page_came(scene):
    """Without letting go of the address-space lock the fault answers LOCKED, with no second look-up of the page."""
    subject = scene.open()
    lock = RecordedLock()
    vmf = Fault(subject.open_file, HERE, lock)
    assert filemap.fault(vmf) == FaultResult.LOCKED | FaultResult.MAJOR
    assert (lock.held, lock.releases) == (True, 0)
    (call,) = subject.ops.calls
    page = vmf.page
    assert page is call.page, "the same hold of the lock from readpage to the caller: nobody came between"
    assert page is subject.mapping.in_flight[HERE]
    assert (page.locked, page.uptodate, page.owner) == (True, True, scene.door.thread_id())
    waiter = scene.start(by_fault, subject, HERE)
    scene.until(lambda: subject.waiting_for(HERE) == 1)
    assert waiter.running
    page.unlock()
    assert waiter.result() == subject.content(HERE)
    subject.assert_at_rest(HERE)


def test_item_04_a_fault_on_a_page_that_is_here_is_no_major_one(scene):
    """A hit is handed over locked as well, without a word to the store."""
    subject = scene.open()
    subject.file.pread(1, HERE * PAGE_SIZE)
    vmf = Fault(subject.open_file, HERE, RecordedLock(), FaultFlags.ALLOW_RETRY)
    assert filemap.fault(vmf) == FaultResult.LOCKED
    assert vmf.page is not None
    assert vmf.page.owner == scene.door.thread_id()
    vmf.page.unlock()
    assert len(subject.ops.calls) == 1
    subject.assert_at_rest(HERE)


def test_item_05_a_fault_that_let_go_of_its_lock_is_tried_again(scene):
    """It answers RETRY with nothing locked, and the second try finds the page without asking the store again."""
    subject = scene.open()
    lock = RecordedLock()
    vmf = Fault(subject.open_file, HERE, lock, FaultFlags.ALLOW_RETRY)
    assert filemap.fault(vmf) == FaultResult.RETRY | FaultResult.MAJOR
    assert (lock.held, lock.releases, vmf.page) == (False, 1, None)
    subject.assert_at_rest(HERE)
    lock.acquire()
    vmf.flags |= FaultFlags.TRIED
    assert filemap.fault(vmf) == FaultResult.LOCKED
    assert (lock.held, lock.releases) == (True, 1)
    assert vmf.page is not None
    assert vmf.page.locked
    vmf.page.unlock()
    assert len(subject.ops.calls) == 1
    subject.assert_at_rest(HERE)


def test_item_05_an_error_is_told_by_the_second_try(scene):
    """With the lock let go there is nobody to tell; the second try asks again, and says what it heard."""
    errors = io_errors(2)
    subject = scene.open({HERE: map(failing, errors)})
    lock = RecordedLock()
    vmf = Fault(subject.open_file, HERE, lock, FaultFlags.ALLOW_RETRY)
    assert filemap.fault(vmf) == FaultResult.RETRY | FaultResult.MAJOR
    assert (lock.held, vmf.page, vmf.error) == (False, None, None)
    subject.assert_at_rest()
    lock.acquire()
    vmf.flags |= FaultFlags.TRIED
    assert filemap.fault(vmf) == FaultResult.SIGBUS | FaultResult.MAJOR
    assert lock.held
    assert vmf.error is errors[1]
    assert len(subject.ops.calls) == 2
    subject.assert_at_rest()


@pytest.mark.parametrize("answer", [updated, completed])
def test_item_06_readahead_without_an_operation_leaves_no_page_locked(scene, answer):
    """A store with only readpage is read ahead page by page, and each page of the window is unlocked."""
    subject = scene.open(default=answer, page_count=40, random=False)
    assert subject.file.pread(1, 0) == subject.ops.content(0, 1)
    assert settle(subject.zone, PATIENCE_S)
    window = subject.uptodate()
    assert len(window) > 1, "a sequential reader is read ahead for"
    subject.assert_at_rest(*window)
    subject.file.seek(0)
    assert subject.file.read() == subject.content(0, 40)
    assert settle(subject.zone, PATIENCE_S)
    calls = [call.index for call in subject.ops.calls]
    assert (sorted(calls) if scene.blocking else calls) == list(range(40)), "each page once; workers have no order"
    assert all(call.locked and call.owned and not call.uptodate for call in subject.ops.calls)
    subject.assert_at_rest(*range(40))


def test_item_06_readahead_without_an_operation_honours_every_answer(scene):
    """Whatever each page of a window answers, its lock ends as that answer says, and none of it stops the reader."""
    first, later = io_errors(2)
    script: dict[int, list[Answer]] = {
        1: [completed], 2: [started], 3: [truncated], 4: [completed_with(first)], 5: [started], 6: [failing(later)],
    }  # fmt: skip
    subject = scene.open(script, random=False)
    reader = scene.start(subject.file.pread, 8 * PAGE_SIZE, 0)
    scene.until(lambda: subject.waiting_for(2) == 1)
    if scene.blocking:  # the worker goes on while the reader waits
        scene.until(lambda: sorted(subject.mapping.in_flight) == [2, 5])
    assert sorted(subject.mapping.in_flight) == [2, 5], "all others are unlocked, those behind the error too"
    assert all(page.owner is None for page in subject.zone.locked)
    assert subject.uptodate() == [0, 1]
    subject.ops.complete(5, first)
    subject.ops.complete(2)
    assert reader.result() == subject.content(0, 8)
    subject.assert_at_rest(*range(8))
    assert [len(subject.ops.calls_of(index)) for index in range(8)] == [1, 1, 1, 2, 2, 2, 2, 1]


# -- 0: the read has been started --------------------------------------------------------------------------------


@on_every_path
def test_item_08_a_read_that_ended_before_readpage_returned(scene, path):
    """The page is already unlocked when 0 comes back: the reader copies it once, and waits for nobody."""
    subject = scene.open(default=completed)
    assert path.read_page(subject, HERE) == subject.content(HERE)
    assert len(subject.ops.calls_of(HERE)) == 1
    subject.assert_at_rest(*pages_read(path))


@on_every_path
def test_item_09_a_reader_waits_without_a_lock(scene, path):
    """While an I/O owns the page, the reader holds no page lock and no memory; then it has the bytes."""
    subject = scene.open({HERE: [started]})
    reader = scene.start(path.read_page, subject, HERE)
    page = subject.ops.started_page(HERE)
    scene.until(lambda: page.waiter_count == 1)
    assert (page.locked, page.uptodate, page.owner) == (True, False, None)
    assert {one.owner for one in subject.zone.locked} == {None}
    assert subject.zone.reserved_pages == 0
    assert reader.running
    subject.ops.complete(HERE)
    assert reader.result() == subject.content(HERE)
    assert len(subject.ops.calls_of(HERE)) == 1
    subject.assert_at_rest(*pages_read(path))


def test_item_09_nobody_holds_a_lock_while_another_reads(scene):
    """Readers of a page that another reader is fetching wait for it with nothing in their hands."""
    gate = scene.gate()
    subject = scene.open({HERE: [gated(gate, updated)]})
    first = scene.start(PREAD.read_page, subject, HERE)
    gate.wait_for_arrivals()
    others = [scene.start(path.read_page, subject.another(), HERE) for path in (READ, RUN, PREAD, READ_CACHE_PAGE)]
    scene.until(lambda: subject.waiting_for(HERE) == 4 + scene.blocking)
    (call,) = subject.ops.calls_of(HERE)
    assert {one.owner for one in subject.zone.locked} == {call.thread_id}
    assert (call.thread_id == first.thread_id) != scene.blocking
    assert subject.zone.reserved_pages == 0
    gate.open()
    assert {task.result() for task in [first, *others]} == {subject.content(HERE)}
    assert len(subject.ops.calls_of(HERE)) == 1
    subject.assert_at_rest(HERE, HERE + 1)


# -- errors --------------------------------------------------------------------------------------------------


@on_every_path
def test_item_10_a_synchronous_error_reaches_its_reader_unchanged(scene, path):
    """Not an EIO in its place, but the very exception; the page is unlocked and gone, the window as it was."""
    errors = io_errors(path.asks)
    subject = scene.open({HERE: map(failing, errors)})
    with pytest.raises(OSError) as raised:
        path.read_page(subject, HERE)
    assert raised.value is errors[-1]
    assert raised.value.errno == errno.ENXIO
    assert len(subject.ops.calls_of(HERE)) == path.asks
    assert subject.open_file.ra_scale == 1
    assert HERE not in subject.uptodate()
    subject.assert_at_rest(*subject.uptodate())


@on_every_path
@pytest.mark.parametrize("before_return", [True, False], ids=["before_return", "later"])
def test_item_11_an_asynchronous_error_reaches_its_reader_and_shrinks_its_window(scene, path, before_return):
    """The error with which the I/O ended comes unchanged, and the reader's window is a quarter of what it was."""
    errors = io_errors(path.asks)
    subject = scene.open({HERE: [completed_with(error) if before_return else started for error in errors]})
    reader = scene.start(path.read_page, subject, HERE)
    if not before_return:
        for error in errors:
            subject.ops.complete(HERE, error)
    assert reader.error() is errors[-1]
    assert len(subject.ops.calls_of(HERE)) == path.asks
    own_reads = path.asks - (path is RUN)  # readahead's errors are nobody's
    assert subject.open_file.ra_scale == 4.0**-own_reads
    assert HERE not in subject.uptodate()
    subject.assert_at_rest(*subject.uptodate())


@on_every_path
def test_item_11_a_read_that_ended_without_the_page_is_an_io_error(scene, path):
    """Unlocked, not Uptodate, no error given: EIO, rather than bytes that nobody brought."""

    def unlocked(ops: ScriptedOps, page: Page) -> int:
        page.buffer[:] = b"\xff" * page.size_bytes
        page.unlock()
        return 0

    subject = scene.open({HERE: [unlocked] * path.asks})
    with pytest.raises(OSError) as raised:
        path.read_page(subject, HERE)
    assert raised.value.errno == errno.EIO
    assert HERE not in subject.uptodate()
    subject.assert_at_rest(*subject.uptodate())


@pytest.mark.parametrize("random", [True, False], ids=["random", "sequential"])
def test_item_12_a_read_is_short_before_a_bad_page(scene, random):
    """Pages 0 to 2 of 5 come, page 3 does not: three pages and no error, and then the error."""
    errors = io_errors(20)
    subject = scene.open({3: map(failing, errors)}, random=random)
    pieces = filemap.read(subject.open_file, 0, 5 * PAGE_SIZE, lambda a, b: memory(subject, a, b))
    assert b"".join(pieces) == subject.content(0, 3)
    assert not subject.mapping.in_flight
    asked = len(subject.ops.calls_of(3))
    with pytest.raises(OSError) as raised:
        filemap.read(subject.open_file, 3 * PAGE_SIZE, PAGE_SIZE, lambda a, b: memory(subject, a, b))
    calls = len(subject.ops.calls_of(3))
    assert calls > asked, "the page was asked for again"
    assert raised.value is errors[calls - 1]
    assert [subject.ops.calls_of(index)[1:] for index in range(3)] == [[], [], []]
    assert 3 not in subject.uptodate()
    subject.assert_at_rest(*subject.uptodate())


def test_item_12_a_file_reads_all_or_raises(scene):
    """pread and read give every byte that was asked for or the error, and then the position has not moved; read1 is
    the one that gives what there is."""
    subject = scene.open({3: map(failing, io_errors(20))})
    for read in (lambda: subject.file.pread(5 * PAGE_SIZE, 0), lambda: subject.file.read(5 * PAGE_SIZE)):
        with pytest.raises(OSError, match="no such device"):
            read()
    assert subject.file.tell() == 0
    assert subject.file.read1(5 * PAGE_SIZE) == subject.content(0, 3)
    assert subject.file.tell() == 3 * PAGE_SIZE
    with pytest.raises(OSError, match="no such device"):
        subject.file.read1(1)
    assert subject.file.tell() == 3 * PAGE_SIZE
    assert 3 not in subject.uptodate()
    subject.assert_at_rest(*subject.uptodate())


@on_every_path
@pytest.mark.parametrize("how", [failing, completed_with], ids=["synchronous", "asynchronous"])
def test_item_13_a_page_that_failed_is_read_again(scene, path, how):
    """Nothing of the failure stays: the next reader asks the store, and has the page."""
    subject = scene.open({HERE: map(how, io_errors(path.asks))})
    with pytest.raises(OSError, match="no such device"):
        path.read_page(subject, HERE)
    assert path.read_page(subject, HERE) == subject.content(HERE)
    assert len(subject.ops.calls_of(HERE)) == path.asks + 1
    subject.assert_at_rest(*pages_read(path))


def test_item_13_nothing_of_a_failed_read_is_left_in_the_frame(scene):
    """Bytes of an answer that broke off are gone with it, even where the next answer brings fewer."""

    def half_and_failing(ops: ScriptedOps, page: Page) -> int:
        page.buffer[:] = b"\xff" * page.size_bytes
        raise OSError(errno.EIO, "broke off")

    subject = scene.open({HERE: [half_and_failing]})
    with pytest.raises(OSError, match="broke off"):
        subject.file.pread(1, HERE * PAGE_SIZE)
    assert frame_bytes(subject, HERE) == bytes(PAGE_SIZE)
    assert subject.zone.resident_bytes(is_thorough=True) == 0


def frame_bytes(subject: Subject, index: int) -> bytes:
    """What a page's frame holds, without touching it: to read a hole through the mapping would fill it."""
    arena, start = subject.mapping.arena, (subject.mapping.base + index) << PAGE_SHIFT
    if arena.memory_fd >= 0:
        return os.pread(arena.memory_fd, PAGE_SIZE, start)
    is_hole = arena._frames.taken_bytes([[(start, start + PAGE_SIZE)]]) == 0
    return bytes(PAGE_SIZE) if is_hole else arena.memory[start : start + PAGE_SIZE]


# -- AOP_TRUNCATED_PAGE --------------------------------------------------------------------------------------------


@on_every_path
@pytest.mark.parametrize("times", [1, 2, 13])
def test_item_14_a_truncated_page_is_looked_up_again(scene, path, times):
    """k times TRUNCATED, then the page: k + 1 calls, each on a page freshly looked up and locked."""
    subject = scene.open({HERE: [truncated] * times})
    assert path.read_page(subject, HERE) == subject.content(HERE)
    calls = subject.ops.calls_of(HERE)
    assert len(calls) == times + 1
    assert all(call.locked and call.owned and not call.uptodate for call in calls)
    assert len({id(call.page) for call in calls}) == times + 1, "each time another hold of the lock"
    assert all(call.page is not None and not call.page.locked for call in calls)
    subject.assert_at_rest(*pages_read(path))


def test_item_14_the_reader_gives_the_store_time(scene):
    """A reader that is sent back again and again does not spin; its pauses grow, and have a bound."""
    subject = scene.open({HERE: [truncated] * 30})
    assert subject.file.pread(PAGE_SIZE, HERE * PAGE_SIZE) == subject.content(HERE)
    pauses_s = scene.door.sleeps_s
    assert 20 <= len(pauses_s) < 30, "the first few times it goes back at once"
    assert pauses_s == sorted(pauses_s)
    assert 0 < pauses_s[0] < pauses_s[-1] == 0.01
    subject.assert_at_rest(HERE)


@on_every_path
def test_item_15_a_page_removed_meanwhile_is_read_anew(scene, path):
    """The page that was sent back left the cache with its charge and its memory; another is read in its place."""
    charges: list[int] = []
    frames: list[bytes] = []

    def removed(ops: ScriptedOps, page: Page) -> int:
        page.buffer[:] = b"\xff" * page.size_bytes
        before = subject.zone.charged_pages
        page.unlock()
        truncate.invalidate_mapping_pages(page.mapping, HERE, HERE + 1)
        charges.append(before - subject.zone.charged_pages)
        frames.append(frame_bytes(subject, HERE))
        ops.version += 1
        return AOP_TRUNCATED_PAGE

    subject = scene.open({HERE: [removed, removed]})
    assert path.read_page(subject, HERE) == subject.content(HERE)
    assert subject.ops.version == 2
    assert charges == [1, 1]
    assert frames == [bytes(PAGE_SIZE)] * 2
    assert len({id(call.page) for call in subject.ops.calls_of(HERE)}) == 3
    subject.assert_at_rest(*pages_read(path))


@pytest.mark.parametrize("read_page", [by_fault, by_retried_fault])
@pytest.mark.parametrize("times", [1, 4])
def test_item_16_a_truncated_page_is_no_sigbus(scene, read_page, times):
    """A fault goes on until it has the page; the address-space lock is let go once at most."""
    subject = scene.open({HERE: [truncated] * times})
    assert read_page(subject, HERE) == subject.content(HERE)
    assert len(subject.ops.calls_of(HERE)) == times + 1
    subject.assert_at_rest(HERE)


def test_item_17_read_cache_page_looks_a_truncated_page_up_again(scene):
    """Linux 5.9 made this an EIO, Linux 6 a retry; so do we."""
    subject = scene.open({HERE: [truncated, truncated]})
    pin = filemap.read_cache_page(subject.open_file, HERE)
    assert subject.uptodate() == [HERE]
    assert not subject.zone.locked
    pin.put()
    assert len(subject.ops.calls_of(HERE)) == 3
    subject.assert_at_rest(HERE)


def test_items_01_to_17_are_tested_on_every_path_that_the_patch_names():
    """Buffered read, fault, read_cache_page, and readahead's fallback: none may be forgotten here."""
    assert {path.name for path in PATHS} >= {path.name for path in (READ, RUN, FAULT, RETRIED_FAULT, READ_CACHE_PAGE)}


def test_an_answer_behind_a_gate_is_settled_by_leaks_settle(scene):
    """The kit's own wait for the background, on which item 60 rests: it ends with the read, not before."""
    subject = scene.open({0: [started]})
    subject.file.advise("willneed", 0, PAGE_SIZE)
    subject.ops.started_page(0)
    assert not settle(subject.zone, 0.01)
    waiting = scene.start(settle, subject.zone, PATIENCE_S)
    subject.ops.complete(0)
    assert waiting.result()
    subject.assert_at_rest(0)
