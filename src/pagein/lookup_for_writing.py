"""Finding the inode of a source that is to be written: the one that is being written, or what its store has now.

Guarantees: whoever opens a source for writing shares one inode with all who do; nobody looks at it, or opens it,
meanwhile.
Assumes: runs where no signal can interrupt it.
Not here: finding one to read (lookup.py), who has an inode (table.py), until when one is written (written.py).
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from .errors import exists, read_only_source
from .inode import Inode
from .mm import truncate
from .mm.debug import called
from .mm.discard import discard
from .mm.locking import OPEN
from .mm.lockorder import SOURCE_TURN
from .stores.source import Opened, Source, WritableSource
from .table import InodeTable, Released

if TYPE_CHECKING:
    from .modes import Mode


def look_up_for_writing(table: InodeTable, source: Source, mode: Mode) -> Inode:
    """The inode of *source*, which *mode* may make, or make empty, held for one file that writes it.

    Of one that nobody writes, and whose data the store does not take because another has changed the object, or which
    were given up in part, they are given up by a mode that would cut them off anyway.
    Blocks: as long as the store takes.  Raises: OSError: EROFS, and as the store says, or the built-in `open`.
    """
    if table.released:
        table.follow_up()  # who still writes
    if not isinstance(source, WritableSource):
        raise read_only_source(source.name)
    with table.turns.turn(SOURCE_TURN, source.key):
        with table.lock:
            table.check_open()
            inode = table.by_key.get(source.key)
            is_written = inode is not None and inode in table.written
            lost = inode if inode is not None and is_written and _is_lost(inode, mode) else None
            is_written = is_written and lost is None
            if inode is not None and is_written:
                if mode.exclusive:
                    raise exists(source.name)
                table.counted_for_writing(inode)
        if inode is not None and is_written:
            return _as_asked(table, inode, mode)
        began_s = table.zone.door.now_s()
        opens = partial(source.open_for_writing, create=mode.creates, exclusive=mode.exclusive, truncate=mode.truncates)
        opened = called(OPEN, table.zone, opens)()
        if lost is not None:
            _give_up(table, lost)
        inode = _held(table, source, opened, began_s)
    table.follow_up()
    return inode


def hold_for_writing(table: InodeTable, inode: Inode, mode: Mode) -> Inode:
    """Count one more that writes an inode which is known; make it empty if *mode* says so.  Blocks: then."""
    with table.lock:
        table.check_open()
        table.counted_for_writing(inode)
    return _as_asked(table, inode, mode)


def _as_asked(table: InodeTable, inode: Inode, mode: Mode) -> Inode:
    if mode.truncates:
        try:
            truncate.truncate(inode.mapping, 0)
        except BaseException:
            table.released.append(Released(inode, None, 0, wrote=True))
            raise
    return inode


def _is_lost(inode: Inode, mode: Mode) -> bool:
    """Whether what is unwritten of it can only be given up, by a mode that wants nothing of it."""
    if inode.writer_count:
        return False
    if inode.mapping.given_up is not None:
        return mode.truncates or mode.exclusive
    return inode.is_stale and mode.truncates


def _give_up(table: InodeTable, inode: Inode) -> None:
    with table.lock:
        table.forget(inode)
    inode.mapping.late.clear()
    with suppress(OSError):  # its store does not even let go
        discard(inode.mapping, shown_stays=True)  # nobody finds it any more
    table.give_up([inode])


def _held(table: InodeTable, source: Source, opened: Opened, began_s: float) -> Inode:
    is_needed = False
    try:
        with table.lock:
            table.check_open()
            inode = table.by_key.get(source.key)
            if inode is None or not inode.can_be_written_on(opened):
                inode = table.replace(Inode(table.cache, opened, key=source.key, name=source.name, has_room=True))
                inode.source = source
            # What is written counts from here on: whether others change it meanwhile a commit would say, but not
            # who writes nothing, or has written long ago.
            inode.looked_s = max(inode.looked_s, began_s)
            if inode.opened is None:
                inode.mapping.resume(opened.ops)
                inode.opened, is_needed = opened, True
            return table.counted_for_writing(inode)
    finally:
        if not is_needed:
            table.close_all([opened])
