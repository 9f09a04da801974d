"""Checks that run in a forked child."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable

CHILD_TIMEOUT_S = 10


def in_child(check: Callable[[], object]) -> None:
    """Run *check* in a forked child, and fail with what it printed if it failed or hung there."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # pytest-timeout's handler is the parent's
            signal.alarm(CHILD_TIMEOUT_S)
            check()
            os._exit(0)
        except BaseException:
            os.write(writing, traceback.format_exc().encode())
            os._exit(1)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    assert status == 0, said or f"the child hung: it ended with status {status}"
