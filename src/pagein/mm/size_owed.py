"""The size that a store has to be told before it is given more: what was cut off must not come back.

Assumes: callers hold no page lock; may hold ``i_rwsem``, which is never taken in here.
Not here: files that become shorter or longer (truncate.py), and what is stored then (walk.py).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..units import PAGE_SHIFT
from .debug import called
from .errseq import kept
from .locking import SET_SIZE
from .on_io import on_io_steps
from .sync import MakeWaiter, Steps, Waiter

if TYPE_CHECKING:
    from .mapping import AddressSpace


def owe_size(mapping: AddressSpace, size_bytes: int) -> None:
    """What the store may have beyond *size_bytes* is the file's no more.  Zone's lock held."""
    mapping.size_owed = size_bytes if mapping.size_owed is None else min(mapping.size_owed, size_bytes)
    mapping.disk_size = min(mapping.disk_size, size_bytes)
    mapping.is_owed_for_tail = False


def owe_tail(mapping: AddressSpace) -> bool:
    """What writes that it has failed may have left beyond the end the store is to cut off; False if there is nothing,
    or a size is owed already.  Zone's lock held.

    Nothing of the user's depends on that, so a store that refuses it owes nothing, and nobody waits until it can: each
    fsync and close tries again.  Before the file grows over it, it is owed all the same (truncate.drop_before_growth).
    """
    end_bytes = mapping.i_size  # once: a write that goes the short way may be about to make the file longer
    if mapping.size_owed is not None or not _has_tail(mapping, end_bytes):
        return False
    owe_size(mapping, end_bytes)
    mapping.is_owed_for_tail = True
    return True


def still_refused(mapping: AddressSpace) -> BaseException | None:
    """Why the store, asked last, would not cut off what is beyond the end still; once nothing is, that is forgotten.
    Zone's lock held."""
    if mapping.store_end <= mapping.i_size:
        mapping.tail_refusal = None
    return mapping.tail_refusal


def _has_tail(mapping: AddressSpace, end_bytes: int) -> bool:
    """Whether the store may have something beyond the end that nobody is about to make content.  Zone's lock held."""
    if mapping.store_end <= end_bytes:
        return False
    # A direct write with which the file is longer began when nothing was there (direct.py).
    return not any(stored.direct_stop > end_bytes for stored in mapping.under_writeback.values())


def tell_size(mapping: AddressSpace, make_waiter: MakeWaiter) -> Steps[BaseException | None]:
    """Tell the store the size that it has to have before it gets more; return what it raised, unless that is owed no
    more (`owe_tail`).

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
                if mapping.disk_size < size_bytes < mapping.store_end:
                    # Between lies what a write has left that failed; what covers it now is still to be stored, and may
                    # be given up before.
                    size_bytes = mapping.size_owed = mapping.disk_size
                mapping.size_waiters = []
                break
        yield from first
    failure: BaseException | None = None
    is_refused = False
    beyond = range(size_bytes >> PAGE_SHIFT, mapping.frame_count)
    tell = called(SET_SIZE, zone, partial(mapping.ops.set_size, size_bytes), mapping=mapping, not_stored=beyond)
    try:
        yield from on_io_steps(zone, tell, make_waiter)
    except BaseException as error:  # also of those that are no Exception: whoever waits must be told
        failure = kept(error)
    with zone.lock:
        if failure is None:
            _size_was_told(mapping, size_bytes)
        elif is_refused := mapping.is_owed_for_tail:
            # In this hold: nobody else is telling it, and nobody has cut the file since, or grown it over a hole.
            mapping.size_owed, mapping.is_owed_for_tail = None, False
            mapping.tail_refusal = failure
        else:
            mapping.set_error(failure)
            zone.dirty.failed(mapping, failure)
            zone.wake_memory_waiter()
        waiters, mapping.size_waiters = mapping.size_waiters or [], None
        for waiter in waiters:
            waiter.wake()
    if failure is not None and not isinstance(failure, Exception):
        raise failure
    return None if is_refused else failure


def _before_telling(mapping: AddressSpace, size_bytes: int, make_waiter: MakeWaiter) -> Steps[object] | None:
    """What to wait for before the store is told; None if there is nothing.  Zone's lock held."""
    for stored in mapping.under_writeback.values():
        return wait_with(stored.join(make_waiter))
    for page in mapping.in_flight.values():
        # Locked before the cut, and perhaps being read beyond the new end: by a reader, since a writer holds i_rwsem
        # with his page locks, as did whoever cut the file, and locks them up to the new end since.  So whoever holds
        # it waits for the store's answer only, and not for anybody who waits here.
        if page.size_bytes and page.offset + page.size_bytes > size_bytes:
            return page.join(page.index, make_waiter, wants_lock=False).steps()
    if mapping.size_waiters is not None:  # another is telling it
        mapping.size_waiters.append(waiter := make_waiter())
        return wait_with(waiter)
    return None


def _size_was_told(mapping: AddressSpace, size_bytes: int) -> None:
    """The store has this size now.  Nothing was stored meanwhile.  Zone's lock held."""
    content_bytes = size_bytes
    if mapping.hole_end is not None:  # or where a direct write has ended that had begun to store what lies behind
        content_bytes = min(size_bytes, max(mapping.hole_end, mapping.uncut_size))
    mapping.store_end, mapping.disk_size, mapping.uncut_size = size_bytes, content_bytes, content_bytes
    mapping.tail_refusal, mapping.is_owed_for_tail, mapping.hole_end = None, False, None
    if mapping.size_owed == size_bytes:
        mapping.size_owed = None
    elif mapping.size_owed is not None:  # cut meanwhile
        mapping.disk_size = min(content_bytes, mapping.size_owed)


def give_up_size(mapping: AddressSpace, make_waiter: MakeWaiter) -> Steps[None]:
    """The store is not told any more what it is owed: it has what it had before the cut.  Who is telling it already is
    waited for.  Locks: ``i_rwsem``."""
    while True:
        with mapping.zone.lock:
            if mapping.size_waiters is None:
                mapping.size_owed, mapping.is_owed_for_tail, mapping.hole_end = None, False, None
                mapping.disk_size = mapping.uncut_size
                return
            mapping.size_waiters.append(waiter := make_waiter())
        yield waiter


def wait_with(waiter: Waiter) -> Steps[None]:
    """Wait until it is woken."""
    yield waiter
