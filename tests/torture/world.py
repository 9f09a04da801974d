"""A cache over stores whose every fetch brings new content, with a scheduler, or the system, as its door."""

from __future__ import annotations

import errno
from collections.abc import Hashable
from types import TracebackType
from typing import Any

from tests.torture.stamps import Fetches

from pagein import File, PageCache
from pagein.inode import Inode
from pagein.mm.aops import AOP_TRUNCATED_PAGE, AOP_UPDATED_PAGE, AddressSpaceOperations
from pagein.mm.openfile import OpenFile
from pagein.mm.page import Page
from pagein.mm.rac import ReadaheadControl
from pagein.mm.sync import SYSTEM, Door
from pagein.stores.source import Opened, Source
from pagein.testing.leaks import leaks
from pagein.testing.schedule import Scheduler
from pagein.units import PAGE_SIZE

HALF = PAGE_SIZE // 2


class FetchError(OSError):
    """A fetch failed; it knows whose fetch it was."""

    def __init__(self, thread_id: int) -> None:
        super().__init__(errno.EIO, "injected")
        self.thread_id = thread_id


class StampStore(AddressSpaceOperations):
    """Fills a page in two halves, with a switch between them, as a slow store would.

    *failures*: how many of the first fetches fail; *truncations*: how many before them ask for another look-up.
    *asynchronous*: another thread ends the read, unless its caller would only wait for it.
    *run_pages*: how many pages `readahead` takes at a time, if any.
    """

    blocking = False

    uptodate_first = False
    """A wrong order (orders.py)."""

    def __init__(
        self,
        door: Door,
        fetches: Fetches,
        number: int = 0,
        *,
        failures: int = 0,
        truncations: int = 0,
        asynchronous: bool = False,
        run_pages: int = 0,
    ) -> None:
        self.number = number
        self.requests = 0
        self._door = door
        self._fetches = fetches
        self._failures_left = failures
        self._truncations_left = truncations
        self._asynchronous = asynchronous
        self._run_pages = run_pages

    def readpage(self, file: OpenFile, page: Page) -> int:
        self.requests += 1
        if self._truncations_left:
            self._truncations_left -= 1
            page.unlock()
            return AOP_TRUNCATED_PAGE
        thread_id = self._door.thread_id()
        if self._asynchronous and not page.caller_waits:
            self._door.start_thread("store", lambda: self._end(page, thread_id))
            return 0
        self._fail_if_due(thread_id)
        if self.uptodate_first:
            page.set_uptodate()
        self._fill(page)
        page.set_uptodate()
        return AOP_UPDATED_PAGE

    def readahead(self, rac: ReadaheadControl) -> None:
        if not self._run_pages:
            super().readahead(rac)
            return
        thread_id = self._door.thread_id()
        while rac.page_count:
            page = rac.take(self._run_pages)
            if self._asynchronous and not page.caller_waits:
                self._door.start_thread("store", lambda page=page: self._end(page, thread_id))  # type: ignore[misc]
            else:
                self._fail_if_due(thread_id)
                self._fill(page)
                page.end_read()

    def _end(self, page: Page, thread_id: int) -> None:
        if self._is_failure_due():
            page.end_read(FetchError(thread_id))
        else:
            self._fill(page)
            page.end_read()

    def _fail_if_due(self, thread_id: int) -> None:
        if self._is_failure_due():
            raise FetchError(thread_id)

    def _is_failure_due(self) -> bool:
        self._failures_left -= 1
        return self._failures_left >= 0

    def _fill(self, page: Page) -> None:
        indices = range(page.index, page.index + page.page_count)
        content, buffer = b"".join(self._fetches.page(self.number, index) for index in indices), page.buffer
        half = min(HALF, len(buffer))
        buffer[:half] = content[:half]
        if isinstance(self._door, Scheduler):
            self._door.switch("with half a page filled")
        buffer[half:] = content[half : len(buffer)]


class World:
    """A cache of *cap_pages*, and files in it.  Used as a context manager, which closes it."""

    def __init__(self, door: Door = SYSTEM, *, cap_pages: int = 8, debug: bool = False) -> None:
        self.door = door
        self.cache = PageCache(cap_pages * PAGE_SIZE, door=door, debug=debug)
        self.zone = self.cache._zone
        self.fetches = Fetches()

    def inode(self, number: int = 0, *, pages: float = 1, **options: Any) -> tuple[Inode, StampStore]:
        """File *number*, of *pages* pages, and its store; *options* as for `StampStore`."""
        store = StampStore(self.door, self.fetches, number, **options)
        return self.cache.inode(store, size_bytes=int(pages * PAGE_SIZE)), store

    def open(self, number: int = 0, *, pages: float = 1, **options: Any) -> tuple[File, StampStore]:
        """As `inode`, open."""
        inode, store = self.inode(number, pages=pages, **options)
        return inode.open(), store

    def assert_unlocked(self) -> None:
        """Nothing is locked, waited for, reserved or pinned."""
        zone = self.zone
        assert not zone.locked
        assert not zone.reserved_pages
        assert not zone.memory_waiters
        assert not any(arena.pins.spans() for arena in zone.arenas.values())

    def assert_idle(self) -> None:
        """Also, every charged page is one that is there, and no memory is taken beyond them."""
        left = leaks(self.zone)
        assert not left, left

    def __enter__(self) -> World:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:  # else a task that failed may hold the locks that close() takes
            self.cache.close()


class StampSource:
    """A store with one object of one page, whose version never changes."""

    def __init__(self, door: Door, fetches: Fetches) -> None:
        self.key: Hashable = self
        self.name = "object"
        self.open_count = 0
        self._door = door
        self._fetches = fetches

    def source(self, path: str) -> Source:
        return self

    def open(self) -> Opened:
        self.open_count += 1
        return Opened(StampStore(self._door, self._fetches), PAGE_SIZE, "1", close=self._close)

    def _close(self) -> None:
        self.open_count -= 1
