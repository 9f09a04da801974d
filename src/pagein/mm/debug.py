"""The contract, asserted at run time: what ``debug`` and ``PAGEIN_DEBUG=1`` switch on.

Guarantees: each breach of a clause that this file can see raises `ContractViolation`, which names the clause and
the operation; a cache without checks pays one test for None at each step of a miss, and nothing on a hit.
What is cheap is checked always, where it happens: the codes of readpage (readpage.py), unlocking or ending a
read twice (page.py).  Here is what costs memory or time: who owns a lock, in which order locks are taken,
reads that are never ended, and pages that are written to after they were released.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..errors import ContractViolation
from ..units import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from .lru import Run
    from .mapping import AddressSpace
    from .page import Page
    from .sync import Waiter
    from .wait import Wait
    from .zone import Zone

READ_TIMEOUT_S = 30.0
"""How long a reader waits, with checks, for a read that an operation started."""


class Checks:
    """The state of the run-time checks of one zone."""

    def __init__(self, read_timeout_s: float = READ_TIMEOUT_S) -> None:
        self.read_timeout_s = read_timeout_s
        self._in_operation: dict[Page, str] = {}
        self._content: dict[tuple[int, int], tuple[int, str]] = {}

    # -- locks -------------------------------------------------------------------------------------------

    def before_page_lock(self, mapping: AddressSpace, index: int) -> None:
        """The calling thread is about to wait for a page lock."""
        zone = mapping.zone
        self.before_wait(zone, f"lock_page({index})")
        held = [page for page in self._held(zone) if page.mapping is mapping and page.index >= index]
        if held:
            raise ContractViolation(
                "page locks of a mapping are taken in ascending order",
                f"lock_page({index}) with {held[0]!r} held",
            )

    def before_wait(self, zone: Zone, operation: str) -> None:
        """The calling thread is about to wait."""
        if zone.lock.held_here():
            raise ContractViolation("the zone's lock is a leaf: nothing waits or locks under it", operation)

    def unlocking(self, page: Page) -> None:
        """The calling thread is about to unlock a page."""
        here = page.mapping.zone.door.thread_id()
        if page.owner not in (None, here) and page not in self._in_operation:
            raise ContractViolation("a page is unlocked by the thread that locked it", f"unlock of {page!r}")

    def _held(self, zone: Zone) -> list[Page]:
        here = zone.door.thread_id()
        return [page for page in list(zone.locked) if page.owner == here]

    # -- reads -------------------------------------------------------------------------------------------

    def operation_begins(self, page: Page, operation: str) -> None:
        """The page belongs to a store's operation, which may end it from any thread."""
        self._in_operation[page] = operation

    def operation_ends(self, page: Page) -> None:
        """The page is the caller's again, or released."""
        self._in_operation.pop(page, None)

    def watched(self, wait: Wait) -> Waiter:
        """What to wait with as usual, but not for ever for an operation that never ends its read."""
        self.before_wait(wait.page.mapping.zone, f"wait for page {wait.index}")
        return _Watched(self, wait)

    def raise_if_never_ended(self, page: Page) -> None:
        """A reader has waited for the page for as long as anybody should."""
        if page.owner is None and page.locked and (page.request is None or page.request.is_started):
            operation = self._in_operation.get(page, type(page.mapping.ops).__name__)
            raise ContractViolation(
                f"a read that was started is ended (waited {self.read_timeout_s:g} s)", f"{operation} of {page!r}"
            )

    def unended_reads(self, zone: Zone) -> list[str]:
        """The operations that started a read and have not ended it."""
        return [f"{self._in_operation.get(page, '?')} of {page!r}" for page in list(zone.locked) if page.owner is None]

    # -- content -----------------------------------------------------------------------------------------

    def remember_content(self, run: Run, operation: str) -> None:
        """A run has become Uptodate and is unlocked: from now on nobody writes to it.  Zone's lock held."""
        for frame in range(run.frame, run.frame + run.page_count):
            self._content[run.arena.number, frame] = _checksum(run, frame), operation

    def changed_content(self, runs: Iterable[Run]) -> ContractViolation | None:
        """What to raise if a page is not what it was when it was released, now that it is locked or removed."""
        violation = None
        for run in runs:
            for frame in range(run.frame, run.frame + run.page_count):
                then = self._content.pop((run.arena.number, frame), None)
                if then and not run.arena.dirty[frame] and then[0] != _checksum(run, frame):
                    violation = ContractViolation(
                        "a page is not written to after it was released", f"{then[1]}, frame {frame}"
                    )
        return violation


class _Watched:
    """The waiter of a thread that waits for a page."""

    def __init__(self, checks: Checks, wait: Wait) -> None:
        self._checks = checks
        self._wait = wait
        self.wake = wait.waiter.wake

    def wait(self, timeout_s: float | None = None) -> bool:
        while not self._wait.waiter.wait(self._checks.read_timeout_s):
            self._checks.raise_if_never_ended(self._wait.page)
        return True


def _checksum(run: Run, frame: int) -> int:
    return zlib.crc32(run.arena.read_only[frame << PAGE_SHIFT : (frame << PAGE_SHIFT) + PAGE_SIZE])
