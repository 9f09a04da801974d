"""A store that reads through the cache itself: what it needs is let through the line, which waits for it."""

from __future__ import annotations

import pytest
from tests.contract.harness import Subject
from tests.contract.paths import by_fault
from tests.device.harness import ask, assert_line_is_empty, device_of, read_page

from pagein.mm.page import Page
from pagein.testing.stores import (
    Answer,
    Gate,
    ScriptedOps,
    completed,
    started,
    updated,
)

# -- a store that reads through the cache itself -----------------------------------------------------------------


class Archive(ScriptedOps):
    """Another store than that of `ScriptedOps`."""


def reading(inner: Subject, index: int, *, gate: Gate | None = None) -> Answer:
    """Read a page of another file through the cache, then bring the page."""

    def answer(ops: ScriptedOps, page: Page) -> int:
        if gate is not None:
            gate.pass_through()
        assert read_page(inner, index) == inner.content(index)
        return updated(ops, page)

    return answer


@pytest.mark.parametrize("same_store", [True, False], ids=["same-store", "other-store"])
def test_a_store_that_reads_through_the_cache_is_let_through_a_full_line(scene, same_store):
    """It is what the line waits for."""
    outer_ops = ScriptedOps() if same_store else Archive()
    inner = scene.open(default=completed, requests_max=1)
    outer = scene.open(ops=outer_ops, cache=inner.cache, requests_max=1)
    outer_ops.default = reading(inner, 5)
    assert (device_of(inner) is device_of(outer)) == same_store
    assert scene.start(read_page, outer, 0).result() == outer.content(0)
    inner.assert_at_rest(5)
    assert_line_is_empty(inner)
    assert_line_is_empty(outer)


def test_a_store_is_let_through_another_store_s_full_line(scene):
    """Whose only request is not answered until this one has been."""
    inner = scene.open({0: [started]}, requests_max=1)
    outer = scene.open(ops=Archive(), cache=inner.cache, requests_max=1)
    outer.ops.script(0, reading(inner, 5))
    slow = scene.start(read_page, inner, 0)
    inner.ops.started_page(0)
    assert scene.start(read_page, outer, 0).result() == outer.content(0)
    assert slow.running
    inner.ops.complete(0)
    assert slow.result() == inner.content(0)
    inner.assert_at_rest(0, 5)


def test_many_that_read_through_the_cache_at_once(scene):
    """Each occupies a request of the outer store and one of the inner, which takes no more than two."""
    gate = scene.gate()
    inner = scene.open(requests_max=2, page_count=40)
    outer = scene.open(ops=Archive(), cache=inner.cache, page_count=40, requests_max=8)
    readers = []
    for number in range(16):
        outer.ops.script(2 * number, reading(inner, 2 * number, gate=gate if scene.blocking else None))
        readers.append(scene.start(read_page, outer, 2 * number))
    gate.open()
    assert [reader.result() for reader in readers] == [outer.content(2 * number) for number in range(16)]
    inner.assert_at_rest(*inner.uptodate())


@pytest.mark.parametrize("wanted", [True, False], ids=["a reader's", "ahead"])
def test_a_page_that_stands_in_the_line_already_does_not_keep_such_a_store_waiting(blocking_scene, wanted):
    """Somebody else has asked for it, behind the very request whose operation needs it now."""
    scene = blocking_scene
    gate = scene.gate()
    inner = scene.open(requests_max=1)
    outer = scene.open(cache=inner.cache, requests_max=1)
    outer.ops.script(0, reading(inner, 5, gate=gate))
    first = scene.start(read_page, outer, 0)
    gate.wait_for_arrivals()
    ask(inner, 5, wanted=wanted)
    assert device_of(inner).queued_count == 1
    gate.open()
    try:
        first.join(1.0)
    finally:
        if first.running:  # let the test end, and not hang
            inner.cache._zone.devices[inner.ops.device_key].requests_max = 2
            inner.mapping.device.start_queued()
    assert first.result() == outer.content(0)
    inner.assert_at_rest(5)
    assert_line_is_empty(inner)


def test_who_gets_a_lock_that_such_a_store_stands_in_line_for_is_let_through_too(blocking_scene):
    """He stands before it in the page's line, and would stand behind it in the store's."""
    scene = blocking_scene
    gate = scene.gate()
    inner = scene.open(requests_max=1)
    outer = scene.open(cache=inner.cache, requests_max=1)
    outer.ops.script(0, reading(inner, 5, gate=gate))
    first = scene.start(read_page, outer, 0)
    gate.wait_for_arrivals()
    page = inner.mapping.lock_page(5)
    fault = scene.start(by_fault, inner, 5)
    scene.until(lambda: page.waiter_count == 1)
    gate.open()
    scene.until(lambda: page.waiter_count == 2)
    page.unlock()
    assert fault.result() == inner.content(5)
    assert first.result() == outer.content(0)
    inner.assert_at_rest(5)
    assert_line_is_empty(inner)
