"""The process that many_files.py watches: open many small Parquet files, keep them open, read each of them once.

    many_files_child.py WHO COUNT CAP_BYTES BASE_URL FILE

Prints JSON: the seconds of both, and of them those of its own threads; how its resident set had grown after each, when
the allocator has given back what nobody uses, and at the peak (the kernel's own); what the cache says of itself.
WHO: pagein; an fsspec cache; or "memory", for what pyarrow takes by itself.
"""

from __future__ import annotations

import ctypes
import gc
import io
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from memory_child import _forget_peak, _resident_bytes

from pagein import PageCache


def main(who: str, count: str, cap: str, base_url: str, path: str) -> None:
    pa.set_memory_pool(pa.system_memory_pool())  # which gives back what nobody uses
    open_file, cache = _opener(who, int(cap), Path(path).read_bytes())
    truth = pq.read_table(path)
    urls = [f"{base_url}/{number}.parquet" for number in range(int(count) + 1)]
    pq.ParquetFile(open_file(urls.pop())).read()  # what is made once: threads, connections
    gc.collect()
    _forget_peak()
    before = _in_use_bytes()
    start, cpu_start = perf_counter(), process_time()
    tables = [pq.ParquetFile(open_file(url)) for url in urls]
    opened_s, opened_cpu_s = perf_counter() - start, process_time() - cpu_start
    opened = _in_use_bytes()
    start, cpu_start = perf_counter(), process_time()
    wrong_count = sum(not table.read(use_threads=False).equals(truth) for table in tables)
    read_s, read_cpu_s = perf_counter() - start, process_time() - cpu_start
    peak, read = _resident_bytes()["VmHWM"], _in_use_bytes()
    told = {}
    if cache is not None:
        stats = cache.stats()
        told = {
            name: getattr(stats, name) for name in ("resident_bytes", "bookkeeping_bytes", "open_files", "evictions")
        }
    found = {
        "opened_s": opened_s,
        "read_s": read_s,
        "cpu_s": opened_cpu_s + read_cpu_s,
        "opened_bytes": opened - before,
        "read_bytes": read - before,
        "peak_bytes": peak - before,
        "wrong_count": wrong_count,
        "cache": told,
    }
    print(json.dumps(found))


def _in_use_bytes() -> int:
    """What is resident, without what the allocator holds for the next who asks: pyarrow leaves much of that, which
    depends on what lay where by chance."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    return _resident_bytes()["VmRSS"]


def _opener(who: str, cap_bytes: int, data: bytes) -> tuple[Callable[[str], Any], PageCache | None]:
    if who == "memory":
        return lambda _: io.BytesIO(data), None
    if who == "pagein":
        cache = PageCache(cap_bytes)
        return cache.open, cache
    return partial(fsspec.filesystem("http").open, cache_type=who), None


if __name__ == "__main__":
    main(*sys.argv[1:])
