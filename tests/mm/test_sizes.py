"""What a store has of a file, and what it is owed, through every change of the two; no store, no lock, no thread.

What comes of it in a file is in tests/contract (test_truncate_dirty, test_discard, test_direct).
"""

from __future__ import annotations

from typing import Any, cast

import pytest

from pagein.mm.sizes import Sizes

REFUSAL = OSError("no")


class Stored:
    """A direct write that ends here."""

    def __init__(self, direct_stop: int) -> None:
        self.direct_stop = direct_stop


class File(Sizes):
    def __init__(self, size: int, *direct_stops: int) -> None:
        super().__init__(size)
        self.under_writeback = cast(Any, {stop: Stored(stop) for stop in direct_stops})


def state(file: Sizes) -> tuple[int, int, int, int | None]:
    return file.disk_size, file.uncut_size, file.store_end, file.size_owed


def rest(file: Sizes) -> tuple[bool, int | None, BaseException | None]:
    return file.is_owed_for_tail, file.hole_end, file.tail_refusal


NOTHING = (False, None, None)


def told(file: Sizes) -> int:
    """Tell the store what it is owed."""
    size = file.begin_telling()
    file.note_told(size)
    return size


def cut(file: Sizes, size: int) -> None:
    file.i_size = size
    file.owe_size(size)


def test_a_file_is_all_in_its_store() -> None:
    file = File(10)
    assert file.has_its_size
    assert state(file) == (10, 10, 10, None)
    assert not file.owe_tail()


def test_a_cut_is_owed_until_it_is_told_and_what_comes_back_is_zeros() -> None:
    file = File(10)
    cut(file, 4)
    assert not file.has_its_size
    assert state(file) == (4, 10, 10, 4)
    file.i_size = 8  # it grows again: the store has 4 of these
    assert told(file) == 4
    assert state(file) == (4, 4, 4, None)


def test_of_two_cuts_the_deeper_is_owed() -> None:
    for sizes in ((6, 4), (4, 6)):
        file = File(10)
        for size in sizes:
            file.owe_size(size)
        assert (file.size_owed, file.disk_size) == (4, 4)


def test_a_cut_that_comes_while_another_is_told_is_owed_still() -> None:
    file = File(10)
    cut(file, 6)
    size = file.begin_telling()
    cut(file, 2)
    file.note_told(size)
    assert state(file) == (2, 6, 6, 2)
    assert told(file) == 2
    assert state(file) == (2, 2, 2, None)


def test_what_is_stored_behind_a_cut_is_none_of_what_the_store_has() -> None:
    file = File(10)
    cut(file, 4)
    file.note_stored(9)
    assert state(file) == (4, 10, 10, 4)
    file.note_stored(12)
    assert state(file)[:2] == (4, 12)


def test_a_cut_that_is_given_up_is_none() -> None:
    file = File(10)
    cut(file, 4)
    file.give_up_size()
    assert state(file) == (10, 10, 10, None)
    for owe in (file.owe_tail, file.owe_hole):
        file.note_begun(20)
        owe()
        assert rest(file) != NOTHING
        file.give_up_size()
        assert rest(file) == NOTHING


def test_what_a_failed_write_may_have_left_is_cut_off_but_owed_to_nobody() -> None:
    file = File(10)
    file.note_begun(20)  # and it failed
    assert file.has_its_size
    assert file.owe_tail()
    assert not file.owe_tail(), "once"
    file.tail_refusal = REFUSAL
    assert told(file) == 10
    assert state(file) == (10, 10, 10, None)
    assert rest(file) == NOTHING
    assert not file.owe_tail()


def test_what_is_being_written_directly_beyond_the_end_is_no_tail() -> None:
    file = File(10, 20)
    file.note_begun(20)
    assert not file.owe_tail()
    within = File(10, 7)
    within.note_begun(20)
    assert within.owe_tail()


def test_a_store_that_refuses_to_cut_off_a_tail_owes_nothing_and_it_is_known_for_as_long_as_there_is_one() -> None:
    file = File(10)
    file.note_begun(20)
    assert file.owe_tail()
    assert file.take_refusal(REFUSAL)
    assert file.size_owed is None
    assert rest(file) == (False, None, REFUSAL)
    assert file.still_refused() is REFUSAL
    file.i_size = 20  # the file has grown over it
    assert file.still_refused() is None
    file.i_size = 10
    assert file.still_refused() is None, "what is there now another has left"


def test_one_that_refuses_a_cut_is_owed_it_still() -> None:
    file = File(10)
    cut(file, 4)
    assert not file.take_refusal(REFUSAL)
    assert file.size_owed == 4
    assert file.still_refused() is None


def test_a_cut_that_comes_while_a_tail_is_cut_off_is_owed_though_that_is_refused() -> None:
    file = File(10)
    file.note_begun(20)
    assert file.owe_tail()
    cut(file, 4)
    assert not file.take_refusal(REFUSAL)
    assert file.size_owed == 4


@pytest.mark.parametrize(("stored_stop", "content"), [(None, 15), (18, 18), (30, 20)])
def test_a_hole_at_the_end_is_told_and_what_a_write_has_left_behind_it_is_no_content(
    stored_stop: int | None, content: int
) -> None:
    """But for what a direct write has stored there by then."""
    file = File(10)
    file.i_size = 15
    file.note_begun(20)
    file.owe_hole()
    assert file.size_owed == 20
    if stored_stop is not None:
        file.note_stored(stored_stop)
    file.note_told(20)
    assert state(file) == (content, content, 20, None)
    assert rest(file) == NOTHING


def test_a_hole_behind_all_that_the_store_may_have_is_told_as_it_is() -> None:
    file = File(10)
    file.i_size = 15
    assert not file.has_its_size
    file.owe_hole()
    assert file.size_owed == 15
    assert told(file) == 15
    assert state(file) == (15, 15, 15, None)
    assert file.has_its_size


def test_what_is_stored_is_had_and_what_is_begun_may_be() -> None:
    file = File(10)
    file.i_size = 30
    file.note_begun(30)
    file.note_begun(20)
    assert file.store_end == 30
    file.note_stored(20)
    assert state(file) == (20, 20, 30, None)
    assert not file.has_its_size


def test_between_what_is_content_and_what_is_owed_lies_what_a_failed_write_has_left() -> None:
    """What covers it now is still to be stored, and may be given up before: the store is told the less."""
    file = File(10)
    file.note_begun(30)
    file.i_size = 25
    file.owe_size(20)
    assert (file.disk_size, file.store_end) == (10, 30)
    assert told(file) == 10
    assert state(file) == (10, 10, 10, None)


def test_but_where_nothing_was_left_all_of_what_is_owed_is_told() -> None:
    file = File(10)
    file.i_size = 25
    file.owe_hole()
    assert file.begin_telling() == 25


def test_what_the_store_says_that_it_has_it_has() -> None:
    file = File(10)
    file.note_begun(30)
    file.note_size(12, may_have_tail=True)
    assert state(file) == (12, 12, 30, None)
    file.forget_tail()
    assert state(file) == (12, 12, 12, None)
    file.note_begun(30)
    file.note_size(8)
    assert state(file) == (8, 8, 8, None)


def test_a_child_of_a_fork_owes_nothing() -> None:
    file = File(10)
    cut(file, 4)
    file.tail_refusal = REFUSAL
    file.i_size = 7  # it has grown again
    file.start_anew()
    assert state(file) == (7, 7, 10, None)
    assert rest(file) == NOTHING
    assert file.still_refused() is None
    assert file.has_its_size
