"""Objects in this process's memory: for tests, for examples, and for bytes that should be read as files.

Guarantees: an object's bytes never change; `put` replaces the object, and whoever has the old one open gets
ESTALE at the next fetch.  An object that is open for writing is replaced whole, by `put_if`; whoever writes it can read
the old one to its end, so that all of what he has can be saved elsewhere.
Assumes: nothing.  Every method may be called from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from ..errors import conflict, exists, is_directory, not_found, stale
from .ranges import RangeOperations, require_length
from .source import Opened, Source

if TYPE_CHECKING:
    from .layer import Whole


class _Object(NamedTuple):
    data: bytes
    version: str


class MemoryStore:
    """Paths and their bytes."""

    def __init__(self, objects: Mapping[str, bytes] | None = None) -> None:
        self._lock = threading.Lock()
        self._objects: dict[str, _Object] = {}
        self._put_counts = count(1)
        for path, data in (objects or {}).items():
            self.put(path, data)

    def put(self, path: str, data: bytes | bytearray | memoryview) -> None:
        """Store a copy of *data*, in place of what was there.  Equal bytes are another version, too."""
        with self._lock:
            self._objects[path] = _Object(bytes(data), f"put-{next(self._put_counts)}")

    def put_if(self, path: str, data: bytes | bytearray | memoryview, version: str | None) -> str:
        """As `put`, if what is there has that *version*, or with None, if nothing is there; returns the new version.

        Raises: OSError(ESTALE).
        """
        return self._put_if(path, data, version).version

    def _put_if(
        self,
        path: str,
        data: bytes | bytearray | memoryview,
        version: str | None,
        refused: Callable[..., OSError] = stale,
    ) -> _Object:
        copy = bytes(data)
        with self._lock:
            now = self._objects.get(path)
            if (now.version if now else None) != version:
                raise refused(_name_of(path), was=version or "absent", now=now.version if now else "deleted")
            new = self._objects[path] = _Object(copy, f"put-{next(self._put_counts)}")
        return new

    def delete(self, path: str) -> None:
        """Raises: OSError(ENOENT)."""
        with self._lock:
            if self._objects.pop(path, None) is None:
                raise not_found(_name_of(path))

    def source(self, path: str) -> Source:
        """The object at *path*, whether or not it is there yet."""
        return _MemorySource(self, path)

    def _get(self, path: str) -> _Object | None:
        return self._objects.get(path)

    def _has_below(self, path: str) -> bool:
        prefix = path.rstrip("/") + "/" if path else ""
        with self._lock:
            return any(other.startswith(prefix) for other in self._objects)


class _MemorySource:
    def __init__(self, store: MemoryStore, path: str) -> None:
        self._store = store
        self._path = path
        self.key: Hashable = ("memory", store, path)
        self.name = _name_of(path)

    def open(self) -> Opened:
        found = self._store._get(self._path)
        if found is None:
            raise (is_directory if self._store._has_below(self._path) else not_found)(self.name)
        return _opened(self._store, self._path, found)

    def open_for_writing(self, *, create: bool, exclusive: bool, truncate: bool) -> Opened:
        """Raises: OSError: ENOENT, EEXIST, EISDIR."""
        from .staged import staged

        found = self._store._get(self._path)
        if found is None and (not create or not self._path or self._store._has_below(self._path)):
            return self.open()  # which says why not
        if found is not None and exclusive:
            raise exists(self.name)
        return staged(_MemoryTarget(self._store, self._path, found), truncate=truncate)


class _MemoryTarget:
    device_key: Hashable = "memory"
    device_name = "memory"
    object_bytes_max: int | None = None

    def __init__(self, store: MemoryStore, path: str, found: _Object | None) -> None:
        self.name = _name_of(path)
        self._store = store
        self._path = path
        self._found = found

    @property
    def version(self) -> str:
        return self._found.version if self._found else "absent"

    def opened(self) -> Opened | None:
        return _opened(self._store, self._path, self._found, lasts=True) if self._found else None

    def replace(self, whole: Whole) -> None:
        with whole.mapped() as data, memoryview(data) as view:
            was = self._found.version if self._found else None
            self._found = self._store._put_if(self._path, view, was, refused=conflict)


def _opened(store: MemoryStore, path: str, found: _Object, *, lasts: bool = False) -> Opened:
    again = partial(_opened, store, path, found)
    return Opened(_MemoryOperations(store, path, found, lasts=lasts), len(found.data), found.version, again=again)


class _MemoryOperations(RangeOperations):
    blocking = False
    validates: bool = True
    device_name = "memory"

    def __init__(self, store: MemoryStore, path: str, opened: _Object, *, lasts: bool) -> None:
        self._store = store
        self._path = path
        self._opened = opened
        self._lasts = lasts

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        now = self._store._get(self._path)
        if now is not self._opened and not self._lasts:
            raise stale(_name_of(self._path), was=self._opened.version, now=now.version if now else "deleted")
        with memoryview(self._opened.data)[offset_bytes : offset_bytes + len(buffer)] as part:
            require_length(_name_of(self._path), offset_bytes, len(buffer), len(part))
            buffer[:] = part


def _name_of(path: str) -> str:
    return f"memory:{path}"
