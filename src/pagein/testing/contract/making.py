"""What a subject is, made for the first time: before anything is checked, to see whether it can be.

Guarantees: it ends, also where a callable does not return, or what it has made cannot be closed.
Not here: what is made for each exercise (rig.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from ...stores.source import Opened, Source
from .record import Breach, Record
from .rig import MAKING
from .subject import Subject


def first_made(subject: Subject, patience_s: float) -> Source | Opened | Breach:
    """What *subject* is; or the breach, if making it takes longer than *patience_s*.

    Raises: TypeError, ValueError; what making it raises, SystemExit among it.
    """
    record, made, errors = Record(), list[Source | Opened](), list[BaseException]()

    def make() -> None:
        try:
            with record.call(MAKING):
                made.append(subject.made())
        except BaseException as error:  # raised below, to who waits
            errors.append(error)

    thread = _begun(make)
    thread.join(patience_s)
    while thread.is_alive():
        blame = record.blame()
        if blame is not None:
            return Breach(blame.number, f"{blame.seen} ({patience_s:.1f} s)", blame.where)
        thread.join(patience_s)  # it had not begun, or is about to end
    if errors:
        raise errors[0]
    return made[0]


def close_first_made(subject: Subject, made: Source | Opened, patience_s: float) -> None:
    """What was made only to be looked at.  Who raises or hangs here does it in the exercises, too, which name it.

    Of a source nothing was opened, whatever a ``close`` of its own is for.
    """
    if not isinstance(made, Opened) or subject.is_shared:
        return

    def close() -> None:
        with suppress(Exception):
            made.close()

    _begun(close).join(patience_s)


def _begun(run: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=run, name="pagein-check", daemon=True)
    thread.start()
    return thread
