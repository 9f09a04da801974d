"""The tree and the tables of docs/explanation/locking.md, from the data that debug mode asserts.

``python -m tests.locking`` writes them between their marks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pagein.mm.locking import OPERATIONS
from pagein.mm.lockorder import OTHERS, ROOTS, Rank

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "locking.md"


def tree() -> str:
    """Each lock below those under which it is taken; once in full, and by its name where it comes again."""
    seen: set[Rank] = set()
    rows = [row for root in ROOTS for row in _rows(root, "", "", seen)]
    names = max(len(name) for name, _ in rows) + 2
    places = max(len(rank.where) for _, rank in rows if rank is not None) + 2
    lines = [
        name.ljust(names) + (f"{rank.where:{places}}{rank.about}" if rank else "(see there)") for name, rank in rows
    ]
    return "\n".join(["```", *lines, "```"])


def _rows(rank: Rank, stem: str, indent: str, seen: set[Rank]) -> Iterator[tuple[str, Rank | None]]:
    if rank in seen:
        yield stem + rank.name, None
        return
    seen.add(rank)
    yield stem + rank.name, rank
    # The direct ones only: what is taken below another of them is shown there.
    direct = [one for one in rank.below if not any(one in other.all_below for other in rank.below)]
    for one in direct:
        is_last = one is direct[-1]
        yield from _rows(one, indent + ("└─ " if is_last else "├─ "), indent + ("   " if is_last else "│  "), seen)


def table() -> str:
    """One row for each operation."""
    head = ("operation", "page lock on entry", "on return", "`i_rwsem`", "blocks", "runs where")
    rows = [
        (_code(row.name), row.on_entry, row.on_return, row.i_rwsem.value, row.blocks, row.runs) for row in OPERATIONS
    ]
    return _table(head, rows)


def others() -> str:
    """One row for each lock that is not in the tree."""
    return _table(("lock", "where", "about"), [(f"`{one.name}`", one.where, one.about) for one in OTHERS])


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows))


def _code(name: str) -> str:
    return name if "`" in name else f"`{name}`"


def page(text: str) -> str:
    """The page with what stands between the marks written anew."""
    for mark, source, content in (
        ("tree", "lockorder", tree()),
        ("others", "lockorder", others()),
        ("table", "locking", table()),
    ):
        begin, end = f"<!-- {mark}: from mm/{source}.py -->", f"<!-- end of {mark} -->"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        assert found, f"{PAGE} has no place for the {mark}"
        text = f"{before}{begin}\n{content}\n{end}{after}"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
