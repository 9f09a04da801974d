"""Every lock of the package is in mm/lockorder.py, nobody waits under a short one, and the docs say what it says."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests import locking

import pagein
from pagein.mm import lockorder
from pagein.mm.locking import OPERATIONS
from pagein.mm.lockorder import OTHERS, POSITION

LOCKS = {
    "Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Event", "Barrier", "allocate_lock", "lock",
    "OwnedLock",
}  # fmt: skip
WAITING = ("run_steps", "wait", "shielded", "shielded_steps", "sleep")


def test_every_lock_has_its_place():
    """In the tree, or beside it: one that is new is not forgotten."""
    in_tree, beside = set(), set()
    for where, statement in statements(ast.Assign, ast.AnnAssign, ast.Return):
        for target, value in made_by(statement):
            calls = makers(value)
            if calls & {"owned_lock", "reentrant_lock"}:
                in_tree |= {name for name in map(ast.unparse, ast.walk(value)) if name.isupper()}
            elif calls & LOCKS:
                beside.add((where, getattr(target, "attr", getattr(target, "id", ""))))
    assert beside == {(other.where, other.name) for other in OTHERS}
    short = {name for name, rank in vars(lockorder).items() if name.endswith("_LOCK") and not rank.across_waits}
    assert in_tree == {*short, "POSITION"}


def makers(value: ast.AST) -> set[str]:
    """The names of what is called in it, or handed to what is called, as to ``field(default_factory=Lock)``."""
    calls = [node for node in ast.walk(value) if isinstance(node, ast.Call)]
    handed = [one for call in calls for one in (*call.args, *(keyword.value for keyword in call.keywords))]
    return {*map(_called, calls), *(_name(one) for one in handed if _name(one) in LOCKS - {"lock"})}


@pytest.mark.parametrize(
    "value",
    [
        "Lock()",
        "zone.door.lock()",
        "[RLock() for _ in names]",
        "field(default_factory=Lock)",
        "defaultdict(threading.Lock)",
        "threading.Semaphore(3)",
        "asyncio.Event()",
    ],
)
def test_whatever_makes_a_lock_is_seen(value):
    assert makers(ast.parse(value)) & LOCKS


def made_by(statement: Any) -> Iterator[tuple[ast.AST, ast.AST]]:
    """What it assigns, and what that is; or in what it enters what it returns."""
    if isinstance(statement, ast.Return):
        if isinstance(statement.value, ast.Call):
            yield getattr(statement.value.func, "value", statement), statement.value
    elif (value := statement.value) is not None:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            yield from zip(target.elts, value.elts, strict=True)
        else:
            yield target, value


def test_nobody_waits_in_a_with_of_a_short_lock():
    """Also where a test has no reason to wait: steps yield what they wait for."""
    for where, statement in statements(ast.With):
        if not where.startswith("stores/") and where not in {one.where for one in OTHERS} | {POSITION.where}:
            taken = [item.context_expr for item in statement.items]
            if any(getattr(lock, "attr", "") in ("lock", "_lock", "dirty_lock") for lock in taken):
                inside = [node for line in statement.body for node in ast.walk(line)]
                waits: list[ast.AST] = [node for node in inside if isinstance(node, ast.Yield | ast.YieldFrom)]
                waits += [node for node in inside if isinstance(node, ast.Call) and _called(node) in WAITING]
                assert not waits, f"{where}, line {statement.lineno}"


def statements(*kinds: type[ast.AST]) -> Iterator[tuple[str, Any]]:
    """All of these kinds in the package, each with its file."""
    for where, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, kinds):
                yield where, node


@cache
def modules() -> list[tuple[str, ast.Module]]:
    """Those in which something may be locked."""
    package = Path(pagein.__file__).parent
    texts = {path.relative_to(package).as_posix(): path.read_text() for path in package.rglob("*.py")}
    doors = ("mm/sync.py", "mm/debug.py", "mm/held.py")
    return [
        (where, ast.parse(text))
        for where, text in texts.items()
        if where not in doors
        and where.split("/")[0] not in ("testing", "cli")
        and ("lock" in text or any(name in text for name in LOCKS))
    ]


def _called(call: ast.Call) -> str:
    return _name(call.func)


def _name(of: ast.AST) -> str:
    return getattr(of, "attr", getattr(of, "id", ""))


def test_the_docs_are_as_the_data():
    """The tree, and the table of operations."""
    text = locking.PAGE.read_text()
    assert text == locking.page(text), "python -m tests.locking writes it anew"
    assert len({row.name for row in OPERATIONS}) == len(OPERATIONS)
