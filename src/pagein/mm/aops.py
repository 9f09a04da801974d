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
    from .openfile import OpenFile
    from .page import Page
    from .rac import ReadaheadControl
    from .writeback import WritebackControl

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
    bytes are at hand, or because it only starts the I/O (returns 0), by whoever needs the page.  One that opens or
    reads files of the cache may."""
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

    validates: bool = False
    """Whether a fetch brings only what belongs to the version that was opened, and fails with ESTALE else."""

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

    # -- writing -----------------------------------------------------------------------------------------

    writable = False
    """Whether the files of it may be written to; else EROFS.  Who says so gives it `writepage` or `writepages`."""
    object_bytes_max: int | None = None
    """How large a file may become; beyond, EFBIG.  It stays the same while the file is open."""
    write_bytes_max = 8 << 20
    """How much write-back hands over at once, at most."""

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        """Store one page: ``page.set_writeback()``, ``page.unlock()``, write ``page.content``, which ends where the
        file ends, and call ``page.end_writeback(error=None)``, from any thread; return 0.

        To decline: ``wbc.redirty(page)``, and either unlock it and return 0, or return AOP_WRITEPAGE_ACTIVATE with
        the page still locked.
        Locks: page locked and Uptodate on entry, its dirty flag cleared; on return unlocked, but for ACTIVATE.
        Blocks: as long as it likes.  Raises: OSError: the page stays dirty, and who calls fsync hears of it.  Nothing
        of it may be under way then: it may be stored again at once, and what lands late would land over that.
        """
        raise NotImplementedError(f"{type(self).__name__} must define writepage(page, wbc) or writepages(wbc)")

    def writepages(self, wbc: WritebackControl) -> None:
        """Store a run of pages, in one request where the store can: ``page = wbc.take()``, then as in `writepage`.
        The default asks `writepage` for each page in turn.

        Locks: every page of the run locked on entry; what was not taken stays dirty, and is unlocked by the core.
        Up to `walk.REQUESTS_MAX` calls at once, for pages that do not overlap.
        Raises: OSError: all that was taken and not ended stays dirty.  So nothing of it may be under way any more, also
        of pages that were begun before the one that failed: wait for those first; or end that one with
        ``page.end_writeback(error)``, and return.
        """
        wbc.write_each_page()

    def set_size(self, size_bytes: int) -> None:
        """The file is shorter or longer from now on; what is added is zeros.  Blocks: yes.  Raises: OSError.

        Locks: none, but perhaps the inode's ``i_rwsem``; no page beyond the new end is under write-back, nor the one
        that is cut.
        """
        raise NotImplementedError(f"{type(self).__name__} must define set_size(size_bytes)")

    def punch_hole(self, offset_bytes: int, size_bytes: int) -> None:
        """Bytes [offset_bytes, offset_bytes + size_bytes) are zeros from now on.  Blocks: yes.  Raises: OSError;
        NotImplementedError, and then the core writes the zeros.

        Locks: the inode's ``i_rwsem``; none of the pages is under write-back.
        """
        raise NotImplementedError

    def fsync(self) -> None:
        """Make durable, or visible to others, what was stored until now.  Blocks: yes.  Raises: OSError."""

    def launder_page(self, page: Page) -> bool:
        """Store ``page.content`` of a dirty page that is about to be dropped, at once, and return True; False, as by
        default, if it should stay.

        Locks: page locked, on return too.  Blocks: yes.  Raises: OSError, and it stays.
        """
        return False

    commits = False
    """Whether nothing of what was stored is in the store, for others, before `fsync`: as of objects that are replaced
    as a whole.  Closing a file calls it then."""

    @property
    def uncommitted_bytes(self) -> int | None:
        """How many bytes were stored that `fsync` has yet to commit; 0 for no more than a size, or a new, empty object;
        None, as by default, if there is nothing to commit.

        Locks: ``InodeTable.lock`` may be held.  Blocks: no.
        """
        return None

    def discard(self) -> int | None:
        """Give up what was stored and not committed; return the size of the object that is left, 0 if there is none;
        None, as by default, if there was nothing to give up.

        Readers may come, and an `fsync` that began before may still be under way.  No other begins meanwhile: a thread
        that is made here, and has the cache synced, waits for the end of this.  If it raises, nothing is committed
        before it was called again, and has returned the size of what is left, also where nothing was left to give up.
        Locks: the inode's ``i_rwsem``; no page is dirty, or under write-back, but for what views show where it is the
        last that is asked for this file.  Blocks: yes.  Raises: OSError.
        """
        return None

    def direct_write(self, data: memoryview, offset_bytes: int) -> int:
        """Write past the cache; how many bytes, or 0 for "not here": then it is written through the cache.

        Locks: the inode's ``i_rwsem``; no page of the range is in the cache.  Blocks: yes.  Raises: OSError.
        """
        return 0
