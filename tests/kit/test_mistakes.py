"""Each mistake in storage is found by `check`, and told under the clause that it breaks, and under no other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from tests.kit import opening_mistakes, reading_mistakes, source_mistakes, writing_mistakes

from pagein.testing.contract import CLAUSES, Subject, check

PATIENCE_S = 1.5
"""For mistakes that keep the check waiting: those that break one of..."""
WAITING = {"R4", "A2", "D4", "W3"}


def those_of(module: Any) -> list[Any]:
    return [one for one in vars(module).values() if hasattr(one, "breaks") and one.__module__ == module.__name__]


READING = those_of(reading_mistakes)
WRITING = those_of(writing_mistakes)
SOURCES = [*those_of(source_mistakes), *those_of(opening_mistakes)]


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """What these stores leave behind is their mistake."""


@pytest.fixture(autouse=True, scope="module")
def what_waits_ends() -> Iterator[None]:
    yield
    reading_mistakes.NEVER.set()
    for fd in source_mistakes.LEFT:
        os.close(fd)
    source_mistakes.LEFT.clear()


def require_broken(subject: Subject, number: str) -> None:
    report = check(subject, patience_s=PATIENCE_S) if number in WAITING else check(subject)
    assert report.broken == ([number] if number else []), report.text()
    if number:
        finding = report.of(number)
        assert finding.breaches
        assert all(breach.seen and breach.where for breach in finding.breaches)


@pytest.mark.parametrize("mistake", READING)
def test_a_mistake_in_reading_is_named(mistake: Any) -> None:
    is_known = mistake is not reading_mistakes.OtherBytesEachTime
    content = reading_mistakes.CONTENT if is_known else None
    require_broken(Subject(mistake, content=content), mistake.breaks)


@pytest.mark.parametrize("mistake", WRITING)
def test_a_mistake_in_writing_is_named(mistake: Any) -> None:
    require_broken(Subject(mistake, failing=getattr(mistake, "failing", None)), mistake.breaks)


@pytest.mark.parametrize("mistake", SOURCES)
def test_a_mistake_of_a_source_is_named(mistake: Any) -> None:
    place = mistake()
    subject = Subject(
        (place, "a"), content=reading_mistakes.CONTENT, writes=True, change=place.change, failing=place.failing
    )
    require_broken(subject, mistake.breaks)


def test_there_are_many_and_of_most_clauses() -> None:
    broken = {mistake.breaks for mistake in (*READING, *WRITING, *SOURCES)} - {""}
    assert len(READING) + len(WRITING) + len(SOURCES) >= 60
    assert broken <= set(CLAUSES)
    assert set(CLAUSES) - broken <= {"E3", "L1", "T1", "X1"}
