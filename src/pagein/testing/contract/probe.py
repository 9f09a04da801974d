"""The operations of a store, with somebody who looks at each call: what it was given, what it left behind.

Guarantees: the core sees the store's own operations, with the store's own attributes and errors, and calls what it
would call; each breach that shows in one call is recorded, with the clause, before the core acts on it.
Not here: what shows only in the bytes, or in how calls follow each other (reading.py, meeting.py, writing.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ...errors import ContractViolation
from ...mm.aops import AOP_TRUNCATED_PAGE, AOP_UPDATED_PAGE, AOP_WRITEPAGE_ACTIVATE, AddressSpaceOperations
from .clauses import number_of
from .record import Record, where_raised
from .seen import SeenPage, SeenReadahead, SeenWriteback

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...mm.openfile import OpenFile
    from ...mm.page import Page
    from ...mm.rac import ReadaheadControl
    from ...mm.wbc import WritebackControl

T = TypeVar("T")

TRUNCATED_MAX = 100
"""So often in a row AOP_TRUNCATED_PAGE may be the answer for one page."""
_COPIED = (
    "blocking", "readers_call", "requests_max", "validates", "device_name", "writable", "object_bytes_max",
    "write_bytes_max", "commits",
)  # fmt: skip


def _attribute(ops: AddressSpaceOperations, name: str, record: Record) -> Any:
    """What *ops* say; if they raise, which is on record then, what those say that say nothing."""
    where = f"{type(ops).__name__}.{name}"
    with record.call(where):
        try:
            return getattr(ops, name)
        except Exception as error:
            record.breach("D1", f"it raised {where_raised(error)}", where)
            return getattr(AddressSpaceOperations, name)


class Probe(AddressSpaceOperations):
    """Operations without a ``readahead`` of their own."""

    def __init__(self, inner: AddressSpaceOperations, record: Record) -> None:
        self.inner = inner
        self.record = record
        self.left_bytes: int | None = None
        """What discard has returned last."""
        self._truncated: Counter[int] = Counter()
        for name in _COPIED:
            setattr(self, name, _attribute(inner, name, record))
        self.device_name: str = self.device_name or type(inner).__name__

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    @property
    def device_key(self) -> Hashable:
        """As the store says."""
        return self.inner.device_key

    @property
    def uncommitted_bytes(self) -> int | None:
        """As the store says."""
        return self.inner.uncommitted_bytes

    # -- reading ---------------------------------------------------------------------------------------------

    def readpage(self, file: OpenFile, page: Page) -> int:
        """As the store does it."""
        record = self.record
        record.poison_page(page)
        seen = SeenPage(page, record, "readpage", owed_clause="R4")
        is_timed = not page.caller_waits
        try:
            with record.call(seen.where, timed=is_timed):
                code = self.inner.readpage(file, cast("Page", seen))
        except BaseException as error:
            self._note_raised(error, seen.where)
            if isinstance(error, OSError) and page.locked and page.uptodate:
                record.breach("R12", f"it called page.set_uptodate(), then raised {where_raised(error)}", seen.where)
            seen.settle()
            raise
        self._check_code(code, page, seen)
        return code

    def _check_code(self, code: object, page: Page, seen: SeenPage) -> None:
        record = self.record
        if code != AOP_TRUNCATED_PAGE:
            self._truncated[page.index] = 0
        if not isinstance(code, int) or code not in (0, AOP_UPDATED_PAGE, AOP_TRUNCATED_PAGE):
            record.breach("R1", f"it returned {code!r}", seen.where)
            seen.settle()
        elif code == AOP_UPDATED_PAGE:
            if not page.locked:
                record.breach("R2", "it returned AOP_UPDATED_PAGE, and the page was unlocked", seen.where)
            elif not page.uptodate:
                record.breach("R3", "it returned AOP_UPDATED_PAGE, and the page was not Uptodate", seen.where)
            seen.note_late_writes()
            seen.settle()
        elif code == 0:
            seen.owe()
        else:
            if page.locked:
                record.breach("R6", "it returned AOP_TRUNCATED_PAGE, and the page was locked", seen.where)
            seen.settle()
            self._truncated[page.index] += 1
            if self._truncated[page.index] > TRUNCATED_MAX:
                record.breach("R7", f"it has returned AOP_TRUNCATED_PAGE {TRUNCATED_MAX} times in a row", seen.where)
                raise OSError("AOP_TRUNCATED_PAGE for ever")

    def _note_raised(self, error: BaseException, where: str, too_late: str = "R13") -> None:
        """*too_late*: which clause it breaks to use memory that was lent for longer."""
        if isinstance(error, OSError):
            self.record.last_error = f"{where}: {where_raised(error)}"
            return
        number = "R8"
        if isinstance(error, ContractViolation):
            number = number_of(error.clause)
        elif isinstance(error, ValueError) and "released memoryview" in str(error):
            number = too_late
        self.record.breach(number, f"it raised {where_raised(error)}", where)

    # -- writing ---------------------------------------------------------------------------------------------

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        """As the store does it."""
        seen = SeenPage(page, self.record, "writepage", owed_clause="W3")
        given = cast("WritebackControl", SeenWriteback(wbc, self.record))
        where = f"writepage, page {page.index}"
        code = self._called(where, lambda: self.inner.writepage(cast("Page", seen), given), [seen])
        if code == AOP_WRITEPAGE_ACTIVATE and page.locked:
            seen.settle()
        elif code != 0 or isinstance(code, bool) or page.locked:
            state = "locked" if page.locked else "unlocked"
            self.record.breach("W1", f"it returned {code!r}, and the page was {state}", seen.where)
        return code

    def writepages(self, wbc: WritebackControl) -> None:
        """As the store does it."""
        seen = SeenWriteback(wbc, self.record)
        self._called("writepages", lambda: self.inner.writepages(cast("WritebackControl", seen)), seen.taken)
        for page in seen.taken:
            if page.is_forgotten:
                what = "writepages took it, and left it locked: not under write-back, and not declined by wbc.redirty()"
                self.record.breach("W3", what, page.where)

    def set_size(self, size_bytes: int) -> None:
        """As the store does it."""
        self._called(f"set_size({size_bytes})", lambda: self.inner.set_size(size_bytes))

    def punch_hole(self, offset_bytes: int, size_bytes: int) -> None:
        """As the store does it."""
        where = self.record.here(f"punch_hole({offset_bytes}, {size_bytes})")
        with self.record.call(where):
            try:
                self.inner.punch_hole(offset_bytes, size_bytes)
            except NotImplementedError:
                raise
            except Exception as error:
                self._note_raised(error, where)
                raise

    def fsync(self) -> None:
        """As the store does it."""
        self._called("fsync", self.inner.fsync)

    def discard(self) -> int | None:
        """As the store does it."""
        self.left_bytes = self._called("discard", self.inner.discard)
        return self.left_bytes

    def launder_page(self, page: Page) -> bool:
        """As the store does it."""
        seen = SeenPage(page, self.record, "launder_page", owed_clause="W18")
        is_stored = self._called(seen.where, lambda: self.inner.launder_page(cast("Page", seen)))
        if not isinstance(is_stored, bool):
            self.record.breach("W18", f"it returned {is_stored!r}", seen.where)
        elif not page.locked:
            self.record.breach("W18", f"it returned {is_stored!r}, and the page was unlocked", seen.where)
        seen.settle()
        return is_stored

    def direct_write(self, data: memoryview, offset_bytes: int) -> int:
        """As the store does it."""
        where = f"direct_write({len(data)} bytes, {offset_bytes})"
        return self._called(where, lambda: self.inner.direct_write(data, offset_bytes))

    def _called(self, where: str, run: Callable[[], T], stored: Sequence[SeenPage] = ()) -> T:
        where = self.record.here(where)
        with self.record.call(where):
            try:
                return run()
            except Exception as error:
                too_late = min((page.too_late for page in stored), default="R13")  # W1 before W17: it comes first
                self._note_raised(error, where, too_late)
                for page in stored:
                    page.operation_raised()
                raise


class ReadaheadProbe(Probe):
    """Operations with a ``readahead`` of their own."""

    def readahead(self, rac: ReadaheadControl) -> None:
        """As the store does it."""
        record = self.record
        seen = SeenReadahead(rac, record)
        where = record.here(f"readahead, pages {rac.index} to {rac.index + rac.page_count - 1}")
        try:
            with record.call(where, timed=not rac._untaken().caller_waits):
                self.inner.readahead(cast("ReadaheadControl", seen))
        except BaseException as error:
            self._note_raised(error, where)
            for page in seen.taken:
                if isinstance(error, OSError) and page.locked and page.uptodate:
                    record.breach("R12", f"it called page.set_uptodate(), then raised {error!r}", page.where)
                page.settle()
            raise
        for page in seen.taken:
            page.owe()


def probe_of(ops: AddressSpaceOperations, record: Record) -> Probe:
    """*ops*, seen through *record*, and under the name that they have in messages."""
    has_readahead = type(ops).readahead is not AddressSpaceOperations.readahead
    kind = type(type(ops).__name__, (ReadaheadProbe if has_readahead else Probe,), {})
    return cast("Probe", kind(ops, record))
