"""What is in the cache and in no store: handing it over, saving it elsewhere, giving it up.

Guarantees: what fails stays in the cache, and is named.
Assumes: runs where no signal can interrupt it; may block.  Steps may be interrupted.
Not here: how pages are written back (mm/writeback.py); who is open for writing (written.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from . import stores
from .errors import being_written, no_such_place, read_only_source, same_file, shutting_down, unwritten
from .mm import filemap
from .mm.debug import called
from .mm.discard import discard as discard_unwritten
from .mm.errseq import again, kept
from .mm.locking import OPEN
from .mm.lockorder import LATE_TURN, SOURCE_TURN
from .mm.openfile import OpenFile
from .mm.sync import MakeWaiter, Steps, Waiter, outside, run_steps
from .mm.write import perform_write
from .mm.writeback import fsync_steps, sync_steps
from .stores.local import LocalSource
from .stores.ranges import RangeOperations
from .stores.source import WritableSource

if TYPE_CHECKING:
    from .inode import Inode
    from .mm.mapping import AddressSpace
    from .mm.workqueue import MakeSteps
    from .mm.zone import Zone
    from .table import InodeTable

T = TypeVar("T")

PIECE_BYTES = 1 << 20
"""`save_as` holds so much beside the cache."""


def close_steps(file: OpenFile, make_waiter: MakeWaiter) -> Steps[None]:
    """Hand what is dirty to the store, and have it made visible; not more durable than a process's end asks for.  Of a
    file that nobody writes through any more, but for who has begun to: he is waited for.

    Raises: OSError: what failed, or has failed before without this file having told so.
    """
    yield from _behind_writers_steps(file.mapping, make_waiter)
    yield from fsync_steps(file, make_waiter, durable=file.mapping.ops.commits, tells_again=False)


def _behind_writers_steps(mapping: AddressSpace, make_waiter: MakeWaiter) -> Steps[None]:
    """Wait for who has begun to change a file, and for those who stand in line; whoever comes later finds that his own
    file is closed (write.require_open)."""
    i_rwsem = mapping.i_rwsem
    yield from i_rwsem.acquire_steps(make_waiter)
    i_rwsem.release()


def write_out_all(
    zone: Zone, inodes: Iterable[Inode], *, durable: bool, behind_writers: bool = False
) -> list[BaseException | None]:
    """Hand what is dirty of *inodes* to their stores, all at once; of each the first error.  Whoever has it open is
    still to be told of that.  *behind_writers*: their files were closed, and who has begun to write is waited for.
    Blocks: until all have ended."""

    def all_steps(mapping: AddressSpace) -> MakeSteps[BaseException | None]:
        # Not for himself: a store may close the cache in the middle of a read that a writer waits for, or a finalizer
        # in the middle of a write.
        waits = not (mapping.is_calling_here() or mapping.i_rwsem.is_held_here)
        return partial(
            write_out_steps,
            mapping,
            durable=durable or mapping.ops.commits,
            behind_writers=behind_writers and waits,
            tells_again=durable,
            waits=waits,
        )

    return _run_all(zone, [all_steps(inode.mapping) for inode in inodes])


def write_out_steps(
    mapping: AddressSpace,
    make_waiter: MakeWaiter,
    *,
    durable: bool,
    behind_writers: bool,
    tells_again: bool = False,
    waits: bool = True,
) -> Steps[BaseException | None]:
    """Hand what is dirty to the store: the first error, of which whoever has it open, or opens it, is still to be told.
    *behind_writers*: who has begun to change it is waited for.  *tells_again*, *waits*: as `writeback.store_all`.
    """
    if behind_writers:
        yield from _behind_writers_steps(mapping, make_waiter)
    return (yield from sync_steps(mapping, make_waiter, durable=durable, tells_again=tells_again, waits=waits))


def _run_all(zone: Zone, all_steps: list[MakeSteps[BaseException | None]]) -> list[BaseException | None]:
    """Run all of them at once, the last on this thread, which has nothing else to do; the error of each."""
    errors: list[BaseException | None] = [None] * len(all_steps)
    waiters = [zone.door.waiter() for _ in all_steps[:-1]]

    def run_here(number: int) -> None:
        try:
            errors[number] = run_steps(all_steps[number](zone.door.waiter))
        except BaseException as error:  # the others all the same
            errors[number] = error

    for number, waiter in enumerate(waiters):

        def done(
            found: BaseException | None, error: BaseException | None, number: int = number, waiter: Waiter = waiter
        ) -> None:
            errors[number] = error or found
            waiter.wake()

        try:
            zone.workqueue.run_detached(all_steps[number], done)
        except RuntimeError:  # the process has no thread left, or is ending: one after the other
            run_here(number)
            waiter.wake()
    if all_steps:
        run_here(len(all_steps) - 1)
    for waiter in waiters:
        waiter.wait()
    return errors


def require_written(inodes: Iterable[Inode], cause: BaseException | None) -> None:
    """Raises: UnwrittenDataError if some of *inodes* have what their store does not have.  Who opens one of them later
    need not hear of it again."""
    left: dict[str, int] = {}
    for inode in inodes:
        size_bytes = inode.unwritten_bytes
        if size_bytes is not None:
            left[inode.name] = left.get(inode.name, 0) + size_bytes
            with inode.mapping.zone.lock:
                inode.mapping.wb_err.told()
    if left:
        raise unwritten(left, cause)


def require_durable(inodes: Iterable[Inode], errors: Iterable[BaseException | None]) -> None:
    """Raises: the first of *errors*, one for each of *inodes*; who opens that file later need not hear of it again."""
    for inode, error in zip(inodes, errors, strict=True):
        if error is not None:
            with inode.mapping.zone.lock:
                inode.mapping.wb_err.told()
            raise again(error)


def write_late(table: InodeTable, inode: Inode, *, waits: bool) -> BaseException | None:
    """Write into the cache what finalizers had to write; return why that failed: then it stays, and is unwritten.

    Without *waits*, what another is writing already is left to him.
    """
    while inode.mapping.late:
        if not waits and table.turns.is_taken(LATE_TURN, inode):
            return None  # he looks once more when he has given it back
        with table.turns.turn(LATE_TURN, inode):
            if inode not in table.written:  # the parent's; or it was given up
                inode.mapping.late.clear()
            inode.late_failure = None
            try:
                while inode.mapping.late:
                    _write_first_late(inode.mapping)
            except Exception as error:
                inode.late_failure = kept(error)
                with table.lock, inode.mapping.zone.lock:
                    inode.mapping.set_error(inode.late_failure)
        if inode.late_failure is not None:
            return inode.late_failure
    return None


def _write_first_late(mapping: AddressSpace) -> None:
    offset, data = mapping.late[0]
    file = OpenFile(mapping, writable=True)
    done = 0
    with memoryview(data) as view:
        while done < len(data):
            at = None if offset is None else offset + done
            done += len(run_steps(perform_write(file, view[done:], at, mapping.zone.door.waiter)))
            mapping.late[0] = None if offset is None else offset + done, data[done:]
    mapping.late.pop(0)


# -- when the interpreter has ended, and no thread but this one runs ------------------------------------------


class _NobodyWakes:
    """Stands for a waiter: who would have to wait would do so for ever."""

    def __init__(self) -> None:
        self._is_woken = False

    def wake(self) -> None:
        self._is_woken = True

    def wait(self, timeout_s: float | None = None) -> bool:
        if not self._is_woken:
            raise shutting_down()
        return True


def _run_alone(zone: Zone, steps: Steps[T]) -> T:
    zone.flusher.close()  # it would be started, and waited for
    for queue in (zone.workqueue, zone.io):
        queue.forget_workers()
    return run_steps(steps)


def write_at_exit(file: OpenFile, offset: int | None, data: bytes) -> None:
    """Raises: OSError, RuntimeError: what is lost."""
    done = 0
    with memoryview(data) as view:
        while done < len(data):
            at = None if offset is None else offset + done
            done += len(_run_alone(file.mapping.zone, perform_write(file, view[done:], at, _NobodyWakes)))


def write_out_at_exit(inode: Inode, file: OpenFile) -> None:
    """Raises: UnwrittenDataError: what is lost; also all for which the store would need threads, as objects do."""
    if inode.unwritten_bytes is None:
        return
    failure: BaseException | None = None
    if not inode.mapping.ops.commits:
        try:
            _run_alone(file.mapping.zone, close_steps(file, _NobodyWakes))
        except Exception as error:
            failure = error
    require_written([inode], failure or shutting_down())


def discard(table: InodeTable, inode: Inode, *, shown_stays: bool = False) -> int:
    """Give up what its store does not have; return how many bytes.  The file is what the store has, then.

    Blocks: as long as the store takes for what it is being given: it reads our memory.
    Raises: OSError(EBUSY) if a view shows some of it, and then all stays; with *shown_stays*, that only, and silently.
    """
    mapping = inode.mapping
    with table.turns.turn(LATE_TURN, inode):
        given_up, late_count = inode.unwritten_bytes or 0, len(mapping.late)
        discard_unwritten(mapping, shown_stays=shown_stays)
        del mapping.late[:late_count]  # what a finalizer has noted since came after
    # What it is now only the store knows, and perhaps another has changed it: who opens it next asks.
    with table.lock:
        table.forget(inode)
    return given_up


def take_back_open(table: InodeTable, inode: Inode) -> None:
    """The first who has opened it for writing did not get it: an object that is replaced as a whole stays as it is."""
    with table.turns.turn(SOURCE_TURN, inode.key):
        if inode.has_one_writer_so_far and inode.mapping.ops.commits:
            discard(table, inode)


def discard_by(table: InodeTable, inode: Inode, file: OpenFile) -> int:
    """`discard`, by the user of *file*, who need not hear any more why it could not be written."""
    given_up = discard(table, inode)
    with inode.mapping.zone.lock:
        _, file.wb_seen = inode.mapping.wb_err.check_and_advance(file.wb_seen)
    return given_up


def save_as(table: InodeTable, file: OpenFile, source: Any, store_options: dict[str, Any]) -> int:
    """Write a file's bytes to *source*, past the cache, since that may be full of what cannot be written.

    What is there stays until all has been read, unless its store writes in place and is not the local one.
    Raises: OSError of either store, EROFS, EBUSY, EOPNOTSUPP; EINVAL if it is the same file.
    """
    target = stores.source_of(source, **store_options)
    if not isinstance(target, WritableSource):
        raise read_only_source(target.name)
    with table.turns.turn(SOURCE_TURN, target.key):
        if table.is_written(target.key):
            raise being_written(target.name)
        # What can be read is read first: nothing at the other place is touched for a file that is not here.
        head = _read(file, 0)
        if isinstance(target, LocalSource):
            opened = called(OPEN, table.zone, partial(target.open_aside, beside=file.mapping.ops))()
        else:
            known = table.by_key.get(target.key)
            if known is not None and known.mapping is file.mapping:  # a store that writes in place would empty it
                raise same_file(target.name, target.name)
            opens = partial(target.open_for_writing, create=True, exclusive=False, truncate=True)
            opened = called(OPEN, table.zone, opens)()
        try:
            ops = opened.ops
            if not isinstance(ops, RangeOperations):
                raise no_such_place(target.name)
            size_bytes, piece = 0, head
            while piece:
                with memoryview(piece) as view, outside(table.zone):
                    ops.store(view, size_bytes)
                size_bytes += len(piece)
                piece = _read(file, size_bytes)
            with outside(table.zone):
                ops.fsync()
        finally:
            called(OPEN, table.zone, opened.close)()
            table.note_written_past(target.key)
    return size_bytes


def _read(file: OpenFile, offset: int) -> bytes:
    mapping, memory = file.mapping, file.mapping.arena.memory
    parts = filemap.read_parts(file, offset, PIECE_BYTES, lambda start, stop: memory[start:stop])
    return b"".join(filemap.run_parts(mapping.zone, parts, waits_here=True))
