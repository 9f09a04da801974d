"""What is kept of listings: how much, for how long, and that nothing outlives its being forgotten."""

from __future__ import annotations

from typing import Any

from pagein.integrations.fsspec.listings import Listings


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def file(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "size": 1, "type": "file", **more}


def kept(*, most: int = 10, expiry_s: float | None = 5) -> tuple[Listings, Clock]:
    clock = Clock()
    return Listings(entries_max=most, expiry_s=expiry_s, now_s=clock), clock


def test_a_directory_answers_for_its_files_until_its_time_is_over() -> None:
    listings, clock = kept()
    listings.learn_directory("d", [file("d/a"), file("d/b")], listings.asking())
    assert listings.directory("d") == [file("d/a"), file("d/b")]
    assert listings.info("d/a", "d") == file("d/a")
    assert listings.info("d/x", "d") is None
    clock.now_s = 5
    assert listings.directory("d") is None
    assert listings.info("d/a", "d") is None
    assert len(listings) == 0


def test_what_is_told_is_the_callers_own() -> None:
    listings, _ = kept()
    told = [file("d/a")]
    listings.learn_directory("d", told, listings.asking())
    told[0]["size"] = 2
    listings.directory("d")[0]["size"] = 3  # type: ignore[index]
    assert listings.info("d/a", "d") == file("d/a")


def test_a_link_without_a_size_is_not_all_that_there_is_to_know_of_a_file() -> None:
    listings, _ = kept()
    listings.learn_directory("d", [file("d/a", size=None)], listings.asking())
    assert listings.info("d/a", "d") is None
    assert listings.directory("d") is not None


def test_no_more_than_so_many_entries_are_kept_and_the_oldest_go_first() -> None:
    listings, _ = kept(most=10)
    for number in range(100):
        listings.learn({f"d/{number}": file(f"d/{number}")}, listings.asking())
        listings.learn_directory(
            f"e{number}", [file(f"e{number}/{one}") for one in range(number % 4)], listings.asking()
        )
        assert len(listings) <= 10
    assert listings.info("d/99", "d") is not None
    assert listings.info("d/0", "d") is None


def test_an_answer_that_is_larger_than_all_there_is_room_for_drives_nothing_out() -> None:
    listings, _ = kept(most=10)
    listings.learn({"a": file("a")}, listings.asking())
    listings.learn_directory("d", [file(f"d/{one}") for one in range(11)], listings.asking())
    listings.learn({f"d/{one}": file(f"d/{one}") for one in range(6)}, listings.asking())
    assert listings.directory("d") is None
    assert listings.info("a", "") is not None


def test_what_grows_old_goes_though_nobody_asks_for_it() -> None:
    listings, clock = kept()
    listings.learn_directory("d", [file("d/a"), file("d/b")], listings.asking())
    clock.now_s = 5
    listings.learn({"e": file("e")}, listings.asking())
    assert len(listings) == 1


def test_an_answer_that_was_asked_for_before_a_change_and_comes_after_it_is_not_kept() -> None:
    listings, _ = kept()
    asked = listings.asking()
    listings.forget(["d/a", "d"])
    listings.learn_directory("d", [file("d/a")], asked)
    assert listings.directory("d") is None
    asked = listings.asking()
    listings.clear()
    listings.learn({"d/a": file("d/a")}, asked)
    assert listings.info("d/a", "d") is None


def test_none_is_for_ever_and_zero_is_not_at_all() -> None:
    for expiry_s, is_known in ((None, True), (0, False)):
        listings, clock = kept(expiry_s=expiry_s)
        listings.learn({"a": file("a")}, listings.asking())
        clock.now_s = 1e9
        assert (listings.info("a", "") is not None) is is_known
