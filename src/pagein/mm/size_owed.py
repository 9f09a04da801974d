"""The size that a store has to be told before it is given more: what was cut off must not come back.

Assumes: callers hold no page lock; may hold ``i_rwsem``, which is never taken in here.
Not here: what is owed, and when (sizes.py); what is stored then (walk.py).
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


def tell_size(mapping: AddressSpace, make_waiter: MakeWaiter) -> Steps[BaseException | None]:
    """Tell the store the size that it has to have before it gets more; return what it raised, unless that is owed no
    more (`Sizes.owe_tail`).

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
                size_bytes = mapping.begin_telling()
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
            mapping.note_told(size_bytes)
        elif not (is_refused := mapping.take_refusal(failure)):
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


def give_up_size(mapping: AddressSpace, make_waiter: MakeWaiter) -> Steps[None]:
    """The store is not told any more what it is owed: it has what it had before the cut.  Who is telling it already is
    waited for.  Locks: ``i_rwsem``."""
    while True:
        with mapping.zone.lock:
            if mapping.size_waiters is None:
                mapping.give_up_size()
                return
            mapping.size_waiters.append(waiter := make_waiter())
        yield waiter


def wait_with(waiter: Waiter) -> Steps[None]:
    """Wait until it is woken."""
    yield waiter
