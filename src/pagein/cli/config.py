"""``pagein config``: every setting, its value in force, and who decided it."""

from __future__ import annotations

import json
from math import inf
from typing import Any

import click
from rich.text import Text

from .. import config as settings
from ..units import format_size
from . import screen


@click.command()
@click.option("--path", "only_paths", is_flag=True, help="The files that are looked at, and nothing else.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def config(only_paths: bool, as_json: bool) -> None:
    """Show the settings of a cache that is made without arguments.

    An argument of PageCache wins over a variable of the environment, that over a file, and that over the default.
    """
    files = [(path, "read" if settings.is_there(path) else "not there") for path in settings.files()]
    if only_paths:
        click.echo(json.dumps([path for path, _ in files]) if as_json else "\n".join(path for path, _ in files))
        return
    found, misspelt = settings.in_force(), settings.misspelt_variables()
    if as_json:
        document = {
            "settings": {
                setting.name: {
                    "value": "inf" if value == inf else value,  # which JSON has no number for
                    "origin": origin,
                    "variable": setting.variable,
                }
                for setting, (value, origin) in found
            },
            "files": [{"path": path, "state": state} for path, state in files],
            "misspelt_variables": misspelt,
        }
        click.echo(json.dumps(document))
        return
    out = screen.out()
    table = screen.table()
    for heading in ("setting", "value", "from", "meaning"):
        table.add_column(heading, overflow="fold")
    for setting, (value, origin) in found:
        table.add_row(*map(Text, (setting.name, _shown(setting, value), origin, setting.meaning)))
    out.print(table)
    for path, state in files:
        screen.say(out, f"{path}: {state}")
    for name, meant in misspelt.items():
        screen.say(out, f"{name} is no setting: did you mean {meant}?")


def _shown(setting: settings.Setting[Any], value: Any) -> str:
    if setting is settings.SIZE:
        return format_size(value)
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
