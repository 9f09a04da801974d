"""A file over a store that fails now and then: whoever uses it tries again until it is done.

Guarantees: which calls are about to fail follows from the seed and the operations; what is raised is only what was
injected: every other error goes on to the exerciser, which takes it for a difference.
Not here: the store itself (pagein.testing.faulty).
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ...cache import PageCache
from ...stores import MemoryStore
from ..durable import DurableStore
from ..faulty import FaultyStore, Kind, Operation

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

T = TypeVar("T")

FAULT_SHARE = 0.2
"""Before so many operations something is injected."""
TRIES = 9
"""What struck may be told by each open file, once."""
ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
KINDS: dict[Operation, tuple[Kind, ...]] = {
    "store": ("fails", "short", "torn"),
    "fill": ("fails",),
    # A size that is told, and whose answer is lost, leaves who gives it up without anything to go by.
    "set_size": ("fails",),
    "punch_hole": ("fails", "short", "torn"),
    "fsync": ("fails", "torn"),
}


class FailingStore:
    """One object, *path*; in a store that writes in place, or replaces it *whole*."""

    def __init__(self, path: str, *, whole: bool, seed: int) -> None:
        self.inner: Any = (MemoryStore if whole else DurableStore)({path: b""})
        self.outer: FaultyStore = FaultyStore(self.inner)
        self._chance = random.Random(f"faults {seed}")

    def until_done(self, run: Callable[[], T]) -> T:
        """What *run* returns, once it does: what fails may do so on the way.  Raises: whatever was not injected."""
        if self._chance.random() < FAULT_SHARE:
            operation = self._chance.choice([*KINDS, "store", "store"])
            kind = self._chance.choice(KINDS[operation])
            at, code = self._chance.choice((1, 1, 2, 3)), self._chance.choice(ERRORS)
            self.outer.heal()  # else what is called rarely would fail ever more often
            self.outer.inject(operation, kind=kind, at=at, error=code)
        for _ in range(TRIES):
            try:
                return run()
            except OSError as error:
                if "injected" not in str(error):
                    raise
        return run()


class StubbornFile:
    """An open file, each call of which is made until it is done."""

    def __init__(self, store: FailingStore, cache: PageCache, file: Any) -> None:
        self._store = store
        self._cache = cache
        self._file = file
        self._at = 0

    def read(self, size: int, /) -> bytes:
        """As `File.read`, from where `seek` has been."""
        return self._there(lambda: self._file.read(size))  # type: ignore[no-any-return]

    def write(self, data: ReadableBuffer, /) -> int:
        """As `File.write`, where `seek` has been."""
        return self._there(lambda: self._file.write(data))  # type: ignore[no-any-return]

    def _there(self, run: Callable[[], Any]) -> Any:
        """What has failed half way may have gone on from there."""

        def again() -> Any:
            self._file.seek(self._at)
            return run()

        return self._store.until_done(again)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """As `File.seek`."""
        self._at = self._file.seek(offset, whence)
        return self._at

    def truncate(self, size: int, /) -> int:
        """As `File.truncate`."""
        return self._store.until_done(lambda: self._file.truncate(size))  # type: ignore[no-any-return]

    def pread(self, size: int, offset: int) -> bytes:
        """As `File.pread`."""
        return self._store.until_done(lambda: self._file.pread(size, offset))  # type: ignore[no-any-return]

    def preadinto(self, buffer: WriteableBuffer, offset: int) -> int:
        """As `File.preadinto`."""
        return self._store.until_done(lambda: self._file.preadinto(buffer, offset))  # type: ignore[no-any-return]

    def view(self, size: int, offset: int) -> Any:
        """As `File.view`."""
        return self._store.until_done(lambda: self._file.view(size, offset))

    def pwrite(self, data: ReadableBuffer, offset: int, *, direct: bool = False) -> int:
        """As `File.pwrite`."""
        return self._store.until_done(  # type: ignore[no-any-return]
            lambda: self._file.pwrite(data, offset, direct=direct)
        )

    def punch_hole(self, offset: int, length: int) -> None:
        """As `File.punch_hole`."""
        self._store.until_done(lambda: self._file.punch_hole(offset, length))

    def fsync(self) -> None:
        """As `File.fsync`."""
        self._store.until_done(self._file.fsync)

    def discard(self) -> int:
        """As `File.discard`."""
        return self._store.until_done(self._file.discard)  # type: ignore[no-any-return]

    def close(self) -> None:
        """As `File.close`; what could not be written then is written by the cache."""
        try:
            self._store.until_done(self._file.close)
        finally:
            self._store.until_done(self._cache.sync)
