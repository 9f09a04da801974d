"""Memory that is had before it is filled: no more than was asked for, and evicted as any other."""

import pytest

from pagein.mm import populate
from pagein.mm.arena import REGION_PAGES, Arena
from pagein.units import PAGE_SIZE


@pytest.fixture
def arena():
    return Arena(0, REGION_PAGES)


@pytest.mark.parametrize("first", [0, 1, 511])
@pytest.mark.parametrize("page_count", [1, 2, 512, 1027])
def test_it_is_no_more_than_was_asked_for_and_zeros(arena, first, page_count):
    arena.populate(first, page_count)
    assert arena.resident_bytes() in (page_count * PAGE_SIZE, 0)  # 0: a system that does not know it
    start, stop = first * PAGE_SIZE, (first + page_count) * PAGE_SIZE
    assert arena.memory[start:stop] == bytes(stop - start)


def test_what_was_had_is_given_back_as_any_other(arena):
    arena.populate(0, 512)
    arena.memory[: 512 * PAGE_SIZE] = b"\xaa" * (512 * PAGE_SIZE)
    arena.punch(7, 16)
    assert arena.resident_bytes() == (512 - 16) * PAGE_SIZE
    start, stop = 7 * PAGE_SIZE, 23 * PAGE_SIZE
    assert arena.memory[start:stop] == bytes(stop - start)
    assert arena.memory[:start] == b"\xaa" * start


def test_without_the_system_s_help_memory_is_had_as_it_is_written_to(monkeypatch, arena):
    monkeypatch.setattr(populate, "_madvise", lambda: None)
    arena.populate(0, 512)
    assert arena.resident_bytes() == 0


def test_a_range_that_the_system_refuses_is_no_error(arena):
    populate.populate(arena.memory, 1, 2)  # on no bound
    assert arena.resident_bytes() == 0
