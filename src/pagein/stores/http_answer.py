"""An answer of an HTTP server: its head, read and judged, and its body, received where it is wanted.

Guarantees: a body is received straight into the memory that it is for; where the connection is plain, the system fills
all of it in one call, without a turn of the interpreter's lock for each packet.  (Of TLS there is one for each record.
To receive more at once, through ssl.MemoryBIO, copies once more, and is no faster.)  A head that can be read in two
ways is refused, or says nothing of the body's length; one that ends with its connection is none.
Not here: connections, and who may use one again (http_connections.py); what an answer has to be (http_asking.py).
"""

from __future__ import annotations

import http.client
import io
import os
import socket
import ssl
import time
from typing import Any

FIELDS_MAX, FIELD_BYTES_MAX = 100, 64 << 10
"""What the head of an answer may hold, as in http.client."""
INTERIM_MAX = 10
"""Heads with a status below 200 that may come before the answer's."""
DIGITS_MAX = 18
"""Of a size that an answer tells: what is longer is beyond any object, or no number for Python."""
BUFFER_BYTES = io.DEFAULT_BUFFER_SIZE
"""Through it come heads; whatever is longer is received into the memory that it is for."""
WAITS_IN_SYSTEM = hasattr(socket, "MSG_WAITALL") and os.name == "posix"
"""Whether the system can wait for all of a buffer."""
_HEAD_ENDS = frozenset({b"\r\n", b"\n"})


class SilenceError(TimeoutError):
    """A connection brought nothing, not even a head's first byte, in the time that there is for one."""


class _Receiver(io.RawIOBase):
    """A socket as a file to read from, which fills large buffers in one call, as far as the system can."""

    def __init__(self, sock: Any, raw: Any, deadline_s: float) -> None:
        self._socket = sock
        self._raw = raw
        """What keeps the socket open until the answer was read."""
        self._waits_in_system = WAITS_IN_SYSTEM and sock.gettimeout() is None
        self._deadline_s = deadline_s
        self._is_silent = True
        self.has_ended = False
        """Nothing more is read."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.has_ended:
            return 0
        if time.monotonic() > self._deadline_s:
            raise TimeoutError("the answer takes too long")
        try:
            got_bytes = self._receive(buffer)
        except (BlockingIOError, TimeoutError):  # SO_RCVTIMEO; a socket with a time-out of Python's, or TCP's own
            raise (SilenceError if self._is_silent else TimeoutError)("timed out") from None
        self._is_silent = False
        return got_bytes

    def _receive(self, buffer: Any) -> int:
        waits_for_all = self._waits_in_system and len(buffer) > BUFFER_BYTES
        got_bytes: int = self._socket.recv_into(buffer, 0, socket.MSG_WAITALL if waits_for_all else 0)
        return got_bytes

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TLSReceiver(_Receiver):
    """The same of a connection that brings a record, of 16 KiB at most, with each call: nothing else is done for each,
    which took two thirds as long as to decrypt it."""

    _failure: OSError | None = None
    """What came behind bytes that count."""

    def _receive(self, buffer: Any) -> int:
        if self._failure is not None:
            error, self._failure = self._failure, None
            try:
                raise error
            finally:
                del error  # its traceback refers to this frame: no cycle
        read, got_bytes, left_bytes = self._socket.read, 0, len(buffer)
        is_long = left_bytes > BUFFER_BYTES  # else it may be a head, behind which nothing comes
        try:
            while left_bytes:
                some_bytes = read(left_bytes, buffer[got_bytes:])
                got_bytes += some_bytes
                left_bytes -= some_bytes
                self.has_ended = not some_bytes
                if not (some_bytes and is_long) or time.monotonic() > self._deadline_s:
                    break
        except OSError as error:
            if not got_bytes:
                raise
            self._failure = error.with_traceback(None)
        return got_bytes


class Response(http.client.HTTPResponse):
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
    received_bytes: int
    """How much of it `readinto` has received, also if it has raised then."""
    expects_body: bool
    has_rest: bool
    """Whether more has come than the answer said, once it is closed."""
    status: int
    reason: str
    will_close: bool
    _method: str
    _read_status: Any
    _check_close: Any

    def __init__(self, sock: socket.socket, *args: Any, deadline_s: float, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        receiver = _TLSReceiver if isinstance(sock, ssl.SSLSocket) else _Receiver
        self._receiver = receiver(sock, self.fp.detach(), deadline_s)
        self.fp = io.BufferedReader(self._receiver, BUFFER_BYTES)
        self.has_rest = False
        self.received_bytes = 0

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

    def readinto(self, buffer: Any) -> int:
        """Fill it, as far as the body goes.  As the base class, but what has come is counted before more is awaited."""
        assert self.length is not None, "only a body is read that says where it ends"
        before_bytes = self.received_bytes
        with memoryview(buffer) as left:
            while self.fp is not None and (at := self.received_bytes - before_bytes) < len(left):
                with left[at : at + self.length] as rest:
                    got_bytes = self.fp.readinto1(rest)
                self.received_bytes += got_bytes
                self.length -= got_bytes
                if not (got_bytes and self.length):
                    self._close_conn()
        return self.received_bytes - before_bytes

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
