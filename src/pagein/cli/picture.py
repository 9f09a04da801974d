"""The picture of `pagein plot`, by matplotlib: a bar for the pages of each file, a histogram for each store.

Guarantees: names are shown as they are, whatever is in them; a picture is whole, or there is none.
Assumes: the extra [plot].
Not here: what is shown (pagein.publishing).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from ..stats import LATENCY_BOUNDS_S
from ..units import format_share, format_size
from .board import format_seconds

Told = Mapping[str, Any]
FILES_MAX, STORES_MAX = 20, 4
WIDTH_IN, ROW_IN, STORE_IN, MARGIN_IN = 10.0, 0.36, 1.7, 1.0
NAME_CHARACTERS = 46
PIXELS_PER_INCH = 150
_FILL = LinearSegmentedColormap.from_list("pages", ["#eceff1", "#0b5394"])
_INK, _BAR = "#37474f", "#0b5394"
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.edgecolor": "#b0bec5",
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "svg.fonttype": "none",  # text that can be searched, and copied
    "text.parse_math": False,  # a name may have dollars in it
}


def draw(title: str, caches: Sequence[Told], kind: str) -> bytes:
    """A picture of what *caches* tell, as the content of a file of this *kind*: png, svg or pdf."""
    files = [file for cache in caches for file in cache["files"]][:FILES_MAX]
    stores = sorted((one for cache in caches for one in cache["stores"]), key=lambda one: -int(one["requests"]))
    stores = [store for store in stores if sum(store["latency_counts"])][:STORES_MAX]
    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # it is drawn as a box
        heights = [max(1, len(files)) * ROW_IN] + [STORE_IN] * len(stores)
        figure = Figure(figsize=(WIDTH_IN, sum(heights) + MARGIN_IN * (1 + len(stores) / 2)), layout="constrained")
        axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
        figure.suptitle(_shortened(title, 2 * NAME_CHARACTERS), x=0.01, ha="left", fontsize=11, fontweight="bold")
        _pages(axes[0], files, caches)
        for ax, store in zip(axes[1:], stores, strict=True):
            _latencies(ax, store)
        picture = BytesIO()
        figure.savefig(picture, format=kind, dpi=PIXELS_PER_INCH)
    return picture.getvalue()


def _pages(ax: Axes, files: Sequence[Told], caches: Sequence[Told]) -> None:
    resident = format_size(sum(cache["resident_bytes"] for cache in caches))
    size = format_size(sum(cache["size_bytes"] for cache in caches))
    reads = sum(cache["hits"] + cache["misses"] for cache in caches)
    hits = format_share(sum(cache["hits"] for cache in caches), reads) if reads else "none"
    shown = len(files)
    more = sum(cache["file_count"] for cache in caches) - shown
    beside = f"   (the {shown} with most in memory; {more:,} more)" if more > 0 else ""
    ax.set_title(f"Pages in memory: {resident} of {size}, hits {hits}{beside}", loc="left", fontsize=9)
    for row, file in enumerate(files):
        cells = [here / pages for here, pages in file["cells"]] or [1.0]
        ax.imshow(
            [cells],
            cmap=_FILL,
            vmin=0,
            vmax=1,
            aspect="auto",
            interpolation="nearest",
            extent=(0, 100, row + 0.38, row - 0.38),
        )
        share = format_share(file["resident_bytes"], file["size_bytes"])
        ax.text(101, row, f"{share} of {format_size(file['size_bytes'])}", va="center", fontsize=8)
    ax.set_xlim(0, 100)
    ax.set_ylim(max(1, shown) - 0.5, -0.5)
    ax.set_yticks(range(shown), [_shortened(file["name"], NAME_CHARACTERS) for file in files], fontsize=8)
    ax.set_xticks(range(0, 101, 25), [f"{at}%" for at in range(0, 101, 25)])
    ax.set_xlabel("position in the file; the darker, the more of its pages are here")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    if not files:
        ax.text(50, 0, "no file is open, or remembered", ha="center", va="center")


def _latencies(ax: Axes, store: Told) -> None:
    counts = list(store["latency_counts"])
    total = sum(counts)
    mean = format_seconds(store["latency_sum_s"] / total)
    name = _shortened(store["name"], NAME_CHARACTERS)
    ax.set_title(f"Requests to {name}: {total:,}, on average {mean}", loc="left", fontsize=9)
    ax.bar(range(len(counts)), counts, width=0.92, color=_BAR)
    for at, count in enumerate(counts):
        if count:
            ax.text(at, count, f"{count:,}", ha="center", va="bottom", fontsize=7)
    labels = [format_seconds(bound_s) for bound_s in LATENCY_BOUNDS_S]
    ax.set_xticks(range(len(counts)), [*labels, "longer"], fontsize=8)
    ax.set_xlim(-0.6, len(counts) - 0.4)
    ax.set_ylim(0, 1.2 * max(counts))
    ax.set_yticks([])
    ax.set_xlabel("time until the answer was complete, at most")
    ax.tick_params(length=0)
    ax.spines[["left", "top", "right"]].set_visible(False)


def _shortened(name: str, characters: int) -> str:
    """Without its middle, if it is too long: names differ at their ends."""
    if len(name) <= characters:
        return name
    head = characters // 3
    return f"{name[:head]}…{name[len(name) - (characters - head - 1) :]}"
