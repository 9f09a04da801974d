"""Fork: the child starts with the same files and an empty cache of its own, at the same addresses.

Guarantees: a child never writes to its parent's arena, nor waits for a lock or a thread that stayed there; the
parent notices nothing.  What a view shows at the moment of the fork stays as it is, in both.
How: the parent's locks are held while it forks, so that the child inherits no half-made change; what refers to the old
memory refers to the new, which is empty and at the same addresses (memory.py).
Assumes: a store's operations work in a child.  (Those of obstore do not, and say so when they are used.)
Not here: the locks of files and caches (pagein.cache).
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, NamedTuple

from ..units import PAGE_SHIFT
from . import held, sync
from .debug import owned_lock
from .lockorder import ZONE_LOCK
from .lru import Run, split_by_flag
from .removal import disjoint
from .sync import PerThread

if TYPE_CHECKING:
    from .zone import Zone

_zones: weakref.WeakSet[Zone] = weakref.WeakSet()


def survive_fork(zone: Zone) -> None:
    """Have *zone* start anew in every child."""
    _zones.add(zone)


class _Shown(NamedTuple):
    """What a view shows while the process forks: a run of Uptodate pages and their content."""

    run: Run
    content: bytes


class _Locked(NamedTuple):
    """A zone whose lock the thread that forks holds, or is about to take."""

    zone: Zone
    shown: list[_Shown] | None
    """None if it could not be copied."""
    takes: bool
    """It is taken for the fork.  Else a finalizer forks that came in under it: its holder goes on to hold it."""


class _Forking(PerThread):
    """Of each thread that forks: two may do so at once, and the second waits for the first."""

    def __init__(self) -> None:
        self.zones: list[_Locked] = []


_forking = _Forking()


def _before() -> None:
    for zone in sorted(_zones, key=id):  # in one order: another may be about to fork
        if not zone.closed:
            # Python prints what is raised in here, and forks all the same; so what is held has to be known first, and a
            # zone that could not be copied has to be known as such.
            takes = not zone.lock.held_here()
            _forking.zones.append(_Locked(zone, None, takes))
            held.enter("a fork")  # which takes the locks of all zones: none is compared with another
            if takes:
                zone.lock.__enter__()
            try:
                _forking.zones[-1] = _Locked(zone, _shown(zone), takes)
            except BaseException:
                _keep_for_children(zone)
                raise


def _keep_for_children(zone: Zone, *, is_kept: bool = True) -> None:
    for arena in zone.arenas.values():
        arena.keep_for_children(is_kept=is_kept)


def _shown(zone: Zone) -> list[_Shown]:
    """A copy, because the parent may end the view, and evict its pages, before the child comes to look."""
    shown = []
    for arena in zone.arenas.values():
        for start, stop in disjoint(arena.pins.spans()):
            for uptodate, run in split_by_flag(Run(arena, start, stop - start), arena.uptodate[start:stop]):
                if uptodate:
                    end = run.frame + run.page_count
                    shown.append(_Shown(run, arena.memory[run.frame << PAGE_SHIFT : end << PAGE_SHIFT]))
    return shown


def _after_in_parent() -> None:
    while _forking.zones:
        zone, shown, takes = _forking.zones.pop()
        if shown is None and not zone.closed:
            _keep_for_children(zone, is_kept=False)
        if takes and zone.lock.held_here():
            zone.lock.__exit__(None, None, None)
        held.leave(None)


def _after_in_child() -> None:
    failure: BaseException | None = None
    zones, copied = list(_zones), {id(zone): shown for zone, shown, _ in _forking.zones}
    _forking.zones.clear()
    held.start_anew()
    sync.start_anew()
    for zone in zones:
        if zone.closed:
            continue
        try:
            shown = copied.get(id(zone))
            if shown is None:
                raise MemoryError("what views show could not be copied")
            zone.start_anew()
            for run, content in shown:
                zone.adopt(run, content)
        except BaseException as error:
            # No memory or no descriptor for a cache of its own: then it has none.  Python prints the error.
            zone.closed = True
            zone.lock = owned_lock(zone, ZONE_LOCK)
            failure = error
    if failure is not None:
        raise failure


os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
