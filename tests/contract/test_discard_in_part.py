"""Some has been given up, and not all: nothing of it is committed before another try has given up the rest."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from tests.contract.harness import Scene
from tests.contract.test_discard import OLD, SIZE, Staged, TornWrites, down, refuse_page, torn_behind
from tests.contract.writing import Written, open_written

from pagein import UnwrittenDataError
from pagein.testing.stores import pattern
from pagein.testing.writable import WritableOps, store_gated
from pagein.units import PAGE_SHIFT, PAGE_SIZE
from pagein.unwritten import discard


@pytest.fixture(params=["plain", "debug", "blocking"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def written(scene: Scene) -> tuple[Written, Staged]:
    """A file of which one page was stored, and another is dirty."""
    ops = Staged(SIZE)
    subject = open_written(scene, lambda size: ops, size_bytes=SIZE)
    subject.file.pwrite(b"A" * PAGE_SIZE, 0)
    subject.write_back()
    subject.file.pwrite(b"B" * PAGE_SIZE, PAGE_SIZE)
    return subject, ops


def fail() -> None:
    raise OSError(errno.ECONNRESET, "connection lost")


def refused(call: Callable[[], object]) -> None:
    """As a part of it has been given up."""
    with pytest.raises(OSError, match="has been given up") as raised:
        call()
    assert raised.value.errno == errno.ECANCELED


def assert_as_it_was(subject: Written, ops: Staged) -> None:
    """Given up, all of it, and the file can be written again."""
    assert subject.inode.unwritten_bytes is None
    subject.assert_clean(OLD)
    subject.file.pwrite(b"new", 0)
    subject.file.close()
    assert ops.committed == b"new" + OLD[3:]


def close(subject: Written) -> None:
    closed, subject.file = subject.file, subject.inode.open("r+b")
    closed.close()


@pytest.mark.parametrize(
    "end",
    [lambda subject: subject.file.fsync(), close, lambda subject: subject.cache.sync()],
    ids=["fsync", "close", "sync"],
)
def test_of_what_the_store_could_not_give_up_nothing_is_committed(scene, end):
    """Its half of it is what it has kept."""
    subject, ops = written(scene)
    ops.before_it = fail
    with pytest.raises(OSError, match="connection lost"):
        subject.file.discard()
    refused(lambda: end(subject))
    subject.file.pwrite(b"C", 3 * PAGE_SIZE)
    refused(lambda: end(subject))
    assert ops.committed == OLD
    assert subject.inode.unwritten_bytes is not None
    ops.before_it = lambda: None
    subject.file.discard()
    assert_as_it_was(subject, ops)


def test_a_cache_does_not_close_while_it_has_that(scene):
    """And says why; giving it up is all that is left."""
    subject, ops = written(scene)
    ops.before_it = fail
    with pytest.raises(OSError, match="connection lost"):
        subject.file.discard()
    with pytest.raises(UnwrittenDataError, match="has been given up") as raised:
        subject.cache.close()
    assert isinstance(raised.value.__cause__, OSError)
    assert "connection lost" in str(raised.value.__cause__.__cause__)
    ops.before_it = lambda: None
    subject.cache.close(discard=True)
    assert ops.committed == OLD


@pytest.mark.parametrize("is_empty", [True, False])
def test_what_is_written_once_the_file_was_made_empty_is_a_whole(scene, is_empty):
    """As who tries again does, who opens it with "wb"."""
    subject, ops = written(scene)
    if is_empty:
        subject.file.truncate(0)
    ops.before_it = fail
    with pytest.raises(OSError, match="connection lost"):
        subject.file.discard()
    with pytest.raises(OSError, match="has been given up"):
        subject.file.close()
    with subject.inode.open("wb") as file:
        file.write(b"the second try")
    assert ops.committed == b"the second try"
    assert subject.inode.unwritten_bytes is None


def test_what_a_reader_has_brought_before_the_store_lost_it_and_failed_goes_with_the_next_try(scene):
    """The store has nothing left to give up then."""
    subject, ops = written(scene)
    ops.before_it = lambda: scene.start(subject.file.pread, 1, 0).join()
    ops.after_it = fail
    with pytest.raises(OSError, match="connection lost"):
        scene.start(subject.file.discard).result()
    assert ops.uncommitted_bytes is None
    subject.file.discard()
    assert_as_it_was(subject, ops)


@pytest.mark.parametrize("ends", ["fsync", "close", "sync"])
@pytest.mark.parametrize("fails", [True, False], ids=["fails", "is the last"])
def test_nor_by_who_waits_for_the_end_of_it(scene, ends, fails):
    """It fails; or it was for good, all but what a view shows, which is dirty then."""
    subject, ops = written(scene)
    other, tasks = subject.inode.open("r+b"), []

    def begin() -> None:
        tasks.append(task := scene.start(subject.cache.sync if ends == "sync" else getattr(other, ends)))
        scene.until(lambda: not task.running or task.thread_id in scene.door.waiting or ends == "sync")
        if ends == "sync":  # the store's part of it is another thread's
            scene.until(lambda: subject.mapping.discard_waiters)
        if fails:
            fail()

    ops.before_it = begin
    table = subject.cache._table
    with subject.file.view(10, PAGE_SIZE) if not fails else memoryview(b""):
        discarding = scene.start(lambda: discard(table, subject.inode, shown_stays=not fails))
        if fails:
            with pytest.raises(OSError, match="connection lost"):
                discarding.result()
        else:
            discarding.result()
        refused(tasks[0].result)
    assert ops.committed == OLD
    ops.before_it = lambda: None
    subject.file.discard()
    other.close()
    assert_as_it_was(subject, ops)


def test_in_place_what_was_given_up_for_good_is_not_stored_by_who_waits(scene):
    """A cut of what a view shows is owed still: the store is not told."""
    subject = open_written(scene, size_bytes=SIZE)
    table, gate = subject.cache._table, scene.gate()
    subject.file.pread(1, PAGE_SIZE)
    subject.ops.script_store(0, store_gated(gate))
    with subject.file.view(10, PAGE_SIZE):
        subject.file.pwrite(b"A", 0)
        fsync = scene.start(subject.file.fsync)
        gate.wait_for_arrivals()
        subject.file.truncate(2 * PAGE_SIZE)
        discarding = scene.start(lambda: discard(table, subject.inode, shown_stays=True))
        scene.until(lambda: subject.mapping.discard_waiters is not None)
        gate.open()
        discarding.result()
        refused(fsync.result)
    assert subject.ops.data == b"A" + OLD[1:]
    subject.file.discard()


@pytest.mark.parametrize("shown", [0, 1], ids=["stored", "dirty"])
def test_nor_what_a_view_shows_that_was_made_meanwhile(scene, shown):
    """By a reader of what the store was about to lose."""
    subject, ops = written(scene)
    views: list[memoryview] = []
    ops.before_it = lambda: views.append(scene.start(subject.file.view, 10, shown * PAGE_SIZE).result())
    with pytest.raises(OSError, match="pinned") as raised:
        scene.start(subject.file.discard).result()
    assert raised.value.errno == errno.EBUSY
    refused(subject.file.fsync)
    refused(lambda: close(subject))
    assert ops.committed == OLD
    views[0].release()
    ops.before_it = lambda: None
    subject.file.discard()
    assert_as_it_was(subject, ops)


def test_nor_by_a_store_that_has_all_committed_as_it_is_asked_to_give_it_up(scene):
    """It cannot wait for itself: it is told that it is in the middle."""
    subject, ops = written(scene)
    ops.before_it = lambda: refused(subject.cache.sync)
    subject.file.discard()
    assert ops.committed == OLD
    assert_as_it_was(subject, ops)


def test_a_view_that_keeps_all_of_it_leaves_what_was_given_up_before_as_it_is(scene):
    """What is not committed is not committed."""
    subject, ops = written(scene)
    ops.before_it = fail
    with pytest.raises(OSError, match="connection lost"):
        subject.file.discard()
    with subject.file.view(10, 0), pytest.raises(OSError, match="pinned"):
        subject.file.discard()
    refused(subject.file.fsync)
    ops.before_it = lambda: None
    subject.file.discard()
    assert_as_it_was(subject, ops)


# -- what a write that failed has left is no content -----------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda file, end: file.pwrite(b"n" * PAGE_SIZE, end),
        lambda file, end: file.truncate(end + 40_000),
        lambda file, end: file.truncate(end - 100),
    ],
    ids=["append", "longer", "shorter"],
)
def test_what_lies_behind_a_hole_is_none_though_the_file_changes_as_the_hole_is_told(scene, change):
    """It was to be cut off, and was not; then the store is told where the hole ends, and has it behind that."""
    subject = open_written(scene, TornWrites)
    other = subject.inode.open("r+b")
    size = subject.mapping.i_size
    subject.file.truncate(end := size + 2 * PAGE_SIZE)
    torn_behind(subject, end)
    subject.ops.before_set_size.extend([down, lambda ops: scene.start(change, other, end).join(), down])
    subject.ops.script_store(end >> PAGE_SHIFT, *[refuse_page] * 9)
    with pytest.raises(OSError, match=r"down|lost"):
        subject.file.fsync()
    subject.file.discard()
    assert b"G" not in subject.read_all()[size:]


def test_what_lies_behind_the_end_is_cut_off_though_a_cut_was_given_up(scene):
    """Behind the end as it was before, and is again."""
    subject = open_written(scene, TornWrites)
    size = subject.mapping.i_size
    torn_behind(subject, size)
    subject.file.truncate(100)
    subject.file.discard()
    assert subject.mapping.i_size == size
    assert len(subject.ops.data) == size
    subject.fsync_and_assert_clean(pattern(0, size))


def test_a_close_tells_of_what_it_could_not_have_cut_off_though_a_pass_has_stored_what_has_grown_over_another(scene):
    """Of which somebody was told, long ago: no fsync, and no close, has seen that it is gone."""
    subject = open_written(scene, TornWrites)
    keeper = subject.inode.open("r+b")
    for _ in range(2):
        end = subject.mapping.i_size
        torn_behind(subject, end)
        subject.ops.before_set_size.append(down)
        with pytest.raises(OSError, match="down"):
            close(subject)
        subject.file.pwrite(bytes(4 * PAGE_SIZE), end)
        assert subject.write_back() is None
    keeper.close()


def test_an_fsync_asks_again_where_another_has_left_something_since_it_was_refused(scene):
    """The file has grown over the first, in the middle of it."""
    subject = open_written(scene, TornWrites)
    other, gate = subject.inode.open("r+b"), scene.gate()
    end = subject.mapping.i_size
    torn_behind(subject, end)

    def refuse(ops: WritableOps) -> None:
        scene.start(other.pwrite, b"more", 0).join()
        down(ops)

    subject.ops.before_set_size.append(refuse)
    subject.ops.script_store(0, store_gated(gate))
    fsync = scene.start(subject.file.fsync)
    gate.wait_for_arrivals()
    other.pwrite(bytes(4 * PAGE_SIZE), end)
    torn_behind(subject, subject.mapping.i_size)
    subject.ops.before_set_size.append(down)
    gate.open()
    with pytest.raises(OSError, match="down"):
        fsync.result()
    assert not subject.ops.before_set_size
    subject.ops.before_set_size.clear()
    other.close()


def test_a_store_that_never_cuts_anything_off_commits_nothing_with_it(scene):
    """Until the file has grown over it, or it is given up."""

    class Torn(Staged):
        def direct_write(self, data: memoryview, offset_bytes: int) -> int:
            self.put(bytes(data), offset_bytes)
            raise OSError(errno.EIO, "lost behind it")

        def set_size(self, size_bytes: int) -> None:
            raise NotImplementedError

    ops = Torn(SIZE)
    subject = open_written(scene, lambda size: ops, size_bytes=SIZE)
    torn_behind(subject, SIZE)
    subject.file.pwrite(b"new", 0)
    with pytest.raises(NotImplementedError):
        subject.file.fsync()
    assert ops.committed == OLD
    subject.file.pwrite(b"n" * (4 * PAGE_SIZE), SIZE)
    subject.file.fsync()
    assert ops.committed == b"new" + OLD[3:] + b"n" * (4 * PAGE_SIZE)
