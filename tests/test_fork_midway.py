"""Fork in the middle of things: views that overlap, and threads that hold a lock and stay in the parent."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from tests.forking import in_child

from pagein import File, Inode, PageCache
from pagein.stores.source import Opened
from pagein.testing.leaks import assert_nothing_left
from pagein.testing.stores import PATIENCE_S, Gate, ScriptedOps, pattern, started, updated
from pagein.units import PAGE_SIZE

pytestmark = [
    # Python 3.12 warns of every fork of a process that has threads; that it works all the same is what is tested.
    pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()"),
]

CAP_PAGES = 16
FILE_PAGES = 64


@pytest.fixture
def cache() -> Iterator[PageCache]:
    with PageCache(CAP_PAGES * PAGE_SIZE) as cache:
        yield cache
        assert_nothing_left(cache._zone, settle_s=PATIENCE_S)


def open_file(cache: PageCache, ops: ScriptedOps | None = None) -> tuple[Inode, File]:
    inode = cache.inode(ops or ScriptedOps(), size_bytes=FILE_PAGES * PAGE_SIZE)
    file = inode.open()
    file.advise("random")
    return inode, file


def content(first: int, stop: int) -> bytes:
    return pattern(first * PAGE_SIZE, (stop - first) * PAGE_SIZE)


# -- views ------------------------------------------------------------------------------------------------------

SPANS = {
    "side by side": [(0, 3), (3, 6)],
    "overlapping": [(0, 6), (3, 9)],
    "one in the other": [(0, 9), (2, 4), (3, 4)],
    "the same": [(2, 8), (2, 8), (2, 8)],
    "more than the cache, counted twice": [(0, 10), (1, 11), (2, 12), (0, 12)],
    "apart": [(0, 2), (20, 22), (40, 42)],
}


@pytest.mark.parametrize("spans", SPANS.values(), ids=list(SPANS))
def test_a_child_is_charged_once_for_each_page_that_views_show_and_has_room_for_the_rest(
    cache: PageCache, spans: list[tuple[int, int]]
) -> None:
    _, file = open_file(cache)
    shown_pages = {index for first, stop in spans for index in range(first, stop)}

    def check() -> None:
        zone = cache._zone
        assert zone.charged_pages == len(shown_pages)
        assert {at for first, count in file.resident() for at in range(first, first + count)} == shown_pages
        for index in range(FILE_PAGES):  # which evicts all that can be
            assert file.pread(PAGE_SIZE, index * PAGE_SIZE) == content(index, index + 1)
            assert zone.charged_pages <= CAP_PAGES
        room = CAP_PAGES - len(shown_pages)
        with file.view(room * PAGE_SIZE, 44 * PAGE_SIZE) as data:
            assert data == content(44, 44 + room)
        for (first, stop), view in zip(spans, views, strict=True):
            assert view == content(first, stop)
            view.release()
        cache.drop()
        assert zone.charged_pages == 0
        assert cache.stats().resident_bytes == 0
        assert_nothing_left(zone)

    with ExitStack() as stack:
        views = [stack.enter_context(file.view((stop - first) * PAGE_SIZE, first * PAGE_SIZE)) for first, stop in spans]
        in_child(check)
        assert cache._zone.charged_pages == len(shown_pages)
        for (first, stop), view in zip(spans, views, strict=True):
            assert view == content(first, stop)


def test_a_child_of_a_child_has_what_views_show_too(cache: PageCache) -> None:
    _, file = open_file(cache)

    def check() -> None:
        assert cache._zone.charged_pages == 6
        assert (bytes(first), bytes(second)) == (content(0, 4), content(2, 6))
        assert file.pread(PAGE_SIZE, 9 * PAGE_SIZE) == content(9, 10)

    def check_and_fork() -> None:
        check()
        cache.drop()
        in_child(check)

    with file.view(4 * PAGE_SIZE, 0) as first, file.view(4 * PAGE_SIZE, 2 * PAGE_SIZE) as second:
        in_child(check_and_fork)


def test_a_view_whose_pages_are_on_their_way_is_not_shown_in_a_child(cache: PageCache) -> None:
    """Some of its pages are here, and pinned; another thread, which stays in the parent, waits for the rest."""
    ops = ScriptedOps({2: [started]})
    _, file = open_file(cache, ops)
    assert file.pread(2 * PAGE_SIZE, 0) == content(0, 2)
    views: list[bytes] = []

    def view() -> None:
        with file.view(4 * PAGE_SIZE, 0) as data:
            views.append(bytes(data))

    def check() -> None:
        assert not cache._zone.locked
        for index in range(FILE_PAGES):
            assert file.pread(PAGE_SIZE, index * PAGE_SIZE) == content(index, index + 1)

    thread = threading.Thread(target=view, daemon=True)
    thread.start()
    page = ops.started_page(2)
    while not page.waiter_count:  # until then it may be inside the store, with the lock that is the store's own
        os.sched_yield()
    in_child(check)
    ops.complete(2)
    thread.join(PATIENCE_S)
    assert views == [content(0, 4)]


# -- threads that stay in the parent ----------------------------------------------------------------------------


def test_a_child_can_resize_what_a_thread_of_its_parent_is_resizing(cache: PageCache) -> None:
    """That thread waits for a page that is on its way, and holds the inode's lock meanwhile."""
    ops = ScriptedOps({5: [started]})
    inode, file = open_file(cache, ops)
    file.advise("willneed", 5 * PAGE_SIZE, PAGE_SIZE)
    page = ops.started_page(5)
    thread = threading.Thread(target=inode.resize, args=(2 * PAGE_SIZE,), daemon=True)
    waits_before = page.waiter_count
    thread.start()
    while page.waiter_count == waits_before:
        os.sched_yield()

    def check() -> None:
        assert file.size_bytes == 2 * PAGE_SIZE
        inode.resize(FILE_PAGES * PAGE_SIZE)
        assert file.pread(PAGE_SIZE, 5 * PAGE_SIZE) == content(5, 6)
        inode.resize(PAGE_SIZE)
        assert file.pread(PAGE_SIZE, PAGE_SIZE) == b""
        assert file.resident() in ([], [(0, 1)])

    assert inode.mapping.i_rwsem.held
    in_child(check)
    ops.complete(5)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert file.size_bytes == 2 * PAGE_SIZE


@pytest.mark.parametrize("is_counted", [False, True])
def test_what_somebody_will_need_is_brought_by_the_parent_and_keeps_nothing_open_in_the_child(
    is_counted: bool, cache: PageCache
) -> None:
    ops = ScriptedOps({5: [started]})
    inode, file = open_file(cache, ops)
    file.advise("willneed", 5 * PAGE_SIZE, PAGE_SIZE)
    ops.started_page(5)

    if is_counted:
        inode.open().close()

    def check() -> None:
        file.close()
        assert (inode.open_count, cache.stats().open_files) == (0, 0)

    assert cache.stats().open_files == 1
    in_child(check)
    ops.complete(5)


def test_a_child_can_open_what_a_thread_of_its_parent_is_opening(cache: PageCache) -> None:
    class Slow:
        key = name = "slow"
        is_slow = True

        def source(self, path: str) -> Slow:
            return self

        def open(self) -> Opened:
            if self.is_slow:
                gate.pass_through()
            return Opened(ScriptedOps(), PAGE_SIZE, version="1")

    gate, slow = Gate(), Slow()
    thread = threading.Thread(target=lambda: cache.open((slow, "path")).close(), daemon=True)
    thread.start()
    gate.wait_for_arrivals()

    def check() -> None:
        slow.is_slow = False
        with cache.open((slow, "path")) as file:
            assert file.read() == content(0, 1)
        cache.close()

    in_child(check)
    gate.open()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_a_child_can_read_from_the_position_of_a_file_that_a_thread_of_its_parent_is_reading(cache: PageCache) -> None:
    ops = ScriptedOps({0: [started]})
    _, file = open_file(cache, ops)
    thread = threading.Thread(target=file.read, args=(PAGE_SIZE,), daemon=True)
    thread.start()
    ops.started_page(0)

    def check() -> None:
        assert file.tell() == 0
        assert file.read(2 * PAGE_SIZE) == content(0, 2)

    in_child(check)
    ops.complete(0)
    thread.join(PATIENCE_S)
    assert file.tell() == PAGE_SIZE


def test_a_child_can_close_a_cache_in_which_threads_of_its_parent_wait(cache: PageCache) -> None:
    """For a page, in the line before the store, and for memory."""
    ops = ScriptedOps(default=started)
    ops.requests_max = 2
    _, file = open_file(cache, ops)
    threads = [
        threading.Thread(target=file.pread, args=(1, index * PAGE_SIZE), daemon=True)
        for index in range(0, 2 * CAP_PAGES + 4, 2)
    ]
    for thread in threads:
        thread.start()
    while len(cache._zone.memory_waiters) < 2:
        os.sched_yield()

    def check() -> None:
        ops.default = updated
        assert file.pread(PAGE_SIZE, 5 * PAGE_SIZE) == content(5, 6)
        assert_nothing_left(cache._zone)
        cache.close()
        assert file.closed

    in_child(check)
    asked = 0
    while any(thread.is_alive() for thread in threads):
        if len(ops.calls) > asked:
            ops.complete(ops.calls[asked].index)
            asked += 1
        os.sched_yield()
