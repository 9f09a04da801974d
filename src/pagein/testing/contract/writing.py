"""Exercises of writing: what is stored is what was written, no more, no less, and fsync tells the truth.

Assumes: what the subject holds may be overwritten.  Each exercise begins with an empty file.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from ...cache import PageCache
from ...file import File
from ...mm.aops import AddressSpaceOperations
from ...mm.sync import SYSTEM, run_steps
from ...mm.truncate import invalidate_inode_pages2
from ...mm.writeback import Sync, fsync_steps, write_back
from ...stores.ranges import RangeOperations
from ...stores.source import Source, WritableSource
from ...units import PAGE_SIZE
from .bytes_seen import describe
from .content import content, turned
from .creating import require_exclusive
from .overtaking import Hold, overtake
from .rig import NotApplicable, Rig

WHOLE_BYTES = 8 * PAGE_SIZE + 1234
ROUNDS = 3


@contextmanager
def _written(rig: Rig) -> Iterator[tuple[PageCache, File]]:
    """The subject open for writing, empty."""
    reason = rig.subject.why_not_written(rig.made())
    if reason is not None:
        raise NotApplicable(reason)
    rig.open(writing=True)
    if not rig.probe.inner.writable:
        rig.fail("D1", "open_for_writing returned operations of which writable is not True", "open_for_writing")
    rig.empty()
    with rig.cache() as cache, rig.file(cache, "w+b") as file:
        yield cache, file


def _check(rig: Rig, cache: PageCache, file: File, wanted: bytes, where: str, *, number: str = "W2") -> None:
    """Store, drop, and read what the store has made of the first bytes, or of all."""
    rig.store(file.fsync)
    cache.drop()
    _compare(rig, file, wanted, where, number)


def _compare(rig: Rig, file: File, wanted: bytes, where: str, number: str) -> None:
    rig.record.renamed = {"R15": number, "R9": number, "R10": number}
    try:
        data = file.pread(len(wanted), 0)
    except OSError as error:
        rig.stop_if_breached()
        rig.fail(number, f"reading what was stored failed: {rig.why(error)}", where)
    rig.stop_if_breached()
    if data != wanted:
        rig.fail(number, describe(data, wanted, 0, wanted), where)


def written_back(rig: Rig) -> None:
    """A file of several pages, and a short one."""
    with _written(rig) as (cache, file):
        wanted = content(0, WHOLE_BYTES)
        half = 3 * PAGE_SIZE
        file.pwrite(wanted[:half], 0)
        _check(rig, cache, file, wanted[:half], f"{half} bytes written at 0")
        file.pwrite(wanted[half:], half)
        _check(rig, cache, file, wanted, f"{WHOLE_BYTES - half} bytes written at {half}")


def rewritten(rig: Rig) -> None:
    """A page that is written again: after it was stored, and while it is."""
    with _written(rig) as (cache, file):
        wanted = content(0, 2 * PAGE_SIZE)
        file.pwrite(wanted, 0)
        _check(rig, cache, file, wanted, "pages 0 and 1, written once", number="W6")
        again = content(0, PAGE_SIZE, version=1)
        file.pwrite(again, 0)
        _check(rig, cache, file, again, "page 0, written again", number="W6")
        last = content(0, PAGE_SIZE, version=2)

        def write_meanwhile() -> None:
            rig.record.while_stored = None
            writer = threading.Thread(target=partial(file.pwrite, last, 0), name="pagein-check")
            writer.start()
            writer.join()

        rig.record.while_stored = write_meanwhile
        file.pwrite(content(0, PAGE_SIZE, version=3), 0)
        rig.store(file.fsync)
        if rig.record.while_stored is None:  # else the store has no moment at which it can be overtaken
            _check(rig, cache, file, last, "page 0, written while it was being stored", number="W6")
        rig.record.while_stored = None


def neighbours(rig: Rig) -> None:
    """Short writes, across pages and within."""
    with _written(rig) as (cache, file):
        wanted = bytearray(content(0, WHOLE_BYTES))
        file.pwrite(wanted, 0)
        _check(rig, cache, file, bytes(wanted), "before short writes", number="W7")
        for offset, size in ((0, 1), (PAGE_SIZE - 3, 7), (3 * PAGE_SIZE + 100, 50), (WHOLE_BYTES - 1, 1)):
            data = content(offset, size, version=5)
            wanted[offset : offset + size] = data
            file.pwrite(data, offset)
            _check(rig, cache, file, bytes(wanted), f"{size} bytes written at {offset}", number="W7")


def gaps(rig: Rig) -> None:
    """A write far behind the end."""
    with _written(rig) as (cache, file):
        head, tail = content(0, 100), content(5 * PAGE_SIZE + 50, 200)
        file.pwrite(head, 0)
        _check(rig, cache, file, head, "100 bytes written at 0", number="W8")
        file.pwrite(tail, 5 * PAGE_SIZE + 50)
        wanted = head.ljust(5 * PAGE_SIZE + 50, b"\0") + tail
        _check(
            rig, cache, file, wanted, f"200 bytes written at {5 * PAGE_SIZE + 50}, behind the end at 100", number="W8"
        )


def sizes(rig: Rig) -> None:
    """Shorter and longer, with and without a page that is cut."""
    with _written(rig) as (cache, file):
        wanted = content(0, WHOLE_BYTES)
        file.pwrite(wanted, 0)
        _check(rig, cache, file, wanted, "before the file was cut", number="W9")
        for cut, grown in ((5 * PAGE_SIZE + 100, 7 * PAGE_SIZE + 10), (2 * PAGE_SIZE, 3 * PAGE_SIZE), (0, 100)):
            file.truncate(cut)
            wanted = wanted[:cut]
            _check(rig, cache, file, wanted, f"set_size({cut})", number="W9")
            file.truncate(grown)
            wanted = wanted.ljust(grown, b"\0")
            _check(rig, cache, file, wanted, f"set_size({cut}), then set_size({grown})", number="W9")


def holes(rig: Rig) -> None:
    """Holes of whole pages, in the middle and shortly before the end, which is in a page."""
    with _written(rig) as (cache, file):
        if type(rig.probe.inner).punch_hole is AddressSpaceOperations.punch_hole:
            raise NotApplicable("it has no punch_hole of its own")
        wanted = bytearray(content(0, WHOLE_BYTES))
        file.pwrite(wanted, 0)
        _check(rig, cache, file, bytes(wanted), "before a hole was punched", number="W10")
        for first, stop in ((2, 4), (6, 8)):
            start, size = first * PAGE_SIZE, (stop - first) * PAGE_SIZE
            wanted[start : start + size] = bytes(size)
            file.punch_hole(start, size)
            _check(rig, cache, file, bytes(wanted), f"punch_hole({start}, {size})", number="W10")


def _store_past(
    rig: Rig, cache: PageCache, file: File, hold: Hold, *, wanted: bytearray, held: int, other: int
) -> None:
    """Store a page, and another while the call for the first is held."""

    def store(index: int) -> None:
        error = run_steps(write_back(file._mapping, Sync.ALL, SYSTEM.waiter, index, index + 1))
        if isinstance(error, OSError) and error.errno != errno.EAGAIN:  # what was declined is stored below
            rig.fail("W11", f"it failed with {rig.why(error)}", hold.told(index, held=held, other=other))

    rig.record.renamed = {"R8": "W11", "W2": "W11"}
    for index in (held, other):
        start = index * PAGE_SIZE
        wanted[start : start + PAGE_SIZE] = turned(bytes(wanted[start : start + PAGE_SIZE]))
        file.pwrite(wanted[start : start + PAGE_SIZE], start)
    rig.at_once([partial(hold.first, partial(store, held)), partial(hold.second, partial(store, other))])
    rig.stop_if_breached()
    _check(rig, cache, file, bytes(wanted), hold.told(held, held=held, other=other), number="W11")


def stored_at_once(rig: Rig) -> None:
    """Ranges that do not touch, which the core hands over at once."""
    with _written(rig) as (cache, file):
        wanted = bytearray(content(0, 16 * PAGE_SIZE))
        file.pwrite(wanted, 0)
        _check(rig, cache, file, bytes(wanted), "before ranges were stored at once", number="W11")
        for held, other in ((0, 15), (15, 0)):
            overtake(rig, partial(_store_past, rig, cache, file, wanted=wanted, held=held, other=other))
        for turn in range(ROUNDS):
            for index in range(turn % 2, 16, 2):
                data = content(index * PAGE_SIZE, PAGE_SIZE, version=turn + 1)
                wanted[index * PAGE_SIZE : (index + 1) * PAGE_SIZE] = data
                file.pwrite(data, index * PAGE_SIZE)
            _check(rig, cache, file, bytes(wanted), "every other page, stored at once", number="W11")


def committed(rig: Rig) -> None:
    """What fsync commits, each time, and discard gives up."""
    with _written(rig) as (cache, file):
        ops = rig.probe.inner
        if not ops.commits:
            raise NotApplicable("its operations say that nothing waits for fsync (commits = False)")
        first = wanted = b""
        for start, size in _TWO_WRITES:
            first, wanted = wanted, _overwritten(file, wanted, start, size)
            rig.store(file.fsync)
            if ops.uncommitted_bytes is not None:
                rig.fail("W12", f"uncommitted_bytes was {ops.uncommitted_bytes!r} after fsync", "fsync")
        _overwritten(file, wanted, 0, PAGE_SIZE)
        rig.store(lambda: run_steps(fsync_steps(file._file, SYSTEM.waiter, durable=False)))
        if ops.uncommitted_bytes is None:
            rig.fail("W12", "uncommitted_bytes was None before fsync, with a page that was stored", "uncommitted_bytes")
        file.discard()
        rig.stop_if_breached()
        cache.drop()
        data = file.pread(WHOLE_BYTES + 1, 0)
        if data == first:
            rig.fail("W12", "it committed nothing: discard brought back what the first fsync had", "the second fsync")
        if rig.probe.left_bytes != WHOLE_BYTES or data != wanted:
            seen = describe(data, wanted, 0, wanted) if data != wanted else f"it returned {rig.probe.left_bytes!r}"
            rig.fail("W15", seen, "discard, after a page was stored and not committed")


def found_anew(rig: Rig) -> None:
    """What who opens the source finds: after an fsync, and when another page was written, after another."""
    source = rig.source()
    wanted = b""
    with _written(rig) as (_, file):
        before = rig.opened.version
        for turn, (start, size) in enumerate(_TWO_WRITES, 1):
            wanted = _overwritten(file, wanted, start, size)
            rig.store(file.fsync)
            version = _require_found(rig, source, wanted, f"opened again after fsync number {turn}")
    _require_found(rig, source, wanted, "opened again after fsync, and when it was closed")
    if version == before:
        rig.fail("O5", f"it was {before!r} before the object was written, and after", "source.open()")


_TWO_WRITES = ((0, WHOLE_BYTES), (2 * PAGE_SIZE, PAGE_SIZE))
"""Where from, and how much."""


def _overwritten(file: File, whole: bytes, start: int, size: int) -> bytes:
    """What is in *file*, of which *whole* was, when a range has been written that differs in every byte."""
    data = turned(whole[start : start + size]) if whole else content(start, size, version=7)
    file.pwrite(data, start)
    return whole[:start] + data + whole[start + size :]


def _require_found(rig: Rig, source: Source, wanted: bytes, where: str) -> str:
    """Whoever opens *source* now finds *wanted*; returns its version."""
    told = getattr(rig.probe.inner, "version", None)
    opened = rig.opened_by("source.open()", source.open, failed="W13")
    try:
        if opened.size_bytes != len(wanted):
            rig.fail("W5", f"it has {opened.size_bytes} bytes, not the {len(wanted)} of the file", where)
        with PageCache("16 MiB") as other, other.inode(opened.ops, size_bytes=opened.size_bytes).open() as again:
            data = again.read()
        if data != wanted:
            rig.fail("W13", describe(data, wanted, 0, wanted), where)
        if isinstance(told, str) and opened.version != told:
            rig.fail("W14", f"ops.version was {told!r}, source.open() says {opened.version!r}", where)
    finally:
        rig.shut(opened)
    return opened.version


def direct(rig: Rig) -> None:
    """Straight to the store."""
    with _written(rig) as (cache, file):
        ops = rig.probe.inner
        if type(ops).direct_write in (AddressSpaceOperations.direct_write, RangeOperations.direct_write):
            raise NotApplicable("it has no direct_write of its own")
        wanted = bytearray(content(0, 4 * PAGE_SIZE))
        file.pwrite(wanted, 0)
        _check(rig, cache, file, bytes(wanted), "before a direct write", number="W16")
        cache.drop()
        data = content(PAGE_SIZE, PAGE_SIZE, version=1)
        count = rig.probe.direct_write(memoryview(data), PAGE_SIZE)
        if not isinstance(count, int) or not 0 <= count <= PAGE_SIZE:
            rig.fail("W16", f"it returned {count!r} of {PAGE_SIZE} bytes", "direct_write")
        wanted[PAGE_SIZE : PAGE_SIZE + count] = data[:count]
        _check(
            rig,
            cache,
            file,
            bytes(wanted),
            f"direct_write of {PAGE_SIZE} bytes, of which it said {count}",
            number="W16",
        )


def laundered(rig: Rig) -> None:
    """Dirty pages that are about to be dropped: such as the store has already, the short one at the end, new ones."""
    with _written(rig) as (cache, file):
        if type(rig.probe.inner).launder_page is AddressSpaceOperations.launder_page:
            raise NotApplicable("it has no launder_page of its own")
        wanted = bytearray(content(0, WHOLE_BYTES))
        file.pwrite(wanted, 0)
        _check(rig, cache, file, bytes(wanted), "before pages were laundered", number="W18")
        rewritten = ((PAGE_SIZE, 2 * PAGE_SIZE), (WHOLE_BYTES - 1, 1))
        for offset, size in (*rewritten, (WHOLE_BYTES, 2 * PAGE_SIZE)):
            data = content(offset, size, version=1)
            wanted[offset : offset + size] = data
            file.pwrite(data, offset)
            _drop_dirty(rig, file)
            where = f"{size} bytes written at {offset}, and dropped"
            _compare(rig, file, bytes(wanted), where, "W18")
            _check(rig, cache, file, bytes(wanted), f"{where}; then fsync", number="W18")


def _drop_dirty(rig: Rig, file: File) -> None:
    mapping = file._mapping
    # One of these is what a store does that takes it for writepage.
    rig.record.renamed = {"W4": "W18", "W17": "W18"}
    try:
        with mapping.i_rwsem.exclusive():
            invalidate_inode_pages2(mapping, 0, mapping.frame_count)
    except OSError as error:
        rig.stop_if_breached()
        if error.errno != errno.EBUSY:  # that is of a page that stays
            rig.fail("W18", f"it failed, though nothing is wrong: {rig.why(error)}", "launder_page")
    rig.stop_if_breached()


def write_failure(rig: Rig) -> None:
    """A store that fails while it is written to, and heals."""
    failing = rig.subject.failing
    if failing is None:
        raise NotApplicable("nobody has said how to make it fail (Subject(failing=...))")
    with _written(rig) as (cache, file):
        wanted = content(0, 3 * PAGE_SIZE)
        file.pwrite(wanted, 0)
        with failing(), rig.record.during("while the store fails"):
            try:
                file.fsync()
            except OSError:
                rig.stop_if_breached()
            else:
                rig.stop_if_breached()
                rig.fail("F3", "it raised nothing", "fsync")
        _check(rig, cache, file, wanted, "written while the store failed, and stored again", number="F3")


def truncated_at_open(rig: Rig) -> None:
    """What open_for_writing does with an object that is there."""
    source = rig.source()
    reason = rig.subject.why_not_written(source)
    if reason is not None:
        raise NotApplicable(reason)
    assert isinstance(source, WritableSource), "or there was a reason"
    require_exclusive(rig, source)
    where = "open_for_writing(truncate=True)"
    call = partial(source.open_for_writing, create=False, exclusive=False, truncate=True)
    opened = rig.opened_by(where, call)
    rig.shut(opened)
    if opened.size_bytes:
        rig.record.breach("O8", f"size_bytes was {opened.size_bytes}", where)
