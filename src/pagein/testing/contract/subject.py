"""What is checked: operations, a source, or who makes either; and what the checks may do to it.

Guarantees: no I/O but what a callable does; what cannot be checked is a TypeError or ValueError that says what can.
Assumes: a callable gives something fresh each time; anything else is used for each exercise again.
Not here: how it is named on the command line (cli/check.py).
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ...mm.aops import AddressSpaceOperations
from ...stores import source_of
from ...stores.source import Opened, Source, WritableSource

_ACCEPTED = (
    "an AddressSpaceOperations (with a size), an Opened, (operations, size), a Source, (store, path), a path or URL, "
    "or a callable without arguments that returns one of these"
)


class Subject:
    """What is checked.

    *size_bytes*: of bare operations, unless they have a ``size_bytes``; 0 for those that can be written to.
    *content*: what the object holds, if that is known: else reads are compared with each other.
    *writes*: whether what it holds may be overwritten; by default that of bare operations, not that of a source.
    *change*: replaces the object by another, of any size, as somebody else would.
    *failing*: a context manager, entered anew each time, within which the store fails.
    """

    def __init__(
        self,
        target: Any,
        *,
        size_bytes: int | None = None,
        content: bytes | None = None,
        writes: bool | None = None,
        change: Callable[[], object] | None = None,
        failing: Callable[[], AbstractContextManager[object]] | None = None,
        name: str | None = None,
    ) -> None:
        self.size_bytes = size_bytes
        self.content = content
        self.writes = writes
        self.change = change
        self.failing = failing
        self.target = target
        self.name: str = name or getattr(target, "__qualname__", None) or _name_of(target)

    @classmethod
    def of(cls, found: Any, *, name: str | None = None) -> Subject:
        """*found*, if it is one; else one of it."""
        return found if isinstance(found, Subject) else cls(found, name=name)

    @property
    def is_shared(self) -> bool:
        """Whether it is an `Opened`, which is closed once: when the last exercise has used it."""
        return isinstance(self.target, Opened)

    def made(self) -> Source | Opened:
        """The source, or the operations, of this time.  Raises: TypeError, ValueError; what making it raises."""
        target = self.target
        if callable(target) and not isinstance(target, AddressSpaceOperations) and not _is_source(target):
            target = target()
        if isinstance(target, Subject):
            raise TypeError("a Subject is checked as it is: give the callable to Subject")
        if isinstance(target, Opened):
            return target._replace(size_bytes=_size(target.size_bytes, target.ops))
        if _is_source(target):
            source: Source = target
            return source
        if isinstance(target, AddressSpaceOperations):
            return Opened(target, self._size_of(target), "")
        if isinstance(target, tuple) and len(target) == 2 and isinstance(target[0], AddressSpaceOperations):
            return Opened(target[0], _size(target[1], target[0]), "")
        if isinstance(target, str | bytes | os.PathLike | tuple):
            return source_of(target)
        raise TypeError(f"cannot check {target!r}: accepted are {_ACCEPTED}")

    def why_not_written(self, made: Source | Opened) -> str | None:
        """Why its writing is not checked; None if it is."""
        if isinstance(made, Opened):
            if not made.ops.writable:
                return "its operations are not writable"
            return "it may not be overwritten" if self.writes is False else None
        if not isinstance(made, WritableSource):
            return "its source has no open_for_writing"
        return None if self.writes else "what a source holds is overwritten only if you say so (--write, writes=True)"

    def _size_of(self, ops: AddressSpaceOperations) -> int:
        size_bytes = self.size_bytes
        if size_bytes is None and self.content is not None:
            size_bytes = len(self.content)
        if size_bytes is None:
            size_bytes = getattr(ops, "size_bytes", None)
        if size_bytes is None and ops.writable:
            size_bytes = 0
        if size_bytes is None:
            raise ValueError(
                f"how long is a file of {type(ops).__name__}? Give a size (--size, size_bytes=), or a "
                "size_bytes to the class"
            )
        return _size(size_bytes, ops)


def _size(size_bytes: object, ops: object) -> int:
    """As an int.  Raises: TypeError, ValueError."""
    of = type(ops).__name__
    try:
        count = operator.index(size_bytes)  # type: ignore[arg-type]  # which is what it is asked for
    except TypeError:
        raise TypeError(f"the size of {of} must be an int, a number of bytes, not {size_bytes!r}") from None
    if count < 0:
        raise ValueError(f"the size of {of} must be at least 0 bytes, not {count}")
    return count


def _is_source(value: object) -> bool:
    return not isinstance(value, type) and all(hasattr(value, name) for name in ("key", "name", "open"))


def _name_of(target: object) -> str:
    if isinstance(target, str):
        return target
    if isinstance(target, tuple) and len(target) == 2:
        return f"({type(target[0]).__name__}, {target[1]!r})"
    return type(target).__name__
