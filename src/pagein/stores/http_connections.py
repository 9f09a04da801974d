"""Connections to HTTP servers, kept for the next request: what is sent, and whose answer it is.

Guarantees: an answer's body is received straight into the memory that it is for; where the connection is plain, the
system fills all of it in one call, without a turn of the interpreter's lock for each packet.  A kept connection that
the server has closed is no error: what was asked on it is asked at once on a new one.  Redirects are followed,
`REDIRECTS_MAX` of them; what authorizes is sent to no other host, and nothing from https: to http:.  Proxies are those
of the environment (http_proxy, https_proxy, all_proxy, no_proxy).  A forked child uses no connection of its parent.
The last cache that is closed, and the end of the interpreter, close those that nobody uses.
Assumes: every request may be sent twice.
Not here: what an answer has to be (http.py); retries (policy.py).
"""

from __future__ import annotations

import atexit
import http.client
import io
import os
import select
import socket
import ssl
import struct
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from .http_options import basic_auth

if TYPE_CHECKING:
    from .http_options import HTTPOptions

IDLE_MAX = 64
"""Connections to one server kept though nobody uses them: as many as may be in use."""
IDLE_S = 60.0
"""One that was not used for so long is closed, when the next comes back."""
FRESH_S = 1.0
"""One that was used so lately is not looked at first, to save two turns of the interpreter's lock: should the server
have closed it all the same, the request says so."""
POOLS_MAX = 64
"""Servers of which connections are kept."""
REDIRECTS_MAX = 10
FIELDS_MAX, FIELD_BYTES_MAX = 100, 64 << 10
"""What the head of an answer may hold, as in http.client."""
DRAIN_BYTES_MAX = 64 << 10
"""So much of an answer that nobody wants is read, so that its connection can be kept; else it is closed."""

_BUFFER_BYTES = io.DEFAULT_BUFFER_SIZE
"""Through it come heads; whatever is longer is received into the memory that it is for."""
_WAITS_IN_SYSTEM = hasattr(socket, "MSG_WAITALL") and os.name == "posix"
_TEXT = "".join(map(chr, range(0x21, 0x7F)))
"""What a URL's path is sent with as it is written; all else is %-escaped."""
_AUTHORIZING = frozenset({"authorization", "cookie", "proxy-authorization"})
_PROXY_NAMES = [
    spelt for name in ("http", "https", "all", "no") for spelt in (f"{name}_proxy", f"{name}_proxy".upper())
]
_ENDS = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""What comes of asking on a connection that has ended."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class RedirectError(Exception):
    """A redirect that leads nowhere, or too far."""


class ProxyError(Exception):
    """A proxy in the environment that cannot be used."""


class Origin(NamedTuple):
    """A server, and the way to it."""

    scheme: str
    host: str
    port: int | None
    proxy: str
    """The URL of the proxy, or "" for none."""
    connect_timeout_s: float
    read_timeout_s: float


# -- one connection ----------------------------------------------------------------------------------


class _Receiver(io.RawIOBase):
    """A socket as a file to read from, which fills large buffers in one call, as far as the system can."""

    def __init__(self, sock: socket.socket, raw: Any) -> None:
        self._socket = sock
        self._raw = raw
        """What keeps the socket open until the answer was read."""
        self._waits_in_system = _WAITS_IN_SYSTEM and sock.gettimeout() is None
        self.deadline_s = float("inf")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if time.monotonic() > self.deadline_s:
            raise TimeoutError("the answer takes too long")
        waits_for_all = self._waits_in_system and len(buffer) > _BUFFER_BYTES
        try:
            return self._socket.recv_into(buffer, 0, socket.MSG_WAITALL if waits_for_all else 0)
        except BlockingIOError:  # SO_RCVTIMEO
            raise TimeoutError("timed out") from None

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer that is received into the memory which it is for."""

    fp: Any
    headers: Any
    msg: Any
    chunked: bool
    chunk_left: int | None
    length: int | None
    will_close: bool
    _method: str
    _read_status: Any
    _check_close: Any

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.receiver = _Receiver(sock, self.fp.detach())
        self.fp = io.BufferedReader(self.receiver, _BUFFER_BYTES)

    def begin(self) -> None:
        """Read the head.  As the base class does it, but without the parser for mail, which took as long as all the
        rest of a small object's answer."""
        if self.headers is not None:
            return
        status = 100
        while status == 100:
            version, status, reason = self._read_status()
            fields = _Fields()
            fields.read_from(self.fp)
        if not version.startswith(("HTTP/1.", "HTTP/0.9")):
            raise http.client.UnknownProtocol(version)
        self.version = 10 if version in ("HTTP/1.0", "HTTP/0.9") else 11
        self.code = self.status = status
        self.reason = reason.strip()
        self.headers = self.msg = fields
        self.chunked = fields.get("transfer-encoding", "").lower() == "chunked"
        self.chunk_left = None
        has_no_body = status in (204, 304) or 100 <= status < 200 or self._method == "HEAD"
        said = fields.get("content-length", "")
        self.length = 0 if has_no_body else int(said) if said.isdecimal() and not self.chunked else None
        self.will_close = self._check_close() or (self.length is None and not self.chunked)

    def getheader(self, name: str, default: Any = None) -> Any:
        """What the answer says; what it says twice, joined."""
        return self.headers.get(name.lower(), default)


class _Fields(dict[str, str]):
    """The fields of a head, by their names in small letters."""

    def read_from(self, file: Any) -> None:
        """Up to the empty line.  Raises: http.client.HTTPException."""
        name = ""
        for _ in range(FIELDS_MAX + 1):
            line: bytes = file.readline(FIELD_BYTES_MAX + 1)
            if len(line) > FIELD_BYTES_MAX:
                raise http.client.LineTooLong("header line")
            text = line.decode("latin-1")
            value = text.strip()
            if not value:
                return
            if text[0] in " \t" and name:  # a line that goes on
                self[name] = f"{self[name]} {value}"
                continue
            name, _, value = value.partition(":")
            name, value = name.rstrip().lower(), value.lstrip()
            self[name] = f"{self[name]}, {value}" if name in self else value
        raise http.client.HTTPException(f"more than {FIELDS_MAX} headers")


class _Connection(http.client.HTTPConnection):
    response_class = _Response
    read_timeout_s: float

    def connect(self) -> None:
        super().connect()
        _set_timeout(self.sock, self.read_timeout_s)


class _TLSConnection(http.client.HTTPSConnection):
    response_class = _Response
    read_timeout_s: float

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(self.read_timeout_s)  # a record at a time, whatever is asked for


def _set_timeout(sock: socket.socket, timeout_s: float) -> None:
    """Have the system itself bound each wait: a socket with a time-out of Python's cannot wait for all of a buffer."""
    if not _WAITS_IN_SYSTEM:
        sock.settimeout(timeout_s)
        return
    sock.settimeout(None)
    microseconds = max(1, round(timeout_s * 1e6))
    interval = struct.pack("@ll", *divmod(microseconds, 1_000_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, interval)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, interval)


@cache
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _make_connection(origin: Origin) -> http.client.HTTPConnection:
    host, port, proxy = origin.host, origin.port, urlsplit(origin.proxy)
    if proxy.hostname:
        host, port = proxy.hostname, proxy.port or 80
    made: _Connection | _TLSConnection
    if origin.scheme == "https":
        made = _TLSConnection(host, port, timeout=origin.connect_timeout_s, context=_tls())
    else:
        made = _Connection(host, port, timeout=origin.connect_timeout_s)
    made.read_timeout_s = origin.read_timeout_s
    if proxy.hostname and origin.scheme == "https":
        made.set_tunnel(origin.host, origin.port, headers=_proxy_headers(origin))
    return made


def _proxy_headers(origin: Origin) -> dict[str, str]:
    user_info = urlsplit(origin.proxy).netloc.rpartition("@")[0]
    return {"Proxy-Authorization": basic_auth(user_info)} if user_info else {}


def proxy_for(scheme: str, host: str) -> str:
    """The proxy that the environment names for a server, or "".  Raises: ProxyError."""
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    proxy = proxies.get(scheme) or proxies.get("all") or ""
    if not proxy or proxy_bypass(host):
        return ""
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    parts = urlsplit(proxy)
    if parts.scheme != "http" or not parts.hostname:
        raise ProxyError(f"the environment names a proxy of the kind {parts.scheme!r}: accepted is http:")
    return proxy


# -- connections that are kept -----------------------------------------------------------------------


class _Pool:
    """The connections to one server that nobody uses."""

    def __init__(self, origin: Origin, made: weakref.WeakSet[http.client.HTTPConnection]) -> None:
        self.origin = origin
        self._made = made
        self._idle: deque[tuple[http.client.HTTPConnection, float]] = deque()
        self._is_closed = False

    def take(self) -> http.client.HTTPConnection | None:
        """The one that was used last, if there is one of which nothing is known against it."""
        while True:
            try:
                connection, since_s = self._idle.pop()
            except IndexError:
                return None
            if time.monotonic() - since_s < FRESH_S or _is_quiet(connection):
                return connection
            connection.close()

    def make(self) -> http.client.HTTPConnection:
        made = _make_connection(self.origin)
        self._made.add(made)
        return made

    def give_back(self, connection: http.client.HTTPConnection) -> None:
        now_s = time.monotonic()
        self._idle.append((connection, now_s))
        while len(self._idle) > IDLE_MAX or self._is_closed or self._is_old(now_s):
            try:
                self._idle.popleft()[0].close()
            except IndexError:  # another was faster
                return

    def _is_old(self, now_s: float) -> bool:
        try:
            return now_s - self._idle[0][1] > IDLE_S
        except IndexError:
            return False

    def close(self) -> None:
        """Close what nobody uses, now; and what somebody does, when he gives it back."""
        self._is_closed = True
        with suppress(IndexError):
            while True:
                self._idle.pop()[0].close()


def _is_quiet(connection: http.client.HTTPConnection) -> bool:
    """Whether a connection has nothing to say: nobody has asked, so it could only be that it has ended."""
    if connection.sock is None:
        return False
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return not poll.poll(0)


class _Pools:
    """Those of this process.  No lock: each step is one of a dictionary or a deque."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._pools: OrderedDict[Origin, _Pool] = OrderedDict()
        self._made: weakref.WeakSet[http.client.HTTPConnection] = weakref.WeakSet()

    def pool(self, origin: Origin) -> _Pool:
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools.setdefault(origin, _Pool(origin, self._made))
            while len(self._pools) > POOLS_MAX:
                with suppress(KeyError):
                    self._pools.popitem(last=False)[1].close()
        return pool

    def close(self) -> None:
        """Those that nobody uses, now; the others, when they are given back.  Whoever asks then has new ones."""
        with suppress(KeyError):
            while True:
                self._pools.popitem()[1].close()

    def after_fork(self) -> None:
        """In a child: to use what is the parent's would mix up his answers.  (To close it here ends nothing there.)"""
        for connection in list(self._made):
            if connection.sock is not None:
                os.close(connection.sock.detach())
        self._begin()


_pools = _Pools()
atexit.register(_pools.close)
os.register_at_fork(after_in_child=_pools.after_fork)


def close_idle() -> None:
    """Close the connections that nobody uses."""
    _pools.close()


# -- a request ---------------------------------------------------------------------------------------


class Client:
    """Asks servers, with one set of options."""

    def __init__(self, options: HTTPOptions) -> None:
        self.options = options
        self._origins: dict[tuple[str, str], Origin] = {}

    @contextmanager
    def asked(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        meanwhile: Callable[[], object] | None = None,
    ) -> Iterator[_Response]:
        """The answer, after redirects.  *meanwhile* is called while it is on its way.

        Raises: OSError, http.client.HTTPException, RedirectError, ProxyError.
        """
        deadline_s = time.monotonic() + self.options.request_timeout_s
        sent = {"User-Agent": "pagein"} | dict(self.options.headers) | dict(headers)
        first = here = urlsplit(url)
        for _ in range(REDIRECTS_MAX + 1):
            pool = _pools.pool(self._origin(here))
            connection, response = _answered(pool, method, here, sent, meanwhile)
            response.receiver.deadline_s = deadline_s
            location = response.getheader("Location") if response.status in _REDIRECTS else None
            try:
                if location is None and response.status < 300:
                    yield response
                    return
                _drain(response)
                if location is None:
                    yield response
                    return
            finally:
                _done_with(pool, connection, response)
            meanwhile = None
            here = _redirected(here, location)
            if (here.scheme, here.netloc) != (first.scheme, first.netloc):
                sent = {name: value for name, value in sent.items() if name.lower() not in _AUTHORIZING}
        raise RedirectError(f"more than {REDIRECTS_MAX} redirects")

    def _origin(self, parts: SplitResult) -> Origin:
        """Looked up once: should the environment name another proxy, who opens something has another client."""
        origin = self._origins.get(parts[:2])
        if origin is None:
            assert parts.hostname is not None
            waits = self.options.connect_timeout_s, self.options.read_timeout_s
            origin = Origin(parts.scheme, parts.hostname, parts.port, proxy_for(parts.scheme, parts.netloc), *waits)
            if len(self._origins) >= POOLS_MAX:
                self._origins.clear()
            self._origins[parts[:2]] = origin
        return origin


@lru_cache(maxsize=POOLS_MAX)
def _client(options: HTTPOptions, proxies: tuple[str | None, ...]) -> Client:
    return Client(options)


def client_for(options: HTTPOptions) -> Client:
    """The one of all who ask with these options while the environment names these proxies."""
    return _client(options, tuple(map(os.environ.get, _PROXY_NAMES)))


def _answered(
    pool: _Pool, method: str, parts: SplitResult, headers: Mapping[str, str], meanwhile: Callable[[], object] | None
) -> tuple[http.client.HTTPConnection, _Response]:
    """Ask on a connection that is kept, and if it proves dead on a new one."""
    target = quote(parts.path or "/", safe=_TEXT) + (f"?{quote(parts.query, safe=_TEXT)}" if parts.query else "")
    if pool.origin.proxy and pool.origin.scheme == "http":
        target = f"http://{parts.netloc}{target}"
        headers = _proxy_headers(pool.origin) | dict(headers)
    kept = pool.take()
    if kept is not None:
        try:
            return kept, _ask(kept, method, target, headers, meanwhile)
        except _ENDS:
            pass  # it was closed before the request came
    made = pool.make()
    return made, _ask(made, method, target, headers, meanwhile)


def _ask(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    headers: Mapping[str, str],
    meanwhile: Callable[[], object] | None,
) -> _Response:
    try:
        connection.request(method, target, headers=dict(headers))
        if meanwhile is not None:
            meanwhile()
        response = connection.getresponse()
    except BaseException as error:
        connection.close()
        if isinstance(error, BlockingIOError):  # SO_SNDTIMEO
            raise TimeoutError("timed out") from error
        raise
    assert isinstance(response, _Response)
    return response


def _redirected(here: SplitResult, location: str) -> SplitResult:
    """Where a redirect leads.  Raises: RedirectError."""
    try:
        there = urlsplit(urljoin(here.geturl(), location))
        if there.scheme not in ("http", "https") or not there.hostname or there.port == 0:
            raise ValueError("it is no http(s): URL")
    except ValueError as error:
        raise RedirectError(f"a redirect cannot be followed: {error}") from error
    if there.scheme == "http" and here.scheme == "https":
        raise RedirectError("a redirect from https: to http: is not followed")
    netloc = there.netloc.rpartition("@")[2]
    return there._replace(netloc=netloc, fragment="")


def _drain(response: _Response) -> None:
    """Read a little that nobody wants, so that the connection can be kept."""
    if not response.isclosed() and response.length is not None and response.length <= DRAIN_BYTES_MAX:
        with suppress(OSError, http.client.HTTPException):
            response.read()


def _done_with(pool: _Pool, connection: http.client.HTTPConnection, response: _Response) -> None:
    """Keep the connection, if all of the answer has come."""
    is_clean = (response.isclosed() or response.length == 0) and connection.sock is not None
    response.close()
    if is_clean:
        pool.give_back(connection)
    else:
        connection.close()
