"""Errors of write-back, told once to each who has to hear: errseq_t of Linux (lib/errseq.c), as CONTRACT says it.

Guarantees: an error that comes after a file was opened is told to it once, and one that nobody had heard of when it was
opened too; an error is never lost because another file's user heard of it first.
Assumes: calls of one `ErrSeq` are made under one lock (the zone's).
Not here: what made the error (wbc.py).
"""

from __future__ import annotations

import errno

Since = int
"""What an open file has seen: a number of `ErrSeq.sample` or `ErrSeq.check_and_advance`."""


class ErrSeq:
    """The last error of a mapping, how many there were, and whether somebody has seen it."""

    __slots__ = ("_count", "_error", "_seen")

    def __init__(self) -> None:
        self._error: BaseException | None = None
        self._count = 0
        self._seen = True

    def set(self, error: BaseException) -> None:
        """There was an error.  It counts as another one only if somebody has seen the last."""
        self._error = error
        if self._seen:
            self._count += 1
            self._seen = False

    def sample(self) -> Since:
        """What somebody has seen who opens the file now: everything that was told to anybody."""
        return self._count if self._seen else self._count - 1

    def check(self, since: Since) -> BaseException | None:
        """The error that came since, if there was one.  It is still to be told."""
        return self._error if self._count != since else None

    def told(self) -> None:
        """Somebody has heard of it who has no open file."""
        self._seen = True

    def check_and_advance(self, since: Since) -> tuple[BaseException | None, Since]:
        """The error that came since, and what its hearer has seen now."""
        error = self.check(since)
        if error is not None:
            self._seen = True
        return error, self._count


def kept(error: BaseException) -> BaseException:
    """The error as it is kept until somebody is told: a store's own without its traceback, whose frames would keep the
    pages, and so the cache, alive.  A mistake keeps it: it says where."""
    return error.with_traceback(None) if isinstance(error, OSError) else error


def again(error: BaseException) -> BaseException:
    """The same error for another hearer, since each who raises it adds to its traceback."""
    if isinstance(error, OSError):
        told: BaseException = OSError(error.errno or errno.EIO, error.strerror or str(error), error.filename)
        told.__cause__ = error.__cause__
        return told
    return error
