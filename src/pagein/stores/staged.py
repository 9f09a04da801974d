"""Writing to stores that replace objects whole: what is written waits in a temporary file until it is committed.

Guarantees: nobody ever sees a half-written object; a commit is all that was stored before it began, and nothing that
was stored after; what is stored while a commit runs waits for none of its requests.  If a commit fails, all that was
stored is still there to be read, and the next one tries again.  Nothing is uploaded that is no change.
Assumes: ranges that are stored at the same time do not overlap, and are not being cut off.
Costs: from the first commit on, disk (in `tempfile.gettempdir()`) for the whole object, until it is closed: it has been
fetched to be uploaded, and is the base of the next commit.  Before that, for what was stored.
Not here: how an object is replaced, and on which condition (`Target`: object_writing.py, fsspec_writing.py, memory.py).

Layers: bytes come from the topmost layer that has them.  ``store`` writes to the top one.  A commit puts a new one on
top, so that those below stand still: it folds them into the lowest, fetches what that has not, and uploads it.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Protocol

from ..errors import conflict, too_large
from .intervals import Intervals
from .layer import CHUNK_BYTES, Layer, Whole
from .ranges import RangeOperations, fill_all, read_range
from .source import Opened
from .writing import require_owner, write_all, zero


class Target(Protocol):
    """An object to be replaced whole."""

    name: str
    device_key: Hashable
    device_name: str
    object_bytes_max: int | None

    @property
    def version(self) -> str:
        """What is there, as far as we know: what was opened, or what we put there last."""

    def opened(self) -> Opened | None:
        """That version, to be read; None if it is that nothing is there.  Raises: OSError."""

    def replace(self, whole: Whole) -> None:
        """Put *whole* in place of ``version``, which it then is.  Called by one thread at a time.

        Blocks: as long as the store takes.  Raises: OSError: ESTALE if something else is there by now.
        """


class StagedOperations(RangeOperations):
    """The bytes of an object as they will be."""

    writable = True
    commits = True

    def __init__(self, target: Target, *, truncate: bool) -> None:
        self.device_name: str = f"{target.device_name} (staged)"  # other waits than those of the store itself
        self.object_bytes_max: int | None = target.object_bytes_max
        self._target = target
        self._base = base = target.opened()
        self._former_bases: list[Opened | None] = []  # some fill may still be reading from one
        self._pid = os.getpid()
        self._commit_lock = threading.Lock()  # held across I/O, by one fsync at a time: the others want the same
        self._lock = threading.Condition()  # of all that follows; never held across I/O
        self._size_bytes = 0 if base is None or truncate else base.size_bytes
        self._layers = [Layer(below_bytes=self._size_bytes)]
        self._changes = int(base is None or truncate)
        self._committed_changes = 0
        self._new = Intervals()  # what was stored since the last commit began...
        self._committing = Intervals()  # ...and what that has not committed, because it still runs, or has failed
        self._writers = 0
        self._is_freezing = False

    @property
    def device_key(self) -> Hashable:
        """The target's, with waits of its own."""
        return "staged", self._target.device_key

    @property
    def version(self) -> str:
        """The version that the store has, as far as we know."""
        return self._target.version

    def committed(self) -> Opened | None:
        """That version, to be read by whoever opens it after `close`; None if he has to ask.  Raises: OSError."""
        opened = self._target.opened()
        if opened is None:
            return None
        opened.close()
        return None if opened.again is None else opened.again()  # ours would not notice that it is replaced

    @property
    def size_bytes(self) -> int:
        """How long the object is with what was stored."""
        with self._lock:
            return self._size_bytes

    @property
    def uncommitted_bytes(self) -> int | None:
        """How many bytes the next commit has new, or None if there is nothing to commit, or it is not ours to do."""
        if os.getpid() != self._pid:
            return None
        with self._lock:
            if self._changes == self._committed_changes:
                return None
            both = Intervals()
            for start, stop in (*self._new, *self._committing):
                both.add(start, stop)
        return sum(stop - start for start, stop in both)

    def discard(self) -> int | None:
        """Give up what was not committed; the size of what is in the store, as far as we know.  Raises: OSError."""
        require_owner(self._pid, self._target.name)
        with self._commit_lock:
            if self.uncommitted_bytes is None:
                return None
            base = self._target.opened()
            with self._writers_ended():
                self._former_bases.append(self._base)
                self._base = base
                self._size_bytes = 0 if base is None else base.size_bytes
                self._layers = [Layer(below_bytes=self._size_bytes)]
                self._committed_changes = self._changes
                self._new, self._committing = Intervals(), Intervals()
                return self._size_bytes

    def close(self) -> None:
        """Drop what is staged, committed or not.  Nobody uses these operations any more.

        Locks: none, since in a forked child the lock may have been left locked.
        """
        layers, self._layers = self._layers, []
        for layer in layers:
            layer.close()
        for base in (self._base, *self._former_bases):
            if base is not None:
                base.close()

    # -- reading -------------------------------------------------------------------------------------

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        """Each byte as it was at some moment of the call.  Raises: OSError of the base, for what only that has."""
        require_owner(self._pid, self._target.name)
        stop = offset_bytes + len(buffer)
        while True:
            with self._lock:
                base, (staged, fetched) = self._base, self._plan(offset_bytes, stop)
            if not fetched:
                break
            start, fetched_stop = fetched[0][0], fetched[-1][1]
            try:  # one request, though some of it is staged
                with buffer[start - offset_bytes : fetched_stop - offset_bytes] as part:
                    _fill_from(base, part, start, name=self._target.name)
                break
            except OSError:
                # A commit fetches all, and then the base is no longer there: what it has fetched is staged.
                with self._lock:
                    if base is self._base and self._plan(offset_bytes, stop)[1] == fetched:
                        raise
        # The layers of the plan may have been left by a commit since; whoever refers to one can read it.
        with _named(self._target.name):
            for layer, start, piece_stop in staged:
                with buffer[start - offset_bytes : piece_stop - offset_bytes] as part:
                    if layer is None:
                        part[:] = bytes(len(part))
                    else:
                        layer.read(part, start)

    def _plan(self, start: int, stop: int) -> tuple[list[tuple[Layer | None, int, int]], list[tuple[int, int]]]:
        """Where the bytes come from: pieces of layers, or of nothing (zeros); and pieces of the base, in order.

        Locks: under the lock."""
        found: list[tuple[Layer | None, int, int]] = []
        wanted = [(start, stop)]
        for layer in reversed(self._layers):
            below = []
            for piece in wanted:
                for at, piece_stop, is_staged in layer.staged.split(*piece):
                    if is_staged:
                        found.append((layer, at, piece_stop))
                        continue
                    cut = min(max(at, layer.below_bytes), piece_stop)
                    if at < cut:
                        below.append((at, cut))
                    if cut < piece_stop:
                        found.append((None, cut, piece_stop))
            wanted = below
        return found, wanted

    # -- writing -------------------------------------------------------------------------------------

    def store(self, buffer: memoryview, offset_bytes: int) -> None:
        """Raises: OSError: EFBIG, or ENOSPC and the like of the disk with the temporary files."""
        stop = offset_bytes + len(buffer)
        self._require_size(stop)
        if not buffer:
            return
        with self._top() as layer:
            write_all(layer.fd, buffer, offset_bytes)  # before it counts: a fill must not find half of it
            with self._lock:
                layer.staged.add(offset_bytes, stop)
                self._new.add(offset_bytes, stop)
                self._size_bytes = max(self._size_bytes, stop)
                self._changes += 1

    def set_size(self, size_bytes: int) -> None:
        """Raises: OSError(EFBIG)."""
        self._require_size(size_bytes)
        with self._top() as layer:
            layer.shrink(size_bytes)
            with self._lock:
                if size_bytes != self._size_bytes:
                    self._changes += 1
                for intervals in (layer.staged, self._new, self._committing):
                    intervals.cut(size_bytes)
                layer.below_bytes = min(layer.below_bytes, size_bytes)
                self._size_bytes = size_bytes

    def punch_hole(self, offset_bytes: int, size_bytes: int) -> None:
        """Raises: OSError of the disk with the temporary files."""
        with self._top() as layer:
            with self._lock:
                stop = min(offset_bytes + size_bytes, self._size_bytes)
            if offset_bytes >= stop:
                return
            zero(layer.fd, offset_bytes, stop)
            with self._lock:
                layer.staged.add(offset_bytes, stop)
                self._new.add(offset_bytes, stop)
                self._changes += 1

    def _require_size(self, size_bytes: int) -> None:
        if self.object_bytes_max is not None and size_bytes > self.object_bytes_max:
            raise too_large(size_bytes, self.object_bytes_max, self._target.name)

    @contextmanager
    def _top(self) -> Iterator[Layer]:
        """The topmost layer, which a commit does not freeze before this ends."""
        require_owner(self._pid, self._target.name)
        with self._lock:
            self._lock.wait_for(lambda: not self._is_freezing)  # short: what it waits for writes to the local disk
            layer = self._layers[-1]
            self._writers += 1
        try:
            with _named(self._target.name):
                yield layer
        finally:
            with self._lock:
                self._writers -= 1
                self._lock.notify_all()

    # -- a commit ------------------------------------------------------------------------------------

    def fsync(self) -> None:
        """Replace the object by what was stored before, if that is a change.  Raises: OSError; then all is kept."""
        require_owner(self._pid, self._target.name)
        with self._commit_lock:
            size_bytes, changes = self._freeze()
            if changes == self._committed_changes:
                return
            with _named(self._target.name):
                self._fold()
                self._complete(size_bytes)
                self._target.replace(Whole(self._layers[0].fd, size_bytes))
            with self._lock:
                self._committed_changes = changes
                self._committing = Intervals()

    def _freeze(self) -> tuple[int, int]:
        """All that was stored, and is being stored, stands still; what comes next goes to a layer above."""
        with self._writers_ended():
            if self._changes != self._committed_changes:
                self._layers.append(Layer())
                for start, stop in self._new:
                    self._committing.add(start, stop)
                self._new = Intervals()
            return self._size_bytes, self._changes

    @contextmanager
    def _writers_ended(self) -> Iterator[None]:
        """No writer is under way, and none begins.  Locks: runs under the lock."""
        with self._lock:
            self._is_freezing = True  # else writers that follow each other could keep it waiting for ever
            self._lock.wait_for(lambda: not self._writers)
            try:
                yield
            finally:
                self._is_freezing = False
                self._lock.notify_all()

    def _fold(self) -> None:
        """Into the lowest layer, all others that are frozen.  If it fails, they still lie above it."""
        lowest = self._layers[0]
        for layer in self._layers[1:-1]:
            lowest.shrink(layer.below_bytes)
            if layer.staged:
                data = bytearray(CHUNK_BYTES)
                with memoryview(data) as buffer:
                    for start, stop in layer.staged:
                        for at in range(start, stop, CHUNK_BYTES):
                            with buffer[: min(CHUNK_BYTES, stop - at)] as part:
                                layer.read(part, at)
                                write_all(lowest.fd, part, at)
            with self._lock:  # a fill sees it before or after; the bytes are the same
                lowest.staged.cut(layer.below_bytes)
                lowest.below_bytes = min(lowest.below_bytes, layer.below_bytes)
                for start, stop in layer.staged:
                    lowest.staged.add(start, stop)
                self._layers.remove(layer)

    def _complete(self, size_bytes: int) -> None:
        """Into the lowest layer, all that it has not.  If it fails, what has been fetched need not be fetched again."""
        lowest = self._layers[0]
        os.ftruncate(lowest.fd, size_bytes)
        for start, stop, is_staged in list(lowest.staged.split(0, size_bytes)):
            if is_staged:
                continue
            cut = min(max(start, lowest.below_bytes), stop)
            for at in range(start, cut, CHUNK_BYTES):
                data = bytearray(min(CHUNK_BYTES, cut - at))
                with memoryview(data) as buffer:
                    try:
                        _fill_from(self._base, buffer, at, name=self._target.name)
                    except FileNotFoundError as error:
                        raise conflict(self._target.name, was=self.version, now="deleted") from error
                    write_all(lowest.fd, buffer, at)
                with self._lock:
                    lowest.staged.add(at, at + len(data))
            zero(lowest.fd, cut, stop)  # a store that failed may have left something there
        with self._lock:
            lowest.staged.add(0, size_bytes)
            lowest.below_bytes = 0


def staged(target: Target, *, truncate: bool) -> Opened:
    """*target* opened for writing."""
    ops = StagedOperations(target, truncate=truncate)
    return Opened(ops, ops.size_bytes, ops.version, close=ops.close)


def _fill_from(base: Opened | None, buffer: memoryview, offset_bytes: int, *, name: str) -> None:
    assert base is not None  # else no byte of it would be wanted
    if isinstance(base.ops, RangeOperations):
        fill_all(base.ops, buffer, offset_bytes, name=name)
    else:
        buffer[:] = read_range(base.ops, offset_bytes, len(buffer))


@contextmanager
def _named(name: str) -> Iterator[None]:
    """An error of the temporary file says whose bytes it was to hold, and where."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            text = f"{error.strerror}, in the temporary file in {tempfile.gettempdir()} for what is written"
            raise OSError(error.errno, text, name) from error
        raise
