"""`pagein stat`, and the bar that shows which pages are in the cache."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from tests.cli.command import run_here, run_process

from pagein import CacheStats, StoreStats
from pagein.cli.screen import BAR_COLUMNS, residency_bar
from pagein.testing.httpserver import RangeServer
from pagein.units import PAGE_SIZE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(os.urandom(100 * PAGE_SIZE + 7))
    return path


def test_it_tells_size_version_and_pages(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = run_here(capsys, "stat", path)
    assert (ended.status, ended.err) == (0, "")
    status = path.stat()
    source, size, version, resident, bar = ended.out.splitlines()
    assert source == f"source    {path}"
    assert size == "size      400 KiB (409,607 bytes)"
    assert version.startswith(f"version   mtime={status.st_mtime_ns} size=409607")
    assert resident == "resident  0 of 101 pages"
    assert bar == f"[{'·' * BAR_COLUMNS}]"


def test_it_shows_what_reading_brings_into_the_cache(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = run_here(capsys, "stat", "--read", "4K", path)
    *_, resident, bar = ended.out.splitlines()
    pages = int(resident.split()[1])
    assert 1 <= pages < 101  # what was asked for, and what was read ahead
    assert bar.startswith("[█")
    assert bar.endswith("··]")
    assert run_here(capsys, "stat", "--read", "1T", path).out.splitlines()[-2:] == [
        "resident  101 of 101 pages",
        f"[{'█' * BAR_COLUMNS}]",
    ]


def test_for_programs_it_is_json(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = run_here(capsys, "stat", "--json", "--read", str(100 * PAGE_SIZE + 7), path)
    document = json.loads(ended.out)
    assert document.pop("version")
    cache = document.pop("cache")
    assert (cache["misses"], cache["requests"], cache["fetched_bytes"]) == (1, 1, 100 * PAGE_SIZE + 7)
    assert set(cache) == {field.name for field in fields(CacheStats)}
    assert cache["stores"][0]["fetched_bytes"] == 100 * PAGE_SIZE + 7
    assert set(cache["stores"][0]) == {field.name for field in fields(StoreStats)}
    assert document == {
        "source": str(path),
        "size_bytes": 100 * PAGE_SIZE + 7,
        "page_count": 101,
        "resident_pages": 101,
        "resident": [[0, 101]],
    }


def test_a_file_without_pages_has_no_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").touch()
    ended = run_here(capsys, "stat", tmp_path / "empty")
    assert ended.out.splitlines()[-1] == "resident  0 of 0 pages"


def test_the_version_of_a_url_is_its_etag(capsys: pytest.CaptureFixture[str]) -> None:
    with RangeServer({"data": b"x" * 5000}) as server:
        ended = run_here(capsys, "stat", server.url("data"))
        assert "version   etag=" in ended.out
        assert "resident  2 of 2 pages\n[██]\n" in ended.out  # the first bytes come with the answer
        assert server.stats().request_count == 1


def test_brackets_in_a_name_are_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "[bold]name"
    path.write_bytes(b"x")
    assert f"source    {path}\n" in run_here(capsys, "stat", path).out


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_bar_is_readable_where_only_ascii_is(encoding: str, path: Path) -> None:
    ended = run_process("stat", "--read", "200K", path, PYTHONIOENCODING=encoding)
    assert (ended.status, ended.err) == (0, "")
    bar = ended.out.splitlines()[-1]
    assert ("█" in bar) is (encoding == "utf-8")
    assert bar.isascii() is (encoding == "ascii")
    assert len(bar) == BAR_COLUMNS + 2


# -- the bar -----------------------------------------------------------------------------------------

pages_of_a_file = st.lists(st.booleans(), min_size=1, max_size=300)


def runs_of(pages: list[bool]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for index, here in enumerate(pages):
        if here and runs and sum(runs[-1]) == index:
            runs[-1] = runs[-1][0], runs[-1][1] + 1
        elif here:
            runs.append((index, 1))
    return runs


@given(pages_of_a_file, st.integers(1, 100))
def test_each_character_stands_for_its_share_of_the_pages(pages: list[bool], width: int) -> None:
    bar = residency_bar(runs_of(pages), len(pages), width=width, ascii_only=True)
    assert len(bar) == min(width, len(pages))
    for cell, character in enumerate(bar):
        share = pages[cell * len(pages) // len(bar) : (cell + 1) * len(pages) // len(bar)]
        assert (character == ".") is (not any(share))
        assert (character == "8") is all(share)
        if character not in ".8":
            assert int(character) - 1 < 7 * sum(share) / len(share) <= int(character)


def test_a_bar_of_a_huge_file_costs_nothing() -> None:
    bar = residency_bar([(0, 1), (1 << 39, 1 << 38)], 1 << 40, width=8)
    assert bar == "▁···██··"


def test_a_terminal_obeys_no_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a\x1b]0;owned\x07.bin"
    path.write_bytes(b"x")
    assert r"a\x1b]0;owned\x07.bin" in run_here(capsys, "stat", path).out
    ended = run_here(capsys, "stat", f"{path}.absent")
    assert r"a\x1b]0;owned\x07.bin.absent" in ended.complaint
    assert "\x1b" not in ended.out + ended.err
