"""Connections to HTTP servers, kept for the next request: what is sent, and whose answer it is.

Guarantees: a kept connection that the server has closed is no error: what was asked on it is asked at once on a new
one.  So is what was asked on one that says nothing until the time is over: a firewall, or who translates addresses, may
have forgotten the way, and then also that of all that were kept as long, which are given up.  One on which more has
come than its answer said is not used again.  Redirects are followed, `REDIRECTS_MAX` of them; of the headers that the
user has given, any of which may authorize, only User-Agent and Accept* are sent to another host or port, and nothing
from https: to http:.  Proxies are those of the environment (http_proxy, https_proxy,
all_proxy, no_proxy).  A forked child uses no connection of its parent.
The last cache that is closed, and the end of the interpreter, close those that nobody uses.
Assumes: every request may be sent twice.
Not here: reading an answer (http_answer.py); what one has to be (http_asking.py); retries (policy.py).
"""

from __future__ import annotations

import atexit
import http.client
import math
import os
import re
import select
import socket
import ssl
import struct
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from .http_answer import WAITS_IN_SYSTEM, Response, SilenceError
from .http_options import basic_auth

if TYPE_CHECKING:
    from .http_options import HTTPOptions

IDLE_MAX = 64
"""Connections to one server kept though nobody uses them: as many as may be in use."""
IDLE_S = 60.0
"""One that was not used for so long is closed: when the next comes back, or when it would be used again."""
FRESH_S = 1.0
"""One that was used so lately is not looked at first, to save two turns of the interpreter's lock: should the server
have closed it all the same, the request says so."""
POOLS_MAX = 64
"""Servers of which connections are kept."""
REDIRECTS_MAX = 10
DRAIN_BYTES_MAX = 64 << 10
"""So much of an answer that nobody wants is read, so that its connection can be kept; else it is closed."""

_TEXT = "".join(map(chr, range(0x21, 0x7F)))
"""What a URL's path is sent with as it is written; all else is %-escaped."""
_is_text = re.compile("[!-~]*").fullmatch
_PROXY_NAMES = [
    spelt for name in ("http", "https", "all", "no") for spelt in (f"{name}_proxy".upper(), f"{name}_proxy")
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


class _Connection(http.client.HTTPConnection):
    read_timeout_s: float

    def connect(self) -> None:
        super().connect()
        _set_timeout(self.sock, self.read_timeout_s)


class _TLSConnection(http.client.HTTPSConnection):
    read_timeout_s: float

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(self.read_timeout_s)  # a record at a time, whatever is asked for


def _set_timeout(sock: socket.socket, timeout_s: float) -> None:
    """Have the system itself bound each wait: a socket with a time-out of Python's cannot wait for all of a buffer."""
    if not WAITS_IN_SYSTEM:
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
    # Never None: http.client would take the last group of an IPv6 address for the port.
    own_port = origin.port or (443 if origin.scheme == "https" else 80)
    host, port, proxy = origin.host, own_port, urlsplit(origin.proxy)
    if proxy.hostname:
        host, port = proxy.hostname, proxy.port or 80
    made: _Connection | _TLSConnection
    if origin.scheme == "https":
        made = _TLSConnection(host, port, timeout=origin.connect_timeout_s, context=_tls())
    else:
        made = _Connection(host, port, timeout=origin.connect_timeout_s)
    made.read_timeout_s = origin.read_timeout_s
    if proxy.hostname and origin.scheme == "https":
        made.set_tunnel(origin.host, own_port, headers=_proxy_headers(origin))
    return made


def _proxy_headers(origin: Origin) -> dict[str, str]:
    user_info = urlsplit(origin.proxy).netloc.rpartition("@")[0]
    return {"Proxy-Authorization": basic_auth(user_info)} if user_info else {}


def _proxies(said: Iterable[str | None]) -> dict[str, str]:
    """What the environment has *said* by the names of `_PROXY_NAMES`: the small ones count, also if they are empty."""
    found: dict[str, str] = {}
    for name, value in zip(_PROXY_NAMES, said, strict=True):
        # A CGI script has there what its client has sent as the header Proxy.
        if value is not None and not (name == "HTTP_PROXY" and "REQUEST_METHOD" in os.environ):
            found[name.lower().removesuffix("_proxy")] = value
    return found


def proxy_for(scheme: str, host: str, proxies: Mapping[str, str]) -> str:
    """The one of *proxies* for a server, or "".  Raises: ProxyError."""
    proxy = proxies.get(scheme) or proxies.get("all") or ""
    if not proxy:
        return ""
    from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # a slow import

    if proxy_bypass_environment(host, dict(proxies)):
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
            idle_s = time.monotonic() - since_s
            if idle_s < FRESH_S or (idle_s <= IDLE_S and _is_quiet(connection)):
                return connection
            connection.close()

    def make(self) -> http.client.HTTPConnection:
        made = _make_connection(self.origin)
        self._made.add(made)
        return made

    def give_back(self, connection: http.client.HTTPConnection, *, may_be_taken_blindly: bool) -> None:
        now_s = time.monotonic()
        self._idle.append((connection, now_s if may_be_taken_blindly else now_s - FRESH_S))
        while len(self._idle) > IDLE_MAX or self._is_closed or self._oldest_since_s() < now_s - IDLE_S:
            if not self._close_oldest():
                return

    def give_up(self, before_s: float) -> None:
        """Close those that were not used since then.  (Should another take the oldest right after the look, a newer one
        is closed: that costs a connection.)"""
        while self._oldest_since_s() < before_s and self._close_oldest():
            pass

    def _oldest_since_s(self) -> float:
        try:
            return self._idle[0][1]
        except IndexError:
            return math.inf

    def _close_oldest(self) -> bool:
        try:
            self._idle.popleft()[0].close()
        except IndexError:  # another was faster
            return False
        return True

    def close(self) -> None:
        """Close what nobody uses, now; and what somebody does, when he gives it back."""
        self._is_closed = True
        with suppress(IndexError):
            while True:
                self._idle.pop()[0].close()


def _is_quiet(connection: http.client.HTTPConnection) -> bool:
    """Whether a connection has nothing to say: nobody has asked, so it could only be that it has ended."""
    if connection.sock is None or (isinstance(connection.sock, ssl.SSLSocket) and connection.sock.pending()):
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
        """In a child: to use what is the parent's would mix up his answers.  (To close it here ends nothing there.)

        First of all it is not used any more: whatever goes wrong after that, it is no more than a descriptor.
        """
        made = list(self._made)
        self._begin()
        for connection in made:
            # A thread of the parent may be in a TLS handshake: then `wrap_socket` has taken the descriptor out.
            if connection.sock is not None and (fd := connection.sock.detach()) >= 0:
                with suppress(OSError):
                    os.close(fd)


_pools = _Pools()
atexit.register(_pools.close)
os.register_at_fork(after_in_child=_pools.after_fork)


def close_idle() -> None:
    """Close the connections that nobody uses."""
    _pools.close()


# -- a request ---------------------------------------------------------------------------------------


class Client:
    """Asks servers, with one set of options."""

    def __init__(self, options: HTTPOptions, proxies: Mapping[str, str]) -> None:
        self.options = options
        self._proxies = proxies
        self._sent = dict(options.headers)
        if not any(name.lower() == "user-agent" for name in self._sent):
            self._sent["User-Agent"] = "pagein"
        self._sent_elsewhere = {name: value for name, value in self._sent.items() if _is_for_any_host(name)}
        self._origins: dict[tuple[str, str], Origin] = {}

    @contextmanager
    def asked(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        *,
        meanwhile: Callable[[], object] | None = None,
    ) -> Iterator[Response]:
        """The answer, after redirects.  *meanwhile* is called while it is on its way.

        Raises: OSError, http.client.HTTPException, RedirectError, ProxyError.
        """
        deadline_s = time.monotonic() + self.options.request_timeout_s
        sent = self._sent | headers
        first = here = urlsplit(url)
        for _ in range(REDIRECTS_MAX + 1):
            pool = _pools.pool(self._origin(here))
            connection, response = _answered(pool, method, here, sent, meanwhile, deadline_s=deadline_s)
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
                sent = self._sent_elsewhere | headers  # also when it leads back
        raise RedirectError(f"more than {REDIRECTS_MAX} redirects")

    def _origin(self, parts: SplitResult) -> Origin:
        """Looked up once."""
        origin = self._origins.get(parts[:2])
        if origin is None:
            assert parts.hostname is not None
            # No single wait is longer than the whole may be, which is looked at before each.
            whole_s = self.options.request_timeout_s
            waits = min(self.options.connect_timeout_s, whole_s), min(self.options.read_timeout_s, whole_s)
            proxy = proxy_for(parts.scheme, parts.netloc, self._proxies)
            origin = Origin(parts.scheme, parts.hostname, parts.port, proxy, *waits)
            if len(self._origins) >= POOLS_MAX:
                self._origins.clear()
            self._origins[parts[:2]] = origin
        return origin


def _is_for_any_host(name: str) -> bool:
    """Whether a header is none that may authorize, under whatever name."""
    return name.lower() == "user-agent" or name.lower().startswith("accept")


@lru_cache(maxsize=POOLS_MAX)
def _client(options: HTTPOptions, said: tuple[str | None, ...]) -> Client:
    return Client(options, _proxies(said))


def client_for(options: HTTPOptions) -> Client:
    """The one of all who ask with these options while the environment names these proxies."""
    return _client(options, tuple(map(os.environ.get, _PROXY_NAMES)))


def _answered(
    pool: _Pool,
    method: str,
    parts: SplitResult,
    headers: Mapping[str, str],
    meanwhile: Callable[[], object] | None,
    *,
    deadline_s: float,
) -> tuple[http.client.HTTPConnection, Response]:
    """Ask on a connection that is kept, and if it proves dead, or says nothing, on a new one."""
    target = _quoted(parts.path or "/") + (f"?{_quoted(parts.query)}" if parts.query else "")
    if pool.origin.proxy and pool.origin.scheme == "http":
        target = f"http://{parts.netloc}{target}"
        headers = _proxy_headers(pool.origin) | dict(headers)
    asked_s, kept = time.monotonic(), pool.take()
    if kept is not None:
        try:
            return kept, _ask(kept, method, target, headers, meanwhile, deadline_s=deadline_s)
        except _ENDS:
            pass  # it was closed before the request came
        except SilenceError:
            if time.monotonic() >= deadline_s:
                raise
            pool.give_up(asked_s)  # else the next try would have one of them, and wait as long
            meanwhile = None
    made = pool.make()
    return made, _ask(made, method, target, headers, meanwhile, deadline_s=deadline_s)


def _ask(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    headers: Mapping[str, str],
    meanwhile: Callable[[], object] | None,
    *,
    deadline_s: float,
) -> Response:
    connection.response_class = partial(Response, deadline_s=deadline_s)  # type: ignore[assignment]
    try:
        connection.request(method, target, headers=headers)
        if meanwhile is not None:
            meanwhile()
        response = connection.getresponse()
    except BaseException as error:
        connection.close()
        if isinstance(error, BlockingIOError):  # SO_SNDTIMEO
            raise TimeoutError("timed out") from error
        if isinstance(error, UnicodeError):
            raise socket.gaierror(socket.EAI_NONAME, f"no host can have this name: {error}") from error
        raise
    assert isinstance(response, Response)
    return response


def _quoted(text: str, encoding: str = "utf-8") -> str:
    return text if _is_text(text) else quote(text, safe=_TEXT, encoding=encoding)


def _redirected(here: SplitResult, location: str) -> SplitResult:
    """Where a redirect leads.  Raises: RedirectError."""
    try:
        there = urlsplit(urljoin(here.geturl(), _quoted(location, "latin-1")))  # the bytes that have come
        if there.scheme not in ("http", "https") or not there.hostname or there.port == 0:
            raise ValueError("it is no http(s): URL")
    except ValueError as error:
        raise RedirectError(f"a redirect cannot be followed: {error}") from error
    if there.scheme == "http" and here.scheme == "https":
        raise RedirectError("a redirect from https: to http: is not followed")
    netloc = there.netloc.rpartition("@")[2]
    return there._replace(netloc=netloc, fragment="")


def _drain(response: Response) -> None:
    """Read a little that nobody wants, so that the connection can be kept."""
    if not response.isclosed() and response.length is not None and response.length <= DRAIN_BYTES_MAX:
        with suppress(OSError, http.client.HTTPException):
            response.read()


def _done_with(pool: _Pool, connection: http.client.HTTPConnection, response: Response) -> None:
    """Keep the connection, if all of the answer has come, and nothing else."""
    response.close()
    if response.length == 0 and not response.has_rest and connection.sock is not None:
        # A body that was not to be may come all the same, a moment later.
        pool.give_back(connection, may_be_taken_blindly=response.expects_body)
    else:
        connection.close()
