"""Every contract test runs twice: as in production, and with the contract asserted at run time.

A file with a fixture `mode` of its own runs also with operations that may block, which I/O workers call, and with
such as a reader calls himself who would only wait for them.
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
def scene(debug: bool, blocking: bool, mode: str) -> Iterator[Scene]:
    with Scene(debug=debug, blocking=blocking, readers_call=mode == "readers call") as scene:
        yield scene
