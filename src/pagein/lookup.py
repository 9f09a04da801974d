"""Finding the inode of a source: what is known of it will do, or its store is asked what it is now.

Guarantees: one inode for one version of one source, however often it is opened; a version that another has replaced is
not found any more, and whoever has to know that it was is told (ESTALE).
Assumes: runs where no signal can interrupt it.  Steps may be interrupted.
Not here: who has an inode (table.py); finding one to write (lookup_for_writing.py); who asks, of several (looks.py);
how old an answer may be (freshness.py).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

from .errors import stale
from .inode import Inode
from .looks import Look
from .mm import readahead
from .mm.debug import called, having
from .mm.locking import OPEN
from .mm.lockorder import LOOK
from .mm.rest import Rest
from .mm.sync import Errand, MakeWaiter, Steps, run_steps
from .stores.source import Opened, Source
from .table import InodeTable, Released

if TYPE_CHECKING:
    from .freshness import Freshness
    from .mm.turn import Turn
    from .mm.zone import AsksStore

T = TypeVar("T")

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
"""What says that there is no such file any more."""


class Lookup:
    """Of one cache.  Lock order: as `InodeTable`, whose lock it takes."""

    def __init__(self, table: InodeTable, freshness: Freshness) -> None:
        self._table = table
        self._zone = table.zone
        self._freshness = freshness
        self._looks = table.looks

    @property
    def at_read_s(self) -> float:
        """How old the last look may be for who reads."""
        return self._freshness.at_read_s

    def start_anew(self) -> None:
        """In a child of a fork: those who look stayed in the parent."""
        self._looks.start_anew()

    # -- for who opens it ------------------------------------------------------------------------------------

    def look_up(self, source: Source) -> Inode:
        """The inode of what *source* is now, held for one file.

        What is known and was looked at lately enough is not looked at again; what is being written through this cache
        is what the cache says it is.  Who looks at what is not known yet brings the first bytes along.
        Blocks: as long as the store takes.
        """
        return run_steps(self.look_up_steps(source, self._zone.door.waiter))

    def look_up_steps(self, source: Source, make_waiter: MakeWaiter) -> Steps[Inode]:
        """As `look_up`."""
        looks_before = self._looks.count
        while True:
            inode = self._known(source.key, looks_before)
            if inode is not None:
                return inode
            look = yield from self._looks.begin_steps(source.key, looks_before, make_waiter)
            if look is not None:
                look_at = partial(self._look_at, source, look)
                inode = yield from self._looked_steps(source, source.key, look, look_at, make_waiter)
                if inode is not None:
                    return inode

    def _looked_steps(
        self, source: Source, key: Hashable, look: Look, look_at: Callable[[], T], make_waiter: MakeWaiter
    ) -> Steps[T]:
        """What ``look_at()`` returns, which blocks: it is called by who has a thread for that; where the store takes no
        more, by an I/O worker when its turn has come.  Raises: what it raises, or *source* when it is asked for its
        store; those who wait for this look, too, are told of that."""
        outcome: list[tuple[T | None, BaseException | None]] = []

        turn, table = look.turn, self._table

        def ended_with(result: T | None, failure: BaseException | None, *, hands_on: bool = True) -> Turn | None:
            outcome.append((result, failure))
            following = turn.end(hands_on=hands_on)
            self._looks.end(key, look, failure if isinstance(failure, Exception) else None)
            return following

        def run() -> Turn | None:
            try:
                with having(self._zone, LOOK, key):
                    result = look_at()
            except BaseException as error:  # for who waits
                following = ended_with(None, error)
            else:
                following = ended_with(result, None)
            if table.has_work:
                if following is not None:  # what there is to do may have to wait for pages of this very store
                    following.start()
                    following = None
                table.follow_up()
            return following

        def fail(error: Exception) -> None:
            ended_with(None, error, hands_on=False)  # who has called this starts the next

        turn.is_for(run, fail)
        try:
            is_turn = not hasattr(source, "device_key") or turn.begin(self._zone.device_of(cast("AsksStore", source)))
        except BaseException as error:  # what it says of its store is wrong: it is in no line, and nobody else ends it
            ended_with(None, error, hands_on=False)
            is_turn = False
        if is_turn:
            yield Errand(turn.look_here, turn.start)
        yield from self._looks.ended_steps(look, make_waiter)
        result, failure = outcome.pop()
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # its traceback refers to this frame: no cycle
        return cast("T", result)

    def _known(self, key: Hashable, looks_before: int) -> Inode | None:
        """The inode, held for one file, if it need not be looked at."""
        with self._table.lock:
            self._table.check_open()
            inode = self._table.by_key.get(key)
            if inode is None:
                return None
            if inode in self._table.written:
                return self._table.counted(inode)
            if not self._is_fresh(inode, looks_before, self._freshness.at_open_s):
                return None
            if inode.opened is not None:
                return self._table.counted(inode)
            again, ends_before = inode.again, self._table.written.ends
        # No I/O, but a store's code.
        return None if again is None else self._held_again(inode, called(OPEN, self._zone, again)(), ends_before)

    def _is_fresh(self, inode: Inode, looks_before: int, most_s: float) -> bool:
        """Whether it was looked at since *looks_before* looks had begun, or *most_s* seconds ago.  Under the lock."""
        if inode.look_number > looks_before:
            return True
        return not inode.found_changed and self._zone.door.now_s() - inode.seen_s < most_s

    def _look_at(self, source: Source, look: Look) -> Inode | None:
        """What *source* is now, held for one file; None to look again, since it may have changed meanwhile."""
        with self._table.lock:
            self._table.check_open()
            known = self._table.by_key.get(source.key)
            ends_before = self._table.written.ends
            ask, again = (known.look, known.again) if known is not None and known.has_validator else (None, None)
            # One that is idle has to be opened anew: by what is known of it, or by asking what it is.
            if known is not None and known.opened is None and again is None:
                ask = None
        asked_s = self._zone.door.now_s()  # later than the look began, if it has waited for its turn
        try:
            opened, rest = self._asked(source, known, ask)
            if opened is None and again is not None and known is not None and known.opened is None:
                opened = called(OPEN, self._zone, lambda: again() or source.open())()
        except OSError as error:
            if known is not None and error.errno in _GONE:
                look.turn.end()  # before what may have to wait for pages of this very store
                self._is_gone(known, ends_before, look)
            raise
        took_s = self._zone.door.now_s() - asked_s
        if opened is None:
            assert known is not None, "it was asked whether it is still the same"
            inode = self._held_again(known, None, ends_before, look)
        else:
            inode = self._held(source, opened, ends_before, look)
        if inode is None:
            return None
        inode.mapping.device.answered(took_s)
        # (One that can grow may have been written to since the head came.)
        if opened is not None and memoryview(opened.head).nbytes and opened.size_bytes and not inode.has_room:
            its_rest = rest if inode.mapping.ops is opened.ops else None  # else it is closed by now
            readahead.adopt_head(inode.mapping, opened.head, took_s, its_rest)
        elif rest is not None:
            rest.close()
        if self._table.has_work:
            look.turn.end()
            self._table.follow_up()
        return inode

    def _asked(
        self, source: Source, known: Inode | None, ask: Callable[[], Opened | None] | None
    ) -> tuple[Opened | None, Rest | None]:
        """What it is now, None if it is what is known; and what comes behind its head."""
        if ask is None and known is None:
            ask = getattr(source, "open_with_head", None)  # of a SourceWithHead; isinstance() takes 30 µs
            if ask is not None:
                self._zone.io.prepare(getattr(source, "workers_ahead", 0))  # most are read on from there
                ask_for_more = getattr(source, "open_with_rest", None)
                if ask_for_more is not None and hasattr(source, "device_key"):
                    return self._opened_with_rest(source, ask_for_more)
        return called(OPEN, self._zone, ask or source.open)(), None

    def _opened_with_rest(self, source: Source, ask: Callable[[int], Opened]) -> tuple[Opened, Rest]:
        """As much of it as is likely to be wanted.  With what is closed then, the rest is."""
        rest = Rest(self._zone.device_of(cast("AsksStore", source)))
        try:
            opened = called(OPEN, self._zone, lambda: ask(rest.size_bytes))()
            rest.came(opened.rest)
        except BaseException:
            rest.close()
            raise
        return opened if opened.rest is None else opened._replace(rest=None, close=rest.closed_with(opened.close)), rest

    def _is_gone(self, known: Inode, ends_before: int, look: Look) -> None:
        """Nothing is there any more, or no file."""
        with self._table.lock:
            if known in self._table.written or known.written_at > ends_before or known.look_number > look.number:
                return
            self._table.note_changed(known, "deleted")
            self._table.forget(known)
            self._looks.outdate(known.key)
        self._table.follow_up()

    def _held_again(
        self, inode: Inode, opened: Opened | None, ends_before: int, look: Look | None = None
    ) -> Inode | None:
        """An inode that is still the same, counted for a file; None if that is over, or it would have to be opened."""
        is_needed = False
        try:
            with self._table.lock:
                self._table.check_open()
                is_current = self._table.by_key.get(inode.key) is inode and not (look is not None and look.is_outdated)
                if not is_current or inode in self._table.written or inode.written_at > ends_before:
                    return None
                if look is not None:
                    inode.was_looked_at(look)
                if inode.opened is None:
                    if opened is None:
                        return None
                    inode.looks_as(opened)
                    inode.mapping.resume(opened.ops)
                    inode.opened, is_needed = opened, True
                return self._table.counted(inode)
        finally:
            if not is_needed and opened is not None:
                self._table.close_all([opened])

    def _held(self, source: Source, opened: Opened, ends_before: int, look: Look) -> Inode | None:
        """The inode of this version of *source*, counted for a file; None to look again, because it was changed through
        this cache since the store was asked, or another has looked since."""
        is_needed = False
        try:
            with self._table.lock:
                self._table.check_open()
                inode = self._table.by_key.get(source.key)
                if inode is None or inode not in self._table.written:
                    inode = self._current(source, opened, ends_before, look)
                    if inode is None:
                        return None
                    inode.was_looked_at(look)
                is_needed = self._is_opened(inode, opened)
                return self._table.counted(inode)
        finally:
            if not is_needed:
                self._table.close_all([opened])

    def hold_looked_at(self, source: Source, opened: Opened, ends_before: int, look: Look) -> Inode | None:
        """The inode of what somebody has looked at himself (`Looks.begin_aside`), held for one file that never sees
        what is written through this cache: *ends_before* was the table's `written.ends` when he asked.  None while
        it is being written, or if what he was told may be older than what is known here.
        """
        is_needed = False
        try:
            with self._table.lock:
                self._table.check_open()
                known = self._table.by_key.get(source.key)
                if known is not None and known in self._table.written:
                    return None
                inode = self._current(source, opened, ends_before, look, may_grow=False)
                if inode is None:
                    return None
                inode.was_looked_at(look)
                is_needed = self._is_opened(inode, opened)
                self._table.counted(inode)
        finally:
            if not is_needed:
                self._table.close_all([opened])
        if self._table.has_work:  # pages of another version, say
            self._table.follow_up()
        return inode

    def _current(
        self, source: Source, opened: Opened, ends_before: int, look: Look, *, may_grow: bool = True
    ) -> Inode | None:
        """The inode that is found from now on, which is this version, as the store has told; None if it may be an
        older one by now.  Under the lock; nobody writes it."""
        inode = self._table.by_key.get(source.key)
        is_same = inode is not None and inode.version == opened.version
        if look.is_outdated:
            return None
        if inode is not None and not is_same and (inode.written_at > ends_before or inode.look_number > look.number):
            return None
        if inode is None or not is_same or (inode.has_room and not may_grow):
            inode = self._table.replace(Inode(self._table.cache, opened, key=source.key, name=source.name))
        inode.source = source
        inode.looks_as(opened)
        return inode

    @staticmethod
    def _is_opened(inode: Inode, opened: Opened) -> bool:
        """Whether it is this that it is read by from now on.  Under the lock."""
        if inode.opened is not None:
            return False
        inode.mapping.resume(opened.ops)
        inode.opened = opened._replace(head=b"", rest=None)
        return True

    # -- looking again, for who reads -----------------------------------------------------------------------

    def is_due(self, inode: Inode) -> bool:
        """Whether who reads it has to look first.  Locks: none; who then does looks again under the lock."""
        if inode in self._table.written:
            return False
        if inode.changed_to is not None or inode.found_changed:
            return True
        return self._zone.door.now_s() - inode.seen_s >= self._freshness.at_read_s

    def look_steps(self, inode: Inode, make_waiter: MakeWaiter) -> Steps[None]:
        """Look whether the store still has this version, unless that is known.

        Blocks: as long as the store takes.  Raises: OSError(ESTALE) if it has another, or none; the store's if it
        does not say; ValueError if the cache is, or is being, closed.
        """
        looks_before = self._looks.count
        is_the_same = False
        while True:
            with self._table.lock:
                self._table.check_open()
                if inode in self._table.written:
                    return
                if inode.changed_to is not None:
                    raise stale(inode.name, was=inode.version, now=inode.changed_to)
                if is_the_same or self._is_fresh(inode, looks_before, self._freshness.at_read_s):
                    return
                # One that is not found any more, but may be the same all the same, is looked at by itself; as is one
                # of which who opens it learns nothing.
                is_found = inode.has_validator and self._table.by_key.get(inode.key) is inode
                key = inode.key if is_found else inode
            try:
                look = yield from self._looks.begin_steps(key, looks_before, make_waiter)
                if look is not None:
                    look_at = partial(self._look_again_at if is_found else self._look_at_itself, inode, look)
                    assert inode.source is not None, "others have no look"
                    yield from self._looked_steps(inode.source, key, look, look_at, make_waiter)
            except OSError:
                if inode.changed_to is None:
                    raise
            is_the_same = not is_found

    def _look_again_at(self, inode: Inode, look: Look) -> None:
        """As who opens it does, and closes it at once."""
        assert inode.source is not None, "others have no look"
        found = self._look_at(inode.source, look)
        if found is not None:
            self._table.released.append(Released(found, None, 0, wrote=False))

    def _look_at_itself(self, inode: Inode, look: Look) -> None:
        """Of one that is not found any more, or whose version cannot be told when it is opened."""
        assert inode.source is not None, "others have no look"
        ask = inode.look
        try:
            opened = called(OPEN, self._zone, ask or inode.source.open)()
        except OSError as error:
            if error.errno not in _GONE:
                raise
            opened, now = None, "deleted"
        else:
            now = inode.version if opened is None else opened.version
        look.turn.end()
        if opened is not None:
            self._table.close_all([opened])
            if ask is None and not inode.has_validator and opened.size_bytes == inode.size_bytes:
                now = inode.version  # nothing tells that it is not
        with self._table.lock:
            if inode in self._table.written:
                return
            if now == inode.version:
                if inode.has_validator:
                    inode.was_looked_at(look)
                else:  # nothing that who opens it could rely on
                    inode.looked_s = max(inode.looked_s, look.began_s)
                return
            self._table.note_changed(inode, now)
            self._table.forget(inode)
        self._table.follow_up()
