"""Objects behind ``http:`` and ``https:`` URLs, read by a client of our own (http_connections.py).

Guarantees: a fetch is one GET of one range, which is received straight into the cache's memory; that memory is had
while the answer is on its way.  It is asked for by If-Match where the object has a strong ETag, and every answer is
checked: its status, the range it says it has, its length, and its ETag, or else its date and size, against the version
that was opened.  412, 416, or an answer of another version is ESTALE.  Where an answer breaks off the rest of it is
asked for, if it told a strong ETag, and for as long as more of it comes each time (policy.py); if not, all of it.  Only
what tells the same strong ETag is put together (RFC 9110, 15.3.7.3).  A weak ETag is never sent, only compared.
Assumes: as validators.py.  An object with neither ETag nor Last-Modified may have changed at each open, so its version
never recurs; while it is open, only its size is compared.
A server without ranges (it answers 200): the whole object, up to WHOLE_BYTES_MAX, is fetched once (whole.py), and every
page comes from there until the object is closed.  Small objects never come to that: what is asked for whole is asked
for without a range.  An answer without Content-Length, or in a transfer coding, does not say where it ends, and is
refused (EOPNOTSUPP).
Not here: what an answer is, and says (http_asking.py); obstore, which reads what it is asked for with options that only
it knows (object.py).
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlunsplit

from ..errors import (
    short_fetch,
    stale,
    store_failed,
    wrong_range,
)
from ..mm.aops import AOP_UPDATED_PAGE
from ..mm.pipe import WIDTH_START
from .http_asking import Asker, BrokenOff, NoRanges, range_header, status_of
from .http_url import split_http_url
from .policy import retrying
from .ranges import RangeOperations
from .source import Opened
from .validators import (
    Meta,
    bytes_of,
    has_validator,
    is_same_version,
    is_strong,
    require_same_version,
    version_of,
)
from .whole import WHOLE_BYTES_MAX, WholeObject

if TYPE_CHECKING:
    from ..mm.openfile import OpenFile
    from ..mm.page import Page
    from ..mm.rac import ReadaheadControl
    from ..mm.rest import Part
    from .http_options import HTTPOptions

HEAD_BYTES = 128 << 10
"""Of an object of which nothing is known yet, so much is asked for at once."""
CHUNK_BYTES = 1 << 20
"""Of an object that comes whole, so much is written at once."""
REQUESTS_MAX = 64


def source_of_url(url: str, options: HTTPOptions) -> HTTPSource:
    """The object at an ``http(s):`` URL, which is sent as it is written, but for what a URL cannot hold."""
    parts = split_http_url(url)
    if parts.user_info:
        options = options.with_basic_auth(parts.user_info)
    sent = urlunsplit((parts.scheme, parts.host, parts.path, parts.query, ""))
    return HTTPSource(url if sent == url else sent, options)


class HTTPSource:
    """One object of a server."""

    # Many small objects may be open at once: what is equal for all is not kept for each.
    __slots__ = ("_ask", "_ignores_conditions", "key")
    workers_ahead: int = WIDTH_START
    requests_max: int = REQUESTS_MAX

    def __init__(self, url: str, options: HTTPOptions) -> None:
        self.key: Hashable = ("http", url, options)
        self._ask = Asker(url, options)
        self._ignores_conditions = False
        """Whether the server has sent what it was asked for only if it is another version."""

    @property
    def name(self) -> str:
        """The URL without its query."""
        return self._ask.name

    @property
    def place(self) -> str:
        """Its server."""
        return self._ask.place

    @property
    def device_name(self) -> str:
        """As that of its operations."""
        return sys.intern(self.place)

    @property
    def device_key(self) -> Hashable:
        """The server, whichever object."""
        return "http", self.device_name

    def open_with_head(self) -> Opened:
        """One GET of the first bytes: who opens an object mostly reads it, and many are no larger."""
        return self.open_with_rest(0)

    def open_with_rest(self, rest_bytes: int) -> Opened:
        """The same, and of what lies behind them, which is left in the connection."""
        try:
            opened = self._opened_with_head(None, rest_bytes)
        except OSError as error:
            status = status_of(error) or 0
            if not rest_bytes or not (status == 413 or (status >= 500 and not self._ask.retries.count_max)):
                raise
            opened = self._opened_with_head(None)
        assert opened is not None, "it was asked without a condition"
        return opened

    def open(self) -> Opened:
        """One HEAD, and a GET of one byte where HEAD is not answered, or says that nothing is there."""
        return self._opened(self._meta())

    def _opened(
        self,
        meta: Meta,
        data: bytes | bytearray = b"",
        rest: RestOfHTTPAnswer | None = None,
        *,
        version: str | None = None,
    ) -> Opened:
        ops = HTTPOperations(self, meta, version=version)
        return Opened(
            ops,
            meta["size"],
            ops.version,
            head=data,
            rest=rest,
            close=ops.close,
            look=ops.look,
            again=ops.again,
            has_validator=has_validator(meta),
        )

    def again(self, meta: Meta, version: str) -> Opened:
        """A version that is known.  Does no I/O."""
        return self._opened(meta, version=version)

    def look(self, was: Meta) -> Opened | None:
        """One GET of the first bytes on the condition that they are another version's; of what has no strong ETag, or
        where conditions are ignored, as `open`."""
        if is_strong(was["e_tag"]) and not self._ignores_conditions:
            return self._opened_with_head(was)
        return self._looked_at(was)

    def _looked_at(self, was: Meta) -> Opened | None:
        meta = self._meta()
        return None if is_same_version(was, meta) else self._opened(meta)

    def _opened_with_head(self, known: Meta | None, rest_bytes: int = 0) -> Opened | None:
        """The object with its first bytes; None if it is the version that is known."""

        def ask() -> tuple[Meta, bytearray, RestOfHTTPAnswer | None] | None:
            nonlocal rest_bytes
            asked_bytes, rest_bytes = rest_bytes, 0  # of the next tries no more than the head: some give so much only
            return self._first_bytes(known, asked_bytes)

        try:
            found = retrying(ask, self._ask.retries)
        except OSError as error:
            status = status_of(error)
            if status == 304 and known is not None:
                return None
            if isinstance(error.__cause__, BrokenOff | NoRanges) or status == 416:  # another question may be answered
                return self.open() if known is None else self._looked_at(known)
            raise
        return None if found is None else self._opened(*found)

    def _first_bytes(
        self, known: Meta | None, rest_bytes: int
    ) -> tuple[Meta, bytearray, RestOfHTTPAnswer | None] | None:
        headers = {"Range": range_header(0, HEAD_BYTES + rest_bytes)}
        if known is not None and known["e_tag"]:
            headers["If-None-Match"] = known["e_tag"]
        with ExitStack() as asked:
            answer = asked.enter_context(self._ask.asked("GET", headers))
            meta, start, stop = self._ask.part(answer)
            if known is not None and is_same_version(known, meta):
                self._ignores_conditions = True
                return None  # the bytes are left unread
            head_stop, most = min(HEAD_BYTES, meta["size"]), min(HEAD_BYTES + rest_bytes, meta["size"])
            if start or not head_stop <= stop <= most or answer.length != stop:  # (some send no more at once)
                raise store_failed(self.name, "other bytes than the first") from NoRanges()
            data = bytearray(head_stop)
            with memoryview(data) as buffer:
                if (got_bytes := answer.readinto(buffer)) != len(data):
                    raise self._ask.broken_off(0, stop) from BrokenOff(f"after {got_bytes} bytes")
            rest = RestOfHTTPAnswer(self._ask, answer, asked.pop_all(), len(data)) if answer.length else None
        return meta, data, rest

    def _meta(self) -> Meta:
        try:
            meta = retrying(lambda: self._ask.meta("HEAD"), self._ask.retries)
        except OSError as error:
            # Some servers refuse HEAD: with 405 or 501, or 403 where a URL is signed for GET.
            status = status_of(error) or 0
            if error.errno != errno.EOPNOTSUPP and not (status == 501 or (400 <= status < 500 and status != 429)):
                raise
            return self._meta_of_get()
        return meta if meta["size"] else self._meta_of_get()

    def _meta_of_get(self) -> Meta:
        try:
            return retrying(lambda: self._ask.meta("GET", (0, 1)), self._ask.retries)
        except OSError as error:
            if not isinstance(error.__cause__, NoRanges) and status_of(error) != 416:
                raise
        return retrying(lambda: self._ask.meta("GET"), self._ask.retries)  # the body is left unread


class RestOfHTTPAnswer:
    """What has not been read of an answer: it is in the connection, which nobody else uses meanwhile."""

    __slots__ = ("_answer", "_ask", "_asked", "_at_bytes")

    def __init__(self, ask: Asker, answer: Any, asked: ExitStack, at_bytes: int) -> None:
        self._ask = ask
        self._answer = answer
        self._asked: ExitStack | None = asked
        """What gives the connection back.  While bytes are received it is on that thread's stack only, so that a child
        that is forked then does not touch what the thread was in the middle of."""
        self._at_bytes = at_bytes

    @property
    def stop_bytes(self) -> int:
        """As `RestOfAnswer.stop_bytes`."""
        left_bytes: int = self._answer.length
        return self._at_bytes + left_bytes

    def fill(self, part: Part) -> None:
        """As `RestOfAnswer.fill`."""
        asked, self._asked = self._asked, None
        start, stop = part.offset, part.offset + part.size_bytes
        if asked is None or start != self._at_bytes:
            raise self._ask.broken_off(start, stop)
        with asked:
            part.populate()
            if self._answer.readinto(part.buffer) < part.size_bytes:
                raise self._ask.broken_off(start, stop) from BrokenOff()
            self._at_bytes = stop
            if self._answer.length:
                self._asked = asked.pop_all()

    def close(self) -> None:
        """As `RestOfAnswer.close`."""
        asked, self._asked = self._asked, None
        if asked is not None:
            asked.close()


class HTTPOperations(RangeOperations):
    """One version of an object, range by range."""

    readers_call = True
    requests_max = REQUESTS_MAX

    def __init__(self, source: HTTPSource, opened: Meta, *, version: str | None = None) -> None:
        self._source = source
        self._size_bytes, self._etag, self._modified = opened["size"], opened["e_tag"], opened["last_modified"]
        self._whole: WholeObject | None = None
        self.version: str = version_of(opened) if version is None else version
        self.validates: bool = has_validator(opened)

    @property
    def device_name(self) -> str:  # type: ignore[override]
        """Its server."""
        return self._source.device_name

    @property
    def _ask(self) -> Asker:
        return self._source._ask

    @property
    def _opened(self) -> Meta:
        return Meta(size=self._size_bytes, e_tag=self._etag, last_modified=self._modified)

    @property
    def device_key(self) -> Hashable:
        """The server, whichever object."""
        return self._source.device_key

    def look(self) -> Opened | None:
        """As `Opened.look`."""
        return self._source.look(self._opened)

    def again(self) -> Opened:
        """As `Opened.again`."""
        return self._source.again(self._opened, self.version)

    def readpage(self, file: OpenFile, page: Page) -> int:
        """Locks: page locked on entry and on return, as AOP_UPDATED_PAGE says.  Raises: OSError."""
        self._fill(page.buffer, page.offset)
        page.set_uptodate()
        return AOP_UPDATED_PAGE

    def readahead(self, rac: ReadaheadControl) -> None:
        """The whole run at once.  Locks: the run locked on entry, unlocked on return.  Raises: OSError."""
        page = rac.take()
        self._fill(page.buffer, page.offset, page)
        page.end_read()

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        """Raises: OSError: ESTALE if it is another version by now."""
        self._fill(buffer, offset_bytes)

    def close(self) -> None:
        """Let go of the temporary file, if there is one."""
        if self._whole is not None:
            self._whole.close()

    def _fill(self, buffer: memoryview, start: int, page: Page | None = None) -> None:
        if not len(buffer):
            return
        if self._whole is None:
            try:
                self._receive(buffer, start, page)
            except OSError as error:
                if not isinstance(error.__cause__, NoRanges) or self._size_bytes > WHOLE_BYTES_MAX:
                    raise
                self._fetch_whole()
            else:
                return
        assert self._whole is not None
        self._whole.fill(buffer, start)

    def _receive(self, buffer: memoryview, start: int, page: Page | None) -> None:
        """Fill *buffer*, perhaps that of *page*; what has come before an answer broke off is not asked for again."""
        stop, got_bytes, meanwhile = start + len(buffer), 0, page.populate if page else None
        can_go_on = False

        def receive() -> None:
            nonlocal got_bytes, meanwhile, can_go_on
            if not can_go_on:
                got_bytes = 0
            at, only_once, meanwhile = start + got_bytes, meanwhile, None
            with self._asked(at, stop, only_once) as answer:
                can_go_on = self._tells_etag(answer)
                if got_bytes and not can_go_on:  # the next try begins anew
                    raise self._ask.broken_off(start, stop) from BrokenOff("the rest comes without its ETag")
                try:
                    with buffer[at - start :] as rest:
                        answer.readinto(rest)
                finally:
                    got_bytes += answer.received_bytes
                if answer.received_bytes < stop - at:
                    raise self._ask.broken_off(start, stop) from BrokenOff()

        retrying(receive, self._ask.retries, got_bytes=lambda: got_bytes if can_go_on else 0)

    def _tells_etag(self, answer: Any) -> bool:
        """Whether a checked answer tells a strong ETag, and so can be put together with another that does."""
        return is_strong(self._etag) and answer.getheader("ETag") == self._etag

    @contextmanager
    def _asked(
        self, start: int, stop: int, meanwhile: Callable[[], object] | None = None, *, or_all: bool = False
    ) -> Iterator[Any]:
        """An answer that is checked, and whose body is bytes [start, stop) of the version that was opened; *or_all*:
        or all of it, with the status 200."""
        opened, size_bytes = self._opened, self._size_bytes
        condition = {"If-Match": self._etag} if self._etag and is_strong(self._etag) else {}
        is_whole = (start, stop) == (0, size_bytes)  # any server can answer that
        headers = condition if is_whole else condition | {"Range": range_header(start, stop)}
        try:
            with self._ask.asked("GET", headers, meanwhile=meanwhile) as answer:
                if is_whole or (or_all and answer.status == 200):
                    start, stop = 0, size_bytes
                    now, got_start, got_stop = self._ask.whole(answer), start, stop
                else:
                    now, got_start, got_stop = self._ask.part(answer)
                require_same_version(self._ask.name, version=self.version, was=opened, now=now)
                if (got_start, got_stop) != (start, stop):
                    raise wrong_range(self._ask.name, asked=bytes_of(start, stop), got=bytes_of(got_start, got_stop))
                self._require_length(answer, start, stop)
                yield answer
        except OSError as error:
            match status_of(error):
                case 412:
                    raise stale(self._ask.name, was=self.version, now="another version") from error
                case 416:
                    raise stale(self._ask.name, was=self.version, now="shorter") from error
            raise

    def _require_length(self, answer: Any, start: int, stop: int) -> None:
        wanted_bytes, length = stop - start, answer.body_bytes
        if length < wanted_bytes:
            raise short_fetch(self._ask.name, offset_bytes=start, wanted_bytes=wanted_bytes, got_bytes=length)
        if length > wanted_bytes:
            raise wrong_range(self._ask.name, asked=bytes_of(start, stop), got="more bytes than that")

    # -- an object that comes only whole -------------------------------------------------------------

    @property
    def _whole_lock(self) -> threading.Lock:
        """That of this process: a thread that has stayed in the parent of a fork may hold the parent's."""
        # In one step; by this name it is in the list of locks (mm/lockorder.py).
        _whole_lock: threading.Lock = self.__dict__.setdefault(f"_whole_lock of {os.getpid()}", threading.Lock())
        return _whole_lock

    def _fetch_whole(self) -> None:
        # Held during the download: whoever else needs a page of this object can only wait for it, or, should it
        # fail, try for himself.
        with self._whole_lock:
            if self._whole is not None:
                return
            whole = WholeObject(self._ask.name)
            try:
                self._download_to(whole)
            except BaseException:
                whole.close()
                raise
            self._whole = whole
            self.validates = False  # from here on, nobody asks the server

    def _download_to(self, whole: WholeObject) -> None:
        """Where an answer broke off it goes on, should the server send a range after all (not every one behind a name
        need be alike); else it begins anew."""
        size_bytes, got_bytes, can_go_on = self._size_bytes, 0, False

        def download() -> None:
            nonlocal got_bytes, can_go_on
            if not can_go_on:
                got_bytes = 0
            with self._asked(got_bytes, size_bytes, or_all=True) as answer, memoryview(bytearray(CHUNK_BYTES)) as chunk:
                if answer.status == 200:
                    got_bytes = 0
                can_go_on = self._tells_etag(answer)
                if got_bytes and not can_go_on:  # as in _receive
                    raise self._ask.broken_off(0, size_bytes) from BrokenOff("the rest comes without its ETag")
                whole.go_on_at(got_bytes)
                while got_bytes < size_bytes:
                    before_bytes = answer.received_bytes
                    try:
                        received_bytes = answer.readinto(chunk)
                    finally:
                        whole.append(chunk[: answer.received_bytes - before_bytes])
                        got_bytes += answer.received_bytes - before_bytes
                    if not received_bytes:
                        raise self._ask.broken_off(0, size_bytes) from BrokenOff()

        retrying(download, self._ask.retries, got_bytes=lambda: got_bytes if can_go_on else 0)
