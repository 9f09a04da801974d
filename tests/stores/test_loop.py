"""The event loop of asynchronous stores: there for those who need it, and until the interpreter ends."""

from __future__ import annotations

import subprocess
import sys

CHILD_TIMEOUT_S = 30.0

LATER = """
import atexit, os, sys, pagein
from pagein.stores import read_range
class Later(pagein.AsyncRangeOperations):
    async def fetch(self, offset_bytes, size_bytes):
        return bytes(size_bytes)
"""


def ended(program: str) -> tuple[int, str, str]:
    command = [sys.executable, "-X", "dev", "-W", "ignore", "-c", program]
    child = subprocess.run(command, timeout=CHILD_TIMEOUT_S, capture_output=True, text=True, check=False)
    return child.returncode, child.stdout, child.stderr


def test_asyncio_is_not_imported_for_stores_that_do_not_need_it() -> None:
    program = """
import sys, types
sys.modules["pagein.aio"] = types.ModuleType("pagein.aio")  # the face for those who have imported asyncio themselves
import pagein
from pagein.stores import MemoryStore
with pagein.PageCache("1M") as cache:
    for source in (MemoryStore({"a": b"data"}), "a"), __import__("os").__file__:
        assert cache.open(source).read(2)
    assert not {"asyncio", "concurrent.futures"} & sys.modules.keys()
    class Later(pagein.AsyncRangeOperations):
        async def fetch(self, offset_bytes, size_bytes):
            return bytes(size_bytes)
    assert cache.inode(Later(), size_bytes=5000).open().read() == bytes(5000)
    assert "asyncio" in sys.modules
"""
    assert ended(program) == (0, "", "")


def test_what_runs_at_exit_may_still_read() -> None:
    program = "atexit.register(lambda: print(len(read_range(Later(), 0, 10))))\nread_range(Later(), 0, 1)"
    assert ended(LATER + program) == (0, "10\n", "")


def test_a_forked_child_has_one_of_its_own() -> None:
    program = """
read_range(Later(), 0, 1)
pid = os.fork()
assert read_range(Later(), 0, 10) == bytes(10)
if pid:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert ended(LATER + program) == (0, "", "")
