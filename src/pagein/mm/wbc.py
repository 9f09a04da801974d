"""What an operation that stores pages is given, `WritebackControl`, and who settles what it did with them.

Guarantees: whatever the operation does, each page of the run has been stored, or will be by its I/O, or is dirty again;
no page stays locked.
Not here: which pages are stored (walk.py), the operations (aops.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING

from ..errors import ContractViolation
from .aops import AOP_WRITEPAGE_ACTIVATE
from .debug import called
from .locking import WRITEPAGE

if TYPE_CHECKING:
    from .page import LockedPage, Page


class Sync(Enum):
    """What write-back is for.  Linux: WB_SYNC_NONE, WB_SYNC_ALL."""

    NONE = auto()
    """To have fewer dirty pages: what is being written already is passed over, and an error ends it."""
    ALL = auto()
    """For integrity: everything is written, waited for, and attempted although something before it failed."""


class WritebackControl:
    """A run of locked pages to store.  An operation takes pages off its front; what it takes it ends."""

    def __init__(self, page: LockedPage, sync: Sync) -> None:
        self.sync = sync
        self.first_error: BaseException | None = None
        self._taken: list[Page] = []
        self._rest: Page | None = page
        self._zone = page.mapping.zone
        self._mapping = page.mapping

    @property
    def page_count(self) -> int:
        """Pages that have not been taken."""
        return self._rest.page_count if self._rest else 0

    def take(self, page_count: int | None = None) -> Page:
        """Take the first *page_count* pages, by default all, as one `Page` that is stored and ended as one."""
        rest = self._rest
        if rest is None:
            raise ContractViolation("writepages takes only the pages of its run", "WritebackControl.take()")
        if page_count is None or page_count >= rest.page_count:
            self._rest = None
        else:
            rest = rest.split_head(page_count)
        self._taken.append(rest)
        return rest

    def __iter__(self) -> Iterator[Page]:
        """Take the pages one by one."""
        while self._rest:
            yield self.take(1)

    def redirty(self, page: Page) -> None:
        """Decline to store a page now: it stays dirty.  Locks: page locked.  Linux: redirty_page_for_writepage."""
        with self._zone.lock:
            if page.writeback is not None:
                page.settle_writeback(declined=True)

    def write_each_page(self) -> None:
        """The fallback of an operation without ``writepages``: `writepage` for each page, every return honoured."""
        ops = self._mapping.ops
        for page in self:
            try:
                write = partial(ops.writepage, page, self)
                code = called(WRITEPAGE, self._zone, write, mapping=self._mapping, page=page)()
            except OSError as error:
                self._fail(page, error)
                if self.sync is Sync.NONE:
                    return
                continue
            if code == AOP_WRITEPAGE_ACTIVATE and page.locked:
                self.redirty(page)  # as the operation should have said itself
                page.unlock()  # now, and not when the rest of the run has been stored
            elif code or page.locked:
                clause = "writepage returns 0 with the page unlocked, or AOP_WRITEPAGE_ACTIVATE with it locked"
                raise ContractViolation(clause, f"{type(ops).__name__}.writepage of {page!r} returned {code!r}")

    def settle(self, error: BaseException | None) -> None:
        """The operation has returned, or raised *error*: account for each page of the run.

        Raises: ContractViolation, with checks, if it keeps a page's buffer; once all pages are accounted for.
        """
        violation: BaseException | None = None
        if self._rest is not None:  # not taken: not stored
            rest = self.take()
            if error is None:
                self.redirty(rest)
        for page in self._taken:
            try:
                if error is not None:
                    self._fail(page, error)
                else:
                    self._returned(page)
            except BaseException as told:
                violation = violation or told
        if violation is not None:
            raise violation

    def _returned(self, page: Page) -> None:
        if self._zone.checks is not None and page.locked and page.writeback is not None and not page.in_writeback:
            # What was left locked may have been stored, and mostly was forgotten.
            clause = "what writepages takes it has stored, or begun to store, or declined"
            self._fail(page, ContractViolation(clause, f"{type(self._mapping.ops).__name__}.writepages of {page!r}"))
            return
        with self._zone.lock:
            if page.writeback is not None and not page.in_writeback:  # stored under its lock; else its I/O ends it
                page.settle_writeback()
        if page.locked:
            page.unlock()

    def _fail(self, page: Page, error: BaseException) -> None:
        with self._zone.lock:
            if self.first_error is None:
                self.first_error = error
                self._mapping.set_error(error)  # also if its pages were all stored before
            if page.writeback is not None:
                page.settle_writeback(error)
        if page.locked:
            page.unlock()
