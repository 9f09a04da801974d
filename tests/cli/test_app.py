"""What holds for every command: errors and usage in one line, exit statuses, Ctrl-C, pipes, a missing extra."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.command import COMMAND, TIMEOUT_S, StuckObjects, in_terminal, run_here, run_process, started

from pagein.testing.httpserver import RangeServer

ESCAPE = "\x1b"


# -- errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["cat", "stat", "read"])
def test_a_source_that_is_not_there_is_named(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = run_here(capsys, command, tmp_path / "absent")
    assert (ended.status, ended.out) == (1, "")
    assert ended.complaint == f"pagein: {tmp_path / 'absent'}: No such file or directory"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nobody://knows/this", "cannot open 'nobody://knows/this': nobody knows the scheme 'nobody'; accepted are"),
        ("http://127.0.0.1:1/x", "http://127.0.0.1:1/x: "),
        (".", ".: is a directory, not a file"),
        ("/dev/null", "/dev/null: is a character device, not a file"),
        ("a\0b", "embedded null byte"),
    ],
)
def test_a_source_that_cannot_be_opened_is_one_line(source: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    ended = run_here(capsys, "stat", source)
    assert (ended.status, ended.out) == (1, "")
    assert ended.complaint.startswith(f"pagein: {said}")


def test_an_answer_of_a_server_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with RangeServer({"secret": b"x"}) as server:
        server.faults.set("secret", "status:403")
        ended = run_here(capsys, "stat", server.url("secret"))
        assert ended.status == 1
        assert "403" in ended.complaint
        ended = run_here(capsys, "stat", server.url("absent"))
        assert ended.complaint == f"pagein: {server.url('absent')}: no such file or object"


def test_pagein_size_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x")
    ended = run_process("stat", tmp_path / "data", PAGEIN_SIZE="much")
    assert ended.status == 1
    assert ended.complaint.startswith("pagein: PAGEIN_SIZE must be a number of bytes")


# -- usage -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["frob"], "No such command 'frob' (see 'pagein --help')"),
        (["--frob"], "No such option '--frob'"),
        (["stat"], "Missing argument 'SOURCE' (see 'pagein stat --help')"),
        (["stat", "a", "b"], "Got unexpected extra argument (b) (see 'pagein stat --help')"),
        (["stat", "--read", "much", "a"], "Invalid value for '--read': it must be a number of bytes"),
        (["read", "--block", "0", "a"], "Invalid value for '--block': it must be at least 1 byte"),
        (["read", "--size", "-1", "a"], "Invalid value for '--size': it must be"),
        (
            ["read", "--cache", "100", "a"],
            "Invalid value for '--cache': a cache must hold at least one page (4096 bytes)",
        ),
        (
            ["plot", "--cache", "0", "a"],
            "Invalid value for '--cache': a cache must hold at least one page (4096 bytes)",
        ),
        (["check", "--patience", "nan", "a:b"], "Invalid value for '--patience': nan is no number of seconds"),
        (["check", "--patience", "inf", "a:b"], "Invalid value for '--patience': inf is not in the range"),
        (["top", "--interval", "nan"], "Invalid value for '--interval': nan is no number of seconds"),
        (["top", "--once", "abc"], "--once looks at processes that run already, and 'abc' is no PID"),
        (["top", "1", "--", "true"], "either PIDs or a COMMAND, and not 1 before one"),
        (["top", "--frob"], "No such option '--frob'"),
        (["read", "--threads", "0", "a"], "Invalid value for '--threads': 0 is not in the range"),
        (["read", "--pattern", "odd", "a"], "Invalid value for '--pattern': 'odd' is not one of"),
        (["demo", "ftp://host/x"], "Invalid value for URL: it must be an http: or https: URL"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = run_here(capsys, *arguments)
    assert (ended.status, ended.out) == (2, "")
    assert ended.complaint.startswith(f"pagein: {said}")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["cat", "--help"], ["read", "--help"], ["demo", "--help"]])
def test_help_is_no_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    ended = run_here(capsys, *arguments)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith("Usage: pagein")


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    ended = run_here(capsys, "--version")
    assert ended.status == 0
    assert re.fullmatch(r"pagein \d+\.\d+\S*\n", ended.out)


# -- without what it needs ---------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["click", "rich"])
def test_without_its_extra_it_says_what_to_install(package: str) -> None:
    program = f"import sys; sys.modules[{package!r}] = None; from pagein.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "pagein: the command needs the extra [cli]: pip install 'pagein[cli]'\n"


def test_a_mistake_in_pagein_s_own_imports_is_not_taken_for_a_missing_extra() -> None:
    program = "import sys; sys.modules['pagein.cache'] = None; from pagein.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr


# -- signals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("answers", [0, 1], ids=["at open", "at a read"])
@pytest.mark.parametrize("command", [["cat"], ["stat", "--read", "1M"], ["read", "--threads", "4"], ["demo"]])
def test_ctrl_c_is_130_at_once_without_a_word(command: list[str], answers: int) -> None:
    """At a read: what comes with the opening, or what is asked for next."""
    objects = StuckObjects({"data": os.urandom(1 << 20)}, answers=answers)
    with RangeServer(objects) as server:
        server.hold("data", after_bytes=(1 << 20) - 1)
        try:
            with started(*command, server.url("data")) as process:
                while not (objects.stuck.wait(0.1) or server.is_held("data")):
                    assert process.poll() is None, process.communicate()
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=TIMEOUT_S)  # while the server is still stuck
            assert (process.returncode, out, err) == (130, b"", b"")
        finally:
            objects.answer_all()


# -- terminals and pipes -----------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["stat"], ["read", "--size", "1M"]])
def test_a_pipe_gets_no_escape_codes_and_long_lines_whole(command: list[str], tmp_path: Path) -> None:
    path = tmp_path / ("long" * 50)
    path.write_bytes(bytes(10_000))
    ended = run_process(*command, path, TERM="xterm-256color", COLUMNS="40")
    assert (ended.status, ended.err) == (0, "")
    assert ESCAPE not in ended.out
    assert f"{path}\n" in ended.out


@pytest.mark.parametrize("term", ["xterm-256color", "dumb"])
def test_a_terminal_gets_colours_if_it_knows_them(term: str, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(100_000))
    out = in_terminal([*COMMAND, "read", "--size", "1M", str(tmp_path / "data")], TERM=term)
    assert "1 MiB, sequential" in out
    assert (ESCAPE in out) is (term != "dumb")


def test_a_table_into_a_pipe_that_nobody_reads_ends_quietly(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(10_000))
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(
            [*COMMAND, "stat", str(tmp_path / "data")],
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT_S,
            check=False,
        )
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, b"")


@pytest.mark.parametrize("command", ["cat {data}", "stat {data}", "read {data}", "sync {data} {copy}", "--version"])
def test_a_stdout_that_was_closed_is_one_line(command: str, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x")
    ended = with_closed(">&-", command, tmp_path)
    assert (ended.returncode, ended.stderr) == (1, b"pagein: standard output: Bad file descriptor\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_who_writes_nothing_there_needs_no_stream(closed: str, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x")
    ended = with_closed(closed, "cp {data} {copy}", tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
    assert (tmp_path / "copy").read_bytes() == b"x"


def with_closed(closed: str, command: str, directory: Path) -> subprocess.CompletedProcess[bytes]:
    words = [word.format(data=directory / "data", copy=directory / "copy") for word in command.split()]
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *COMMAND, *words]
    return subprocess.run(shell, capture_output=True, timeout=TIMEOUT_S, check=False)


def test_a_package_can_be_run() -> None:
    for module in ("pagein", "pagein.cli"):
        ended = subprocess.run([sys.executable, "-m", module], capture_output=True, timeout=TIMEOUT_S, check=False)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.startswith(b"Usage: pagein [OPTIONS]")
