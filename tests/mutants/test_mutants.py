"""Each mistake of the list still applies to the core, and its tests are there; a few of them are made and are caught.

All of them: ``make mutants``.
"""

from __future__ import annotations

import ast
from collections import Counter

import pytest
from tests import clauses
from tests.mutants import run
from tests.mutants.mutation import MM, ROOT, Mutation
from tests.mutants.mutations import MUTATIONS
from tests.mutants.run import End, Verdict, verdict_on
from tests.mutants.table import TITLES, Table

CHEAP = [
    "mapping: what was reserved and is not needed is not given back",
    "pin: a sweep forgets the pins that were entered meanwhile",
    "errseq: an error that was told counts as untold",
]
HARMLESS = Mutation("pin", "nothing is wrong", "import gc\n", "import gc as gc\n", ("tests/mm/test_errseq.py",))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_mutation_applies_to_the_core_as_it_is_and_its_tests_are_there(mutation: Mutation) -> None:
    text = (ROOT / mutation.path).read_text()
    mutant = mutation.applied_to(text)
    assert ast.dump(ast.parse(mutant)) != ast.dump(ast.parse(text)), "it changes nothing"
    assert mutation.tests
    for test in mutation.tests:
        path, _, name = test.partition("::")
        assert name.partition("[")[0] in clauses.functions(path), test


def test_the_list_is_long_and_no_mutation_stands_there_twice() -> None:
    assert len(MUTATIONS) >= 180
    assert len({str(mutation) for mutation in MUTATIONS}) == len(MUTATIONS)
    assert len({(mutation.file, mutation.old, mutation.new) for mutation in MUTATIONS}) == len(MUTATIONS)


def test_mutations_are_spread_over_the_core() -> None:
    files = Counter(mutation.file for mutation in MUTATIONS)
    assert set(files) <= {path.stem for path in (ROOT / MM).iterdir()}
    assert len(files) >= 35
    assert set(files) >= {"wbc", "aops", "pipe", "memory", "victims", "fork", "openfile"}
    assert set(files) >= {"held", "debug", "lockorder", "locking"}, "who checks the others"
    assert max(files.values()) <= len(MUTATIONS) // 6


@pytest.mark.parametrize("name", CHEAP)
def test_a_mutant_is_caught(name: str) -> None:
    (mutation,) = [one for one in MUTATIONS if str(one) == name]
    verdict = verdict_on(mutation)
    assert verdict.end is End.CAUGHT, verdict.by
    assert verdict.by.startswith(mutation.tests)


def test_a_mutant_that_lives_is_told_from_one_that_is_caught() -> None:
    assert verdict_on(HARMLESS).end is End.LIVES


def test_a_mutation_that_applies_no_more_is_told() -> None:
    verdict = verdict_on(Mutation("pin", "it was rewritten", "import no_more\n", "", HARMLESS.tests))
    assert verdict.end is End.BROKEN
    assert "src/pagein/mm/pin.py holds 0 times, not once:\nimport no_more" in verdict.by


@pytest.mark.parametrize(("end", "status"), [(End.CAUGHT, 0), (End.LIVES, 1), (End.BROKEN, 1)])
def test_the_command_fails_unless_every_mutant_is_caught(
    end: End, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "verdict_on", lambda mutation: Verdict(end, "tests/x.py::test_x", 1.0))
    assert run.main(["--unproved", "errseq: "]) == status
    *_, total = capsys.readouterr().out.splitlines()
    assert total.startswith("2 mutations in ")
    assert f"2 {end.value}" in total


def test_why_one_could_not_be_tried_stands_below_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "verdict_on", lambda mutation: Verdict(End.BROKEN, "pytest ended with 4:\nso", 1.0))
    run.main(["--unproved", "errseq: an error that was told"])
    assert "\n\nerrseq: an error that was told counts as untold\npytest ended with 4:\nso\n" in capsys.readouterr().out


@pytest.mark.parametrize("width", [100, 160, 400])
def test_the_table_is_no_wider_than_it_may_be_and_holds_every_mutation(width: int) -> None:
    table = Table([one.file for one in MUTATIONS], width)
    head, line = table.head().splitlines()
    assert head.split() == " ".join(TITLES).split()
    assert line.replace("-", "").strip() == ""
    starts = [at for at, sign in enumerate(line) if sign == "-" and (not at or line[at - 1] == " ")]
    columns = [slice(start, stop) for start, stop in zip(starts, [*starts[1:], width], strict=True)]
    for mutation in MUTATIONS:
        lines = table.row(mutation.file, mutation.name, "could not be tried", "12.3", mutation.tests[0]).splitlines()
        assert all(len(line) <= width for line in lines)
        cells = [" ".join(line[column].strip() for line in lines).split() for column in columns]
        assert cells[:1] + cells[2:4] == [[mutation.file], ["could", "not", "be", "tried"], ["12.3"]]
        assert " ".join(cells[1]) == mutation.name
        assert "".join(cells[4]) == mutation.tests[0]
