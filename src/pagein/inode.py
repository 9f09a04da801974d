"""`Inode`: one version of one object in a cache, and what its files have in common.

Guarantees: it can be opened as long as anybody has it, and its frames are given back when nobody does.
Not here: which inode is found for a source, and when the store's side of it is closed (cache.py).
"""

from __future__ import annotations

import io
import weakref
from collections import deque
from collections.abc import Hashable
from typing import TYPE_CHECKING, overload

from .errors import negative
from .file import BinaryMode, File, TextMode, text_layer
from .mm import truncate
from .mm.mapping import AddressSpace
from .stores.source import Opened

if TYPE_CHECKING:
    from .cache import PageCache


class Inode:
    """One version of one object in a cache: what its files have in common."""

    def __init__(self, cache: PageCache, opened: Opened, *, key: Hashable, name: str) -> None:
        self._cache = cache
        self.key = key
        self.name = name
        self.version = opened.version
        self.ops = opened.ops
        self.mapping = AddressSpace(cache._zone, opened.ops, opened.size_bytes, name=name)
        # With the last reference (of a table, a file, a user), its frames can go: the next sweep sees to it.
        weakref.finalize(self, _orphan, self.mapping, cache._orphans).atexit = False
        self.start_lock_anew()
        cache._all_inodes.add(self)
        # The cache's, under its lock: what to close once no file is open, and how many are.
        self.opened: Opened | None = None
        self.open_count = 0

    def __repr__(self) -> str:
        return f"<pagein.Inode {self.name!r}: {self.size_bytes} bytes, version {self.version!r}>"

    def start_lock_anew(self) -> None:
        """After a fork, in the child: a thread that stayed in the parent may have held it."""
        self._resize_lock = self._cache._zone.door.lock()

    @property
    def size_bytes(self) -> int:
        """The size of the file."""
        return self.mapping.i_size

    @overload
    def open(self, mode: BinaryMode = "rb") -> File: ...
    @overload
    def open(
        self,
        mode: TextMode,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> io.TextIOWrapper: ...
    @overload
    def open(
        self, mode: str, *, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> File | io.TextIOWrapper: ...
    def open(
        self,
        mode: str = "rb",
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> File | io.TextIOWrapper:
        """A file over these pages; arguments, result and errors as for `PageCache.open`."""
        wrap = text_layer(mode, encoding, errors, newline)
        return self._cache._zone.workqueue.shielded(lambda: wrap(self._cache._file_of(self._cache._hold(self), File)))

    def resize(self, size_bytes: int) -> None:
        """Tell the cache that the object has become shorter or longer.

        Pages beyond a new end go; a last page that was not full is read anew.  Blocks: while such pages are
        being read.  Raises: OSError(EBUSY) if a view shows pages that would have to go; ValueError; OSError(EFBIG).
        """
        if size_bytes < 0:
            raise negative("size_bytes", size_bytes)

        def resize() -> None:
            with self._resize_lock:
                truncate.truncate_setsize(self.mapping, size_bytes)

        self._cache._zone.workqueue.shielded(resize)

    def resident(self) -> list[tuple[int, int]]:
        """Which pages are in the cache: runs of (first index, page count), in order."""
        return list(self.mapping.resident())


def _orphan(mapping: AddressSpace, orphans: deque[AddressSpace]) -> None:
    """Perhaps in a finalizer, inside any lock of ours: one step."""
    if not mapping.zone.closed:  # else its memory has gone
        orphans.append(mapping)
