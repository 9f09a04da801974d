"""What the command line takes: docs/reference/command-line.md, by ``python -m tests.command_line``.

From the commands themselves, and not from their --help, which each version of click prints in another way.
"""

from __future__ import annotations

import inspect
import textwrap

import click
from tests.clauses import ROOT

from pagein.cli.app import pagein

PAGE = ROOT / "docs/reference/command-line.md"
WIDTH = 125
NUMBERS = {"integer": "N", "float": "SECONDS"}
INTRODUCTION = """
`pip install 'pagein[cli]'` ([from the checkout](../../README.md#install)) brings the command `pagein`;
`python -m pagein` is the same. `pagein COMMAND --help` prints what stands here of one. A SOURCE is a path, a URL or a
chain of URLs, as for [`pagein.open`](../how-to/open-a-source.md). A SIZE is a number of bytes, with or without a unit:
4096, 128K, 1.5 GiB. (This page is written by `python -m tests.command_line`.)
"""
STATUSES = """
| exit status | |
|---|---|
| 0 | all is well |
| 1 | an error, told in one line on stderr that begins with what it is an error of; of `check`, a clause is broken |
| 2 | wrong usage, told in one line; of `check`, also what could not be checked |
| 130, 143 | Ctrl-C, SIGTERM |
| 141 | who read the output went away (`\\| head`) |

"""
REMARKS = """
`pagein top -- COMMAND` has the status of COMMAND: 127 if there is none. Escape codes go to terminals only, and of a
file's name a terminal obeys nothing. `--json` is for programs:
[its keys](../how-to/see-what-the-cache-does.md#for-programs).
"""


def section(name: str, command: click.Command) -> list[str]:
    """The lines of one command."""
    arguments = (_argument(one) for one in command.params if isinstance(one, click.Argument))
    lines = [f"## {name}", "", "```", " ".join(["pagein", name, "[OPTIONS]", *arguments]), "```"]
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b\n"):  # where click breaks no lines
            lines += ["", "```", *paragraph.removeprefix("\b\n").splitlines(), "```"]
        else:
            lines += ["", *_wrapped(paragraph)]
    options = [one for one in command.params if isinstance(one, click.Option)]
    if options:
        lines += ["", "| option | |", "|---|---|", *(f"| `{_names(one)}` | {_told(one)} |" for one in options)]
    return lines


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), WIDTH, break_long_words=False, break_on_hyphens=False)


def _argument(argument: click.Argument) -> str:
    name = argument.metavar or (argument.name or "").upper()
    return name if argument.required or name.startswith("[") else f"[{name}]"


def _names(option: click.Option) -> str:
    names = ", ".join(option.opts)
    if option.secondary_opts:
        return f"{names} / {', '.join(option.secondary_opts)}"
    return names if option.is_flag else f"{names} {_value(option)}"


def _value(option: click.Option) -> str:
    if option.metavar:
        return option.metavar
    if isinstance(option.type, click.Choice):
        return "\\|".join(option.type.choices)
    return NUMBERS.get(option.type.name.split()[0], option.type.name.upper())


def _told(option: click.Option) -> str:
    told = [" ".join((option.help or "").split())]
    least, most = getattr(option.type, "min", None), getattr(option.type, "max", None)
    if least is not None:
        told.append(f"{least:g} or more." if most is None else f"{least:g} to {most:g}.")
    if option.show_default:
        told.append(f"[default: {option.default}]")
    return " ".join(filter(None, told))


def page() -> str:
    """docs/reference/command-line.md."""
    lines = ["# The command line", "", *_wrapped(INTRODUCTION), *STATUSES.splitlines(), *_wrapped(REMARKS)]
    for name, command in pagein.commands.items():
        lines += ["", *section(name, command)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
