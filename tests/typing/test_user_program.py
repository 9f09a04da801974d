"""The types of pagein are complete, and are what a user's own type checker sees: mypy --strict and pyright, strict.

The programs are checked from outside the project, against pagein as it is installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.typing import user_program

import pagein
from pagein import publishing

HERE = Path(__file__).parent
TIMEOUT_S = 110
PUBLIC = (
    "open", "PageCache", "default_cache", "aio.open", "aio.AsyncFile",
    "integrations.duckdb.DuckDBFileSystem", "integrations.fsspec.PageCacheFileSystem",
    "integrations.obspec.CachedStore", "integrations.opentelemetry.instrument",
    "integrations.prometheus.PageCacheCollector", "integrations.zarr.ObjectStore",
)  # fmt: skip
NOT_OURS = (
    "partially unknown",  # only follows from what is told elsewhere
    "base class unknown", "metaclass unknown",  # fsspec ships no types
    "docstring",
)  # fmt: skip
PYRIGHT = "basedpyright"  # pyright, with a node.js of its own in its wheel: pyright's downloads one when it first runs


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    for name in ("user_program.py", "wrong_program.py"):
        shutil.copy(HERE / name, tmp_path)
    return tmp_path


def run(directory: Path, *command: str) -> subprocess.CompletedProcess[str]:
    # pyright asks the first python of PATH what is installed.
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    return subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def pyright(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("basedpyright", reason="basedpyright is not installed")
    return run(directory, sys.executable, "-m", PYRIGHT, *arguments)


def test_the_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data"
    path.write_bytes(os.urandom(10_000))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pagein.PageCache("1 MiB") as cache:
        monkeypatch.setattr("pagein.default._cache", cache)  # so that what it opens is closed
        try:
            user_program.main(str(path))
        finally:
            publishing.withdraw()


def test_mypy_accepts_the_program_and_finds_every_mistake(programs: Path) -> None:
    ended = run(
        programs, sys.executable, "-m", "mypy", "--strict", "--config-file=", "user_program.py", "wrong_program.py"
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "no issues found in 2 source files" in ended.stdout


def test_pyright_accepts_the_program_and_finds_every_mistake(programs: Path) -> None:
    settings = {"typeCheckingMode": "strict", "reportUnnecessaryTypeIgnoreComment": "error"}
    (programs / "pyrightconfig.json").write_text(json.dumps(settings))
    ended = pyright(programs)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.startswith("0 errors, 0 warnings")


def test_the_types_of_pagein_are_complete(tmp_path: Path) -> None:
    """Every name without an underscore, down to the last attribute, says its type: what a type checker only infers,
    the next may infer differently."""
    ended = pyright(tmp_path, "--verifytypes", "pagein", "--ignoreexternal", "--outputjson")
    told = json.loads(ended.stdout)["typeCompleteness"]
    names = {symbol["name"] for symbol in told["symbols"]}
    assert {f"pagein.{name}" for name in PUBLIC} <= names
    incomplete = [
        f"{symbol['name']}: {diagnostic['message']} ({diagnostic.get('file')}: {diagnostic.get('range')})"
        for symbol in told["symbols"]
        if not symbol["isTypeKnown"]
        for diagnostic in symbol["diagnostics"]
        if not any(words in diagnostic["message"] for words in NOT_OURS)
    ]
    assert not incomplete, "\n".join(incomplete)
