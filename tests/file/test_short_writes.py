"""The short way of a write, struck by a signal wherever one can strike."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count

import pytest
from tests.contract.writing import flagged
from tests.file.sources import binary

from pagein import File, PageCache
from pagein.mm.mapping import AddressSpace
from pagein.stores import MemoryStore
from pagein.testing.schedule.instructions import Preemption
from pagein.units import PAGE_SIZE
from pagein.writer import PageWriter

POINTS_MAX = 1000


class StruckError(Exception):
    """What the signal's handler raises."""


WRITES = {"one page": 100, "two pages": 2 * PAGE_SIZE, "by a system call": 64 << 10, "appended": 10}


@pytest.mark.parametrize("what", WRITES)
def test_a_signal_leaves_no_mark_that_is_not_counted_and_no_lock(what: str) -> None:
    appends, size = what == "appended", WRITES[what]
    data = b"w" * size
    # Without checks, which call functions of their own while the lock is held.
    cache = PageCache("4 MiB", debug=False)
    with cache, binary(cache.open((MemoryStore({"a": b""}), "a"), "a+b" if appends else "w+b")) as file:
        file.write(bytes(32 * PAGE_SIZE + 100))
        for point in count():
            assert point < POINTS_MAX
            file.fsync()
            file.pwrite(b"x", 0)  # the long way, which grants a budget
            mapping = file._mapping
            held, mapping.rwsem_held = mapping.rwsem_held, True  # the long way would wait for ever
            run = partial(file.write, data) if appends else partial(file.pwrite, data, PAGE_SIZE)
            try:
                struck = is_struck(mapping, run, point)
            finally:
                mapping.rwsem_held = held
            assert not mapping.dirty_lock_is_held_here()
            assert mapping.dirty_pages == len(flagged(mapping, "dirty"))
            zone = cache._zone
            assert zone.dirty.pages == mapping.dirty_pages + mapping.dirty_budget
            if not struck:
                break
        assert file.pread(size, mapping.i_size - size if appends else PAGE_SIZE) == data


def is_struck(mapping: AddressSpace, run: Callable[[], object], point: int) -> bool:
    """Write, and raise where a signal can strike for the *point*-th time; whether there is such a place.

    A handler may use any file there, and wait for a worker, who may need this one's ``dirty_lock``.
    """
    points = count()

    def stop(frame: object, is_shared: bool, may_strike: bool) -> None:
        if may_strike:
            assert not mapping.dirty_lock_is_held_here()
            if next(points) == point:
                raise StruckError

    shaken = Preemption([PageWriter.pwrite, PageWriter._write_short, File._append_short], stop)
    with shaken, shaken.in_this_thread():
        try:
            run()
        except StruckError:
            return True
    return False
