"""The board of `pagein top`: what processes tell of their caches, as tables, with what has changed since the last look.

Guarantees: a pure function of two looks; a rate is per second of the process's own clock, "-" where there was no look
before, and 0 of a count that has gone back, because a store was forgotten.
Not here: looking (processes.py), how often (top.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..units import format_share, format_size
from . import screen

Told = Mapping[str, Any]
BAR_COLUMNS = 30
NAME_COLUMNS_MIN = 16
OTHER_COLUMNS = 86
"""What a table takes beside its names."""


def board(now: Sequence[Told], before: Sequence[Told], on: Console) -> RenderableType:
    """All processes of a look, with rates since the look *before*, as far as that knew them."""
    earlier = {one["pid"]: one for one in before}
    parts: list[RenderableType] = []
    for one in now:
        if parts:
            parts.append(Text())
        parts.append(Text.assemble((f"{one['pid']}", "bold"), f"  {one['command']}", no_wrap=True, overflow="ellipsis"))
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
    yield _line(
        ("memory", f"{format_size(cache['resident_bytes'])} of {format_size(cache['size_bytes'])}"),
        ("dirty", format_size(cache["dirty_bytes"])),
        ("shown by views", format_size(cache["pinned_bytes"])),
        ("files", f"{cache['inodes']:,} ({cache['open_files']:,} open)"),
    )
    yield _line(
        ("hits", f"{rate}{now}"),
        ("reads/s", _rate(change.rate("hits", "misses"))),
        ("fetched", _per_second(change.rate("fetched_bytes"))),
        ("written", _per_second(change.rate("written_bytes"))),
        ("evicted pages/s", _rate(change.rate("evictions"))),
        ("failed", f"{cache['failed_requests'] + cache['failed_writes']:,}"),
    )
    if cache["stores"]:
        yield _stores(cache["stores"], change, bounds_s, on)
    if cache["files"]:
        yield _files(cache, change, on)


def _line(*facts: tuple[str, str]) -> Text:
    words = [(f"{name} ", "dim") if part == 0 else f"{value}   " for name, value in facts for part in (0, 1)]
    return Text.assemble("  ", *words)


def _stores(stores: Sequence[Told], change: _Change, bounds_s: Sequence[float], on: Console) -> Table:
    table = screen.table()
    table.add_column("  store", no_wrap=True)
    for heading in ("requests", "/s", "fetched", "in flight", "in line", "mean", "99% under", "failed"):
        table.add_column(heading, justify="right", no_wrap=True)
    for store in stores:
        counts, total_s = _lately(store, change.before("stores", store))
        table.add_row(
            Text(f"  {_shortened(store['name'], on)}"),
            f"{store['requests']:,}",
            _rate(change.rate_in("stores", store, "requests")),
            _per_second(change.rate_in("stores", store, "fetched_bytes")),
            f"{store['requests_in_flight']:,}",
            f"{store['requests_in_line']:,}",
            format_seconds(total_s / sum(counts)) if sum(counts) > 0 else "-",
            _bound(counts, bounds_s),
            f"{store['failed_requests']:,}",
        )
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
    table = screen.table()
    table.add_column("  file", no_wrap=True)
    for heading in ("size", "resident", "open", "hits/s", "dirty"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("pages", no_wrap=True, min_width=BAR_COLUMNS + 2)
    for file in cache["files"]:
        bar = screen.bar_of_cells([(here, pages) for here, pages in file["cells"]], ascii_only=on.options.ascii_only)
        table.add_row(
            Text(f"  {_shortened(file['name'], on)}"),
            format_size(file["size_bytes"]),
            format_share(file["resident_bytes"], file["size_bytes"]),
            f"{file['open_files']:,}",
            _rate(change.rate_in("files", file, "hits")),
            format_size(file["dirty_bytes"]),
            Text(f"[{bar}]" if bar else ""),
        )
    more = cache["file_count"] - len(cache["files"])
    if more > 0:
        table.add_row(Text(f"  and {more:,} more", style="dim"))
    return table


def _shortened(name: str, on: Console) -> str:
    """Without its middle, if it is too long: names differ at their ends."""
    columns = max(NAME_COLUMNS_MIN, on.width - OTHER_COLUMNS)
    if len(name) <= columns:
        return name
    dots = "..." if on.options.ascii_only else "…"
    head = (columns - len(dots)) // 3
    return f"{name[:head]}{dots}{name[len(name) - (columns - len(dots) - head) :]}"


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.0f}"


def _per_second(rate: float | None) -> str:
    return "-" if rate is None else f"{format_size(round(rate))}/s"


def format_seconds(seconds: float) -> str:
    """A short time for people to read, to three digits: "950 µs", "1.25 ms", "2.5 s"."""
    for unit, factor in (("µs", 1e6), ("ms", 1e3)):
        if seconds * factor < 999.5:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"
