"""A child forked while its parent writes cannot corrupt the parent's file, whatever it does and however it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from tests.forking import in_child
from tests.writing.killed import RECORD_BYTES, record

import pagein
from pagein.units import PAGE_SIZE

ROOT = Path(__file__).parents[2]
FORKS = 20
SLOTS = 60
CHILD = 0xFFFF_FFFF
"""What no record of the parent's is."""

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")


def spoil(cache: pagein.PageCache, file: pagein.File) -> None:
    """What a child should not do.  Each of it fails, or concerns nobody else."""
    for attempt in (
        lambda: file.pwrite(record(CHILD) * 20, 0),
        lambda: file.truncate(10),
        lambda: file.punch_hole(0, 100_000),
        file.fsync,
        file.close,
        lambda: cache.close(discard=True),
    ):
        with suppress(OSError, ValueError):
            attempt()


def test_what_is_written_while_others_are_forked_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    expected = bytearray(SLOTS * RECORD_BYTES)
    is_over = threading.Event()
    with pagein.PageCache(16 * PAGE_SIZE) as cache, cache.open(path, "r+b") as file:

        def write() -> None:
            seq = 0
            while not is_over.is_set() or seq < SLOTS:
                seq += 1
                at = seq * 7 % SLOTS * RECORD_BYTES
                file.pwrite(record(seq), at)
                expected[at : at + RECORD_BYTES] = record(seq)
                if seq % 50 == 0:
                    file.fsync()

        writer = threading.Thread(target=write)
        writer.start()
        for _ in range(FORKS):
            in_child(lambda: spoil(cache, file))
        is_over.set()
        writer.join()
        file.fsync()
        assert path.read_bytes() == expected
        assert file.pread(len(expected) + 1, 0) == expected


SCRIPT = """
import os, sys, pagein
from tests.writing.test_fork_while_writing import spoil
cache = pagein.PageCache(64 * 4096)
file = cache.open(sys.argv[1], "r+b")
file.pwrite(b"parent" * 1000, 100)
child = os.fork()
if child == 0:
    {child}
    sys.exit(0)  # an end as any other: what closes caches at the end of the interpreter runs here too
_, status = os.waitpid(child, 0)
assert open(sys.argv[1], "rb").read() == b"before" * 2000, "the child wrote"
file.pwrite(b"parent", 7000)
file.fsync()
cache.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.parametrize("child", ["pass", "spoil(cache, file)"])
def test_a_child_that_ends_as_any_process_does_writes_nothing_of_its_parents(tmp_path: Path, child: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before" * 2000)
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT.format(child=child), str(path)]
    ended = subprocess.run(
        command, cwd=ROOT, env={**os.environ}, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    expected = bytearray(b"before" * 2000)
    expected[100:6100] = b"parent" * 1000
    expected[7000:7006] = b"parent"
    assert path.read_bytes() == expected
