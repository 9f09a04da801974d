"""`Warming`: several sources at one time on their way into a cache, each open no longer than it takes.

Guarantees: no more than `SIDE_BY_SIDE_MAX` are open at once, however many there are; one source is brought once,
however often, and by whatever name, it is given; what is wrong with one keeps no other from coming; no more is asked
for than fits, but for the first bytes, which come with an open.
Assumes: nobody else uses the cache.
Not here: what is told of it (warm.py).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Hashable, Iterable, Iterator

import pagein

from ..file import File
from ..stores import source_of
from ..units import PAGE_SHIFT, page_count_for

REFRESH_S = 0.1
SIDE_BY_SIDE_MAX = 16
"""Of a small source nearly all is the wait for its store's answers, so that many are to wait at once; those that are
large share the store's pipe.  It is also how many files of this machine are open."""
STEP_BYTES_MAX = 64 << 20
"""So much is asked for at a time, or a quarter of the cache."""


class ToWarm:
    """One source, and how far it is.  Written to by the thread that brings it, but for one that is in line."""

    def __init__(self, text: str) -> None:
        self.name: str = text
        """What it was called, and once it has been opened what it is called."""
        self.version: str = ""
        self.size_bytes: int | None = None
        """None until it has been opened."""
        self.wanted_bytes: int = 0
        """So much of it has room."""
        self.error: OSError | ValueError | None = None
        self.has_ended: bool = False
        """No more of it will come."""
        self._text = text
        self._file: File | None = None
        self._come_bytes = 0
        """When it was closed."""

    @property
    def come_bytes(self) -> int:
        """How much of what is wanted is here, or was when it was closed.  By any thread."""
        file = self._file
        if file is not None:
            try:
                return file.resident_bytes(0, self.wanted_bytes)
            except ValueError:  # it has just been closed
                pass
        return self._come_bytes

    def open(self, cache: pagein.PageCache) -> File:
        """Raises: OSError, ValueError."""
        file = cache.open(self._text)
        self.name, self.version, self.size_bytes = file.name, file.version, file.size_bytes
        return file

    def begin(self, file: File, wanted_bytes: int) -> None:
        """So much is to come."""
        self.wanted_bytes = wanted_bytes
        self._file = file

    def end(self) -> None:
        """No more comes, or its file is about to be closed."""
        self._come_bytes = self.come_bytes
        self._file = None


class Warming:
    """Threads that take one source after the other: how far they are can be told meanwhile, and Ctrl-C heard."""

    def __init__(self, cache: pagein.PageCache, texts: Iterable[str]) -> None:
        self._cache = cache
        self.failures: deque[OSError | ValueError] = deque()
        """What is to be told still: one for each source that could not be brought whole."""
        self.sources: list[ToWarm] = []
        """Each once."""
        self._in_line: deque[ToWarm] = deque()
        self._enlist(texts)
        self._step_bytes = min(STEP_BYTES_MAX, max(1, cache.size_bytes // 4))
        self._lock = threading.Lock()
        self._room_pages = cache.size_bytes >> PAGE_SHIFT
        """Pages that are nobody's yet.  Under the lock."""
        self._stopping = threading.Event()
        self._mistakes: deque[BaseException] = deque()

    def come(self) -> Iterator[int]:
        """How many bytes have come, now and then, until all have, or will not.  Those of which something is wrong are
        in `failures`."""
        try:
            # Again, where what went wrong has left room to those for whom there was none.
            while self._in_line and self._room_pages and not self._mistakes:
                threads = [
                    # Daemons: a store that does not answer must not keep the command from ending.
                    threading.Thread(target=self._guarded, name=f"warm-{number}", daemon=True)
                    for number in range(min(SIDE_BY_SIDE_MAX, len(self._in_line)))
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    while thread.is_alive():
                        thread.join(REFRESH_S)
                        yield self._come_bytes()
        finally:
            self._stopping.set()
        if self._mistakes:
            raise self._mistakes[0]
        yield self._come_bytes()

    def expected_bytes(self, come_bytes: int) -> int | None:
        """How many bytes there will be: until each has been opened, as if the others were as large as those that have
        been; None before the first."""
        opened = [one.wanted_bytes for one in self.sources if one.size_bytes is not None]
        if not opened:
            return None
        unknown_count = sum(one.size_bytes is None and one.error is None for one in self.sources)
        expected_bytes = sum(opened) + sum(opened) * unknown_count // len(opened)
        return max(come_bytes, min(expected_bytes, self._cache.size_bytes))

    @property
    def ended_count(self) -> int:
        """Sources of which no more will come."""
        return sum(one.has_ended for one in self.sources)

    def _enlist(self, texts: Iterable[str]) -> None:
        known = set[Hashable]()
        for text in texts:
            one = ToWarm(text)
            error: OSError | ValueError | None = None
            key: Hashable
            try:
                key = source_of(text).key
            except (OSError, ValueError) as why:
                key, error = text, why
            if key in known:
                continue
            known.add(key)
            self.sources.append(one)
            if error is None:
                self._in_line.append(one)
            else:
                self._fail(one, error)

    def _come_bytes(self) -> int:
        return sum(one.come_bytes for one in self.sources)

    # -- a thread ------------------------------------------------------------------------------------------

    def _guarded(self) -> None:
        try:
            # (The room is looked at without the lock: who sees too much of it opens a source for which there is none.)
            while self._room_pages and not self._stopping.is_set():
                try:
                    one = self._in_line.popleft()
                except IndexError:
                    return
                self._bring(one)
        except BaseException as error:  # raised again by come()
            self._mistakes.append(error)
            self._stopping.set()

    def _bring(self, one: ToWarm) -> None:
        room_pages = 0
        try:
            with one.open(self._cache) as file:
                room_pages = self._take_room(page_count_for(file.size_bytes))
                if file.size_bytes and not room_pages:  # others were faster; but they may fail, and leave room
                    self._in_line.append(one)
                    return
                one.begin(file, min(file.size_bytes, room_pages << PAGE_SHIFT))
                try:
                    self._populate(file, one.wanted_bytes)
                finally:
                    one.end()
        except (OSError, ValueError) as error:
            if self._stopping.is_set():  # perhaps because the cache has been closed
                return
            one.wanted_bytes = one.come_bytes
            self._give_room_back(room_pages - page_count_for(one.come_bytes))
            self._fail(one, error)
        one.has_ended = True

    def _populate(self, file: File, wanted_bytes: int) -> None:
        for offset in range(0, wanted_bytes, self._step_bytes):
            if self._stopping.is_set():
                return
            size_bytes = min(self._step_bytes, wanted_bytes - offset)
            if file.populate(offset, size_bytes) < size_bytes:
                file.advise("random")  # nothing beyond it
                file.pread(size_bytes, offset)  # which raises why it did not come, or brings it after all

    def _fail(self, one: ToWarm, error: OSError | ValueError) -> None:
        one.error, one.has_ended = error, True
        self.failures.append(error)

    def _take_room(self, page_count: int) -> int:
        with self._lock:
            taken_pages = min(page_count, self._room_pages)
            self._room_pages -= taken_pages
            return taken_pages

    def _give_room_back(self, page_count: int) -> None:
        with self._lock:
            self._room_pages += page_count
