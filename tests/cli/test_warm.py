"""`pagein warm`: what it brings into the cache, and what it says of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.cli.command import COMMAND, TIMEOUT_S, StuckObjects, in_terminal, run_here, started

from pagein import PageCache
from pagein.cli.warming import SIDE_BY_SIDE_MAX, Warming
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


@pytest.mark.usefixtures("first_bytes_only")
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


def test_more_sources_than_may_be_open_at_once_are_all_warmed(tmp_path: Path) -> None:
    """Of 200 files no more than some are open at a time."""
    paths = [tmp_path / str(number) for number in range(200)]
    for path in paths:
        path.write_bytes(DATA[:5000])
    with_few = ["sh", "-c", 'ulimit -n 100; exec "$@"', "sh", *COMMAND, "warm", "--json", *map(str, paths)]
    ended = subprocess.run(with_few, capture_output=True, timeout=TIMEOUT_S, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert [one["resident_bytes"] for one in json.loads(ended.stdout)["sources"]] == [5000] * 200


def test_sources_are_opened_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    """None is answered before all have been asked for."""
    all_asked = threading.Barrier(SIDE_BY_SIDE_MAX)

    class Together(dict[str, bytes]):
        def get(self, name: str, default: Any = None) -> Any:
            if name not in seen:
                seen.add(name)
                all_asked.wait(TIMEOUT_S)
            return super().get(name, default)

    seen: set[str] = set()
    names = [str(number) for number in range(SIDE_BY_SIDE_MAX)]
    with RangeServer(Together(dict.fromkeys(names, DATA[:5000]))) as server:
        ended = run_here(capsys, "warm", "--json", *map(server.url, names))
    assert (ended.status, ended.err) == (0, "")
    assert all(one["resident_bytes"] == 5000 for one in json.loads(ended.out)["sources"])


def test_a_source_that_is_given_twice_is_one(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also by another name."""
    ended = run_here(capsys, "warm", "--json", path, path.as_uri(), path)
    assert (ended.status, ended.err) == (0, "")
    document = json.loads(ended.out)
    assert [one["source"] for one in document["sources"]] == [str(path)]
    assert document["fetched_bytes"] == len(DATA)


def test_what_is_wrong_with_some_is_told_in_a_line_each_and_the_others_come(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = tmp_path / "absent"
    ended = run_here(capsys, "warm", absent, "", "file://elsewhere/data", path)
    assert ended.status == 1
    assert f"{path}: 3 MiB of 3 MiB in the cache" in ended.out
    empty, url, gone = sorted(ended.err.splitlines(), key=lambda line: ("absent" in line, "file:" in line))
    assert empty.startswith("pagein: '': No such file")
    assert url.startswith("pagein: cannot open 'file://elsewhere/data'")
    assert gone.startswith(f"pagein: {absent}: No such file")
    document = json.loads(run_here(capsys, "warm", "--json", absent, path).out)
    assert [one["resident_bytes"] for one in document["sources"]] == [0, len(DATA)]
    assert "No such file" in document["sources"][0]["error"]


@pytest.mark.parametrize("names", [["broken", "good"], ["good", "broken"]])
@pytest.mark.usefixtures("first_bytes_only")
def test_the_room_of_a_source_that_breaks_off_is_for_the_others(
    names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    class OpenedOnce(dict[str, bytes]):
        def get(self, name: str, default: Any = None) -> Any:
            if name == "broken":
                server.faults.set(name, "status:403")  # from the next request on
            return super().get(name, default)

    with RangeServer(OpenedOnce(broken=DATA, good=DATA[: MIB // 2])) as server:
        ended = run_here(capsys, "warm", "--json", "--cache", "1M", *map(server.url, names))
    assert ended.status == 1
    resident = {one["source"].rpartition("/")[2]: one["resident_bytes"] for one in json.loads(ended.out)["sources"]}
    assert resident["good"] == MIB // 2


def test_what_there_is_no_room_for_is_not_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Nor whether it is there."""
    objects = {str(number): DATA[:MIB] for number in range(100)}
    with RangeServer(objects) as server:
        ended = run_here(capsys, "warm", "--cache", "4M", *map(server.url, objects), server.url("absent"))
        assert len({record.path for record in server.stats().log}) <= 4 + SIDE_BY_SIDE_MAX
    assert (ended.status, ended.err) == (0, "")
    assert re.search("the cache is full: [0-9]+ of 101 were not opened", ended.out)


def test_on_a_terminal_it_shows_how_far_it_is_how_fast_and_how_long_it_will_take() -> None:
    with RangeServer({"data": DATA[: 3 * MIB]}, bandwidth_bytes_s=MIB // 2) as server:  # each connection
        url = server.url("data")
        shown = in_terminal([*COMMAND, "warm", url, url], TERM="xterm", COLUMNS="100")
    lines = [line for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)) if "warming" in line]
    last = lines[-1]
    assert "━" in last
    assert "3.0/3.0 MiB" in last, "what was given twice counts once"
    assert last.rstrip().endswith("0:00:00")
    halfway = [re.search(r" ([0-9.]+)/3.0 MiB [0-9.]+ [kM]B/s 0:00:([0-9]+)$", line.rstrip()) for line in lines]
    left_s = [int(found[2]) for found in halfway if found and found[1] != "3.0"]
    assert left_s, f"it never said how fast it was, and how long it would take: {lines}"


def test_until_all_are_open_the_others_are_taken_to_be_as_large_as_those_that_are(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(10)]
    for path in paths:
        path.write_bytes(DATA[:20_000])
    with PageCache(1 << 20) as cache:
        warming = Warming(cache, [*map(str, paths), str(paths[0])])
        assert warming.expected_bytes(0) is None
        for one in warming.sources[:2]:
            with one.open(cache) as file:
                one.begin(file, 20_000)
        assert warming.expected_bytes(0) == 200_000
    with PageCache(100_000) as cache:
        warming = Warming(cache, map(str, paths))
        with warming.sources[0].open(cache) as file:
            warming.sources[0].begin(file, 20_000)
        assert warming.expected_bytes(0) == cache.size_bytes, "no more than fits"


def test_ctrl_c_tells_what_has_come_though_another_source_does_not_answer() -> None:
    class OneStuck(StuckObjects):
        def get(self, name: str, default: Any = None) -> Any:
            return dict.get(self, name, default) if name == "data" else super().get(name, default)

    objects = OneStuck({"data": DATA, "stuck": DATA}, answers=0)
    with RangeServer(objects) as server, started("warm", server.url("data"), server.url("stuck")) as process:
        assert objects.stuck.wait(30.0)
        while server.stats().sent_bytes < len(DATA):
            assert process.poll() is None
            os.sched_yield()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30.0)
        objects.answer_all()
    assert (process.returncode, err) == (130, b"")
    assert re.search(rb"/data: .* of 3 MiB in the cache", out)
    assert b"interrupted: what has come is in the cache; 1 of 2 were not opened" in out


def test_ctrl_c_ends_it_at_once_and_tells_what_has_come() -> None:
    data = bytes(32 * MIB)  # more than comes with its opening
    with RangeServer({"data": data}) as server:
        server.hold("data", after_bytes=MIB)
        with started("warm", server.url("data")) as process:
            while server.stats().request_count < 2:  # then it has been opened
                assert process.poll() is None
                os.sched_yield()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30.0)
    assert process.returncode == 130
    assert b"of 32 MiB in the cache" in out
    assert err == b""
