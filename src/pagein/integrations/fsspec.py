"""fsspec's protocol ``pagein``: any filesystem of fsspec's, read and written through a page cache.

    fsspec.open("pagein::s3://bucket/key");  fsspec.filesystem("pagein", fs=other)

Guarantees: whatever brings bytes (``open``, ``cat``, ``get``, …) reads through the cache, and by the filesystem behind
only, so with its credentials; everything else is asked of it.  What is written by way of this filesystem is seen by
its next call.  Any thread, and any process that it was forked or sent to, may use it; if asynchronous, any loop.
What is true for a while: answers of ``ls`` and ``info``, and the versions of files that ``cat_file`` reads, are kept
for ``listings_expiry_time`` seconds, unless asking costs nothing (local and memory files).  ``open`` always asks.
Assumes: what stores/fsspec.py does.
Not here: reading (stores/fsspec.py), what is kept how (listings.py, kept.py), which cache (references.py).
"""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
import re
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem, _run_coros_in_chunks, get_loop, sync, sync_wrapper
from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.implementations.chained import ChainedFileSystem
from fsspec.utils import isfilelike

from .. import aio
from ..cache import PageCache
from ..default import default_cache
from ..stores.fsspec_instances import PROTOCOL, callable_here, is_async, is_cheap_to_look_at, lock_of, remade
from .fsspec_file import FsspecFile, FsspecWriteOnlyFile, of_filesystem
from .fsspec_target import Strip, bare, reference, require_something, target
from .kept import KeptFiles
from .listings import Info, Listings
from .references import CacheReference, to_cache

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

LISTINGS_EXPIRY_S = 10.0
"""For so long an answer of ``ls`` or ``info`` is believed, and a file that was opened for ``cat_file``."""
ENTRIES_MAX = 20_000
"""So many entries of listings are kept: about a KiB each, if the filesystem tells much."""
KEPT_FILES_MAX = 1024
"""So many files are kept open for ``cat_file``, a few KiB each..."""
KEPT_HANDLES_MAX = 64
"""...and so many of a filesystem that is not async, which may have a descriptor each."""
COPY_BYTES = 8 << 20
"""A download is handed on in pieces of this size."""

_HINTS = frozenset({"cache_type", "fill_cache", "size"})
"""What ``fs.open`` may be told of how fsspec's own caches should work, or is known already: nothing to us."""

_Instances: Any = type(AsyncFileSystem)


class _PageCacheInstances(_Instances):  # type: ignore[misc]  # fsspec ships no types
    """fsspec tells instances apart by what ``str`` says of their arguments, and keeps them for ever."""

    def __call__(cls, *args: Any, **options: Any) -> Any:  # noqa: N805  # of a metaclass
        cache = options.get("cache")
        if isinstance(cache, PageCache):
            options["cache"] = to_cache(cache)
        if cache is not None:  # it goes when its user has let go of it
            options["skip_instance_cache"] = True
        require_something(options.get("target_protocol"), options.get("fo"))
        return super().__call__(*args, **options)


class PageCacheFileSystem(AsyncFileSystem, ChainedFileSystem, metaclass=_PageCacheInstances):  # type: ignore[misc]
    """A filesystem of fsspec's whose files are read and written through a page cache.

    *fs*: the filesystem; or *target_protocol* and *target_options*, to make it of.
    *cache*: a `pagein.PageCache`; or *cache_size*, for one that all share in this process who ask for that size; by
    default the process's own (`pagein.default_cache`).  In another process it is one of the same size.
    *listings_expiry_time*: for how many seconds answers of ``ls`` and ``info``, and the versions of files that are
    read by ``cat_file``, are believed; None is for ever.  *max_paths*: how many entries of listings are kept.
    *use_listings_cache*: False asks each time; by default so for local and memory files, where that costs nothing.
    Raises: ValueError, TypeError for what makes no sense.
    """

    protocol = PROTOCOL
    _strip_tokenize_options = ("fo",)  # a file's own path does not make another filesystem

    def __init__(
        self,
        fs: AbstractFileSystem | None = None,
        *,
        target_protocol: str | None = None,
        target_options: Mapping[str, Any] | None = None,
        fo: str | None = None,
        cache: CacheReference | None = None,
        cache_size: int | str | None = None,
        use_listings_cache: bool | None = None,
        listings_expiry_time: float | None = LISTINGS_EXPIRY_S,
        max_paths: int = ENTRIES_MAX,
        asynchronous: bool = False,
        loop: AbstractEventLoop | None = None,
        batch_size: int | None = None,
        **others: Any,
    ) -> None:
        if others:
            raise TypeError(
                f"protocol 'pagein' has no option {', '.join(map(repr, sorted(others)))}; options of the filesystem "
                "behind it go under its own protocol ({'s3': {...}}), or into target_options"
            )
        super().__init__(asynchronous=asynchronous, loop=loop, batch_size=batch_size)
        self._reference = reference(cache, cache_size)
        self._makes_target = fs is None
        self._target = target(fs, target_protocol, target_options)
        self.sep: str = self._target.sep
        self.root_marker: str = self._target.root_marker
        # Paths are those of the filesystem behind.
        self._strip_protocol = Strip(self._target)  # type: ignore[method-assign]
        self._parent = self._target._parent
        if use_listings_cache is None:
            use_listings_cache = not is_cheap_to_look_at(self._target)
        expiry_s = listings_expiry_time if use_listings_cache else 0
        if expiry_s is not None and expiry_s < 0:
            raise ValueError(f"listings_expiry_time must be at least 0 seconds, or None for ever, not {expiry_s}")
        if max_paths < 1:
            raise ValueError(f"max_paths must be at least 1, not {max_paths}; use_listings_cache=False keeps nothing")
        self._listings = Listings(entries_max=max_paths, expiry_s=expiry_s)
        files_max = KEPT_FILES_MAX if is_async(self._target) else KEPT_HANDLES_MAX
        self._kept = KeptFiles(self._open_to_read, files_max=files_max, expiry_s=expiry_s)

    # -- what it is --------------------------------------------------------------------------------------

    @property
    def fs(self) -> AbstractFileSystem:
        """The filesystem behind."""
        if self._pid != os.getpid():
            self._begin_anew()
        return self._target

    @property
    def loop(self) -> AbstractEventLoop | None:
        """The event loop of the synchronous methods."""
        if self._pid != os.getpid():
            self._begin_anew()
        return self._loop

    def _begin_anew(self) -> None:
        """After a fork, in the child, where neither loops nor connections of the parent can be used."""
        self._target = remade(self._target) if self._makes_target else callable_here(self._target)
        self._loop = None if self.asynchronous else get_loop()
        self._pid = os.getpid()

    @property
    def cache(self) -> PageCache:
        """The page cache that its files are read through, in this process."""
        return default_cache() if self._reference is None else self._reference.cache

    @property
    def fsid(self) -> str:
        """As that of the filesystem behind."""
        return f"{PROTOCOL}_{self.fs.fsid}"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        """Of a class, only the own protocol; an instance has another (`Strip`)."""
        return bare(path)

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        if isinstance(path, str) and path.startswith(f"{PROTOCOL}://") and path != f"{PROTOCOL}://":
            rest = path.removeprefix(f"{PROTOCOL}://")
            raise ValueError(
                f"{path!r} names no filesystem: pagein:: is put in front of a whole URL or chain, as pagein::s3://{rest}"
            )
        return {}

    def unstrip_protocol(self, name: str) -> str:
        """The URL by which fsspec opens it again: the filesystem's own, with ``pagein::`` in front."""
        return f"{PROTOCOL}::{self.fs.unstrip_protocol(bare(name))}"

    def to_dict(self, *, include_password: bool = True) -> dict[str, Any]:
        """As fsspec's; a cache that was given is told by its size."""
        options = dict(self.storage_options)
        if options.pop("cache", None) is not None and self._reference is not None:
            options["cache_size"] = self._reference.size_bytes
        alike = object.__new__(type(self))  # with all that fsspec looks at
        alike.storage_args = self.storage_args
        alike.storage_options = {name: value for name, value in options.items() if value is not None}
        told = AbstractFileSystem.to_dict(alike, include_password=include_password)
        return {**told, **{name: None for name, value in options.items() if value is None}}

    @property
    def transaction(self) -> NoReturn:
        """Raises: NotImplementedError."""
        raise _no_transactions()

    def start_transaction(self) -> NoReturn:
        """Raises: NotImplementedError."""
        raise _no_transactions()

    def end_transaction(self) -> NoReturn:
        """Raises: NotImplementedError."""
        raise _no_transactions()

    async def set_session(self, *args: Any, **kwargs: Any) -> Any:
        """As the filesystem behind, if it has sessions."""
        return await self._ask("set_session", *args, **kwargs) if hasattr(self.fs, "set_session") else None

    # -- asking the filesystem behind --------------------------------------------------------------------

    async def _ask(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """What a *method* of it returns, called where it may be: on its loop, or alone, by a thread."""
        fs = self.fs
        call = getattr(fs, f"_{method}", None) if method != "set_session" else fs.set_session
        if not (is_async(fs) and inspect.iscoroutinefunction(call)):
            return await asyncio.to_thread(_call_alone, fs, method, args, kwargs)
        if fs.loop is None or fs.loop is asyncio.get_running_loop():
            return await call(*args, **kwargs)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call(*args, **kwargs), fs.loop))

    async def _ask_anew(self, method: str, path: str, **kwargs: Any) -> Any:
        """Past what it has kept itself, for as long as it likes."""
        if self._listings.expiry_s != 0:
            self.fs.invalidate_cache(path)
        return await self._ask(method, path, **kwargs)

    def _derives(self, method: str) -> bool:
        """Whether it makes a *method* of its ``info``, as fsspec does where nothing else is said."""
        cls = type(self.fs)
        if is_async(self.fs):
            return getattr(cls, f"_{method}", None) is getattr(AsyncFileSystem, f"_{method}")
        return getattr(cls, method, None) is getattr(AbstractFileSystem, method)

    async def _info(self, path: str, **kwargs: Any) -> Info:
        path = self._strip_protocol(path)
        if kwargs.pop("refresh", False):
            self.invalidate_cache(path)
        if kwargs:
            return await self._ask("info", path, **kwargs)  # type: ignore[no-any-return]
        info = self._listings.info(path, self._parent(path))
        if info is None:
            asked = self._listings.asking()
            info = await self._ask_anew("info", path)
            self._listings.learn({path: info}, asked)
        return info

    async def _ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        path = self._strip_protocol(path)
        if kwargs.pop("refresh", False):
            self.invalidate_cache(path)
        if kwargs:
            return await self._ask("ls", path, detail=detail, **kwargs)  # type: ignore[no-any-return]
        infos = self._listings.directory(path)
        if infos is None:
            asked = self._listings.asking()
            infos = await self._ask_anew("ls", path, detail=True)
            self._listings.learn_directory(path, infos, asked)
        return infos if detail else sorted(info["name"] for info in infos)

    async def _find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, **kwargs: Any
    ) -> list[str] | dict[str, Info]:
        asked = self._listings.asking()
        path = self._strip_protocol(path)
        found = await self._ask_anew("find", path, maxdepth=maxdepth, withdirs=withdirs, **kwargs)
        if isinstance(found, dict) and "versions" not in kwargs:
            self._listings.learn(found, asked)
        return found  # type: ignore[no-any-return]

    async def _glob(self, path: str, maxdepth: int | None = None, **kwargs: Any) -> Any:
        return await self._ask("glob", bare(path), maxdepth=maxdepth, **kwargs)

    async def _du(self, path: str, total: bool = True, maxdepth: int | None = None, **kwargs: Any) -> Any:
        found = await self._find(path, maxdepth=maxdepth, detail=True, **kwargs)
        assert isinstance(found, dict)
        sizes: dict[str, int] = {}
        for name, info in found.items():
            told = info if info.get("size") is not None else await self._info(name)
            sizes[told.get("name", name)] = told["size"]
        return sum(sizes.values()) if total else sizes

    async def _exists(self, path: str, **kwargs: Any) -> bool:
        path = self._strip_protocol(path)
        if not kwargs:
            if self._listings.info(path, self._parent(path)) is not None:
                return True
            if self._derives("exists"):
                return await super()._exists(path)  # type: ignore[no-any-return]
        return bool(await self._ask("exists", path, **kwargs))

    async def _isfile(self, path: str) -> bool:
        path = self._strip_protocol(path)
        if self._derives("isfile"):
            return bool(await super()._isfile(path))
        info = self._listings.info(path, self._parent(path))
        return bool(await self._ask("isfile", path)) if info is None else info["type"] == "file"

    async def _isdir(self, path: str) -> bool:
        path = self._strip_protocol(path)
        if self._derives("isdir"):
            return bool(await super()._isdir(path))
        # fsspec's HTTP downloads the whole object, to look for links in it.
        if "http" in self.fs.protocol and await self._has_no_links(path):
            return False
        return bool(await self._ask("isdir", path))

    async def _has_no_links(self, path: str) -> bool:
        try:
            mimetype = (await self._info(path)).get("mimetype")
        except Exception:  # it may be a directory all the same
            return False
        return mimetype is not None and not re.search("text|html|xml|json", mimetype)

    def created(self, path: str) -> Any:
        """As the filesystem behind."""
        return self.fs.created(self._strip_protocol(path))

    def modified(self, path: str) -> Any:
        """As the filesystem behind."""
        return self.fs.modified(self._strip_protocol(path))

    def checksum(self, path: str) -> Any:
        """As the filesystem behind."""
        return self.fs.checksum(self._strip_protocol(path))

    def ukey(self, path: str) -> Any:
        """As the filesystem behind."""
        return self.fs.ukey(self._strip_protocol(path))

    def sign(self, path: str, expiration: float = 100, **kwargs: Any) -> Any:
        """As the filesystem behind."""
        return self.fs.sign(self._strip_protocol(path), expiration=expiration, **kwargs)

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
            raise _no_transactions()
        if unknown := kwargs.keys() - _HINTS:
            raise TypeError(f"a file of protocol 'pagein' takes no option {', '.join(map(repr, sorted(unknown)))}")
        path = self._strip_protocol(path)
        file = of_filesystem(self.cache.open((self.fs, path), mode), self, path)  # type: ignore[arg-type]  # no text
        if file.writable():
            self._kept.forget(path)  # what is being written is what is read
        return file

    async def open_async(self, path: str, mode: str = "rb", **kwargs: Any) -> aio.AsyncFile:
        """An open `pagein.aio.AsyncFile`, which reads.  Raises: OSError; ValueError for another mode."""
        if mode not in ("rb", "r") or kwargs.get("compression"):
            raise ValueError(f"asynchronous files of protocol 'pagein' have mode 'rb' and no compression, not {mode!r}")
        return await self._open_to_read(self._strip_protocol(path))

    async def _open_to_read(self, path: str) -> aio.AsyncFile:
        return await aio.open((self.fs, path), cache=self.cache)

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
            try:
                with open(lpath, "wb") as target:
                    await _copy(file, target, callback)
            except BaseException:
                os.unlink(lpath)  # half a file is none
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

    mv = sync_wrapper(_mv)
    rmdir = sync_wrapper(_rmdir)
    touch = sync_wrapper(_touch)

    def invalidate_cache(self, path: str | None = None) -> None:
        """Ask anew what is at *path* and below, or anywhere: listings, and which version a file has."""
        self._listings.clear()
        self._kept.clear()
        self.fs.invalidate_cache(path if path is None else self._strip_protocol(path))

    def _forget(self, *paths: str) -> None:
        """These have been changed: whoever asks for them, or for what is above them, asks anew."""
        for path in paths:
            lineage = [path]
            while (parent := self._parent(lineage[-1])) not in lineage:
                lineage.append(parent)
            self._listings.forget(lineage)
        self._kept.forget(*paths)
        self.cache._table.forget_changed([("fsspec", self.fs, path) for path in paths])

    def _forget_trees(self, paths: Iterable[Any]) -> None:
        """These, which may be patterns or lists, and what is below them, have been changed."""
        self._listings.clear()
        self._kept.clear()
        roots = tuple(self._strip_protocol(re.split(r"[*?\[]", one)[0]) for one in _flat(paths))
        table, own = self.cache._table, ("fsspec", self.fs)
        keys = [key for key in table.known_keys() if isinstance(key, tuple) and key[:2] == own]
        table.forget_changed([key for key in keys if key[2].startswith(roots)])


def _no_transactions() -> NotImplementedError:
    return NotImplementedError(
        "protocol 'pagein' has no transactions: each file is replaced as a whole when it is closed; "
        "for one over several files use the filesystem behind, fs.fs"
    )


def _call_alone(fs: AbstractFileSystem, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with lock_of(fs):
        return getattr(fs, method)(*args, **kwargs)


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


async def _copy(file: aio.AsyncFile, target: Any, callback: Any) -> None:
    while data := await file.read(COPY_BYTES):
        await asyncio.to_thread(target.write, data)
        callback.relative_update(len(data))


def _flat(paths: Iterable[Any]) -> Iterator[str]:
    for path in paths:
        yield from _flat(path) if isinstance(path, list) else (path,)
