"""A store that fails: `Faults` say which call of which operation does, and how; `faulty` wraps any store.

    store, faults = MemoryStore({"a": b"..."}), Faults()
    faults.add("store", at=3, code=errno.ENOSPC)            # the third from now on
    faults.add("fsync", kind="torn", times=2)               # two that succeed, but whose answer is an error
    with cache.open((faulty(store, faults), "a"), "r+b") as file: ...

Guarantees: a fault is counted from when it was added; every one that struck is on record.
Assumes: nothing.  Every method may be called from any thread, and no wait is for ever.
Not here: what a crash leaves (durable.py), stores whose pages are scripted one by one (stores.py).
"""

from __future__ import annotations

import errno
import threading
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Literal

from ..mm.aops import AddressSpaceOperations
from ..stores.ranges import RangeOperations
from ..stores.source import Opened
from .durable import SECTOR_BYTES
from .stores import Gate

Operation = Literal["fill", "store", "set_size", "punch_hole", "fsync", "open"]
Kind = Literal["fails", "short", "torn", "late"]


@dataclass(eq=False)
class Fault:
    """What befalls the calls of an operation, from the *at*-th on, *times* in all; None: until `Faults.heal`.

    fails: nothing is done.  short: the first half of the range is done.  torn: every other sector of it is; and an
    operation without a range is done.  Then OSError(*code*).  late: it is done once *gate* is open, and well.
    """

    operation: Operation
    kind: Kind
    at: int
    times: int | None
    code: int
    gate: Gate | None
    calls: int = 0

    def strikes(self) -> bool:
        """Count one more call.  Under the faults' lock."""
        self.calls += 1
        return self.calls >= self.at and (self.times is None or self.calls < self.at + self.times)

    def error(self, name: str) -> OSError:
        """What is raised."""
        return OSError(self.code, f"injected: {self.operation} {self.kind}", name)


class Faults:
    """Which calls fail, and which have failed."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        """Of each operation, since the beginning."""
        self.struck: list[Fault] = []
        """One entry for each call that something befell."""
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(
        self,
        operation: Operation,
        *,
        kind: Kind = "fails",
        at: int = 1,
        times: int | None = 1,
        code: int = errno.EIO,
        gate: Gate | None = None,
    ) -> Fault:
        """As `Fault` says.  Of several that are due, the one that was added first strikes."""
        if (kind == "late") != (gate is not None):
            raise ValueError("a fault has a gate if, and only if, it is late")
        fault = Fault(operation, kind, at, times, code, gate)
        with self._lock:
            self._faults.append(fault)
        return fault

    def heal(self) -> None:
        """From now on, all is well."""
        with self._lock:
            self._faults.clear()

    def errors(self, *operations: Operation) -> int:
        """How many calls of *operations* have failed so far."""
        return sum(fault.operation in operations and fault.kind != "late" for fault in list(self.struck))

    def strike(self, operation: Operation) -> Fault | None:
        """Count a call; return what befalls it.  Blocks: if that is to be late, until its gate is open."""
        with self._lock:
            self.calls[operation] += 1
            due = [fault for fault in self._faults if fault.operation == operation and fault.strikes()]
            if not due:
                return None
            self.struck.append(due[0])
        if (gate := due[0].gate) is not None:
            gate.pass_through()
            return None
        return due[0]


class FaultyOperations(RangeOperations):
    """The operations *inner*, as far as *faults* let them."""

    def __init__(self, inner: Any, faults: Faults, name: str = "faulty") -> None:
        self._inner = inner
        self._faults = faults
        self._name = name
        self.blocking: bool = inner.blocking
        self.requests_max: int = inner.requests_max
        self.writable: bool = inner.writable
        self.object_bytes_max: int | None = inner.object_bytes_max
        self.write_bytes_max: int = inner.write_bytes_max
        self.device_name: str = f"faulty {inner.device_name}".strip()

    @property
    def device_key(self) -> Hashable:
        """One for each set of faults: the others should not wait for its late ones."""
        return "faulty", id(self._faults), self._inner.device_key

    @property
    def version(self) -> Any:
        """As the inner one's."""
        return self._inner.version

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        """Locks, blocks, raises: as `RangeOperations.fill`, and as the faults say."""
        fault = self._faults.strike("fill")
        if fault is None:
            self._inner.fill(buffer, offset_bytes)
            return
        for start, stop in _parts(fault, len(buffer)):
            with buffer[start:stop] as part:
                self._inner.fill(part, offset_bytes + start)
        raise fault.error(self._name)

    def store(self, buffer: memoryview, offset_bytes: int) -> None:
        """Locks, blocks, raises: as `RangeOperations.store`, and as the faults say."""
        fault = self._faults.strike("store")
        if fault is None:
            self._inner.store(buffer, offset_bytes)
            return
        for start, stop in _parts(fault, len(buffer)):
            with buffer[start:stop] as part:
                self._inner.store(part, offset_bytes + start)
        raise fault.error(self._name)

    def set_size(self, size_bytes: int) -> None:
        """As the faults say."""
        self._whole("set_size", lambda: self._inner.set_size(size_bytes))

    def punch_hole(self, offset_bytes: int, size_bytes: int) -> None:
        """As the faults say."""
        self._whole("punch_hole", lambda: self._inner.punch_hole(offset_bytes, size_bytes))

    def fsync(self) -> None:
        """As the faults say."""
        self._whole("fsync", self._inner.fsync)

    def _whole(self, operation: Operation, run: Callable[[], object]) -> None:
        fault = self._faults.strike(operation)
        if fault is None or fault.kind == "torn":
            run()
        if fault is not None:
            raise fault.error(self._name)


def _parts(fault: Fault, size_bytes: int) -> list[tuple[int, int]]:
    """What is done of a range, as (start, stop)."""
    if fault.kind == "short":
        return [(0, size_bytes // 2)] if size_bytes > 1 else []
    if fault.kind == "torn":
        starts = range(0, size_bytes, 2 * SECTOR_BYTES)
        return [(start, min(start + SECTOR_BYTES, size_bytes)) for start in starts]
    return []


class FaultySource:
    """*inner*, a source of any store, whose operations are `FaultyOperations`."""

    def __init__(self, inner: Any, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults
        self.key: Hashable = ("faulty", id(faults), inner.key)
        self.name: str = inner.name

    def open(self) -> Opened:
        """As `Source.open`, and as the faults say."""
        return self._opened(self._inner.open)

    def open_for_writing(self, *, create: bool, exclusive: bool, truncate: bool) -> Opened:
        """As `WritableSource.open_for_writing`, and as the faults say."""
        return self._opened(lambda: self._inner.open_for_writing(create=create, exclusive=exclusive, truncate=truncate))

    def _opened(self, run: Callable[[], Opened]) -> Opened:
        if (fault := self._faults.strike("open")) is not None:
            raise fault.error(self.name)
        found = run()
        ops: AddressSpaceOperations = FaultyOperations(found.ops, self._faults, self.name)
        return Opened(ops, found.size_bytes, found.version, close=found.close)


class _FaultyStore:
    def __init__(self, store: Any, faults: Faults) -> None:
        self._store = store
        self._faults = faults

    def source(self, path: str) -> FaultySource:
        return FaultySource(self._store.source(path), self._faults)


def faulty(store: Any, faults: Faults) -> Any:
    """*store*, of which ``source(path)`` fails as *faults* say."""
    return _FaultyStore(store, faults)
