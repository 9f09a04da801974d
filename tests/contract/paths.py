"""The ways through the core by which a page is had; most items of the contract must hold on each.

``read_page(subject, index)`` returns the bytes of one page up to the end of the file, leaves nothing locked, and
raises the store's own error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
from tests.contract.harness import RecordedLock, Subject

from pagein.mm import filemap
from pagein.mm.filemap import Fault, FaultFlags, FaultResult
from pagein.units import PAGE_SHIFT, PAGE_SIZE


class Path(NamedTuple):
    """One way."""

    name: str
    read_page: Callable[[Subject, int], bytes]
    asks: int = 1
    """How often a page is asked for, one after the other, until its error reaches the reader."""
    page_count: int = 1
    """How many pages it reads: those after the first are read for the sake of a run."""
    locks: bool = False
    """It reads with the page's lock in hand, and so does not wait for the page that it has asked for itself."""
    pins: bool = False
    """It pins the page while it reads."""
    end_error: type[BaseException] | None = None
    """What it raises for a page beyond the end, where it does not return nothing."""


class SegmentationFaultError(Exception):
    """SIGBUS without an error of the store: beyond the end of the file."""


def memory(subject: Subject, start: int, stop: int) -> bytes:
    """Copy bytes of the arena, as `filemap.read` asks for it."""
    data: bytes = subject.mapping.arena.memory[start:stop]
    return data


def by_read(subject: Subject, index: int) -> bytes:
    pieces = filemap.read(subject.open_file, index << PAGE_SHIFT, PAGE_SIZE, lambda a, b: memory(subject, a, b))
    return b"".join(pieces)


def by_run(subject: Subject, index: int) -> bytes:
    """Through readahead, and its fallback over readpage where the store has none."""
    pieces = filemap.read(subject.open_file, index << PAGE_SHIFT, 2 * PAGE_SIZE, lambda a, b: memory(subject, a, b))
    return b"".join(pieces)[:PAGE_SIZE]


def _served(subject: Subject, vmf: Fault, result: FaultResult) -> bytes:
    if result & FaultResult.SIGBUS:
        assert vmf.page is None
        raise vmf.error or SegmentationFaultError
    assert result & ~FaultResult.MAJOR == FaultResult.LOCKED
    page = vmf.page
    assert page is not None
    assert (page.index, page.page_count, page.locked, page.uptodate) == (vmf.index, 1, True, True)
    assert page.owner == subject.zone.door.thread_id()
    start = (subject.mapping.base + vmf.index) << PAGE_SHIFT
    stop = start + max(0, min(PAGE_SIZE, subject.mapping.i_size - (vmf.index << PAGE_SHIFT)))
    data = memory(subject, start, stop)
    page.unlock()
    return data


def by_fault(subject: Subject, index: int) -> bytes:
    """With the address-space lock kept."""
    lock = RecordedLock()
    vmf = Fault(subject.open_file, index, lock)
    result = filemap.fault(vmf)
    assert lock.held
    assert not lock.releases
    return _served(subject, vmf, result)


def by_retried_fault(subject: Subject, index: int) -> bytes:
    """With the address-space lock let go, so that the page is had at the second try."""
    lock = RecordedLock()
    vmf = Fault(subject.open_file, index, lock, FaultFlags.ALLOW_RETRY)
    result = filemap.fault(vmf)
    if result & FaultResult.RETRY:
        assert (lock.held, lock.releases, vmf.page) == (False, 1, None)
        lock.acquire()
        vmf.flags |= FaultFlags.TRIED
        result = filemap.fault(vmf)
        assert lock.releases == 1
    assert lock.held
    return _served(subject, vmf, result)


def by_read_cache_page(subject: Subject, index: int) -> bytes:
    pin = filemap.read_cache_page(subject.open_file, index)
    start = (subject.mapping.base + index) << PAGE_SHIFT
    stop = start + max(0, min(PAGE_SIZE, subject.mapping.i_size - (index << PAGE_SHIFT)))
    data = memory(subject, start, stop)
    pin.put()
    return data


def by_pread(subject: Subject, index: int) -> bytes:
    return subject.file.pread(PAGE_SIZE, index << PAGE_SHIFT)


def by_preadinto(subject: Subject, index: int) -> bytes:
    buffer = bytearray(PAGE_SIZE)
    count = subject.file.preadinto(buffer, index << PAGE_SHIFT)
    assert count <= PAGE_SIZE, "a code of readpage, leaked as a byte count"
    return bytes(buffer[:count])


def by_seek_and_read(subject: Subject, index: int) -> bytes:
    subject.file.seek(index << PAGE_SHIFT)
    return subject.file.read(PAGE_SIZE)


def by_view(subject: Subject, index: int) -> bytes:
    with subject.file.view(PAGE_SIZE, index << PAGE_SHIFT) as data:
        return bytes(data)


READ = Path("read", by_read)
RUN = Path("run", by_run, asks=2, page_count=2)
FAULT = Path("fault", by_fault, locks=True, end_error=SegmentationFaultError)
RETRIED_FAULT = Path("retried_fault", by_retried_fault, asks=2, locks=True, end_error=SegmentationFaultError)
READ_CACHE_PAGE = Path("read_cache_page", by_read_cache_page, pins=True, end_error=ValueError)
PREAD = Path("pread", by_pread)
VIEW = Path("view", by_view, pins=True)
PATHS = [
    READ, RUN, FAULT, RETRIED_FAULT, READ_CACHE_PAGE, PREAD,
    Path("preadinto", by_preadinto), Path("seek_and_read", by_seek_and_read), VIEW,
]  # fmt: skip

on_every_path = pytest.mark.parametrize("path", PATHS, ids=[path.name for path in PATHS])
on_unpinned_paths = pytest.mark.parametrize(
    "path", [path for path in PATHS if not path.pins], ids=[path.name for path in PATHS if not path.pins]
)
on_pinned_paths = pytest.mark.parametrize(
    "path", [path for path in PATHS if path.pins], ids=[path.name for path in PATHS if path.pins]
)
