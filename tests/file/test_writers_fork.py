"""Fork while a file is being written: the child has nothing of it, and cannot harm it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.file.sources import DATA, binary
from tests.file.writable import Disk
from tests.forking import in_child

from pagein import PageCache

pytestmark = [
    # Python 3.12 warns of every fork of a process that has threads; that it works all the same is what is tested.
    pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()"),
]


def refused(call: Callable[[], object]) -> None:
    with pytest.raises(OSError, match="only the parent has it") as raised:
        call()
    assert raised.value.errno == errno.EBADF


def test_a_child_reads_and_writes_nothing_of_what_its_parent_was_writing(cache: PageCache, path: Path) -> None:
    with binary(cache.open(path, "r+b")) as file, binary(cache.open(path)) as reader:
        file.write(b"parent")
        appending = binary(cache.open(path, "ab"))

        def check() -> None:
            for call in (
                lambda: file.write(b"child"), lambda: file.pwrite(b"child" * 5000, 0), lambda: appending.write(b"x"),
                lambda: file.truncate(0), lambda: file.punch_hole(0, 9000), file.fsync, lambda: file.pread(10, 0),
                lambda: reader.pread(10, 8000), file.read,
            ):  # fmt: skip
                refused(call)
            file.close()
            appending.close()
            reader.close()
            cache.sync()
            assert path.read_bytes() == DATA, "the parent has not written yet"
            cache.close()
            assert path.read_bytes() == DATA

        in_child(check)
        assert file.pread(10, 0) == reader.pread(10, 0) == b"parent" + DATA[6:10]
        assert file.write(b" goes on") == 8
        appending.write(b"!")
        appending.close()
    assert path.read_bytes() == b"parent goes on" + DATA[14:] + b"!"


def test_a_child_may_write_the_same_file_itself(cache: PageCache, tmp_path: Path) -> None:
    path = tmp_path / "file"
    file = binary(cache.open(path, "wb"))

    def check() -> None:
        with binary(cache.open(path, "ab")) as own:
            own.write(b"child")

    in_child(check)
    assert path.read_bytes() == b"child"
    file.close()


def test_a_child_s_end_writes_nothing_of_its_parent_s(cache: PageCache, tmp_path: Path) -> None:
    path = tmp_path / "file"
    text, file = cache.open(path, "w"), binary(cache.open(tmp_path / "other", "wb"))
    text.write("pending in the parent")
    file.write(b"dirty in the parent")

    def check() -> None:
        from pagein.process import _write_out_at_exit

        _write_out_at_exit()
        assert path.read_bytes() == (tmp_path / "other").read_bytes() == b""

    in_child(check)
    text.close()
    file.close()
    assert path.read_bytes() == b"pending in the parent"


def test_text_that_its_parent_has_not_flushed_keeps_nothing_of_a_child_s_from_the_store(
    cache: PageCache, tmp_path: Path
) -> None:
    text = cache.open(tmp_path / "parent", "w")
    text.write("parent")

    def check() -> None:
        binary(cache.open(tmp_path / "child", "wb")).write(b"child")
        cache.sync()
        assert (tmp_path / "child").read_bytes() == b"child"
        cache.close()

    in_child(check)
    text.close()
    assert (tmp_path / "parent").read_bytes() == b"parent"


def test_what_was_written_before_is_read_in_the_child(cache: PageCache) -> None:
    disk = Disk()
    with binary(cache.open((disk, "a"), "wb")) as file:
        file.write(DATA)
    with binary(cache.open((disk, "a"))) as reader:

        def check() -> None:
            assert reader.read() == DATA

        in_child(check)
