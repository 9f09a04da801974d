"""A table in plain text that grows: each row is printed as it comes, so the widths of its columns are known before.

Not here: what is in it (run.py).
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable
from itertools import zip_longest

TITLES = "file", "mutation", "verdict", "s", "caught by"
WIDTH_MIN = 100
"""So wide it is at least, and at most as wide as its terminal."""
_GAP = "  "
_VERDICT_WIDTH = 9
_SECONDS_WIDTH = 5


def terminal_width() -> int:
    """Or, where there is none, what ``COLUMNS`` says."""
    return max(WIDTH_MIN, shutil.get_terminal_size((WIDTH_MIN, 24)).columns)


class Table:
    """Rows of *files*, as wide as is said."""

    def __init__(self, files: Iterable[str], width: int) -> None:
        file_width = max(len(TITLES[0]), *map(len, files))
        rest = width - (file_width + _VERDICT_WIDTH + _SECONDS_WIDTH + len(_GAP) * (len(TITLES) - 1))
        name_width = rest * 2 // 5
        self._widths = file_width, name_width, _VERDICT_WIDTH, _SECONDS_WIDTH, rest - name_width

    def head(self) -> str:
        """The titles, underlined."""
        return f"{self.row(*TITLES)}\n{self.row(*('-' * width for width in self._widths))}"

    def row(self, file: str, name: str, verdict: str, seconds: str, by: str) -> str:
        """As many lines as its longest cell takes."""
        cells = file, name, verdict, seconds.rjust(_SECONDS_WIDTH), by
        wrapped = [_wrapped(cell, width) for cell, width in zip(cells, self._widths, strict=True)]
        return "\n".join(
            _GAP.join(text.ljust(width) for text, width in zip(line, self._widths, strict=True)).rstrip()
            for line in zip_longest(*wrapped, fillvalue="")
        )


def _wrapped(text: str, width: int) -> list[str]:
    """In lines; if a test is too long for one, its name begins another."""
    if len(text) <= width:
        return [text]
    return [line for part in text.replace("::", "::\n").split("\n") for line in textwrap.wrap(part, width)]
