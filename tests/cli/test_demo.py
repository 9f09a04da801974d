"""`pagein demo` from its beginning to its end: what it prints, its exit status, and that nothing of it is left."""

from __future__ import annotations

import io
import os
import pty
import random
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.command import COMMAND, TIMEOUT_S, Ended, run_here, run_process

from pagein.cli.demo import ARCHIVE_NAME
from pagein.cli.demo.archive import pack_library
from pagein.cli.demo.reference import Reference
from pagein.testing.httpserver import RangeServer

MEMBERS = {f"dir/{number}": random.Random(number).randbytes(number * 1000) for number in range(30)}


def tar_of(members: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return made.getvalue()


TAR = tar_of(MEMBERS)


def rows_of(ended: Ended) -> dict[str, list[str]]:
    """The table: a contender's name -> its columns."""
    _, _, table = ended.out.partition("wrong members")
    table, _, _ = table.partition("\n\n")
    rows = [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()[2:]]
    return {name: cells for name, *cells in rows}


# -- the standard library ----------------------------------------------------------------------------


def test_by_default_the_standard_library_is_read_and_every_byte_is_right() -> None:
    ended = run_process("demo", "--files", "12", http_proxy="http://127.0.0.1:1")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith("4 threads, each reading all of 12 files of Python's standard library (of ")
    assert "chosen with seed 0" in ended.out.splitlines()[0]
    rows = rows_of(ended)
    assert set(rows) >= {"pagein", "plain range reads"}
    assert all(row[-1] == "0" for row in rows.values())
    requests = {name: int(row[1].replace(",", "")) for name, row in rows.items()}
    assert requests["pagein"] < requests["plain range reads"] / 5
    downloaded = {name: float(row[2].replace(",", "")) for name, row in rows.items()}
    assert downloaded["pagein"] <= downloaded["plain range reads"] / 2
    assert ended.out.splitlines()[-1].startswith("Every byte was right: through pagein, 4 threads read ")


@pytest.mark.parametrize(("kind", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_when_it_is_interrupted_its_files_and_its_server_go_too(kind: signal.Signals, status: int) -> None:
    ours, theirs = pty.openpty()  # its progress says when it is in the middle of it
    process = subprocess.Popen([*COMMAND, "demo"], stdout=subprocess.DEVNULL, stderr=theirs, env=os.environ)
    os.close(theirs)
    written = b""
    with open(ours, "rb", buffering=0) as terminal:
        for piece in pieces_of(terminal):
            written += piece
            if b"plain range reads" in written and process.poll() is None:
                break
        assert list(Path(os.environ["TMPDIR"]).glob(f"*/{ARCHIVE_NAME}"))
        servers = children_of(process.pid)
        assert servers
        process.send_signal(kind)
        for _ in pieces_of(terminal):
            pass
    assert process.wait(TIMEOUT_S) == status
    for server in servers:
        with pytest.raises(ProcessLookupError):
            os.kill(server, 0)
    assert b"Traceback" not in written


def pieces_of(terminal: io.FileIO) -> Iterator[bytes]:
    while True:
        try:
            yield terminal.read(4096)
        except OSError:  # EIO: nobody has the other end any more
            return


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task")
    return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]


# -- a URL -------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of this test alone, and empty again when the command has ended."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield
    assert not list((tmp_path / "temporary").iterdir())


def test_a_tar_is_downloaded_once_and_walked_by_all(capsys: pytest.CaptureFixture[str]) -> None:
    with RangeServer({"a.tar": TAR}) as server:
        ended = run_here(capsys, "demo", server.url("a.tar"))
        assert (ended.status, ended.err) == (0, "")
        assert ended.out.startswith(f"4 threads, each reading all of 30 files in the tar at {server.url('a.tar')}: ")
        assert all(row[-1] == "0" for row in rows_of(ended).values())
        whole = [record for record in server.stats().log if record.method == "GET" and record.range_start is None]
        assert [record.sent_bytes for record in whole] == [len(TAR)]


def test_what_is_no_tar_is_read_whole(capsys: pytest.CaptureFixture[str]) -> None:
    data = random.Random(1).randbytes(3_000_000)
    with RangeServer({"data": data}) as server:
        ended = run_here(capsys, "demo", "--threads", "3", server.url("data"))
        assert (ended.status, ended.err) == (0, "")
        assert ended.out.startswith(f"3 threads, each reading all of {server.url('data')}: 8.6 MiB in all")
        rows = rows_of(ended)
        assert all(row[-1] == "0" for row in rows.values())
        assert (rows["pagein"][2], rows["plain range reads"][2]) == ("2.9", "8.6")


@pytest.mark.parametrize("data", [b"", b"x", tar_of({})])
def test_the_smallest_files_are_right_too(data: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    with RangeServer({"data": data}) as server:
        ended = run_here(capsys, "demo", server.url("data"))
        assert (ended.status, ended.err) == (0, "")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("status:404", "no such file or object"),
        ("status:403", "the server answered 403 Forbidden"),
        ("status:500", "the server answered 500 Internal Server Error"),
        ("truncate", "then the answer ended"),
        ("die", "RemoteDisconnected"),
        ("redirect-loop", "the server answered 302"),
    ],
)
def test_a_download_that_fails_names_the_url(fault: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with RangeServer({"a.tar": TAR}) as server:
        server.faults.set("a.tar", fault)
        ended = run_here(capsys, "demo", server.url("a.tar"))
        assert (ended.status, ended.out) == (1, "")
        assert ended.complaint.startswith(f"pagein: {server.url('a.tar')}: ")
        assert said in ended.complaint


def test_nobody_listening_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    ended = run_here(capsys, "demo", "http://127.0.0.1:1/a.tar")
    assert ended.status == 1
    assert "refused" in ended.complaint


# -- wrong bytes, and a change on the way ------------------------------------------------------------


class ChangingObjects(dict[str, bytes]):
    """Objects of a server that says something else from its n-th answer on."""

    def __init__(self, path: str, before: bytes, after: bytes, *, answers_before: int) -> None:
        super().__init__({path: before})
        self._after = after
        self._answers_before = answers_before
        self._lock = threading.Lock()

    def get(self, name: str, default: Any = None) -> Any:
        with self._lock:
            self._answers_before -= 1
            return super().get(name, default) if self._answers_before >= 0 else self._after


def flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def test_a_single_wrong_byte_is_exit_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    # The server tells no validators, and serves the right bytes once, for the reference, and then wrong ones.
    objects = ChangingObjects("a.tar", TAR, flipped(TAR, TAR.index(MEMBERS["dir/29"]) + 17_000), answers_before=1)
    with RangeServer(objects) as server:
        server.faults.set("a.tar", "no-etag", "no-last-modified")
        ended = run_here(capsys, "demo", server.url("a.tar"))
    assert ended.status == 1
    assert all(row[-1] == "4" for row in rows_of(ended).values())  # one member, in each of 4 threads
    assert "WRONG BYTES: members that differ from the original: pagein 4, plain range reads 4" in ended.out


def test_a_single_wrong_byte_of_the_library_is_exit_status_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def pack_and_spoil(target: Path, files_max: int, report: Any) -> Reference:
        reference = pack_library(target, files_max, report)
        target.write_bytes(flipped(target.read_bytes(), 512))  # the first byte of the first member
        return reference

    monkeypatch.setenv("no_proxy", "")  # which the demo changes
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setattr("pagein.cli.demo.pack_library", pack_and_spoil)
    ended = run_here(capsys, "demo", "--files", "3")
    assert ended.status == 1
    assert rows_of(ended)["pagein"][-1] == "4"
    assert "WRONG BYTES" in ended.out


@pytest.mark.parametrize("answers_before", [2, 3])
@pytest.mark.usefixtures("first_bytes_only")
def test_an_object_that_changes_during_the_walk_is_an_error_never_a_mixture(
    answers_before: int, capsys: pytest.CaptureFixture[str]
) -> None:
    # Answers: the reference, the first bytes at open, and the ranges.  The new object is as long as the old.
    other = tar_of({name: data[::-1] for name, data in MEMBERS.items()})
    objects = ChangingObjects("a.tar", TAR, other, answers_before=answers_before)
    with RangeServer(objects) as server:
        ended = run_here(capsys, "demo", "--threads", "1", server.url("a.tar"))
    assert (ended.status, ended.out) == (1, "")
    assert ended.complaint.startswith(f"pagein: {server.url('a.tar')}: changed while it was open (was ")


def test_an_object_that_has_changed_before_the_walk_is_wrong_from_end_to_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = tar_of({name: data[::-1] for name, data in MEMBERS.items()})
    with RangeServer(ChangingObjects("a.tar", TAR, other, answers_before=1)) as server:
        ended = run_here(capsys, "demo", "--threads", "1", server.url("a.tar"))
    assert ended.status == 1
    assert rows_of(ended)["pagein"][-1] == "29"  # all but the empty one


@pytest.mark.usefixtures("first_bytes_only")
def test_a_contender_that_fails_is_told_and_the_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    # The object changes after pagein has read it: plain range reads, which look at validators too, fail.
    other = tar_of({name: data[::-1] for name, data in MEMBERS.items()})
    with RangeServer(ChangingObjects("a.tar", TAR, other, answers_before=5)) as server:
        ended = run_here(capsys, "demo", "--threads", "1", server.url("a.tar"))
    rows = rows_of(ended)
    assert rows["pagein"][-1] == "0"
    assert rows["plain range reads"][-1] == "0 (failed, at 0 %)"
    assert "plain range reads failed: " in ended.out
    assert "changed while it was open" in ended.out


# -- without what it compares with -------------------------------------------------------------------


def test_where_fsspec_is_not_installed_the_others_compete(
    capsys: pytest.CaptureFixture[str], without: Callable[[str], None]
) -> None:
    without("fsspec")
    with RangeServer({"a.tar": TAR}) as server:
        ended = run_here(capsys, "demo", server.url("a.tar"))
    assert ended.status == 0
    assert set(rows_of(ended)) == {"pagein", "plain range reads"}
    assert "fsspec is not installed: pip install 'pagein[fsspec]'" in ended.out


def test_it_needs_no_extra() -> None:
    program = (
        "import sys; sys.modules['obstore'] = sys.modules['fsspec'] = None\n"
        "from pagein.cli.app import run\n"
        "sys.exit(run(['demo', '--files', '1']))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def remove(package: str) -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)

    return remove
