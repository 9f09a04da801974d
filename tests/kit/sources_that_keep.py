"""Sources without a mistake that keep something beyond close: to share it, to use it again, or until it has ended."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import ClassVar

from tests.kit.reading_mistakes import Right
from tests.kit.source_mistakes import Object, Place

from pagein.mm.openfile import OpenFile
from pagein.mm.page import Page
from pagein.stores import Opened

LINGERING_S = 0.3
PLACES = 32
"""Of a pool, or of a cache of connections: more than the opens of all exercises before have filled."""


class LingeringThreads(Right):
    """Each read has a thread of its own, which ends by itself, a little later."""

    def readpage(self, file: OpenFile, page: Page) -> int:
        threading.Thread(target=self.bring, args=(page,), name="lingering").start()
        return 0

    def bring(self, page: Page) -> None:
        try:
            self.fill(page)
        except OSError as error:
            page.end_read(error)
        else:
            page.end_read()
        threading.Event().wait(LINGERING_S)


class PooledReads(Right):
    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.pool = pool

    def readpage(self, file: OpenFile, page: Page) -> int:
        self.pool.submit(self.bring, page)
        return 0

    def bring(self, page: Page) -> None:
        try:
            self.fill(page)
        except OSError as error:
            page.end_read(error)
        else:
            page.end_read()


class Keeping(Place):
    """A place of which each open keeps something; `end` gives back what is kept for good."""

    def source(self, path: str) -> Object:
        return _Keeping(self, path)

    def keep(self, opened: Opened) -> Opened:
        raise NotImplementedError

    def end(self) -> None:
        pass


class _Keeping(Object):
    def open(self) -> Opened:
        assert isinstance(self.place, Keeping)
        return self.place.keep(super().open())


class EndsItsPoolWithoutWaiting(Keeping):
    """The threads of its pool end soon after close."""

    def keep(self, opened: Opened) -> Opened:
        pool = ThreadPoolExecutor(4)
        return opened._replace(ops=PooledReads(pool), close=lambda: pool.shutdown(wait=False))


class GrowsAPoolForAll(Keeping):
    """One more thread with each open, up to so many."""

    def __init__(self) -> None:
        super().__init__()
        self.ending = threading.Event()
        self.threads: list[threading.Thread] = []

    def keep(self, opened: Opened) -> Opened:
        if len(self.threads) < PLACES:
            self.threads.append(threading.Thread(target=self.ending.wait, name="one for all"))
            self.threads[-1].start()
        return opened

    def end(self) -> None:
        self.ending.set()
        for thread in self.threads:
            thread.join()


class KeepsConnections(Keeping):
    """One more with each open, up to so many, and then those again."""

    connections_max: ClassVar[int] = PLACES

    def __init__(self) -> None:
        super().__init__()
        self.connections: list[tuple[int, int]] = []

    def keep(self, opened: Opened) -> Opened:
        if len(self.connections) < self.connections_max:
            self.connections.append(os.pipe())
        return opened

    def end(self) -> None:
        for pair in self.connections:
            for fd in pair:
                os.close(fd)


class KeepsOneDescriptor(KeepsConnections):
    connections_max = 1


class OpensItAnew(Keeping):
    """The descriptor of the time before is closed when the next is open: under another number each time."""

    def __init__(self) -> None:
        super().__init__()
        self.last = os.open(os.devnull, os.O_RDONLY)

    def keep(self, opened: Opened) -> Opened:
        before, self.last = self.last, os.open(os.devnull, os.O_RDONLY)
        os.close(before)
        return opened

    def end(self) -> None:
        os.close(self.last)


class Descriptor:
    """Closed when nobody has it."""

    def __init__(self) -> None:
        self.fd = os.open(os.devnull, os.O_RDONLY)

    def __del__(self) -> None:
        os.close(self.fd)


class OneOfEachThread(Right):
    """The cache's workers end with the cache, a little later: what they have goes with them."""

    blocking = True
    mine = threading.local()

    def fill(self, page: Page) -> None:
        if not hasattr(self.mine, "descriptor"):
            self.mine.descriptor = Descriptor()
        super().fill(page)


class LeftToPython(Keeping):
    """In a circle of references, which Python finds when it looks."""

    def keep(self, opened: Opened) -> Opened:
        circle: list[object] = [Descriptor()]
        circle.append(circle)
        return opened


@contextmanager
def ended(place: Keeping) -> Iterator[Keeping]:
    """*place*, which gives everything back in the end."""
    try:
        yield place
    finally:
        place.end()
