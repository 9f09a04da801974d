"""What the tests of the line before a store share."""

from __future__ import annotations

import threading
from collections.abc import Collection

from tests.contract.harness import Subject
from tests.contract.paths import PREAD

from pagein.mm import reclaim
from pagein.mm.device import BackingDevice
from pagein.mm.page import Page
from pagein.mm.request import Request
from pagein.testing.stores import (
    Answer,
    ScriptedOps,
)


class Inside:
    """Answers that count how many are in the store at once, and note by which threads they were called."""

    def __init__(self) -> None:
        self.most = 0
        self.threads: list[str] = []
        self._now = 0
        self._lock = threading.Lock()

    def of(self, answer: Answer) -> Answer:
        def counted(ops: ScriptedOps, page: Page) -> int:
            with self._lock:
                self._now += 1
                self.most = max(self.most, self._now)
                self.threads.append(threading.current_thread().name)
            try:
                return answer(ops, page)
            finally:
                with self._lock:
                    self._now -= 1

        return counted


def device_of(subject: Subject) -> BackingDevice:
    return subject.mapping.device


def read_page(subject: Subject, index: int) -> bytes:
    """A page, by a reader of its own."""
    return PREAD.read_page(subject.another(), index)


def ask(subject: Subject, index: int, page_count: int = 1, *, wanted: bool = False) -> Request:
    """Ask for pages as readahead does; *wanted*: as for a reader who waits."""
    assert reclaim.reserve(subject.zone, page_count) == page_count
    page = subject.mapping.grab_run(index, page_count, wanted_pages=page_count)
    assert page is not None
    request = Request(device_of(subject), subject.open_file, page, wanted=wanted)
    device_of(subject).submit(request)
    return request


def assert_line_is_empty(subject: Subject) -> None:
    device = device_of(subject)
    assert (device.in_flight, device.queued_count, device._ahead_in_flight) == (0, 0, 0)
    assert not device._wanted
    assert not device._ahead
    assert not device._ahead_in_flight_of
    assert subject.zone.streams == {}


def complete_all(subject: Subject, *, count: int, done: Collection[int] = ()) -> list[tuple[int, int]]:
    """End the reads of a store that starts them, one after the other, but for those that are *done*; (index, page
    count) in the order of the calls."""
    for number in range(count):
        subject.ops.wait_for_calls(number + 1)
        if subject.ops.calls[number].index not in done:
            subject.ops.complete(subject.ops.calls[number].index)
    return [(call.index, call.page_count) for call in subject.ops.calls]


def complete_all_of(subject: Subject, *indices: int) -> list[tuple[int, int]]:
    for index in indices:
        subject.ops.complete(index)
    return [(call.index, call.page_count) for call in subject.ops.calls]
