"""Write-back: dirty pages go to the store, and fsync tells the truth about it.  Linux: write_cache_pages.

Guarantees: `Sync.ALL` writes what was dirty when it began, and ends though others write meanwhile; a page that becomes
dirty while it is stored is stored again; a page that failed stays dirty, and its error is told once to every open file.
**Linux marks a failed page clean, and what was in it is lost.**  A remote store heals, so here it is tried again.
Not stable: who writes to a page need not wait until it is stored; what is stored then may be a mixture, and the page
is dirty again.
Assumes: callers hold no page lock; may hold ``i_rwsem``, which is never taken in here.
Not here: when (flusher.py, dirty.py), a page's own part (page.py), the operation's (wbc.py).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ..errors import closed_cache
from ..units import PAGE_SHIFT
from .debug import called
from .errseq import again, kept
from .locking import FSYNC, SET_SIZE, WRITEPAGES
from .page import LockedPage
from .sync import MakeWaiter, Steps, Waiter
from .wbc import Sync as Sync, WritebackControl as WritebackControl

if TYPE_CHECKING:
    from .mapping import AddressSpace
    from .openfile import OpenFile
    from .page import Writeback
    from .zone import Zone

T = TypeVar("T")

REQUESTS_MAX = 4
"""So many runs of one file are stored at once."""


# -- a pass over a file --------------------------------------------------------------------------------------


class _Pass:
    """One walk over the dirty pages of a mapping."""

    def __init__(self, mapping: AddressSpace, sync: Sync, make_waiter: MakeWaiter) -> None:
        self.mapping = mapping
        self.zone = mapping.zone
        self.sync = sync
        self.error: BaseException | None = None
        self.stored_pages = self.declined_pages = 0
        self._make_waiter = make_waiter
        self._begun: list[Writeback] = []
        self._calls = 0

    def turn_steps(self) -> Steps[None]:
        """Wait until the store may be given something more of this file.  The turn is taken: `start`, or `pass_on`."""
        while True:
            with self.zone.lock:
                if self.mapping.store_calls < REQUESTS_MAX:
                    self.mapping.store_calls += 1
                    self._calls += 1
                    return
                waiter = self._wait_for_a_call()
            yield waiter

    def start(self, page: LockedPage) -> None:
        """Have a run stored.  Blocks: no, unless the store says that it does not, or no thread is to be had."""
        wbc = WritebackControl(page, self.sync)
        assert page.writeback is not None
        self._begun.append(page.writeback)
        if not self.mapping.ops.blocking:
            self._perform(wbc, page)
            return
        page.owner = None
        try:
            self.zone.io.start(partial(self._perform, wbc, page))
        except ValueError as error:  # the cache was closed
            self._ended(wbc, page.page_count, error)
        except RuntimeError:  # the process has no thread left, or is ending
            self._perform(wbc, page)

    def pass_on(self) -> None:
        """Give the turn back: an operation has returned, or there was nothing to store."""
        with self.zone.lock:
            self.mapping.store_calls -= 1
            self._calls -= 1
            waiters, self.mapping.store_waiters = self.mapping.store_waiters, ()
            for waiter in waiters:
                waiter.wake()

    def _wait_for_a_call(self) -> Waiter:
        waiter = self._make_waiter()
        self.mapping.store_waiters = (*self.mapping.store_waiters, waiter)
        return waiter

    def _perform(self, wbc: WritebackControl, page: LockedPage) -> None:
        failure: BaseException | None = None
        page.owner = self.zone.door.thread_id()
        page_count = page.page_count  # it may be taken in parts
        try:
            with self.zone.in_store_code(WRITEPAGES, page):
                self.mapping.ops.writepages(wbc)
        except BaseException as error:  # for who calls fsync
            failure = kept(error)
        self._ended(wbc, page_count, failure)

    def _ended(self, wbc: WritebackControl, page_count: int, error: BaseException | None) -> None:
        try:
            wbc.settle(error)
        except BaseException as violation:  # of the operation, which ends a page of its own twice
            self.error = self.error or violation
        finally:
            self.error = self.error or wbc.first_error
            self.declined_pages += wbc.declined_pages
            self.stored_pages += page_count - wbc.declined_pages
            self.pass_on()

    def end_steps(self) -> Steps[None]:
        """Wait until everything that was begun has been stored, or has failed."""
        while True:
            with self.zone.lock:
                if not self._calls:
                    break
                waiter = self._wait_for_a_call()
            yield waiter
        yield from self.wait_steps(self._begun)

    def wait_steps(self, begun: Iterable[Writeback]) -> Steps[None]:
        """Wait until these have ended, and note if one has failed."""
        for writeback in begun:
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
    while True:
        walk = _Pass(mapping, sync, make_waiter)
        if mapping.size_owed is not None:
            walk.error = yield from _tell_size(mapping, make_waiter)
        if walk.error is None:
            yield from _walk(walk, start_index, stop_index, make_waiter)
        if walk.error is not None or sync is Sync.NONE or not walk.declined_pages:
            return walk.error
        if not walk.stored_pages:
            with mapping.zone.lock:
                mapping.set_error(error := OSError(errno.EAGAIN, "the store declines to store it now", mapping.name))
            return error


def _walk(walk: _Pass, start_index: int, stop_index: int, make_waiter: MakeWaiter) -> Steps[None]:
    mapping, sync = walk.mapping, walk.sync
    with mapping.zone.lock:  # the snapshot: what becomes dirty later is not chased.  Linux: the TOWRITE tag
        runs = list(mapping.dirty_runs(start_index, stop_index))
        others = _begun_by_others(mapping, start_index, stop_index)
    for first, count in runs:
        index: int | None = first
        while index is not None and index < first + count and not (walk.error and sync is Sync.NONE):
            yield from walk.turn_steps()
            page = None
            try:
                page, index = yield from _lock_for_io(walk, index, first + count, make_waiter)
            finally:
                if page is None:
                    walk.pass_on()
            if page is not None:
                walk.start(page)
    yield from walk.end_steps()
    if sync is Sync.ALL:
        with mapping.zone.lock:  # another pass may have begun meanwhile what was dirty in the snapshot
            others |= _begun_by_others(mapping, start_index, stop_index)
        yield from walk.wait_steps(others)


def _begun_by_others(mapping: AddressSpace, start_index: int, stop_index: int) -> set[Writeback]:
    return {begun for index, begun in mapping.under_writeback.items() if start_index <= index < stop_index}


def _lock_for_io(  # noqa: PLR0912  # one loop, of which each branch is one reason to wait or to end
    walk: _Pass, index: int, stop_index: int, make_waiter: MakeWaiter
) -> Steps[tuple[LockedPage | None, int | None]]:
    """The first dirty pages of a range, locked, their dirty flags cleared; and where to go on, None at its end."""
    mapping = walk.mapping
    zone, arena, base = mapping.zone, mapping.arena, mapping.base
    while True:
        if mapping.size_owed is not None:  # cut meanwhile
            if walk.sync is Sync.NONE:
                return None, None
            walk.error = walk.error or (yield from _tell_size(mapping, make_waiter))
            if walk.error is not None:
                return None, None
        with zone.lock:
            frame = arena.dirty.find(b"\1", base + index, base + stop_index)
            if zone.closed and frame >= 0:
                walk.error = walk.error or closed_cache()
            if frame < 0 or zone.closed:
                return None, None
            if mapping.size_owed is not None:
                continue
            index = frame - base
            holder, stored = mapping.in_flight.get(index), mapping.under_writeback.get(index)
            if holder is None and stored is None:
                page = _lock_run(mapping, index, stop_index)
                if page is not None:
                    return page, page.index + page.page_count
                continue  # it lies beyond the end of the file, and is clean now; or was marked for a moment
            if holder is not None:
                wait = holder.join(index, make_waiter, wants_lock=False)
            elif walk.sync is Sync.NONE:
                return None, index + 1
            elif stored is not None:
                waiter = stored.join(make_waiter)
        if holder is not None:
            yield from wait.steps()
        else:
            yield waiter


def _lock_run(mapping: AddressSpace, index: int, stop_index: int) -> LockedPage | None:
    """Lock dirty pages from *index* on and clear their flags; None if they lie beyond the end.  Zone's lock held."""
    most = min(stop_index - index, max(1, mapping.ops.write_bytes_max >> PAGE_SHIFT))
    for table in (mapping.in_flight, mapping.under_writeback):
        if table:
            most = next((at for at in range(most) if index + at in table), most)
    count = mapping.take_dirty(index, most)
    if not count:
        return None
    page = mapping.lock_run(index, count)
    # The size after the flags: a write that makes the file longer meanwhile makes the page dirty again.
    end_bytes = mapping.zero_beyond_end(index, count)
    if end_bytes <= index << PAGE_SHIFT:
        mapping.zone.dirty.cancelled(count)
        page.release_in_zone()
        return None
    page.end_at(end_bytes)
    page.owe_writeback()
    mapping.store_end = max(mapping.store_end, end_bytes)
    mapping.zone.dirty.writeback_began(count)
    return page


def _tell_size(mapping: AddressSpace, make_waiter: MakeWaiter) -> Steps[BaseException | None]:
    """Tell the store the size that it has to have before it gets more; return what it raised.

    While it is owed, nothing is begun to be stored, and nothing read that lies behind; what was begun before is waited
    for: what is stored may lie behind, and a reader would find that the store has less than he asked for.
    """
    zone = mapping.zone
    while True:
        with zone.lock:
            size_bytes = mapping.size_owed
            if size_bytes is None:
                return None
            first = _before_telling(mapping, size_bytes, make_waiter)
            if first is None:
                mapping.size_waiters = []
                break
        yield from first
    failure: BaseException | None = None
    beyond = range(size_bytes >> PAGE_SHIFT, mapping.frame_count)
    tell = called(SET_SIZE, zone, partial(mapping.ops.set_size, size_bytes), mapping=mapping, not_stored=beyond)
    try:
        yield from on_io_steps(zone, tell, make_waiter)
    except BaseException as error:  # also of those that are no Exception: whoever waits must be told
        failure = kept(error)
    with zone.lock:
        if failure is not None:
            mapping.set_error(failure)
            zone.dirty.failed(mapping, failure)
            zone.wake_memory_waiter()
        else:
            _size_was_told(mapping, size_bytes)
        waiters, mapping.size_waiters = mapping.size_waiters or [], None
        for waiter in waiters:
            waiter.wake()
    if failure is not None and not isinstance(failure, Exception):
        raise failure
    return failure


def _before_telling(mapping: AddressSpace, size_bytes: int, make_waiter: MakeWaiter) -> Steps[object] | None:
    """What to wait for before the store is told; None if there is nothing.  Zone's lock held."""
    for stored in mapping.under_writeback.values():
        return _wait_with(stored.join(make_waiter))
    for page in mapping.in_flight.values():
        # Locked before the cut, and perhaps being read beyond the new end: by a reader, since a writer holds i_rwsem
        # with his page locks, as did whoever cut the file, and locks them up to the new end since.  So whoever holds
        # it waits for the store's answer only, and not for anybody who waits here.
        if page.size_bytes and page.offset + page.size_bytes > size_bytes:
            return page.join(page.index, make_waiter, wants_lock=False).steps()
    if mapping.size_waiters is not None:  # another is telling it
        mapping.size_waiters.append(waiter := make_waiter())
        return _wait_with(waiter)
    return None


def _wait_with(waiter: Waiter) -> Steps[None]:
    yield waiter


def _size_was_told(mapping: AddressSpace, size_bytes: int) -> None:
    """The store has this size now.  Nothing was stored meanwhile.  Zone's lock held."""
    mapping.store_end = size_bytes
    if mapping.size_owed == size_bytes:
        mapping.size_owed = None if size_bytes <= mapping.i_size else mapping.i_size
    mapping.disk_size = size_bytes if mapping.size_owed is None else min(size_bytes, mapping.size_owed)


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
                # It ends in a hole.  A direct write may have begun to store what lies beyond the end as it is now.
                mapping.size_owed = max(mapping.i_size, mapping.store_end)
        if error is not None:
            return error


def fsync_steps(file: OpenFile, make_waiter: MakeWaiter, *, durable: bool = True) -> Steps[None]:
    """Everything that was written before this is in the store, and *durable*, once it returns without an error.

    Raises: the first error of this write-back; else an error of an earlier one that this open file has not been told
    of.  What failed stays dirty: another fsync tries again.  Linux: vfs_fsync, file_check_and_advance_wb_err.
    """
    error = yield from sync_steps(file.mapping, make_waiter, durable=durable)
    with file.mapping.zone.lock:
        earlier, file.wb_seen = file.mapping.wb_err.check_and_advance(file.wb_seen)
    error = error or earlier
    if error is not None:
        try:
            raise again(error)
        finally:
            del error, earlier


def sync_steps(mapping: AddressSpace, make_waiter: MakeWaiter, *, durable: bool) -> Steps[BaseException | None]:
    """As `fsync_steps`, for somebody without an open file: the first error, which has been noted, and which those who
    have one are still to be told.  Linux: sync_inode."""
    zone = mapping.zone
    error = yield from store_all(mapping, make_waiter)
    if error is None and durable:  # with an error, the store must not take what it has for the whole
        try:
            yield from on_io_steps(zone, called(FSYNC, zone, mapping.ops.fsync, mapping=mapping), make_waiter)
        except Exception as failure:
            error = kept(failure)
            with zone.lock:
                mapping.set_error(error)
    return error


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

    try:
        zone.io.start(call)
    except RuntimeError:  # the process has no thread left, or is ending
        call()
    yield waiter
    result, error = outcome.pop()
    if error is not None:
        try:
            raise error
        finally:
            del error
    return result  # type: ignore[return-value]  # T may be None
