"""Wrong orders of the lock-free protocol, each made from the core's own source by swapping two of its steps.

They show that the tests would notice: every one of them must be caught, and the right order must pass the same test.
Assumes: each step stands in the core as it is quoted here.  If a step is rewritten, `Order.install` says that its text
is not there any more; quote the new one.
"""

from __future__ import annotations
import __future__

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
from tests.torture.torture import TornStore
from tests.torture.world import StampStore

from pagein.mm import filemap, removal
from pagein.reader import PageReader


@dataclass(frozen=True)
class Edit:
    """In the function *name* of *owner*, each *old* text becomes the *new* one."""

    owner: ModuleType | type
    name: str
    changes: tuple[tuple[str, str], ...]

    def edited(self) -> Any:
        function = getattr(self.owner, self.name)
        source = textwrap.dedent(inspect.getsource(function))
        for old, new in self.changes:
            assert old in source, f"{function.__qualname__} has changed: it no longer holds\n{old}"
            source = source.replace(old, new)
        code = compile(source, f"<wrong {function.__qualname__}>", "exec", __future__.annotations.compiler_flag)
        found: dict[str, Any] = {}
        exec(code, function.__globals__, found)
        return found[self.name]


@dataclass(frozen=True)
class Order:
    """One wrong order; *name* says what is wrong."""

    name: str
    edits: tuple[Edit, ...] = ()
    uptodate_first: bool = False

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for edit in self.edits:
            monkeypatch.setattr(edit.owner, edit.name, edit.edited())
        for store in (StampStore, TornStore):
            monkeypatch.setattr(store, "uptodate_first", self.uptodate_first)

    def __str__(self) -> str:
        return self.name


def _line(function: Callable[..., object], start: str) -> str:
    """The one line of a function that starts so."""
    (line,) = [line for line in inspect.getsource(function).splitlines(keepends=True) if line.startswith(start)]
    return line


_CLEAR = """\
    for arena, frame, count in runs:
        arena.uptodate[frame : frame + count] = bytes(count)
"""
_BUMP = """\
    for arena, frame, count in runs:
        arena.bump_generation(frame, count)
"""
_PINS = _line(removal.remove_runs, "    pins = ")
_COUNT = """\
    zone.counters["evictions" if into == GHOST else "drops"] += removed_pages
"""

_PREAD_GENERATION = "            generation = self._generations[region]  # (a)\n"
_PREAD_ONE = "if self._uptodate[first] == 1 and offset + size <= self._mapping.i_size:"
_PREAD_MANY = "if ALL_PLAIN.startswith(uptodate) and offset + size <= self._mapping.i_size:"
_LATE = "(generation := self._generations[region]) >= 0"

_COPY_GENERATION = "    generation = arena.generations[region]  # (a)\n"
_COPY_UPTODATE = """\
    hole = arena.uptodate.find(b"\\0", frame, stop_frame)  # (b)
    if hole >= 0:
        stop_frame = hole
"""
_VIEW_SHOWN = "            shown = self._read_only[start:end]\n"
_VIEW_UPTODATE = "            uptodate = self._uptodate[first:stop]\n"


def _remove_runs(*changes: tuple[str, str]) -> Edit:
    return Edit(removal, "remove_runs", changes)


def _pread(*changes: tuple[str, str]) -> Edit:
    return Edit(PageReader, "pread", changes)


def _copy(*changes: tuple[str, str]) -> Edit:
    return Edit(filemap, "copy_if_uptodate", changes)


PUNCH_FIRST = Order(
    "removal: the memory goes before the generation changes",
    (_remove_runs((_BUMP, ""), (_COUNT, _BUMP + _COUNT)),),
)
GENERATION_FIRST = Order(
    "removal: the generation changes before Uptodate is cleared",
    (_remove_runs((_CLEAR + _BUMP, _BUMP + _CLEAR)),),
)
PINS_FIRST = Order(
    "removal: pins are read before Uptodate is cleared",
    (_remove_runs((_PINS, ""), (_CLEAR, _PINS + _CLEAR)),),
)
UPTODATE_FIRST = Order("fill: Uptodate is set before the content is there", uptodate_first=True)
GENERATION_LATE = Order(
    "read: the generation is taken after Uptodate is tested",
    (
        _pread(
            (_PREAD_GENERATION, ""),
            (_PREAD_ONE, f"if self._uptodate[first] == 1 and {_LATE} and offset + size <= self._mapping.i_size:"),
            (_PREAD_MANY, f"if 0 not in uptodate and {_LATE} and offset + size <= self._mapping.i_size:"),
        ),
        _copy((_COPY_GENERATION, ""), (_COPY_UPTODATE, _COPY_UPTODATE + _COPY_GENERATION)),
    ),
)
NO_SECOND_LOOK = Order(
    "read: the generation is not looked at again",
    (
        _pread(("if self._generations[region] == generation:", "if True:")),
        _copy(("if arena.generations[region] != generation:", "if False:")),
    ),
)
SIZE_FIRST = Order(
    "read: i_size is looked at before Uptodate",
    (
        _pread(
            (_PREAD_ONE, "if offset + size <= self._mapping.i_size and self._uptodate[first] == 1:"),
            (
                "uptodate = self._uptodate[first : last + 1]\n",
                "fits = offset + size <= self._mapping.i_size; uptodate = self._uptodate[first : last + 1]\n",
            ),
            (_PREAD_MANY, "if fits and 0 not in uptodate:"),
        ),
    ),
)
UPTODATE_BEFORE_PIN = Order(
    "view: Uptodate is tested before the pages are pinned",
    (
        Edit(
            PageReader,
            "view",
            (
                (_VIEW_UPTODATE, ""),
                (_VIEW_SHOWN, _VIEW_UPTODATE + _VIEW_SHOWN.replace("\n", " if 0 not in uptodate else None\n")),
                ("self._pin((first", "shown and self._pin((first"),
            ),
        ),
    ),
)
WRONG_ORDERS = [
    PUNCH_FIRST,
    GENERATION_FIRST,
    PINS_FIRST,
    UPTODATE_FIRST,
    GENERATION_LATE,
    NO_SECOND_LOOK,
    SIZE_FIRST,
    UPTODATE_BEFORE_PIN,
]
