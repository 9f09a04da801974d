"""Every contract test runs twice: as in production, and with the contract asserted at run time.

A file with a fixture `mode` of its own runs also with operations that may block, which I/O workers call.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.contract.harness import Scene

MODES = ["plain", "debug"]


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def debug(mode: str) -> bool:
    return mode == "debug"


@pytest.fixture
def blocking(mode: str) -> bool:
    return mode == "blocking"


@pytest.fixture
def scene(debug: bool, blocking: bool) -> Iterator[Scene]:
    with Scene(debug=debug, blocking=blocking) as scene:
        yield scene
