"""How much is asked for with the opening of a file: by what its store has shown, to whichever cache."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from pagein.mm import known
from pagein.mm.known import REST_BYTES_MAX, REST_BYTES_MIN, REST_BYTES_START, Known, known_of
from pagein.mm.pipe import PIECE_BYTES_MAX as PIECE, WIDTH_START, Pipe

MIB = 1 << 20
NOBODY = Pipe()


def pipe(latency_s: float, several_bytes_s: float) -> Pipe:
    """Of which that was measured."""
    made = Pipe()
    made.answered(0.0, latency_s)
    made.several_bytes_s = several_bytes_s
    return made


def streamed(bytes_s: float) -> Known:
    made = Known()
    made.note_stream(bytes_s)
    return made


@pytest.mark.parametrize(
    ("stream_bytes_s", "latency_s", "several_bytes_s", "wanted_bytes"),
    [
        (0, 0.01, 1e9, REST_BYTES_START),  # nobody has read on yet
        (400e6, 0.1, 0, 40_000_000 + PIECE),  # nor how fast several are
        (50e6, 0.03, 0, 1_500_000 + PIECE),
        (10e6, 0.03, 0, 5_000_000),  # in half a second
        (400e6, 0.01, 1e9, 3 * 4_000_000),  # while others wait, and the first of them comes
        (400e6, 0.1, 1e9, 40_000_000 + PIECE),
        (50e6, 0.03, 1e9, 3 * 1_500_000),  # as of S3
        (50e6, 0.0002, 1e9, REST_BYTES_MIN),
        (400e6, 0.5, 2e9, 200_000_000),
        (900e6, 0.5, 2e9, REST_BYTES_MAX),
        (890e6, 0.01, 1e9, 8_900_000 + PIECE),
        (910e6, 0.01, 1e9, REST_BYTES_MAX),  # as good as several
        (91e6, 0.0002, 100e6, 45_500_000),
        (1e6, 0.0002, 1.1e6, REST_BYTES_MIN),  # however slow all of it is
    ],
)
def test_as_much_as_one_connection_brings_until_the_first_of_several_has_come(
    stream_bytes_s: float, latency_s: float, several_bytes_s: float, wanted_bytes: int
) -> None:
    size_bytes = streamed(stream_bytes_s).rest_bytes(pipe(latency_s, several_bytes_s))
    assert size_bytes == pytest.approx(wanted_bytes, rel=0.01)


def test_of_a_store_of_which_nothing_is_known_some_mib_are_asked_for() -> None:
    assert Known().rest_bytes(NOBODY) == streamed(1e9).rest_bytes(NOBODY) == REST_BYTES_START


@pytest.mark.parametrize(("at_once", "is_as_good"), [(1, False), (3, False), (4, True), (8, False)])
def test_one_is_compared_with_several_that_were_at_once(at_once: int, *, is_as_good: bool) -> None:
    """Of files a little longer than what came with the opening, one request or two bring what is behind it: that says
    nothing of what several could."""
    several, of_store = pipe(0.01, 0), streamed(60e6)
    for number in range(4):
        begun = [several.started(number) for _ in range(at_once)]
        for one in begun:
            several.ended(one, number + 0.03, 1 << 18)  # each 9 MB/s
    assert several.bandwidth_bytes_s > 0
    assert (of_store.rest_bytes(several) == 30_000_000) is is_as_good


SOME, SOME_IF_NOT_COMPARED = 3 * 4_000_000, 4_000_000 + PIECE


def test_another_cache_begins_with_what_the_last_has_seen() -> None:
    of_store = streamed(400e6)
    assert of_store.rest_bytes(pipe(0.01, 0)) == SOME_IF_NOT_COMPARED
    assert of_store.rest_bytes(pipe(0.01, 300e6)) == 200_000_000
    assert of_store.rest_bytes(NOBODY) == of_store.rest_bytes(pipe(0.2, 0)) == 200_000_000
    assert of_store.rest_bytes(pipe(0.01, 1e9)) == of_store.rest_bytes(NOBODY) == SOME


def test_now_and_then_several_are_tried_where_one_is_as_good() -> None:
    of_store, several = streamed(400e6), pipe(0.01, 400e6)
    sizes = [of_store.rest_bytes(several) for _ in range(3 * known.PROBE_OPENINGS)]
    assert [index for index, size in enumerate(sizes) if size == SOME] == [15, 31, 47]
    assert set(sizes) == {SOME, 200_000_000}


def test_answers_that_have_shared_what_there_is_count_by_and_by() -> None:
    of_store, several = streamed(800e6), pipe(0.01, 1e9)
    sizes = []
    for _ in range(4):
        of_store.note_stream(100e6)
        sizes.append(of_store.rest_bytes(several))
    assert sizes == [3 * 4_000_000, 3 * 2_000_000, 3 * 1_000_000, 3 * 1_000_000]
    of_store.note_stream(800e6)
    assert of_store.rest_bytes(several) == 8_000_000 + PIECE


def test_a_cache_is_told_what_one_connection_has_brought_another() -> None:
    own = pipe(0.01, 0)
    streamed(400e6).rest_bytes(own)
    assert (own.stream_bytes_s, own.width) == (400e6, WIDTH_START)
    streamed(100e6).rest_bytes(own)
    assert own.stream_bytes_s == 400e6, "which may have shared what there is"


def test_nor_does_it_begin_with_few_requests_where_it_took_many() -> None:
    of_store = streamed(60e6)
    of_store.rest_bytes(pipe(0.01, 400e6))
    of_store.note_reader(is_read_on=False)  # whatever becomes of the rest
    own = pipe(0.01, 0)
    assert of_store.rest_bytes(own) == 0
    assert own.width == 10


@pytest.mark.parametrize(
    ("readers", "is_likely"),
    [("", True), ("+", True), ("-", False), ("+-", False), ("++-", False), ("-+", False), ("-++", True),
     ("---++", True), ("+++++-+", True)],
)  # fmt: skip
def test_who_reads_on_counts_one_and_who_does_not_two(readers: str, *, is_likely: bool) -> None:
    of_store = Known()
    for reader in readers:
        of_store.note_reader(is_read_on=reader == "+")
    assert bool(of_store.rest_bytes(NOBODY)) is is_likely


def test_the_stores_that_were_asked_last_are_known_and_no_more_of_them() -> None:
    first = known_of("first")
    first.note_reader(is_read_on=False)
    for number in range(known.KNOWN_MAX - 1):
        known_of(number)
    assert known_of("first") is first
    known_of("one more")
    assert len(known._known) == known.KNOWN_MAX
    assert 0 not in known._known
    assert 1 in known._known


def test_several_caches_may_ask_at_once() -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: known_of(number % 300).note_reader(is_read_on=True), range(20_000)))
    assert len(known._known) <= known.KNOWN_MAX
