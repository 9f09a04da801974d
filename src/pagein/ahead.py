"""What somebody has said that he will need: brought in the background, also when his file is closed by then.

Guarantees: saying it takes single steps, so that no signal and no finalizer meets a lock of ours, and no event loop
waits.  What is brought counts as a file of its inode from that moment on, so that the store's side stays open, until it
has come or the cache is closed; it is none that statistics show.
Not here: how pages are brought (mm/readahead.py).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from . import follow_up
from .mm import filemap
from .mm.openfile import OpenFile, Wishes
from .table import Released

if TYPE_CHECKING:
    from .cache import PageCache
    from .inode import Inode


def will_need(cache: PageCache, inode: Inode, asking: OpenFile, start_index: int, stop_index: int) -> None:
    """Bring pages for the user of *asking*.  Advice: where too many wait for a worker, or none is to be had, it is not
    taken.  Blocks: no."""
    if not filemap.takes_advice(cache._zone):
        return
    if asking.wishes is None:  # two threads at once may make one each, which are two streams once
        asking.wishes = Wishes()
    ahead = Ahead(cache, inode, asking.wishes)
    try:
        cache._table.ahead_begun.append(ahead)  # before the file that asks can be told to be closed
        cache._zone.workqueue.start(partial(ahead.bring, start_index, stop_index))
    except (ValueError, RuntimeError):  # closed; no thread
        ahead.end()
    except BaseException:  # a signal: a worker may have begun, and ends early
        ahead.end()
        raise


class Ahead:
    """Counted by the table as a file is."""

    __slots__ = ("_cache", "_file", "_is_counted_out", "_is_ended", "_wishes", "inode", "is_counted_in")

    def __init__(self, cache: PageCache, inode: Inode, wishes: Wishes) -> None:
        self.inode: Inode = inode
        self.is_counted_in: bool = False
        """By the table, under its lock; as it is counted out."""
        self._is_counted_out = False
        self._cache = cache
        self._wishes = wishes
        self._file: OpenFile | None = None
        self._is_ended = False

    def count_out(self) -> bool:
        """Whether that counts: the first time, and if it was counted at all (a signal may have come before)."""
        is_counted, self._is_counted_out = self.is_counted_in and not self._is_counted_out, True
        self._cache._table.ahead.discard(self)
        return is_counted

    def bring(self, start_index: int, stop_index: int) -> None:
        """By a worker, who does not wait."""
        file = self._file = OpenFile(self.inode.mapping, brings=self._wishes)
        if self._is_ended:  # asked after `end` can see the file: one of the two sees what the other did
            self._brought()  # who has ended it may have been interrupted before he had said so
            return
        self._cache._zone.workqueue.begin(filemap.populating(file, start_index, stop_index), self._brought)

    def _brought(self, *_: object) -> None:
        self.end()
        follow_up.soon(self._cache)

    def end(self) -> None:
        """No more is asked for.  Single steps; told twice, it counts once."""
        self._is_ended = True
        file = self._file
        if file is not None:
            file.closed = True
        self._cache._table.released.append(Released(self.inode, self, 0, wrote=False))
