"""What options and arguments are on the command line: sizes, with or without a unit; places."""

from __future__ import annotations

import click

from ..units import parse_size


def size(text: str) -> int:
    """Bytes.  Raises: click.BadParameter saying what is accepted."""
    try:
        return parse_size(text, what="it")
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def positive_size(text: str) -> int:
    """Bytes, one at least.  Raises: click.BadParameter."""
    size_bytes = size(text)
    if not size_bytes:
        raise click.BadParameter("it must be at least 1 byte")
    return size_bytes


def place(text: str) -> str:
    """A path or URL.  Raises: click.BadParameter for nothing: an unset variable is not the working directory."""
    if not text:
        raise click.BadParameter("it is empty")
    return text
