"""The socket side of a RangeServer: one thread for each connection, HTTP/1.1 with keep-alive.

Guarantees: after stop() no connection and no thread of one is left. The first error of the server itself, not
of a client that went away, is kept in `first_error`.
Each answer: wait while held, wait for the latency, look up faults and content, decide, send.
Not here: what HTTP says (rfc9110.py), objects (content.py), decisions (answer.py, faults.py), sending
(delivery.py), sums (stats.py).
"""

from __future__ import annotations

import json
import socket
import socketserver
import ssl
import sys
import threading
import time
from contextlib import closing, suppress
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from .answer import Answer, Query, answer_to, text_answer
from .content import BodyShrank, BytesBody, Content
from .delivery import Delivery, bound_unsent
from .faults import REAL_PREFIX, Faults, answer_instead, bend, take_abilities
from .rfc9110 import parse_range
from .stats import Book, Entry

STATS_NAME = "-/stats"
RESET_NAME = "-/reset"

# Threads end as soon as their connections are shut down; this bounds the wait for one that does not.
_STOP_GRACE_S = 10.0


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "pagein-testing"
    disable_nagle_algorithm = True  # a small answer must not wait for the acknowledgement of the last
    server: Listener

    def setup(self) -> None:
        super().setup()
        bound_unsent(self.connection)

    def do_GET(self) -> None:
        name = unquote(self.path.partition("?")[0].removeprefix("/"))
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # the unread body would be taken for the next request
        if name in (STATS_NAME, RESET_NAME):
            self._answer_control(name)
        elif self.command == "POST":
            self._say(text_answer(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "GET, HEAD"}))
        else:
            self._answer_object(name)

    do_HEAD = do_POST = do_GET  # noqa: N815 - names given by BaseHTTPRequestHandler

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer_control(self, name: str) -> None:
        if name == RESET_NAME:
            self.server.book.reset()
            self._say(text_answer(HTTPStatus.OK))
            return
        document = json.dumps(self.server.book.snapshot().to_json()).encode()
        answer = text_answer(HTTPStatus.OK, {"Content-Type": "application/json"})
        answer.body = BytesBody(document, answer.body.version)
        answer.stop = answer.announced_bytes = len(document)
        self._say(answer)

    def _answer_object(self, path: str) -> None:
        asked = parse_range(self.headers.get("Range"))
        entry = self.server.book.enter(self.command, path, asked.as_slice() if asked else (None, None))
        query = Query(
            self.command,
            path.removeprefix(REAL_PREFIX),
            self.headers,
            asked,
            redirected=path.startswith(REAL_PREFIX),
        )
        answer = None
        try:
            held_at = self.server.faults.wait_while_held(query.name)
            self.server.stopping.wait(self.server.latency_s)
            answer = self._decide(query)
            if held_at is not None:
                answer.pause = held_at, partial(self.server.faults.wait_within, query.name)
            self._say(answer, entry)
        finally:
            self.server.book.close(entry, None if answer is None or answer.unsaid else answer.status)

    def _decide(self, query: Query) -> Answer:
        faults = self.server.faults.take(query)
        take_abilities(query, faults)
        answer = answer_instead(query, faults)
        if answer is None:
            answer = answer_to(query, self.server.content)
            bend(answer, faults)
        return answer

    def _say(self, answer: Answer, entry: Entry | None = None) -> None:
        server = self.server
        with closing(answer.body):
            if not answer.keeps_alive:
                self.close_connection = True
            if answer.unsaid:
                return
            has_body = self.command != "HEAD" and answer.status != HTTPStatus.NOT_MODIFIED
            is_chunked = answer.announced_bytes is None and has_body
            if is_chunked and self.request_version == "HTTP/1.0":
                is_chunked, self.close_connection = False, True  # the end of the connection ends the body
            head = self._head_of(answer, is_chunked=is_chunked)
            delivery = Delivery(answer, has_body, is_chunked, server.bandwidth_bytes_s, server.stopping)
            try:
                delivery.send(self.connection, head, book=server.book, entry=entry)
            except BodyShrank:
                self.close_connection = True

    def _head_of(self, answer: Answer, *, is_chunked: bool) -> bytes:
        lines = [
            f"{self.protocol_version} {answer.status.value} {answer.status.phrase}",
            f"Server: {self.server_version}",
            f"Date: {self.date_time_string()}",
            *(f"{name}: {value}" for name, value in answer.headers.items()),
        ]
        if is_chunked:
            lines.append("Transfer-Encoding: chunked")
        elif answer.announced_bytes is not None and answer.status != HTTPStatus.NOT_MODIFIED:
            lines.append(f"Content-Length: {answer.announced_bytes}")
        if self.close_connection:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


class Listener(ThreadingHTTPServer):
    """The listening socket, and the connections with their threads."""

    request_queue_size = 1024  # connections that wait for accept(); the default of 5 refuses bursts
    allow_reuse_port = False  # two servers on one port would share its requests

    def __init__(self, content: Content, faults: Faults, book: Book, port: int) -> None:
        self.content = content
        self.faults = faults
        self.book = book
        self.latency_s: float = 0.0
        self.bandwidth_bytes_s: float | None = None
        self.stopping: threading.Event = threading.Event()
        self.first_error: BaseException | None = None
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._connection_threads: list[threading.Thread] = []
        super().__init__(("127.0.0.1", port), _Handler)

    def server_bind(self) -> None:
        """Take the port."""
        # HTTPServer would look its own name up in the DNS here, which can take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name: str = "127.0.0.1"
        self.server_port: int = self.socket.getsockname()[1]

    def accept_until_stopped(self) -> None:
        """Blocks: until stop()."""
        # Not serve_forever(): it notices a stop by polling, up to half a second late.
        while not self.stopping.is_set():
            self.handle_request()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a new connection in a thread of its own."""
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name=f"RangeServer:{self.server_port} connection",
            daemon=True,
        )
        with self._lock:  # stop() either sees this connection, or has set `stopping` before
            if self.stopping.is_set():
                self.close_request(request)
                return
            thread.start()
            self._connections.add(request)
            alive = [other for other in self._connection_threads if other.is_alive()]
            self._connection_threads = [*alive, thread]

    def shutdown_request(self, request: Any) -> None:
        """Close a connection that has been served."""
        # Forgotten before it is closed: stop() must not shut down a file descriptor that is in use again.
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep the first error that is our own."""
        error = sys.exception()
        # A client may go away whenever it likes, and stop() breaks connections itself.
        if not isinstance(error, ConnectionError | ssl.SSLError) and self.first_error is None:
            self.first_error = error

    def stop(self) -> None:
        """End every connection and its thread. Raises: RuntimeError if one does not end."""
        # Connections first: a request that wakes from a pause or a hold must find that it cannot be answered.
        with self._lock:
            threads = self._connection_threads
            for connection in self._connections:
                with suppress(OSError):  # the client may have been quicker
                    connection.shutdown(socket.SHUT_RDWR)
            self.stopping.set()
        self.faults.end()
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.server_port)):
            pass  # wakes accept_until_stopped()
        deadline_s = time.monotonic() + _STOP_GRACE_S
        for thread in threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            raise RuntimeError(f"a connection to port {self.server_port} did not end in {_STOP_GRACE_S} s")
