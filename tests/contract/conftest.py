"""Every contract test runs twice: as in production, and with the contract asserted at run time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.contract.harness import Scene


@pytest.fixture(params=[False, True], ids=["plain", "debug"])
def debug(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def scene(debug: bool) -> Iterator[Scene]:
    with Scene(debug=debug) as scene:
        yield scene
