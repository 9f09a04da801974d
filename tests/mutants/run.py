"""Mutation proof: each mistake of of_*.py is made in a copy of the sources, and some test has to catch it.

    python -m tests.mutants.run [WORD...]    those only whose file or name holds one of the words

Guarantees: nothing in the project's own tree is changed; the tests that are named pass without a mutation, or the table
is not begun.  A hang is caught, too.  Exit status: 0 if all are caught; 1 if one lives, or could not be tried.
Not here: how the table looks (table.py).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tests.mutants.mutation import ROOT, Mutation
from tests.mutants.mutations import MUTATIONS
from tests.mutants.table import Table, terminal_width

TEST_TIMEOUT_S = 30
"""A test that takes so long hangs."""
RUN_TIMEOUT_S = 180
"""And an interpreter that does not end."""

TESTS_FAILED = 1
"""Exit status of pytest; of the others but 0 nothing follows: nothing was collected, say."""
_FAILURE = re.compile(r"^(?:FAILED|ERROR) (tests/.+?)(?: - |$)", re.MULTILINE)


class End(Enum):
    """What became of a mutation."""

    CAUGHT = "caught"
    LIVES = "lives"
    BROKEN = "could not be tried"


@dataclass(frozen=True)
class Verdict:
    """*by*: the test that caught it, or why it could not be tried."""

    end: End
    by: str
    took_s: float


@contextmanager
def sources(mutation: Mutation | None) -> Iterator[Path]:
    """A copy of the sources with this mutation, gone at the end.  Raises: ValueError if it does not apply any more."""
    with tempfile.TemporaryDirectory(prefix="pagein-mutant-") as directory:
        source = Path(directory, "src")
        shutil.copytree(ROOT / "src", source)
        if mutation is not None:
            path = Path(directory, mutation.path)
            path.write_text(mutation.applied_to(path.read_text()))
        yield source


def run_tests(source: Path, tests: Iterable[str], *options: str) -> tuple[str, int]:
    """Run tests on such a copy: what pytest printed; and its exit status, below 0 if it did not end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PAGEIN_"))}
    # What is compiled is not kept: two mutations of one file may have one size, and one time.
    environment |= {"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "--tb=short", "-p", "no:cacheprovider"]
    process = subprocess.Popen(
        [*command, f"--timeout={TEST_TIMEOUT_S}", *options, *tests],
        cwd=ROOT, env=environment, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    hangs = threading.Timer(RUN_TIMEOUT_S, os.killpg, (process.pid, signal.SIGKILL))
    hangs.start()
    printed: list[str] = []
    try:
        for line in process.stdout:
            printed.append(line)
            if _FAILURE.match(line):
                break  # what failed may have left a thread behind, which keeps the interpreter from its end
        else:
            return "".join(printed), process.wait()
    finally:
        hangs.cancel()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    return "".join(printed), TESTS_FAILED


def verdict_on(mutation: Mutation) -> Verdict:
    """Make this mistake, and see who notices."""
    began_s = time.monotonic()
    try:
        with sources(mutation) as source:
            printed, status = run_tests(source, mutation.tests)
    except ValueError as error:
        return Verdict(End.BROKEN, str(error), 0.0)
    took_s = time.monotonic() - began_s
    if status == 0:
        return Verdict(End.LIVES, "-", took_s)
    if status < 0:
        return Verdict(End.CAUGHT, f"{' '.join(mutation.tests)} (hangs, or crashes)", took_s)
    failed = _FAILURE.search(printed)
    if failed is None or "::" not in failed[1]:
        return Verdict(End.BROKEN, f"pytest ended with {status}:\n{printed}", took_s)
    return Verdict(End.CAUGHT, failed[1], took_s)


def tests_fail_without(mutations: Iterable[Mutation], jobs: int) -> str:
    """What pytest says if a test that is named fails as it is, or is not there; else nothing."""
    tests = dict.fromkeys(test for mutation in mutations for test in mutation.tests)
    with sources(None) as source:
        printed, status = run_tests(source, tests, f"-n{jobs}", "--dist=worksteal")
    return "" if status == 0 else printed


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants.run", description="Mistakes that tests must catch.")
    parser.add_argument("words", nargs="*", metavar="WORD", help="only those whose file or name holds one of the words")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at once (default: %(default)s)")
    parser.add_argument("--unproved", action="store_true", help="do not see first that the tests pass as it is")
    options = parser.parse_args(arguments)
    chosen = [one for one in MUTATIONS if not options.words or any(word in str(one) for word in options.words)]
    if not chosen:
        parser.error(f"no mutation's file or name holds {' or '.join(options.words)}")
    if not options.unproved and (printed := tests_fail_without(chosen, options.jobs)):
        print(printed, "the tests do not pass without a mutation", sep="\n")
        return 1
    began_s = time.monotonic()
    table = Table([one.file for one in chosen], terminal_width())
    print(table.head())
    with ThreadPoolExecutor(options.jobs) as pool:
        verdicts = []
        for mutation, verdict in zip(chosen, pool.map(verdict_on, chosen), strict=True):
            by = "-" if verdict.end is End.BROKEN else verdict.by
            print(table.row(mutation.file, mutation.name, verdict.end.value, f"{verdict.took_s:.1f}", by), flush=True)
            verdicts.append(verdict)
    for mutation, verdict in zip(chosen, verdicts, strict=True):
        if verdict.end is End.BROKEN:
            print(f"\n{mutation}\n{verdict.by}")
    ends = [sum(verdict.end is end for verdict in verdicts) for end in End]
    counts = ", ".join(f"{count} {end.value}" for count, end in zip(ends, End, strict=True))
    print(f"\n{len(chosen)} mutations in {time.monotonic() - began_s:.0f} s: {counts}")
    return int(ends[0] != len(chosen))


if __name__ == "__main__":
    sys.exit(main())
