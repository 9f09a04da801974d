"""Reading through the cache: buffered read, fault, and one page for a caller inside the cache.

For whom: what users read goes through `read_parts` and `pin_parts` (pagein.reader).  `read` with its flags,
`read_cache_page` and `fault` are for who writes a store that reads pages itself, or a mount: nothing else of this
package calls them, but they are the callers of ``readpage`` whom the contract names (docs/reference/clauses.md: 3 to 5,
16, 17, 22), and each item is proved of them and of what users call.  A user who will not wait has pagein.aio.
Guarantees: i_size is looked at only after the page is Uptodate, and again after every wait, so that neither the
zeros behind the end nor a page beyond it is ever handed out; what comes back was the file's, whole, at one
moment for each piece; no code of ``readpage`` gets as far as here (readpage.py).
Assumes: callers hold no page lock.  On threads that get signals, whatever takes a page lock runs on a worker
(workqueue.py): an interrupted reader leaves no page locked, and its fetch completes for the others.
Not here: fetching and waiting (bring.py); the same hit path once more, inlined for speed (pagein.reader).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from enum import IntFlag
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import beyond_end, view_too_large, would_block, would_wait_for_itself
from ..units import PAGE_SHIFT, page_count_for
from . import reclaim, removal
from .arena import MARKED, REGION_SHIFT, ones
from .bring import UNLIMITED, Bring, first_absent, lock_uptodate, start_bringing
from .fault import Fault as Fault, FaultFlags as FaultFlags, FaultResult as FaultResult, fault as fault
from .lru import Run, use_read_ahead
from .pin import Pin
from .readahead import hit_marker, populate, take_marker
from .sync import MakeWaiter, Steps, is_inside, run_steps
from .workqueue import MakeSteps

if TYPE_CHECKING:
    from .mapping import AddressSpace
    from .openfile import OpenFile
    from .zone import Zone

T = TypeVar("T")
Take = Callable[[int, int], T]
"""Copies bytes [start, stop) of an arena's memory to where a reader wants them.  May be called again."""
Parts = Generator[MakeSteps[Any], Any, T]
"""A read that runs on the reader's own thread, but for the steps that it yields: they may wait, and hold locks, and are
run where no signal can interrupt them.  It is sent their result, or thrown what they raised."""

ADVICE_MAX = 1024
"""Pieces of advice in line, at most."""
LOST_RACES_MAX = 3
"""After so many copies that an eviction spoilt, the reader takes the page lock, which eviction respects."""


class ReadFlags(IntFlag):
    """How far a `read` may go.  Linux: IOCB_NOWAIT, IOCB_NOIO."""

    NONE = 0
    NOWAIT = 1
    """Do not wait: start what is missing and raise BlockingIOError(EAGAIN)."""
    NOIO = 2
    """Do not even start it."""


# -- buffered read -----------------------------------------------------------------------------------------


def read(
    file: OpenFile,
    offset: int,
    size_bytes: int,
    take: Take[T],
    *,
    flags: ReadFlags = ReadFlags.NONE,
    once: bool = False,
) -> list[T]:
    """Read up to *size_bytes* from *offset*, piece by piece through *take*.  Linux: generic_file_buffered_read.

    Short only at the end of the file or before a page that failed (its error comes to a read that starts there);
    or, with *once*, after the first piece.
    Locks: none held.  Blocks: interruptibly.  Raises: the store's OSError unchanged; OSError(ENOMEM);
    BlockingIOError with `ReadFlags`.
    """
    return run_parts(file.mapping.zone, read_parts(file, offset, size_bytes, take, flags=flags, once=once))


def run_parts(zone: Zone, parts: Parts[T], *, waits_here: bool = False) -> T:
    """Run parts on this thread, and what may wait where no signal can interrupt it.  *waits_here*: which is here.

    Raises: RuntimeError for a finalizer, inside the core, that would have to wait.
    """
    try:
        make_steps = next(parts)
        while True:
            try:
                if waits_here:
                    result = run_steps(make_steps(zone.door.waiter))
                elif is_inside():
                    raise would_wait_for_itself("a page that is not here")
                elif isinstance(make_steps, Bring) and make_steps.stand_by():
                    result = make_steps.limit_pages, None
                else:
                    result = zone.shielded_steps(make_steps)
            except BaseException as error:
                make_steps = parts.throw(error)
            else:
                make_steps = parts.send(result)
    except StopIteration as end:
        value: T = end.value
        return value


def read_parts(
    file: OpenFile,
    offset: int,
    size_bytes: int,
    take: Take[T],
    *,
    flags: ReadFlags = ReadFlags.NONE,
    once: bool = False,
    takes_anywhere: bool = False,
) -> Parts[list[T]]:
    """`read`, as parts.  *takes_anywhere*: other threads may call *take*, also after this one was interrupted."""
    mapping, stop = file.mapping, offset + size_bytes
    pieces: list[T] = []
    limit_pages = UNLIMITED
    attempts = 0
    missed = False
    while offset < min(stop, mapping.i_size):
        copied = copy_if_uptodate(file, offset, stop, take, is_first_use=attempts > 0)
        try:
            if copied is None and flags:
                _do_not_wait(file, offset, stop, flags)
            elif copied is None and attempts < LOST_RACES_MAX:
                attempts += 1
                wanted_stop = _stop_of_hole(mapping, offset, stop) if once else stop
                copy = partial(copy_if_uptodate, file, offset, stop, take, is_first_use=True)
                limit_pages, copied = yield _bring(
                    file, offset, wanted_stop, limit_pages, counts=not missed, copy=copy if takes_anywhere else None
                )
                missed = True
            elif copied is None:
                copied = yield partial(_copy_locked, file, offset, stop, take)
        except OSError:
            if pieces:
                break
            raise
        if copied is not None:
            piece, end = copied
            pieces.append(piece)
            if not flags & ReadFlags.NOIO:
                # After the copy: in a small cache, what comes may drive out what is here.
                heed_marker(file, offset, end)
            offset = end
            attempts = 0
            if once:
                break
    if pieces and not missed:
        file.hits += 1
    return pieces


def _stop_of_hole(mapping: AddressSpace, offset: int, stop: int) -> int:
    """Where a read of one piece ends that begins with a page that is not here: at the first one that is."""
    stop = min(stop, mapping.i_size, offset + (UNLIMITED << PAGE_SHIFT))  # no more is asked for at once
    first, stop_frame = mapping.base + (offset >> PAGE_SHIFT), mapping.base + page_count_for(stop)
    return min(stop, (mapping.arena.first_present(first, stop_frame) - mapping.base) << PAGE_SHIFT)


def copy_if_uptodate(
    file: OpenFile, offset: int, stop: int, take: Take[T], *, is_first_use: bool = False
) -> tuple[T, int] | None:
    """Copy what is here of bytes [offset, stop) without a lock: (the piece, where it ended), or None.

    The use for which a page was brought does not make it a page that was used again (*is_first_use*).
    The letters are those of the protocol in docs/explanation/architecture.md; the order is what makes it right.
    """
    mapping = file.mapping
    arena, base = mapping.arena, mapping.base
    frame = base + (offset >> PAGE_SHIFT)
    region = frame >> REGION_SHIFT
    generation = arena.generations[region]  # (a)
    stop_frame = min(base + page_count_for(stop), (region + 1) << REGION_SHIFT)
    hole = arena.uptodate.find(b"\0", frame, stop_frame)  # (b)
    if hole >= 0:
        stop_frame = hole
    stop = min(stop, (stop_frame - base) << PAGE_SHIFT, mapping.i_size)  # i_size only now
    if stop <= offset:
        return None
    shift = base << PAGE_SHIFT
    piece = take(shift + offset, shift + stop)  # (c)
    page_count = page_count_for(stop + shift) - frame
    if arena.generations[region] != generation:  # (d)
        after_lost_race(file, offset, stop)
        return None
    mapping.check_usable()  # else closed meanwhile, and the frames may be another file's
    if is_first_use:
        use_read_ahead(Run(arena, frame, page_count))
    else:
        arena.referenced[frame : frame + page_count] = ones(page_count)
    return piece, stop


def after_lost_race(file: OpenFile, offset: int, stop: int) -> None:
    """What a lock-free reader of bytes [offset, stop) does whose copy an eviction spoilt.

    An event loop does not wait until it is done, nor a finalizer, whose thread may have what that waits for.
    """
    mapping, index = file.mapping, offset >> PAGE_SHIFT
    clean_up = partial(removal.clean_up_after_lost_race, mapping, index, page_count_for(stop) - index)
    _work(file, clean_up, waits=not (file.must_not_wait or is_inside()))


def _work(file: OpenFile, run: Callable[[], None], *, waits: bool) -> None:
    """Have something done that takes the zone's lock, where no signal can interrupt it."""
    workqueue = file.mapping.zone.workqueue
    if waits:
        workqueue.shielded(run)
        return
    with suppress(ValueError, RuntimeError):  # closed, or no thread is to be had: nobody waits for it
        workqueue.start(run)


def heed_marker(file: OpenFile, offset: int, stop: int) -> None:
    """If one of the pages of bytes [offset, stop) bears a marker, ask for what comes next."""
    mapping, index = file.mapping, offset >> PAGE_SHIFT
    stop_index = page_count_for(min(stop, mapping.i_size))
    if MARKED not in mapping.arena.uptodate[mapping.base + index : mapping.base + stop_index] or is_inside():
        return
    _work(file, partial(_hit_marker, file, index, stop_index), waits=not file.must_not_wait)


def _hit_marker(file: OpenFile, index: int, stop_index: int) -> None:
    marker_index = take_marker(file.mapping, index, stop_index)
    if marker_index >= 0:
        with suppress(ValueError):  # the cache was closed meanwhile
            hit_marker(file, marker_index, stop_index - marker_index)


def _bring(
    file: OpenFile,
    offset: int,
    stop: int,
    limit_pages: int,
    *,
    counts: bool,
    copy: Callable[[], object] | None = None,
) -> Bring:
    index = offset >> PAGE_SHIFT
    want_pages = page_count_for(min(stop, file.mapping.i_size)) - index
    return Bring(file, index, max(1, want_pages), limit_pages, counts=counts, copy=copy)


def _copy_locked(
    file: OpenFile, offset: int, stop: int, take: Take[T], make_waiter: MakeWaiter
) -> Steps[tuple[T, int] | None]:
    """Copy from one page under its lock: nobody takes it away meanwhile."""
    mapping, index = file.mapping, offset >> PAGE_SHIFT
    page = yield from lock_uptodate(file, index, make_waiter)
    if page is None:
        return None
    try:
        stop = min(stop, (index + 1) << PAGE_SHIFT, mapping.i_size)
        shift = mapping.base << PAGE_SHIFT
        return (take(shift + offset, shift + stop), stop) if stop > offset else None
    finally:
        page.unlock()


def _do_not_wait(file: OpenFile, offset: int, stop: int, flags: ReadFlags) -> None:
    index = offset >> PAGE_SHIFT
    if not flags & ReadFlags.NOIO and index not in file.mapping.in_flight:
        start_bringing(file, index, page_count_for(min(stop, file.mapping.i_size)) - index)
    raise would_block(file.mapping.name)


def populate_range(file: OpenFile, start_index: int, stop_index: int) -> None:
    """Make the pages [start_index, stop_index) Uptodate.  Blocks: interruptibly, until they have come, or will not.

    Half a cache at most: more would only evict what came first.  Errors are nobody's: the reader of a page that did not
    come asks for it, and hears.  Linux: MADV_POPULATE_READ.
    """
    file.mapping.zone.shielded_steps(populating(file, start_index, stop_index))


def takes_advice(zone: Zone) -> bool:
    """Whether advice is taken: fewer than `ADVICE_MAX` others wait for a worker."""
    return zone.workqueue.queued_count < ADVICE_MAX


def populating(file: OpenFile, start_index: int, stop_index: int) -> MakeSteps[None]:
    """`populate_range`, for who does not wait."""
    most_pages = max(1, file.mapping.zone.cap_pages // 2)
    return partial(populate, file, start_index, min(stop_index, start_index + most_pages))


# -- one page for a caller inside the cache -------------------------------------------------------------------


def read_cache_page(file: OpenFile, index: int) -> Pin:
    """Page *index*, Uptodate, unlocked, and pinned in place of Linux's reference: the caller ends the pin.

    Blocks: interruptibly.  Raises: ValueError beyond the end of the file; as `bring`.
    """
    pin = run_parts(file.mapping.zone, pin_parts(file, index, 1))
    if index >= file.mapping.page_count:
        pin.put()
        raise beyond_end(index, file.mapping.page_count)
    return pin


def pin_parts(file: OpenFile, index: int, page_count: int) -> Parts[Pin]:
    """Pin the pages [index, index + page_count) and make those of them Uptodate that the file has.

    Raises: OSError(ENOMEM) if they do not fit into the cache beside what else is pinned; as `bring`.
    """
    mapping = file.mapping
    zone = mapping.zone
    if page_count > zone.cap_pages:
        raise view_too_large(page_count << PAGE_SHIFT, zone.cap_pages << PAGE_SHIFT)
    frame, pins = mapping.base + index, mapping.arena.pins
    if len(pins.entries) > pins.sweep_at:  # each time: here, who only ever comes this way would never be swept
        sweep_pins_soon(mapping)
    pin = Pin(pins, frame, frame + page_count)
    try:
        limit_pages = UNLIMITED
        missed, stop = False, (index + page_count) << PAGE_SHIFT
        while 0 <= (absent := first_absent(mapping, index, index + page_count)):
            limit_pages, _ = yield _bring(file, absent << PAGE_SHIFT, stop, limit_pages, counts=not missed)
            missed = True
        file.hits += not missed
        return pin
    except BaseException:
        pin.put()
        raise


def sweep_pins_soon(mapping: AddressSpace) -> None:
    """Have the pins swept out that have ended, by a worker: the zone's lock is not for a thread that gets signals."""
    pins = mapping.arena.pins
    pins.sweep_at *= 2  # one worker is enough
    try:
        mapping.zone.workqueue.start(partial(reclaim.sweep_pins, mapping.zone))
    except (ValueError, RuntimeError):  # the cache, or the interpreter, is ending
        pass
