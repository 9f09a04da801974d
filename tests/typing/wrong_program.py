"""Mistakes of a user that both type checkers must find: a comment that ignores no error is an error itself."""

from __future__ import annotations

import pagein
from pagein.mm.openfile import OpenFile
from pagein.mm.page import Page


class Wrong(pagein.AddressSpaceOperations):
    """Says something else than a code."""

    def readpage(self, file: OpenFile, page: Page) -> str:  # type: ignore[override]
        return "done"


def mistakes(cache: pagein.PageCache, file: pagein.File) -> None:
    """One a line."""
    pagein.open("data", cache="1 GiB")  # type: ignore[call-overload]
    pagein.open("data", "r", encoding=8)  # type: ignore[call-overload]
    cache.open("data", "r", newline=b"")  # type: ignore[call-overload]
    pagein.PageCache(1.5)  # type: ignore[arg-type]
    pagein.PageCache(dirty_limit="20%")  # type: ignore[arg-type]
    pagein.PageCache(sise=1)  # type: ignore[call-arg]
    cache.inode(Wrong())  # type: ignore[call-arg]
    _ = cache.stats().hit  # type: ignore[attr-defined]
    cache.stats().hits = 1  # type: ignore[misc]
    file.pread(10)  # type: ignore[call-arg]
    file.write("text")  # type: ignore[arg-type]
    file.advise("soon")  # type: ignore[arg-type]
    _ = pagein.nothing  # type: ignore[attr-defined]
