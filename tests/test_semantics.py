"""Each promise has a test, and each clause of the contract: a sentence that nothing proves fails here."""

from __future__ import annotations

import re

import pytest
from tests import clauses

from pagein.testing.contract import clauses as kit

SEMANTICS = clauses.ROOT / "docs" / "explanation" / "semantics.md"


def promises(text: str) -> dict[int, tuple[str, list[str]]]:
    """By number: the sentence, and the tests that it names."""
    found: dict[int, tuple[str, list[str]]] = {}
    for number, block in re.findall(r"^(\d+)\. (.*?)(?=^\d+\. |^#|\Z)", text, re.MULTILINE | re.DOTALL):
        tests = re.findall(r"`(tests/[^`]+::[^`]+)`", block)
        found[int(number)] = re.sub(r"\s*`tests/[^`]+`\s*", "", block).strip(), tests
    return found


PROMISES = promises(SEMANTICS.read_text())


def test_promises_are_numbered_one_after_the_other() -> None:
    assert list(PROMISES) == list(range(1, len(PROMISES) + 1))
    assert len(PROMISES) >= 50


@pytest.mark.parametrize("number", PROMISES)
def test_a_promise_is_a_sentence_with_tests_that_exist(number: int) -> None:
    sentence, tests = PROMISES[number]
    assert re.fullmatch(r"[A-Z].*\.", sentence, re.DOTALL), sentence
    assert tests, f"nothing proves promise {number}: {sentence}"
    for test in tests:
        path, _, name = test.partition("::")
        assert (clauses.ROOT / path).is_file(), test
        assert name in clauses.functions(path), test


def test_a_promise_without_a_test_is_found() -> None:
    found = promises("1. One.\n   `tests/a.py::test_a`\n2. Another\n   that goes on.\n\n## More\n\n3. Third.\n")
    assert found == {1: ("One.", ["tests/a.py::test_a"]), 2: ("Another\n   that goes on.", []), 3: ("Third.", [])}


def test_every_clause_of_the_contract_has_a_test() -> None:
    count = sum(len(listed) for listed in clauses.CLAUSES.values())
    assert count == 60
    assert set(clauses.proofs()) == set(range(1, count + 1))
    for tests in clauses.OTHER_PROOFS.values():
        assert all(test.split("::")[1] in clauses.functions(test.split("::")[0]) for test in tests)


def test_what_stands_behind_a_clause_of_a_store_is_a_clause_of_the_contract() -> None:
    found = clauses.of_the_kit()
    assert set(found) <= set(clauses.proofs())
    assert {number for told in found.values() for number in told} <= set(kit.CLAUSES)
    assert found[1] == ["R1", "R2", "R3"]


def test_the_list_of_clauses_in_the_docs_is_as_the_tests_are() -> None:
    assert clauses.PAGE.read_text() == clauses.page(), "python -m tests.clauses writes it anew"
