"""One call of a store is overtaken by another wherever it can be: races are found surely, right stores left alone."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import CodeType
from typing import Any, NamedTuple

import pytest
from tests.kit.reading_mistakes import CONTENT, SeeksAndReads, SeeksAndReadsInALine, SharesACursor
from tests.kit.writing_mistakes import (
    ReplacesTheWhole,
    RightWriting,
    SeeksAndWrites,
    SeeksAndWritesInALine,
    SharesAWriteCursor,
)

from pagein import RangeOperations
from pagein.testing.contract import Subject, meeting, overtaking, writing
from pagein.testing.contract.overtaking import Hold
from pagein.testing.contract.own_code import Watch
from pagein.testing.contract.rig import Rig, Stop
from pagein.testing.stores import ScriptedOps, updated

RUNS = 20


def broken_in(exercise: Callable[[Rig], None], target: Any, *, content: bytes | None = None) -> set[str]:
    """What one exercise finds."""
    rig = Rig(Subject(target, content=content), {})
    try:
        with suppress(Stop):
            exercise(rig)
    finally:
        rig.close()
    return {breach.number for breach in rig.record.breaches}


@pytest.fixture
def holds(monkeypatch: pytest.MonkeyPatch) -> list[Hold]:
    """All that were made."""
    made: list[Hold] = []

    class Noted(Hold):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(overtaking, "Hold", Noted)
    return made


@pytest.mark.parametrize("mistake", [SharesACursor, SeeksAndReads, SeeksAndReadsInALine])
def test_a_race_of_two_reads_is_found_each_time(mistake: Any) -> None:
    found = [broken_in(meeting.concurrency, mistake, content=CONTENT) for _ in range(RUNS)]
    assert found == [{"C1"}] * RUNS


@pytest.mark.parametrize("mistake", [SharesAWriteCursor, SeeksAndWrites, SeeksAndWritesInALine, ReplacesTheWhole])
def test_a_race_of_two_writes_is_found_each_time(mistake: Any) -> None:
    found = [broken_in(writing.stored_at_once, mistake) for _ in range(RUNS)]
    assert found == [{"W11"}] * RUNS


class Locked(RangeOperations):
    """With a cursor in self, and a lock over it."""

    size_bytes = len(CONTENT)

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.at = 0

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        with self.lock:
            self.at = offset_bytes
            data = CONTENT[self.at : self.at + len(buffer)]
        buffer[:] = data


def test_who_keeps_the_other_out_is_held_for_a_moment_only(holds: list[Hold], monkeypatch: pytest.MonkeyPatch) -> None:
    for moment in ("HOLD_S", "HOLD_LEAST_S"):
        monkeypatch.setattr(overtaking, moment, 0.3)  # a busy machine lets the other come late, and he is not kept out
    monkeypatch.setattr(overtaking, "TRIES_S", 30.0)
    assert broken_in(meeting.concurrency, Locked, content=CONTENT) == set()
    in_vain = [hold.where for hold in holds if hold.was_in_vain]
    assert 2 <= len(in_vain) <= 2 * 3  # each line under the lock, once each way; its end is on the line of its begin
    assert any(hold.where and not hold.was_in_vain for hold in holds)


class Pair(NamedTuple):
    """Whose code is made by the standard library."""

    offset_bytes: int
    size_bytes: int


class UsesOthers(RangeOperations):
    size_bytes = len(CONTENT)

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        pair = Pair(*json.loads(json.dumps([offset_bytes, len(buffer)])))
        buffer[:] = self.bring(pair)

    def bring(self, pair: Pair) -> bytes:
        return CONTENT[pair.offset_bytes : pair.offset_bytes + pair.size_bytes]


def test_only_the_stores_own_code_is_held(holds: list[Hold]) -> None:
    assert broken_in(meeting.concurrency, UsesOthers, content=CONTENT) == set()
    codes = {code for hold in holds for code in hold.passed.values()}
    assert codes == {UsesOthers.fill.__code__, UsesOthers.bring.__code__}


def test_a_store_of_pageins_is_not_held(holds: list[Hold]) -> None:
    """Nor in the ``__init__`` of a dataclass of its own, which is in no file."""
    assert broken_in(meeting.concurrency, ScriptedOps(default=updated), content=CONTENT) == set()
    assert holds
    assert not any(hold.passed for hold in holds)


class OnThreads(Locked):
    """Has another thread do it, for which it waits."""

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        thread = threading.Thread(target=super().fill, args=(buffer, offset_bytes))
        thread.start()
        thread.join()


def test_a_store_with_threads_of_its_own_is_left_alone() -> None:
    assert broken_in(meeting.concurrency, OnThreads, content=CONTENT) == set()


class NotesWhoTraces(RangeOperations):
    size_bytes = len(CONTENT)

    def __init__(self) -> None:
        self.tracing: set[Any] = set()

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        self.tracing.add(sys.gettrace())
        buffer[:] = CONTENT[offset_bytes : offset_bytes + len(buffer)]


@pytest.fixture
def tracer() -> Iterator[Any]:
    """Somebody else's, in all threads that begin."""

    def trace(frame: Any, event: str, arg: Any) -> None:
        return None

    before = threading.gettrace()
    threading.settrace(trace)
    yield trace
    threading.settrace(before)


def test_somebody_elses_trace_function_stays(tracer: Any) -> None:
    ops = NotesWhoTraces()
    assert broken_in(meeting.concurrency, ops, content=CONTENT) == set()
    assert ops.tracing == {tracer}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there are no such tools")
def test_without_a_tool_to_be_had_nothing_is_held(holds: list[Hold]) -> None:
    monitoring = getattr(sys, "monitoring")  # noqa: B009  # not known to a type checker of 3.11
    monitoring.use_tool_id(3, "somebody else's")
    try:
        assert broken_in(meeting.concurrency, UsesOthers, content=CONTENT) == set()
    finally:
        monitoring.free_tool_id(3)
    assert holds
    assert not any(hold.passed for hold in holds)


def test_watching_ends() -> None:
    ops = RightWriting()
    seen: list[CodeType] = []
    with Watch(ops) as watch:
        with watch.in_this_thread(lambda frame: seen.append(frame.f_code)):
            ops.set_size(10)
        assert set(seen) == {RightWriting.set_size.__code__}
        seen.clear()
        ops.set_size(20)
    ops.set_size(30)
    assert not seen
    assert sys.gettrace() is None
