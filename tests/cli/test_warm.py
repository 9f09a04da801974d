"""`pagein warm`: what it brings into the cache, and what it says of it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.cli.command import StuckObjects, run_here, started

from pagein.testing.httpserver import RangeServer

MIB = 1 << 20
DATA = os.urandom(3 * MIB + 5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    return path


def test_it_brings_everything_and_says_how_fast(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = run_here(capsys, "warm", path)
    assert (ended.status, ended.err) == (0, "")
    assert f"{path}: 3 MiB of 3 MiB in the cache" in ended.out
    assert ended.out.split()[:4] == ["seconds", "MiB/s", "requests", "MiB"]


def test_each_byte_is_downloaded_once(capsys: pytest.CaptureFixture[str]) -> None:
    with RangeServer({"a": DATA, "b": DATA[: 2 * MIB]}) as server:
        ended = run_here(capsys, "warm", "--json", server.url("a"), server.url("b"))
        assert ended.status == 0
        assert server.stats().sent_bytes == len(DATA) + 2 * MIB
    document = json.loads(ended.out)
    assert document["fetched_bytes"] == len(DATA) + 2 * MIB
    assert [one["resident_bytes"] for one in document["sources"]] == [len(DATA), 2 * MIB]


def test_what_does_not_fit_is_left_out(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = run_here(capsys, "warm", "--cache", "1M", "--json", path)
    assert ended.status == 0
    document = json.loads(ended.out)
    assert document["sources"] == [{"source": str(path), "size_bytes": len(DATA), "resident_bytes": MIB}]
    assert document["cache_bytes"] == MIB


def test_a_source_that_breaks_off_is_an_error_and_what_came_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """At the first piece: a source that refuses is not asked for all the others."""

    class OpenedOnce(dict[str, bytes]):
        def get(self, name: str, default: Any = None) -> Any:
            server.faults.set(name, "status:403")  # from the next request on
            return super().get(name, default)

    with RangeServer(OpenedOnce(data=DATA)) as server:
        ended = run_here(capsys, "warm", "--cache", "4M", server.url("data"))
        request_count = server.stats().request_count
    assert ended.status == 1
    assert "128 KiB of 3 MiB in the cache" in ended.out
    assert request_count <= 8
    assert ended.complaint.startswith(f"pagein: {server.url('data')}: ")


def test_an_absent_source_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = run_here(capsys, "warm", tmp_path / "absent")
    assert (ended.status, ended.out) == (1, "")
    assert "No such file" in ended.complaint


def test_an_empty_source_is_warm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").touch()
    ended = run_here(capsys, "warm", tmp_path / "empty")
    assert (ended.status, ended.err) == (0, "")


def test_ctrl_c_ends_it_at_once_and_tells_what_has_come() -> None:
    objects = StuckObjects({"data": DATA}, answers=1)
    with RangeServer(objects) as server, started("warm", server.url("data")) as process:
        assert objects.stuck.wait(30.0)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30.0)
        objects.answer_all()
    assert process.returncode == 130
    assert b"of 3 MiB in the cache" in out
    assert err == b""
