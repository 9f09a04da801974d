"""`pagein read`: what it reads follows from its arguments alone, and what it tells is what happened."""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from tests.cli.command import run_here

from pagein.cli.pattern import PATTERNS, sequential, uniform, zipf
from pagein.cli.readers import Order, Readers
from pagein.testing.httpserver import RangeServer

MIB = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(random.Random(6).randbytes(2 * MIB + 100))
    return path


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    ended = run_here(capsys, "read", "--json", *arguments)
    assert (ended.status, ended.err) == (0, "")
    document: dict[str, Any] = json.loads(ended.out)
    return document


# -- what it tells -----------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("threads", [1, 3])
def test_it_reads_as_much_as_it_was_told(
    pattern: str, threads: int, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = told(capsys, "--pattern", pattern, "--threads", threads, "--size", "10M", "--block", "60000", path)
    assert document["read_bytes"] == 10 * MIB
    assert document["reads"] >= 10 * MIB / 60_000
    assert document["hits"] + document["misses"] == document["reads"]
    assert (document["pattern"], document["threads"], document["block_bytes"]) == (pattern, threads, 60_000)
    assert document["bytes_per_second"] == pytest.approx(document["read_bytes"] / document["seconds"])


@pytest.mark.usefixtures("first_bytes_only")
def test_what_it_read_once_it_does_not_fetch_again(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each thread begins at another place, which would let go of what comes with the opening."""
    with RangeServer({"data": path.read_bytes()}) as server:
        document = told(capsys, "--size", "20M", "--threads", "4", server.url("data"))
        assert document["fetched_bytes"] == server.stats().sent_bytes == path.stat().st_size
        answers = [record.status for record in server.stats().log]
        assert document["requests"] == answers.count(206)  # the other threads asked whether it is the same
        assert document["evictions"] == 0


def test_a_small_cache_evicts_and_stays_small(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = told(capsys, "--size", "8M", "--cache", "256K", "--pattern", "random", path)
    assert document["evictions"] > 0
    assert document["resident_bytes"] <= document["cache_bytes"] == 256 * 1024
    assert document["fetched_bytes"] > path.stat().st_size


def test_sources_lie_end_to_end(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "small").write_bytes(bytes(1000))
    total_bytes = path.stat().st_size + 1000
    document = told(capsys, "--size", total_bytes, path, tmp_path / "empty", tmp_path / "small")
    assert document["read_bytes"] == document["fetched_bytes"] == total_bytes  # each byte once


def test_the_same_seed_reads_the_same(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def pages_after(seed: int) -> str:
        ended = run_here(capsys, "read", "--pattern", "random", "--block", "4K", "--size", "200K", "--seed", seed, path)
        return ended.out.splitlines()[-1]  # the bar

    assert pages_after(1) == pages_after(1) != pages_after(2)


def test_sources_without_a_byte_are_read_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").touch()
    assert told(capsys, tmp_path / "empty")["read_bytes"] == 0


def test_of_small_sources_it_reads_less_unless_it_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small").write_bytes(b"xyz")
    told = json.loads(run_here(capsys, "read", tmp_path / "small", "--json").out)
    assert (told["reads"], told["read_bytes"], told["requests"]) == (100_000, 300_000, 1)
    told = json.loads(run_here(capsys, "read", tmp_path / "small", "--json", "--size", "10").out)
    assert told["read_bytes"] == 10


def test_for_people_it_is_a_table_and_a_bar_for_each_source(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = run_here(capsys, "read", "--size", "4M", "--threads", "2", path)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith("4 MiB, sequential, 128 KiB a read, 2 threads\n")
    for heading in ("MiB/s", "hits", "misses", "store requests", "MiB fetched", "fetched / read"):
        assert heading in ended.out
    assert f"\n{path}\n[██" in ended.out


def test_an_error_of_one_thread_ends_them_all(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RangeServer({"data": path.read_bytes()}) as server:
        server.faults.set("data", "status:403", method="GET")
        ended = run_here(capsys, "read", "--threads", "4", "--size", "1G", server.url("data"))
        assert ended.status == 1
        assert ended.complaint.startswith(f"pagein: {server.url('data')}: ")


class Broken:
    size_bytes = 1 << 20

    def pread(self, size: int, offset: int) -> bytes:
        raise OSError(5, "the store is broken")


class Endless:
    size_bytes = 1 << 20

    def pread(self, size: int, offset: int) -> bytes:
        return bytes(size)


def test_the_first_error_ends_threads_that_would_read_for_ever() -> None:
    files: Any = [[Endless()], [Broken()], [Endless()]]
    readers = Readers(files, Order("random", thread_count=3, block_bytes=4096, size_bytes=1 << 60, seed=0))
    with pytest.raises(OSError, match="the store is broken"):
        readers.read_all(lambda: None)


# -- patterns ----------------------------------------------------------------------------------------

block_counts = st.integers(1, 500)


@given(block_counts, st.integers(1, 8))
def test_sequential_threads_begin_at_their_shares_and_go_round(block_count: int, thread_count: int) -> None:
    for thread in range(thread_count):
        blocks = list(islice(sequential(block_count, thread, thread_count, 0), block_count + 1))
        assert blocks[0] == blocks[-1] == thread * block_count // thread_count
        assert sorted(blocks[:-1]) == list(range(block_count))
        assert all((one + 1) % block_count == other for one, other in pairwise(blocks))


@given(block_counts, st.integers(0, 3), st.integers())
def test_every_pattern_stays_within_the_blocks_and_repeats_by_its_seed(
    block_count: int, thread: int, seed: int
) -> None:
    for pattern in PATTERNS.values():
        blocks = list(islice(pattern(block_count, thread, 4, seed), 50))
        assert all(0 <= block < block_count for block in blocks)
        assert blocks == list(islice(pattern(block_count, thread, 4, seed), 50))


def test_random_reads_all_alike_and_zipf_a_few_often() -> None:
    even = Counter(islice(uniform(100, 0, 1, 0), 20_000))
    assert max(even.values()) < 2 * min(even.values())
    skewed = [count for _, count in Counter(islice(zipf(1000, 0, 1, 0), 50_000)).most_common()]
    # 1/x on [1, 1001) gives rank 1 a share of ln 2 / ln 1001, ranks 1 to 10 one of ln 11 / ln 1001.
    assert skewed[0] == pytest.approx(50_000 * 0.1003, rel=0.1)
    assert sum(skewed[:10]) == pytest.approx(50_000 * 0.347, rel=0.1)


def test_the_popular_blocks_of_zipf_are_the_same_for_all_threads_and_lie_apart() -> None:
    popular = [
        {block for block, _ in Counter(islice(zipf(1000, thread, 2, 7), 50_000)).most_common(5)} for thread in range(2)
    ]
    assert popular[0] == popular[1]
    in_order = sorted(popular[0])
    assert all(other - one > 10 for one, other in pairwise(in_order))
    assert {block for block, _ in Counter(islice(zipf(1000, 0, 2, 8), 50_000)).most_common(5)} != popular[0]


@given(st.integers(1, 30), st.integers(0, 5))
def test_zipf_reaches_every_block(block_count: int, seed: int) -> None:
    assert set(islice(zipf(block_count, 0, 1, seed), 1000 * block_count)) == set(range(block_count))
