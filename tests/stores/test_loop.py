"""The event loop of asynchronous stores: there for those who need it, and until the interpreter ends."""

from __future__ import annotations

import asyncio
import errno
import queue
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable

import pytest
from tests.stores.reading import raises_errno

import pagein
from pagein.stores import AsyncRangeOperations, loop, read_range

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


# -- what is cancelled -------------------------------------------------------------------------------


async def awaits_what_is_cancelled() -> None:
    inner = asyncio.ensure_future(asyncio.Event().wait())
    await asyncio.sleep(0)
    inner.cancel()
    await inner


async def is_cancelled_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()  # as the scope of a library does that it is in
    await asyncio.sleep(0)


class Cancelled(AsyncRangeOperations):
    """Brings nothing the first time, because of *why*."""

    def __init__(self, why: Callable[[], Awaitable[None]]) -> None:
        self.whys = [why, why]  # of the run, and of the page that the reader then asks for alone

    async def fetch(self, offset_bytes: int, size_bytes: int) -> bytes:
        if self.whys:
            await self.whys.pop()()
        return bytes(size_bytes)


@pytest.mark.parametrize("why", [awaits_what_is_cancelled, is_cancelled_itself])
def test_what_a_store_has_cancelled_is_an_error_of_that_fetch_and_no_end_of_the_interpreter(
    why: Callable[[], Awaitable[None]],
) -> None:
    ops = Cancelled(why)
    with pagein.PageCache("1M") as cache, cache.inode(ops, size_bytes=8192).open() as file:
        with raises_errno(errno.ECANCELED, "fetch was cancelled.*Cancelled") as raised:
            file.pread(10, 0)
        assert isinstance(raised.value.__cause__, asyncio.CancelledError)
        del raised  # its traceback has the cache
        assert cache.stats().resident_bytes == 0
        ops.whys.clear()
        assert file.pread(10, 0) == bytes(10)
    with raises_errno(errno.ECANCELED):
        read_range(Cancelled(why), 0, 10)


def test_what_is_cancelled_because_the_loop_is_stopped_says_that_the_interpreter_ends() -> None:
    thread, begun = loop._LoopThread(), threading.Event()
    told: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    async def never() -> None:
        begun.set()
        await asyncio.Event().wait()

    thread.start(never, told.put, None)
    assert begun.wait(CHILD_TIMEOUT_S)
    thread.stop()
    error = told.get(timeout=CHILD_TIMEOUT_S)
    assert isinstance(error, RuntimeError)
    assert "the interpreter is shutting down" in str(error)
