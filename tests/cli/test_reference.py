"""The page of the command line says what the commands take."""

from __future__ import annotations

import re

import click
import pytest
from tests import command_line
from tests.clauses import ROOT

from pagein.cli.app import pagein


def test_the_reference_is_what_the_commands_say() -> None:
    assert command_line.PAGE.read_text() == command_line.page(), "python -m tests.command_line"


@pytest.mark.parametrize("name", pagein.commands)
def test_each_option_and_argument_of_help_is_in_the_reference(name: str) -> None:
    command = pagein.commands[name]
    text = command.get_help(click.Context(command, info_name=f"pagein {name}"))
    (section,) = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", command_line.page(), re.MULTILINE | re.DOTALL)
    for option in set(re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", text, re.MULTILINE)) - {"--help"}:
        assert re.search(rf"^\| `[^`|]*{option}\b", section, re.MULTILINE)
    usage = text.splitlines()[0].removeprefix("Usage: ")
    assert usage in section.splitlines()


def test_the_readme_names_each_command() -> None:
    named = set(re.findall(r"^pagein (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert named == set(pagein.commands)
