"""The event loop on which stores answer that are asynchronous: one thread for all of them.

Guarantees: what is started on it runs to its end, or is cancelled when the interpreter ends, and then waited for; if a
store has cancelled what it awaits, that is an error of this one fetch; a forked child has a loop of its own.  asyncio,
whose import takes longer than pagein's, is imported with the first start.
Assumes: what runs on it does not block it.  What it has threads for (`asyncio.to_thread`) ends soon: the interpreter
waits for those.
Not here: what the answer is for (ranges.py); the loop of a user's own program (aio.py).
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import cancelled, shutting_down
from ..mm.sync import go_in

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")
Make = Callable[[], Coroutine[Any, Any, T]]
Ended = Callable[[BaseException | None], object]

GRACE_S = 0.05
STOP_S = 2.0
"""At the end of the interpreter, so long is waited for what was cancelled."""


class _LoopThread:
    """Started when it is first needed."""

    def __init__(self) -> None:
        self.after_fork()

    def after_fork(self) -> None:
        """Begin anew: the parent's thread is not in the child."""
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_stopped = False

    def start(self, make: Make[None], ended: Ended, source: str | None) -> None:
        """Run the coroutine ``make()`` on the loop, then call ``ended`` there, with what it has raised, or None.

        What is cancelled there has raised OSError: ECANCELED, of *source*; at the interpreter's end RuntimeError.

        Blocks: no.  Raises: RuntimeError as the interpreter ends.
        """
        loop = self._loop
        if loop is None:
            loop = self._begin()
        loop.call_soon_threadsafe(self._spawn, loop, make, ended, source)

    def _begin(self) -> asyncio.AbstractEventLoop:
        import asyncio

        with self._lock:
            if self._is_stopped:
                raise shutting_down()
            if self._loop is None:
                loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_serve, args=(loop,), name="pagein-loop", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # no thread is to be had
                    loop.close()
                    raise
                self._loop = loop
            return self._loop

    def _spawn(self, loop: asyncio.AbstractEventLoop, make: Make[None], ended: Ended, source: str | None) -> None:
        task = loop.create_task(self._run(make, ended, source))
        self._tasks.add(task)  # the loop itself refers to it only weakly
        task.add_done_callback(self._tasks.discard)

    async def _run(self, make: Make[None], ended: Ended, source: str | None) -> None:
        from asyncio import CancelledError

        try:
            await make()
        except CancelledError as error:
            # By `stop`, or by a store: of something that it awaits, or of a scope that this task is in.
            told: Exception = shutting_down() if self._is_stopped else cancelled(source)
            told.__cause__ = error
            ended(told)
        except BaseException as error:
            ended(error)
        else:
            ended(None)

    def stop(self) -> None:
        """Cancel what is under way, and end the thread."""
        with self._lock:
            self._is_stopped = True
            loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            import asyncio

            asyncio.run_coroutine_threadsafe(self._cancel_all(), loop)
            self._thread.join(STOP_S)
            if not self._thread.is_alive():
                loop.close()

    async def _cancel_all(self) -> None:
        import asyncio

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


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    go_in()  # for good: all that is on its way comes here, and waits for this thread
    loop.run_forever()


_thread = _LoopThread()
start: Callable[[Make[None], Ended, str | None], None] = _thread.start
atexit.register(_thread.stop)
os.register_at_fork(after_in_child=_thread.after_fork)


def run(make: Make[T], source: str | None = None) -> T:
    """The result of the coroutine ``make()``, run on the loop's thread.  Blocks.  Raises: as `start` says."""
    from concurrent.futures import Future

    result: Future[T] = Future()

    async def settle() -> None:
        result.set_result(await make())

    def ended(error: BaseException | None) -> None:
        if error is not None:
            result.set_exception(error)

    start(settle, ended, source)
    return result.result()
