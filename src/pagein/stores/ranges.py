"""Operations of a store that can bring any range of bytes, which is all that most stores have to say.

Guarantees: a page is Uptodate only after all of its bytes are in; a run of pages is one call.
Not here: operations for which a page is more than its bytes: write those on `AddressSpaceOperations` itself.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable
from operator import index as as_int
from types import CoroutineType
from typing import TYPE_CHECKING

from ..errors import short_fetch, wrong_range, wrong_return
from ..mm.aops import AOP_UPDATED_PAGE, AddressSpaceOperations
from ..units import PAGE_OFFSET_MASK
from . import loop

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from ..mm.openfile import OpenFile
    from ..mm.page import Page
    from ..mm.rac import ReadaheadControl
    from ..mm.writeback import WritebackControl


class RangeOperations(AddressSpaceOperations):
    """Give it `fill`, and you have a store; give it `store` and `set_size`, say ``writable = True``, and it can be
    written to.

    `fill` is called by I/O workers, up to ``requests_max`` at once; with ``readers_call`` also by readers.  If it never
    waits, because the bytes are in memory, set ``blocking = False``: then whoever needs a page calls it himself.
    """

    @abstractmethod
    def fill(self, buffer: memoryview, offset_bytes: int) -> int | None:
        """Fill all of *buffer*, which lies within the file, with the file's bytes from *offset_bytes* on.

        Returns: None, or how many bytes came, as ``readinto`` and ``preadv`` do: fewer than all of them is EIO.
        Locks: the pages that *buffer* belongs to are locked throughout; it is not kept.  Blocks: as long as the
        store takes.  Raises: OSError, and then what *buffer* holds is nobody's: ESTALE if the object is not the
        version that was opened.
        """
        raise NotImplementedError(f"{type(self).__name__} must define fill(buffer, offset_bytes)")

    def readpage(self, file: OpenFile, page: Page) -> int:
        """Locks: page locked on entry and on return, as AOP_UPDATED_PAGE says.  Raises: as `fill_all`."""
        fill_all(self, page.buffer, page.offset, name=page.mapping.name)
        page.set_uptodate()
        return AOP_UPDATED_PAGE

    def readahead(self, rac: ReadaheadControl) -> None:
        """The whole run at once.  Locks: the run locked on entry, unlocked on return.  Raises: as `fill_all`."""
        page = rac.take()
        fill_all(self, page.buffer, page.offset, name=page.mapping.name)
        page.end_read()

    def store(self, buffer: memoryview, offset_bytes: int) -> None:
        """Write all of *buffer* from *offset_bytes* on; the file becomes longer if it reaches beyond its end.

        They are whole pages, but for the last of the file.  *buffer* is not kept.  What it holds may change meanwhile:
        then it is stored again.
        Called by up to `walk.REQUESTS_MAX` I/O workers at once, for ranges that do not overlap.
        Blocks: as long as the store takes.  Raises: OSError: the pages stay dirty.
        """
        raise NotImplementedError(f"{type(self).__name__} must define store(buffer, offset_bytes)")

    def writepages(self, wbc: WritebackControl) -> None:
        """The whole run at once.  Locks: the run locked on entry, unlocked while it is stored.  Raises: OSError."""
        page = wbc.take()
        page.set_writeback()
        page.unlock()
        with page.content as content:
            self.store(content, page.offset)
        page.end_writeback()

    def direct_write(self, data: memoryview, offset_bytes: int) -> int:
        """Straight to `store` if they are whole pages, since `store` is given no others within a file."""
        if (offset_bytes | len(data)) & PAGE_OFFSET_MASK:
            return 0
        self.store(data, offset_bytes)
        return len(data)


def fill_all(ops: RangeOperations, buffer: memoryview, offset_bytes: int, *, name: str) -> None:
    """Have ``ops.fill`` fill all of *buffer*, and believe what it says came: what it has left out would be zeros.

    Blocks: as long as the store takes.  Raises: as `RangeOperations.fill`; OSError(EIO) if fewer bytes came; TypeError
    for what it cannot return, such as the bytes.
    """
    answer = ops.fill(buffer, offset_bytes)
    if answer is None:
        return
    got_bytes, wanted_bytes = _as_count(answer), len(buffer)
    if got_bytes is not None and 0 <= got_bytes < wanted_bytes:
        raise short_fetch(name, offset_bytes=offset_bytes, wanted_bytes=wanted_bytes, got_bytes=got_bytes)
    if got_bytes != wanted_bytes:
        accepted = "fill the buffer, and return None or its length"
        if isinstance(answer, CoroutineType):
            answer.close()  # nobody awaits it, and this says so
            accepted += " (AsyncRangeOperations take a coroutine)"
        raise wrong_return(f"{type(ops).__name__}.fill", answer, accepted)


def _as_count(answer: object) -> int | None:
    """A number of bytes, also one of numpy's; None for what is no number, or a bool: that it went well is no count."""
    if isinstance(answer, bool):
        return None
    try:
        return as_int(answer)  # type: ignore[arg-type]  # this is to be seen
    except TypeError:
        return None


def read_range(ops: AddressSpaceOperations, offset_bytes: int, size_bytes: int) -> bytes:
    """The bytes of a range, from the store itself, without a cache.  Blocks: as long as the store takes.

    Raises: OSError of the store; TypeError for operations that bring pages only.
    """
    if isinstance(ops, AsyncRangeOperations):
        name = type(ops).__name__
        return bytes(loop.run(lambda: _fetch_all(ops, name, offset_bytes, size_bytes), name))
    if not isinstance(ops, RangeOperations):
        raise TypeError(f"{type(ops).__name__} has no ranges, only pages")
    data = bytearray(size_bytes)
    with memoryview(data) as buffer:
        fill_all(ops, buffer, offset_bytes, name=type(ops).__name__)
    return bytes(data)


class AsyncRangeOperations(AddressSpaceOperations):
    """Give it `fetch`, and you have a store that answers later: no thread waits for it.

    `fetch` is awaited on an event loop that pagein runs on a thread of its own, up to ``requests_max`` at once.
    With ``readers_call``, a reader's thread that waits for nothing else calls `fetch_here` instead.
    """

    blocking = False
    requests_max = 64

    @abstractmethod
    async def fetch(self, offset_bytes: int, size_bytes: int) -> ReadableBuffer:
        """The file's bytes [offset_bytes, offset_bytes + size_bytes), which lie within the file.

        If it reads through a cache itself, then from stores with another ``device_key``: of its own, as many requests
        as the store takes may be waiting for it.  Raises: OSError: ESTALE if the object is not the version that was
        opened.
        """
        raise NotImplementedError(f"{type(self).__name__} must define async fetch(offset_bytes, size_bytes)")

    def fetch_here(self, offset_bytes: int, size_bytes: int) -> ReadableBuffer | None:
        """As `fetch`, for a thread that waits for the answer itself; None to have it fetched by `fetch`.

        Blocks: as long as the store takes.  Raises: as `fetch`.
        """
        raise NotImplementedError(f"{type(self).__name__} sets readers_call and must define fetch_here")

    def readpage(self, file: OpenFile, page: Page) -> int:
        """Locks: page locked on entry; released when the fetch has ended (returns 0), or kept if it was made here."""
        if page.caller_waits and self._is_brought_here(page):
            page.set_uptodate()
            return AOP_UPDATED_PAGE
        loop.start(lambda: self._bring(page), page.end_read, page.mapping.name)
        return 0

    def readahead(self, rac: ReadaheadControl) -> None:
        """The whole run at once.  Locks: the run locked on entry; released when the fetch has ended."""
        page = rac.take()
        if page.caller_waits and self._is_brought_here(page):
            page.end_read()
        else:
            loop.start(lambda: self._bring(page), page.end_read, page.mapping.name)

    def _is_brought_here(self, page: Page) -> bool:
        data = self.fetch_here(page.offset, page.size_bytes)
        if data is not None:
            got_bytes = _nbytes(data, f"{type(self).__name__}.fetch_here")
            require_length(page.mapping.name, page.offset, page.size_bytes, got_bytes)
            page.write(data)
        return data is not None

    async def _bring(self, page: Page) -> None:
        page.write(await _fetch_all(self, page.mapping.name, page.offset, page.size_bytes))


async def _fetch_all(ops: AsyncRangeOperations, name: str, offset_bytes: int, size_bytes: int) -> ReadableBuffer:
    called = f"{type(ops).__name__}.fetch"
    answer = ops.fetch(offset_bytes, size_bytes)
    if not isinstance(answer, Awaitable):
        from inspect import isawaitable  # knows generators that types.coroutine has marked

        if not isawaitable(answer):
            raise wrong_return(called, answer, "be a coroutine: async def")
    data = await answer
    require_length(name, offset_bytes, size_bytes, _nbytes(data, called))
    return data


def _nbytes(data: ReadableBuffer, called: str) -> int:
    """Of what *called* returned.  Raises: TypeError if it is no bytes."""
    try:
        return memoryview(data).nbytes
    except TypeError:
        raise wrong_return(called, data, "return bytes, or another buffer") from None


def require_length(name: str, offset_bytes: int, wanted_bytes: int, got_bytes: int) -> None:
    """Raise OSError(EIO) unless as many bytes came as were asked for."""
    if got_bytes < wanted_bytes:
        raise short_fetch(name, offset_bytes=offset_bytes, wanted_bytes=wanted_bytes, got_bytes=got_bytes)
    if got_bytes > wanted_bytes:
        asked = f"bytes {offset_bytes}-{offset_bytes + wanted_bytes - 1}"
        raise wrong_range(name, asked=asked, got="more bytes than that")
