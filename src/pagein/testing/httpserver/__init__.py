"""A real HTTP/1.1 server with byte ranges, and with faults on demand, for tests, benchmarks and the demo.

    with RangeServer({"a.bin": data}, latency_s=0.01) as server:
        server.faults.set("a.bin", "truncate", times=1)
        ...                                               # read server.url("a.bin")
        assert server.stats().get_count == 2

RangeServer runs in threads of this process and can be told faults and holds; RangeServerProcess serves a
directory from a process of its own (also `python -m pagein.testing.httpserver DIR`), for benchmarks.
Assumes: standard library only. Not for the open Internet: it listens on 127.0.0.1.
"""

from .faults import KINDS as KINDS, Faults as Faults
from .process import RangeServerProcess as RangeServerProcess
from .server import RangeServer as RangeServer
from .stats import PathStats as PathStats, RequestRecord as RequestRecord, ServerStats as ServerStats
