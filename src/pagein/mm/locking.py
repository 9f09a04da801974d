"""Who holds what, operation by operation: as data; debug mode asserts what it says of a store's operations.

Guarantees: the table in docs/explanation/locking.md is this (``python -m tests.locking`` writes it).
Not here: in which order locks are taken (lockorder.py); when it is asked (debug.py).
Source: Linux's Documentation/filesystems/locking.rst.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .zone import Zone


class Held(Enum):
    """What the table says of ``i_rwsem``."""

    NO = "no"
    MAY = "may be held"
    YES = "held"
    TAKES = "takes it"


class Operation(NamedTuple):
    """A row of the table."""

    name: str
    """As the table has it; for an operation of a store, the method's, by itself."""
    on_entry: str
    on_return: str
    i_rwsem: Held
    blocks: str
    runs: str
    locked: bool = False
    """A store's: it is given a page, or a run of pages, that the calling thread has locked."""
    stores: bool = False
    """A store's: until it returns, what is dirty may stay so, also by a lock of its own."""

    def stores_in(self, zone: Zone) -> Zone | None:
        """Where that is so, if it stores: for `sync.outside`."""
        return zone if self.stores else None


_LONG = "as long as it likes"

READPAGE = Operation(
    "readpage",
    "locked, not Uptodate",
    "see [the four-way table](../reference/contract.md)",
    Held.MAY,
    _LONG,
    "an I/O worker; if it does not block, or says `readers_call` and the reader has nothing else to ask for, whoever"
    " needs the page, a worker for the main thread",
    locked=True,
)
READAHEAD = Operation(
    "readahead",
    "every page of the run locked",
    "what was taken is ended or in flight; the rest is unlocked by the core",
    Held.MAY,
    _LONG,
    "the same",
    locked=True,
)
WRITEPAGES = Operation(
    "writepages",
    "every page of the run locked, dirty cleared",
    "what was taken is unlocked and under write-back, or ended; the rest stays dirty",
    Held.MAY,
    _LONG,
    "an I/O worker; if it does not block, whoever writes back",
    locked=True,
    stores=True,
)
WRITEPAGE = Operation(
    "writepage",
    "locked, dirty cleared",
    "unlocked; locked with AOP_WRITEPAGE_ACTIVATE",
    Held.MAY,
    _LONG,
    "inside `writepages`, unless the store has its own",
    locked=True,
    stores=True,
)
SET_SIZE = Operation(
    "set_size",
    "none; nothing from the new end on under write-back",
    "the same",
    Held.MAY,
    _LONG,
    "an I/O worker, before anything more of the file is stored",
    stores=True,
)
PUNCH_HOLE = Operation(
    "punch_hole",
    "none; nothing of the range under write-back",
    "the same",
    Held.YES,
    _LONG,
    "who makes the hole",
    stores=True,
)
FSYNC = Operation("fsync", "none", "none", Held.MAY, _LONG, "an I/O worker", stores=True)
DIRECT_WRITE = Operation(
    "direct_write",
    "none; the range counts as under write-back",
    "the same",
    Held.YES,
    _LONG,
    "an I/O worker",
    stores=True,
)
LAUNDER_PAGE = Operation(
    "launder_page", "locked, dirty", "the same", Held.MAY, _LONG, "who drops the pages", locked=True, stores=True
)
UNCOMMITTED_BYTES = Operation(
    "uncommitted_bytes", "none", "none", Held.MAY, "no: `InodeTable.lock` may be held", "who asks what is unwritten"
)
DISCARD = Operation("discard", "none", "none", Held.YES, _LONG, "who gives up what is unwritten; a worker for him")
OPEN = Operation(
    "a source's `open`, looks at it, and their `close`",
    "none; in a look, or a turn, perhaps",
    "the same",
    Held.NO,
    _LONG,
    "who opens or closes it; an I/O worker for a reader",
)


_INTERRUPTIBLY = "interruptibly"

OPERATIONS = (
    READPAGE,
    READAHEAD,
    Operation("`filemap.read`", "none", "none", Held.NO, _INTERRUPTIBLY, "the reader's thread"),
    Operation(
        "`filemap.fault`",
        "none",
        "LOCKED: held by the caller; else none",
        Held.NO,
        _INTERRUPTIBLY,
        "the faulting thread",
    ),
    Operation("`read_cache_page`", "none", "none; the page is pinned", Held.NO, _INTERRUPTIBLY, "the caller's thread"),
    Operation("`Page.end_read`", "locked", "unlocked", Held.MAY, "no", "any thread"),
    Operation("`pwrite`, the short way", "none", "none", Held.NO, "no: `dirty_lock`", "the writer's thread"),
    Operation(
        "`perform_write`, `zero_range`, `direct.direct_write`",
        "none",
        "none",
        Held.TAKES,
        _INTERRUPTIBLY,
        "the writer's thread; a worker for the main thread",
    ),
    Operation("`write_begin`", "none", "LOCKED", Held.YES, "for the lock, for memory, for the store", "the same"),
    Operation("`write_end`", "LOCKED", "the same; dirty, Uptodate, `i_size`", Held.YES, "no", "the same"),
    WRITEPAGES,
    WRITEPAGE,
    Operation(
        "`Page.end_writeback`",
        "unlocked, under write-back",
        "the same; clean, or dirty again",
        Held.MAY,
        "no",
        "any thread",
    ),
    Operation("`write_back`, `fsync_steps`", "none", "none", Held.MAY, _INTERRUPTIBLY, "who calls fsync; the flusher"),
    FSYNC,
    DIRECT_WRITE,
    Operation(
        "`truncate.truncate`, `discard.discard`",
        "none",
        "none",
        Held.TAKES,
        "for page locks, and for write-back of what is cut, or given up",
        "a worker",
    ),
    SET_SIZE,
    PUNCH_HOLE,
    LAUNDER_PAGE,
    UNCOMMITTED_BYTES,
    DISCARD,
    OPEN,
    Operation(
        "`reclaim.shrink`, `removal.remove_runs`",
        "zone's lock; no page of the runs locked",
        "the same",
        Held.MAY,
        "no",
        "whoever needs memory",
    ),
    Operation("`invalidate_mapping_pages`", "none", "none", Held.MAY, "no", "the caller"),
    Operation(
        "`invalidate_inode_pages2`, `truncate_setsize`",
        "none",
        "none",
        Held.YES,
        "for page locks",
        "the caller; a worker for the main thread",
    ),
    Operation("a hit (`pread`, `view`)", "none", "none", Held.NO, "no", "the reader's thread, without any lock"),
)
