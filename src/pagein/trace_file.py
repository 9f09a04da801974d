"""The file of a trace: events go in from any thread, and are written by one.

Guarantees: the file can be opened whenever the process ends, killed or not; memory is bounded, since who calls faster
than is written waits; what cannot be written ends it, and `close` says why.
Format: the JSON array of Chrome's trace events, each on a line of its own, none across a page's end unless it is
longer than a page; the closing bracket may be missing.
Assumes: `add` may be called with any lock held, `called` with none of ours.
Not here: what the events are (trace.py).
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from .units import PAGE_SIZE

FLUSH_S = 0.1
"""What has happened is written so often..."""
BATCH_EVENTS = 4096
"""...or when it is so much."""
EVENTS_MAX = 1 << 16
"""So many events wait to be written before who calls waits, too: some 20 MiB."""

Event = dict[str, Any]
_quoted = lru_cache(json.dumps)


class Call(NamedTuple):
    """A call of a file's method, which may be one of a hundred thousand in a second."""

    name: str
    category: str
    file: str
    offset: int | None
    size: int | None
    missed: bool
    thread: int
    began_ns: int
    ended_ns: int
    error: str | None


class TraceFile:
    """A file, and the thread that writes it."""

    def __init__(self, path: str, *, each_flush: Callable[[], object], at_end: Callable[[], object]) -> None:
        """*each_flush* may add what is to be known now and then; *at_end* is called when nothing more is written.

        Raises: OSError.
        """
        self._each_flush, self._at_end = each_flush, at_end
        self._pid = os.getpid()
        self._began_ns = time.monotonic_ns()
        self._events: deque[Event | Call] = deque()
        self._threads: set[int] = set()
        """Those whose names are told."""
        self._changed = threading.Condition()
        self._is_ending = self._has_ended = False
        self._error: Exception | None = None
        self._position = 0
        """Where the next event goes."""
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self.add({"name": "process_name", "ph": "M", "args": {"name": "pagein"}})
        self._writer = threading.Thread(target=self._write_all, name="pagein-trace", daemon=True)
        try:
            self._writer.start()
        except BaseException:
            os.close(self._fd)
            raise

    def now_us(self) -> float:
        """The clock of its events."""
        return (time.monotonic_ns() - self._began_ns) / 1000

    def add(self, event: Event) -> None:
        """An event of the calling thread.  Blocks: no."""
        event["tid"] = threading.get_native_id()
        self._note_thread(event["tid"])
        self._events.append(event)

    def called(self, call: Call) -> None:
        """The calling thread has called something.  Blocks: while too much is not written yet."""
        self._note_thread(call.thread)
        self._events.append(call)
        unwritten = len(self._events)
        if unwritten == BATCH_EVENTS:
            with self._changed:
                self._changed.notify_all()
        elif unwritten >= EVENTS_MAX:
            with self._changed:
                self._changed.wait_for(lambda: len(self._events) < EVENTS_MAX // 2 or self._has_ended)

    def close(self) -> None:
        """Write the rest, and end it.  Blocks: until that is done.  Raises: what it could not be for, once."""
        if self._pid != os.getpid():  # a forked child's: the file, and the thread that writes it, are the parent's
            return
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._has_ended)
        error, self._error = self._error, None
        if error is not None:
            raise error

    def end_soon(self) -> None:
        """Let the writer end it.  For finalizers: a single step."""
        self._is_ending = True

    def _note_thread(self, thread: int) -> None:
        if thread not in self._threads:
            self._threads.add(thread)
            name = threading.current_thread().name
            self._events.append({"name": "thread_name", "ph": "M", "tid": thread, "args": {"name": name}})

    # -- the thread that writes --------------------------------------------------------------------------

    def _write_all(self) -> None:
        try:
            while not self._is_ending:
                with self._changed:
                    self._changed.wait_for(lambda: self._is_ending or len(self._events) >= BATCH_EVENTS, FLUSH_S)
                self._each_flush()
                self._write_events()
            self._write_events()
            self._write(b"\n]\n")
        except Exception as error:  # for `close`
            self._error = error
        finally:
            self._at_end()
            self._events.clear()
            os.close(self._fd)
            with self._changed:
                self._has_ended = True
                self._changed.notify_all()

    def _write_events(self) -> None:
        for _ in range(-(-len(self._events) // BATCH_EVENTS)):
            batch = [self._events.popleft() for _ in range(min(BATCH_EVENTS, len(self._events)))]
            self._write(b"".join(map(self._fitted, batch)))
            with self._changed:
                self._changed.notify_all()

    def _fitted(self, event: Event | Call) -> bytes:
        """Its line, after spaces if it would lie across a page's end: there a write ends that SIGKILL cuts short."""
        line = f"{',' if self._position else '['}\n{self._line(event)}".encode()
        room = PAGE_SIZE - self._position % PAGE_SIZE
        if room < len(line) <= PAGE_SIZE:
            line = b" " * room + line
        self._position += len(line)
        return line

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def _line(self, event: Event | Call) -> str:
        if not isinstance(event, Call):
            return json.dumps({**event, "pid": self._pid})
        name, category, file, offset, size, missed, thread, began_ns, ended_ns, error = event
        told = [f'"file": {_quoted(file)}', f'"hit": {"false" if missed else "true"}']
        told += [f'"{what}": {value}' for what, value in (("offset", offset), ("size", size)) if value is not None]
        told += [f'"error": {json.dumps(error)}'] if error is not None else []
        return (
            f'{{"name": "{name}{", miss" if missed else ""}", "cat": "{category}", "ph": "X", '
            f'"ts": {(began_ns - self._began_ns) / 1000}, "dur": {(ended_ns - began_ns) / 1000}, '
            f'"pid": {self._pid}, "tid": {thread}, "args": {{{", ".join(told)}}}}}'
        )
