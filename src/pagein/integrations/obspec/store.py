"""`CachedStore`: a store of objects with a page cache before it, in place of the store.

Guarantees: what it answers from the cache is what the store had when the object was last looked at, which is at most
`revalidate` ago; all that one call returns is of one version; an object that has changed when bytes of it are fetched
is looked at anew, and the call answered with the new version.  What the cache cannot answer rightly, the store answers
itself: conditions other than an ``if_match`` that is met, other versions, ``head`` in a get, arguments that make no
sense, objects that are being written through the same cache.  Bytes are copies, and pin nothing.  Whatever is written
by way of it is read anew afterwards.
Errors: of a look, and of what is passed on, the store's own; of bytes that are fetched into the cache, OSError with an
errno, of which the store's is the cause.
Not here: versions and looks (known.py), how a store is asked (asking.py), what ranges mean (ranges.py).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator, Sequence
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from ... import aio
from ...cache import PageCache
from ...default import default_cache
from ...mm import filemap
from ...mm.bring import Bring, ignore
from ...mm.readahead import CACHE_SHARE
from ...stores.object import place_of
from ...stores.validators import is_strong
from ...units import PAGE_SHIFT, page_count_for
from ..references import CacheReference, to_cache
from .asking import asker_of
from .known import Known, KnownObjects, Look
from .ranges import REQUEST_BYTES_MAX, WHOLE, Wanted, between, each_between, merged, wanted
from .result import CachedResult

if TYPE_CHECKING:
    from obspec import GetOptions, GetRange, GetRangeAsync, Head, HeadAsync, ListResult, ObjectMeta
    from typing_extensions import Protocol

    from ...mm.filemap import Parts
    from ...mm.sync import MakeWaiter, Steps

    class _Readable(Head, GetRange, Protocol): ...

    class _ReadableAsync(HeadAsync, GetRangeAsync, Protocol): ...


T = TypeVar("T")

REVALIDATE_S = 60.0
"""So long is an object taken for what it was when it was last looked at: NFS's longest (acregmax)."""
OBJECTS_MAX = 4096
"""Objects that are known at once.  Each costs some 8 KiB beside its pages."""
CHANGED = (errno.ESTALE, errno.ENOENT)
ANSWERED_OPTIONS = frozenset({"range", "if_match", "version"})
TOLD_OF_THE_STORE = frozenset({"prefix", "url", "config", "client_options", "credential_provider", "retry_config"})
"""What whoever takes a store of obstore's may ask of it: of registries' URLs, ``prefix`` and ``url`` are cut off."""


class CachedStore:
    """*store* read through *cache*, by default the process's own, which is another once it is closed.

    *store*: one of obstore's, or any with obspec's Head and GetRange (or HeadAsync and GetRangeAsync).
    *revalidate*: how many seconds an object is taken for what it was when it was last looked at; "always" looks at each
    call, one conditional request where the store has them; "never" once.  By default as *cache* has it, or 60 if that
    looks at each open.  A look costs nothing extra if its bytes have
    to be fetched, and a changed object is noticed whenever some are.
    *objects_max*: how many objects are known at once; those that were used longest ago are looked at anew.

    Threads, tasks and event loops may share it.  A copy has the same cache, also by way of a pickle; in another process
    it has one of the same size that is that process's own, or its default cache, if none was given here.
    Raises: TypeError, ValueError for what makes no sense.
    """

    def __init__(
        self,
        store: _Readable | _ReadableAsync,
        *,
        cache: PageCache | None = None,
        revalidate: float | Literal["always", "never"] | None = None,
        objects_max: int = OBJECTS_MAX,
    ) -> None:
        if cache is not None and not isinstance(cache, PageCache):
            raise TypeError(f"cache must be a PageCache, or None for the process's own, not {type(cache).__name__}")
        if isinstance(store, CachedStore):
            raise TypeError(f"store must be one without a cache, not {store!r}: its pages would be held twice")
        if objects_max < 1:
            raise ValueError(f"objects_max must be 1 or more, not {objects_max}")
        self.store: Any = store
        """The store itself."""
        self._reference = None if cache is None else to_cache(cache)
        self.revalidate = revalidate
        self.objects_max = objects_max
        self._asker = asker_of(store)
        self._known = self._known_in(default_cache() if cache is None else cache)

    @property
    def cache(self) -> PageCache:
        """Where the pages are: the one that was given, or the process's own, which is another once it is closed."""
        return self._known_now().cache

    def _known_now(self) -> KnownObjects:
        """Those of the cache of this moment."""
        known = self._known
        if self._reference is None and known.cache._table.is_over:
            # Without a lock: should two come here, both begin with nothing, and what the one knows is looked at anew.
            self._known = known = self._known_in(default_cache())
        return known

    def _known_in(self, cache: PageCache) -> KnownObjects:
        lifetime_s = _lifetime_of(cache) if self.revalidate is None else _lifetime_s(self.revalidate)
        return KnownObjects(self._asker, cache, lifetime_s=lifetime_s, objects_max=self.objects_max)

    def __repr__(self) -> str:
        return f"CachedStore({place_of(self.store)}, revalidate={self.revalidate!r})"

    if not TYPE_CHECKING:  # which would believe then that it has any attribute

        def __getattr__(self, name: str) -> Any:
            if name in TOLD_OF_THE_STORE:
                return getattr(self.store, name)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CachedStore):
            return NotImplemented
        if not (bool(self.store == other.store) and self.revalidate == other.revalidate):
            return False
        return self._reference is other._reference is None or self.cache is other.cache

    def __hash__(self) -> int:
        return hash((type(self.store), self.revalidate))  # obstore's own stores have no hash; a cache may be another

    def __reduce__(self) -> tuple[Callable[..., CachedStore], tuple[Any, ...]]:
        return _unpickled, (self.store, self._reference, self.revalidate, self.objects_max)

    # -- reading -------------------------------------------------------------------------------------------

    def get(self, path: str, *, options: GetOptions | None = None) -> CachedResult:
        """The object, or the ``range`` of it in *options*.  Blocks: interruptibly.

        What the store answers itself, it gives a result of its own.
        """
        result = self._run(partial(self._get_parts, path, options))
        return cast(CachedResult, self.store.get(path, options=options)) if result is None else result

    async def get_async(self, path: str, *, options: GetOptions | None = None) -> CachedResult:
        """As `get`."""
        result = await self._run_async(partial(self._get_parts, path, options))
        if result is None:
            return cast(CachedResult, await self.store.get_async(path, options=options))
        return result

    def get_range(self, path: str, *, start: int, end: int | None = None, length: int | None = None) -> bytes:
        """Bytes [start, end), or *length* from *start* on; fewer only at the end of the object.  Blocks:
        interruptibly."""
        data = self._hit_range(path, start, end, length)
        if data is None:
            data = self._run(partial(self._range_parts, path, between(start, end, length)))
        if data is None:
            return bytes(self.store.get_range(path, start=start, end=end, length=length))
        return data

    async def get_range_async(
        self, path: str, *, start: int, end: int | None = None, length: int | None = None
    ) -> bytes:
        """As `get_range`.  A hit does not leave the event loop."""
        data = self._hit_range(path, start, end, length)
        if data is None:
            data = await self._run_async(partial(self._range_parts, path, between(start, end, length)))
        if data is None:
            return bytes(await self.store.get_range_async(path, start=start, end=end, length=length))
        return data

    def get_ranges(
        self,
        path: str,
        *,
        starts: Sequence[int],
        ends: Sequence[int] | None = None,
        lengths: Sequence[int] | None = None,
    ) -> list[bytes]:
        """Several ranges, of one version.  Those that are missing are fetched side by side, neighbours as one.
        Blocks: interruptibly."""
        found: list[bytes] | None = self._run(partial(self._ranges_parts, path, each_between(starts, ends, lengths)))
        if found is None:
            return [bytes(one) for one in self.store.get_ranges(path, starts=starts, ends=ends, lengths=lengths)]
        return found

    async def get_ranges_async(
        self,
        path: str,
        *,
        starts: Sequence[int],
        ends: Sequence[int] | None = None,
        lengths: Sequence[int] | None = None,
    ) -> list[bytes]:
        """As `get_ranges`."""
        parts = partial(self._ranges_parts, path, each_between(starts, ends, lengths))
        found: list[bytes] | None = await self._run_async(parts)
        if found is None:
            answer = await self.store.get_ranges_async(path, starts=starts, ends=ends, lengths=lengths)
            return [bytes(one) for one in answer]
        return found

    def head(self, path: str) -> ObjectMeta:
        """What the object is: its size, ETag, …  Blocks: interruptibly."""
        meta = self._run(partial(self._head_parts, path))
        return cast("ObjectMeta", self.store.head(path)) if meta is None else meta

    async def head_async(self, path: str) -> ObjectMeta:
        """As `head`."""
        meta = await self._run_async(partial(self._head_parts, path))
        return cast("ObjectMeta", await self.store.head_async(path)) if meta is None else meta

    # -- listing: passed on --------------------------------------------------------------------------------

    def list(self, prefix: str | None = None, *, offset: str | None = None, chunk_size: int = 50, **more: Any) -> Any:
        """As the store lists them."""
        return self.store.list(prefix, offset=offset, chunk_size=chunk_size, **more)

    def list_async(
        self, prefix: str | None = None, *, offset: str | None = None, chunk_size: int = 50, **more: Any
    ) -> Any:
        """As the store lists them."""
        return self.store.list_async(prefix, offset=offset, chunk_size=chunk_size, **more)

    def list_with_delimiter(self, prefix: str | None = None, **more: Any) -> ListResult[Any]:
        """As the store lists them."""
        return cast("ListResult[Any]", self.store.list_with_delimiter(prefix, **more))

    async def list_with_delimiter_async(self, prefix: str | None = None, **more: Any) -> ListResult[Any]:
        """As the store lists them."""
        return cast("ListResult[Any]", await self.store.list_with_delimiter_async(prefix, **more))

    # -- writing: passed on, and forgotten here ------------------------------------------------------------

    def put(self, path: str, file: Any, **options: Any) -> Any:
        """Store an object.  *options*: as the store takes them."""
        return self._writing([path], lambda: self.store.put(path, file, **options))

    async def put_async(self, path: str, file: Any, **options: Any) -> Any:
        """As `put`."""
        return await self._writing_async([path], self.store.put_async(path, file, **options))

    def delete(self, paths: str | Sequence[str]) -> None:
        """Delete one object, or several."""
        each = [paths] if isinstance(paths, str) else paths
        self._writing(each, lambda: self.store.delete(paths))

    async def delete_async(self, paths: str | Sequence[str]) -> None:
        """As `delete`."""
        each = [paths] if isinstance(paths, str) else paths
        await self._writing_async(each, self.store.delete_async(paths))

    def copy(self, from_: str, to: str, *, overwrite: bool = True) -> None:
        """Copy an object within the store."""
        self._writing([to], lambda: self.store.copy(from_, to, overwrite=overwrite))

    async def copy_async(self, from_: str, to: str, *, overwrite: bool = True) -> None:
        """As `copy`."""
        await self._writing_async([to], self.store.copy_async(from_, to, overwrite=overwrite))

    def rename(self, from_: str, to: str, *, overwrite: bool = True) -> None:
        """Move an object within the store."""
        self._writing([from_, to], lambda: self.store.rename(from_, to, overwrite=overwrite))

    async def rename_async(self, from_: str, to: str, *, overwrite: bool = True) -> None:
        """As `rename`."""
        await self._writing_async([from_, to], self.store.rename_async(from_, to, overwrite=overwrite))

    def forget(self, paths: str | Sequence[str]) -> None:
        """Look at these objects anew when they are next asked for: another has changed them."""
        each = [paths] if isinstance(paths, str) else paths
        self._writing(each, lambda: None)

    def _writing(self, paths: Sequence[str], write: Callable[[], T]) -> T:
        try:
            return write()
        finally:  # also what failed may have been written
            known = self._known_now()
            known.zone.shielded(partial(known.forget, paths))

    async def _writing_async(self, paths: Sequence[str], write: Any) -> Any:
        try:
            return await write
        finally:
            known = self._known_now()
            try:
                await aio.run_parts(known.zone, self._forget_parts(paths, known))
            except ValueError:
                if not known.cache.closed:  # else nothing is known any more
                    raise

    def _forget_parts(self, paths: Sequence[str], objects: KnownObjects) -> Parts[None]:
        yield partial(_no_wait, partial(objects.forget, paths))

    # -- through the cache: None where the store has to answer -----------------------------------------------

    def _answered(
        self, path: str, part: Wanted | None, read: Callable[[Known, Look | None], Parts[T]], objects: KnownObjects
    ) -> Parts[T | None]:
        """What *read* makes of the object as it is known, or as it is found."""
        if not self._asker.takes(path):
            return None
        for may_have_changed in (True, False):
            look: Look | None = None
            known = objects.find(path)
            if known is None:
                look = yield partial(objects.look_steps, path, part)
                known = look.known
            if known is None:  # it is being written in the same cache, or has changed while it was looked at
                return None
            try:
                return (yield from read(known, look))
            except OSError as error:
                if not may_have_changed or error.errno not in CHANGED:
                    raise
            yield partial(_no_wait, partial(objects.forget_version, path, known))
        raise AssertionError("the second time, it returns or raises")

    def _hit_range(self, path: str, start: int, end: int | None, length: int | None) -> bytes | None:
        """The short way of a range that is here."""
        known = self._known.find(path)
        if known is None:
            return None
        try:
            if end is None:
                end = start + length  # type: ignore[operator]  # neither: said clearly elsewhere
            elif length is not None:
                return None
            end = min(end, known.size_bytes)
            return known.reader.pread(end - start, start) if 0 <= start < end else None
        except TypeError:
            return None

    def _head_parts(self, path: str, objects: KnownObjects) -> Parts[ObjectMeta | None]:
        def read(known: Known, look: Look | None) -> Parts[ObjectMeta]:
            return known.meta
            yield

        return self._answered(path, None, read, objects)

    def _get_parts(
        self, path: str, options: GetOptions | None, objects: KnownObjects
    ) -> Generator[Any, Any, CachedResult | None]:
        given = {name: value for name, value in (options or {}).items() if value is not None}
        part = wanted(given["range"]) if "range" in given else WHOLE
        if part is None or not given.keys() <= ANSWERED_OPTIONS:
            return None

        def read(known: Known, look: Look | None) -> Parts[CachedResult | None]:
            here = (0, known.size_bytes) if part is WHOLE else part.within(known.size_bytes)
            if here is None or not _is_that_version(known.meta, given):
                return None
            start, stop = here
            first = yield from _read(known, look, start, min(stop, start + REQUEST_BYTES_MAX))
            return CachedResult(known, start, stop, first)

        return (yield from self._answered(path, part, read, objects))

    def _range_parts(self, path: str, part: Wanted | None, objects: KnownObjects) -> Parts[bytes | None]:
        if part is None:
            return None

        def read(known: Known, look: Look | None) -> Parts[bytes | None]:
            here = part.within(known.size_bytes)
            return None if here is None else (yield from _read(known, look, *here))

        return (yield from self._answered(path, part, read, objects))

    def _ranges_parts(self, path: str, parts: Sequence[Wanted] | None, objects: KnownObjects) -> Parts[Any | None]:
        if not parts:
            return None

        def read(known: Known, look: Look | None) -> Parts[Sequence[bytes] | None]:
            each = [part.within(known.size_bytes) for part in parts]
            here = [one for one in each if one is not None]
            if len(here) < len(each):
                return None
            found = [_hit(known, look, *one) for one in here]
            missing = [one for one, data in zip(here, found, strict=True) if data is None]
            if len(missing) > 1:
                yield partial(_no_wait, partial(_start_bringing, known, merged(missing)))
            for at, (first, end) in enumerate(here):
                if found[at] is None:
                    found[at] = yield from known.parts(first, end)
            return cast(Sequence[bytes], found)

        part = parts[0]
        if objects.find(path) is None:  # what is asked for while looking
            part = Wanted(*merged((one.start, cast(int, one.stop)) for one in parts)[0])
        return (yield from self._answered(path, part, read, objects))

    def _run(self, parts_of: Callable[[KnownObjects], Parts[T]]) -> T:
        known = self._known_now()
        try:
            return filemap.run_parts(known.zone, parts_of(known))
        except ValueError:
            if not self._was_closed(known):
                raise
        known = self._known_now()
        return filemap.run_parts(known.zone, parts_of(known))

    async def _run_async(self, parts_of: Callable[[KnownObjects], Parts[T]]) -> T:
        known = self._known_now()
        try:
            return await aio.run_parts(known.zone, parts_of(known))
        except ValueError:
            if not self._was_closed(known):
                raise
        known = self._known_now()
        return await aio.run_parts(known.zone, parts_of(known))

    def _was_closed(self, known: KnownObjects) -> bool:
        """Whether another has closed a cache that nobody has named, and there may be another."""
        return self._reference is None and known.cache._table.is_over


def _read(known: Known, look: Look | None, start: int, stop: int) -> Parts[bytes]:
    piece = look.piece(start, stop) if look is not None else None
    return (yield from known.parts(start, stop)) if piece is None else piece


def _hit(known: Known, look: Look | None, start: int, stop: int) -> bytes | None:
    """Bytes that came with the look, or are here."""
    piece = look.piece(start, stop) if look is not None else None
    return known.reader.pread(stop - start, start) if piece is None else piece


def _start_bringing(known: Known, runs: Sequence[tuple[int, int]]) -> None:
    """Have what is missing fetched, as much as can be here at once; whoever reads a piece waits for it."""
    file = known.reader._file
    zone = file.mapping.zone
    room_pages = zone.cap_pages // CACHE_SHARE
    for start, stop in runs:
        index, stop_index = start >> PAGE_SHIFT, page_count_for(stop)
        room_pages -= stop_index - index
        if room_pages < 0:
            return
        zone.workqueue.begin(Bring(file, index, stop_index - index), ignore)


def _no_wait(run: Callable[[], object], make_waiter: MakeWaiter) -> Steps[None]:
    """What takes locks, as steps: no signal interrupts them."""
    run()
    return
    yield make_waiter()


def _is_that_version(meta: Any, given: dict[str, Any]) -> bool:
    """Whether the conditions of a get are surely met."""
    if_match, version = given.get("if_match"), given.get("version")
    return (if_match is None or (if_match == meta["e_tag"] and is_strong(if_match))) and (
        version is None or version == meta["version"]
    )


def _lifetime_of(cache: PageCache) -> float:
    freshness = cache._freshness
    if freshness.reads_look:
        return freshness.at_read_s
    return inf if freshness.at_open_s == inf else REVALIDATE_S


def _lifetime_s(revalidate: float | str) -> float:
    if isinstance(revalidate, str) and revalidate in ("always", "never"):
        return 0.0 if revalidate == "always" else inf
    if isinstance(revalidate, int | float) and not isinstance(revalidate, bool) and revalidate >= 0:
        return revalidate
    raise ValueError(f'revalidate must be a number of seconds, "always" or "never", not {revalidate!r}')


def _unpickled(
    store: Any,
    reference: CacheReference | None,
    revalidate: float | Literal["always", "never"] | None,
    objects_max: int,
) -> CachedStore:
    cache = None if reference is None else reference.cache
    return CachedStore(store, cache=cache, revalidate=revalidate, objects_max=objects_max)
