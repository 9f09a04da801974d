"""Exercises of reading: pages alone, runs of pages, the end of the file, threads that must not wait.

Assumes: each exercise has a `Rig` of its own; what the probe sees in single calls it records itself.
"""

from __future__ import annotations

from typing import Any

from ...cache import PageCache
from ...file import File
from ...mm.aops import AddressSpaceOperations
from ...units import PAGE_SIZE
from .bytes_seen import describe, never_written
from .record import where_raised
from .rig import NotApplicable, Rig

POISONS = (0xA5, 0x5A)
PROMPT_ROUNDS = 8
PROMPT_S = 0.01
"""An operation that waits for longer each time is one that blocks."""
BEYOND_PAGES = 2

AT_THE_END = {"R8": "E1", "R9": "E1", "R10": "E1", "R15": "E1", "A3": "E1"}
"""What goes wrong only in the last page, which is short."""


def attributes(rig: Rig) -> None:
    """What operations say of themselves."""
    ops = rig.open().inner
    where = f"class {type(ops).__name__}"
    for name in ("blocking", "readers_call", "writable", "commits", "validates"):
        value = getattr(ops, name)
        if not isinstance(value, bool):
            rig.record.breach("D1", f"{name} is {value!r}, not a bool", where)
    for name, least, may_be_none in (
        ("requests_max", 1, False),
        ("write_bytes_max", PAGE_SIZE, False),
        ("object_bytes_max", 0, True),
    ):
        value = getattr(ops, name)
        if not (value is None and may_be_none) and not (isinstance(value, int) and value >= least):
            rig.record.breach("D1", f"{name} is {value!r}, not an int of {least} or more", where)
    if not isinstance(ops.device_name, str):
        rig.record.breach("D1", f"device_name is {ops.device_name!r}, not a str", where)
    device_keys(rig, ops, where)


def device_keys(rig: Rig, of: Any, where: str) -> None:
    """What operations say of their store, or a source: asked twice."""
    where = f"{where}, device_key"
    with rig.record.call(where):
        try:
            keys = [of.device_key for _ in range(2)]
            differ = len(set(keys)) > 1
        except TypeError as error:
            rig.record.breach("D2", f"{error}", where)
        except Exception as error:
            rig.record.breach("D2", f"it raised {where_raised(error)}", where)
        else:
            if differ:
                rig.record.breach("D2", f"it was {keys[0]!r}, then {keys[1]!r}", where)


def pages_alone(rig: Rig) -> None:
    """Each page by itself, twice, with something else in its memory before."""
    rig.open_to_read()
    first: dict[int, bytes] = {}
    with rig.cache() as cache, rig.file(cache) as file:
        file.advise("random")
        for poison in POISONS:
            rig.record.poison = poison
            for index in rig.sample():
                at_end = rig.has_short_page and index == rig.page_count - 1 and index > 0
                rig.record.renamed = AT_THE_END if at_end else {}
                data = _read(rig, file, index)
                if index in first:
                    _compare_rounds(rig, index, first[index], data)
                else:
                    first[index] = data
            _drop(rig, cache)
        rig.record.renamed = {}
    _compare_all(rig, first)
    rig.baseline.update(first)


def _read(rig: Rig, file: File, index: int, pages: int = 1) -> bytes:
    size = min(pages * PAGE_SIZE, rig.size_bytes - index * PAGE_SIZE)
    try:
        data = file.pread(size, index * PAGE_SIZE)
    except OSError as error:
        rig.stop_if_breached()
        seen = f"it failed with {rig.why(error)}"
        rig.fail("R15", seen, f"reading page {index}" if pages == 1 else f"reading from page {index}")
    rig.stop_if_breached()
    return data


def _drop(rig: Rig, cache: PageCache) -> None:
    cache.drop()
    rig.stop_if_breached()


def _compare_rounds(rig: Rig, index: int, one: bytes, other: bytes) -> None:
    where = f"page {index}"
    if (at := never_written(one, POISONS[0], other, POISONS[1])) >= 0:
        count = sum(got == POISONS[1] for got in other[at:])
        text = f"bytes from {at} on ({count} of {len(other)}) were not written before the page was Uptodate"
        rig.fail("R9", text, where)
    if other.count(POISONS[1]) == len(other) != one.count(POISONS[0]):
        rig.fail("R11", "when it was asked for again, nothing of it was written", where)
    if one != other:
        rig.fail("R10", f"read twice: {describe(other, one, index * PAGE_SIZE, rig.content)}", where)


def _compare_all(rig: Rig, pages: dict[int, bytes]) -> None:
    for index, data in pages.items():
        wanted = rig.expected(index)
        if wanted is not None and data != wanted:
            at_end = rig.has_short_page and index == rig.page_count - 1 and index > 0
            seen = describe(data, wanted, index * PAGE_SIZE, rig.content)
            rig.fail("E1" if at_end else "R10", seen, f"page {index}")


def runs(rig: Rig) -> None:
    """Several pages at once, by readahead; then with the last page."""
    ops = rig.open_to_read().inner
    if type(ops).readahead is AddressSpaceOperations.readahead:
        raise NotApplicable("it has no readahead of its own")
    count = min(rig.page_count, 64)
    if count < 2:
        raise NotApplicable("the file has only one page")
    rig.record.renamed = {"R9": "A3", "R10": "A3", "R15": "A3"}
    ends = [count - 1, count] if count == rig.page_count and rig.has_short_page and count > 2 else [count]
    for end in ends:
        if len(ends) == 2 and end == count:
            rig.record.renamed = AT_THE_END
        for poison in POISONS:
            rig.record.poison = poison
            with rig.cache() as cache, rig.file(cache) as file:
                data = _read(rig, file, 0, end)
                _check_run(rig, data)
                _drop(rig, cache)
                file.advise("willneed", 0, rig.size_bytes)
                _check_run(rig, _read(rig, file, 0, end))
                _drop(rig, cache)


def _check_run(rig: Rig, data: bytes) -> None:
    for index in range(-(-len(data) // PAGE_SIZE)):
        got, wanted = data[index * PAGE_SIZE : (index + 1) * PAGE_SIZE], rig.expected(index)
        if wanted is None or got == wanted:
            continue
        forgotten = len(got) - len(got.rstrip(bytes([rig.record.poison])))
        seen = describe(got, wanted, index * PAGE_SIZE, rig.content)
        if forgotten:
            seen = f"the last {forgotten} bytes were not written before the page was Uptodate; {seen}"
        rig.fail("A3", seen, f"readahead, page {index}")


def promptness(rig: Rig) -> None:
    """How long operations that say that they do not block keep their thread."""
    ops = rig.open_to_read().inner
    if ops.blocking:
        raise NotApplicable("its operations say that they block")
    with rig.cache() as cache, rig.file(cache) as file:
        file.advise("random")
        for turn in range(PROMPT_ROUNDS):
            if ops.readers_call:  # else a reader would call it, for whom it may wait
                file.advise("willneed", 0, 2 * PAGE_SIZE)
            _read(rig, file, turn % rig.page_count)
            _drop(rig, cache)
    if rig.record.waits_s and (least_s := min(rig.record.waits_s)) > PROMPT_S:
        calls = len(rig.record.waits_s)
        rig.fail("D3", f"each of {calls} calls kept its thread waiting for {least_s * 1000:.0f} ms or more", "readpage")


def beyond(rig: Rig) -> None:
    """What the store answers if it has less than the cache was told."""
    rig.open_to_read()
    longer = (rig.page_count + BEYOND_PAGES) * PAGE_SIZE
    rig.record.renamed = {"R8": "E3", "R9": "E2", "R10": "E2"}
    got: list[bytes] = []
    index = rig.page_count
    with rig.record.during("behind the end of the file"):
        for poison in POISONS:
            rig.record.poison = poison
            got += _read_beyond(rig, index, longer)
        if len(got) == 2 and (at := never_written(got[0], POISONS[0], got[1], POISONS[1])) >= 0:
            rig.fail("E2", f"it brought a page, of which bytes from {at} on were never written", f"page {index}")


def _read_beyond(rig: Rig, index: int, longer: int) -> list[bytes]:
    got: list[bytes] = []
    with rig.cache() as cache, rig.file(cache, size_bytes=longer) as file:
        file.advise("random")
        try:
            got.append(file.pread(PAGE_SIZE, index * PAGE_SIZE))
        except Exception:  # which is right, or on record
            rig.stop_if_breached()
        try:
            file.advise("normal")
            file.pread(BEYOND_PAGES * PAGE_SIZE, index * PAGE_SIZE)
        except Exception:
            rig.stop_if_breached()
    return got
