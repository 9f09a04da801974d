"""What a check has found: as text for people, as JSON for programs, as JUnit XML for CI.

Guarantees: each clause is in each of them, with what was expected, what was seen and where, what puts it right, a
link to the documentation, and the command that prints it where that is not.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from .clauses import Clause
from .record import Breach

Verdict = Literal["passed", "failed", "advice", "skipped"]


class Finding(NamedTuple):
    """What became of a clause."""

    clause: Clause
    verdict: Verdict
    breaches: tuple[Breach, ...] = ()
    reason: str = ""
    """Why it was not checked."""

    def text(self) -> str:
        """For people, in several lines."""
        clause = self.clause
        lines = [f"{clause.number}: {clause.expected}"]
        lines += [f"  seen:     {breach.where}: {_indented(breach.seen)}" for breach in self.breaches]
        if self.breaches:
            lines += [f"  fix:      {clause.fix}", f"  see:      {clause.link}, or: {clause.command}"]
        return _printable("\n".join(lines))


class Report(NamedTuple):
    """What became of all clauses."""

    subject: str
    findings: tuple[Finding, ...]
    duration_s: float
    gave_up: bool = False
    """Whether the store was waited for in vain: threads of its may never end."""

    @property
    def passed(self) -> bool:
        """Whether no clause was broken."""
        return not self.broken

    @property
    def broken(self) -> list[str]:
        """The numbers of the clauses that were broken."""
        return [finding.clause.number for finding in self.findings if finding.verdict == "failed"]

    def count(self, verdict: Verdict) -> int:
        """How many clauses have that verdict."""
        return sum(finding.verdict == verdict for finding in self.findings)

    def of(self, number: str) -> Finding:
        """What became of the clause with that number.  Raises: KeyError."""
        for finding in self.findings:
            if finding.clause.number == number:
                return finding
        raise KeyError(number)

    def text(self) -> str:
        """For people: what was broken first, then advice, then what was not checked, and why."""
        parts = [f"pagein check {self.subject}"]
        for verdict, heading in (("failed", "BROKEN"), ("advice", "advice")):
            parts += [f"{heading} {finding.text()}" for finding in self.findings if finding.verdict == verdict]
        by_reason: dict[str, list[str]] = {}
        for finding in self.findings:
            if finding.verdict == "skipped":
                by_reason.setdefault(finding.reason, []).append(finding.clause.number)
        skipped = [f"  {' '.join(numbers)}: {reason}" for reason, numbers in by_reason.items()]
        if skipped:
            parts.append("\n".join(["not checked", *skipped]))
        kept, broken, skipped_count = self.count("passed"), self.count("failed"), self.count("skipped")
        counts = f"{kept} kept, {broken} broken, {skipped_count} not checked"
        parts.append(f"{'passed' if self.passed else 'FAILED'}: {counts}, in {self.duration_s:.1f} s")
        return _printable("\n\n".join(parts))

    def document(self) -> dict[str, Any]:
        """For programs: what JSON holds."""
        return {
            "subject": self.subject,
            "passed": self.passed,
            "duration_s": round(self.duration_s, 3),
            "clauses": [
                {
                    "number": finding.clause.number,
                    "verdict": finding.verdict,
                    "expected": finding.clause.expected,
                    "seen": [{"where": breach.where, "what": breach.seen} for breach in finding.breaches],
                    "fix": finding.clause.fix,
                    "link": finding.clause.link,
                    "command": finding.clause.command,
                    "reason": finding.reason,
                }
                for finding in self.findings
            ],
        }

    def json(self) -> str:
        """`document`, as text."""
        import json

        return json.dumps(self.document(), indent=2)

    def junit(self) -> str:
        """JUnit XML: a test case for each clause."""
        from xml.etree import ElementTree as Tree

        suite = Tree.Element(
            "testsuite",
            name=_printable(f"pagein check {self.subject}"),
            tests=str(len(self.findings)),
            failures=str(self.count("failed")),
            errors="0",
            skipped=str(self.count("skipped")),
            time=f"{self.duration_s:.3f}",
        )
        for finding in self.findings:
            name = f"{finding.clause.number}: {finding.clause.expected}"
            classname = _printable(f"pagein.{self.subject}")
            case = Tree.SubElement(suite, "testcase", classname=classname, name=name, time="0")
            if finding.verdict == "failed":
                first = finding.breaches[0]
                message = _printable(f"{first.where}: {first.seen}")
                Tree.SubElement(case, "failure", message=message).text = finding.text()
            elif finding.verdict == "skipped":
                Tree.SubElement(case, "skipped", message=_printable(finding.reason))
            elif finding.verdict == "advice":
                Tree.SubElement(case, "system-out").text = finding.text()
        root = Tree.Element("testsuites")
        root.append(suite)
        Tree.indent(root)
        return f'<?xml version="1.0" encoding="utf-8"?>\n{Tree.tostring(root, encoding="unicode")}\n'


def _indented(text: str) -> str:
    return text.rstrip().replace("\n", "\n            ")


def _printable(text: str) -> str:
    """Without characters that XML 1.0 has no place for: control characters, and halves of surrogate pairs, which a file
    name has where it is no UTF-8, and which no file takes."""
    return "".join(one if one in "\t\n" or (one >= " " and not _is_none(one)) else "�" for one in text)


def _is_none(one: str) -> bool:
    return "\ud800" <= one <= "\udfff" or one in "\ufffe\uffff"
