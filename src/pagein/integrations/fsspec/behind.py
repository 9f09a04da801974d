"""The filesystem behind fsspec's protocol ``pagein``: how it is made, asked, and what is forgotten of it.

Guarantees: it is called where it may be: on its own loop, or by one thread at a time; after a fork, in the child, it
is made anew.  What is forgotten is asked anew by the next call, also if an answer was on its way.
Not here: what is asked (looking.py), reading and changing (filesystem.py).
"""

from __future__ import annotations

import asyncio
import inspect
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import fsspec
from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem, get_loop
from fsspec.implementations.chained import ChainedFileSystem

from ... import aio
from ...cache import PageCache
from ...default import default_cache
from ...errors import bad_setting
from ...stores.fsspec_instances import PROTOCOL, callable_here, is_async, is_cheap_to_look_at, lock_of
from ..references import CacheReference, to_cache
from .kept import KeptFiles
from .listings import Listings
from .target import Strip, bare, reference, require_something, target

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
_Instances: Any = type(AsyncFileSystem)


class _PageCacheInstances(_Instances):  # type: ignore[misc]  # fsspec ships no types
    """fsspec tells instances apart by what ``str`` says of their arguments, and keeps them for ever."""

    def __call__(cls, *args: Any, **options: Any) -> Any:  # noqa: N805  # of a metaclass
        cache = options.get("cache")
        if isinstance(cache, PageCache):
            options["cache"] = to_cache(cache)
        protocol = options.get("target_protocol")
        require_something(protocol, options.get("fo"))
        # It goes when its user has let go of it; or reads from an archive, which may have been replaced when it is
        # made again.
        if cache is not None or (protocol is not None and not fsspec.get_filesystem_class(protocol).cachable):
            options["skip_instance_cache"] = True
        return super().__call__(*args, **options)


class FilesystemBehind(AsyncFileSystem, ChainedFileSystem, metaclass=_PageCacheInstances):  # type: ignore[misc]
    """One that has another behind it, and a page cache."""

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
        self._target = target(fs, target_protocol, target_options)
        self.sep: str = self._target.sep
        self.root_marker: str = self._target.root_marker
        # Paths are those of the filesystem behind.
        self._strip_protocol = Strip(self._target)  # type: ignore[method-assign]
        self._parent = self._target._parent
        if use_listings_cache is None:
            use_listings_cache = not is_cheap_to_look_at(self._target)
        expiry_s = listings_expiry_time if use_listings_cache else 0
        if not isinstance(expiry_s, int | float | None):
            accepted = "a number of seconds, at least 0, or None for ever"
            raise bad_setting("listings_expiry_time", accepted, expiry_s, kind=TypeError)
        if not isinstance(max_paths, int):
            raise bad_setting("max_paths", "a number of entries, at least 1", max_paths, kind=TypeError)
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
        """After a fork, in the child, where neither loops nor connections of the parent can be used.

        Raises: OSError(EDEADLK); what making another of the filesystem behind raises.
        """
        self._target = callable_here(self._target)
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
        raise no_transactions()

    def start_transaction(self) -> NoReturn:
        """Raises: NotImplementedError."""
        raise no_transactions()

    def end_transaction(self) -> NoReturn:
        """Raises: NotImplementedError."""
        raise no_transactions()

    async def set_session(self, *args: Any, **kwargs: Any) -> Any:
        """As the filesystem behind, if it has sessions."""
        return await self._ask("set_session", *args, **kwargs) if hasattr(self.fs, "set_session") else None

    # -- asking the filesystem behind --------------------------------------------------------------------

    async def _ask(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """What a *method* of it returns, called where it may be: on its loop, or alone, by a thread."""
        fs = self.fs
        call = getattr(fs, f"_{method}", None) if method != "set_session" else fs.set_session
        if not (is_async(fs) and inspect.iscoroutinefunction(call)):
            return await asyncio.to_thread(call_alone, fs, method, *args, **kwargs)
        if fs.loop is None or fs.loop is asyncio.get_running_loop():
            return await call(*args, **kwargs)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call(*args, **kwargs), fs.loop))

    async def _open_to_read(self, path: str) -> aio.AsyncFile:
        return await aio.open((self.fs, path), cache=self.cache)

    # -- what is not true any more -----------------------------------------------------------------------

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


def no_transactions() -> NotImplementedError:
    """What is raised where fsspec would begin one."""
    return NotImplementedError(
        "protocol 'pagein' has no transactions: each file is replaced as a whole when it is closed; "
        "for one over several files use the filesystem behind, fs.fs"
    )


def call_alone(fs: AbstractFileSystem, method: str, /, *args: Any, **kwargs: Any) -> Any:
    """What a *method* returns, called by one thread at a time, unless it is asynchronous underneath.  Blocks."""
    with lock_of(fs):
        return getattr(fs, method)(*args, **kwargs)


def _flat(paths: Iterable[Any]) -> Iterator[str]:
    for path in paths:
        yield from _flat(path) if isinstance(path, list) else (path,)
