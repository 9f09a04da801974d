"""`import pagein` is cheap: it brings nothing that reading a file does not need, and takes under 60 ms."""

from __future__ import annotations

import os
import subprocess
import sys
from math import inf
from pathlib import Path

import pytest

IMPORT_S = 0.060
ROUNDS_MAX = 20
"""Less if it is seen sooner: a busy machine takes longer to have a quiet moment."""
HEAVY = {
    "PIL", "aiohttp", "asyncio", "boto3", "click", "concurrent", "dataclasses", "decimal", "difflib", "email",
    "fractions", "fsspec", "http", "inspect", "json", "logging", "numpy", "obstore", "opentelemetry", "pandas",
    "prometheus_client", "pyarrow", "requests", "rich", "shutil", "socket", "ssl", "subprocess", "tempfile", "tomllib",
    "typing_extensions", "urllib", "uuid", "xml",
}  # fmt: skip
"""Of these, some are installed where the tests run, and each costs more than a few of our modules."""


def run(program: str, **environment: str) -> str:
    """What *program* prints, in an interpreter of its own."""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def brought_by(statement: str) -> set[str]:
    """The packages that *statement* imports; what a bare interpreter has, for its .pth files, does not count."""
    program = f"import sys; before = set(sys.modules); {statement}; print(*set(sys.modules) - before)"
    return {name.partition(".")[0] for name in run(program).split()}


def test_an_import_brings_nothing_heavy() -> None:
    brought = brought_by("import pagein")
    assert "pagein" in brought
    assert not brought & HEAVY


def test_to_read_a_path_brings_what_its_configuration_takes_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"data")
    assert not brought_by(f"import pagein; pagein.open({str(path)!r}).read()") & (HEAVY - {"tomllib"})


@pytest.mark.parametrize("name", ["aio", "CacheStats", "StoreStats"])
def test_what_is_imported_late_is_there_when_it_is_named(name: str) -> None:
    assert run(f"import pagein; print(pagein.{name}.__name__)").strip().endswith(name)
    assert run(f"from pagein import *; print({name}.__name__)").strip().endswith(name)


def test_an_import_takes_less_than_60_ms(tmp_path: Path) -> None:
    """Of the processor's time, the best of some; on a machine too slow for that, less than asyncio takes there."""
    bytecode = str(tmp_path / "bytecode")  # also where the tests run without it
    best = {"pagein": inf, "asyncio": inf}
    for at in range(1 + ROUNDS_MAX):
        for name, least in best.items():
            program = f"import time; began = time.process_time(); import {name}; print(time.process_time() - began)"
            seconds = float(run(program, PYTHONPYCACHEPREFIX=bytecode, PYTHONDONTWRITEBYTECODE=""))
            if at:  # the first has compiled
                best[name] = min(least, seconds)
        if best["pagein"] < max(IMPORT_S, best["asyncio"]) < inf:
            return
    raise AssertionError(best)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    program = "import pagein\ntry: pagein.nothing\nexcept AttributeError as error: print(error)"
    assert run(program) == "module 'pagein' has no attribute 'nothing'\n"
