"""Memory that is had before it is filled: no more than was asked for, and evicted as any other."""

import errno

import pytest

from pagein.mm import populate
from pagein.mm.arena import REGION_PAGES, Arena
from pagein.mm.populate import HUGE_BYTES
from pagein.units import PAGE_SIZE

HUGE_PAGES = HUGE_BYTES // PAGE_SIZE
needs_huge_pages = pytest.mark.skipif(not populate.may_be_huge(), reason="huge pages are turned off here")


@pytest.fixture
def arena():
    return Arena(0, REGION_PAGES)


@pytest.fixture(autouse=True)
def luck(monkeypatch):
    """Of a process in which nothing has happened yet, and however slow the machine is."""
    monkeypatch.setattr(populate, "_luck", populate._Luck())
    monkeypatch.setattr(populate, "CHEAP_S", 1e9)


@pytest.mark.parametrize("first", [0, 1, HUGE_PAGES - 1])
@pytest.mark.parametrize("page_count", [1, 2, HUGE_PAGES, 2 * HUGE_PAGES + 3])
def test_it_is_as_much_as_was_asked_for_and_zeros(arena, first, page_count):
    arena.populate(first, page_count)
    assert arena.resident_bytes() == page_count * PAGE_SIZE
    start, stop = first * PAGE_SIZE, (first + page_count) * PAGE_SIZE
    assert arena.memory[start:stop] == bytes(stop - start)


@needs_huge_pages
def test_a_new_arena_lies_where_huge_pages_can():
    arenas = [Arena(number, page_count) for number, page_count in enumerate([REGION_PAGES, 1 << 28, REGION_PAGES])]
    assert all(arena._populating._has_huge for arena in arenas)


@needs_huge_pages
def test_a_part_of_a_huge_page_is_given_back_and_the_rest_stays(arena, monkeypatch):
    advices = failures(monkeypatch, {})
    arena.populate(0, HUGE_PAGES)
    assert advices == [populate._MADV_COLLAPSE]
    arena.memory[:HUGE_BYTES] = b"\xaa" * HUGE_BYTES
    arena.punch(7, 16)
    assert arena.resident_bytes() == (HUGE_PAGES - 16) * PAGE_SIZE
    start, stop = 7 * PAGE_SIZE, 23 * PAGE_SIZE
    assert arena.memory[start:stop] == bytes(stop - start)
    assert arena.memory[:start] == b"\xaa" * start
    assert arena.memory[stop:HUGE_BYTES] == b"\xaa" * (HUGE_BYTES - stop)


@needs_huge_pages
def test_where_no_huge_page_is_to_be_had_small_ones_are_and_it_is_tried_more_rarely(arena, monkeypatch):
    advices = failures(monkeypatch, {populate._MADV_COLLAPSE: errno.EAGAIN})
    for number in range(8):
        arena.populate(number * HUGE_PAGES, HUGE_PAGES)
    assert arena.resident_bytes() == 8 * HUGE_BYTES
    assert [at for at, advice in enumerate(small_after(advices)) if advice] == [0, 2, 5], "1, 2, 4... are left out"


@needs_huge_pages
def test_where_they_cost_more_than_small_ones_they_are_left_alone_and_then_one_is_tried(arena, monkeypatch):
    advices = failures(monkeypatch, {})
    monkeypatch.setattr(populate, "CHEAP_S", -1.0)
    arena.populate(0, 2 * HUGE_PAGES)
    assert advices == [populate._MADV_COLLAPSE]
    arena.populate(2 * HUGE_PAGES, 2 * HUGE_PAGES)
    assert advices[1:] == [populate._MADV_POPULATE_WRITE]
    monkeypatch.setattr(populate, "CHEAP_S", 1e9)
    arena.populate(4 * HUGE_PAGES, 2 * HUGE_PAGES)
    assert advices[2:] == [populate._MADV_COLLAPSE, populate._MADV_POPULATE_WRITE], "one, and the rest is small"
    arena.populate(6 * HUGE_PAGES, 2 * HUGE_PAGES)
    assert advices[4:] == [populate._MADV_COLLAPSE]
    assert arena.resident_bytes() == 8 * HUGE_BYTES


@needs_huge_pages
def test_a_system_that_knows_no_such_advice_is_asked_once(arena, monkeypatch):
    advices = failures(monkeypatch, {populate._MADV_COLLAPSE: errno.EINVAL})
    for number in range(4):
        arena.populate(number * HUGE_PAGES, HUGE_PAGES)
    assert arena.resident_bytes() == 4 * HUGE_BYTES
    assert advices.count(populate._MADV_COLLAPSE) == 1


def test_without_the_system_s_help_memory_is_had_as_it_is_written_to(monkeypatch):
    monkeypatch.setattr(populate, "_madvise", lambda: None)
    monkeypatch.setattr(populate, "may_be_huge", lambda: False)
    arena = Arena(0, REGION_PAGES)
    arena.populate(0, HUGE_PAGES)
    assert arena.resident_bytes() == 0


def failures(monkeypatch, errors):
    """What the system is advised from now on; with the errors that it answers with."""
    real, advices = populate.Populating._advise, []

    def advise(self, start, stop, advice):
        if start < stop:
            advices.append(advice)
        return errors.get(advice) or real(self, start, stop, advice)

    monkeypatch.setattr(populate.Populating, "_advise", advise)
    return advices


def small_after(advices):
    """Of each run of pages, whether huge ones were tried first."""
    tried = []
    for at, advice in enumerate(advices):
        if advice == populate._MADV_POPULATE_WRITE:
            tried.append(at > 0 and advices[at - 1] == populate._MADV_COLLAPSE)
    return tried
