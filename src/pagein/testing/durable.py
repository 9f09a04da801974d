"""A store that keeps for sure only what was fsynced: a `DurableStore` loses the rest when it crashes.

    store = DurableStore({"a": b"..."})
    with cache.open((store, "a"), "r+b") as file: ...
    store.crash()                               # as if the machine had lost its power
    store.crash(random.Random(seed))            # as a disk does, which had written some of it already

Guarantees: what a crash leaves is what the last fsync that returned had found, and with *chance* any part of what came
after it.  No two contents of one path have the same version, whatever was forgotten between them.
Assumes: nothing.  Every method may be called from any thread.
Not here: operations that fail (faulty.py).
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import threading
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from ..errors import not_found, short_fetch
from ..stores.ranges import RangeOperations
from ..stores.source import Opened

SECTOR_BYTES = 512
"""What is torn is torn between sectors: each is written whole or not at all."""
Change = tuple[int, bytes | None]
"""Bytes at an offset; or, without bytes, a new size."""


@dataclass
class _Object:
    """An object of a `DurableStore`.  Under its lock."""

    data: bytearray
    """With what was stored since the last fsync."""
    durable: bytes | None
    """None: it was created, and not fsynced."""
    version: int
    changes: list[Change] = field(default_factory=list)
    """Since the last fsync, in order."""

    def apply(self, change: Change, version: int) -> None:
        _apply(self.data, change)
        self.changes.append(change)
        self.version = version


def _apply(data: bytearray, change: Change) -> None:
    at, written = change
    data.extend(bytes(max(0, at - len(data))))
    if written is None:
        del data[at:]
    else:
        data[at : at + len(written)] = written


class DurableStore:
    """Paths and their bytes, as a disk has them: written at once, and sure only after fsync.

    *blocking*: whether its operations are called by I/O workers, as those of a real disk are.
    """

    def __init__(self, objects: Mapping[str, bytes] | None = None, *, blocking: bool = True) -> None:
        self.blocking = blocking
        self.crashes: int = 0
        self._lock = threading.Lock()
        self._versions = itertools.count(1)
        """Of all objects: one that a crash has forgotten may come again, and begins no count anew.  Under the lock."""
        self._objects = {
            path: _Object(bytearray(data), bytes(data), next(self._versions)) for path, data in (objects or {}).items()
        }

    def source(self, path: str) -> _DurableSource:
        """The object at *path*."""
        return _DurableSource(self, path)

    def stored(self, path: str) -> bytes:
        """What a reader would find now."""
        with self._lock:
            return bytes(self._objects[path].data)

    def durable(self, path: str) -> bytes | None:
        """What would be there after a crash, whatever it spares; None: perhaps no such object."""
        with self._lock:
            found = self._objects.get(path)
            return found.durable if found else None

    def crash(self, chance: random.Random | None = None) -> None:
        """All that was not fsynced is lost; with *chance*, each sector of it or not, and each new size.

        Whoever has an object open gets ENODEV from then on: his machine is down.
        """
        with self._lock:
            self.crashes += 1
            for path, found in list(self._objects.items()):
                if found.durable is None and (chance is None or chance.random() < 0.5):
                    del self._objects[path]
                    continue
                data = bytearray(found.durable or b"")
                for change in _survivors(found.changes, chance) if chance else ():
                    _apply(data, change)
                self._objects[path] = _Object(data, bytes(data), next(self._versions))


def _survivors(changes: list[Change], chance: random.Random) -> list[Change]:
    survivors: list[Change] = []
    for at, written in changes:
        if written is None:
            survivors += [(at, None)] if chance.random() < 0.5 else []
            continue
        first = at // SECTOR_BYTES * SECTOR_BYTES
        for start in range(first, at + len(written), SECTOR_BYTES):
            begin, end = max(start, at), min(start + SECTOR_BYTES, at + len(written))
            if chance.random() < 0.5:
                survivors.append((begin, written[begin - at : end - at]))
    return survivors


class _DurableSource:
    def __init__(self, store: DurableStore, path: str) -> None:
        self._store = store
        self._path = path
        self.key: Hashable = ("durable", id(store), path)
        self.name: str = f"durable:{path}"

    def open(self) -> Opened:
        return self.open_for_writing(create=False, exclusive=False, truncate=False)

    def open_for_writing(self, *, create: bool, exclusive: bool, truncate: bool) -> Opened:
        with self._store._lock:
            found = self._store._objects.get(self._path)
            if found is None and not create:
                raise not_found(self.name)
            if found is not None and exclusive:
                raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), self.name)
            if found is None:
                found = self._store._objects[self._path] = _Object(bytearray(), None, next(self._store._versions))
            if truncate:
                found.apply((0, None), next(self._store._versions))
            return Opened(_DurableOperations(self._store, found, self.name), len(found.data), f"v{found.version}")


class _DurableOperations(RangeOperations):
    writable = True
    device_name = "durable"

    def __init__(self, store: DurableStore, found: _Object, name: str) -> None:
        self.blocking = store.blocking
        self._store = store
        self._object = found
        self._name = name
        self._crashes = store.crashes

    @property
    def version(self) -> str:
        return f"v{self._object.version}"

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        with self._store._lock:
            self._require_power()
            data = self._object.data[offset_bytes : offset_bytes + len(buffer)]
        if len(data) < len(buffer):
            raise short_fetch(self._name, offset_bytes=offset_bytes, wanted_bytes=len(buffer), got_bytes=len(data))
        buffer[:] = data

    def store(self, buffer: memoryview, offset_bytes: int) -> None:
        self._change(offset_bytes, bytes(buffer))

    def set_size(self, size_bytes: int) -> None:
        self._change(size_bytes, None)

    def _change(self, at: int, written: bytes | None) -> None:
        with self._store._lock:
            self._require_power()
            self._object.apply((at, written), next(self._store._versions))

    def fsync(self) -> None:
        with self._store._lock:
            self._require_power()
            self._object.durable = bytes(self._object.data)
            self._object.changes.clear()

    def _require_power(self) -> None:
        if self._crashes != self._store.crashes:
            raise OSError(errno.ENODEV, "the machine is down", self._name)
