"""Giving up what a store does not have: the file is what the store has then, whatever happens at the same time."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import nullcontext

import pytest
from tests.contract.harness import Scene
from tests.contract.writing import Written, open_written

from pagein.mm.page import Page
from pagein.mm.wbc import WritebackControl
from pagein.testing.stores import pattern
from pagein.testing.writable import WritableOps, store_gated
from pagein.units import PAGE_SHIFT, PAGE_SIZE

SIZE = 8 * PAGE_SIZE - 100
OLD = pattern(0, SIZE)


@pytest.fixture(params=["plain", "debug", "blocking"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Staged(WritableOps):
    """What is stored is not in the store before it is committed."""

    commits = True

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self.committed: bytes = bytes(self.data)
        self.before_it: Callable[[], object] = lambda: None
        """Called as something is given up, just before..."""
        self.after_it: Callable[[], object] = lambda: None
        """...and just after."""

    @property
    def uncommitted_bytes(self) -> int | None:
        return None if self.data == self.committed else 0

    def fsync(self) -> None:
        super().fsync()
        self.committed = bytes(self.data)

    def discard(self) -> int | None:
        if self.uncommitted_bytes is None:
            return None
        self.before_it()
        self.data[:] = self.committed
        self.after_it()
        return len(self.committed)


def staged(scene: Scene) -> tuple[Written, Staged]:
    """A file, and its store."""
    ops = Staged(SIZE)
    return open_written(scene, lambda size: ops, size_bytes=SIZE), ops


def assert_given_up(subject: Written) -> None:
    """Nothing of the file has changed, for whoever reads it, and in the store, also once all is closed."""
    assert subject.mapping.i_size == SIZE
    subject.assert_clean(OLD)
    subject.file.close()
    assert subject.ops.data == OLD
    assert getattr(subject.ops, "committed", OLD) == OLD


# -- a size ------------------------------------------------------------------------------------------------------

CUTS: dict[str, Callable[[Written], object]] = {
    "cut": lambda subject: subject.file.truncate(100),
    "cut to nothing": lambda subject: setattr(subject, "other", subject.inode.open("wb")),
    "cut, written": lambda subject: (subject.file.truncate(100), subject.file.pwrite(b"new", 50)),
    "written, cut": lambda subject: (subject.file.pwrite(b"new", 5 * PAGE_SIZE), subject.file.truncate(100)),
    "cut, longer, read": lambda subject: (
        subject.file.truncate(100), subject.file.truncate(3 * PAGE_SIZE), subject.read_all(),
    ),
    "cut, longer than before": lambda subject: (
        subject.file.truncate(100), subject.file.truncate(2 * SIZE), subject.read_all(),
    ),
    "cut twice": lambda subject: (subject.file.truncate(5 * PAGE_SIZE), subject.file.truncate(100)),
    "longer": lambda subject: (subject.file.truncate(2 * SIZE), subject.read_all()),
}  # fmt: skip


@pytest.mark.parametrize("ops", [WritableOps, Staged], ids=["in place", "as a whole"])
@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_a_size_that_the_store_was_not_told_is_given_up_with_the_rest(scene, ops, cut):
    subject = open_written(scene, ops, size_bytes=SIZE)
    subject.read_all()
    cut(subject)
    subject.file.discard()
    assert_given_up(subject)


@pytest.mark.parametrize("is_longer", [False, True])
def test_a_cut_that_was_staged_is_given_up_too(scene, is_longer):
    subject = open_written(scene, Staged, size_bytes=SIZE)
    subject.file.truncate(100)
    subject.write_back()
    if is_longer:
        subject.file.truncate(2 * SIZE)
        subject.read_all()
    subject.file.discard()
    assert_given_up(subject)


def test_a_cut_that_the_store_is_being_told_is_made(scene):
    """It is asked already: what becomes of that is waited for."""
    subject = open_written(scene, size_bytes=SIZE)
    gate = scene.gate()
    subject.ops.before_set_size.append(lambda ops: gate.pass_through())
    subject.file.truncate(100)
    fsync = scene.start(subject.file.fsync)
    gate.wait_for_arrivals()
    discard = scene.start(subject.file.discard)
    scene.until(lambda: subject.mapping.size_waiters)
    gate.open()
    discard.result()
    fsync.result()
    assert subject.mapping.i_size == 100
    subject.assert_clean(OLD[:100])


def test_a_cut_that_the_store_has_refused_is_given_up(scene):
    def refuse(ops):
        raise OSError(errno.EIO, "not now")

    subject = open_written(scene, size_bytes=SIZE)
    subject.ops.before_set_size.extend([refuse] * 9)
    subject.file.truncate(100)
    with pytest.raises(OSError, match="not now"):
        subject.file.fsync()
    subject.file.discard()
    assert_given_up(subject)


# -- what a store has taken as it failed ---------------------------------------------------------------------------


def torn(code: int) -> Callable[[WritableOps, Page, WritebackControl], int]:
    """Takes a page, and fails."""

    def answer(ops: WritableOps, page: Page, wbc: WritebackControl) -> int:
        ops.keep(page)
        raise OSError(code, "lost behind it")

    return answer


def taken_beyond_the_end(scene: Scene) -> Written:
    """A file whose store has taken something beyond the end, and failed."""
    subject = open_written(scene, lambda size: WritableOps(size, {8: [torn(errno.ENOSPC)]}), size_bytes=SIZE)
    subject.file.pwrite(b"A" * 200, 8 * PAGE_SIZE)
    with pytest.raises(OSError, match="lost"):
        subject.file.fsync()
    assert len(subject.ops.data) > SIZE
    return subject


def down(ops: WritableOps) -> None:
    raise OSError(errno.EIO, "down")


def unable(ops: WritableOps) -> None:
    raise NotImplementedError


def test_what_a_store_has_taken_beyond_the_end_as_it_failed_is_cut_off_when_it_is_given_up(scene):
    subject = taken_beyond_the_end(scene)
    subject.file.discard()
    assert subject.ops.data == OLD
    assert_given_up(subject)


@pytest.mark.parametrize("new", [b"", b"x"])
@pytest.mark.parametrize("end", ["fsync", "close"])
def test_or_by_the_next_fsync_or_close(scene, new, end):
    subject = taken_beyond_the_end(scene)
    subject.ops.before_set_size.extend([down] * 9)
    subject.file.discard()
    assert len(subject.ops.data) > SIZE
    subject.ops.before_set_size.clear()
    subject.file.pwrite(new, SIZE)
    getattr(subject.file, end)()
    assert subject.ops.data == OLD + new


def test_or_before_the_file_grows_over_it(scene):
    subject = taken_beyond_the_end(scene)
    subject.ops.before_set_size.extend([down] * 9)
    subject.file.discard()
    subject.ops.before_set_size.clear()
    subject.file.truncate(9 * PAGE_SIZE)
    subject.file.close()
    assert subject.ops.data == OLD + bytes(9 * PAGE_SIZE - SIZE)


@pytest.mark.parametrize("refuses", [down, unable])
@pytest.mark.parametrize("closes", [True, False])
def test_who_gives_up_on_a_store_that_is_down_is_free(scene, refuses, closes):
    """Nothing of his is unwritten: neither his close nor that of the cache tells him of it, or keeps it."""
    subject = taken_beyond_the_end(scene)
    subject.ops.before_set_size.extend([refuses] * 9)
    assert subject.file.discard() == PAGE_SIZE
    assert subject.inode.unwritten_bytes is None
    if closes:
        subject.file.close()
    subject.cache.close()


def test_an_fsync_tells_that_it_could_not_be_cut_off_each_time(scene):
    subject = taken_beyond_the_end(scene)
    subject.ops.before_set_size.extend([down] * 9)
    subject.file.discard()
    other = subject.inode.open("r+b")
    for _ in range(2):
        with pytest.raises(OSError, match="down"):
            subject.file.fsync()
    other.close()


@pytest.mark.parametrize("refuses", [down, unable])
@pytest.mark.parametrize("end", ["fsync", "close"])
def test_it_is_asked_once_by_who_stores_all_while_another_goes_on_writing(scene, refuses, end):
    """Each time that it refuses something was written, which is stored next."""
    subject = taken_beyond_the_end(scene)
    other = subject.inode.open("r+b")

    def refuse(ops: WritableOps) -> None:
        scene.start(other.pwrite, b"more", 0).join()
        refuses(ops)

    subject.ops.before_set_size.extend([down, *[refuse] * 9])
    subject.file.discard()
    # A store that cannot do it has not failed; and a close does not tell again what was refused before.
    with pytest.raises(OSError, match="down") if refuses is down and end == "fsync" else nullcontext():
        getattr(subject.file, end)()
    assert len(subject.ops.before_set_size) == 8
    assert subject.ops.data[:4] == b"more"


@pytest.mark.parametrize("is_longer", [False, True])
def test_a_size_that_comes_while_it_is_refused_is_owed_all_the_same(scene, is_longer):
    """Cut further, or grown over what is there."""
    subject = taken_beyond_the_end(scene)
    subject.ops.before_set_size.append(down)
    subject.file.discard()
    gate = scene.gate()

    def refuse(ops: WritableOps) -> None:
        gate.pass_through()
        down(ops)

    subject.ops.before_set_size.append(refuse)
    fsync = scene.start(subject.file.fsync)
    gate.wait_for_arrivals()
    if is_longer:
        subject.file.pwrite(b"end", 10 * PAGE_SIZE)
    else:
        subject.file.truncate(100)
    gate.open()
    with pytest.raises(OSError, match="down"):
        fsync.result()
    subject.fsync_and_assert_clean(OLD + bytes(10 * PAGE_SIZE - SIZE) + b"end" if is_longer else OLD[:100])


@pytest.mark.parametrize("refusals", [1, 9])
def test_what_a_direct_write_has_left_beyond_the_end_is_not_committed(scene, refusals):
    """By a close, after an fsync that could not have it cut off: it is, or nothing is committed, and that is told."""

    class Torn(Staged):
        def direct_write(self, data: memoryview, offset_bytes: int) -> int:
            self.put(bytes(data[:PAGE_SIZE]), offset_bytes)
            raise OSError(errno.EIO, "lost behind it")

    ops = Torn(SIZE)
    subject = open_written(scene, lambda size: ops, size_bytes=SIZE)
    subject.file.pwrite(b"new", 0)
    with pytest.raises(OSError, match="lost"):
        subject.file.pwrite(bytes(2 * PAGE_SIZE), SIZE, direct=True)
    ops.before_set_size.extend([down] * refusals)
    with pytest.raises(OSError, match="down"):
        subject.file.fsync()
    if refusals == 1:
        subject.file.close()
        assert ops.committed == b"new" + OLD[3:]
        return
    with pytest.raises(OSError, match="down"):
        subject.file.close()
    assert ops.committed == OLD
    ops.before_set_size.clear()
    subject.cache.close()
    assert ops.committed == b"new" + OLD[3:]


@pytest.mark.parametrize(("offset", "beyond"), [(SIZE - 200, 0), (SIZE, 50)], ids=["within the end", "over the end"])
def test_nor_is_it_while_another_is_written_directly_to_the_last_page(scene, offset, beyond):
    """That begins in the middle of an fsync.  Before the end, what was left is cut off behind it; over the end, it goes
    through the cache."""
    storing, writing = scene.gate(), scene.gate()

    class Torn(Staged):
        fails = True

        def direct_write(self, data: memoryview, offset_bytes: int) -> int:
            self.put(bytes(data), offset_bytes)
            if self.fails:
                raise OSError(errno.EIO, "lost behind it")
            writing.pass_through()
            return len(data)

    ops = Torn(SIZE)
    subject = open_written(scene, lambda size: ops, size_bytes=SIZE)
    with pytest.raises(OSError, match="lost"):
        subject.file.pwrite(b"G" * PAGE_SIZE, SIZE, direct=True)
    ops.fails = False
    subject.file.pwrite(b"new", 0)
    ops.script_store(0, store_gated(storing))
    fsync = scene.start(subject.file.fsync)
    storing.wait_for_arrivals()
    writer = scene.start(lambda: subject.file.pwrite(b"n" * (SIZE + beyond - offset), offset, direct=True))
    if beyond:
        writer.result()
    else:
        writing.wait_for_arrivals()
    storing.open()
    scene.until(lambda: not fsync.running or fsync.thread_id in scene.door.waiting)
    writing.open()
    writer.result()
    fsync.result()
    assert b"G" not in ops.committed[SIZE + beyond :]
    assert ops.committed[:offset] == b"new" + OLD[3:offset]


class TornWrites(WritableOps):
    """Direct writes fail after three pages, as long as they do."""

    fails = True

    def direct_write(self, data: memoryview, offset_bytes: int) -> int:
        if not self.fails:
            return super().direct_write(data, offset_bytes)
        self.put(b"G" * (3 * PAGE_SIZE), offset_bytes)
        raise OSError(errno.EIO, "lost behind it")


def refuse_page(ops: WritableOps, page: Page, wbc: WritebackControl) -> int:
    raise OSError(errno.ENOSPC, "lost all of it")


def torn_behind(subject: Written, offset: int) -> None:
    with pytest.raises(OSError, match="lost"):
        subject.file.pwrite(bytes(4 * PAGE_SIZE), offset, direct=True)


def test_a_close_tells_of_what_it_could_not_have_cut_off_whatever_was_refused_long_ago(scene):
    """That the file has grown over since."""
    subject = open_written(scene, TornWrites)
    keeper = subject.inode.open("r+b")
    for _ in range(2):
        end = subject.mapping.i_size
        torn_behind(subject, end)
        subject.ops.before_set_size.append(down)
        with pytest.raises(OSError, match="down"):
            subject.file.close()
        subject.file = subject.inode.open("r+b")
        subject.file.pwrite(bytes(4 * PAGE_SIZE), end)
        subject.file.fsync()
    keeper.close()


@pytest.mark.parametrize("refuses", [down, unable])
def test_what_is_beyond_a_hole_at_the_end_is_cut_off_or_stays_beyond_it(scene, refuses):
    """The hole is made all the same; and if it cannot be cut off then, it does not become content by a discard."""
    subject = open_written(scene, TornWrites)
    size = subject.mapping.i_size
    subject.file.truncate(longer := size + 2 * PAGE_SIZE)
    torn_behind(subject, longer)
    subject.ops.before_set_size.append(refuses)
    if refuses is unable:
        subject.ops.before_set_size.append(lambda ops: None)
        subject.ops.before_set_size.extend([unable] * 9)
    subject.file.fsync()
    expected = pattern(0, size) + bytes(2 * PAGE_SIZE)
    assert subject.ops.data[:longer] == expected
    assert len(subject.ops.data) == longer or refuses is unable
    subject.file.discard()
    assert subject.read_all() == expected
    subject.file.close()


def test_what_a_write_has_left_beneath_what_is_given_up_is_no_content(scene):
    """The file has grown, behind a hole, after it was appended to over that."""
    subject = open_written(scene, TornWrites)
    size = subject.mapping.i_size
    expected = pattern(0, size)
    torn_behind(subject, size)
    subject.file.pwrite(bytes(PAGE_SIZE), size)
    subject.file.pwrite(b"end", size + 2 * PAGE_SIZE)
    subject.ops.script_store(size >> PAGE_SHIFT, *[refuse_page] * 9)
    with pytest.raises(OSError, match="lost"):
        subject.file.fsync()
    subject.file.discard()
    data = subject.read_all()
    assert data[:size] == expected
    assert b"G" not in data[size:]


def test_nor_once_another_is_written_directly_behind_it(scene):
    """All before that counts as what the store has: what covers the other's bytes is stored first."""
    ops = TornWrites(SIZE)
    subject = open_written(scene, lambda size: ops, size_bytes=SIZE)
    torn_behind(subject, SIZE)
    subject.file.pwrite(b"A" * (4 * PAGE_SIZE), SIZE)
    ops.fails = False
    end = subject.mapping.i_size
    assert subject.file.pwrite(b"D" * PAGE_SIZE, end, direct=True) == PAGE_SIZE
    subject.file.discard()
    assert subject.read_all() == OLD + b"A" * (4 * PAGE_SIZE) + b"D" * PAGE_SIZE


def test_what_a_store_has_taken_that_is_another_s_by_now_is_left_to_him(scene):
    """Nothing is asked of it any more, which it would refuse: the file can be closed."""
    stale = torn(errno.ESTALE)
    subject = open_written(scene, lambda size: WritableOps(size, {8: [stale]}), size_bytes=SIZE)
    subject.file.pwrite(b"A" * 200, 8 * PAGE_SIZE)
    with pytest.raises(OSError, match="lost"):
        subject.file.fsync()
    done = list(subject.ops.done)
    subject.file.discard()
    subject.file.close()
    assert [operation for operation, *_ in subject.ops.done[len(done) :]] in ([], ["fsync"])


# -- others, at the same time --------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_known", [False, True], ids=["just before the store does", "just after"])
@pytest.mark.parametrize("size", [None, 2 * SIZE], ids=["pages", "a longer file, too"])
@pytest.mark.parametrize("ends", ["fsync", "close", "sync"])
def test_nothing_is_committed_by_another_while_it_is_given_up(scene, is_known, size, ends):
    """Half of what was written has gone by then, or the store has its old size, and that is not known yet."""
    subject, ops = staged(scene)
    other, tasks = subject.inode.open("r+b"), []
    subject.file.pwrite(b"A" * PAGE_SIZE, 0)
    subject.write_back()
    if size is not None:
        subject.file.truncate(size)
    subject.file.pwrite(b"A" * PAGE_SIZE, PAGE_SIZE)

    def end() -> None:
        tasks.append(task := scene.start(subject.cache.sync if ends == "sync" else getattr(other, ends)))
        scene.until(lambda: not task.running or scene.door.waiting)

    setattr(ops, "after_it" if is_known else "before_it", end)
    scene.start(subject.file.discard).result()
    tasks[0].result()
    assert ops.committed == OLD
    other.close()
    assert_given_up(subject)


def test_what_is_given_up_is_not_committed_with_what_another_writes_meanwhile(scene):
    subject, ops = staged(scene)
    other, tasks = subject.inode.open("r+b"), []
    subject.file.pwrite(b"A" * PAGE_SIZE, 0)
    subject.write_back()  # it is clean, and here

    def write() -> None:
        tasks.append(task := scene.start(other.pwrite, b"b", 100))
        scene.until(lambda: not task.running or task.thread_id in scene.door.waiting)
        subject.write_back()

    ops.after_it = write
    scene.start(subject.file.discard).result()
    tasks[0].result()
    other.fsync()
    expected = OLD[:100] + b"b" + OLD[101:]
    assert ops.committed == expected
    subject.assert_clean(expected)


@pytest.mark.parametrize("when", ["before_it", "after_it"])
@pytest.mark.parametrize("new", [SIZE - PAGE_SIZE, SIZE + PAGE_SIZE], ids=["shorter", "longer"])
def test_what_a_reader_brings_while_it_is_given_up_goes_too(scene, when, new):
    subject, ops = staged(scene)
    subject.file.truncate(new)
    subject.file.pwrite(b"A" * PAGE_SIZE, 0)
    subject.write_back()
    readers = []

    def read() -> None:
        for offset in 0, SIZE - PAGE_SIZE - 10, SIZE - 10:
            readers.append(scene.start(subject.file.pread, 10, offset))
            readers[-1].join()

    setattr(ops, when, read)
    scene.start(subject.file.discard).result()
    assert readers
    assert_given_up(subject)


# -- views ---------------------------------------------------------------------------------------------------------


def discarded(subject: Written) -> None:
    with pytest.raises(OSError, match="pinned") as raised:
        subject.file.discard()
    assert raised.value.errno == errno.EBUSY


def test_nothing_that_was_staged_is_given_up_while_a_view_shows_some_of_it(scene):
    """Its page is clean.  The next try finds all that there was, and gives it up."""
    subject, ops = staged(scene)
    new = b"A" * PAGE_SIZE
    subject.file.pwrite(new, 0)
    subject.write_back()
    with subject.file.view(10, 0) as shown:
        for _ in range(2):
            discarded(subject)
            assert ops.uncommitted_bytes is not None
            assert subject.read_all() == new + OLD[PAGE_SIZE:]
        assert shown == new[:10]
    assert subject.file.discard() == 0
    assert_given_up(subject)


@pytest.mark.parametrize("ops", [WritableOps, Staged], ids=["in place", "as a whole"])
@pytest.mark.parametrize("shown", [0, 2, 7], ids=["stored", "dirty", "untouched"])
def test_of_what_a_view_shows_a_part_of_nothing_is_given_up(scene, ops, shown):
    """Else a close would store the other part: a file that nobody has written."""
    subject = open_written(scene, ops, size_bytes=SIZE)
    subject.read_all()
    subject.file.pwrite(b"A" * PAGE_SIZE, 0)
    subject.write_back()
    subject.file.pwrite(b"B" * 3 * PAGE_SIZE, 2 * PAGE_SIZE)
    new = b"A" * PAGE_SIZE + OLD[PAGE_SIZE : 2 * PAGE_SIZE] + b"B" * 3 * PAGE_SIZE + OLD[5 * PAGE_SIZE :]
    with subject.file.view(10, shown * PAGE_SIZE):
        if ops is Staged or shown == 2:
            discarded(subject)
            assert subject.read_all() == new
        else:
            subject.file.discard()
            new = new[:PAGE_SIZE] + OLD[PAGE_SIZE:]
    subject.file.fsync()
    subject.assert_clean(new)
    assert getattr(subject.ops, "committed", new) == new


def test_a_cut_that_a_view_keeps_from_being_given_up_is_owed(scene):
    """By a reader who comes as it is given up."""
    views: list[memoryview] = []

    class Read(WritableOps):
        def discard(self) -> int | None:
            if not views:
                reader = scene.start(lambda: views.append(subject.file.view(50, 2 * PAGE_SIZE)))
                reader.join()
            return super().discard()

    subject = open_written(scene, Read, size_bytes=SIZE)
    subject.file.truncate(2 * PAGE_SIZE + 100)
    with pytest.raises(OSError, match="pinned"):
        scene.start(subject.file.discard).result()
    assert subject.mapping.size_owed == subject.mapping.i_size == 2 * PAGE_SIZE + 100
    views[0].release()
    subject.file.discard()
    assert_given_up(subject)


def test_what_was_staged_and_a_view_shows_as_it_is_given_up_is_given_up_by_the_next_try(scene):
    """Until then it is known to be another than the store's."""
    subject, ops = staged(scene)
    views = []
    subject.file.pwrite(b"A" * PAGE_SIZE, 0)
    subject.write_back()
    ops.before_it = lambda: views.append(subject.file.view(10, 0))
    discarded(subject)
    with views[0] as shown:
        assert shown == b"A" * 10
        subject.assert_dirty(0)
        discarded(subject)
    assert subject.file.discard() > 0
    assert_given_up(subject)
