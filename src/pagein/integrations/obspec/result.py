"""What `CachedStore.get` gives: bytes of one version of an object, and what is known of it.

Guarantees: all of it is of one version, the one that ``meta`` is about; what is handed out is a copy, and pins nothing.
Its first 8 MiB were read when it was made; if the object changes before the rest is, OSError(ESTALE).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from obspec import Attributes, ObjectMeta

    from .known import Known

CHUNK_BYTES = 10 << 20
"""What comes at once of a stream, as in obstore."""
Data = bytes  # (methods of that name hide it below)


class CachedResult:
    """Bytes of one version of an object.  It can be read any number of times, by threads and tasks."""

    __slots__ = ("_first", "_known", "_range")

    def __init__(self, known: Known, start: int, stop: int, first: bytes) -> None:
        self._known = known
        self._range = start, stop
        self._first = first
        """The bytes that were read already."""

    def __repr__(self) -> str:
        return f"<pagein CachedResult {self._known.reader.name!r}: bytes {self._range}>"

    @property
    def meta(self) -> ObjectMeta:
        """The object's path, size, ETag, …"""
        return self._known.meta

    @property
    def attributes(self) -> Attributes:
        """Its content type, …; nothing where the store tells them not."""
        return self._known.attributes

    @property
    def range(self) -> tuple[int, int]:
        """Which bytes these are: [start, stop)."""
        return self._range

    def bytes(self) -> Data:
        """All of them.  Blocks: interruptibly.  Raises: OSError."""
        return self._first if self._is_complete else self._known.read(*self._range)

    async def bytes_async(self) -> Data:
        """All of them.  Raises: OSError."""
        return self._first if self._is_complete else await self._known.read_async(*self._range)

    def buffer(self) -> Data:
        """As `bytes`, which obspec 0.1 calls so."""
        return self.bytes()

    async def buffer_async(self) -> Data:
        """As `bytes_async`."""
        return await self.bytes_async()

    def stream(self, min_chunk_size: int = CHUNK_BYTES) -> CachedStream:
        """Them, piece by piece, for ``for`` and ``async for``.  Raises: ValueError for a size that is none."""
        if min_chunk_size < 1:
            raise ValueError(f"min_chunk_size must be 1 or more, not {min_chunk_size}")
        return CachedStream(self, min_chunk_size)

    def __iter__(self) -> CachedStream:
        return self.stream()

    def __aiter__(self) -> CachedStream:
        return self.stream()

    @property
    def _is_complete(self) -> bool:
        return len(self._first) == self._range[1] - self._range[0]

    def _piece(self, start: int, stop: int) -> Data | None:
        """Of what was read already."""
        at = start - self._range[0]
        return self._first[at : at + stop - start] if stop - self._range[0] <= len(self._first) else None


class CachedStream:
    """The bytes of a result from its start on, for one reader."""

    __slots__ = ("_chunk_bytes", "_position", "_result")

    def __init__(self, result: CachedResult, chunk_bytes: int) -> None:
        self._result = result
        self._chunk_bytes = chunk_bytes
        self._position = result.range[0]

    def __iter__(self) -> CachedStream:
        return self

    def __aiter__(self) -> CachedStream:
        return self

    def __next__(self) -> bytes:
        start, stop = self._next()
        if start == stop:
            raise StopIteration
        piece = self._result._piece(start, stop)
        if piece is None:
            piece = self._result._known.read(start, stop)
        self._position = stop
        return piece

    async def __anext__(self) -> bytes:
        start, stop = self._next()
        if start == stop:
            raise StopAsyncIteration
        piece = self._result._piece(start, stop)
        if piece is None:
            piece = await self._result._known.read_async(start, stop)
        self._position = stop
        return piece

    def _next(self) -> tuple[int, int]:
        return self._position, min(self._result.range[1], self._position + self._chunk_bytes)
