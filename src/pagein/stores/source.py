"""What a store gives to the cache: a `Source`, which says which object is meant, and an `Opened` one.

Guarantees: two sources with equal ``key`` are one object, and share one mapping; two `Opened` with equal
``version`` have the same bytes.  `Source` does no I/O; `Source.open` does, and raises OSError with the right
errno (ENOENT, EISDIR, EACCES, ...).
Assumes: every fetch that ``Opened.ops`` makes is checked against ``version`` where the store can, and fails with
ESTALE if the object has changed.
Not here: who turns what a user writes into a source (stores/__init__.py), when it is looked at again (pagein.lookup).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from ..mm.aops import AddressSpaceOperations
from ..mm.rest import RestOfAnswer

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def _nothing() -> None:
    pass


class Opened(NamedTuple):
    """One version of an object: its size, and the operations that bring its pages."""

    ops: AddressSpaceOperations
    size_bytes: int
    version: str
    """An ETag, or mtime and size: equal versions have equal bytes."""
    head: ReadableBuffer = b""
    """Its first bytes, if they came with the answer: whole pages, or all that there are."""
    rest: RestOfAnswer | None = None
    """What was asked for behind the head, and not read."""
    close: Callable[[], None] = _nothing
    """Called once, when no mapping uses ``ops`` any more."""
    look: Callable[[], Opened | None] | None = None
    """Ask, as cheaply as the store can, whether the object is still this version: None if it is, as far as the
    validators tell that both answers have; else what it is now.  Without one, `Source.open` is asked.

    Also called after ``close``.  Blocks: as long as the store takes.  Raises: OSError."""
    again: Callable[[], Opened | None] | None = None
    """This version once more, after ``close``, without asking the store; ``ops`` notice if it is not there any more.
    Without one, or if it returns None, `Source.open` is asked."""
    has_validator: bool = True
    """Whether another version can be told from this one.  If not, whoever opens it gets another each time."""


class Source(Protocol):
    """One object of a store.

    If it knows before it is opened which store that is, it may have what `AddressSpaceOperations` of it will have:
    ``device_key``, ``device_name`` and ``requests_max``.  Then looks at it are among the requests of which the store
    gets so many at once; else any number of them may be under way.  With the first it has all three: else it cannot be
    opened.
    """

    @property
    def key(self) -> Hashable:
        """Its identity: sources with equal keys are one object."""

    @property
    def name(self) -> str:
        """What to call it in messages: a path or URL without secrets."""

    def open(self) -> Opened:
        """Look at it now.  Blocks: as long as the store takes.  Raises: OSError."""


class SourceWithHead(Source, Protocol):
    """One whose first bytes may come with the answer to the question what it is, at the price of one request.

    It may have a number ``workers_ahead``: so many threads it takes to read on from there, which are started while the
    answer is on its way.
    """

    def open_with_head(self) -> Opened:
        """As `open`, of an object of which nothing is in the cache yet."""


class SourceWithRest(SourceWithHead, Protocol):
    """One that may leave the rest of such an answer unread, for who reads on.  It has a ``device_key``, too."""

    def open_with_rest(self, rest_bytes: int) -> Opened:
        """As `open_with_head`; so much behind the head, if any, is asked for with it, and comes as `Opened.rest`:
        whoever has that closes it."""


@runtime_checkable
class WritableSource(Source, Protocol):
    """One that can be written to.  A source without this is read-only (EROFS)."""

    def open_for_writing(self, *, create: bool, exclusive: bool, truncate: bool) -> Opened:
        """As `open`; ``ops.writable`` is True, and ``ops.version`` follows what is written through these operations.

        *create*: make it if it is not there; *exclusive*: and fail if it is; *truncate*: start with nothing.  Where
        objects are replaced whole, nothing of this is seen by others before the first ``ops.fsync()``.
        Blocks: as long as the store takes.  Raises: OSError: ENOENT, EEXIST, EISDIR, EACCES, EPERM, EROFS, …
        """


class Store(Protocol):
    """A place with objects: ``(store, path)`` opens one of them."""

    def source(self, path: str) -> Source:
        """The object at *path*.  Does no I/O, except that symbolic links of a local path are read."""
