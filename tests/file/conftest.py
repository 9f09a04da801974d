"""Caches for the tests of File, with the contract's run-time checks on, and at rest before they are closed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.file.sources import DATA, SMALL_CACHE_BYTES, assert_nothing_left, file_of

from pagein import File, PageCache


@pytest.fixture
def cache() -> Iterator[PageCache]:
    """Room for everything."""
    yield from _checked(PageCache("16 MiB", debug=True))


@pytest.fixture
def small_cache() -> Iterator[PageCache]:
    """16 pages, so that every longer read evicts."""
    yield from _checked(PageCache(SMALL_CACHE_BYTES, debug=True))


@pytest.fixture
def small_file(small_cache: PageCache) -> File:
    """`DATA`, in the small cache."""
    return file_of(small_cache, DATA)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """`DATA`, on disk, for so long that its version is certain."""
    path = tmp_path / "file"
    path.write_bytes(DATA)
    os.utime(path, (1, 1))
    return path


def _checked(cache: PageCache) -> Iterator[PageCache]:
    with cache:
        yield cache
        assert_nothing_left(cache)
