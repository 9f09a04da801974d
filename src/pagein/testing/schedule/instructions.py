"""Stopping before single instructions of chosen functions: by ``sys.monitoring``, or ``sys.settrace`` with Python 3.11.

Guarantees: every instruction that can read or write what threads share is told from those that only move a frame's
own values; a switch of threads before one of the latter is the same as one after it, and so need not be tried.
Assumes: globals are constants (a load of one counts as the frame's own); what an instruction calls in C is one step;
one `Preemption` at a time.  Tested with CPython 3.11 to 3.13, whose instructions differ in name.
Not here: who goes on when a thread is stopped (scheduler.py).
"""

from __future__ import annotations

import dis
import functools
import inspect
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType, TracebackType
from typing import Any, NamedTuple

Stop = Callable[[FrameType, bool, bool], object]
"""Gets the frame, whether the instruction can touch what threads share, and whether a signal may strike before it.
It may let other threads run, and it may raise."""


class ByLine(NamedTuple):
    """A function that is stopped once on each line, before the first instruction that can touch what threads share."""

    function: Callable[..., object]


Preemptible = Callable[..., object] | ByLine
"""What can be stopped inside."""

_Points = dict[int, tuple[bool, bool]]
"""By offset: whether an instruction can touch what threads share, and whether a signal may strike before it."""
_TOOL_ID = 4
"""Of the tools that sys.monitoring tells apart: none of those with a name (debugger, coverage, profiler, optimizer)."""

_SHARED = {
    "BINARY_SLICE", "BINARY_SUBSCR", "CALL", "CALL_FUNCTION_EX", "CALL_KW", "CONTAINS_OP", "DELETE_ATTR",
    "DELETE_SUBSCR", "FOR_ITER", "LOAD_ATTR", "LOAD_DEREF", "LOAD_METHOD", "LOAD_SUPER_ATTR", "STORE_ATTR",
    "STORE_DEREF", "STORE_GLOBAL", "STORE_SLICE", "STORE_SUBSCR",
}  # fmt: skip
"""Instructions that may read or write what threads share, besides ``x += y``."""
_RUNS_HANDLERS = {"CALL", "CALL_FUNCTION_EX", "CALL_KW", "RESUME", "JUMP_BACKWARD"}
"""Instructions at whose end CPython looks for signals."""


class Preemption:
    """While it is entered, *stop* is called before the instructions of *functions*, and of what is defined in them, in
    the threads that say so.
    """

    def __init__(self, functions: Iterable[Preemptible], stop: Stop) -> None:
        self._stop = stop
        self._codes, self._by_id = _points_in(tuple(functions))
        self._threads: set[int] = set()
        self._callers: set[int] = set()
        """By id, frames whose last instruction has called Python: at its end CPython does not look for signals."""

    def __enter__(self) -> Preemption:
        if sys.version_info >= (3, 12) and self._codes:
            monitoring = sys.monitoring
            monitoring.use_tool_id(_TOOL_ID, "pagein.testing")
            monitoring.register_callback(_TOOL_ID, monitoring.events.INSTRUCTION, self._on_instruction)
            monitoring.register_callback(_TOOL_ID, monitoring.events.PY_START, self._on_start)
            monitoring.set_events(_TOOL_ID, monitoring.events.PY_START)
            for code in self._codes:
                monitoring.set_local_events(_TOOL_ID, code, monitoring.events.INSTRUCTION)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if sys.version_info >= (3, 12) and self._codes:
            sys.monitoring.set_events(_TOOL_ID, 0)
            for code in self._codes:
                sys.monitoring.set_local_events(_TOOL_ID, code, 0)
            sys.monitoring.free_tool_id(_TOOL_ID)

    @contextmanager
    def in_this_thread(self) -> Iterator[None]:
        """The calling thread is stopped inside this block."""
        if sys.version_info >= (3, 12):
            self._threads.add(threading.get_ident())
        elif self._codes:
            sys.settrace(self._trace)
        try:
            yield
        finally:
            if sys.version_info >= (3, 12):
                self._threads.discard(threading.get_ident())
            elif self._codes:
                sys.settrace(None)

    def _on_start(self, code: CodeType, offset: int) -> None:
        if threading.get_ident() in self._threads:
            self._note_call(sys._getframe(1))

    def _on_instruction(self, code: CodeType, offset: int) -> None:
        if threading.get_ident() in self._threads:
            self._at(sys._getframe(1), *self._by_id[id(code)][offset])

    def _note_call(self, frame: FrameType) -> None:
        """A function begins, where CPython looks for signals."""
        caller = frame.f_back
        if caller is not None and id(caller.f_code) in self._by_id:
            self._callers.add(id(caller))
            if id(frame.f_code) not in self._by_id:  # else before its own first instruction
                self._stop(frame, False, True)

    def _at(self, frame: FrameType, is_shared: bool, runs_handlers: bool) -> None:
        if id(frame) in self._callers:
            self._callers.discard(id(frame))
            runs_handlers = False
        if is_shared or runs_handlers:
            self._stop(frame, is_shared, runs_handlers)

    def _trace(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any] | None:
        self._note_call(frame)
        points = self._by_id.get(id(frame.f_code))
        if points is None:
            return None
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True
        at = self._at

        def trace_instruction(frame: FrameType, event: str, arg: object) -> Callable[..., Any]:
            if event == "opcode":
                at(frame, *points[frame.f_lasti])
            return trace_instruction

        return trace_instruction


def at_instruction(frame: FrameType) -> str:
    """Where a frame has been stopped, in words."""
    found = (i.opname for i in dis.get_instructions(frame.f_code) if i.offset == frame.f_lasti)
    return f"before {next(found, '?')} in {frame.f_code.co_qualname}, line {frame.f_lineno}"


def shared_offsets(code: CodeType) -> frozenset[int]:
    """Of the instructions of *code* that can touch what threads share."""
    points = _instructions(code, by_line=False)
    return frozenset(offset for offset, (is_shared, _) in points.items() if is_shared)


@functools.lru_cache(maxsize=16)
def _points_in(functions: tuple[Preemptible, ...]) -> tuple[list[CodeType], dict[int, _Points]]:
    """The code of *functions*, and by its id, since the hash of code takes as long as it is, what it is made of."""
    points = {
        code: _instructions(code, by_line=isinstance(function, ByLine))
        for function in functions
        for code in _codes(function.function if isinstance(function, ByLine) else function)
    }
    return list(points), {id(code): of_code for code, of_code in points.items()}


@functools.cache
def _instructions(code: CodeType, *, by_line: bool) -> _Points:
    found: _Points = {}
    bytecode = dis.Bytecode(code)
    runs_handlers, handler_before = False, None
    line_stopped: int | None = None
    for instruction in bytecode:
        in_place = instruction.opname == "BINARY_OP" and instruction.argrepr.endswith("=")
        is_shared = in_place or instruction.opname in _SHARED
        if by_line and is_shared:
            line = instruction.positions.lineno if instruction.positions else None
            is_shared, line_stopped = line != line_stopped, line
        handler = _except_handler(bytecode, instruction.offset)
        # A signal that strikes at the end of an instruction is caught by what guards that instruction; we raise
        # before the next one, and so only where that is guarded by the same.
        may_raise = runs_handlers and handler == handler_before
        found[instruction.offset] = is_shared, may_raise
        runs_handlers, handler_before = instruction.opname in _RUNS_HANDLERS, handler
    return found


def _except_handler(bytecode: dis.Bytecode, offset: int) -> int | None:
    entries: Iterable[Any] = bytecode.exception_entries  # type: ignore[attr-defined]  # not in typeshed
    return next((entry.target for entry in entries if entry.start <= offset < entry.end), None)


def _codes(function: Callable[..., object]) -> Iterator[CodeType]:
    """The code of a function, a method or a property, and of the functions defined in it."""
    code = getattr(inspect.unwrap(getattr(function, "fget", None) or function), "__code__", None)
    if code is None:
        raise TypeError(f"preempt: {function!r} is no function, method or property that is written in Python")
    pending: list[CodeType] = [code]
    while pending:
        code = pending.pop()
        yield code
        pending += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
