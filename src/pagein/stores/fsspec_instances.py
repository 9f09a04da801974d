"""fsspec's filesystem objects: which one is called for another, what its calls cost, and who may call it when.

Guarantees: an asynchronous filesystem, which its user calls from an event loop of his own, and one that was made before
this process was forked, are replaced by one of the same class and options that any thread here may call: event loops
stay in the parent, and an open archive's position, or a connection, would be shared with it.  Who cannot be made anew
is refused.  Filesystems that are not async share connections and handles without locks: equal ones share a lock
(`lock_of`).
Assumes: the options of a filesystem say all about it, as fsspec's own pickling does.
"""

from __future__ import annotations

import copy
import io
import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.archive import AbstractArchiveFileSystem
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.utils import tokenize

from ..errors import made_by_parent

PROTOCOL = "pagein"
"""Of the filesystem by which fsspec finds us (integrations/fsspec)."""


def innermost(fs: AbstractFileSystem) -> AbstractFileSystem:
    """What ``dir::``, ``simplecache::`` and others that pass calls on are put around."""
    *_, inner = _layers(fs)
    return inner


def local_path(fs: AbstractFileSystem, path: str) -> str | None:
    """What *path* is called on this machine, if *fs*, or what it is put around, are its files; else None."""
    for layer in _layers(fs):
        if isinstance(layer, DirFileSystem):
            path = layer._join(path)
        elif isinstance(layer, AbstractArchiveFileSystem):
            return None  # its names are its own
        elif isinstance(layer, LocalFileSystem):
            return str(layer._strip_protocol(path))
    return None


def _layers(fs: AbstractFileSystem) -> Iterator[AbstractFileSystem]:
    """It, and what it is put around, and so on."""
    yield fs
    while isinstance(getattr(fs, "fs", None), AbstractFileSystem):
        fs = fs.fs
        yield fs


def is_async(fs: AbstractFileSystem) -> bool:
    """Whether its methods are coroutines underneath."""
    return isinstance(fs, AsyncFileSystem) and bool(innermost(fs).async_impl)


def is_cheap_to_look_at(fs: AbstractFileSystem) -> bool:
    """Whether ``info`` and ``ls`` cost next to nothing."""
    return isinstance(innermost(fs), LocalFileSystem | MemoryFileSystem)


def has_ranges(fs: AbstractFileSystem) -> bool:
    """Whether ``cat_file`` asks for a range; the default opens a file, with a cache, each time."""
    if isinstance(fs, AsyncFileSystem):
        return type(fs)._cat_file is not AsyncFileSystem._cat_file
    return type(fs).cat_file is not AbstractFileSystem.cat_file


def is_of_one_container(fs: AbstractFileSystem) -> bool:
    """Whether it reads for as long as it lives from what it has opened once, as of an archive: it does not see that
    another is there now.  fsspec makes another for each who opens a URL of one."""
    while type(fs).cachable and isinstance(getattr(fs, "fs", None), AbstractFileSystem):
        fs = fs.fs
    return not type(fs).cachable


# -- one for another ---------------------------------------------------------------------------------


def to_read(fs: AbstractFileSystem) -> AbstractFileSystem:
    """The filesystem whose bytes a cache is to hold when it is given *fs*.  Does no I/O: who calls it asks
    `callable_here` first."""
    while fs.protocol == PROTOCOL:  # a cache in front of the cache; their paths are the same
        fs = fs.fs
    return _synchronous(fs)


def callable_here(fs: AbstractFileSystem) -> AbstractFileSystem:
    """*fs*, or one like it that any thread of this process may call; the same at each call.

    Blocks: while a parent's is made anew.  Raises: OSError(EDEADLK) if that cannot be; what making it raises.
    """
    fs = _synchronous(fs)
    if innermost(fs).async_impl or _shares_nothing(fs) or all(_standing(one).is_own for one in _layers(fs)):
        return fs
    standing = _standing(fs)
    with standing.making:
        made = standing.another or _made_anew(fs)
        if standing.another is None:
            standing.another = made
            keep_of_parent(fs)
        return standing.another


def _synchronous(fs: AbstractFileSystem) -> AbstractFileSystem:
    inner = innermost(fs)
    if fs is inner and isinstance(getattr(fs, "sync_fs", None), AbstractFileSystem):  # an AsyncFileSystemWrapper
        return fs.sync_fs
    return remade(fs) if inner.async_impl and (inner.asynchronous or inner._pid != os.getpid()) else fs


def remade(fs: AbstractFileSystem) -> AbstractFileSystem:
    """One of the same class and options, and not asynchronous."""
    return type(fs)(*map(_remade_option, fs.storage_args), **_remade_options(fs.storage_options))


def _remade_options(options: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: _remade_option(value) for name, value in options.items() if name not in ("asynchronous", "loop")}
    if isinstance(inner := kept.get("target_options"), Mapping):
        kept["target_options"] = _remade_options(inner)
    return kept


def _remade_option(value: Any) -> Any:
    return callable_here(value) if isinstance(value, AbstractFileSystem) else value


# -- after a fork ------------------------------------------------------------------------------------

_STANDINGS = "_pagein_standings"
_process = object()
"""This one; a number may come again."""
_is_forked = False
"""Whether this module was there before this process was forked."""
_of_parents: list[object] = []


def keep_of_parent(*what: object) -> None:
    """Never let go of what was the parent's: it may say goodbye then, on the parent's connection."""
    _of_parents.extend(what)


class _Standing:
    """What a process knows of one filesystem object."""

    __slots__ = ("another", "is_own", "lock", "making")

    def __init__(self, *, is_own: bool) -> None:
        self.is_own = is_own
        """Whether it was made in this process."""
        self.making = threading.RLock()  # the collector may run a finalizer under it that asks for the same
        """Held while another is made for it, which may make others for what it is put around: the outer one first."""
        self.another: AbstractFileSystem | None = None
        self.lock: threading.Lock | None = None


def _standing(fs: AbstractFileSystem) -> _Standing:
    """It stands with the object itself: equal ones have each its own handles, and may have been made elsewhere."""
    process, standings = _process, _standings_of(fs)
    known = standings.get(process)
    if known is None:
        is_own = set(standings) <= {process} and _is_made_here(fs)  # else an ancestor has seen it
        known = standings.setdefault(process, _Standing(is_own=is_own))  # one step: two threads have the first's
    return known


def _standings_of(fs: AbstractFileSystem) -> dict[object, _Standing]:
    """By process, of all that it has come through by forks."""
    attributes = object.__getattribute__(fs, "__dict__")  # some hand attributes on
    standings: dict[object, _Standing] = attributes.setdefault(_STANDINGS, {})
    return standings


def _is_made_here(fs: AbstractFileSystem) -> bool:
    """Whether one that nobody has seen yet was made by this process, by the process and thread in its token.

    In a child of a fork that has to be proved; its maker may have ended, and then it is made anew for nothing.  Who has
    imported us after a fork cannot know of it: there only what is surely the parent's is not his.
    """
    if _is_forked:
        return _is_made_by(fs, os.getpid(), {thread.ident for thread in threading.enumerate()})
    return not _is_made_by(fs, os.getppid(), {threading.main_thread().ident})


def _is_made_by(fs: AbstractFileSystem, pid: int, thread_ids: set[int | None]) -> bool:
    cls, args, options = type(fs), fs.storage_args, fs.storage_options
    extra = (getattr(cls, name, None) for name in cls._extra_tokenize_attributes)
    own, more = object.__getattribute__(fs, "__dict__").get("_fs_token_"), (*args, *extra)
    return any(
        own == tokenize(cls, pid, thread_id, *more, **told)
        for thread_id in thread_ids
        for told in (options, {**options, "skip_instance_cache": True})
    )


def _shares_nothing(fs: AbstractFileSystem) -> bool:
    """Whether a child may go on with what it has inherited, all of which is memory."""
    if fs is not innermost(fs):
        return False
    return is_cheap_to_look_at(fs) or any(map(_is_own_file, [*fs.storage_args, *fs.storage_options.values()]))


def _is_own_file(value: object) -> bool:
    return isinstance(value, io.BytesIO) or getattr(type(value), "_position_is_of_process", False)


def _made_anew(fs: AbstractFileSystem) -> AbstractFileSystem:
    """One of the same class and options, as if it had been sent here."""
    kind = type(fs).__name__
    # To make one that writes would empty the archive that the parent is writing.
    if any(isinstance(one, AbstractArchiveFileSystem) and getattr(one, "mode", "r") != "r" for one in _layers(fs)):
        raise made_by_parent(kind, "it writes")
    try:
        args = [_option_here(value) for value in fs.storage_args]
        options = {name: _option_here(value) for name, value in fs.storage_options.items()}
    except OSError:
        raise
    except Exception as error:  # whatever an option says to being copied
        raise made_by_parent(kind, str(error)) from error
    made: AbstractFileSystem = type(fs)(*args, **options)
    for one in _layers(made):
        _standings_of(one).setdefault(_process, _Standing(is_own=True))
    return made


def _option_here(value: Any) -> Any:
    if isinstance(value, AbstractFileSystem):
        return callable_here(value)
    if hasattr(value, "read"):  # the copy of one would begin where it is now, and not where it was at first
        raise TypeError(f"it was made of an open file, {value!r}")
    return copy.deepcopy(value)  # as pickling does it: a client in it gets connections of its own, or says no


# -- one at a time -----------------------------------------------------------------------------------

_locks: weakref.WeakValueDictionary[int, threading.Lock] = weakref.WeakValueDictionary()
"""By the filesystem's hash, for as long as any of those lives which it is the lock of."""
_locks_lock = threading.RLock()  # the collector may run a finalizer under it that asks for another


def lock_of(fs: AbstractFileSystem) -> AbstractContextManager[object]:
    """What to hold while calling *fs*; equal filesystems, which may be made of one open file, share it.  Held across
    I/O: that is its purpose.

    An open file has one position, whatever it is a file of.
    """
    inner = innermost(fs)
    if has_ranges(fs) and (inner.async_impl or isinstance(inner, MemoryFileSystem)):
        return nullcontext()
    standing = _standing(inner)
    with _locks_lock:
        if standing.lock is None:
            standing.lock = _locks.setdefault(hash(inner), threading.Lock())
        return standing.lock


def _after_fork_in_child() -> None:
    global _process, _is_forked, _locks, _locks_lock
    _process, _is_forked = object(), True
    _locks, _locks_lock = weakref.WeakValueDictionary(), threading.RLock()  # a thread of the parent may have held it
    # Before 2026.9 fsspec puts the parent's process into the token of the first filesystem of each class that a child
    # makes, and corrects that afterwards; `_is_made_here` would take it for the parent's.
    kinds: list[type] = [AbstractFileSystem]
    while kinds:
        kind = kinds.pop()
        kinds += type.__subclasses__(kind)
        if "_pid" in vars(kind):
            kind._pid = os.getpid()  # type: ignore[attr-defined]


os.register_at_fork(after_in_child=_after_fork_in_child)
