"""`ContractSuite`: who inherits it has a test for each clause."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.kit.reading_mistakes import CONTENT, Right

import pagein.testing
from pagein.stores import MemoryStore
from pagein.testing import ContractSuite
from pagein.testing.contract import CLAUSES, Subject

pytest_plugins = ["pytester"]


class TestMemory(ContractSuite):
    def subject(self) -> Subject:
        return Subject((MemoryStore({"a": CONTENT}), "a"), content=CONTENT, writes=True)


class TestRight(ContractSuite):
    def subject(self) -> Subject:
        return Subject(Right, content=CONTENT)


MISTAKEN = """
from tests.kit.reading_mistakes import ForgetsTheTail

from pagein.testing import ContractSuite
from pagein.testing.contract import Subject


class TestMistaken(ContractSuite):
    def subject(self):
        return Subject(ForgetsTheTail)


class TestForgotten(ContractSuite):
    pass
"""


def test_a_broken_clause_is_a_failed_test_of_that_name(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(MISTAKEN)
    pytester.makeini(f"[pytest]\npythonpath = {Path(__file__).parents[2]}\n")
    result = pytester.runpytest_inprocess("-q", "-k", "TestMistaken", "-p", "no:cacheprovider")
    result.assert_outcomes(failed=1, passed=3, skipped=len(CLAUSES) - 4, deselected=len(CLAUSES))
    result.stdout.fnmatch_lines(["*R9: every byte of the page is written before it is Uptodate*"])
    result.stdout.fnmatch_lines(["FAILED *test_clause[[]R9[]]*"])


JUNK = """
from pagein.testing import ContractSuite


class TestJunk(ContractSuite):
    def subject(self):
        return 7
"""


def test_a_subject_that_cannot_be_checked_is_an_error_that_says_what_can(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(JUNK)
    result = pytester.runpytest_inprocess("-q", "-p", "no:cacheprovider")
    result.assert_outcomes(failed=len(CLAUSES))
    result.stdout.fnmatch_lines(["E *TypeError: cannot check 7: accepted are an AddressSpaceOperations*"])


BARE = """
from tests.kit.reading_mistakes import Right

from pagein.testing import ContractSuite


class TestBare(ContractSuite):
    def subject(self):
        return Right
"""


def test_what_a_subject_is_made_of_will_do(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(BARE)
    pytester.makeini(f"[pytest]\npythonpath = {Path(__file__).parents[2]}\n")
    result = pytester.runpytest_inprocess("-q", "-k", "R9", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, deselected=len(CLAUSES) - 1)


HASTY = """
from tests.kit.reading_mistakes import CONTENT, Right

from pagein.testing import ContractSuite
from pagein.testing.contract import Subject


class Hasty(Right):
    def fill(self, page):
        page.buffer[:] = self.content(page)


class TestHasty(ContractSuite):
    def subject(self):
        return Subject(Hasty, content=CONTENT)
"""


@pytest.mark.parametrize("filters", ["default", "error"])
def test_advice_is_a_warning_and_no_failure(pytester: pytest.Pytester, filters: str) -> None:
    pytester.makepyfile(HASTY)
    pytester.makeini(f"[pytest]\npythonpath = {Path(__file__).parents[2]}\nfilterwarnings = {filters}\n")
    result = pytester.runpytest_inprocess("-q", "-k", "E3", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, warnings=1, deselected=len(CLAUSES) - 1)
    result.stdout.fnmatch_lines(["*ContractAdvice: E3: the error for what the store does not have is an OSError*"])


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        pagein.testing.nothing  # noqa: B018
