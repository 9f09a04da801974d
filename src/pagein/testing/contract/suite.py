"""`ContractSuite`: the clauses of the contract as tests of pytest, for the storage of whoever inherits it.

    class TestMyStore(ContractSuite):
        def subject(self):
            return Subject(MyOperations, size_bytes=100_000)

Guarantees: a test for each clause, by its number; what does not apply is skipped, with the reason; advice is a warning.
Assumes: pytest.  All clauses are checked at once, when the first of the tests runs; each process does it anew.
Not here: what is checked (runner.py).
"""

from __future__ import annotations

import warnings
from typing import ClassVar

import pytest

from .clauses import CLAUSES
from .report import Report
from .runner import PATIENCE_S, check
from .subject import Subject


class ContractAdvice(UserWarning):
    """A clause that is an advice was not kept."""


class ContractSuite:
    """Inherit it, and say what is checked by `subject`."""

    patience_s: ClassVar[float] = PATIENCE_S
    """How long the store may owe something without doing anything."""

    _report: ClassVar[Report]

    def subject(self) -> Subject:
        """What is checked."""
        raise NotImplementedError(f"{type(self).__name__} must define subject()")

    def contract_report(self) -> Report:
        """What `pagein.testing.contract.check` found."""
        kind = type(self)
        if "_report" not in kind.__dict__:  # each class has its own
            kind._report = check(Subject.of(self.subject()), patience_s=self.patience_s)
        return kind._report

    @pytest.mark.parametrize("number", list(CLAUSES))
    def test_clause(self, number: str) -> None:
        """The store keeps the clause with that number."""
        finding = self.contract_report().of(number)
        if finding.verdict == "failed":
            pytest.fail(finding.text(), pytrace=False)
        if finding.verdict == "skipped":
            pytest.skip(finding.reason)
        if finding.verdict == "advice":
            _advise(finding.text())


def _advise(text: str) -> None:
    """In pytest's summary of warnings; also where warnings are errors, for nothing is broken."""
    try:
        warnings.warn(text, ContractAdvice, stacklevel=2)
    except ContractAdvice:
        with warnings.catch_warnings():
            warnings.simplefilter("always", ContractAdvice)
            warnings.warn(text, ContractAdvice, stacklevel=2)
