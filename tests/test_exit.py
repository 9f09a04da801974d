"""The end of the interpreter: whatever is open or on its way then, it ends at once, with the status it should have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pagein.testing.httpserver import RangeServerProcess

BEGIN = """
import faulthandler, sys, threading
faulthandler.dump_traceback_later(20, exit=True)
import pagein
from pagein.stores import RangeOperations
place = sys.argv[1]
cache = pagein.PageCache("1 MiB")
"""

ENDS = {
    "a text file in the middle of a line": "text = cache.open(place, 'r'); text.read(10)",
    "a text file of the default cache": "text = pagein.open(place, 'r'); text.read(10)",
    "a text file in a cycle that a module keeps": "text = cache.open(place, 'r'); text.read(9); sys.kept = [text, sys]",
    "a view that a module keeps": "sys.kept = cache.open(place).view(100, 0)",
    "a generator in the middle": """
def lines():
    with cache.open(place) as file:
        yield from file
kept = lines(); next(kept)
""",
    "what will be needed": "file = cache.open(place); file.advise('willneed')",
    "a sequential reader": "file = cache.open(place); file.read(300_000)",
    "a daemon thread that reads": """
def read():
    try:
        while True:
            file.pread(100_000, 0)
            cache.drop()
    except RuntimeError:  # "... the interpreter is shutting down"
        pass
file = cache.open(place)
threading.Thread(target=read, daemon=True).start()
""",
    "a daemon thread that waits for a store which never answers": """
inside = threading.Event()
class Never(RangeOperations):
    def fill(self, buffer, offset_bytes):
        inside.set()
        threading.Event().wait()
file = cache.inode(Never(), size_bytes=1000).open()
threading.Thread(target=lambda: file.pread(1, 0), daemon=True).start()
inside.wait()
""",
    "an asynchronous reader that was left": """
import asyncio
async def main():
    asyncio.get_running_loop().slow_callback_duration = 60  # a busy machine is no fault
    file = await pagein.aio.open(place, cache=cache)
    task = asyncio.ensure_future(file.pread(100_000, 500_000))
    await asyncio.sleep(0)
asyncio.run(main())
""",
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("exit")
    (directory / "data").write_bytes(b"a line\n" * 150_000)
    return directory


@pytest.mark.parametrize("end", ENDS)
def test_an_interpreter_ends_at_once_and_in_silence_whatever_is_open(end: str, directory: Path) -> None:
    assert_ends(ENDS[end], str(directory / "data"))


@pytest.mark.parametrize("end", ENDS)
def test_an_interpreter_ends_while_requests_to_a_server_are_in_flight(end: str, directory: Path) -> None:
    with RangeServerProcess(directory, latency_s=0.05) as server:
        assert_ends(ENDS[end], server.url("data"))


def assert_ends(code: str, place: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore", "-c", BEGIN + code, place],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
