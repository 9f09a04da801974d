"""Stores that answer later, and stores that block."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.contract.harness import Scene, Subject
from tests.device.harness import ask, assert_line_is_empty

from pagein.mm import pipe
from pagein.testing.stores import (
    run_started,
    started,
)


@pytest.fixture(autouse=True)
def no_store_is_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a busy machine takes to answer, which is what the pipe goes by: there are as many requests as of one
    that is near."""
    monkeypatch.setattr(pipe, "WIDTH_FILLING", pipe.WIDTH_START)


@pytest.fixture(params=[False, True], ids=["starts", "blocks"])
def blocking(request: pytest.FixtureRequest) -> bool:
    """Whether operations may block, and so are called by I/O workers."""
    return bool(request.param)


@pytest.fixture
def scene(blocking: bool) -> Iterator[Scene]:
    with Scene(debug=False, blocking=blocking) as scene:
        yield scene


@pytest.fixture
def blocking_scene() -> Iterator[Scene]:
    with Scene(debug=False, blocking=True) as scene:
        yield scene


@pytest.fixture
def one_at_a_time() -> Iterator[Subject]:
    """A file of 64 pages whose store starts one read at a time, of page 0, which nobody waits for; the test ends it."""
    with Scene(debug=True) as scene:
        subject = scene.open(default=started, runs=[run_started] * 64, page_count=64, requests_max=1)
        ask(subject, 0)
        yield subject
        assert_line_is_empty(subject)
