"""AOP_UPDATED_PAGE against unlock-and-wait, for a store that answers at once: the claim of the patch.

Two operations over the same bytes.  One fills the page and returns AOP_UPDATED_PAGE with the page still locked.
The other does what such a store had to do before: fill it, unlock it, return 0; whoever wants it locked (a fault, a
write) gets in line for the lock again.  Measured is `filemap.fault` on pages that are not there, from its call to its
return, and the buffered read of one page, which needs no lock afterwards.

Three situations: *alone*; *in line*: 8 threads want the page's lock while the store is at work, and the clock starts
when the bytes are there; *hammered*: 8 threads lock and unlock the very page all the time, and the clock runs over the
whole fault, store and all.  All off the main thread, where misses are served in place.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from statistics import quantiles
from time import perf_counter, sleep
from typing import TYPE_CHECKING, NamedTuple

import timing
from report import Headline, Report, Table, bars, duration, times_spread
from timing import PATIENCE_S, Spread, Work
from workload import PAGE, BytesInMemory, description_of, open_over, random_bytes

from pagein import AOP_UPDATED_PAGE, File, PageCache
from pagein.mm import filemap, truncate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pagein.mm.mapping import AddressSpace
    from pagein.mm.openfile import OpenFile
    from pagein.mm.page import LockedPage, Page

TITLE = "AOP_UPDATED_PAGE against unlock-and-wait"
CONTENDERS = 8
FILE_PAGES = 2048
ROUND_FAULTS = 1024
SETTLE_S = 20e-6
STORE_S = 50e-6
"""What the store takes in the hammered situation, without the interpreter's lock, as a read of a file would."""
UPDATED, UNLOCKED = "AOP_UPDATED_PAGE", "unlock and wait"


class _SynchronousStore(BytesInMemory):
    """Fills the page, and lets a situation take part in between."""

    during_read: Callable[[Page], None] | None = None
    filled_at_s = 0.0

    def _bring(self, page: Page) -> None:
        self.fill(page.buffer, page.offset)
        if self.during_read:
            self.during_read(page)
        self.filled_at_s = perf_counter()


class KeepsLock(_SynchronousStore):
    def readpage(self, file: OpenFile, page: Page) -> int:
        self._bring(page)
        page.set_uptodate()
        return AOP_UPDATED_PAGE


class LetsGo(_SynchronousStore):
    def readpage(self, file: OpenFile, page: Page) -> int:
        self._bring(page)
        page.end_read()
        return 0


class Subject(NamedTuple):
    store: _SynchronousStore
    file: File

    @property
    def mapping(self) -> AddressSpace:
        return description_of(self.file).mapping

    def fault(self, index: int, lock: threading.Lock) -> LockedPage:
        """The page, locked, by the path of a page fault."""
        vmf = filemap.Fault(description_of(self.file), index, lock)
        filemap.fault(vmf)
        assert vmf.page is not None, vmf.error
        return vmf.page

    def forget(self) -> None:
        truncate.invalidate_mapping_pages(self.mapping, 0, FILE_PAGES)


@contextmanager
def _subjects() -> Iterator[dict[str, Subject]]:
    data = random_bytes(FILE_PAGES * PAGE)
    with PageCache(4 * FILE_PAGES * PAGE) as cache:
        subjects = {}
        for name, kind in ((UPDATED, KeepsLock), (UNLOCKED, LetsGo)):
            store = kind(data)
            file = open_over(cache, store, len(data))
            file.advise("random")
            subjects[name] = Subject(store, file)
        yield subjects


# -- what is timed --------------------------------------------------------------------------------------------------


def _faults(subject: Subject) -> float:
    """Alone: seconds of a round of faults."""
    lock = threading.Lock()
    subject.forget()
    start = perf_counter()
    for index in range(ROUND_FAULTS):
        subject.fault(index, lock).unlock()
    return perf_counter() - start


def _reads(subject: Subject) -> float:
    """Alone: seconds of a round of buffered reads, page by page."""
    pread = subject.file.pread
    subject.forget()
    start = perf_counter()
    for offset in range(0, ROUND_FAULTS * PAGE, PAGE):
        pread(PAGE, offset)
    return perf_counter() - start


def _aside(run: Callable[[Subject], float], subject: Subject) -> float:
    """Its seconds, on a thread that gets no signals."""
    seconds: list[float] = []
    timing.in_a_thread(lambda: seconds.append(run(subject)))
    return seconds[0]


class InLine:
    """Contenders that are in line for the page's lock at the moment when its bytes are there."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._calls = [SimpleQueue[int | None]() for _ in range(CONTENDERS)]
        self._served = SimpleQueue[float]()

    def waits_s(self, fault_count: int) -> tuple[list[float], list[float]]:
        """Seconds from bytes to lock: of each fault, and of each contender."""
        mine: list[float] = []
        others: list[float] = []
        self._subject.forget()
        self._subject.store.during_read = self._call_contenders
        try:
            timing.together([partial(self._fault, fault_count, mine, others), *map(self._partial, self._calls)])
        finally:
            self._subject.store.during_read = None
        return mine, others

    def _partial(self, calls: SimpleQueue[int | None]) -> Callable[[], None]:
        return partial(self._contend, calls)

    def _fault(self, fault_count: int, mine: list[float], others: list[float]) -> None:
        lock = threading.Lock()
        try:
            for index in range(fault_count):
                page = self._subject.fault(index, lock)
                mine.append(perf_counter() - self._subject.store.filled_at_s)
                page.unlock()
                others += [self._served.get(timeout=PATIENCE_S) for _ in range(CONTENDERS)]
        finally:
            for calls in self._calls:
                calls.put(None)

    def _call_contenders(self, page: Page) -> None:
        for calls in self._calls:
            calls.put(page.index)
        while page.waiter_count < CONTENDERS:
            sleep(SETTLE_S)

    def _contend(self, calls: SimpleQueue[int | None]) -> None:
        while (index := calls.get()) is not None:
            page = self._subject.mapping.lock_page(index)
            waited_s = perf_counter() - self._subject.store.filled_at_s
            page.unlock()
            self._served.put(waited_s)


class Hammered:
    """Contenders that lock and unlock the page that is being faulted, all the time."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._index = 0
        self._ended = False

    def faults_s(self, fault_count: int) -> list[float]:
        """Seconds of each fault, from call to return."""
        spent: list[float] = []
        self._subject.forget()
        self._ended = False
        self._subject.store.during_read = lambda page: sleep(STORE_S)
        try:
            timing.together([partial(self._fault, fault_count, spent), *[self._contend] * CONTENDERS])
        finally:
            self._subject.store.during_read = None
        return spent

    def _fault(self, fault_count: int, spent: list[float]) -> None:
        lock = threading.Lock()
        try:
            for self._index in range(fault_count):
                start = perf_counter()
                page = self._subject.fault(self._index, lock)
                spent.append(perf_counter() - start)
                page.unlock()
        finally:
            self._ended = True

    def _contend(self) -> None:
        while not self._ended:
            self._subject.mapping.lock_page(self._index).unlock()


class Situations(NamedTuple):
    """Seconds, of many faults each."""

    in_line: dict[str, list[float]]
    others_in_line: dict[str, list[float]]
    hammered: dict[str, list[float]]


def _contended(subjects: dict[str, Subject], *, rounds: int, fault_count: int) -> Situations:
    nothing_yet: list[dict[str, list[float]]] = [{name: [] for name in subjects} for _ in Situations._fields]
    found = Situations(*nothing_yet)
    for number in range(rounds):
        for name in sorted(subjects, reverse=bool(number % 2)):
            mine, others = InLine(subjects[name]).waits_s(fault_count)
            found.in_line[name] += mine
            found.others_in_line[name] += others
            found.hammered[name] += Hammered(subjects[name]).faults_s(fault_count)
    return found


# -- what is said about it ------------------------------------------------------------------------------------------


def measure(*, quick: bool) -> Report:
    with _subjects() as subjects:
        alone = {}
        for what, run in (("fault", _faults), ("read", _reads)):
            work = {name: Work(ROUND_FAULTS, partial(_aside, run, subject)) for name, subject in subjects.items()}
            alone[what] = timing.by_turns(work, rounds=8 if quick else 30)
        contended = _contended(subjects, rounds=2 if quick else 8, fault_count=100 if quick else 250)
    rows = [
        ["fault, alone", *_alone_row(alone["fault"])],
        ["buffered read, alone", *_alone_row(alone["read"])],
        *_rows(f"bytes to lock, {CONTENDERS} in line", contended.in_line),
        *_rows(f"the same, of the {CONTENDERS}", contended.others_in_line),
        *_rows(f"whole fault, hammered by {CONTENDERS}", contended.hammered),
    ]
    columns = ["", UPDATED, UNLOCKED, f"{UPDATED}'s time over it"]
    note = (
        "Alone, the gain is one unlock and one lock. With others in line it is the whole line: whoever lets go of the "
        "lock goes to its end. What the one gains, those behind it pay between them, once each. A buffered read does "
        "not need the lock again, so there the two differ by the wait that finds nothing to wait for."
    )
    report = Report(tables=[Table("Time a fault", columns, rows, note)])
    report.headlines = [_headline_alone(alone["fault"]), _headline_in_line(contended.in_line)]
    report.data = {
        "alone_seconds": {what: timing.summary(rounds) for what, rounds in alone.items()},
        **{name: {who: _tail(values) for who, values in by.items()} for name, by in contended._asdict().items()},
    }
    return report


def _alone_row(rounds: timing.Rounds) -> list[str]:
    medians = [duration(Spread.of(rounds[name]).median) for name in (UPDATED, UNLOCKED)]
    return [*medians, times_spread(timing.ratio(rounds, UPDATED, UNLOCKED))]


def _tail(seconds: list[float]) -> tuple[float, float]:
    """Median and 99th percentile."""
    cuts = quantiles(seconds, n=100, method="inclusive")
    return cuts[49], cuts[98]


def _rows(what: str, seconds: dict[str, list[float]]) -> list[list[str]]:
    ours, theirs = _tail(seconds[UPDATED]), _tail(seconds[UNLOCKED])
    return [
        [f"{what}, {which}", duration(one), duration(other), f"{one / other:.2f}x"]
        for which, one, other in zip(("median", "p99"), ours, theirs, strict=True)
    ]


def _headline_alone(rounds: timing.Rounds) -> Headline:
    medians = [duration(Spread.of(rounds[name]).median) for name in (UPDATED, UNLOCKED)]
    found = times_spread(timing.ratio(rounds, UPDATED, UNLOCKED))
    return Headline(f"fault of one page, alone, {UPDATED}", medians[0], f"{UNLOCKED} {medians[1]}", found)


def _headline_in_line(seconds: dict[str, list[float]]) -> Headline:
    ours, theirs = _tail(seconds[UPDATED]), _tail(seconds[UNLOCKED])
    what = f"fault, from bytes to locked page with {CONTENDERS} in line (p99), {UPDATED}"
    beside = f"{UNLOCKED} {duration(theirs[0])} ({duration(theirs[1])})"
    share = f"{ours[0] / theirs[0]:.2f}x ({ours[1] / theirs[1]:.2f}x)"
    return Headline(what, f"{duration(ours[0])} ({duration(ours[1])})", beside, share)


def draw(report: Report, figure: Figure) -> None:
    figure.set_size_inches(11, 5)
    panels = figure.subplots(2, 2)
    labels = [f"pagein, {UPDATED}", UNLOCKED]
    alone = report.data["alone_seconds"]
    for axes, what, title in zip(
        panels[0], ("fault", "read"), ("Fault of one page, alone", "Buffered read of one page, alone"), strict=True
    ):
        bars(axes, labels, [alone[what][name][1] * 1e6 for name in (UPDATED, UNLOCKED)], unit="µs", title=title)
    titles = (f"From bytes to locked page, {CONTENDERS} in line", f"Whole fault, hammered by {CONTENDERS}")
    for axes, what, title in zip(panels[1], ("in_line", "hammered"), titles, strict=True):
        tails = [report.data[what][name] for name in (UPDATED, UNLOCKED)]
        with_tail = [f"{label}, {which}" for which in ("median", "p99") for label in labels]
        bars(axes, with_tail, [tail[at] * 1e6 for at in (0, 1) for tail in tails], unit="µs", title=title)
