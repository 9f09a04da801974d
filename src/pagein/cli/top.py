"""``pagein top``: what the caches of running processes do, live.

Guarantees: who is looked at is not changed; the terminal is as it was afterwards; Ctrl-C ends it.
Not here: who can be looked at (processes.py), the board (board.py).
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import IO, Any

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from ..publishing import ASKED_BY, Request
from . import screen
from .board import BAR_COLUMNS, board
from .complaints import complain
from .options import Seconds
from .processes import ask_all

FIRST_LOOKS_S = 0.2
"""How often a command is looked at that was just started: it may be short."""
POLL_S = 0.05
OUTPUT_LINES = 3
"""Of a command's output are shown while it runs."""
OUTPUT_BYTES = 4096
HINT = (
    f"a process is seen that was started with {ASKED_BY}=1, or by 'pagein top -- COMMAND', or that calls "
    "pagein.publish(), as the same user"
)
Look = Callable[[], list[dict[str, Any]]]


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("what", nargs=-1, type=click.UNPROCESSED, metavar="[PID]... | -- COMMAND [ARGS]...")
@click.option(
    "--interval", "interval_s", type=Seconds(0.1, 3600), default=1.0, show_default=True, help="Seconds between looks."
)
@click.option(
    "--files", "files_max", type=click.IntRange(0, 1000), default=10, show_default=True, help="Of each cache."
)
@click.option("--once", is_flag=True, help="Look once.")
@click.option("--json", "as_json", is_flag=True, help="For programs: an object each time, one a line.")
def top(what: tuple[str, ...], *, interval_s: float, files_max: int, once: bool, as_json: bool) -> int:
    """Show what the caches of your processes do: all of them, or of each PID, or of COMMAND, which is started for it.

    \b
    A process can be looked at that
      was started with PAGEIN_TOP=1 in its environment, or
      has called pagein.publish(), or
      is started here:  pagein top -- python train.py

    What COMMAND prints is kept until it has ended, and its exit status is that of `pagein top`.  Ctrl-C ends it.
    """
    request = Request(files_max=files_max, cells_max=BAR_COLUMNS)
    pids = [int(word) for word in what if word.isascii() and word.isdecimal()]
    if len(pids) != len(what):
        _require_command(what, once=once)
        return _Command(what, request, interval_s, as_json=as_json).run()
    if once:
        return _once(request, pids, as_json=as_json)
    show = _as_json if as_json else None
    with _Shown(lambda: ask_all(request, pids=pids), show) as shown:
        try:
            while True:
                shown.look()
                time.sleep(interval_s)
        except KeyboardInterrupt:
            return 0


def _require_command(what: tuple[str, ...], *, once: bool) -> None:
    """Raises: click.UsageError if these words are no command, or must not be one."""
    if once:
        strange = next(word for word in what if not word.isdecimal())
        raise click.UsageError(f"--once looks at processes that run already, and {strange!r} is no PID")
    if what[0].isdecimal():
        raise click.UsageError(f"either PIDs or a COMMAND, and not {what[0]} before one")
    if what[0].startswith("-"):
        raise click.NoSuchOption(what[0], ctx=click.get_current_context())


def _once(request: Request, pids: Sequence[int], *, as_json: bool) -> int:
    told = ask_all(request, pids=pids)
    missing = sorted(set(pids) - {one["pid"] for one in told})
    if as_json:
        _as_json(told)
    elif told:
        out = screen.out()
        out.print(board(told, [], out))
    if missing or not told:
        who = f"of process {', '.join(map(str, missing))}" if missing else "here"
        return complain(f"nobody {who} tells what its caches do: {HINT}")
    return 0


def _as_json(told: list[dict[str, Any]]) -> None:
    click.echo(json.dumps({"processes": told}))


class _Shown:
    """Look after look: on a terminal each in place of the one before, elsewhere one below the other."""

    def __init__(self, look: Look, show: Callable[[list[dict[str, Any]]], None] | None) -> None:
        self._look = look
        self._show = show
        self._out = screen.out()
        self._stack = ExitStack()
        self._live: Live | None = None
        self.last: list[dict[str, Any]] = []
        """What was told at the last look at which anything was."""
        self._before: list[dict[str, Any]] = []

    def __enter__(self) -> _Shown:
        if self._show is None and self._out.is_terminal:
            live = Live(console=self._out, screen=True, auto_refresh=False, vertical_overflow="crop")
            self._live = self._stack.enter_context(live)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def look(self, below: Callable[[], str] = str) -> None:
        """Look, and show it."""
        told = self._look()
        if self._show is not None:
            self._show(told)
        else:
            picture = self.picture(told, self._before)
            if self._live is None:
                self._out.print(Group(picture, Text()))
            else:
                title = Text(f"pagein top   {time.strftime('%H:%M:%S')}   Ctrl-C ends it", style="dim")
                self._live.update(Group(title, picture, Text(), Text(below(), style="dim")), refresh=True)
        self._before = told
        self.last = told or self.last

    def picture(self, told: list[dict[str, Any]], before: list[dict[str, Any]]) -> RenderableType:
        """The board, or why there is none."""
        if not told:
            return Text(f"Nobody tells what its caches do yet: {HINT}.")
        return board(told, before, self._out)


class _Command:
    """A command that is run, and looked at meanwhile."""

    def __init__(self, words: Sequence[str], request: Request, interval_s: float, *, as_json: bool) -> None:
        self._words = words
        self._request = request
        self._interval_s = interval_s
        self._as_json = as_json
        self._token = secrets.token_hex(8)

    def run(self) -> int:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                process = subprocess.Popen(
                    self._words, stdout=out, stderr=err, env={**os.environ, ASKED_BY: self._token}
                )
            except OSError as error:
                return complain(OSError(error.errno, error.strerror, self._words[0]), 127)
            try:
                last = self._watch(process, out)
            finally:
                if process.poll() is None:
                    process.terminate()
                process.wait()
                _copy(out, sys.stderr if self._as_json else sys.stdout)
                _copy(err, sys.stderr)
            if last and not self._as_json:
                show = screen.out()
                show.print(board(last, [], show))
            return process.returncode if process.returncode >= 0 else 128 - process.returncode

    def _watch(self, process: subprocess.Popen[bytes], out: IO[bytes]) -> list[dict[str, Any]]:
        began_s = time.monotonic()
        with _Shown(lambda: ask_all(self._request, token=self._token), self._show()) as shown:
            while process.poll() is None:
                try:
                    shown.look(lambda: _tail(out))
                    young = time.monotonic() - began_s < self._interval_s
                    _wait(process, min(FIRST_LOOKS_S, self._interval_s) if young else self._interval_s)
                except KeyboardInterrupt:  # which the command has got, too: what it makes of it is its own affair
                    if process.poll() is None:
                        process.send_signal(signal.SIGINT)
                    _wait(process, self._interval_s)
            return shown.last

    def _show(self) -> Callable[[list[dict[str, Any]]], None] | None:
        if self._as_json:
            return _as_json
        return None if sys.stdout.isatty() else lambda told: None


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Until it has ended, or for so long."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        pass


def _tail(output: IO[bytes]) -> str:
    """The last lines.  (By pread: the command writes at the position that we share.)"""
    size = os.fstat(output.fileno()).st_size
    start = max(0, size - OUTPUT_BYTES)
    lines = os.pread(output.fileno(), size - start, start).decode(errors="replace").splitlines()
    return "\n".join(lines[-OUTPUT_LINES:])


def _copy(output: IO[bytes], stream: Any) -> None:
    output.seek(0)
    stream.flush()
    shutil.copyfileobj(output, stream.buffer)
    stream.flush()
