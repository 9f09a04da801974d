"""The one owner of what ``readpage`` returns: every caller of the operation goes through `do_readpage`.

Guarantees: a code of aops.py goes no further than this file; whatever the operation does, the page ends up
either locked by the caller and Uptodate, or released (now, or by the I/O that was started).
Not here: who needs the page (filemap.py, readahead.py).
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from ..errors import ContractViolation
from .aops import AOP_TRUNCATED_PAGE, AOP_UPDATED_PAGE
from .locking import READPAGE

if TYPE_CHECKING:
    from .openfile import OpenFile
    from .page import LockedPage
    from .request import Request


class Outcome(Enum):
    """What the caller of `do_readpage` holds now."""

    UPDATED = auto()
    """The page is Uptodate and still locked by the caller, who unlocks it."""
    STARTED = auto()
    """The I/O owns the lock, or has already released it: wait for it, test Uptodate, and if not, ``page.error``."""
    TRUNCATED = auto()
    """The operation released the page: look it up again."""


def do_readpage(file: OpenFile, page: LockedPage) -> Outcome:
    """Call ``readpage`` and settle the page's lock by what it returned.

    Locks: page locked and not Uptodate on entry; on return as `Outcome` says.
    Raises: the operation's own error, unchanged, with the page released; ContractViolation.
    """
    mapping, request = page.mapping, page.request
    zone = mapping.zone
    with zone.lock:
        page.extend()
        is_hole = page.is_hole
        if not is_hole:
            mapping.device.asked(request)
    if is_hole:
        page.set_uptodate()
        return Outcome.UPDATED
    if zone.checks:
        zone.checks.operation_begins(page, f"{type(mapping.ops).__name__}.readpage")
    try:
        with zone.in_store_code(READPAGE, page):
            code = mapping.ops.readpage(file, page)
    except BaseException:
        with zone.lock:
            mapping.device.failed(request)
        if page.locked:
            page.unlock()
        raise
    if code == AOP_UPDATED_PAGE:
        if page.locked and page.uptodate:
            if zone.checks:
                zone.checks.operation_ends(page)
            return Outcome.UPDATED
        raise _violation(page, request, "readpage returns AOP_UPDATED_PAGE with the page locked and Uptodate")
    if code == 0:
        if page.locked:
            page.owner = None  # belongs to the I/O; it may end between these two lines, which harms nothing
        return Outcome.STARTED
    if code == AOP_TRUNCATED_PAGE:
        if not page.locked:
            return Outcome.TRUNCATED
        raise _violation(page, request, "readpage returns AOP_TRUNCATED_PAGE with the page unlocked")
    raise _violation(page, request, f"readpage returns 0 or one of the codes of pagein.mm.aops, not {code!r}")


def _violation(page: LockedPage, request: Request | None, clause: str) -> ContractViolation:
    violation = ContractViolation(clause, f"{type(page.mapping.ops).__name__}.readpage of {page!r}")
    with page.mapping.zone.lock:
        page.mapping.device.failed(request)
    if page.locked:
        page.unlock()
    return violation
