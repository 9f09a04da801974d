"""The long lock of an inode: who gets it when, and who is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from tests.contract.harness import Scene

from pagein.mm import workqueue
from pagein.mm.mapping import AddressSpace
from pagein.mm.sync import MakeWaiter, Steps
from pagein.testing.stores import PATIENCE_S


@pytest.fixture
def scene() -> Iterator[Scene]:
    with Scene(debug=False) as scene:
        yield scene


@pytest.fixture
def mapping(scene: Scene) -> AddressSpace:
    """Of which somebody holds the lock."""
    mapping = scene.open().mapping
    with pytest.raises(StopIteration):
        next(mapping.i_rwsem.acquire_steps(scene.door.waiter))
    return mapping


def test_first_come_first_served(scene, mapping):
    steps = [mapping.i_rwsem.acquire_steps(scene.door.waiter) for _ in range(2)]
    first, second = map(next, steps)
    mapping.i_rwsem.release()
    assert first.wait(PATIENCE_S)
    assert not second.wait(0)
    mapping.i_rwsem.release()
    assert second.wait(PATIENCE_S)
    mapping.i_rwsem.release()
    assert not mapping.i_rwsem.held


@pytest.mark.parametrize("is_told", [False, True])
def test_who_is_interrupted_leaves_the_lock_to_the_next(scene, mapping, is_told):
    """Also if it was his by then."""
    interrupted, other = (mapping.i_rwsem.acquire_steps(scene.door.waiter) for _ in range(2))
    next(interrupted)
    second = next(other)
    if is_told:
        mapping.i_rwsem.release()
    with pytest.raises(KeyboardInterrupt):
        interrupted.throw(KeyboardInterrupt())
    if not is_told:
        mapping.i_rwsem.release()
    assert second.wait(PATIENCE_S)
    mapping.i_rwsem.release()
    assert not mapping.i_rwsem.held


def test_steps_that_wait_without_a_thread_go_on_when_the_lock_is_theirs(scene, mapping, monkeypatch):
    monkeypatch.setattr(workqueue, "IDLE_S", 6 * PATIENCE_S)  # at its end a worker looks, told or not
    waits, done, queue = threading.Event(), threading.Event(), mapping.zone.workqueue

    def steps(make_waiter: MakeWaiter) -> Steps[None]:
        for waiter in mapping.i_rwsem.acquire_steps(make_waiter):
            waits.set()
            yield waiter
        mapping.i_rwsem.release()

    queue.run_detached(steps, lambda result, error: done.set())
    assert waits.wait(PATIENCE_S)
    scene.until(lambda: len(queue._idle) == 1)  # else he who has brought the steps to their wait would look once more
    scene.start(mapping.i_rwsem.release).result()
    assert done.wait(PATIENCE_S)
    assert not mapping.i_rwsem.held
