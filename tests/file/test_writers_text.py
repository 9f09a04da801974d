"""Text modes write as ``open(path, mode, …)`` does: encodings, newlines, and reading what was just written."""

from __future__ import annotations

import errno
import io
import tempfile
import threading
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from tests.file.sources import SMALL_CACHE_BYTES, TIMEOUT_S, outcome_of
from tests.file.writable import Disk

from pagein import File, PageCache

MODES = ["r+", "w", "w+", "a", "a+", "wt", "r+t"]
NEWLINES = [None, "", "\n", "\r", "\r\n"]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"]

texts = st.text(st.sampled_from("ab é\n\r\n"), max_size=50) | st.builds(
    lambda count: "long line é\n" * count, st.integers(0, 3000)
)


class WritesTextLikeOpen(RuleBasedStateMachine):
    """The same calls on a real text file, and on one in a cache of 16 pages."""

    @initialize(
        encoding=st.sampled_from(ENCODINGS), newline=st.sampled_from(NEWLINES), mode=st.sampled_from(MODES), text=texts
    )
    def open_both(self, encoding: str, newline: str | None, mode: str, text: str) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.paths = [Path(self.directory.name) / name for name in ("real", "cached")]
        self.arguments = {"encoding": encoding, "newline": newline}
        for path in self.paths:
            path.write_bytes(text.encode(encoding))
        self.cache = PageCache(SMALL_CACHE_BYTES, debug=True)
        self._open(mode)

    def _open(self, mode: str) -> None:
        self.reference: Any = open(self.paths[0], mode, **self.arguments)  # type: ignore[call-overload]  # noqa: SIM115
        self.file = self.cache.open(self.paths[1], mode, **self.arguments)

    def teardown(self) -> None:
        if hasattr(self, "file"):
            self._close()
            self.cache.close()
            self.directory.cleanup()

    def _close(self) -> None:
        self.reference.close()
        self.file.close()
        assert self.paths[1].read_bytes() == self.paths[0].read_bytes()

    def agree(self, call: Callable[[Any], object]) -> None:
        expected = outcome_of(lambda: call(self.reference))
        assert outcome_of(lambda: call(self.file)) == expected

    @rule(text=texts)
    def write(self, text: str) -> None:
        self.agree(lambda file: file.write(text))

    @rule(lines=st.lists(texts, max_size=4))
    def writelines(self, lines: list[str]) -> None:
        self.agree(lambda file: file.writelines(lines))

    @rule(whence=st.sampled_from([0, 2]))
    def seek(self, whence: int) -> None:
        self.agree(lambda file: file.seek(0, whence))

    @rule()
    def tell(self) -> None:
        self.agree(lambda file: file.tell())

    @rule()
    def truncate_at_the_start(self) -> None:
        self.agree(lambda file: (file.seek(0), file.truncate()))

    @rule()
    def read_it_all(self) -> None:
        self.agree(lambda file: (file.seek(0), file.read()))

    @rule()
    def flush(self) -> None:
        self.agree(lambda file: file.flush())
        file: Any = self.file
        file.buffer.fsync()
        assert self.paths[1].read_bytes() == self.paths[0].read_bytes()

    @rule(mode=st.sampled_from(MODES))
    def close_and_open(self, mode: str) -> None:
        self._close()
        self._open(mode)


TestWritesTextLikeOpen = WritesTextLikeOpen.TestCase
TestWritesTextLikeOpen.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.parametrize("mode", ["r", "rt", *MODES, "x", "x+"])
def test_a_text_file_says_what_open_s_own_says(mode: str, cache: PageCache, tmp_path: Path) -> None:
    real, cached = tmp_path / "real", tmp_path / "cached"
    if "x" not in mode:
        real.write_text("text")
        cached.write_text("text")
    with open(real, mode) as reference, cache.open(cached, mode) as text:
        assert isinstance(text, io.TextIOWrapper)
        for name in ("mode", "encoding", "errors", "newlines", "line_buffering", "write_through"):
            assert getattr(text, name) == getattr(reference, name)
        for call in ("readable", "writable", "seekable", "tell", "isatty"):
            assert outcome_of(getattr(text, call)) == outcome_of(getattr(reference, call))
        for call in ("read", "readline"):
            assert outcome_of(getattr(text, call)) == outcome_of(getattr(reference, call))
        assert outcome_of(lambda: text.write("x")) == outcome_of(lambda: reference.write("x"))
    assert cached.read_bytes() == real.read_bytes()


def test_text_that_is_detached_leaves_a_file_that_closes_itself(cache: PageCache, tmp_path: Path) -> None:
    text = cache.open(tmp_path / "file", "w")
    text.write("text")
    file = text.detach()
    del text
    assert isinstance(file, File)
    file.write(b" and bytes")
    del file
    assert cache.stats().open_files == 0
    cache.sync()
    assert (tmp_path / "file").read_bytes() == b"text and bytes"


@pytest.mark.parametrize("mode", ["w", "a"])
def test_text_whose_write_has_failed_half_way_is_written_once(small_cache: PageCache, mode: str) -> None:
    disk, lines = Disk({"log": b""}), "".join(f"{number:07d}\n" for number in range(10_000))
    disk.error = OSError(errno.ENOSPC, "No space left on device")
    with small_cache.open((disk, "log"), mode) as text:
        assert isinstance(text, io.TextIOWrapper)
        file: Any = text.buffer
        with pytest.raises(OSError, match="No space left"):
            text.write(lines)
        assert 0 < file.size_bytes < len(lines) == file.tell()
        disk.error = None
        with pytest.raises(OSError, match="No space left"):
            file.fsync()  # tells of it, and has stored all
        assert disk.objects["log"] == lines.encode()
        text.write("the end")
    assert disk.objects["log"] == f"{lines}the end".encode()


def test_of_two_who_close_a_cache_at_once_the_second_leaves_a_file_open_that_the_first_writes_text_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, write = PageCache(SMALL_CACHE_BYTES), File.write
    writing, second_is_there = threading.Event(), threading.Event()
    text = cache.open(tmp_path / "file", "w")
    text.write("text")

    def held(file: File, data: bytes) -> int:
        """The text has been taken out of its buffer, and is in no file yet."""
        writing.set()
        assert second_is_there.wait(TIMEOUT_S)
        return write(file, data)

    def noted(turn: Callable[..., Any]) -> Callable[..., Any]:
        def come(*which: Hashable) -> Any:
            if writing.is_set():
                second_is_there.set()
            return turn(*which)

        return come

    monkeypatch.setattr(File, "write", held)
    first = threading.Thread(target=cache.close)
    first.start()
    assert writing.wait(TIMEOUT_S)
    monkeypatch.setattr(cache._table.turns, "turn", noted(cache._table.turns.turn))
    cache.close()
    assert (tmp_path / "file").read_bytes() == b"text"
    first.join(TIMEOUT_S)


def test_arguments_for_text_that_are_refused_leave_no_open_file(cache: PageCache, tmp_path: Path) -> None:
    for arguments in ({"encoding": "no such codec"}, {"errors": 7}, {"newline": "\t"}):
        with pytest.raises((LookupError, TypeError, ValueError)):
            cache.open(tmp_path / "file", "w", **arguments)
    assert cache.stats().open_files == 0
