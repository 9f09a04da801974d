"""A backing device: one store with all its files, as the cache sees it: what it is asked at once, how it answers.

Guarantees: at most ``requests_max`` requests are in flight, looks of which the store is known among them; the others
wait in line, those that a reader waits for before those that are ahead of one, and of these each stream in turn; what
lies side by side in the line becomes one request.  An operation that may block runs on an I/O worker, so that
readers wait for pages and for nothing else.
What a store needs that reads through the cache itself is let through beyond all that: the line waits for it.
Assumes: methods that say so are called with the zone's lock held; the others with no lock but page locks.
Not here: what is asked for (readahead.py); what operations do (readpage.py, rac.py); the estimate (pipe.py).
Linux: backing_dev_info, and the elevator below it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from functools import partial
from typing import TYPE_CHECKING

from ..units import PAGE_SHIFT
from .locking import READAHEAD
from .page import LockedPage, Page
from .pipe import WINDOW_BYTES_MAX, Pipe, Started
from .rac import read_run
from .readpage import Outcome, do_readpage
from .request import Request
from .sync import HERE, MakeWaiter, Steps, inside
from .turn import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable

    from .openfile import OpenFile, Stream
    from .rest import Rest
    from .zone import Zone

MERGED_PAGES_MAX = 2048
"""A request that was merged is no larger than this: 8 MiB."""

LATENCY_BOUNDS_S = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Upper bounds of the classes of `BackingDevice.latencies`; the last class is everything beyond."""


class BackingDevice:
    """One store."""

    def __init__(self, zone: Zone, key: Hashable, *, name: str, requests_max: int) -> None:
        self.zone = zone
        self.key = key
        self.name = name
        self.requests_max = requests_max
        self.pipe: Pipe = Pipe(requests_max)
        self.requests: int = 0
        self.failed_requests: int = 0
        self.retries: int = 0
        self.fetched_bytes: int = 0
        self.latencies: list[int] = [0] * (len(LATENCY_BOUNDS_S) + 1)
        """How many requests took up to so long..."""
        self.latency_sum_s: float = 0.0
        """...and how long all of them together."""
        self._wanted: deque[Request | Turn] = deque()
        self._ahead: OrderedDict[Stream, deque[Request]] = OrderedDict()
        self._by_start: dict[tuple[int, int], Request] = {}
        """What waits in line, by its mapping and its first page..."""
        self._by_stop: dict[tuple[int, int], Request] = {}
        """...and by the page behind its last."""
        self._is_starting = False
        self._ahead_in_flight = 0
        self._ahead_in_flight_of: Counter[Stream] = Counter()
        """The same, of each stream that has any."""
        self.turns_in_flight: int = 0
        """Looks, of which the pipe knows nothing."""
        self._turns_in_line = 0
        self.rests_asked: int = 0
        """Openings that were asked for more than the first bytes (rest.py)..."""
        self.rests: int = 0
        """...and those that were answered, of which all has not come: each is a request that the store is answering."""

    @property
    def in_flight(self) -> int:
        """Requests, and looks, that the store has to answer."""
        return self.pipe.in_flight + self.turns_in_flight

    @property
    def queued_count(self) -> int:
        """Requests, and looks, in line."""
        return len(self._by_start) + self._turns_in_line

    def answered(self, duration_s: float) -> None:
        """A request without content (a HEAD, say) took so long.  Locks: takes the zone's lock."""
        with self.zone.lock:
            self.pipe.answered(self.zone.door.now_s(), duration_s)

    def opened(self, name: str, brought_bytes: int, duration_s: float) -> None:
        """So much of a file has come with its opening.  Locks: takes the zone's lock."""
        with self.zone.lock:
            self.asked(None)
            self.fetched_bytes += brought_bytes
            self._note_duration(duration_s)
            if self.zone.tracer is not None:
                self.zone.tracer.opened_with(name, self.name, 0, brought_bytes, duration_s)

    # -- asking --------------------------------------------------------------------------------------

    def submit(self, request: Request) -> None:
        """Ask the store, now or when it is the request's turn; or leave it to the reader, if it is his.  Blocks: no."""
        zone = self.zone
        with zone.lock:
            zone.count_stream(request.file.stream, 1)
            unwanted = self._rest_passed_by(request.page)
            if request.page.rest is not None:
                request.reader_calls = False  # he might not come to it before others wait for theirs
            is_begun = request.page.rest is not None or self._is_needed(request) or self.has_room_for(request)
            if is_begun:
                self._begin(request)
            else:
                request.reader_calls = False  # whoever makes room for it hands it over
                self._enqueue(request)
        if is_begun and not request.reader_calls:
            self.hand_over(request)
        if unwanted is not None:
            unwanted.close()

    def _rest_passed_by(self, page: Page) -> Rest | None:
        """What comes with the opening, for the caller to close, if nobody will claim more of it once *page* is asked
        for.  Zone's lock held."""
        rest = page.mapping.rest
        if rest is None or page.rest is not None or not rest.is_passed_by(page):
            return None
        page.mapping.rest = None
        return rest

    def let_through(self, request: Request) -> None:
        """Take a request out of the line, for a store that needs it: the caller hands it over.  Zone's lock held."""
        self._forget(request)
        self._begin(request)

    def read_locked(self, file: OpenFile, page: LockedPage, make_waiter: MakeWaiter) -> Steps[Outcome | None]:
        """Have a page read that the caller has locked: what `do_readpage` says of it; None once the cache is closed.

        Locks: page locked on entry, on return as `Outcome` says.  Blocks: yes.  Raises: as `do_readpage`.
        """
        request = Request(self, file, page, wanted=True, keeps_lock=True)
        self.submit(request)
        try:
            yield from request.returned_steps(make_waiter)
        except BaseException:
            with self.zone.lock:
                request.given_up = True  # from here on, who calls the operation unlocks the page, unless he has left it
                is_ours = request.outcome is Outcome.UPDATED
            if is_ours:
                page.owner = self.zone.door.thread_id()
                page.unlock()
            raise
        error = request.take_error()
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback refers to this frame: no cycle
        if request.outcome is Outcome.UPDATED:
            page.owner = self.zone.door.thread_id()
        return request.outcome

    def hand_over(self, request: Request) -> None:
        """Have the operation called: by a worker, if it may block, so that whoever comes by here does not wait for it.

        There are enough workers (zone.py): an operation that reads through the cache waits for others to be called.
        """
        if not request.page.mapping.ops.blocking and request.page.rest is None:
            self.perform(request)
            return
        request.page.owner = None
        try:
            self.zone.io.start(lambda: self.perform(request))
        except ValueError:  # the cache was closed: the page is let go
            self.perform(request)
        except RuntimeError as error:  # no thread is to be had
            request.error = error
            self._let_go(request)

    @inside()  # also on a thread of a store's, whose answer has made room for it
    def perform(self, request: Request, *, caller_waits: bool = False) -> None:
        """Call the operation, and keep what it raises."""
        page = request.page
        if page.rest is not None and not page.rest.begins(request):
            return
        request.caller_waits = caller_waits
        page.owner = self.zone.door.thread_id()
        is_needed = not request.given_up and (request.wanted or not request.file.closed)
        if self.zone.closed or not (is_needed or page.waiter_count):
            self._let_go(request)
            return
        if page.rest is not None:
            self._receive_part(request, page.rest)
            return
        try:
            if page.page_count == 1:
                self._ended_with(request, do_readpage(request.file, page))
            else:
                read_run(request.file, page)
        except BaseException as error:  # for the reader who waits, if there is one
            request.error = error
            page.mapping.note_read_error(error)
        finally:
            request.returned()

    def _receive_part(self, request: Request, rest: Rest) -> None:
        """What has come with the opening; if it does not come, it is asked for, as any other."""
        page = request.page
        try:
            with self.zone.in_store_code(READAHEAD, page):
                has_come = rest.fill(page)
            if has_come:
                page.end_read()
        except BaseException as error:
            request.error = error  # for the reader who waits, if there is one
            try:
                if page.locked:
                    page.unlock()
            finally:
                request.returned()
            return
        if has_come:
            request.returned()
            return
        with self.zone.lock:
            page.rest = None
            is_begun = self._is_needed(request) or self.has_room_for(request)
            if is_begun:
                self._begin(request)
            else:
                request._started = None
                self._enqueue(request)
        try:
            rest.ended(page)
        finally:
            if is_begun:
                self.perform(request)

    def _is_needed(self, request: Request) -> bool:
        """Whether a store's code waits for it: then it stands in no line, which may wait for that store.  Zone's lock
        held."""
        return request.page.is_awaited_in_store_code or (request.wanted and self.zone.is_calling_here())

    def _let_go(self, request: Request) -> None:
        request.page.owner = self.zone.door.thread_id()
        request.page.unlock()
        request.returned()

    def _ended_with(self, request: Request, outcome: Outcome) -> None:
        page = request.page
        with self.zone.lock:
            request.outcome = outcome
            is_kept = request.keeps_lock and not request.given_up and outcome is Outcome.UPDATED
            if is_kept:
                page.owner = page.request = None
                request.page_ended(page.size_bytes)
        if is_kept:
            self.start_queued()
        elif outcome is Outcome.UPDATED:
            page.unlock()

    def start_queued(self) -> None:
        """Start what may be started by now.  Called whenever a request has ended."""
        while (self._wanted or self._ahead) and not self._is_starting:
            with self.zone.lock:
                if self._is_starting:
                    return
                first = self.first_in_line()
                if first is None or not self.has_room_for(first):
                    return
                start = self._begin_next(first)
                # An operation that answers at once ends in here, and comes here again: one loop, not one in the other.
                self._is_starting = True
            try:
                start()
            finally:
                self._is_starting = False

    # -- the line, under the zone's lock -----------------------------------------------------------------

    def has_room_for(self, request: Request | Turn) -> bool:
        """Whether it need not wait in line."""
        if self.zone.closed:
            return True  # nothing is asked any more, and its page is let go
        if self.in_flight + self.rests >= self.requests_max:
            return False
        if isinstance(request, Turn) or request.wanted:
            return True
        if self._ahead_in_flight >= self.pipe.width:
            return False
        stream = request.file.stream
        return self._ahead_in_flight_of[stream] < self._share(self._ahead.keys() | {stream})

    def _share(self, asking: Collection[Stream]) -> int:
        """How many requests ahead each stream of *asking* may have in flight, so that another that begins later
        finds room: else who was first would fill the pipe for as long as he reads, and all turns would be his as well.

        Who asks for no more keeps what he has in flight; all the rest of the pipe is shared (max-min fairness).
        So while anything ahead stands in line, no share leaves room in the pipe, which would seem the reader's pace.
        """
        # Few have any in flight, however many stand in line.
        kept = sum(count for stream, count in self._ahead_in_flight_of.items() if stream not in asking)
        return -(-(self.pipe.width - kept) // max(len(asking), 1))

    def _begin(self, request: Request) -> None:
        if request.page.rest is not None:
            # The store has been asked, and how long it takes from here on says nothing of it.
            request._started = Started(self.zone.door.now_s(), 0)
            return
        if not request.wanted:
            self._ahead_in_flight += 1
            self._ahead_in_flight_of[request.file.stream] += 1
        request._started = self.pipe.started(self.zone.door.now_s())

    def asked(self, request: Request | None) -> None:
        """The operation is called for it, if only for a page of it: one request, however often.  Zone's lock held.

        What is let go before, and a hole, is none.
        """
        if request is None or not request.is_asked:
            self.zone.counters["requests"] += 1
            self.requests += 1
            if request is not None:
                request.is_asked = True
                if self.zone.tracer is not None:
                    self.zone.tracer.fetch_began(request)

    def failed(self, request: Request | None) -> None:
        """The store has refused it, or a part of it: one failure, however often.  Zone's lock held."""
        if request is None or not request.has_failed:
            self.zone.counters["failed_requests"] += 1
            self.failed_requests += 1
            if request is not None:
                request.has_failed = True

    def _end(self, request: Request) -> None:
        self.zone.count_stream(request.file.stream, -1)
        started = request._started
        assert started is not None, "a page that stands in line is nobody's to unlock"
        now_s, mapping = self.zone.door.now_s(), request.page.mapping
        self.fetched_bytes += request._brought_bytes
        if request.page.rest is None:
            if not request.wanted:
                self._ahead_in_flight -= 1
                _count_down(self._ahead_in_flight_of, request.file.stream)
            if request._brought_bytes and mapping.ops.validates:
                mapping.validated_s = max(mapping.validated_s, started.at_s)
            self.pipe.ended(started, now_s, request._brought_bytes)
        if request.is_asked:
            self._note_duration(now_s - started.at_s)
            if self.zone.tracer is not None:
                self.zone.tracer.fetch_ended(request, request._brought_bytes)
        elif request.page.rest is not None and request._brought_bytes and self.zone.tracer is not None:
            place = request.page.offset, request._brought_bytes
            self.zone.tracer.opened_with(mapping.name, self.name, *place, now_s - started.at_s)

    def _note_duration(self, duration_s: float) -> None:
        self.latencies[sum(bound_s < duration_s for bound_s in LATENCY_BOUNDS_S)] += 1
        self.latency_sum_s += duration_s

    def _enqueue(self, request: Request) -> None:
        request.page.owner = None  # the line's, until its turn comes
        if request.wanted:
            self._wanted.append(request)
        else:
            self._ahead.setdefault(request.file.stream, deque()).append(request)
        self._note_place(request)

    def _note_place(self, request: Request) -> None:
        page = request.page
        self._by_start[id(page.mapping), page.index] = request
        self._by_stop[id(page.mapping), page.index + page.page_count] = request

    def put_in_line(self, turn: Turn) -> None:
        """A look waits as what a reader waits for."""
        self._wanted.append(turn)
        turn.is_in_line = True
        self._turns_in_line += 1

    def take_out_of_line(self, turn: Turn) -> None:
        """Its turn has come, or a store needs it."""
        self._wanted.remove(turn)
        turn.is_in_line = False
        self._turns_in_line -= 1

    def first_in_line(self) -> Request | Turn | None:
        """Whose turn it is next; None also while all who are in line have their share in flight."""
        if self._wanted:
            return self._wanted[0]
        if self.zone.closed:
            return next((line[0] for line in self._ahead.values()), None)
        share = self._share(self._ahead.keys())
        of = self._ahead_in_flight_of
        return next((line[0] for stream, line in self._ahead.items() if of[stream] < share), None)

    def _begin_next(self, first: Request | Turn) -> Callable[[], object]:
        """Take who is first out of the line: what is to be called for him, with no lock held."""
        if isinstance(first, Turn):
            self.take_out_of_line(first)
            self.turns_in_flight += 1
            return first.start
        request = self._taken(first)
        self._begin(request)
        return partial(self.hand_over, request)

    def _taken(self, request: Request) -> Request:
        if not request.wanted:
            self._ahead.move_to_end(request.file.stream)  # each in turn
        self._forget(request)
        return self._merged(request)

    def _forget(self, request: Request) -> None:
        page = request.page
        if request.wanted:
            self._wanted.remove(request)
        else:
            line = self._ahead[request.file.stream]
            line.remove(request)
            if not line:
                del self._ahead[request.file.stream]
        del self._by_start[id(page.mapping), page.index]
        del self._by_stop[id(page.mapping), page.index + page.page_count]

    def _merged(self, request: Request) -> Request:
        """The request with its neighbours in the line, if the store is asked for them anyway."""
        mapping = id(request.page.mapping)
        while (before := self._by_stop.get((mapping, request.page.index))) and self._may_merge(before, request):
            self._forget(before)
            self._join(before, request)
            request = before
        while (
            behind := self._by_start.get((mapping, request.page.index + request.page.page_count))
        ) and self._may_merge(request, behind):
            self._forget(behind)
            self._join(request, behind)
        return request

    def _may_merge(self, head: Request, tail: Request) -> bool:
        """Not what a reader waits for with what is ahead of one: he would wait for that, too.  And what is ahead only
        up to what the pipe wants in one piece."""
        if head.wanted != tail.wanted or head.keeps_lock or tail.keeps_lock:
            return False
        ahead_pages_max = self.pipe.piece_bytes(WINDOW_BYTES_MAX) >> PAGE_SHIFT
        most_pages = MERGED_PAGES_MAX if head.wanted else min(ahead_pages_max, MERGED_PAGES_MAX)
        return head.page.page_count + tail.page.page_count <= most_pages

    def _join(self, head: Request, tail: Request) -> None:
        head.page.absorb(tail.page)
        tail.page.request = None  # which refers to it: no cycle; nobody unlocks that page any more
        self.zone.count_stream(tail.file.stream, -1)
        tail._merged_into = head


def note_retry() -> None:
    """The operation of a store that the calling thread runs asks once more.  Of a look it is not known which store it
    asks, so that is not counted.  Locks: takes the zone's lock."""
    device = getattr(HERE.calling[-1], "device", None) if HERE.calling else None
    if isinstance(device, BackingDevice):
        with device.zone.lock:
            device.retries += 1


def _count_down(counts: Counter[Stream], stream: Stream) -> None:
    counts[stream] -= 1
    if not counts[stream]:
        del counts[stream]
