"""Sources with one mistake each; each says which clause it breaks."""

from __future__ import annotations

import errno
import itertools
import os
import tempfile
import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from tests.kit.reading_mistakes import CONTENT, NEVER

from pagein import RangeOperations
from pagein.errors import not_found, stale
from pagein.mm.rac import ReadaheadControl
from pagein.stores import Opened
from pagein.units import PAGE_SIZE


class Place:
    """A store without a mistake, of which `source` gives sources without one."""

    breaks = ""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {"a": CONTENT}
        self.puts = 1
        self.fails = False
        self.lock = threading.Lock()
        """Held while the object is replaced by what it is and something more."""

    def source(self, path: str) -> Object:
        return Object(self, path)

    def change(self) -> None:
        self.objects["a"] = bytes(reversed(CONTENT))
        self.puts += 1

    @contextmanager
    def failing(self) -> Iterator[None]:
        self.fails = True
        try:
            yield
        finally:
            self.fails = False


class Object:
    def __init__(self, place: Place, path: str) -> None:
        self.place = place
        self.path = path
        self.name = f"place:{path}"
        self.key: Hashable = ("place", id(place), path)

    def version(self) -> str:
        return f"put {self.place.puts}"

    def open(self) -> Opened:
        if self.path not in self.place.objects:
            raise not_found(self.name)
        return Opened(self.ops(writing=False), len(self.place.objects[self.path]), self.version())

    def open_for_writing(self, *, create: bool, exclusive: bool, truncate: bool) -> Opened:
        is_there = self.path in self.place.objects
        if is_there and exclusive:
            raise FileExistsError(errno.EEXIST, "exists", self.name)
        if not is_there and not create:
            raise not_found(self.name)
        if truncate or not is_there:
            self.place.objects[self.path] = b""
            self.place.puts += 1
        return Opened(self.ops(writing=True), len(self.place.objects[self.path]), self.version())

    def ops(self, *, writing: bool) -> Operations:
        return Operations(self, writing=writing)


class Operations(RangeOperations):
    validates = True

    def __init__(self, found: Object, *, writing: bool) -> None:
        self.object = found
        self.place = found.place
        self.writable = writing
        self.version = found.version()

    def whole(self) -> bytes:
        return self.place.objects[self.object.path]

    def require_alive(self) -> None:
        if self.place.fails:
            raise OSError(errno.EIO, "the store fails")

    def require_version(self) -> None:
        if self.version != self.object.version():
            raise stale(self.object.name, was=self.version, now=self.object.version())

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        self.require_alive()
        self.require_version()
        data = self.whole()[offset_bytes : offset_bytes + len(buffer)]
        if len(data) < len(buffer):
            raise OSError(errno.EIO, "too short")
        buffer[:] = data

    def store(self, buffer: memoryview, offset_bytes: int) -> None:
        self.require_alive()
        with self.place.lock:
            whole = bytearray(self.whole())
            whole.extend(bytes(max(0, offset_bytes - len(whole))))
            whole[offset_bytes : offset_bytes + len(buffer)] = buffer
            self.put(bytes(whole))

    def set_size(self, size_bytes: int) -> None:
        self.require_alive()
        with self.place.lock:
            self.put(self.whole()[:size_bytes].ljust(size_bytes, b"\0"))

    def put(self, whole: bytes) -> None:
        self.place.objects[self.object.path] = whole
        self.place.puts += 1
        self.version = self.object.version()


class SizeIsText(Place):
    breaks = "O1"

    class Bad(Object):
        def open(self) -> Opened:
            return super().open()._replace(size_bytes=str(len(CONTENT)))  # type: ignore[arg-type]  # the mistake

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class SizeIsWrong(Place):
    breaks = "O1"

    class Bad(Object):
        def open(self) -> Opened:
            opened = super().open()
            return opened._replace(size_bytes=opened.size_bytes // PAGE_SIZE * PAGE_SIZE)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class SizeIsNegative(Place):
    breaks = "O1"

    class Bad(Object):
        def open(self) -> Opened:
            return super().open()._replace(size_bytes=-5)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class OpenFails(Place):
    breaks = "O1"

    class Bad(Object):
        def open(self) -> Opened:
            raise PermissionError(errno.EACCES, "not for you", self.name)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class OpenRaisesRuntimeError(Place):
    breaks = "R8"

    class Bad(Object):
        def open(self) -> Opened:
            raise RuntimeError("no session")

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class OpenHangs(Place):
    breaks = "D4"

    class Bad(Object):
        def open(self) -> Opened:
            NEVER.wait()
            return super().open()

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class LookRaisesRuntimeError(Place):
    breaks = "R8"

    class Bad(Object):
        def open(self) -> Opened:
            def look() -> Opened | None:
                raise RuntimeError("no session")

            return super().open()._replace(look=look)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class LookFails(Place):
    breaks = "O4"

    class Bad(Object):
        def open(self) -> Opened:
            def look() -> Opened | None:
                raise OSError(errno.EIO, "cannot look")

            return super().open()._replace(look=look)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class LookHangs(Place):
    breaks = "D4"

    class Bad(Object):
        def open(self) -> Opened:
            def look() -> None:
                NEVER.wait()

            return super().open()._replace(look=look)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class OpenForWritingRaisesKeyError(Place):
    breaks = "R8"

    class Bad(Object):
        def open_for_writing(self, *, create: bool, exclusive: bool, truncate: bool) -> Opened:
            raise KeyError(self.path)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class OpenForWritingReturnsNothing(Place):
    breaks = "O1"

    class Bad(Object):
        def open_for_writing(self, *, create: bool, exclusive: bool, truncate: bool) -> Opened:
            return None  # type: ignore[return-value]  # the mistake

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class OpenForWritingHangs(Place):
    breaks = "D4"

    class Bad(Object):
        def open_for_writing(self, *, create: bool, exclusive: bool, truncate: bool) -> Opened:
            NEVER.wait()
            return super().open_for_writing(create=create, exclusive=exclusive, truncate=truncate)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class AnotherKeyEachTime(Place):
    breaks = "O2"

    def source(self, path: str) -> Object:
        found = Object(self, path)
        found.key = object()
        return found


class OpensWhatIsNotThere(Place):
    breaks = "O3"

    def source(self, path: str) -> Object:
        self.objects.setdefault(path, b"")
        return Object(self, path)


class AnotherVersionEachTime(Place):
    breaks = "O4"

    def __init__(self) -> None:
        super().__init__()
        self.count = itertools.count()

    class Bad(Object):
        def open(self) -> Opened:
            assert isinstance(self.place, AnotherVersionEachTime)
            return super().open()._replace(version=f"{next(self.place.count)}")

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class VersionNeverChanges(Place):
    breaks = "O5"

    class Bad(Object):
        def version(self) -> str:
            return "1"

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class MixesVersions(Place):
    """Says that it validates, and does not."""

    breaks = "O6"

    class BadOps(Operations):
        def require_version(self) -> None:
            pass

    class Bad(Object):
        def ops(self, *, writing: bool) -> Operations:
            return MixesVersions.BadOps(self, writing=writing)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class ReadsAheadUnvalidated(Place):
    """Compares the version in readpage, and nowhere else."""

    breaks = "O6"

    class BadOps(Operations):
        def readahead(self, rac: ReadaheadControl) -> None:
            page = rac.take()
            self.require_alive()
            data = self.whole()[page.offset : page.offset + page.size_bytes]
            if len(data) < page.size_bytes:
                raise OSError(errno.EIO, "too short")
            page.buffer[:] = data
            page.end_read()

    class Bad(Object):
        def ops(self, *, writing: bool) -> Operations:
            return ReadsAheadUnvalidated.BadOps(self, writing=writing)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class IgnoresExclusive(Place):
    breaks = "O7"

    class Bad(Object):
        def open_for_writing(self, *, create: bool, exclusive: bool, truncate: bool) -> Opened:
            return super().open_for_writing(create=create, exclusive=False, truncate=truncate)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class IgnoresTruncate(Place):
    breaks = "O8"

    class Bad(Object):
        def open_for_writing(self, *, create: bool, exclusive: bool, truncate: bool) -> Opened:
            return super().open_for_writing(create=create, exclusive=exclusive, truncate=False)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class CloseRaises(Place):
    breaks = "O9"

    class Bad(Object):
        def open(self) -> Opened:
            def close() -> None:
                raise ConnectionResetError(errno.ECONNRESET, "the other side has hung up")

            return super().open()._replace(close=close)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class CloseHangs(Place):
    breaks = "D4"

    class Bad(Object):
        def open(self) -> Opened:
            def close() -> None:
                NEVER.wait()

            return super().open()._replace(close=close)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class StoresWholePages(Place):
    """Also the last one: the object is longer than the file."""

    breaks = "W5"

    class BadOps(Operations):
        def store(self, buffer: memoryview, offset_bytes: int) -> None:
            super().store(
                memoryview(bytes(buffer).ljust(-(-len(buffer) // PAGE_SIZE) * PAGE_SIZE, b"\0")), offset_bytes
            )

    class Bad(Object):
        def ops(self, *, writing: bool) -> Operations:
            return StoresWholePages.BadOps(self, writing=writing)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class FsyncPublishesNothing(Place):
    """Who writes finds what he wrote, and nobody else does."""

    breaks = "W13"

    class BadOps(Operations):
        mine: bytes | None = None

        def whole(self) -> bytes:
            return super().whole() if self.mine is None else self.mine

        def put(self, whole: bytes) -> None:
            super().put(bytes(len(whole)))
            self.mine = whole

    class Bad(Object):
        def ops(self, *, writing: bool) -> Operations:
            return FsyncPublishesNothing.BadOps(self, writing=True) if writing else Operations(self, writing=False)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class PublishesTheFirstFsync(Place):
    """A flag that is never cleared."""

    breaks = "W13"

    class BadOps(Operations):
        mine: bytes | None = None
        is_published = False

        def whole(self) -> bytes:
            return super().whole() if self.mine is None else self.mine

        def put(self, whole: bytes) -> None:
            self.mine = whole

        def fsync(self) -> None:
            if self.mine is not None and not self.is_published:
                super().put(self.mine)
                self.is_published = True

    class Bad(Object):
        def ops(self, *, writing: bool) -> Operations:
            return PublishesTheFirstFsync.BadOps(self, writing=True) if writing else Operations(self, writing=False)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class ForgetsTheOldWhenItCommits(Place):
    """What an fsync replaces it replaces whole, by what was stored since the one before."""

    breaks = "W13"

    class BadOps(Operations):
        mine: bytes | None = None
        is_new: bytes = b""

        def whole(self) -> bytes:
            return super().whole() if self.mine is None else self.mine

        def store(self, buffer: memoryview, offset_bytes: int) -> None:
            super().store(buffer, offset_bytes)
            stop = offset_bytes + len(buffer)
            self.is_new = self.is_new.ljust(offset_bytes, b"\0")[:offset_bytes] + bytes(buffer) + self.is_new[stop:]

        def put(self, whole: bytes) -> None:
            self.mine = whole

        def fsync(self) -> None:
            if self.mine is not None and self.is_new:
                super().put(self.is_new.ljust(len(self.mine), b"\0"))
                self.is_new = b""

    class Bad(Object):
        def ops(self, *, writing: bool) -> Operations:
            return ForgetsTheOldWhenItCommits.BadOps(self, writing=True) if writing else Operations(self, writing=False)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class VersionDoesNotFollow(Place):
    breaks = "W14"

    class BadOps(Operations):
        def require_version(self) -> None:
            pass

        validates = False

        def put(self, whole: bytes) -> None:
            self.place.objects[self.object.path] = whole
            self.place.puts += 1

    class Bad(Object):
        def ops(self, *, writing: bool) -> Operations:
            return VersionDoesNotFollow.BadOps(self, writing=writing)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class LeavesAThread(Place):
    breaks = "L2"

    class Bad(Object):
        def open(self) -> Opened:
            threading.Thread(target=NEVER.wait, name="keeper", daemon=True).start()
            return super().open()

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


LEFT: list[int] = []
"""Descriptors that were never closed, for the test to close."""


class LeavesADescriptor(Place):
    """Its close is never called by what wraps it."""

    breaks = "L3"

    class Bad(Object):
        def open(self) -> Opened:
            LEFT.append(os.open(os.devnull, os.O_RDONLY))
            return super().open()

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class LeavesATemporaryFile(Place):
    """Of another name each time, and removed at once."""

    breaks = "L3"

    class Bad(Object):
        def open(self) -> Opened:
            fd, path = tempfile.mkstemp()
            os.unlink(path)
            LEFT.append(fd)
            return super().open()

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class LeavesADescriptorWhereItFails(Place):
    breaks = "L3"

    class BadOps(Operations):
        def fill(self, buffer: memoryview, offset_bytes: int) -> None:
            fd = os.open(os.devnull, os.O_RDONLY)
            try:
                super().fill(buffer, offset_bytes)
            except OSError:
                LEFT.append(fd)
                raise
            os.close(fd)

    class Bad(Object):
        def ops(self, *, writing: bool) -> Operations:
            return LeavesADescriptorWhereItFails.BadOps(self, writing=writing)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class LeavesADescriptorInFsync(Place):
    breaks = "L3"

    class BadOps(Operations):
        def fsync(self) -> None:
            LEFT.append(os.open(os.devnull, os.O_RDONLY))

    class Bad(Object):
        def ops(self, *, writing: bool) -> Operations:
            return LeavesADescriptorInFsync.BadOps(self, writing=writing)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class LeavesAThreadInOpenForWriting(Place):
    breaks = "L2"

    class Bad(Object):
        def open_for_writing(self, *, create: bool, exclusive: bool, truncate: bool) -> Opened:
            threading.Thread(target=NEVER.wait, name="keeper", daemon=True).start()
            return super().open_for_writing(create=create, exclusive=exclusive, truncate=truncate)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class HidesErrors(Place):
    """Zeros, where the store has failed."""

    breaks = "F1"

    class BadOps(Operations):
        def fill(self, buffer: memoryview, offset_bytes: int) -> None:
            if self.place.fails:
                buffer[:] = bytes(len(buffer))
            else:
                super().fill(buffer, offset_bytes)

    class Bad(Object):
        def ops(self, *, writing: bool) -> Operations:
            return HidesErrors.BadOps(self, writing=writing)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class NeverHeals(Place):
    """An error is kept."""

    breaks = "F2"

    class BadOps(Operations):
        failed: OSError | None = None

        def fill(self, buffer: memoryview, offset_bytes: int) -> None:
            if self.failed is None:
                try:
                    super().fill(buffer, offset_bytes)
                except OSError as error:
                    self.failed = error
            if self.failed is not None:
                raise OSError(errno.EIO, "it failed before")

    class Bad(Object):
        def ops(self, *, writing: bool) -> Operations:
            return NeverHeals.BadOps(self, writing=writing)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class HidesWriteErrors(Place):
    breaks = "F3"

    class BadOps(Operations):
        def put(self, whole: bytes) -> None:
            if not self.place.fails:
                super().put(whole)

        def store(self, buffer: memoryview, offset_bytes: int) -> None:
            if not self.place.fails:
                super().store(buffer, offset_bytes)

    class Bad(Object):
        def ops(self, *, writing: bool) -> Operations:
            return HidesWriteErrors.BadOps(self, writing=writing)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)
