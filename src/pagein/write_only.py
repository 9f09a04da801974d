"""`WriteOnlyFile`: what `pagein.open` returns for the modes "wb", "ab" and "xb".

Guarantees: whatever would read raises `io.UnsupportedOperation`, as of the built-in `open`.
Not here: everything else that it does (file.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from .errors import not_readable
from .file import File

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class WriteOnlyFile(File):
    """A file of a mode that does not read."""

    __slots__ = ()

    def _refuse_reading(self, what: str) -> NoReturn:
        self._check_open()
        raise not_readable(what)

    def read(self, size: int | None = -1, /) -> bytes:
        """Raises `io.UnsupportedOperation`."""
        self._refuse_reading("read")

    def read1(self, size: int = -1, /) -> bytes:
        """Raises `io.UnsupportedOperation`."""
        self._refuse_reading("read1")

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Raises `io.UnsupportedOperation`."""
        self._refuse_reading("readinto")

    def readinto1(self, buffer: WriteableBuffer, /) -> int:
        """Raises `io.UnsupportedOperation`."""
        self._refuse_reading("readinto1")

    def peek(self, size: int = 0, /) -> bytes:
        """Raises `io.UnsupportedOperation`."""
        self._refuse_reading("peek")

    def readline(self, size: int | None = -1, /) -> bytes:
        """Raises `io.UnsupportedOperation`."""
        self._refuse_reading("readline")

    def pread(self, size: int, offset: int) -> bytes:
        """Raises `io.UnsupportedOperation`."""
        self._refuse_reading("pread")

    def preadinto(self, buffer: WriteableBuffer, offset: int) -> int:
        """Raises `io.UnsupportedOperation`."""
        self._refuse_reading("preadinto")

    def view(self, size: int, offset: int) -> memoryview:
        """Raises `io.UnsupportedOperation`."""
        self._refuse_reading("view")
