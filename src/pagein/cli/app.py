"""All commands, and what becomes of an error in one of them.

Guarantees: `run` returns the exit status, whatever happens in a command, unless that is a mistake of pagein's own.
Assumes: commands return their exit status, or None for 0.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType

import click

from .cat import cat
from .check import check
from .complaints import complain
from .config import config
from .cp import cp
from .demo import demo
from .ending import Terminated
from .plot import plot
from .read import read
from .stat import stat
from .sync import sync
from .top import top
from .warm import warm

EXIT_USAGE = 2
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_BROKEN_PIPE = 128 + signal.SIGPIPE
EXIT_TERMINATED = 128 + signal.SIGTERM


@click.group(invoke_without_command=True)
@click.version_option(package_name="pagein", message="%(prog)s %(version)s")
@click.pass_context
def pagein(context: click.Context) -> None:
    """Read and write files, URLs and objects through a page cache.

    A SOURCE is a path, a URL (http:, https:, s3:, gs:, az:, file:), or any other URL or chain that fsspec knows.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (cat, cp, sync, stat, read, warm, top, plot, check, config, demo):
    pagein.add_command(_command)


def run(arguments: Sequence[str]) -> int:
    """Run a command, and return the exit status.  Says on stderr, in one line, what went wrong."""
    had_stdout = sys.stdout is not None
    _open_closed_streams()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)  # so that temporary files and servers end on the way out
    try:
        # Not pagein.main(): it would end the process on a broken pipe, and give Ctrl-C a line of its own.
        with pagein.make_context("pagein", list(arguments)) as context:
            status: int | None = pagein.invoke(context)
        sys.stdout.flush()
        return status or 0
    except click.exceptions.Exit as ended:  # --help, --version
        return ended.exit_code
    except click.ClickException as error:
        return complain(_usage(error), EXIT_USAGE)
    except BrokenPipeError as error:
        if error.filename is not None:  # a store's, not stdout's
            return complain(error)
        _give_up_stdout()
        return EXIT_BROKEN_PIPE
    except (OSError, ValueError) as error:
        if not had_stdout and isinstance(error, OSError) and error.errno == errno.EBADF and error.filename is None:
            error.filename = "standard output"
            _give_up_stdout()
        return complain(error)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _open_closed_streams() -> None:
    """Those that the caller has closed (``>&-``), before a file of ours gets their descriptors.  What is written to
    stderr is lost; what is written to stdout, which is what a command is there for, is EBADF, as of other programs."""
    if sys.stdout is None:
        sys.stdout = open(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")  # noqa: SIM115  # for good
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _give_up_stdout() -> None:
    """Python flushes it once more when it ends, and would complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    hint = f" (see '{context.command_path} --help')" if context else ""
    return f"{error.format_message().rstrip('.')}{hint}"


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Terminated(EXIT_TERMINATED)
