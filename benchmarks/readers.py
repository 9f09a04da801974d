"""One object behind a network, and the ways to read it, in order or at any place: the same loops for everybody.

Guarantees: a scan returns its seconds, from before the object is opened until after its last byte; what it reads
through is cold: a handle, and for pagein a cache, of its own.  Clients and their connections are kept and warm, as is
what pagein's process knows of a server (whether one connection is as fast as several, mm/known.py).
Not here: servers, and what is done with the bytes (a *take*: `len` throws them away).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter, thread_time
from typing import TYPE_CHECKING, Any, NamedTuple

import fsspec
import obstore
import timing
from fsspec.spec import AbstractFileSystem
from obstore.store import HTTPStore, ObjectStore
from workload import KIB, MIB

from pagein import PageCache
from pagein.stores.http_connections import client_for
from pagein.stores.http_options import HTTPOptions

if TYPE_CHECKING:
    from obstore import ReadableFile

READ_BYTES = 128 * KIB
CHUNK_BYTES = MIB
"""Of a streamed GET: the size at which it was fastest."""
READER_BUFFER_BYTES = 8 * MIB
"""Of obstore's reader.  Its own 1 MiB makes 64 requests of 64 MiB, one after the other."""
COMPUTE_S_A_MIB = 0.005
TURN_READS = 10
"""Some tenths of a second."""
PAGEIN, PAGEIN_ASIDE, STREAMED, RANGES = "pagein", "pagein, in a thread", "streamed GET", "ranges, no cache"
STREAMED_BY_OBSTORE = "streamed GET, obstore"

_OURS = client_for(HTTPOptions())
_OPEN = PageCache(MIB)
"""While a cache is open, connections are kept, as the other clients keep theirs."""

Take = Callable[[Any], object]
"""Called with each piece of an object, in order."""
Scan = Callable[["Remote", Take], float]
"""Reads all of an object; its seconds."""
Read = Callable[[int, int], Any]
"""*size* bytes from byte *offset* on."""
Open = Callable[["Remote"], AbstractContextManager[Read]]


class Remote(NamedTuple):
    """An object, as each client names it."""

    url: str
    options: Mapping[str, Any]
    """Of `pagein.open`."""
    store: ObjectStore
    key: str
    """In that store."""
    filesystem: AbstractFileSystem
    name: str
    """In that file system."""


def over_http(url: str) -> Remote:
    base_url, _, key = url.rpartition("/")
    # obstore has no way to be told whom to trust.
    store = HTTPStore.from_url(base_url, client_options={"allow_http": True, "allow_invalid_certificates": True})
    remote = Remote(url, {}, store, key, fsspec.filesystem("http", skip_instance_cache=True), url)
    connect(remote)
    return remote


def connect(remote: Remote) -> None:
    """Have every client make its connections, which it then keeps."""
    for read in (through_pagein, streamed, streamed_by_obstore, through_fsspec):
        read(remote, len)


# -- scans ---------------------------------------------------------------------------------------------------------


def in_order(open_file: Callable[[], AbstractContextManager[Any]], take: Take) -> float:
    """As a user would write it."""
    start = perf_counter()
    with open_file() as file:
        while data := file.read(READ_BYTES):
            take(data)
        return perf_counter() - start


def through_pagein(remote: Remote, take: Take) -> float:
    """In a cache of the default size."""
    with PageCache() as cache:
        return in_order(partial(cache.open, remote.url, **remote.options), take)


def through_pagein_aside(remote: Remote, take: Take) -> float:
    return timing.aside(partial(through_pagein, remote, take))


def streamed(remote: Remote, take: Take) -> float:
    """One GET of everything, by the client that pagein uses: what a pipe that is always full costs."""
    if not remote.url.startswith("http"):
        return streamed_by_obstore(remote, take)
    start = perf_counter()
    with _OURS.asked("GET", remote.url, {}) as answer, memoryview(bytearray(CHUNK_BYTES)) as chunk:
        while size_bytes := answer.readinto(chunk):
            take(chunk[:size_bytes])
    return perf_counter() - start


def streamed_by_obstore(remote: Remote, take: Take) -> float:
    start = perf_counter()
    for chunk in obstore.get(remote.store, remote.key).stream(min_chunk_size=CHUNK_BYTES):
        take(chunk)
    return perf_counter() - start


def through_obstore(remote: Remote, take: Take) -> float:
    def open_file() -> closing[ReadableFile]:
        return closing(obstore.open_reader(remote.store, remote.key, buffer_size=READER_BUFFER_BYTES))

    return in_order(open_file, take)


def through_fsspec(remote: Remote, take: Take, *, cache_type: str | None = None) -> float:
    """With the cache and the block size that are its defaults, or with another cache."""
    options = {} if cache_type is None else {"cache_type": cache_type}
    return in_order(partial(remote.filesystem.open, remote.name, **options), take)


def scans(*fsspec_caches: str) -> dict[str, Scan]:
    return {
        PAGEIN: through_pagein,
        PAGEIN_ASIDE: through_pagein_aside,
        STREAMED: streamed,
        "obstore reader": through_obstore,
        **{f"fsspec {kind}": partial(through_fsspec, cache_type=kind) for kind in fsspec_caches},
    }


# -- reads at any place ----------------------------------------------------------------------------------------------


@contextmanager
def pagein_reads(remote: Remote) -> Iterator[Read]:
    with PageCache() as cache, cache.open(remote.url, **remote.options) as file:
        yield file.pread


@contextmanager
def ranges(remote: Remote) -> Iterator[Read]:
    """One request a read, by the client that pagein uses."""
    if not remote.url.startswith("http"):
        yield lambda size, offset: obstore.get_range(remote.store, remote.key, start=offset, length=size)
        return

    def read(size: int, offset: int) -> bytes:
        with _OURS.asked("GET", remote.url, {"Range": f"bytes={offset}-{offset + size - 1}"}) as answer:
            return answer.read()

    yield read


@contextmanager
def fsspec_reads(remote: Remote, cache_type: str | None = None) -> Iterator[Read]:
    options = {} if cache_type is None else {"cache_type": cache_type}
    with remote.filesystem.open(remote.name, **options) as file:

        def read(size: int, offset: int) -> bytes:
            file.seek(offset)
            found: bytes = file.read(size)
            return found

        yield read


@contextmanager
def obstore_reads(remote: Remote) -> Iterator[Read]:
    """With the buffer that is its default."""
    with closing(obstore.open_reader(remote.store, remote.key)) as file:

        def read(size: int, offset: int) -> obstore.Bytes:
            file.seek(offset)
            return file.read(size)

        yield read


class Places(NamedTuple):
    """Where to read, and how much each time."""

    size_bytes: int
    offsets: list[int]

    @property
    def total_bytes(self) -> int:
        return self.size_bytes * len(self.offsets)


@dataclass
class Pass:
    """All places, read once."""

    read: Read
    seconds: float
    pieces: list[Any] = field(default_factory=list)

    def wrong_count(self, truth: bytes, places: Places) -> int:
        return sum(
            bytes(piece) != truth[offset : offset + places.size_bytes]
            for offset, piece in zip(places.offsets, self.pieces, strict=True)
        )


@contextmanager
def side_by_side(opens: Mapping[str, Open], remotes: Mapping[str, Remote], places: Places) -> Iterator[dict[str, Pass]]:
    """Have everybody read all places, some at a time by turns: what else the machine does hits all alike.

    The readers are open until the block ends.
    """
    with ExitStack() as stack:
        passes = {}
        for name, open_reader in opens.items():
            start = perf_counter()
            read = stack.enter_context(open_reader(remotes[name]))
            passes[name] = Pass(read, perf_counter() - start)
        for at in range(0, len(places.offsets), TURN_READS):
            for name in sorted(passes, reverse=bool(at // TURN_READS % 2)):
                _read_some(passes[name], places.size_bytes, places.offsets[at : at + TURN_READS])
        yield passes


def _read_some(one: Pass, size_bytes: int, offsets: list[int]) -> None:
    start = perf_counter()
    one.pieces += [one.read(size_bytes, offset) for offset in offsets]
    one.seconds += perf_counter() - start


# -- takes -----------------------------------------------------------------------------------------------------------


def compute(data: Any) -> None:
    """Use the processor for as long as the bytes are worth.

    Its own time counts, not the clock's: who takes the interpreter's lock or the core away makes the reader wait.
    """
    until_s = thread_time() + len(data) * (COMPUTE_S_A_MIB / MIB)
    while thread_time() < until_s:
        pass


def tolerated(name: str, wrong_reads: int) -> int:
    """The same number.  Raises: AssertionError if *name* is pagein, of which none is."""
    if wrong_reads and name.startswith(PAGEIN):
        raise AssertionError(f"{name}: {wrong_reads} reads were wrong")
    return wrong_reads


class Check:
    """Compares what it takes with the truth."""

    def __init__(self, truth: bytes) -> None:
        self._truth = truth
        self._at = 0
        self._wrong_count = 0

    def __call__(self, data: Any) -> None:
        stop = self._at + len(data)
        self._wrong_count += bytes(data) != self._truth[self._at : stop]
        self._at = stop

    def wrong_count(self) -> int:
        """Pieces that were wrong, and one more if the end was not reached."""
        return self._wrong_count + (self._at != len(self._truth))
