"""`Listings`: what a filesystem has said of its directories and files, for a while.

Guarantees: no more than so many entries, of which the oldest go first; none is told after its time, or after it was
forgotten, also if the answer that brings it was on its way by then.
Assumes: paths are as the filesystem itself writes them; an entry that came with its directory's listing, and has a
size, is as good as one that was asked for alone.
Not here: fsspec's own cache of listings, which counts directories and not what is in them, and lets an answer in that
was asked for before a write and came after it.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

Info = dict[str, Any]
"""What fsspec's ``info`` returns: at least name, size, type."""


class _Told(NamedTuple):
    at_s: float
    infos: dict[str, Info]
    """By name: of a directory all that is in it; of a file, or a directory itself, one."""


class Listings:
    """At most *entries_max* entries, each for *expiry_s* seconds: None is for ever, 0 not at all."""

    def __init__(
        self, *, entries_max: int, expiry_s: float | None, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.entries_max = entries_max
        self.expiry_s = expiry_s
        self._now_s = now_s
        self._told: OrderedDict[tuple[str, str], _Told] = OrderedDict()
        """By (what, path), the oldest first."""
        self._entry_count = 0
        self._changes = 0
        self._start_lock_anew()
        _all.add(self)

    def _start_lock_anew(self) -> None:
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many entries there are."""
        return self._entry_count

    # -- asking ------------------------------------------------------------------------------------------

    def directory(self, path: str) -> list[Info] | None:
        """What is in it, if that is known; the caller's own."""
        with self._lock:
            told = self._fresh(("directory", path))
            return None if told is None else [dict(info) for info in told.infos.values()]

    def info(self, path: str, parent: str) -> Info | None:
        """What is known of *path*, which stands in directory *parent*; the caller's own."""
        with self._lock:
            told = self._fresh(("path", path)) or self._fresh(("directory", parent))
            info = told.infos.get(path) if told else None
            return dict(info) if info is not None and _is_whole(info) else None

    def _fresh(self, key: tuple[str, str]) -> _Told | None:
        told = self._told.get(key)
        if told is not None and self._is_old(told):
            self._drop(key)
            return None
        return told

    def _is_old(self, told: _Told) -> bool:
        return self.expiry_s is not None and self._now_s() - told.at_s >= self.expiry_s

    # -- learning ----------------------------------------------------------------------------------------

    def asking(self) -> int:
        """To be called before the filesystem is asked, and handed over with what it says."""
        return self._changes

    def learn_directory(self, path: str, infos: list[Info], asked: int) -> None:
        """This is in it.  If that is more than there is room for, it is not kept."""
        self._learn(("directory", path), {info["name"]: info for info in infos}, asked)

    def learn(self, infos: dict[str, Info], asked: int) -> None:
        """What each of these paths is; nothing, if they would drive out everything else."""
        if len(infos) <= max(1, self.entries_max // 2):
            for path, info in infos.items():
                if _is_whole(info):
                    self._learn(("path", path), {path: info}, asked)

    def _learn(self, key: tuple[str, str], infos: dict[str, Info], asked: int) -> None:
        if self.expiry_s == 0 or len(infos) > self.entries_max:
            return
        told = _Told(self._now_s(), {name: dict(info) for name, info in infos.items()})
        with self._lock:
            if asked != self._changes:
                return
            self._drop(key)
            self._told[key] = told
            self._entry_count += _size(told)
            while self._entry_count > self.entries_max or (
                self._told and self._is_old(next(iter(self._told.values())))
            ):
                self._drop(next(iter(self._told)))

    # -- forgetting --------------------------------------------------------------------------------------

    def forget(self, paths: Iterable[str]) -> None:
        """Nothing of these is known any more, as files or directories."""
        with self._lock:
            self._changes += 1
            for path in paths:
                self._drop(("path", path))
                self._drop(("directory", path))

    def clear(self) -> None:
        """Nothing is known any more."""
        with self._lock:
            self._changes += 1
            self._told.clear()
            self._entry_count = 0

    def _drop(self, key: tuple[str, str]) -> None:
        told = self._told.pop(key, None)
        if told is not None:
            self._entry_count -= _size(told)


def _size(told: _Told) -> int:
    return max(1, len(told.infos))  # an empty directory is an entry, too


def _is_whole(info: Info) -> bool:
    """Whether it tells all that may be asked: HTTP's listings are links, without a size."""
    return info.get("type") == "directory" or info.get("size") is not None


_all: weakref.WeakSet[Listings] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for listings in list(_all):  # a thread that stayed in the parent may have held it, with half of its work done
        listings._start_lock_anew()
        listings.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
