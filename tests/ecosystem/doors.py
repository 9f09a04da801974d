"""Ways to the same files: a local copy, plain fsspec or obstore over HTTP, and pagein over HTTP, by three doors.

Guarantees: a door can be sent to another process, and works there: with that process's own cache, connections and
event loop.
Not here: what is read (cases.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, ClassVar

import fsspec
from fsspec import AbstractFileSystem

import pagein


@dataclass(frozen=True)
class Door:
    """The files below *base*: a directory, or the URL of one."""

    base: str
    title: ClassVar[str]

    def where(self, name: str) -> str:
        """The file's path, or URL, as `filesystem` knows it."""
        return f"{self.base}/{name}"

    def url(self, name: str) -> str:
        """By which `fsspec.open` opens it."""
        return self.where(name)

    def open(self, name: str) -> Any:
        return self.filesystem.open(self.where(name))

    @contextmanager
    def given(self, name: str) -> Iterator[Any]:
        """What a project is given that takes files and URLs alike: the one that its users would write."""
        with self.open(name) as file:
            yield file

    @property
    def filesystem(self) -> AbstractFileSystem:
        raise NotImplementedError

    def zarr_store(self, name: str) -> Any:
        """A zarr store of what is below *name*."""
        from zarr.storage import FsspecStore

        return FsspecStore(_asynchronous(self.filesystem), path=self.where(name), read_only=True)

    def registry(self) -> tuple[Any, str]:
        """A registry of obspec-utils' that has the store of these files, and the URL of their directory in it."""
        from obspec_utils.registry import ObjectStoreRegistry

        return ObjectStoreRegistry({self.base: self.store()}), self.base

    def store(self) -> Any:
        """A store, as obspec has them, of the files below `base`."""
        raise NotImplementedError

    def for_duckdb(self, connection: Any, name: str) -> str:
        """What *connection* knows the file by."""
        raise NotImplementedError


class LocalCopy(Door):
    """The truth."""

    title = "a local copy"

    def registry(self) -> tuple[Any, str]:
        from obspec_utils.registry import ObjectStoreRegistry
        from obstore.store import LocalStore

        return ObjectStoreRegistry({"file://": LocalStore()}), f"file://{self.base}"

    def for_duckdb(self, connection: Any, name: str) -> str:
        return self.where(name)

    @property
    def filesystem(self) -> AbstractFileSystem:
        return fsspec.filesystem("file")


class PlainFsspec(Door):
    """As most people read today: fsspec's defaults."""

    title = "plain fsspec"

    def for_duckdb(self, connection: Any, name: str) -> str:
        connection.register_filesystem(ForDuckDB(self.filesystem))
        return f"remote://{self.where(name)}"

    @property
    def filesystem(self) -> AbstractFileSystem:
        return fsspec.filesystem("http")


class PageinFiles(Door):
    """`pagein.open`, through the process's own cache, for whoever takes files."""

    title = "`pagein.open`"

    def open(self, name: str) -> Any:
        return pagein.open(self.where(name))

    def for_duckdb(self, connection: Any, name: str) -> str:
        from pagein.integrations.duckdb import DuckDBFileSystem

        connection.register_filesystem(DuckDBFileSystem())
        return f"pagein://{self.where(name)}"


class PageinProtocol(Door):
    """fsspec's protocol ``pagein``, through the process's own cache, for whoever takes URLs or filesystems."""

    title = "`pagein::`"

    def url(self, name: str) -> str:
        return f"pagein::{self.where(name)}"

    def open(self, name: str) -> Any:
        return fsspec.open(self.url(name)).open()

    @contextmanager
    def given(self, name: str) -> Iterator[Any]:
        yield self.url(name)

    def for_duckdb(self, connection: Any, name: str) -> str:
        from pagein.integrations.duckdb import DuckDBFileSystem

        connection.register_filesystem(DuckDBFileSystem(fs=self.filesystem))
        return f"pagein://{self.where(name)}"

    @property
    def filesystem(self) -> AbstractFileSystem:
        return fsspec.filesystem("pagein", target_protocol="http")


class PlainObstore(Door):
    """obstore without a cache, as zarr takes it."""

    title = "plain obstore"

    def zarr_store(self, name: str) -> Any:
        from zarr.storage import ObjectStore

        return ObjectStore(_http_store(self.where(name)), read_only=True)

    def store(self) -> Any:
        return _http_store(self.base)


class PageinStore(PlainObstore):
    """`CachedStore` over the same store."""

    title = "`CachedStore`"

    def zarr_store(self, name: str) -> Any:
        from pagein.integrations.zarr import ObjectStore

        return ObjectStore(_cached_store(self.where(name)), read_only=True)

    def store(self) -> Any:
        return _cached_store(self.base)


def _http_store(url: str) -> Any:
    from obstore.store import HTTPStore

    return HTTPStore.from_url(url, client_options={"allow_http": True})


@cache
def _cached_store(url: str) -> Any:
    """One for all who read there: another would ask anew which objects there are."""
    from pagein.integrations.obspec import CachedStore

    return CachedStore(_http_store(url))


def _asynchronous(filesystem: Any) -> Any:
    """zarr takes nothing else."""
    from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

    if not filesystem.async_impl:
        return AsyncFileSystemWrapper(filesystem, asynchronous=True)
    options = {**filesystem.storage_options, "asynchronous": True}
    return type(filesystem)(*filesystem.storage_args, **options)


class ForDuckDB(AbstractFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """A filesystem of fsspec's as DuckDB takes it: it wants names with one protocol, and to know when a file was
    modified, which not every filesystem can say."""

    protocol = "remote"
    cachable = False

    def __init__(self, fs: AbstractFileSystem) -> None:
        super().__init__()
        self.fs = fs

    def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        return self.fs.open(path, mode)

    def info(self, path: str, **_: Any) -> Any:
        return self.fs.info(self._strip_protocol(path))

    def glob(self, path: str, **_: Any) -> list[str]:
        return [self._strip_protocol(path)]

    def modified(self, path: str) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC)
