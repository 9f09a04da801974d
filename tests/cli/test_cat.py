"""`pagein cat`: bytes to standard output, whatever becomes of the sources and of whoever reads the output."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest
from tests.cli.command import COMMAND, TIMEOUT_S, run_process, started
from tests.wire import UNREAD_BYTES_MAX

from pagein.cli.app import run
from pagein.stores.http import HEAD_BYTES
from pagein.testing.httpserver import RangeServer
from pagein.units import PAGE_SIZE

DATA = random.Random(5).randbytes(3_000_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    return path


def test_it_writes_sources_one_after_another_byte_for_byte(
    path: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "short").write_bytes(b"\xff\0\r\n")
    assert run(["cat", str(path), str(tmp_path / "empty"), str(tmp_path / "short"), path.as_uri()]) == 0
    assert capsysbinary.readouterr().out == DATA + b"\xff\0\r\n" + DATA


def test_a_url_without_what_its_filesystem_needs_is_one_line_and_passed_over(
    path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    pytest.importorskip("requests")  # which this one imports
    assert run(["cat", str(path), "github://x", str(path)]) == 1
    out, err = capfdbinary.readouterr()
    assert out == DATA * 2
    assert err.startswith(b"pagein: cannot open 'github://x': ")
    assert err.count(b"\n") == 1


def test_it_reads_a_url_once(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    with RangeServer({"data": DATA}) as server:
        assert run(["cat", server.url("data")]) == 0
        assert capsysbinary.readouterr().out == DATA
        assert server.stats().sent_bytes == len(DATA)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--offset", "1M"], DATA[1 << 20 :]),
        (["--size", "5"], DATA[:5]),
        (["--offset", "100", "--size", "2.5M"], DATA[100 : 100 + (5 << 19)]),
        (["--offset", "2.5M", "--size", "1M"], DATA[5 << 19 :]),
        (["--offset", "4M"], b""),
        (["--size", "0"], b""),
    ],
)
def test_a_range_is_written_of_each_source(
    options: list[str], part: bytes, path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert run(["cat", *options, str(path), str(path)]) == 0
    assert capsysbinary.readouterr().out == part * 2


def test_of_a_url_no_more_is_fetched_than_its_head_and_the_range(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    with RangeServer({"data": DATA}) as server:
        assert run(["cat", "--offset", "2M", "--size", "100000", server.url("data")]) == 0
        assert capsysbinary.readouterr().out == DATA[2 << 20 :][:100_000]
        assert server.stats().sent_bytes <= HEAD_BYTES + UNREAD_BYTES_MAX + 100_000 + 2 * PAGE_SIZE


def test_a_source_that_cannot_be_read_is_named_and_passed_over(
    path: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    absent = tmp_path / "absent"
    assert run(["cat", str(absent), str(path), str(tmp_path)]) == 1
    captured = capsysbinary.readouterr()
    assert captured.out == DATA
    assert captured.err.decode().splitlines() == [
        f"pagein: {absent}: No such file or directory",
        f"pagein: {tmp_path}: is a directory, not a file",
    ]


def test_a_source_that_breaks_off_is_an_error_not_a_short_copy(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    with RangeServer({"data": DATA}) as server:
        server.faults.set("data", "status:404", method="GET")
        assert run(["cat", server.url("data")]) == 1
        captured = capsysbinary.readouterr()
        assert captured.err.decode().startswith(f"pagein: {server.url('data')}: ")
        assert captured.err.count(b"\n") == 1


def test_it_ends_quietly_when_nobody_reads_on(path: Path) -> None:
    with started("cat", *[path] * 100) as process:
        assert process.stdout is not None
        assert process.stdout.read(10) == DATA[:10]
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(TIMEOUT_S) == 141  # as of a filter that SIGPIPE has ended


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full (Linux)")
def test_an_output_that_is_full_is_an_error_of_the_output(path: Path) -> None:
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            [*COMMAND, "cat", str(path), str(path)], stdout=full, stderr=subprocess.PIPE, timeout=TIMEOUT_S, check=False
        )
    assert (ended.returncode, ended.stderr) == (1, b"pagein: No space left on device\n")


def test_it_wants_a_source() -> None:
    ended = run_process("cat")
    assert (ended.status, ended.out) == (2, "")
    assert ended.complaint == "pagein: Missing argument 'SOURCE...' (see 'pagein cat --help')"
