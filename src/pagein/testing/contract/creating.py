"""Exercises of making an object that is not there, by opening it for writing.

Assumes: the subject is a (store, path), and what is beside it may be made: nothing of the contract removes it again.
Not here: what open_for_writing does with an object that is there (writing.py).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from ...cache import PageCache
from ...stores.source import Opened, WritableSource
from ...units import PAGE_SIZE
from .bytes_seen import describe
from .content import content
from .probe import probe_of
from .record import where_raised
from .rig import NotApplicable, Rig
from .sources import source_beside

CREATED_BYTES = PAGE_SIZE + 321
_REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EOPNOTSUPP)
"""By which a store says that nothing new is made there."""


class _Way(NamedTuple):
    """How a mode of `open` asks for an object that may not be there yet."""

    mode: str
    exclusive: bool
    truncate: bool

    @property
    def where(self) -> str:
        return f"open_for_writing(create=True, exclusive={self.exclusive}, truncate={self.truncate}), where nothing is"


_WAYS = (_Way("xb", True, False), _Way("ab", False, False), _Way("wb", False, True))


def created(rig: Rig) -> None:
    """Not made unasked; made by each mode that makes what is not there."""
    reason = rig.subject.why_not_written(rig.source())
    if reason is not None:
        raise NotApplicable(reason)
    # A name of its own, which no other exercise takes for what is not there: a store may make it all the same.
    unasked, *asked = [_beside(rig, what) for what in ("unasked", *(way.mode for way in _WAYS))]
    left = [source.name for source in (unasked, *asked) if _is_there(rig, source)]
    if left:  # all or nothing: what one of them was made for may be what was wrong
        raise NotApplicable(f"what an earlier check has made beside it is there still; remove it: {', '.join(left)}")
    _require_not_made_unasked(rig, unasked)
    for way, source in zip(_WAYS, asked, strict=True):
        _require_made(rig, way, source)


def _beside(rig: Rig, what: str) -> WritableSource:
    source = source_beside(rig, what)
    if not isinstance(source, WritableSource):
        raise NotApplicable(f"{source.name} has no open_for_writing")
    return source


def _require_not_made_unasked(rig: Rig, source: WritableSource) -> None:
    where = "open_for_writing(create=False), where nothing is"
    call = partial(source.open_for_writing, create=False, exclusive=False, truncate=False)
    try:
        opened = rig.ask(where, call)
    except FileNotFoundError:
        return
    except OSError as error:
        rig.fail("O3", f"it raised {where_raised(error)}", where)
    rig.shut(rig.require_opened(opened, where))
    rig.fail("O3", "it was opened", where)


def _is_there(rig: Rig, source: WritableSource) -> bool:
    where = f"open() of {source.name}"
    try:
        opened = rig.ask(where, source.open)
    except FileNotFoundError:
        return False
    except OSError as error:
        rig.fail("O3", f"it raised {where_raised(error)}", where)
    rig.shut(rig.require_opened(opened, where))
    return True


def _require_made(rig: Rig, way: _Way, source: WritableSource) -> None:
    """Make an object, write to it, and find it."""
    call = partial(source.open_for_writing, create=True, exclusive=way.exclusive, truncate=way.truncate)
    try:
        opened = rig.ask(way.where, call)
    except OSError as error:
        if error.errno in _REFUSALS:
            raise NotApplicable(f"nothing is made there: {error}") from error
        rig.fail("O10", f"it raised {where_raised(error)}", way.where)
    rig.opened, rig.is_open = rig.require_opened(opened, way.where), True
    if rig.opened.size_bytes:
        rig.fail("O10", f"size_bytes was {rig.opened.size_bytes}", way.where)
    if rig.opened.ops.writable is not True:
        rig.fail("O10", "it returned operations of which writable is not True", way.where)
    wanted = content(0, CREATED_BYTES, version=3)
    rig.probe, rig.size_bytes = probe_of(rig.opened.ops, rig.record), 0
    rig.record.renamed = {"W2": "O10"}
    with rig.cache() as cache, rig.file(cache, "w+b") as file:
        file.pwrite(wanted, 0)
        rig.store(file.fsync)
    rig.record.renamed = {}
    rig.close()
    _require_found(rig, source.open, wanted, f"opened again after fsync of what {way.where} gave")
    if way.exclusive:
        require_exclusive(rig, source)


def _require_found(rig: Rig, open_again: Callable[[], Opened], wanted: bytes, where: str) -> None:
    opened = rig.opened_by(where, open_again, failed="O10")
    try:
        with PageCache("16 MiB") as other, other.inode(opened.ops, size_bytes=opened.size_bytes).open() as again:
            data = again.read()
        if data != wanted:
            rig.fail("O10", describe(data, wanted, 0, wanted), where)
    finally:
        rig.shut(opened)


def require_exclusive(rig: Rig, source: WritableSource) -> None:
    """Of an object that is there."""
    where = "open_for_writing(exclusive=True)"
    try:
        opened = rig.ask(where, partial(source.open_for_writing, create=True, exclusive=True, truncate=False))
    except OSError as error:
        if not isinstance(error, FileExistsError):
            rig.record.breach("O7", f"it raised {error!r}", where)
    else:
        if isinstance(opened, Opened):
            rig.shut(opened)
        rig.record.breach("O7", "it was opened", where)
