"""Tracepoints: what a tracer is told while it looks at a zone (`Zone.tracer`).

Guarantees: none costs more than one look at an attribute while nobody traces, and none is on the hit path.
Assumes: a tracer neither blocks, nor takes a lock of ours: it may be called with the zone's lock held.
Not here: what becomes of it (pagein.trace), and reads, which a file tells itself while it is traced.
Linux: include/trace/events/filemap.h, writeback.h.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .lru import Run
    from .mapping import AddressSpace
    from .page import Writeback
    from .request import Request
    from .zone import Zone


class Tracer(Protocol):
    """Who traces a zone."""

    def missed(self) -> None:
        """What the calling thread reads, or writes, is not all here."""

    def fetch_began(self, request: Request) -> None:
        """A store is asked."""

    def fetch_ended(self, request: Request, brought_bytes: int) -> None:
        """It has answered; with nothing, if that failed."""

    def opened_with(self, file: str, store: str, offset: int, brought_bytes: int, duration_s: float) -> None:
        """Bytes of a file have come with its opening: the first, or what is behind them."""

    def removed(self, runs: Iterable[Run], *, is_eviction: bool) -> None:
        """Pages have left the cache."""

    def writeback_began(self, writeback: Writeback, mapping: AddressSpace, index: int, page_count: int) -> None:
        """A store is given pages."""

    def writeback_ended(self, writeback: Writeback) -> None:
        """It has taken them, or failed."""

    def waiting(self, what: str, name: str) -> AbstractContextManager[object]:
        """While somebody waits."""

    def opened(self, file: Any) -> None:
        """A file was opened."""

    def close(self) -> None:
        """The cache has been closed."""


_NOT_TRACED = nullcontext()


def waiting(zone: Zone, what: str, name: str = "") -> AbstractContextManager[object]:
    """Around a wait for *what*, with a file of this *name*."""
    tracer = zone.tracer
    return _NOT_TRACED if tracer is None else tracer.waiting(what, name)
