"""`ObjectStore`: a zarr store over any store with obspec's asynchronous methods, above all a `CachedStore`.

    group = zarr.open_group(ObjectStore(CachedStore(S3Store("bucket"))), mode="r")

zarr's own class of this name refuses what is not of obstore's own classes, and calls functions of obstore that accept
nothing else (zarr-python #3698 is to change that).  Guarantees: what zarr's own does, call for call, but that a suffix
is asked of the store as it is, which the cache answers for stores that cannot (Azure).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from obstore.exceptions import AlreadyExistsError
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


class ObjectStore(Store):
    """*store* for zarr; *read_only*: it refuses to write."""

    store: Any
    """The store below."""

    def __init__(self, store: Any, *, read_only: bool = False) -> None:
        missing = [name for name in ("get_async", "get_range_async", "head_async") if not hasattr(store, name)]
        if missing:
            raise TypeError(f"{type(store).__name__} is no obspec store: it has no {', '.join(missing)}")
        super().__init__(read_only=read_only)
        self.store = store

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectStore) and (self.read_only, self.store) == (other.read_only, other.store)

    def __hash__(self) -> int:
        return hash((type(self.store), self.read_only))

    def __repr__(self) -> str:
        return f"ObjectStore({self.store!r})"

    __str__ = __repr__

    def with_read_only(self, read_only: bool = False) -> ObjectStore:
        """The same store."""
        return type(self)(self.store, read_only=read_only)

    # -- reading -------------------------------------------------------------------------------------------

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """A value, or a part of it; None if there is none.  Raises: OSError, and what the store raises."""
        try:
            data = await self._bytes(key, byte_range)
        except ABSENT:
            return None
        return prototype.buffer.from_bytes(data)

    async def _bytes(self, key: str, byte_range: ByteRequest | None) -> Any:
        match byte_range:
            case None:
                options: Any = {}
            case RangeByteRequest(start, end):
                return await self.store.get_range_async(key, start=start, end=end)
            case OffsetByteRequest(offset):
                options = {"range": {"offset": offset}}
            case SuffixByteRequest(suffix):
                options = {"range": {"suffix": suffix}}
            case _:
                raise ValueError(f"byte_range must be one of zarr's byte requests, or None, not {byte_range!r}")
        result = await self.store.get_async(key, options=options)
        return await result.bytes_async()

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Several of them, side by side."""
        import asyncio

        return list(await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges)))

    async def exists(self, key: str) -> bool:
        """Whether there is such a value."""
        try:
            await self.store.head_async(key)
        except ABSENT:
            return False
        return True

    async def getsize(self, key: str) -> int:
        """How many bytes it has.  Raises: FileNotFoundError."""
        return int((await self.store.head_async(key))["size"])

    # -- writing -------------------------------------------------------------------------------------------

    @property
    def supports_writes(self) -> bool:
        """Whether the store can."""
        return hasattr(self.store, "put_async")

    async def set(self, key: str, value: Buffer) -> None:
        """Store a value."""
        self._check_writable()
        await self.store.put_async(key, value.to_bytes())

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Store a value if there is none."""
        self._check_writable()
        with suppress(AlreadyExistsError):
            await self.store.put_async(key, value.to_bytes(), mode="create")

    @property
    def supports_deletes(self) -> bool:
        """Whether the store can."""
        return hasattr(self.store, "delete_async")

    async def delete(self, key: str) -> None:
        """Delete a value, if there is one."""
        self._check_writable()
        with suppress(FileNotFoundError):
            await self.store.delete_async(key)

    @property
    def supports_partial_writes(self) -> Literal[False]:
        """No."""
        return False

    async def set_partial_values(self, key_start_values: Iterable[tuple[str, int, Any]]) -> None:
        """Objects are replaced as a whole."""
        raise NotImplementedError("an object store replaces objects as a whole")

    # -- listing -------------------------------------------------------------------------------------------

    @property
    def supports_listing(self) -> bool:
        """Whether the store can."""
        return hasattr(self.store, "list_async")

    def list(self) -> AsyncIterator[str]:
        """All keys."""
        return self.list_prefix("")

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """All keys below a prefix."""
        async for chunk in self.store.list_async(prefix or None):
            for meta in chunk:
                yield meta["path"]

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Keys and prefixes right below a prefix, without it."""
        prefix = prefix.rstrip("/")
        found = await self.store.list_with_delimiter_async(prefix or None)
        for path in (*found["common_prefixes"], *(meta["path"] for meta in found["objects"])):
            yield path.removeprefix(f"{prefix}/") if prefix else path
