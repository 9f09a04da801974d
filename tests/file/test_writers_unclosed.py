"""Files that were written to and that nobody closed: collected, or left at the end of the interpreter."""

from __future__ import annotations

import errno
import gc
import io
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.file.sources import DATA, TIMEOUT_S, binary
from tests.file.writable import Disk

from pagein import PageCache, UnwrittenDataError, written


@pytest.fixture(params=["in place", "whole"])
def disk(request: pytest.FixtureRequest) -> Disk:
    return Disk({"a": DATA}, whole=request.param == "whole")


def leave_open(cache: PageCache, disk: Disk) -> None:
    binary(cache.open((disk, "b"), "wb")).write(b"written")


def leave_open_in_a_cycle(cache: PageCache, disk: Disk) -> None:
    cycle: dict[str, Any] = {"file": cache.open((disk, "b"), "wb")}
    cycle["self"] = cycle
    cycle["file"].write(b"written")


def leave_text_open(cache: PageCache, disk: Disk) -> None:
    cache.open((disk, "b"), "w").write("written")


def leave_text_open_in_a_cycle(cache: PageCache, disk: Disk) -> None:
    cycle: dict[str, Any] = {"file": cache.open((disk, "b"), "a")}
    cycle["self"] = cycle
    cycle["file"].write("written")


@pytest.mark.parametrize("leave", [leave_open, leave_open_in_a_cycle, leave_text_open, leave_text_open_in_a_cycle])
def test_what_nobody_closed_is_written_when_the_cache_closes_at_the_latest(
    leave: Callable[[PageCache, Disk], None], disk: Disk
) -> None:
    cache = PageCache("1 MiB", debug=True)
    leave(cache, disk)
    gc.collect()
    with binary(cache.open((disk, "b"))) as reader:
        assert reader.read() == b"written"
    assert cache.stats().open_files == 0
    cache.close()
    assert disk.objects["b"] == b"written"
    assert disk.open_count == 0


def test_what_nobody_closed_and_no_store_takes_is_named(disk: Disk) -> None:
    cache = PageCache("1 MiB", debug=True)
    disk.error = OSError(errno.EDQUOT, "quota exceeded")
    leave_text_open(cache, disk)
    gc.collect()
    with pytest.raises(UnwrittenDataError, match="quota exceeded") as raised:
        cache.close()
    assert raised.value.files == {"b": 7}
    cache.close(discard=True)


@pytest.mark.parametrize("leave", [leave_open, leave_open_in_a_cycle, leave_text_open, leave_text_open_in_a_cycle])
def test_what_nobody_closed_is_handed_to_the_store_without_anybody_s_asking(
    leave: Callable[[PageCache, Disk], None], disk: Disk
) -> None:
    with PageCache("1 MiB") as cache:
        leave(cache, disk)
        gc.collect()
        calls = ["open_for_writing", "store", "fsync"] if disk.whole else ["open_for_writing", "store"]
        for _ in calls:
            disk.wait_for_call()
        assert disk.names_of_calls() == calls


@pytest.mark.parametrize("leave", [leave_open, leave_text_open])
def test_why_what_nobody_closed_could_not_be_written_is_told_to_the_next_who_opens_it(
    leave: Callable[[PageCache, Disk], None], disk: Disk
) -> None:
    with PageCache("1 MiB", debug=True) as cache:
        disk.error = OSError(errno.EDQUOT, "quota exceeded")
        leave(cache, disk)
        gc.collect()
        cache.stats()  # follows up, if no worker has
        cache._table.behind.wait()
        disk.error = None
        with binary(cache.open((disk, "b"), "r+b")) as file, binary(cache.open((disk, "b"), "r+b")) as other:
            for one in (file, other):
                with pytest.raises(OSError, match="quota exceeded"):
                    one.fsync()
                one.fsync()
        assert disk.objects["b"] == b"written"


def test_text_that_was_collected_is_older_than_what_is_written_afterwards(disk: Disk) -> None:
    with PageCache("1 MiB", debug=True) as cache, binary(cache.open((disk, "a"), "r+b")) as file:
        file.pwrite(b"here", 0)
        text = cache.open((disk, "a"), "r+")
        text.write("older text")
        del text
        gc.collect()
        file.pwrite(b"newer", 0)
        assert file.pread(10, 0) == b"newer text"


def test_text_that_was_collected_and_cannot_be_written_is_kept_and_named(disk: Disk) -> None:
    cache = PageCache("1 MiB", debug=True)
    text = cache.open((disk, "a"), "r+")
    text.write("text")
    disk.put("a", b"another's" * 100)
    del text
    gc.collect()
    for _ in range(2):
        with pytest.raises(UnwrittenDataError, match="changed while it was open") as raised:
            cache.close()
        assert raised.value.files == {"a": 4}
    cache.close(discard=True)
    assert disk.open_count == 0


def test_a_cache_that_nobody_has_is_kept_until_its_data_are_written(disk: Disk) -> None:
    binary((cache := PageCache("1 MiB")).open((disk, "b"), "wb")).write(b"written")
    disk.hold()
    del cache
    gc.collect()
    (cache,) = [one for one in written.caches_with_data() if ("disk", disk, "b") in one._inodes]
    disk.release()
    cache.sync()
    assert disk.objects["b"] == b"written"
    assert cache not in written.caches_with_data()
    cache.close()


@pytest.mark.parametrize("which", ["_lock", "zone", "dirty_lock"])
def test_text_that_is_collected_under_a_lock_of_ours_does_not_deadlock_and_is_written(which: str) -> None:
    disk, cache = Disk(), PageCache("1 MiB", debug=True)  # no fixture, whose end would need the lock too
    text: list[Any] = [cache.open((disk, "a"), "w")]
    text[0].write("written")
    mapping = text[0].buffer._mapping
    lock = {"_lock": cache._lock, "zone": cache._zone.lock, "dirty_lock": mapping.dirty_lock}[which]

    def collect_under_the_lock() -> None:
        with lock:
            text.clear()

    thread = threading.Thread(target=collect_under_the_lock, daemon=True)
    thread.start()
    thread.join(TIMEOUT_S)
    assert not thread.is_alive()
    cache.close()
    assert disk.objects["a"] == b"written"


@pytest.mark.parametrize("mode", ["wb", "ab", "r+b"])
@pytest.mark.parametrize("which", ["_lock", "zone"])
def test_a_buffer_of_the_user_s_that_is_collected_under_a_lock_of_ours_is_written(which: str, mode: str) -> None:
    disk, cache = Disk({"a": b""}), PageCache("1 MiB")
    buffers: list[Any] = [io.BufferedWriter(cache.open((disk, "a"), mode))]
    buffers[0].write(b"written")
    lock = {"_lock": cache._lock, "zone": cache._zone.lock}[which]

    def collect_under_the_lock() -> None:
        with lock:
            buffers.clear()

    thread = threading.Thread(target=collect_under_the_lock, daemon=True)
    thread.start()
    thread.join(TIMEOUT_S)
    assert not thread.is_alive()
    cache.close()
    assert disk.objects["a"] == b"written"


# -- the end of the interpreter ----------------------------------------------------------------------

BEGIN = """
import faulthandler, sys
faulthandler.dump_traceback_later(20, exit=True)
import pagein
from pagein.stores import MemoryStore
place = sys.argv[1]
cache = pagein.PageCache("1 MiB")
"""

ENDS = {
    "an open file": "file = cache.open(place, 'wb'); file.write(b'written')",
    "text": "text = cache.open(place, 'w'); text.write('written')",
    "text of the default cache": "text = pagein.open(place, 'w'); text.write('written')",
    "a file that a module keeps": "sys.kept = cache.open(place, 'wb'); sys.kept.write(b'written')",
    "a cache that nobody has": "pagein.PageCache('1 MiB').open(place, 'wb').write(b'written')",
    "a buffer over a file": "import io; b = io.BufferedWriter(cache.open(place, 'wb')); b.write(b'written')",
    "text over a file": "import io; t = io.TextIOWrapper(cache.open(place, 'wb')); t.write('written')",
    "a finalizer that writes": """
class Writer:
    file = cache.open(place, 'wb')
    def __del__(self):
        self.file.write(b'written')
writer = Writer()
""",
    "an exception": "cache.open(place, 'wb').write(b'written'); sys.exit(0)",
    "a daemon thread": """
import threading
file, wrote = cache.open(place, 'wb'), threading.Event()
def write():
    file.write(b'written')
    wrote.set()
    threading.Event().wait()
threading.Thread(target=write, daemon=True).start()
wrote.wait()
""",
}


@pytest.mark.parametrize("end", ENDS)
def test_an_interpreter_that_ends_writes_back_what_is_open_in_silence(end: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    ended = run(ENDS[end], str(path))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert path.read_bytes() == b"written"


def test_an_interpreter_that_has_ended_says_what_no_object_has() -> None:
    ended = run("import io; b = io.BufferedWriter(cache.open((MemoryStore(), 'a'), 'wb')); b.write(b'written')", "a")
    assert "UnwrittenDataError" in ended.stderr
    assert "memory:a (7 B)" in ended.stderr


def test_an_interpreter_that_ends_says_what_it_could_not_write() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs a disk that is full")
    ended = run(FULL, "full")
    assert ended.returncode == 0
    assert (
        "UnwrittenDataError: [Errno 28] not written, and kept in the cache: here (7 B): No space left" in ended.stderr
    )


FULL = """
import os
from pagein.stores import RangeOperations
class Full(RangeOperations):
    writable = True
    def fill(self, buffer, offset_bytes):
        pass
    def store(self, buffer, offset_bytes):
        with open('/dev/full', 'wb', buffering=0) as full:
            full.write(buffer)
    def set_size(self, size_bytes):
        self.store(b'x', 0)
cache.inode(Full(), size_bytes=0, name='here').open('r+b').write(b'written')
"""


def run(code: str, place: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore", "-c", BEGIN + code, place],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
