"""The contest: each contender's threads walk all of the file, and every member's digest is compared.

Guarantees: a member counts as wrong, once for each thread, if its bytes, its name or its place differ, if it is
missing, or if the archive breaks off; nothing is compared that was not read by that contender.
Assumes: one contest at a time.
"""

from __future__ import annotations

import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from .contenders import Contender, Cost
from .reference import Reference, members_of

REFRESH_S = 0.1
GRACE_S = 1.0
"""How long an interrupted contest waits for its threads, which end with the request that they are in."""


@dataclass(frozen=True)
class Score:
    """How one contender did."""

    contender: Contender
    seconds: float
    wrong_members: int
    checked_members: int
    read_bytes: int
    cost: Cost
    error: BaseException | None = None
    """Of the first thread that had one; it ended the others."""
    was_stopped: bool = False
    """It took too long."""


class _Ended(Exception):
    """The contest is over for this thread."""


class Contest:
    """One contender's threads, walking."""

    def __init__(self, contender: Contender, reference: Reference, *, thread_count: int) -> None:
        self._contender = contender
        self._reference = reference
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._error: BaseException | None = None
        self.read_bytes: int = 0
        self._wrong_members = self._checked_members = 0
        self._threads = [
            threading.Thread(target=self._guarded, name=f"walk-{number}", daemon=True) for number in range(thread_count)
        ]

    def run(self, refresh: Callable[[int], object], *, limit_s: float | None = None) -> Score:
        """Walk, and tell *refresh* now and then how many bytes have been read; give up after *limit_s*.

        Blocks: interruptibly; no thread reads on after it was interrupted.
        """
        began_s = time.monotonic()
        for thread in self._threads:
            thread.start()
        timed_out = False
        try:
            while not timed_out and (walking := [thread for thread in self._threads if thread.is_alive()]):
                walking[0].join(REFRESH_S)
                refresh(self.read_bytes)
                timed_out = limit_s is not None and time.monotonic() - began_s > limit_s
        finally:
            self._ending.set()
            self._join()
        return Score(
            contender=self._contender,
            seconds=time.monotonic() - began_s,
            wrong_members=self._wrong_members,
            checked_members=self._checked_members,
            read_bytes=self.read_bytes,
            cost=self._contender.cost(),
            error=self._error,
            was_stopped=timed_out,
        )

    def _join(self) -> None:
        deadline_s = time.monotonic() + GRACE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))

    def _guarded(self) -> None:
        try:
            self._walk()
        except _Ended:
            pass
        except BaseException as error:  # kept for the score
            with self._lock:
                if self._error is None and not self._ending.is_set():
                    self._error = error
            self._ending.set()

    def _walk(self) -> None:
        expected = iter(self._reference.members)
        with self._contender.open() as file:
            try:
                for found in members_of(file, is_tar=self._reference.is_tar, report=self._report):
                    self._count(wrong=next(expected, None) != found)
            except tarfile.TarError:
                pass  # wrong bytes in a header: what was to come is missing
        for _ in expected:
            self._count(wrong=True)

    def _count(self, *, wrong: bool) -> None:
        with self._lock:
            self._checked_members += 1
            self._wrong_members += wrong

    def _report(self, size_bytes: int) -> None:
        if self._ending.is_set():
            raise _Ended
        with self._lock:
            self.read_bytes += size_bytes
