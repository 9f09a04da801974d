"""Items 24 to 28: the end of the file, and files that become shorter or longer while a page of them comes."""

from __future__ import annotations

import errno
import gc

import pytest
from tests.contract.harness import RecordedLock, Subject, Task, lock_uptodate
from tests.contract.paths import (
    FAULT,
    PREAD,
    READ,
    RETRIED_FAULT,
    RUN,
    SegmentationFaultError,
    memory,
    on_every_path,
    on_pinned_paths,
    on_unpinned_paths,
)

from pagein.mm import filemap, truncate
from pagein.mm.aops import AOP_UPDATED_PAGE
from pagein.mm.filemap import Fault, FaultResult
from pagein.mm.mapping import AddressSpace
from pagein.mm.page import LockedPage, Page
from pagein.testing.stores import ScriptedOps, completed, gated, started, updated
from pagein.units import PAGE_SHIFT, PAGE_SIZE

LAST = 3
"""The last page of most files here, of which the file has `TAIL_BYTES`."""
TAIL_BYTES = 1000
SIZE_BYTES = LAST * PAGE_SIZE + TAIL_BYTES


def frame_bytes(subject: Subject, index: int) -> bytes:
    """All 4096 bytes of a page's frame."""
    start = (subject.mapping.base + index) << PAGE_SHIFT
    return memory(subject, start, start + PAGE_SIZE)


# -- the end of a file ---------------------------------------------------------------------------------------


@on_every_path
@pytest.mark.parametrize("answer", [updated, completed])
def test_item_24_a_read_ends_where_the_file_ends(scene, path, answer):
    """Exactly i_size bytes; in the frame zeros follow, which no reader is handed, and a fault maps; no page after."""
    subject = scene.open(size_bytes=SIZE_BYTES, default=answer)
    data = path.read_page(subject, LAST)
    assert len(data) == TAIL_BYTES
    assert data == subject.content(LAST)
    assert frame_bytes(subject, LAST) == data + bytes(PAGE_SIZE - TAIL_BYTES)
    assert subject.file.pread(2 * PAGE_SIZE, SIZE_BYTES - 1) == data[-1:]
    assert subject.file.pread(10, SIZE_BYTES) == b""
    assert filemap.fault(Fault(subject.open_file, LAST + 1, RecordedLock())) == FaultResult.SIGBUS
    assert [call.index for call in subject.ops.calls] == [LAST]
    subject.assert_at_rest(LAST)


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize("size_bytes", [0, 1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 5 * PAGE_SIZE])
def test_item_24_files_of_every_size_end_rightly(scene, size_bytes, random):
    """Whole pages, one byte more, one less, none at all: the bytes, then nothing, and never a page past the last."""
    subject = scene.open(size_bytes=size_bytes, random=random)
    assert subject.file.read() == subject.ops.content(0, size_bytes)
    assert subject.file.read(1) == b""
    assert subject.file.pread(100, size_bytes) == b""
    assert subject.file.pread(100, size_bytes + 100 * PAGE_SIZE) == b""
    assert sorted(call.index for call in subject.ops.calls) == list(range(-(-size_bytes // PAGE_SIZE)))
    subject.assert_at_rest(*range(-(-size_bytes // PAGE_SIZE)))


def test_item_24_the_store_sees_no_more_of_a_page_than_the_file_has(scene):
    """The buffer of the last page ends with the file, so that nothing can be written behind it."""
    sizes: list[tuple[int, int]] = []

    def measured(ops: ScriptedOps, page: Page) -> int:
        sizes.append((page.size_bytes, len(page.buffer)))
        return updated(ops, page)

    subject = scene.open(size_bytes=SIZE_BYTES, default=measured)
    subject.file.read()
    assert sizes == [(PAGE_SIZE, PAGE_SIZE)] * LAST + [(TAIL_BYTES, TAIL_BYTES)]


def test_item_24_the_tail_is_zero_in_a_frame_that_was_another_files(scene):
    """A frame comes back clean: what a file that is gone had there does not show behind the end of the next."""

    def full(ops: ScriptedOps, page: Page) -> int:
        page.buffer[:] = b"\xff" * page.size_bytes
        page.set_uptodate()
        return AOP_UPDATED_PAGE

    cache = scene.cache(64)
    subject = scene.open(default=full, page_count=LAST + 1, cache=cache)
    assert subject.file.read() == b"\xff" * (LAST + 1) * PAGE_SIZE
    base, arena = subject.mapping.base, subject.mapping.arena
    subject.file.close()
    subject.ops.calls.clear()
    del subject
    gc.collect()
    cache.stats()  # its turn to sweep
    assert arena.memory[base << PAGE_SHIFT : (base << PAGE_SHIFT) + 4] == bytes(4)
    arena.punch(base, 1)  # to look at a hole maps it
    subject = scene.open(size_bytes=SIZE_BYTES, cache=cache)
    assert (subject.mapping.arena, subject.mapping.base) == (arena, base), "else the test tests nothing"
    assert subject.file.pread(PAGE_SIZE, LAST * PAGE_SIZE) == subject.content(LAST)
    assert frame_bytes(subject, LAST)[TAIL_BYTES:] == bytes(PAGE_SIZE - TAIL_BYTES)
    subject.assert_at_rest(LAST)


# -- a file that becomes shorter ---------------------------------------------------------------------------------


def shrink_during_read(scene, subject: Subject, path, *, new_bytes: int) -> tuple[Task[bytes], Task[None]]:
    """A reader of the last page, and a truncation that waits for it; then the page comes."""
    reader = scene.start(path.read_page, subject, LAST)
    page = subject.ops.started_page(LAST)
    scene.until(lambda: page.waiter_count == 1)
    resize = scene.start(subject.inode.resize, new_bytes)
    scene.until(lambda: page.waiter_count == 2)
    assert subject.mapping.i_size == new_bytes, "the size first: whoever comes now sees the new end"
    assert resize.running, "a read in flight is waited for, never cancelled"
    assert page.locked
    subject.ops.complete(LAST)
    return reader, resize


NEW_SIZES = [LAST * PAGE_SIZE + TAIL_BYTES // 2, LAST * PAGE_SIZE, LAST * PAGE_SIZE - 1, 0]


@on_unpinned_paths
@pytest.mark.parametrize("new_bytes", NEW_SIZES)
def test_item_25_bytes_by_the_new_size(scene, path, new_bytes):
    """The file shrank while its last page came: the reader gets what is left of it, and no zeros for the rest."""
    subject = scene.open({LAST: [started]}, size_bytes=SIZE_BYTES)
    reader, resize = shrink_during_read(scene, subject, path, new_bytes=new_bytes)
    left_bytes = max(0, new_bytes - LAST * PAGE_SIZE)
    if path.end_error and not left_bytes:
        assert isinstance(reader.error(), SegmentationFaultError)
    else:
        assert reader.result() == subject.ops.content(LAST * PAGE_SIZE, left_bytes)
    resize.result()
    assert len(subject.ops.calls_of(LAST)) == 1
    subject.assert_at_rest(*[LAST] * (left_bytes > 0))
    if left_bytes:
        assert frame_bytes(subject, LAST)[left_bytes:] == bytes(PAGE_SIZE - left_bytes), "the cut is zeroed"


@on_pinned_paths
@pytest.mark.parametrize("new_bytes", NEW_SIZES)
def test_item_25_bytes_by_the_new_size_where_the_page_is_pinned(scene, path, new_bytes):
    """The same for readers that pin: only that a truncation which meets the pin leaves the page and says EBUSY."""
    subject = scene.open({LAST: [started]}, size_bytes=SIZE_BYTES)
    reader, resize = shrink_during_read(scene, subject, path, new_bytes=new_bytes)
    left_bytes = max(0, new_bytes - LAST * PAGE_SIZE)
    if path.end_error and not left_bytes:
        assert isinstance(reader.error(), path.end_error)
    else:
        assert reader.result() == subject.ops.content(LAST * PAGE_SIZE, left_bytes)
    resize.join()
    if resize._error is not None:
        assert resize.error().args[0] == errno.EBUSY
        assert subject.uptodate() == [LAST]
        truncate.invalidate_inode_pages2(subject.mapping, LAST, LAST + 1)
        subject.assert_at_rest()
    else:
        subject.assert_at_rest(*[LAST] * (left_bytes > 0))


@on_unpinned_paths
def test_item_25_a_synchronous_read_of_a_page_that_is_cut_off(scene, path):
    """The same where readpage itself was still running: the page comes, is unlocked once, and goes."""
    gate = scene.gate()
    subject = scene.open({LAST: [gated(gate, updated)]}, size_bytes=SIZE_BYTES)
    reader = scene.start(path.read_page, subject, LAST)
    gate.wait_for_arrivals()
    resize = scene.start(subject.inode.resize, PAGE_SIZE)
    scene.until(lambda: subject.waiting_for(LAST) == 1)
    gate.open()
    if path.end_error:
        assert isinstance(reader.error(), SegmentationFaultError)
    else:
        assert reader.result() == b""
    resize.result()
    subject.assert_at_rest()


@pytest.mark.parametrize("left_bytes", [0, 1, TAIL_BYTES - 1])
def test_item_25_a_view_never_loses_its_page(scene, left_bytes):
    """What a view shows stays, also what is cut off of it: the truncation moves the size, and says EBUSY."""
    new_bytes = LAST * PAGE_SIZE + left_bytes if left_bytes else PAGE_SIZE
    subject = scene.open(size_bytes=SIZE_BYTES)
    with subject.file.view(TAIL_BYTES, LAST * PAGE_SIZE) as data:
        subject.file.pread(PAGE_SIZE, 2 * PAGE_SIZE)
        with pytest.raises(OSError) as raised:
            subject.inode.resize(new_bytes)
        assert raised.value.errno == errno.EBUSY
        assert subject.mapping.i_size == new_bytes
        assert bytes(data) == subject.ops.content(LAST * PAGE_SIZE, TAIL_BYTES)
        assert subject.uptodate()[-1] == LAST
        left = subject.ops.content(LAST * PAGE_SIZE, left_bytes)
        assert subject.file.pread(PAGE_SIZE, LAST * PAGE_SIZE) == left, "but nobody else reads what was cut off"
        assert not subject.mapping.in_flight
    subject.inode.resize(SIZE_BYTES)
    subject.ops.version = 1
    assert subject.file.pread(PAGE_SIZE, LAST * PAGE_SIZE) == subject.content(LAST), "and a file that grows again has"
    subject.assert_at_rest(*subject.uptodate())


@on_every_path
def test_item_25_a_page_that_is_here_is_cut(scene, path):
    """No read in flight: the tail of the last page is zeroed, the pages behind it go, readers get the new end."""
    new_bytes = PAGE_SIZE + 10
    subject = scene.open(size_bytes=SIZE_BYTES)
    subject.file.read()
    subject.inode.resize(new_bytes)
    assert path.read_page(subject, 1) == subject.ops.content(PAGE_SIZE, 10)
    assert frame_bytes(subject, 1)[10:] == bytes(PAGE_SIZE - 10)
    assert len(subject.ops.calls) == LAST + 1
    subject.assert_at_rest(0, 1)


# -- a file that becomes longer --------------------------------------------------------------------------------------


@on_every_path
def test_item_26_a_page_that_grew_while_it_came(scene, path):
    """Bytes of the old size, then zeros or the new bytes, nothing else; once the resize is done, the new bytes."""
    new_bytes = SIZE_BYTES + 2 * PAGE_SIZE
    gate = scene.gate()
    subject = scene.open({LAST: [gated(gate, updated)]}, size_bytes=SIZE_BYTES)
    subject.ops.version = 7  # no word of it is zero
    reader = scene.start(path.read_page, subject, LAST)
    gate.wait_for_arrivals()
    resize = scene.start(subject.inode.resize, min(new_bytes, subject.mapping.frame_count << PAGE_SHIFT))
    scene.until(lambda: subject.waiting_for(LAST) == 1)
    assert subject.mapping.i_size == SIZE_BYTES, "the new size comes once the page with the old end has gone"
    gate.open()
    data = reader.result()
    assert data[:TAIL_BYTES] == subject.content(LAST)[:TAIL_BYTES]
    assert len(data) in (TAIL_BYTES, PAGE_SIZE)
    new = subject.content(LAST)[TAIL_BYTES : len(data)]
    assert data[TAIL_BYTES:] in (bytes(len(new)), new)
    resize.join()
    if resize._error is not None:
        assert path.pins, "only a pin may keep the page with the zeros"
        assert resize.error().args[0] == errno.EBUSY
        truncate.invalidate_inode_pages2(subject.mapping, LAST, LAST + 1)
    assert path.read_page(subject, LAST) == subject.content(LAST)
    assert subject.mapping.in_flight == {}


def test_item_26_a_file_that_grew_is_read_to_its_new_end(scene):
    """The old last page is read anew, and the pages behind it can be asked for, up to the frames that the file has."""
    subject = scene.open(size_bytes=2 * PAGE_SIZE + 10)
    assert subject.mapping.frame_count == 4
    assert subject.file.read() == subject.ops.content(0, 2 * PAGE_SIZE + 10)
    subject.inode.resize(4 * PAGE_SIZE)
    assert subject.file.pread(9 * PAGE_SIZE, 0) == subject.ops.content(0, 4 * PAGE_SIZE)
    assert [call.index for call in subject.ops.calls] == [0, 1, 2, 2, 3]
    with pytest.raises(OSError) as raised:
        subject.inode.resize(4 * PAGE_SIZE + 1)
    assert raised.value.errno == errno.EFBIG
    assert subject.mapping.i_size == 4 * PAGE_SIZE
    subject.assert_at_rest(0, 1, 2, 3)


def test_item_26_a_file_does_not_grow_over_a_page_that_cannot_be_read_anew(scene):
    """A view shows the old last page, so it must stay: no reader may take the zeros behind its end for the file's."""
    subject = scene.open(size_bytes=2 * PAGE_SIZE + 10)
    subject.ops.version = 7
    with subject.file.view(10, 2 * PAGE_SIZE) as data:
        with pytest.raises(OSError) as raised:
            subject.inode.resize(3 * PAGE_SIZE)
        assert raised.value.errno == errno.EBUSY
        assert bytes(data) == subject.ops.content(2 * PAGE_SIZE, 10)
        now = subject.file.pread(PAGE_SIZE, 2 * PAGE_SIZE)
        assert now == subject.content(2), "as long as the cache says the file is, with the bytes that it has"
    subject.inode.resize(3 * PAGE_SIZE)
    assert subject.file.pread(PAGE_SIZE, 2 * PAGE_SIZE) == subject.ops.content(2 * PAGE_SIZE, PAGE_SIZE)
    subject.assert_at_rest(2)


def test_item_26_a_page_that_outlived_the_end_is_not_the_files_when_it_grows_again(scene):
    """A page that was cut off while a view showed it stays behind the end; a file that grows over it reads it anew."""
    subject = scene.open()
    with subject.file.view(10, LAST * PAGE_SIZE), pytest.raises(OSError, match="pinned"):
        subject.inode.resize(2 * PAGE_SIZE)
    subject.ops.version = 1
    subject.inode.resize(8 * PAGE_SIZE)
    assert subject.file.pread(PAGE_SIZE, LAST * PAGE_SIZE) == subject.content(LAST)
    subject.assert_at_rest(LAST)


# -- between look-up and lock, and during a read ------------------------------------------------------------------


def locked_by_another(subject: Subject, index: int) -> Page:
    page = subject.mapping.lock_page(index)
    assert page.uptodate
    return page


@pytest.mark.parametrize("path", [FAULT, RETRIED_FAULT], ids=lambda path: path.name)
def test_item_27_a_page_removed_before_its_lock_came_is_looked_up_again(scene, path):
    """In line behind an invalidation: the reader never touches the page that went, and reads the one of now."""
    subject = scene.open()
    subject.file.pread(1, LAST * PAGE_SIZE)
    held = locked_by_another(subject, LAST)
    removal = scene.start(truncate.invalidate_inode_pages2, subject.mapping, LAST, LAST + 1)
    scene.until(lambda: held.waiter_count == 1)
    reader = scene.start(path.read_page, subject, LAST)
    scene.until(lambda: held.waiter_count == 2)
    subject.ops.version = 1
    held.unlock()
    removal.result()
    assert reader.result() == subject.content(LAST)
    old, new = subject.ops.calls_of(LAST)
    assert new.page is not old.page
    assert (new.locked, new.owned, new.uptodate) == (True, True, False)
    subject.assert_at_rest(LAST)


def test_item_27_a_page_cut_off_before_its_lock_came_is_not_touched(scene):
    """In line behind a truncation: the reader finds the end moved, asks the store nothing, and locks nothing."""
    subject = scene.open()
    subject.file.pread(1, LAST * PAGE_SIZE)
    held = locked_by_another(subject, LAST)
    removal = scene.start(subject.inode.resize, PAGE_SIZE)
    scene.until(lambda: held.waiter_count == 1)
    readers = [
        scene.start(lock_uptodate, subject.open_file, LAST),
        scene.start(filemap.fault, Fault(subject.open_file, LAST, RecordedLock())),
        scene.start(FAULT.read_page, subject, LAST),
    ]
    # The size has moved: whoever comes now turns back at once, and whoever was in line does when its turn comes.
    assert readers[1].result() == FaultResult.SIGBUS
    assert isinstance(readers[2].error(), SegmentationFaultError)
    held.unlock()
    removal.result()
    assert readers[0].result() is None
    assert len(subject.ops.calls) == 1
    subject.assert_at_rest()


def test_item_27_in_line_before_the_truncation_came(scene):
    """In line for the lock first, then the end moves: the reader gets the lock, sees the end, and lets go."""
    subject = scene.open()
    subject.file.pread(1, LAST * PAGE_SIZE)
    held = locked_by_another(subject, LAST)
    reader = scene.start(lock_uptodate, subject.open_file, LAST)
    fault = scene.start(FAULT.read_page, subject, LAST)
    scene.until(lambda: held.waiter_count == 2)
    removal = scene.start(subject.inode.resize, PAGE_SIZE)
    scene.until(lambda: held.waiter_count == 3)
    held.unlock()
    assert reader.result() is None
    assert isinstance(fault.error(), SegmentationFaultError)
    removal.result()
    assert len(subject.ops.calls) == 1
    subject.assert_at_rest()


def test_item_27_a_fault_that_gets_its_lock_at_once_looks_at_the_size_again(scene, monkeypatch):
    """The end moves after it has looked, and before it has the lock."""
    subject = scene.open()
    subject.file.pread(1, LAST * PAGE_SIZE)
    trylock = AddressSpace.trylock_uptodate
    removals: list[Task[None]] = []

    def trylock_in_time(mapping: AddressSpace, index: int) -> LockedPage | None:
        page = trylock(mapping, index)
        assert page is not None
        removals.append(scene.start(subject.inode.resize, PAGE_SIZE))
        scene.until(lambda: page.waiter_count == 1)  # it has moved the end, and waits for the page
        return page

    monkeypatch.setattr(AddressSpace, "trylock_uptodate", trylock_in_time)
    assert scene.start(filemap.fault, Fault(subject.open_file, LAST, RecordedLock())).result() == FaultResult.SIGBUS
    removals[0].result()
    subject.assert_at_rest()


@pytest.mark.parametrize("path", [READ, RUN, PREAD, FAULT], ids=lambda path: path.name)
def test_item_28_truncation_waits_for_a_read_and_then_removes(scene, path):
    """It neither cancels the read nor takes the page from under it; its turn comes when the page is unlocked."""
    subject = scene.open({2: [started]}, size_bytes=SIZE_BYTES)
    reader = scene.start(path.read_page, subject, 2)
    page = subject.ops.started_page(2)
    scene.until(lambda: page.waiter_count == 1)
    resize = scene.start(subject.inode.resize, 2 * PAGE_SIZE + 100)
    scene.until(lambda: page.waiter_count == 2)
    assert (page.locked, page.owner, resize.running, reader.running) == (True, None, True, True)
    subject.ops.complete(2)
    resize.result()
    assert reader.result() == subject.ops.content(2 * PAGE_SIZE, 100)
    assert not page.locked
    subject.assert_at_rest(2)
    assert frame_bytes(subject, 2)[100:] == bytes(PAGE_SIZE - 100)


def test_item_28_truncation_waits_for_every_page_of_a_run(scene):
    """A run in flight over the new end: all of it is waited for, what lies behind the end goes, the rest stays."""
    gate = scene.gate()

    def gated_run(ops, rac):
        gate.pass_through()
        page = rac.take()
        ops.fill(page)
        page.end_read()

    subject = scene.open(runs=[gated_run])
    reader = scene.start(subject.file.pread, 6 * PAGE_SIZE, 0)
    gate.wait_for_arrivals()
    resize = scene.start(subject.inode.resize, 2 * PAGE_SIZE)
    scene.until(lambda: subject.waiting_for(0) == 1)
    gate.open()
    resize.result()
    assert reader.result() == subject.ops.content(0, 2 * PAGE_SIZE)
    assert subject.ops.asked() == [("readahead", 0, 6)]
    subject.assert_at_rest(0, 1)


def test_item_28_two_truncations_take_turns(scene):
    """The inode orders them: the second waits for the first, and the last one's size holds."""
    subject = scene.open({LAST: [started]}, size_bytes=SIZE_BYTES)
    reader = scene.start(PREAD.read_page, subject, LAST)
    page = subject.ops.started_page(LAST)
    scene.until(lambda: page.waiter_count == 1)
    first = scene.start(subject.inode.resize, PAGE_SIZE)
    scene.until(lambda: page.waiter_count == 2)
    second = scene.start(subject.inode.resize, 10)
    subject.ops.complete(LAST)
    first.result()
    second.result()
    assert reader.result() == b""
    assert subject.mapping.i_size == 10
    assert subject.file.pread(100, 0) == subject.ops.content(0, 10)
    subject.assert_at_rest(0)
