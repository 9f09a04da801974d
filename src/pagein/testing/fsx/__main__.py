"""`python -m pagein.testing.fsx`: exercise a file in a cache; status 1 and a list of operations if it differs."""

from __future__ import annotations

import argparse
import faulthandler
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .exerciser import JOIN_S, Difference
from .operations import Plan, dumps, generate, loads
from .rounds import ROUND_OPS, SHORTEN_S, exercise, replay
from .subjects import STORES

HANG_S = 2 * JOIN_S
"""A round that takes longer hangs: all stacks are printed, and the process ends."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pagein.testing.fsx",
        description="Random operations on a file in a page cache, against a model and a real local file. "
        f"They run in rounds of {ROUND_OPS}, each with a new file and the next seed.",
    )
    parser.add_argument("--seed", type=int, help="of the first round; by default, the time")
    parser.add_argument("--ops", type=int, default=100_000, help="how many operations (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="how many at once (%(default)s)")
    parser.add_argument("--cache-pages", type=int, default=16, help="the size of the cache (%(default)s)")
    parser.add_argument("--store", choices=STORES, default="local", help="where the file is (%(default)s)")
    parser.add_argument("--shorten-s", type=float, default=SHORTEN_S, help="seconds to shorten in (%(default)g)")
    parser.add_argument("--list", action="store_true", help="print the operations of the first round, run none")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run the operations that a failure has printed")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Raises: SystemExit with status 2 for arguments that cannot be used."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.ops < 1 or options.threads < 1 or options.cache_pages < 1:
        parser.error("--ops, --threads and --cache-pages must be at least 1")
    try:
        return _replay(options.replay) if options.replay else _exercise(options)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    except Difference as difference:
        print(difference, file=sys.stderr)
        return 1
    finally:
        faulthandler.cancel_dump_traceback_later()


def _end_if_it_hangs(seconds: float) -> None:
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or sys.stderr)


def _replay(path: Path) -> int:
    plan, ops = loads(path.read_text())
    _end_if_it_hangs(HANG_S)
    difference = replay(plan, ops)
    if difference is not None:
        raise difference
    print(f"{len(ops)} operations, no difference")
    return 0


def _exercise(options: argparse.Namespace) -> int:
    seed = time.time_ns() // 1000 % 10**9 if options.seed is None else options.seed
    what = {"threads": options.threads, "cache_pages": options.cache_pages, "store": options.store}
    if options.list:
        plan = Plan.of(seed, ops=min(options.ops, ROUND_OPS), **what)
        print(dumps(plan, generate(plan)), end="")
        return 0
    print(f"seed {seed}", flush=True)  # first, since a hang ends all
    began_s = time.perf_counter()
    exercise(
        seed,
        options.ops,
        **what,
        shorten_s=options.shorten_s,
        each_round=lambda plan: _end_if_it_hangs(HANG_S + options.shorten_s),
    )
    took_s = time.perf_counter() - began_s
    print(f"{options.ops} operations, no difference, in {took_s:.1f} s: {options.ops / took_s:.0f} a second")
    return 0


if __name__ == "__main__":
    sys.exit(main())
