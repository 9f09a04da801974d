"""Puts one Answer on one connection: small ones in a single write, large ones by sendfile, all of them paced.

Guarantees: the request is closed in the Book before the last piece is sent, so that a client which has its
whole answer also finds it in the statistics.
Assumes: the caller closes the connection afterwards if the answer says so, or if anything is raised.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from socket import socket

from .answer import Answer
from .stats import Book, Entry

# An answer of at most this size leaves in one write with its headers; of a longer one, so much comes last.
_LAST_PIECE_BYTES = 64 * 1024
# Long enough for the kernel to run at full speed, short enough that the statistics move meanwhile.
_PIECE_BYTES = 8 * 1024 * 1024
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

    def send(self, connection: socket, head: bytes, *, book: Book, entry: Entry | None) -> None:
        """Blocks: until the kernel has taken all. Raises: OSError of the connection, BodyShrank."""
        body, start, stop = self.answer.body, self.answer.start, self.answer.stop
        if not self.has_body:
            start = stop
        began_s = time.monotonic()
        last_start = max(start, stop - _LAST_PIECE_BYTES)
        if last_start > start:
            connection.sendall(head)
            head = b""
        for piece_start, piece_stop in self._pieces(start, last_start):
            self._pace(began_s, piece_stop - start)
            if self.is_chunked:
                connection.sendall(_chunk_head(piece_stop - piece_start))
            body.send(connection, piece_start, piece_stop)
            if self.is_chunked:
                connection.sendall(b"\r\n")
            if entry is not None:
                book.add_sent(entry, piece_stop - piece_start)
        last = body.read(last_start, stop)
        self._pace(began_s, stop - start)
        if entry is not None:
            book.add_sent(entry, len(last))
            book.close(entry, self.answer.status)
        connection.sendall(head + self._framed_last(last))

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        piece_bytes = _PIECE_BYTES
        if self.bandwidth_bytes_s is not None:
            piece_bytes = max(1, min(piece_bytes, int(self.bandwidth_bytes_s * _PACED_PIECE_S)))
        for piece_start in range(start, stop, piece_bytes):
            yield piece_start, min(piece_start + piece_bytes, stop)

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


def _chunk_head(size_bytes: int) -> bytes:
    return f"{size_bytes:x}\r\n".encode()
