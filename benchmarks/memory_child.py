"""The process that memory.py watches: read a file through a cache that is a quarter of it, and say how one grew.

    memory_child.py pagein|cachetools sequential|random FILE CAP_BYTES THREADS

Prints {"peak": bytes, "end": bytes}: the growth of its resident set since everything was loaded and the threads and
the cache had done a first read.  Peaks are the kernel's own (VmHWM), not samples.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import timing
from peers import CachetoolsBlocks
from workload import KIB, PAGE, SEED

from pagein import PageCache

Pread = Callable[[int, int], bytes]


class _FileAsBytes(bytes):
    """What `CachetoolsBlocks` slices: reads of the file."""

    fd: int

    def __getitem__(self, key: slice) -> bytes:  # type: ignore[override]
        return os.pread(self.fd, key.stop - key.start, key.start)


def _resident_bytes() -> dict[str, int]:
    with open("/proc/self/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return {name: int(fields[name].split()[0]) * KIB for name in ("VmHWM", "VmRSS", "RssAnon", "RssShmem")}


def _forget_peak() -> None:
    with open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")


def _pread(who: str, path: str, cap_bytes: int, closing: ExitStack) -> Pread:
    if who == "pagein":
        return closing.enter_context(closing.enter_context(PageCache(cap_bytes)).open(path)).pread
    data = _FileAsBytes()
    data.fd = os.open(path, os.O_RDONLY)
    closing.callback(os.close, data.fd)
    return CachetoolsBlocks(data, cap_bytes).pread


def _read_in_order(pread: Pread, file_bytes: int) -> None:
    for offset in range(0, file_bytes, 128 * KIB):
        pread(128 * KIB, offset)


def _read_at_random(pread: Pread, file_bytes: int, count: int, seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(count):
        pread(PAGE, draw.randrange(file_bytes // PAGE) * PAGE)


def main(who: str, pattern: str, path: str, cap: str, threads: str) -> None:
    file_bytes, thread_count = os.path.getsize(path), int(threads)
    with ExitStack() as closing:
        pread = _pread(who, path, int(cap), closing)
        timing.together([lambda: pread(PAGE, 0)] * thread_count)
        _forget_peak()
        before = _resident_bytes()
        if pattern == "sequential":
            work = [partial(_read_in_order, pread, file_bytes)] * thread_count
        else:  # as many reads as the file has pages, shared among the threads
            count = file_bytes // PAGE // thread_count
            work = [partial(_read_at_random, pread, file_bytes, count, SEED + seed) for seed in range(thread_count)]
        timing.together(work)
        after = _resident_bytes()
    growth = {
        "peak": after["VmHWM"] - before["VmRSS"],
        "end": sum(after[kind] - before[kind] for kind in ("RssAnon", "RssShmem")),
    }
    print(json.dumps(growth))


if __name__ == "__main__":
    main(*sys.argv[1:])
