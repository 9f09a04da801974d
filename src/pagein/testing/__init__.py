"""The public testing kit: what pagein is tested with, for whoever builds on it.

Assumes: nothing beyond the standard library. Nothing in pagein except its commands imports this package.
"""

from .durable import DurableStore as DurableStore
from .faulty import Fault as Fault, FaultyStore as FaultyStore, Held as Held
from .httpserver import RangeServer as RangeServer, RangeServerProcess as RangeServerProcess
from .link import Link as Link
from .simulated import SimulatedStore as SimulatedStore
from .virtual import VirtualClock as VirtualClock
from .wrapped import Request as Request
