"""Closing a cache: every store is let go of, once, whatever the others raise and whatever is on its way."""

from __future__ import annotations

import errno
import gc
import os
import threading
from collections.abc import Iterator
from functools import partial

import pytest
from tests.file.sources import TIMEOUT_S, Outcome, binary, open_fds, outcome_of, run_in_threads

from pagein import File, PageCache
from pagein.stores.source import Opened
from pagein.testing.leaks import assert_nothing_left
from pagein.testing.stores import PATIENCE_S, Gate, ScriptedOps, gated, started, updated
from pagein.units import PAGE_SIZE

SIZE = 4 * PAGE_SIZE


class Place:
    """A store with one object.  It notes when it is let go of, and may complain then."""

    def __init__(self, name: str, *, ops: ScriptedOps | None = None, complains: bool = False) -> None:
        self.name = name
        self.key = ("place", id(self))
        self.ops = ops or ScriptedOps()
        self.closes = 0
        self.closed = threading.Event()
        self.error = OSError(errno.EIO, f"{name} cannot let go") if complains else None

    def source(self, path: str) -> Place:
        return self

    def open(self) -> Opened:
        return Opened(self.ops, SIZE, version="1", close=self.close)

    def close(self) -> None:
        self.closes += 1
        self.closed.set()
        if self.error:
            raise self.error


@pytest.fixture
def own_cache() -> Iterator[PageCache]:
    """To be closed by the test, also while a store is at work: in debug mode that is a breach of the contract."""
    cache = PageCache(64 * PAGE_SIZE, debug=False)
    yield cache
    while outcome_of(cache.close)[0] == "raised":
        pass


def test_a_store_that_cannot_be_closed_keeps_no_other_open(own_cache: PageCache) -> None:
    """The first complaint is told at once, each other one by the next close."""
    places = [Place(name, complains=name in "ac") for name in "abcd"]
    files = [binary(own_cache.open((place, "path"))) for place in places]
    assert all(file.read() == places[0].ops.content(0, SIZE) for file in files)
    told = []
    for _ in range(2):
        with pytest.raises(OSError, match="cannot let go") as raised:
            own_cache.close()
        told.append(raised.value)
        assert [place.closes for place in places] == [1, 1, 1, 1]
        assert all(file.closed for file in files)
    own_cache.close()
    assert set(map(id, told)) == {id(places[0].error), id(places[2].error)}
    assert [place.closes for place in places] == [1, 1, 1, 1]


def test_a_file_whose_store_cannot_be_closed_is_closed_and_the_cache_goes_on(own_cache: PageCache) -> None:
    bad, good = Place("bad", complains=True), Place("good")
    file, other = binary(own_cache.open((bad, "path"))), binary(own_cache.open((good, "path")))
    with pytest.raises(OSError, match="bad cannot let go"):
        file.close()
    assert file.closed
    file.close()
    assert other.read() == good.ops.content(0, SIZE)
    with binary(own_cache.open((bad, "path"))) as again:
        assert again.read() == bad.ops.content(0, SIZE)
        bad.error = None
    own_cache.close()
    assert (bad.closes, good.closes) == (2, 1)


def test_a_closed_cache_is_entered_and_synced_by_nobody() -> None:
    cache = PageCache("1M")
    assert not cache.closed
    with cache:
        cache.close()
    assert cache.closed
    with pytest.raises(ValueError, match="closed PageCache"):
        cache.sync()
    with pytest.raises(ValueError, match="closed PageCache"), cache:
        pass
    cache.close()


def test_a_second_close_does_nothing_and_gives_nothing_back_twice() -> None:
    gc.collect()
    fds = open_fds()
    cache, place = PageCache(64 * PAGE_SIZE), Place("a")
    file = binary(cache.open((place, "path")))
    file.read()
    for _ in range(3):
        cache.close()
        assert place.closes == 1
        with pytest.raises(ValueError, match="closed"):
            file.read()
        with pytest.raises(ValueError, match="closed"):
            cache.open((place, "path"))
    assert cache.stats().resident_bytes == 0
    place.ops.calls.clear()
    del cache, file
    gc.collect()
    assert open_fds() <= fds


@pytest.mark.parametrize("blocking", [False, True])
def test_a_store_is_let_go_of_only_after_its_last_page_has_come(own_cache: PageCache, blocking: bool) -> None:
    gate = Gate()
    ops = ScriptedOps({2: [gated(gate, updated) if blocking else started]})
    ops.blocking = blocking
    busy, idle = Place("busy", ops=ops), Place("idle")
    file = binary(own_cache.open((busy, "path")))
    file.advise("random")
    binary(own_cache.open((idle, "path"))).read()

    def close() -> None:
        ops.wait_for_calls(1)
        own_cache.close()
        assert (busy.closes, idle.closes) == (0, 1)
        gate.open()
        if not blocking:
            ops.complete(2)

    read, _ = run_in_threads([lambda: outcome_of(lambda: file.pread(1, 2 * PAGE_SIZE)), close])
    assert read == ("raised", ValueError, None)
    assert busy.closed.wait(PATIENCE_S)
    assert_nothing_left(own_cache._zone, settle_s=PATIENCE_S)
    own_cache.close()
    assert (busy.closes, idle.closes) == (1, 1)


def read_in_the_background(file: File, page_index: int) -> threading.Thread:
    reader = threading.Thread(target=outcome_of, args=(lambda: file.pread(1, page_index * PAGE_SIZE),), daemon=True)
    reader.start()
    return reader


def test_the_store_of_a_closed_file_is_let_go_of_once_its_last_page_has_come(own_cache: PageCache) -> None:
    """Though nobody calls the cache any more."""
    place = Place("busy", ops=ScriptedOps({2: [started]}))
    file = binary(own_cache.open((place, "path")))
    file.advise("random")
    reader = read_in_the_background(file, 2)
    place.ops.started_page(2)
    file.close()
    own_cache.stats()  # who follows up in between has nothing to wait for, and is not the one
    assert place.closes == 0
    place.ops.complete(2)
    assert place.closed.wait(PATIENCE_S)
    reader.join(PATIENCE_S)
    assert place.closes == 1


def test_who_is_refused_because_the_cache_was_closed_leaves_no_store_open(
    own_cache: PageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He has opened it, and a page of it is on its way when he hears that."""
    place, refused, entering = Place("busy", ops=ScriptedOps({2: [started]})), Gate(), PageCache._entered
    file = binary(own_cache.open((place, "path")))
    file.advise("random")
    reader = read_in_the_background(file, 2)
    place.ops.started_page(2)

    def entered(cache: PageCache, opened: File) -> File:
        refused.pass_through()
        return entering(cache, opened)

    monkeypatch.setattr(PageCache, "_entered", entered)
    told: list[Outcome] = []
    opening = partial(own_cache.open, (place, "path"))
    opener = threading.Thread(target=lambda: told.append(outcome_of(opening)), daemon=True)
    opener.start()
    refused.wait_for_arrivals()
    assert place.closes == 1, "what he has opened is the same, and was not needed"
    place.closed.clear()
    own_cache.close()
    refused.open()
    opener.join(PATIENCE_S)
    assert told == [("raised", ValueError, None)]
    assert place.closes == 1, "its page has not come"
    place.ops.complete(2)
    assert place.closed.wait(PATIENCE_S)
    reader.join(PATIENCE_S)
    assert place.closes == 2


def test_what_is_asked_for_while_the_cache_is_being_closed_leaves_no_store_open(
    own_cache: PageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By who has found the file open just before: after all that was begun has been ended."""
    place = Place("busy", ops=ScriptedOps({2: [started]}))
    file = binary(own_cache.open((place, "path")))
    owner, end_ahead = file._owner, own_cache._table.end_ahead

    def end_ahead_of_him() -> None:
        end_ahead()
        owner.will_need(file._file, 2, 3)
        place.ops.started_page(2)

    monkeypatch.setattr(own_cache._table, "end_ahead", end_ahead_of_him)
    own_cache.close()
    assert place.closes == 0, "its page has not come"
    place.ops.complete(2)
    assert place.closed.wait(PATIENCE_S)
    assert place.closes == 1


def test_what_a_store_says_when_it_is_closed_late_is_told_by_the_next_close(own_cache: PageCache) -> None:
    place = Place("busy", ops=ScriptedOps({2: [started]}), complains=True)
    file = binary(own_cache.open((place, "path")))
    file.advise("willneed", 2 * PAGE_SIZE, PAGE_SIZE)
    place.ops.started_page(2)
    own_cache.close()
    assert place.closes == 0
    place.ops.complete(2)
    for thread in threading.enumerate():
        if thread.name.startswith("pagein-work"):
            thread.join(TIMEOUT_S)
    assert place.closes == 1
    with pytest.raises(OSError, match="busy cannot let go"):
        own_cache.close()
    own_cache.close()


def test_those_in_line_before_a_store_are_not_asked_for_once_the_cache_is_closed(own_cache: PageCache) -> None:
    ops = ScriptedOps({0: [started]})
    ops.requests_max = 1
    place = Place("busy", ops=ops)
    file = binary(own_cache.open((place, "path")))
    file.advise("random")

    def read_second() -> Outcome:
        ops.started_page(0)
        return outcome_of(lambda: file.pread(1, 2 * PAGE_SIZE))

    def close() -> None:
        ops.started_page(0)
        while not file._file.mapping.device.queued_count:  # until the second has come to the line
            os.sched_yield()
        own_cache.close()
        ops.complete(0)

    first, second, _ = run_in_threads([lambda: outcome_of(lambda: file.pread(1, 0)), read_second, close])
    assert first == second == ("raised", ValueError, None)
    assert place.closed.wait(PATIENCE_S)
    assert ops.asked() == [("readpage", 0, 1)]


def test_several_threads_may_close_it_at_once() -> None:
    for _ in range(20):
        cache = PageCache(64 * PAGE_SIZE)
        places = [Place(name, complains=name == "a") for name in "abc"]
        for place in places:
            binary(cache.open((place, "path"))).read()
        outcomes = run_in_threads([lambda cache=cache: outcome_of(cache.close) for _ in range(4)])  # type: ignore[misc]
        assert [place.closes for place in places] == [1, 1, 1]
        assert sorted(map(repr, outcomes))[0] == repr(("raised", OSError, errno.EIO))
        assert outcomes.count(("returned", None, None)) == 3


def test_a_closed_cache_keeps_nothing_of_an_inode_that_goes_later() -> None:
    gc.collect()
    fds = open_fds()
    cache = PageCache(64 * PAGE_SIZE)
    ops = ScriptedOps()
    inode = cache.inode(ops, size_bytes=SIZE)
    inode.open().read()
    cache.close()
    ops.calls.clear()  # they refer to pages
    del inode, ops
    gc.collect()
    assert open_fds() <= fds, "the memory of its pages is still there"
    cache.close()
