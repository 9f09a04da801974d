"""Steps that wait without a thread: the worker that has brought them to their wait is free, and holds nothing.

Reclaim tells by the thread whether waiting for memory can help.  A page that is locked for steps which no worker runs
at the moment must not count as that of the worker who came by last.
"""

from __future__ import annotations

import threading
from functools import partial

import pytest
from tests.contract.harness import Scene

from pagein.mm import readahead, reclaim
from pagein.mm.bring import Bring, lock_uptodate
from pagein.mm.page import LockedPage
from pagein.mm.workqueue import Workqueue
from pagein.testing.stores import PATIENCE_S, Gate, started
from pagein.units import PAGE_SIZE


class Outcome:
    """What became of steps that nobody waits for."""

    def __init__(self) -> None:
        self.result: object = None
        self.error: BaseException | None = None
        self._ended = threading.Event()

    def settle(self, result: object, error: BaseException | None) -> None:
        self.result, self.error = result, error
        self._ended.set()

    def settle_and_unlock(self, page: LockedPage | None, error: BaseException | None) -> None:
        assert page is not None
        page.unlock()
        self.settle(None, error)

    @property
    def is_pending(self) -> bool:
        return not self._ended.is_set()

    def wait(self) -> None:
        assert self._ended.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error


def test_a_lock_that_was_granted_to_steps_makes_no_other_s_read_enomem() -> None:
    with Scene(debug=False) as scene:
        subject = scene.open(cap_pages=2)
        zone, queue = subject.zone, subject.zone.workqueue
        gate, locked, brought = scene.gate(), Outcome(), Outcome()
        held = subject.mapping.lock_page(0)
        queue.run_detached(partial(lock_uptodate, subject.open_file, 0), locked.settle_and_unlock)
        scene.until(lambda: subject.waiting_for(0) == 1)
        vacancies = list(queue._vacancies)
        queue._vacancies.clear()  # from here on there is one worker
        try:
            _occupy(queue, gate)
            queue.run_detached(Bring(subject.open_file, 5, 1), brought.settle)
            held.unlock()  # which grants the lock, and puts those who have it behind the other in the queue
            assert reclaim.try_reserve(zone, 2) == 1, "and no memory is left"
            gate.open()
            locked.wait()
            brought.wait()
        finally:
            with zone.lock:
                zone.uncharge(1, reserved=True)
            queue._vacancies.extend(vacancies)
        assert subject.file.pread(PAGE_SIZE, 5 * PAGE_SIZE) == subject.content(5)


def _occupy(queue: Workqueue, gate: Gate) -> None:
    queue.start(gate.pass_through)
    gate.wait_for_arrivals()


def test_populate_waits_for_all_that_it_has_asked_for_in_whatever_order_it_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It waits for one piece after the other, of several that are under way, and for each as long as it takes."""
    monkeypatch.setattr(readahead, "_piece_pages", lambda file, **_: 1)
    monkeypatch.setattr(readahead, "window_pages_max", lambda file, **_: 4)
    with Scene(debug=False) as scene:
        subject = scene.open(default=started)
        queue, populated = subject.zone.workqueue, Outcome()
        monkeypatch.setattr(type(subject.mapping.device.pipe), "width", 8)
        queue.run_detached(partial(readahead.populate, subject.open_file, 0, 4), populated.settle)
        for index in (3, 1, 2, 0):
            subject.ops.started_page(index)
            scene.until(lambda: bool(queue._idle))
            assert populated.is_pending, f"{index} had not come"
            subject.ops.complete(index)
        populated.wait()
        subject.assert_at_rest(0, 1, 2, 3)
