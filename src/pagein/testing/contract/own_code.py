"""Which code is a store's own, and being called before each of its instructions that can touch what threads share.

Guarantees: whoever else watches (a debugger, coverage) goes on with it; where there is room for one alone, as in Python
3.11, or no place is left, nothing is watched.
Assumes: one `Watch` at a time.
Not here: which instructions those are (schedule/instructions.py), what is done there (overtaking.py).
"""

from __future__ import annotations

import inspect
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType, TracebackType
from typing import Any

from ..schedule.instructions import shared_offsets

At = Callable[[FrameType], object]

_TOOL_ID = 3
"""Of the tools that sys.monitoring tells apart: another than that of the scheduler, and none that has a name."""
_OURS = __file__.rpartition("/testing/")[0] + "/"
_STANDARD_LIBRARY = os.path.dirname(threading.__file__) + "/"
_INSTALLED = ("/site-packages/", "/dist-packages/")


class Watch:
    """While it is entered, threads can be watched where they run the code of the classes of *owners*, and what lies
    beside it: all but pagein, the standard library, and what is installed in other packages than theirs.
    """

    def __init__(self, *owners: object) -> None:
        kinds = [kind for owner in owners for kind in type(owner).__mro__]
        self._packages = tuple(package for kind in kinds if (package := _package_of(kind)))
        self._known: dict[int, tuple[CodeType, frozenset[int]]] = {}
        """By id, since the hash of code takes as long as it is; alive, so that no other gets the id."""
        self._thread_id: int | None = None
        self._at: At = lambda frame: None
        self._is_on = True

    def __enter__(self) -> Watch:
        if sys.version_info >= (3, 12):
            monitoring = sys.monitoring
            try:
                monitoring.use_tool_id(_TOOL_ID, "pagein.testing.contract")
            except ValueError:  # it is taken
                self._is_on = False
                return self
            monitoring.register_callback(_TOOL_ID, monitoring.events.PY_START, self._on_start)
            monitoring.register_callback(_TOOL_ID, monitoring.events.INSTRUCTION, self._on_instruction)
            monitoring.set_events(_TOOL_ID, monitoring.events.PY_START)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if sys.version_info >= (3, 12) and self._is_on:
            sys.monitoring.set_events(_TOOL_ID, 0)
            for code, offsets in self._known.values():
                if offsets:
                    sys.monitoring.set_local_events(_TOOL_ID, code, 0)
            sys.monitoring.free_tool_id(_TOOL_ID)

    @contextmanager
    def in_this_thread(self, at: At) -> Iterator[None]:
        """The calling thread, and no other, calls *at* with the frame that it is about to go on in."""
        if not self._is_on or (sys.version_info < (3, 12) and sys.gettrace() is not None):
            yield
            return
        self._at, self._thread_id = at, threading.get_ident()
        if sys.version_info < (3, 12):
            sys.settrace(self._trace)
        try:
            yield
        finally:
            self._thread_id = None
            if sys.version_info < (3, 12):
                sys.settrace(None)

    # -- Python 3.12 and later -----------------------------------------------------------------------------------

    def _on_start(self, code: CodeType, offset: int) -> None:
        if sys.version_info >= (3, 12) and threading.get_ident() == self._thread_id:
            is_new = id(code) not in self._known
            if self._offsets(sys._getframe(1)) and is_new:
                sys.monitoring.set_local_events(_TOOL_ID, code, sys.monitoring.events.INSTRUCTION)

    def _on_instruction(self, code: CodeType, offset: int) -> None:
        if threading.get_ident() == self._thread_id and offset in self._known[id(code)][1]:
            self._at(sys._getframe(1))

    # -- Python 3.11 ---------------------------------------------------------------------------------------------

    def _trace(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any] | None:
        offsets = self._offsets(frame)
        if not offsets:
            return None
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True

        def trace_instruction(frame: FrameType, event: str, arg: object) -> Callable[..., Any]:
            if event == "opcode" and frame.f_lasti in offsets:
                self._at(frame)
            return trace_instruction

        return trace_instruction

    # -- whose it is ---------------------------------------------------------------------------------------------

    def _offsets(self, frame: FrameType) -> frozenset[int]:
        """Of the instructions to stop before in the code of *frame*; none if it is not the store's own."""
        code = frame.f_code
        found = self._known.get(id(code))
        if found is None:
            offsets = shared_offsets(code) if self._owns(code.co_filename, frame) else frozenset()
            found = self._known[id(code)] = code, offsets
        return found[1]

    def _owns(self, path: str, frame: FrameType) -> bool:
        module = frame.f_globals
        if path.startswith("<"):  # it was made: of a dataclass where that is, of a named tuple nowhere
            path = module.get("__file__") or path
        if path.startswith(("<frozen ", _OURS)) or str(module.get("__name__")).startswith("namedtuple_"):
            return False
        if any(name in path for name in _INSTALLED):
            return path.startswith(self._packages)
        return not path.startswith(_STANDARD_LIBRARY)


def _package_of(kind: type) -> str | None:
    """The directory, or the file, of the installed package that defines *kind*."""
    try:
        path = inspect.getfile(kind)
    except (OSError, TypeError):  # of C, or typed in
        return None
    for name in _INSTALLED:
        before, found, within = path.rpartition(name)
        if found:
            top, slash, _ = within.partition("/")
            return before + found + top + slash
    return None
