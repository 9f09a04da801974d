"""What is asked when, and what a reader sees, by policy (docs/explanation/freshness.md)."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.freshness.places import (
    AGE_S,
    SIZE,
    Clock,
    Place,
    cache_with,
    content,
    errno_of,
    open_file,
    read_once,
)

from pagein import File, PageCache
from pagein.stores import MemoryStore
from pagein.units import PAGE_SIZE

POLICIES = ["open", "always", "never", AGE_S]
READS_LOOK = ["always", AGE_S]


def by_policy(looks: list[tuple[Any, int]]) -> pytest.MarkDecorator:
    """How many looks a test sees, by policy."""
    return pytest.mark.parametrize(("revalidate", "looks"), looks, indirect=["revalidate"])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.fixture(params=POLICIES)
def revalidate(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def cache(revalidate: Any, clock: Clock) -> Iterator[PageCache]:
    with cache_with(revalidate, clock) as cache:
        yield cache


# -- what is asked -------------------------------------------------------------------------------------


@by_policy([("open", 3), ("always", 3), ("never", 1), (AGE_S, 1)])
def test_opening_what_is_known(cache: PageCache, place: Place, looks: int) -> None:
    for _ in range(3):
        open_file(cache, (place, "")).close()
    assert place.looks == looks


@by_policy([("open", 4), ("always", 4), ("never", 1), (AGE_S, 2)])
def test_opening_what_was_looked_at_so_long_ago(cache: PageCache, clock: Clock, place: Place, looks: int) -> None:
    """Nine seconds after the first look, ten (which is when it is due), and nineteen."""
    for after_s in (0, AGE_S - 1, 1, AGE_S - 1):
        clock.time_s += after_s
        open_file(cache, (place, "")).close()
    assert place.looks == looks


@by_policy([("open", 1), ("always", 9), ("never", 1), (AGE_S, 2)])
def test_reading_what_is_here(cache: PageCache, clock: Clock, place: Place, looks: int) -> None:
    """Four reads, then four more when time has passed."""
    with open_file(cache, (place, "")) as file:
        file.populate()
        fetches = place.fetches
        for after_s in (0, AGE_S):
            clock.time_s += after_s
            for index in range(4):
                assert file.pread(PAGE_SIZE, index * PAGE_SIZE) == content(0, PAGE_SIZE)
        assert place.fetches == fetches
    assert place.looks == looks


@by_policy([("always", 3), (AGE_S, 1)])
def test_a_fetch_that_is_validated_is_as_good_as_a_look_a_while_ago(
    cache: PageCache, clock: Clock, place: Place, looks: int
) -> None:
    with open_file(cache, (place, "")) as file:
        file.advise("random")
        clock.time_s += AGE_S - 1
        assert file.pread(1, 0) == content(0, 1)
        clock.time_s += AGE_S - 1
        assert file.pread(1, 0) == content(0, 1)
    assert place.looks == looks


def test_a_store_whose_fetches_are_not_validated_is_looked_at(clock: Clock, place: Place) -> None:
    with cache_with(AGE_S, clock) as cache, open_file(cache, (place, "")) as file:
        file._mapping.ops.validates = False
        clock.time_s += AGE_S - 1
        file.pread(1, 0)
        clock.time_s += 1
        file.pread(1, 0)
        assert place.looks == 2


@pytest.mark.parametrize("revalidate", READS_LOOK, indirect=True)
@pytest.mark.parametrize(
    "read",
    [
        lambda file: file.pread(10, 0),
        lambda file: file.preadinto(bytearray(10), 0),
        lambda file: bytes(file.view(10, 0)),
        lambda file: file.read(10),
        lambda file: file.read(),
        lambda file: file.read1(10),
        lambda file: file.readinto(bytearray(10)),
        lambda file: file.readinto1(bytearray(10)),
        lambda file: file.peek(10),
        lambda file: file.readline(10),
        lambda file: io.TextIOWrapper(file, "latin-1").read(10),
    ],
)
def test_whoever_reads_looks_once_and_hears_that_it_has_changed(
    cache: PageCache, clock: Clock, place: Place, read: Callable[[File], object]
) -> None:
    with open_file(cache, (place, "")) as file:
        file.populate()
        clock.time_s += AGE_S
        file.seek(PAGE_SIZE - 20)
        looks = place.looks
        read(file)
        assert place.looks == looks + 1
        if file.closed:  # with the text above it
            return
        place.put()
        clock.time_s += AGE_S
        file.seek(7)
        assert errno_of(lambda: read(file)) == "ESTALE"
        assert file.tell() == 7


@by_policy([("always", 1 + SIZE // PAGE_SIZE), (AGE_S, 2)])
def test_a_line_is_looked_at_page_by_page(cache: PageCache, clock: Clock, place: Place, looks: int) -> None:
    with open_file(cache, (place, "")) as file:
        file.populate()
        clock.time_s += AGE_S
        assert file.readline() == content(0)
        assert place.looks - looks in (0, 1), "one more, perhaps, to see that it ends"
        place.put()
        clock.time_s += AGE_S
        file.seek(7)
        assert errno_of(file.readline) == "ESTALE"
        assert file.tell() == 7


# -- what a reader sees --------------------------------------------------------------------------------


def test_who_opens_it_gets_what_is_there_or_what_is_known(cache: PageCache, place: Place, revalidate: Any) -> None:
    assert read_once(cache, (place, "")) == content(0)
    place.put()
    assert read_once(cache, (place, "")) == content(1 if revalidate in ("open", "always") else 0)


def test_a_file_that_is_open_keeps_its_version_or_hears_that_it_has_gone(
    cache: PageCache, clock: Clock, place: Place, revalidate: Any
) -> None:
    with open_file(cache, (place, "")) as file:
        file.advise("random")
        assert file.read(PAGE_SIZE) == content(0, PAGE_SIZE)
        place.put()
        clock.time_s += AGE_S - 1
        if revalidate == "always":
            assert errno_of(lambda: file.pread(1, 0)) == "ESTALE"
        else:
            assert file.pread(PAGE_SIZE, 0) == content(0, PAGE_SIZE), "looked at nine seconds ago, or not at all"
        clock.time_s += 1
        if revalidate in READS_LOOK:
            assert errno_of(lambda: file.pread(1, 0)) == "ESTALE"
        else:
            assert file.pread(PAGE_SIZE, 0) == content(0, PAGE_SIZE)
        assert errno_of(lambda: file.pread(1, PAGE_SIZE)) == "ESTALE"
        assert read_once(cache, (place, "")) == content(1)
        place.put(0)  # the very version that it was
        if revalidate in READS_LOOK:
            assert errno_of(lambda: file.pread(1, 0)) == "ESTALE", "what was once changed does not come back"


@pytest.mark.parametrize("revalidate", READS_LOOK, indirect=True)
def test_it_is_enough_if_another_has_seen_that_it_has_changed(cache: PageCache, clock: Clock, place: Place) -> None:
    with open_file(cache, (place, "")) as old:
        old.read()
        clock.time_s += AGE_S
        place.put()
        with open_file(cache, (place, "")) as new:
            looks = place.looks
            assert errno_of(lambda: old.pread(1, 0)) == "ESTALE"
            assert place.looks == looks
            assert new.read() == content(1)


@pytest.mark.parametrize("revalidate", READS_LOOK, indirect=True)
def test_what_a_read_has_found_the_next_open_need_not_ask_for(
    cache: PageCache, clock: Clock, place: Place, revalidate: Any
) -> None:
    with open_file(cache, (place, "")) as old:
        old.read()
        clock.time_s += AGE_S
        place.put()
        looks = place.looks
        assert errno_of(lambda: old.pread(1, 0)) == "ESTALE"
        assert place.looks == looks + 1
        with open_file(cache, (place, "")):
            assert place.looks == looks + (1 if revalidate == AGE_S else 2)
        assert read_once(cache, (place, "")) == content(1)


@pytest.mark.parametrize("revalidate", READS_LOOK, indirect=True)
def test_the_pages_of_what_has_changed_go_but_for_what_a_view_shows(
    cache: PageCache, clock: Clock, place: Place
) -> None:
    with open_file(cache, (place, "")) as file:
        file.populate()
        view = file.view(10, PAGE_SIZE)
        place.put()
        clock.time_s += AGE_S
        assert errno_of(lambda: file.view(10, 0)) == "ESTALE"
        assert file.resident() == [(1, 1)]
        assert bytes(view) == content(0, 10)
        view.release()
    assert cache.stats().resident_bytes == 0


def test_what_nobody_reads_any_more_gives_its_memory_back(cache: PageCache, clock: Clock, place: Place) -> None:
    """Whoever keeps his closed file."""
    old = open_file(cache, (place, ""))
    old.advise("random")
    old.pread(1, 0)
    place.put()
    clock.time_s += AGE_S
    assert errno_of(lambda: old.pread(SIZE, 0)) == "ESTALE"
    with open_file(cache, (place, "")) as new:
        new.read()
        old.close()
        assert cache.stats().inodes == 1
        assert cache.stats().resident_bytes == SIZE


def test_a_fetch_that_finds_it_changed_makes_the_next_open_look(cache: PageCache, place: Place) -> None:
    """Or nobody would ever get out of it."""
    with open_file(cache, (place, "")) as file:
        file.advise("random")
        file.pread(1, 0)
        place.put()
        assert errno_of(lambda: file.pread(1, PAGE_SIZE)) == "ESTALE"
        assert read_once(cache, (place, "")) == content(1)
    looks = place.looks
    if cache._freshness.at_open_s:
        assert read_once(cache, (place, "")) == content(1)
        assert place.looks == looks


@pytest.mark.parametrize("revalidate", ["never", AGE_S], indirect=True)
def test_what_is_idle_goes_on_without_a_request_and_its_fetches_are_validated(cache: PageCache, place: Place) -> None:
    with open_file(cache, (place, "")) as file:
        file.advise("random")
        file.pread(1, 0)
    assert (place.looks, place.opens - place.closes) == (1, 0)
    with open_file(cache, (place, "")) as file:
        file.advise("random")
        assert file.pread(1, 0) == content(0, 1)
        assert place.fetches == 1
        assert file.pread(1, PAGE_SIZE) == content(0, 1)
        assert place.looks == 1
        place.put()
        assert errno_of(lambda: file.pread(1, 2 * PAGE_SIZE)) == "ESTALE"


@pytest.mark.parametrize("revalidate", ["never", AGE_S], indirect=True)
def test_a_store_that_cannot_go_on_without_asking_is_asked_by_who_opens_what_is_idle(cache: PageCache) -> None:
    """A local file, of which somebody has to have a descriptor."""
    place = Place(has_again=False)
    with open_file(cache, (place, "")), open_file(cache, (place, "")):
        assert place.looks == 1
    assert read_once(cache, (place, "")) == content(0)
    assert place.looks == 2


def test_a_store_that_says_nothing_of_looks_is_opened_for_each(cache: PageCache, clock: Clock, revalidate: Any) -> None:
    place = Place(has_look=False, has_again=False)
    with open_file(cache, (place, "")) as file:
        for _ in range(2):
            assert read_once(cache, (place, "")) == content(0)
        assert place.looks == {"open": 3, "always": 5, "never": 1, AGE_S: 1}[revalidate]
        place.put()
        clock.time_s += AGE_S
        if revalidate in READS_LOOK:
            assert errno_of(lambda: file.pread(1, 0)) == "ESTALE"
        else:
            assert file.pread(1, 0) == content(0, 1)
    cache.stats()
    assert place.opens == place.closes


# -- a look that fails ---------------------------------------------------------------------------------


@pytest.mark.parametrize("revalidate", READS_LOOK, indirect=True)
def test_a_look_that_fails_is_the_readers_error_and_the_next_read_tries_again(
    cache: PageCache, clock: Clock, place: Place
) -> None:
    with open_file(cache, (place, "")) as file:
        assert file.read(10) == content(0, 10)
        clock.time_s += AGE_S
        place.error = OSError(errno.ETIMEDOUT, "the server is down", "place")
        looks = place.looks
        for _ in range(2):
            with pytest.raises(OSError, match="the server is down") as raised:
                file.read(10)
            assert raised.value is place.error
        assert place.looks == looks + 2
        assert file.tell() == 10
        place.error = None
        assert file.read(10) == content(0, 10)


def test_who_opens_it_hears_of_it_if_he_has_to_ask(cache: PageCache, place: Place) -> None:
    with open_file(cache, (place, "")) as file:
        place.error = OSError(errno.ETIMEDOUT, "the server is down", "place")
        if cache._freshness.at_open_s:
            assert read_once(cache, (place, "")) == content(0)
        else:
            assert errno_of(lambda: open_file(cache, (place, ""))) == "ETIMEDOUT"
        place.error = None
        assert file.read() == content(0)
        assert read_once(cache, (place, "")) == content(0)


def test_what_is_deleted_is_gone_for_who_looks(cache: PageCache, clock: Clock, place: Place, revalidate: Any) -> None:
    with open_file(cache, (place, "")) as file:
        file.populate()
        place.is_there = False
        clock.time_s += AGE_S
        if revalidate in READS_LOOK:
            assert errno_of(lambda: file.pread(1, 0)) == "ESTALE"
            assert file.resident() == []
        else:
            assert file.pread(1, 0) == content(0, 1)
        if revalidate == "never":
            assert read_once(cache, (place, "")) == content(0)
            return
        for _ in range(2):
            assert errno_of(lambda: open_file(cache, (place, ""))) == "ENOENT"
        place.is_there = True
        assert read_once(cache, (place, "")) == content(0)
        if revalidate in READS_LOOK:
            assert errno_of(lambda: file.pread(1, 0)) == "ESTALE"


# -- objects without a validator -----------------------------------------------------------------------


def test_without_a_validator_who_looks_at_open_begins_with_nothing_and_who_reads_goes_on(
    cache: PageCache, clock: Clock, revalidate: Any
) -> None:
    place = Place(has_validator=False)
    with open_file(cache, (place, "")) as file:
        file.populate()
        place.put()
        clock.time_s += AGE_S
        assert file.pread(1, 0) == content(0, 1), "nothing tells that it has changed"
        assert place.looks == (2 if revalidate in READS_LOOK else 1)
        is_known = revalidate in ("never", AGE_S)
        assert read_once(cache, (place, "")) == content(0 if is_known else 1)
        clock.time_s += AGE_S
        assert read_once(cache, (place, "")) == content(0 if revalidate == "never" else 1)
        assert file.pread(1, 0) == content(0, 1), "what another has opened is no reason to say that it has"
        place.is_there = False
        clock.time_s += AGE_S
        if revalidate in READS_LOOK:
            assert errno_of(lambda: file.pread(1, 0)) == "ESTALE"


@pytest.mark.parametrize("revalidate", READS_LOOK, indirect=True)
def test_without_a_validator_and_without_a_look_who_reads_goes_on_while_the_size_is_the_same(
    cache: PageCache, clock: Clock
) -> None:
    place = Place(has_validator=False, has_look=False, has_again=False)
    with open_file(cache, (place, "")) as file:
        for _ in range(2):
            assert file.read(1) == content(0, 1)
            clock.time_s += AGE_S
        place.size_bytes += 1
        assert errno_of(lambda: file.read(1)) == "ESTALE"
    cache.stats()
    assert place.opens == place.closes


# -- what is written through the cache -----------------------------------------------------------------


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore({"a": content(0)})


def count_looks(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    looks: list[str] = []
    get = store._get

    def counted(path: str) -> Any:
        looks.append(path)
        return get(path)

    monkeypatch.setattr(store, "_get", counted)
    return looks


def test_what_is_open_for_writing_is_what_the_cache_says(
    cache: PageCache, clock: Clock, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cache.open((store, "a"), "r+b") as writer:
        assert isinstance(writer, File)
        writer.write(b"x" * 10)
        looks = count_looks(store, monkeypatch)
        with open_file(cache, (store, "a")) as reader:
            for _ in range(2):
                clock.time_s += AGE_S
                assert reader.pread(11, 0) == b"x" * 10 + content(0, 1)
                assert writer.pread(10, 0) == b"x" * 10
        assert not looks


def test_what_was_written_counts_as_looked_at(
    cache: PageCache, clock: Clock, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, revalidate: Any
) -> None:
    """Of the version that the store made of it."""
    with open_file(cache, (store, "a")) as old:
        old.read()
        clock.time_s += AGE_S
        with cache.open((store, "a"), "wb") as writer:
            writer.write(content(7))
        looks = count_looks(store, monkeypatch)
        if revalidate in READS_LOOK:
            assert errno_of(lambda: old.pread(1, 0)) == "ESTALE"
        del looks[:]
        with open_file(cache, (store, "a")) as file:
            assert file.resident(), "its pages are those that were written"
            assert len(looks) == (1 if revalidate in ("open", "always") else 0)
            assert file.pread(10, 0) == content(7, 10)
        assert read_once(cache, (store, "a")) == content(7)
        store.put("a", content(8))
        clock.time_s += AGE_S
        assert read_once(cache, (store, "a")) == content(7 if revalidate == "never" else 8)


def test_what_was_saved_past_the_cache_is_looked_at(cache: PageCache, store: MemoryStore) -> None:
    store.put("b", content(5))
    assert read_once(cache, (store, "b")) == content(5)
    with open_file(cache, (store, "a")) as file:
        file.save_as((store, "b"))
    assert read_once(cache, (store, "b")) == content(0)


@pytest.mark.parametrize("revalidate", READS_LOOK, indirect=True)
@pytest.mark.parametrize("writes", [False, True])
def test_what_others_changed_while_it_was_open_for_writing_is_seen_when_it_is_due(
    cache: PageCache, clock: Clock, store: MemoryStore, writes: bool
) -> None:
    """It counts from when it was opened for writing, and not from when it was closed."""
    with cache.open((store, "a"), "r+b") as writer:
        assert isinstance(writer, File)
        assert writer.read(1) == content(0, 1)
        if writes:
            writer.write(b"x")
            writer.fsync()
        store.put("a", content(9))
        clock.time_s += AGE_S
    assert read_once(cache, (store, "a")) == content(9)


@pytest.mark.parametrize("has_view", [False, True])
def test_the_pages_of_what_an_open_for_writing_finds_changed_go(
    cache: PageCache, store: MemoryStore, revalidate: Any, has_view: bool
) -> None:
    with open_file(cache, (store, "a")) as old:
        old.read()
        view = old.view(10, PAGE_SIZE) if has_view else memoryview(b"")
        store.put("a", content(1))
        with cache.open((store, "a"), "r+b"):
            left = [(1, 1)] if has_view else []
            assert old.resident() == (left if revalidate in READS_LOOK else [(0, 4)])
        view.release()


def test_at_its_end_a_file_that_has_grown_is_noticed_by_whoever_reads_lines(
    cache: PageCache, store: MemoryStore, revalidate: Any
) -> None:
    store.put("log", b"first\n")
    with open_file(cache, (store, "log")) as file:
        assert file.readline() == b"first\n"
        assert file.readline() == b""
        store.put("log", b"first\nsecond\n")
        if revalidate == "always":
            assert errno_of(file.readline) == "ESTALE"
            assert errno_of(lambda: list(file)) == "ESTALE"
            assert file.tell() == 6
        else:
            assert file.readline() == b""
            assert list(file) == []


# -- how it is said ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["sometimes", "Open", "10", "", -1, -0.5, float("nan"), float("inf")])
def test_what_makes_no_sense_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"must be 'open', 'always', 'never', or a finite number of seconds"):
        PageCache("1M", revalidate=value)


@pytest.mark.parametrize("value", [True, False, b"open", [1], 1j])
def test_what_is_no_policy_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match=r"revalidate must be 'open', .* not .*\("):
        PageCache("1M", revalidate=value)


@pytest.mark.parametrize("revalidate", ["open", "never"])
def test_where_reads_never_look_files_are_the_plain_ones(revalidate: Any, place: Place) -> None:
    """A hit costs nothing more."""
    with cache_with(revalidate) as cache, open_file(cache, (place, "")) as file:
        assert type(file) is File
        assert file._uptodate is file._mapping.arena.uptodate
