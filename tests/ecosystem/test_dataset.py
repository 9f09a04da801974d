"""Four threads over one Parquet dataset download it once: whoever reads what, by whichever door, however often.

Not here: how long it takes, beside fsspec's caches (benchmarks/dataset.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import fsspec
import pytest
from tests.ecosystem.cases import MAKES
from tests.wire import UNREAD_BYTES_MAX

from pagein import PageCache
from pagein.testing.httpserver import RangeServerProcess

pq = pytest.importorskip("pyarrow.parquet")

FILES, ROW_GROUPS, THREADS, EPOCHS = 4, 10, 4, 2

OpenFile = Callable[[str], Any]
Sample = tuple[str, int]
"""A file, and a row group of it."""


def each_all_of_it(open_file: OpenFile, samples: list[Sample]) -> list[tuple[Sample, Any]]:
    return _by_threads(partial(_read, open_file, samples))


def a_data_loader(open_file: OpenFile, samples: list[Sample]) -> list[tuple[Sample, Any]]:
    found = []
    for epoch in range(EPOCHS):
        queue: SimpleQueue[Sample | None] = SimpleQueue()
        for sample in [*random.Random(epoch).sample(samples, len(samples)), *[None] * THREADS]:
            queue.put(sample)
        found += _by_threads(partial(_read_what_is_left, open_file, queue))
    return found


def _read_what_is_left(open_file: OpenFile, queue: SimpleQueue[Sample | None]) -> list[tuple[Sample, Any]]:
    return _read(open_file, iter(queue.get, None))


def _read(open_file: OpenFile, samples: Iterable[Sample | None]) -> list[tuple[Sample, Any]]:
    tables: dict[str, Any] = {}
    found = []
    with ExitStack() as files:
        for sample in samples:
            assert sample is not None
            name, group = sample
            if name not in tables:
                tables[name] = pq.ParquetFile(files.enter_context(open_file(name)))
            found.append((sample, tables[name].read_row_group(group, use_threads=False)))
    return found


def _by_threads(read: Callable[[], list[tuple[Sample, Any]]]) -> list[tuple[Sample, Any]]:
    with ThreadPoolExecutor(THREADS) as pool:
        return [one for future in [pool.submit(read) for _ in range(THREADS)] for one in future.result()]


@pytest.mark.parametrize("door", ["pagein.open", "pagein::"])
@pytest.mark.parametrize("way", [each_all_of_it, a_data_loader])
def test_four_threads_download_a_dataset_once(way: Any, door: str, tmp_path: Path) -> None:
    MAKES["part-0.parquet"](tmp_path, 1)
    samples = [(path.name, group) for path in sorted(tmp_path.iterdir()) for group in range(ROW_GROUPS)]
    truth = {(name, group): pq.ParquetFile(tmp_path / name).read_row_group(group) for name, group in samples}
    with RangeServerProcess(tmp_path) as server, PageCache("64 MiB") as cache:
        if door == "pagein::":
            filesystem = fsspec.filesystem("pagein", target_protocol="http", cache=cache)
            found = way(lambda name: filesystem.open(server.url(name)), samples)
        else:
            found = way(lambda name: cache.open(server.url(name)), samples)
        assert all(table.equals(truth[at]) for at, table in found)
        assert len(found) == len(samples) * (THREADS if way is each_all_of_it else EPOCHS)
        size_bytes = sum(path.stat().st_size for path in tmp_path.iterdir())
        # Of the first file that is opened more is asked for than its first bytes; nobody reads on there.
        assert size_bytes <= server.stats().sent_bytes <= size_bytes + UNREAD_BYTES_MAX
