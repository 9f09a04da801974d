"""Sources that keep the contract pass: those that have all that one may have, make what is not there, or do not."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial

from tests.kit.reading_mistakes import CONTENT
from tests.kit.source_mistakes import Object, Operations, Place
from tests.kit.test_no_false_alarm import require_kept

from pagein.stores import Opened
from pagein.testing.contract import Subject, check
from pagein.units import PAGE_SIZE


def test_what_it_has_made_beside_the_object_stays_and_is_made_by_a_check_that_may_write_only() -> None:
    place = Place()
    require_kept(Subject((place, "a"), content=CONTENT))
    assert sorted(place.objects) == ["a"]
    assert "O10" in require_kept(Subject((place, "a"), writes=True))
    made = {path: data for path, data in place.objects.items() if path != "a"}
    assert sorted(made) == ["a.pagein-check-ab", "a.pagein-check-wb", "a.pagein-check-xb"]
    report = check(Subject((place, "a"), writes=True))  # of what is empty by now
    assert report.passed, report.text()
    assert report.of("R10").verdict == "passed"
    assert report.of("O10").reason.startswith("what an earlier check has made beside it is there still")
    assert {path: place.objects[path] for path in made} == made


def test_what_a_mistake_has_left_is_neither_taken_for_another_nor_for_right() -> None:
    """A store that was wrong, and is checked again in the same place: as it was, and mended."""

    class Wrong(Object):
        def open_for_writing(self, *, create: bool, exclusive: bool, truncate: bool) -> Opened:
            return super().open_for_writing(create=True, exclusive=exclusive, truncate=truncate)

    class Place2(Place):
        is_right = False

        def source(self, path: str) -> Object:
            return (Object if self.is_right else Wrong)(self, path)

    place = Place2()
    assert check(Subject((place, "a"), content=CONTENT, writes=True)).broken == ["O3"]
    assert sorted(place.objects) == ["a", "a.pagein-check-unasked"]
    for place.is_right in (False, True):
        report = check(Subject((place, "a"), writes=True))
        assert report.passed, report.text()
        assert report.of("O10").reason.endswith("remove it: place:a.pagein-check-unasked")
        assert report.of("O3").verdict == "passed"
    del place.objects["a.pagein-check-unasked"]
    assert "O10" in require_kept(Subject((place, "a"), writes=True))


def test_a_store_in_which_nothing_new_is_made() -> None:
    class Fixed(Object):
        def open_for_writing(self, *, create: bool, exclusive: bool, truncate: bool) -> Opened:
            if create and self.path not in self.place.objects:
                raise PermissionError(errno.EACCES, "no rows are added", self.name)
            return super().open_for_writing(create=create, exclusive=exclusive, truncate=truncate)

    class Rows(Place):
        def source(self, path: str) -> Object:
            return Fixed(self, path)

    report = check(Subject((Rows(), "a"), content=CONTENT, writes=True))
    assert report.passed, report.text()
    assert report.of("O10").reason == "nothing is made there: [Errno 13] no rows are added: 'place:a.pagein-check-xb'"


def test_a_source_that_has_all_that_a_source_may_have() -> None:
    """A head, a look and an opening that needs no question, each after it was closed, too; the store that it is of."""

    class Ops(Operations):
        device_key = device_name = "place"
        requests_max = 4
        is_closed = False

        def fill(self, buffer: memoryview, offset_bytes: int) -> None:
            if self.is_closed:
                raise OSError(errno.EBADF, "closed", self.object.name)
            super().fill(buffer, offset_bytes)

        def close(self) -> None:
            self.is_closed = True

    class Whole(Object):
        device_key = device_name = "place"
        requests_max = 4
        workers_ahead = 2

        def opened(self, data: bytes, version: str) -> Opened:
            ops = Ops(self, writing=False)
            ops.version = version
            again = partial(self.opened, data, version)
            return Opened(ops, len(data), version, close=ops.close, look=self.look(version), again=again)

        def look(self, version: str) -> Callable[[], Opened | None]:
            return lambda: None if self.version() == version else self.open()

        def open(self) -> Opened:
            super().open()  # is it there?
            return self.opened(self.place.objects[self.path], self.version())

        def open_with_head(self) -> Opened:
            return self.open()._replace(head=self.place.objects[self.path][: 3 * PAGE_SIZE])

        def ops(self, *, writing: bool) -> Operations:
            return Ops(self, writing=writing)

    class Store(Place):
        def source(self, path: str) -> Object:
            return Whole(self, path)

    place = Store()
    subject = Subject((place, "a"), content=CONTENT, writes=True, change=place.change)
    assert {"O4", "O5", "O6", "O11", "O12", "O13", "D2"} <= require_kept(subject)
