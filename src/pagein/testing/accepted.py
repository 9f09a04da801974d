"""What the arguments of links, faults and simulated stores may be.

Guarantees: whatever else is given raises ValueError, or TypeError if it is of another type, which names the argument,
what it may be, and what it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from operator import index
from typing import Any

from ..errors import bad_setting

Accepted = tuple[str, Callable[[Any], bool]]
"""In words, and whether a value is so; TypeError says that it cannot be."""


def require(name: str, value: Any, accepted: Accepted) -> None:
    """Raises: ValueError, TypeError, unless *value* is *accepted*."""
    words, is_accepted = accepted
    try:
        if is_accepted(value):
            return
    except TypeError:
        raise bad_setting(name, words, value, kind=TypeError) from None
    raise bad_setting(name, words, value)


def or_none(accepted: Accepted, meaning: str) -> Accepted:
    """*accepted*, or None, which means *meaning*."""
    words, is_accepted = accepted
    return f"{words}, or None for {meaning}", lambda given: given is None or is_accepted(given)


def _is_schedule(given: Any) -> bool:
    if isinstance(given, float | int):
        return 0 <= given <= 1
    if isinstance(given, str | bytes) or not isinstance(given, Collection):
        raise TypeError
    return isinstance(given, range) or all(index(number) >= 0 for number in given)


COUNT: Accepted = "a whole number, at least 1", lambda given: index(given) >= 1
OFFSET: Accepted = "a whole number, at least 0", lambda given: index(given) >= 0
FINITE: Accepted = "a finite number, at least 0", lambda given: bool(0 <= given < math.inf)
RATE: Accepted = "a number, more than 0", lambda given: bool(given > 0)
SCHEDULE: Accepted = "a chance from 0 to 1, or a collection of the numbers of requests", _is_schedule
ERROR: Accepted = (
    "an OSError, or its errno, as errno.EIO",
    lambda given: isinstance(given, OSError) or index(given) > 0,
)
CONTENT: Accepted = (
    "bytes, or how many of them, at least 0",
    lambda given: given >= 0 if isinstance(given, int) else memoryview(given).nbytes >= 0,
)
