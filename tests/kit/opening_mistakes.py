"""Sources with one mistake each in what stands beside open(): looks, heads, openings that need no question, the device
that it is of, names, and the making of what is not there; each says which clause it breaks."""

from __future__ import annotations

import errno
import os

from tests.kit.reading_mistakes import CONTENT
from tests.kit.source_mistakes import Object, Operations, Place

from pagein.errors import not_found
from pagein.mm.rest import Part
from pagein.stores import Opened
from pagein.units import PAGE_SIZE


class LookSaysNothingHasChanged(Place):
    """For ever."""

    breaks = "O5"

    class Bad(Object):
        def open(self) -> Opened:
            return super().open()._replace(look=lambda: None)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class LookSaysTheOldVersion(Place):
    """Of the new object."""

    breaks = "O5"

    class Bad(Object):
        def open(self) -> Opened:
            version = self.version()

            def look() -> Opened | None:
                now = super(LookSaysTheOldVersion.Bad, self).open()
                return None if now.version == version else now._replace(version=version)

            return super().open()._replace(look=look)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class LooksByWhatItHasClosed(Place):
    breaks = "O4"

    class Bad(Object):
        def open(self) -> Opened:
            fd = os.open(os.devnull, os.O_RDONLY)
            version = self.version()

            def look() -> Opened | None:
                os.read(fd, 1)
                now = super(LooksByWhatItHasClosed.Bad, self).open()
                return None if now.version == version else now

            return super().open()._replace(look=look, close=lambda: os.close(fd))

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class AgainIsAnotherVersion(Place):
    """What is there now."""

    breaks = "O13"

    class Bad(Object):
        def open(self) -> Opened:
            def again() -> Opened | None:
                return super(AgainIsAnotherVersion.Bad, self).open()._replace(version="put long ago")

            return super().open()._replace(again=again)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class ReadsAgainByWhatItHasClosed(Place):
    breaks = "O13"

    class BadOps(Operations):
        is_closed = False

        def fill(self, buffer: memoryview, offset_bytes: int) -> None:
            if self.is_closed:
                raise OSError(errno.EBADF, "closed")
            super().fill(buffer, offset_bytes)

        def close(self) -> None:
            self.is_closed = True

    class Bad(Object):
        def open(self) -> Opened:
            ops = ReadsAgainByWhatItHasClosed.BadOps(self, writing=False)
            opened = super().open()._replace(ops=ops)
            return opened._replace(close=ops.close, again=lambda: opened)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class HeadOfAnotherPage(Place):
    breaks = "O11"

    class Bad(Object):
        def open(self) -> Opened:
            return super().open()._replace(head=CONTENT[PAGE_SIZE : 2 * PAGE_SIZE])

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class OpenWithHeadGivesAnotherPages(Place):
    breaks = "O11"

    class Bad(Object):
        def open_with_head(self) -> Opened:
            return self.open()._replace(head=CONTENT[PAGE_SIZE : 2 * PAGE_SIZE])

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class OpenWithHeadTakesItsSizeForTheObjects(Place):
    breaks = "O11"

    class Bad(Object):
        def open_with_head(self) -> Opened:
            return self.open()._replace(head=CONTENT[:PAGE_SIZE], size_bytes=PAGE_SIZE)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class RestOfOtherBytes:
    """What lies a page further on."""

    stop_bytes = len(CONTENT)

    def fill(self, part: Part) -> None:
        content = CONTENT[part.offset + PAGE_SIZE :] + CONTENT
        part.buffer[:] = content[: part.size_bytes]

    def close(self) -> None:
        pass


class RestThatBreaksOff(RestOfOtherBytes):
    def fill(self, part: Part) -> None:
        raise OSError(errno.ECONNRESET, "broken off")


class OpenWithRestBringsOtherBytes(Place):
    breaks = "O11"

    class Bad(Object):
        def open_with_rest(self, rest_bytes: int) -> Opened:
            return self.open()._replace(head=CONTENT[:PAGE_SIZE], rest=RestOfOtherBytes())

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class OpenWithRestAlwaysBreaksOff(Place):
    breaks = "O11"

    class Bad(Object):
        def open_with_rest(self, rest_bytes: int) -> Opened:
            return self.open()._replace(head=CONTENT[:PAGE_SIZE], rest=RestThatBreaksOff())

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class HasHalfADevice(Place):
    breaks = "O12"

    class Bad(Object):
        device_key = "place"

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class IsOfAnotherDeviceThanItsOperations(Place):
    breaks = "O12"

    class Bad(Object):
        device_key = device_name = "place"
        requests_max = 4

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class LooksUpWhatIsNamed(Place):
    """And so raises KeyError for what is not there."""

    breaks = "O3"

    def source(self, path: str) -> Object:
        assert self.objects[path] is not None
        return Object(self, path)


class NamesOnlyWhatIsThere(Place):
    breaks = "O3"

    def source(self, path: str) -> Object:
        if path not in self.objects:
            raise not_found(path)
        return Object(self, path)


class CreatesUnasked(Place):
    breaks = "O3"

    class Bad(Object):
        def open_for_writing(self, *, create: bool, exclusive: bool, truncate: bool) -> Opened:
            return super().open_for_writing(create=True, exclusive=exclusive, truncate=truncate)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class CreatesNothing(Place):
    breaks = "O10"

    class Bad(Object):
        def open_for_writing(self, *, create: bool, exclusive: bool, truncate: bool) -> Opened:
            return super().open_for_writing(create=False, exclusive=exclusive, truncate=truncate)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class ExclusiveAlwaysFails(Place):
    breaks = "O10"

    class Bad(Object):
        def open_for_writing(self, *, create: bool, exclusive: bool, truncate: bool) -> Opened:
            if exclusive:
                raise FileExistsError(errno.EEXIST, "exists", self.name)
            return super().open_for_writing(create=create, exclusive=exclusive, truncate=truncate)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class AppendsOnlyToWhatIsThere(Place):
    """KeyError where nothing is."""

    breaks = "R8"

    class Bad(Object):
        def open_for_writing(self, *, create: bool, exclusive: bool, truncate: bool) -> Opened:
            if create and not exclusive and not truncate:
                len(self.place.objects[self.path])
            return super().open_for_writing(create=create, exclusive=exclusive, truncate=truncate)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)


class WhatItCreatesIsNotEmpty(Place):
    """A header for itself."""

    breaks = "O10"

    class Bad(Object):
        def open_for_writing(self, *, create: bool, exclusive: bool, truncate: bool) -> Opened:
            is_new = self.path not in self.place.objects
            opened = super().open_for_writing(create=create, exclusive=exclusive, truncate=truncate)
            if not is_new:
                return opened
            self.place.objects[self.path] = bytes(16)
            return opened._replace(size_bytes=16)

    def source(self, path: str) -> Object:
        return self.Bad(self, path)
