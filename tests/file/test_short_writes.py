"""The short way of a write, struck by a signal wherever one can strike."""

from __future__ import annotations

from itertools import count

import pytest
from tests.contract.writing import flagged

from pagein import PageCache
from pagein.stores import MemoryStore
from pagein.testing.schedule.instructions import Preemption
from pagein.units import PAGE_SIZE
from pagein.writer import PageWriter

POINTS_MAX = 1000


class StruckError(Exception):
    """What the signal's handler raises."""


@pytest.mark.parametrize("size", [100, 2 * PAGE_SIZE, 64 << 10], ids=["one page", "two pages", "by a system call"])
def test_a_signal_leaves_no_mark_that_is_not_counted_and_no_lock(size: int) -> None:
    data = b"w" * size
    with PageCache("4 MiB") as cache, cache.open((MemoryStore(), "a"), "w+b") as file:
        file.write(bytes(32 * PAGE_SIZE))
        for point in count():
            assert point < POINTS_MAX
            file.fsync()
            file.pwrite(b"x", 0)  # the long way, which grants a budget
            mapping = file._mapping
            held, mapping.rwsem_held = mapping.rwsem_held, True  # the long way would wait for ever
            struck = is_struck(file, data, point)
            mapping.rwsem_held = held
            assert not mapping.dirty_lock_is_held_here()
            assert mapping.dirty_pages == len(flagged(mapping, "dirty"))
            zone = cache._zone
            assert zone.dirty.pages == mapping.dirty_pages + mapping.dirty_budget
            if not struck:
                break
        assert file.pread(size, PAGE_SIZE) == data


def is_struck(file: PageWriter, data: bytes, point: int) -> bool:
    """Write *data*, and raise where a signal can strike for the *point*-th time; whether there is such a place."""
    points = count()

    def stop(frame: object, is_shared: bool, may_strike: bool) -> None:
        if may_strike and next(points) == point:
            raise StruckError

    shaken = Preemption([PageWriter.pwrite, PageWriter._write_short], stop)
    with shaken, shaken.in_this_thread():
        try:
            file.pwrite(data, PAGE_SIZE)
        except StruckError:
            return True
    return False
