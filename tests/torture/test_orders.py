"""Every wrong order of the lock-free protocol is caught, and the right one passes the very same.

Twice: by every schedule with at most two preemptions, which is exact and repeats itself; and by real threads that
pause at many an instruction, which catch within some thousand reads what depends on no more than bad luck.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.explored import note
from tests.torture.orders import (
    GENERATION_FIRST,
    GENERATION_LATE,
    NO_SECOND_LOOK,
    PINS_FIRST,
    PUNCH_FIRST,
    SIZE_FIRST,
    UPTODATE_BEFORE_PIN,
    UPTODATE_FIRST,
    WRONG_ORDERS,
    Order,
)
from tests.torture.stamps import WrongPageError, check
from tests.torture.torture import Plan, Torture
from tests.torture.world import World

from pagein import File
from pagein.mm import filemap, removal
from pagein.mm.lru import NOT_QUEUED, Run
from pagein.reader import PageReader
from pagein.testing.schedule import ByLine, Explored, FailedSchedule, Preemptible, Scenario, Scheduler, explore_all
from pagein.units import PAGE_SIZE


def steps() -> tuple[Preemptible, ...]:
    """The functions whose order matters, as they are now.  Removal does one step on each line."""
    return PageReader.pread, PageReader.view, filemap.copy_if_uptodate, ByLine(removal.remove_runs)


# -- every schedule with at most two preemptions -----------------------------------------------------------------


def pread(file: File) -> None:
    check(file.pread(PAGE_SIZE, 0), 0, 0)


def pread_many(file: File) -> None:
    check(file.pread(2 * PAGE_SIZE, 0), 0, 0)


def copy(file: File) -> None:
    memory = file._file.mapping.arena.memory
    copied = filemap.copy_if_uptodate(file._file, 0, PAGE_SIZE, lambda start, stop: memory[start:stop])
    check(copied[0] if copied else b"", 0, 0)


def view(file: File) -> None:
    with file.view(PAGE_SIZE, 0) as data:
        check(data, 0, 0)


def against_removal(read: Callable[[File], None]) -> Scenario:
    def scenario(scheduler: Scheduler) -> None:
        def remove() -> None:
            with world.zone.lock:
                removal.remove_runs(world.zone, [Run(mapping.arena, mapping.base, 2)], into=NOT_QUEUED)

        with World(scheduler) as world:
            file, _ = world.open(pages=2)
            mapping = file._file.mapping
            file.pread(2 * PAGE_SIZE, 0)
            scheduler.spawn("reader", lambda: read(file))
            scheduler.spawn("remove", remove)
            scheduler.run()

    scenario.__name__ = read.__name__
    return scenario


def while_it_is_shown(scheduler: Scheduler) -> None:
    """A view is looked at again after another thread has tried to remove what it shows."""

    def look() -> None:
        with file.view(PAGE_SIZE, 0) as data:
            scheduler.switch("with a view open")
            check(data, 0, 0)

    def remove() -> None:
        with world.zone.lock:
            removal.remove_runs(world.zone, [Run(mapping.arena, mapping.base, 1)], into=NOT_QUEUED)

    with World(scheduler) as world:
        file, _ = world.open()
        mapping = file._file.mapping
        file.pread(PAGE_SIZE, 0)
        scheduler.spawn("viewer", look)
        scheduler.spawn("remove", remove)
        scheduler.run()


def two_readers_of_a_missing_page(scheduler: Scheduler) -> None:
    with World(scheduler) as world:
        file, _ = world.open()
        scheduler.spawn("reader", lambda: pread(file))
        scheduler.spawn("other", lambda: pread(file))
        scheduler.run()


def shorter_and_read_again(scheduler: Scheduler) -> None:
    def resize() -> None:
        inode.resize(PAGE_SIZE // 2)
        pread(file)

    with World(scheduler) as world:
        inode, _ = world.inode()
        file = inode.open()
        scheduler.spawn("reader", lambda: pread(file))
        scheduler.spawn("truncate", resize)
        scheduler.run()


PREAD_MANY = against_removal(pread_many)
CAUGHT_BY: dict[Scenario, list[Order]] = {
    against_removal(pread): [PUNCH_FIRST, GENERATION_FIRST, GENERATION_LATE, NO_SECOND_LOOK],
    PREAD_MANY: [GENERATION_LATE, NO_SECOND_LOOK],
    against_removal(copy): [PUNCH_FIRST, GENERATION_FIRST, GENERATION_LATE, NO_SECOND_LOOK],
    while_it_is_shown: [PINS_FIRST, UPTODATE_BEFORE_PIN],
    two_readers_of_a_missing_page: [UPTODATE_FIRST],
    shorter_and_read_again: [SIZE_FIRST],
}


def explored(scenario: Scenario) -> Explored:
    # One is enough where another thread has to do a whole operation in between, and two would be tens of thousands.
    preemptions_max = 1 if scenario in (two_readers_of_a_missing_page, shorter_and_read_again) else 2
    return explore_all(scenario, preemptions_max=preemptions_max, preempt=steps())


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(scenario, id=scenario.__name__, marks=[pytest.mark.torture] if scenario is PREAD_MANY else [])
        for scenario in CAUGHT_BY
    ],
)
def test_the_right_order_passes_every_schedule(scenario: Scenario, request: pytest.FixtureRequest) -> None:
    note(request.node, "exhaustive", explored(scenario))


@pytest.mark.parametrize(
    ("scenario", "order"),
    [
        pytest.param(scenario, order, id=f"{scenario.__name__}, {order}")
        for scenario, orders in CAUGHT_BY.items()
        for order in orders
    ],
)
def test_some_schedule_catches_the_wrong_order(
    scenario: Scenario, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    order.install(monkeypatch)
    with pytest.raises(FailedSchedule) as failed:
        explored(scenario)
    assert isinstance(failed.value.__cause__, WrongPageError)


def test_every_wrong_order_is_caught() -> None:
    assert {order for orders in CAUGHT_BY.values() for order in orders} == set(WRONG_ORDERS)


# -- real threads ----------------------------------------------------------------------------------------------------

SEEDS = range(4)
READS = 1500


def shaken(seed: int) -> Plan:
    """A few hot pages, and pauses wherever the order matters."""
    return Plan(seed, READS, readers=2, window_pages=2, file_pages=(2,), failure_share=0.0, shaken=steps())


def test_real_threads_pass_with_the_right_order() -> None:
    result = Torture(shaken(SEEDS[0])).run()
    print(result)
    assert not result.wrong


@pytest.mark.parametrize("order", [order for order in WRONG_ORDERS if order is not SIZE_FIRST], ids=str)
def test_real_threads_catch_the_wrong_order(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    order.install(monkeypatch)
    for seed in SEEDS:
        result = Torture(shaken(seed)).run()
        print(result)
        if result.wrong:
            return
    pytest.fail(f"not caught with the seeds {list(SEEDS)}")
