"""The modes of `open`: what each lets a file do, and does to the object.

Guarantees: what the built-in `open` accepts is accepted, and nothing else.
"""

from __future__ import annotations

from typing import NamedTuple

from .errors import bad_mode


class Mode(NamedTuple):
    """One mode, taken apart."""

    name: str
    """As `io.FileIO` calls it."""
    reads: bool
    writes: bool
    creates: bool = False
    """What is not there is made..."""
    exclusive: bool = False
    """...and what is there is an error..."""
    truncates: bool = False
    """...or becomes empty."""
    appends: bool = False
    """Each write goes to the end, wherever that is by then."""


READ = Mode("rb", reads=True, writes=False)


def parse_mode(mode: str) -> tuple[Mode, bool]:
    """The mode that *mode* names, and whether it is one for text.  Raises: TypeError, ValueError, as `open`."""
    if not isinstance(mode, str):
        raise TypeError(f"mode must be str, not {type(mode).__name__}")
    letters = set(mode)
    if len(mode) != len(letters) or letters - set("rwxabt+") or len(letters & set("rwxa")) != 1 or letters >= set("bt"):
        raise bad_mode(mode)
    return _mode(letters), "b" not in letters


def _mode(letters: set[str]) -> Mode:
    updates = "+" in letters
    if "r" in letters:
        return Mode("rb+", reads=True, writes=True) if updates else READ
    if "w" in letters:  # (FileIO forgets how a file that it also reads was opened.)
        return Mode("rb+" if updates else "wb", reads=updates, writes=True, creates=True, truncates=True)
    if "x" in letters:
        return Mode("xb+" if updates else "xb", reads=updates, writes=True, creates=True, exclusive=True)
    return Mode("ab+" if updates else "ab", reads=updates, writes=True, creates=True, appends=True)
