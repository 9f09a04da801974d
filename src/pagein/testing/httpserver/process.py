"""RangeServerProcess: a RangeServer in a process of its own, so that no client shares its GIL.

Guarantees: the process never outlives its parent. It ends when its standard input does; on Linux also when
its parent ends while a forked sibling still holds the other end of that pipe.
Not here: faults and holds; they need the server in the same process (server.py).
"""

import json
import os
import ssl
import subprocess
import sys
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

from .content import DirectoryContent
from .listener import RESET_NAME, STATS_NAME
from .server import check_pace, server_tls
from .stats import ServerStats

_CONTROL_TIMEOUT_S = 30.0
_STOP_GRACE_S = 10.0


class RangeServerProcess:
    """Serves the files of a directory from `python -m pagein.testing.httpserver` while its `with` block runs.

    latency_s: waited before every answer. bandwidth_bytes_s: of each body, not of all together.
    certificate: a PEM file of 127.0.0.1, with its key and who has signed it, to speak https.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        latency_s: float = 0.0,
        bandwidth_bytes_s: float | None = None,
        certificate: str | os.PathLike[str] | None = None,
    ) -> None:
        """Raises: FileNotFoundError, NotADirectoryError, ValueError; OSError for a *certificate* that is none."""
        check_pace(latency_s, bandwidth_bytes_s)
        DirectoryContent(directory)  # better to fail here than in the other process
        self._arguments = [os.fspath(directory), "--latency-ms", repr(latency_s * 1000)]
        if bandwidth_bytes_s is not None:
            self._arguments += ["--bandwidth-bytes-s", repr(bandwidth_bytes_s)]
        tls = None
        if certificate is not None:
            path = os.fspath(certificate)
            server_tls(path)
            tls = ssl.create_default_context(cafile=path)
            self._arguments += ["--certificate", path]
        # No proxy of the environment stands between this process and its own child.
        self._opener = build_opener(ProxyHandler({}), HTTPSHandler(context=tls))
        self._process: subprocess.Popen[str] | None = None
        self._base_url = ""

    def start(self) -> None:
        """Blocks: until the server listens. Raises: RuntimeError if it ends instead; stderr says why."""
        if self._process is not None:
            raise RuntimeError("a RangeServerProcess starts only once")
        self._process = subprocess.Popen(
            [sys.executable, "-m", __package__, *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C at the terminal is for the parent; were the server to end first, its clients would fail.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._base_url = self._process.stdout.readline().strip()
        if not self._base_url:
            self.stop()
            raise RuntimeError(f"the server ended with status {self._process.returncode} before it listened")

    def stop(self) -> None:
        """Blocks: until the process has ended; after a grace period it is killed."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended already
            process.stdin.close()
        try:
            process.wait(_STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Of the server. Raises: RuntimeError before start()."""
        if self._process is None:
            raise RuntimeError("the RangeServerProcess has not been started")
        return self._process.pid

    @property
    def base_url(self) -> str:
        """Without a slash at its end. Raises: RuntimeError before start()."""
        if not self._base_url:
            raise RuntimeError("the RangeServerProcess has not been started")
        return self._base_url

    def url(self, name: str) -> str:
        """Where the file of that name, relative to the directory, is."""
        return f"{self.base_url}/{quote(name)}"

    def stats(self) -> ServerStats:
        """Everything since the start or the last reset(). Raises: OSError if the process has ended."""
        document: dict[str, Any] = json.loads(self._control(STATS_NAME))
        return ServerStats.from_json(document)

    def reset(self) -> None:
        """Begin the statistics anew. Raises: OSError if the process has ended."""
        self._control(RESET_NAME)

    def _control(self, name: str) -> bytes:
        with self._opener.open(self.url(name), timeout=_CONTROL_TIMEOUT_S) as response:
            body: bytes = response.read()
        return body
