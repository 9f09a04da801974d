"""Storage with one mistake each, in reading; each says which clause it breaks."""

from __future__ import annotations

import asyncio
import errno
import io
import itertools
import threading
from collections.abc import Hashable
from concurrent.futures import Future
from typing import Any

from pagein import AOP_TRUNCATED_PAGE, AOP_UPDATED_PAGE, AddressSpaceOperations, RangeOperations
from pagein.mm.openfile import OpenFile
from pagein.mm.page import Page
from pagein.mm.rac import ReadaheadControl
from pagein.testing.stores import pattern
from pagein.units import PAGE_SIZE

CONTENT = pattern(0, 9 * PAGE_SIZE + 321)
NEVER = threading.Event()
"""Set when the tests are over: what waits for it then ends."""


class Right(AddressSpaceOperations):
    """Without a mistake."""

    blocking = False
    breaks = ""
    size_bytes = len(CONTENT)

    def content(self, page: Page) -> bytes:
        return CONTENT[page.offset : page.offset + page.size_bytes]

    def fill(self, page: Page) -> None:
        data = self.content(page)
        if len(data) != page.size_bytes:
            raise OSError(errno.EIO, "too short")
        page.buffer[:] = data

    def readpage(self, file: OpenFile, page: Page) -> int:
        self.fill(page)
        page.set_uptodate()
        return AOP_UPDATED_PAGE


class RightWithReadahead(Right):
    def readahead(self, rac: ReadaheadControl) -> None:
        page = rac.take()
        self.fill(page)
        page.end_read()


class RightUnlocking(Right):
    """As Linux's old readpage and readpages: Uptodate and unlocked is read."""

    def readpage(self, file: OpenFile, page: Page) -> int:
        super().readpage(file, page)
        page.unlock()
        return 0

    def readahead(self, rac: ReadaheadControl) -> None:
        for page in rac:
            self.readpage(rac.file, page)


class RightUnlockingLater(RightUnlocking):
    """By a thread of its own."""

    def readpage(self, file: OpenFile, page: Page) -> int:
        threading.Thread(target=self.bring, args=(file, page)).start()
        return 0

    def bring(self, file: OpenFile, page: Page) -> None:
        try:
            super().readpage(file, page)
        except OSError as error:
            page.end_read(error)


class RightInTwoSteps(Right):
    """Uptodate, and only then ended; by a thread of its own."""

    def readpage(self, file: OpenFile, page: Page) -> int:
        threading.Thread(target=self.bring, args=(page,)).start()
        return 0

    def bring(self, page: Page) -> None:
        try:
            self.fill(page)
        except OSError as error:
            page.end_read(error)
        else:
            page.set_uptodate()
            page.end_read()


class ReturnsNone(Right):
    breaks = "R1"

    def readpage(self, file: OpenFile, page: Page) -> Any:
        super().readpage(file, page)


class ReturnsByteCount(Right):
    breaks = "R1"

    def readpage(self, file: OpenFile, page: Page) -> int:
        super().readpage(file, page)
        return page.size_bytes


class UnlocksAndSaysUpdated(Right):
    breaks = "R2"

    def readpage(self, file: OpenFile, page: Page) -> int:
        code = super().readpage(file, page)
        page.unlock()
        return code


class EndsAndSaysUpdated(Right):
    breaks = "R2"

    def readpage(self, file: OpenFile, page: Page) -> int:
        self.fill(page)
        page.end_read()
        return AOP_UPDATED_PAGE


class ForgetsSetUptodate(Right):
    breaks = "R3"

    def readpage(self, file: OpenFile, page: Page) -> int:
        self.fill(page)
        return AOP_UPDATED_PAGE


class NeverEnds(Right):
    breaks = "R4"

    def readpage(self, file: OpenFile, page: Page) -> int:
        self.fill(page)
        return 0


class UnlocksAndSaysStarted(Right):
    breaks = "R4"

    def readpage(self, file: OpenFile, page: Page) -> int:
        self.fill(page)
        page.unlock()
        return 0


class UnlocksLater(Right):
    """As a page that was read, without saying so."""

    breaks = "R4"

    def readpage(self, file: OpenFile, page: Page) -> int:
        threading.Thread(target=self.bring, args=(page,)).start()
        return 0

    def bring(self, page: Page) -> None:
        self.fill(page)
        page.unlock()


class DiesBeforeItEnds(Right):
    """The thread that should end the read raises before."""

    breaks = "R4"

    def readpage(self, file: OpenFile, page: Page) -> int:
        threading.Thread(target=self.bring, args=(page,)).start()
        return 0

    def bring(self, page: Page) -> None:
        data = {0: b""}[page.index + 1]
        page.buffer[:] = data
        page.end_read()


class DiesInACallback(DiesBeforeItEnds):
    """Of a future, which logs what its callbacks raise and goes on."""

    def readpage(self, file: OpenFile, page: Page) -> int:
        future: Future[None] = Future()
        future.add_done_callback(lambda _: self.bring(page))
        future.set_result(None)
        return 0


class DiesInALoop(DiesBeforeItEnds):
    """As above, of asyncio."""

    def readpage(self, file: OpenFile, page: Page) -> int:
        threading.Thread(target=asyncio.run, args=(self.run(page),)).start()
        return 0

    async def run(self, page: Page) -> None:
        asyncio.get_running_loop().call_soon(self.bring, page)
        await asyncio.sleep(0)


class NeverEndsBehindTheEnd(Right):
    """A short answer has no room in its code."""

    breaks = "R4"

    def readpage(self, file: OpenFile, page: Page) -> int:
        if page.offset < len(CONTENT):
            return super().readpage(file, page)
        return 0


class EndsTwice(Right):
    """A completion and a time-out, neither of which knows of the other."""

    breaks = "R5"

    def readpage(self, file: OpenFile, page: Page) -> int:
        self.fill(page)
        page.end_read()
        page.end_read(OSError(errno.ETIMEDOUT, "too late"))
        return 0


class TruncatedAndLocked(Right):
    breaks = "R6"

    def readpage(self, file: OpenFile, page: Page) -> int:
        return AOP_TRUNCATED_PAGE


class TruncatedForEver(Right):
    breaks = "R7"

    def readpage(self, file: OpenFile, page: Page) -> int:
        page.unlock()
        return AOP_TRUNCATED_PAGE


class RaisesKeyError(Right):
    breaks = "R8"

    def readpage(self, file: OpenFile, page: Page) -> int:
        raise KeyError(page.index)


class EndsWithValueError(Right):
    breaks = "R8"

    def readpage(self, file: OpenFile, page: Page) -> int:
        page.end_read(ValueError("bad answer"))
        return 0


class ForgetsTheTail(Right):
    breaks = "R9"

    def readpage(self, file: OpenFile, page: Page) -> int:
        page.buffer[:4000] = self.content(page)[:4000]
        page.set_uptodate()
        return AOP_UPDATED_PAGE


class UptodateBeforeItIsFilled(Right):
    breaks = "R9"

    def readpage(self, file: OpenFile, page: Page) -> int:
        page.set_uptodate()
        self.fill(page)
        return AOP_UPDATED_PAGE


class UptodateBeforeItIsFilledLater(Right):
    """By a thread of its own."""

    breaks = "R9"

    def readpage(self, file: OpenFile, page: Page) -> int:
        threading.Thread(target=self.bring, args=(page,)).start()
        return 0

    def bring(self, page: Page) -> None:
        page.set_uptodate()
        page.write(self.content(page).ljust(page.size_bytes, b"\0"))
        page.end_read()


class UptodateThenFilledAndUnlocked(Right):
    breaks = "R9"

    def readpage(self, file: OpenFile, page: Page) -> int:
        page.set_uptodate()
        self.fill(page)
        page.unlock()
        return 0


class ARunUptodateBeforeItIsFilled(RightWithReadahead):
    breaks = "R9"

    def readahead(self, rac: ReadaheadControl) -> None:
        page = rac.take()
        page.set_uptodate()
        page.write(self.content(page).ljust(page.size_bytes, b"\0"))
        page.end_read()


class OffByOnePage(Right):
    breaks = "R10"

    def readpage(self, file: OpenFile, page: Page) -> int:
        start = max(0, page.offset - PAGE_SIZE)
        page.buffer[:] = CONTENT[start : start + page.size_bytes]
        page.set_uptodate()
        return AOP_UPDATED_PAGE


class OtherBytesEachTime(Right):
    breaks = "R10"

    def __init__(self) -> None:
        self.calls = itertools.count()

    def readpage(self, file: OpenFile, page: Page) -> int:
        page.buffer[:] = pattern(page.offset, page.size_bytes, version=next(self.calls))
        page.set_uptodate()
        return AOP_UPDATED_PAGE


class BringsOnlyOnce(Right):
    breaks = "R11"

    def __init__(self) -> None:
        self.brought: set[int] = set()

    def readpage(self, file: OpenFile, page: Page) -> int:
        if page.index not in self.brought:
            self.brought.add(page.index)
            self.fill(page)
        page.set_uptodate()
        return AOP_UPDATED_PAGE


class UptodateThenRaises(Right):
    breaks = "R12"

    def readpage(self, file: OpenFile, page: Page) -> int:
        self.fill(page)
        page.set_uptodate()
        if page.index == 3:
            raise OSError(errno.EIO, "checksum")
        return AOP_UPDATED_PAGE


class UptodateThenEndsWithError(RightWithReadahead):
    breaks = "R12"

    def readahead(self, rac: ReadaheadControl) -> None:
        page = rac.take()
        self.fill(page)
        page.set_uptodate()
        page.end_read(OSError(errno.EIO, "checksum"))


class KeepsASlice(Right):
    breaks = "R13"

    def __init__(self) -> None:
        self.kept: list[memoryview] = []

    def readpage(self, file: OpenFile, page: Page) -> int:
        code = super().readpage(file, page)
        self.kept.append(page.buffer[:16])
        return code


class KeepsASliceAndUnlocks(KeepsASlice):
    def readpage(self, file: OpenFile, page: Page) -> int:
        super().readpage(file, page)
        page.unlock()
        return 0


class WritesLater(Right):
    """It keeps the buffer of the page before, and completes it only now."""

    breaks = "R13"

    def __init__(self) -> None:
        self.before: memoryview | None = None

    def readpage(self, file: OpenFile, page: Page) -> int:
        code = super().readpage(file, page)
        if self.before is not None:
            self.before[:1] = b"x"
        self.before = page.buffer
        return code


class WritesAfterTheEnd(Right):
    breaks = "R14"

    def readpage(self, file: OpenFile, page: Page) -> int:
        self.fill(page)
        page.end_read()
        page.write(b"late")
        return 0


class FailsWithoutCause(Right):
    breaks = "R15"

    def readpage(self, file: OpenFile, page: Page) -> int:
        if page.index == 5:
            raise OSError(errno.EINVAL, "unaligned")
        return super().readpage(file, page)


class TakesPagesForFull(Right):
    """The last page is short."""

    breaks = "E1"

    def readpage(self, file: OpenFile, page: Page) -> int:
        page.buffer[:] = CONTENT[page.offset : page.offset + PAGE_SIZE].ljust(PAGE_SIZE, b"\0")
        page.set_uptodate()
        return AOP_UPDATED_PAGE


class LeavesOutTheLastPage(Right):
    breaks = "E1"

    def readpage(self, file: OpenFile, page: Page) -> int:
        if page.index < len(CONTENT) // PAGE_SIZE:
            self.fill(page)
        page.set_uptodate()
        return AOP_UPDATED_PAGE


class BringsWhatItHasNot(Right):
    """A short answer is taken for a good one."""

    breaks = "E2"

    def fill(self, page: Page) -> None:
        data = self.content(page)
        page.buffer[: len(data)] = data


class TakesTooMuch(RightWithReadahead):
    breaks = "A1"

    def readahead(self, rac: ReadaheadControl) -> None:
        super().readahead(rac)
        super().readahead(rac)


class TakesAndForgets(RightWithReadahead):
    breaks = "A2"

    def readahead(self, rac: ReadaheadControl) -> None:
        for page in rac:
            if page.index % 4 != 3:
                self.fill(page)
                page.end_read()


class UnlocksARunUnread(RightWithReadahead):
    breaks = "A2"

    def readahead(self, rac: ReadaheadControl) -> None:
        for page in rac:
            self.fill(page)
            page.unlock()


class BringsTheFirstPageOfARun(RightWithReadahead):
    breaks = "A3"

    def readahead(self, rac: ReadaheadControl) -> None:
        page = rac.take()
        page.buffer[:PAGE_SIZE] = CONTENT[page.offset : page.offset + PAGE_SIZE]
        page.end_read()


class BringsOnePageForAll(RightWithReadahead):
    breaks = "A3"

    def readahead(self, rac: ReadaheadControl) -> None:
        index = rac.index
        for page in rac:
            page.buffer[:] = CONTENT[index * PAGE_SIZE :][: page.size_bytes]
            page.end_read()


class EndsARunTwice(RightWithReadahead):
    breaks = "R5"

    def readahead(self, rac: ReadaheadControl) -> None:
        page = rac.take()
        self.fill(page)
        page.end_read()
        page.end_read()


class SharesACursor(Right):
    """Keeps in self what belongs to one call: another may change it in between."""

    breaks = "C1"
    blocking = True

    def __init__(self) -> None:
        self.at = 0

    def readpage(self, file: OpenFile, page: Page) -> int:
        self.at = page.offset
        page.buffer[:] = CONTENT[self.at : self.at + page.size_bytes].ljust(page.size_bytes, b"\0")
        page.set_uptodate()
        return AOP_UPDATED_PAGE


class SeeksAndReads(RangeOperations):
    """On one file: another call may seek in between."""

    breaks = "C1"
    size_bytes = len(CONTENT)

    def __init__(self) -> None:
        self.file = io.BytesIO(CONTENT)

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        self.file.seek(offset_bytes)
        if self.file.readinto(buffer) != len(buffer):
            raise OSError(errno.EIO, "too short")


class SeeksAndReadsInALine(SeeksAndReads):
    blocking = False

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        if (self.file.seek(offset_bytes), self.file.readinto(buffer)) != (offset_bytes, len(buffer)):
            raise OSError(errno.EIO, "too short")


class RequestsMaxIsText(Right):
    breaks = "D1"
    requests_max: Any = "16"


class AnotherDeviceEachTime(Right):
    """With which requests_max bounds nothing."""

    breaks = "D2"

    @property
    def device_key(self) -> Hashable:
        return object()


class RequestsMaxRaises(Right):
    breaks = "D1"

    @property
    def requests_max(self) -> int:  # type: ignore[override]  # the mistake
        raise KeyError("requests_max")


class DeviceKeyRaises(Right):
    breaks = "D2"

    @property
    def device_key(self) -> Hashable:
        raise KeyError("bucket")


class DeviceKeyHangs(Right):
    """It asks the store what it is called."""

    breaks = "D4"

    @property
    def device_key(self) -> Hashable:
        NEVER.wait()
        return "late"


class BlocksThoughItSaysNot(Right):
    breaks = "D3"

    def readpage(self, file: OpenFile, page: Page) -> int:
        threading.Event().wait(0.012)
        return super().readpage(file, page)


class NeverReturns(Right):
    breaks = "D4"
    blocking = True

    def readpage(self, file: OpenFile, page: Page) -> int:
        NEVER.wait()
        return super().readpage(file, page)


class RemembersSizes(Right):
    """Of how many bytes of a page are in the file, as they were the first time."""

    breaks = "T2"

    def readpage(self, file: OpenFile, page: Page) -> int:
        page.buffer[:] = CONTENT[page.offset :][:PAGE_SIZE]
        page.set_uptodate()
        return AOP_UPDATED_PAGE


class BringsForWhoIsThere(Right):
    """Takes a page that comes back while another is read for the one that it knows."""

    breaks = "R11"

    def __init__(self) -> None:
        self.seen: dict[int, int] = {}

    def readpage(self, file: OpenFile, page: Page) -> int:
        self.seen[page.index] = self.seen.get(page.index, 0) + 1
        if self.seen[page.index] == 1:
            self.fill(page)
        page.end_read()
        return 0


class FillRaisesStructError(RangeOperations):
    """What a decoder raises, as it is."""

    breaks = "R8"
    size_bytes = len(CONTENT)

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        import struct

        struct.unpack("<QQ", b"short")


class FillIsShort(RangeOperations):
    """One read, however much it brings."""

    breaks = "R9"
    size_bytes = len(CONTENT)

    def fill(self, buffer: memoryview, offset_bytes: int) -> None:
        data = CONTENT[offset_bytes : offset_bytes + min(len(buffer), 3000)]
        buffer[: len(data)] = data
