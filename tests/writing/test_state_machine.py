"""Files over a store that fails and crashes: every byte that is read was written; each failure of write-back is told to
every open file once; what failed stays, and is written once the store heals; what fsync promised survives a crash."""

from __future__ import annotations

import errno
import gc
import random
import re
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pagein import PageCache
from pagein.testing.durable import DurableStore
from pagein.testing.faulty import FaultyStore, Kind, Operation
from pagein.testing.fsx.exerciser import CONTENT
from pagein.testing.fsx.operations import FILLS
from pagein.units import PAGE_SIZE

SIZE_MAX = 5 * PAGE_SIZE + 123
FILES_MAX = 3
NEVER_S = 3600.0
starts = count(1)

fills = st.integers(0, FILLS - 1)
offsets = st.one_of(
    st.integers(0, SIZE_MAX - 1), st.builds(lambda page, by: max(0, page * PAGE_SIZE + by), st.integers(0, 5),
                                            st.integers(-2, 2)),
)  # fmt: skip
sizes = st.one_of(st.integers(1, 300), st.integers(1, 2 * PAGE_SIZE), st.just(PAGE_SIZE))
which = st.integers(0, FILES_MAX - 1)


def error_of(run: Callable[[], object]) -> OSError | None:
    try:
        run()
    except OSError as error:
        return error
    return None


def written(before: bytes | bytearray, data: bytes, offset: int) -> bytes:
    """A file after a write."""
    if not data:
        return bytes(before)
    return bytes(before[:offset].ljust(offset, b"\0") + data + before[offset + len(data) :])


class Files(RuleBasedStateMachine):
    """One object, in a cache in which nothing is written back unless somebody asks for it: so that it is known which
    call a failure belongs to."""

    in_background = False
    """Whether write-back may happen at any time."""

    @initialize(size=st.integers(0, SIZE_MAX), blocking=st.booleans(), fill=fills)
    def begin(self, size: int, blocking: bool, fill: int) -> None:
        self.model = bytearray(CONTENT[fill : fill + size])
        self.store = DurableStore({"a": bytes(self.model)}, blocking=blocking)
        self.faulty = FaultyStore(self.store)
        self.sure = bytes(self.model)
        self.since: list[bytes] = []
        """What the file was after each change since the last fsync that succeeded."""
        self.is_fsync_torn = False
        """Whether an fsync has failed since, which may have been one that had succeeded."""
        self.start()

    def start(self) -> None:
        if not next(starts) % 20:
            gc.collect()  # errors that were caught keep caches, and each has a terabyte of addresses
        self.cache = self.make_cache()
        self.files: list[Any] = []
        self.heard: list[int] = []
        """Of each open file, so many failures of write-back have been told to it, or to somebody before it was open."""
        self.heard_by_any = self.failures()
        self.told: list[set[str]] = []
        """Of each open file, which strikes have been told to it, or to somebody before it was open."""
        self.told_to_any: set[str] = set()
        self.open()

    def make_cache(self) -> PageCache:
        return PageCache(64 * PAGE_SIZE, dirty_background=1.0, dirty_limit=1.0, dirty_age_s=NEVER_S)

    # -- failures --------------------------------------------------------------------------------------------

    def failures(self) -> int:
        """Of write-back, so far."""
        return self.faulty.errors("store", "set_size", "fsync")

    def fails(self, run: Callable[[], object]) -> bool:
        """Whether *run* fails.  It may only because of something injected."""
        before = len(self.faulty.struck)
        error = error_of(run)
        if error is None:
            return False
        assert "injected" in str(error), error
        # What a hole has met while what it was made of was stored, nobody was told of: it has made zeros of that.
        is_untold = self.failures() > self.heard_by_any
        assert len(self.faulty.struck) > before or self.in_background or is_untold, "it had been told already"
        return True

    def writes_back(self, run: Callable[[], object], heard: int, told: set[str]) -> bool:
        """Whether *run*, which writes back and tells what failed since *heard* failures, succeeds."""
        before = self.failures()
        error = error_of(run)
        if error is not None:
            strike = self.strike_of(error)
            assert strike not in told, "the error had been told already"
            # In the background one may have struck already that nobody had been told of when the others were heard.
            assert self.failures() > heard or self.in_background
            told.add(strike)
            self.told_to_any.add(strike)
            return False
        if not self.in_background:
            assert self.failures() == before, "what failed meanwhile was not told"
        assert before == heard, "what had failed before was not told"
        return True

    def strike_of(self, error: OSError) -> str:
        """Which of what was injected it is."""
        found = re.search(r"injected: .*\(strike \d+\)", str(error))
        assert found, error
        return found[0]

    def note_durable(self) -> None:
        """After something that may have fsynced, or not."""
        if self.store.durable("a") == bytes(self.model):
            self.sure, self.since, self.is_fsync_torn = bytes(self.model), [], False

    def changed(self) -> None:
        self.since.append(bytes(self.model))

    @rule(
        operation=st.sampled_from(["store", "store", "store", "fsync", "fill", "set_size", "punch_hole"]),
        kind=st.sampled_from(["fails", "short", "torn"]),
        at=st.integers(1, 3),
        times=st.sampled_from([1, 1, 2, None]),
        code=st.sampled_from([errno.EIO, errno.ENOSPC, errno.EDQUOT]),
    )
    def break_it(self, operation: Operation, kind: Kind, at: int, times: int | None, code: int) -> None:
        self.faulty.inject(operation, kind=kind, at=at, times=times, error=code)

    @rule()
    def heal(self) -> None:
        self.faulty.heal()

    # -- files -----------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.files) < FILES_MAX)
    @rule()
    def open(self) -> None:
        self.files.append(self.cache.open((self.faulty, "a"), "r+b"))
        self.heard.append(self.heard_by_any)
        self.told.append(set(self.told_to_any))

    def one(self, number: int) -> int:
        if not self.files:
            self.open()
        return number % len(self.files)

    @rule(number=which)
    def close(self, number: int) -> None:
        number = self.one(number)
        file, heard, told = self.files.pop(number), self.heard.pop(number), self.told.pop(number)
        if not self.writes_back(file.close, heard, told):
            self.heard_by_any = self.failures()
        assert file.closed

    @rule(number=which)
    def fsync(self, number: int) -> None:
        number = self.one(number)
        if self.writes_back(self.files[number].fsync, self.heard[number], self.told[number]):
            assert self.store.durable("a") == bytes(self.model), "fsync has promised what the store does not have"
            self.sure, self.since, self.is_fsync_torn = bytes(self.model), [], False
        else:
            self.heard[number] = self.heard_by_any = self.failures()
            self.is_fsync_torn = True

    # -- bytes -----------------------------------------------------------------------------------------------

    @rule(number=which, offset=offsets, size=sizes)
    def read(self, number: int, offset: int, size: int) -> None:
        def read() -> None:
            assert self.files[number].pread(size, offset) == self.model[offset : offset + size]

        number = self.one(number)
        self.fails(read)

    @rule(number=which, offset=offsets, size=sizes)
    def view(self, number: int, offset: int, size: int) -> None:
        def view() -> None:
            with self.files[number].view(size, offset) as shown:
                assert shown == self.model[offset : offset + size]

        number = self.one(number)
        self.fails(view)

    @rule(number=which, offset=offsets, size=sizes, fill=fills)
    def write(self, number: int, offset: int, size: int, fill: int) -> None:
        self.write_at(number, lambda file, data: file.pwrite(data, offset), offset, CONTENT[fill : fill + size])

    @rule(number=which, size=sizes, fill=fills)
    def write_at_the_end(self, number: int, size: int, fill: int) -> None:
        def append(file: Any, data: bytes) -> int:
            file.seek(0, 2)
            count: int = file.write(data)
            return count

        size = max(0, min(size, SIZE_MAX - len(self.model)))
        self.write_at(number, append, len(self.model), CONTENT[fill : fill + size])

    def write_at(self, number: int, write: Callable[[Any, bytes], int], offset: int, data: bytes) -> None:
        number = self.one(number)
        if not self.fails(lambda: self.whole(write(self.files[number], data), len(data))):
            self.model[:] = written(self.model, data, offset)
        else:  # some of it may be there, up to the end of a page
            stops = {offset, *range((offset // PAGE_SIZE + 1) * PAGE_SIZE, offset + len(data), PAGE_SIZE)}
            self.model[:] = self.seen_as({written(self.model, data[: stop - offset], offset) for stop in stops})
        self.changed()

    def whole(self, count: int, size: int) -> None:
        assert count == size

    def seen_as(self, possible: set[bytes]) -> bytes:
        """What the file is, after something that failed; one of *possible*."""
        self.faulty.heal()  # so that it can be seen
        now: bytes = self.files[0].pread(2 * SIZE_MAX, 0)
        assert now in possible
        return now

    @rule(number=which, size=offsets)
    def truncate(self, number: int, size: int) -> None:
        number = self.one(number)
        if not self.fails(lambda: self.files[number].truncate(size)):
            del self.model[size:]
            self.model.extend(bytes(size - len(self.model)))
            self.changed()

    @rule(number=which, offset=offsets, size=sizes)
    def punch(self, number: int, offset: int, size: int) -> None:
        number = self.one(number)
        stop = min(offset + size, len(self.model))
        was = bytes(self.model)
        if self.fails(lambda: self.files[number].punch_hole(offset, size)):
            self.faulty.heal()  # so that it can be seen how far it came
            now: bytes = self.files[number].pread(2 * SIZE_MAX, 0)
            assert now[:offset] + now[max(stop, offset) :] == was[:offset] + was[max(stop, offset) :]
            assert all(left in (0, byte) for left, byte in zip(now[offset:stop], was[offset:stop], strict=True))
            self.model[:] = now
        elif stop > offset:
            self.model[offset:stop] = bytes(stop - offset)
        self.changed()

    @rule()
    def drop(self) -> None:
        self.cache.drop()

    # -- ends ------------------------------------------------------------------------------------------------

    @rule()
    def sync_the_cache(self) -> None:
        """Nothing is left to write once it has succeeded."""
        if self.fails(self.cache.sync):
            self.heard_by_any = self.failures()
            self.is_fsync_torn = True
        else:
            assert self.store.stored("a") == self.model
            self.note_durable()

    @rule()
    def close_the_cache(self) -> None:
        """It refuses to lose anything, names what is unwritten, and stays open; given up, nothing of it is written."""
        error = error_of(self.cache.close)
        if error is not None:
            assert "durable:a" in str(error)
            assert self.failures() > 0
            self.heard_by_any = self.failures()  # what any file had to hear has been told
            with self.cache.open((self.faulty, "a")) as file:
                self.fails(lambda: file.pread(1, 0))
            self.cache.close(discard=True)
            self.model = bytearray(self.store.stored("a"))
            self.changed()
        self.is_fsync_torn |= error is not None
        self.start()
        assert self.store.stored("a") == self.model
        self.note_durable()

    @rule(seed=st.one_of(st.none(), st.integers(0, 1 << 16)))
    def crash(self, seed: int | None) -> None:
        """With all that a store promises of what was not fsynced: nothing."""
        chance = None if seed is None else random.Random(seed)
        self.store.crash(chance)
        self.cache.close(discard=True)
        left, sure, versions = self.store.stored("a"), self.sure, [self.sure, *self.since]
        is_exact = chance is None and not self.is_fsync_torn
        self.model, self.sure, self.since, self.is_fsync_torn = bytearray(left), left, [], False
        self.faulty.heal()
        self.start()
        assert left == sure or not is_exact, "what fsync had promised is lost, or what was not asked for is there"
        holes_at = min(map(len, versions))
        assert len(left) in range(holes_at, max(map(len, versions)) + 1)
        for at, byte in enumerate(left):
            if byte != (sure[at] if at < len(sure) else 0):
                assert any(byte == some[at] for some in versions if at < len(some)) or (at >= holes_at and not byte)

    @invariant()
    def the_size_is_known(self) -> None:
        if getattr(self, "files", None):
            assert self.files[0].size_bytes == len(self.model)

    def teardown(self) -> None:
        if not hasattr(self, "cache"):
            return
        try:
            self.faulty.heal()
            self.open()
            self.fails(self.files[-1].fsync)
            self.files[-1].fsync()
            assert self.store.durable("a") == bytes(self.model), "what had failed was not written again"
            assert self.files[-1].pread(2 * SIZE_MAX, 0) == self.model
        finally:
            self.cache.close(discard=True)


class FilesInASmallCache(Files):
    """Less than the file, so that dirty pages are written back to make room, at any time."""

    in_background = True

    def make_cache(self) -> PageCache:
        return PageCache(4 * PAGE_SIZE)


def some(examples: int) -> settings:
    return settings(
        max_examples=examples, stateful_step_count=40, suppress_health_check=list(HealthCheck), print_blob=True
    )


TestFiles = Files.TestCase
TestFiles.settings = some(100)
TestFilesInASmallCache = FilesInASmallCache.TestCase
TestFilesInASmallCache.settings = some(100)


@pytest.mark.torture
class TestFilesForMinutes(Files.TestCase):  # type: ignore[misc,valid-type]
    settings = some(3000)


@pytest.mark.torture
class TestFilesInASmallCacheForMinutes(FilesInASmallCache.TestCase):  # type: ignore[misc,valid-type]
    settings = some(3000)
