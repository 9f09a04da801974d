"""What the arguments of fsspec's protocol ``pagein`` say: the filesystem behind it, what paths it has, and the cache.

Guarantees: a chain that makes no sense is an error that says what does.
Assumes: fsspec has taken the chain apart (``fsspec.core._un_chain``): it turns nothing into a path of local files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import fsspec
from fsspec import AbstractFileSystem
from fsspec.utils import stringify_path

from ...cache import PageCache
from ...stores.fsspec_instances import PROTOCOL, callable_here
from ..references import CacheReference, to_cache, to_cache_of

EXAMPLES = "'pagein::s3://bucket/key', fsspec.filesystem('pagein', fs=...) or (..., target_protocol='s3')"

_WITH_DIRCACHE = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl"})
"""Filesystems that keep listings themselves, for ever and without a bound, unless told otherwise."""
_NOTHING = ":"
"""What fsspec makes of nothing: the path of a local file of this name, in the current directory."""


def require_something(protocol: str | None, path: str | None) -> None:
    """Raise ValueError for a chain that ends with ``pagein::``."""
    if protocol in ("file", "local") and path and os.path.basename(path) == _NOTHING and not os.path.exists(path):
        raise ValueError(f"pagein:: stands in front of nothing: accepted are {EXAMPLES}")


def target(
    fs: AbstractFileSystem | None, protocol: str | None, options: Mapping[str, Any] | None
) -> AbstractFileSystem:
    """The filesystem behind.  Raises: ValueError, TypeError; what it raises for options that it does not accept."""
    if fs is None and protocol is None:
        raise ValueError(f"protocol 'pagein' needs a filesystem behind it: accepted are {EXAMPLES}")
    if fs is not None and (protocol is not None or options):
        raise TypeError("protocol 'pagein' takes either fs, or target_protocol and target_options")
    if fs is not None and not isinstance(fs, AbstractFileSystem):
        raise TypeError(f"fs must be a filesystem of fsspec's, not {type(fs).__name__}")
    if protocol == PROTOCOL or (fs is not None and fs.protocol == PROTOCOL):
        raise ValueError("pagein:: is written once: what is behind it is in the cache already")
    if fs is None:
        own = {"use_listings_cache": False} if protocol in _WITH_DIRCACHE else {}
        fs = fsspec.filesystem(protocol, **{**own, **(options or {})})
    return callable_here(fs)


def bare(path: Any) -> Any:
    """A path, or several, without ``pagein::`` or ``pagein://`` in front."""
    if isinstance(path, list | tuple | set):
        return [bare(one) for one in path]
    path = stringify_path(path)
    return path.removeprefix(f"{PROTOCOL}::").removeprefix(f"{PROTOCOL}://") if isinstance(path, str) else path


class Strip:
    """``_strip_protocol`` of an instance: the own protocol, and then that of the filesystem behind."""

    def __init__(self, fs: AbstractFileSystem) -> None:
        self._fs = fs

    def __call__(self, path: Any) -> Any:
        """A path, or a list of paths, as the filesystem behind writes them."""
        if isinstance(path, list | tuple | set):
            return [self(one) for one in path]
        return self._fs._strip_protocol(bare(path))


def reference(cache: object, cache_size: int | str | None) -> CacheReference | None:
    """To the cache that is meant; None for the process's own.  Raises: TypeError, ValueError."""
    if cache is not None and cache_size is not None:
        raise TypeError("protocol 'pagein' takes either cache or cache_size")
    if cache_size is not None:
        return to_cache_of(cache_size)
    if cache is None or isinstance(cache, CacheReference):
        return cache
    if isinstance(cache, PageCache):
        return to_cache(cache)
    raise TypeError(f"cache must be a pagein.PageCache, not {type(cache).__name__}")
