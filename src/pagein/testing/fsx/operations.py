"""What an exerciser does: its operations, who owns which bytes, and which operations may run at the same time.

Guarantees: a plan and its operations follow from the seed alone; `loads` gives back what `dumps` was given.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ...units import PAGE_SIZE

FILLS = 1 << 16
"""So many different contents are written; the byte at `at` of content number `fill` is ``CONTENT[fill + at]``."""
WEIGHTS = {
    "read": 12, "pread": 12, "readinto": 5, "view": 6, "reader": 2, "write": 14, "pwrite": 18, "append": 4,
    "truncate": 5, "punch": 4, "fsync": 3, "sync": 1, "drop": 2, "reopen": 2, "direct": 6, "discard": 2,
}  # fmt: skip
READS = frozenset({"read", "pread", "readinto", "view", "reader"})
WRITES = frozenset({"write", "pwrite", "direct"})
SEGMENT_OPS = 64
"""So many operations of each thread run before all threads meet, and the file is looked at as a whole."""
SLOW = ("reader", "truncate", "punch", "fsync", "sync", "drop", "reopen", "direct", "discard")
BRISK_SHARE = 0.15
"""In three rounds of four, so much of the weight of what takes a worker's turn: for more of the rest."""
EXCLUSIVE_SHARE = 0.3
"""With threads, so much of the weight of what makes them meet."""


class Op(NamedTuple):
    """One operation.  *size* is the new size for truncate; *fill* says what is written, and through which handle."""

    thread: int
    name: str
    offset: int = 0
    size: int = 0
    fill: int = 0

    def __str__(self) -> str:
        return f"{self.thread} {self.name} {self.offset} {self.size} {self.fill}"

    @property
    def stop(self) -> int:
        """The end of its range."""
        return self.offset + self.size


@dataclass(frozen=True)
class Plan:
    """What a run is made with; `of` draws from the seed what is not given."""

    seed: int = 0
    ops: int = 5000
    threads: int = 1
    cache_pages: int = 16
    store: str = "local"
    handles: int = 1
    """If 2, there is an open file that all threads share, beside each thread's own."""
    max_bytes: int = 40 * PAGE_SIZE
    dirty_percent: int = 20
    """Of the cache, what may be dirty: more lets more writes go the short way."""
    cuts: tuple[int, ...] = ()
    """Where the owner of the bytes changes: range *i* is thread ``i % threads``'s."""

    @classmethod
    def of(cls, seed: int, *, ops: int = 5000, threads: int = 1, cache_pages: int = 16, store: str = "local") -> Plan:
        """A plan whose file's size, handles and owners follow from *seed*."""
        chance = random.Random(f"plan {seed}")
        pages = chance.choice((2, 4, 6, 10, cache_pages * 3 // 2))
        max_bytes = min(pages, 40) * PAGE_SIZE + chance.choice((0, 1, 1000, PAGE_SIZE - 1))
        cuts = sorted(_offset(chance, max_bytes) for _ in range(4 * threads)) if threads > 1 else []
        handles, dirty_percent = chance.choice((1, 1, 2)), chance.choice((20, 50, 90, 90))
        if store.startswith("failing"):
            dirty_percent = min(dirty_percent, 40)  # what cannot be cleaned just now leaves room for a view
        return cls(seed, ops, threads, cache_pages, store, handles, max_bytes, dirty_percent, tuple(sorted(set(cuts))))

    def owned(self, thread: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """The parts of [start, stop) that are *thread*'s, as (start, stop)."""
        at = bisect_right(self.cuts, start)
        while start < stop:
            end = min(stop, self.cuts[at]) if at < len(self.cuts) else stop
            if at % self.threads == thread:
                yield start, end
            start, at = end, at + 1


# -- from a seed ---------------------------------------------------------------------------------------------


def generate(plan: Plan) -> list[Op]:
    """The operations of *plan*.  Not every round has every kind, since some mistakes show only without the others."""
    chance = random.Random(f"operations {plan.seed}")
    weights = {name: weight * chance.choice((0, 0.3, 1, 1, 3)) for name, weight in WEIGHTS.items()}
    weights["pwrite"], weights["pread"] = max(weights["pwrite"], 9), max(weights["pread"], 6)
    if chance.random() < 0.75:
        weights.update({name: weights[name] * BRISK_SHARE for name in SLOW})
    if plan.threads > 1:
        for name in ("truncate", "append"):
            weights[name] *= EXCLUSIVE_SHARE
        weights["discard"] = 0  # what of the others' writes would be left, nobody could know
    if plan.store.startswith("failing"):
        weights["append"] = 0  # one that fails half way cannot be made again
    names, size = chance.choices(list(weights), list(weights.values()), k=plan.ops), 0
    view_max = max(1, plan.cache_pages // (2 * plan.threads) - 1) * PAGE_SIZE  # all that are pinned at once must fit
    ops = []
    for name in names:
        thread = chance.randrange(plan.threads)
        op = Op(thread, name, *_range(chance, plan, thread, name, size), chance.randrange(FILLS))
        if name == "view":
            op = op._replace(size=min(op.size, view_max))
        ops.append(op)
        size = size_after(plan, op, size)
    return ops


def size_after(plan: Plan, op: Op, size: int) -> int:
    """How long the file is after *op*, if it was *size* before."""
    if op.name == "truncate":
        return op.size
    if op.name == "append":
        return size + op.size if size + op.size <= plan.max_bytes else size
    return max(size, op.stop) if op.name in WRITES and op.size else size


def _range(chance: random.Random, plan: Plan, thread: int, name: str, size: int) -> tuple[int, int]:
    if name in READS:  # also of others' bytes; only one's own are compared
        return _offset(chance, plan.max_bytes, size), _length(chance)
    if name == "truncate":
        return 0, _offset(chance, plan.max_bytes, size)
    if name == "append":
        return 0, _length(chance)
    if name in WRITES or name == "punch":
        offset, length = _offset(chance, plan.max_bytes, size), _length(chance)
        stop = min(offset + length, plan.max_bytes)
        if plan.threads == 1:
            return offset, stop - offset
        owned = [*plan.owned(thread, offset, stop)] or [*plan.owned(thread, 0, plan.max_bytes)] or [(0, 0)]
        start, stop = chance.choice(owned)
        return start, min(length, stop - start)
    return 0, 0


def _offset(chance: random.Random, max_bytes: int, size: int = 0) -> int:
    """Any; often next to a page's start, or to the file's end."""
    kind = chance.random()
    offset = int(chance.random() * max_bytes)
    if kind < 0.25:
        offset = offset // PAGE_SIZE * PAGE_SIZE + chance.choice((-1, 0, 0, 1))
    elif kind < 0.5:
        offset = size + chance.choice((-PAGE_SIZE, -1, 0, 0, 1, 100, PAGE_SIZE))
    return max(0, min(offset, max_bytes - 1))


def _length(chance: random.Random) -> int:
    kind = chance.random()
    if kind < 0.5:
        return int(chance.random() * 600)
    if kind < 0.8:
        return int(chance.random() * 2 * PAGE_SIZE)
    if kind < 0.95:
        return PAGE_SIZE * chance.choice((1, 1, 2, 3))
    return int(chance.random() * 12 * PAGE_SIZE)


# -- what may run at the same time -----------------------------------------------------------------------------


@dataclass
class Segment:
    """Operations between two meetings of all threads: of each thread in order, among threads in any."""

    low: int
    """The file is at least so long throughout, ..."""
    high: int
    """... at most so long, ..."""
    size: int
    """... and so long in the end."""
    ops: list[Op] = field(default_factory=list)
    truncates: bool = False
    """If so, bytes from `low` on may be gone, or zeros."""
    appends: bool = False
    """If so, all of them append, and their order is seen afterwards."""


def segments(plan: Plan, ops: Sequence[Op]) -> Iterator[Segment]:
    """Cut *ops* so that what each segment leads to is known.

    Writes may all run at once, since each goes to bytes of its own, and the file ends where the furthest does.  One
    truncation may run beside what stays below it.  Appends run beside one another only.
    """
    segment = Segment(0, 0, 0)
    most_ops, touched = SEGMENT_OPS * plan.threads, 0  # touched: writes and punches end there at the latest
    for op in ops:
        if not _fits(segment, op, touched) or len(segment.ops) >= most_ops:
            yield segment
            segment, touched = Segment(segment.size, segment.size, segment.size), 0
        if op.name == "truncate":
            segment.truncates = True
            segment.low = min(segment.low, op.size)
        elif op.name == "append":
            segment.appends = True
        elif op.size and (op.name in WRITES or op.name == "punch"):
            touched = max(touched, op.stop)
        segment.size = size_after(plan, op, segment.size)
        segment.high = max(segment.high, segment.size)
        segment.ops.append(op)
    if segment.ops:
        yield segment


def _fits(segment: Segment, op: Op, touched: int) -> bool:
    if segment.appends or (op.name == "append" and segment.ops):
        return segment.appends and op.name == "append"
    if op.name == "truncate":
        return not segment.truncates and touched <= op.size
    if segment.truncates and op.size and (op.name in WRITES or op.name == "punch"):
        return op.stop <= segment.low
    return True


# -- as text -----------------------------------------------------------------------------------------------------


def dumps(plan: Plan, ops: Sequence[Op]) -> str:
    """What ``--replay`` reads: a line for the plan, a line for each operation."""
    cuts = ",".join(map(str, plan.cuts)) or "-"
    head = (
        f"plan seed={plan.seed} threads={plan.threads} cache_pages={plan.cache_pages} store={plan.store} "
        f"handles={plan.handles} max_bytes={plan.max_bytes} dirty_percent={plan.dirty_percent} cuts={cuts}"
    )
    return "\n".join([head, *map(str, ops), ""])


def loads(text: str) -> tuple[Plan, list[Op]]:
    """Raises: ValueError for what `dumps` has not written."""
    lines = [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]
    if not lines or not lines[0].startswith("plan "):
        raise ValueError("the first line says what it was made with: 'plan seed=… threads=…'")
    words = dict(word.split("=", 1) for word in lines[0].split()[1:])
    store, cuts = words.pop("store"), words.pop("cuts")
    numbers = {name: int(number) for name, number in words.items()}
    ops = []
    for line in lines[1:]:
        thread, name, *rest = line.split()
        if name not in WEIGHTS:
            raise ValueError(f"unknown operation {name!r}: accepted are {', '.join(WEIGHTS)}")
        ops.append(Op(int(thread), name, *map(int, rest)))
    at = tuple(map(int, cuts.split(","))) if cuts != "-" else ()
    return Plan(**numbers, store=store, cuts=at, ops=len(ops)), ops
