"""How fast the answer to an opening comes: measured by a clock that passes when everybody waits."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import pytest

from pagein import File, PageCache, RangeOperations
from pagein.mm.known import known_of
from pagein.mm.rest import Part
from pagein.stores.source import Opened
from pagein.testing.virtual import VirtualClock

MIB = 1 << 20
HEAD_BYTES, FILE_BYTES = 128 << 10, 8 * MIB
BYTES_S = 40e6


class Zeros(RangeOperations):
    device_name = "place"

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        buffer[:] = bytes(len(buffer))


class Answer:
    """It comes on, whether anybody wants it or not."""

    stop_bytes = FILE_BYTES

    def __init__(self, clock: VirtualClock) -> None:
        self._clock, self._began_s = clock, clock.now_s()

    def fill(self, part: Part) -> None:
        due_s = self._began_s + (part.offset + part.size_bytes - HEAD_BYTES) / BYTES_S
        self._clock.sleep(max(0.0, due_s - self._clock.now_s()))

    def close(self) -> None:
        pass


class Place:
    key: Hashable = "place"
    name = device_name = "place"
    requests_max = 16

    def __init__(self, clock: VirtualClock) -> None:
        self._clock, self._ops = clock, Zeros()
        self.device_key = self._ops.device_key

    def source(self, path: str) -> Place:
        return self

    def open(self) -> Opened:
        return Opened(self._ops, FILE_BYTES, "1")

    def open_with_head(self) -> Opened:
        return self.open_with_rest(0)

    def open_with_rest(self, rest_bytes: int) -> Opened:
        assert rest_bytes
        return self.open()._replace(head=bytes(HEAD_BYTES), rest=Answer(self._clock))


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    with VirtualClock() as clock:
        yield clock


def noted(file: File) -> float:
    device = file._file.mapping.device
    assert not device.rests
    return known_of((device.key, device.name))._stream_bytes_s


@pytest.mark.parametrize(("pause_s", "least", "most"), [(0, 0.99, 1.01), (0.02, 0.9, 1.01), (0.1, 0, 0), (1, 0, 0)])
def test_an_answer_is_as_fast_as_it_comes_and_one_that_was_waited_with_is_not_measured(
    clock: VirtualClock, pause_s: float, least: float, most: float
) -> None:
    """It takes 0.2 s: what came while its reader was elsewhere did not come in no time."""
    with PageCache("64 MiB", door=clock) as cache, cache.open((Place(clock), "")) as file:
        clock.sleep(pause_s)
        while file.read(100_000):
            pass
        assert least * BYTES_S <= noted(file) <= most * BYTES_S


def test_who_takes_his_time_between_parts_says_nothing_either(clock: VirtualClock) -> None:
    with PageCache("64 MiB", door=clock) as cache, cache.open((Place(clock), "")) as file:
        file.advise("random")
        for _ in range(FILE_BYTES // MIB):
            file.read(MIB)
            clock.sleep(0.05)
        assert noted(file) == 0


def test_the_pipe_is_told_with_the_first_part_what_one_connection_brings(clock: VirtualClock) -> None:
    """It begins before all others, who may share with it by and by."""
    with PageCache("64 MiB", door=clock) as cache, cache.open((Place(clock), "")) as file:
        pipe = file._file.mapping.device.pipe
        assert pipe.stream_bytes_s == 0
        file.read(HEAD_BYTES)
        file.read(2 * MIB)
        assert pipe.stream_bytes_s == pytest.approx(BYTES_S, rel=0.02)
