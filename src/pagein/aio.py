"""The asynchronous face: the same cache for `asyncio` programs.

    async with await pagein.aio.open("https://host/data.parquet") as file:
        head, tail = await asyncio.gather(file.pread(100, 0), file.pread(100, file.size_bytes - 100))

Guarantees: a hit never leaves the event loop, which nothing here blocks; a read that misses waits without a thread, so
thousands may wait at once; those that miss side by side in one turn of the loop are one request; a task that is
cancelled leaves nothing locked, nor itself in line, and the fetch that it waited for goes on for the others.
Assumes: one `AsyncFile` is used in one event loop.
Not here: the loop on which stores answer (stores/loop.py); what a hit is (reader.py), and a miss (mm/).
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from operator import index as as_int
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from . import follow_up, stores
from .default import default_cache
from .errors import entered_already, only_reads_bytes
from .mm import filemap
from .mm.bring import Bring
from .mm.on_io import on_io_steps
from .modes import READ, parse_mode
from .reader import Advice, PageReader, as_target, checked, position_after
from .watching import Watch, Watching

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from .cache import PageCache
    from .mm.sync import MakeWaiter, Steps
    from .mm.workqueue import MakeSteps
    from .mm.zone import Zone
    from .stores import Source

T = TypeVar("T")


async def open(source: Any, mode: str = "rb", *, cache: PageCache | None = None, **store_options: Any) -> AsyncFile:
    """Open *source* for reading through *cache*, by default the process's own: as `pagein.open` does.

    Raises: as that; ValueError for any mode but "rb".
    """
    if parse_mode(mode) != (READ, False):
        raise only_reads_bytes(mode)
    if cache is None:
        cache = default_cache()
        try:
            return await _opened(cache, stores.source_of(source, **store_options))
        except ValueError:  # another thread may have closed it since
            if not cache._table.is_over:
                raise
        cache = default_cache()
    return await _opened(cache, stores.source_of(source, **store_options))


async def _opened(cache: PageCache, found: Source) -> AsyncFile:
    zone = cache._zone

    def open_steps(make_waiter: MakeWaiter) -> Steps[HitReader]:
        """No worker waits for somebody's look: it may be in line behind those who would wait for it."""
        if follow_up.has_late(cache, found.key):
            yield from on_io_steps(zone, partial(follow_up.write_late, cache, found.key), make_waiter)
        inode = yield from cache._lookup.look_up_steps(found, make_waiter)
        watch = cache._watch(inode)
        kind: Callable[..., HitReader] = HitReader
        if watch is not None:
            kind = partial(_WatchingHitReader, watch=watch)
        return cache._file_of(inode, kind)

    answer: _Answer[HitReader] = _Answer(partial(_give_back, zone, cache._close_unwanted))
    zone.workqueue.run_detached(open_steps, answer.settle)
    return AsyncFile(await answer.result())


class AsyncFile:
    """A file read through a page cache.  Made by `pagein.aio.open`; ``async with`` closes it.

    ``pread``, ``preadinto`` and ``view`` use no position, and any number of tasks may await them at once.  ``read``,
    ``seek`` and ``tell`` share one, for one task at a time.
    """

    __slots__ = ("_hit", "_hit_view", "_pos", "_reader", "_zone")

    def __init__(self, reader: HitReader) -> None:
        self._reader = reader
        reader._file.must_not_wait = True
        self._zone = reader._mapping.zone
        self._hit: Callable[[int, int], bytes | None] = reader.pread
        self._hit_view: Callable[[int, int], memoryview | None] = reader.view
        self._pos = 0

    def __repr__(self) -> str:
        return f"<pagein.aio.AsyncFile name={self.name!r}{' closed' if self.closed else ''}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- at an offset ------------------------------------------------------------------------------------

    async def pread(self, size: int, offset: int) -> bytes:
        """*size* bytes from byte *offset* on; fewer only at the end of the file.

        Raises: the store's OSError unchanged, and then nothing was read; OSError(ENOMEM); ValueError for a negative
        size or offset, or a closed file.
        """
        data = self._hit(size, offset)
        return await run_parts(self._zone, self._reader._pread_parts(size, offset)) if data is None else data

    async def preadinto(self, buffer: WriteableBuffer, offset: int) -> int:
        """Fill *buffer* from byte *offset* on; return how many bytes that were, fewer only at the end of the file.

        Raises: as `pread`; TypeError for a buffer that cannot be written to.
        """
        with memoryview(buffer) as view, as_target(view) as target:
            # By way of bytes: a worker that copies must not write into what a cancelled task has let go of.
            data = await self.pread(len(target), offset)
            target[: len(data)] = data
            return len(data)

    def view(self, size: int, offset: int) -> AsyncView:
        """``async with file.view(size, offset) as data:`` a read-only memoryview of *size* bytes from byte *offset* on,
        without a copy; shorter only at the end of the file.  Its pages stay in the cache until it, and all that was
        made from it, is released or gone.  ``await file.view(size, offset)`` gives the memoryview itself.

        Raises: as `pread`; OSError(ENOMEM) if the pages do not fit beside other views.
        """
        return AsyncView(self, size, offset)

    async def _view(self, size: int, offset: int) -> memoryview:
        data = self._hit_view(size, offset)
        return await run_parts(self._zone, self._reader._view_parts(size, offset)) if data is None else data

    def advise(self, advice: Advice, offset: int = 0, length: int | None = None) -> None:
        """Say how bytes [offset, offset + length) will be read: as `pagein.File.advise`.

        "dontneed" is background work here, as "willneed" is, and goes on if the file is closed.
        """
        self._reader.advise(advice, offset, length)

    # -- from the position on ----------------------------------------------------------------------------

    async def read(self, size: int | None = -1) -> bytes:
        """The next *size* bytes, or all that are left; b"" at the end of the file."""
        if size is None or (size := checked("size", size, least=None)) < 0:
            self._reader._check_open()
            size = max(0, self.size_bytes - self._pos)
        data = await self.pread(size, self._pos)
        self._pos += len(data)
        return data

    async def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill *buffer* from the position on; return how many bytes that were, 0 at the end of the file."""
        count = await self.preadinto(buffer, self._pos)
        self._pos += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position, also beyond the end; return it.  Raises: as `pagein.File.seek`."""
        self._reader._check_open()
        offset, whence = as_int(offset), as_int(whence)
        self._pos = position_after(offset, whence, position=self._pos, size_bytes=self.size_bytes, name=self.name)
        return self._pos

    def tell(self) -> int:
        """The position, in bytes from the start."""
        self._reader._check_open()
        return self._pos

    # -- what a file is ----------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The source: a path or URL without secrets."""
        return self._reader.name

    @property
    def version(self) -> str:
        """The version of the object that this file reads: an ETag, or mtime and size."""
        return self._reader.version

    @property
    def size_bytes(self) -> int:
        """The size of the file."""
        return self._reader.size_bytes

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._reader.closed

    def resident(self) -> list[tuple[int, int]]:
        """Which pages of the file are in the cache: runs of (first index, page count), in order."""
        return self._reader.resident()

    async def close(self) -> None:
        """Let go of the file.  Its pages stay in the cache; its views keep theirs.  Twice does no harm."""
        if self._reader._release():
            try:
                await _on_worker(self._zone, self._reader._owner.follow_up)
            except ValueError:
                if not self._zone.closed:  # else the cache has seen to it
                    raise


class AsyncView:
    """What `AsyncFile.view` returns: to be entered with ``async with``, or awaited.

    It may be entered again once it has been left, and awaited as often as you like: each time it is another memoryview.
    """

    __slots__ = ("_data", "_file", "_is_entered", "_offset", "_size")

    def __init__(self, file: AsyncFile, size: int, offset: int) -> None:
        self._file, self._size, self._offset = file, size, offset
        self._data: memoryview | None = None
        self._is_entered = False

    def __await__(self) -> Generator[Any, Any, memoryview]:
        return self._file._view(self._size, self._offset).__await__()

    async def __aenter__(self) -> memoryview:
        if self._is_entered:
            raise entered_already()
        self._is_entered = True  # before the wait, in which another task may come here
        try:
            self._data = await self
        except BaseException:
            self._is_entered = False
            raise
        return self._data

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        data, self._data, self._is_entered = self._data, None, False
        if data is not None:
            data.release()


class HitReader(PageReader):
    """Reads what is here, and says None where a read would have to wait."""

    __slots__ = ()

    def _pread_missing(self, size: int, offset: int) -> bytes:
        return None  # type: ignore[return-value]  # AsyncFile knows

    def _view_missing(self, size: int, offset: int) -> memoryview:
        return None  # type: ignore[return-value]  # AsyncFile knows

    def _drop(self, start_index: int, stop_index: int) -> None:
        """By a worker: the zone's lock, and the memory that goes under it, are not for an event loop's thread."""
        zone = self._mapping.zone
        if filemap.takes_advice(zone):
            with suppress(ValueError, RuntimeError):  # closed, or no thread is to be had: it was advice
                # With this reader, closed or not, its mapping keeps its frames until then.
                zone.workqueue.start(partial(self._drop_here, start_index, stop_index))


class _WatchingHitReader(Watching, HitReader):
    """One of a cache that has to be fresh: what needs a look is none that is here."""

    __slots__ = ("_watch",)

    def __init__(self, *arguments: Any, watch: Watch, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._watch_over(watch)


# -- work that the loop does not wait for ------------------------------------------------------------------


async def run_parts(zone: Zone, parts: filemap.Parts[T]) -> T:
    """Run parts here, and what may wait on workers, none of which waits with it."""
    misses = _misses_of(asyncio.get_running_loop())
    try:
        make_steps = next(parts)
        while True:
            try:
                result = await misses.run(zone, make_steps)
            except BaseException as error:  # also a cancellation: the fetch goes on, for the others
                make_steps = parts.throw(error)
            else:
                make_steps = parts.send(result)
    except StopIteration as end:
        return cast(T, end.value)


def _give_back(zone: Zone, undo: Callable[[T], object], result: T) -> None:
    """Nobody waits for it any more."""
    try:
        zone.io.start(partial(undo, result))  # it may block
    except (ValueError, RuntimeError):  # the cache was closed, or no thread is to be had
        undo(result)


async def _on_worker(zone: Zone, run: Callable[[], T]) -> T:
    """The result of ``run()``, which may block, by an I/O worker."""
    answer: _Answer[T] = _Answer()
    zone.io.start(lambda: answer.settle_with(run))
    return await answer.result()


class _Answer(Generic[T]):
    """A future that a worker settles."""

    __slots__ = ("_future", "_loop", "_undo")

    def __init__(self, undo: Callable[[T], object] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._undo = undo
        self._future: asyncio.Future[T] | None = self._loop.create_future()

    async def result(self) -> T:
        """What came of it; given back if the task that waits is cancelled."""
        future = self._future
        assert future is not None, "awaited once, in the turn in which it was made"
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():  # in the very turn in which it came
                self._give_back(None if future.exception() else future.result(), future.exception())
            raise
        finally:
            del future  # the traceback of its error refers to this frame: no cycle

    def settle_with(self, run: Callable[[], T]) -> None:
        """Call ``run()``."""
        try:
            result = run()
        except BaseException as error:  # for the task that waits
            self.settle(None, error)
        else:
            self.settle(result, None)

    def settle(self, result: T | None, error: BaseException | None) -> None:
        """This came of it.  Called by a worker."""
        try:
            self._loop.call_soon_threadsafe(self._settle_here, result, error)
        except RuntimeError:  # the loop was closed
            self._give_back(result, error)

    def _settle_here(self, result: T | None, error: BaseException | None) -> None:
        future, self._future = self._future, None  # by way of its frames, an error leads to us: no cycle
        assert future is not None, "settled once"
        if future.done():  # cancelled
            self._give_back(result, error)
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast(T, result))

    def _give_back(self, result: T | None, error: BaseException | None) -> None:
        if self._undo and error is None:
            self._undo(cast(T, result))


class _Misses:
    """What tasks of one loop miss in one turn of it: handed over to a worker together."""

    def __init__(self) -> None:
        self._gathered: list[tuple[Zone, MakeSteps[Any], _Answer[Any]]] = []

    async def run(self, zone: Zone, make_steps: MakeSteps[T]) -> T:
        """Run steps on workers, none of which waits with them."""
        answer: _Answer[T] = _Answer()
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._hand_over)
        self._gathered.append((zone, make_steps, answer))
        try:
            return await answer.result()
        except asyncio.CancelledError:
            if isinstance(make_steps, Bring):
                with suppress(ValueError, RuntimeError):  # closed, or no thread is to be had: it stays in line
                    zone.workqueue.start(make_steps.give_up)  # which takes a lock
            raise

    def _hand_over(self) -> None:
        gathered, self._gathered = self._gathered, []
        for zone in {id(zone): zone for zone, _, _ in gathered}.values():
            own = [(make_steps, answer) for its_zone, make_steps, answer in gathered if its_zone is zone]
            try:
                zone.workqueue.start(lambda own=own, zone=zone: _begin_all(zone, own))  # type: ignore[misc]
            except (ValueError, RuntimeError) as error:
                for _, answer in own:
                    answer.settle(None, error)


def _begin_all(zone: Zone, misses: list[tuple[MakeSteps[Any], _Answer[Any]]]) -> None:
    """In the order of the file, each with those that follow it without a gap: they are one request."""
    reads = [(one, answer) for one, answer in misses if isinstance(one, Bring)]
    reads.sort(key=lambda read: (id(read[0].file.mapping), read[0].index))
    stop_index, mapping = 0, None
    for at in reversed(range(len(reads))):
        read, _ = reads[at]
        own_stop = read.index + read.want_pages
        if read.file.mapping is mapping and own_stop >= reads[at + 1][0].index:
            stop_index = max(stop_index, own_stop)
        else:
            stop_index, mapping = own_stop, read.file.mapping
        read.want_pages = stop_index - read.index
    others = [(one, answer) for one, answer in misses if not isinstance(one, Bring)]
    in_order: list[tuple[MakeSteps[Any], _Answer[Any]]] = [*reads, *others]
    for make_steps, answer in in_order:
        zone.workqueue.begin(make_steps, answer.settle)


_MISSES: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Misses] = weakref.WeakKeyDictionary()


def _misses_of(loop: asyncio.AbstractEventLoop) -> _Misses:
    misses = _MISSES.get(loop)
    if misses is None:
        misses = _MISSES[loop] = _Misses()
    return misses
