"""`python -m pagein.testing.httpserver DIR`: serve a directory with byte ranges until standard input ends.

Prints its URL as the only line on standard output, as soon as it listens. Ctrl-C ends it too.
Statistics: GET /-/stats answers them as JSON (the fields of ServerStats), POST /-/reset begins them anew.
"""

import argparse
import os
import select
import sys
from collections.abc import Sequence
from contextlib import suppress

from .server import RangeServer, server_tls


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pagein.testing.httpserver",
        description="Serve the files of a directory over HTTP/1.1 with byte ranges, on 127.0.0.1, until "
        "standard input ends. Statistics: GET /-/stats, POST /-/reset.",
    )
    parser.add_argument("directory", metavar="DIR", help="the files below it are the objects")
    parser.add_argument("--port", type=int, default=0, help="0, the default: any free port")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="wait before every answer")
    parser.add_argument("--bandwidth-bytes-s", type=float, help="limit of each answer's body")
    parser.add_argument("--certificate", metavar="FILE", help="speak https: a PEM file with a certificate and its key")
    return parser


def _wait_for_end_of(parent_pid: int) -> None:
    """Blocks: until standard input or the parent has ended."""
    watched: list[int] = [sys.stdin.fileno()]
    # A sibling forked from the parent may hold our pipe open for longer than the parent lives.
    if hasattr(os, "pidfd_open"):
        with suppress(OSError):  # an old kernel, or a sandbox without it
            watched.append(os.pidfd_open(parent_pid))
    while True:
        readable, _, _ = select.select(watched, [], [])
        if readable != watched[:1] or not os.read(watched[0], 4096):
            return


def main(arguments: Sequence[str] | None = None) -> int:
    """Raises: SystemExit with status 2 for arguments that cannot be used."""
    parent_pid = os.getppid()
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        server = RangeServer(
            options.directory,
            latency_s=options.latency_ms / 1000,
            bandwidth_bytes_s=options.bandwidth_bytes_s,
            port=options.port,
            tls=None if options.certificate is None else server_tls(options.certificate),
        )
        server.start()
    except (OSError, ValueError, OverflowError) as error:
        parser.error(str(error))
    try:
        print(server.base_url, flush=True)
        _wait_for_end_of(parent_pid)
    except KeyboardInterrupt:
        pass
    finally:
        server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
