"""pagein.units: page arithmetic against the plain definition of a page, and sizes as people write them."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings, strategies as st

from pagein import units
from pagein.units import PAGE_SIZE, SIZE_BYTES_MAX

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

offsets = st.integers(0, SIZE_BYTES_MAX) | st.integers(0, 4 * PAGE_SIZE)
sizes = st.integers(0, SIZE_BYTES_MAX) | st.integers(0, 4 * PAGE_SIZE)

# A loaded machine may hold one example up for longer than hypothesis's 200 ms; that says nothing of the code.
no_deadline = settings(deadline=None)


# -- pages -------------------------------------------------------------------------------------------


@no_deadline
@given(sizes)
def test_page_count_for_is_the_least_number_of_pages_that_holds_the_bytes(size_bytes: int) -> None:
    page_count = units.page_count_for(size_bytes)
    assert (page_count - 1) * PAGE_SIZE < size_bytes <= page_count * PAGE_SIZE


# -- sizes as people write them ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "size_bytes"),
    [
        (0, 0),
        (4096, 4096),
        (SIZE_BYTES_MAX, SIZE_BYTES_MAX),
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("64K", 64 * KIB),
        ("64Ki", 64 * KIB),
        ("64KiB", 64 * KIB),
        ("64KB", 64_000),
        ("64kb", 64_000),
        ("128k", 128 * KIB),
        ("1.5MB", 1_500_000),
        ("1.5 MiB", 3 * MIB // 2),
        ("0.5m", MIB // 2),
        ("4 GiB", 4 * GIB),
        ("4gib", 4 * GIB),
        ("  4 GIB ", 4 * GIB),
        ("2T", 2 << 40),
        ("1PiB", 1 << 50),
        ("7E", 7 << 60),
        ("0.1K", 102),  # 102.4: a fraction of a byte is dropped
        (f"{SIZE_BYTES_MAX}", SIZE_BYTES_MAX),
    ],
)
def test_parse_size(written: int | str, size_bytes: int) -> None:
    assert units.parse_size(written, what="size") == size_bytes


@pytest.mark.parametrize(
    "written",
    [
        "",
        " ",
        "K",
        "GiB",
        "4 GiBs",
        "4 iB",
        "4 Kelvin",
        "4 \u212a",
        "\u0664",
        "four",
        "0x10",
        "1e6",
        "1_000",
        "+1",
        "-1",
        "-4K",
        "1.5",
        "1.5B",
        ".5K",
        "1.K",
        "1,5K",
        "1 2",
        "4K\x00",
        "nan",
        "inf",
        "9" * 5000,
    ],
)
def test_parse_size_refuses_a_string_that_is_no_size(written: str) -> None:
    with pytest.raises(ValueError, match=r"^block must be a number of bytes, or a string such as .* not '"):
        units.parse_size(written, what="block")


@pytest.mark.parametrize("written", [-1, -(1 << 70), SIZE_BYTES_MAX + 1, f"{SIZE_BYTES_MAX + 1}", "8E", "9999P"])
def test_parse_size_refuses_a_size_out_of_range(written: int | str) -> None:
    expected = re.escape(f"size must be from 0 to {SIZE_BYTES_MAX} bytes, not {written!r}")
    with pytest.raises(ValueError, match=f"^{expected}$"):
        units.parse_size(written, what="size")


@pytest.mark.parametrize(
    ("written", "type_name"),
    [(True, "bool"), (1.0, "float"), (float("nan"), "float"), (None, "NoneType"), (b"4K", "bytes")],
)
def test_parse_size_refuses_what_is_neither_an_integer_nor_a_string(written: object, type_name: str) -> None:
    with pytest.raises(TypeError, match=rf"^size must be a number of bytes, .* not .* \({type_name}\)$"):
        units.parse_size(written, what="size")  # type: ignore[arg-type]


def test_parse_size_takes_integers_of_any_type() -> None:
    class Int64:
        def __index__(self) -> int:
            return 42

    assert units.parse_size(Int64(), what="size") == 42


def test_parse_size_does_not_repeat_a_long_string_in_full() -> None:
    with pytest.raises(ValueError, match="size must be") as caught:
        units.parse_size("x" * 100_000, what="size")
    assert len(str(caught.value)) < 200


@no_deadline
@given(
    st.integers(0, 8191),
    st.sampled_from(["", " ", "\t"]),
    st.sampled_from([(unit, power) for power, unit in enumerate("KMGTP", start=1)]),
    st.sampled_from([("", 1024), ("i", 1024), ("iB", 1024), ("B", 1000)]),
    st.sampled_from([str.lower, str.upper, str.swapcase, str]),
)
def test_parse_size_reads_back_every_way_to_write_a_unit(
    count: int, space: str, prefix: tuple[str, int], suffix: tuple[str, int], case: Callable[[str], str]
) -> None:
    written = case(f"{count}{space}{prefix[0]}{suffix[0]}")
    assert units.parse_size(written, what="size") == count * suffix[1] ** prefix[1]


@pytest.mark.parametrize(
    ("size_bytes", "written"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (KIB, "1 KiB"),
        (KIB + 1, "1 KiB"),
        (1536, "1.5 KiB"),
        (64 * KIB, "64 KiB"),
        (MIB - 1, "1 MiB"),
        (MIB - 52, "1023.9 KiB"),
        (3 * GIB // 2, "1.5 GiB"),
        (1_500_000, "1.4 MiB"),
        (SIZE_BYTES_MAX, "8 EiB"),
        (1 << 74, "16384 EiB"),
    ],
)
def test_format_size(size_bytes: int, written: str) -> None:
    assert units.format_size(size_bytes) == written


def test_format_size_refuses_a_negative_size() -> None:
    with pytest.raises(ValueError, match="at least 0, not -1"):
        units.format_size(-1)


@no_deadline
@given(st.integers(0, 1023), st.integers(0, 5))
def test_a_whole_number_of_units_is_written_and_read_back_exactly(count: int, power: int) -> None:
    size_bytes = count * 1024**power
    assert units.parse_size(units.format_size(size_bytes), what="size") == size_bytes


@no_deadline
@given(st.integers(0, SIZE_BYTES_MAX // 2))
def test_what_is_written_is_within_5_percent_and_reads_back_to_the_same_words(size_bytes: int) -> None:
    written = units.format_size(size_bytes)
    read_back = units.parse_size(written, what="size")
    assert abs(read_back - size_bytes) * 20 <= size_bytes
    assert units.format_size(read_back) == written
