"""DuckDB through a page cache: right answers for threads that share a file, and its own caches hear of changes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from pagein import PageCache
from pagein.integrations.duckdb import DuckDBFileSystem
from pagein.testing.httpserver import RangeServer

DATA = bytes(range(256)) * 64


@pytest.fixture
def filesystem() -> Iterator[DuckDBFileSystem]:
    with PageCache("16 MiB") as cache:
        yield DuckDBFileSystem(cache)


@pytest.fixture
def connection(filesystem: DuckDBFileSystem) -> Iterator[Any]:
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as connection:
        connection.register_filesystem(filesystem)
        yield connection


def test_each_thread_reads_where_it_has_sought(filesystem: DuckDBFileSystem, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(DATA)
    file = filesystem.open(f"pagein://{tmp_path}/data")
    all_have_sought = threading.Barrier(4, timeout=30)
    read: dict[int, bytes] = {}

    def run(offset: int) -> None:
        assert file.seek(offset) == offset
        all_have_sought.wait()
        read[offset] = file.read(3) + file.read(2)

    threads = [threading.Thread(target=run, args=(offset,)) for offset in (1, 100, 5000, 9999)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == {offset: DATA[offset : offset + 5] for offset in (1, 100, 5000, 9999)}
    file.close()


def test_a_position_is_as_of_any_file(filesystem: DuckDBFileSystem, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(DATA)
    file = filesystem.open(f"{tmp_path}/data")
    assert (file.tell(), file.read(2), file.seek(2, os.SEEK_CUR), file.read(1)) == (0, DATA[:2], 4, DATA[4:5])
    assert file.seek(-3, os.SEEK_END) == len(DATA) - 3
    assert (file.read(), file.read(), file.read(1)) == (DATA[-3:], b"", b"")
    with pytest.raises(OSError, match="Invalid argument"):
        file.seek(-1)
    file.close()


def test_what_has_changed_is_read_anew(connection: Any, tmp_path: Path) -> None:
    query = f"SELECT * FROM read_csv('pagein://{tmp_path}/table.csv')"
    for rows in ([(1, 2)], [(3, 4), (5, 6)]):
        new = tmp_path / "new"
        new.write_text("a,b\n" + "".join(f"{a},{b}\n" for a, b in rows))
        new.rename(tmp_path / "table.csv")
        assert connection.execute(query).fetchall() == rows


def test_a_pattern_names_all_files_that_match(connection: Any, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"part-{number}.csv").write_text(f"a\n{number}\n")
    query = f"SELECT sum(a) FROM read_csv('pagein://{tmp_path}/part-*.csv')"
    assert connection.execute(query).fetchall() == [(3,)]


@pytest.mark.parametrize("name", ["a b.csv", "f#g.csv", "q?x=1.csv", "50%.csv", "ü-日本.csv"])
def test_a_name_is_what_it_is(connection: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("a\n7\n")
    (tmp_path / "other.csv").write_text("a\n8\n")
    assert connection.execute("SELECT a FROM read_csv(?)", [f"pagein://{tmp_path}/{name}"]).fetchall() == [(7,)]


def test_the_query_of_a_url_is_no_pattern(connection: Any) -> None:
    with RangeServer({"table.csv": b"a\n7\n"}) as server:
        query = f"SELECT a FROM read_csv('pagein://{server.base_url}/table.csv?token=1')"
        assert connection.execute(query).fetchall() == [(7,)]


def test_a_filesystem_of_fsspecs_is_read_by_its_own_names_through_the_cache() -> None:
    duckdb = pytest.importorskip("duckdb")
    memory = fsspec.filesystem("memory")
    for number in range(3):
        memory.pipe_file(f"/duckdb/part-{number}.csv", b"a\n%d\n" % number)
    with PageCache("16 MiB") as cache, duckdb.connect() as connection:
        connection.register_filesystem(DuckDBFileSystem(cache, fs=memory))
        query = "SELECT sum(a) FROM read_csv('pagein:///duckdb/part-*.csv')"
        assert connection.execute(query).fetchall() == [(3,)]
        assert cache.stats().resident_bytes >= 3 * 4096
        memory.pipe_file("/duckdb/part-0.csv", b"a\n100\n")
        assert connection.execute(query).fetchall() == [(103,)]
    memory.rm("/duckdb", recursive=True)


def test_what_a_filesystem_cannot_be_told_is_an_error() -> None:
    memory = fsspec.filesystem("memory")
    with pytest.raises(TypeError, match="region"):
        DuckDBFileSystem(fs=memory, region="eu-central-1")
    with PageCache("1 MiB") as cache, pytest.raises(TypeError, match="a page cache already"):
        DuckDBFileSystem(cache, fs=fsspec.filesystem("pagein", fs=memory))


def test_what_is_not_there_is_an_error_that_names_it(connection: Any, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"no-such\.csv"):
        connection.execute(f"SELECT * FROM read_csv('pagein://{tmp_path}/no-such.csv')")


def test_it_writes_nothing(connection: Any, filesystem: DuckDBFileSystem, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Read-only"):
        filesystem.open(f"pagein://{tmp_path}/new.csv", "wb")
    with pytest.raises(Exception, match="Read-only"):
        connection.execute(f"COPY (SELECT 1) TO 'pagein://{tmp_path}/new.csv'")
    assert not list(tmp_path.iterdir())
