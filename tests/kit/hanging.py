"""Stores that hang for ever, each at another place."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

from tests.kit.reading_mistakes import Right
from tests.kit.writing_mistakes import RightWriting

from pagein.mm.openfile import OpenFile
from pagein.mm.page import Page

NEVER = threading.Event()
HANGS = threading.Event()
"""Set by `HangsInSetSize`."""


class HangsInAPool(Right):
    """As a server that never answers: nobody ends the pool, for which Python waits when it ends."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(2)

    def readpage(self, file: OpenFile, page: Page) -> int:
        self.pool.submit(NEVER.wait)
        return 0


class LeavesAThread(Right):
    """A new one each time, for which Python waits when it ends."""

    def __init__(self) -> None:
        threading.Thread(target=NEVER.wait, name="left").start()


class HangsWhenMade(Right):
    def __init__(self) -> None:
        NEVER.wait()


class HangsInSetSize(RightWriting):
    """Once the file has been written: its cache is left with data."""

    def set_size(self, size_bytes: int) -> None:
        if size_bytes > 5000:
            HANGS.set()
            NEVER.wait()
        super().set_size(size_bytes)


class HangsInStore(RightWriting):
    def store(self, buffer: memoryview, offset_bytes: int) -> None:
        NEVER.wait()


class HangsAndIsInterrupted(RightWriting):
    """As if its author had pressed Ctrl-C when it did not go on."""

    def set_size(self, size_bytes: int) -> None:
        if size_bytes > 5000:
            os.kill(os.getpid(), signal.SIGINT)
            NEVER.wait()
        super().set_size(size_bytes)
