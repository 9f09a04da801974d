"""A store around another: each thing that the other is asked to do passes by here.

Guarantees: what the inner store brings, stores and says of itself is what the outer one does; all bytes come by
`fill`, none with the opening.
Not here: what happens to a call on its way (faulty.py, simulated.py).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable
from typing import Any, Literal, NamedTuple, TypeVar

from ..mm.aops import AddressSpaceOperations
from ..stores.ranges import AsyncRangeOperations, RangeOperations, read_range
from ..stores.source import Opened, Source, Store, WritableSource

Operation = Literal["open", "fill", "store", "set_size", "punch_hole", "fsync"]
T = TypeVar("T")


class Asked(NamedTuple):
    """What a store is asked to do."""

    operation: Operation
    name: str
    """Of the object."""
    offset_bytes: int = 0
    size_bytes: int = 0
    """Of the range; 0 if there is none."""


Run = Callable[[int, int], T]
"""Does what is asked; of a range, its bytes [start, stop)."""


class WrappedStore:
    """A store, each call of which passes `around`."""

    label = "wrapped"

    def __init__(self, inner: Store) -> None:
        if not callable(getattr(inner, "source", None)):
            raise TypeError(f"{type(inner).__name__} is no store: it has no source(path)")
        self._inner = inner

    @abstractmethod
    def around(self, asked: Asked, run: Run[T]) -> T:
        """Have *run* do it, or not, or later, or in part."""

    def source(self, path: str) -> Source:
        """The object at *path*."""
        inner = self._inner.source(path)
        return (_WritableSource if isinstance(inner, WritableSource) else _Source)(self, inner)

    def operations(self, ops: AddressSpaceOperations, name: str = "") -> WrappedOperations:
        """*ops*, as if they were this store's: for `PageCache.inode`.  Raises: TypeError if they bring no ranges."""
        return WrappedOperations(self, ops, name or type(ops).__name__)


class _Source:
    def __init__(self, store: WrappedStore, inner: Any) -> None:
        self._store = store
        self._inner = inner
        self.key: Hashable = (store.label, store, inner.key)
        self.name: str = inner.name

    def open(self) -> Opened:
        return self._opened(self._inner.open)

    def _opened(self, run: Callable[[], Opened]) -> Opened:
        found = self._store.around(Asked("open", self.name), lambda start, stop: run())
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
        self._store = store
        self._inner: Any = inner
        self._name = name
        self.blocking: bool = inner.blocking or isinstance(inner, AsyncRangeOperations)
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
        self._store.around(*self._filling(buffer, offset_bytes))

    def _filling(self, buffer: memoryview, offset_bytes: int) -> tuple[Asked, Run[None]]:
        def run(start: int, stop: int) -> None:
            with buffer[start:stop] as part:
                if isinstance(self._inner, RangeOperations):
                    self._inner.fill(part, offset_bytes + start)
                else:
                    part[:] = read_range(self._inner, offset_bytes + start, stop - start)

        return Asked("fill", self._name, offset_bytes, len(buffer)), run

    def store(self, buffer: memoryview, offset_bytes: int) -> None:
        """Locks, blocks, raises: as `RangeOperations.store`, and as the store around it says."""
        self._store.around(*self._storing(buffer, offset_bytes))

    def _storing(self, buffer: memoryview, offset_bytes: int) -> tuple[Asked, Run[None]]:
        def run(start: int, stop: int) -> None:
            with buffer[start:stop] as part:
                self._inner.store(part, offset_bytes + start)

        return Asked("store", self._name, offset_bytes, len(buffer)), run

    def set_size(self, size_bytes: int) -> None:
        """As the store around it says."""
        self._store.around(Asked("set_size", self._name), lambda start, stop: self._inner.set_size(size_bytes))

    def punch_hole(self, offset_bytes: int, size_bytes: int) -> None:
        """As the store around it says."""
        self._store.around(
            Asked("punch_hole", self._name), lambda start, stop: self._inner.punch_hole(offset_bytes, size_bytes)
        )

    def fsync(self) -> None:
        """As the store around it says."""
        self._store.around(Asked("fsync", self._name), lambda start, stop: self._inner.fsync())
