"""The board of `pagein top`: what processes tell of their caches, as tables, with what has changed since the last look.

Guarantees: a pure function of two looks and of the screen's width; a rate is per second of the process's own clock, "-"
where there was no look before, and 0 of a count that has gone back, because a store was forgotten.  From 80 columns on
every heading and every number is whole: what is of less use is left out on a screen under 106.
Not here: looking (processes.py), how often (top.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..units import format_share, format_size
from . import screen

Told = Mapping[str, Any]
BAR_COLUMNS = 30
WIDE = 106
"""From so many columns on there is room for all."""
NAME_COLUMNS_MIN = 14
OTHER_COLUMNS = {True: 92, False: 66}
"""What a table takes beside its names, where there is room, and where not."""


def board(now: Sequence[Told], before: Sequence[Told], on: Console) -> RenderableType:
    """All processes of a look, with rates since the look *before*, as far as that knew them."""
    earlier = {one["pid"]: one for one in before}
    parts: list[RenderableType] = []
    for one in now:
        if parts:
            parts.append(Text())
        command = screen.printable(one["command"])
        parts.append(Text.assemble((f"{one['pid']}", "bold"), f"  {command}", no_wrap=True, overflow="ellipsis"))
        if not one["caches"]:
            parts.append(Text("no cache is open", style="dim"))
        for cache in one["caches"]:
            parts += _cache(cache, _Change(one, earlier.get(one["pid"]), cache), one["latency_bounds_s"], on)
    return Group(*parts)


class _Change:
    """What has changed in a cache since the look before."""

    def __init__(self, process: Told, earlier: Told | None, cache: Told) -> None:
        caches = earlier["caches"] if earlier else []
        self._now = cache
        self._before: Told = next((one for one in caches if one["id"] == cache["id"]), {})
        self._seconds = process["at_s"] - earlier["at_s"] if earlier else 0.0

    def of(self, *keys: str) -> int:
        """How much counts of the cache have grown."""
        return sum(_grown(self._now, self._before, key) for key in keys)

    def rate(self, *keys: str) -> float | None:
        """...in a second."""
        return self._per_second(self.of(*keys), self._before)

    def rate_in(self, name: str, part: Told, key: str) -> float | None:
        """How much a count of one of its stores, or of its files, grows in a second."""
        before = self.before(name, part)
        return self._per_second(_grown(part, before, key), before)

    def before(self, name: str, part: Told) -> Told:
        """One of its stores, or of its files, as it was; empty if it was not there."""
        same = (one for one in self._before.get(name, ()) if one["name"] == part["name"])
        return next((one for one in same if one.get("version") == part.get("version")), {})

    def _per_second(self, grown: int, before: Told) -> float | None:
        return grown / self._seconds if before and self._seconds > 0 else None


def _grown(now: Told, before: Told, key: str) -> int:
    return max(0, int(now[key] - before[key])) if before else 0


def _cache(cache: Told, change: _Change, bounds_s: Sequence[float], on: Console) -> Iterable[RenderableType]:
    reads = cache["hits"] + cache["misses"]
    lately = change.of("hits", "misses")
    rate = format_share(cache["hits"], reads) if reads else "no reads"
    now = f" ({format_share(change.of('hits'), lately)} now)" if lately else ""
    yield _lines(
        on,
        ("memory", f"{format_size(cache['resident_bytes'])} of {format_size(cache['size_bytes'])}"),
        ("dirty", format_size(cache["dirty_bytes"])),
        ("shown by views", format_size(cache["pinned_bytes"])),
        ("files", f"{cache['inodes']:,} ({cache['open_files']:,} open)"),
    )
    yield _lines(
        on,
        ("hits", f"{rate}{now}"),
        ("reads/s", _rate(change.rate("hits", "misses"))),
        ("fetched", _per_second(change.rate("fetched_bytes"))),
        ("written", _per_second(change.rate("written_bytes"))),
        ("evicted pages/s", _rate(change.rate("evictions"))),
        ("failed", _number(cache["failed_requests"] + cache["failed_writes"])),
    )
    if cache["stores"]:
        yield _stores(cache["stores"], change, bounds_s, on)
    if cache["files"]:
        yield _files(cache, change, on)


def _lines(on: Console, *facts: tuple[str, str]) -> Text:
    """As many of them in a line as go whole."""
    text, columns = Text("  "), 2
    for name, value in facts:
        needed = len(name) + 1 + len(value)
        if columns + needed > on.width and columns > 2:
            text.append("\n  ")
            columns = 2
        text.append(f"{name} ", "dim").append(f"{value}   ")
        columns += needed + 3
    return text


def _is_wide(on: Console) -> bool:
    return on.width >= WIDE


def _stores(stores: Sequence[Told], change: _Change, bounds_s: Sequence[float], on: Console) -> Table:
    rows = []
    for store in stores:
        counts, total_s = _lately(store, change.before("stores", store))
        rows.append(
            {
                "requests": _number(store["requests"]),
                "/s": _rate(change.rate_in("stores", store, "requests")),
                "fetched": _per_second(change.rate_in("stores", store, "fetched_bytes")),
                "in flight": _number(store["requests_in_flight"]),
                "in line": _number(store["requests_in_line"]),
                "mean": format_seconds(total_s / sum(counts)) if sum(counts) > 0 else "-",
                "99% under": _bound(counts, bounds_s),
                "failed": _number(store["failed_requests"]),
            }
        )
    return _table("store", stores, rows, on, without=() if _is_wide(on) else ("requests", "in line", "failed"))


def _table(
    name: str, parts: Sequence[Told], rows: Sequence[Mapping[str, str]], on: Console, *, without: Sequence[str]
) -> Table:
    """What each of *parts* is called, and the row of numbers of it, but for those columns *without* which it goes."""
    table = screen.table()
    table.add_column(f"  {name}", no_wrap=True)
    headings = [heading for heading in rows[0] if heading not in without]
    for heading in headings:
        is_bar = heading == "pages"
        table.add_column(
            heading,
            justify="left" if is_bar else "right",
            no_wrap=True,
            min_width=BAR_COLUMNS // _step(on) + 2 if is_bar else None,  # it does not move when another file comes
        )
    for part, row in zip(parts, rows, strict=True):
        table.add_row(Text(f"  {_shortened(part['name'], on)}"), *(Text(row[heading]) for heading in headings))
    return table


def _lately(store: Told, before: Told) -> tuple[list[int], float]:
    """How many requests took how long since the look before, and all of them together; all that there were, if none has
    ended since."""
    counts = list(store["latency_counts"])
    if before:
        since = [now - was for now, was in zip(counts, before["latency_counts"], strict=True)]
        if sum(since) > 0 and min(since) >= 0:
            return since, store["latency_sum_s"] - before["latency_sum_s"]
    return counts, store["latency_sum_s"]


def _bound(counts: Sequence[int], bounds_s: Sequence[float], share: float = 0.99) -> str:
    """Under what this share of all requests stayed, as far as classes tell."""
    if sum(counts) <= 0:
        return "-"
    seen = 0
    for count, bound_s in zip(counts, bounds_s, strict=False):
        seen += count
        if seen >= share * sum(counts):
            return format_seconds(bound_s)
    return f"over {format_seconds(bounds_s[-1])}"


def _files(cache: Told, change: _Change, on: Console) -> Table:
    rows = [
        {
            "size": format_size(file["size_bytes"]),
            "resident": format_share(file["resident_bytes"], file["size_bytes"]),
            "open": _number(file["open_files"]),
            "hits/s": _rate(change.rate_in("files", file, "hits")),
            "dirty": format_size(file["dirty_bytes"]),
            "pages": _bar(file["cells"], on),
        }
        for file in cache["files"]
    ]
    table = _table("file", cache["files"], rows, on, without=() if _is_wide(on) else ("open",))
    more = cache["file_count"] - len(cache["files"])
    if more > 0:
        table.add_row(Text(f"  and {more:,} more", style="dim"))
    return table


def _bar(cells: Sequence[Sequence[int]], on: Console) -> str:
    """Which pages are here."""
    step = _step(on)
    merged = [[sum(column) for column in zip(*cells[at : at + step], strict=True)] for at in range(0, len(cells), step)]
    bar = screen.bar_of_cells([(here, pages) for here, pages in merged], ascii_only=on.options.ascii_only)
    return f"[{bar}]" if bar else ""


def _step(on: Console) -> int:
    """How many cells of a file are one on the screen."""
    return 1 if _is_wide(on) else 2


def _shortened(name: str, on: Console) -> str:
    """Without its middle, if it is too long: names differ at their ends."""
    name = screen.printable(name)
    columns = max(NAME_COLUMNS_MIN, on.width - OTHER_COLUMNS[_is_wide(on)])
    if cell_len(name) <= columns:
        return name
    dots = "..." if on.options.ascii_only else "…"
    head = set_cell_size(name, (columns - len(dots)) // 3)
    tail = set_cell_size(name[::-1], columns - len(dots) - cell_len(head))[::-1]
    return f"{head}{dots}{tail}"


def _rate(rate: float | None) -> str:
    return "-" if rate is None else _number(rate)


def _number(value: float) -> str:
    """In seven columns: "999,999", "1.2M"."""
    if value < 999_999.5:
        return f"{value:,.0f}"
    return f"{value / 1e6:.1f}M" if value < 999.95e6 else f"{value / 1e9:.1f}G"


def _per_second(rate: float | None) -> str:
    return "-" if rate is None else f"{format_size(round(rate))}/s"


def format_seconds(seconds: float) -> str:
    """A short time for people to read, to three digits: "950 µs", "1.25 ms", "2.5 s"."""
    for unit, factor in (("µs", 1e6), ("ms", 1e3)):
        if seconds * factor < 999.5:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"
