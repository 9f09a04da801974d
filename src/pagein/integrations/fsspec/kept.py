"""`KeptFiles`: files that were opened to answer one question, kept for the next ones.

Guarantees: a path is opened once for all who want it at that time; it is opened anew after its time, and after it was
forgotten, also by who was about to keep it then.  What is not kept any more is closed when its last reader is done.
Assumes: files are closed when nobody has them (pagein.aio.AsyncFile).
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any

from ...aio import AsyncFile

_Key = tuple[asyncio.AbstractEventLoop, str]


class KeptFiles:
    """At most *files_max*, each for *expiry_s* seconds: None is for ever, 0 not at all."""

    def __init__(
        self,
        open_file: Callable[[str], Coroutine[Any, Any, AsyncFile]],
        *,
        files_max: int,
        expiry_s: float | None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_file = open_file
        self._files_max = files_max
        self._expiry_s = expiry_s
        self._now_s = now_s
        self._opening: dict[_Key, asyncio.Task[AsyncFile]] = {}
        self._begin_anew()
        _all.add(self)

    def _begin_anew(self) -> None:
        """Also after a fork, in the child: its parent's tasks are not its own, and not to be let go as if they were."""
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, AsyncFile]] = OrderedDict()
        """With the time when its version was asked for."""
        self._parents, self._opening = self._opening, {}

    def get(self, path: str) -> AsyncFile | None:
        """The file, if it is kept.  Blocks: no."""
        with self._lock:
            at_s, file = self._kept.get(path, (0.0, None))
            if file is not None and (file.closed or self._is_old(at_s)):
                del self._kept[path]
                return None
            return file

    def _is_old(self, at_s: float) -> bool:
        return self._expiry_s is not None and self._now_s() - at_s >= self._expiry_s

    async def open(self, path: str) -> AsyncFile:
        """The file; asks its store what it is, unless that was just done.  Raises: OSError."""
        file = self.get(path)
        if file is not None:
            return file
        loop = asyncio.get_running_loop()
        key = loop, path
        with self._lock:
            task = self._opening.get(key)
            if task is None:
                task = self._opening[key] = loop.create_task(self._open_and_keep(key))
                task.add_done_callback(lambda task: task.cancelled() or task.exception())  # somebody has heard it
        return await asyncio.shield(task)  # others may wait for it, too

    async def _open_and_keep(self, key: _Key) -> AsyncFile:
        asked_s, path, file = self._now_s(), key[1], None
        try:
            file = await self._open_file(path)
            return file
        finally:
            with self._lock:
                if self._opening.get(key) is asyncio.current_task():  # it was not forgotten meanwhile
                    del self._opening[key]
                    if file is not None and self._expiry_s != 0:
                        self._kept[path] = asked_s, file
                        self._kept.move_to_end(path)
                        while len(self._kept) > self._files_max:
                            self._kept.popitem(last=False)

    def forget(self, *paths: str) -> None:
        """Whoever wants one of these asks anew."""
        with self._lock:
            for path in paths:
                self._kept.pop(path, None)
            for key in [key for key in self._opening if key[1] in paths]:
                del self._opening[key]

    def clear(self) -> None:
        """Whoever wants any asks anew."""
        with self._lock:
            self._kept.clear()
            self._opening.clear()


_all: weakref.WeakSet[KeptFiles] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for kept in list(_all):
        kept._begin_anew()


os.register_at_fork(after_in_child=_after_fork_in_child)
