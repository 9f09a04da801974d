"""After every test of a store: no file left open, no thread left running."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from obstore.store import MemoryStore
from tests.stores import reading

from pagein.stores import http_connections
from pagein.testing.httpserver import RangeServer
from pagein.testing.httpserver.server import server_tls

JOIN_TIMEOUT_S = 10.0
KEPT_FOR_EVER = ("fsspecIO", "pagein-loop", "asyncio_")
"""Event loops: fsspec's and ours, each one for each process, started at first use, with threads for what blocks."""


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    files, threads = open_files(), set(threading.enumerate())
    yield
    while left := [one for one in set(threading.enumerate()) - threads if not one.name.startswith(KEPT_FOR_EVER)]:
        for thread in left:
            thread._started.wait(JOIN_TIMEOUT_S)  # type: ignore[attr-defined]  # one that is about to begin
            thread.join(JOIN_TIMEOUT_S)
            assert not thread.is_alive(), f"{thread} goes on after the test"
    deadline_s = time.monotonic() + JOIN_TIMEOUT_S
    while not open_files() <= files:
        # A cache's memory goes with the last object that shows it: an exception's traceback, or what a loop's thread
        # has done, and lets go of in a moment.  What obstore lets go of on a thread of its own, without the
        # interpreter's lock (the error of a fetch), goes as obstore is called the next time.
        MemoryStore()
        gc.collect()
        os.sched_yield()
        assert time.monotonic() < deadline_s or open_files() <= files


@pytest.fixture(params=[False, True], ids=["on the loop", "here"])
def fetches_here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of a fetch by obstore: on the loop, and by the thread that waits for it."""
    monkeypatch.setattr(reading, "fetches_here", request.param)


@pytest.fixture(params=["ours", "obstore on the loop", "obstore here"])
def each_client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whoever reads over HTTP; and both ways of a fetch by obstore."""
    client, _, where = request.param.partition(" ")
    monkeypatch.setattr(reading, "client", client)
    monkeypatch.setattr(reading, "fetches_here", where == "here")
    return str(client)


def open_files() -> set[tuple[str, str]]:
    """(descriptor, what it is) of all files.  Sockets are not among them: obstore keeps its connections for later."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:  # that of listdir() itself
            continue
        if target.startswith("/"):
            found.add((fd, target))
    return found


@pytest.fixture
def objects() -> dict[str, bytes]:
    """What `server` serves; a test changes it at will."""
    return {}


@pytest.fixture
def server(objects: dict[str, bytes]) -> Iterator[RangeServer]:
    with RangeServer(objects) as server:
        yield server


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> Iterator[http_connections._Pools]:
    """The connections of our own client, which nobody else has, and no proxy."""
    pools = http_connections._Pools()
    monkeypatch.setattr(http_connections, "_pools", pools)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    yield pools
    pools.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 with its key, and that of who has signed it."""
    authority, path = trustme.CA(), tmp_path_factory.mktemp("tls") / "certificate.pem"
    path.write_bytes(
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.bytes() + authority.cert_pem.bytes()
    )
    return path


@pytest.fixture
def tls_server(certificate: Path, objects: dict[str, bytes]) -> Iterator[RangeServer]:
    with RangeServer(objects, tls=server_tls(certificate)) as server:
        yield server


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    http_connections._tls.cache_clear()
    yield
    http_connections._tls.cache_clear()
