"""Pins: they end by themselves, with what shows them, and not before."""

from __future__ import annotations

import errno
import gc
import weakref
from collections.abc import Iterator
from pickle import PickleBuffer

import pytest
from tests.contract.harness import Scene, Subject

import pagein
from pagein.mm import pin as pin_module, reclaim
from pagein.mm.pin import SWEEP_AT, Pin, Pins
from pagein.stores import MemoryStore
from pagein.testing.leaks import assert_nothing_left
from pagein.testing.stores import failing
from pagein.units import PAGE_SIZE


@pytest.fixture
def scene() -> Iterator[Scene]:
    with Scene(debug=False) as scene:
        yield scene


@pytest.fixture
def subject(scene: Scene) -> Subject:
    return scene.open(runs=[], cap_pages=8)


def entered(pins: Pins, frame: int, stop_frame: int) -> memoryview:
    """A view as `PageReader.view` makes it: a memoryview of one that nobody else has, and that the pin looks at."""
    shown = memoryview(b"shown")
    pins.entries.append((frame, stop_frame, shown))
    return memoryview(PickleBuffer(shown))


def shrink_all(subject: Subject) -> list[int]:
    """What stays when all that can be evicted is."""
    with subject.zone.lock:
        reclaim.shrink(subject.zone, 100)
    return subject.uptodate()


# -- the table -------------------------------------------------------------------------------------


def test_a_pin_lasts_until_it_is_put():
    pins = Pins()
    one, two = Pin(pins, 3, 5), Pin(pins, 4, 9)
    assert sorted(pins.spans()) == [(3, 5), (4, 9)]
    one.put()
    one.put()
    assert pins.spans() == [(4, 9)]
    del two
    assert pins.spans() == []


def test_equal_pins_are_two():
    """Each ends by itself: a page shown twice stays until both are gone."""
    pins = Pins()
    one, two = Pin(pins, 3, 5), Pin(pins, 3, 5)
    one.put()
    assert pins.spans() == [(3, 5)]
    two.put()
    assert pins.spans() == []


def test_a_view_lasts_until_it_is_released_or_gone():
    pins = Pins()
    one, two = (entered(pins, at, at + 1) for at in (1, 2))
    assert pins.spans() == [(1, 2), (2, 3)]
    one.release()
    assert pins.spans() == [(2, 3)]
    del two
    assert pins.spans() == []
    pins.sweep()
    assert pins.entries == [], "and nothing of them is kept"


def test_entries_that_have_ended_are_swept_out_in_time(monkeypatch):
    """Not at each turn, but when there are twice as many as live, so that each costs a constant."""
    monkeypatch.setattr(pin_module, "SWEEP_AT", 10)
    pins = Pins()
    assert pins.sweep_at == 10
    live = [entered(pins, at, at + 1) for at in range(100)]
    pins.sweep()
    assert len(pins.spans()) == 100
    assert pins.sweep_at == 200
    live.clear()
    assert pins.spans() == []
    pins.sweep()
    assert pins.sweep_at == 10
    assert pins.entries == []
    assert SWEEP_AT == 4096


def test_pins_that_are_entered_during_a_sweep_stay():
    """By other threads, or by a finalizer of this one."""
    pins = Pins()
    kept: list[memoryview] = []

    class Entering:
        def __del__(self) -> None:
            kept.append(entered(pins, 7, 8))

    pins.entries.append((1, 2, Entering()))
    pins.sweep()
    assert pins.spans() == [(7, 8)]


def test_a_pin_that_is_entered_while_a_sweep_looks_at_the_others_stays(monkeypatch):
    pins, kept, live = Pins(), [], pin_module._live

    def look_and_enter(entries: list[pin_module.Entry], idle_references: int) -> list[pin_module.Entry]:
        found = live(entries, idle_references)
        kept.append(entered(pins, 7, 8))
        return found

    pins.entries.append((1, 2, object()))
    monkeypatch.setattr(pin_module, "_live", look_and_enter)
    pins.sweep()
    monkeypatch.undo()
    assert pins.spans() == [(7, 8)]


def test_many_short_views_leave_no_heap_of_entries(subject):
    """A reader that only ever looks: its ended pins are swept out though reclaim never comes by."""
    subject.file.view(10, 0)
    pins = subject.mapping.arena.pins
    for _ in range(3 * SWEEP_AT):
        subject.file.view(10, 5)
    subject.zone.workqueue.shielded(lambda: None)
    assert len(pins.entries) <= 2 * SWEEP_AT + 300


# -- what is pinned stays --------------------------------------------------------------------------


def test_the_pages_of_a_view_stay_and_no_others(subject):
    subject.file.pread(8 * PAGE_SIZE, 0)
    with subject.file.view(2, 2 * PAGE_SIZE - 1) as data:
        assert shrink_all(subject) == [1, 2]
        assert bytes(data) == subject.ops.content(2 * PAGE_SIZE - 1, 2)
        assert subject.cache.stats().pinned_bytes == 2 * PAGE_SIZE
        assert subject.cache.drop() == 0
    assert shrink_all(subject) == []
    assert subject.cache.stats().pinned_bytes == 0


@pytest.mark.parametrize("cached", [True, False])
def test_a_view_is_pinned_whether_its_pages_were_here_or_not(subject, cached):
    if cached:
        subject.file.pread(8 * PAGE_SIZE, 0)
    data = subject.file.view(3 * PAGE_SIZE, PAGE_SIZE)
    assert shrink_all(subject) == [1, 2, 3]
    assert data == subject.content(1, 3)
    assert data.readonly
    data.release()
    assert shrink_all(subject) == []


def part(view: memoryview) -> memoryview:
    return view[100:200]


def cast(view: memoryview) -> memoryview:
    return view.cast("Q")[:10].cast("B")


def another_view(view: memoryview) -> memoryview:
    return memoryview(view)


def over_an_array(view: memoryview) -> memoryview:
    """As numpy.frombuffer makes it: an object that has asked for the buffer."""
    return memoryview(PickleBuffer(view))


@pytest.mark.parametrize("derive", [part, cast, another_view, over_an_array])
def test_what_was_made_from_a_view_keeps_its_pages(subject, derive):
    """A slice, a cast or an array that outlives the view still shows what it showed."""
    data = subject.file.view(PAGE_SIZE, 0)
    derived = derive(data)
    content = bytes(derived)
    if derive is over_an_array:
        with pytest.raises(BufferError):
            data.release()
    else:
        data.release()
    del data
    gc.collect()
    assert shrink_all(subject) == [0]
    assert bytes(derived) == content
    assert derived.readonly
    derived.release()
    del derived
    assert shrink_all(subject) == []


def test_a_view_that_fails_leaves_no_pin(scene):
    """For want of memory, or because its store fails."""
    error = OSError(errno.EIO, "bad sector")
    subject = scene.open({3: [failing(error)] * 3}, cap_pages=8)
    with subject.file.view(8 * PAGE_SIZE, 8 * PAGE_SIZE) as data:
        assert bytes(data) == b""
    with pytest.raises(OSError, match="bad sector"):
        subject.file.view(PAGE_SIZE, 3 * PAGE_SIZE)
    assert subject.mapping.arena.pins.spans() == []
    other = scene.open(cache=subject.cache)
    with other.file.view(7 * PAGE_SIZE, 0), pytest.raises(OSError, match="pinned, locked or dirty"):
        subject.file.view(2 * PAGE_SIZE, 0)
    assert subject.mapping.arena.pins.spans() == []


def test_an_empty_view_pins_nothing(subject):
    assert bytes(subject.file.view(0, 0)) == bytes(subject.file.view(5, 10**9)) == b""
    assert subject.mapping.arena.pins.spans() == []
    assert subject.ops.calls == []


def test_a_view_of_a_closed_file_keeps_its_pages(subject):
    data = subject.file.view(PAGE_SIZE, 0)
    subject.file.close()
    assert shrink_all(subject) == [0]
    assert bytes(data) == subject.content(0)
    data.release()
    assert shrink_all(subject) == []


def test_a_view_outlives_its_cache(scene):
    """Its memory is not taken from under it; the cache's leak check has nothing to say to a cache that is closed."""
    subject = scene.open()
    data = subject.file.view(PAGE_SIZE, PAGE_SIZE)
    subject.cache.close()
    assert bytes(data) == subject.content(1)
    data.release()
    assert_nothing_left(subject.zone)


def test_views_pin_before_they_look(subject, monkeypatch):
    """Removal clears Uptodate, then reads the pins; a view pins, then looks.  So one of them sees the other."""
    subject.file.pread(8 * PAGE_SIZE, 0)
    spans_when_looked_at: list[list[tuple[int, int]]] = []
    real = subject.file._uptodate

    class Looked:
        def __getitem__(self, flags: slice) -> bytes:
            spans_when_looked_at.append(subject.mapping.arena.pins.spans())
            return bytes(real[flags])

    subject.file._uptodate = Looked()
    data = subject.file.view(PAGE_SIZE, 3 * PAGE_SIZE)
    subject.file._uptodate = real
    frame = subject.mapping.base + 3
    assert spans_when_looked_at == [[(frame, frame + 1)]]
    data.release()


# -- views in garbage ------------------------------------------------------------------------------


def leave_in_a_cycle(*parts: object) -> None:
    """As the traceback of an exception does that a local variable keeps."""
    cycle: list[object] = [*parts]
    cycle.append(cycle)


def test_a_view_in_a_cycle_is_collected_and_its_pages_go(subject):
    """Before 3.12.7, the collector crashes on a memoryview that exports to another, if both are garbage."""
    data = subject.file.view(PAGE_SIZE, 0)
    leave_in_a_cycle(data, data[1:], data.cast("Q"))
    del data
    gc.collect()
    assert shrink_all(subject) == []


def test_views_in_a_cycle_with_their_cache_are_collected_with_it():
    """Nothing of them is left, and the memory is given back."""
    with Scene(debug=False) as scene:
        subject = scene.open(runs=[], cap_pages=8)
        data = subject.file.view(2 * PAGE_SIZE, 0)
        arena = weakref.ref(subject.mapping.arena.memory)
        leave_in_a_cycle(data[1:], data, subject)
        del data, subject
    del scene
    for _ in range(2):  # the views; then, now that nobody uses them, what they showed
        gc.collect()
    assert arena() is None
    assert not pin_module._AFTERLIFE


def test_a_view_that_outlives_its_cache_gives_the_memory_back_at_the_next_collection():
    with pagein.PageCache("1 MiB") as cache, cache.open((MemoryStore({"a": b"shown"}), "a")) as file:
        memory = weakref.ref(file._mapping.arena.memory)
        data = file.view(5, 0)
    del cache, file
    gc.collect()
    assert memory() is not None
    assert bytes(data) == b"shown"
    del data
    gc.collect()
    assert memory() is None
