"""Memory of a page that is lent to a store: whether anything of the store's still uses it, or has used it too late.

Guarantees: what a store has been given ends with `Lent.end`, as the cache's own does; slices of it and arrays over it
do not, and are seen by `Lent.is_kept`.
Why: Python ends a view although slices of it are alive, so they cannot be told by ending it.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import TYPE_CHECKING

from ...units import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from ...mm.page import Page


class Lent:
    """The bytes of *page*, to be written to, or with *readonly* to be stored."""

    def __init__(self, page: Page, number: str, where: str, *, readonly: bool) -> None:
        self.number = number
        """The clause that it breaks to keep it."""
        self.name: str = "content" if readonly else "buffer"
        self.where = where
        exporter = (ctypes.c_ubyte * page.size_bytes).from_buffer(page.run.arena.memory, page.run.frame << PAGE_SHIFT)
        view = memoryview(exporter).cast("B")
        self.view: memoryview = view.toreadonly() if readonly else view
        self._exporter = weakref.ref(exporter)  # every view of it has it
        if readonly:
            view.release()

    def end(self) -> None:
        """The store may not use it any more."""
        try:
            self.view.release()
        except BufferError:  # an array is over it: it is kept
            pass

    @property
    def is_kept(self) -> bool:
        """Whether an object over it is alive."""
        return self._exporter() is not None


class Shown:
    """What is in the memory of *page* as it becomes Uptodate: from then on readers see it.  Assumes: it is locked."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._bytes = self._memory()

    def changed(self) -> tuple[int, int] | None:
        """The first byte that is another now, and how many are; None if the store has written nothing.

        Assumes: the page has been locked all the time.
        """
        now = self._memory()
        if now == self._bytes:
            return None
        # Who writes to the file needs no lock of an Uptodate page; but he marks it dirty, and only then writes.
        arena, frame, count = self._page.run
        dirty = bytes(arena.dirty[frame : frame + count])
        different = [
            at
            for at, (one, other) in enumerate(zip(self._bytes, now, strict=True))
            if one != other and not dirty[at // PAGE_SIZE]
        ]
        return (different[0], len(different)) if different else None

    def _memory(self) -> bytes:
        arena, frame, _ = self._page.run
        start = frame << PAGE_SHIFT
        return bytes(arena.read_only[start : start + self._page.size_bytes])
