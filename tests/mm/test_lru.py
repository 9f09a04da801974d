"""The queues: order, refaults, the bound of the ghosts, and entries that are stale."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import example, given, settings, strategies as st

from pagein.mm.arena import REGION_PAGES, Arena
from pagein.mm.lru import GHOST, MAIN, NOT_QUEUED, READ_AHEAD, RUN_PAGES_MAX, SMALL, Queues, Run, split_by_flag

QUEUES = (SMALL, MAIN, GHOST)


@pytest.fixture
def arena() -> Arena:
    return Arena(7, REGION_PAGES)


@pytest.fixture
def queues(arena: Arena) -> Queues:
    return Queues({arena.number: arena}, ghost_pages_max=100)


def popped(queues: Queues, queue: int) -> list[tuple[int, int]]:
    """Everything of a queue in order, as (frame, page count), taken out of it."""
    runs = []
    while batch := queues.pop(queue):
        for run in batch:
            queues.move(run, NOT_QUEUED)
            runs.append(run[1:])
    return runs


# -- order -----------------------------------------------------------------------------------------


def test_first_in_first_out(arena, queues):
    for frame in (5, 3, 9):
        assert queues.insert(Run(arena, frame, 1), read_ahead=False) == 0
    assert queues.pages == [0, 3, 0, 0]
    assert popped(queues, SMALL) == [(5, 1), (3, 1), (9, 1)]
    assert queues.pages == [0, 0, 0, 0]
    assert queues.pop(SMALL) == []


def test_a_run_stays_a_run_and_costs_one_entry(arena, queues):
    empty = queues.size_bytes()
    queues.insert(Run(arena, 0, RUN_PAGES_MAX), read_ahead=False)
    one = queues.size_bytes()
    assert one > empty
    assert queues.pop(SMALL) == [Run(arena, 0, RUN_PAGES_MAX)]
    for frame in range(0, 64 * RUN_PAGES_MAX, RUN_PAGES_MAX):
        queues.insert(Run(arena, frame, RUN_PAGES_MAX), read_ahead=False)
    assert queues.size_bytes() - one <= 64 * 8 * 2, "8 bytes an entry, and room that an array keeps to grow"


def test_a_long_run_is_cut_where_it_is_queued(arena, queues):
    """So that a verdict on its head is no verdict on a whole file."""
    queues.insert(Run(arena, 10, 2 * RUN_PAGES_MAX), read_ahead=False)
    first, last = RUN_PAGES_MAX - 10, 10
    assert popped(queues, SMALL) == [(10, first), (RUN_PAGES_MAX, RUN_PAGES_MAX), (2 * RUN_PAGES_MAX, last)]


def test_what_is_unpopped_is_at_the_head_and_what_is_requeued_at_the_tail(arena, queues):
    for frame in (1, 2, 3):
        queues.insert(Run(arena, frame, 1), read_ahead=False)
    (head,) = queues.pop(SMALL)
    queues.unpop(head, SMALL)
    (head,) = queues.pop(SMALL)
    assert head == Run(arena, 1, 1)
    queues.requeue(head)
    assert popped(queues, SMALL) == [(2, 1), (3, 1), (1, 1)]


def test_unpop_before_the_first_entry_of_a_chunk(arena, queues):
    (head,) = [queues.insert(Run(arena, 1, 1), read_ahead=False)] and queues.pop(SMALL)
    queues.unpop(head, SMALL)
    queues.insert(Run(arena, 2, 1), read_ahead=False)
    assert popped(queues, SMALL) == [(1, 1), (2, 1)]


def test_pages_read_ahead_are_told_apart_until_they_move(arena, queues):
    queues.insert(Run(arena, 0, 2), read_ahead=False)
    queues.insert(Run(arena, 2, 2), read_ahead=True)
    assert bytes(arena.lru[0:4]) == bytes([SMALL, SMALL, SMALL | READ_AHEAD, SMALL | READ_AHEAD])
    assert queues.pages == [0, 4, 0, 0], "one queue"
    queues.push(Run(arena, 2, 2), MAIN, SMALL | READ_AHEAD)
    assert bytes(arena.lru[2:4]) == bytes([MAIN, MAIN])
    assert queues.pages == [0, 2, 2, 0]


# -- ghosts ----------------------------------------------------------------------------------------


def test_a_page_evicted_lately_comes_back_into_main(arena, queues):
    queues.insert(Run(arena, 0, 4), read_ahead=False)
    queues.move(Run(arena, 1, 2), GHOST)
    assert queues.pages == [0, 2, 0, 2]
    assert queues.insert(Run(arena, 1, 2), read_ahead=True) == 2
    assert bytes(arena.lru[0:4]) == bytes([SMALL, MAIN, MAIN, SMALL])
    assert queues.pages == [0, 2, 2, 0]


def test_a_run_of_which_a_part_was_evicted_lately(arena, queues):
    queues.insert(Run(arena, 2, 1), read_ahead=False)
    queues.move(Run(arena, 2, 1), GHOST)
    assert queues.insert(Run(arena, 0, 5), read_ahead=False) == 1
    assert bytes(arena.lru[0:5]) == bytes([SMALL, SMALL, MAIN, SMALL, SMALL])


def test_ghosts_are_forgotten_oldest_first(arena, queues):
    for frame in range(150):
        queues.insert(Run(arena, frame, 1), read_ahead=False)
        queues.move(Run(arena, frame, 1), GHOST)
        assert queues.pages[GHOST] <= queues.ghost_pages_max
    assert bytes(arena.lru[0:50]) == bytes(50)
    assert bytes(arena.lru[50:150]) == bytes([GHOST]) * 100
    assert queues.insert(Run(arena, 49, 1), read_ahead=False) == 0
    assert queues.insert(Run(arena, 51, 1), read_ahead=False) == 1


# -- stale entries ---------------------------------------------------------------------------------


def test_an_entry_whose_pages_have_moved_is_skipped(arena, queues):
    queues.insert(Run(arena, 0, 6), read_ahead=False)
    queues.move(Run(arena, 2, 1), MAIN)
    queues.move(Run(arena, 4, 1), NOT_QUEUED)
    assert popped(queues, SMALL) == [(0, 2), (3, 1), (5, 1)]
    assert popped(queues, MAIN) == [(2, 1)]


def test_an_entry_of_an_arena_that_is_gone_is_skipped(arena):
    arenas = {arena.number: arena}
    queues = Queues(arenas, ghost_pages_max=10)
    queues.insert(Run(arena, 0, 1), read_ahead=False)
    arenas.clear()
    assert queues.pop(SMALL) == []


def test_a_page_that_came_back_comes_up_once(arena, queues):
    """It has an entry for each time that it came."""
    for _ in range(5):
        queues.insert(Run(arena, 3, 2), read_ahead=False)
        queues.move(Run(arena, 3, 2), NOT_QUEUED)
    queues.insert(Run(arena, 0, 8), read_ahead=False)
    assert queues.pop(SMALL) == [Run(arena, 3, 2)]
    rest = popped(queues, SMALL)
    assert rest == [(0, 3), (5, 3)], "while a page is popped, no other entry shows it"


def test_stale_entries_do_not_pile_up(arena, queues):
    """A cache that never fills up evicts nothing, so nothing but this would ever drop them."""
    queues.insert(Run(arena, 9000, 3), read_ahead=True)
    for _ in range(15_000):
        queues.insert(Run(arena, 0, 1), read_ahead=False)
        queues.move(Run(arena, 0, 1), NOT_QUEUED)
    assert queues.size_bytes() < 8 * 8192
    assert queues.pages == [0, 3, 0, 0]
    assert bytes(arena.lru[9000:9003]) == bytes([SMALL | READ_AHEAD]) * 3
    assert popped(queues, SMALL) == [(9000, 3)]


def test_cleaning_up_keeps_the_order(arena, queues):
    """And drops the later entries of a page that has more than one."""
    queues.insert(Run(arena, 100, 1), read_ahead=False)
    queues.insert(Run(arena, 200, 1), read_ahead=False)
    queues.move(Run(arena, 100, 1), NOT_QUEUED)
    queues.insert(Run(arena, 100, 1), read_ahead=False)
    for _ in range(10_000):
        queues.insert(Run(arena, 0, 1), read_ahead=False)
        queues.move(Run(arena, 0, 1), NOT_QUEUED)
    queues.insert(Run(arena, 300, 1), read_ahead=False)
    assert popped(queues, SMALL) == [(100, 1), (200, 1), (300, 1)]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["insert", "insert", "move", "push", "unpop", "requeue"]),
        st.integers(0, 30),
        st.integers(1, 9),
        st.sampled_from([NOT_QUEUED, SMALL, MAIN, GHOST]),
        st.booleans(),
    ),
    max_size=60,
)


class Model:
    """The queues, and beside them the plainest thing that does the same: a dictionary from frame to queue."""

    def __init__(self) -> None:
        self.arena = Arena(0, REGION_PAGES)
        self.queues = Queues({0: self.arena}, ghost_pages_max=12)
        self.where: dict[int, int] = {}

    def insert(self, run: Run, ahead: bool) -> None:
        for frame in range(run.frame, run.frame + run.page_count):
            if self.where.get(frame, GHOST) == GHOST:
                refaults = self.queues.insert(Run(self.arena, frame, 1), read_ahead=ahead)
                assert refaults == (frame in self.where)
                self.where[frame] = MAIN if refaults else SMALL

    def move(self, run: Run, queue: int) -> None:
        self.queues.move(run, queue)
        self._set(run, queue)

    def pop(self, queue: int, then: str) -> None:
        batch = self.queues.pop(queue)
        for run in reversed(batch) if then == "unpop" else batch:
            if then == "unpop":
                self.queues.unpop(run, queue)
            elif then == "requeue":
                self.queues.requeue(run)
            else:
                self.queues.push(run, MAIN, queue)
                self._set(run, MAIN)

    def check(self) -> None:
        for frame in [at for at, queue in self.where.items() if queue == GHOST and not self.arena.lru[at]]:
            del self.where[frame]  # the oldest ghosts are forgotten
        assert {at: self.arena.lru[at] & ~READ_AHEAD for at in range(50) if self.arena.lru[at]} == self.where
        counts = Counter(self.where.values())
        assert self.queues.pages[1:] == [counts[queue] for queue in QUEUES]
        assert counts[GHOST] <= 12

    def _set(self, run: Run, queue: int) -> None:
        for frame in range(run.frame, run.frame + run.page_count):
            if queue == NOT_QUEUED:
                self.where.pop(frame, None)
            else:
                self.where[frame] = queue


@settings(max_examples=60)
@given(steps=STEPS)
@example(steps=[("move", 4, 9, GHOST, False), ("move", 0, 5, GHOST, False)])  # forgets one that is being moved
def test_whatever_happened_each_page_is_in_one_queue_and_comes_up_once(steps):
    model = Model()
    for step, frame, count, queue, ahead in steps:
        run = Run(model.arena, frame, count)
        if step == "insert":
            model.insert(run, ahead)
        elif step == "move":
            model.move(run, queue)
        elif queue != NOT_QUEUED:
            model.pop(queue, step)
        model.check()
    for queue in QUEUES:
        frames = [at for frame, count in popped(model.queues, queue) for at in range(frame, frame + count)]
        assert sorted(frames) == sorted(at for at in model.where if model.where[at] == queue)
    assert model.queues.pages == [0, 0, 0, 0]


# -- splitting -------------------------------------------------------------------------------------


@given(flags=st.binary(min_size=1, max_size=40))
def test_split_by_flag_gives_back_the_flags(flags):
    run = Run(None, 17, len(flags))  # type: ignore[arg-type]  # of any arena
    pieces = list(split_by_flag(run, flags))
    assert b"".join(bytes([flag]) * piece.page_count for flag, piece in pieces) == flags
    assert [piece.frame for _, piece in pieces] == [
        17 + sum(p.page_count for _, p in pieces[:n]) for n in range(len(pieces))
    ]
    assert all(one[0] != other[0] for one, other in pairwise(pieces))


def test_many_runs_in_random_order(arena, queues):
    frames = list(range(0, 4000, 4))
    random.Random(5).shuffle(frames)
    for frame in frames:
        queues.insert(Run(arena, frame, 2), read_ahead=False)
    assert popped(queues, SMALL) == [(frame, 2) for frame in frames]
    assert arena.planes_bytes() == 0
