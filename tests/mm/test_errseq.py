"""Errors of write-back, each told once to each who has to hear: item 56 as a table, and against a model."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, strategies as st

from pagein.mm.errseq import ErrSeq, again

FIRST, SECOND = OSError(errno.EIO, "first"), OSError(errno.ENOSPC, "second")


def told(script: str) -> str:
    """Run *script*: "A" opens a file, "a" asks what it is to be told ("1", "2" or "-"); "1" and "2" are errors."""
    errors, since, answers = ErrSeq(), dict[str, int](), ""
    for step in script.replace(" ", ""):
        if step in "12":
            errors.set(FIRST if step == "1" else SECOND)
        elif step.isupper():
            since[step.lower()] = errors.sample()
        else:
            checked = errors.check(since[step])
            error, since[step] = errors.check_and_advance(since[step])
            assert error is checked, "to look at it tells the same, and changes nothing"
            answers += "1" if error is FIRST else "2" if error is SECOND else "-"
    return answers


@pytest.mark.parametrize(
    ("script", "answers"),
    [
        ("A a", "-"),
        ("A 1 a a", "1-"),
        ("A B 1 a a b b", "1-1-"),  # both that were open before hear of it, once
        ("A 1 B b b a a", "1-1-"),  # opened after it, before anybody had heard: once, too
        ("A 1 a B b", "1-"),  # opened after somebody had heard: never
        ("1 A a", "1"),  # nobody was there
        ("1 A a B b", "1-"),
        ("A B 1 a 2 a b", "122"),  # the second failure is told to all; of the two, b hears the last
        ("A B 1 a b 2 a b a b", "1122--"),
        ("A B 1 2 a b a b", "22--"),  # two before anybody asked are one
        ("A 1 1 a a", "1-"),
        ("A 1 a 1 a a", "11-"),  # the same error again is another one
        ("A 1 a B 2 b a b a", "122--"),
        ("A B 1 a C 2 C c b a c b a", "1222---"),
        ("A 1 B 2 b a", "22"),
        ("A 1 a 2 B b C c a", "12-2"),
    ],
)
def test_item_56_who_is_told_what(script, answers):
    assert told(script) == answers


@given(st.lists(st.sampled_from(["open", "fail", *"abc"]), max_size=30))
def test_item_56_in_any_order(steps):
    """Against a model that keeps every failure: of those since he was last told, or since he opened, or that nobody
    had heard of when he did, one that asks is told the last, if there is one."""
    errors = ErrSeq()
    failures: list[OSError] = []
    heard = 0  # so many of them somebody has heard of
    files: dict[str, tuple[int, int]] = {}  # what errseq gave him; how many failures he knows
    for step in steps:
        if step == "open":
            name = "abc"[len(files) % 3]
            files[name] = errors.sample(), heard
        elif step == "fail":
            failures.append(OSError(errno.EIO, str(len(failures))))
            errors.set(failures[-1])
        elif step in files:
            since, known = files[step]
            error, since = errors.check_and_advance(since)
            assert error is (failures[-1] if len(failures) > known else None)
            heard = len(failures) if error is not None else heard
            files[step] = since, len(failures)


def test_the_same_error_for_another_hearer_is_another_object():
    cause = ValueError("why")
    error = OSError(errno.ENOSPC, "full", "name")
    error.__cause__ = cause
    other = again(error)
    assert other is not error
    assert isinstance(other, OSError)
    assert (other.errno, other.strerror, other.filename, other.__cause__) == (errno.ENOSPC, "full", "name", cause)
    assert again(cause) is cause
