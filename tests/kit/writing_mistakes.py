"""Storage with one mistake each, in writing; each says which clause it breaks."""

from __future__ import annotations

import errno
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pagein import AOP_WRITEPAGE_ACTIVATE, RangeOperations
from pagein.mm.page import Page
from pagein.mm.writeback import WritebackControl
from pagein.units import PAGE_SIZE


class RightWriting(RangeOperations):
    """Without a mistake."""

    blocking = False
    writable = True
    breaks = ""

    def __init__(self) -> None:
        self.data = bytearray()
        self.lock = threading.Lock()

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        with self.lock:
            data = bytes(self.data[offset_bytes : offset_bytes + len(buffer)])
        if len(data) < len(buffer):
            raise OSError(errno.EIO, "too short")
        buffer[:] = data

    def store(self, buffer: memoryview, offset_bytes: int) -> None:
        with self.lock:
            self.data.extend(bytes(max(0, offset_bytes - len(self.data))))
            self.data[offset_bytes : offset_bytes + len(buffer)] = buffer

    def set_size(self, size_bytes: int) -> None:
        with self.lock:
            del self.data[size_bytes:]
            self.data.extend(bytes(size_bytes - len(self.data)))

    def punch_hole(self, offset_bytes: int, size_bytes: int) -> None:
        with self.lock:
            self.data[offset_bytes : offset_bytes + size_bytes] = bytes(size_bytes)


class RightPageByPage(RightWriting):
    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        page.set_writeback()
        page.unlock()
        self.keep(page)
        page.end_writeback()
        return 0

    def keep(self, page: Page) -> None:
        with page.content as content:
            self.store(content, page.offset)

    def writepages(self, wbc: WritebackControl) -> None:
        wbc.write_each_page()


class RightUnderTheLock(RightPageByPage):
    """Stores before it unlocks; runs it takes page by page."""

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        self.keep(page)
        page.unlock()
        return 0

    def writepages(self, wbc: WritebackControl) -> None:
        for page in wbc:
            self.writepage(page, wbc)


class RightLeavingSomeLocked(RightPageByPage):
    """Of pages of which it is known what became of them, the core takes off the lock."""

    def writepages(self, wbc: WritebackControl) -> None:
        for page in wbc:
            page.set_writeback()
            self.keep(page)
            page.end_writeback()


class WritepageReturnsNone(RightPageByPage):
    breaks = "W1"

    def writepage(self, page: Page, wbc: WritebackControl) -> Any:
        super().writepage(page, wbc)


class WritepageLeavesItLocked(RightPageByPage):
    breaks = "W1"

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        self.keep(page)
        return 0


class StoresAfterUnlock(RightPageByPage):
    """Neither locked nor under write-back, its memory may be another page's by then."""

    breaks = "W1"

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        page.unlock()
        self.keep(page)
        return 0


class StoresARunAfterUnlock(RightWriting):
    """As above, with memory that it took before."""

    breaks = "W1"

    def writepages(self, wbc: WritebackControl) -> None:
        page = wbc.take()
        with page.content as content:
            page.unlock()
            self.store(content, page.offset)


class DropsOddPages(RightPageByPage):
    breaks = "W2"

    def keep(self, page: Page) -> None:
        if page.index % 2 == 0:
            super().keep(page)


class StoresAtTheWrongOffset(RightWriting):
    breaks = "W2"

    def store(self, buffer: memoryview, offset_bytes: int) -> None:
        super().store(buffer, offset_bytes // 2)


class DeclinesWithoutRedirty(RightPageByPage):
    """Clears the dirty flag and loses the page: it meant to store it later."""

    breaks = "W2"

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        if page.index == 3:
            page.unlock()
            return 0
        return super().writepage(page, wbc)


class DeclinesForEver(RightPageByPage):
    breaks = "W19"

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        return AOP_WRITEPAGE_ACTIVATE


class DeclinesOnePageForEver(RightPageByPage):
    breaks = "W19"

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        if page.index != 3:
            return super().writepage(page, wbc)
        wbc.redirty(page)
        page.unlock()
        return 0


class TakesNoRun(RightWriting):
    breaks = "W19"

    def writepages(self, wbc: WritebackControl) -> None:
        pass


class StoreFailsWithoutCause(RightWriting):
    breaks = "W2"

    def store(self, buffer: memoryview, offset_bytes: int) -> None:
        raise OSError(errno.EINVAL, "unaligned")


class StoreRaisesTypeError(RightWriting):
    breaks = "R8"

    def store(self, buffer: memoryview, offset_bytes: int) -> None:
        self.data += buffer + b""  # type: ignore[operator]  # the mistake


class ForgetsEndWriteback(RightPageByPage):
    breaks = "W3"

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        page.set_writeback()
        page.unlock()
        self.keep(page)
        return 0


class TakesAndForgets(RightPageByPage):
    breaks = "W3"

    def writepages(self, wbc: WritebackControl) -> None:
        for page in wbc:
            if page.index != 2:
                self.writepage(page, wbc)


class TakesARunAndForgets(RightWriting):
    breaks = "W3"

    def writepages(self, wbc: WritebackControl) -> None:
        wbc.take()


class StoresARunAndLeavesItLocked(RightWriting):
    breaks = "W3"

    def writepages(self, wbc: WritebackControl) -> None:
        page = wbc.take()
        with page.content as content:
            self.store(content, page.offset)


class EndsWritebackTwice(RightPageByPage):
    breaks = "W4"

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        code = super().writepage(page, wbc)
        page.end_writeback()
        return code


class SetsWritebackTooLate(RightPageByPage):
    breaks = "W4"

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        page.unlock()
        page.set_writeback()
        self.keep(page)
        page.end_writeback()
        return 0


class StoresEachPageOnce(RightPageByPage):
    breaks = "W6"

    def __init__(self) -> None:
        super().__init__()
        self.stored: set[int] = set()

    def keep(self, page: Page) -> None:
        if page.index not in self.stored:
            self.stored.add(page.index)
            super().keep(page)


class RewritesTheNextPage(RightPageByPage):
    """Pads what it stores, over the first byte of what follows."""

    breaks = "W7"

    def keep(self, page: Page) -> None:
        with self.lock:
            follows = page.offset + page.size_bytes < len(self.data)
        super().keep(page)
        if follows:
            self.data[page.offset + page.size_bytes] = 0xEE


class ZerosTheNextPage(RightWriting):
    """It ends what it stores with a zero, as text in C."""

    breaks = "W7"

    def store(self, buffer: memoryview, offset_bytes: int) -> None:
        super().store(buffer, offset_bytes)
        stop = offset_bytes + len(buffer)
        if stop < len(self.data):
            self.data[stop] = 0


class FillsGapsWithWhatever(RightWriting):
    breaks = "W8"

    def store(self, buffer: memoryview, offset_bytes: int) -> None:
        with self.lock:
            self.data.extend(b"\xff" * max(0, offset_bytes - len(self.data)))
        super().store(buffer, offset_bytes)

    def set_size(self, size_bytes: int) -> None:
        if size_bytes > len(self.data) > 0:
            self.data.extend(b"\xff" * (size_bytes - len(self.data)))
        super().set_size(size_bytes)


class IgnoresSetSize(RightWriting):
    breaks = "W9"

    def set_size(self, size_bytes: int) -> None:
        pass


class KeepsWhatWasCutOff(RightWriting):
    """Notes the size, and keeps the bytes: they come back when it grows."""

    breaks = "W9"

    def set_size(self, size_bytes: int) -> None:
        self.data.extend(bytes(max(0, size_bytes - len(self.data))))


class SetSizeOnlyCuts(RightWriting):
    breaks = "W9"

    def set_size(self, size_bytes: int) -> None:
        del self.data[size_bytes:]


class PunchesNeighbours(RightWriting):
    breaks = "W10"

    def punch_hole(self, offset_bytes: int, size_bytes: int) -> None:
        super().punch_hole(offset_bytes - 512, size_bytes + 512)


class PunchesAByteMore(RightWriting):
    breaks = "W10"

    def punch_hole(self, offset_bytes: int, size_bytes: int) -> None:
        super().punch_hole(offset_bytes, size_bytes + 1)


class PunchesAFewBytesBefore(RightWriting):
    """Fewer than a word."""

    breaks = "W10"

    def punch_hole(self, offset_bytes: int, size_bytes: int) -> None:
        super().punch_hole(offset_bytes - 6, size_bytes + 6)


class PunchesNothing(RightWriting):
    breaks = "W10"

    def punch_hole(self, offset_bytes: int, size_bytes: int) -> None:
        pass


class SharesAWriteCursor(RightWriting):
    """Keeps in self what belongs to one call: another may change it in between."""

    breaks = "W11"
    blocking = True
    requests_max = 1  # of reading

    def __init__(self) -> None:
        super().__init__()
        self.at = 0

    def store(self, buffer: memoryview, offset_bytes: int) -> None:
        self.at = offset_bytes
        super().store(buffer, self.at)


class SeeksAndWrites(RangeOperations):
    """On one file: another call may seek in between.  Reading moves no cursor."""

    breaks = "W11"
    writable = True

    def __init__(self) -> None:
        self.file = io.BytesIO()

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        data = self.file.getvalue()[offset_bytes : offset_bytes + len(buffer)]
        if len(data) < len(buffer):
            raise OSError(errno.EIO, "too short")
        buffer[:] = data

    def store(self, buffer: memoryview, offset_bytes: int) -> None:
        self.file.seek(offset_bytes)
        self.file.write(buffer)

    def set_size(self, size_bytes: int) -> None:
        self.file.truncate(size_bytes)
        missing_bytes = size_bytes - self.file.seek(0, io.SEEK_END)
        self.file.write(bytes(missing_bytes))


class SeeksAndWritesInALine(SeeksAndWrites):
    blocking = False

    def store(self, buffer: memoryview, offset_bytes: int) -> None:
        _ = self.file.seek(offset_bytes), self.file.write(buffer)


class ReplacesTheWhole(SeeksAndWrites):
    """By what it was and something more, as two calls at once have found it."""

    def store(self, buffer: memoryview, offset_bytes: int) -> None:
        whole = bytearray(self.file.getvalue().ljust(offset_bytes, b"\0"))
        whole[offset_bytes : offset_bytes + len(buffer)] = buffer
        self.file = io.BytesIO(whole)


class FsyncCommitsNothing(RightWriting):
    """commits, and fsync does not."""

    breaks = "W12"
    commits = True

    def __init__(self) -> None:
        super().__init__()
        self.committed = bytearray()

    @property
    def uncommitted_bytes(self) -> int | None:
        return len(self.data) if self.data != self.committed else None

    def discard(self) -> int | None:
        self.data = bytearray(self.committed)
        return len(self.data)


class FsyncTellsTooMuch(FsyncCommitsNothing):
    """What is stored counts as committed at once."""

    breaks = "W12"

    @property
    def uncommitted_bytes(self) -> int | None:
        return None


class CommitsOnce(FsyncCommitsNothing):
    """A flag that is never cleared."""

    breaks = "W12"
    is_committed = False
    is_new = False

    @property
    def uncommitted_bytes(self) -> int | None:
        return len(self.data) if self.is_new else None

    def store(self, buffer: memoryview, offset_bytes: int) -> None:
        super().store(buffer, offset_bytes)
        self.is_new = True

    def fsync(self) -> None:
        if not self.is_committed:
            self.committed = bytearray(self.data)
        self.is_committed = True
        self.is_new = False


class DiscardKeeps(FsyncCommitsNothing):
    breaks = "W15"

    def fsync(self) -> None:
        self.committed = bytearray(self.data)

    def discard(self) -> int | None:
        return len(self.data)


class DirectWriteReturnsNone(RightWriting):
    breaks = "W16"

    def direct_write(self, data: memoryview, offset_bytes: int) -> Any:
        self.store(data, offset_bytes)


class DirectWriteSaysMore(RightWriting):
    breaks = "W16"

    def direct_write(self, data: memoryview, offset_bytes: int) -> int:
        with data[: PAGE_SIZE // 2] as half:
            self.store(half, offset_bytes)
        return len(data)


class KeepsContent(RightPageByPage):
    """To store it later, when it may be another page's memory."""

    breaks = "W17"

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[memoryview] = []

    def keep(self, page: Page) -> None:
        super().keep(page)
        self.kept.append(page.content[:100])


class Launders(RightWriting):
    """Without a mistake."""

    def launder_page(self, page: Page) -> Any:
        with page.content as content:
            self.store(content, page.offset)
        return True


class LaundersNothing(Launders):
    """Says that it has."""

    breaks = "W18"

    def launder_page(self, page: Page) -> Any:
        return True


class LaundersWhatItHas(Launders):
    """And no more than that: what is new is lost."""

    breaks = "W18"

    def launder_page(self, page: Page) -> Any:
        return page.offset >= len(self.data) or super().launder_page(page)


class LaundersToTheWrongPlace(Launders):
    breaks = "W18"

    def launder_page(self, page: Page) -> Any:
        with page.content as content:
            self.store(content, 0)
        return True


class LaundersAsInC(Launders):
    """0 is for success there."""

    breaks = "W18"

    def launder_page(self, page: Page) -> Any:
        super().launder_page(page)
        return 0


class LaunderPageUnlocks(Launders):
    breaks = "W18"

    def launder_page(self, page: Page) -> Any:
        super().launder_page(page)
        page.unlock()
        return True


class LaunderPageIsWritepage(Launders):
    """It begins a write-back, and lets go of the page."""

    breaks = "W18"

    def launder_page(self, page: Page) -> Any:
        page.set_writeback()
        page.unlock()
        super().launder_page(page)
        page.end_writeback()
        return True


class LaunderPageFailsWithoutCause(Launders):
    breaks = "W18"

    def launder_page(self, page: Page) -> Any:
        raise OSError(errno.EINVAL, "unaligned")


class LaunderPageRaisesRuntimeError(Launders):
    breaks = "R8"

    def launder_page(self, page: Page) -> Any:
        raise RuntimeError("never called")


class LaunderPageKeepsContent(Launders):
    breaks = "W17"

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[memoryview] = []

    def launder_page(self, page: Page) -> Any:
        self.kept.append(page.content[:100])
        return super().launder_page(page)


class RightRunsInTwoSteps(RightPageByPage):
    """Begins to store all of a run, and then ends it; what it cannot begin it ends at once.  Without a mistake."""

    is_full = False
    """Whether it can begin one page only, and bring none."""

    @classmethod
    @contextmanager
    def failing(cls) -> Iterator[None]:
        cls.is_full = True
        try:
            yield
        finally:
            cls.is_full = False

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        if self.is_full:
            raise full()
        super().fill(buffer, offset_bytes)

    def writepages(self, wbc: WritebackControl) -> None:
        begun: list[Page] = []
        for page in wbc:
            page.set_writeback()
            page.unlock()
            if begun and self.is_full:
                page.end_writeback(full())
            else:
                begun.append(page)
        self.end(begun)

    def end(self, begun: list[Page]) -> None:
        for page in begun:
            self.keep(page)
            page.end_writeback()


class RaisesWithSomeUnderWay(RightRunsInTwoSteps):
    """What it has begun when it raises it stores all the same, later."""

    breaks = "W20"

    def __init__(self) -> None:
        super().__init__()
        self.late: list[tuple[Page, bytes]] = []

    def writepages(self, wbc: WritebackControl) -> None:
        self.end_late()
        if self.is_full:
            self.begin(wbc.take(1))
            raise full()
        super().writepages(wbc)

    def begin(self, page: Page) -> None:
        page.set_writeback()
        page.unlock()
        with page.content as content:
            self.late.append((page, bytes(content)))

    def end_late(self) -> None:
        while self.late:
            page, content = self.late.pop()
            self.store(memoryview(content), page.offset)
            page.end_writeback()


class RaisesFromWritepageWithItUnderWay(RaisesWithSomeUnderWay):
    def writepages(self, wbc: WritebackControl) -> None:
        wbc.write_each_page()

    def writepage(self, page: Page, wbc: WritebackControl) -> int:
        self.end_late()
        if not self.is_full:
            return super().writepage(page, wbc)
        self.begin(page)
        raise full()


def full() -> OSError:
    return OSError(errno.EBUSY, "the queue is full")


class StoresAfterTheEnd(RightWriting):
    """It says that it has stored what it is about to store."""

    breaks = "W17"

    def writepages(self, wbc: WritebackControl) -> None:
        page = wbc.take()
        page.set_writeback()
        page.unlock()
        content = page.content
        page.end_writeback()
        self.store(content, page.offset)
