"""How a run of pages is asked for: what the operation ``readahead`` is given, and who cleans up behind it.

Guarantees: an error of a run reaches nobody from here, since whoever needs a page that did not come asks for it alone
and hears that answer; no page stays locked.
Not here: which pages are asked for (readahead.py), and when (device.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import ContractViolation
from .aops import AddressSpaceOperations
from .locking import READAHEAD
from .page import LockedPage
from .readpage import Outcome, do_readpage

if TYPE_CHECKING:
    from .openfile import OpenFile
    from .page import Page


class ReadaheadControl:
    """A run of locked pages to bring.  An operation takes pages off its front; what it takes it ends."""

    def __init__(self, file: OpenFile, page: LockedPage) -> None:
        self.file = file
        self.taken: list[Page] = []
        self._rest: Page | None = page

    @property
    def index(self) -> int:
        """The first page that has not been taken."""
        return self._untaken().index

    @property
    def page_count(self) -> int:
        """Pages that have not been taken."""
        return self._rest.page_count if self._rest else 0

    def take(self, page_count: int | None = None) -> Page:
        """Take the first *page_count* pages, by default all, as one `Page` that is filled and ended as one."""
        rest = self._untaken()
        if page_count is not None and page_count < 1:
            raise ValueError(f"readahead takes at least 1 page, not {page_count}")
        if page_count is None or page_count >= rest.page_count:
            self._rest = None
            page = rest
        else:
            page = rest.split_head(page_count)
        self.taken.append(page)
        zone = page.mapping.zone
        if zone.checks:
            zone.checks.operation_begins(page, f"{type(page.mapping.ops).__name__}.readahead")
        return page

    def __iter__(self) -> Iterator[Page]:
        """Take the pages one by one."""
        while self._rest:
            yield self.take(1)

    def read_each_page(self) -> None:
        """The fallback of an operation without ``readahead``: `readpage` for each page, every return honoured.

        Stops at the first error: the pages left are unlocked, and their readers ask for themselves.
        """
        for page in self:
            self.taken.clear()  # do_readpage settles its lock, whatever happens
            try:
                outcome = do_readpage(self.file, LockedPage(page))
            except OSError:
                return
            if outcome is Outcome.UPDATED:
                page.unlock()

    def unlock_rest(self) -> None:
        """Unlock what nobody took."""
        if self._rest:
            rest, self._rest = self._rest, None
            rest.unlock()

    def _untaken(self) -> Page:
        if self._rest is None:
            raise ContractViolation("readahead takes only the pages of its run", "ReadaheadControl.take()")
        return self._rest


def read_run(file: OpenFile, page: LockedPage) -> None:
    """Bring a run of pages by ``readahead``.

    Locks: the run locked on entry; on return what the operation took is ended or belongs to its I/O, and the
    rest is unlocked.  If it raises, what it took and has not ended is released too.
    Raises: what is no OSError (a mistake in the operation), with every page released.
    """
    zone = page.mapping.zone
    if page.is_hole:
        page.end_read()
        return
    rac = ReadaheadControl(file, page)
    ops, request = page.mapping.ops, page.request
    if type(ops).readahead is not AddressSpaceOperations.readahead:
        with zone.lock:
            page.mapping.device.asked(request)
    try:
        with zone.in_store_code(READAHEAD, page):
            ops.readahead(rac)
    except BaseException as error:
        with zone.lock:
            page.mapping.device.failed(request)
        for taken in rac.taken:
            if taken.locked:
                taken.unlock()
        if not isinstance(error, OSError):
            raise
    finally:
        rac.unlock_rest()
        for taken in rac.taken:
            taken.owner = None  # what is still locked belongs to its I/O
