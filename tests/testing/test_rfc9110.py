"""Ranges and preconditions, as tables (pagein.testing.httpserver.rfc9110)."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from pagein.testing.httpserver.rfc9110 import (
    AskedRange,
    Version,
    failed_precondition,
    parse_range,
    range_still_wanted,
)

DATA = bytes(range(100))
MODIFIED_S = 1_700_000_000
STRONG = Version('"a"', MODIFIED_S)
WEAK = Version('W/"a"', MODIFIED_S)
NAMELESS = Version(None, MODIFIED_S)
DATELESS = Version('"a"', None)
SAME, BEFORE, AFTER = (formatdate(MODIFIED_S + shift_s, usegmt=True) for shift_s in (0, -1, 1))


@pytest.mark.parametrize(
    ("header", "asked", "resolved"),
    [
        ("bytes=0-0", (0, 0), (0, 1)),
        ("bytes=5-9", (5, 9), (5, 10)),
        ("bytes=90-", (90, None), (90, 100)),
        ("bytes=90-1000", (90, 1000), (90, 100)),
        ("bytes=-10", (None, 10), (90, 100)),
        ("bytes=-1000", (None, 1000), (0, 100)),
        (" BYTES = 5-9 ", (5, 9), (5, 10)),
        ("bytes=100-", (100, None), None),
        ("bytes=100-200", (100, 200), None),
        ("bytes=-0", (None, 0), None),
    ],
)
def test_a_range_is_resolved_and_logged_as_python_slices_it(
    header: str, asked: tuple[int | None, int | None], resolved: tuple[int, int] | None
) -> None:
    parsed = parse_range(header)
    assert parsed == AskedRange(*asked)
    assert parsed.resolve(len(DATA)) == resolved
    if header != "bytes=-0":  # a slice cannot say "the last none"
        wanted = b"" if resolved is None else DATA[slice(*resolved)]
        assert DATA[slice(*parsed.as_slice())] == wanted
    assert parsed.resolve(0) is None


@pytest.mark.parametrize(
    "header",
    [None, "", "bytes", "bytes=", "bytes=-", "bytes=9-5", "bytes=a-b", "bytes=1-2,4-5", "lines=1-2",
     "bytes=0x1-2", "bytes=+1-2", "bytes=٣-٤", "bytes=" + "9" * 5000 + "-"],
)  # fmt: skip
def test_what_is_not_one_range_of_bytes_counts_as_no_range(header: str | None) -> None:
    assert parse_range(header) is None


@pytest.mark.parametrize(
    ("version", "headers", "status"),
    [
        (STRONG, {}, None),
        (STRONG, {"If-Match": '"a"'}, None),
        (STRONG, {"If-Match": '"b", "a"'}, None),
        (STRONG, {"If-Match": "*"}, None),
        (STRONG, {"If-Match": '"b"'}, 412),
        (STRONG, {"If-Match": 'W/"a"'}, 412),
        (WEAK, {"If-Match": 'W/"a"'}, 412),
        (WEAK, {"If-Match": '"a"'}, 412),
        (NAMELESS, {"If-Match": '"b"'}, None),
        (STRONG, {"If-None-Match": '"a"'}, 304),
        (STRONG, {"If-None-Match": 'W/"a"'}, 304),
        (WEAK, {"If-None-Match": '"b", "a"'}, 304),
        (STRONG, {"If-None-Match": "*"}, 304),
        (STRONG, {"If-None-Match": '"b"'}, None),
        (NAMELESS, {"If-None-Match": '"a"'}, None),
        (STRONG, {"If-Unmodified-Since": SAME}, None),
        (STRONG, {"If-Unmodified-Since": AFTER}, None),
        (STRONG, {"If-Unmodified-Since": BEFORE}, 412),
        (STRONG, {"If-Unmodified-Since": "yesterday"}, None),
        (DATELESS, {"If-Unmodified-Since": BEFORE}, None),
        (STRONG, {"If-Modified-Since": SAME}, 304),
        (STRONG, {"If-Modified-Since": AFTER}, 304),
        (STRONG, {"If-Modified-Since": BEFORE}, None),
        (STRONG, {"If-Modified-Since": "yesterday"}, None),
        (DATELESS, {"If-Modified-Since": AFTER}, None),
        # A tag outranks a date (RFC 9110, 13.1.3 and 13.1.4), and If-Match comes first (13.2.2).
        (STRONG, {"If-Match": '"a"', "If-Unmodified-Since": BEFORE}, None),
        (STRONG, {"If-None-Match": '"b"', "If-Modified-Since": AFTER}, None),
        (STRONG, {"If-Match": '"b"', "If-None-Match": '"a"'}, 412),
        (STRONG, {"If-Match": '"a"', "If-None-Match": '"a"'}, 304),
    ],
)
def test_preconditions(version: Version, headers: dict[str, str], status: int | None) -> None:
    assert failed_precondition(headers, version) == status


@pytest.mark.parametrize(
    ("version", "if_range", "is_wanted"),
    [
        (STRONG, None, True),
        (STRONG, '"a"', True),
        (STRONG, '"b"', False),
        (WEAK, 'W/"a"', False),
        (NAMELESS, '"a"', False),
        (STRONG, SAME, True),
        (STRONG, AFTER, False),
        (DATELESS, SAME, False),
    ],
)
def test_if_range(version: Version, if_range: str | None, is_wanted: bool) -> None:
    assert range_still_wanted(if_range, version) is is_wanted
