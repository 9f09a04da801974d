"""`pagein top`: who is seen, what is told of him, and that looking costs him nothing and changes nothing."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from tests.cli.command import COMMAND, TIMEOUT_S, run_here, run_process, started

import pagein
from pagein import process, publishing
from pagein.cli.board import _number, board
from pagein.cli.processes import ask_all
from pagein.cli.screen import Screen
from pagein.publishing import Request
from pagein.units import PAGE_SIZE

READER = """
import os, sys, pagein
cache = pagein.PageCache("1 MiB")
file = cache.open(sys.argv[1])
file.advise("random")
file.pread(4096, 0), file.pread(4096, 0), file.pread(4096, 0)
child = os.fork() if "fork" in sys.argv else None
if child == 0:
    file.pread(8192, 0)
print("ready", os.getpid(), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def runtime_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("PAGEIN_TOP", raising=False)
    return tmp_path / "pagein"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "[bold]data"  # no markup
    path.write_bytes(os.urandom(16 * PAGE_SIZE))
    return path


@contextmanager
def reader(*arguments: object, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process with a cache that has read something, and waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", READER, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PAGEIN_TOP": "1", **environment},
    )
    with process:
        try:
            assert process.stdout
            assert process.stdout.readline().startswith("ready")
            yield process
        finally:
            process.kill()


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """This process publishes, and the caches that other tests have left open are none of its own."""
    monkeypatch.setattr(process, "caches", weakref.WeakSet())
    yield pagein.publish()
    publishing.withdraw()


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[int, Any]:
    ended = run_here(capsys, "top", "--once", "--json", *arguments)
    return {one["pid"]: one for one in json.loads(ended.out)["processes"]}


def test_a_process_that_publishes_is_seen_until_it_ends(
    data: Path, runtime_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with reader(data) as one, reader(data) as other:
        seen = told(capsys)
        assert set(seen) == {one.pid, other.pid}
        (cache,) = seen[one.pid]["caches"]
        assert (cache["hits"], cache["misses"], cache["requests"], cache["fetched_bytes"]) == (2, 1, 1, PAGE_SIZE)
        assert cache["size_bytes"] == 1 << 20
        (file,) = cache["files"]
        assert (file["name"], file["size_bytes"], file["resident_bytes"]) == (str(data), 16 * PAGE_SIZE, PAGE_SIZE)
        assert file["cells"] == [[1, 1]] + 15 * [[0, 1]]
        assert set(told(capsys, other.pid)) == {other.pid}

        ended = run_here(capsys, "top", "--once", one.pid)
        assert (ended.status, ended.err) == (0, "")
        assert re.search(rf"{one.pid}  .*python", ended.out)
        assert "hits 67%" in ended.out
        assert "[bold]data" in ended.out
        assert "[█···············]" in ended.out

        other.stdin.close()  # type: ignore[union-attr]
        other.wait(TIMEOUT_S)
        assert len(list(runtime_directory.iterdir())) == 1  # it takes its socket along
        one.kill()
        one.wait(TIMEOUT_S)
        assert told(capsys) == {}
        assert list(runtime_directory.iterdir()) == []  # what it left is removed by who finds it


def test_a_forked_child_tells_of_its_own_cache(data: Path) -> None:
    with reader(data, "fork") as parent:
        assert parent.stdout
        parent.stdout.readline()  # the other of the two is ready, too
        found = {one["pid"]: one for one in ask_all(Request())}
        (child,) = set(found) - {parent.pid}
        assert found[parent.pid]["caches"][0]["fetched_bytes"] == PAGE_SIZE
        assert found[child]["caches"][0]["fetched_bytes"] == 2 * PAGE_SIZE
        os.kill(child, signal.SIGKILL)


def test_who_is_not_there_is_named_with_what_it_takes_to_be_seen(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ((), (4242,)):
        ended = run_here(capsys, "top", "--once", *arguments)
        assert (ended.status, ended.out) == (1, "")
        assert "PAGEIN_TOP=1" in ended.complaint
        assert "pagein top -- COMMAND" in ended.complaint
    assert "of process 4242" in ended.complaint


def test_a_cache_that_nobody_asked_to_publish_has_no_socket_and_no_thread(runtime_directory: Path) -> None:
    for asked in ("", "0", "off"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PAGEIN_TOP", asked)
            pagein.PageCache("1 MiB").close()
    assert not runtime_directory.exists()
    assert "pagein-top" not in [thread.name for thread in threading.enumerate()]


def test_publishing_twice_is_publishing_once_in_a_place_that_is_the_users_alone(published: str) -> None:
    assert pagein.publish() == published
    assert stat.S_IMODE(os.stat(os.path.dirname(published)).st_mode) == 0o700
    assert [one["pid"] for one in ask_all(Request())] == [os.getpid()]
    publishing.withdraw()
    assert not os.path.exists(published)
    assert ask_all(Request()) == []


def test_a_closed_cache_is_not_told(published: str) -> None:
    with pagein.PageCache("1 MiB"):
        (one,) = ask_all(Request())
        assert [cache["size_bytes"] for cache in one["caches"]] == [1 << 20]
    assert ask_all(Request())[0]["caches"] == []


def test_a_directory_that_others_may_enter_is_neither_used_nor_believed(
    runtime_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime_directory.mkdir(mode=0o755)
    with pytest.raises(PermissionError, match="mode 700"):
        pagein.publish()
    monkeypatch.setenv("PAGEIN_TOP", "1")
    with pytest.warns(RuntimeWarning, match="PAGEIN_TOP is set, but nothing"):
        cache = pagein.PageCache("1 MiB")
    cache.close()
    (runtime_directory / f"{os.getpid()}-abcdef").touch()
    assert ask_all(Request()) == []


@pytest.mark.parametrize(("uid", "is_same"), [(os.geteuid(), True), (0, True), (os.geteuid() + 4242, False)])
def test_only_the_same_user_and_root_are_answered(uid: int, is_same: bool) -> None:
    class Connection:
        def getsockopt(self, *_: object) -> bytes:
            return struct.pack("3i", 1, uid, uid)

    assert publishing.is_of_same_user(Connection()) is is_same  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "request_line", [b"", b"\n", b"[]\n", b'{"files_max": -1}\n', b'{"x": 1}\n', b"[" * 4000 + b"\n", b"x" * 9000]
)
def test_who_asks_for_nonsense_or_for_nothing_gets_nothing_and_harms_nobody(
    published: str, request_line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "TIMEOUT_S", 0.05)
    directory, _, name = published.rpartition("/")
    with publishing.opened_directory(directory) as short:
        connection = publishing.connect(short, name)
    assert connection
    with connection:
        connection.settimeout(TIMEOUT_S)
        try:
            connection.sendall(request_line)
            assert connection.recv(1) == b""  # for b"", once it has been silent for too long
        except (BrokenPipeError, ConnectionResetError):
            pass
    monkeypatch.undo()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", os.path.dirname(directory))
        assert len(ask_all(Request())) == 1


def test_a_name_longer_than_an_address_may_be_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    with pytest.raises(OSError, match="too long"), socket.socket(socket.AF_UNIX) as plain:
        plain.bind(str(deep / "socket"))
    try:
        pagein.publish()
        assert len(ask_all(Request())) == 1
    finally:
        publishing.withdraw()


# -- a command -----------------------------------------------------------------------------------------

PROGRAM = """
import sys, threading, pagein
from pagein import publishing
looks, document = threading.Semaphore(0), publishing.document
publishing.document = lambda request: (document(request), looks.release())[0]
with pagein.PageCache("1 MiB") as cache, cache.open(sys.argv[1]) as file:
    file.read()
    print("to stdout", flush=True)
    print("to stderr", file=sys.stderr, flush=True)
    assert looks.acquire(timeout=60) and looks.acquire(timeout=60)  # the second began after the read
sys.exit(7)
"""


def test_a_command_is_watched_until_it_ends_and_keeps_its_output_and_its_status(data: Path, published: str) -> None:
    with pagein.PageCache("2 MiB"):  # who is not of the command is not shown
        ended = run_process("top", "--interval", "0.1", "--", sys.executable, "-c", PROGRAM, data)
    assert ended.status == 7
    assert ended.out.startswith("to stdout\n")
    assert ended.err == "to stderr\n"
    assert re.findall(r"memory \S+ \w+ of (\d MiB)", ended.out) == ["1 MiB"]
    assert "100%" in ended.out


def test_a_command_that_cannot_be_run_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    ended = run_here(capsys, "top", "--", "/nowhere/command")
    assert (ended.status, ended.complaint) == (127, "pagein: /nowhere/command: No such file or directory")
    assert run_here(capsys, "top", "--once", "true").status == 2


# -- live ----------------------------------------------------------------------------------------------


def test_on_a_terminal_it_is_live_until_ctrl_c_and_leaves_the_terminal_as_it_was(published: str) -> None:
    with pagein.PageCache("1 MiB"):
        ours, theirs = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
        process = subprocess.Popen(
            [*COMMAND, "top", "--interval", "0.1"], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
        )
        os.close(theirs)
        try:
            shown = read_until(ours, lambda shown: shown.count(str(os.getpid())) >= 2)
            assert "\x1b[?1049h" in shown  # another screen
            publishing.withdraw()
            read_until(ours, lambda shown: "Nobody tells" in shown)
            process.send_signal(signal.SIGINT)
            assert "\x1b[?1049l" in read_until(ours, lambda shown: "\x1b[?1049l" in shown)
            assert process.wait(TIMEOUT_S) == 0
        finally:
            process.kill()
            process.wait()
            os.close(ours)


def read_until(fd: int, enough: Any) -> str:
    shown, end_s = "", time.monotonic() + TIMEOUT_S
    while not enough(shown):
        readable, _, _ = select.select([fd], [], [], max(0.0, end_s - time.monotonic()))
        assert readable, f"not shown: {shown[-2000:]!r}"
        shown += os.read(fd, 1 << 16).decode(errors="replace")
    return shown


def test_in_a_pipe_it_is_one_look_below_the_other_and_json_one_a_line(published: str) -> None:
    with started("top", "--json", "--interval", "0.1") as process:
        assert process.stdout
        for _ in range(2):
            document = json.loads(process.stdout.readline())
            assert [each["pid"] for each in document["processes"]] == [os.getpid()]


# -- the board -----------------------------------------------------------------------------------------


def look(at_s: float, **counts: Any) -> dict[str, Any]:
    names = (
        "resident_bytes", "dirty_bytes", "pinned_bytes", "inodes", "open_files", "hits", "misses", "fetched_bytes",
        "written_bytes", "evictions", "failed_requests", "failed_writes", "file_count",
    )  # fmt: skip
    cache = {"id": "a", "size_bytes": 1 << 20, "stores": [], "files": [], **dict.fromkeys(names, 0), **counts}
    return {"pid": 7, "command": "python x.py", "at_s": at_s, "latency_bounds_s": (0.001, 0.01), "caches": [cache]}


def store(requests: int, latency_sum_s: float, *counts: int) -> dict[str, Any]:
    store = {"name": "s3://bucket", "requests": requests, "failed_requests": 0, "fetched_bytes": requests << 20}
    return {**store, "requests_in_flight": 2, "requests_in_line": 3, "latency_sum_s": latency_sum_s,
            "latency_counts": list(counts)}  # fmt: skip


def shown(now: dict[str, Any], before: dict[str, Any] | None, width: int = 150) -> str:
    console = Screen(width=width)
    with console.capture() as captured:
        console.print(board([now], [before] if before else [], console))
    return captured.get()


def test_rates_are_of_what_has_changed_since_the_look_before() -> None:
    before = look(10.0, hits=100, misses=100, fetched_bytes=0, evictions=7, stores=[store(100, 90.0, 0, 0, 100)])
    now = look(12.0, hits=400, misses=100, fetched_bytes=4 << 20, evictions=7,
               stores=[store(104, 90.02, 2, 2, 100)])  # fmt: skip
    text = shown(now, before)
    for words in ("hits 80% (100% now)", "reads/s 150", "fetched 2 MiB/s", "evicted pages/s 0"):
        assert words in text
    assert re.search(r"s3://bucket +104 +2 +2 MiB/s +2 +3 +5 ms +10 ms +0", text)


def test_without_a_look_before_there_is_no_rate_but_what_is_known_of_the_stores() -> None:
    text = shown(look(10.0, hits=1, misses=3, stores=[store(100, 1.0, 0, 0, 100)]), None)
    assert "hits 25%   reads/s -   fetched -" in text
    assert re.search(r"s3://bucket +100 +- +- +2 +3 +10 ms +over 10 ms +0", text)


def test_a_count_that_went_back_because_its_store_was_forgotten_gives_no_negative_rate() -> None:
    before = look(10.0, stores=[store(100, 90.0, 50, 50, 0)])
    text = shown(look(11.0, stores=[store(2, 0.004, 1, 1, 0)]), before)
    assert re.search(r"s3://bucket +2 +0 +0 B/s +2 +3 +2 ms +10 ms +0", text)


@pytest.mark.parametrize("width", [80, 105, 106, 120])
@pytest.mark.parametrize("directory", ["https://bucket.s3.eu-central-1.amazonaws.com/a/long/key", "目录" * 20])
def test_on_a_terminal_of_eighty_columns_every_heading_and_number_is_whole(width: int, directory: str) -> None:
    file = {"name": f"{directory}.parquet", "size_bytes": 1023 << 20, "resident_bytes": 1 << 20, "open_files": 12}
    file |= {"version": "", "dirty_bytes": 1023 << 10, "cells": [[1, 2]] * 29 + [[0, 1]]}
    now, before = (
        look(at_s, hits=hits, failed_requests=123_456, evictions=hits, files=[{**file, "hits": hits}], file_count=3,
             stores=[{**store(requests, 0.0125 * requests, 0, 0, requests), "name": f"{directory}.parquet"}])
        for at_s, hits, requests in ((11.0, 1_234_567_890, 999_999), (10.0, 0, 998_998))
    )  # fmt: skip
    lines = shown(now, before, width).splitlines()
    text = "\n".join(lines)
    assert max(cell_len(line.rstrip()) for line in lines) <= width
    headings = ["/s", "fetched", "in flight", "mean", "99% under", "size", "resident", "hits/s", "dirty", "pages"]
    numbers = ["1,001", "1001 MiB/s", "12.5 ms", "over 10 ms", "1.2G", "1023 MiB", "1023 KiB", "123,456", "and 2 more"]
    if width >= 106:
        headings += ["requests", "in line", "open"]
        numbers += ["999,999", "12"]
    for heading in headings:
        assert set(heading.split()) <= set(text.split()), heading
    for number in numbers:
        assert number in text, number
    assert [line.count("…") for line in lines if "…" in line] == [1, 1]  # of the names
    assert text.count(".parquet") == 2
    assert re.search(r"\[▄{14,}[▃·]\]", text)


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (0, "0"),
        (999_999, "999,999"),
        (999_999.6, "1.0M"),
        (12_345_678, "12.3M"),
        (999_960_000, "1.0G"),
        (5e10, "50.0G"),
    ],
)
def test_a_number_takes_seven_columns(count: float, told: str) -> None:
    assert _number(count) == told
    assert len(told) <= 7


def test_a_terminal_obeys_no_name() -> None:
    name, as_told = "a\x1b]0;owned\x07\x9bm\udcff.bin", r"a\x1b]0;owned\x07\x9bm\udcff.bin"
    file = {"name": name, "size_bytes": 1, "resident_bytes": 1, "open_files": 1, "hits": 0, "dirty_bytes": 0}
    now = look(1.0, files=[{**file, "version": "", "cells": [[1, 1]]}], file_count=1)
    now["command"] = f"python {name}"
    text = shown(now, None)
    assert text.count(as_told) == 2
    assert all(one.isprintable() or one == "\n" for one in text)
