"""What a store leaves behind: threads and file descriptors that are still there after it was opened, used and closed:
read, read in vain, written.

Guarantees: nobody is accused who shares one of them between all times, or keeps up to `CYCLES_MAX` of them, or ends
them soon after close: only who has left some *each* time, all of which are there to the end.
Assumes: Linux's /proc for descriptors; elsewhere those are not looked at.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

from ...stores.source import Opened
from .record import Record
from .rig import NotApplicable, Rig

CYCLES = 4
"""So often it is opened, read and closed."""
CYCLES_MAX = 40
"""And so often before it is accused: a pool that grows by one each time (ThreadPoolExecutor: up to 32), or a cache of
connections, is full by then."""
DESCRIPTORS_MAX = 256
"""With so many left it is enough: the process may have no more than 1024."""
ENDING_S = 5.0
"""For threads to end that were told to, all together."""
JOIN_S = 0.1
"""For one of them at a time, lest whoever looks at the exercise takes it for one that is stuck."""
NAMED = 3
"""So many are named."""
FDS = "/proc/self/fd"


class Descriptor(NamedTuple):
    """What tells one that is open from another that was open before, under the same number, or of the same file."""

    number: int
    device: int
    inode: int


class Cycle:
    """What is there since one time, and has not gone."""

    def __init__(self) -> None:
        self._threads_before = _threads()
        self._descriptors_before = _descriptors()
        self.threads: set[threading.Thread] = set()
        self.descriptors: dict[Descriptor, str] = {}

    def end(self) -> None:
        """What is there now, and was not there before, is left by it."""
        self.threads = _threads() - self._threads_before
        found = _descriptors()
        self.descriptors = {one: what for one, what in found.items() if one not in self._descriptors_before}

    def look_again(self, open_now: dict[Descriptor, str]) -> None:
        """Forget what has gone meanwhile."""
        self.threads = {one for one in self.threads if one.is_alive()}
        self.descriptors = {one: what for one, what in self.descriptors.items() if one in open_now}

    @property
    def others_threads(self) -> set[threading.Thread]:
        """Those that are not the cache's, whose workers end when they find that nobody needs them."""
        return {one for one in self.threads if not one.name.startswith("pagein-")}


def left_behind(rig: Rig) -> None:
    """Opened, read and closed."""
    _again_and_again(rig, _read, "read")


def left_by_errors(rig: Rig) -> None:
    """Opened, read in vain and closed."""
    if rig.subject.failing is None:
        raise NotApplicable("nobody has said how to make it fail (Subject(failing=...))")
    _again_and_again(rig, _read_in_vain, "read while it fails")


def left_by_writing(rig: Rig) -> None:
    """Opened for writing, written and closed."""
    reason = rig.subject.why_not_written(rig.made())
    if reason is not None:
        raise NotApplicable(reason)
    _again_and_again(rig, _write, "written")


def _again_and_again(rig: Rig, use: Callable[[Rig], None], used: str) -> None:
    """What is left each time is never given back."""
    cycles: list[Cycle] = []
    while len(cycles) < CYCLES_MAX:
        cycle = Cycle()
        once = rig.anew()
        try:
            use(once)
        finally:
            once.close()
        cycle.end()
        cycles.append(cycle)
        if len(cycles) < CYCLES:
            continue
        earlier = cycles[:-1]  # the last may be about to end
        if len(cycles) == CYCLES and _suspected(earlier):
            gc.collect()  # what Python closes when it sees that nobody has it is not left for ever: threads of pools...
            _await_end([one for cycle in earlier for one in cycle.threads], rig.record)
            gc.collect()  # ...and what those had
        _look_again(cycles)
        if not _suspected(earlier):
            return
        if sum(len(cycle.descriptors) for cycle in cycles) > DESCRIPTORS_MAX:
            break
    gc.collect()
    _look_again(cycles)
    _accuse(rig.record, cycles[:-1], used)


def closed_at_last(rig: Rig) -> None:
    """What all exercises have used."""
    made = rig.made()
    if not rig.subject.is_shared or not isinstance(made, Opened):
        raise NotApplicable("each exercise has opened its own")
    rig.shut(made)


def _read(once: Rig) -> None:
    once.open_to_read()
    with once.cache() as cache, once.file(cache) as file:
        file.pread(1, 0)


def _read_in_vain(once: Rig) -> None:
    failing = once.subject.failing
    assert failing is not None
    once.open_to_read()
    failing_now = once.record.during("while the store fails")
    with once.cache() as cache, once.file(cache) as file, failing(), failing_now, suppress(OSError):
        file.pread(1, 0)


def _write(once: Rig) -> None:
    once.open(writing=True)
    once.empty()
    with once.cache() as cache, once.file(cache, "w+b") as file:
        file.pwrite(b"what is left", 0)
        once.store(file.fsync)


def _look_again(cycles: list[Cycle]) -> None:
    open_now = _descriptors()
    for cycle in cycles:
        cycle.look_again(open_now)


def _suspected(cycles: list[Cycle]) -> bool:
    return all(cycle.others_threads for cycle in cycles) or all(cycle.descriptors for cycle in cycles)


def _accuse(record: Record, cycles: list[Cycle], used: str) -> None:
    where = f"opened, {used} and closed {len(cycles)} times"
    if all(cycle.others_threads for cycle in cycles):
        names = sorted({one.name for cycle in cycles for one in cycle.others_threads})
        record.breach("L2", f"threads of each time are still alive: {_some(names)}", where)
    elif all(cycle.descriptors for cycle in cycles):  # else they are most likely those threads'
        names = sorted({what for cycle in cycles for what in cycle.descriptors.values()})
        record.breach("L3", f"descriptors of each time are still open: {_some(names)}", where)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"


def _await_end(threads: Iterable[threading.Thread], record: Record) -> None:
    """Blocks: until all have ended, or for `ENDING_S`."""
    deadline_s = time.monotonic() + ENDING_S
    for thread in threads:
        while thread.is_alive() and (left_s := deadline_s - time.monotonic()) > 0:
            record.moved()
            thread.join(min(left_s, JOIN_S))


def _threads() -> set[threading.Thread]:
    """Python's own: of a library's that has called Python nobody can say whether it has ended."""
    return {one for one in threading.enumerate() if not isinstance(one, threading._DummyThread)}


def _descriptors() -> dict[Descriptor, str]:
    """What is open, and what it is, without the memory of caches, which goes when Python sees that nobody has it."""
    found: dict[Descriptor, str] = {}
    for name in os.listdir(FDS) if os.path.isdir(FDS) else ():
        with suppress(OSError):  # the one with which it is listed
            what = os.readlink(f"{FDS}/{name}")
            if not what.startswith("/memfd:pagein"):
                status = os.fstat(int(name))
                found[Descriptor(int(name), status.st_dev, status.st_ino)] = what
    return found
