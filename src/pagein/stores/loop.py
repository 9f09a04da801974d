"""The event loop on which stores answer that are asynchronous: one thread for all of them.

Guarantees: what is started on it runs to its end, or is cancelled when the interpreter ends, and then waited for; a
forked child has a loop of its own.
Assumes: what runs on it does not block it.
Not here: what the answer is for (ranges.py); the loop of a user's own program (aio.py).
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from ..errors import shutting_down

T = TypeVar("T")

BLOCKING_MAX = 8
"""Threads for what has to block after all (`asyncio.to_thread`)."""
GRACE_S = 0.05
STOP_S = 2.0
"""At the end of the interpreter, so long is waited for what was cancelled."""


class _LoopThread:
    """Started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_stopped = False

    def start(self, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run the coroutine ``make()`` on the loop.  It keeps what it raises.  Raises: RuntimeError at the end."""
        loop = self._loop
        if loop is None:
            loop = self._begin()
        loop.call_soon_threadsafe(self._spawn, make)

    def _begin(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._is_stopped:
                raise shutting_down()
            if self._loop is None:
                loop = asyncio.new_event_loop()
                loop.set_default_executor(ThreadPoolExecutor(BLOCKING_MAX, thread_name_prefix="pagein-loop"))
                self._thread = threading.Thread(target=loop.run_forever, name="pagein-loop", daemon=True)
                self._thread.start()
                self._loop = loop
            return self._loop

    def _spawn(self, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.get_running_loop().create_task(make())
        self._tasks.add(task)  # the loop itself refers to it only weakly
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """Cancel what is under way, and end the thread."""
        with self._lock:
            self._is_stopped = True
            loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            asyncio.run_coroutine_threadsafe(self._cancel_all(), loop)
            self._thread.join(STOP_S)
            if not self._thread.is_alive():
                loop.close()

    async def _cancel_all(self) -> None:
        await asyncio.sleep(0)  # a task that is cancelled before its first step tells nobody
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_S / 2)
            # What a client runs on threads of its own hears of it a moment later, and takes the GIL to hear it (pyo3):
            # once the interpreter has ended, that would be a panic, with a page of text.
            await asyncio.sleep(GRACE_S)
        asyncio.get_running_loop().stop()


_thread = _LoopThread()


def start(make: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run the coroutine ``make()`` on the loop's thread.  Blocks: no.  Raises: RuntimeError as the interpreter ends."""
    _thread.start(make)


def run(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The result of the coroutine ``make()``, run on the loop's thread.  Blocks.  Raises: what it raises."""
    result: Future[T] = Future()

    async def settle() -> None:
        try:
            result.set_result(await make())
        except BaseException as error:  # raised again by who waits
            result.set_exception(error)

    start(settle)
    return result.result()


def _start_anew() -> None:
    global _thread  # noqa: PLW0603  # the parent's thread is not in the child
    _thread = _LoopThread()


def _stop() -> None:
    _thread.stop()


atexit.register(_stop)
os.register_at_fork(after_in_child=_start_anew)
