"""The clauses of a store: docs/reference/store-clauses.md, by ``python -m tests.store_clauses``."""

from __future__ import annotations

import textwrap

from tests.clauses import ROOT

from pagein.testing.contract import CLAUSES, Clause
from pagein.testing.contract.clauses import DOCS
from pagein.testing.contract.explained import LINUX, NOTES, SECTIONS

PAGE = ROOT / DOCS
WIDTH = 125
INTRODUCTION = """
What storage promises to the cache, one by one. `pagein check` and `pagein.testing.ContractSuite` hold a store against
them ([how](../how-to/check-your-store.md)), and name what is broken by its number; `pagein check --explain R9` prints
what stands here of one. What the operations are called with, and what they may do, is in [the contract](contract.md).
Behind many stands a clause of Linux's: how the core keeps its own part of that is in [their list](clauses.md). (This
page is written by `python -m tests.store_clauses`.)
"""


def section(clause: Clause) -> list[str]:
    """The lines of one clause."""
    number = clause.number
    advice = " (Advice.)" if clause.is_advice else ""
    lines = [f"### {number}", "", f"**{clause.expected}.**{advice}", *_wrapped(clause.fix)]
    if number in NOTES:
        lines += _wrapped(NOTES[number])
    if number in LINUX:
        lines.append(f"(Linux: clause {LINUX[number]}.)")
    return lines


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text.strip(), WIDTH, break_long_words=False, break_on_hyphens=False)


def page() -> str:
    """docs/reference/store-clauses.md."""
    lines = ["# The clauses of a store", "", *_wrapped(INTRODUCTION)]
    for clause in CLAUSES.values():
        if clause.number in SECTIONS:
            lines += ["", f"## {SECTIONS[clause.number]}"]
        lines += ["", *section(clause)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
