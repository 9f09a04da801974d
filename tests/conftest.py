"""What holds for every test: hypothesis without a deadline, no settings but the test's own, a cache at rest when the
test is over, and scenarios that are run under many schedules."""

from __future__ import annotations

import gc
import os
import sys
import threading
import weakref
from collections.abc import Iterator

import pytest
from hypothesis import settings
from tests.explored import (
    _scheduler as _scheduler,
    pytest_pyfunc_call as pytest_pyfunc_call,
    pytest_sessionfinish as pytest_sessionfinish,
    pytest_terminal_summary as pytest_terminal_summary,
)

from pagein.mm import known, rest, zone
from pagein.mm.sync import HERE, SOMEBODY
from pagein.testing.leaks import assert_nothing_left
from pagein.testing.schedule import Scheduler

settings.register_profile("pagein", deadline=None)  # a busy machine is not a failure
settings.load_profile("pagein")

os.environ["PAGEIN_CONFIG"] = os.devnull  # of this process and its children: what a developer has in his home stays out

SETTLE_S = 3.0  # for reads in the background; a page that is still locked then has been forgotten


LONG = "tests/torture/", "tests/writing/"
"""Here are the tests that take longest.  They begin first, lest one of them is left to run alone at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


def pytest_collection_finish() -> None:
    """What was collected stays to the end: no collection of garbage, and many tests make some, looks at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def first_bytes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is opened brings its first bytes and no more, as from a store of whose files nobody reads on: what lies
    behind them is asked for by requests, which a test can count, and have fail."""
    monkeypatch.setattr(known, "READ_ON_START", 0)


@pytest.fixture(autouse=True)
def nothing_left_behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is locked, waiting, pinned or reserved in any cache that the test has made and that still exists.

    A module whose tests leave something behind on purpose overrides this fixture, and says why.
    """
    known._known.clear()  # of another server on the same port
    monkeypatch.setattr(rest, "REST_S", 30.0)  # however slow the machine is
    made: weakref.WeakSet[zone.Zone] = weakref.WeakSet()
    make = zone.Zone.__init__

    def noted(self: zone.Zone, *args: object, **kwargs: object) -> None:
        make(self, *args, **kwargs)  # type: ignore[arg-type]
        made.add(self)

    monkeypatch.setattr(zone.Zone, "__init__", noted)
    yield
    # A trace function that raises can bring that about; every later exception would keep this one's frames alive.
    assert sys.exc_info()[1] is None, "the thread still handles an exception"
    assert (HERE.depth, HERE.calling) == (0, ()), "the thread takes itself for a finalizer's"
    assert threading.get_ident() not in SOMEBODY
    for one in list(made):
        if not isinstance(one.door, Scheduler):  # whose threads stop where its schedule ends
            _check(one)


def _check(one: zone.Zone) -> None:
    """In a thread, because a lock that was left locked would let it hang."""
    failures: list[BaseException] = []

    def check() -> None:
        try:
            assert_nothing_left(one, settle_s=SETTLE_S)
        except BaseException as error:  # raised below, where pytest sees it
            failures.append(error)

    thread = threading.Thread(target=check, daemon=True)
    thread.start()
    thread.join(2 * SETTLE_S)
    assert not thread.is_alive(), "the cache's own lock was left locked"
    if failures:
        raise failures[0]
