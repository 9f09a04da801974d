"""How fresh what a cache hands out has to be: what `PageCache(revalidate=…)` means.

Guarantees: what makes no sense is refused, and the message says what is accepted.
Not here: who looks at a source, and what follows (looks.py, table.py).
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

Revalidate = Literal["open", "always", "never"] | float


class Freshness(NamedTuple):
    """How old the last look at a source may be, in seconds, so that it need not be looked at again."""

    at_open_s: float
    """When it is opened; infinite: whatever is known of it will do."""
    at_read_s: float
    """When something is read through a file that is open; infinite: it keeps the version that it opened."""

    @property
    def reads_look(self) -> bool:
        """Whether a file that is open may have to look."""
        return self.at_read_s < math.inf

    @property
    def setting(self) -> Revalidate:
        """What says it: `parse_revalidate` the other way."""
        return next((name for name, meant in _NAMED.items() if meant == self), self.at_open_s)


_NAMED: dict[Literal["open", "always", "never"], Freshness] = {
    "open": Freshness(0.0, math.inf),
    "always": Freshness(0.0, 0.0),
    "never": Freshness(math.inf, math.inf),
}
DEFAULT: Revalidate = "open"
_ACCEPTED = "'open', 'always', 'never', or a finite number of seconds from 0"


def parse_revalidate(revalidate: Any, what: str = "revalidate") -> Freshness:
    """What *what* says.  Raises: TypeError, ValueError."""
    if isinstance(revalidate, str):
        if revalidate not in _NAMED:
            raise ValueError(f"{what} must be {_ACCEPTED}, not {revalidate!r}")
        return _NAMED[revalidate]
    if isinstance(revalidate, bool) or not isinstance(revalidate, int | float):
        raise TypeError(f"{what} must be {_ACCEPTED}, not {revalidate!r} ({type(revalidate).__name__})")
    if not 0 <= revalidate < math.inf:  # also not a number
        raise ValueError(f"{what} must be {_ACCEPTED}, not {revalidate!r}")
    return Freshness(float(revalidate), float(revalidate))
