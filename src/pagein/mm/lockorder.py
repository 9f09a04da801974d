"""The order of the locks, as data, which debug mode asserts.

Guarantees: the tree in docs/explanation/locking.md is this (``python -m tests.locking`` writes it), and so is the list
of locks beside it; a lock is in here, or it is no lock of ours.
Not here: what is held in which operation (locking.py); which thread holds what (held.py); when it is asked (debug.py,
and where each lock is taken).
Source: the lock-order comment of Linux's mm/filemap.c.
"""

from __future__ import annotations

from typing import NamedTuple


class Rank:
    """One kind of lock; or of what is waited for as for a lock, but nobody holds.

    Who holds it takes what is *below* it next; what is below those may be taken, too.  *across_waits*: it may be held
    across a store's I/O, and while its thread waits.  *nests*: who holds one may take another; which order that has is
    looked at elsewhere, or does not matter.
    """

    def __init__(
        self,
        name: str,
        where: str,
        about: str,
        below: tuple[Rank, ...] = (),
        *,
        across_waits: bool = False,
        nests: bool = False,
    ) -> None:
        self.name: str = name
        self.where: str = where
        self.about: str = about
        self.below: tuple[Rank, ...] = below
        self.all_below: frozenset[Rank] = frozenset(below).union(*(rank.all_below for rank in below))
        """Everything that may be taken by who holds it."""
        self.across_waits: bool = across_waits
        self.nests: bool = nests

    def __repr__(self) -> str:
        return f"<Rank {self.name}>"


# The short ones: nobody waits under them, and no store is called, but for what a store says of itself at once.
DIRTY_LOCK = Rank("mapping.dirty_lock", "mm/mapping.py", "LEAF: the dirty flags, `i_size`, and the state of i_rwsem")
ZONE_LOCK = Rank("zone.lock", "mm/zone.py", "microseconds; no wait, no I/O, no store code under it", (DIRTY_LOCK,))
LOOKS_LOCK = Rank("the lock of looks", "looks.py", "LEAF: who looks, and who waits for that")
TURNS_LOCK = Rank("the lock of turns", "turns.py", "LEAF: who has a turn, and who waits for it")
BUSY_LOCK = Rank("the lock of those who are busy", "turns.py", "LEAF: how many a close has to wait for")
TABLE_LOCK = Rank(
    "InodeTable.lock",
    "table.py",
    "the table of inodes; never held across a store's I/O",
    (LOOKS_LOCK, ZONE_LOCK),
)

# What is waited for.  Who waits holds up those who wait for his locks; whom he waits for must take none of these.
# (Memory and room are asserted as somebody begins to wait: whoever gets them at once is not asked.)
MEMORY = Rank("memory", "mm/reclaim.py", "WAIT: until pages that can be evicted are unlocked, or written back")
DIRTY_ROOM = Rank("room for dirty pages", "mm/dirty.py", "WAIT: for write-back, which locks pages")
BUSY = Rank("those who are busy", "turns.py", "WAIT: for those who write out what was left")

# The long ones.
PAGE_LOCK = Rank(
    "page locks",
    "mm/page.py",
    "ascending index in a mapping, mappings in one order; held across the I/O of a read",
    (ZONE_LOCK,),
    across_waits=True,
    nests=True,  # in which order: debug.py, held.py
)
FAULT_LOCK = Rank(
    "a fault's address-space lock",
    "the caller's",
    "let go before a wait, if it may be; not asserted",
    (MEMORY, PAGE_LOCK),
    across_waits=True,
)
I_RWSEM = Rank(
    "mapping.i_rwsem",
    "mm/rwsem.py",
    "slow writes, changes of size, holes, direct I/O; held across I/O",
    (DIRTY_ROOM, FAULT_LOCK),
    across_waits=True,
)
LOOK = Rank(
    "a look at a source",
    "looks.py",
    "one at a time for each source, across the store's I/O",
    (TABLE_LOCK, PAGE_LOCK),
    across_waits=True,
)
LATE_TURN = Rank(
    "a turn to write what is late",
    "turns.py",
    "what finalizers have left of an inode; by one at a time",
    (TABLE_LOCK, I_RWSEM),
    across_waits=True,
)
SOURCE_TURN = Rank(
    "a source's turn to be written",
    "turns.py",
    "one opening for writing at a time, across the store's I/O",
    (TURNS_LOCK, LATE_TURN),
    across_waits=True,
)
POSITION = Rank(
    "File's position lock",
    "file.py",
    "one per File; held across a read, as in io.BufferedReader",
    (TURNS_LOCK, BUSY_LOCK, LATE_TURN, LOOK),
    across_waits=True,
    nests=True,  # only where a signal handler, or a finalizer, uses another file than the one that it interrupts
)
TEXTS_TURN = Rank(
    "the turn to flush texts",
    "turns.py",
    "one in a cache at a time; a text writes to its file",
    (POSITION,),
    across_waits=True,
)
CLOSE_TURN = Rank(
    "the turn to close the cache",
    "turns.py",
    "one at a time, across all that has to be written back",
    (BUSY, TEXTS_TURN),
    across_waits=True,
)

ROOTS = (CLOSE_TURN, SOURCE_TURN)
"""What is taken with nothing held."""


class Other(NamedTuple):
    """A lock beside the order: who holds it takes none of the others, unless it says so.  A store's is taken in its
    operations only."""

    where: str
    name: str
    about: str


OTHERS = (
    Other("default.py", "_lock", "the process's own cache is made under it, and takes `publishing._lock`"),
    Other("publishing.py", "_lock", "LEAF: what tells `pagein top` begins and ends"),
    Other("trace.py", "_starting", "LEAF: a cache is traced once at a time"),
    Other(
        "trace_file.py",
        "_changed",
        "events to be written; WAIT: for the thread that writes them, if there are too many",
    ),
    Other("integrations/fsspec/kept.py", "_lock", "LEAF: the files that are open for fsspec"),
    Other("integrations/fsspec/listings.py", "_lock", "LEAF: what directories hold"),
    Other("integrations/references.py", "_lock", "caches by their names; one is made under it"),
    Other("integrations/obspec/known.py", "_lock", "LEAF: what a `CachedStore` knows of objects"),
    Other("stores/clients.py", "_lock", "LEAF: clients that are kept"),
    Other("stores/fsspec_instances.py", "_locks_lock", "LEAF: the locks of the next line"),
    Other("stores/fsspec_instances.py", "lock", "of a filesystem that one thread at a time may call; across I/O"),
    Other("stores/fsspec_instances.py", "making", "across the making of a parent's filesystem anew, after a fork"),
    Other("stores/http.py", "_whole_lock", "across the download of an object whose server has no ranges"),
    Other("stores/object.py", "_whole_lock", "the same; of tasks, on an event loop"),
    Other("stores/layer.py", "_fd_lock", "LEAF: a temporary file is made"),
    Other("stores/local.py", "_fsync_lock", "across an fsync, so that whoever comes second hears that it failed"),
    Other("stores/local.py", "_lock", "LEAF: the version of a local file, and who changes it"),
    Other("stores/local_fsync.py", "_lock", "LEAF: which local files were closed and not fsynced"),
    Other("stores/loop.py", "_lock", "LEAF: the event loop's thread is started"),
    Other("stores/memory.py", "_lock", "LEAF: the objects"),
    Other("stores/staged.py", "_commit_lock", "across a commit; takes the next"),
    Other(
        "stores/staged.py",
        "_lock",
        "LEAF: what is staged; also taken with `InodeTable.lock` held (`uncommitted_bytes`)",
    ),
)
