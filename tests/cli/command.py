"""Running `pagein` as its users do: as a process of its own; or here, where that is enough."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from pagein.cli.app import run

TIMEOUT_S = 60.0  # after which a command that should have ended has failed the test
COMMAND = [sys.executable, "-m", "pagein.cli"]


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line that an error is."""
        assert self.err.count("\n") == 1, self.err
        assert self.err.endswith("\n")
        return self.err.removesuffix("\n")


def run_here(capsys: pytest.CaptureFixture[str], *arguments: object) -> Ended:
    """Run a command in this process."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        status = run([str(argument) for argument in arguments])
    finally:
        signal.signal(signal.SIGTERM, before)
    captured = capsys.readouterr()
    return Ended(status, captured.out, captured.err)


def run_process(*arguments: object, **environment: str) -> Ended:
    """Run a command in a process of its own, its output in pipes."""
    ended = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env={**os.environ, **environment},
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def in_terminal(command: list[str], *, status: int = 0, **environment: str) -> str:
    """All that a command writes to a terminal that is its only one."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env={**os.environ, **environment})
    finally:
        os.close(theirs)
    written = b""
    with open(ours, "rb", buffering=0) as terminal:
        while True:
            try:
                written += terminal.read(4096)
            except OSError:  # EIO: nobody has the other end any more
                break
    assert process.wait(TIMEOUT_S) == status
    return written.decode()


class StuckObjects(dict[str, bytes]):
    """Objects of a server that answers so many times, and then not until it is told to."""

    def __init__(self, objects: dict[str, bytes], *, answers: int) -> None:
        super().__init__(objects)
        self._answers = threading.Semaphore(answers)
        self.stuck = threading.Event()

    def get(self, name: str, default: Any = None) -> Any:
        if not self._answers.acquire(blocking=False):
            self.stuck.set()
            assert self._answers.acquire(timeout=TIMEOUT_S)
        return super().get(name, default)

    def answer_all(self) -> None:
        self._answers.release(1000)


@contextmanager
def started(*arguments: object, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command that is running; it is killed if the test leaves it so."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
