"""`CacheOwner`: what a file asks of the cache that it was opened through, for the inode that it is a file of.

Guarantees: what may wait is done where no signal can interrupt it; what a finalizer calls takes single steps.
Not here: when it is asked (file.py), how it is done (unwritten.py, table.py).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from . import ahead, follow_up, unwritten
from .errors import closed_cache
from .table import Released

if TYPE_CHECKING:
    from .cache import PageCache
    from .inode import Inode
    from .mm.openfile import OpenFile


class CacheOwner:
    """For one file."""

    __slots__ = ("_cache", "_inode", "_is_counted_out", "_wrote")

    def __init__(self, cache: PageCache, inode: Inode, *, wrote: bool) -> None:
        self._cache = cache
        self._inode = inode
        self._wrote = wrote
        self._is_counted_out = False

    def let_go(self, hits: int) -> None:
        """The file has let go of its inode.  A single step; told twice, it counts once."""
        self._cache._table.released.append(Released(self._inode, self, hits, self._wrote))

    def count_out(self) -> bool:
        """Whether that counts: the first time.  By the table, under its lock."""
        is_counted, self._is_counted_out = not self._is_counted_out, True
        return is_counted

    def closed(self) -> None:
        """It was closed: do what follows.  Raises: what a store's close has raised."""
        follow_up.file_closed(self._cache)

    def follow_up(self) -> None:
        """As `closed`, by a worker for who waits for it."""
        follow_up.sweep(self._cache)

    def will_need(self, file: OpenFile, start_index: int, stop_index: int) -> None:
        """Bring pages that *file* has said it will need, also when it is closed by then.  Single steps."""
        ahead.will_need(self._cache, self._inode, file, start_index, stop_index)

    def write_out(self, file: OpenFile) -> None:
        """Write back what is dirty in its inode, and commit that where the store has to.  Raises: OSError."""
        zone = self._cache._zone
        if zone.closed or self._inode not in self._cache._table.written:
            # Whoever closed the cache has written it, or given it up; or it is the parent's.  If not, it is lost.
            if self._cache._gave_up or self._inode.is_the_parents:
                return
            if zone.shielded(lambda: self._inode.unwritten_bytes) is not None:
                raise closed_cache()
        else:
            if self._inode.mapping.late:
                write_late = partial(unwritten.write_late, self._cache._table, self._inode, waits=True)
                self._cache._zone.io.shielded(write_late)  # what that raises is told with the rest
            try:
                zone.shielded_steps(partial(unwritten.close_steps, file))
            except OSError:
                zone.workqueue.shielded(partial(self._cache._table.note_begun, self._inode))
                raise

    def write_late(self, offset: int | None, data: bytes) -> None:
        """Write this soon: a finalizer had it, inside any lock.  Single steps."""
        self._inode.mapping.late.append((offset, data))  # from here on whoever writes does this first
        self._cache._table.late.append(self._inode)

    def write_late_first(self) -> BaseException | None:
        """Write what finalizers had to write; why that failed: then it is still to be written."""
        inode, cache = self._inode, self._cache
        if not inode.mapping.late:
            return None
        return cache._zone.io.shielded(partial(unwritten.write_late, cache._table, inode, waits=True))

    def follow_up_soon(self) -> None:
        """Have a worker do what a finalizer has left.  Single steps."""
        follow_up.soon(self._cache)

    def write_at_exit(self, file: OpenFile, offset: int | None, data: bytes) -> None:
        """Write this where no other thread runs any more.  What is lost is told."""
        self._at_exit(lambda: unwritten.write_at_exit(file, offset, data))

    def write_out_at_exit(self, file: OpenFile) -> None:
        """As `write_out`, then.  What is lost is told."""
        if self._inode in self._cache._table.written and not self._cache._zone.closed:
            self._at_exit(lambda: unwritten.write_out_at_exit(self._inode, file))

    def _at_exit(self, run: Callable[[], object]) -> None:
        # Finalizers, and io's own, are silent about what they raise.
        try:
            run()
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)

    def take_back_open(self) -> None:
        """Undo what it did to the object that this very file was opened, as nobody got it: where that can be undone."""
        self._cache._zone.io.shielded(partial(unwritten.take_back_open, self._cache._table, self._inode))

    def save_as(self, file: OpenFile, source: Any, store_options: dict[str, Any]) -> int:
        """As `File.save_as`."""
        cache = self._cache
        return cache._zone.io.shielded(lambda: unwritten.save_as(cache._table, file, source, store_options))

    def discard(self, file: OpenFile) -> int:
        """As `File.discard`."""
        return self._cache._zone.io.shielded(lambda: unwritten.discard_by(self._cache._table, self._inode, file))
