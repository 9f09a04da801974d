"""An open file description: what is known of one reader or writer of a mapping, and of nobody else.

Assumes: who shares one takes turns, or does with counts that are approximate.
Not here: the pages (mapping.py), what readahead makes of it (readahead.py), the file that a user has (pagein.file).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .ondemand import ReadaheadState

if TYPE_CHECKING:
    from .errseq import Since
    from .mapping import AddressSpace


_NOTHING_ASKED_FOR = ReadaheadState()


class Wishes:
    """What the user of an open file has said that he will need: a stream beside that file's own."""

    __slots__ = ("pages_in_flight",)

    def __init__(self) -> None:
        self.pages_in_flight: int = 0
        """Of all of it, in line or asked for: no more than one stream may have.  Under the zone's lock."""


class OpenFile:
    """An open file description: a mapping, and what readahead remembers of this reader."""

    __slots__ = (
        "__weakref__",
        "brings",
        "closed",
        "hits",
        "mapping",
        "mmap_miss",
        "must_not_wait",
        "prev_index",
        "ra",
        "ra_allowance",
        "ra_credit",
        "ra_scale",
        "ra_seen",
        "random",
        "wb_seen",
        "wishes",
        "writable",
    )

    def __init__(self, mapping: AddressSpace, *, writable: bool = False, brings: Wishes | None = None) -> None:
        self.mapping: AddressSpace = mapping
        self.writable: bool = writable
        self.brings: Wishes | None = brings
        """Another's, if it does nothing else."""
        self.wishes: Wishes | None = None
        """Its user's, once he has any: one for all, and another stream than his own, so that neither do they count as
        many readers, nor does what is ahead of him stand in line behind all of them."""
        with mapping.zone.lock:
            self.wb_seen: Since = mapping.wb_err.sample()
            """Which errors of write-back its user has heard of."""
        self.ra: ReadaheadState = _NOTHING_ASKED_FOR
        self.ra_scale: float = 1.0
        """Of the largest window: 2 with the advice "sequential", a quarter after an error of an asynchronous read, and
        twice as much again with each window that comes, or page that he reads on behind."""
        self.ra_credit: int | None = None
        """So many pages he may be lent; None before the first."""
        self.ra_allowance: int = 0
        """What of it he was given, and has not given back, in pages."""
        self.ra_seen: tuple[int, ...] = ()
        """Up to these pages it is counted what was used, of each stream of reads, the latest last."""
        self.mmap_miss: int = 0
        """How many more faults have missed than hit."""
        self.prev_index: int = -1
        """The last page of the read before, when this one came to a page that is not a plain hit."""
        self.random: bool = False
        self.hits: int = 0
        """Reads served by filemap.read without asking a store or waiting; approximate if threads share the file."""
        self.closed: bool = False
        self.must_not_wait: bool = False
        """Its reader's thread is an event loop's, which has others to serve."""

    @property
    def stream(self) -> Stream:
        """As whose the cache, and the line before the store, are shared out to what it asks for."""
        return self.brings or self


Stream = OpenFile | Wishes
