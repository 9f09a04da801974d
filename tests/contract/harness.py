"""What the contract tests are made of: threads with results, predicates that are told of every wait, and subjects.

A `Subject` is one file over a scripted store in a cache of its own size.  A `Scene` starts threads and makes
subjects, and when the test is over asserts item 60 for each: nothing locked, waiting, pinned or reserved.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Generic, TypeVar, cast

from pagein import File, Inode, PageCache
from pagein.mm import bring
from pagein.mm.mapping import AddressSpace
from pagein.mm.openfile import OpenFile
from pagein.mm.page import LockedPage
from pagein.mm.sync import Door, Waiter, run_steps
from pagein.mm.zone import Zone
from pagein.testing.leaks import assert_nothing_left, settle
from pagein.testing.stores import PATIENCE_S, Answer, Gate, RunAnswer, ScriptedOps, ScriptedRunOps, updated
from pagein.units import PAGE_SHIFT, PAGE_SIZE

T = TypeVar("T")

TEARDOWN_S = 2.0
"""A test that has passed has nothing running any more."""
LOOK_AGAIN_S = 0.02


class WatchedDoor(Door):
    """The system's door.  It tells `until` of every wait that begins, and notes sleeps instead of sleeping."""

    def __init__(self) -> None:
        self.sleeps_s: list[float] = []
        self.waiting: set[int] = set()
        """The threads that wait at this moment."""
        self._begins = threading.Condition()

    def waiter(self) -> Waiter:
        return _WatchedWaiter(super().waiter(), self.waiting, self._begins)

    def sleep(self, delay_s: float) -> None:
        self.sleeps_s.append(delay_s)

    def until(self, predicate: Callable[[], bool]) -> None:
        """Wait until *predicate* is true, as it may become when a thread gets in line, or has asked a store."""
        deadline_s = time.monotonic() + PATIENCE_S
        with self._begins:
            while not predicate():
                assert time.monotonic() < deadline_s, f"waited {PATIENCE_S:g} s for what did not happen"
                self._begins.wait(LOOK_AGAIN_S)  # of what a store was asked nobody tells


class _WatchedWaiter:
    def __init__(self, waiter: Waiter, waiting: set[int], begins: threading.Condition) -> None:
        self._waiter = waiter
        self._waiting = waiting
        self._begins = begins

    def wait(self, timeout_s: float | None = None) -> bool:
        here = threading.get_ident()
        try:
            with self._begins:
                self._waiting.add(here)
                self._begins.notify_all()
            return self._waiter.wait(timeout_s)
        finally:
            self._waiting.discard(here)

    def wake(self) -> None:
        self._waiter.wake()


class Task(Generic[T]):
    """A call on a thread of its own."""

    def __init__(self, run: Callable[[], T]) -> None:
        self._run = run
        self._result: T | None = None
        self._error: BaseException | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._call, daemon=True)
        self._thread.start()

    def _call(self) -> None:
        try:
            self._result = self._run()
        except BaseException as error:  # the test's to judge
            self._error = error
        self._ended.set()

    @property
    def thread_id(self) -> int:
        assert self._thread.ident is not None
        return self._thread.ident

    @property
    def running(self) -> bool:
        return not self._ended.is_set()

    def join(self, timeout_s: float = PATIENCE_S) -> None:
        self._thread.join(timeout_s)
        assert not self._thread.is_alive(), "a thread of the test hangs"

    def result(self) -> T:
        """What the call returned.  Raises what it raised."""
        self.join()
        error, self._error = self._error, None
        if error is not None:
            raise error
        return cast(T, self._result)

    def error(self) -> BaseException:
        """What the call raised."""
        self.join()
        assert self._error is not None, f"no error, but {self._result!r:.80}"
        return self._error


class RecordedLock:
    """An address-space lock that counts what a fault does with it.  Held when made."""

    def __init__(self) -> None:
        self.held = True
        self.releases = 0

    def acquire(self) -> None:
        assert not self.held
        self.held = True

    def release(self) -> None:
        assert self.held
        self.held = False
        self.releases += 1


@dataclass(eq=False)
class Subject:
    """A file of pages that a scripted store brings."""

    scene: Scene
    cache: PageCache
    ops: ScriptedOps
    inode: Inode
    file: File = field(init=False)

    def __post_init__(self) -> None:
        self.file = self.inode.open()

    @property
    def mapping(self) -> AddressSpace:
        return self.inode.mapping

    @property
    def zone(self) -> Zone:
        return self.cache._zone

    @property
    def open_file(self) -> OpenFile:
        return self.file._file

    def another(self) -> Subject:
        """The same file through another open file: another reader."""
        other = Subject(self.scene, self.cache, self.ops, self.inode)
        other.file.advise("random" if self.open_file.random else "normal")
        return other

    def content(self, index: int, page_count: int = 1) -> bytes:
        """What is in these pages now, up to the end of the file."""
        start = index << PAGE_SHIFT
        size_bytes = min((index + page_count) << PAGE_SHIFT, self.mapping.i_size) - start
        return self.ops.content(start, max(0, size_bytes))

    def waiting_for(self, index: int) -> int:
        """How many threads stand in line for a page."""
        page = self.mapping.in_flight.get(index)
        return page.waiter_count if page else 0

    def uptodate(self) -> list[int]:
        """The pages that are here."""
        return [at for first, count in self.mapping.resident() for at in range(first, first + count)]

    def assert_at_rest(self, *uptodate: int) -> None:
        """These pages are in the cache, no other is charged or takes memory, and none is locked or waited for."""
        settle(self.zone, TEARDOWN_S)  # who has set a page Uptodate unlocks it next, while others read it already
        assert self.mapping.in_flight == {}
        assert self.uptodate() == list(uptodate)
        assert_nothing_left(self.zone)


def lock_uptodate(file: OpenFile, index: int) -> LockedPage | None:
    """A page locked and Uptodate, read if need be."""
    return run_steps(bring.lock_uptodate(file, index, file.mapping.zone.door.waiter))


def _check_and_close(cache: PageCache) -> None:
    assert_nothing_left(cache._zone, settle_s=TEARDOWN_S)
    cache.close()


class Scene:
    """Threads and subjects of one test.  *debug* is the cache's: None leaves it to the environment.  With *blocking*,
    the operations of its stores are such as may block, and are called by I/O workers; with *readers_call*, such as
    readers call who would only wait for them."""

    def __init__(
        self, *, debug: bool | None, blocking: bool = False, readers_call: bool = False, door: WatchedDoor | None = None
    ) -> None:
        self.debug = debug
        self.blocking = blocking
        self.readers_call = readers_call
        self.door = door or WatchedDoor()
        self._tasks: list[Task[object]] = []
        self._gates: list[Gate] = []
        self._caches: list[PageCache] = []
        self._stores: list[ScriptedOps] = []

    def __enter__(self) -> Scene:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for gate in self._gates:
            gate.open()
        for task in self._tasks:
            task.join(TEARDOWN_S)
        for cache in self._caches:
            Task(functools.partial(_check_and_close, cache)).result()
        for ops in self._stores:
            ops.calls.clear()  # they refer to pages, and so to the cache, which refers to them

    def open(
        self,
        script: Mapping[int, Iterable[Answer]] | None = None,
        *,
        default: Answer = updated,
        runs: Iterable[RunAnswer] | None = None,
        page_count: int = 8,
        size_bytes: int | None = None,
        cap_pages: int = 64,
        random: bool = True,
        cache: PageCache | None = None,
        ops: ScriptedOps | None = None,
        requests_max: int = ScriptedOps.requests_max,
    ) -> Subject:
        """A new file; one page a miss, unless *random* is false.  With *runs*, its store has a readahead; with *ops*,
        the store is that one."""
        if ops is None:
            ops = ScriptedOps(script, default=default)
            if runs is not None:
                ops = ScriptedRunOps(script, default=default, runs=runs)
        ops.blocking = self.blocking
        ops.readers_call = self.readers_call
        ops.requests_max = requests_max
        self._stores.append(ops)
        cache = cache or self.cache(cap_pages)
        inode = cache.inode(ops, size_bytes=page_count * PAGE_SIZE if size_bytes is None else size_bytes)
        subject = Subject(self, cache, ops, inode)
        if random:
            subject.file.advise("random")
        return subject

    def cache(self, cap_pages: int) -> PageCache:
        cache = PageCache(cap_pages * PAGE_SIZE, debug=self.debug, door=self.door)
        self._caches.append(cache)
        return cache

    def gate(self) -> Gate:
        gate = Gate()
        self._gates.append(gate)
        return gate

    def start(self, run: Callable[..., T], *args: object) -> Task[T]:
        """Call ``run(*args)`` on a thread of its own."""
        task = Task(lambda: run(*args))
        self._tasks.append(cast("Task[object]", task))
        return task

    def until(self, predicate: Callable[[], bool]) -> None:
        self.door.until(predicate)
