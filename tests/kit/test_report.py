"""A report says what is expected, what was seen and where, and what puts it right: as text, as JSON, as JUnit XML."""

from __future__ import annotations

import ctypes
import errno
import json
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree as Tree

import pytest
from tests.kit.reading_mistakes import (
    CONTENT,
    DiesBeforeItEnds,
    DiesInACallback,
    DiesInALoop,
    NeverEndsBehindTheEnd,
    OffByOnePage,
    RaisesKeyError,
    Right,
)
from tests.kit.source_mistakes import AnotherKeyEachTime, Object, OpenRaisesRuntimeError, Place
from tests.kit.writing_mistakes import RightWriting

from pagein.mm.openfile import OpenFile
from pagein.mm.page import Page
from pagein.stores import MemoryStore, Opened
from pagein.testing.contract import CLAUSES, Report, Subject, check, explain
from pagein.testing.contract.explained import LINUX, NOTES, SECTIONS


@pytest.fixture(scope="module")
def report() -> Report:
    return check(Subject(OffByOnePage, content=CONTENT))


def test_text_leads_to_the_mistake(report: Report) -> None:
    text = report.text()
    assert "BROKEN R10: page i holds the file's bytes from i * 4096 on" in text
    assert "page 1: " in text
    assert "those are the bytes of the file from offset 0 on (page 0, byte 0)" in text
    assert "Read at page.offset" in text
    assert "see:      docs/reference/store-clauses.md#r10, or: pagein check --explain R10\n" in text
    assert text.splitlines()[-1].startswith("FAILED: ")


def test_what_was_raised_is_told_with_its_line() -> None:
    seen = check(Subject(RaisesKeyError)).of("R8").breaches[0].seen
    assert seen.startswith("it raised KeyError: 0 at kit/reading_mistakes.py:")


def wheres(report: Report, number: str) -> list[str]:
    """Where the first breach of a clause was seen, as the text, JSON and JUnit say."""
    in_text = next(line for line in report.text().splitlines() if line.startswith("  seen: "))
    document = json.loads(report.json())
    in_json = next(one["seen"][0]["where"] for one in document["clauses"] if one["number"] == number)
    failure = Tree.fromstring(report.junit()).find("testsuite/testcase/failure")
    assert failure is not None
    return [in_text.partition(":")[2].strip(), in_json, failure.get("message", "")]


class DiesInForeignCode(DiesBeforeItEnds):
    """In a callback that C calls, which cannot pass on what it raises."""

    def readpage(self, file: OpenFile, page: Page) -> int:
        ctypes.CFUNCTYPE(None)(lambda: self.bring(page))()
        return 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("mistake", [DiesBeforeItEnds, DiesInACallback, DiesInALoop, DiesInForeignCode])
def test_what_was_never_ended_is_told_with_what_its_callback_raised(mistake: Any) -> None:
    hooks = threading.excepthook, sys.unraisablehook
    seen = check(Subject(mistake, content=CONTENT), patience_s=0.5).of("R4").breaches[0].seen
    assert re.match(
        r"it was never ended; meanwhile .+ KeyError: 1 at kit/reading_mistakes\.py:\d+ in bring \(", seen
    ), seen
    assert (threading.excepthook, sys.unraisablehook) == hooks
    assert not any(logging.getLogger(name).filters for name in ("concurrent.futures", "asyncio"))


def test_it_says_that_the_page_was_behind_the_end_of_the_file() -> None:
    found = wheres(check(Subject(NeverEndsBehindTheEnd, content=CONTENT), patience_s=0.5), "R4")
    assert all(one.startswith("readpage, page 10, behind the end of the file") for one in found), found


class Failing(Right):
    """Says nothing when it fails; what was wrong once is wrong for ever."""

    fails = failed = False
    is_silent = False

    @classmethod
    @contextmanager
    def failing(cls) -> Iterator[None]:
        cls.fails = True
        yield
        cls.fails = False

    def readpage(self, file: OpenFile, page: Page) -> int:
        if self.fails and self.is_silent:
            return 0
        self.failed = self.failed or self.fails
        if self.failed:
            raise OSError(errno.EIO, "broken")
        return super().readpage(file, page)


def test_it_says_that_the_store_was_made_to_fail() -> None:
    class Silent(Failing):
        is_silent = True

    found = wheres(check(Subject(Silent, content=CONTENT, failing=Silent.failing), patience_s=0.5), "R4")
    assert all(one.startswith("readpage, page 0, while the store fails") for one in found), found


def test_it_says_that_the_store_had_healed() -> None:
    class Unhealed(Failing):
        pass

    report = check(Subject(Unhealed, content=CONTENT, failing=Unhealed.failing))
    found = wheres(report, "F2")
    assert all(one.startswith("reading from page 0, after the store has healed") for one in found), found
    assert "readpage, page 0, after the store has healed: OSError: [Errno 5] broken at " in report.text()


def test_json_has_all_of_it(report: Report) -> None:
    document = json.loads(report.json())
    assert document["passed"] is False
    assert [one["number"] for one in document["clauses"]] == list(CLAUSES)
    broken = [one for one in document["clauses"] if one["verdict"] == "failed"]
    assert [one["number"] for one in broken] == ["R10"]
    assert broken[0]["expected"] == CLAUSES["R10"].expected
    assert broken[0]["fix"] == CLAUSES["R10"].fix
    assert broken[0]["link"].endswith("store-clauses.md#r10")
    assert broken[0]["command"] == "pagein check --explain R10"
    assert broken[0]["seen"][0]["where"].startswith("page 1")


def test_junit_has_a_case_for_each_clause(report: Report) -> None:
    suite = Tree.fromstring(report.junit()).find("testsuite")
    assert suite is not None
    cases = suite.findall("testcase")
    assert len(cases) == int(suite.get("tests", "0")) == len(CLAUSES)
    failures = {case.get("name", "").partition(":")[0]: case.find("failure") for case in cases}
    failed = {number: failure for number, failure in failures.items() if failure is not None}
    assert set(failed) == {"R10"}
    assert "those are the bytes of the file from offset 0" in (failed["R10"].text or "")
    assert len(suite.findall("testcase/skipped")) == int(suite.get("skipped", "0")) > 0


@pytest.mark.parametrize("number", CLAUSES)
def test_a_clause_is_explained_with_what_the_documentation_has_of_it(number: str) -> None:
    told = " ".join(explain(number.lower()).split())
    assert told.startswith(f"{number}: {CLAUSES[number].expected}")
    assert " ".join(CLAUSES[number].fix.split()) in told
    assert NOTES.get(number, "") in told


def test_all_that_is_told_of_clauses_is_of_clauses_that_there_are() -> None:
    assert {*NOTES, *LINUX, *SECTIONS} <= {*CLAUSES}
    with pytest.raises(ValueError, match="no clause R99: accepted are O1, O2, "):
        explain("R99")


def test_what_xml_has_no_place_for_is_left_out() -> None:
    class RaisesControlCharacters(Right):
        def readpage(self, file: object, page: object) -> int:
            raise KeyError("\x00\x1b[31m\ufffe")

    assert Tree.fromstring(check(Subject(RaisesControlCharacters)).junit()) is not None


@pytest.mark.parametrize("form", ["text", "junit", "json"])
def test_what_no_file_takes_is_left_out(form: str) -> None:
    """The name of a file that is no UTF-8, as os.listdir gives it."""

    class CannotRead(Right):
        def readpage(self, file: object, page: object) -> int:
            raise OSError(errno.EIO, "cannot read \udcff.bin")

    report = check(Subject(CannotRead, name="\udcff"))
    assert report.broken == ["R15"]
    assert "cannot read" in getattr(report, form)().encode().decode()


def test_what_cannot_be_checked_is_an_error_that_says_what_can() -> None:
    with pytest.raises(TypeError, match="cannot check 7: accepted are an AddressSpaceOperations"):
        check(Subject(7))

    class WithoutSize(Right):
        size_bytes = None  # type: ignore[assignment]

    with pytest.raises(ValueError, match="how long is a file of WithoutSize"):
        check(Subject(WithoutSize))


@pytest.mark.parametrize(
    "sized",
    [
        lambda size: Subject(Right, size_bytes=size),
        lambda size: Subject(lambda: (Right(), size)),
        lambda size: Subject(Opened(Right(), size, "")),
    ],
)
def test_a_size_that_is_none_is_an_error_that_says_so(sized: Callable[[Any], Subject]) -> None:
    with pytest.raises(ValueError, match="the size of Right must be at least 0 bytes, not -5"):
        check(sized(-5))
    with pytest.raises(TypeError, match="the size of Right must be an int, a number of bytes, not '100'"):
        check(sized("100"))


@pytest.mark.parametrize(
    ("empty", "reason"),
    [
        (Subject(Right, size_bytes=0), "its operations are not writable"),
        (Subject(RightWriting, size_bytes=0, writes=False), "it may not be overwritten"),
        (Subject((MemoryStore({"a": b""}), "a")), "what a source holds is overwritten only if you say so"),
    ],
)
def test_an_empty_file_is_not_taken_for_a_pass(empty: Subject, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^the file is empty, and {reason}.*: give one of 3 pages or more$"):
        check(empty)


def test_what_is_broken_with_an_empty_file_is_told() -> None:
    assert check(Subject((AnotherKeyOfNothing(), "a"))).broken == ["O2"]


class AnotherKeyOfNothing(AnotherKeyEachTime):
    def __init__(self) -> None:
        super().__init__()
        self.objects["a"] = b""


def test_what_source_open_raises_is_told_with_its_line() -> None:
    breach = check(Subject((OpenRaisesRuntimeError(), "a"))).of("R8").breaches[0]
    assert breach.seen.startswith("it raised RuntimeError: no session at kit/source_mistakes.py:")
    assert breach.where == "source.open()"


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """Set when the test is over: what waits for it then ends."""
    event = threading.Event()
    yield event
    event.set()


def test_where_source_open_hangs_is_told(never: threading.Event) -> None:
    class Hangs(Object):
        def open(self) -> Opened:
            never.wait()
            return super().open()

    breach = check(Subject(Hangs(Place(), "a")), patience_s=0.5).of("D4").breaches[0]
    assert "kit/test_report.py:" in breach.seen
    assert breach.where == "source.open()"


def test_an_opened_that_all_exercises_share_and_that_cannot_be_closed_is_told() -> None:
    def close() -> None:
        raise KeyError("not open")

    report = check(Subject(Opened(Right(), len(CONTENT), "", close=close)))
    assert report.broken == ["O9"]
    assert report.of("R9").verdict == "passed"


def test_operations_whose_close_hangs_do_not_hang_the_check(never: threading.Event) -> None:
    def close() -> None:
        never.wait()

    report = check(Subject(lambda: Opened(Right(), len(CONTENT), "", close=close)), patience_s=0.5)
    assert report.broken == ["D4"]
