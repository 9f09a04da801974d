"""Processes that write until they are killed: `python -m tests.writing.killed` starts one for each line it reads.

A line says which writer, a seed and a path.  What goes to standard output, in lines: ``pid N``; ``synced THREAD SEQ``
after each fsync; ``failed ...`` if it raised something; and ``ended STATUS``.  All started by `fork` from one process
that has imported everything, so that a start costs milliseconds.
Not here: who kills, and looks at what is left (test_kill.py).
"""

from __future__ import annotations

import os
import random
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, NamedTuple

from obstore.store import LocalStore

from pagein import PageCache
from pagein.testing.fsx.subjects import PlainHandle
from pagein.units import PAGE_SIZE

WORD_BYTES = 8
RECORD_BYTES = 125 * WORD_BYTES
"""Not a divisor of a page, so that records lie across pages."""
SLOTS = 200
CACHE_PAGES = 16
"""So that there is write-back for want of memory, too."""
OBJECT_RECORDS = 20


class Step(NamedTuple):
    """A record is written to a slot, or the file is cut to end there; and then perhaps it is fsynced."""

    seq: int
    slot: int
    cuts: bool
    fsyncs: bool


def steps(seed: int, thread: int, threads: int) -> Iterator[Step]:
    """What one writer does, without an end."""
    chance = random.Random(f"{seed} {thread}")
    for seq in count(1):
        slot = chance.randrange(SLOTS // threads) * threads + thread
        yield Step(seq, slot, threads == 1 and chance.random() < 0.05, chance.random() < 0.3)


def record(seq: int) -> bytes:
    return seq.to_bytes(WORD_BYTES, "little") * (RECORD_BYTES // WORD_BYTES)


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())  # one write: lines of threads do not mix


# -- writers ---------------------------------------------------------------------------------------------------


def write_slots(file: Any, seed: int, thread: int = 0, threads: int = 1) -> None:
    for step in steps(seed, thread, threads):
        if step.cuts:
            file.truncate(step.slot * RECORD_BYTES)
        else:
            file.pwrite(record(step.seq), step.slot * RECORD_BYTES)
        if step.fsyncs:
            file.fsync()
            say("synced", thread, step.seq)


def plain(seed: int, path: str) -> None:
    write_slots(PlainHandle(path, "r+b"), seed)


class _Liar:
    """Says that it has fsynced what it writes at the next fsync only."""

    def __init__(self, path: str) -> None:
        self._file = PlainHandle(path, "r+b")
        self._waiting: list[Callable[[], object]] = []
        self._late: list[Callable[[], object]] = []

    def pwrite(self, data: bytes, offset: int) -> None:
        self._waiting.append(partial(self._file.pwrite, data, offset))

    def truncate(self, size: int) -> None:
        self._waiting.append(partial(self._file.truncate, size))

    def fsync(self) -> None:
        for change in self._late:
            change()
        self._late, self._waiting = self._waiting, []
        self._file.fsync()


def liar(seed: int, path: str) -> None:
    write_slots(_Liar(path), seed)


def cached(seed: int, path: str) -> None:
    write_slots(PageCache(CACHE_PAGES * PAGE_SIZE).open(path, "r+b"), seed)


def threads(seed: int, path: str) -> None:
    """Three at once, of which two share their open file, all in the same pages."""
    cache = PageCache(CACHE_PAGES * PAGE_SIZE)
    shared = cache.open(path, "r+b")
    for number, file in enumerate((shared, shared, cache.open(path, "r+b"))):
        threading.Thread(target=_guarded, args=(write_slots, file, seed, number, 3), daemon=True).start()
    threading.Event().wait()


def whole_object(seed: int, path: str) -> None:
    """An object that is replaced as a whole, by one with the next number in all of its bytes."""
    source = LocalStore(os.path.dirname(path)), os.path.basename(path)
    file = PageCache(CACHE_PAGES * PAGE_SIZE).open(source, "r+b")
    order = list(range(OBJECT_RECORDS))
    for seq in count(1):
        random.Random(f"{seed} {seq}").shuffle(order)
        for slot in order:
            file.pwrite(record(seq), slot * RECORD_BYTES)
        file.fsync()
        say("synced", 0, seq)


WRITERS: dict[str, Callable[[int, str], None]] = {
    "plain": plain, "liar": liar, "cached": cached, "threads": threads, "whole_object": whole_object,
}  # fmt: skip


# -- the process that starts them ------------------------------------------------------------------------------


def _guarded(run: Callable[..., None], *arguments: Any) -> None:
    """Say what *run* raises, and end the process."""
    try:
        run(*arguments)
    except BaseException:
        with suppress(OSError):  # nobody listens any more
            say("failed", repr(traceback.format_exc()))
    finally:
        os._exit(1)


def serve() -> None:
    for line in sys.stdin:
        writer, seed, path = line.split()
        child = os.fork()
        if child == 0:
            say("pid", os.getpid())
            _guarded(WRITERS[writer], int(seed), path)
        _, status = os.waitpid(child, 0)
        say("ended", status)


if __name__ == "__main__":
    serve()
