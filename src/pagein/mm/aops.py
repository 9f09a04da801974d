"""What a store implements: Linux's ``address_space_operations``, and the codes that ``readpage`` returns.

The contract of `AddressSpaceOperations.readpage`, with the AOP_UPDATED_PAGE patch:

==========================  =====================================  ==========================================
``readpage``                page lock afterwards                   the caller then
==========================  =====================================  ==========================================
returns AOP_UPDATED_PAGE    still held, and the page is Uptodate   uses the page, unlocks it exactly once
returns 0                   released by ``page.end_read(...)``,    waits for the unlock, then tests Uptodate
                            which may already have happened
returns AOP_TRUNCATED_PAGE  released by the operation              looks the page up again and retries
raises OSError              released by the core, if need be       the very reader gets that error, unchanged
==========================  =====================================  ==========================================

Not here: the one function that acts on this table, `pagein.mm.readpage.do_readpage`.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .mapping import OpenFile
    from .page import Page
    from .rac import ReadaheadControl

# Much larger than the bytes of a page, as in Linux (include/linux/fs.h), so that a leaked code is seen at once.
AOP_WRITEPAGE_ACTIVATE = 0x80000
AOP_TRUNCATED_PAGE = 0x80001
AOP_UPDATED_PAGE = 0x80002


class AddressSpaceOperations:
    """The operations that bring a file's pages.  Subclass it, give it `readpage`, and you have a store.

    A store that reads through the very cache it serves does so on the thread that called it: reclaim knows by the
    thread that it must fail with ENOMEM there rather than wait for memory which that thread itself keeps busy.
    """

    blocking = True
    """Whether an operation may keep its thread waiting.  If so it is called by an I/O worker.  If not, because the
    bytes are at hand, or because it only starts the I/O (returns 0), by whoever needs the page."""
    readers_call = False
    """Whether a reader who would only wait for an operation, because nothing else is asked for with it, calls it
    himself (a worker does for the main thread): no switch to another thread and back.  Then `Page.caller_waits` is
    true, and it may block, also if it else does not; it should return when its pages are here."""
    requests_max = 16
    """How many requests the store gets at once, for all its files together."""

    @property
    def device_key(self) -> Hashable:
        """Which store this is: files with equal keys share its pipe, and its line.  By default, one for each class."""
        return id(type(self))

    device_name = ""
    """What statistics call it; by default, the class's name."""

    def readpage(self, file: OpenFile, page: Page) -> int:
        """Bring one page.

        Fill ``page.buffer`` (a writable memoryview; it ends where the file ends), call ``page.set_uptodate()``
        and return AOP_UPDATED_PAGE; or start the I/O, return 0 and call ``page.end_read()`` from any thread.

        Locks: page locked and not Uptodate on entry; on return as the table above says.
        Blocks: as long as it likes.  Raises: OSError, which reaches the reader unchanged.
        """
        raise NotImplementedError(f"{type(self).__name__} must define readpage(file, page)")

    def readahead(self, rac: ReadaheadControl) -> None:
        """Bring a run of pages, in one request where the store can: ``page = rac.take()``, then as in `readpage`,
        ending with ``page.end_read()``.  The default asks `readpage` for each page in turn.

        Locks: every page of the run locked on entry; what was taken is ended by the operation, what was not
        is unlocked by the core.  Blocks: as long as it likes.  Raises: OSError; nobody sees it, because the
        reader who needs a page that did not come calls `readpage` and hears that answer.
        """
        rac.read_each_page()
