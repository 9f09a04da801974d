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
import sys
from collections.abc import Callable, Iterable, Iterator
from types import CellType, CodeType, FrameType, FunctionType
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
    for code in by_code:
        _arm(code)

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


_armed: dict[int, CodeType] = {}


class _ArmedError(Exception):
    pass


def _arm(code: CodeType) -> None:
    """Since Python 3.12, instructions are traced from the second call of a function on.  This is a first one, which
    ends before it begins.
    """
    if sys.version_info < (3, 12) or id(code) in _armed:
        return

    def trace(frame: FrameType, event: str, arg: object) -> None:
        if frame.f_code is code:
            frame.f_trace = trace  # first: without one, 3.13 does not heed the next line
            frame.f_trace_opcodes = True
            raise _ArmedError

    function = FunctionType(code, {}, closure=tuple(CellType() for _ in code.co_freevars))
    names = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        made = function(*[None] * code.co_argcount, **dict.fromkeys(names))
        next(made)  # a generator begins only now
    except _ArmedError:
        _armed[id(code)] = code
    finally:
        sys.settrace(before)


def at_instruction(frame: FrameType) -> str:
    """Where a frame has been stopped, in words."""
    found = (i.opname for i in dis.get_instructions(frame.f_code) if i.offset == frame.f_lasti)
    return f"before {next(found, '?')} in {frame.f_code.co_qualname}, line {frame.f_lineno}"


@functools.cache
def _instructions(code: CodeType) -> dict[int, tuple[bool, bool]]:
    """By offset: whether an instruction can touch what threads share, and whether a signal may strike before it."""
    found: dict[int, tuple[bool, bool]] = {}
    bytecode = dis.Bytecode(code)
    runs_handlers, handler_before = False, None
    for instruction in bytecode:
        in_place = instruction.opname == "BINARY_OP" and instruction.argrepr.endswith("=")
        handler = _except_handler(bytecode, instruction.offset)
        # A signal that strikes at the end of an instruction is caught by what guards that instruction; we raise
        # before the next one, and so only where that is guarded by the same.
        may_raise = runs_handlers and handler == handler_before
        found[instruction.offset] = in_place or instruction.opname in _SHARED, may_raise
        runs_handlers, handler_before = instruction.opname in _RUNS_HANDLERS, handler
    return found


def _except_handler(bytecode: dis.Bytecode, offset: int) -> int | None:
    entries: Iterable[Any] = bytecode.exception_entries  # type: ignore[attr-defined]  # not in typeshed
    return next((entry.target for entry in entries if entry.start <= offset < entry.end), None)


def _codes(function: Callable[..., object]) -> Iterator[CodeType]:
    """The code of a function, a method or a property, and of the functions defined in it."""
    pending: list[CodeType] = [inspect.unwrap(getattr(function, "fget", None) or function).__code__]
    while pending:
        code = pending.pop()
        yield code
        pending += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
