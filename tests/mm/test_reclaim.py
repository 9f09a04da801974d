"""Reclaim: the decision as a table, the order of a removal, and readers that lose a race to it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from functools import partial
from pickle import PickleBuffer

import pytest
from tests.contract.harness import Scene, Subject
from tests.contract.paths import memory

from pagein import PageCache
from pagein.mm import filemap, reclaim, removal, truncate
from pagein.mm.arena import REGION_PAGES, Arena
from pagein.mm.filemap import LOST_RACES_MAX
from pagein.mm.lru import GHOST, MAIN, NOT_QUEUED, PAID, READ_AHEAD, SMALL, SPARED, Run, pay_for_used
from pagein.mm.page import LockedPage
from pagein.mm.pin import Pins
from pagein.mm.victims import Head, Occupancy, Verdict, fifo, s3fifo
from pagein.testing.leaks import assert_nothing_left
from pagein.testing.stores import PATIENCE_S, ScriptedOps
from pagein.units import PAGE_SIZE


@pytest.fixture
def scene() -> Iterator[Scene]:
    with Scene(debug=False) as scene:
        yield scene


# -- the decision ----------------------------------------------------------------------------------

COLD, HOT, AHEAD, AHEAD_HOT = Head(1, False), Head(1, True), Head(1, False, True), Head(1, True, True)
SPARED_ONCE = Head(1, False, True, spared=True)
FULL_SMALL, AT_SHARE, LITTLE_SMALL = Occupancy(11, 89, 100), Occupancy(10, 90, 100), Occupancy(1, 99, 100)


@pytest.mark.parametrize(
    ("small", "main", "occupancy", "verdict"),
    [
        (COLD, COLD, FULL_SMALL, Verdict.EVICT_SMALL),
        (COLD, HOT, FULL_SMALL, Verdict.EVICT_SMALL),
        (AHEAD, COLD, FULL_SMALL, Verdict.SPARE_SMALL),
        (SPARED_ONCE, COLD, FULL_SMALL, Verdict.EVICT_SMALL),
        (AHEAD, COLD, AT_SHARE, Verdict.EVICT_MAIN),
        (HOT, COLD, FULL_SMALL, Verdict.PROMOTE_SMALL),
        (AHEAD_HOT, COLD, FULL_SMALL, Verdict.ROTATE_SMALL),
        (COLD, COLD, AT_SHARE, Verdict.EVICT_MAIN),
        (COLD, HOT, AT_SHARE, Verdict.ROTATE_MAIN),
        (HOT, COLD, LITTLE_SMALL, Verdict.EVICT_MAIN),
        (HOT, HOT, LITTLE_SMALL, Verdict.ROTATE_MAIN),
        (None, COLD, FULL_SMALL, Verdict.EVICT_MAIN),
        (None, HOT, LITTLE_SMALL, Verdict.ROTATE_MAIN),
        (COLD, None, LITTLE_SMALL, Verdict.EVICT_SMALL),
        (HOT, None, LITTLE_SMALL, Verdict.PROMOTE_SMALL),
        (AHEAD_HOT, None, LITTLE_SMALL, Verdict.ROTATE_SMALL),
        (COLD, COLD, Occupancy(1, 0, 1), Verdict.EVICT_SMALL),
    ],
)
def test_s3fifo(small, main, occupancy, verdict):
    assert s3fifo(small, main, occupancy) is verdict


@pytest.mark.parametrize("occupancy", [FULL_SMALL, LITTLE_SMALL])
@pytest.mark.parametrize(
    ("small", "main", "verdict"),
    [(COLD, COLD, Verdict.EVICT_SMALL), (HOT, HOT, Verdict.EVICT_SMALL), (None, HOT, Verdict.EVICT_MAIN)],
)
def test_fifo(small, main, occupancy, verdict):
    assert fifo(small, main, occupancy) is verdict


def test_a_verdict_says_from_where_to_where():
    assert [verdict.value for verdict in Verdict] == [
        (SMALL, GHOST), (SMALL, SMALL), (SMALL, SMALL | READ_AHEAD | SPARED), (SMALL, MAIN),
        (MAIN, GHOST), (MAIN, MAIN),
    ]  # fmt: skip


# -- who goes --------------------------------------------------------------------------------------


def read_pages(subject: Subject, *indices: int) -> None:
    for index in indices:
        assert subject.file.pread(PAGE_SIZE, index * PAGE_SIZE) == subject.content(index)


def test_pages_that_are_used_again_outlive_a_scan(scene):
    """A working set of a quarter of the cache, then one long scan through everything else: it is still here."""
    subject = scene.open(page_count=2000, cap_pages=64)
    working_set = range(16)
    for _ in range(3):
        read_pages(subject, *working_set)
    read_pages(subject, *range(16, 2000))
    assert set(working_set) <= set(subject.uptodate())
    assert subject.zone.charged_pages == 64


def test_a_scan_leaves_what_was_read_ahead_and_used_once_to_the_next_scan(scene):
    """The first hit of a page that came ahead of its reader is its first use: it does not count as used again."""
    subject = scene.open(runs=[], page_count=2000, cap_pages=128, random=False)
    other = scene.open(page_count=16, cache=subject.cache)
    for _ in range(3):
        read_pages(other, *range(16))
    while subject.file.read(PAGE_SIZE):
        pass
    assert other.uptodate() == list(range(16))
    lru, base = subject.mapping.arena.lru, subject.mapping.base
    main = [index for index in subject.uptodate() if lru[base + index] & ~READ_AHEAD == MAIN]
    assert len(main) <= 2, f"{main} of a scan took a place among pages that are used again"


def test_a_page_that_is_spared_is_not_paid_for_again(scene):
    """Its reader has earned by it when he came to its marker, before anything said that he has used it."""
    subject = scene.open(runs=[], page_count=1000, cap_pages=4096, random=False)
    read_pages(subject, 0)
    run = Run(subject.mapping.arena, subject.mapping.base + 1, 3)
    with subject.zone.lock:
        assert pay_for_used(run, now_pages=3) == 3
        assert reclaim.shrink(subject.zone, 2) == 2
        assert list(run.arena.lru[run.frame : run.frame + 3]).count(SMALL | READ_AHEAD | SPARED | PAID) == 2
        assert pay_for_used(run, now_pages=3) == 0
    assert len(subject.uptodate()) == 2


def test_reclaim_frees_a_batch(scene):
    """A 64th of the cache at once, so that holes come in runs; no more than asked for in a small one."""
    subject = scene.open(page_count=4096, cap_pages=1024)
    subject.file.pread(1024 * PAGE_SIZE, 0)
    assert subject.zone.charged_pages == 1024
    read_pages(subject, 2000)
    assert subject.cache.stats().evictions == 16
    small = scene.open(page_count=40, cap_pages=16)
    small.file.pread(16 * PAGE_SIZE, 0)
    read_pages(small, 30)
    assert small.cache.stats().evictions == 1


def test_pages_that_are_hit_all_the_time_are_evicted_in_the_end(scene):
    """Nobody's reference can stop reclaim: after two laps they count no more, and a busy little cache has memory."""
    subject = scene.open(page_count=64, cap_pages=16)
    read_pages(subject, *range(16))
    arena, base = subject.mapping.arena, subject.mapping.base

    def hit_all_the_time(small: Head | None, main: Head | None, occupancy: Occupancy) -> Verdict:
        arena.referenced[base : base + 16] = b"\1" * 16
        return s3fifo(small, main, occupancy)

    subject.zone.victims = hit_all_the_time
    read_pages(subject, 40, 41, 42)
    assert subject.zone.charged_pages == 16
    subject.zone.victims = s3fifo
    subject.assert_at_rest(*subject.uptodate())


def test_another_policy_can_be_given(scene):
    """It is asked for every step; what it never evicts stays."""
    asked: list[Occupancy] = []

    def watched(small: Head | None, main: Head | None, occupancy: Occupancy) -> Verdict:
        asked.append(occupancy)
        return fifo(small, main, occupancy)

    with PageCache(8 * PAGE_SIZE, victims=watched) as cache:
        ops = ScriptedOps()
        file = cache.inode(ops, size_bytes=64 * PAGE_SIZE).open()
        file.advise("random")
        for index in [*range(8), 0, 0, 0, 8]:
            file.pread(PAGE_SIZE, index * PAGE_SIZE)
        assert asked == [Occupancy(small_pages=8, main_pages=0, cap_pages=8)]
        assert file.resident() == [(1, 8)], "the oldest went, however often it was hit"
        ops.calls.clear()


def test_a_run_is_evicted_in_part(scene):
    """No more of it than is needed; its rest is the next to go."""
    subject = scene.open(runs=[], page_count=64, cap_pages=16)
    subject.file.pread(16 * PAGE_SIZE, 0)
    with subject.zone.lock:
        assert reclaim.shrink(subject.zone, 5) == 5
    assert subject.uptodate() == list(range(5, 16))
    with subject.zone.lock:
        assert reclaim.shrink(subject.zone, 100) == 11
        assert reclaim.shrink(subject.zone, 100) == 0
    subject.assert_at_rest()


def test_what_was_looked_at_and_not_taken_keeps_its_place(scene):
    """Busy pages go to the tail of their own queue, others back to the head: the order of the rest is kept."""
    subject = scene.open(page_count=64, cap_pages=16)
    read_pages(subject, *range(8))
    with subject.file.view(1, 0), subject.file.view(1, 2 * PAGE_SIZE), subject.zone.lock:
        reclaim.shrink(subject.zone, 2)
    assert subject.uptodate() == [0, 2, 4, 5, 6, 7]
    with subject.zone.lock:
        reclaim.shrink(subject.zone, 2)
    assert subject.uptodate() == [0, 2, 6, 7]


def test_what_is_left_of_a_run_of_which_some_pages_are_busy_keeps_its_order(scene):
    subject = scene.open(runs=[], page_count=64, cap_pages=16)
    subject.file.pread(8 * PAGE_SIZE, 0)
    with subject.file.view(1, 3 * PAGE_SIZE):
        for left in ([1, 2, 3, 4, 5, 6, 7], [2, 3, 4, 5, 6, 7]):
            with subject.zone.lock:
                reclaim.shrink(subject.zone, 1)
            assert subject.uptodate() == left


# -- the order of a removal ------------------------------------------------------------------------


def test_removal_keeps_its_order(scene, monkeypatch):
    """Not Uptodate, then a new generation, then the pins are read, then the memory goes: on this the readers that take
    no lock rely."""
    subject = scene.open(runs=[], page_count=64, cap_pages=64)
    subject.file.pread(16 * PAGE_SIZE, 0)
    arena, base = subject.mapping.arena, subject.mapping.base
    journal: list[tuple[str, bool, int, bool]] = []
    before = arena.generations[0]

    def note(what: str) -> None:
        uptodate = any(arena.uptodate[base : base + 4])
        has_content = memory(subject, (base + 3) * PAGE_SIZE, (base + 4) * PAGE_SIZE) == subject.content(3)
        journal.append((what, uptodate, arena.generations[0] - before, has_content))

    def noted(what: str, call):
        def call_and_note(*args):
            note(what)
            return call(*args)

        return call_and_note

    monkeypatch.setattr(Arena, "bump_generation", noted("bump", Arena.bump_generation))
    monkeypatch.setattr(Pins, "spans", noted("pins", Pins.spans))
    monkeypatch.setattr(Arena, "punch", noted("punch", Arena.punch))
    with subject.zone.lock:
        removed = removal.remove_runs(subject.zone, [Run(arena, base + 2, 2), Run(arena, base, 2)], into=NOT_QUEUED)
    monkeypatch.undo()
    assert removed == 4
    assert journal[:2] == [("bump", False, 0, True), ("bump", False, 1, True)]
    assert set(journal[2:-1]) == {("pins", False, 2, True)}
    assert journal[-1] == ("punch", False, 2, True)
    assert subject.uptodate() == list(range(4, 16))
    subject.assert_at_rest(*range(4, 16))


def test_a_removal_over_a_border_of_regions_bumps_both(scene):
    subject = scene.open(page_count=2 * REGION_PAGES, cap_pages=64)
    first = REGION_PAGES - 1
    read_pages(subject, first, first + 1)
    before = list(subject.mapping.arena.generations[:3])
    assert truncate.invalidate_mapping_pages(subject.mapping, 0, 10**9) == 2
    assert list(subject.mapping.arena.generations[:3]) == [before[0] + 1, before[1] + 1, before[2]]


def test_neighbours_are_punched_at_once(scene, monkeypatch):
    """However many runs they came in: a hole of 16 pages costs little more than one of 1."""
    subject = scene.open(page_count=64, cap_pages=16)
    read_pages(subject, *range(8), 12, 13)
    punched: list[tuple[int, int]] = []
    real_punch = Arena.punch

    def punch(self: Arena, frame: int, count: int) -> None:
        punched.append((frame, count))
        real_punch(self, frame, count)

    monkeypatch.setattr(Arena, "punch", punch)
    with subject.zone.lock:
        reclaim.shrink(subject.zone, 10)
    base = subject.mapping.base
    assert punched == [(base, 8), (base + 12, 2)]


def test_a_pin_that_comes_between_the_look_and_the_removal_keeps_its_page(scene, monkeypatch):
    """The view was entered before the pins are read for the last time: the page is Uptodate again, and in its queue."""
    subject = scene.open(runs=[], page_count=16, cap_pages=16)
    subject.file.pread(8 * PAGE_SIZE, 0)
    arena, base = subject.mapping.arena, subject.mapping.base
    real_bump = Arena.bump_generation
    views: list[memoryview] = []

    def pin_and_bump(self: Arena, frame: int, count: int) -> None:
        if not views:
            shown = arena.read_only[(base + 3) * PAGE_SIZE : (base + 5) * PAGE_SIZE]
            arena.pins.entries.append((base + 3, base + 5, shown))
            views.append(memoryview(PickleBuffer(shown)))
        real_bump(self, frame, count)

    monkeypatch.setattr(Arena, "bump_generation", pin_and_bump)
    with subject.zone.lock:
        assert reclaim.shrink(subject.zone, 8) == 6
    assert subject.uptodate() == [3, 4]
    assert views.pop() == subject.content(3, 2)
    assert subject.zone.charged_pages == 2
    views.append(memoryview(b"no more of them"))
    assert_nothing_left(subject.zone)
    with subject.zone.lock:
        assert reclaim.shrink(subject.zone, 8) == 2
    subject.assert_at_rest()


# -- readers that lose the race --------------------------------------------------------------------


class Racing:
    """A copy during which its pages go: *times* times, then no more."""

    def __init__(self, subject: Subject, times: int, *, after_copy: bool) -> None:
        self.subject = subject
        self.left = times
        self.after_copy = after_copy

    def __call__(self, start: int, stop: int) -> bytes:
        data = b"" if not self.after_copy else memory(self.subject, start, stop)
        if self.left:
            self.left -= 1
            truncate.invalidate_mapping_pages(self.subject.mapping, 0, 100)
        return memory(self.subject, start, stop) if not self.after_copy else data


@pytest.mark.parametrize("after_copy", [True, False], ids=["after", "before"])
def test_a_copy_that_a_removal_spoilt_is_thrown_away(scene, after_copy):
    """And the memory that the reader's look has filled with zeros, uncharged, is given back."""
    subject = scene.open(page_count=8)
    read_pages(subject, 2, 3)
    take = Racing(subject, 1, after_copy=after_copy)
    assert filemap.copy_if_uptodate(subject.open_file, 2 * PAGE_SIZE, 4 * PAGE_SIZE, take) is None
    assert subject.cache.stats().lost_races == 1
    assert subject.zone.resident_bytes(is_thorough=True) == 0
    subject.assert_at_rest()


@pytest.mark.parametrize("times", [0, 1, LOST_RACES_MAX, LOST_RACES_MAX + 1, 50])
@pytest.mark.parametrize("after_copy", [True, False], ids=["after", "before"])
def test_a_reader_that_loses_again_and_again_takes_the_page_lock(scene, times, after_copy):
    """Reclaim and invalidation respect it: the reader has its bytes, after no more than so many tries."""
    subject = scene.open(page_count=8)
    take = Racing(subject, times, after_copy=after_copy)
    pieces = filemap.read(subject.open_file, 2 * PAGE_SIZE + 5, 100, take)
    assert pieces == [subject.ops.content(2 * PAGE_SIZE + 5, 100)]
    assert take.left == max(0, times - LOST_RACES_MAX - 1), "under the lock nobody could take it"
    assert subject.cache.stats().lost_races == min(times, LOST_RACES_MAX)
    assert len(subject.ops.calls) <= LOST_RACES_MAX + 1
    subject.assert_at_rest(*subject.uptodate())


def test_a_reader_that_takes_the_page_lock_reads_to_the_end_of_the_file_and_no_further(scene):
    """The rest of the last page is in its memory, and nobody's."""
    subject = scene.open(size_bytes=2 * PAGE_SIZE + 100)
    take = Racing(subject, LOST_RACES_MAX, after_copy=True)
    assert filemap.read(subject.open_file, 2 * PAGE_SIZE, PAGE_SIZE, take) == [subject.content(2)]
    assert subject.cache.stats().lost_races == LOST_RACES_MAX
    subject.assert_at_rest(2)


def test_the_size_is_looked_at_once_the_page_is_seen_to_be_here(scene):
    """Else a page that was brought for a smaller file in between would be copied up to its old end, with zeros."""
    subject = scene.open(size_bytes=PAGE_SIZE)
    arena = subject.mapping.arena
    uptodate = arena.uptodate

    class Late:
        """In which a page is found that has come only now."""

        def find(self, *args: bytes | int) -> int:
            arena.uptodate = uptodate
            subject.inode.resize(100)
            assert subject.file.pread(1, 0) == subject.content(0)[:1]
            found: int = uptodate.find(*args)
            return found

    arena.uptodate = Late()
    copied = filemap.copy_if_uptodate(subject.open_file, 0, PAGE_SIZE, partial(memory, subject))
    assert copied == (subject.content(0), 100)


def test_memory_of_a_page_that_was_removed_is_given_back_though_its_lock_is_held(scene):
    """After a lost race: whoever holds the lock brings nothing any more."""
    subject = scene.open(page_count=8)
    read_pages(subject, 1)
    held = subject.mapping.lock_page(1)
    with subject.zone.lock:
        held.removed = removal.remove_runs(subject.zone, [held.run], into=NOT_QUEUED) == 1
    start = held.run.frame * PAGE_SIZE
    assert memory(subject, start, start + PAGE_SIZE) == bytes(PAGE_SIZE)
    assert subject.zone.resident_bytes(is_thorough=True) == PAGE_SIZE
    removal.clean_up_after_lost_race(subject.mapping, 0, 8)
    assert subject.zone.resident_bytes(is_thorough=True) == 0
    held.unlock()
    subject.assert_at_rest()


def test_pages_that_came_back_meanwhile_are_not_given_back(scene):
    """The clean-up after a lost race touches only what is neither here nor in flight by then."""
    subject = scene.open(page_count=8)
    read_pages(subject, 1)
    held = subject.mapping.lock_page(3)
    subject.ops.fill(held)
    for index in (0, 2):
        assert memory(subject, *(((subject.mapping.base + index) * PAGE_SIZE + at) for at in (0, 1))) == b"\0"
    assert subject.zone.resident_bytes(is_thorough=True) == 4 * PAGE_SIZE
    removal.clean_up_after_lost_race(subject.mapping, 0, 8)
    assert subject.zone.resident_bytes(is_thorough=True) == 2 * PAGE_SIZE
    held.set_uptodate()
    held.unlock()
    assert subject.file.pread(PAGE_SIZE, PAGE_SIZE) == subject.content(1)
    assert subject.file.pread(PAGE_SIZE, 3 * PAGE_SIZE) == subject.content(3)
    assert [call.index for call in subject.ops.calls] == [1]
    subject.assert_at_rest(1, 3)


def test_a_copy_that_lost_its_race_takes_nothing_from_the_file_that_has_its_frames_now(scene):
    """A read that Ctrl-C has left to a worker goes on, though its file is closed and gone: the page that another is
    being read into is that one's."""
    other = scene.open(page_count=2)
    cache = other.cache
    gone = [cache.inode(ScriptedOps(), size_bytes=PAGE_SIZE)]
    with gone[0].open() as file:
        file.pread(PAGE_SIZE, 0)
        open_file = file._file
    del file
    reused: list[tuple[Subject, LockedPage]] = []

    def take(start: int, stop: int) -> bytes:
        del gone[:]
        cache.stats()  # sweeps
        subject = scene.open(page_count=1, cache=cache)
        assert subject.mapping.base == open_file.mapping.base, "the frames are used again"
        held = subject.mapping.lock_page(0)
        subject.ops.fill(held)
        reused.append((subject, held))
        return memory(subject, start, stop)

    assert filemap.copy_if_uptodate(open_file, 0, PAGE_SIZE, take) is None
    assert cache.stats().lost_races == 1
    subject, held = reused[0]
    held.set_uptodate()
    held.unlock()
    assert subject.file.pread(PAGE_SIZE, 0) == subject.content(0)
    subject.assert_at_rest(0)


def test_a_copy_that_comes_after_its_frames_were_given_back_leaves_no_memory(scene):
    """Nobody has them: what it has touched would be counted nowhere, and never go."""
    cache = scene.open(page_count=2).cache
    gone = [cache.inode(ScriptedOps(), size_bytes=4 * PAGE_SIZE)]
    with gone[0].open() as file:
        file.pread(4 * PAGE_SIZE, 0)
        open_file = file._file
    del file
    arena = open_file.mapping.arena
    before = arena.resident_bytes()

    def take(start: int, stop: int) -> bytes:
        del gone[:]
        cache.stats()  # sweeps
        data: bytes = arena.memory[start:stop]
        return data

    assert filemap.copy_if_uptodate(open_file, 0, 4 * PAGE_SIZE, take) is None
    assert before is None or arena.resident_bytes() == before - 4 * PAGE_SIZE


def test_the_hit_path_of_a_file_checks_the_generation(scene):
    """pread, a line and a view: a removal between look and copy is noticed."""
    subject = scene.open(page_count=8)
    subject.ops.version = ord("\n") << 8
    file, arena = subject.file, subject.mapping.arena

    class Spoilt:
        """Memory from which the pages go at the moment they are looked at."""

        def __getitem__(self, where: slice) -> bytes:
            truncate.invalidate_mapping_pages(subject.mapping, 0, 8)
            data: bytes = arena.memory[where]
            return data

        def find(self, *args: object) -> int:
            truncate.invalidate_mapping_pages(subject.mapping, 0, 8)
            found: int = arena.memory.find(*args)
            return found

    for size_bytes in (10, PAGE_SIZE + 10):
        read_pages(subject, 0, 1)
        file._memory = Spoilt()
        before = len(subject.ops.calls)
        reader = partial(file.pread, size_bytes, 0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(file), "_pread_missing", lambda self, size, offset: b"missed")
            assert reader() == b"missed"
        file._memory = arena.memory
        assert len(subject.ops.calls) == before
    read_pages(subject, 0)
    file._memory = Spoilt()
    assert file._line_piece(100) == b""
    assert file.tell() == 0
    file._memory = arena.memory
    removal.clean_up_after_lost_race(subject.mapping, 0, 8)  # as the miss that follows would
    assert file.readline() == subject.ops.content(0, 8)


# -- reserve ---------------------------------------------------------------------------------------


def test_reserve_gives_what_there_is(scene):
    """At least a page, at most what was asked for, never beyond the cap."""
    subject = scene.open(cap_pages=10)
    zone = subject.zone
    assert reclaim.reserve(zone, 4) == 4
    assert reclaim.reserve(zone, 100) == 6
    assert (zone.charged_pages, zone.reserved_pages) == (10, 10)
    with zone.lock:
        zone.uncharge(10, reserved=True)
    assert reclaim.reserve(zone, 1) == 1
    with zone.lock:
        zone.uncharge(1, reserved=True)


def test_what_was_reserved_for_pages_that_are_here_by_now_is_given_back(scene):
    subject = scene.open(page_count=8)
    read_pages(subject, 2)
    assert reclaim.reserve(subject.zone, 4) == 4
    page = subject.mapping.grab_run(0, 4, wanted_pages=4)
    assert page is not None
    assert (page.page_count, subject.zone.reserved_pages, subject.zone.charged_pages) == (2, 0, 3)
    page.unlock()
    subject.assert_at_rest(2)


def test_who_leaves_the_line_for_memory_as_he_is_told_tells_the_next(scene):
    """Nobody else would."""
    subject = scene.open(cap_pages=1)
    zone = subject.zone
    assert reclaim.reserve(zone, 1) == 1
    first, second = (reclaim.reserve_steps(zone, 1, scene.door.waiter) for _ in range(2))
    told_first, told_second = next(first), next(second)
    with zone.lock:
        zone.uncharge(1, reserved=True)
    assert told_first.wait(PATIENCE_S)
    assert not told_second.wait(0)
    with pytest.raises(KeyboardInterrupt):
        first.throw(KeyboardInterrupt())
    assert told_second.wait(PATIENCE_S)
    with pytest.raises(StopIteration) as end:
        next(second)
    assert end.value.value == 1
    with zone.lock:
        zone.uncharge(1, reserved=True)


def test_memory_of_a_closed_cache_is_not_given(scene):
    """Not even to those who wait for it."""
    subject = scene.open({}, cap_pages=1)
    assert reclaim.reserve(subject.zone, 1) == 1
    waiting = scene.start(reclaim.reserve, subject.zone, 1)
    scene.until(lambda: len(subject.zone.memory_waiters) == 1)
    subject.cache.close()
    error = waiting.error()
    assert isinstance(error, ValueError)
    assert "closed" in str(error)
    with subject.zone.lock:
        subject.zone.uncharge(1, reserved=True)


def test_no_memory_says_what_would_help(scene):
    subject = scene.open(cap_pages=2)
    with subject.file.view(2 * PAGE_SIZE, 0), pytest.raises(OSError) as raised:
        subject.file.pread(1, 4 * PAGE_SIZE)
    assert raised.value.errno == errno.ENOMEM
    assert "8 KiB of 8 KiB pinned" in str(raised.value)
    assert "end a view, or give PageCache more" in str(raised.value)
