"""fsspec's protocol ``pagein``: any filesystem of fsspec's, read and written through a page cache.

    fsspec.open("pagein::s3://bucket/key");  fsspec.filesystem("pagein", fs=other)

Guarantees: whatever brings bytes (``open``, ``cat``, ``get``, …) reads through the cache, and by the filesystem behind
only, so with its credentials; everything else is asked of it.  What is written by way of this filesystem is seen by
its next call.  Any thread, and any process that it was forked or sent to, may use it; if asynchronous, any loop.
What is true for a while: answers of ``ls`` and ``info``, and the versions of files that ``cat_file`` reads, are kept
for ``listings_expiry_time`` seconds, unless asking costs nothing (local and memory files).  ``open`` always asks.
Assumes: what stores/fsspec.py does.
Not here: reading (stores/fsspec.py), what is asked (looking.py) and of whom (behind.py), what is kept how
(listings.py, kept.py), which cache (integrations/references.py).
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import stat
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fsspec.asyn import _run_coros_in_chunks, sync, sync_wrapper
from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.utils import isfilelike

from ... import aio
from ...stores.fsspec_instances import is_async, local_path
from .behind import no_transactions
from .file import FsspecFile, FsspecWriteOnlyFile, of_filesystem
from .looking import LookingFilesystem
from .target import bare

if TYPE_CHECKING:
    pass

COPY_BYTES = 8 << 20
"""A download is handed on in pieces of this size."""

_HINTS = frozenset({"cache_type", "fill_cache", "size"})
"""What ``fs.open`` may be told of how fsspec's own caches should work, or is known already: nothing to us."""


class PageCacheFileSystem(LookingFilesystem):
    """A filesystem of fsspec's whose files are read and written through a page cache.

    *fs*: the filesystem; or *target_protocol* and *target_options*, to make it of.
    *cache*: a `pagein.PageCache`; or *cache_size*, for one that all share in this process who ask for that size; by
    default the process's own (`pagein.default_cache`).  In another process it is one of the same size.
    *listings_expiry_time*: for how many seconds answers of ``ls`` and ``info``, and the versions of files that are
    read by ``cat_file``, are believed; None is for ever.  *max_paths*: how many entries of listings are kept.
    *use_listings_cache*: False asks each time; by default so for local and memory files, where that costs nothing.
    Raises: ValueError, TypeError for what makes no sense.
    """

    # -- reading -----------------------------------------------------------------------------------------

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | str | None = None,
        autocommit: bool = True,
        cache_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> FsspecFile | FsspecWriteOnlyFile:
        if not autocommit:
            raise no_transactions()
        if unknown := kwargs.keys() - _HINTS:
            raise TypeError(f"a file of protocol 'pagein' takes no option {', '.join(map(repr, sorted(unknown)))}")
        path = self._strip_protocol(path)
        file = of_filesystem(self.cache.open((self.fs, path), mode), self, path)  # type: ignore[arg-type]  # no text
        kept = self._kept.get(path)
        is_older = kept is not None and kept._reader._mapping is not file._mapping
        if file.writable() or is_older:
            self._kept.forget(path)  # what is being written is what is read, and what somebody has seen stays seen
        return file

    async def open_async(self, path: str, mode: str = "rb", **kwargs: Any) -> aio.AsyncFile:
        """An open `pagein.aio.AsyncFile`, which reads.  Raises: OSError; ValueError for another mode."""
        if mode not in ("rb", "r") or kwargs.get("compression"):
            raise ValueError(f"asynchronous files of protocol 'pagein' have mode 'rb' and no compression, not {mode!r}")
        return await self._open_to_read(self._strip_protocol(path))

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        path = self._strip_protocol(path)
        if kwargs:  # of which only the filesystem behind knows what they mean
            return await self._ask("cat_file", path, start=start, end=end, **kwargs)  # type: ignore[no-any-return]
        (data,) = await self._read(path, [(start, end)])
        if isinstance(data, BaseException):
            raise data
        return data

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        """Bytes [start, end) of a file, as of a slice; what is in the cache without a turn of the event loop."""
        if not kwargs and (file := self._kept.get(self._strip_protocol(path))):
            offset, stop = _span(start, end, file.size_bytes)
            try:
                data = file._hit(stop - offset, offset)
            except ValueError:  # its cache was closed in this moment
                data = None
            if data is not None:
                return data
        return sync(self.loop, self._cat_file, path, start=start, end=end, **kwargs)  # type: ignore[no-any-return]

    async def _cat_ranges(  # noqa: PLR0917  # as fsspec has it
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        batch_size: int | None = None,
        on_error: str = "return",
        **kwargs: Any,
    ) -> list[Any]:
        if not isinstance(paths, list):
            raise TypeError(f"paths must be a list, not {type(paths).__name__}")
        starts = list(starts) if isinstance(starts, Iterable) else [starts] * len(paths)
        ends = list(ends) if isinstance(ends, Iterable) else [ends] * len(paths)
        if len(starts) != len(paths) or len(ends) != len(paths):
            raise ValueError(f"{len(paths)} paths need as many starts and ends, not {len(starts)} and {len(ends)}")
        if kwargs:
            calls = [self._cat_file(*one, **kwargs) for one in zip(paths, starts, ends, strict=True)]
            return _told(await _gathered(calls, batch_size or self.batch_size), on_error)
        places: dict[str, list[int]] = {}
        for place, path in enumerate(paths):
            places.setdefault(self._strip_protocol(path), []).append(place)
        reads = [self._read(path, [(starts[at], ends[at]) for at in own]) for path, own in places.items()]
        told: list[Any] = [None] * len(paths)
        for own, got in zip(places.values(), await _gathered(reads, batch_size or self.batch_size), strict=True):
            for at, one in zip(own, got if isinstance(got, list) else [got] * len(own), strict=True):
                told[at] = one
        return _told(told, on_error)

    async def _read(self, path: str, ranges: list[tuple[Any, Any]]) -> list[bytes | BaseException]:
        """Of one version of a file all of these, or what was raised instead."""
        got = await self._read_kept(path, ranges)
        if any(isinstance(one, OSError) and one.errno == errno.ESTALE for one in got):
            # It was opened for somebody before us, and has changed since: nobody has asked for that version.
            self._kept.forget(path)
            got = await self._read_kept(path, ranges)
        return got

    async def _read_kept(self, path: str, ranges: list[tuple[Any, Any]]) -> list[bytes | BaseException]:
        file = await self._kept.open(path)
        spans = [_span(start, end, file.size_bytes) for start, end in ranges]
        got: list[Any] = [file._hit(stop - offset, offset) for offset, stop in spans]
        missing = [at for at, data in enumerate(got) if data is None]
        reads = (file.pread(stop - offset, offset) for offset, stop in (spans[at] for at in missing))
        for at, data in zip(missing, await asyncio.gather(*reads, return_exceptions=True), strict=True):
            got[at] = data
        return got

    async def _get_file(self, rpath: str, lpath: Any, callback: Any = DEFAULT_CALLBACK, **kwargs: Any) -> None:
        path = self._strip_protocol(rpath)
        if not isfilelike(lpath) and os.path.isdir(lpath):
            return
        try:
            file = await self._open_to_read(path)
        except IsADirectoryError:
            if not isfilelike(lpath):
                os.makedirs(lpath, exist_ok=True)
            return
        async with file:
            callback.set_size(file.size_bytes)
            if isfilelike(lpath):
                await _copy(file, lpath, callback)
                return
            here = local_path(self.fs, path)
            if here is not None and os.path.exists(here) and os.path.exists(lpath) and os.path.samefile(here, lpath):
                raise shutil.SameFileError(f"{path!r} and {lpath!r} are the same file")  # to open it would empty it
            target = open(lpath, "wb")  # what cannot be opened stays as it is  # noqa: SIM115
            status = os.fstat(target.fileno())
            try:
                with target:
                    await _copy(file, target, callback)
            except BaseException:
                _remove(lpath, status)  # half a file is none
                raise

    # -- changing ----------------------------------------------------------------------------------------

    async def _change(self, method: str, *args: Any, forgets: Iterable[str], **kwargs: Any) -> Any:
        try:
            return await self._ask(method, *args, **kwargs)
        finally:  # also if it has failed, which may be after it was done
            self._forget(*forgets)

    async def _change_trees(self, method: str, *args: Any, forgets: Iterable[Any], **kwargs: Any) -> Any:
        try:
            return await self._ask(method, *args, **kwargs)
        finally:
            self._forget_trees(forgets)

    async def _pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> Any:
        if mode != "overwrite":
            kwargs["mode"] = mode
        return await self._change("pipe_file", path := self._strip_protocol(path), value, forgets=[path], **kwargs)

    async def _put_file(self, lpath: Any, rpath: str, mode: str = "overwrite", **kwargs: Any) -> Any:
        if mode != "overwrite":
            kwargs["mode"] = mode
        rpath = self._strip_protocol(rpath)
        return await self._change("put_file", lpath, rpath, forgets=[rpath], **kwargs)

    async def _cp_file(self, path1: str, path2: str, **kwargs: Any) -> Any:
        path1, path2 = self._strip_protocol(path1), self._strip_protocol(path2)
        return await self._change("cp_file", path1, path2, forgets=[path2], **kwargs)

    async def _mv_file(self, path1: str, path2: str, **kwargs: Any) -> Any:
        return await self._mv(path1, path2, **kwargs)

    async def _mv(self, path1: Any, path2: Any, **kwargs: Any) -> Any:
        path1, path2 = bare(path1), bare(path2)
        return await self._change_trees("mv", path1, path2, forgets=[path1, path2], **kwargs)

    async def _rm_file(self, path: str, **kwargs: Any) -> Any:
        return await self._change("rm_file", path := self._strip_protocol(path), forgets=[path], **kwargs)

    async def _rm(self, path: Any, recursive: bool = False, batch_size: int | None = None, **kwargs: Any) -> Any:
        path = bare(path)
        if batch_size is not None and is_async(self.fs):
            kwargs["batch_size"] = batch_size
        return await self._change_trees("rm", path, forgets=[path], recursive=recursive, **kwargs)

    async def _mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> Any:
        path = self._strip_protocol(path)
        return await self._change("mkdir", path, forgets=[path], create_parents=create_parents, **kwargs)

    async def _makedirs(self, path: str, exist_ok: bool = False) -> Any:
        return await self._change("makedirs", path := self._strip_protocol(path), forgets=[path], exist_ok=exist_ok)

    async def _rmdir(self, path: str) -> Any:
        return await self._change("rmdir", path := self._strip_protocol(path), forgets=[path])

    async def _touch(self, path: str, truncate: bool = True, **kwargs: Any) -> Any:
        path = self._strip_protocol(path)
        return await self._change("touch", path, forgets=[path], truncate=truncate, **kwargs)

    mv: Callable[..., Any] = sync_wrapper(_mv)
    rmdir: Callable[..., Any] = sync_wrapper(_rmdir)
    touch: Callable[..., Any] = sync_wrapper(_touch)


def _span(start: int | None, end: int | None, size_bytes: int) -> tuple[int, int]:
    """Where bytes [start, end) of so many begin and end, as of a slice."""
    first, stop, _ = slice(start, end).indices(size_bytes)
    return first, max(first, stop)


async def _gathered(calls: list[Coroutine[Any, Any, Any]], batch_size: int | None) -> list[Any]:
    """What each returns or raises, so many at a time."""
    return await _run_coros_in_chunks(  # type: ignore[no-any-return]
        calls, batch_size=batch_size, nofiles=True, return_exceptions=True
    )


def _told(results: list[Any], on_error: str) -> list[Any]:
    """Results, or the first error if the caller wants to hear it so."""
    if on_error != "return" and (error := next((one for one in results if isinstance(one, BaseException)), None)):
        raise error
    return results


def _remove(path: Any, status: os.stat_result) -> None:
    """Remove the file of that *status*, through whatever links, if it is one (no device) and still there."""
    with suppress(OSError):  # what was raised first says more
        path = os.path.realpath(path)
        if stat.S_ISREG(status.st_mode) and os.path.samestat(os.lstat(path), status):
            os.unlink(path)


async def _copy(file: aio.AsyncFile, target: Any, callback: Any) -> None:
    while data := await file.read(COPY_BYTES):
        await asyncio.to_thread(target.write, data)
        callback.relative_update(len(data))
