"""What a store's objects were when they were last looked at, each with a reader of that version.

Guarantees: who looks at what another is looking at already gets the same answer, from one request, if that one has not
begun longer ago than the answer may be old; an object that was written to by way of us is looked at anew by whoever
asks afterwards; at most *objects_max* are known at once.
Assumes: steps run where no signal can interrupt them (mm/workqueue.py).
Lock order: ours is held for single steps on tables, and no other is taken under it.
Not here: how a store is asked (asking.py).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, cast

from ... import aio
from ...mm import filemap
from ...mm.debug import before_wait, called, having
from ...mm.locking import OPEN
from ...mm.lockorder import LOOK
from ...mm.readahead import adopt
from ...mm.sync import Errand
from .asking import Answer, ObstoreAsker, OtherAsker

if TYPE_CHECKING:
    from obspec import Attributes, ObjectMeta

    from ... import looks
    from ...cache import PageCache
    from ...mm.filemap import Parts
    from ...mm.sync import MakeWaiter, Steps, Waiter
    from ...mm.zone import Zone
    from .ranges import Wanted


class Known:
    """One version of an object."""

    __slots__ = ("_answer", "looked_at_s", "reader", "size_bytes", "was_used")

    def __init__(self, reader: aio.HitReader, answer: Answer, looked_at_s: float) -> None:
        self.reader: aio.HitReader = reader
        self._answer = replace(answer, first=b"")
        self.size_bytes: int = answer.meta["size"]
        self.looked_at_s: float = looked_at_s
        self.was_used: bool = False

    @property
    def meta(self) -> ObjectMeta:
        """A copy of what the store says of it: whoever has it may change it."""
        return cast("ObjectMeta", dict(self._answer.meta))

    @property
    def attributes(self) -> Attributes:
        """A copy."""
        return dict(self._answer.attributes)

    def parts(self, start: int, stop: int) -> Parts[bytes]:
        """Bytes [start, stop), which it has.  (A hit is tried first, because that is one look-up.)"""
        data: bytes | None = self.reader.pread(stop - start, start)
        return (yield from self.reader._pread_parts(stop - start, start)) if data is None else data

    def read(self, start: int, stop: int) -> bytes:
        """Bytes [start, stop).  Blocks: interruptibly."""
        return filemap.run_parts(self.reader._mapping.zone, self.parts(start, stop))

    async def read_async(self, start: int, stop: int) -> bytes:
        """Bytes [start, stop)."""
        return await aio.run_parts(self.reader._mapping.zone, self.parts(start, stop))


class Look:
    """Somebody's question what an object is now, and who waits for the answer."""

    def __init__(self, wanted: Wanted | None, known: Known | None) -> None:
        self.wanted = wanted
        self.was_known = known
        self.began_s: float = monotonic()
        self.aside: looks.Look | None = None
        """As the cache knows it, from when the store is asked."""
        self.ends_before = 0
        """The table's `written.ends` then."""
        self.waiters: list[Waiter] = []
        self.has_ended = False
        self.follower: Look | None = None
        """That of those for whom this one began too early."""
        self.answer: Answer | None = None
        self.error: BaseException | None = None
        self.known: Known | None = None
        """The answer, as all get it; None while the object is being written in this cache, or was changed since."""

    def piece(self, start: int, stop: int) -> bytes | None:
        """Bytes [start, stop), if they came with the answer."""
        if self.answer is None:
            return None
        with memoryview(self.answer.first) as first:
            at = start - self.answer.first_offset
            return bytes(first[at : at + stop - start]) if at >= 0 and at + stop - start <= first.nbytes else None


class KnownObjects:
    """Of one store, in one cache."""

    def __init__(
        self, asker: ObstoreAsker | OtherAsker, cache: PageCache, *, lifetime_s: float, objects_max: int
    ) -> None:
        self._asker = asker
        self.cache: PageCache = cache
        self.zone: Zone = cache._zone
        self._lifetime_s = lifetime_s
        self._objects_max = objects_max
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._known: dict[str, Known] = {}
        """In the order in which they came; the first go first, but for those that were used since (CLOCK)."""
        self._looks: dict[str, Look] = {}

    def _own_lock(self) -> threading.Lock:
        if self._pid != os.getpid():  # a child: what its parent's threads were about does not end here
            self._begin_anew()
        return self._lock

    def __len__(self) -> int:
        return len(self._known)

    def find(self, path: str) -> Known | None:
        """What is known, if it was looked at lately.  No lock, no I/O."""
        known = self._known.get(path)
        if known is None or monotonic() - known.looked_at_s >= self._lifetime_s or known.reader.closed:
            return None
        known.was_used = True
        return known

    def look_steps(self, path: str, wanted: Wanted | None, make_waiter: MakeWaiter) -> Steps[Look]:
        """Ask the store, or wait for who does: if he began too long ago, for who begins next.

        Raises: what the store raises.
        """
        before_wait(self.zone, LOOK, path)
        oldest_s = monotonic() - self._lifetime_s
        too_old: Look | None = None
        while True:
            with self._own_lock():
                look = None if too_old is None else too_old.follower  # which may have ended before this one woke up
                look = look or self._looks.get(path)
                is_first = look is None
                if look is None:
                    known = self._known.get(path)
                    look = Look(wanted, None if known is None or known.reader.closed else known)
                    look.known = self.find(path)
                    if look.known is not None:  # another's look has ended since the caller found nothing
                        return look
                    self._looks[path] = look
                    if too_old is not None:
                        too_old.follower = look
                waiter = None if look.has_ended else make_waiter()
                if waiter is not None:
                    look.waiters.append(waiter)
            if is_first:
                look.ends_before = self.cache._table.written.ends
                look.aside = self.cache._table.looks.begin_aside(self._asker.source(path).key)
                yield Errand(partial(self._ask, path, look), partial(self._start, path, look))
            if waiter is not None:
                yield waiter
            if look.began_s >= oldest_s:
                break
            too_old = look
        if look.error is not None:
            try:
                raise look.error
            finally:
                del look, too_old  # no cycle, by way of the error's traceback
        return look

    def forget(self, paths: Iterable[str]) -> None:
        """They may have been changed; also whatever the store would have been told to be the same.  Who opens them
        through the same cache looks, too."""
        each = [path for bare in paths for path in _spellings(bare)]
        with self._own_lock():
            for path in each:
                self._looks.pop(path, None)
                self._known.pop(path, None)
        for key in {self._asker.source(path).key for path in each}:
            self.cache._table.note_written_past(key)

    def forget_version(self, path: str, known: Known) -> None:
        """This one is no more."""
        with self._own_lock():
            if self._known.get(path) is known:
                del self._known[path]

    # -- a look --------------------------------------------------------------------------------------------

    def _ask(self, path: str, look: Look) -> None:
        zone = self.zone
        with having(zone, LOOK, path):
            try:
                look.answer = called(OPEN, zone, partial(self._asker.ask, path, look.wanted, look.was_known))()
            except BaseException as error:  # for whoever waits
                look.error = error
            self._end(path, look)

    def _start(self, path: str, look: Look) -> None:
        """As `_ask`, and nobody waits for it here."""
        zone, asker = self.zone, self._asker

        def done(answer: Answer | None, error: BaseException | None) -> None:
            """On the loop, which must not be held up."""
            look.answer, look.error = answer, error
            start(lambda: self._end(path, look))

        def start(run: Callable[[], object]) -> None:
            try:
                zone.io.start(run)
            except (ValueError, RuntimeError) as refused:  # the cache was closed; the interpreter is ending
                look.error = look.error or refused
                self._wake(path, look)

        if isinstance(asker, ObstoreAsker):
            try:
                asker.start_asking(path, look.wanted, look.was_known, done)
            except RuntimeError as refused:
                look.error = refused
                self._wake(path, look)
        else:
            start(partial(self._ask, path, look))

    def _end(self, path: str, look: Look) -> None:
        try:
            if look.error is None:
                look.known = self._known_by(path, look)
        except BaseException as error:  # for whoever waits
            look.error = error
        self._wake(path, look)

    def _known_by(self, path: str, look: Look) -> Known | None:
        answer, known = look.answer, look.was_known
        assert look.aside is not None, "it was begun before the store was asked"
        if answer is None:
            assert known is not None, "only what is known can be the same"
            if not look.aside.is_outdated:
                known.looked_at_s = look.began_s
            return known
        cache = self.cache
        inode = cache._lookup.hold_looked_at(self._asker.source(path), answer.opened, look.ends_before, look.aside)
        if inode is None:
            return None
        reader = cache._file_of(inode, aio.HitReader)
        reader._file.must_not_wait = True
        if memoryview(answer.first).nbytes:
            adopt(inode.mapping, answer.first, answer.first_offset, monotonic() - look.began_s)
        return Known(reader, answer, look.began_s)

    def _wake(self, path: str, look: Look) -> None:
        assert look.aside is not None, "it was begun before the store was asked"
        self.cache._table.looks.end_aside(look.aside)
        with self._own_lock():
            if self._looks.get(path) is look:  # else it was forgotten meanwhile
                del self._looks[path]
                if look.known is not None:
                    self._known[path] = look.known
                    self._leave_some()
            look.has_ended = True
            waiters, look.waiters = look.waiters, []
        for waiter in waiters:
            waiter.wake()
        self.zone.workqueue.kick_if_possible()  # for those who wait without a thread

    def _leave_some(self) -> None:
        """Under the lock."""
        while len(self._known) > self._objects_max:
            path = next(iter(self._known))
            known = self._known.pop(path)
            if known.was_used:
                known.was_used = False
                self._known[path] = known


def _spellings(path: str) -> tuple[str, ...]:
    """All of which the store may take for the same object."""
    bare = path.strip("/")
    return path, bare, f"/{bare}", f"{bare}/", f"/{bare}/"
