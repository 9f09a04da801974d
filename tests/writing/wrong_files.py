"""A small write-back cache of one file, which is right, and many that are wrong, each in one way.

An exerciser must find each of those, and nothing in the right one.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from pagein.units import PAGE_SIZE, page_count_for

GAP_S = 0.02
"""So long a thread leaves a gap open, if no other comes into it."""


class SmallCache:
    """All pages are kept until `drop`; all calls take turns."""

    fails = False

    def __init__(self) -> None:
        self.store = bytearray()
        self.pages: dict[int, bytearray] = {}
        self.dirty: set[int] = set()
        self.size = 0
        self.lock = threading.RLock()
        self.comers = 0
        self.coming = threading.Condition()

    # -- a subject -------------------------------------------------------------------------------------------

    def open(self, mode: str) -> Any:
        return SmallHandle(self, appends=mode == "ab")

    def stored(self) -> bytes:
        return bytes(self.store)

    def drop(self) -> None:
        with self.lock:
            self.pages = {index: page for index, page in self.pages.items() if index in self.dirty}

    def sync(self) -> None:
        with self.lock:
            for index in sorted(self.dirty):
                self.write_back(index)
            self.dirty.clear()
            self.set_store_size()

    def close(self) -> None:
        self.sync()

    def clean_up(self) -> None:
        pass

    # -- pages -----------------------------------------------------------------------------------------------

    def page(self, index: int) -> bytearray:
        if index not in self.pages:
            data = self.store[index * PAGE_SIZE : (index + 1) * PAGE_SIZE]
            self.pages[index] = bytearray(data.ljust(PAGE_SIZE, b"\0"))
        return self.pages[index]

    def write_back(self, index: int) -> None:
        start = index * PAGE_SIZE
        data = self.pages[index][: max(0, self.size - start)]
        self.store.extend(bytes(max(0, start - len(self.store))))
        self.store[start : start + len(data)] = data

    def set_store_size(self) -> None:
        del self.store[self.size :]
        self.store.extend(bytes(self.size - len(self.store)))

    def read(self, size: int, offset: int) -> bytes:
        with self.lock:
            stop = min(offset + size, self.size)
            if stop <= offset:
                return b""
            first = offset // PAGE_SIZE
            data = b"".join(self.page(index) for index in range(first, page_count_for(stop)))
            return data[offset - first * PAGE_SIZE : stop - first * PAGE_SIZE]

    def view(self, size: int, offset: int) -> memoryview:
        return memoryview(self.read(size, offset))

    def write(self, data: bytes, offset: int) -> int:
        with self.lock:
            self.fill(data, offset)
            if data:
                self.size = max(self.size, offset + len(data))
            return len(data)

    def write_directly(self, data: bytes, offset: int) -> int:
        with self.lock:
            stop = offset + len(data)
            if data:
                self.sync()
                self.forget(range(offset // PAGE_SIZE, page_count_for(stop)))
                self.store.extend(bytes(max(0, stop - len(self.store))))
                self.store[offset:stop] = data
                self.size = max(self.size, stop)
            return len(data)

    def forget(self, indices: range) -> None:
        for index in indices:
            self.pages.pop(index, None)

    def discard(self) -> int:
        with self.lock:
            self.pages.clear()
            self.dirty.clear()
            self.size = len(self.store)
            return 0

    def fill(self, data: bytes, offset: int) -> None:
        done = 0
        while done < len(data):
            index, at = divmod(offset + done, PAGE_SIZE)
            count = min(len(data) - done, PAGE_SIZE - at)
            self.change(index, at, data[done : done + count])
            done += count

    def change(self, index: int, at: int, data: bytes) -> None:
        self.page(index)[at : at + len(data)] = data
        self.dirty.add(index)

    def until_another_comes(self) -> None:
        """Let another thread into a gap, if there is one."""
        with self.coming:
            self.comers += 1
            before = self.comers
            self.coming.notify_all()
            self.coming.wait_for(lambda: self.comers != before, GAP_S)

    def append(self, data: bytes) -> int:
        with self.lock:
            return self.write(data, self.size)

    def truncate(self, size: int) -> int:
        with self.lock:
            if size < self.size:
                self.forget_from(size)
                self.zero_tail(size)
                del self.store[size:]
            self.size = size
            return size

    def forget_from(self, size: int) -> None:
        for index in [index for index in self.pages if index >= page_count_for(size)]:
            del self.pages[index]
            self.dirty.discard(index)

    def zero_tail(self, size: int) -> None:
        if size % PAGE_SIZE and (page := self.pages.get(size // PAGE_SIZE)):
            page[size % PAGE_SIZE :] = bytes(PAGE_SIZE - size % PAGE_SIZE)

    def punch(self, offset: int, length: int) -> None:
        with self.lock:
            self.fill(bytes(max(0, min(length, self.size - offset))), offset)


class SmallHandle:
    def __init__(self, cache: SmallCache, *, appends: bool) -> None:
        self.cache = cache
        self.appends = appends
        self.position = 0
        self.pread, self.view, self.discard = cache.read, cache.view, cache.discard
        self.punch_hole, self.truncate = cache.punch, cache.truncate

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.position = offset + (self.cache.size if whence == os.SEEK_END else 0)
        return self.position

    def read(self, size: int) -> bytes:
        return self.cache.read(size, self.position)

    def write(self, data: Any) -> int:
        return self.cache.append(data) if self.appends else self.cache.write(data, self.position)

    def pwrite(self, data: bytes, offset: int, *, direct: bool = False) -> int:
        return (self.cache.write_directly if direct else self.cache.write)(data, offset)

    def preadinto(self, buffer: Any, offset: int) -> int:
        data = self.cache.read(len(buffer), offset)
        buffer[: len(data)] = data
        return len(data)

    def fsync(self) -> None:
        self.cache.sync()

    def close(self) -> None:
        self.cache.sync()


# -- and how to do it wrong ------------------------------------------------------------------------------------


class PagesOutliveATruncation(SmallCache):
    def forget_from(self, size: int) -> None:
        pass


class TailOutlivesATruncation(SmallCache):
    def zero_tail(self, size: int) -> None:
        pass


class StoreIsNotCut(SmallCache):
    """So that what was cut off comes back from there."""

    def truncate(self, size: int) -> int:
        store = bytes(self.store)
        super().truncate(size)
        self.store[:] = store
        return size


class WriteAfterATruncationIsLost(SmallCache):
    """The page is thought to be clean, as it was when it was cut."""

    def truncate(self, size: int) -> int:
        self.cut = size // PAGE_SIZE
        return super().truncate(size)

    def change(self, index: int, at: int, data: bytes) -> None:
        super().change(index, at, data)
        if index == getattr(self, "cut", None):
            self.dirty.discard(index)


class HoleIsForgotten(SmallCache):
    """Punched in the cache only."""

    def punch(self, offset: int, length: int) -> None:
        dirty = set(self.dirty)
        super().punch(offset, length)
        self.dirty &= dirty


class HoleIsOnlyInTheStore(SmallCache):
    def punch(self, offset: int, length: int) -> None:
        self.sync()
        stop = min(offset + length, self.size)
        self.store[offset:stop] = bytes(max(0, stop - offset))


class EndIsOffByOne(SmallCache):
    """If a write ends where a page does."""

    def write(self, data: bytes, offset: int) -> int:
        with self.lock:
            before, count = self.size, super().write(data, offset)
            if offset + count > before and not (offset + count) % PAGE_SIZE:
                self.size -= 1
            return count


class AppendsOneByteEarly(SmallCache):
    def append(self, data: bytes) -> int:
        return self.write(data, max(0, self.size - (self.size % PAGE_SIZE == 1)))


class DirtyPagesAreDropped(SmallCache):
    def drop(self) -> None:
        self.pages.clear()
        self.dirty.clear()


class FsyncForgetsTheLastPage(SmallCache):
    def sync(self) -> None:
        if len(self.dirty) > 2:
            self.dirty.remove(max(self.dirty))
        super().sync()


class FsyncWritesShort(SmallCache):
    def write_back(self, index: int) -> None:
        start = index * PAGE_SIZE
        was = bytes(self.store[start + PAGE_SIZE - 8 : start + PAGE_SIZE])
        super().write_back(index)
        if len(was) == 8:
            self.store[start + PAGE_SIZE - 8 : start + PAGE_SIZE] = was


class ViewShowsOldBytes(SmallCache):
    def view(self, size: int, offset: int) -> memoryview:
        shown: dict[tuple[int, int], bytes] = self.__dict__.setdefault("shown", {})
        return memoryview(shown.setdefault((size, offset), self.read(size, offset)))


class PartOfAPageIsNotReadIn(SmallCache):
    """A write into a page that is not here leaves the rest of it zeros."""

    def change(self, index: int, at: int, data: bytes) -> None:
        self.pages.setdefault(index, bytearray(PAGE_SIZE))
        super().change(index, at, data)


class ReadsBeyondTheEnd(SmallCache):
    def read(self, size: int, offset: int) -> bytes:
        return super().read(size, offset) or bytes(size and offset == self.size)


class CloseKeepsItAll(SmallCache):
    def open(self, mode: str) -> Any:
        handle = super().open(mode)
        handle.close = lambda: None
        return handle


class NeighboursAreOverwritten(SmallCache):
    """Two threads write to one page, and one of them to what it was before."""

    def change(self, index: int, at: int, data: bytes) -> None:
        before = bytearray(self.page(index))
        before[at : at + len(data)] = data
        self.lock.release()
        self.until_another_comes()
        self.lock.acquire()
        self.page(index)[:] = before
        self.dirty.add(index)


class AppendsMeet(SmallCache):
    """The end is looked up before the lock is taken."""

    def append(self, data: bytes) -> int:
        end = self.size
        self.until_another_comes()
        return self.write(data, end)


class DirectWriteLeavesOldPages(SmallCache):
    def forget(self, indices: range) -> None:
        pass


class DiscardKeepsPages(SmallCache):
    def discard(self) -> int:
        self.dirty.clear()
        self.size = len(self.store)
        return 0


class DiscardKeepsTheSize(SmallCache):
    def discard(self) -> int:
        size = self.size
        super().discard()
        self.size = size
        return 0


ALONE = [
    PagesOutliveATruncation, TailOutlivesATruncation, StoreIsNotCut, WriteAfterATruncationIsLost, HoleIsForgotten,
    HoleIsOnlyInTheStore, EndIsOffByOne, AppendsOneByteEarly, DirtyPagesAreDropped, FsyncForgetsTheLastPage,
    FsyncWritesShort, ViewShowsOldBytes, PartOfAPageIsNotReadIn, ReadsBeyondTheEnd, CloseKeepsItAll,
    DirectWriteLeavesOldPages, DiscardKeepsPages, DiscardKeepsTheSize,
]  # fmt: skip
TOGETHER = [NeighboursAreOverwritten, AppendsMeet]
