"""RangeServer: an HTTP/1.1 server with byte ranges and faults, in threads of this process.

Guarantees: after stop() no thread, socket or held request of it is left. An error of the server itself, not
of a client that went away, is raised by stop(), once. It listens on 127.0.0.1 only.
Assumes: a client that shares the process shares its GIL; for benchmarks see process.py.
Control, never counted, never faulty: GET /-/stats answers ServerStats as JSON, /-/reset begins them anew.
Not here: connections (listener.py), what goes wrong on purpose (faults.py).
"""

import math
import os
import ssl
import threading
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self
from urllib.parse import quote

from .content import DirectoryContent, MappingContent
from .faults import Faults
from .listener import Listener
from .stats import Book, ServerStats


class RangeServer:
    """Serves a mapping of names to bytes, or the files of a directory, while its `with` block runs.

    A mapping may be changed at any time: every answer is one version of the value that it finds.
    latency_s: waited before every answer. bandwidth_bytes_s: of each body, not of all together.
    faults: object name -> fault or faults; `server.faults` changes them later (faults.py).
    """

    def __init__(
        self,
        content: Mapping[str, bytes] | str | os.PathLike[str],
        *,
        latency_s: float = 0.0,
        bandwidth_bytes_s: float | None = None,
        faults: Mapping[str, str | Iterable[str]] | None = None,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """*tls*: speak https, with the certificate of that context.

        Raises: FileNotFoundError or NotADirectoryError for a directory, ValueError for the rest."""
        check_pace(latency_s, bandwidth_bytes_s)
        self._content = MappingContent(content) if isinstance(content, Mapping) else DirectoryContent(content)
        self._pace = latency_s, bandwidth_bytes_s
        self._port = port
        self._tls = tls
        self._book = Book()
        self._listener: Listener | None = None
        self._accepting: threading.Thread | None = None
        self.faults: Faults = Faults(faults)

    def start(self) -> None:
        """Listen. Raises: OSError if the port is taken, RuntimeError on a second start."""
        if self._listener is not None:
            raise RuntimeError("a RangeServer starts only once")
        self._listener = Listener(self._content, self.faults, self._book, self._port)
        if self._tls is not None:  # each handshake is made by the thread of its connection
            self._listener.socket = self._tls.wrap_socket(
                self._listener.socket, server_side=True, do_handshake_on_connect=False
            )
        self._listener.latency_s, self._listener.bandwidth_bytes_s = self._pace
        self._accepting = threading.Thread(
            target=self._listener.accept_until_stopped,
            name=f"RangeServer:{self._listener.server_port}",
            daemon=True,
        )
        self._accepting.start()

    def stop(self) -> None:
        """End every connection, held ones too. Blocks: until they ended. Raises: the server's first error."""
        if self._listener is None or self._accepting is None or self._listener.stopping.is_set():
            return
        try:
            self._listener.stop()
            self._accepting.join()
        finally:
            self._listener.server_close()
        if self._listener.first_error is not None:
            raise self._listener.first_error

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except Exception as own_error:
            if error is None:
                raise
            # What failed in the `with` block matters more, and may well come from this.
            error.add_note(f"RangeServer failed too: {own_error!r}")

    @property
    def base_url(self) -> str:
        """Without a slash at its end. Raises: RuntimeError before start()."""
        if self._listener is None:
            raise RuntimeError("the RangeServer has not been started")
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self._listener.server_port}"

    def url(self, name: str) -> str:
        """Where the object of that name is, whether or not it exists yet."""
        return f"{self.base_url}/{quote(name)}"

    def stats(self) -> ServerStats:
        """Everything since the start or the last reset()."""
        return self._book.snapshot()

    def reset(self) -> None:
        """Begin the statistics anew."""
        self._book.reset()

    def wait_for_requests(self, request_count: int, *, path: str | None = None, timeout_s: float = 10.0) -> None:
        """Block until so many requests (for that path) arrived since the last reset; they may still be held.

        Raises: TimeoutError saying how many did.
        """
        self._book.wait_for_requests(request_count, path=path, timeout_s=timeout_s)

    def hold(self, path: str, *, times: int | None = None, after_bytes: int | None = None) -> None:
        """Let requests for this object (the first `times` of them) wait until release(path); or their answers, once
        so many bytes of the body were sent."""
        self.faults.hold(path, times=times, after_bytes=after_bytes)

    def is_held(self, path: str) -> bool:
        """Whether a request, or an answer, of this object waits.  Raises: ValueError if it is not to be held."""
        return self.faults.is_held(path)

    def wait_until_held(self, path: str, *, timeout_s: float = 10.0) -> None:
        """Block until a request, or an answer, of this object waits.  Raises: TimeoutError."""
        self.faults.wait_until_held(path, timeout_s=timeout_s)

    def release(self, path: str) -> None:
        """Let the held requests of this object go on, hold no more. Raises: ValueError if it is not held."""
        self.faults.release(path)


def check_pace(latency_s: float, bandwidth_bytes_s: float | None) -> None:
    """Raises: ValueError saying what is accepted."""
    if not 0 <= latency_s < math.inf:
        raise ValueError(f"latency_s must be a finite number of seconds from 0, not {latency_s}")
    if bandwidth_bytes_s is not None and not bandwidth_bytes_s > 0:
        raise ValueError(f"bandwidth_bytes_s must be above 0, or None for no limit, not {bandwidth_bytes_s}")


def server_tls(certificate: str | os.PathLike[str]) -> ssl.SSLContext:
    """For a server with this PEM file: its certificate, and its key.  Raises: OSError saying which file is none."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        tls.load_cert_chain(certificate)
    except ssl.SSLError as error:
        raise OSError(f"{os.fspath(certificate)} is not a PEM file with a certificate and its key: {error}") from error
    return tls
