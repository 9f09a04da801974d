"""The public testing kit: what pagein is tested with, for whoever builds on it.

Assumes: nothing beyond the standard library. Nothing in pagein except its commands imports this package.
"""

from .httpserver import RangeServer as RangeServer, RangeServerProcess as RangeServerProcess
