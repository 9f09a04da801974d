"""Which block is read next: the patterns of ``pagein read``.

Guarantees: pure functions of their arguments; the same seed gives the same blocks, whatever the threads do.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from math import gcd

PATTERNS: dict[str, Callable[[int, int, int, int], Iterator[int]]] = {}
"""Name -> (block count, thread number, thread count, seed) -> blocks, without an end."""

_SPREAD = 0x9E3779B97F4A7C15
"""2**64 divided by the golden ratio: multiples of it, modulo anything, lie far apart (Knuth, TAOCP 3, 6.4)."""


def sequential(block_count: int, thread: int, thread_count: int, seed: int) -> Iterator[int]:
    """Onwards from the thread's own share, and at the end from the beginning."""
    block = thread * block_count // thread_count
    while True:
        yield block
        block = (block + 1) % block_count


def uniform(block_count: int, thread: int, thread_count: int, seed: int) -> Iterator[int]:
    """Any block, each as likely as any other."""
    rng = random.Random(f"{seed} {thread}")
    while True:
        yield rng.randrange(block_count)


def zipf(block_count: int, thread: int, thread_count: int, seed: int) -> Iterator[int]:
    """A few blocks often, most hardly ever: the n-th most popular with a probability in proportion to 1/n.

    Which are popular depends on the seed alone, so that threads agree on it; they lie scattered over the sources.
    """
    rng = random.Random(f"{seed} {thread}")
    step = _SPREAD % block_count or 1
    while gcd(step, block_count) != 1:
        step += 1
    start = random.Random(seed).randrange(block_count)
    while True:
        # The inverse of the distribution function of 1/x on [1, n + 1).
        rank = min(int((block_count + 1) ** rng.random()), block_count)
        yield (start + rank * step) % block_count


PATTERNS.update(sequential=sequential, random=uniform, zipf=zipf)
