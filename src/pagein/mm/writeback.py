"""Write-back: dirty pages go to the store, and fsync tells the truth about it.  Linux: write_cache_pages.

Guarantees: `Sync.ALL` writes what was dirty when it began, and ends though others write meanwhile; a page that becomes
dirty while it is stored is stored again; a page that failed stays dirty, and its error is told once to every open file.
**Linux marks a failed page clean, and what was in it is lost.**  A remote store heals, so here it is tried again.
Not stable: who writes to a page need not wait until it is stored; what is stored then may be a mixture, and the page
is dirty again.
Assumes: callers hold no page lock; may hold ``i_rwsem``, which is never taken in here.
Not here: when (flusher.py, dirty.py), a page's own part (page.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ..errors import ContractViolation
from ..units import PAGE_SHIFT
from .aops import AOP_WRITEPAGE_ACTIVATE
from .errseq import again
from .page import LockedPage
from .sync import MakeWaiter, Steps, Waiter

if TYPE_CHECKING:
    from .mapping import AddressSpace, OpenFile
    from .page import Page, Writeback
    from .zone import Zone

T = TypeVar("T")

REQUESTS_MAX = 4
"""So many runs of one file are stored at once."""


class Sync(Enum):
    """What write-back is for.  Linux: WB_SYNC_NONE, WB_SYNC_ALL."""

    NONE = auto()
    """To have fewer dirty pages: what is being written already is passed over, and an error ends it."""
    ALL = auto()
    """For integrity: everything is written, waited for, and attempted although something before it failed."""


class WritebackControl:
    """A run of locked pages to store.  An operation takes pages off its front; what it takes it ends."""

    def __init__(self, page: LockedPage, sync: Sync) -> None:
        self.sync = sync
        self.first_error: BaseException | None = None
        self._taken: list[Page] = []
        self._rest: Page | None = page
        self._zone = page.mapping.zone
        self._mapping = page.mapping

    @property
    def page_count(self) -> int:
        """Pages that have not been taken."""
        return self._rest.page_count if self._rest else 0

    def take(self, page_count: int | None = None) -> Page:
        """Take the first *page_count* pages, by default all, as one `Page` that is stored and ended as one."""
        rest = self._rest
        if rest is None:
            raise ContractViolation("writepages takes only the pages of its run", "WritebackControl.take()")
        if page_count is None or page_count >= rest.page_count:
            self._rest = None
        else:
            rest = rest.split_head(page_count)
        self._taken.append(rest)
        return rest

    def __iter__(self) -> Iterator[Page]:
        """Take the pages one by one."""
        while self._rest:
            yield self.take(1)

    def redirty(self, page: Page) -> None:
        """Decline to store a page now: it stays dirty.  Locks: page locked.  Linux: redirty_page_for_writepage."""
        with self._zone.lock:
            if page.writeback is not None:
                page.settle_writeback(declined=True)

    def write_each_page(self) -> None:
        """The fallback of an operation without ``writepages``: `writepage` for each page, every return honoured."""
        ops = self._mapping.ops
        for page in self:
            try:
                code = ops.writepage(page, self)
            except OSError as error:
                self._fail(page, error)
                if self.sync is Sync.NONE:
                    return
                continue
            if code == AOP_WRITEPAGE_ACTIVATE and page.locked:
                page.unlock()
            elif code or page.locked:
                clause = "writepage returns 0 with the page unlocked, or AOP_WRITEPAGE_ACTIVATE with it locked"
                raise ContractViolation(clause, f"{type(ops).__name__}.writepage of {page!r} returned {code!r}")

    def settle(self, error: BaseException | None) -> None:
        """The operation has returned, or raised *error*: account for each page of the run."""
        if self._rest is not None:  # not taken: not stored
            rest = self.take()
            if error is None:
                self.redirty(rest)
                rest.unlock()
        for page in self._taken:
            if error is not None:
                self._fail(page, error)
            else:
                self._returned(page)

    def _returned(self, page: Page) -> None:
        with self._zone.lock:
            if (
                page.writeback is not None and not page.in_writeback
            ):  # it was stored under its lock; else its I/O ends it
                page.settle_writeback()
        if page.locked:
            page.unlock()

    def _fail(self, page: Page, error: BaseException) -> None:
        self.first_error = self.first_error or error
        if page.in_writeback:
            page.end_writeback(error)
        else:
            with self._zone.lock:
                if page.writeback is not None:
                    page.settle_writeback(error)
        if page.locked:
            page.unlock()


# -- a pass over a file --------------------------------------------------------------------------------------


class _Pass:
    """One walk over the dirty pages of a mapping."""

    def __init__(self, mapping: AddressSpace, sync: Sync, make_waiter: MakeWaiter) -> None:
        self.mapping = mapping
        self.zone = mapping.zone
        self.sync = sync
        self.error: BaseException | None = None
        self._make_waiter = make_waiter
        self._begun: list[Writeback] = []
        self._calls = 0
        self._waiter: Waiter | None = None

    def start(self, page: LockedPage) -> None:
        """Have a run stored.  Blocks: no, unless the store says that it does not."""
        wbc = WritebackControl(page, self.sync)
        assert page.writeback is not None
        self._begun.append(page.writeback)
        with self.zone.lock:
            self._calls += 1
        if not self.mapping.ops.blocking:
            self._perform(wbc)
            return
        page.owner = None
        try:
            self.zone.io.start(partial(self._perform, wbc))
        except (ValueError, RuntimeError) as error:  # closed; no thread is to be had
            self._ended(wbc, error)

    def _perform(self, wbc: WritebackControl) -> None:
        failure: BaseException | None = None
        if wbc._rest is not None:
            wbc._rest.owner = self.zone.door.thread_id()
        try:
            with self.zone.in_store_code():
                self.mapping.ops.writepages(wbc)
        except BaseException as error:  # for who calls fsync
            failure = error
        self._ended(wbc, failure)

    def _ended(self, wbc: WritebackControl, error: BaseException | None) -> None:
        wbc.settle(error)
        with self.zone.lock:
            self.error = self.error or wbc.first_error
            self._calls -= 1
            waiter, self._waiter = self._waiter, None
            if waiter is not None:
                waiter.wake()

    def steps_until(self, calls_max: int) -> Steps[None]:
        """Wait until at most so many operations have not returned."""
        while True:
            with self.zone.lock:
                if self._calls <= calls_max:
                    return
                waiter = self._waiter = self._make_waiter()
            yield waiter

    def end_steps(self) -> Steps[None]:
        """Wait until everything that was begun has been stored, or has failed."""
        yield from self.steps_until(0)
        for writeback in self._begun:
            yield from wait_on_writeback(self.zone, writeback, self._make_waiter)
            self.error = self.error or writeback.error


def wait_on_writeback(zone: Zone, writeback: Writeback, make_waiter: MakeWaiter) -> Steps[None]:
    """Wait until it has ended.  Locks: that of a page of it may be held, as in Linux."""
    with zone.lock:
        if writeback.has_ended:
            return
        waiter = writeback.join(make_waiter)
    yield waiter


def write_back(
    mapping: AddressSpace, sync: Sync, make_waiter: MakeWaiter, start_index: int = 0, stop_index: int | None = None
) -> Steps[BaseException | None]:
    """Store the dirty pages of [start_index, stop_index); return the first error, which has been noted in ``wb_err``.

    With `Sync.ALL`, when it returns everything that was dirty when it began has been stored, or has failed; also what
    others had begun to store.  Blocks: yes.
    """
    stop_index = mapping.frame_count if stop_index is None else stop_index
    zone = mapping.zone
    if mapping.size_owed is not None:
        error = yield from _tell_size(mapping, make_waiter)
        if error is not None:
            return error
    with zone.lock:  # the snapshot: what becomes dirty later is not chased.  Linux: the TOWRITE tag
        runs = list(mapping.dirty_runs(start_index, stop_index))
        others = {begun for at, begun in mapping.under_writeback.items() if start_index <= at < stop_index}
    walk = _Pass(mapping, sync, make_waiter)
    for first, count in runs:
        index: int | None = first
        while index is not None and index < first + count and not (walk.error and sync is Sync.NONE):
            yield from walk.steps_until(REQUESTS_MAX - 1)
            page, index = yield from _lock_for_io(mapping, index, first + count, sync, make_waiter)
            if page is not None:
                walk.start(page)
    yield from walk.end_steps()
    if sync is Sync.ALL:
        for other in others:
            yield from wait_on_writeback(zone, other, make_waiter)
    return walk.error


def _lock_for_io(
    mapping: AddressSpace, index: int, stop_index: int, sync: Sync, make_waiter: MakeWaiter
) -> Steps[tuple[LockedPage | None, int | None]]:
    """The first dirty pages of a range, locked, their dirty flags cleared; and where to go on, None at its end."""
    zone, arena, base = mapping.zone, mapping.arena, mapping.base
    while True:
        with zone.lock:
            frame = arena.dirty.find(b"\1", base + index, base + stop_index)
            if frame < 0 or zone.closed or mapping.size_owed is not None:  # cut meanwhile: the next pass tells it first
                return None, None
            index = frame - base
            holder, stored = mapping.in_flight.get(index), mapping.under_writeback.get(index)
            if holder is None and stored is None:
                page = _lock_run(mapping, index, stop_index)
                if page is not None:
                    return page, page.index + page.page_count
                continue  # it lies beyond the end of the file, and is clean now
            if holder is not None:
                wait = holder.join(index, make_waiter, wants_lock=False)
            elif stored is not None:
                if sync is Sync.NONE:
                    return None, index + 1
                waiter = stored.join(make_waiter)
        if holder is not None:
            yield from wait.steps()
        else:
            yield waiter


def _lock_run(mapping: AddressSpace, index: int, stop_index: int) -> LockedPage | None:
    """Lock dirty pages from *index* on and clear their flags; None if they lie beyond the end.  Zone's lock held."""
    zone, arena, frame = mapping.zone, mapping.arena, mapping.base + index
    most = min(stop_index - index, max(1, mapping.ops.write_bytes_max >> PAGE_SHIFT))
    clean = arena.dirty.find(b"\0", frame, frame + most)
    count = clean - frame if clean >= 0 else most
    for table in (mapping.in_flight, mapping.under_writeback):
        if table:
            count = next((at for at in range(count) if index + at in table), count)
    page = mapping.lock_run(index, count)
    cleared = mapping.clear_dirty(index, count)
    # The size after the flags: a write that makes the file longer meanwhile makes the page dirty again.
    end_bytes = mapping.zero_beyond_end(index, count)
    if end_bytes <= index << PAGE_SHIFT:
        zone.dirty.cancelled(cleared)
        page.release_in_zone()
        return None
    page.end_at(end_bytes)
    page.owe_writeback()
    zone.dirty.writeback_began(count)
    return page


def _tell_size(mapping: AddressSpace, make_waiter: MakeWaiter) -> Steps[BaseException | None]:
    """Tell the store the size that it has to have before it gets more; return what it raised.

    While it is owed, nothing is begun to be stored; what was begun before is waited for, as it may lie behind.
    """
    zone = mapping.zone
    while True:
        with zone.lock:
            size_bytes = mapping.size_owed
            if size_bytes is None:
                return None
            stored = next(iter(mapping.under_writeback.values()), None)
            waiter = stored.join(make_waiter) if stored is not None else None
            if waiter is None:
                if mapping.size_waiters is None:
                    mapping.size_waiters = []
                    break
                waiter = make_waiter()  # another is telling it
                mapping.size_waiters.append(waiter)
        yield waiter
    failure: BaseException | None = None
    try:
        yield from on_io_steps(zone, partial(mapping.ops.set_size, size_bytes), make_waiter)
    except Exception as error:
        failure = error
    with zone.lock:
        if failure is not None:
            mapping.wb_err.set(failure)
        elif mapping.size_owed == size_bytes:
            mapping.size_owed, mapping.disk_size = None, size_bytes
        elif mapping.size_owed is not None:  # cut again meanwhile
            mapping.disk_size = min(size_bytes, mapping.size_owed)
        waiters, mapping.size_waiters = mapping.size_waiters or [], None
        for waiter in waiters:
            waiter.wake()
    return failure


# -- fsync ---------------------------------------------------------------------------------------------------


def store_all(mapping: AddressSpace, make_waiter: MakeWaiter) -> Steps[BaseException | None]:
    """Have the store hold all that was written before this, and its size; return the first error."""
    zone, least_bytes = mapping.zone, mapping.i_size
    while True:
        error = yield from write_back(mapping, Sync.ALL, make_waiter)
        with zone.lock:
            if error is None and mapping.size_owed is None:
                if mapping.disk_size >= min(least_bytes, mapping.i_size):
                    return None
                mapping.size_owed = mapping.i_size  # it ends in a hole
        if error is not None:
            return error


def fsync_steps(file: OpenFile, make_waiter: MakeWaiter) -> Steps[None]:
    """Everything that was written before this is in the store, durably, once it returns without an error.

    Raises: the first error of this write-back; else an error of an earlier one that this open file has not been told
    of.  What failed stays dirty: another fsync tries again.  Linux: vfs_fsync, file_check_and_advance_wb_err.
    """
    mapping, zone = file.mapping, file.mapping.zone
    error = yield from store_all(mapping, make_waiter)
    if error is None:  # else the store must not take what it has for the whole
        try:
            yield from on_io_steps(zone, mapping.ops.fsync, make_waiter)
        except Exception as failure:
            error = failure
            with zone.lock:
                mapping.wb_err.set(failure)
    with zone.lock:
        earlier, file.wb_seen = mapping.wb_err.check_and_advance(file.wb_seen)
    error = error or earlier
    if error is not None:
        try:
            raise again(error)
        finally:
            del error, earlier


def on_io_steps(zone: Zone, run: Callable[[], T], make_waiter: MakeWaiter) -> Steps[T]:
    """What ``run()`` returns, called on an I/O worker, since it may block."""
    outcome: list[tuple[T | None, BaseException | None]] = []
    waiter = make_waiter()

    def call() -> None:
        try:
            outcome.append((run(), None))
        except BaseException as error:  # raised again by who waits
            outcome.append((None, error))
        with zone.lock:  # so that a worker is told who goes on
            waiter.wake()

    zone.io.start(call)
    yield waiter
    result, error = outcome.pop()
    if error is not None:
        try:
            raise error
        finally:
            del error
    return result  # type: ignore[return-value]  # T may be None
