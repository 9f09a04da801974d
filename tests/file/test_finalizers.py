"""The garbage collector may run a finalizer anywhere, also in the middle of the core: what it writes is written, and it
waits for nothing that its own thread has."""

from __future__ import annotations

import errno
import gc
import io
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from tests.file.sources import TIMEOUT_S

from pagein import File, PageCache, follow_up, unwritten
from pagein.mm.flusher import Flusher
from pagein.mm.page import Page
from pagein.mm.sync import (
    HERE,
    SOMEBODY,
    SYSTEM,
    MakeWaiter,
    Steps,
    go_in,
    inside,
    is_inside,
    outside,
    resting,
    run_steps,
)
from pagein.mm.zone import Zone
from pagein.stores import MemoryStore, loop
from pagein.testing.stores import ScriptedOps, updated
from pagein.testing.writable import WritableOps
from pagein.units import PAGE_SIZE

SIZE = 4 * PAGE_SIZE


class Finalizer:
    """A user's own."""

    def __init__(self, file: File) -> None:
        self.file = file

    def write(self, text: bytes) -> None:
        self.text = text

    def __del__(self) -> None:
        self.file.pwrite(self.text, 0)


LAST_WRITERS: dict[str, Callable[[File], Any]] = {
    "a buffer": io.BufferedWriter,
    "a buffer for both": io.BufferedRandom,  # type: ignore[dict-item]
    "text": io.TextIOWrapper,
    "an object": Finalizer,
}


class Scene:
    """A file, and something over it that writes when it is collected."""

    def __init__(self, kind: str, *, debug: bool) -> None:
        self.cache = PageCache("1 MiB", debug=debug)
        self.ops = WritableOps(SIZE, script={1: [self.collecting]})
        self.inode = self.cache.inode(self.ops, size_bytes=SIZE)
        self.mapping = self.inode.mapping
        self.door = self.cache._zone.door
        self.last: list[Any] = [LAST_WRITERS[kind](self.open())]
        self.last[0].write("written" if kind == "text" else b"written")

    def open(self) -> File:
        file = self.inode.open("r+b")
        file.advise("random")
        return file

    def collect(self) -> None:
        self.last.clear()

    def collecting(self, ops: ScriptedOps, page: Page) -> int:
        """A store's answer."""
        self.collect()
        return updated(ops, page)

    def steps(self, make_waiter: MakeWaiter) -> Steps[None]:
        yield from self.mapping.i_rwsem.acquire_steps(make_waiter)
        try:
            self.collect()
        finally:
            self.mapping.i_rwsem.release()

    # -- where it is collected --

    def in_steps_that_a_thread_runs(self) -> None:
        run_steps(self.steps(self.door.waiter))

    def in_steps_that_no_thread_waits_with(self) -> None:
        done = threading.Event()
        self.cache._zone.workqueue.run_detached(self.steps, lambda *_: done.set())
        assert done.wait(TIMEOUT_S)

    def in_a_change_of_size(self) -> None:
        with self.mapping.i_rwsem.exclusive():
            self.collect()

    def in_the_store_under_a_write(self) -> None:
        self.open().pwrite(b"x", PAGE_SIZE + 1)

    def in_another_store_under_a_write(self) -> None:
        with self.mapping.i_rwsem.exclusive(), outside(self.cache._zone):
            self.collect()

    def in_the_store_under_a_read(self) -> None:
        self.open().pread(1, PAGE_SIZE)


PLACES = [name for name in vars(Scene) if name.startswith("in_")]


def ends(run: Callable[[], object]) -> bool:
    """Whether it does, on a thread that gets no signals."""
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(TIMEOUT_S)
    return not thread.is_alive()


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("kind", LAST_WRITERS)
@pytest.mark.parametrize("where", PLACES)
def test_what_is_collected_inside_the_core_waits_for_nothing_and_is_written(where: str, kind: str, debug: bool) -> None:
    scene = Scene(kind, debug=debug)
    assert ends(getattr(scene, where))
    assert not scene.last
    scene.cache.close()
    assert scene.ops.data[:7] == b"written"


@pytest.mark.parametrize("kind", ["a buffer", "a buffer for both", "text"])
def test_what_is_collected_under_a_lock_of_ours_does_not_wait_for_whoever_uses_the_file(kind: str) -> None:
    """He has its position, and may be waiting for that lock."""
    scene = Scene(kind, debug=True)

    def collect() -> None:
        with scene.cache._zone.lock:
            scene.collect()

    with scene.last[0].buffer._lock if kind == "text" else scene.last[0].raw._lock:
        assert ends(collect)
    scene.cache.close()
    assert scene.ops.data[:7] == b"written"


CANNOT_BE_NOTED: dict[str, Callable[[File], Any]] = {
    "set_size": lambda file: file.set_size(0),
    "truncate": lambda file: file.truncate(0),
    "punch_hole": lambda file: file.punch_hole(0, PAGE_SIZE),
    "fsync": lambda file: file.fsync(),
    "discard": lambda file: file.discard(),
    "save_as": lambda file: file.save_as((MemoryStore(), "aside")),
    "pread": lambda file: file.pread(1, 3 * PAGE_SIZE),
    "view": lambda file: file.view(1, 3 * PAGE_SIZE),
    "read1": lambda file: file.seek(3 * PAGE_SIZE) and file.read1(1),
    "peek": lambda file: file.seek(3 * PAGE_SIZE) and file.peek(1),
    "readinto": lambda file: file.seek(3 * PAGE_SIZE) and file.readinto(bytearray(1)),
    "readinto1": lambda file: file.seek(3 * PAGE_SIZE) and file.readinto1(bytearray(1)),
    "readline": lambda file: file.seek(3 * PAGE_SIZE) and file.readline(),
}


@pytest.mark.parametrize("what", CANNOT_BE_NOTED)
def test_a_finalizer_that_asks_for_what_cannot_be_noted_is_told(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while another thread uses the file's position, and waits for this one."""
    told: list[BaseException | None] = []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: told.append(unraisable.exc_value))
    scene = Scene("an object", debug=False)
    monkeypatch.setattr(Finalizer, "__del__", lambda self: CANNOT_BE_NOTED[what](self.file))
    with scene.last[0].file._lock:
        assert ends(scene.in_steps_that_a_thread_runs)
    assert [type(error) for error in told] == [RuntimeError]
    assert "finalizer" in str(told[0])
    scene.cache.close()
    assert len(scene.ops.data) == SIZE


def test_a_finalizer_whose_read_lost_its_race_waits_for_no_lock_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own thread may have it: what it has touched is given back by another."""
    scene = Scene("an object", debug=False)
    file, arena, read = scene.last[0].file, scene.mapping.arena, []
    assert file.pread(1, 0)
    memory = arena.memory

    class Spoilt:
        """Memory that an eviction takes from under the reader, the first time."""

        def __getitem__(self, where: slice) -> bytes:
            file._memory = memory
            arena.bump_generation(scene.mapping.base, 1)
            return memory[where]

    def collect() -> None:
        with scene.cache._zone.lock:
            scene.collect()

    file._memory = Spoilt()
    monkeypatch.setattr(Finalizer, "__del__", lambda self: read.append(self.file.pread(4, 0)))
    assert ends(collect)
    assert read == [bytes(scene.ops.data[:4])]
    scene.cache.close()


READS_WHAT_IS_HERE: dict[str, Callable[[File], object]] = {
    "pread": lambda file: len(file.pread(100, 0)),
    "view": lambda file: len(file.view(100, 0)),
    "read1": lambda file: len(file.read1(100)),
    "peek": lambda file: len(file.peek(100)[:100]),
    "readinto": lambda file: file.readinto(bytearray(100)),
    "readinto1": lambda file: file.readinto1(bytearray(100)),
    "readline": lambda file: len(file.readline(100)),
    "seek and tell": lambda file: file.seek(100) and file.tell(),
}


@pytest.mark.parametrize("what", READS_WHAT_IS_HERE)
def test_a_finalizer_reads_what_is_here_though_another_thread_has_the_position(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may be waiting for this one: to bring him a page, or for a lock that it has."""
    told: list[object] = []
    scene = Scene("an object", debug=False)
    file = scene.last[0].file
    file.pread(1, 0)
    monkeypatch.setattr(Finalizer, "__del__", lambda self: told.append(READS_WHAT_IS_HERE[what](self.file)))
    with file._lock:
        assert ends(scene.in_steps_that_a_thread_runs)
    assert told == [100]
    scene.cache.close()


def test_a_thread_of_ours_is_inside_the_core_from_its_start_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have what others wait for between any two of its lines; only what a store does is outside."""
    depths: dict[str, list[bool]] = {"worker": [], "flusher": [], "store": [], "loop": []}
    turn = Flusher._turn

    def at_turn(self: Flusher, zone: Zone) -> None:
        depths["flusher"].append(is_inside())
        turn(self, zone)

    def answer(ops: ScriptedOps, page: Page) -> int:
        depths["store"].append(is_inside())
        return updated(ops, page)

    async def on_loop() -> None:
        depths["loop"].append(is_inside())

    done = threading.Event()

    def at_work() -> None:
        depths["worker"].append(is_inside())
        done.set()

    monkeypatch.setattr(Flusher, "_turn", at_turn)
    with PageCache("1 MiB", dirty_background=0.0) as cache:
        cache._zone.workqueue.start(at_work)
        assert done.wait(TIMEOUT_S)
        loop.run(on_loop)
        file = cache.inode(WritableOps(SIZE, script={0: [answer]}), size_bytes=SIZE).open("r+b")
        file.pwrite(b"x", 1)
        file.close()
    assert depths.pop("store") == [False]
    assert all(found and all(found) for found in depths.values()), depths
    assert not is_inside()


def noted_by_a_finalizer(file: File, data: bytes, offset: int) -> None:
    with inside():
        file.pwrite(data, offset)


def test_what_a_finalizer_has_noted_is_seen_soon_though_nobody_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = PageCache("1 MiB")
    file = cache.inode(WritableOps(SIZE), size_bytes=SIZE).open("r+b")
    written = threading.Event()
    write_late = unwritten.write_late

    def writes_late(*arguments: Any, **options: Any) -> BaseException | None:
        try:
            return write_late(*arguments, **options)
        finally:
            written.set()

    monkeypatch.setattr(unwritten, "write_late", writes_late)
    noted_by_a_finalizer(file, b"noted", 0)
    assert written.wait(TIMEOUT_S)
    assert file.pread(5, 0) == b"noted"
    cache.close()


def test_what_a_finalizer_has_noted_is_not_written_over_what_is_newer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the short way either, nor by who opens the file then, nor where it could not be written at first."""
    monkeypatch.setattr(follow_up, "soon", lambda cache: None)

    def fails(ops: ScriptedOps, page: Page) -> int:
        raise OSError(errno.EIO, "unreadable")

    cache = PageCache("1 MiB")
    ops = WritableOps(SIZE, script={1: [fails] * 2})
    inode = cache.inode(ops, size_bytes=SIZE)
    file = inode.open("r+b")
    file.advise("random")
    file.pread(1, 0)
    file.pwrite(b"x", 0)  # from here on the short way is open
    noted_by_a_finalizer(file, b"older", 0)
    assert ends(lambda: file.pwrite(b"newer", 0))
    assert file.pread(5, 0) == b"newer"
    noted_by_a_finalizer(file, b"older", PAGE_SIZE + 1)
    for writes in (lambda: file.pwrite(b"newer", 0), lambda: inode.open("r+b").pwrite(b"newer", PAGE_SIZE + 1)):
        with pytest.raises(OSError, match="unreadable"):
            writes()
    assert inode.unwritten_bytes is not None
    file.pwrite(b"newer", PAGE_SIZE + 1)
    with pytest.raises(OSError, match="unreadable"):  # as any failure in the background
        file.fsync()
    file.fsync()
    cache.close()
    assert ops.data[:5] == ops.data[PAGE_SIZE + 1 : PAGE_SIZE + 6] == b"newer"


def test_what_is_written_inside_a_write_of_the_same_file_lies_behind_it() -> None:
    """A log that an object writes a last line to."""

    def answer(ops: ScriptedOps, page: Page) -> int:
        with inside():
            file.write(b"inner")
        return updated(ops, page)

    with PageCache("1 MiB") as cache:
        ops = WritableOps(SIZE, script={0: [answer]})
        file = cache.inode(ops, size_bytes=SIZE).open("r+b")
        file.advise("random")
        assert ends(lambda: file.write(b"outer"))
        assert file.tell() == 10
        file.close()
    assert ops.data[:10] == b"outerinner"


def test_a_store_that_writes_another_file_is_no_finalizer() -> None:
    """It reads at once what it has written, and hears at once what fails."""
    with PageCache("1 MiB", debug=True) as cache:
        other = cache.inode(WritableOps(SIZE), size_bytes=SIZE).open("r+b")
        seen: list[bytes] = []

        def answer(ops: ScriptedOps, page: Page) -> int:
            other.write(bytearray(b"written"))
            other.seek(0)
            seen.append(other.read(7))
            other.set_size(PAGE_SIZE)
            return updated(ops, page)

        file = cache.inode(WritableOps(SIZE, script={1: [answer]}), size_bytes=SIZE).open("r+b")
        file.advise("random")
        assert ends(partial(file.pwrite, b"x", PAGE_SIZE + 1))
        assert seen == [b"written"]


def test_no_thread_is_taken_for_one_that_was_cut_off_inside_the_core() -> None:
    """The system gives the number of one that has ended to the next."""
    here: list[tuple[int, int]] = []

    def note() -> None:
        here.append((threading.get_ident(), HERE.depth))
        go_in()

    for _ in range(100):
        assert ends(note)
        if here[-1][0] in [number for number, _ in here[:-1]]:
            break
    assert [depth for _, depth in here] == [0] * len(here)


def test_ctrl_c_that_comes_while_steps_run_leaves_the_thread_outside() -> None:
    """After any call that `run_steps` makes, which is where Python calls signal handlers."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)

    def steps(interrupted_at: int) -> Steps[int]:
        for number in range(3):
            if number == interrupted_at:
                signal.raise_signal(signal.SIGINT)
            waiter = SYSTEM.waiter()
            waiter.wake()
            yield waiter
        return 1

    try:
        for at in range(3):
            with pytest.raises(KeyboardInterrupt):
                run_steps(steps(at))
            assert HERE.depth == 0
        assert run_steps(steps(3)) == 1
    finally:
        signal.signal(signal.SIGINT, previous)
    assert HERE.depth == 0


class Cycle:
    """Garbage that only the collector finds; its finalizer tells whether a short way would ask where its thread is."""

    def __init__(self, told: list[bool]) -> None:
        self.told = told
        self.own = self

    def __del__(self) -> None:
        self.told.append(bool(SOMEBODY and HERE.depth))


def test_who_rests_is_known_before_the_collector_runs_a_finalizer_on_his_thread() -> None:
    told: list[bool] = []

    def rest() -> None:
        with inside(), resting():
            Cycle(told)
            gc.collect()
        told.append(threading.get_ident() in SOMEBODY)

    thread = threading.Thread(target=rest)
    thread.start()
    thread.join(TIMEOUT_S)
    assert told == [True, False]


def test_a_garbage_collection_runs_no_python_code_of_ours() -> None:
    """In it CPython swallows what a signal handler raises: Ctrl-C would be lost."""
    program = """
import gc, sys, pagein
with pagein.PageCache("1 MiB") as cache, cache.open(sys.argv[1]) as file:
    file.read()
    seen = []
    gc.disable()
    sys.settrace(lambda frame, event, argument: seen.append(frame.f_code.co_filename))
    gc.collect()
    sys.settrace(None)
assert not [name for name in seen if "pagein" in name], seen
"""
    subprocess.run([sys.executable, "-c", program, __file__], check=True, timeout=TIMEOUT_S)
