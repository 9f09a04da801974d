"""What the tests of File read: bytes whose fetches a test can count, hold and let fail.

Not here: stores that bend the contract of readpage (pagein.testing.stores); these keep it.
"""

from __future__ import annotations

import ctypes
import os
import random
import threading
from collections.abc import Callable
from typing import Any

from pagein import File, Inode, PageCache
from pagein.mm.aops import AddressSpaceOperations
from pagein.stores import MemoryStore, RangeOperations
from pagein.testing import FaultyStore, leaks
from pagein.units import PAGE_SIZE

TIMEOUT_S = 30.0  # after which a wait of a test has failed

SMALL_PAGES = 16
SMALL_CACHE_BYTES = SMALL_PAGES * PAGE_SIZE

DATA = random.Random(7).randbytes(40 * PAGE_SIZE + 123)  # of most files here: 41 pages, more than the small cache has
EDGES = [0, 1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, SMALL_CACHE_BYTES, len(DATA) - 1, len(DATA), len(DATA) + 1]
"""Sizes and offsets of *DATA* where something begins or ends."""


class Bytes(RangeOperations):
    """Bytes in memory, which an I/O worker fetches."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        buffer[:] = self.data[offset_bytes : offset_bytes + len(buffer)]


def operations_of(data: bytes) -> tuple[AddressSpaceOperations, FaultyStore]:
    """Operations that bring *data*, and who says how well."""
    store = FaultyStore(MemoryStore())
    return store.operations(Bytes(data)), store


def inode_of(cache: PageCache, data: bytes) -> tuple[Inode, FaultyStore]:
    ops, store = operations_of(data)
    return cache.inode(ops, size_bytes=len(data), name="scripted"), store


def fetches(store: FaultyStore) -> list[tuple[int, int]]:
    """(offset, size) in bytes of what it was asked for."""
    return [(request.offset_bytes, request.size_bytes) for request in store.requests]


def file_of(cache: PageCache, data: bytes) -> File:
    return binary(inode_of(cache, data)[0].open())


def binary(file: object) -> File:
    """What `open` returned for a binary mode."""
    assert isinstance(file, File)
    return file


def lines_of_all_lengths(size_bytes: int, *, seed: int) -> bytes:
    """Bytes with empty lines, lines of a few bytes, and lines of several pages."""
    rng = random.Random(seed)
    made = bytearray()
    while len(made) < size_bytes:
        made += rng.randbytes(rng.choice((0, 0, 1, 7, 80, 80, 3000, 4095, 4096, 20_000))).replace(b"\n", b"\r")
        made += b"\n"
    return bytes(made[:size_bytes])


Outcome = tuple[str, Any, Any]


def outcome_of(call: Callable[[], object]) -> Outcome:
    """What a call returned, or how it failed: the type of the exception and its errno, but not its words."""
    try:
        return "returned", call(), None
    except StopIteration:
        return "stopped", None, None
    except Exception as error:
        return "raised", type(error), getattr(error, "errno", None)


def run_in_threads(calls: list[Callable[[], Any]]) -> list[Any]:
    """The results of calls that run at the same time; raises what the first of them raised."""
    results: list[Any] = [None] * len(calls)
    errors: list[BaseException] = []
    start = threading.Barrier(len(calls))

    def run(number: int) -> None:
        try:
            start.wait(TIMEOUT_S)
            results[number] = calls[number]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]
    return results


def no_items() -> Any:
    """As an array of numpy's of the shape (0, 3): a loop over parts of something may come to one."""
    return (ctypes.c_char * 3 * 0)()


def pinned_spans(cache: PageCache) -> list[tuple[int, int]]:
    return [span for arena in cache._zone.arenas.values() for span in arena.pins.spans()]


def charged_pages(cache: PageCache) -> int:
    return cache._zone.charged_pages


def open_fds() -> set[str]:
    return {f"{name} {target_of(name)}" for name in os.listdir("/proc/self/fd") if target_of(name)}


def target_of(fd: str) -> str:
    try:
        target = os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:  # the descriptor that listed them
        return ""
    return "" if target == f"/proc/{os.getpid()}/fd" else target


def assert_nothing_left(cache: PageCache) -> None:
    leaks.assert_nothing_left(cache._zone, settle_s=TIMEOUT_S)
