"""Ctrl-C on any line of opening, writing and closing a file that is written to: nothing is lost or left behind."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import FrameType
from typing import Any

import pytest
from tests.contract.test_interrupted_close import LINES_MAX, interrupted
from tests.file.sources import TIMEOUT_S, assert_nothing_left, binary
from tests.file.writable import Disk

import pagein
from pagein import PageCache
from pagein.mm import outcome, truncate, workqueue, write
from pagein.units import PAGE_SIZE


@pytest.fixture(autouse=True)
def workers_that_missed_their_call_look_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose waker was interrupted finds out when it has been idle for long."""
    monkeypatch.setattr(workqueue, "IDLE_S", 0.05)


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.fixture(params=["in place", "whole"])
def disk(request: pytest.FixtureRequest) -> Disk:
    return Disk(whole=request.param == "whole")


def at_each_line(case: Callable[[int], bool]) -> None:
    """Call *case* with 1, 2, … until it says that its call was not interrupted."""
    for line in range(1, LINES_MAX):
        if not case(line):
            assert line > 10
            return
    raise AssertionError("it never came to its end")


Run = Callable[[], object]


def interrupt_the_next_start(
    monkeypatch: pytest.MonkeyPatch,
    handle: Callable[[Callable[[Run], None], Run], None],
) -> None:
    """Ctrl-C where the next call hands its work to a worker; *handle* is told how that is started, and the work."""
    start = workqueue.Workqueue.start

    def interrupted_start(self: workqueue.Workqueue, run: Run) -> None:
        monkeypatch.setattr(workqueue.Workqueue, "start", start)
        handle(partial(start, self), run)
        raise KeyboardInterrupt

    monkeypatch.setattr(workqueue.Workqueue, "start", interrupted_start)


def interrupt_once_begun(monkeypatch: pytest.MonkeyPatch, begun: threading.Event) -> None:
    """Ctrl-C when the work of the next call has *begun*."""

    def handle(start: Callable[[Run], None], run: Run) -> None:
        start(run)
        assert begun.wait(TIMEOUT_S)

    interrupt_the_next_start(monkeypatch, handle)


def held_up(monkeypatch: pytest.MonkeyPatch, where: object, name: str) -> tuple[threading.Event, threading.Event]:
    """The next call of a function sets the first, and waits for the second."""
    begun, may_go_on, call = threading.Event(), threading.Event(), getattr(where, name)

    def slow(*arguments: Any) -> Any:
        monkeypatch.setattr(where, name, call)
        begun.set()
        assert may_go_on.wait(TIMEOUT_S)
        return call(*arguments)

    monkeypatch.setattr(where, name, slow)
    return begun, may_go_on


def one_waits(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when somebody waits for a change that was abandoned, and has begun."""
    waits, ended_steps = threading.Event(), outcome._ended_steps

    def told(*arguments: Any) -> Any:
        for waiter in ended_steps(*arguments):
            waits.set()
            yield waiter

    monkeypatch.setattr(outcome, "_ended_steps", told)
    return waits


def test_an_open_that_was_interrupted_leaves_nothing_open(disk: Disk) -> None:
    def case(line: int) -> bool:
        with PageCache(16 * PAGE_SIZE) as cache:
            was_interrupted = interrupted(partial(cache.open, (disk, f"{line}"), "wb"), line)
            with binary(cache.open((disk, f"{line}"), "ab")) as file:
                file.write(b"x")
            assert_nothing_left(cache)
        assert disk.objects[f"{line}"] == b"x"
        assert disk.all_closed(), line
        return was_interrupted

    at_each_line(case)


@pytest.mark.parametrize("who", ["the file", "the cache"])
def test_a_close_that_was_interrupted_loses_nothing(who: str, disk: Disk) -> None:
    def case(line: int) -> bool:
        with PageCache(16 * PAGE_SIZE) as cache:
            file = binary(cache.open((disk, f"{line}"), "wb"))
            file.write(b"written")
            was_interrupted = interrupted(file.close, line)
            if who == "the file":
                file.close()
        assert disk.objects[f"{line}"] == b"written", line
        assert disk.all_closed(), line
        return was_interrupted

    at_each_line(case)


def test_a_cache_whose_close_was_interrupted_is_closed_by_the_next_and_loses_nothing(disk: Disk) -> None:
    def case(line: int) -> bool:
        cache = PageCache(16 * PAGE_SIZE)
        text, file = cache.open((disk, f"{line}"), "w"), binary(cache.open((disk, "other"), "wb"))
        text.write("written")
        file.write(b"%d" % line)
        was_interrupted = interrupted(cache.close, line)
        cache.close()
        assert disk.objects[f"{line}"] == b"written", line
        assert disk.objects["other"] == b"%d" % line
        assert disk.all_closed(), line
        return was_interrupted

    at_each_line(case)


def test_an_append_that_was_interrupted_is_whole_or_not_there(disk: Disk) -> None:
    def case(line: int) -> bool:
        disk.put("a", b"old")
        with PageCache(16 * PAGE_SIZE, debug=False) as cache, binary(cache.open((disk, "a"), "ab")) as file:
            # No bytes, which would go the short way: its lock is let go of where only a trace function can interrupt.
            # (No checks either, whose lines are too many to interrupt each.)
            was_interrupted = interrupted(partial(file.write, bytearray(b"new" * 2000)), line)
            assert file.write(b"again") == 5
        assert disk.objects["a"] in (b"oldagain", b"old" + b"new" * 2000 + b"again"), line
        return was_interrupted

    at_each_line(case)


CHANGES: dict[str, tuple[Callable[[pagein.File], object], bytes]] = {
    "write": (lambda file: file.pwrite(bytearray(b"older"), 0), b"newer"),
    "append": (lambda file: file.pwrite(bytearray(b"older"), 3), b"newer"),
    "truncate": (lambda file: file.set_size(0), b"newer"),
    "punch": (lambda file: file.punch_hole(0, 100), b"newer"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_was_interrupted_before_it_began_is_not_made_after_a_later_one(
    change: str, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.put("a", b"old")
    make, after = CHANGES[change]
    begun_late: list[Run] = []  # as what is in the line, and no worker has come by

    with PageCache(16 * PAGE_SIZE) as cache, binary(cache.open((disk, "a"), "r+b")) as file:
        file.read()
        interrupt_the_next_start(monkeypatch, lambda _, run: begun_late.append(run))
        with pytest.raises(KeyboardInterrupt):
            make(file)
        file.pwrite(after, 0)
        thread = threading.Thread(target=begun_late.pop())
        thread.start()
        thread.join(TIMEOUT_S)
        assert file.pread(100, 0) == after
        file.pwrite(b"again", 5)  # the short way is open again
        assert not file._mapping.unsettled
    assert disk.objects["a"] == after + b"again"


@pytest.mark.parametrize("others", ["nobody else has it open", "another has it open"])
def test_an_open_that_was_interrupted_before_it_began_makes_nothing_empty_afterwards(
    others: str, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.put("a", b"old")
    begun_late: list[Run] = []  # as what is in the line, and no worker has come by

    with PageCache(16 * PAGE_SIZE) as cache:
        file = binary(cache.open((disk, "a"), "r+b")) if others == "another has it open" else None
        if file is not None:
            file.read()
        interrupt_the_next_start(monkeypatch, lambda _, run: begun_late.append(run))
        with pytest.raises(KeyboardInterrupt):
            cache.open((disk, "a"), "wb")
        if file is None:
            file = binary(cache.open((disk, "a"), "wb"))
        file.pwrite(b"newer", 0)
        file.close()
        thread = threading.Thread(target=begun_late.pop())
        thread.start()
        thread.join(TIMEOUT_S)
        assert not cache._zone.opens_to_write
    assert disk.objects["a"] == b"newer"
    assert disk.all_closed()


def test_an_open_waits_for_no_interrupted_open_of_another_file(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.put("a", b"a")
    disk.put("b", b"b")
    with PageCache(16 * PAGE_SIZE) as cache, ThreadPoolExecutor(1) as pool:
        for path in "ab":
            assert binary(cache.open((disk, path))).read() == path.encode()  # read so far, and by nobody else
        begun, may_go_on = held_up(monkeypatch, cache, "_look_up_for_writing")
        interrupt_once_begun(monkeypatch, begun)
        with pytest.raises(KeyboardInterrupt):
            cache.open((disk, "a"), "r+b")
        try:
            pool.submit(lambda: binary(cache.open((disk, "b"), "r+b")).close()).result(TIMEOUT_S / 3)
        finally:
            may_go_on.set()
    assert disk.all_closed()


def test_an_open_waits_for_a_change_that_was_interrupted_when_it_had_begun(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.put("a", b"old")
    waits = one_waits(monkeypatch)
    with PageCache(16 * PAGE_SIZE) as cache, binary(cache.open((disk, "a"), "r+b")) as file:
        begun, may_go_on = held_up(monkeypatch, truncate, "truncate")
        interrupt_once_begun(monkeypatch, begun)
        with pytest.raises(KeyboardInterrupt):
            file.set_size(50)
        later = threading.Thread(target=lambda: binary(cache.open((disk, "a"), "wb")).close())
        later.start()
        assert waits.wait(TIMEOUT_S)
        may_go_on.set()
        later.join(TIMEOUT_S)
        assert file.size_bytes == 0
    assert disk.objects["a"] == b""


def test_a_change_that_was_interrupted_when_it_had_begun_is_made_before_the_next(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.put("a", b"old")
    waits = one_waits(monkeypatch)
    with PageCache(16 * PAGE_SIZE) as cache, binary(cache.open((disk, "a"), "r+b")) as file:
        file.read()
        begun, may_go_on = held_up(monkeypatch, write, "perform_write")
        interrupt_once_begun(monkeypatch, begun)
        with pytest.raises(KeyboardInterrupt):
            file.pwrite(bytearray(b"older"), 0)
        later = threading.Thread(target=file.pwrite, args=(b"newer", 0))
        later.start()
        assert waits.wait(TIMEOUT_S)
        may_go_on.set()
        later.join(TIMEOUT_S)
        assert file.pread(100, 0) == b"newer"
        assert not file._mapping.unsettled
    assert disk.objects["a"] == b"newer"


def test_an_open_that_was_interrupted_replaces_no_object() -> None:
    disk, undone = Disk({"a": b"old"}, whole=True), threading.Event()
    with PageCache(16 * PAGE_SIZE) as cache:
        close_unwanted = cache._close_unwanted

        def undo(file: Any) -> None:
            close_unwanted(file)
            undone.set()

        cache._close_unwanted = undo  # type: ignore[method-assign]
        disk.hold()
        interrupt_in_store(partial(cache.open, (disk, "a"), "wb"), disk)
        disk.release()
        assert undone.wait(TIMEOUT_S)
        with binary(cache.open((disk, "a"))) as file:
            assert file.read() == b"old"
    assert disk.objects["a"] == b"old"
    assert disk.all_closed()


def test_a_close_that_waits_for_a_slow_store_goes_on_without_its_caller(disk: Disk) -> None:
    cache = PageCache(16 * PAGE_SIZE)
    file = binary(cache.open((disk, "a"), "wb"))
    file.write(b"written")
    while disk._arrived.acquire(blocking=False):
        pass
    disk.hold()
    interrupt_in_store(file.close, disk)
    assert file.closed
    disk.release()
    cache.close()
    assert disk.objects["a"] == b"written"
    assert disk.all_closed()


def interrupt_in_store(run: Callable[[], object], disk: Disk) -> None:
    """Call it, with Ctrl-C once it waits for the store, which is held."""
    seen = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not seen.is_set():
            seen.set()
            raise KeyboardInterrupt

    def send() -> None:
        disk.wait_for_call()
        main = threading.main_thread().ident
        assert main is not None
        while not seen.wait(0.02):  # one that comes just before the wait is seen with the next
            signal.pthread_kill(main, signal.SIGINT)

    signal.signal(signal.SIGINT, interrupt)
    sender = threading.Thread(target=send)
    sender.start()
    with pytest.raises(KeyboardInterrupt):
        run()
    sender.join(TIMEOUT_S)
