"""The public testing kit: what pagein is tested with, for whoever builds on it.

Assumes: nothing beyond the standard library, but for `ContractSuite`, which is for pytest. Nothing in pagein except its
commands imports this package.
"""

from typing import TYPE_CHECKING, Any

from .durable import DurableStore as DurableStore
from .faulty import Fault as Fault, FaultyStore as FaultyStore, Held as Held
from .httpserver import RangeServer as RangeServer, RangeServerProcess as RangeServerProcess
from .link import Link as Link
from .simulated import SimulatedStore as SimulatedStore
from .virtual import VirtualClock as VirtualClock
from .wrapped import Request as Request

if TYPE_CHECKING:
    from .contract.suite import ContractSuite as ContractSuite


def __getattr__(name: str) -> Any:
    """What needs pytest is imported when it is named."""
    if name == "ContractSuite":
        from .contract.suite import ContractSuite

        return ContractSuite
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
