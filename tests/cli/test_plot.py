"""`pagein plot`: a picture that can be opened, of what is in memory and how long it took to come."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.cli.command import run_here

import pagein
from pagein import process, publishing
from pagein.units import PAGE_SIZE


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "$x_1$ <b>&.bin"  # neither a formula nor markup
    path.write_bytes(os.urandom(16 * PAGE_SIZE))
    return path


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(process, "caches", weakref.WeakSet())  # not those that other tests have left open
    pagein.publish()
    yield
    publishing.withdraw()


def words(path: Path) -> list[str]:
    texts = ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(text.itertext()) for text in texts]


def test_it_draws_what_a_pattern_of_reads_leaves_in_memory(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "p.svg"
    ended = run_here(capsys, "plot", source, "--size", "64K", "--block", "4K", "--cache", "1M", "-o", picture)
    assert (ended.status, ended.out) == (0, f"{picture}\n")
    said = words(picture)
    assert "sequential reads of 4 KiB by 1 thread" in said
    assert any(line.endswith("$x_1$ <b>&.bin") for line in said)
    assert "100% of 64 KiB" in said
    assert any(line.startswith("Pages in memory: 64 KiB of 1 MiB, hits ") for line in said)
    assert any(line.startswith("Requests to local ") for line in said)
    assert {"1 ms", "10 s", "longer", "0%", "100%"} <= set(said)


def test_it_draws_a_process_that_runs(
    source: Path, tmp_path: Path, published: None, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "p.png"
    with pagein.PageCache("1 MiB") as cache, cache.open(source) as file:
        file.read(1)
        assert run_here(capsys, "plot", "--pid", os.getpid(), "-o", picture).status == 0
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert picture.stat().st_size > 5000
    assert run_here(capsys, "plot", "--pid", os.getpid(), "-o", tmp_path / "none.svg").status == 0
    assert "no file is open, or remembered" in words(tmp_path / "none.svg")


def test_what_cannot_be_drawn_is_said_in_a_line(
    source: Path, tmp_path: Path, published: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in ((), (source, "--pid", "1"), (source, "-o", "picture.txt")):
        assert run_here(capsys, "plot", *arguments).status == 2
    ended = run_here(capsys, "plot", "--pid", "1", "-o", tmp_path / "p.png")
    assert (ended.status, "nobody of process 1 tells" in ended.complaint) == (1, True)
    assert run_here(capsys, "plot", source, "--size", "4K", "-o", tmp_path / "no" / "p.png").status == 1
    assert not (tmp_path / "p.png").exists()


def test_without_matplotlib_it_names_the_extra(
    source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "pagein.cli.picture", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    ended = run_here(capsys, "plot", source)
    assert (ended.status, "pip install 'pagein[plot]'" in ended.complaint) == (1, True)
