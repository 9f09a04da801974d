"""pagein: a page cache for Python.  Put any storage behind it and read it as files.

with pagein.open("https://host/data.parquet") as file:
    file.read(100)
"""

from __future__ import annotations

import importlib
import io
from typing import TYPE_CHECKING, Any, overload

from .cache import PageCache as PageCache
from .default import default_cache as default_cache
from .errors import ContractViolation as ContractViolation, UnwrittenDataError as UnwrittenDataError, not_a_cache
from .file import File as File
from .inode import Inode as Inode
from .mm.aops import (
    AOP_TRUNCATED_PAGE as AOP_TRUNCATED_PAGE,
    AOP_UPDATED_PAGE as AOP_UPDATED_PAGE,
    AOP_WRITEPAGE_ACTIVATE as AOP_WRITEPAGE_ACTIVATE,
    AddressSpaceOperations as AddressSpaceOperations,
)
from .stores.ranges import AsyncRangeOperations as AsyncRangeOperations, RangeOperations as RangeOperations

__all__ = [
    "AOP_TRUNCATED_PAGE", "AOP_UPDATED_PAGE", "AOP_WRITEPAGE_ACTIVATE", "AddressSpaceOperations",
    "AsyncRangeOperations", "CacheStats", "ContractViolation", "File", "Inode", "PageCache", "RangeOperations",
    "StoreStats", "UnwrittenDataError", "aio", "default_cache", "open", "publish",
]  # fmt: skip

if TYPE_CHECKING:
    from _typeshed import OpenBinaryMode, OpenTextMode

    from . import aio as aio
    from .stats import CacheStats as CacheStats, StoreStats as StoreStats


if not TYPE_CHECKING:  # or every misspelt name would pass

    def __getattr__(name: str) -> Any:
        """What brings modules with it that most programs do not need is imported when it is first named: asyncio, with
        ``pagein.aio``, and dataclasses, with the statistics."""
        if name == "aio":
            return importlib.import_module(".aio", __name__)
        if name in ("CacheStats", "StoreStats"):
            return getattr(importlib.import_module(".stats", __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@overload
def open(source: Any, mode: OpenBinaryMode = "rb", *, cache: PageCache | None = None, **store_options: Any) -> File: ...
@overload
def open(
    source: Any,
    mode: OpenTextMode,
    *,
    cache: PageCache | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    **store_options: Any,
) -> io.TextIOWrapper: ...
@overload
def open(
    source: Any,
    mode: str,
    *,
    cache: PageCache | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    **store_options: Any,
) -> File | io.TextIOWrapper: ...
def open(
    source: Any,
    mode: str = "rb",
    *,
    cache: PageCache | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    **store_options: Any,
) -> File | io.TextIOWrapper:
    """Open *source* through *cache*, by default the process's own: see `PageCache.open`."""
    if cache is None:
        cache = default_cache()
        try:
            return cache.open(source, mode, encoding=encoding, errors=errors, newline=newline, **store_options)
        except ValueError:  # another thread may have closed it since
            if not cache._table.is_over or "x" in mode:  # what may have been created is not there to be created again
                raise
        cache = default_cache()
    elif not isinstance(cache, PageCache):
        raise not_a_cache(cache)
    return cache.open(source, mode, encoding=encoding, errors=errors, newline=newline, **store_options)


def publish() -> str:
    """Let ``pagein top`` see the caches of this process from now on; return where its socket is.

    Only the same user can look.  PAGEIN_TOP=1 in the environment does the same.  Raises: OSError.
    """
    from . import publishing

    return publishing.publish()
