"""Operations of a store that can fill any range of bytes, which is all that most stores have to say.

Guarantees: a page is Uptodate only after `RangeOperations.fill` returned for all of it; a run of pages is one
call of it, straight into the cache's memory.
Assumes: `fill` may run on any thread, on several at once.
Not here: operations that answer later (``readpage`` returns 0): write those on `AddressSpaceOperations` itself.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from ..mm.aops import AOP_UPDATED_PAGE, AddressSpaceOperations

if TYPE_CHECKING:
    from ..mm.mapping import OpenFile
    from ..mm.page import Page
    from ..mm.rac import ReadaheadControl


class RangeOperations(AddressSpaceOperations):
    """Give it `fill`, and you have a store."""

    @abstractmethod
    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        """Fill all of *buffer*, which lies within the file, with the file's bytes from *offset_bytes* on.

        Locks: the pages that *buffer* belongs to are locked throughout; it is not kept.  Blocks: as long as the
        store takes.  Raises: OSError, and then what *buffer* holds is nobody's: ESTALE if the object is not the
        version that was opened.
        """

    def readpage(self, file: OpenFile, page: Page) -> int:
        """Locks: page locked on entry and on return, as AOP_UPDATED_PAGE says.  Raises: OSError of `fill`."""
        self.fill(page.buffer, page.offset)
        page.set_uptodate()
        return AOP_UPDATED_PAGE

    def readahead(self, rac: ReadaheadControl) -> None:
        """The whole run at once.  Locks: the run locked on entry, unlocked on return.  Raises: OSError of `fill`."""
        page = rac.take()
        self.fill(page.buffer, page.offset)
        page.end_read()
