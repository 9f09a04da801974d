"""Random operations on files in a cache: no byte differs from the model, from a real local file, or, after fsync and
close, in the store."""

from __future__ import annotations

import os
import time

import pytest

from pagein.testing import fsx

SEED = 1
SMALL_PAGES, LARGE_PAGES = 16, 256


def exercise(seed: int, ops: int, threads: int, cache_pages: int, store: str = "local") -> None:
    print(f"seed {seed}")  # first, since a hang tells nothing
    began_s = time.perf_counter()
    fsx.exercise(seed, ops, threads=threads, cache_pages=cache_pages, store=store)
    print(f"{ops / (time.perf_counter() - began_s):.0f} operations a second")


@pytest.mark.parametrize(
    ("threads", "cache_pages", "ops", "seed"),
    [
        (1, SMALL_PAGES, 100_000, 1),
        (2, SMALL_PAGES, 150_000, 1),
        (4, SMALL_PAGES, 125_000, 1),
        (4, SMALL_PAGES, 125_000, 2),
        (1, LARGE_PAGES, 200_000, 1),
        (2, LARGE_PAGES, 150_000, 1),
        (4, LARGE_PAGES, 150_000, 1),
    ],
)
@pytest.mark.timeout(600)  # half a minute each where nothing else runs
def test_no_operation_of_a_million_makes_a_difference(threads: int, cache_pages: int, ops: int, seed: int) -> None:
    exercise(seed, ops, threads, cache_pages)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("store", ["memory", "obstore", "fsspec"])
def test_nor_in_objects_that_are_replaced_as_a_whole(store: str, threads: int) -> None:
    exercise(SEED, 3000, threads, SMALL_PAGES, store)


@pytest.mark.parametrize("seed", [6, 10])
@pytest.mark.parametrize("store", ["failing", "failing-whole"])
def test_nor_where_the_store_fails_now_and_then(store: str, seed: int) -> None:
    """Who is told of it tries again, or gives up what is not written."""
    exercise(seed, 1500, 1, SMALL_PAGES, store)


@pytest.mark.torture
@pytest.mark.parametrize(
    ("threads", "cache_pages", "ops"),
    [
        (1, SMALL_PAGES, 300_000),
        (2, SMALL_PAGES, 100_000),
        (4, SMALL_PAGES, 100_000),
        (1, LARGE_PAGES, 300_000),
        (3, LARGE_PAGES, 100_000),
        (4, LARGE_PAGES, 100_000),
    ],
)
def test_nor_of_a_million_others(threads: int, cache_pages: int, ops: int) -> None:
    """With other seeds each time; PAGEIN_FSX_SEED repeats them."""
    exercise(seed_of_this_time(), ops, threads, cache_pages)


@pytest.mark.torture
@pytest.mark.parametrize("store", ["failing", "failing-whole"])
def test_nor_of_as_many_where_the_store_fails_now_and_then(store: str) -> None:
    """With another seed each time, too."""
    exercise(seed_of_this_time(), 50_000, 1, SMALL_PAGES, store)


def seed_of_this_time() -> int:
    return int(os.environ.get("PAGEIN_FSX_SEED", time.time_ns() // 1000 % 10**9))
