"""Threads that read blocks of files by a pattern: the work of ``pagein read``.

Guarantees: each thread has files, a share of the bytes and a sequence of blocks of its own, so that what is read
depends on the arguments alone; the first error of a thread ends all of them, and is raised by `read_all`.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from ..file import File
from .pattern import PATTERNS

SIZE_BYTES = 256 << 20
READS_MAX = 100_000
"""So much is read, in so many reads at most, if nobody says how much."""
REFRESH_S = 0.1
"""How often the bytes read so far are told."""


@dataclass(frozen=True)
class Order:
    """What to read, and how."""

    pattern: str
    thread_count: int
    block_bytes: int
    size_bytes: int | None
    """In all; None: `SIZE_BYTES`, or less of small sources."""
    seed: int


class Readers:
    """One thread for each of *files_by_thread*, whose files lie end to end."""

    def __init__(self, files_by_thread: Sequence[Sequence[File]], order: Order) -> None:
        self._order = order
        counts = [-(-file.size_bytes // order.block_bytes) for file in files_by_thread[0]]
        self._stops = list(accumulate(counts))
        """By source: the first block that is not its own any more."""
        all_bytes, block_count = sum(file.size_bytes for file in files_by_thread[0]), self._stops[-1]
        usual_bytes = min(SIZE_BYTES, READS_MAX * -(-all_bytes // max(1, block_count)))
        self.size_bytes: int = usual_bytes if order.size_bytes is None else order.size_bytes
        """To be read in all."""
        self._read_bytes = [0] * order.thread_count
        self._read_counts = [0] * order.thread_count
        self._errors: list[BaseException] = []
        self._stopping = threading.Event()
        self._threads = [
            # Daemons: a store that does not answer must not keep the command from ending.
            threading.Thread(target=self._guarded, args=(number, files), name=f"reader-{number}", daemon=True)
            for number, files in enumerate(files_by_thread)
        ]

    @property
    def read_bytes(self) -> int:
        """So far."""
        return sum(self._read_bytes)

    @property
    def read_count(self) -> int:
        """So far."""
        return sum(self._read_counts)

    def read_all(self, refresh: Callable[[], object]) -> None:
        """Let every thread read its share.  Blocks: interruptibly.  Raises: the first error of a thread."""
        try:
            for thread in self._threads:
                thread.start()
            for thread in self._threads:
                while thread.is_alive():
                    thread.join(REFRESH_S)
                    refresh()
        finally:
            self._stopping.set()
        if self._errors:
            raise self._errors[0]

    def _guarded(self, number: int, files: Sequence[File]) -> None:
        try:
            self._read_share(number, files)
        except BaseException as error:  # raised again by read_all
            if not self._stopping.is_set():  # else it comes of the end of the others
                self._errors.append(error)
            self._stopping.set()

    def _read_share(self, number: int, files: Sequence[File]) -> None:
        order, block_count = self._order, self._stops[-1]
        share, rest = divmod(self.size_bytes, order.thread_count)
        left = share + (number < rest)
        if not block_count:
            return
        for block in PATTERNS[order.pattern](block_count, number, order.thread_count, order.seed):
            if left <= 0 or self._stopping.is_set():
                return
            source = bisect_right(self._stops, block)
            in_source = block - (self._stops[source - 1] if source else 0)
            data = files[source].pread(min(order.block_bytes, left), in_source * order.block_bytes)
            left -= len(data)
            self._read_bytes[number] += len(data)
            self._read_counts[number] += 1
