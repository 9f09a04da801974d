"""What one exercise works with: the subject opened anew, a cache over it, and what is expected of its bytes.

Guarantees: a cache that was made here is closed when the exercise is over, and what it then still holds is a breach.
Not here: who runs exercises, and waits for them no longer than is reasonable (runner.py).
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import NoReturn, TypeVar

from ...cache import Inode, PageCache
from ...errors import UnwrittenDataError
from ...file import File
from ...mm.aops import AddressSpaceOperations
from ...stores.source import Opened, Source, WritableSource
from ...units import PAGE_SIZE, page_count_for
from ...written import give_up_at_exit
from ..leaks import leaks, settle
from .content import content
from .probe import Probe, probe_of
from .record import Record, where_raised
from .subject import Subject

T = TypeVar("T")

CACHE_BYTES = 64 << 20
SETTLE_S = 60.0
"""For what was read ahead; a store that never ends it is found out before (runner.py)."""
SAMPLE_PAGES_MAX = 24
"""So many pages of a file are read."""
PREPARED_BYTES = 6 * PAGE_SIZE + 1234
"""What is written to an empty file to have something to read."""
MAKING = "making what is checked"
DECLINED_MAX = 100
"""So often in a row, and..."""
DECLINED_S = 1.0
"""...for so long a store may decline what it is given."""


class Stop(Exception):
    """The exercise has seen enough: breaches are on record."""


class NotApplicable(Exception):
    """The exercise has nothing to do with this store, and says why."""


class Rig:
    """The means of one exercise."""

    def __init__(self, subject: Subject, baseline: dict[int, bytes]) -> None:
        self.subject = subject
        self.record: Record = Record()
        self.baseline = baseline
        """What a page held when it was read alone: what other ways of reading are compared with."""
        self.opened: Opened
        self.probe: Probe
        self.size_bytes: int = 0
        self.content: bytes | None = subject.content
        self.caches: list[PageCache] = []
        self.given_up: threading.Event = threading.Event()
        """Set when nobody waits for the exercise any more."""
        self.is_open: bool = False
        self._made: Source | Opened | None = None

    def anew(self) -> Rig:
        """Another of the same exercise, of which the subject is made anew."""
        other = Rig(self.subject, {})
        other.record, other.caches, other.given_up = self.record, self.caches, self.given_up
        return other

    def give_up(self) -> None:
        """The exercise may never end: what is in its caches then is for a store that never takes it."""
        self.given_up.set()
        for cache in list(self.caches):
            give_up_at_exit(cache)

    # -- opening -------------------------------------------------------------------------------------------

    def made(self) -> Source | Opened:
        """What the subject is in this exercise."""
        if self._made is None:
            with self.record.call(MAKING):
                self._made = self.subject.made()
        return self._made

    def open(self, *, writing: bool = False) -> Probe:
        """Open the subject, and look at its operations from now on.  Raises: Stop."""
        made = self.made()
        if isinstance(made, Opened):
            self.opened = made
        elif writing and isinstance(made, WritableSource):
            open_it = partial(made.open_for_writing, create=False, exclusive=False, truncate=False)
            self.opened = self.opened_by("open_for_writing", open_it)
        else:
            self.opened = self.opened_by("source.open()", made.open)
        self.is_open = True
        self.probe = probe_of(self.opened.ops, self.record)
        self.stop_if_breached()
        self.size_bytes = self.opened.size_bytes
        return self.probe

    def ask(self, where: str, call: Callable[[], T]) -> T:
        """What a source, or what it has opened, answers.  Raises: OSError; Stop, with any other error on record."""
        with self.record.call(where):
            try:
                return call()
            except OSError:
                raise
            except BaseException as error:
                self.fail("R8", f"it raised {where_raised(error)}", where)

    def opened_by(self, where: str, call: Callable[[], object], *, failed: str = "O1") -> Opened:
        """What a source has opened; *failed* is the clause that an OSError breaks.  Raises: Stop."""
        try:
            opened = self.ask(where, call)
        except OSError as error:
            self.fail(failed, f"it raised {where_raised(error)}", where)
        return self.require_opened(opened, where)

    def require_opened(self, opened: object, where: str) -> Opened:
        """What a source has returned.  Raises: Stop if it is no `Opened`, or one of which something is wrong."""
        if not isinstance(opened, Opened):
            self.fail("O1", f"it returned {opened!r}", where)
        wrong = _wrong_about(opened)
        if wrong is not None:
            self.shut(opened)
            self.fail("O1", wrong, where)
        return opened

    def shut(self, opened: Opened) -> None:
        """Close it.  What that raises is on record."""
        with self.record.call("Opened.close()"):
            try:
                opened.close()
            except BaseException as error:
                if not any(one.number == "O9" for one in self.record.breaches):  # else it is the same mistake
                    self.record.breach("O9", f"it raised {where_raised(error)}", "Opened.close()")

    def open_to_read(self) -> Probe:
        """As `open`; an empty file that may be written to is given a content first."""
        self.open()
        if not self.size_bytes:
            reason = self.subject.why_not_written(self.made())
            if reason is not None:
                raise NotApplicable(f"the file is empty, and {reason}")
            is_source = not isinstance(self.made(), Opened)
            if is_source:
                self._reopen(writing=True)
            self.content = content(0, PREPARED_BYTES)
            self.empty()
            with self.cache() as cache, self.file(cache, "r+b") as file:
                file.pwrite(self.content, 0)
                self.store(file.fsync)
            self.size_bytes = PREPARED_BYTES
            if is_source:
                self._reopen()
            if self.size_bytes != PREPARED_BYTES:
                self.fail(
                    "W5", f"it has {self.size_bytes} bytes, not the {PREPARED_BYTES} of the file", "source.open()"
                )
        return self.probe

    def _reopen(self, *, writing: bool = False) -> None:
        self.close()
        self.open(writing=writing)

    def empty(self) -> None:
        """Have the store forget what an earlier exercise has left: bare operations say that they are empty."""
        if isinstance(self.made(), Opened):
            self.probe.set_size(0)
            self.size_bytes = 0

    def store(self, fsync: Callable[[], object]) -> None:
        """Have something stored, by *fsync* again and again: it fails with EAGAIN where all was declined."""
        declined, until_s = 0, time.monotonic() + DECLINED_S
        while True:
            self.record.last_error = ""
            try:
                fsync()
            except OSError as error:
                self.stop_if_breached()
                if error.errno != errno.EAGAIN or self.record.last_error:
                    self.fail("W2", f"it failed, though nothing is wrong: {self.why(error)}", "fsync")
                declined += 1
                if declined > DECLINED_MAX and time.monotonic() > until_s:
                    self.fail("W19", f"it failed {declined} times in a row: {error}", "fsync")
            else:
                self.stop_if_breached()
                return

    def source(self) -> Source:
        """The subject's source.  Raises: NotApplicable if it has none."""
        made = self.made()
        if isinstance(made, Opened):
            raise NotApplicable("operations were given, not a source")
        return made

    @contextmanager
    def cache(self) -> Iterator[PageCache]:
        """A cache that checks what the core can check."""
        cache = PageCache(CACHE_BYTES, dirty_age_s=3600.0, debug=True, revalidate="never")
        self.caches.append(cache)
        if self.given_up.is_set():  # in this order, and the other way round in `give_up`: one of the two has seen it
            give_up_at_exit(cache)
        try:
            yield cache
            self.stop_if_breached()
            settle(cache._zone, SETTLE_S)
            self.record.note_kept()
            for left in leaks(cache._zone):
                self.record.breach("L1", left, "after the last read or fsync had returned")
            self._close(cache)
        finally:
            with suppress(Exception):  # what was seen before says more
                cache.close(discard=True)
            self.caches.remove(cache)

    def _close(self, cache: PageCache) -> None:
        try:
            cache.close()
        except UnwrittenDataError as error:
            if not self.probe.commits:
                raise
            uncommitted_bytes = self.probe.uncommitted_bytes
            self.fail("W12", f"uncommitted_bytes was {uncommitted_bytes!r} after fsync, so that {error}", "fsync")

    @contextmanager
    def file(self, cache: PageCache, mode: str = "rb", *, size_bytes: int | None = None) -> Iterator[File]:
        """The subject in *cache*."""
        with self.inode(cache, size_bytes).open(mode) as file:
            assert isinstance(file, File)
            yield file

    def inode(self, cache: PageCache, size_bytes: int | None = None) -> Inode:
        """The subject in *cache*, as an inode."""
        size_bytes = self.size_bytes if size_bytes is None else size_bytes
        return cache.inode(self.probe, size_bytes=size_bytes, name=self.subject.name)

    def close(self) -> None:
        """Close what was opened for this exercise."""
        if self.is_open:
            self.is_open = False
            if not self.subject.is_shared:
                self.shut(self.opened)

    # -- what to read --------------------------------------------------------------------------------------

    @property
    def page_count(self) -> int:
        """Pages of the file."""
        return page_count_for(self.size_bytes)

    @property
    def has_short_page(self) -> bool:
        """Whether the last page is not full."""
        return self.size_bytes % PAGE_SIZE != 0

    def sample(self) -> list[int]:
        """Pages to read: all, or the first, the last, and some between."""
        count = self.page_count
        if count <= SAMPLE_PAGES_MAX:
            return list(range(count))
        third = SAMPLE_PAGES_MAX // 3
        middle = count // 2
        return [*range(third), *range(middle, middle + third), *range(count - third, count)]

    def size_of(self, index: int) -> int:
        """How many bytes of the file are in a page."""
        return min(PAGE_SIZE, self.size_bytes - index * PAGE_SIZE)

    def expected(self, index: int) -> bytes | None:
        """What a page has to hold, as far as is known."""
        if self.content is not None:
            return self.content[index * PAGE_SIZE : index * PAGE_SIZE + self.size_of(index)]
        return self.baseline.get(index)

    # -- what to think of it -------------------------------------------------------------------------------

    def stop_if_breached(self) -> None:
        """What comes after a breach says nothing."""
        if self.record.breaches:
            raise Stop

    def why(self, error: OSError) -> str:
        """What has led to it, as the store raised it, if it was a call of the store's that did."""
        return self.record.last_error or where_raised(error)

    def fail(self, number: str, seen: str, where: str) -> NoReturn:
        """Record a breach, and stop."""
        self.record.breach(number, seen, self.record.here(where))
        raise Stop

    def at_once(self, tasks: Iterable[Callable[[], object]]) -> None:
        """Run all of *tasks*, each in a thread of its own.  Raises: the first error of any."""
        errors: list[BaseException] = []
        tasks = list(tasks)
        barrier = threading.Barrier(len(tasks))

        def run(task: Callable[[], object]) -> None:
            try:
                barrier.wait()
                task()
            except BaseException as error:  # raised below
                errors.append(error)

        threads = [threading.Thread(target=run, args=(task,), name="pagein-check", daemon=True) for task in tasks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]


def _wrong_about(opened: Opened) -> str | None:
    if not isinstance(opened.ops, AddressSpaceOperations):
        return f"ops is {opened.ops!r}"
    if not isinstance(opened.size_bytes, int) or opened.size_bytes < 0:
        return f"size_bytes is {opened.size_bytes!r}"
    return None if isinstance(opened.version, str) else f"version is {opened.version!r}"
