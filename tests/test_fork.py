"""Fork: a child starts with the same files and an empty cache of its own; its parent notices nothing."""

import gc
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from tests.forking import in_child

import pagein
from pagein import process
from pagein.mm import fork
from pagein.mm.sync import OwnedLock
from pagein.stores import MemoryStore

pytestmark = [
    # Python 3.12 warns of every fork of a process that has threads; that it works all the same is what is tested.
    pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()"),
]

DATA = os.urandom(1 << 20) + b"the end"


@pytest.fixture
def cache() -> Iterator[pagein.PageCache]:
    with pagein.PageCache("256 KiB") as cache:
        yield cache


def test_a_child_reads_every_byte_through_an_empty_cache_and_the_parent_keeps_its_own(cache: pagein.PageCache) -> None:
    with cache.open((MemoryStore({"a": DATA}), "a")) as file:
        file.advise("random")  # so that nothing comes in the background
        assert file.read(100_000) == DATA[:100_000]
        before = cache.stats()

        def check() -> None:
            assert cache.stats().resident_bytes == 0
            assert file.tell() == 100_000
            assert file.read() == DATA[100_000:]
            assert file.pread(len(DATA), 0) == DATA
            assert 0 < cache.stats().resident_bytes <= 256 << 10

        in_child(check)
        assert cache.stats() == before
        assert file.pread(100_000, 0) == DATA[:100_000]
        assert cache.stats().requests == before.requests, "the parent's pages were still there"


def test_a_view_shows_the_same_bytes_in_both_after_a_fork(cache: pagein.PageCache) -> None:
    with cache.open((MemoryStore({"a": DATA}), "a")) as file, file.view(9000, 5000) as shown:

        def check() -> None:
            assert shown == DATA[5000:14000]
            assert file.pread(len(DATA), 0) == DATA, "a whole cache of other pages passed by"
            assert shown == DATA[5000:14000]
            assert cache.stats().pinned_bytes == 3 * 4096

        in_child(check)
        assert shown == DATA[5000:14000]


@pytest.mark.parametrize("mode", ["rb", "r+b"])
def test_a_child_keeps_nothing_of_its_parents_memory_open(cache: pagein.PageCache, mode: str) -> None:
    def memory_files() -> set[int]:
        names = {fd: f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")}
        return {
            os.stat(name).st_ino for name in names.values() if os.path.exists(name) and "pagein-" in os.readlink(name)
        }

    with cache.open((MemoryStore({"a": DATA}), "a"), mode) as file:
        file.read()
        arenas = list(cache._zone.arenas.values())
        fds = [memory.fd for arena in arenas for memory in (arena._frames, arena._flags)]
        in_parent = {os.fstat(fd).st_ino for fd in fds if fd >= 0}
        assert in_parent <= memory_files()
        assert bool(in_parent) is (mode == "r+b"), "what is private is no file"

        def check() -> None:
            assert not memory_files() & in_parent
            anew = {memory.fd for arena in arenas for memory in (arena._frames, arena._flags) if memory.fd >= 0}
            assert {os.fstat(fd).st_ino for fd in anew} <= memory_files()
            assert len(anew) == len(in_parent)

        in_child(check)


@pytest.mark.parametrize(("mode", "end"), [("rb", "closed"), ("rb", "collected"), ("r+b", "closed")])
@pytest.mark.parametrize("is_large", [False, True], ids=["a shared arena", "an arena of its own"])
def test_a_view_that_outlives_its_cache_shows_the_same_in_children(
    tmp_path: Path, mode: str, end: str, *, is_large: bool
) -> None:
    path = tmp_path / "a"
    with path.open("wb") as made:
        made.write(DATA)
        if is_large:
            made.truncate(100 << 30)
    cache = pagein.PageCache("4 MiB")
    file = cache.open(path, "rb") if mode == "rb" else cache.open(path, "r+b")
    shown = file.view(10_000, 5000)
    zone, kept = weakref.ref(cache._zone), list[object]()
    file.close()
    if end == "closed":
        cache.close()
        kept += [cache, file]  # so that the arena is not collected
    del file, cache
    gc.collect()
    assert (zone() is None) is (end == "collected"), "else the test tests nothing"

    def check() -> None:
        assert shown == DATA[5000:15_000]

    in_child(check)
    in_child(lambda: in_child(check))
    assert shown == DATA[5000:15_000]


def test_a_view_that_could_not_be_copied_shows_the_same_in_a_child(
    cache: pagein.PageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child has no cache then, and Python prints why."""
    with cache.open((MemoryStore({"a": DATA}), "a")) as file, file.view(10_000, 5000) as shown:

        def no_memory(zone: object) -> NoReturn:
            raise MemoryError

        monkeypatch.setattr(fork, "_shown", no_memory)
        monkeypatch.setattr(sys, "unraisablehook", lambda _: None)

        def check() -> None:
            assert shown == DATA[5000:15_000]
            assert cache._zone.closed

        in_child(check)
        monkeypatch.undo()
        (arena,) = cache._zone.arenas.values()
        arena.memory[100 << 20] = 1  # of no file: nobody copies it
        in_child(lambda: None if arena.memory[100 << 20] == 0 else os._exit(1))
        arena.memory[100 << 20] = 0
        arena.punch((100 << 20) >> 12, 1)
        assert shown == DATA[5000:15_000]


def test_two_threads_that_fork_at_once_both_let_go_of_what_they_locked(
    cache: pagein.PageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second waits for the first, who must not take him for himself: nobody would let go of the second's locks."""
    # Of this cache only: to one whose door is a test's clock, and which has not been collected yet, both are one.
    monkeypatch.setattr(process, "caches", weakref.WeakSet([cache]))
    monkeypatch.setattr(fork, "_zones", weakref.WeakSet([cache._zone]))
    forked: list[str] = []

    def second() -> None:
        process._before_fork()
        fork._before()
        forked.append("second")
        fork._after_in_parent()
        process._after_fork_in_parent()

    def is_in_line() -> bool:
        assert thread.ident is not None
        frame = sys._current_frames().get(thread.ident)
        return frame is not None and frame.f_code is OwnedLock.__enter__.__code__

    process._before_fork()
    fork._before()
    thread = threading.Thread(target=second, daemon=True)
    thread.start()
    while not is_in_line():
        assert thread.is_alive()
        os.sched_yield()
    assert not forked
    fork._after_in_parent()
    process._after_fork_in_parent()
    thread.join(10)
    assert forked == ["second"]
    assert not cache._lock._lock.locked()  # type: ignore[attr-defined]
    assert not cache._zone.lock._lock.locked()  # type: ignore[attr-defined]


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
def test_who_forks_under_a_lock_of_ours_has_it_still(debug: bool) -> None:
    """A finalizer may, that came in there: what its holder was about to change others must not see half changed."""
    with pagein.PageCache("256 KiB", debug=debug) as cache, cache.open((MemoryStore({"a": DATA}), "a")) as file:
        for lock in (cache._zone.lock, cache._table.lock):
            with lock:
                in_child(lambda: None)
                assert lock.held_here()
        in_child(lambda: file.pread(1, 0))
        assert file.pread(5000, 100) == DATA[100:5100]
