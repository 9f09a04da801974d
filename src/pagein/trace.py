"""`PageCache.trace`: reads, fetches, evictions, write-back and waits of a cache, in a file that Perfetto opens.

Guarantees: while nothing is traced, nothing is slower: files are of another class only as long as they are traced.
Events: X are reads and writes, by thread; b and e fetches, write-back and waits, which have no thread of their own;
i pages that go; C bytes; M names.  Times are in µs since the trace began.
Not here: the file (trace_file.py); where the cache tells of what it does (mm/tracepoints.py).
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from itertools import count
from operator import index as as_int
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .errors import already_traced, closed_cache
from .file import File
from .residency import members
from .trace_file import Call, Event, TraceFile
from .units import PAGE_SHIFT, SIZE_BYTES_MAX

if TYPE_CHECKING:
    from .cache import PageCache
    from .mm.lru import Run
    from .mm.mapping import AddressSpace
    from .mm.page import Writeback
    from .mm.request import Request


class Trace:
    """A trace that is being written: from `PageCache.trace` until `close`, or the end of a ``with`` block."""

    def __init__(self, cache: PageCache, path: str | os.PathLike[str]) -> None:
        self._cache = weakref.ref(cache)
        self._zone = weakref.ref(cache._zone)
        self.here: _Here = _Here()
        self._spans: dict[int, Event] = {}
        """Of fetches and write-back that have begun.  The zone's lock guards it."""
        self._numbers = count(1)
        self.path: str = os.fspath(path)
        zone = cache._zone
        with _starting:
            if zone.closed:
                raise closed_cache()
            if zone.tracer is not None:
                raise already_traced()
            # First: the thread that writes may come to its end, and to `_detach`, at once.
            self._at_cache_end = weakref.finalize(cache, self._end_soon)
            self._at_cache_end.atexit = False
            try:
                self._file = TraceFile(self.path, each_flush=self._count_bytes, at_end=self._detach)
            except BaseException:
                self._at_cache_end.detach()
                raise
            zone.tracer = self
        _open_traces.add(self)
        for file in members(cache._files):  # who is opened from now on tells us: `opened`
            self.opened(file)

    def __enter__(self) -> Trace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the trace; the file is complete then.  Twice does no harm.

        Raises: OSError if it could not be written, once.
        """
        self._detach()
        self._file.close()

    def _end_soon(self) -> None:
        self._file.end_soon()

    def _detach(self) -> None:
        zone, cache = self._zone(), self._cache()
        if zone is not None and zone.tracer is self:
            zone.tracer = None
        if cache is not None and (zone is None or zone.tracer is None):
            for file in members(cache._files):
                plain = _PLAIN.get(file.__class__)
                if plain is not None:
                    file.__class__ = plain
        _open_traces.discard(self)
        self._at_cache_end.detach()  # it would keep this trace as long as the cache

    # -- what is told ------------------------------------------------------------------------------------

    def opened(self, file: Any) -> None:
        """A file tells of its reads from now on."""
        if isinstance(file, File) and file.__class__ not in _PLAIN:
            file.__class__ = _traced_class(file.__class__)

    def missed(self) -> None:
        """What the calling thread reads, or writes, is not all here."""
        self.here.missed = True

    def called(self, call: Call) -> None:
        """A thread has read or written.  No lock of ours is held.  Blocks: while too much is not written yet."""
        self._file.called(call)

    def fetch_began(self, request: Request) -> None:
        """A store is asked."""
        page = request.page
        told = {
            "file": page.mapping.name,
            "offset": page.offset,
            "size": page.size_bytes,
            "for": "a reader" if request.wanted else "readahead",
        }
        self._begin(id(request), f"fetch from {request.device.name}", "fetch", told)

    def fetch_ended(self, request: Request, brought_bytes: int) -> None:
        """It has answered."""
        self._end(id(request), {"bytes": brought_bytes, "failed": not brought_bytes})

    def opened_with(self, file: str, store: str, offset: int, brought_bytes: int, duration_s: float) -> None:
        """Bytes of a file have come with its opening: the first, or what is behind them."""
        told = {"file": file, "offset": offset, "size": brought_bytes, "for": "opening"}
        event: Event = {"name": f"fetch from {store}", "cat": "fetch", "id": f"{next(self._numbers):#x}"}
        now_us = self._file.now_us()
        self._file.add({**event, "ph": "b", "ts": max(0.0, now_us - duration_s * 1e6), "args": told})
        self._file.add({**event, "ph": "e", "ts": now_us, "args": {"bytes": brought_bytes, "failed": False}})

    def writeback_began(self, writeback: Writeback, mapping: AddressSpace, index: int, page_count: int) -> None:
        """A store is given pages."""
        told = {"file": mapping.name, "offset": index << PAGE_SHIFT, "size": page_count << PAGE_SHIFT}
        self._begin(id(writeback), f"write back to {mapping.device.name}", "writeback", told)

    def writeback_ended(self, writeback: Writeback) -> None:
        """It has taken them, or failed."""
        error = writeback.error
        self._end(id(writeback), {"failed": error is not None} | ({"error": repr(error)} if error is not None else {}))

    def removed(self, runs: Iterable[Run], *, is_eviction: bool) -> None:
        """Pages have left the cache."""
        name = "evict" if is_eviction else "drop"
        for file, index, page_count in self._files_of(runs):
            told = {"file": file, "offset": index << PAGE_SHIFT, "bytes": page_count << PAGE_SHIFT}
            self._add({"name": name, "cat": "evict", "ph": "i", "s": "p", "args": told})

    @contextmanager
    def waiting(self, what: str, name: str) -> Iterator[None]:
        """Somebody waits, perhaps without a thread."""
        event: Event = {"name": f"wait for {what}", "cat": "wait", "id": f"{next(self._numbers):#x}"}
        self._add({**event, "ph": "b", "args": {"file": name} if name else {}})
        try:
            yield
        finally:
            self._add({**event, "ph": "e"})

    def _files_of(self, runs: Iterable[Run]) -> Iterator[tuple[str, int, int]]:
        """(file, first page, page count) of each part of *runs*: neighbours of two files may be one run."""
        zone = self._zone()
        mappings = sorted(zone.mappings, key=lambda one: (one.arena.number, one.base)) if zone is not None else []
        starts = [(one.arena.number, one.base) for one in mappings]
        for run in runs:
            frame, stop = run.frame, run.frame + run.page_count
            while frame < stop:
                at = bisect_right(starts, (run.arena.number, frame)) - 1
                mapping = mappings[at] if at >= 0 and mappings[at].arena is run.arena else None
                if mapping is None or frame >= mapping.base + mapping.frame_count:  # its file has just gone
                    yield "?", frame, stop - frame
                    break
                end = min(stop, mapping.base + mapping.frame_count)
                yield mapping.name, frame - mapping.base, end - frame
                frame = end

    def _begin(self, key: int, name: str, category: str, told: Event) -> None:
        event: Event = {"name": name, "cat": category, "id": f"{next(self._numbers):#x}"}
        self._spans[key] = event
        self._add({**event, "ph": "b", "args": told})

    def _end(self, key: int, told: Event) -> None:
        event = self._spans.pop(key, None)
        if event is not None:  # else it began before we did
            self._add({**event, "ph": "e", "args": told})

    def _count_bytes(self) -> None:
        zone = self._zone()
        if zone is not None and not zone.closed:
            told = {"resident": zone.charged_pages << PAGE_SHIFT, "dirty": zone.dirty.pages << PAGE_SHIFT}
            self._add({"name": "bytes in the cache", "ph": "C", "args": told})

    def _add(self, event: Event) -> None:
        self._file.add({**event, "ts": self._file.now_us()})


class _Here(threading.local):
    """Of the calling thread."""

    is_inside = False
    """It reads, or writes..."""
    missed = False
    """...something that is not all here."""


_open_traces: weakref.WeakSet[Trace] = weakref.WeakSet()


_starting = threading.Lock()
"""Held by who begins a trace: two of one cache would write to one file."""


@atexit.register
def _close_all() -> None:
    for trace in members(_open_traces):
        trace.close()


def _start_lock_anew() -> None:
    """After a fork, in the child: a thread that stayed in the parent may have held it."""
    global _starting  # noqa: PLW0603
    _starting = threading.Lock()


os.register_at_fork(after_in_child=_start_lock_anew)


# -- files that are traced ---------------------------------------------------------------------------------

READS = ("read", "read1", "readinto", "readinto1", "peek", "readline", "pread", "preadinto", "view", "populate")
_OFFSET_AT = {"pread": 1, "preadinto": 1, "view": 1, "pwrite": 1, "populate": 0}
"""Which argument is the offset; of the others it is the file's position."""
_OPERATIONS = (*READS, "write", "pwrite", "fsync")


def _traced(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    at = _OFFSET_AT.get(name)
    kind = "read" if name in READS else "write"

    @wraps(plain)
    def traced(self: File, *arguments: Any, **keywords: Any) -> Any:
        tracer = self._mapping.zone.tracer
        if not isinstance(tracer, Trace):  # it has just ended; or this is a child of a fork
            return plain(self, *arguments, **keywords)
        here = tracer.here
        if here.is_inside:  # a part of what its caller does
            return plain(self, *arguments, **keywords)
        if at is None:
            offset = self._pos if name != "fsync" else None
        else:
            offset = arguments[at] if len(arguments) > at else keywords.get("offset", 0)
        here.missed = False
        result = error = None
        began_ns = time.monotonic_ns()
        try:
            here.is_inside = True
            result = plain(self, *arguments, **keywords)
            return result
        except BaseException as raised:
            error = repr(raised)
            raise
        finally:
            here.is_inside = False  # no call before: a signal that is raised in here leaves nothing behind
            ended_ns = time.monotonic_ns()
            size = result if result is None or isinstance(result, int) else len(result)
            thread = threading.get_native_id()
            tracer.called(
                Call(name, kind, self.name, _number(offset), size, here.missed, thread, began_ns, ended_ns, error)
            )

    return traced


def _number(offset: Any) -> int | None:
    """What a caller gave for an offset, who may have given anything; None if it is none, or no viewer could show it."""
    with suppress(Exception):
        offset = as_int(offset)
        return offset if -SIZE_BYTES_MAX <= offset <= SIZE_BYTES_MAX else None
    return None


_TRACED: dict[type, type[File]] = {}
_PLAIN: dict[type, type[File]] = {}


def _traced_class(plain: type[File]) -> type[File]:
    """The same, whoever asks first."""
    if plain not in _TRACED:
        methods = {name: _traced(name, getattr(plain, name)) for name in _OPERATIONS}
        made = type(plain.__name__, (plain,), {"__slots__": (), "__module__": plain.__module__, **methods})
        _PLAIN[made] = plain  # first: who finds it traced finds the way back, too
        _TRACED.setdefault(plain, made)
    return _TRACED[plain]
