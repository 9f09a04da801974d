"""What went wrong, in one line on stderr."""

from __future__ import annotations

import os

import click

from . import screen

EXIT_ERROR = 1


def complain(error: OSError | ValueError | str, status: int = EXIT_ERROR) -> int:
    """Say what was wrong, beginning with the source if it is an error of one; return the exit status."""
    click.echo(f"pagein: {screen.printable(' '.join(_words(error).split()))}", err=True)
    return status


def _words(error: OSError | ValueError | str) -> str:
    if isinstance(error, OSError) and error.strerror is not None:
        # (A name without a letter is shown as Python writes it: nobody sees it otherwise.)
        source = "" if error.filename is None else f"{os.fsdecode(error.filename) or repr('')}: "
        return f"{source}{error.strerror}"
    return str(error) or type(error).__name__
