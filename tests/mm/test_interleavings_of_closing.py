"""A cache that is closed while others are in the middle of a change, under many schedules: it is in the store in the
end, or who makes it is told that it is not.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from tests.mm.schedules import LOCKS
from tests.mm.test_interleavings_of_writes import Scene, on_every_kind

from pagein import PageCache, UnwrittenDataError, unwritten
from pagein.mm import reclaim, write
from pagein.mm.dirty import DirtyState
from pagein.mm.flusher import Flusher
from pagein.mm.page import LockedPage, Page
from pagein.mm.sync import Steps
from pagein.testing.schedule import Scheduler
from pagein.testing.stores import ScriptedOps, updated
from pagein.testing.writable import WritableOps
from pagein.units import PAGE_SIZE

CHANGES: dict[str, Callable[[Scene], object]] = {
    "write": lambda scene: scene.file.pwrite(b"late", 8),
    "direct write": lambda scene: scene.file.pwrite(b"late", 8, direct=True),
    "new size": lambda scene: scene.file.set_size(100),
    "hole": lambda scene: scene.file.punch_hole(8, 4),
}


@pytest.mark.schedules(10, LOCKS, departures=1)
@on_every_kind
@pytest.mark.parametrize("what", CHANGES)
def test_a_cache_that_closes_waits_for_a_change_that_has_begun(scheduler: Scheduler, kind: str, what: str) -> None:
    """Either it has been made, and is in the store; or who makes it is told that the file, or the cache, is closed."""
    outcome: list[bool] = []

    def change() -> None:
        try:
            CHANGES[what](scene)
            outcome.append(True)
        except ValueError:
            outcome.append(False)

    with Scene(scheduler, kind) as scene:  # no page is here: most changes have to wait for one
        scene.spawn(changer=change, closer=scene.cache.close)
        scene.scheduler.run()
        if not outcome[0]:
            expected = scene.expected()
        elif what == "new size":
            expected = scene.expected()[:100]
        else:
            expected = scene.expected((8, bytes(4) if what == "hole" else b"late"))
        assert scene.store.data == expected


@pytest.mark.parametrize("blocking", [False, True])
def test_a_write_whose_own_store_closes_the_cache_is_told_so(blocking: bool) -> None:
    """It cannot be waited for: the store is what it waits for."""

    def closes(ops: ScriptedOps, page: Page) -> int:
        cache.close()
        return updated(ops, page)

    ops = WritableOps(PAGE_SIZE, script={0: [closes]})
    ops.blocking = blocking
    cache = PageCache("1 MiB")
    file = cache.inode(ops, size_bytes=PAGE_SIZE).open("r+b")
    with pytest.raises(ValueError, match="closed"):
        file.pwrite(b"late", 8)
    assert ops.done == []


def test_a_write_in_the_middle_of_which_a_finalizer_closes_the_cache_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It cannot be waited for either: it goes on when the finalizer has ended."""
    lock_pages = write._lock_pages

    def lock_pages_after_a_finalizer(*arguments: Any) -> Steps[LockedPage]:
        cache.close()
        return (yield from lock_pages(*arguments))

    monkeypatch.setattr(write, "_lock_pages", lock_pages_after_a_finalizer)
    ops = WritableOps(PAGE_SIZE)
    cache = PageCache("1 MiB")
    file = cache.inode(ops, size_bytes=PAGE_SIZE).open("r+b")
    with pytest.raises(ValueError, match="closed"):
        file.pwrite(b"late", 8)
    assert ops.done == []


@pytest.mark.schedules(10, [DirtyState.grant_steps, reclaim.reserve_steps, Flusher._turn])
@on_every_kind
@pytest.mark.parametrize("limit", [0.5, 1.0], ids=["room", "memory"])
@pytest.mark.parametrize("is_closing_already", [False, True])
def test_a_close_that_discards_tells_a_writer_who_waits_for_what_a_store_declines(
    scheduler: Scheduler, kind: str, limit: float, is_closing_already: bool
) -> None:
    """He has ``i_rwsem``, and so would be waited for; and with him, perhaps, by who has begun to close the cache."""

    def write() -> None:
        with pytest.raises(ValueError, match="closed PageCache"):
            scene.file.pwrite(b"x" * 8 * PAGE_SIZE, 0)

    def read() -> None:
        scheduler.sleep(1.0)
        with suppress(ValueError):
            scene.file.pread(2 * PAGE_SIZE, 6 * PAGE_SIZE)

    def close() -> None:
        scheduler.sleep(2.0)
        with suppress(UnwrittenDataError):
            scene.cache.close()

    def discard() -> None:
        scheduler.sleep(3.0)
        scene.cache.close(discard=True)
        assert scheduler.now_s() < 5

    scene = Scene(scheduler, kind, pages=8, cap_pages=4, background=0.0, limit=limit)
    scene.store.declines_until_s = 100.0
    closers = {"closer": close, "discarder": discard} if is_closing_already else {"discarder": discard}
    scene.spawn(writer=write, reader=read, **closers)
    scheduler.run()
    assert scene.store.data == scene.expected()


@pytest.mark.schedules(10, [DirtyState.grant_steps])
@on_every_kind
def test_a_close_that_discards_does_not_wait_for_what_a_finalizer_had_to_write(scheduler: Scheduler, kind: str) -> None:
    """Nor has that a file which could be closed."""

    def write() -> None:
        assert isinstance(unwritten.write_late(scene.cache._table, scene.inode, waits=True), ValueError)

    def discard() -> None:
        scheduler.sleep(3.0)
        scene.cache.close(discard=True)
        assert scheduler.now_s() < 5

    scene = Scene(scheduler, kind, pages=8, cap_pages=4, background=0.0, limit=0.5)
    scene.store.declines_until_s = 100.0
    scene.mapping.late.append((0, b"x" * 8 * PAGE_SIZE))
    scene.spawn(writer=write, discarder=discard)
    scheduler.run()
    assert scene.store.data == scene.expected()
