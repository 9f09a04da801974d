"""fsspec's filesystem objects: which one is called for another, what its calls cost, and who may call it when.

Guarantees: an asynchronous filesystem, which its user calls from an event loop of his own, and one whose event loop has
stayed in the parent of a fork, are replaced by one of the same class and options that any thread here may call.
Filesystems that are not async share connections and handles without locks: equal ones share a lock (`lock_of`).
Assumes: the options of an async filesystem say all about it, as fsspec's own pickling does.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

PROTOCOL = "pagein"
"""Of the filesystem by which fsspec finds us (integrations/fsspec)."""


def innermost(fs: AbstractFileSystem) -> AbstractFileSystem:
    """What ``dir::``, ``simplecache::`` and others that pass calls on are put around."""
    while isinstance(getattr(fs, "fs", None), AbstractFileSystem):
        fs = fs.fs
    return fs


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
    """The filesystem whose bytes a cache is to hold when it is given *fs*."""
    while fs.protocol == PROTOCOL:  # a cache in front of the cache; their paths are the same
        fs = fs.fs
    return callable_here(fs)


def callable_here(fs: AbstractFileSystem) -> AbstractFileSystem:
    """*fs*, or one like it that any thread of this process may call."""
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


# -- one at a time -----------------------------------------------------------------------------------

_locks: weakref.WeakKeyDictionary[AbstractFileSystem, threading.Lock] = weakref.WeakKeyDictionary()
_locks_lock = threading.Lock()


def lock_of(fs: AbstractFileSystem) -> AbstractContextManager[object]:
    """What to hold while calling *fs*; equal filesystems share it.  Held across I/O: that is its purpose.

    An open file has one position, whatever it is a file of.
    """
    inner = innermost(fs)
    if has_ranges(fs) and (inner.async_impl or isinstance(inner, MemoryFileSystem)):
        return nullcontext()
    with _locks_lock:
        return _locks.setdefault(inner, threading.Lock())


def _after_fork_in_child() -> None:
    global _locks, _locks_lock  # threads that stayed in the parent may have held them
    _locks, _locks_lock = weakref.WeakKeyDictionary(), threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
