"""The projects in which people read remote data read right through pagein, and download no byte twice.

Guarantees: real packages, over a real HTTP server in a process of its own; requests and bytes are what it has counted.
A project that is not installed is skipped: `pip install 'pagein[test-ecosystem]'` has them all, but PyTorch.
Not here: how many requests and bytes that are, beside plain fsspec (benchmarks/ecosystem.py, from the same cases).
"""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import fsspec
import pytest
from tests.ecosystem.cases import CASES, WORKERS, Case
from tests.ecosystem.doors import Door, LocalCopy

from pagein import PageCache, default
from pagein.testing.httpserver import RangeServerProcess, ServerStats
from pagein.testing.leaks import settle
from pagein.testing.stores import PATIENCE_S

pytestmark = pytest.mark.filterwarnings("default")  # the other projects' warnings are theirs

BY_EVERY_DOOR = [pytest.param(case, door, id=f"{case.title}, {door.title}") for case in CASES for door in case.doors]


@pytest.fixture(autouse=True)
def own_default_cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[PageCache]:
    """The cache of this process, for one test."""
    with PageCache("64 MiB") as cache:
        monkeypatch.setattr(default, "_cache", cache)
        yield cache
    fsspec.get_filesystem_class("pagein").clear_instance_cache()  # fsspec has them for ever


@pytest.mark.parametrize(("case", "door"), BY_EVERY_DOOR)
def test_it_reads_what_a_local_copy_has_and_downloads_no_byte_twice(
    case: Case, door: type[Door], tmp_path: Path, own_default_cache: PageCache
) -> None:
    for package in case.packages:
        pytest.importorskip(package)
    case.make(tmp_path, 1)
    files_bytes = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    truth = case.read(LocalCopy(str(tmp_path)))
    with RangeServerProcess(tmp_path) as server:
        remote = door(server.base_url)
        assert case.read(remote) == truth
        caches = 1 + WORKERS if case.in_processes else 1
        assert _fetched_bytes(server.stats()) <= caches * files_bytes
        if not case.in_processes:  # whose caches end with them
            assert settle(own_default_cache._zone, PATIENCE_S)  # what was ahead of the reader may still be on its way
            server.reset()
            assert case.read(remote) == truth
            assert _fetched_bytes(server.stats()) == 0


def _fetched_bytes(stats: ServerStats) -> int:
    """Of answers to requests for a range.  (Whether a file exists, fsspec finds out by asking for all of it, and hangs
    up: what has been sent by then is chance.)"""
    return sum(request.sent_bytes for request in stats.log if request.status == HTTPStatus.PARTIAL_CONTENT)
