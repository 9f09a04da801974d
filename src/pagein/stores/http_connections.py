"""Connections to HTTP servers, kept for the next request: what is sent, and whose answer it is.

Guarantees: an answer's body is received straight into the memory that it is for; where the connection is plain, the
system fills all of it in one call, without a turn of the interpreter's lock for each packet.  A kept connection that
the server has closed is no error: what was asked on it is asked at once on a new one.  Redirects are followed,
`REDIRECTS_MAX` of them; what authorizes is sent to no other host, and nothing from https: to http:.  Proxies are those
of the environment (http_proxy, https_proxy, all_proxy, no_proxy).  A forked child uses no connection of its parent.
A head that can be read in two ways is refused, or says nothing of the body's length; a connection on which more has
come than its answer said is not used again.
The last cache that is closed, and the end of the interpreter, close those that nobody uses.
Assumes: every request may be sent twice.
Not here: what an answer has to be (http.py); retries (policy.py).
"""

from __future__ import annotations

import atexit
import http.client
import io
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
INTERIM_MAX = 10
"""Heads with a status below 200 that may come before the answer's."""
DIGITS_MAX = 18
"""Of a size that an answer tells: what is longer is beyond any object, or no number for Python."""
DRAIN_BYTES_MAX = 64 << 10
"""So much of an answer that nobody wants is read, so that its connection can be kept; else it is closed."""

_BUFFER_BYTES = io.DEFAULT_BUFFER_SIZE
"""Through it come heads; whatever is longer is received into the memory that it is for."""
_WAITS_IN_SYSTEM = hasattr(socket, "MSG_WAITALL") and os.name == "posix"
_TEXT = "".join(map(chr, range(0x21, 0x7F)))
"""What a URL's path is sent with as it is written; all else is %-escaped."""
_is_text = re.compile("[!-~]*").fullmatch
_AUTHORIZING = frozenset({"authorization", "cookie", "proxy-authorization"})
_PROXY_NAMES = [
    spelt for name in ("http", "https", "all", "no") for spelt in (f"{name}_proxy".upper(), f"{name}_proxy")
]
_ENDS = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""What comes of asking on a connection that has ended."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEAD_ENDS = frozenset({b"\r\n", b"\n"})


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

    def __init__(self, sock: socket.socket, raw: Any, deadline_s: float) -> None:
        self._socket = sock
        self._raw = raw
        """What keeps the socket open until the answer was read."""
        self._waits_in_system = _WAITS_IN_SYSTEM and sock.gettimeout() is None
        self._deadline_s = deadline_s
        self.has_ended = False
        """Nothing more is read."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.has_ended:
            return 0
        if time.monotonic() > self._deadline_s:
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
    """How much of the body is still to come; None if the answer does not say so."""
    body_bytes: int | None
    """What the head says of it, also where none comes, as after HEAD."""
    will_close: bool
    _method: str
    _read_status: Any
    _check_close: Any

    def __init__(self, sock: socket.socket, *args: Any, deadline_s: float, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self._receiver = _Receiver(sock, self.fp.detach(), deadline_s)
        self.fp = io.BufferedReader(self._receiver, _BUFFER_BYTES)
        self.has_rest = False
        """Whether more has come than the answer said, once it is closed."""

    def begin(self) -> None:
        """Read the head.  As the base class does it, but without the parser for mail, which took as long as all the
        rest of a small object's answer."""
        if self.headers is not None:
            return
        for _ in range(INTERIM_MAX + 1):
            version, status, reason = self._read_status()
            fields = _Fields()
            fields.read_from(self.fp)
            if status >= 200 or status == 101:
                break
        if status < 200:  # 101 is for who has asked for another protocol
            raise http.client.HTTPException(f"no answer after the status {status}")
        if not version.startswith(("HTTP/1.", "HTTP/0.9")):
            raise http.client.UnknownProtocol(version)
        self.version = 10 if version in ("HTTP/1.0", "HTTP/0.9") else 11
        self.code = self.status = status
        self.reason = reason.strip()
        self.headers = self.msg = fields
        self.chunked = "transfer-encoding" in fields  # in whatever coding: a length beside it is none of the body's
        self.chunk_left = None
        said = fields.get("content-length", "")
        is_size = said.isdecimal() and len(said) <= DIGITS_MAX and not self.chunked
        self.body_bytes = int(said) if is_size else None
        has_no_body = self._method == "HEAD" or status in (204, 304)
        self.length = 0 if has_no_body else self.body_bytes
        self.expects_body = self.length != 0
        self.will_close = self._check_close() or self.length is None

    def getheader(self, name: str, default: Any = None) -> Any:
        """What the answer says; what it says twice, joined."""
        return self.headers.get(name.lower(), default)

    def _close_conn(self) -> None:
        """It was read to its end, or is let go of."""
        self._receiver.has_ended = True
        self.has_rest = bool(self.fp.peek(1))
        super()._close_conn()  # type: ignore[misc]


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
            value = text.strip(" \t\r\n")  # a CR at an end may stand for a blank (RFC 9112, 2.2)...
            if "\r" in value or "\0" in value:  # ...but one within may end the line for others
                raise http.client.HTTPException("a header line with a control character")
            if not value:
                if line in _HEAD_ENDS:
                    return
                if not line:
                    raise http.client.RemoteDisconnected("the connection ended within a head")
                continue
            if text[0] in " \t\r":  # a line that goes on; before the first there is none
                if name:
                    self[name] = f"{self[name]} {value}".lstrip()
                continue
            name, _, value = value.partition(":")
            name, value = name.rstrip(" \t").lower(), value.lstrip(" \t")
            self[name] = f"{self[name]}, {value}" if name in self else value
        raise http.client.HTTPException(f"more than {FIELDS_MAX} headers")


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
            if time.monotonic() - since_s < FRESH_S or _is_quiet(connection):
                return connection
            connection.close()

    def make(self) -> http.client.HTTPConnection:
        made = _make_connection(self.origin)
        self._made.add(made)
        return made

    def give_back(self, connection: http.client.HTTPConnection, *, may_be_taken_blindly: bool) -> None:
        now_s = time.monotonic()
        self._idle.append((connection, now_s if may_be_taken_blindly else now_s - FRESH_S))
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

    def __init__(self, options: HTTPOptions, proxies: Mapping[str, str]) -> None:
        self.options = options
        self._proxies = proxies
        self._sent = {"User-Agent": "pagein"} | dict(options.headers)
        self._origins: dict[tuple[str, str], Origin] = {}

    @contextmanager
    def asked(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        *,
        meanwhile: Callable[[], object] | None = None,
    ) -> Iterator[_Response]:
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
                sent = {name: value for name, value in sent.items() if name.lower() not in _AUTHORIZING}
        raise RedirectError(f"more than {REDIRECTS_MAX} redirects")

    def _origin(self, parts: SplitResult) -> Origin:
        """Looked up once."""
        origin = self._origins.get(parts[:2])
        if origin is None:
            assert parts.hostname is not None
            waits = self.options.connect_timeout_s, self.options.read_timeout_s
            proxy = proxy_for(parts.scheme, parts.netloc, self._proxies)
            origin = Origin(parts.scheme, parts.hostname, parts.port, proxy, *waits)
            if len(self._origins) >= POOLS_MAX:
                self._origins.clear()
            self._origins[parts[:2]] = origin
        return origin


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
) -> tuple[http.client.HTTPConnection, _Response]:
    """Ask on a connection that is kept, and if it proves dead on a new one."""
    target = _quoted(parts.path or "/") + (f"?{_quoted(parts.query)}" if parts.query else "")
    if pool.origin.proxy and pool.origin.scheme == "http":
        target = f"http://{parts.netloc}{target}"
        headers = _proxy_headers(pool.origin) | dict(headers)
    kept = pool.take()
    if kept is not None:
        try:
            return kept, _ask(kept, method, target, headers, meanwhile, deadline_s=deadline_s)
        except _ENDS:
            pass  # it was closed before the request came
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
) -> _Response:
    connection.response_class = partial(_Response, deadline_s=deadline_s)  # type: ignore[assignment]
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
    assert isinstance(response, _Response)
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


def _drain(response: _Response) -> None:
    """Read a little that nobody wants, so that the connection can be kept."""
    if not response.isclosed() and response.length is not None and response.length <= DRAIN_BYTES_MAX:
        with suppress(OSError, http.client.HTTPException):
            response.read()


def _done_with(pool: _Pool, connection: http.client.HTTPConnection, response: _Response) -> None:
    """Keep the connection, if all of the answer has come, and nothing else."""
    response.close()
    if response.length == 0 and not response.has_rest and connection.sock is not None:
        # A body that was not to be may come all the same, a moment later.
        pool.give_back(connection, may_be_taken_blindly=response.expects_body)
    else:
        connection.close()
