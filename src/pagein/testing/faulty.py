"""A store that fails: a `FaultyStore` is any store, of which calls fail, or are late, as it is told.

    store = FaultyStore(MemoryStore({"a": b"..."}))
    store.inject("fill", at=3, error=errno.ETIMEDOUT)      # the third from now on
    store.inject("fsync", kind="torn", times=2)            # two that succeed, but whose answer is an error
    with cache.open((store, "a"), "r+b") as file: ...

Guarantees: a fault is counted from when it was injected; every one that struck is on record.
Assumes: nothing.  Every method may be called from any thread, and no wait is for ever.
Not here: what a crash leaves (durable.py), how long a store takes (simulated.py), stores whose pages are scripted one
by one (stores.py).
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar, get_args

from ..errors import bad_setting
from ..mm.aops import AOP_UPDATED_PAGE, AddressSpaceOperations
from ..mm.openfile import OpenFile
from ..mm.page import Page
from ..mm.rac import ReadaheadControl
from ..mm.sync import SYSTEM, Door, Waiter
from ..mm.writeback import WritebackControl
from ..stores.source import Store
from .accepted import COUNT, ERROR, FINITE, OFFSET, or_none, require
from .durable import SECTOR_BYTES
from .stores import PATIENCE_S
from .wrapped import Operation as Operation, Request, Run, WrappedOperations, WrappedStore

Kind = Literal["fails", "short", "torn", "slow", "late", "changed"]
WITH_RANGE: tuple[Operation, ...] = ("fill", "store")
T = TypeVar("T")


@dataclass(eq=False)
class Fault:
    """What befalls the calls of an operation, from the *at*-th on, *times* in all; None: until `FaultyStore.heal`.
    Each call counts for each fault that it concerns, but only one of them strikes it.
    With *offset_bytes*, only those whose range has that byte count.  *error* is raised: an OSError, or its errno.

    ``fails``: nothing is done, and *error* raised.
    ``short``: the first half of the range is done, then *error* raised.
    ``torn``: every other sector of it is done, or all of an operation without a range; then *error* raised.  With
    *delay_s*, no error, but the rest after that time.
    ``slow``: it is done after *delay_s*.
    ``late``: it is done when the test says so: `Held.complete`.
    ``changed``: the first half of the range is done, then *change* called, then the rest: what comes of it is up to the
    inner store, which should say ESTALE.
    """

    operation: Operation
    kind: Kind = "fails"
    at: int = 1
    times: int | None = 1
    error: int | OSError = errno.EIO
    offset_bytes: int | None = None
    delay_s: float = 0.0
    change: Callable[[], object] | None = None
    calls: int = 0
    """How many concerned it so far."""
    strike_count: int = 0
    """How many of them it has befallen."""

    def __post_init__(self) -> None:
        for name, given, accepted in (
            ("operation", self.operation, get_args(Operation)),
            ("kind", self.kind, get_args(Kind)),
        ):
            if given not in accepted:
                raise ValueError(f"{name} must be one of {', '.join(accepted)}, not {given!r}")
        require("at", self.at, COUNT)
        require("times", self.times, or_none(COUNT, "all"))
        require("error", self.error, ERROR)
        require("offset_bytes", self.offset_bytes, or_none(OFFSET, "any"))
        require("delay_s", self.delay_s, FINITE)
        if self.offset_bytes is not None and self.operation not in WITH_RANGE:
            raise ValueError(f"offset_bytes needs a range, as {' and '.join(WITH_RANGE)} have, not {self.operation}")
        if self.change is not None and not callable(self.change):
            raise bad_setting("change", "something to call", self.change, kind=TypeError)
        if self.kind == "slow" and not self.delay_s:
            raise ValueError(f"kind {self.kind!r} needs delay_s, more than 0, not {self.delay_s:g}")
        if self.delay_s and self.kind not in ("slow", "torn"):
            raise ValueError(f"kind {self.kind!r} has no delay_s, only 'slow' and 'torn' have")
        if (self.kind == "changed") != (self.change is not None):
            raise ValueError("a fault has a change if, and only if, its kind is 'changed'")

    @property
    def is_error(self) -> bool:
        """Whether whoever called gets an OSError of ours."""
        return self.kind in ("fails", "short") or (self.kind == "torn" and not self.delay_s)

    def is_due(self, request: Request) -> bool:
        """Whether it should befall this call, which is counted if it is one of ours.  Under the store's lock."""
        if not self._concerns(request):
            return False
        self.calls += 1
        return self.calls >= self.at and (self.times is None or self.strike_count < self.times)

    def _concerns(self, request: Request) -> bool:
        start, at = request.offset_bytes, self.offset_bytes
        return self.operation == request.operation and (at is None or start <= at < start + request.size_bytes)

    def error_for(self, request: Request, number: int) -> OSError:
        """What whoever called gets of the strike of this *number*, by which two errors are told apart."""
        if isinstance(self.error, OSError):
            return self.error.with_traceback(None)  # it would keep whoever has raised it before
        return OSError(self.error, f"injected: {request.operation} {self.kind} (strike {number})", request.name)


class _Strike(NamedTuple):
    """A fault, befalling a call."""

    fault: Fault
    number: int
    """Of the store's, from 1 on: its place in `FaultyStore.struck`."""


class Held:
    """A call that is late: it waits for `complete`."""

    def __init__(self, store: FaultyStore, request: Request, then: Callable[[OSError | None], object]) -> None:
        self.request: Request = request
        self._store = store
        self._then = then

    def complete(self, error: OSError | None = None) -> None:
        """Have it done now, or fail with *error*.  Raises: ValueError if it has been completed."""
        with self._store._lock:
            if self not in self._store.held:
                raise ValueError(f"{self.request.operation} of {self.request.name} has been completed")
            self._store.held.remove(self)
        self._then(error)


class FaultyStore(WrappedStore):
    """*inner*, of which calls fail.  Delays pass on *clock*."""

    label = "faulty"

    def __init__(self, inner: Store, *, clock: Door = SYSTEM) -> None:
        super().__init__(inner, clock)
        self.calls: Counter[str] = Counter()
        """Of each operation, since the beginning."""
        self.struck: list[Fault] = []
        """One entry for each call that something befell."""
        self.held: list[Held] = []
        """Those that are late, in the order in which they came."""
        self._faults: list[Fault] = []
        self._awaiting_held: list[tuple[int, Waiter]] = []

    def inject(
        self,
        operation: Operation,
        *,
        kind: Kind = "fails",
        at: int = 1,
        times: int | None = 1,
        error: int | OSError = errno.EIO,
        offset_bytes: int | None = None,
        delay_s: float = 0.0,
        change: Callable[[], object] | None = None,
    ) -> Fault:
        """As `Fault` says.  Of several that are due, the one that was injected first strikes, and the others later."""
        fault = Fault(operation, kind, at, times, error, offset_bytes, delay_s, change)
        with self._lock:
            self._faults.append(fault)
        return fault

    def heal(self) -> None:
        """From now on, all is well; what is late is completed."""
        with self._lock:
            self._faults.clear()
            held = list(self.held)
        for one in held:
            one.complete()

    def errors(self, *operations: Operation) -> int:
        """How many calls of *operations* have failed so far."""
        return sum(fault.operation in operations and fault.is_error for fault in list(self.struck))

    def wait_for_held(self, count: int = 1) -> list[Held]:
        """Those that are late, once there are *count* of them."""
        waiter = self._clock.waiter()
        with self._lock:
            if len(self.held) >= count:
                return list(self.held)
            self._awaiting_held.append((count, waiter))
        if not waiter.wait(PATIENCE_S):
            raise AssertionError(f"waited {PATIENCE_S:g} s until {count} calls are late")
        return list(self.held)

    def operations(self, ops: AddressSpaceOperations, name: str = "") -> WrappedOperations:
        """*ops*, as if they were this store's: for `PageCache.inode`.  Raises: TypeError if they bring no ranges."""
        return _FaultyOperations(self, ops, name or type(ops).__name__)

    def answer(self, request: Request, run: Run[T]) -> T:
        """As the faults say.  Blocks: if it is to be late, until it is completed."""
        strike = self._strike(request)
        if strike is not None and strike.fault.kind == "late":
            self._wait_until_completed(request)
        return self._undergo(strike, request, run)

    def _strike(self, request: Request) -> _Strike | None:
        """Count a call; return what befalls it."""
        with self._lock:
            self.calls[request.operation] += 1
            due = [fault for fault in self._faults if fault.is_due(request)]
            if not due:
                return None
            due[0].strike_count += 1
            self.struck.append(due[0])
            return _Strike(due[0], len(self.struck))

    def _undergo(self, strike: _Strike | None, request: Request, run: Run[T]) -> T:
        """Have it done as the fault says, but for its being late."""
        size_bytes = request.size_bytes
        if strike is None or strike.fault.kind == "late":
            return run(0, size_bytes)
        fault = strike.fault
        if fault.kind == "slow":
            self._clock.sleep(fault.delay_s)
            return run(0, size_bytes)
        half = size_bytes // 2
        if fault.kind == "changed":
            assert fault.change is not None
            if half:
                run(0, half)
            fault.change()
            return run(half, size_bytes)
        if fault.kind == "short" and half:
            run(0, half)
        if fault.kind == "torn":
            result = self._tear(fault, size_bytes, run)
            if fault.delay_s:
                return result
        raise fault.error_for(request, strike.number)

    def _tear(self, fault: Fault, size_bytes: int, run: Run[T]) -> T:
        starts = range(0, max(size_bytes, 1), SECTOR_BYTES)
        results = [run(start, min(start + SECTOR_BYTES, size_bytes)) for start in starts[::2]]
        if fault.delay_s:
            self._clock.sleep(fault.delay_s)
            results += [run(start, min(start + SECTOR_BYTES, size_bytes)) for start in starts[1::2]]
        return results[0]

    def _hold(self, request: Request, then: Callable[[OSError | None], object]) -> None:
        """Until `Held.complete`, which calls *then*."""
        with self._lock:
            self.held.append(Held(self, request, then))
            served = [one for one in self._awaiting_held if one[0] <= len(self.held)]
            self._awaiting_held = [one for one in self._awaiting_held if one not in served]
        for _, waiter in served:
            waiter.wake()

    def _wait_until_completed(self, request: Request) -> None:
        waiter, errors = self._clock.waiter(), list[OSError]()

        def then(error: OSError | None) -> None:
            errors.extend([error] if error else [])
            waiter.wake()

        self._hold(request, then)
        if not waiter.wait(PATIENCE_S):
            raise AssertionError(f"waited {PATIENCE_S:g} s until {request.operation} of {request.name} is completed")
        if errors:
            raise errors.pop()


class _FaultyOperations(WrappedOperations):
    """Reads and writes that are late are asynchronous: no thread waits for them."""

    _store: FaultyStore

    def readpage(self, file: OpenFile, page: Page) -> int:
        if self._is_held(*self._filling(page.buffer, page.offset), page.end_read):
            return 0
        page.set_uptodate()
        return AOP_UPDATED_PAGE

    def readahead(self, rac: ReadaheadControl) -> None:
        page = rac.take()
        if not self._is_held(*self._filling(page.buffer, page.offset), page.end_read):
            page.end_read()

    def writepages(self, wbc: WritebackControl) -> None:
        page = wbc.take()
        page.set_writeback()
        page.unlock()
        content = page.content

        def end(error: BaseException | None = None) -> None:
            content.release()
            page.end_writeback(error)

        try:
            is_held = self._is_held(*self._storing(content, page.offset), end)
        except BaseException:
            content.release()
            raise
        if not is_held:
            end()

    def _is_held(self, request: Request, run: Run[None], end: Callable[[BaseException | None], object]) -> bool:
        """Do it, as the faults say; or, if it is to be late, have it done then, and *end* called."""
        store, strike = self._store, self._store._strike(request)
        if strike is None or strike.fault.kind != "late":
            with store._recording(request):
                store._undergo(strike, request, run)
            return False

        def then(error: OSError | None) -> None:
            try:
                with store._recording(request):
                    if error is not None:
                        raise error
                    run(0, request.size_bytes)
            except BaseException as raised:  # of a mistake the reader hears, too: nobody else lets go of his page
                end(raised.with_traceback(None))
                if not isinstance(raised, Exception):
                    raise
            else:
                end(None)

        store._hold(request, then)
        return True
