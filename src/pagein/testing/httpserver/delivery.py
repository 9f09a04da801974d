"""Puts one Answer on one connection: small ones in a single write, large ones by sendfile, all of them paced.

Guarantees: the request is closed in the Book before the last piece is sent, so that a client which has its
whole answer also finds it in the statistics.  Of an answer that a client went away from, what it has received is
counted, where the system tells (Linux): little of an answer waits in the system for who does not read it.
Assumes: the caller closes the connection afterwards if the answer says so, or if anything is raised.
"""

import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from .answer import Answer
from .stats import Book, Entry

# An answer of at most this size leaves in one write with its headers; of a longer one, so much comes last.
_LAST_PIECE_BYTES = 64 * 1024
# Long enough for the kernel to run at full speed, short enough that the statistics move meanwhile.
_PIECE_BYTES = 8 * 1024 * 1024
# So much of what was not sent the system takes before a send waits.
_UNSENT_BYTES_MAX = 256 * 1024
_TCP_NOTSENT_LOWAT = 25  # Linux; the name came with Python 3.12
_BYTES_ACKED_AT, _TCP_INFO_BYTES = 120, 128  # tcpi_bytes_acked in struct tcp_info (linux/tcp.h)
# With a limited bandwidth: how much of a second one piece may take, so that the flow is even.
_PACED_PIECE_S = 0.01


@dataclass(slots=True)
class Delivery:
    """How one answer is to be sent."""

    answer: Answer
    has_body: bool
    is_chunked: bool
    bandwidth_bytes_s: float | None
    stopping: threading.Event  # ends every pause

    def send(self, connection: socket.socket, head: bytes, *, book: Book, entry: Entry | None) -> None:
        """Blocks: until the kernel has taken all. Raises: OSError of the connection, BodyShrank."""
        before_bytes = _received_bytes(connection)
        try:
            self._send(connection, head, book=book, entry=entry)
        except OSError:
            if entry is not None and before_bytes is not None:
                received_bytes = (_received_bytes(connection) or 0) - before_bytes - len(head)
                book.add_sent(entry, max(0, received_bytes) - entry.sent_bytes)
            raise

    def _send(self, connection: socket.socket, head: bytes, *, book: Book, entry: Entry | None) -> None:
        body, start, stop = self.answer.body, self.answer.start, self.answer.stop
        if not self.has_body:
            start = stop
        began_s = time.monotonic()
        pause_after_bytes, pause = self.answer.pause or (0, _go_on)
        pause_at = min(start + pause_after_bytes, stop)
        last_start = max(start, stop - _LAST_PIECE_BYTES, pause_at)
        if last_start > start:
            connection.sendall(head)
            head = b""
        for piece_start, piece_stop in self._pieces(start, last_start, pause_at):
            if piece_start == pause_at:
                pause()
            self._pace(began_s, piece_stop - start)
            if self.is_chunked:
                connection.sendall(_chunk_head(piece_stop - piece_start))
            body.send(connection, piece_start, piece_stop)
            if self.is_chunked:
                connection.sendall(b"\r\n")
            if entry is not None:
                book.add_sent(entry, piece_stop - piece_start)
        if last_start == pause_at:
            pause()
        last = body.read(last_start, stop)
        self._pace(began_s, stop - start)
        if entry is not None:
            book.add_sent(entry, len(last))
            book.close(entry, self.answer.status)
        connection.sendall(head + self._framed_last(last))

    def _pieces(self, start: int, stop: int, pause_at: int) -> Iterator[tuple[int, int]]:
        piece_bytes = _PIECE_BYTES
        if self.bandwidth_bytes_s is not None:
            piece_bytes = max(1, min(piece_bytes, int(self.bandwidth_bytes_s * _PACED_PIECE_S)))
        at = start
        while at < stop:
            piece_stop = min(at + piece_bytes, stop, pause_at if pause_at > at else stop)
            yield at, piece_stop
            at = piece_stop

    def _pace(self, began_s: float, sent_bytes: int) -> None:
        """Wait until so many bytes may have been sent. A pause, not a wait for anything."""
        if self.bandwidth_bytes_s is not None:
            due_s = began_s + sent_bytes / self.bandwidth_bytes_s
            self.stopping.wait(max(0.0, due_s - time.monotonic()))

    def _framed_last(self, last: bytes) -> bytes:
        if not self.is_chunked:
            return last
        framed = _chunk_head(len(last)) + last + b"\r\n" if last else b""
        # A body that breaks off lacks the end mark: to the client it is as incomplete as it is.
        return framed + b"0\r\n\r\n" if self.answer.keeps_alive else framed


def _go_on() -> None:
    pass


def bound_unsent(connection: socket.socket) -> None:
    """Let a send wait while a client does not read, so that what is counted is what goes over the wire."""
    if sys.platform == "linux":
        connection.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _UNSENT_BYTES_MAX)


def _received_bytes(connection: socket.socket) -> int | None:
    """What the other side has acknowledged since the connection began; None where the system does not say."""
    if sys.platform != "linux":
        return None
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    acked_bytes: int = struct.unpack_from("=Q", info, _BYTES_ACKED_AT)[0] if len(info) == _TCP_INFO_BYTES else 0
    return acked_bytes


def _chunk_head(size_bytes: int) -> bytes:
    return f"{size_bytes:x}\r\n".encode()
