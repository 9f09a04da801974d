"""`pagein check`: what is named, what is written, and the exit status."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from pathlib import Path
from xml.etree import ElementTree as Tree

import pytest
from tests.cli.command import Ended, run_here, run_process

import pagein

STORES = """
from pagein import AOP_UPDATED_PAGE, AddressSpaceOperations, RangeOperations
from pagein.stores import MemoryStore
from pagein.testing import ContractSuite
from pagein.testing.contract import Subject

CONTENT = bytes(range(251)) * 90


class Right(RangeOperations):
    blocking = False

    def fill(self, buffer, offset_bytes):
        data = CONTENT[offset_bytes : offset_bytes + len(buffer)]
        if len(data) < len(buffer):
            raise OSError(5, "too short")
        buffer[:] = data


class Wrong(Right):
    size_bytes = len(CONTENT)

    def fill(self, buffer, offset_bytes):
        super().fill(buffer[:-1], offset_bytes)


class Stuck(AddressSpaceOperations):
    size_bytes = 10_000
    blocking = False

    def readpage(self, file, page):
        return 0


def failing():
    raise KeyError("no configuration")


def exits():
    raise SystemExit(0)


class Shut:
    key, name = "shut", "shut"

    def open(self):
        raise PermissionError(13, "not for you", "shut")


shut = Shut()
store = MemoryStore({"a": CONTENT})
pair = (store, "a")
no_server, no_file, no_key = "http://127.0.0.1:1/absent", "/no/such/file", (store, "absent")
subject = Subject(lambda: (MemoryStore({"a": CONTENT}), "a"), writes=True)


class Touched(Right):
    size_bytes = len(CONTENT)

    def fill(self, buffer, offset_bytes):
        open("touched", "w").close()
        super().fill(buffer, offset_bytes)


class TestPair(ContractSuite):
    def subject(self):
        return Subject(pair)
"""


LAZY = """
from pagein import RangeOperations


class Lazy(RangeOperations):
    size_bytes = 22590

    def fill(self, buffer, offset_bytes):
        import {codec}

        buffer[:] = {codec}.decode(len(buffer))
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A module of its own for each test, in the working directory."""
    name = f"checked_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(STORES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one])  # what the command adds goes with the test
    return name


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str], module: str):
    def run(name: str, *options: object) -> Ended:
        return run_here(capsys, "check", f"{module}:{name}", *options)

    return run


def test_what_keeps_the_contract_is_0(check) -> None:
    ended = check("Right", "--size", "22590")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines()[-1].startswith("passed: ")


def test_what_breaks_it_is_1_and_the_clause_is_named(check) -> None:
    ended = check("Wrong")
    assert (ended.status, ended.err) == (1, "")
    assert "BROKEN R9: " in ended.out


def test_what_fails_to_make_it_is_one_line_and_2(check, module: str) -> None:
    ended = check("failing")
    assert ended.status == 2
    assert ended.complaint.startswith(f"pagein: cannot check {module}:failing: 'no configuration'")


def test_a_module_that_fails_is_one_line_and_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "checked_fails.py").write_text("1 / 0\n")
    ended = run_here(capsys, "check", "checked_fails:Ops")
    assert ended.status == 2
    assert "cannot import checked_fails: ZeroDivisionError: division by zero at " in ended.complaint
    assert "checked_fails.py:1" in ended.complaint


def test_a_module_that_ends_python_is_2_and_not_a_pass(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """As a script does that does not ask whether it is the main one."""
    (tmp_path / "checked_exits.py").write_text("import sys\nsys.exit(0)\n")
    ended = run_here(capsys, "check", "checked_exits:Ops")
    assert (ended.status, ended.out) == (2, "")
    assert "cannot import checked_exits: SystemExit: 0 at " in ended.complaint


def test_what_ends_python_when_it_is_made_is_2_and_not_a_pass(check, module: str) -> None:
    ended = check("exits")
    assert (ended.status, ended.out) == (2, "")
    assert f"cannot check {module}:exits: SystemExit: 0 at " in ended.complaint


def test_a_sigterm_while_the_module_is_imported_ends_the_command_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "checked_killed.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n")
    ended = run_process("check", "checked_killed:Ops")
    assert (ended.status, ended.out, ended.err) == (128 + signal.SIGTERM, "", "")


def test_operations_may_import_what_is_in_the_working_directory_when_they_are_called(
    tmp_path: Path, module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the console script runs it: Python's own path does not have that directory."""
    (tmp_path / f"codec_of_{module}.py").write_text("def decode(size): return bytes(size)\n")
    (tmp_path / f"lazy_{module}.py").write_text(LAZY.format(codec=f"codec_of_{module}"))
    ended = run_here(capsys, "check", f"lazy_{module}:Lazy")
    assert ended.status == 0, ended.out


def test_json(check) -> None:
    document = json.loads(check("Wrong", "--format", "json").out)
    assert [one["number"] for one in document["clauses"] if one["verdict"] == "failed"] == ["R9"]


def test_junit_into_a_file(check, tmp_path: Path) -> None:
    ended = check("Wrong", "--format", "junit", "-o", tmp_path / "report.xml")
    assert (ended.status, ended.out) == (1, "")
    suite = Tree.parse(tmp_path / "report.xml").getroot().find("testsuite")
    assert suite is not None
    assert suite.get("failures") == "1"


@pytest.mark.parametrize("output", ["nowhere/report.xml", "shut"])
def test_a_report_that_cannot_be_written_is_told_before_the_check(check, tmp_path: Path, output: str) -> None:
    (tmp_path / "shut").symlink_to("nowhere/report.xml")
    ended = check("Touched", "-o", output)
    assert (ended.status, ended.out) == (2, "")
    assert ended.complaint.startswith(f"pagein: cannot write {output}: No such file or directory")
    assert not (tmp_path / "touched").exists()


def test_a_report_goes_into_a_pipe_too(check, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_text()), daemon=True)
    reader.start()
    assert check("Touched", "-o", tmp_path / "pipe").status == 0
    reader.join()
    assert "passed: " in got[0]


def test_a_report_replaces_a_longer_one(check, tmp_path: Path) -> None:
    (tmp_path / "report").write_text("x" * 100_000)
    assert check("Touched", "-o", tmp_path / "report").status == 0
    assert (tmp_path / "report").read_text().startswith("pagein check ")


def test_an_empty_file_is_2_and_not_a_pass(check, module: str) -> None:
    ended = check("Right", "--size", "0", "--format", "junit")
    assert (ended.status, ended.out) == (2, "")
    assert ended.complaint.startswith(f"pagein: cannot check {module}:Right: the file is empty, and ")
    assert "give one of 3 pages or more" in ended.complaint


def test_a_content_to_compare_with(check, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"x" * 22590)
    ended = check("Right", "--content", tmp_path / "other")
    assert ended.status == 1
    assert "BROKEN R10: " in ended.out


def test_a_clause_is_explained_without_a_store(capsys: pytest.CaptureFixture[str]) -> None:
    ended = run_here(capsys, "check", "--explain", "r9")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith("R9: every byte of the page is written before it is Uptodate\n")
    assert "The checker fills the page with something else before the call, twice" in ended.out


def test_a_clause_that_there_is_not_is_2_and_says_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    ended = run_here(capsys, "check", "--explain", "R99")
    assert (ended.status, ended.out) == (2, "")
    assert "no clause R99: accepted are O1, O2, " in ended.complaint


def test_who_has_only_installed_it_is_led_to_a_clause(tmp_path: Path, module: str) -> None:
    """A copy of what a wheel holds, away from the documentation."""
    place = tmp_path / "site-packages"
    shutil.copytree(Path(pagein.__file__).parent, place / "pagein", ignore=shutil.ignore_patterns("__pycache__"))
    ended = run_process("check", f"{module}:Wrong", PYTHONPATH=str(place))
    assert ended.status == 1
    led = next(line for line in ended.out.splitlines() if line.startswith("  see: "))
    command = led.partition(" or: pagein ")[2].split()
    explained = run_process(*command, PYTHONPATH=str(place))
    assert (explained.status, explained.err) == (0, "")
    assert explained.out.startswith("R9: every byte of the page is written")


@pytest.mark.parametrize("name", ["pair", "subject", "TestPair"])
def test_what_can_be_named(check, name: str) -> None:
    ended = check(name)
    assert ended.status == 0, ended.out
    assert ("W2" not in ended.out.split()) == (name == "subject")  # else it is not checked


def test_a_source_is_overwritten_only_if_that_is_said(check) -> None:
    assert "is overwritten only if you say so" in check("pair").out
    assert "is overwritten only if you say so" not in check("pair", "--write").out


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("nothing", "is no MODULE:NAME"),
        ("nothing_there:Ops", "cannot import nothing_there"),
        ("json:Nothing", "cannot find Nothing in json"),
        ("json:dumps", "cannot check json:dumps"),
        (
            "pagein.testing:ContractSuite",
            "cannot check pagein.testing:ContractSuite: ContractSuite must define subject()",
        ),
        ("math:pi", "cannot check math:pi"),
    ],
)
def test_wrong_usage_is_2(capsys: pytest.CaptureFixture[str], target: str, complaint: str) -> None:
    ended = run_here(capsys, "check", target)
    assert (ended.status, ended.out) == (2, "")
    assert complaint in ended.complaint


def test_a_store_that_never_ends_a_read_does_not_hang_the_command(module: str) -> None:
    ended = run_process("check", f"{module}:Stuck", "--patience", "0.5")
    assert (ended.status, ended.err) == (1, "")
    assert "BROKEN R4: " in ended.out


@pytest.mark.parametrize("name", ["no_server", "no_file", "no_key"])
def test_what_is_not_there_could_not_be_checked(name: str, check, module: str) -> None:
    ended = check(name)
    assert (ended.status, ended.out) == (2, "")
    assert ended.complaint.startswith(f"pagein: cannot check {module}:{name}: ")


def test_an_open_of_one_s_own_that_fails_breaks_a_clause(check) -> None:
    ended = check("shut")
    assert (ended.status, ended.err) == (1, "")
    assert "BROKEN O1: " in ended.out


@pytest.mark.parametrize("path", ["{}.py", "./{}.py", "{here}/{}.py"])
def test_who_names_a_file_is_told_its_module(
    path: str, module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = run_here(capsys, "check", f"{path.format(module, here=tmp_path)}:Wrong")
    assert (ended.status, ended.out) == (2, "")
    assert f"is a file: name its module, as in 'pagein check {module}:Wrong'" in ended.complaint
    assert run_here(capsys, "check", f"{module}:Wrong").status == 1


def test_who_names_a_file_of_another_directory_is_sent_there(
    module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    ended = run_here(capsys, "check", f"../{module}.py:Wrong")
    assert (ended.status, "go to its directory" in ended.complaint) == (2, True)


def test_who_does_not_say_how_long_the_file_is_is_told_the_option(check) -> None:
    assert "Give a size (--size, " in check("Right").complaint


def test_the_size_on_the_command_line_is_the_size(check) -> None:
    assert "the file is empty" in check("Touched", "--size", "0").complaint, "though it has a size_bytes"
