"""Looks that meet one another, a close, a fork, Ctrl-C, and an object that changes again and again."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from tests.contract.test_interrupted_close import (
    handler as handler,
    interrupted,
    workers_that_missed_their_call_look_again_soon as workers_that_missed_their_call_look_again_soon,
)
from tests.file.sources import run_in_threads
from tests.forking import in_child
from tests.freshness.places import AGE_S, SIZE, Clock, Place, cache_with, content, errno_of, open_file, read_once

from pagein import PageCache
from pagein.stores import MemoryStore
from pagein.testing.stores import PATIENCE_S, Gate
from pagein.units import PAGE_SIZE

READERS = 8


class Task(threading.Thread):
    """A call on a thread of its own."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self.result: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self._call()
        except Exception as error:
            self.result = error

    def outcome(self) -> Any:
        """What it has returned, or raised."""
        self.join(PATIENCE_S)
        assert not self.is_alive(), "it hangs"
        return self.result


class Line(Clock):
    """Tells when so many threads wait for a look."""

    def __init__(self) -> None:
        super().__init__()
        self.made = threading.Semaphore(0)
        self.counting = False

    def waiter(self) -> Any:
        if self.counting:
            self.made.release()
        return super().waiter()

    def await_waiters(self, count: int) -> None:
        for _ in range(count):
            assert self.made.acquire(timeout=PATIENCE_S), "nobody gets in line"


# -- looks at one time ---------------------------------------------------------------------------------


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize("revalidate", ["open", "always"])
def test_those_who_open_while_somebody_looks_share_the_look_that_follows(revalidate: Any, is_known: bool) -> None:
    """Not his, which may have been answered before they came: a version that was put there before is what they get."""
    door, place, gate = Line(), Place(), Gate()
    with PageCache("16 MiB", revalidate=revalidate, door=door) as cache:
        if is_known:
            read_once(cache, (place, ""))
        looks = place.looks
        place.gate = gate
        first = Task(lambda: open_file(cache, (place, "")))
        gate.wait_for_arrivals()
        place.put()
        door.counting = True
        others = [Task(lambda: open_file(cache, (place, ""))) for _ in range(READERS)]
        door.await_waiters(READERS)
        door.counting = False
        gate.open()
        files = [task.outcome() for task in others]
        assert place.looks == looks + 2
        assert {file.version for file in files} == {"1"}
        assert first.outcome().version == "0"
        for file in files:
            assert file.pread(SIZE, 0) == content(1)
            file.close()
        first.outcome().close()
        cache.stats()
    assert place.opens == place.closes


def test_readers_who_look_at_one_time_share_it() -> None:
    door, place, gate = Line(), Place(), Gate()
    with PageCache("16 MiB", revalidate="always", door=door) as cache:
        files = [open_file(cache, (place, "")) for _ in range(READERS + 1)]
        files[0].populate()
        looks = place.looks
        place.gate = gate
        first = Task(lambda: files[0].pread(10, 0))
        gate.wait_for_arrivals()
        door.counting = True
        others = [Task(lambda file=file: file.pread(10, 0)) for file in files[1:]]  # type: ignore[misc]
        door.await_waiters(READERS)
        door.counting = False
        gate.open()
        assert {task.outcome() for task in (first, *others)} == {content(0, 10)}
        assert place.looks == looks + 2


def test_a_look_that_fails_fails_for_all_who_wait_for_it() -> None:
    """None of whom waits for a dead server in his turn."""
    door, place, gate = Line(), Place(), Gate()
    with PageCache("16 MiB", revalidate="always", door=door) as cache, open_file(cache, (place, "")) as file:
        file.populate()
        looks = place.looks
        place.gate, place.error = gate, OSError(errno.ETIMEDOUT, "the server is down", "place")
        first = Task(lambda: file.pread(10, 0))
        gate.wait_for_arrivals()
        door.counting = True
        others = [Task(lambda: file.pread(10, 0)) for _ in range(READERS)]
        others += [Task(lambda: open_file(cache, (place, ""))) for _ in range(READERS)]
        door.await_waiters(2 * READERS)
        door.counting = False
        gate.open()
        errors = [task.outcome() for task in (first, *others)]
        assert {error.errno for error in errors} == {errno.ETIMEDOUT}
        assert place.looks == looks + 2
        place.error = None
        assert file.pread(10, 0) == content(0, 10)


# -- ends ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["reads", "opens"])
def test_a_cache_can_be_closed_while_somebody_looks(who: str) -> None:
    place, gate = Place(), Gate()
    cache = cache_with("always")
    file = open_file(cache, (place, ""))
    file.populate()
    place.gate = gate
    call = (lambda: file.pread(10, 0)) if who == "reads" else (lambda: open_file(cache, (place, "")))
    looking = Task(call)
    gate.wait_for_arrivals()
    waiting = Task(call)
    place.put()
    cache.close()
    gate.open()
    for task in (looking, waiting):
        assert isinstance(task.outcome(), ValueError)
    cache.close()
    assert place.opens == place.closes


def test_a_read_that_is_interrupted_while_it_looks_leaves_nothing_behind(handler: None) -> None:
    """On any line: the next read looks, and reads."""
    place = Place()
    with cache_with("always") as cache, open_file(cache, (place, "")) as file:
        file.populate()
        for line in range(1, 500):
            was_interrupted = interrupted(lambda: file.pread(10, 0), line)
            assert file.pread(10, 0) == content(0, 10), f"interrupted at line {line}"
            if not was_interrupted:
                assert line > 10
                return
    raise AssertionError("it never came to its end")


def test_an_open_of_what_is_idle_that_is_interrupted_leaves_nothing_behind(handler: None) -> None:
    place = Place()
    with cache_with("never") as cache:
        read_once(cache, (place, ""))
        for line in range(1, 500):
            was_interrupted = interrupted(lambda: open_file(cache, (place, "")).close(), line)
            assert read_once(cache, (place, "")) == content(0), f"interrupted at line {line}"
            if not was_interrupted:
                assert line > 10
                break
        assert place.looks == 1
    assert place.opens == place.closes


# -- an object that changes ----------------------------------------------------------------------------


@pytest.mark.parametrize("revalidate", ["open", "always", "never", AGE_S])
def test_what_a_file_reads_is_of_one_version_while_the_object_changes(revalidate: Any) -> None:
    """Each of eight threads opens and reads it; versions never go backwards for one who always looks."""
    store = MemoryStore({"a": content(0)})
    clock = Clock()
    newest = 0
    is_over = threading.Event()

    def change() -> None:
        nonlocal newest
        for version in range(1, 150):
            store.put("a", content(version))
            newest = version
            clock.time_s += 1
        is_over.set()

    def read() -> int:
        reads = 0
        while not is_over.is_set():
            before = newest
            try:
                with open_file(cache, (store, "a")) as file:
                    version = file.pread(1, SIZE - 1)[0]
                    assert version >= before or revalidate not in ("open", "always")
                    for index in (0, 1, 2, 3):
                        assert file.pread(PAGE_SIZE, index * PAGE_SIZE) == content(version, PAGE_SIZE)
                    with file.view(SIZE, 0) as view:
                        assert view == content(version)
                    reads += 1
            except OSError as error:
                if error.errno != errno.ESTALE:
                    raise
        return reads

    with PageCache("16 MiB", revalidate=revalidate, door=clock) as cache:
        run_in_threads([change, *[read] * READERS])
        cache.drop()
        clock.time_s += AGE_S
        if revalidate == "never":  # what is known is old, perhaps, and a fetch finds out; the next open looks
            with suppress(OSError):
                read_once(cache, (store, "a"))
        assert read_once(cache, (store, "a")) == content(149)
        assert cache.stats().inodes == 1
        assert cache.stats().resident_bytes <= SIZE


def test_in_a_child_of_a_fork_a_look_of_the_parent_keeps_nobody_waiting() -> None:
    place, gate = Place(), Gate()
    with cache_with("always") as cache, open_file(cache, (place, "")) as file:
        file.populate()
        place.gate = gate
        looking = Task(lambda: file.pread(10, 0))
        gate.wait_for_arrivals()

        def child() -> None:
            place.gate = None
            assert file.pread(10, 0) == content(0, 10)
            place.put()
            assert errno_of(lambda: file.pread(10, 0)) == "ESTALE"
            assert read_once(cache, (place, "")) == content(1)

        in_child(child)
        gate.open()
        assert looking.outcome() == content(0, 10)
