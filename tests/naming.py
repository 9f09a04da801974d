"""Names of a test's parameters: the same in every process that collects the tests, since those share the work."""

from __future__ import annotations

import re


def without_address(value: object) -> str:
    """Its `repr`, without where in memory it lies."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
