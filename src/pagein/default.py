"""The cache of the process, for those who do not name one."""

from __future__ import annotations

import os
import threading

from .cache import PageCache

_lock = threading.Lock()
_cache: PageCache | None = None


def default_cache() -> PageCache:
    """The cache of this process, made at first use, as the environment or a file configures it (config.py).

    Once somebody has closed it, another is made: closing it is no end of `pagein.open` for those who share it.  While
    it is being closed, too, unless it has data that a store has not: who opened another would not see them.
    """
    global _cache  # noqa: PLW0603  # one per process is the point
    with _lock:
        found = _cache
    if found is not None and not found._table.is_over:  # not under our lock: it may take the table's
        return found
    with _lock:
        if _cache is None or _cache is found:  # else another has made it meanwhile
            _cache = PageCache()
        return _cache


def _start_lock_anew() -> None:
    """After a fork, in the child: a thread that stayed in the parent may have held it."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_lock_anew)
