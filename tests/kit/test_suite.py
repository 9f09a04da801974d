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


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        pagein.testing.nothing  # noqa: B018
