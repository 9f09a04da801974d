"""Publishing: the caches of this process tell whoever of the same user asks what they do.  `pagein top` asks.

Guarantees: until somebody asks, it costs a thread that sleeps, and nothing else; only the same user is answered (and
root, who can see everything); who asks and does not read is given up; a child of a fork tells of its own caches, on a
socket of its own; looking changes nothing, and waits for no store.
How: a Unix socket in a directory that only the user may enter.  Who connects sends one line of JSON, `Request`, and
gets one object back (`document`), then the end.  A process that was killed leaves its socket behind: who finds that
nobody listens removes it.
Assumes: Linux.
Not here: who asks, and shows the answer (cli/processes.py, cli/top.py).
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import json
import os
import re
import secrets
import socket
import stat
import struct
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from . import process
from .residency import cells, members, of_cache
from .stats import LATENCY_BOUNDS_S

if TYPE_CHECKING:
    from .cache import PageCache

FORMAT = 1
"""Of what is told.  Who asks understands one."""
ASKED_BY = "PAGEIN_TOP"
"""Set to anything but 0, false, no or off, a process publishes with its first cache.  What it is set to is told as
``token``."""
TIMEOUT_S = 2.0
"""So long one client may keep the others waiting."""
REQUEST_BYTES_MAX = 4096
FILES_MAX, CELLS_MAX = 10_000, 10_000
COMMAND_CHARACTERS_MAX = 1000
FAILED_ACCEPT_PAUSE_S = 1.0
"""Without a descriptor to be had, accept fails at once, again and again."""
_NAME = re.compile(r"(\d+)-[0-9a-f]+")
_CREDENTIALS = struct.Struct("3i")
"""SO_PEERCRED: pid, uid, gid."""


@dataclass(frozen=True)
class Request:
    """How much of each cache to tell."""

    files_max: int = 20
    """The files with most bytes in the cache."""
    cells_max: int = 60
    """Into so many parts, at most, the pages of each are counted."""

    @classmethod
    def parsed(cls, line: bytes) -> Request:
        """Raises: ValueError, TypeError for what is none."""
        request = cls(**json.loads(line))
        if not (0 <= request.files_max <= FILES_MAX and 0 <= request.cells_max <= CELLS_MAX):
            raise ValueError(f"at most {FILES_MAX} files and {CELLS_MAX} cells are told")
        return request


def document(request: Request) -> dict[str, Any]:
    """What all caches of this process do, as JSON takes it.  Blocks: no."""
    caches = [cache for cache in members(process.caches) if not cache._zone.closed]
    return {
        "format": FORMAT,
        "pid": os.getpid(),
        "command": " ".join(" ".join(sys.orig_argv).split())[:COMMAND_CHARACTERS_MAX],
        "token": os.environ.get(ASKED_BY, ""),
        "at_s": time.monotonic(),
        "latency_bounds_s": LATENCY_BOUNDS_S,
        "caches": sorted((told(cache, request) for cache in caches), key=lambda one: (-one["size_bytes"], one["id"])),
    }


def told(cache: PageCache, request: Request) -> dict[str, Any]:
    """What one cache does, as a part of `document`."""
    files = of_cache(cache)
    return {
        "id": f"{id(cache):x}",
        # Not stats(): what it would follow up, and raise, is for the process's own threads.
        **asdict(cache._stats()),
        "file_count": len(files),
        "files": [
            {
                "name": file.name,
                "version": file.version,
                "size_bytes": file.size_bytes,
                "page_count": file.page_count,
                "resident_bytes": file.resident_bytes,
                "dirty_bytes": file.dirty_bytes,
                "open_files": file.open_files,
                "hits": file.hits,
                "cells": cells(file.runs, file.page_count, request.cells_max),
            }
            for file in files[: request.files_max]
        ],
    }


# -- where -------------------------------------------------------------------------------------------------


def directories() -> list[str]:
    """Where processes of this user publish: in the first of them that they have.

    A session has a runtime directory, and what was started without one (by cron, say) may have been told of none.
    """
    uid = os.geteuid()
    bases = [os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{uid}"]
    found = [os.path.join(base, "pagein") for base in bases if os.path.isdir(base) and os.access(base, os.W_OK)]
    return list(dict.fromkeys([*found, f"/tmp/pagein-{uid}"]))


@contextlib.contextmanager
def opened_directory(path: str) -> Iterator[str]:
    """A short name of a directory that nobody else can put anything into, while the block lasts: the address of a
    socket has 107 bytes at most.

    Raises: OSError: ENOENT; EPERM for one that is another's, or that others may write to.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise OSError(errno.EPERM, "belongs to another user, or is open to others (it must have mode 700)", path)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def connect(short: str, name: str) -> socket.socket | None:
    """A connection to the process that has published as *name* in an opened directory; None if it has ended, and then
    what it left behind is removed.  Raises: OSError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(TIMEOUT_S)
        connection.connect(f"{short}/{name}")
    except BaseException as error:
        connection.close()
        if not isinstance(error, ConnectionRefusedError):
            raise
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{short}/{name}")
        return None
    return connection


def pid_of(name: str) -> int | None:
    """The process that has published as *name*; None if nobody publishes so."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def _remove_what_the_dead_left(short: str) -> None:
    for name in os.listdir(short):
        pid = pid_of(name.removeprefix("."))
        if pid is not None and not os.path.exists(f"/proc/{pid}"):  # perhaps only unknown in our namespace of processes
            connection = connect(short, name)
            if connection is not None:
                connection.close()


def is_of_same_user(connection: socket.socket) -> bool:
    """Whether who is at the other end may see, and be believed, what this user may."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(credentials)
    return uid in (os.geteuid(), 0)


# -- telling -----------------------------------------------------------------------------------------------


class _Publication:
    """A socket, and the thread that answers on it."""

    def __init__(self) -> None:
        directory = directories()[0]
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o700)
        self.pid = os.getpid()
        name = f"{self.pid}-{secrets.token_hex(4)}"
        self.path = os.path.join(directory, name)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with opened_directory(directory) as short:
                _remove_what_the_dead_left(short)
                # Under its name only when it listens: who finds that nobody does removes it.
                self._socket.bind(f"{short}/.{name}")
                self._socket.listen()
                os.rename(f"{short}/.{name}", f"{short}/{name}")
            threading.Thread(target=self._serve, name="pagein-top", daemon=True).start()
        except BaseException:
            self.withdraw()
            raise

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError as error:
                if error.errno in (errno.EINVAL, errno.EBADF):  # withdrawn
                    return
                time.sleep(FAILED_ACCEPT_PAUSE_S)
                continue
            # What a client does wrong is his own fault.
            with connection, contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
                connection.settimeout(TIMEOUT_S)
                if is_of_same_user(connection):
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        line = b""
        while not line.endswith(b"\n"):
            piece = connection.recv(REQUEST_BYTES_MAX)
            line += piece
            if not piece or len(line) > REQUEST_BYTES_MAX:
                return
        connection.sendall(json.dumps(document(Request.parsed(line))).encode())

    def withdraw(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # which wakes who waits in accept
        self._socket.close()

    def leave_to_parent(self) -> None:
        """After a fork, in the child."""
        self._socket.close()


_lock = threading.Lock()
_publication: _Publication | None = None


def publish() -> str:
    """Let `pagein top` see the caches of this process from now on, also those that are made later; return where its
    socket is.  Twice does no harm.

    Raises: OSError if the directory for it cannot be had.
    """
    global _publication  # noqa: PLW0603  # one per process is the point
    with _lock:
        if _publication is None:
            _publication = _Publication()
        return _publication.path


def publish_as_asked() -> None:
    """`publish`, for the environment: a program does not fail because nobody can look at it."""
    try:
        publish()
    except OSError as error:
        warnings.warn(f"{ASKED_BY} is set, but nothing can be published: {error}", RuntimeWarning, stacklevel=3)


@atexit.register
def withdraw() -> None:
    """End it."""
    global _publication
    with _lock:
        publication, _publication = _publication, None
    if publication is not None:
        publication.withdraw()


def _start_anew() -> None:
    """After a fork, in the child: the socket and the thread are the parent's."""
    global _lock, _publication  # noqa: PLW0603
    _lock = threading.Lock()
    inherited, _publication = _publication, None
    if inherited is not None:
        inherited.leave_to_parent()
        publish_as_asked()


os.register_at_fork(after_in_child=_start_anew)
