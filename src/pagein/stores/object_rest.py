"""What comes behind the first bytes of an object, by the same answer, through obstore.

Guarantees: no more of it comes than obstore and the system have buffers for, before somebody wants it; and no byte of
another version: where an answer breaks off, obstore asks for what is left as object.py says.
Assumes: one thread at a time has it.
Not here: who receives it, and for how long it is there (mm/rest.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import store_failed
from . import clients
from .validators import bytes_of

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from ..mm.rest import Part

_streams: set[Iterator[ReadableBuffer]] = set()
"""A forked child keeps them: to drop one would be to call into a runtime that is not there."""


class RestOfObject:
    """What was not read of an answer: but for what of it is at hand, it is in obstore's connection."""

    __slots__ = ("_at_bytes", "_at_hand", "_name", "_stream", "stop_bytes")

    def __init__(
        self, name: str, stream: Iterator[ReadableBuffer], at_hand: memoryview, at_bytes: int, stop_bytes: int
    ) -> None:
        self._name = name
        self._stream: Iterator[ReadableBuffer] | None = stream
        self._at_hand = at_hand
        self._at_bytes = at_bytes
        self.stop_bytes: int = stop_bytes
        """As `RestOfAnswer.stop_bytes`."""
        _streams.add(stream)

    def fill(self, part: Part) -> None:
        """As `RestOfAnswer.fill`."""
        clients.require_same_process(self._name)
        stream, start, stop = self._stream, part.offset, part.offset + part.size_bytes
        if stream is None or start != self._at_bytes:
            raise self._broken_off(start, stop)
        while self._at_bytes < stop:
            if not self._at_hand:
                try:
                    self._at_hand = memoryview(next(stream))
                except Exception as error:  # also that it is at its end
                    raise self._broken_off(start, stop) from error
            some = self._at_hand[: stop - self._at_bytes]
            part.write(some, self._at_bytes - start)
            self._at_hand = self._at_hand[len(some) :]
            self._at_bytes += len(some)

    def _broken_off(self, start: int, stop: int) -> OSError:
        return store_failed(self._name, f"the answer broke off before all of {bytes_of(start, stop)} had come")

    def close(self) -> None:
        """As `RestOfAnswer.close`."""
        stream, self._stream = self._stream, None
        if stream is not None and clients.is_same_process():
            _streams.discard(stream)
