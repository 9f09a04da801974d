"""The rest of an answer: a file's first bytes came with its opening, and who reads on from there need not ask again.

A reader who begins at the start of a file mostly goes on, and to ask for what lies behind the first bytes costs him the
time that a request waits.  So the store is asked for more than the first bytes at once, and the rest of its answer is
left unread: the buffers of the system fill, and the store's side waits.  It is read as he goes on, by the requests that
follow one another from where the first bytes end; with the first that is for another part of it, it is let go of.

Guarantees: a part is claimed in the hold in which its pages are locked, so those who go on side by side never pass by
one another's; each byte is received once, in order; a part that does not come is asked for as if there were no rest; no
thread waits for the part before its own.  A store has at most `RESTS_MAX` such answers, each of which is one of its
requests; and one that is idle is let go of after `REST_S`: a server may have nobody else to answer, and of an object
that is written to in place it might bring what was written since.
Assumes: the zone's lock guards every field, but for the store's answer and how fast it has come: these has the request
whose turn it is.
Not here: how much is asked for (known.py); the requests (device.py), how far they go (readahead.py); how an answer is
kept (a store's `RestOfAnswer`).
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from ..units import PAGE_SHIFT, PAGE_SIZE, page_count_for
from .known import REST_S, known_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import ReadableBuffer

    from .device import BackingDevice
    from .page import LockedPage, Page
    from .request import Request
    from .sync import Waiter

RESTS_MAX = 4
"""So many a store has at most, and a quarter of the requests that it takes."""
CACHE_PAGES_MIN = (2 << 20) >> PAGE_SHIFT
"""Of a smaller cache a window, which is a quarter at most, is not worth it."""
STREAM_BYTES_MIN = 2 << 20
"""An answer of which less was received does not say how fast it comes: some of it was there before..."""
IDLE_SHARE_MAX = 0.2
"""...nor does one that its readers have waited with for more than this share of the time."""


class Part(Protocol):
    """What is to be received: a run of pages, and what a store may do with one (page.py)."""

    @property
    def offset(self) -> int:
        """Where it starts in the file, in bytes."""

    @property
    def size_bytes(self) -> int:
        """How long it is."""

    @property
    def buffer(self) -> memoryview:
        """Its own memory, to be filled..."""

    def populate(self) -> None:
        """...faster, if it is there before."""

    def write(self, data: ReadableBuffer, at: int = 0) -> None:
        """Copy *data* into it, which takes less than to fill a buffer first."""


class RestOfAnswer(Protocol):
    """What a store has been asked for, and was not read of its answer."""

    @property
    def stop_bytes(self) -> int:
        """Where it ends, in bytes of the file."""

    def fill(self, part: Part) -> None:
        """Receive the next bytes, which are those of *part*.

        Blocks: as long as the store takes.  Raises: OSError if they do not come: then it is over.
        """

    def close(self) -> None:
        """Nobody wants what is left.  Once more does no harm.  Blocks: no."""


class Rest:
    """What comes behind the first pages of one file, claimed by requests part by part."""

    __slots__ = (
        "_answer", "_at_index", "_came_s", "_claim_count", "_device", "_file_stop", "_has_failed", "_has_place",
        "_idle_s", "_idle_since_s", "_is_handing_over", "_is_over", "_is_told", "_known", "_line", "_ready",
        "_received_bytes", "_stop_bytes", "_stream_bytes_s", "_to_hand_over", "_watcher", "index", "size_bytes",
        "stop_index",
    )  # fmt: skip

    def __init__(self, device: BackingDevice) -> None:
        """For a file that is about to be opened: ``size_bytes`` of it are to be asked for behind its first.

        Locks: takes the zone's lock.
        """
        self._device = device
        self._answer: RestOfAnswer | None = None
        self.index: int = 0
        """The first page that nobody has claimed..."""
        self.stop_index: int = 0
        """...and the one behind the last that may be."""
        self._at_index = 0
        """The page whose bytes come next."""
        self._line: list[Page] = []  # short, as is the next
        """What was claimed and has not come, in order: locked by who asks for it, or is about to..."""
        self._ready: list[Request] = []
        """...and who of them was called before his turn."""
        self._to_hand_over: list[Request] = []
        """Of those, whose turn it is by now..."""
        self._is_handing_over = False
        """...and whether somebody sees to it."""
        self._watcher: Waiter | None = None
        self._came_s = 0.0
        self._received_bytes = 0
        self._stream_bytes_s = 0.0
        """How fast it came, from the opening on..."""
        self._idle_s = self._idle_since_s = 0.0
        """...of which so long nobody wanted any: then what comes is not what could, and what is there by then did not
        come in no time."""
        self._stop_bytes = 0
        self._file_stop = 0
        self._claim_count = 0
        self._is_told = False
        """It is known of the store whether somebody reads on."""
        self._has_failed = False
        self._is_over = False
        """No part is claimed any more."""
        self._known = known_of((device.key, device.name))  # a key may be an address, where others are later
        with device.zone.lock:
            self.size_bytes: int = self._bytes_to_ask_for()
            self._has_place = self.size_bytes > 0
            device.rests_asked += self._has_place

    def _bytes_to_ask_for(self) -> int:
        """Behind the first bytes of a file that is opened now.  Zone's lock held."""
        device = self._device
        has_place = device.rests_asked < min(RESTS_MAX, device.requests_max // 4)
        if not has_place or device.zone.cap_pages < CACHE_PAGES_MIN:
            return 0
        return self._known.rest_bytes(device.pipe) & -PAGE_SIZE

    # -- from the opening to the first part --------------------------------------------------------------

    def came(self, answer: RestOfAnswer | None) -> None:
        """The file was opened; this is the rest, if there is any.  Locks: takes the zone's lock."""
        if answer is None:
            self.close()
            return
        stop_bytes = answer.stop_bytes
        with self._device.zone.lock:
            self._answer, self._stop_bytes = answer, stop_bytes
            self._came_s = self._idle_since_s = self._device.zone.door.now_s()
            self._device.rests += 1

    def closed_with(self, close: Callable[[], object]) -> Callable[[], None]:
        """How to close this, and then what the file's operations have."""

        def close_both() -> None:
            self.close()
            close()

        return close_both

    def begin(self, index: int, size_bytes: int) -> None:
        """The first pages of the file, up to *index*, are in the cache, and so parts may be claimed: of a file of
        *size_bytes*.  Zone's lock held."""
        self.index = self.stop_index = self._at_index = index
        self._file_stop = page_count_for(size_bytes)
        if self._answer is not None:  # whole pages, but for the file's last
            is_whole = self._stop_bytes == size_bytes
            self.stop_index = self._file_stop if is_whole else self._stop_bytes >> PAGE_SHIFT
        elif self.size_bytes:
            self._tell(is_read_on=False)  # the store does not give so much at once

    def watch(self) -> None:
        """Have it let go of when it has been there for too long: by a worker, who waits that long.  Locks: takes the
        zone's lock."""
        zone = self._device.zone
        with zone.lock:
            if self._is_over:
                return
            watcher = self._watcher = zone.door.waiter()

        def watch() -> None:
            if not watcher.wait(REST_S):
                self.close()

        try:
            zone.io.start(watch)
        except (ValueError, RuntimeError):  # the cache was closed; no thread is to be had
            self.close()

    def close(self) -> None:
        """No part is claimed any more.  Once more does no harm.  Locks: takes the zone's lock."""
        with self._device.zone.lock:
            answer = self.let_go()
        self._closed(answer)

    # -- claiming, under the zone's lock -----------------------------------------------------------------

    def claim(self, page: LockedPage, *, is_wanted: bool) -> bool:
        """A run was locked in this hold, to be asked for: if it is the next part, it comes with the opening.  Whether
        it was the last."""
        if page.index != self.index:
            return False
        page_stop, only_tells = page.index + page.page_count, self._only_tells
        # Else it is what is ahead of one who is within the first bytes.  (All of a file costs him nothing.)
        if is_wanted or self._claim_count or page_stop >= self._file_stop:
            self._tell(is_read_on=True)
        is_claimed = page_stop <= self.stop_index and not self._is_lost
        if is_claimed or only_tells:
            self.index = page_stop
            self._claim_count += 1
        if not is_claimed:
            return False
        if not self._line:
            self._idle_s += self._device.zone.door.now_s() - self._idle_since_s
        self._line.append(page)
        page.rest = self
        if self.index >= self.stop_index:
            self._end_claims()
            return True
        return False

    def is_passed_by(self, page: Page) -> bool:
        """Whether a run that is asked for, and has claimed no part, leaves none for others to claim.

        One that is for another place does not: of several who read a file, one may begin at its start.
        """
        if page.index > self.index:
            self._tell(is_read_on=False)
        if self._only_tells:
            return False
        return self._is_lost or (page.index < self.stop_index and page.index + page.page_count > self.index)

    def pages_from(self, index: int) -> int:
        """How many pages of it are there to be claimed, if *index* is the first.  (Also asked for without the lock, as
        an advice.)"""
        return max(0, self.stop_index - index) if index == self.index and not self._is_lost else 0

    @property
    def _only_tells(self) -> bool:
        """Whether nothing was asked for, and all that is of interest is whether somebody reads on."""
        return self._answer is None and not self._is_told

    @property
    def _is_lost(self) -> bool:
        is_old = self._device.zone.door.now_s() - self._came_s >= REST_S
        return self._answer is None or self._has_failed or self._is_over or is_old

    def let_go(self) -> RestOfAnswer | None:
        """No part is claimed any more; the answer, if the caller has to close it (`_closed`)."""
        if self._answer is not None and (not self._claim_count or self.index < self.stop_index):
            self._tell(is_read_on=False)
        self._end_claims()
        return None if self._line else self._ended()

    def _tell(self, *, is_read_on: bool) -> None:
        if not self._is_told:
            self._is_told = True
            self._known.note_reader(is_read_on=is_read_on)

    def _end_claims(self) -> None:
        self._is_over = True
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.wake()

    def _ended(self) -> RestOfAnswer | None:
        answer, self._answer = self._answer, None
        self._device.rests -= answer is not None
        if self._stream_bytes_s:
            self._known.note_stream(self._stream_bytes_s)
            self._stream_bytes_s = 0.0
        self._device.rests_asked -= self._has_place
        self._has_place = False
        return answer

    # -- receiving ---------------------------------------------------------------------------------------

    def begins(self, request: Request) -> bool:
        """Whether it is this request's turn, or no more comes; else it is handed over again when it is so."""
        with self._device.zone.lock:
            if self._line[0] is request.page or self._has_failed:
                return True
            self._ready.append(request)
            request.page.owner = None
        return False

    def fill(self, page: LockedPage) -> bool:
        """Receive this part, whose turn it is; False if it does not come.  Locks: the run locked.  Raises: what is no
        OSError (a mistake in the store)."""
        with self._device.zone.lock:
            answer = self._answer
            # What it was claimed for may have been cut off by now, and then other bytes come than those of this page.
            self._has_failed |= page.index != self._at_index
            if answer is None or self._has_failed:
                return False
            self._at_index += page.page_count
        try:
            answer.fill(page)
        except BaseException as error:
            with self._device.zone.lock:
                self._has_failed = True
            if isinstance(error, OSError):
                return False
            raise
        self._measure(page.size_bytes)
        return True

    def _measure(self, size_bytes: int) -> None:
        """One part has come, and nobody else's turn is before this one has ended."""
        self._received_bytes += size_bytes
        took_s = self._device.zone.door.now_s() - self._came_s
        if self._received_bytes >= STREAM_BYTES_MIN and took_s > 0 and self._idle_s <= IDLE_SHARE_MAX * took_s:
            self._stream_bytes_s = self._received_bytes / took_s
            with self._device.zone.lock:
                self._device.pipe.streamed(self._stream_bytes_s)

    def ended(self, page: Page) -> None:
        """The request for it has ended, or it is no part any more: it is the next one's turn, or that of all if no more
        comes."""
        answer = None
        with self._device.zone.lock:
            self._line.remove(page)
            if not self._line:
                self._idle_since_s = self._device.zone.door.now_s()
            may_begin = self._line if self._has_failed else self._line[:1]
            following = [one for one in self._ready if one.page in may_begin]
            self._ready = [one for one in self._ready if one not in following]
            self._to_hand_over += following
            is_over = not self._line and (self._is_over or self._has_failed)
            if is_over:
                self._end_claims()
                answer = self._ended()
        self._hand_over()
        if is_over:
            self._closed(answer)

    def _hand_over(self) -> None:
        """One after the other: who is let go of at once ends in here, and comes here again."""
        while True:
            with self._device.zone.lock:
                if self._is_handing_over or not self._to_hand_over or not self._is_of_this_process:
                    return
                self._is_handing_over = True
                request = self._to_hand_over.pop(0)
            try:
                self._device.hand_over(request)
            finally:
                self._is_handing_over = False

    def _closed(self, answer: RestOfAnswer | None) -> None:
        try:
            if answer is not None:
                with suppress(Exception):  # nobody wants it, nor to hear of it
                    answer.close()
        finally:
            if self._is_of_this_process:
                self._device.start_queued()  # it has left room

    @property
    def _is_of_this_process(self) -> bool:
        """Else this is a child, and what stands in line is its parent's."""
        return self._device.zone.devices.get(self._device.key) is self._device
