"""What the writing topics share: the blocks that are written, a store that takes no time, and rclone's mount.

Guarantees: what is written tells where it belongs, nearly always, so that a write to the wrong place is seen.
rclone keeps what is written to a mounted file in a file of its own, and uploads that whole some time after the last
close (``--vfs-cache-mode writes``): the model of write-back that users know.  Here it begins at once after the close.
Not here: what is timed (writing.py, writing_objects.py).
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from workload import KIB, MIB, PAGE, SEED

from pagein.stores.ranges import RangeOperations

MOUNT_TIMEOUT_S = 20.0
BLOCK_COUNT = 64
"""Different blocks: 256 KiB, so that what is written costs no more to read than what a program has just made."""
RCLONE = "rclone mount"


class Write(NamedTuple):
    offset: int
    block: bytes


def blocks(size_bytes: int = PAGE) -> list[bytes]:
    draw = random.Random(SEED + size_bytes)
    return [draw.randbytes(size_bytes) for _ in range(BLOCK_COUNT)]


def random_writes(count: int, *, within_bytes: int, seed: int = 0) -> list[Write]:
    """Whole blocks of 4 KiB, each at a random place of its own."""
    draw, contents = random.Random(SEED + seed), blocks()
    places = draw.sample(range(within_bytes // PAGE), count)
    return [Write(place * PAGE, contents[draw.randrange(BLOCK_COUNT)]) for place in places]


def apply(writes: list[Write], data: bytearray) -> None:
    """What the file should be afterwards."""
    for offset, block in writes:
        data[offset : offset + len(block)] = block


class TakenStore(RangeOperations):
    """A file in memory that takes what it is given at once: what is measured over it is the cache."""

    writable = True
    device_name = "taken"

    def __init__(self, data: bytes) -> None:
        self.fd = os.memfd_create("taken")
        os.pwrite(self.fd, data, 0)

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        os.preadv(self.fd, [buffer], offset_bytes)

    def store(self, buffer: memoryview, offset_bytes: int) -> None:
        os.pwrite(self.fd, buffer, offset_bytes)

    def set_size(self, size_bytes: int) -> None:
        os.ftruncate(self.fd, size_bytes)


class Mount(NamedTuple):
    """Where rclone shows a remote, and what it says about it."""

    path: Path
    log: Path

    def upload_count(self, name: str) -> int:
        """How often it has uploaded a file.  (Asking the bucket meanwhile would confuse moto.)"""
        return self.log.read_text().count(f"INFO  : {name}: Copied (")


def rclone_version() -> str | None:
    """None if it cannot be measured here: it, FUSE, or the right to mount is missing."""
    if not (shutil.which("rclone") and shutil.which("fusermount3") and os.access("/dev/fuse", os.R_OK | os.W_OK)):
        return None
    printed = subprocess.run(["rclone", "version"], capture_output=True, text=True, check=True).stdout
    return printed.split()[1]


@contextmanager
def rclone_mount(remote: str, place: Path) -> Iterator[Mount]:
    """rclone shows *remote* at a directory below *place*."""
    mount = place / "mount"
    mount.mkdir()
    command = [
        "rclone", "mount", remote, str(mount), "--config", "", "--cache-dir", str(place / "cache"),
        "--vfs-cache-mode", "writes", "--vfs-write-back", "0s", "--dir-cache-time", "1s", "-v",
    ]  # fmt: skip
    log = place / "rclone.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, env=environment)
    try:
        give_up_at_s = time.monotonic() + MOUNT_TIMEOUT_S
        while not os.path.ismount(mount):
            if process.poll() is not None or time.monotonic() > give_up_at_s:
                raise RuntimeError(f"rclone has not mounted {remote}: {log.read_text()[-4 * KIB :]}")
            time.sleep(0.02)
        yield Mount(mount, log)
    finally:
        if os.path.ismount(mount):
            subprocess.run(["fusermount3", "-u", "-z", str(mount)], check=False)
        process.terminate()
        process.wait(MOUNT_TIMEOUT_S)


def evict_from_system(path: Path) -> None:
    """So that who opens it next reads from the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def same_bytes(fd: int, data: bytes | bytearray) -> bool:
    """Whether a file holds exactly *data*."""
    if os.fstat(fd).st_size != len(data):
        return False
    with memoryview(data) as view:
        return all(os.pread(fd, MIB, at) == view[at : at + MIB] for at in range(0, len(data), MIB))
