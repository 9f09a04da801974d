"""Pages and runs as a checked store is given them: all that it does to one is seen, then done.

Guarantees: a breach that is seen here is recorded, and not raised in the store's own thread, where it might be lost.
Not here: the operations (probe.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from ...errors import ContractViolation
from .clauses import number_of
from .lent import Lent, Shown

if TYPE_CHECKING:
    from ...mm.page import Page
    from ...mm.rac import ReadaheadControl
    from ...mm.wbc import WritebackControl
    from .record import Record


class SeenPage:
    """A page, or a run of pages, in the hands of a store."""

    __slots__ = (
        "_is_stored", "_lent", "_page", "_record", "_shown", "_state", "_was_filled",
        "operation", "owed_clause", "where",
    )  # fmt: skip

    def __init__(self, page: Page, record: Record, operation: str, *, owed_clause: str) -> None:
        self._page = page
        self._record = record
        self._state = "held"
        self._lent: dict[str, Lent] = {}
        self._is_stored = owed_clause == "W3"
        self._was_filled = False
        self._shown: Shown | None = None
        self.operation: str = operation
        self.owed_clause: str = owed_clause
        """Which clause it breaks never to end it."""
        last = page.index + page.page_count - 1
        pages = f"page {page.index}" if page.page_count == 1 else f"pages {page.index} to {last}"
        self.where: str = record.here(f"{operation}, {pages}")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._page, name)

    def __repr__(self) -> str:
        return repr(self._page)

    @property
    def buffer(self) -> memoryview:
        """As `Page.buffer`."""
        return self._lend("R13", readonly=False)

    @property
    def content(self) -> memoryview:
        """As `Page.content`."""
        return self._lend("W17", readonly=True)

    def _lend(self, number: str, *, readonly: bool) -> memoryview:
        if self._state in ("ended", "unlocked", "settled", "failed"):
            what = "content" if readonly else "buffer"
            late = self.too_late if readonly else "R14"
            self._record.breach(late, f"page.{what} was taken after the store had let go of the page", self.where)
        lent = self._lent.get(number)
        if lent is None or (readonly and not lent.is_kept):  # content is another each time
            lent = self._lent[number] = Lent(self._page, number, self.where, readonly=readonly)
            self._record.lent.append(lent)
        return lent.view

    @property
    def is_forgotten(self) -> bool:
        """Whether it is locked and dirty still, though the operation that was to store it has returned."""
        return self._page.locked and self._page.writeback is not None and not self._page.in_writeback

    @property
    def too_late(self) -> str:
        """Which clause it breaks to use what is to be stored, now that the store has let go of the page."""
        if self._state == "failed":
            return "W20"
        return "W1" if self._state == "unlocked" and self._is_stored else "W17"

    def end_loans(self) -> None:
        """Its memory is not the store's any more."""
        for lent in self._lent.values():
            lent.end()

    @property
    def is_owed(self) -> bool:
        """Whether the store has yet to end it.  (It may do so just as its operation returns.)"""
        return self._state == "owed" and (self._page.locked or self._page.in_writeback)

    def owe(self) -> None:
        """The operation has returned, and left it to be ended, or has ended it."""
        if self._state == "held":
            self._state = "owed"
            self._record.took(self)
        elif self._state == "unlocked":
            self._require_filled()

    def _require_filled(self) -> None:
        """To unlock a page is an end of its read only if it is Uptodate: who waits for it then finds it."""
        if not self._was_filled:
            seen = "page.unlock() was called in place of page.end_read(), and the page was not Uptodate"
            self._record.breach(self.owed_clause, seen, self.where)

    def settle(self) -> None:
        """The core has it again."""
        self._state = "settled"
        self.end_loans()

    def operation_raised(self) -> None:
        """The core takes it back, as not stored: what was begun of it must be over."""
        if self._state == "owed":
            self._state = "failed"

    def end_in_its_place(self, error: OSError) -> None:
        """End what the store has not ended."""
        self._state = "rescued"
        if self._page.in_writeback:
            self._page.end_writeback(error)
        elif self._page.locked:
            self._page.end_read(error)

    # -- what a store does to a page -------------------------------------------------------------------------

    def set_uptodate(self) -> None:
        """As `Page.set_uptodate`."""
        shown = Shown(self._page) if self._page.locked else None  # else its memory may have gone
        if self._do("set_uptodate", self._page.set_uptodate) and self._shown is None:
            self._shown = shown

    def note_late_writes(self) -> None:
        """The store is about to let go of it: what it has written since `set_uptodate` readers may not have seen."""
        shown, self._shown = self._shown, None
        if shown is not None and self._page.locked and (changed := shown.changed()):
            at, count = changed
            seen = f"{count} bytes, the first at byte {at}, were written after page.set_uptodate()"
            self._record.breach("R9", seen, self.where, is_certain=True)

    def end_read(self, error: BaseException | None = None) -> None:
        """As `Page.end_read`."""
        if self._state == "rescued":
            return  # too late: it was told already
        if error is not None and self._page.locked and self._page.uptodate:
            self._record.breach("R12", f"page.set_uptodate() was called, then page.end_read({error!r})", self.where)
        if error is not None and not isinstance(error, OSError):
            self._record.breach("R8", f"page.end_read({error!r})", self.where)
        if error is None:
            self.note_late_writes()
        if self._page.locked:
            self.end_loans()
        before, self._state = self._state, "ended"
        if not self._do("end_read", lambda: self._page.end_read(error)):
            self._state = before

    def unlock(self) -> None:
        """As `Page.unlock`."""
        if self._state == "rescued":
            return
        was_owed = self._state == "owed" and not self._is_stored  # else it is unlocked to be stored
        if self._state == "held" or was_owed:
            self.note_late_writes()
            self._was_filled = self._page.uptodate  # who looks at the state may do so before it is unlocked
            self._state = "unlocked"
            self.end_loans()
        if self._do("unlock", self._page.unlock) and was_owed:
            self._require_filled()

    def set_writeback(self) -> None:
        """As `Page.set_writeback`."""
        if self._do("set_writeback", self._page.set_writeback):
            self._state = "owed"
            self._record.took(self)
        else:
            self._state = "mistaken"  # what follows from it is not told

    def end_writeback(self, error: BaseException | None = None) -> None:
        """As `Page.end_writeback`."""
        if self._state == "rescued":
            return
        if self._state == "failed":
            seen = "page.end_writeback() was called after the operation had raised: it was still being stored"
            self._record.breach("W20", seen, self.where, is_certain=True)
            return
        if error is not None and not isinstance(error, OSError):
            self._record.breach("R8", f"page.end_writeback({error!r})", self.where)
        if self._record.while_stored is not None and self._page.in_writeback and not self._page.locked:
            self._record.while_stored()
        self.end_loans()
        before, self._state = self._state, "ended"
        if not self._do("end_writeback", lambda: self._page.end_writeback(error)):
            self._state = before

    def _do(self, name: str, run: Any) -> bool:
        try:
            run()
        except ContractViolation as violation:
            number = number_of(violation.clause)
            self._record.breach(number, f"page.{name}() of a page that is not the store's any more", self.where)
            return number == "R13"  # it was done, and then complained about
        self._record.moved()
        return True


class SeenReadahead:
    """The run that readahead is given."""

    def __init__(self, rac: ReadaheadControl, record: Record) -> None:
        self._rac = rac
        self._record = record
        self.taken: list[SeenPage] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rac, name)

    def take(self, page_count: int | None = None) -> Page:
        """As `ReadaheadControl.take`."""
        page = self._rac.take(page_count)
        self._record.poison_page(page)
        self.taken.append(seen := SeenPage(page, self._record, "readahead", owed_clause="A2"))
        return cast("Page", seen)

    def __iter__(self) -> Iterator[Page]:
        while self._rac.page_count:
            yield self.take(1)


class SeenWriteback:
    """The run that writepages is given."""

    def __init__(self, wbc: WritebackControl, record: Record) -> None:
        self._wbc = wbc
        self._record = record
        self.taken: list[SeenPage] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wbc, name)

    def take(self, page_count: int | None = None) -> Page:
        """As `WritebackControl.take`."""
        page = self._wbc.take(page_count)
        self.taken.append(seen := SeenPage(page, self._record, "writepages", owed_clause="W3"))
        return cast("Page", seen)

    def __iter__(self) -> Iterator[Page]:
        while self._wbc.page_count:
            yield self.take(1)

    def redirty(self, page: Any) -> None:
        """As `WritebackControl.redirty`."""
        self._wbc.redirty(page._page if isinstance(page, SeenPage) else page)
        if isinstance(page, SeenPage):
            page.settle()
