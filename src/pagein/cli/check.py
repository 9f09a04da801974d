"""``pagein check``: storage against the contract, clause by clause."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from ..stores.source import Opened
from .ending import Terminated, leave_within
from .options import Seconds, size

if TYPE_CHECKING:
    from ..stores.source import Source
    from ..testing.contract import Report, Subject
    from ..testing.contract.record import Breach

EXIT_BROKEN = 1
PATIENCE_S = 10.0
PATIENCE_MAX_S = 86_400
ENDING_S = 2.0
"""For the threads and exit handlers of a store that is known to hang, when all has been told."""


def _explain(context: click.Context, parameter: click.Parameter, number: str | None) -> None:
    """As --help: nothing else is looked at."""
    if number is None or context.resilient_parsing:
        return
    from ..testing.contract import explain

    try:
        click.echo(explain(number))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    context.exit()


@click.command()
@click.argument("target", metavar="MODULE:NAME")
@click.option("--explain", metavar="CLAUSE", is_eager=True, expose_value=False, callback=_explain,
              help="Print a clause, by its number, with all that is known of it, and exit.")  # fmt: skip
@click.option(
    "--size",
    "size_bytes",
    type=size,
    help="How long a file of bare operations is.  [default: that of --content, or their size_bytes]",
)
@click.option("--content", type=click.Path(exists=True, dir_okay=False), help="A file with the same bytes.")
@click.option("--write/--no-write", "writes", default=None, help="Whether what it holds may be overwritten.")
@click.option("--patience", "patience_s", type=Seconds(0.1, PATIENCE_MAX_S), default=PATIENCE_S, show_default=True,
              help="Seconds without a sign of life after which an operation has broken the contract.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(["text", "json", "junit"]), default="text", show_default=True)
@click.option("-o", "--output", type=click.Path(dir_okay=False, writable=True), help="Write the report there.")
def check(
    target: str,
    *,
    size_bytes: int | None,
    content: str | None,
    writes: bool | None,
    patience_s: float,
    form: str,
    output: str | None,
) -> int:
    """Check storage against the contract.

    NAME, in the Python module MODULE, is a class of operations, a Source, (store, path), a callable that returns one
    of these, a pagein.testing.contract.Subject, or a ContractSuite.  Modules are looked for in the working directory,
    too.  Operations that can be written to are written to, unless --no-write says not to; what a source holds, only
    with --write.
    The exit status is 0 if every clause is kept that applies, 1 if one is broken, 2 if it could not be checked.
    """
    try:
        report = _checked(
            target, size_bytes=size_bytes, content=content, writes=writes, patience_s=patience_s, output=output
        )
    except BaseException:  # what it has begun may never end
        leave_within(max(patience_s, ENDING_S))
        raise
    if report.gave_up or "L2" in report.broken:  # else whatever is registered for the end takes its time
        leave_within(ENDING_S)
    text = _written(report, form)
    if output is None:
        click.echo(text, nl=False)
    else:
        _write(output, text)
    return 0 if report.passed else EXIT_BROKEN


def _checked(
    target: str,
    *,
    size_bytes: int | None,
    content: str | None,
    writes: bool | None,
    patience_s: float,
    output: str | None,
) -> Report:
    from ..testing.contract.making import first_made  # with what it tests with, which no other command needs
    from ..testing.contract.runner import check_made

    found = _found(target)
    try:
        subject = _subject(found, target)
        _amend(subject, size_bytes, content, writes)
        made = first_made(subject, patience_s)
        _require_there(made)
    except Terminated:
        raise
    except (Exception, SystemExit) as error:  # whatever makes it
        raise _cannot_check(target, error) from error
    if output is not None and (os.path.isfile(output) or not os.path.exists(output)):  # a pipe is opened once
        _write(output, "", mode="a")  # before the check, which takes its time
    try:
        return check_made(subject, made, patience_s)
    except (TypeError, ValueError) as error:
        raise _cannot_check(target, error) from error


def _cannot_check(target: str, error: BaseException) -> click.UsageError:
    from ..testing.contract.record import where_raised

    said = where_raised(error) if isinstance(error, SystemExit) else str(error) or repr(error)
    return click.UsageError(f"cannot check {target}: {said}")


def _write(output: str, text: str, *, mode: str = "w") -> None:
    try:
        with open(output, mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:  # not with the status that says that a clause is broken
        raise click.UsageError(f"cannot write {output}: {error.strerror}") from error


def _found(target: str) -> Any:
    from ..testing.contract.record import where_raised

    module_name, colon, path = target.partition(":")
    if not (module_name and colon and path):
        raise click.UsageError(f"{target!r} is no MODULE:NAME, as in package.module:Operations")
    sys.path.insert(0, os.getcwd())  # to stay there: operations may import when they are called
    try:
        found: Any = importlib.import_module(module_name)
    except Terminated:
        raise
    except (Exception, SystemExit) as error:  # whatever the module does
        if os.path.isfile(module_name):
            raise click.UsageError(_not_a_file(module_name, path)) from error
        raise click.UsageError(f"cannot import {module_name}: {where_raised(error)}") from error
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            raise click.UsageError(f"cannot find {path} in {module_name}: {error}") from error
    return found


def _not_a_file(name: str, path: str) -> str:
    directory, file = os.path.split(os.path.relpath(name))
    module = ".".join([*filter(None, directory.split(os.sep)), os.path.splitext(file)[0]])
    if module.startswith("."):
        return f"{name} is a file: go to its directory, or one above it, and name its module as seen from there"
    return f"{name} is a file: name its module, as in 'pagein check {module}:{path}'"


def _subject(found: Any, target: str) -> Subject:
    from ..testing.contract import Subject

    if isinstance(found, type) and hasattr(found, "contract_report"):  # a ContractSuite, which needs pytest
        found = found().subject()
    return Subject.of(found, name=target)


def _require_there(made: Source | Opened | Breach) -> None:
    """Raises: OSError if a source of pagein's own cannot be opened: a server that is down, or a missing key, breaks no
    clause.  (Somebody else's open() is a part of what is checked.)"""
    from ..testing.contract.record import Breach

    if not isinstance(made, Opened | Breach) and type(made).__module__.partition(".")[0] == "pagein":
        made.open().close()


def _amend(subject: Subject, size_bytes: int | None, content: str | None, writes: bool | None) -> None:
    """What the command line says wins."""
    if size_bytes is not None:
        subject.size_bytes = size_bytes
    if content is not None:
        with open(content, "rb") as file:
            subject.content = file.read()
    if writes is not None:
        subject.writes = writes


def _written(report: Report, form: str) -> str:
    if form == "json":
        return f"{report.json()}\n"
    return report.junit() if form == "junit" else f"{report.text()}\n"
