"""Opening without waiting: what nobody wants any more is let go of, and nobody else is kept waiting."""

from __future__ import annotations

import asyncio
import errno
import threading

import pytest
from tests.aio.sources import Place, in_time, open_file, page_at, turns, until

import pagein
from pagein import PageCache, aio
from pagein.stores.source import Opened
from pagein.testing.stores import PATIENCE_S, Gate, ScriptedOps
from pagein.units import PAGE_SIZE

SIZE = 8 * PAGE_SIZE


class GatedPlace(Place):
    """It is opened, or closed, once its gate is."""

    def __init__(self, *, opens: Gate | None = None, closes: Gate | None = None, error: OSError | None = None) -> None:
        super().__init__(ScriptedOps(), SIZE)
        self.opens, self.closes, self.error = opens, closes, error

    def open(self) -> Opened:
        if self.opens:
            self.opens.pass_through()
        return super().open()

    def close(self) -> None:
        if self.closes:
            self.closes.pass_through()
        super().close()
        if self.error:
            raise self.error


def test_a_file_that_was_opened_for_nobody_is_closed_again(cache: PageCache) -> None:
    async def main() -> None:
        place = GatedPlace(opens=(gate := Gate()))
        opening = asyncio.ensure_future(pagein.aio.open((place, "path"), cache=cache))
        await turns()
        gate.wait_for_arrivals()
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await in_time(opening)
        assert not place.is_closed()
        gate.open()
        await until(place.is_closed)
        assert cache.stats().open_files == 0

    asyncio.run(main())


def test_one_that_was_cancelled_in_the_turn_in_which_it_was_opened_is_closed_again(
    cache: PageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As soon as that; not only when the cache is used the next time."""

    async def main() -> None:
        place = Place(ScriptedOps(), SIZE)
        opening: asyncio.Future[aio.AsyncFile] = asyncio.ensure_future(pagein.aio.open((place, "path"), cache=cache))
        settle = aio._Answer._settle_here

        def settle_and_cancel(answer: aio._Answer[object], *outcome: object) -> None:
            settle(answer, *outcome)  # type: ignore[arg-type]
            opening.cancel()

        monkeypatch.setattr(aio._Answer, "_settle_here", settle_and_cancel)
        with pytest.raises(asyncio.CancelledError):
            await in_time(opening)
        await until(place.is_closed)

    asyncio.run(main())


def test_letting_go_of_what_nobody_wants_any_more_does_not_block_the_loop(cache: PageCache) -> None:
    """The gate of the store's close is opened by the loop itself, which must get there."""

    async def main() -> None:
        place = GatedPlace(opens=(opens := Gate()), closes=(closes := Gate()))
        opening = asyncio.ensure_future(pagein.aio.open((place, "path"), cache=cache))
        await turns()
        opens.wait_for_arrivals()
        opening.cancel()
        opens.open()
        with pytest.raises(asyncio.CancelledError):
            await in_time(opening)
        await until(lambda: closes._arrivals)
        closes.open()
        await until(place.is_closed)

    asyncio.run(main())


def test_what_a_store_raises_that_nobody_waits_for_disturbs_neither_loop_nor_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is told by the next call that closes something."""
    cache, gate, complaints = PageCache(16 * PAGE_SIZE), Gate(), list[object]()
    place = GatedPlace(opens=gate, error=OSError(errno.EIO, "cannot let go"))
    monkeypatch.setattr(threading, "excepthook", complaints.append)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        opening = asyncio.ensure_future(pagein.aio.open((place, "path"), cache=cache))
        await turns()
        gate.wait_for_arrivals()
        opening.cancel()

    asyncio.run(main())
    gate.open()  # the loop is closed by now: it is a worker that lets go
    assert place.closed.acquire(timeout=PATIENCE_S)
    told = []
    for _ in range(3):
        try:
            cache.close()
        except OSError as error:
            told.append(error)
        for thread in threading.enumerate():
            if thread.name.startswith("pagein-work"):
                thread.join(PATIENCE_S)
    assert not complaints
    assert told == [place.error]


@pytest.mark.parametrize("mode", ["rb", "br"])
def test_it_takes_the_mode_in_which_it_opens_as_open_does(cache: PageCache, mode: str) -> None:
    async def main() -> None:
        place = Place(ScriptedOps(), SIZE)
        for opening in (
            pagein.aio.open((place, "path"), mode, cache=cache),
            pagein.aio.open((place, "path"), mode=mode, cache=cache),
        ):
            async with await opening as file:
                assert await file.read(PAGE_SIZE) == page_at(0)

    asyncio.run(main())


@pytest.mark.parametrize("mode", ["r", "rt", "wb", "r+b", "ab", "x", "rbz", ""])
def test_of_other_modes_it_says_which_it_takes(cache: PageCache, mode: str) -> None:
    place = Place(ScriptedOps(), SIZE)
    with pytest.raises(ValueError, match=r"invalid mode .* accepted is"):
        asyncio.run(in_time(pagein.aio.open((place, "path"), mode, cache=cache)))
    assert not place.opened_count


def test_slow_opens_do_not_keep_the_readers_of_other_files_waiting(cache: PageCache) -> None:
    """However many: each has a thread, and none is a reader's."""

    async def main() -> None:
        gate = Gate()
        async with await open_file(cache, ScriptedOps()) as file:
            openings = [
                asyncio.ensure_future(pagein.aio.open((GatedPlace(opens=gate), "path"), cache=cache)) for _ in range(80)
            ]
            try:
                await turns()
                gate.wait_for_arrivals(64)
                assert await asyncio.wait_for(file.pread(PAGE_SIZE, 0), 2.0) == page_at(0)
            finally:
                gate.open()
                for opened in await in_time(asyncio.gather(*openings)):
                    await opened.close()

    asyncio.run(main())


def test_what_the_store_raises_when_it_is_closed_comes_to_whoever_closes(cache: PageCache) -> None:
    async def main() -> None:
        error = OSError(errno.EIO, "cannot let go")
        file = await pagein.aio.open((GatedPlace(error=error), "path"), cache=cache)
        with pytest.raises(OSError, match="cannot let go") as raised:
            await in_time(file.close())
        assert raised.value is error
        assert file.closed

    asyncio.run(main())
