"""A request: what a store is asked for at once, and who waits for it to be answered.

Assumes: the zone's lock guards every field but ``outcome`` and ``error``, which are written before `returned` wakes.
Not here: whose turn it is, and who calls the operation (device.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .sync import Errand, MakeWaiter, Steps, Waiter

if TYPE_CHECKING:
    from .device import BackingDevice
    from .openfile import OpenFile
    from .page import LockedPage
    from .pipe import Started
    from .readpage import Outcome


class Request:
    """A locked page, or run of pages, that the store is to bring."""

    __slots__ = (
        "_brought_bytes", "_has_returned", "_merged_into", "_pages_left", "_started", "_waiters", "caller_waits",
        "device", "error", "file", "given_up", "has_failed", "is_asked", "keeps_lock", "outcome", "page",
        "reader_calls", "wanted",
    )  # fmt: skip

    def __init__(
        self,
        device: BackingDevice,
        file: OpenFile,
        page: LockedPage,
        *,
        wanted: bool,
        keeps_lock: bool = False,
        reader_calls: bool = False,
    ) -> None:
        self.device: BackingDevice = device
        self.file: OpenFile = file
        self.page: LockedPage = page
        self.wanted: bool = wanted
        """A reader waits for it."""
        self.keeps_lock: bool = keeps_lock
        """And wants the page with its lock: it is asked for alone."""
        self.reader_calls: bool = reader_calls
        """It is not handed over when its turn has come: its reader has it called as he begins to wait, in `steps`."""
        self.caller_waits: bool = False
        """Whoever calls the operation would only wait for the pages."""
        self.given_up: bool = False
        """The one who wanted that was interrupted."""
        self.is_asked: bool = False
        """The operation was called."""
        self.has_failed: bool = False
        """And has raised, or ended a page with an error."""
        self.outcome: Outcome | None = None
        """What came of the only page, if it was read alone."""
        self.error: BaseException | None = None
        """What the operation raised, if a reader has to hear it."""
        self._pages_left = 1
        self._has_returned = False
        self._waiters: list[Waiter] = []
        self._merged_into: Request | None = None
        self._brought_bytes = 0
        self._started: Started | None = None
        page.request = self

    @property
    def is_started(self) -> bool:
        """Whether its turn has come."""
        return self._started is not None

    @property
    def is_in_line(self) -> bool:
        """Whether it waits for its turn.  Zone's lock held."""
        page = self.page
        return self.device._by_start.get((id(page.mapping), page.index)) is self

    def page_was_split(self) -> None:
        """One page of it more will end.  Zone's lock held."""
        self._pages_left += 1

    def page_ended(self, brought_bytes: int) -> None:
        """A page of it was unlocked.  Zone's lock held."""
        self._pages_left -= 1
        self._brought_bytes += brought_bytes
        if not self._pages_left:
            self.device._end(self)

    def steps(self, index: int, make_waiter: MakeWaiter) -> Steps[None]:
        """Wait until page *index* of it is here; or will not be, and the operation has returned: then all is known."""
        mapping, device = self.page.mapping, self.device
        if self.reader_calls:
            # It has its place at the store, and neither it nor we stand in a line: nobody else can start it, or wake
            # us, and whoever wants its pages meanwhile gets in line for them as behind an I/O worker.
            yield Errand(lambda: device.perform(self, caller_waits=True), lambda: device.hand_over(self))
        with mapping.zone.lock:
            holder = mapping.in_flight.get(index)
            is_own = holder is not None and holder.request is self._last()
            wait = holder.join(index, make_waiter, wants_lock=False) if holder is not None and is_own else None
        if wait is not None:
            yield from wait.steps()
        if not self.brought(index):
            with mapping.zone.lock:
                is_known = self._last()._has_brought(index)
            if not is_known:
                yield from self.returned_steps(make_waiter)

    def returned_steps(self, make_waiter: MakeWaiter) -> Steps[None]:
        """Wait until the operation has returned."""
        with self.device.zone.lock:
            if self._last()._has_returned:
                return
            waiter = make_waiter()
            self._last()._waiters.append(waiter)
        yield waiter

    def _last(self) -> Request:
        """The one with which it was merged."""
        request = self
        while request._merged_into is not None:
            request = request._merged_into
        return request

    def brought(self, index: int) -> bool:
        """Whether page *index* is known to have been brought, though it may have been evicted since."""
        return self.page.filled and self.page.index <= index < self.page.index + self.page.page_count

    def _has_brought(self, index: int) -> bool:
        """Whether it was this request that has brought page *index*, also in parts.  Zone's lock held.

        Not whether the page is here: another may have had it after this one failed, whose error is not told yet.
        """
        page = self.page
        if page.index <= index < page.index + page.page_count:
            return page.filled
        return page.mapping.is_uptodate(index)  # it was taken off this one

    def returned(self) -> None:
        """The operation has returned, or raised."""
        with self.device.zone.lock:
            self._has_returned = True
            while self._waiters:
                self._waiters.pop().wake()
        if self.page.rest is not None:
            self.page.rest.ended(self.page)

    def take_error(self) -> BaseException | None:
        """The error, for the one who raises it: its traceback refers to us."""
        error, self.error = self.error, None
        return error
