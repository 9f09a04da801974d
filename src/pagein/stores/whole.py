"""An object that comes only whole, because its server knows no ranges: fetched once, into an unlinked temporary file.

Guarantees: it costs disk, not the cache's memory; what did not come whole is not kept.
Not here: who fetches it, once for all (http.py, object.py).
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from .local import pread_up_to
from .ranges import require_length

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

WHOLE_BYTES_MAX = 64 << 20
"""The largest object that is fetched whole from a server that knows no ranges."""


class WholeObject:
    """All of an object, once it has been written here."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._file = tempfile.TemporaryFile(prefix="pagein-", buffering=0)  # noqa: SIM115  # closed by close()

    def go_on_at(self, offset_bytes: int) -> None:
        """What is appended next begins there, where it is written over what had come before."""
        os.lseek(self._file.fileno(), offset_bytes, os.SEEK_SET)

    def append(self, data: ReadableBuffer) -> None:
        """Write what has come next.  Blocks: as long as the disk takes."""
        with memoryview(data).cast("B") as left:
            written_bytes = 0
            while written_bytes < len(left):
                written_bytes += os.write(self._file.fileno(), left[written_bytes:])

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        """Fill all of *buffer*.  Blocks: as long as the disk takes."""
        got_bytes = pread_up_to(self._file.fileno(), buffer, offset_bytes)
        require_length(self._name, offset_bytes, len(buffer), got_bytes)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
