"""A read that fails: the error is the store's own, nothing has moved, and the next call tries again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.file.sources import binary, inode_of, outcome_of

from pagein import File, PageCache
from pagein.testing import FaultyStore
from pagein.units import PAGE_SIZE

MOVING_CALLS: dict[str, Callable[[File], object]] = {
    "read()": lambda file: file.read(),
    "read(n)": lambda file: file.read(3 * PAGE_SIZE),
    "read1": lambda file: file.read1(3 * PAGE_SIZE),
    "readinto": lambda file: file.readinto(bytearray(3 * PAGE_SIZE)),
    "readinto1": lambda file: file.readinto1(bytearray(3 * PAGE_SIZE)),
    "readline": lambda file: file.readline(),
    "next": next,
    "readlines": lambda file: file.readlines(),
}


LINE = b"x" * (4 * PAGE_SIZE - 1) + b"\n"
BROKEN = OSError(5, "the store is broken")


def broken_file(cache: PageCache) -> tuple[File, FaultyStore]:
    """One line over four pages, of which the third cannot be had."""
    inode, store = inode_of(cache, LINE)
    store.inject("fill", offset_bytes=2 * PAGE_SIZE, times=None, error=BROKEN)
    return binary(inode.open()), store


@pytest.mark.parametrize("what", MOVING_CALLS)
def test_after_an_error_the_position_is_where_it_was_and_the_next_call_tries_again(what: str, cache: PageCache) -> None:
    file, store = broken_file(cache)
    with file:
        begin = 2 * PAGE_SIZE if "1" in what else 10  # read1 and readinto1 may stop before the page that fails
        file.seek(begin)
        with pytest.raises(OSError, match="the store is broken") as raised:
            MOVING_CALLS[what](file)
        assert raised.value is BROKEN  # unchanged
        assert file.tell() == begin
        store.heal()
        assert file.read() == LINE[begin:]


def test_what_came_before_the_page_that_fails_can_be_read(cache: PageCache) -> None:
    file, _ = broken_file(cache)
    with file:
        assert file.read(2 * PAGE_SIZE) == LINE[: 2 * PAGE_SIZE]
        assert outcome_of(lambda: file.read(1)) == ("raised", OSError, 5)


def test_peek_raises_too_and_does_not_move(cache: PageCache) -> None:
    file, _ = broken_file(cache)
    with file:
        file.seek(2 * PAGE_SIZE)
        assert outcome_of(file.peek) == ("raised", OSError, 5)
        assert file.tell() == 2 * PAGE_SIZE


WHOLE_READS: dict[str, Callable[[File], bytes]] = {
    "read": lambda file: file.read(),
    "readinto": lambda file: filled_by(file.readinto, file.size_bytes),
    "pread": lambda file: file.pread(file.size_bytes, 0),
    "preadinto": lambda file: filled_by(lambda buffer: file.preadinto(buffer, 0), file.size_bytes),
    "view": lambda file: bytes(file.view(file.size_bytes, 0)),
    "readline": lambda file: file.readline(),
}


def filled_by(read: Callable[[bytearray], int], size_bytes: int) -> bytes:
    buffer = bytearray(size_bytes)
    assert read(buffer) == size_bytes
    return bytes(buffer)


@pytest.mark.parametrize("fail_times", range(1, 6))
@pytest.mark.parametrize("what", WHOLE_READS)
def test_a_page_that_fails_a_few_times_spoils_nothing(what: str, fail_times: int, cache: PageCache) -> None:
    data = bytes(number % 251 for number in range(4 * PAGE_SIZE - 1)).replace(b"\n", b"-") + b"\n"
    inode, store = inode_of(cache, data)
    with binary(inode.open()) as file:
        store.inject("fill", offset_bytes=2 * PAGE_SIZE, times=fail_times)
        outcome = outcome_of(lambda: WHOLE_READS[what](file))
        assert outcome in (("returned", data, None), ("raised", OSError, 5))
        store.heal()
        file.seek(0)
        assert WHOLE_READS[what](file) == data
