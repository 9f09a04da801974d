"""What the tests of freshness look at: one object, of which they count what is asked, and a clock that they set."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Hashable
from typing import Any

import pytest

from pagein import File, PageCache
from pagein.errors import not_found, stale
from pagein.mm.sync import Door
from pagein.stores import RangeOperations
from pagein.stores.source import Opened
from pagein.testing.stores import Gate
from pagein.units import PAGE_SIZE

SIZE = 4 * PAGE_SIZE
AGE_S = 10


class Clock(Door):
    """Its time is what a test says."""

    def __init__(self) -> None:
        self.time_s = 1000.0

    def now_s(self) -> float:
        return self.time_s


class Place:
    """A store with one object.  `looks` counts how often it was asked what it is, `fetches` what was fetched."""

    name = "place"

    def __init__(self, *, has_look: bool = True, has_again: bool = True, has_validator: bool = True) -> None:
        self.key: Hashable = ("place", id(self))
        self.has_look, self.has_again, self.has_validator = has_look, has_again, has_validator
        self.version = 0
        self.size_bytes = SIZE
        self.is_there = True
        self.looks = 0
        self.fetches = 0
        self.opens = self.closes = 0
        self.error: OSError | None = None
        """What is raised when it is looked at."""
        self.gate: Gate | None = None
        """Where looks wait."""
        self._lock = threading.Lock()

    def source(self, path: str) -> Place:
        return self

    def put(self, version: int | None = None) -> None:
        """Another version."""
        self.version = self.version + 1 if version is None else version

    def open(self) -> Opened:
        return self.opened(self.asked())

    def asked(self) -> int:
        """The version as a request to the store finds it."""
        with self._lock:
            self.looks += 1
        version = self.version
        if self.gate is not None:
            self.gate.pass_through()
        if self.error is not None:
            raise self.error
        if not self.is_there:
            raise not_found(self.name)
        return version

    def opened(self, version: int) -> Opened:
        def look() -> Opened | None:
            now = self.asked()
            return None if now == version or not self.has_validator else self.opened(now)

        with self._lock:
            self.opens += 1
            told = f"{version}" if self.has_validator else f"{version}, opened {self.opens}"
        return Opened(
            Content(self, version),
            self.size_bytes,
            told,
            close=self.close,
            look=look if self.has_look else None,
            again=(lambda: self.opened(version)) if self.has_again else None,
            has_validator=self.has_validator,
        )

    def close(self) -> None:
        with self._lock:
            self.closes += 1


class Content(RangeOperations):
    """Every byte tells the version."""

    blocking = False

    def __init__(self, place: Place, version: int) -> None:
        self.place, self.version = place, version
        self.validates = place.has_validator

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        self.place.fetches += 1
        if self.place.version != self.version and self.place.has_validator:
            raise stale(self.place.name, was=str(self.version), now=str(self.place.version))
        buffer[:] = content(self.version, len(buffer))


def content(version: int, size_bytes: int = SIZE) -> bytes:
    return bytes([version % 256]) * size_bytes


def cache_with(revalidate: Any, clock: Clock | None = None) -> PageCache:
    return PageCache("16 MiB", debug=True, revalidate=revalidate, door=clock or Clock())


def open_file(cache: PageCache, source: Any, **options: Any) -> File:
    file = cache.open(source, "rb", **options)
    assert isinstance(file, File)
    return file


def read_once(cache: PageCache, source: Any, **options: Any) -> bytes:
    """All of it, by who opens it for that."""
    with open_file(cache, source, **options) as file:
        return file.read()


def errno_of(call: Callable[[], object]) -> str:
    """The errno of the OSError that it raises, by name."""
    with pytest.raises(OSError) as raised:  # the caller tests the errno
        call()
    assert raised.value.filename, "it names what it is about"
    return errno.errorcode[raised.value.errno or 0]
