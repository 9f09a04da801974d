"""What a notebook shows of a cache and of a file: a small table in HTML, with a bar of the pages that are here.

Guarantees: self-contained, nothing is loaded from anywhere; names are escaped; no lock is taken and no store is asked.
Not here: what is known (residency.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from .residency import cells, of_cache, resident_bytes
from .units import format_share, format_size, page_count_for

if TYPE_CHECKING:
    from .cache import PageCache
    from .file import File

FILES_MAX = 20
"""Rows of a table; the rest is counted."""
CELLS_MAX = 120
"""Of a bar."""
_LEVELS = 8
"""A cell is as opaque as it is full, in so many steps: neighbours of one step are one rectangle."""
_LEFT = ' style="text-align:left"'


def cache_html(cache: PageCache) -> str:
    """A table with a row for each file, the largest first."""
    files = of_cache(cache)
    rows = [
        (
            _text(file.name),
            format_size(file.size_bytes),
            format_share(file.resident_bytes, file.size_bytes),
            format_size(file.dirty_bytes),
            _bar(file.runs, file.page_count),
        )
        for file in files[:FILES_MAX]
    ]
    if len(files) > FILES_MAX:
        rows.append((f"and {len(files) - FILES_MAX:,} more", "", "", "", ""))
    table = _table(("file", "size", "resident", "dirty", "pages"), rows) if rows else ""
    return f"<div><code>{_text(repr(cache))}</code>{table}</div>"


def file_html(file: File) -> str:
    """A table with a row for each thing to know."""
    if file.closed:
        return f"<div><code>{_text(repr(file))}</code></div>"
    runs = list(file._mapping.resident())
    rows = (
        ("name", _text(file.name)),
        ("size", f"{format_size(file.size_bytes)} ({file.size_bytes:,} bytes)"),
        ("position", f"{file._pos:,}"),
        ("version", _text(file.version)),
        ("resident", format_share(resident_bytes(runs, file._mapping.i_size), file._mapping.i_size)),
        ("pages", _bar(runs, page_count_for(file.size_bytes))),
    )
    body = "".join(f"<tr><th{_LEFT}>{name}</th><td{_LEFT}>{value}</td></tr>" for name, value in rows)
    return f"<div><code>pagein.File</code><table><tbody>{body}</tbody></table></div>"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th{_LEFT}>{heading}</th>" for heading in headings)
    body = "".join("<tr>" + "".join(f"<td{_LEFT}>{value}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _bar(runs: Iterable[tuple[int, int]], page_count: int) -> str:
    """The length of a file from left to right, filled where its pages are here."""
    full = cells(runs, page_count, CELLS_MAX)
    levels = [-(-here * _LEVELS // pages) for here, pages in full]
    rectangles, x = [], 0
    for level, same in groupby(levels):
        width = len(list(same))
        if level:
            opacity = f"{0.2 + 0.8 * level / _LEVELS:.2f}"
            rectangles.append(
                f'<rect x="{x}" y="0" width="{width}" height="1" fill="#1f77b4" fill-opacity="{opacity}"/>'
            )
        x += width
    return (
        f'<svg width="240" height="12" viewBox="0 0 {max(1, len(full))} 1" preserveAspectRatio="none" role="img">'
        '<rect x="0" y="0" width="100%" height="1" fill="currentColor" fill-opacity="0.12"/>'
        f"{''.join(rectangles)}</svg>"
    )


def _text(words: str) -> str:
    from html import escape  # 2 ms that only a notebook spends

    return escape(words.encode("utf-8", "backslashreplace").decode())
