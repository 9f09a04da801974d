"""Text modes read as ``open(path, "r", …)`` does: decoding, universal newlines, and positions in a text."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule
from tests.file.sources import SMALL_CACHE_BYTES, assert_nothing_left, inode_of, outcome_of

from pagein import PageCache
from pagein.units import PAGE_SIZE

NEWLINES = [None, "", "\n", "\r", "\r\n"]
TEXT = {
    "utf-8": "naïve\r\n日本語\n\n🐍\rsnake\n",
    "utf-8-sig": "naïve\r\n日本語\n",
    "utf-16": "naïve\r\n日本語\n🐍\r",
    "utf-16-le": "naïve\r\n日本語\n",
    "utf-32": "naïve\r\n日本語\n",
    "latin-1": "naïve\r\ncafé\n\rend",
    "cp1252": "“naïve”\r\n…\n",
    "shift_jis": "日本語\r\nかな\n",
    "ascii": "plain\r\n\r\n\n\rtext",
}


def text_file(size_bytes: int, encoding: str) -> bytes:
    """About so many bytes: the text again and again, with one line longer than two pages in it."""
    once = TEXT[encoding] + "x" * 9000 + "\r\n" + TEXT[encoding] * 50
    times = size_bytes // len(once.encode(encoding)) + 1
    return (once * times)[: size_bytes // 2].encode(encoding)


class ReadsTextLikeOpen(RuleBasedStateMachine):
    """The same calls on a real text file, and on one in a cache of 16 pages."""

    marks = Bundle("marks")

    @initialize(
        encoding=st.sampled_from(sorted(TEXT)),
        newline=st.sampled_from(NEWLINES),
        size_bytes=st.integers(0, 30 * PAGE_SIZE),
    )
    def open_both(self, encoding: str, newline: str | None, size_bytes: int) -> None:
        with tempfile.NamedTemporaryFile(delete=False) as made:
            made.write(text_file(size_bytes, encoding))
        self.path = Path(made.name)
        self.reference = open(self.path, encoding=encoding, newline=newline)  # noqa: SIM115  # closed by teardown
        self.cache = PageCache(SMALL_CACHE_BYTES, debug=True)
        self.file = self.cache.open(self.path, "r", encoding=encoding, newline=newline)
        self.telling = True

    def teardown(self) -> None:
        if hasattr(self, "file"):
            self.reference.close()
            assert_nothing_left(self.cache)
            self.file.close()
            self.cache.close()
            self.path.unlink()

    def agree(self, call: Callable[[Any], object]) -> None:
        assert outcome_of(lambda: call(self.file)) == outcome_of(lambda: call(self.reference))

    @rule(size=st.none() | st.integers(-1, 30_000))
    def read(self, size: int | None) -> None:
        self.agree(lambda file: file.read(size))

    @rule(size=st.integers(-1, 12_000))
    def readline(self, size: int) -> None:
        self.agree(lambda file: file.readline(size))

    @rule(hint=st.integers(0, 20_000))
    def readlines(self, hint: int) -> None:
        self.agree(lambda file: file.readlines(hint))

    @rule(count=st.integers(1, 5))
    def iterate(self, count: int) -> None:
        for _ in range(count):
            self.agree(lambda file: next(file, "no more"))

    @rule(target=marks)
    def tell(self) -> Any:
        """Positions are opaque: each file is sought by its own."""
        self.agree(lambda file: isinstance(self.told(file), int))
        return self.told(self.file), self.told(self.reference)

    def told(self, file: TextIO) -> int | None:
        try:
            return file.tell()
        except OSError:  # "telling position disabled by next() call", in both
            return None

    @rule(mark=marks)
    def seek(self, mark: tuple[int | None, int | None]) -> None:
        ours, theirs = mark
        if ours is not None and theirs is not None:
            self.file.seek(ours)
            self.reference.seek(theirs)

    @rule(whence=st.sampled_from([0, 1, 2]))
    def seek_to_an_end_or_nowhere(self, whence: int) -> None:
        self.agree(lambda file: file.seek(0, whence) * (whence == 0))

    @rule()
    def drop_what_is_cached(self) -> None:
        self.cache.drop()

    @invariant()
    def newlines_agree(self) -> None:
        if hasattr(self, "file"):
            self.agree(lambda file: (file.encoding, file.errors))


TestReadsTextLikeOpen = ReadsTextLikeOpen.TestCase
TestReadsTextLikeOpen.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


# -- whole files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("newline", NEWLINES, ids=repr)
@pytest.mark.parametrize("encoding", TEXT)
def test_a_text_of_many_pages_in_a_small_cache(
    encoding: str, newline: str | None, small_cache: PageCache, tmp_path: Path
) -> None:
    path = tmp_path / "text"
    path.write_bytes(text_file(60 * PAGE_SIZE, encoding))
    with (
        small_cache.open(path, "r", encoding=encoding, newline=newline) as file,
        open(path, encoding=encoding, newline=newline) as reference,
    ):
        assert list(file) == list(reference)
        assert file.newlines == reference.newlines
        file.seek(0)
        reference.seek(0)
        assert file.read() == reference.read()


@pytest.mark.parametrize("boundary", range(PAGE_SIZE - 4, PAGE_SIZE + 1))
def test_a_character_and_a_newline_across_the_end_of_a_page(boundary: int, small_cache: PageCache) -> None:
    text = "x" * boundary + "🐍\r\nsecond 日本語\r\n"
    with inode_of(small_cache, text.encode())[0].open("r", encoding="utf-8") as file:
        assert file.readline() == "x" * boundary + "🐍\n"
        assert file.readline() == "second 日本語\n"
        assert file.readline() == ""


@pytest.mark.parametrize("errors", ["strict", "ignore", "replace", "backslashreplace", "surrogateescape", None])
def test_bytes_that_are_no_text_are_treated_as_asked(errors: str | None, cache: PageCache, tmp_path: Path) -> None:
    path = tmp_path / "broken"
    path.write_bytes(b"good\n" + b"\xff\xfebad\n" * 2000)
    with (
        cache.open(path, "r", encoding="utf-8", errors=errors) as file,
        open(path, encoding="utf-8", errors=errors) as reference,
    ):
        assert outcome_of(file.read) == outcome_of(reference.read)


def test_without_an_encoding_it_is_the_locale_s_as_with_open(cache: PageCache, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("plain")
    with cache.open(path, "r") as file, open(path) as reference:
        assert file.encoding == reference.encoding


# -- the layers --------------------------------------------------------------------------------------


def test_closing_the_text_closes_the_file_below_and_detach_hands_it_out(cache: PageCache) -> None:
    inode, _ = inode_of(cache, b"a\r\nb")
    text = inode.open("r", encoding="ascii")
    below = text.buffer
    text.close()
    assert below.closed
    text = inode.open("r", encoding="ascii")
    below = text.detach()
    assert below.read() == b"a\r\nb"
    below.close()


def test_a_text_can_be_read_and_sought_but_not_written(cache: PageCache) -> None:
    with inode_of(cache, b"text")[0].open("r", encoding="ascii") as file:
        assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
        for call in (lambda: file.write("x"), lambda: file.truncate(0), file.fileno):
            kind, error, _ = outcome_of(call)
            assert kind == "raised"
            assert issubclass(error, OSError | ValueError)
        assert file.read() == "text"


def test_every_call_on_a_closed_text_is_a_value_error(cache: PageCache) -> None:
    file = inode_of(cache, b"text")[0].open("r", encoding="ascii")
    file.close()
    for call in (file.read, file.readline, file.tell, lambda: file.seek(0), lambda: next(file), lambda: iter(file)):
        assert outcome_of(call)[:2] == ("raised", ValueError)


def test_an_error_of_the_store_comes_through_and_the_next_read_tries_again(cache: PageCache) -> None:
    inode, store = inode_of(cache, b"x" * 3 * PAGE_SIZE)
    store.inject("fill", offset_bytes=0, times=None, error=OSError(5, "the store is broken"))
    with inode.open("r", encoding="ascii") as file:
        with pytest.raises(OSError, match="the store is broken"):
            file.read()
        store.heal()
        assert file.read() == "x" * 3 * PAGE_SIZE
