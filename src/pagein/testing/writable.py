"""A store that can be written to and answers by a script: for tests of write-back.

    ops = WritableOps(5 * PAGE_SIZE, {2: [store_failing(OSError(errno.ENOSPC, "full"))], 3: [store_started]})
    file = cache.inode(ops, size_bytes=5 * PAGE_SIZE).open("r+b")
    ...                       # page 2 fails the first time that it is stored
    ops.complete_store(3)     # page 3 is stored now

Guarantees: the n-th time that a page is stored is answered by the n-th entry of its row, and by the default once the
row is used up; what was done is on record, in its order, and calls with the state of the page's lock; what is read is
what was stored, and to read what the store does not hold is an error.
Assumes: nothing.  Every method may be called from any thread, and no wait is for ever.
Not here: how pages are read by a script, which is as in `ScriptedOps` (stores.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from ..errors import short_fetch
from ..mm.aops import AOP_WRITEPAGE_ACTIVATE
from ..units import PAGE_SHIFT
from .stores import Answer, Gate, ScriptedOps, _wait_for, pattern, updated

if TYPE_CHECKING:
    from ..mm.page import Page
    from ..mm.writeback import WritebackControl

StoreAnswer = Callable[["WritableOps", "Page", "WritebackControl"], int]
"""What one call of writepage does and returns.  A test may write its own, right or wrong."""
SizeAnswer = Callable[["WritableOps"], object]
"""What happens before set_size, punch_hole or fsync is done; it may raise, or wait."""


def stored(ops: WritableOps, page: Page, wbc: WritebackControl) -> int:
    """Store the page, unlocked, before writepage returns."""
    page.set_writeback()
    page.unlock()
    ops.keep(page)
    page.end_writeback()
    return 0


def store_started(ops: WritableOps, page: Page, wbc: WritebackControl) -> int:
    """Return 0; `WritableOps.complete_store` ends it."""
    page.set_writeback()
    page.unlock()
    ops.start_store(page)
    return 0


def stored_under_lock(ops: WritableOps, page: Page, wbc: WritebackControl) -> int:
    """Store the page with its lock held."""
    ops.keep(page)
    page.unlock()
    return 0


def redirtied(ops: WritableOps, page: Page, wbc: WritebackControl) -> int:
    """Decline: the page stays dirty."""
    wbc.redirty(page)
    page.unlock()
    return 0


def activated(ops: WritableOps, page: Page, wbc: WritebackControl) -> int:
    """Decline, and leave the unlocking to the caller."""
    wbc.redirty(page)
    return AOP_WRITEPAGE_ACTIVATE


def store_failing(error: BaseException) -> StoreAnswer:
    """Raise *error*, the page locked."""

    def answer(ops: WritableOps, page: Page, wbc: WritebackControl) -> int:
        raise error.with_traceback(None)  # one that is raised again and again would keep what raised it

    return answer


def store_failed(error: BaseException) -> StoreAnswer:
    """Return 0, with the write-back already ended by *error*."""

    def answer(ops: WritableOps, page: Page, wbc: WritebackControl) -> int:
        page.set_writeback()
        page.unlock()
        page.end_writeback(error)
        return 0

    return answer


def store_gated(gate: Gate, error: BaseException | None = None) -> StoreAnswer:
    """Wait at *gate* with the page under write-back; then store it, or fail with *error*."""

    def answer(ops: WritableOps, page: Page, wbc: WritebackControl) -> int:
        page.set_writeback()
        page.unlock()
        gate.pass_through()
        if error is None:
            ops.keep(page)
        page.end_writeback(error)
        return 0

    return answer


class WritableOps(ScriptedOps):
    """Operations without a ``writepages`` of their own: *stores* has a row of answers for each page index."""

    writable = True

    def __init__(
        self,
        size_bytes: int,
        stores: Mapping[int, Iterable[StoreAnswer]] | None = None,
        *,
        default_store: StoreAnswer = stored,
        script: Mapping[int, Iterable[Answer]] | None = None,
        default: Answer = updated,
    ) -> None:
        super().__init__(script, default=default)
        self.default_store = default_store
        self.data: bytearray = bytearray(pattern(0, size_bytes))
        """What the store holds."""
        self.done: list[tuple[str, int, int]] = []
        """What was done to it: ("store", offset, size), ("set_size", size, 0), ("punch_hole", offset, size),
        ("fsync", 0, 0), in the order in which it was."""
        self.before_set_size: deque[SizeAnswer] = deque()
        self.before_punch_hole: deque[SizeAnswer] = deque()
        self.before_fsync: deque[SizeAnswer] = deque()
        self.punches_holes = True
        self._store_rows = {index: deque(row) for index, row in (stores or {}).items()}
        self._stores_started: dict[int, Page] = {}

    def content(self, offset_bytes: int, size_bytes: int) -> bytes:
        """What was stored there.  Raises: OSError(EIO) for what is not held."""
        with self._changed:
            data = bytes(self.data[offset_bytes : offset_bytes + size_bytes])
        if len(data) < size_bytes:
            raise short_fetch("scripted", offset_bytes=offset_bytes, wanted_bytes=size_bytes, got_bytes=len(data))
        return data

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        """Answer by the script.  Locks, blocks, raises: as the answer does."""
        with self._changed:
            row = self._store_rows.get(page.index)
            answer = row.popleft() if row else self.default_store
            self._record("writepage", page.mapping, page.index, page.page_count, page)
        return answer(self, page, wbc)

    def set_size(self, size_bytes: int) -> None:
        """Cut, or add zeros.  Blocks, raises: as the script says."""
        self._before(self.before_set_size)
        with self._changed:
            del self.data[size_bytes:]
            self.data += bytes(size_bytes - len(self.data))
            self._note("set_size", size_bytes, 0)

    def punch_hole(self, offset_bytes: int, size_bytes: int) -> None:
        """Zero a range.  Blocks, raises: as the script says."""
        if not self.punches_holes:
            raise NotImplementedError
        self._before(self.before_punch_hole)
        with self._changed:
            assert offset_bytes + size_bytes <= len(self.data), "a hole is within what is stored"
            self.data[offset_bytes : offset_bytes + size_bytes] = bytes(size_bytes)
            self._note("punch_hole", offset_bytes, size_bytes)

    def fsync(self) -> None:
        """Note it.  Blocks, raises: as the script says."""
        self._before(self.before_fsync)
        with self._changed:
            self._note("fsync", 0, 0)

    def direct_write(self, data: memoryview, offset_bytes: int) -> int:
        """Store it."""
        self.put(bytes(data), offset_bytes)
        return len(data)

    # -- for answers -------------------------------------------------------------------------------------

    def put(self, data: bytes, offset_bytes: int) -> None:
        """Hold *data*; a gap before it becomes zeros."""
        with self._changed:
            self.data += bytes(max(0, offset_bytes - len(self.data)))
            self.data[offset_bytes : offset_bytes + len(data)] = data
            self._note("store", offset_bytes, len(data))

    def keep(self, page: Page) -> None:
        """Hold what is in the page, or the run of pages."""
        with page.content as content:
            self.put(bytes(content), page.offset)

    def start_store(self, page: Page) -> None:
        """Keep the page for `complete_store`."""
        with self._changed:
            self._stores_started[page.index] = page
            self._changed.notify_all()

    # -- for tests ---------------------------------------------------------------------------------------

    def script_store(self, index: int, *answers: StoreAnswer) -> None:
        """Add to a page's row."""
        with self._changed:
            self._store_rows.setdefault(index, deque()).extend(answers)

    def started_store(self, index: int) -> Page:
        """The page, or run of pages, whose write-back was started at *index*; waits until one is."""
        with self._changed:
            _wait_for(self._changed, lambda: index in self._stores_started, f"a store of page {index} is started")
            return self._stores_started[index]

    def complete_store(self, index: int, error: BaseException | None = None) -> None:
        """End the write-back that was started at *index*, well or with *error*; waits until one is started."""
        page = self.started_store(index)
        with self._changed:
            del self._stores_started[index]
        if error is None:
            self.keep(page)
        page.end_writeback(error)

    def stored_pages(self) -> list[int]:
        """The first pages of what was stored, in its order."""
        return [offset >> PAGE_SHIFT for operation, offset, _ in list(self.done) if operation == "store"]

    def wait_for_done(self, count: int) -> None:
        """Wait until so much was done to it."""
        with self._changed:
            _wait_for(self._changed, lambda: len(self.done) >= count, f"{count} things were done to the store")

    def _before(self, answers: deque[SizeAnswer]) -> None:
        if answers:
            answers.popleft()(self)

    def _note(self, operation: str, offset_bytes: int, size_bytes: int) -> None:
        self.done.append((operation, offset_bytes, size_bytes))
        self._changed.notify_all()


RunStoreAnswer = Callable[["WritableOps", "WritebackControl"], object]
"""What one call of writepages does."""


def run_stored(ops: WritableOps, wbc: WritebackControl) -> None:
    """Store the whole run as one."""
    stored(ops, wbc.take(), wbc)


def run_store_started(ops: WritableOps, wbc: WritebackControl) -> None:
    """Take the whole run; `WritableOps.complete_store` of its first index ends it."""
    store_started(ops, wbc.take(), wbc)


def run_store_short(page_count: int) -> RunStoreAnswer:
    """Store only the first *page_count* pages, and leave the others."""

    def answer(ops: WritableOps, wbc: WritebackControl) -> None:
        stored(ops, wbc.take(page_count), wbc)

    return answer


def run_store_failing(error: BaseException, *, after_pages: int = 0) -> RunStoreAnswer:
    """Store *after_pages* pages, take the others, and raise *error*."""

    def answer(ops: WritableOps, wbc: WritebackControl) -> None:
        if after_pages:
            run_store_short(after_pages)(ops, wbc)
        page = wbc.take()
        page.set_writeback()
        page.unlock()
        raise error

    return answer


class WritableRunOps(WritableOps):
    """Operations with a ``writepages``: *run_stores* answers its calls in turn, *default_run_store* the rest."""

    def __init__(
        self,
        size_bytes: int,
        run_stores: Iterable[RunStoreAnswer] = (),
        *,
        default_run_store: RunStoreAnswer = run_stored,
    ) -> None:
        super().__init__(size_bytes)
        self.default_run_store = default_run_store
        self.run_stores: deque[RunStoreAnswer] = deque(run_stores)

    def writepages(self, wbc: WritebackControl) -> None:
        """Answer by the script.  Locks, blocks, raises: as the answer does."""
        with self._changed:
            answer = self.run_stores.popleft() if self.run_stores else self.default_run_store
        answer(self, wbc)
