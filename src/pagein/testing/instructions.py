"""Stopping before single instructions of chosen functions, by ``sys.settrace``.

Guarantees: every instruction that can read or write what threads share is told from those that only move a frame's
own values; a switch of threads before one of the latter is the same as one after it, and so need not be tried.
Assumes: globals are constants (a load of one counts as the frame's own); what an instruction calls in C is one step.
Tested with CPython 3.11 to 3.13, whose instructions differ in name.
Not here: who goes on when a thread is stopped (scheduler.py).
"""

from __future__ import annotations

import dis
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from types import CodeType, FrameType
from typing import Any

TraceFunction = Callable[[FrameType, str, Any], "TraceFunction | None"]
Stop = Callable[[FrameType, bool, bool], object]
"""Gets the frame, whether the instruction can touch what threads share, and whether a signal may strike before it."""

_SHARED = {
    "BINARY_SLICE", "BINARY_SUBSCR", "CALL", "CALL_FUNCTION_EX", "CALL_KW", "CONTAINS_OP", "DELETE_ATTR",
    "DELETE_SUBSCR", "FOR_ITER", "LOAD_ATTR", "LOAD_DEREF", "LOAD_METHOD", "LOAD_SUPER_ATTR", "STORE_ATTR",
    "STORE_DEREF", "STORE_GLOBAL", "STORE_SLICE", "STORE_SUBSCR",
}  # fmt: skip
"""Instructions that may read or write what threads share, besides ``x += y``."""
_RUNS_HANDLERS = {"CALL", "CALL_FUNCTION_EX", "CALL_KW", "RESUME", "JUMP_BACKWARD"}
"""Instructions at whose end CPython looks for signals."""


def tracer(functions: Iterable[Callable[..., object]], stop: Stop) -> TraceFunction | None:
    """What to give to ``sys.settrace``, so that *stop* is called before the instructions of *functions*, and
    of what is defined in them.  It may let others run, or raise, with which Python ends the tracing of its thread.
    """
    by_code = {code: _instructions(code) for function in functions for code in _codes(function)}

    def trace(frame: FrameType, event: str, arg: object) -> TraceFunction | None:
        if frame.f_code not in by_code:
            return None
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True
        return trace_instruction

    def trace_instruction(frame: FrameType, event: str, arg: object) -> TraceFunction:
        if event == "opcode":
            stop(frame, *by_code[frame.f_code][frame.f_lasti])
        return trace_instruction

    return trace if by_code else None


def at_instruction(frame: FrameType) -> str:
    """Where a frame has been stopped, in words."""
    found = (i.opname for i in dis.get_instructions(frame.f_code) if i.offset == frame.f_lasti)
    return f"before {next(found, '?')} in {frame.f_code.co_qualname}, line {frame.f_lineno}"


@functools.cache
def _instructions(code: CodeType) -> dict[int, tuple[bool, bool]]:
    """By offset: whether an instruction can touch what threads share, and whether a signal may strike before it."""
    found: dict[int, tuple[bool, bool]] = {}
    runs_handlers = False
    for instruction in dis.get_instructions(code):
        in_place = instruction.opname == "BINARY_OP" and instruction.argrepr.endswith("=")
        found[instruction.offset] = in_place or instruction.opname in _SHARED, runs_handlers
        runs_handlers = instruction.opname in _RUNS_HANDLERS
    return found


def _codes(function: Callable[..., object]) -> Iterator[CodeType]:
    """The code of a function, a method or a property, and of the functions defined in it."""
    pending: list[CodeType] = [inspect.unwrap(getattr(function, "fget", None) or function).__code__]
    while pending:
        code = pending.pop()
        yield code
        pending += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
