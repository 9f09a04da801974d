"""`CacheReference`: a page cache as an argument that is compared, written down, and sent to other processes.

Guarantees: in the process where the cache is, and in what was forked from it, a reference that comes back leads to
that very cache; elsewhere to one of the same size that looks at its sources as often, one for each process, made when
it is first used, and kept until others have come.  References to different caches have different representations, and
those to one cache the same.
Not here: the cache of a process for those who name none (pagein.default).
"""

from __future__ import annotations

import os
import threading
import uuid
import weakref
from collections import deque

from ..cache import PageCache
from ..freshness import Revalidate
from ..units import parse_size

_lock = threading.RLock()
"""A cache is made under it, and another goes: a finalizer that has a reference, too, may come in."""
_caches: weakref.WeakValueDictionary[str, PageCache] = weakref.WeakValueDictionary()
"""Those of this process, by name."""
_made: weakref.WeakSet[PageCache] = weakref.WeakSet()
"""Those of them that a reference has made: made again if closed.  One that a user has made is as he left it."""
_RECENT_MAX = 4
_recent: deque[PageCache] = deque(maxlen=_RECENT_MAX)
"""Those that were made here for who came from another process: a worker gets another copy for each task, and has none
between them."""
_names: weakref.WeakKeyDictionary[PageCache, str] = weakref.WeakKeyDictionary()


class CacheReference:
    """To the cache of this process that has a *name*, of *size_bytes*.

    *revalidate*: as of `PageCache`; None: as it is in the process where it is made.
    """

    def __init__(
        self, name: str, size_bytes: int, revalidate: Revalidate | None = None, *, cache: PageCache | None = None
    ) -> None:
        self.name = name
        self.size_bytes = size_bytes
        self.revalidate = revalidate
        self._cache = cache

    @property
    def cache(self) -> PageCache:
        """It."""
        if self._cache is None:
            with _lock:
                known = _caches.get(self.name)
                if known is None or (known._zone.closed and known in _made):
                    known = PageCache(self.size_bytes, revalidate=self.revalidate)
                    _made.add(known)
                    _recent.append(known)
                    _register(known, self.name)
                self._cache = known
        return self._cache

    def __repr__(self) -> str:
        return f"<pagein.PageCache {self.name!r} of {self.size_bytes} bytes>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CacheReference) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(self.name)

    def __reduce__(self) -> tuple[type[CacheReference], tuple[str, int, Revalidate | None]]:
        return CacheReference, (self.name, self.size_bytes, self.revalidate)


def to_cache(cache: PageCache) -> CacheReference:
    """A reference to a cache that somebody has made."""
    with _lock:
        name = _names.get(cache)
        if name is None:
            name = uuid.uuid4().hex
            _register(cache, name)
    return CacheReference(name, cache.size_bytes, cache._freshness.setting, cache=cache)


def to_cache_of(size: int | str) -> CacheReference:
    """A reference to the one cache of that *size* which each process has for all who ask for it so."""
    size_bytes = parse_size(size, what="cache_size")
    return CacheReference(f"the one of {size_bytes} bytes", size_bytes)


def _register(cache: PageCache, name: str) -> None:
    _caches[name] = cache
    _names[cache] = name


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603  # a thread that stayed in the parent may have held it
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork_in_child)
