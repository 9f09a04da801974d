"""Ctrl-C on any line of closing a cache, or of opening a file: a second close finishes what was begun.

A signal handler runs between two lines of the main thread, and so KeyboardInterrupt is raised here on each of them in
turn.  The handler is a real one, of a real signal, raised by a trace function.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any

import pytest

import pagein
from pagein import PageCache
from pagein.mm import workqueue
from pagein.stores.source import Opened
from pagein.testing.leaks import assert_nothing_left
from pagein.testing.stores import PATIENCE_S, Gate, ScriptedOps, gated, started, updated
from pagein.testing.writable import WritableOps
from pagein.units import PAGE_SIZE

OWN_CODE = pagein.__file__.removesuffix("__init__.py")
LINES_MAX = 1000


class Place:
    """A store with one object, which counts how often it was opened and let go of."""

    name = "place"

    def __init__(self, ops: ScriptedOps | None = None) -> None:
        self.key = ("place", id(self))
        self.ops = ops or ScriptedOps()
        self.opens = self.closes = 0
        self.has_closed = threading.Event()

    def source(self, path: str) -> Place:
        return self

    def open(self) -> Opened:
        self.opens += 1
        return Opened(self.ops, 8 * PAGE_SIZE, version="1", close=self.close)

    def close(self) -> None:
        self.closes += 1
        self.has_closed.set()


@pytest.fixture(autouse=True)
def workers_that_missed_their_call_look_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose waker was interrupted finds out when it has been idle for long."""
    monkeypatch.setattr(workqueue, "IDLE_S", 0.05)


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


def interrupted(run: Callable[[], object], at_line: int) -> bool:
    """Call *run* with Ctrl-C at the n-th line of ours that it comes to; False if it ended before."""
    left = at_line

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.startswith(OWN_CODE) or is_in_finalizer(frame):
            return None
        if event == "line":
            left -= 1
            if left == 0:
                signal.raise_signal(signal.SIGINT)
        return trace

    def apart() -> Iterator[None]:
        # CPython leaves on this thread's stack of handled exceptions what a handler was about to handle when a trace
        # function raised: every later one would refer to it, and keep all caches alive.  A generator has its own.
        run()
        yield

    tracing = sys.gettrace()
    sys.settrace(trace)
    try:
        next(apart())
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(tracing)
    return False


def is_in_finalizer(frame: FrameType | None) -> bool:
    """Whether Python itself would swallow what is raised here."""
    while frame is not None:
        if frame.f_code.co_name in ("__del__", "_sweep_afterlife"):
            return True
        frame = frame.f_back
    return False


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(("pagein-work", "pagein-io"))]


def assert_closed(cache: PageCache, place: Place, *, line: int) -> None:
    where = f"interrupted at line {line}"
    assert cache._zone.closed, where
    while threads := workers():  # one that ends may have had another started, for what has come meanwhile
        for thread in threads:
            thread._started.wait(PATIENCE_S)  # type: ignore[attr-defined]  # one that is about to begin
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), where
    assert cache._zone.workqueue._closed, f"{where}: its workers are not told to end, and others may be started"
    assert place.closes == place.opens, where
    assert_nothing_left(cache._zone, settle_s=PATIENCE_S)
    cache.close()


def test_a_second_close_finishes_one_that_was_interrupted_anywhere() -> None:
    for line in range(1, LINES_MAX):
        place = Place()
        cache = PageCache(16 * PAGE_SIZE)
        file = cache.open((place, "path"))
        file.read()
        view = file.view(100, 0)
        was_interrupted = interrupted(cache.close, line)
        cache.close()
        assert file.closed
        assert view == place.ops.content(0, 100)
        view.release()
        assert_closed(cache, place, line=line)
        if not was_interrupted:
            assert line > 10
            return
    raise AssertionError("it never came to its end")


def test_a_second_close_finishes_one_that_was_interrupted_with_a_page_in_flight() -> None:
    for line in range(1, LINES_MAX):
        ops = ScriptedOps({3: [started]})
        place = Place(ops)
        cache = PageCache(16 * PAGE_SIZE, debug=False)  # with checks, it would say that a read was not ended
        file = cache.open((place, "path"))
        file.advise("willneed", 3 * PAGE_SIZE, PAGE_SIZE)
        ops.started_page(3)
        was_interrupted = interrupted(cache.close, line)
        cache.close()
        assert place.closes == 0, f"interrupted at line {line}: its page has not come yet"
        ops.complete(3)
        assert_closed(cache, place, line=line)
        if not was_interrupted:
            return
    raise AssertionError("it never came to its end")


def test_advice_that_was_interrupted_anywhere_keeps_no_lock_and_no_file_open() -> None:
    for line in range(1, LINES_MAX):
        place = Place()
        with PageCache(16 * PAGE_SIZE) as cache:
            file = cache.open((place, "path"))
            was_interrupted = interrupted(partial(file.advise, "willneed"), line)
            file.close()
            assert place.has_closed.wait(PATIENCE_S), f"interrupted at line {line}"
        if not was_interrupted:
            assert line > 3
            return
    raise AssertionError("it never came to its end")


def test_a_close_finishes_what_an_open_has_begun_that_was_interrupted_anywhere() -> None:
    for line in range(1, LINES_MAX):
        place = Place()
        cache = PageCache(16 * PAGE_SIZE)
        was_interrupted = interrupted(partial(cache.open, (place, "path")), line)
        with cache.open((place, "path")) as file:
            assert file.read() == place.ops.content(0, 8 * PAGE_SIZE), f"interrupted at line {line}"
        cache.close()
        assert_closed(cache, place, line=line)
        if not was_interrupted:
            assert line > 20
            return
    raise AssertionError("it never came to its end")


@pytest.mark.parametrize("who", ["the file", "the cache"])
def test_a_second_close_finishes_that_of_a_file_which_was_interrupted_anywhere(who: str) -> None:
    """Its store is let go of, whoever closes."""
    for line in range(1, LINES_MAX):
        place = Place()
        cache = PageCache(16 * PAGE_SIZE)
        file = cache.open((place, "path"))
        was_interrupted = interrupted(file.close, line)
        if who == "the file":
            file.close()
            cache.stats()
            assert place.closes == 1, f"interrupted at line {line}"
        cache.close()
        assert file.closed
        assert_closed(cache, place, line=line)
        if not was_interrupted:
            assert line > 5
            return
    raise AssertionError("it never came to its end")


def close_interrupted(cache: PageCache, gate: Gate) -> None:
    """Close *cache*, with Ctrl-C once somebody waits at *gate*."""
    seen = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not seen.is_set():
            seen.set()
            raise KeyboardInterrupt

    def send() -> None:
        gate.wait_for_arrivals()
        main = threading.main_thread().ident
        assert main is not None
        while not seen.wait(0.02):  # one that comes just before the wait is seen with the next
            signal.pthread_kill(main, signal.SIGINT)

    signal.signal(signal.SIGINT, interrupt)
    sender = threading.Thread(target=send)
    sender.start()
    with pytest.raises(KeyboardInterrupt):
        cache.close()
    sender.join(PATIENCE_S)


def test_a_close_that_is_interrupted_while_it_waits_goes_on_without_its_caller() -> None:
    """A store that takes its time to be let go of: Ctrl-C gives the prompt back, the store is closed all the same."""
    gate = Gate()

    class Slow(Place):
        def close(self) -> None:
            gate.pass_through()
            super().close()

    place = Slow()
    cache = PageCache(16 * PAGE_SIZE)
    cache.open((place, "path")).read()

    close_interrupted(cache, gate)
    assert place.closes == 0
    gate.open()
    cache.close()
    assert_closed(cache, place, line=0)


def test_a_fetch_that_blocks_does_not_keep_a_close_waiting() -> None:
    gate = Gate()
    ops = ScriptedOps({3: [gated(gate, updated)]})
    ops.blocking = True
    place = Place(ops)
    cache = PageCache(16 * PAGE_SIZE)
    file = cache.open((place, "path"))
    file.advise("random")
    file.advise("willneed", 3 * PAGE_SIZE, PAGE_SIZE)
    gate.wait_for_arrivals()
    cache.close()
    assert place.closes == 0
    gate.open()
    assert_closed(cache, place, line=0)


def test_a_close_that_waits_for_a_write_is_interrupted_and_finished_by_the_next_one() -> None:
    """A store that does not answer, a writer who waits for it: what his write returns for is stored all the same."""
    gate = Gate()
    ops = WritableOps(PAGE_SIZE, script={0: [gated(gate, updated)]})
    cache = PageCache(16 * PAGE_SIZE)
    file = cache.inode(ops, size_bytes=PAGE_SIZE).open("r+b")
    writer = threading.Thread(target=lambda: file.pwrite(b"late", 8))
    writer.start()
    gate.wait_for_arrivals()
    close_interrupted(cache, gate)
    assert not cache._zone.closed
    gate.open()
    cache.close()
    writer.join(PATIENCE_S)
    assert ops.data[8:12] == b"late"
