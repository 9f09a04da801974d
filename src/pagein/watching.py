"""Files of a cache that has to be fresh: before they read, they look whether their source still is what they opened.

Guarantees: all of a read is of one version, which its store had at a moment that lies no further back than the cache
allows (freshness.py); a read that finds another version there is ESTALE, and so is every later one.
Assumes: nothing.  Those who share an inode share what is known of it.
Not here: looking, and what becomes of the pages (lookup.py).  Other files do none of this, and do not ask whether to.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from .file import File
from .mm import filemap
from .reader import PageReader

if TYPE_CHECKING:
    from .inode import Inode
    from .lookup import Lookup
    from .mm.filemap import Parts

    _Base = PageReader
else:
    _Base = object


class Watch:
    """Stands for the flags of the pages that are here, as long as nobody has to look: then none is, and the read goes
    the long way, where it can wait."""

    __slots__ = ("_at_read_s", "_inode", "_lookup", "_mapping", "_now_s", "_uptodate", "find")

    def __init__(self, lookup: Lookup, inode: Inode) -> None:
        self._lookup = lookup
        self._inode = inode
        self._mapping = inode.mapping
        self._now_s = inode.mapping.zone.door.now_s
        self._at_read_s = lookup.at_read_s
        self._uptodate: Any = inode.mapping.arena.uptodate
        self.find: Callable[[bytes, int, int], int] = self._uptodate.find
        """The flags as they are, for who has looked."""

    def __getitem__(self, key: int | slice) -> int | bytes:
        inode, mapping = self._inode, self._mapping
        looked_s = inode.looked_s
        is_known = inode.changed_to is None and mapping.found_changed_s < looked_s
        if is_known and self._now_s() - max(looked_s, mapping.validated_s) < self._at_read_s:
            flags: int | bytes = self._uptodate[key]
            return flags
        return 0 if isinstance(key, int) else b"\0"

    def look_parts(self) -> Parts[None]:
        """Look first, if it is time.  Raises: OSError(ESTALE); the store's, if it does not say."""
        if self._lookup.is_due(self._inode):
            yield partial(self._lookup.look_steps, self._inode)


class Watching(_Base):
    """The part of such a file that every face has."""

    __slots__ = ()
    _watch: Watch

    def _watch_over(self, watch: Watch) -> None:
        self._watch = watch
        self._uptodate = watch

    def _pread_parts(self, size: int, offset: int) -> Parts[bytes]:
        self._check_open()
        yield from self._watch.look_parts()
        return (yield from super()._pread_parts(size, offset))

    def _fill_parts(self, target: memoryview, offset: int) -> Parts[int]:
        self._check_open()
        yield from self._watch.look_parts()
        return (yield from super()._fill_parts(target, offset))

    def _view_parts(self, size: int, offset: int) -> Parts[memoryview]:
        self._check_open()
        yield from self._watch.look_parts()
        return (yield from super()._view_parts(size, offset))


class WatchingFile(Watching, File):
    """A file that is read only."""

    __slots__ = ("_watch",)

    def __init__(self, *arguments: Any, watch: Watch, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._watch_over(watch)

    def _next_piece(self, size: int) -> bytes:
        self._check_open()
        filemap.run_parts(self._mapping.zone, self._watch.look_parts())
        return super()._next_piece(size)
