"""Views that come and go while pages are removed, frames given back, files cut: hundreds of schedules each."""

from __future__ import annotations

import errno
import gc
from collections.abc import Callable

import pytest
from tests.mm.schedules import LOCK_FREE, Functions, may_fail_with
from tests.torture.stamps import check
from tests.torture.world import StampSource, World

from pagein import File, PageCache, follow_up
from pagein.mm import reclaim, removal, truncate
from pagein.mm.zone import Zone
from pagein.reader import PageReader
from pagein.testing.schedule import ByLine, Scheduler
from pagein.units import PAGE_SIZE

VIEWS: Functions = [PageReader.view, PageReader._view_parts, ByLine(reclaim.shrink)]
GIVE_BACK: Functions = [ByLine(PageReader._view_parts), ByLine(removal.remove_runs), ByLine(Zone.release_frames)]
GROW: Functions = [
    PageReader.view, ByLine(removal.remove_runs), ByLine(truncate.here_or_in_flight), ByLine(truncate._here),
]  # fmt: skip
WHOLE = 1 << 30
"""More than any file here: a view of all of it."""


def viewer(file: File, size_bytes: int = PAGE_SIZE, *, offsets: tuple[int, ...] = (0,)) -> Callable[[], None]:
    """Takes views, and lets each go at once; memory for one may be lacking."""

    def view() -> None:
        for offset in offsets:
            with may_fail_with(errno.ENOMEM):
                file.view(size_bytes, offset).release()

    return view


@pytest.mark.schedules(60, LOCK_FREE + VIEWS)
def test_a_short_view_of_a_victim_is_no_want_of_memory(scheduler: Scheduler) -> None:
    with World(scheduler) as world:
        file, _ = world.open(pages=8)
        file.pread(8 * PAGE_SIZE, 0)  # the cache is full, and all of it can be had
        others = [world.open(1 + number)[0] for number in range(3)]

        def miss() -> None:
            for number, other in enumerate(others):
                check(other.pread(PAGE_SIZE, 0), 1 + number, 0)

        offsets = tuple(index * PAGE_SIZE for index in range(8))
        scheduler.spawn("viewer", viewer(file, offsets=offsets))
        scheduler.spawn("misser", miss)
        scheduler.run()


@pytest.mark.schedules(60, LOCK_FREE + VIEWS)
def test_a_view_of_a_short_file_pins_nothing_of_another_s(scheduler: Scheduler) -> None:
    with World(scheduler) as world:
        tiny, _ = world.open(2, pages=0.01)
        file, _ = world.open(pages=8)
        other, _ = world.open(1, pages=8)
        file.pread(7 * PAGE_SIZE, 0)
        tiny.pread(10, 0)
        scheduler.spawn("viewer", viewer(tiny, WHOLE, offsets=(0, 0, 0)))
        scheduler.spawn("misser", lambda: check(other.pread(PAGE_SIZE, 0), 1, 0))
        scheduler.run()


@pytest.mark.schedules(60, GIVE_BACK)
def test_frames_that_are_given_back_hold_nothing_that_another_file_could_show(scheduler: Scheduler) -> None:
    """The page that an evictor is about to remove must not outlive the mapping that the sweeper ends."""
    with World(scheduler, cap_pages=9) as world:
        tiny, _ = world.open(9, pages=0.01)
        kept, _ = world.open(8)
        shown = kept.view(10, 0)  # in the same 16 MiB of frames, so that they are not forgotten as a whole
        inode, _ = world.inode(0, pages=8)
        file = inode.open()
        file.pread(8 * PAGE_SIZE, 0)
        file.close()
        other, _ = world.open(5, pages=8)
        base = inode.mapping.base
        del inode, file
        gc.collect(0)  # all of it is young: nothing has been collected since this schedule began
        assert world.cache._orphans, "nobody has it: the next sweep gives it back"

        def evict() -> None:
            with may_fail_with(errno.ENOMEM):
                check(other.pread(PAGE_SIZE * 8, 0), 5, 0)

        scheduler.spawn("evictor", evict)
        scheduler.spawn("sweeper", world.cache.stats)
        scheduler.spawn("viewer", viewer(tiny, WHOLE))
        scheduler.run()
        world.cache.stats()
        new, _ = world.open(7, pages=8)
        shown.release()
        kept.close()
        assert new._mapping.base == base
        check(new.pread(PAGE_SIZE * 8, 0), 7, 0)
        world.assert_idle()


@pytest.mark.schedules(200, GROW)
def test_a_file_that_grows_again_does_not_show_what_it_was_before(scheduler: Scheduler) -> None:
    with World(scheduler, cap_pages=2) as world:
        inode, _ = world.inode(pages=2)
        file = inode.open()
        (_, before) = check(file.pread(2 * PAGE_SIZE, 0), 0, 0)
        shown = file.view(PAGE_SIZE, PAGE_SIZE)
        with may_fail_with(errno.EBUSY):
            inode.resize(PAGE_SIZE)  # page 1 stays for now, beyond the end
            raise AssertionError("a view shows what was to be cut off")
        shown.release()
        del shown
        first = file.view(10, 0)
        other, _ = world.open(5)

        def evict() -> None:
            with may_fail_with(errno.ENOMEM):
                check(other.pread(PAGE_SIZE, 0), 5, 0)

        def grow() -> bool:
            with may_fail_with(errno.EBUSY, errno.ENOMEM):
                inode.resize(2 * PAGE_SIZE)
                return True
            return False

        scheduler.spawn("evictor", evict)
        growing = scheduler.spawn("grower", grow)
        scheduler.spawn("viewer", viewer(file, offsets=(PAGE_SIZE,)))
        scheduler.run()
        first.release()
        if growing.result:
            (_, after) = check(file.pread(2 * PAGE_SIZE, 0), 0, 0)
            assert after > before, "the page is of before the file was cut"


@pytest.mark.schedules(60, [])
def test_files_of_two_caches_may_be_closed_under_each_other_s_lock(scheduler: Scheduler) -> None:
    """As the garbage collector does, which runs in the middle of whatever allocates."""
    with World(scheduler) as one, World(scheduler) as two:

        def collect(world: World, file: File) -> None:
            with world.zone.lock:
                file.close()

        files = [world.cache.open((StampSource(scheduler, world.fetches), "x")) for world in (one, two)]
        scheduler.spawn("one", lambda: collect(one, files[1]))
        scheduler.spawn("two", lambda: collect(two, files[0]))
        scheduler.run()


CALLS: dict[str, Callable[[PageCache, File], object]] = {
    "file.close()": lambda cache, file: file.close(),
    "cache.close()": lambda cache, file: cache.close(),
    "cache.stats()": lambda cache, file: cache.stats(),
}


@pytest.mark.schedules(40, [ByLine(follow_up.sweep), ByLine(PageCache.close), ByLine(File.close)])
@pytest.mark.parametrize("call", CALLS)
def test_a_cache_may_be_closed_while_its_files_are_and_while_it_is_asked(scheduler: Scheduler, call: str) -> None:
    world = World(scheduler)
    source = StampSource(scheduler, world.fetches)
    file = world.cache.open((source, "x"))
    scheduler.spawn("main", lambda: CALLS[call](world.cache, file), signals=True)
    scheduler.spawn("closer", world.cache.close)
    scheduler.run()
    assert not source.open_count
