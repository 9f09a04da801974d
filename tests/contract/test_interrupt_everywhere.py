"""Item 21 once more: Ctrl-C at every single moment at which it can strike, not only while a reader waits.

CPython runs a signal's handler after a call, at the start of a function and at the end of a loop's round.  Each test
does one thing again and again, and KeyboardInterrupt strikes one such moment later each time, until the thing is
done before it strikes.  Whatever the moment, another thread must be able to read on, and nothing may be left behind.
"""

from __future__ import annotations

import dis
import functools
import gc
import os
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FrameType, TracebackType
from typing import Any

import pytest
from tests.contract.harness import RecordedLock, Scene, Subject

import pagein
from pagein.mm import filemap
from pagein.mm.filemap import Fault, FaultFlags
from pagein.stores import MemoryStore
from pagein.testing.leaks import settle
from pagein.units import PAGE_SIZE

PACKAGE = os.path.dirname(pagein.__file__) + os.sep
RUNS_HANDLERS = {"CALL", "CALL_FUNCTION_EX", "CALL_KW", "RESUME", "JUMP_BACKWARD"}
"""Instructions at whose end CPython looks for signals (3.11 to 3.13)."""
USABLE_S = 3.0
"""After so long a thread that only reads a page hangs."""


class Strike:
    """Raises KeyboardInterrupt in this thread, in the package's own code, at the *moment*-th chance."""

    def __init__(self, moment: int) -> None:
        self.left = moment
        self.where = ""
        self.mistakes: list[str] = []
        self._before: dict[FrameType, tuple[str, int]] = {}

    def __enter__(self) -> Strike:
        self._outer = sys.gettrace(), sys.unraisablehook
        sys.unraisablehook = self._lost
        sys.settrace(self._call)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        trace_function, sys.unraisablehook = self._outer
        sys.settrace(trace_function)
        self._before.clear()
        assert not self.mistakes, f"in a finalizer: {self.mistakes}; Ctrl-C struck {self.where}"

    def _lost(self, unraisable: sys.UnraisableHookArgs) -> None:
        """What strikes a finalizer is lost, as is any other error in one, which would be a mistake."""
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            self.mistakes.append(repr(unraisable.exc_value))

    def _call(self, frame: FrameType, event: str, arg: object) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE) or self.left <= 0:
            return None
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True
        return self._instruction

    def _instruction(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == "opcode":
            name, offset = _names(frame.f_code)[frame.f_lasti], frame.f_lasti
            before, self._before[frame] = self._before.get(frame), (name, offset)
            if (
                before
                and before[0] in RUNS_HANDLERS
                and _handler(frame.f_code, before[1]) == _handler(frame.f_code, offset)
            ):  # else it would be caught elsewhere than where CPython raises it
                self.left -= 1
                if self.left == 0:
                    self.where = f"after {before[0]} in {frame.f_code.co_qualname}, line {frame.f_lineno}"
                    raise KeyboardInterrupt
        elif event == "return":
            self._before.pop(frame, None)
        return self._instruction


@functools.cache
def _names(code: CodeType) -> dict[int, str]:
    return {instruction.offset: instruction.opname for instruction in dis.get_instructions(code)}


@functools.cache
def _handler(code: CodeType, offset: int) -> int | None:
    """Where an exception at *offset* goes on."""
    table = dis._parse_exception_table(code)  # type: ignore[attr-defined]  # no public name; since 3.11
    return next((entry.target for entry in table if entry.start <= offset < entry.end), None)


def moments(act: Callable[[Strike], object]) -> Iterator[str]:
    """Do *act* again and again, struck one moment later each time; say where, after each."""
    for moment in range(1, 3000):
        strike = Strike(moment)
        try:
            act(strike)
        except KeyboardInterrupt:
            pass
        if not strike.where:
            return
        yield strike.where
    raise AssertionError("it never ends")


def assert_usable(scene: Scene, subject: Subject, index: int, where: str) -> None:
    """Another thread reads the page, nobody is in flight, and nothing is left."""
    other = subject.another()
    reader = scene.start(other.file.pread, PAGE_SIZE, index * PAGE_SIZE)
    reader._ended.wait(USABLE_S)
    assert not reader.running, f"a reader hangs: Ctrl-C struck {where}"
    assert reader.result() == subject.content(index), where
    other.file.close()
    assert settle(subject.zone, USABLE_S), f"a page is locked for ever: Ctrl-C struck {where}"
    subject.assert_at_rest(*subject.uptodate())


@pytest.fixture
def scene() -> Iterator[Scene]:
    with Scene(debug=False) as scene:
        yield scene


class Fresh:
    """The next page of a large file that nobody has read, for each try."""

    def __init__(self, scene: Scene) -> None:
        self.subject = scene.open(page_count=4000, cap_pages=256)
        self.index = 0

    def next(self) -> int:
        self.index += 3
        return self.index


def by_pread(subject: Subject, index: int) -> None:
    subject.file.pread(PAGE_SIZE, index * PAGE_SIZE)


def by_preadinto(subject: Subject, index: int) -> None:
    subject.file.preadinto(bytearray(2 * PAGE_SIZE), index * PAGE_SIZE)


def by_seek_and_read(subject: Subject, index: int) -> None:
    subject.file.seek(index * PAGE_SIZE)
    subject.file.read1(2 * PAGE_SIZE)


def by_readline(subject: Subject, index: int) -> None:
    subject.file.seek(index * PAGE_SIZE)
    subject.file.readline(10)


def by_view(subject: Subject, index: int) -> None:
    subject.file.view(PAGE_SIZE, index * PAGE_SIZE)


def by_read_cache_page(subject: Subject, index: int) -> None:
    filemap.read_cache_page(subject.open_file, index)


def by_advice(subject: Subject, index: int) -> None:
    subject.file.advise("willneed", index * PAGE_SIZE, PAGE_SIZE)
    subject.file.advise("dontneed", 0, index * PAGE_SIZE)


def by_drop(subject: Subject, index: int) -> None:
    subject.cache.drop()
    subject.cache.stats()


READS = [by_pread, by_preadinto, by_seek_and_read, by_readline, by_view, by_read_cache_page, by_advice, by_drop]


@pytest.mark.parametrize("read", READS)
def test_item_21_at_every_moment_of_a_read(scene, read):
    """A miss, from the first instruction to the last."""
    fresh = Fresh(scene)
    subject = fresh.subject

    def act(strike: Strike) -> None:
        index = fresh.next()
        with strike:
            read(subject, index)

    struck = 0
    for where in moments(act):
        struck += 1
        assert_usable(scene, subject, fresh.index, where)
    assert struck > 20, "else it has not been tried"
    assert subject.zone.charged_pages <= subject.zone.cap_pages


@pytest.mark.parametrize("flags", [FaultFlags.NONE, FaultFlags.ALLOW_RETRY])
@pytest.mark.parametrize("here", [False, True], ids=["missing", "here"])
def test_item_21_at_every_moment_of_a_fault(scene, flags, here):
    """Either ``vmf.page`` tells of the lock that its caller has, or nobody has it; the caller's own lock is held."""
    fresh = Fresh(scene)
    subject = fresh.subject
    faults: list[Fault] = []

    def act(strike: Strike) -> None:
        index = fresh.next()
        if here:
            subject.file.pread(1, index * PAGE_SIZE)
        faults.append(Fault(subject.open_file, index, RecordedLock(), flags))
        with strike:
            filemap.fault(faults[-1])

    for where in moments(act):
        vmf = faults[-1]
        if vmf.page is not None:
            vmf.page.unlock()
        assert isinstance(vmf.lock, RecordedLock)
        assert vmf.lock.held, where
        assert_usable(scene, subject, fresh.index, where)
    if faults[-1].page is not None:
        faults[-1].page.unlock()


def test_item_21_at_every_moment_of_open_and_close(scene):
    """No file stays open that nobody has, and the next one opens."""
    cache = scene.cache(64)
    store = MemoryStore({"path": b"x" * 10})

    def act(strike: Strike) -> None:
        with strike:
            cache.open((store, "path")).close()

    def open_and_read() -> bytes:
        with cache.open((store, "path")) as file:
            return file.read()

    struck = 0
    for where in moments(act):
        struck += 1
        opened = scene.start(open_and_read)
        opened._ended.wait(USABLE_S)
        assert not opened.running, f"another open hangs: Ctrl-C struck {where}"
        assert opened.result() == b"x" * 10
        assert settle(cache._zone, USABLE_S)
    assert struck > 20
    gc.collect()
    assert cache.stats().open_files == 0
