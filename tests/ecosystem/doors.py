"""Ways to the same files: a local copy, plain fsspec over HTTP, and pagein over HTTP, by two doors.

Guarantees: a door can be sent to another process, and works there: with that process's own cache, connections and
event loop.
Not here: what is read (cases.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import fsspec
from fsspec import AbstractFileSystem

import pagein


@dataclass(frozen=True)
class Door:
    """The files below *base*: a directory, or the URL of one."""

    base: str

    def where(self, name: str) -> str:
        """The file's path, or URL, as `filesystem` knows it."""
        return f"{self.base}/{name}"

    def url(self, name: str) -> str:
        """By which `fsspec.open` opens it."""
        return self.where(name)

    def open(self, name: str) -> Any:
        raise NotImplementedError

    @property
    def filesystem(self) -> AbstractFileSystem:
        raise NotImplementedError

    def for_duckdb(self, connection: Any, name: str) -> str:
        """What *connection* knows the file by."""
        raise NotImplementedError


class LocalCopy(Door):
    """The truth."""

    def open(self, name: str) -> Any:
        return open(self.where(name), "rb")

    def for_duckdb(self, connection: Any, name: str) -> str:
        return self.where(name)

    @property
    def filesystem(self) -> AbstractFileSystem:
        return fsspec.filesystem("file")


class PlainFsspec(Door):
    """As most people read today: fsspec's defaults."""

    def open(self, name: str) -> Any:
        return self.filesystem.open(self.where(name))

    def for_duckdb(self, connection: Any, name: str) -> str:
        connection.register_filesystem(ForDuckDB(self.filesystem))
        return f"remote://{self.where(name)}"

    @property
    def filesystem(self) -> AbstractFileSystem:
        return fsspec.filesystem("http")


class Pagein(Door):
    """`pagein.open`, and the protocol ``pagein``, both through the process's own cache."""

    def url(self, name: str) -> str:
        return f"pagein::{self.where(name)}"

    def open(self, name: str) -> Any:
        return pagein.open(self.where(name))

    def for_duckdb(self, connection: Any, name: str) -> str:
        from pagein.integrations.duckdb import DuckDBFileSystem

        connection.register_filesystem(DuckDBFileSystem())
        return f"pagein://{self.where(name)}"

    @property
    def filesystem(self) -> AbstractFileSystem:
        return fsspec.filesystem("pagein", target_protocol="http")


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
