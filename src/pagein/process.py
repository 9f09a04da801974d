"""What becomes of the caches when the process forks, and when the interpreter ends.

Guarantees: a child inherits no cache's lock that a thread of its parent held; what was written is handed to its store
before the interpreter ends, and what cannot be is told.  (But for a cache that the checker of stores has given up.)
Not here: the pages of a child (mm/fork.py).
"""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from functools import partial
from typing import TYPE_CHECKING

from . import closing
from .mm import fork as fork, held  # fork's hooks have to be registered before those here
from .mm.sync import PerThread
from .written import caches_with_data

if TYPE_CHECKING:
    from .cache import PageCache

caches: weakref.WeakSet[PageCache] = weakref.WeakSet()
"""All that there are in this process..."""
open_caches: weakref.WeakSet[PageCache] = weakref.WeakSet()
"""...and those that nobody has closed."""


class _Forking(PerThread):
    """Of each thread that forks: two may do so at once, and the second waits for the first."""

    def __init__(self) -> None:
        self.caches: list[tuple[PageCache, bool]] = []
        """Those whose lock it holds, or is about to take; and whether for the fork: else a finalizer forks that came in
        under it, and its holder goes on to hold it."""


_forking = _Forking()


def _before_fork() -> None:
    for cache in sorted(caches, key=id):  # in one order: another may be about to fork
        takes = not cache._table.lock.held_here()
        _forking.caches.append((cache, takes))  # first, in case that a signal raises in here
        held.enter("a fork")  # none is compared with another
        if takes:
            cache._table.lock.__enter__()


def _after_fork_in_parent() -> None:
    while _forking.caches:
        cache, takes = _forking.caches.pop()
        lock = cache._table.lock
        if takes and lock.held_here():
            lock.__exit__(None, None, None)
        held.leave(None)


def _after_fork_in_child() -> None:
    _forking.caches.clear()
    for cache in list(caches):
        cache._start_locks_anew()


# Registered after mm/fork.py's, and so run before it: a cache's lock is taken before its zone's.
os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


@atexit.register
def _write_out_at_exit() -> None:
    """What was written is not lost because nobody closed its cache; what fails is told as if nobody had caught it.

    But for the exit status: what `atexit` calls has no say in it, except by `os._exit`, which would leave out what
    others have registered, and what is in the buffers of their files.
    """
    for cache in caches_with_data():
        if not cache._zone.closed:
            try:
                cache._zone.shielded(partial(closing.write_out_all, cache))
            except BaseException as error:
                sys.excepthook(type(error), error, error.__traceback__)
