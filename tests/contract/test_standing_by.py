"""Who only waits for a page on its way, on a thread that a signal may interrupt: in no line, and by no worker."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from tests.contract.harness import Scene, Subject, Task
from tests.contract.paths import PREAD

from pagein.mm import reclaim
from pagein.mm.bring import lock_uptodate
from pagein.mm.page import Page
from pagein.mm.sync import Waiter, run_steps
from pagein.testing.stores import ScriptedOps, failing, gated, started
from pagein.units import PAGE_SIZE

HERE = 3


@pytest.fixture
def mode() -> str:
    """With checks a worker waits for him, whom they watch."""
    return "plain"


def on_its_way(scene: Scene, script: dict[int, Any] | None = None) -> tuple[Subject, Page, Task[bytes]]:
    """A file, its page, and another's read of it."""
    subject = scene.open(script or {HERE: [started]})
    first = scene.start(PREAD.read_page, subject, HERE)
    return subject, subject.ops.started_page(HERE), first


def when_he_stands_by(scene: Scene, page: Page, do: Callable[[], object]) -> Task[object]:
    def run() -> object:
        scene.until(lambda: len(page.bystanders) == 1)
        return do()

    return scene.start(run)


def test_no_worker_waits_for_him_and_he_has_waited_once(scene, monkeypatch):
    subject, page, first = on_its_way(scene)
    scene.until(lambda: page.waiter_count == 1)
    reader, work = subject.another(), subject.zone.workqueue
    calls: list[object] = []
    monkeypatch.setattr(work, "start", calls.append)
    before = subject.zone.counters.copy()
    task = when_he_stands_by(scene, page, lambda: subject.ops.complete(HERE))
    assert PREAD.read_page(reader, HERE) == subject.content(HERE)
    task.result()
    assert first.result() == subject.content(HERE)
    assert calls == []
    counted = {name: subject.zone.counters[name] - before[name] for name in ("misses", "waits")}
    assert counted == {"misses": 1, "waits": 1}
    assert len(subject.ops.calls_of(HERE)) == 1
    subject.assert_at_rest(HERE)


def test_of_what_does_not_come_he_asks_himself(scene):
    """The other's error is the other's; he hears of his own, and counts one miss."""
    mine = OSError(errno.EIO, "his own")
    subject, page, first = on_its_way(scene, {HERE: [started, failing(mine)]})
    scene.until(lambda: page.waiter_count == 1)
    misses = subject.zone.counters["misses"]
    task = when_he_stands_by(scene, page, lambda: subject.ops.complete(HERE, OSError(errno.EIO, "another's")))
    with pytest.raises(OSError, match="his own"):
        PREAD.read_page(subject.another(), HERE)
    task.result()
    assert first.error().args[1] == "another's"
    assert subject.zone.counters["misses"] == misses + 1
    assert len(subject.ops.calls_of(HERE)) == 2
    subject.assert_at_rest()


@pytest.mark.parametrize("path", ["view", "pread"])
def test_after_a_failure_he_is_in_line_behind_those_who_were_there_before(scene, path):
    """Else he would stand by again and again, while others ask, fail, and hand the lock on: and never hear."""
    reads = 0
    gate = scene.gate()

    def fail_slowly(ops: ScriptedOps, page: Page) -> int:
        nonlocal reads
        reads += 1
        raise OSError(errno.EIO, f"read {reads}")

    subject = scene.open({HERE: [started, gated(gate, fail_slowly), fail_slowly]})
    first = scene.start(PREAD.read_page, subject, HERE)
    page = subject.ops.started_page(HERE)
    scene.until(lambda: page.waiter_count == 1)
    reader = subject.another()
    other = scene.start(lambda: run_steps(lock_uptodate(subject.open_file, HERE, scene.door.waiter)))
    scene.until(lambda: page.waiter_count == 2)
    stood: list[int] = []

    def fail_the_first_then_the_second() -> None:
        scene.until(lambda: len(page.bystanders) == 1)
        subject.ops.complete(HERE, OSError(errno.EIO, "the first"))
        gate.wait_for_arrivals()
        scene.until(lambda: subject.waiting_for(HERE) == 1)
        stood.append(len(subject.mapping.in_flight[HERE].bystanders))
        gate.open()

    task = scene.start(fail_the_first_then_the_second)
    with pytest.raises(OSError, match="read 2"):
        reader.file.view(1, HERE * PAGE_SIZE) if path == "view" else reader.file.pread(1, HERE * PAGE_SIZE)
    task.result()
    assert stood == [0], "he is in line, and does not stand by"
    assert first.error().args[1] == "the first"
    assert other.error().args[1] == "read 1"
    subject.assert_at_rest()


def test_a_page_that_is_unlocked_as_he_comes_is_not_waited_for(scene, monkeypatch):
    """Between his look at what is on its way, and his coming: nobody would wake him."""
    subject, page, first = on_its_way(scene)
    scene.until(lambda: page.waiter_count == 1)
    make_waiter = scene.door.waiter

    def waiter_of_one_who_is_late() -> Waiter:
        monkeypatch.undo()
        subject.ops.complete(HERE)
        waiter: Waiter = make_waiter()
        monkeypatch.setattr(waiter, "wait", lambda *_: pytest.fail("nobody wakes him"))
        return waiter

    reader = subject.another()
    monkeypatch.setattr(scene.door, "waiter", waiter_of_one_who_is_late)
    assert PREAD.read_page(reader, HERE) == subject.content(HERE)
    assert first.result() == subject.content(HERE)
    assert page.bystanders == []
    subject.assert_at_rest(HERE)


def test_a_marker_on_the_page_fires_before_he_waits(scene):
    """As in Linux: the pipe is not to run dry."""
    subject = scene.open({index: [started] for index in range(8)}, page_count=64, cap_pages=64)
    first = scene.start(PREAD.read_page, subject, 0)
    page = subject.ops.started_page(0)
    scene.until(lambda: page.waiter_count == 1)
    with subject.zone.lock:
        page.marker_index = 0
    reader = subject.another()
    seen: list[tuple[int, int]] = []

    def look_and_complete() -> None:
        scene.until(lambda: page.waiter_count == 2)
        seen.append((page.marker_index, len(page.bystanders)))
        subject.ops.complete(0)

    task = scene.start(look_and_complete)
    assert PREAD.read_page(reader, 0) == subject.content(0)
    task.result()
    assert first.result() == subject.content(0)
    assert seen == [(-1, 0)], "taken off, and he is in line"


@pytest.mark.parametrize("index", [2, 3, 4, 5])
def test_he_is_handed_on_when_pages_part_and_when_they_become_one(scene, index):
    """Whoever unlocks the page that he waits for wakes him, and nobody before."""
    subject = scene.open(page_count=8)
    mapping = subject.mapping
    page = locked(subject, 2, 4)
    waits = scene.start(partial(page.bystanders.wait, page, index, counts=True))
    scene.until(lambda: len(page.bystanders) == 1)
    head = page.split_head(2)
    his, other = (head, page) if index < 4 else (page, head)
    assert [one.page_index for one in his.bystanders] == [index]
    assert other.bystanders == []
    other.unlock()
    assert waits.running
    behind = locked(subject, 6, 1)
    with subject.zone.lock:
        if index >= 4:
            page.absorb(behind)
        else:
            behind.release_in_zone()
    his.unlock()
    assert waits.result() is not None
    assert not mapping.in_flight
    subject.assert_at_rest()


def test_he_goes_on_with_the_page_that_takes_his_in(scene):
    """The run in front becomes one with it, and only that one is ever unlocked."""
    subject = scene.open(page_count=8)
    head, tail = locked(subject, 2, 2), locked(subject, 4, 2)
    waits = scene.start(partial(tail.bystanders.wait, tail, 5, counts=False))
    scene.until(lambda: len(tail.bystanders) == 1)
    with subject.zone.lock:
        head.absorb(tail)
    assert [one.page_index for one in head.bystanders] == [5]
    assert waits.running
    head.unlock()
    assert waits.result() is not None
    subject.assert_at_rest()


def locked(subject: Subject, index: int, page_count: int) -> Page:
    assert reclaim.try_reserve(subject.zone, page_count) == page_count
    page = subject.mapping.grab_run(index, page_count, wanted_pages=page_count)
    assert page is not None
    return page
