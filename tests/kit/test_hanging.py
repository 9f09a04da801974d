"""A store that hangs keeps neither the check waiting, nor the process that has made it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.clauses import ROOT
from tests.kit import hanging
from tests.kit.reading_mistakes import Right

from pagein.mm.page import Page
from pagein.testing.contract import Subject, check, left_behind

TIMEOUT_S = 60.0
"""After which a process that should have ended has failed the test."""


def ended(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A process of Python's that has come to its end."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False, cwd=cwd, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("store", "clause"),
    [
        (hanging.HangsInAPool, "R4"),
        (hanging.LeavesAThread, "L2"),
        (hanging.HangsWhenMade, "D4"),
        (hanging.HangsInSetSize, "D4"),
        (hanging.HangsInStore, "D4"),
    ],
)
def test_the_command_names_it_and_ends(store: type, clause: str) -> None:
    told = ended("-m", "pagein.cli", "check", f"{hanging.__name__}:{store.__name__}", "--patience", "0.5")
    assert (told.returncode, told.stderr) == (1, "")
    assert f"BROKEN {clause}: " in told.stdout
    assert told.stdout.splitlines()[-1].startswith("FAILED: ")


CHECK = """
from tests.kit import hanging
from pagein.testing.contract import Subject, check
print(*check(Subject(hanging.{}), patience_s=0.3).broken)
"""


@pytest.mark.parametrize("store", [hanging.HangsInSetSize, hanging.HangsInStore])
def test_a_process_that_has_checked_it_ends_though_its_data_are_in_no_store(store: type) -> None:
    told = ended("-c", CHECK.format(store.__name__))
    assert (told.returncode, told.stdout, told.stderr) == (0, "D4\n", "")


def test_a_process_that_is_interrupted_while_it_hangs_ends() -> None:
    told = ended("-c", CHECK.format(hanging.HangsAndIsInterrupted.__name__))
    assert told.stdout == ""
    assert told.stderr.splitlines()[-1] == "KeyboardInterrupt"


INTERRUPTED_WHILE_IT_STARTS = """
import threading
from tests.kit import hanging
started = threading.Thread.start
def start(thread):
    started(thread)
    is_watched = threading.current_thread() is threading.main_thread() and thread.name == "pagein-check"
    while is_watched and thread.is_alive():
        thread.join(0.01)
        if hanging.HANGS.is_set():
            raise KeyboardInterrupt
threading.Thread.start = start
"""


def test_also_while_the_thread_starts_that_hangs() -> None:
    told = ended("-c", INTERRUPTED_WHILE_IT_STARTS + CHECK.format(hanging.HangsInSetSize.__name__))
    assert told.stdout == ""
    assert told.stderr.splitlines()[-1] == "KeyboardInterrupt"


def test_one_that_hangs_when_it_is_made_is_told_with_the_line() -> None:
    never = threading.Event()

    class Hangs(Right):
        def __init__(self) -> None:
            never.wait()

    try:
        report = check(Subject(Hangs), patience_s=0.3)
    finally:
        never.set()
    assert report.broken == ["D4"]
    (breach,) = report.of("D4").breaches
    assert breach.where == "making what is checked"
    assert "kit/test_hanging.py:" in breach.seen
    assert report.of("R9").reason == "not checked before D4 is right"


def test_one_that_hangs_when_it_is_made_once_more_is_told_too() -> None:
    never, made = threading.Event(), iter(range(100))

    class HangsLater(Right):
        def __init__(self) -> None:
            if next(made) == 4:  # for an exercise
                never.wait()

    try:
        report = check(Subject(HangsLater), patience_s=0.3)
    finally:
        never.set()
    assert report.broken == ["D4"]


ENDS_LATER = """
import atexit, threading, time
from tests.kit.reading_mistakes import Right
atexit.register(lambda: (threading.Event().wait(2.5), print("saved")))
"""


def test_what_a_right_store_does_at_the_end_of_the_process_takes_its_time(tmp_path: Path) -> None:
    """Longer than a call may take: data may be written there."""
    (tmp_path / "ends_later.py").write_text(ENDS_LATER)
    told = ended("-m", "pagein.cli", "check", "ends_later:Right", "--patience", "0.5", cwd=tmp_path)
    assert (told.returncode, told.stdout.splitlines()[-1]) == (0, "saved")


def test_a_pool_for_each_of_many_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its threads end with whoever has made it."""
    ending_s = 60.0  # far longer than a check takes, on a machine that others use, too
    monkeypatch.setattr(left_behind, "ENDING_S", ending_s)
    began_s = time.monotonic()
    assert check(Subject(RightInAPool)).passed
    assert time.monotonic() - began_s < ending_s


class RightInAPool(Right):
    blocking = True

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(1)
        self.itself = self  # the garbage collector sees that nobody has it, and nobody before

    def fill(self, page: Page) -> None:
        self.pool.submit(super().fill, page).result()


ENDING = """
import atexit, threading
from pagein.cli.ending import end, leave_within
atexit.register(print, "handled", flush=True)
leave_within({})
{}
end(3)
"""


def test_what_is_registered_for_the_end_is_done_if_it_ends() -> None:
    told = ended("-c", ENDING.format(3600, ""))
    assert (told.returncode, told.stdout) == (3, "handled\n")


def test_an_exit_handler_that_never_ends_is_left() -> None:
    told = ended("-c", ENDING.format(0.01, "atexit.register(threading.Event().wait)"))
    assert told.returncode == 3


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """What these stores leave behind is their mistake."""
