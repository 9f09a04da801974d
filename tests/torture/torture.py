"""Real threads against one another: readers of every kind, a thread that takes pages away, and stores that refill them.

Each page holds one stamp of (file, page, version), and each fetch brings the next of `VERSIONS`: a copy that mixes two
fetches, or that shows what eviction left, is told at a glance.  Fetches are preadv() into the page, which lets other
threads run meanwhile; some fail, half of them after they have written something; some are ended by another thread.
Bounded in reads, not in time.  The seed fixes what each thread does, not how they meet: that is the system's choice.
"""

from __future__ import annotations

import errno
import gc
import itertools
import os
import queue
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from tests.torture.stamps import STAMPS_PER_PAGE, Stamp, WrongPageError, check

from pagein import File, PageCache
from pagein.mm import truncate
from pagein.mm.aops import AOP_UPDATED_PAGE, AddressSpaceOperations
from pagein.mm.arena import REGION_PAGES
from pagein.mm.openfile import OpenFile
from pagein.mm.page import Page
from pagein.mm.rac import ReadaheadControl
from pagein.testing.leaks import leaks
from pagein.testing.schedule.instructions import Preemptible, Preemption
from pagein.units import PAGE_SHIFT, PAGE_SIZE

VERSIONS = 8
SWITCH_INTERVAL_S = 1e-6
"""How soon a thread that wants the GIL gets it; by default 5 ms."""
SIZES_PAGES = 1, 2, 16
PAUSE_PROBABILITY = 1 / 32
PAUSE_S = 1e-5
"""Not to wait for anything, but to let others run meanwhile."""


@dataclass(frozen=True)
class Plan:
    """What one torture does.  *window_pages* pages of each file are read, the last ones of it."""

    seed: int
    reads: int
    """By each reader."""
    readers: int = 3
    cap_pages: int = 64
    window_pages: int = 48
    file_pages: tuple[int, ...] = (48, REGION_PAGES + 24)
    """The second one's window lies across two regions."""
    failure_share: float = 1 / 32
    async_share: float = 1 / 8
    shaken: tuple[Preemptible, ...] = ()
    """Functions in which threads pause at many an instruction, because the system alone rarely stops one there."""


@dataclass
class Result:
    """What came of it."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))
        return f"{counts}, {len(self.wrong)} wrong, in {self.seconds:.1f} s"


class TornStore(AddressSpaceOperations):
    """Every page of the window in `VERSIONS` versions, in a file in memory."""

    blocking = False

    uptodate_first = False
    """A wrong order (orders.py)."""

    def __init__(self, number: int, plan: Plan, completions: queue.SimpleQueue[Callable[[], None] | None]) -> None:
        self._first_index = plan.file_pages[number] - plan.window_pages
        self._window_pages = plan.window_pages
        self._plan = plan
        self._completions = completions
        self._next_version = itertools.count().__next__
        self._random = random.Random(f"{plan.seed} store {number}")
        self.fd = os.memfd_create("stamps")
        for version in range(VERSIONS):
            stamps = (Stamp(number, self._first_index + at, version + 1) for at in range(plan.window_pages))
            os.write(self.fd, b"".join(stamp.pack() * STAMPS_PER_PAGE for stamp in stamps))

    def readpage(self, file: OpenFile, page: Page) -> int:
        if self._random.random() < self._plan.async_share:
            self._completions.put(lambda: self._end(page))
            return 0
        self._fail_by_chance(page)
        if self.uptodate_first:
            page.set_uptodate()
        self._fill(page)
        page.set_uptodate()
        return AOP_UPDATED_PAGE

    def readahead(self, rac: ReadaheadControl) -> None:
        while rac.page_count:
            page = rac.take(self._random.choice((1, 3, None)))
            self._fail_by_chance(page)
            self._fill(page)
            page.end_read()

    def _end(self, page: Page) -> None:
        try:
            self._fail_by_chance(page)
            self._fill(page)
        except OSError as error:
            page.end_read(error.with_traceback(None))
        else:
            page.end_read()

    def _fill(self, page: Page) -> None:
        at = page.index - self._first_index + self._next_version() % VERSIONS * self._window_pages
        assert os.preadv(self.fd, [page.buffer], at << PAGE_SHIFT) == page.size_bytes

    def _fail_by_chance(self, page: Page) -> None:
        if self._random.random() < self._plan.failure_share:
            if self._random.random() < 0.5:
                page.buffer[: PAGE_SIZE // 2] = b"\xff" * (PAGE_SIZE // 2)
            raise OSError(errno.EIO, "injected")


class Torture:
    """One run of a `Plan`."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._result = Result()
        self._shaken = Preemption(plan.shaken, _pause)
        self._counts: list[Counter[str]] = []
        """One for each thread, as adding to a shared one is no single step."""
        self._stop = threading.Event()
        self._completions: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._stores = [TornStore(number, plan, self._completions) for number in range(len(plan.file_pages))]
        self._cache = PageCache(plan.cap_pages * PAGE_SIZE, debug=False)
        self._inodes = [
            self._cache.inode(store, size_bytes=pages * PAGE_SIZE, key=number)
            for number, (store, pages) in enumerate(zip(self._stores, plan.file_pages, strict=True))
        ]

    def run(self) -> Result:
        """Run until the readers are done, or one was given a wrong page."""
        plan, began_s = self._plan, time.perf_counter()
        readers = [threading.Thread(target=self._guarded, args=(self._read, at)) for at in range(plan.readers)]
        others = [
            threading.Thread(target=self._guarded, args=(self._evict, 0)),
            threading.Thread(target=self._complete),
        ]
        with self._shaken, _switching_often():
            for thread in readers + others:
                thread.start()
            for thread in readers:
                thread.join()
            self._stop.set()
            self._completions.put(None)
            for thread in others:
                thread.join()
        self._result.seconds = time.perf_counter() - began_s
        self._close()
        return self._result

    def _close(self) -> None:
        for counts in self._counts:
            self._result.counts += counts
        stats = self._cache.stats()
        for name in ("hits", "misses", "waits", "evictions", "drops", "lost_races", "pages_read", "failed_requests"):
            self._result.counts[name.replace("_", " ")] = getattr(stats, name)
        if not self._result.wrong:
            gc.collect()  # errors that were handled may keep the frames of their readers, and so a view
            self._result.wrong += leaks(self._cache._zone)
        self._cache.close()
        for store in self._stores:
            os.close(store.fd)

    def _guarded(self, run: Callable[[random.Random, Counter[str]], None], number: int) -> None:
        counts: Counter[str] = Counter()
        self._counts.append(counts)
        chance = random.Random(f"{self._plan.seed} {run.__name__} {number}")
        try:
            with self._shaken.in_this_thread():
                run(chance, counts)
        except WrongPageError as error:
            self._result.wrong.append(str(error))
        except Exception as error:  # anything else is a failure too, and names itself
            self._result.wrong.append(repr(error))
        if self._result.wrong:
            self._stop.set()

    # -- the threads -------------------------------------------------------------------------------------------

    def _read(self, chance: random.Random, counts: Counter[str]) -> None:
        plan = self._plan
        files = [inode.open() for inode in self._inodes]
        buffer = bytearray(max(SIZES_PAGES) * PAGE_SIZE)
        ways = [_pread, _pread, _seek_and_read, _preadinto(buffer), _view]
        for _ in range(plan.reads):
            number, size_pages = chance.randrange(len(files)), min(chance.choice(SIZES_PAGES), plan.window_pages)
            last_index = plan.file_pages[number] - size_pages
            index = chance.randint(last_index - plan.window_pages + size_pages, last_index)
            try:
                chance.choice(ways)(files[number], number, size_pages * PAGE_SIZE, index * PAGE_SIZE)
            except OSError as error:
                if error.errno not in (errno.EIO, errno.ENOMEM):
                    raise
                counts[errno.errorcode[error.errno]] += 1
            counts["page reads"] += size_pages
            if self._stop.is_set():
                break

    def _evict(self, chance: random.Random, counts: Counter[str]) -> None:
        files = [inode.open() for inode in self._inodes]
        while not self._stop.is_set():
            number = chance.randrange(len(files))
            index = self._plan.file_pages[number] - chance.randint(1, self._plan.window_pages)
            match chance.randrange(8):
                case 0:
                    self._cache.drop()
                case 1:
                    self._invalidate(number, index)
                case _:
                    files[number].advise("dontneed", index * PAGE_SIZE, chance.choice(SIZES_PAGES) * PAGE_SIZE)
            counts["removals"] += 1
            time.sleep(PAUSE_S)

    def _invalidate(self, number: int, index: int) -> None:
        try:
            truncate.invalidate_inode_pages2(self._inodes[number].mapping, index, index + 2)
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOMEM):  # shown by a view; all others are, too
                raise

    def _complete(self) -> None:
        while completion := self._completions.get():
            completion()


# -- ways to read ------------------------------------------------------------------------------------------------


def _pread(file: File, number: int, size: int, offset: int) -> None:
    _checked(file.pread(size, offset), number, size, offset)


def _seek_and_read(file: File, number: int, size: int, offset: int) -> None:
    file.seek(offset)
    _checked(file.read(size), number, size, offset)


def _preadinto(buffer: bytearray) -> Callable[[File, int, int, int], None]:
    def preadinto(file: File, number: int, size: int, offset: int) -> None:
        with memoryview(buffer) as whole, whole[:size] as target:
            assert file.preadinto(target, offset) == size
            _checked(bytes(target), number, size, offset)

    return preadinto


def _view(file: File, number: int, size: int, offset: int) -> None:
    with file.view(size, offset) as data:
        _checked(bytes(data), number, size, offset)
        _checked(bytes(data), number, size, offset)


def _checked(data: bytes, number: int, size: int, offset: int) -> None:
    if len(data) != size:
        raise WrongPageError(f"{len(data)} bytes instead of {size}")
    check(data, number, offset)


def _pause(frame: FrameType, is_shared: bool, runs_handlers: bool) -> None:
    if is_shared and random.random() < PAUSE_PROBABILITY:
        time.sleep(PAUSE_S)


@contextmanager
def _switching_often() -> Iterator[None]:
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before_s)
