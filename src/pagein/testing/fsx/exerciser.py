"""The exerciser itself: runs operations, and compares what comes with the model and with a real local file.

Guarantees: threads meet after each segment, and then every byte and the size are compared; after fsync and close,
the store's own bytes are.
Not here: which operations may run at the same time (operations.py), the shortest list that fails (shorten.py).
"""

from __future__ import annotations

import errno
import os
import queue
import random
import tempfile
import threading
from collections.abc import Callable, Sequence
from itertools import compress

from ...units import PAGE_SIZE
from .operations import FILLS, Op, Plan, Segment, segments, size_after
from .subjects import Handle, Subject, scratch_directory

CONTENT = random.Random("content").randbytes(FILLS + 16 * PAGE_SIZE)
CHECK_EVERY_OPS = 500
"""One thread alone compares the whole file so often."""
JOIN_S = 60.0
"""A thread that has not ended an operation by then hangs."""


class Difference(AssertionError):
    """The file is not what it should be, and *done* operations had been begun."""

    done = 0


class Exerciser:
    """One run of *ops* over *subject*, a new file.  Call `run` once."""

    def __init__(self, plan: Plan, ops: Sequence[Op], subject: Subject) -> None:
        self.plan = plan
        self.done: int = 0
        self._ops = ops
        self._subject = subject
        self._model = bytearray(plan.max_bytes)
        """Zeros beyond the end."""
        self._size = 0
        self._low = [0] * plan.threads
        """Of each thread: the file is at least so long..."""
        self._high = 0
        """...and at most so long, while others may be changing its size."""
        self._lax = False
        """Beyond `low`, bytes may be zeros already, because the file is being truncated."""
        self._failures: list[BaseException] = []
        self._hangs = False
        self._run: dict[str, Callable[[Op], object]] = {
            "read": self._read, "pread": self._pread, "readinto": self._readinto, "view": self._view,
            "reader": self._reader, "write": self._write, "pwrite": self._pwrite, "append": self._append,
            "truncate": self._truncate, "punch": self._punch, "fsync": self._fsync, "sync": self._sync,
            "drop": lambda op: subject.drop(), "reopen": self._reopen, "direct": self._direct, "discard": self._discard,
        }  # fmt: skip

    def run(self) -> None:
        """Raises: Difference, also for any error of the subject's."""
        with tempfile.TemporaryFile(buffering=0, dir=scratch_directory()) as real:
            self._real = real.fileno()
            try:
                self._run_all()
            except Exception as error:
                found = error if isinstance(error, Difference) else Difference(f"{type(error).__name__}: {error}")
                found.done = self.done
                raise found from error

    def _run_all(self) -> None:
        self._open_all()
        (self._run_alone if self.plan.threads == 1 else self._run_together)()
        self._end()

    def _open_all(self) -> None:
        self._own = [self._subject.open("r+b") for _ in range(self.plan.threads)]
        self._shared = self._subject.open("r+b") if self.plan.handles > 1 else None
        self._appending = [self._subject.open("ab") for _ in range(self.plan.threads)]

    def _close_all(self) -> None:
        for handle in [*self._own, *self._appending, *([self._shared] if self._shared else [])]:
            handle.close()

    def _end(self) -> None:
        self._check_all(self._own[0])
        self._close_all()
        self._check_stored(Op(0, "close"), everything=True)
        self._subject.close()
        self._check_stored(Op(0, "close"), everything=True)

    # -- in turns ----------------------------------------------------------------------------------------------

    def _run_alone(self) -> None:
        plan, low = self.plan, self._low
        for op in self._ops:
            self.done += 1
            size = size_after(plan, op, self._size)
            if op.name == "append" and size == self._size:
                continue
            self._do(op)
            if size != self._size and op.name != "discard":
                if size < self._size:
                    self._model[size : self._size] = bytes(self._size - size)
                if op.name == "append":
                    self._settle_appends([op])
                low[0] = self._high = self._size = size
            if not self.done % CHECK_EVERY_OPS:
                self._check_all(self._own[0])

    def _run_together(self) -> None:
        turns: list[queue.SimpleQueue[list[Op] | None]] = [queue.SimpleQueue() for _ in range(self.plan.threads)]
        ended: queue.SimpleQueue[None] = queue.SimpleQueue()

        def work(turn: queue.SimpleQueue[list[Op] | None]) -> None:
            while (ops := turn.get()) is not None:
                try:
                    for op in ops:
                        if self._failures:
                            break
                        self._do(op)
                except BaseException as error:
                    self._failures.append(error)
                finally:
                    ended.put(None)

        threads = [threading.Thread(target=work, args=(turn,), daemon=True) for turn in turns]
        for thread in threads:
            thread.start()
        try:
            for segment in segments(self.plan, self._ops):
                self._run_segment(segment, turns, ended)
        finally:
            for turn in turns:
                turn.put(None)
            for thread in threads:
                thread.join(0 if self._hangs else JOIN_S)

    def _run_segment(
        self,
        segment: Segment,
        turns: list[queue.SimpleQueue[list[Op] | None]],
        ended: queue.SimpleQueue[None],
    ) -> None:
        self.done += len(segment.ops)
        self._low = [segment.low] * self.plan.threads
        self._high, self._lax = segment.high, segment.truncates
        ops, size = segment.ops, self._size
        if segment.appends:  # those that the file has no room for are left out
            ops = []
            for op in segment.ops:
                ops += [op] if (grown := size_after(self.plan, op, size)) > size else []
                size = grown
        shares = [[op for op in ops if op.thread == thread] for thread in range(self.plan.threads)]
        busy = [(turn, share) for turn, share in zip(turns, shares, strict=True) if share]
        for turn, share in busy:
            turn.put(share)
        for _ in busy:
            try:
                ended.get(timeout=JOIN_S)
            except queue.Empty:
                self._hangs = True
                raise Difference(f"nothing came within {JOIN_S:g} s of {'; '.join(map(str, ops))}") from None
        if self._failures:
            raise self._failures[0]
        self._lax = False
        if segment.appends:
            self._settle_appends(ops)
        if segment.truncates:
            self._model[segment.size :] = bytes(len(self._model) - segment.size)
        self._size = self._high = segment.size
        self._low = [segment.size] * self.plan.threads
        self._check_all(self._own[0])

    # -- operations ----------------------------------------------------------------------------------------------

    def _do(self, op: Op) -> None:
        try:
            self._run[op.name](op)
        except Difference:
            raise
        except Exception as error:
            raise Difference(f"{op}: {type(error).__name__}: {error}") from error

    def _handle(self, op: Op) -> Handle:
        return self._shared if self._shared is not None and op.fill & 1 else self._own[op.thread]

    def _read(self, op: Op) -> None:
        handle = self._own[op.thread]
        handle.seek(op.offset)
        self._check_read(op, handle.read(op.size))

    def _pread(self, op: Op) -> None:
        self._check_read(op, self._handle(op).pread(op.size, op.offset))

    def _readinto(self, op: Op) -> None:
        buffer = bytearray(b"\xee" * op.size)
        count = self._handle(op).preadinto(buffer, op.offset)
        if buffer.count(b"\xee", count) != op.size - count:
            raise Difference(f"{op}: wrote beyond the {count} bytes that it returned")
        self._check_read(op, bytes(buffer[:count]))

    def _view(self, op: Op) -> None:
        with self._handle(op).view(op.size, op.offset) as shown:
            self._check_read(op, bytes(shown))
            self._check_read(op, bytes(shown))  # others write to its pages meanwhile, not to our bytes

    def _reader(self, op: Op) -> None:
        reader = self._subject.open("rb")
        try:
            self._check_read(op, reader.pread(op.size, op.offset))
        finally:
            reader.close()

    def _write(self, op: Op) -> None:
        handle = self._own[op.thread]
        handle.seek(op.offset)
        self._written(op, handle.write(CONTENT[op.fill : op.fill + op.size]))

    def _pwrite(self, op: Op) -> None:
        self._written(op, self._handle(op).pwrite(CONTENT[op.fill : op.fill + op.size], op.offset))

    def _direct(self, op: Op) -> None:
        data = CONTENT[op.fill : op.fill + op.size]
        self._written(op, self._handle(op).pwrite(data, op.offset, direct=True))

    def _written(self, op: Op, count: int) -> None:
        if count != op.size:
            raise Difference(f"{op}: wrote {count} of {op.size} bytes")
        if op.size:
            data = CONTENT[op.fill : op.fill + op.size]
            self._model[op.offset : op.stop] = data
            os.pwrite(self._real, data, op.offset)
            self._low[op.thread] = max(self._low[op.thread], op.stop)

    def _append(self, op: Op) -> None:
        count = self._appending[op.thread].write(CONTENT[op.fill : op.fill + op.size])
        if count != op.size:
            raise Difference(f"{op}: wrote {count} of {op.size} bytes")

    def _settle_appends(self, ops: list[Op]) -> None:
        """In which order did they come?  Each thread's in its own; each whole."""
        records = [CONTENT[op.fill : op.fill + op.size] for op in ops]
        tail = self._own[0].pread(sum(map(len, records)) + 1, self._size)
        waiting = [[data for op, data in zip(ops, records, strict=True) if op.thread == thread] for thread in
                   range(self.plan.threads)]  # fmt: skip
        if not _is_merged(tail, waiting):
            raise Difference(f"{len(tail)} bytes from {self._size} on are not what {'; '.join(map(str, ops))} appended")
        self._model[self._size : self._size + len(tail)] = tail
        os.pwrite(self._real, tail, self._size)

    def _truncate(self, op: Op) -> None:
        self._own[op.thread].truncate(op.size)
        os.ftruncate(self._real, op.size)

    def _punch(self, op: Op) -> None:
        if not op.size:
            return
        self._handle(op).punch_hole(op.offset, op.size)
        stop = min(op.stop, self.plan.max_bytes)
        self._model[op.offset : stop] = bytes(stop - op.offset)
        if (stop := min(stop, os.fstat(self._real).st_size)) > op.offset:
            os.pwrite(self._real, bytes(stop - op.offset), op.offset)

    def _discard(self, op: Op) -> None:
        """The file is what its store has, and stays so when all is closed; who opens it then finds no other."""
        handle = self._handle(op)
        if op.fill & 1 << 8 and self._size:
            self._discard_what_is_shown(handle, op.fill % self._size)
        handle.discard()
        data, stored = handle.pread(len(self._model) + 1, 0), self._subject.stored()
        # Of a write that failed something may lie behind, until the file is closed.
        if stored[: len(data)] != data or (len(stored) != len(data) and not self._subject.fails):
            raise Difference(f"{op}: of the {len(stored)} bytes that its store has, the file has not the {len(data)}")
        self._close_all()
        if self._subject.stored() != data:
            raise Difference(f"{op}: closed, the store has {len(self._subject.stored())} bytes, not those {len(data)}")
        self._open_all()
        self._low[0] = self._high = self._size = len(data)
        self._model[:] = data.ljust(len(self._model), b"\0")
        os.ftruncate(self._real, 0)
        os.pwrite(self._real, data, 0)

    def _discard_what_is_shown(self, handle: Handle, offset: int) -> None:
        """All of it goes, or nothing."""
        with handle.view(1, offset):
            try:
                handle.discard()
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                self._check_all(handle)

    def _fsync(self, op: Op) -> None:
        self._handle(op).fsync()
        self._check_stored(op)

    def _sync(self, op: Op) -> None:
        self._subject.sync()
        self._check_stored(op)

    def _reopen(self, op: Op) -> None:
        self._own[op.thread].close()
        self._check_stored(op)
        self._own[op.thread] = self._subject.open("r+b")

    # -- what should be there ----------------------------------------------------------------------------------------

    def _check_read(self, op: Op, data: bytes) -> None:
        """What *op* has read from its offset on: our own bytes as we wrote them last, and as many as there are."""
        offset, low = op.offset, self._low[op.thread]
        least, most = min(op.size, low - offset), min(op.size, max(0, self._high - offset))
        if not least <= len(data) <= most:
            raise Difference(f"{op}: got {len(data)} bytes, of a file of {low} to {self._high}")
        stop = offset + len(data)
        if self.plan.threads == 1:
            if data != self._model[offset:stop]:
                self._fail(op, offset, data, "the cache has")
            if data != os.pread(self._real, op.size, offset):
                self._fail(op, offset, os.pread(self._real, op.size, offset), "the real file has")
            return
        for start, end in self.plan.owned(op.thread, offset, stop):
            self._compare(op, start, data[start - offset : end - offset], "the cache has")
            if start < (surely := min(end, low)):
                self._compare(op, start, os.pread(self._real, surely - start, start), "the real file has")

    def _compare(self, op: Op, start: int, data: bytes, what: str) -> None:
        expected = self._model[start : start + len(data)]
        if data == expected:
            return
        if self._lax and (low := max(0, self._low[op.thread] - start)) < len(data):
            beyond = all(got in (0, was) for got, was in zip(data[low:], expected[low:], strict=True))
            if beyond and data[:low] == expected[:low]:
                return
        self._fail(op, start, data, what)

    def _check_stored(self, op: Op, *, everything: bool = False) -> None:
        """What the store has, after an operation that brings it up to date."""
        stored, low, plan = self._subject.stored(), self._low[op.thread], self.plan
        if not low <= len(stored) <= self._high:
            raise Difference(f"{op}: the store has {len(stored)} bytes, of a file of {low} to {self._high}")
        if everything or plan.threads == 1:
            if stored != self._model[: len(stored)]:
                self._fail(op, 0, stored, "the store has")
            return
        # What is being cut off need not have been stored before.
        for start, end in plan.owned(op.thread, 0, low if self._lax else len(stored)):
            self._compare(op, start, stored[start:end], "the store has")

    def _check_all(self, handle: Handle) -> None:
        """With all threads at rest."""
        op = Op(0, "pread", 0, len(self._model))
        data, real = handle.pread(op.size + 1, 0), os.pread(self._real, op.size + 1, 0)
        for what, got in ("the cache has", data), ("the real file has", real):
            if len(got) != self._size:
                raise Difference(f"{what} {len(got)} bytes in all, not {self._size}")
            if got != self._model[: self._size]:
                self._fail(op, 0, got, what)
        if handle.seek(0, os.SEEK_END) != self._size:
            raise Difference(f"the end is at {handle.seek(0, os.SEEK_END)}, not {self._size}")

    def _fail(self, op: Op, start: int, data: bytes, what: str) -> None:
        expected = bytes(self._model[start : start + len(data)])
        wrong = list(compress(range(len(data)), map(int.__ne__, data, expected)))
        at = wrong[0]
        raise Difference(
            f"{op}: at byte {start + at} (page {(start + at) // PAGE_SIZE}) {what} {data[at : at + 8].hex(' ')}, and "
            f"not {expected[at : at + 8].hex(' ')}; {len(wrong)} bytes differ, the last at {start + wrong[-1]}"
        )


def _is_merged(data: bytes, rows: list[list[bytes]]) -> bool:
    """Whether *data* is the rows' records, each row's in order, one after the other."""
    seen: set[tuple[int, ...]] = set()
    states = [(0, (0,) * len(rows))]
    while states:
        at, taken = states.pop()
        if at == len(data) and all(count == len(row) for count, row in zip(taken, rows, strict=True)):
            return True
        for number, row in enumerate(rows):
            count = taken[number]
            if count < len(row) and data.startswith(row[count], at):
                state = (*taken[:number], count + 1, *taken[number + 1 :])
                if state not in seen:
                    seen.add(state)
                    states.append((at + len(row[count]), state))
    return False
