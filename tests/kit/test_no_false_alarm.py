"""Storage that keeps the contract passes: all of this tree, and what the documentation shows."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, get_args

import fsspec
import obstore.store
import pytest
from tests.kit.reading_mistakes import (
    CONTENT,
    Right,
    RightInTwoSteps,
    RightUnlocking,
    RightUnlockingLater,
    RightWithReadahead,
)
from tests.kit.source_mistakes import Object, Operations, Place
from tests.kit.sources_that_keep import (
    EndsItsPoolWithoutWaiting,
    GrowsAPoolForAll,
    KeepsConnections,
    KeepsOneDescriptor,
    LeftToPython,
    LingeringThreads,
    OneOfEachThread,
    OpensItAnew,
    ended,
)
from tests.kit.writing_mistakes import (
    FsyncCommitsNothing,
    Launders,
    RightLeavingSomeLocked,
    RightPageByPage,
    RightRunsInTwoSteps,
    RightUnderTheLock,
    RightWriting,
)
from tests.test_docs import blocks

import pagein
from pagein.mm.openfile import OpenFile
from pagein.mm.page import Page
from pagein.mm.writeback import WritebackControl
from pagein.stores import LocalStore, MemoryStore, Opened
from pagein.testing import Link, RangeServer, SimulatedStore
from pagein.testing.contract import Subject, check
from pagein.testing.contract.probe import probe_of
from pagein.testing.contract.record import Record
from pagein.testing.durable import DurableStore
from pagein.testing.faulty import FaultyStore, Operation
from pagein.testing.stores import ScriptedOps, ScriptedRunOps, completed, pattern, truncated, updated
from pagein.testing.writable import WritableOps, WritableRunOps
from pagein.units import PAGE_SIZE

OTHER = bytes(reversed(CONTENT))


def require_kept(subject: Subject, *, advice: tuple[str, ...] = ()) -> set[str]:
    """Nothing is broken; which clauses were checked."""
    report = check(subject)
    assert report.passed, report.text()
    told = tuple(finding.clause.number for finding in report.findings if finding.verdict == "advice")
    assert told == advice, report.text()
    return {finding.clause.number for finding in report.findings if finding.verdict == "passed"}


@pytest.mark.parametrize("right", [Right, RightWithReadahead, RightInTwoSteps, RightUnlocking, RightUnlockingLater])
def test_right_operations(right: Any) -> None:
    assert "R9" in require_kept(Subject(right, content=CONTENT))


@pytest.mark.parametrize("right", [RightWriting, RightPageByPage, RightUnderTheLock, RightLeavingSomeLocked])
def test_right_writing(right: Any) -> None:
    assert {"W2", "W6", "W9", "W10", "W11"} <= require_kept(Subject(right))


def test_right_writing_that_fails_with_some_under_way() -> None:
    assert {"F3", "W20"} <= require_kept(Subject(RightRunsInTwoSteps, failing=RightRunsInTwoSteps.failing))


class LaundersSome(Launders):
    """The others stay."""

    def launder_page(self, page: Page) -> bool:
        return page.index % 2 == 1 and bool(super().launder_page(page))


@pytest.mark.parametrize("right", [Launders, LaundersSome])
def test_right_laundering(right: Any) -> None:
    assert "W18" in require_kept(Subject(right))


class DeclinesFirst(RightPageByPage):
    """Each page, a few times: then it stores it."""

    times = 3

    def __init__(self) -> None:
        super().__init__()
        self.declined: Counter[int] = Counter()

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        if self.is_ready(page.index):
            return super().writepage(page, wbc)
        return self.decline(page, wbc)

    def is_ready(self, index: int) -> bool:
        self.declined[index] = (self.declined[index] + 1) % (self.times + 1)
        return self.declined[index] == 0

    def decline(self, page: Page, wbc: WritebackControl) -> int:
        return pagein.AOP_WRITEPAGE_ACTIVATE


class DeclinesOften(DeclinesFirst):
    times = 40


class RedirtiesFirst(DeclinesFirst):
    def decline(self, page: Page, wbc: WritebackControl) -> int:
        wbc.redirty(page)
        page.unlock()
        return 0


class RedirtiesAndActivates(DeclinesFirst):
    def decline(self, page: Page, wbc: WritebackControl) -> int:
        wbc.redirty(page)
        return super().decline(page, wbc)


class LeavesRunsFirst(DeclinesFirst):
    """It takes nothing of a run that it does not store."""

    def writepages(self, wbc: WritebackControl) -> None:
        if self.is_ready(0):
            super().writepages(wbc)

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        return RightPageByPage.writepage(self, page, wbc)


class RedirtiesRunsFirst(RedirtiesFirst):
    """It takes all of a run, and declines it as one."""

    def writepages(self, wbc: WritebackControl) -> None:
        self.writepage(wbc.take(), wbc)


class DeclinesAndCommits(FsyncCommitsNothing, DeclinesFirst):
    def fsync(self) -> None:
        self.committed = bytearray(self.data)


@pytest.mark.parametrize(
    "right",
    [
        DeclinesFirst,
        DeclinesOften,
        RedirtiesFirst,
        RedirtiesAndActivates,
        LeavesRunsFirst,
        RedirtiesRunsFirst,
        DeclinesAndCommits,
    ],
)
def test_a_store_that_declines_for_a_while(right: Any) -> None:
    assert {"W2", "W6", "W9", "W10", "W11", "W19", "R10"} <= require_kept(Subject(right))


def test_a_right_source_with_all_that_a_check_can_be_told() -> None:
    place = Place()
    subject = Subject((place, "a"), content=CONTENT, writes=True, change=place.change, failing=place.failing)
    assert {"O3", "O5", "O6", "O7", "O8", "O10", "F1", "F2", "F3", "W5", "W13", "W14", "L2", "L3"} <= require_kept(
        subject
    )


def test_a_write_through_the_cache_to_a_page_that_the_store_has_not_let_go_of_is_not_the_stores() -> None:
    """It needs no lock of a page that is Uptodate."""
    record = Record()

    class Overtaken(WritableOps):
        def readpage(self, file: OpenFile, page: Page) -> int:
            code = super().readpage(file, page)
            if page.index == 1:
                writer = threading.Thread(target=opened.pwrite, args=(b"meanwhile", PAGE_SIZE + 100), daemon=True)
                writer.start()
                writer.join(timeout=10)
                assert not writer.is_alive(), "it went the short way"
            return code

    size = 2 * PAGE_SIZE
    ops = probe_of(Overtaken(size), record)
    with pagein.PageCache("16 MiB", debug=True) as cache, cache.inode(ops, size_bytes=size).open("r+b") as opened:
        opened.advise("random")
        opened.pwrite(b"short writes have a budget now", 0)
        assert opened.pread(9, PAGE_SIZE + 100) == b"meanwhile"
    assert record.breaches == []


@pytest.mark.parametrize("right", [LingeringThreads, OneOfEachThread])
def test_right_operations_of_which_something_ends_a_little_later(right: Any) -> None:
    assert {"L2", "L3"} <= require_kept(Subject(right, content=CONTENT))


@pytest.mark.parametrize(
    "kind",
    [
        EndsItsPoolWithoutWaiting,
        GrowsAPoolForAll,
        KeepsConnections,
        KeepsOneDescriptor,
        LeftToPython,
        OpensItAnew,
    ],
)
def test_a_right_source_that_keeps_something(kind: Any) -> None:
    with ended(kind()) as place:
        assert {"L2", "L3"} <= require_kept(Subject((place, "a"), content=CONTENT))


def reasons(subject: Subject) -> dict[str, str]:
    """Why what was not checked of a store without a mistake was not."""
    report = check(subject)
    assert report.passed, report.text()
    return {finding.clause.number: finding.reason for finding in report.findings if finding.verdict == "skipped"}


class KeepsChunks(Place):
    """What it has fetched once it keeps for all who open the object, as stores do that decompress."""

    def __init__(self) -> None:
        super().__init__()
        self.chunks: dict[int, bytes] = {}

    def source(self, path: str) -> Object:
        return _KeptObject(self, path)


class _KeptObject(Object):
    def ops(self, *, writing: bool) -> Operations:
        return _KeptOperations(self, writing=writing)


class _KeptOperations(Operations):
    def whole(self) -> bytes:
        assert isinstance(self.place, KeepsChunks)
        return self.place.chunks.setdefault(0, super().whole())

    def require_alive(self) -> None:
        assert isinstance(self.place, KeepsChunks)
        if not self.place.chunks:
            super().require_alive()


class FailsToStore(RightWriting):
    """`failing` is about its writing: reads go on."""

    fails = False

    @classmethod
    @contextmanager
    def failing(cls) -> Iterator[None]:
        cls.fails = True
        try:
            yield
        finally:
            cls.fails = False

    def store(self, buffer: memoryview, offset_bytes: int) -> None:
        if self.fails:
            raise OSError(errno.ENOSPC, "full")
        super().store(buffer, offset_bytes)


def test_right_bytes_while_it_is_made_to_fail_are_no_mistake() -> None:
    place = KeepsChunks()
    skipped = reasons(Subject((place, "a"), content=CONTENT, failing=place.failing))
    assert skipped["F1"] == skipped["F2"]
    assert skipped["F1"].startswith("the store brings the right bytes while it is made to fail")
    skipped = reasons(Subject(FailsToStore, failing=FailsToStore.failing))
    assert {"F1", "F2"} <= {*skipped}
    assert not {"F3", "W20"} & {*skipped}


class Blob(pagein.RangeOperations):
    """Over a descriptor, which is good until it is closed."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("rb")
        self.closes = 0

    def fill(self, buffer: memoryview, offset_bytes: int) -> int:
        return os.preadv(self.file.fileno(), [buffer], offset_bytes)

    def close(self) -> None:
        self.closes += 1
        self.file.close()


def test_an_opened_that_all_exercises_share_is_closed_once_after_the_last(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    blob = Blob(tmp_path / "a")
    kept = require_kept(Subject(Opened(blob, len(CONTENT), "v1", close=blob.close), content=CONTENT))
    assert {"R9", "C1", "L3", "O9"} <= kept
    assert blob.closes == 1


class Session(Object):
    """A source that is closed by whoever has made it."""

    closes = 0

    def close(self) -> None:
        self.closes += 1


@pytest.mark.parametrize("is_made_anew", [False, True])
def test_a_source_with_a_close_of_its_own_is_not_closed(is_made_anew: bool) -> None:
    session = Session(Place(), "a")
    require_kept(Subject((lambda: session) if is_made_anew else session, content=CONTENT))
    assert session.closes == 0


def test_memory() -> None:
    store = MemoryStore({"a": CONTENT})
    subject = Subject((store, "a"), content=CONTENT, writes=True, change=lambda: store.put("a", OTHER))
    assert {"O5", "O6", "O10", "O11", "O12", "O13", "W12", "W15"} <= require_kept(subject)


def test_local_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    subject = Subject((LocalStore(tmp_path), "a"), content=CONTENT, writes=True)
    assert {"O3", "O10", "O11", "O12", "O13", "W10", "W13", "W14", "L3"} <= require_kept(subject)
    (tmp_path / "a").write_bytes(CONTENT)
    assert "O6" in require_kept(Subject(tmp_path / "a", content=CONTENT, change=lambda: replace(tmp_path / "a")))


def replace(path: Path) -> None:
    path.with_suffix(".new").write_bytes(OTHER)
    os.replace(path.with_suffix(".new"), path)


def test_obstore_in_memory() -> None:
    store = obstore.store.MemoryStore()
    obstore.put(store, "a", CONTENT)
    subject = Subject((store, "a"), content=CONTENT, writes=True, change=lambda: obstore.put(store, "a", OTHER))
    assert {"O5", "O10", "O11", "O12", "O13", "W12", "W13"} <= require_kept(subject)


def test_http() -> None:
    objects = {"a": CONTENT}
    with RangeServer(objects) as server:
        subject = Subject(server.url("a"), content=CONTENT, change=lambda: objects.update(a=OTHER))
        assert {"R9", "A3", "C1", "O5", "O6", "O11", "O12", "O13", "L3"} <= require_kept(subject)


class Answers(pagein.AsyncRangeOperations):
    """Answers later; to a reader who waits for nothing else, at once."""

    readers_call = True

    def __init__(self, at_once: Callable[[bytes], bytes | None]) -> None:
        self.at_once = at_once

    async def fetch(self, offset_bytes: int, size_bytes: int) -> bytes:
        await asyncio.sleep(0)
        return CONTENT[offset_bytes : offset_bytes + size_bytes]

    def fetch_here(self, offset_bytes: int, size_bytes: int) -> bytes | None:
        return self.at_once(CONTENT[offset_bytes : offset_bytes + size_bytes])


@pytest.mark.parametrize("at_once", [lambda data: data, lambda data: None])
def test_asynchronous_ranges(at_once: Any) -> None:
    kept = require_kept(Subject(lambda: (Answers(at_once), len(CONTENT)), content=CONTENT))
    assert {"R4", "A2", "D3", "E2"} <= kept


def test_http_through_fsspec() -> None:
    with RangeServer({"a": CONTENT}) as server:
        subject = Subject((fsspec.filesystem("http"), server.url("a")), content=CONTENT)
        assert {"R9", "A3", "C1", "L3"} <= require_kept(subject)


def test_fsspec_in_memory() -> None:
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe_file("/kit/a", CONTENT)
    try:
        subject = Subject((filesystem, "/kit/a"), content=CONTENT, writes=True)
        assert {"O3", "O10", "W12", "W13"} <= require_kept(subject)
    finally:
        filesystem.rm("/kit", recursive=True)


def test_the_testing_kits_own() -> None:
    store = DurableStore({"a": CONTENT})
    assert "O10" in require_kept(Subject((store, "a"), content=CONTENT, writes=True))
    faulty = FaultyStore(store)

    @contextmanager
    def failing() -> Iterator[None]:
        for operation in get_args(Operation):
            if operation != "open":
                faulty.inject(operation, times=None)
        yield
        faulty.heal()

    subject = Subject((faulty, "a"), writes=True, failing=failing)
    assert {"F1", "F2", "F3"} <= require_kept(subject)


LINK = Link(latency_s=0.002, bandwidth_bytes_s=100e6)


def test_a_simulated_store() -> None:
    subject = Subject((SimulatedStore({"a": CONTENT}, LINK), "a"), content=CONTENT)
    assert {"R9", "A3", "C1", "O3", "O4", "L2", "L3"} <= require_kept(subject)


def test_a_simulated_store_that_can_be_written_to() -> None:
    store = SimulatedStore(MemoryStore({"a": CONTENT}), LINK)
    assert {"W2", "W5", "W11", "W13", "O7", "O8", "O10"} <= require_kept(
        Subject((store, "a"), content=CONTENT, writes=True)
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: ScriptedOps(default=updated),
        lambda: ScriptedOps(default=completed),
        lambda: ScriptedOps({index: [truncated] * 3 for index in range(10)}),
        ScriptedRunOps,
    ],
)
def test_each_return_of_readpage(make: Callable[[], ScriptedOps]) -> None:
    size_bytes = len(CONTENT)
    assert "R10" in require_kept(Subject(make, size_bytes=size_bytes, content=pattern(0, size_bytes)))


@pytest.mark.parametrize("kind", [WritableOps, WritableRunOps])
def test_scripted_writing(kind: Any) -> None:
    assert "W2" in require_kept(Subject(lambda: kind(0), size_bytes=0))


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    monkeypatch.chdir(tmp_path)
    data = os.urandom(100_000)
    with closing(sqlite3.connect("files.db")) as db, db:
        db.execute("CREATE TABLE files (data BLOB)")
        for _ in range(7):
            db.execute("INSERT INTO files VALUES (?)", (data,))
    return data


def test_the_stores_of_the_how_to(database: bytes) -> None:
    names: dict[str, Any] = {"pagein": pagein}
    store, *rest = blocks("docs/how-to/write-your-own-store.md")
    exec(store.partition("\ncache = ")[0], names)
    exec(rest[0], names)
    exec(rest[1], names)
    blob, descriptor = names["Blob"], names["Descriptor"]
    require_kept(Subject(lambda: blob("files.db", row=7), content=database))
    with open("files.db", "rb") as file:
        content = file.read()
        require_kept(Subject(lambda: descriptor(file.fileno()), content=content))
    require_kept(Subject(names["Counting"], size_bytes=50_000))


def test_the_asynchronous_store_of_the_how_to() -> None:
    """It ends each read, also one whose answer is an error, or too short."""
    names: dict[str, Any] = {"pagein": pagein}
    exec(blocks("docs/how-to/write-your-own-store.md")[3], names)
    content = os.urandom(50_000)

    class Client:
        is_down = False

        def fetch(self, offset_bytes: int, size_bytes: int) -> Future[bytes]:
            return pool.submit(self._fetch, offset_bytes, size_bytes)

        def _fetch(self, offset_bytes: int, size_bytes: int) -> bytes:
            if self.is_down:
                raise OSError(errno.EIO, "the server is down")
            return content[offset_bytes : offset_bytes + size_bytes]

    @contextmanager
    def failing() -> Iterator[None]:
        client.is_down = True
        try:
            yield
        finally:
            client.is_down = False

    client = Client()
    with ThreadPoolExecutor(4) as pool:
        require_kept(Subject(lambda: names["Later"](client), content=content, failing=failing))
        with pagein.PageCache("1 MiB") as cache:
            file = cache.inode(names["Later"](client), size_bytes=len(content) + 1).open()
            with pytest.raises(OSError, match="assignment"):
                file.pread(1, len(content))
            assert file.pread(100, 0) == content[:100]


def test_the_writable_store_of_the_how_to(tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    exec(blocks("docs/how-to/a-writable-store.md")[1], names)
    require_kept(Subject(lambda: names["Rows"](str(tmp_path / "rows.db")), size_bytes=0))
