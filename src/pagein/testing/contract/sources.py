"""Exercises of a source: what it says of an object that is there, that is not, that has changed.

Not here: opening for writing (writing.py, creating.py), what it leaves behind (left_behind.py).
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from ...file import File
from ...stores import source_of
from ...stores.source import Opened, Source
from ...units import PAGE_SIZE, page_count_for
from .bytes_seen import describe
from .probe import probe_of
from .reading import device_keys
from .record import where_raised
from .rig import NotApplicable, Rig

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

AHEAD_PAGES = 8
"""So many of the first pages are read at once: of a larger file all that `Rig.sample` has of its beginning."""
REST_BYTES = 1 << 20
"""So much is asked for behind the head."""
_DEVICE = ("device_key", "device_name", "requests_max")


def opening(rig: Rig) -> None:
    """Opened twice, nothing changed."""
    one, other = rig.source(), rig.subject.made()
    with rig.record.call("source.key"):
        try:
            hash(one.key)
        except TypeError as error:
            rig.fail("O2", f"{error}", "source.key")
        except Exception as error:
            rig.fail("O2", f"it raised {where_raised(error)}", "source.key")
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
    if opened.has_validator:
        _require_unchanged(rig, opened, "Opened.look()")
        _require_unchanged(rig, again, "Opened.look(), after close()")


def _require_unchanged(rig: Rig, opened: Opened, where: str) -> None:
    if opened.look is None:
        return
    try:
        found = rig.ask(where, opened.look)
    except OSError as error:
        rig.fail("O4", f"it raised {where_raised(error)}", where)
    if found is not None:
        rig.fail("O4", _said(rig, found, opened.version), where)


def _said(rig: Rig, found: object, version: str) -> str:
    """What look() or again() has returned, in words."""
    if not isinstance(found, Opened):
        return f"it returned {found!r}"
    rig.shut(found)
    return f"it said {found.version!r}, of {version!r}"


def through_a_cache(rig: Rig) -> None:
    """As a cache opens it that knows nothing of it yet; and as one that has closed it, and needs it once more."""
    source = rig.source()
    rig.open_to_read()
    _require_one_device(rig, source)
    _require_head(rig, rig.opened, "source.open()")
    if hasattr(source, "open_with_head"):
        where = "source.open_with_head()"
        opened = rig.opened_by(where, source.open_with_head)
        try:
            if opened.size_bytes != rig.size_bytes:
                rig.fail("O11", f"size_bytes is {opened.size_bytes}, and {rig.size_bytes} by source.open()", where)
            if opened.has_validator and opened.version != rig.opened.version:
                rig.fail("O4", f"{opened.version!r}, and {rig.opened.version!r} by source.open()", where)
            _require_head(rig, opened, where)
        finally:
            rig.shut(opened)
    if hasattr(source, "open_with_rest"):
        where = "source.open_with_rest()"
        opened = rig.opened_by(where, partial(source.open_with_rest, REST_BYTES))
        try:
            _require_head(rig, opened, where)
            _require_rest(rig, opened, where)
        finally:
            rig.shut(opened)
    _require_again(rig, source)
    where = "cache.open(source)"
    with rig.cache() as cache:
        with rig.record.call(where):
            try:
                file = cache.open((_Only(source), ""))
            except Exception as error:
                rig.fail("O1", f"it raised {where_raised(error)}", where)
        with file:
            _require_pages(rig, file, "R10", where)


class _Only:
    """A store of one source."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def source(self, path: str) -> Source:
        return self._source


def _require_one_device(rig: Rig, source: Source) -> None:
    """A source may say which store it is of, if it says all."""
    with rig.record.call("source, before it is opened"):
        said = {name: getattr(source, name) for name in _DEVICE if hasattr(source, name)}
    if "device_key" not in said:
        return  # nobody asks for the others
    if len(said) < len(_DEVICE):
        missing = ", ".join(name for name in _DEVICE if name not in said)
        rig.fail("O12", f"it has {', '.join(said)}, and no {missing}", "source")
    device_keys(rig, source, "source")
    rig.stop_if_breached()
    for name, value in said.items():
        if value != (of_ops := getattr(rig.opened.ops, name)):
            rig.fail("O12", f"{name} is {value!r}, and {of_ops!r} of what it opens", "source")


def _require_head(rig: Rig, opened: Opened, where: str) -> None:
    try:
        head = bytes(memoryview(opened.head)[: opened.size_bytes])
    except TypeError as error:
        rig.fail("O11", f"{error}", f"{where}, head")
    _compare(rig, head, "O11", f"{where}, head")


def _require_rest(rig: Rig, opened: Opened, where: str) -> None:
    """Piece by piece, as requests for what is behind the head take it."""
    rest, content = opened.rest, bytearray(opened.head)
    if rest is None:
        return
    where = f"{where}, rest"
    try:
        while len(content) < (stop_bytes := rest.stop_bytes):
            part = _Part(len(content), min(stop_bytes - len(content), rig.size_bytes, 3 * PAGE_SIZE))
            with rig.record.call(f"{where}.fill()"):
                rest.fill(part)
            content += part.buffer
    except OSError as error:
        rig.fail("O11", f"fill() raised {where_raised(error)}", where)
    finally:
        for _ in range(2):
            with rig.record.call(f"{where}.close()"):
                rest.close()
    _compare(rig, bytes(content), "O11", where)


class _Part:
    """What a rest is received into, without a cache."""

    def __init__(self, offset: int, size_bytes: int) -> None:
        self.offset = offset
        self.size_bytes = size_bytes
        self.buffer = memoryview(bytearray(size_bytes))

    def populate(self) -> None:
        pass

    def write(self, data: ReadableBuffer, at: int = 0) -> None:
        with memoryview(data).cast("B") as some:
            self.buffer[at : at + len(some)] = some


def _require_again(rig: Rig, source: Source) -> None:
    """Once closed, the same is read without asking the store."""
    opened = rig.opened_by("source.open()", source.open)
    rig.shut(opened)
    if opened.again is None:
        return
    where = "Opened.again(), after close()"
    try:
        found = rig.ask(where, opened.again)
    except OSError as error:
        rig.fail("O13", f"it raised {where_raised(error)}", where)
    if found is None:
        return
    if not isinstance(found, Opened) or found.version != opened.version:
        rig.fail("O13", _said(rig, found, opened.version), where)
    try:
        if found.size_bytes != opened.size_bytes:
            rig.fail("O13", f"size_bytes is {found.size_bytes}, and was {opened.size_bytes}", where)
        rig.record.renamed = dict.fromkeys(("R8", "R9", "R10", "R15"), "O13")
        probe = probe_of(found.ops, rig.record)
        with rig.cache() as cache, cache.inode(probe, size_bytes=found.size_bytes).open() as file:
            _require_pages(rig, file, "O13", where)
        rig.record.renamed = {}
    finally:
        rig.shut(found)


def _require_pages(rig: Rig, file: File, number: str, where: str) -> None:
    size = min(AHEAD_PAGES * PAGE_SIZE, rig.size_bytes)
    try:
        data = file.pread(size, 0)
    except OSError as error:
        rig.stop_if_breached()
        rig.fail(number, f"reading failed: {rig.why(error)}", where)
    rig.stop_if_breached()
    if len(data) != size:
        rig.fail(number, f"{len(data)} bytes, not {size}", where)
    _compare(rig, data, number, where)


def _compare(rig: Rig, data: bytes, number: str, where: str) -> None:
    """The first pages, as far as it is known what they hold."""
    for index in range(page_count_for(len(data))):
        got, wanted = data[index * PAGE_SIZE : (index + 1) * PAGE_SIZE], rig.expected(index)
        if wanted is not None and got != wanted[: len(got)]:
            rig.fail(
                number, describe(got, wanted[: len(got)], index * PAGE_SIZE, rig.content), f"{where}, page {index}"
            )


def missing(rig: Rig) -> None:
    """A path beside the object's, where nothing is."""
    source = source_beside(rig, "nothing")
    where = f"open() of {source.name}"
    try:
        with rig.record.call(where):
            opened = source.open()
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            rig.fail("O3", f"it raised {error!r}", where)
    except Exception as error:
        rig.fail("O3", f"it raised {error!r}, which is no OSError", where)
    else:
        if not isinstance(opened, Opened):
            rig.fail("O3", f"it returned {opened!r}", where)
        rig.shut(opened)
        rig.fail("O3", f"it was opened, with {opened.size_bytes} bytes", where)


def source_beside(rig: Rig, what: str) -> Source:
    """That of a path beside the object's, named after *what* is there.  Raises: NotApplicable; Stop."""
    target = rig.subject.target
    if callable(target):
        target = target()
    if not isinstance(target, tuple) or not isinstance(target[1], str):
        raise NotApplicable("it takes a (store, path) to know of another path")
    path = f"{target[1]}.pagein-check-{what}"
    where = f"source({path!r}), where nothing is"
    with rig.record.call(where):
        try:
            return source_of((target[0], path))
        except Exception as error:
            rig.fail("O3", f"it raised {where_raised(error)}, though nobody has asked to open it yet", where)


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
        _require_change_seen(rig, rig.opened)
        if rig.probe.validates and late > 0 and wanted is not None:
            data = b""
            with suppress(OSError):
                data = file.pread(rig.size_of(late), late * PAGE_SIZE)
            if data and data != wanted:
                rig.fail("O6", "it brought other bytes than that version had, and no error", f"page {late}")
        if rig.probe.validates:
            with rig.file(cache) as ahead:  # nothing of it is here
                data = b""
                with suppress(OSError):
                    data = ahead.pread(min(AHEAD_PAGES * PAGE_SIZE, rig.size_bytes), 0)
            _compare(rig, data, "O6", "read ahead, after another version had replaced it")


def _require_change_seen(rig: Rig, opened: Opened) -> None:
    if opened.look is None:
        return
    where = "Opened.look(), after the object had changed"
    try:
        found = rig.ask(where, opened.look)
    except OSError as error:
        rig.fail("O5", f"it raised {where_raised(error)}", where)
    if not isinstance(found, Opened) or found.version == opened.version:
        rig.fail("O5", _said(rig, found, opened.version), where)
    rig.shut(found)
