"""Stores: where pages come from.  `source_of` turns what a user writes into the source that it names.

A path is taken as `open` takes it.  What begins with a scheme is a URL: ``file:`` and ``http(s):`` are read here (the
latter by http.py, unless there are options that only obstore knows), obstore's schemes by obstore (object.py), every
other scheme, and chains (``zip://a.csv::s3://bucket/x.zip``), by fsspec.
Guarantees: no I/O, but that symbolic links of a local path are read; nothing is imported that is not needed.
Assumes: a path that looks like a URL is not meant as a path: write "./http:" for a directory of that name.
Not here: the schemes that obstore and fsspec share go to obstore even where only fsspec is installed, because
fsspec cannot check versions (fsspec.py); ``(filesystem, path)`` says otherwise.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Any

from ..errors import missing_extra, not_a_source, not_a_url, unknown_scheme
from .local import LocalSource, LocalStore as LocalStore
from .memory import MemoryStore as MemoryStore
from .ranges import (
    AsyncRangeOperations as AsyncRangeOperations,
    RangeOperations as RangeOperations,
    read_range as read_range,
)
from .source import Opened as Opened, Source as Source, Store as Store

OBJECT_SCHEMES = frozenset({"s3", "s3a", "gs", "gcs", "az", "adl", "azure", "abfs", "abfss", "http", "https"})
"""What obstore reads (obstore.parse_scheme); its file: and memory: are read by others here."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://|(file):(?!:)", re.IGNORECASE)
_CHAINING = re.compile(r"([a-z0-9_]+)::")


def source_of(source: Any, /, **store_options: Any) -> Source:
    """What *source* names: a path, a URL or chain of URLs, or (store, path).

    *store_options* go to obstore (`obstore.store.from_url`: ``endpoint``, ``client_options``, ``retry_config``, …)
    or to fsspec (the filesystem's storage options).
    Raises: TypeError, ValueError for what names nothing; OSError(EPROTONOSUPPORT) where a package is missing.
    """
    if isinstance(source, tuple):
        _refuse_options(store_options, "a store that is already made")
        return _source_in(source)
    if isinstance(source, str):
        return _source_of_text(source, store_options)
    if isinstance(source, bytes | os.PathLike):
        _refuse_options(store_options, "a path")
        return LocalSource(os.fsdecode(source))
    raise not_a_source(source)


def close_idle_connections() -> None:
    """Close those of our own HTTP client that nobody uses."""
    connections = sys.modules.get(f"{__name__}.http_connections")
    if connections is not None:
        connections.close_idle()


def _source_of_text(text: str, options: dict[str, Any]) -> Source:
    match = _SCHEME.match(text)
    scheme = (match[1] or match[2]).lower() if match else ""
    if scheme in OBJECT_SCHEMES:
        return _source_of_object(text, options)
    if scheme == "file":
        _refuse_options(options, "a path")
        return LocalSource(_path_of_file_url(text), name=text)
    if not scheme and (chaining := _CHAINING.match(text)) and _fsspec_knows(chaining[1]):
        scheme = chaining[1]
    if scheme:
        return _source_of_fsspec(text, scheme, options)
    _refuse_options(options, "a path")
    return LocalSource(text)


def _source_of_object(url: str, options: dict[str, Any]) -> Source:
    if options:
        from . import object_options

        options = object_options.checked(options, url)
    if url[:5].lower() in ("http:", "https"):
        from . import http, http_options

        known = http_options.options_of(options)
        if known is not None:
            return http.source_of_url(url, known)
    try:
        from . import object as object_store
    except ImportError as error:
        raise _without("obstore", error, url, extra="object") from error
    return object_store.source_of_url(url, options)


def _source_of_fsspec(url: str, scheme: str, options: dict[str, Any]) -> Source:
    try:
        from . import fsspec as fsspec_store
    except ImportError as error:
        raise _without("fsspec", error, url, extra="fsspec") from error
    if not fsspec_store.knows(scheme):
        raise unknown_scheme(url, scheme)
    return fsspec_store.source_of_url(url, options)


def _fsspec_knows(protocol: str) -> bool:
    try:
        from . import fsspec as fsspec_store
    except ImportError:
        return False
    return fsspec_store.knows(protocol)


def _source_in(pair: tuple[Any, ...]) -> Source:
    if len(pair) != 2 or not isinstance(pair[1], str | os.PathLike):
        raise not_a_source(pair)
    store, path = pair[0], os.fspath(pair[1])
    # A store of theirs means that their package is imported already: ours need not be asked for.
    if "obstore" in sys.modules:
        from . import clients, object as object_store

        if isinstance(store, clients.STORES):
            return object_store.source_in_store(store, path)
    if "fsspec" in sys.modules:
        from . import fsspec as fsspec_store

        if fsspec_store.is_filesystem(store):
            return fsspec_store.source_in_filesystem(store, path)
    if callable(getattr(store, "source", None)):
        source: Source = store.source(path)
        return source
    raise not_a_source(pair)


def _path_of_file_url(url: str) -> str:
    """RFC 8089: ``file:/path``, ``file:///path`` or ``file://localhost/path``, with %-escapes."""
    from urllib.parse import unquote_to_bytes, urlsplit  # half as much as all else that paths need

    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise not_a_url(url, f"a file: URL names a file of this machine, not of {parts.netloc.rpartition('@')[2]!r}")
    if parts.query or parts.fragment:
        raise not_a_url(url, "in a file: URL, '?' is written %3F and '#' is written %23")
    if not parts.path:
        raise not_a_url(url, "it names no path")
    return os.fsdecode(unquote_to_bytes(parts.path))


def _refuse_options(options: dict[str, Any], what: str) -> None:
    if options:
        raise TypeError(f"{what} takes no store options, not {', '.join(sorted(options))}")


def _without(package: str, error: ImportError, source: str, *, extra: str) -> Exception:
    """What to raise if *package* is not installed; an ImportError of anything else is a mistake, and stays."""
    return missing_extra(source, extra=extra) if (error.name or "").partition(".")[0] == package else error
