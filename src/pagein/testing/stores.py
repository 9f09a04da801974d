"""A store that answers by a script: for tests of whatever reads through a page cache.

    ops = ScriptedOps({3: [truncated, failing(OSError(errno.EIO, "bad sector"))], 5: [started]})
    inode = cache.inode(ops, size_bytes=8 * PAGE_SIZE)
    ...                 # page 3: gone at the first call, bad at the second, good from the third on
    ops.complete(5)     # page 5: comes now

Guarantees: the n-th `readpage` of a page is answered by the n-th entry of its row, and by the default once the row
is used up; every call is on record, with the state of the page's lock as the operation found it; every 8 bytes of
the content tell their own offset and version, so that a byte from another place or another time is seen.
Assumes: nothing.  Every method may be called from any thread, and no wait is for ever.
Not here: whether anything was left behind (leaks.py).
"""

from __future__ import annotations

import threading
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ..errors import short_fetch
from ..mm.aops import AOP_TRUNCATED_PAGE, AOP_UPDATED_PAGE, AddressSpaceOperations

if TYPE_CHECKING:
    from ..mm.mapping import AddressSpace
    from ..mm.openfile import OpenFile
    from ..mm.page import Page
    from ..mm.rac import ReadaheadControl

PATIENCE_S = 10.0
"""After so long a wait for another thread the test has failed."""
_WORD = 8
_VERSION_SHIFT = 48
"""Above this bit a word of the content holds the version, below it the word's offset."""

T = TypeVar("T")
R = TypeVar("R")


def pattern(offset_bytes: int, size_bytes: int, *, version: int = 0) -> bytes:
    """*size_bytes* of the content that every scripted store has, from *offset_bytes* on."""
    lead = offset_bytes % _WORD
    start = offset_bytes - lead | version << _VERSION_SHIFT
    return array("Q", range(start, start + lead + size_bytes, _WORD)).tobytes()[lead : lead + size_bytes]


class Gate:
    """Holds whoever comes to it until it is opened."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._is_open = False
        self._arrivals = 0

    def pass_through(self) -> None:
        """Wait until it is open."""
        with self._changed:
            self._arrivals += 1
            self._changed.notify_all()
            _wait_for(self._changed, lambda: self._is_open, "the gate is opened")

    def open(self) -> None:
        """Let everybody pass, from now on."""
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def wait_for_arrivals(self, count: int = 1) -> None:
        """Wait until *count* threads have come to it."""
        with self._changed:
            _wait_for(self._changed, lambda: self._arrivals >= count, f"{count} threads are at the gate")


@dataclass(frozen=True, eq=False)
class Call:
    """One call of an operation, as the store saw it."""

    operation: str
    index: int
    page_count: int
    thread_id: int
    locked: bool
    """Every page of it was locked..."""
    owned: bool
    """...by the calling thread."""
    uptodate: bool
    """A page of it was Uptodate, which the contract forbids."""
    page: Page | None
    """Of readpage: the page.  Another object is another hold of the lock."""


# -- answers of readpage -------------------------------------------------------------------------------

Answer = Callable[["ScriptedOps", "Page"], int]
"""What one call of readpage does and returns.  A test may write its own, right or wrong."""


def updated(ops: ScriptedOps, page: Page) -> int:
    """Bring the page at once; it stays locked."""
    ops.fill(page)
    page.set_uptodate()
    return AOP_UPDATED_PAGE


def completed(ops: ScriptedOps, page: Page) -> int:
    """Return 0, with the read already ended."""
    ops.fill(page)
    page.end_read()
    return 0


def started(ops: ScriptedOps, page: Page) -> int:
    """Return 0; `ScriptedOps.complete` ends the read."""
    ops.start(page)
    return 0


def truncated(ops: ScriptedOps, page: Page) -> int:
    """Unlock the page and ask for another look-up."""
    page.unlock()
    return AOP_TRUNCATED_PAGE


def failing(error: OSError) -> Answer:
    """Raise *error*."""

    def answer(ops: ScriptedOps, page: Page) -> int:
        raise error

    return answer


def completed_with(error: OSError) -> Answer:
    """Return 0, with the read already ended by *error*."""

    def answer(ops: ScriptedOps, page: Page) -> int:
        page.end_read(error)
        return 0

    return answer


def short(size_bytes: int) -> Answer:
    """Bring only so many bytes of the page, then raise EIO, as for an answer that broke off."""

    def answer(ops: ScriptedOps, page: Page) -> int:
        page.buffer[:size_bytes] = ops.content(page.offset, size_bytes)
        wanted_bytes = page.size_bytes
        raise short_fetch("scripted", offset_bytes=page.offset, wanted_bytes=wanted_bytes, got_bytes=size_bytes)

    return answer


def gated(gate: Gate, answer: Callable[[ScriptedOps, T], R]) -> Callable[[ScriptedOps, T], R]:
    """Wait at *gate*, then go on with *answer*: one of readpage, or of readahead."""

    def behind_gate(ops: ScriptedOps, what: T) -> R:
        gate.pass_through()
        return answer(ops, what)

    return behind_gate


# -- the store -----------------------------------------------------------------------------------------


class ScriptedOps(AddressSpaceOperations):
    """Operations without a ``readahead`` of their own: *script* has a row of answers for each page index.

    They count as operations that never block, and are called by whoever needs the page, unless `blocking` is set.
    """

    blocking = False

    def __init__(self, script: Mapping[int, Iterable[Answer]] | None = None, *, default: Answer = updated) -> None:
        self.calls: list[Call] = []
        self.default = default
        self.version = 0
        """Of the content that is handed out from now on."""
        self._rows = {index: deque(row) for index, row in (script or {}).items()}
        self._started: dict[int, Page] = {}
        self._changed = threading.Condition()

    def readpage(self, file: OpenFile, page: Page) -> int:
        """Answer by the script.  Locks, blocks, raises: as the answer does."""
        with self._changed:
            row = self._rows.get(page.index)
            answer = row.popleft() if row else self.default
            self._record("readpage", page.mapping, page.index, 1, page)
        return answer(self, page)

    # -- for answers -------------------------------------------------------------------------------------

    def content(self, offset_bytes: int, size_bytes: int) -> bytes:
        """What the object holds there, in this version."""
        return pattern(offset_bytes, size_bytes, version=self.version)

    def fill(self, page: Page) -> None:
        """Write the content into the page, or the run of pages."""
        page.buffer[:] = self.content(page.offset, page.size_bytes)

    def start(self, page: Page) -> None:
        """Keep the page for `complete`."""
        with self._changed:
            self._started[page.index] = page
            self._changed.notify_all()

    # -- for tests ---------------------------------------------------------------------------------------

    def script(self, index: int, *answers: Answer) -> None:
        """Add to a page's row."""
        with self._changed:
            self._rows.setdefault(index, deque()).extend(answers)

    def started_page(self, index: int) -> Page:
        """The page, or run of pages, whose read was started at *index*; waits until one is."""
        with self._changed:
            _wait_for(self._changed, lambda: index in self._started, f"a read of page {index} is started")
            return self._started[index]

    def complete(self, index: int, error: BaseException | None = None) -> None:
        """End the read that was started at *index*, well or with *error*; waits until one is started."""
        page = self.started_page(index)
        with self._changed:
            del self._started[index]
        if error is None:
            self.fill(page)
        page.end_read(error)

    def calls_of(self, index: int) -> list[Call]:
        """The calls of readpage for a page."""
        return [call for call in self.calls if call.operation == "readpage" and call.index == index]

    def asked(self) -> list[tuple[str, int, int]]:
        """All calls so far, as (operation, index, page count)."""
        return [(call.operation, call.index, call.page_count) for call in self.calls]

    def wait_for_calls(self, count: int) -> None:
        """Wait until there were *count* calls."""
        with self._changed:
            _wait_for(self._changed, lambda: len(self.calls) >= count, f"the store has had {count} calls")

    def _record(self, operation: str, mapping: AddressSpace, index: int, page_count: int, page: Page | None) -> None:
        here = threading.get_ident()
        locks = [mapping.in_flight.get(at) for at in range(index, index + page_count)]
        call = Call(
            operation,
            index,
            page_count,
            here,
            locked=None not in locks,
            owned=all(lock is not None and lock.owner == here for lock in locks),
            uptodate=any(mapping.is_uptodate(at) for at in range(index, index + page_count)),
            page=page,
        )
        self.calls.append(call)
        self._changed.notify_all()


# -- answers of readahead, and the store that has one ------------------------------------------------------

RunAnswer = Callable[["ScriptedOps", "ReadaheadControl"], None]
"""What one call of readahead does."""


def run_updated(ops: ScriptedOps, rac: ReadaheadControl) -> None:
    """Bring the whole run as one."""
    page = rac.take()
    ops.fill(page)
    page.end_read()


def run_started(ops: ScriptedOps, rac: ReadaheadControl) -> None:
    """Take the whole run; `ScriptedOps.complete` of its first index ends the read."""
    ops.start(rac.take())


def run_page_by_page(ops: ScriptedOps, rac: ReadaheadControl) -> None:
    """Take the pages one by one; `ScriptedOps.complete` of each ends its read."""
    for page in rac:
        ops.start(page)


def run_short(page_count: int) -> RunAnswer:
    """Bring only the first *page_count* pages, and leave the others."""

    def answer(ops: ScriptedOps, rac: ReadaheadControl) -> None:
        page = rac.take(page_count)
        ops.fill(page)
        page.end_read()

    return answer


def run_failing(error: BaseException, *, after_pages: int = 0) -> RunAnswer:
    """Bring *after_pages* pages, take the others, and raise *error*."""

    def answer(ops: ScriptedOps, rac: ReadaheadControl) -> None:
        if after_pages:
            run_short(after_pages)(ops, rac)
        rac.take()
        raise error

    return answer


class ScriptedRunOps(ScriptedOps):
    """Operations with a ``readahead``: *runs* answers its calls in turn, *default_run* the rest."""

    def __init__(
        self,
        script: Mapping[int, Iterable[Answer]] | None = None,
        *,
        default: Answer = updated,
        runs: Iterable[RunAnswer] = (),
        default_run: RunAnswer = run_updated,
    ) -> None:
        super().__init__(script, default=default)
        self.default_run = default_run
        self._runs = deque(runs)

    def readahead(self, rac: ReadaheadControl) -> None:
        """Answer by the script.  Locks, blocks, raises: as the answer does."""
        with self._changed:
            answer = self._runs.popleft() if self._runs else self.default_run
            self._record("readahead", rac.file.mapping, rac.index, rac.page_count, None)
        answer(self, rac)


def _wait_for(changed: threading.Condition, predicate: Callable[[], bool], what: str) -> None:
    if not changed.wait_for(predicate, PATIENCE_S):
        raise AssertionError(f"waited {PATIENCE_S:g} s until {what}")
