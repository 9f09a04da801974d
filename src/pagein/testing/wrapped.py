"""A store around another: each thing that the other is asked to do passes by here.

Guarantees: what the inner store brings, stores and says of itself is what the outer one does.  Every request is on
record.
Assumes: the inner store can do all by ranges.  All bytes come by `fill` or `fetch`, and go by `store`, so that part of
them can fail.  What else it has is not called: `readpage`, `readahead`, `writepages`, `direct_write`, `fetch_here`,
`launder_page` (a dirty page stays), `Opened.look` (it is opened again); and no bytes come with the opening.
Not here: what happens to a request on its way (faulty.py, simulated.py).
"""

from __future__ import annotations

import math
import threading
from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from ..mm.aops import AddressSpaceOperations
from ..mm.sync import Door
from ..stores.ranges import AsyncRangeOperations, RangeOperations, fill_all, read_range
from ..stores.source import Opened, Source, Store, WritableSource

Operation = Literal["open", "fill", "store", "set_size", "punch_hole", "fsync"]
T = TypeVar("T")


@dataclass(eq=False)
class Request:
    """Something that a store is asked, and when."""

    operation: Operation
    name: str
    """Of the object."""
    offset_bytes: int
    size_bytes: int
    """Of the range; 0 if there is none."""
    asked_s: float
    answered_s: float = math.inf
    """inf: not yet."""
    errno: int | None = None
    """Of the error that was the answer."""


Run = Callable[[int, int], T]
"""Does what is asked; of a range, its bytes [start, stop)."""


class WrappedStore:
    """*inner*, each request to which passes `answer`."""

    label = "wrapped"

    def __init__(self, inner: Store, clock: Door) -> None:
        if not callable(getattr(inner, "source", None)):
            raise TypeError(f"{type(inner).__name__} is no store: it has no source(path)")
        self.requests: list[Request] = []
        """In the order in which they were asked."""
        self._inner = inner
        self._clock = clock
        self._lock = threading.Lock()

    @abstractmethod
    def answer(self, request: Request, run: Run[T]) -> T:
        """Have *run* do it, or not, or later, or in part."""

    def source(self, path: str) -> Source:
        """The object at *path*."""
        inner = self._inner.source(path)
        return (_WritableSource if isinstance(inner, WritableSource) else _Source)(self, inner)

    def operations(self, ops: AddressSpaceOperations, name: str = "") -> WrappedOperations:
        """*ops*, as if they were this store's: for `PageCache.inode`.  Raises: TypeError if they bring no ranges."""
        return WrappedOperations(self, ops, name or type(ops).__name__)

    def _asked(self, operation: Operation, name: str, offset_bytes: int = 0, size_bytes: int = 0) -> Request:
        with self._lock:
            request = Request(operation, name, offset_bytes, size_bytes, self._clock.now_s())
            self.requests.append(request)
        return request

    def _answer(self, request: Request, run: Run[T]) -> T:
        with self._recording(request):
            return self.answer(request, run)

    @contextmanager
    def _recording(self, request: Request) -> Iterator[None]:
        """What comes of it, and when."""
        try:
            yield
        except OSError as error:
            request.errno = error.errno
            raise
        finally:
            request.answered_s = self._clock.now_s()


class _Source:
    def __init__(self, store: WrappedStore, inner: Any) -> None:
        self._store = store
        self._inner = inner
        self.key: Hashable = (store.label, store, inner.key)
        self.name: str = inner.name

    def open(self) -> Opened:
        return self._opened(self._inner.open)

    def _opened(self, run: Callable[[], Opened]) -> Opened:
        found = self._store._answer(self._store._asked("open", self.name), lambda start, stop: run())
        ops = self._store.operations(found.ops, self.name)
        return Opened(ops, found.size_bytes, found.version, close=found.close, has_validator=found.has_validator)


class _WritableSource(_Source):
    def open_for_writing(self, *, create: bool, exclusive: bool, truncate: bool) -> Opened:
        return self._opened(lambda: self._inner.open_for_writing(create=create, exclusive=exclusive, truncate=truncate))


class WrappedOperations(RangeOperations):
    """The operations *inner*, each call of which passes ``store.around``."""

    def __init__(self, store: WrappedStore, inner: Any, name: str) -> None:
        if not isinstance(inner, RangeOperations | AsyncRangeOperations):
            raise TypeError(
                f"{type(inner).__name__} has no ranges, only pages: wrap RangeOperations or AsyncRangeOperations"
            )
        if inner.writable and not _has_store(inner):
            raise TypeError(f"{type(inner).__name__} is writable, but has no store(buffer, offset_bytes) for ranges")
        self._store = store
        self._inner: Any = inner
        self._name = name
        self.blocking: bool = inner.blocking or isinstance(inner, AsyncRangeOperations)
        self.readers_call: bool = inner.readers_call
        self.requests_max: int = inner.requests_max
        self.validates: bool = inner.validates
        self.writable: bool = inner.writable
        self.commits: bool = inner.commits
        self.object_bytes_max: int | None = inner.object_bytes_max
        self.write_bytes_max: int = inner.write_bytes_max
        self.device_name: str = f"{store.label} {inner.device_name}".strip()

    @property
    def device_key(self) -> Hashable:
        """One for each store: the others should not wait for what is late here."""
        return self._store, self._inner.device_key

    @property
    def version(self) -> Any:
        """As the inner one's."""
        return self._inner.version

    @property
    def uncommitted_bytes(self) -> int | None:
        """As the inner one's."""
        return self._inner.uncommitted_bytes  # type: ignore[no-any-return]

    def discard(self) -> int | None:
        """As the inner one's."""
        return self._inner.discard()  # type: ignore[no-any-return]

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        """Locks, blocks, raises: as `RangeOperations.fill`, and as the store around it says."""
        self._store._answer(*self._filling(buffer, offset_bytes))

    def _filling(self, buffer: memoryview, offset_bytes: int) -> tuple[Request, Run[None]]:
        def run(start: int, stop: int) -> None:
            with buffer[start:stop] as part:
                if isinstance(self._inner, RangeOperations):
                    fill_all(self._inner, part, offset_bytes + start, name=self._name)
                else:
                    part[:] = read_range(self._inner, offset_bytes + start, stop - start)

        return self._store._asked("fill", self._name, offset_bytes, len(buffer)), run

    def store(self, buffer: memoryview, offset_bytes: int) -> None:
        """Locks, blocks, raises: as `RangeOperations.store`, and as the store around it says."""
        self._store._answer(*self._storing(buffer, offset_bytes))

    def _storing(self, buffer: memoryview, offset_bytes: int) -> tuple[Request, Run[None]]:
        def run(start: int, stop: int) -> None:
            with buffer[start:stop] as part:
                self._inner.store(part, offset_bytes + start)

        return self._store._asked("store", self._name, offset_bytes, len(buffer)), run

    def set_size(self, size_bytes: int) -> None:
        """As the store around it says."""
        self._whole("set_size", lambda: self._inner.set_size(size_bytes))

    def punch_hole(self, offset_bytes: int, size_bytes: int) -> None:
        """As the store around it says."""
        self._whole("punch_hole", lambda: self._inner.punch_hole(offset_bytes, size_bytes))

    def fsync(self) -> None:
        """As the store around it says."""
        self._whole("fsync", self._inner.fsync)

    def _whole(self, operation: Operation, run: Callable[[], object]) -> None:
        self._store._answer(self._store._asked(operation, self._name), lambda start, stop: run())


def _has_store(inner: Any) -> bool:
    return getattr(type(inner), "store", RangeOperations.store) is not RangeOperations.store
