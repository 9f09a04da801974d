"""A server that says, word for word, what a test wants it to say: for answers that no correct server can be bent to."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

_TIMEOUT_S = 10.0


class ScriptedServer:
    """Answers the n-th request with the n-th of *answers*, and closes each connection after it, unless it *keeps* them:
    then the next is served when the client has closed the last."""

    def __init__(self, *answers: bytes, keeps: bool = False) -> None:
        self._keeps = keeps
        self.requests: list[str] = []
        self._answers = list(answers)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, name="ScriptedServer", daemon=True)

    def url(self, path: str) -> str:
        return f"http://{self.host}/{path}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # ends accept()
        self._thread.join(_TIMEOUT_S)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, suppress(ConnectionError):  # the client may close it before it has read all
                connection.settimeout(_TIMEOUT_S)
                while self._answered(connection) and self._keeps:
                    pass

    def _answered(self, connection: socket.socket) -> bool:
        """Whether there was a request."""
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            piece = connection.recv(65536)
            if not piece:
                return False
            request += piece
        self.requests.append(request.decode("latin-1"))
        connection.sendall(self._answers.pop(0) if self._answers else response(500))
        return True


def response(status: int, body: bytes = b"", *, length: int | None = None, **headers: str) -> bytes:
    """An answer; *length* is what it claims if not the body's own.  `content_range="…"` becomes Content-Range."""
    lines = [f"HTTP/1.1 {status} Scripted", "Connection: close"]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    lines += [f"{name.replace('_', '-').title()}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
