"""Objects read through obstore: S3, GCS, Azure, HTTP, and obstore's local and memory stores.

Guarantees: a fetch is one GET of one range, for which no thread waits but a reader's own; the answer is copied into
the cache's memory by a system call, while other threads run.  It is asked for by If-Match where the object has a
strong ETag, and every answer is checked: the range it says it has, its length, and its ETag, or else its date and
size, against the version that was opened.  412, 416, or an answer of another version is ESTALE.  Where an answer
breaks off, obstore asks for the rest of it, if there is an ETag, and accepts only that range of an answer with the
same ETag; but only for the time that it is told to try again, from the start: what breaks off later is asked for anew,
in pieces that come in RETRY_TIMEOUT_S, unless the user wants no retry.  A weak ETag is never sent, only compared.
Assumes: equal ETags, even weak ones, mean equal bytes, or else dates differ.  A server may omit a validator in some
answers; those that both have are compared.  An object with neither ETag nor Last-Modified may have changed at each
open, so its version never recurs; while it is open, only its size is compared.
A server without ranges (it answers 200): the whole object, up to WHOLE_BYTES_MAX, is fetched once into an unlinked
temporary file, and every page comes from there until the object is closed.  It costs disk, not the cache's
memory, and one version of it serves all.  Small objects never come to that: what is asked for whole is asked for
without a range.  obstore refuses answers without Content-Length, so an object that comes only in chunks of unknown
number cannot be opened (EIO or EOPNOTSUPP, saying so); nor can keys with empty segments or dots (EINVAL).
Not here: waits, retries and errors (clients.py); what comes behind the first bytes (object_rest.py); how an object is
replaced (object_writing.py).
"""

from __future__ import annotations

import asyncio
import errno
import re
import time
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlunsplit

import obstore
from obstore import exceptions

from ..errors import (
    exists,
    is_directory,
    not_found,
    stale,
    store_failed,
    without_secrets,
    wrong_range,
)
from . import clients
from .clients import ObjectStore
from .http_url import split_http_url
from .object_rest import RestOfObject
from .options import Same, frozen
from .policy import RETRIES_MAX, RETRY_TIMEOUT_S, SLOWEST_BYTES_S
from .ranges import AsyncRangeOperations, require_length
from .source import Opened
from .validators import bytes_of, has_validator, is_same_version, is_strong, require_same_version, version_of
from .whole import WHOLE_BYTES_MAX, WholeObject

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from obstore import GetOptions, GetResult, ObjectMeta

CHUNK_BYTES = 64 << 10
"""At least so much of an answer is handed over at once, each time with the GIL."""
HEAD_BYTES = 128 << 10
"""Of an object of which nothing is known yet, so much is asked for at once."""
PIECE_BYTES = RETRY_TIMEOUT_S * SLOWEST_BYTES_S
"""So much comes in the time for retries, however slow the line."""
_PLAIN_PATH = re.compile(r"(?:/(?!\.\.?(?:/|\Z))[A-Za-z0-9._~!$&'()*+,;=:@-]+)+")
"""A URL's path that obstore sends letter for letter if it is given as a key."""


def source_of_url(url: str, options: Mapping[str, Any]) -> ObjectSource:
    """The object at an ``http(s):`` URL, or at ``scheme://bucket/key``, where the key is taken as it is written."""
    if url[:4].lower() == "http":
        return _source_of_http(url, options)
    scheme, _, rest = url.partition("://")
    bucket, _, path = rest.partition("/")
    base_url = f"{'gs' if scheme.lower() == 'gcs' else scheme.lower()}://{bucket}"
    store = clients.client_for(base_url, options, name=url)
    key = ("object", base_url, frozen(options), path)
    upload = partial(clients.client_for, base_url, options, name=url)
    name = f"{without_secrets(base_url)}/{path}"  # as fsspec has it, a key and its secret may be there
    return WritableObjectSource(store, path, key=key, name=name, upload=upload)


def _source_of_http(url: str, options: Mapping[str, Any]) -> ObjectSource:
    parts = split_http_url(url)
    name = f"{parts.scheme}://{parts.host}{parts.path}{'?…' if parts.query else ''}"
    if parts.user_info:
        options = clients.with_basic_auth(options, parts.user_info)
    if _PLAIN_PATH.fullmatch(parts.path) and not parts.query:
        base_url, path = f"{parts.scheme}://{parts.host}", parts.path[1:]
    else:  # a client of its own for this one URL, which is the only way to have it sent as it is written
        base_url, path = urlunsplit((parts.scheme, parts.host, parts.path, parts.query, "")), ""
    store = clients.client_for(base_url, options, name=name)
    return ObjectSource(store, path, key=("object", base_url, frozen(options), path), name=name)


def source_in_store(store: ObjectStore, path: str) -> ObjectSource:
    """The object at *path* of a store that the user has made, with the waits and retries that it was made with."""
    path = path.removeprefix("/")  # as obstore itself does
    key, name = ("object", Same(store), path), f"{place_of(store)}:{path}"
    if isinstance(store, clients.HTTPStore):
        return ObjectSource(store, path, key=key, name=name)
    return WritableObjectSource(store, path, key=key, name=name, upload=lambda *, upload_bytes: store)


def place_of(store: object) -> str:
    """What to call a store in messages, without secrets."""
    return re.sub(r"\?[^\"]*", "?…", re.sub(r"//[^/\"]*@", "//", repr(store)))


def _device_key_of(store: ObjectStore) -> Hashable:
    return "object", id(store)


def _device_name_of(name: str, path: str) -> str:
    return name.removesuffix(path).rstrip("/:")


class ObjectSource:
    """One object of an obstore store."""

    def __init__(self, store: ObjectStore, path: str, *, key: Hashable, name: str) -> None:
        self._store = store
        self._path = path
        self._is_http = isinstance(store, clients.HTTPStore)
        self._is_remote = not isinstance(store, clients.AT_HAND)
        self._ignores_conditions = False
        """Whether the server has sent what it was asked for only if it is another version."""
        self.key = key
        self.name = name
        # Looks at remote ones count: as many are under way as the store takes.
        if self._is_remote:
            self.device_key: Hashable = _device_key_of(store)

    @property
    def device_name(self) -> str:
        """As that of its operations."""
        return _device_name_of(self.name, self._path)

    @property
    def requests_max(self) -> int:
        """As that of its operations."""
        return ObjectOperations.requests_max

    def open_with_head(self) -> Opened:
        """One GET of the first bytes: who opens an object mostly reads it, and many are no larger."""
        return self.open_with_rest(0)

    def open_with_rest(self, rest_bytes: int) -> Opened:
        """The same, and of what lies behind them, which is left in the connection."""
        if not self._is_remote:
            return self.open()
        opened = self._first_bytes(None, rest_bytes)
        assert opened is not None, "it was asked without a condition"
        return opened

    def _first_bytes(self, known: ObjectMeta | None, rest_bytes: int = 0) -> Opened | None:
        """The object with its first bytes; None if it is the version that is known."""
        self._require_name()
        options: GetOptions = {"range": (0, HEAD_BYTES + rest_bytes)}
        if known is not None and known["e_tag"]:
            options["if_none_match"] = known["e_tag"]
        try:
            result = obstore.get(self._store, self._path, options=options)
            meta = result.meta
            if known is not None and is_same_version(known, meta):
                self._ignores_conditions = True
                return None  # the bytes are left unread
            (start, stop), head_stop = result.range, min(HEAD_BYTES, meta["size"])
            if stop > head_stop:
                stream: Iterator[ReadableBuffer] = iter(result.stream(min_chunk_size=HEAD_BYTES))
                data = memoryview(next(stream, b""))
            else:
                data = memoryview(result.bytes())  # 0.2 ms sooner than a stream's
        except exceptions.NotModifiedError:
            return None
        except Exception as error:
            if rest_bytes and clients.is_for_less(error):
                return self._first_bytes(known)
            if clients.is_without_range(error) or clients.is_broken_off(error):
                return self.open()  # another question may be answered
            raise self._os_error(error) from error
        if start or stop > min(HEAD_BYTES + rest_bytes, meta["size"]) or not head_stop <= len(data) <= stop:
            return self.open()
        rest = None
        if stop > head_stop:
            rest = RestOfObject(self.name, stream, data[head_stop:], head_stop, stop)
        return self.opened(meta, head=data[:head_stop], rest=rest)

    def open(self) -> Opened:
        """One HEAD, and over HTTP a GET of one byte where HEAD is not answered, or says that nothing is there."""
        self._require_name()
        return self.opened(self._head())

    def opened(
        self,
        meta: ObjectMeta,
        *,
        head: ReadableBuffer = b"",
        rest: RestOfObject | None = None,
        version: str | None = None,
    ) -> Opened:
        """The version that has this *meta*.  Does no I/O."""
        ops = ObjectOperations(self._store, self._path, meta, self.name, version=version)
        return Opened(
            ops,
            meta["size"],
            ops.version,
            head=head,
            rest=rest,
            close=ops.close,
            look=partial(self._look, meta),
            again=partial(self.opened, meta, version=ops.version),
            has_validator=has_validator(meta),
        )

    def _look(self, was: ObjectMeta) -> Opened | None:
        """One GET of the first bytes on the condition that they are another version's; of what has no strong ETag, or
        where conditions are ignored, as `open`."""
        if self._is_remote and is_strong(was["e_tag"]) and not self._ignores_conditions:
            return self._first_bytes(was)
        self._require_name()
        meta = self._head()
        return None if is_same_version(was, meta) else self.opened(meta)

    def _require_name(self) -> None:
        clients.require_same_process(self.name)
        if not self._is_http and (not self._path or self._path.endswith("/")):
            raise is_directory(self.name)  # obstore would drop the slash and open another object...
        if not self._is_http and self._path.startswith("/"):  # ...as it would here
            raise store_failed(self.name, "obstore cannot name keys with empty segments", errno.EINVAL)

    def _head(self) -> ObjectMeta:
        try:
            meta = obstore.head(self._store, self._path)
        except Exception as error:
            # Some servers refuse HEAD: with 405 (obstore says "not found"), or 403 where a URL is signed for GET.
            if not self._is_http or not clients.is_refusal(error):
                raise self._os_error(error) from error
            return self._meta_of_get()
        return meta if meta["size"] or not self._is_http else self._meta_of_get()

    def _meta_of_get(self) -> ObjectMeta:
        try:
            return obstore.get(self._store, self._path, options={"range": (0, 1)}).meta
        except Exception as error:
            if not clients.is_without_range(error):
                raise self._os_error(error) from error
        try:
            return obstore.get(self._store, self._path).meta  # the body is left unread
        except Exception as error:
            raise self._os_error(error) from error

    def _os_error(self, error: Exception) -> OSError:
        """What obstore raised, as the OSError to raise from it; what is no object may be a prefix of others."""
        return self._or_directory(clients.os_error(error, self.name))

    def _or_directory(self, known: OSError) -> OSError:
        return is_directory(self.name) if known.errno == errno.ENOENT and self._is_prefix() else known

    def _is_prefix(self) -> bool:
        if self._is_http:
            return False
        try:
            return bool(next(iter(obstore.list(self._store, self._path, chunk_size=1)), None))
        except Exception:  # no right to list, perhaps: then it is just not found
            return False


class Upload(Protocol):
    """The client for an upload of so many bytes."""

    def __call__(self, *, upload_bytes: int) -> ObjectStore:
        """It may be the one that everybody has."""


class WritableObjectSource(ObjectSource):
    """One object of a store other than HTTP."""

    def __init__(self, store: ObjectStore, path: str, *, key: Hashable, name: str, upload: Upload) -> None:
        super().__init__(store, path, key=key, name=name)
        self._upload = upload

    def open_for_writing(self, *, create: bool, exclusive: bool, truncate: bool) -> Opened:
        """One HEAD.  Raises: OSError: ENOENT, EEXIST, EISDIR, EACCES, …"""
        from .object_writing import ObjectTarget
        from .staged import staged

        self._require_name()
        target = ObjectTarget(self._store, self._path, self.name, upload=self._upload)
        found = target.look()
        if found is None and (not create or self._is_prefix()):
            raise self._or_directory(not_found(self.name))
        if found is not None and exclusive:
            raise exists(self.name)
        target.expect(found)
        return staged(target, truncate=truncate)


class ObjectOperations(AsyncRangeOperations):
    """One version of an object, range by range."""

    readers_call: bool = True

    def __init__(
        self, store: ObjectStore, path: str, opened: ObjectMeta, name: str, *, version: str | None = None
    ) -> None:
        self._store = store
        self._path = path
        self._opened = opened
        self._name = name
        self.device_name: str = _device_name_of(name, path)
        self._if_match = opened["e_tag"] if is_strong(opened["e_tag"]) else None
        # obstore reads a local file after it has looked at its ETag, and does not look again.
        self._checks_afterwards = isinstance(store, clients.ObstoreLocalStore)
        self._whole: WholeObject | None = None
        self._whole_lock = asyncio.Lock()
        self.version: str = version_of(opened) if version is None else version
        self.validates: bool = has_validator(opened)

    @property
    def device_key(self) -> Hashable:
        """The store, whichever object."""
        return _device_key_of(self._store)

    async def fetch(self, offset_bytes: int, size_bytes: int) -> ReadableBuffer:
        """Raises: OSError: ESTALE if it is another version by now."""
        if not size_bytes:
            return b""
        if self._whole is None:
            try:
                return await self._fetch(offset_bytes, offset_bytes + size_bytes)
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP or self._opened["size"] > WHOLE_BYTES_MAX:
                    raise
            await self._fetch_whole()
        return await asyncio.to_thread(self._read_whole, offset_bytes, size_bytes)  # the disk may be slow

    def fetch_here(self, offset_bytes: int, size_bytes: int) -> ReadableBuffer | None:
        """`_fetch` without the loop: by way of a future of obstore's, each answer takes some 0.4 ms longer."""
        if not size_bytes or self._whole is not None:
            return None
        start, stop, began_s = offset_bytes, offset_bytes + size_bytes, time.monotonic()
        try:
            return self._fetch_at_once_here(start, stop)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                self.readers_call = False  # the server knows no ranges: `fetch` has the object whole
                return None
            if not self._broke_off_late(error, size_bytes, began_s):
                raise
        return b"".join(self._fetch_at_once_here(*piece) for piece in _pieces(start, stop))

    def _fetch_at_once_here(self, start: int, stop: int) -> ReadableBuffer:
        clients.require_same_process(self._name)
        with self._as_os_error():
            result = obstore.get(self._store, self._path, options=self._options(start, stop))
        self._require_answer(result, start, stop)
        with self._as_os_error(f"the answer broke off before all of {bytes_of(start, stop)} had come"):
            data = result.bytes()
        require_length(self._name, start, stop - start, len(data))
        if self._checks_afterwards:
            with self._as_os_error():
                now = obstore.head(self._store, self._path)
            self._require_opened_version(now)
        return data

    def close(self) -> None:
        """Let go of the temporary file, if there is one."""
        if self._whole is not None:
            self._whole.close()

    async def _fetch(self, start: int, stop: int) -> ReadableBuffer:
        """Bytes [start, stop) of the version that was opened."""
        began_s = time.monotonic()
        try:
            return await self._fetch_at_once(start, stop)
        except OSError as error:
            if not self._broke_off_late(error, stop - start, began_s):
                raise
        return b"".join([await self._fetch_at_once(*piece) for piece in _pieces(start, stop)])

    async def _fetch_at_once(self, start: int, stop: int) -> ReadableBuffer:
        clients.require_same_process(self._name)
        with self._as_os_error():
            result = await obstore.get_async(self._store, self._path, options=self._options(start, stop))
        self._require_answer(result, start, stop)
        with self._as_os_error(f"the answer broke off before all of {bytes_of(start, stop)} had come"):
            data = await result.bytes_async()
        require_length(self._name, start, stop - start, len(data))
        if self._checks_afterwards:
            with self._as_os_error():
                now = await obstore.head_async(self._store, self._path)
            self._require_opened_version(now)
        return data

    def _broke_off_late(self, error: OSError, size_bytes: int, began_s: float) -> bool:
        """Whether an answer, of which obstore has kept nothing, might have come to its end in pieces."""
        count_max, timeout_s = _retries_of(self._store)
        is_late = time.monotonic() - began_s > timeout_s > 0
        if not (is_late and count_max and self._if_match and size_bytes > PIECE_BYTES):
            return False
        return isinstance(error.__cause__, Exception) and clients.is_broken_off(error.__cause__)

    # -- an object that comes only whole -------------------------------------------------------------

    async def _fetch_whole(self) -> None:
        # Held during the download: whoever else needs a page of this object can only wait for it, or, should it
        # fail, try for himself.
        async with self._whole_lock:
            if self._whole is not None:
                return
            whole = WholeObject(self._name)
            try:
                await self._download_to(whole)
            except BaseException:
                whole.close()
                raise
            self._whole = whole
            self.validates = False  # from here on, nobody asks the store

    async def _download_to(self, whole: WholeObject) -> None:
        clients.require_same_process(self._name)
        start, stop, got_bytes = 0, self._opened["size"], 0
        with self._as_os_error():
            result = await obstore.get_async(self._store, self._path, options=self._options(start, stop))
        self._require_answer(result, start, stop)
        with self._as_os_error(f"the answer broke off before all of {bytes_of(start, stop)} had come"):
            async for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
                got_bytes += len(chunk)
                if got_bytes > stop:
                    break
                whole.append(chunk)
        require_length(self._name, start, stop, got_bytes)

    def _read_whole(self, offset_bytes: int, size_bytes: int) -> bytearray:
        assert self._whole is not None
        data = bytearray(size_bytes)
        with memoryview(data) as buffer:
            self._whole.fill(buffer, offset_bytes)
        return data

    # -- what is asked, and what an answer must be ---------------------------------------------------

    def _options(self, start: int, stop: int) -> GetOptions:
        options: GetOptions = {}
        if (start, stop) != (0, self._opened["size"]):  # else any server can answer
            options["range"] = (start, stop)
        if self._if_match:
            options["if_match"] = self._if_match
        return options

    @contextmanager
    def _as_os_error(self, broken_off: str = "") -> Iterator[None]:
        """What obstore raises, as an OSError; *broken_off*: what to say of an answer that ended too soon."""
        try:
            yield
        except exceptions.PreconditionError as error:
            raise stale(self._name, was=self.version, now="another version") from error
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:  # of the temporary file; obstore sets none
                raise
            if clients.status_of(error) == 416:
                raise stale(self._name, was=self.version, now="shorter") from error
            if broken_off and clients.is_broken_off(error):
                raise store_failed(self._name, broken_off) from error
            raise clients.os_error(error, self._name) from error

    def _require_answer(self, result: GetResult, start: int, stop: int) -> None:
        self._require_opened_version(result.meta)
        if result.range != (start, stop):
            got_start, got_stop = result.range
            raise wrong_range(self._name, asked=bytes_of(start, stop), got=bytes_of(got_start, got_stop))

    def _require_opened_version(self, now: ObjectMeta) -> None:
        require_same_version(self._name, version=self.version, was=self._opened, now=now)


def _retries_of(store: ObjectStore) -> tuple[int, float]:
    """How often it tries again, and for how many seconds: as it was told, or as we would have told it."""
    told: Mapping[str, Any] = getattr(store, "retry_config", None) or {}  # a local one has none
    timeout = told.get("retry_timeout")
    timeout_s = timeout.total_seconds() if isinstance(timeout, timedelta) else RETRY_TIMEOUT_S
    return told.get("max_retries", RETRIES_MAX), timeout_s


def _pieces(start: int, stop: int) -> Iterator[tuple[int, int]]:
    for at in range(start, stop, PIECE_BYTES):
        yield at, min(at + PIECE_BYTES, stop)
