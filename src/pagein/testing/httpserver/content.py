"""The objects that a RangeServer serves: the values of a mapping, or the files of a directory.

Guarantees: a `Body` is one version of one object. Its validators and its bytes belong together, however
often the mapping's value or the file's name is replaced while it is being sent.
A value replaced by different bytes gets another ETag and a later Last-Modified, even within one second.
Assumes: files are replaced (renamed over), not rewritten in place; a file cut while it is sent is found out
(`BodyShrank`), other bytes written into it are not.
"""

import hashlib
import os
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from socket import socket
from typing import BinaryIO, Protocol

from .rfc9110 import Version

_DAY_S = 86_400


class BodyShrank(Exception):
    """The file became shorter while it was being sent; the promised Content-Length cannot be kept."""


class Body(Protocol):
    """One version of one object."""

    size_bytes: int
    version: Version

    def read(self, start: int, stop: int) -> bytes:
        """Exactly those bytes. Raises: BodyShrank."""

    def send(self, connection: socket, start: int, stop: int) -> None:
        """Put exactly those bytes on the connection. Blocks: yes. Raises: OSError, BodyShrank."""

    def close(self) -> None:
        """Let go of the file."""


class Content(Protocol):
    """Where objects are looked up."""

    def open(self, name: str) -> Body | None:
        """The object of that name as it is now; None: there is none. Raises: PermissionError."""


class BytesBody:
    """An object in memory."""

    def __init__(self, data: bytes, version: Version) -> None:
        self.size_bytes: int = len(data)
        self.version = version
        self._data = data

    def read(self, start: int, stop: int) -> bytes:
        """A copy."""
        return self._data[start:stop]

    def send(self, connection: socket, start: int, stop: int) -> None:
        """Without a copy in this process."""
        connection.sendall(memoryview(self._data)[start:stop])

    def close(self) -> None:
        """Nothing to let go of."""


class FileBody:
    """A regular file, sent by the kernel (sendfile) without passing through this process."""

    def __init__(self, file: BinaryIO) -> None:
        status = os.fstat(file.fileno())
        self.size_bytes: int = status.st_size
        # The inode number tells apart two files that were renamed into place within one clock tick.
        etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"'
        self.version: Version = Version(etag, int(status.st_mtime))
        self._file = file

    def read(self, start: int, stop: int) -> bytes:
        """Raises: BodyShrank."""
        self._file.seek(start)
        data = self._file.read(stop - start)
        if len(data) != stop - start:
            raise BodyShrank
        return data

    def send(self, connection: socket, start: int, stop: int) -> None:
        """By sendfile. Raises: OSError, BodyShrank."""
        if connection.sendfile(self._file, start, stop - start) != stop - start:
            raise BodyShrank

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class MappingContent:
    """The values of a mapping, looked up anew for every request."""

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        self._objects = objects
        self._lock = threading.Lock()
        # Name -> the value last served (held, so that `is` proves it the same bytes) and its version.
        self._known: dict[str, tuple[bytes, Version]] = {}
        # A mapping has no clock: dates start in the past and move a second with each replacement, since
        # HTTP dates count whole seconds and may not lie in the future.
        self._first_modified_s = int(time.time()) - _DAY_S

    def open(self, name: str) -> Body | None:
        """The value as it is now. Raises: TypeError if it is not bytes."""
        data = self._objects.get(name)
        if data is None:
            return None
        if not isinstance(data, bytes):
            raise TypeError(f"object {name!r} must be bytes, not {type(data).__name__}")
        return BytesBody(data, self._version_of(name, data))

    def _version_of(self, name: str, data: bytes) -> Version:
        with self._lock:
            known_data, known_version = self._known.get(name, (None, None))
            if known_version is not None and data is known_data:
                return known_version
            etag = f'"{hashlib.blake2b(data, digest_size=16).hexdigest()}"'
            if known_version is None or known_version.modified_s is None:
                version = Version(etag, self._first_modified_s)
            elif known_version.etag == etag:
                version = known_version
            else:
                version = Version(etag, known_version.modified_s + 1)
            self._known[name] = (data, version)
            return version


class DirectoryContent:
    """The regular files below a directory. Symbolic links are followed: whoever made them meant them."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._root = Path(directory).absolute()
        if not self._root.exists():
            raise FileNotFoundError(f"no such directory: {self._root}")
        if not self._root.is_dir():
            raise NotADirectoryError(f"not a directory: {self._root}")

    def open(self, name: str) -> Body | None:
        """The file as it is now; None also for what is no regular file. Raises: OSError."""
        if "\0" in name or ".." in re.split(r"[/\\]", name):
            return None
        # Joined as strings: pathlib would let an absolute name replace the root.
        path = f"{self._root}/{name}"
        try:
            if not os.path.isfile(path):  # before open(), which would wait for the writer of a FIFO
                return None
            file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by FileBody.close
        except FileNotFoundError:
            return None
        return FileBody(file)
