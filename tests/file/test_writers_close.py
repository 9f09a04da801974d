"""What closing writes back, what it tells, and what becomes of data that no store takes."""

from __future__ import annotations

import errno
import gc
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.contract.harness import Task
from tests.file.sources import DATA, assert_nothing_left, binary, open_fds, outcome_of, run_in_threads
from tests.file.writable import Disk

import pagein
from pagein import PageCache, UnwrittenDataError, closing, follow_up, unwritten
from pagein.mm import truncate
from pagein.mm.page import Page
from pagein.mm.sync import Steps
from pagein.mm.walk import wait_on_writeback
from pagein.mm.wbc import WritebackControl
from pagein.stores import MemoryStore
from pagein.stores.staged import StagedOperations
from pagein.testing import DurableStore, FaultyStore
from pagein.testing.writable import WritableOps, store_failing
from pagein.units import PAGE_SIZE

TIMEOUT_S = 10


@pytest.fixture
def own_cache() -> Iterator[PageCache]:
    """To be closed by the test."""
    cache = PageCache("1 MiB", debug=True)
    yield cache
    cache.close(discard=True)


@pytest.fixture(params=["in place", "whole"])
def disk(request: pytest.FixtureRequest) -> Disk:
    return Disk({"a": DATA}, whole=request.param == "whole")


def full() -> OSError:
    return OSError(errno.ENOSPC, "no space left on disk", "a")


# -- a file ------------------------------------------------------------------------------------------


def test_close_hands_everything_to_the_store(disk: Disk, cache: PageCache) -> None:
    with binary(cache.open((disk, "a"), "r+b")) as file:
        file.pwrite(b"new", 30 * PAGE_SIZE)
    assert disk.objects["a"] == DATA[: 30 * PAGE_SIZE] + b"new" + DATA[30 * PAGE_SIZE + 3 :]
    assert disk.open_count == 0
    assert disk.names_of_calls().count("fsync") == (1 if disk.whole else 0)


def test_close_hands_a_size_over_that_no_page_tells_of(disk: Disk, cache: PageCache) -> None:
    for size in (5000, 50_000, 0):
        with binary(cache.open((disk, "a"), "r+b")) as file:
            file.truncate(size)
        assert len(disk.objects["a"]) == size


def test_what_close_cannot_write_it_raises_and_the_next_who_opens_the_file_has_it(disk: Disk, cache: PageCache) -> None:
    file = binary(cache.open((disk, "a"), "r+b"))
    file.write(b"new")
    disk.error = full()
    with pytest.raises(OSError, match="no space") as raised:
        file.close()
    assert raised.value.errno == errno.ENOSPC
    assert file.closed
    file.close()
    with binary(cache.open((disk, "a"))) as reader:
        assert reader.pread(5, 0) == b"new" + DATA[3:5]
    again = binary(cache.open((disk, "a"), "r+b"))
    disk.error = None
    again.close()
    assert disk.objects["a"] == b"new" + DATA[3:]
    assert cache.stats().open_files == 0
    assert disk.open_count == 0


def test_an_error_in_the_background_is_told_by_each_writer_s_close_once(cache: PageCache) -> None:
    disk = Disk({"a": DATA})
    files = [binary(cache.open((disk, "a"), "r+b")) for _ in range(3)]
    files[0].write(b"new")
    disk.error = full()
    with pytest.raises(OSError, match="no space"):
        files[0].fsync()
    disk.error = None
    files[0].fsync()
    for file in files[1:]:
        with pytest.raises(OSError, match="no space"):
            file.close()
    files[0].close()
    assert disk.objects["a"] == b"new" + DATA[3:]


def test_every_call_on_a_closed_writer_is_a_value_error(cache: PageCache, tmp_path: Path) -> None:
    file = binary(cache.open(tmp_path / "file", "w+b"))
    file.write(b"x" * 100)
    file.close()
    calls: dict[str, Callable[[], object]] = {
        "write": lambda: file.write(b"x"), "writelines": lambda: file.writelines([b"x"]), "truncate": file.truncate,
        "pwrite": lambda: file.pwrite(b"x", 0), "pwrite of many pages": lambda: file.pwrite(b"x" * 9000, 0),
        "punch_hole": lambda: file.punch_hole(0, 1), "fsync": file.fsync, "flush": file.flush, "discard": file.discard,
        "save_as": lambda: file.save_as(tmp_path / "other"), "read": file.read, "writable": file.writable,
    }  # fmt: skip
    for name, call in calls.items():
        with pytest.raises(ValueError, match="closed file"):
            call()
        assert file.closed, name


def test_a_close_under_a_writer_loses_nothing_that_its_write_returned_for(cache: PageCache) -> None:
    for number in range(40):
        disk = Disk({"a": b""})
        file = binary(cache.open((disk, "a"), "r+b"))
        written: list[int] = []

        def write(file: pagein.File = file, written: list[int] = written) -> None:
            try:
                for at in range(1000):
                    file.pwrite(b"x", at)
                    written.append(at)
            except ValueError:
                pass

        def close(file: pagein.File = file, written: list[int] = written, number: int = number) -> None:
            while len(written) < number:
                os.sched_yield()
            file.close()

        run_in_threads([write, close])
        cache.sync()
        assert len(disk.objects["a"]) >= len(written)


# -- a cache -----------------------------------------------------------------------------------------


def test_a_cache_that_closes_writes_back_what_is_open_and_what_is_not(own_cache: PageCache, disk: Disk) -> None:
    disk.error = full()
    closed, still_open = (binary(own_cache.open((disk, name), "wb")) for name in "bc")
    closed.write(b"closed")
    still_open.write(b"open")
    with pytest.raises(OSError, match="no space"):
        closed.close()
    disk.error = None
    own_cache.close()
    assert (disk.objects["b"], disk.objects["c"]) == (b"closed", b"open")
    assert still_open.closed
    assert disk.open_count == 0


def test_a_cache_with_unwritten_data_names_them_and_stays_open(own_cache: PageCache, disk: Disk) -> None:
    files = [binary(own_cache.open((disk, name), "wb")) for name in "bc"]
    files[0].write(b"12345")
    files[1].write(b"x" * 10_000)
    disk.error = full()
    for _ in range(2):
        with pytest.raises(UnwrittenDataError, match=r"b \(5 B\), c \(9.8 KiB\): no space left") as raised:
            own_cache.close()
        assert raised.value.errno == errno.ENOSPC
        assert raised.value.files == {"b": 5, "c": 10_000}
        assert isinstance(raised.value.__cause__, OSError)
    assert files[0].write(b"6") == 1, "the cache and its files are as they were"
    with pytest.raises(UnwrittenDataError, match=r"c \(9.8 KiB\)"):
        own_cache.sync()
    disk.error = None
    own_cache.close()
    assert (disk.objects["b"], disk.objects["c"]) == (b"123456", b"x" * 10_000)


def test_the_bytes_of_files_of_one_name_are_added_up(own_cache: PageCache) -> None:
    ops = WritableOps(0, default_store=store_failing(full()))
    for _ in range(2):
        binary(own_cache.inode(ops, size_bytes=0, name="one").open("r+b")).write(b"12345")
    with pytest.raises(UnwrittenDataError, match="no space") as raised:
        own_cache.close()
    assert raised.value.files == {"one": 10}


def test_only_a_close_that_discards_loses_data(own_cache: PageCache, disk: Disk) -> None:
    file = binary(own_cache.open((disk, "a"), "r+b"))
    file.write(b"new")
    disk.error = full()
    with pytest.raises(OSError, match="no space"):
        file.close()
    own_cache.close(discard=True)
    disk.error = None
    assert disk.objects["a"] == DATA
    assert disk.open_count == 0
    own_cache.close()


def test_an_error_that_has_healed_keeps_no_cache_open(own_cache: PageCache, disk: Disk) -> None:
    file = binary(own_cache.open((disk, "a"), "r+b"))
    file.write(b"new")
    disk.error = full()
    with pytest.raises(OSError, match="no space"):
        file.fsync()
    disk.error = None
    file.fsync()
    own_cache.close()
    assert disk.objects["a"][:3] == b"new"


def test_text_that_has_not_come_to_its_file_is_written_when_the_cache_closes(own_cache: PageCache, disk: Disk) -> None:
    text = own_cache.open((disk, "t"), "w", encoding="utf-8")
    text.write("naïve")
    own_cache.close()
    assert disk.objects["t"] == "naïve".encode()
    with pytest.raises(ValueError, match="closed"):
        text.write("more")


def test_text_over_an_inode_of_the_user_s_is_written_at_sync(own_cache: PageCache) -> None:
    ops = WritableOps(0)
    text = own_cache.inode(ops, size_bytes=0).open("w")
    text.write("text")
    own_cache.sync()
    assert ops.content(0, 4) == b"text"


def test_text_that_cannot_be_flushed_is_kept_and_named_and_keeps_no_other_from_its_store(
    own_cache: PageCache, disk: Disk
) -> None:
    texts: list[Any] = [own_cache.open((disk, name), mode) for name, mode in (("a", "r+"), ("b", "w"))]
    for text in texts:
        text.write("text")
    disk.put("a", b"another's" * 100)
    for _ in range(2):
        with pytest.raises(UnwrittenDataError, match="changed while it was open") as raised:
            own_cache.sync()
        assert raised.value.files == {"a": 4}
    assert disk.objects["b"] == b"text"


def test_nothing_is_opened_once_a_cache_that_closes_has_closed_its_files(own_cache: PageCache) -> None:
    outcomes, disk = [], Disk({"a": DATA})
    file, note_writing = binary(own_cache.open((disk, "a"), "r+b")), disk.note_writing

    def write_or_open(name: str, path: str) -> None:
        if name == "store":
            if file.closed:
                outcomes.append(outcome_of(lambda: own_cache.open((disk, "b"), "wb")))
            else:
                file.pwrite(b"again", 0)  # so that something is left to write when the files are closed
        note_writing(name, path)

    disk.note_writing = write_or_open  # type: ignore[method-assign]
    file.pwrite(b"once", 0)
    own_cache.close()
    assert outcomes == [("raised", ValueError, None)]
    assert "b" not in disk.objects
    assert disk.objects["a"][:5] == b"again"


def test_sync_makes_every_file_durable(own_cache: PageCache, disk: Disk) -> None:
    text, file = own_cache.open((disk, "t"), "w"), binary(own_cache.open((disk, "b"), "wb"))
    text.write("text")
    file.write(b"bytes")
    own_cache.sync()
    assert (disk.objects["t"], disk.objects["b"]) == (b"text", b"bytes")
    assert disk.names_of_calls().count("fsync") == 2
    own_cache.sync()


def test_sync_tells_nobody_of_what_it_has_made_good_so_all_others_are_told() -> None:
    """Also who opens the file next, as long as nobody has heard of it."""
    store = FaultyStore(DurableStore({"a": b""}))
    store.inject("store")
    with PageCache(4 * PAGE_SIZE) as cache:  # one page may be dirty: the first is written back for the second
        first = binary(cache.open((store, "a"), "r+b"))
        first.write(b"x" * 2 * PAGE_SIZE)
        cache.sync()
        assert store.errors("store") == 1
        next_one = cache.open((store, "a"), "r+b")
        for file in (next_one, first):
            with pytest.raises(OSError, match="injected"):
                file.close()
        cache.open((store, "a"), "r+b").close()  # now somebody has


def test_sync_raises_what_kept_a_store_from_having_it_durably_though_it_has_all_of_it() -> None:
    store = FaultyStore(DurableStore({"a": b"", "b": b""}))
    with PageCache("1 MiB") as cache:
        files = [binary(cache.open((store, name), "r+b")) for name in "ab"]
        for file in files:
            file.write(b"x")
        store.inject("fsync", error=errno.EDQUOT)
        with pytest.raises(OSError, match="injected") as caught:
            cache.sync()
        assert caught.value.errno == errno.EDQUOT
        cache.sync()
        told = [outcome_of(file.close)[0] for file in files]
        assert sorted(told) == ["raised", "returned"], "and whoever has that file open hears of it"


def test_what_sync_writes_out_stays_open_in_its_store_though_its_last_writer_closes(
    own_cache: PageCache, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, write_out_all = binary(own_cache.open((disk, "a"), "r+b")), unwritten.write_out_all
    open_counts = []

    def close_before(*arguments: Any, **options: Any) -> list[BaseException | None]:
        file.close()
        open_counts.append(disk.open_count)
        return write_out_all(*arguments, **options)

    file.write(b"new")
    monkeypatch.setattr(unwritten, "write_out_all", close_before)
    own_cache.sync()
    assert open_counts == [1]
    assert disk.all_closed(), "by a worker, perhaps"


def test_a_cache_leaves_nothing_of_what_was_written_through_it(tmp_path: Path) -> None:
    gc.collect()
    fds = open_fds()
    with PageCache("1 MiB", debug=True) as cache:
        for number in range(20):
            with binary(cache.open(tmp_path / f"{number}", "wb")) as file:
                file.write(DATA)
        assert_nothing_left(cache)
    del cache, file
    gc.collect()
    assert open_fds() <= fds
    assert all((tmp_path / f"{number}").read_bytes() == DATA for number in range(20))


def test_several_threads_may_close_a_cache_with_unwritten_data_at_once() -> None:
    for _ in range(20):
        disk, cache = Disk(), PageCache("1 MiB")
        binary(cache.open((disk, "a"), "wb")).write(b"new")
        disk.error = full()
        outcomes = run_in_threads([lambda cache=cache: outcome_of(cache.close) for _ in range(4)])  # type: ignore[misc]
        assert outcomes == [("raised", UnwrittenDataError, errno.ENOSPC)] * 4
        disk.error = None
        outcomes = run_in_threads([lambda cache=cache: outcome_of(cache.close) for _ in range(4)])  # type: ignore[misc]
        assert outcomes == [("returned", None, None)] * 4
        assert disk.objects["a"] == b"new"


def test_a_cache_is_closed_though_what_follows_from_a_file_that_was_left_has_failed(
    own_cache: PageCache, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who closes it waits for who writes such files out, and would for ever."""
    with binary(own_cache.open((disk, "a"), "r+b")):
        (inode,) = own_cache._table.written
        inode.open_count += 1  # as `take_left` counts it
        with monkeypatch.context() as patch, pytest.raises(MemoryError):
            patch.setattr(own_cache._table, "follow_up", raising(MemoryError()))
            patch.setattr(own_cache._zone.workqueue, "run_detached", raising(RuntimeError("no thread")))
            follow_up._write_out_behind(own_cache, inode)
    assert not own_cache._table.behind._count
    own_cache.close()
    assert disk.all_closed()


def raising(error: BaseException) -> Callable[..., None]:
    def run(*_: object) -> None:
        raise error

    return run


def test_a_cache_that_discards_what_comes_to_its_store_in_this_moment_is_closed(
    own_cache: PageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk()
    file = binary(own_cache.open((disk, "a"), "wb"))
    file.write(b"x")
    discard = unwritten.discard

    def late(*arguments: Any, **options: Any) -> int:
        closing.write_out_all(own_cache)
        follow_up.now(own_cache)
        assert arguments[1].mapping.suspended
        return discard(*arguments, **options)

    monkeypatch.setattr(unwritten, "discard", late)
    own_cache.close(discard=True)
    assert disk.objects["a"] == b"x"
    assert disk.all_closed()


@pytest.mark.parametrize(
    "arguments", [{"dirty_limit": 0}, {"dirty_background": 0.5}, {"dirty_limit": 1.5}, {"dirty_age_s": 0}], ids=repr
)
def test_limits_that_make_no_sense_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="dirty_"):
        PageCache("1 MiB", **arguments)  # type: ignore[arg-type]


def test_a_cache_that_discards_waits_for_what_its_store_is_being_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads the cache's memory: what comes there next is not what was to be stored."""
    waits = threading.Event()
    closers: list[Task[None]] = []

    def waiting(*arguments: Any) -> Steps[None]:
        waits.set()
        return wait_on_writeback(*arguments)

    def store(ops: WritableOps, page: Page, wbc: WritebackControl) -> int:
        page.set_writeback()
        page.unlock()
        closers.append(Task(lambda: cache.close(discard=True)))
        assert waits.wait(TIMEOUT_S)
        assert closers[0].running
        ops.keep(page)
        page.end_writeback()
        return 0

    monkeypatch.setattr(truncate, "wait_on_writeback", waiting)
    cache = PageCache("1 MiB")
    ops = WritableOps(PAGE_SIZE, default_store=store)
    ops.blocking = True
    file = cache.inode(ops, size_bytes=PAGE_SIZE).open("r+b")
    file.write(b"x" * PAGE_SIZE)
    file.fsync()
    closers[0].result()
    assert ops.data == b"x" * PAGE_SIZE


def test_a_cache_that_discards_what_a_view_shows_lets_go_of_the_store_all_the_same(disk: Disk) -> None:
    cache = PageCache("1 MiB", debug=True)
    file = binary(cache.open((disk, "a"), "r+b"))
    file.write(b"new")
    with file.view(3, 0) as shown:
        cache.close(discard=True)
        assert bytes(shown) == b"new"
    assert disk.objects["a"] == DATA
    assert disk.open_count == 0


@pytest.mark.parametrize("mode", ["wb", "xb"])
@pytest.mark.parametrize("is_down", [False, True], ids=["lets go then", "does not let go"])
def test_who_tries_again_after_his_store_could_not_give_it_up_succeeds(
    own_cache: PageCache, monkeypatch: pytest.MonkeyPatch, mode: str, is_down: bool
) -> None:
    """What is left of the first try goes; whether or not its store lets go of that."""
    failures = [OSError(errno.ECONNRESET, "connection lost")] * (9 if is_down else 1)
    discard = StagedOperations.discard

    def failing(ops: StagedOperations) -> int | None:
        if failures:
            raise failures.pop()
        return discard(ops)

    monkeypatch.setattr(StagedOperations, "discard", failing)
    store = MemoryStore({"report": b"the old one"} if mode == "wb" else {})
    with pytest.raises(OSError, match="has been given up"), binary(own_cache.open((store, "report"), mode)) as file:
        file.write(b"the first half")
        with pytest.raises(OSError, match="connection lost"):
            file.discard()
    assert _object(store) == (b"the old one" if mode == "wb" else None)
    with binary(own_cache.open((store, "report"), mode)) as file:
        file.write(b"the second try")
    assert _object(store) == b"the second try"
    own_cache.close()


def _object(store: MemoryStore) -> bytes | None:
    """As another cache finds it."""
    with PageCache("1 MiB") as cache, suppress(FileNotFoundError):
        return binary(cache.open((store, "report"))).read()
    return None
