"""The contract as a tool: `check` runs storage through every clause that applies to it, and names what it breaks.

    report = check(Subject(MyOperations, size_bytes=100_000))
    print(report.text())

Not here: the pytest class (suite.py), the command ``pagein check`` (cli/check.py), the clauses in prose
(docs/reference/store-clauses.md).
"""

from .clauses import CLAUSES as CLAUSES, Clause as Clause
from .explained import explain as explain
from .report import Finding as Finding, Report as Report
from .runner import check as check
from .subject import Subject as Subject
