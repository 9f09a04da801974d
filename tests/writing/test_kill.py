"""Whoever is killed with SIGKILL leaves in the store every byte that a returned fsync had promised; and an object that
is replaced as a whole is the old one or a newer one, never a mixture."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
from array import array
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.writing.killed import OBJECT_RECORDS, RECORD_BYTES, SLOTS, Step, record, steps

from pagein.testing.fsx.subjects import scratch_directory

ROOT = Path(__file__).parents[2]
SEED = int(os.environ.get("PAGEIN_KILL_SEED", "1"))
REPORTS_MAX = 12
DELAY_MAX_S = 0.004
"""After so many reports at most, and so long after the last of them, a writer is killed."""
LINE_S = 60.0


class Victims:
    """The process that starts writers, and the end of each."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.writing.killed"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, bufsize=0,
        )  # fmt: skip
        self._unread = b""

    def kill_one(self, writer: str, seed: int, path: Path) -> dict[int, int]:
        """Let *writer* write to *path*, kill it at a random moment; return the last fsync that each thread reported."""
        chance = random.Random(seed)
        assert self._process.stdin
        self._process.stdin.write(f"{writer} {seed} {path}\n".encode())
        pid = int(self._words()[1])
        synced: dict[int, int] = {}
        for _ in range(chance.randint(0, REPORTS_MAX)):
            self._note(self._words(), synced)
        select.select([], [], [], chance.random() * DELAY_MAX_S)  # not to wait for anything: a moment by chance
        os.kill(pid, signal.SIGKILL)
        while (words := self._words())[0] != "ended":
            self._note(words, synced)
        assert int(words[1]) == signal.SIGKILL, words
        return synced

    def _note(self, words: list[str], synced: dict[int, int]) -> None:
        assert words[0] == "synced", f"{' '.join(words)} {self._unread.decode()}"
        synced[int(words[1])] = int(words[2])

    def _words(self) -> list[str]:
        assert self._process.stdout
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self._process.stdout], [], [], LINE_S)
            assert ready, f"nothing came within {LINE_S} s"
            more = os.read(self._process.stdout.fileno(), 1 << 16)
            assert more, "the process that starts writers has ended"
            self._unread += more
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode().split()

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()  # so that a writer that still lives ends with its next report
        self._process.wait(LINE_S)


@pytest.fixture
def victims() -> Iterator[Victims]:
    victims = Victims()
    yield victims
    victims.close()


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """In memory if possible: kill() leaves what the kernel has, and so nothing is gained by a disk that is slow."""
    directory = Path(scratch_directory() or tmp_path) / f"pagein-kill-{os.getpid()}"
    directory.mkdir()
    yield directory / "file"
    for left in directory.iterdir():
        left.unlink()
    directory.rmdir()


# -- what may be left --------------------------------------------------------------------------------------------


def may_be_left(seed: int, thread: int, threads: int, synced: int) -> tuple[dict[int, set[int]], range]:
    """For each slot of *thread*, what each of its words may be; and the sizes that the file may have.

    What the last reported fsync found, or anything after it, up to the fsync that may have been cut short.
    """
    done: list[Step] = []
    for step in steps(seed, thread, threads):
        done.append(step)
        if step.fsyncs and step.seq > synced:
            break
    words: dict[int, set[int]] = defaultdict(lambda: {0})
    size, sizes = 0, {0}
    for step in done:
        is_sure = step.seq <= synced
        size = step.slot * RECORD_BYTES if step.cuts else max(size, (step.slot + 1) * RECORD_BYTES)
        sizes = {size} if is_sure else sizes | {size}
        cut = [slot for slot in words if slot >= step.slot] if step.cuts else []
        for slot in cut or ([] if step.cuts else [step.slot]):
            word = 0 if step.cuts else step.seq
            words[slot] = {word} if is_sure else words[slot] | {word}
    return words, range(min(sizes), max(sizes) + 1)


def check(data: bytes, seed: int, threads: int, synced: dict[int, int]) -> None:
    sizes = []
    padded = data.ljust(SLOTS * RECORD_BYTES, b"\0")
    for thread in range(threads):
        words, thread_sizes = may_be_left(seed, thread, threads, synced.get(thread, 0))
        sizes.append(thread_sizes)
        for slot in range(thread, SLOTS, threads):
            found = set(array("Q", padded[slot * RECORD_BYTES : (slot + 1) * RECORD_BYTES]))
            wrong = found - words.get(slot, {0})
            assert not wrong, (
                f"seed {seed}: slot {slot} has records {sorted(wrong)}, and may have {sorted(words.get(slot, {0}))}: "
                f"thread {thread} had fsynced {synced.get(thread, 0)}"
            )
    least, most = max(one.start for one in sizes), max(one.stop for one in sizes)
    assert least <= len(data) < most, f"seed {seed}: {len(data)} bytes, and should be from {least} to {most - 1}"


def kill(victims: Victims, path: Path, writer: str, kills: int, *, threads: int = 1) -> int:
    """How many fsyncs were reported in all."""
    reported = 0
    for seed in range(SEED, SEED + kills):
        path.write_bytes(b"")
        synced = victims.kill_one(writer, seed, path)
        check(path.read_bytes(), seed, threads, synced)
        reported += len(synced)
    return reported


# -- the tests -----------------------------------------------------------------------------------------------------


def test_the_check_passes_what_is_right_and_finds_a_writer_that_lies(victims: Victims, path: Path) -> None:
    assert kill(victims, path, "plain", 10) > 5
    with pytest.raises(AssertionError, match=r"slot \d+ has records"):
        kill(victims, path, "liar", 10)


def test_what_was_fsynced_is_in_the_file_of_who_was_killed(victims: Victims, path: Path) -> None:
    assert kill(victims, path, "cached", 80) > 40


def test_what_each_of_several_threads_had_fsynced_is_in_the_file(victims: Victims, path: Path) -> None:
    assert kill(victims, path, "threads", 60, threads=3) > 60


def test_an_object_is_the_old_one_or_a_complete_newer_one(victims: Victims, path: Path) -> None:
    for seed in range(SEED, SEED + 60):
        path.write_bytes(record(0) * OBJECT_RECORDS)
        synced = victims.kill_one("whole_object", seed, path).get(0, 0)
        data = path.read_bytes()
        assert len(data) == OBJECT_RECORDS * RECORD_BYTES, f"seed {seed}"
        assert len(set(array("Q", data))) == 1, f"seed {seed}: a mixture"
        assert array("Q", data[:8])[0] in (synced, synced + 1), f"seed {seed}: {synced} had been fsynced"
        for staged in path.parent.glob("file?*"):  # what the store had not finished
            staged.unlink()


@pytest.mark.torture
def test_for_minutes(victims: Victims, path: Path) -> None:
    """With other seeds than the others; PAGEIN_KILL_SEED repeats them."""
    kill(victims, path, "cached", 400)
    kill(victims, path, "threads", 400, threads=3)
