"""The client of the server's tests: http.client, one connection or one request at a time."""

from __future__ import annotations

import http.client
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from urllib.parse import quote, urlsplit

from pagein.testing.httpserver import RangeServer, RangeServerProcess

TIMEOUT_S = 30.0  # of a client that waits for a server that should have answered: the test has failed


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Message
    body: bytes


def random_bytes(size_bytes: int, *, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size_bytes)


@contextmanager
def connected(server: RangeServer | RangeServerProcess) -> Iterator[http.client.HTTPConnection]:
    netloc = urlsplit(server.base_url).netloc
    connection = http.client.HTTPConnection(netloc, timeout=TIMEOUT_S)
    try:
        yield connection
    finally:
        connection.close()


def exchange(connection: http.client.HTTPConnection, target: str, *, method: str = "GET", **headers: str) -> Reply:
    """One request; `if_match="…"` becomes If-Match."""
    named = {name.replace("_", "-").title(): value for name, value in headers.items()}
    connection.request(method, target, headers=named)
    response = connection.getresponse()
    with response:
        return Reply(response.status, response.headers, response.read())


def ask(server: RangeServer | RangeServerProcess, name: str, *, method: str = "GET", **headers: str) -> Reply:
    """One request on a connection of its own."""
    with connected(server) as connection:
        return exchange(connection, "/" + quote(name), method=method, **headers)
