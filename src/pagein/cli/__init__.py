"""The command `pagein`, also by ``python -m pagein``.

Guarantees: an error is one line on stderr that names what was wrong, and exit status 1; wrong usage is one line
and 2; Ctrl-C is 130, without a traceback; a reader that goes away (``| head``) ends a command quietly, with 141
as for any filter; a stdout that was closed is an error, once something is written there.  Escape codes go to terminals
only.
Assumes: the extra [cli]; without it `main` says what to install.
Not here: how commands are found and errors told (app.py), and the end of the process (ending.py); each command is a
file of its own.
"""

from __future__ import annotations

import sys


def main() -> None:
    """What the script runs.  Ends the process."""
    try:
        from .app import run
        from .ending import Terminated, end
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("click", "rich"):
            raise
        sys.exit("pagein: the command needs the extra [cli]: pip install 'pagein[cli]'")
    try:
        status = run(sys.argv[1:])
    except Terminated as terminated:
        status = terminated.status
    end(status)
