"""A store in memory that can be written to, whose writes a test can hold, count and let fail.

Not here: the stores that pagein ships (tests/stores).
"""

from __future__ import annotations

import threading
from itertools import count

from tests.file.sources import TIMEOUT_S

from pagein import errors
from pagein.stores import Opened, RangeOperations


class Disk:
    """Objects that are written in place; or, if they are *whole*, replaced at fsync."""

    def __init__(self, objects: dict[str, bytes] | None = None, *, whole: bool = False) -> None:
        self.objects: dict[str, bytes] = dict(objects or {})
        self.versions = dict.fromkeys(self.objects, 0)
        self.whole = whole
        self.error: OSError | None = None
        """What every store(), set_size() and fsync() raises."""
        self.open_count = 0
        self._closing = threading.Condition()
        self.calls: list[tuple[str, str]] = []
        self._counts = count(1)
        self._gate = threading.Event()
        self._gate.set()
        self._arrived = threading.Semaphore(0)

    def source(self, path: str) -> _Source:
        return _Source(self, path)

    def put(self, path: str, data: bytes) -> None:
        self.objects[path] = data
        self.versions[path] = next(self._counts)

    def names_of_calls(self) -> list[str]:
        return [name for name, _ in self.calls]

    def hold(self) -> None:
        """Let everything that writes, or opens for writing, wait for `release`."""
        self._gate.clear()

    def release(self) -> None:
        self._gate.set()

    def wait_for_call(self) -> None:
        assert self._arrived.acquire(timeout=TIMEOUT_S), "nobody came"

    def note_close(self) -> None:
        with self._closing:
            self.open_count -= 1
            self._closing.notify_all()

    def all_closed(self) -> bool:
        """Whether nothing is open soon: who was interrupted as he opened something may be closing it yet."""
        with self._closing:
            return self._closing.wait_for(lambda: self.open_count == 0, TIMEOUT_S)

    def note(self, name: str, path: str) -> None:
        self.calls.append((name, path))

    def note_writing(self, name: str, path: str) -> None:
        self.note(name, path)
        self._arrived.release()
        assert self._gate.wait(TIMEOUT_S), "nobody released it"
        if self.error is not None and name != "open_for_writing":
            raise self.error


class _Source:
    def __init__(self, disk: Disk, path: str) -> None:
        self._disk, self._path = disk, path
        self.key = ("disk", disk, path)
        self.name = path

    def open(self) -> Opened:
        self._disk.note("open", self._path)
        if self._path not in self._disk.objects:
            raise errors.not_found(self.name)
        return self._opened(_Operations(self._disk, self._path))

    def open_for_writing(self, *, create: bool, exclusive: bool, truncate: bool) -> Opened:
        disk, path = self._disk, self._path
        disk.note_writing("open_for_writing", path)
        is_new = path not in disk.objects
        if is_new and not create:
            raise errors.not_found(self.name)
        if not is_new and exclusive:
            raise errors.exists(self.name)
        if (is_new or truncate) and not disk.whole:
            disk.put(path, b"")
        ops = _WritableOperations(disk, path)
        if is_new or truncate:
            ops.start_with_nothing()
        return self._opened(ops)

    def _opened(self, ops: _Operations) -> Opened:
        disk = self._disk
        with disk._closing:
            disk.open_count += 1
        return Opened(ops, len(ops.data), str(disk.versions.get(self._path)), close=disk.note_close)


class _Operations(RangeOperations):
    device_name = "disk"

    def __init__(self, disk: Disk, path: str) -> None:
        self.disk, self.path = disk, path
        self.opened_version = disk.versions.get(path)
        self.staged: bytearray | None = None
        self.is_changed = False
        self.lock = threading.Lock()

    @property
    def data(self) -> bytes | bytearray:
        return self.disk.objects.get(self.path, b"") if self.staged is None else self.staged

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        self.disk.note("fill", self.path)
        if self.opened_version != self.disk.versions.get(self.path):
            now = str(self.disk.versions.get(self.path))
            raise errors.stale(self.path, was=str(self.opened_version), now=now)
        with self.lock:
            buffer[:] = self.data[offset_bytes : offset_bytes + len(buffer)]


class _WritableOperations(_Operations):
    writable = True

    def __init__(self, disk: Disk, path: str) -> None:
        super().__init__(disk, path)
        self.commits = disk.whole

    def start_with_nothing(self) -> None:
        if self.disk.whole:
            self.staged, self.is_changed = bytearray(), True

    @property
    def version(self) -> str:
        return str(self.opened_version)

    @property
    def uncommitted_bytes(self) -> int | None:
        return len(self.staged or b"") if self.is_changed else None

    def store(self, buffer: memoryview, offset_bytes: int) -> None:
        self.disk.note_writing("store", self.path)
        with self.lock:
            data = bytearray(self.data)
            data += bytes(max(0, offset_bytes - len(data)))
            data[offset_bytes : offset_bytes + len(buffer)] = buffer
            self._take(data)

    def set_size(self, size_bytes: int) -> None:
        self.disk.note_writing("set_size", self.path)
        with self.lock:
            self._take(bytearray(self.data[:size_bytes].ljust(size_bytes, b"\0")))

    def _take(self, data: bytearray) -> None:
        if self.disk.whole:
            self.staged, self.is_changed = data, True
        else:
            self.disk.put(self.path, bytes(data))
            self.opened_version = self.disk.versions[self.path]

    def fsync(self) -> None:
        self.disk.note_writing("fsync", self.path)
        with self.lock:
            if self.is_changed:
                if self.opened_version != self.disk.versions.get(self.path):
                    now = str(self.disk.versions.get(self.path))
                    raise errors.stale(self.path, was=str(self.opened_version), now=now)
                self.disk.put(self.path, bytes(self.staged or b""))
                self.opened_version, self.is_changed, self.staged = self.disk.versions[self.path], False, None

    def discard(self) -> int | None:
        with self.lock:
            if not self.is_changed:
                return None
            self.staged, self.is_changed = None, False
            return len(self.data)
