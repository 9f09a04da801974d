"""Text over a `File`: what `open` puts around it for a mode without "b".

Guarantees: text that nobody flushed or closed is written all the same, at the cache's next turn.
Assumes: `io.TextIOWrapper` does the rest.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, cast

from .file import File
from .modes import Mode, parse_mode


class TextFile(io.TextIOWrapper):
    """Text that is written, collected in pieces of 8 KiB."""

    def detach(self) -> Any:
        """The file below, which is no longer this one's."""
        file = super().detach()
        file._is_below_text = False  # type: ignore[attr-defined]  # a File
        return file

    def __del__(self) -> None:
        # The garbage collector may run this inside any lock of ours.  What `io` would do here is to write and to close.
        try:
            file = self.buffer
        except ValueError:  # detached; never made
            return
        if isinstance(file, File):
            file._become_late()
        try:
            self.close()
        except Exception:  # closed, or half made
            pass


def text_layer(
    mode: str, encoding: str | None, errors: str | None, newline: str | None
) -> tuple[Mode, Callable[[File], File | io.TextIOWrapper]]:
    """A mode, and what it puts around a file.  Raises: as `open` for one that it would refuse, too."""
    parsed, is_text = parse_mode(mode)
    if is_text:
        return parsed, lambda file: _as_text(file, mode, encoding, errors, newline)
    for what, given in (("encoding", encoding), ("errors", errors), ("newline", newline)):
        if given is not None:
            raise ValueError(f"binary mode does not take the argument {what}={given!r}")
    return parsed, lambda file: file


def _as_text(file: File, mode: str, encoding: str | None, errors: str | None, newline: str | None) -> io.TextIOWrapper:
    kind = TextFile if file.writable() else io.TextIOWrapper
    try:
        text = kind(cast(Any, file), io.text_encoding(encoding), errors, newline)
        file._is_below_text = kind is TextFile
        text.mode = mode  # type: ignore[misc]  # as `open` does
        return text
    except BaseException:
        file.close()
        raise
