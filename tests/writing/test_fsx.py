"""The exerciser finds every mistake that was seeded, says how to repeat it in few operations, and finds none in what is
right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.writing import wrong_files

from pagein.testing import fsx
from pagein.testing.fsx.__main__ import main
from pagein.testing.fsx.operations import READS, WRITES

OPS = 20_000
"""Enough for each mistake; most are found in the first hundred."""
SHORT_OPS = 6


def found_in(kind: Any, threads: int) -> str:
    with pytest.raises(fsx.Difference) as caught:
        fsx.exercise(1, OPS, threads=threads, make=lambda plan: kind())
    return str(caught.value)


def lines_of(report: str) -> str:
    return report[report.index("plan seed=") :]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", [fsx.PlainFile, wrong_files.SmallCache])
def test_there_is_no_difference_in_what_is_right(kind: Any, threads: int) -> None:
    fsx.exercise(1, OPS, threads=threads, make=lambda plan: kind())


@pytest.mark.parametrize("kind", wrong_files.ALONE)
def test_each_mistake_is_found_and_told_in_few_operations_that_repeat_it(kind: Any) -> None:
    report = found_in(kind, threads=1)
    plan, ops = fsx.loads(lines_of(report))
    assert len(ops) <= SHORT_OPS, report
    assert fsx.replay(plan, ops, lambda plan: kind()), report
    for at in range(len(ops)):
        fewer = [*ops[:at], *ops[at + 1 :]]
        # (A file without operations is looked at, too.)
        assert not fewer or not fsx.replay(plan, fewer, lambda plan: kind()), f"not needed: {ops[at]}, of\n{report}"


@pytest.mark.parametrize("kind", wrong_files.TOGETHER)
def test_each_mistake_among_threads_is_found_and_told_in_few_operations(kind: Any) -> None:
    _, ops = fsx.loads(lines_of(found_in(kind, threads=4)))
    assert len(ops) <= SHORT_OPS
    assert len({op.thread for op in ops}) > 1


def test_the_seed_in_a_report_repeats_it() -> None:
    report = found_in(wrong_files.EndIsOffByOne, threads=1)
    seed = int(report.split()[1].rstrip(":"))
    with pytest.raises(fsx.Difference, match=f"seed {seed}:"):
        fsx.exercise(seed, fsx.Plan.of(seed).ops, make=lambda plan: wrong_files.EndIsOffByOne(), shorten_s=0)


def test_a_list_of_operations_is_read_as_it_was_written() -> None:
    for seed in range(20):
        plan = fsx.Plan.of(seed, ops=200, threads=seed % 4 + 1, store="memory", cache_pages=7)
        ops = fsx.generate(plan)
        assert fsx.loads("# a comment\n\n" + fsx.dumps(plan, ops)) == (plan, ops)
        assert fsx.generate(plan) == ops
    with pytest.raises(ValueError, match="unknown operation 'scrawl'"):
        fsx.loads(fsx.dumps(plan, []) + "0 scrawl 0 1 2")
    with pytest.raises(ValueError, match="the first line"):
        fsx.loads("0 pread 0 1 2")


def test_each_thread_writes_to_bytes_of_its_own() -> None:
    for seed in range(20):
        plan = fsx.Plan.of(seed, ops=2000, threads=3)
        owners = bytearray(b"\xff" * plan.max_bytes)
        for thread in range(plan.threads):
            for start, stop in plan.owned(thread, 0, plan.max_bytes):
                assert owners[start:stop].count(0xFF) == stop - start
                owners[start:stop] = bytes([thread]) * (stop - start)
        assert 0xFF not in owners
        for op in fsx.generate(plan):
            if op.name in WRITES:
                assert owners[op.offset : op.stop].count(op.thread) == op.size


def test_the_size_is_known_within_the_bounds_of_each_segment() -> None:
    """In whatever order the threads of a segment come: each is tried one after the other, in all orders of threads."""
    from itertools import permutations

    from pagein.testing.fsx.operations import segments, size_after

    for seed in range(20):
        plan = fsx.Plan.of(seed, ops=1000, threads=3)
        size = 0
        for segment in segments(plan, fsx.generate(plan)):
            if segment.appends:
                assert {op.name for op in segment.ops} == {"append"}
                size = segment.size
                continue
            for order in permutations(range(3)):
                now = size
                for thread in order:
                    for op in segment.ops:
                        if op.thread == thread and op.name not in READS:
                            now = size_after(plan, op, now)
                            assert segment.low <= now <= segment.high
                assert now == segment.size
            size = segment.size


def test_the_command_replays_a_file_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "3", "--ops", "300", "--threads", "2", "--store", "memory", "--list"]) == 0
    listed = capsys.readouterr().out
    assert fsx.loads(listed)[0].seed == 3
    (tmp_path / "ops").write_text(listed)
    assert main(["--replay", str(tmp_path / "ops")]) == 0
    assert capsys.readouterr().out == "300 operations, no difference\n"


@pytest.mark.parametrize("words", ["--ops 0", "--threads none", "--store punched-cards", "--replay /nowhere"])
def test_the_command_refuses_what_makes_no_sense(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words.split())
    assert "usage: python -m pagein.testing.fsx" in capsys.readouterr().err
