"""fsspec's protocol ``pagein`` in workers: forked, spawned, with what they inherit and what they are sent."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from tests.forking import in_child
from tests.stores.reading import DATA, MIB

import pagein
from pagein.testing.httpserver import RangeServer

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")

JOIN_TIMEOUT_S = 60.0


@pytest.fixture
def objects() -> dict[str, bytes]:
    return {"a": DATA, "b": DATA[::-1]}


def check_all(fs: Any, url: str, file: Any) -> None:
    """Every way of reading, in this process."""
    assert fs.cat_file(url, 10, 20) == DATA[10:20]
    assert fs.cat_ranges([url] * 2, [0, MIB], [5, MIB + 5]) == [DATA[:5], DATA[MIB:][:5]]
    assert fs.info(url)["size"] == len(DATA)
    with fs.open(url) as own:
        assert own.read() == DATA
    if file is not None:
        assert file.read(5) == DATA[2 * MIB :][:5]
    assert fs.cache.stats().resident_bytes > 0


def place_of(kind: str, server: RangeServer | None, tmp_path: Path) -> tuple[Any, str]:
    if server is not None and kind == "http":
        return fsspec.filesystem("pagein", target_protocol="http"), server.url("a")
    (tmp_path / "a").write_bytes(DATA)
    behind = LocalFileSystem() if kind == "given local" else None
    options = {"fs": behind} if behind else {"target_protocol": "file"}
    return fsspec.filesystem("pagein", **options), str(tmp_path / "a")


@pytest.mark.parametrize("kind", ["http", "local", "given local"])
def test_a_forked_child_reads_through_what_it_inherits(server: RangeServer, tmp_path: Path, kind: str) -> None:
    fs, url = place_of(kind, server, tmp_path)
    with fs.open(url) as file:
        file.seek(2 * MIB)
        assert fs.cat_file(url) == DATA  # kept open here
        in_child(lambda: check_all(fs, url, file))
        check_all(fs, url, file)


def test_a_child_of_a_fork_does_not_move_the_position_that_its_parent_reads_at(tmp_path: Path) -> None:
    """An open file description, and with it a position, is shared by those who inherit it."""
    fs, path = place_of("local", None, tmp_path)

    def positions() -> list[str]:
        fds = [fd for fd in os.listdir("/proc/self/fd") if os.path.realpath(f"/proc/self/fd/{fd}") == path]
        return [Path(f"/proc/self/fdinfo/{fd}").read_text().split()[1] for fd in fds]

    with fs.open(path) as file:
        file.pread(1, MIB)
        before = positions()
        assert before
        in_child(lambda: check_all(fs, path, None))

        def check_inherited() -> None:
            assert file.pread(len(DATA), 0) == DATA

        in_child(check_inherited)
        assert positions() == before


def work(fs: Any, url: str, file: Any, expected_bytes: int) -> None:
    check_all(fs, url, file)
    assert fs.cache.size_bytes == expected_bytes


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_worker_that_is_sent_a_filesystem_and_a_file_reads_through_a_cache_of_its_own(
    server: RangeServer, method: str
) -> None:
    context: Any = multiprocessing.get_context(method)
    url = server.url("a")
    with pagein.PageCache("8 MiB") as cache:
        fs = fsspec.filesystem("pagein", target_protocol="http", cache=cache)
        with fs.open(url) as file:
            file.seek(2 * MIB)
            run(context.Process(target=work, args=(fs, url, file, 8 * MIB)))
        assert fs.cache is cache


def test_a_spawned_worker_uses_the_cache_of_its_process(server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGEIN_SIZE", "5 MiB")
    fs = fsspec.filesystem("pagein", target_protocol="http")
    run(multiprocessing.get_context("spawn").Process(target=work, args=(fs, server.url("a"), None, 5 * MIB)))


def run(process: Any) -> None:
    process.start()
    process.join(JOIN_TIMEOUT_S)
    is_hung = process.is_alive()
    if is_hung:
        process.kill()
        process.join()
    code = process.exitcode
    process.close()
    assert not is_hung, "it hung"
    assert code == 0


def test_a_lock_that_a_thread_of_the_parent_held_is_free_in_the_child(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    behind = LocalFileSystem()
    fs = fsspec.filesystem("pagein", fs=behind)
    path = str(tmp_path / "a")
    fs.cat_file(path, 0, 10)
    from pagein.stores.fsspec_instances import lock_of

    locks: list[Any] = [lock_of(behind), fs._listings._lock, fs._kept._lock]
    with locks[0], locks[1], locks[2]:
        in_child(lambda: check_all(fs, path, None))
