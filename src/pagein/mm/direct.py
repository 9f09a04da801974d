"""Direct I/O: past the cache, and coherent with it.  Linux: generic_file_direct_write.

Guarantees: what is read through the cache after a direct write is what was written; where pages cannot be dropped, or
the store does not do it, the write goes through the cache instead.
Not here: writing through the cache (write.py).
"""

from __future__ import annotations

import errno
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from ..units import PAGE_SHIFT, page_count_for
from .debug import called
from .locking import DIRECT_WRITE
from .on_io import on_io_steps
from .page import Writeback
from .sync import MakeWaiter, Steps
from .truncate import drop_before_growth, extend, invalidate_inode_pages2, require_room
from .write import require_open, write_locked
from .writeback import Sync, write_back

if TYPE_CHECKING:
    from .mapping import AddressSpace
    from .openfile import OpenFile


def direct_write(file: OpenFile, data: memoryview, offset: int, make_waiter: MakeWaiter) -> Steps[int]:
    """Write *data* at *offset* straight to the store; how many bytes.

    Takes ``i_rwsem``.  Blocks: for write-back of the range, and as long as the store takes.  Raises: OSError.
    """
    mapping = file.mapping
    yield from mapping.i_rwsem.acquire_steps(make_waiter)
    try:
        require_open(file)
        require_room(mapping, offset + len(data) if len(data) else 0)
        if (yield from _may_pass_by(mapping, offset, len(data), make_waiter)):
            written = yield from _pass_by(mapping, data, offset, make_waiter)
            if written:
                return written
        return (yield from write_locked(file, data, offset, make_waiter))
    finally:
        mapping.i_rwsem.release()


def _may_pass_by(mapping: AddressSpace, offset: int, size_bytes: int, make_waiter: MakeWaiter) -> Steps[bool]:
    """Have the range, and the size, in the store, and no page of it here; False if that cannot be."""
    if mapping.size_owed is not None:
        return False
    if offset > mapping.i_size:
        drop_before_growth(mapping)
    first, stop = offset >> PAGE_SHIFT, page_count_for(offset + size_bytes)
    # Also what covers what a write has left that failed: all before this counts as had from then on.
    covers = mapping.store_end > mapping.disk_size
    stored_from = min(first, mapping.disk_size >> PAGE_SHIFT) if covers else first
    if (yield from write_back(mapping, Sync.ALL, make_waiter, stored_from, stop)) is not None:
        return False
    try:
        invalidate_inode_pages2(mapping, first, stop)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


def _pass_by(mapping: AddressSpace, data: memoryview, offset: int, make_waiter: MakeWaiter) -> Steps[int]:
    """Have it stored.  It counts as write-back until the file is as long as the store has it, so that nobody tells the
    store another size: it would cut off what was written."""
    zone, first = mapping.zone, offset >> PAGE_SHIFT
    stop = offset + len(data)
    page_count = page_count_for(stop) - first
    with zone.lock:
        # While it makes the file longer, what is beyond the end is taken for this write's, and nobody cuts it off
        # (size_owed.py): so nothing may be there that an earlier one has left that failed.
        if mapping.size_owed is not None or stop > mapping.i_size < mapping.store_end:
            return 0
        mapping.still_refused()  # of what an earlier one has left, not of what this one may leave
        writeback = Writeback(page_count, direct_stop=stop)
        writeback.enter(mapping, first)
        mapping.note_begun(stop)
    try:
        write = called(DIRECT_WRITE, zone, partial(mapping.ops.direct_write, data, offset), mapping=mapping)
        written = yield from on_io_steps(zone, write, make_waiter)
        if written and not _is_coherent(mapping, offset, written, writeback):
            return 0
        return written
    except Exception:
        # It may have stored a part: what a reader has brought meanwhile may be from before.
        with suppress(OSError):  # a view shows some of that
            invalidate_inode_pages2(mapping, first, first + page_count, own=writeback)
        raise
    finally:
        with zone.lock:
            writeback.piece_ended(mapping, first, page_count, None)


def _is_coherent(mapping: AddressSpace, offset: int, written: int, own: Writeback) -> bool:
    """Drop what a reader has brought meanwhile, as it may be from before; then the file is as long as that.  False if
    that cannot be, because a view shows some of it by now, or memory is short: then it is written into the cache."""
    zone, end = mapping.zone, offset + written
    with zone.lock:
        # Before what is here is dropped: who brings a page from then on must not take it for a hole.
        mapping.note_stored(min(end, mapping.i_size))
    try:
        invalidate_inode_pages2(mapping, offset >> PAGE_SHIFT, page_count_for(end), own=own)
        if end > mapping.i_size:
            extend(mapping, end, from_bytes=offset, own=own)
    except OSError:
        return False
    return True
