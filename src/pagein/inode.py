"""`Inode`: one version of one object in a cache, and what its files have in common.

Guarantees: it can be opened as long as anybody has it, and its frames are given back when nobody does.  One that was
written to, and has data that are in no store yet, is had by the cache.
Not here: which inode is found for a source, and when the store's side of it is closed (table.py).
"""

from __future__ import annotations

import errno
import io
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, overload

from .errors import being_written, exists, read_only_source
from .file import File
from .mm import truncate
from .mm.arena import ARENA_PAGES_MAX
from .mm.mapping import NEVER_S, AddressSpace
from .reader import checked
from .stores.parents import WrittenByParent
from .stores.source import Opened, Source
from .text import text_layer
from .units import PAGE_SHIFT, page_count_for

if TYPE_CHECKING:
    from _typeshed import OpenBinaryMode, OpenTextMode

    from .cache import PageCache
    from .looks import Look

ROOM_BYTES = 64 << 30
"""How far a file may grow that is opened for writing, or to `ROOM_TIMES` its size.  It costs address space only."""
ROOM_TIMES = 4
ROOMY_MAX = 256
"""So many inodes with files have as much room; 16 TiB are an eighth of what an x86-64 process can address."""
ROOM_BYTES_OF_MANY = 1 << 30
"""How far a file may grow if it comes after those."""


class Inode:
    """One version of one object in a cache: what its files have in common."""

    __slots__ = (
        "__weakref__", "_cache", "again", "changed_to", "has_one_writer_so_far", "has_room", "has_validator", "key",
        "late_failure", "look", "look_number", "looked_s", "mapping", "name", "open_count", "opened", "source",
        "version", "writer_count", "written_at",
    )  # fmt: skip

    def __init__(self, cache: PageCache, opened: Opened, *, key: Hashable, name: str, has_room: bool = False) -> None:
        self._cache = cache
        self.key: Hashable = key
        self.name: str = name
        self.version: str = opened.version
        self.has_room: bool = has_room
        """Whether it can grow."""
        open_count = sum(bool(one.open_count) for one in cache._roomy_inodes) if has_room else 0
        room_bytes = _room_bytes(open_count, opened.size_bytes) if has_room else 0
        self.mapping: AddressSpace = AddressSpace(
            cache._zone, opened.ops, opened.size_bytes, name=name, room_pages=room_bytes >> PAGE_SHIFT
        )
        if has_room:
            cache._roomy_inodes.add(self)
        # The cache's, under its lock: what to close once no file is open, and how many are.
        self.opened: Opened | None = None
        self.open_count: int = 0
        self.writer_count: int = 0
        self.late_failure: BaseException | None = None
        """Why what finalizers had to write could not be written, the last time.  Who comes next tries again."""
        self.source: Source | None = None
        """Of which it is a version; None if the user has made it."""
        self.look: Callable[[], Opened | None] | None = None
        self.again: Callable[[], Opened | None] | None = None
        """As in `Opened`, of which these are; the latter may find that its source has to be opened all the same."""
        self.has_validator: bool = opened.has_validator
        self.looked_s: float = NEVER_S
        """When the last look at its source began that has found this version..."""
        self.look_number: int = 0
        """...and which one that was."""
        self.changed_to: str | None = None
        """What a look has found in place of this version, for good."""
        self.has_one_writer_so_far: bool = False
        """Whether nobody has opened it for writing since the first, before whom its store had everything."""
        self.written_at: int = 0
        """A number that grows with each end of writing to any inode: how recent its version is."""

    def __del__(self) -> None:
        # With the last reference (of a table, a file, a user), its frames can go: the next sweep sees to it.
        # (weakref.finalize would take 400 bytes of every open file.)  Perhaps inside any lock of ours: one step.
        mapping = getattr(self, "mapping", None)  # there is none if there was no room for one
        if mapping is not None and not mapping.zone.closed:  # else its memory has gone
            self._cache._orphans.append(mapping)

    def __repr__(self) -> str:
        return f"<pagein.Inode {self.name!r}: {self.size_bytes} bytes, version {self.version!r}>"

    @property
    def size_bytes(self) -> int:
        """The size of the file."""
        return self.mapping.i_size

    @property
    def unwritten_bytes(self) -> int | None:
        """How many bytes its store does not have, or has not made visible; None if it has everything.

        0 is for what has no bytes: a new size, a new object.
        Locks: takes the zone's lock, so it is asked where no signal can interrupt it.
        """
        # In the order in which data move, so that they are met at least once: from what is late into the cache, from
        # there to what is stored, and has to be committed.
        late = list(self.mapping.late)
        cached_bytes = self._unwritten_cached_bytes()
        return sum((len(data) for _, data in late), cached_bytes or 0) if late else cached_bytes

    def _unwritten_cached_bytes(self) -> int | None:
        mapping = self.mapping
        with mapping.zone.lock:  # without it a page is neither dirty nor under write-back, for a moment in between
            dirty_bytes = min(mapping.dirty_bytes, mapping.i_size) if mapping.is_unwritten else None
        uncommitted_bytes: int | None = mapping.ops.uncommitted_bytes
        if uncommitted_bytes is None:
            return dirty_bytes
        return min((dirty_bytes or 0) + uncommitted_bytes, mapping.i_size)

    def looks_as(self, opened: Opened) -> None:
        """This is how to look whether it is still the same, and to go on with it."""
        self.look, self.again, self.has_validator = opened.look, opened.again, opened.has_validator

    def was_looked_at(self, look: Look) -> None:
        """And found to be the same, or is what was found.  Under the cache's lock."""
        if look.number > self.look_number:
            self.look_number, self.looked_s = look.number, max(self.looked_s, look.began_s)

    @property
    def found_changed(self) -> bool:
        """Whether it was found to be another's since the last look at it began: what that has seen may be older."""
        return self.mapping.found_changed_s >= self.looked_s

    @property
    def seen_s(self) -> float:
        """When its store had this version for certain, at the latest that is known."""
        return max(self.looked_s, self.mapping.validated_s)

    @property
    def is_stale(self) -> bool:
        """Whether another has changed the object, so that its store takes nothing of it any more."""
        return getattr(self.mapping.wb_err.check(-1), "errno", None) == errno.ESTALE

    def note_version(self) -> None:
        """The version is what the store made of what was written."""
        version = getattr(self.mapping.ops, "version", None)  # as stores/source.py says; a user's may have another
        if isinstance(version, str):
            self.version = version
        self.again = getattr(self.mapping.ops, "committed", None)

    def can_be_written_on(self, opened: Opened) -> bool:
        """Whether it can stand for what was just opened for writing: the same bytes, and room."""
        return (
            self.has_room
            and self.version == opened.version
            and self.size_bytes == opened.size_bytes
            and page_count_for(ROOM_TIMES // 2 * self.size_bytes) <= self.mapping.frame_count
            and (self.opened is None or self.opened.ops.writable)
        )

    @property
    def is_the_parents(self) -> bool:
        """Whether this is a child of who was writing it."""
        return isinstance(self.mapping.ops, WrittenByParent)

    def leave_to_parent(self) -> None:
        """After a fork, in the child: what was being written is the parent's."""
        self.mapping.late.clear()
        self.mapping.ops = WrittenByParent(self.name)

    @overload
    def open(self, mode: OpenBinaryMode = "rb") -> File: ...
    @overload
    def open(
        self,
        mode: OpenTextMode,
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
        """A file over these pages; arguments, result and errors as for `PageCache.open`.

        It may be written to if its operations are ``writable``.
        """
        parsed, wrap = text_layer(mode, encoding, errors, newline)
        cache = self._cache
        if not parsed.writes:
            return cache._zone.workqueue.shielded(lambda: wrap(cache._open_file(cache._table.hold(self), parsed)))
        if not self.mapping.ops.writable:
            raise read_only_source(self.name)
        if parsed.exclusive:
            raise exists(self.name)
        return cache._opened_to_write(
            lambda: wrap(cache._open_file(cache._hold_for_writing(self, parsed), parsed)), self, self.key
        )

    def resize(self, size_bytes: int) -> None:
        """Tell the cache that the object has become shorter or longer.

        Pages beyond a new end go; a last page that was not full is read anew.  Blocks: while such pages are
        being read.  Raises: OSError(EBUSY) if a view shows pages that would have to go, or if it is the cache that
        knows the size, because the file is open for writing or has unwritten data; TypeError; ValueError;
        OSError(EFBIG).
        """
        size_bytes = checked("size_bytes", size_bytes)

        def resize() -> None:
            with self.mapping.i_rwsem.exclusive():
                with self.mapping.zone.lock:
                    is_unwritten = self.mapping.is_unwritten
                if self.writer_count or is_unwritten:
                    raise being_written(self.name)
                truncate.truncate_setsize(self.mapping, size_bytes)

        self._cache._zone.workqueue.shielded(resize)

    def resident(self) -> list[tuple[int, int]]:
        """Which pages are in the cache: runs of (first index, page count), in order."""
        return list(self.mapping.resident())


def _room_bytes(roomy_count: int, size_bytes: int) -> int:
    least = ROOM_BYTES if roomy_count < ROOMY_MAX else ROOM_BYTES_OF_MANY
    return max(size_bytes, min(max(least, ROOM_TIMES * size_bytes), ARENA_PAGES_MAX << PAGE_SHIFT))
