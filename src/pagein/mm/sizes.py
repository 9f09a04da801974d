"""The sizes of one file: what it is here, what the store has of it, and what the store has to be told of that.

    0 ............ disk_size ............ i_size ............ store_end
      what the store has      what it has not      the tail: what writes that it has failed may have left there

Guarantees: pure: no lock, no wait, no I/O.  Whatever changes what the store has, or is owed, is a method here.
Assumes: the zone's lock is held.  (``i_size`` is its user's, and is changed under ``dirty_lock`` as well.)
Not here: who tells the store, and who waits for that (size_owed.py); files that become shorter or longer (truncate.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .rarely import NOTHING_RARE, Rarely

if TYPE_CHECKING:
    from .page import Writeback
    from .sync import Waiter


class Sizes:
    """Those of an `AddressSpace`.  (A part of it, and no object of its own: many small files may be open at once.)"""

    __slots__ = ("disk_size", "i_size", "rare", "size_owed", "store_end", "uncut_size")
    under_writeback: dict[int, Writeback]

    is_owed_for_tail: Rarely[bool] = Rarely(False)
    """`size_owed` is owed just because of the tail: nothing of the user's depends on it..."""
    tail_refusal: Rarely[BaseException | None] = Rarely(None)
    """...and why the store, asked last, would not cut the tail off."""
    hole_end: Rarely[int | None] = Rarely(None)
    """`size_owed` is owed since the file ended in a hole, here: what the store has beyond that once it was told may be
    garbage."""
    size_waiters: Rarely[list[Waiter] | None] = Rarely(None)
    """Who waits until somebody has told the store what it is owed; None if nobody is about to."""

    def __init__(self, i_size: int) -> None:
        self.rare: Any = NOTHING_RARE
        self.i_size: int = i_size
        self.disk_size: int = i_size
        """How many bytes the store holds of it: what lies beyond is zeros, or in the cache."""
        self.uncut_size: int = i_size
        """The same, but for the cut that the store has not been told of."""
        self.store_end: int = i_size
        """Beyond this the store has nothing: it was never given more, whatever became of that."""
        self.size_owed: int | None = None
        """The store has to be told this size before anything more is stored."""

    def start_anew(self) -> None:
        """After a fork, in the child: nothing of it is zeros for certain, and the operations know what became of it.
        Nor is anything else of what few files have (rarely.py) the child's."""
        self.size_owed, self.rare = None, NOTHING_RARE
        self.disk_size = self.uncut_size = self.i_size

    @property
    def has_its_size(self) -> bool:
        """Whether the store has all of the file, as far as sizes go."""
        return self.size_owed is None and self.disk_size >= self.i_size

    # -- what it has -------------------------------------------------------------------------------------

    def note_begun(self, end_bytes: int) -> None:
        """The store is about to be given what ends there, and may have it from here on, whatever becomes of that."""
        self.store_end = max(self.store_end, end_bytes)

    def note_stored(self, end_bytes: int) -> None:
        """The store has taken what ends there.  A cut that it has not been told of will take off what lies behind."""
        self.uncut_size = max(self.uncut_size, end_bytes)
        if self.size_owed is not None:
            end_bytes = min(end_bytes, self.size_owed)
        self.disk_size = max(self.disk_size, end_bytes)

    def note_size(self, size_bytes: int, *, may_have_tail: bool = False) -> None:
        """The store has so much, all of it content; *may_have_tail*: and behind it what it may have had there."""
        self.disk_size = self.uncut_size = size_bytes
        self.store_end = max(self.store_end, size_bytes) if may_have_tail else size_bytes

    def forget_tail(self) -> None:
        """What may lie behind is not this file's, nor is it this file's to cut off."""
        self.store_end = self.disk_size

    # -- what it is owed ---------------------------------------------------------------------------------

    def owe_size(self, size_bytes: int) -> None:
        """What the store may have beyond *size_bytes* is the file's no more."""
        self.size_owed = size_bytes if self.size_owed is None else min(self.size_owed, size_bytes)
        self.disk_size = min(self.disk_size, size_bytes)
        self.is_owed_for_tail = False

    def owe_hole(self) -> None:
        """The file ends in a hole, which the store is to have.  A direct write may have begun to store what lies beyond
        the end as it is now."""
        self.hole_end = self.i_size
        self.size_owed = max(self.i_size, self.store_end)

    def owe_tail(self) -> bool:
        """The store is to cut off its tail; False if there is none, or a size is owed already.

        Nothing of the user's depends on that, so a store that refuses it owes nothing, and nobody waits until it can:
        each fsync and close tries again.  Before the file grows over it, it is owed all the same
        (truncate.drop_before_growth).
        """
        end_bytes = self.i_size  # once: a write that goes the short way may be about to make the file longer
        if self.size_owed is not None or not self._has_tail(end_bytes):
            return False
        self.owe_size(end_bytes)
        self.is_owed_for_tail = True
        return True

    def _has_tail(self, end_bytes: int) -> bool:
        """Whether the store may have something beyond the end that nobody is about to make content."""
        if self.store_end <= end_bytes:
            return False
        # A direct write with which the file is longer began when nothing was there (direct.py).
        return not any(stored.direct_stop > end_bytes for stored in self.under_writeback.values())

    def still_refused(self) -> BaseException | None:
        """Why the store, asked last, would not cut off its tail, which is there still; once there is none, that is
        forgotten."""
        if self.store_end <= self.i_size:
            self.tail_refusal = None
        return self.tail_refusal

    # -- telling it --------------------------------------------------------------------------------------

    def begin_telling(self) -> int:
        """What it is owed, from here on, and is about to be told."""
        assert self.size_owed is not None
        if self.disk_size < self.size_owed < self.store_end:
            # Between lies what a write has left that failed; what covers it now is still to be stored, and may be
            # given up before.
            self.size_owed = self.disk_size
        return self.size_owed

    def note_told(self, size_bytes: int) -> None:
        """The store has this size now.  Nothing was stored meanwhile."""
        content_bytes = size_bytes
        if self.hole_end is not None:  # or where a direct write has ended that had begun to store what lies behind
            content_bytes = min(size_bytes, max(self.hole_end, self.uncut_size))
        self.store_end, self.disk_size, self.uncut_size = size_bytes, content_bytes, content_bytes
        self.tail_refusal, self.is_owed_for_tail, self.hole_end = None, False, None
        if self.size_owed == size_bytes:
            self.size_owed = None
        elif self.size_owed is not None:  # cut meanwhile
            self.disk_size = min(content_bytes, self.size_owed)

    def take_refusal(self, failure: BaseException) -> bool:
        """The store would not have it: whether that was only for its tail, and so is owed no more."""
        if not self.is_owed_for_tail:
            return False
        # In this hold: nobody else is telling it, and nobody has cut the file since, or grown it over a hole.
        self.size_owed, self.is_owed_for_tail = None, False
        self.tail_refusal = failure
        return True

    def give_up_size(self) -> None:
        """The store is not told any more what it is owed: it has what it had before the cut."""
        self.size_owed, self.is_owed_for_tail, self.hole_end = None, False, None
        self.disk_size = self.uncut_size
