"""A store at the end of a simulated link: its answers take time, on a clock that may be virtual.

    clock = VirtualClock()
    store = SimulatedStore({"a": 64 << 20}, Link(latency_s=0.02, bandwidth_bytes_s=100e6), clock=clock)
    with clock, PageCache("32 MiB", door=clock) as cache, cache.open((store, "a")) as file:
        assert file.read() == store.content("a")
    assert clock.now_s() < 1.3 * (0.02 + 64 * 1.048576 / 100)

Guarantees: every request is on record, with its times.  On a `VirtualClock` the same program gives the same figures.
Assumes: with a virtual clock, the cache has the same one as its door.
Not here: how long it takes (link.py), what goes wrong (faulty.py, which may be inside or around this one).
"""

from __future__ import annotations

import errno
import random
import threading
from collections.abc import Hashable, Mapping
from functools import lru_cache
from itertools import count
from typing import TypeVar

from ..errors import read_only_source, stale
from ..mm.aops import AddressSpaceOperations
from ..mm.sync import SYSTEM, Door
from ..stores.memory import MemoryStore
from ..stores.ranges import RangeOperations, read_range
from ..stores.source import Opened, Source, Store, WritableSource
from .accepted import CONTENT, require
from .link import Link, Transfer
from .wrapped import Request, Run, WrappedOperations, WrappedStore

TILE_BYTES = (1 << 20) - 3
"""Generated content repeats itself after so many bytes: odd, so that no two pages of 4 GiB are equal."""
T = TypeVar("T")


class SimulatedStore(WrappedStore):
    """*content*, at the end of *link*: paths and their bytes, or how many bytes should be made up from *seed*; or
    another store, whatever it does.  Time passes on *clock*.
    """

    label = "simulated"

    def __init__(
        self,
        content: Mapping[str, bytes | int] | Store,
        link: Link | None = None,
        *,
        clock: Door = SYSTEM,
        seed: int = 0,
    ) -> None:
        self._objects = _Objects(content, seed) if isinstance(content, Mapping) else None
        super().__init__(self._objects or content, clock)  # type: ignore[arg-type]
        self.link: Link = link or Link()

    def put(self, path: str, content: bytes | int) -> None:
        """Replace an object, or add one, at once: whoever has the old one open gets ESTALE at the next fetch.

        Raises: TypeError if the content is another store's; ValueError, TypeError for what is no content.
        """
        if self._objects is None:
            raise TypeError(f"put it into the {type(self._inner).__name__} that this store is made of")
        self._objects.put(path, content)

    def content(self, path: str, offset_bytes: int = 0, size_bytes: int | None = None) -> bytes:
        """What is there now, in no time and on no record."""
        found = self._inner.source(path).open()
        try:
            stop = found.size_bytes if size_bytes is None else min(offset_bytes + size_bytes, found.size_bytes)
            return read_range(found.ops, offset_bytes, max(0, stop - offset_bytes))
        finally:
            found.close()

    def operations(self, ops: AddressSpaceOperations, name: str = "") -> WrappedOperations:
        """*ops*, at the end of this store's link: for `PageCache.inode`.  Raises: TypeError if they bring no ranges."""
        wrapped = super().operations(ops, name)
        wrapped.blocking = True
        wrapped.requests_max = self.link.connections
        return wrapped

    def answer(self, request: Request, run: Run[T]) -> T:
        """Blocks: as long as the link takes.  Raises: OSError(EIO) if the link says so; what *run* raises."""
        size_bytes = request.size_bytes
        if request.operation != "fill":
            self._pass_link(request, size_bytes)
            return run(0, size_bytes)
        try:
            result = run(0, size_bytes)  # as it is when it is asked
        except OSError:
            self._pass_link(request, 0)
            raise
        self._pass_link(request, size_bytes)
        return result

    def _pass_link(self, request: Request, size_bytes: int) -> None:
        with self._lock:
            transfer = self.link.ask(self._clock.now_s(), size_bytes)
        while (left_s := self._left_s(transfer)) > 0:
            self._clock.sleep(left_s)
        if transfer.fails:
            raise OSError(errno.EIO, f"injected: {request.operation} fails", request.name)

    def _left_s(self, transfer: Transfer) -> float:
        with self._lock:
            now_s = self._clock.now_s()
            self.link.advance(now_s)
            return self.link.done_s(transfer) - now_s


# -- content -----------------------------------------------------------------------------------------------


class _Objects:
    """Paths and their bytes, given or made up.  What is made up hides an empty object among those that are given, so
    that whoever has there what was replaced by it gets ESTALE."""

    def __init__(self, content: Mapping[str, bytes | int], seed: int) -> None:
        self._seed = seed
        self._put_counts = count(1)
        self._lock = threading.Lock()
        self._given = MemoryStore()
        self._made: dict[str, _Made] = {}
        for path, what in content.items():
            self.put(path, what)

    def put(self, path: str, content: bytes | int) -> None:
        require(f"the content of {path!r}", content, CONTENT)
        with self._lock:
            if isinstance(content, int):
                self._made[path] = _Made(self, path, content, f"{self._seed} {path} {next(self._put_counts)}")
                self._given.put(path, b"")
            else:
                self._given.put(path, content)
                self._made.pop(path, None)

    def source(self, path: str) -> Source:
        return _ObjectSource(self, path)


class _ObjectSource:
    """Whichever is there when it is opened."""

    def __init__(self, objects: _Objects, path: str) -> None:
        self._objects = objects
        self._path = path
        self._given = objects._given.source(path)
        self.key: Hashable = ("simulated", objects, path)
        self.name = f"simulated:{path}"

    def open(self) -> Opened:
        with self._objects._lock:
            made = self._objects._made.get(self._path)
            return Opened(made, made.size_bytes, made.version) if made else self._given.open()

    def open_for_writing(self, *, create: bool, exclusive: bool, truncate: bool) -> Opened:
        """Raises: OSError: EROFS if it is made up."""
        with self._objects._lock:
            if self._path in self._objects._made:
                raise read_only_source(self.name)
            assert isinstance(self._given, WritableSource)
            return self._given.open_for_writing(create=create, exclusive=exclusive, truncate=truncate)


class _Made(RangeOperations):
    """Bytes that nobody has to keep."""

    blocking = False
    validates: bool = True

    def __init__(self, objects: _Objects, path: str, size_bytes: int, version: str) -> None:
        self._objects = objects
        self._path = path
        self.size_bytes = size_bytes
        self.version = version

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        now = self._objects._made.get(self._path)
        if now is not self:
            raise stale(f"simulated:{self._path}", was=self.version, now=now.version if now else "replaced")
        tile, at = _tile(self.version), 0
        while at < len(buffer):
            start = (offset_bytes + at) % TILE_BYTES
            piece = tile[start : start + len(buffer) - at]
            buffer[at : at + len(piece)] = piece
            at += len(piece)


@lru_cache(maxsize=8)
def _tile(seed: str) -> memoryview:
    return memoryview(random.Random(seed).randbytes(TILE_BYTES))
