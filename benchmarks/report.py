"""What a topic reports, and how it is written: as tables for people, as JSON for programs, as a picture.

Guarantees: a table reads the same on a terminal and as Markdown; every headline names the peer that it was
measured against in the same run (only Linux's bookkeeping is known from its structs), and says whether its target was
reached.
Not here: what is measured (one file a topic), and in which order (run.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from timing import Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAGEIN_COLOUR, PEER_COLOUR, ACCENT_COLOUR = "#1565a9", "#b4bcc4", "#d9822b"


@dataclass(frozen=True)
class Headline:
    """One line of the README's table: the figure, the best peer's, and what was to be reached."""

    what: str
    pagein: str
    peer: str
    ratio: str
    target: str = ""
    met: bool | None = None
    """None: there is no target, the figure is there to be known."""

    def row(self) -> list[str]:
        verdict = {True: "reached", False: "**missed**", None: ""}[self.met]
        target = ", ".join(filter(None, (self.target, verdict)))
        return [self.what, self.pagein, self.peer, self.ratio, target or "-"]


HEADLINE_COLUMNS = ["what", "pagein", "best peer", "ratio", "target"]


@dataclass(frozen=True)
class Table:
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def text(self) -> str:
        """Markdown, padded so that a terminal shows it as a table, too."""
        return f"### {self.title}\n\n{self.body()}\n" + (f"\n{self.note}\n" if self.note else "")

    def body(self) -> str:
        """The lines alone."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[at]) for line in lines) for at in range(len(self.columns))]
        padded = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        rule = "-|-".join("-" * width for width in widths)
        return "\n".join(f"| {line} |" for line in (padded[0], rule, *padded[1:]))


@dataclass
class Report:
    headlines: list[Headline] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    """For results.json, and for the topic's picture."""


# -- numbers as people read them -----------------------------------------------------------------------------


def digits(value: float) -> str:
    """Three significant digits, no exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def size_name(size_bytes: float) -> str:
    """3 significant digits, in the unit that suits."""
    for unit, name in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size_bytes >= unit:
            value = size_bytes / unit
            return f"{value:g} {name}" if value == int(value) else f"{digits(value)} {name}"
    return f"{digits(size_bytes)} B"


def duration(seconds: float) -> str:
    if seconds >= 1:
        return f"{digits(seconds)} s"
    return f"{digits(seconds * 1e3)} ms" if seconds >= 1e-3 else f"{digits(seconds * 1e6)} µs"


def times(value: float) -> str:
    return f"{digits(value)}x"


def times_spread(spread: Spread) -> str:
    return f"{digits(spread.median)}x ({digits(spread.low)}–{digits(spread.high)})"


def at_most(spread: Spread, limit: float) -> tuple[str, bool]:
    """A target for a ratio, and whether its median, as it is printed, reaches it."""
    return f"≤ {limit:g}x", float(f"{spread.median:.2f}") <= limit


def at_least(spread: Spread, limit: float) -> tuple[str, bool]:
    """A target for a ratio of which more is better."""
    return f"≥ {limit:g}x", float(f"{spread.median:.2f}") >= limit


# -- pictures ----------------------------------------------------------------------------------------------


def bars(
    axes: Axes, labels: Sequence[str], values: Sequence[float], *, unit: str, title: str, decades: bool = False
) -> None:
    """Horizontal bars from the top down, pagein's coloured, each with its value behind it."""
    colours = [PAGEIN_COLOUR if label.startswith("pagein") else PEER_COLOUR for label in labels]
    places = range(len(labels))
    axes.barh(places, values, color=colours)
    for place, value in zip(places, values, strict=True):
        axes.text(value, place, f" {digits(value)}", va="center", fontsize=8)
    axes.set_yticks(places, labels, fontsize=8)
    axes.invert_yaxis()
    if decades:
        axes.set_xscale("log")
        axes.set_xlim(1, max(values) * 6)
    else:
        axes.set_xlim(0, max(values) * 1.18)
    axes.set_xlabel(unit, fontsize=8)
    axes.set_title(title, fontsize=10, loc="left")
    plain(axes)


def plain(axes: Axes) -> None:
    """Without the frame."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
