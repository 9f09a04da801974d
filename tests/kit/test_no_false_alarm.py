"""Storage that keeps the contract passes: all of this tree, and what the documentation shows."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, get_args

import fsspec
import obstore.store
import pytest
from tests.kit.reading_mistakes import CONTENT, Right, RightWithReadahead
from tests.kit.source_mistakes import Place
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
from tests.kit.writing_mistakes import RightPageByPage, RightWriting
from tests.test_docs import blocks

import pagein
from pagein.stores import LocalStore, MemoryStore
from pagein.testing import Link, RangeServer, SimulatedStore
from pagein.testing.contract import Subject, check
from pagein.testing.durable import DurableStore
from pagein.testing.faulty import FaultyStore, Operation
from pagein.testing.stores import ScriptedOps, ScriptedRunOps, completed, pattern, truncated, updated
from pagein.testing.writable import WritableOps, WritableRunOps

OTHER = bytes(reversed(CONTENT))


def require_kept(subject: Subject, *, advice: tuple[str, ...] = ()) -> set[str]:
    """Nothing is broken; which clauses were checked."""
    report = check(subject)
    assert report.passed, report.text()
    told = tuple(finding.clause.number for finding in report.findings if finding.verdict == "advice")
    assert told == advice, report.text()
    return {finding.clause.number for finding in report.findings if finding.verdict == "passed"}


@pytest.mark.parametrize("right", [Right, RightWithReadahead])
def test_right_operations(right: Any) -> None:
    assert "R9" in require_kept(Subject(right, content=CONTENT))


@pytest.mark.parametrize("right", [RightWriting, RightPageByPage])
def test_right_writing(right: Any) -> None:
    assert {"W2", "W6", "W9", "W10", "W11"} <= require_kept(Subject(right))


def test_a_right_source_with_all_that_a_check_can_be_told() -> None:
    place = Place()
    subject = Subject((place, "a"), content=CONTENT, writes=True, change=place.change, failing=place.failing)
    assert {"O3", "O5", "O6", "O7", "O8", "F1", "F2", "F3", "W5", "W13", "W14", "L2", "L3"} <= require_kept(subject)


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


def test_memory() -> None:
    store = MemoryStore({"a": CONTENT})
    subject = Subject((store, "a"), content=CONTENT, writes=True, change=lambda: store.put("a", OTHER))
    assert {"O6", "W12", "W15"} <= require_kept(subject)


def test_local_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    subject = Subject((LocalStore(tmp_path), "a"), content=CONTENT, writes=True)
    assert {"O3", "W10", "W13", "W14", "L3"} <= require_kept(subject)
    (tmp_path / "a").write_bytes(CONTENT)
    assert "O6" in require_kept(Subject(tmp_path / "a", content=CONTENT, change=lambda: replace(tmp_path / "a")))


def replace(path: Path) -> None:
    path.with_suffix(".new").write_bytes(OTHER)
    os.replace(path.with_suffix(".new"), path)


def test_obstore_in_memory() -> None:
    store = obstore.store.MemoryStore()
    obstore.put(store, "a", CONTENT)
    subject = Subject((store, "a"), content=CONTENT, writes=True, change=lambda: obstore.put(store, "a", OTHER))
    assert {"O5", "W12", "W13"} <= require_kept(subject)


def test_http() -> None:
    objects = {"a": CONTENT}
    with RangeServer(objects) as server:
        subject = Subject(server.url("a"), content=CONTENT, change=lambda: objects.update(a=OTHER))
        assert {"R9", "A3", "C1", "O6", "L3"} <= require_kept(subject)


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
        assert {"O3", "W12", "W13"} <= require_kept(subject)
    finally:
        filesystem.rm("/kit", recursive=True)


def test_the_testing_kits_own() -> None:
    store = DurableStore({"a": CONTENT})
    require_kept(Subject((store, "a"), content=CONTENT, writes=True))
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
    assert {"W2", "W5", "W11", "W13", "O7", "O8"} <= require_kept(Subject((store, "a"), content=CONTENT, writes=True))


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
    blob = names["Blob"]
    # It does not look how long the answer is, which is 20 lines' good right.
    require_kept(Subject(lambda: blob("files.db", row=7), content=database), advice=("E3",))
    require_kept(Subject(names["Counting"], size_bytes=50_000))


def test_the_writable_store_of_the_how_to(tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    exec(blocks("docs/how-to/a-writable-store.md")[1], names)
    require_kept(Subject(lambda: names["Rows"](str(tmp_path / "rows.db")), size_bytes=0))
