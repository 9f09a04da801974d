"""`PageCache.trace`: what happened is in it, Perfetto opens it, and files are afterwards what they were before."""

from __future__ import annotations

import errno
import gc
import json
import os
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter, deque
from contextlib import suppress
from pathlib import Path
from types import MethodType, SimpleNamespace
from typing import Any

import pytest
from tests.forking import in_child

import pagein
from pagein import trace as trace_module, trace_file
from pagein.stores import MemoryStore
from pagein.testing.httpserver import RangeServer
from pagein.testing.stores import Gate, ScriptedOps, gated, updated
from pagein.units import PAGE_SIZE

TIMEOUT_S = 60.0
Event = dict[str, Any]


def events_of(path: Path) -> list[Event]:
    """The events of a trace, each as the format wants it."""
    events: list[Event] = json.loads(path.read_text())
    open_spans: Counter[tuple[str, str, str]] = Counter()
    for event in events:
        assert isinstance(event["name"], str)
        assert (type(event["pid"]), type(event["tid"])) == (int, int)
        assert event["ph"] in "XbeiCM"
        if event["ph"] == "M":
            assert event["args"]["name"]
            continue
        assert event["ts"] >= 0
        if event["ph"] == "X":
            assert event["dur"] >= 0
        if event["ph"] in "be":
            key = event["cat"], event["name"], event["id"]
            open_spans[key] += 1 if event["ph"] == "b" else -1
            assert open_spans[key] in (0, 1)
        if event["ph"] == "C":
            assert all(isinstance(value, int) for value in event["args"].values())
    return events


def of(events: list[Event], category: str, phase: str) -> list[Event]:
    return [event for event in events if event.get("cat") == category and event["ph"] == phase]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace.json"


def test_of_a_cold_scan_it_has_each_read_and_fetches_that_brought_the_whole_file(path: Path) -> None:
    data, block = os.urandom(2_000_001), 64 << 10
    with RangeServer({"data": data}) as server, pagein.PageCache("64 MiB") as cache:
        with cache.trace(path), cache.open(server.url("data")) as file:
            while file.read(block):
                pass
        fetched_bytes = cache.stats().fetched_bytes
    events = events_of(path)
    reads = of(events, "read", "X")
    assert [read["args"]["offset"] for read in reads] == [*range(0, len(data), block), len(data)]
    assert sum(read["args"]["size"] for read in reads) == len(data) == fetched_bytes
    assert {read["args"]["file"] for read in reads} == {server.url("data")}
    fetches = of(events, "fetch", "e")
    assert sum(fetch["args"]["bytes"] for fetch in fetches) == len(data)
    begun = of(events, "fetch", "b")
    assert len(begun) == len(fetches)
    assert sum(fetch["args"]["size"] for fetch in begun) == len(data)
    assert {fetch["name"] for fetch in begun} == {f"fetch from {server.url('').rstrip('/')}"}


def test_it_tells_hits_from_misses_by_thread_and_the_methods_by_name(path: Path) -> None:
    store = MemoryStore({"data": b"line\n" * 4000})
    with pagein.PageCache("1 MiB") as cache, cache.open((store, "data")) as file:
        file.advise("random")
        with cache.trace(path):
            thread = threading.Thread(target=file.pread, args=(100, PAGE_SIZE), name="the reader")
            thread.start()
            thread.join()
            file.pread(size=100, offset=PAGE_SIZE)
            file.readline()
            next(file)
            file.readinto(bytearray(10))
            file.view(10, 0).release()
            with pytest.raises(TypeError):
                file.pread(10, "nonsense")  # type: ignore[arg-type]
    events = events_of(path)
    reads = of(events, "read", "X")
    told = [(read["name"], read["args"].get("offset"), read["args"].get("size")) for read in reads]
    assert told == [
        ("pread, miss", PAGE_SIZE, 100),
        ("pread", PAGE_SIZE, 100),
        ("readline, miss", 0, 5),
        ("readline", 5, 5),
        ("readinto", 10, 10),
        ("view", 0, 10),
        ("pread", None, None),
    ]
    assert "nonsense" in reads[-1]["args"]["error"] or "integer" in reads[-1]["args"]["error"]
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert [names[read["tid"]] for read in reads[:2]] == ["the reader", threading.current_thread().name]


class _Odd:
    """Has ``__index__``, and is no integer, as an array of numpy's."""

    def __index__(self) -> int:
        raise RuntimeError("no scalar")


@pytest.mark.parametrize("offset", [_Odd(), 1 << 100_000, -(1 << 100_000), None], ids=["odd", "far", "below", "none"])
def test_an_offset_that_makes_no_sense_does_not_end_it(path: Path, offset: Any) -> None:
    store = MemoryStore({"data": b"line\n" * 4000})
    with pagein.PageCache("1 MiB") as cache, cache.open((store, "data")) as file, cache.trace(path):
        with suppress(ValueError, TypeError, RuntimeError):
            file.pread(4, offset)
        assert file.pread(4, 5) == b"line"
    wrong, right = of(events_of(path), "read", "X")
    assert "offset" not in wrong["args"]
    assert right["args"]["offset"] == 5


def test_what_could_not_be_written_for_whatever_reason_is_told_by_close(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: trace_file.TraceFile, event: object) -> str:
        raise LookupError("a mistake of ours")

    with pagein.PageCache("1 MiB") as cache:
        monkeypatch.setattr(trace_file.TraceFile, "_line", fail)
        trace = cache.trace(path)
        with pytest.raises(LookupError, match="a mistake of ours"):
            trace.close()
        trace.close()
        monkeypatch.undo()
        cache.trace(path).close()


def test_ctrl_c_in_a_read_that_is_traced_keeps_no_later_one_from_being_traced(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After any call that it makes beside the read itself, which is where Python calls signal handlers."""
    interrupted_at = iter([0])

    def now_ns() -> int:
        if next(interrupted_at, 0) == 1:
            raise KeyboardInterrupt
        return time.monotonic_ns()

    with pagein.PageCache("1 MiB") as cache, cache.open((MemoryStore({"data": b"line"}), "data")) as file:
        file.read()
        with cache.trace(path) as traced:
            monkeypatch.setattr(trace_module, "time", SimpleNamespace(monotonic_ns=now_ns))
            for calls in ([1], [0, 1]):
                interrupted_at = iter(calls)
                with pytest.raises(KeyboardInterrupt):
                    file.pread(1, 1)
                assert not traced.here.is_inside
                file.pread(1, 2)
    assert [read["args"]["offset"] for read in of(events_of(path), "read", "X")] == [2, 2]


def test_it_tells_which_pages_of_which_file_were_driven_out(path: Path) -> None:
    store = MemoryStore({"a": os.urandom(1 << 20), "b": os.urandom(1 << 20)})
    with pagein.PageCache("256 KiB") as cache, cache.open((store, "a")) as a, cache.open((store, "b")) as b:
        with cache.trace(path):
            a.read()
            b.read()
            cache.drop()
        stats = cache.stats()
    gone = of(events_of(path), "evict", "i")
    for name, pages in (("evict", stats.evictions), ("drop", stats.drops)):
        assert sum(event["args"]["bytes"] for event in gone if event["name"] == name) == pages * PAGE_SIZE
    seen = {(e["args"]["file"], at) for e in gone for at in range(e["args"]["offset"], e["args"]["offset"] + 1)}
    assert {file for file, _ in seen} == {"memory:a", "memory:b"}
    assert all(0 <= offset < 1 << 20 for _, offset in seen)


def test_it_tells_what_is_written_and_written_back(path: Path, tmp_path: Path) -> None:
    with pagein.PageCache("1 MiB") as cache, cache.trace(path), cache.open(tmp_path / "out", "wb") as file:
        file.write(b"x" * 3 * PAGE_SIZE)
        file.pwrite(b"y", 0)
        file.fsync()
    events = events_of(path)
    told = [(event["name"].removesuffix(", miss"), event["args"].get("size")) for event in of(events, "write", "X")]
    assert told == [("write", 3 * PAGE_SIZE), ("pwrite", 1), ("fsync", None)]
    (begun,), (ended,) = of(events, "writeback", "b"), of(events, "writeback", "e")
    assert (begun["args"]["offset"], begun["args"]["size"], ended["args"]["failed"]) == (0, 3 * PAGE_SIZE, False)


def test_it_tells_that_a_reader_waits_for_a_page_that_another_has_asked_for(path: Path) -> None:
    gate = Gate()
    ops = ScriptedOps(default=gated(gate, updated))
    with pagein.PageCache("1 MiB") as cache, cache.trace(path):
        file = cache.inode(ops, size_bytes=PAGE_SIZE).open()
        first, second = (threading.Thread(target=file.pread, args=(1, 0)) for _ in range(2))
        first.start()
        gate.wait_for_arrivals()
        second.start()
        while not cache._zone.counters["waits"]:
            second.join(0.001)
        gate.open()
        first.join()
        second.join()
    assert [event["name"] for event in of(events_of(path), "wait", "b")] == ["wait for a page that is on its way"]


def test_files_are_what_they_were_before_and_those_opened_meanwhile_are_traced(path: Path) -> None:
    store = MemoryStore({"data": b"x" * 100})
    with pagein.PageCache("1 MiB") as cache, cache.open((store, "data")) as before:
        assert type(before) is pagein.File
        with cache.trace(path):
            assert type(before) is not pagein.File
            with cache.open((store, "data")) as meanwhile, cache.open((store, "data"), "r") as text:
                assert (meanwhile.read(), text.read()) == (b"x" * 100, "x" * 100)
                assert isinstance(meanwhile, pagein.File)
                assert repr(meanwhile).startswith("<pagein.File name='memory:data'")
        assert type(before) is pagein.File
        before.read()
    assert len(of(events_of(path), "read", "X")) >= 2  # text asks once more, at the end


KILLED = """
import os, sys, pagein, time
cache = pagein.PageCache("1 MiB")
trace = cache.trace(sys.argv[1])
file = cache.open(__file__ if "__file__" in globals() else sys.executable)
while os.path.getsize(sys.argv[1]) < 5_000:
    file.pread(10, 0)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_of_a_process_that_is_killed_or_ends_without_closing_it_can_be_opened(path: Path, how: str) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(path), how], check=how == "ended", timeout=TIMEOUT_S)
    if how == "killed":  # the format allows that it is missing; Python's parser does not
        assert not path.read_text().endswith("]\n")
        path.write_text(path.read_text() + "]")
    assert of(events_of(path), "read", "X")


def test_a_second_trace_of_a_cache_is_refused_and_leaves_the_first_as_it_is(path: Path) -> None:
    with pagein.PageCache("1 MiB") as cache:
        with cache.trace(path) as trace:
            with pytest.raises(ValueError, match="the cache is traced already"):
                cache.trace(path)
            trace.close()
            trace.close()
        assert events_of(path)
        with cache.trace(path):  # again, from the start
            pass
    with pytest.raises(ValueError, match="closed"):
        cache.trace(path)


def test_a_place_that_cannot_be_written_is_told_at_once_and_a_full_one_at_the_end(tmp_path: Path) -> None:
    with pagein.PageCache("1 MiB") as cache, cache.open((MemoryStore({"data": b"x"}), "data")) as file:
        with pytest.raises(FileNotFoundError):
            cache.trace(tmp_path / "nowhere" / "trace.json")
        trace = cache.trace("/dev/full")
        assert file.read() == b"x"  # who reads is not disturbed
        with pytest.raises(OSError) as told:
            trace.close()
        assert told.value.errno == errno.ENOSPC
        trace.close()  # told once
        assert type(file) is pagein.File


def test_one_that_was_closed_is_kept_by_nobody(path: Path) -> None:
    with pagein.PageCache("1 MiB") as cache:
        trace = cache.trace(path)
        writer, gone = trace._file._writer, weakref.ref(trace)
        trace.close()
        writer.join(TIMEOUT_S)
        del trace
        gc.collect()
        assert gone() is None


def test_one_that_could_not_begin_is_kept_by_nobody(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fails:
        def __init__(self, *arguments: object, at_end: MethodType, **keywords: object) -> None:
            begun.append(weakref.ref(at_end.__self__))
            raise FileNotFoundError

    begun: list[weakref.ref[object]] = []
    monkeypatch.setattr(trace_module, "TraceFile", Fails)
    with pagein.PageCache("1 MiB") as cache:
        with pytest.raises(FileNotFoundError):
            cache.trace(path)
        gc.collect()
        assert [one() for one in begun] == [None]


def test_closing_the_cache_ends_its_trace(path: Path) -> None:
    cache = pagein.PageCache("1 MiB")
    cache.trace(path)
    cache.close()
    assert events_of(path)


def test_who_reads_faster_than_it_is_written_waits_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unwritten_most = [0]

    class Events(deque[Any]):
        def append(self, event: Any, /) -> None:
            super().append(event)
            unwritten_most.append(max(unwritten_most.pop(), len(self)))

    monkeypatch.setattr(trace_file, "deque", Events)
    monkeypatch.setattr(trace_file, "BATCH_EVENTS", 10)
    monkeypatch.setattr(trace_file, "EVENTS_MAX", 100)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with pagein.PageCache("1 MiB") as cache, cache.open((MemoryStore({"data": b"x"}), "data")) as file:
        file.read()
        trace = cache.trace(pipe)
        done: list[int] = []
        reader = threading.Thread(target=lambda: done.extend(len(file.pread(1, 0)) for _ in range(3000)), daemon=True)
        reader.start()
        # Until he is held back.  (By then the writer may have taken a batch or two of the hundred, and found the pipe
        # full: who waits for just a hundred waits for ever.)
        while not (len(trace._file._events) >= 50 and trace._file._changed._waiters):  # type: ignore[attr-defined]
            reader.join(0.001)
        os.set_blocking(reading, True)
        drained = tmp_path / "trace.json"
        with open(reading, "rb") as source, open(drained, "wb") as target:
            copier = threading.Thread(target=lambda: target.write(source.read()))
            copier.start()
            reader.join(TIMEOUT_S)
            trace.close()
            copier.join()
    assert 100 <= unwritten_most[0] <= 110
    assert (len(done), len(of(events_of(drained), "read", "X"))) == (3000, 3000)


def test_a_forked_child_does_not_write_to_its_parents_trace(path: Path) -> None:
    store = MemoryStore({"data": b"x"})
    with pagein.PageCache("1 MiB") as cache, cache.open((store, "data")) as file, cache.trace(path) as trace:

        def child() -> None:
            assert file.read() == b"x"
            trace.close()
            assert type(file) is pagein.File
            with cache.trace(f"{path}.child"):
                file.pread(1, 0)

        in_child(child)
        file.pread(1, 0)
    assert [event["name"] for event in of(events_of(path), "read", "X")] == ["pread, miss"]
    assert [event["name"] for event in of(events_of(Path(f"{path}.child")), "read", "X")] == ["pread"]
