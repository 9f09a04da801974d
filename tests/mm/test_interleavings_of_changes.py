"""Readers of a file that becomes shorter or longer, is invalidated or closed, under hundreds of schedules each."""

from __future__ import annotations

import errno

import pytest
from tests.mm.schedules import LOCK_FREE, RESIZE, may_fail_with
from tests.torture.stamps import check
from tests.torture.world import StampSource, World

from pagein.mm import filemap, truncate
from pagein.mm.openfile import OpenFile
from pagein.reader import PageReader
from pagein.testing.schedule import Scheduler, explore
from pagein.units import PAGE_SIZE

# -- size --------------------------------------------------------------------------------------------------


@pytest.mark.schedules(150, LOCK_FREE + RESIZE)
def test_a_file_that_becomes_shorter_shows_no_zeros(scheduler: Scheduler) -> None:
    old_bytes, new_bytes = 2 * PAGE_SIZE, PAGE_SIZE // 2

    def read() -> None:
        for _ in range(2):
            data = file.pread(old_bytes, 0)
            check(data, 0, 0)
            # Piece by piece: the first page may be here, and the second one gone.
            assert len(data) in (old_bytes, PAGE_SIZE, new_bytes)

    with World(scheduler) as world:
        inode, _ = world.inode(pages=2)
        file = inode.open()
        file.pread(old_bytes, 0)
        scheduler.spawn("reader", read)
        scheduler.spawn("other", read)
        scheduler.spawn("truncate", lambda: inode.resize(new_bytes))
        scheduler.run()
        assert len(file.pread(old_bytes, 0)) == new_bytes
        world.assert_unlocked()


@pytest.mark.schedules(130, LOCK_FREE)
def test_a_read_that_lost_the_race_leaves_no_memory(scheduler: Scheduler) -> None:
    """It touched a page that has gone, and that nobody will fetch again."""
    with World(scheduler) as world:
        inode, _ = world.inode(pages=2)
        file = inode.open()
        file.pread(2 * PAGE_SIZE, 0)
        scheduler.spawn("reader", lambda: file.pread(2 * PAGE_SIZE, 0))
        scheduler.spawn("truncate", lambda: inode.resize(PAGE_SIZE))
        scheduler.run()
        world.assert_idle()


@pytest.mark.schedules(150, LOCK_FREE + RESIZE)
def test_a_file_that_becomes_longer_shows_no_zeros(scheduler: Scheduler) -> None:
    old_bytes, new_bytes = PAGE_SIZE * 3 // 2, 2 * PAGE_SIZE

    def read() -> None:
        for _ in range(2):
            data = file.pread(new_bytes, 0)
            assert len(data) in (old_bytes, new_bytes)
            check(data[:old_bytes], 0, 0)  # up to where the file ended a moment ago...
            check(data[old_bytes:], 0, old_bytes)  # ...and what came then

    with World(scheduler) as world:
        inode, _ = world.inode(pages=1.5)
        file = inode.open()
        file.pread(old_bytes, 0)
        scheduler.spawn("reader", read)
        scheduler.spawn("other", read)
        scheduler.spawn("truncate", lambda: inode.resize(new_bytes))
        scheduler.run()
        assert len(file.pread(new_bytes, 0)) == new_bytes
        world.assert_idle()


@pytest.mark.schedules(100, LOCK_FREE + RESIZE)
def test_a_file_whose_last_page_is_shown_becomes_longer_without_zeros_or_not_at_all(scheduler: Scheduler) -> None:
    def view() -> None:
        with file.view(PAGE_SIZE // 2, 0) as data:
            then = check(data, 0, 0)
            scheduler.switch("with a view open")
            assert check(data, 0, 0) == then

    def resize() -> None:
        with may_fail_with(errno.EBUSY):
            inode.resize(PAGE_SIZE)

    with World(scheduler) as world:
        inode, _ = world.inode(pages=0.5)
        file = inode.open()
        scheduler.spawn("viewer", view)
        scheduler.spawn("truncate", resize)
        scheduler.run()
        check(file.pread(PAGE_SIZE, 0), 0, 0)
        world.assert_idle()


@pytest.mark.schedules(100, LOCK_FREE + RESIZE)
def test_what_a_view_shows_stays_when_the_file_becomes_shorter(scheduler: Scheduler) -> None:
    def view() -> None:
        with file.view(PAGE_SIZE, 0) as data:
            then = check(data, 0, 0)
            scheduler.switch("with a view open")
            assert check(data, 0, 0) == then

    def resize() -> None:
        with may_fail_with(errno.EBUSY):
            inode.resize(PAGE_SIZE // 2)

    with World(scheduler) as world:
        inode, _ = world.inode()
        file = inode.open()
        file.pread(PAGE_SIZE, 0)
        scheduler.spawn("viewer", view)
        scheduler.spawn("truncate", resize)
        scheduler.run()
        world.assert_idle()


@pytest.mark.schedules(150, LOCK_FREE + RESIZE)
def test_a_view_of_a_file_that_becomes_shorter_and_longer_again_shows_no_zeros(scheduler: Scheduler) -> None:
    def view() -> None:
        with file.view(2 * PAGE_SIZE, 0) as data:
            check(data, 0, 0)

    def resize() -> None:
        for size_bytes in (PAGE_SIZE, 2 * PAGE_SIZE):
            with may_fail_with(errno.EBUSY):
                inode.resize(size_bytes)

    with World(scheduler) as world:
        inode, _ = world.inode(pages=2)
        file = inode.open()
        scheduler.spawn("viewer", view)
        scheduler.spawn("truncate", resize)
        scheduler.run()
        world.assert_unlocked()


# -- content -------------------------------------------------------------------------------------------------


@pytest.mark.schedules(150, LOCK_FREE + RESIZE)
def test_nothing_older_is_read_after_an_invalidation(scheduler: Scheduler) -> None:
    oldest = 1

    def invalidate() -> None:
        nonlocal oldest
        since = world.fetches.last + 1
        truncate.invalidate_inode_pages2(mapping, 0, 2)
        oldest = since

    def read() -> None:
        for _ in range(2):
            since = oldest
            check(file.pread(2 * PAGE_SIZE, 0), 0, 0, since=since)

    with World(scheduler) as world:
        file, _ = world.open(pages=2)
        mapping = file._file.mapping
        file.pread(2 * PAGE_SIZE, 0)
        scheduler.spawn("reader", read)
        scheduler.spawn("other", read)
        scheduler.spawn("invalidate", invalidate)
        scheduler.run()
        read()
        world.assert_idle()


# -- the end -------------------------------------------------------------------------------------------------


@pytest.mark.schedules(150, LOCK_FREE)
def test_a_reader_of_a_closed_file_never_reads_another_file(scheduler: Scheduler) -> bool:
    """Returns whether the frames were used again: in some schedules."""

    def read() -> None:
        # As a File does, but without its hold on the frames: what mm/ checks must be enough.
        memory = mapping.arena.memory
        try:
            pieces = filemap.read(OpenFile(mapping), 0, PAGE_SIZE, lambda start, stop: memory[start:stop])
        except ValueError:  # closed
            return
        check(b"".join(pieces), 0, 0)

    def reuse() -> bool:
        files.pop().close()  # and with the last reference to it, its frames can go
        world.cache.stats()  # sweeps
        other, _ = world.open(number=1)
        check(other.pread(PAGE_SIZE, 0), 1, 0)
        return other._base == mapping.base

    with World(scheduler) as world:
        files = [world.open()[0]]
        mapping = files[0]._file.mapping
        files[0].pread(PAGE_SIZE, 0)
        scheduler.spawn("reader", read)
        reusing = scheduler.spawn("reuse", reuse)
        scheduler.run()
        world.cache.stats()
        world.assert_idle()
        return bool(reusing.result)


def test_frames_of_a_closed_file_are_another_file_s_in_some_schedules() -> None:
    reused: list[bool] = []
    explore(
        lambda scheduler: reused.append(test_a_reader_of_a_closed_file_never_reads_another_file(scheduler)),
        seeds=range(20),
        preempt=LOCK_FREE,
    )
    assert any(reused)


@pytest.mark.schedules(130, [PageReader.pread, PageReader._pread_parts, PageReader._release])
def test_a_file_that_is_closed_while_it_is_read_and_opened_again(scheduler: Scheduler) -> None:
    closing = False

    def read() -> None:
        try:
            check(file.pread(PAGE_SIZE, 0), 0, 0)
        except ValueError:
            assert closing

    def close() -> None:
        nonlocal closing
        closing = True
        file.close()
        with world.cache.open((source, "object")) as again:
            check(again.pread(PAGE_SIZE, 0), 0, 0)

    with World(scheduler) as world:
        source = StampSource(scheduler, world.fetches)
        file = world.cache.open((source, "object"))
        scheduler.spawn("reader", read)
        scheduler.spawn("other", read)
        scheduler.spawn("closer", close)
        scheduler.run()
        world.assert_idle()
        with world.cache.open((source, "object")) as again:
            check(again.pread(PAGE_SIZE, 0), 0, 0)
        assert source.open_count == 0
        world.assert_idle()


@pytest.mark.schedules(100, [PageReader._release])
def test_a_file_closed_by_two_threads_at_once_is_let_go_once(scheduler: Scheduler) -> None:
    with World(scheduler) as world:
        source = StampSource(scheduler, world.fetches)
        file, other = (world.cache.open((source, "object")) for _ in range(2))
        scheduler.spawn("closer", file.close)
        scheduler.spawn("other closer", file.close)
        scheduler.run()
        check(other.pread(PAGE_SIZE, 0), 0, 0)
        other.close()
        assert source.open_count == 0
        world.assert_idle()


@pytest.mark.schedules(100, LOCK_FREE)
def test_willneed_against_closing_the_cache(scheduler: Scheduler) -> None:
    def close() -> None:
        file.advise("willneed")
        world.cache.close()

    def read() -> None:
        try:
            check(file.pread(4 * PAGE_SIZE, 0), 0, 0)
        except ValueError:
            assert world.zone.closed or file.closed

    with World(scheduler) as world:
        file, _ = world.open(pages=4)
        scheduler.spawn("closer", close)
        scheduler.spawn("reader", read)
        scheduler.run()
        world.assert_unlocked()
