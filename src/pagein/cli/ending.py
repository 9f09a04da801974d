"""The end of the process: as Python ends one, or no later than a command has said.

Guarantees: after `leave_within`, no thread that never ends, and no exit handler that waits for one, keeps the process
for longer; until then all that is registered for the end is done.
Assumes: what has to be written was flushed when the command returned (app.py).
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import NoReturn

_delay_s: float | None = None
"""Used in the main thread only."""


class Terminated(SystemExit):
    """SIGTERM came: not to be taken for a ``sys.exit`` of the code that it came in."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def leave_within(delay_s: float) -> None:
    """Code of somebody else's runs in this process, and may never end."""
    global _delay_s  # noqa: PLW0603  # there is one end
    _delay_s = delay_s


def end(status: int) -> NoReturn:
    """End the process."""
    if _delay_s is not None:
        # Not at once: exit handlers remove temporary files, and most threads do end.  A daemon thread runs until the
        # last of the handlers has returned.
        leaving = threading.Thread(target=_leave, args=(_delay_s, status), name="pagein-ending", daemon=True)
        leaving.start()
    sys.exit(status)


def _leave(delay_s: float, status: int) -> None:
    time.sleep(delay_s)
    os._exit(status)
