"""The projects in which people read remote data read right through pagein, and download no byte twice.

Guarantees: real packages, over a real HTTP server in a process of its own; requests and bytes are what it has counted.
A project that is not installed is skipped: `pip install 'pagein[test-ecosystem]'` has them all, but PyTorch.
Not here: how many requests and bytes that are, beside plain fsspec (benchmarks/ecosystem.py, from the same cases).
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.ecosystem.cases import CASES, WORKERS, Case
from tests.ecosystem.doors import LocalCopy, Pagein

from pagein.testing.httpserver import RangeServerProcess, ServerStats

pytestmark = pytest.mark.filterwarnings("default")  # the other projects' warnings are theirs


@pytest.mark.parametrize("case", CASES, ids=[case.title for case in CASES])
def test_it_reads_what_a_local_copy_has_and_downloads_no_byte_twice(case: Case, tmp_path: Path) -> None:
    for package in case.packages:
        pytest.importorskip(package)
    if case.through_fsspec:
        pytest.importorskip("pagein.integrations.fsspec")
    case.make(tmp_path, 1)
    files_bytes = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    truth = case.read(LocalCopy(str(tmp_path)))
    with RangeServerProcess(tmp_path) as server:
        door = Pagein(server.base_url)
        assert case.read(door) == truth
        caches = 1 + WORKERS if case.in_processes else 1
        assert _fetched_bytes(server.stats()) <= caches * files_bytes
        server.reset()
        assert case.read(door) == truth
        if not case.in_processes:
            assert _fetched_bytes(server.stats()) == 0


def _fetched_bytes(stats: ServerStats) -> int:
    """Of answers to requests for a range.  (Whether a file exists, fsspec finds out by asking for all of it, and hangs
    up: what has been sent by then is chance.)"""
    return sum(request.sent_bytes for request in stats.log if request.range_start is not None)
