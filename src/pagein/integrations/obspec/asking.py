"""How the store is asked what an object is now, and what its pages come from.

Guarantees: one request a look, of obstore's stores: a GET of the bytes that somebody wants, which brings size, version
and attributes along; of what is known already, it is conditional (If-None-Match), so that nothing comes if nothing has
changed.  No thread waits for it but the caller's own.  What the store raises is passed on as it is.
Other stores are asked for `head`, and for pages by `get_range`, by threads: what of theirs is asynchronous may belong
to one event loop.  They say of no range which version it is of, so that a change between two looks is not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from obstore import exceptions

from ...stores import clients, loop, object as object_store
from ...stores.options import Same
from ...stores.ranges import RangeOperations, require_length
from ...stores.source import Opened
from ...stores.validators import is_strong, version_of
from .ranges import REQUEST_BYTES_MAX, Wanted

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from .known import Known

Done = Callable[["Answer | None", BaseException | None], object]
"""Is told what came of it; None, None if what is known is what is there."""


@dataclass(frozen=True)
class Answer:
    """What a store says that an object is."""

    meta: Any
    attributes: Any
    opened: Opened
    first: ReadableBuffer = b""
    """Bytes that came along..."""
    first_offset: int = 0
    """...and where they begin."""


class ObstoreAsker:
    """Of a store of obstore's."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._is_at_hand = isinstance(store, clients.AT_HAND)
        self._is_http = isinstance(store, clients.HTTPStore)

    def takes(self, path: str) -> bool:
        """Whether the cache can have it: obstore drops slashes of which we would make a directory."""
        return self._is_http or not (path.endswith("/") or not path.strip("/"))

    def source(self, path: str) -> object_store.ObjectSource:
        """The object."""
        return object_store.source_in_store(self._store, path)

    def ask(self, path: str, wanted: Wanted | None, known: Known | None) -> Answer | None:
        """Ask what it is now, and for some of its bytes.  Blocks: as long as the store takes."""
        clients.require_same_process(self.source(path).name)
        asking = self._asking(path, wanted, known)
        try:
            call = next(asking)
            while True:
                try:
                    result = getattr(call.target, call.name)(*call.args, **call.options)
                except Exception as error:
                    call = asking.throw(error)
                else:
                    call = asking.send(result)
        except StopIteration as end:
            return cast("Answer | None", end.value)

    def start_asking(self, path: str, wanted: Wanted | None, known: Known | None, done: Done) -> None:
        """As `ask`, on the loop.  Blocks: no."""
        answers: list[Answer | None] = []
        name = self.source(path).name

        async def ask() -> None:
            clients.require_same_process(name)
            asking = self._asking(path, wanted, known)
            try:
                call = next(asking)
                while True:
                    try:
                        result = await getattr(call.target, f"{call.name}_async")(*call.args, **call.options)
                    except Exception as error:
                        call = asking.throw(error)
                    else:
                        call = asking.send(result)
            except StopIteration as end:
                answers.append(end.value)

        loop.start(ask, lambda error: done(answers[0] if answers else None, error), name)

    def _asking(self, path: str, wanted: Wanted | None, known: Known | None) -> Generator[_Call, Any, Answer | None]:
        """What to call, one after another, each in one of the two ways that there are of it."""
        attempts = self._attempts(wanted, known)
        for options in attempts:
            try:
                result = yield _Call(self._store, "get", (path,), {"options": options})
            except exceptions.NotModifiedError:
                return None
            except Exception as error:
                is_other_asked = clients.is_refusal if "head" in options else clients.is_without_range
                if options is attempts[-1] or not is_other_asked(error):
                    raise
            else:
                if result.meta["size"] or not ("head" in options and self._is_http):
                    break
        meta, attributes, (start, stop) = result.meta, result.attributes, result.range
        first: ReadableBuffer = b""
        if "range" in options or (not options and not self._is_at_hand and meta["size"] <= REQUEST_BYTES_MAX):
            try:
                first = yield _Call(result, "bytes", (), {})
            except Exception as error:
                if not clients.is_broken_off(error):
                    raise
            if memoryview(first).nbytes != stop - start:  # broken off: whoever reads asks again
                first = b""
        return Answer(meta, attributes, self.source(path).opened(meta), first, start)

    def _attempts(self, wanted: Wanted | None, known: Known | None) -> list[dict[str, Any]]:
        """What to ask for, until one is answered: servers over HTTP may refuse HEAD, or say that nothing is there; a
        server may know no ranges, and an object be empty, or end before the one that is wanted."""
        etag = known.meta["e_tag"] if known is not None else None
        condition: dict[str, Any] = {"if_none_match": etag} if is_strong(etag) else {}
        if self._is_at_hand:
            return [condition]  # what is not read of the answer costs nothing
        head, ranged = {"head": True, **condition}, {"range": wanted.to_ask() if wanted else (0, 1), **condition}
        if wanted is not None and (known is None or condition):
            return [ranged, condition]
        return [head, ranged, condition] if wanted is not None or self._is_http else [head]


class _Call(NamedTuple):
    """Of a method of obstore's, to be called as it is named, or with ``_async`` behind."""

    target: Any
    name: str
    args: tuple[Any, ...]
    options: dict[str, Any]


class OtherAsker:
    """Of any other store that has ``head`` and ``get_range``, or both as coroutines."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._head = _blocking(store, "head")
        self._get_range = _blocking(store, "get_range")

    def takes(self, path: str) -> bool:
        """Any."""
        return True

    def source(self, path: str) -> OtherSource:
        """The object."""
        return OtherSource(self._store, path, self._head, self._get_range)

    def ask(self, path: str, wanted: Wanted | None, known: Known | None) -> Answer | None:
        """Ask what it is now.  Blocks: as long as the store takes."""
        meta, opened = self.source(path).look()
        is_same = known is not None and known.reader.version == opened.version
        return None if is_same else Answer(meta, {}, opened)


class OtherSource:
    """One object of a store that is not obstore's."""

    requests_max = 32

    def __init__(self, store: Any, path: str, head: Callable[..., Any], get_range: Callable[..., Any]) -> None:
        self.path = path
        self.device_key: Hashable = ("obspec", Same(store))
        self.key: Hashable = (self.device_key, path)
        self.place: str = f"<{type(store).__name__}>"
        self.name: str = f"{self.place}:{path}"
        self.device_name: str = self.place
        self.get_range = get_range
        self._head = head

    def open(self) -> Opened:
        """Look at it now.  Blocks: as long as the store takes.  Raises: what it raises."""
        return self.look()[1]

    def look(self) -> tuple[Any, Opened]:
        """As `open`, with all that the store says of it."""
        meta = self._head(self.path)
        return meta, Opened(OtherOperations(self), meta["size"], version_of(meta))


class OtherOperations(RangeOperations):
    """An object of a store that is not obstore's, range by range."""

    requests_max: int = OtherSource.requests_max

    def __init__(self, source: OtherSource) -> None:
        self._source = source
        self.device_name: str = source.device_name

    @property
    def device_key(self) -> Hashable:
        """The store, whichever object."""
        return self._source.device_key

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        """Blocks: as long as the store takes.  Raises: OSError: EIO also for another number of bytes."""
        source = self._source
        try:
            found = source.get_range(source.path, start=offset_bytes, length=len(buffer))
        except OSError:
            raise
        except Exception as error:
            raise clients.os_error(error, source.name) from error
        with memoryview(found) as data:
            require_length(source.name, offset_bytes, len(buffer), data.nbytes)
            buffer[:] = data.cast("B")


def asker_of(store: Any) -> ObstoreAsker | OtherAsker:
    """Who asks this store.  Raises: TypeError for what is none."""
    if isinstance(store, clients.STORES):
        return ObstoreAsker(store)
    for name in ("head", "get_range"):
        if not (callable(getattr(store, name, None)) or callable(getattr(store, f"{name}_async", None))):
            raise TypeError(
                f"{type(store).__name__} has no {name}: a store of obstore is accepted, or any with obspec's Head and "
                "GetRange, or HeadAsync and GetRangeAsync"
            )
    return OtherAsker(store)


def _blocking(store: Any, name: str) -> Callable[..., Any]:
    call = getattr(store, name, None)
    if callable(call):
        found: Callable[..., Any] = call
        return found
    later: Callable[..., Coroutine[Any, Any, Any]] = getattr(store, f"{name}_async")
    return lambda *args, **options: loop.run(lambda: later(*args, **options))
