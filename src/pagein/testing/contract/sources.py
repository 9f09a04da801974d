"""Exercises of a source: what it says of an object that is there, that is not, that has changed.

Not here: opening for writing (writing.py), what it leaves behind (left_behind.py).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from ...stores import source_of
from ...stores.source import Opened
from ...units import PAGE_SIZE
from .record import where_raised
from .rig import NotApplicable, Rig


def opening(rig: Rig) -> None:
    """Opened twice, nothing changed."""
    one, other = rig.source(), rig.subject.made()
    try:
        hash(one.key)
    except TypeError as error:
        rig.fail("O2", f"{error}", "source.key")
    if not isinstance(other, Opened) and not callable(rig.subject.target) and one.key != other.key:
        rig.fail("O2", f"{one.key!r}, then {other.key!r}", "source.key")
    rig.opened = opened = rig.opened_by("source.open()", one.open)
    rig.is_open = True  # to be closed
    wanted = rig.subject.content
    if wanted is not None and opened.size_bytes != len(wanted):
        rig.fail("O1", f"size_bytes is {opened.size_bytes}, and the object has {len(wanted)}", "source.open()")
    again = rig.opened_by("source.open()", one.open)
    rig.shut(again)
    if opened.has_validator and again.version != opened.version:
        rig.fail("O4", f"{opened.version!r}, then {again.version!r}", "source.open(), twice")
    if opened.look is not None and opened.has_validator:
        _look(rig, opened.look, opened.version)


def _look(rig: Rig, look: Callable[[], Opened | None], version: str) -> None:
    try:
        found = rig.ask("Opened.look()", look)
    except OSError as error:
        rig.fail("O4", f"it raised {where_raised(error)}", "Opened.look()")
    if found is not None:
        seen = f"it said {found.version!r}, of {version!r}" if isinstance(found, Opened) else f"it returned {found!r}"
        rig.fail("O4", seen, "Opened.look()")


def missing(rig: Rig) -> None:
    """A path beside the object's, where nothing is."""
    target = rig.subject.target
    if callable(target):
        target = target()
    if not isinstance(target, tuple) or not isinstance(target[1], str):
        raise NotApplicable("it takes a (store, path) to know of another path")
    source = source_of((target[0], f"{target[1]}.pagein-check-nothing"))
    try:
        with rig.record.call(f"open() of {source.name}"):
            opened = source.open()
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            rig.fail("O3", f"it raised {error!r}", f"open() of {source.name}")
    except Exception as error:
        rig.fail("O3", f"it raised {error!r}, which is no OSError", f"open() of {source.name}")
    else:
        rig.shut(opened)
        rig.fail("O3", f"it was opened, with {opened.size_bytes} bytes", f"open() of {source.name}")


def changed(rig: Rig) -> None:
    """Replaced by somebody else while it is open."""
    change = rig.subject.change
    if change is None:
        raise NotApplicable("nobody has said how to change it (Subject(change=...))")
    source = rig.source()
    rig.open()
    if not rig.opened.has_validator:
        raise NotApplicable("it says that it has no validator")
    late = min(1, rig.page_count - 1)
    wanted = rig.expected(late)
    with rig.cache() as cache, rig.file(cache) as file:
        file.advise("random")
        file.pread(1, 0)
        change()
        opened = rig.opened_by("source.open()", source.open)
        rig.shut(opened)
        if opened.version == rig.opened.version:
            rig.fail("O5", f"it is {opened.version!r} before and after", "source.open()")
        if rig.probe.validates and late > 0 and wanted is not None:
            data = b""
            with suppress(OSError):
                data = file.pread(rig.size_of(late), late * PAGE_SIZE)
            if data and data != wanted:
                rig.fail("O6", "it brought other bytes than that version had, and no error", f"page {late}")
