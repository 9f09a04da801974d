"""What the tests of writing share: storing through the operations alone, small disks, other users, other processes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.stores.reading import fill

from pagein.stores import Opened, RangeOperations, Source, source_of
from pagein.stores.source import WritableSource

SCRIPT_TIMEOUT_S = 60.0
NOBODY = 65534


@contextmanager
def writing(
    source: Any, *, create: bool = False, exclusive: bool = False, truncate: bool = False, **options: Any
) -> Iterator[Opened]:
    """A source, or what `source_of` makes of it, open for writing.  What was not committed is dropped."""
    found: Source = source if hasattr(source, "open") and hasattr(source, "key") else source_of(source, **options)
    assert isinstance(found, WritableSource)
    version = found.open_for_writing(create=create, exclusive=exclusive, truncate=truncate)
    assert version.ops.writable
    try:
        yield version
    finally:
        version.close()


def store(version: Opened, data: bytes, offset_bytes: int) -> None:
    """What write-back does, from memory that it takes away at once."""
    assert isinstance(version.ops, RangeOperations)
    scratch = bytearray(data)
    buffer = memoryview(scratch)
    version.ops.store(buffer, offset_bytes)
    buffer.release()  # would raise if it were kept
    scratch[:] = b"?" * len(scratch)


def content(version: Opened, size_bytes: int) -> bytes:
    """The first bytes, as a fill brings them."""
    return fill(version, size_bytes, 0)


@contextmanager
def small_disk(path: Path, size: str = "1m", *options: str, kind: str = "tmpfs") -> Iterator[Path]:
    """A file system of that size, in memory."""
    if os.getuid() != 0:
        pytest.skip("only root may mount")
    path.mkdir()
    mounting = ["mount", "-t", kind, "-o", ",".join([f"size={size}", *options]), kind, str(path)]
    mounted = subprocess.run(mounting, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no {kind} with {options} here: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


@contextmanager
def as_nobody() -> Iterator[None]:
    """As a user without rights, and without root's exemptions.  What is needed has to be imported before."""
    if os.getuid() != 0:
        pytest.skip("only root may become somebody else")
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def run_script(script: str, *arguments: object) -> str:
    """What a program prints that runs in a process of its own."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SCRIPT_TIMEOUT_S, check=False)
    assert done.returncode == 0, f"status {done.returncode}\n{done.stderr}"
    return done.stdout
