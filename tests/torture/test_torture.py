"""Real threads for a bounded number of reads: no page that any of them is given is torn, zeros, or another's."""

from __future__ import annotations

import os
import time

import pytest
from tests.torture.torture import Plan, Torture

from pagein.mm import filemap, removal
from pagein.mm.page import Page
from pagein.reader import PageReader

STEPS = (
    PageReader.pread, PageReader._fill_parts, PageReader.view, PageReader._view_parts, filemap.copy_if_uptodate,
    removal.remove_runs, removal.clean_up_after_lost_race, Page.set_uptodate,
)  # fmt: skip


def run(plan: Plan) -> None:
    print(f"seed {plan.seed}")
    result = Torture(plan).run()
    print(result)
    assert not result.wrong, f"seed {plan.seed}: {result.wrong}"
    assert result.counts["evictions"] > 0
    assert result.counts["drops"] > 0
    assert result.counts["failed requests"] > 0


def test_readers_against_eviction_and_refill() -> None:
    run(Plan(seed=1, reads=3000))


def test_readers_that_pause_wherever_the_order_matters() -> None:
    run(Plan(seed=2, reads=400, shaken=STEPS))


@pytest.mark.torture
@pytest.mark.parametrize("window_pages", [2, 48])
@pytest.mark.parametrize("shaken", [False, True])
def test_for_minutes(shaken: bool, window_pages: int) -> None:
    """With another seed each time; PAGEIN_TORTURE_SEED repeats one."""
    seed = int(os.environ.get("PAGEIN_TORTURE_SEED", time.time_ns()))
    reads = 5_000 if shaken else 50_000
    cap_pages = window_pages * 4 // 3  # of the windows of two files, so that one always is in the other's way
    run(Plan(seed, reads, readers=4, cap_pages=cap_pages, window_pages=window_pages, shaken=STEPS if shaken else ()))
