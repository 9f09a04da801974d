"""Rounds of operations, each with a file and a cache of its own; and what to say if one of them fails.

Guarantees: the round that failed is named by a seed, with which it alone runs again, and by a list of operations
that fails too and is as short as the time allowed made it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from .exerciser import Difference, Exerciser
from .operations import Op, Plan, dumps, generate
from .subjects import CachedFile, Subject

ROUND_OPS = 5000
SHORTEN_S = 30.0
TRIES = 4
"""With threads, a list that fails need not fail each time."""

Make = Callable[[Plan], Subject]


def cached(plan: Plan) -> Subject:
    """A file in a cache, as the plan says."""
    return CachedFile(plan.store, plan.cache_pages, dirty_limit=plan.dirty_percent / 100, seed=plan.seed)


def replay(plan: Plan, ops: Sequence[Op], make: Make = cached) -> Difference | None:
    """Run *ops* over a new file; return what was different."""
    subject = make(plan)
    try:
        Exerciser(plan, ops, subject).run()
    except Difference as difference:
        with suppress(Exception):  # it is known to be wrong
            subject.clean_up()
        return difference
    subject.clean_up()
    return None


def exercise(
    seed: int,
    ops: int,
    *,
    threads: int = 1,
    cache_pages: int = 16,
    store: str = "local",
    make: Make = cached,
    shorten_s: float = SHORTEN_S,
    each_round: Callable[[Plan], object] = lambda plan: None,
) -> None:
    """*ops* operations in rounds, with the seeds *seed*, *seed* + 1, ...

    Raises: Difference, which says how to repeat it.
    """
    while ops > 0:
        plan = Plan.of(seed, ops=min(ops, ROUND_OPS), threads=threads, cache_pages=cache_pages, store=store)
        each_round(plan)
        generated = generate(plan)
        difference = replay(plan, generated, make)
        if difference is not None:
            raise Difference(report(plan, generated, difference, make, shorten_s)) from difference
        seed, ops = seed + 1, ops - plan.ops


def report(plan: Plan, ops: Sequence[Op], difference: Difference, make: Make, shorten_s: float = SHORTEN_S) -> str:
    """What to say of *difference*.  Blocks: *shorten_s* at most, and one run."""
    tries = 1 if plan.threads == 1 else TRIES
    last: list[Difference] = [difference]

    def fails(some: Sequence[Op]) -> int:
        """How many of them it takes; 0 if they do not fail."""
        for _ in range(tries):
            found = replay(plan, some, make)
            if found is not None:
                last[0] = found
                return found.done
        return 0

    short = shortened(list(ops[: difference.done]), fails, seconds=shorten_s)
    return (
        f"seed {plan.seed}: {last[0]}\n"
        f"again: python -m pagein.testing.fsx --seed {plan.seed} --ops {plan.ops} --threads {plan.threads} "
        f"--cache-pages {plan.cache_pages} --store {plan.store}\n"
        f"{len(short)} operations fail too, with --replay FILE of these lines:\n{dumps(plan, short)}"
    )


def shortened(ops: list[Op], fails: Callable[[Sequence[Op]], int], *, seconds: float = SHORTEN_S) -> list[Op]:
    """As few of *ops* as still fail: delta debugging (Zeller and Hildebrandt 2002), in complements only.

    *fails* says how many of a list were begun when it failed, or 0.  Without a failure to repeat, all of them.
    """
    deadline_s = time.monotonic() + seconds
    pieces = 2
    while len(ops) > 1 and pieces <= len(ops):
        size = -(-len(ops) // pieces)
        for start in range(0, len(ops), size):
            if time.monotonic() > deadline_s:
                return ops
            without = [*ops[:start], *ops[start + size :]]
            if without and (count := fails(without)):
                ops, pieces = without[:count], max(pieces - 1, 2)
                break
        else:
            if pieces == len(ops):
                break
            pieces = min(2 * pieces, len(ops))
    return ops
