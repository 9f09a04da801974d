"""Stopping before single instructions of chosen functions: by ``sys.monitoring``, or ``sys.settrace`` with Python 3.11.

Guarantees: every instruction that can read or write what threads share is told from those that only move a frame's
own values; a switch of threads before one of the latter is the same as one after it, and so need not be tried.
Assumes: globals are constants (a load of one counts as the frame's own); what is added, subtracted, multiplied,
divided, shifted, or compared with a constant is a number; what an instruction calls in C is one step; one `Preemption`
at a time.  Tested with CPython 3.11 to 3.13, whose instructions differ in name.
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
_TRUTH = {"TO_BOOL", "UNARY_NOT"} | {
    name for name in dis.opname if name.startswith(("POP_JUMP", "JUMP_IF")) and ("TRUE" in name or "FALSE" in name)
}
"""Instructions that ask whether something is true: of a container, whether it is empty..."""
_OF_ONE = _TRUTH | {
    "BEFORE_ASYNC_WITH", "BEFORE_WITH", "CONVERT_VALUE", "DICT_MERGE", "DICT_UPDATE", "FORMAT_SIMPLE", "FORMAT_VALUE",
    "FORMAT_WITH_SPEC", "GET_ITER", "GET_LEN", "LIST_EXTEND", "MATCH_CLASS", "MATCH_KEYS", "SET_UPDATE", "UNPACK_EX",
    "UNPACK_SEQUENCE",
}  # fmt: skip
"""...and others that look into what is on top of the stack, which may be shared though the frame has it in a local."""
_OF_CONTAINERS = {"&", "|", "^"}
"""Of these operators, numbers are mostly flags, and rare."""
_GIVES_OWN = {"COMPARE_OP", "CONTAINS_OP", "IS_OP", "LOAD_CONST", "TO_BOOL", "UNARY_NOT"}
"""Instructions after which there is on top of the stack what nobody can change."""
_LOADS_ONE = {"LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_GLOBAL"}
_LOOKED_BACK = 6
"""So many instructions: what was loaded for a comparison, and what is between."""
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
    before: list[dis.Instruction] = []
    for instruction in bytecode:
        is_shared = _is_shared(instruction, before)
        before.append(instruction)
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


def _is_shared(instruction: dis.Instruction, before: list[dis.Instruction]) -> bool:
    """Whether *instruction*, which comes after those *before*, may read or write what threads share."""
    name = instruction.opname
    if name in _SHARED:
        return True
    if name == "BINARY_OP":
        return instruction.argrepr.endswith("=") or instruction.argrepr in _OF_CONTAINERS
    if name != "COMPARE_OP" and name not in _OF_ONE:
        return False
    if instruction.is_jump_target:  # who knows what was before
        return True
    operands = [one for one in before[-_LOOKED_BACK:] if not _moves_nothing(one)][-2:]
    if name == "COMPARE_OP":
        *first, last = operands
        has_first = last.opname in _LOADS_ONE and first
        return last.opname != "LOAD_CONST" and not (has_first and first[0].opname == "LOAD_CONST")
    return not operands or operands[-1].opname not in _GIVES_OWN


def _moves_nothing(instruction: dis.Instruction) -> bool:
    """Whether what was on top of the stack is on top after it, too."""
    return instruction.opname in ("NOP", "EXTENDED_ARG") or (instruction.opname, instruction.arg) == ("COPY", 1)


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
